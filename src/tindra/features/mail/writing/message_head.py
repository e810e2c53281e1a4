"""The header of a message, read alone: whether it is a message at all, and what its fields say.

For what happens before a message is parsed, or instead. Pure; cost is linear in the header block.
Source: RFC 5322 s2.2, s3.6
"""

from __future__ import annotations

from typing import NamedTuple

from tindra.wire.mime.header import Address, as_addresses, date_ms
from tindra.wire.mime.parse import list_headers, parse_message

_HEAD_BYTES_MAX = 1 << 20
"""Octets that are looked at; a header block beyond is not sent by anyone."""


class MessageHead(NamedTuple):
    """The header fields of one message."""

    fields: dict[str, list[bytes]]
    """Field name, lower case -> raw values in order."""

    def list_addresses(self, name: str) -> list[Address]:
        """The addresses of all fields of one name."""
        return [address for value in self.fields.get(name, ()) for address in as_addresses(value)]

    @property
    def is_message(self) -> bool:
        """Whether these octets begin with at least one header field, as every message does."""
        return bool(self.fields)

    @property
    def received_ms(self) -> int | None:
        """When the last server on its way got it: the first Received field. RFC 5322 s3.6.7"""
        for value in self.fields.get("received", ())[:1]:
            return date_ms(value.rpartition(b";")[2])
        return None


def read_head(raw: bytes) -> MessageHead:
    """The header fields of a message; none for octets that are no message."""
    ends = [raw.find(mark, 0, _HEAD_BYTES_MAX) + len(mark) for mark in (b"\r\n\r\n", b"\n\n")]
    found = [end for width, end in zip((4, 2), ends, strict=True) if end >= width]
    head = raw[: min(found, default=_HEAD_BYTES_MAX)]
    fields: dict[str, list[bytes]] = {}
    for name, value in list_headers(head, parse_message(head).root):
        fields.setdefault(name.lower(), []).append(value)
    return MessageHead(fields)
