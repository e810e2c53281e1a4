"""What the SQLite store costs in CPU per operation, against the promise of each.

CPU time of this process (all its threads), best of several rounds: wall time on a shared machine
says more about the neighbours. Run: `python -m bench.bench_store`.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

import msgspec

from tindra.base.ids import AccountId, BlobId, MailboxId, ThreadId, UserId
from tindra.core.ports import Cursor, StoreReader, StoreTx
from tindra.model.account import Account
from tindra.model.counting import count_thread
from tindra.model.mail import (
    EmailCondition,
    EmailContent,
    EmailQuery,
    EmailRow,
    MailboxRow,
    SearchDocument,
    ThreadRow,
    make_doc_id,
)
from tindra.model.stored import BlobRow
from tindra.store.search.index import SqliteSearch
from tindra.store.sqlite.directory import SqliteDirectory
from tindra.store.sqlite.store import SqliteStore

ACCOUNT = AccountId("a0123456789abcdef")
INBOX, ARCHIVE = MailboxId("m0000000000inbox"), MailboxId("m00000000archive")
EMAILS = 20_000
BATCH = 50
START_MS = 1_700_000_000_000
META = b'{"subject":"' + b"x" * 1000 + b'"}'
STRUCTURE = b'{"part":"' + b"y" * 600 + b'"}'


class Result(NamedTuple):
    """One measured operation."""

    name: str
    cpu_ms: float
    promised_ms: float | None


def _email(number: int) -> tuple[EmailRow, EmailContent]:
    received_ms = START_MS + number * 60_000
    row = EmailRow(
        doc_id=make_doc_id(received_ms, number),
        blob_id=BlobId(f"b{number:040d}"),
        thread_id=ThreadId(f"t{number - number % 3:016d}"),
        mailbox_ids=(ARCHIVE,) if number % 4 else (INBOX,),
        keywords=("$seen",) if number % 10 else (),
        received_ms=received_ms,
        size=5_000 + number % 90_000,
        sent_ms=received_ms,
        subject_key=f"a subject of some length, number {number}",
        from_key=f"sender {number % 500}",
        to_key="receiver",
        has_attachment=number % 7 == 0,
    )
    return row, EmailContent(META, STRUCTURE)


async def _insert(tx: StoreTx, first: int, size: int) -> None:
    rows = [_email(number) for number in range(first, first + size)]
    await tx.reserve_doc_counters(size)
    for row, _ in rows:
        await tx.put_blob(BlobRow(row.blob_id, row.size, None, row.received_ms))
    await tx.insert_emails(rows)
    threads: dict[ThreadId, list[EmailRow]] = {}
    for row, _ in rows:
        threads.setdefault(row.thread_id, []).append(row)
    await tx.put_threads(
        [ThreadRow(id, tuple(e.id for e in emails), "", ("a@b.example",), emails[-1].received_ms)
         for id, emails in threads.items()]
    )  # fmt: skip
    for id, emails in threads.items():
        await tx.put_thread_references(id, [f"{id}-ref"])
        await tx.add_mailbox_counts(count_thread(emails, None))


async def _measure(fn: Callable[[], Awaitable[object]], times: int, rounds: int = 5) -> float:
    """CPU milliseconds of one call, best of `rounds`."""
    await fn()
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(times):
            await fn()
        best = min(best, (time.process_time() - start) / times)
    return best * 1000


async def _fill(store: SqliteStore) -> None:
    await SqliteDirectory(store).put_account(Account(ACCOUNT, "bench", UserId("u1"), 0))

    async def make_mailboxes(tx: StoreTx) -> None:
        await tx.put_mailbox(MailboxRow(INBOX, "Inbox", None, "inbox", 0, True))
        await tx.put_mailbox(MailboxRow(ARCHIVE, "Archive", None, "archive", 1, True))

    await store.write(ACCOUNT, "bench", make_mailboxes)
    for first in range(0, EMAILS, 600):

        async def fill(tx: StoreTx, first: int = first) -> None:
            await _insert(tx, first, min(600, EMAILS - first))

        await store.write(ACCOUNT, "bench", fill)


async def _measure_reads(store: SqliteStore) -> list[Result]:
    window = [_email(number)[0].doc_id for number in range(EMAILS - 400, EMAILS - 20, 4)]
    in_inbox = EmailQuery(EmailCondition(in_mailbox=INBOX), (), collapse_threads=True)
    unread = EmailQuery(EmailCondition(in_mailbox=INBOX, not_keyword="$seen"))
    text = EmailQuery(EmailCondition(text="common"))
    states = await store.read(ACCOUNT, lambda r: r.load_states())
    newest = Cursor(states["Email"])

    def read(fn: Callable[[StoreReader], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
        return lambda: store.read(ACCOUNT, fn)

    cases: Sequence[tuple[str, Callable[[StoreReader], Awaitable[object]], float | None]] = (
        ("load 95 Emails", lambda r: r.load_emails(window), 0.5),
        ("load 95 contents", lambda r: r.load_contents(window), 0.5),
        ("query one Mailbox, top 50", lambda r: r.query_emails(in_inbox, 50, False), 0.25),
        ("... with total", lambda r: r.query_emails(in_inbox, 50, True), None),
        ("query unread in one Mailbox, top 50", lambda r: r.query_emails(unread, 50, False), None),
        ("query a common word, top 50", lambda r: r.query_emails(text, 50, False), None),
        ("load Mailboxes", lambda r: r.load_mailboxes(), None),
        ("load states", lambda r: r.load_states(), None),
        ("changes of Email, none", lambda r: r.list_changes("Email", newest, 500), None),
    )  # fmt: skip
    return [Result(name, await _measure(read(fn), 200), promised) for name, fn, promised in cases]


async def _measure_writes(store: SqliteStore) -> list[Result]:
    row, _ = _email(EMAILS - 4)
    versions = [row, msgspec.structs.replace(row, keywords=("$flagged", "$seen"))]
    numbers = count(EMAILS + 1, BATCH)

    async def update() -> None:
        before, after = versions
        versions.reverse()

        async def run(tx: StoreTx) -> None:
            await tx.update_emails([(before, after)])

        await store.write(ACCOUNT, "bench", run)

    async def insert() -> None:
        first = next(numbers)

        async def run(tx: StoreTx) -> None:
            await _insert(tx, first, BATCH)

        await store.write(ACCOUNT, "bench", run)

    async def update_8() -> None:
        await asyncio.gather(*(update() for _ in range(8)))

    return [
        Result("update one Email, with commit and hop", await _measure(update, 200), 0.6),
        Result("... each of 8 at once", await _measure(update_8, 50) / 8, None),
        Result("insert one Email, of 50", await _measure(insert, 10) / BATCH, 0.25),
    ]


async def _measure_index(store: SqliteStore) -> Result:
    search = SqliteSearch(store)
    words = " ".join(f"word{number}" for number in range(150))
    start = time.process_time()
    indexed = 0
    while indexed < 4_000 and (places := await search.list_unindexed(ACCOUNT, 200)):
        documents = [
            SearchDocument(doc_id, "sender", "receiver", "", "", "a subject", f"common {words}")
            for _, doc_id in places
        ]
        await search.add(ACCOUNT, documents, places[-1])
        indexed += len(places)
    return Result(
        "index one Email (150 words)", (time.process_time() - start) * 1e3 / indexed, None
    )


async def measure() -> list[Result]:
    """All measurements on a fresh database in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        store = await SqliteStore.open(Path(folder) / "tindra.db")
        try:
            await _fill(store)
            index = await _measure_index(store)
            return [*await _measure_reads(store), *await _measure_writes(store), index]
        finally:
            await store.close()


def main() -> None:
    """Print the table."""
    for result in asyncio.run(measure()):
        promised = "" if result.promised_ms is None else f"promised {result.promised_ms:.2f}"
        print(f"{result.name:42} {result.cpu_ms:8.3f} ms CPU   {promised}")


if __name__ == "__main__":
    main()
