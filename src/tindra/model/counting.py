"""What one Thread adds to the counters of each Mailbox (RFC 8621 s2); pure, shared by all writers.

The counters of a Mailbox are the sums over Threads, so a writer that counts the Threads it touches
before and after knows exactly what to add. Counting whole Threads is what makes unreadThreads
right: an unread Email in Archive makes its Thread unread in Inbox too.
"""

from __future__ import annotations

from collections.abc import Sequence

from tindra.base.ids import MailboxId
from tindra.model.mail import EmailRow, MailboxCounts


def count_thread(
    emails: Sequence[EmailRow], trash_id: MailboxId | None
) -> dict[MailboxId, MailboxCounts]:
    """What a Thread adds to every Mailbox that one of its Emails is in.

    Args:
        emails: all Emails of one Thread, in any order.
        trash_id: the Mailbox with the role "trash", if there is one. Emails only in Trash do not
            make a Thread unread elsewhere, and only Emails in Trash make it unread there.
    Cost: O(memberships).
    Source: RFC 8621 s2
    """
    totals: dict[MailboxId, int] = {}
    unread: dict[MailboxId, int] = {}
    has_unread_in_trash = has_unread_elsewhere = False
    for email in emails:
        is_unread = is_email_unread(email)
        for id in email.mailbox_ids:
            totals[id] = totals.get(id, 0) + 1
            unread[id] = unread.get(id, 0) + is_unread
        if is_unread:
            is_in_trash = trash_id is not None and trash_id in email.mailbox_ids
            has_unread_in_trash |= is_in_trash
            has_unread_elsewhere |= not is_in_trash or len(email.mailbox_ids) > 1
    return {
        id: MailboxCounts(
            total_emails=total,
            unread_emails=unread[id],
            total_threads=1,
            unread_threads=int(has_unread_in_trash if id == trash_id else has_unread_elsewhere),
        )
        for id, total in totals.items()
    }


def is_email_unread(email: EmailRow) -> bool:
    """Whether it has neither $seen nor $draft. Source: RFC 8621 s2"""
    return "$seen" not in email.keywords and "$draft" not in email.keywords
