"""What submission servers do, and what becomes of the message. Source: RFC 8621 s7"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.jmap.mail.test_submission import FRIEND, SETTINGS, Sender, make_sender
from tests.world import World
from tindra.base import limits
from tindra.base.ids import AccountId
from tindra.sync.ports import (
    AuthRevoked,
    ProviderError,
    Rejected,
    Throttled,
    Transient,
)
from tindra.sync.submission import (
    RecipientReply,
    Route,
    Uncertain,
    strip_bcc,
)


@pytest.fixture
def sender(world: World, runner: asyncio.Runner) -> Sender:
    return runner.run(make_sender(world))


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
