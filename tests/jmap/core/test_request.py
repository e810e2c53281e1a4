"""Requests as a whole: capabilities, methods, call ids, created ids, errors. RFC 8620 s3"""

from __future__ import annotations

from typing import Any

import pytest

from tests.world import CORE, MAIL, SUBMISSION, World, raise_report
from tindra.base import limits
from tindra.core.datatype import CallContext, Method
from tindra.core.dispatch import encode_response, run_request
from tindra.core.errors import Conflict, MethodError, RequestError, SetError, Unavailable
from tindra.wire.jmap.request import Call, Request

VIEW = "urn:tindra:params:jmap:view"
WITHOUT_ACCOUNT = ("Core/", "PushSubscription/")


async def _run(world: World, *calls: Call, using: list[str] | None = None) -> list[Any]:
    request = Request([CORE, MAIL] if using is None else using, list(calls), None)
    found = await run_request(world.registry, world.services, world.caller, request, raise_report)
    return list(found["methodResponses"])


async def test_an_unknown_capability_refuses_the_whole_request(world: World) -> None:
    with pytest.raises(RequestError) as caught:
        await _run(world, Call("Core/echo", {}, "0"), using=[CORE, "urn:example:nothing"])
    assert (caught.value.kind, caught.value.status) == ("unknownCapability", 400)
    assert "urn:example:nothing" in caught.value.detail


async def test_a_method_needs_its_capability_in_using(world: World) -> None:
    for name, using in (
        ("Email/get", [CORE]),
        ("Core/echo", [MAIL]),
        ("EmailSubmission/get", [CORE, MAIL]),
        ("Identity/get", [CORE, MAIL]),
    ):
        call = Call(name, {"accountId": world.account_id, "ids": []}, "0")
        [[kind, error, _]] = await _run(world, call, using=using)
        assert (kind, error["type"]) == ("error", "unknownMethod"), name
    call = Call("Identity/get", {"accountId": world.account_id, "ids": []}, "0")
    [[kind, _, _]] = await _run(world, call, using=[SUBMISSION])
    assert kind == "Identity/get"


async def test_a_property_of_another_capability_is_unknown_without_it(world: World) -> None:
    arguments = {"accountId": world.account_id, "ids": [], "properties": ["safeHtml"]}
    call = Call("Email/get", arguments, "0")
    [[kind, error, _]] = await _run(world, call)
    assert (kind, error["type"]) == ("error", "invalidArguments")
    [[kind, _, _]] = await _run(world, call, using=[CORE, MAIL, VIEW])
    assert kind == "Email/get"


@pytest.mark.parametrize(
    "name", ["", "Email", "Email/", "email/get", "Email/get ", "Thread/set", "\0"]
)
async def test_a_method_that_does_not_exist_is_unknown(world: World, name: str) -> None:
    [[kind, error, id]] = await _run(world, Call(name, {}, "an id"))
    assert (kind, error["type"], id) == ("error", "unknownMethod", "an id")


async def test_calls_are_answered_in_order_and_an_error_stops_none_of_them(world: World) -> None:
    found = await _run(
        world,
        Call("Core/echo", {"n": 1}, "a"),
        Call("Nothing/get", {}, "b"),
        Call("Mailbox/get", {"accountId": 5}, "c"),
        Call("Core/echo", {"n": 2}, "a"),
    )
    assert [(name, id) for name, _, id in found] == [
        ("Core/echo", "a"),
        ("error", "b"),
        ("error", "c"),
        ("Core/echo", "a"),
    ]


async def test_echo_gives_back_what_it_got(world: World) -> None:
    arguments = {"hello": True, "high": 5, "list": [None, {"a": "é\0"}], "": {}}
    [[name, result, _]] = await _run(world, Call("Core/echo", arguments, "0"))
    assert (name, result) == ("Core/echo", arguments)


async def test_more_calls_than_allowed_refuse_the_whole_request(world: World) -> None:
    call = Call("Core/echo", {}, "0")
    assert len(await _run(world, *[call] * limits.CALLS_IN_REQUEST_MAX)) == 64
    with pytest.raises(RequestError) as caught:
        await _run(world, *[call] * (limits.CALLS_IN_REQUEST_MAX + 1))
    assert (caught.value.kind, caught.value.limit) == ("limit", "maxCallsInRequest")


async def test_created_ids_are_answered_only_when_given_and_with_all_that_was_made(
    world: World,
) -> None:
    make = ["Mailbox/set", {"accountId": world.account_id, "create": {"m": {"name": "A"}}}, "0"]
    assert "createdIds" not in await world.request([make])
    make[1]["create"] = {"n": {"name": "B"}, "bad": {"name": ""}}
    answer = await world.request([make], createdIds={"old": "e1"})
    made = answer["methodResponses"][0][1]["created"]["n"]["id"]
    assert answer["createdIds"] == {"old": "e1", "n": made}


