"""What the provider told, written into the account: messages, flags, losses.

Each function is the body of one transaction with origin "provider". All are idempotent: telling
the same thing twice changes nothing the second time. Where the merge leaves local and provider
different, an intent is left: no difference is ever silent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence, Set
from typing import NamedTuple, TypeVar, cast

import msgspec

from tindra.base.ids import AccountId, EmailId, MailboxId
from tindra.core.services import Services
from tindra.core.tx import Tx
from tindra.features.mail.ingest import Arrival, NewEmail, apply_arrivals
from tindra.model.mail import EmailRow, RemoteRow, encode_email_id, parse_email_id
from tindra.model.stored import BlobRow
from tindra.sync.cursor import RemoteCursor, put_cursor
from tindra.sync.filing import OWN_ROLES, Twins, find_twins, note_filed
from tindra.sync.intents import EMAIL_TOPIC, leave_intents
from tindra.sync.mirror import MirrorReader, MirrorStore, MirrorTx
from tindra.sync.plan import (
    GHOST_LOST,
    GHOST_MARK,
    GHOST_UNSEEN,
    SYSTEM_KEYWORDS,
    find_home,
    get_kind,
    is_ghost,
    make_ghost,
    make_keywords,
    merge_places,
    merge_sets,
    plan_push,
)
from tindra.sync.ports import RemoteMessage

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
    email_id: EmailId | None = None
    """The Email that it is, where that is known although its octets differ."""

    @property
    def keywords(self) -> tuple[str, ...]:
        """As the provider told."""
        return make_keywords(self.message.flags)


async def load_base(mirror: MirrorReader, docs: Sequence[int]) -> dict[str, list[RemoteRow]]:
    """Email id -> every row and ghost of it."""
    found: dict[str, list[RemoteRow]] = defaultdict(list)
    for row in await mirror.find_remote_by_emails(docs) if docs else ():
        found[row.email_id].append(row)
    return found


def _list_docs(rows: Sequence[RemoteRow]) -> list[int]:
    docs = (parse_email_id(row.email_id) for row in rows)
    return list(dict.fromkeys(doc for doc in docs if doc is not None))


async def apply_messages(
    tx: Tx,
    mailbox_id: MailboxId,
    fetched: Sequence[Fetched],
    cursor: RemoteCursor,
    mirrored: Collection[str],
) -> list[tuple[EmailRow, Arrival]]:
    """Store messages of one mailbox; gives those that are new to the account.

    The same content is the same Email, wherever and however often the provider holds it: it keeps
    its id when it moves, and when uids start anew.
    """
    roles = {row.id: row.role for row in await tx.store.load_mailboxes()}
    if mailbox_id not in roles:
        return []  # destroyed here meanwhile; the next look at the tree settles it
    docs = await _find_known(tx, fetched)
    twins = await _find_twins(tx, mailbox_id, roles[mailbox_id], fetched, docs)
    docs |= twins.docs
    fresh: dict[str, Fetched] = {}
    for item in fetched:
        if item.arrival.blob_id not in docs:
            fresh.setdefault(item.arrival.blob_id, item)
    known = {docs[i.arrival.blob_id]: i for i in reversed(fetched) if i.arrival.blob_id in docs}
    drafts = {id for id, role in roles.items() if role == "drafts"}
    is_sent = roles[mailbox_id] == "sent"
    joined = await _join_known(tx, mailbox_id, known, twins.sent if is_sent else (), drafts)
    if is_sent:
        await note_filed(tx, joined.fresh, twins.sent)
    for item in fresh.values():
        await tx.put_blob(item.blob)
    now_ms = tx.clock.now_ms()
    rows = await apply_arrivals(
        tx,
        [
            NewEmail(
                item.arrival,
                (mailbox_id,),
                item.keywords,
                item.message.internal_date_ms or item.arrival.sent_ms or now_ms,
            )
            for item in fresh.values()
        ],
    )
    docs |= {str(row.blob_id): row.doc_id for row in rows}
    await mirror_of(tx).put_remote(
        [
            RemoteRow(
                mailbox_id,
                item.message.uid,
                encode_email_id(docs[item.arrival.blob_id]),
                item.keywords
                if item.message.has_flags
                else joined.agreed.get(docs[item.arrival.blob_id], ()),
                item.message.modseq or 0,
            )
            for item in fetched
        ]
    )
    await put_cursor(tx, mailbox_id, cursor)
    has_equal = len(fetched) > len(fresh) + len(known)
    await apply_intents(tx, [*known, *(row.doc_id for row in rows if has_equal)], mirrored)
    return [(row, item.arrival) for row, item in zip(rows, fresh.values(), strict=True)]


async def _find_known(tx: Tx, fetched: Sequence[Fetched]) -> dict[str, int]:
    """blob id -> number of the Email that it is already."""
    blobs = list(dict.fromkeys(item.arrival.blob_id for item in fetched))
    found = await tx.store.find_emails_by_blob(blobs)
    expected = {
        str(item.arrival.blob_id): doc
        for item in fetched
        if item.email_id is not None and (doc := parse_email_id(item.email_id)) is not None
    }
    if expected:
        alive = {row.doc_id for row in await tx.store.load_emails(list(expected.values()))}
        expected = {blob: doc for blob, doc in expected.items() if doc in alive}
    return expected | {blob: doc for blob, doc in found.items() if blob in blobs}


async def _find_twins(
    tx: Tx,
    mailbox_id: MailboxId,
    role: str | None,
    fetched: Sequence[Fetched],
    docs: Mapping[str, int],
) -> Twins:
    """The provider's own copies of what was sent from here."""
    unknown = [item.arrival for item in fetched if item.arrival.blob_id not in docs]
    if role not in OWN_ROLES or not unknown:
        return Twins({}, frozenset())
    ghosts = await mirror_of(tx).load_remote(GHOST_MARK + mailbox_id, None)
    return await find_twins(tx, unknown, {str(ghost.email_id) for ghost in ghosts})


