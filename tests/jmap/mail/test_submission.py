"""EmailSubmission and its way to a server. Source: RFC 8621 s7, data.md rule 9"""

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
    encode,
    get_email,
    make_raw,
    only_rights,
)
from tests.world import World
from tindra.base import limits
from tindra.base.ids import AccountId
from tindra.features.mail import submission as feature
from tindra.features.mail.writing.envelope import HOLD_SECONDS_MAX, RECIPIENTS_MAX
from tindra.sync.ports import (
    AuthRevoked,
    ProviderError,
    Rejected,
    ServerSettings,
    Throttled,
    Transient,
)
from tindra.sync.submission import (
    Envelope,
    RecipientReply,
    Route,
    SubmissionRunner,
    Uncertain,
    strip_bcc,
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


# --- refusing -----------------------------------------------------------------------------------


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


# --- afterwards ---------------------------------------------------------------------------------


async def test_success_updates_the_email_by_an_implicit_call(sender: Sender) -> None:
    sent = await sender.world.add_mailbox("Sent", role="sent")
    email_id = await sender.draft()
    patch = {
        f"mailboxIds/{sender.drafts}": None,
        f"mailboxIds/{sent}": True,
        "keywords/$draft": None,
    }
    responses = await sender.set_submission(
        {"emailId": email_id}, onSuccessUpdateEmail={"#k": patch}
    )
    [[_, made, first], [name, updated, second]] = responses
    assert made["created"]
    assert (name, first, second) == ("Email/set", "0", "0")
    assert updated["updated"] == {email_id: None}
    got = await get_email(sender.world, email_id, "mailboxIds", "keywords")
    assert (got["mailboxIds"], got["keywords"]) == ({sent: True}, {})


async def test_success_destroys_the_email_and_it_is_sent_all_the_same(sender: Sender) -> None:
    email_id = await sender.draft()
    [_, [_, destroyed, _]] = await sender.set_submission(
        {"emailId": email_id}, onSuccessDestroyEmail=["#k"]
    )
    assert destroyed["destroyed"] == [email_id]
    await sender.turn()
    assert b"Subject: Hi" in sender.outbox.taken[0][1]


async def test_failure_touches_no_email(sender: Sender) -> None:
    email_id = await sender.draft(to=[])
    responses = await sender.set_submission(
        {"emailId": email_id},
        onSuccessUpdateEmail={"#k": {"keywords/$draft": None}},
        onSuccessDestroyEmail=["#k"],
    )
    assert [name for name, _, _ in responses] == ["EmailSubmission/set"]
    got = await get_email(sender.world, email_id, "keywords")
    assert got["keywords"] == {"$draft": True}


async def test_an_earlier_success_under_the_same_creation_id_does_not_count(
    sender: Sender,
) -> None:
    good, bad = await sender.draft(), await sender.draft(to=[])
    calls = [
        ["EmailSubmission/set", {"create": {"k": obj}}, "0"]
        for obj in ({"identityId": sender.identity_id, "emailId": good},)
    ]
    again = {"identityId": sender.identity_id, "emailId": bad}
    call = {"create": {"k": again}, "onSuccessDestroyEmail": ["#k"]}
    calls.append(["EmailSubmission/set", call, "1"])
    answers = await sender.world.calls(calls)
    assert [answer[0] for answer in answers] == ["EmailSubmission/set"] * 2
    assert (await sender.world.call("Email/get", ids=[good, bad]))["notFound"] == []


async def test_canceling_may_put_the_draft_back(sender: Sender) -> None:
    email_id = await sender.draft(keywords={})
    id = await sender.submit({"emailId": email_id})
    call = {
        "update": {id: {"undoStatus": "canceled"}},
        "onSuccessUpdateEmail": {id: {"keywords/$draft": True}},
    }
    [_, [name, updated, _]] = await sender.world.calls([["EmailSubmission/set", call, "0"]])
    assert (name, updated["updated"]) == ("Email/set", {email_id: None})


async def test_one_email_both_patched_twice_is_patched_once_with_all(sender: Sender) -> None:
    email_id = await sender.draft()
    obj = {"identityId": sender.identity_id, "emailId": email_id}
    call = {
        "create": {"a": obj, "b": obj},
        "onSuccessUpdateEmail": {"#a": {"keywords/a": True}, "#b": {"keywords/b": True}},
    }
    responses = await sender.world.calls([["EmailSubmission/set", call, "0"]])
    assert responses[1][1]["updated"] == {email_id: None}
    got = await get_email(sender.world, email_id, "keywords")
    assert got["keywords"] == {"$draft": True, "a": True, "b": True}


@pytest.mark.parametrize(
    "arguments",
    [
        {"onSuccessUpdateEmail": []},
        {"onSuccessUpdateEmail": {"#k": 3}},
        {"onSuccessDestroyEmail": {}},
        {"onSuccessDestroyEmail": [3]},
        {"onSuccess": {}},
    ],
)
async def test_wrong_arguments_send_nothing(sender: Sender, arguments: dict[str, Any]) -> None:
    [[name, error, _]] = await sender.set_submission({"emailId": await sender.draft()}, **arguments)
    assert (name, error["type"]) == ("error", "invalidArguments")
    await sender.turn()
    assert sender.outbox.calls == 0


async def test_an_email_made_in_the_same_request_can_be_sent(sender: Sender) -> None:
    obj = {
        "mailboxIds": {sender.drafts: True},
        "from": [{"email": OWN}],
        "to": [{"email": FRIEND}],
    }
    calls = [
        ["Email/set", {"create": {"d": obj}}, "0"],
        [
            "EmailSubmission/set",
            {"create": {"s": {"identityId": sender.identity_id, "emailId": "#d"}}},
            "1",
        ],
    ]
    answers = await sender.world.calls(calls)
    assert answers[1][1]["created"]["s"]["emailId"] == answers[0][1]["created"]["d"]["id"]


# --- undo and send later ------------------------------------------------------------------------


async def test_a_canceled_message_is_never_sent(sender: Sender) -> None:
    id = await sender.submit()
    made = await sender.world.call("EmailSubmission/set", update={id: {"undoStatus": "canceled"}})
    assert made["updated"][id]["deliveryStatus"][FRIEND]["delivered"] == "no"
    assert "sendState" not in encode(made)
    await sender.turn()
    await sender.turn(10_000_000)
    assert sender.outbox.calls == 0
    assert await sender.status(id) == ("canceled", "canceled", {"no"})


async def test_canceling_while_the_server_is_asked_still_works(sender: Sender) -> None:
    id = await sender.submit()

    async def cancel() -> None:
        made = await sender.world.call(
            "EmailSubmission/set", update={id: {"undoStatus": "canceled"}}
        )
        assert made["updated"]

    sender.outbox.between = cancel
    await sender.turn()
    await sender.turn(10_000_000)
    assert sender.outbox.taken == []
    assert (await sender.status(id))[:2] == ("canceled", "canceled")


async def test_what_is_sent_or_being_sent_cannot_be_unsent(sender: Sender) -> None:
    id = await sender.submit()
    patch = {"undoStatus": "canceled"}
    sender.outbox.late_error = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await sender.turn()
    made = await sender.world.call("EmailSubmission/set", update={id: patch})
    assert made["notUpdated"][id]["type"] == "cannotUnsend"
    await sender.turn()
    made = await sender.world.call("EmailSubmission/set", update={id: patch})
    assert made["notUpdated"][id]["type"] == "cannotUnsend"


@pytest.mark.parametrize(
    "patch",
    [
        {"undoStatus": "final"},
        {"undoStatus": "gone"},
        {"emailId": "e1"},
        {"sendAt": "2026-01-01T00:00:00Z"},
        {"sendState": "final"},
        {"blobId": "b1"},
        {"deliveryStatus": None},
        {"envelope/mailFrom/email": "x@y.test"},
    ],
)
async def test_nothing_else_can_be_changed(sender: Sender, patch: dict[str, Any]) -> None:
    id = await sender.submit()
    made = await sender.world.call("EmailSubmission/set", update={id: patch})
    assert made["notUpdated"][id]["type"] == "invalidProperties"


async def test_a_whole_object_may_be_sent_back_unchanged(sender: Sender) -> None:
    id = await sender.submit()
    whole = (await sender.world.call("EmailSubmission/get", ids=[id]))["list"][0]
    assert (await sender.world.call("EmailSubmission/set", update={id: whole}))["updated"]


@pytest.mark.parametrize(
    "parameters", [{"HOLDFOR": "3600"}, {"holduntil": "2026-09-21T17:13:20+02:00"}]
)
async def test_a_message_for_later_waits_for_its_moment(
    sender: Sender, parameters: dict[str, str]
) -> None:
    envelope = {
        "mailFrom": {"email": OWN, "parameters": parameters},
        "rcptTo": [{"email": FRIEND}],
    }
    id = await sender.submit({"emailId": await sender.draft(), "envelope": envelope})
    assert (await sender.get(id))["sendAt"] == "2026-09-21T15:13:20Z"
    await sender.turn()
    await sender.turn(3_599_999)
    assert sender.outbox.calls == 0
    await sender.turn(1)
    assert len(sender.outbox.taken) == 1


async def test_a_moment_in_the_past_is_now(sender: Sender) -> None:
    envelope = {
        "mailFrom": {"email": OWN, "parameters": {"HOLDUNTIL": "2001-01-01T00:00:00Z"}},
        "rcptTo": [{"email": FRIEND}],
    }
    id = await sender.submit({"emailId": await sender.draft(), "envelope": envelope})
    assert (await sender.get(id))["sendAt"] == "2026-09-21T14:13:20Z"


async def test_a_canceled_message_for_next_month_leaves_the_outbox_at_once(
    sender: Sender,
) -> None:
    envelope = {
        "mailFrom": {"email": OWN, "parameters": {"HOLDFOR": "2592000"}},
        "rcptTo": [{"email": FRIEND}],
    }
    id = await sender.submit({"emailId": await sender.draft(), "envelope": envelope})
    await sender.world.call("EmailSubmission/set", update={id: {"undoStatus": "canceled"}})
    await sender.turn()
    now_ms = sender.world.clock.now_ms() + 10**12
    due = await sender.world.services.store.list_due(now_ms, 10)
    assert sender.world.account_id not in due


# --- what servers do ----------------------------------------------------------------------------


async def test_a_lost_answer_is_uncertain_and_never_sent_again(sender: Sender) -> None:
    id = await sender.submit()
    sender.outbox.late_error = Uncertain("lost")
    await sender.turn()
    assert await sender.status(id) == ("final", "uncertain", {"unknown"})
    sender.outbox.late_error = None
    await sender.turn(10_000_000)
    assert len(sender.outbox.taken) == 1


async def test_a_crash_between_the_message_and_its_answer_is_uncertain(sender: Sender) -> None:
    id = await sender.submit()
    sender.outbox.late_error = RuntimeError("the process dies here")
    with pytest.raises(RuntimeError):
        await sender.turn()
    assert (await sender.status(id))[1] == "sending"
    sender.outbox.late_error = None
    sender.runner = sender.make_runner()
    await sender.turn()
    await sender.turn(10_000_000)
    assert len(sender.outbox.taken) == 1
    assert await sender.status(id) == ("final", "uncertain", {"unknown"})


async def test_a_crash_before_the_message_goes_out_sends_it_later(sender: Sender) -> None:
    id = await sender.submit()
    sender.outbox.error = RuntimeError("the process dies here")
    with pytest.raises(RuntimeError):
        await sender.turn()
    sender.outbox.error = None
    sender.runner = sender.make_runner()
    await sender.turn()
    assert len(sender.outbox.taken) == 1
    assert (await sender.status(id))[1] == "final"


async def test_a_second_turn_leaves_alone_what_the_first_one_holds(sender: Sender) -> None:
    await sender.submit()

    async def meddle() -> None:
        await sender.runner.run_turn(AccountId(sender.world.account_id))

    sender.outbox.between = meddle
    await sender.turn()
    assert sender.outbox.calls == 1


async def test_the_truth_of_a_slow_worker_replaces_the_doubt_of_another(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await sender.submit()
    other = sender.make_runner()
    whole = sender.outbox.submit

    async def slow(*args: Any) -> list[RecipientReply]:
        replies = await whole(*args)
        await other.run_turn(AccountId(sender.world.account_id))
        assert (await sender.status(id))[1] == "uncertain"
        return replies

    monkeypatch.setattr(sender.outbox, "submit", slow)
    await sender.turn()
    assert await sender.status(id) == ("final", "final", {"unknown"})
    assert sender.outbox.calls == 1


@pytest.mark.parametrize(
    "error",
    [
        Transient("down", server_words="421 4.3.2 Down for a moment"),
        Throttled("slowly", retry_after_ms=60_000),
        AuthRevoked("password"),
    ],
)
async def test_a_server_that_cannot_now_is_asked_again_later(
    sender: Sender, error: ProviderError
) -> None:
    id = await sender.submit()
    sender.outbox.error = error
    await sender.turn()
    assert await sender.status(id) == ("pending", "pending", {"queued"})
    reply = (await sender.get(id))["deliveryStatus"][FRIEND]["smtpReply"]
    assert reply == (error.server_words or f"451 4.0.0 {error.message}")
    await sender.turn(10_000)
    assert sender.outbox.calls == 1
    sender.outbox.error = None
    await sender.turn(400_000)
    assert len(sender.outbox.taken) == 1
    assert (await sender.status(id))[1] == "final"


async def test_a_message_nobody_takes_is_given_up_after_some_hours(sender: Sender) -> None:
    id = await sender.submit()
    sender.outbox.error = Transient("down")
    for _ in range(limits.OUTBOX_TRIES_MAX + 5):
        await sender.turn(3_600_000)
    assert sender.outbox.calls == limits.OUTBOX_TRIES_MAX
    assert await sender.status(id) == ("final", "final", {"no"})


async def test_without_a_way_out_the_message_waits(sender: Sender) -> None:
    id = await sender.submit()
    sender.route = None
    await sender.turn()
    assert await sender.status(id) == ("pending", "pending", {"queued"})
    sender.route = Route(SETTINGS, "secret")
    await sender.turn(60_000)
    assert len(sender.outbox.taken) == 1


async def test_a_refused_message_is_final_at_once(sender: Sender) -> None:
    id = await sender.submit()
    sender.outbox.error = Rejected("too big", server_words="552 5.3.4 Too large")
    await sender.turn()
    assert await sender.status(id) == ("final", "final", {"no"})
    await sender.turn(10_000_000)
    assert sender.outbox.calls == 1


async def test_recipients_that_are_put_off_are_tried_alone(sender: Sender) -> None:
    names = ["good@x.test", "later@x.test", "never@x.test"]
    id = await sender.submit({"emailId": await sender.draft(to=[{"email": n} for n in names])})
    sender.outbox.answers = {
        "later@x.test": "451 4.7.1 Greylisted",
        "never@x.test": "550 5.1.1 Nobody",
    }
    await sender.turn()
    assert await sender.status(id) == ("final", "pending", {"unknown", "queued", "no"})
    made = await sender.world.call("EmailSubmission/set", update={id: {"undoStatus": "canceled"}})
    assert made["notUpdated"][id]["type"] == "cannotUnsend"
    sender.outbox.answers = {}
    await sender.turn(60_000)
    [_, (second, _)] = sender.outbox.taken
    assert [one.email for one in second.recipients] == ["later@x.test"]
    assert await sender.status(id) == ("final", "final", {"unknown", "no"})


async def test_a_recipient_put_off_for_ever_is_told_as_not_delivered(sender: Sender) -> None:
    id = await sender.submit()
    sender.outbox.answers = {FRIEND: "451 4.7.1 Greylisted"}
    for _ in range(limits.OUTBOX_TRIES_MAX + 1):
        await sender.turn(3_600_000)
    assert await sender.status(id) == ("final", "final", {"no"})
    assert sender.outbox.taken == []


async def test_a_submission_that_vanished_is_forgotten(sender: Sender) -> None:
    id = await sender.submit()
    await sender.world.call("EmailSubmission/set", update={id: {"undoStatus": "canceled"}})
    await sender.world.call("EmailSubmission/set", destroy=[id])
    await sender.turn()
    assert sender.outbox.calls == 0


# --- keeping, querying --------------------------------------------------------------------------


async def test_it_cannot_be_forgotten_before_it_is_sent(sender: Sender) -> None:
    id = await sender.submit()
    made = await sender.world.call("EmailSubmission/set", destroy=[id])
    assert made["notDestroyed"][id]["type"] == "forbidden"
    await sender.turn()
    assert (await sender.world.call("EmailSubmission/set", destroy=[id]))["destroyed"] == [id]


async def test_the_oldest_finished_ones_make_room(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature, "SUBMISSIONS_KEPT_MAX", 3)
    monkeypatch.setattr(feature, "_SUBMISSIONS_LEFT", 2)
    email_id = await sender.draft()
    ids = []
    for number in range(4):
        ids.append(await sender.submit({"emailId": email_id}))
        if number != 0:
            await sender.turn()
        else:
            sender.outbox.error = Transient("down")
            await sender.turn()
            sender.outbox.error = None
    kept = {obj["id"] for obj in (await sender.world.call("EmailSubmission/get"))["list"]}
    assert kept == {ids[0], ids[2], ids[3]}


async def test_what_only_the_server_knows_is_not_told(sender: Sender) -> None:
    await sender.submit()
    got = await sender.world.call("EmailSubmission/get", ids=None)
    assert got["list"][0].keys().isdisjoint({"blobId", "sendState"})
    error = await sender.world.fail("EmailSubmission/get", properties=["blobId"])
    assert error["type"] == "invalidArguments"


async def test_submissions_are_filtered_and_sorted(sender: Sender) -> None:
    emails = [await sender.draft(subject=str(number)) for number in range(3)]
    ids = []
    for email_id in emails:
        ids.append(await sender.submit({"emailId": email_id}))
        sender.world.clock.advance(60_000)
    await sender.world.call("EmailSubmission/set", update={ids[1]: {"undoStatus": "canceled"}})

    async def query(filter: Any = None, *sort: str) -> list[str]:
        comparators = [{"property": s.lstrip("-"), "isAscending": s[0] != "-"} for s in sort]
        got = await sender.world.call(
            "EmailSubmission/query", filter=filter, sort=comparators or None
        )
        return list(got["ids"])

    thread_id = (await get_email(sender.world, emails[2], "threadId"))["threadId"]
    assert await query({"undoStatus": "canceled"}) == [ids[1]]
    assert await query({"emailIds": [emails[0], "e1"]}) == [ids[0]]
    assert await query({"threadIds": [thread_id]}) == [ids[2]]
    assert await query({"identityIds": ["i1"]}) == []
    assert await query({"before": "2026-09-21T14:14:20Z"}) == [ids[0]]
    assert await query({"after": "2026-09-21T14:14:20Z"}, "sendAt") == ids[1:]
    either = [{"emailIds": [emails[0]]}, {"undoStatus": "canceled"}]
    assert await query({"operator": "OR", "conditions": either}, "-sentAt") == [ids[1], ids[0]]
    assert await query(None, "emailId", "threadId") == ids


@pytest.mark.parametrize(
    "filter",
    [
        {"before": "yesterday"},
        {"after": 3},
        {"emailIds": "e1"},
        {"identityIds": [3]},
        {"undoStatus": 1},
        {"operator": "AND", "conditions": [{"after": None}]},
    ],
)
async def test_a_wrong_filter_is_refused(sender: Sender, filter: dict[str, Any]) -> None:
    error = await sender.world.fail("EmailSubmission/query", filter=filter)
    assert error["type"] == "invalidArguments"


async def test_unknown_filters_and_sorts_have_their_own_errors(sender: Sender) -> None:
    error = await sender.world.fail("EmailSubmission/query", filter={"colour": 1})
    assert error["type"] == "unsupportedFilter"
    error = await sender.world.fail("EmailSubmission/query", sort=[{"property": "colour"}])
    assert error["type"] == "unsupportedSort"


async def test_changes_of_the_state_reach_devices(sender: Sender) -> None:
    id = await sender.submit()
    query = await sender.world.call("EmailSubmission/query", filter={"undoStatus": "pending"})
    assert query["ids"] == [id]
    state = (await sender.world.call("EmailSubmission/get", ids=[]))["state"]
    await sender.turn()
    changes = await sender.world.call("EmailSubmission/changes", sinceState=state)
    assert changes["updated"] == [id]
    moved = await sender.world.call(
        "EmailSubmission/queryChanges",
        filter={"undoStatus": "pending"},
        sinceQueryState=query["queryState"],
    )
    assert (moved["removed"], moved["added"]) == ([id], [])


# --- Bcc ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"Bcc: a@b\r\nTo: c\r\n\r\nBcc: body\r\n", b"To: c\r\n\r\nBcc: body\r\n"),
        (b"To: c\r\nbCC : a,\r\n\tb\r\n c\r\nX: y\r\n\r\n", b"To: c\r\nX: y\r\n\r\n"),
        (b"Resent-Bcc: a\nTo: c\n\nx", b"To: c\n\nx"),
        (b"Bccx: a\r\n\r\n", b"Bccx: a\r\n\r\n"),
        (b"Bcc: a", b""),
        (b"", b""),
        (b"\r\nBcc: a\r\n", b"\r\nBcc: a\r\n"),
    ],
)
def test_bcc_is_taken_out_of_the_header_only(raw: bytes, expected: bytes) -> None:
    assert strip_bcc(raw) == expected
