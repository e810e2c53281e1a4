"""WebSockets on a real line: a client library, frames made by hand, and clients that misbehave."""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.server.test_server_sockets import Running, Wire, running
from tests.server.test_server_sockets import run as run_on_sockets
from tests.server.test_server_websocket import TOKEN, echo, enable
from tests.server.world import ADA, BASIC, MAIL
from tindra.base import limits
from tindra.server import run as run_module
from tindra.server import slow_reader, socket_connection


def mask(opcode: int, payload: bytes, fin: bool = True) -> bytes:
    """One frame of a client. Source: RFC 6455 s5.2"""
    head = bytes([opcode | (0x80 if fin else 0)])
    if len(payload) < 126:
        head += bytes([0x80 | len(payload)])
    elif len(payload) < 1 << 16:
        head += bytes([0x80 | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([0x80 | 127]) + struct.pack("!Q", len(payload))
    return head + b"\0\0\0\0" + payload


UPGRADE = (
    f"GET /jmap/ws HTTP/1.1\r\nHost: h\r\nAuthorization: {BASIC}\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat, jmap\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
).encode()


@asynccontextmanager
async def client(
    server: Running, auth: str = BASIC, **more: Any
) -> AsyncIterator[ClientConnection]:
    """A WebSocket of the library."""
    more.setdefault("subprotocols", ["jmap"])
    url = f"ws://127.0.0.1:{server.port}/jmap/ws"
    headers = {"Authorization": auth}
    async with connect(
        url, additional_headers=headers, max_size=None, proxy=None, **more
    ) as socket:
        yield socket


async def ask_socket(socket: ClientConnection, message: Any) -> dict[str, Any]:
    await socket.send(msgspec.json.encode(message).decode())
    async with asyncio.timeout(10):
        found: dict[str, Any] = msgspec.json.decode(await socket.recv())
    return found


async def wait_closed(socket: ClientConnection) -> int:
    """The close code that the server gave."""

    async def read_on() -> None:
        while True:
            await socket.recv()

    with pytest.raises(ConnectionClosed) as caught:
        await asyncio.wait_for(read_on(), 10)
    assert caught.value.rcvd is not None, "the line broke without a close frame"
    return caught.value.rcvd.code


async def read_frame(wire: Wire) -> tuple[int, bytes]:
    """(opcode, payload) of the next frame of the server."""
    async with asyncio.timeout(5):
        first, second = await wire.reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await wire.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await wire.reader.readexactly(8))
        return first & 0x0F, await wire.reader.readexactly(size)


@asynccontextmanager
async def raw_socket(server: Running) -> AsyncIterator[Wire]:
    """A WebSocket whose frames the test makes by hand."""
    async with server.connect() as wire:
        await wire.send(UPGRADE)
        status, fields = await wire.read_head()
        assert status == 101
        assert fields["Sec-WebSocket-Protocol"] == "jmap"
        assert "Sec-WebSocket-Extensions" not in fields, "compression costs memory a socket"
        yield wire


def frame_of(message: Any) -> bytes:
    return mask(1, msgspec.json.encode(message))


def test_a_client_asks_and_hears_within_100_ms_of_a_commit() -> None:
    async def test() -> None:
        async with running() as server, client(server) as socket:
            assert (await ask_socket(socket, echo("r", text="žluťoučký 🐎")))["requestId"] == "r"
            await socket.send(msgspec.json.encode(enable(pushState="")).decode())
            await ask_socket(socket, echo())
            taken_s = []
            for modseq in range(1, 6):
                began = time.perf_counter()
                server.world.commit(MAIL, modseq, "Thing")
                assert msgspec.json.decode(await socket.recv())["@type"] == "StateChange"
                taken_s.append(time.perf_counter() - began)
            # The quickest: the others may have waited for a busy machine.
            assert min(taken_s) < 0.1
            await asyncio.wait_for(await socket.ping(), 5)

    run_on_sockets(test)


def test_the_library_is_refused_with_a_status() -> None:
    async def test() -> None:
        async with running() as server:
            for more, status in (
                ({"auth": "Bearer nothing"}, 401),
                ({"auth": ""}, 401),
                ({"subprotocols": None}, 400),
                ({"subprotocols": ["chat"]}, 400),
                ({"origin": "https://elsewhere.example"}, 403),
            ):
                with pytest.raises(InvalidStatus) as caught:
                    async with client(server, **more):
                        pass
                assert caught.value.response.status_code == status
                assert caught.value.response.body, "the reason is told"
            async with client(server) as socket:
                await ask_socket(socket, echo())
        assert not server.world.reports

    run_on_sockets(test)


def test_ten_thousand_pipelined_messages_are_all_answered() -> None:
    async def test() -> None:
        async with running() as server, client(server) as socket:

            async def send() -> None:
                for number in range(10_000):
                    await socket.send(msgspec.json.encode(echo(str(number))).decode())

            async with asyncio.TaskGroup() as group:
                group.create_task(send())
                found = [msgspec.json.decode(await socket.recv()) for _ in range(10_000)]
            assert {m["@type"] for m in found} == {"Response"}
            assert {m["requestId"] for m in found} == {str(n) for n in range(10_000)}

    run_on_sockets(test)


def test_messages_that_come_in_one_piece_do_not_hold_up_others() -> None:
    async def test() -> None:
        async with running() as server, raw_socket(server) as wire, client(server) as other:
            wire.writer.write(mask(1, b"{") * 30_000)
            await ask_socket(other, echo("quick"))
            for _ in range(30_000):
                opcode, payload = await read_frame(wire)
                assert (opcode, b"notJSON" in payload) == (1, True)

    run_on_sockets(test)


def test_fragments_are_one_message_and_pings_may_stand_between_them() -> None:
    async def test() -> None:
        async with running() as server, raw_socket(server) as wire:
            octets = msgspec.json.encode(echo("r", text="ž" * 500))
            await wire.send(mask(1, octets[:1], fin=False))
            for at in range(1, len(octets)):
                await wire.send(mask(0, octets[at : at + 1], fin=False))
                if at % 400 == 0:
                    await wire.send(mask(9, b"%d" % at))
                    assert await read_frame(wire) == (10, b"%d" % at)
            await wire.send(mask(0, b""))
            answer = msgspec.json.decode((await read_frame(wire))[1])
            assert answer["methodResponses"][0][1]["text"] == "ž" * 500

    run_on_sockets(test)


def test_the_largest_message_is_taken_and_a_larger_one_closes_with_1009() -> None:
    async def test() -> None:
        async with running() as server:
            async with client(server) as socket:
                room = limits.REQUEST_BYTES_MAX - len(msgspec.json.encode(echo("r", text="")))
                answer = await ask_socket(socket, echo("r", text="x" * room))
                assert len(answer["methodResponses"][0][1]["text"]) == room
                await socket.send("x" * (limits.REQUEST_BYTES_MAX + 1))
                assert await wait_closed(socket) == 1009
            async with raw_socket(server) as wire:
                # A frame that says it is endless is refused for what comes, not for what it says.
                await wire.send(b"\x81\xff" + struct.pack("!Q", 1 << 62) + b"\0\0\0\0")
                for _ in range(limits.REQUEST_BYTES_MAX // 65536 + 1):
                    await wire.send(b"x" * 65536)
                opcode, payload = await read_frame(wire)
                assert (opcode, payload[:2]) == (8, struct.pack("!H", 1009))
        assert not server.world.reports

    run_on_sockets(test)


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 1002),
        (b"\x81\x02{}", 1002),  # not masked
        (b"\xf1\x80\0\0\0\0", 1002),  # reserved bits
        (mask(3, b""), 1002),  # an opcode that is not there
        (mask(0, b"{}"), 1002),  # a continuation of nothing
        (mask(1, b"{", fin=False) + mask(1, b"}"), 1002),  # a message inside a message
        (mask(9, b"x" * 126), 1002),  # a long ping
        (mask(9, b"x", fin=False), 1002),  # a ping in fragments
        (mask(8, b"x"), 1002),  # half a close code
        (mask(1, b"\xff\xfe"), 1007),
        (mask(1, b"\xc3", fin=False) + mask(0, b""), 1007),
        (mask(2, b"{}"), 1003),
    ],
)  # fmt: skip
def test_broken_frames_close_the_socket_with_a_reason(
    octets: bytes, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_connection, "DEAF_S", 0.05)

    async def test() -> None:
        async with running() as server:
            async with raw_socket(server) as wire:
                await wire.send(octets)
                opcode, payload = await read_frame(wire)
                assert (opcode, struct.unpack("!H", payload[:2])[0]) == (8, code)
                try:
                    await wire.send(mask(8, struct.pack("!H", code)))
                except ConnectionError:
                    pass
                assert await wire.is_closed(8)
            async with client(server) as socket:
                await ask_socket(socket, echo())
        assert not server.world.reports
        assert len(server.world.app.hub) == 0

    run_on_sockets(test)


