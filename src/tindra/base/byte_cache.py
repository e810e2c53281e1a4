"""A bounded cache of bytes that never change, such as rendered immutable parts of Emails."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from tindra.base.limits import MIB

CACHE_BYTES_MAX: Final = 32 * MIB
"""Enough for the list view of some 60,000 Emails."""
_ENTRY_BYTES = 250
"""What the dictionary itself takes for an entry, roughly."""


class ByteCache:
    """Two generations: what is used again survives, what is not is dropped in one stroke.

    No bookkeeping on a hit in the young generation, which is the hot path.
    """

    def __init__(self, bytes_max: int = CACHE_BYTES_MAX) -> None:
        self._young: dict[Hashable, bytes] = {}
        self._old: dict[Hashable, bytes] = {}
        self._bytes = 0
        self._half = bytes_max // 2

    def get(self, key: Hashable) -> bytes | None:
        """The bytes under `key`, if they are still held."""
        found = self._young.get(key)
        if found is None and (found := self._old.get(key)) is not None:
            self.put(key, found)
        return found

    def put(self, key: Hashable, value: bytes) -> None:
        """Hold `value`; it must be equal to what was put under `key` before, if anything was."""
        self._young[key] = value
        self._bytes += len(value) + _ENTRY_BYTES
        if self._bytes > self._half:
            self._old, self._young, self._bytes = self._young, {}, 0
