"""Event streams: who is told what and when, merged for slow clients, ended when access ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.asgi import Line, ask, make_scope
from tests.server.world import ADA, BASIC, BOB_BASIC, BOBS, MAIL, SHARED, World
from tindra.base import limits
from tindra.base.ids import AccountId, ModSeq
from tindra.model.stored import CommitInfo
from tindra.server.http.exchange import HttpError
from tindra.server.routes.eventsource import parse_stream_request
from tindra.server.sign_in import CALLER_FRESH_MS
from tindra.server.streams import (
    EVENT_ID_ACCOUNTS_MAX,
    KEEPALIVE_MS,
    Commit,
    EventStream,
    encode_event_id,
    parse_event_id,
)

URL = "/jmap/eventsource"


class Listener(Line):
    """A client that reads events."""

    task: asyncio.Task[None]

    async def next_event(self) -> dict[str, str]:
        """The fields of the next event; comments and the retry field are passed over."""
        while True:
            block = (await self.next_body()).decode()
            fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
            if "event" in fields:
                return fields

    async def next_states(self) -> dict[str, dict[str, str]]:
        event = await self.next_event()
        assert event["event"] == "state"
        data = msgspec.json.decode(event["data"])
        assert data["@type"] == "StateChange"
        changed: dict[str, dict[str, str]] = data["changed"]
        return changed

    async def ended(self) -> bool:
        async with asyncio.timeout(5):
            await self.task
        last = self.sent.get_nowait()
        return last["type"] == "http.response.body" and not last["more_body"]


@asynccontextmanager
async def listen(
    world: World, query: str = "", auth: str = BASIC, **headers: str
) -> AsyncIterator[Listener]:
    """An open stream whose head has been read."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    scope = make_scope("GET", URL + query, {"host": "h", "authorization": auth} | named)
    line = Listener(scope)
    line.feed(b"")
    async with asyncio.TaskGroup() as group:
        line.task = group.create_task(world.app(scope, line.receive, line.send))
        start = await line.next()
        assert start["status"] == 200
        assert (b"content-type", b"text/event-stream") in start["headers"]
        assert (b"cache-control", b"no-store") in start["headers"]
        assert (await line.next_body()).startswith(b"retry: ")
        await settle()
        yield line
        line.hang_up()


