"""The World: a whole server in process, and three devices that know only /changes and /get.

*eager* syncs after every step, *early* synced once at the start, *late* is new at the end. On
leaving, all three must equal a full /get, and the store's invariants must hold: a write that
passed the change log by cannot hide.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
import obstore.store

from tests.virtual_clock import InlineOffload, SeededRandom, VirtualClock
from tindra.app.local_bus import LocalBus
from tindra.app.wiring import make_registry
from tindra.base.byte_cache import ByteCache
from tindra.base.ids import AccountId, UserId
from tindra.core.access import Caller, load_caller
from tindra.core.datatype import Registry
from tindra.core.dispatch import encode_response, run_request
from tindra.core.services import Services
from tindra.model.account import ALL_RIGHTS, Account, Grant, User
from tindra.model.search_feed import SearchFeed
from tindra.model.stored import CommitInfo
from tindra.store.blobs.store import Blobs
from tindra.store.memory.store import MemoryStore
from tindra.store.search.index import SqliteSearch
from tindra.store.sqlite.directory import SqliteDirectory
from tindra.store.sqlite.store import SqliteStore
from tindra.store.vault import Vault
from tindra.wire.jmap.request import parse_request

CORE = "urn:ietf:params:jmap:core"
MAIL = "urn:ietf:params:jmap:mail"
SUBMISSION = "urn:ietf:params:jmap:submission"
_SINGLETONS = frozenset({"VacationResponse"})
"""Types whose one object is always there and never made: devices begin with a /get of them."""
_PROPERTIES: dict[str, list[str]] = {
    "Email": ["id", "blobId", "threadId", "mailboxIds", "keywords", "receivedAt", "size", "subject"]
}
Backend = Literal["memory", "sqlite"]
Call = tuple[str, dict[str, Any], str]
_PAGE = {"maxChanges": 7}


def raise_report(where: str, error: BaseException) -> str:
    """An unexpected error in a method fails the test that caused it."""
    raise AssertionError(f"unexpected error in {where}") from error


class Asking:
    """Somebody who makes one method call at a time."""

    async def calls(self, calls: list[Any]) -> list[Any]:
        """Method calls on the account; gives the responses."""
        raise NotImplementedError

    async def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """One method call that must succeed; gives its arguments."""
        [[answered, result, _], *_] = await self.calls([[name, arguments, "0"]])
        assert answered == name, result
        return dict(result)

    async def fail(self, name: str, **arguments: Any) -> dict[str, Any]:
        """One method call that must be refused; gives the error."""
        [[answered, result, _], *_] = await self.calls([[name, arguments, "0"]])
        assert answered == "error", result
        return dict(result)


class World(Asking):
    """One server, one user, one mailbox account (and what a test adds)."""

    def __init__(self, services: Services, registry: Registry, caller: Caller) -> None:
        self.services = services
        self.registry = registry
        self.caller = caller
        self.account_id = next(iter(caller.accounts))
        self.commits: list[CommitInfo] = []
        services.bus.subscribe(self.commits.append)
        self.devices: list[Device] = []

    @property
    def clock(self) -> VirtualClock:
        """The virtual clock."""
        assert isinstance(self.services.clock, VirtualClock)
        return self.services.clock

    async def request(
        self, calls: list[Any], using: list[str] | None = None, **envelope: Any
    ) -> dict[str, Any]:
        """One API request, from bytes to bytes; every device that is eager syncs after it."""
        answer = await self.raw_request(calls, using, **envelope)
        for device in self.devices:
            if device.is_eager:
                await device.sync()
        return answer

    async def raw_request(
        self,
        calls: list[Any],
        using: list[str] | None = None,
        caller: Caller | None = None,
        **envelope: Any,
    ) -> dict[str, Any]:
        """One API request that wakes no device.

        Args:
            caller: who asks, if somebody else.
        """
        capabilities = list(self.registry.capabilities) if using is None else using
        body = msgspec.json.encode({"using": capabilities, "methodCalls": calls} | envelope)
        answer = await run_request(
            self.registry,
            self.services,
            self.caller if caller is None else caller,
            parse_request(body),
            raise_report,
        )
        decoded: dict[str, Any] = msgspec.json.decode(encode_response(answer, "s"))
        return decoded

    async def calls(self, calls: list[Any]) -> list[Any]:
        """Method calls on the account; gives the responses."""
        filled = [[n, {"accountId": self.account_id} | a, i] for n, a, i in calls]
        return list((await self.request(filled))["methodResponses"])

    async def add_mailbox(self, name: str, **properties: Any) -> str:
        """A new Mailbox; gives its id."""
        made = await self.call("Mailbox/set", create={"m": {"name": name} | properties})
        assert made["created"], made
        return str(made["created"]["m"]["id"])

    async def add_email(
        self, mailbox_id: str, raw: bytes, keywords: tuple[str, ...] = (), **properties: Any
    ) -> str:
        """Import a message; gives the Email's id."""
        blob = await self.services.blobs.put(self.account_id, raw)
        email = {
            "blobId": blob.id,
            "mailboxIds": {mailbox_id: True},
            "keywords": dict.fromkeys(keywords, True),
        } | properties
        made = await self.call("Email/import", emails={"e": email})
        assert made["created"], made
        return str(made["created"]["e"]["id"])

    async def check(self) -> None:
        """What must hold at the end of every test."""
        self.devices.append(Device(self))
        for device in self.devices:
            await device.sync()
        everything = await self.load_all()
        for device in self.devices:
            assert device.objects == everything, "a device did not converge"
        for account_id in self.caller.accounts:
            await self.services.store.check_invariants(account_id)

    def list_places(self) -> dict[str, AccountId]:
        """Every type of the registry that can be synced -> the account that a device has it in: the
        World's, or the home account for what is there alone."""
        found: dict[str, AccountId] = {}
        for account_id in (self.account_id, self.caller.user.home_account_id):
            access = self.caller.accounts.get(account_id)
            if access is None:
                continue
            supported = self.registry.list_account_capabilities(self.caller, access)
            for name, datatype in self.registry.datatypes.items():
                if datatype.capability in supported and f"{name}/changes" in self.registry.methods:
                    found.setdefault(name, account_id)
        return found

    async def load_all(self) -> dict[str, dict[str, Any]]:
        """Every object of every type, by /get."""
        return await self._load(self.list_places())

    async def load_type(self, name: str) -> dict[str, Any]:
        """Every object of a type, by /get."""
        return (await self._load({name: self.list_places()[name]}))[name]

    async def _load(self, places: dict[str, AccountId]) -> dict[str, dict[str, Any]]:
        calls = [[f"{n}/get", {"accountId": id} | _wanted(n), n] for n, id in places.items()]
        found = {}
        for answered, result, name in (await self.raw_request(calls))["methodResponses"]:
            assert answered == f"{name}/get", result
            found[name] = {obj["id"]: obj for obj in result["list"]}
        return found


