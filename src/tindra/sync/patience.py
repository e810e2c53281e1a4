"""What waits after a failure, and for how long; outlives sessions, not the process.

How often the provider *refused* an intent is counted in the store, because after so many times it
is given up. What broke a session is only counted here: the network is no reason to give up, but
such intents go alone from then on, and later, so that one that breaks every session holds up
nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from tindra.base.ids import ModSeq, RandomSource
from tindra.base.retry import decide_wait_ms
from tindra.model.stored import OutboxRow
from tindra.sync.filing import FilingPace
from tindra.sync.poison import PoisonWatch

REFUSED_HEAD_START: Final = 3
"""A refusal waits as long as this many failures more would: it rarely changes within seconds."""


PARKED_MS: Final = 24 * 3_600_000
"""Messages that were left out because they broke something are tried again so often."""


GAP_MS_MAX: Final = 3_600_000
"""So much of the time between two processes counts: a restart costs nothing of the day, and a wrong
clock gives nothing to it."""


class Pace(msgspec.Struct, frozen=True):
    """How patient a mirror is; other values are for tests."""

    poll_ms: int = 60_000
    """How often all mailboxes are asked whether anything changed."""
    idle_ms: int = 24 * 60_000
    """Servers may hang up after 30 minutes of silence (RFC 2177 s3)."""
    ghost_ms: int = 15_000
    """How long mail that vanished may take to turn up elsewhere before it is destroyed."""
    brake_ms: int = 24 * 3600 * 1000
    """The same where most mail of the account vanished: a person must be able to see and cure it,
    and an empty or lying provider takes nothing away (sync/vanish)."""
    tell_ms: int = 500
    """Progress is written at most this often: each writing wakes every device."""
    proven_ms: int = 300_000
    """A session that lived this long was healthy: failures are counted anew."""
    filing: FilingPace = FilingPace()
    """How long to wait for copies of sent mail that the provider files itself."""
    quota_ms: int = 15 * 60_000
    """How often the provider is asked what room is left: a mailbox is full for days, and every
    new answer wakes every device."""
    poison_ms: int = 600_000
    """A message that cannot be fetched, while nothing else was, is left out only after so long."""
    rest_ms_max: int | None = None
    """No pause after a failure is longer; None: as the retry policy says."""


class BackfillGate:
    """Lets so many accounts of a process backfill at a time: each holds messages in memory.

    Nobody waits inside: who is not let in goes on with other work and is called when it is his
    turn. First come, first served.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: dict[object, Callable[[], None]] = {}

    def try_enter(self, who: object, wake: Callable[[], None]) -> bool:
        """Whether `who` is in, and then must `leave`; else it is called once it may try again."""
        self._waiting.setdefault(who, wake)
        if self._free <= list(self._waiting).index(who):
            return False
        del self._waiting[who]
        self._free -= 1
        return True

    def leave(self) -> None:
        """Let the next ones in."""
        self._free += 1
        self._call()

    def forget(self, who: object) -> None:
        """It does not want to enter any more."""
        if self._waiting.pop(who, None) is not None:
            self._call()

    def _call(self) -> None:
        for wake in list(self._waiting.values())[: self._free]:
            wake()


class BrakeClock:
    """Milliseconds for which mail was held back in this account; outlives sessions.

    Args:
        stored: `brake` of the Connection.
    """

    def __init__(self, stored: Mapping[str, Any] | None, now_ms: int, monotonic_ms: int) -> None:
        stored = stored or {}
        gap_ms = now_ms - stored.get("notedMs", now_ms)
        self._base_ms: int = stored.get("clockMs", 1) + min(max(gap_ms, 0), GAP_MS_MAX)
        self._from_ms = monotonic_ms
        self.confirmed_ms: int = stored.get("confirmedMs", 0)
        """What was held back until then was really removed: somebody said so. 0: nobody did."""

    def read_ms(self, monotonic_ms: int) -> int:
        """The time on it: at least 1."""
        return max(self._base_ms + monotonic_ms - self._from_ms, self.confirmed_ms + 1)


class Patience:
    """The waiting room."""

    def __init__(
        self, random: RandomSource, pace: Pace | None = None, gate: BackfillGate | None = None
    ) -> None:
        self.pace = pace or Pace()
        self.gate = gate or BackfillGate(1)
        """Shared by the mirrors of a process."""
        self._random = random
        self._until: dict[str, tuple[ModSeq, int]] = {}
        self._breaks: dict[str, int] = {}
        self._parked_ms: int | None = None
        self.refusals: dict[str, tuple[int, int]] = {}
        """Mailbox id -> (how often in a row it was refused, until when it is left alone)."""
        self.problems: dict[tuple[str, str], str] = {}
        """(Mailbox id, what we were doing) -> what the provider said."""
        self.brake = BrakeClock(None, 0, 0)
        self.poison = PoisonWatch(self.pace.poison_ms)
        self.vanished: dict[tuple[str, int], int] = {}
        """(Mailbox id, uid) of mail that vanished -> when that was first seen, in any session."""

    @property
    def count(self) -> int:
        """How many wait."""
        return len(self._until)

    def is_parked_due(self, now_ms: int) -> bool:
        """Whether to try messages again that were left out: first of all, then once a day."""
        if self._parked_ms is not None and now_ms - self._parked_ms < PARKED_MS:
            return False
        self._parked_ms = now_ms
        return True

    def find_ready(self, rows: Sequence[OutboxRow], now_ms: int) -> list[OutboxRow]:
        """Those that need not wait (any more): after a new act of a device nothing waits."""
        return [row for row in rows if not self._is_waiting(row, now_ms)]

    def _is_waiting(self, row: OutboxRow, now_ms: int) -> bool:
        modseq, until_ms = self._until.get(row.key, (row.modseq, 0))
        return modseq == row.modseq and until_ms > now_ms

    def find_next_ms(self, looked_ms: int) -> int | None:
        """When the first of those is due that still had to wait when all were looked at."""
        waiting = (until_ms for _, until_ms in self._until.values() if until_ms > looked_ms)
        return min(waiting, default=None)

    def note_refusal(self, row: OutboxRow, now_ms: int) -> None:
        """The provider said no."""
        tries = row.tries + 1 + REFUSED_HEAD_START
        self._until[row.key] = row.modseq, now_ms + decide_wait_ms(tries, self._random)

    def note_break(self, rows: Iterable[OutboxRow], now_ms: int) -> None:
        """The session broke while these were told to the provider."""
        for row in rows:
            breaks = self._breaks[row.key] = self._breaks.get(row.key, 0) + 1
            if breaks > 1:
                wait_ms = decide_wait_ms(breaks, self._random)
                self._until[row.key] = row.modseq, now_ms + wait_ms

    def note_held(self, row: OutboxRow, until_ms: int) -> None:
        """It is not time for it yet."""
        self._until[row.key] = row.modseq, until_ms

    def has_broken(self, row: OutboxRow) -> bool:
        """Whether a session broke over it."""
        return row.key in self._breaks

    def forget(self, rows: Iterable[OutboxRow]) -> None:
        """They are done."""
        for row in rows:
            self._until.pop(row.key, None)
            self._breaks.pop(row.key, None)
