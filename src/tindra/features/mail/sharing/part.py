"""PartReader: one account as somebody sees it with whom only some Mailboxes of it are shared.

It stands before the store's reader, so every method is narrowed by it without knowing. Invariants:
an Email is there while it is in a Mailbox whose items its viewer may read, and shows only Mailboxes
of theirs; what is not there answers like what never was. The rights are read in the same snapshot
as the data. A state from before the last change of rights is too old, so no device mixes what it
saw by different rights.
Source: RFC 8621 s2 (MailboxRights), docs/decisions/0007-parts-of-accounts.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from tindra.base.ids import MailboxId, ModSeq, ThreadId, UserId
from tindra.core.errors import MethodError, StateTooOld
from tindra.core.part import narrow_states
from tindra.core.ports import ChangePage, Cursor, EmailPage, Page, StoreReader
from tindra.features.mail.sharing.part_changes import Fold, list_before, sort_out
from tindra.features.mail.sharing.part_filter import FilterNarrower
from tindra.model.counting import count_thread, is_email_unread
from tindra.model.mail import (
    EmailCondition,
    EmailContent,
    EmailFilter,
    EmailQuery,
    EmailRow,
    FilterOperator,
    MailboxRow,
    ThreadRow,
    encode_email_id,
    parse_email_id,
)
from tindra.model.sharing import PART_STATE_BASE, Move, Share
from tindra.model.stored import BlobRow, ObjectRow, OutboxRow, TimerRow

_STEP: Final = 500
"""Threads that are held at a time."""
_MOVES_MAX: Final = 1 << 31
"""All of some Emails: they are as many as the Emails were moved in a month."""
_MOVES_PER_THREAD: Final = 16
"""Read for each Thread of a page of Thread/changes, before it is cut short."""
_replace = msgspec.structs.replace


async def open_part(reader: StoreReader, user_id: UserId, has_counts: bool) -> PartReader:
    """What `user_id` sees of the account of `reader`.

    Args:
        has_counts: unreadThreads of Mailboxes will be shown.
    Raises: MethodError accountNotFound when nothing is shared with them (any more).
    Cost: one index range read.
    """
    shares = await reader.list_shares(user_id)
    if not any(share.rights for share in shares):
        raise MethodError("accountNotFound", "there is no such account for this user")
    return PartReader(reader, shares, has_counts)


class PartReader:
    """A StoreReader of the Mailboxes that are shared with one user."""

    def __init__(self, whole: StoreReader, shares: Sequence[Share], has_counts: bool) -> None:
        self.account_id = whole.account_id
        self._whole = whole
        self._has_counts = has_counts
        self._epoch = max(share.changed_modseq for share in shares)
        self.shares: dict[str, Share] = {s.mailbox_id: s for s in shares if s.rights}
        self._readable = frozenset(
            MailboxId(id) for id, share in self.shares.items() if "mayReadItems" in share.rights
        )
        self._emails: dict[int, EmailRow] = {}
        """doc_id -> whole row, of every Email that was looked at."""

    # -- for writers -----------------------------------------------------------------------------
    def may(self, right: str, mailbox_id: str) -> bool:
        """Whether the user holds a right in a Mailbox; in an invisible one they hold none."""
        share = self.shares.get(mailbox_id)
        return share is not None and right in share.rights

    def whole_email(self, row: EmailRow) -> EmailRow:
        """All of an Email that this reader gave."""
        return self._emails[row.doc_id]

    def with_visible(self, row: EmailRow, mailbox_ids: Sequence[MailboxId]) -> EmailRow:
        """The whole Email, in these visible Mailboxes beside the others that it is in."""
        whole = self._emails[row.doc_id]
        others = set(whole.mailbox_ids) - self._readable
        return _replace(
            whole, mailbox_ids=tuple(sorted({*others, *mailbox_ids})), keywords=row.keywords
        )

    # -- states and changes ----------------------------------------------------------------------
    async def load_states(self) -> Mapping[str, ModSeq]:
        """States, which are never those of the whole."""
        return narrow_states(await self._whole.load_states())

    async def list_changes(self, type_name: str, since: Cursor, limit: int) -> ChangePage:
        """Changes as the user sees them. Raises: StateTooOld."""
        place = Cursor(ModSeq(since.modseq - PART_STATE_BASE), since.id)
        if place.modseq < self._epoch:
            raise StateTooOld("what this user may see has changed since")
        if type_name == "Email":
            page = await self._list_email_changes(place, limit)
        elif type_name == "Thread":
            page = await self._list_thread_changes(place, limit)
        else:
            page = await self._list_mailbox_changes(type_name, place, limit)
        cursor = Cursor(ModSeq(page.cursor.modseq + PART_STATE_BASE), page.cursor.id)
        return page._replace(cursor=cursor)

    async def _list_mailbox_changes(self, type_name: str, since: Cursor, limit: int) -> ChangePage:
        """Every visible Mailbox: unreadThreads of one may change with Emails of another, and other
        Mailboxes come or go only with a change of rights."""
        await self._whole.list_moves((), since, None, 1)  # as far back as the log of moves
        ids = sorted(self.shares) if type_name == "Mailbox" else []
        if since.id is not None or len(ids) > limit:
            raise StateTooOld("there are more Mailboxes than one answer may hold")
        newest = (await self._whole.load_states()).get(type_name, ModSeq(0))
        return ChangePage([], ids, [], Cursor(newest), False)

    async def _list_email_changes(self, since: Cursor, limit: int) -> ChangePage:
        page = await self._whole.list_changes("Email", since, limit)
        ids = [*page.created, *page.updated, *page.destroyed]
        docs = [doc for doc in map(parse_email_id, ids) if doc is not None]
        # Inside of a paging the moves of the same transaction may be told or untold.
        begin = since if since.id is None else Cursor(ModSeq(since.modseq - 1))
        moves = await self._whole.list_moves(list(self._readable), begin, docs, _MOVES_MAX)
        visible = {row.id for row in await self.load_emails(docs)}
        moved = _by_email(moves)
        fold = Fold(page.cursor, page.has_more, is_paging=since.id is not None)
        made = set(page.created)
        for id, doc_id in zip(ids, map(parse_email_id, ids), strict=True):
            own = moved.get(doc_id or 0)
            if own is None:
                was_there = id in visible and id not in made
                sort_out(fold, id, was_there, id in visible, has_moved=False)
            else:
                sort_out(fold, id, self._was_visible(own), id in visible, has_moved=True)
        return fold.make_page()

    def _was_visible(self, moves: Sequence[Move]) -> bool:
        """Whether an Email was there before all of its `moves`."""
        row = self._emails.get(moves[0].doc_id)
        now = () if row is None else row.mailbox_ids
        return bool(self._readable & list_before(now, moves))

    async def _list_thread_changes(self, since: Cursor, limit: int) -> ChangePage:
        """A Thread changes for its viewer exactly when an Email of it comes or goes."""
        reach = _MOVES_PER_THREAD * limit
        moves = await self._whole.list_moves(list(self._readable), since, None, reach + 1)
        has_more = len(moves) > reach
        docs: dict[str, set[int]] = {}
        place = Cursor((await self._whole.load_states()).get("Thread", ModSeq(0)))
        done = since
        for move in moves[:reach]:
            here = Cursor(move.modseq, encode_email_id(move.doc_id))
            if move.thread_id not in docs and len(docs) == limit:
                has_more = True
                break
            docs.setdefault(move.thread_id, set()).add(move.doc_id)
            done = here
        fold = Fold(done if has_more else place, has_more, is_paging=since.id is not None)
        there = {row.id: row for row in await self.load_threads(list(docs))}
        for row in there.values():
            docs[row.id].update(d for d in map(parse_email_id, row.email_ids) if d is not None)
        every = sorted(set[int]().union(*docs.values()))
        if has_more:  # what was in sight at the beginning hangs on later moves, too
            moves = await self._whole.list_moves(list(self._readable), since, every, _MOVES_MAX)
        await self.load_emails(every)
        moved = _by_email(moves)
        for id, members in docs.items():
            # One that did not move is listed because it is, and so was, in sight.
            was_there = any(d not in moved or self._was_visible(moved[d]) for d in members)
            sort_out(fold, id, was_there, id in there, has_moved=True)
        return fold.make_page()

    # -- mail ------------------------------------------------------------------------------------
    async def load_mailboxes(self) -> list[MailboxRow]:
        """Visible Mailboxes; under an invisible one they stand at the top."""
        rows = [row for row in await self._whole.load_mailboxes() if row.id in self.shares]
        trash_id = next((row.id for row in rows if row.role == "trash"), None)
        has_unread = any(row.unread_emails for row in rows if row.id in self._readable)
        unread: dict[str, int] = {}
        if self._has_counts and has_unread:
            unread = await self._count_unread_threads(trash_id)
        return [self._narrow_mailbox(row, unread.get(row.id, 0)) for row in rows]

    def _narrow_mailbox(self, row: MailboxRow, unread_threads: int) -> MailboxRow:
        row = _replace(
            row,
            parent_id=row.parent_id if row.parent_id in self.shares else None,
            is_subscribed=self.shares[row.id].is_subscribed,
            unread_threads=unread_threads,
            created_modseq=row.created_modseq + PART_STATE_BASE,
            info_modseq=row.info_modseq + PART_STATE_BASE,
            changed_modseq=row.changed_modseq + PART_STATE_BASE,
        )
        if row.id in self._readable:
            return row
        return _replace(row, total_emails=0, unread_emails=0, total_threads=0, unread_threads=0)

    async def _count_unread_threads(self, trash_id: MailboxId | None) -> dict[str, int]:
        """Mailbox -> Threads in it with a visible unread Email. The kept counters know of all.

        Cost: O(Emails in Threads with a visible unread one).
        """
        unread = EmailCondition(not_keyword="$seen")
        query = EmailQuery(filter=FilterOperator("AND", (self._anywhere(), unread)))
        docs, _ = await self._whole.query_emails(query, None, False)
        rows = await self.load_emails(docs)
        thread_ids = sorted({row.thread_id for row in rows if is_email_unread(row)})
        if len(self._readable) == 1:  # the Threads are in it, whatever else of them is where
            return dict.fromkeys(self._readable, len(thread_ids))
        found: dict[str, int] = {}
        for start in range(0, len(thread_ids), _STEP):
            threads = await self._whole.load_threads(thread_ids[start : start + _STEP])
            docs = [d for t in threads for d in map(parse_email_id, t.email_ids) if d is not None]
            members: dict[str, list[EmailRow]] = {}
            for row in await self.load_emails(docs):
                members.setdefault(row.thread_id, []).append(row)
            for emails in members.values():
                for id, counts in count_thread(emails, trash_id).items():
                    found[id] = found.get(id, 0) + counts.unread_threads
        return found

    async def load_emails(self, doc_ids: Sequence[int]) -> list[EmailRow]:
        """Visible Emails, in their visible Mailboxes."""
        fresh = [doc_id for doc_id in dict.fromkeys(doc_ids) if doc_id not in self._emails]
        if fresh:
            rows = await self._whole.load_emails(fresh)
            self._emails.update({row.doc_id: row for row in rows})
        found = []
        for doc_id in dict.fromkeys(doc_ids):
            row = self._emails.get(doc_id)
            if row is None or self._readable.isdisjoint(row.mailbox_ids):
                continue
            if not self._readable.issuperset(row.mailbox_ids):
                shown = tuple(filter(self._readable.__contains__, row.mailbox_ids))
                row = _replace(row, mailbox_ids=shown)
            found.append(row)
        return found

    async def load_contents(self, doc_ids: Sequence[int]) -> dict[int, EmailContent]:
        """The immutable JSON of visible Emails."""
        rows = await self.load_emails(doc_ids)
        return await self._whole.load_contents([row.doc_id for row in rows])

    async def find_emails_by_blob(self, blob_ids: Sequence[str]) -> dict[str, int]:
        """blobId -> doc_id of visible Emails whose whole message it is."""
        found = await self._whole.find_emails_by_blob(blob_ids)
        visible = {row.doc_id for row in await self.load_emails(list(found.values()))}
        return {blob_id: doc_id for blob_id, doc_id in found.items() if doc_id in visible}

    async def load_threads(self, ids: Sequence[str]) -> list[ThreadRow]:
        """Threads with a visible Email, and of them the visible Emails."""
        rows = await self._whole.load_threads(ids)
        docs = [d for row in rows for d in map(parse_email_id, row.email_ids) if d is not None]
        visible = {row.id for row in await self.load_emails(docs)}
        shown = (
            _replace(row, email_ids=tuple(filter(visible.__contains__, row.email_ids)))
            for row in rows
        )
        return [row for row in shown if row.email_ids]

    async def find_threads_by_reference(self, refs: Sequence[str]) -> dict[str, list[ThreadId]]:
        """Nothing: Threads are found for all of the account."""
        return {}

    async def find_threads_by_subject(self, subject_key: str, since_ms: int) -> list[ThreadRow]:
        """Nothing: Threads are found for all of the account."""
        return []

    async def query_emails(
        self, query: EmailQuery, stop: int | None, has_total: bool
    ) -> tuple[list[int], int | None]:
        """The result among visible Emails, as if there were no others.

        Raises: MethodError unsupportedSort, unsupportedFilter.
        """
        return await self._whole.query_emails(await self._narrow_query(query), stop, has_total)

    async def query_page(
        self, query: EmailQuery, page: Page[int], has_total: bool
    ) -> EmailPage | None:
        """A page of it. Raises: MethodError unsupportedSort, unsupportedFilter."""
        return await self._whole.query_page(await self._narrow_query(query), page, has_total)

    async def _narrow_query(self, query: EmailQuery) -> EmailQuery:
        if any("Thread" in comparator.property for comparator in query.sort):
            raise MethodError("unsupportedSort", "not by Thread where only a part is shared")
        narrower = FilterNarrower(self, self._readable, self._anywhere())
        return _replace(query, filter=await narrower.narrow(query.filter))

    def _anywhere(self) -> EmailFilter:
        """In a Mailbox whose items may be read."""
        places = tuple(EmailCondition(in_mailbox=id) for id in sorted(self._readable))
        if not places:
            return EmailCondition(doc_ids=frozenset())
        return places[0] if len(places) == 1 else FilterOperator("OR", places)

    # -- the rest --------------------------------------------------------------------------------
    async def load_blobs(self, ids: Sequence[str]) -> dict[str, BlobRow]:
        """Messages of visible Emails."""
        return await self._whole.load_blobs(list(await self.find_emails_by_blob(ids)))

    async def load_objects(self, type_name: str, ids: Sequence[str] | None) -> list[ObjectRow]:
        """Nothing: small objects belong to the whole account."""
        return []

    async def list_outbox(self, topic: str, due_ms: int, limit: int) -> list[OutboxRow]:
        """Nothing: intents belong to the server."""
        return []

    async def list_timers(self, due_ms: int, limit: int) -> list[TimerRow]:
        """Nothing: timers belong to the server."""
        return []

    async def list_shares(self, user_id: UserId | None = None) -> list[Share]:
        """With whom the Mailboxes are shared which the user may share further."""
        return [
            share
            for share in await self._whole.list_shares(user_id)
            if self.may("mayShare", share.mailbox_id)
        ]

    async def find_shared(self, mailbox_ids: Sequence[str]) -> set[MailboxId]:
        """Nothing: with whom else is not theirs to know."""
        return set()

    async def list_moves(self, *_: Any) -> list[Move]:
        """Nothing: what a change is, is answered above."""
        return []


def _by_email(moves: Sequence[Move]) -> dict[int, list[Move]]:
    """doc_id -> its moves, in order."""
    found: dict[int, list[Move]] = {}
    for move in moves:
        found.setdefault(move.doc_id, []).append(move)
    return found
