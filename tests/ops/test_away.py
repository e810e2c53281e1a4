"""Somebody who is away, on a whole installation: mail is sorted, and answered once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tests.jmap.mail_fixture import make_raw
from tests.world import raise_report
from tindra.app.config import Settings
from tindra.app.demo.provider import DemoProvider
from tindra.app.loops import Loops
from tindra.app.people import NewMailbox, add_mail_account, add_user
from tindra.app.system import SystemClock
from tindra.app.wiring import Installation, open_installation
from tindra.base.ids import AccountId
from tindra.core.access import load_caller
from tindra.core.dispatch import encode_response, run_request
from tindra.features.connect import Endpoint
from tindra.wire.jmap.request import parse_request

WAIT_S_MAX = 60
SCRIPT = b'require "fileinto"; if header :contains "subject" "invoice" { fileinto "Archive"; }'


class Running(NamedTuple):
    installation: Installation

    async def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        services, registry = self.installation.services, self.installation.registry
        user = await services.directory.find_user("ada")
        assert user is not None
        caller = await load_caller(services.directory, user, services.clock.now_ms())
        account_id = next(id for id in caller.accounts if id != user.home_account_id)
        call = [name, {"accountId": account_id} | arguments, "0"]
        body = msgspec.json.encode({"using": list(registry.capabilities), "methodCalls": [call]})
        answer = await run_request(registry, services, caller, parse_request(body), raise_report)
        [[answered, result, _]] = msgspec.json.decode(encode_response(answer, "s"))[
            "methodResponses"
        ]
        assert answered == name, result
        return dict(result)

    async def upload(self, account_id: str, data: bytes) -> str:
        return (await self.installation.services.blobs.put(AccountId(account_id), data)).id


@asynccontextmanager
async def running(folder: Path, demo: DemoProvider) -> AsyncIterator[Running]:
    """The product with its loops, connected to the provider."""
    async with open_installation(Settings(data=str(folder / "data"))) as installation:
        if not await installation.services.directory.list_users():
            user = await add_user(installation, "ada", "correct horse battery")
            imap, smtp = (
                Endpoint("127.0.0.1", port, "none", demo.username)
                for port in (demo.imap_port, demo.smtp_port)
            )
            mailbox = NewMailbox("ada@example.org", "Ada", imap, smtp, demo.password)
            await add_mail_account(installation, user, mailbox)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(Loops(installation).run())
            try:
                yield Running(installation)
            finally:
                task.cancel()


async def eventually(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S_MAX):
        while True:
            if is_so():
                return
            await asyncio.sleep(0.02)


def make_mail(number: int, subject: str) -> bytes:
    return make_raw(subject, f"{number}@fjord.test", To="ada@example.org")


async def test_mail_is_sorted_and_answered_once_across_a_restart(tmp_path: Path) -> None:
    demo = DemoProvider(SystemClock(), message_count=0)
    await demo.start()
    try:
        async with running(tmp_path, demo) as run:
            away = {"isEnabled": True, "textBody": "Away"}
            made = await run.call("VacationResponse/set", update={"singleton": away})
            blob_id = await run.upload(made["accountId"], SCRIPT)
            await run.call(
                "SieveScript/set",
                create={"k": {"blobId": blob_id}},
                onSuccessActivateScript="#k",
            )
            demo.deliver(make_mail(1, "Your invoice"))
            await eventually(lambda: len(demo.folder("Archive").messages) == 1)
            await eventually(lambda: len(demo.outbox) == 1)
        demo.deliver(make_mail(2, "Second invoice"))
        async with running(tmp_path, demo) as run:
            await eventually(lambda: len(demo.folder("Archive").messages) == 2)
            demo.deliver(make_mail(3, "Third invoice"))
            await eventually(lambda: len(demo.folder("Archive").messages) == 3)
            found = (await run.call("EmailSubmission/get", ids=None))["list"]
        assert [one["undoStatus"] for one in found] == ["final"]
        [sent] = demo.outbox
        assert (sent.sender, sent.recipients) == ("", ("mira@fjord.test",))
        assert b"Auto-Submitted: auto-replied" in sent.raw
        assert not demo.folder("INBOX").messages
        assert not demo.folder("Sent").messages
    finally:
        await demo.stop()
