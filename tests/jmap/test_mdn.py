"""MDN/send and MDN/parse. Source: RFC 9007, RFC 8098"""

from __future__ import annotations

import asyncio
import email as stdlib
from email.message import Message
from typing import Any

import pytest

from tests.jmap.mail.test_submission import SETTINGS, Outbox
from tests.jmap.mail_fixture import (
    OWN,
    add_foreign_account,
    get_email,
    make_raw,
    only_rights,
    upload,
)
from tests.world import World
from tindra.base import limits
from tindra.base.ids import AccountId
from tindra.features.mail.mdn.parse import BLOBS_MAX, PARSE_BYTES_MAX
from tindra.features.mail.mdn.send import MAIL, MDN, RECIPIENTS_MAX, SENDS_MAX
from tindra.sync.submission import Envelope, Route, SubmissionRunner

DISPLAYED = {
    "actionMode": "manual-action",
    "sendingMode": "mdn-sent-manually",
    "type": "displayed",
}
AUTOMATIC = DISPLAYED | {
    "actionMode": "automatic-action",
    "sendingMode": "mdn-sent-automatically",
}
MIRA = "mira@fjord.test"
SET = {"keywords/$mdnsent": True}


class Receipts:
    """A world with a message that wants to be answered, and a way out."""

    def __init__(self, world: World, identity_id: str, inbox: str) -> None:
        self.world = world
        self.identity_id = identity_id
        self.inbox = inbox
        self.outbox = Outbox()

    async def receive(self, **fields: str) -> str:
        """A message with this header; gives the Email's id."""
        given = {"Disposition_Notification_To": f"Mira <{MIRA}>"} | fields
        return await self.world.add_email(self.inbox, make_raw(**given))

    async def send_all(self, send: Any, **arguments: Any) -> list[Any]:
        """The responses of MDN/send."""
        given = {"identityId": self.identity_id, "send": send} | arguments
        return await self.world.calls([["MDN/send", given, "0"]])

    async def send(self, email_id: str, **properties: Any) -> dict[str, Any]:
        """One MDN that must be taken; gives what the server set."""
        mdn = {"forEmailId": email_id, "disposition": DISPLAYED} | properties
        [[_, answer, _], [name, _, _]] = await self.send_all({"k": mdn})
        assert name == "Email/set"
        assert answer["notSent"] is None, answer
        return dict(answer["sent"]["k"])

    async def refuse(self, email_id: str, **properties: Any) -> dict[str, Any]:
        """The SetError of one MDN that must not be taken."""
        mdn = {"forEmailId": email_id, "disposition": DISPLAYED} | properties
        [[_, answer, _]] = await self.send_all({"k": mdn})
        assert answer["sent"] is None, answer
        return dict(answer["notSent"]["k"])

    async def run(self) -> list[tuple[Envelope, bytes]]:
        """What the server has taken, after every intent was looked at."""

        async def load_route(account_id: AccountId) -> Route | None:
            return Route(SETTINGS, "secret")

        runner = SubmissionRunner(self.world.services, self.outbox, load_route)
        await runner.run_turn(self.world.account_id)
        return self.outbox.taken

    async def is_marked(self, email_id: str) -> bool:
        """Whether the keyword is set."""
        return "$mdnsent" in (await get_email(self.world, email_id, "keywords"))["keywords"]


def list_parts(message: Message) -> list[Message]:
    """The parts of a multipart, as the standard library reads it."""
    parts = message.get_payload()
    assert isinstance(parts, list)
    return [part for part in parts if isinstance(part, Message)]


@pytest.fixture
def receipts(world: World, runner: asyncio.Runner) -> Receipts:
    async def make() -> Receipts:
        created = {"i": {"name": "Alex Åm", "email": OWN}}
        made = await world.call("Identity/set", create=created)
        assert made["created"], made
        return Receipts(world, made["created"]["i"]["id"], await world.add_mailbox("Inbox"))

    return runner.run(make())


