"""Ends a mirror at the k-th point between two effects: a command of the provider, a commit.

The points lie before and after each call, so that every order of "done" and "known to be done" is
met. What happens to the mirror is what a killed process does: nothing of it runs any more.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any, cast

from tindra.core.ports import Store
from tindra.core.services import Services
from tindra.sync.ports import MailProvider, MailSession, ServerSettings


class CrashPlan:
    """Counts points; at the chosen one the mirror is killed."""

    def __init__(self) -> None:
        self.passed = 0
        self.last = ""
        self._at: int | None = None
        self._kill: Callable[[], None] = lambda: None

    def arm(self, at: int, kill: Callable[[], None]) -> None:
        """Kill at the `at`-th point from now on (the first is 0)."""
        self.passed, self._at, self._kill = 0, at, kill

    def disarm(self) -> None:
        self._at = None

    def has_struck(self) -> bool:
        """Whether the mirror was killed."""
        return self._at is not None and self.passed > self._at

    async def pass_point(self, name: str) -> None:
        """Called between two effects."""
        if self._at is None:
            return
        self.passed += 1
        if self.passed > self._at:
            if self.passed > self._at + 1:
                raise asyncio.CancelledError  # the dead do nothing more
            self.last = name
            self._kill()
            await asyncio.get_running_loop().create_future()  # never goes on

    async def wrap(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        await self.pass_point(f"before {name}")
        result = await call()
        await self.pass_point(f"after {name}")
        return result


class _CrashingStore:
    def __init__(self, store: Store, plan: CrashPlan) -> None:
        self._store = store
        self._plan = plan

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def write(self, account_id: Any, name: str, fn: Any) -> Any:
        return await self._plan.wrap(
            f"commit {name}", lambda: self._store.write(account_id, name, fn)
        )


class _CrashingSession:
    def __init__(self, session: MailSession, plan: CrashPlan) -> None:
        self._session = session
        self._plan = plan

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._session, name)
        if name not in (
            "append",
            "copy",
            "create_mailbox",
            "delete_mailbox",
            "expunge",
            "move",
            "rename_mailbox",
            "select",
            "store_flags",
        ):
            return inner
        return lambda *args, **kw: self._plan.wrap(name, lambda: inner(*args, **kw))


class CrashingProvider:
    """A provider whose sessions pass points."""

    def __init__(self, provider: MailProvider, plan: CrashPlan) -> None:
        self._provider = provider
        self._plan = plan

    async def connect(self, settings: ServerSettings, password: str) -> MailSession:
        session = await self._provider.connect(settings, password)
        return cast(MailSession, _CrashingSession(session, self._plan))


def add_points(services: Services, plan: CrashPlan) -> Services:
    """The same services, with points around every commit."""
    store = cast(Store, _CrashingStore(services.store, plan))
    return dataclasses.replace(services, store=store)
