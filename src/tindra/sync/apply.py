"""What the provider told, written into the account: messages, flags, losses, mailboxes.

Each function is the body of one transaction with origin "provider". All are idempotent: telling
the same thing twice changes nothing the second time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar, cast

import msgspec

from tindra.base.ids import AccountId, MailboxId
from tindra.core.ports import BlobRow
from tindra.core.services import Services
from tindra.core.tx import Tx
from tindra.features.mail.ingest import Arrival, NewEmail, apply_arrivals
from tindra.model.mail import EmailRow, MailboxRow, RemoteRow, parse_email_id
from tindra.sync.cursor import RemoteCursor, delete_cursor, put_cursor
from tindra.sync.mirror import MirrorReader, MirrorStore, MirrorTx
from tindra.sync.plan import MailboxPlan, make_keywords, merge_sets, split_name
from tindra.sync.ports import RemoteMailbox, RemoteMessage

_SORT_ORDER = {
    "inbox": 1, "drafts": 2, "sent": 3, "archive": 4, "all": 5, "flagged": 6, "important": 7,
    "junk": 8, "trash": 9,
}  # fmt: skip


T = TypeVar("T")


def mirror_of(tx: Tx) -> MirrorTx:
    """The transaction with the mirror's rows; every store is one that has them (app/wiring)."""
    return cast(MirrorTx, tx.store)


async def read_mirror(
    services: Services,
    account_id: AccountId,
    fn: Callable[[MirrorReader], Awaitable[T]],
    is_long: bool = False,
) -> T:
    """A read that sees the mirror's rows too."""
    store = cast(MirrorStore, services.store)
    return await store.read(account_id, fn, is_long=is_long)


class Fetched(NamedTuple):
    """One message on its way in."""

    message: RemoteMessage
    arrival: Arrival
    blob: BlobRow
    """With its octets where they go into the database, without where they are stored already."""


async def apply_messages(
    tx: Tx, mailbox_id: MailboxId, fetched: Sequence[Fetched], cursor: RemoteCursor
) -> list[tuple[EmailRow, Arrival]]:
    """Store messages of one mailbox; gives those that are new to the account.

    The same content is the same Email, wherever and however often the provider holds it: it keeps
    its id when it moves, and when uids start anew.
    """
    if not any(row.id == mailbox_id for row in await tx.store.load_mailboxes()):
        return []  # destroyed here meanwhile; the next look at the tree settles it
    first: dict[str, Fetched] = {}
    for item in fetched:
        first.setdefault(item.arrival.blob_id, item)
    known = await tx.store.find_emails_by_blob(list(first))
    docs = {blob: doc for blob, doc in known.items() if blob in first}
    await _join_known(tx, mailbox_id, {docs[b]: item for b, item in first.items() if b in docs})
    fresh = [item for blob, item in first.items() if blob not in docs]
    for item in fresh:
        await tx.put_blob(item.blob)
    now_ms = tx.clock.now_ms()
    rows = await apply_arrivals(
        tx,
        [
            NewEmail(
                item.arrival,
                (mailbox_id,),
                make_keywords(item.message.flags),
                item.message.internal_date_ms or item.arrival.sent_ms or now_ms,
            )
            for item in fresh
        ],
    )
    docs |= {row.blob_id: row.doc_id for row in rows}
    by_doc = {row.doc_id: row.id for row in await tx.store.load_emails(list(docs.values()))}
    await mirror_of(tx).put_remote(
        [
            RemoteRow(
                mailbox_id,
                item.message.uid,
                by_doc[docs[item.arrival.blob_id]],
                make_keywords(item.message.flags),
                item.message.modseq or 0,
            )
            for item in fetched
        ]
    )
    await put_cursor(tx, mailbox_id, cursor)
    return [(row, item.arrival) for row, item in zip(rows, fresh, strict=True)]


