"""What every /set does. Source: RFC 8620 s5.3"""

from __future__ import annotations

from typing import Any

import pytest

from tests.jmap.mail_fixture import add_account, make_raw, only_rights
from tests.world import World
from tindra.base import limits

WRITABLE = ("Mailbox", "Email", "Identity", "EmailSubmission")


async def _names(world: World) -> set[str]:
    return {box["name"] for box in (await world.call("Mailbox/get"))["list"]}


async def test_a_set_of_nothing_answers_null_for_everything_and_moves_no_state(
    world: World,
) -> None:
    for name in WRITABLE:
        for arguments in ({}, {"create": None, "update": None, "destroy": None, "ifInState": None}):
            answer = await world.call(f"{name}/set", **arguments)
            assert answer == {
                "accountId": world.account_id,
                "oldState": "0",
                "newState": "0",
                "created": None,
                "updated": None,
                "destroyed": None,
                "notCreated": None,
                "notUpdated": None,
                "notDestroyed": None,
            }


async def test_the_states_are_those_of_get_before_and_after(world: World) -> None:
    before = (await world.call("Mailbox/get", ids=[]))["state"]
    answer = await world.call("Mailbox/set", create={"a": {"name": "A"}})
    after = (await world.call("Mailbox/get", ids=[]))["state"]
    assert (answer["oldState"], answer["newState"]) == (before, after)
    assert before != after


@pytest.mark.parametrize("state", ["1", "", "x", "0.a"])
async def test_another_state_than_the_one_named_refuses_everything(
    world: World, state: str
) -> None:
    create = {"a": {"name": "A"}}
    error = await world.fail("Mailbox/set", ifInState=state, create=create)
    assert error["type"] == "stateMismatch"
    assert await _names(world) == set()
    assert (await world.call("Mailbox/set", ifInState="0", create=create))["created"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"ifInState": 0}, {"ifInState": []}, {"ifInState": True},
        {"create": []}, {"create": "x"}, {"create": 5}, {"create": {"k": []}},
        {"create": {"k": None}}, {"create": {"": {}}}, {"create": {"a b": {}}},
        {"create": {"#k": {}}}, {"create": {"é": {}}}, {"create": {"x" * 256: {}}},
        {"update": []}, {"update": {"m1": None}}, {"update": {"m1": [1]}}, {"update": {"m1": "x"}},
        {"destroy": {}}, {"destroy": "m1"}, {"destroy": [5]},
        {"destroy": [None]}, {"destroy": [""]}, {"destroy": [["m1"]]}, {"destroy": ["a b"]},
    ],
)  # fmt: skip
async def test_arguments_of_the_wrong_kind_are_refused_before_anything_is_done(
    world: World, arguments: dict[str, Any]
) -> None:
    for name in WRITABLE:
        error = await world.fail(f"{name}/set", **({"create": {"ok": {"name": "A"}}} | arguments))
        assert error["type"] == "invalidArguments", name
    assert await _names(world) == set()


async def test_more_objects_than_allowed_are_too_many(world: World) -> None:
    for name in WRITABLE:
        error = await world.fail(
            f"{name}/set",
            create={f"k{n}": {} for n in range(500)},
            destroy=[f"m{n}" for n in range(501)],
        )
        assert error["type"] == "requestTooLarge", name
    assert limits.OBJECTS_IN_SET_MAX == 1000


async def test_what_names_nothing_is_not_found(world: World) -> None:
    for name in WRITABLE:
        for id in ("nothing", "#nothing", "e00000000001", "m1"):
            answer = await world.call(f"{name}/set", update={id: {}}, destroy=["other", id])
            assert answer["notUpdated"][id]["type"] in ("notFound", "willDestroy"), name
            assert answer["notDestroyed"][id]["type"] == "notFound", name
            assert (answer["updated"], answer["destroyed"]) == (None, None)
            assert answer["oldState"] == answer["newState"]


async def test_an_update_key_that_could_never_be_an_id_is_not_found(world: World) -> None:
    for name in WRITABLE:
        for id in (
            "",
            "a b",
            "é",
            "\0",
            "x" * 1000,
            "e 0000000001",
            "e+0000000001",
            "e１0000000001",
        ):
            answer = await world.call(f"{name}/set", update={id: {"name": "X"}})
            assert answer["notUpdated"][id]["type"] == "notFound", (name, id)


