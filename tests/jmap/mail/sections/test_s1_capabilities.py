"""The capability object of an account is what is really held to; EmailDelivery. RFC 8621 s1"""

from __future__ import annotations

from typing import Any

import pytest

from tests.jmap.mail_fixture import create_email, make_raw, refuse, upload
from tests.world import MAIL, World
from tindra.base import limits


def show_account(world: World) -> dict[str, Any]:
    """The mail capability of the account, as the session shows it. Source: RFC 8621 s1.3.1"""
    load = world.registry.capabilities[MAIL].load_account
    assert load is not None
    return dict(load(world.caller, world.caller.accounts[world.account_id]) or {})


def test_every_member_is_there_and_of_its_kind(world: World) -> None:
    shown = show_account(world)
    assert shown.keys() == {
        "maxMailboxesPerEmail", "maxMailboxDepth", "maxSizeMailboxName",
        "maxSizeAttachmentsPerEmail", "emailQuerySortOptions", "mayCreateTopLevelMailbox",
    }  # fmt: skip
    assert shown["maxMailboxesPerEmail"] >= 1
    assert shown["maxSizeMailboxName"] >= 100
    assert shown["maxMailboxDepth"] >= 1
    assert shown["mayCreateTopLevelMailbox"] is True


async def test_an_email_is_in_as_many_mailboxes_as_is_said_and_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAILBOXES_PER_EMAIL_MAX", 3)
    most = show_account(world)["maxMailboxesPerEmail"]
    boxes = [await world.add_mailbox(f"B{n}") for n in range(most + 1)]
    full = dict.fromkeys(boxes[:most], True)
    email = await create_email(world, boxes[0], mailboxIds=full)
    error = await refuse(world, boxes[0], mailboxIds=dict.fromkeys(boxes, True), subject="Other")
    assert error["type"] == "tooManyMailboxes"
    for patch in ({f"mailboxIds/{boxes[-1]}": True}, {"mailboxIds": dict.fromkeys(boxes, True)}):
        done = await world.call("Email/set", update={email: patch})
        assert done["notUpdated"][email]["type"] == "tooManyMailboxes"
    blob_id = await upload(world, make_raw("More", "more@x"))
    wanted = {"blobId": blob_id, "mailboxIds": dict.fromkeys(boxes, True)}
    done = await world.call("Email/import", emails={"e": wanted})
    assert done["notCreated"]["e"]["type"] == "tooManyMailboxes"


async def test_the_tree_is_as_deep_as_is_said_and_no_deeper(world: World) -> None:
    parent: str | None = None
    for level in range(show_account(world)["maxMailboxDepth"]):
        parent = await world.add_mailbox(f"L{level}", parentId=parent)
    made = await world.call("Mailbox/set", create={"m": {"name": "L", "parentId": parent}})
    error = made["notCreated"]["m"]
    assert (error["type"], error["properties"]) == ("invalidProperties", ["parentId"])


async def test_a_name_is_as_long_as_is_said_in_octets_and_no_longer(world: World) -> None:
    octets = show_account(world)["maxSizeMailboxName"]
    for name in ("x" * octets, "ø" * (octets // 2)):
        await world.add_mailbox(name)
        made = await world.call("Mailbox/set", create={"m": {"name": name + "y"}})
        error = made["notCreated"]["m"]
        assert (error["type"], error["properties"]) == ("invalidProperties", ["name"])


async def test_attachments_weigh_as_much_as_is_said_and_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ATTACHMENTS_PER_EMAIL_BYTES_MAX", 1000)
    most = show_account(world)["maxSizeAttachmentsPerEmail"]
    inbox = await world.add_mailbox("Inbox")
    half, more = (
        await upload(world, b"a" * (most // 2)),
        await upload(world, b"b" * (most // 2 + 1)),
    )
    await create_email(world, inbox, attachments=[{"blobId": half}, {"blobId": half}])
    error = await refuse(world, inbox, attachments=[{"blobId": half}, {"blobId": more}])
    assert error["type"] == "tooLarge"


async def test_every_sort_that_is_said_is_there_and_no_other(world: World) -> None:
    names = show_account(world)["emailQuerySortOptions"]
    assert "receivedAt" in names
    for name in names:
        sort = [{"property": name} | ({"keyword": "$seen"} if "Keyword" in name else {})]
        await world.call("Email/query", sort=sort)
    for name in ("id", "threadId", "preview", "cc", "hasAttachment", "", "RECEIVEDAT"):
        error = await world.fail("Email/query", sort=[{"property": name}])
        assert error["type"] == "unsupportedSort"


async def test_only_a_new_email_changes_the_state_of_email_delivery(world: World) -> None:
    """A phone that sleeps is woken by new mail alone. Source: RFC 8621 s1.5"""
    inbox, other = await world.add_mailbox("Inbox", role="inbox"), await world.add_mailbox("B")

    async def count(**arguments: Any) -> list[bool]:
        world.commits.clear()
        await world.call("Email/set", **arguments)
        return ["EmailDelivery" in commit.states for commit in world.commits]

    world.commits.clear()
    email = await world.add_email(inbox, make_raw())
    assert [
        (c.states["EmailDelivery"] == c.states["Email"])
        for c in world.commits
        if "Email" in c.states
    ] == [True]
    draft = {"mailboxIds": {inbox: True}, "subject": "New"}
    assert await count(create={"k": draft}) == [True]
    assert await count(update={email: {"keywords/$seen": True}}) == [False]
    assert await count(update={email: {"mailboxIds": {other: True}}}) == [False]
    assert await count(destroy=[email]) == [False]


async def test_an_email_keeps_its_id_wherever_it_goes(world: World) -> None:
    """Source: RFC 8621 s1.6, s2"""
    inbox, other = await world.add_mailbox("Inbox"), await world.add_mailbox("B")
    email = await world.add_email(inbox, make_raw())
    await world.call("Email/set", update={email: {"mailboxIds": {other: True}}})
    got = await world.call("Email/get", ids=[email], properties=["mailboxIds"])
    assert got["list"] == [{"id": email, "mailboxIds": {other: True}}]
