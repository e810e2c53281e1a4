"""The mirror of one account: one task that pulls, pushes and backfills in turns, one that waits.

Turns are small, so a device's act reaches the provider within a turn even while years of mail are
still coming in. The order of a turn: what devices did; news of the inbox; one batch of backfill;
a slow look at the other mailboxes. All that must survive a crash is in the store (cursors, base,
intents); what is held here is only what can be asked for again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId
from tindra.base.retry import decide_wait_ms
from tindra.core.ports import CommitInfo, OutboxRow, StoreReader
from tindra.core.services import Services
from tindra.core.tx import Tx, transact
from tindra.features.connect import (
    Endpoint,
    load_connections,
    make_secret_name,
    update_connection,
)
from tindra.model.mail import RemoteRow
from tindra.sync.apply import apply_ghosts, apply_tree, read_mirror
from tindra.sync.cursor import RemoteCursor, count_progress, load_cursors
from tindra.sync.intents import MIRROR_TOPIC
from tindra.sync.mirror import MirrorReader
from tindra.sync.plan import plan_mailboxes
from tindra.sync.ports import (
    AuthRevoked,
    MailProvider,
    MailSession,
    ProviderError,
    Rejected,
    ServerSettings,
    Throttled,
    Transient,
)
from tindra.sync.pull import Puller
from tindra.sync.push import Pusher
from tindra.sync.route import make_settings
from tindra.wire.jmap.date import encode_utc_date

POLL_MS: Final = 60_000
"""How often mailboxes without IDLE are asked whether anything changed."""
IDLE_MS: Final = 24 * 60_000
"""Servers may hang up after 30 minutes of silence (RFC 2177 s3)."""
GHOST_MS: Final = 15_000
"""How long mail that vanished may take to turn up elsewhere before it is destroyed."""
TELL_MS: Final = 500
"""Progress is written at most this often: each writing wakes every device."""
PROVEN_MS: Final = 300_000
"""A session that lived this long was healthy: failures are counted anew."""
PUSH_GROUP_MAX: Final = limits.SYNC_BATCH_MESSAGES_MAX
_BACKFILL_ORDER = ("inbox", "drafts", "sent", "archive", "all")


class AccountMirror:
    """Mirrors one Connection until it is cancelled."""

    def __init__(
        self,
        services: Services,
        provider: MailProvider,
        account_id: AccountId,
        connection_id: str,
        report: Callable[[str, BaseException], str],
    ) -> None:
        self._services = services
        self._provider = provider
        self._account_id = account_id
        self._connection_id = connection_id
        self._report = report
        self._wake = asyncio.Event()
        self._status: dict[str, Any] = {}
        self._tries = 0

    # -- life ------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Connect, mirror, and after any failure try again when it is time. Never returns."""
        unsubscribe = self._services.bus.subscribe(self._on_commit)
        try:
            while True:
                await self._run_once()
        finally:
            unsubscribe()

    def _on_commit(self, info: CommitInfo) -> None:
        if info.account_id == self._account_id and MIRROR_TOPIC in info.topics:
            self._wake.set()

    async def _run_once(self) -> None:
        started_ms = self._services.clock.monotonic_ms()
        try:
            await self._serve()
        except* AuthRevoked as group:
            await self._rest("needsAuth", _first(group))
        except* Rejected as group:
            await self._rest("refused", _first(group))
        except* (Transient, ProviderError) as group:
            if self._services.clock.monotonic_ms() - started_ms >= PROVEN_MS:
                self._tries = 0
            await self._rest("waiting", _first(group))
        except* Exception as group:
            error = group.exceptions[0]
            id = self._report("mirror", error)
            await self._rest("waiting", Transient(f"Something went wrong here ({id})"))

    async def _rest(self, phase: str, error: ProviderError) -> None:
        """Say what is wrong and wait: longer for what time alone will not cure."""
        self._tries += 1
        wait_ms = decide_wait_ms(self._tries, self._services.random)
        if phase != "waiting" or isinstance(error, Throttled):
            wait_ms = max(wait_ms, 60_000)
        if isinstance(error, Transient) and error.retry_after_ms is not None:
            wait_ms = max(wait_ms, error.retry_after_ms)
        until = encode_utc_date(self._services.clock.now_ms() + wait_ms)
        await self._tell(phase=phase, lastError=str(error), nextTryAt=until)
        await self._services.clock.sleep_ms(wait_ms)

    async def _tell(self, **changes: Any) -> None:
        if any(self._status.get(name, self) != value for name, value in changes.items()):
            self._status |= changes
            await update_connection(self._services, self._account_id, self._connection_id, changes)

    async def _serve(self) -> None:
        """One life of the sessions."""
        connections = await load_connections(self._services, self._account_id)
        connection = connections.get(self._connection_id)
        secret = await self._services.secrets.open_secret(
            self._account_id, make_secret_name(self._connection_id, "imap")
        )
        if connection is None or secret is None or connection["phase"] == "stopped":
            raise Rejected("This connection is stopped or has no password")
        settings = make_settings(msgspec.convert(connection["imap"], Endpoint))
        if self._status.get("phase") not in ("live", "backfilling"):
            await self._tell(phase="connecting")
        session = await self._provider.connect(settings, secret)
        try:
            life = _Life(self._services, self._account_id, session, self._wake, self._tell)
            await life.sync_tree()
            async with asyncio.TaskGroup() as group:
                inbox = life.find_inbox()
                if inbox is not None:
                    group.create_task(self._watch(settings, secret, inbox, life))
                await life.run()
        finally:
            await session.close()

    async def _watch(self, settings: ServerSettings, secret: str, inbox: str, life: _Life) -> None:
        """A second session that waits in the inbox and calls when something happens."""
        session = await self._provider.connect(settings, secret)
        try:
            await session.select(inbox)
            # What came between the first look and this SELECT was announced to nobody.
            life.note_inbox()
            while True:
                if await session.idle(IDLE_MS):
                    life.note_inbox()
        finally:
            await session.close()


