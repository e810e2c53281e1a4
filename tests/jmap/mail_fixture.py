"""What the tests of the writing half of mail share: drafts, uploads, a second account."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from tests.world import World, add_user
from tindra.base.ids import AccountId
from tindra.core.access import load_caller
from tindra.model.account import ALL_RIGHTS, Account, Grant

OWN = "alex@example.org"
TEXT = {"partId": "t", "type": "text/plain"}
HTML = {"partId": "h", "type": "text/html"}
VALUES = {"t": {"value": "Hello\nworld\n"}, "h": {"value": "<p>Hello</p>"}}

CONVENIENCE = {
    "messageId": "header:Message-ID:asMessageIds",
    "inReplyTo": "header:In-Reply-To:asMessageIds",
    "references": "header:References:asMessageIds",
    "sender": "header:Sender:asAddresses",
    "from": "header:From:asAddresses",
    "to": "header:To:asAddresses",
    "cc": "header:Cc:asAddresses",
    "bcc": "header:Bcc:asAddresses",
    "replyTo": "header:Reply-To:asAddresses",
    "subject": "header:Subject:asText",
    "sentAt": "header:Date:asDate",
}
"""Source: RFC 8621 s4.1.3"""


def make_raw(
    subject: str = "Hello", message_id: str = "one@fjord.test", body: str = "Hi.\r\n", **fields: str
) -> bytes:
    """A plain message. Fields are named with _ for -; an empty one is left out."""
    given = {
        "From": "Mira <mira@fjord.test>",
        "To": "alex@example.org",
        "Subject": subject,
        "Date": "Wed, 18 Nov 2026 10:00:00 +0100",
        "Message-ID": f"<{message_id}>",
    } | {name.replace("_", "-"): value for name, value in fields.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
    return f"{head}\r\n{body}".encode()


async def upload(world: World, data: bytes, account_id: str | None = None) -> str:
    """A blob, as an upload would leave it; gives its id."""
    row = await world.services.blobs.put(AccountId(account_id or world.account_id), data)
    return str(row.id)


async def load_message(world: World, email_id: str) -> bytes:
    """The octets of an Email's message."""
    got = await world.call("Email/get", ids=[email_id], properties=["blobId"])
    raw = await world.services.blobs.get(world.account_id, got["list"][0]["blobId"])
    assert raw is not None
    return raw


async def create(world: World, mailbox_id: str, **properties: Any) -> dict[str, Any]:
    """Email/set create of one object; gives the whole answer."""
    obj = {"mailboxIds": {mailbox_id: True}} | properties
    return await world.call("Email/set", create={"k": obj})


async def create_email(world: World, mailbox_id: str, **properties: Any) -> str:
    """An Email made from parts; gives its id."""
    made = await create(world, mailbox_id, **properties)
    assert made["created"], made
    return str(made["created"]["k"]["id"])


async def refuse(world: World, mailbox_id: str, **properties: Any) -> dict[str, Any]:
    """The SetError of an Email that must not be made."""
    made = await create(world, mailbox_id, **properties)
    assert made["created"] is None, made
    return dict(made["notCreated"]["k"])


async def check_named(world: World, wrong: dict[str, Any], named: list[str]) -> None:
    """An Email with these properties is refused, and just these are named."""
    inbox = await world.add_mailbox("Inbox")
    error = await refuse(world, inbox, **({"bodyValues": VALUES} | wrong))
    assert error["type"] == "invalidProperties"
    assert sorted(error["properties"]) == named


async def get_email(world: World, id: str, *properties: str, **arguments: Any) -> dict[str, Any]:
    """One Email with the properties named."""
    got = await world.call("Email/get", ids=[id], properties=list(properties), **arguments)
    assert got["list"], got
    return dict(got["list"][0])


@asynccontextmanager
async def only_rights(world: World, *rights: str) -> AsyncIterator[None]:
    """Inside, the caller may do only this in the account."""
    for held in (frozenset(rights), ALL_RIGHTS):
        user = world.caller.user
        await world.services.directory.put_grant(Grant(user.id, world.account_id, held))
        world.caller = await load_caller(world.services.directory, user, world.clock.now_ms())
        if held != ALL_RIGHTS:
            yield


async def add_account(world: World, name: str, *rights: str) -> str:
    """Another account that the caller shares; gives its id."""
    other = await add_user(world.services, name)
    account_id = next(iter(other.accounts))
    user = world.caller.user
    await world.services.directory.put_grant(Grant(user.id, account_id, frozenset(rights)))
    world.caller = await load_caller(world.services.directory, user, world.clock.now_ms())
    return str(account_id)


async def add_foreign_account(world: World, name: str) -> AccountId:
    """An account of somebody else that the caller knows nothing of."""
    account = Account(AccountId(f"x-{name}"), name, world.caller.user.id, 0)
    await world.services.directory.put_account(account)
    return account.id


async def add_mailbox_in(world: World, account_id: str, name: str) -> str:
    """A Mailbox in another account."""
    call = ["Mailbox/set", {"accountId": account_id, "create": {"m": {"name": name}}}, "0"]
    [[_, made, _]] = (await world.request([call]))["methodResponses"]
    return str(made["created"]["m"]["id"])


def encode(value: Any) -> str:
    """As JSON, for looking for a word anywhere in it."""
    return msgspec.json.encode(value).decode()
