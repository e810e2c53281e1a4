"""Mailbox: get, changes, query, set, counters. Source: RFC 8621 s2"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.jmap.mail_fixture import add_account, make_raw, only_rights
from tests.world import World, open_world
from tindra.base import limits

COUNTS = ["totalEmails", "unreadEmails", "totalThreads", "unreadThreads"]


async def get(world: World, id: str, *properties: str) -> dict[str, Any]:
    """One Mailbox."""
    got = await world.call("Mailbox/get", ids=[id], properties=list(properties) or None)
    return dict(got["list"][0])


async def counts(world: World, id: str) -> list[int]:
    """Its four counters."""
    box = await get(world, id)
    return [box[name] for name in COUNTS]


async def set_boxes(world: World, **arguments: Any) -> dict[str, Any]:
    """Mailbox/set."""
    return await world.call("Mailbox/set", **arguments)


async def refuse_create(world: World, **obj: Any) -> dict[str, Any]:
    """The SetError of a Mailbox that must not be made."""
    answer = await set_boxes(world, create={"k": obj})
    assert answer["created"] is None, answer
    return dict(answer["notCreated"]["k"])


async def refuse_update(world: World, mailbox_id: str, /, **patch: Any) -> dict[str, Any]:
    """The SetError of an update that must not be made."""
    answer = await set_boxes(world, update={mailbox_id: patch})
    assert answer["updated"] is None, answer
    return dict(answer["notUpdated"][mailbox_id])


# -- get ---------------------------------------------------------------------------------------


async def test_a_new_mailbox_has_every_property_of_the_rfc(world: World) -> None:
    answer = await set_boxes(world, create={"k": {"name": "Work", "sortOrder": 3}})
    made = answer["created"]["k"]
    assert set(made) == {"id", "parentId", "role", "isSubscribed", "myRights", *COUNTS}
    assert await get(world, made["id"]) == made | {"name": "Work", "sortOrder": 3}
    assert made["parentId"] is None
    assert made["role"] is None
    assert made["isSubscribed"] is True
    assert [made[name] for name in COUNTS] == [0, 0, 0, 0]
    assert set(made["myRights"]) == {
        "mayReadItems", "mayAddItems", "mayRemoveItems", "maySetSeen", "maySetKeywords",
        "mayCreateChild", "mayRename", "mayDelete", "maySubmit", "mayShare",
    }  # fmt: skip
    assert set(made["myRights"].values()) == {True}


async def test_rights_tell_what_the_caller_may_do(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    rights = (await get(world, inbox))["myRights"]
    assert [name for name, may in rights.items() if not may] == ["mayRename", "mayDelete"]
    async with only_rights(world, "read"):
        rights = (await get(world, inbox))["myRights"]
        assert [name for name, may in rights.items() if may] == ["mayReadItems"]
    async with only_rights(world, "read", "triage"):
        assert (await get(world, inbox))["myRights"]["maySubmit"] is False


# -- set: each property --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [None, 5, True, [], {}, "", " ", "\t", "\u3000", "a\nb", "a\0b", "a\x7fb", "a\x85b", "a\u2028b",
     "x" * 491, "é" * 246],
)  # fmt: skip
async def test_a_name_must_be_one_line_of_text_that_fits(world: World, name: Any) -> None:
    id = await world.add_mailbox("Fine")
    for error in (await refuse_create(world, name=name), await refuse_update(world, id, name=name)):
        assert (error["type"], error["properties"]) == ("invalidProperties", ["name"])


@pytest.mark.parametrize(
    "name", ["x" * 490, "é" * 245, "a/b", "a.b", " a ", "👩‍💻", "..", "%*", "日本"]
)
async def test_any_other_name_is_kept_as_it_is(world: World, name: str) -> None:
    id = await world.add_mailbox(name)
    assert (await get(world, id, "name"))["name"] == name


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("sortOrder", [-1, 2**31, 1.5, "1", True, [], 10**40]),
        ("isSubscribed", [None, 0, "true", []]),
        ("role", ["nothing", "", "Inbox", "INBOX", 5, True, [], ["inbox"], {}]),
        ("parentId", [5, True, [], {}, "", "nothing", "#nothing", "a b", "e00000000001"]),
        ("id", ["m1", None]),
        ("totalEmails", [0, 1]),
        ("myRights", [{}, None]),
        ("surprise", [1]),
    ],
)
async def test_a_value_that_cannot_be_is_refused_and_named(
    world: World, name: str, values: list[Any]
) -> None:
    for value in values:
        error = await refuse_create(world, name="A", **({name: value} if name != "name" else {}))
        assert (error["type"], error["properties"]) == ("invalidProperties", [name]), value


async def test_every_wrong_property_is_named_at_once(world: World) -> None:
    error = await refuse_create(world, name="", role=5, sortOrder=-1, isSubscribed=1, parentId=2)
    assert error["properties"] == ["isSubscribed", "name", "parentId", "role", "sortOrder"]
    error = await refuse_create(world)
    assert error["properties"] == ["name"]


async def test_null_in_an_update_means_the_default(world: World) -> None:
    parent = await world.add_mailbox("Parent")
    id = await world.add_mailbox(
        "A", parentId=parent, role="archive", sortOrder=5, isSubscribed=False
    )
    patch = dict.fromkeys(["parentId", "role", "sortOrder", "isSubscribed"])
    assert (await set_boxes(world, update={id: patch}))["updated"] == {id: None}
    box = await get(world, id)
    assert [box[name] for name in patch] == [None, None, 0, True]
    assert (await refuse_update(world, id, name=None))["properties"] == ["name"]


async def test_what_the_server_sets_may_be_sent_back_only_as_it_is(world: World) -> None:
    id = await world.add_mailbox("A")
    whole = await get(world, id)
    assert (await set_boxes(world, update={id: whole}))["updated"] == {id: None}
    for name in ("id", "myRights", *COUNTS):
        for value in (None, 5, {}):
            error = await refuse_update(world, id, **{name: value})
            assert (error["type"], error["properties"]) == ("invalidProperties", [name])
    error = await refuse_update(world, id, **{"myRights/mayDelete": False})
    assert (error["type"], error["properties"]) == ("invalidProperties", ["myRights"])


# -- set: the tree ---------------------------------------------------------------------------------


async def test_siblings_have_different_names_and_others_need_not(world: World) -> None:
    one = await world.add_mailbox("One")
    two = await world.add_mailbox("Two")
    inner = await world.add_mailbox("One", parentId=one)
    await world.add_mailbox("ONE")
    for error in (
        await refuse_create(world, name="One"),
        await refuse_create(world, name="One", parentId=one),
        await refuse_update(world, two, name="One"),
        await refuse_update(world, inner, parentId=None),
    ):
        assert (error["type"], error["properties"]) == ("invalidProperties", ["name"])


async def test_a_role_is_held_by_one_mailbox(world: World) -> None:
    one = await world.add_mailbox("One", role="archive")
    two = await world.add_mailbox("Two")
    for error in (
        await refuse_create(world, name="Three", role="archive"),
        await refuse_update(world, two, role="archive"),
    ):
        assert (error["type"], error["properties"]) == ("invalidProperties", ["role"])
    answer = await set_boxes(world, update={one: {"role": None}, two: {"role": "archive"}})
    assert set(answer["updated"]) == {one, two}


async def test_a_mailbox_cannot_be_under_itself(world: World) -> None:
    a = await world.add_mailbox("A")
    b = await world.add_mailbox("B", parentId=a)
    c = await world.add_mailbox("C", parentId=b)
    for parent in (a, b, c):
        error = await refuse_update(world, a, parentId=parent)
        assert (error["type"], error["properties"]) == ("invalidProperties", ["parentId"])


async def test_a_tree_is_only_so_deep_also_when_a_branch_is_moved(world: World) -> None:
    boxes: dict[str, Any] = {"k0": {"name": "0"}}
    for n in range(1, limits.MAILBOX_DEPTH_MAX):
        boxes[f"k{n}"] = {"name": str(n), "parentId": f"#k{n - 1}"}
    made = (await set_boxes(world, create=boxes))["created"]
    assert len(made) == limits.MAILBOX_DEPTH_MAX
    last = made[f"k{limits.MAILBOX_DEPTH_MAX - 1}"]["id"]
    error = await refuse_create(world, name="Deeper", parentId=last)
    assert (error["type"], error["properties"]) == ("invalidProperties", ["parentId"])
    top = await world.add_mailbox("Top")
    error = await refuse_update(world, made["k0"]["id"], parentId=top)
    assert (error["type"], error["properties"]) == ("invalidProperties", ["parentId"])
    assert (await set_boxes(world, update={made["k1"]["id"]: {"parentId": top}}))["updated"]


async def test_two_mailboxes_swap_their_names_in_one_call(world: World) -> None:
    """The RFC's own example of a state in between that is never seen."""
    a, b = await world.add_mailbox("A"), await world.add_mailbox("B")
    answer = await set_boxes(world, update={a: {"name": "B"}, b: {"name": "A"}})
    assert answer["updated"] == {a: None, b: None}
    assert (await get(world, a))["name"] == "B"
    assert (await get(world, b))["name"] == "A"


