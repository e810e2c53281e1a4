"""Keeps Mailbox counters and Threads right inside every transaction that changes Emails.

Counters are moved by the difference that the touched Threads make, never counted on read
(data.md rule 5). Cost: O(Emails in the touched Threads).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from tindra.base.ids import EmailId, MailboxId, ThreadId
from tindra.core.tx import Change, Tx
from tindra.model.counting import count_thread
from tindra.model.mail import EmailRow, MailboxCounts, ThreadRow, parse_email_id

_SILENT = frozenset({"$seen", "$draft"})
"""The only keywords that counters look at."""


def fold_changes(changes: Sequence[Change]) -> dict[str, tuple[EmailRow | None, EmailRow | None]]:
    """id -> (first before, last after) over all changes of one transaction."""
    folded: dict[str, tuple[EmailRow | None, EmailRow | None]] = {}
    for change in changes:
        first = folded[change.id][0] if change.id in folded else change.before
        folded[change.id] = (first, change.after)
    return folded


def _counts_may_move(before: EmailRow | None, after: EmailRow | None) -> bool:
    if before is None or after is None:
        return True
    return before.mailbox_ids != after.mailbox_ids or bool(
        _SILENT.intersection(set(before.keywords) ^ set(after.keywords))
    )


async def apply_counters(tx: Tx, changes: list[Change]) -> None:
    """The reaction to Email changes. Source: RFC 8621 s2 (counters), s3 (Thread)"""
    folded = {id: pair for id, pair in fold_changes(changes).items() if _counts_may_move(*pair)}
    if not folded:
        return
    thread_ids = {row.thread_id for pair in folded.values() for row in pair if row is not None}
    threads = {row.id: row for row in await tx.store.load_threads(sorted(thread_ids))}
    doc_ids = [d for row in threads.values() for d in map(parse_email_id, row.email_ids) if d]
    after: dict[ThreadId, dict[EmailId, EmailRow]] = defaultdict(dict)
    for row in await tx.store.load_emails(doc_ids):
        after[row.thread_id][row.id] = row
    await _drop_destroyed(tx, threads, after)
    trash_id = next((m.id for m in await tx.store.load_mailboxes() if m.role == "trash"), None)
    deltas: dict[MailboxId, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for thread_id in thread_ids:
        rows = after[thread_id]
        earlier = _rows_before(rows, thread_id, folded)
        _add(deltas, count_thread(list(rows.values()), trash_id).items(), 1)
        _add(deltas, count_thread(list(earlier.values()), trash_id).items(), -1)
    moved = {id: MailboxCounts(*delta) for id, delta in deltas.items() if any(delta)}
    if moved:
        await tx.add_mailbox_counts(moved)


def _rows_before(
    rows: dict[EmailId, EmailRow],
    thread_id: ThreadId,
    folded: dict[str, tuple[EmailRow | None, EmailRow | None]],
) -> dict[EmailId, EmailRow]:
    earlier = dict(rows)
    for id, (before, after) in folded.items():
        if before is not None and before.thread_id == thread_id:
            earlier[EmailId(id)] = before
        elif after is not None and after.thread_id == thread_id:
            earlier.pop(EmailId(id), None)
    return earlier


def _add(
    deltas: dict[MailboxId, list[int]],
    counts: Iterable[tuple[MailboxId, MailboxCounts]],
    sign: int,
) -> None:
    for id, part in counts:
        delta = deltas[id]
        delta[0] += sign * part.total_emails
        delta[1] += sign * part.unread_emails
        delta[2] += sign * part.total_threads
        delta[3] += sign * part.unread_threads


async def _drop_destroyed(
    tx: Tx, threads: dict[ThreadId, ThreadRow], rows: dict[ThreadId, dict[EmailId, EmailRow]]
) -> None:
    """Threads that still name an Email that is gone lose it."""
    shrunk = []
    for thread in threads.values():
        kept = tuple(id for id in thread.email_ids if id in rows[thread.id])
        if kept != thread.email_ids:
            shrunk.append(msgspec.structs.replace(thread, email_ids=kept))
    if shrunk:
        await tx.put_threads(shrunk)