async def _join_known(tx: Tx, mailbox_id: MailboxId, items: Mapping[int, Fetched]) -> None:
    """Emails that are here already are (also) in this Mailbox now."""
    if not items:
        return
    mirror = mirror_of(tx)
    ghosts: dict[str, list[RemoteRow]] = defaultdict(list)
    for remote in await mirror.find_remote_by_emails(list(items)):
        if remote.uid < 0:
            ghosts[remote.email_id].append(remote)
    updates = []
    for row in await tx.store.load_emails(list(items)):
        remote_keywords = make_keywords(items[row.doc_id].message.flags)
        left = {ghost.mailbox_id for ghost in ghosts[row.id]} - {mailbox_id}
        places = (set(row.mailbox_ids) - left) | {mailbox_id}
        if ghosts[row.id]:
            # It moved: what base knew at the old place is base at the new one.
            base: tuple[str, ...] = ghosts[row.id][0].keywords
        else:
            base = ()
        keywords = merge_sets(remote_keywords, base, row.keywords)
        after = msgspec.structs.replace(row, mailbox_ids=tuple(sorted(places)), keywords=keywords)
        updates.append((row, after))
        for ghost in ghosts[row.id]:
            await mirror.delete_remote(ghost.mailbox_id, [ghost.uid])
    await tx.update_emails(updates)


async def apply_flags(tx: Tx, mailbox_id: MailboxId, messages: Sequence[RemoteMessage]) -> int:
    """Flags as the provider has them now, merged three ways; gives how many Emails changed."""
    mirror = mirror_of(tx)
    told = {m.uid: m for m in messages if m.has_flags}
    rows = {row.uid: row for row in await mirror.load_remote(mailbox_id, sorted(told))}
    moved = [
        msgspec.structs.replace(row, keywords=keywords, modseq=told[uid].modseq or row.modseq)
        for uid, row in rows.items()
        if (keywords := make_keywords(told[uid].flags)) != row.keywords
    ]
    docs = [doc for row in moved if (doc := parse_email_id(row.email_id)) is not None]
    emails = {email.id: email for email in await tx.store.load_emails(docs)}
    before = dict(emails)
    for row in moved:
        email = emails.get(row.email_id)
        if email is not None:
            merged = merge_sets(row.keywords, rows[row.uid].keywords, email.keywords)
            emails[row.email_id] = msgspec.structs.replace(email, keywords=merged)
    await mirror.put_remote(moved)
    changed = [(before[id], email) for id, email in emails.items() if email != before[id]]
    await tx.update_emails(changed)
    return len(changed)


async def apply_vanished(tx: Tx, mailbox_id: MailboxId, uids: Sequence[int]) -> None:
    """Messages that left a mailbox of the provider.

    An Email that is elsewhere too just leaves this Mailbox. The last place of an Email becomes a
    *ghost* (a row with the uid negated): it may be on its way to another mailbox, and is destroyed
    by `apply_ghosts` only after a while.
    """
    mirror = mirror_of(tx)
    rows = await mirror.load_remote(mailbox_id, uids)
    await mirror.delete_remote(mailbox_id, [row.uid for row in rows])
    docs = [doc for row in rows if (doc := parse_email_id(row.email_id)) is not None]
    places: dict[str, set[str]] = defaultdict(set)
    for remote in await mirror.find_remote_by_emails(docs):
        if remote.uid > 0:
            places[remote.email_id].add(remote.mailbox_id)
    leaving, ghosts = [], []
    emails = {email.id: email for email in await tx.store.load_emails(docs)}
    for row in rows:
        email = emails.pop(row.email_id, None)
        if email is None or mailbox_id in places[row.email_id]:
            continue  # destroyed here too, or a twin of it is still there
        kept = tuple(id for id in email.mailbox_ids if id != mailbox_id)
        if kept and kept != email.mailbox_ids:
            leaving.append((email, msgspec.structs.replace(email, mailbox_ids=kept)))
        elif not kept:
            ghosts.append(msgspec.structs.replace(row, uid=-row.uid))
    await mirror.put_remote(ghosts)
    await tx.update_emails(leaving)


