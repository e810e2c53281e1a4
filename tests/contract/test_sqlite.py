"""What only a database in files can show: crashes, full disks, other processes, other schemas."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.contract.stores import (
    ACCOUNT,
    INBOX,
    NOW_MS,
    OTHER,
    Draft,
    Stores,
    content_of,
    deliver,
    make_email,
    open_account,
    open_sqlite,
    open_stores,
    put_mailboxes,
)
from tests.contract.test_search import document, fill, find, index_all
from tindra.base.ids import ModSeq
from tindra.core.errors import DiskFull, MethodError, Unavailable
from tindra.core.ports import StoreReader, StoreTx
from tindra.model.mail import EmailCondition, EmailQuery, EmailSort
from tindra.model.stored import CommitInfo, TimerRow
from tindra.store.sqlite import connection, reader, schema, search_table, writer
from tindra.store.sqlite import store as sqlite_store
from tindra.store.sqlite.erase import (
    erase_account,
    erase_rows,
    finish_erasing,
    list_erasing,
    mark_erased,
)
from tindra.store.sqlite.query import Sources, compile_query
from tindra.store.sqlite.schema import ACCOUNT_TABLES, ForeignFile
from tindra.store.sqlite.search_table import locate_account
from tindra.store.sqlite.store import SqliteStore

ROOT = Path(__file__).parents[2]


def _store(stores: Stores) -> SqliteStore:
    assert isinstance(stores.store, SqliteStore)
    return stores.store


async def _put(tx: StoreTx, id: str, data: bytes = b"{}") -> None:
    await tx.put_object("Thing", id, data)


async def _ids(view: StoreReader) -> list[str]:
    return [row.id for row in await view.load_objects("Thing", None)]


# -- crashes --------------------------------------------------------------------------------------
def _kill_writer(folder: Path, acknowledged: int) -> list[bytes]:
    """What a writing process said until it was killed."""
    command = [sys.executable, "-m", "tests.contract.crash_writer", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(acknowledged)]
        child.send_signal(signal.SIGKILL)
        return [*lines, *child.stdout.readlines()]


@pytest.mark.parametrize("acknowledged", [1, 40, 150])
async def test_every_acknowledged_write_survives_a_kill(tmp_path: Path, acknowledged: int) -> None:
    stores = await open_stores("sqlite", tmp_path)
    await stores.write(put_mailboxes)
    await stores.store.close()
    lines = _kill_writer(tmp_path, acknowledged)
    said = dict(line.split() for line in lines if line.endswith(b"\n"))
    assert len(said) >= acknowledged

    stores = await open_sqlite(tmp_path)
    try:
        rows = await stores.read(lambda r: r.load_objects("Thing", None))
        kept = {row.data: b"%d" % row.changed_modseq for row in rows}
        assert said.items() <= kept.items(), "an acknowledged write is lost"
        emails, _ = await stores.read(lambda r: r.query_emails(EmailQuery(), None, False))
        assert len(emails) == len(kept), "half of a transaction is there"
        await stores.store.check_invariants(ACCOUNT)
        await stores.write(lambda tx: _put(tx, "after"))
    finally:
        await stores.store.close()


# -- full disks -----------------------------------------------------------------------------------
async def _write_until_full(stores: Stores) -> list[str]:
    """Write until the store refuses; the ids that were acknowledged."""
    done: list[str] = []
    for number in range(500):
        ids = [f"o{number:03}x{part}" for part in range(8)]
        answers = await asyncio.gather(
            *(stores.write(partial(_put, id=id, data=b"z" * 3000)) for id in ids),
            return_exceptions=True,
        )
        done += [id for id, answer in zip(ids, answers, strict=True) if answer is None]
        failures = [answer for answer in answers if answer is not None]
        if failures:
            assert {type(failure) for failure in failures} == {DiskFull}
            return done
    raise AssertionError("the disk never became full")


async def _check_recovered(stores: Stores, done: list[str]) -> None:
    assert await stores.read(_ids) == sorted(done), "what was refused left a trace"
    await stores.write(lambda tx: _put(tx, "o999"))
    assert await stores.read(_ids) == [*sorted(done), "o999"]
    await stores.store.check_invariants(ACCOUNT)


async def test_a_full_database_refuses_whole_transactions_and_recovers(sqlite: Stores) -> None:
    store = _store(sqlite)
    pages = await store.run_write(lambda conn: conn.pragma("page_count"))
    await store.run_write(lambda conn: conn.pragma("max_page_count", pages + 30))
    done = await _write_until_full(sqlite)
    assert await sqlite.read(_ids) == sorted(done), "reading goes on"
    await store.run_write(lambda conn: conn.pragma("max_page_count", 10**6))
    await _check_recovered(sqlite, done)


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs to mount a disk")
async def test_a_full_disk_refuses_whole_transactions_and_recovers(tmp_path: Path) -> None:
    with _small_disk(tmp_path / "disk") as folder:
        stores = await open_stores("sqlite", folder)
        try:
            (folder / "ballast").write_bytes(b"b" * 600_000)
            done = await _write_until_full(stores)
            (folder / "ballast").unlink()
            await _check_recovered(stores, done)
        finally:
            await stores.store.close()


# -- group commit ---------------------------------------------------------------------------------
async def _write_as_one_group(stores: Stores, count: int) -> list[Any]:
    """Outcomes of writes that all waited for the same commit."""

    loop, is_held, is_queued = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    async def hold(tx: StoreTx) -> None:
        await _put(tx, "held")
        loop.call_soon_threadsafe(is_held.set)
        is_queued.wait()  # the writer thread stands still until the others are queued

    first = asyncio.ensure_future(stores.write(hold))
    await is_held.wait()
    loop.call_soon(loop.call_soon, is_queued.set)  # one turn after the others have begun
    rest = [stores.write(partial(_put, id=f"o{n:02}")) for n in range(count)]
    outcomes = await asyncio.gather(*rest, return_exceptions=True)
    await asyncio.gather(first, return_exceptions=True)
    return outcomes


async def test_waiting_transactions_share_one_commit(sqlite: Stores) -> None:
    commits = 0

    def count() -> bool:
        nonlocal commits
        commits += 1
        return False

    await _store(sqlite).run_write(lambda conn: conn.set_commit_hook(count))
    commits = 0
    assert await _write_as_one_group(sqlite, 20) == [None] * 20
    assert commits == 2


async def test_a_failed_commit_fails_its_whole_group_and_nothing_stays(sqlite: Stores) -> None:
    store = _store(sqlite)
    refusals = iter([False, True, False])
    await store.run_write(lambda conn: conn.set_commit_hook(lambda: next(refusals)))
    outcomes = await _write_as_one_group(sqlite, 7)
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 7
    assert await sqlite.read(_ids) == ["held"]
    info = await sqlite.commit(lambda tx: _put(tx, "later"))
    assert info.modseq == 2, "numbers of a failed commit are given again"


async def test_a_full_queue_refuses_at_once_and_drains(
    sqlite: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "WRITE_QUEUE_TXS_MAX", 5)
    outcomes = await _write_as_one_group(sqlite, 20)
    refused = [outcome for outcome in outcomes if isinstance(outcome, Unavailable)]
    assert 10 <= len(refused) < 20
    await sqlite.write(lambda tx: _put(tx, "later"))
    assert len(await sqlite.read(_ids)) == 1 + 1 + 20 - len(refused)


async def test_a_commit_is_on_disk_when_it_returns(sqlite: Stores) -> None:
    def look(conn: apsw.Connection) -> tuple[Any, Any]:
        return conn.pragma("journal_mode"), conn.pragma("synchronous")

    assert await _store(sqlite).run_write(look) == ("wal", 2)


async def test_writing_waits_for_another_process_only_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_MS", 30)
    stores = await open_stores("sqlite", tmp_path)
    other = apsw.Connection(str(tmp_path / "tindra.db"))
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="BusyError"):
            await stores.write(lambda tx: _put(tx, "o1"))
        assert await stores.read(_ids) == [], "reading does not wait"
        other.execute("ROLLBACK")
        await stores.write(lambda tx: _put(tx, "o1"))
    finally:
        other.close()
        await stores.store.close()


async def test_an_index_commit_does_not_hold_up_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_MS", 30)
    stores = await open_stores("sqlite", tmp_path)
    other = apsw.Connection(str(tmp_path / "search.db"))
    try:
        other.execute("BEGIN IMMEDIATE")
        await stores.write(lambda tx: _put(tx, "o1"))
        assert await stores.read(_ids) == ["o1"]
    finally:
        other.close()
        await stores.store.close()


# -- other processes ------------------------------------------------------------------------------
async def test_what_another_process_wrote_is_noticed(tmp_path: Path) -> None:
    mine = await open_stores("sqlite", tmp_path)
    other = await open_sqlite(tmp_path)
    try:
        await mine.write(lambda tx: _put(tx, "o1"))
        assert await mine.store.poll_changes() == [], "one's own commits are no news"
        assert await other.store.poll_changes() == [
            CommitInfo(ACCOUNT, ModSeq(1), {"Thing": ModSeq(1)})
        ]
        await other.write(lambda tx: _put(tx, "o2"))
        await mine.write(lambda tx: _put(tx, "o3"))
        await mine.write(lambda tx: _put(tx, "o4"), OTHER)
        (info,) = await mine.store.poll_changes()
        assert (info.account_id, info.modseq) == (ACCOUNT, 3), "own writes do not hide another's"
        assert await mine.store.poll_changes() == []
    finally:
        await mine.store.close()
        await other.store.close()


# -- other schemas --------------------------------------------------------------------------------
def _edit(path: Path, *statements: str) -> None:
    conn = apsw.Connection(str(path))
    for statement in statements:
        conn.execute(statement)
    conn.close()


async def test_a_schema_that_is_too_new_is_refused(tmp_path: Path) -> None:
    stores = await open_stores("sqlite", tmp_path)
    await stores.store.close()
    _edit(
        tmp_path / "tindra.db",
        "PRAGMA user_version = 99",
        "UPDATE meta SET value = 99 WHERE key = 'compat_version'",
    )
    with pytest.raises(ForeignFile, match=r"schema 99, which a newer Tindra made"):
        await open_sqlite(tmp_path)


async def test_a_newer_schema_that_only_adds_is_opened(tmp_path: Path) -> None:
    stores = await open_stores("sqlite", tmp_path)
    await stores.store.close()
    _edit(
        tmp_path / "tindra.db",
        "PRAGMA user_version = 99",
        f"UPDATE meta SET value = {schema.SCHEMA_VERSION} WHERE key = 'compat_version'",
    )
    stores = await open_sqlite(tmp_path)
    await stores.write(lambda tx: _put(tx, "o1"))
    await stores.store.close()


@pytest.mark.parametrize("content", [b"just some text, and long enough\n" * 99, None])
async def test_a_file_of_another_program_is_refused_and_left_alone(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "tindra.db"
    if content is None:
        _edit(path, "CREATE TABLE notes (text)", "PRAGMA application_id = 77")
    else:
        path.write_bytes(content)
    before = path.read_bytes()[100:]
    with pytest.raises(ForeignFile):
        await SqliteStore.open(path)
    assert path.read_bytes()[100:] == before


async def test_every_account_table_is_erased(tmp_path: Path) -> None:
    stores = await open_stores("sqlite", tmp_path)
    conn = apsw.Connection(str(tmp_path / "tindra.db"))
    rows: Any = conn.execute(
        "SELECT m.name, c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c"
        " WHERE m.type = 'table' AND c.pk ORDER BY m.name, c.pk"
    )
    keys: dict[str, list[str]] = {}
    for table, column in rows:
        keys.setdefault(table, []).append(column)
    conn.close()
    await stores.store.close()
    of_accounts = {
        table: tuple(columns[1:])
        for table, columns in keys.items()
        if columns[0] == "account_id" and table not in ("account", "erasing")
    }
    assert of_accounts == ACCOUNT_TABLES


async def test_an_unfinished_erasing_is_known_at_the_next_start(tmp_path: Path) -> None:
    stores = await open_stores("sqlite", tmp_path)
    await stores.write(lambda tx: _put(tx, "o1"))
    store = _store(stores)

    class Dies:
        """A store whose program ends after the first step."""

        run_read = staticmethod(store.run_read)
        run_search = staticmethod(store.run_search)
        calls = 0

        async def run_write(self, fn: Any) -> Any:
            self.calls += 1
            if self.calls > 1:
                raise KeyboardInterrupt
            return await store.run_write(fn)

    with pytest.raises(KeyboardInterrupt):
        await erase_account(Dies(), ACCOUNT)
    assert await stores.read(_ids) == ["o1"]
    await store.close()
    stores = await open_sqlite(tmp_path)
    store = _store(stores)
    assert await list_erasing(store) == [ACCOUNT]
    assert [account.id for account in await stores.directory.load_accounts(None)] == [OTHER]
    await erase_rows(store, ACCOUNT)
    assert await stores.read(_ids) == []
    assert await list_erasing(store) == [ACCOUNT], "there may be more elsewhere"
    await finish_erasing(store, ACCOUNT)
    assert await list_erasing(store) == []
    await stores.store.close()


async def test_an_account_that_is_being_erased_gives_no_work(sqlite: Stores) -> None:
    await fill(sqlite, 3)
    await sqlite.write(lambda tx: tx.put_timer(TimerRow("snooze", "e1", 1, b"")))
    store = _store(sqlite)
    assert await sqlite.store.list_due(NOW_MS, 10) == [ACCOUNT]
    assert await sqlite.search.list_unindexed(ACCOUNT, 9)
    await store.run_write(lambda conn: mark_erased(conn, ACCOUNT))
    assert await sqlite.store.list_due(NOW_MS, 10) == []
    assert await sqlite.search.list_unindexed(ACCOUNT, 9) == []


async def test_the_accounts_are_looked_through_only_when_another_process_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = await open_stores("sqlite", tmp_path)
    other = await open_sqlite(tmp_path)
    looks = 0
    load = sqlite_store._load_modseqs

    def count(conn: connection.StoreConnection) -> Any:
        nonlocal looks
        looks += 1
        return load(conn)

    monkeypatch.setattr(sqlite_store, "_load_modseqs", count)
    try:
        for number in range(5):
            await mine.write(partial(_put, id=f"o{number}"))
            assert await mine.store.poll_changes() == []
        assert looks == 0, "one's own commits cost nothing"
        await other.write(lambda tx: _put(tx, "x"))
        assert len(await mine.store.poll_changes()) == 1
        assert looks == 1
    finally:
        await mine.store.close()
        await other.store.close()


async def test_a_store_that_cannot_write_says_so_until_it_can(sqlite: Stores) -> None:
    store = _store(sqlite)
    assert await store.find_trouble() is None
    pages = await store.run_write(lambda conn: conn.pragma("page_count"))
    await store.run_write(lambda conn: conn.pragma("max_page_count", pages + 30))
    await _write_until_full(sqlite)
    assert await store.find_trouble() == "the disk is full"
    assert await store.find_trouble() == "the disk is full", "asking does not cure it"
    await store.run_write(lambda conn: conn.pragma("max_page_count", 10**6))
    assert await store.find_trouble() is None
    meta = await store.run_read(lambda conn: list(conn.execute("SELECT key FROM meta")))
    assert ("probe",) not in meta
    await sqlite.store.check_invariants(ACCOUNT)


# -- the search file ------------------------------------------------------------------------------
@pytest.mark.parametrize("damage", ["lost", "broken"])
async def test_a_lost_or_broken_search_file_is_built_again(sqlite: Stores, damage: str) -> None:
    emails = await fill(sqlite, 5)
    assert await index_all(sqlite) == 5
    await sqlite.store.close()
    path = sqlite.folder / "search.db"
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    if damage == "lost":
        path.unlink()
    else:
        path.write_bytes(b"no database at all, but long enough to be looked at\n" * 200)
    again = await open_sqlite(sqlite.folder)
    try:
        assert await find(again) == []
        assert await index_all(again) == 5
        assert sorted(await find(again)) == sorted(email.doc_id for email in emails)
    finally:
        await again.store.close()


async def test_an_index_newer_than_the_data_is_built_again(sqlite: Stores) -> None:
    """An older backup of the data was restored beside the index of today."""
    await fill(sqlite, 2)
    await sqlite.store.close()
    backup = sqlite.folder / "backup.db"
    shutil.copy(sqlite.folder / "tindra.db", backup)
    later = await open_sqlite(sqlite.folder)
    await fill(later, 4, first=10)
    assert await index_all(later) == 6
    await later.store.close()
    for path in sqlite.folder.glob("tindra.db*"):
        path.unlink()
    shutil.move(backup, sqlite.folder / "tindra.db")
    again = await open_sqlite(sqlite.folder)
    try:
        assert await index_all(again) == 2
        await fill(again, 2, first=20)
        assert await index_all(again) == 2
        assert len(await find(again)) == 4
    finally:
        await again.store.close()


# -- the cost of queries --------------------------------------------------------------------------
async def _plan(store: SqliteStore, query: EmailQuery, *, is_rare: bool = True) -> str:
    sources = Sources(lambda: locate_account(0), lambda _: is_rare)
    compiled = compile_query(ACCOUNT, query, sources)

    def explain(conn: apsw.Connection) -> str:
        params = {**compiled.params, "take": 50, "skip": 0}
        rows: Any = conn.execute("EXPLAIN QUERY PLAN " + compiled.list_sql(), params)
        return "; ".join(detail for *_, detail in rows)

    return await store.run_read(explain)


@pytest.mark.parametrize("collapse", [False, True])
async def test_a_mailbox_is_listed_from_its_own_index_alone(sqlite: Stores, collapse: bool) -> None:
    query = EmailQuery(EmailCondition(in_mailbox=INBOX), (), collapse)
    plan = await _plan(_store(sqlite), query)
    assert plan == "SEARCH d USING PRIMARY KEY (account_id=? AND mailbox_id=?)"


@pytest.mark.parametrize(
    ("condition", "driver"),
    [
        (EmailCondition(in_mailbox=INBOX, not_keyword="$seen"), "keyword=?"),
        (EmailCondition(in_mailbox=INBOX, has_keyword="$flagged"), "keyword=?"),
        (EmailCondition(has_attachment=True, after=5), "SEARCH e USING PRIMARY KEY (account_id=?"),
        (EmailCondition(in_mailbox=INBOX, min_size=7), "mailbox_id=?"),
    ],
)
async def test_newest_first_never_sorts(
    sqlite: Stores, condition: EmailCondition, driver: str
) -> None:
    plan = await _plan(_store(sqlite), EmailQuery(condition))
    assert driver in plan
    assert "TEMP B-TREE" not in plan
    assert "SCAN" not in plan
    common = await _plan(_store(sqlite), EmailQuery(condition), is_rare=False)
    assert "TEMP B-TREE" not in common


async def test_text_newest_first_is_read_in_order_from_the_index(sqlite: Stores) -> None:
    await fill(sqlite, 1)
    await index_all(sqlite)
    plan = await _plan(_store(sqlite), EmailQuery(EmailCondition(text="alpha", after=5)))
    assert "SCAN d VIRTUAL TABLE" in plan
    assert "SEARCH e USING PRIMARY KEY (account_id=? AND doc_id=?)" in plan
    assert "TEMP B-TREE" not in plan


async def test_accounts_beyond_one_search_table_are_kept_apart(
    sqlite: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_table, "ACCOUNTS_PER_TABLE", 2)
    accounts = [await open_account(sqlite) for _ in range(5)]
    for at, account_id in enumerate(accounts):
        await sqlite.write(put_mailboxes, account_id)
        drafts = [Draft(n) for n in range(at + 1)]
        await sqlite.write(partial(deliver, drafts=drafts), account_id)
        places = await sqlite.search.list_unindexed(account_id, 9)
        documents = [document(doc_id) for _, doc_id in places]
        await sqlite.search.add(account_id, documents, places[-1])
    query = EmailQuery(EmailCondition(text="alpha", after=5, before=NOW_MS * 2))
    await sqlite.directory.delete_account(accounts[2])
    for at, account_id in enumerate(accounts):
        found, _ = await sqlite.read(lambda r: r.query_emails(query, None, False), account_id)
        assert len(found) == (at + 1 if at != 2 else 0)
    tables = await _store(sqlite).run_read(_list_search_tables)
    assert tables == ["fts_0", "fts_1", "fts_2"]


def _list_search_tables(conn: apsw.Connection) -> list[Any]:
    sql = "SELECT name FROM search.sqlite_schema WHERE sql LIKE 'CREATE VIRTUAL%' ORDER BY name"
    return [name for (name,) in conn.execute(sql)]


async def test_a_query_that_looks_at_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "STEPS_PER_TICK", 100)
    monkeypatch.setattr(reader, "QUERY_SCAN_ROWS_MAX", 20)
    stores = await open_stores("sqlite", tmp_path)
    try:
        await stores.write(put_mailboxes)
        await stores.write(lambda tx: deliver(tx, [Draft(n, received_s=n) for n in range(5)]))
        rows = [make_email(Draft(n, thread=f"t{n}", received_s=n)) for n in range(100, 400)]
        await stores.write(lambda tx: tx.insert_emails([(row, content_of(row)) for row in rows]))
        everything = EmailQuery(sort=(EmailSort("size"),))
        with pytest.raises(MethodError, match="unsupportedFilter"):
            await stores.read(lambda r: r.query_emails(everything, 10, False))
        newest = EmailQuery(EmailCondition(in_mailbox=INBOX))
        found, _ = await stores.read(lambda r: r.query_emails(newest, 3, False))
        assert len(found) == 3
        assert len(await stores.read(lambda r: r.load_emails([row.doc_id for row in rows]))) == 300
    finally:
        await stores.store.close()


@pytest.mark.parametrize("is_long", [False, True])
async def test_the_first_error_of_a_read_is_the_one_that_is_told(
    sqlite: Stores, is_long: bool
) -> None:
    """Some failures end the transaction by themselves; to end it again must not hide them."""
    store: Any = sqlite.store

    def fail(conn: Any) -> None:
        conn.execute("ROLLBACK")
        raise apsw.IOError("the disk is gone")

    with pytest.raises(Unavailable, match="the disk is gone"):
        await store.run_read(fail, is_long=is_long)
    assert await store.run_read(lambda conn: conn.execute("SELECT 1").get, is_long=is_long) == 1


async def test_a_file_of_the_first_schema_is_brought_up_with_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "tindra.db"
    conn = apsw.Connection(str(path))
    conn.execute(schema.MIGRATIONS[0].sql)
    conn.pragma("application_id", schema.APPLICATION_ID)
    conn.pragma("user_version", 1)
    conn.execute("INSERT INTO meta (key, value) VALUES ('compat_version', 1)")
    conn.execute(
        "INSERT INTO user (user_id, login, password_hash, home_account_id, created_ms)"
        " VALUES ('u1', 'anna@example.com', 'x', 'ahome', 7)"
    )
    conn.close()
    stores = await open_sqlite(tmp_path)
    [user] = await stores.directory.list_users()
    assert (user.login, user.name, user.time_zone) == ("anna@example.com", "", "")
    assert await stores.directory.list_shared_accounts(user.id) == []
    await stores.store.close()
    conn = apsw.Connection(str(path))
    assert conn.pragma("user_version") == schema.SCHEMA_VERSION
    # It only adds: the program of the first schema still opens the file.
    assert conn.execute("SELECT value FROM meta WHERE key = 'compat_version'").get == 1
