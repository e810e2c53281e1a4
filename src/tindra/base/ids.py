"""Identifiers as types that cannot be swapped, and how new ones are made.

Ids follow RFC 8620 s1.2 (1 to 255 of A-Za-z0-9_-) and start with a letter, as the RFC advises.
Nothing here reads a clock or a random source: both come in from outside.
"""

from __future__ import annotations

import re
from typing import NewType, Protocol

AccountId = NewType("AccountId", str)
UserId = NewType("UserId", str)
PrincipalId = NewType("PrincipalId", str)
BlobId = NewType("BlobId", str)
EmailId = NewType("EmailId", str)
ThreadId = NewType("ThreadId", str)
MailboxId = NewType("MailboxId", str)
ConnectionId = NewType("ConnectionId", str)
Id = NewType("Id", str)
"""The id of any JMAP object, where its type is known only at run time."""
ModSeq = NewType("ModSeq", int)
"""Counts the write transactions of one account; 0 is before the first."""

_ALPHABET = "0123456789abcdefghijklmnopqrstuv"
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]
ID_CHARS_MAX = 255
_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{ID_CHARS_MAX}}}", re.ASCII)


class RandomSource(Protocol):
    """Where random bits come from: the system in production, a seed in tests."""

    def bits(self, count: int) -> int:
        """A uniformly random integer of `count` bits."""
        ...


def encode_base32(value: int, width: int) -> str:
    """`value` in `width` base32hex digits, most significant first: text order is number order."""
    pairs = [_PAIRS[(value >> shift) & 1023] for shift in range(10 * ((width - 1) // 2), -1, -10)]
    text = "".join(pairs)
    return text[1:] if width & 1 else text


def new_id(prefix: str, now_ms: int, random: RandomSource) -> str:
    """A new id: `prefix`, 9 digits of time (sorts by creation), 7 random digits.

    Args:
        prefix: one lower-case letter that names the type to a human reader of a log.
        now_ms: UTC milliseconds, below 2**45 (year 3084).
    """
    return prefix + encode_base32(now_ms, 9) + encode_base32(random.bits(35), 7)


def is_id(text: str) -> bool:
    """Whether `text` may be an Id at all. Source: RFC 8620 s1.2"""
    return _ID.fullmatch(text) is not None
