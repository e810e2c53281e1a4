"""MDN/send (RFC 9007 s2.1): tells the sender of an Email what became of it.

The notification leaves as an EmailSubmission whose emailId names no Email, for no copy is filed.
Invariant: what sends it sets $mdnsent in the same transaction, so no message gets two however many
devices ask, and whatever breaks in between. The return path is null: nobody answers an answer.
Source: RFC 9007, RFC 8098
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, Literal, NamedTuple

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId, encode_base32
from tindra.core.arguments import check_names, take_id
from tindra.core.blob_parts import load_blob
from tindra.core.datatype import CallContext
from tindra.core.errors import MethodError, SetError
from tindra.core.ports import StoreReader
from tindra.core.tx import Tx, transact
from tindra.features.mail.answering.sending import Leaving, apply_leaving
from tindra.features.mail.identity import load_identities
from tindra.features.mail.mdn.parse import take_account
from tindra.features.mail.submission import SUBMISSION_BYTES_MAX
from tindra.features.mail.writing.addresses import is_sendable, speaks_for
from tindra.features.mail.writing.message_head import MessageHead, read_head
from tindra.features.mail.writing.placing import OFFLOAD_BYTES
from tindra.model.mail import EmailRow, parse_email_id
from tindra.model.stored import BlobRow
from tindra.wire.jmap.date import encode_utc_date
from tindra.wire.mime.build import (
    Address,
    AddressesValue,
    DateValue,
    HeaderValue,
    MessageIdsValue,
    RawValue,
    TextValue,
    build_message,
)
from tindra.wire.mime.header import as_message_ids, as_text
from tindra.wire.mime.notification import (
    Disposition,
    Notification,
    build_notification,
    encode_recipient,
    is_extension_name,
)
from tindra.wire.mime.params import parse_content_type

MDN: Final = "urn:ietf:params:jmap:mdn"
MAIL: Final = "urn:ietf:params:jmap:mail"
MDN_SENT: Final = "$mdnsent"
SENDS_MAX: Final = 50
"""Notifications of one call: a person reads no more messages at once."""
RECIPIENTS_MAX: Final = 10
"""Addresses that one message may want its notification sent to."""
TEXT_BYTES_MAX: Final = 256 * 1024
"""Of textBody."""
EXTENSIONS_MAX: Final = 50
"""Of extensionFields; nobody is known to use any."""
_HEAD_BYTES: Final = 256 * 1024
"""Of the message that is answered: its header fields."""
_TEXT: Final = (
    "This is a receipt for the message that you sent. It says that the message was {done}; it does"
    " not say that it was read or understood.\n"
)
_DONE: Final = {"displayed": "shown to its recipient", "deleted": "deleted without being shown"}


class _Disposition(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """Source: RFC 9007 s2"""

    action_mode: Literal["manual-action", "automatic-action"]
    sending_mode: Literal["mdn-sent-manually", "mdn-sent-automatically"]
    type: Literal["deleted", "dispatched", "displayed", "processed"]


class _Mdn(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """What a device may say of an MDN. Source: RFC 9007 s2"""

    for_email_id: str
    disposition: _Disposition
    subject: str | None = None
    text_body: str | None = None
    include_original_message: bool = False
    reporting_ua: str | None = msgspec.field(default=None, name="reportingUA")
    final_recipient: str | None = None
    extension_fields: dict[str, str] | None = None


_SERVER_SET: Final = ("mdnGateway", "originalRecipient", "originalMessageId", "error")


class _Original(NamedTuple):
    """The Email that a notification is about."""

    row: EmailRow
    head: MessageHead
    raw: bytes | None
    """The whole message, if it is sent along."""


class _Ready(NamedTuple):
    """A notification that may go out."""

    email: EmailRow
    blob: BlobRow
    recipients: list[str]
    message_id: str
    told: dict[str, Any]
    """What the device did not say itself."""


async def run_send(
    context: CallContext, arguments: dict[str, Any]
) -> list[tuple[str, dict[str, Any]]]:
    """MDN/send. Cost: two blob reads for each, and one transaction in all.

    Raises: MethodError invalidArguments, requestTooLarge, unknownMethod.
    Source: RFC 9007 s2.1
    """
    account_id = take_account(context, arguments)
    if MAIL not in context.using:
        raise MethodError("unknownMethod", f"MDN/send needs {MAIL} in 'using'")
    check_names(arguments, ("accountId", "identityId", "send", "onSuccessUpdateEmail"))
    send = arguments.get("send")
    if not isinstance(send, dict):
        raise MethodError("invalidArguments", "'send' must map creation ids to MDNs")
    if len(send) > SENDS_MAX:
        raise MethodError("requestTooLarge", f"over {SENDS_MAX} MDNs")
    patches = _take_patches(arguments, send)
    sender = _Sender(context, account_id)
    await sender.take_identity(arguments)
    ready, refused = await sender.prepare(send)
    if ready:
        write = partial(sender.write, ready=ready, refused=refused)
        await transact(context.services, account_id, "MDN/send", write)
    sent = {key: one for key, one in ready.items() if key not in refused}
    answer = {
        "accountId": account_id,
        "sent": {key: one.told for key, one in sent.items()} or None,
        "notSent": {key: error.to_object() for key, error in refused.items()} or None,
    }
    calls: list[tuple[str, dict[str, Any]]] = [("MDN/send", answer)]
    if sent:
        update = {str(one.email.id): patches[key] for key, one in sent.items()}
        calls.append(("Email/set", {"accountId": account_id, "update": update}))
    return calls


def _take_patches(arguments: dict[str, Any], send: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Creation id -> patch of the Email, which sets $mdnsent in every case.

    Raises: MethodError invalidArguments. Source: RFC 9007 s2.1
    """
    given = arguments.get("onSuccessUpdateEmail")
    if given is None:
        return {key: {f"keywords/{MDN_SENT}": True} for key in send}
    if not isinstance(given, dict) or not all(isinstance(p, dict) for p in given.values()):
        raise MethodError("invalidArguments", "onSuccessUpdateEmail must map ids to patches")
    if given.keys() != {f"#{key}" for key in send}:
        raise MethodError("invalidArguments", "onSuccessUpdateEmail must name each creation id")
    for patch in given.values():
        whole = patch.get("keywords")
        is_set = isinstance(whole, dict) and whole.get(MDN_SENT) is True
        if not is_set and patch.get(f"keywords/{MDN_SENT}") is not True:
            raise MethodError("invalidArguments", f"onSuccessUpdateEmail must set {MDN_SENT}")
    return {key[1:]: patch for key, patch in given.items()}


