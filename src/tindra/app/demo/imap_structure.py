"""ENVELOPE, BODYSTRUCTURE and body sections of stored messages, so that any mail client works.

A small reader of MIME structure for a server's needs: offsets into the raw bytes, no decoding of
text. Best effort by design: whatever is odd becomes text/plain or application/octet-stream.
Invariants: linear but for nesting, which is bounded; never raises on any bytes.
Sources: RFC 9051 s7.5.2, s6.4.5.1; RFC 2045 s5; RFC 2046 s5.1.
"""

from __future__ import annotations

import re
from email.utils import getaddresses
from typing import Final

import msgspec

PARTS_MAX: Final = 500
"""Children of one multipart that are looked at."""
DEPTH_MAX: Final = 20
"""Multiparts inside of each other."""
QUOTED_OCTETS_MAX: Final = 900
"""Longer strings are sent as literals."""

_FIELD: Final = re.compile(
    rb"^([!-9;-~]++)[ \t]*+:[ \t]*+([^\r\n]*+(?:\r?\n[ \t][^\r\n]*+)*+)", re.M
)
_DASH_LINE: Final = re.compile(rb"^--([^\r\n]*+)\r?\n?", re.M)
_PLAIN_ADDRESS: Final = re.compile(rb"(?:([^<>@]*?)[ \t]*<)?([^<>@\s]+)@([^<>@\s]+)>?")
_ADDRESS_PUZZLES: Final = re.compile(rb'["():;\\]')
_FOLD: Final = re.compile(rb"\r?\n[ \t]+")
_PARAMETER: Final = re.compile(rb';\s*([^\s=;]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;]*))')
_TYPE: Final = re.compile(rb"\s*([!-.0-~]+)\s*/\s*([!-:<-~]+)")
_UNSAFE: Final = re.compile(rb"[^ !#-\[\]-~]")
_ADDRESS_FIELDS: Final = (b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc")


class Entity(msgspec.Struct):
    """A message or a part of one; offsets are octets of the raw message."""

    start: int
    body: int
    end: int
    fields: dict[bytes, bytes]
    """First value of each header field, unfolded; names in small letters."""
    main_type: bytes
    sub_type: bytes
    parameters: list[tuple[bytes, bytes]]
    children: list[Entity]
    """Of a multipart; the message of a message/rfc822."""


def find_body(raw: bytes, start: int, end: int) -> int:
    """Where the body begins: behind the first empty line."""
    if raw.startswith(b"\r\n", start):
        return start + 2
    found = raw.find(b"\r\n\r\n", start, end)
    if found >= 0:
        return found + 4
    found = raw.find(b"\n\n", start, end)
    return found + 2 if found >= 0 else end


def read_fields(head: bytes) -> dict[bytes, bytes]:
    """The first value of each field."""
    fields: dict[bytes, bytes] = {}
    for match in _FIELD.finditer(head):
        fields.setdefault(match[1].lower(), _FOLD.sub(b" ", match[2]).strip())
    return fields


def select_fields(head: bytes, names: frozenset[bytes], *, others: bool = False) -> bytes:
    """The header fields named (or all others), as they stand, with the closing empty line.

    Args:
        names: in small letters.
    """
    kept = [
        match[0] + b"\r\n"
        for match in _FIELD.finditer(head)
        if (match[1].lower() in names) is not others
    ]
    return b"".join(kept) + b"\r\n"


def parse_entity(raw: bytes, start: int = 0, end: int | None = None, depth: int = 0) -> Entity:
    """The structure of a message, or of the part between two offsets."""
    stop = len(raw) if end is None else end
    body = min(find_body(raw, start, stop), stop)
    fields = read_fields(raw[start:body])
    value = fields.get(b"content-type", b"text/plain")
    match = _TYPE.match(value)
    main, sub = (match[1].lower(), match[2].lower()) if match else (b"text", b"plain")
    parameters = [
        (m[1].upper(), m[2] if m[2] is not None else m[3]) for m in _PARAMETER.finditer(value)
    ]
    entity = Entity(start, body, stop, fields, main, sub, parameters, [])
    if depth >= DEPTH_MAX:
        return entity
    if main == b"multipart":
        boundary = dict(parameters).get(b"BOUNDARY", b"")
        for first, last in _split(raw, body, stop, boundary) if boundary else ():
            entity.children.append(parse_entity(raw, first, last, depth + 1))
    elif (main, sub) == (b"message", b"rfc822"):
        entity.children.append(parse_entity(raw, body, stop, depth + 1))
    return entity


def find_section(raw: bytes, path: list[int], what: str) -> bytes | None:
    """The octets of a part, or None. `path` as in [1, 2]; `what`: empty, MIME, HEADER or TEXT."""
    entity = parse_entity(raw)
    for number in path:
        if entity.main_type == b"message" and entity.children:
            entity = entity.children[0]
        if entity.main_type != b"multipart" and number == 1:
            continue  # a message that is no multipart has a part 1: itself
        if not 0 < number <= len(entity.children):
            return None
        entity = entity.children[number - 1]
    if what == "MIME":
        return raw[entity.start : entity.body]
    if what in ("HEADER", "TEXT"):
        inner = entity.children[0] if entity.main_type == b"message" and entity.children else entity
        pair = (inner.start, inner.body) if what == "HEADER" else (inner.body, inner.end)
        return raw[pair[0] : pair[1]]
    return raw[entity.body : entity.end]


def encode_string(octets: bytes | None) -> bytes:
    """NIL, a quoted string or a literal. Source: RFC 9051 s9 (nstring)"""
    if octets is None:
        return b"NIL"
    if not _UNSAFE.search(octets) and len(octets) <= QUOTED_OCTETS_MAX:
        return b'"' + octets + b'"'
    return b"{%d}\r\n%s" % (len(octets), octets)


def render_envelope(fields: dict[bytes, bytes]) -> bytes:
    """ENVELOPE. Source: RFC 9051 s7.5.2"""
    lists = {name: _render_addresses(fields.get(name)) for name in _ADDRESS_FIELDS}
    for name in (b"sender", b"reply-to"):
        if lists[name] == b"NIL":
            lists[name] = lists[b"from"]
    items = [encode_string(fields.get(b"date")), encode_string(fields.get(b"subject"))]
    items += [lists[name] for name in _ADDRESS_FIELDS]
    items += [encode_string(fields.get(name)) for name in (b"in-reply-to", b"message-id")]
    return b"(" + b" ".join(items) + b")"


def render_structure(raw: bytes, entity: Entity, *, extended: bool) -> bytes:
    """BODYSTRUCTURE, or BODY without the extension data. Source: RFC 9051 s7.5.2"""
    if entity.main_type == b"multipart" and entity.children:
        inner = b"".join(render_structure(raw, c, extended=extended) for c in entity.children)
        items = [inner, encode_string(entity.sub_type.upper())]
        if extended:
            items += [_render_parameters(entity.parameters), *_render_extension(entity)]
        return b"(" + b" ".join(items) + b")"
    main, sub = entity.main_type.upper(), entity.sub_type.upper()
    if main == b"MULTIPART":
        main, sub = b"TEXT", b"PLAIN"  # without a boundary it is only text
    fields = entity.fields
    items = [
        encode_string(main),
        encode_string(sub),
        _render_parameters(entity.parameters),
        encode_string(fields.get(b"content-id")),
        encode_string(fields.get(b"content-description")),
        encode_string(fields.get(b"content-transfer-encoding", b"7bit").upper()),
        b"%d" % (entity.end - entity.body),
    ]
    lines = b"%d" % raw.count(b"\n", entity.body, entity.end)
    if main == b"TEXT":
        items.append(lines)
    elif entity.children:
        message = entity.children[0]
        items += [
            render_envelope(message.fields),
            render_structure(raw, message, extended=extended),
            lines,
        ]
    if extended:
        items += [encode_string(fields.get(b"content-md5")), *_render_extension(entity)]
    return b"(" + b" ".join(items) + b")"


def _split(raw: bytes, start: int, end: int, boundary: bytes) -> list[tuple[int, int]]:
    """The ranges of the parts of a multipart."""
    ranges: list[tuple[int, int]] = []
    first = -1
    for match in _DASH_LINE.finditer(raw, start, end):
        word = match[1].rstrip()
        if word not in (boundary, boundary + b"--"):
            continue
        if first >= 0:
            last = match.start()  # the line end in front of a boundary belongs to it
            last -= raw[last - 1 : last] == b"\n"
            last -= raw[last - 1 : last] == b"\r"
            ranges.append((first, max(first, last)))
        first = match.end()
        if word != boundary or len(ranges) >= PARTS_MAX:
            return ranges
    if first >= 0:
        ranges.append((first, end))
    return ranges


def _render_parameters(parameters: list[tuple[bytes, bytes]]) -> bytes:
    if not parameters:
        return b"NIL"
    pairs = (encode_string(name) + b" " + encode_string(value) for name, value in parameters)
    return b"(" + b" ".join(pairs) + b")"


def _render_extension(entity: Entity) -> list[bytes]:
    """Disposition, language, location."""
    value = entity.fields.get(b"content-disposition")
    disposition = b"NIL"
    if value:
        kind = value.partition(b";")[0].strip().upper()
        parameters = [
            (m[1].upper(), m[2] if m[2] is not None else m[3]) for m in _PARAMETER.finditer(value)
        ]
        disposition = b"(" + encode_string(kind) + b" " + _render_parameters(parameters) + b")"
    return [disposition, b"NIL", b"NIL"]


def _render_addresses(value: bytes | None) -> bytes:
    if not value:
        return b"NIL"
    rendered = [
        b"(" + b" ".join(map(encode_string, (name or None, None, local, host))) + b")"
        for name, local, host in _read_addresses(value)
    ]
    return b"(" + b"".join(rendered) + b")" if rendered else b"NIL"


def _read_addresses(value: bytes) -> list[tuple[bytes, bytes, bytes | None]]:
    """(display name, local part, host) of each; the plain form is read here, as it is common."""
    if not _ADDRESS_PUZZLES.search(value):
        matches = [_PLAIN_ADDRESS.fullmatch(piece.strip()) for piece in value.split(b",")]
        plain = [(m[1] or b"", m[2], m[3]) for m in matches if m is not None]
        if len(plain) == len(matches):
            return list(plain)
    found: list[tuple[bytes, bytes, bytes | None]] = []
    for name, address in getaddresses([value.decode("latin-1")]):
        local, at, host = address.encode("latin-1").rpartition(b"@")
        if address:
            found.append((name.encode("latin-1"), local if at else host, host if at else None))
    return found