async def settle() -> None:
    """Let every task that can run, run."""
    for _ in range(20):
        await asyncio.sleep(0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


def test_a_commit_is_an_event_at_once() -> None:
    async def test() -> None:
        world = World()
        async with listen(world) as line:
            assert line.is_silent(), "a fresh stream begins with what comes, not with what was"
            world.commit(MAIL, 7, "Thing", "EmailDelivery")
            await settle()
            assert not line.is_silent(), "no timer stands between a commit and its event"
            event = await line.next_event()
            assert event["event"] == "state"
            assert event["id"] == f"{MAIL}:7"
            data = msgspec.json.decode(event["data"])
            assert data == {
                "@type": "StateChange",
                "changed": {MAIL: {"Thing": "7", "EmailDelivery": "7"}},
            }
        await settle()
        assert len(world.app.hub) == 0

    run(test)


def test_only_pushed_types_and_readable_accounts_are_told() -> None:
    async def test() -> None:
        world = World()
        async with listen(world) as line:
            world.commit(BOBS, 1, "Thing")
            world.commit(MAIL, 2, "Secret")
            world.commit(MAIL, 3, "Unknown")
            await settle()
            assert line.is_silent()
            world.commit(SHARED, 4, "Thing", "Secret")
            assert await line.next_states() == {SHARED: {"Thing": "4"}}

    run(test)


def test_only_the_types_asked_for_are_told() -> None:
    async def test() -> None:
        world = World()
        async with listen(world, "?types=EmailDelivery,Nonsense&closeafter=no&ping=0") as line:
            world.commit(MAIL, 1, "Thing")
            await settle()
            assert line.is_silent()
            world.commit(MAIL, 2, "Thing", "EmailDelivery")
            assert await line.next_states() == {MAIL: {"EmailDelivery": "2"}}

    run(test)


def test_a_slow_client_gets_one_event_with_the_latest_states() -> None:
    async def test() -> None:
        world = World()
        async with listen(world) as line:
            line.may_write.clear()
            for modseq in range(1, 2000):
                world.commit(MAIL, modseq, "Thing")
                if modseq % 3 == 0:
                    world.commit(SHARED, modseq, "EmailDelivery")
            await settle()
            line.may_write.set()
            first = await line.next_states()
            rest = first if SHARED in first else await line.next_states()
            assert rest == {MAIL: {"Thing": "1999"}, SHARED: {"EmailDelivery": "1998"}}
            await settle()
            assert line.is_silent()

    run(test)


def test_a_burst_is_gathered_into_few_events_and_nothing_is_lost() -> None:
    async def test() -> None:
        world = World()
        async with listen(world) as line:
            for modseq in range(1, 101):
                world.commit(MAIL, modseq, "Thing")
                await asyncio.sleep(0)
            count, newest = 0, ""
            while newest != "100":
                newest = (await line.next_states())[MAIL]["Thing"]
                count += 1
            assert count <= 5

    run(test)


def test_a_hint_that_comes_late_or_twice_is_dropped() -> None:
    async def test() -> None:
        world = World()
        async with listen(world) as line:
            world.commit(MAIL, 5, "Thing")
            assert await line.next_states() == {MAIL: {"Thing": "5"}}
            for modseq in (5, 4):
                world.bus.publish(CommitInfo(MAIL, ModSeq(modseq), {"Thing": ModSeq(modseq)}))
            await asyncio.sleep(0.06)
            assert line.is_silent()

    run(test)


def test_close_after_state_ends_with_the_first_event() -> None:
    async def test() -> None:
        world = World()
        async with listen(world, "?types=*&closeafter=state&ping=5") as line:
            world.clock.ms += 5_000
            world.app.hub.wake_due()
            assert (await line.next_event())["event"] == "ping", "a ping is no state"
            world.commit(MAIL, 1, "Thing")
            assert await line.next_states() == {MAIL: {"Thing": "1"}}
            assert await line.ended()

    run(test)


def test_pings_come_when_nothing_else_did_and_carry_no_id() -> None:
    async def test() -> None:
        world = World()
        async with listen(world, "?ping=60") as line:

            async def pass_time(ms: int) -> None:
                world.clock.ms += ms
                world.app.hub.wake_due()
                await asyncio.sleep(0.06)

            await pass_time(59_000)
            assert line.is_silent()
            world.commit(MAIL, 1, "Thing")
            await line.next_states()
            await pass_time(59_000)
            assert line.is_silent(), "the event counts as a ping"
            await pass_time(1_000)
            event = await line.next_event()
            assert (event["event"], event["data"]) == ("ping", '{"interval":60}')
            assert "id" not in event

    run(test)


def test_a_stream_without_pings_gets_a_comment_now_and_then() -> None:
    async def test() -> None:
        world = World()
        async with listen(world) as line:
            world.clock.ms += KEEPALIVE_MS
            world.app.hub.wake_due()
            assert await line.next_body() == b":\n\n"

    run(test)


@pytest.mark.parametrize(("asked", "used"), [("1", 5), ("30", 30), ("300", 300), ("99999", 900)])
def test_the_ping_interval_is_clamped_and_told(asked: str, used: int) -> None:
    assert parse_stream_request({"ping": asked}).ping_ms == used * 1000


@pytest.mark.parametrize(
    "query",
    [
        "?ping=x", "?ping=-1", "?ping=1.5", "?ping=9999999999", "?closeafter=maybe", "?types=",
        "?types=" + ",".join(f"T{n}" for n in range(200)), "?ping=%D9%A3", "?" + "a&" * 50,
    ],
)  # fmt: skip
def test_a_stream_asked_for_in_a_wrong_way_is_a_400(query: str) -> None:
    answer = asyncio.run(ask(World().app, "GET", URL + query, auth=BASIC))
    assert answer.status == 400


def test_a_stream_needs_a_sign_in() -> None:
    assert asyncio.run(ask(World().app, "GET", URL)).status == 401


def test_a_returning_client_is_told_at_once_of_what_it_missed_and_of_nothing_else() -> None:
    async def test() -> None:
        world = World()
        world.commit(MAIL, 5, "Thing")
        world.commit(MAIL, 9, "EmailDelivery", "Secret")
        world.commit(SHARED, 3, "Thing")
        async with listen(world, last_event_id=f"{MAIL}:5,{SHARED}:3") as line:
            assert await line.next_states() == {MAIL: {"EmailDelivery": "9"}}
        async with listen(world, last_event_id=f"{MAIL}:9,{SHARED}:3") as line:
            await asyncio.sleep(0.06)
            assert line.is_silent()
        async with listen(world, last_event_id=f"{MAIL}:9") as line:
            assert await line.next_states() == {SHARED: {"Thing": "3"}}, "an account it never named"
        async with listen(world, "?types=Thing", last_event_id="rubbish") as line:
            event = await line.next_event()
            assert msgspec.json.decode(event["data"])["changed"] == {
                MAIL: {"Thing": "5"},
                SHARED: {"Thing": "3"},
            }
            assert parse_event_id(event["id"]) == {MAIL: 5, SHARED: 3}

    run(test)


def test_the_last_id_names_all_that_the_client_knows() -> None:
    async def test() -> None:
        world = World()
        async with listen(world) as line:
            world.commit(MAIL, 1, "Thing")
            await line.next_event()
            await asyncio.sleep(0.06)
            world.commit(SHARED, 2, "Thing")
            assert (await line.next_event())["id"] == f"{MAIL}:1,{SHARED}:2"

    run(test)


def test_a_store_that_cannot_tell_what_was_missed_is_a_503() -> None:
    world = World()
    world.store.is_down = True
    answer = asyncio.run(ask(world.app, "GET", URL, auth=BASIC, last_event_id=f"{MAIL}:1"))
    assert answer.status == 503
    assert len(world.app.hub) == 0


def test_one_user_has_so_many_streams_and_no_more() -> None:
    async def test() -> None:
        world = World()
        lines = []
        async with asyncio.TaskGroup() as group:
            for _ in range(limits.STREAMS_PER_USER_MAX):
                line = Line(make_scope("GET", URL, {"host": "h", "authorization": BASIC}))
                group.create_task(world.app(line.scope, line.receive, line.send))
                lines.append(line)
                assert (await line.next())["status"] == 200
            refused = await ask(world.app, "GET", URL, auth=BASIC)
            assert refused.status == 429
            assert refused.header("retry-after")
            async with listen(world, auth=BOB_BASIC):
                pass  # another user is not held up
            lines[0].hang_up()
            await settle()
            async with listen(world):
                pass
            for line in lines[1:]:
                line.hang_up()
        assert len(world.app.hub) == 0
        assert not world.app.hub._by_account
        assert not world.app.hub._by_user
        assert not world.app.hub._told

    run(test)


def test_a_revoked_token_ends_its_streams_at_once() -> None:
    async def test() -> None:
        world = World()
        world.add_token(ADA, "t", "device")
        async with listen(world, auth="Bearer t") as line, listen(world) as other:
            answer = await ask(world.app, "DELETE", "/auth/token", auth="Bearer t")
            assert answer.status == 204
            assert await line.ended()
            world.commit(MAIL, 1, "Thing")
            assert await other.next_states() == {MAIL: {"Thing": "1"}}

    run(test)


def test_a_token_revoked_elsewhere_ends_its_streams_before_the_next_event() -> None:
    async def test() -> None:
        world = World()
        world.add_token(ADA, "t", "device")
        async with listen(world, auth="Bearer t") as line:
            world.directory.tokens.clear()
            world.clock.ms += CALLER_FRESH_MS
            world.commit(MAIL, 1, "Thing")
            assert await line.ended()

    run(test)


def test_a_quiet_stream_of_a_revoked_token_ends_by_the_clock() -> None:
    async def test() -> None:
        world = World()
        world.add_token(ADA, "t", "device")
        async with listen(world, auth="Bearer t") as line:
            world.directory.tokens.clear()
            world.clock.ms += CALLER_FRESH_MS
            world.app.hub.wake_due()
            assert await line.ended()

    run(test)


def test_a_grant_that_is_taken_ends_the_events_of_that_account_and_a_new_one_begins_them() -> None:
    async def test() -> None:
        world = World()
        async with listen(world) as line:
            del world.directory.grants[ADA, SHARED]
            world.grant(ADA, BOBS, frozenset({"read"}))
            world.clock.ms += CALLER_FRESH_MS
            world.commit(SHARED, 1, "Thing")  # waits in the stream while the look is taken
            await settle()
            assert line.is_silent()
            world.commit(SHARED, 2, "Thing")
            world.commit(BOBS, 3, "Thing")
            assert await line.next_states() == {BOBS: {"Thing": "3"}}

    run(test)


def test_a_directory_that_cannot_answer_leaves_the_streams_open() -> None:
    async def test() -> None:
        world = World()
        async with listen(world) as line:
            world.directory.is_down = True
            world.clock.ms += CALLER_FRESH_MS
            world.commit(MAIL, 1, "Thing")
            assert await line.next_states() == {MAIL: {"Thing": "1"}}

    run(test)


def test_a_server_that_stops_ends_its_streams_and_takes_no_new_ones() -> None:
    async def test() -> None:
        world = World()
        async with listen(world) as line:
            await world.app.close()
            assert await line.ended()
        assert (await ask(world.app, "GET", URL, auth=BASIC)).status == 503
        assert not world.bus._listeners

    run(test)


def test_a_server_that_says_when_the_client_has_gone_ends_the_stream_quietly() -> None:
    async def test() -> None:
        world = World()
        line = Line(make_scope("GET", URL, {"host": "h", "authorization": BASIC}))

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                raise BrokenPipeError

        await world.app(line.scope, line.receive, send)
        assert len(world.app.hub) == 0
        assert not world.reports

    run(test)


def test_the_ticker_runs_only_while_there_are_streams() -> None:
    async def test() -> None:
        world = World()
        assert world.app.hub._ticker is None
        async with listen(world):
            assert world.app.hub._ticker is not None
        world.app.hub._tick()
        assert world.app.hub._ticker is None

    run(test)


# -- pure parts ------------------------------------------------------------------------------------
IDS = st.text(st.sampled_from("abcXYZ019_-"), min_size=1, max_size=10)


@given(st.dictionaries(IDS, st.integers(0, 10**14), max_size=EVENT_ID_ACCOUNTS_MAX))
def test_event_ids_come_back_as_they_were_made(known: dict[str, int]) -> None:
    ids = {AccountId(id): ModSeq(modseq) for id, modseq in known.items()}
    assert parse_event_id(encode_event_id(ids)) == ids


@given(st.text(max_size=200))
def test_any_last_event_id_is_read_or_passed_over(text: str) -> None:
    parse_event_id(text)


def test_an_event_id_stays_short_with_any_number_of_accounts() -> None:
    known = {AccountId(f"a{n}"): ModSeq(n) for n in range(1000)}
    assert len(parse_event_id(encode_event_id(known))) == EVENT_ID_ACCOUNTS_MAX


STEP = st.tuples(st.sampled_from("ab"), st.sets(st.sampled_from("XYZ"), min_size=1), st.booleans())


@settings(deadline=None)
@given(st.lists(STEP, max_size=30), st.none() | st.frozensets(st.sampled_from("XYZ"), min_size=1))
def test_whatever_is_merged_the_client_ends_up_with_the_newest_states(
    steps: list[tuple[str, set[str], bool]], types: frozenset[str] | None
) -> None:
    world = World()
    sign_in: Any = object()
    stream = EventStream(sign_in, types, 0, world.clock.ms)
    newest: dict[tuple[str, str], str] = {}
    told: dict[tuple[str, str], str] = {}

    def take() -> None:
        event = stream.take_event(0).decode()
        if event:
            data = event.split("\n")[1].removeprefix("data: ")
            for account, states in msgspec.json.decode(data)["changed"].items():
                assert states
                told.update({(account, name): state for name, state in states.items()})

    for modseq, (account, names, is_taken) in enumerate(steps, 1):
        stream.offer(Commit(AccountId(account), dict.fromkeys(names, ModSeq(modseq))))
        newest.update({(account, n): str(modseq) for n in names if types is None or n in types})
        if is_taken:
            take()
    take()
    assert told == newest


def test_parsing_refuses_with_http_errors_only() -> None:
    with pytest.raises(HttpError):
        parse_stream_request({"types": ","})