async def test_each_object_succeeds_or_fails_alone(world: World) -> None:
    keep = await world.add_mailbox("Keep")
    answer = await world.call(
        "Mailbox/set",
        create={"good": {"name": "Good"}, "bad": {"name": ""}, "twin": {"name": "Keep"}},
        update={keep: {"sortOrder": 3}, "none": {}},
        destroy=["none2"],
    )
    assert set(answer["created"]) == {"good"}
    assert set(answer["notCreated"]) == {"bad", "twin"}
    assert answer["updated"] == {keep: None}
    assert set(answer["notUpdated"]) == {"none"}
    assert set(answer["notDestroyed"]) == {"none2"}
    assert await _names(world) == {"Keep", "Good"}


async def test_objects_that_name_each_other_are_made_in_the_order_they_need(world: World) -> None:
    answer = await world.call(
        "Mailbox/set",
        create={
            "c": {"name": "C", "parentId": "#b"},
            "b": {"name": "B", "parentId": "#a"},
            "a": {"name": "A"},
        },
    )
    made = {key: obj["id"] for key, obj in answer["created"].items()}
    got = await world.call("Mailbox/get", ids=list(made.values()), properties=["parentId"])
    assert {b["id"]: b["parentId"] for b in got["list"]} == {
        made["a"]: None,
        made["b"]: made["a"],
        made["c"]: made["b"],
    }


async def test_a_long_chain_backwards_is_made_in_time(world: World) -> None:
    """Every object names the one behind it; a thousand rounds over a thousand would be slow."""
    boxes: dict[str, Any] = {
        f"k{n}": {"name": f"Box {n}", "parentId": None if n % 15 == 14 else f"#k{n + 1}"}
        for n in range(900)
    }
    answer = await world.call("Mailbox/set", create=boxes)
    assert answer["notCreated"] is None
    assert len(answer["created"]) == 900


async def test_objects_in_a_ring_are_all_refused(world: World) -> None:
    ring = {"a": {"name": "A", "parentId": "#b"}, "b": {"name": "B", "parentId": "#a"}}
    own = {"o": {"name": "O", "parentId": "#o"}, "n": {"name": "N", "parentId": "#none"}}
    answer = await world.call("Mailbox/set", create=ring | own)
    assert answer["created"] is None
    assert {e["type"] for e in answer["notCreated"].values()} == {"invalidProperties"}
    assert {tuple(e["properties"]) for e in answer["notCreated"].values()} == {("parentId",)}


async def test_updates_and_destroys_may_name_what_the_same_call_made(world: World) -> None:
    answer = await world.call(
        "Mailbox/set",
        create={"a": {"name": "A"}, "b": {"name": "B"}},
        update={"#a": {"name": "New"}},
        destroy=["#b"],
    )
    made = {key: obj["id"] for key, obj in answer["created"].items()}
    assert answer["updated"] == {made["a"]: None}
    assert answer["destroyed"] == [made["b"]]
    assert await _names(world) == {"New"}


async def test_an_update_finds_what_an_earlier_call_made(world: World) -> None:
    id = await world.add_mailbox("A")
    make = ["Mailbox/set", {"create": {"k": {"name": "K"}}}, "0"]
    update = {"#k": {"sortOrder": 5}, id: {"sortOrder": 6}}
    change = ["Mailbox/set", {"update": update, "destroy": [id]}, "1"]
    [[_, made, _], [_, answer, _]] = await world.calls([make, change])
    assert answer["notUpdated"][id]["type"] == "willDestroy"
    assert answer["destroyed"] == [id]
    assert answer["updated"] == {made["created"]["k"]["id"]: None}


async def test_two_updates_of_one_object_in_one_call_both_count(world: World) -> None:
    """Once by its id and once by its creation id."""
    identity = await world.call("Identity/set", create={"i": {"email": "alex@example.org"}})
    id = identity["created"]["i"]["id"]
    update = {id: {"name": "Alex"}, "#i": {"textSignature": "Cheers"}}
    call = [["Identity/set", {"accountId": world.account_id, "update": update}, "0"]]
    answer = await world.request(call, createdIds={"i": id})
    [[_, done, _]] = answer["methodResponses"]
    assert done["updated"] == {id: None}
    [got] = (await world.call("Identity/get", ids=[id]))["list"]
    assert (got["name"], got["textSignature"]) == ("Alex", "Cheers")


async def test_one_object_destroyed_by_two_names_is_destroyed_once(world: World) -> None:
    for name, obj in (("Mailbox", {"name": "A"}), ("Identity", {"email": "alex@example.org"})):
        made = await world.call(f"{name}/set", create={"k": obj})
        id = made["created"]["k"]["id"]
        destroy = {"accountId": world.account_id, "destroy": ["#k", id, id]}
        answer = await world.request([[f"{name}/set", destroy, "0"]], createdIds={"k": id})
        [[_, done, _]] = answer["methodResponses"]
        assert (done["destroyed"], done["notDestroyed"]) == ([id], None)


