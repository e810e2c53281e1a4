"""What every /query and /queryChanges does. Source: RFC 8620 s5.5, s5.6"""

from __future__ import annotations

from typing import Any

import pytest

from tests.jmap.mail_fixture import make_raw
from tests.world import World
from tindra.base import limits

QUERIED = ("Mailbox", "Email", "EmailSubmission")
BY_NAME = [{"property": "name"}]


@pytest.fixture
def letters() -> str:
    return "abcdefghij"


async def _make(world: World, letters: str) -> dict[str, str]:
    """Letter -> id of a Mailbox with that name."""
    made = await world.call("Mailbox/set", create={c: {"name": c} for c in letters})
    return {c: made["created"][c]["id"] for c in letters}


async def _query(world: World, **arguments: Any) -> dict[str, Any]:
    return await world.call("Mailbox/query", sort=BY_NAME, **arguments)


async def test_the_answer_of_an_empty_account(world: World) -> None:
    for name in QUERIED:
        found = await world.call(f"{name}/query")
        assert found == {
            "accountId": world.account_id,
            "queryState": "0",
            "canCalculateChanges": True,
            "position": 0,
            "ids": [],
            "limit": limits.QUERY_IDS_MAX,
        }
        assert (await world.call(f"{name}/query", calculateTotal=True))["total"] == 0
        assert "total" not in await world.call(f"{name}/query", calculateTotal=False)


@pytest.mark.parametrize(
    ("arguments", "expected", "position"),
    [
        ({}, "abcdefghij", 0),
        ({"position": 3}, "defghij", 3),
        ({"position": 3, "limit": 2}, "de", 3),
        ({"position": 9}, "j", 9),
        ({"position": 10}, "", 10),
        ({"position": 1000, "limit": 5}, "", 1000),
        ({"position": 2**53 - 1}, "", 2**53 - 1),
        ({"position": -1}, "j", 9),
        ({"position": -3, "limit": 2}, "hi", 7),
        ({"position": -10}, "abcdefghij", 0),
        ({"position": -11, "limit": 1}, "a", 0),
        ({"position": -(2**53) + 1, "limit": 3}, "abc", 0),
        ({"limit": 0}, "", 0),
        ({"limit": 0, "position": -2}, "", 8),
        ({"limit": 2**53 - 1}, "abcdefghij", 0),
        ({"position": None, "limit": None, "anchor": None, "anchorOffset": None}, "abcdefghij", 0),
        ({"anchorOffset": 5}, "abcdefghij", 0),
    ],
)
async def test_position_and_limit_cut_a_window(
    world: World, letters: str, arguments: dict[str, Any], expected: str, position: int
) -> None:
    ids = await _make(world, letters)
    found = await _query(world, **arguments, calculateTotal=True)
    assert found["ids"] == [ids[c] for c in expected]
    assert (found["position"], found["total"]) == (position, 10)


@pytest.mark.parametrize(
    ("anchor", "offset", "expected"),
    [
        ("d", 0, "def"), ("d", 1, "efg"), ("d", -1, "cde"), ("d", -3, "abc"), ("d", -100, "abc"),
        ("j", 0, "j"), ("j", 1, ""), ("j", 100, ""), ("a", -1, "abc"), ("a", 2**53 - 1, ""),
    ],
)  # fmt: skip
async def test_an_anchor_is_where_the_window_begins(
    world: World, letters: str, anchor: str, offset: int, expected: str
) -> None:
    ids = await _make(world, letters)
    for position in (0, 4, -2, 1000):
        found = await _query(
            world, anchor=ids[anchor], anchorOffset=offset, limit=3, position=position
        )
        assert found["ids"] == [ids[c] for c in expected]
        assert found["position"] == max(0, letters.index(anchor) + offset)


async def test_an_anchor_that_is_not_in_the_result_is_not_found(world: World, letters: str) -> None:
    ids = await _make(world, letters)
    for arguments in ({"anchor": "nothing"}, {"anchor": ids["a"], "filter": {"name": "b"}}):
        assert (await world.fail("Mailbox/query", **arguments))["type"] == "anchorNotFound"


async def test_the_limit_is_told_only_where_the_server_chose_it(world: World) -> None:
    for wanted, told in (
        (None, limits.QUERY_IDS_MAX),
        (limits.QUERY_IDS_MAX + 1, limits.QUERY_IDS_MAX),
        (limits.QUERY_IDS_MAX, None),
        (5, None),
        (0, None),
    ):
        assert (await _query(world, limit=wanted)).get("limit") == told


