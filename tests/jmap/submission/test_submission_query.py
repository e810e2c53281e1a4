"""Keeping, reading and querying EmailSubmissions. Source: RFC 8621 s7.1, s7.2, s7.3, s7.4"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.jmap.mail.test_submission import Sender, make_sender
from tests.jmap.mail_fixture import (
    get_email,
)
from tests.world import World
from tindra.features.mail import submission as feature
from tindra.sync.ports import (
    Transient,
)


@pytest.fixture
def sender(world: World, runner: asyncio.Runner) -> Sender:
    return runner.run(make_sender(world))


async def test_it_cannot_be_forgotten_before_it_is_sent(sender: Sender) -> None:
    id = await sender.submit()
    made = await sender.world.call("EmailSubmission/set", destroy=[id])
    assert made["notDestroyed"][id]["type"] == "forbidden"
    await sender.turn()
    assert (await sender.world.call("EmailSubmission/set", destroy=[id]))["destroyed"] == [id]


async def test_the_oldest_finished_ones_make_room(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature, "SUBMISSIONS_KEPT_MAX", 3)
    monkeypatch.setattr(feature, "_SUBMISSIONS_LEFT", 2)
    email_id = await sender.draft()
    ids = []
    for number in range(4):
        ids.append(await sender.submit({"emailId": email_id}))
        if number != 0:
            await sender.turn()
        else:
            sender.outbox.error = Transient("down")
            await sender.turn()
            sender.outbox.error = None
    kept = {obj["id"] for obj in (await sender.world.call("EmailSubmission/get"))["list"]}
    assert kept == {ids[0], ids[2], ids[3]}


async def test_what_only_the_server_knows_is_not_told(sender: Sender) -> None:
    await sender.submit()
    got = await sender.world.call("EmailSubmission/get", ids=None)
    assert got["list"][0].keys().isdisjoint({"blobId", "sendState"})
    error = await sender.world.fail("EmailSubmission/get", properties=["blobId"])
    assert error["type"] == "invalidArguments"


async def test_submissions_are_filtered_and_sorted(sender: Sender) -> None:
    emails = [await sender.draft(subject=str(number)) for number in range(3)]
    ids = []
    for email_id in emails:
        ids.append(await sender.submit({"emailId": email_id}))
        sender.world.clock.advance(60_000)
    await sender.world.call("EmailSubmission/set", update={ids[1]: {"undoStatus": "canceled"}})

    async def query(filter: Any = None, *sort: str) -> list[str]:
        comparators = [{"property": s.lstrip("-"), "isAscending": s[0] != "-"} for s in sort]
        got = await sender.world.call(
            "EmailSubmission/query", filter=filter, sort=comparators or None
        )
        return list(got["ids"])

    thread_id = (await get_email(sender.world, emails[2], "threadId"))["threadId"]
    assert await query({"undoStatus": "canceled"}) == [ids[1]]
    assert await query({"emailIds": [emails[0], "e1"]}) == [ids[0]]
    assert await query({"threadIds": [thread_id]}) == [ids[2]]
    assert await query({"identityIds": ["i1"]}) == []
    assert await query({"before": "2026-09-21T14:14:20Z"}) == [ids[0]]
    assert await query({"after": "2026-09-21T14:14:20Z"}, "sendAt") == ids[1:]
    either = [{"emailIds": [emails[0]]}, {"undoStatus": "canceled"}]
    assert await query({"operator": "OR", "conditions": either}, "-sentAt") == [ids[1], ids[0]]
    assert await query(None, "emailId", "threadId") == ids


@pytest.mark.parametrize(
    "filter",
    [
        {"before": "yesterday"},
        {"after": 3},
        {"emailIds": "e1"},
        {"identityIds": [3]},
        {"undoStatus": 1},
        {"operator": "AND", "conditions": [{"after": None}]},
    ],
)
async def test_a_wrong_filter_is_refused(sender: Sender, filter: dict[str, Any]) -> None:
    error = await sender.world.fail("EmailSubmission/query", filter=filter)
    assert error["type"] == "invalidArguments"


async def test_unknown_filters_and_sorts_have_their_own_errors(sender: Sender) -> None:
    error = await sender.world.fail("EmailSubmission/query", filter={"colour": 1})
    assert error["type"] == "unsupportedFilter"
    error = await sender.world.fail("EmailSubmission/query", sort=[{"property": "colour"}])
    assert error["type"] == "unsupportedSort"


async def test_changes_of_the_state_reach_devices(sender: Sender) -> None:
    id = await sender.submit()
    query = await sender.world.call("EmailSubmission/query", filter={"undoStatus": "pending"})
    assert query["ids"] == [id]
    state = (await sender.world.call("EmailSubmission/get", ids=[]))["state"]
    await sender.turn()
    changes = await sender.world.call("EmailSubmission/changes", sinceState=state)
    assert changes["updated"] == [id]
    moved = await sender.world.call(
        "EmailSubmission/queryChanges",
        filter={"undoStatus": "pending"},
        sinceQueryState=query["queryState"],
    )
    assert (moved["removed"], moved["added"]) == ([id], [])
