"""What core asks of the world: the store, its transactions, blobs, the search index, the bus.

One port for two kinds of database. A transaction is an `async def` over these methods; the
SQLite adapter drives it to its end on one thread without ever suspending (all statements of one
JMAP method are one hop), the PostgreSQL adapter awaits it. So inside a transaction function
nothing else may be awaited: no network, no sleep, no other store call.

Every method works within the one account that the transaction was opened for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from tindra.base.ids import AccountId, MailboxId, ModSeq, ThreadId, UserId
from tindra.model.account import Account, Grant, Token, User
from tindra.model.mail import (
    EmailContent,
    EmailQuery,
    EmailRow,
    MailboxCounts,
    MailboxRow,
    SearchDocument,
    ThreadRow,
)
from tindra.model.sharing import Move, Share, SharedAccount
from tindra.model.stored import BlobRow, CommitInfo, ObjectRow, OutboxRow, TimerRow

T = TypeVar("T")
K = TypeVar("K")


class Cursor(NamedTuple):
    """A place in the change log of one type: everything at or below (modseq, id) is known.

    `id` is None in a whole state (all of `modseq` is known); a text id stands inside the
    changes of one transaction, which is how an answer shorter than a transaction goes on.
    Order within one modseq is by id.
    """

    modseq: ModSeq
    id: str | None = None


class ChangePage(NamedTuple):
    """Changes after a cursor, folded to one entry an id, in the order of their last change."""

    created: list[str]
    updated: list[str]
    destroyed: list[str]
    cursor: Cursor
    """Where the next page starts."""
    has_more: bool


class Page(NamedTuple, Generic[K]):
    """Which of a result is wanted. Source: RFC 8620 s5.5"""

    position: int
    """Of the first, from 0; negative: from the end. An anchor takes its place."""
    limit: int
    anchor: K | None = None
    offset: int = 0
    """Of the first from the anchor."""

    def cut(self, ids: Sequence[K]) -> tuple[int, list[K]] | None:
        """Where it begins in a whole result, and what is on it; None without the anchor."""
        start = max(0, len(ids) + self.position) if self.position < 0 else self.position
        if self.anchor is not None:
            if self.anchor not in ids:
                return None
            start = max(0, ids.index(self.anchor) + self.offset)
        return start, list(ids[start : start + self.limit])


class EmailPage(NamedTuple):
    """A page of the result of an Email query."""

    position: int
    doc_ids: list[int]
    total: int | None
    """None unless asked for."""


class StoreReader(Protocol):
    """A consistent view of one account."""

    account_id: AccountId

    async def load_states(self) -> Mapping[str, ModSeq]:
        """State of every type that ever changed; a missing type is at 0. Cost: one range read."""

    async def list_changes(self, type_name: str, since: Cursor, limit: int) -> ChangePage:
        """Changes of one type after `since`; at most `limit` ids in all three lists together.

        An object made and destroyed after `since` is left out. Cost: one index range read,
        O(entries read). Source: RFC 8620 s5.2
        Raises: StateTooOld.
        """

    # -- small objects
    async def load_objects(self, type_name: str, ids: Sequence[str] | None) -> list[ObjectRow]:
        """Objects by id (unknown ids are left out), or all of the type, in id order for None."""

    # -- mail
    async def load_mailboxes(self) -> list[MailboxRow]:
        """All Mailboxes, in id order."""

    async def load_emails(self, doc_ids: Sequence[int]) -> list[EmailRow]:
        """Emails by document number, in no promised order; unknown ones are left out."""

    async def load_contents(self, doc_ids: Sequence[int]) -> dict[int, EmailContent]:
        """The immutable JSON of Emails."""

    async def find_emails_by_blob(self, blob_ids: Sequence[str]) -> dict[str, int]:
        """blobId -> doc_id of Emails whose whole message it is."""

    async def load_threads(self, ids: Sequence[str]) -> list[ThreadRow]:
        """Threads by id, in no promised order."""

    async def find_threads_by_reference(self, refs: Sequence[str]) -> dict[str, list[ThreadId]]:
        """Reference key -> Threads that hold a message with it: the newest 20, in id order."""

    async def find_threads_by_subject(self, subject_key: str, since_ms: int) -> list[ThreadRow]:
        """Threads of one subject whose latest message is at or after `since_ms`; newest first,
        at most 20."""

    async def query_emails(
        self, query: EmailQuery, stop: int | None, has_total: bool
    ) -> tuple[list[int], int | None]:
        """The first `stop` doc_ids of the result in order (all for None), and the whole count.

        The count is None unless asked for. No `header` condition comes here. Text conditions
        are answered from the search index as far as its watermark goes.
        Cost: for one Mailbox by receivedAt, O(stop), whatever the size of the Mailbox.
        Source: RFC 8621 s4.4
        """

    async def query_page(
        self, query: EmailQuery, page: Page[int], has_total: bool
    ) -> EmailPage | None:
        """A page of the same result; None when the anchor is not in it.

        Cost: for one Mailbox by receivedAt O(limit), and a look at the index entries before an
        anchor or a position to know it; else up to a look at every Email, but no more in memory
        than lie before the page or (for what is read from the end) after it.
        Source: RFC 8620 s5.5
        """

    # -- blobs, outbox, timers
    async def load_blobs(self, ids: Sequence[str]) -> dict[str, BlobRow]:
        """Blobs of this account, with their octets where they are stored inline."""

    async def list_outbox(self, topic: str, due_ms: int, limit: int) -> list[OutboxRow]:
        """Intents of one topic that are due at or before `due_ms`, oldest transaction first."""

    async def list_timers(self, due_ms: int, limit: int) -> list[TimerRow]:
        """Timers due at or before `due_ms`, earliest first."""

    # -- sharing
    async def list_shares(self, user_id: UserId | None = None) -> list[Share]:
        """What users, or one, may do in single Mailboxes, in (Mailbox, user) order; with those
        taken back, which have no rights."""

    async def find_shared(self, mailbox_ids: Sequence[str]) -> set[MailboxId]:
        """Those of some Mailboxes that are shared with anybody."""

    async def list_moves(
        self, mailbox_ids: Sequence[str], since: Cursor, doc_ids: Sequence[int] | None, limit: int
    ) -> list[Move]:
        """Emails (all, or some) that came into or left these Mailboxes after `since`, whose id is
        one of an Email, in the order of (modseq, doc_id). Known for as long as a Mailbox is shared.
        Raises: StateTooOld.
        """


class StoreTx(StoreReader, Protocol):
    """A write transaction. Reads see its own writes. Nothing but `core/tx` may hold one."""

    modseq: ModSeq
    """The number of this transaction; every row it writes is stamped with it."""

    async def put_object(self, type_name: str, id: str, data: bytes) -> None:
        """Create or replace a small object."""

    async def delete_object(self, type_name: str, id: str) -> None:
        """Destroy a small object and leave a tombstone. Unknown ids are ignored."""

    async def put_mailbox(self, row: MailboxRow) -> None:
        """Create or change a Mailbox; its counters are not touched."""

    async def add_mailbox_counts(self, deltas: Mapping[MailboxId, MailboxCounts]) -> None:
        """Add to counters. Raises AssertionError if one would become negative."""

    async def delete_mailbox(self, id: MailboxId) -> None:
        """Destroy an empty Mailbox and leave a tombstone."""

    async def reserve_doc_counters(self, count: int) -> int:
        """The first of `count` numbers that this account never used before (see make_doc_id)."""

    async def insert_emails(self, rows: Sequence[tuple[EmailRow, EmailContent]]) -> None:
        """Add Emails. Raises Conflict when one with the same blob exists."""

    async def update_emails(self, rows: Sequence[tuple[EmailRow, EmailRow]]) -> None:
        """Replace (before, after): only mailbox_ids and keywords may differ."""

    async def delete_emails(self, rows: Sequence[EmailRow]) -> None:
        """Destroy Emails, leave tombstones, and drop them from the search index."""

    async def put_threads(self, rows: Sequence[ThreadRow]) -> None:
        """Create or replace Threads; one with no Emails is destroyed and leaves a tombstone."""

    async def put_thread_references(self, thread_id: ThreadId, refs: Sequence[str]) -> None:
        """Let later mail find this Thread by these reference keys."""

    async def put_blob(self, row: BlobRow) -> None:
        """Link a blob to this account. Doing it twice is harmless."""

    async def put_outbox(self, topic: str, key: str, payload: bytes, due_ms: int) -> None:
        """Add or replace an intent; tries start again at 0."""

    async def retry_outbox(self, row: OutboxRow, due_ms: int, error: str) -> None:
        """Count a failed try and set when the next is due; no-op if the row changed meanwhile."""

    async def finish_outbox(self, row: OutboxRow) -> bool:
        """Remove an intent; False (and it stays) if it was written again since it was read."""

    async def put_timer(self, row: TimerRow) -> None:
        """Set or move a timer."""

    async def delete_timer(self, kind: str, key: str) -> None:
        """Remove a timer if it is there."""

    async def put_share(self, share: Share) -> None:
        """Give, change or (with no rights) take back what a user may do in one Mailbox. Other
        rights change the state of all SHARED_TYPES."""

    async def put_moves(self, moves: Sequence[Move]) -> None:
        """Remember Emails that came into or left shared Mailboxes in this transaction; one that
        did both did neither. Changes the state of Thread."""


ReadFunction = Callable[[StoreReader], Awaitable[T]]
WriteFunction = Callable[[StoreTx], Awaitable[T]]


class Store(Protocol):
    """The database of all accounts."""

    on_commit: Callable[[CommitInfo], None] | None
    """Called on the loop for every commit, even one whose caller was cancelled."""

    async def read(self, account_id: AccountId, fn: ReadFunction[T], *, is_long: bool = False) -> T:
        """Run `fn` on a consistent view. `is_long`: may take more than a few milliseconds.

        Raises: Unavailable; whatever `fn` raises.
        """

    async def write(
        self, account_id: AccountId, name: str, fn: WriteFunction[T]
    ) -> tuple[T, CommitInfo]:
        """Run `fn` in a write transaction; return when it is durable.

        `name` is the metric label. What `fn` raises rolls everything back and is raised here.
        Once begun it is never abandoned: a cancelled caller leaves it to finish.
        Raises: Conflict; Unavailable.
        """

    async def list_due(self, now_ms: int, limit: int, topic: str | None = None) -> list[AccountId]:
        """Accounts with a timer or an outbox row (of one topic, or any) due, longest due first."""

    async def trim_changes(self, account_id: AccountId, upto: ModSeq) -> None:
        """Forget tombstones up to `upto`; states that needed them become StateTooOld."""

    async def check_invariants(self, account_id: AccountId) -> None:
        """Counters equal recounts, no orphan rows, modseqs ordered. Raises AssertionError."""

    async def poll_changes(self) -> list[CommitInfo]:
        """Commits made by other processes since the last call (hints: states of accounts that
        may have changed). Cheap when nothing changed."""

    async def close(self) -> None:
        """Finish what is queued, then close."""


class Directory(Protocol):
    """Users, credentials and grants: the few tables that are not keyed by account."""

    async def put_user(self, user: User) -> None: ...
    async def find_user(self, login: str) -> User | None: ...
    async def load_user(self, user_id: UserId) -> User | None: ...
    async def list_users(self) -> list[User]: ...

    async def put_account(self, account: Account) -> None:
        """Create or rename an account."""

    async def load_accounts(self, ids: Sequence[AccountId] | None) -> list[Account]:
        """Accounts by id, or all of them."""

    async def delete_account(self, account_id: AccountId) -> None:
        """Erase an account: all its rows, its grants, its search index and its data key."""

    async def put_grant(self, grant: Grant) -> None: ...
    async def delete_grant(self, user_id: UserId, account_id: AccountId) -> None: ...
    async def list_grants(self, user_id: UserId) -> list[Grant]: ...
    async def list_grantees(self, account_id: AccountId) -> list[Grant]: ...
    async def list_shared_accounts(self, user_id: UserId) -> list[SharedAccount]: ...
    async def put_token(self, token: Token) -> None: ...
    async def find_token(self, token_hash: bytes) -> Token | None: ...
    async def list_tokens(self, user_id: UserId) -> list[Token]: ...
    async def delete_token(self, token_hash: bytes) -> None: ...


class SecretStore(Protocol):
    """Sealed secrets; the only place that opens them. Source: docs/data.md, Secrets"""

    async def put_secret(self, account_id: AccountId, name: str, secret: str) -> None: ...
    async def open_secret(self, account_id: AccountId, name: str) -> str | None: ...


class BlobStore(Protocol):
    """Octets by content. A blob id is the hash of the content, scoped by account."""

    async def put(self, account_id: AccountId, data: bytes) -> BlobRow:
        """Store and link; durable on return. The row that comes back has no data."""

    async def stage(self, account_id: AccountId, data: bytes) -> BlobRow:
        """Make octets ready to be linked by `StoreTx.put_blob` in a transaction of the caller:
        large ones are durable on return, small ones travel inside the row."""

    async def get(
        self, account_id: AccountId, blob_id: str, start: int = 0, end: int | None = None
    ) -> bytes | None:
        """Octets [start, end) of a blob that this account holds; None for any other id."""

    async def load_size(self, account_id: AccountId, blob_id: str) -> int | None:
        """Its length in octets; None for an unknown or foreign id."""


class SearchIndex(Protocol):
    """The full-text index; queries reach it through `StoreReader.query_emails`.

    It follows the Emails at its own pace behind a watermark, which is the (created_modseq,
    doc_id) of the last Email indexed. Queries join its answers with the Emails, so an entry of
    a destroyed Email is never seen. It can be thrown away and built again.
    """

    async def list_unindexed(self, account_id: AccountId, limit: int) -> list[tuple[ModSeq, int]]:
        """(created_modseq, doc_id) of Emails above the watermark, in that order."""

    async def add(
        self,
        account_id: AccountId,
        documents: Sequence[SearchDocument],
        upto: tuple[ModSeq, int],
    ) -> None:
        """Index Emails and raise the watermark to `upto`, in one commit; idempotent."""

    async def list_removable(self, account_id: AccountId, limit: int) -> list[int]:
        """doc_ids of destroyed Emails that the index may still hold."""

    async def remove(self, account_id: AccountId, doc_ids: Sequence[int]) -> None:
        """Forget destroyed Emails; idempotent."""


class Bus(Protocol):
    """Hints that something was committed. Losing every one costs latency, never data."""

    def publish(self, info: CommitInfo) -> None: ...

    def subscribe(self, listener: Callable[[CommitInfo], None]) -> Callable[[], None]:
        """Call `listener` for each commit, on the loop; the result unsubscribes."""


class Offload(Protocol):
    """Somewhere to run long pure work (parsing a huge message) so that the loop stays free."""

    async def run(self, fn: Callable[..., T], *args: Any) -> T: ...
