"""Mailbox against what RFC 8621 s2 says of it, where the other tests of it do not look."""

from __future__ import annotations

import asyncio
import unicodedata
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.jmap.mail_fixture import make_raw
from tests.world import World

FUZZ = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
COUNTS = ["totalEmails", "unreadEmails", "totalThreads", "unreadThreads"]
LONG, SHORT = "Cafe\u0301", "Caf\u00e9"
"""One name for who reads it; two strings."""

# -- names (RFC 8621 s2, RFC 5198 s3) -------------------------------------------------------------


async def test_a_name_is_kept_in_form_c_and_that_is_told(world: World) -> None:
    made = await world.call("Mailbox/set", create={"m": {"name": LONG}, "n": {"name": "Plain"}})
    assert made["created"]["m"]["name"] == SHORT
    assert "name" not in made["created"]["n"]
    id, other = made["created"]["m"]["id"], made["created"]["n"]["id"]
    done = await world.call("Mailbox/set", update={other: {"name": LONG + "!"}, id: {"name": LONG}})
    assert done["updated"] == {other: {"name": SHORT + "!"}, id: {"name": SHORT}}
    got = await world.call("Mailbox/get", ids=[id, other], properties=["name"])
    assert [box["name"] for box in got["list"]] == [SHORT, SHORT + "!"]
    for name in (LONG, SHORT.upper()):
        found = await world.call("Mailbox/query", filter={"name": name})
        assert sorted(found["ids"]) == sorted([id, other])


async def test_siblings_that_read_the_same_have_the_same_name(world: World) -> None:
    first = await world.add_mailbox(LONG)
    second = await world.add_mailbox("Other")
    for name in (LONG, SHORT):
        made = await world.call("Mailbox/set", create={"m": {"name": name}})
        assert made["notCreated"]["m"]["properties"] == ["name"]
        done = await world.call("Mailbox/set", update={second: {"name": name}})
        assert done["notUpdated"][second]["properties"] == ["name"]
    await world.add_mailbox(LONG, parentId=first)


async def test_form_c_must_fit_too(world: World) -> None:
    # One of few characters that are longer in form C.
    name = "\u0958" * 80
    assert len(name.encode()) < 490 <= len(unicodedata.normalize("NFC", name).encode()) + 10
    made = await world.call("Mailbox/set", create={"m": {"name": name * 2}})
    assert made["notCreated"]["m"]["properties"] == ["name"]


# -- query (RFC 8621 s2.3) ------------------------------------------------------------------------


class Forest:
    """Mailboxes in trees, and what the RFC says of their order."""

    def __init__(self, boxes: dict[str, dict[str, Any]]) -> None:
        self.boxes = boxes

    def above(self, id: str) -> list[str]:
        """The Mailbox, its parent, and so on."""
        line = [id]
        while (parent := self.boxes[line[-1]]["parentId"]) is not None:
            line.append(parent)
        return line

    def is_first(self, a: str, b: str, sort: list[dict[str, Any]]) -> bool | None:
        """Whether A stands before B as a tree; None where the comparators do not say."""
        if a in self.above(b):
            return True
        if b in self.above(a):
            return False
        ours, theirs = self.above(a), self.above(b)
        one, two = next(
            (one, two)
            for one in ours
            for two in theirs
            if self.boxes[one]["parentId"] == self.boxes[two]["parentId"]
        )
        return self.compare(one, two, sort)

    def compare(self, a: str, b: str, sort: list[dict[str, Any]]) -> bool | None:
        """Whether the comparators put A before B."""
        for comparator in sort:
            name = comparator["property"]
            one, two = self.boxes[a][name], self.boxes[b][name]
            if name == "name":
                one, two = one.casefold(), two.casefold()
            if one != two:
                return bool((one < two) is comparator["isAscending"])
        return None

    def matches(self, filter: dict[str, Any], id: str) -> bool:
        """Whether a Mailbox matches all conditions."""
        box = self.boxes[id]
        return all(
            value.casefold() in box["name"].casefold()
            if name == "name"
            else (box["role"] is not None) is value
            if name == "hasAnyRole"
            else box[name] == value
            for name, value in filter.items()
        )


