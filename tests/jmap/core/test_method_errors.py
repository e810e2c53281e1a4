"""The errors of methods that any of them may give, and what they leave behind: nothing.

What bad arguments of each kind do is in the file of each method, and in test_hostile.py.
Source: RFC 8620 s3.6.2, s5.3, s5.4
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.jmap.sharing_fixture import READ, add_home, add_person, share
from tests.world import CORE, MAIL, World, raise_report
from tindra.core.access import load_caller
from tindra.core.dispatch import run_request
from tindra.core.errors import Conflict, Unavailable
from tindra.wire.jmap.request import Call, Request


async def _add_home(world: World) -> str:
    user = world.caller.user
    await add_home(world, user)
    now_ms = world.clock.now_ms()
    world.caller = await load_caller(world.services.directory, user, now_ms)
    return str(user.home_account_id)


async def test_an_account_without_mail_does_not_support_the_methods_of_mail(world: World) -> None:
    """The home account of who has others: the Session object names no mail for it."""
    home = await _add_home(world)
    access = world.caller.accounts[world.caller.user.home_account_id]
    supported = world.registry.list_account_capabilities(world.caller, access)
    assert MAIL not in supported
    refused = set()
    for name, method in world.registry.methods.items():
        if world.registry.capabilities[method.capability].is_of_mailbox:
            assert method.capability not in supported
            error = await world.fail(name, accountId=home)
            assert error["type"] == "accountNotSupportedByMethod", name
            refused.add(name)
    assert {"Email/get", "Mailbox/set", "Email/copy", "SieveScript/query"} <= refused
    assert (await world.call("Principal/get", accountId=home))["list"]
    other = {"accountId": world.account_id, "fromAccountId": home, "create": {}}
    assert (await world.fail("Email/copy", **other))["type"] == "fromAccountNotSupportedByMethod"


async def test_the_only_account_of_a_user_supports_mail(world: World) -> None:
    person = await add_person(world, "lone")
    home = person.user.home_account_id
    caller = await load_caller(world.services.directory, person.user, world.clock.now_ms())
    assert list(caller.accounts) == [home]
    call = Call("Mailbox/get", {"accountId": home}, "0")
    request = Request([CORE, MAIL], [call], None)
    answer = await run_request(world.registry, world.services, caller, request, raise_report)
    assert answer["methodResponses"][0][0] == "Mailbox/get"


async def test_an_echo_is_not_about_the_account_it_names(world: World) -> None:
    """Not even about one of which a part is seen, where most methods are refused."""
    bea = await add_person(world, "bea")
    await share(world, await world.add_mailbox("Team"), bea, READ)
    arguments = {"accountId": world.account_id, "fromAccountId": world.account_id}
    assert await bea.call("Core/echo", **arguments) == arguments


async def test_an_account_that_cannot_be_written_says_so_for_every_set(world: World) -> None:
    await world.add_mailbox("A")
    access = world.caller.accounts[world.account_id]
    reader = replace(access, rights=frozenset({"read"}))
    whole = world.caller
    world.caller = replace(whole, accounts={world.account_id: reader})
    for name in world.list_places():
        if f"{name}/set" in world.registry.methods:
            error = await world.fail(f"{name}/set", create={"k": {}}, destroy=["x"])
            assert error["type"] == "accountReadOnly", name
            assert await world.call(f"{name}/get", ids=[])
    world.caller = whole


@pytest.mark.parametrize(
    ("broken", "kind"), [(Unavailable("full"), "serverUnavailable"), (Conflict("x"), "serverFail")]
)
async def test_what_a_failed_transaction_made_has_no_creation_id(
    world: World, monkeypatch: pytest.MonkeyPatch, broken: Exception, kind: str
) -> None:
    """The commit fails after the objects were made: nothing is there, and nothing is named."""
    parent = await world.add_mailbox("Parent")
    write = world.services.store.write

    async def fail(account_id: Any, name: str, fn: Any) -> Any:
        async def run(tx: Any) -> Any:
            await fn(tx)
            raise broken

        return await write(account_id, name, run)

    place = {"accountId": world.account_id}
    make = Call("Mailbox/set", place | {"create": {"k": {"name": "K"}, "p": {"name": "P"}}}, "0")
    child = Call("Mailbox/set", place | {"create": {"c": {"name": "C", "parentId": "#p"}}}, "1")
    get = Call("Mailbox/get", place | {"ids": ["#k", "#p"]}, "2")
    calls = [make, child, get]
    request = Request([CORE, MAIL], calls, {"p": parent})
    monkeypatch.setattr(world.services.store, "write", fail)
    answer = await run_request(
        world.registry, world.services, world.caller, request, lambda *_: "r1"
    )
    monkeypatch.undo()
    [[_, error, _], [_, again, _], [_, got, _]] = answer["methodResponses"]
    assert (error["type"], again["type"]) == (kind, kind)
    assert answer["createdIds"] == {"p": parent}
    assert [box["name"] for box in got["list"]] == ["Parent"]
    assert got["notFound"] == ["#k"]


async def test_creation_ids_are_one_map_for_all_types_and_the_last_one_counts(
    world: World,
) -> None:
    """Source: RFC 8620 s5.3"""
    calls = [
        ["Mailbox/set", {"create": {"k": {"name": "A"}}}, "0"],
        ["Identity/set", {"create": {"k": {"email": "alex@example.org"}}}, "1"],
        ["Mailbox/get", {"ids": ["#k"]}, "2"],
        ["Identity/get", {"ids": ["#k"]}, "3"],
        ["Mailbox/set", {"create": {"k": {"name": ""}}}, "4"],
        ["Identity/set", {"update": {"#k": {"name": "Alex"}}}, "5"],
    ]
    found = await world.calls(calls)
    identity = found[1][1]["created"]["k"]["id"]
    assert (found[2][1]["list"], found[2][1]["notFound"]) == ([], [identity])
    assert [obj["id"] for obj in found[3][1]["list"]] == [identity]
    assert found[4][1]["created"] is None, "what is refused names nothing anew"
    assert found[5][1]["updated"] == {identity: None}


async def test_a_call_sees_what_the_calls_before_it_wrote(world: World) -> None:
    """In order, also when one in the middle fails. Source: RFC 8620 s3.10"""
    names = ["A", "", "B"]
    calls: list[Any] = []
    for number, name in enumerate(names):
        calls.append(["Mailbox/set", {"create": {f"k{number}": {"name": name}}}, f"s{number}"])
        calls.append(["Mailbox/query", {"calculateTotal": True}, f"q{number}"])
    found = await world.calls(calls)
    assert [answer["total"] for name, answer, _ in found if name == "Mailbox/query"] == [1, 1, 2]
    for before, after in ((found[0], found[2]), (found[2], found[4])):
        assert before[1]["newState"] == after[1]["oldState"]
