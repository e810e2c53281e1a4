"""What a feature hands in: datatypes, methods, reactions; and the registry that joins them.

A Datatype says how one JMAP type is loaded, written and queried; the six standard methods of
RFC 8620 s5 are generated from it (`core/methods`). Two features that claim one name are a bug
found at start.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from tindra.base import limits
from tindra.base.ids import AccountId, ModSeq
from tindra.core.access import Access, Caller
from tindra.core.errors import MethodError
from tindra.core.part import Narrow
from tindra.core.ports import Page, StoreReader
from tindra.core.services import Services
from tindra.core.tx import Reaction, Tx
from tindra.model.email_property import PropertyChange, PropertyPlan

CORE = "urn:ietf:params:jmap:core"
COLLATIONS = ("i;ascii-casemap", "i;unicode-casemap")
"""Both compare without case. Source: RFC 8620 s2"""


@dataclass
class CallContext:
    """One API request on its way through its method calls."""

    services: Services
    registry: Registry
    caller: Caller
    using: frozenset[str]
    created_ids: dict[str, str]
    """creation id -> id, over all calls so far and those the request brought. RFC 8620 s3.3"""
    reference_bytes_left: int = limits.REQUEST_BYTES_MAX
    """What result references stand for and walk over is bounded as if it had been sent."""
    whole_services: Services | None = None
    """For what the server does by itself on the way (indexing), whatever the caller may see."""

    def spend_reference(self, count: int) -> None:
        """Raises: MethodError invalidResultReference."""
        self.reference_bytes_left -= count
        if self.reference_bytes_left < 0:
            raise MethodError("invalidResultReference", "what is referred to is too large")

    def resolve(self, id: str) -> str:
        """An id, or "#" and a creation id of an object made before. Source: RFC 8620 s5.3

        An unknown creation id comes back as it is, and will be found to name nothing.
        """
        return self.created_ids.get(id[1:], id) if id.startswith("#") else id


class GetRequest(NamedTuple):
    """A /get after its generic arguments were checked."""

    account_id: AccountId
    ids: list[str] | None
    """Unique; None for all."""
    properties: list[str] | None
    """Known names without repeats, always with "id"; None for the defaults of the type."""
    arguments: dict[str, Any]
    """What else the type takes (checked names, unchecked values)."""


class GetResult(NamedTuple):
    """What a Source found; `objects` are dicts or msgspec.Raw JSON objects."""

    state: str
    objects: list[Any]
    not_found: list[str]


class Source(Protocol):
    """How objects of a type are read."""

    async def load_for_get(self, context: CallContext, request: GetRequest) -> GetResult:
        """The objects asked for, read together with their state."""


class SetContext(NamedTuple):
    """What a Writer may need beside the transaction."""

    tx: Tx
    call: CallContext
    access: Access
    arguments: dict[str, Any]
    """What else the type takes in /set."""
    prepared: dict[str, Any]
    """Loaded by other means before the transaction began (Writer.prepare)."""

    def resolve(self, id: str) -> str:
        """As CallContext.resolve."""
        return self.call.resolve(id)


class SetRequest(NamedTuple):
    """A /set after its generic arguments were checked."""

    create: dict[str, dict[str, Any]]
    update: dict[str, dict[str, Any]]
    destroy: list[str]
    arguments: dict[str, Any]


IS_BEGUN = "isBegun"
"""Of what is prepared for a /set: its ifInState is not compared again."""


class Writer(Protocol):
    """How objects of a type are written. Each method raises SetError to refuse one object, and
    must do so before it writes anything of that object. By default `prepare` and `finish` do
    nothing, for writers that inherit them."""

    async def prepare(
        self, call: CallContext, account_id: AccountId, request: SetRequest
    ) -> dict[str, Any]:
        """Anything that may not happen inside a transaction: reading and storing blobs.

        With IS_BEGUN it has compared ifInState, and written, in transactions of its own.
        """
        return {}

    async def load(self, context: SetContext, ids: Sequence[str]) -> dict[str, Any]:
        """The objects to update or destroy, as this writer likes them; unknown ids left out.

        They are destroyed in the order in which they stand here."""

    async def create(
        self, context: SetContext, creation_id: str, obj: dict[str, Any]
    ) -> dict[str, Any]:
        """Make one object; gives its id and all properties the server set or defaulted."""

    async def update(
        self, context: SetContext, id: str, before: Any, patch: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Change one object; gives the properties that became something else than the client
        asked for, or None."""

    async def destroy(self, context: SetContext, id: str, before: Any) -> None:
        """Remove one object."""

    async def finish(
        self, context: SetContext, answer: dict[str, Any]
    ) -> list[tuple[str, dict[str, Any]]]:
        """After all objects, still inside the transaction; gives implicit calls that must follow
        (onSuccessUpdateEmail), which run as calls of their own with the same call id."""
        return []


