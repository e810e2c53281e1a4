"""What is said to a submission server, as octets, and what it answers, as text; no I/O.

Everything that came from a device passes here on its way to the wire: addresses and parameter
values are encoded so that they cannot end a command, and a message so that it cannot end itself.
Source: RFC 5321 s4, RFC 3461 s4, RFC 6531 s3, RFC 1870 s3, RFC 6152 s2
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from tindra.sync.submission import Envelope, Recipient

_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?=\s|$)")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
REPLY_CHARS_MAX: Final = 1000
"""Of a reply that is kept; what comes after is advertising."""


def encode_data(raw: bytes) -> bytes:
    """The message as it follows DATA, without the final dot line: every line end is CRLF, also the
    last, and a dot that starts a line is doubled.

    Bare CR and LF are line ends too, so that no server can see an end where we saw none.
    Cost: a few passes at copying speed. Source: RFC 5321 s4.5.2, s2.3.8
    """
    count = raw.count(b"\r\n")
    if raw.count(b"\n") != count or raw.count(b"\r") != count:
        raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    if not raw.endswith(b"\r\n"):
        raw += b"\r\n"
    if raw.startswith(b"."):
        raw = b"." + raw
    return raw.replace(b"\r\n.", b"\r\n..")


def make_reply(code: int, message: str) -> str:
    """A reply in one line: `code`, then the text of its lines without what they have in common.

    Args:
        code: of the reply; what is none becomes 451, for it says that nothing is known.
        message: lines without their code, separated by LF.
    Source: RFC 8621 s7 (smtpReply)
    """
    lines = [_CONTROLS.sub(" ", line).strip() for line in message.split("\n")]
    first = _ENHANCED.match(lines[0])
    if first is not None:
        prefix = first[0]
        lines[1:] = [
            line[len(prefix) :].lstrip()
            if (found := _ENHANCED.match(line)) and found[0] == prefix
            else line
            for line in lines[1:]
        ]
    if not 200 <= code < 600:
        code = 451
    text = " ".join([str(code), *(line for line in lines if line)])
    return text.encode("utf-8", "replace").decode()[:REPLY_CHARS_MAX]


def needs_utf8(envelope: Envelope, raw: bytes) -> bool:
    """Whether a local part or the header has more than ASCII. Source: RFC 6531 s3.1"""
    emails = [envelope.mail_from, *(one.email for one in envelope.recipients)]
    if any(not email.rpartition("@")[0].isascii() for email in emails):
        return True
    end = raw.find(b"\n\r\n")
    return not raw[: end if end >= 0 else len(raw)].isascii()


def encode_path(email: str, has_utf8: bool) -> bytes | None:
    """`<address>`; None if the server cannot be told this address.

    Args:
        has_utf8: SMTPUTF8 is in use for this message.
    """
    if has_utf8 or email.isascii():
        return f"<{email}>".encode()
    local, _, domain = email.rpartition("@")
    try:
        return f"<{local}@{domain.encode('idna').decode('ascii')}>".encode("ascii")
    except UnicodeError:
        return None


def encode_mail_parameters(
    envelope: Envelope, raw: bytes, extensions: Mapping[str, str], has_utf8: bool
) -> list[bytes]:
    """What follows MAIL FROM, as far as the server knows it.

    Args:
        extensions: EHLO keyword, lower case -> its parameters.
        has_utf8: SMTPUTF8 is in use for this message.
    """
    found: list[bytes] = []
    if "size" in extensions:
        found.append(b"SIZE=%d" % len(raw))
    if "8bitmime" in extensions and not raw.isascii():
        found.append(b"BODY=8BITMIME")
    if has_utf8:
        found.append(b"SMTPUTF8")
    if "dsn" in extensions:
        given = {name.upper(): value for name, value in envelope.parameters.items()}
        if (value := given.get("RET")) is not None:
            found.append(b"RET=" + encode_xtext(value.upper()))
        if (value := given.get("ENVID")) is not None:
            found.append(b"ENVID=" + encode_xtext(value))
    return found


def encode_rcpt_parameters(recipient: Recipient, extensions: Mapping[str, str]) -> list[bytes]:
    """What follows RCPT TO, as far as the server knows it. Source: RFC 3461 s4.1, s4.2"""
    found: list[bytes] = []
    if "dsn" in extensions:
        given = {name.upper(): value for name, value in recipient.parameters.items()}
        if (value := given.get("NOTIFY")) is not None:
            found.append(b"NOTIFY=" + value.upper().encode("ascii"))
        if (value := given.get("ORCPT")) is not None:
            kind, _, address = value.partition(";")
            found.append(b"ORCPT=" + kind.encode("ascii") + b";" + _encode_orcpt(address))
    return found


def encode_xtext(text: str) -> bytes:
    """Source: RFC 3461 s4"""
    return b"".join(
        b"+%02X" % octet if octet in b"+=" or not 0x21 <= octet <= 0x7E else bytes([octet])
        for octet in text.encode("utf-8")
    )


def _encode_orcpt(address: str) -> bytes:
    """Source: RFC 6533 s3"""
    return b"".join(
        encode_xtext(char) if char.isascii() else b"\\x{%X}" % ord(char) for char in address
    )
