"""Writes of one account: the StoreTx port (and sync's mirror) over dicts.

The same invariants as the SQL one: rows stamped with the transaction's modseq, a state for every
type touched, a tombstone for what somebody may have seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from tindra.base.ids import AccountId, Id, MailboxId, ModSeq, ThreadId
from tindra.core.errors import Conflict, StoreError
from tindra.model.mail import (
    EmailContent,
    EmailRow,
    MailboxCounts,
    MailboxRow,
    RemoteRow,
    ThreadRow,
)
from tindra.model.sharing import SHARED_TYPES, Move, Share
from tindra.model.stored import BlobRow, CommitInfo, ObjectRow, OutboxRow, TimerRow
from tindra.store.invariants import Stamp
from tindra.store.memory.reader import LoadIndex, MemoryReader
from tindra.store.memory.rows import AccountState

_replace = msgspec.structs.replace


class MemoryTx(MemoryReader):
    """A write transaction on a copy of the account's state."""

    def __init__(
        self, account_id: AccountId, state: AccountState, load_index: LoadIndex, epoch: int
    ) -> None:
        if state.fence > epoch:
            raise Conflict(f"a newer worker than {epoch} writes account {account_id!r}")
        super().__init__(account_id, state.copy(), load_index)
        self._state.modseq += 1
        self._state.fence = epoch
        self.modseq = ModSeq(self._state.modseq)
        self._before = state
        self._types: set[str] = set()
        self._topics: set[str] = set()
        self._has_timers = False

    def finish(self) -> tuple[AccountState, CommitInfo] | None:
        """The new state of the account; None if nothing was written."""
        before, after = self._before, self._state
        if not self._types and _plain(before) == _plain(after):
            return None
        after.states.update(dict.fromkeys(self._types, self.modseq))
        return after, CommitInfo(
            account_id=self.account_id,
            modseq=self.modseq,
            states=dict.fromkeys(self._types, self.modseq),
            topics=frozenset(self._topics),
            has_timers=self._has_timers,
        )

    def _created(self, type_name: str, id: str, old: int | None) -> ModSeq:
        """When a row was made; one that this transaction destroyed was only changed by it."""
        if old is not None:
            return ModSeq(old)
        for stamp in self._state.tombstones:
            if (stamp.type_name, stamp.id, stamp.changed_modseq) == (type_name, id, self.modseq):
                self._state.tombstones.remove(stamp)
                return ModSeq(stamp.created_modseq)
        return self.modseq

    def _bury(self, type_name: str, id: str, created: int) -> None:
        self._types.add(type_name)
        if created != self.modseq:
            self._state.tombstones.append(Stamp(type_name, id, created, self.modseq))

    # -- small objects ----------------------------------------------------------------------------
    async def put_object(self, type_name: str, id: str, data: bytes) -> None:
        """Create or replace a small object."""
        self._types.add(type_name)
        old = self._state.objects.get((type_name, id))
        created = self._created(type_name, id, old.created_modseq if old else None)
        row = ObjectRow(Id(id), data, created, self.modseq)
        self._state.objects[type_name, id] = row

    async def delete_object(self, type_name: str, id: str) -> None:
        """Destroy a small object and leave a tombstone."""
        row = self._state.objects.pop((type_name, id), None)
        if row is not None:
            self._bury(type_name, id, row.created_modseq)

    # -- mailboxes --------------------------------------------------------------------------------
    async def put_mailbox(self, row: MailboxRow) -> None:
        """Create or change a Mailbox; its counters are not touched."""
        self._types.add("Mailbox")
        old = self._state.mailboxes.get(row.id)
        self._state.mailboxes[row.id] = _replace(
            row,
            total_emails=old.total_emails if old else 0,
            unread_emails=old.unread_emails if old else 0,
            total_threads=old.total_threads if old else 0,
            unread_threads=old.unread_threads if old else 0,
            created_modseq=self._created("Mailbox", row.id, old.created_modseq if old else None),
            info_modseq=self.modseq,
            changed_modseq=self.modseq,
        )

    async def add_mailbox_counts(self, deltas: Mapping[MailboxId, MailboxCounts]) -> None:
        """Add to counters. Raises: AssertionError below zero, or for an unknown Mailbox."""
        for id, delta in deltas.items():
            if delta == MailboxCounts():
                continue
            self._types.add("Mailbox")
            assert id in self._state.mailboxes, "a counted Mailbox does not exist"
            old = self._state.mailboxes[id]
            row = _replace(
                old,
                total_emails=old.total_emails + delta.total_emails,
                unread_emails=old.unread_emails + delta.unread_emails,
                total_threads=old.total_threads + delta.total_threads,
                unread_threads=old.unread_threads + delta.unread_threads,
                changed_modseq=self.modseq,
            )
            least = min(row.total_emails, row.unread_emails, row.total_threads, row.unread_threads)
            assert least >= 0, f"a Mailbox counter would become negative: {row}"
            self._state.mailboxes[id] = row

    async def delete_mailbox(self, id: MailboxId) -> None:
        """Destroy an empty Mailbox. Raises: AssertionError when Emails are in it."""
        for email in self._state.emails.values():
            assert id not in email.mailbox_ids, f"Mailbox {id} still has Emails"
        row = self._state.mailboxes.pop(id, None)
        if row is not None:
            self._bury("Mailbox", id, row.created_modseq)

    # -- emails -----------------------------------------------------------------------------------
    async def reserve_doc_counters(self, count: int) -> int:
        """The first of `count` numbers that this account has never used before."""
        self._state.doc_counter += count
        return self._state.doc_counter - count

    async def insert_emails(self, rows: Sequence[tuple[EmailRow, EmailContent]]) -> None:
        """Add Emails. Raises: Conflict when one with the same blob exists."""
        if not rows:
            return
        self._types.update(("Email", "EmailDelivery"))
        blob_ids = {email.blob_id for email in self._state.emails.values()}
        for row, content in rows:
            if row.doc_id in self._state.emails or row.blob_id in blob_ids:
                raise Conflict("an Email with this blob or number exists")
            blob_ids.add(row.blob_id)
            self._state.emails[row.doc_id] = _replace(
                row, created_modseq=self.modseq, changed_modseq=self.modseq
            )
            self._state.contents[row.doc_id] = content

    async def update_emails(self, rows: Sequence[tuple[EmailRow, EmailRow]]) -> None:
        """Replace (before, after): only mailbox_ids and keywords may differ."""
        for _, after in rows:
            self._types.add("Email")
            assert after.doc_id in self._state.emails, "a changed Email does not exist"
            self._state.emails[after.doc_id] = _replace(
                self._state.emails[after.doc_id],
                mailbox_ids=after.mailbox_ids,
                keywords=after.keywords,
                changed_modseq=self.modseq,
            )

    async def delete_emails(self, rows: Sequence[EmailRow]) -> None:
        """Destroy Emails and leave tombstones; the search index follows by those."""
        for row in rows:
            assert row.doc_id in self._state.emails, f"Email {row.id} does not exist"
            gone = self._state.emails.pop(row.doc_id)
            del self._state.contents[row.doc_id]
            self._bury("Email", row.id, gone.created_modseq)

    # -- threads ----------------------------------------------------------------------------------
    async def put_threads(self, rows: Sequence[ThreadRow]) -> None:
        """Create or replace Threads; one with no Emails is destroyed and leaves a tombstone."""
        for row in rows:
            old = self._state.threads.get(row.id)
            if row.email_ids:
                self._types.add("Thread")
                created = self._created("Thread", row.id, old.created_modseq if old else None)
                self._state.threads[row.id] = _replace(
                    row, created_modseq=created, changed_modseq=self.modseq
                )
            elif old is not None:
                del self._state.threads[row.id]
                self._state.references = {
                    key: None for key in self._state.references if key[1] != row.id
                }
                self._bury("Thread", row.id, old.created_modseq)

    async def put_thread_references(self, thread_id: ThreadId, refs: Sequence[str]) -> None:
        """Let later mail find this Thread by these reference keys."""
        for ref in refs:
            self._state.references[ref, thread_id] = None

    # -- blobs, outbox, timers --------------------------------------------------------------------
    async def put_blob(self, row: BlobRow) -> None:
        """Link a blob to this account."""
        self._state.blobs.setdefault(row.id, row)

    async def put_outbox(self, topic: str, key: str, payload: bytes, due_ms: int) -> None:
        """Add or replace an intent; tries start again at 0."""
        self._topics.add(topic)
        row = OutboxRow(topic, key, payload, self.modseq, 0, due_ms, "")
        self._state.outbox[topic, key] = row

    async def retry_outbox(self, row: OutboxRow, due_ms: int, error: str) -> None:
        """Count a failed try and set when the next is due; no-op if the row changed meanwhile."""
        now = self._state.outbox.get((row.topic, row.key))
        if now is not None and now.modseq == row.modseq:
            self._state.outbox[row.topic, row.key] = now._replace(
                tries=now.tries + 1, due_ms=due_ms, last_error=error
            )

    async def finish_outbox(self, row: OutboxRow) -> bool:
        """Remove an intent; False (and it stays) if it was written again since it was read."""
        now = self._state.outbox.get((row.topic, row.key))
        if now is None or now.modseq != row.modseq:
            return False
        del self._state.outbox[row.topic, row.key]
        return True

    async def put_timer(self, row: TimerRow) -> None:
        """Set or move a timer."""
        self._has_timers = True
        self._state.timers[row.kind, row.key] = row

    async def delete_timer(self, kind: str, key: str) -> None:
        """Remove a timer if it is there."""
        self._state.timers.pop((kind, key), None)

    # -- sharing ----------------------------------------------------------------------------------
    async def put_share(self, share: Share) -> None:
        """Give, change or (with no rights) take back what a user may do in one Mailbox."""
        key = (share.mailbox_id, share.user_id)
        old = self._state.shares.get(key)
        is_same = old is not None and old.rights == share.rights
        changed = old.changed_modseq if old is not None and is_same else self.modseq
        self._state.shares[key] = _replace(share, changed_modseq=changed)
        self._types.update(("Mailbox",) if is_same else SHARED_TYPES)

    async def put_moves(self, moves: Sequence[Move]) -> None:
        """Remember Emails that came into or left shared Mailboxes in this transaction."""
        for move in moves:
            self._types.add("Thread")
            key = (self.modseq, move.doc_id, move.mailbox_id)
            old = self._state.moves.pop(key, None)
            if old is None or old.is_in == move.is_in:
                self._state.moves[key] = _replace(move, modseq=self.modseq)

    # -- the mirror (sync/mirror.py) --------------------------------------------------------------
    async def put_remote(self, rows: Sequence[RemoteRow]) -> None:
        """Create or replace mirror rows."""
        for row in rows:
            self._state.remote[row.mailbox_id, row.uid] = row

    async def delete_remote(self, mailbox_id: str, uids: Sequence[int]) -> None:
        """Forget messages that left the provider's mailbox."""
        for uid in uids:
            self._state.remote.pop((mailbox_id, uid), None)

    async def delete_remote_mailbox(self, mailbox_id: str) -> None:
        """Forget a whole mailbox of the provider."""
        self._state.remote = {
            key: row for key, row in self._state.remote.items() if key[0] != mailbox_id
        }


def need_state(state: AccountState | None, account_id: AccountId) -> AccountState:
    """The account to write to. Raises: StoreError for an unknown one."""
    if state is None:
        raise StoreError(f"no account {account_id!r}")
    return state


def _plain(state: AccountState) -> tuple[object, ...]:
    """What tells that a transaction wrote something although no type changed."""
    return (
        state.doc_counter,
        state.references,
        state.blobs,
        state.outbox,
        state.timers,
        state.remote,
    )
