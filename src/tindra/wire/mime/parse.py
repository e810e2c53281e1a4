"""The MIME tree of a message: where every part's header and body lie in the one raw message.

Nothing is decoded here but what the tree itself needs, and nothing is copied: parts are ranges.
Invariants: never raises; linear time; ranges are ordered, and children lie inside their parent's
body without overlapping; part ids are unique. A message over a limit still gives a tree: what is
beyond the limit is one opaque part, and `truncated` says so.
Source: RFC 2045, RFC 2046 s5.1, RFC 2183, RFC 2231, RFC 8621 s4.1.4
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import msgspec

from tindra.wire.mime.charset import decode_octets
from tindra.wire.mime.params import (
    Params,
    decode_param,
    first_token,
    parse_content_type,
    parse_disposition,
    strip_comments,
)
from tindra.wire.mime.transfer import decode_range, measure_range


class MimeLimits(msgspec.Struct, frozen=True):
    """How much of a message is taken apart; real mail stays an order of magnitude below."""

    depth_max: int = 50
    """Multiparts inside each other; each level may read the octets below it once more."""
    parts_max: int = 10_000
    """Parts of one message; a digest of a busy list has some hundreds."""
    header_bytes_max: int = 256 * 1024
    """Header block of one part; the longest seen in the wild are near 64 KiB."""
    false_delimiters_max: int = 100_000
    """Lines that begin like a delimiter and are none: each costs a step that searching does not."""


DEFAULT_LIMITS = MimeLimits()

HEADERS_MAX = 10_000
"""Header fields listed of one part; more than fit in any block that is not an attack."""
BOUNDARY_BYTES_MAX = 998
"""RFC 2046 allows 70; longer ones occur, but none can be longer than a line."""
LANGUAGES_MAX = 100
"""Language tags kept of one part."""


class Part(msgspec.Struct):
    """One node of the tree. Offsets are into the raw message, ranges are half-open.

    Source: RFC 8621 s4.1.4
    """

    header_start: int
    header_end: int
    """After the last header line's own line end; the blank line is in neither range."""
    body_start: int
    body_end: int
    type: str = "text/plain"
    """Lower case, no parameters. A multipart without usable boundary counts as text/plain."""
    encoding: str = "7bit"
    charset: str | None = None
    """As declared, lower case; None without the parameter."""
    disposition: str | None = None
    name: str | None = None
    cid: str | None = None
    """Content-ID without angle brackets."""
    language: list[str] | None = None
    location: str | None = None
    size: int = 0
    """Octets after transfer decoding; of a multipart, those of its range."""
    part_id: str | None = None
    """None for a multipart, else its place in the tree: "1", "2.1"."""
    children: list[Part] = msgspec.field(default_factory=list)


class Message(msgspec.Struct):
    """A parsed message: the tree over the octets it was parsed from."""

    raw: bytes
    root: Part
    truncated: bool = False
    """Whether a limit was hit, so that the tree is coarser than the message."""
    contents: dict[str, bytes] = msgspec.field(default_factory=dict)
    """Part id -> content of the text parts that had to be decoded to be measured."""


_FIELD_NAME = re.compile(rb"[!-9;-~]++[ \t]*+:")
_FIELD = re.compile(rb"(?m)^([!-9;-~]++)[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)")
_MBOX_LINE = re.compile(rb">?From [^\r\n]*+(?:\r\n?|\n)")
_CACHED_BYTES_MAX = 64
"""Longer Content-Types have a boundary or a name and do not come back."""
_cached_content_type = lru_cache(maxsize=256)(parse_content_type)
_CACHED_BLOCK_BYTES_MAX = 160
"""Header blocks of text parts are shorter, and the same in mail after mail."""
_BOM = b"\xef\xbb\xbf"
_SP = b" \t"

_Fields = dict[bytes, bytes]
"""Content-* fields of one header block: name after "content-" in lower case -> raw value."""


def parse_message(raw: bytes, limits: MimeLimits = DEFAULT_LIMITS) -> Message:
    """The tree of any octets. Cost: linear in the message (a few passes at search speed)."""
    return _Parser(raw, limits).run()


def list_headers(raw: bytes, part: Part) -> list[tuple[str, bytes]]:
    """The header fields of a part in order: name as written, raw value octets.

    A value is all between the colon and the line end of the field, folding included. Lines that
    are no header field are left out; at most HEADERS_MAX fields are listed.
    Source: RFC 5322 s2.2, RFC 8621 s4.1.3
    """
    block = raw[part.header_start : part.header_end]
    if b"\n" not in block:
        block = block.replace(b"\r", b"\n")
    fields = _FIELD.findall(block)
    return [
        (name.decode("ascii"), value[:-1] if value.endswith(b"\r") else value)
        for name, value in fields[:HEADERS_MAX]
    ]