class Affected(NamedTuple):
    """Ids whose place in a result may have changed, with those destroyed."""

    ids: set[str]
    there: set[str] | None = None
    """Those of them that are in the result now; None: unknown."""


class QueryPlan(Protocol):
    """A parsed and checked filter and sort of one type."""

    can_calculate_changes: bool

    async def list_ids(
        self, context: CallContext, account_id: AccountId, window: QueryWindow
    ) -> QueryAnswer:
        """The beginning of the result, with the state it was read at."""

    async def list_affected(
        self, reader: StoreReader, since: ModSeq, limit: int
    ) -> Affected | None:
        """What changed after `since`; None when there are more than `limit` ids."""


class QueryWindow(NamedTuple):
    """How much of a result is needed."""

    stop: int | None
    """The first so many; None for all."""
    has_total: bool
    until: Set[str] | None = None
    """Fewer will do, if they hold all of these."""
    page: Page[str] | None = None
    """Only this is shown: a plan that can find it alone says where it begins."""


class QueryAnswer(NamedTuple):
    """The beginning of a query's result, or a page of it."""

    ids: list[str]
    total: int | None
    state: ModSeq
    suffix: str = ""
    """Makes the state one of a kind, for a result that may change without any object changing."""
    position: int | None = None
    """Of the first of `ids`, when they are the page; None: they are the beginning."""


class Querier(Protocol):
    """How a type is queried."""

    def plan_query(
        self, filter: Any, sort: list[dict[str, Any]] | None, arguments: dict[str, Any]
    ) -> QueryPlan:
        """Raises: MethodError invalidArguments, unsupportedFilter, unsupportedSort."""


@dataclass(frozen=True, kw_only=True)
class Datatype:
    """One JMAP type."""

    name: str
    capability: str
    properties: frozenset[str]
    """Every name that /get may ask for (dynamic ones aside)."""
    source: Source
    writer: Writer | None = None
    querier: Querier | None = None
    is_property: Callable[[str], bool] | None = None
    """Says yes to names that are not in `properties` (header:...)."""
    get_arguments: frozenset[str] = frozenset()
    set_arguments: frozenset[str] = frozenset()
    query_arguments: frozenset[str] = frozenset()
    right: str = "triage"
    """What a caller must hold to /set it."""
    list_updated_properties: Callable[[StoreReader, ModSeq], Awaitable[list[str] | None]] | None = (
        None
    )
    """Mailbox/changes: the only properties that changed, when that is known (RFC 8621 s2.2)."""
    is_pushed: bool = True
    """Whether its state is told to devices."""
    supports_parts: bool = False
    """Its methods know what to do for who sees only some Mailboxes of the account."""


Handler = Callable[
    [CallContext, dict[str, Any]], Awaitable["dict[str, Any] | list[tuple[str, dict[str, Any]]]"]
]


@dataclass(frozen=True)
class Method:
    """One method: its name, the capability that brings it, what runs."""

    name: str
    capability: str
    handler: Handler
    supports_parts: bool = False
    """As of a Datatype."""


class PropertyWriter(Protocol):
    """How a device sets a property that one feature adds to Email."""

    async def plan(self, tx: Tx, call: CallContext, change: PropertyChange) -> PropertyPlan:
        """Check everything, after all else of the Email was. Raises: SetError."""

    async def apply(self, tx: Tx, id: str, stored: Any) -> None:
        """Write the property of one Email; its own row may be written before or after."""


