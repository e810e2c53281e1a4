"""A small server world for the tests: stub ports in memory, two users, a clock that only moves when told."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from tindra.base.ids import AccountId, BlobId, ModSeq, UserId
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
from tindra.core.ports import BlobRow, CommitInfo
from tindra.core.services import Services
from tindra.core.session import CORE_CAPABILITY
from tindra.model.account import ALL_RIGHTS, Account, Grant, Token, User
from tindra.server.app import Server, make_app
from tindra.server.options import ServerOptions
from tindra.server.password import PasswordCost, make_password_hash

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


class TestClock:
    """Time that tests move by hand."""

    __test__ = False

    def __init__(self) -> None:
        self.ms = 1_000_000

    def now_ms(self) -> int:
        return 1_700_000_000_000 + self.ms

    def monotonic_ms(self) -> int:
        return self.ms

    async def sleep_ms(self, duration_ms: int) -> None:
        self.ms += duration_ms


class SeededRandom:
    def __init__(self) -> None:
        self._random = random.Random(7)

    def bits(self, count: int) -> int:
        return self._random.getrandbits(count)


class Inline:
    """Offload that runs at once, and counts."""

    def __init__(self) -> None:
        self.count = 0

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        self.count += 1
        return fn(*args)


class StubBus:
    def __init__(self) -> None:
        self.listeners: list[Callable[[CommitInfo], None]] = []

    def publish(self, info: CommitInfo) -> None:
        for listener in list(self.listeners):
            listener(info)

    def subscribe(self, listener: Callable[[CommitInfo], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)


class StubDirectory:
    """The part of the Directory port that the server asks."""

    def __init__(self) -> None:
        self.users: dict[str, User] = {}
        self.accounts: dict[str, Account] = {}
        self.grants: dict[tuple[str, str], Grant] = {}
        self.tokens: dict[bytes, Token] = {}
        self.reads = 0
        self.is_down = False

    def _read(self) -> None:
        self.reads += 1
        if self.is_down:
            raise Unavailable("closed")

    async def find_user(self, login: str) -> User | None:
        self._read()
        return next((user for user in self.users.values() if user.login == login), None)

    async def load_user(self, user_id: UserId) -> User | None:
        self._read()
        return self.users.get(user_id)

    async def put_user(self, user: User) -> None:
        self.users[user.id] = user

    async def load_accounts(self, ids: Sequence[AccountId] | None) -> list[Account]:
        self._read()
        wanted = list(self.accounts) if ids is None else ids
        return [self.accounts[id] for id in wanted if id in self.accounts]

    async def list_grants(self, user_id: UserId) -> list[Grant]:
        self._read()
        return [grant for (user, _), grant in self.grants.items() if user == user_id]

    async def put_grant(self, grant: Grant) -> None:
        self.grants[grant.user_id, grant.account_id] = grant

    async def delete_grant(self, user_id: UserId, account_id: AccountId) -> None:
        self.grants.pop((user_id, account_id), None)

    async def put_token(self, token: Token) -> None:
        self.tokens[token.hash] = token

    async def find_token(self, token_hash: bytes) -> Token | None:
        self._read()
        return self.tokens.get(token_hash)

    async def list_tokens(self, user_id: UserId) -> list[Token]:
        return [token for token in self.tokens.values() if token.user_id == user_id]

    async def delete_token(self, token_hash: bytes) -> None:
        self.tokens.pop(token_hash, None)


class StubReader:
    def __init__(self, states: Mapping[str, ModSeq]) -> None:
        self._states = states

    async def load_states(self) -> Mapping[str, ModSeq]:
        return self._states


class StubStore:
    def __init__(self) -> None:
        self.states: dict[str, dict[str, ModSeq]] = {}
        self.is_down = False

    async def read(
        self, account_id: AccountId, fn: Callable[[Any], Awaitable[T]], *, is_long: bool = False
    ) -> T:
        if self.is_down:
            raise Unavailable("closed")
        return await fn(StubReader(self.states.get(account_id, {})))

    async def list_due(self, now_ms: int, limit: int) -> list[AccountId]:
        if self.is_down:
            raise Unavailable("closed")
        return []


class StubBlobs:
    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], bytes] = {}
        self.failure: Exception | None = None

    async def put(self, account_id: AccountId, data: bytes) -> BlobRow:
        if self.failure is not None:
            raise self.failure
        id = BlobId("B" + hashlib.sha256(account_id.encode() + data).hexdigest()[:40])
        self.rows[account_id, id] = data
        return BlobRow(id, len(data), None, 0)

    async def get(
        self, account_id: AccountId, blob_id: str, start: int = 0, end: int | None = None
    ) -> bytes | None:
        data = self.rows.get((account_id, blob_id))
        return None if data is None else data[start:end]

    async def load_size(self, account_id: AccountId, blob_id: str) -> int | None:
        data = self.rows.get((account_id, blob_id))
        return None if data is None else len(data)


class ThingSource:
    """Reads nothing: the server is generic, and so is what it is tested with."""

    async def load(self, context: CallContext, request: GetRequest) -> GetResult:
        return GetResult("0", [], request.ids or [])


async def run_break(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    raise RuntimeError("a bug in a feature")


def make_registry() -> Registry:
    uri = "urn:example:thing"
    feature = Feature(
        name="thing",
        capabilities=(CORE_CAPABILITY, Capability(uri)),
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
        self.directory = StubDirectory()
        self.store = StubStore()
        self.blobs = StubBlobs()
        self.bus = StubBus()
        self.offload = Inline()
        self.registry = make_registry()
        self.reports: list[tuple[str, BaseException]] = []
        self._fill()
        stubs: dict[str, Any] = {
            "store": self.store,
            "directory": self.directory,
            "blobs": self.blobs,
            "bus": self.bus,
            "offload": self.offload,
            "clock": self.clock,
            "random": SeededRandom(),
            "reactions": {},
        }
        # What the server never asks for may grow without this file.
        for name in Services.__dataclass_fields__:
            stubs.setdefault(name, None)
        self.services = Services(**stubs)
        options.setdefault("report", self._report)
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
        self.directory.accounts[id] = Account(id, f"{id}@example.com", owner, 0)
        self.grant(owner, id, ALL_RIGHTS)

    def grant(self, user: UserId, account: AccountId, rights: frozenset[str]) -> None:
        self.directory.grants[user, account] = Grant(user, account, rights)

    def add_token(self, user: UserId, text: str, kind: str, expires_ms: int | None = None) -> None:
        hash = hashlib.sha256(text.encode()).digest()
        self.directory.tokens[hash] = Token(hash, user, "a device", kind, 0, expires_ms)

    def add_blob(self, account: AccountId, data: bytes) -> str:
        id = "B" + hashlib.sha256(account.encode() + data).hexdigest()[:40]
        self.blobs.rows[account, id] = data
        return id

    def commit(self, account: AccountId, modseq: int, *types: str) -> None:
        """Tell of a commit, as core/tx does after it."""
        states = {name: ModSeq(modseq) for name in types}
        self.store.states.setdefault(account, {}).update(states)
        self.bus.publish(CommitInfo(account, ModSeq(modseq), states))


def write_site(root: Path) -> Path:
    """A web client as a build leaves it."""
    (root / "assets").mkdir(parents=True)
    (root / "index.html").write_text("<!doctype html><title>Tindra</title>" + " " * 2000)
    (root / "assets" / "index-Ab12.js").write_text("console.log('hello');" * 200)
    (root / "favicon.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    return root


def as_any(value: object) -> Any:
    return cast(Any, value)