def watch_loop() -> list[dict[str, Any]]:
    """What a protocol let through to the event loop, which no client may bring about."""
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    return found


def test_nothing_after_a_close_is_looked_at() -> None:
    async def test() -> None:
        faults = watch_loop()
        async with running() as server:
            too_large = b"x" * (limits.REQUEST_BYTES_MAX + 1)
            for more in (mask(9, b"x"), frame_of(echo()), mask(8, b""), b"garbage", too_large):
                async with raw_socket(server) as wire:
                    wire.writer.write(mask(8, struct.pack("!H", 1000)) + more)
                    assert await read_frame(wire) == (8, struct.pack("!H", 1000))
                    assert await wire.is_closed()
            async with raw_socket(server) as wire:
                wire.writer.write(mask(8, struct.pack("!H", 1000)) + mask(1, too_large))
                assert await wire.is_closed()
        assert not server.world.reports
        assert not faults

    run_on_sockets(test)


def test_a_line_that_stays_after_the_close_is_swept_away_and_breaks_no_sweep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket_connection, "PING_AFTER_S", 0.1)
    monkeypatch.setattr(socket_connection, "SILENT_S_MAX", 0.5)
    monkeypatch.setattr(run_module, "SWEEP_S", 0.05)
    swept: list[str] = []

    class LingeringLine:
        """A transport whose client takes nothing: closing it changes nothing yet."""

        def __init__(self, transport: Any) -> None:
            self._transport = transport

        def __getattr__(self, name: str) -> Any:
            return getattr(self._transport, name)

        def close(self) -> None:
            pass

        def abort(self) -> None:
            swept.append("aborted")
            self._transport.abort()

    class LingeringSocket(socket_connection.BoundedSocket):
        def connection_made(self, transport: Any) -> None:
            line: Any = LingeringLine(transport)
            super().connection_made(line)

    monkeypatch.setattr(run_module, "BoundedSocket", LingeringSocket)

    async def test() -> None:
        async with running() as server, raw_socket(server) as wire:
            await wire.send(mask(8, struct.pack("!H", 1000)))
            assert await read_frame(wire) == (8, struct.pack("!H", 1000))
            assert await wire.is_closed()
            assert swept == ["aborted"]
            async with server.connect() as other:
                # The sweep, which is a part of the server's heart, still beats.
                await other.send(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
                assert (await other.read_answer())[0] == 200

    run_on_sockets(test)


def test_any_octets_end_a_socket_at_most_and_break_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket_connection, "DEAF_S", 0.01)

    async def test() -> None:
        faults = watch_loop()
        async with running() as server:
            for _ in range(60):
                async with raw_socket(server) as wire:
                    try:
                        await wire.send(os.urandom(300))
                    except ConnectionError:
                        pass
            async with client(server) as socket:
                await ask_socket(socket, echo())
        assert not server.world.reports
        assert not faults
        assert len(server.world.app.hub) == 0

    run_on_sockets(test)