# -- send ------------------------------------------------------------------------------------------
async def test_a_receipt_goes_to_whom_the_message_names_and_is_marked(receipts: Receipts) -> None:
    email_id = await receipts.receive(subject="World domination")
    told = await receipts.send(email_id, textBody="I saw it.\n", reportingUA="joes-pc; Foo 1")
    assert told["finalRecipient"] == f"rfc822; {OWN}"
    assert told["originalMessageId"] == "<one@fjord.test>"
    assert told["subject"] == "Read: World domination"
    assert told["includeOriginalMessage"] is False
    assert "textBody" not in told
    assert await receipts.is_marked(email_id)
    [(envelope, raw)] = await receipts.run()
    assert envelope.mail_from == ""
    assert [one.email for one in envelope.recipients] == [MIRA]
    message = stdlib.message_from_bytes(raw)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "disposition-notification"
    assert message["To"] == MIRA
    assert message["In-Reply-To"] == message["References"] == "<one@fjord.test>"
    assert message["Disposition-Notification-To"] is None
    text, fields = list_parts(message)
    assert text.get_content_type() == "text/plain"
    assert text.get_payload() == "I saw it.\r\n"
    assert fields.get_content_type() == "message/disposition-notification"
    assert fields["Content-Transfer-Encoding"] is None
    [told_fields] = list_parts(fields)
    assert told_fields["Reporting-UA"] == "joes-pc; Foo 1"
    assert told_fields["Final-Recipient"] == f"rfc822; {OWN}"
    assert told_fields["Original-Message-ID"] == "<one@fjord.test>"
    assert told_fields["Disposition"] == "manual-action/mdn-sent-manually; displayed"


async def test_what_was_sent_is_parsed_back_and_finds_its_email(receipts: Receipts) -> None:
    email_id = await receipts.receive(Original_Recipient="rfc822;alias@example.org")
    extensions = {"X-Mood": "grüßend", "X-Long": "word " * 60 + "end"}
    mdn = {
        "subject": "Gelesen: Hallo",
        "textBody": "Danke für die Post.\n",
        "reportingUA": "tindra.test; Tindra",
        "includeOriginalMessage": True,
        "extensionFields": extensions,
    }
    told = await receipts.send(email_id, **mdn)
    assert told["originalRecipient"] == "rfc822;alias@example.org"
    assert told.keys().isdisjoint(mdn)
    [(_, raw)] = await receipts.run()
    blob_id = await upload(receipts.world, raw)
    answer = await receipts.world.call("MDN/parse", blobIds=[blob_id])
    assert answer["notParsable"] is None
    assert answer["parsed"][blob_id] == mdn | {
        "forEmailId": email_id,
        "disposition": DISPLAYED,
        "mdnGateway": None,
        "originalRecipient": "rfc822;alias@example.org",
        "finalRecipient": f"rfc822; {OWN}",
        "originalMessageId": "<one@fjord.test>",
        "error": None,
    }
    assert make_raw(Original_Recipient="x")[:20] in raw


async def test_no_message_gets_two_receipts(receipts: Receipts) -> None:
    email_id = await receipts.receive()
    mdn = {"forEmailId": email_id, "disposition": DISPLAYED}
    [[_, answer, _], _] = await receipts.send_all({"a": mdn, "b": mdn})
    assert answer["sent"].keys() == {"a"}
    assert answer["notSent"]["b"]["type"] == "mdnAlreadySent"
    assert (await receipts.refuse(email_id))["type"] == "mdnAlreadySent"
    assert len(await receipts.run()) == 1


async def test_two_devices_at_once_send_one_receipt(receipts: Receipts) -> None:
    email_id = await receipts.receive()
    mdn = {"forEmailId": email_id, "disposition": DISPLAYED}
    given = {"accountId": receipts.world.account_id, "identityId": receipts.identity_id}
    call = ["MDN/send", given | {"send": {"k": mdn}}, "0"]
    answers = await asyncio.gather(*[receipts.world.raw_request([call]) for _ in range(3)])
    kinds = sorted(str(a["methodResponses"][0][1]["notSent"] is None) for a in answers)
    assert kinds == ["False", "False", "True"]
    assert len(await receipts.run()) == 1


async def test_the_email_is_updated_as_asked(receipts: Receipts) -> None:
    email_id = await receipts.receive()
    mdn = {"forEmailId": email_id, "disposition": DISPLAYED}
    patch = SET | {"keywords/$seen": True}
    [_, [name, changed, _]] = await receipts.send_all(
        {"k": mdn}, onSuccessUpdateEmail={"#k": patch}
    )
    assert (name, changed["updated"]) == ("Email/set", {email_id: None})
    assert set((await get_email(receipts.world, email_id, "keywords"))["keywords"]) == {
        "$mdnsent",
        "$seen",
    }


