"""The mail nouns that store, sync and features all name (RFC 8621 s2 to s4).

Rows are what is stored; the JMAP objects are made from them in `features/mail`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import msgspec

from tindra.base.ids import BlobId, EmailId, MailboxId, ModSeq, ThreadId, encode_base32

DOC_COUNTER_BITS = 20
_EMAIL_ID_DIGITS = 11
_IDS_CACHED = 32_768
"""A screen of mail names each id several times on its way; about 6 MiB when full."""


@lru_cache(maxsize=_IDS_CACHED)
def encode_email_id(doc_id: int) -> EmailId:
    """The Email id of a document number: "e" and 11 base32hex digits, so ids sort by time."""
    return EmailId("e" + encode_base32(doc_id, _EMAIL_ID_DIGITS))


@lru_cache(maxsize=_IDS_CACHED)
def parse_email_id(text: str) -> int | None:
    """The document number of an Email id; None for any text that was never one."""
    if len(text) != _EMAIL_ID_DIGITS + 1 or text[0] != "e":
        return None
    # int() takes more than our digits: signs, spaces, capitals, and digits of other scripts.
    if not (text.isascii() and text.isalnum() and text.islower()):
        return None
    try:
        doc_id = int(text[1:], 32)
    except ValueError:
        return None
    return doc_id if doc_id < 1 << 53 else None


RECEIVED_SECONDS_END = 1 << 32
"""receivedAt is within 1970 and 2106, so that the order of document numbers is its order."""


def is_received_ms(received_ms: int) -> bool:
    """Whether an Email may have been received then."""
    return 0 <= received_ms < RECEIVED_SECONDS_END * 1000


def fit_received_ms(received_ms: int) -> int:
    """The nearest full second that an Email may have been received in."""
    return min(max(received_ms // 1000, 0), RECEIVED_SECONDS_END - 1) * 1000


def make_doc_id(received_ms: int, counter: int) -> int:
    """A document number: the second of arrival above 20 bits of the account's own counter.

    Its order is receivedAt order, so one integer is key, sort order and search row at once.
    Times before 1970 count as 1970, after 2106 as 2106.
    """
    second = fit_received_ms(received_ms) // 1000
    return (second << DOC_COUNTER_BITS) | (counter & ((1 << DOC_COUNTER_BITS) - 1))


class EmailRow(msgspec.Struct, frozen=True):
    """What varies of an Email, and the keys that queries sort and filter by.

    Only `mailbox_ids`, `keywords` and `changed_modseq` ever change. Source: RFC 8621 s4.1
    """

    doc_id: int
    """Key: second of arrival and a counter (make_doc_id); `id` is its text form."""
    blob_id: BlobId
    """The whole message; its content hash, so equal content is the same Email in an account."""
    thread_id: ThreadId
    mailbox_ids: tuple[MailboxId, ...]
    """Sorted, unique, at least one."""
    keywords: tuple[str, ...]
    """Sorted, unique, lower case."""
    received_ms: int
    """Whole seconds: mail has no finer arrival time, and order by doc_id must be order by it."""
    size: int
    """Octets of the message."""
    sent_ms: int
    """From the Date header; received_ms where there is none."""
    subject_key: str
    """Base subject, case folded: sort key, cut at 100 characters."""
    from_key: str
    """Name, else address, of the first From: sort key, case folded, cut at 100 characters."""
    to_key: str
    """The same of the first To."""
    has_attachment: bool
    created_modseq: ModSeq = ModSeq(0)
    """Set by the store."""
    changed_modseq: ModSeq = ModSeq(0)
    """Set by the store."""

    @property
    def id(self) -> EmailId:
        """The JMAP id."""
        return encode_email_id(self.doc_id)


class EmailContent(msgspec.Struct, frozen=True):
    """What of an Email never changes, stored once as JSON and spliced into answers."""

    meta: bytes
    """One JSON object: the convenience header properties, preview, hasAttachment, sentAt ..."""
    structure: bytes
    """The part tree as JSON with offsets into the message (see features/mail/body.py)."""


class MailboxRow(msgspec.Struct, frozen=True):
    """A Mailbox with its counters. Source: RFC 8621 s2"""

    id: MailboxId
    name: str
    parent_id: MailboxId | None
    role: str | None
    sort_order: int
    is_subscribed: bool
    total_emails: int = 0
    unread_emails: int = 0
    total_threads: int = 0
    unread_threads: int = 0
    created_modseq: ModSeq = ModSeq(0)
    info_modseq: ModSeq = ModSeq(0)
    """Last change of anything but the counters; set by the store."""
    changed_modseq: ModSeq = ModSeq(0)
    """Last change of anything; set by the store."""


class MailboxCounts(msgspec.Struct, frozen=True):
    """Four counters of one Mailbox, or what to add to them."""

    total_emails: int = 0
    unread_emails: int = 0
    total_threads: int = 0
    unread_threads: int = 0


class ThreadRow(msgspec.Struct, frozen=True):
    """A Thread: its Emails in order, and what later mail finds it by. Source: RFC 8621 s3"""

    id: ThreadId
    email_ids: tuple[EmailId, ...]
    """Oldest received first."""
    subject_key: str
    """Hash key of the base subject, "" for none."""
    participants: tuple[str, ...]
    """Addresses seen in it, lower case, sorted, at most 50."""
    latest_ms: int
    created_modseq: ModSeq = ModSeq(0)
    changed_modseq: ModSeq = ModSeq(0)


class EmailCondition(msgspec.Struct, frozen=True, rename="camel"):
    """One leaf of an Email filter; unset fields do not filter. Source: RFC 8621 s4.4.1

    Dates are UTC milliseconds here; the wire's text is parsed before.
    """

    in_mailbox: str | None = None
    in_mailbox_other_than: tuple[str, ...] | None = None
    before: int | None = None
    """Exclusive end, on receivedAt."""
    after: int | None = None
    """Inclusive start, on receivedAt."""
    min_size: int | None = None
    """Inclusive."""
    max_size: int | None = None
    """Exclusive."""
    all_in_thread_have_keyword: str | None = None
    some_in_thread_have_keyword: str | None = None
    none_in_thread_have_keyword: str | None = None
    has_keyword: str | None = None
    not_keyword: str | None = None
    has_attachment: bool | None = None
    text: str | None = None
    from_: str | None = msgspec.field(default=None, name="from")
    to: str | None = None
    cc: str | None = None
    bcc: str | None = None
    subject: str | None = None
    body: str | None = None
    header: tuple[str, ...] | None = None
    """One name, or a name and a text to find in its value. Never reaches the store: the query
    code looks at the messages and replaces it by `doc_ids`."""
    doc_ids: frozenset[int] | None = None
    """Exactly these Emails; not a client's condition."""