async def test_what_is_destroyed_in_the_same_call_is_not_updated(world: World) -> None:
    id = await world.add_mailbox("A")
    answer = await world.call("Mailbox/set", update={id: {"name": "B"}}, destroy=[id])
    assert answer["notUpdated"][id]["type"] == "willDestroy"
    assert answer["destroyed"] == [id]


@pytest.mark.parametrize(
    "patch",
    [
        {"myRights/mayRename/x": 1}, {"nothing/x": 1}, {"name/x": 1}, {"name": "B", "name/x": "C"},
        {"~": 1}, {"a~2": 1}, {"myRights": {}, "myRights/mayRename": True},
    ],
)  # fmt: skip
async def test_a_malformed_patch_changes_nothing(world: World, patch: dict[str, Any]) -> None:
    id = await world.add_mailbox("A")
    answer = await world.call("Mailbox/set", update={id: {"sortOrder": 5} | patch})
    assert answer["notUpdated"][id]["type"] == "invalidPatch"
    [got] = (await world.call("Mailbox/get", ids=[id]))["list"]
    assert (got["name"], got["sortOrder"]) == ("A", 0)


async def test_a_whole_object_may_be_sent_back(world: World) -> None:
    await world.add_mailbox("Parent")
    id = await world.add_mailbox("A", role="archive", sortOrder=7)
    await world.add_email(id, make_raw())
    [whole] = (await world.call("Mailbox/get", ids=[id]))["list"]
    answer = await world.call("Mailbox/set", update={id: whole | {"name": "B"}})
    assert answer["updated"] == {id: None}
    [after] = (await world.call("Mailbox/get", ids=[id]))["list"]
    assert after == whole | {"name": "B"}


async def test_an_update_that_changes_nothing_moves_no_state(world: World) -> None:
    id = await world.add_mailbox("A")
    answer = await world.call("Mailbox/set", update={id: {"name": "A"}})
    assert answer["updated"] == {id: None}
    assert answer["oldState"] == answer["newState"]


async def test_who_may_only_read_may_not_write(world: World) -> None:
    id = await world.add_mailbox("A")
    async with only_rights(world, "read"):
        for name in WRITABLE:
            error = await world.fail(f"{name}/set", create={"k": {"name": "B"}}, destroy=[id])
            assert error["type"] == "accountReadOnly"
        assert (await world.call("Mailbox/get"))["list"][0]["myRights"]["mayDelete"] is False
    async with only_rights(world, "read", "triage"):
        assert (await world.fail("Identity/set"))["type"] == "forbidden"
    shared = await add_account(world, "team", "read")
    error = await world.fail("Mailbox/set", accountId=shared, create={"k": {"name": "B"}})
    assert error["type"] == "accountReadOnly"


async def test_small_objects_tell_what_the_server_chose_and_refuse_what_is_not_theirs(
    world: World,
) -> None:
    obj = {"email": "alex@example.org", "name": "Alex"}
    answer = await world.call("Identity/set", create={"i": obj})
    made = answer["created"]["i"]
    assert made == {
        "id": made["id"],
        "replyTo": None,
        "bcc": None,
        "textSignature": "",
        "htmlSignature": "",
        "mayDelete": True,
    }
    for wrong in (
        {"id": "i1"},
        {"mayDelete": False},
        {"nothing": 1},
        {"name": 5},
        {"bcc": [{"email": "a@b", "x": 1}]},
        {"bcc": {}},
    ):
        answer = await world.call("Identity/set", create={"i": obj | wrong})
        error = answer["notCreated"]["i"]
        assert (error["type"], error["properties"]) == ("invalidProperties", sorted(wrong))
    id = made["id"]
    for wrong in ({"id": "i1"}, {"email": "b@c.example"}, {"nothing": 1}, {"name": None, "x": 1}):
        answer = await world.call("Identity/set", update={id: wrong})
        assert answer["notUpdated"][id]["type"] == "invalidProperties"
    answer = await world.call("Identity/set", update={id: {"name": None, "id": id}})
    assert answer["updated"] == {id: None}
    assert (await world.call("Identity/get", ids=[id]))["list"][0]["name"] == ""


async def test_a_small_object_may_not_be_larger_than_its_limit(world: World) -> None:
    obj = {"email": "alex@example.org", "textSignature": "x" * limits.OBJECT_BYTES_MAX}
    answer = await world.call("Identity/set", create={"i": obj})
    assert answer["notCreated"]["i"]["type"] == "tooLarge"
