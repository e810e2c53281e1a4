"""Tells the provider what devices did to Emails: intents are planned in groups from the views.

An intent is finished only after the provider answered and base knows the new agreement. A crash
in between means that the same plan is made again and finds less or nothing to do: what cannot be
repeated harmlessly (append, copy, a move that is no single command) is looked for first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from tindra.base.ids import AccountId, MailboxId
from tindra.core.services import Services
from tindra.core.tx import Tx, transact
from tindra.model.mail import EmailRow, RemoteRow, parse_email_id
from tindra.model.stored import OutboxRow
from tindra.sync.apply import load_base, mirror_of, read_mirror
from tindra.sync.cursor import RemoteCursor, load_cursors
from tindra.sync.filing import (
    Filing,
    FilingPace,
    apply_files_sent,
    decide_hold_ms,
    is_waited_for,
    load_filing,
)
from tindra.sync.mirror import MirrorReader
from tindra.sync.plan import (
    GHOST_LOST,
    KeywordPush,
    PlacePush,
    PushPlan,
    find_home,
    make_flag,
    make_ghost,
    plan_push,
)
from tindra.sync.ports import MailSession, Rejected
from tindra.sync.pull import Outdated, Puller


class PushViews(NamedTuple):
    """The views that a group of intents is planned from."""

    emails: dict[str, EmailRow]
    base: dict[str, list[RemoteRow]]
    cursors: dict[str, RemoteCursor]
    filing: Filing


async def load_views(reader: MirrorReader, ids: Sequence[str]) -> PushViews:
    """Local and base of these Emails. Cost: four reads; one more where one of them was sent."""
    docs = [doc for id in ids if (doc := parse_email_id(id)) is not None]
    emails = await reader.load_emails(docs) if docs else []
    base = await load_base(reader, docs)
    held = {id: {find_home(row) for row in rows} for id, rows in base.items()}
    return PushViews(
        {str(row.id): row for row in emails},
        base,
        await load_cursors(reader),
        await load_filing(reader, emails, held),
    )


def plan_group(ids: Sequence[str], views: PushViews) -> dict[str, PushPlan]:
    """A plan for each Email that needs one."""
    mirrored = frozenset(views.cursors)
    plans = {id: plan_push(views.emails.get(id), views.base.get(id, ()), mirrored) for id in ids}
    return {id: plan for id, plan in plans.items() if not plan.is_empty}


class Pusher:
    """Carries out plans over one session.

    Args:
        puller: reads on the same session; called where the provider did not say which uid a
            message got, and before anything that may have been done already.
        look_at_tree: reads the list of mailboxes again; whether it is another one than we knew.
        filing: how long to wait for copies that the provider files itself.
    """

    def __init__(
        self,
        services: Services,
        account_id: AccountId,
        session: MailSession,
        puller: Puller,
        look_at_tree: Callable[[], Awaitable[bool]],
        filing: FilingPace,
    ) -> None:
        self._services = services
        self._account_id = account_id
        self._session = session
        self._puller = puller
        self._look_at_tree = look_at_tree
        self._filing = filing

    async def push_emails(self, rows: Sequence[OutboxRow]) -> dict[str, int]:
        """Carry out the intents about Emails, and finish them.

        Returns: key -> when to look again, in milliseconds from now, of intents that were put off:
            the provider may file these Emails itself.
        Raises: ProviderError; what was done until then is known to base. Outdated: plan again.
        """
        ids = [row.key for row in rows]
        views = await self._load(ids)
        plans = plan_group(ids, views)
        targets = self._list_unsafe_targets(plans, views)
        if targets:
            # It may be there already: we may have died between the command and the note of it.
            await self._expect_appends(plans, views)
            for mailbox_id in targets:
                await self._reach(views.cursors[mailbox_id].name, mailbox_id)
            views = await self._load(ids)
            plans = plan_group(ids, views)
        held = self._find_held(plans, views)
        plans = {id: plan for id, plan in plans.items() if id not in held}
        await self._push_keywords(plans)
        await self._push_places(plans, views)
        self._puller.intake.expect_nothing()
        await self._note_unfiled(plans, views)
        await self._finish([row for row in rows if row.key not in held])
        return held

    def _find_held(self, plans: Mapping[str, PushPlan], views: PushViews) -> dict[str, int]:
        now_ms = self._services.clock.now_ms()
        found = {}
        for id in _list_filed(plans, views):
            own = views.filing.submissions.get(id, ())
            wait_ms = decide_hold_ms(own, views.filing.files_sent, now_ms, self._filing)
            if wait_ms:
                found[id] = wait_ms
        return found

    async def _note_unfiled(self, plans: Mapping[str, PushPlan], views: PushViews) -> None:
        """We waited for a copy of the provider's, and had to put ours."""
        filing = views.filing
        if filing.files_sent is not None:
            return
        if not any(is_waited_for(filing.submissions[id]) for id in _list_filed(plans, views)):
            return

        async def write(tx: Tx) -> None:
            await apply_files_sent(tx, False)

        await transact(self._services, self._account_id, "mirror-filing", write, "provider")

    async def _reach(self, name: str, mailbox_id: str) -> None:
        """Look into a mailbox; one that is only a node of the tree, or went, is made first."""
        try:
            await self._puller.look_for_new(mailbox_id)
        except Rejected as refusal:
            await self._make(name, refusal)
            await self._puller.look_for_new(mailbox_id)

    async def _make(self, name: str, refusal: Rejected) -> None:
        """Make a mailbox that is said not to be there, unless it only has another name now.

        Raises: Outdated; the refusal, where it is there and something else is wrong with it.
        """
        if await self._look_at_tree():
            raise Outdated
        try:
            await self._session.create_mailbox(name)
        except Rejected:
            raise refusal from None

    def _list_unsafe_targets(self, plans: Mapping[str, PushPlan], views: PushViews) -> list[str]:
        is_move_safe = not self._session.capabilities.isdisjoint({"MOVE", "IMAP4REV2"})
        safe = {"expunge", "move"} if is_move_safe else {"expunge"}
        filed = _list_filed(plans, views)
        found = []
        for id, plan in plans.items():
            own = views.filing.submissions.get(id, ()) if id in filed else ()
            if id in filed and own and not is_waited_for(own):
                continue  # it waits to be sent: nothing can be there yet
            for place in plan.places:
                is_unsafe = place.kind not in safe or bool(own)
                if is_unsafe and place.mailbox_id is not None:
                    found.append(place.mailbox_id)
        return list(dict.fromkeys(found))

    async def _expect_appends(self, plans: Mapping[str, PushPlan], views: PushViews) -> None:
        for id, plan in plans.items():
            for place in plan.places:
                if place.row is None and place.mailbox_id is not None:
                    raw = await self._load_message(views.emails[id])
                    self._puller.intake.expect(place.mailbox_id, raw, views.emails[id].id)

    async def _load(self, ids: Sequence[str]) -> PushViews:
        async def read(reader: MirrorReader) -> PushViews:
            return await load_views(reader, ids)

        return await read_mirror(self._services, self._account_id, read)

    async def _load_message(self, email: EmailRow) -> bytes:
        raw = await self._services.blobs.get(self._account_id, email.blob_id)
        if raw is None:
            raise Rejected("The message itself is lost here", code="LOCAL")
        return raw

    # -- keywords --------------------------------------------------------------------------------
    async def _push_keywords(self, plans: Mapping[str, PushPlan]) -> None:
        groups: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[RemoteRow]] = {}
        for plan in plans.values():
            for push in plan.keywords:
                key = (push.row.mailbox_id, push.add, push.remove)
                groups.setdefault(key, []).append(push.row)
        for (mailbox_id, add, remove), rows in groups.items():
            kept = await self._puller.select(mailbox_id)
            may_add = tuple(k for k in add if _is_kept(k, kept))
            may_remove = tuple(k for k in remove if _is_kept(k, kept))
            if not may_add and not may_remove:
                continue  # the provider keeps no such keyword: it lives here only
            await self._session.store_flags(
                [row.uid for row in rows],
                [make_flag(k) for k in may_add],
                [make_flag(k) for k in may_remove],
            )
            agreed = [_agree(KeywordPush(row, may_add, may_remove)) for row in rows]
            await self._note(put=agreed)

    # -- places ----------------------------------------------------------------------------------
    async def _push_places(self, plans: Mapping[str, PushPlan], views: PushViews) -> None:
        groups: dict[tuple[str, str, str], list[RemoteRow]] = defaultdict(list)
        for id, plan in plans.items():
            for place in plan.places:
                if place.row is None:
                    await self._append(views, id, place)
                else:
                    key = (place.kind, place.row.mailbox_id, place.mailbox_id or "")
                    groups[key].append(place.row)
        order = {"copy": 0, "move": 1, "expunge": 2}
        for (kind, source, target), rows in sorted(groups.items(), key=lambda g: order[g[0][0]]):
            await self._puller.select(source)
            if kind == "expunge":
                await self._session.expunge([row.uid for row in rows])
                await self._note(drop=rows)
            else:
                await self._transfer(kind, rows, target, views.cursors[target].name)

    async def _transfer(self, kind: str, rows: list[RemoteRow], target: str, name: str) -> None:
        uids = [row.uid for row in rows]
        transfer = self._session.move if kind == "move" else self._session.copy
        try:
            new_uids = await transfer(uids, name)
        except Rejected as refusal:
            if refusal.code != "TRYCREATE":
                raise
            await self._make(name, refusal)
            new_uids = await transfer(uids, name)
        # Keywords may just have been pushed: what base knows now travels along.
        fresh = {row.uid: row for row in await self._reload(rows[0].mailbox_id, uids)}
        landed = [
            RemoteRow(MailboxId(target), new_uids[uid], row.email_id, row.keywords)
            for uid, row in fresh.items()
            if uid in new_uids
        ]
        # Where the server did not say what became of them, they are on their way.
        away = [make_ghost(row, GHOST_LOST) for uid, row in fresh.items() if uid not in new_uids]
        if kind == "move":
            await self._note(put=[*landed, *away], drop=rows)
        else:
            await self._note(put=landed)
        if len(landed) < len(rows):
            await self._puller.look_for_new(target)

    async def _reload(self, mailbox_id: str, uids: Sequence[int]) -> list[RemoteRow]:
        async def read(reader: MirrorReader) -> list[RemoteRow]:
            return await reader.load_remote(mailbox_id, uids)

        return await read_mirror(self._services, self._account_id, read)

    async def _append(self, views: PushViews, id: str, place: PlacePush) -> None:
        email = views.emails[id]
        assert place.mailbox_id is not None
        raw = await self._load_message(email)
        kept = await self._puller.select(place.mailbox_id)
        cursor = views.cursors[place.mailbox_id]
        keywords = tuple(keyword for keyword in email.keywords if _is_kept(keyword, kept))
        flags = [make_flag(keyword) for keyword in keywords]
        told = await self._session.append(cursor.name, raw, flags, email.received_ms)
        if told is None or told[0] != cursor.uid_validity:
            self._puller.intake.expect(place.mailbox_id, raw, email.id)
            await self._puller.look_for_new(place.mailbox_id)
            return
        row = RemoteRow(MailboxId(place.mailbox_id), told[1], email.id, keywords)
        await self._note(put=[row])

    # -- base ------------------------------------------------------------------------------------
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


def _list_filed(plans: Mapping[str, PushPlan], views: PushViews) -> set[str]:
    """Emails that were sent from here and are to be put into the sent mail."""
    return {
        id
        for id, plan in plans.items()
        if id in views.filing.submissions
        and any(place.mailbox_id in views.filing.sent for place in plan.places)
    }


def _is_kept(keyword: str, permanent: frozenset[str]) -> bool:
    """Whether the provider keeps a keyword at all."""
    flag = make_flag(keyword).lower()
    kept = {item.lower() for item in permanent}
    return flag in kept or ("\\*" in kept and not flag.startswith("\\"))


def _agree(push: KeywordPush) -> RemoteRow:
    keywords = (set(push.row.keywords) | set(push.add)) - set(push.remove)
    return msgspec.structs.replace(push.row, keywords=tuple(sorted(keywords)))
