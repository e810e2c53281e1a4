"""What becomes of the Emails of a Mailbox that is destroyed (RFC 8621 s2.5, onDestroyRemoveEmails).

A large one is emptied first, in transactions of some Emails each, so that all who write in the
meantime wait for one of those and not for all. Objects of a /set need not change together (RFC 8620
s5.3): between two steps the Mailbox is there with fewer Emails, and after a crash it stays so until
it is destroyed again. ifInState is compared before the first step. Nothing is removed by steps for
a call that makes or changes Mailboxes, too: what it does might keep a Mailbox from being destroyed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from tindra.base.ids import AccountId, MailboxId
from tindra.core.datatype import CallContext, SetRequest
from tindra.core.errors import SetError
from tindra.core.ports import StoreReader
from tindra.core.tx import Tx, transact_in_state
from tindra.features.mail.sharing.places import is_visible
from tindra.features.mail.sharing.rights import check_right
from tindra.features.mail.writing.mailbox_tree import MailboxTree
from tindra.model.mail import EmailCondition, EmailQuery, MailboxRow

REMOVE_STEP_EMAILS: Final = 500
"""Removed in one transaction: a tenth of a second of the one writer, two where it is busy. With
fewer, all of it would take longer: each step writes anew much of the indexes that it touches."""


async def empty_in_steps(call: CallContext, account_id: AccountId, request: SetRequest) -> bool:
    """Remove Emails from Mailboxes that are to be destroyed, until few are left in each.

    Returns: whether ifInState was compared, and any were removed.
    Raises: MethodError stateMismatch. Cost: one read, where no Mailbox is large.
    """
    if request.create or request.update or not request.arguments.get("onDestroyRemoveEmails"):
        return False
    ids = {call.resolve(id) for id in request.destroy}

    async def has_large(reader: StoreReader) -> bool:
        rows = await reader.load_mailboxes()
        return any(row.id in ids and row.total_emails > REMOVE_STEP_EMAILS for row in rows)

    async def step(tx: Tx) -> bool:
        for row in await _list_doomed(tx, ids, request.arguments):
            if row.total_emails > REMOVE_STEP_EMAILS:
                query = EmailQuery(filter=EmailCondition(in_mailbox=row.id))
                docs, _ = await tx.store.query_emails(query, REMOVE_STEP_EMAILS, False)
                await remove_from_mailbox(tx, docs, row.id)
                return True
        return False

    if not ids or not await call.services.store.read(account_id, has_large):
        return False
    state, is_begun = request.arguments.get("ifInState"), False
    while (await transact_in_state(call.services, account_id, "Mailbox/set", state, step))[0]:
        state, is_begun = None, True
    return is_begun


async def _list_doomed(tx: Tx, ids: set[str], arguments: Mapping[str, Any]) -> list[MailboxRow]:
    """Those of some Mailboxes that can be destroyed one after the other, as they are now."""
    tree = MailboxTree(await tx.store.load_mailboxes())
    known = [id for id in ids if id in tree.rows and is_visible(tx.seen, id)]
    found = []
    for id in sorted(known, key=tree.count_depth, reverse=True):
        row = tree.rows[id]
        with suppress(SetError):
            check_destroy(tx, tree, row, arguments)
            found.append(row)
            tree.drop(id)
    return found


def check_destroy(tx: Tx, tree: MailboxTree, row: MailboxRow, arguments: Mapping[str, Any]) -> None:
    """Raises: SetError mailboxHasChild, mailboxHasEmail, forbidden. Source: RFC 8621 s2.5"""
    if tree.has_children(row.id):
        raise SetError("mailboxHasChild", "it still has Mailboxes under it")
    check_right(tx.seen, "mayDelete", [row.id])
    check_destroyable(row, arguments)
    if row.total_emails:
        check_right(tx.seen, "mayRemoveItems", [row.id])


def check_destroyable(row: MailboxRow, arguments: Mapping[str, Any]) -> None:
    """Raises: SetError mailboxHasEmail, forbidden."""
    if row.role == "inbox":
        raise SetError("forbidden", "the inbox cannot be destroyed")
    if row.total_emails and not arguments.get("onDestroyRemoveEmails"):
        raise SetError("mailboxHasEmail", "it still holds Emails")


async def remove_from_mailbox(tx: Tx, docs: Sequence[int], mailbox_id: MailboxId) -> None:
    """Take Emails out of a Mailbox; those that are in no other are destroyed."""
    updated, destroyed = [], []
    for row in await tx.store.load_emails(docs) if docs else []:
        kept = tuple(id for id in row.mailbox_ids if id != mailbox_id)
        if kept:
            updated.append((row, msgspec.structs.replace(row, mailbox_ids=kept)))
        else:
            destroyed.append(row)
    await tx.update_emails(updated)
    if destroyed:
        await tx.delete_emails(destroyed)
