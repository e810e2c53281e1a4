"""What Email/set, /import and /copy share: a stored message gets its place in an account.

The metadata a device gives is checked here, once, and twins are found.
Source: RFC 8621 s4.6, s4.7, s4.8
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tindra.base.ids import AccountId
from tindra.core.errors import SetError
from tindra.core.services import Services
from tindra.core.tx import Tx
from tindra.features.mail.ingest import Arrival, parse_arrival
from tindra.features.mail.keywords import check_keywords
from tindra.model.mail import EmailRow, encode_email_id
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
        if received_ms is None:
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


async def store_message(services: Services, account_id: AccountId, raw: bytes) -> Arrival:
    """Store a message in `account_id` and parse it. Cost: one blob write, linear in the message."""
    row = await services.blobs.put(account_id, raw)
    return await parse_offloaded(services, raw, row.id)


async def check_no_twin(tx: Tx, blob_id: str) -> None:
    """Raises: SetError alreadyExists: the account has an Email with this very content.

    Source: RFC 8621 s4.7, s4.8
    """
    found = await tx.store.find_emails_by_blob([blob_id])
    if blob_id in found:
        raise refuse_twin(encode_email_id(found[blob_id]))


def refuse_twin(id: str) -> SetError:
    """The account has an Email with this very content. Source: RFC 8621 s4.7, s4.8"""
    return SetError("alreadyExists", "this message is here already", existingId=id)


def make_created(row: EmailRow) -> dict[str, Any]:
    """What the answer says of every new Email. Source: RFC 8621 s4.6, s4.7, s4.8"""
    return {"id": row.id, "blobId": row.blob_id, "threadId": row.thread_id, "size": row.size}
