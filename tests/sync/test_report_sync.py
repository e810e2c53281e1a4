"""A bounce that comes in by the mirror reaches the submission it is about."""

from __future__ import annotations

from tests.jmap.mail.test_submission import FRIEND, Sender
from tests.jmap.mail_fixture import OWN
from tests.jmap.submission.test_submission_reports import make_dsn
from tests.sync.conftest import Open
from tindra.base.ids import AccountId


async def test_a_bounce_in_the_inbox_of_the_provider_is_told(harness: Open) -> None:
    async with harness() as h:
        await h.begin(1)
        made = await h.world.call("Identity/set", create={"i": {"email": OWN}})
        drafts = (await h.find_mailboxes())["Drafts"]
        sender = Sender(h.world, made["created"]["i"]["id"], drafts)
        id = await sender.submit()
        await sender.runner.run_turn(AccountId(h.world.account_id))
        assert (await sender.get(id))["deliveryStatus"][FRIEND]["delivered"] == "unknown"
        h.demo.deliver(make_dsn(envelope_id=id), "INBOX")
        await h.settle()

        async def is_told() -> bool:
            return bool((await sender.get(id))["deliveryStatus"][FRIEND]["delivered"] == "no")

        await h.wait_until(is_told, lambda: "the bounce was overlooked")
        got = await h.world.call("EmailSubmission/get", ids=[id], properties=["dsnBlobIds"])
        assert len(got["list"][0]["dsnBlobIds"]) == 1
