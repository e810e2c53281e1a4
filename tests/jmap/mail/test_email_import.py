"""Email/import. Source: RFC 8621 s4.8"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.jmap.mail_fixture import (
    add_foreign_account,
    create_email,
    get_email,
    make_raw,
    only_rights,
    upload,
)
from tests.world import World
from tindra.base import limits


async def run_import(
    world: World, blob_id: Any, mailbox_id: str, **properties: Any
) -> dict[str, Any]:
    obj = {"blobId": blob_id, "mailboxIds": {mailbox_id: True}} | properties
    return await world.call("Email/import", emails={"k": obj})


async def test_an_uploaded_message_becomes_an_email(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    raw = make_raw("Grüße")
    blob = await upload(world, raw)
    made = await run_import(
        world, blob, inbox, keywords={"$Seen": True}, receivedAt="2026-01-02T03:04:05Z"
    )
    created = made["created"]["k"]
    assert created.keys() == {"id", "blobId", "threadId", "size"}
    assert (created["blobId"], created["size"]) == (blob, len(raw))
    got = await get_email(world, created["id"], "keywords", "receivedAt", "subject", "mailboxIds")
    assert got == {
        "id": created["id"],
        "keywords": {"$seen": True},
        "receivedAt": "2026-01-02T03:04:05Z",
        "subject": "Grüße",
        "mailboxIds": {inbox: True},
    }
    assert made["oldState"] != made["newState"]
    assert made["notCreated"] is None


async def test_the_arrival_is_that_of_the_last_server(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    raw = (
        b"Received: from b by c; Tue, 17 Nov 2026 12:00:00 +0200\r\n"
        b"Received: from a by b; Mon, 16 Nov 2026 12:00:00 +0200\r\n"
    ) + make_raw()
    made = await run_import(world, await upload(world, raw), inbox)
    got = await get_email(world, made["created"]["k"]["id"], "receivedAt")
    assert got["receivedAt"] == "2026-11-17T10:00:00Z"


@pytest.mark.parametrize("received", ["", "Received: from a by b; sometime\r\n"])
async def test_without_a_usable_received_field_it_arrives_now(world: World, received: str) -> None:
    inbox = await world.add_mailbox("Inbox")
    made = await run_import(world, await upload(world, received.encode() + make_raw()), inbox)
    got = await get_email(world, made["created"]["k"]["id"], "receivedAt")
    assert got["receivedAt"] == "2026-09-21T14:13:20Z"
    assert world.clock.now_ms() == 1_790_000_000_000


async def test_a_twin_is_refused_with_the_id_of_the_first(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    blob = await upload(world, make_raw())
    first = (await run_import(world, blob, inbox))["created"]["k"]["id"]
    error = (await run_import(world, blob, inbox))["notCreated"]["k"]
    assert (error["type"], error["existingId"]) == ("alreadyExists", first)


async def test_a_message_twice_in_one_call_becomes_one_email(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    obj = {"blobId": await upload(world, make_raw()), "mailboxIds": {inbox: True}}
    made = await world.call("Email/import", emails={"a": obj, "b": obj})
    assert made["notCreated"]["b"]["existingId"] == made["created"]["a"]["id"]


async def test_each_message_fails_alone(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    good = {"blobId": await upload(world, make_raw()), "mailboxIds": {inbox: True}}
    made = await world.call("Email/import", emails={"a": good | {"blobId": "bno"}, "b": good})
    assert made["notCreated"]["a"]["type"] == "invalidProperties"
    assert made["created"]["b"]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"blobId": "bnothing"}, ["blobId"]),
        ({"blobId": None}, ["blobId"]),
        ({"blobId": 3}, ["blobId"]),
        ({"blobId": "../../etc"}, ["blobId"]),
        ({"blobId": "#nobody"}, ["blobId"]),
        ({"mailboxIds": {}}, ["mailboxIds"]),
        ({"mailboxIds": None}, ["mailboxIds"]),
        ({"mailboxIds": {"nowhere": True}}, ["mailboxIds"]),
        ({"keywords": {"a(": True}}, ["keywords"]),
        ({"keywords": {"a": 1}}, ["keywords"]),
        ({"receivedAt": "now"}, ["receivedAt"]),
        ({"subject": "x"}, ["subject"]),
        ({"blobId": "b0", "keywords": 1, "mailboxIds": {}}, ["blobId", "keywords", "mailboxIds"]),
    ],
)
async def test_a_wrong_property_is_named(
    world: World, wrong: dict[str, Any], named: list[str]
) -> None:
    inbox = await world.add_mailbox("Inbox")
    good = {"blobId": await upload(world, make_raw()), "mailboxIds": {inbox: True}}
    made = await world.call("Email/import", emails={"k": good | wrong})
    error = made["notCreated"]["k"]
    assert (error["type"], sorted(error["properties"])) == ("invalidProperties", named)


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), b"no header here\r\n\r\nx", b"\0" * 99]
)
async def test_what_is_no_message_is_refused(world: World, data: bytes) -> None:
    inbox = await world.add_mailbox("Inbox")
    error = (await run_import(world, await upload(world, data), inbox))["notCreated"]["k"]
    assert error["type"] == "invalidEmail"


async def test_too_many_keywords_are_refused_by_name(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    many = {f"k{n}": True for n in range(limits.KEYWORDS_PER_EMAIL_MAX + 1)}
    made = await run_import(world, await upload(world, make_raw()), inbox, keywords=many)
    assert made["notCreated"]["k"]["type"] == "tooManyKeywords"


async def test_a_message_too_large_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = await world.add_mailbox("Inbox")
    monkeypatch.setattr(limits, "MESSAGE_BYTES_MAX", 50)
    error = (await run_import(world, await upload(world, make_raw()), inbox))["notCreated"]["k"]
    assert error["type"] == "tooLarge"


async def test_an_international_header_is_understood(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    blob = await upload(world, make_raw("Hälsning", From="Zoë <zoë@exämple.test>"))
    made = await run_import(world, blob, inbox)
    got = await get_email(world, made["created"]["k"]["id"], "from", "subject")
    assert got["from"] == [{"name": "Zoë", "email": "zoë@exämple.test"}]
    assert got["subject"] == "Hälsning"


async def test_an_attached_message_becomes_an_email_of_its_own(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    part = {"blobId": await upload(world, make_raw("Inner")), "type": "message/rfc822"}
    outer = await create_email(world, inbox, subject="Outer", attachments=[part])
    inner = (await get_email(world, outer, "attachments"))["attachments"][0]["blobId"]
    made = (await run_import(world, inner, inbox))["created"]["k"]
    assert (await get_email(world, made["id"], "subject"))["subject"] == "Inner"
    assert await world.services.blobs.get(world.account_id, made["blobId"]) == make_raw("Inner")


async def test_a_reply_joins_the_thread_of_what_it_answers(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    first = await upload(world, make_raw("Plans", "a@x"))
    second = await upload(world, make_raw("Re: Plans", "b@x", In_Reply_To="<a@x>"))
    emails = {
        key: {"blobId": blob, "mailboxIds": {inbox: True}}
        for key, blob in (("a", first), ("b", second))
    }
    made = (await world.call("Email/import", emails=emails))["created"]
    assert made["a"]["threadId"] == made["b"]["threadId"]


async def test_a_creation_id_names_the_email_afterwards(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    obj = {"blobId": await upload(world, make_raw()), "mailboxIds": {inbox: True}}
    calls = [
        ["Email/import", {"emails": {"k": obj}}, "0"],
        ["Email/set", {"update": {"#k": {"keywords/a": True}}}, "1"],
    ]
    answers = await world.calls(calls)
    assert answers[1][1]["updated"] == {answers[0][1]["created"]["k"]["id"]: None}


async def test_a_blob_of_another_account_does_not_exist(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    blob = await upload(world, make_raw(), await add_foreign_account(world, "eve"))
    error = (await run_import(world, blob, inbox))["notCreated"]["k"]
    assert (error["type"], error["properties"]) == ("invalidProperties", ["blobId"])


async def test_the_state_must_match_if_one_is_given(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    obj = {"blobId": await upload(world, make_raw()), "mailboxIds": {inbox: True}}
    error = await world.fail("Email/import", emails={"k": obj}, ifInState="12345")
    assert error["type"] == "stateMismatch"
    assert (await world.call("Email/import", emails={"k": obj}, ifInState="0"))["created"]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"emails": []},
        {"emails": {"k": 3}},
        {"emails": {"a b": {}}},
        {"emails": {}, "extra": 1},
        {"emails": {}, "ifInState": 4},
    ],
)
async def test_wrong_arguments_are_refused(world: World, arguments: dict[str, Any]) -> None:
    assert (await world.fail("Email/import", **arguments))["type"] == "invalidArguments"


async def test_too_many_at_once_are_refused(world: World) -> None:
    emails = {f"k{n}": {} for n in range(limits.OBJECTS_IN_SET_MAX + 1)}
    assert (await world.fail("Email/import", emails=emails))["type"] == "requestTooLarge"


async def test_who_may_only_read_imports_nothing(world: World) -> None:
    async with only_rights(world, "read"):
        error = await world.fail("Email/import", emails={})
    assert error["type"] == "accountReadOnly"


async def test_every_message_of_the_corpus_can_be_imported_and_read(
    world: World, corpus: Path
) -> None:
    inbox = await world.add_mailbox("Inbox")
    files = sorted((corpus / "mail").rglob("*.eml")) + sorted((corpus / "mail").rglob("msg_*.txt"))
    emails = {}
    for number, path in enumerate(files):
        blob = await upload(world, path.read_bytes())
        emails[f"k{number}"] = {"blobId": blob, "mailboxIds": {inbox: True}}
    [[_, made, _]] = (
        await world.raw_request(
            [["Email/import", {"accountId": world.account_id, "emails": emails}, "0"]]
        )
    )["methodResponses"]
    refused = {e["type"] for e in (made["notCreated"] or {}).values()}
    assert refused <= {"alreadyExists", "invalidEmail"}
    assert len(made["created"]) > 0.9 * len(files)
    ids = [obj["id"] for obj in made["created"].values()]
    got = await world.call("Email/get", ids=ids, fetchAllBodyValues=True)
    assert len(got["list"]) == len(ids)
