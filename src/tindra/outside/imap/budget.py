"""How many octets of large messages all connections of a process hold together. No I/O, no clock.

A large literal is counted when it is announced, before it is read, until its message is stored; who
does not fit in reads no further, so that TCP holds the server back, and is called when it is its
turn: first come, first served. Nobody waits while holding a part of one message, and whoever holds
a whole one is storing it, so that there is always somebody who goes on. Small messages are not
counted: a connection holds few octets of them (`window`, sync/pull).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tindra.base import limits


class OctetBudget:
    """One for all connections of a process."""

    def __init__(self, octets_max: int = limits.LARGE_MESSAGES_HELD_BYTES_MAX) -> None:
        self._octets_max: Final = octets_max
        self._held = 0
        self._waiting: dict[object, tuple[int, Callable[[], None]]] = {}

    @property
    def held(self) -> int:
        """Octets counted now."""
        return self._held

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    def try_hold(self, who: object, octets: int, wake: Callable[[], None]) -> bool:
        """Count `octets`, which must be given back; False: that is done when `wake` is called.

        What is larger than the budget is let in alone.
        """
        self._waiting[who] = octets, wake
        is_first = next(iter(self._waiting)) is who
        if not (is_first and self._fits(octets)):
            return False
        del self._waiting[who]
        self._held += octets
        return True

    def give_back(self, octets: int) -> None:
        """They are held no more; the next ones are let in."""
        self._held -= octets
        assert self._held >= 0, "given back twice"
        self._admit()

    def forget(self, who: object) -> None:
        """It does not wait any more."""
        if self._waiting.pop(who, None) is not None:
            self._admit()

    def _fits(self, octets: int) -> bool:
        return self._held == 0 or self._held + octets <= self._octets_max

    def _admit(self) -> None:
        while self._waiting:
            who, (octets, wake) = next(iter(self._waiting.items()))
            if not self._fits(octets):
                return
            del self._waiting[who]
            self._held += octets
            wake()
