"""Mailbox names between Unicode and the modified UTF-7 of IMAP; nothing about other strings.

Invariants: `decode_mailbox(encode_mailbox(name)) == name` for every name without surrogates and
control characters; decoding never fails, so that one odd name cannot hide a whole account: what
is no modified UTF-7 is read as UTF-8, and as latin-1 when it is not that either. A caller who must
send such a name back keeps the raw octets next to the decoded name (`is_faithful`).

Source: RFC 3501 s5.1.3
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from tindra.wire.imap.errors import LocalProtocolError

MAILBOX_NAME_BYTES_MAX: Final = 4096
"""Octets of an encoded mailbox name; servers stop far below."""

_PLAIN: Final = re.compile(r"[\x20-\x25\x27-\x7e]+")
_ENCODED: Final = re.compile(rb"&([A-Za-z0-9+,]*)-")
_BAD: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def encode_mailbox(name: str) -> bytes:
    """The octets of a mailbox name for the wire (before quoting).

    Raises: LocalProtocolError: empty, too long, or with control characters or lone surrogates.
    """
    if not name or _BAD.search(name):
        raise LocalProtocolError("a mailbox name is empty or holds a control character")
    encoded = bytearray()
    index = 0
    while index < len(name):
        if name[index] == "&":
            encoded += b"&-"
            index += 1
        elif plain := _PLAIN.match(name, index):
            encoded += plain[0].encode("ascii")
            index = plain.end()
        else:
            stop = index
            while stop < len(name) and not " " <= name[stop] <= "~":
                stop += 1
            raw = base64.b64encode(name[index:stop].encode("utf-16-be")).rstrip(b"=")
            encoded += b"&" + raw.replace(b"/", b",") + b"-"
            index = stop
    if len(encoded) > MAILBOX_NAME_BYTES_MAX:
        raise LocalProtocolError(f"a mailbox name of more than {MAILBOX_NAME_BYTES_MAX} octets")
    return bytes(encoded)


def decode_mailbox(raw: bytes) -> str:
    """The Unicode name; never fails (see the module docstring). `INBOX` in any case is `INBOX`."""
    if len(raw) == 5 and raw.upper() == b"INBOX":
        return "INBOX"
    if raw.isascii():
        decoded = _decode_utf7(raw)
        return raw.decode("ascii") if decoded is None else decoded
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def is_faithful(raw: bytes) -> bool:
    """Whether encoding the decoded name gives exactly `raw` again: the name alone suffices."""
    try:
        return encode_mailbox(decode_mailbox(raw)) == raw
    except LocalProtocolError:
        return False


def _decode_utf7(raw: bytes) -> str | None:
    """The name, or None when an `&` starts nothing sensible."""
    pieces: list[str] = []
    index = 0
    while (amp := raw.find(b"&", index)) >= 0:
        pieces.append(raw[index:amp].decode("ascii"))
        shift = _ENCODED.match(raw, amp)
        if shift is None:
            return None
        if shift[1]:
            text = _decode_shift(shift[1])
            if text is None:
                return None
            pieces.append(text)
        else:
            pieces.append("&")
        index = shift.end()
    pieces.append(raw[index:].decode("ascii"))
    return "".join(pieces)


def _decode_shift(encoded: bytes) -> str | None:
    padded = encoded.replace(b",", b"/") + b"=" * (-len(encoded) % 4)
    try:
        return base64.b64decode(padded, validate=True).decode("utf-16-be")
    except (binascii.Error, UnicodeDecodeError):
        return None
