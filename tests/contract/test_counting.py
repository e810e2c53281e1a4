"""What one Thread adds to the counters of each Mailbox (RFC 8621 s2)."""

from __future__ import annotations

import pytest

from tests.contract.stores import ARCHIVE, INBOX, TRASH, Draft, make_email
from tindra.base.ids import MailboxId
from tindra.model.counting import count_thread
from tindra.model.mail import MailboxCounts


def _count(*drafts: Draft, has_trash: bool = True) -> dict[MailboxId, MailboxCounts]:
    emails = [make_email(draft) for draft in drafts]
    return count_thread(emails, TRASH if has_trash else None)


def test_an_unread_email_counts_in_each_of_its_mailboxes() -> None:
    counts = _count(Draft(1, mailbox_ids=(INBOX, ARCHIVE)))
    assert counts == {INBOX: MailboxCounts(1, 1, 1, 1), ARCHIVE: MailboxCounts(1, 1, 1, 1)}


@pytest.mark.parametrize("keyword", ["$seen", "$draft"])
def test_seen_emails_and_drafts_are_not_unread(keyword: str) -> None:
    assert _count(Draft(1, keywords=(keyword,))) == {INBOX: MailboxCounts(1, 0, 1, 0)}


def test_an_unread_email_elsewhere_makes_the_thread_unread_here() -> None:
    counts = _count(Draft(1, keywords=("$seen",)), Draft(2, mailbox_ids=(ARCHIVE,)))
    assert counts == {INBOX: MailboxCounts(1, 0, 1, 1), ARCHIVE: MailboxCounts(1, 1, 1, 1)}


def test_an_email_only_in_trash_makes_its_thread_unread_only_there() -> None:
    counts = _count(Draft(1, keywords=("$seen",)), Draft(2, mailbox_ids=(TRASH,)))
    assert counts == {INBOX: MailboxCounts(1, 0, 1, 0), TRASH: MailboxCounts(1, 1, 1, 1)}


def test_an_email_outside_trash_does_not_make_the_thread_unread_in_trash() -> None:
    counts = _count(Draft(1), Draft(2, mailbox_ids=(TRASH,), keywords=("$seen",)))
    assert counts == {INBOX: MailboxCounts(1, 1, 1, 1), TRASH: MailboxCounts(1, 0, 1, 0)}


def test_an_unread_email_in_trash_and_elsewhere_counts_in_both() -> None:
    counts = _count(Draft(1, mailbox_ids=(INBOX, TRASH)), Draft(2, mailbox_ids=(ARCHIVE,)))
    assert {id: count.unread_threads for id, count in counts.items()} == {
        INBOX: 1,
        TRASH: 1,
        ARCHIVE: 1,
    }


def test_without_a_trash_mailbox_all_count_alike() -> None:
    counts = _count(Draft(1, keywords=("$seen",)), Draft(2, mailbox_ids=(TRASH,)), has_trash=False)
    assert counts[INBOX].unread_threads == 1
