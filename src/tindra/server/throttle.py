"""Counts wrong passwords, and says who must wait before the next try.

Three counts, because each alone can be turned against someone: one login from one address (a
guesser), one address over all logins (a sprayer), one login over all addresses (many guessers at
once; ten times as high, so that a stranger cannot easily lock out a user). A sign-in that is still
remembered, and every token, stays usable throughout.
"""

from __future__ import annotations

from collections import OrderedDict

from tindra.base import limits
from tindra.base.clock import Clock

_WIDE_FACTOR = 10
"""Many people share one address, and many addresses may try one login."""
_KEYS_MAX = 20_000
"""Counters kept; the oldest go first. About 8 MB."""
_LOGIN_CHARS_MAX = 100
"""Of a login that are looked at: what strangers send is not kept whole."""

_Key = tuple[str, str]


class SignInThrottle:
    """Failures of the last SIGN_IN_WINDOW_MS."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: OrderedDict[_Key, tuple[int, int]] = OrderedDict()
        """key -> (failures, when the window ends)."""

    def wait_ms(self, login: str, address: str) -> int:
        """How long this login must wait at this address; 0 for not at all."""
        now = self._clock.monotonic_ms()
        waits = [0]
        for key, failures_max in _counters(login, address):
            count, until = self._failures.get(key, (0, 0))
            if count >= failures_max and now < until:
                waits.append(until - now)
        return max(waits)

    def count_failure(self, login: str, address: str) -> None:
        """Remember a wrong password."""
        now = self._clock.monotonic_ms()
        for key, _ in _counters(login, address):
            count, until = self._failures.pop(key, (0, 0))
            if now >= until:
                count, until = 0, now + limits.SIGN_IN_WINDOW_MS
            self._failures[key] = (count + 1, until)
        while len(self._failures) > _KEYS_MAX:
            self._failures.popitem(last=False)

    def forget(self, login: str, address: str) -> None:
        """The right password came: earlier slips of this login at this address are forgiven."""
        self._failures.pop((login[:_LOGIN_CHARS_MAX], address), None)


def _counters(login: str, address: str) -> list[tuple[_Key, int]]:
    few = limits.SIGN_IN_FAILURES_MAX
    login = login[:_LOGIN_CHARS_MAX]
    return [
        ((login, address), few),
        (("", address), few * _WIDE_FACTOR),
        ((login, ""), few * _WIDE_FACTOR),
    ]
