"""A disk that is full while mail comes in: that is said, and it goes on when there is room."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import msgspec
import pytest

from tests.sync.conftest import Open
from tests.sync.harness import FAST
from tindra.core.errors import DiskFull
from tindra.core.ports import Store
from tindra.core.services import Services
from tindra.sync import engine


class Disk:
    """A store whose commits of some names find no room."""

    def __init__(self) -> None:
        self.full_for: tuple[str, ...] = ()
        self.refused = 0
        self._store: Store | None = None

    def wrap(self, services: Services) -> Services:
        self._store = services.store
        return dataclasses.replace(services, store=cast(Store, self))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def write(self, account_id: Any, name: str, fn: Any) -> Any:
        assert self._store is not None
        if name.startswith(self.full_for):
            self.refused += 1
            raise DiskFull("the disk is full")
        return await self._store.write(account_id, name, fn)


async def test_a_full_disk_is_said_for_as_long_as_it_is_full(harness: Open) -> None:
    disk = Disk()
    async with harness(wrap=disk.wrap) as h:
        h.deliver(1)
        await h.connect()
        await h.settle()
        disk.full_for = ("mirror-messages",)
        h.deliver(2)
        await h.wait_for_status(lastError=lambda text: text is not None)
        h.statuses.clear()

        async def was_tried() -> bool:
            return disk.refused >= 5 and len(h.statuses) >= 3

        await h.wait_until(was_tried, lambda: "it was not tried again")
        said = [status["lastError"] or "" for status in h.statuses]
        assert all("the disk is full" in text for text in said), said
        disk.full_for = ()
        await h.settle()
        await h.wait_for_status(phase="live", lastError=None, nextTryAt=None)


async def test_what_a_full_disk_did_not_take_is_said_as_soon_as_it_takes_that(
    harness: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "TELL_AGAIN_MS", 20)
    disk = Disk()
    # The next try is far away.
    async with harness(wrap=disk.wrap, pace=msgspec.structs.replace(FAST, rest_ms_max=None)) as h:
        monkeypatch.setattr(engine, "decide_wait_ms", lambda *_: 600_000)
        h.is_error_expected = True
        h.deliver(1)
        await h.connect()
        await h.settle()
        disk.full_for = ("mirror-", "connection-status")
        h.deliver(2)

        async def was_tried() -> bool:
            return disk.refused >= 5

        await h.wait_until(was_tried, lambda: "it was not tried again")
        assert (await h.status())["lastError"] is None, "nothing can be written"
        disk.full_for = ("mirror-",)
        status = await h.wait_for_status(phase="waiting")
        assert "the disk is full" in status["lastError"]
        assert [str(error) for error in h.unexpected] == ["the disk is full"]
        h.unexpected.clear()
        disk.full_for = ()
        await h.stop()
        h.start()
        await h.settle()
        await h.wait_for_status(phase="live", lastError=None)
