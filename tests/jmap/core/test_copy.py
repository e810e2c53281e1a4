"""What every /copy does with its arguments; test_email_copy has the rest. RFC 8620 s5.4"""

from __future__ import annotations

from typing import Any

import pytest

from tests.jmap.mail_fixture import add_account, add_foreign_account
from tests.world import World
from tindra.base import limits


@pytest.mark.parametrize(
    "arguments",
    [
        {"create": None}, {"create": []}, {"create": "x"}, {"create": {"k": None}},
        {"create": {"k": []}}, {"create": {"k": {}}}, {"create": {"k": {"id": 5}}},
        {"create": {"k": {"id": None}}}, {"create": {"": {"id": "e1"}}},
        {"create": {"a b": {"id": "e1"}}}, {"create": {"#k": {"id": "e1"}}}, {"ifInState": 5},
        {"ifFromInState": []}, {"destroyFromIfInState": True}, {"onSuccessDestroyOriginal": 1},
        {"onSuccessDestroyOriginal": "true"}, {"surprise": 1}, {"fromAccountId": None},
        {"fromAccountId": 5}, {"fromAccountId": []},
    ],
)  # fmt: skip
async def test_arguments_of_the_wrong_kind_are_refused(
    world: World, arguments: dict[str, Any]
) -> None:
    other = await add_account(world, "team", "read", "triage")
    given = {"fromAccountId": world.account_id, "accountId": other, "create": {}} | arguments
    assert (await world.fail("Email/copy", **given))["type"] == "invalidArguments"


async def test_only_types_that_can_be_copied_have_the_method(world: World) -> None:
    copies = {name for name in world.registry.methods if name.endswith("/copy")}
    assert copies == {"Email/copy", "Blob/copy"}


async def test_both_accounts_must_be_there_and_differ(world: World) -> None:
    other = await add_account(world, "team", "read")
    foreign = await add_foreign_account(world, "bob")
    for source, target, kind in (
        (world.account_id, world.account_id, "invalidArguments"),
        (world.account_id, foreign, "accountNotFound"),
        (world.account_id, "nothing", "accountNotFound"),
        (foreign, world.account_id, "fromAccountNotFound"),
        ("nothing", world.account_id, "fromAccountNotFound"),
        (world.account_id, other, "accountReadOnly"),
    ):
        error = await world.fail("Email/copy", fromAccountId=source, accountId=target, create={})
        assert error["type"] == kind, (source, target)


async def test_copying_nothing_moves_nothing(world: World) -> None:
    other = await add_account(world, "team", "read", "triage")
    ids = {"fromAccountId": world.account_id, "accountId": other}
    for create in ({}, {"k": {"id": "nothing"}}, {"k": {"id": "#nothing"}}):
        answer = await world.call("Email/copy", **ids, create=create, onSuccessDestroyOriginal=True)
        refused = {key: error["type"] for key, error in (answer["notCreated"] or {}).items()}
        assert refused == dict.fromkeys(create, "notFound")
        assert (answer["created"], answer["oldState"]) == (None, answer["newState"])
    many = {f"k{n}": {"id": "e1"} for n in range(limits.OBJECTS_IN_SET_MAX + 1)}
    assert (await world.fail("Email/copy", **ids, create=many))["type"] == "requestTooLarge"
