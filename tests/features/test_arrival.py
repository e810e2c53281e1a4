"""What counts as new mail, and that something happens to it once, whatever breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.arrival_fixture import DAY_MS, Post
from tests.jmap.mail_fixture import make_raw
from tests.world import World
from tindra.core.errors import Unavailable
from tindra.core.tx import Tx, transact
from tindra.model.mail import EmailRow
from tindra.sync.arrival.away import VacationStep
from tindra.sync.arrival.runner import RECENT_MS, TRIES_MAX, Arrived, GivenUp, Happenings


class Counting:
    """A step that marks each Email, and can be made to fail."""

    def __init__(self) -> None:
        self.decided: list[str] = []
        self.applied: list[str] = []
        self.error: Exception | None = None
        self.late_error: Exception | None = None
        """Raised inside of the transaction."""
        self.bad_ids: set[str] = set()
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def decide(self, arrived: Arrived) -> Happenings | None:
        self.decided.append(arrived.email.id)
        if self.meanwhile is not None:
            await self.meanwhile()
        if self.error is not None or arrived.email.id in self.bad_ids:
            raise self.error or ValueError("hostile words of a mail")

        async def apply(tx: Tx, email: EmailRow) -> EmailRow:
            assert tx.origin == "system"
            if self.late_error is not None:
                raise self.late_error
            self.applied.append(email.id)
            return email

        return Happenings(apply)


@pytest.fixture
def step() -> Counting:
    return Counting()


@pytest.fixture
def post(world: World, runner: asyncio.Runner, step: Counting) -> Post:
    """Somebody for whom something is to happen."""

    async def open_post() -> Post:
        post = await Post(world).open()
        post.steps = [step]
        post.restart()
        await post.set_vacation(isEnabled=True)
        return post

    return runner.run(open_post())


async def test_new_mail_is_decided_on_once(post: Post, step: Counting) -> None:
    id = await post.arrive()
    await post.turn()
    post.restart()
    await post.turn(DAY_MS)
    assert step.decided == step.applied == [id]
    assert await post.list_intents() == []


async def test_nobody_who_wants_nothing_has_an_intent(post: Post) -> None:
    await post.set_vacation(isEnabled=False)
    await post.arrive()
    assert await post.list_intents() == []


@pytest.mark.parametrize(
    "how",
    [
        {"origin": "device"},
        {"origin": "system"},
        {"mailbox": "junk"},
        {"mailbox": "archive"},
        {"ago_ms": RECENT_MS + 1000},
        {"ago_ms": -2 * DAY_MS},
        {"ago_ms": 2000},
    ],
)
async def test_what_is_no_new_mail(post: Post, how: dict[str, Any]) -> None:
    await post.arrive(**how)
    assert await post.list_intents() == []


async def test_an_outage_over_a_weekend_is_made_up_for(post: Post, step: Counting) -> None:
    post.world.clock.advance(RECENT_MS)
    id = await post.arrive(ago_ms=RECENT_MS - 1000)
    await post.turn()
    assert step.applied == [id]


async def test_old_mail_that_another_program_copied_is_not_new(post: Post, step: Counting) -> None:
    old = "from a by b; Tue, 1 Sep 2020 10:00:00 +0000"
    await post.arrive(make_raw(Received=old))
    await post.turn()
    assert step.decided == []
    assert await post.list_intents() == []


async def test_mail_that_comes_into_the_inbox_from_elsewhere_is_not_new(post: Post) -> None:
    id = await post.arrive(mailbox="junk")
    await post.world.call("Email/set", update={id: {"mailboxIds": {post.mailboxes["inbox"]: True}}})
    assert await post.list_intents() == []


async def test_mail_that_is_gone_needs_nothing(post: Post, step: Counting) -> None:
    id = await post.arrive()
    await post.world.call("Email/set", destroy=[id])
    await post.turn()
    assert step.decided == []
    assert await post.list_intents() == []


async def test_a_failure_is_bounded_told_and_holds_up_nobody(post: Post, step: Counting) -> None:
    bad, good = await post.arrive(), await post.arrive(make_raw(message_id="2@x.test"))
    step.bad_ids = {bad}
    await post.turn()
    assert step.applied == [good]
    [row] = await post.list_intents()
    assert (row.key, row.tries, row.last_error) == (bad, 1, "ValueError")
    for _ in range(TRIES_MAX + 3):
        await post.turn(DAY_MS)
    assert await post.list_intents() == []
    assert step.decided.count(bad) == TRIES_MAX
    assert [type(e) for e in post.reports] == [ValueError] * (TRIES_MAX - 1) + [GivenUp]
    assert "hostile" not in str(post.reports[-1])
    assert step.applied == [good]


async def test_a_failure_is_not_tried_again_at_once(post: Post, step: Counting) -> None:
    step.bad_ids = {await post.arrive()}
    await post.turn()
    await post.turn(1000)
    assert len(step.decided) == 1


async def test_what_was_cured_meanwhile_happens(post: Post, step: Counting) -> None:
    id = await post.arrive()
    step.error = ValueError("later")
    await post.turn()
    step.error = None
    await post.turn(DAY_MS)
    assert step.applied == [id]


async def test_a_full_disk_costs_no_try(post: Post, step: Counting) -> None:
    await post.arrive()
    step.error = Unavailable("full")
    for _ in range(TRIES_MAX + 1):
        with pytest.raises(Unavailable):
            await post.turn(DAY_MS)
    [row] = await post.list_intents()
    assert row.tries == 0


async def test_an_intent_written_again_meanwhile_is_decided_anew(
    post: Post, step: Counting
) -> None:
    id = await post.arrive()

    async def write_again() -> None:
        step.meanwhile = None

        async def write(tx: Tx) -> None:
            await tx.put_outbox("arrival", id)

        await transact(post.world.services, post.account_id, "test", write, "system")

    step.meanwhile = write_again
    await post.turn()
    assert (step.decided, step.applied) == ([id], [])
    await post.turn()
    assert (step.decided, step.applied) == ([id, id], [id])


async def test_what_breaks_in_the_middle_leaves_no_half_effect(post: Post, step: Counting) -> None:
    post.steps = [VacationStep(post.world.services), step]
    post.restart()
    step.late_error = ValueError("after the answer was written")
    id = await post.arrive()
    assert await post.turn() == []
    assert (await post.world.call("EmailSubmission/get", ids=None))["list"] == []
    step.late_error = None
    post.restart()
    assert len(await post.turn(DAY_MS)) == 1
    assert step.applied == [id]
    assert len((await post.world.call("EmailSubmission/get", ids=None))["list"]) == 1
