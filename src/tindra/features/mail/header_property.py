"""The `header:Name:asForm:all` properties (RFC 8621 s4.1.3): names to plans, headers to values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from tindra.wire.mime.header import (
    allowed_forms,
    as_addresses,
    as_date,
    as_grouped_addresses,
    as_message_ids,
    as_raw,
    as_text,
    as_urls,
)

_FORMS: dict[str, Callable[[bytes], Any]] = {
    "asRaw": as_raw,
    "asText": as_text,
    "asAddresses": as_addresses,
    "asGroupedAddresses": as_grouped_addresses,
    "asMessageIds": as_message_ids,
    "asDate": as_date,
    "asURLs": as_urls,
}
_NAME_CHARS_MAX = 255


class HeaderProperty(NamedTuple):
    """One parsed property name."""

    header: str
    """Field name, lower case."""
    form: str
    has_all: bool


@lru_cache(maxsize=1024)
def parse_header_property(name: str) -> HeaderProperty | None:
    """The plan of a property name; None if it is none, or asks for a form that the header field
    may not have. Source: RFC 8621 s4.1.3"""
    pieces = name.split(":")
    if len(name) > _NAME_CHARS_MAX or not 2 <= len(pieces) <= 4 or pieces[0] != "header":
        return None
    header = pieces[1].lower()
    if not header or not all("!" <= c <= "~" for c in header):
        return None
    rest = pieces[2:]
    has_all = bool(rest) and rest[-1] == "all"
    forms = rest[:-1] if has_all else rest
    form = forms[0] if forms else "asRaw"
    if len(forms) > 1 or form not in _FORMS:
        return None
    if form.removeprefix("as") not in allowed_forms(header):
        return None
    return HeaderProperty(header, form, has_all)


def is_header_property(name: str) -> bool:
    """Whether Email/get may be asked for `name`."""
    return name.startswith("header:") and parse_header_property(name) is not None


class HeaderFields:
    """The header fields of one part, each form of each parsed at most once."""

    def __init__(self, headers: Sequence[tuple[str, bytes]]) -> None:
        self._values: dict[str, list[bytes]] = {}
        for field, value in headers:
            self._values.setdefault(field.lower(), []).append(value)
        self._rendered: dict[HeaderProperty, Any] = {}

    def render(self, name: str) -> Any:
        """The value of a header property: of the last instance, or of all of them in order.

        Source: RFC 8621 s4.1.3
        """
        plan = parse_header_property(name)
        assert plan is not None
        values = self._values.get(plan.header)
        if values is None:
            return [] if plan.has_all else None
        if plan not in self._rendered:
            parse = _FORMS[plan.form]
            if plan.has_all:
                self._rendered[plan] = [parse(value) for value in values]
            else:
                self._rendered[plan] = parse(values[-1])
        return self._rendered[plan]

    @property
    def names(self) -> Iterable[str]:
        """The field names there are, lower case."""
        return self._values.keys()


class HeaderPlan:
    """Header properties that are asked for of many parts.

    Most parts have few of the fields: what a part has not comes from one ready answer, so the cost
    of a part is that of its own fields.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """`names` are checked header properties."""
        nothing = HeaderFields(())
        self._absent = {name: nothing.render(name) for name in names}
        self._by_field: dict[str, list[str]] = {}
        for name in self._absent:
            plan = parse_header_property(name)
            assert plan is not None
            self._by_field.setdefault(plan.header, []).append(name)

    def render(self, fields: HeaderFields) -> dict[str, Any]:
        """Property name -> value, in the order asked for."""
        values = dict(self._absent)
        for field in fields.names:
            for name in self._by_field.get(field, ()):
                values[name] = fields.render(name)
        return values
