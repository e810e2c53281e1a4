"""The part tree of an Email: how it is stored, and how body properties are made from it.

The tree holds offsets into the one message, so body values and attachments are ranges of it and
nothing is parsed twice. Source: RFC 8621 s4.1.4
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from tindra.base import limits
from tindra.core.arguments import take_bool, take_names, take_unsigned
from tindra.core.errors import MethodError
from tindra.features.mail.header_property import HeaderFields, is_header_property
from tindra.wire.jmap.blob_id import PART_ENCODINGS, encode_part_blob_id
from tindra.wire.mime.decode import decode_text
from tindra.wire.mime.header import as_raw
from tindra.wire.mime.parse import Part, list_headers
from tindra.wire.mime.structure import Bodies, split_bodies

BODY_PROPERTIES_DEFAULT = (
    "partId", "blobId", "size", "name", "type", "charset", "disposition", "cid", "language",
    "location",
)  # fmt: skip
_BODY_PROPERTIES = frozenset(BODY_PROPERTIES_DEFAULT) | {"headers", "subParts"}
_TREE_NAMES = frozenset({"bodyStructure", "textBody", "htmlBody", "attachments"})


class _StoredPart(msgspec.Struct, array_like=True):
    """A Part as stored: the same fields, as an array."""

    header_start: int
    header_end: int
    body_start: int
    body_end: int
    type: str
    encoding: str
    charset: str | None
    disposition: str | None
    name: str | None
    cid: str | None
    language: list[str] | None
    location: str | None
    size: int
    part_id: str | None
    children: list[_StoredPart]


_FIELDS = _StoredPart.__struct_fields__[:-1]
_decoder = msgspec.json.Decoder(_StoredPart)


def encode_structure(root: Part) -> bytes:
    """The tree as JSON, for EmailContent.structure."""
    return msgspec.json.encode(_store(root))


def _store(part: Part) -> _StoredPart:
    values = {name: getattr(part, name) for name in _FIELDS}
    return _StoredPart(**values, children=[_store(child) for child in part.children])


def load_structure(data: bytes) -> Part:
    """The tree that `encode_structure` stored."""
    return _restore(_decoder.decode(data))


def _restore(part: _StoredPart) -> Part:
    values = {name: getattr(part, name) for name in _FIELDS}
    return Part(**values, children=[_restore(child) for child in part.children])


class BodyRequest(msgspec.Struct, frozen=True):
    """The body arguments of Email/get and Email/parse. Source: RFC 8621 s4.2"""

    properties: tuple[str, ...]
    """Of each EmailBodyPart."""
    has_text: bool
    has_html: bool
    has_all: bool
    bytes_max: int
    """Of each body value, in UTF-8 octets; 0 means the server's own limit."""

    @property
    def wants_values(self) -> bool:
        """Whether any body value is asked for."""
        return self.has_text or self.has_html or self.has_all

    @property
    def wants_headers(self) -> bool:
        """Whether the header fields of parts are asked for, so that the message is needed."""
        return any(name == "headers" or name[:7] == "header:" for name in self.properties)


BODY_ARGUMENTS = frozenset(
    {
        "bodyProperties",
        "fetchTextBodyValues",
        "fetchHTMLBodyValues",
        "fetchAllBodyValues",
        "maxBodyValueBytes",
    }
)


def take_body_request(arguments: dict[str, Any]) -> BodyRequest:
    """Raises: MethodError invalidArguments. Source: RFC 8621 s4.2"""
    names = take_names(arguments, "bodyProperties")
    if names is None:
        names = list(BODY_PROPERTIES_DEFAULT)
    for name in names:
        if name not in _BODY_PROPERTIES and not is_header_property(name):
            raise MethodError("invalidArguments", f"EmailBodyPart has no {name[:60]!r}")
    return BodyRequest(
        tuple(names),
        take_bool(arguments, "fetchTextBodyValues"),
        take_bool(arguments, "fetchHTMLBodyValues"),
        take_bool(arguments, "fetchAllBodyValues"),
        take_unsigned(arguments, "maxBodyValueBytes", 0) or 0,
    )


def needs_message(properties: Iterable[str], request: BodyRequest) -> bool:
    """Whether the octets of the message are needed for these Email properties."""
    for name in properties:
        if name == "headers" or name[:7] == "header:":
            return True
        if name == "bodyValues" and request.wants_values:
            return True
        if name in _TREE_NAMES and request.wants_headers:
            return True
    return False


