"""The Store port over SQLite files: one for the data, one beside it for the search index.

Short reads run on the event loop's own thread and connection (a thread hop costs as much as reading
twenty rows), long ones on a few reader threads, writes on the one writer thread. Transaction
functions never suspend here (`store.drive`). What other parts of `store` need beyond the port is
in `run_read`, `run_write` and `run_search`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw

from tindra.base.ids import AccountId, ModSeq
from tindra.core.errors import Unavailable
from tindra.model.backlog import Tally
from tindra.model.stored import CommitInfo
from tindra.store.bounds import LONG_READERS
from tindra.store.drive import drive
from tindra.store.sqlite.connection import (
    CACHE_KIB,
    SIDE_CACHE_KIB,
    StoreConnection,
    as_unavailable,
    attach_search,
    open_main,
    open_search,
    unavailable,
)
from tindra.store.sqlite.invariants import check_account
from tindra.store.sqlite.reader import SqliteReader
from tindra.store.sqlite.schema import apply_migrations
from tindra.store.sqlite.secret_rows import SqliteSecretRows
from tindra.store.sqlite.tx import SqliteTx
from tindra.store.sqlite.writer import Undone, Writer

T = TypeVar("T")

SEARCH_FILE: Final = "search.db"
PROBE_BYTES: Final = 256 * 1024
"""Written to see whether a disk that was full takes anything again: more than a file may have
left in pages of its own."""


class SqliteStore:
    """All accounts in one SQLite file. Open it with `open`, on the event loop that will use it."""

    def __init__(self, path: Path, search_path: Path | None = None) -> None:
        self._path = path
        self._search_path = search_path or path.with_name(SEARCH_FILE)
        self._loop_conn: StoreConnection | None = None
        self._search_conn: apsw.Connection | None = None
        self._writer: Writer | None = None
        self._idle_readers: deque[StoreConnection] = deque()
        self._readers = ThreadPoolExecutor(LONG_READERS, "store-reader")
        self._search_thread = ThreadPoolExecutor(1, "store-search")
        self._data_version = -1
        self._seen: dict[AccountId, ModSeq] = {}
        self._loop = asyncio.get_running_loop()
        self._is_held = False
        self._states: dict[AccountId, Mapping[str, ModSeq]] = {}
        """States read on the loop's shared snapshot."""
        self.secret_rows = SqliteSecretRows(self)
        self.tallies: dict[str, Tally] = {}
        """Committed transactions by name."""
        self.on_commit: Callable[[CommitInfo], None] | None = None
        """Called on the loop for every commit, even one whose caller was cancelled."""

    @classmethod
    async def open(cls, path: Path | str, search_path: Path | str | None = None) -> SqliteStore:
        """Open or create the database at `path`; its folder must exist.

        Args:
            search_path: the search index; None for `search.db` beside the data.
        Raises: ForeignFile when the file is another program's or a newer Tindra's; Unavailable.
        """
        store = cls(Path(path), Path(search_path) if search_path is not None else None)
        try:
            store._open()
        except BaseException:  # whatever it is, no thread and no file is left open
            await store.close()
            raise
        return store

    def _open(self) -> None:
        with unavailable():
            first = open_main(self._path)
            try:
                apply_migrations(first)
            finally:
                first.close()
            self._search_conn = open_search(self._search_path)
            self._loop_conn = self._connect_reader(CACHE_KIB)
            for _ in range(LONG_READERS):
                self._idle_readers.append(self._connect_reader(SIDE_CACHE_KIB))
            self._writer = Writer(self._connect)
            self._data_version = self._writer.data_version
            self._seen = _load_modseqs(self._loop_conn)

    def _connect(self, cache_kib: int = CACHE_KIB) -> StoreConnection:
        conn = open_main(self._path, cache_kib)
        attach_search(conn, self._search_path)
        return conn

    def _connect_reader(self, cache_kib: int) -> StoreConnection:
        conn = self._connect(cache_kib)
        conn.pragma("query_only", True)
        return conn

    # -- the port ---------------------------------------------------------------------------------
    async def read(
        self,
        account_id: AccountId,
        fn: Callable[[SqliteReader], Awaitable[T]],
        *,
        is_long: bool = False,
    ) -> T:
        """Run `fn` on a consistent view. Raises: Unavailable; whatever `fn` raises."""

        def run(conn: StoreConnection) -> T:
            states = None if is_long else self._states
            return drive(fn(SqliteReader(conn, account_id, states)), "read")

        return await self.run_read(run, is_long=is_long)

    async def write(
        self,
        account_id: AccountId,
        name: str,
        fn: Callable[[SqliteTx], Awaitable[T]],
        *,
        epoch: int = 0,
        first: Callable[[StoreConnection], None] | None = None,
    ) -> tuple[T, CommitInfo]:
        """Run `fn` in a write transaction; return when it is durable.

        Args:
            epoch: the fence of a leased worker (docs/data.md rule 2); 0 without leases.
            first: statements of other parts of `store` that are to be in the same commit.
        Raises: Conflict; StoreError for an unknown account; Unavailable; whatever `fn` raises.
        """

        def run(conn: StoreConnection) -> tuple[T, CommitInfo]:
            if first is not None:
                first(conn)
            tx = SqliteTx(conn, account_id)
            tx.begin(epoch)
            result = drive(fn(tx), name)
            info = tx.finish()
            if info is None:
                raise Undone((result, CommitInfo(account_id, ModSeq(tx.modseq - 1), {})))
            return result, info

        began_s = time.perf_counter()
        outcome = await self._need_writer().run(run, self._note_commit)
        before = self.tallies.get(name, Tally(0, 0.0))
        seconds = before.seconds + time.perf_counter() - began_s
        self.tallies[name] = Tally(before.commits + 1, seconds)
        return outcome

    def _note_commit(self, outcome: tuple[Any, CommitInfo]) -> None:
        info = outcome[1]
        if self._seen.get(info.account_id, ModSeq(0)) == info.modseq - 1:
            self._seen[info.account_id] = info.modseq
        # else another process wrote before: poll_changes must still report it
        if self.on_commit is not None:
            self.on_commit(info)

    async def list_due(self, now_ms: int, limit: int, topic: str | None = None) -> list[AccountId]:
        """Accounts with a timer or an outbox row due at or before `now_ms`, the longest due first.

        Cost: O(rows that are due).
        """

        def run(conn: StoreConnection) -> list[AccountId]:
            rows: Any = conn.execute(
                "-- every account: the sweep that finds accounts with work due\n"
                "SELECT account_id FROM (SELECT account_id, due_ms FROM timer WHERE due_ms <= ?1"
                " UNION ALL SELECT account_id, due_ms FROM outbox WHERE due_ms <= ?1"
                " AND (?3 IS NULL OR topic = ?3))"
                " WHERE account_id NOT IN (SELECT account_id FROM erasing)"
                " GROUP BY account_id ORDER BY min(due_ms), account_id LIMIT ?2",
                (now_ms, limit, topic),
            )
            return [account_id for (account_id,) in rows]

        return await self.run_read(run)

    async def check_invariants(self, account_id: AccountId) -> None:
        """Counters equal recounts, no orphan rows, modseqs ordered. Raises: AssertionError."""
        await self.run_read(lambda conn: check_account(conn, account_id), is_long=True)

    async def poll_changes(self) -> list[CommitInfo]:
        """Commits made by other processes since the last call, as far as their accounts live.

        Cost: a look at one number; only when another process did commit, O(accounts) beside the
        loop.
        """
        version = await self._need_writer().load_data_version()
        if version == self._data_version:
            return []
        infos = await self.run_read(self._load_moved, is_long=True)
        self._data_version = version
        for id, modseq in ((info.account_id, info.modseq) for info in infos):
            self._seen[id] = max(self._seen.get(id, modseq), modseq)
        return infos

    def _load_moved(self, conn: StoreConnection) -> list[CommitInfo]:
        """Accounts that are further than was seen; what this process commits meanwhile may be told
        of twice."""
        newest = _load_modseqs(conn).items()
        moved = [(id, modseq) for id, modseq in newest if modseq > self._seen.get(id, 0)]
        return [_load_info(conn, id, modseq) for id, modseq in moved]

    async def find_trouble(self) -> str | None:
        """Why nothing can be written; None while it can. Costs nothing while all goes well.

        After a failure of the disk or the file it is tried out, with a row that needs room.
        """
        writer = self._need_writer()
        if writer.trouble is not None:
            try:
                await self.run_write(
                    lambda conn: (
                        conn.execute(
                            "-- directory: does the disk take anything\n"
                            "INSERT OR REPLACE INTO meta (key, value)"
                            " VALUES ('probe', zeroblob(?))",
                            (PROBE_BYTES,),
                        ).get
                    )
                )
                await self.run_write(
                    lambda conn: (
                        conn.execute(
                            "-- directory: the probe\nDELETE FROM meta WHERE key = 'probe'"
                        ).get
                    )
                )
            except Unavailable as error:
                return str(error)
            writer.trouble = None
        return None

    async def close(self) -> None:
        """Finish what is queued, then close."""
        if self._writer is not None:
            await self._writer.close()
        await asyncio.to_thread(self._readers.shutdown)
        await asyncio.to_thread(self._search_thread.shutdown)
        while self._idle_readers:
            self._idle_readers.pop().close()
        if self._loop_conn is not None:
            self._release()
            self._loop_conn.close()
            self._loop_conn = None
        if self._search_conn is not None:
            self._search_conn.close()
            self._search_conn = None

    # -- for the rest of store/ -------------------------------------------------------------------
    async def trim_changes(self, account_id: AccountId, upto: ModSeq) -> None:
        """Forget tombstones at or below `upto`; states that needed them become StateTooOld.

        The last ones of each type stay, to tell which states these are. Cost: O(tombstones).
        """

        def run(conn: StoreConnection) -> None:
            conn.execute(
                "UPDATE account SET floor_modseq = max(floor_modseq, min(?, modseq))"
                " WHERE account_id = ?",
                (upto, account_id),
            )
            conn.execute(
                "DELETE FROM tombstone WHERE account_id = ?1 AND modseq < (SELECT max(t.modseq)"
                " FROM tombstone t WHERE t.account_id = ?1 AND t.type_name = tombstone.type_name"
                " AND t.modseq <= (SELECT floor_modseq FROM account WHERE account_id = ?1))",
                (account_id,),
            )
            for sql in (
                "DELETE FROM email_move WHERE account_id = ?1 AND modseq <="
                " (SELECT floor_modseq FROM account WHERE account_id = ?1)",
                "DELETE FROM mailbox_share WHERE account_id = ?1 AND rights = '[]'"
                " AND changed_modseq <= (SELECT floor_modseq FROM account WHERE account_id = ?1)",
            ):
                conn.execute(sql, (account_id,))

        await self.run_write(run)

    async def run_read(self, fn: Callable[[StoreConnection], T], *, is_long: bool = False) -> T:
        """Run plain statements on a snapshot: on the loop, or on a reader thread if `is_long`."""
        if not is_long:
            return self._read_now(fn)
        self._need_loop_conn()
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._run_long, fn)

    def _read_now(self, fn: Callable[[StoreConnection], T]) -> T:
        """Read on the loop. All reads of one step of the loop share a snapshot, and what was read
        of states: a request of six method calls is one transaction, not six."""
        conn = self._need_loop_conn()
        try:
            if not self._is_held:
                conn.execute("BEGIN")
                self._is_held = True
                # Before anyone who waits for a commit runs again: they queue up behind it.
                self._loop.call_soon(self._release)
            return fn(conn)
        except apsw.Error as error:
            self._release()
            raise as_unavailable(error) from error

    def _release(self) -> None:
        """End the shared snapshot."""
        if self._is_held and self._loop_conn is not None:
            self._is_held = False
            self._states.clear()
            _end(self._loop_conn)

    def _run_long(self, fn: Callable[[StoreConnection], T]) -> T:
        conn = self._idle_readers.pop()
        try:
            return _snapshot(conn, fn)
        finally:
            self._idle_readers.append(conn)

    async def run_write(self, fn: Callable[[StoreConnection], T]) -> T:
        """Run plain statements in the writer's group commit, outside any account's change log.

        The first statement must be a write (see Writer).
        """
        return await self._need_writer().run(fn)

    async def run_search(self, fn: Callable[[apsw.Connection], T]) -> T:
        """Run `fn` in a write transaction on the search file, on its own thread."""
        self._need_loop_conn()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._search_thread, self._write_search, fn)

    def _write_search(self, fn: Callable[[apsw.Connection], T]) -> T:
        conn = self._search_conn
        if conn is None:
            raise Unavailable("the store is closed")
        with unavailable():
            conn.execute("BEGIN IMMEDIATE")
            try:
                result = fn(conn)
                conn.execute("COMMIT")
            finally:
                if conn.in_transaction:
                    conn.execute("ROLLBACK")
        return result

    def _need_loop_conn(self) -> StoreConnection:
        if self._loop_conn is None:
            raise Unavailable("the store is closed")
        return self._loop_conn

    def _need_writer(self) -> Writer:
        if self._writer is None:
            raise Unavailable("the store is closed")
        return self._writer


def _snapshot(conn: StoreConnection, fn: Callable[[StoreConnection], T]) -> T:
    """Run `fn` in one read transaction."""
    try:
        conn.execute("BEGIN")
        try:
            return fn(conn)
        finally:
            _end(conn)
    except apsw.Error as error:
        raise as_unavailable(error) from error


def _end(conn: StoreConnection) -> None:
    """End a read transaction. After some failures SQLite has already done so, and an error about
    that would hide the one that matters."""
    if conn.in_transaction:
        conn.execute("COMMIT")


def _load_modseqs(conn: StoreConnection) -> dict[AccountId, ModSeq]:
    rows: Any = conn.execute(
        "-- every account: what other processes wrote since the last look\n"
        "SELECT account_id, modseq FROM account"
    )
    return dict(rows)


def _load_info(conn: StoreConnection, account_id: AccountId, modseq: ModSeq) -> CommitInfo:
    states: Any = conn.execute(
        "SELECT type_name, modseq FROM type_state WHERE account_id = ?", (account_id,)
    )
    return CommitInfo(account_id, modseq, dict(states))
