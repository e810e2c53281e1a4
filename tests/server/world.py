"""A small server world: ports in memory, two users, a clock that only moves when told."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, cast

import obstore.store

from tests.virtual_clock import InlineOffload, SeededRandom, VirtualClock
from tindra.app.local_bus import LocalBus
from tindra.base.byte_cache import ByteCache
from tindra.base.ids import AccountId, ModSeq, UserId
from tindra.core.datatype import (
    CORE,
    CallContext,
    Capability,
    Datatype,
    Feature,
    GetRequest,
    GetResult,
    Method,
    Registry,
)
from tindra.core.errors import Unavailable
from tindra.core.methods.standard import add_standard_methods
from tindra.core.ports import SecretStore
from tindra.core.services import Services
from tindra.model.account import ALL_RIGHTS, Account, Grant, Token, User
from tindra.model.search_feed import SearchFeed
from tindra.model.stored import BlobRow, CommitInfo
from tindra.server.app import Server, make_app
from tindra.server.options import ServerOptions
from tindra.server.password import PasswordCost, make_password_hash
from tindra.server.session_object import CORE_CAPABILITY, WEBSOCKET_CAPABILITY
from tindra.store.blobs.store import Blobs
from tindra.store.drive import drive
from tindra.store.memory.directory import MemoryDirectory
from tindra.store.memory.store import MemoryStore

T = TypeVar("T")
CHEAP = PasswordCost(log_n=4, r=1, p=1)
ADA = UserId("u-ada")
BOB = UserId("u-bob")
MAIL = AccountId("a-mail")
SHARED = AccountId("a-shared")
BOBS = AccountId("a-bobs")
PASSWORD = "correct horse: battery"
BASIC = "Basic " + base64.b64encode(f"ada@example.com:{PASSWORD}".encode()).decode()
BOB_BASIC = "Basic " + base64.b64encode(b"bob@example.com:bobs own secret").decode()


class TestClock(VirtualClock):
    """Time that tests move by hand."""

    __test__ = False

    @property
    def ms(self) -> int:
        return self.monotonic_ms()

    @ms.setter
    def ms(self, value: int) -> None:
        self.advance(value - self.monotonic_ms())


class CountedOffload(InlineOffload):
    """Counts what was sent off the loop."""

    def __init__(self) -> None:
        self.count = 0

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        self.count += 1
        return await super().run(fn, *args)


class WatchedDirectory(MemoryDirectory):
    """Counts reads, opens its rows to the tests, and fails when told."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store.accounts)
        self.users, self.grants, self.tokens = self._users, self._grants, self._tokens
        self.reads = 0
        self.is_down = False

    def _read(self) -> None:
        self.reads += 1
        if self.is_down:
            raise Unavailable("closed")

    async def find_user(self, login: str) -> User | None:
        self._read()
        return await super().find_user(login)

    async def load_user(self, user_id: UserId) -> User | None:
        self._read()
        return await super().load_user(user_id)

    async def load_accounts(self, ids: Sequence[AccountId] | None) -> list[Account]:
        self._read()
        return await super().load_accounts(ids)

    async def list_grants(self, user_id: UserId) -> list[Grant]:
        self._read()
        return await super().list_grants(user_id)

    async def find_token(self, token_hash: bytes) -> Token | None:
        self._read()
        return await super().find_token(token_hash)


class BreakableStore(MemoryStore):
    """Fails when told."""

    is_down = False

    def _check_open(self) -> None:
        if self.is_down:
            raise Unavailable("queue full")
        super()._check_open()

    async def list_due(self, now_ms: int, limit: int, topic: str | None = None) -> list[AccountId]:
        self._check_open()
        return await super().list_due(now_ms, limit, topic)


class BreakableBlobs(Blobs):
    """Fails, or loses everything, when told."""

    failure: Exception | None = None
    is_gone = False

    async def put(self, account_id: AccountId, data: bytes) -> BlobRow:
        if self.failure is not None:
            raise self.failure
        return await super().put(account_id, data)

    async def get(
        self, account_id: AccountId, blob_id: str, start: int = 0, end: int | None = None
    ) -> bytes | None:
        return None if self.is_gone else await super().get(account_id, blob_id, start, end)


class ThingSource:
    """Reads nothing: the server is generic, and so is what it is tested with."""

    async def load_for_get(self, context: CallContext, request: GetRequest) -> GetResult:
        return GetResult("0", [], request.ids or [])


