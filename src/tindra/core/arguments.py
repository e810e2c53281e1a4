"""Checks that every standard method makes on its arguments (RFC 8620 s3.6.2 invalidArguments)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from tindra.base import limits
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


def take_text(arguments: dict[str, Any], name: str) -> str | None:
    """A string (a state); None if absent or null. Raises invalidArguments."""
    value = arguments.get(name)
    if not isinstance(value, str | None):
        raise MethodError("invalidArguments", f"{name!r} must be a string or null")
    return value


def take_objects(
    arguments: dict[str, Any], name: str, is_create: bool = False
) -> dict[str, dict[str, Any]]:
    """A map to objects; empty if absent or null. Raises invalidArguments.

    Args:
        is_create: its keys are creation ids.
    """
    value = arguments.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MethodError("invalidArguments", f"{name!r} must be an object or null")
    for key, obj in value.items():
        if not isinstance(obj, dict):
            raise MethodError("invalidArguments", f"{name}/{key[:60]} must be an object")
        if is_create and not is_id(key):
            raise MethodError("invalidArguments", f"{key[:60]!r} is not a creation id")
    return value


def check_set_count(count: int) -> None:
    """Raises: MethodError requestTooLarge for more objects than one call may write."""
    if count > limits.OBJECTS_IN_SET_MAX:
        raise MethodError("requestTooLarge", f"over {limits.OBJECTS_IN_SET_MAX} objects")


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


def take_unsigned(arguments: dict[str, Any], name: str, at_least: int = 0) -> int | None:
    """As take_int, and not below `at_least`. Raises invalidArguments."""
    value = take_int(arguments, name)
    if value is not None and value < at_least:
        raise MethodError("invalidArguments", f"{name!r} must be {at_least} or more")
    return value
