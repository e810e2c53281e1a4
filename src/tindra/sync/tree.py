"""The tree of mailboxes, both ways: what the provider lists, and what devices made of it.

A mailbox is forgotten only when the list lacks it *and* the server, asked for it by name, knows of
none; many at once, or one that holds more than a handful of messages, only at the second look. One
that only changed its name keeps its id, and so do all Emails in it. INBOX is never forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from tindra.base.ids import AccountId, EmailId, MailboxId
from tindra.core.ports import StoreReader
from tindra.core.services import Services
from tindra.core.tx import Tx, transact
from tindra.model.mail import EmailCondition, EmailQuery, MailboxRow, encode_email_id
from tindra.model.stored import OutboxRow
from tindra.sync.apply import apply_vanished, mirror_of, read_mirror
from tindra.sync.cursor import RemoteCursor, delete_cursor, load_cursors, put_cursor
from tindra.sync.intents import EMAIL_TOPIC, MAILBOX_TOPIC, leave_intents
from tindra.sync.mirror import MirrorReader
from tindra.sync.plan import (
    GHOST_MARK,
    HeldBack,
    MailboxPlan,
    Place,
    decide_mailboxes_gone,
    find_place,
    hold_back,
    match_renames,
    plan_mailboxes,
)
from tindra.sync.ports import MailSession, Rejected, RemoteMailbox
from tindra.sync.pull import ROWS_PER_COMMIT_MAX, Puller

_SORT_ORDER = {
    "inbox": 1, "drafts": 2, "sent": 3, "archive": 4, "all": 5, "flagged": 6, "important": 7,
    "junk": 8, "trash": 9,
}  # fmt: skip


class Tree:
    """Keeps the Mailboxes and the provider's mailboxes alike, over one session.

    Args:
        cursors: Mailbox id -> cursor; shared with the engine, brought up to date here.
    """

    def __init__(
        self,
        services: Services,
        account_id: AccountId,
        session: MailSession,
        cursors: dict[str, RemoteCursor],
        puller: Puller,
    ) -> None:
        self.roles: dict[str, str | None] = {}
        """Mailbox id -> role."""
        self.selectable: set[str] = set()
        """Mailboxes that can hold messages at the provider."""
        self.held_back: HeldBack[str] | None = None
        """Mailboxes that are said to be gone and not believed to be."""
        self._nodes: set[str] = set()
        self._services = services
        self._account_id = account_id
        self._session = session
        self._cursors = cursors
        self._puller = puller

    # -- from the provider -----------------------------------------------------------------------
    async def pull(self) -> None:
        """Take over the list of mailboxes. Raises: ProviderError; Transient for an empty list."""
        listed = await self._list()
        names = {item.name for item in listed}
        await self.reload()
        known = {cursor.name: id for id, cursor in self._cursors.items()}
        lost = {name for name in set(known) - names if not await self._is_there(name)}
        vanished = {name: self._cursors[known[name]].uid_validity for name in lost}
        renamed = {}
        if vanished:
            fresh = [m.name for m in listed if m.selectable and m.name not in known]
            renamed = match_renames(vanished, await self._load_validities(fresh))
        is_believed = self._is_believed({known[name] for name in lost - renamed.keys()})
        missing = set(known) - names - (lost if is_believed else renamed.keys())
        kept = [*listed, *(_as_listed(self._cursors[known[name]]) for name in missing)]

        for name in sorted(lost - missing - renamed.keys()):
            await self._empty(known[name])

        async def write(tx: Tx) -> None:
            rows = {str(row.id): row for row in await tx.store.load_mailboxes()}
            plan = plan_mailboxes(kept, known, rows, renamed)
            await apply_tree(tx, plan, known)

        await transact(self._services, self._account_id, "mirror-tree", write, "provider")
        await self.reload()
        holding = {item.name for item in listed if item.selectable}
        self.selectable = {id for id, c in self._cursors.items() if c.name in holding}
        self._nodes = {id for id, c in self._cursors.items() if c.name in names - holding}

    async def _empty(self, mailbox_id: str) -> None:
        """The messages of a mailbox that is gone vanish, some in one transaction, so that nobody
        waits for all of them; what is left when it is cut short vanishes when it is planned again.
        """

        async def read(reader: MirrorReader) -> list[int]:
            return [uid for uid, _ in await reader.list_remote_uids(mailbox_id)]

        uids = await read_mirror(self._services, self._account_id, read)
        for start in range(0, len(uids), ROWS_PER_COMMIT_MAX):
            part = uids[start : start + ROWS_PER_COMMIT_MAX]

            async def write(tx: Tx, part: Sequence[int] = part) -> None:
                await apply_vanished(tx, MailboxId(mailbox_id), part)

            await transact(self._services, self._account_id, "mirror-gone", write, "provider")

    async def reload(self) -> None:
        """Read again what the store knows of the tree."""

        async def read(reader: StoreReader) -> dict[str, RemoteCursor]:
            self.roles = {str(row.id): row.role for row in await reader.load_mailboxes()}
            return await load_cursors(reader)

        fresh = await self._services.store.read(self._account_id, read)
        for id in [id for id in self._cursors if id not in fresh]:
            del self._cursors[id]
            self.selectable.discard(id)
        self._cursors.update(fresh)
        self._puller.forget_selected()

    async def _list(self) -> list[RemoteMailbox]:
        """What is listed, and INBOX: some servers have one and do not list it."""
        listed = await self._session.list_mailboxes()
        if not any(item.name.upper() == "INBOX" for item in listed):
            delimiter = next((item.delimiter for item in listed), None)
            listed = [RemoteMailbox("INBOX", delimiter, "inbox", True), *listed]
        return listed

    def _is_believed(self, gone: set[str]) -> bool:
        """Whether mailboxes that nobody knows at the provider are gone."""
        now_ms = self._services.clock.monotonic_ms()
        held = hold_back(self.held_back, frozenset(gone), now_ms)
        is_confirmed = now_ms - held.since_ms >= self._puller.hold_ms
        messages = sum(self._cursors[id].exists for id in gone)
        decision = decide_mailboxes_gone(len(self._cursors), len(gone), messages, is_confirmed)
        self.held_back = None if decision == "apply" else held
        return decision == "apply"

    async def _is_there(self, name: str) -> bool:
        try:
            await self._session.status(name)
        except Rejected as error:
            return error.code == "NOSTATUS"  # it answered, if only with nonsense
        return True

    async def _load_validities(self, names: Sequence[str]) -> dict[str, int]:
        found = {}
        for name in names:
            try:
                found[name] = (await self._session.status(name)).uid_validity
            except Rejected:
                continue  # listed and not there: it cannot be matched
        return found

    # -- to the provider -------------------------------------------------------------------------
    async def push(self, row: OutboxRow) -> None:
        """Create, rename or delete one mailbox at the provider, and finish the intent.

        Raises: ProviderError.
        """
        rows = await self._load_mailboxes()
        mailbox, cursor = rows.get(row.key), self._cursors.get(row.key)
        if mailbox is not None and cursor is None:
            await self._create(mailbox, rows)
        elif mailbox is not None and cursor is not None:
            await self._rename(mailbox, cursor, rows)
        elif cursor is not None:
            await self._delete(row.key, cursor)

        async def finish(tx: Tx) -> None:
            await tx.store.finish_outbox(row)

        await transact(self._services, self._account_id, "mirror-done", finish, "provider")
        await self.reload()

    async def _load_mailboxes(self) -> dict[str, MailboxRow]:
        async def read(reader: StoreReader) -> list[MailboxRow]:
            return await reader.load_mailboxes()

        rows = await self._services.store.read(self._account_id, read)
        return {str(row.id): row for row in rows}

    async def sort_intents(self, intents: Sequence[OutboxRow]) -> list[OutboxRow]:
        """What is to be made or renamed, outer ones first; then what is to go, inner ones first."""
        rows = await self._load_mailboxes()

        def rank(intent: OutboxRow) -> tuple[bool, int]:
            if intent.key in rows:
                return False, _depth(intent.key, rows)
            cursor = self._cursors.get(intent.key)
            return True, 0 if cursor is None else -len(cursor.name)

        return sorted(intents, key=rank)

    def is_going(self, intent: OutboxRow) -> bool:
        """Whether the Mailbox of an intent was destroyed here."""
        return intent.key not in self.roles

    async def _create(self, mailbox: MailboxRow, rows: Mapping[str, MailboxRow]) -> None:
        if mailbox.parent_id is not None and mailbox.parent_id not in self._cursors:
            await self._create(rows[mailbox.parent_id], rows)
        name = self._make_name(mailbox)
        taken = {cursor.name for cursor in self._cursors.values()}
        if name in taken or name.upper() == "INBOX":
            raise Rejected(f"The mail server has another mailbox {name} already", code="LOCAL")
        try:
            await self._session.create_mailbox(name)
        except Rejected as error:
            if error.code != "ALREADYEXISTS" and not await self._is_there(name):
                raise
        cursor = RemoteCursor(name, self._find_delimiter())

        async def write(tx: Tx) -> None:
            await put_cursor(tx, mailbox.id, cursor)
            # What was put into it before it existed is only now at home there.
            await leave_intents(tx, EMAIL_TOPIC, await _list_emails(tx, mailbox.id))

        await transact(self._services, self._account_id, "mirror-mailbox", write, "provider")
        self._cursors[mailbox.id] = cursor
        self.selectable.add(mailbox.id)

    async def _rename(
        self, mailbox: MailboxRow, cursor: RemoteCursor, rows: Mapping[str, MailboxRow]
    ) -> None:
        known = {other.name: id for id, other in self._cursors.items()}
        place = find_place(_as_listed(cursor), known)
        own = Place(mailbox.parent_id, mailbox.name)
        if mailbox.role == "inbox" or own in (place, Place(None, cursor.name)):
            return
        if mailbox.parent_id is not None and mailbox.parent_id not in self._cursors:
            await self._create(rows[mailbox.parent_id], rows)
        name = self._make_name(mailbox)
        if name == cursor.name:
            return
        await self._session.rename_mailbox(cursor.name, name)
        await self._write_paths(cursor, name)

    async def _write_paths(self, cursor: RemoteCursor, name: str) -> None:
        """The mailbox and all inside of it have another path now."""
        inner = cursor.name + (cursor.delimiter or "\0")

        async def write(tx: Tx) -> None:
            for id, other in (await load_cursors(tx.store)).items():
                if other.name == cursor.name or other.name.startswith(inner):
                    path = name + other.name[len(cursor.name) :]
                    await put_cursor(tx, id, msgspec.structs.replace(other, name=path))

        await transact(self._services, self._account_id, "mirror-mailbox", write, "provider")

    async def _delete(self, id: str, cursor: RemoteCursor) -> None:
        """Only an empty mailbox is deleted: mail that came meanwhile brings it back instead."""
        if id in self._nodes:
            await self._session.delete_mailbox(cursor.name)
        elif await self._is_there(cursor.name):
            self._puller.forget_selected()
            selected = await self._session.select(cursor.name)
            if selected.status.exists == 0:
                await self._session.delete_mailbox(cursor.name)

        async def write(tx: Tx) -> None:
            await _forget_rows(tx, id)

        await transact(self._services, self._account_id, "mirror-mailbox", write, "provider")

    def _make_name(self, mailbox: MailboxRow) -> str:
        """The remote path of a Mailbox whose parent has one."""
        if mailbox.parent_id is None:
            delimiter = self._find_delimiter()
            return self._find_prefix(delimiter) + mailbox.name.replace(delimiter, "-")
        parent = self._cursors[mailbox.parent_id]
        delimiter = parent.delimiter or self._find_delimiter()
        # A delimiter inside a name would make a level of its own.
        return parent.name + delimiter + mailbox.name.replace(delimiter, "-")

    def _find_delimiter(self) -> str:
        return next((c.delimiter for c in self._cursors.values() if c.delimiter), "/")

    def _find_prefix(self, delimiter: str) -> str:
        """Some servers want everything below INBOX."""
        others = [c.name for c in self._cursors.values() if c.name.upper() != "INBOX"]
        prefix = "INBOX" + delimiter
        return prefix if others and all(name.startswith(prefix) for name in others) else ""

    # -- giving up -------------------------------------------------------------------------------
    async def revert(self, row: OutboxRow) -> None:
        """The provider will not have it: the Mailbox becomes again what it is there.

        One that is not there at all goes, if nothing is in it; else it stays as a place that only
        exists here.
        """

        async def write(tx: Tx) -> None:
            rows = {str(r.id): r for r in await tx.store.load_mailboxes()}
            mailbox, cursor = rows.get(row.key), self._cursors.get(row.key)
            if mailbox is not None and cursor is not None:
                known = {other.name: id for id, other in self._cursors.items()}
                place = find_place(_as_listed(cursor), known)
                await tx.put_mailbox(mailbox, _moved(mailbox, place))
            elif mailbox is not None:
                has_child = any(r.parent_id == mailbox.id for r in rows.values())
                if mailbox.total_emails == 0 and not has_child:
                    await tx.delete_mailbox(mailbox)
            else:
                await _forget_rows(tx, row.key)  # the next look at the tree brings it back
            await tx.store.finish_outbox(row)

        await transact(self._services, self._account_id, "mirror-revert", write, "provider")
        await self.reload()


def _as_listed(cursor: RemoteCursor) -> RemoteMailbox:
    return RemoteMailbox(cursor.name, cursor.delimiter, None, cursor.selectable)


def _depth(id: str, rows: Mapping[str, MailboxRow]) -> int:
    depth, row = 0, rows.get(id)
    while row is not None and row.parent_id is not None:
        depth, row = depth + 1, rows.get(row.parent_id)
    return depth


def _moved(row: MailboxRow, place: Place) -> MailboxRow:
    parent_id = None if place.parent_id is None else MailboxId(place.parent_id)
    return msgspec.structs.replace(row, name=place.name, parent_id=parent_id)


async def apply_tree(tx: Tx, plan: MailboxPlan, known: Mapping[str, str]) -> None:
    """Create Mailboxes for remote ones, rename, take over roles, forget what is gone.

    Args:
        known: remote name -> mailbox id.
    """
    cursors = await load_cursors(tx.store)
    names = dict(known)
    rows = {str(row.id): row for row in await tx.store.load_mailboxes()}
    for id, remote in plan.rename:
        before = find_place(_as_listed(cursors[id]), names)
        names[remote.name] = id
        await put_cursor(tx, id, msgspec.structs.replace(cursors[id], name=remote.name))
        row = rows.get(id)
        # What a device renamed meanwhile keeps that name, and its intent will say so there.
        if row is not None and before == Place(row.parent_id, row.name):
            rows[id] = _moved(row, find_place(remote, names))
            await tx.put_mailbox(row, rows[id])
    for remote in plan.create:
        row = _take_mailbox(tx, remote, names, rows)
        await tx.put_mailbox(rows.get(row.id), row)
        if row.id in rows:
            await leave_intents(tx, EMAIL_TOPIC, await _list_emails(tx, row.id))
        rows[row.id] = row
        names[remote.name] = row.id
        await put_cursor(tx, row.id, RemoteCursor(remote.name, remote.delimiter, remote.selectable))
    for id, role in plan.roles:
        after = msgspec.structs.replace(rows[id], role=role)
        await tx.put_mailbox(rows[id], after)
    for id in plan.forget:
        await _forget_mailbox(tx, MailboxId(id))


def _take_mailbox(
    tx: Tx, remote: RemoteMailbox, names: Mapping[str, str], rows: Mapping[str, MailboxRow]
) -> MailboxRow:
    """The Mailbox for a remote one: an unmirrored one of the same place, or a new one."""
    place = find_place(remote, names)
    mirrored = set(names.values())
    free = remote.role if remote.role not in {row.role for row in rows.values()} else None
    for row in rows.values():
        if row.id not in mirrored and Place(row.parent_id, row.name) == place:
            return msgspec.structs.replace(row, role=row.role or free)
    return MailboxRow(
        MailboxId(tx.new_id("m")),
        place.name,
        None if place.parent_id is None else MailboxId(place.parent_id),
        free,
        _SORT_ORDER.get(remote.role or "", 10),
        True,
    )


async def _forget_mailbox(tx: Tx, mailbox_id: MailboxId) -> None:
    """The remote mailbox is gone: its messages vanish from it, and once it is empty it goes.

    If a device put something in meanwhile, it is made at the provider again.
    """
    mirror = mirror_of(tx)
    remote = await mirror.load_remote(mailbox_id, None)
    if remote:
        await apply_vanished(tx, mailbox_id, [row.uid for row in remote])
    await tx.settle()
    rows = await tx.store.load_mailboxes()
    row = next((r for r in rows if r.id == mailbox_id), None)
    has_child = any(r.parent_id == mailbox_id for r in rows)
    if row is None or (row.total_emails == 0 and not has_child):
        await _forget_rows(tx, mailbox_id)
        if row is not None:
            await tx.delete_mailbox(row)
        return
    ghosts = {g.email_id for g in await mirror.load_remote(GHOST_MARK + mailbox_id, None)}
    if any(id not in ghosts for id in await _list_emails(tx, mailbox_id)):
        await _forget_rows(tx, mailbox_id)
        await leave_intents(tx, MAILBOX_TOPIC, [mailbox_id])


async def _list_emails(tx: Tx, mailbox_id: str) -> list[EmailId]:
    query = EmailQuery(filter=EmailCondition(in_mailbox=mailbox_id))
    docs, _ = await tx.store.query_emails(query, None, False)
    return [encode_email_id(doc) for doc in docs]


async def _forget_rows(tx: Tx, mailbox_id: str) -> None:
    """Nothing of a mailbox of the provider is remembered any more."""
    await delete_cursor(tx, mailbox_id)
    await mirror_of(tx).delete_remote_mailbox(mailbox_id)
    await mirror_of(tx).delete_remote_mailbox(GHOST_MARK + mailbox_id)
