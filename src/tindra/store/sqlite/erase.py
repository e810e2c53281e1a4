"""Erases an account: its name, grants and keys at once, its rows in small steps.

Invariant: an account that is in `erasing` is already unreachable (no account row, no grant, no data
key), and stays in it until all that is left of it is gone, here and in the blob store.
"""

from __future__ import annotations

from typing import Any

import apsw

from tindra.base.ids import AccountId
from tindra.store.bounds import ERASE_ROWS_MAX
from tindra.store.sqlite.access import StoreAccess
from tindra.store.sqlite.connection import StoreConnection
from tindra.store.sqlite.schema import ACCOUNT_TABLES
from tindra.store.sqlite.search_table import locate_account


async def erase_account(store: StoreAccess, account_id: AccountId) -> None:
    """Make the account unreachable, then delete all that it held here. Unknown ids are ignored."""
    await store.run_write(lambda conn: mark_erased(conn, account_id))
    await erase_rows(store, account_id)
    await finish_erasing(store, account_id)


def mark_erased(conn: StoreConnection, account_id: AccountId) -> None:
    """The first step, part of a transaction: from its commit on nobody reaches the account."""
    conn.execute("INSERT OR IGNORE INTO erasing (account_id) VALUES (?)", (account_id,))
    conn.execute("DELETE FROM account WHERE account_id = ?", (account_id,))
    conn.execute("DELETE FROM secret WHERE account_id = ?", (account_id,))
    conn.execute("DELETE FROM grant_row WHERE account_id = ?", (account_id,))


async def list_erasing(store: StoreAccess) -> list[AccountId]:
    """Accounts whose erasing has begun and is not finished."""

    def load(conn: StoreConnection) -> list[AccountId]:
        rows: Any = conn.execute(
            "-- every account: erasings under way, or cut short by a stop of the program\n"
            "SELECT account_id FROM erasing ORDER BY account_id"
        )
        return [account_id for (account_id,) in rows]

    return await store.run_read(load)


async def erase_rows(store: StoreAccess, account_id: AccountId) -> None:
    """Delete all rows and search words of a marked account; again after a crash is harmless."""
    for table, keys in ACCOUNT_TABLES.items():
        columns = ", ".join(keys)
        sql = (
            f"DELETE FROM {table} WHERE account_id = ?1 AND ({columns}) IN"
            f" (SELECT {columns} FROM {table} WHERE account_id = ?1 LIMIT ?2)"
        )

        def run(conn: StoreConnection, sql: str = sql) -> int:
            conn.execute(sql, (account_id, ERASE_ROWS_MAX))
            return conn.changes()

        while await store.run_write(run) == ERASE_ROWS_MAX:
            pass
    await erase_index(store, account_id)


async def finish_erasing(store: StoreAccess, account_id: AccountId) -> None:
    """Forget that the account ever was; the last step."""
    await store.run_write(
        lambda conn: conn.execute("DELETE FROM erasing WHERE account_id = ?", (account_id,)).get
    )


async def erase_index(store: StoreAccess, account_id: AccountId) -> None:
    """Forget the account's search rows, in small steps, and then its place in the registry."""
    while await store.run_search(lambda conn: _erase_index_rows(conn, account_id)):
        pass


def _erase_index_rows(conn: apsw.Connection, account_id: AccountId) -> bool:
    """Whether there are more."""
    number: Any = conn.execute("SELECT n FROM fts_account WHERE account_id = ?", (account_id,)).get
    if number is None:
        return False
    rows = locate_account(number)
    conn.execute(
        f"DELETE FROM fts_{rows.table_number} WHERE rowid IN"
        f" (SELECT rowid FROM fts_{rows.table_number} WHERE rowid >= ? AND rowid < ? LIMIT ?)",
        (rows.first, rows.end, ERASE_ROWS_MAX),
    )
    if conn.changes() == ERASE_ROWS_MAX:
        return True
    conn.execute("DELETE FROM fts_account WHERE account_id = ?", (account_id,))
    return False
