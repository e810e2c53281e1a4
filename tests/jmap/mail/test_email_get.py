"""Email/get: header forms, body structure, body values, any choice of properties.

Source: RFC 8621 s4.1, s4.2
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.jmap.mail_fixture import CONVENIENCE, get_email, make_raw
from tests.world import World
from tindra.core.blob_parts import load_blob
from tindra.features.mail import email_get
from tindra.features.mail.email_get import DEFAULT_PROPERTIES, EMAIL_PROPERTIES
from tindra.model.mail import encode_email_id

FUZZ = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))


async def add(world: World, raw: bytes | str) -> str:
    """A message with LF or CRLF line ends; gives the Email's id."""
    boxes = (await world.call("Mailbox/query"))["ids"]
    inbox = boxes[0] if boxes else await world.add_mailbox("Inbox", role="inbox")
    data = raw.replace("\n", "\r\n").encode() if isinstance(raw, str) else raw
    return await world.add_email(inbox, data)


# -- properties --------------------------------------------------------------------------------


async def test_without_properties_those_of_the_rfc_come(world: World) -> None:
    id = await add(world, make_raw("Hello", "one@x"))
    [email] = (await world.call("Email/get", ids=[id]))["list"]
    assert set(email) == {
        "id", "blobId", "threadId", "mailboxIds", "keywords", "size", "receivedAt", "messageId",
        "inReplyTo", "references", "sender", "from", "to", "cc", "bcc", "replyTo", "subject",
        "sentAt", "hasAttachment", "preview", "bodyValues", "textBody", "htmlBody", "attachments",
    }  # fmt: skip
    assert email["subject"] == "Hello"
    assert email["from"] == [{"name": "Mira", "email": "mira@fjord.test"}]
    assert email["to"] == [{"name": None, "email": "alex@example.org"}]
    assert email["messageId"] == ["one@x"]
    assert email["sentAt"] == "2026-11-18T10:00:00+01:00"
    assert email["preview"] == "Hi."
    assert email["keywords"] == {}
    assert email["bodyValues"] == {}
    for name in ("inReplyTo", "references", "sender", "cc", "bcc", "replyTo"):
        assert email[name] is None
    assert email["hasAttachment"] is False
    assert email["size"] == len(make_raw("Hello", "one@x"))


def test_any_choice_of_properties_is_a_part_of_the_whole(
    runner: asyncio.Runner, world: World
) -> None:
    text = """From: A <a@x>
Subject: =?utf-8?Q?Caf=C3=A9?=
X-A: one
X-A: two
Content-Type: multipart/alternative; boundary=b

--b
Content-Type: text/plain

Hello
--b
Content-Type: text/html

<p>Hello
--b--
"""
    id = runner.run(add(world, text))
    names = [*EMAIL_PROPERTIES, "header:X-A", "header:x-a:asText:all", "header:From:asAddresses"]
    names += ["safeHtml", "safeHtmlRemote"]
    arguments = {"fetchAllBodyValues": True, "bodyProperties": ["partId", "type", "header:X-A"]}
    whole = runner.run(get_email(world, id, *names, **arguments))
    assert set(whole) == set(names)

    @FUZZ
    @given(st.lists(st.sampled_from(names)))
    def run(chosen: list[str]) -> None:
        found = runner.run(get_email(world, id, *chosen, **arguments))
        assert found == {name: whole[name] for name in {"id", *chosen}}

    run()


async def test_many_ids_that_could_be_but_are_not_are_told_in_time(world: World) -> None:
    ids = [encode_email_id(number << 20) for number in range(1000)]
    start = time.perf_counter()
    got = await world.call("Email/get", ids=ids, properties=["id"])
    assert got["notFound"] == ids
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    "arguments",
    [
        {"fetchTextBodyValues": 1}, {"fetchHTMLBodyValues": "true"}, {"fetchAllBodyValues": []},
        {"maxBodyValueBytes": -1}, {"maxBodyValueBytes": "5"}, {"maxBodyValueBytes": 1.5},
        {"maxBodyValueBytes": True}, {"maxBodyValueBytes": 2**53}, {"bodyProperties": "type"},
        {"bodyProperties": [5]}, {"bodyProperties": ["nothing"]},
        {"bodyProperties": ["bodyValues"]},
        {"bodyProperties": ["header:From:asDate"]}, {"bodyProperties": {}},
    ],
)  # fmt: skip
async def test_wrong_body_arguments_are_refused_even_when_nothing_is_asked_for(
    world: World, arguments: dict[str, Any]
) -> None:
    for ids in ([], ["nothing"]):
        error = await world.fail("Email/get", ids=ids, properties=["id"], **arguments)
        assert error["type"] == "invalidArguments"


