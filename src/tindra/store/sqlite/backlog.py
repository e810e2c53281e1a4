"""What waits in all accounts of an SqliteStore (port: app/ports.py).

The only statements that look across accounts, beside the sweep for due work; each stops at
BACKLOG_ROWS_MAX, and all run on a reader thread.
"""

from __future__ import annotations

from typing import Any

from tindra.model.backlog import BACKLOG_ROWS_MAX, Backlog, Tally, Waiting
from tindra.store.sqlite.connection import StoreConnection
from tindra.store.sqlite.store import SqliteStore

_MIRRORS = """-- every account: Connections by phase
SELECT json_extract(CAST(o.data AS TEXT), '$.phase'), count(*)
FROM account a CROSS JOIN object o ON o.account_id = a.account_id AND o.type_name = 'Connection'
GROUP BY 1"""
_OUTBOX = """-- every account: intents by topic
SELECT topic, count(*), min(due_ms) FROM (SELECT topic, due_ms FROM outbox LIMIT ?) GROUP BY 1"""
_TIMERS = "-- every account: the first timer\nSELECT min(due_ms) FROM timer"
_UNINDEXED = """-- every account: Emails above the watermarks of the search index
SELECT count(*) FROM (
  SELECT 1 FROM account a
  LEFT JOIN search.fts_account f ON f.account_id = a.account_id AND f.modseq <= a.modseq
  CROSS JOIN email e ON e.account_id = a.account_id
    AND (e.created_modseq, e.doc_id) > (coalesce(f.modseq, 0), coalesce(f.doc_id, 0))
  LIMIT ?)"""


class SqliteBacklog:
    """Counts what waits."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    async def load_backlog(self, now_ms: int) -> Backlog:
        """Everything at one moment. Cost: O(accounts), and O(rows that wait) up to the limit."""

        def run(conn: StoreConnection) -> Backlog:
            phases: Any = conn.execute(_MIRRORS)
            mirrors = dict(phases)
            topics: Any = conn.execute(_OUTBOX, (BACKLOG_ROWS_MAX,))
            outbox = {
                topic: Waiting(rows, max(0, now_ms - due_ms)) for topic, rows, due_ms in topics
            }
            timer_ms: Any = conn.execute(_TIMERS).get
            late_ms = 0 if timer_ms is None else max(0, now_ms - timer_ms)
            unindexed: Any = conn.execute(_UNINDEXED, (BACKLOG_ROWS_MAX,)).get
            return Backlog(mirrors, outbox, late_ms, unindexed)

        return await self._store.run_read(run, is_long=True)

    def list_tallies(self) -> dict[str, Tally]:
        """Transactions of this process by name."""
        return dict(self._store.tallies)
