"""The JMAP request envelope: bytes to values, as strict as I-JSON asks.

Source: RFC 8620 s3.3, RFC 7493 s2
No JMAP meaning lives here beyond the envelope: methods and types are for `core`.
Invariant: any bytes give a Request or a RequestSyntaxError, in time linear in their number.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from tindra.base import limits
from tindra.base.ids import is_id

# A string, or all that follows an opening quote that nobody closes. Possessive, so that text full
# of backslashes costs one pass and not one for each of them.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)


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
        that stands twice in one object, NaN, lone surrogates, nesting over JSON_DEPTH_MAX, and
        over JSON_VALUES_MAX containers or strings.
    Source: RFC 7493 s2
    """
    if _has_too_many_values(body):
        raise RequestSyntaxError("notJSON", f"over {limits.JSON_VALUES_MAX} values")
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestSyntaxError("notJSON", f"not JSON in UTF-8: {error}") from None
    members, depth = _measure(value)
    if depth > limits.JSON_DEPTH_MAX:
        raise RequestSyntaxError("notJSON", f"nested deeper than {limits.JSON_DEPTH_MAX}")
    # Outside strings every colon ends a member name: fewer members than colons means that one
    # name swallowed another.
    if _STRINGS.sub(b"", body).count(b":") != members:
        raise RequestSyntaxError("notJSON", "a member name stands twice in one object")
    return value


def parse_request(body: bytes) -> Request:
    """The request in `body`; members that the RFC does not know are ignored.

    Raises: RequestSyntaxError("notJSON" or "notRequest").
    Source: RFC 8620 s3.3
    """
    return convert_request(parse_json(body))


def convert_request(value: Any) -> Request:
    """The request that a JSON value is. Raises: RequestSyntaxError("notRequest")."""
    try:
        envelope = msgspec.convert(value, _Envelope)
    except msgspec.ValidationError as error:
        raise RequestSyntaxError("notRequest", f"not a Request object: {error}") from None
    created = envelope.created_ids
    if created and not all(map(is_id, (*created, *created.values()))):
        raise RequestSyntaxError("notRequest", "createdIds must map ids to ids")
    calls = [Call(*call) for call in envelope.method_calls]
    return Request(envelope.using, calls, created)


def _has_too_many_values(body: bytes) -> bool:
    """Whether `body` holds more containers or strings than a request may; looked at before they
    are made, since each costs a hundred times its octets. Escaped quotes belong to text."""
    if body.count(b'"') - body.count(b'\\"') > 2 * limits.JSON_VALUES_MAX:
        return True
    if body.count(b"[") + body.count(b"{") <= limits.JSON_VALUES_MAX:
        return False
    bare = _STRINGS.sub(b"", body)
    return bare.count(b"[") + bare.count(b"{") > limits.JSON_VALUES_MAX


def _measure(value: Any) -> tuple[int, int]:
    """(members of all objects together, deepest nesting). Cost: one look at each container."""
    members = depth = 0
    level = [value] if type(value) is dict or type(value) is list else []
    while level:
        depth += 1
        inner: list[Any] = []
        for item in level:
            if type(item) is dict:
                members += len(item)
                inner.extend(v for v in item.values() if type(v) is dict or type(v) is list)
            else:
                inner.extend(v for v in item if type(v) is dict or type(v) is list)
        level = inner
    return members, depth
