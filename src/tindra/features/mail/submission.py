"""EmailSubmission (RFC 8621 s7): a message on its way out, and how far it got.

Creating one leaves an intent in the outbox, in the same transaction; `sync/submission` sends it.
An object is stored with what no standard property tells: the blob to send, so that the Email may be
destroyed meanwhile; the Message-ID, by which reports find it; the send state; and, of a message
that left by itself, what it is.
Invariant: a message is handed to a server at most once unless that server surely refused it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId
from tindra.core.blob_parts import load_blob
from tindra.core.datatype import (
    CallContext,
    Capability,
    Datatype,
    PropertyExtension,
    SetContext,
    SetRequest,
)
from tindra.core.errors import MethodError, SetError
from tindra.core.ports import StoreReader
from tindra.core.tx import Tx
from tindra.features.mail.identity import SUBMISSION, load_identities
from tindra.features.mail.writing.envelope import (
    HOLD_SECONDS_MAX,
    check_envelope,
    check_from,
    decide_send_ms,
    find_problems,
    make_envelope,
)
from tindra.features.mail.writing.message_head import MessageHead, read_head
from tindra.features.objects import ObjectType, Property, SortKey, internal, server_set
from tindra.model.mail import EmailRow, parse_email_id
from tindra.wire.jmap.date import encode_utc_date, parse_utc_date
from tindra.wire.jmap.filter import Condition, is_date, is_ids, is_text
from tindra.wire.mime.header import as_message_ids

TOPIC: Final = "submission"
"""Of the outbox rows; their key is the id of the EmailSubmission, they carry nothing else."""
SUBMISSION_BYTES_MAX: Final = 50 * limits.MIB
"""maxSize: what large providers take as one message."""
REPLY_BYTES_MAX: Final = 200
"""Of one stored smtpReply: the first line says it, and 250 of them must fit in one object."""
REPORTS_KEPT_MAX: Final = 50
"""Listed in dsnBlobIds, and in mdnBlobIds: mail that anybody may write must not fill an object."""
_BLOB_ID_BYTES = 64
"""One id in these lists, as JSON; they find room beside the replies."""
SUBMISSIONS_KEPT_MAX: Final = 1000
"""More than this, and the oldest finished ones are dropped, as RFC 8621 s7 allows."""
_SUBMISSIONS_LEFT = 500

SendState = Literal["pending", "sending", "uncertain", "final", "canceled"]
"""pending: to be sent, cancelable. sending: the server is being given the message. uncertain: the
connection was lost before the answer. final: all is known."""


def cut_reply(reply: str) -> str:
    """As much of an smtpReply as is kept."""
    return reply.encode("utf-8", "replace")[:REPLY_BYTES_MAX].decode("utf-8", "ignore")


def make_status(reply: str, delivered: str) -> dict[str, str]:
    """A DeliveryStatus. Source: RFC 8621 s7"""
    return {"smtpReply": cut_reply(reply), "delivered": delivered, "displayed": "unknown"}


async def _check(
    context: SetContext, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> None:
    """What a device may do to one: cancel it, or forget it once it needs no more sending.

    Raises: SetError cannotUnsend, invalidProperties, forbidden. Source: RFC 8621 s7.5
    """
    assert before is not None, "EmailSubmissions are made by SubmissionWriter.create"
    if after is None:
        if before["sendState"] in ("pending", "sending"):
            raise SetError("forbidden", "it is not sent yet: cancel it first")
        return
    if after["undoStatus"] == before["undoStatus"]:
        return
    if after["undoStatus"] != "canceled":
        raise SetError("invalidProperties", "it can only become canceled", ["undoStatus"])
    if before["undoStatus"] != "pending" or before["sendState"] != "pending":
        raise SetError("cannotUnsend", "it has been sent, or is being sent")
    if "send" not in context.access.rights:
        raise SetError("forbidden", "this needs the right to send in the account")
    after.update(cancel(before))


def cancel(before: dict[str, Any]) -> dict[str, Any]:
    """A pending one as it is once it will not be sent."""
    reply = "554 5.0.0 Canceled by its sender before it was sent"
    status = {email: make_status(reply, "no") for email in before["deliveryStatus"] or {}}
    return before | {
        "undoStatus": "canceled",
        "sendState": "canceled",
        "deliveryStatus": status,
    }


def _sort_by(name: str) -> SortKey:
    return lambda obj: obj[name]


def _sent_ms(obj: dict[str, Any]) -> int:
    return parse_utc_date(obj["sendAt"]) or 0


def _is_since(obj: dict[str, Any], date: str) -> bool:
    return _sent_ms(obj) >= (parse_utc_date(date) or 0)


SUBMISSION_TYPE = ObjectType(
    name="EmailSubmission",
    prefix="s",
    properties={
        "identityId": Property(str, is_immutable=True),
        "emailId": Property(str, is_immutable=True),
        "threadId": server_set(str),
        "envelope": Property(dict[str, Any], None, is_immutable=True),
        "sendAt": server_set(str),
        "undoStatus": Property(Literal["pending", "final", "canceled"], "pending"),
        "deliveryStatus": server_set(dict[str, Any] | None),
        "dsnBlobIds": server_set(list[str], []),
        "mdnBlobIds": server_set(list[str], []),
        "blobId": internal(str, ""),
        "sendState": internal(SendState, "final"),
        "messageId": internal(str, ""),
        "automatic": internal(str, ""),
    },
    check=_check,
    filters={
        "identityIds": Condition(is_ids, lambda obj, ids: obj["identityId"] in ids),
        "emailIds": Condition(is_ids, lambda obj, ids: obj["emailId"] in ids),
        "threadIds": Condition(is_ids, lambda obj, ids: obj["threadId"] in ids),
        "undoStatus": Condition(is_text, lambda obj, status: obj["undoStatus"] == status),
        "before": Condition(is_date, lambda obj, date: not _is_since(obj, date)),
        "after": Condition(is_date, _is_since),
    },
    # The RFC's text says sentAt where it means sendAt; both names are understood.
    sorts={name: _sort_by(name) for name in ("emailId", "threadId", "sendAt")}
    | {"sentAt": _sort_by("sendAt")},
)
"""Source: RFC 8621 s7, s7.3"""


class _Outgoing(NamedTuple):
    """A message that somebody wants to send, read before the transaction."""

    row: EmailRow
    head: MessageHead | None
    """None when it is too large to be looked at, or its octets are lost."""


class SubmissionWriter:
    """Makes, cancels and forgets EmailSubmissions."""

    async def prepare(
        self, call: CallContext, account_id: AccountId, request: SetRequest
    ) -> dict[str, Any]:
        """Reads the header of every message to be sent. Raises: MethodError invalidArguments."""
        _check_arguments(request.arguments)
        wanted = {_resolve(call, obj.get("emailId")) for obj in request.create.values()}
        docs = {id: parse_email_id(id) for id in wanted if id is not None}
        messages = await _load_outgoing(call, account_id, [d for d in docs.values() if d])
        return {"messages": messages, "emails": {}}

    async def load(self, context: SetContext, ids: Sequence[str]) -> dict[str, Any]:
        """id -> stored object."""
        return await SUBMISSION_TYPE.load(context, ids)

    async def create(
        self,
        context: SetContext,
        creation_id: str,
        obj: dict[str, Any],
    ) -> dict[str, Any]:
        """Check everything, then store the object and its intent.

        Raises: SetError forbiddenToSend, invalidProperties, tooLarge, invalidEmail,
            forbiddenFrom, forbiddenMailFrom, noRecipients, tooManyRecipients, invalidRecipients.
        Source: RFC 8621 s7.5
        """
        if "send" not in context.access.rights:
            raise SetError("forbiddenToSend", "this needs the right to send in the account")
        identities = await load_identities(context.tx.store)
        outgoing, identity_id = await _check_references(context, obj, identities)
        own = [identity["email"] for identity in identities.values()]
        envelope = _decide_envelope(obj, outgoing, identities[identity_id]["email"], own)
        now_ms = context.tx.clock.now_ms()
        send_ms = decide_send_ms(envelope, now_ms)
        after = _make_object(outgoing, identity_id, envelope, send_ms)
        id = await context.tx.create("EmailSubmission", after, SUBMISSION_TYPE.prefix)
        await context.tx.put_outbox(TOPIC, id, None, send_ms)
        context.prepared["emails"][id] = after["emailId"]
        told = {k: v for k, v in after.items() if k in SUBMISSION_TYPE.shown and obj.get(k) != v}
        if isinstance(obj.get("envelope"), dict):
            told.pop("envelope", None)
        return {"id": id} | told

    async def update(
        self, context: SetContext, id: str, before: dict[str, Any], patch: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Cancel it. Raises: SetError cannotUnsend, invalidProperties, invalidPatch."""
        told = await SUBMISSION_TYPE.update(context, id, before, patch)
        if patch.get("undoStatus") == "canceled" and before["sendState"] == "pending":
            # Due at once, so that the intent of a mail for next month does not wait till then.
            await context.tx.put_outbox(TOPIC, id)
        context.prepared["emails"][id] = before["emailId"]
        return told

    async def destroy(self, context: SetContext, id: str, before: dict[str, Any]) -> None:
        """Forget it; refused while it may still be sent, because its delivery depends on it."""
        await SUBMISSION_TYPE.destroy(context, id, before)
        context.prepared["emails"][id] = before["emailId"]

    async def finish(
        self, context: SetContext, answer: dict[str, Any]
    ) -> list[tuple[str, dict[str, Any]]]:
        """The implicit Email/set, if anything of it is left to do. Source: RFC 8621 s7.5"""
        if answer["created"]:
            await drop_oldest(context.tx)
        arguments = context.arguments
        emails: dict[str, str] = context.prepared["emails"]
        made = {f"#{key}": obj["id"] for key, obj in (answer["created"] or {}).items()}
        refused = {f"#{key}" for key in answer["notCreated"] or ()}

        def find_email(reference: str) -> str | None:
            if reference in refused:
                return None
            return emails.get(made.get(reference) or context.resolve(reference))

        update: dict[str, dict[str, Any]] = {}
        for reference, patch in (arguments.get("onSuccessUpdateEmail") or {}).items():
            if (email_id := find_email(reference)) is not None:
                update[email_id] = update.get(email_id, {}) | patch
        found = [find_email(r) for r in arguments.get("onSuccessDestroyEmail") or ()]
        destroy = list(dict.fromkeys(id for id in found if id is not None))
        if not update and not destroy:
            return []
        implicit: dict[str, Any] = {"accountId": context.tx.account_id}
        implicit |= {"update": update} if update else {}
        implicit |= {"destroy": destroy} if destroy else {}
        return [("Email/set", implicit)]


