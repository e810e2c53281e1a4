"""A message is in the sent mail once, here and at the provider, whoever files it there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.jmap.mail_fixture import OWN, TEXT, VALUES, create_email
from tests.sync.conftest import Open
from tests.sync.crash import CrashingProvider, CrashPlan, add_points
from tests.sync.harness import FAST, Harness, open_harness
from tindra.app.demo.faults import Faults
from tindra.base.ids import AccountId
from tindra.features.connect import Endpoint
from tindra.outside.smtp.sender import SmtpSender
from tindra.sync.filing import FilingPace, decide_files_sent, decide_hold_ms
from tindra.sync.route import make_route_loader
from tindra.sync.submission import SubmissionRunner

FILING = FilingPace(look_ms=60, unknown_ms=1500, never_ms=60, always_ms=20_000, doubt_ms=1500)
PACE = msgspec.structs.replace(FAST, filing=FILING)
FILES = Faults(files_sent_copy=True)


class Post:
    """Sends from a Harness, as the loops of a server do."""

    def __init__(self, h: Harness) -> None:
        self.h = h
        self.identity_id = ""
        self.runner = self.make_runner()

    def make_runner(self) -> SubmissionRunner:
        services = self.h.services
        return SubmissionRunner(services, SmtpSender(), make_route_loader(services))

    async def begin(self) -> None:
        made = await self.h.world.call("Identity/set", create={"i": {"email": OWN, "name": "A"}})
        self.identity_id = made["created"]["i"]["id"]
        self.h.smtp = Endpoint("127.0.0.1", self.h.demo.smtp_port, "none", self.h.demo.username)
        await self.h.connect()
        await self.h.settle()

    async def draft(self, subject: str = "Hi") -> str:
        drafts = (await self.h.find_mailboxes())["Drafts"]
        return await create_email(
            self.h.world, drafts, subject=subject, keywords={"$draft": True, "$seen": True},
            **{"from": [{"email": OWN}]}, to=[{"email": "zoe@example.net"}], textBody=[TEXT],
            bodyValues=VALUES,
        )  # fmt: skip

    async def submit(self, email_id: str) -> str:
        """As every client does it: the Email moves on with the EmailSubmission."""
        mailboxes = await self.h.find_mailboxes()
        patch = {
            f"mailboxIds/{mailboxes['Drafts']}": None,
            f"mailboxIds/{mailboxes['Sent']}": True,
            "keywords/$draft": None,
        }
        given = {"identityId": self.identity_id, "emailId": email_id}
        calls = [
            ["EmailSubmission/set", {"create": {"k": given}, "onSuccessUpdateEmail": {"#k": patch}},
             "0"]
        ]  # fmt: skip
        made, moved = await self.h.world.calls(calls)
        assert moved[1]["updated"] == {email_id: None}, moved
        return str(made[1]["created"]["k"]["id"])

    async def turn(self) -> None:
        await self.runner.run_turn(AccountId(self.h.world.account_id))

    async def state(self, id: str) -> str:
        def read(reader: Any) -> Any:
            return reader.load_objects("EmailSubmission", [id])

        [row] = await self.h.services.store.read(self.h.world.account_id, read)
        return str(msgspec.json.decode(row.data)["sendState"])

    async def mailboxes_of(self, email_id: str) -> set[str]:
        [email] = (await self.h.world.call("Email/get", ids=[email_id]))["list"]
        names = {id: path for path, id in (await self.h.find_mailboxes()).items()}
        return {names[id] for id in email["mailboxIds"]}

    def count(self, name: str) -> int:
        return len(self.h.folder(name).messages)

    async def wait_filed(self, email_id: str, count: int = 1) -> None:
        """One copy at the provider, no draft, and nothing left to tell it."""

        async def is_filed() -> bool:
            is_told = not any("intent" in text for text in await self.h.list_open())
            return is_told and self.count("Drafts") == 0 and self.count("Sent") == count

        await self.h.wait_until(is_filed, lambda: f"{self.count('Sent')} copies")
        # A look at everything finds nothing more to do.
        await self.h.stop()
        self.h.start()
        await self.h.wait_for_status(phase="live", lastError=None)
        await self.h.wait_until(is_filed, lambda: f"{self.count('Sent')} copies")
        assert await self.mailboxes_of(email_id) == {"Sent"}
        assert len((await self.h.hold_local())["Sent"]) == count


@asynccontextmanager
async def posting(harness: Open, **options: Any) -> AsyncIterator[Post]:
    async with harness(**({"pace": PACE} | options)) as h:
        post = Post(h)
        await post.begin()
        yield post


async def test_a_provider_that_files_nothing_gets_our_copy(harness: Open) -> None:
    async with posting(harness) as post:
        id = await post.draft()
        await post.h.settle()
        await post.submit(id)
        await post.turn()
        await post.wait_filed(id)
        [copy] = post.h.folder("Sent").messages.values()
        assert not copy.raw.startswith(b"Received:")
        await post.h.settle()


@pytest.mark.parametrize("after_ms", [0, 300])
@pytest.mark.parametrize("is_draft_there", [True, False])
async def test_what_the_provider_files_itself_is_there_once(
    harness: Open, after_ms: int, is_draft_there: bool
) -> None:
    faults = Faults(files_sent_copy=True, files_sent_after_ms=after_ms)
    async with posting(harness, faults=faults) as post:
        id = await post.draft()
        if is_draft_there:
            await post.h.settle()
        await post.submit(id)
        await post.turn()
        await post.wait_filed(id)
        [copy] = post.h.folder("Sent").messages.values()
        assert copy.raw.startswith(b"Received:")
        before = await post.h.find_ids()
        # What is known of it lives as long as it does.
        post.h.demo.store.renumber(post.h.folder("Sent"))
        await post.wait_filed(id)
        assert await post.h.find_ids() == before
        await post.h.update(id, **{"keywords__$flagged": True})

        async def is_flagged() -> bool:
            [copy] = post.h.folder("Sent").messages.values()
            return "\\Flagged" in copy.flags

        await post.h.wait_until(is_flagged, lambda: "it is not the same message")


async def test_what_a_provider_did_once_is_waited_for_longer_the_next_time(harness: Open) -> None:
    async with posting(harness, faults=Faults(files_sent_copy=True)) as post:
        first = await post.draft("first")
        await post.submit(first)
        await post.turn()
        await post.wait_filed(first)
        post.h.faults.files_sent_after_ms = 2 * FILING.unknown_ms
        second = await post.draft("second")
        await post.submit(second)
        await post.turn()
        await post.wait_filed(second, count=2)


async def test_a_copy_that_comes_too_late_makes_no_second_email(harness: Open) -> None:
    faults = Faults(files_sent_copy=True, files_sent_after_ms=2 * FILING.unknown_ms)
    async with posting(harness, faults=faults) as post:
        id = await post.draft()
        await post.submit(id)
        await post.turn()

        async def are_two_there() -> bool:
            return post.count("Sent") == 2 and not [
                text for text in await post.h.list_open() if "intent" in text or "is back" in text
            ]

        await post.h.wait_until(are_two_there, lambda: f"{post.count('Sent')}")

        async def knows_it() -> bool:
            found = await post.h.services.store.read(
                post.h.world.account_id, lambda r: r.load_objects("Connection", None)
            )
            return bool(msgspec.json.decode(found[0].data).get("filesSent"))

        await post.h.wait_until(knows_it, lambda: "nothing was learnt")
        assert len((await post.h.hold_local())["Sent"]) == 1


async def test_a_sending_in_doubt_ends_with_the_copy_of_the_provider(harness: Open) -> None:
    faults = Faults(files_sent_copy=True, files_sent_after_ms=300, lose_final_250=True)
    async with posting(harness, faults=faults) as post:
        id = await post.draft()
        submission_id = await post.submit(id)
        await post.turn()
        assert await post.state(submission_id) == "uncertain"
        await post.wait_filed(id)
        await post.turn()
        assert await post.state(submission_id) == "final"
        assert len(post.h.demo.outbox) == 1


async def test_what_is_not_sent_yet_is_no_sent_mail_at_the_provider(harness: Open) -> None:
    async with posting(harness, faults=Faults(smtp_busy=True)) as post:
        id = await post.draft()
        await post.h.settle()
        submission_id = await post.submit(id)
        await post.turn()
        assert await post.state(submission_id) == "pending"
        post.h.deliver(1)  # a whole look at everything later
        await post.h.wait_until(partial(_has_come, post.h), lambda: "new mail is held up")
        assert (post.count("Drafts"), post.count("Sent")) == (1, 0)
        await post.h.world.call(
            "EmailSubmission/set", update={submission_id: {"undoStatus": "canceled"}}
        )
        await post.turn()
        await post.h.settle()
        assert (post.count("Drafts"), post.count("Sent")) == (0, 1)  # as the device wanted it


async def _has_come(h: Harness) -> bool:
    return len((await h.hold_local())["INBOX"]) == 1


async def test_what_was_thrown_away_meanwhile_does_not_come_back(harness: Open) -> None:
    faults = Faults(files_sent_copy=True, files_sent_after_ms=600)
    async with posting(harness, faults=faults) as post:
        id = await post.draft()
        await post.h.settle()
        await post.submit(id)
        await post.turn()
        await post.h.move(id, "Trash")

        async def is_in_trash() -> bool:
            is_told = not any("intent" in text for text in await post.h.list_open())
            return is_told and bool(post.h.demo.outbox) and post.count("Trash") == 1

        await post.h.wait_until(is_in_trash, lambda: "not in the trash")

        async def has_come_and_gone() -> bool:
            sent = post.h.folder("Sent")
            return sent.uidnext > 1 and not sent.messages

        await post.h.wait_until(has_come_and_gone, lambda: "the copy stayed")
        assert await post.mailboxes_of(id) == {"Trash"}
        assert (post.count("Trash"), post.count("Sent")) == (1, 0)


async def test_a_letter_to_myself_is_in_the_inbox_too(harness: Open) -> None:
    async with posting(harness, faults=Faults(files_sent_copy=True)) as post:
        id = await post.draft()
        await post.submit(id)
        await post.turn()
        raw = post.h.demo.outbox[0].raw
        post.h.demo.deliver(b"Received: by elsewhere\r\n" + raw)
        await post.h.wait_until(partial(_has_come, post.h), lambda: "it never came")
        await post.wait_filed(id)


async def test_another_message_of_the_same_id_is_no_copy_of_a_draft(harness: Open) -> None:
    """A client that leaves the draft where it is wants both."""
    async with posting(harness, faults=Faults(files_sent_copy=True)) as post:
        id = await post.draft()
        await post.h.settle()
        given = {"identityId": post.identity_id, "emailId": id}
        await post.h.world.call("EmailSubmission/set", create={"k": given})
        await post.turn()
        await post.h.settle()
        assert (post.count("Drafts"), post.count("Sent")) == (1, 1)
        assert await post.mailboxes_of(id) == {"Drafts"}


# -- a crash between any two effects ---------------------------------------------------------------
async def _run_story(folder: Path, after_ms: int, at: int | None) -> str | None:
    """Send one message with a crash at one point, which it gives."""
    plan = CrashPlan()
    faults = Faults(files_sent_copy=True, files_sent_after_ms=after_ms)
    wrap = partial(add_points, plan=plan)
    async with open_harness("memory", folder, pace=PACE, faults=faults, wrap=wrap) as h:
        h.imap = CrashingProvider(h.imap, plan)
        post = Post(h)
        await post.begin()
        id = await post.draft()
        await h.settle()
        await h.stop()
        await post.submit(id)
        point = None
        if at is not None:
            ends: list[asyncio.Task[None]] = []

            def kill() -> None:
                h.kill()
                for task in ends:
                    task.cancel()

            plan.arm(at, kill)
            h.start()
            ends.append(asyncio.ensure_future(_keep_turning(post)))
            await h.wait_until(
                lambda: _is_over(plan, post),
                lambda: f"neither killed nor filed: {post.count('Sent')}",
            )
            ends[0].cancel()
            await asyncio.wait(ends)
            point = plan.last if plan.has_struck() else None
            plan.disarm()
            await h.stop()
        post.runner = post.make_runner()
        h.start()
        turning = asyncio.ensure_future(_keep_turning(post))
        try:
            await post.wait_filed(id)
        finally:
            turning.cancel()
            await asyncio.wait([turning])
        # A crash between "it goes out" and the first octet leaves it in doubt, and unsent.
        is_sent = len(h.demo.outbox) == 1
        assert is_sent or point == "after commit submission/sending", point
        return point


async def _keep_turning(post: Post) -> None:
    while True:
        await post.turn()
        await asyncio.sleep(0.02)


async def _is_over(plan: CrashPlan, post: Post) -> bool:
    if plan.has_struck():
        return True
    is_told = not any("intent" in text for text in await post.h.list_open())
    return is_told and post.count("Drafts") == 0 and post.count("Sent") == 1


@pytest.mark.parametrize("after_ms", [0, 200])
async def test_a_crash_at_some_points_files_it_once(tmp_path: Path, after_ms: int) -> None:
    for at in range(0, 24, 4):
        await _run_story(tmp_path, after_ms, at)


@pytest.mark.slow
@pytest.mark.parametrize("after_ms", [0, 200])
async def test_a_crash_at_any_point_files_it_once(tmp_path: Path, after_ms: int) -> None:
    for at in range(200):
        point = await _run_story(tmp_path, after_ms, at)
        if point is None:
            break
    assert at > 10


# -- how long to wait ------------------------------------------------------------------------------
def _submission(state: str, ended_ms: int = 0, delivered: str = "unknown") -> dict[str, Any]:
    status = {"zoe@example.net": {"delivered": delivered, "smtpReply": "", "displayed": ""}}
    return {"sendState": state, "endedMs": ended_ms, "deliveryStatus": status}


@pytest.mark.parametrize(
    ("state", "age_ms", "files_sent", "expected"),
    [
        ("pending", 0, None, 60_000),
        ("sending", 10**9, None, 60_000),
        ("final", 0, None, 5_000),
        ("final", 19_000, None, 1_000),
        ("final", 20_000, None, 0),
        ("final", 20_000, True, 5_000),
        ("final", 5_000, False, 0),
        ("final", -1, True, 0),
        ("uncertain", FilingPace().doubt_ms - 1, False, 1),
        ("uncertain", FilingPace().doubt_ms, True, 0),
    ],
)
def test_how_long_an_email_is_kept_from_the_sent_mail(
    state: str, age_ms: int, files_sent: bool | None, expected: int
) -> None:
    now_ms = 10**12
    obj = _submission(state, now_ms - age_ms)
    assert decide_hold_ms([obj], files_sent, now_ms, FilingPace()) == expected


def test_what_nobody_took_is_not_waited_for() -> None:
    obj = _submission("final", 10**12, delivered="no")
    assert decide_hold_ms([obj], True, 10**12, FilingPace()) == 0
    assert decide_hold_ms([], True, 10**12, FilingPace()) == 0


@pytest.mark.parametrize(
    ("host", "told", "expected"),
    [
        ("smtp.gmail.com", False, True),
        ("SMTP.Office365.com.", None, True),
        ("mail.example.test", None, None),
        ("mail.example.test", False, False),
        ("smtp.gmail.com.evil.test", None, None),
    ],
)
def test_what_is_known_of_a_host(host: str, told: bool | None, expected: bool | None) -> None:
    assert decide_files_sent({"smtp": {"host": host}, "filesSent": told}) is expected
    assert decide_files_sent({"smtp": None}) is None
