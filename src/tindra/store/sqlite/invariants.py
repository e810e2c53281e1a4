"""Hands one account's rows to the shared checks, and checks the tables that only SQLite has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tindra.base.ids import AccountId
from tindra.model.mail import EmailRow
from tindra.store.drive import drive
from tindra.store.invariants import AccountRows, Stamp, check_rows
from tindra.store.sqlite.connection import StoreConnection
from tindra.store.sqlite.reader import SqliteReader
from tindra.store.sqlite.rows import (
    EMAIL_COLUMNS,
    THREAD_COLUMNS,
    listed_keywords,
    make_emails,
    make_threads,
)


def check_account(conn: StoreConnection, account_id: AccountId) -> None:
    """Everything that must hold of an account. Raises: AssertionError. Cost: reads it whole."""

    def run(sql: str) -> list[Any]:
        return conn.execute(sql, (account_id,)).fetchall()

    known = run("SELECT modseq, floor_modseq FROM account WHERE account_id = ?")
    modseq, floor = known[0] if known else (0, 0)
    reader = SqliteReader(conn, account_id)
    emails = make_emails(
        run(f"SELECT {EMAIL_COLUMNS} FROM email WHERE account_id = ? ORDER BY doc_id")
    )
    check_rows(
        AccountRows(
            modseq=modseq,
            floor=floor,
            states=drive(reader.load_states(), "check"),
            stamps=list(_stamps(run)),
            mailboxes=drive(reader.load_mailboxes(), "check"),
            emails=emails,
            threads=make_threads(run(f"SELECT {THREAD_COLUMNS} FROM thread WHERE account_id = ?")),
            content_ids=[
                doc_id for (doc_id,) in run("SELECT doc_id FROM email_content WHERE account_id = ?")
            ],
            blob_ids=[id for (id,) in run("SELECT blob_id FROM blob WHERE account_id = ?")],
        )
    )
    _check_lists(run, emails)
    _check_mailbox_counts(run)
    _check_references(run)


def _stamps(run: Any) -> Iterator[Stamp]:
    for sql in (
        "SELECT 'Email', doc_id, created_modseq, changed_modseq FROM email WHERE account_id = ?",
        "SELECT 'Mailbox', mailbox_id, created_modseq, changed_modseq FROM mailbox"
        " WHERE account_id = ?",
        "SELECT 'Thread', thread_id, created_modseq, changed_modseq FROM thread"
        " WHERE account_id = ?",
        "SELECT type_name, id, created_modseq, changed_modseq FROM object WHERE account_id = ?",
        "SELECT type_name, id, created_modseq, modseq FROM tombstone WHERE account_id = ?",
    ):
        for row in run(sql):
            yield Stamp(*row)


def _check_lists(run: Any, emails: list[EmailRow]) -> None:
    """email_mailbox and email_keyword say what the Emails say."""
    by_mailbox = {
        (id, email.doc_id, email.thread_id) for email in emails for id in email.mailbox_ids
    }
    stored = set(
        run("SELECT mailbox_id, doc_id, thread_id FROM email_mailbox WHERE account_id = ?")
    )
    assert stored == by_mailbox, f"email_mailbox differs in {stored ^ by_mailbox}"
    by_keyword = {
        (name, email.doc_id, email.thread_id)
        for email in emails
        for name in listed_keywords(email.keywords)
    }
    stored = set(run("SELECT keyword, doc_id, thread_id FROM email_keyword WHERE account_id = ?"))
    assert stored == by_keyword, f"email_keyword differs in {stored ^ by_keyword}"


def _check_mailbox_counts(run: Any) -> None:
    counted = run("SELECT mailbox_id FROM mailbox_count WHERE account_id = ? AND principal_id = ''")
    listed = run("SELECT mailbox_id FROM mailbox WHERE account_id = ?")
    assert sorted(counted) == sorted(listed), "mailbox_count and mailbox list different Mailboxes"


def _check_references(run: Any) -> None:
    orphans = run(
        "SELECT r.ref FROM thread_ref r LEFT JOIN thread t ON t.account_id = r.account_id"
        " AND t.thread_id = r.thread_id WHERE r.account_id = ? AND t.thread_id IS NULL"
    )
    assert not orphans, f"references of Threads that are gone: {orphans}"
