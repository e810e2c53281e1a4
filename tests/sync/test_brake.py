"""Most mail vanished at once: it stays for a day that really went by, or till somebody answers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.sync.conftest import Open
from tests.sync.harness import FAST, Harness
from tests.world import World
from tindra.core.tx import Tx, transact
from tindra.features.connect import load_connections
from tindra.sync.patience import GAP_MS_MAX, BrakeClock
from tindra.wire.jmap.date import parse_utc_date

DAY_MS = 24 * 3_600_000


async def _lose_most(h: Harness) -> dict[str, Any]:
    await h.begin(60)
    h.folder().expunge(list(h.folder().messages)[:50])
    return await h.wait_for_status(heldBack=lambda held: held is not None)


async def _confirm(h: Harness, **arguments: Any) -> tuple[str, dict[str, Any]]:
    given = {"accountId": h.world.account_id, "id": h.connection_id, "messages": 50} | arguments
    answer = await h.world.raw_request([["Connection/confirmRemoval", given, "0"]])
    name, result, _ = answer["methodResponses"][0]
    return name, result


async def _internal(h: Harness) -> dict[str, Any]:
    return (await load_connections(h.services, h.world.account_id))[h.connection_id]


async def test_what_is_held_back_is_told_with_its_day(harness: Open) -> None:
    async with harness() as h:
        held = (await _lose_most(h))["heldBack"]
        assert held["messages"] == 50
        since, until = parse_utc_date(held["since"]), parse_utc_date(held["until"])
        assert since is not None
        assert until is not None
        assert abs(until - since - DAY_MS) <= 1000
        h.deliver(99)
        await h.wait_until(lambda: _counts(h, 61), lambda: "new mail is held up")
        # Mail that is there again is held back no more.
        for message in range(50):
            h.deliver(message)
        await h.wait_for_status(heldBack=None, lastError=None)
        assert (await _internal(h))["brake"] is None
        await h.settle()


async def _counts(h: Harness, count: int) -> bool:
    return len(await h.find_ids()) == count


async def test_a_person_who_confirms_need_not_wait(harness: Open) -> None:
    async with harness() as h:
        await _lose_most(h)
        for wrong in ({"messages": 49}, {"messages": "50"}, {"id": "c-unknown"}, {"more": 1}):
            name, error = await _confirm(h, **wrong)
            assert name == "error", error
        assert len(await h.find_ids()) == 60
        name, answer = await _confirm(h)
        assert name == "Connection/confirmRemoval", answer
        assert answer["oldState"] != answer["newState"]
        await h.settle()
        assert len(await h.find_ids()) == 10
        await h.wait_for_status(phase="live", heldBack=None, lastError=None)
        name, error = await _confirm(h)
        assert error["type"] == "stateMismatch"
        # It was said of those, and of no others.
        for number in range(100, 200):
            h.deliver(number)
        await h.settle()
        h.folder().expunge(list(h.folder().messages)[:90])
        await h.wait_for_status(heldBack=lambda held: held is not None)
        assert len(await h.find_ids()) == 110


async def test_a_confirmation_while_nothing_runs_is_heard_later(harness: Open) -> None:
    async with harness() as h:
        await _lose_most(h)
        await h.stop()
        assert (await _confirm(h))[0] == "Connection/confirmRemoval"
        assert len(await h.find_ids()) == 60
        h.start()
        await h.settle()
        assert len(await h.find_ids()) == 10


async def test_who_comes_back_before_that_is_heard_is_spared(harness: Open) -> None:
    async with harness() as h:
        await _lose_most(h)
        await h.stop()
        await _confirm(h)
        for number in range(50):
            h.deliver(number)
        h.start()
        await h.wait_for_status(phase="live", heldBack=None)
        await h.settle()
        assert len(await h.find_ids()) == 60


async def test_a_restart_neither_shortens_nor_restarts_the_day(harness: Open) -> None:
    pace = msgspec.structs.replace(FAST, brake_ms=4000)
    async with harness(pace=pace) as h:
        await _lose_most(h)
        await h.stop()
        brake = (await _internal(h))["brake"]
        assert brake["clockMs"] < 4000
        # As if it had been told 3.9 seconds ago.
        await _edit_brake(h, clockMs=brake["clockMs"] + 3900)
        h.start()
        loop_ms = h.services.clock.monotonic_ms()
        await h.settle()
        assert h.services.clock.monotonic_ms() - loop_ms < 3500
        assert len(await h.find_ids()) == 10


@pytest.mark.parametrize("jump_ms", [10 * 365 * DAY_MS, -10 * 365 * DAY_MS])
async def test_a_clock_that_jumps_between_two_processes_deletes_nothing_early(
    harness: Open, jump_ms: int
) -> None:
    async with harness() as h:
        await _lose_most(h)
        await h.stop()
        brake = (await _internal(h))["brake"]
        await _edit_brake(h, notedMs=brake["notedMs"] - jump_ms)
        h.start()
        await h.wait_for_status(phase="live", heldBack=lambda held: held is not None)
        h.deliver(99)
        await h.wait_until(lambda: _counts(h, 61), lambda: "it has gone")
        until = parse_utc_date((await h.status())["heldBack"]["until"])
        assert until is not None
        assert DAY_MS - GAP_MS_MAX - 60_000 < until - h.services.clock.now_ms() <= DAY_MS + 1000


async def _edit_brake(h: Harness, **changes: int) -> None:
    async def write(tx: Tx) -> None:
        before = await tx.load("Connection", h.connection_id)
        assert before is not None
        after = before | {"brake": before["brake"] | changes}
        await tx.update("Connection", h.connection_id, before, after)

    await transact(h.services, h.world.account_id, "test", write, "system")


def test_the_clock_of_the_brake_counts_what_went_by() -> None:
    assert BrakeClock(None, 10**12, 77).read_ms(77) == 1
    stored = {"clockMs": 5000, "notedMs": 10**12}
    for gap_ms, counted_ms in ((2000, 2000), (-(10**9), 0), (10**11, GAP_MS_MAX)):
        clock = BrakeClock(stored, 10**12 + gap_ms, 500)
        assert clock.read_ms(500) == 5000 + counted_ms
        assert clock.read_ms(700) == 5200 + counted_ms
    assert BrakeClock(stored | {"confirmedMs": 5000}, 10**12, 500).read_ms(500) == 5001


async def test_a_foreign_connection_is_an_unknown_one(world: World) -> None:
    given = {"accountId": "a-foreign", "id": "c1", "messages": 1}
    answer = await world.raw_request([["Connection/confirmRemoval", given, "0"]])
    assert answer["methodResponses"][0][1]["type"] == "accountNotFound"