# -- header fields -----------------------------------------------------------------------------

HEADERS = """Received: from a by b; Mon, 2 Mar 2026 10:00:00 +0000
Received: from c by d; Mon, 2 Mar 2026 09:00:00 +0000
From: "  James Smythe" <james@example.com>
To: "James" <james@example.com>, Friends: jane@example.com,
 =?UTF-8?Q?John_Sm=C3=AEth?= <john@example.com>;
Subject: =?UTF-8?Q?Caf=C3=A9?= and
  =?ISO-8859-1?Q?cr=E8me?=
Message-ID: <a(comment)@x>
References: <r1@x> (why)
  <r2@x>
Date: Mon, 2 Mar 2026 10:00:00 -0330 (NST)
List-Unsubscribe: (Use this) <https://example.com/u>, <mailto:u@example.com>
List-Id: Friends of =?utf-8?Q?Caf=C3=A9?= <friends.example.com>
X-Text: one
x-text:two
X-TEXT: three
X-Date: Tue, 3 Mar 2026 00:00:00 +0000
X-Empty:
X-Addr: Bob <bob@x>

Body
"""
JAMES = {"name": "James Smythe", "email": "james@example.com"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("header:From", ' "  James Smythe" <james@example.com>'),
        ("header:From:asRaw", ' "  James Smythe" <james@example.com>'),
        ("header:From:asAddresses", [JAMES]),
        ("header:from:asAddresses:all", [[JAMES]]),
        ("header:From:asGroupedAddresses", [{"name": None, "addresses": [JAMES]}]),
        (
            "header:To:asAddresses",
            [
                {"name": "James", "email": "james@example.com"},
                {"name": None, "email": "jane@example.com"},
                {"name": "John Smîth", "email": "john@example.com"},
            ],
        ),
        (
            "header:TO:asGroupedAddresses",
            [
                {"name": None, "addresses": [{"name": "James", "email": "james@example.com"}]},
                {
                    "name": "Friends",
                    "addresses": [
                        {"name": None, "email": "jane@example.com"},
                        {"name": "John Smîth", "email": "john@example.com"},
                    ],
                },
            ],
        ),
        ("header:Subject:asText", "Café and  crème"),
        ("header:Subject", " =?UTF-8?Q?Caf=C3=A9?= and\r\n  =?ISO-8859-1?Q?cr=E8me?="),
        ("header:References:asMessageIds", ["r1@x", "r2@x"]),
        ("header:Date:asDate", "2026-03-02T10:00:00-03:30"),
        ("header:List-Unsubscribe:asURLs", ["https://example.com/u", "mailto:u@example.com"]),
        ("header:List-Id:asText", "Friends of Café <friends.example.com>"),
        ("header:X-Text", " three"),
        ("header:X-Text:asText", "three"),
        ("header:X-Text:all", [" one", "two", " three"]),
        ("header:x-tExT:asText:all", ["one", "two", "three"]),
        ("header:X-Date:asDate:all", ["2026-03-03T00:00:00Z"]),
        ("header:X-Text:asDate:all", [None, None, None]),
        ("header:X-Addr:asAddresses", [{"name": "Bob", "email": "bob@x"}]),
        ("header:X-Addr:asMessageIds", ["bob@x"]),
        ("header:X-Empty", ""),
        ("header:X-Empty:asAddresses", []),
        ("header:X-None", None),
        ("header:X-None:asText", None),
        ("header:X-None:all", []),
        ("header:X-None:asAddresses:all", []),
        (
            "header:Received:all",
            [
                " from a by b; Mon, 2 Mar 2026 10:00:00 +0000",
                " from c by d; Mon, 2 Mar 2026 09:00:00 +0000",
            ],
        ),
        ("header:Received", " from c by d; Mon, 2 Mar 2026 09:00:00 +0000"),
    ],
)
async def test_a_header_field_in_each_form(world: World, name: str, value: Any) -> None:
    id = await add(world, HEADERS)
    assert (await get_email(world, id, name))[name] == value