class _Joined(NamedTuple):
    """What became of Emails that were here already."""

    agreed: dict[int, tuple[str, ...]]
    """Email number -> its keywords in base."""
    fresh: set[int]
    """Those that the provider did not have in this Mailbox before."""


async def _join_known(
    tx: Tx,
    mailbox_id: MailboxId,
    items: dict[int, Fetched],
    sent: Collection[int],
    drafts: Set[str],
) -> _Joined:
    """Emails that are here already are (also) in this Mailbox now.

    Args:
        sent: those that the provider put there because we sent them: where devices have put them
            meanwhile is newer, unless they still lie among the drafts.
        drafts: the Mailboxes of drafts.
    """
    mirror = mirror_of(tx)
    base = await load_base(mirror, list(items))
    agreed: dict[int, tuple[str, ...]] = {}
    fresh: set[int] = set()
    updates = []
    for row in await tx.store.load_emails(list(items)) if items else ():
        rows = base.get(row.id, [])
        ghosts = [ghost for ghost in rows if is_ghost(ghost)]
        # It moved: what was agreed at the old place is the base at the new one.
        agreed[row.doc_id] = was = ghosts[0].keywords if ghosts else ()
        item = items[row.doc_id]
        now = item.keywords if item.message.has_flags else was
        found = {r.mailbox_id for r in rows if not is_ghost(r)} | {mailbox_id}
        if all(find_home(r) != mailbox_id for r in rows):
            fresh.add(row.doc_id)
        places = row.mailbox_ids
        if row.doc_id not in sent or not drafts.isdisjoint(places):
            places = merge_places(found, rows, row.mailbox_ids)
        after = msgspec.structs.replace(
            row,
            mailbox_ids=places,
            keywords=merge_sets(now, was, row.keywords),
        )
        updates.append((row, after))
        for ghost in ghosts:
            if get_kind(ghost) == GHOST_LOST or find_home(ghost) == mailbox_id:
                await mirror.delete_remote(ghost.mailbox_id, [ghost.uid])
    await tx.update_emails(updates)
    return _Joined(agreed, fresh)


async def apply_intents(tx: Tx, docs: Sequence[int], mirrored: Collection[str]) -> None:
    """Have those Emails looked at that the provider does not hold as they are here.

    Args:
        mirrored: Mailboxes that exist at the provider.
    """
    base = await load_base(mirror_of(tx), docs)
    ids = frozenset(mirrored)
    rows = await tx.store.load_emails(docs) if docs else []
    different = [r.id for r in rows if not plan_push(r, base.get(r.id, ()), ids).is_empty]
    await leave_intents(tx, EMAIL_TOPIC, different)


async def apply_flags(
    tx: Tx, mailbox_id: MailboxId, messages: Sequence[RemoteMessage], mirrored: Collection[str]
) -> None:
    """Flags as the provider has them now, merged three ways."""
    mirror = mirror_of(tx)
    told = {m.uid: m for m in messages if m.has_flags}
    rows = {row.uid: row for row in await mirror.load_remote(mailbox_id, sorted(told))}
    moved = [
        msgspec.structs.replace(row, keywords=keywords, modseq=told[uid].modseq or row.modseq)
        for uid, row in rows.items()
        if (keywords := make_keywords(told[uid].flags)) != row.keywords
    ]
    if not moved:
        return
    docs = _list_docs(moved)
    before = {email.id: email for email in await tx.store.load_emails(docs)}
    emails = dict(before)
    for row in moved:
        email = emails.get(row.email_id)
        if email is not None:
            merged = merge_sets(row.keywords, rows[row.uid].keywords, email.keywords)
            emails[row.email_id] = msgspec.structs.replace(email, keywords=merged)
    await mirror.put_remote(moved)
    await tx.update_emails([(before[id], email) for id, email in emails.items()])
    await apply_intents(tx, docs, mirrored)


