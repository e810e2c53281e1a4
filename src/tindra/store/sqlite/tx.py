"""Writes of one account inside a transaction: the StoreTx port (and sync's mirror) over SQL.

Invariants: every row written is stamped with the transaction's modseq; every type touched gets its
state when the transaction ends; a destroyed object leaves a tombstone unless it was made in the
same transaction, in which case nobody ever saw it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import apsw

from tindra.base.ids import AccountId, MailboxId, ModSeq, ThreadId
from tindra.core.errors import Conflict, StoreError
from tindra.model.mail import (
    EmailContent,
    EmailRow,
    MailboxCounts,
    MailboxRow,
    RemoteRow,
    ThreadRow,
    parse_email_id,
)
from tindra.model.sharing import SHARED_TYPES, Move, Share
from tindra.model.stored import BlobRow, CommitInfo, OutboxRow, TimerRow
from tindra.store.sqlite.connection import StoreConnection
from tindra.store.sqlite.reader import SqliteReader
from tindra.store.sqlite.rows import (
    EMAIL_COLUMNS,
    email_values,
    encode_list,
    encode_set,
    listed_keywords,
)

_INSERT_EMAIL: Final = (
    f"INSERT INTO email (account_id, {EMAIL_COLUMNS})"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class SqliteTx(SqliteReader):
    """A write transaction: `begin` first, then the function's calls, then `finish`."""

    def __init__(self, conn: StoreConnection, account_id: AccountId) -> None:
        super().__init__(conn, account_id)
        self.modseq = ModSeq(0)
        self._run_many: Callable[..., Any] = conn.executemany
        self._types: set[str] = set()
        self._topics: set[str] = set()
        self._has_timers = False
        self._buried: dict[tuple[str, str], int] = {}
        self._changes_before = 0

    # -- the frame --------------------------------------------------------------------------------
    def begin(self, epoch: int) -> None:
        """Take the account and its next number. Source: docs/data.md rule 2

        Raises: Conflict when a newer worker owns the account; StoreError for an unknown account.
        """
        row = self._run(
            "UPDATE account SET modseq = modseq + 1, fence = ?1"
            " WHERE account_id = ?2 AND fence <= ?1 RETURNING modseq",
            (epoch, self.account_id),
        ).fetchone()
        if row is None:
            known = self._run("SELECT 1 FROM account WHERE account_id = ?", (self.account_id,)).get
            if known is None:
                raise StoreError(f"no account {self.account_id!r}")
            raise Conflict(f"a newer worker than {epoch} writes account {self.account_id!r}")
        self.modseq = ModSeq(row[0])
        self._changes_before = self._conn.total_changes()

    def finish(self) -> CommitInfo | None:
        """Write the states of what changed; None if nothing did (then undo the number, too)."""
        if self._conn.total_changes() == self._changes_before:
            return None
        self._run_many(
            "INSERT OR REPLACE INTO type_state (account_id, type_name, modseq) VALUES (?, ?, ?)",
            [(self.account_id, name, self.modseq) for name in self._types],
        )
        return CommitInfo(
            account_id=self.account_id,
            modseq=self.modseq,
            states=dict.fromkeys(self._types, self.modseq),
            topics=frozenset(self._topics),
            has_timers=self._has_timers,
        )

    def _bury(self, type_name: str, gone: Iterable[tuple[str, int]]) -> None:
        """Tombstones for (id, created_modseq) of objects that somebody may have seen."""
        self._types.add(type_name)
        seen = [(id, created) for id, created in gone if created != self.modseq]
        self._buried.update(((type_name, id), created) for id, created in seen)
        self._run_many(
            "INSERT INTO tombstone (account_id, type_name, modseq, id, created_modseq)"
            " VALUES (?, ?, ?, ?, ?)",
            [(self.account_id, type_name, self.modseq, id, created) for id, created in seen],
        )

    def _created_modseq(self, type_name: str, id: str) -> int:
        """What a new row gets; one that this transaction destroyed was only changed by it."""
        created = self._buried.pop((type_name, id), None)
        if created is None:
            return self.modseq
        self._run(
            "DELETE FROM tombstone"
            " WHERE account_id = ? AND type_name = ? AND modseq = ? AND id = ?",
            (self.account_id, type_name, self.modseq, id),
        )
        return created

    # -- small objects ----------------------------------------------------------------------------
    async def put_object(self, type_name: str, id: str, data: bytes) -> None:
        """Create or replace a small object."""
        self._types.add(type_name)
        self._run(
            "INSERT INTO object (account_id, type_name, id, data, created_modseq, changed_modseq)"
            " VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (account_id, type_name, id)"
            " DO UPDATE SET data = ?4, changed_modseq = ?6",
            (
                self.account_id, type_name, id, data, self._created_modseq(type_name, id),
                self.modseq,
            ),
        )  # fmt: skip

    async def delete_object(self, type_name: str, id: str) -> None:
        """Destroy a small object and leave a tombstone."""
        created = self._run(
            "DELETE FROM object WHERE account_id = ? AND type_name = ? AND id = ?"
            " RETURNING created_modseq",
            (self.account_id, type_name, id),
        ).get
        if created is not None:
            self._bury(type_name, [(id, created)])

    # -- mailboxes --------------------------------------------------------------------------------
    async def put_mailbox(self, row: MailboxRow) -> None:
        """Create or change a Mailbox; its counters are not touched."""
        self._types.add("Mailbox")
        self._run(
            "INSERT INTO mailbox (account_id, mailbox_id, name, parent_id, role, sort_order,"
            " is_subscribed, created_modseq, info_modseq, changed_modseq)"
            " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?9, ?8, ?8)"
            " ON CONFLICT (account_id, mailbox_id) DO UPDATE SET name = ?3, parent_id = ?4,"
            " role = ?5, sort_order = ?6, is_subscribed = ?7, info_modseq = ?8,"
            " changed_modseq = ?8",
            (
                self.account_id, row.id, row.name, row.parent_id, row.role, row.sort_order,
                int(row.is_subscribed), self.modseq, self._created_modseq("Mailbox", row.id),
            ),
        )  # fmt: skip
        self._run(
            "INSERT OR IGNORE INTO mailbox_count (account_id, mailbox_id, principal_id)"
            " VALUES (?, ?, '')",
            (self.account_id, row.id),
        )

    async def add_mailbox_counts(self, deltas: Mapping[MailboxId, MailboxCounts]) -> None:
        """Add to counters. Raises: AssertionError below zero, or for an unknown Mailbox."""
        changed = {id: delta for id, delta in deltas.items() if delta != MailboxCounts()}
        if not changed:
            return
        self._types.add("Mailbox")
        before = self._conn.total_changes()
        try:
            self._run_many(
                "UPDATE mailbox_count SET total_emails = total_emails + ?,"
                " unread_emails = unread_emails + ?, total_threads = total_threads + ?,"
                " unread_threads = unread_threads + ?"
                " WHERE account_id = ? AND mailbox_id = ? AND principal_id = ''",
                [
                    (
                        delta.total_emails, delta.unread_emails, delta.total_threads,
                        delta.unread_threads, self.account_id, id,
                    )
                    for id, delta in changed.items()
                ],
            )  # fmt: skip
        except apsw.ConstraintError as error:
            raise AssertionError(f"a Mailbox counter would become negative: {changed}") from error
        self._run_many(
            "UPDATE mailbox SET changed_modseq = ? WHERE account_id = ? AND mailbox_id = ?",
            [(self.modseq, self.account_id, id) for id in changed],
        )
        self._check_written(before, 2 * len(changed), "a counted Mailbox does not exist")

    async def delete_mailbox(self, id: MailboxId) -> None:
        """Destroy an empty Mailbox. Raises: AssertionError when Emails are in it."""
        has_emails = self._run(
            "SELECT 1 FROM email_mailbox WHERE account_id = ? AND mailbox_id = ? LIMIT 1",
            (self.account_id, id),
        ).get
        assert has_emails is None, f"Mailbox {id} still has Emails"
        created = self._run(
            "DELETE FROM mailbox WHERE account_id = ? AND mailbox_id = ? RETURNING created_modseq",
            (self.account_id, id),
        ).get
        if created is not None:
            self._run(
                "DELETE FROM mailbox_count WHERE account_id = ? AND mailbox_id = ?",
                (self.account_id, id),
            )
            self._bury("Mailbox", [(id, created)])

    # -- emails -----------------------------------------------------------------------------------
    async def reserve_doc_counters(self, count: int) -> int:
        """The first of `count` numbers that this account has never used before."""
        first: int = self._run(
            "UPDATE account SET doc_counter = doc_counter + ?1 WHERE account_id = ?2"
            " RETURNING doc_counter - ?1",
            (count, self.account_id),
        ).get
        return first

    async def insert_emails(self, rows: Sequence[tuple[EmailRow, EmailContent]]) -> None:
        """Add Emails. Raises: Conflict when one with the same blob exists."""
        if not rows:
            return
        account, modseq = self.account_id, self.modseq
        self._types.update(("Email", "EmailDelivery"))
        try:
            self._run_many(_INSERT_EMAIL, [email_values(account, row, modseq) for row, _ in rows])
        except apsw.ConstraintError as error:
            raise Conflict("an Email with this blob or number exists") from error
        self._run_many(
            "INSERT INTO email_content (account_id, doc_id, meta, structure) VALUES (?, ?, ?, ?)",
            [(account, row.doc_id, content.meta, content.structure) for row, content in rows],
        )
        self._list_in_mailboxes((row, row.mailbox_ids) for row, _ in rows)
        self._list_by_keywords((row, listed_keywords(row.keywords)) for row, _ in rows)

    async def update_emails(self, rows: Sequence[tuple[EmailRow, EmailRow]]) -> None:
        """Replace (before, after): only mailbox_ids and keywords may differ."""
        if not rows:
            return
        self._types.add("Email")
        before_count = self._conn.total_changes()
        self._run_many(
            "UPDATE email SET mailbox_ids = ?, keywords = ?, changed_modseq = ?"
            " WHERE account_id = ? AND doc_id = ?",
            [
                (
                    encode_set(after.mailbox_ids), encode_set(after.keywords), self.modseq,
                    self.account_id, after.doc_id,
                )
                for _, after in rows
            ],
        )  # fmt: skip
        self._check_written(before_count, len(rows), "a changed Email does not exist")
        self._move(rows)
        self._mark(rows)

    def _move(self, rows: Sequence[tuple[EmailRow, EmailRow]]) -> None:
        moved = [
            (after, set(before.mailbox_ids), set(after.mailbox_ids))
            for before, after in rows
            if before.mailbox_ids != after.mailbox_ids
        ]
        if moved:
            self._unlist_in_mailboxes((row, old - new) for row, old, new in moved)
            self._list_in_mailboxes((row, new - old) for row, old, new in moved)

    def _mark(self, rows: Sequence[tuple[EmailRow, EmailRow]]) -> None:
        marked = [
            (after, listed_keywords(before.keywords), listed_keywords(after.keywords))
            for before, after in rows
            if before.keywords != after.keywords
        ]
        if marked:
            self._unlist_by_keywords((row, old - new) for row, old, new in marked)
            self._list_by_keywords((row, new - old) for row, old, new in marked)

    async def delete_emails(self, rows: Sequence[EmailRow]) -> None:
        """Destroy Emails and leave tombstones; the search index follows by those."""
        if not rows:
            return
        gone: list[tuple[str, int]] = []
        for row in rows:
            created = self._run(
                "DELETE FROM email WHERE account_id = ? AND doc_id = ? RETURNING created_modseq",
                (self.account_id, row.doc_id),
            ).get
            assert created is not None, f"Email {row.id} does not exist"
            gone.append((row.id, created))
        self._run_many(
            "DELETE FROM email_content WHERE account_id = ? AND doc_id = ?",
            [(self.account_id, row.doc_id) for row in rows],
        )
        self._unlist_in_mailboxes((row, row.mailbox_ids) for row in rows)
        self._unlist_by_keywords((row, listed_keywords(row.keywords)) for row in rows)
        self._bury("Email", gone)

    def _list_in_mailboxes(self, places: Iterable[tuple[EmailRow, Iterable[str]]]) -> None:
        self._run_many(
            "INSERT INTO email_mailbox (account_id, mailbox_id, doc_id, thread_id)"
            " VALUES (?, ?, ?, ?)",
            [
                (self.account_id, id, row.doc_id, row.thread_id)
                for row, mailbox_ids in places
                for id in mailbox_ids
            ],
        )

    def _unlist_in_mailboxes(self, places: Iterable[tuple[EmailRow, Iterable[str]]]) -> None:
        self._run_many(
            "DELETE FROM email_mailbox WHERE account_id = ? AND mailbox_id = ? AND doc_id = ?",
            [
                (self.account_id, id, row.doc_id)
                for row, mailbox_ids in places
                for id in mailbox_ids
            ],
        )

    def _list_by_keywords(self, names: Iterable[tuple[EmailRow, Iterable[str]]]) -> None:
        self._run_many(
            "INSERT INTO email_keyword (account_id, keyword, doc_id, thread_id)"
            " VALUES (?, ?, ?, ?)",
            [
                (self.account_id, name, row.doc_id, row.thread_id)
                for row, listed in names
                for name in listed
            ],
        )

    def _unlist_by_keywords(self, names: Iterable[tuple[EmailRow, Iterable[str]]]) -> None:
        self._run_many(
            "DELETE FROM email_keyword WHERE account_id = ? AND keyword = ? AND doc_id = ?",
            [(self.account_id, name, row.doc_id) for row, listed in names for name in listed],
        )

    def _check_written(self, before: int, expected: int, text: str) -> None:
        assert self._conn.total_changes() - before == expected, text

    # -- threads ----------------------------------------------------------------------------------
    async def put_threads(self, rows: Sequence[ThreadRow]) -> None:
        """Create or replace Threads; one with no Emails is destroyed and leaves a tombstone."""
        kept = [row for row in rows if row.email_ids]
        if kept:
            self._types.add("Thread")
            self._run_many(
                "INSERT INTO thread (account_id, thread_id, email_ids, subject_key, participants,"
                " latest_ms, created_modseq, changed_modseq)"
                " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?8, ?7)"
                " ON CONFLICT (account_id, thread_id) DO UPDATE SET email_ids = ?3,"
                " subject_key = ?4, participants = ?5, latest_ms = ?6, changed_modseq = ?7",
                [
                    (
                        self.account_id, row.id, encode_list(row.email_ids), row.subject_key,
                        encode_list(row.participants), row.latest_ms, self.modseq,
                        self._created_modseq("Thread", row.id),
                    )
                    for row in kept
                ],
            )  # fmt: skip
        for row in rows:
            if not row.email_ids:
                self._delete_thread(row.id)

    def _delete_thread(self, id: ThreadId) -> None:
        created = self._run(
            "DELETE FROM thread WHERE account_id = ? AND thread_id = ? RETURNING created_modseq",
            (self.account_id, id),
        ).get
        if created is not None:
            self._run(
                "DELETE FROM thread_ref WHERE account_id = ? AND thread_id = ?",
                (self.account_id, id),
            )
            self._bury("Thread", [(id, created)])

    async def put_thread_references(self, thread_id: ThreadId, refs: Sequence[str]) -> None:
        """Let later mail find this Thread by these reference keys."""
        self._run_many(
            "INSERT OR IGNORE INTO thread_ref (account_id, ref, thread_id) VALUES (?, ?, ?)",
            [(self.account_id, ref, thread_id) for ref in refs],
        )

    # -- blobs, outbox, timers --------------------------------------------------------------------
    async def put_blob(self, row: BlobRow) -> None:
        """Link a blob to this account."""
        self._run(
            "INSERT OR IGNORE INTO blob (account_id, blob_id, size, created_ms, data)"
            " VALUES (?, ?, ?, ?, ?)",
            (self.account_id, row.id, row.size, row.created_ms, row.data),
        )

    async def put_outbox(self, topic: str, key: str, payload: bytes, due_ms: int) -> None:
        """Add or replace an intent; tries start again at 0."""
        self._topics.add(topic)
        self._run(
            "INSERT OR REPLACE INTO outbox"
            " (account_id, topic, key, payload, modseq, tries, due_ms, last_error)"
            " VALUES (?, ?, ?, ?, ?, 0, ?, '')",
            (self.account_id, topic, key, payload, self.modseq, due_ms),
        )

    async def retry_outbox(self, row: OutboxRow, due_ms: int, error: str) -> None:
        """Count a failed try and set when the next is due; no-op if the row changed meanwhile."""
        self._run(
            "UPDATE outbox SET tries = tries + 1, due_ms = ?, last_error = ?"
            " WHERE account_id = ? AND topic = ? AND key = ? AND modseq = ?",
            (due_ms, error, self.account_id, row.topic, row.key, row.modseq),
        )

    async def finish_outbox(self, row: OutboxRow) -> bool:
        """Remove an intent; False (and it stays) if it was written again since it was read."""
        gone = self._run(
            "DELETE FROM outbox WHERE account_id = ? AND topic = ? AND key = ? AND modseq = ?"
            " RETURNING 1",
            (self.account_id, row.topic, row.key, row.modseq),
        ).get
        return gone is not None

    async def put_timer(self, row: TimerRow) -> None:
        """Set or move a timer."""
        self._has_timers = True
        self._run(
            "INSERT OR REPLACE INTO timer (account_id, kind, key, due_ms, payload)"
            " VALUES (?, ?, ?, ?, ?)",
            (self.account_id, row.kind, row.key, row.due_ms, row.payload),
        )

    async def delete_timer(self, kind: str, key: str) -> None:
        """Remove a timer if it is there."""
        self._run(
            "DELETE FROM timer WHERE account_id = ? AND kind = ? AND key = ?",
            (self.account_id, kind, key),
        )

    # -- sharing ----------------------------------------------------------------------------------
    async def put_share(self, share: Share) -> None:
        """Give, change or (with no rights) take back what a user may do in one Mailbox."""
        rights = encode_list(sorted(share.rights))
        key = (self.account_id, share.mailbox_id, share.user_id)
        kept = self._run(
            "UPDATE mailbox_share SET is_subscribed = ?5 WHERE account_id = ?1"
            " AND mailbox_id = ?2 AND user_id = ?3 AND rights = ?4 RETURNING 1",
            (*key, rights, int(share.is_subscribed)),
        ).get
        self._types.update(("Mailbox",) if kept else SHARED_TYPES)
        if not kept:
            self._run(
                "INSERT OR REPLACE INTO mailbox_share (account_id, mailbox_id, user_id, rights,"
                " is_subscribed, changed_modseq) VALUES (?, ?, ?, ?, ?, ?)",
                (*key, rights, int(share.is_subscribed), self.modseq),
            )

    async def put_moves(self, moves: Sequence[Move]) -> None:
        """Remember Emails that came into or left shared Mailboxes in this transaction."""
        if moves:
            self._types.add("Thread")
        for move in moves:
            key = (self.account_id, self.modseq, move.doc_id, move.mailbox_id)
            undone = self._run(
                "DELETE FROM email_move WHERE account_id = ? AND modseq = ? AND doc_id = ?"
                " AND mailbox_id = ? AND is_in <> ? RETURNING 1",
                (*key, int(move.is_in)),
            ).get
            if not undone:
                self._run(
                    "INSERT OR IGNORE INTO email_move"
                    " (account_id, modseq, doc_id, mailbox_id, thread_id, is_in)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (*key, move.thread_id, int(move.is_in)),
                )

    # -- the mirror (sync/mirror.py) --------------------------------------------------------------
    async def put_remote(self, rows: Sequence[RemoteRow]) -> None:
        """Create or replace mirror rows."""
        self._run_many(
            "INSERT OR REPLACE INTO remote_message"
            " (account_id, mailbox_id, uid, doc_id, keywords, modseq) VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    self.account_id, row.mailbox_id, row.uid, parse_email_id(row.email_id),
                    encode_set(row.keywords), row.modseq,
                )
                for row in rows
            ],
        )  # fmt: skip

    async def delete_remote(self, mailbox_id: str, uids: Sequence[int]) -> None:
        """Forget messages that left the provider's mailbox."""
        self._run_many(
            "DELETE FROM remote_message WHERE account_id = ? AND mailbox_id = ? AND uid = ?",
            [(self.account_id, mailbox_id, uid) for uid in uids],
        )

    async def delete_remote_mailbox(self, mailbox_id: str) -> None:
        """Forget a whole mailbox of the provider."""
        self._run(
            "DELETE FROM remote_message WHERE account_id = ? AND mailbox_id = ?",
            (self.account_id, mailbox_id),
        )
