"""Results of one call as arguments of the next. Source: RFC 8620 s3.7"""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.jmap.mail_fixture import make_raw
from tests.world import World


def _refer(path: Any, of: Any = "0", name: Any = "Core/echo") -> dict[str, Any]:
    return {"resultOf": of, "name": name, "path": path}


ECHO = ["Core/echo", {"list": [{"id": "a", "x": [1, 2]}, {"id": "b", "x": [3]}], "t": "text"}, "0"]


async def _echo(world: World, reference: Any) -> list[Any]:
    """[name, arguments] of an echo that takes `v` from the echo before it."""
    calls = [ECHO, ["Core/echo", {"#v": reference}, "1"]]
    [_, [name, result, _]] = (await world.raw_request(calls))["methodResponses"]
    return [name, result]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/t", "text"),
        ("/list/*/id", ["a", "b"]),
        ("/list/*/x", [1, 2, 3]),
        ("/list/0/x/1", 2),
        ("/list/1", {"id": "b", "x": [3]}),
        ("", ECHO[1]),
    ],
)
async def test_an_argument_can_be_taken_from_an_earlier_result(
    world: World, path: str, value: Any
) -> None:
    assert await _echo(world, _refer(path)) == ["Core/echo", {"v": value}]


@pytest.mark.parametrize(
    "path",
    [
        "t", "x/t", "#/t", "/", "/T", "/t/", "/t/0", "/t/*", "/list/2", "/list/-1", "/list/-",
        "/list/00", "/list/1e0", "/list/*/nothing", "/list/*/x/2", "/list/**", "/list//", "/~",
        "/~2", "/list/~", "/list/*/id/*", "/*", "/list/99999999999999999999", "/list/٠", "\0",
        "/" * 500, "/list" + "/*" * 500, "/list/*" + "/x" * 5000,
    ],
)  # fmt: skip
async def test_a_path_that_leads_nowhere_is_an_invalid_reference(world: World, path: str) -> None:
    [kind, error] = await _echo(world, _refer(path))
    assert (kind, error["type"]) == ("error", "invalidResultReference")
    assert len(error["description"]) < 500


@pytest.mark.parametrize(
    ("of", "name"),
    [("1", "Core/echo"), ("2", "Core/echo"), ("", "Core/echo"), ("0", "core/echo"), ("0", "error")],
)
async def test_a_response_that_is_not_there_before_is_an_invalid_reference(
    world: World, of: str, name: str
) -> None:
    [kind, error] = await _echo(world, _refer("/t", of, name))
    assert (kind, error["type"]) == ("error", "invalidResultReference")


@pytest.mark.parametrize(
    "reference",
    [
        None, 5, "text", [], True, {}, {"resultOf": "0"}, {"resultOf": "0", "name": "Core/echo"},
        _refer(None), _refer(5), _refer(["/t"]), _refer("/t", 0), _refer("/t", None),
        _refer("/t", "0", None), _refer("/t") | {"more": 1},
    ],
)  # fmt: skip
async def test_what_is_no_reference_at_all_is_an_invalid_argument(
    world: World, reference: Any
) -> None:
    [kind, error] = await _echo(world, reference)
    assert (kind, error["type"]) == ("error", "invalidArguments")


async def test_an_argument_given_both_ways_is_refused(world: World) -> None:
    for arguments in ({"v": 1, "#v": _refer("/t")}, {"#v": _refer("/t"), "v": None}):
        answer = await world.raw_request([ECHO, ["Core/echo", arguments, "1"]])
        assert answer["methodResponses"][1][1]["type"] == "invalidArguments"


async def test_the_first_response_with_the_call_id_counts(world: World) -> None:
    """An error, too: the second response of that id is never looked at."""
    calls = [
        ["Nothing/get", {}, "0"],
        ["Core/echo", {"t": 1}, "0"],
        ["Core/echo", {"#v": _refer("/t")}, "1"],
        ["Core/echo", {"#v": _refer("/type", name="error")}, "2"],
    ]
    answer = (await world.raw_request(calls))["methodResponses"]
    assert answer[2][1]["type"] == "invalidResultReference"
    assert answer[3][1] == {"v": "unknownMethod"}


