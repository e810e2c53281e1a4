"""Which Thread a new Email belongs to (RFC 8621 s3): by references, then by subject and people.

Decided once, when the Email arrives; Threads never merge, because threadId never changes.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import msgspec

from tindra.base import limits
from tindra.base.ids import EmailId, ThreadId
from tindra.core.tx import Tx
from tindra.model.mail import ThreadRow

SUBJECT_WINDOW_MS = 60 * 24 * 3600 * 1000
"""A reply without references joins a Thread of the same subject and people for two months."""
PARTICIPANTS_MAX = 50
"""Addresses kept of a Thread: enough to tell conversations of one subject apart."""
PARTICIPANTS_SHARED_MIN = 2
"""The writer and a reader: one address alone (a newsletter's) would merge strangers."""

_PREFIX = re.compile(
    r"(?:\s*(?:re|aw|sv|vs|antw|fwd?|wg|tr|rif|r|i|res|enc|odp|ynt|vb|doorst|vá|továbbítás"
    r"|回复|答复|转发|返信|転送)\s*(?:\[\d{1,4}\]|\(\d{1,4}\))?\s*[:：])+\s*",
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
    related = list(dict.fromkeys([*in_reply_to, *reversed(references)]))
    if len(related) > limits.REFERENCES_PER_EMAIL_MAX:
        related = [*related[: limits.REFERENCES_PER_EMAIL_MAX - 1], references[0]]
    return tuple(dict.fromkeys(make_reference_key(id) for id in [*message_id, *related]))


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
        ids = list(dict.fromkeys(id for key in clues.references for id in by_key.get(key, ())))
        # A reply under a new subject starts a new conversation; a full one is continued in
        # another.
        for row in await tx.store.load_threads(ids) if ids else []:
            if row.subject_key == clues.subject_key and _has_room(row):
                return row
    if clues.has_related or not clues.is_reply or not clues.subject_key:
        return None
    since_ms = received_ms - SUBJECT_WINDOW_MS
    for row in await tx.store.find_threads_by_subject(clues.subject_key, since_ms):
        shared = len(set(row.participants).intersection(clues.participants))
        if shared >= PARTICIPANTS_SHARED_MIN and _has_room(row):
            return row
    return None


def _has_room(row: ThreadRow) -> bool:
    return len(row.email_ids) < limits.EMAILS_PER_THREAD_MAX
