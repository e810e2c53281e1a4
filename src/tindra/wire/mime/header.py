"""The parsed forms of header field values, from raw octets; which field may take which form.

Every function takes the raw value of one field (folding included) and never fails. Fields are found
by the caller; writing them is in build.
Source: RFC 8621 s4.1.2, RFC 5322 s3, RFC 2369 s2
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from tindra.wire.mime.address import Address, Group, parse_addresses
from tindra.wire.mime.charset import decode_octets, normalise_nfc
from tindra.wire.mime.date import Moment, parse_date
from tindra.wire.mime.params import strip_comments
from tindra.wire.mime.words import decode_words

__all__ = [
    "ALLOWED_FORMS",
    "ALL_FORMS",
    "Address",
    "Group",
    "allowed_forms",
    "as_addresses",
    "as_date",
    "as_grouped_addresses",
    "as_message_ids",
    "as_moment",
    "as_raw",
    "as_text",
    "as_urls",
    "date_ms",
]

ALL_FORMS = frozenset(
    ["Raw", "Text", "Addresses", "GroupedAddresses", "MessageIds", "Date", "URLs"]
)
"""Names of the header forms, as after "as" in a property name. Source: RFC 8621 s4.1.2"""

IDS_MAX = 10_000
"""Message ids or URLs read from one field; a thread of 10,000 messages is beyond any References."""

_RAW = frozenset(["Raw"])
_TEXT = frozenset(["Raw", "Text"])
_ADDRESSES = frozenset(["Raw", "Addresses", "GroupedAddresses"])
_IDS = frozenset(["Raw", "MessageIds"])
_DATE = frozenset(["Raw", "Date"])
_URLS = frozenset(["Raw", "URLs"])

_FIELDS = {
    _RAW: "return-path received",
    _TEXT: "subject comments keywords",
    _ADDRESSES: "from sender reply-to to cc bcc"
    " resent-from resent-sender resent-reply-to resent-to resent-cc resent-bcc",
    _IDS: "message-id in-reply-to references resent-message-id",
    _DATE: "date resent-date",
    _URLS: "list-help list-unsubscribe list-subscribe list-post list-owner list-archive",
}
ALLOWED_FORMS: Mapping[str, frozenset[str]] = MappingProxyType(
    {name: forms for forms, names in _FIELDS.items() for name in names.split()}
)
"""Field name in lower case -> forms it may take; a field that is not here may take every form.

Source: RFC 8621 s4.1.2
"""

_IN_ANGLES = re.compile(r"<([^<>]*+)>")
_BARE_ID = re.compile(r"[^\s<>\"@]++@[^\s<>\"@]++")


def allowed_forms(name: str) -> frozenset[str]:
    """The forms in which the field `name` (any case) may be asked for."""
    return ALLOWED_FORMS.get(name.lower(), ALL_FORMS)


def as_raw(value: bytes) -> str:
    """The value as it stands, folding included; NUL is dropped, and U+FFFD stands for what is not
    UTF-8. Source: RFC 8621 s4.1.2.1
    """
    return value.translate(None, b"\0").decode("utf-8", "replace")


def as_text(value: bytes) -> str:
    """The value unfolded, without leading white space, encoded words decoded, in form C.

    Source: RFC 8621 s4.1.2.2
    """
    return normalise_nfc(decode_words(_unfold(value).lstrip(" \t")))


def as_addresses(value: bytes) -> list[Address]:
    """Every mailbox of an address-list in order, groups flattened. Source: RFC 8621 s4.1.2.3"""
    groups = parse_addresses(_unfold(value))
    if len(groups) == 1:
        return groups[0].addresses
    return [address for group in groups for address in group.addresses]


def as_grouped_addresses(value: bytes) -> list[Group]:
    """The groups of an address-list in order; neighbours outside of groups share one without name.

    Source: RFC 8621 s4.1.2.4
    """
    return parse_addresses(_unfold(value))


def as_message_ids(value: bytes) -> list[str] | None:
    """The message ids without angle brackets; None if there is none to be found.

    Ids without brackets count if the whole value is made of them, as some senders write it.
    Source: RFC 8621 s4.1.2.5, RFC 5322 s3.6.4
    """
    text = _unfold(value)
    ids = [token for token in _list_in_angles(text) if token]
    if ids:
        return ids
    words = strip_comments(text).replace(",", " ").split(None, IDS_MAX)[:IDS_MAX]
    if words and all(_BARE_ID.fullmatch(word) for word in words):
        return words
    return None


def as_date(value: bytes) -> str | None:
    """The date-time as RFC 3339 with the sender's offset ("Z" for none); None if it is no date.

    Source: RFC 8621 s4.1.2.6
    """
    moment = as_moment(value)
    return None if moment is None else moment.rfc3339()


def date_ms(value: bytes) -> int | None:
    """The date-time in UTC milliseconds; None if it is no date."""
    moment = as_moment(value)
    return None if moment is None else moment.unix_ms


def as_moment(value: bytes) -> Moment | None:
    """The date-time, for who wants it in more than one form; None if it is no date."""
    return parse_date(_unfold(value))


def as_urls(value: bytes) -> list[str] | None:
    """The URLs without angle brackets; None if there is none. Source: RFC 8621 s4.1.2.7"""
    return [url for url in _list_in_angles(_unfold(value)) if url] or None


def _unfold(value: bytes) -> str:
    """The value in one line. Line ends occur in a value only where it is folded."""
    if b"\n" in value or b"\r" in value:
        value = value.translate(None, b"\r\n")
    return decode_octets(value)


def _list_in_angles(text: str) -> list[str]:
    """What stands in angle brackets outside of comments, without white space."""
    return ["".join(item.split()) for item in _IN_ANGLES.findall(strip_comments(text))[:IDS_MAX]]