def _first(group: BaseExceptionGroup[Any]) -> ProviderError:
    error = group.exceptions[0]
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ProviderError)
    return error


class _Life:
    """The work of one session, in turns."""

    def __init__(
        self,
        services: Services,
        account_id: AccountId,
        session: MailSession,
        wake: asyncio.Event,
        tell: Callable[..., Any],
    ) -> None:
        self._services = services
        self._account_id = account_id
        self._session = session
        self._wake = wake
        self._tell = tell
        self._cursors: dict[str, RemoteCursor] = {}
        self._roles: dict[str, str | None] = {}
        self._held: dict[str, int] = {}
        self._dirty: dict[str, None] = {}
        self._ghosts: dict[tuple[str, int], int] = {}
        self._has_ghosts = True
        self._told_ms = 0
        self._polled_ms = services.clock.monotonic_ms()
        self._puller = Puller(services, account_id, session, self._cursors, self._on_stored)
        self._pusher = Pusher(services, account_id, session, self._puller.select, self._puller.look)

    # -- the tree --------------------------------------------------------------------------------
    async def sync_tree(self) -> None:
        """Take over the list of mailboxes; every mailbox is looked at once after a start."""
        listed = await self._session.list_mailboxes()
        cursors = await self._read(load_cursors)
        known = {cursor.name: id for id, cursor in cursors.items()}

        async def write(tx: Tx) -> None:
            rows = {str(row.id): row for row in await tx.store.load_mailboxes()}
            waiting = await tx.store.list_outbox(MIRROR_TOPIC, 1 << 60, limits.OBJECTS_IN_GET_MAX)
            plan = plan_mailboxes(listed, known, rows)
            if any(row.key.startswith("mailbox:") for row in waiting):
                # A device is changing the tree: what it made or renamed is not missing there.
                plan = plan._replace(forget=())
            await apply_tree(tx, plan, known)

        await transact(self._services, self._account_id, "mirror-tree", write, "provider")
        self._cursors.clear()
        self._cursors.update(await self._read(load_cursors))
        rows = await self._read(lambda reader: reader.load_mailboxes())
        self._roles = {row.id: row.role for row in rows}
        names = {item.name for item in listed if item.selectable}
        for id, cursor in self._cursors.items():
            if cursor.name not in names:
                continue
            status = await self._session.status(cursor.name)
            if cursor.phase == "live":
                self._dirty[id] = None
            self._cursors[id] = msgspec.structs.replace(cursor, exists=status.exists)
        self._cursors_selectable = {
            id for id, cursor in self._cursors.items() if cursor.name in names
        }
        for id in self._cursors_selectable:
            self._held[id] = await self._count_held(id)
        await self._tell_progress()

    def find_inbox(self) -> str | None:
        """The remote name of the inbox."""
        for id, role in self._roles.items():
            if role == "inbox" and id in self._cursors:
                return self._cursors[id].name
        return None

    def note_inbox(self) -> None:
        """Something happened in the inbox."""
        for id, role in self._roles.items():
            if role == "inbox" and id in self._cursors:
                self._dirty[id] = None
        self._wake.set()

    # -- turns -----------------------------------------------------------------------------------
    async def run(self) -> None:
        """Turns while there is work, then sleep until someone calls."""
        while True:
            self._wake.clear()
            if await self._turn():
                continue
            await self._tell_progress(is_final=True)
            wait_ms = POLL_MS
            if self._has_ghosts:
                wait_ms = GHOST_MS
            try:
                async with asyncio.timeout(wait_ms / 1000):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _turn(self) -> bool:
        """One small piece of work; False when there is none."""
        if await self._push():
            return True
        if self._dirty:
            id = next(iter(self._dirty))
            del self._dirty[id]
            await self._puller.look(id)
            self._has_ghosts = True
            return True
        if await self._backfill():
            return True
        now_ms = self._services.clock.monotonic_ms()
        if now_ms - self._polled_ms >= POLL_MS:
            self._polled_ms = now_ms
            await self._poll()
            return bool(self._dirty)
        return await self._settle_ghosts(now_ms)

    async def _push(self) -> bool:
        now_ms = self._services.clock.now_ms()

        async def read(reader: StoreReader) -> list[OutboxRow]:
            return await reader.list_outbox(MIRROR_TOPIC, now_ms, PUSH_GROUP_MAX)

        rows = await self._read(read)
        mailboxes = [row for row in rows if row.key.startswith("mailbox:")]
        emails = [row for row in rows if row.key.startswith("email:")]
        if emails and mailboxes:
            # New Mailboxes first, so that mail can go there; emptied ones last.
            alive = {row.id for row in await self._read(lambda r: r.load_mailboxes())}
            mailboxes.sort(key=lambda row: row.key.removeprefix("mailbox:") not in alive)
        for row in mailboxes:
            if emails and row.key.removeprefix("mailbox:") in self._cursors:
                continue
            await self._try(row, self._pusher.push_mailbox)
        if emails:
            await self._try_emails(emails)
        elif mailboxes:
            for row in mailboxes:
                await self._try(row, self._pusher.push_mailbox)
        if mailboxes:
            await self._reload_cursors()
        return bool(rows)

    async def _try_emails(self, rows: list[OutboxRow]) -> None:
        """All together; and one by one if one of them is refused."""
        try:
            await self._pusher.push_emails(rows)
        except Rejected:
            for row in rows:
                await self._try(row, self._push_one)

    async def _push_one(self, row: OutboxRow) -> None:
        await self._pusher.push_emails([row])

    async def _try(self, row: OutboxRow, push: Callable[[OutboxRow], Any]) -> None:
        try:
            await push(row)
        except Rejected as error:
            await self._put_off(row, error)

    async def _put_off(self, row: OutboxRow, error: Rejected) -> None:
        """Refused: try again later, at last give up; the words of the provider are shown."""
        is_last = row.tries + 1 >= limits.OUTBOX_TRIES_MAX
        wait_ms = decide_wait_ms(row.tries + 4, self._services.random)
        due_ms = self._services.clock.now_ms() + wait_ms

        async def write(tx: Tx) -> None:
            if is_last:
                await tx.store.finish_outbox(row)
            else:
                await tx.store.retry_outbox(row, due_ms, str(error))

        await transact(self._services, self._account_id, "mirror-refused", write, "provider")
        await self._tell(lastError=str(error))

    async def _reload_cursors(self) -> None:
        fresh = await self._read(load_cursors)
        for id in [id for id in self._cursors if id not in fresh]:
            del self._cursors[id]
        for id, cursor in fresh.items():
            if id not in self._cursors:
                self._cursors_selectable.add(id)
                self._cursors[id] = cursor
            else:
                self._cursors[id] = msgspec.structs.replace(self._cursors[id], name=cursor.name)
        rows = await self._read(lambda reader: reader.load_mailboxes())
        self._roles = {row.id: row.role for row in rows}

    async def _backfill(self) -> bool:
        """One batch of the mailbox that matters most among those that are not complete."""
        waiting = [
            id
            for id, cursor in self._cursors.items()
            if cursor.phase == "backfilling" and id in self._cursors_selectable
        ]
        if not waiting:
            return False
        id = min(waiting, key=self._rank)
        await self._puller.backfill(id)
        await self._tell_progress()
        return True

    def _rank(self, id: str) -> int:
        role = self._roles.get(id)
        return _BACKFILL_ORDER.index(role) if role in _BACKFILL_ORDER else len(_BACKFILL_ORDER)

    async def _poll(self) -> None:
        """Ask the mailboxes that nobody waits in whether anything changed."""
        for id, cursor in list(self._cursors.items()):
            if cursor.phase != "live" or id not in self._cursors_selectable:
                continue
            status = await self._session.status(cursor.name)
            seen = (cursor.uid_validity, cursor.uid_next, cursor.highest_modseq, cursor.exists)
            now = (status.uid_validity, status.uid_next, status.highest_modseq, status.exists)
            if seen != now or status.highest_modseq is None:
                self._dirty[id] = None

    async def _settle_ghosts(self, now_ms: int) -> bool:
        """Destroy what vanished long enough ago; True when something was done."""
        if not self._has_ghosts:
            return False

        async def read(reader: MirrorReader) -> list[RemoteRow]:
            found = []
            for id in self._cursors:
                uids = [uid for uid, _ in await reader.list_remote_uids(id) if uid < 0]
                found.extend(await reader.load_remote(id, uids) if uids else [])
            return found

        ghosts: list[RemoteRow] = await read_mirror(self._services, self._account_id, read, True)
        self._ghosts = {
            key: self._ghosts.get(key, now_ms)
            for key in ((str(row.mailbox_id), row.uid) for row in ghosts)
        }
        self._has_ghosts = bool(ghosts)
        due = [row for row in ghosts if now_ms - self._ghosts[row.mailbox_id, row.uid] >= GHOST_MS]
        if not due:
            if ghosts and all(now_ms == first for first in self._ghosts.values()):
                # Just vanished: perhaps it moved. Look everywhere before believing it is gone.
                self._polled_ms = now_ms
                await self._poll()
                return bool(self._dirty)
            return False

        async def write(tx: Tx) -> None:
            await apply_ghosts(tx, due)

        await transact(self._services, self._account_id, "mirror-ghosts", write, "provider")
        return True

    # -- telling ---------------------------------------------------------------------------------
    def _on_stored(self, mailbox_id: str, count: int) -> None:
        self._held[mailbox_id] = self._held.get(mailbox_id, 0) + count

    async def _count_held(self, mailbox_id: str) -> int:
        async def read(reader: MirrorReader) -> int:
            return sum(1 for uid, _ in await reader.list_remote_uids(mailbox_id) if uid > 0)

        return await read_mirror(self._services, self._account_id, read)

    async def _tell_progress(self, is_final: bool = False) -> None:
        now_ms = self._services.clock.monotonic_ms()
        if not is_final and now_ms - self._told_ms < TELL_MS:
            return
        self._told_ms = now_ms
        cursors = {id: self._cursors[id] for id in self._cursors_selectable if id in self._cursors}
        if all(cursor.phase == "live" for cursor in cursors.values()):
            await self._tell(
                phase="live",
                progress=100,
                lastError=None,
                nextTryAt=None,
                messagesDone=sum(self._held.get(id, 0) for id in cursors),
                messagesTotal=sum(self._held.get(id, 0) for id in cursors),
            )
        else:
            await self._tell(
                phase="backfilling", nextTryAt=None, **count_progress(cursors, self._held)
            )

    async def _read(self, fn: Callable[[StoreReader], Any]) -> Any:
        return await self._services.store.read(self._account_id, fn)
