"""A message that cannot be fetched, whatever is tried: all others come, and it is named."""

from __future__ import annotations

import itertools
import random

import msgspec
import pytest

from tests.sync.conftest import Open
from tests.sync.harness import FAST, Harness, make_mail
from tindra.app.demo.faults import Faults, Poison
from tindra.sync.cursor import load_cursors
from tindra.sync.poison import AGAIN_MS_MAX, AGAIN_MS_MIN, ALONE_BREAKS_MAX, PoisonWatch

KINDS: list[Poison] = ["cut", "garbage", "endless", "refused"]
PACE = msgspec.structs.replace(FAST, poison_ms=1_000)
PROOF_MS = 600_000


# -- the watch alone -------------------------------------------------------------------------------
class Server:
    """Hands out messages; some end the session."""

    def __init__(self, poison: set[int], seed: int | None = None) -> None:
        self.poison = poison
        self.random = None if seed is None else random.Random(seed)
        self.watch = PoisonWatch(PROOF_MS)
        self.got: set[int] = set()
        self.left_out: set[int] = set()
        self.sessions = 0

    def run_session(self, uids: list[int], now_ms: int) -> bool:
        """Whether it came to an end."""
        self.sessions += 1
        wanted = [uid for uid in uids if uid not in self.got | self.left_out]
        for group in self.watch.plan_groups("m", wanted, ()):
            order = list(group)
            if self.random is not None:
                self.random.shuffle(order)
            for uid in order:
                if uid in self.poison:
                    proven = self.watch.note_break("m", group, self.got, now_ms)
                    if proven is not None:
                        self.watch.forget("m", [proven])
                        self.left_out.add(proven)
                    return False
                self.got.add(uid)
                self.watch.note_got([uid])
                self.watch.forget("m", [uid])
            self.watch.forget("m", group)
        return True


def run_all(server: Server, uids: list[int], sessions_max: int) -> None:
    while not server.run_session(uids, PROOF_MS):
        assert server.sessions < sessions_max, "never isolated"


@pytest.mark.parametrize("place", [0, 1, 500, 999])
def test_one_message_is_isolated_within_few_sessions(place: int) -> None:
    uids = list(range(1000, 0, -1))
    server = Server({uids[place]})
    for _ in range(3):
        server.run_session(uids, 0)
    assert len(server.got) == 999, "all others are there after the second break"
    run_all(server, uids, 10)
    assert server.left_out == server.poison
    assert len(server.got) == 999


@pytest.mark.parametrize("seed", range(5))
def test_a_server_that_shuffles_its_answers_hides_nothing(seed: int) -> None:
    uids = list(range(1000, 0, -1))
    server = Server({777, 3}, seed)
    run_all(server, uids, 60)
    assert server.left_out == {777, 3}
    assert len(server.got) == 998


def test_several_are_isolated_each() -> None:
    uids = list(range(300, 0, -1))
    server = Server({300, 299, 150, 1})
    run_all(server, uids, 40)
    assert server.left_out == {300, 299, 150, 1}
    assert len(server.got) == 296


def test_a_provider_out_of_order_costs_no_message_before_it_lasted_a_while() -> None:
    server = Server({1, 2})
    for _ in range(50):
        assert not server.run_session([2, 1], 0)
    assert not server.left_out
    for _ in range(50):
        server.run_session([2, 1], PROOF_MS)
    assert server.left_out == {1, 2}


def test_a_network_that_breaks_here_and_there_suspects_nobody_for_long() -> None:
    watch = PoisonWatch(PROOF_MS)
    uids = list(range(10_000))
    got: set[int] = set()
    for start in range(0, 10_000, 100):
        came = uids[start : start + 100]
        got.update(came)
        watch.note_got(came)
        watch.forget("m", came)
        assert watch.note_break("m", uids, got, PROOF_MS * start) is None
    assert watch.note_break("m", uids, got, 0) is None, "it broke after all had come"
    assert watch.plan_groups("m", uids, ()) == [uids]