FORMS = ("Raw", "Text", "Addresses", "GroupedAddresses", "MessageIds", "Date", "URLs")
ALLOWED = {
    "Text": "Subject Comments Keywords List-Id",
    "Addresses": "From Sender Reply-To To Cc Bcc Resent-From Resent-Sender Resent-Reply-To"
    " Resent-To Resent-Cc Resent-Bcc",
    "MessageIds": "Message-ID In-Reply-To References Resent-Message-ID",
    "Date": "Date Resent-Date",
    "URLs": "List-Help List-Unsubscribe List-Subscribe List-Post List-Owner List-Archive",
}
"""Source: RFC 8621 s4.1.2"""


def list_header_forms() -> Iterator[tuple[str, bool]]:
    """Each field of RFC 8621 s4.1.2 in each form, and whether it may be had in it."""
    for form, fields in ALLOWED.items():
        for field, other, suffix in itertools.product(fields.split(), FORMS, ("", ":all")):
            allowed = {"Raw", form} | ({"GroupedAddresses"} if form == "Addresses" else set())
            # List-Id is in neither RFC 5322 nor RFC 2369.
            yield f"header:{field}:as{other}{suffix}", field == "List-Id" or other in allowed


async def test_each_field_may_be_asked_for_in_the_forms_of_the_rfc_and_no_other(
    world: World,
) -> None:
    for name, is_allowed in list_header_forms():
        if is_allowed:
            assert await world.call("Email/get", ids=[], properties=[name])
        else:
            error = await world.fail("Email/get", ids=[], properties=[name])
            assert error["type"] == "invalidArguments", name
    for form in FORMS:
        for field in ("X-Anything", "Authentication-Results", "!#$%&'*+-.^_`|~"):
            name = f"header:{field}:as{form}"
            assert await world.call("Email/get", ids=[], properties=[name])


@pytest.mark.parametrize(
    "name",
    [
        "header", "header:", "header::", "header::asText", "header:X A", "header:X\t", "header:é",
        "header:X:", "header:X:astext", "header:X:AsText", "header:X:Text", "header:X:all:asText",
        "header:X:asText:asText", "header:X:all:all", "header:X:asText:all:all", "Header:X",
        "header:X:asNothing", "header:X\0", "header:" + "x" * 250,
    ],
)  # fmt: skip
async def test_what_is_no_header_property_is_refused(world: World, name: str) -> None:
    for argument in ("properties", "bodyProperties"):
        error = await world.fail("Email/get", ids=[], **{argument: [name]})
        assert error["type"] == "invalidArguments"


async def test_the_simple_properties_equal_their_header_forms(world: World) -> None:
    doubled = HEADERS.replace("Subject:", "Subject: first\nsender: s@x\nCC: a@x\nSubject:")
    for text in (HEADERS, doubled, "X: 1\n\nno fields", "From:\nDate: never\nTo: ,;\n\n"):
        email = await get_email(world, await add(world, text), *CONVENIENCE, *CONVENIENCE.values())
        for name, header in CONVENIENCE.items():
            assert email[name] == email[header], (name, text)


async def test_headers_are_all_fields_in_order_as_they_stand(world: World) -> None:
    id = await add(world, "B: 1\na:  2 \nB:3\n  folded\nBad line\nC:\n\nbody: no")
    assert (await get_email(world, id, "headers"))["headers"] == [
        {"name": "B", "value": " 1"},
        {"name": "a", "value": "  2 "},
        {"name": "B", "value": "3\r\n  folded"},
        {"name": "C", "value": ""},
    ]


# -- the part tree -----------------------------------------------------------------------------