@pytest.mark.parametrize(
    "head",
    [
        UPGRADE.replace(b"Version: 13", b"Version: 8"),
        UPGRADE.replace(b"GET", b"POST"),
        UPGRADE.replace(b"Sec-WebSocket-Key: ", b"X: "),
        UPGRADE.replace(b"Sec-WebSocket-Version: ", b"X: "),
        UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"),
        UPGRADE.replace(b"chat, jmap", b","),
        UPGRADE.replace(b"Host: h\r\n", b""),
        UPGRADE.replace(b"Host: h\r\n", b"Host: h\r\nHost: i\r\n"),
        UPGRADE.replace(b"/jmap/ws", b"/jmap/%00%ff?\xff"),
    ],
)  # fmt: skip
def test_broken_handshakes_are_answered_or_cut_off(head: bytes) -> None:
    async def test() -> None:
        async with running() as server:
            async with server.connect() as wire:
                await wire.send(head)
                assert 400 <= (await wire.read_head())[0] < 500
                assert await wire.is_closed()
            async with client(server) as socket:
                await ask_socket(socket, echo())
        assert not server.world.reports

    run_on_sockets(test)


def test_a_socket_does_not_take_over_a_line_with_an_answer_on_it() -> None:
    async def test() -> None:
        async with running() as server:
            stream = f"GET /jmap/eventsource HTTP/1.1\r\nHost: h\r\nAuthorization: {BASIC}\r\n\r\n"
            async with server.connect() as wire:
                await wire.send(stream.encode() + UPGRADE)
                assert await wire.is_closed()

    run_on_sockets(test)