@pytest.mark.parametrize(
    "update",
    [
        {},
        {"#k": {}},
        {"#k": {"keywords/$mdnsent": None}},
        {"#k": {"keywords": {"$seen": True}}},
        {"#other": SET},
        {"#k": SET, "#other": SET},
        {"#k": True},
        [],
    ],
)
async def test_an_update_that_does_not_mark_the_email_is_refused(
    receipts: Receipts, update: Any
) -> None:
    email_id = await receipts.receive()
    mdn = {"forEmailId": email_id, "disposition": DISPLAYED}
    [[_, error, _]] = await receipts.send_all({"k": mdn}, onSuccessUpdateEmail=update)
    assert error["type"] == "invalidArguments"
    assert not await receipts.is_marked(email_id)
    assert await receipts.run() == []


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"Disposition_Notification_To": ""}, "notFound"),
        ({"Disposition_Notification_To": "nobody"}, "notFound"),
        ({"Disposition_Notification_To": "a@b.test, <c d>"}, "notFound"),
        ({"Content_Type": 'multipart/report; boundary="x"'}, "forbidden"),
    ],
)
async def test_messages_that_are_not_answered(
    receipts: Receipts, fields: dict[str, str], kind: str
) -> None:
    email_id = await receipts.receive(**fields)
    assert (await receipts.refuse(email_id))["type"] == kind
    assert not await receipts.is_marked(email_id)


async def test_several_may_want_to_be_told_but_not_a_crowd(receipts: Receipts) -> None:
    email_id = await receipts.receive(Disposition_Notification_To=f"{MIRA}, b@fjord.test, {MIRA}")
    await receipts.send(email_id)
    [(envelope, _)] = await receipts.run()
    assert [one.email for one in envelope.recipients] == [MIRA, "b@fjord.test"]
    crowd = ", ".join(f"a{n}@fjord.test" for n in range(RECIPIENTS_MAX + 1))
    email_id = await receipts.receive(message_id="two@x", Disposition_Notification_To=crowd)
    assert (await receipts.refuse(email_id))["type"] == "notFound"


@pytest.mark.parametrize(
    ("path", "is_sent"), [(f"<{MIRA}>", True), ("<other@fjord.test>", False), ("<>", False)]
)
async def test_by_itself_a_receipt_goes_only_to_the_return_path(
    receipts: Receipts, path: str, is_sent: bool
) -> None:
    email_id = await receipts.receive(Return_Path=path)
    if is_sent:
        await receipts.send(email_id, disposition=AUTOMATIC)
        [(_, raw)] = await receipts.run()
        assert stdlib.message_from_bytes(raw)["Auto-Submitted"] == "auto-replied"
    else:
        assert (await receipts.refuse(email_id, disposition=AUTOMATIC))["type"] == "forbidden"
        await receipts.send(email_id)


@pytest.mark.parametrize(
    ("recipient", "kind"),
    [
        ("rfc822; somebody@else.test", "forbiddenFrom"),
        ("somebody@else.test", "forbiddenFrom"),
        ("x400; me", "invalidProperties"),
        ("nobody", "invalidProperties"),
        (7, "invalidProperties"),
    ],
)
async def test_a_final_recipient_must_be_ones_own(
    receipts: Receipts, recipient: Any, kind: str
) -> None:
    email_id = await receipts.receive()
    assert (await receipts.refuse(email_id, finalRecipient=recipient))["type"] == kind
    await receipts.send(email_id, finalRecipient=f"rfc822; {OWN.upper()}")


async def test_an_identity_of_a_whole_domain_answers_as_whom_the_message_was_sent_to(
    receipts: Receipts,
) -> None:
    created = {"i": {"name": "", "email": "*@example.org"}}
    made = await receipts.world.call("Identity/set", create=created)
    receipts.identity_id = made["created"]["i"]["id"]
    email_id = await receipts.receive(To="zoe@x.test, sales@example.org")
    assert (await receipts.send(email_id))["finalRecipient"] == "rfc822; sales@example.org"
    other = await receipts.receive(To="zoe@x.test", message_id="two@x")
    refused = await receipts.refuse(other)
    assert (refused["type"], refused["properties"]) == ("invalidProperties", ["finalRecipient"])


