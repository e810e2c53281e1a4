"""Which right of a Mailbox what needs (RFC 8621 s2), for callers who see a part of an account.

Every check takes what the caller sees (`tx.seen`); where that is the whole account, the right to
triage was asked for before (core/access.py) and nothing more is needed here. Each raises SetError
forbidden before anything is written.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from tindra.core.errors import SetError
from tindra.core.ports import StoreReader
from tindra.core.tx import Tx
from tindra.features.mail.sharing.part import PartReader
from tindra.model.mail import EmailRow, MailboxRow
from tindra.model.sharing import SHARE_RIGHTS

_NOT_IN_INBOX = frozenset({"mayRename", "mayDelete"})


def make_rights(
    seen: StoreReader, account_rights: frozenset[str], row: MailboxRow
) -> dict[str, bool]:
    """myRights of a Mailbox. Source: RFC 8621 s2"""
    if isinstance(seen, PartReader):
        held = seen.shares[row.id].rights
    else:
        held = _of_account(account_rights)
    if row.role == "inbox":
        held -= _NOT_IN_INBOX
    return encode_rights(held)


def encode_rights(held: Iterable[str]) -> dict[str, bool]:
    """Rights as JMAP shows them: every one, true or false."""
    return dict.fromkeys(SHARE_RIGHTS, False) | dict.fromkeys(held, True)


def _of_account(rights: frozenset[str]) -> frozenset[str]:
    held: set[str] = set()
    if "triage" in rights:
        held.update(set(SHARE_RIGHTS) - {"mayReadItems", "maySubmit", "mayShare"})
    if "read" in rights:
        held.add("mayReadItems")
    if "send" in rights:
        held.add("maySubmit")
    if "admin" in rights:
        held.add("mayShare")
    return frozenset(held)


def check_right(seen: StoreReader, right: str, mailbox_ids: Iterable[str]) -> None:
    """The right is held in all of these Mailboxes."""
    if isinstance(seen, PartReader):
        for id in mailbox_ids:
            if not seen.may(right, id):
                raise SetError("forbidden", f"this needs {right} in the Mailbox")


def check_email_update(seen: StoreReader, before: EmailRow, after: EmailRow) -> None:
    """An Email may be moved and marked so. Keywords belong to an Email in all of its Mailboxes, so
    they need the right in all, also in those out of sight. Source: RFC 8621 s2"""
    if not isinstance(seen, PartReader):
        return
    check_right(seen, "mayAddItems", set(after.mailbox_ids) - set(before.mailbox_ids))
    check_right(seen, "mayRemoveItems", set(before.mailbox_ids) - set(after.mailbox_ids))
    marked = set(before.keywords) ^ set(after.keywords)
    everywhere = seen.whole_email(before).mailbox_ids
    if "$seen" in marked:
        check_right(seen, "maySetSeen", everywhere)
    if marked - {"$seen"}:
        check_right(seen, "maySetKeywords", everywhere)


async def write_emails(
    tx: Tx,
    updates: Sequence[tuple[EmailRow, EmailRow]],
    destroys: Sequence[EmailRow],
    touched: Collection[str] = (),
) -> None:
    """Write what the caller did to Emails as they see them. One that is destroyed leaves their
    sight; if it is in other Mailboxes, too, it stays there.

    Args:
        touched: as of Tx.update_emails.
    """
    seen = tx.seen
    if isinstance(seen, PartReader):
        whole = [(seen.whole_email(a), seen.with_visible(a, a.mailbox_ids)) for _, a in updates]
        left = [(seen.whole_email(row), seen.with_visible(row, ())) for row in destroys]
        updates = whole + [pair for pair in left if pair[1].mailbox_ids]
        destroys = [before for before, after in left if not after.mailbox_ids]
    if updates:
        await tx.update_emails(updates, touched)
    if destroys:
        await tx.delete_emails(destroys)


async def find_hidden_twins(tx: Tx, blob_ids: Sequence[str]) -> set[str]:
    """Those of the blobs that are Emails out of the caller's sight."""
    if not isinstance(tx.seen, PartReader):
        return set()
    there = await tx.store.find_emails_by_blob(blob_ids)
    return there.keys() - (await tx.seen.find_emails_by_blob(blob_ids)).keys()


def refuse_hidden_twin() -> SetError:
    """An account has no second Email of one content, and the first is not theirs to move."""
    return SetError("forbidden", "this message cannot be put here")
