"""Opens SQLite connections the way the store needs them, and names what can go wrong with them.

Main file: WAL, synchronous=FULL, so a commit that returned is on disk (docs/data.md rule 4). The
search file is attached as `search` where queries run; it can be rebuilt, so it is only
synchronous=NORMAL.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import apsw
import apsw.bestpractice

from tindra.core.errors import DiskFull, StoreError, Unavailable
from tindra.store.sqlite.schema import APPLICATION_ID, ForeignFile

_LOG = logging.getLogger(__name__)

PAGE_BYTES: Final = 8192
"""Large enough that neighbouring Email rows share a page, small enough for cheap commits."""
BUSY_TIMEOUT_MS: Final = 5_000
"""How long to wait for another process's write lock before the store is Unavailable."""
CACHE_KIB: Final = 64 * 1024
"""Page cache of the loop's and the writer's connection, each."""
SIDE_CACHE_KIB: Final = 16 * 1024
"""Page cache of each long-read connection and of the search writer."""
STATEMENTS_CACHED_MAX: Final = 512
"""Prepared statements a connection keeps: more than the store has, with room for query shapes."""
WAL_KEPT_BYTES: Final = 64 * 1024 * 1024
"""A WAL that grew larger than this in one burst is cut back after its checkpoint."""

STEPS_PER_TICK: Final = 1_000_000
"""Virtual machine steps between two looks at the bound of a query."""
STEPS_PER_ROW: Final = 32
"""What looking at one row costs in steps, with a few conditions on it."""

SEARCH_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS fts_account (
  account_id TEXT NOT NULL PRIMARY KEY,
  n INTEGER NOT NULL UNIQUE,                -- says where its rows are: search_table.py
  modseq INTEGER NOT NULL DEFAULT 0,        -- watermark: created_modseq ...
  doc_id INTEGER NOT NULL DEFAULT 0,        -- ... and doc_id of the last Email indexed
  removed_modseq INTEGER NOT NULL DEFAULT 0,
  removed_id TEXT NOT NULL DEFAULT ''       -- the last tombstone whose Email was forgotten
) STRICT, WITHOUT ROWID;
"""

_UNAVAILABLE: Final = (
    apsw.BusyError,
    apsw.CantOpenError,
    apsw.ConnectionClosedError,
    apsw.CorruptError,
    apsw.FullError,
    apsw.IOError,
    apsw.LockedError,
    apsw.NoMemError,
    apsw.NotADBError,
    apsw.PermissionsError,
    apsw.ProtocolError,
    apsw.ReadOnlyError,
    apsw.TooBigError,
)
"""The machine's fault, not the caller's."""


class StoreConnection(apsw.Connection):
    """A connection that can bound how much one statement looks at."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), statementcachesize=STATEMENTS_CACHED_MAX)
        self._ticks_left = math.inf
        self.set_progress_handler(self._tick, STEPS_PER_TICK)

    def _tick(self) -> bool:
        self._ticks_left -= 1
        return self._ticks_left < 0

    @contextlib.contextmanager
    def bounded(self, rows_max: int) -> Iterator[None]:
        """Let statements look at about `rows_max` rows, then fail with apsw.InterruptError."""
        self._ticks_left = 1 + rows_max * STEPS_PER_ROW // STEPS_PER_TICK
        try:
            yield
        finally:
            self._ticks_left = math.inf


@contextlib.contextmanager
def unavailable() -> Iterator[None]:
    """Turn the machine's failures (disk full, I/O, lock) into Unavailable."""
    try:
        yield
    except _UNAVAILABLE as error:
        raise as_unavailable(error) from error


def as_unavailable(error: BaseException) -> BaseException:
    """`error` as Unavailable if it is the machine's fault, else itself."""
    if isinstance(error, apsw.FullError):
        return DiskFull("the disk is full")
    if isinstance(error, _UNAVAILABLE):
        return Unavailable(f"{type(error).__name__}: {error}")
    return error


def open_main(path: Path, cache_kib: int = CACHE_KIB) -> StoreConnection:
    """A connection to the main file, which is created if absent.

    Raises: ForeignFile if it is no SQLite database; Unavailable.
    """
    with unavailable():
        conn = StoreConnection(path)
    try:
        _prepare(conn, "FULL", cache_kib)
    except apsw.NotADBError as error:
        conn.close()
        raise ForeignFile(f"{path.name} is not a database") from error
    except apsw.Error as error:
        conn.close()
        raise as_unavailable(error) from error
    return conn


def _prepare(conn: apsw.Connection, synchronous: str, cache_kib: int) -> None:
    conn.set_busy_timeout(BUSY_TIMEOUT_MS)
    apsw.bestpractice.connection_dqs(conn)
    conn.pragma("page_size", PAGE_BYTES)
    if conn.pragma("journal_mode", "wal") not in ("wal", "memory"):
        raise Unavailable("this file system cannot keep the database in WAL mode")
    conn.pragma("synchronous", synchronous)
    conn.pragma("journal_size_limit", WAL_KEPT_BYTES)
    conn.pragma("cache_size", -cache_kib)
    conn.pragma("temp_store", "memory")
    conn.pragma("trusted_schema", False)


def attach_search(conn: apsw.Connection, search_path: Path) -> None:
    """Let queries on `conn` reach the search index as schema `search`."""
    with unavailable():
        conn.execute("ATTACH DATABASE ? AS search", (str(search_path),))
        conn.execute("PRAGMA search.synchronous = NORMAL")
        conn.execute(f"PRAGMA search.cache_size = -{SIDE_CACHE_KIB}")


def open_search(path: Path) -> apsw.Connection:
    """The connection that writes the search file; a missing or broken file starts empty."""
    for attempt in range(2):
        conn = None
        try:
            conn = apsw.Connection(str(path), statementcachesize=STATEMENTS_CACHED_MAX)
            _prepare(conn, "NORMAL", SIDE_CACHE_KIB)
            conn.execute(SEARCH_SCHEMA)
            if conn.pragma("application_id") != APPLICATION_ID:
                # Not for nothing: on a full disk it must still be possible to look.
                conn.pragma("application_id", APPLICATION_ID)
            return conn
        except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError) as error:
            if conn is not None:
                conn.close()
            if attempt:
                raise Unavailable(f"the search index cannot be made: {error}") from error
            _LOG.warning("the search index is broken and starts anew: %s", error)
            _remove(path)
        except apsw.Error as error:
            raise as_unavailable(error) from error
    raise StoreError("unreachable")


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
