"""How strings are compared: comparators, match types, wildcards. Linear in the text.

Source: RFC 5228 s2.7, RFC 5231, RFC 4790
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

COMPARATORS: Final = ("i;octet", "i;ascii-casemap", "i;ascii-numeric")
_DIGITS = re.compile(r"[0-9]++")
_INFINITE = (1, "")
_RELATIONS: dict[str, Callable[[int], bool]] = {
    "gt": lambda order: order > 0,
    "ge": lambda order: order >= 0,
    "lt": lambda order: order < 0,
    "le": lambda order: order <= 0,
    "eq": lambda order: order == 0,
    "ne": lambda order: order != 0,
}
RELATIONS: Final = frozenset(_RELATIONS)


class Matching(NamedTuple):
    """How a test compares."""

    kind: str = "is"
    """is, contains, matches, value or count."""
    comparator: str = "i;ascii-casemap"
    relation: str = "eq"
    """Of value and count."""


def fold(text: str, comparator: str) -> str:
    """The text under which equal strings are equal; as many characters as the text itself."""
    if comparator == "i;octet":
        return text
    if text.isascii():
        return text.lower()
    # Octets know the case of ASCII letters only, which is what the comparator wants.
    return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def count_steps(matching: Matching, value: str, key: str) -> int:
    """What `match_value` costs, in steps of about a microsecond."""
    chars = len(value) + len(key)
    if matching.kind == "matches" and "?" in key:
        return 1 + chars // 16 * (1 + len(key) // 512)
    return 1 + chars // 256


def match_value(matching: Matching, value: str, key: str) -> list[str] | None:
    """What the wildcards stood for, after the whole value; None: it does not match.

    Cost: linear in the value, times one machine word for each 64 characters of the key.
    """
    comparator = matching.comparator
    if matching.kind == "matches":
        return match_wildcards(value, key, comparator)
    if matching.kind == "value":
        left, right = _rank(value, comparator), _rank(key, comparator)
        return [value] if _RELATIONS[matching.relation](_compare(left, right)) else None
    if comparator == "i;ascii-numeric":
        return [value] if _rank(value, comparator) == _rank(key, comparator) else None
    folded, wanted = fold(value, comparator), fold(key, comparator)
    is_match = wanted in folded if matching.kind == "contains" else wanted == folded
    return [value] if is_match else None


def match_count(matching: Matching, count: int, keys: Sequence[str]) -> bool:
    """Whether a number of values stands so to any of the keys. Source: RFC 5231 s4.2"""
    here = _rank(str(count), "i;ascii-numeric")
    ranks = [_rank(key, "i;ascii-numeric") for key in keys]
    return any(_RELATIONS[matching.relation](_compare(here, rank)) for rank in ranks)


def _rank(text: str, comparator: str) -> tuple[int, str]:
    """A key that sorts as the comparator wants. Source: RFC 4790 s9.1"""
    if comparator != "i;ascii-numeric":
        return (0, fold(text, comparator))
    digits = _DIGITS.match(text)
    if digits is None:
        return _INFINITE
    number = digits[0].lstrip("0")
    return (-1, f"{len(number):09}{number}")


def _compare(left: tuple[int, str], right: tuple[int, str]) -> int:
    return (left > right) - (left < right)


def match_wildcards(value: str, pattern: str, comparator: str) -> list[str] | None:
    """The value and what each `*` and `?` stood for, each as short as can be; None: no match.

    Source: RFC 5228 s2.7.1, RFC 5229 s3.2
    """
    pieces = _split_pattern(fold(pattern, comparator))
    text = fold(value, comparator)
    starts = [0]
    end = len(pieces[0])
    if not _fits(text, 0, pieces[0]):
        return None
    if len(pieces) == 1:
        return _collect(value, pieces, starts) if len(text) == end else None
    for piece in pieces[1:-1]:
        start = _find(text, end, piece)
        if start < 0:
            return None
        starts.append(start)
        end = start + len(piece)
    last = len(text) - len(pieces[-1])
    if last < end or not _fits(text, last, pieces[-1]):
        return None
    return _collect(value, pieces, [*starts, last])


_Piece = list[str | None]
"""Characters between two stars; None for `?`."""


def _split_pattern(pattern: str) -> list[_Piece]:
    pieces: list[_Piece] = [[]]
    is_quoted = False
    for char in pattern:
        if is_quoted or char not in "*?\\":
            pieces[-1].append(char)
            is_quoted = False
        elif char == "\\":
            is_quoted = True
        elif char == "?":
            pieces[-1].append(None)
        else:
            pieces.append([])
    if is_quoted:
        pieces[-1].append("\\")
    return pieces


def _fits(text: str, at: int, piece: _Piece) -> bool:
    if at + len(piece) > len(text):
        return False
    return all(c is None or text[at + n] == c for n, c in enumerate(piece))


def _find(text: str, start: int, piece: _Piece) -> int:
    """Where the piece first stands at or after `start`; -1 for nowhere."""
    literal = [c for c in piece if c is not None]
    if len(literal) == len(piece):
        return text.find("".join(literal), start)
    # One bit for each character of the piece that the text so far may end in.
    anything = sum(1 << n for n, c in enumerate(piece) if c is None)
    masks: dict[str, int] = {}
    for n, c in enumerate(piece):
        if c is not None:
            masks[c] = masks.get(c, anything) | 1 << n
    state, goal = 0, 1 << (len(piece) - 1)
    for at in range(start, len(text)):
        state = (state << 1 | 1) & masks.get(text[at], anything)
        if state & goal:
            return at - len(piece) + 1
    return -1


def _collect(value: str, pieces: list[_Piece], starts: list[int]) -> list[str]:
    found = [value]
    end = 0
    for number, (piece, start) in enumerate(zip(pieces, starts, strict=True)):
        if number:
            found.append(value[end:start])
        found += [value[start + n] for n, c in enumerate(piece) if c is None]
        end = start + len(piece)
    return found
