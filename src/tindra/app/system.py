"""The real clock, the real random source and the real worker threads: the only ones there are."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
OFFLOAD_THREADS = 2
"""Long pure work shares the interpreter lock: more threads would only take turns more often."""


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """UTC milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """Milliseconds that never go back."""
        return time.monotonic_ns() // 1_000_000

    async def sleep_ms(self, duration_ms: int) -> None:
        """Wait on the loop."""
        await asyncio.sleep(duration_ms / 1000)


class SystemRandom:
    """The operating system's random source."""

    def bits(self, count: int) -> int:
        """Unpredictable bits."""
        return secrets.randbits(count)


class ThreadOffload:
    """Runs long pure work on a few threads so that the loop stays free."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(OFFLOAD_THREADS, thread_name_prefix="offload")

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        """Source: core.ports.Offload"""
        return await asyncio.get_running_loop().run_in_executor(self._pool, fn, *args)

    def close(self) -> None:
        """Let running work end."""
        self._pool.shutdown(wait=True)