@dataclass(frozen=True)
class PropertyExtension:
    """A property that one feature adds to the type of another, computed when asked for."""

    type_name: str
    name: str
    capability: str
    load: Callable[[CallContext, AccountId, list[str]], Awaitable[dict[str, Any]]]
    """id -> value, for the ids that exist."""
    writer: PropertyWriter | None = None
    """None: devices cannot set it. Only for Email."""


@dataclass(frozen=True)
class Capability:
    """What the Session object says of one capability. Source: RFC 8620 s2"""

    uri: str
    session: Mapping[str, Any] = field(default_factory=dict)
    account: Mapping[str, Any] = field(default_factory=dict)
    is_of_mailbox: bool = False
    """Only for accounts that hold mail: not for the home account of someone who has others."""
    supports_parts: bool = False
    """Also for accounts of which the caller sees only some Mailboxes."""
    is_in_session: bool = True
    """False: only accounts name it."""
    load_account: Callable[[Caller, Access], Mapping[str, Any] | None] | None = None
    """What an account says of it, where that depends on whose it is; None for nothing."""


TimerHandler = Callable[[Services, AccountId, str, Any], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Feature:
    """Everything one file in `features/` brings; one line in `features.ALL` adds it."""

    name: str
    capabilities: tuple[Capability, ...] = ()
    datatypes: tuple[Datatype, ...] = ()
    methods: tuple[Method, ...] = ()
    properties: tuple[PropertyExtension, ...] = ()
    reactions: Mapping[str, Reaction] = field(default_factory=dict)
    """Type name -> what to do inside the transaction that changed objects of it."""
    timers: Mapping[str, TimerHandler] = field(default_factory=dict)
    """Timer kind -> what to do when one is due (in a transaction of its own)."""
    narrow: Narrow | None = None
    """What who sees a part of an account reads; one feature has it."""


class Registry:
    """All features joined; every name has one owner."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = tuple(features)
        self.capabilities: dict[str, Capability] = {}
        self.datatypes: dict[str, Datatype] = {}
        self.methods: dict[str, Method] = {}
        self.extensions: dict[str, dict[str, PropertyExtension]] = {}
        self.reactions: dict[str, list[Reaction]] = {}
        self.timers: dict[str, TimerHandler] = {}
        self.narrow = next((feature.narrow for feature in features if feature.narrow), None)
        for feature in features:
            self._add(feature)

    def _add(self, feature: Feature) -> None:
        for capability in feature.capabilities:
            _put_once(self.capabilities, capability.uri, capability)
        for datatype in feature.datatypes:
            _put_once(self.datatypes, datatype.name, datatype)
        for method in feature.methods:
            self.add_method(method)
        for extension in feature.properties:
            _put_once(
                self.extensions.setdefault(extension.type_name, {}), extension.name, extension
            )
        for type_name, reaction in feature.reactions.items():
            self.reactions.setdefault(type_name, []).append(reaction)
        for kind, handler in feature.timers.items():
            _put_once(self.timers, kind, handler)

    def list_account_capabilities(self, caller: Caller, access: Access) -> dict[str, Any]:
        """accountCapabilities of one account. Source: RFC 8620 s2"""
        is_bare_home = caller.is_bare_home(access.account.id)
        found: dict[str, Any] = {}
        for one in self.capabilities.values():
            is_out = access.is_partial and not one.supports_parts
            if is_out or (is_bare_home and one.is_of_mailbox):
                continue
            value = one.account if one.load_account is None else one.load_account(caller, access)
            if value is not None:
                found[one.uri] = value
        return found

    def add_method(self, method: Method) -> None:
        """Register one more method; `core/methods` adds the standard ones by it."""
        _put_once(self.methods, method.name, method)


def _put_once(table: dict[str, Any], name: str, value: Any) -> None:
    assert name not in table, f"two features claim {name!r}"
    table[name] = value
