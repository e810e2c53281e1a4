"""New mail at a provider of our own, over real sockets: sorted there, and answered once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from tests.jmap.mail_fixture import upload
from tests.sync.harness import Harness, make_mail
from tindra.base.ids import AccountId
from tindra.core.tx import Tx, transact
from tindra.features.connect import Endpoint
from tindra.features.mail.identity import apply_default_identity
from tindra.model.blob import make_blob_id
from tindra.outside.smtp.sender import SmtpSender
from tindra.sync.arrival.rules import make_steps
from tindra.sync.arrival.runner import TOPIC, ArrivalRunner
from tindra.sync.intents import NEVER_MS
from tindra.sync.route import make_settings
from tindra.sync.submission import Route, SubmissionRunner

Open = Callable[..., AbstractAsyncContextManager[Harness]]
SCRIPT = b"""require ["fileinto", "imap4flags", "mailbox"];
if header :is "subject" ["Mail 100", "Mail 101"] {
    fileinto :create :flags "\\\\Flagged" "Sorted";
}
"""


class Office:
    """What the loops run beside the mirror; made anew, it is a fresh process."""

    def __init__(self, harness: Harness) -> None:
        self._account_id = AccountId(harness.world.account_id)
        services = harness.services
        smtp = Endpoint("127.0.0.1", harness.demo.smtp_port, "none", harness.demo.username)

        async def load_route(_: AccountId) -> Route:
            return Route(make_settings(smtp), harness.demo.password)

        self._arrivals = ArrivalRunner(services, make_steps(services), harness._report)
        self._submission = SubmissionRunner(services, SmtpSender(), load_route)

    async def work(self) -> None:
        while await self._arrivals.run_turn(self._account_id):
            pass
        await self._submission.run_turn(self._account_id)


async def begin(h: Harness) -> None:
    """Connected, with an Identity, a script and a VacationResponse."""
    await h.begin(3)

    async def write(tx: Tx) -> None:
        await apply_default_identity(tx, "me@example.test", "Me")

    account_id = AccountId(h.world.account_id)
    await transact(h.services, account_id, "test", write, "system")
    blob_id = await upload(h.world, SCRIPT)
    script = {"name": "Rules", "blobId": blob_id}
    made = await h.world.call("SieveScript/set", create={"k": script}, onSuccessActivateScript="#k")
    assert made["created"], made
    await h.world.call("VacationResponse/set", update={"singleton": {"isEnabled": True}})


async def count_intents(h: Harness) -> int:
    account_id = AccountId(h.world.account_id)
    rows = await h.services.store.read(
        account_id, lambda reader: reader.list_outbox(TOPIC, NEVER_MS, 100)
    )
    return len(rows)


async def test_new_mail_is_sorted_at_the_provider_and_answered_once(harness: Open) -> None:
    async with harness() as h:
        await begin(h)
        for number in (100, 101):
            h.deliver(number)
            await h.settle()
            await Office(h).work()
            await h.settle()
        sorted_mail = h.hold_remote()["Sorted"]
        assert sorted_mail == {
            make_blob_id(make_mail(number)): ("$flagged",) for number in (100, 101)
        }
        assert len(h.hold_remote()["INBOX"]) == 3
        await h.stop()
        await h.start_and_look()
        await Office(h).work()
        h.deliver(102)
        await h.settle()
        await Office(h).work()
        [sent] = h.demo.outbox
        assert (sent.sender, list(sent.recipients)) == ("", ["ann@example.test"])
        assert b"In-Reply-To: <100@example.test>" in sent.raw
        assert h.hold_remote()["Sent"] == {}


async def test_old_mail_and_mail_seen_anew_are_no_news(harness: Open) -> None:
    async with harness() as h:
        await begin(h)
        assert await count_intents(h) == 0
        h.deliver(100)
        await h.settle()
        await Office(h).work()
        await h.settle()
        await h.stop()
        for name in ("INBOX", "Sorted"):
            h.demo.store.renumber(h.folder(name))
        await h.start_and_look()
        assert await count_intents(h) == 0
        await Office(h).work()
        assert len(h.demo.outbox) == 1
