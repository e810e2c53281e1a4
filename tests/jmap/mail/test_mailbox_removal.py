"""A large Mailbox is destroyed in steps, each of which leaves the account as it may be.

Source: RFC 8621 s2.5 (onDestroyRemoveEmails), RFC 8620 s5.3
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.jmap.mail_fixture import make_raw
from tests.world import World
from tindra.core.errors import Unavailable
from tindra.core.tx import transact_in_state
from tindra.features.mail.writing import mailbox_removal

COUNT = 11
STEP = 3


@pytest.fixture(autouse=True)
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """ifInState as each transaction of a removal compared it."""
    found: list[Any] = []

    async def watched(services: Any, account_id: Any, method: str, state: Any, fn: Any) -> Any:
        found.append(state)
        return await transact_in_state(services, account_id, method, state, fn)

    monkeypatch.setattr(mailbox_removal, "REMOVE_STEP_EMAILS", STEP)
    monkeypatch.setattr(mailbox_removal, "transact_in_state", watched)
    return found


async def fill(world: World, mailbox_id: str, count: int = COUNT, start: int = 0) -> list[str]:
    """Emails in one Mailbox; each is a reply to the one before."""
    ids = []
    for number in range(start, start + count):
        raw = make_raw("Hello", f"{number}@x", f"{number}", In_Reply_To=f"<{number - 1}@x>")
        ids.append(await world.add_email(mailbox_id, raw))
    return ids


async def load_box(world: World, mailbox_id: str) -> dict[str, Any] | None:
    found = (await world.call("Mailbox/get", ids=[mailbox_id]))["list"]
    return found[0] if found else None


async def destroy(world: World, *ids: str, **more: Any) -> dict[str, Any]:
    return await world.call("Mailbox/set", destroy=list(ids), onDestroyRemoveEmails=True, **more)


async def test_its_emails_go_step_by_step_and_stay_where_else_they_are(
    world: World, steps: list[Any]
) -> None:
    box, other = await world.add_mailbox("Box"), await world.add_mailbox("Other")
    ids = await fill(world, box)
    kept = ids[2:9:2]
    await world.call("Email/set", update={id: {f"mailboxIds/{other}": True} for id in kept})
    state = (await world.call("Mailbox/get", ids=[]))["state"]
    done = await destroy(world, box)
    assert done["destroyed"] == [box]
    assert len(steps) == 4, "11, 8, 5 and the 2 that go with it"
    left = await world.call("Email/get", ids=ids, properties=["mailboxIds"])
    assert {item["id"] for item in left["list"]} == set(kept)
    assert all(item["mailboxIds"] == {other: True} for item in left["list"])
    after = await load_box(world, other)
    assert after is not None
    assert after["totalEmails"] == len(kept)
    changed = await world.call("Mailbox/changes", sinceState=state)
    assert (changed["destroyed"], changed["newState"]) == ([box], done["newState"])


async def test_the_state_is_compared_before_the_first_step_and_not_after(
    world: World, steps: list[Any]
) -> None:
    box = await world.add_mailbox("Box")
    old = (await world.call("Mailbox/get", ids=[]))["state"]
    await fill(world, box)
    error = await world.fail(
        "Mailbox/set", destroy=[box], onDestroyRemoveEmails=True, ifInState=old
    )
    assert error["type"] == "stateMismatch"
    after = await load_box(world, box)
    assert after is not None
    assert after["totalEmails"] == COUNT
    state = (await world.call("Mailbox/get", ids=[]))["state"]
    steps.clear()
    assert (await destroy(world, box, ifInState=state))["destroyed"] == [box]
    assert steps == [state, None, None, None]


async def test_what_cannot_be_destroyed_keeps_its_emails(world: World, steps: list[Any]) -> None:
    box = await world.add_mailbox("Box")
    child = await world.add_mailbox("Child", parentId=box)
    inbox = await world.add_mailbox("Inbox", role="inbox")
    for number, id in enumerate((box, inbox)):
        await fill(world, id, start=100 * number)
    refused = (await destroy(world, box, inbox, "nobody"))["notDestroyed"]
    assert {id: error["type"] for id, error in refused.items()} == {
        box: "mailboxHasChild",
        inbox: "forbidden",
        "nobody": "notFound",
    }
    for id in (box, inbox):
        found = await load_box(world, id)
        assert found is not None
        assert found["totalEmails"] == COUNT
    assert len(steps) == 1, "one look"
    await fill(world, child, start=200)
    assert set((await destroy(world, box, child))["destroyed"]) == {box, child}


async def test_a_call_that_makes_mailboxes_too_removes_nothing_beforehand(
    world: World, steps: list[Any]
) -> None:
    box = await world.add_mailbox("Box")
    await fill(world, box)
    done = await destroy(world, box, create={"c": {"name": "Child", "parentId": box}})
    found = await load_box(world, box)
    assert (found is None) == (done["destroyed"] == [box])
    assert found is None or found["totalEmails"] == COUNT
    assert steps == []


async def test_what_is_cut_short_leaves_fewer_emails_and_is_finished_by_asking_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = await world.add_mailbox("Box")
    await fill(world, box)
    plain, count = world.services.store.write, 0

    async def write(account_id: Any, name: str, fn: Any) -> Any:
        nonlocal count
        count += name == "Mailbox/set"
        if count == 3:
            raise Unavailable("the machine stops here")
        return await plain(account_id, name, fn)

    monkeypatch.setattr(world.services.store, "write", write)
    await world.fail("Mailbox/set", destroy=[box], onDestroyRemoveEmails=True)
    found = await load_box(world, box)
    assert found is not None
    assert found["totalEmails"] == COUNT - 2 * STEP
    await world.services.store.check_invariants(world.account_id)
    assert (await destroy(world, box))["destroyed"] == [box]