def test_what_is_left_out_is_tried_more_and_more_rarely_and_at_once_after_one_came() -> None:
    watch = PoisonWatch(PROOF_MS)
    left_out = [("m", 1), ("m", 2)]
    tried: list[tuple[int, tuple[str, int]]] = []
    for hour in range(200):
        found = watch.find_retry(left_out, hour * AGAIN_MS_MIN)
        if found is not None:
            tried.append((hour, found))
    hours = [hour for hour, _ in tried]
    assert hours[:5] == [1, 2, 4, 8, 16]
    pauses = {later - hour for hour, later in itertools.pairwise(hours[6:])}
    assert pauses == {AGAIN_MS_MAX // AGAIN_MS_MIN}
    assert {key for _, key in tried[:2]} == set(left_out), "one after the other"
    watch.note_return("m", [2])
    assert watch.find_retry(left_out[:1], 0) == ("m", 1)


# -- the whole mirror ------------------------------------------------------------------------------
def poison_mail(number: int) -> bytes:
    return make_mail(number, "poison")


async def skipped(h: Harness) -> int:
    return int((await h.status())["messagesSkipped"])


async def wait_until_isolated(h: Harness, name: str, uid: int) -> None:
    def is_named(text: str | None) -> bool:
        return text is not None and f"{name}: the message with UID {uid} cannot" in text

    await h.wait_for_status(phase="live", messagesSkipped=1, lastError=is_named)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_first_sync_gets_past_a_message_that_cannot_be_fetched(
    harness: Open, kind: Poison
) -> None:
    async with harness(faults=Faults(poison=kind), pace=PACE) as h:
        for number in range(60):
            h.deliver(number)
            h.deliver(100 + number, "Archive")
        h.demo.deliver(poison_mail(500))
        for number in range(200, 210):
            h.deliver(number)
        await h.connect()
        await wait_until_isolated(h, "INBOX", 61)
        assert len((await h.hold_local())["INBOX"]) == 70
        h.deliver(300)
        h.deliver(301, "Archive")

        async def is_there() -> bool:
            held = await h.hold_local()
            return len(held["INBOX"]) == 71 and len(held["Archive"]) == 61

        await h.wait_until(is_there, lambda: "new mail did not come")
        assert await skipped(h) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_news_that_cannot_be_fetched_hold_up_nothing_and_come_once_they_can(
    harness: Open, kind: Poison
) -> None:
    async with harness(pace=PACE) as h:
        await h.begin(5)
        h.faults.poison = kind
        h.demo.deliver(poison_mail(500))
        h.deliver(50)
        h.deliver(51, "Archive")
        await wait_until_isolated(h, "INBOX", 6)
        await h.stop()
        h.deliver(52)
        h.start()  # a new process knows it still, and breaks no session over it

        async def is_there() -> bool:
            return len((await h.hold_local())["INBOX"]) == 7

        await h.wait_until(is_there, lambda: "new mail did not come")
        cursors = await h.services.store.read(h.world.account_id, load_cursors)
        assert [c.broken for c in cursors.values() if c.name == "INBOX"] == [(6,)]


async def test_a_message_that_was_left_out_is_tried_again_and_comes(
    harness: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tindra.sync.poison.AGAIN_MS_MIN", 300)
    async with harness(faults=Faults(poison="cut"), pace=PACE) as h:
        h.demo.deliver(poison_mail(500))
        h.demo.deliver(poison_mail(501))
        h.deliver(1)
        await h.connect()
        await h.wait_for_status(phase="live", messagesSkipped=2)
        h.faults.heal()
        await h.settle()
        await h.wait_for_status(phase="live", messagesSkipped=0, lastError=None)
        cursors = await h.services.store.read(h.world.account_id, load_cursors)
        assert not any(cursor.broken for cursor in cursors.values())


def test_the_last_break_is_the_one_that_proves() -> None:
    watch = PoisonWatch(PROOF_MS)
    now_ms = PROOF_MS
    answers = [watch.note_break("m", [7], (), 0) for _ in range(2)]
    answers += [watch.note_break("m", [7], (), now_ms) for _ in range(ALONE_BREAKS_MAX)]
    assert answers == [None] * (ALONE_BREAKS_MAX + 1) + [7]
