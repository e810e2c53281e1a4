"""The walk through a mail client of RFC 8621 s4.10, and each error of Email/copy, /import, /parse.

Source: RFC 8621 s4.7, s4.8, s4.9, s4.10
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.jmap.mail_fixture import add_account, add_mailbox_in, get_email, make_raw, upload
from tests.world import World


def refer(call: str, name: str, path: str) -> dict[str, str]:
    """A result reference. Source: RFC 8620 s3.7"""
    return {"resultOf": call, "name": name, "path": path}


def list_screen(inbox: str) -> list[Any]:
    """The first request of a client: the top of a Mailbox with all that a list shows."""
    return [
        [
            "Email/query",
            {
                "filter": {"inMailbox": inbox},
                "sort": [{"isAscending": False, "property": "receivedAt"}],
                "collapseThreads": True,
                "position": 0,
                "limit": 30,
                "calculateTotal": True,
            },
            "0",
        ],
        ["Email/get", {"#ids": refer("0", "Email/query", "/ids"), "properties": ["threadId"]}, "1"],
        ["Thread/get", {"#ids": refer("1", "Email/get", "/list/*/threadId")}, "2"],
        [
            "Email/get",
            {
                "#ids": refer("2", "Thread/get", "/list/*/emailIds"),
                "properties": [
                    "threadId", "mailboxIds", "keywords", "hasAttachment", "from", "subject",
                    "receivedAt", "size", "preview",
                ],
            },
            "3",
        ],
    ]  # fmt: skip


async def test_the_first_screen_comes_in_one_request(world: World) -> None:
    inbox, other = await world.add_mailbox("Inbox", role="inbox"), await world.add_mailbox("B")
    for n in range(6):
        raw = make_raw(
            "Re: T" if n % 2 else f"S{n}", f"{n}@x", In_Reply_To="<1@x>" if n % 2 else ""
        )
        box = other if n == 5 else inbox
        await world.add_email(box, raw, receivedAt=f"2026-03-0{n + 1}T00:00:00Z")
    query, heads, threads, emails = (r[1] for r in await world.calls(list_screen(inbox)))
    assert (query["total"], len(query["ids"]), query["canCalculateChanges"]) == (4, 4, True)
    assert [email["id"] for email in heads["list"]] == query["ids"]
    assert [thread["id"] for thread in threads["list"]] == [e["threadId"] for e in heads["list"]]
    shown = [id for thread in threads["list"] for id in thread["emailIds"]]
    assert [email["id"] for email in emails["list"]] == shown
    assert len(shown) == 6, "the Email in the other Mailbox belongs to a Thread of this one"


async def test_a_client_follows_by_changes_alone(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    trash = await world.add_mailbox("Trash", role="trash")
    ids = [
        await world.add_email(
            inbox, make_raw(f"S{n}", f"{n}@x"), receivedAt=f"2026-03-0{n + 1}T00:00:00Z"
        )
        for n in range(4)
    ]
    calls = list_screen(inbox)
    answers = [r[1] for r in await world.calls(calls)]
    new = await world.add_email(
        inbox, make_raw("Re: S1", "new@x", In_Reply_To="<1@x>"), receivedAt="2026-03-09T00:00:00Z"
    )
    await world.call("Email/set", update={ids[3]: {"mailboxIds": {trash: True}}})
    await world.call("Email/set", update={ids[0]: {"keywords/$seen": True}})
    since = {"sinceState": answers[3]["state"], "maxChanges": 30}
    query = {name: calls[0][1][name] for name in ("filter", "sort", "collapseThreads")}
    query_changes = query | {
        "sinceQueryState": answers[0]["queryState"],
        "maxChanges": 50,
        "upToId": ids[0],
        "calculateTotal": True,
    }
    told, got, mailboxes, threads, listed = (
        r[1]
        for r in await world.calls(
            [
                ["Email/changes", since, "3"],
                ["Email/get", {"#ids": refer("3", "Email/changes", "/updated"),
                               "properties": ["mailboxIds", "keywords"]}, "4"],
                ["Mailbox/changes", {"sinceState": "0"}, "5"],
                ["Thread/changes", {"sinceState": answers[2]["state"]}, "6"],
                ["Email/queryChanges", query_changes, "11"],
            ]
        )
    )  # fmt: skip
    assert (told["created"], sorted(told["updated"]), told["destroyed"]) == (
        [new], sorted([ids[0], ids[3]]), [],
    )  # fmt: skip
    assert {email["id"]: email["keywords"] for email in got["list"]}[ids[0]] == {"$seen": True}
    assert sorted(mailboxes["created"]) == sorted([inbox, trash])
    assert len(threads["updated"]) == 1
    ids_now = [id for id in answers[0]["ids"] if id not in listed["removed"]]
    for item in listed["added"]:
        ids_now.insert(item["index"], item["id"])
    fresh = await world.call("Email/query", **query)
    assert ids_now == fresh["ids"] == [new, ids[2], ids[0]]
    assert listed["total"] == 3


async def test_a_draft_is_made_by_the_example(world: World) -> None:
    """The first example of Email/set in RFC 8621 s4.6, by its own words."""
    drafts = await world.add_mailbox("Drafts", role="drafts")
    draft = {
        "mailboxIds": {drafts: True},
        "keywords": {"$seen": True, "$draft": True},
        "from": [{"name": "Joe Bloggs", "email": "joe@example.com"}],
        "subject": "World domination",
        "receivedAt": "2018-07-10T01:03:11Z",
        "sentAt": "2018-07-10T11:03:11+10:00",
        "bodyStructure": {
            "type": "multipart/alternative",
            "subParts": [
                {"partId": "bd48", "type": "text/plain"},
                {"partId": "1", "type": "text/html"},
            ],
        },
        "bodyValues": {
            "bd48": {"value": "I have the most brilliant plan.\n", "isTruncated": False},
            "1": {"value": "<p>I have the most brilliant plan.</p>", "isTruncated": False},
        },
    }
    made = await world.call("Email/set", create={"k192": draft})
    created = made["created"]["k192"]
    assert created.keys() >= {"id", "blobId", "threadId", "size"}
    [email] = (await world.call("Email/get", ids=[created["id"]], fetchAllBodyValues=True))["list"]
    for name in ("mailboxIds", "keywords", "from", "subject", "receivedAt", "sentAt"):
        assert email[name] == draft[name]
    assert [part["type"] for part in (*email["textBody"], *email["htmlBody"])] == [
        "text/plain", "text/html",
    ]  # fmt: skip
    done = await world.call(
        "Email/set", create={"k": draft | {"subject": "W"}}, destroy=[created["id"]]
    )
    assert (list(done["created"]), done["destroyed"]) == (["k"], [created["id"]])


# -- import (RFC 8621 s4.8) -----------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{}, {"blobId": None}, {"blobId": 5}, {"blobId": "nothing"}])
async def test_an_import_without_a_blob_names_it(world: World, wrong: dict[str, Any]) -> None:
    inbox = await world.add_mailbox("Inbox")
    made = await world.call("Email/import", emails={"e": {"mailboxIds": {inbox: True}} | wrong})
    error = made["notCreated"]["e"]
    assert (error["type"], error["properties"]) == ("invalidProperties", ["blobId"])


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"mailboxIds": None}, "mailboxIds"),
        ({"mailboxIds": {}}, "mailboxIds"),
        ({"mailboxIds": {"nothing": True}}, "mailboxIds"),
        ({"mailboxIds": ["m"]}, "mailboxIds"),
        ({"keywords": ["a"]}, "keywords"),
        ({"keywords": {"a b": True}}, "keywords"),
        ({"keywords": {"a": False}}, "keywords"),
        ({"receivedAt": "2026-01-01"}, "receivedAt"),
        ({"receivedAt": "1969-12-31T23:59:59Z"}, "receivedAt"),
        ({"receivedAt": "2106-02-07T06:28:16Z"}, "receivedAt"),
        ({"subject": "x"}, "subject"),
    ],
)
async def test_an_import_names_what_is_wrong(
    world: World, wrong: dict[str, Any], named: str
) -> None:
    inbox = await world.add_mailbox("Inbox")
    blob_id = await upload(world, make_raw())
    email = {"blobId": blob_id, "mailboxIds": {inbox: True}} | wrong
    made = await world.call("Email/import", emails={"e": email})
    error = made["notCreated"]["e"]
    assert (error["type"], error["properties"]) == ("invalidProperties", [named])


@pytest.mark.parametrize("moment", ["1970-01-01T00:00:00Z", "2106-02-07T06:28:15Z"])
async def test_the_first_and_the_last_moment_are_kept(world: World, moment: str) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await world.add_email(inbox, make_raw(), receivedAt=moment)
    assert (await get_email(world, id, "receivedAt"))["receivedAt"] == moment


@pytest.mark.parametrize("year", ["9998", "1901"])
async def test_a_received_field_that_no_server_wrote_is_not_believed(
    world: World, year: str
) -> None:
    inbox = await world.add_mailbox("Inbox")
    raw = b"Received: from a by b; Mon, 2 Mar %b 10:00:00 +0000\r\n" % year.encode() + make_raw()
    id = await world.add_email(inbox, raw)
    shown = (await get_email(world, id, "receivedAt"))["receivedAt"]
    assert shown[:2] == "20"


async def test_a_message_that_is_there_or_is_none_is_refused_by_name(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    email = await world.add_email(inbox, make_raw())
    there, none = await upload(world, make_raw()), await upload(world, b"no message\r\n")
    emails = {
        key: {"blobId": id, "mailboxIds": {inbox: True}}
        for key, id in (("there", there), ("none", none))
    }
    refused = (await world.call("Email/import", emails=emails))["notCreated"]
    assert (refused["there"]["type"], refused["there"]["existingId"]) == ("alreadyExists", email)
    assert refused["none"]["type"] == "invalidEmail"


# -- copy (RFC 8621 s4.7) -------------------------------------------------------------------------


async def test_a_copy_has_the_errors_of_the_rfc(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    email = await world.add_email(inbox, make_raw(), ("$seen",), receivedAt="2026-01-01T00:00:00Z")
    other = await add_account(world, "other", "read", "triage")
    box = await add_mailbox_in(world, other, "B")

    async def copy(**create: Any) -> dict[str, Any]:
        arguments = {"fromAccountId": world.account_id, "create": {"k": create}}
        return await world.call("Email/copy", accountId=other, **arguments)

    for wrong, named in (
        ({}, "mailboxIds"),
        ({"mailboxIds": {inbox: True}}, "mailboxIds"),
        ({"mailboxIds": {box: True}, "keywords": {"a b": True}}, "keywords"),
        ({"mailboxIds": {box: True}, "receivedAt": "soon"}, "receivedAt"),
        ({"mailboxIds": {box: True}, "subject": "x"}, "subject"),
    ):
        error = (await copy(id=email, **wrong))["notCreated"]["k"]
        assert (error["type"], error["properties"]) == ("invalidProperties", [named])
    error = (await copy(id="e0nothing", mailboxIds={box: True}))["notCreated"]["k"]
    assert error["type"] == "notFound"
    made = (await copy(id=email, mailboxIds={box: True}))["created"]["k"]
    assert made.keys() == {"id", "blobId", "threadId", "size"}
    error = (await copy(id=email, mailboxIds={box: True}))["notCreated"]["k"]
    assert (error["type"], error["existingId"]) == ("alreadyExists", made["id"])


# -- parse (RFC 8621 s4.9) ------------------------------------------------------------------------


async def test_of_a_parsed_message_metadata_is_null_and_each_blob_has_its_fate(
    world: World,
) -> None:
    raw = make_raw("Parsed")
    good, bad = await upload(world, raw), await upload(world, b"\0\0")
    names = ["id", "threadId", "mailboxIds", "keywords", "receivedAt", "size", "subject"]
    got = await world.call("Email/parse", blobIds=[good, bad, "nothing"], properties=names)
    assert got["parsed"] == {good: dict.fromkeys(names) | {"size": len(raw), "subject": "Parsed"}}
    assert (got["notParsable"], got["notFound"]) == ([bad], ["nothing"])
    got = await world.call("Email/parse", blobIds=[good])
    assert (got["notParsable"], got["notFound"]) == (None, None)
    assert (await world.fail("Email/parse"))["type"] == "invalidArguments"