class _Parser:
    """One run over one message."""

    def __init__(self, raw: bytes, limits: MimeLimits) -> None:
        self.raw = raw
        self.limits = limits
        self.truncated = False
        self.parts_left = limits.parts_max - 1
        self.contents: dict[str, bytes] = {}
        self.false_left = limits.false_delimiters_max
        # Mail with bare CR as line end is old Macintosh export; one LF makes CR an ordinary octet.
        self.line_end = b"\n" if b"\n" in raw or b"\r" not in raw else b"\r"

    def run(self) -> Message:
        raw = self.raw
        start = len(_BOM) if raw.startswith(_BOM) else 0
        mbox = _MBOX_LINE.match(raw, start)
        if mbox is not None:
            start = mbox.end()
        root, boundary = self._read_part(start, len(raw), "text/plain")
        # A stack, not recursion: the depth of a message is the sender's choice.
        stack = [(root, boundary, "", 1)]
        while stack:
            part, boundary, path, depth = stack.pop()
            if not part.type.startswith("multipart/"):
                self._finish_leaf(part, path)
                continue
            part.size = part.body_end - part.body_start
            if depth > self.limits.depth_max:
                self.truncated = True
                part.type = "application/octet-stream"
                self._finish_leaf(part, path)
                continue
            default = "message/rfc822" if part.type == "multipart/digest" else "text/plain"
            ranges = self._split(part, boundary) if boundary else []
            if not ranges:
                part.type = "text/plain"
                self._finish_leaf(part, path)
                continue
            prefix = path + "." if path else ""
            for number, (child_start, child_end) in enumerate(ranges, 1):
                child, boundary = self._read_part(child_start, child_end, default)
                part.children.append(child)
                stack.append((child, boundary, f"{prefix}{number}", depth + 1))
        return Message(raw, root, self.truncated, self.contents)

    def _finish_leaf(self, part: Part, path: str) -> None:
        part.part_id = path or "1"
        length = part.body_end - part.body_start
        if part.encoding in ("7bit", "8bit", "binary"):
            part.size = length
            return
        data = self.raw[part.body_start : part.body_end]
        if part.encoding == "quoted-printable" and part.type.startswith("text/"):
            # Its size is only known by decoding, and whoever parses mail reads its text next.
            data = self.contents[part.part_id] = decode_range(data, part.encoding)
            part.size = len(data)
        else:
            part.size = measure_range(data, part.encoding)

    def _read_part(self, start: int, end: int, default: str) -> tuple[Part, bytes]:
        """The part in [start, end) without children, and its boundary (empty: none)."""
        header_end, body_start = self._find_body(start, end)
        part = Part(start, header_end, body_start, end, default)
        if header_end == start:
            return part, b""
        block = self.raw[start:header_end]
        is_short = len(block) <= _CACHED_BLOCK_BYTES_MAX
        found = (_cached_description if is_short else _describe)(block, self.line_end)
        if found is None:
            return part, b""
        part.type = found.type or default
        part.encoding = found.encoding
        part.charset = found.charset
        part.disposition = found.disposition
        part.name = found.name
        part.cid = found.cid
        part.language = list(found.language) or None
        part.location = found.location
        return part, found.boundary

    def _find_body(self, start: int, end: int) -> tuple[int, int]:
        """(end of the header block, start of the body) of the part in [start, end)."""
        raw = self.raw
        if _FIELD_NAME.match(raw, start, end) is None:
            # No header block: all is body, behind the blank line if there is one.
            for blank in (b"\r\n", b"\n", b"\r"):
                if raw.startswith(blank, start, end):
                    return start, start + len(blank)
            return start, start
        limit = min(end, start + self.limits.header_bytes_max)
        at, width = _find_blank_line(raw, start, limit, self.line_end)
        if at >= 0:
            return at, at + width
        if limit == end:
            return end, end
        self.truncated = True
        cut = raw.rfind(self.line_end, start, limit) + 1 or limit
        return cut, cut

    def _split(self, part: Part, boundary: bytes) -> list[tuple[int, int]]:
        """The ranges of the children: what lies between delimiter lines.

        The line end before a delimiter belongs to it. A line that only begins like a delimiter
        (its boundary is the prefix of another) is none. Without a closing one, the last child ends
        where its parent does.
        Source: RFC 2046 s5.1.1
        """
        raw, end, line_end = self.raw, part.body_end, self.line_end
        needle = line_end + b"--" + boundary
        ranges: list[tuple[int, int]] = []
        child_start = -1
        # The body of a part with header fields always begins behind a line end.
        at = raw.find(needle, part.body_start - 1, end)
        while at >= 0:
            after = at + len(needle)
            line_stop = raw.find(line_end, after, end)
            if line_stop < 0:
                line_stop = end
            tail = raw[after:line_stop].strip(b" \t\r")
            if tail and tail != b"--":
                self.false_left -= 1
                if self.false_left < 0:
                    self.truncated = True
                    break
                at = raw.find(needle, line_stop, end)
                continue
            if not tail and self.parts_left == 0:
                self.truncated = True
                break
            if child_start >= 0:
                child_end = at - 1 if raw[at - 1] == 13 else at
                ranges.append((child_start, max(child_start, child_end)))
            if tail:
                return ranges
            self.parts_left -= 1
            child_start = min(line_stop + 1, end)
            at = raw.find(needle, line_stop, end)
        if child_start >= 0:
            ranges.append((child_start, end))
        return ranges


