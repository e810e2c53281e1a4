"""Sets mail: headers, text in any charset, attachments and multiparts become message bytes.

It only writes, and only well-formed mail: every line ends in CRLF, no line passes 998 octets, no
octet above 127 stands in a header. Knows nothing of the story.
Sources: RFC 5322 s2.1, RFC 2045 s6, RFC 2046 s5.1, RFC 2047 s2, RFC 2231 s3, RFC 3676 s4.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from email.header import Header
from email.utils import format_datetime
from typing import Final, Literal
from urllib.parse import quote

import msgspec

Encoding = Literal["7bit", "8bit", "quoted-printable", "base64"]
_FOLD_CHARS: Final = 76
_PARAMETER_CHARS: Final = 58
"""Of one section of a parameter that goes over several lines."""
_LINE_OCTETS_MAX: Final = 990
_FLOWED_CHARS: Final = 72
_SPECIALS: Final = frozenset('()<>[]:;@\\,."')
_SEVEN_BIT_CHARSETS: Final = frozenset({"us-ascii", "iso-2022-jp"})


class Part(msgspec.Struct, frozen=True):
    """A body with the MIME headers that describe it; values are ready to be written."""

    headers: tuple[tuple[str, str], ...]
    body: bytes


def format_date(time_ms: int, zone_minutes: int = 0) -> str:
    """The Date header of a moment in a zone. Source: RFC 5322 s3.3"""
    zone = timezone(timedelta(minutes=zone_minutes))
    return format_datetime(datetime.fromtimestamp(time_ms // 1000, tz=UTC).astimezone(zone))


def encode_text_header(name: str, text: str, charset: str = "utf-8") -> str:
    """An unstructured value, with encoded words where it is not ASCII. Source: RFC 2047 s2"""
    if text.isascii():
        return _fold_words(text.split(" "), len(name) + 2)
    usable = _usable_charset(text, charset)
    return Header(text, usable, maxlinelen=_FOLD_CHARS, header_name=name).encode(linesep="\r\n")


def encode_address(name: str, address: str, charset: str = "utf-8") -> str:
    """A mailbox with a display name. Source: RFC 5322 s3.4"""
    if not name:
        return address
    if not name.isascii():
        words = Header(name, _usable_charset(name, charset), maxlinelen=60).encode(linesep="\r\n")
        return f"{words} <{address}>"
    if _SPECIALS.intersection(name):
        name = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{name} <{address}>"


def join_addresses(addresses: Iterable[str]) -> str:
    """An address list, one a line when there are several."""
    return ",\r\n ".join(addresses)


def join_ids(ids: Iterable[str]) -> str:
    """Message ids for References or In-Reply-To, one a line when there are several."""
    return "\r\n ".join(ids)


def text_part(
    text: str,
    charset: str = "utf-8",
    subtype: str = "plain",
    encoding: Encoding | None = None,
    parameters: Sequence[tuple[str, str]] = (),
) -> Part:
    """A text body.

    Args:
        text: lines parted by LF.
        charset: taken when it can hold `text`, else utf-8.
        encoding: None picks the lightest one that is safe.
    """
    usable = _usable_charset(text, charset)
    octets = text.encode(usable)
    chosen = encoding or _lightest_encoding(octets, usable)
    if chosen == "base64":
        body = encode_base64_lines(octets.replace(b"\n", b"\r\n"))
    elif chosen == "quoted-printable":
        body = binascii.b2a_qp(octets, istext=True).replace(b"\n", b"\r\n")
    else:
        body = octets.replace(b"\n", b"\r\n")
    shown = "".join(f"; {name}={value}" for name, value in (("charset", usable), *parameters))
    kind = ("Content-Type", f"text/{subtype}{shown}")
    return Part((kind, ("Content-Transfer-Encoding", chosen)), body)


def file_part(
    filename: str,
    media_type: str,
    data: bytes,
    content_id: str | None = None,
    charset: str = "utf-8",
) -> Part:
    """An attachment, or an inline picture when it has a `content_id`. Source: RFC 2183 s2"""
    disposition = "inline" if content_id else "attachment"
    headers = [
        ("Content-Type", media_type),
        ("Content-Transfer-Encoding", "base64"),
        ("Content-Disposition", disposition + encode_parameter("filename", filename, charset)),
    ]
    if content_id:
        headers.append(("Content-ID", f"<{content_id}>"))
    return Part(tuple(headers), encode_base64_lines(data))


def encode_parameter(name: str, value: str, charset: str = "utf-8") -> str:
    """`; name=value`, extended and cut into sections where needed. Source: RFC 2231 s4.1"""
    if value.isascii() and len(value) <= _PARAMETER_CHARS:
        return f';\r\n {name}="{value}"'
    usable = _usable_charset(value, charset)
    pieces = [""]
    for char in value:
        escaped = quote(char.encode(usable), safe="")
        if len(pieces[-1]) + len(escaped) > _PARAMETER_CHARS:
            pieces.append("")
        pieces[-1] += escaped
    if len(pieces) == 1:
        return f";\r\n {name}*={usable}''{pieces[0]}"
    starts = [f"{usable}''"] + [""] * (len(pieces) - 1)
    sections = zip(starts, pieces, strict=True)
    return "".join(f";\r\n {name}*{i}*={start}{p}" for i, (start, p) in enumerate(sections))


def multipart(
    subtype: str,
    parts: Sequence[Part],
    boundary: str,
    parameters: Sequence[tuple[str, str]] = (),
) -> Part:
    """Several parts in one. `boundary` must not occur in them. Source: RFC 2046 s5.1"""
    shown = "".join(f";\r\n {name}={value}" for name, value in parameters)
    pieces: list[bytes] = []
    for part in parts:
        pieces += [b"--", boundary.encode(), b"\r\n", encode_part(part), b"\r\n"]
    pieces += [b"--", boundary.encode(), b"--\r\n"]
    kind = ("Content-Type", f'multipart/{subtype}{shown};\r\n boundary="{boundary}"')
    return Part((kind,), b"".join(pieces))


def encode_part(part: Part, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """The bytes of a part, or of a whole message when its own headers come first."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in (*headers, *part.headers))
    return lines.encode("ascii") + b"\r\n" + part.body


