"""The part tree of an Email: how it is stored, and how body properties are made from it.

The tree holds offsets into the one message, so body values and attachments are ranges of it and
nothing is parsed twice. Source: RFC 8621 s4.1.4
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from operator import attrgetter
from typing import Any, cast

import msgspec

from tindra.base import limits
from tindra.core.arguments import take_bool, take_names, take_unsigned
from tindra.core.errors import MethodError
from tindra.features.mail.header_property import HeaderFields, HeaderPlan, is_header_property
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
_DISGUISE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Controls, line ends and marks of direction. Joiners stay: names in many scripts need them."""
_TREE_NAMES = frozenset({"bodyStructure", "textBody", "htmlBody", "attachments"})


_StoredPart = msgspec.defstruct(
    "_StoredPart",
    [("children", "list[_StoredPart]", msgspec.field(default_factory=list))],
    bases=(Part,),
    module=__name__,
    array_like=True,
    gc=False,
)
"""A Part as stored: the same fields, as an array. It is never in a ring."""
_decoder = msgspec.json.Decoder(_StoredPart)


def encode_structure(root: Part) -> bytes:
    """The tree as JSON, for EmailContent.structure."""
    return msgspec.json.encode(_store(root))


def _store(part: Part) -> tuple[Any, ...]:
    return (*msgspec.structs.astuple(part)[:-1], [_store(child) for child in part.children])


def load_structure(data: bytes) -> Part:
    """The tree that `encode_structure` stored."""
    return cast("Part", _decoder.decode(data))


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
        take_unsigned(arguments, "maxBodyValueBytes") or 0,
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


def measure_reach(root: Part, properties: Iterable[str], request: BodyRequest) -> int:
    """How far into the message `render_body` looks for these properties: [0, reach).

    Text comes before attachments in most mail, so this is far less than all of it.
    """
    reach = 0
    for name in properties:
        if name == "headers" or name[:7] == "header:":
            reach = max(reach, root.body_start)
        elif name == "bodyValues" and request.wants_values:
            texts = _pick_texts(root, split_bodies(root), request).values()
            reach = max(reach, *(part.body_end for part in texts), 0)
        elif name in _TREE_NAMES and request.wants_headers:
            reach = max(reach, *(part.body_start for part in _iterate(root)))
    return reach


def render_body(
    raw: bytes,
    blob_id: str,
    root: Part,
    properties: Iterable[str],
    request: BodyRequest,
    room_bytes: int,
) -> dict[str, Any]:
    """The body and header properties among `properties`; parts are JSON already.

    Args:
        raw: the message as far as `measure_reach` says; may be b"" unless `needs_message`.
        room_bytes: what all parts and values may take in the answer.
    Raises: MethodError requestTooLarge.
    Cost: linear in the parts, and in those properties of each that it has.
    Source: RFC 8621 s4.1.3, s4.1.4
    """
    renderer = _Renderer(raw, blob_id, request, room_bytes)
    bodies: Bodies | None = None
    found: dict[str, Any] = {}
    for name in properties:
        if name == "bodyStructure":
            found[name] = renderer.render_tree(root)
        elif name in ("textBody", "htmlBody", "attachments", "bodyValues"):
            bodies = bodies or split_bodies(root)
            if name == "bodyValues":
                found[name] = renderer.render_values(root, bodies)
            else:
                found[name] = [renderer.render(part) for part in _pick(bodies, name)]
        elif name == "headers":
            found[name] = _list_raw_headers(raw, root)
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


def _list_raw_headers(raw: bytes, part: Part) -> list[dict[str, str]]:
    """Source: RFC 8621 s4.1.3 (EmailHeader)"""
    return [{"name": name, "value": as_raw(value)} for name, value in list_headers(raw, part)]


def _make_blob_id(blob_id: str, part: Part) -> str | None:
    if part.part_id is None:
        return None
    return encode_part_blob_id(blob_id, part.body_start, part.body_end, part.encoding)


