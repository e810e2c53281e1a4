"""Email/set. Source: RFC 8621 s4.6, RFC 8620 s5.3"""

from __future__ import annotations

import email
import email.policy
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.jmap.mail_fixture import (
    HTML,
    OWN,
    TEXT,
    VALUES,
    add_foreign_account,
    check_named,
    create,
    create_email,
    get_email,
    load_message,
    make_raw,
    only_rights,
    refuse,
    upload,
)
from tests.world import World
from tindra.base import limits
from tindra.core.errors import SetError
from tindra.features.mail.writing.compose import build_planned, plan_message

FROM = [{"name": "Alex", "email": OWN}]


def parse(raw: bytes) -> email.message.EmailMessage:
    """A second opinion on what we wrote."""
    found = email.message_from_bytes(raw, policy=email.policy.SMTP)
    assert isinstance(found, email.message.EmailMessage)
    return found


def shape(part: dict[str, Any]) -> Any:
    """A bodyStructure as nested lists of types."""
    return [part["type"], *map(shape, part["subParts"])] if part.get("subParts") else part["type"]


async def get_shape(world: World, id: str) -> Any:
    got = await get_email(world, id, "bodyStructure", bodyProperties=["type", "subParts"])
    return shape(got["bodyStructure"])


# --- creating: what comes back ----------------------------------------------------------------