def test_a_client_that_hangs_up_in_any_way_is_forgotten() -> None:
    async def test() -> None:
        async with running() as server:
            for ending in ("close", "half close", "abort", "in a frame"):
                async with raw_socket(server) as wire:
                    await wire.send(frame_of(enable()))
                    if ending == "close":
                        await wire.send(mask(8, struct.pack("!H", 1000)))
                        assert await read_frame(wire) == (8, struct.pack("!H", 1000))
                    elif ending == "half close":
                        wire.writer.write_eof()
                        assert await wire.is_closed()
                    elif ending == "abort":
                        wire.writer.transport.abort()
                    else:
                        await wire.send(frame_of(echo())[:-5])
            for _ in range(500):
                if not len(server.world.app.hub):
                    return
                await asyncio.sleep(0.01)
            pytest.fail("a socket is still held")

    run_on_sockets(test)


def test_a_client_that_reads_nothing_costs_bounded_memory_and_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slow_reader, "WRITE_STALL_S", 0.3)
    monkeypatch.setattr(run_module, "SWEEP_S", 0.05)
    held: list[int] = []

    class WatchedSocket(socket_connection.BoundedSocket):
        def end_if_stalled(self, now_s: float) -> None:
            held.append(self.transport.get_write_buffer_size())
            super().end_if_stalled(now_s)

    monkeypatch.setattr(run_module, "BoundedSocket", WatchedSocket)

    async def test() -> None:
        async with running() as server, raw_socket(server) as wire:
            pings = mask(9, b"x" * 125) * 8000
            try:
                for number in range(200):
                    request = pings if number % 2 else frame_of(echo(text="x" * 60_000))
                    wire.writer.write(request)
                    await asyncio.wait_for(wire.writer.drain(), 3)
            except (TimeoutError, ConnectionError, RuntimeError):
                pass
            for _ in range(500):
                if not len(server.world.app.hub):
                    assert max(held) < 1_000_000
                    return
                await asyncio.sleep(0.01)
            pytest.fail("a client that reads nothing is still served")

    run_on_sockets(test)


def test_a_silent_client_is_pinged_and_cut_off_if_it_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket_connection, "PING_AFTER_S", 0.2)
    monkeypatch.setattr(socket_connection, "SILENT_S_MAX", 0.8)
    monkeypatch.setattr(run_module, "SWEEP_S", 0.05)

    async def test() -> None:
        async with running() as server, raw_socket(server) as wire, client(server) as lively:
            assert await read_frame(wire) == (9, b"")
            assert await wire.is_closed()
            assert (await ask_socket(lively, echo("r")))["requestId"] == "r"

    run_on_sockets(test)


def test_a_stop_says_1001_and_takes_no_time() -> None:
    async def test() -> None:
        async with running() as server, client(server) as socket, raw_socket(server) as mute:
            await ask_socket(socket, echo())
            began = time.perf_counter()
            server.stop.set()
            assert await wait_closed(socket) == 1001
            opcode, payload = await read_frame(mute)
            assert (opcode, payload[:2]) == (8, struct.pack("!H", 1001))
            assert await mute.is_closed()
            assert time.perf_counter() - began < 3

    run_on_sockets(test)


def test_a_revoked_token_closes_with_1008() -> None:
    async def test() -> None:
        async with running() as server:
            server.world.add_token(ADA, TOKEN, "device")
            async with client(server, auth=f"Bearer {TOKEN}") as socket, server.connect() as wire:
                await wire.send(
                    f"DELETE /auth/token HTTP/1.1\r\nHost: h\r\n"
                    f"Authorization: Bearer {TOKEN}\r\n\r\n".encode()
                )
                assert (await wire.read_head())[0] == 204
                assert await wait_closed(socket) == 1008

    run_on_sockets(test)


def test_more_sockets_than_connections_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "raise_file_limit", lambda: run_module.FILES_RESERVED + 3)

    async def test() -> None:
        async with (
            running() as server, raw_socket(server), raw_socket(server), server.connect() as third
        ):  # fmt: skip
            await third.send(UPGRADE)
            assert (await third.read_head())[0] == 503

    run_on_sockets(test)