class _Renderer:
    """Makes EmailBodyPart and EmailBodyValue objects of one message, each part once."""

    def __init__(self, raw: bytes, blob_id: str, request: BodyRequest, room_bytes: int) -> None:
        self._raw = raw
        self._request = request
        self._room_bytes = room_bytes
        self._fields: dict[int, HeaderFields] = {}
        self._rendered: dict[int, msgspec.Raw] = {}
        names = [name for name in request.properties if name != "subParts"]
        headers = [name for name in names if name[:7] == "header:"]
        self._headers = HeaderPlan(headers) if headers else None
        # None of them is a method of ours: a ring would keep the message until the collector comes.
        readers: dict[str, Callable[[Part], Any]] = {
            "headers": partial(_list_raw_headers, raw),
            "blobId": partial(_make_blob_id, blob_id),
            **_READERS,
        }
        self._readers = [(n, readers.get(n) or attrgetter(n)) for n in names if n[:7] != "header:"]
        self._has_sub_parts = "subParts" in request.properties

    def load_fields(self, part: Part) -> HeaderFields:
        """The header fields of a part, read once."""
        found = self._fields.get(part.header_start)
        if found is None:
            found = self._fields[part.header_start] = HeaderFields(list_headers(self._raw, part))
        return found

    def render(self, part: Part) -> msgspec.Raw:
        """One EmailBodyPart. Raises: MethodError requestTooLarge."""
        found = self._rendered.get(id(part))
        if found is None:
            values = self._read(part)
            if self._has_sub_parts:
                values["subParts"] = None
            found = self._rendered[id(part)] = msgspec.Raw(msgspec.json.encode(values))
        self._take_room(len(memoryview(found)))
        return found

    def render_tree(self, part: Part) -> msgspec.Raw:
        """One EmailBodyPart, with its subParts where it is a multipart."""
        if part.part_id is not None:
            return self.render(part)
        values = self._read(part)
        self._take_room(len(msgspec.json.encode(values)))
        values["subParts"] = [self.render_tree(child) for child in part.children]
        return msgspec.Raw(msgspec.json.encode(values))

    def _take_room(self, count: int) -> None:
        self._room_bytes -= count
        if self._room_bytes < 0:
            raise MethodError("requestTooLarge", "the bodies are too large: ask for less")

    def _read(self, part: Part) -> dict[str, Any]:
        values = {name: read(part) for name, read in self._readers}
        if self._headers is not None:
            values |= self._headers.render(self.load_fields(part))
        return values

    def render_values(self, root: Part, bodies: Bodies) -> dict[str, Any]:
        """partId -> EmailBodyValue of the text parts asked for."""
        wanted = _pick_texts(root, bodies, self._request)
        bytes_max = min(
            self._request.bytes_max or limits.BODY_VALUE_BYTES_MAX, limits.BODY_VALUE_BYTES_MAX
        )
        values = {}
        for part_id, part in wanted.items():
            text = decode_text(self._raw, part, bytes_max)
            self._take_room(len(text.value))
            values[part_id] = {
                "value": text.value,
                "isEncodingProblem": (
                    text.is_encoding_problem or part.encoding not in PART_ENCODINGS
                ),
                "isTruncated": text.is_truncated,
            }
        return values


def _get_charset(part: Part) -> str | None:
    implicit = "us-ascii" if part.type.startswith("text/") else None
    return part.charset or implicit


def show_name(part: Part) -> str | None:
    """The file name of a part as it may be shown: nothing in it turns the reading direction (an
    old way to make "exe" read as "pdf"), breaks a line or controls a terminal.

    Source: RFC 2183 s2.3, RFC 8621 s4.1.4
    """
    if part.name is None or part.name.isascii():
        return part.name  # its parser took the ASCII controls out
    return _DISGUISE.sub("", part.name) or None


_READERS: dict[str, Callable[[Part], Any]] = {
    "charset": _get_charset,
    "partId": attrgetter("part_id"),
    "name": show_name,
}
"""Properties of a part that are not read from the attribute of their name."""


def _pick_texts(root: Part, bodies: Bodies, request: BodyRequest) -> dict[str, Part]:
    """partId -> text part, of those whose values are asked for."""
    wanted: dict[str, Part] = {}
    if request.has_all:
        wanted |= _texts(_iterate(root))
    if request.has_text:
        wanted |= _texts(bodies.text_body)
    if request.has_html:
        wanted |= _texts(bodies.html_body)
    return wanted


def _texts(parts: Iterable[Part]) -> dict[str, Part]:
    return {p.part_id: p for p in parts if p.part_id is not None and p.type.startswith("text/")}
