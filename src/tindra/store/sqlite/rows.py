"""Rows of the database as the values of the ports, and back; the hot conversions are cached.

No SQL here. Sets (mailboxIds, keywords) are stored as the JSON object that JMAP answers,
`{"a":true,"b":true}` with sorted keys, so equal sets are equal texts.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, cast

import msgspec

from tindra.base.ids import EmailId, MailboxId, ModSeq, ThreadId
from tindra.model.mail import EmailRow, MailboxRow, RemoteRow, ThreadRow, encode_email_id

SETS_CACHED_MAX: Final = 16_384
"""Distinct mailboxIds and keywords values kept decoded; an account has some dozens."""
UNSEEN: Final = " unseen"
"""Stands in email_keyword for "has no $seen"; no keyword has a space."""
SEEN: Final = "$seen"

_encode = msgspec.json.Encoder().encode
_decode_object = msgspec.json.Decoder(dict[str, bool]).decode
_decode_list = msgspec.json.Decoder(tuple[str, ...]).decode

EMAIL_COLUMNS: Final = (
    "doc_id, blob_id, thread_id, mailbox_ids, keywords, received_ms, size, sent_ms, subject_key,"
    " from_key, to_key, has_attachment, created_modseq, changed_modseq"
)
THREAD_COLUMNS: Final = (
    "thread_id, email_ids, subject_key, participants, latest_ms, created_modseq, changed_modseq"
)


@lru_cache(SETS_CACHED_MAX)
def decode_set(text: str) -> tuple[str, ...]:
    """The members of a stored set, in their stored (sorted) order."""
    return tuple(_decode_object(text))


@lru_cache(SETS_CACHED_MAX)
def encode_set(members: tuple[str, ...]) -> str:
    """A set as stored; `members` is sorted and unique."""
    return _encode(dict.fromkeys(members, True)).decode()


def encode_list(members: Iterable[str]) -> str:
    """A list of texts as a JSON array."""
    return _encode(list(members)).decode()


def decode_list(text: str) -> tuple[str, ...]:
    """The members of a JSON array of texts."""
    return _decode_list(text)


def marker_of(keyword: str) -> str:
    """What to look for in a stored set to know that `keyword` is in it."""
    return _encode(keyword).decode() + ":"


def listed_keywords(keywords: tuple[str, ...]) -> set[str]:
    """The names under which an Email with these keywords is in email_keyword."""
    names = set(keywords)
    if SEEN in names:
        names.discard(SEEN)
    else:
        names.add(UNSEEN)
    return names


def make_emails(rows: Iterable[Any]) -> list[EmailRow]:
    """Email rows from tuples of EMAIL_COLUMNS. The hottest loop of the store."""
    sets = cast("Any", decode_set)
    return [
        EmailRow(
            doc_id, blob_id, thread_id, sets(mailbox_ids), sets(keywords), received_ms, size,
            sent_ms, subject_key, from_key, to_key, has_attachment == 1, created, changed,
        )
        for doc_id, blob_id, thread_id, mailbox_ids, keywords, received_ms, size, sent_ms,
            subject_key, from_key, to_key, has_attachment, created, changed in rows
    ]  # fmt: skip


def email_values(account_id: str, row: EmailRow, modseq: int) -> tuple[Any, ...]:
    """An Email as the values of an INSERT: account_id, then EMAIL_COLUMNS."""
    return (
        account_id, row.doc_id, row.blob_id, row.thread_id, encode_set(row.mailbox_ids),
        encode_set(row.keywords), row.received_ms, row.size, row.sent_ms, row.subject_key,
        row.from_key, row.to_key, int(row.has_attachment), modseq, modseq,
    )  # fmt: skip


def make_mailboxes(rows: Iterable[Any]) -> list[MailboxRow]:
    """Mailboxes from tuples in the order of MailboxRow's fields."""
    return [
        MailboxRow(
            id, name, parent_id, role, sort_order, is_subscribed == 1, total_emails, unread_emails,
            total_threads, unread_threads, created, info, changed,
        )
        for id, name, parent_id, role, sort_order, is_subscribed, total_emails, unread_emails,
            total_threads, unread_threads, created, info, changed in rows
    ]  # fmt: skip


def make_threads(rows: Iterable[Any]) -> list[ThreadRow]:
    """Threads from tuples of THREAD_COLUMNS."""
    return [
        ThreadRow(
            ThreadId(id),
            cast("tuple[EmailId, ...]", _decode_list(email_ids)),
            subject_key,
            _decode_list(participants),
            latest_ms,
            ModSeq(created),
            ModSeq(changed),
        )
        for id, email_ids, subject_key, participants, latest_ms, created, changed in rows
    ]


def make_remotes(rows: Iterable[Any]) -> list[RemoteRow]:
    """Mirror rows from (mailbox_id, uid, doc_id, keywords, modseq)."""
    return [
        RemoteRow(MailboxId(mailbox_id), uid, encode_email_id(doc_id), decode_set(keywords), modseq)
        for mailbox_id, uid, doc_id, keywords, modseq in rows
    ]