async def test_two_mailboxes_swap_their_roles_and_a_parent_goes_under_its_child(
    world: World,
) -> None:
    a = await world.add_mailbox("A", role="archive")
    b = await world.add_mailbox("B", role="sent", parentId=a)
    update = {a: {"role": "sent", "parentId": b}, b: {"role": "archive", "parentId": None}}
    assert (await set_boxes(world, update=update))["notUpdated"] is None
    assert (await get(world, a, "role", "parentId")) == {"id": a, "role": "sent", "parentId": b}


async def test_a_name_freed_in_the_same_call_can_be_taken_at_once(world: World) -> None:
    old = await world.add_mailbox("A")
    answer = await set_boxes(world, create={"k": {"name": "A"}}, destroy=[old])
    assert answer["destroyed"] == [old]
    assert answer["created"]["k"]["id"] != old


async def test_a_name_that_is_not_freed_after_all_is_not_given_away(world: World) -> None:
    """The old one holds mail and stays: nobody may see two of one name."""
    old = await world.add_mailbox("A")
    await world.add_email(old, make_raw())
    answer = await set_boxes(world, create={"k": {"name": "A"}, "l": {"name": "B"}}, destroy=[old])
    assert answer["notDestroyed"][old]["type"] == "mailboxHasEmail"
    assert answer["notCreated"]["k"]["properties"] == ["name"]
    assert set(answer["created"]) == {"l"}


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
async def test_a_parent_goes_with_its_children_in_any_order(world: World, order: list[int]) -> None:
    a = await world.add_mailbox("A")
    b = await world.add_mailbox("B", parentId=a)
    c = await world.add_mailbox("C", parentId=b)
    ids = [a, b, c]
    answer = await set_boxes(world, destroy=[ids[n] for n in order])
    assert sorted(answer["destroyed"]) == sorted(ids)
    assert (await world.call("Mailbox/get"))["list"] == []


