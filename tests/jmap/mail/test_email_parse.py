"""Email/parse. Source: RFC 8621 s4.9"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.jmap.mail_fixture import (
    TEXT,
    VALUES,
    add_foreign_account,
    create_email,
    get_email,
    make_raw,
    upload,
)
from tests.world import World
from tindra.features.mail.email_get import render_message

DEFAULTS = {
    "messageId", "inReplyTo", "references", "sender", "from", "to", "cc", "bcc", "replyTo",
    "subject", "sentAt", "hasAttachment", "preview", "bodyValues", "textBody", "htmlBody",
    "attachments",
}  # fmt: skip


async def parse(world: World, blob_id: str, **arguments: Any) -> dict[str, Any]:
    """The one parsed Email."""
    answer = await world.call("Email/parse", blobIds=[blob_id], **arguments)
    assert answer["parsed"], answer
    return dict(answer["parsed"][blob_id])


async def test_the_default_properties_are_those_of_the_rfc(world: World) -> None:
    got = await parse(world, await upload(world, make_raw("Hej")))
    assert got.keys() == DEFAULTS
    assert got["subject"] == "Hej"
    assert got["bodyValues"] == {}


async def test_nothing_is_stored(world: World) -> None:
    await parse(world, await upload(world, make_raw()))
    assert (await world.call("Email/query"))["ids"] == []


async def test_metadata_is_null(world: World) -> None:
    names = ["id", "mailboxIds", "keywords", "receivedAt", "threadId"]
    got = await parse(world, await upload(world, make_raw()), properties=names)
    assert got == dict.fromkeys(names)


async def test_blob_id_and_size_are_known(world: World) -> None:
    blob = await upload(world, make_raw())
    got = await parse(world, blob, properties=["blobId", "size"])
    assert got == {"blobId": blob, "size": len(make_raw())}


async def test_an_attached_message_is_parsed_by_its_part_id(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    part = {"blobId": await upload(world, make_raw("Inner")), "type": "message/rfc822"}
    outer = await create_email(
        world, inbox, subject="Outer", textBody=[TEXT], bodyValues=VALUES, attachments=[part]
    )
    inner = (await get_email(world, outer, "attachments"))["attachments"][0]["blobId"]
    assert (await parse(world, inner, properties=["subject"]))["subject"] == "Inner"


async def test_parts_of_a_parsed_message_can_be_downloaded_by_their_ids(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    file = await upload(world, b"\0\1\2")
    id = await create_email(world, inbox, attachments=[{"blobId": file, "type": "image/png"}])
    blob = (await get_email(world, id, "blobId"))["blobId"]
    got = await parse(world, blob)
    again = await create_email(
        world, inbox, attachments=[{"blobId": got["attachments"][0]["blobId"]}]
    )
    assert (await get_email(world, again, "attachments"))["attachments"][0]["size"] == 3


async def test_body_values_come_when_asked_for_and_are_cut_between_characters(
    world: World,
) -> None:
    blob = await upload(world, make_raw(body="Blåbär\r\n", Content_Type="text/plain;charset=utf-8"))
    got = await parse(world, blob, fetchTextBodyValues=True, bodyProperties=["partId", "type"])
    assert got["textBody"] == [{"partId": "1", "type": "text/plain"}]
    assert got["bodyValues"]["1"]["value"] == "Blåbär\n"
    cut = await parse(world, blob, fetchAllBodyValues=True, maxBodyValueBytes=3)
    assert cut["bodyValues"]["1"] == {
        "value": "Bl",
        "isEncodingProblem": False,
        "isTruncated": True,
    }


async def test_header_properties_keep_the_spelling_of_the_request(world: World) -> None:
    names = ["header:sUBJECT:asText", "header:X-None", "header:Received:all"]
    got = await parse(world, await upload(world, make_raw("Hej")), properties=names)
    assert got == {names[0]: "Hej", names[1]: None, names[2]: []}


async def test_unknown_and_foreign_blobs_are_not_found(world: World) -> None:
    foreign = await upload(world, make_raw(), await add_foreign_account(world, "eve"))
    answer = await world.call("Email/parse", blobIds=["bnone", foreign])
    assert answer["notFound"] == ["bnone", foreign]
    assert answer["parsed"] is None
    assert answer["notParsable"] is None


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff\xe0 JFIF", b"just words\n"])
async def test_what_is_no_message_is_not_parsable(world: World, data: bytes) -> None:
    blob = await upload(world, data)
    answer = await world.call("Email/parse", blobIds=[blob])
    assert answer["notParsable"] == [blob]
    assert answer["parsed"] is None


async def test_international_headers_are_understood(world: World) -> None:
    blob = await upload(world, make_raw(From="Zoë <zoë@exämple.test>"))
    got = await parse(world, blob, properties=["from"])
    assert got["from"] == [{"name": "Zoë", "email": "zoë@exämple.test"}]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"blobIds": None},
        {"blobIds": "b"},
        {"blobIds": ["a b"]},
        {"blobIds": [], "properties": ["nothing"]},
        {"blobIds": [], "properties": ["header:From:asDate"]},
        {"blobIds": [], "bodyProperties": ["nothing"]},
        {"blobIds": [], "fetchTextBodyValues": "yes"},
        {"blobIds": [], "maxBodyValueBytes": -1},
        {"blobIds": [], "extra": True},
    ],
)
async def test_wrong_arguments_are_refused(world: World, arguments: dict[str, Any]) -> None:
    assert (await world.fail("Email/parse", **arguments))["type"] == "invalidArguments"


async def test_too_many_blobs_at_once_are_refused(world: World) -> None:
    error = await world.fail("Email/parse", blobIds=[f"b{n}" for n in range(101)])
    assert error["type"] == "requestTooLarge"


async def test_every_file_of_the_corpus_is_parsed_or_named(world: World, corpus: Path) -> None:
    files = [path for path in sorted((corpus / "mail").rglob("*")) if path.is_file()]
    for start in range(0, len(files), 100):
        blobs = [await upload(world, path.read_bytes()) for path in files[start : start + 100]]
        answer = await world.call(
            "Email/parse",
            blobIds=blobs,
            fetchAllBodyValues=True,
            properties=["bodyStructure", "bodyValues", "headers", "from", "subject"],
        )
        assert {*(answer["parsed"] or ()), *(answer["notParsable"] or ())} == set(blobs)


def test_a_rendered_message_is_let_go_at_once() -> None:
    raw = make_raw("Large", "large@fjord.test")
    arguments = {"fetchAllBodyValues": True, "bodyProperties": ["headers", "blobId", "name"]}
    before = sys.getrefcount(raw)
    gc.disable()
    try:
        render_message(raw, "b1", ["bodyStructure", "headers", "bodyValues"], arguments, 10**6)
        assert sys.getrefcount(raw) == before, "it waits for the collector: a gigabyte in a second"
    finally:
        gc.enable()