def _resolve(call: CallContext, id: Any) -> str | None:
    return call.resolve(id) if isinstance(id, str) else None


def _check_arguments(arguments: dict[str, Any]) -> None:
    """Raises: MethodError invalidArguments. Source: RFC 8621 s7.5"""
    update = arguments.get("onSuccessUpdateEmail")
    if update is not None and (
        not isinstance(update, dict) or not all(isinstance(p, dict) for p in update.values())
    ):
        raise MethodError("invalidArguments", "onSuccessUpdateEmail must map ids to patches")
    destroy = arguments.get("onSuccessDestroyEmail")
    if destroy is not None and (
        not isinstance(destroy, list) or not all(isinstance(id, str) for id in destroy)
    ):
        raise MethodError("invalidArguments", "onSuccessDestroyEmail must be a list of ids")


async def _load_outgoing(
    call: CallContext, account_id: AccountId, docs: list[int]
) -> dict[str, _Outgoing]:
    """Email id -> the message, for those that exist. Cost: one read, one blob a message."""
    if not docs:
        return {}

    async def read(reader: StoreReader) -> list[EmailRow]:
        return await reader.load_emails(docs)

    found: dict[str, _Outgoing] = {}
    for row in await call.services.store.read(account_id, read):
        head: MessageHead | None = None
        if row.size <= SUBMISSION_BYTES_MAX:
            raw = await load_blob(call.services, account_id, row.blob_id)
            head = None if raw is None else read_head(raw)
        found[row.id] = _Outgoing(row, head)
    return found