async def apply_ghosts(tx: Tx, ghosts: Sequence[RemoteRow]) -> None:
    """Emails whose last place vanished and that turned up nowhere: destroy them."""
    mirror = mirror_of(tx)
    docs = [doc for row in ghosts if (doc := parse_email_id(row.email_id)) is not None]
    alive = {row.email_id for row in await mirror.find_remote_by_emails(docs) if row.uid > 0}
    gone = []
    for email in await tx.store.load_emails(docs):
        lost = {row.mailbox_id for row in ghosts if row.email_id == email.id}
        # A device put it somewhere else meanwhile: then it stays, and goes back to the provider.
        if email.id not in alive and set(email.mailbox_ids) <= lost:
            gone.append(email)
    for row in ghosts:
        await mirror.delete_remote(row.mailbox_id, [row.uid])
    if gone:
        await tx.delete_emails(gone)


async def apply_reset(tx: Tx, mailbox_id: MailboxId, cursor: RemoteCursor) -> None:
    """Uids of a mailbox started anew: its rows become ghosts until the content is seen again."""
    mirror = mirror_of(tx)
    rows = [row for row in await mirror.load_remote(mailbox_id, None) if row.uid > 0]
    await mirror.delete_remote_mailbox(mailbox_id)
    await mirror.put_remote([msgspec.structs.replace(row, uid=-row.uid) for row in rows])
    await put_cursor(tx, mailbox_id, cursor)


async def apply_tree(tx: Tx, plan: MailboxPlan, known: Mapping[str, str]) -> dict[str, str]:
    """Create Mailboxes for remote ones, take over roles, forget what is gone.

    Args:
        known: remote name -> mailbox id.
    Returns: the same map with the new ones.
    """
    names = dict(known)
    rows = {row.id: row for row in await tx.store.load_mailboxes()}
    for remote in plan.create:
        row = _take_mailbox(tx, remote, names, rows)
        await tx.put_mailbox(rows.get(row.id), row)
        rows[row.id] = row
        names[remote.name] = row.id
        cursor = RemoteCursor(remote.name, remote.delimiter, remote.selectable)
        await put_cursor(tx, row.id, cursor)
    for id, remote in plan.rename:
        row = rows[MailboxId(id)]
        await tx.put_mailbox(row, msgspec.structs.replace(row, role=remote.role))
    for id in plan.forget:
        await _forget_mailbox(tx, MailboxId(id), rows)
    return names


def _take_mailbox(
    tx: Tx, remote: RemoteMailbox, names: Mapping[str, str], rows: Mapping[MailboxId, MailboxRow]
) -> MailboxRow:
    """The Mailbox for a remote one: an unmirrored one of the same place or role, or a new one."""
    parent_name, leaf = split_name(remote)
    parent = names.get(parent_name) if parent_name is not None else None
    if parent_name is not None and parent is None:
        leaf = remote.name
    if remote.role == "inbox":
        leaf = "Inbox"
    mirrored = set(names.values())
    for row in rows.values():
        if row.id not in mirrored and row.parent_id == parent and row.name == leaf:
            return msgspec.structs.replace(row, role=row.role or _free_role(remote, rows))
    return MailboxRow(
        MailboxId(tx.new_id("m")),
        leaf,
        None if parent is None else MailboxId(parent),
        _free_role(remote, rows),
        _SORT_ORDER.get(remote.role or "", 10),
        True,
    )


def _free_role(remote: RemoteMailbox, rows: Mapping[MailboxId, MailboxRow]) -> str | None:
    taken = {row.role for row in rows.values()}
    return remote.role if remote.role not in taken else None


async def _forget_mailbox(
    tx: Tx, mailbox_id: MailboxId, rows: Mapping[MailboxId, MailboxRow]
) -> None:
    """The remote mailbox is gone: its messages vanish from it, and once it is empty it goes."""
    mirror = mirror_of(tx)
    remote = [row for row in await mirror.load_remote(mailbox_id, None) if row.uid > 0]
    if remote:
        await apply_vanished(tx, mailbox_id, [row.uid for row in remote])
    await tx.settle()
    row = next((r for r in await tx.store.load_mailboxes() if r.id == mailbox_id), None)
    has_child = any(r.parent_id == mailbox_id for r in rows.values() if r.id != mailbox_id)
    if row is not None and row.total_emails == 0 and not has_child:
        await tx.delete_mailbox(row)
    if row is None or row.total_emails == 0:
        await delete_cursor(tx, mailbox_id)