NESTED = """Content-Type: multipart/mixed; boundary=1

--1
Content-Type: text/plain
Content-Disposition: inline

A
--1
Content-Type: multipart/mixed; boundary=2

--2
Content-Type: multipart/alternative; boundary=3

--3
Content-Type: multipart/mixed; boundary=4

--4
Content-Type: text/plain
Content-Disposition: inline

B
--4
Content-Type: image/jpeg
Content-Disposition: inline

C
--4
Content-Type: text/plain
Content-Disposition: inline

D
--4--
--3
Content-Type: multipart/related; boundary=5

--5
Content-Type: text/html

E
--5
Content-Type: image/jpeg

F
--5--
--3--
--2
Content-Type: image/jpeg
Content-Disposition: attachment

G
--2
Content-Type: application/x-excel

H
--2
Content-Type: message/rfc822

J
--2--
--1
Content-Type: text/plain
Content-Disposition: inline

K
--1--
"""
"""The example of RFC 8621 s4.1.4."""


async def test_the_example_of_the_rfc_is_taken_apart_as_it_says(world: World) -> None:
    id = await add(world, NESTED)
    lists = ("textBody", "htmlBody", "attachments")
    email = await get_email(world, id, *lists, "hasAttachment")
    letters = {}
    for name in lists:
        found = []
        for part in email[name]:
            blob = await load_blob(world.services, world.account_id, part["blobId"])
            assert blob is not None
            found.append(blob.decode())
        letters[name] = "".join(found)
    assert letters == {"textBody": "ABCDK", "htmlBody": "AEK", "attachments": "CFGHJ"}
    assert email["hasAttachment"] is True


async def test_the_structure_is_the_whole_tree_with_unique_part_ids(world: World) -> None:
    id = await add(world, NESTED)
    email = await get_email(world, id, "bodyStructure", bodyProperties=["partId", "type"])
    part_ids: list[str] = []

    def shape(part: dict[str, Any]) -> Any:
        if part["type"].startswith("multipart/"):
            assert part["partId"] is None
            return [part["type"][10:], *map(shape, part["subParts"])]
        assert "subParts" not in part
        part_ids.append(part["partId"])
        return part["type"]

    assert shape(email["bodyStructure"]) == [
        "mixed",
        "text/plain",
        [
            "mixed",
            [
                "alternative",
                ["mixed", "text/plain", "image/jpeg", "text/plain"],
                ["related", "text/html", "image/jpeg"],
            ],
            "image/jpeg",
            "application/x-excel",
            "message/rfc822",
        ],
        "text/plain",
    ]
    assert len(set(part_ids)) == len(part_ids) == 10


PART = """Content-Type: multipart/mixed; boundary=b

--b
Content-Type: application/pdf; name="n.pdf"
Content-Disposition: attachment; filename*=utf-8''r%C3%A9sum%C3%A9.pdf
Content-Transfer-Encoding: base64
Content-ID: <cid@x>
Content-Language: de, en-GB
Content-Location: https://x/y.pdf
X-Part: hello

JVBERi0=
--b
Content-Type: {type}

text
--b--
"""


async def test_a_part_has_every_property_that_may_be_asked_for(world: World) -> None:
    id = await add(world, PART.format(type="text/plain"))
    names = [
        "partId", "blobId", "size", "headers", "name", "type", "charset", "disposition", "cid",
        "language", "location", "subParts", "header:X-Part:asText", "header:x-none:all",
    ]  # fmt: skip
    [part] = (await get_email(world, id, "attachments", bodyProperties=names))["attachments"]
    blob_id = part.pop("blobId")
    assert await load_blob(world.services, world.account_id, blob_id) == b"%PDF-"
    headers = part.pop("headers")
    assert [field["name"] for field in headers] == [
        "Content-Type",
        "Content-Disposition",
        "Content-Transfer-Encoding",
        "Content-ID",
        "Content-Language",
        "Content-Location",
        "X-Part",
    ]
    assert part == {
        "partId": "1",
        "size": 5,
        "name": "résumé.pdf",
        "type": "application/pdf",
        "charset": None,
        "disposition": "attachment",
        "cid": "cid@x",
        "language": ["de", "en-GB"],
        "location": "https://x/y.pdf",
        "subParts": None,
        "header:X-Part:asText": "hello",
        "header:x-none:all": [],
    }
    default = (await get_email(world, id, "attachments"))["attachments"][0]
    assert set(default) == {
        "partId", "blobId", "size", "name", "type", "charset", "disposition", "cid", "language",
        "location",
    }  # fmt: skip
    assert (await get_email(world, id, "attachments", bodyProperties=[]))["attachments"] == [{}]


