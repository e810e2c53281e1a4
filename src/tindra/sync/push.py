"""Tells the provider what devices did: intents are looked at in groups and planned from the views.

An intent is finished only after the provider answered and base knows the new agreement. A crash
in between means that the same plan is made again and finds less or nothing to do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from tindra.base.ids import AccountId, MailboxId
from tindra.core.ports import OutboxRow
from tindra.core.services import Services
from tindra.core.tx import Tx, transact
from tindra.model.mail import EmailRow, MailboxRow, RemoteRow, parse_email_id
from tindra.sync.apply import mirror_of, read_mirror
from tindra.sync.cursor import RemoteCursor, delete_cursor, load_cursors, put_cursor
from tindra.sync.mirror import MirrorReader
from tindra.sync.plan import KeywordPush, PlacePush, PushPlan, make_flag, plan_push
from tindra.sync.ports import MailSession, Rejected

SelectFunction = Callable[[str], Awaitable[frozenset[str]]]
"""Select the remote mailbox of a Mailbox id; gives the flags it keeps."""
LookFunction = Callable[[str], Awaitable[None]]


class PushViews(NamedTuple):
    """The views that a group of intents is planned from."""

    emails: dict[str, EmailRow]
    base: dict[str, list[RemoteRow]]
    mailboxes: dict[str, MailboxRow]
    cursors: dict[str, RemoteCursor]


async def load_views(reader: MirrorReader, ids: Sequence[str]) -> PushViews:
    """Local and base of these Emails. Cost: five reads."""
    docs = [doc for id in ids if (doc := parse_email_id(id)) is not None]
    base: dict[str, list[RemoteRow]] = defaultdict(list)
    for row in await reader.find_remote_by_emails(docs):
        base[row.email_id].append(row)
    return PushViews(
        {str(row.id): row for row in await reader.load_emails(docs)},
        base,
        {str(row.id): row for row in await reader.load_mailboxes()},
        await load_cursors(reader),
    )


def plan_group(ids: Sequence[str], views: PushViews) -> dict[str, PushPlan]:
    """A plan for each Email that needs one."""
    mirrored = frozenset(views.cursors)
    plans = {id: plan_push(views.emails.get(id), views.base.get(id, ()), mirrored) for id in ids}
    return {id: plan for id, plan in plans.items() if not plan.is_empty}


class Pusher:
    """Carries out plans over one session.

    Args:
        look: brings a mailbox up to date with the provider (the engine's pull); called where the
            provider did not say which uid a message got, and before anything is appended again.
    """

    def __init__(
        self,
        services: Services,
        account_id: AccountId,
        session: MailSession,
        select: SelectFunction,
        look: LookFunction,
    ) -> None:
        self._services = services
        self._account_id = account_id
        self._session = session
        self._select = select
        self._look = look

    async def push_emails(self, rows: Sequence[OutboxRow]) -> None:
        """Carry out the intents about Emails, and finish them.

        Raises: ProviderError; what was done until then is known to base.
        """
        ids = [row.key.removeprefix("email:") for row in rows]
        views = await self._load(ids)
        plans = plan_group(ids, views)
        appended = {p.mailbox_id for plan in plans.values() for p in plan.places if p.row is None}
        if appended:
            # It may be there already: we may have died between the append and the note of it.
            for mailbox_id in appended:
                if mailbox_id is not None:
                    await self._look(mailbox_id)
            views = await self._load(ids)
            plans = plan_group(ids, views)
        await self._push_keywords(plans, views)
        await self._push_places(plans, views)
        await self._finish(rows)

    async def _load(self, ids: Sequence[str]) -> PushViews:
        async def read(reader: MirrorReader) -> PushViews:
            return await load_views(reader, ids)

        return await read_mirror(self._services, self._account_id, read)

    async def _push_keywords(self, plans: Mapping[str, PushPlan], views: PushViews) -> None:
        groups: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[RemoteRow]] = {}
        for plan in plans.values():
            for push in plan.keywords:
                key = (push.row.mailbox_id, push.add, push.remove)
                groups.setdefault(key, []).append(push.row)
        for (mailbox_id, add, remove), rows in groups.items():
            kept = await self._select(mailbox_id)
            may_add = [k for k in add if _is_kept(k, kept)]
            await self._session.store_flags(
                [row.uid for row in rows],
                [make_flag(k) for k in may_add],
                [make_flag(k) for k in remove],
            )
            agreed = [_agree(KeywordPush(row, tuple(may_add), remove)) for row in rows]
            await self._note(put=agreed)

    async def _push_places(self, plans: Mapping[str, PushPlan], views: PushViews) -> None:
        groups: dict[tuple[str, str, str], list[RemoteRow]] = {}
        for id, plan in plans.items():
            for place in plan.places:
                if place.row is None:
                    await self._append(views, id, place)
                else:
                    key = (place.kind, place.row.mailbox_id, place.mailbox_id or "")
                    groups.setdefault(key, []).append(place.row)
        order = {"copy": 0, "move": 1, "expunge": 2}
        for (kind, source, target), rows in sorted(groups.items(), key=lambda g: order[g[0][0]]):
            await self._push_place(kind, source, target, rows, views)

    async def _push_place(
        self, kind: str, source: str, target: str, rows: list[RemoteRow], views: PushViews
    ) -> None:
        await self._select(source)
        uids = [row.uid for row in rows]
        if kind == "expunge":
            await self._session.expunge(uids)
            await self._note(drop=rows)
            return
        name = views.cursors[target].name
        move = self._session.move if kind == "move" else self._session.copy
        new_uids = await move(uids, name)
        # Keywords may just have been pushed: what base knows now travels along.
        fresh = {row.uid: row for row in await self._reload(source, uids)}
        landed = [
            RemoteRow(MailboxId(target), new_uids[uid], row.email_id, row.keywords)
            for uid, row in fresh.items()
            if uid in new_uids
        ]
        await self._note(put=landed, drop=rows if kind == "move" else ())
        if len(landed) < len(rows):
            await self._look(target)

    async def _reload(self, mailbox_id: str, uids: Sequence[int]) -> list[RemoteRow]:
        async def read(reader: MirrorReader) -> list[RemoteRow]:
            return await reader.load_remote(mailbox_id, uids)

        return await read_mirror(self._services, self._account_id, read)

    async def _append(self, views: PushViews, id: str, place: PlacePush) -> None:
        email = views.emails[id]
        assert place.mailbox_id is not None
        raw = await self._services.blobs.get(self._account_id, email.blob_id)
        assert raw is not None, "an Email has its message"
        cursor = views.cursors[place.mailbox_id]
        flags = [make_flag(keyword) for keyword in email.keywords]
        told = await self._session.append(cursor.name, raw, flags, email.received_ms)
        if told is None or told[0] != cursor.uid_validity:
            await self._look(place.mailbox_id)
            return
        row = RemoteRow(MailboxId(place.mailbox_id), told[1], email.id, email.keywords)
        await self._note(put=[row])

    async def _note(self, put: Sequence[RemoteRow] = (), drop: Sequence[RemoteRow] = ()) -> None:
        async def write(tx: Tx) -> None:
            mirror = mirror_of(tx)
            for row in drop:
                await mirror.delete_remote(row.mailbox_id, [row.uid])
            await mirror.put_remote(put)

        await transact(self._services, self._account_id, "mirror-agree", write, "provider")

    async def _finish(self, rows: Sequence[OutboxRow]) -> None:
        async def write(tx: Tx) -> None:
            for row in rows:
                await tx.store.finish_outbox(row)

        await transact(self._services, self._account_id, "mirror-done", write, "provider")

    # -- mailboxes -------------------------------------------------------------------------------
    async def push_mailbox(self, row: OutboxRow) -> None:
        """Create, rename or delete one mailbox at the provider, and finish the intent."""
        id = row.key.removeprefix("mailbox:")
        views = await self._load([])
        mailbox, cursor = views.mailboxes.get(id), views.cursors.get(id)
        if mailbox is not None:
            name = _make_name(mailbox, views)
            if name is None:
                pass  # its parent comes first; that intent brings us back
            elif cursor is None:
                await self._create(mailbox, name, views)
            elif cursor.name != name and mailbox.role != "inbox":
                await self._rename(cursor, name, views)
        elif cursor is not None:
            await self._delete(id, cursor)
        await self._finish([row])

    async def _create(self, mailbox: MailboxRow, name: str, views: PushViews) -> None:
        try:
            await self._session.create_mailbox(name)
        except Rejected as error:
            if error.code != "ALREADYEXISTS":
                raise
        cursor = RemoteCursor(name, _delimiter(views))

        async def write(tx: Tx) -> None:
            await put_cursor(tx, mailbox.id, cursor)

        await transact(self._services, self._account_id, "mirror-mailbox", write, "provider")

    async def _rename(self, cursor: RemoteCursor, name: str, views: PushViews) -> None:
        await self._session.rename_mailbox(cursor.name, name)
        inner = cursor.name + (cursor.delimiter or "\0")

        async def write(tx: Tx) -> None:
            for id, other in views.cursors.items():
                if other.name == cursor.name or other.name.startswith(inner):
                    path = name + other.name[len(cursor.name) :]
                    await put_cursor(tx, id, msgspec.structs.replace(other, name=path))

        await transact(self._services, self._account_id, "mirror-mailbox", write, "provider")

    async def _delete(self, id: str, cursor: RemoteCursor) -> None:
        """Only an empty mailbox is deleted: mail that came meanwhile brings it back instead."""
        status = await self._session.status(cursor.name)
        if status.exists == 0:
            await self._session.delete_mailbox(cursor.name)

        async def write(tx: Tx) -> None:
            await delete_cursor(tx, id)
            await mirror_of(tx).delete_remote_mailbox(id)

        await transact(self._services, self._account_id, "mirror-mailbox", write, "provider")


def _is_kept(keyword: str, permanent: frozenset[str]) -> bool:
    """Whether the provider keeps a keyword at all."""
    flag = make_flag(keyword).lower()
    kept = {item.lower() for item in permanent}
    return not kept or flag in kept or ("\\*" in kept and not flag.startswith("\\"))


def _agree(push: KeywordPush) -> RemoteRow:
    keywords = (set(push.row.keywords) | set(push.add)) - set(push.remove)
    return msgspec.structs.replace(push.row, keywords=tuple(sorted(keywords)))


def _delimiter(views: PushViews) -> str | None:
    return next((c.delimiter for c in views.cursors.values() if c.delimiter), "/")


def _make_name(mailbox: MailboxRow, views: PushViews) -> str | None:
    """The remote path of a Mailbox; None while its parent has none."""
    if mailbox.parent_id is None:
        return mailbox.name
    parent = views.cursors.get(mailbox.parent_id)
    if parent is None:
        return None
    delimiter = parent.delimiter or _delimiter(views) or "/"
    # A delimiter inside a name would make a level of its own.
    return parent.name + delimiter + mailbox.name.replace(delimiter, "-")
