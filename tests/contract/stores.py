"""Opens each implementation of the store ports, and builds mail in it the way features do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
from hypothesis import HealthCheck, settings
from obstore.store import LocalStore

from tindra.base.ids import AccountId, BlobId, MailboxId, ThreadId, UserId
from tindra.core.ports import BlobStore, Directory, SearchIndex, SecretStore, StoreTx
from tindra.model.account import Account
from tindra.model.counting import count_thread
from tindra.model.mail import (
    EmailContent,
    EmailQuery,
    EmailRow,
    MailboxCounts,
    MailboxRow,
    ThreadRow,
    make_doc_id,
)
from tindra.model.stored import BlobRow, CommitInfo
from tindra.store.blobs.store import Blobs
from tindra.store.memory.store import MemoryStore
from tindra.store.search.index import SqliteSearch
from tindra.store.sqlite.directory import SqliteDirectory
from tindra.store.sqlite.store import SqliteStore
from tindra.store.vault import SecretRowsOwner, Vault
from tindra.sync.mirror import MirrorReader, MirrorStore, MirrorTx

T = TypeVar("T")
ON_STORES = settings(
    deadline=None,  # what the disk of a busy machine takes says nothing about the code
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # see open_account
)
KINDS = ("memory", "sqlite")
ACCOUNT = AccountId("a1")
OTHER = AccountId("a2")
NOW_MS = 1_700_000_000_000
INBOX, ARCHIVE, TRASH = MailboxId("minbox"), MailboxId("march"), MailboxId("mtrash")
MAILBOXES = (INBOX, ARCHIVE, TRASH)


class FixedClock:
    """A clock that stands still."""

    def now_ms(self) -> int:
        return NOW_MS

    def monotonic_ms(self) -> int:
        return 0

    async def sleep_ms(self, duration_ms: int) -> None:
        return None


class TestableStore(MirrorStore, SecretRowsOwner, Protocol):
    """What both in-process stores offer beyond the ports."""

    on_commit: Callable[[CommitInfo], None] | None


@dataclass
class Stores:
    """All ports of core over one implementation."""

    kind: str
    store: TestableStore
    directory: Directory
    search: SearchIndex
    blobs: BlobStore
    secrets: SecretStore
    folder: Path
    fenced_write: Callable[[int, Callable[[MirrorTx], Awaitable[Any]]], Awaitable[Any]]
    """A write to ACCOUNT by a worker of some epoch."""

    async def write(
        self, fn: Callable[[MirrorTx], Awaitable[T]], account_id: AccountId = ACCOUNT
    ) -> T:
        """The result of a transaction."""
        return (await self.store.write(account_id, "test", fn))[0]

    async def commit(
        self, fn: Callable[[MirrorTx], Awaitable[object]], account_id: AccountId = ACCOUNT
    ) -> CommitInfo:
        """What a transaction changed."""
        return (await self.store.write(account_id, "test", fn))[1]

    async def read(
        self, fn: Callable[[MirrorReader], Awaitable[T]], account_id: AccountId = ACCOUNT
    ) -> T:
        """The result of a read."""
        return await self.store.read(account_id, fn)


async def open_stores(kind: str, folder: Path) -> Stores:
    """A fresh implementation with the accounts ACCOUNT and OTHER."""
    stores = await (_open_memory(folder) if kind == "memory" else open_sqlite(folder))
    for id in (ACCOUNT, OTHER):
        await stores.directory.put_account(Account(id, f"{id}@example.com", UserId("u1"), NOW_MS))
    return stores


async def _open_memory(folder: Path) -> Stores:
    store = MemoryStore()
    return Stores(
        kind="memory",
        store=store,
        directory=store.directory,
        search=store.search,
        blobs=store.make_blobs(FixedClock()),
        secrets=Vault(store, folder / "master.key"),
        folder=folder,
        fenced_write=lambda epoch, fn: store.write(ACCOUNT, "test", fn, epoch=epoch),
    )


async def open_sqlite(folder: Path) -> Stores:
    """The SQLite implementation on what is in `folder`."""
    store = await SqliteStore.open(folder / "tindra.db")
    objects = LocalStore(folder / "blobs", mkdir=True)
    return Stores(
        kind="sqlite",
        store=store,
        directory=SqliteDirectory(store),
        search=SqliteSearch(store),
        blobs=Blobs(store, objects, FixedClock()),
        secrets=Vault(store, folder / "master.key"),
        folder=folder,
        fenced_write=lambda epoch, fn: store.write(ACCOUNT, "test", fn, epoch=epoch),
    )


_numbers = count(1)


async def open_account(stores: Stores) -> AccountId:
    """A new, empty account, for tests that need many."""
    account_id = AccountId(f"acase{next(_numbers)}")
    await stores.directory.put_account(Account(account_id, "x", UserId("u1"), NOW_MS))
    return account_id


# -- mail, written with its Threads, counters and blobs as features would -------------------------
@dataclass
class Draft:
    """What a test says of an Email; the rest is made up from its number."""

    number: int
    thread: str = "t1"
    mailbox_ids: tuple[str, ...] = (INBOX,)
    keywords: tuple[str, ...] = ()
    received_s: int = 0
    """Seconds after NOW_MS."""
    more: dict[str, Any] = field(default_factory=dict)


def make_email(draft: Draft) -> EmailRow:
    """The row of a draft."""
    received_ms = NOW_MS + draft.received_s * 1000
    values: dict[str, Any] = {
        "doc_id": make_doc_id(received_ms, draft.number),
        "blob_id": BlobId(f"b{draft.number}"),
        "thread_id": ThreadId(draft.thread),
        "mailbox_ids": tuple(sorted(set(draft.mailbox_ids))),
        "keywords": tuple(sorted(set(draft.keywords))),
        "received_ms": received_ms,
        "size": 100,
        "sent_ms": received_ms,
        "subject_key": f"subject {draft.number}",
        "from_key": f"from {draft.number}",
        "to_key": f"to {draft.number}",
        "has_attachment": False,
    }
    return EmailRow(**(values | draft.more))


def content_of(email: EmailRow) -> EmailContent:
    """Content that says whose it is."""
    return EmailContent(b'{"preview":"%d"}' % email.doc_id, b'{"size":%d}' % email.size)


async def put_mailboxes(tx: StoreTx) -> None:
    """Inbox, Archive and Trash."""
    roles = {INBOX: "inbox", ARCHIVE: "archive", TRASH: "trash"}
    for order, id in enumerate(MAILBOXES):
        await tx.put_mailbox(MailboxRow(id, id.title(), None, roles[id], order, True))


async def _members(tx: StoreTx, thread_id: ThreadId) -> list[EmailRow]:
    found, _ = await tx.query_emails(_EVERYTHING, None, False)
    return [e for e in await tx.load_emails(found) if e.thread_id == thread_id]


_EVERYTHING = EmailQuery()


async def rewrite(
    tx: StoreTx,
    thread_ids: Iterable[str],
    change: Callable[[], Awaitable[None]],
) -> None:
    """Do `change`, then bring Threads and counters to what they should be."""
    ids = [ThreadId(id) for id in dict.fromkeys(thread_ids)]
    before = {id: count_thread(await _members(tx, id), TRASH) for id in ids}
    await change()
    for id in ids:
        emails = sorted(await _members(tx, id), key=lambda email: email.doc_id)
        latest_ms = emails[-1].received_ms if emails else 0
        row = ThreadRow(id, tuple(email.id for email in emails), "subject", (), latest_ms)
        await tx.put_threads([row])
        await tx.add_mailbox_counts(_subtract(count_thread(emails, TRASH), before[id]))


def _subtract(
    after: Mapping[MailboxId, MailboxCounts], before: Mapping[MailboxId, MailboxCounts]
) -> dict[MailboxId, MailboxCounts]:
    """What to add to the counters when a Thread goes from `before` to `after`."""
    found: dict[MailboxId, MailboxCounts] = {}
    for id in {**after, **before}:
        new, old = after.get(id, MailboxCounts()), before.get(id, MailboxCounts())
        pairs = zip(msgspec.structs.astuple(new), msgspec.structs.astuple(old), strict=True)
        found[id] = MailboxCounts(*(a - b for a, b in pairs))
    return found


async def deliver(tx: StoreTx, drafts: Sequence[Draft]) -> list[EmailRow]:
    """Insert Emails with all that belongs to them."""
    emails = [make_email(draft) for draft in drafts]

    async def change() -> None:
        for email in emails:
            await tx.put_blob(BlobRow(email.blob_id, email.size, None, NOW_MS))
        await tx.insert_emails([(email, content_of(email)) for email in emails])

    await rewrite(tx, (email.thread_id for email in emails), change)
    return emails


async def modify(tx: StoreTx, before: EmailRow, **changes: Any) -> EmailRow:
    """Change mailbox_ids or keywords of an Email."""
    after = msgspec.structs.replace(before, **changes)
    await rewrite(tx, [before.thread_id], lambda: tx.update_emails([(before, after)]))
    return after


async def destroy(tx: StoreTx, email: EmailRow) -> None:
    """Destroy an Email."""
    await rewrite(tx, [email.thread_id], lambda: tx.delete_emails([email]))
