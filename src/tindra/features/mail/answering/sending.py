"""Messages that leave by themselves: they take the way of every EmailSubmission.

Such an EmailSubmission differs in two things: its emailId names no Email, for no copy is filed;
and `automatic` says, on the server only, what it is. Everything else holds: it is seen by devices,
can be canceled while it waits, and is handed to a server at most once.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from tindra.core.tx import Tx
from tindra.features.mail.submission import (
    SUBMISSION_TYPE,
    TOPIC,
    Content,
    cancel,
    drop_oldest,
    make_waiting,
)
from tindra.model.mail import encode_email_id, make_doc_id
from tindra.model.stored import BlobRow

Kind = Literal["vacation", "redirect", "mdn"]


class Leaving(NamedTuple):
    """A message on its way out."""

    kind: Kind
    blob: BlobRow
    """Stored, or with its octets: linked here."""
    identity_id: str
    thread_id: str
    """Of the message that caused it."""
    mail_from: str
    """Empty for a null return path."""
    recipient: str
    others: tuple[str, ...] = ()
    """More recipients of the same message, each one another."""
    message_id: str = ""
    """Without angle brackets, so that reports on it find it; empty for a message of others."""


async def apply_leaving(tx: Tx, leaving: Leaving) -> str:
    """Have it sent once this transaction is durable; gives the id of the EmailSubmission."""
    await tx.put_blob(leaving.blob)
    now_ms = tx.clock.now_ms()
    email_id = encode_email_id(make_doc_id(now_ms, await tx.store.reserve_doc_counters(1)))
    recipients = (leaving.recipient, *leaving.others)
    content = Content(email_id, leaving.thread_id, leaving.blob.id, leaving.message_id)
    envelope = {
        "mailFrom": {"email": leaving.mail_from, "parameters": None},
        "rcptTo": [{"email": email, "parameters": None} for email in recipients],
    }
    obj = make_waiting(content, leaving.identity_id, envelope, now_ms, leaving.kind)
    id = await tx.create("EmailSubmission", obj, SUBMISSION_TYPE.prefix)
    await tx.put_outbox(TOPIC, id)
    await drop_oldest(tx)
    return id


async def cancel_leaving(tx: Tx, kind: Kind) -> None:
    """Take back what of this kind was not sent yet. Cost: one read of all EmailSubmissions."""
    for row in await tx.store.load_objects("EmailSubmission", None):
        before = msgspec.json.decode(row.data)
        if before.get("automatic") == kind and before["sendState"] == "pending":
            await tx.update("EmailSubmission", row.id, before, cancel(before))
            await tx.put_outbox(TOPIC, row.id)
