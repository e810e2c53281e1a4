"""The one writer thread: a bounded queue, group commit, and nothing half done.

It takes what is queued, runs each job in a savepoint of one SQL transaction, commits once, and
then answers everybody on the event loop. While it waits for the disk the next group gathers, so
the busier the store, the more transactions share an fsync.

Invariants: a job is answered only after the commit it is part of; a job that fails rolls back only
itself; when the commit fails every job of the group fails as Unavailable and none is half done.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

import apsw

from tindra.base.limits import GROUP_COMMIT_TXS_MAX, WRITE_QUEUE_TXS_MAX
from tindra.core.errors import Unavailable
from tindra.store.sqlite.connection import StoreConnection, as_unavailable

T = TypeVar("T")
_LOG: Final = logging.getLogger(__name__)


class Undone(Exception):
    """Raised by a job that wants its savepoint rolled back and still has a result."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result


class _Job(NamedTuple):
    run: Callable[[StoreConnection], Any]
    answer: asyncio.Future[Any]
    on_commit: Callable[[Any], None] | None
    is_look: bool = False
    """It only reads, outside the transaction of its group."""


class _Outcome(NamedTuple):
    job: _Job
    result: Any
    error: BaseException | None
    is_written: bool


class Writer:
    """Runs jobs on one thread with its own connection. Made and used on the event loop's thread."""

    def __init__(self, connect: Callable[[], StoreConnection]) -> None:
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._is_closed = False
        self._conn = connect()
        self.data_version = _read_data_version(self._conn)
        """When this was opened; see `load_data_version`."""
        self.trouble: str | None = None
        """Why the disk or the file last refused a write; whoever tries with success clears it."""
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    async def run(
        self, job: Callable[[StoreConnection], T], on_commit: Callable[[T], None] | None = None
    ) -> T:
        """The result of `job`, durable. A cancelled caller does not stop the job.

        Args:
            on_commit: called on the loop with the result of a job that wrote something, whether
                or not its caller still waits.
        Raises: Unavailable; whatever `job` raises, which undoes it.
        """
        if self._is_closed:
            raise Unavailable("the store is closed")
        if self._queue.qsize() >= WRITE_QUEUE_TXS_MAX:
            raise Unavailable("too many transactions are waiting")
        answer: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Job(job, answer, on_commit))
        return await answer

    async def load_data_version(self) -> int:
        """A number that changes when another process has committed, and only then: it is this
        connection's, whose own commits do not count. Raises: Unavailable."""
        if self._is_closed:
            raise Unavailable("the store is closed")
        answer: asyncio.Future[int] = self._loop.create_future()
        self._queue.put(_Job(_read_data_version, answer, None, is_look=True))
        return await answer

    async def close(self) -> None:
        """Finish what is queued, then stop the thread and close its connection."""
        if not self._is_closed:
            self._is_closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    # -- on the writer thread ---------------------------------------------------------------------
    def _run(self) -> None:
        while self._run_next():
            # Nothing of a job is held while the next one is waited for: it may be a large message.
            pass
        self._conn.close()

    def _run_next(self) -> bool:
        """Wait for jobs and commit them; False when there will be no more."""
        jobs = [self._queue.get()]
        while len(jobs) < GROUP_COMMIT_TXS_MAX and not self._queue.empty():
            jobs.append(self._queue.get())
        self._commit([job for job in jobs if job is not None])
        return None not in jobs

    def _commit(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        try:
            outcomes = self._run_group(jobs)
        except Exception as error:  # the boundary of the thread: it must outlive any failure
            failure = as_unavailable(error)
            if not isinstance(failure, Unavailable):
                failure = Unavailable(f"the commit failed: {error}")
            failure.__cause__ = error
            self.trouble = str(failure)
            _LOG.error("a group of %d transactions was not committed: %s", len(jobs), error)
            self._recover()
            outcomes = [_Outcome(job, None, failure, is_written=False) for job in jobs]
        try:
            self._loop.call_soon_threadsafe(_answer, outcomes)
        except RuntimeError:
            _LOG.warning("%d transactions ended after their event loop", len(jobs))

    def _run_group(self, jobs: list[_Job]) -> list[_Outcome]:
        """Run and commit. Not BEGIN IMMEDIATE: that would lock the attached search file as well;
        the first statement of every job is a write, which takes the lock of the main file."""
        looks = [job for job in jobs if job.is_look]
        looked = [_Outcome(job, job.run(self._conn), None, is_written=False) for job in looks]
        if len(looks) == len(jobs):
            return looked
        self._conn.execute("BEGIN")
        outcomes = [self._run_one(job) for job in jobs if not job.is_look]
        self._conn.execute("COMMIT")
        return looked + outcomes

    def _run_one(self, job: _Job) -> _Outcome:
        execute = self._conn.execute
        execute("SAVEPOINT job")
        try:
            result = job.run(self._conn)
        except BaseException as error:  # a boundary: it belongs to the caller, whatever it is
            if not self._conn.in_transaction:  # SQLite itself gave up the whole group
                raise
            execute("ROLLBACK TO job")
            execute("RELEASE job")
            if isinstance(error, Undone):
                return _Outcome(job, error.result, None, is_written=False)
            failure = as_unavailable(error)
            if failure is not error:
                self.trouble = str(failure)
            return _Outcome(job, None, failure, is_written=False)
        execute("RELEASE job")
        return _Outcome(job, result, None, is_written=True)

    def _recover(self) -> None:
        """Leave the failed transaction behind, with a new connection if need be."""
        try:
            if self._conn.in_transaction:
                self._conn.execute("ROLLBACK")
            return
        except apsw.Error as error:
            _LOG.error("the writer's connection is lost: %s", error)
        try:
            self._conn.close(True)
            self._conn = self._connect()
        except Exception:  # a boundary: the next group tries again, and says so if it fails
            _LOG.exception("the writer cannot connect again")


def _read_data_version(conn: StoreConnection) -> int:
    return int(conn.pragma("data_version"))


def _answer(outcomes: list[_Outcome]) -> None:
    for job, result, error, is_written in outcomes:
        if is_written and job.on_commit is not None:
            job.on_commit(result)
        if job.answer.done():  # its caller was cancelled
            continue
        if error is None:
            job.answer.set_result(result)
        else:
            job.answer.set_exception(error)
