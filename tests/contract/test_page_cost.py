"""What a page at the end of a Mailbox, or around an Email, costs SQLite.

Source: RFC 8620 s5.5
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import apsw
import pytest

from tests.contract.stores import (
    ACCOUNT,
    INBOX,
    Draft,
    Stores,
    deliver,
    open_stores,
    put_mailboxes,
)
from tindra.core.ports import EmailPage, Page, StoreTx
from tindra.model.mail import EmailCondition, EmailQuery, EmailRow
from tindra.store.drive import drive
from tindra.store.sqlite.connection import StoreConnection
from tindra.store.sqlite.reader import SqliteReader
from tindra.store.sqlite.store import SqliteStore


async def _count_steps(stores: Stores, query: EmailQuery, page: Page[int]) -> int:
    """What SQLite does for a page, in steps of its machine."""
    steps = 0

    def note(event: Any) -> None:
        nonlocal steps
        steps += event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]

    def run(conn: StoreConnection) -> EmailPage | None:
        conn.trace_v2(apsw.SQLITE_TRACE_PROFILE, note)
        try:
            return drive(SqliteReader(conn, ACCOUNT).query_page(query, page, True), "read")
        finally:
            conn.trace_v2(0)

    found = await cast(SqliteStore, stores.store).run_read(run)
    assert found is not None
    assert len(found.doc_ids) == page.limit
    return steps


@pytest.mark.parametrize("collapse", [False, True])
async def test_the_end_of_a_mailbox_costs_the_same_however_large_it_is(
    tmp_path: Path, collapse: bool
) -> None:
    sqlite = await open_stores("sqlite", tmp_path)
    await sqlite.write(put_mailboxes)
    query = EmailQuery(EmailCondition(in_mailbox=INBOX), (), collapse)
    found = []
    for first in (0, 300):
        drafts = [Draft(n, f"t{n // 2}", received_s=n) for n in range(first, first + 300)]

        async def add(tx: StoreTx, drafts: list[Draft] = drafts) -> list[EmailRow]:
            return await deliver(tx, drafts)

        await sqlite.write(add)
        docs, _ = await sqlite.read(lambda r: r.query_emails(query, None, False))
        near = Page(0, 4, anchor=docs[-9], offset=-2)
        pages = (Page(-6, 4), Page(len(docs) - 6, 4), near)
        found.append([await _count_steps(sqlite, query, page) for page in pages])
    (few_end, few_deep, few_near), (end, deep, near_steps) = found
    assert end == few_end
    assert deep == few_deep
    added = 150 if collapse else 300
    assert near_steps - few_near <= added * 40, "an anchor's place is a count of what is before it"
    await sqlite.store.close()
