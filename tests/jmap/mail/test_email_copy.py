"""Email/copy. Source: RFC 8621 s4.7, RFC 8620 s5.4"""

from __future__ import annotations

from typing import Any

import pytest

from tests.jmap.mail_fixture import (
    add_account,
    add_foreign_account,
    add_mailbox_in,
    get_email,
    make_raw,
    only_rights,
)
from tests.world import World
from tindra.base import limits


class Pair:
    """An Email here, and an account to copy it to."""

    def __init__(self, world: World, other: str, mailbox_id: str, email_id: str) -> None:
        self.world = world
        self.other = other
        self.mailbox_id = mailbox_id
        self.email_id = email_id

    async def copy(self, obj: dict[str, Any] | None = None, **arguments: Any) -> list[Any]:
        """The responses of one Email/copy."""
        given = {"id": self.email_id, "mailboxIds": {self.mailbox_id: True}} | (obj or {})
        call = {
            "fromAccountId": self.world.account_id,
            "accountId": self.other,
            "create": {"k": given},
        } | arguments
        answer = await self.world.request([["Email/copy", call, "0"]])
        return list(answer["methodResponses"])

    async def get(self, id: str, *properties: str) -> dict[str, Any]:
        """An Email of the other account."""
        call = {"accountId": self.other, "ids": [id], "properties": [*properties]}
        [[_, got, _]] = (await self.world.request([["Email/get", call, "0"]]))["methodResponses"]
        return dict(got["list"][0])


async def make_pair(world: World, *rights: str) -> Pair:
    inbox = await world.add_mailbox("Inbox")
    id = await world.add_email(
        inbox, make_raw("Moving"), ("$seen",), receivedAt="2026-02-03T04:05:06Z"
    )
    other = await add_account(world, "team", *(rights or ("read", "triage")))
    if rights and "triage" not in rights:
        return Pair(world, other, "none", id)
    return Pair(world, other, await add_mailbox_in(world, other, "Inbox"), id)


async def test_a_copy_is_the_same_message_with_the_same_marks(world: World) -> None:
    pair = await make_pair(world)
    [[name, made, _]] = await pair.copy()
    assert name == "Email/copy"
    assert (made["fromAccountId"], made["accountId"]) == (world.account_id, pair.other)
    assert made["oldState"] != made["newState"]
    created = made["created"]["k"]
    assert created.keys() == {"id", "blobId", "threadId", "size"}
    got = await pair.get(created["id"], "subject", "keywords", "receivedAt", "mailboxIds", "size")
    assert got == {
        "id": created["id"],
        "subject": "Moving",
        "keywords": {"$seen": True},
        "receivedAt": "2026-02-03T04:05:06Z",
        "mailboxIds": {pair.mailbox_id: True},
        "size": len(make_raw("Moving")),
    }
    assert (await get_email(world, pair.email_id, "subject"))["subject"] == "Moving"


async def test_keywords_and_arrival_can_be_other(world: World) -> None:
    pair = await make_pair(world)
    [[_, made, _]] = await pair.copy(
        {"keywords": {"$Flagged": True}, "receivedAt": "2020-01-01T00:00:00Z"}
    )
    got = await pair.get(made["created"]["k"]["id"], "keywords", "receivedAt")
    assert got["keywords"] == {"$flagged": True}
    assert got["receivedAt"] == "2020-01-01T00:00:00Z"


async def test_a_second_copy_is_refused_with_the_id_of_the_first(world: World) -> None:
    pair = await make_pair(world)
    [[_, first, _]] = await pair.copy()
    [[_, second, _]] = await pair.copy()
    error = second["notCreated"]["k"]
    assert error["type"] == "alreadyExists"
    assert error["existingId"] == first["created"]["k"]["id"]


async def test_the_original_is_destroyed_by_an_implicit_set(world: World) -> None:
    pair = await make_pair(world)
    [[_, made, first], [name, destroyed, second]] = await pair.copy(onSuccessDestroyOriginal=True)
    assert made["created"]
    assert (name, first, second) == ("Email/set", "0", "0")
    assert (destroyed["accountId"], destroyed["destroyed"]) == (world.account_id, [pair.email_id])
    assert (await world.call("Email/get", ids=[pair.email_id]))["notFound"] == [pair.email_id]


async def test_what_was_not_copied_is_not_destroyed(world: World) -> None:
    pair = await make_pair(world)
    responses = await pair.copy({"mailboxIds": {"nowhere": True}}, onSuccessDestroyOriginal=True)
    assert len(responses) == 1
    assert responses[0][1]["notCreated"]["k"]["properties"] == ["mailboxIds"]


async def test_the_implicit_set_gets_its_own_state_to_match(world: World) -> None:
    pair = await make_pair(world)
    [[_, made, _], [name, error, _]] = await pair.copy(
        onSuccessDestroyOriginal=True, destroyFromIfInState="0"
    )
    assert made["created"]
    assert (name, error["type"]) == ("error", "stateMismatch")