def _wanted(name: str) -> dict[str, Any]:
    return {"properties": _PROPERTIES[name]} if name in _PROPERTIES else {}


class Device:
    """A client that keeps a cache by /changes and /get, and never asks for everything again."""

    def __init__(self, world: World, is_eager: bool = False) -> None:
        self._world = world
        self.is_eager = is_eager
        self.objects: dict[str, dict[str, Any]] = {}
        self._states: dict[str, str] = {}

    async def sync(self) -> None:
        """Catch up with every type, in pages small enough that paging is always exercised."""
        places = self._world.list_places()
        for name in places:
            if name not in self.objects:
                is_single = name in _SINGLETONS
                self.objects[name] = await self._world.load_type(name) if is_single else {}
                self._states[name] = "0"
        names = list(places)
        while names:
            names = await self._sync_page({name: places[name] for name in names})

    async def _sync_page(self, places: dict[str, AccountId]) -> list[str]:
        """One page of each of these types; gives those that have more."""
        calls = [
            [f"{name}/changes", {"accountId": id, "sinceState": self._states[name]} | _PAGE, name]
            for name, id in places.items()
        ]
        answer = await self._world.raw_request(calls)
        gets: list[Any] = []
        more: list[str] = []
        for answered, changes, name in answer["methodResponses"]:
            assert answered == f"{name}/changes", changes
            self._check_page(name, changes)
            wanted = [*changes["created"], *changes["updated"]]
            if wanted:
                get = {"accountId": places[name], "ids": wanted} | _wanted(name)
                gets.append([f"{name}/get", get, name])
            if changes["hasMoreChanges"]:
                more.append(name)
            self._states[name] = changes["newState"]
        if gets:
            for answered, result, name in (await self._world.raw_request(gets))["methodResponses"]:
                assert answered == f"{name}/get", result
                self.objects[name].update({obj["id"]: obj for obj in result["list"]})
        return more

    def _check_page(self, name: str, changes: dict[str, Any]) -> None:
        """What is told fits with what was told before; what is destroyed goes."""
        # Inside of a paging nobody knows whether an earlier page was made before or after the end
        # of what was made and destroyed meanwhile; RFC 8620 s5.2 lets it be told as destroyed.
        is_paging = "." in self._states[name]
        for id in changes["destroyed"]:
            is_known = self.objects[name].pop(id, None) is not None
            assert is_known or is_paging, f"{name} {id} destroyed, but never told of"
        for id in changes["created"]:
            assert id not in self.objects[name], f"{name} {id} created twice"


async def make_services(backend: Backend, folder: Path, registry: Registry) -> Services:
    """All ports on one backend, with virtual time."""
    clock = VirtualClock()
    store: Any
    if backend == "memory":
        store = MemoryStore()
        directory: Any = store.directory
        search: Any = store.search
        blobs = store.make_blobs(clock)
    else:
        store = await SqliteStore.open(folder / "tindra.sqlite")
        directory = SqliteDirectory(store)
        search = SqliteSearch(store)
        blobs = Blobs(store, obstore.store.LocalStore(folder / "blobs", mkdir=True), clock)
    bus = LocalBus()
    store.on_commit = bus.publish
    return Services(
        store=store,
        directory=directory,
        secrets=Vault(store, folder / "master.key"),
        blobs=blobs,
        search=search,
        feed=SearchFeed(),
        cache=ByteCache(),
        bus=bus,
        offload=InlineOffload(),
        clock=clock,
        random=SeededRandom(),
        reactions=registry.reactions,
    )


async def add_user(services: Services, login: str, accounts: int = 1) -> Caller:
    """A user with mailbox accounts of their own."""
    user = User(UserId(f"u-{login}"), login, "", AccountId(f"home-{login}"), 0)
    await services.directory.put_user(user)
    for number in range(accounts):
        account_id = AccountId(f"a{number}-{login}")
        await services.directory.put_account(Account(account_id, login, user.id, number))
        await services.directory.put_grant(Grant(user.id, account_id, ALL_RIGHTS))
    return await load_caller(services.directory, user, services.clock.now_ms())


@asynccontextmanager
async def open_world(backend: Backend, folder: Path) -> AsyncIterator[World]:
    """A World with its three devices; checks it on leaving."""
    registry = make_registry()
    services = await make_services(backend, folder, registry)
    try:
        world = World(services, registry, await add_user(services, "alex"))
        early = Device(world)
        await early.sync()
        world.devices = [Device(world, is_eager=True), early]
        yield world
        await world.check()
    finally:
        await services.store.close()
