"""From the octets of a message to a stored Email: the one way in, for set, import and sync.

`parse_arrival` is pure CPU work and may run anywhere; `apply_arrivals` runs in a transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId, BlobId, MailboxId, ThreadId
from tindra.core.services import Services
from tindra.core.tx import Tx
from tindra.features.mail.body import encode_structure
from tindra.features.mail.threading import (
    ThreadClues,
    apply_thread,
    make_base_subject,
    pick_references,
)
from tindra.model.mail import (
    EmailContent,
    EmailRow,
    SearchDocument,
    encode_email_id,
    fit_received_ms,
    is_received_ms,
    make_doc_id,
)
from tindra.wire.html.text import html_to_text
from tindra.wire.mime.date import Moment
from tindra.wire.mime.decode import decode_text
from tindra.wire.mime.header import (
    Address,
    as_addresses,
    as_message_ids,
    as_moment,
    as_text,
    date_ms,
)
from tindra.wire.mime.parse import Message, Part, list_headers, parse_message
from tindra.wire.mime.preview import make_preview
from tindra.wire.mime.report import Report, parse_report
from tindra.wire.mime.structure import split_bodies

_KEY_CHARS_MAX = 100
_PREVIEW_SOURCE_CHARS = 8000
"""What a preview is made from: enough to get past a quoted message, little enough to be quick."""
_TEXT_BYTES_MAX = 4 * limits.INDEX_TEXT_CHARS_MAX
_ADDRESS_FIELDS = {
    "sender": "sender",
    "from": "from",
    "to": "to",
    "cc": "cc",
    "bcc": "bcc",
    "reply-to": "replyTo",
}
_ID_FIELDS = {"message-id": "messageId", "in-reply-to": "inReplyTo", "references": "references"}
META_PROPERTIES = (
    *_ID_FIELDS.values(), *_ADDRESS_FIELDS.values(),
    "subject", "sentAt", "hasAttachment", "preview",
)  # fmt: skip
"""The Email properties that EmailContent.meta holds. Source: RFC 8621 s4.1.2.3, s4.1.4"""


class Arrival(msgspec.Struct, frozen=True):
    """All that is known of a message before it has a place in an account."""

    blob_id: BlobId
    size: int
    is_message: bool
    """It has at least one header field, as every message does; any other octets have none."""
    passed_ms: int | None
    """When the last server on its way got it: the first Received field. RFC 5322 s3.6.7"""
    sent_ms: int | None
    has_attachment: bool
    from_key: str
    to_key: str
    subject_key: str
    content: EmailContent
    clues: ThreadClues
    words: SearchDocument
    """With doc_id 0."""
    report: Report | None = None
    """What it says of another message, if it is a notification."""


class NewEmail(NamedTuple):
    """An arrival and its place."""

    arrival: Arrival
    mailbox_ids: tuple[MailboxId, ...]
    """Sorted, known, at least one."""
    keywords: tuple[str, ...]
    """Sorted, lower case."""
    received_ms: int


def make_meta(
    fields: dict[str, bytes], sent: Moment | None, has_attachment: bool, preview: str
) -> dict[str, Any]:
    """The convenience properties, from the last instance of each header field.

    Source: RFC 8621 s4.1.2.3
    """
    meta: dict[str, Any] = {}
    for field, name in _ID_FIELDS.items():
        meta[name] = as_message_ids(fields[field]) if field in fields else None
    for field, name in _ADDRESS_FIELDS.items():
        meta[name] = as_addresses(fields[field]) if field in fields else None
    meta["subject"] = as_text(fields["subject"]) if "subject" in fields else None
    meta["sentAt"] = None if sent is None else sent.rfc3339()
    meta["hasAttachment"] = has_attachment
    meta["preview"] = preview
    return meta


def parse_arrival(raw: bytes, blob_id: str) -> Arrival:
    """Everything that ingest needs of a message; any octets will do.

    Cost: linear in len(raw), about 0.15 ms for a plain mail: run it off the loop when it is big.
    """
    message = parse_message(raw)
    listed = list_headers(raw, message.root)
    # Later instances win, as the convenience properties ask for.
    fields = {name.lower(): value for name, value in listed}
    sent = as_moment(fields["date"]) if "date" in fields else None
    bodies = split_bodies(message.root)
    text = _extract_text(message, bodies.text_body)
    meta = make_meta(
        fields,
        sent,
        bodies.has_attachment,
        make_preview(text[:_PREVIEW_SOURCE_CHARS], limits.PREVIEW_CHARS_MAX),
    )
    base, is_reply = make_base_subject(meta["subject"] or "")
    related = [*(meta["inReplyTo"] or ()), *(meta["references"] or ())]
    people = {
        address.email.lower()
        for name in ("from", "to", "cc", "replyTo")
        for address in (meta[name] or ())[:50]
    }
    return Arrival(
        blob_id=BlobId(blob_id),
        size=len(raw),
        is_message=bool(fields),
        passed_ms=_find_passed_ms(listed) if "received" in fields else None,
        sent_ms=None if sent is None else sent.unix_ms,
        has_attachment=bodies.has_attachment,
        from_key=_make_key(meta["from"]),
        to_key=_make_key(meta["to"]),
        subject_key=base.casefold()[:_KEY_CHARS_MAX],
        content=EmailContent(msgspec.json.encode(meta), encode_structure(message.root)),
        clues=ThreadClues(
            references=pick_references(
                meta["messageId"] or (), meta["inReplyTo"] or (), meta["references"] or ()
            ),
            has_related=bool(related),
            subject_key=base.casefold()[:_KEY_CHARS_MAX],
            is_reply=is_reply,
            participants=tuple(sorted(people)),
        ),
        words=SearchDocument(
            doc_id=0,
            from_=_join_addresses(meta["from"]),
            to=_join_addresses(meta["to"]),
            cc=_join_addresses(meta["cc"]),
            bcc=_join_addresses(meta["bcc"]),
            subject=meta["subject"] or "",
            body=text,
        ),
        report=parse_report(message),
    )


def _find_passed_ms(listed: Sequence[tuple[str, bytes]]) -> int | None:
    first = next(value for name, value in listed if name.lower() == "received")
    passed_ms = date_ms(first.rpartition(b";")[2])
    return passed_ms if passed_ms is not None and is_received_ms(passed_ms) else None


def _extract_text(message: Message, parts: Sequence[Part]) -> str:
    """What a person would read, for preview and search."""
    texts: list[str] = []
    room = limits.INDEX_TEXT_CHARS_MAX
    for part in parts:
        if part.type.startswith("text/") and room > 0:
            content = message.contents.get(part.part_id or "")
            value = decode_text(message.raw, part, _TEXT_BYTES_MAX, content).value
            text = html_to_text(value, room) if part.type == "text/html" else value[:room]
            texts.append(text)
            room -= len(text)
    return "\n".join(texts)


def _make_key(addresses: list[Address] | None) -> str:
    first = addresses[0] if addresses else None
    return ((first.name or first.email) if first else "").casefold()[:_KEY_CHARS_MAX]


def _join_addresses(addresses: list[Address] | None) -> str:
    return " ".join(f"{a.name or ''} {a.email}" for a in addresses or ())


async def apply_arrivals(tx: Tx, items: Sequence[NewEmail]) -> list[EmailRow]:
    """Store new Emails, each in its Thread; rows come back in the order given.

    The caller made sure that no Email of the account has one of these blobs, that no blob stands
    twice in `items`, and that the Mailboxes exist. Cost: some ten statements an Email.
    """
    if not items:
        return []
    first = await tx.store.reserve_doc_counters(len(items))
    rows: list[tuple[EmailRow, EmailContent]] = []
    for position, item in enumerate(items):
        arrival = item.arrival
        received_ms = fit_received_ms(item.received_ms)
        doc_id = make_doc_id(received_ms, first + position)
        thread_id: ThreadId = await apply_thread(
            tx, arrival.clues, encode_email_id(doc_id), received_ms
        )
        row = EmailRow(
            doc_id=doc_id,
            blob_id=arrival.blob_id,
            thread_id=thread_id,
            mailbox_ids=item.mailbox_ids,
            keywords=item.keywords,
            received_ms=received_ms,
            size=arrival.size,
            sent_ms=received_ms if arrival.sent_ms is None else arrival.sent_ms,
            subject_key=arrival.subject_key,
            from_key=arrival.from_key,
            to_key=arrival.to_key,
            has_attachment=arrival.has_attachment,
        )
        rows.append((row, arrival.content))
    await tx.insert_emails(rows)
    return [row for row, _ in rows]


def offer_words(
    services: Services,
    account_id: AccountId,
    rows: Sequence[EmailRow],
    arrivals: Sequence[Arrival],
) -> None:
    """After the commit: hand the words of new Emails to the indexer, to save it a parse."""
    services.feed.offer(
        account_id,
        [
            msgspec.structs.replace(arrival.words, doc_id=row.doc_id)
            for row, arrival in zip(rows, arrivals, strict=True)
        ],
    )
