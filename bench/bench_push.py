"""What 1,000 open streams cost: memory, processor time, and time from commit to stream.

Run: python -m bench.bench_push [streams]. A child process is the server (real sockets, the SQLite
store, real commits); this process holds the streams and reads. Both read one monotonic clock. Two
cases each for event streams and for WebSockets: every stream has an account of its own, and all
streams listen to one shared account (where one loop writes to a thousand sockets in turn, which is
most of the latency).
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import obstore.store
import uvloop

from tindra.app.local_bus import LocalBus
from tindra.app.system import SystemClock, SystemRandom, ThreadOffload
from tindra.app.wiring import make_registry
from tindra.base.byte_cache import ByteCache
from tindra.base.ids import AccountId, UserId
from tindra.core.ports import SecretStore, StoreTx
from tindra.core.services import Services
from tindra.model.account import ALL_RIGHTS, Account, Grant, Token, User
from tindra.model.search_feed import SearchFeed
from tindra.model.stored import CommitInfo
from tindra.server.app import make_app
from tindra.server.options import ServerOptions
from tindra.server.password import hash_token
from tindra.server.run import make_loop, serve
from tindra.store.blobs.store import Blobs
from tindra.store.sqlite.directory import SqliteDirectory
from tindra.store.sqlite.store import SqliteStore

STREAMS = 1_000
STREAMS_PER_SHARING_USER = 50
MEMORY_PROMISED_MB = 60.0
P99_PROMISED_MS = 100.0
COMMITS_OWN = 300
COMMITS_SHARED = 40
GAP_MS = 20.0
GAP_SHARED_MS = 250.0
IDLE_S = 10.0
SHARED = AccountId("a-shared")
TYPE = "Identity"
_STATE = re.compile(rb'"(a-[a-z0-9]+)":\{"' + TYPE.encode() + rb'":"(\d+)"')


# -- the server ------------------------------------------------------------------------------------
async def _fill(directory: SqliteDirectory, count: int) -> None:
    await directory.put_account(Account(SHARED, "shared", UserId("u0"), 0))
    for number in range(count):
        user = User(UserId(f"u{number}"), f"user{number}", "", AccountId(f"a-{number}"), 0)
        await directory.put_user(user)
        await directory.put_account(Account(user.home_account_id, user.login, user.id, 0))
        await directory.put_grant(Grant(user.id, user.home_account_id, ALL_RIGHTS))
        if number < count // STREAMS_PER_SHARING_USER:
            await directory.put_grant(Grant(user.id, SHARED, ALL_RIGHTS))
        await directory.put_token(
            Token(hash_token(f"token{number}"), user.id, "bench", "device", 0)
        )


async def _commit(store: SqliteStore, accounts: list[str], gap_ms: float) -> None:
    async def change(tx: StoreTx) -> None:
        await tx.put_object(TYPE, "i-bench", b'{"name":"%d"}' % tx.modseq)

    for account_id in accounts:
        await store.write(AccountId(account_id), "bench", change)
        await asyncio.sleep(gap_ms / 1000)


async def _serve_commands(store: SqliteStore, commits: list[tuple[str, int, int]]) -> None:
    """Each line on standard input is a list of accounts to commit to, or asks for the figures."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        command = msgspec.json.decode(line)
        commits.clear()
        cpu, began = time.process_time(), time.monotonic()
        await _commit(store, command["accounts"], command["gap_ms"])
        await asyncio.sleep(command["rest_s"])
        answer = {
            "commits": commits,
            "cpu_s": time.process_time() - cpu,
            "wall_s": time.monotonic() - began,
        }
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


async def run_child(folder: Path, count: int) -> None:
    """The server process."""
    registry, clock, bus = make_registry(), SystemClock(), LocalBus()
    store = await SqliteStore.open(folder / "bench.sqlite")
    directory = SqliteDirectory(store)
    await _fill(directory, count)
    commits: list[tuple[str, int, int]] = []

    def tell(info: CommitInfo) -> None:
        commits.append((info.account_id, info.modseq, time.monotonic_ns()))
        bus.publish(info)

    store.on_commit = tell
    services = Services(
        store=store,
        directory=directory,
        secrets=_no_secrets(),
        blobs=Blobs(store, obstore.store.MemoryStore(), clock),
        search=_none(),
        feed=SearchFeed(),
        cache=ByteCache(),
        bus=bus,
        offload=ThreadOffload(),
        clock=clock,
        random=SystemRandom(),
        reactions=registry.reactions,
    )
    stop = asyncio.Event()
    app = make_app(registry, services, ServerOptions())
    async with asyncio.TaskGroup() as group:
        group.create_task(
            serve(app, "127.0.0.1", 0, on_bound=lambda port: print(port, flush=True), stop=stop)
        )
        await _serve_commands(store, commits)
        stop.set()
    await store.close()


def _none() -> Any:
    """The server asks neither for the search index nor for secrets."""
    return None


def _no_secrets() -> SecretStore:
    secrets: SecretStore = _none()
    return secrets


# -- the clients -----------------------------------------------------------------------------------
def _mask(text: bytes) -> bytes:
    """A short text frame of a client. Source: RFC 6455 s5.2"""
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text