class FilterOperator(msgspec.Struct, frozen=True):
    """AND, OR or NOT over conditions. NOT means none of them match. Source: RFC 8620 s5.5"""

    operator: Literal["AND", "OR", "NOT"]
    conditions: tuple[FilterOperator | EmailCondition, ...]


EmailFilter = FilterOperator | EmailCondition


class EmailSort(msgspec.Struct, frozen=True):
    """One comparator. Source: RFC 8621 s4.4.2"""

    property: str
    """receivedAt size from to subject sentAt hasKeyword allInThreadHaveKeyword
    someInThreadHaveKeyword."""
    is_ascending: bool = True
    keyword: str = ""


class EmailQuery(msgspec.Struct, frozen=True):
    """A whole Email query but for its window; equal queries on equal states give equal lists.

    Ties are broken by doc_id descending: the order is total, receivedAt order is doc_id order.
    """

    filter: EmailFilter | None = None
    sort: tuple[EmailSort, ...] = ()
    """Empty means receivedAt descending."""
    collapse_threads: bool = False


class SearchDocument(msgspec.Struct, frozen=True):
    """The words of one Email for the search index; never stored as text."""

    doc_id: int
    from_: str
    to: str
    cc: str
    bcc: str
    subject: str
    body: str


class RemoteRow(msgspec.Struct, frozen=True):
    """One message at the provider as both sides last agreed on it: the *base* of the sync plan."""

    mailbox_id: MailboxId
    uid: int
    email_id: EmailId
    keywords: tuple[str, ...]
    """Agreed keywords, sorted."""
    modseq: int = 0
    """The provider's; 0 where it keeps none."""
