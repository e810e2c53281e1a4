"""Builds a whole message from typed header values and a tree of contents.

Every header field goes through compose, so what it refuses cannot be built. Content is never
changed but for the line ends of body text; each leaf gets the plainest transfer encoding that
carries it. Invariants: CRLF line ends; no line beyond 998 octets; no boundary occurs in what it
separates; the result parses to the same tree and contents.
Source: RFC 5322 s2, RFC 2045 s6, RFC 2046 s5.1, RFC 8621 s4.6
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable

import msgspec

from tindra.wire.mime.address import Address, Group
from tindra.wire.mime.charset import is_ascii_safe
from tindra.wire.mime.compose import (
    LINE_OCTETS_MAX,
    AddressesValue,
    DateValue,
    GroupsValue,
    HeaderValue,
    MessageIdsValue,
    RawValue,
    TextValue,
    UrlsValue,
    check_token,
    encode_header,
    encode_id,
    encode_params,
)

__all__ = [
    "Address",
    "AddressesValue",
    "BodyPart",
    "DateValue",
    "Group",
    "GroupsValue",
    "HeaderValue",
    "MessageIdsValue",
    "RawValue",
    "TextValue",
    "UrlsValue",
    "build_message",
]

DEPTH_MAX = 50
"""Multiparts inside each other, as in parsing."""
BOUNDARY_TRIES_MAX = 16
"""Boundaries asked for before giving up; two in a row that collide are already a broken source."""
_PLAIN_LINE_MAX = 78
"""Longer lines of text are encoded, as relays may wrap them. Source: RFC 5322 s2.1.1"""
_BASE64_LINE = 76

_BOUNDARY = re.compile(r"[A-Za-z0-9'()+_,./:=?-]{1,70}")
_NOT_PLAIN = re.compile(rb"[^\t\r\n\x20-\x7e]")


class BodyPart(msgspec.Struct):
    """One node of a body to build: a leaf with content, or a multipart with children."""

    type: str = "text/plain"
    content: bytes | None = None
    """Of a leaf: its decoded octets. Text is UTF-8 unless `charset` says otherwise."""
    children: list[BodyPart] | None = None
    charset: str | None = None
    """None: utf-8 for body text, none named for other leaves."""
    disposition: str | None = None
    name: str | None = None
    cid: str | None = None
    language: list[str] | None = None
    location: str | None = None
    params: list[tuple[str, str]] = msgspec.field(default_factory=list)
    """Of a multipart: more parameters of its Content-Type."""
    headers: list[tuple[str, HeaderValue]] = msgspec.field(default_factory=list)
    """More fields of this part; none that is written from the fields above."""


def build_message(
    headers: list[tuple[str, HeaderValue]], root: BodyPart, *, boundary: Callable[[], str]
) -> bytes:
    """The octets of a message with these header fields, in this order, and this body.

    MIME-Version is added unless given. Body text (text/*, neither named nor an attachment) gets
    CRLF line ends; all other content comes out of parsing exactly as it went in.

    Args:
        boundary: gives a new candidate for a delimiter on each call.
    Raises:
        ValueError: a field or tree that cannot be written as meant; the text begins with the name
            of the field.
    Cost: linear in the content, once more per level of nesting.
    Source: RFC 8621 s4.6
    """
    fields, body, _ = _encode_part(root, boundary, 1)
    written = {name.lower() for name, _ in headers}
    for name in [*(name for name, _ in fields), "Content-Transfer-Encoding"]:
        if name.lower() in written:
            raise ValueError(f"{name}: belongs to the body and is given as header field too")
    lines = [encode_header(name, value) for name, value in headers]
    if "mime-version" not in written:
        lines.append(b"MIME-Version: 1.0\r\n")
    lines.extend(line for _, line in fields)
    return b"".join([*lines, b"\r\n", body])


_Fields = list[tuple[str, bytes]]
"""Encoded fields of a part, each with its name."""


def _encode_part(
    part: BodyPart, boundary: Callable[[], str], depth: int
) -> tuple[_Fields, bytes, str]:
    """(fields, body, transfer encoding) of a part."""
    media_type = check_token("Content-Type", part.type, is_type=True)
    if media_type.startswith("multipart/"):
        params, body, encoding = _encode_multipart(part, media_type, boundary, depth)
    else:
        params, body, encoding = _encode_leaf(part, media_type)
    if part.name and part.disposition is None:
        params.append(("name", part.name))
    fields = [("Content-Type", encode_params("Content-Type", media_type, params))]
    if encoding != "7bit":
        fields.append(_raw_field("Content-Transfer-Encoding", encoding))
    fields.extend(_describe(part))
    taken = {name.lower() for name, _ in fields} | {"content-transfer-encoding"}
    for name, value in part.headers:
        if name.lower() in taken:
            raise ValueError(f"{name}: is written from the part's own properties")
        fields.append((name, encode_header(name, value)))
    return fields, body, encoding


def _describe(part: BodyPart) -> _Fields:
    fields: _Fields = []
    if part.disposition is not None:
        kind = check_token("Content-Disposition", part.disposition)
        params = [("filename", part.name)] if part.name else []
        fields.append(("Content-Disposition", encode_params("Content-Disposition", kind, params)))
    if part.cid is not None:
        fields.append(_raw_field("Content-ID", encode_id("Content-ID", part.cid)))
    if part.language:
        tags = [check_token("Content-Language", tag) for tag in part.language]
        fields.append(_raw_field("Content-Language", ", ".join(tags)))
    if part.location is not None:
        fields.append(
            _raw_field("Content-Location", encode_id("Content-Location", part.location)[1:-1])
        )
    return fields


def _raw_field(name: str, value: str) -> tuple[str, bytes]:
    return name, encode_header(name, RawValue(f" {value}"))


def _encode_multipart(
    part: BodyPart, media_type: str, boundary: Callable[[], str], depth: int
) -> tuple[list[tuple[str, str]], bytes, str]:
    """(Content-Type parameters, body, transfer encoding) of a multipart."""
    if depth > DEPTH_MAX:
        raise ValueError(f"Content-Type: more than {DEPTH_MAX} multiparts inside each other")
    if not part.children or part.content is not None:
        raise ValueError(f"Content-Type: {media_type} needs children and no content")
    encoding = "7bit"
    chunks: list[bytes] = []
    for child in part.children:
        fields, body, child_encoding = _encode_part(child, boundary, depth + 1)
        chunks.append(b"".join([*(line for _, line in fields), b"\r\n", body]))
        if child_encoding == "8bit":
            encoding = "8bit"
    delimiter = _choose_boundary(boundary, chunks)
    line = b"--" + delimiter.encode("ascii")
    body = b"".join(line + b"\r\n" + chunk + b"\r\n" for chunk in chunks) + line + b"--\r\n"
    params = [("boundary", delimiter)]
    if media_type == "multipart/related":
        # Source: RFC 2387 s3.1
        params.append(("type", part.children[0].type))
    return [*params, *part.params], body, encoding


def _choose_boundary(boundary: Callable[[], str], chunks: list[bytes]) -> str:
    for _ in range(BOUNDARY_TRIES_MAX):
        candidate = boundary()
        if not _BOUNDARY.fullmatch(candidate):
            raise ValueError(f"Content-Type: {candidate!r} is not a boundary")
        line = b"--" + candidate.encode("ascii")
        if not any(line in chunk for chunk in chunks):
            return candidate
    raise ValueError("Content-Type: every boundary offered occurs in the content")


def _encode_leaf(part: BodyPart, media_type: str) -> tuple[list[tuple[str, str]], bytes, str]:
    """(Content-Type parameters, body, transfer encoding) of a leaf."""
    if part.content is None or part.children:
        raise ValueError(f"Content-Type: {media_type} needs content and no children")
    content, charset = part.content, part.charset
    if charset is not None:
        charset = check_token("Content-Type", charset)
    params: list[tuple[str, str]] = []
    if media_type.startswith("text/"):
        is_body = part.disposition != "attachment" and not part.name and is_ascii_safe(charset)
        if charset is not None or is_body:
            params.append(("charset", charset or "utf-8"))
        if is_body:
            return params, *_encode_text(content)
    elif charset is not None:
        params.append(("charset", charset))
    if media_type.startswith("message/") and _is_sendable(content, LINE_OCTETS_MAX):
        # Any other encoding of a message is forbidden, so 8bit is preferred to base64.
        # Source: RFC 2046 s5.2
        return params, content, "7bit" if content.isascii() else "8bit"
    if _is_plain(content):
        return params, content, "7bit"
    return params, _encode_base64(content), "base64"


def _encode_text(content: bytes) -> tuple[bytes, str]:
    text = b"\r\n".join((content + b".").splitlines())[:-1]
    if _is_plain(text):
        return text, "7bit"
    encoded = _encode_qp(text)
    if len(encoded) > len(text) * 3 // 2 + 64:
        return _encode_base64(text), "base64"
    return encoded, "quoted-printable"


def _encode_qp(text: bytes) -> bytes:
    # The C encoder copies the line ends it finds, but breaks lines by LF if it finds none.
    encoded = binascii.b2a_qp(text).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    # "From " at the start of a line is quoted by mailbox files. Source: RFC 2049 s3
    lines = b"\r\n" + encoded
    return lines.replace(b"\r\nFrom ", b"\r\n=46rom =\r\n")[2:]


def _is_plain(content: bytes) -> bool:
    """Whether content may travel as it is: printable ASCII in short lines with CRLF ends."""
    return (
        _NOT_PLAIN.search(content) is None
        and not (b"\r\nFrom " in content or content.startswith(b"From "))
        and _is_sendable(content, _PLAIN_LINE_MAX)
    )


def _is_sendable(content: bytes, line_max: int) -> bool:
    """Whether content has no NUL, no bare CR or LF, and no line longer than `line_max` octets."""
    if b"\0" in content:
        return False
    lines = content.split(b"\r\n")
    return max(map(len, lines)) <= line_max and not any(
        b"\n" in line or b"\r" in line for line in lines
    )


def _encode_base64(content: bytes) -> bytes:
    encoded = binascii.b2a_base64(content, newline=False)
    starts = range(0, len(encoded), _BASE64_LINE)
    return b"\r\n".join(encoded[at : at + _BASE64_LINE] for at in starts)
