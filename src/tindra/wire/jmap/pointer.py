"""JSON pointers with the JMAP `*`, PatchObjects and references (RFC 6901, RFC 8620 s3.7, s5.3).

Pure values in, pure values out; nothing is changed in place.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec

from tindra.base import limits

_SHOWN_CHARS_MAX = 60
_INDEX_DIGITS_MAX = 9
ITEM_COST = 16
"""Of an item that a `*` passes, in the unit of `spend`: octets that might have been sent."""
RAW_BYTES_PER_COST = 8
"""Octets decoded on the way that cost as much as one that is sent."""

_VALUE_COST = limits.REQUEST_BYTES_MAX // limits.JSON_VALUES_MAX
"""Of a value that is measured: what a request full of values has for each."""

Spend = Callable[[int], None]


class PointerError(Exception):
    """The pointer is malformed or leads nowhere."""


class PatchError(Exception):
    """The PatchObject breaks a rule of RFC 8620 s5.3; becomes invalidPatch."""


def parse_pointer(text: str) -> list[str]:
    """The unescaped tokens of a pointer; "" is the whole document. Source: RFC 6901 s3

    Raises: PointerError.
    """
    if text == "":
        return []
    if text[0] != "/":
        raise PointerError(f"{_clip(text)} does not start with '/'")
    tokens = text[1:].split("/")
    if "~" not in text:
        return tokens
    return [_unescape(token) for token in tokens]


def _clip(text: str) -> str:
    """As error texts show it: a hostile client gets no megabyte back for its own."""
    return repr(text[:_SHOWN_CHARS_MAX])


def _unescape(token: str) -> str:
    for piece in token.split("~")[1:]:
        if not piece or piece[0] not in "01":
            raise PointerError(f"'~' must be followed by 0 or 1 in {_clip(token)}")
    return token.replace("~1", "/").replace("~0", "~")


def resolve_pointer(document: Any, text: str, spend: Spend = lambda _: None) -> Any:
    """What `text` points at; `*` maps over an array and flattens one level.

    Values stored as `msgspec.Raw` are decoded on the way.
    Args:
        spend: told what the walk costs as it goes, ITEM_COST an item; may raise to end it.
    Raises: PointerError.
    Cost: linear in the pointer and in the values it passes.
    Source: RFC 8620 s3.7
    """
    return _resolve(document, parse_pointer(text), 0, spend)


def _resolve(value: Any, tokens: list[str], start: int, spend: Spend) -> Any:
    for position in range(start, len(tokens)):
        token = tokens[position]
        if isinstance(value, msgspec.Raw):
            spend(len(value) // RAW_BYTES_PER_COST)
            value = msgspec.json.decode(value)
        if isinstance(value, dict):
            if token not in value:
                raise PointerError(f"there is no {_clip(token)}")
            value = value[token]
        elif isinstance(value, list):
            if token == "*":
                return _resolve_each(value, tokens, position + 1, spend)
            value = value[_parse_index(token, len(value))]
        else:
            raise PointerError(f"{_clip(token)} is inside a plain value")
    return msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value


def _parse_index(token: str, count: int) -> int:
    """Source: RFC 6901 s4"""
    is_number = token.isascii() and token.isdigit() and (token[0] != "0" or token == "0")
    if not is_number or len(token) > _INDEX_DIGITS_MAX or int(token) >= count:
        raise PointerError(f"the array of {count} has no item {_clip(token)}")
    return int(token)


def _resolve_each(items: list[Any], tokens: list[str], start: int, spend: Spend) -> list[Any]:
    spend(ITEM_COST * len(items))
    found: list[Any] = []
    for item in items:
        value = _resolve(item, tokens, start, spend)
        if isinstance(value, list):
            found.extend(value)
        else:
            found.append(value)
    return found


def measure_json(value: Any, enough: int) -> int:
    """About how many octets `value` has as JSON, and more where it holds many values, each of which
    is work; counting stops above `enough`."""
    count = 0
    pending = [value]
    while pending and count <= enough:
        item = pending.pop()
        count += _VALUE_COST
        if isinstance(item, str | msgspec.Raw):
            count += len(item)
        elif isinstance(item, list):
            try:
                count += len("".join(item)) + 3 * len(item)  # nearly always a list of ids
            except TypeError:
                pending.extend(item)
        elif isinstance(item, dict):
            count += sum(map(len, item))
            pending.extend(item.values())
    return count


def find_references(value: Any) -> set[str]:
    """Every creation id that a value may name as "#cid", in keys too. Cost: linear in it."""
    found: set[str] = set()
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            if item[:1] == "#":
                found.add(item[1:])
        elif isinstance(item, dict):
            pending.extend(item.keys())
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return found


def apply_patch(document: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """A new object: `document` with each path of `patch` set, or removed for null.

    Args:
        patch: keys are pointers without the leading "/".
    Raises: PatchError for a path inside an array, through a missing or plain parent, or for two
        paths of which one is a prefix of the other.
    Source: RFC 8620 s5.3
    """
    paths = {}
    for key in patch:
        try:
            paths[key] = parse_pointer("/" + key)
        except PointerError as error:
            raise PatchError(str(error)) from None
    check_no_prefix(list(paths.values()))
    result = dict(document)
    copied: dict[int, dict[str, Any]] = {}
    for key, tokens in paths.items():
        _apply_one(result, key, tokens, patch[key], copied)
    return result


def check_no_prefix(paths: list[list[str]]) -> None:
    """Raises PatchError if one path is the beginning of another. Source: RFC 8620 s5.3"""
    ordered = sorted(paths)
    for first, second in pairwise(ordered):
        if second[: len(first)] == first:
            shown = _clip("/".join(first)), _clip("/".join(second))
            raise PatchError(f"{shown[0]} is the beginning of {shown[1]}")


def _apply_one(
    target: dict[str, Any],
    key: str,
    tokens: list[str],
    value: Any,
    copied: dict[int, dict[str, Any]],
) -> None:
    """Set one path in `target`, which is ours to change.

    Args:
        copied: the objects below that are ours already, by identity: each is copied but once.
    """
    for token in tokens[:-1]:
        inner = target.get(token)
        if not isinstance(inner, dict):
            raise PatchError(f"{_clip(key)}: {_clip(token)} is not an object")
        if id(inner) not in copied:
            inner = dict(inner)
            copied[id(inner)] = inner
            target[token] = inner
        target = inner
    if value is None:
        target.pop(tokens[-1], None)
    else:
        target[tokens[-1]] = value