@pytest.mark.parametrize(
    ("properties", "wrong"),
    [
        ({"disposition": DISPLAYED | {"type": "Displayed"}}, "disposition"),
        ({"disposition": None}, "disposition"),
        ({"disposition": DISPLAYED | {"mood": "x"}}, "disposition"),
        ({"subject": "a\nBcc: b@c"}, "subject"),
        ({"subject": 1}, "subject"),
        ({"reportingUA": "a\r\nFinal-Recipient: x"}, "reportingUA"),
        ({"extensionFields": {"X-A": "a\nb"}}, "extensionFields"),
        ({"extensionFields": {"X A": "a"}}, "extensionFields"),
        ({"extensionFields": {"Final-Recipient": "a"}}, "extensionFields"),
        ({"extensionFields": {f"X-{n}": "a" for n in range(51)}}, "extensionFields"),
        ({"originalMessageId": "<a@b>"}, "originalMessageId"),
        ({"textBody": "x" * 300_000}, "textBody"),
        ({"unknown": 1}, "unknown"),
        ({"includeOriginalMessage": "yes"}, "includeOriginalMessage"),
    ],
)
async def test_wrong_properties_are_named(
    receipts: Receipts, properties: dict[str, Any], wrong: str
) -> None:
    email_id = await receipts.receive()
    refused = await receipts.refuse(email_id, **properties)
    assert refused["type"] == "invalidProperties"
    assert refused["properties"] == [wrong]
    assert await receipts.run() == []


async def test_unknown_emails_identities_and_accounts(receipts: Receipts) -> None:
    for id in ("nothing", "e" + "0" * 14):
        assert (await receipts.refuse(id))["type"] == "notFound"
    world = receipts.world
    foreign = await add_foreign_account(world, "other")
    for arguments in (
        {"identityId": "none", "send": {}},
        {"identityId": None, "send": {}},
        {"identityId": receipts.identity_id, "send": None},
        {"identityId": receipts.identity_id, "send": {}, "accountId": foreign},
        {"identityId": receipts.identity_id, "send": {}, "accountId": "unknown"},
    ):
        assert (await world.fail("MDN/send", **arguments))["type"] == "invalidArguments"
    many = {f"k{n}": {} for n in range(SENDS_MAX + 1)}
    [[_, error, _]] = await receipts.send_all(many)
    assert error["type"] == "requestTooLarge"


async def test_who_may_not_send_may_not_send_receipts(receipts: Receipts) -> None:
    email_id = await receipts.receive()
    async with only_rights(receipts.world, "read", "triage"):
        assert (await receipts.refuse(email_id))["type"] == "forbidden"
    assert await receipts.run() == []


async def test_the_mail_capability_must_be_asked_for(receipts: Receipts) -> None:
    given = {"accountId": receipts.world.account_id, "identityId": receipts.identity_id, "send": {}}
    for using, name in (([MDN], "error"), ([MDN, MAIL], "MDN/send")):
        answer = await receipts.world.request([["MDN/send", given, "0"]], using=using)
        assert answer["methodResponses"][0][0] == name


