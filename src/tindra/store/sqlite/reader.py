"""Reads of one account inside a transaction: the StoreReader port (and sync's mirror) over SQL.

No method suspends. Every statement names the account. Writes are in `tx`, the filter compiler is
in `query`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from heapq import merge
from typing import Any, Final

import apsw

from tindra.base.ids import AccountId, BlobId, Id, MailboxId, ModSeq, ThreadId, UserId
from tindra.base.limits import QUERY_SCAN_ROWS_MAX
from tindra.core.errors import MethodError, StateTooOld
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
from tindra.store.sqlite.connection import StoreConnection
from tindra.store.sqlite.pager import Pager
from tindra.store.sqlite.query import FEW_EMAILS_MAX, Sources, compile_query
from tindra.store.sqlite.rows import (
    EMAIL_COLUMNS,
    THREAD_COLUMNS,
    decode_list,
    decode_set,
    make_emails,
    make_mailboxes,
    make_remotes,
    make_threads,
)
from tindra.store.sqlite.search_table import SearchRange, locate_account
from tindra.store.words import clean

SUBJECT_THREADS_MAX: Final = 20
"""Threads of one subject that a new message is compared with (core/ports.py)."""

_OWN_TABLES: Final = {"Mailbox": ("mailbox", "mailbox_id"), "Thread": ("thread", "thread_id")}


def _numbers(values: Sequence[int]) -> Any:
    """Numbers as one bound array; it cannot be empty, and no key is -1."""
    return apsw.carray(array("q", values or (-1,)))


def _texts(values: Sequence[str]) -> Any:
    """Texts as one bound array; it cannot be empty, and no key is an empty text.

    What SQLite cannot hold (NUL, half a surrogate pair) is left out: no key has it either.
    """
    try:
        return apsw.carray(tuple(values) or ("",))
    except ValueError:
        return apsw.carray(tuple(text for text in values if clean(text) == text) or ("",))


class SqliteReader:
    """A consistent view of one account, within the SQL transaction that `conn` is in."""

    def __init__(
        self,
        conn: StoreConnection,
        account_id: AccountId,
        states: dict[AccountId, Mapping[str, ModSeq]] | None = None,
    ) -> None:
        """`states`: what was read of states on the same snapshot, shared by its readers."""
        self.account_id = account_id
        self._states = states
        self._conn = conn
        self._run: Callable[..., Any] = conn.execute

    # -- states and changes -----------------------------------------------------------------------
    async def load_states(self) -> Mapping[str, ModSeq]:
        """State of every type that ever changed."""
        known = None if self._states is None else self._states.get(self.account_id)
        if known is None:
            rows = self._run(
                "SELECT type_name, modseq FROM type_state WHERE account_id = ?",
                (self.account_id,),
            )
            known = dict(rows)
            if self._states is not None:
                self._states[self.account_id] = known
        return known

    async def list_changes(self, type_name: str, since: Cursor, limit: int) -> ChangePage:
        """Changes of one type after `since`. Raises: StateTooOld."""
        row = self._run(
            "SELECT a.floor_modseq, a.modseq, s.modseq FROM account a LEFT JOIN type_state s"
            " ON s.account_id = a.account_id AND s.type_name = ? WHERE a.account_id = ?",
            (type_name, self.account_id),
        ).fetchone()
        floor, newest, whole = row or (0, 0, 0)
        if since.modseq < floor:
            # What was forgotten of this type is not younger than its last tombstone down there.
            floor = self._run(
                "SELECT coalesce(max(modseq), 0) FROM tombstone WHERE account_id = ?"
                " AND type_name = ? AND modseq <= ?",
                (self.account_id, type_name, floor),
            ).get
        if not floor <= since.modseq <= newest:
            raise StateTooOld(f"changes of {type_name} are known from {floor} to {newest}")
        cursors: list[Any] = []
        try:
            events = merge(*self._events(type_name, since, cursors))
            return fold_changes(events, since, limit, ModSeq(whole or 0))
        finally:
            for cursor in cursors:
                cursor.close()

    def _events(
        self, type_name: str, since: Cursor, cursors: list[Any]
    ) -> Iterator[Iterator[Event]]:
        """The three streams of the change log, each in order, read as far as they are consumed."""

        def run(sql: str, *params: Any) -> Any:
            cursors.append(self._run(sql, params))
            return cursors[-1]

        place = (since.modseq + 1, "") if since.id is None else (since.modseq, since.id)
        account = self.account_id
        tombstones = run(
            "SELECT modseq, id, created_modseq FROM tombstone WHERE account_id = ?"
            " AND type_name = ? AND (modseq, id) > (?, ?) ORDER BY modseq, id",
            account, type_name, *place,
        )  # fmt: skip
        yield (Event(modseq, id, DESTROYED, created) for modseq, id, created in tombstones)
        if type_name == "Email":
            yield from self._email_events(run, since)
            return
        table, key = _OWN_TABLES.get(type_name, ("object", "id"))
        typed = " AND type_name = ?" if table == "object" else ""
        params = (account, type_name, *place) if typed else (account, *place)
        for column, kind in (("created_modseq", CREATED), ("changed_modseq", CHANGED)):
            rows = run(
                f"SELECT {column}, {key} FROM {table} WHERE account_id = ?{typed}"
                f" AND ({column}, {key}) > (?, ?) ORDER BY {column}, {key}",
                *params,
            )
            yield _live(rows, kind)

    def _email_events(self, run: Callable[..., Any], since: Cursor) -> Iterator[Iterator[Event]]:
        doc_id: int | None = -1
        if since.id is not None:
            doc_id = parse_email_id(since.id)
            if doc_id is None:
                raise StateTooOld(f"no state of Email stands at {since.id!r}")
        place = (since.modseq + 1 if since.id is None else since.modseq, doc_id)
        for column, kind in (("created_modseq", CREATED), ("changed_modseq", CHANGED)):
            rows = run(
                f"SELECT {column}, doc_id FROM email WHERE account_id = ?"
                f" AND ({column}, doc_id) > (?, ?) ORDER BY {column}, doc_id",
                self.account_id, *place,
            )  # fmt: skip
            yield _live(((modseq, encode_email_id(doc_id)) for modseq, doc_id in rows), kind)

    # -- small objects ----------------------------------------------------------------------------
    async def load_objects(self, type_name: str, ids: Sequence[str] | None) -> list[ObjectRow]:
        """Objects by id, or all of the type, in id order."""
        sql = (
            "SELECT id, data, created_modseq, changed_modseq FROM object"
            " WHERE account_id = ? AND type_name = ?"
        )
        if ids is None:
            rows = self._run(sql + " ORDER BY id", (self.account_id, type_name))
        else:
            rows = self._run(
                sql + " AND id IN carray(?) ORDER BY id",
                (self.account_id, type_name, _texts(ids)),
            )
        return [ObjectRow(Id(id), data, created, changed) for id, data, created, changed in rows]

    # -- mail -------------------------------------------------------------------------------------
    async def load_mailboxes(self) -> list[MailboxRow]:
        """All Mailboxes with the owner's counters, in id order."""
        return make_mailboxes(
            self._run(
                "SELECT m.mailbox_id, m.name, m.parent_id, m.role, m.sort_order, m.is_subscribed,"
                " c.total_emails, c.unread_emails, c.total_threads, c.unread_threads,"
                " m.created_modseq, m.info_modseq, m.changed_modseq"
                " FROM mailbox m CROSS JOIN mailbox_count c ON c.account_id = m.account_id"
                " AND c.mailbox_id = m.mailbox_id AND c.principal_id = ''"
                " WHERE m.account_id = ? ORDER BY m.mailbox_id",
                (self.account_id,),
            )
        )

    async def load_emails(self, doc_ids: Sequence[int]) -> list[EmailRow]:
        """Emails by document number, in no promised order."""
        return make_emails(
            self._run(
                f"SELECT {EMAIL_COLUMNS} FROM email WHERE account_id = ? AND doc_id IN carray(?)",
                (self.account_id, _numbers(doc_ids)),
            )
        )

    async def load_contents(self, doc_ids: Sequence[int]) -> dict[int, EmailContent]:
        """The immutable JSON of Emails."""
        rows = self._run(
            "SELECT doc_id, meta, structure FROM email_content"
            " WHERE account_id = ? AND doc_id IN carray(?)",
            (self.account_id, _numbers(doc_ids)),
        )
        return {doc_id: EmailContent(meta, structure) for doc_id, meta, structure in rows}

    async def find_emails_by_blob(self, blob_ids: Sequence[str]) -> dict[str, int]:
        """blobId -> doc_id of Emails whose whole message it is."""
        return dict(
            self._run(
                "SELECT blob_id, doc_id FROM email WHERE account_id = ? AND blob_id IN carray(?)",
                (self.account_id, _texts(blob_ids)),
            )
        )

    async def load_threads(self, ids: Sequence[str]) -> list[ThreadRow]:
        """Threads by id, in no promised order."""
        return make_threads(
            self._run(
                f"SELECT {THREAD_COLUMNS} FROM thread"
                " WHERE account_id = ? AND thread_id IN carray(?)",
                (self.account_id, _texts(ids)),
            )
        )

    async def find_threads_by_reference(self, refs: Sequence[str]) -> dict[str, list[ThreadId]]:
        """Reference key -> the newest Threads that hold a message with it, in id order."""
        found: dict[str, list[ThreadId]] = {}
        for ref in {ref for ref in refs if clean(ref) == ref}:
            rows = self._run(
                "SELECT thread_id FROM thread_ref WHERE account_id = ? AND ref = ?"
                " ORDER BY thread_id DESC LIMIT ?",
                (self.account_id, ref, REFERENCE_THREADS_MAX),
            )
            ids = [thread_id for (thread_id,) in rows]
            if ids:
                found[ref] = ids[::-1]
        return found

    async def find_threads_by_subject(self, subject_key: str, since_ms: int) -> list[ThreadRow]:
        """The newest Threads of one subject; none for the empty subject."""
        if not subject_key:
            return []
        return make_threads(
            self._run(
                f"SELECT {THREAD_COLUMNS} FROM thread WHERE account_id = ?"
                " AND subject_key = ? AND subject_key <> '' AND latest_ms >= ?"
                " ORDER BY latest_ms DESC, thread_id DESC LIMIT ?",
                (self.account_id, subject_key, since_ms, SUBJECT_THREADS_MAX),
            )
        )

    # -- queries ----------------------------------------------------------------------------------
    async def query_emails(
        self, query: EmailQuery, stop: int | None, has_total: bool
    ) -> tuple[list[int], int | None]:
        """The first `stop` doc_ids of the result, and the whole count if asked for.

        Raises: MethodError (unsupportedFilter) when it would look at too many rows.
        """
        pager = self._pager(query)
        with self._bounded():
            doc_ids = pager.list_first(stop)
            if not has_total:
                return doc_ids, None
            if stop is None or len(doc_ids) < stop:
                return doc_ids, len(doc_ids)
            return doc_ids, pager.count()

    async def query_page(
        self, query: EmailQuery, page: Page[int], has_total: bool
    ) -> EmailPage | None:
        """A page of the same result; None when the anchor is not in it.

        Not in a write that changed Emails: it trusts the counters.
        Raises: MethodError (unsupportedFilter) when it would look at too many rows.
        """
        pager = self._pager(query)
        with self._bounded():
            found = pager.read(page)
        if found is None:
            return None
        with self._bounded():
            return EmailPage(*found, pager.count() if has_total else None)

    def _pager(self, query: EmailQuery) -> Pager:
        sources = Sources(self._load_index, self._is_rare)
        compiled = compile_query(self.account_id, query, sources)
        return Pager(self._conn, compiled, is_collapsed=query.collapse_threads)

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        try:
            with self._conn.bounded(QUERY_SCAN_ROWS_MAX):
                yield
        except apsw.InterruptError as error:
            raise MethodError("unsupportedFilter", "it looks at too many Emails") from error

    def _load_index(self) -> SearchRange | None:
        number = self._run(
            "SELECT n FROM search.fts_account WHERE account_id = ?", (self.account_id,)
        ).get
        return None if number is None else locate_account(number)

    def _is_rare(self, keyword: str) -> bool:
        found = self._run(
            "SELECT count(*) FROM (SELECT 1 FROM email_keyword"
            " WHERE account_id = ? AND keyword = ? LIMIT ?)",
            (self.account_id, keyword, FEW_EMAILS_MAX),
        ).get
        return int(found) < FEW_EMAILS_MAX

    # -- blobs, outbox, timers --------------------------------------------------------------------
    async def load_blobs(self, ids: Sequence[str]) -> dict[str, BlobRow]:
        """Blobs of this account, with their octets where they are stored inline."""
        rows = self._run(
            "SELECT blob_id, size, data, created_ms FROM blob"
            " WHERE account_id = ? AND blob_id IN carray(?)",
            (self.account_id, _texts(ids)),
        )
        return {id: BlobRow(BlobId(id), size, data, created) for id, size, data, created in rows}

    async def list_outbox(self, topic: str, due_ms: int, limit: int) -> list[OutboxRow]:
        """Intents of one topic that are due, oldest transaction first."""
        return [
            OutboxRow(*row)
            for row in self._run(
                "SELECT topic, key, payload, modseq, tries, due_ms, last_error FROM outbox"
                " WHERE account_id = ? AND topic = ? AND due_ms <= ? ORDER BY modseq, key LIMIT ?",
                (self.account_id, topic, due_ms, limit),
            )
        ]

    async def list_timers(self, due_ms: int, limit: int) -> list[TimerRow]:
        """Timers due at or before `due_ms`, earliest first."""
        return [
            TimerRow(*row)
            for row in self._run(
                "SELECT kind, key, due_ms, payload FROM timer WHERE account_id = ? AND due_ms <= ?"
                " ORDER BY due_ms, kind, key LIMIT ?",
                (self.account_id, due_ms, limit),
            )
        ]

    # -- sharing ----------------------------------------------------------------------------------
    async def list_shares(self, user_id: UserId | None = None) -> list[Share]:
        """What users, or one, may do in single Mailboxes, in (Mailbox, user) order."""
        sql = (
            "SELECT mailbox_id, user_id, rights, is_subscribed, changed_modseq FROM mailbox_share"
            " WHERE account_id = ?"
        )
        if user_id is None:
            rows = self._run(sql + " ORDER BY mailbox_id, user_id", (self.account_id,))
        else:
            sql += " AND user_id = ? ORDER BY mailbox_id"
            rows = self._run(sql, (self.account_id, user_id))
        return [
            Share(mailbox_id, user, frozenset(decode_list(rights)), bool(is_subscribed), changed)
            for mailbox_id, user, rights, is_subscribed, changed in rows
        ]

    async def find_shared(self, mailbox_ids: Sequence[str]) -> set[MailboxId]:
        """Those of some Mailboxes that are shared with anybody."""
        rows = self._run(
            "SELECT DISTINCT mailbox_id FROM mailbox_share WHERE account_id = ?"
            " AND mailbox_id IN carray(?) AND rights <> '[]'",
            (self.account_id, _texts(mailbox_ids)),
        )
        return {mailbox_id for (mailbox_id,) in rows}

    async def list_moves(
        self, mailbox_ids: Sequence[str], since: Cursor, doc_ids: Sequence[int] | None, limit: int
    ) -> list[Move]:
        """Emails that came or went after `since`. Raises: StateTooOld."""
        floor = self._run(
            "SELECT floor_modseq FROM account WHERE account_id = ?", (self.account_id,)
        ).get
        if since.modseq < (floor or 0):
            raise StateTooOld(f"moves are known from {floor}")
        sql = (
            "SELECT modseq, doc_id, mailbox_id, thread_id, is_in FROM email_move"
            " WHERE account_id = ? AND (modseq, doc_id) > (?, ?) AND mailbox_id IN carray(?)"
        )
        params = [self.account_id, *find_move_place(since), _texts(mailbox_ids)]
        if doc_ids is not None:
            sql += " AND doc_id IN carray(?)"
            params.append(_numbers(doc_ids))
        rows = self._run(sql + " ORDER BY modseq, doc_id, mailbox_id LIMIT ?", (*params, limit))
        return [Move(a, b, c, d, bool(is_in)) for a, b, c, d, is_in in rows]

    # -- the mirror (sync/mirror.py) --------------------------------------------------------------
    async def load_remote(self, mailbox_id: str, uids: Sequence[int] | None) -> list[RemoteRow]:
        """Mirror rows of one Mailbox, in uid order."""
        sql = (
            "SELECT mailbox_id, uid, doc_id, keywords, modseq FROM remote_message"
            " WHERE account_id = ? AND mailbox_id = ?"
        )
        params = (self.account_id, mailbox_id)
        if uids is None:
            return make_remotes(self._run(sql + " ORDER BY uid", params))
        return make_remotes(
            self._run(sql + " AND uid IN carray(?) ORDER BY uid", (*params, _numbers(uids)))
        )

    async def list_remote_uids(self, mailbox_id: str) -> list[tuple[int, tuple[str, ...]]]:
        """(uid, agreed keywords) of a whole Mailbox, in uid order."""
        rows = self._run(
            "SELECT uid, keywords FROM remote_message WHERE account_id = ? AND mailbox_id = ?"
            " ORDER BY uid",
            (self.account_id, mailbox_id),
        )
        return [(uid, decode_set(keywords)) for uid, keywords in rows]

    async def find_remote_by_emails(self, doc_ids: Sequence[int]) -> list[RemoteRow]:
        """Every place at the provider where these Emails are."""
        return make_remotes(
            self._run(
                "SELECT mailbox_id, uid, doc_id, keywords, modseq FROM remote_message"
                " WHERE account_id = ? AND doc_id IN carray(?)",
                (self.account_id, _numbers(doc_ids)),
            )
        )


def _live(rows: Iterator[tuple[int, str]], kind: int) -> Iterator[Event]:
    return (Event(modseq, id, kind, 0) for modseq, id in rows)
