"""From a part to its content: octets without transfer encoding, and text as JMAP wants it.

Never fails: what cannot be decoded becomes U+FFFD and is reported.
Source: RFC 2045 s6, RFC 8621 s4.1.4
"""

from __future__ import annotations

import msgspec

from tindra.wire.mime.charset import decode_charset, is_ascii_safe
from tindra.wire.mime.parse import Part
from tindra.wire.mime.transfer import decode_range

__all__ = ["TextValue", "decode_body", "decode_charset", "decode_range", "decode_text"]


class TextValue(msgspec.Struct, frozen=True):
    """The text of a part: an EmailBodyValue. Source: RFC 8621 s4.1.4"""

    value: str
    is_encoding_problem: bool = False
    is_truncated: bool = False


def decode_body(raw: bytes, part: Part) -> bytes:
    """The content of `part`: its octets in `raw` without their transfer encoding."""
    return decode_range(raw[part.body_start : part.body_end], part.encoding)


def decode_text(
    raw: bytes, part: Part, bytes_max: int = 0, content: bytes | None = None
) -> TextValue:
    """The content of `part` as text with LF line ends.

    Args:
        bytes_max: longest value in octets of UTF-8, cut between characters and, in HTML, before
            a tag that would be cut; 0 means no limit.
        content: what `decode_body` gives, if the caller has it.
    Cost: linear in the part.
    Source: RFC 8621 s4.1.4 and s4.2
    """
    data = decode_body(raw, part) if content is None else content
    if b"\r" in data and is_ascii_safe(part.charset):
        # A third of the cost of replacing, and far cheaper on octets than on the text.
        is_ended = data.endswith((b"\r", b"\n"))
        data = b"\n".join(data.splitlines()) + (b"\n" if is_ended else b"")
    text, is_problem = decode_charset(data, part.charset)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not bytes_max or len(text) * 4 <= bytes_max:
        return TextValue(text, is_problem)
    # No character is shorter than one octet, so what follows the limit need not be encoded.
    octets = text[: bytes_max + 1].encode("utf-8")
    if len(octets) <= bytes_max:
        return TextValue(text, is_problem)
    cut = octets[:bytes_max].decode("utf-8", "ignore")
    if part.type == "text/html":
        tag = cut.rfind("<")
        if tag > cut.rfind(">"):
            cut = cut[:tag]
    return TextValue(cut, is_problem, is_truncated=True)