class _Sender:
    """One MDN/send call."""

    def __init__(self, context: CallContext, account_id: AccountId) -> None:
        self._context = context
        self._services = context.services
        self._account_id = account_id
        self._identity: dict[str, Any] = {}
        self._identity_id = ""
        self._own: list[str] = []
        self._bytes_left = SUBMISSION_BYTES_MAX

    async def take_identity(self, arguments: dict[str, Any]) -> None:
        """Raises: MethodError invalidArguments."""
        given = arguments.get("identityId")
        resolved = self._context.resolve(given) if isinstance(given, str) else given
        self._identity_id = take_id({"identityId": resolved}, "identityId") or ""

        found = await self._services.store.read(self._account_id, load_identities)
        if self._identity_id not in found:
            raise MethodError("invalidArguments", "identityId names no Identity")
        self._identity = found[self._identity_id]
        self._own = [identity["email"] for identity in found.values()]

    # -- before the transaction ------------------------------------------------------------------
    async def prepare(
        self, send: Mapping[str, Any]
    ) -> tuple[dict[str, _Ready], dict[str, SetError]]:
        """(ready, refused), by creation id."""
        rights = self._context.caller.accounts[self._account_id].rights
        ready: dict[str, _Ready] = {}
        refused: dict[str, SetError] = {}
        for key, obj in send.items():
            try:
                if not {"send", "triage"} <= rights:
                    raise SetError("forbidden", "this needs the rights to send and to triage")
                ready[key] = await self._prepare_one(_check_mdn(obj), obj)
            except SetError as error:
                refused[key] = error
        return ready, refused

    async def _prepare_one(self, mdn: _Mdn, obj: dict[str, Any]) -> _Ready:
        original = await self._load_original(mdn)
        recipients = _list_recipients(original.head)
        _check_may_answer(mdn, original.head, recipients)
        author = self._find_author(mdn, original.head)
        notification = _make_notification(mdn, original.head, author)
        subject = mdn.subject
        if subject is None:
            was = "".join(as_text(value) for value in original.head.fields.get("subject", ())[:1])
            subject = f"Read: {''.join(c for c in was if c.isprintable())[:500]}".strip()
        text = mdn.text_body
        if text is None:
            text = _TEXT.format(done=_DONE.get(mdn.disposition.type, "taken care of"))
        token = encode_base32(self._services.random.bits(120), 24)
        domain = author.rpartition("@")[2]
        is_plain = domain.isascii() and not domain.startswith("[")
        message_id = f"{token}@{domain if is_plain else 'tindra.invalid'}"
        headers: list[tuple[str, HeaderValue]] = [
            ("From", AddressesValue([Address(name=self._identity["name"] or None, email=author)])),
            ("To", AddressesValue([Address(name=None, email=email) for email in recipients])),
            ("Subject", TextValue(subject)),
            ("Date", DateValue(encode_utc_date(self._services.clock.now_ms()))),
            ("Message-ID", MessageIdsValue([message_id])),
            *_make_thread(original.head),
        ]
        if mdn.disposition.sending_mode == "mdn-sent-automatically":
            headers.append(("Auto-Submitted", RawValue(" auto-replied")))
        build = partial(_build, headers, notification, text, original.raw, token)
        try:
            if len(original.raw or b"") > OFFLOAD_BYTES:
                raw = await self._services.offload.run(build)
            else:
                raw = build()
        except ValueError as error:
            raise SetError("invalidProperties", str(error)[:300], _name_unwritable(error)) from None
        self._spend(len(raw))
        blob = await self._services.blobs.stage(self._account_id, raw)
        told = {
            "subject": subject,
            "textBody": text,
            "includeOriginalMessage": mdn.include_original_message,
            "reportingUA": None,
            "mdnGateway": None,
            "originalRecipient": notification.original_recipient,
            "finalRecipient": notification.final_recipient,
            "originalMessageId": notification.original_message_id,
            "error": None,
            "extensionFields": None,
        }
        told = {name: value for name, value in told.items() if obj.get(name) is None}
        return _Ready(original.row, blob, recipients, message_id, told)

    def _spend(self, count: int) -> None:
        """Raises: SetError tooLarge."""
        self._bytes_left -= count
        if self._bytes_left < 0:
            size = SUBMISSION_BYTES_MAX
            raise SetError("tooLarge", f"over {size} octets in one call", maxSize=size)

    async def _load_original(self, mdn: _Mdn) -> _Original:
        """Raises: SetError notFound, mdnAlreadySent, tooLarge."""
        doc = parse_email_id(self._context.resolve(mdn.for_email_id))

        async def read(reader: StoreReader) -> list[EmailRow]:
            return [] if doc is None else await reader.load_emails([doc])

        rows = await self._services.store.read(self._account_id, read)
        if not rows:
            raise SetError("notFound", "there is no such Email")
        [row] = rows
        _check_not_sent(row)
        if mdn.include_original_message:
            if row.size > self._bytes_left:
                self._spend(row.size)
            raw = await load_blob(self._services, self._account_id, row.blob_id)
            octets = raw
        else:
            raw = None
            octets = await self._services.blobs.get(self._account_id, row.blob_id, 0, _HEAD_BYTES)
        if octets is None:
            raise SetError("notFound", "the octets of this Email are lost")
        return _Original(row, read_head(octets), raw)

    def _find_author(self, mdn: _Mdn, head: MessageHead) -> str:
        """The address that the notification is from. Raises: SetError invalidProperties,
        forbiddenFrom. Source: RFC 9007 s2.1, s5"""
        if mdn.final_recipient is not None:
            kind, separator, address = mdn.final_recipient.rpartition(";")
            address = address.strip()
            if (separator and kind.strip().lower() not in ("rfc822", "utf-8")) or not is_sendable(
                address
            ):
                raise SetError("invalidProperties", "this is no recipient", ["finalRecipient"])
            if not any(speaks_for(mine, address) for mine in self._own):
                raise SetError("forbiddenFrom", f"no Identity may write as {address!r}")
        else:
            address = self._identity["email"]
        if not address.startswith("*@"):
            return str(address)
        for name in ("delivered-to", "to", "cc"):
            for found in head.list_addresses(name):
                if speaks_for(address, found.email) and is_sendable(found.email):
                    return found.email
        text = "the Identity speaks for a whole domain: say who the recipient was"
        raise SetError("invalidProperties", text, ["finalRecipient"])

    # -- in the transaction ----------------------------------------------------------------------
    async def write(
        self, tx: Tx, ready: Mapping[str, _Ready], refused: dict[str, SetError]
    ) -> None:
        """Send each one whose Email is still there and was not answered meanwhile."""
        for key in ready:
            refused.pop(key, None)  # the store may try again
        is_known = self._identity_id in await load_identities(tx.store)
        for key, one in ready.items():
            try:
                if not is_known:
                    raise SetError("forbiddenFrom", "the Identity was destroyed meanwhile")
                await self._write_one(tx, one)
            except SetError as error:
                refused[key] = error

    async def _write_one(self, tx: Tx, one: _Ready) -> None:
        rows = await tx.store.load_emails([one.email.doc_id])
        if not rows:
            raise SetError("notFound", "there is no such Email any more")
        [row] = rows
        _check_not_sent(row)
        keywords = tuple(sorted({*row.keywords, MDN_SENT}))
        if len(keywords) > limits.KEYWORDS_PER_EMAIL_MAX:
            raise SetError("tooManyKeywords", f"there is no room for {MDN_SENT}")
        leaving = Leaving(
            kind="mdn",
            blob=one.blob,
            identity_id=self._identity_id,
            thread_id=row.thread_id,
            mail_from="",
            recipient=one.recipients[0],
            others=tuple(one.recipients[1:]),
            message_id=one.message_id,
        )
        await apply_leaving(tx, leaving)
        await tx.update_emails([(row, msgspec.structs.replace(row, keywords=keywords))])


