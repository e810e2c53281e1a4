"""Arguments of the standard methods, for every type: what may be left out, and which numbers are.

Source: RFC 8620 s1.3, s3.5, s5.8
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.jmap.templates import Things
from tests.world import World

_ALL_CHANGES = {"maxChanges": None}
_SET = {"ifInState": None, "create": None, "update": None, "destroy": None}
_QUERY = {
    "filter": None, "sort": None, "position": 0, "anchor": None, "anchorOffset": 0, "limit": None,
    "calculateTotal": False,
}  # fmt: skip
_QUERY_CHANGES = {
    "filter": None, "sort": None, "maxChanges": None, "upToId": None, "calculateTotal": False,
}  # fmt: skip
NEEDED: dict[str, dict[str, Any]] = {
    "get": {},
    "changes": {"sinceState": "0"},
    "set": {},
    "query": {},
    "queryChanges": {"sinceQueryState": "0"},
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "get": {"ids": None, "properties": None},
    "changes": _ALL_CHANGES,
    "set": _SET,
    "query": _QUERY,
    "queryChanges": _QUERY_CHANGES,
}


async def test_what_is_left_out_is_what_it_is_by_default(world: World) -> None:
    await Things(world).make()
    count = 0
    for name, account_id in world.list_places().items():
        for verb, defaults in DEFAULTS.items():
            method = f"{name}/{verb}"
            if method not in world.registry.methods:
                continue
            needed = {"accountId": account_id} | NEEDED[verb]
            bare = await world.raw_request([[method, needed, "0"]])
            full = await world.raw_request([[method, needed | defaults, "0"]])
            [[answered, result, _]] = bare["methodResponses"]
            assert answered == method, result
            assert full["methodResponses"] == bare["methodResponses"], method
            count += 1
    assert count >= 40


async def test_what_has_no_default_must_be_given(world: World) -> None:
    await Things(world).make()
    for name, account_id in world.list_places().items():
        for verb, needed in NEEDED.items():
            if f"{name}/{verb}" not in world.registry.methods:
                continue
            for argument in needed:
                place = {"accountId": account_id}
                for given in (place, place | {argument: None}):
                    error = await world.fail(f"{name}/{verb}", **given)
                    assert error["type"] == "invalidArguments", (name, verb)
                    assert "state" in error["description"]


_WHOLE = {"position": True, "anchorOffset": True, "limit": False, "maxChanges": False}
"""Argument -> whether it may be negative."""


@pytest.mark.parametrize(
    ("number", "is_int", "is_unsigned"),
    [
        (0, True, True), (-1, True, False), (2**53 - 1, True, True), (1 - 2**53, True, False),
        (2**53, False, False), (-(2**53), False, False), (2**64, False, False),
        (10**30, False, False), (0.5, False, False), (1e300, False, False), (True, False, False),
        ("1", False, False), ([], False, False), ({}, False, False),
    ],
)  # fmt: skip
async def test_numbers_are_within_the_53_bits_that_every_client_has(
    world: World, number: Any, is_int: bool, is_unsigned: bool
) -> None:
    for name in world.list_places():
        if f"{name}/query" not in world.registry.methods:
            continue
        for argument, may_be_negative in _WHOLE.items():
            verb = "queryChanges" if argument == "maxChanges" else "query"
            arguments = {"accountId": world.account_id, argument: number} | NEEDED[verb]
            answer = await world.raw_request([[f"{name}/{verb}", arguments, "0"]])
            [[answered, result, _]] = answer["methodResponses"]
            is_good = is_int if may_be_negative else is_unsigned
            assert (answered != "error") is is_good, (name, argument, result)
            assert is_good or result["type"] == "invalidArguments"


async def test_a_request_that_a_proxy_splits_ends_as_the_whole_one(world: World) -> None:
    """Creation ids go from answer to request. Source: RFC 8620 s5.8"""
    calls: list[Any] = []
    for number in range(4):
        parent = f"#k{number - 1}" if number else None
        create = {f"k{number}": {"name": f"Box {number}", "parentId": parent}}
        arguments = {"accountId": world.account_id, "create": create}
        calls.append(["Mailbox/set", arguments, str(number)])
    known: dict[str, str] = {}
    for one in calls:
        answer = await world.request([one], createdIds=known)
        assert known.items() <= answer["createdIds"].items()
        known = answer["createdIds"]
    got = await world.call("Mailbox/get", properties=["name", "parentId"])
    parents = {box["name"]: box["parentId"] for box in got["list"]}
    expected = [None, *(known[f"k{number}"] for number in range(3))]
    assert parents == {f"Box {number}": id for number, id in enumerate(expected)}