@pytest.mark.parametrize(
    "arguments",
    [
        {"limit": -1}, {"limit": "5"}, {"limit": 1.0}, {"limit": 2**53}, {"limit": True},
        {"position": "0"}, {"position": 1.5}, {"position": 2**53}, {"position": -(2**53)},
        {"position": []}, {"position": False}, {"anchor": 5}, {"anchor": ""}, {"anchor": ["a"]},
        {"anchor": "a b"}, {"anchorOffset": "1"}, {"anchorOffset": 10**30}, {"calculateTotal": 1},
        {"calculateTotal": "true"}, {"filter": []}, {"filter": "x"}, {"filter": 5},
        {"filter": True}, {"filter": False}, {"sort": {}}, {"sort": "name"}, {"sort": 5},
        {"sort": False}, {"sort": ""}, {"sort": [None]}, {"sort": ["name"]}, {"sort": [[]]},
        {"sort": [{}]},
        {"sort": [{"property": 5}]}, {"sort": [{"property": None}]}, {"sort": [{"property": []}]},
        {"sort": [{"property": "name", "isAscending": 1}]},
        {"sort": [{"property": "name", "isAscending": "false"}]},
        {"sort": [{"property": "name", "isAscending": None}]},
        {"sort": [{"property": "name", "collation": 5}]},
        {"sort": [{"property": "name", "collation": ["i;ascii-casemap"]}]},
        {"sort": [{"property": "receivedAt", "surprise": 1}]},
        {"filter": {"operator": "AND"}}, {"filter": {"operator": "AND", "conditions": {}}},
        {"filter": {"operator": "AND", "conditions": [None]}},
        {"filter": {"operator": "AND", "conditions": ["x"]}},
        {"filter": {"operator": "AND", "conditions": [[]]}},
        {"filter": {"operator": "and", "conditions": []}},
        {"filter": {"operator": "XOR", "conditions": []}},
        {"filter": {"operator": ["AND"], "conditions": []}},
        {"filter": {"operator": None, "conditions": []}},
        {"filter": {"operator": "AND", "conditions": [], "surprise": 1}},
    ],
)  # fmt: skip
async def test_arguments_of_the_wrong_kind_are_refused(
    world: World, arguments: dict[str, Any]
) -> None:
    for name in QUERIED:
        known = {"Mailbox": "name", "Email": "receivedAt", "EmailSubmission": "emailId"}[name]
        changed = {k: _rename(v, known) for k, v in arguments.items()}
        error = await world.fail(f"{name}/query", **changed)
        assert error["type"] == "invalidArguments", (name, error)
        if not {"limit", "position", "anchor", "anchorOffset"} & set(arguments):
            error = await world.fail(f"{name}/queryChanges", sinceQueryState="0", **changed)
            assert error["type"] == "invalidArguments", (name, error)


def _rename(value: Any, name: str) -> Any:
    """The sort by a property that the type is surely sorted by."""
    if isinstance(value, list):
        return [_rename(item, name) for item in value]
    if isinstance(value, dict) and value.get("property") in ("name", "receivedAt"):
        return value | {"property": name}
    return value


@pytest.mark.parametrize(
    "sort",
    [
        [{"property": "nothing"}], [{"property": ""}], [{"property": "id"}],
        [{"property": "name"}, {"property": "\0"}],
        [{"property": "name", "collation": "i;klingon"}], [{"property": "name", "collation": ""}],
        [{"property": "name"}] * 21,
    ],
)  # fmt: skip
async def test_a_sort_that_nobody_can_do_is_unsupported(
    world: World, sort: list[dict[str, Any]]
) -> None:
    for name in QUERIED:
        assert (await world.fail(f"{name}/query", sort=sort))["type"] == "unsupportedSort"


async def test_both_collations_of_the_session_are_understood(world: World, letters: str) -> None:
    ids = await _make(world, letters)
    for collation in ("i;ascii-casemap", "i;unicode-casemap"):
        sort = [{"property": "name", "isAscending": False, "collation": collation}]
        found = await world.call("Mailbox/query", sort=sort)
        assert found["ids"] == [ids[c] for c in reversed(letters)]


async def test_a_filter_that_does_not_exist_is_unsupported(world: World) -> None:
    for name in QUERIED:
        for condition in ({"nothing": 1}, {"": None}, {"conditions": []}, {"Operator": "AND"}):
            for filter in (condition, {"operator": "NOT", "conditions": [{}, condition]}):
                error = await world.fail(f"{name}/query", filter=filter)
                assert error["type"] == "unsupportedFilter", (name, filter)


async def test_filters_too_deep_or_too_wide_are_unsupported(world: World) -> None:
    deep: dict[str, Any] = {}
    for _ in range(25):
        deep = {"operator": "NOT", "conditions": [deep]}
    wide = {"operator": "OR", "conditions": [{}] * 101}
    bushy: dict[str, Any] = {"operator": "OR", "conditions": []}
    for _ in range(5):
        bushy = {"operator": "OR", "conditions": [bushy] * 10}
    for name in QUERIED:
        for filter in (deep, wide, bushy):
            assert (await world.fail(f"{name}/query", filter=filter))["type"] == "unsupportedFilter"
            for operator in ("AND", "OR", "NOT"):
                fits = {"operator": operator, "conditions": [{}] * 99}
                assert await world.call(f"{name}/query", filter=fits)


