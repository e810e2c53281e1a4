"""What must hold of the rows of one account, whichever store keeps them. For tests.

Pure code over values: a store hands over all that it has and keeps only the checks of its own
tables. Each check raises AssertionError with the rows that disagree.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from tindra.model.counting import count_thread
from tindra.model.mail import (
    DOC_COUNTER_BITS,
    EmailRow,
    MailboxCounts,
    MailboxRow,
    ThreadRow,
    make_doc_id,
)


class Stamp(NamedTuple):
    """When an object of one type was made and last changed, or destroyed."""

    type_name: str
    id: str
    created_modseq: int
    changed_modseq: int


class AccountRows(NamedTuple):
    """All that the shared checks look at."""

    modseq: int
    floor: int
    states: Mapping[str, int]
    stamps: Collection[Stamp]
    """Of everything, tombstones too."""
    mailboxes: Collection[MailboxRow]
    emails: Collection[EmailRow]
    threads: Collection[ThreadRow]
    content_ids: Collection[int]
    blob_ids: Collection[str]


def check_rows(rows: AccountRows) -> None:
    """Counters equal recounts, Threads equal their Emails, nothing orphaned, modseqs in order."""
    _check_stamps(rows)
    _check_emails(rows)
    _check_threads(rows)
    _check_counters(rows)


def _check_stamps(rows: AccountRows) -> None:
    assert rows.floor <= rows.modseq, f"floor {rows.floor} is above modseq {rows.modseq}"
    for stamp in rows.stamps:
        assert 0 < stamp.created_modseq <= stamp.changed_modseq <= rows.modseq, f"order: {stamp}"
        state = rows.states.get(stamp.type_name, 0)
        assert stamp.changed_modseq <= state, f"state {state} is behind {stamp}"
    for type_name, state in rows.states.items():
        assert state <= rows.modseq, f"state {state} of {type_name} is above {rows.modseq}"
    for mailbox in rows.mailboxes:
        assert mailbox.created_modseq <= mailbox.info_modseq <= mailbox.changed_modseq, mailbox


def _check_emails(rows: AccountRows) -> None:
    mailbox_ids = {mailbox.id for mailbox in rows.mailboxes}
    contents, blobs = set(rows.content_ids), set(rows.blob_ids)
    for email in rows.emails:
        second = make_doc_id(email.received_ms, 0) >> DOC_COUNTER_BITS
        assert email.doc_id >> DOC_COUNTER_BITS == second, f"{email.id}: order is not receivedAt"
        assert email.mailbox_ids, f"{email.id} is in no Mailbox"
        assert mailbox_ids.issuperset(email.mailbox_ids), f"{email.id} is in an unknown Mailbox"
        for names in (email.mailbox_ids, email.keywords):
            assert tuple(sorted(set(names))) == tuple(names), f"{email.id}: {names} is not a set"
        assert email.blob_id in blobs, f"{email.id} has no blob"
    doc_ids = {email.doc_id for email in rows.emails}
    assert doc_ids == contents, f"content does not match Emails: {doc_ids ^ contents}"


def _check_threads(rows: AccountRows) -> None:
    found: dict[str, list[EmailRow]] = {}
    for email in sorted(rows.emails, key=lambda email: email.doc_id):
        found.setdefault(email.thread_id, []).append(email)
    listed: dict[str, ThreadRow] = {thread.id: thread for thread in rows.threads}
    assert listed.keys() == found.keys(), f"Threads and Emails: {listed.keys() ^ found.keys()}"
    for id, emails in found.items():
        in_order = tuple(email.id for email in emails)
        assert listed[id].email_ids == in_order, f"{listed[id]} should list {in_order}"


def _check_counters(rows: AccountRows) -> None:
    expected = recount(rows.emails, rows.mailboxes)
    for mailbox in rows.mailboxes:
        stored = MailboxCounts(
            mailbox.total_emails,
            mailbox.unread_emails,
            mailbox.total_threads,
            mailbox.unread_threads,
        )
        counted = expected.get(mailbox.id, MailboxCounts())
        assert stored == counted, f"{mailbox.name!r} ({mailbox.id}): {stored}, but {counted}"


def recount(
    emails: Iterable[EmailRow], mailboxes: Iterable[MailboxRow]
) -> dict[str, MailboxCounts]:
    """The counters as they should be, from nothing but the Emails."""
    trash_id = next((mailbox.id for mailbox in mailboxes if mailbox.role == "trash"), None)
    threads: dict[str, list[EmailRow]] = {}
    for email in emails:
        threads.setdefault(email.thread_id, []).append(email)
    totals: dict[str, list[int]] = {}
    for members in threads.values():
        for id, counts in count_thread(members, trash_id).items():
            total = totals.setdefault(id, [0, 0, 0, 0])
            total[0] += counts.total_emails
            total[1] += counts.unread_emails
            total[2] += counts.total_threads
            total[3] += counts.unread_threads
    return {id: MailboxCounts(*total) for id, total in totals.items()}
