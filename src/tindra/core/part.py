"""Store and blobs for who sees only some Mailboxes of an account, narrowed here and nowhere else.

A method of such a caller gets other `services`: what it reads comes through the reader that the
mail feature narrows (`Feature.narrow`), whose rights are read from the same snapshot as the data;
what it may write is for the writers, which ask that reader. States of a part are never taken for
states of the whole (PART_STATE_BASE). A caller without such an account gets the services as they
are: it costs them nothing. Source: docs/decisions/0007-parts-of-accounts.md
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

import msgspec

from tindra.base.ids import AccountId, ModSeq, UserId
from tindra.core.access import Caller
from tindra.core.errors import MethodError
from tindra.core.ports import BlobStore, Store, StoreReader, StoreTx
from tindra.core.services import Services
from tindra.model.sharing import PART_STATE_BASE, SHARED_TYPES
from tindra.model.stored import BlobRow, CommitInfo

T = TypeVar("T")
Narrow = Callable[[StoreReader, UserId, bool], Awaitable[StoreReader]]
"""(reader, who sees, whether counters are shown) -> what they see of the account.

Raises: MethodError accountNotFound, when nothing is shared with them any more.
"""


def narrow_states(states: Mapping[str, ModSeq]) -> dict[str, ModSeq]:
    """States as who sees a part is told them."""
    shared = (name for name in SHARED_TYPES if name in states)
    return {name: ModSeq(states[name] + PART_STATE_BASE) for name in shared}


def narrow_services(services: Services, caller: Caller, narrow: Narrow | None) -> Services:
    """What the calls of `caller` may reach. Cost: nothing for who has only whole accounts."""
    if narrow is None or not any(access.is_partial for access in caller.accounts.values()):
        return services
    store = cast(Store, _PartStore(services.store, caller, narrow))
    blobs = cast(BlobStore, _PartBlobs(services.blobs, store, caller))
    return replace(services, store=store, blobs=blobs)


class PartTx:
    """A StoreTx of a caller who sees a part: `seen` is what they see; all else is whole."""

    def __init__(self, whole: StoreTx, seen: StoreReader) -> None:
        self._whole = whole
        self.seen = seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    async def load_states(self) -> dict[str, ModSeq]:
        """As they are told to the caller."""
        return narrow_states(await self._whole.load_states())


class _PartStore:
    def __init__(self, whole: Store, caller: Caller, narrow: Narrow) -> None:
        self._whole = whole
        self._caller = caller
        self._narrow = narrow

    async def read(
        self,
        account_id: AccountId,
        fn: Callable[[StoreReader], Awaitable[T]],
        *,
        is_long: bool = False,
    ) -> T:
        if not self._caller.sees_part(account_id):
            return await self._whole.read(account_id, fn, is_long=is_long)

        async def run(reader: StoreReader) -> T:
            return await fn(await self._narrow(reader, self._caller.user.id, True))

        return await self._whole.read(account_id, run, is_long=True)

    async def write(
        self, account_id: AccountId, name: str, fn: Callable[[StoreTx], Awaitable[T]]
    ) -> tuple[T, CommitInfo]:
        if not self._caller.sees_part(account_id):
            return await self._whole.write(account_id, name, fn)

        async def run(tx: StoreTx) -> T:
            seen = await self._narrow(tx, self._caller.user.id, False)
            return await fn(cast(StoreTx, PartTx(tx, seen)))

        result, info = await self._whole.write(account_id, name, run)
        return result, msgspec.structs.replace(info, states=narrow_states(info.states))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)


class _PartBlobs:
    """Blobs of visible Emails. What the caller uploads lies in their own home account, where no
    one else can name it, until it becomes part of an Email."""

    def __init__(self, whole: BlobStore, store: Store, caller: Caller) -> None:
        self._whole = whole
        self._store = store
        self._caller = caller

    async def put(self, account_id: AccountId, data: bytes) -> BlobRow:
        home = self._caller.user.home_account_id
        is_part = self._caller.sees_part(account_id)
        return await self._whole.put(home if is_part else account_id, data)

    async def get(
        self, account_id: AccountId, blob_id: str, start: int = 0, end: int | None = None
    ) -> bytes | None:
        place = await self._find(account_id, blob_id)
        return await self._whole.get(place, blob_id, start, end)

    async def load_size(self, account_id: AccountId, blob_id: str) -> int | None:
        return await self._whole.load_size(await self._find(account_id, blob_id), blob_id)

    async def _find(self, account_id: AccountId, blob_id: str) -> AccountId:
        if not self._caller.sees_part(account_id):
            return account_id

        async def is_visible(reader: StoreReader) -> bool:
            return bool(await reader.find_emails_by_blob([blob_id]))

        try:
            is_here = await self._store.read(account_id, is_visible)
        except MethodError:
            is_here = False  # what was shared is shared no more
        return account_id if is_here else self._caller.user.home_account_id

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)
