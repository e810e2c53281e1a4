"""Reads of one account: the StoreReader port (and sync's mirror) over dicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from tindra.base.ids import AccountId, MailboxId, ModSeq, ThreadId, UserId
from tindra.core.errors import StateTooOld
from tindra.core.ports import ChangePage, Cursor, EmailPage, Page
from tindra.model.mail import (
    EmailContent,
    EmailQuery,
    EmailRow,
    MailboxRow,
    RemoteRow,
    ThreadRow,
    encode_email_id,
    parse_email_id,
)
from tindra.model.sharing import Move, Share
from tindra.model.stored import BlobRow, ObjectRow, OutboxRow, TimerRow
from tindra.store.bounds import REFERENCE_THREADS_MAX
from tindra.store.changes import (
    CHANGED,
    CREATED,
    DESTROYED,
    Event,
    find_move_place,
    fold_changes,
)
from tindra.store.invariants import Stamp
from tindra.store.memory.query import QueryRun, Words
from tindra.store.memory.rows import AccountState

SUBJECT_THREADS_MAX: Final = 20
"""Threads of one subject that a new message is compared with (core/ports.py)."""

LoadIndex = Callable[[], Mapping[int, Words]]


class MemoryReader:
    """A consistent view of one account: its state is replaced by writers, never changed."""

    def __init__(self, account_id: AccountId, state: AccountState, load_index: LoadIndex) -> None:
        self.account_id = account_id
        self._state = state
        self._load_index = load_index

    async def load_states(self) -> Mapping[str, ModSeq]:
        """State of every type that ever changed."""
        return {name: ModSeq(modseq) for name, modseq in self._state.states.items()}

    async def list_changes(self, type_name: str, since: Cursor, limit: int) -> ChangePage:
        """Changes of one type after `since`. Raises: StateTooOld."""
        state = self._state
        gone = (stamp.changed_modseq for stamp in self._of_type(type_name, state.tombstones))
        floor = max((modseq for modseq in gone if modseq <= state.floor), default=0)
        if not floor <= since.modseq <= state.modseq:
            raise StateTooOld(f"changes are known from {floor} to {state.modseq}")
        if type_name == "Email" and since.id is not None and parse_email_id(since.id) is None:
            raise StateTooOld(f"no state of Email stands at {since.id!r}")
        whole = ModSeq(state.states.get(type_name, 0))
        return fold_changes(self._events(type_name, since), since, limit, whole)

    def _events(self, type_name: str, since: Cursor) -> list[Event]:
        found: list[Event] = []
        for _, id, created, changed in self._of_type(type_name, self._state.live_stamps()):
            found.append(Event(created, id, CREATED, created))
            found.append(Event(changed, id, CHANGED, created))
        for _, id, created, gone in self._of_type(type_name, self._state.tombstones):
            found.append(Event(gone, id, DESTROYED, created))
        return sorted(event for event in found if _is_after(event, since))

    @staticmethod
    def _of_type(type_name: str, stamps: Iterable[Stamp]) -> Iterator[Stamp]:
        return (stamp for stamp in stamps if stamp.type_name == type_name)

    async def load_objects(self, type_name: str, ids: Sequence[str] | None) -> list[ObjectRow]:
        """Objects by id, or all of the type, in id order."""
        found = [
            row
            for (name, id), row in self._state.objects.items()
            if name == type_name and (ids is None or id in ids)
        ]
        return sorted(found, key=lambda row: row.id)

    async def load_mailboxes(self) -> list[MailboxRow]:
        """All Mailboxes, in id order."""
        return sorted(self._state.mailboxes.values(), key=lambda row: row.id)

    async def load_emails(self, doc_ids: Sequence[int]) -> list[EmailRow]:
        """Emails by document number, in no promised order."""
        emails = self._state.emails
        return [emails[doc_id] for doc_id in dict.fromkeys(doc_ids) if doc_id in emails]

    async def load_contents(self, doc_ids: Sequence[int]) -> dict[int, EmailContent]:
        """The immutable JSON of Emails."""
        contents = self._state.contents
        return {doc_id: contents[doc_id] for doc_id in doc_ids if doc_id in contents}

    async def find_emails_by_blob(self, blob_ids: Sequence[str]) -> dict[str, int]:
        """blobId -> doc_id of Emails whose whole message it is."""
        wanted = set(blob_ids)
        return {
            email.blob_id: email.doc_id
            for email in self._state.emails.values()
            if email.blob_id in wanted
        }

    async def load_threads(self, ids: Sequence[str]) -> list[ThreadRow]:
        """Threads by id, in no promised order."""
        threads = self._state.threads
        return [threads[id] for id in dict.fromkeys(ids) if id in threads]

    async def find_threads_by_reference(self, refs: Sequence[str]) -> dict[str, list[ThreadId]]:
        """Reference key -> the newest Threads that hold a message with it, in id order."""
        wanted = set(refs)
        found: dict[str, list[ThreadId]] = {}
        for ref, thread_id in sorted(self._state.references):
            if ref in wanted:
                found.setdefault(ref, []).append(thread_id)
        return {ref: ids[-REFERENCE_THREADS_MAX:] for ref, ids in found.items()}

    async def find_threads_by_subject(self, subject_key: str, since_ms: int) -> list[ThreadRow]:
        """The newest Threads of one subject; none for the empty subject."""
        found = [
            thread
            for thread in self._state.threads.values()
            if subject_key and thread.subject_key == subject_key and thread.latest_ms >= since_ms
        ]
        found.sort(key=lambda thread: (thread.latest_ms, thread.id), reverse=True)
        return found[:SUBJECT_THREADS_MAX]

    async def query_emails(
        self, query: EmailQuery, stop: int | None, has_total: bool
    ) -> tuple[list[int], int | None]:
        """The first `stop` doc_ids of the result, and the whole count if asked for."""
        doc_ids = QueryRun(self._state.emails, self._load_index()).run(query)
        return doc_ids[:stop], len(doc_ids) if has_total else None

    async def query_page(
        self, query: EmailQuery, page: Page[int], has_total: bool
    ) -> EmailPage | None:
        """A page of the same result; None when the anchor is not in it."""
        doc_ids = QueryRun(self._state.emails, self._load_index()).run(query)
        found = page.cut(doc_ids)
        return None if found is None else EmailPage(*found, len(doc_ids) if has_total else None)

    async def load_blobs(self, ids: Sequence[str]) -> dict[str, BlobRow]:
        """Blobs of this account, with their octets where they are stored inline."""
        return {id: self._state.blobs[id] for id in ids if id in self._state.blobs}

    async def list_outbox(self, topic: str, due_ms: int, limit: int) -> list[OutboxRow]:
        """Intents of one topic that are due, oldest transaction first."""
        found = [
            row
            for row in self._state.outbox.values()
            if row.topic == topic and row.due_ms <= due_ms
        ]
        return sorted(found, key=lambda row: (row.modseq, row.key))[:limit]

    async def list_timers(self, due_ms: int, limit: int) -> list[TimerRow]:
        """Timers due at or before `due_ms`, earliest first."""
        found = [row for row in self._state.timers.values() if row.due_ms <= due_ms]
        return sorted(found, key=lambda row: (row.due_ms, row.kind, row.key))[:limit]

    # -- sharing ----------------------------------------------------------------------------------
    async def list_shares(self, user_id: UserId | None = None) -> list[Share]:
        """What users, or one, may do in single Mailboxes, in (Mailbox, user) order."""
        return [
            share
            for (_, holder), share in sorted(self._state.shares.items())
            if user_id is None or holder == user_id
        ]

    async def find_shared(self, mailbox_ids: Sequence[str]) -> set[MailboxId]:
        """Those of some Mailboxes that are shared with anybody."""
        shares = self._state.shares.values()
        return {s.mailbox_id for s in shares if s.rights and s.mailbox_id in mailbox_ids}

    async def list_moves(
        self, mailbox_ids: Sequence[str], since: Cursor, doc_ids: Sequence[int] | None, limit: int
    ) -> list[Move]:
        """Emails that came or went after `since`. Raises: StateTooOld."""
        if since.modseq < self._state.floor:
            raise StateTooOld(f"moves are known from {self._state.floor}")
        place = find_move_place(since)
        found = [
            move
            for key, move in sorted(self._state.moves.items())
            if key[:2] > place and move.mailbox_id in mailbox_ids
            if doc_ids is None or move.doc_id in doc_ids
        ]
        return found[:limit]

    # -- the mirror (sync/mirror.py) --------------------------------------------------------------
    async def load_remote(self, mailbox_id: str, uids: Sequence[int] | None) -> list[RemoteRow]:
        """Mirror rows of one Mailbox, in uid order."""
        wanted = None if uids is None else set(uids)
        return [
            row
            for (id, uid), row in sorted(self._state.remote.items())
            if id == mailbox_id and (wanted is None or uid in wanted)
        ]

    async def list_remote_uids(self, mailbox_id: str) -> list[tuple[int, tuple[str, ...]]]:
        """(uid, agreed keywords) of a whole Mailbox, in uid order."""
        return [(row.uid, row.keywords) for row in await self.load_remote(mailbox_id, None)]

    async def find_remote_by_emails(self, doc_ids: Sequence[int]) -> list[RemoteRow]:
        """Every place at the provider where these Emails are."""
        wanted = {encode_email_id(doc_id) for doc_id in doc_ids}
        return [row for row in self._state.remote.values() if row.email_id in wanted]


def _is_after(event: Event, since: Cursor) -> bool:
    if event.modseq != since.modseq:
        return event.modseq > since.modseq
    return since.id is not None and event.id > since.id
