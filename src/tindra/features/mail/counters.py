"""Keeps Mailbox counters and Threads right inside every transaction that changes Emails.

Counters are moved by the difference that the touched Threads make, never counted on read
(docs/data.md rule 5). Cost: O(Emails in the touched Threads).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from tindra.base.ids import EmailId, MailboxId, ThreadId
from tindra.core.tx import Change, Tx
from tindra.model.counting import count_thread
from tindra.model.mail import (
    EmailCondition,
    EmailQuery,
    EmailRow,
    MailboxCounts,
    MailboxRow,
    ThreadRow,
    parse_email_id,
)

_SILENT = frozenset({"$seen", "$draft"})
"""The only keywords that counters look at."""
_STEP = 500
"""Threads or Emails that are held at a time."""


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
    after = await _load_rows(tx, threads.values())
    await _drop_destroyed(tx, threads, after)
    # Whether another Mailbox became the trash in the same transaction is apply_trash's business.
    trash_id, _ = await _load_trash(tx)
    deltas: dict[MailboxId, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    before = _rows_before(after, folded)
    for thread_id in thread_ids:
        _add(deltas, count_thread(list(after[thread_id].values()), trash_id).items(), 1)
        _add(deltas, count_thread(list(before[thread_id].values()), trash_id).items(), -1)
    moved = {id: MailboxCounts(*delta) for id, delta in deltas.items() if any(delta)}
    if moved:
        await tx.add_mailbox_counts(moved)


async def apply_trash(tx: Tx, changes: list[Change]) -> None:
    """The reaction to Mailbox changes: unreadThreads depends on which Mailbox is the trash.

    Cost: nothing unless the role moved; then O(Emails in the Threads of the old and new trash).
    Source: RFC 8621 s2
    """
    if not any(_is_trash(change.before) or _is_trash(change.after) for change in changes):
        return
    before, after = await _load_trash(tx)
    if before == after:
        return
    thread_ids: set[ThreadId] = set()
    for id in (before, after):
        if id is not None:
            query = EmailQuery(filter=EmailCondition(in_mailbox=id))
            docs, _ = await tx.store.query_emails(query, None, False)
            for start in range(0, len(docs), _STEP):
                rows = await tx.store.load_emails(docs[start : start + _STEP])
                thread_ids.update(row.thread_id for row in rows)
    deltas: dict[MailboxId, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    ordered = sorted(thread_ids)
    for start in range(0, len(ordered), _STEP):
        threads = await tx.store.load_threads(ordered[start : start + _STEP])
        for emails in (await _load_rows(tx, threads)).values():
            _add(deltas, count_thread(list(emails.values()), after).items(), 1)
            _add(deltas, count_thread(list(emails.values()), before).items(), -1)
    await tx.add_mailbox_counts(
        {id: MailboxCounts(*delta) for id, delta in deltas.items() if any(delta)}
    )


def _is_trash(row: MailboxRow | None) -> bool:
    return row is not None and row.role == "trash"


async def _load_trash(tx: Tx) -> tuple[MailboxId | None, MailboxId | None]:
    """The trash as it was before the changes that are reacted to, and as it is now."""
    now: dict[str, MailboxRow] = {row.id: row for row in await tx.store.load_mailboxes()}
    then = dict(now)
    for change in reversed(tx.batch.get("Mailbox", ())):
        if change.before is None:
            then.pop(change.id, None)
        else:
            then[change.id] = change.before
    before, after = (
        next((row.id for row in rows.values() if _is_trash(row)), None) for rows in (then, now)
    )
    return before, after


async def _load_rows(
    tx: Tx, threads: Iterable[ThreadRow]
) -> dict[ThreadId, dict[EmailId, EmailRow]]:
    """The Emails of each Thread that are there."""
    doc_ids = [d for row in threads for d in map(parse_email_id, row.email_ids) if d is not None]
    found: dict[ThreadId, dict[EmailId, EmailRow]] = defaultdict(dict)
    for row in await tx.store.load_emails(doc_ids):
        found[row.thread_id][row.id] = row
    return found


def _rows_before(
    after: Mapping[ThreadId, dict[EmailId, EmailRow]],
    folded: Mapping[str, tuple[EmailRow | None, EmailRow | None]],
) -> dict[ThreadId, dict[EmailId, EmailRow]]:
    """The Emails of each Thread as they were before the changes. Cost: O(Emails + changes)."""
    earlier = defaultdict(dict, {id: dict(rows) for id, rows in after.items()})
    for id, (before, now) in folded.items():
        if now is not None:
            earlier[now.thread_id].pop(EmailId(id), None)
        if before is not None:
            earlier[before.thread_id][EmailId(id)] = before
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