def _check_mdn(obj: Any) -> _Mdn:
    """Raises: SetError invalidProperties, naming every one that is wrong."""
    if not isinstance(obj, dict):
        raise SetError("invalidProperties", "an MDN must be an object")
    wrong = [name for name in ("forEmailId", "disposition") if name not in obj]
    for name, value in obj.items():
        # The server says these itself; null is what they are before.
        if name not in _SERVER_SET or value is not None:
            try:
                msgspec.convert(value, _PROPERTIES[name])
            except (KeyError, msgspec.ValidationError):
                wrong.append(name)
    if wrong:
        raise SetError("invalidProperties", "wrong, unknown or missing", sorted(wrong))
    mdn = msgspec.convert({name: obj[name] for name in obj.keys() & _PROPERTIES.keys()}, _Mdn)
    if len((mdn.text_body or "").encode("utf-8", "replace")) > TEXT_BYTES_MAX:
        raise SetError("invalidProperties", f"over {TEXT_BYTES_MAX} octets", ["textBody"])
    extensions = mdn.extension_fields or {}
    if len(extensions) > EXTENSIONS_MAX or not all(map(is_extension_name, extensions)):
        raise SetError("invalidProperties", "not all are extensions", ["extensionFields"])
    return mdn


_PROPERTIES: Final = {field.encode_name: field.type for field in msgspec.structs.fields(_Mdn)}
_WRITTEN: Final = {"Subject": "subject", "Reporting-UA": "reportingUA"}
"""Header field -> property that it is written from; all others are extensions."""


