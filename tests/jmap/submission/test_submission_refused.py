"""What must not be sent is refused by name. Source: RFC 8621 s7.5"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.jmap.mail.test_submission import FRIEND, Sender, make_sender
from tests.jmap.mail_fixture import (
    OWN,
    make_raw,
    only_rights,
)
from tests.world import World
from tindra.features.mail import submission as feature
from tindra.features.mail.writing.envelope import HOLD_SECONDS_MAX, RECIPIENTS_MAX


@pytest.fixture
def sender(world: World, runner: asyncio.Runner) -> Sender:
    return runner.run(make_sender(world))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"emailId": "e00000000000"}, ["emailId"]),
        ({"emailId": "#nobody"}, ["emailId"]),
        ({"emailId": None}, ["emailId"]),
        ({"emailId": 7}, ["emailId"]),
        ({"identityId": "inone"}, ["identityId"]),
        ({"identityId": None, "emailId": None}, ["emailId", "identityId"]),
        ({"undoStatus": "pending"}, ["undoStatus"]),
        ({"sendAt": "2026-01-01T00:00:00Z"}, ["sendAt"]),
        ({"blobId": "b1"}, ["blobId"]),
        ({"sendState": "final"}, ["sendState"]),
        ({"envelope": []}, ["envelope"]),
        ({"envelope": {"mailFrom": {"email": OWN}}}, ["envelope"]),
        ({"envelope": {"mailFrom": OWN, "rcptTo": []}}, ["envelope"]),
        ({"envelope": {"mailFrom": {"email": OWN}, "rcptTo": FRIEND}}, ["envelope"]),
        ({"envelope": {"mailFrom": {"email": "x"}, "rcptTo": [{"email": FRIEND}]}}, ["envelope"]),
        ({"envelope": {"mailFrom": {"email": OWN}, "rcptTo": [{"mail": FRIEND}]}}, ["envelope"]),
        ({"envelope": {"mailFrom": {"email": OWN}, "rcptTo": [], "x": 1}}, ["envelope"]),
    ],
)
async def test_a_wrong_property_is_named(
    sender: Sender, wrong: dict[str, Any], named: list[str]
) -> None:
    error = await sender.refuse({"emailId": await sender.draft()} | wrong)
    assert (error["type"], error["properties"]) == ("invalidProperties", named)


@pytest.mark.parametrize(
    ("place", "parameters"),
    [
        ("mailFrom", {"SOLICIT": "x"}),
        ("mailFrom", {"NOTIFY": "NEVER"}),
        ("mailFrom", {"RET": "ALL"}),
        ("mailFrom", {"ENVID": "x" * 101}),
        ("mailFrom", {"ENVID": "a\r\nRCPT TO:<x@y.test>"}),
        ("mailFrom", {"ENVID": None}),
        ("mailFrom", {"SIZE": "big"}),
        ("mailFrom", {"BODY": "BINARYMIME"}),
        ("mailFrom", {"SMTPUTF8": "yes"}),
        ("mailFrom", {"HOLDFOR": "-1"}),
        ("mailFrom", {"HOLDFOR": str(HOLD_SECONDS_MAX + 1)}),
        ("mailFrom", {"HOLDUNTIL": "tomorrow"}),
        ("mailFrom", {"HOLDUNTIL": "2099-01-01T00:00:00Z"}),
        ("mailFrom", {"HOLDFOR": "5", "HOLDUNTIL": "2026-09-22T00:00:00Z"}),
        ("mailFrom", {"RET": "FULL", "ret": "HDRS"}),
        ("mailFrom", ["RET"]),
        ("rcptTo", {"RET": "FULL"}),
        ("rcptTo", {"NOTIFY": "NEVER,DELAY"}),
        ("rcptTo", {"ORCPT": "no-type"}),
        ("rcptTo", {"ORCPT": "rfc822;a\nb"}),
        ("rcptTo", {"NOTIFY FOO": "NEVER"}),
    ],
)
async def test_a_parameter_that_is_not_known_is_refused(
    sender: Sender, place: str, parameters: Any
) -> None:
    envelope: dict[str, Any] = {"mailFrom": {"email": OWN}, "rcptTo": [{"email": FRIEND}]}
    target = envelope["mailFrom"] if place == "mailFrom" else envelope["rcptTo"][0]
    target["parameters"] = parameters
    error = await sender.refuse({"emailId": await sender.draft(), "envelope": envelope})
    assert (error["type"], error["properties"]) == ("invalidProperties", ["envelope"])


async def test_a_message_without_recipients_is_refused(sender: Sender) -> None:
    assert (await sender.refuse({"emailId": await sender.draft(to=[])}))["type"] == "noRecipients"
    envelope = {"mailFrom": {"email": OWN}, "rcptTo": []}
    error = await sender.refuse({"emailId": await sender.draft(), "envelope": envelope})
    assert error["type"] == "noRecipients"


@pytest.mark.parametrize(
    "bad",
    [
        "zoe", "@x.test", "zoe@", "a@b@c.test", "a b@x.test", ".a@x.test", "a@x..test",
        "a@-", "a@x.test\r\nDATA", "<a@x.test>", "a" * 65 + "@x.test", "a@" + "x." * 200 + "test",
        "a\u2028b@x.test", "a@x.test ", "\"a\n\"@x.test",
    ],
)  # fmt: skip
async def test_recipients_that_are_no_addresses_are_named(sender: Sender, bad: str) -> None:
    envelope = {"mailFrom": {"email": OWN}, "rcptTo": [{"email": FRIEND}, {"email": bad}]}
    error = await sender.refuse({"emailId": await sender.draft(), "envelope": envelope})
    assert (error["type"], error["invalidRecipients"]) == ("invalidRecipients", [bad])


async def test_half_an_address_in_the_draft_is_named_too(sender: Sender) -> None:
    error = await sender.refuse({"emailId": await sender.draft(to=[{"email": "zoe"}])})
    assert (error["type"], error["invalidRecipients"]) == ("invalidRecipients", ["zoe"])


@pytest.mark.parametrize(
    "good", ["o'hara+x@x.test", '"a b"@x.test', "a@[192.0.2.1]", "zoë@exämple.test", "a@localhost"]
)
async def test_unusual_addresses_are_addresses(sender: Sender, good: str) -> None:
    envelope = {"mailFrom": {"email": OWN}, "rcptTo": [{"email": good}]}
    await sender.submit({"emailId": await sender.draft(), "envelope": envelope})


async def test_too_many_recipients_are_refused_with_the_limit(sender: Sender) -> None:
    many = [{"email": f"u{n}@x.test"} for n in range(RECIPIENTS_MAX + 1)]
    envelope = {"mailFrom": {"email": OWN}, "rcptTo": many}
    error = await sender.refuse({"emailId": await sender.draft(), "envelope": envelope})
    assert (error["type"], error["maxRecipients"]) == ("tooManyRecipients", RECIPIENTS_MAX)


async def test_as_many_recipients_as_allowed_find_room_with_their_replies(sender: Sender) -> None:
    many = [{"email": f"{'u' * 55}{n}@{'x' * 60}.test"} for n in range(RECIPIENTS_MAX)]
    envelope = {"mailFrom": {"email": OWN}, "rcptTo": many}
    id = await sender.submit({"emailId": await sender.draft(), "envelope": envelope})
    sender.outbox.answers = {item["email"]: "550 " + "no " * 1000 for item in many}
    await sender.turn()
    assert await sender.status(id) == ("final", "final", {"no"})


async def test_an_envelope_with_too_much_in_it_is_refused(sender: Sender) -> None:
    orcpt = {"ORCPT": "utf-8;" + "🎈" * 490}
    many = [{"email": f"u{n}@x.test", "parameters": orcpt} for n in range(RECIPIENTS_MAX)]
    envelope = {"mailFrom": {"email": OWN}, "rcptTo": many}
    error = await sender.refuse({"emailId": await sender.draft(), "envelope": envelope})
    assert error["properties"] == ["envelope"]


async def test_a_return_path_of_somebody_else_is_refused(sender: Sender) -> None:
    envelope = {"mailFrom": {"email": "boss@bank.test"}, "rcptTo": [{"email": FRIEND}]}
    error = await sender.refuse({"emailId": await sender.draft(), "envelope": envelope})
    assert error["type"] == "forbiddenMailFrom"


async def test_writing_as_somebody_else_is_refused(sender: Sender) -> None:
    email_id = await sender.draft(**{"from": [{"email": "boss@bank.test"}]})
    assert (await sender.refuse({"emailId": email_id}))["type"] == "forbiddenFrom"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"From": ""}, ["from"]),
        ({"From": "half"}, ["from"]),
        ({"Date": ""}, ["sentAt"]),
        ({"Date": "one day"}, ["sentAt"]),
        ({"Sender": f"{OWN}, b@x.test"}, ["sender"]),
        ({"From": f"{OWN}, b@x.test"}, ["sender"]),
        ({"Message-ID": "none"}, ["messageId"]),
        ({"Reply-To": "half"}, ["replyTo"]),
        ({"From": "", "Date": "", "Message-ID": "<"}, ["from", "sentAt", "messageId"]),
    ],
)
async def test_what_is_wrong_with_a_message_is_named(
    sender: Sender, fields: dict[str, str], named: list[str]
) -> None:
    email_id = await sender.world.add_email(sender.drafts, make_raw(**({"From": OWN} | fields)))
    error = await sender.refuse({"emailId": email_id})
    assert (error["type"], error["properties"]) == ("invalidEmail", named)


@pytest.mark.parametrize("field", ["From", "Sender", "To", "Subject", "Date", "Bcc"])
async def test_a_field_that_stands_twice_is_wrong(sender: Sender, field: str) -> None:
    value = "Wed, 18 Nov 2026 10:00:00 +0100" if field == "Date" else OWN
    raw = f"{field}: {value}\r\n{field}: {value}\r\n".encode() + make_raw(
        **({"From": OWN} | {field: ""})
    )
    email_id = await sender.world.add_email(sender.drafts, raw)
    assert (await sender.refuse({"emailId": email_id}))["type"] == "invalidEmail"


async def test_a_message_too_large_names_the_limit(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature, "SUBMISSION_BYTES_MAX", 100)
    error = await sender.refuse({"emailId": await sender.draft()})
    assert (error["type"], error["maxSize"]) == ("tooLarge", 100)


async def test_who_may_not_send_is_told_so_for_each_message(sender: Sender) -> None:
    email_id = await sender.draft()
    async with only_rights(sender.world, "read", "triage"):
        error = await sender.refuse({"emailId": email_id})
    assert error["type"] == "forbiddenToSend"
    assert sender.outbox.calls == 0
