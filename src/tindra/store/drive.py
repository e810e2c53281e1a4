"""Drives a transaction function to its end on the spot, for stores whose methods never suspend.

Invariant: nothing but store methods is awaited inside a transaction (core/ports.py); anything
else would suspend, and is refused here by name.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


def drive(awaitable: Awaitable[T], name: str) -> T:
    """The result of `awaitable`, which must end without suspending once.

    Raises: AssertionError naming the transaction if it awaited something outside the store;
    whatever it raises itself.
    """
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as stop:
        result: T = stop.value
        return result
    steps.close()
    raise AssertionError(f"transaction {name!r} awaited something outside the store")
