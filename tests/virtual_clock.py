"""Time and randomness for tests: the clock stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
START_MS = 1_790_000_000_000
"""In September 2026; any fixed moment would do."""


class VirtualClock:
    """A clock that only tests move."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self._now_ms = now_ms
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic_ms(self) -> int:
        return self._now_ms

    async def sleep_ms(self, duration_ms: int) -> None:
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now_ms + duration_ms, next(self._order), future))
        await future

    def advance(self, duration_ms: int) -> None:
        """Move time on and wake whoever slept until then."""
        self._now_ms += duration_ms
        while self._sleepers and self._sleepers[0][0] <= self._now_ms:
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)


class SeededRandom:
    """The same bits for the same seed."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)

    def bits(self, count: int) -> int:
        return self._random.getrandbits(count)


class InlineOffload:
    """Runs long work at once."""

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        return fn(*args)
