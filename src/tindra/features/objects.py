"""Small types: everything about them from one table of properties.

Objects are JSON in the shared object table, so a new type needs no migration. `ObjectType` is
Source, Writer and Querier at once; a feature adds rules by hooks. Types with more than
OBJECTS_PER_TYPE_MAX objects in an account do not belong here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec

from tindra.base.ids import AccountId, ModSeq
from tindra.core.arguments import check_names
from tindra.core.datatype import (
    Affected,
    CallContext,
    GetRequest,
    GetResult,
    QueryAnswer,
    QueryWindow,
    SetContext,
    Writer,
)
from tindra.core.errors import MethodError, SetError
from tindra.core.ports import Cursor, StoreReader
from tindra.core.services import Services
from tindra.core.state import encode_state
from tindra.model.stored import ObjectRow
from tindra.wire.jmap.filter import Condition, Match, plan_filter
from tindra.wire.jmap.pointer import PatchError, apply_patch

REQUIRED: Any = object()
"""As a default: the client must give the property."""


@dataclass(frozen=True)
class Property:
    """One property of a small type."""

    type: Any
    """What msgspec.convert takes: str, bool, int | None, list[SomeStruct] ..."""
    default: Any = REQUIRED
    is_immutable: bool = False
    is_server_set: bool = False
    is_internal: bool = False
    """Devices never see it; `is_server_set`, too."""

    def __post_init__(self) -> None:
        assert self.is_server_set or not self.is_internal, "who cannot see it cannot set it"

    @property
    def fallback(self) -> Any:
        """What a property has that was not given."""
        return None if self.default is REQUIRED else self.default


def server_set(type: Any, default: Any = None) -> Property:
    """What only the server sets, and devices see."""
    return Property(type, default, is_server_set=True)


def internal(type: Any, default: Any) -> Property:
    """What devices neither set nor see."""
    return Property(type, default, is_server_set=True, is_internal=True)


Check = Callable[[SetContext, dict[str, Any] | None, dict[str, Any] | None], Awaitable[None]]
"""(before, after): raises SetError to refuse; may write through the context's transaction, and
may change `after` in place on create and update. None stands for "was not" or "will not be"."""
SortKey = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True, kw_only=True)
class ObjectType(Writer):
    """Reads, writes and queries one small type."""

    name: str
    prefix: str
    """First letter of its ids."""
    properties: Mapping[str, Property]
    check: Check | None = None
    filters: Mapping[str, Condition] = field(default_factory=dict)
    sorts: Mapping[str, SortKey] = field(default_factory=dict)

    @cached_property
    def shown(self) -> frozenset[str]:
        """Names of what devices see, `id` among them."""
        seen = (name for name, prop in self.properties.items() if not prop.is_internal)
        return frozenset({"id", *seen})

    # -- Source ----------------------------------------------------------------------------------
    async def load_for_get(self, context: CallContext, request: GetRequest) -> GetResult:
        """All or some objects, with the properties asked for."""
        found, state = await self.load_objects(context.services, request.account_id, request.ids)
        wanted = self.shown if request.properties is None else request.properties
        objects = [{k: v for k, v in obj.items() if k in wanted} for obj in found]
        known = {obj["id"] for obj in found}
        missing = [id for id in request.ids or () if id not in known]
        return GetResult(encode_state(Cursor(state)), objects, missing)

    async def load_objects(
        self, services: Services, account_id: AccountId, ids: Sequence[str] | None
    ) -> tuple[list[dict[str, Any]], ModSeq]:
        """Some objects, or all for None, with the state of the type. Cost: one read."""

        async def read(reader: StoreReader) -> tuple[list[ObjectRow], ModSeq]:
            rows = await reader.load_objects(self.name, ids)
            return rows, (await reader.load_states()).get(self.name, ModSeq(0))

        rows, state = await services.store.read(account_id, read)
        return [self.decode(row) for row in rows], state

    def decode(self, row: ObjectRow) -> dict[str, Any]:
        """The object with its id; properties added to the type since it was stored get their
        default."""
        stored = msgspec.json.decode(row.data)
        obj = {"id": row.id}
        for name, prop in self.properties.items():
            obj[name] = stored.get(name, prop.fallback)
        return obj

    # -- Writer ----------------------------------------------------------------------------------
    async def load(self, context: SetContext, ids: Sequence[str]) -> dict[str, Any]:
        """id -> stored object, without its id."""
        rows = await context.tx.store.load_objects(self.name, ids)
        return {row.id: {k: v for k, v in self.decode(row).items() if k != "id"} for row in rows}

    async def create(
        self, context: SetContext, creation_id: str, obj: dict[str, Any]
    ) -> dict[str, Any]:
        """Source: RFC 8620 s5.3"""
        after = self._complete(obj)
        given = dict(after)
        if self.check is not None:
            await self.check(context, None, after)
        id = await context.tx.create(self.name, after, self.prefix)
        return {"id": id} | {
            k: v for k, v in after.items() if k in self.shown and (k not in obj or given[k] != v)
        }

    def _complete(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Raises: SetError invalidProperties, naming every one that is wrong."""
        wrong = [name for name in obj if not self._may_set(name)]
        after: dict[str, Any] = {}
        for name, prop in self.properties.items():
            if name in obj and name not in wrong:
                if not _fits(obj[name], prop):
                    wrong.append(name)
                after[name] = obj[name]
            elif prop.default is REQUIRED:
                wrong.append(name)
            else:
                after[name] = prop.default
        if wrong:
            raise SetError("invalidProperties", "wrong, unknown or missing", sorted(set(wrong)))
        return after

    def _may_set(self, name: str) -> bool:
        prop = self.properties.get(name)
        return prop is not None and not prop.is_server_set

    async def update(
        self, context: SetContext, id: str, before: dict[str, Any], patch: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Source: RFC 8620 s5.3"""
        try:
            after = apply_patch(before | {"id": id}, patch)
        except PatchError as error:
            raise SetError("invalidPatch", str(error)) from None
        wrong = [] if after.pop("id", None) == id else ["id"]
        for name, prop in self.properties.items():
            if name not in after:
                # Null on a top-level property means its default. RFC 8620 s5.3
                after[name] = prop.fallback
            if after[name] != before[name]:
                is_fixed = prop.is_immutable or prop.is_server_set
                if is_fixed or not _fits(after[name], prop):
                    wrong.append(name)
        wrong += [name for name in after if name not in self.properties]
        if wrong:
            raise SetError("invalidProperties", "wrong, unknown or fixed", sorted(set(wrong)))
        asked = dict(after)
        if self.check is not None:
            await self.check(context, before, after)
        await context.tx.update(self.name, id, before, after)
        told = {k: v for k, v in after.items() if k in self.shown and asked[k] != v}
        return told or None

    async def destroy(self, context: SetContext, id: str, before: dict[str, Any]) -> None:
        """Source: RFC 8620 s5.3"""
        if self.check is not None:
            await self.check(context, before, None)
        await context.tx.destroy(self.name, id, before)

    # -- Querier ---------------------------------------------------------------------------------
    def plan_query(
        self, filter: Any, sort: list[dict[str, Any]] | None, arguments: dict[str, Any]
    ) -> ObjectQueryPlan:
        """Raises: MethodError invalidArguments, unsupportedFilter, unsupportedSort."""
        match = plan_filter(filter, self.filters)
        keys = []
        for comparator in sort or []:
            check_names(comparator, ("property", "isAscending", "collation"))
            name = comparator["property"]
            if name not in self.sorts:
                raise MethodError("unsupportedSort", f"{self.name} is not sorted by {name[:60]!r}")
            keys.append((self.sorts[name], comparator.get("isAscending", True)))
        return ObjectQueryPlan(self, match, keys)


def _fits(value: Any, prop: Property) -> bool:
    try:
        msgspec.convert(value, prop.type)
    except msgspec.ValidationError:
        return False
    return True


@dataclass
class ObjectQueryPlan:
    """A query over all objects of one small type. Cost: O(objects of the type)."""

    datatype: ObjectType
    match: Match
    keys: Sequence[tuple[SortKey, bool]]
    can_calculate_changes: bool = True

    async def list_ids(
        self, context: CallContext, account_id: AccountId, window: QueryWindow
    ) -> QueryAnswer:
        """Ids in order; ties by id, so that the order is total."""
        every, state = await self.datatype.load_objects(context.services, account_id, None)
        objects = [obj for obj in every if self.match(obj)]
        objects.sort(key=lambda obj: str(obj["id"]))
        for key, is_ascending in reversed(self.keys):
            objects.sort(key=key, reverse=not is_ascending)
        ids = [str(obj["id"]) for obj in objects]
        return QueryAnswer(ids[: window.stop], len(ids) if window.has_total else None, state)

    async def list_affected(
        self, reader: StoreReader, since: ModSeq, limit: int
    ) -> Affected | None:
        """Every object of the type that changed."""
        page = await reader.list_changes(self.datatype.name, Cursor(since), limit)
        ids = {*page.created, *page.updated, *page.destroyed}
        return None if page.has_more else Affected(ids)