async def test_a_parent_stays_while_a_child_stays(world: World) -> None:
    a = await world.add_mailbox("A")
    b = await world.add_mailbox("B", parentId=a)
    answer = await set_boxes(world, destroy=[a])
    assert answer["notDestroyed"][a]["type"] == "mailboxHasChild"
    await world.add_email(b, make_raw())
    answer = await set_boxes(world, destroy=[a, b])
    kinds = {id: error["type"] for id, error in answer["notDestroyed"].items()}
    assert kinds == {a: "mailboxHasChild", b: "mailboxHasEmail"}
    answer = await set_boxes(world, update={b: {"parentId": None}}, destroy=[a])
    assert (answer["destroyed"], answer["updated"]) == ([a], {b: None})


async def test_destroying_takes_the_emails_along_only_when_told_to(world: World) -> None:
    a, b = await world.add_mailbox("A"), await world.add_mailbox("B")
    only = await world.add_email(a, make_raw("Only", "only@x"))
    both = await world.add_email(a, make_raw("Both", "both@x"), mailboxIds={a: True, b: True})
    assert (await set_boxes(world, destroy=[a]))["notDestroyed"][a]["type"] == "mailboxHasEmail"
    for wrong in ("true", 1, []):
        error = await world.fail("Mailbox/set", destroy=[a], onDestroyRemoveEmails=wrong)
        assert error["type"] == "invalidArguments"
    answer = await set_boxes(world, destroy=[a], onDestroyRemoveEmails=True)
    assert answer["destroyed"] == [a]
    got = await world.call("Email/get", ids=[only, both], properties=["mailboxIds"])
    assert got["notFound"] == [only]
    assert got["list"][0]["mailboxIds"] == {b: True}
    assert await counts(world, b) == [1, 1, 1, 1]