async def _check_references(
    context: SetContext, obj: dict[str, Any], identities: Mapping[str, Any]
) -> tuple[_Outgoing, str]:
    """The message and the id of the Identity. Raises: SetError invalidProperties, tooLarge."""
    identity_id, email_id = (_resolve(context.call, obj.get(n)) for n in ("identityId", "emailId"))
    wrong = [name for name in obj if name not in ("identityId", "emailId", "envelope")]
    if identity_id not in identities:
        wrong.append("identityId")
    outgoing: _Outgoing | None = context.prepared["messages"].get(email_id)
    # It may have been destroyed since the message was read.
    if outgoing is None or not await context.tx.store.load_emails([outgoing.row.doc_id]):
        wrong.append("emailId")
    if wrong or outgoing is None or identity_id is None:
        raise SetError("invalidProperties", "wrong, unknown or missing", sorted(wrong))
    if outgoing.row.size > SUBMISSION_BYTES_MAX:
        raise SetError("tooLarge", "this cannot be sent", maxSize=SUBMISSION_BYTES_MAX)
    return outgoing, identity_id


def _decide_envelope(
    obj: dict[str, Any], outgoing: _Outgoing, identity_email: str, own: list[str]
) -> dict[str, Any]:
    head = outgoing.head
    if head is None:
        raise SetError("invalidEmail", "its octets are lost", ["blobId"])
    given = obj.get("envelope")
    problems = find_problems(head, has_envelope=given is not None)
    if problems:
        raise SetError("invalidEmail", "it is not a message that can be sent", problems)
    check_from(head, own)
    if given is None:
        return make_envelope(head, identity_email)
    return check_envelope(given, own)


