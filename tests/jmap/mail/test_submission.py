"""EmailSubmission and its way to a server. Source: RFC 8621 s7"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.jmap.mail_fixture import (
    OWN,
    TEXT,
    VALUES,
    create_email,
    get_email,
    make_raw,
)
from tests.world import World
from tindra.base.ids import AccountId
from tindra.sync.ports import (
    ServerSettings,
)
from tindra.sync.submission import (
    Envelope,
    RecipientReply,
    Route,
    SubmissionRunner,
)

FRIEND = "zoe@example.net"
SETTINGS = ServerSettings("smtp.test", 465, "implicit", OWN)


class Outbox:
    """A submission server as the runner sees one: scripted, and it counts what it took."""

    def __init__(self) -> None:
        self.taken: list[tuple[Envelope, bytes]] = []
        self.calls = 0
        self.answers: dict[str, str] = {}
        """Recipient -> reply instead of 250."""
        self.error: BaseException | None = None
        """Raised before anything is sent."""
        self.late_error: BaseException | None = None
        """Raised after the message went over the line."""
        self.between: Callable[[], Awaitable[None]] | None = None
        """Done while the server thinks about the recipients."""

    async def submit(
        self,
        settings: ServerSettings,
        password: str,
        envelope: Envelope,
        raw: bytes,
        before_data: Callable[[], Awaitable[None]],
    ) -> list[RecipientReply]:
        self.calls += 1
        assert (settings, password) == (SETTINGS, "secret")
        if self.error is not None:
            raise self.error
        if self.between is not None:
            await self.between()
        replies = []
        for one in envelope.recipients:
            text = self.answers.get(one.email, "250 2.1.5 Ok")
            replies.append(RecipientReply(one.email, int(text[:3]), text))
        if any(reply.code < 300 for reply in replies):
            await before_data()
            self.taken.append((envelope, raw))
            if self.late_error is not None:
                raise self.late_error
        return replies


class Sender:
    """A world with an Identity, a draft and a way out."""

    def __init__(self, world: World, identity_id: str, drafts: str) -> None:
        self.world = world
        self.identity_id = identity_id
        self.drafts = drafts
        self.outbox = Outbox()
        self.route: Route | None = Route(SETTINGS, "secret")
        self.runner = self.make_runner()

    def make_runner(self) -> SubmissionRunner:
        """What a fresh process would have."""

        async def load_route(account_id: AccountId) -> Route | None:
            assert account_id == self.world.account_id
            return self.route

        return SubmissionRunner(self.world.services, self.outbox, load_route)

    async def draft(self, **properties: Any) -> str:
        """An Email ready to be sent; gives its id."""
        given: dict[str, Any] = {
            "from": [{"name": "Alex", "email": OWN}],
            "to": [{"name": None, "email": FRIEND}],
            "subject": "Hi",
            "keywords": {"$draft": True},
            "textBody": [TEXT],
            "bodyValues": VALUES,
        }
        return await create_email(self.world, self.drafts, **(given | properties))

    async def set_submission(self, obj: dict[str, Any], **arguments: Any) -> list[Any]:
        """The responses of a create."""
        given = {"identityId": self.identity_id} | obj
        call = ["EmailSubmission/set", {"create": {"k": given}} | arguments, "0"]
        return await self.world.calls([call])

    async def submit(self, obj: dict[str, Any] | None = None) -> str:
        """A submission that must be accepted; gives its id."""
        given = obj or {"emailId": await self.draft()}
        [[_, made, _]] = await self.set_submission(given)
        assert made["created"], made
        return str(made["created"]["k"]["id"])

    async def refuse(self, obj: dict[str, Any]) -> dict[str, Any]:
        """The SetError of a submission that must not be accepted."""
        [[name, made, _]] = await self.set_submission(obj)
        assert name == "EmailSubmission/set", made
        assert made["created"] is None, made
        return dict(made["notCreated"]["k"])

    async def get(self, id: str) -> dict[str, Any]:
        """The object with everything a device can see."""
        names = ["undoStatus", "deliveryStatus", "sendAt", "envelope", "emailId", "sendState"]
        got = await self.world.call("EmailSubmission/get", ids=[id], properties=names)
        return dict(got["list"][0])

    async def turn(self, wait_ms: int = 0) -> None:
        """Let time pass, then let the consumer work."""
        self.world.clock.advance(wait_ms)
        await self.runner.run_turn(AccountId(self.world.account_id))

    async def status(self, id: str) -> tuple[str, str, set[str]]:
        """undoStatus, sendState and what is told of delivery."""
        obj = await self.get(id)
        told = {item["delivered"] for item in obj["deliveryStatus"].values()}
        return obj["undoStatus"], obj["sendState"], told


async def make_sender(world: World) -> Sender:
    """Somebody with an Identity and a Mailbox for drafts."""
    drafts = await world.add_mailbox("Drafts", role="drafts")
    made = await world.call("Identity/set", create={"i": {"email": OWN, "name": "Alex"}})
    return Sender(world, made["created"]["i"]["id"], drafts)


@pytest.fixture
def sender(world: World, runner: asyncio.Runner) -> Sender:
    return runner.run(make_sender(world))


# --- creating -----------------------------------------------------------------------------------


async def test_the_answer_names_what_the_server_set(sender: Sender) -> None:
    email_id = await sender.draft()
    [[_, made, _]] = await sender.set_submission({"emailId": email_id})
    told = made["created"]["k"]
    thread_id = (await get_email(sender.world, email_id, "threadId"))["threadId"]
    waiting = {
        "smtpReply": "250 2.0.0 Waiting to be sent",
        "delivered": "queued",
        "displayed": "unknown",
    }
    assert {k: v for k, v in told.items() if k != "id"} == {
        "threadId": thread_id,
        "envelope": {
            "mailFrom": {"email": OWN, "parameters": None},
            "rcptTo": [{"email": FRIEND, "parameters": None}],
        },
        "sendAt": "2026-09-21T14:13:20Z",
        "undoStatus": "pending",
        "deliveryStatus": {FRIEND: waiting},
        "dsnBlobIds": [],
        "mdnBlobIds": [],
    }
    got = (await sender.world.call("EmailSubmission/get", ids=[told["id"]]))["list"][0]
    assert got == told | {"emailId": email_id, "identityId": sender.identity_id}


async def test_the_message_arrives_at_the_server_once(sender: Sender) -> None:
    email_id = await sender.draft()
    id = await sender.submit({"emailId": email_id})
    await sender.turn()
    await sender.turn(10_000_000)
    [(envelope, raw)] = sender.outbox.taken
    assert envelope.mail_from == OWN
    assert [one.email for one in envelope.recipients] == [FRIEND]
    blob_id = (await get_email(sender.world, email_id, "blobId"))["blobId"]
    assert raw == await sender.world.services.blobs.get(sender.world.account_id, blob_id)
    assert await sender.status(id) == ("final", "final", {"unknown"})
    reply = (await sender.get(id))["deliveryStatus"][FRIEND]["smtpReply"]
    assert reply == "250 2.1.5 Ok"


async def test_every_recipient_of_to_cc_and_bcc_is_addressed_once(sender: Sender) -> None:
    email_id = await sender.draft(
        to=[{"email": "a@x.test"}, {"email": "b@x.test"}],
        cc=[{"email": "A@X.test"}, {"email": "c@x.test"}],
        bcc=[{"email": "d@x.test"}],
    )
    await sender.submit({"emailId": email_id})
    await sender.turn()
    [(envelope, raw)] = sender.outbox.taken
    emails = [one.email for one in envelope.recipients]
    assert emails == ["a@x.test", "b@x.test", "c@x.test", "d@x.test"]
    assert b"bcc" not in raw.lower()
    assert b"d@x.test" not in raw


async def test_the_sender_field_goes_before_from(sender: Sender) -> None:
    await sender.world.call("Identity/set", create={"b": {"email": "boss@example.org"}})
    email_id = await sender.draft(
        **{"from": [{"email": "boss@example.org"}, {"email": OWN}], "sender": [{"email": OWN}]}
    )
    id = await sender.submit({"emailId": email_id})
    assert (await sender.get(id))["envelope"]["mailFrom"]["email"] == OWN


async def test_a_writer_the_identity_does_not_speak_for_is_replaced(sender: Sender) -> None:
    await sender.world.call("Identity/set", create={"b": {"email": "boss@example.org"}})
    email_id = await sender.draft(**{"from": [{"email": "boss@example.org"}]})
    id = await sender.submit({"emailId": email_id})
    assert (await sender.get(id))["envelope"]["mailFrom"]["email"] == OWN


async def test_an_identity_of_a_domain_speaks_for_all_of_it(sender: Sender) -> None:
    made = await sender.world.call("Identity/set", create={"b": {"email": "*@Team.test"}})
    identity_id = made["created"]["b"]["id"]
    email_id = await sender.draft(**{"from": [{"email": "sales@team.TEST"}]})
    id = await sender.submit({"emailId": email_id, "identityId": identity_id})
    assert (await sender.get(id))["envelope"]["mailFrom"]["email"] == "sales@team.TEST"
    own = {"emailId": await sender.draft(), "identityId": identity_id}
    assert (await sender.refuse(own))["type"] == "forbiddenMailFrom"


async def test_a_given_envelope_is_used_as_it_is(sender: Sender) -> None:
    envelope = {
        "mailFrom": {"email": OWN, "parameters": {"ENVID": "a b", "RET": "HDRS"}},
        "rcptTo": [
            {"email": "list@x.test", "parameters": {"NOTIFY": "FAILURE,DELAY"}},
            {"email": "list@x.test"},
        ],
    }
    id = await sender.submit({"emailId": await sender.draft(), "envelope": envelope})
    await sender.turn()
    [(sent, _)] = sender.outbox.taken
    assert [one.email for one in sent.recipients] == ["list@x.test"]
    assert sent.recipients[0].parameters == {"NOTIFY": "FAILURE,DELAY"}
    assert sent.parameters == {"ENVID": "a b", "RET": "HDRS"}
    assert (await sender.get(id))["envelope"]["rcptTo"][0]["email"] == "list@x.test"


async def test_an_empty_return_path_is_allowed(sender: Sender) -> None:
    envelope = {"mailFrom": {"email": ""}, "rcptTo": [{"email": FRIEND}]}
    await sender.submit({"emailId": await sender.draft(), "envelope": envelope})
    await sender.turn()
    assert sender.outbox.taken[0][0].mail_from == ""


async def test_somebody_elses_message_can_be_redirected_with_resent_fields(
    sender: Sender,
) -> None:
    raw = f"Resent-From: {OWN}\r\nResent-To: {FRIEND}\r\n".encode() + make_raw(Date="")
    email_id = await sender.world.add_email(sender.drafts, raw)
    envelope = {"mailFrom": {"email": OWN}, "rcptTo": [{"email": FRIEND}]}
    assert await sender.submit({"emailId": email_id, "envelope": envelope})
