"""The SearchIndex port over SQLite FTS5, in a file of its own beside the data (decision 4).

Contentless tables that accounts share by ranges of rows (`store.sqlite.search_table`); within one
account rows are in doc_id order, so the newest hit comes first without sorting. Text is never
stored, only its index. Queries are in `store.sqlite.query`; this module feeds them.

Invariants: Emails and the watermark that covers them are one commit; the file may vanish or be
older or newer than the data, and the index still ends up right, because nothing but the watermark
says what is in it and every answer is joined with the Emails that exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import apsw

from tindra.base.ids import AccountId, ModSeq
from tindra.model.mail import SearchDocument, encode_email_id, parse_email_id
from tindra.store.sqlite.access import StoreAccess
from tindra.store.sqlite.connection import StoreConnection
from tindra.store.sqlite.erase import erase_index
from tindra.store.sqlite.search_table import SearchRange, locate_account
from tindra.store.words import COLUMNS, clean, split_script

_COLUMN_LIST: Final = ", ".join(f'"{column}"' for column in COLUMNS)
_ROW: Final = f"(rowid, {_COLUMN_LIST}) VALUES (?, ?, ?, ?, ?, ?, ?)"


class SqliteSearch:
    """The search index of an SqliteStore."""

    def __init__(self, store: StoreAccess) -> None:
        self._store = store

    async def list_unindexed(self, account_id: AccountId, limit: int) -> list[tuple[ModSeq, int]]:
        """(created_modseq, doc_id) of Emails above the watermark, in that order."""

        def run(conn: StoreConnection) -> list[tuple[ModSeq, int]]:
            modseq, doc_id = _load_watermark(conn, account_id)
            rows: Any = conn.execute(
                "SELECT created_modseq, doc_id FROM email WHERE account_id = ?"
                " AND (created_modseq, doc_id) > (?, ?)"
                # One that is being erased has no row there, and may still have Emails.
                " AND EXISTS (SELECT 1 FROM account a WHERE a.account_id = email.account_id)"
                " ORDER BY created_modseq, doc_id LIMIT ?",
                (account_id, modseq, doc_id, limit),
            )
            return list(rows)

        return await self._store.run_read(run)

    async def add(
        self,
        account_id: AccountId,
        documents: Sequence[SearchDocument],
        upto: tuple[ModSeq, int],
    ) -> None:
        """Index Emails and raise the watermark to `upto`, in one commit; idempotent."""
        if await self._store.run_read(lambda conn: _is_ahead(conn, account_id)):
            await erase_index(self._store, account_id)

        def run(conn: apsw.Connection) -> None:
            rows = _need_rows(conn, account_id)
            conn.executemany(
                f"DELETE FROM {rows.table} WHERE rowid = ?",
                [(rows.first + document.doc_id,) for document in documents],
            )
            conn.executemany(
                f"INSERT INTO {rows.table} {_ROW}",
                [(rows.first + document.doc_id, *_texts(document)) for document in documents],
            )
            conn.execute(
                "UPDATE fts_account SET modseq = ?1, doc_id = ?2 WHERE account_id = ?3"
                " AND (modseq, doc_id) < (?1, ?2)",
                (*upto, account_id),
            )

        await self._store.run_search(run)

    async def list_removable(self, account_id: AccountId, limit: int) -> list[int]:
        """doc_ids of destroyed Emails that the index may still hold."""

        def run(conn: StoreConnection) -> list[int]:
            rows = _load_tombstones(conn, account_id, limit)
            return [doc_id for _, id in rows if (doc_id := parse_email_id(id)) is not None]

        return await self._store.run_read(run)

    async def remove(self, account_id: AccountId, doc_ids: Sequence[int]) -> None:
        """Forget destroyed Emails; idempotent."""
        gone = set(doc_ids)
        ids = {encode_email_id(doc_id) for doc_id in gone}

        def find_place(conn: StoreConnection) -> tuple[int, str] | None:
            """How far the tombstones are followed once these are removed."""
            place = None
            for modseq, id in _load_tombstones(conn, account_id, len(ids)):
                if id not in ids:
                    break
                place = (modseq, id)
            return place

        place = await self._store.run_read(find_place)

        def run(conn: apsw.Connection) -> None:
            rows = _need_rows(conn, account_id)
            conn.executemany(
                f"DELETE FROM {rows.table} WHERE rowid = ?",
                [(rows.first + doc_id,) for doc_id in gone],
            )
            if place is not None:
                conn.execute(
                    "UPDATE fts_account SET removed_modseq = ?1, removed_id = ?2"
                    " WHERE account_id = ?3 AND (removed_modseq, removed_id) < (?1, ?2)",
                    (*place, account_id),
                )

        await self._store.run_search(run)


def _texts(document: SearchDocument) -> tuple[str, ...]:
    return tuple(clean(split_script(getattr(document, column))) for column in COLUMNS)


def _load_watermark(conn: StoreConnection, account_id: AccountId) -> tuple[int, int]:
    """Where the index stands; at 0 when it is missing or ahead of the data."""
    row: Any = conn.execute(
        "SELECT f.modseq, f.doc_id FROM search.fts_account f JOIN account a"
        " ON a.account_id = f.account_id AND f.modseq <= a.modseq WHERE f.account_id = ?",
        (account_id,),
    ).fetchone()
    return row or (0, 0)


def _is_ahead(conn: StoreConnection, account_id: AccountId) -> bool:
    """Whether the index belongs to a later state of the data (an older backup was restored)."""
    row = conn.execute(
        "SELECT 1 FROM search.fts_account f JOIN account a ON a.account_id = f.account_id"
        " AND max(f.modseq, f.removed_modseq) > a.modseq WHERE f.account_id = ?",
        (account_id,),
    ).get
    return row is not None


def _load_tombstones(
    conn: StoreConnection, account_id: AccountId, limit: int
) -> list[tuple[int, str]]:
    """(modseq, id) of destroyed Emails that the index has not followed yet; none without index."""
    rows: Any = conn.execute(
        "SELECT t.modseq, t.id FROM search.fts_account f CROSS JOIN tombstone t"
        " ON t.account_id = f.account_id AND t.type_name = 'Email'"
        " AND (t.modseq, t.id) > (f.removed_modseq, f.removed_id)"
        " WHERE f.account_id = ? ORDER BY t.modseq, t.id LIMIT ?",
        (account_id, limit),
    )
    return list(rows)


def _need_rows(conn: apsw.Connection, account_id: AccountId) -> SearchRange:
    """Where the account's rows are; it gets its place on first use."""
    sql = "SELECT n FROM fts_account WHERE account_id = ?"
    number: Any = conn.execute(sql, (account_id,)).get
    if number is not None:
        return locate_account(number)
    number = conn.execute(
        "-- every account: the next free number\n"
        "INSERT INTO fts_account (account_id, n)"
        " SELECT ?, coalesce(max(n), -1) + 1 FROM fts_account RETURNING n",
        (account_id,),
    ).get
    rows = locate_account(number)
    conn.execute(
        f"CREATE VIRTUAL TABLE IF NOT EXISTS {rows.table} USING fts5({_COLUMN_LIST},"
        " content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2')"
    )
    return rows