async def test_originals_that_are_too_large_are_not_sent_along(
    receipts: Receipts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tindra.features.mail.mdn.send.SUBMISSION_BYTES_MAX", 3_000)
    ids = []
    for number in range(3):
        raw = make_raw(message_id=f"{number}@x", body="x" * 60 + "\r\n" + f"{number}" * 900,
                       Disposition_Notification_To=MIRA)  # fmt: skip
        ids.append(await receipts.world.add_email(receipts.inbox, raw))
    send = {
        f"k{n}": {"forEmailId": id, "disposition": DISPLAYED, "includeOriginalMessage": True}
        for n, id in enumerate(ids)
    }
    [[_, answer, _], _] = await receipts.send_all(send)
    assert answer["sent"].keys() == {"k0"}
    assert {e["type"] for e in answer["notSent"].values()} == {"tooLarge"}
    assert not await receipts.is_marked(ids[2])


async def test_a_hostile_original_makes_a_receipt_that_can_be_sent(receipts: Receipts) -> None:
    email_id = await receipts.receive(
        subject="=?utf-8?q?a=0D=0ABcc:_x@y?= " + "w" * 900,
        message_id="x" * 700 + "@y",
        Original_Recipient="rfc822; a\x01b",
    )
    told = await receipts.send(email_id)
    assert told["originalMessageId"] is None
    assert told["originalRecipient"] is None
    [(_, raw)] = await receipts.run()
    message = stdlib.message_from_bytes(raw)
    assert message["Bcc"] is None
    assert max(map(len, raw.split(b"\r\n"))) <= 998


async def test_a_receipt_is_an_emailsubmission_that_devices_see(receipts: Receipts) -> None:
    email_id = await receipts.receive()
    await receipts.send(email_id)
    await receipts.run()
    [one] = (await receipts.world.call("EmailSubmission/get", ids=None))["list"]
    assert one["undoStatus"] == "final"
    assert one["deliveryStatus"][MIRA]["delivered"] == "unknown"
    assert one["envelope"]["mailFrom"]["email"] == ""
    assert one["threadId"] == (await get_email(receipts.world, email_id, "threadId"))["threadId"]


# -- parse -----------------------------------------------------------------------------------------
def make_report(fields: str, text: str = "It was shown.", **header: str) -> bytes:
    """A notification as other programs write it."""
    content = 'multipart/report; report-type=disposition-notification; boundary="b"'
    body = (
        f"--b\r\nContent-Type: text/plain\r\n\r\n{text}\r\n"
        f"--b\r\nContent-Type: message/disposition-notification\r\n\r\n{fields}\r\n--b--\r\n"
    )
    return make_raw("Gelesen", body=body, **({"Content_Type": content} | header))


async def parse(world: World, raw: bytes) -> dict[str, Any] | None:
    """The MDN, or None if it is none."""
    blob_id = await upload(world, raw)
    answer = await world.call("MDN/parse", blobIds=[blob_id])
    if answer["parsed"] is None:
        assert answer["notParsable"] == [blob_id]
        return None
    return dict(answer["parsed"][blob_id])


FULL = (
    "reporting-ua: Outlook; 16\r\nMDN-Gateway: dns; mta.test\r\n"
    "Original-Recipient: rfc822;\r\n  alias@fjord.test\r\n"
    "Final-Recipient: RFC822;mira@fjord.test\r\n"
    "Original-Message-ID: <gone@example.org>\r\n"
    "Disposition: Automatic-Action/MDN-sent-automatically;\r\n processed/error (sorry)\r\n"
    "Error: first\r\nError: =?utf-8?q?zweit=C3=A9?=\r\nX-Other: yes\r\nx-other: no"
)


async def test_every_field_is_read(world: World) -> None:
    assert await parse(world, make_report(FULL)) == {
        "forEmailId": None,
        "subject": "Gelesen",
        "textBody": "It was shown.",
        "includeOriginalMessage": False,
        "reportingUA": "Outlook; 16",
        "disposition": AUTOMATIC | {"type": "processed"},
        "mdnGateway": "dns; mta.test",
        "originalRecipient": "rfc822;  alias@fjord.test",
        "finalRecipient": "RFC822;mira@fjord.test",
        "originalMessageId": "<gone@example.org>",
        "error": ["first", "zweité"],
        "extensionFields": {"X-Other": "yes", "x-other": "no"},
    }


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 1000,
        make_raw(),
        make_report(""),
        make_report("Final-Recipient: rfc822; a@b"),
        make_report("Disposition: displayed"),
        make_report("Disposition: manual-action/mdn-sent-manually; eaten"),
        make_report(FULL, Content_Type='multipart/mixed; boundary="b"'),
        make_report(FULL, Content_Type="multipart/report"),
        make_report("X: " + "x" * 100_000 + "\r\n" + FULL),
    ],
)
async def test_what_is_no_notification_is_not_parsable(world: World, raw: bytes) -> None:
    assert await parse(world, raw) is None


async def test_two_emails_with_one_message_id_make_no_guess(receipts: Receipts) -> None:
    world = receipts.world
    fields = FULL.replace("gone@example.org", "one@fjord.test")
    first = await receipts.receive()
    found = await parse(world, make_report(fields))
    assert found is not None
    assert found["forEmailId"] == first
    await receipts.receive(subject="A twin")
    found = await parse(world, make_report(fields, "Again."))
    assert found is not None
    assert found["forEmailId"] is None


async def test_unknown_and_foreign_blobs_and_too_many(world: World) -> None:
    foreign = await add_foreign_account(world, "other")
    secret = await upload(world, make_report(FULL), foreign)
    answer = await world.call("MDN/parse", blobIds=["none", secret])
    assert answer["notFound"] == ["none", secret]
    assert answer["parsed"] is None
    for arguments in ({"blobIds": None}, {"accountId": foreign, "blobIds": []}, {"blobIds": [1]}):
        assert (await world.fail("MDN/parse", **arguments))["type"] == "invalidArguments"
    ids = [f"b{n}" for n in range(BLOBS_MAX + 1)]
    assert (await world.fail("MDN/parse", blobIds=ids))["type"] == "requestTooLarge"


async def test_more_octets_than_one_call_may_read_are_refused(world: World) -> None:
    big = await upload(world, bytes(4 * limits.MIB))
    count = PARSE_BYTES_MAX // (4 * limits.MIB) + 1
    assert count <= BLOBS_MAX
    parts = [f"{big}_{n:x}_{4 * limits.MIB:x}_7bit" for n in range(count)]
    assert (await world.fail("MDN/parse", blobIds=parts))["type"] == "requestTooLarge"
