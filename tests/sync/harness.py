"""An account that mirrors our own provider over real sockets, and what both sides hold.

`settle` waits until nothing is left to do, by looking; a test never sleeps for a guessed time.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import tests.world as world_module
from tests.connection_fixture import add_connection
from tests.virtual_clock import SeededRandom
from tests.world import Backend, Device, World, add_user, make_services
from tindra.app.demo.faults import Faults
from tindra.app.demo.imap_store import Folder
from tindra.app.demo.provider import DemoProvider
from tindra.app.mirrors import Mirrors
from tindra.app.system import SystemClock
from tindra.app.wiring import make_registry
from tindra.base.ids import AccountId
from tindra.core.ports import StoreReader
from tindra.core.services import Services
from tindra.features.connect import Endpoint, load_connections
from tindra.model.blob import make_blob_id
from tindra.model.mail import EmailQuery, EmailRow, MailboxRow
from tindra.model.stored import CommitInfo
from tindra.outside.imap.provider import ImapProvider
from tindra.sync.apply import list_ghosts, read_mirror
from tindra.sync.cursor import load_cursors
from tindra.sync.intents import EMAIL_TOPIC, MAILBOX_TOPIC, NEVER_MS
from tindra.sync.mirror import MirrorReader
from tindra.sync.patience import Pace
from tindra.sync.plan import make_keywords
from tindra.sync.ports import MailProvider

FAST = Pace(poll_ms=150, ghost_ms=200, tell_ms=0, rest_ms_max=150)
"""Everything that takes minutes in life, in tenths of a second."""
SETTLE_S_MAX = 120.0
"""Far more than anything takes, however busy the machine: only what waits for ever gets there."""
STOP_S_MAX = 60.0
Held = dict[str, dict[str, tuple[str, ...]]]
"""Path -> content -> keywords."""


def make_mail(number: int, body: str = "Hello") -> bytes:
    """A small message; the same number and body give the same octets."""
    return (
        f"From: Ann <ann@example.test>\r\nTo: me@example.test\r\nSubject: Mail {number}\r\n"
        f"Message-ID: <{number}@example.test>\r\nDate: Tue, 1 Sep 2026 10:00:00 +0000\r\n"
        f"\r\n{body} {number}\r\n"
    ).encode()


class PatientDevice(Device):
    """A device that is not surprised by the end of an Email it never heard of: one that was made,
    changed and destroyed while it read /changes page by page. Source: RFC 8620 s5.2 (SHOULD)"""

    async def _sync_page(self, places: dict[str, AccountId]) -> list[str]:
        return [name for name in places if await self._sync_type(name)]

    async def _sync_type(self, name: str) -> bool:
        arguments = {"sinceState": self._states[name], "maxChanges": 50}
        [[_, changes, _], [_, made, _], [_, updated, _]] = await self._ask(
            [f"{name}/changes", arguments, "0"],
            [f"{name}/get", _referring(name, "/created"), "1"],
            [f"{name}/get", _referring(name, "/updated"), "2"],
        )
        for id in changes["destroyed"]:
            self.objects[name].pop(id, None)
        found = [*made["list"], *updated["list"]]
        self.objects[name].update({obj["id"]: obj for obj in found})
        self._states[name] = changes["newState"]
        return bool(changes["hasMoreChanges"])

    async def _ask(self, *calls: list[Any]) -> list[Any]:
        account = {"accountId": self._world.account_id}
        filled = [[name, account | arguments, id] for name, arguments, id in calls]
        return list((await self._world.raw_request(filled))["methodResponses"])


def _referring(name: str, path: str) -> dict[str, Any]:
    wanted = world_module._wanted(name)
    return wanted | {"#ids": {"resultOf": "0", "name": f"{name}/changes", "path": path}}


class PatientWorld(World):
    """A World whose devices are patient."""

    async def check(self) -> None:
        self.devices.append(PatientDevice(self))
        for device in self.devices:
            await device.sync()
            assert device.objects == await self.load_all(), "a device did not converge"
        await self.services.store.check_invariants(self.account_id)


class Mirrored:
    """A World whose account is connected to some provider."""

    def __init__(self, world: World, imap: MailProvider, pace: Pace) -> None:
        self.world = world
        self.imap = imap
        self.pace = pace
        self.smtp: Endpoint | None = None
        """Where mail is sent, if anywhere."""
        self.connection_id = ""
        self.unexpected: list[BaseException] = []
        self.is_error_expected = False
        self.statuses: list[dict[str, Any]] = []
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._told = 0

    @property
    def services(self) -> Services:
        return self.world.services

    @property
    def endpoint(self) -> Endpoint:
        raise NotImplementedError

    @property
    def password(self) -> str:
        raise NotImplementedError

    async def load_remote(self) -> Held:
        """What the provider has; twins must agree about their flags."""
        raise NotImplementedError

    # -- the mirror ------------------------------------------------------------------------------
    async def connect(self, password: str | None = None) -> None:
        """Add the Connection and start mirroring."""
        self.connection_id = await add_connection(
            self.services,
            self.world.account_id,
            "me@example.test",
            (self.endpoint, self.password if password is None else password),
            None if self.smtp is None else (self.smtp, self.password),
        )
        self.start()

    def start(self) -> None:
        """Mirror, as a server that was just started does."""
        assert self._task is None
        self._task = asyncio.ensure_future(self._run())

    async def start_and_look(self) -> None:
        """Mirror, and wait until everything was asked for once."""
        self._told = 0
        self.start()

        async def has_looked() -> bool:
            # It says that it connects, and then what it found; before, the old words stand there.
            return self._told >= 2 and (await self.status())["phase"] == "live"

        await self.wait_until(has_looked, lambda: "it never came to live")
        await self.settle()

    async def stop(self) -> None:
        """End mirroring at once, whatever it is doing."""
        if self._task is not None:
            self._task.cancel()
            _, late = await asyncio.wait([self._task], timeout=STOP_S_MAX)
            assert not late, "the mirror would not end"
            task, self._task = self._task, None
            error = None if task.cancelled() else task.exception()
            if error is not None:
                self.unexpected.append(error)

    def kill(self) -> None:
        """End mirroring without waiting for the end of it."""
        assert self._task is not None
        self._task.cancel()

    async def wait_for_end(self, has_ended: Callable[[], bool]) -> None:
        """Wait until the mirror was killed, or both sides agree."""

        async def is_over() -> bool:
            return has_ended() or not await self.list_open()

        await self.wait_until(is_over, lambda: "neither killed nor settled")

    async def _run(self) -> None:
        def hear(info: CommitInfo) -> None:
            if "Connection" in info.states:
                self._told += 1
                self._changed.set()

        unsubscribe = self.services.bus.subscribe(hear)
        try:
            async with asyncio.TaskGroup() as group:
                mirrors = Mirrors(self.services, self.imap, group, self._report, self.pace)
                while True:
                    await mirrors.match(self.world.account_id)
                    await self._note_status()
                    await self._changed.wait()
                    self._changed.clear()
        finally:
            unsubscribe()

    async def _note_status(self) -> None:
        found = await load_connections(self.services, self.world.account_id)
        if self.connection_id in found:
            self.statuses.append(found[self.connection_id])

    def _report(self, where: str, error: BaseException) -> str:
        self.unexpected.append(error)
        return "id"

    async def status(self) -> dict[str, Any]:
        """The Connection as devices see it."""
        answer = await self.world.raw_request(
            [["Connection/get", {"accountId": self.world.account_id, "ids": None}, "0"]]
        )
        found: dict[str, Any] = answer["methodResponses"][0][1]["list"][0]
        return found

    async def wait_for_status(self, **wanted: Any) -> dict[str, Any]:
        """The Connection once it says so; a callable is asked whether a value will do."""

        async def is_there() -> bool:
            status = await self.status()
            return all(
                value(status[name]) if callable(value) else status[name] == value
                for name, value in wanted.items()
            )

        await self.wait_until(is_there, lambda: f"the status never became {wanted}")
        return await self.status()

    # -- both sides ------------------------------------------------------------------------------
    async def hold_local(self) -> Held:
        """What devices see: path -> content -> keywords."""

        async def read(reader: StoreReader) -> tuple[list[MailboxRow], list[EmailRow]]:
            docs, _ = await reader.query_emails(EmailQuery(), None, False)
            return await reader.load_mailboxes(), await reader.load_emails(docs)

        mailboxes, emails = await self.services.store.read(self.world.account_id, read)
        paths = _make_paths(mailboxes)
        held: Held = {path: {} for path in paths.values()}
        for email in emails:
            for id in email.mailbox_ids:
                held[paths[id]][email.blob_id] = email.keywords
        return held

    async def find_ids(self) -> dict[str, str]:
        """Content -> Email id."""
        answer = await self.world.raw_request(
            [["Email/query", {"accountId": self.world.account_id, "limit": 1000}, "0"]]
        )
        ids = answer["methodResponses"][0][1]["ids"]
        get = {"accountId": self.world.account_id, "ids": ids, "properties": ["blobId"]}
        answer = await self.world.raw_request([["Email/get", get, "0"]])
        return {obj["blobId"]: obj["id"] for obj in answer["methodResponses"][0][1]["list"]}

    async def find_mailboxes(self) -> dict[str, str]:
        """Path -> Mailbox id."""

        async def read(reader: StoreReader) -> list[MailboxRow]:
            return await reader.load_mailboxes()

        rows = await self.services.store.read(self.world.account_id, read)
        return {path: id for id, path in _make_paths(rows).items()}

    async def list_open(self) -> list[str]:
        """What keeps both sides from being in agreement; empty when they are."""

        async def read(reader: MirrorReader) -> list[str]:
            cursors = await load_cursors(reader)
            intents = [
                *await reader.list_outbox(EMAIL_TOPIC, NEVER_MS, 1000),
                *await reader.list_outbox(MAILBOX_TOPIC, NEVER_MS, 1000),
            ]
            ghosts = await list_ghosts(reader, cursors)
            return [
                *(
                    f"{cursor.name} is {cursor.phase}"
                    for cursor in cursors.values()
                    if cursor.phase != "live" and cursor.selectable
                ),
                *(f"intent {row.key}: {row.last_error}" for row in intents),
                *(f"ghost {row.email_id}" for row in ghosts),
            ]

        found = await read_mirror(self.services, self.world.account_id, read)
        local, remote = await self.hold_local(), await self.load_remote()
        for path in sorted(local.keys() | remote.keys()):
            here, there = local.get(path), remote.get(path)
            if here != there:
                found.append(f"{path}: local {_short(here)}, remote {_short(there)}")
        return found

    async def settle(self) -> None:
        """Wait until both sides hold the same, and nothing is left to do."""
        last: list[str] = []

        async def is_settled() -> bool:
            last[:] = await self.list_open()
            return not last

        await self.wait_until(is_settled, lambda: "still open: " + "; ".join(last[:10]))

    async def wait_until(self, is_there: Callable[[], Any], tell: Callable[[], str]) -> None:
        """Look again and again. Raises: AssertionError after a while."""
        loop = asyncio.get_running_loop()
        until = loop.time() + SETTLE_S_MAX
        while not await is_there():
            assert self.is_error_expected or not self.unexpected, self.unexpected
            assert loop.time() < until, tell()
            await asyncio.sleep(0.02)

    # -- acts ------------------------------------------------------------------------------------
    async def id_of(self, number: int, body: str = "Hello") -> str:
        return (await self.find_ids())[make_blob_id(make_mail(number, body))]

    async def update(self, id: str, **patch: Any) -> None:
        """Email/set update that must succeed; `a__b` stands for the path a/b."""
        fields = {name.replace("__", "/"): value for name, value in patch.items()}
        result = await self.world.call("Email/set", update={id: fields})
        assert result["updated"] == {id: None}, result

    async def move(self, id: str, *paths: str) -> None:
        """Put an Email into exactly these Mailboxes."""
        mailboxes = await self.find_mailboxes()
        wanted = {mailboxes[path]: True for path in paths}
        result = await self.world.call("Email/set", update={id: {"mailboxIds": wanted}})
        assert result["updated"] == {id: None}, result

    async def destroy(self, id: str) -> None:
        result = await self.world.call("Email/set", destroy=[id])
        assert result["destroyed"] == [id], result

    async def import_mail(self, number: int, path: str, *keywords: str) -> str:
        mailboxes = await self.find_mailboxes()
        return await self.world.add_email(mailboxes[path], make_mail(number), keywords)


class Harness(Mirrored):
    """Connected to our own provider, whose faults can be switched."""

    def __init__(self, world: World, demo: DemoProvider, imap: MailProvider, pace: Pace) -> None:
        super().__init__(world, imap, pace)
        self.demo = demo

    @property
    def faults(self) -> Faults:
        return self.demo.faults

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("127.0.0.1", self.demo.imap_port, "none", self.demo.username)

    @property
    def password(self) -> str:
        return self.demo.password

    async def load_remote(self) -> Held:
        return self.hold_remote()

    def hold_remote(self) -> Held:
        """What the provider has; twins must agree about their flags."""
        held: Held = {}
        for name, folder in self.demo.store.folders.items():
            content: dict[str, tuple[str, ...]] = {}
            for message in folder.messages.values():
                key, keywords = make_blob_id(message.raw), make_keywords(message.flags)
                if content.setdefault(key, keywords) != keywords:
                    content[key] = ("twins differ",)
            held[name] = content
        return held

    async def begin(self, count: int) -> None:
        """Mirror an inbox of so many messages."""
        for number in range(count):
            self.deliver(number)
        await self.connect()
        await self.settle()

    def folder(self, name: str = "INBOX") -> Folder:
        return self.demo.folder(name)

    def deliver(self, number: int, folder: str = "INBOX", flags: Iterable[str] = ()) -> int:
        return self.demo.deliver(make_mail(number), folder, flags)

    def uid_of(self, number: int, folder: str = "INBOX", body: str = "Hello") -> int:
        raw = make_mail(number, body)
        return next(uid for uid, m in self.folder(folder).messages.items() if m.raw == raw)


def _short(content: dict[str, tuple[str, ...]] | None) -> str:
    if content is None:
        return "none"
    return str({key[:6]: " ".join(words) for key, words in sorted(content.items())})


def _make_paths(rows: Iterable[MailboxRow]) -> dict[str, str]:
    by_id = {str(row.id): row for row in rows}

    def path(row: MailboxRow) -> str:
        name = "INBOX" if row.role == "inbox" else row.name
        return name if row.parent_id is None else f"{path(by_id[row.parent_id])}/{name}"

    return {id: path(row) for id, row in by_id.items()}


@asynccontextmanager
async def open_patient_world(
    backend: Backend, folder: Path, wrap: Callable[[Services], Services] | None = None
) -> AsyncIterator[World]:
    """A World in real time; checked on leaving."""
    registry = make_registry()
    services = dataclasses.replace(
        await make_services(backend, folder, registry), clock=SystemClock(), random=SeededRandom()
    )
    if wrap is not None:
        services = wrap(services)
    try:
        world = PatientWorld(services, registry, await add_user(services, "alex"))
        early = PatientDevice(world)
        await early.sync()
        world.devices = [PatientDevice(world, is_eager=True), early]
        yield world
        await world.check()
    finally:
        await services.store.close()


@asynccontextmanager
async def open_harness(
    backend: Backend,
    folder: Path,
    *,
    count: int = 0,
    faults: Faults | None = None,
    pace: Pace = FAST,
    wrap: Callable[[Services], Services] | None = None,
) -> AsyncIterator[Harness]:
    """A Harness that is not connected yet; its World is checked on leaving."""
    demo = DemoProvider(SystemClock(), message_count=count, faults=faults)
    await demo.start()
    try:
        async with open_patient_world(backend, folder, wrap) as world:
            harness = Harness(world, demo, ImapProvider(), pace)
            try:
                yield harness
            finally:
                await harness.stop()
            assert not harness.unexpected, harness.unexpected
    finally:
        await demo.stop()