async def test_the_answer_names_what_the_server_chose(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    made = (await create(world, inbox, **{"from": FROM}, subject="Hi"))["created"]["k"]
    assert made.keys() >= {"id", "blobId", "threadId", "size", "messageId", "sentAt", "receivedAt"}
    got = await get_email(world, made["id"], *made.keys())
    assert got == made


async def test_what_the_client_gave_comes_back_by_get(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    given = {
        "from": FROM,
        "to": [{"name": "Zoë Müller", "email": "zoe@example.net"}],
        "cc": [{"name": None, "email": "c@example.net"}],
        "bcc": [{"name": "B, C", "email": "b@example.net"}],
        "replyTo": [{"name": 'Say "hi"', "email": "r@example.net"}],
        "sender": [{"name": None, "email": "s@example.net"}],
        "subject": "Grüße aus Åre — 你好",
        "inReplyTo": ["first@example.net"],
        "references": ["zero@example.net", "first@example.net"],
        "messageId": ["mine@example.org"],
        "sentAt": "2026-07-10T11:03:11+10:00",
        "receivedAt": "2026-07-10T01:03:11Z",
        "keywords": {"$draft": True, "$Seen": True},
    }
    id = await create_email(world, inbox, **given, textBody=[TEXT], bodyValues=VALUES)
    got = await get_email(world, id, *given)
    assert got == {"id": id} | given | {"keywords": {"$draft": True, "$seen": True}}


async def test_a_message_id_and_a_date_are_made_when_absent(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await create_email(world, inbox, **{"from": FROM}, subject="Hi")
    raw = parse(await load_message(world, id))
    assert raw["Message-ID"].endswith("@example.org>")
    assert raw["Date"].datetime.timestamp() * 1000 == world.clock.now_ms()
    assert raw["MIME-Version"] == "1.0"


async def test_two_drafts_without_message_id_get_different_ones(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    first, second = [await create_email(world, inbox, subject="Hi") for _ in range(2)]
    assert first != second
    ids = [(await get_email(world, id, "messageId"))["messageId"] for id in (first, second)]
    assert ids[0] != ids[1]


async def test_a_message_without_a_sender_gets_a_reserved_domain(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await create_email(world, inbox, subject="Hi", **{"from": [{"email": "half a draft"}]})
    assert (await get_email(world, id, "messageId"))["messageId"][0].endswith("@tindra.invalid")


async def test_the_same_message_twice_is_one_email(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    fixed = {"messageId": ["a@b.test"], "sentAt": "2026-01-01T00:00:00Z", "subject": "Twin"}
    id = await create_email(world, inbox, **fixed)
    error = await refuse(world, inbox, **fixed)
    assert (error["type"], error["existingId"]) == ("alreadyExists", id)


async def test_a_half_finished_address_is_kept_in_a_draft(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await create_email(world, inbox, to=[{"name": None, "email": "zoe"}])
    assert (await get_email(world, id, "to"))["to"] == [{"name": None, "email": "zoe"}]


async def test_null_and_empty_lists_leave_the_field_out(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await create_email(world, inbox, subject=None, cc=[], textBody=None, bodyValues=None)
    names = {name.lower() for name, _ in parse(await load_message(world, id)).items()}
    assert names.isdisjoint({"subject", "cc"})


# --- creating: body shapes --------------------------------------------------------------------


async def test_no_body_is_an_empty_text(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await create_email(world, inbox, subject="Empty")
    assert await get_shape(world, id) == "text/plain"


@pytest.mark.parametrize("part", [TEXT, HTML, {"partId": "t"}])
async def test_one_body_is_the_whole_message(world: World, part: dict[str, Any]) -> None:
    inbox = await world.add_mailbox("Inbox")
    name = "htmlBody" if part is HTML else "textBody"
    id = await create_email(world, inbox, bodyValues=VALUES, **{name: [part]})
    assert await get_shape(world, id) == part.get("type", "text/plain")


async def test_text_and_html_become_alternatives(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await create_email(world, inbox, textBody=[TEXT], htmlBody=[HTML], bodyValues=VALUES)
    assert await get_shape(world, id) == ["multipart/alternative", "text/plain", "text/html"]
    got = await get_email(world, id, "bodyValues", "textBody", fetchTextBodyValues=True)
    assert got["bodyValues"][got["textBody"][0]["partId"]]["value"] == "Hello\nworld\n"


async def test_pictures_of_the_html_stand_beside_it_and_files_outside(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    picture, file = await upload(world, b"\x89PNG picture"), await upload(world, b"PK file")
    attachments = [
        {"blobId": file, "type": "application/zip", "name": "all.zip"},
        {"blobId": picture, "type": "image/png", "cid": "pic@x", "disposition": "inline"},
    ]
    id = await create_email(
        world, inbox, textBody=[TEXT], htmlBody=[HTML], bodyValues=VALUES, attachments=attachments
    )
    related = ["multipart/related", "text/html", "image/png"]
    body = ["multipart/alternative", "text/plain", related]
    assert await get_shape(world, id) == ["multipart/mixed", body, "application/zip"]
    got = await get_email(world, id, "attachments", "hasAttachment")
    assert [p["cid"] for p in got["attachments"]] == ["pic@x", None]
    assert [p["disposition"] for p in got["attachments"]] == ["inline", "attachment"]
    assert got["hasAttachment"] is True


async def test_attachments_alone_are_a_message(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    blob = await upload(world, b"%PDF-1.7")
    id = await create_email(world, inbox, attachments=[{"blobId": blob, "name": "Gruß.pdf"}])
    assert await get_shape(world, id) == ["multipart/mixed", "application/octet-stream"]
    assert (await get_email(world, id, "attachments"))["attachments"][0]["name"] == "Gruß.pdf"


async def test_attached_octets_come_back_as_they_were(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    data = bytes(range(256)) * 400 + b"\r\n.\r\nFrom \n--=_\n"
    blob = await upload(world, data)
    id = await create_email(world, inbox, attachments=[{"blobId": blob, "type": "text/x-odd"}])
    part = (await get_email(world, id, "attachments"))["attachments"][0]
    assert part["size"] == len(data)
    [attachment] = parse(await load_message(world, id)).iter_attachments()
    assert attachment.get_payload(decode=True) == data


async def test_an_attached_message_is_not_encoded(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    blob = await upload(world, make_raw())
    part = {"blobId": blob, "type": "message/rfc822"}
    id = await create_email(world, inbox, textBody=[TEXT], bodyValues=VALUES, attachments=[part])
    assert make_raw() in await load_message(world, id)


async def test_a_part_of_another_email_can_be_attached_again(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    first = await create_email(world, inbox, attachments=[{"blobId": await upload(world, b"\0\1")}])
    part = (await get_email(world, first, "attachments"))["attachments"][0]
    again = {"blobId": part["blobId"], "type": part["type"], "size": 12345}
    second = await create_email(world, inbox, subject="Fwd", attachments=[again])
    assert (await get_email(world, second, "attachments"))["attachments"][0]["size"] == 2


async def test_a_body_structure_is_built_as_given(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    blob = await upload(world, b"data")
    structure = {
        "type": "multipart/mixed",
        "subParts": [
            {"type": "multipart/alternative", "subParts": [HTML, TEXT]},
            {
                "type": "application/x-thing",
                "blobId": blob,
                "name": "a b.bin",
                "disposition": "attachment",
                "cid": "c@x",
                "language": ["en", "sv"],
                "location": "https://x.test/a",
                "header:X-Part": " seven",
            },
        ],
    }
    id = await create_email(world, inbox, bodyStructure=structure, bodyValues=VALUES)
    names = ["type", "name", "disposition", "cid", "language", "location", "subParts"]
    names += ["header:X-Part"]
    got = (await get_email(world, id, "bodyStructure", bodyProperties=names))["bodyStructure"]
    assert shape(got["subParts"][0]) == ["multipart/alternative", "text/html", "text/plain"]
    last = structure["subParts"][1]
    assert isinstance(last, dict)
    assert {n: got["subParts"][1][n] for n in names[:-2]} == {n: last[n] for n in names[:-2]}
    assert got["subParts"][1]["header:X-Part"] == " seven"


async def test_header_fields_of_the_root_part_are_those_of_the_message(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    structure = TEXT | {"header:Content-Language": " en", "header:X-Root": " yes"}
    id = await create_email(world, inbox, bodyStructure=structure, bodyValues=VALUES)
    raw = parse(await load_message(world, id))
    assert (raw["Content-Language"], raw["X-Root"]) == ("en", "yes")


async def test_a_charset_is_kept_for_a_blob(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    blob = await upload(world, "Blåbär\r\n".encode("latin-1"))
    part = {"blobId": blob, "type": "text/plain", "charset": "iso-8859-1"}
    id = await create_email(world, inbox, textBody=[part])
    got = await get_email(world, id, "bodyValues", fetchTextBodyValues=True)
    assert [v["value"] for v in got["bodyValues"].values()] == ["Blåbär\n"]


async def test_a_content_type_field_stands_for_type_and_charset(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    blob = await upload(world, "é".encode("latin-1"))
    part = {"blobId": blob, "header:Content-Type": ' text/plain; charset="iso-8859-1"'}
    id = await create_email(world, inbox, textBody=[part])
    got = await get_email(world, id, "bodyValues", fetchTextBodyValues=True)
    assert [v["value"] for v in got["bodyValues"].values()] == ["é"]


async def test_nasty_text_survives_the_way_through_mime(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    text = "\n.\nFrom here\n--\n-- \n" + "lång " * 500 + "\n\u0000\t=?utf-8?q?x?=\n🎈 \n"
    id = await create_email(world, inbox, textBody=[TEXT], bodyValues={"t": {"value": text}})
    got = await get_email(world, id, "bodyValues", fetchTextBodyValues=True)
    [value] = got["bodyValues"].values()
    assert value["value"] == text.replace("\0", "\ufffd")
    assert max(map(len, (await load_message(world, id)).split(b"\r\n"))) <= 998


# --- creating: header properties --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("header:X-Raw", " a  b"),
        ("header:Subject:asText", "Grüße"),
        ("header:To:asAddresses", [{"name": "Zoë", "email": "z@x.test"}]),
        (
            "header:To:asGroupedAddresses",
            [{"name": "Friends", "addresses": [{"name": None, "email": "z@x.test"}]}],
        ),
        ("header:References:asMessageIds", ["a@x", "b@x"]),
        ("header:Resent-Date:asDate", "2026-07-10T11:03:11+02:00"),
        ("header:List-Unsubscribe:asURLs", ["mailto:u@x.test", "https://x.test/u"]),
        ("header:Comments:asText:all", ["one", "två"]),
        ("header:X-Many:all", [" 1", " 2", " 3"]),
    ],
)
async def test_every_header_form_can_be_set(world: World, name: str, value: Any) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await create_email(world, inbox, **{name: value})
    assert (await get_email(world, id, name))[name] == value


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"headers": []}, ["headers"]),
        ({"id": "e1"}, ["id"]),
        ({"size": 3}, ["size"]),
        ({"preview": "x"}, ["preview"]),
        ({"surprise": 1}, ["surprise"]),
        ({"subject": "a", "header:Subject": " b"}, ["header:Subject", "subject"]),
        (
            {"header:X-A": " 1", "header:x-a:asText": "2"},
            ["header:X-A", "header:x-a:asText"],
        ),
        ({"header:From:asDate": "2026-01-01T00:00:00Z"}, ["header:From:asDate"]),
        ({"header:Subject:asAddresses": []}, ["header:Subject:asAddresses"]),
        ({"header:X-A:asNothing": "x"}, ["header:X-A:asNothing"]),
        ({"header:": "x"}, ["header:"]),
        ({"header:X A": "x"}, ["header:X A"]),
        ({"header:Content-Type": " text/html"}, ["header:Content-Type"]),
        ({"header:Content-Language:asText": "en"}, ["header:Content-Language:asText"]),
        ({"subject": 7}, ["subject"]),
        ({"subject": "a\r\nBcc: x@y.test"}, ["subject"]),
        ({"header:X-A": " a\r\nBcc: x@y.test"}, ["header:X-A"]),
        ({"header:X-A": " a\n b"}, ["header:X-A"]),
        ({"header:X-A": " a\0b"}, ["header:X-A"]),
        ({"header:X-A:all": " a"}, ["header:X-A:all"]),
        ({"to": "zoe@x.test"}, ["to"]),
        ({"to": [{"name": "Zoe"}]}, ["to"]),
        ({"to": [{"email": "z@x.test", "colour": "red"}]}, ["to"]),
        ({"to": [{"name": "a\nb", "email": "z@x.test"}]}, ["to"]),
        ({"to": [{"email": "z@x.test>\r\nBcc: <v@x.test"}]}, ["to"]),
        ({"messageId": ["a>\r\nX: <b"]}, ["messageId"]),
        ({"sentAt": "yesterday"}, ["sentAt"]),
        ({"keywords": {"a b": True}}, ["keywords"]),
        ({"keywords": {"a": False}}, ["keywords"]),
        ({"keywords": ["a"]}, ["keywords"]),
        ({"receivedAt": "2026-07-10"}, ["receivedAt"]),
        ({"mailboxIds": {}}, ["mailboxIds"]),
        ({"mailboxIds": None}, ["mailboxIds"]),
        ({"mailboxIds": {"nowhere": True}}, ["mailboxIds"]),
        ({"bodyStructure": TEXT, "textBody": [TEXT]}, ["bodyStructure", "textBody"]),
        ({"bodyStructure": TEXT, "attachments": []}, ["attachments", "bodyStructure"]),
        ({"bodyStructure": "text"}, ["bodyStructure"]),
        (
            {"subject": "a", "bodyStructure": TEXT | {"header:Subject": " b"}},
            ["bodyStructure/header:Subject"],
        ),
        ({"textBody": []}, ["textBody"]),
        ({"textBody": [TEXT, TEXT]}, ["textBody"]),
        ({"textBody": TEXT}, ["textBody"]),
        ({"textBody": [HTML]}, ["textBody/0/type"]),
        ({"htmlBody": [TEXT]}, ["htmlBody/0/type"]),
        ({"htmlBody": [HTML, HTML]}, ["htmlBody"]),
        ({"textBody": [TEXT | {"headers": []}]}, ["textBody/0/headers"]),
        ({"textBody": [{"type": "text/plain"}]}, ["textBody/0/blobId", "textBody/0/partId"]),
        (
            {"textBody": [TEXT | {"blobId": "b1"}]},
            ["textBody/0/blobId", "textBody/0/partId"],
        ),
        ({"textBody": [{"partId": "missing"}]}, ["textBody/0/partId"]),
        ({"textBody": [{"partId": 1}]}, ["textBody/0/partId"]),
        ({"textBody": [TEXT | {"charset": "utf-8"}]}, ["textBody/0/charset"]),
        ({"textBody": [TEXT | {"size": 5}]}, ["textBody/0/size"]),
        (
            {"textBody": [TEXT | {"header:Content-Transfer-Encoding": " 8bit"}]},
            ["textBody/0/header:Content-Transfer-Encoding"],
        ),
        (
            {"textBody": [TEXT | {"header:Content-Type": " text/plain"}]},
            ["textBody/0/header:Content-Type"],
        ),
        (
            {"textBody": [TEXT | {"cid": "a", "header:Content-ID": " <b>"}]},
            ["textBody/0/header:Content-ID"],
        ),
        ({"textBody": [TEXT | {"cid": "a>\r\nX: <b"}]}, ["textBody/0/cid"]),
        ({"textBody": [TEXT | {"name": "a\r\nX: b"}]}, ["textBody/0/name"]),
        ({"textBody": [TEXT | {"disposition": "in line"}]}, ["textBody/0/disposition"]),
        ({"textBody": [TEXT | {"language": "en"}]}, ["textBody/0/language"]),
        ({"textBody": [TEXT | {"language": ["e n"]}]}, ["textBody/0/language"]),
        ({"bodyStructure": TEXT | {"type": "text"}}, ["bodyStructure/type"]),
        ({"bodyStructure": TEXT | {"type": 7}}, ["bodyStructure/type"]),
        ({"bodyStructure": TEXT | {"subParts": [TEXT]}}, ["bodyStructure/subParts"]),
        ({"bodyStructure": {"type": "multipart/mixed"}}, ["bodyStructure/subParts"]),
        (
            {"bodyStructure": {"type": "multipart/mixed", "subParts": []}},
            ["bodyStructure/subParts"],
        ),
        (
            {"bodyStructure": {"type": "multipart/mixed", "subParts": [TEXT], "partId": "t"}},
            ["bodyStructure/partId"],
        ),
        (
            {"bodyStructure": {"type": "multipart/mixed", "subParts": [7]}},
            ["bodyStructure/subParts/0"],
        ),
        (
            {"attachments": [{"type": "multipart/mixed", "subParts": [TEXT]}]},
            ["attachments/0/type"],
        ),
        ({"attachments": {}}, ["attachments"]),
        ({"attachments": [{"blobId": 4}]}, ["attachments/0/blobId"]),
        ({"bodyValues": []}, ["bodyValues"]),
        ({"bodyValues": {"t": "text"}}, ["bodyValues/t"]),
        ({"bodyValues": {"t": {"value": 3}}}, ["bodyValues/t"]),
        (
            {"bodyValues": {"t": {"value": "", "isTruncated": True}}},
            ["bodyValues/t/isTruncated"],
        ),
        (
            {"bodyValues": {"t": {"value": "", "isEncodingProblem": True}}},
            ["bodyValues/t/isEncodingProblem"],
        ),
        ({"bodyValues": {"t": {"value": "", "colour": 1}}}, ["bodyValues/t/colour"]),
    ],
)
async def test_a_property_that_breaks_a_rule_is_named(
    world: World, wrong: dict[str, Any], named: list[str]
) -> None:
    await check_named(world, wrong, named)


async def test_everything_that_is_wrong_is_named_at_once(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    error = await refuse(world, inbox, subject=1, keywords=2, textBody=[{"partId": "x"}])
    assert sorted(error["properties"]) == ["keywords", "subject", "textBody/0/partId"]


async def test_truths_told_of_a_body_value_are_welcome_if_false(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    value = {"value": "x", "isTruncated": False, "isEncodingProblem": False}
    assert await create_email(world, inbox, textBody=[TEXT], bodyValues={"t": value})


_NAMES = st.sampled_from(
    """type subParts partId blobId charset disposition name cid language location size headers
    textBody htmlBody attachments bodyStructure bodyValues value isTruncated from to subject sentAt
    messageId email addresses keywords mailboxIds t h
    header:From header:X-A:all header:Content-Type header:To:asGroupedAddresses""".split()
)
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["t", "text/plain", "text/html"])
    | st.sampled_from(["multipart/mixed", "2026-01-01T00:00:00Z", "a@b.test", "\r\nX: y", "\0", ""])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=5),
    max_leaves=25,
)  # fmt: skip


@given(st.dictionaries(_NAMES, _ANYTHING, max_size=6))
@settings(max_examples=300, deadline=None)
def test_any_object_gives_a_message_or_a_named_refusal(obj: dict[str, Any]) -> None:
    refusal: SetError | None = None
    try:
        plan = plan_message({"bodyValues": VALUES} | obj)
    except SetError as error:
        refusal = error
    if refusal is not None:
        assert refusal.kind == "invalidProperties"
        assert refusal.properties
        return
    for part, _ in plan.blobs:
        part.content = b"x"
    try:
        raw = build_planned(plan.headers, plan.root, "=_mark_")
    except ValueError:
        return
    head = raw.partition(b"\r\n\r\n")[0]
    assert b"\r\nX: y" not in head
    assert b"\0" not in head


# --- creating: blobs and bounds ---------------------------------------------------------------


async def test_every_missing_blob_is_named(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    here = await upload(world, b"x")
    parts = [{"blobId": "bgone1"}, {"blobId": here}, {"blobId": "bgone2"}, {"blobId": "bgone1"}]
    error = await refuse(world, inbox, attachments=parts)
    assert (error["type"], sorted(error["notFound"])) == ("blobNotFound", ["bgone1", "bgone2"])


async def test_a_blob_of_another_account_is_not_found(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    blob = await upload(world, b"secret", await add_foreign_account(world, "eve"))
    error = await refuse(world, inbox, attachments=[{"blobId": blob}])
    assert (error["type"], error["notFound"]) == ("blobNotFound", [blob])


async def test_an_upload_of_the_same_request_can_be_named(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    blob = await upload(world, b"x")
    obj = {"mailboxIds": {inbox: True}, "attachments": [{"blobId": "#up"}]}
    call = ["Email/set", {"accountId": world.account_id, "create": {"k": obj}}, "0"]
    answer = await world.request([call], createdIds={"up": blob})
    assert answer["methodResponses"][0][1]["created"]


async def test_one_large_blob_many_times_is_too_large_before_it_is_loaded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ATTACHMENTS_PER_EMAIL_BYTES_MAX", 1000)
    inbox = await world.add_mailbox("Inbox")
    blob = await upload(world, b"x" * 501)
    error = await refuse(world, inbox, attachments=[{"blobId": blob}] * 2)
    assert error["type"] == "tooLarge"


async def test_one_large_value_many_times_is_too_large(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ATTACHMENTS_PER_EMAIL_BYTES_MAX", 1000)
    inbox = await world.add_mailbox("Inbox")
    values = {"t": {"value": "x" * 101}}
    parts = [{"partId": "t", "type": "text/plain"}] * 10
    structure = {"type": "multipart/mixed", "subParts": parts}
    error = await refuse(world, inbox, bodyStructure=structure, bodyValues=values)
    assert error["type"] == "tooLarge"


async def test_ten_thousand_parts_are_refused_quickly(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    values = {"t": {"value": "x" * 100_000}}
    structure = {"type": "multipart/mixed", "subParts": [TEXT] * 10_000}
    start = time.process_time()
    error = await refuse(world, inbox, bodyStructure=structure, bodyValues=values)
    assert error["type"] == "invalidProperties"
    assert time.process_time() - start < 2


async def test_too_many_keywords_and_mailboxes_have_their_own_names(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    many = {f"k{n}": True for n in range(limits.KEYWORDS_PER_EMAIL_MAX + 1)}
    assert (await refuse(world, inbox, keywords=many))["type"] == "tooManyKeywords"


async def test_a_mailbox_made_in_the_same_request_can_be_named(world: World) -> None:
    calls = [
        ["Mailbox/set", {"create": {"m": {"name": "New"}}}, "0"],
        ["Email/set", {"create": {"k": {"mailboxIds": {"#m": True}, "subject": "x"}}}, "1"],
    ]
    answers = await world.calls(calls)
    mailbox_id = answers[0][1]["created"]["m"]["id"]
    id = answers[1][1]["created"]["k"]["id"]
    assert (await get_email(world, id, "mailboxIds"))["mailboxIds"] == {mailbox_id: True}


# --- updating ---------------------------------------------------------------------------------


async def update(world: World, id: str, **patch: Any) -> dict[str, Any]:
    return await world.call("Email/set", update={id: patch})


async def test_one_keyword_is_set_and_removed_by_patch(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await create_email(world, inbox, keywords={"$flagged": True})
    made = await update(world, id, **{"keywords/$Seen": True, "keywords/$flagged": None})
    assert made["updated"] == {id: None}
    assert (await get_email(world, id, "keywords"))["keywords"] == {"$seen": True}


async def test_all_keywords_are_replaced_at_once(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await create_email(world, inbox, keywords={"a": True})
    await update(world, id, keywords={"b": True})
    assert (await get_email(world, id, "keywords"))["keywords"] == {"b": True}
    await update(world, id, keywords=None)
    assert (await get_email(world, id, "keywords"))["keywords"] == {}


async def test_a_keyword_with_a_slash_is_escaped_in_a_patch(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await create_email(world, inbox)
    await update(world, id, **{"keywords/a~1b~0": True})
    assert (await get_email(world, id, "keywords"))["keywords"] == {"a/b~": True}


async def test_an_email_moves_by_patch_and_by_whole_value(world: World) -> None:
    inbox, other = await world.add_mailbox("Inbox"), await world.add_mailbox("Other")
    id = await create_email(world, inbox)
    await update(world, id, **{f"mailboxIds/{inbox}": None, f"mailboxIds/{other}": True})
    assert (await get_email(world, id, "mailboxIds"))["mailboxIds"] == {other: True}
    await update(world, id, mailboxIds={inbox: True, other: True})
    got = await world.call("Mailbox/get", ids=None, properties=["totalEmails"])
    assert [box["totalEmails"] for box in got["list"]] == [1, 1]


@pytest.mark.parametrize(
    ("patch", "kind", "named"),
    [
        ({"subject": "New"}, "invalidProperties", ["subject"]),
        ({"nothing": 1}, "invalidProperties", ["nothing"]),
        ({"from/0/name": "x"}, "invalidPatch", None),
        ({"receivedAt": "2020-01-01T00:00:00Z"}, "invalidProperties", ["receivedAt"]),
        ({"keywords/a b": True}, "invalidProperties", ["keywords"]),
        ({"keywords/$seen": False}, "invalidProperties", ["keywords"]),
        ({"keywords/$seen": 1}, "invalidProperties", ["keywords"]),
        ({"keywords": {"a": None}}, "invalidProperties", ["keywords"]),
        ({"mailboxIds": {}}, "invalidProperties", ["mailboxIds"]),
        ({"mailboxIds": None}, "invalidProperties", ["mailboxIds"]),
        ({"mailboxIds/nowhere": True}, "invalidProperties", ["mailboxIds"]),
        ({"mailboxIds": {"#nobody": True}}, "invalidProperties", ["mailboxIds"]),
        ({"keywords": {}, "keywords/a": True}, "invalidPatch", None),
        ({"keywords/a/b": True}, "invalidPatch", None),
        ({"keywords/a~2": True}, "invalidPatch", None),
    ],
)
async def test_a_wrong_patch_changes_nothing(
    world: World, patch: dict[str, Any], kind: str, named: list[str] | None
) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await create_email(world, inbox, subject="Old", keywords={"x": True})
    before = await get_email(world, id, "keywords", "mailboxIds", "subject")
    made = await update(world, id, **(patch | {"keywords/y": True} if kind != "x" else patch))
    error = made["notUpdated"][id]
    if "keywords" not in patch:
        assert (error["type"], error.get("properties")) == (kind, named)
    assert await get_email(world, id, "keywords", "mailboxIds", "subject") == before
    plain = (await update(world, id, **patch))["notUpdated"][id]
    assert (plain["type"], plain.get("properties")) == (kind, named)


async def test_the_last_mailbox_cannot_be_taken_away(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await create_email(world, inbox)
    made = await update(world, id, **{f"mailboxIds/{inbox}": None})
    assert made["notUpdated"][id]["properties"] == ["mailboxIds"]


async def test_a_whole_object_may_be_sent_back_unchanged(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await create_email(world, inbox, subject="Same", to=[{"name": "Z", "email": "z@x.test"}])
    names = ["blobId", "threadId", "size", "receivedAt", "subject", "to", "preview", "messageId"]
    whole = await get_email(world, id, *names, "keywords", "mailboxIds")
    patch = whole | {"keywords": {"$seen": True}}
    made = await world.call("Email/set", update={id: patch})
    assert made["updated"] == {id: None}
    assert (await get_email(world, id, "keywords"))["keywords"] == {"$seen": True}


async def test_too_many_keywords_by_patch_are_refused(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    full = {f"k{n}": True for n in range(limits.KEYWORDS_PER_EMAIL_MAX)}
    id = await create_email(world, inbox, keywords=full)
    made = await update(world, id, **{"keywords/more": True})
    assert made["notUpdated"][id]["type"] == "tooManyKeywords"


async def test_two_names_of_one_email_are_both_applied(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await create_email(world, inbox)
    update = {id: {"keywords/a": True}, "#e": {"keywords/b": True}}
    call = {"accountId": world.account_id, "update": update}
    await world.request([["Email/set", call, "0"]], createdIds={"e": id})
    assert (await get_email(world, id, "keywords"))["keywords"] == {"a": True, "b": True}


async def test_an_unknown_email_is_not_found(world: World) -> None:
    made = await world.call(
        "Email/set", update={"e00000000000": {}, "zzz": {}}, destroy=["e00000000001", "#no"]
    )
    errors = {**made["notUpdated"], **made["notDestroyed"]}
    assert {key: error["type"] for key, error in errors.items()} == dict.fromkeys(
        ["e00000000000", "zzz", "e00000000001", "#no"], "notFound"
    )


async def test_fifty_marks_are_one_batch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox = await world.add_mailbox("Inbox")
    ids = [await create_email(world, inbox, subject=str(n)) for n in range(50)]
    batches: list[int] = []
    from tindra.core.tx import Tx

    whole = Tx.update_emails

    async def count(self: Tx, rows: Any, touched: Any = ()) -> None:
        batches.append(len(rows))
        await whole(self, rows, touched)

    monkeypatch.setattr(Tx, "update_emails", count)
    made = await world.call("Email/set", update={id: {"keywords/$seen": True} for id in ids})
    assert len(made["updated"]) == 50
    assert batches == [50]
    got = await world.call("Mailbox/get", ids=[inbox], properties=["unreadEmails"])
    assert got["list"][0]["unreadEmails"] == 0


# --- destroying -------------------------------------------------------------------------------


async def test_a_destroyed_email_is_gone_from_every_mailbox(world: World) -> None:
    inbox, other = await world.add_mailbox("Inbox"), await world.add_mailbox("Other")
    id = await create_email(world, inbox, mailboxIds={inbox: True, other: True})
    made = await world.call("Email/set", destroy=[id])
    assert made["destroyed"] == [id]
    got = await world.call("Mailbox/get", ids=None, properties=["totalEmails"])
    assert [box["totalEmails"] for box in got["list"]] == [0, 0]
    assert (await world.call("Email/get", ids=[id]))["notFound"] == [id]


async def test_a_draft_is_replaced_in_one_call(world: World) -> None:
    inbox = await world.add_mailbox("Drafts")
    old = await create_email(world, inbox, subject="One")
    new = {"mailboxIds": {inbox: True}, "subject": "Two"}
    made = await world.call("Email/set", create={"k": new}, destroy=[old])
    assert made["created"]
    assert made["destroyed"] == [old]


async def test_an_update_of_what_is_destroyed_is_refused(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await create_email(world, inbox)
    made = await world.call("Email/set", update={id: {"keywords/a": True}}, destroy=[id])
    assert made["notUpdated"][id]["type"] == "willDestroy"
    assert made["destroyed"] == [id]


async def test_the_state_must_match_if_one_is_given(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await create_email(world, inbox)
    error = await world.fail("Email/set", ifInState="0", destroy=[id])
    assert error["type"] == "stateMismatch"


async def test_who_may_only_read_changes_nothing(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await create_email(world, inbox)
    async with only_rights(world, "read"):
        error = await world.fail("Email/set", update={id: {"keywords/a": True}})
    assert error["type"] == "accountReadOnly"
