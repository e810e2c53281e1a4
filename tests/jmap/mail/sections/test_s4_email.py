"""Email/get, /query and /set against what RFC 8621 s4 says of them, where no other test looks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.jmap.mail_fixture import (
    CONVENIENCE,
    HTML,
    TEXT,
    check_named,
    create_email,
    get_email,
    make_raw,
    refuse,
    upload,
)
from tests.world import World

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
METADATA = ["id", "blobId", "threadId", "mailboxIds", "keywords", "size", "receivedAt"]
BODY = ["hasAttachment", "preview", "bodyValues", "textBody", "htmlBody", "attachments"]

# -- get (RFC 8621 s4.1.3, s4.2) ------------------------------------------------------------------


async def test_the_default_properties_are_those_of_the_rfc(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await world.add_email(inbox, make_raw())
    [email] = (await world.call("Email/get", ids=[id]))["list"]
    assert email.keys() == {*METADATA, *CONVENIENCE, *BODY}
    assert email["bodyValues"] == {}
    assert (await world.call("Email/get", ids=[id], properties=[]))["list"] == [{"id": id}]
    assert email["textBody"][0].keys() == {
        "partId", "blobId", "size", "name", "type", "charset", "disposition", "cid", "language",
        "location",
    }  # fmt: skip
    blob_id = await upload(world, make_raw("Parsed"))
    [parsed] = (await world.call("Email/parse", blobIds=[blob_id]))["parsed"].values()
    assert parsed.keys() == {*CONVENIENCE, *BODY}


async def test_a_property_of_a_header_field_keeps_the_case_it_was_asked_in(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await world.add_email(inbox, make_raw("Hej"))
    names = ["header:subject:asText", "header:SUBJECT:asText", "header:Subject:asText"]
    email = await get_email(world, id, *names, bodyProperties=names)
    assert email == {"id": id} | dict.fromkeys(names, "Hej")
    email = await get_email(world, id, "textBody", bodyProperties=names)
    assert email["textBody"] == [dict.fromkeys(names, "Hej")]


async def test_convenience_is_what_the_form_gives_even_of_odd_fields(world: World) -> None:
    odd = (
        b"From: a@x.test\r\nFrom: b@x.test\r\nSubject: =?utf-8?q?a?=\r\n =?utf-8?q?b?=\r\n"
        b"Subject:  second \xe9\r\nDate: nonsense\r\nMessage-ID: <broken\r\nReferences: \r\n"
        b"To: undisclosed-recipients:;\r\nCc: \r\nSender: <>\r\n\r\nHi\r\n"
    )
    inbox = await world.add_mailbox("Inbox")
    id = await world.add_email(inbox, odd)
    email = await get_email(world, id, *CONVENIENCE, *CONVENIENCE.values())
    for name, form in CONVENIENCE.items():
        assert email[name] == email[form], name
    assert email["from"] == [{"name": None, "email": "b@x.test"}], "the last instance"
    assert (email["sentAt"], email["inReplyTo"], email["to"]) == (None, None, [])


async def test_a_raw_value_has_marks_for_what_is_no_utf_8_and_no_nul(world: World) -> None:
    """Source: RFC 8621 s4.1.2.1"""
    inbox = await world.add_mailbox("Inbox")
    id = await world.add_email(inbox, b"From: a@x\r\nX-Odd: \xe9t\xe9 \xc3\xa9\0!\r\n\r\nHi\r\n")
    email = await get_email(world, id, "header:X-Odd", "headers")
    assert email["header:X-Odd"] == " \ufffdt\ufffd \u00e9!"
    assert email["headers"][1] == {"name": "X-Odd", "value": " \ufffdt\ufffd \u00e9!"}


@pytest.mark.parametrize(
    "name",
    ["header:Subject:asAddresses", "header:From:asText", "header:Date:asText", "header:To:asURLs",
     "header:Received:asText", "header:Return-Path:asAddresses", "header:Message-ID:asText",
     "header:List-Post:asText", "Subject", "surprise", "bodyvalues", "headers:all"],
)  # fmt: skip
async def test_a_form_that_a_field_may_not_have_is_refused_everywhere(
    world: World, name: str
) -> None:
    for method, arguments in (("Email/get", {"ids": []}), ("Email/parse", {"blobIds": []})):
        for where in ("properties", "bodyProperties"):
            error = await world.fail(method, **arguments, **{where: [name]})
            assert error["type"] == "invalidArguments"
    inbox = await world.add_mailbox("Inbox")
    error = await refuse(world, inbox, **{name: "x"})
    assert (error["type"], error["properties"]) == ("invalidProperties", [name])


# -- query (RFC 8621 s4.4) ------------------------------------------------------------------------


async def test_text_is_looked_for_in_every_field_that_the_rfc_names(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    fields = {"From": "a", "To": "b", "Cc": "c", "Bcc": "d", "Subject": "e"}
    places = {
        name.lower(): make_raw(
            **({"message_id": f"{letter}@x", "body": "Hi\r\n"} | (
                {"subject": "needle"} if name == "Subject" else {name: "needle <n@x.test>"}
            ))
        )
        for name, letter in fields.items()
    }  # fmt: skip
    places["body"] = make_raw(message_id="f@x", body="one needle more\r\n")
    ids = {name: await world.add_email(inbox, raw) for name, raw in places.items()}
    found = await world.call("Email/query", filter={"text": "needle"})
    assert sorted(found["ids"]) == sorted(ids.values())
    for name, id in ids.items():
        found = await world.call("Email/query", filter={name: "needle"})
        assert found["ids"] == [id], name


async def test_a_collapsed_query_counts_and_counts_on_from_threads(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    for n in range(6):
        raw = make_raw(
            "Re: T" if n % 2 else f"S{n}", f"{n}@x", In_Reply_To="<1@x>" if n % 2 else ""
        )
        await world.add_email(inbox, raw, receivedAt=f"2026-03-0{n + 1}T00:00:00Z")
    sort = [{"property": "receivedAt", "isAscending": False}]
    query = {"sort": sort, "collapseThreads": True, "calculateTotal": True}
    whole = await world.call("Email/query", **query)
    assert (whole["total"], len(whole["ids"])) == (4, 4)
    part = await world.call("Email/query", **query, position=-2, limit=1)
    assert (part["position"], part["ids"], part["total"]) == (2, whole["ids"][2:3], 4)
    part = await world.call("Email/query", **query, anchor=whole["ids"][1], anchorOffset=1)
    assert (part["position"], part["ids"]) == (2, whole["ids"][2:])


@pytest.mark.parametrize("value", [[], ["A", "b", "c"], "Subject", [5], ["A", None], {"A": "b"}])
async def test_a_header_filter_has_one_or_two_texts(world: World, value: Any) -> None:
    error = await world.fail("Email/query", filter={"header": value})
    assert error["type"] == "invalidArguments"


# -- set (RFC 8621 s4.6) --------------------------------------------------------------------------

CONTENT_TYPE = "header:Content-Type"
DISPOSITION = "header:Content-Disposition"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (
            {"textBody": [{"partId": "t", f"{CONTENT_TYPE}:all": [" text/plain", " text/html"]}]},
            [f"textBody/0/{CONTENT_TYPE}:all"],
        ),
        (
            {"textBody": [TEXT | {"name": "a", DISPOSITION: " attachment; filename=b"}]},
            [f"textBody/0/{DISPOSITION}"],
        ),
        (
            {"textBody": [{"partId": "t", "name": "a", CONTENT_TYPE: " text/plain; name=b"}]},
            [f"textBody/0/{CONTENT_TYPE}"],
        ),
        (
            {"subject": "a", "htmlBody": [HTML | {"header:Subject": " b"}]},
            ["htmlBody/0/header:Subject"],
        ),
        ({"from": [], "header:FROM:asAddresses": [{"email": "a@x.test"}]},
         ["from", "header:FROM:asAddresses"]),
        ({"header:Content-Anything": " x"}, ["header:Content-Anything"]),
        ({"header:content-transfer-encoding": " 8bit"}, ["header:content-transfer-encoding"]),
        ({"blobId": "b1"}, ["blobId"]),
        ({"threadId": "t1"}, ["threadId"]),
        ({"hasAttachment": False}, ["hasAttachment"]),
        (
            {"bodyStructure": {"type": "multipart/mixed", "subParts": [TEXT | {"size": 5}]}},
            ["bodyStructure/subParts/0/size"],
        ),
        (
            {"bodyStructure": {"type": "multipart/mixed", "subParts": [TEXT | {"headers": []}]}},
            ["bodyStructure/subParts/0/headers"],
        ),
        (
            {"bodyStructure": {"type": "multipart/mixed", "subParts": [TEXT | {"blobId": "b1"}]}},
            ["bodyStructure/subParts/0/blobId", "bodyStructure/subParts/0/partId"],
        ),
    ],
)  # fmt: skip
async def test_what_a_new_email_may_not_have_is_named(
    world: World, wrong: dict[str, Any], named: list[str]
) -> None:
    await check_named(world, wrong, named)


async def test_a_name_said_twice_alike_is_one_name(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    blob_id = await upload(world, b"octets")
    fields = {CONTENT_TYPE: " application/x; name=a", DISPOSITION: " attachment; filename=a"}
    part = {"blobId": blob_id, "name": "a", "size": 99} | fields
    id = await create_email(world, inbox, attachments=[part])
    [shown] = (await get_email(world, id, "attachments"))["attachments"]
    assert (shown["name"], shown["type"], shown["size"]) == ("a", "application/x", 6)


def _texts() -> st.SearchStrategy[str]:
    alphabet = st.characters(exclude_categories=["Cs"], exclude_characters="\r\0")
    return st.text(alphabet, max_size=120)


def test_any_legal_body_comes_back_as_it_was_given(runner: asyncio.Runner, world: World) -> None:
    """Texts, files and pictures in every legal combination, both ways to say it. RFC 8621 s4.6"""

    async def check(
        text: str | None, page: str | None, files: list[bytes], pictures: list[bytes]
    ) -> None:
        inbox = world_boxes[0]
        obj: dict[str, Any] = {"mailboxIds": {inbox: True}, "bodyValues": {}}
        for part_id, name, type, value in (
            ("t", "textBody", "text/plain", text),
            ("h", "htmlBody", "text/html", page),
        ):
            if value is not None:
                obj["bodyValues"][part_id] = {"value": value}
                obj[name] = [{"partId": part_id, "type": type}]
        obj["attachments"] = [
            {"blobId": await upload(world, data), "type": "application/x", "name": f"f{n}"}
            for n, data in enumerate(files)
        ] + [
            {"blobId": await upload(world, data), "type": "image/png", "cid": f"c{n}@x"}
            for n, data in enumerate(pictures)
        ]
        call = {"accountId": world.account_id, "create": {"k": obj}}
        answer = await world.raw_request([["Email/set", call, "0"]])
        made = answer["methodResponses"][0][1]
        assert made["created"], made
        got = await world.call(
            "Email/get", ids=[made["created"]["k"]["id"]], fetchAllBodyValues=True
        )
        [email] = got["list"]
        values = {part_id: value["value"] for part_id, value in email["bodyValues"].items()}
        shown_text = [values.get(part["partId"]) for part in email["textBody"]]
        shown_html = [values.get(part["partId"]) for part in email["htmlBody"]]
        first = text if text is not None else page
        last = page if page is not None else text
        if first is not None:
            assert (shown_text[0], shown_html[0]) == (first, last)
        assert {part["cid"] for part in email["attachments"]} >= {
            f"c{n}@x" for n in range(len(pictures)) if page is not None
        }
        sizes = {part["name"]: part["size"] for part in email["attachments"] if part["name"]}
        assert sizes == {f"f{n}": len(data) for n, data in enumerate(files)}

    world_boxes = [runner.run(world.add_mailbox("Inbox"))]

    @FUZZ
    @given(
        st.none() | _texts(),
        st.none() | _texts(),
        st.lists(st.binary(max_size=30), max_size=2),
        st.lists(st.binary(max_size=30), max_size=2),
    )
    def run(text: str | None, page: str | None, files: list[bytes], pictures: list[bytes]) -> None:
        runner.run(check(text, page, files, pictures))

    run()


async def test_a_keyword_is_of_the_octets_of_the_rfc_and_of_255_at_most(world: World) -> None:
    """Source: RFC 8621 s4.1.1"""
    inbox = await world.add_mailbox("Inbox")
    id = await world.add_email(inbox, make_raw())
    world.devices.clear()  # two hundred marks
    for char in [*map(chr, range(1, 0x82)), "é", "K", "€"]:
        may = "!" <= char <= "~" and char not in '(){]%*"\\'
        done = await world.call("Email/set", update={id: {"keywords": {f"a{char}": True}}})
        assert (done["updated"] is not None) is may, char
        if may:
            assert (await get_email(world, id, "keywords"))["keywords"] == {
                f"a{char}".lower(): True
            }
    for length, may in ((255, True), (256, False), (0, False)):
        done = await world.call("Email/set", update={id: {"keywords": {"k" * length: True}}})
        assert (done["updated"] is not None) is may


async def test_nothing_but_mailboxes_and_keywords_of_an_email_can_be_changed(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await world.add_email(inbox, make_raw("Old"))
    [email] = (await world.call("Email/get", ids=[id]))["list"]
    others = {
        "subject": "New", "preview": "x", "size": 1, "receivedAt": "2026-01-01T00:00:00Z",
        "textBody": [], "bodyValues": {}, "from": None, "blobId": "b1", "threadId": "t1",
        "id": "e1", "header:Subject": " New", "surprise": 1,
    }  # fmt: skip
    for name, value in others.items():
        done = await world.call("Email/set", update={id: {name: value, "keywords/a": True}})
        error = done["notUpdated"][id]
        assert (error["type"], error["properties"]) == ("invalidProperties", [name])
    assert (await world.call("Email/get", ids=[id]))["list"] == [email]
