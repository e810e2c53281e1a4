"""Mailboxes as somebody writes them who sees a part of an account (RFC 8621 s2.5).

They change what they see; what they do not see of a Mailbox (the parent it has, that its owner is
subscribed to it) stays as it is.
"""

from __future__ import annotations

import msgspec

from tindra.core.errors import SetError
from tindra.core.ports import StoreReader
from tindra.core.tx import Tx
from tindra.features.mail.sharing.part import PartReader
from tindra.features.mail.sharing.rights import check_right
from tindra.model.mail import MailboxRow
from tindra.model.sharing import SHARE_SEEN, ShareSeen

_replace = msgspec.structs.replace


def is_visible(seen: StoreReader, mailbox_id: str) -> bool:
    """Whether a Mailbox that is there is there for the caller."""
    return not isinstance(seen, PartReader) or mailbox_id in seen.shares


def show_mailbox(seen: StoreReader, row: MailboxRow) -> MailboxRow:
    """A whole Mailbox as it is seen, but for its counters."""
    if not isinstance(seen, PartReader):
        return row
    parent_id = row.parent_id if row.parent_id in seen.shares else None
    return _replace(row, parent_id=parent_id, is_subscribed=seen.shares[row.id].is_subscribed)


def check_mailbox_create(seen: StoreReader, row: MailboxRow) -> None:
    """Raises: SetError forbidden."""
    if isinstance(seen, PartReader):
        if row.parent_id is None or row.role is not None:
            raise SetError("forbidden", "here a new Mailbox is under another and has no role")
        check_right(seen, "mayCreateChild", [row.parent_id])


def check_mailbox_update(seen: StoreReader, before: MailboxRow, after: MailboxRow) -> None:
    """
    Args:
        before, after: as they are seen.
    Raises: SetError forbidden.
    """
    if not isinstance(seen, PartReader):
        return
    if (before.role, before.sort_order) != (after.role, after.sort_order):
        raise SetError("forbidden", "role and sortOrder are its owner's")
    if before.parent_id != after.parent_id:
        if after.parent_id is None:
            raise SetError("forbidden", "here a Mailbox stays under another")
        check_right(seen, "mayCreateChild", [after.parent_id])
    if (before.name, before.parent_id) != (after.name, after.parent_id):
        check_right(seen, "mayRename", [before.id])


def restore_mailbox(before: MailboxRow, shown: MailboxRow, after: MailboxRow) -> MailboxRow:
    """The whole Mailbox `before`, changed as `shown` was to `after`; isSubscribed as they want."""
    return _replace(
        after,
        parent_id=before.parent_id if after.parent_id == shown.parent_id else after.parent_id,
    )


async def keep_subscription(tx: Tx, before: MailboxRow, after: MailboxRow) -> MailboxRow:
    """isSubscribed is the viewer's own: it goes to their share, and the row keeps its owner's.

    Returns: the row to write.
    """
    seen = tx.seen
    if not isinstance(seen, PartReader):
        return after
    share = seen.shares[before.id]
    if share.is_subscribed != after.is_subscribed:
        share = _replace(share, is_subscribed=after.is_subscribed)
        seen.shares[before.id] = share
        await tx.put_share(share)
        await tx.put_mailbox(before, before)
        if share.is_subscribed:
            payload = ShareSeen(share.user_id, share.mailbox_id)
            key = f"{share.mailbox_id}:{share.user_id}"
            await tx.put_timer(SHARE_SEEN, key, tx.clock.now_ms(), payload)
    return _replace(after, is_subscribed=before.is_subscribed)