@pytest.mark.parametrize(
    ("type", "charset"),
    [
        ("text/plain", "us-ascii"),
        ("text/html; charset=UTF-8", "utf-8"),
        ('text/plain; charset="iso-8859-1"', "iso-8859-1"),
        ("application/json", None),
        ("application/json; charset=utf-8", "utf-8"),
        ("image/png", None),
    ],
)
async def test_the_charset_is_the_one_given_or_that_of_text(
    world: World, type: str, charset: str | None
) -> None:
    id = await add(world, PART.format(type=type))
    email = await get_email(world, id, "bodyStructure", bodyProperties=["charset"])
    assert email["bodyStructure"]["subParts"][1]["charset"] == charset
    assert email["bodyStructure"]["charset"] is None


# -- body values -------------------------------------------------------------------------------

BOTH = """Content-Type: multipart/mixed; boundary=m

--m
Content-Type: multipart/alternative; boundary=b

--b
Content-Type: text/plain; charset=utf-8

plain é
--b
Content-Type: text/html; charset=utf-8

<p>html é</p>
--b--
--m
Content-Type: text/csv
Content-Disposition: attachment

a,b
--m
Content-Type: image/png

x
--m--
"""


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], ""),
        (["fetchTextBodyValues"], "1.1"),
        (["fetchHTMLBodyValues"], "1.2"),
        (["fetchTextBodyValues", "fetchHTMLBodyValues"], "1.1 1.2"),
        (["fetchAllBodyValues"], "1.1 1.2 2"),
        (["fetchAllBodyValues", "fetchTextBodyValues"], "1.1 1.2 2"),
    ],
)
async def test_the_values_asked_for_come_and_no_other(
    world: World, flags: list[str], expected: str
) -> None:
    id = await add(world, BOTH)
    found = await get_email(world, id, "bodyValues", **dict.fromkeys(flags, True))
    values = found["bodyValues"]
    assert sorted(values) == expected.split()
    texts = {"1.1": "plain é", "1.2": "<p>html é</p>", "2": "a,b"}
    for part_id, value in values.items():
        assert value == {
            "value": texts[part_id],
            "isEncodingProblem": False,
            "isTruncated": False,
        }


@pytest.mark.parametrize(
    ("fields", "body", "value", "is_problem"),
    [
        ("charset=utf-8", b"a\r\nb\r\n", "a\nb\n", False),
        ("charset=iso-8859-1", b"caf\xe9", "café", False),
        ("charset=utf-8", b"caf\xe9!", "caf�!", True),
        ("charset=x-unknown", b"cafe", "cafe", True),
        ("charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable", b"c=C3=A9", "cé", False),
        ("charset=utf-8\r\nContent-Transfer-Encoding: base64", b"Y2Fmw6k=", "café", False),
        ("charset=utf-8\r\nContent-Transfer-Encoding: x-secret", b"caf\xc3\xa9", "café", True),
    ],
)
async def test_values_are_decoded_and_problems_told(
    world: World, fields: str, body: bytes, value: str, is_problem: bool
) -> None:
    id = await add(world, f"Content-Type: text/plain; {fields}\r\n\r\n".encode() + body)
    found = await get_email(world, id, "bodyValues", fetchAllBodyValues=True)
    assert found["bodyValues"]["1"] == {
        "value": value,
        "isEncodingProblem": is_problem,
        "isTruncated": False,
    }


