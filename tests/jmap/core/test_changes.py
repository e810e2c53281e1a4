"""What every /changes does. Source: RFC 8620 s5.2"""

from __future__ import annotations

from typing import Any

import pytest

from tests.world import World

TYPES = (
    "Mailbox", "Thread", "Email", "Identity", "EmailSubmission", "Connection", "SieveScript",
    "Quota",
)  # fmt: skip


async def _changes(world: World, since: str, limit: int | None = None) -> dict[str, Any]:
    return await world.call("Mailbox/changes", sinceState=since, maxChanges=limit)


async def test_nothing_changed_since_now(world: World) -> None:
    for name in TYPES:
        state = (await world.call(f"{name}/get", ids=[]))["state"]
        found = await world.call(f"{name}/changes", sinceState=state)
        assert (found["oldState"], found["newState"]) == (state, state)
        assert not found["hasMoreChanges"]
        assert (found["created"], found["updated"], found["destroyed"]) == ([], [], [])


async def test_the_answer_has_the_members_of_the_rfc_and_two_types_have_one_more(
    world: World,
) -> None:
    common = {"accountId", "oldState", "newState", "hasMoreChanges"}
    for name in TYPES:
        found = await world.call(f"{name}/changes", sinceState="0")
        extra = {"updatedProperties"} if name in ("Mailbox", "Quota") else set()
        assert set(found) == common | {"created", "updated", "destroyed"} | extra


@pytest.mark.parametrize("state", [None, 0, 1, True, [], {}, 1.5])
async def test_a_state_that_is_no_text_is_an_invalid_argument(world: World, state: Any) -> None:
    for name in TYPES:
        assert (await world.fail(f"{name}/changes", sinceState=state))["type"] == "invalidArguments"
        assert (await world.fail(f"{name}/changes"))["type"] == "invalidArguments"


@pytest.mark.parametrize(
    "state",
    ["", "x", "-1", "+1", " 1", "1 ", "01", "00", "1.", ".1", "1.a b", "1..", "1.5.6", "0x1", "1e3",
     "9" * 15, "9" * 30, "9" * 10**5, "١", "²", "1_0", "1.\0", "2.", "1." + "x" * 256],
)  # fmt: skip
async def test_a_state_that_was_never_ours_cannot_be_counted_from(world: World, state: str) -> None:
    await world.add_mailbox("A")
    for name in TYPES:
        error = await world.fail(f"{name}/changes", sinceState=state)
        assert error["type"] == "cannotCalculateChanges"


async def test_a_state_of_the_future_cannot_be_counted_from(world: World) -> None:
    await world.add_mailbox("A")
    newest = int((await world.call("Mailbox/get", ids=[]))["state"])
    assert await _changes(world, str(newest))
    error = await world.fail("Mailbox/changes", sinceState=str(newest + 1))
    assert error["type"] == "cannotCalculateChanges"


@pytest.mark.parametrize("limit", [0, -1, 1.0, 1.5, "1", True, [], {}, 2**53, -(2**63), 10**40])
async def test_max_changes_must_be_a_number_above_zero(world: World, limit: Any) -> None:
    error = await world.fail("Mailbox/changes", sinceState="0", maxChanges=limit)
    assert error["type"] == "invalidArguments"


async def test_one_transaction_is_told_in_pages_whose_states_lead_on(world: World) -> None:
    """Ten Mailboxes made at once: the states between stand inside one transaction."""
    boxes = {f"k{n}": {"name": f"Box {n}"} for n in range(10)}
    made = await world.call("Mailbox/set", create=boxes)
    expected = sorted(obj["id"] for obj in made["created"].values())
    for limit in (1, 3, 4, 9):
        found: list[str] = []
        states = ["0"]
        while True:
            page = await _changes(world, states[-1], limit)
            assert page["oldState"] == states[-1]
            assert len(page["created"]) <= limit
            found += page["created"]
            states.append(page["newState"])
            assert states[-1] not in states[:-1], "the state did not move"
            if not page["hasMoreChanges"]:
                break
        assert sorted(found) == expected
        assert len(found) == len(expected), "something was told twice"
        assert states[-1] == made["newState"]


async def test_a_state_between_two_pages_stays_good_while_others_write(world: World) -> None:
    boxes = {f"k{n}": {"name": f"Box {n}"} for n in range(4)}
    made = await world.call("Mailbox/set", create=boxes)
    ids = sorted(obj["id"] for obj in made["created"].values())
    first = await _changes(world, "0", 2)
    assert first["created"] == ids[:2]
    await world.call("Mailbox/set", update={ids[0]: {"name": "New"}}, destroy=[ids[3]])
    later = await world.add_mailbox("Later")
    rest = await _changes(world, first["newState"])
    assert rest["created"] == [ids[2], later]
    assert rest["updated"] == [ids[0]]
    assert rest["destroyed"] == []


async def test_what_was_made_and_destroyed_unseen_is_not_told_at_all(world: World) -> None:
    before = (await world.call("Mailbox/get", ids=[]))["state"]
    id = await world.add_mailbox("Short")
    between = (await world.call("Mailbox/get", ids=[]))["state"]
    await world.call("Mailbox/set", destroy=[id])
    found = await _changes(world, before)
    assert (found["created"], found["updated"], found["destroyed"]) == ([], [], [])
    assert (await _changes(world, between))["destroyed"] == [id]


async def test_made_and_changed_is_made(world: World) -> None:
    id = await world.add_mailbox("A")
    await world.call("Mailbox/set", update={id: {"name": "B"}})
    found = await _changes(world, "0")
    assert (found["created"], found["updated"]) == ([id], [])


async def test_only_the_counters_changed_is_told_also_from_inside_a_transaction(
    world: World,
) -> None:
    """A rename in the very transaction that the state stands in is news for its reader."""
    made = await world.call("Mailbox/set", create={k: {"name": k} for k in "abc"})
    ids = sorted(obj["id"] for obj in made["created"].values())
    names = {id: {"name": f"New {id}"} for id in ids}
    before = (await world.call("Mailbox/get", ids=[]))["state"]
    await world.call("Mailbox/set", update=names)
    first = await _changes(world, before, 2)
    assert first["updated"] == ids[:2]
    assert first["updatedProperties"] is None
    rest = await _changes(world, first["newState"], 2)
    assert rest["updated"] == ids[2:]
    assert rest["updatedProperties"] is None, "the new name of the last one would be missed"


async def test_too_many_changes_for_one_answer_come_in_several(world: World) -> None:
    for number in range(3):
        boxes = {f"k{n}": {"name": f"Box {number} {n}"} for n in range(400)}
        await world.call("Mailbox/set", create=boxes)
    first = await _changes(world, "0", 10**6)
    assert first["hasMoreChanges"]
    assert len(first["created"]) == 1000
    rest = await _changes(world, first["newState"])
    assert not rest["hasMoreChanges"]
    assert len({*first["created"], *rest["created"]}) == 1200
