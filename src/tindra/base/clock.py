"""Time and randomness as protocols; the real ones live in `app`, virtual ones in the tests.

Time inside Tindra is always UTC in integer milliseconds; text dates exist only in `wire`.
"""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """The wall clock and the monotonic clock; nothing else may ask the system for time."""

    def now_ms(self) -> int:
        """UTC milliseconds since 1970; may step when the machine's clock is set."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds since an arbitrary point; never goes back."""
        ...

    async def sleep_ms(self, duration_ms: int) -> None:
        """Wait; a virtual clock wakes the sleeper when it is moved past the moment."""
        ...
