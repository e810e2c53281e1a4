"""Calls that leave nothing behind, and what each asked of the store and the blobs.

What a call writes is rolled back when it is done with the transaction, so the next call finds
everything as it was: two calls can be compared that are the same but for one value.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

import msgspec

from tests.virtual_clock import SeededRandom
from tests.world import World, raise_report
from tindra.base.byte_cache import ByteCache
from tindra.base.ids import AccountId, ModSeq
from tindra.core.access import Caller
from tindra.core.dispatch import encode_response, run_request
from tindra.core.ports import BlobStore, Directory, Store
from tindra.model.account import User
from tindra.model.stored import CommitInfo
from tindra.wire.jmap.request import parse_request

Log = list[tuple[str, str]]
"""(what was asked, account), in order."""


class Trial:
    """Answers of a world, without what they would change."""

    def __init__(self, world: World, caller: Caller | None = None) -> None:
        self._world = world
        self._caller = world.caller if caller is None else caller

    async def run(self, name: str, arguments: dict[str, Any]) -> tuple[list[Any], Log]:
        """(responses of one call, what it asked), from the same random numbers each time."""
        world, log = self._world, Log()
        directory = _UndoneDirectory(world.services.directory)
        services = replace(
            world.services,
            store=cast(Store, _UndoneStore(world.services.store, log)),
            directory=cast(Directory, directory),
            blobs=cast(BlobStore, _Noted(world.services.blobs, log, "")),
            cache=ByteCache(),
            random=SeededRandom(7),
        )
        using = list(world.registry.capabilities)
        body = msgspec.json.encode({"using": using, "methodCalls": [[name, arguments, "0"]]})
        answer = await run_request(
            world.registry, services, self._caller, parse_request(body), raise_report
        )
        await directory.undo()
        decoded: dict[str, Any] = msgspec.json.decode(encode_response(answer, "s"))
        return [[name, result] for name, result, _ in decoded["methodResponses"]], log


class _Undone(Exception):
    """Carries the result out of a transaction that is not to be."""

    def __init__(self, result: Any) -> None:
        super().__init__("rolled back")
        self.result = result


class _Noted:
    """Notes the methods that are called of something; the account is their first argument, or the
    one that it was opened for."""

    def __init__(self, whole: Any, log: Log, account_id: str) -> None:
        self._whole = whole
        self._log = log
        self._account_id = account_id

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._whole, name)
        if not callable(found):
            return found

        def run(*args: Any, **more: Any) -> Any:
            self._log.append((name, self._account_id or str(args[0])))
            return found(*args, **more)

        return run


class _UndoneStore:
    def __init__(self, whole: Store, log: Log) -> None:
        self._whole = whole
        self._log = log

    async def read(
        self, account_id: AccountId, fn: Callable[[Any], Awaitable[Any]], *, is_long: bool = False
    ) -> Any:
        self._log.append(("read", account_id))

        async def run(reader: Any) -> Any:
            return await fn(_Noted(reader, self._log, account_id))

        return await self._whole.read(account_id, run, is_long=is_long)

    async def write(
        self, account_id: AccountId, name: str, fn: Callable[[Any], Awaitable[Any]]
    ) -> tuple[Any, CommitInfo]:
        self._log.append((f"write {name}", account_id))

        async def run(tx: Any) -> Any:
            raise _Undone(await fn(_Noted(tx, self._log, account_id)))

        try:
            await self._whole.write(account_id, name, run)
        except _Undone as done:
            return done.result, CommitInfo(account_id, ModSeq(0), {})
        raise AssertionError("what raises does not commit")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)


class _UndoneDirectory:
    """Devices change nothing there but what users say of themselves."""

    def __init__(self, whole: Directory) -> None:
        self._whole = whole
        self._before: list[User] = []

    async def put_user(self, user: User) -> None:
        before = await self._whole.load_user(user.id)
        assert before is not None
        self._before.append(before)
        await self._whole.put_user(user)

    async def undo(self) -> None:
        for user in reversed(self._before):
            await self._whole.put_user(user)

    def __getattr__(self, name: str) -> Any:
        assert name.startswith(("load_", "list_", "find_")), f"{name} is not undone"
        return getattr(self._whole, name)