async def test_both_states_must_match_if_given(world: World) -> None:
    pair = await make_pair(world)
    for wrong in (pair.copy(ifInState="9999"), pair.copy(ifFromInState="9999")):
        [[answered, error, _]] = await wrong
        assert (answered, error["type"]) == ("error", "stateMismatch")
    state = (await world.call("Email/get", ids=[]))["state"]
    [[_, made, _]] = await pair.copy(ifFromInState=state, ifInState="0")
    assert made["created"]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"mailboxIds": None}, ["mailboxIds"]),
        ({"mailboxIds": {}}, ["mailboxIds"]),
        ({"keywords": {"a": False}}, ["keywords"]),
        ({"receivedAt": "never"}, ["receivedAt"]),
        ({"subject": "Other"}, ["subject"]),
        ({"from": []}, ["from"]),
    ],
)
async def test_only_the_place_of_a_copy_can_be_set(
    world: World, wrong: dict[str, Any], named: list[str]
) -> None:
    pair = await make_pair(world)
    [[_, made, _]] = await pair.copy(wrong)
    error = made["notCreated"]["k"]
    assert (error["type"], error["properties"]) == ("invalidProperties", named)


@pytest.mark.parametrize("id", ["e00000000000", "no-id", "#nobody"])
async def test_an_unknown_original_is_not_found(world: World, id: str) -> None:
    pair = await make_pair(world)
    [[_, made, _]] = await pair.copy({"id": id})
    assert made["notCreated"]["k"]["type"] == "notFound"


async def test_an_email_made_in_the_same_request_can_be_copied(world: World) -> None:
    pair = await make_pair(world)
    inbox = (await world.call("Mailbox/get", ids=None))["list"][0]["id"]
    calls = [
        [
            "Email/set",
            {
                "accountId": world.account_id,
                "create": {"new": {"mailboxIds": {inbox: True}, "subject": "New"}},
            },
            "0",
        ],
        [
            "Email/copy",
            {
                "fromAccountId": world.account_id,
                "accountId": pair.other,
                "create": {"k": {"id": "#new", "mailboxIds": {pair.mailbox_id: True}}},
            },
            "1",
        ],
    ]
    answer = await world.request(calls)
    assert answer["methodResponses"][1][1]["created"]["k"]["id"]


async def test_an_account_one_knows_nothing_of_is_not_found_at_either_end(world: World) -> None:
    pair = await make_pair(world)
    foreign = await add_foreign_account(world, "eve")
    for account_id in (foreign, "nowhere"):
        [[_, error, _]] = await pair.copy(fromAccountId=account_id)
        assert error["type"] == "fromAccountNotFound"
        [[_, error, _]] = await pair.copy(accountId=account_id)
        assert error["type"] == "accountNotFound"


async def test_copying_into_a_read_only_account_is_refused(world: World) -> None:
    pair = await make_pair(world, "read")
    [[_, error, _]] = await pair.copy()
    assert error["type"] == "accountReadOnly"


async def test_reading_is_enough_to_copy_from_but_not_to_destroy(world: World) -> None:
    pair = await make_pair(world)
    async with only_rights(world, "read"):
        [[_, made, _], [name, error, _]] = await pair.copy(onSuccessDestroyOriginal=True)
    assert made["created"]
    assert (name, error["type"]) == ("error", "accountReadOnly")


@pytest.mark.parametrize(
    "arguments",
    [
        {"create": None},
        {"create": {"k": 3}},
        {"create": {"k": {}}},
        {"create": {"a b": {"id": "e1"}}},
        {"fromAccountId": None},
        {"onSuccessDestroyOriginal": "yes"},
        {"ifInState": 3},
        {"ifFromInState": 3},
        {"destroyFromIfInState": 3},
        {"extra": 1},
    ],
)
async def test_wrong_arguments_are_refused(world: World, arguments: dict[str, Any]) -> None:
    pair = await make_pair(world)
    [[name, error, _]] = await pair.copy(**arguments)
    assert (name, error["type"]) == ("error", "invalidArguments")


async def test_an_account_is_not_copied_to_itself(world: World) -> None:
    pair = await make_pair(world)
    [[_, error, _]] = await pair.copy(accountId=world.account_id)
    assert error["type"] == "invalidArguments"


async def test_too_many_at_once_are_refused(world: World) -> None:
    pair = await make_pair(world)
    create = {f"k{n}": {"id": "e1"} for n in range(limits.OBJECTS_IN_SET_MAX + 1)}
    [[_, error, _]] = await pair.copy(create=create)
    assert error["type"] == "requestTooLarge"


async def test_types_that_cannot_be_copied_have_no_such_method(world: World) -> None:
    assert (await world.fail("Thread/copy"))["type"] == "unknownMethod"
    assert (await world.fail("Mailbox/copy"))["type"] == "unknownMethod"
