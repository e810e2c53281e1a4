"""What /metrics shows of the rooms behind the server: mirrors, intents, timers, index, disk."""

from __future__ import annotations

from collections.abc import Mapping

from tindra.app.disk import DiskWatch
from tindra.app.ports import BacklogCounter
from tindra.base.clock import Clock
from tindra.server.metrics import Reading


class Readings:
    """Reads the gauges when somebody looks; between two looks they cost nothing."""

    def __init__(
        self, store: BacklogCounter, disk: DiskWatch, clock: Clock, pushes: Mapping[str, int]
    ) -> None:
        """
        Args:
            pushes: how many messages to push services ended how.
        """
        self._store = store
        self._disk = disk
        self._clock = clock
        self._pushes = pushes

    async def load(self) -> list[Reading]:
        """Every reading. Raises: Unavailable."""
        backlog = await self._store.load_backlog(self._clock.now_ms())
        readings = [
            Reading("tindra_timers_late_seconds", (), backlog.timers_late_ms / 1000),
            Reading("tindra_index_waiting_emails", (), backlog.unindexed),
        ]
        for phase, count in backlog.mirrors.items():
            readings.append(Reading("tindra_mirrors", (phase,), count))
        for topic, waiting in backlog.outbox.items():
            readings.append(Reading("tindra_outbox_intents", (topic,), waiting.rows))
            late_s = waiting.late_ms / 1000
            readings.append(Reading("tindra_outbox_late_seconds", (topic,), late_s))
        for folder, free in self._disk.load_free_bytes().items():
            readings.append(Reading("tindra_disk_free_bytes", (folder,), free))
        for name, tally in self._store.list_tallies().items():
            readings.append(Reading("tindra_transactions_total", (name,), tally.commits))
            readings.append(Reading("tindra_transaction_seconds_total", (name,), tally.seconds))
        for outcome, count in self._pushes.items():
            readings.append(Reading("tindra_pushes_total", (outcome,), count))
        return readings
