"""What waits in an installation: figures for those who watch it. No mail, no names of people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

BACKLOG_ROWS_MAX: Final = 100_000
"""More is not counted: the figure says enough, and counting must cost nobody anything."""


class Waiting(NamedTuple):
    """Intents of one topic for the world outside."""

    rows: int
    late_ms: int
    """How long ago the first of them was due; 0 when none is."""


class Backlog(NamedTuple):
    """What waits in all accounts together."""

    mirrors: Mapping[str, int]
    """Phase -> how many Connections are in it."""
    outbox: Mapping[str, Waiting]
    """Topic -> what waits."""
    timers_late_ms: int
    """How long ago the first timer that has not run was due; 0 when none is."""
    unindexed: int
    """Emails that the search index does not have yet."""


class Tally(NamedTuple):
    """Transactions of one name, since the start."""

    commits: int
    seconds: float
    """Together, from asking to being durable."""
