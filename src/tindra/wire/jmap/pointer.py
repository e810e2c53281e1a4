"""JSON pointers with the JMAP `*`, and PatchObjects (RFC 6901, RFC 8620 s3.7 and s5.3).

Pure values in, pure values out; nothing is changed in place.
"""

from __future__ import annotations

from typing import Any

import msgspec


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
        raise PointerError(f"{text!r} does not start with '/'")
    tokens = text[1:].split("/")
    if "~" not in text:
        return tokens
    return [_unescape(token) for token in tokens]


def _unescape(token: str) -> str:
    for piece in token.split("~")[1:]:
        if not piece or piece[0] not in "01":
            raise PointerError(f"'~' must be followed by 0 or 1 in {token!r}")
    return token.replace("~1", "/").replace("~0", "~")


def resolve_pointer(document: Any, text: str) -> Any:
    """What `text` points at; `*` maps over an array and flattens one level.

    Values stored as `msgspec.Raw` are decoded on the way.
    Raises: PointerError.
    Source: RFC 8620 s3.7
    """
    return _resolve(document, parse_pointer(text), text)


def _resolve(value: Any, tokens: list[str], text: str) -> Any:
    for position, token in enumerate(tokens):
        if isinstance(value, msgspec.Raw):
            value = msgspec.json.decode(value)
        if isinstance(value, dict):
            if token not in value:
                raise PointerError(f"{text!r}: there is no {token!r}")
            value = value[token]
        elif isinstance(value, list):
            if token == "*":
                return _resolve_each(value, tokens[position + 1 :], text)
            if not token.isascii() or not token.isdigit() or (token[0] == "0" and token != "0"):
                raise PointerError(f"{text!r}: {token!r} is not an array index")
            if len(token) > 9 or int(token) >= len(value):
                raise PointerError(f"{text!r}: the array has no item {token}")
            value = value[int(token)]
        else:
            raise PointerError(f"{text!r}: {token!r} is inside a plain value")
    return msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value


def _resolve_each(items: list[Any], rest: list[str], text: str) -> list[Any]:
    found: list[Any] = []
    for item in items:
        value = _resolve(item, rest, text)
        if isinstance(value, list):
            found.extend(value)
        else:
            found.append(value)
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
    for key, tokens in paths.items():
        _apply_one(result, key, tokens, patch[key])
    return result


def check_no_prefix(paths: list[list[str]]) -> None:
    """Raises PatchError if one path is the beginning of another. Source: RFC 8620 s5.3"""
    ordered = sorted(paths)
    for first, second in zip(ordered, ordered[1:], strict=False):
        if second[: len(first)] == first:
            raise PatchError(f"'{'/'.join(first)}' is the beginning of '{'/'.join(second)}'")


def _apply_one(target: dict[str, Any], key: str, tokens: list[str], value: Any) -> None:
    for token in tokens[:-1]:
        inner = target.get(token)
        if not isinstance(inner, dict):
            raise PatchError(f"{key!r}: {token!r} is not an object")
        # Copy on the way down, so that the document given stays as it was.
        target[token] = inner = dict(inner)
        target = inner
    if value is None:
        target.pop(tokens[-1], None)
    else:
        target[tokens[-1]] = value