async def _plant(world: World) -> Forest:
    roles = {0: "inbox", 3: "archive", 7: "sent"}
    ids: list[str] = []
    for n in range(14):
        parent = ids[n * 7 % n] if n % 4 and n else None
        made = {
            "name": f"{'abcABC'[n * 5 % 6]}{'' if n % 2 else n}",
            "parentId": parent,
            "sortOrder": n * 3 % 4,
            "isSubscribed": n % 3 > 0,
            "role": roles.get(n),
        }
        done = await world.call("Mailbox/set", create={"m": made})
        if done["created"]:
            ids.append(done["created"]["m"]["id"])
        else:  # a sibling has the name
            ids.append(await world.add_mailbox(f"z{n}", parentId=parent))
    got = await world.call("Mailbox/get", ids=None)
    return Forest({box["id"]: box for box in got["list"]})


def test_any_filter_and_sort_give_what_the_rfc_says_as_a_tree_or_not(
    runner: asyncio.Runner, world: World
) -> None:
    forest = runner.run(_plant(world))
    ids = sorted(forest.boxes)
    conditions = st.fixed_dictionaries(
        {},
        optional={
            "name": st.sampled_from(["a", "B", "1", "", "z"]),
            "hasAnyRole": st.booleans(),
            "isSubscribed": st.booleans(),
            "parentId": st.sampled_from([None, *ids]),
            "role": st.sampled_from([None, "inbox", "sent"]),
        },
    )
    one = st.fixed_dictionaries(
        {"property": st.sampled_from(["name", "sortOrder"]), "isAscending": st.booleans()}
    )

    async def check(filter: dict[str, Any], sort: list[Any], trees: tuple[bool, bool]) -> None:
        call = {"filter": filter, "sort": sort, "sortAsTree": trees[0], "filterAsTree": trees[1]}
        arguments = {"accountId": world.account_id} | call
        answer = await world.raw_request([["Mailbox/query", arguments, "0"]])
        found = answer["methodResponses"][0][1]["ids"]
        wanted = {id for id in ids if forest.matches(filter, id)}
        if trees[1]:
            wanted = {id for id in wanted if wanted.issuperset(forest.above(id))}
        assert sorted(found) == sorted(wanted)
        is_first = forest.is_first if trees[0] else forest.compare
        for place, a in enumerate(found):
            assert all(is_first(a, b, sort) is not False for b in found[place + 1 :])

    @FUZZ
    @given(conditions, st.lists(one, max_size=3), st.tuples(st.booleans(), st.booleans()))
    def run(filter: dict[str, Any], sort: list[Any], trees: tuple[bool, bool]) -> None:
        runner.run(check(filter, sort, trees))

    run()


async def test_an_unknown_filter_or_sort_is_told_so(world: World) -> None:
    for filter in ({"totalEmails": 1}, {"id": "m1"}, {"Name": "a"}):
        assert (await world.fail("Mailbox/query", filter=filter))["type"] == "unsupportedFilter"
    for name in ("parent/name", "role", "id", "totalEmails"):
        error = await world.fail("Mailbox/query", sort=[{"property": name}])
        assert error["type"] == "unsupportedSort"


async def test_query_changes_follow_what_is_made_renamed_and_destroyed(world: World) -> None:
    """Source: RFC 8621 s2.4"""
    a, b = await world.add_mailbox("A"), await world.add_mailbox("B")
    query = {"filter": {"name": "A"}, "sort": [{"property": "name"}]}
    before = await world.call("Mailbox/query", **query)
    assert before["canCalculateChanges"] is True
    changes = {"create": {"m": {"name": "AA"}}, "update": {b: {"name": "BA"}}, "destroy": [a]}
    done = await world.call("Mailbox/set", **changes)
    told = await world.call(
        "Mailbox/queryChanges", sinceQueryState=before["queryState"], calculateTotal=True, **query
    )
    new = done["created"]["m"]["id"]
    assert {a, b} <= set(told["removed"])
    assert told["added"] == [{"id": new, "index": 0}, {"id": b, "index": 1}]
    assert told["total"] == 2