async def test_a_creation_id_that_came_with_the_request_is_understood(world: World) -> None:
    parent = await world.add_mailbox("Parent")
    obj = {"name": "Child", "parentId": "#p"}
    make = ["Mailbox/set", {"accountId": world.account_id, "create": {"c": obj}}, "0"]
    get = ["Mailbox/get", {"accountId": world.account_id, "ids": ["#c", "#p", "#none"]}, "1"]
    answer = await world.request([make, get], createdIds={"p": parent})
    [_, [_, got, _]] = answer["methodResponses"]
    assert [box["name"] for box in got["list"]] == ["Child", "Parent"]
    assert got["list"][0]["parentId"] == parent
    assert got["notFound"] == ["#none"]


async def test_a_creation_id_used_twice_means_the_object_made_last(world: World) -> None:
    calls = [["Mailbox/set", {"create": {"k": {"name": name}}}, name] for name in ("A", "B")]
    get = ["Mailbox/get", {"ids": ["#k"], "properties": ["name"]}, "get"]
    [_, _, [_, got, _]] = await world.calls([*calls, get])
    assert [box["name"] for box in got["list"]] == ["B"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MethodError("forbidden", "why"), {"type": "forbidden", "description": "why"}),
        (MethodError("forbidden"), {"type": "forbidden"}),
        (SetError("overQuota", "full"), {"type": "overQuota", "description": "full"}),
        (Unavailable("disk full"), {"type": "serverUnavailable", "description": "disk full"}),
    ],
)
async def test_an_error_of_a_method_becomes_its_response(
    world: World, error: Exception, expected: dict[str, Any]
) -> None:
    async def fail(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
        raise error

    world.registry.add_method(Method("Test/fail", CORE, fail))
    assert await _run(world, Call("Test/fail", {}, "0")) == [("error", expected, "0")]


@pytest.mark.parametrize("error", [KeyError("secret mail"), Conflict("fence"), RecursionError()])
async def test_an_unexpected_error_is_reported_and_tells_the_client_no_more_than_its_number(
    world: World, error: Exception
) -> None:
    async def fail(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
        raise error

    reported: list[tuple[str, BaseException]] = []

    def report(name: str, found: BaseException) -> str:
        reported.append((name, found))
        return "r1"

    world.registry.add_method(Method("Test/fail", CORE, fail))
    request = Request([CORE], [Call("Test/fail", {}, "0"), Call("Core/echo", {}, "1")], None)
    answer = await run_request(world.registry, world.services, world.caller, request, report)
    [[kind, found, _], [echo, _, _]] = answer["methodResponses"]
    assert (kind, found["type"], echo) == ("error", "serverFail", "Core/echo")
    assert "r1" in found["description"]
    assert "secret" not in found["description"]
    assert reported == [("Test/fail", error)]
    assert b'"sessionState":"s"' in encode_response(answer, "s")


async def test_an_account_of_somebody_else_does_not_exist(world: World) -> None:
    for id in ("nothing", "", "a0-bob", world.account_id.upper(), "#" + world.account_id):
        for method in ("Email/get", "Email/changes", "Email/query", "Mailbox/set", "Email/import"):
            call = Call(method, {"accountId": id, "ids": [], "emails": {}}, "0")
            [[_, error, _]] = await _run(world, call)
            assert error["type"] == "accountNotFound", (method, id)


@pytest.mark.parametrize("account_id", [None, 5, True, [], {}, ["a"], 1.5])
async def test_an_account_id_that_is_no_text_is_an_invalid_argument(
    world: World, account_id: Any
) -> None:
    for name in sorted(world.registry.methods):
        if not name.startswith(WITHOUT_ACCOUNT):
            for arguments in ({"accountId": account_id}, {}):
                [[_, error, _]] = await _run(
                    world, Call(name, arguments, "0"), using=list(world.registry.capabilities)
                )
                assert error["type"] == "invalidArguments", (name, error)


async def test_an_argument_that_a_method_does_not_have_is_refused_and_named(world: World) -> None:
    for name in sorted(world.registry.methods):
        if name == "Core/echo":
            continue
        place = {} if name.startswith(WITHOUT_ACCOUNT) else {"accountId": world.account_id}
        answer = await world.request([[name, place | {"surprise": 1}, "0"]])
        [[kind, error, _]] = answer["methodResponses"]
        assert kind == "error", name
        assert error["type"] in ("invalidArguments", "fromAccountNotFound"), name
        if not name.endswith("/copy"):
            assert "surprise" in error["description"], name