class Client(asyncio.Protocol):
    """One event stream; notes when each state arrived."""

    request = (
        b"GET /jmap/eventsource?types=*&closeafter=no&ping=300 HTTP/1.1\r\n"
        b"Host: localhost\r\nAccept: text/event-stream\r\n"
    )
    status = b"HTTP/1.1 200"
    first = b""
    """Sent once the stream is open."""

    def __init__(self, token: str, arrivals: dict[tuple[str, int], list[int]]) -> None:
        self._token = token
        self._arrivals = arrivals
        self.is_open: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        authorization = b"Authorization: Bearer " + self._token.encode() + b"\r\n\r\n"
        self.transport.write(self.request + authorization)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if not self.is_open.done():
            assert data.startswith(self.status), data
            self.transport.write(self.first)
            self.is_open.set_result(None)
        for account_id, modseq in _STATE.findall(data):
            self._arrivals.setdefault((account_id.decode(), int(modseq)), []).append(now)


class SocketClient(Client):
    """One WebSocket with push; it answers no pings, which come only to who is silent for long."""

    request = (
        b"GET /jmap/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: jmap\r\n"
    )
    status = b"HTTP/1.1 101"
    first = _mask(b'{"@type":"WebSocketPushEnable","dataTypes":null}')


class Case:
    """A server with its streams, and what was measured of it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, client: type[Client]) -> None:
        self._process = process
        self._port = port
        self._client = client
        self._arrivals: dict[tuple[str, int], list[int]] = {}
        self._clients: list[Client] = []

    def measure_mb(self) -> float:
        """Resident memory of the server now."""
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", text)
        assert found is not None
        return int(found[1]) / 1024

    async def open_streams(self, users: list[int]) -> None:
        """One stream for each entry."""
        loop = asyncio.get_running_loop()
        for number in users:
            make = functools.partial(self._client, f"token{number}", self._arrivals)
            _, client = await loop.create_connection(make, "127.0.0.1", self._port)
            self._clients.append(client)
            await client.is_open

    async def commit(
        self, accounts: list[str], gap_ms: float, rest_s: float
    ) -> tuple[list[float], float, float]:
        """Latencies in ms of every delivery, and CPU and wall seconds of the server."""
        command = msgspec.json.encode({"accounts": accounts, "gap_ms": gap_ms, "rest_s": rest_s})
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._arrivals.clear()
        self._process.stdin.write(command + b"\n")
        self._process.stdin.flush()
        line = await asyncio.get_running_loop().run_in_executor(None, self._process.stdout.readline)
        answer = msgspec.json.decode(line)
        await asyncio.sleep(0.2)
        latencies = [
            (arrived - committed) / 1e6
            for account_id, modseq, committed in answer["commits"]
            for arrived in self._arrivals.get((account_id, modseq), [])
        ]
        return latencies, answer["cpu_s"], answer["wall_s"]

    def close(self) -> None:
        """Hang up all clients."""
        for client in self._clients:
            client.transport.abort()


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def _start_child(folder: str, count: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench.bench_push", "child", folder, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


async def _run_case(
    name: str, client: type[Client], count: int, users: list[int], accounts: list[str]
) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        process = _start_child(folder, count)
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            case = Case(process, port, client)
            await case.open_streams(users[:1])
            before_mb = case.measure_mb()
            await case.open_streams(users[1:])
            is_shared = len(set(accounts)) == 1
            gap_ms = GAP_SHARED_MS if is_shared else GAP_MS
            latencies, cpu_s, wall_s = await case.commit(accounts, gap_ms, 0.5)
            grown_mb = case.measure_mb() - before_mb
            expected = len(accounts) * (len(users) if is_shared else 1)
            _, idle_cpu_s, idle_wall_s = await case.commit([], 0, IDLE_S)
            idle = idle_cpu_s / idle_wall_s
            _print_case(name, latencies, grown_mb, cpu_s - idle * wall_s)
            print(f"  idle: {idle:.1%} of a core; delivered {len(latencies)} of {expected} events")
            case.close()
            is_fast = _percentile(latencies, 0.99) <= P99_PROMISED_MS
            return is_fast and grown_mb <= MEMORY_PROMISED_MB and len(latencies) == expected
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(20)


def _print_case(name: str, latencies: list[float], grown_mb: float, cpu_s: float) -> None:
    shown = ", ".join(
        f"{label} {_percentile(latencies, share):.1f}"
        for label, share in (("p50", 0.5), ("p99", 0.99), ("worst", 1.0))
    )
    print(name)
    print(f"  commit to stream: {shown} ms (promised: p99 {P99_PROMISED_MS:.0f})")
    print(f"  memory over one stream: {grown_mb:.1f} MB (promised: {MEMORY_PROMISED_MB:.0f})")
    print(f"  server CPU: {cpu_s / len(latencies) * 1e6:.0f} us an event, its commit included")


async def main(count: int) -> int:
    """All cases; 1 if a promise was broken."""
    choose = random.Random(7).randrange
    own = list(range(count))
    own_commits = [f"a-{choose(count)}" for _ in range(COMMITS_OWN)]
    sharing = [number % (count // STREAMS_PER_SHARING_USER) for number in range(count)]
    shared_commits: list[str] = [SHARED] * COMMITS_SHARED
    is_kept = True
    for kind, client in (("event streams", Client), ("WebSockets", SocketClient)):
        name = f"{count} {kind}, an account each"
        is_kept &= await _run_case(name, client, count, own, own_commits)
        name = f"{count} {kind} on one shared account"
        is_kept &= await _run_case(name, client, count, sharing, shared_commits)
    return 0 if is_kept else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(run_child(Path(sys.argv[2]), int(sys.argv[3])))
        os._exit(0)  # the thread that waits for standard input would hold the process
    sys.exit(uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else STREAMS)))