@pytest.mark.parametrize(
    ("filter", "matches"),
    [
        (None, True),
        ({}, True),
        ({"operator": "AND", "conditions": []}, True),
        ({"operator": "OR", "conditions": []}, False),
        ({"operator": "NOT", "conditions": []}, True),
        ({"operator": "NOT", "conditions": [{}]}, False),
        ({"operator": "NOT", "conditions": [{"operator": "NOT", "conditions": [{}]}]}, True),
        ({"operator": "OR", "conditions": [{"operator": "NOT", "conditions": [{}]}, {}]}, True),
        ({"operator": "AND", "conditions": [{"operator": "NOT", "conditions": [{}]}, {}]}, False),
    ],
)
async def test_operators_over_nothing_mean_what_logic_says(
    world: World, filter: Any, matches: bool
) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    email = await world.add_email(inbox, make_raw())
    assert (await world.call("Mailbox/query", filter=filter))["ids"] == [inbox] * matches
    assert (await world.call("Email/query", filter=filter))["ids"] == [email] * matches


# -- queryChanges ------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [None, 0, True, [], {}])
async def test_a_query_state_that_is_no_text_is_an_invalid_argument(
    world: World, state: Any
) -> None:
    for name in QUERIED:
        error = await world.fail(f"{name}/queryChanges", sinceQueryState=state)
        assert error["type"] == "invalidArguments"


@pytest.mark.parametrize("state", ["", "x", "-1", "01", "9", "1.m1", "1.", "1-2"])
async def test_a_query_state_that_was_never_ours_cannot_be_counted_from(
    world: World, state: str
) -> None:
    await world.add_mailbox("A")
    error = await world.fail("Mailbox/queryChanges", sinceQueryState=state)
    assert error["type"] == "cannotCalculateChanges"


async def test_query_changes_takes_out_and_puts_in(world: World, letters: str) -> None:
    ids = await _make(world, letters)
    state = (await _query(world))["queryState"]
    nothing = await world.call("Mailbox/queryChanges", sort=BY_NAME, sinceQueryState=state)
    assert nothing == {
        "accountId": world.account_id,
        "oldQueryState": state,
        "newQueryState": state,
        "removed": [],
        "added": [],
    }
    await world.call("Mailbox/set", update={ids["b"]: {"name": "z"}}, destroy=[ids["e"]])
    found = await world.call(
        "Mailbox/queryChanges", sort=BY_NAME, sinceQueryState=state, calculateTotal=True
    )
    assert sorted(found["removed"]) == sorted([ids["b"], ids["e"]])
    assert found["added"] == [{"id": ids["b"], "index": 8}]
    assert found["total"] == 9
    assert found["newQueryState"] == (await _query(world))["queryState"]


async def test_more_changes_than_the_client_wants_are_too_many(world: World, letters: str) -> None:
    ids = await _make(world, letters)
    state = (await _query(world))["queryState"]
    await world.call("Mailbox/set", update={ids["b"]: {"name": "z"}}, destroy=[ids["e"]])
    arguments = {"sort": BY_NAME, "sinceQueryState": state}
    assert await world.call("Mailbox/queryChanges", maxChanges=3, **arguments)
    error = await world.fail("Mailbox/queryChanges", maxChanges=2, **arguments)
    assert error["type"] == "tooManyChanges"
    none = await world.fail("Mailbox/queryChanges", maxChanges=0, **arguments)
    assert none["type"] == "tooManyChanges"
    now = arguments | {"sinceQueryState": (await _query(world))["queryState"]}
    assert await world.call("Mailbox/queryChanges", maxChanges=0, **now)
    for wrong in (-1, "3", 1.5, True):
        error = await world.fail("Mailbox/queryChanges", maxChanges=wrong, **arguments)
        assert error["type"] == "invalidArguments"
    for wrong in (5, [], "", "a b"):
        error = await world.fail("Mailbox/queryChanges", upToId=wrong, **arguments)
        assert error["type"] == "invalidArguments"
    assert await world.call("Mailbox/queryChanges", upToId=ids["c"], **arguments)


async def test_more_changes_than_the_server_looks_at_cannot_be_calculated(world: World) -> None:
    for number in range(2):
        boxes = {f"k{n}": {"name": f"Box {number} {n}"} for n in range(600)}
        await world.call("Mailbox/set", create=boxes)
    error = await world.fail("Mailbox/queryChanges", sinceQueryState="0")
    assert error["type"] == "cannotCalculateChanges"


async def test_arguments_of_query_alone_are_unknown_to_query_changes(world: World) -> None:
    for name in ("position", "anchor", "anchorOffset", "limit"):
        error = await world.fail("Mailbox/queryChanges", sinceQueryState="0", **{name: 1})
        assert error["type"] == "invalidArguments"
        assert name in error["description"]