def encode_message(headers: Iterable[tuple[str, str]], part: Part) -> bytes:
    """A message: `headers`, then MIME-Version, then `part`."""
    return encode_part(part, (*headers, ("MIME-Version", "1.0")))


def encode_base64_lines(data: bytes) -> bytes:
    """Base64 in lines of 76. Source: RFC 2045 s6.8"""
    return base64.encodebytes(data).replace(b"\n", b"\r\n")


def flow_lines(text: str, quote_depth: int = 0) -> str:
    """Wrap paragraphs so that a reader may unwrap them again. Source: RFC 3676 s4"""
    mark = ">" * quote_depth + (" " if quote_depth else "")
    out: list[str] = []
    for paragraph in text.split("\n"):
        line = mark
        for word in paragraph.split(" "):
            if len(line) + len(word) > _FLOWED_CHARS and line != mark:
                out.append(line)
                line = mark
            line += word + " "
        # a space before the end of line would join the next paragraph; "-- " alone must keep it
        out.append("-- " if paragraph == "-- " and not quote_depth else line.rstrip(" "))
    return "\n".join(" " + line if line.startswith(("From ", " ")) else line for line in out)


def _usable_charset(text: str, charset: str) -> str:
    if text.isascii():
        return "us-ascii" if charset == "us-ascii" else charset
    try:
        text.encode(charset)
    except UnicodeEncodeError:
        return "utf-8"
    return charset


def _lightest_encoding(octets: bytes, charset: str) -> Encoding:
    longest = max(map(len, octets.split(b"\n")))
    if longest <= _LINE_OCTETS_MAX and (octets.isascii() or charset in _SEVEN_BIT_CHARSETS):
        return "7bit"
    above = sum(octet > 127 for octet in octets)
    return "base64" if above * 6 > len(octets) else "quoted-printable"


def _fold_words(words: Sequence[str], used_chars: int) -> str:
    out: list[str] = []
    for word in words:
        if out and used_chars + len(word) + 1 > _FOLD_CHARS:
            out.append("\r\n ")
            used_chars = 1
        elif out:
            out.append(" ")
            used_chars += 1
        out.append(word)
        used_chars += len(word)
    return "".join(out)
