"""The JMAP request envelope: bytes to values, as strict as I-JSON asks (RFC 8620 s3.3, RFC 7493 s2).

No JMAP meaning lives here beyond the envelope: methods and types are for `core`.
Invariant: any bytes give a Request or a RequestSyntaxError, in time linear in their number.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from tindra.base import limits

_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


class RequestSyntaxError(Exception):
    """The body is not I-JSON ("notJSON") or not a Request object ("notRequest").

    Source: RFC 8620 s3.6.1
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


class Call(NamedTuple):
    """One method call, or one response: name, arguments, call id. Source: RFC 8620 s3.2"""

    name: str
    arguments: dict[str, Any]
    id: str


class Request(NamedTuple):
    """A whole API request. Source: RFC 8620 s3.3"""

    using: list[str]
    calls: list[Call]
    created_ids: dict[str, str] | None


class _Envelope(msgspec.Struct, rename="camel"):
    using: list[str]
    method_calls: list[tuple[str, dict[str, Any], str]]
    created_ids: dict[str, str] | None = None


def parse_json(body: bytes) -> Any:
    """Any I-JSON value.

    Raises: RequestSyntaxError("notJSON") for bytes that are not JSON in UTF-8, for a member name
        that stands twice in one object, NaN, lone surrogates, and nesting over JSON_DEPTH_MAX.
    Source: RFC 7493 s2
    """
    bare = _STRINGS.sub(b"", body)
    if _depth(bare) > limits.JSON_DEPTH_MAX:
        raise RequestSyntaxError("notJSON", f"nested deeper than {limits.JSON_DEPTH_MAX}")
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestSyntaxError("notJSON", f"not JSON in UTF-8: {error}") from None
    # Outside strings every colon ends a member name: fewer members than colons means that one
    # name swallowed another.
    if bare.count(b":") != _count_members(value):
        raise RequestSyntaxError("notJSON", "a member name stands twice in one object")
    if b"\\u" in body and _has_surrogate(value):
        raise RequestSyntaxError("notJSON", "a string holds a lone surrogate")
    return value


def parse_request(body: bytes) -> Request:
    """The request in `body`.

    Raises: RequestSyntaxError("notJSON" or "notRequest").
    Source: RFC 8620 s3.3
    """
    value = parse_json(body)
    try:
        envelope = msgspec.convert(value, _Envelope)
    except msgspec.ValidationError as error:
        raise RequestSyntaxError("notRequest", f"not a Request object: {error}") from None
    calls = [Call(*call) for call in envelope.method_calls]
    return Request(envelope.using, calls, envelope.created_ids)


def _depth(bare: bytes) -> int:
    """Deepest nesting, given JSON without its strings; cheap for the shallow common case."""
    opens = bare.count(b"{") + bare.count(b"[")
    if opens <= limits.JSON_DEPTH_MAX:
        return opens
    depth = deepest = 0
    for byte in bare:
        if byte in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"}]":
            depth -= 1
    return deepest


def _count_members(value: Any) -> int:
    count = 0
    pending = [value]
    while pending:
        item = pending.pop()
        if type(item) is dict:
            count += len(item)
            pending.extend(v for v in item.values() if type(v) is dict or type(v) is list)
        elif type(item) is list:
            pending.extend(v for v in item if type(v) is dict or type(v) is list)
    return count


def _has_surrogate(value: Any) -> bool:
    pending = [value]
    while pending:
        item = pending.pop()
        if type(item) is str:
            if any("\ud800" <= c <= "\udfff" for c in item):
                return True
        elif type(item) is dict:
            pending.extend(item.keys())
            pending.extend(item.values())
        elif type(item) is list:
            pending.extend(item)
    return False
