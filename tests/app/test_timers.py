"""Timers of an installation: what their handlers leave behind when they fail."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tindra.app import loops as loops_module
from tindra.app.config import Settings
from tindra.app.loops import TIMER_RETRY_MS, Loops
from tindra.app.people import add_user
from tindra.app.wiring import Installation, open_installation
from tindra.base.ids import AccountId
from tindra.core.services import Services
from tindra.core.tx import Tx, transact
from tindra.model.stored import TimerRow

KIND = "test-timer"


async def put(services: Services, account_id: AccountId, due_ms: int, payload: str) -> None:
    async def write(tx: Tx) -> None:
        await tx.put_timer(KIND, "k", due_ms, payload)

    await transact(services, account_id, "test", write, "system")


async def delete(services: Services, account_id: AccountId) -> None:
    async def write(tx: Tx) -> None:
        await tx.delete_timer(KIND, "k")

    await transact(services, account_id, "test", write, "system")


async def load(services: Services, account_id: AccountId) -> list[tuple[int, str]]:
    rows: list[TimerRow] = await services.store.read(
        account_id, lambda reader: reader.list_timers(2**60, 10)
    )
    return [(row.due_ms, msgspec.json.decode(row.payload)) for row in rows]


async def run_once(installation: Installation, account_id: AccountId, act: Any) -> None:
    """One timer comes due; its handler calls `act` and then fails."""

    async def handle(services: Services, id: AccountId, key: str, payload: Any) -> None:
        await act()
        raise ValueError("the handler of a test fails")

    installation.registry.timers[KIND] = handle
    await put(installation.services, account_id, 1_000, "old")
    loops = Loops(installation)
    await loops._run_timers(account_id, 2_000)


@pytest.mark.parametrize("act", ["nothing", "set anew", "taken away"])
def test_a_timer_whose_handler_failed_is_postponed_unless_it_is_another_by_now(
    tmp_path: Path, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops_module, "DUE_POLL_S", 0)

    async def main() -> list[tuple[int, str]]:
        async with open_installation(Settings(data=str(tmp_path / "data"))) as installation:
            services = installation.services
            account_id = (await add_user(installation, "ada", "correct horse")).home_account_id

            async def do() -> None:
                if act == "set anew":
                    await put(services, account_id, 5_000, "new")
                elif act == "taken away":
                    await delete(services, account_id)

            await run_once(installation, account_id, do)
            return await load(services, account_id)

    expected = {
        "nothing": [(2_000 + TIMER_RETRY_MS, "old")],
        "set anew": [(5_000, "new")],
        "taken away": [],
    }
    assert asyncio.run(main()) == expected[act]
