"""The change log forgets what was destroyed a month ago, and nothing that devices in step need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.jmap.mail_fixture import make_raw
from tests.world import Backend, World, add_user, make_services
from tindra.app.wiring import make_registry
from tindra.base.ids import AccountId
from tindra.base.limits import CHANGE_LOG_KEPT_MS
from tindra.core.ports import StoreReader
from tindra.features.change_log import DAY_MS, TIMER
from tindra.model.stored import TimerRow


async def open_bare(backend: Backend, folder: Path) -> World:
    """A World whose late device need not begin at state 0, which is forgotten here."""
    registry = make_registry()
    services = await make_services(backend, folder, registry)
    return World(services, registry, await add_user(services, "alex"))


async def run_due(world: World) -> int:
    """What the loop of timers does with those that are due; gives how many there were."""
    now_ms = world.clock.now_ms()

    async def read(reader: StoreReader) -> list[TimerRow]:
        return [row for row in await reader.list_timers(now_ms, 100) if row.kind == TIMER]

    rows = await world.services.store.read(world.account_id, read)
    for row in rows:
        payload = msgspec.json.decode(row.payload)
        handler = world.registry.timers[row.kind]
        await handler(world.services, AccountId(world.account_id), row.key, payload)
    return len(rows)


async def make_and_destroy(world: World, inbox: str, number: int) -> None:
    id = await world.add_email(inbox, make_raw(f"Mail {number}", f"{number}@x"))
    await world.call("Email/set", destroy=[id])


async def state_of(world: World, type_name: str) -> str:
    return str((await world.call(f"{type_name}/get", ids=[]))["state"])


async def changes(world: World, type_name: str, since: str) -> list[Any]:
    [[name, answer, _]] = await world.calls([[f"{type_name}/changes", {"sinceState": since}, "0"]])
    return [name, answer]


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
async def test_a_month_later_old_states_are_too_old_and_others_go_on(
    backend: Backend, tmp_path: Path
) -> None:
    world = await open_bare(backend, tmp_path)
    inbox = await world.add_mailbox("Inbox")
    kept = await world.add_email(inbox, make_raw("Kept", "kept@x"))
    oldest = await state_of(world, "Email")
    for number in range(3):
        await make_and_destroy(world, inbox, number)
    in_step = {name: await state_of(world, name) for name in ("Email", "Mailbox", "Identity")}
    world.clock.advance(CHANGE_LOG_KEPT_MS)
    assert await run_due(world) == 0, "not all of that day is old enough"
    world.clock.advance(DAY_MS)
    assert await run_due(world) == 1, "a day has one timer"
    [name, error] = await changes(world, "Email", oldest)
    assert (name, error["type"]) == ("error", "cannotCalculateChanges")
    error = await world.fail("Email/queryChanges", sinceQueryState=oldest)
    assert error["type"] == "cannotCalculateChanges"
    await make_and_destroy(world, inbox, 9)
    await world.call("Email/set", destroy=[kept])
    [name, answer] = await changes(world, "Email", in_step["Email"])
    assert (name, answer["destroyed"]) == ("Email/changes", [kept])
    for type_name in ("Mailbox", "Identity"):
        assert (await changes(world, type_name, in_step[type_name]))[0] == f"{type_name}/changes"
    await world.services.store.check_invariants(world.account_id)
    await world.services.store.close()


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
async def test_what_is_younger_than_a_month_is_told(backend: Backend, tmp_path: Path) -> None:
    world = await open_bare(backend, tmp_path)
    inbox = await world.add_mailbox("Inbox")
    await make_and_destroy(world, inbox, 1)
    world.clock.advance(10 * DAY_MS)
    id = await world.add_email(inbox, make_raw("Second", "2@x"))
    state = await state_of(world, "Email")
    await world.call("Email/set", destroy=[id])
    world.clock.advance(CHANGE_LOG_KEPT_MS - 2 * DAY_MS)
    assert await run_due(world) == 1
    [_, answer] = await changes(world, "Email", state)
    assert answer["destroyed"] == [id]
    await world.services.store.close()
