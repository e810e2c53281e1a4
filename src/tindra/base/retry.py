"""When to try again: exponential waits with jitter, reset only by proven survival."""

from __future__ import annotations

from tindra.base.ids import RandomSource

WAIT_MS_MIN = 1_000
WAIT_MS_MAX = 300_000
"""Five minutes: a person who fixed the cause will not wait longer."""


def decide_wait_ms(tries: int, random: RandomSource) -> int:
    """How long to wait after the `tries`th failure in a row (1 is the first).

    Doubles from one second to five minutes, then takes a random half off, so that a thousand
    accounts that failed together do not come back together.
    """
    ceiling = min(WAIT_MS_MIN << min(tries - 1, 20), WAIT_MS_MAX)
    return ceiling // 2 + random.bits(32) % (ceiling // 2 + 1)