def _name_unwritable(error: ValueError) -> list[str]:
    """The property that cannot be written: the text begins with the name of its field."""
    return [_WRITTEN.get(str(error).partition(":")[0], "extensionFields")]


def _check_not_sent(row: EmailRow) -> None:
    if MDN_SENT in row.keywords:
        raise SetError("mdnAlreadySent", f"{MDN_SENT} is set already")


def _list_recipients(head: MessageHead) -> list[str]:
    """Whom the message wants to be told. Raises: SetError notFound. Source: RFC 8098 s2.1"""
    found = head.list_addresses("disposition-notification-to")
    emails = list(dict.fromkeys(address.email for address in found))
    if not emails or len(emails) > RECIPIENTS_MAX or not all(map(is_sendable, emails)):
        raise SetError("notFound", "it has no valid Disposition-Notification-To header field")
    return emails


def _check_may_answer(mdn: _Mdn, head: MessageHead, recipients: list[str]) -> None:
    """Raises: SetError forbidden. Source: RFC 8098 s2.1, s3"""
    media_type, _ = parse_content_type(head.fields.get("content-type", [b""])[0])
    if media_type == "multipart/report":
        raise SetError("forbidden", "a notification is not answered by another")
    if mdn.disposition.sending_mode != "mdn-sent-automatically":
        return
    path = [address.email for address in head.list_addresses("return-path")][:1]
    if len(recipients) != 1 or not path or not speaks_for(path[0], recipients[0]):
        text = "only a person may send a notification to another address than the return path"
        raise SetError("forbidden", text)


