"""Sets of message numbers and UIDs as sorted ranges, and their IMAP notation.

A set is a list of (first, last), both ends inclusive, ascending, disjoint and not adjacent, so
equal sets are equal lists. `UID_MAX` as the last end stands for "and everything above" and is
written `*`. Sets are never expanded unasked.

Invariants: `parse_uid_set(encode_uid_set(s), star=UID_MAX) == s`; every operation is linear or
n log n in the number of *ranges*; a hostile `1:4294967295` costs one tuple.

Sources: RFC 9051 s9 (sequence-set), RFC 4315 s3 (uid-set order in COPYUID).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from tindra.wire.imap.errors import LocalProtocolError, RemoteProtocolError

UidRange: TypeAlias = tuple[int, int]
"""(first, last), both inclusive."""

UID_MAX: Final = 2**32 - 1
"""The largest UID or message number. Source: RFC 9051 s2.3.1.1"""
RANGES_PER_COMMAND_MAX: Final = 100
"""Ranges in one command: some servers hang up on longer lines."""
ELEMENTS_MAX: Final = 4_000_000
"""Elements taken from one set of a server; a mailbox of that size is beyond all providers."""


def merge_ranges(ranges: Iterable[UidRange]) -> list[UidRange]:
    """The same set in normal form: sorted, overlaps and neighbours joined, ends put in order."""
    merged: list[UidRange] = []
    for first, last in sorted((min(pair), max(pair)) for pair in ranges):
        if merged and first <= merged[-1][1] + 1:
            if last > merged[-1][1]:
                merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return merged


def compact_uids(uids: Iterable[int]) -> list[UidRange]:
    """The set of these UIDs, in any order and with repetitions, as ranges."""
    ranges: list[UidRange] = []
    first = last = -1
    for uid in sorted(set(uids)):
        if uid == last + 1 and first > 0:
            last = uid
            continue
        if first > 0:
            ranges.append((first, last))
        first = last = uid
    if first > 0:
        ranges.append((first, last))
    return ranges


def count_uids(ranges: Iterable[UidRange]) -> int:
    """How many numbers a set in normal form holds."""
    return sum(last - first + 1 for first, last in ranges)


def expand_uids(ranges: Sequence[UidRange], count_max: int = ELEMENTS_MAX) -> list[int]:
    """Every number of the set, in the order of the ranges.

    Raises: RemoteProtocolError: there are more than `count_max`; nothing was allocated.
    """
    if (count := count_uids(ranges)) > count_max:
        raise RemoteProtocolError(f"a set of {count} numbers, more than {count_max}")
    return [uid for first, last in ranges for uid in range(first, last + 1)]


def has_uid(ranges: Sequence[UidRange], uid: int) -> bool:
    """Whether a set in normal form holds `uid`. Cost: logarithmic in the ranges."""
    low, high = 0, len(ranges)
    while low < high:
        middle = (low + high) // 2
        if ranges[middle][1] < uid:
            low = middle + 1
        else:
            high = middle
    return low < len(ranges) and ranges[low][0] <= uid


def parse_uid_set(text: str, star: int | None = None) -> list[UidRange]:
    """A set in normal form.

    Args:
        star: what `*` means here (the largest number in use); None forbids it.
    Raises: RemoteProtocolError: not a sequence set, or 0 or a number above `UID_MAX` in it.
    """
    return merge_ranges(parse_uid_list(text, star))


def parse_uid_list(text: str, star: int | None = None) -> list[UidRange]:
    """The ranges as written, each with its ends put in order: COPYUID pairs two sets by position.

    Raises: as `parse_uid_set`.
    """
    elements = text.split(",")
    if len(elements) > ELEMENTS_MAX:
        raise RemoteProtocolError(f"a set of {len(elements)} elements")
    ranges: list[UidRange] = []
    for element in elements:
        first, colon, last = element.partition(":")
        low = _parse_end(first, star)
        high = _parse_end(last, star) if colon else low
        ranges.append((low, high) if low <= high else (high, low))
    return ranges


def _parse_end(text: str, star: int | None) -> int:
    if text == "*" and star is not None:
        return star
    if text.isascii() and text.isdigit() and len(text) <= 10:
        number = int(text)
        if 0 < number <= UID_MAX:
            return number
    raise RemoteProtocolError(f"not a message number: {text[:20]!r}")


def encode_uid_set(ranges: Iterable[UidRange]) -> str:
    """The IMAP notation. Raises: LocalProtocolError: empty, or a number outside 1 to `UID_MAX`."""
    return ",".join(map(_encode_range, ranges)) or _refuse_empty()


def _encode_range(pair: UidRange) -> str:
    first, last = pair
    if not 0 < first <= last <= UID_MAX:
        raise LocalProtocolError(f"not a range of UIDs: {first}:{last}")
    if last == UID_MAX:
        return f"{first}:*"
    return str(first) if first == last else f"{first}:{last}"


def _refuse_empty() -> str:
    raise LocalProtocolError("IMAP has no notation for an empty set")


def split_ranges(
    ranges: Iterable[UidRange],
    uids_max: int | None = None,
    ranges_max: int = RANGES_PER_COMMAND_MAX,
) -> Iterator[list[UidRange]]:
    """Cut a set into pieces small enough for one command each.

    Args:
        uids_max: numbers in one piece at most; None: no bound on them.
    """
    piece: list[UidRange] = []
    room = uids_max
    for first, last in ranges:
        while first <= last:
            if len(piece) >= ranges_max or room == 0:
                yield piece
                piece, room = [], uids_max
            stop = last if room is None else min(last, first + room - 1)
            piece.append((first, stop))
            if room is not None:
                room -= stop - first + 1
            first = stop + 1  # noqa: PLW2901 - the rest of the same range
    if piece:
        yield piece