async def run_break(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    raise RuntimeError("a bug in a feature")


def make_registry() -> Registry:
    uri = "urn:example:thing"
    feature = Feature(
        name="thing",
        capabilities=(CORE_CAPABILITY, WEBSOCKET_CAPABILITY, Capability(uri)),
        datatypes=(
            Datatype(
                name="Thing", capability=uri, properties=frozenset({"id"}), source=ThingSource()
            ),
            Datatype(
                name="Secret",
                capability=uri,
                properties=frozenset({"id"}),
                source=ThingSource(),
                is_pushed=False,
            ),
        ),
        methods=(Method("Thing/break", CORE, run_break),),
    )
    registry = Registry([feature])
    add_standard_methods(registry)
    return registry


class World:
    """Everything a test may touch."""

    def __init__(self, **options: Any) -> None:
        self.clock = TestClock()
        self.store = BreakableStore()
        self.directory = WatchedDirectory(self.store)
        self.blobs = BreakableBlobs(self.store, obstore.store.MemoryStore(), self.clock)
        self.bus = LocalBus()
        self.store.on_commit = self.bus.publish
        self.offload = CountedOffload()
        self.registry = make_registry()
        self.reports: list[tuple[str, BaseException]] = []
        self._fill()
        self.services = Services(
            store=self.store,
            directory=self.directory,
            secrets=cast(SecretStore, None),  # the server never asks for secrets
            blobs=self.blobs,
            search=self.store.search,
            feed=SearchFeed(),
            cache=ByteCache(),
            bus=self.bus,
            offload=self.offload,
            clock=self.clock,
            random=SeededRandom(),
            reactions=self.registry.reactions,
        )
        options.setdefault("report", self._report)
        options.setdefault("password_cost", CHEAP)
        self.app: Server = make_app(self.registry, self.services, ServerOptions(**options))

    def _report(self, where: str, error: BaseException) -> str:
        self.reports.append((where, error))
        return "e-1"

    def _fill(self) -> None:
        self.add_user(ADA, "ada@example.com", PASSWORD)
        self.add_user(BOB, "bob@example.com", "bobs own secret")
        self.add_account(MAIL, ADA)
        self.add_account(BOBS, BOB)
        self.add_account(SHARED, BOB)
        self.grant(ADA, SHARED, frozenset({"read"}))

    def add_user(self, id: UserId, login: str, password: str) -> None:
        hash = make_password_hash(password, CHEAP)
        self.directory.users[id] = User(id, login, hash, AccountId("a-home"), 0)

    def add_account(self, id: AccountId, owner: UserId) -> None:
        account = Account(id, f"{id}@example.com", owner, 0)
        drive(self.directory.put_account(account), "put_account")
        self.grant(owner, id, ALL_RIGHTS)

    def grant(self, user: UserId, account: AccountId, rights: frozenset[str]) -> None:
        self.directory.grants[user, account] = Grant(user, account, rights)

    def add_token(self, user: UserId, text: str, kind: str, expires_ms: int | None = None) -> None:
        hash = hashlib.sha256(text.encode()).digest()
        self.directory.tokens[hash] = Token(hash, user, "a device", kind, 0, expires_ms)

    def add_blob(self, account: AccountId, data: bytes) -> str:
        """Works inside a running loop, too."""
        with ThreadPoolExecutor(1) as pool:
            row = pool.submit(asyncio.run, self.blobs.put(account, data)).result()
        return row.id

    def load_blob(self, account: AccountId, blob_id: str) -> bytes | None:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(asyncio.run, self.blobs.get(account, blob_id)).result()

    def commit(self, account: AccountId, modseq: int, *types: str) -> None:
        """A commit of just these types with just this number, and the hint of it."""
        states = {name: ModSeq(modseq) for name in types}
        self.store.accounts[account].states.update(states)
        self.bus.publish(CommitInfo(account, ModSeq(modseq), states))


def write_site(root: Path) -> Path:
    """A web client as a build leaves it."""
    (root / "assets").mkdir(parents=True)
    (root / "index.html").write_text("<!doctype html><title>Tindra</title>" + " " * 2000)
    (root / "assets" / "index-Ab12.js").write_text("console.log('hello');" * 200)
    (root / "favicon.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    return root
