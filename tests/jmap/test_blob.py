"""Blob/upload, /get, /lookup and /copy. Source: RFC 9404, RFC 8620 s6.3"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from tests.jmap.mail_fixture import (
    TEXT,
    VALUES,
    add_account,
    add_foreign_account,
    create_email,
    get_email,
    make_raw,
    only_rights,
    upload,
)
from tests.jmap.sharing_fixture import READ, add_person, share
from tests.world import World
from tindra.base import limits
from tindra.base.ids import AccountId
from tindra.features.blob.feature import BLOB
from tindra.features.blob.get import GET_DATA_BYTES_MAX
from tindra.features.blob.lookup import LOOKUP_PAIRS_MAX
from tindra.features.blob.reading import CALL_BYTES_MAX
from tindra.features.blob.upload import CALL_SOURCES_MAX, DATA_SOURCES_MAX

FOX = "The quick brown fox jumped over the lazy dog."
PNG = bytes(range(256)) * 40


def b64(data: bytes) -> str:
    """As data:asBase64."""
    return base64.b64encode(data).decode()


def text(value: str) -> dict[str, Any]:
    """A source of text."""
    return {"data:asText": value}


async def make(world: World, *sources: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One blob by Blob/upload."""
    made = await world.call("Blob/upload", create={"k": {"data": list(sources)} | more})
    assert made["created"], made
    return dict(made["created"]["k"])


async def refuse(world: World, *sources: Any, **more: Any) -> dict[str, Any]:
    """The SetError of a blob that must not be made."""
    made = await world.call("Blob/upload", create={"k": {"data": list(sources)} | more})
    assert made["created"] is None, made
    return dict(made["notCreated"]["k"])


async def get(world: World, blob_id: str, *properties: str, **arguments: Any) -> dict[str, Any]:
    """One blob by Blob/get, without its id."""
    if properties:
        arguments["properties"] = list(properties)
    [found] = (await world.call("Blob/get", ids=[blob_id], **arguments))["list"]
    assert found.pop("id") == blob_id
    return dict(found)


async def load(world: World, blob_id: str) -> bytes | None:
    """The octets as a download would find them."""
    return await world.services.blobs.get(world.account_id, blob_id)


async def make_part(world: World, content: bytes) -> str:
    """The blob id of a body part in base64."""
    inbox = await world.add_mailbox("Parts")
    part = {"blobId": await upload(world, content), "type": "image/png", "name": "a.png"}
    email = await create_email(world, inbox, textBody=[TEXT], bodyValues=VALUES, attachments=[part])
    attached = (await get_email(world, email, "attachments"))["attachments"][0]
    assert attached["blobId"] != part["blobId"]
    return str(attached["blobId"])


# -- capability ------------------------------------------------------------------------------------
async def test_the_session_tells_the_limits(world: World) -> None:
    capability = world.registry.capabilities[BLOB]
    assert capability.session == {}
    told = capability.account
    assert told["maxSizeBlobSet"] == limits.UPLOAD_BYTES_MAX
    assert told["maxDataSources"] == 64
    assert list(told["supportedTypeNames"]) == ["Mailbox", "Thread", "Email"]
    assert list(told["supportedDigestAlgorithms"]) == ["sha", "sha-256", "sha-512"]


async def test_without_the_capability_only_copy_is_there(world: World) -> None:
    calls = [[f"Blob/{name}", {"accountId": world.account_id}, name] for name in ("get", "copy")]
    answer = await world.request(calls, using=["urn:ietf:params:jmap:core"])
    assert [r[1]["type"] for r in answer["methodResponses"]] == [
        "unknownMethod",
        "invalidArguments",
    ]


# -- upload ----------------------------------------------------------------------------------------
async def test_text_and_base64_become_the_blobs_an_upload_would_have_made(world: World) -> None:
    made = await make(world, text("Grüße "), {"data:asBase64": b64(b"\xff\x00")}, type="x/y")
    expected = "Grüße ".encode() + b"\xff\x00"
    assert made == {"id": await upload(world, expected), "type": "x/y", "size": len(expected)}


async def test_no_sources_make_an_empty_blob(world: World) -> None:
    made = await make(world)
    assert made["size"] == 0
    assert await load(world, made["id"]) == b""