async def test_a_null_result_is_a_value(world: World) -> None:
    await world.add_mailbox("A")
    [_, [_, got, _]] = await world.calls(
        [
            ["Mailbox/changes", {"sinceState": "0"}, "0"],
            [
                "Mailbox/get",
                {
                    "#ids": _refer("/created", name="Mailbox/changes"),
                    "#properties": _refer("/updatedProperties", name="Mailbox/changes"),
                },
                "1",
            ],
        ]
    )
    assert got["list"][0]["name"] == "A"
    assert "myRights" in got["list"][0]


async def test_the_list_view_of_a_mail_client_in_one_request(world: World) -> None:
    """The example of the RFC: query, threadIds, emailIds of those Threads, their headers."""
    inbox = await world.add_mailbox("Inbox", role="inbox")
    first = await world.add_email(inbox, make_raw("One", "one@x"))
    reply = await world.add_email(inbox, make_raw("Re: One", "re@x", In_Reply_To="<one@x>"))
    other = await world.add_email(inbox, make_raw("Two", "two@x"))
    found = await world.calls(
        [
            ["Email/query", {"filter": {"inMailbox": inbox}, "collapseThreads": True}, "t0"],
            [
                "Email/get",
                {"#ids": _refer("/ids", "t0", "Email/query"), "properties": ["threadId"]},
                "t1",
            ],
            ["Thread/get", {"#ids": _refer("/list/*/threadId", "t1", "Email/get")}, "t2"],
            [
                "Email/get",
                {
                    "#ids": _refer("/list/*/emailIds", "t2", "Thread/get"),
                    "properties": ["subject"],
                },
                "t3",
            ],
        ]
    )
    assert [name for name, _, _ in found] == [
        "Email/query",
        "Email/get",
        "Thread/get",
        "Email/get",
    ]
    assert found[0][1]["ids"] == [other, reply]
    assert {email["id"]: email["subject"] for email in found[3][1]["list"]} == {
        first: "One",
        reply: "Re: One",
        other: "Two",
    }


async def test_references_to_references_cannot_grow_without_end(world: World) -> None:
    """Each call holds the one before it twice: 2**60 copies if nobody counted."""
    calls: list[Any] = [["Core/echo", {"v": "x" * 100}, "0"]]
    for number in range(60):
        twice = {f"#{name}": _refer("", str(number)) for name in ("a", "b")}
        calls.append(["Core/echo", twice, str(number + 1)])
    start = time.perf_counter()
    answer = (await world.raw_request(calls))["methodResponses"]
    assert time.perf_counter() - start < 20
    kinds = [name if name != "error" else result["type"] for name, result, _ in answer]
    assert kinds[:5] == ["Core/echo"] * 5
    assert kinds[-1] == "invalidResultReference"
    assert set(kinds) == {"Core/echo", "invalidResultReference"}


async def test_large_results_cannot_be_referred_to_again_and_again(world: World) -> None:
    calls: list[Any] = [["Core/echo", {"v": ["y" * 1000] * 1000}, "0"]]
    many = {f"#a{number}": _refer("/v") for number in range(50)}
    calls.append(["Core/echo", many, "1"])
    answer = (await world.raw_request(calls))["methodResponses"]
    assert answer[1][1]["type"] == "invalidResultReference"


async def test_walking_over_much_that_stands_for_nothing_is_counted_too(world: World) -> None:
    calls: list[Any] = [["Core/echo", {"v": [[] for _ in range(100_000)]}, "0"]]
    calls += [["Core/echo", {"#a": _refer("/v/*/*")}, str(n)] for n in range(1, 16)]
    start = time.perf_counter()
    answer = (await world.raw_request(calls))["methodResponses"]
    assert time.perf_counter() - start < 5
    assert answer[1][1] == {"a": []}
    assert answer[-1][1]["type"] == "invalidResultReference"


async def test_one_property_of_a_stored_object_can_be_taken(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    calls = [
        ["Mailbox/get", {"ids": [inbox]}, "0"],
        ["Core/echo", {"#v": _refer("/list/0/name", name="Mailbox/get")}, "1"],
    ]
    answer = await world.calls(calls)
    assert answer[1][1]["v"] == "Inbox"
