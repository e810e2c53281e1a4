"""The Range header: which octets a client wants (RFC 9110 s14).

One range is answered; several at once are answered with the whole, as the RFC allows.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_ONE = re.compile(r"bytes=\s*(\d{0,15})-(\d{0,15})\s*", re.IGNORECASE)


class ByteRange(NamedTuple):
    """Octets [start, end)."""

    start: int
    end: int


class Unsatisfiable(Exception):
    """The range lies outside the content."""


def parse_range(text: str, size: int) -> ByteRange | None:
    """The one range asked for, within `size` octets; None for no or another kind of range.

    Raises: Unsatisfiable.
    Source: RFC 9110 s14.1.2
    """
    match = _ONE.fullmatch(text)
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = int(match[2])
        if length == 0 or size == 0:
            raise Unsatisfiable
        return ByteRange(max(0, size - length), size)
    start = int(match[1])
    if match[2] and int(match[2]) < start:
        return None
    if start >= size:
        raise Unsatisfiable
    return ByteRange(start, min(size, int(match[2]) + 1) if match[2] else size)
