"""Email/copy (RFC 8621 s4.7): the same message in another account, with a place of its own.

`core/methods/copy` runs the method; this is what is particular to Emails. The octets are copied
before the transaction; a copy that is then refused leaves a blob nobody names, as an upload does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tindra.base.ids import ModSeq
from tindra.core.blob_parts import load_blob
from tindra.core.datatype import CallContext, SetContext
from tindra.core.errors import SetError
from tindra.core.methods.copy import CopyRequest, Originals
from tindra.core.ports import StoreReader
from tindra.features.mail.keywords import check_mailbox_ids
from tindra.features.mail.sharing.rights import check_right
from tindra.features.mail.writing.octet_budget import OctetBudget
from tindra.features.mail.writing.placing import (
    Metadata,
    Staged,
    check_metadata,
    check_no_twin,
    make_created,
    place_message,
    stage_message,
)
from tindra.model.mail import EmailRow, parse_email_id

_OVERRIDES = frozenset({"mailboxIds", "keywords", "receivedAt"})


class Original(NamedTuple):
    """An Email whose message is ready for the other account."""

    row: EmailRow
    """In the account copied from."""
    staged: Staged
    metadata: Metadata


def _check_overrides(overrides: dict[str, Any]) -> Metadata:
    """Raises: SetError invalidProperties. Source: RFC 8621 s4.7"""
    wrong = sorted(overrides.keys() - _OVERRIDES)
    if wrong:
        raise SetError("invalidProperties", "a copy cannot change these", wrong)
    return check_metadata(overrides)


async def load_originals(call: CallContext, request: CopyRequest) -> Originals:
    """Read the Emails to copy, and make their messages ready for the other account.

    Cost: one read; for each Email a blob read and a parse, within one OctetBudget; no commit.
    """
    docs = {id: parse_email_id(id) for id in request.originals.values()}
    known = sorted({doc_id for doc_id in docs.values() if doc_id is not None})

    async def read(reader: StoreReader) -> tuple[dict[str, EmailRow], ModSeq]:
        rows = await reader.load_emails(known) if known else []
        state = (await reader.load_states()).get("Email", ModSeq(0))
        return {row.id: row for row in rows}, state

    rows, state = await call.services.store.read(request.from_account_id, read)
    prepared: dict[str, Any] = {}
    budget = OctetBudget()
    for key, overrides in request.create.items():
        row = rows.get(request.originals[key])
        if row is None:
            continue
        try:
            metadata = _check_overrides(overrides)
            budget.spend(row.size)
            raw = await load_blob(call.services, request.from_account_id, row.blob_id)
            if raw is None:
                raise SetError("notFound", "its message is lost")
            staged = await stage_message(call.services, request.account_id, raw)
            prepared[key] = Original(row, staged, metadata)
        except SetError as error:
            prepared[key] = error
    return Originals(state, prepared)


async def copy_email(
    context: SetContext, original: Original, overrides: dict[str, Any]
) -> dict[str, Any]:
    """Place one copy. Keywords and receivedAt are the original's unless given.

    Raises: SetError alreadyExists, invalidProperties, tooManyMailboxes. Source: RFC 8621 s4.7
    """
    mailboxes = context.prepared.get("mailboxes")
    if mailboxes is None:  # once for all copies: none of them makes a Mailbox
        mailboxes = {str(row.id): row for row in await context.tx.seen.load_mailboxes()}
        context.prepared["mailboxes"] = mailboxes
    mailbox_ids = check_mailbox_ids(overrides["mailboxIds"], mailboxes, context.resolve)
    check_right(context.tx.seen, "mayAddItems", mailbox_ids)
    await check_no_twin(context.tx, original.staged.blob.id)
    given = original.metadata
    keywords = original.row.keywords if given.keywords is None else given.keywords
    received_ms = original.row.received_ms if given.received_ms is None else given.received_ms
    placed = Metadata(keywords, received_ms)
    return make_created(await place_message(context, original.staged, mailbox_ids, placed))