def _find_blank_line(raw: bytes, start: int, end: int, line_end: bytes) -> tuple[int, int]:
    """(start, width) of the first blank line in [start, end), (-1, 0) if there is none."""
    if line_end == b"\r":
        at = raw.find(b"\r\r", start, end)
        return (at + 1, 1) if at >= 0 else (-1, 0)
    first = raw.find(b"\n", start, end)
    # The kind the message uses is looked for first; the other is then searched only up to there.
    likely, other = b"\n\n", b"\n\r\n"
    if first > start and raw[first - 1] == 13:
        likely, other = other, likely
    at = raw.find(likely, start, end)
    width = len(likely) - 1
    odd = raw.find(other, start, at if at >= 0 else end)
    if odd >= 0:
        at, width = odd, len(other) - 1
    return (at + 1, width) if at >= 0 else (-1, 0)


def _find_content_fields(block: bytes, line_end: bytes) -> _Fields:
    """The Content-* fields of a header block; of several with one name the first counts.

    That is what most other readers do; a filter that reads otherwise than the client is a hole.
    """
    low = block.lower()
    fields: _Fields = {}
    needle = line_end + b"content-"
    name_start = 8 if low.startswith(b"content-") else _behind(low, needle, 0)
    colon = -1
    while name_start >= 0:
        if colon < name_start:
            colon = low.find(b":", name_start)
            if colon < 0:
                break
        stop = low.find(line_end, name_start)
        if 0 <= stop < colon:
            name_start = _behind(low, needle, stop)
            continue
        # A line that begins with white space continues the field.
        while 0 <= stop < len(low) - 1 and low[stop + 1] in _SP:
            stop = low.find(line_end, stop + 1)
        if stop < 0:
            stop = len(low)
        fields.setdefault(low[name_start:colon].rstrip(_SP), block[colon + 1 : stop])
        name_start = _behind(low, needle, stop)
    return fields


def _behind(low: bytes, needle: bytes, start: int) -> int:
    at = low.find(needle, start)
    return at + len(needle) if at >= 0 else -1


class _Description(NamedTuple):
    """What the Content-* fields of one header block say of its part."""

    type: str | None
    encoding: str
    charset: str | None
    disposition: str | None
    name: str | None
    cid: str | None
    language: tuple[str, ...]
    location: str | None
    boundary: bytes
    """Empty: none that could be used."""


def _describe(block: bytes, line_end: bytes) -> _Description | None:
    """None for a block without any Content-* field."""
    fields = _find_content_fields(block, line_end)
    if not fields:
        return None
    type: str | None = None
    charset = disposition = name = cid = location = None
    params: Params = {}
    encoding = "7bit"
    language: tuple[str, ...] = ()
    if (value := fields.get(b"type")) is not None:
        is_short = len(value) <= _CACHED_BYTES_MAX
        type, params = (_cached_content_type if is_short else parse_content_type)(value)
        if "charset" in params or "charset*" in params:
            token = first_token(decode_param(params, "charset") or "")
            charset = token.strip("\"';,").lower() or None
    if (value := fields.get(b"transfer-encoding")) is not None:
        token = first_token(strip_comments(value.decode("latin-1")))
        encoding = token.strip("\"';,").lower() or "7bit"
    if (value := fields.get(b"disposition")) is not None:
        disposition, disposition_params = parse_disposition(value)
        name = decode_param(disposition_params, "filename")
    if name is None:
        name = decode_param(params, "name")
    if (value := fields.get(b"id")) is not None:
        cid = _parse_cid(value)
    if (value := fields.get(b"language")) is not None:
        tags = strip_comments(value.decode("latin-1")).split(",", LANGUAGES_MAX)[:LANGUAGES_MAX]
        language = tuple(tag.strip() for tag in tags if tag.strip())
    if (value := fields.get(b"location")) is not None:
        location = "".join(map(str.strip, decode_octets(value).splitlines())) or None
    boundary = _read_boundary(params) if type and type.startswith("multipart/") else b""
    return _Description(
        type, encoding, charset, disposition, name, cid, language, location, boundary
    )


_cached_description = lru_cache(maxsize=1024)(_describe)


def _read_boundary(params: Params) -> bytes:
    text = params.get("boundary") or decode_param(params, "boundary") or ""
    boundary = text.encode("latin-1", "ignore").rstrip(_SP)
    return boundary if len(boundary) <= BOUNDARY_BYTES_MAX else b""


def _parse_cid(value: bytes) -> str | None:
    text = strip_comments(decode_octets(value))
    start = text.find("<") + 1
    stop = text.find(">", start)
    return "".join(text[start : stop if stop >= 0 else len(text)].split()) or None
