"""From header properties of Emails and body parts to typed values (RFC 8621 s4.1.3, s4.6).

Everything about one property at a time: which field it names, which form it has, whether its value
is of that form and can be written. What two properties may not do together is for `compose`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from tindra.features.mail.header_property import parse_header_property
from tindra.wire.mime.build import (
    Address,
    AddressesValue,
    DateValue,
    Group,
    GroupsValue,
    HeaderValue,
    MessageIdsValue,
    RawValue,
    TextValue,
    UrlsValue,
)
from tindra.wire.mime.compose import encode_header

CONVENIENCE = {
    "messageId": ("Message-ID", "asMessageIds"),
    "inReplyTo": ("In-Reply-To", "asMessageIds"),
    "references": ("References", "asMessageIds"),
    "sender": ("Sender", "asAddresses"),
    "from": ("From", "asAddresses"),
    "to": ("To", "asAddresses"),
    "cc": ("Cc", "asAddresses"),
    "bcc": ("Bcc", "asAddresses"),
    "replyTo": ("Reply-To", "asAddresses"),
    "subject": ("Subject", "asText"),
    "sentAt": ("Date", "asDate"),
}
"""Property -> (field, form). Source: RFC 8621 s4.1.3"""


class HeaderProblem(Exception):
    """The property, or its value, cannot become a header field; says why."""


class PlannedHeader(NamedTuple):
    """The fields one property asks for."""

    name: str
    """As it will be written."""
    values: list[HeaderValue]
    """One a field; more, or none, only with `:all`."""

    @property
    def key(self) -> str:
        """Under which two properties for one field are found."""
        return self.name.lower()


class _EmailAddress(msgspec.Struct, forbid_unknown_fields=True):
    email: str
    name: str | None = None

    def plain(self) -> Address:
        return Address(self.name, self.email)


class _EmailAddressGroup(msgspec.Struct, forbid_unknown_fields=True):
    addresses: list[_EmailAddress]
    name: str | None = None


def _make_addresses(value: Any) -> HeaderValue:
    found = msgspec.convert(value, list[_EmailAddress])
    return AddressesValue([address.plain() for address in found])


def _make_groups(value: Any) -> HeaderValue:
    found = msgspec.convert(value, list[_EmailAddressGroup])
    return GroupsValue([Group(g.name, [a.plain() for a in g.addresses]) for g in found])


_MAKERS: dict[str, Callable[[Any], HeaderValue]] = {
    "asRaw": lambda value: RawValue(msgspec.convert(value, str)),
    "asText": lambda value: TextValue(msgspec.convert(value, str)),
    "asAddresses": _make_addresses,
    "asGroupedAddresses": _make_groups,
    "asMessageIds": lambda value: MessageIdsValue(msgspec.convert(value, list[str])),
    "asDate": lambda value: DateValue(msgspec.convert(value, str)),
    "asURLs": lambda value: UrlsValue(msgspec.convert(value, list[str])),
}


def is_header_name(property: str) -> bool:
    """Whether a property stands for header fields at all."""
    return property in CONVENIENCE or property.startswith("header:")


def plan_header(property: str, value: Any) -> PlannedHeader:
    """The fields that `property` with `value` asks for; null and an empty list ask for none.

    Raises: HeaderProblem.
    Source: RFC 8621 s4.1.3, s4.6
    """
    if property in CONVENIENCE:
        name, form = CONVENIENCE[property]
        has_all = False
    else:
        plan = parse_header_property(property)
        if plan is None:
            raise HeaderProblem("there is no such header property, or not in this form")
        name, form, has_all = property.split(":")[1], plan.form, plan.has_all
    if value is None or value == []:
        return PlannedHeader(name, [])
    if has_all and not isinstance(value, list):
        raise HeaderProblem("':all' takes a list")
    return PlannedHeader(
        name, [_make(name, form, item) for item in (value if has_all else [value])]
    )


def _make(name: str, form: str, value: Any) -> HeaderValue:
    try:
        made = _MAKERS[form](value)
        # Written here once to find out whether it can be; cheap beside the body.
        encode_header(name, made)
    except msgspec.ValidationError as error:
        raise HeaderProblem(f"wrong type: {error}") from None
    except ValueError as error:
        raise HeaderProblem(str(error)) from None
    return made
