"""What set, copy and import share: few commits, and words that reach the search index at once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.jmap.mail_fixture import TEXT, add_account, add_mailbox_in, make_raw, upload
from tests.world import World
from tindra.base.ids import AccountId
from tindra.core.blob_parts import load_blob
from tindra.features.mail import indexing
from tindra.model.mail import parse_email_id

COUNT = 50


def count_writes(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all transactions from now on."""
    names: list[str] = []
    write = world.services.store.write

    async def counting(account_id: AccountId, name: str, fn: Any, **given: Any) -> Any:
        names.append(name)
        return await write(account_id, name, fn, **given)

    monkeypatch.setattr(world.services.store, "write", counting)
    return names


def forbid_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the indexer must live on what was handed over."""

    def refuse(*_: object) -> None:
        raise AssertionError("the words were not handed over")

    monkeypatch.setattr(indexing, "parse_arrival", refuse)


async def find(world: World, text: str, account_id: str | None = None) -> list[str]:
    """Ids of the Emails that hold a text."""
    call = {"accountId": account_id or world.account_id, "filter": {"text": text}}
    [[_, found, _]] = (await world.request([["Email/query", call, "0"]]))["methodResponses"]
    return list(found["ids"])


def make_draft(inbox: str, number: int) -> dict[str, Any]:
    """A draft with a word of its own."""
    return {
        "mailboxIds": {inbox: True},
        "keywords": {"$draft": True},
        "subject": f"Draft {number}",
        "textBody": [TEXT],
        "bodyValues": {"t": {"value": f"aurora{number} " + "x" * 2000 * (number % 40)}},
    }


async def test_a_draft_is_found_by_its_words_without_a_second_parse(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = await world.add_mailbox("Inbox")
    forbid_parsing(monkeypatch)
    made = await world.call("Email/set", create={"k": make_draft(inbox, 7)})
    assert await find(world, "aurora7") == [made["created"]["k"]["id"]]


async def test_fifty_drafts_are_one_commit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox = await world.add_mailbox("Inbox")
    names = count_writes(world, monkeypatch)
    drafts = {f"k{n}": make_draft(inbox, n) for n in range(COUNT)}
    made = await world.call("Email/set", create=drafts)
    assert len(made["created"]) == COUNT
    assert names == ["Email/set"]
    for key, number in (("k3", 3), ("k39", 39)):  # one in its row, one in a file
        raw = await load_blob(world.services, world.account_id, made["created"][key]["blobId"])
        assert raw is not None
        assert f"aurora{number} ".encode() in raw


async def test_fifty_copies_are_one_commit_and_found_by_their_words(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = await world.add_mailbox("Inbox")
    ids = [
        await world.add_email(inbox, make_raw(f"Copy {n}", f"{n}@x", f"borealis{n}\r\n"))
        for n in range(COUNT)
    ]
    other = await add_account(world, "team", "read", "triage")
    there = await add_mailbox_in(world, other, "Inbox")
    names = count_writes(world, monkeypatch)
    create = {f"k{n}": {"id": id, "mailboxIds": {there: True}} for n, id in enumerate(ids)}
    call = {"fromAccountId": world.account_id, "accountId": other, "create": create}
    [[_, made, _]] = (await world.request([["Email/copy", call, "0"]]))["methodResponses"]
    assert len(made["created"]) == COUNT
    assert names == ["Email/copy"]
    forbid_parsing(monkeypatch)
    assert await find(world, "borealis31", other) == [made["created"]["k31"]["id"]]
    assert await load_blob(world.services, AccountId(other), made["created"]["k31"]["blobId"])


async def test_attached_messages_are_imported_in_one_commit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = await world.add_mailbox("Inbox")
    inner = [make_raw(f"Inner {n}", f"i{n}@x", f"zephyr{n}\r\n") for n in range(10)]
    parts = b"".join(b"--b\r\nContent-Type: message/rfc822\r\n\r\n" + raw for raw in inner)
    raw = b"Subject: outer\r\nContent-Type: multipart/digest; boundary=b\r\n\r\n" + parts
    blob_id = await upload(world, raw + b"--b--\r\n")
    parsed = await world.call(
        "Email/parse", blobIds=[blob_id], properties=["attachments"], bodyProperties=["blobId"]
    )
    blob_ids = [part["blobId"] for part in parsed["parsed"][blob_id]["attachments"]]
    names = count_writes(world, monkeypatch)
    emails = {
        f"k{n}": {"blobId": id, "mailboxIds": {inbox: True}}
        for n, id in enumerate([*blob_ids, blob_ids[0]])
    }
    made = await world.call("Email/import", emails=emails)
    assert len(made["created"]) == 10
    assert made["notCreated"]["k10"]["existingId"] == made["created"]["k0"]["id"]
    assert names == ["Email/import"]
    assert await load_blob(world.services, world.account_id, made["created"]["k4"]["blobId"])


async def test_what_was_refused_hands_nothing_over_and_stores_no_blob(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    state = (await world.call("Email/get", ids=[]))["state"]
    made = await world.call("Email/set", create={"k": make_draft(inbox, 1)})
    taken = parse_email_id(made["created"]["k"]["id"])
    assert taken is not None
    assert world.services.feed.take(world.account_id, [taken])
    refused = await world.fail("Email/set", ifInState=state, create={"k": make_draft(inbox, 2)})
    assert refused["type"] == "stateMismatch"
    after = [taken + step for step in range(1, 5)]
    assert not world.services.feed.take(world.account_id, after)
    wrong = await world.call("Email/set", create={"k": make_draft("nowhere", 3)})
    assert wrong["notCreated"]["k"]["type"] == "invalidProperties"
    assert not world.services.feed.take(world.account_id, after)