async def apply_vanished(tx: Tx, mailbox_id: MailboxId, uids: Sequence[int]) -> None:
    """Messages that left a mailbox of the provider.

    An Email that is elsewhere too just leaves this Mailbox. The last place of an Email becomes a
    ghost: it may be on its way to another mailbox, and is destroyed by `apply_ghosts` only after a
    while.
    """
    mirror = mirror_of(tx)
    rows = await mirror.load_remote(mailbox_id, uids)
    await mirror.delete_remote(mailbox_id, [row.uid for row in rows])
    docs = _list_docs(rows)
    base = await load_base(mirror, docs)
    emails = {email.id: email for email in await tx.store.load_emails(docs)}
    leaving, ghosts = [], []
    for row in rows:
        email = emails.pop(row.email_id, None)
        if email is None:
            continue  # destroyed here too
        places = {r.mailbox_id for r in base.get(row.email_id, ()) if not is_ghost(r)}
        if mailbox_id in places:
            continue  # a twin of it is still there
        kept = tuple(id for id in email.mailbox_ids if id != mailbox_id)
        if kept:
            leaving.append((email, msgspec.structs.replace(email, mailbox_ids=kept)))
        if not places:
            ghosts.append(make_ghost(row, GHOST_LOST))
    await mirror.put_remote(ghosts)
    await tx.update_emails(leaving)


async def apply_ghosts(tx: Tx, ghosts: Sequence[RemoteRow], mirrored: Collection[str]) -> None:
    """Messages that vanished for good: their Emails leave those Mailboxes, or are destroyed.

    Args:
        ghosts: of each Email all or none.
    """
    mirror = mirror_of(tx)
    docs = _list_docs(ghosts)
    base = await load_base(mirror, docs)
    lost: dict[str, set[MailboxId]] = defaultdict(set)
    for ghost in ghosts:
        lost[ghost.email_id].add(find_home(ghost))
        await mirror.delete_remote(ghost.mailbox_id, [ghost.uid])
    gone, kept = [], []
    for email in await tx.store.load_emails(docs):
        held = {row.mailbox_id for row in base.get(email.id, ()) if not is_ghost(row)}
        places = tuple(id for id in email.mailbox_ids if id in held or id not in lost[email.id])
        if places or held:
            # A device put it somewhere else meanwhile: it stays, and goes back to the provider.
            kept.append((email, places or email.mailbox_ids))
        else:
            gone.append(email)
    await tx.update_emails([(e, msgspec.structs.replace(e, mailbox_ids=ids)) for e, ids in kept])
    if gone:
        await tx.delete_emails(gone)
    await apply_intents(tx, [email.doc_id for email, _ in kept], mirrored)


async def apply_reset(tx: Tx, mailbox_id: MailboxId, uids: Sequence[int]) -> None:
    """The uids of a mailbox started anew: its rows become ghosts until the content is seen again.

    In slices, the new cursor with the last one: a crash in between repeats what is left.
    """
    mirror = mirror_of(tx)
    rows = await mirror.load_remote(mailbox_id, uids)
    await mirror.delete_remote(mailbox_id, [row.uid for row in rows])
    await mirror.put_remote([make_ghost(row, GHOST_UNSEEN) for row in rows])


async def list_ghosts(reader: MirrorReader, mailbox_ids: Collection[str]) -> list[RemoteRow]:
    """All ghosts of these Mailboxes. Cost: one index seek a Mailbox."""
    found: list[RemoteRow] = []
    for id in mailbox_ids:
        found += await reader.load_remote(GHOST_MARK + id, None)
    return found


async def apply_revert(tx: Tx, email_ids: Sequence[str]) -> dict[str, list[int]]:
    """Give up: these Emails become again what the provider has. Never destroys one.

    Keywords of people's own making stay: many providers keep none, which is no reason to lose them.

    Returns: Mailbox id -> uids of messages that were destroyed here and stay at the provider; base
        forgets them, so that they are fetched like new ones.
    """
    mirror = mirror_of(tx)
    docs = [doc for id in email_ids if (doc := parse_email_id(id)) is not None]
    base = await load_base(mirror, docs)
    emails = {str(row.id): row for row in await tx.store.load_emails(docs)}
    back: dict[str, list[int]] = defaultdict(list)
    updates = []
    for id in email_ids:
        rows = [row for row in base.get(id, ()) if not is_ghost(row)]
        email = emails.get(id)
        if email is None:
            for row in rows:
                back[row.mailbox_id].append(row.uid)
                await mirror.delete_remote(row.mailbox_id, [row.uid])
        elif rows:
            own = {name for name in email.keywords if name not in SYSTEM_KEYWORDS}
            after = msgspec.structs.replace(
                email,
                mailbox_ids=tuple(sorted({row.mailbox_id for row in rows})),
                keywords=tuple(sorted(own.union(rows[0].keywords))),
            )
            updates.append((email, after))
    await tx.update_emails(updates)
    return back
