"""Pushes to devices: who is told what, when, and what an answer does (RFC 8620 s7.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.jmap.core.test_push_subscription import (
    DAY_MS,
    URL,
    call,
    create,
    get_all,
    load_code,
    open_home,
    sign_in,
)
from tests.jmap.sharing_fixture import READ, add_person, share
from tests.world import World, add_user, open_world
from tindra.base import limits
from tindra.base.ids import AccountId, ModSeq
from tindra.features.push_subscription import PushProgress, load_subscriptions
from tindra.model.account import Grant
from tindra.sync.webpush import plan, runner
from tindra.sync.webpush.plan import PushMessage, PushResult, make_topic, plan_progress
from tindra.sync.webpush.runner import PushRunner

PUSHED = {"Mailbox", "Email", "EmailDelivery", "Thread", "Identity"}
HOUR_MS = 3_600_000


class FakeSender:
    """A push service that answers as told."""

    def __init__(self) -> None:
        self.application_server_key = "BKEY"
        self.messages: list[PushMessage] = []
        self.at_ms: list[int] = []
        self.answers: list[PushResult] = []
        self.hold: dict[str, asyncio.Event] = {}
        self.now: Callable[[], int] = lambda: 0

    async def send(self, message: PushMessage) -> PushResult:
        self.messages.append(message)
        self.at_ms.append(self.now())
        for host, event in self.hold.items():
            if host in message.subscription.url:
                await event.wait()
        return self.answers.pop(0) if self.answers else PushResult("sent")

    def take(self) -> list[dict[str, Any]]:
        """What was sent since the last look."""
        found = [msgspec.json.decode(message.content) for message in self.messages]
        self.messages, self.at_ms = [], []
        return found


async def guard(where: str, turn: Callable[[], Awaitable[object]]) -> bool:
    await turn()
    return True


class Scene:
    """A world with a runner that is started and stopped."""

    def __init__(self, world: World, sender: FakeSender) -> None:
        self.world = world
        self.sender = sender
        sender.now = world.clock.now_ms

    @asynccontextmanager
    async def running(self) -> AsyncIterator[PushRunner]:
        """The runner of one process; leaving is a graceful stop."""
        async with asyncio.TaskGroup() as group:
            made = PushRunner(self.world.services, self.sender, PUSHED, guard)
            task = group.create_task(made.run())
            await self.wait(200)
            yield made
            task.cancel()

    async def wait(self, duration_ms: int, step_ms: int = 50) -> None:
        """Let time pass, in steps that let every task follow."""
        for _ in range(max(1, duration_ms // step_ms)):
            self.world.clock.advance(step_ms)
            for _ in range(30):
                await asyncio.sleep(0)

    async def confirm(self, id: str) -> None:
        code = await load_code(self.world, id)
        answer = await call(self.world, "set", update={id: {"verificationCode": code}})
        assert answer["updated"], answer

    async def subscribe(self, **properties: Any) -> str:
        """A subscription that was confirmed."""
        id = str((await create(self.world, **properties))["id"])
        await self.wait(200)
        await self.confirm(id)
        await self.wait(2000)
        return id

    async def load_states(self, account_id: AccountId | None = None) -> dict[str, str]:
        id = account_id or self.world.account_id
        states = await self.world.services.store.read(id, lambda r: r.load_states())
        return {name: str(modseq) for name, modseq in states.items() if name in PUSHED}


@asynccontextmanager
async def open_scene(folder: Path) -> AsyncIterator[Scene]:
    async with open_world("memory", folder) as world:
        await open_home(world)
        yield Scene(world, FakeSender())


async def test_the_first_request_is_the_verification_and_it_is_the_only_one(tmp_path: Path):
    async with open_scene(tmp_path) as scene, scene.running():
        made = await create(scene.world)
        await scene.wait(100)
        [message] = scene.sender.messages
        assert message.subscription.url == URL
        assert message.topic == ""
        assert scene.sender.take() == [
            {
                "@type": "PushVerification",
                "pushSubscriptionId": made["id"],
                "verificationCode": await load_code(scene.world, made["id"]),
            }
        ]
        await scene.world.add_mailbox("Work")
        await scene.wait(2 * runner.SWEEP_MS, step_ms=1000)
        assert scene.sender.take() == []  # nothing goes to an address that nobody confirmed


async def test_a_confirmed_device_is_told_what_moved_and_nothing_else(tmp_path: Path):
    async with open_scene(tmp_path) as scene, scene.running():
        await scene.world.add_mailbox("Before")
        await scene.subscribe()
        scene.sender.messages = scene.sender.messages[1:]
        assert scene.sender.take() == []  # it knew all that
        await scene.world.add_mailbox("After")
        await scene.wait(100)
        state = (await scene.load_states())["Mailbox"]
        changed = {scene.world.account_id: {"Mailbox": state}}
        assert scene.sender.take() == [{"@type": "StateChange", "changed": changed}]
        await scene.wait(2 * runner.SWEEP_MS, step_ms=1000)
        assert scene.sender.take() == []


async def test_what_moved_before_it_was_confirmed_is_told_then(tmp_path: Path):
    async with open_scene(tmp_path) as scene, scene.running():
        id = (await create(scene.world))["id"]
        await scene.world.add_mailbox("Work")
        await scene.wait(1000)
        scene.sender.take()
        await scene.confirm(id)
        await scene.wait(2000)
        [push] = scene.sender.take()
        assert list(push["changed"][scene.world.account_id]) == ["Mailbox"]


async def test_types_choose(tmp_path: Path):
    async with open_scene(tmp_path) as scene, scene.running():
        id = await scene.subscribe(types=["Email", "Nonsense"])
        scene.sender.take()
        mailbox = await scene.world.add_mailbox("Work")
        await scene.wait(2000)
        assert scene.sender.take() == []
        await scene.world.add_email(mailbox, b"Subject: x\r\n\r\nx")
        await scene.wait(2000)
        states = await scene.load_states()
        account_id = scene.world.account_id
        assert [p["changed"] for p in scene.sender.take()] == [
            {account_id: {"Email": states["Email"]}}
        ]
        await call(scene.world, "set", update={id: {"types": ["EmailDelivery"]}})
        await scene.wait(2000)
        await scene.world.add_email(mailbox, b"Subject: y\r\n\r\ny")
        await scene.wait(2000)
        [push] = scene.sender.take()
        assert list(push["changed"][account_id]) == ["EmailDelivery"]
        await call(scene.world, "set", update={id: {"types": []}})
        await scene.world.add_email(mailbox, b"Subject: z\r\n\r\nz")
        await scene.wait(2000)
        assert scene.sender.take() == []


async def test_new_mail_is_urgent_and_the_rest_is_not(tmp_path: Path):
    async with open_scene(tmp_path) as scene, scene.running():
        await scene.subscribe()
        scene.sender.take()
        mailbox = await scene.world.add_mailbox("Work")
        await scene.wait(2000)
        await scene.world.add_email(mailbox, b"Subject: x\r\n\r\nx")
        await scene.wait(2000)
        urgencies = [message.urgency for message in scene.sender.messages]
        assert urgencies == ["normal", "high"]
        assert all(m.ttl_s == plan.STATE_TTL_S for m in scene.sender.messages)


async def test_a_burst_costs_few_pushes_and_the_last_has_the_newest_states(tmp_path: Path):
    async with open_scene(tmp_path) as scene, scene.running():
        await scene.subscribe()
        scene.sender.take()
        began_ms = scene.world.clock.now_ms()
        for n in range(60):
            await scene.world.add_mailbox(f"M{n}")
            await scene.wait(50)
        await scene.wait(8000)
        gaps = [b - a for a, b in pairwise(scene.sender.at_ms)]
        assert min(gaps) >= limits.PUSH_INTERVAL_MS
        assert scene.sender.at_ms[0] - began_ms <= 200  # the first does not wait
        pushes = scene.sender.take()
        assert 3 <= len(pushes) <= 4
        newest = (await scene.load_states())["Mailbox"]
        assert pushes[-1]["changed"] == {scene.world.account_id: {"Mailbox": newest}}


async def test_accounts_of_others_are_told_while_they_may_be_read(tmp_path: Path):
    async with open_scene(tmp_path) as scene, scene.running():
        world, directory = scene.world, scene.world.services.directory
        shared = next(iter((await add_user(world.services, "bob")).accounts))
        user = world.caller.user
        await scene.subscribe()
        scene.sender.take()

        async def touch(account_id: AccountId) -> list[list[str]]:
            async def write(tx: Any) -> None:
                await tx.create("Identity", {"email": "b", "mayDelete": True}, "i")

            from tindra.core.tx import transact

            await transact(world.services, account_id, "test", write, "system")
            await scene.wait(2000)
            return [sorted(push["changed"]) for push in scene.sender.take()]

        assert await touch(shared) == []
        now_ms = world.clock.now_ms()
        rights = frozenset({"read"})
        await directory.put_grant(Grant(user.id, shared, rights, 0, now_ms + DAY_MS))
        assert await touch(shared) == [[shared]]
        world.clock.advance(DAY_MS)  # the grant has ended
        assert await touch(shared) == []
        await directory.put_grant(Grant(user.id, shared, frozenset({"triage"})))
        assert await touch(shared) == []
        # What waited is not told either once it may not be read any more.
        await directory.put_grant(Grant(user.id, shared, rights))
        scene.sender.answers = [PushResult("throttled", HOUR_MS)]
        assert await touch(shared) == [[shared]]
        await directory.delete_grant(user.id, shared)
        await scene.wait(2 * HOUR_MS, step_ms=10_000)
        assert all(shared not in push["changed"] for push in scene.sender.take())


async def test_what_moved_while_the_server_was_down_is_told_after(tmp_path: Path):
    async with open_scene(tmp_path) as scene:
        async with scene.running():
            await scene.subscribe()
            await scene.world.add_mailbox("One")
            await scene.wait(2000)
            scene.sender.take()
        async with scene.running():
            await scene.wait(2000)
            assert scene.sender.take() == []  # it was noted what was pushed
        await scene.world.add_mailbox("Two")
        async with scene.running():
            await scene.wait(2000)
            state = (await scene.load_states())["Mailbox"]
            changed = {scene.world.account_id: {"Mailbox": state}}
            assert [push["changed"] for push in scene.sender.take()] == [changed]


async def test_a_lost_hint_costs_time_only(tmp_path: Path):
    async with open_scene(tmp_path) as scene, scene.running():
        await scene.subscribe()
        scene.sender.take()
        store = scene.world.services.store
        told, store.on_commit = store.on_commit, None
        await scene.world.add_mailbox("Silent")
        await scene.wait(2000)
        assert scene.sender.take() == []
        store.on_commit = told
        await scene.wait(runner.SWEEP_MS + 2000, step_ms=1000)
        assert len(scene.sender.take()) == 1


async def test_few_notes_are_written_however_much_is_pushed(tmp_path: Path):
    async with open_scene(tmp_path) as scene, scene.running():
        await scene.subscribe()
        scene.world.commits.clear()
        for n in range(20):
            await scene.world.add_mailbox(f"M{n}")
            await scene.wait(1100)
        home = scene.world.caller.user.home_account_id
        notes = [info for info in scene.world.commits if info.account_id == home]
        assert len(notes) <= 2
        assert len(scene.sender.take()) >= 5


async def test_changes_that_do_not_stop_cost_ever_fewer_pushes_until_they_do(tmp_path: Path):
    async with open_scene(tmp_path) as scene, scene.running():
        await scene.subscribe()
        scene.sender.take()
        for n in range(300):
            await scene.world.add_mailbox(f"M{n}")
            await scene.wait(500)
        times = scene.sender.at_ms
        gaps = [b - a for a, b in pairwise(times)]
        assert gaps == sorted(gaps)
        assert gaps[-1] <= limits.PUSH_INTERVAL_BUSY_MS + 100
        assert len(gaps) < 20
        await scene.wait(2 * limits.PUSH_INTERVAL_BUSY_MS, step_ms=1000)
        scene.sender.take()
        await scene.wait(limits.PUSH_INTERVAL_BUSY_MS, step_ms=1000)
        await scene.world.add_mailbox("After a rest")
        await scene.wait(100)
        assert len(scene.sender.take()) == 1


@pytest.mark.parametrize("outcome", ["gone", "refused", "too_large"])
async def test_an_address_that_cannot_be_verified_is_dropped(tmp_path: Path, outcome: Any):
    async with open_scene(tmp_path) as scene, scene.running():
        scene.sender.answers = [PushResult(outcome)]
        await create(scene.world)
        await scene.wait(500)
        assert await get_all(scene.world) == []


@pytest.mark.parametrize("outcome", ["throttled", "unanswered"])
async def test_a_verification_that_was_answered_is_not_repeated(tmp_path: Path, outcome: Any):
    async with open_scene(tmp_path) as scene:
        async with scene.running():
            scene.sender.answers = [PushResult(outcome)]
            await create(scene.world)
            await scene.wait(HOUR_MS, step_ms=10_000)
            assert len(scene.sender.take()) == 1
        async with scene.running():
            await scene.wait(HOUR_MS, step_ms=10_000)
            assert scene.sender.take() == []
        assert len(await get_all(scene.world)) == 1


async def test_a_verification_that_never_left_is_tried_a_few_times(tmp_path: Path):
    async with open_scene(tmp_path) as scene:
        async with scene.running():
            scene.sender.answers = [PushResult("unreached")] * 2
            await create(scene.world)
            await scene.wait(1000)
            assert len(scene.sender.take()) == 1
        async with scene.running():  # a restart is no reason to hurry
            await scene.wait(plan.RETRY_FIRST_MS // 2, step_ms=1000)
            assert scene.sender.take() == []
            await scene.wait(HOUR_MS, step_ms=10_000)
            assert len(scene.sender.take()) == 2
            scene.sender.answers = [PushResult("unreached")] * 99
            await create(scene.world)
            await scene.wait(12 * HOUR_MS, step_ms=60_000)
            assert len(scene.sender.take()) == runner.VERIFICATION_TRIES_MAX


async def test_a_subscription_that_the_service_does_not_know_goes(tmp_path: Path):
    async with open_scene(tmp_path) as scene, scene.running():
        await scene.subscribe()
        other = await scene.subscribe(deviceClientId="other")
        scene.sender.answers = [PushResult("gone")]
        await scene.world.add_mailbox("Work")
        await scene.wait(3000)
        assert len(await get_all(scene.world)) == 1
        scene.sender.take()
        await scene.world.add_mailbox("More")
        await scene.wait(3000)
        assert len(scene.sender.take()) == 1
        assert other


async def test_who_refuses_again_and_again_is_given_up_and_once_is_not(tmp_path: Path):
    async with open_scene(tmp_path) as scene, scene.running():
        await scene.subscribe()
        scene.sender.answers = [PushResult("refused")] * (runner.REFUSALS_MAX - 1)
        await scene.world.add_mailbox("Work")
        await scene.wait(HOUR_MS, step_ms=10_000)
        assert len(await get_all(scene.world)) == 1
        scene.sender.answers = [PushResult("refused")] * runner.REFUSALS_MAX
        await scene.world.add_mailbox("More")
        await scene.wait(HOUR_MS, step_ms=10_000)
        assert await get_all(scene.world) == []


async def test_too_many_means_later_and_slower_and_survives_a_restart(tmp_path: Path):
    async with open_scene(tmp_path) as scene:
        async with scene.running():
            await scene.subscribe()
            scene.sender.take()
            scene.sender.answers = [PushResult("throttled", HOUR_MS)]
            await scene.world.add_mailbox("Work")
            await scene.wait(2000)
            assert len(scene.sender.take()) == 1
            home = scene.world.caller.user.home_account_id
            [subscription] = await load_subscriptions(scene.world.services, home)
            assert subscription.progress.pace_ms == 2 * limits.PUSH_INTERVAL_MS
        async with scene.running():
            await scene.world.add_mailbox("More")
            await scene.wait(HOUR_MS - 60_000, step_ms=10_000)
            assert scene.sender.take() == []
            await scene.wait(120_000, step_ms=1000)
            newest = (await scene.load_states())["Mailbox"]
            assert [push["changed"] for push in scene.sender.take()] == [
                {scene.world.account_id: {"Mailbox": newest}}
            ]


async def test_a_message_too_large_is_split_by_accounts(tmp_path: Path):
    async with open_scene(tmp_path) as scene:
        user, services = scene.world.caller.user, scene.world.services
        others = [next(iter((await add_user(services, f"u{n}")).accounts)) for n in range(8)]
        async with scene.running():
            await scene.subscribe()
            scene.sender.take()
            for account_id in others:
                await services.directory.put_grant(Grant(user.id, account_id, frozenset({"read"})))

                async def write(tx: Any) -> None:
                    await tx.create("Identity", {"email": "b", "mayDelete": True}, "i")

                from tindra.core.tx import transact

                await transact(services, account_id, "test", write, "system")
            scene.sender.answers = [PushResult("too_large")]
            await scene.wait(120_000, step_ms=1000)
            first, *rest = scene.sender.take()
            assert len(first["changed"]) == 8
            told = [account_id for push in rest for account_id in push["changed"]]
            assert sorted(told) == sorted(others)
            assert len(rest) >= 2


async def test_a_user_with_very_many_accounts_gets_several_messages_that_fit(tmp_path: Path):
    async with open_scene(tmp_path) as scene:
        user, services = scene.world.caller.user, scene.world.services
        async with scene.running():
            await scene.subscribe()
            scene.sender.take()
            for n in range(150):
                account_id = next(iter((await add_user(services, f"user-{n:040}")).accounts))
                await services.directory.put_grant(Grant(user.id, account_id, frozenset({"read"})))

                async def write(tx: Any) -> None:
                    await tx.create("Identity", {"email": "b", "mayDelete": True}, "i")

                from tindra.core.tx import transact

                await transact(services, account_id, "test", write, "system")
            await scene.wait(20_000, step_ms=500)
            assert all(len(m.content) <= 3993 for m in scene.sender.messages)
            pushes = scene.sender.take()
            assert len(pushes) >= 3
            assert len({id for push in pushes for id in push["changed"]}) == 150


async def test_a_credential_taken_back_ends_its_subscriptions_and_no_others(tmp_path: Path):
    async with open_scene(tmp_path) as scene, scene.running():
        world = scene.world
        await scene.subscribe()
        await sign_in(world, "phone")
        await scene.subscribe()
        scene.sender.take()
        await world.services.directory.delete_token(world.caller.token_hash)
        await sign_in(world)
        await world.add_mailbox("Work")
        await scene.wait(3000)
        assert len(scene.sender.take()) == 1  # that of the password
        home = world.caller.user.home_account_id
        assert len(await load_subscriptions(world.services, home)) == 1
        # And without any change of mail, too.
        changed = msgspec.structs.replace(world.caller.user, password_hash="scrypt$new")
        await world.services.directory.put_user(changed)
        await scene.wait(runner.SWEEP_MS + 1000, step_ms=1000)
        assert await load_subscriptions(world.services, home) == []


async def test_nothing_is_sent_after_the_end_and_a_renewal_goes_on(tmp_path: Path):
    from tests.jmap.core.test_push_subscription import run_timers
    from tindra.wire.jmap.date import encode_utc_date

    async with open_scene(tmp_path) as scene, scene.running():
        world = scene.world
        expires = encode_utc_date(world.clock.now_ms() + 60_000)
        id = await scene.subscribe(expires=expires)
        scene.sender.take()
        world.clock.advance(60_000)
        await world.add_mailbox("Late")
        await scene.wait(2000)
        assert scene.sender.take() == []
        # The timer was not quick enough: the device renews it just in time.
        later = encode_utc_date(world.clock.now_ms() + DAY_MS)
        answer = await call(world, "set", update={id: {"expires": later}})
        assert answer["updated"] == {id: None}
        await run_timers(world)
        await scene.wait(2000)
        assert len(scene.sender.take()) == 1


async def test_a_new_key_of_the_server_ends_what_the_old_one_made(tmp_path: Path):
    """RFC 9749 s5"""
    async with open_scene(tmp_path) as scene:
        async with scene.running():
            await scene.subscribe()
        scene.sender.application_server_key = "BOTHER"
        scene.sender.take()
        await scene.world.add_mailbox("Work")
        async with scene.running():
            await scene.wait(2000)
        assert scene.sender.take() == []
        assert await get_all(scene.world) == []


async def test_one_slow_push_service_harms_nobody(tmp_path: Path):
    async with open_scene(tmp_path) as scene, scene.running():
        world = scene.world
        await scene.subscribe(url="https://good.example/1")
        for n in range(10):
            await scene.subscribe(url=f"https://slow.example/{n}")
        scene.sender.take()
        scene.sender.hold["slow.example"] = asyncio.Event()
        for n in range(3):
            await world.add_mailbox(f"M{n}")
            await scene.wait(2000)
        hosts = [m.subscription.url[8:12] for m in scene.sender.messages]
        assert hosts.count("good") == 3
        assert hosts.count("slow") == 10  # one each, still on its way
        scene.sender.hold["slow.example"].set()
        await scene.wait(3000)
        assert len(scene.sender.take()) == 13 + 10


async def test_a_push_service_has_so_many_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runner, "SENDING_PER_SERVICE_MAX", 2)
    async with open_scene(tmp_path) as scene, scene.running():
        for n in range(5):
            await scene.subscribe(url=f"https://slow.example/{n}")
        scene.sender.take()
        scene.sender.hold["slow.example"] = asyncio.Event()
        await scene.world.add_mailbox("Work")
        await scene.wait(2000)
        assert len(scene.sender.messages) == 2
        scene.sender.hold["slow.example"].set()
        await scene.wait(2000)
        assert len(scene.sender.take()) == 5


async def test_one_that_is_destroyed_while_it_rests_is_not_written_to(tmp_path: Path):
    async with open_scene(tmp_path) as scene, scene.running() as running:
        id = await scene.subscribe()
        scene.sender.take()
        scene.sender.answers = [PushResult("throttled", HOUR_MS)]
        await scene.world.add_mailbox("Work")
        await scene.wait(500)
        scene.sender.take()
        await call(scene.world, "set", destroy=[id])
        await scene.wait(2 * HOUR_MS, step_ms=10_000)
        assert scene.sender.take() == []
        assert running._homes == {}


async def test_a_user_who_is_removed_is_forgotten(tmp_path: Path):
    async with open_scene(tmp_path) as scene, scene.running() as running:
        world = scene.world
        await scene.subscribe()
        scene.sender.take()
        await world.services.directory.delete_account(world.caller.user.home_account_id)
        world.caller = msgspec.structs.replace(
            world.caller,
            accounts={world.account_id: world.caller.accounts[world.account_id]},
        )
        await world.add_mailbox("Work")
        await scene.wait(runner.SWEEP_MS + 2000, step_ms=1000)
        assert scene.sender.take() == []
        assert running._homes == {}


def test_only_what_says_all_of_it_takes_the_place_of_an_older_message():
    one, two = AccountId("a1"), AccountId("a2")
    email, mailbox = {"Email": ModSeq(5)}, {"Mailbox": ModSeq(5)}
    topic = make_topic("p1", {one: email})
    assert topic == make_topic("p1", {one: {"Email": ModSeq(9)}})
    assert make_topic("p1", {one: email, two: email}) == make_topic("p1", {two: email, one: email})
    others = [
        make_topic("p2", {one: email}),
        make_topic("p1", {two: email}),
        make_topic("p1", {one: mailbox}),
        make_topic("p1", {one: email | mailbox}),
        make_topic("p1", {one: email, two: email}),
    ]
    assert len({topic, *others}) == 6
    assert len(topic) == 32  # RFC 8030 s5.4
    assert topic.replace("-", "").replace("_", "").isalnum()


def test_failures_wait_longer_and_longer_and_a_success_forgets_them():
    progress, waits = PushProgress(), []
    for _ in range(40):
        progress = plan_progress(progress, PushResult("unanswered"), 1_000)
        waits.append(progress.rest_until_ms - 1_000)
    assert waits[:3] == [plan.RETRY_FIRST_MS, 2 * plan.RETRY_FIRST_MS, 4 * plan.RETRY_FIRST_MS]
    assert waits[-1] == plan.RETRY_LAST_MS
    assert progress.pace_ms == limits.PUSH_INTERVAL_MS
    done = plan_progress(progress, PushResult("sent"), 1_000)
    assert (done.tries, done.refusals, done.rest_until_ms) == (0, 0, 0)


def test_the_pace_slows_with_each_too_many_and_comes_back():
    progress = PushProgress()
    for _ in range(40):
        progress = plan_progress(progress, PushResult("throttled", 0), 0)
        assert progress.rest_until_ms >= plan.RETRY_FIRST_MS
    assert progress.pace_ms == plan.PACE_MS_MAX
    greedy = plan_progress(progress, PushResult("throttled", 10**15), 0)
    assert greedy.rest_until_ms == plan.RETRY_ASKED_MS_MAX
    for _ in range(40):
        progress = plan_progress(progress, PushResult("sent"), 0)
    assert progress.pace_ms == limits.PUSH_INTERVAL_MS


async def test_who_sees_a_part_is_told_the_states_of_that_part(tmp_path: Path):
    async with open_scene(tmp_path) as scene:
        world = scene.world
        team = await world.add_mailbox("Team")
        bob, alex = await add_person(world, "bob"), world.caller
        await share(world, team, bob, READ)
        world.caller = await bob.load_caller()
        async with scene.running():
            await scene.subscribe()
            scene.sender.take()
            world.caller = alex
            await world.add_email(team, b"Subject: x\r\n\r\nx")
            await scene.wait(2000)
            [push] = scene.sender.take()
            states = {
                name: (await bob.call(f"{name}/get", ids=[]))["state"]
                for name in ("Email", "Mailbox", "Thread")
            }
            assert push["changed"] == {world.account_id: states}
            # One who wants to hear of none of it any more does not.
            await bob.call("Mailbox/set", update={team: {"isSubscribed": False}})
            await scene.wait(2000)
            scene.sender.take()
            await world.add_email(team, b"Subject: y\r\n\r\ny")
            await scene.wait(2000)
            assert scene.sender.take() == []
            await share(world, team, bob, None)
            await scene.wait(2000)
            assert all(world.account_id not in push["changed"] for push in scene.sender.take())
