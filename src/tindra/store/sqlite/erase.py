"""Erases an account: its name, grants and keys at once, its rows in small steps.

Invariant: an account that is in `erasing` is already unreachable (no account row, no grant, no data
key), and every open of the database goes on with what is left of it.
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
    """Make the account unreachable, then delete all that it held. Unknown ids are ignored."""

    def run(conn: StoreConnection) -> None:
        conn.execute("INSERT OR IGNORE INTO erasing (account_id) VALUES (?)", (account_id,))
        conn.execute("DELETE FROM account WHERE account_id = ?", (account_id,))
        conn.execute("DELETE FROM secret WHERE account_id = ?", (account_id,))
        conn.execute("DELETE FROM grant_row WHERE account_id = ?", (account_id,))

    await store.run_write(run)
    await run_erasures(store)


async def run_erasures(store: StoreAccess) -> None:
    """Finish every erasing that was begun."""

    def load(conn: StoreConnection) -> list[AccountId]:
        rows: Any = conn.execute(
            "-- every account: erasings that a stop of the program left unfinished\n"
            "SELECT account_id FROM erasing"
        )
        return [account_id for (account_id,) in rows]

    for account_id in await store.run_read(load):
        await _erase_rows(store, account_id)


async def _erase_rows(store: StoreAccess, account_id: AccountId) -> None:
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