async def test_entries_may_be_made_of_each_other_in_any_order(world: World) -> None:
    create = {
        "cat": {
            "data": [
                text("How"),
                {"blobId": "#fox", "offset": 3, "length": 7},
                text("was t"),
                {"blobId": "#fox", "offset": 1, "length": 1},
                {"data:asBase64": b64(b"at?")},
            ]
        },
        "fox": {"data": [text(FOX)], "type": "text/plain"},
        "twice": {"data": [{"blobId": "#cat"}, {"blobId": "#cat", "offset": 15}]},
    }
    made = (await world.call("Blob/upload", create=create))["created"]
    assert await load(world, made["cat"]["id"]) == b"How quick was that?"
    assert await load(world, made["twice"]["id"]) == b"How quick was that?hat?"
    assert made["fox"]["type"] == "text/plain"
    assert made["cat"]["type"] is None


async def test_what_was_made_before_can_be_named_by_its_creation_id(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    email = {
        "mailboxIds": {inbox: True},
        "attachments": [{"blobId": "#b", "type": "image/png", "name": "a.png"}],
    }
    responses = await world.calls(
        [
            ["Blob/upload", {"create": {"b": {"data": [{"data:asBase64": b64(PNG)}]}}}, "0"],
            ["Blob/upload", {"create": {"c": {"data": [{"blobId": "#b", "length": 4}]}}}, "1"],
            ["Email/set", {"create": {"e": email}}, "2"],
            ["Blob/get", {"ids": ["#c"], "properties": ["data:asBase64"]}, "3"],
        ]
    )
    assert responses[2][1]["created"], responses
    assert responses[3][1]["list"][0]["data:asBase64"] == b64(PNG[:4])


async def test_a_range_of_an_encoded_body_part_is_a_range_of_its_content(world: World) -> None:
    part = await make_part(world, PNG)
    made = await make(world, {"blobId": part, "offset": 100, "length": 50}, {"blobId": part})
    assert await load(world, made["id"]) == PNG[100:150] + PNG
    refused = await refuse(world, {"blobId": part, "offset": 1, "length": len(PNG)})
    assert refused["type"] == "invalidProperties"


@pytest.mark.parametrize(
    "source",
    [
        {"data:asText": "a", "data:asBase64": "YQ=="},
        {"data:asText": "a", "blobId": "b"},
        {"data:asText": None},
        {"data:asText": 1},
        {"data:asText": "a", "offset": 1},
        {"data:asBase64": "Y"},
        {"data:asBase64": "Y Q=="},
        {"data:asBase64": "YQ==\n"},
        {"data:asBase64": "ä"},
        {"data:asHex": "00"},
        {},
        None,
        "a",
        {"blobId": "FOX", "offset": -1},
        {"blobId": "FOX", "offset": 46},
        {"blobId": "FOX", "length": 46},
        {"blobId": "FOX", "offset": 1, "length": 45},
        {"blobId": "FOX", "offset": 2**53 - 1, "length": 2**53 - 1},
        {"blobId": "FOX", "length": "1"},
        {"blobId": "FOX", "length": True},
        {"blobId": 7},
    ],
)
async def test_wrong_sources_are_refused(world: World, source: Any) -> None:
    if isinstance(source, dict) and source.get("blobId") == "FOX":
        source = source | {"blobId": await upload(world, FOX.encode())}
    assert (await refuse(world, text("x"), source))["type"] == "invalidProperties"


@pytest.mark.parametrize(
    "entry", [{"data": None}, {}, {"data": {}}, {"data": [], "size": 1}, {"data": [], "type": 1}]
)
async def test_wrong_entries_are_refused_and_the_others_made(world: World, entry: Any) -> None:
    answer = await world.call("Blob/upload", create={"bad": entry, "good": {"data": []}})
    assert answer["notCreated"]["bad"]["type"] == "invalidProperties"
    assert answer["created"].keys() == {"good"}


async def test_the_end_of_a_blob_is_an_empty_range(world: World) -> None:
    fox = await upload(world, FOX.encode())
    assert (await make(world, {"blobId": fox, "offset": 45, "length": None}))["size"] == 0


async def test_circles_are_refused_with_what_is_made_of_them(world: World) -> None:
    create = {
        "a": {"data": [{"blobId": "#b"}]},
        "b": {"data": [{"blobId": "#a"}]},
        "self": {"data": [{"blobId": "#self"}]},
        "after": {"data": [{"blobId": "#a"}]},
        "good": {"data": [text("x")]},
    }
    answer = await world.call("Blob/upload", create=create)
    assert answer["created"].keys() == {"good"}
    assert {e["type"] for e in answer["notCreated"].values()} == {"invalidProperties"}


async def test_what_is_made_of_a_refused_entry_is_refused(world: World) -> None:
    create = {
        "bad": {"data": [{"blobId": "bnone"}]},
        "next": {"data": [{"blobId": "#bad"}]},
        "last": {"data": [{"blobId": "#next"}]},
        "short": {"data": [{"blobId": "#fox", "offset": 50}]},
        "fox": {"data": [text(FOX)]},
    }
    answer = await world.call("Blob/upload", create=create)
    assert answer["created"].keys() == {"fox"}
    assert answer["notCreated"]["bad"]["type"] == "blobNotFound"
    assert answer["notCreated"]["bad"]["notFound"] == ["bnone"]
    assert answer["notCreated"]["short"]["type"] == "invalidProperties"


async def test_a_foreign_blob_is_like_an_unknown_one(world: World) -> None:
    foreign = await add_foreign_account(world, "other")
    blob = await upload(world, b"secret", foreign)
    unknown = await refuse(world, {"blobId": "b" + "0" * 40})
    refused = await refuse(world, {"blobId": blob})
    assert refused | {"notFound": []} == unknown | {"notFound": []}
    part = await refuse(world, {"blobId": f"{blob}_0_3_7bit"})
    assert part["type"] == unknown["type"]


async def test_so_many_sources_and_no_more(world: World) -> None:
    assert (await make(world, *[text("ab")] * DATA_SOURCES_MAX))["size"] == 2 * DATA_SOURCES_MAX
    assert (await refuse(world, *[text("a")] * (DATA_SOURCES_MAX + 1)))["type"] == "tooLarge"


async def test_who_may_not_write_may_not_upload(world: World) -> None:
    fox = await upload(world, FOX.encode())
    async with only_rights(world, "read"):
        error = await world.fail("Blob/upload", create={"k": {"data": []}})
        assert (await get(world, fox, "data:asText"))["data:asText"] == FOX
    assert error["type"] == "accountReadOnly"


async def count_reads(world: World, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Octets of each read from blobs from now on."""
    reads: list[int] = []
    blobs = world.services.blobs
    whole = blobs.get

    async def counted(*arguments: Any) -> bytes | None:
        octets = await whole(*arguments)
        reads.append(len(octets or b""))
        return octets

    monkeypatch.setattr(blobs, "get", counted)
    return reads


async def test_a_small_request_for_terabytes_is_refused_before_anything_is_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = await upload(world, bytes(CALL_BYTES_MAX // 64))
    reads = await count_reads(world, monkeypatch)
    flood = {f"k{n}": {"data": [{"blobId": big}] * 64} for n in range(1000)}
    assert (await world.fail("Blob/upload", create=flood))["type"] == "requestTooLarge"
    flood = {f"k{n}": {"data": [{"blobId": big}] * 64} for n in range(CALL_SOURCES_MAX // 64)}
    answer = await world.call("Blob/upload", create=flood)
    assert answer["created"] is None
    assert {e["type"] for e in answer["notCreated"].values()} == {"tooLarge"}
    assert answer["notCreated"]["k0"]["maxSize"] == limits.UPLOAD_BYTES_MAX
    half = {f"k{n}": {"data": [{"blobId": big}] * 30} for n in range(100)}
    assert (await world.fail("Blob/upload", create=half))["type"] == "requestTooLarge"
    double: dict[str, Any] = {"d0": {"data": [text("x" * 1000)]}}
    double |= {f"d{n}": {"data": [{"blobId": f"#d{n - 1}"}] * 64} for n in range(1, 60)}
    answer = await world.call("Blob/upload", create=double)
    assert answer["created"].keys() == {"d0", "d1", "d2"}
    assert sum(reads) < limits.UPLOAD_BYTES_MAX
    too_many = {f"k{n}": {"data": []} for n in range(limits.OBJECTS_IN_SET_MAX + 1)}
    assert (await world.fail("Blob/upload", create=too_many))["type"] == "requestTooLarge"


async def test_decoding_a_part_again_and_again_counts_as_reading_it(world: World) -> None:
    part = await make_part(world, bytes(3 * limits.MIB))
    create = {"k": {"data": [{"blobId": part, "length": 1}] * 40}}
    assert (await world.fail("Blob/upload", create=create))["type"] == "requestTooLarge"


# -- get -------------------------------------------------------------------------------------------
async def test_data_and_size_are_the_default(world: World) -> None:
    fox = await upload(world, FOX.encode())
    assert await get(world, fox) == {"data:asText": FOX, "size": 45}
    png = await upload(world, PNG)
    assert await get(world, png) == {
        "data:asBase64": b64(PNG),
        "size": len(PNG),
        "isEncodingProblem": True,
    }


async def test_text_that_is_none_is_null_and_said(world: World) -> None:
    png = await upload(world, PNG)
    assert await get(world, png, "data:asText") == {"data:asText": None, "isEncodingProblem": True}
    assert await get(world, png, "data:asBase64") == {"data:asBase64": b64(PNG)}


async def test_a_range_that_cuts_a_letter_is_an_encoding_problem(world: World) -> None:
    blob = await upload(world, "ä€".encode())
    assert await get(world, blob, "data:asText", length=2) == {"data:asText": "ä"}
    cut = await get(world, blob, "data:asText", length=3)
    assert cut == {"data:asText": None, "isEncodingProblem": True}


async def test_ranges_and_digests_of_them(world: World) -> None:
    fox = await upload(world, FOX.encode())
    names = ["data:asText", "size", "digest:sha", "digest:sha-256", "digest:sha-512"]
    got = await get(world, fox, *names, offset=4, length=9)
    assert got == {
        "data:asText": "quick bro",
        "size": 45,
        "digest:sha": b64(hashlib.sha1(b"quick bro").digest()),
        "digest:sha-256": b64(hashlib.sha256(b"quick bro").digest()),
        "digest:sha-512": b64(hashlib.sha512(b"quick bro").digest()),
    }


@pytest.mark.parametrize(
    ("offset", "length", "expected", "is_truncated"),
    [
        (0, 45, FOX, False),
        (0, 46, FOX, True),
        (41, 10, "dog.", True),
        (45, None, "", False),
        (45, 0, "", False),
        (46, None, "", True),
        (2**53 - 1, 2**53 - 1, "", True),
        (None, None, FOX, False),
    ],
)
async def test_a_range_beyond_the_end_is_said_to_be_truncated(
    world: World, offset: int | None, length: int | None, expected: str, is_truncated: bool
) -> None:
    fox = await upload(world, FOX.encode())
    got = await get(world, fox, "data", "digest:sha-256", offset=offset, length=length)
    assert got["data:asText"] == expected
    assert got["digest:sha-256"] == b64(hashlib.sha256(expected.encode()).digest())
    assert got.get("isTruncated", False) is is_truncated


async def test_the_size_of_a_part_is_that_of_its_content(world: World) -> None:
    part = await make_part(world, PNG)
    got = await get(world, part, "size", "data:asBase64", "digest:sha", offset=10, length=5)
    assert got["size"] == len(PNG)
    assert got["data:asBase64"] == b64(PNG[10:15])
    assert got["digest:sha"] == b64(hashlib.sha1(PNG[10:15]).digest())
    assert await get(world, part, "size") == {"size": len(PNG)}


async def test_unknown_and_foreign_blobs_are_not_found(world: World) -> None:
    foreign = await add_foreign_account(world, "other")
    secret = await upload(world, b"secret", foreign)
    ids = ["not-a-blob", secret, f"{secret}_0_2_7bit", await upload(world, b"mine"), "#gone"]
    got = await world.call("Blob/get", ids=ids, properties=["size"])
    assert [obj["id"] for obj in got["list"]] == [ids[3]]
    assert got["notFound"] == [ids[0], ids[1], ids[2], "#gone"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"ids": None},
        {"ids": ["a"], "properties": ["digest:md5"]},
        {"ids": ["a"], "properties": ["data:asHex"]},
        {"ids": ["a"], "offset": -1},
        {"ids": ["a"], "length": "1"},
        {"ids": ["a"], "limit": 1},
    ],
)
async def test_wrong_arguments_of_get(world: World, arguments: dict[str, Any]) -> None:
    assert (await world.fail("Blob/get", **arguments))["type"] == "invalidArguments"


async def test_more_data_than_an_answer_holds_is_refused_but_ranges_and_digests_are_not(
    world: World,
) -> None:
    data = bytes(GET_DATA_BYTES_MAX + 1)
    blob = await upload(world, data)
    assert (await world.fail("Blob/get", ids=[blob]))["type"] == "requestTooLarge"
    assert (await get(world, blob, "size"))["size"] == len(data)
    assert (await get(world, blob, "digest:sha"))["digest:sha"] == b64(hashlib.sha1(data).digest())
    assert len((await get(world, blob, "data", length=10))["data:asText"]) == 10
    parts = [f"{blob}_{n:x}_{len(data):x}_7bit" for n in range(30)]
    error = await world.fail("Blob/get", ids=parts, properties=["digest:sha"])
    assert error["type"] == "requestTooLarge"


# -- lookup ----------------------------------------------------------------------------------------
async def test_lookup_finds_what_holds_a_message_and_its_parts(world: World) -> None:
    inbox, other = await world.add_mailbox("Inbox"), await world.add_mailbox("Other")
    email = await world.add_email(inbox, make_raw())
    await world.call("Email/set", update={email: {f"mailboxIds/{other}": True}})
    got = await get_email(world, email, "blobId", "threadId", "textBody")
    part = got["textBody"][0]["blobId"]
    loose = await upload(world, b"loose")
    ids = [got["blobId"], part, loose, "not-a-blob", f"{got['blobId']}_0_ffffff_7bit"]
    names = ["Mailbox", "Thread", "Email"]
    answer = await world.call("Blob/lookup", typeNames=names, ids=ids)
    held = {"Mailbox": sorted([inbox, other]), "Thread": [got["threadId"]], "Email": [email]}
    nothing: dict[str, list[str]] = {name: [] for name in names}
    assert answer["list"] == [
        {"id": ids[0], "matchedIds": held},
        {"id": ids[1], "matchedIds": held},
        {"id": ids[2], "matchedIds": nothing},
        {"id": ids[3], "matchedIds": nothing},
        {"id": ids[4], "matchedIds": nothing},
    ]
    only = await world.call("Blob/lookup", typeNames=["Email"], ids=ids[:1])
    assert only["list"] == [{"id": ids[0], "matchedIds": {"Email": [email]}}]


async def test_lookup_does_not_see_other_accounts(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    email = await world.add_email(inbox, make_raw())
    blob = (await get_email(world, email, "blobId"))["blobId"]
    shared = await add_account(world, "sam", "read")
    arguments = {"accountId": shared, "typeNames": ["Email"], "ids": [blob]}
    answer = await world.call("Blob/lookup", **arguments)
    assert answer["list"] == [{"id": blob, "matchedIds": {"Email": []}}]
    foreign = await add_foreign_account(world, "other")
    error = await world.fail("Blob/lookup", **(arguments | {"accountId": foreign}))
    assert error["type"] == "accountNotFound"


async def test_types_that_are_not_looked_up_are_unknown(world: World) -> None:
    for name in ("Identity", "Blob", "email"):
        error = await world.fail("Blob/lookup", typeNames=[name], ids=[])
        assert error["type"] == "unknownDataType"
    call = ["Blob/lookup", {"accountId": world.account_id, "typeNames": ["Email"], "ids": []}, "0"]
    answer = await world.request([call], using=["urn:ietf:params:jmap:core", BLOB])
    assert answer["methodResponses"][0][1]["type"] == "unknownDataType"


async def test_a_lookup_of_too_much_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tindra.features.blob.lookup.LOOKUP_PAIRS_MAX", 3)
    assert LOOKUP_PAIRS_MAX > limits.OBJECTS_IN_GET_MAX
    inbox = await world.add_mailbox("Inbox")
    ids = []
    for number in range(2):
        email = await world.add_email(inbox, make_raw(message_id=f"{number}@x"))
        ids.append((await get_email(world, email, "blobId"))["blobId"])
    error = await world.fail("Blob/lookup", typeNames=["Email", "Thread"], ids=ids)
    assert error["type"] == "requestTooLarge"


# -- copy ------------------------------------------------------------------------------------------
async def test_copy_gives_the_other_account_the_octets(world: World) -> None:
    target = await add_account(world, "sam", "read", "triage")
    fox, part = await upload(world, FOX.encode()), await make_part(world, PNG)
    ids = [fox, part, "b" + "0" * 40]
    answer = await world.call(
        "Blob/copy", fromAccountId=world.account_id, accountId=target, blobIds=ids
    )
    assert answer["copied"][fox] == fox
    blobs = world.services.blobs
    assert await blobs.get(AccountId(target), answer["copied"][fox]) == FOX.encode()
    assert await blobs.get(AccountId(target), answer["copied"][part]) == PNG
    assert answer["notCopied"][ids[2]]["type"] == "notFound"
    assert answer["fromAccountId"] == world.account_id


async def test_copy_names_what_is_wrong_with_its_accounts(world: World) -> None:
    target = await add_account(world, "sam", "read")
    fox = await upload(world, FOX.encode())

    async def fail(from_id: Any, to_id: Any) -> str:
        answer = await world.fail(
            "Blob/copy", fromAccountId=from_id, accountId=to_id, blobIds=[fox]
        )
        return str(answer["type"])

    foreign = await add_foreign_account(world, "other")
    assert await fail(world.account_id, target) == "accountReadOnly"
    assert await fail(foreign, world.account_id) == "fromAccountNotFound"
    assert await fail(world.account_id, foreign) == "accountNotFound"
    assert await fail(None, world.account_id) == "invalidArguments"
    answer = await world.call(
        "Blob/copy", fromAccountId=target, accountId=world.account_id, blobIds=[fox]
    )
    assert answer["notCopied"][fox]["type"] == "notFound"


async def test_a_copy_of_too_much_is_refused(world: World) -> None:
    target = await add_account(world, "sam", "read", "triage")
    size = CALL_BYTES_MAX // 64
    big = await upload(world, bytes(size))
    parts = [f"{big}_{n:x}_{size:x}_7bit" for n in range(66)]
    error = await world.fail(
        "Blob/copy", fromAccountId=world.account_id, accountId=target, blobIds=parts
    )
    assert error["type"] == "requestTooLarge"


# -- parts of accounts -----------------------------------------------------------------------------
async def test_who_sees_one_mailbox_sees_the_blobs_of_its_emails_and_no_others(
    world: World,
) -> None:
    shown, hidden = await world.add_mailbox("Shown"), await world.add_mailbox("Hidden")
    zoe = await add_person(world, "zoe@example.test")
    await share(world, shown, zoe, READ)
    blobs = []
    for number, mailbox in enumerate((shown, hidden)):
        email = await world.add_email(mailbox, make_raw(message_id=f"{number}@x"))
        got = await get_email(world, email, "blobId", "textBody")
        blobs += [got["blobId"], got["textBody"][0]["blobId"]]
    loose = await upload(world, b"loose")
    ids = [*blobs, loose]
    got = await zoe.call("Blob/get", ids=ids, properties=["size"])
    assert [obj["id"] for obj in got["list"]] == blobs[:2]
    assert got["notFound"] == [*blobs[2:], loose]
    answer = await zoe.call("Blob/lookup", typeNames=["Mailbox", "Email"], ids=ids)
    held = [len(one["matchedIds"]["Email"]) for one in answer["list"]]
    assert held == [1, 1, 0, 0, 0]
    assert answer["list"][0]["matchedIds"]["Mailbox"] == [shown]
    home = str(zoe.user.home_account_id)
    copied = await zoe.call(
        "Blob/copy", fromAccountId=world.account_id, accountId=home, blobIds=ids
    )
    assert copied["copied"].keys() == set(blobs[:2])
    assert copied["notCopied"].keys() == set(ids[2:])
    sources = [[{"blobId": id}] for id in ids]
    create = {f"k{n}": {"data": source} for n, source in enumerate(sources)}
    made = await zoe.call("Blob/upload", create=create)
    assert made["created"].keys() == {"k0", "k1"}


async def test_what_such_a_one_makes_lies_in_their_own_account(world: World) -> None:
    shown = await world.add_mailbox("Shown")
    zoe = await add_person(world, "zoe@example.test")
    await share(world, shown, zoe, READ)
    create = {"a": {"data": [text("a")]}, "b": {"data": [{"blobId": "#a"}, text("b")]}}
    made = (await zoe.call("Blob/upload", create=create))["created"]
    blobs = world.services.blobs
    assert await blobs.get(zoe.user.home_account_id, made["b"]["id"]) == b"ab"
    assert await blobs.get(world.account_id, made["b"]["id"]) is None
    got = await zoe.call("Blob/get", ids=[made["b"]["id"]], properties=["data"])
    assert got["list"][0]["data:asText"] == "ab"
