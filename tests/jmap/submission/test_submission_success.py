"""What EmailSubmission/set does to Emails afterwards. Source: RFC 8621 s7.5"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.jmap.mail.test_submission import FRIEND, Sender, make_sender
from tests.jmap.mail_fixture import (
    OWN,
    get_email,
)
from tests.world import World


@pytest.fixture
def sender(world: World, runner: asyncio.Runner) -> Sender:
    return runner.run(make_sender(world))


async def test_success_updates_the_email_by_an_implicit_call(sender: Sender) -> None:
    sent = await sender.world.add_mailbox("Sent", role="sent")
    email_id = await sender.draft()
    patch = {
        f"mailboxIds/{sender.drafts}": None,
        f"mailboxIds/{sent}": True,
        "keywords/$draft": None,
    }
    responses = await sender.set_submission(
        {"emailId": email_id}, onSuccessUpdateEmail={"#k": patch}
    )
    [[_, made, first], [name, updated, second]] = responses
    assert made["created"]
    assert (name, first, second) == ("Email/set", "0", "0")
    assert updated["updated"] == {email_id: None}
    got = await get_email(sender.world, email_id, "mailboxIds", "keywords")
    assert (got["mailboxIds"], got["keywords"]) == ({sent: True}, {})


async def test_success_destroys_the_email_and_it_is_sent_all_the_same(sender: Sender) -> None:
    email_id = await sender.draft()
    [_, [_, destroyed, _]] = await sender.set_submission(
        {"emailId": email_id}, onSuccessDestroyEmail=["#k"]
    )
    assert destroyed["destroyed"] == [email_id]
    await sender.turn()
    assert b"Subject: Hi" in sender.outbox.taken[0][1]


async def test_failure_touches_no_email(sender: Sender) -> None:
    email_id = await sender.draft(to=[])
    responses = await sender.set_submission(
        {"emailId": email_id},
        onSuccessUpdateEmail={"#k": {"keywords/$draft": None}},
        onSuccessDestroyEmail=["#k"],
    )
    assert [name for name, _, _ in responses] == ["EmailSubmission/set"]
    got = await get_email(sender.world, email_id, "keywords")
    assert got["keywords"] == {"$draft": True}


async def test_an_earlier_success_under_the_same_creation_id_does_not_count(
    sender: Sender,
) -> None:
    good, bad = await sender.draft(), await sender.draft(to=[])
    calls = [
        ["EmailSubmission/set", {"create": {"k": obj}}, "0"]
        for obj in ({"identityId": sender.identity_id, "emailId": good},)
    ]
    again = {"identityId": sender.identity_id, "emailId": bad}
    call = {"create": {"k": again}, "onSuccessDestroyEmail": ["#k"]}
    calls.append(["EmailSubmission/set", call, "1"])
    answers = await sender.world.calls(calls)
    assert [answer[0] for answer in answers] == ["EmailSubmission/set"] * 2
    assert (await sender.world.call("Email/get", ids=[good, bad]))["notFound"] == []


async def test_canceling_may_put_the_draft_back(sender: Sender) -> None:
    email_id = await sender.draft(keywords={})
    id = await sender.submit({"emailId": email_id})
    call = {
        "update": {id: {"undoStatus": "canceled"}},
        "onSuccessUpdateEmail": {id: {"keywords/$draft": True}},
    }
    [_, [name, updated, _]] = await sender.world.calls([["EmailSubmission/set", call, "0"]])
    assert (name, updated["updated"]) == ("Email/set", {email_id: None})


async def test_one_email_both_patched_twice_is_patched_once_with_all(sender: Sender) -> None:
    email_id = await sender.draft()
    obj = {"identityId": sender.identity_id, "emailId": email_id}
    call = {
        "create": {"a": obj, "b": obj},
        "onSuccessUpdateEmail": {"#a": {"keywords/a": True}, "#b": {"keywords/b": True}},
    }
    responses = await sender.world.calls([["EmailSubmission/set", call, "0"]])
    assert responses[1][1]["updated"] == {email_id: None}
    got = await get_email(sender.world, email_id, "keywords")
    assert got["keywords"] == {"$draft": True, "a": True, "b": True}


@pytest.mark.parametrize(
    "arguments",
    [
        {"onSuccessUpdateEmail": []},
        {"onSuccessUpdateEmail": {"#k": 3}},
        {"onSuccessDestroyEmail": {}},
        {"onSuccessDestroyEmail": [3]},
        {"onSuccess": {}},
    ],
)
async def test_wrong_arguments_send_nothing(sender: Sender, arguments: dict[str, Any]) -> None:
    [[name, error, _]] = await sender.set_submission({"emailId": await sender.draft()}, **arguments)
    assert (name, error["type"]) == ("error", "invalidArguments")
    await sender.turn()
    assert sender.outbox.calls == 0


async def test_an_email_made_in_the_same_request_can_be_sent(sender: Sender) -> None:
    obj = {
        "mailboxIds": {sender.drafts: True},
        "from": [{"email": OWN}],
        "to": [{"email": FRIEND}],
    }
    calls = [
        ["Email/set", {"create": {"d": obj}}, "0"],
        [
            "EmailSubmission/set",
            {"create": {"s": {"identityId": sender.identity_id, "emailId": "#d"}}},
            "1",
        ],
    ]
    answers = await sender.world.calls(calls)
    assert answers[1][1]["created"]["s"]["emailId"] == answers[0][1]["created"]["d"]["id"]