class Content(NamedTuple):
    """What an EmailSubmission sends."""

    email_id: str
    thread_id: str
    blob_id: str
    message_id: str
    """Without angle brackets, so that reports on it find it; empty for a message of others."""


def make_waiting(
    content: Content,
    identity_id: str,
    envelope: dict[str, Any],
    send_ms: int,
    automatic: str = "",
) -> dict[str, Any]:
    """An EmailSubmission as it is stored when nothing of it was sent yet."""
    waiting = make_status("250 2.0.0 Waiting to be sent", "queued")
    return {
        "identityId": identity_id,
        "emailId": content.email_id,
        "threadId": content.thread_id,
        "envelope": envelope,
        "sendAt": encode_utc_date(send_ms),
        "undoStatus": "pending",
        "deliveryStatus": {item["email"]: waiting for item in envelope["rcptTo"]},
        "dsnBlobIds": [],
        "mdnBlobIds": [],
        "blobId": content.blob_id,
        "sendState": "pending",
        "messageId": content.message_id,
        "automatic": automatic,
    }


def _make_object(
    outgoing: _Outgoing, identity_id: str, envelope: dict[str, Any], send_ms: int
) -> dict[str, Any]:
    """Raises: SetError invalidProperties for an envelope with too much in it."""
    row, head = outgoing
    ids = as_message_ids(head.fields.get("message-id", [b""])[0]) if head else None
    content = Content(row.id, row.thread_id, row.blob_id, ids[0] if ids else "")
    obj = make_waiting(content, identity_id, envelope, send_ms)
    # Replies of the server and reports will come in; they must find room.
    room = len(envelope["rcptTo"]) * REPLY_BYTES_MAX + 2 * REPORTS_KEPT_MAX * _BLOB_ID_BYTES
    if len(msgspec.json.encode(obj)) + room > limits.OBJECT_BYTES_MAX:
        raise SetError("invalidProperties", "the envelope is too large", ["envelope"])
    return obj


async def drop_oldest(tx: Tx) -> None:
    """Forget the oldest finished submissions when there are too many. Source: RFC 8621 s7"""
    rows = await tx.store.load_objects("EmailSubmission", None)
    if len(rows) <= SUBMISSIONS_KEPT_MAX:
        return
    surplus = len(rows) - _SUBMISSIONS_LEFT
    for row in sorted(rows, key=lambda row: row.created_modseq)[:surplus]:
        obj = msgspec.json.decode(row.data)
        if obj["sendState"] not in ("pending", "sending"):
            await tx.destroy("EmailSubmission", row.id, obj)


async def _load_send_states(
    context: CallContext, account_id: AccountId, ids: list[str]
) -> dict[str, Any]:
    async def read(reader: StoreReader) -> dict[str, Any]:
        rows = await reader.load_objects("EmailSubmission", ids)
        return {row.id: msgspec.json.decode(row.data)["sendState"] for row in rows}

    return await context.services.store.read(account_id, read)


SEND_STATE = PropertyExtension(
    "EmailSubmission", "sendState", "urn:tindra:params:jmap:compose", _load_send_states
)
"""What undoStatus cannot say: that it is being sent, or that nobody knows whether it was."""

SUBMISSION_CAPABILITY = Capability(
    SUBMISSION,
    is_of_mailbox=True,
    account={
        "maxDelayedSend": HOLD_SECONDS_MAX,
        "submissionExtensions": {
            "FUTURERELEASE": [],
            "DSN": [],
            "SIZE": [str(SUBMISSION_BYTES_MAX)],
        },
    },
)
"""Source: RFC 8621 s1.3.2"""

EMAIL_SUBMISSION = Datatype(
    name="EmailSubmission",
    capability=SUBMISSION,
    properties=SUBMISSION_TYPE.shown,
    source=SUBMISSION_TYPE,
    writer=SubmissionWriter(),
    querier=SUBMISSION_TYPE,
    set_arguments=frozenset({"onSuccessUpdateEmail", "onSuccessDestroyEmail"}),
    right="triage",
)
"""Whether the caller may send is answered for each object (forbiddenToSend), hence the right."""
