"""Which Thread a new Email belongs to (RFC 8621 s3): by references, then by subject and people.

Decided once, when the Email arrives; Threads never merge, because threadId never changes.
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Sequence

import msgspec

from tindra.base import limits
from tindra.base.ids import EmailId, ThreadId
from tindra.core.tx import Tx
from tindra.model.mail import DOC_COUNTER_BITS, ThreadRow, parse_email_id

SUBJECT_WINDOW_MS = 60 * 24 * 3600 * 1000
"""A reply without references joins a Thread of the same subject and people if it is within two
months of its mail."""
OWN_IDS_MAX = 4
"""Message-IDs of one message: it has one, and the rest of a longer list is an attack."""
CANDIDATES_MAX = 20
"""Threads with one reference that a message is compared with, the newest ones: robots give one
Message-ID to thousands of messages."""
PARTICIPANTS_MAX = 50
"""Addresses kept of a Thread: enough to tell conversations of one subject apart."""
PARTICIPANTS_SHARED_MIN = 2
"""The writer and a reader: one address alone (a newsletter's) would merge strangers."""

_PREFIX = re.compile(
    r"(?:\s*(?:re|aw|antwort|sv|vs|vl|antw|fwd?|wg|tr|réf|rv|rif|r|i|res|enc|odp|pd|ynt|ilt|vb"
    r"|doorst|vá|továbbítás|atb|отв|на|απ|πρθ|σχετ|תגובה|הועבר"
    r"|回复|答复|转发|回覆|答覆|轉寄|返信|転送|회신|전달)\s*(?:\[\d{1,4}\]|\(\d{1,4}\))?\s*[:：])+\s*",
    re.IGNORECASE,
)
_LIST_TAG = re.compile(r"\s*\[[^\[\]]{1,60}\]\s*")
_TRAILER = re.compile(r"\s*\(fwd\)\s*$", re.IGNORECASE)
_STEPS_MAX = 10


def make_base_subject(subject: str) -> tuple[str, bool]:
    """The subject without reply and forward marks, list tags and outer white space; and whether
    there was a reply or forward mark.

    In the spirit of RFC 5256 s2.1, with the marks of other languages. Linear: at most ten steps.
    """
    text = " ".join(subject[:500].split())
    is_reply = False
    for _ in range(_STEPS_MAX):
        before = text
        match = _PREFIX.match(text)
        if match is not None:
            is_reply = True
            text = text[match.end() :]
        tag = _LIST_TAG.match(text)
        if tag is not None and tag.end() < len(text):
            text = text[tag.end() :]
        text = _TRAILER.sub("", text)
        if text == before:
            break
    return text.strip(), is_reply


def make_reference_key(message_id: str) -> str:
    """A short key of a Message-ID; the full text would double the index."""
    data = message_id.strip("<> \t").encode("utf-8", "replace")
    return f"{zlib.crc32(data):08x}{zlib.adler32(data):08x}{len(data) & 0xFFFF:04x}"


def pick_references(
    message_id: Sequence[str], in_reply_to: Sequence[str], references: Sequence[str]
) -> tuple[str, ...]:
    """Reference keys of a message, own first: the first and the last ones where there are many."""
    count = limits.REFERENCES_PER_EMAIL_MAX
    related = list(dict.fromkeys([*in_reply_to, *reversed(references)]))
    if len(related) > count:
        # The last of `related` is what the whole conversation began with.
        related = [*related[: count - 1], related[-1]]
    ids = [*message_id[:OWN_IDS_MAX], *related]
    return tuple(dict.fromkeys(make_reference_key(id) for id in ids))


class ThreadClues(msgspec.Struct, frozen=True):
    """What of a message decides its Thread."""

    references: tuple[str, ...]
    """Keys of its own Message-ID and of those it refers to."""
    has_related: bool
    """It refers to others."""
    subject_key: str
    """Base subject, case folded; "" for none."""
    is_reply: bool
    """Its subject carries a reply or forward mark."""
    participants: tuple[str, ...]
    """Addresses, lower case, sorted."""


async def apply_thread(tx: Tx, clues: ThreadClues, email_id: EmailId, received_ms: int) -> ThreadId:
    """Put an Email that is about to be inserted into its Thread, made now if there is none.

    Cost: two index reads and one write.
    """
    thread = await _find(tx, clues, received_ms)
    if thread is None:
        thread = ThreadRow(ThreadId(tx.new_id("t")), (), clues.subject_key, (), received_ms)
    participants = thread.participants
    if len(participants) < PARTICIPANTS_MAX:
        merged = sorted({*participants, *clues.participants})
        participants = tuple(merged[:PARTICIPANTS_MAX])
    await tx.put_threads(
        [
            msgspec.structs.replace(
                thread,
                email_ids=tuple(sorted((*thread.email_ids, email_id))),
                participants=participants,
                latest_ms=max(thread.latest_ms, received_ms),
            )
        ]
    )
    if clues.references:
        await tx.put_thread_references(thread.id, clues.references)
    return thread.id


async def _find(tx: Tx, clues: ThreadClues, received_ms: int) -> ThreadRow | None:
    if clues.references:
        by_key = await tx.store.find_threads_by_reference(clues.references)
        newest = (by_key.get(key, [])[-CANDIDATES_MAX:] for key in clues.references)
        ids = list(dict.fromkeys(itertools.chain.from_iterable(newest)))
        rows = {row.id: row for row in await tx.store.load_threads(ids)} if ids else {}
        # The nearest relative decides. A reply under a new subject starts a new conversation; a
        # full one is continued in another.
        for row in (rows[id] for id in ids if id in rows):
            if row.subject_key == clues.subject_key and _has_room(row):
                return row
    if clues.has_related or not clues.is_reply or not clues.subject_key:
        return None
    since_ms = received_ms - SUBJECT_WINDOW_MS
    for row in await tx.store.find_threads_by_subject(clues.subject_key, since_ms):
        shared = len(set(row.participants).intersection(clues.participants))
        is_near = _begin_ms(row) <= received_ms + SUBJECT_WINDOW_MS
        if is_near and shared >= PARTICIPANTS_SHARED_MIN and _has_room(row):
            return row
    return None


def _begin_ms(row: ThreadRow) -> int:
    """When its oldest Email arrived: mail of years ago may come in after that of today."""
    first = parse_email_id(row.email_ids[0]) if row.email_ids else None
    return 0 if first is None else (first >> DOC_COUNTER_BITS) * 1000


def _has_room(row: ThreadRow) -> bool:
    return len(row.email_ids) < limits.EMAILS_PER_THREAD_MAX
