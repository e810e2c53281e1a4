"""Reports of delivery and of reading reach the submission they are about, and no other.

Source: RFC 8621 s7 (deliveryStatus, dsnBlobIds, mdnBlobIds), RFC 3464 s2, RFC 8098 s3
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.jmap.mail.test_submission import FRIEND, Sender, make_sender
from tests.jmap.mail_fixture import OWN
from tests.world import World
from tindra.base import limits
from tindra.base.ids import AccountId, MailboxId
from tindra.core.tx import Tx, transact
from tindra.features.mail.ingest import NewEmail, apply_arrivals, parse_arrival
from tindra.features.mail.reports.delivery import apply_reports
from tindra.features.mail.submission import REPORTS_KEPT_MAX

BOTH = ("friend@example.net", "other@example.net")


@pytest.fixture
def sender(world: World, runner: asyncio.Runner) -> Sender:
    return runner.run(make_sender(world))


def make_dsn(
    recipient: str = FRIEND,
    *,
    action: str = "failed",
    envelope_id: str = "",
    message_id: str = "",
    fields: str = "Status: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 No such user\r\n",
) -> bytes:
    """A bounce. Source: RFC 3464 s2"""
    head = f"Original-Envelope-Id: {envelope_id}\r\n" if envelope_id else ""
    returned = f"Message-ID: <{message_id}>\r\n" if message_id else ""
    return (
        "From: MAILER-DAEMON@mx.test\r\nTo: alex@example.org\r\nSubject: Undelivered\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        f"Reporting-MTA: dns; mx.test\r\n{head}\r\n"
        f"Final-Recipient: rfc822; {recipient}\r\nAction: {action}\r\n{fields}\r\n"
        "--b\r\nContent-Type: text/rfc822-headers\r\n\r\n"
        f"{returned}Subject: Hi\r\n\r\n--b--\r\n"
    ).encode()


def make_mdn(recipient: str, message_id: str, disposition: str = "displayed") -> bytes:
    """A notification of reading. Source: RFC 8098 s3"""
    return (
        f"From: {recipient}\r\nTo: {OWN}\r\nSubject: Read\r\n"
        "Content-Type: multipart/report; report-type=disposition-notification; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: text/plain\r\n\r\nRead.\r\n"
        "--b\r\nContent-Type: message/disposition-notification\r\n\r\n"
        f"Final-Recipient: rfc822;{recipient}\r\nOriginal-Message-ID: <{message_id}>\r\n"
        f"Disposition: manual-action/MDN-sent-manually; {disposition}\r\n\r\n--b--\r\n"
    ).encode()


async def arrive(sender: Sender, raw: bytes) -> str:
    """The message comes in as the mirror brings it; gives the id of its blob."""
    world = sender.world
    account_id = AccountId(world.account_id)
    blob = await world.services.blobs.put(account_id, raw)

    async def write(tx: Tx) -> None:
        arrival = parse_arrival(raw, blob.id)
        await apply_arrivals(tx, [NewEmail(arrival, (MailboxId(sender.drafts),), (), 0)])
        await apply_reports(tx, [arrival])

    await transact(world.services, account_id, "test", write, "provider")
    for device in world.devices:
        await device.sync()
    return str(blob.id)


async def send(sender: Sender, *recipients: str) -> tuple[str, str]:
    """A message that went out; gives the id of its submission and its Message-ID."""
    draft = await sender.draft()
    envelope = {
        "mailFrom": {"email": OWN},
        "rcptTo": [{"email": one} for one in recipients or (FRIEND,)],
    }
    id = await sender.submit({"emailId": draft, "envelope": envelope})
    await sender.turn()
    got = await sender.world.call("Email/get", ids=[draft], properties=["messageId"])
    return id, got["list"][0]["messageId"][0]


async def load(sender: Sender, id: str) -> dict[str, Any]:
    got = await sender.world.call("EmailSubmission/get", ids=[id])
    return dict(got["list"][0])


async def test_a_bounce_with_the_envelope_id_says_that_delivery_failed(sender: Sender) -> None:
    id, _ = await send(sender)
    assert sender.outbox.taken[0][0].parameters == {"ENVID": id}
    before = (await sender.world.call("EmailSubmission/get", ids=[]))["state"]
    blob_id = await arrive(sender, make_dsn(envelope_id=id))
    obj = await load(sender, id)
    assert obj["dsnBlobIds"] == [blob_id]
    assert obj["mdnBlobIds"] == []
    assert obj["deliveryStatus"][FRIEND] == {
        "smtpReply": "550 5.1.1 No such user",
        "delivered": "no",
        "displayed": "unknown",
    }
    assert obj["undoStatus"] == "final"
    changes = await sender.world.call("EmailSubmission/changes", sinceState=before)
    assert changes["updated"] == [id]


async def test_a_bounce_is_found_by_the_message_id_of_what_it_returns(sender: Sender) -> None:
    id, message_id = await send(sender)
    await arrive(sender, make_dsn(message_id=message_id))
    assert await sender.status(id) == ("final", "final", {"no"})


@pytest.mark.parametrize(
    ("action", "fields", "delivered", "reply"),
    [
        ("delivered", "Status: 2.1.5\r\n", "yes", "250 2.1.5 A delivery report says: delivered"),
        ("relayed", "Status: 2.0.0\r\n", "unknown", "250 2.0.0 A delivery report says: relayed"),
        ("delayed", "Status: 4.4.1\r\nDiagnostic-Code: smtp; 451 4.4.1 Later\r\n", "unknown",
         "451 4.4.1 Later"),
        ("failed", "Diagnostic-Code: X-Unix; 67\r\n", "no",
         "550 5.0.0 A delivery report says: failed"),
        ("FAILED (really)", "Status: 5.2.2 (full)\r\nDiagnostic-Code: smtp; Mailbox is full\r\n",
         "no", "550 5.2.2 Mailbox is full"),
        ("failed", "Status: 5.7.1\r\nDiagnostic-Code: smtp; 550-5.7.1 spam,\r\n 550 sorry\r\n",
         "no", "550 5.7.1 spam, 550 sorry"),
        ("nonsense!", "Status: x\r\n", "unknown", "250 2.0.0 A delivery report says: reported"),
    ],
)  # fmt: skip
async def test_each_action_says_what_it_may(
    sender: Sender, action: str, fields: str, delivered: str, reply: str
) -> None:
    id, _ = await send(sender)
    await arrive(sender, make_dsn(action=action, fields=fields, envelope_id=id))
    status = (await load(sender, id))["deliveryStatus"][FRIEND]
    assert (status["delivered"], status["smtpReply"]) == (delivered, reply)


async def test_the_first_last_word_stays(sender: Sender) -> None:
    id, _ = await send(sender)
    first = await arrive(sender, make_dsn(action="delivered", envelope_id=id))
    second = await arrive(sender, make_dsn(action="failed", envelope_id=id))
    obj = await load(sender, id)
    assert obj["deliveryStatus"][FRIEND]["delivered"] == "yes"
    assert obj["dsnBlobIds"] == [first, second]


async def test_only_the_recipient_named_is_touched(sender: Sender) -> None:
    id, _ = await send(sender, *BOTH)
    await arrive(sender, make_dsn(BOTH[0].upper(), envelope_id=id))
    status = (await load(sender, id))["deliveryStatus"]
    assert [status[one]["delivered"] for one in BOTH] == ["no", "unknown"]


async def test_the_original_recipient_counts_before_where_it_was_forwarded(sender: Sender) -> None:
    id, _ = await send(sender, *BOTH)
    fields = f"Original-Recipient: rfc822;{BOTH[1]}\r\nStatus: 5.1.1\r\n"
    await arrive(sender, make_dsn("new@place.test", envelope_id=id, fields=fields))
    status = (await load(sender, id))["deliveryStatus"]
    assert [status[one]["delivered"] for one in BOTH] == ["unknown", "no"]


async def test_a_report_on_somebody_who_was_no_recipient_tells_nothing_of_others(
    sender: Sender,
) -> None:
    id, _ = await send(sender)
    blob_id = await arrive(sender, make_dsn("stranger@example.net", envelope_id=id))
    obj = await load(sender, id)
    assert obj["deliveryStatus"][FRIEND]["delivered"] == "unknown"
    assert obj["dsnBlobIds"] == [blob_id]


@pytest.mark.parametrize("named", [{}, {"envelope_id": "guess"}, {"message_id": "guess@x.test"}])
async def test_a_report_on_something_else_changes_nothing(
    sender: Sender, named: dict[str, str]
) -> None:
    id, _ = await send(sender)
    before = await load(sender, id)
    await arrive(sender, make_dsn(**named))
    assert await load(sender, id) == before


async def test_what_was_not_handed_over_cannot_have_bounced(sender: Sender) -> None:
    draft = await sender.draft()
    id = await sender.submit({"emailId": draft})
    got = await sender.world.call("Email/get", ids=[draft], properties=["messageId"])
    before = await load(sender, id)
    await arrive(sender, make_dsn(envelope_id=id, message_id=got["list"][0]["messageId"][0]))
    assert await load(sender, id) == before
    await sender.turn()
    assert len(sender.outbox.taken) == 1


async def test_a_recipient_still_waiting_keeps_waiting(sender: Sender) -> None:
    sender.outbox.answers = {BOTH[1]: "451 4.2.0 Later"}
    id, _ = await send(sender, *BOTH)
    await arrive(sender, make_dsn(BOTH[1], envelope_id=id))
    assert (await load(sender, id))["deliveryStatus"][BOTH[1]]["delivered"] == "queued"
    sender.outbox.answers = {}
    await sender.turn(limits.CHANGE_LOG_KEPT_MS)
    assert (await load(sender, id))["deliveryStatus"][BOTH[1]]["delivered"] == "unknown"


async def test_what_a_device_imports_proves_nothing(sender: Sender) -> None:
    id, _ = await send(sender)
    before = await load(sender, id)
    await sender.world.add_email(sender.drafts, make_dsn(envelope_id=id))
    assert await load(sender, id) == before


async def test_of_two_sendings_of_one_message_the_one_with_the_recipient_is_meant(
    sender: Sender,
) -> None:
    draft = await sender.draft()
    ids = []
    for one in BOTH:
        envelope = {"mailFrom": {"email": OWN}, "rcptTo": [{"email": one}]}
        ids.append(await sender.submit({"emailId": draft, "envelope": envelope}))
    await sender.turn()
    got = await sender.world.call("Email/get", ids=[draft], properties=["messageId"])
    await arrive(sender, make_dsn(BOTH[0], message_id=got["list"][0]["messageId"][0]))
    assert await sender.status(ids[0]) == ("final", "final", {"no"})
    assert await sender.status(ids[1]) == ("final", "final", {"unknown"})


async def test_a_notification_of_reading_is_told(sender: Sender) -> None:
    id, message_id = await send(sender, *BOTH)
    blob_id = await arrive(sender, make_mdn(BOTH[1], message_id))
    obj = await load(sender, id)
    assert obj["mdnBlobIds"] == [blob_id]
    assert [obj["deliveryStatus"][one]["displayed"] for one in BOTH] == ["unknown", "yes"]
    assert [obj["deliveryStatus"][one]["delivered"] for one in BOTH] == ["unknown", "unknown"]


@pytest.mark.parametrize("disposition", ["deleted", "dispatched", "processed/error", "", "x"])
async def test_other_dispositions_are_kept_but_say_nothing(
    sender: Sender, disposition: str
) -> None:
    id, message_id = await send(sender)
    blob_id = await arrive(sender, make_mdn(FRIEND, message_id, disposition))
    obj = await load(sender, id)
    assert obj["mdnBlobIds"] == [blob_id]
    assert obj["deliveryStatus"][FRIEND]["displayed"] == "unknown"


async def test_a_flood_of_reports_is_kept_within_bounds(sender: Sender) -> None:
    id, _ = await send(sender)
    for number in range(REPORTS_KEPT_MAX + 5):
        dsn = make_dsn(envelope_id=id, action="delayed", fields=f"X-Number: {number}\r\n")
        await arrive(sender, dsn)
    assert len((await load(sender, id))["dsnBlobIds"]) == REPORTS_KEPT_MAX


async def test_the_envelope_id_a_device_gave_is_the_one_that_counts(sender: Sender) -> None:
    mail_from = {"email": OWN, "parameters": {"EnvId": "mine"}}
    envelope = {"mailFrom": mail_from, "rcptTo": [{"email": FRIEND}]}
    id = await sender.submit({"emailId": await sender.draft(), "envelope": envelope})
    await sender.turn()
    assert sender.outbox.taken[0][0].parameters == {"EnvId": "mine"}
    await arrive(sender, make_dsn(envelope_id="mine"))
    assert await sender.status(id) == ("final", "final", {"no"})
