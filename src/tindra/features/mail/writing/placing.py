"""What Email/set, /import and /copy share: a stored message gets its place in an account.

The metadata a device gives is checked here, once, and twins are found.
Source: RFC 8621 s4.6, s4.7, s4.8
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from tindra.base.ids import AccountId, MailboxId
from tindra.core.datatype import SetContext
from tindra.core.errors import SetError
from tindra.core.services import Services
from tindra.core.tx import Tx
from tindra.features.mail.ingest import (
    Arrival,
    NewEmail,
    apply_arrivals,
    offer_words,
    parse_arrival,
)
from tindra.features.mail.keywords import check_keywords
from tindra.features.mail.sharing.rights import find_hidden_twins, refuse_hidden_twin
from tindra.model.mail import EmailRow, encode_email_id, is_received_ms
from tindra.model.stored import BlobRow
from tindra.wire.jmap.date import parse_utc_date

OFFLOAD_BYTES = 64 * 1024
"""Messages above this are written and parsed off the loop: it takes about a millisecond."""


class Metadata(NamedTuple):
    """What a device says of a new Email beside its message."""

    keywords: tuple[str, ...] | None
    """None: not given."""
    received_ms: int | None
    """None: not given."""


def check_metadata(obj: dict[str, Any]) -> Metadata:
    """The keywords and receivedAt of a new Email; of mailboxIds only that there are any, because
    which exist is known in the transaction.

    Raises: SetError invalidProperties (naming all that is wrong), tooManyKeywords.
    Source: RFC 8621 s4.1.1
    """
    wrong: list[str] = []
    keywords: tuple[str, ...] | None = None
    if obj.get("keywords") is not None:
        try:
            keywords = check_keywords(obj["keywords"])
        except SetError as error:
            if error.kind != "invalidProperties":
                raise
            wrong.append("keywords")
    received_ms: int | None = None
    if obj.get("receivedAt") is not None:
        received_ms = parse_utc_date(obj["receivedAt"])
        if received_ms is None or not is_received_ms(received_ms):
            wrong.append("receivedAt")
    if not isinstance(obj.get("mailboxIds"), dict) or not obj["mailboxIds"]:
        wrong.append("mailboxIds")
    if wrong:
        raise SetError("invalidProperties", "wrong or missing", wrong)
    return Metadata(keywords, received_ms)


async def parse_offloaded(services: Services, raw: bytes, blob_id: str) -> Arrival:
    """`parse_arrival`, off the loop if the message is large."""
    if len(raw) > OFFLOAD_BYTES:
        return await services.offload.run(parse_arrival, raw, blob_id)
    return parse_arrival(raw, blob_id)


class Staged(NamedTuple):
    """A parsed message whose octets are ready to be linked in a transaction."""

    arrival: Arrival
    blob: BlobRow


async def stage_message(services: Services, account_id: AccountId, raw: bytes) -> Staged:
    """Make a message ready for `account_id`, and parse it. Cost: no commit; linear in it."""
    blob = await services.blobs.stage(account_id, raw)
    return Staged(await parse_offloaded(services, raw, blob.id), blob)


async def place_message(
    context: SetContext, staged: Staged, mailbox_ids: tuple[MailboxId, ...], metadata: Metadata
) -> EmailRow:
    """The one Email of a staged message. Its words go to the search index after the commit.

    Args:
        metadata: complete: with keywords and receivedAt.
    """
    assert metadata.keywords is not None
    assert metadata.received_ms is not None
    await context.tx.put_blob(staged.blob)
    new = NewEmail(staged.arrival, mailbox_ids, metadata.keywords, metadata.received_ms)
    rows = await apply_arrivals(context.tx, [new])
    offer = partial(
        offer_words, context.call.services, context.tx.account_id, rows, [staged.arrival]
    )
    context.tx.after_commit.append(offer)
    return rows[0]


async def check_no_twin(tx: Tx, blob_id: str) -> None:
    """Raises: SetError alreadyExists: the account has an Email with this very content; forbidden,
        if the caller does not see it.

    Source: RFC 8621 s4.7, s4.8
    """
    found = await tx.seen.find_emails_by_blob([blob_id])
    if blob_id in found:
        raise refuse_twin(encode_email_id(found[blob_id]))
    if await find_hidden_twins(tx, [blob_id]):
        raise refuse_hidden_twin()


def refuse_twin(id: str) -> SetError:
    """The account has an Email with this very content. Source: RFC 8621 s4.7, s4.8"""
    return SetError("alreadyExists", "this message is here already", existingId=id)


def make_created(row: EmailRow) -> dict[str, Any]:
    """What the answer says of every new Email. Source: RFC 8621 s4.6, s4.7, s4.8"""
    return {"id": row.id, "blobId": row.blob_id, "threadId": row.thread_id, "size": row.size}