def _make_notification(mdn: _Mdn, head: MessageHead, author: str) -> Notification:
    """Source: RFC 8098 s3.2"""
    ids = as_message_ids(head.fields.get("message-id", [b""])[0])
    original = [as_text(value).strip() for value in head.fields.get("original-recipient", ())][:1]
    is_known = bool(original) and original[0].isascii() and original[0].isprintable()
    said = mdn.disposition
    return Notification(
        disposition=Disposition(said.action_mode, said.sending_mode, said.type),
        final_recipient=encode_recipient(author),
        original_recipient=original[0] if is_known else None,
        original_message_id=f"<{ids[0]}>" if ids and _is_writable(ids[0]) else None,
        reporting_ua=mdn.reporting_ua,
        extensions=mdn.extension_fields or {},
    )


def _make_thread(head: MessageHead) -> list[tuple[str, HeaderValue]]:
    """So that the answer stands beside what it answers. Source: RFC 5322 s3.6.4"""
    ids = (as_message_ids(head.fields.get("message-id", [b""])[0]) or [])[:1]
    if not ids or not _is_writable(ids[0]):
        return []
    return [("In-Reply-To", MessageIdsValue(ids)), ("References", MessageIdsValue(ids))]


def _is_writable(message_id: str) -> bool:
    return len(message_id) <= 500 and all("!" <= c <= "~" and c not in "<>" for c in message_id)


def _build(
    headers: list[tuple[str, HeaderValue]],
    notification: Notification,
    text: str,
    original: bytes | None,
    token: str,
) -> bytes:
    """Raises: ValueError."""
    numbers = itertools.count()
    root = build_notification(notification, text, original)
    return build_message(headers, root, boundary=lambda: f"=_{token}_{next(numbers):x}")
