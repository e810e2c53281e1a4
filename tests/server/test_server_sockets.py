"""The whole server on real sockets: what uvicorn does with us, and what it leaves to us."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from tests.server.world import BASIC, MAIL, World
from tindra.server import connection as connection_module
from tindra.server import run as run_module
from tindra.server import slow_reader
from tindra.server.run import bind, make_loop, raise_file_limit, serve

ECHO = msgspec.json.encode(
    {"using": ["urn:ietf:params:jmap:core"], "methodCalls": [["Core/echo", {"a": 1}, "0"]]}
)


class Wire:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read_head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(5):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = dict(line.split(": ", 1) for line in head[1:] if line)
        return int(head[0].split()[1]), fields

    async def read_answer(self) -> tuple[int, dict[str, str], bytes]:
        status, fields = await self.read_head()
        async with asyncio.timeout(5):
            body = await self.reader.readexactly(int(fields.get("content-length", "0")))
        return status, fields, body

    async def read_chunk(self) -> bytes:
        async with asyncio.timeout(5):
            size = int(await self.reader.readline(), 16)
            data = await self.reader.readexactly(size)
            await self.reader.readline()
            return data

    async def is_closed(self, seconds: float = 5) -> bool:
        async with asyncio.timeout(seconds):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                pass
        return True


class Running:
    def __init__(self, world: World, port: int) -> None:
        self.world = world
        self.port = port
        self.stop = asyncio.Event()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Wire]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Wire(reader, writer)
        finally:
            writer.close()
            try:
                await writer.wait_closed()
            except ConnectionError:
                pass


@asynccontextmanager
async def running(world: World | None = None) -> AsyncIterator[Running]:
    world = world or World()
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    server = Running(world, 0)
    async with asyncio.TaskGroup() as group:
        group.create_task(
            serve(world.app, "127.0.0.1", 0, on_bound=bound.set_result, stop=server.stop)
        )
        server.port = await bound
        yield server
        server.stop.set()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await test()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(limited())


def post(body: bytes, path: str = "/jmap/api", more: str = "") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: h\r\nAuthorization: {BASIC}\r\n"
        f"Content-Type: application/json\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def get(path: str, more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: {BASIC}\r\n{more}\r\n".encode()


def test_requests_follow_each_other_on_one_connection_and_pipelined_too() -> None:
    async def test() -> None:
        async with running() as server, server.connect() as wire:
            for _ in range(3):
                await wire.send(post(ECHO))
                status, fields, body = await wire.read_answer()
                assert (status, fields["content-type"]) == (200, "application/json")
                assert msgspec.json.decode(body)["methodResponses"][0][1] == {"a": 1}
                assert "server" not in fields
                assert "date" in fields
            await wire.send(post(ECHO) + get("/healthz") + post(b"{"))
            assert [(await wire.read_answer())[0] for _ in range(3)] == [200, 200, 400]

    run(test)


def test_an_event_arrives_within_100_ms_of_its_commit() -> None:
    async def test() -> None:
        async with running() as server, server.connect() as wire:
            await wire.send(get("/jmap/eventsource?types=*&closeafter=no&ping=0"))
            status, fields = await wire.read_head()
            assert (status, fields["content-type"]) == (200, "text/event-stream")
            assert (await wire.read_chunk()).startswith(b"retry: ")
            taken_s = []
            for modseq in range(1, 6):
                began = time.perf_counter()
                server.world.commit(MAIL, modseq, "Thing")
                assert (await wire.read_chunk()).startswith(b"event: state\ndata: {")
                taken_s.append(time.perf_counter() - began)
            # The quickest: the others may have waited for a busy machine.
            assert min(taken_s) < 0.1

    run(test)


def test_close_after_state_ends_the_answer() -> None:
    async def test() -> None:
        async with running() as server, server.connect() as wire:
            await wire.send(get("/jmap/eventsource?types=*&closeafter=state&ping=0"))
            await wire.read_head()
            await wire.read_chunk()
            server.world.commit(MAIL, 3, "Thing")
            assert (await wire.read_chunk()).startswith(b"event: state\n")
            assert await wire.read_chunk() == b""

    run(test)


def test_a_client_that_leaves_its_stream_is_forgotten() -> None:
    async def test() -> None:
        async with running() as server:
            async with server.connect() as wire:
                await wire.send(get("/jmap/eventsource"))
                await wire.read_head()
                assert len(server.world.app.hub) == 1
            for _ in range(500):
                if not len(server.world.app.hub):
                    return
                await asyncio.sleep(0.01)
            pytest.fail("the stream is still held")

    run(test)


def test_a_stop_ends_open_streams_promptly_and_in_good_order() -> None:
    async def test() -> None:
        async with running() as server, server.connect() as wire:
            await wire.send(get("/jmap/eventsource"))
            await wire.read_head()
            await wire.read_chunk()
            began = time.perf_counter()
            server.stop.set()
            assert await wire.read_chunk() == b""
            assert await wire.is_closed()
            assert time.perf_counter() - began < 2

    run(test)


def test_a_request_that_runs_during_a_stop_is_answered() -> None:
    async def test() -> None:
        async with running() as server, server.connect() as wire:
            request = post(ECHO)
            await wire.send(request[:-5])
            await asyncio.sleep(0.05)
            server.stop.set()
            await asyncio.sleep(0.15)
            await wire.send(request[-5:])
            assert (await wire.read_answer())[0] == 200

    run(test)


def test_being_cancelled_stops_the_server_too() -> None:
    async def test() -> None:
        world = World()
        bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(serve(world.app, "127.0.0.1", 0, on_bound=bound.set_result))
            port = await bound
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", port)

    run(test)


def test_as_many_files_may_be_open_as_the_system_allows() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
        raised = raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == raised > 512
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_more_connections_than_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "raise_file_limit", lambda: run_module.FILES_RESERVED + 3)

    async def test() -> None:
        async with running() as server, server.connect() as first, server.connect() as second:
            await first.send(get("/healthz"))
            assert (await first.read_answer())[0] == 200
            async with server.connect() as third:
                await third.send(get("/healthz"))
                assert (await third.read_answer())[0] == 503
            await second.send(get("/healthz"))
            assert (await second.read_answer())[0] == 200

    run(test)


def test_a_port_that_is_taken_is_an_error_at_start() -> None:
    with bind("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(OSError):
            bind("127.0.0.1", taken.getsockname()[1])


def test_an_upload_that_is_too_large_is_refused_before_it_is_sent() -> None:
    async def test() -> None:
        async with running() as server, server.connect() as wire:
            await wire.send(
                (
                    f"POST /jmap/upload/{MAIL} HTTP/1.1\r\nHost: h\r\nAuthorization: {BASIC}\r\n"
                    "Expect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n"
                ).encode()
            )
            assert (await wire.read_answer())[0] == 413

    run(test)


def test_an_upload_in_chunks_is_stored_whole() -> None:
    async def test() -> None:
        async with running() as server, server.connect() as wire:
            head = (
                f"POST /jmap/upload/{MAIL} HTTP/1.1\r\nHost: h\r\nAuthorization: {BASIC}\r\n"
                "Transfer-Encoding: chunked\r\n\r\n"
            )
            await wire.send(head.encode())
            for _ in range(40):
                await wire.send(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await wire.send(b"0\r\n\r\n")
            status, _, body = await wire.read_answer()
            assert status == 201
            assert msgspec.json.decode(body)["size"] == 40 * 0x10000

    run(test)


@pytest.mark.parametrize(
    ("header", "trailer", "expected"),
    [
        ("", "", 401), ("", f"Authorization: {BASIC}\r\n", 401),
        (f"Authorization: {BASIC}\r\n", "Authorization: Basic eDp5\r\n", 200),
        (f"Authorization: {BASIC}\r\n", "Host: evil/\r\n", 200),
    ],
)  # fmt: skip
def test_a_trailer_never_becomes_a_header(header: str, trailer: str, expected: int) -> None:
    async def test() -> None:
        async with running() as server, server.connect() as wire:
            head = (
                f"POST /jmap/api HTTP/1.1\r\nHost: h\r\n{header}"
                "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            size = b"%x" % len(ECHO)
            await wire.send(
                head.encode() + size + b"\r\n" + ECHO + b"\r\n0\r\n" + trailer.encode() + b"\r\n"
            )
            assert (await wire.read_answer())[0] == expected

    run(test)


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: h\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", b"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_with_a_4xx_and_the_connection_closed(data: bytes) -> None:
    async def test() -> None:
        async with running() as server:
            async with server.connect() as wire:
                await wire.send(data)
                status, _ = await wire.read_head()
                assert 400 <= status < 500
                if status == 400:
                    assert await wire.is_closed()
            async with server.connect() as wire:
                await wire.send(get("/healthz"))
                assert (await wire.read_answer())[0] == 200
        assert not server.world.reports

    run(test)


@pytest.mark.parametrize(
    "pieces",
    [
        [b"GET / HTTP/1.1\r\n", b"X: " + b"a" * 70_000],
        [b"GET / HTTP/1.1\r\n", *[b"X-%d: y\r\n" % n for n in range(6000)]],
        [b"GET /", b"a" * 70_000],
        [b"POST /jmap/api HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: "]
        + 20 * [b"a" * 70_000],
    ],
    ids=["one header", "many headers", "the address", "a trailer"],
)
def test_a_head_without_end_is_cut_off(pieces: list[bytes]) -> None:
    async def test() -> None:
        async with running() as server, server.connect() as wire:
            try:
                for piece in pieces:
                    await wire.send(piece)
                    await asyncio.sleep(0)
            except ConnectionError:
                pass
            assert await wire.is_closed()

    run(test)


def test_a_head_that_is_too_large_is_told_so() -> None:
    async def test() -> None:
        async with running() as server, server.connect() as wire:
            await wire.send(b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 40_000 + b"\r\n\r\n")
            assert (await wire.read_head())[0] == 431

    run(test)


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: h\r\n"], ids=["none", "some", "most"]
)
def test_a_client_that_does_not_finish_its_head_is_cut_off(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "HEAD_S", 0.05)
    monkeypatch.setattr(run_module, "SWEEP_S", 0.05)

    async def test() -> None:
        async with running() as server, server.connect() as wire:
            await wire.send(sent)
            assert await wire.is_closed(3)

    run(test)


def test_a_quiet_connection_between_requests_is_not_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_module, "HEAD_S", 0.05)
    monkeypatch.setattr(run_module, "SWEEP_S", 0.05)

    async def test() -> None:
        async with running() as server, server.connect() as wire:
            for _ in range(2):
                await wire.send(get("/healthz"))
                assert (await wire.read_answer())[0] == 200
                await asyncio.sleep(0.4)

    run(test)


def test_a_body_that_nobody_reads_is_not_taken_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "DISCARD_S", 0.05)
    monkeypatch.setattr(run_module, "SWEEP_S", 0.05)

    async def test() -> None:
        async with running() as server, server.connect() as wire:
            await wire.send(b"POST /nothing HTTP/1.1\r\nHost: h\r\nContent-Length: 999999\r\n\r\n")
            assert (await wire.read_answer())[0] == 405
            try:
                for _ in range(300):
                    await wire.send(b"x")
                    await asyncio.sleep(0.01)
            except (ConnectionError, RuntimeError):  # uvloop says the latter of a closed transport
                return
            pytest.fail("the body is still taken")

    run(test)


def test_a_client_that_does_not_read_its_answer_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slow_reader, "WRITE_STALL_S", 0.1)
    monkeypatch.setattr(run_module, "SWEEP_S", 0.05)

    async def test() -> None:
        world = World()
        blob = world.add_blob(MAIL, b"x" * 30_000_000)
        async with running(world) as server:
            loop = asyncio.get_running_loop()
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.setblocking(False)
                await loop.sock_sendall(client, get(f"/jmap/download/{MAIL}/{blob}/x"))
                await asyncio.sleep(0.6)
                received = 0
                try:
                    while piece := await asyncio.wait_for(loop.sock_recv(client, 1 << 20), 3):
                        received += len(piece)
                except ConnectionError:
                    pass
                assert received < 30_000_000

    run(test)


def test_a_wrong_sign_in_with_a_body_leaves_the_connection_usable() -> None:
    async def test() -> None:
        async with running() as server, server.connect() as wire:
            body = b"x" * 300_000
            head = f"POST /jmap/api HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
            await wire.send(head.encode() + body)
            assert (await wire.read_answer())[0] == 401
            await wire.send(post(ECHO))
            assert (await wire.read_answer())[0] == 200

    run(test)