def render_body(
    raw: bytes, blob_id: str, root: Part, properties: Iterable[str], request: BodyRequest
) -> dict[str, Any]:
    """The body and header properties among `properties`.

    Args:
        raw: the message; may be b"" unless `needs_message`.
    Source: RFC 8621 s4.1.3, s4.1.4
    """
    renderer = _Renderer(raw, blob_id, request)
    bodies: Bodies | None = None
    found: dict[str, Any] = {}
    for name in properties:
        if name == "bodyStructure":
            found[name] = renderer.render(root, has_children=True)
        elif name in ("textBody", "htmlBody", "attachments", "bodyValues"):
            bodies = bodies or split_bodies(root)
            if name == "bodyValues":
                found[name] = renderer.render_values(root, bodies)
            else:
                found[name] = [renderer.render(part) for part in _pick(bodies, name)]
        elif name == "headers":
            found[name] = renderer.render_headers(root)
        elif name[:7] == "header:":
            found[name] = renderer.load_fields(root).render(name)
    return found


def _pick(bodies: Bodies, name: str) -> list[Part]:
    if name == "textBody":
        return bodies.text_body
    return bodies.html_body if name == "htmlBody" else bodies.attachments


def _iterate(part: Part) -> Iterable[Part]:
    pending = [part]
    while pending:
        one = pending.pop()
        yield one
        pending.extend(reversed(one.children))


class _Renderer:
    """Makes EmailBodyPart and EmailBodyValue objects of one message."""

    def __init__(self, raw: bytes, blob_id: str, request: BodyRequest) -> None:
        self._raw = raw
        self._blob_id = blob_id
        self._request = request
        self._fields: dict[int, HeaderFields] = {}

    def load_fields(self, part: Part) -> HeaderFields:
        """The header fields of a part, read once."""
        found = self._fields.get(part.header_start)
        if found is None:
            found = self._fields[part.header_start] = HeaderFields(list_headers(self._raw, part))
        return found

    def render_headers(self, part: Part) -> list[dict[str, str]]:
        """Source: RFC 8621 s4.1.3 (EmailHeader)"""
        headers = list_headers(self._raw, part)
        return [{"name": name, "value": as_raw(value)} for name, value in headers]

    def render(self, part: Part, has_children: bool = False) -> dict[str, Any]:
        """One EmailBodyPart, with subParts where it is a multipart in bodyStructure."""
        found = {name: self._property(part, name) for name in self._request.properties}
        if has_children and part.part_id is None:
            found["subParts"] = [self.render(child, True) for child in part.children]
        return found

    def _property(self, part: Part, name: str) -> Any:
        match name:
            case "partId":
                return part.part_id
            case "blobId":
                if part.part_id is None:
                    return None
                return encode_part_blob_id(
                    self._blob_id, part.body_start, part.body_end, part.encoding
                )
            case "charset":
                implicit = "us-ascii" if part.type.startswith("text/") else None
                return part.charset or implicit
            case "size" | "name" | "type" | "disposition" | "cid" | "language" | "location":
                return getattr(part, name)
            case "headers":
                return self.render_headers(part)
            case "subParts":
                return None
        return self.load_fields(part).render(name)

    def render_values(self, root: Part, bodies: Bodies) -> dict[str, Any]:
        """partId -> EmailBodyValue of the text parts asked for."""
        wanted: dict[str, Part] = {}
        if self._request.has_all:
            wanted |= _texts(_iterate(root))
        if self._request.has_text:
            wanted |= _texts(bodies.text_body)
        if self._request.has_html:
            wanted |= _texts(bodies.html_body)
        bytes_max = min(
            self._request.bytes_max or limits.BODY_VALUE_BYTES_MAX, limits.BODY_VALUE_BYTES_MAX
        )
        values = {}
        for part_id, part in wanted.items():
            text = decode_text(self._raw, part, bytes_max)
            values[part_id] = {
                "value": text.value,
                "isEncodingProblem": (
                    text.is_encoding_problem or part.encoding not in PART_ENCODINGS
                ),
                "isTruncated": text.is_truncated,
            }
        return values


def _texts(parts: Iterable[Part]) -> dict[str, Part]:
    return {p.part_id: p for p in parts if p.part_id is not None and p.type.startswith("text/")}
