"""What every /get does. Source: RFC 8620 s5.1"""

from __future__ import annotations

from typing import Any

import pytest

from tests.jmap.mail_fixture import add_foreign_account, make_raw
from tests.world import World
from tindra.base import limits

TYPES = (
    "Mailbox", "Thread", "Email", "Identity", "EmailSubmission", "Connection", "SieveScript",
    "Quota",
)  # fmt: skip


@pytest.mark.parametrize("name", TYPES)
async def test_an_empty_account_has_a_state_and_nothing_else(world: World, name: str) -> None:
    for ids in (None, []):
        got = await world.call(f"{name}/get", ids=ids)
        assert got == {"accountId": world.account_id, "state": "0", "list": [], "notFound": []}


@pytest.mark.parametrize("name", TYPES)
async def test_ids_that_name_nothing_are_told_once_and_in_order(world: World, name: str) -> None:
    ids = ["nothing", "e-0000000001", "E00000000001", "e0000000000w", "e" + "v" * 11, "m", "-", "_"]
    got = await world.call(f"{name}/get", ids=[*ids, *reversed(ids)])
    assert got["list"] == []
    assert sorted(got["notFound"]) == sorted(ids)


async def test_ids_of_another_type_name_nothing(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    email = await world.add_email(inbox, make_raw())
    got = await world.call("Email/get", ids=[email], properties=["threadId", "blobId"])
    thread, blob = got["list"][0]["threadId"], got["list"][0]["blobId"]
    own = {"Mailbox": inbox, "Email": email, "Thread": thread}
    every = [inbox, email, thread, blob, world.account_id]
    for name, id in own.items():
        got = await world.call(f"{name}/get", ids=every)
        assert [obj["id"] for obj in got["list"]] == [id]
        assert sorted(got["notFound"]) == sorted(set(every) - {id})


async def test_ids_of_another_account_name_nothing(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    foreign = await add_foreign_account(world, "bob")
    row = await world.services.blobs.put(foreign, make_raw("Secret"))
    email = {"blobId": row.id, "mailboxIds": {inbox: True}}
    made = await world.call("Email/import", emails={"e": email})
    assert made["notCreated"]["e"]["properties"] == ["blobId"]
    error = await world.fail("Mailbox/get", accountId=foreign, ids=[inbox])
    assert error["type"] == "accountNotFound"


async def test_objects_come_in_the_order_of_their_ids_and_each_once(world: World) -> None:
    boxes = [await world.add_mailbox(name) for name in "ABC"]
    emails = [await world.add_email(boxes[0], make_raw(str(n), f"{n}@x")) for n in range(3)]
    for name, ids in (("Mailbox", boxes), ("Email", emails)):
        asked = [ids[2], ids[0], ids[2], ids[1], ids[0]]
        got = await world.call(f"{name}/get", ids=asked, properties=[])
        assert got["list"] == [{"id": ids[2]}, {"id": ids[0]}, {"id": ids[1]}]


@pytest.mark.parametrize(
    "ids",
    ["text", 5, True, {}, [5], [None], [["a"]], [""], ["a b"], ["é"], ["\0"], ["#"], ["#a b"],
     ["##a"], ["x" * 256], ["#" + "x" * 256], [True]],
)  # fmt: skip
async def test_what_is_no_list_of_ids_is_an_invalid_argument(world: World, ids: Any) -> None:
    for name in TYPES:
        error = await world.fail(f"{name}/get", ids=ids)
        assert error["type"] == "invalidArguments"
        assert len(error["description"]) < 300


@pytest.mark.parametrize("properties", ["id", 5, True, {}, [5], [None], [["id"]], ["id", {}]])
async def test_what_is_no_list_of_names_is_an_invalid_argument(
    world: World, properties: Any
) -> None:
    for name in TYPES:
        error = await world.fail(f"{name}/get", ids=[], properties=properties)
        assert error["type"] == "invalidArguments"


@pytest.mark.parametrize("name", TYPES)
async def test_a_property_that_does_not_exist_is_refused_and_named(world: World, name: str) -> None:
    for wrong in ("nothing", "", "Id", "header:", "header:X:asRaw", "\0"):
        if name == "Email" and wrong == "header:X:asRaw":
            continue
        error = await world.fail(f"{name}/get", ids=[], properties=["id", wrong])
        assert error["type"] == "invalidArguments"
        assert repr(wrong) in error["description"]


async def test_the_id_always_comes_along(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    email = await world.add_email(inbox, make_raw())
    for properties in ([], ["id"], ["name"], ["name", "name"]):
        got = await world.call("Mailbox/get", ids=[inbox], properties=properties)
        assert set(got["list"][0]) == {"id", *properties}
    got = await world.call("Email/get", ids=[email], properties=["size"])
    assert set(got["list"][0]) == {"id", "size"}


async def test_null_means_all_objects_and_all_properties(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    got = await world.call("Mailbox/get", ids=None, properties=None)
    assert got == await world.call("Mailbox/get")
    assert got["list"][0]["id"] == inbox


async def test_more_ids_than_allowed_are_too_many(world: World) -> None:
    ids = [f"e{n}" for n in range(limits.OBJECTS_IN_GET_MAX + 1)]
    for name in TYPES:
        assert (await world.fail(f"{name}/get", ids=ids))["type"] == "requestTooLarge"
        assert len((await world.call(f"{name}/get", ids=ids[:-1]))["notFound"]) == 1000


async def test_more_properties_than_anyone_needs_are_too_many(world: World) -> None:
    names = [f"header:X-{n}" for n in range(501)]
    for argument in ("properties", "bodyProperties"):
        error = await world.fail("Email/get", ids=[], **{argument: names})
        assert error["type"] == "requestTooLarge"
        assert await world.call("Email/get", ids=[], **{argument: names[:-1]})


async def test_all_of_a_type_that_is_too_large_is_too_large(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    for number in range(4):
        await world.add_email(inbox, make_raw(str(number), f"{number}@x"))
    monkeypatch.setattr(limits, "OBJECTS_IN_GET_MAX", 4)
    for name in ("Email", "Thread"):
        assert len((await world.call(f"{name}/get", ids=None))["list"]) == 4
    monkeypatch.setattr(limits, "OBJECTS_IN_GET_MAX", 3)
    for name in ("Email", "Thread"):
        assert (await world.fail(f"{name}/get", ids=None))["type"] == "requestTooLarge"
    monkeypatch.undo()


async def test_the_state_moves_with_each_change_and_only_of_its_type(world: World) -> None:
    states = [(await world.call(f"{name}/get", ids=[]))["state"] for name in TYPES]
    await world.add_mailbox("A")
    after = [(await world.call(f"{name}/get", ids=[]))["state"] for name in TYPES]
    changed = [name for name, a, b in zip(TYPES, states, after, strict=True) if a != b]
    assert changed == ["Mailbox"]
    assert after == [(await world.call(f"{name}/get", ids=[]))["state"] for name in TYPES]