def test_a_value_is_cut_between_characters_and_not_inside_a_tag(
    runner: asyncio.Runner, world: World
) -> None:
    text = "aé日👩 <b>x</b> " * 5
    page = '<p>é <a href="https://example.com/?a=1">日本</a></p>' * 3
    ids = [
        runner.run(add(world, f"Content-Type: text/{kind}; charset=utf-8\n\n{body}"))
        for kind, body in (("plain", text), ("html", page))
    ]

    @FUZZ
    @given(st.integers(0, 250))
    def run(bytes_max: int) -> None:
        for id, whole in zip(ids, (text, page), strict=True):
            arguments = {"fetchAllBodyValues": True, "maxBodyValueBytes": bytes_max}
            found = runner.run(get_email(world, id, "bodyValues", **arguments))
            value = found["bodyValues"]["1"]
            size = len(value["value"].encode())
            assert whole.startswith(value["value"])
            assert value["isTruncated"] == (value["value"] != whole)
            if bytes_max and value["isTruncated"]:
                assert size <= bytes_max
                if whole is text:
                    assert size > bytes_max - 4
                else:
                    assert value["value"].rfind("<") <= value["value"].rfind(">")
            else:
                assert value["value"] == whole

    run()


@pytest.mark.parametrize("kib", [10, 100, 600])
async def test_large_messages_are_read_like_small_ones(world: World, kib: int) -> None:
    """10 KiB live in the database, 100 in a file of their own, 600 are rendered off the loop."""
    body = "0123456789abcde\n" * 64 * kib
    id = await add(world, "X-A: 1\nSubject: Big\nContent-Type: text/plain\n\n" + body)
    email = await get_email(
        world, id, "bodyValues", "header:X-A", "textBody", fetchTextBodyValues=True
    )
    assert email["header:X-A"] == " 1"
    assert email["bodyValues"]["1"]["value"] == body
    assert email["textBody"][0]["size"] == len(body) + body.count("\n")
    blob = await load_blob(world.services, world.account_id, email["textBody"][0]["blobId"])
    assert blob == body.replace("\n", "\r\n").encode()


async def test_on_and_off_the_loop_give_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [await add(world, text) for text in (NESTED, BOTH, HEADERS)]
    names = [*DEFAULT_PROPERTIES, "bodyStructure", "headers", "header:From:asAddresses"]
    arguments = {"ids": ids, "properties": names, "fetchAllBodyValues": True}
    expected = await world.call("Email/get", **arguments)
    for limit in (0, 100, 2000):
        monkeypatch.setattr(email_get, "_OFFLOAD_BYTES", limit)
        assert await world.call("Email/get", **arguments) == expected


async def test_an_answer_that_no_memory_should_hold_is_too_large(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [
        await add(world, f"Subject: {n}\nContent-Type: text/plain\n\n" + "x" * 1000)
        for n in range(5)
    ]
    monkeypatch.setattr(email_get, "ANSWER_BYTES_MAX", 4000)
    arguments = {"properties": ["bodyValues"], "fetchAllBodyValues": True}
    assert len((await world.call("Email/get", ids=ids[:3], **arguments))["list"]) == 3
    error = await world.fail("Email/get", ids=ids, **arguments)
    assert error["type"] == "requestTooLarge"
    assert len((await world.call("Email/get", ids=ids, properties=["subject"]))["list"]) == 5


@pytest.mark.parametrize(
    "raw",
    [
        b"Subject: x",
        b"Subject: x\r\n\r\n",
        b"Subject: x\n\nbody",
        b"Subject: x\r\rbody",
        b"Subject: \xff\xfe\r\n\r\n\xff\xfe",
        b"Subject: x\r\nContent-Type: multipart/mixed\r\n\r\n",
        b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n",
        b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b--",
        b"Subject: x\r\nContent-Type: ;;;\r\nContent-Transfer-Encoding: base64\r\n\r\n!",
        b"From nobody Mon\r\nSubject: x\r\n\r\nmbox",
        b"\xef\xbb\xbfSubject: x\r\n\r\nBOM",
    ],
)
async def test_odd_messages_have_every_property_too(world: World, raw: bytes) -> None:
    id = await add(world, raw)
    names = [*EMAIL_PROPERTIES, "header:Subject:asText", "header:X:asURLs:all"]
    email = await get_email(world, id, *names, fetchAllBodyValues=True)
    assert set(email) == set(names)
    assert email["size"] == len(raw)
    blob = await load_blob(world.services, world.account_id, email["blobId"])
    assert blob == raw
