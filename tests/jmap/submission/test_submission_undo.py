"""Messages taken back before they left. Source: RFC 8621 s7, s7.5"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.jmap.mail.test_submission import FRIEND, Sender, make_sender
from tests.jmap.mail_fixture import (
    OWN,
    encode,
)
from tests.world import World


@pytest.fixture
def sender(world: World, runner: asyncio.Runner) -> Sender:
    return runner.run(make_sender(world))


async def test_a_canceled_message_is_never_sent(sender: Sender) -> None:
    id = await sender.submit()
    made = await sender.world.call("EmailSubmission/set", update={id: {"undoStatus": "canceled"}})
    assert made["updated"][id]["deliveryStatus"][FRIEND]["delivered"] == "no"
    assert "sendState" not in encode(made)
    await sender.turn()
    await sender.turn(10_000_000)
    assert sender.outbox.calls == 0
    assert await sender.status(id) == ("canceled", "canceled", {"no"})


async def test_canceling_while_the_server_is_asked_still_works(sender: Sender) -> None:
    id = await sender.submit()

    async def cancel() -> None:
        made = await sender.world.call(
            "EmailSubmission/set", update={id: {"undoStatus": "canceled"}}
        )
        assert made["updated"]

    sender.outbox.between = cancel
    await sender.turn()
    await sender.turn(10_000_000)
    assert sender.outbox.taken == []
    assert (await sender.status(id))[:2] == ("canceled", "canceled")


async def test_what_is_sent_or_being_sent_cannot_be_unsent(sender: Sender) -> None:
    id = await sender.submit()
    patch = {"undoStatus": "canceled"}
    sender.outbox.late_error = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await sender.turn()
    made = await sender.world.call("EmailSubmission/set", update={id: patch})
    assert made["notUpdated"][id]["type"] == "cannotUnsend"
    await sender.turn()
    made = await sender.world.call("EmailSubmission/set", update={id: patch})
    assert made["notUpdated"][id]["type"] == "cannotUnsend"


@pytest.mark.parametrize(
    "patch",
    [
        {"undoStatus": "final"},
        {"undoStatus": "gone"},
        {"emailId": "e1"},
        {"sendAt": "2026-01-01T00:00:00Z"},
        {"sendState": "final"},
        {"blobId": "b1"},
        {"deliveryStatus": None},
        {"envelope/mailFrom/email": "x@y.test"},
    ],
)
async def test_nothing_else_can_be_changed(sender: Sender, patch: dict[str, Any]) -> None:
    id = await sender.submit()
    made = await sender.world.call("EmailSubmission/set", update={id: patch})
    assert made["notUpdated"][id]["type"] == "invalidProperties"


async def test_a_whole_object_may_be_sent_back_unchanged(sender: Sender) -> None:
    id = await sender.submit()
    whole = (await sender.world.call("EmailSubmission/get", ids=[id]))["list"][0]
    assert (await sender.world.call("EmailSubmission/set", update={id: whole}))["updated"]


@pytest.mark.parametrize(
    "parameters", [{"HOLDFOR": "3600"}, {"holduntil": "2026-09-21T17:13:20+02:00"}]
)
async def test_a_message_for_later_waits_for_its_moment(
    sender: Sender, parameters: dict[str, str]
) -> None:
    envelope = {
        "mailFrom": {"email": OWN, "parameters": parameters},
        "rcptTo": [{"email": FRIEND}],
    }
    id = await sender.submit({"emailId": await sender.draft(), "envelope": envelope})
    assert (await sender.get(id))["sendAt"] == "2026-09-21T15:13:20Z"
    await sender.turn()
    await sender.turn(3_599_999)
    assert sender.outbox.calls == 0
    await sender.turn(1)
    assert len(sender.outbox.taken) == 1


async def test_a_moment_in_the_past_is_now(sender: Sender) -> None:
    envelope = {
        "mailFrom": {"email": OWN, "parameters": {"HOLDUNTIL": "2001-01-01T00:00:00Z"}},
        "rcptTo": [{"email": FRIEND}],
    }
    id = await sender.submit({"emailId": await sender.draft(), "envelope": envelope})
    assert (await sender.get(id))["sendAt"] == "2026-09-21T14:13:20Z"


async def test_a_canceled_message_for_next_month_leaves_the_outbox_at_once(
    sender: Sender,
) -> None:
    envelope = {
        "mailFrom": {"email": OWN, "parameters": {"HOLDFOR": "2592000"}},
        "rcptTo": [{"email": FRIEND}],
    }
    id = await sender.submit({"emailId": await sender.draft(), "envelope": envelope})
    await sender.world.call("EmailSubmission/set", update={id: {"undoStatus": "canceled"}})
    await sender.turn()
    now_ms = sender.world.clock.now_ms() + 10**12
    due = await sender.world.services.store.list_due(now_ms, 10)
    assert sender.world.account_id not in due
