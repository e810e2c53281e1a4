"""Ids of body parts as blobs: a range of the raw message and how it is encoded (RFC 8621 s4.1.4).

The octets of a part are never stored again: its blob id says where in the message they are. Access
is decided by the message named inside, so a made-up part id opens nothing that its maker could not
read anyway.
"""

from __future__ import annotations

from typing import NamedTuple

from tindra.base.ids import BlobId, is_id

PART_ENCODINGS = frozenset(
    [
        "7bit", "8bit", "binary", "base64", "quoted-printable",
        "x-uuencode", "uuencode", "x-uue", "uue",
    ]
)  # fmt: skip
"""Content transfer encodings that an id may name. Source: RFC 2045 s6.1"""
IDENTITY_ENCODINGS = frozenset(["7bit", "8bit", "binary"])
"""Encodings whose octets are the content itself."""
_OFFSET_DIGITS_MAX = 10
"""Hexadecimal digits of an offset: 2**40 is far beyond any message."""
_HEX = frozenset("0123456789abcdef")


class PartBlobId(NamedTuple):
    """What a part's blob id says."""

    blob_id: BlobId
    """The whole message."""
    start: int
    end: int
    """[start, end) in the octets of the message, before the transfer encoding is undone."""
    encoding: str


def encode_part_blob_id(blob_id: str, start: int, end: int, encoding: str) -> str:
    """The id of the part [start, end) of message `blob_id`.

    Args:
        encoding: the part's content transfer encoding, lower case; one that nobody can undo
            becomes "binary".
    """
    assert 0 <= start <= end
    known = encoding if encoding in PART_ENCODINGS else "binary"
    return f"{blob_id}_{start:x}_{end:x}_{known}"


def parse_part_blob_id(text: str) -> PartBlobId | None:
    """What `text` says, or None if it is not the id of a part (it may be one of a whole blob)."""
    fields = text.rsplit("_", 3)
    if len(fields) != 4 or fields[3] not in PART_ENCODINGS or not is_id(text):
        return None
    start, end = _parse_offset(fields[1]), _parse_offset(fields[2])
    if start is None or end is None or start > end or not fields[0]:
        return None
    return PartBlobId(BlobId(fields[0]), start, end, fields[3])


def _parse_offset(text: str) -> int | None:
    """One spelling for one number, so that one part has one id."""
    if not text or len(text) > _OFFSET_DIGITS_MAX or not _HEX.issuperset(text):
        return None
    return None if text[0] == "0" and text != "0" else int(text, 16)
