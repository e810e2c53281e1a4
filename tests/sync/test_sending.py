"""A message on its way out while the process is told to stop, or whose outcome nobody heard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.jmap.mail.test_submission import FRIEND, Sender, make_sender
from tests.world import World
from tindra.base.ids import AccountId, EmailId, MailboxId
from tindra.core.tx import Tx, transact
from tindra.model.mail import RemoteRow
from tindra.sync import submission
from tindra.sync.apply import mirror_of
from tindra.sync.ports import ServerSettings
from tindra.sync.submission import Envelope, RecipientReply, Uncertain

Before = Callable[[], Awaitable[None]]


@pytest.fixture
def sender(world: World, runner: asyncio.Runner) -> Sender:
    return runner.run(make_sender(world))


class Slow:
    """A server that takes its time over the recipients, and over the message."""

    def __init__(self) -> None:
        self.is_asked = asyncio.Event()
        self.may_begin = asyncio.Event()
        self.is_on_line = asyncio.Event()
        self.may_end = asyncio.Event()
        self.taken = 0

    async def submit(
        self, _: ServerSettings, __: str, envelope: Envelope, raw: bytes, before_data: Before
    ) -> list[RecipientReply]:
        assert raw
        self.is_asked.set()
        await self.may_begin.wait()
        await before_data()
        self.is_on_line.set()
        await self.may_end.wait()
        self.taken += 1
        return [RecipientReply(one.email, 250, "250 2.0.0 Taken") for one in envelope.recipients]


def begin(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> tuple[Slow, asyncio.Task[Any]]:
    slow = Slow()
    monkeypatch.setattr(sender.outbox, "submit", slow.submit)
    account_id = AccountId(sender.world.account_id)
    return slow, asyncio.ensure_future(sender.runner.run_turn(account_id))


async def test_a_message_on_the_line_comes_to_its_end_when_the_process_stops(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await sender.submit()
    slow, turn = begin(sender, monkeypatch)
    slow.may_begin.set()
    await slow.is_on_line.wait()
    turn.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not turn.done()
    slow.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert slow.taken == 1
    assert await sender.status(id) == ("final", "final", {"unknown"})
    assert (await sender.get(id))["deliveryStatus"][FRIEND]["smtpReply"] == "250 2.0.0 Taken"


async def test_a_message_that_is_not_on_the_line_yet_is_sent_by_the_next_process(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await sender.submit()
    slow, turn = begin(sender, monkeypatch)
    await slow.is_asked.wait()
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert await sender.status(id) == ("pending", "pending", {"queued"})
    assert slow.taken == 0


async def test_a_server_that_never_answers_holds_up_the_end_for_a_while_only(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "FINISH_MS_MAX", 50)
    id = await sender.submit()
    slow, turn = begin(sender, monkeypatch)
    slow.may_begin.set()
    await slow.is_on_line.wait()
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert (await sender.status(id))[1] == "sending"
    sender.runner = sender.make_runner()
    await sender.turn()
    assert (await sender.status(id))[1] == "uncertain"


async def _leave_in_doubt(sender: Sender) -> tuple[str, bytes]:
    """A submission that is uncertain, and its message as the provider would have filed it."""
    id = await sender.submit()
    sender.outbox.late_error = Uncertain("lost")
    await sender.turn()
    assert (await sender.status(id))[1] == "uncertain"
    [(_, raw)] = sender.outbox.taken
    return id, b"X-Filed-By: the provider\r\n" + raw


async def _file(sender: Sender, raw: bytes, role: str, is_mirrored: bool) -> None:
    mailbox_id = await sender.world.add_mailbox(f"At {role}", role=role)
    email_id = await sender.world.add_email(mailbox_id, raw)
    if is_mirrored:

        async def write(tx: Tx) -> None:
            await mirror_of(tx).put_remote(
                [RemoteRow(MailboxId(mailbox_id), 1, EmailId(email_id), ())]
            )

        account_id = AccountId(sender.world.account_id)
        await transact(sender.world.services, account_id, "test", write, "provider")


async def test_a_message_in_doubt_that_the_provider_filed_was_sent(sender: Sender) -> None:
    id, copy = await _leave_in_doubt(sender)
    await sender.turn(submission.SENT_LOOK_MS)
    assert (await sender.status(id))[1] == "uncertain"
    await _file(sender, copy, "sent", is_mirrored=True)
    await sender.turn(submission.SENT_LOOK_MS)
    assert await sender.status(id) == ("final", "final", {"unknown"})
    assert (await sender.get(id))["deliveryStatus"][FRIEND]["smtpReply"].startswith("250 ")
    assert len(sender.outbox.taken) == 1


@pytest.mark.parametrize(
    ("role", "is_mirrored", "other"),
    [("trash", True, b""), ("sent", False, b""), ("sent", True, b"Message-ID: <o@x.test>\r\n")],
    ids=["elsewhere", "not at the provider", "another message"],
)
async def test_nothing_less_than_the_copy_in_the_sent_mail_ends_the_doubt(
    sender: Sender, role: str, is_mirrored: bool, other: bytes
) -> None:
    id, copy = await _leave_in_doubt(sender)
    if other:
        copy = other + copy.replace(b"Message-ID:", b"References:")
    await _file(sender, copy, role, is_mirrored)
    for _ in range(submission.SENT_LOOKS_MAX + 1):
        await sender.turn(submission.SENT_LOOK_MS)
    assert (await sender.status(id))[1] == "uncertain"
    assert len(sender.outbox.taken) == 1
    account_id = AccountId(sender.world.account_id)
    assert await sender.runner.run_turn(account_id) == 0, "it is looked for for ever"
