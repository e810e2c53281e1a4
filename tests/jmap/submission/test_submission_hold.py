"""Messages for later: kept by us, sent once, at their moment. Source: RFC 8621 s7, RFC 4865 s4"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.jmap.mail.test_submission import FRIEND, SETTINGS, Sender, make_sender
from tests.jmap.mail_fixture import OWN
from tests.world import SUBMISSION, World
from tindra.features.mail.submission import SUBMISSION_BYTES_MAX
from tindra.features.mail.writing.envelope import HOLD_SECONDS_MAX
from tindra.outside.smtp.commands import encode_mail_parameters
from tindra.sync.ports import Transient
from tindra.wire.jmap.date import encode_utc_date

HOUR_MS = 3_600_000
OFFERED = {"size": "1000", "dsn": "", "futurerelease": "86400 2030-01-01T00:00:00Z"}


@pytest.fixture
def sender(world: World, runner: asyncio.Runner) -> Sender:
    return runner.run(make_sender(world))


async def hold(sender: Sender, email_id: str = "", **parameters: str) -> str:
    """A message for later; gives the id of its submission."""
    envelope = {
        "mailFrom": {"email": OWN, "parameters": parameters or {"HOLDFOR": "3600"}},
        "rcptTo": [{"email": FRIEND}],
    }
    email_id = email_id or await sender.draft()
    return await sender.submit({"emailId": email_id, "envelope": envelope})


async def test_the_account_says_how_long_and_with_what(world: World) -> None:
    account = world.registry.capabilities[SUBMISSION].account
    assert account == {
        "maxDelayedSend": HOLD_SECONDS_MAX,
        "submissionExtensions": {
            "FUTURERELEASE": [], "DSN": [], "SIZE": [str(SUBMISSION_BYTES_MAX)],
        },
    }  # fmt: skip


async def test_another_process_sends_what_this_one_kept(sender: Sender) -> None:
    id = await hold(sender)
    await sender.turn()
    sender.runner = sender.make_runner()
    await sender.turn(HOUR_MS - 1)
    assert sender.outbox.calls == 0
    sender.runner = sender.make_runner()
    await sender.turn(1)
    sender.runner = sender.make_runner()
    await sender.turn(HOUR_MS)
    assert len(sender.outbox.taken) == 1
    assert await sender.status(id) == ("final", "final", {"unknown"})


async def test_a_clock_that_goes_back_sends_nothing_early_and_nothing_twice(
    sender: Sender,
) -> None:
    await hold(sender)
    await sender.turn(-24 * HOUR_MS)
    await sender.turn(24 * HOUR_MS)
    assert sender.outbox.calls == 0
    await sender.turn(HOUR_MS)
    await sender.turn(-24 * HOUR_MS)
    await sender.turn(48 * HOUR_MS)
    assert len(sender.outbox.taken) == 1


async def test_a_clock_that_leaps_ahead_sends_what_fell_due(sender: Sender) -> None:
    id = await hold(sender)
    send_at = (await sender.get(id))["sendAt"]
    await sender.turn(365 * 24 * HOUR_MS)
    assert len(sender.outbox.taken) == 1
    assert (await sender.get(id))["sendAt"] == send_at


async def test_the_provider_never_hears_of_it(sender: Sender) -> None:
    for parameters in ({"HOLDFOR": "3600"}, {"holduntil": "2026-09-21T15:13:20Z"}):
        await hold(sender, **parameters)
    await sender.turn(HOUR_MS)
    for envelope, raw in sender.outbox.taken:
        words = b" ".join(encode_mail_parameters(envelope, raw, OFFERED, False))
        assert b"HOLD" not in words.upper()


@pytest.mark.parametrize("beyond", [False, True])
async def test_a_year_is_the_longest(sender: Sender, beyond: bool) -> None:
    end_ms = sender.world.clock.now_ms() + HOLD_SECONDS_MAX * 1000 + 1000 * beyond
    for parameters in (
        {"HOLDFOR": str(HOLD_SECONDS_MAX + beyond)},
        {"HOLDUNTIL": encode_utc_date(end_ms)},
    ):
        if not beyond:
            id = await hold(sender, **parameters)
            assert (await sender.get(id))["sendAt"] == encode_utc_date(end_ms)
            continue
        envelope = {
            "mailFrom": {"email": OWN, "parameters": parameters},
            "rcptTo": [{"email": FRIEND}],
        }
        error = await sender.refuse({"emailId": await sender.draft(), "envelope": envelope})
        assert error["properties"] == ["envelope"]


async def test_the_email_may_be_destroyed_meanwhile(sender: Sender) -> None:
    draft = await sender.draft()
    await hold(sender, draft)
    assert (await sender.world.call("Email/set", destroy=[draft]))["destroyed"] == [draft]
    await sender.turn(HOUR_MS)
    assert len(sender.outbox.taken) == 1


async def test_what_is_due_while_there_is_no_way_out_goes_later(sender: Sender) -> None:
    id = await hold(sender)
    sender.outbox.error = Transient("no line", code="UNREACHABLE")
    await sender.turn(HOUR_MS)
    assert (await sender.status(id))[0] == "pending"
    sender.outbox.error = None
    await sender.turn(HOUR_MS)
    assert len(sender.outbox.taken) == 1
    assert sender.route is not None
    assert sender.route.settings == SETTINGS


async def test_canceled_in_the_last_moment_it_is_never_sent(sender: Sender) -> None:
    id = await hold(sender)

    async def cancel() -> None:
        patch = {"undoStatus": "canceled"}
        made = await sender.world.call("EmailSubmission/set", update={id: patch})
        assert id in made["updated"]

    sender.outbox.between = cancel
    await sender.turn(HOUR_MS)
    assert sender.outbox.taken == []
    assert await sender.status(id) == ("canceled", "canceled", {"no"})
    await sender.turn(HOUR_MS)
    assert sender.outbox.calls == 1


async def test_what_is_forgotten_after_it_went_may_file_its_email(sender: Sender) -> None:
    draft = await sender.draft()
    id = await sender.submit({"emailId": draft})
    await sender.turn()
    sent = await sender.world.add_mailbox("Sent", role="sent")
    patch: dict[str, Any] = {"mailboxIds": {sent: True}, "keywords/$draft": None}
    arguments = {"destroy": [id], "onSuccessUpdateEmail": {id: patch}}
    answers = await sender.world.calls([["EmailSubmission/set", arguments, "7"]])
    assert [(name, call) for name, _, call in answers] == [
        ("EmailSubmission/set", "7"),
        ("Email/set", "7"),
    ]
    assert answers[0][1]["destroyed"] == [id]
    assert draft in answers[1][1]["updated"]


async def test_what_could_not_be_forgotten_leaves_its_email_alone(sender: Sender) -> None:
    draft = await sender.draft()
    id = await hold(sender, draft)
    arguments = {"destroy": [id], "onSuccessDestroyEmail": [id]}
    answers = await sender.world.calls([["EmailSubmission/set", arguments, "0"]])
    assert [name for name, *_ in answers] == ["EmailSubmission/set"]
    assert (await sender.world.call("Email/get", ids=[draft]))["notFound"] == []
