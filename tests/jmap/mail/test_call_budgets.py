"""What one call may read of messages and blobs. Source: RFC 8620 s5.3, s3.6.2"""

from __future__ import annotations

from typing import Any

import pytest

from tests.jmap.mail_fixture import add_account, add_mailbox_in, create_email, make_raw, upload
from tests.world import World
from tindra.base import limits

SIZE = 80_000
"""Of each message here: more than is stored inline."""


@pytest.fixture(autouse=True)
def room_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MESSAGES_PER_CALL_BYTES_MAX", 2 * SIZE + 20_000)


def make_large(number: int) -> bytes:
    return make_raw(f"n{number}", f"{number}@fjord.test", "x" * 70 + "\r\n" + "y" * SIZE)


class Reads:
    """Counts the octets that are read of blobs."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        self._get = world.services.blobs.get
        monkeypatch.setattr(world.services.blobs, "get", self.get)

    async def get(self, *args: Any) -> bytes | None:
        found = await self._get(*args)
        self.bytes += len(found or b"")
        return found


async def test_import_refuses_what_is_beyond_and_does_the_rest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = await world.add_mailbox("Inbox")
    blobs = {f"k{n}": await upload(world, make_large(n)) for n in range(3)}
    blobs["small"] = await upload(world, make_raw("small", "small@fjord.test"))
    emails = {k: {"blobId": id, "mailboxIds": {inbox: True}} for k, id in blobs.items()}
    reads = Reads(world, monkeypatch)
    made = await world.call("Email/import", emails=emails)
    assert made["created"].keys() == {"k0", "k1", "small"}
    assert made["notCreated"]["k2"]["type"] == "rateLimit"
    assert str(limits.MESSAGES_PER_CALL_BYTES_MAX) in made["notCreated"]["k2"]["description"]
    assert reads.bytes <= limits.MESSAGES_PER_CALL_BYTES_MAX
    again = await world.call("Email/import", emails={"k2": emails["k2"]})
    assert again["created"].keys() == {"k2"}


async def test_one_blob_imported_often_is_read_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = await world.add_mailbox("Inbox")
    blob = await upload(world, make_large(0))
    emails = {f"k{n}": {"blobId": blob, "mailboxIds": {inbox: True}} for n in range(50)}
    reads = Reads(world, monkeypatch)
    made = await world.call("Email/import", emails=emails)
    assert made["created"].keys() == {"k0"}
    assert {error["type"] for error in made["notCreated"].values()} == {"alreadyExists"}
    assert reads.bytes == len(make_large(0))


async def test_drafts_that_attach_one_blob_are_bounded_by_what_they_weigh(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    blob = await upload(world, b"z" * SIZE)
    draft = {"mailboxIds": {inbox: True}, "attachments": [{"blobId": blob, "type": "image/png"}]}
    create: dict[str, Any] = {f"k{n}": draft | {"subject": f"n{n}"} for n in range(4)}
    create["plain"] = {"mailboxIds": {inbox: True}, "subject": "plain"}
    made = await world.call("Email/set", create=create)
    assert made["created"].keys() == {"k0", "k1", "plain"}
    assert {error["type"] for error in made["notCreated"].values()} == {"rateLimit"}


async def test_copies_are_bounded(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    target = await add_account(world, "team", "read", "triage")
    there = await add_mailbox_in(world, target, "There")
    blob = await upload(world, b"z" * 60_000)
    ids = [
        await create_email(world, inbox, subject=f"n{n}", attachments=[{"blobId": blob}])
        for n in range(3)
    ]
    copies = {f"k{n}": {"id": id, "mailboxIds": {there: True}} for n, id in enumerate(ids)}
    made = await world.call(
        "Email/copy", fromAccountId=world.account_id, accountId=target, create=copies
    )
    assert made["created"].keys() == {"k0", "k1"}
    assert made["notCreated"]["k2"]["type"] == "rateLimit"


async def test_parse_refuses_too_much_before_it_reads(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = [await upload(world, make_large(n)) for n in range(3)]
    reads = Reads(world, monkeypatch)
    error = await world.fail("Email/parse", blobIds=blobs, properties=["subject"])
    assert (error["type"], reads.bytes) == ("requestTooLarge", 0)
    fewer = await world.call("Email/parse", blobIds=blobs[:2], properties=["subject"])
    assert [fewer["parsed"][id]["subject"] for id in blobs[:2]] == ["n0", "n1"]


async def _import(world: World, raws: list[bytes]) -> list[str]:
    inbox = await world.add_mailbox("Inbox")
    found = []
    for raw in raws:
        email = {"blobId": await upload(world, raw), "mailboxIds": {inbox: True}}
        made = await world.call("Email/import", emails={"k": email})
        found.append(made["created"]["k"]["id"])
    return found


async def test_get_refuses_bodies_of_too_many_large_messages(world: World) -> None:
    ids = await _import(world, [make_large(n) for n in range(3)])
    arguments = {"properties": ["bodyValues"], "fetchTextBodyValues": True}
    error = await world.fail("Email/get", ids=ids, **arguments)
    assert error["type"] == "requestTooLarge"
    fewer = await world.call("Email/get", ids=ids[:2], **arguments)
    assert [len(email["bodyValues"]["1"]["value"]) for email in fewer["list"]] == [71 + SIZE] * 2


MIXED = (
    "Subject: mixed\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    "--b\r\nContent-Type: text/plain\r\nX-Part: one\r\n\r\nHello\r\n"
    "--b\r\nContent-Type: image/png\r\nContent-Disposition: attachment\r\nX-Part: two\r\n"
    "\r\n{image}\r\n"
    "--b\r\nContent-Type: text/html\r\nX-Part: three\r\n\r\n<p>Bye</p>\r\n--b--\r\n"
)


@pytest.mark.parametrize(
    ("arguments", "read_max"),
    [
        ({"properties": ["bodyValues"], "fetchTextBodyValues": True}, 2 * SIZE),
        ({"properties": ["header:Subject"]}, 1000),
        ({"properties": ["attachments"], "bodyProperties": ["header:X-Part"]}, 2 * SIZE),
        ({"properties": ["bodyValues"]}, 0),
    ],
)
async def test_get_reads_a_message_only_as_far_as_it_must(
    world: World, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], read_max: int
) -> None:
    [id] = await _import(world, [MIXED.format(image="A" * SIZE).encode() + b"." * SIZE])
    reads = Reads(world, monkeypatch)
    everything = {"properties": ["bodyStructure", "bodyValues"], "fetchAllBodyValues": True}
    [email] = (await world.call("Email/get", ids=[id], **arguments))["list"]
    assert reads.bytes <= read_max
    [whole] = (await world.call("Email/get", ids=[id], **everything))["list"]
    assert [v["value"] for v in whole["bodyValues"].values()] == ["Hello", "<p>Bye</p>"]
    for name, value in email.get("bodyValues", {}).items():
        assert value == whole["bodyValues"][name]
    if "header:Subject" in email:
        assert email["header:Subject"] == " mixed"
    if "attachments" in email:
        assert [part["header:X-Part"] for part in email["attachments"]] == [" two"]


async def test_snippets_beyond_the_budget_are_null(world: World) -> None:
    ids = await _import(world, [make_large(n) for n in range(3)])
    found = await world.call("SearchSnippet/get", filter={"subject": "n*"}, emailIds=ids)
    shown = [snippet["subject"] is not None for snippet in found["list"]]
    assert shown == [True, True, False]