# -- changes (RFC 8621 s2.2) ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patch", "is_counters"),
    [
        ({"name": "Other"}, False),
        ({"sortOrder": 7}, False),
        ({"role": "archive"}, False),
        ({"isSubscribed": False}, False),
        (None, True),
    ],
)
async def test_updated_properties_are_null_as_soon_as_more_than_counters_changed(
    world: World, patch: dict[str, Any] | None, is_counters: bool
) -> None:
    inbox, box = await world.add_mailbox("Inbox", role="inbox"), await world.add_mailbox("B")
    state = (await world.call("Mailbox/get", ids=[]))["state"]
    await world.add_email(inbox, make_raw())
    if patch is not None:
        done = await world.call("Mailbox/set", update={box: patch})
        assert done["updated"] == {box: None}
    calls: list[Any] = [
        ["Mailbox/changes", {"sinceState": state}, "0"],
        [
            "Mailbox/get",
            {
                "#ids": {"resultOf": "0", "name": "Mailbox/changes", "path": "/updated"},
                "#properties": {
                    "resultOf": "0", "name": "Mailbox/changes", "path": "/updatedProperties",
                },
            },
            "1",
        ],
    ]  # fmt: skip
    [[_, changes, _], [_, got, _]] = await world.calls(calls)
    assert changes["updatedProperties"] == (COUNTS if is_counters else None)
    # The answer goes into the next call as it is.
    [shown] = [found for found in got["list"] if found["id"] == inbox]
    assert (shown.keys() == {"id", *COUNTS}) is is_counters
    assert shown["totalEmails"] == 1


# -- set (RFC 8621 s2.5) --------------------------------------------------------------------------


async def test_a_mailbox_with_a_child_or_an_email_is_not_destroyed_and_says_why(
    world: World,
) -> None:
    parent = await world.add_mailbox("P")
    child = await world.add_mailbox("C", parentId=parent)
    kept, lost = await world.add_mailbox("K"), await world.add_mailbox("L")
    only = await world.add_email(lost, make_raw("Only", "only@x"))
    both = await world.add_email(
        lost, make_raw("Both", "both@x"), mailboxIds={lost: True, kept: True}
    )
    for remove in (False, True):
        done = await world.call("Mailbox/set", destroy=[parent], onDestroyRemoveEmails=remove)
        assert done["notDestroyed"][parent]["type"] == "mailboxHasChild"
    done = await world.call("Mailbox/set", destroy=[lost])
    assert done["notDestroyed"][lost]["type"] == "mailboxHasEmail"
    done = await world.call(
        "Mailbox/set", destroy=[lost, parent, child], onDestroyRemoveEmails=True
    )
    assert sorted(done["destroyed"]) == sorted([lost, parent, child])
    got = await world.call("Email/get", ids=[only, both], properties=["mailboxIds"])
    assert got["list"] == [{"id": both, "mailboxIds": {kept: True}}]
    assert got["notFound"] == [only]


async def test_the_example_of_the_rfc_for_unread_threads(world: World) -> None:
    """An unread Email in Trash and a read one of its Thread in Inbox: 1 and 0. RFC 8621 s2"""
    inbox = await world.add_mailbox("Inbox", role="inbox")
    trash = await world.add_mailbox("Trash", role="trash")
    await world.add_email(inbox, make_raw("One", "one@x"), ("$seen",))
    await world.add_email(trash, make_raw("Re: One", "two@x", In_Reply_To="<one@x>"))
    got = await world.call("Mailbox/get", ids=[trash, inbox], properties=["unreadThreads"])
    assert [box["unreadThreads"] for box in got["list"]] == [1, 0]


async def test_a_new_mailbox_is_subscribed_to_and_all_come_with_null(world: World) -> None:
    """Source: RFC 8621 s2, s2.1"""
    box = await world.add_mailbox("B")
    got = await world.call("Mailbox/get", ids=[box], properties=["isSubscribed", "sortOrder"])
    assert got["list"] == [{"id": box, "isSubscribed": True, "sortOrder": 0}]
    got = await world.call("Mailbox/get", ids=None, properties=[])
    assert (got["list"], got["notFound"]) == ([{"id": box}], [])
