"""Large messages of many sessions share one budget, and none of them can keep it for itself."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tindra.base.limits import LARGE_MESSAGE_BYTES_MIN, MIB
from tindra.features.mail.ingest import parse_arrival
from tindra.model.blob import make_blob_id
from tindra.outside.imap import client as client_module
from tindra.outside.imap.budget import OctetBudget
from tindra.outside.imap.provider import ImapProvider
from tindra.outside.imap.session import ImapSession
from tindra.sync.ports import ProviderError, ServerSettings

CHUNK = b"x" * 65_536
WAIT_S_MAX = 60


class Host:
    """Servers with one large message each; user `slow` gets only the beginning of it."""

    def __init__(self, octets: int) -> None:
        self.octets = octets
        self.sent_slowly = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK [CAPABILITY IMAP4rev1] hi\r\n")
        is_slow = False
        try:
            while line := await reader.readline():
                tag, _, rest = line.strip().partition(b" ")
                if rest.startswith(b"LOGIN"):
                    is_slow = b"slow" in rest
                elif rest.startswith(b"SELECT"):
                    writer.write(b"* 3 EXISTS\r\n* OK [UIDVALIDITY 7] ok\r\n")
                elif rest.startswith(b"UID FETCH"):
                    await self._send(writer, is_slow)
                writer.write(tag + b" OK done\r\n")
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def _send(self, writer: asyncio.StreamWriter, is_slow: bool) -> None:
        writer.write(b"* 1 FETCH (UID 1 BODY[] {%d}\r\n" % self.octets)
        left = self.octets
        while left:
            if is_slow and left < self.octets:
                self.sent_slowly += 1
                await asyncio.Event().wait()
            piece = CHUNK[:left]
            writer.write(piece)
            await writer.drain()
            left -= len(piece)
        writer.write(b")\r\n")


@asynccontextmanager
async def serving(host: Host) -> AsyncIterator[int]:
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await host.serve(reader, writer)
        except asyncio.CancelledError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        async with asyncio.timeout(WAIT_S_MAX):
            yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


async def open_session(port: int, budget: OctetBudget, user: str = "joe") -> ImapSession:
    settings = ServerSettings("127.0.0.1", port, "none", user)
    session = await ImapProvider(budget=budget).connect(settings, "pw")
    await session.select("INBOX")
    return session


async def until(is_so: Callable[[], bool]) -> None:
    while True:
        if is_so():
            return
        await asyncio.sleep(0.01)


class Watched(OctetBudget):
    """Remembers the most that was held."""

    most = 0

    def _fits(self, octets: int) -> bool:
        fits = super()._fits(octets)
        if fits:
            self.most = max(self.most, self.held + octets)
        return fits


async def fetch(session: ImapSession, budget: OctetBudget) -> int:
    """Octets of the one message; others get their turn while it is held."""
    octets = 0
    try:
        async for message in session.fetch_messages([1], MIB):
            assert budget.held >= LARGE_MESSAGE_BYTES_MIN
            octets += len(message.raw or b"")
            for _ in range(5):
                await asyncio.sleep(0)
    finally:
        await session.close()
    return octets


# -- the budget alone ------------------------------------------------------------------------------
def test_first_come_first_served_and_what_is_too_large_goes_alone() -> None:
    budget, called = OctetBudget(100), list[str]()
    assert budget.try_hold("a", 60, lambda: called.append("a"))
    assert not budget.try_hold("giant", 500, lambda: called.append("giant"))
    assert not budget.try_hold("b", 10, lambda: called.append("b")), "nobody overtakes"
    assert not budget.try_hold("gone", 10, lambda: called.append("gone"))
    budget.forget("gone")
    budget.give_back(60)
    assert (called, budget.held) == (["giant"], 500)
    budget.give_back(500)
    assert (called, budget.held) == (["giant", "b"], 10)
    budget.give_back(10)
    assert (budget.held, budget.is_wanted) == (0, False)


def test_who_stops_waiting_lets_the_next_ones_in() -> None:
    budget, called = OctetBudget(100), list[str]()
    assert budget.try_hold("a", 60, lambda: None)
    assert not budget.try_hold("b", 90, lambda: called.append("b"))
    assert not budget.try_hold("c", 40, lambda: called.append("c"))
    budget.forget("b")
    assert (called, budget.held) == (["c"], 100)


# -- sessions --------------------------------------------------------------------------------------
async def test_many_sessions_get_their_large_messages_within_the_budget() -> None:
    budget = Watched(3 * LARGE_MESSAGE_BYTES_MIN + 10)
    octets = LARGE_MESSAGE_BYTES_MIN + 1
    async with serving(Host(octets)) as port:
        sessions = [await open_session(port, budget) for _ in range(20)]
        got = await asyncio.gather(*(fetch(session, budget) for session in sessions))
    assert got == [octets] * 20
    assert 2 * octets <= budget.most <= 3 * LARGE_MESSAGE_BYTES_MIN + 10
    assert (budget.held, budget.is_wanted) == (0, False)


async def test_a_message_larger_than_the_budget_comes_alone() -> None:
    budget = Watched(MIB)
    async with serving(Host(LARGE_MESSAGE_BYTES_MIN)) as port:
        sessions = [await open_session(port, budget) for _ in range(3)]
        got = await asyncio.gather(*(fetch(session, budget) for session in sessions))
    assert got == [LARGE_MESSAGE_BYTES_MIN] * 3
    assert (budget.most, budget.held) == (LARGE_MESSAGE_BYTES_MIN, 0)


async def test_servers_that_stop_in_the_middle_lose_their_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "PROGRESS_MS", 300)
    budget = OctetBudget(2 * LARGE_MESSAGE_BYTES_MIN)
    host = Host(LARGE_MESSAGE_BYTES_MIN)
    async with serving(host) as port:
        slow = [await open_session(port, budget, "slow") for _ in range(4)]
        stuck = [asyncio.ensure_future(fetch(session, budget)) for session in slow]
        await until(lambda: host.sent_slowly >= 2 and budget.is_wanted)
        session = await open_session(port, budget)
        assert await fetch(session, budget) == LARGE_MESSAGE_BYTES_MIN
        ends = await asyncio.gather(*stuck, return_exceptions=True)
    assert [end.code for end in ends if isinstance(end, ProviderError)] == ["SLOW"] * 4
    assert (budget.held, budget.is_wanted) == (0, False)


async def test_a_fetch_that_is_cancelled_or_given_up_leaves_nothing_counted() -> None:
    budget = OctetBudget(LARGE_MESSAGE_BYTES_MIN)
    host = Host(LARGE_MESSAGE_BYTES_MIN)
    async with serving(host) as port:
        slow = await open_session(port, budget, "slow")
        waiting = await open_session(port, budget)
        tasks = [asyncio.ensure_future(fetch(one, budget)) for one in (slow, waiting)]
        await until(lambda: budget.is_wanted)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (budget.held, budget.is_wanted) == (0, False)
        session = await open_session(port, budget)
        stream = session.fetch_messages([1], MIB)
        async for _ in stream:
            break
        assert budget.held == LARGE_MESSAGE_BYTES_MIN
        await session.close()
        assert isinstance(stream, AsyncGenerator)
        await stream.aclose()
        assert budget.held == 0


async def test_a_message_of_90_mib_costs_at_most_three_times_its_size() -> None:
    octets = 90 * MIB
    budget = OctetBudget()
    async with serving(Host(octets)) as port:
        session = await open_session(port, budget)
        tracemalloc.start()
        try:
            async for message in session.fetch_messages([1], MIB):
                assert message.raw is not None
                parse_arrival(message.raw, make_blob_id(message.raw))
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        await session.close()
    assert octets < most <= 3 * octets