async def test_the_inbox_keeps_its_name_its_role_and_its_place(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    other = await world.add_mailbox("Other")
    for patch in ({"name": "X"}, {"role": None}, {"role": "sent"}, {"parentId": other}):
        assert (await refuse_update(world, inbox, **patch))["type"] == "forbidden"
    assert (await set_boxes(world, destroy=[inbox]))["notDestroyed"][inbox]["type"] == "forbidden"
    for patch in ({"sortOrder": 5}, {"isSubscribed": False}, {"name": "Inbox"}):
        assert (await set_boxes(world, update={inbox: patch}))["updated"]


async def test_an_account_holds_only_so_many(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAILBOXES_PER_ACCOUNT_MAX", 3)
    boxes = {f"k{n}": {"name": f"Box {n}"} for n in range(5)}
    answer = await set_boxes(world, create=boxes)
    assert len(answer["created"]) == 3
    assert {error["type"] for error in answer["notCreated"].values()} == {"overQuota"}


# -- a model of the tree ---------------------------------------------------------------------------

_KEYS = ("a", "b", "c", "d")


def _is_valid(boxes: dict[str, dict[str, Any]]) -> bool:
    """The rules of RFC 8621 s2, said once more."""
    places = [(box["parentId"], box["name"]) for box in boxes.values()]
    roles = [box["role"] for box in boxes.values() if box["role"] is not None]
    if len(set(places)) < len(places) or len(set(roles)) < len(roles):
        return False
    for first in boxes:
        seen: set[str] = set()
        id: str | None = first
        while id is not None:
            if id in seen or id not in boxes:
                return False
            seen.add(id)
            id = boxes[id]["parentId"]
    return True


@st.composite
def _sets(draw: st.DrawFn) -> dict[str, Any]:
    """A Mailbox/set over four Mailboxes that exist and two that are made; ids stand as letters."""
    names, roles = st.sampled_from("xyz"), st.sampled_from([None, None, "sent", "junk"])
    parents = st.sampled_from([None, *_KEYS, "#k", "#l"])
    some = {"name": names, "parentId": parents, "role": roles}
    update = draw(st.dictionaries(st.sampled_from(_KEYS), st.fixed_dictionaries({}, optional=some)))
    more = {"parentId": parents, "role": roles}
    new = st.fixed_dictionaries({"name": names}, optional=more)
    create = draw(st.dictionaries(st.sampled_from("kl"), new))
    destroy = draw(st.lists(st.sampled_from(_KEYS), unique=True, max_size=3))
    return {"create": create, "update": update, "destroy": destroy}


def test_whatever_one_call_asks_for_the_tree_stays_right_and_what_ends_right_is_done(
    runner: asyncio.Runner, tmp_path: Path
) -> None:
    async def try_set(wanted: dict[str, Any]) -> None:
        async with open_world("memory", tmp_path) as world:
            await _try_set(world, wanted)

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(_sets())
    def run(wanted: dict[str, Any]) -> None:
        runner.run(try_set(wanted))

    run()


async def _try_set(world: World, wanted: dict[str, Any]) -> None:
    names = {"a": "x", "b": "y", "c": "x", "d": "z"}
    parents = {"a": None, "b": None, "c": "#b", "d": "#c"}
    start = {key: {"name": names[key], "parentId": parents[key]} for key in _KEYS}
    made = (await set_boxes(world, create=start))["created"]
    ids = {key: made[key]["id"] for key in _KEYS}

    def real(value: Any) -> Any:
        return ids.get(value, value) if isinstance(value, str) else value

    def fill(obj: dict[str, Any]) -> dict[str, Any]:
        return {k: real(v) if k == "parentId" else v for k, v in obj.items()}

    destroy = [ids[key] for key in wanted["destroy"]]
    answer = await set_boxes(
        world,
        create={key: fill(obj) for key, obj in wanted["create"].items()},
        update={ids[key]: fill(patch) for key, patch in wanted["update"].items()},
        destroy=destroy,
    )
    boxes = {box["id"]: box for box in (await world.call("Mailbox/get"))["list"]}
    assert _is_valid(boxes)
    expected = _expect(wanted, ids)
    if _is_valid(expected):
        skipped = {id for id in ids.values() if id in destroy}
        assert answer["notCreated"] is None
        assert set(answer["notUpdated"] or {}) <= skipped
        assert answer["notDestroyed"] is None
        assert len(boxes) == len(expected)


def _expect(wanted: dict[str, Any], ids: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What there would be if all of it were done."""
    empty = {"parentId": None, "role": None}
    boxes: dict[str, dict[str, Any]] = {
        "a": empty | {"name": "x"},
        "b": empty | {"name": "y"},
        "c": empty | {"name": "x", "parentId": "b"},
        "d": empty | {"name": "z", "parentId": "c"},
    }
    for key, obj in wanted["create"].items():
        boxes[f"#{key}"] = empty | obj
    for key, patch in wanted["update"].items():
        if key not in wanted["destroy"]:
            boxes[key] = boxes[key] | patch
    for key in wanted["destroy"]:
        del boxes[key]
    return boxes


# -- changes -----------------------------------------------------------------------------------


async def test_when_only_counters_changed_only_they_are_named(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    state = (await world.call("Mailbox/get", ids=[]))["state"]
    email = await world.add_email(inbox, make_raw())
    found = await world.call("Mailbox/changes", sinceState=state)
    assert (found["updated"], found["updatedProperties"]) == ([inbox], COUNTS)
    await world.call("Email/set", update={email: {"keywords/$seen": True}})
    found = await world.call("Mailbox/changes", sinceState=state)
    assert found["updatedProperties"] == COUNTS
    await world.call("Email/set", update={email: {"keywords/$flagged": True}})
    assert (await world.call("Mailbox/changes", sinceState=found["newState"]))["updated"] == []
    await set_boxes(world, update={inbox: {"sortOrder": 4}})
    found = await world.call("Mailbox/changes", sinceState=state)
    assert (found["updated"], found["updatedProperties"]) == ([inbox], None)


async def test_a_new_mailbox_among_changed_counters_is_more_than_counters(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    state = (await world.call("Mailbox/get", ids=[]))["state"]
    await world.add_email(inbox, make_raw())
    made = await world.add_mailbox("New")
    found = await world.call("Mailbox/changes", sinceState=state)
    assert (found["created"], found["updated"]) == ([made], [inbox])
    assert found["updatedProperties"] is None


# -- query ---------------------------------------------------------------------------------------


async def _make_tree(world: World) -> dict[str, str]:
    """b(2) > [B2(1) > c(0), a(1)], A(2), c(1, sent)"""
    boxes: dict[str, dict[str, Any]] = {
        "b": {"name": "b", "sortOrder": 2},
        "bB": {"name": "B2", "sortOrder": 1, "parentId": "#b"},
        "bBc": {"name": "c", "parentId": "#bB", "isSubscribed": False},
        "ba": {"name": "a", "sortOrder": 1, "parentId": "#b"},
        "A": {"name": "A", "sortOrder": 2, "role": "archive"},
        "c": {"name": "c", "sortOrder": 1, "role": "sent"},
    }
    made = (await set_boxes(world, create=boxes))["created"]
    return {made[key]["id"]: key for key in boxes}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"filter": {"parentId": None}}, "A b c"),
        ({"filter": {"role": "sent"}}, "c"),
        ({"filter": {"role": None}}, "b bB bBc ba"),
        ({"filter": {"hasAnyRole": True}}, "A c"),
        ({"filter": {"hasAnyRole": False}}, "b bB bBc ba"),
        ({"filter": {"isSubscribed": False}}, "bBc"),
        ({"filter": {"name": "B"}}, "b bB"),
        ({"filter": {"name": ""}}, "A b bB bBc ba c"),
        ({"filter": {"name": "c", "hasAnyRole": False}}, "bBc"),
        ({"filter": {"operator": "NOT", "conditions": [{"name": "c"}, {"name": "b"}]}}, "A ba"),
        ({"filter": {"operator": "OR", "conditions": [{"name": "A"}, {"role": "sent"}]}}, "A ba c"),
        ({"filter": {"name": "c"}, "filterAsTree": True}, "c"),
        ({"filter": {"isSubscribed": True}, "filterAsTree": True}, "A b bB ba c"),
    ],
)
async def test_filters_choose(world: World, arguments: dict[str, Any], expected: str) -> None:
    keys = await _make_tree(world)
    found = await world.call("Mailbox/query", **arguments)
    assert sorted(keys[id] for id in found["ids"]) == sorted(expected.split())


@pytest.mark.parametrize(
    ("sort", "as_tree", "expected"),
    [
        ([("name", True)], False, "A ba b bB bBc c"),
        ([("name", False)], False, "c bBc bB b A ba"),
        ([("sortOrder", True), ("name", True)], False, "bBc ba bB c A b"),
        ([("sortOrder", False), ("name", True)], False, "A b ba bB c bBc"),
        ([("name", True)], True, "A b ba bB bBc c"),
        ([("name", False)], True, "c b bB bBc ba A"),
        ([("sortOrder", True), ("name", True)], True, "c A b ba bB bBc"),
    ],
)
async def test_sorts_order_and_trees_keep_children_under_their_parents(
    world: World, sort: list[tuple[str, bool]], as_tree: bool, expected: str
) -> None:
    keys = await _make_tree(world)
    comparators = [{"property": name, "isAscending": up} for name, up in sort]
    found = await world.call("Mailbox/query", sort=comparators, sortAsTree=as_tree)
    order = [keys[id] for id in found["ids"]]
    wanted = expected.split()
    if not as_tree and len(sort) == 1:
        # Equal names stand in any order, but always the same.
        names = {"A": "a", "ba": "a", "bBc": "c", "c": "c"}
        assert [names.get(key, key) for key in order] == [names.get(key, key) for key in wanted]
        again = await world.call("Mailbox/query", sort=comparators, sortAsTree=as_tree)
        assert again["ids"] == found["ids"]
    else:
        assert order == wanted


@pytest.mark.parametrize(
    "condition",
    [
        {"parentId": 5}, {"parentId": []}, {"name": None}, {"name": 5}, {"role": 5}, {"role": []},
        {"hasAnyRole": None}, {"hasAnyRole": "true"}, {"hasAnyRole": 1}, {"isSubscribed": None},
        {"isSubscribed": 0},
    ],
)  # fmt: skip
async def test_a_condition_of_the_wrong_kind_is_refused_however_deep(
    world: World, condition: dict[str, Any]
) -> None:
    deep = {"operator": "OR", "conditions": [{}, {"operator": "NOT", "conditions": [condition]}]}
    for filter in (condition, deep):
        error = await world.fail("Mailbox/query", filter=filter)
        assert error["type"] == "invalidArguments"


async def test_trees_cannot_be_followed_by_query_changes_and_the_rest_can(world: World) -> None:
    await _make_tree(world)
    for arguments in ({"sortAsTree": True}, {"filterAsTree": True}):
        assert (await world.call("Mailbox/query", **arguments))["canCalculateChanges"] is False
        error = await world.fail("Mailbox/queryChanges", sinceQueryState="1", **arguments)
        assert error["type"] == "cannotCalculateChanges"
    for wrong in ("true", 1, []):
        error = await world.fail("Mailbox/query", sortAsTree=wrong)
        assert error["type"] == "invalidArguments"


# -- counters ----------------------------------------------------------------------------------


async def test_an_unread_email_elsewhere_in_the_thread_makes_it_unread(world: World) -> None:
    inbox, archive = await world.add_mailbox("Inbox", role="inbox"), await world.add_mailbox("A")
    await world.add_email(inbox, make_raw("One", "one@x"), ("$seen",))
    assert await counts(world, inbox) == [1, 0, 1, 0]
    reply = make_raw("Re: One", "two@x", In_Reply_To="<one@x>")
    await world.add_email(archive, reply)
    assert await counts(world, inbox) == [1, 0, 1, 1]
    assert await counts(world, archive) == [1, 1, 1, 1]


async def test_a_draft_is_never_unread(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    await world.add_email(inbox, make_raw(), ("$draft",))
    assert await counts(world, inbox) == [1, 0, 1, 0]


async def test_the_trash_is_counted_as_if_it_were_a_thread_of_its_own(world: World) -> None:
    """The example of the RFC: unread in the trash, read in the inbox."""
    inbox = await world.add_mailbox("Inbox", role="inbox")
    trash = await world.add_mailbox("Trash", role="trash")
    await world.add_email(inbox, make_raw("One", "one@x"), ("$seen",))
    reply = make_raw("Re: One", "two@x", In_Reply_To="<one@x>")
    unread = await world.add_email(trash, reply)
    assert (await counts(world, inbox))[3] == 0
    assert (await counts(world, trash))[3] == 1
    await world.call("Email/set", update={unread: {f"mailboxIds/{inbox}": True}})
    assert (await counts(world, inbox))[3] == 1, "in both: it counts in both"
    assert (await counts(world, trash))[3] == 1
    await world.call("Email/set", update={unread: {"mailboxIds": {inbox: True}}})
    assert (await counts(world, inbox))[3] == 1
    assert (await counts(world, trash))[3] == 0


async def test_counters_follow_the_role_of_trash_when_it_moves(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    a, b = await world.add_mailbox("A"), await world.add_mailbox("B")
    await world.add_email(inbox, make_raw("One", "one@x"), ("$seen",))
    await world.add_email(a, make_raw("Re: One", "two@x", In_Reply_To="<one@x>"))
    await world.add_email(b, make_raw("Re: One", "three@x", In_Reply_To="<one@x>"), ("$seen",))

    async def unread_threads() -> list[int]:
        return [(await counts(world, id))[3] for id in (inbox, a, b)]

    assert await unread_threads() == [1, 1, 1]
    await set_boxes(world, update={a: {"role": "trash"}})
    assert await unread_threads() == [0, 1, 0]
    await set_boxes(world, update={a: {"role": None}, b: {"role": "trash"}})
    assert await unread_threads() == [1, 1, 0]
    await set_boxes(world, update={b: {"role": "trash"}, a: {"sortOrder": 1}})
    assert await unread_threads() == [1, 1, 0]
    await set_boxes(world, update={b: {"role": None}})
    assert await unread_threads() == [1, 1, 1]
    await set_boxes(world, update={b: {"role": "trash"}})
    await set_boxes(world, destroy=[b], onDestroyRemoveEmails=True)
    assert (await counts(world, inbox))[3] == 1


async def test_the_trash_goes_and_another_mailbox_becomes_it_in_one_call(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    old, new = await world.add_mailbox("Old", role="trash"), await world.add_mailbox("New")
    await world.add_email(inbox, make_raw("One", "one@x"), ("$seen",))
    both = make_raw("Re: One", "two@x", In_Reply_To="<one@x>")
    await world.add_email(old, both, mailboxIds={old: True, new: True})
    await world.add_email(old, make_raw("Re: One", "three@x", In_Reply_To="<one@x>"))
    assert (await counts(world, inbox))[3] == 1
    answer = await set_boxes(
        world, update={new: {"role": "trash"}}, destroy=[old], onDestroyRemoveEmails=True
    )
    assert (answer["updated"], answer["destroyed"]) == ({new: None}, [old])
    assert await counts(world, inbox) == [1, 0, 1, 0]
    assert await counts(world, new) == [1, 1, 1, 1]


async def test_counters_stay_right_whatever_is_done(world: World) -> None:
    """Each step moves, marks or destroys; the invariants recount everything at the end."""
    boxes = [await world.add_mailbox(name, role=role) for name, role in _WITH_ROLES]
    emails = []
    for n in range(6):
        raw = make_raw("Talk", f"t{n}@x", In_Reply_To="<t0@x>" if n % 2 else "")
        emails.append(await world.add_email(boxes[n % 3], raw, ("$seen",) if n % 3 else ()))
    for n in range(40):
        email, box = emails[n * 7 % 5], boxes[n * 5 % 3]
        patch: dict[str, Any] = [
            {f"mailboxIds/{box}": True},
            {"mailboxIds": {box: True}},
            {"keywords/$seen": True if n % 3 else None},
            {"keywords": {"$draft": True} if n % 4 else {}},
        ][n % 4]
        await world.call("Email/set", update={email: patch})
        for account_id in world.caller.accounts:
            await world.services.store.check_invariants(account_id)
    await world.call("Email/set", destroy=emails[:3])


_WITH_ROLES = (("Inbox", "inbox"), ("Trash", "trash"), ("Archive", "archive"))


async def test_mailboxes_of_an_account_are_nobody_elses(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    other = await add_account(world, "team", "read", "triage")
    got = await world.call("Mailbox/get", accountId=other, ids=[inbox])
    assert got["notFound"] == [inbox]
    answer = await set_boxes(
        world, accountId=other, create={"k": {"name": "K", "parentId": inbox}}, destroy=[inbox]
    )
    assert answer["notCreated"]["k"]["properties"] == ["parentId"]
    assert answer["notDestroyed"][inbox]["type"] == "notFound"
