"""Checks that every standard method makes on its arguments (RFC 8620 s3.6.2 invalidArguments)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from tindra.base.ids import is_id
from tindra.core.errors import MethodError

NAMES_MAX: Final = 500
"""Properties asked for at once: far above any client; each is work for each object."""


def check_names(arguments: dict[str, Any], allowed: Iterable[str]) -> None:
    """Raises MethodError invalidArguments, naming an argument the method does not have."""
    unknown = arguments.keys() - set(allowed)
    if unknown:
        raise MethodError("invalidArguments", f"unknown argument {sorted(unknown)[0]!r}")


def take_ids(arguments: dict[str, Any], name: str, is_reference: bool = False) -> list[str] | None:
    """A list of ids without repeats, in the order given; None if absent or null.

    Args:
        is_reference: "#" and a creation id is welcome too.
    Raises: MethodError invalidArguments.
    """
    value = arguments.get(name)
    if value is None:
        return None
    if not isinstance(value, list):
        raise MethodError("invalidArguments", f"{name!r} must be a list of ids or null")
    for id in value:
        # Our own ids pass the first look; the second is for everything else.
        if type(id) is str and is_id(id):
            continue
        if not (is_reference and isinstance(id, str) and id[:1] == "#" and is_id(id[1:])):
            raise MethodError("invalidArguments", f"{name!r} holds {str(id)[:60]!r}: not an id")
    return list(dict.fromkeys(value))


def take_id(arguments: dict[str, Any], name: str) -> str | None:
    """One id; None if absent or null. Raises invalidArguments."""
    value = arguments.get(name)
    if value is not None and not (isinstance(value, str) and is_id(value)):
        raise MethodError("invalidArguments", f"{name!r} must be an id or null")
    return value


def take_names(arguments: dict[str, Any], name: str) -> list[str] | None:
    """A list of names without repeats; None if absent or null.

    Raises: MethodError invalidArguments; requestTooLarge for more than NAMES_MAX.
    """
    value = arguments.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise MethodError("invalidArguments", f"{name!r} must be a list of strings or null")
    if len(value) > NAMES_MAX:
        raise MethodError("requestTooLarge", f"{name!r} holds over {NAMES_MAX} names")
    return list(dict.fromkeys(value))


def take_bool(arguments: dict[str, Any], name: str) -> bool:
    """A boolean, false if absent. Raises invalidArguments."""
    value = arguments.get(name)
    if not isinstance(value, bool | None):
        raise MethodError("invalidArguments", f"{name!r} must be true or false")
    return value is True


def take_int(arguments: dict[str, Any], name: str, default: int | None = None) -> int | None:
    """An integer within +-2**53, or the default if absent or null. Raises invalidArguments."""
    value = arguments.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 2**53 - 1:
        raise MethodError("invalidArguments", f"{name!r} must be an integer")
    return value


def take_unsigned(arguments: dict[str, Any], name: str, default: int | None = None) -> int | None:
    """As take_int, and not negative. Raises invalidArguments."""
    value = take_int(arguments, name, default)
    if value is not None and value < 0:
        raise MethodError("invalidArguments", f"{name!r} must not be negative")
    return value
