"""Runs the demo provider in a thread of its own, for tests with blocking mail clients."""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tindra.app.demo.faults import Faults
from tindra.app.demo.provider import DemoProvider

Result = TypeVar("Result")

NOW_MS = 1_795_000_000_000
TOKEN = "token-of-the-demo"
PLAIN_MESSAGE = (
    b"From: Mira <mira@fjordlight.test>\r\nTo: demo@tindra.test\r\nSubject: Hello\r\n"
    b"Date: Wed, 18 Nov 2026 10:00:00 +0100\r\nMessage-ID: <one@fjordlight.test>\r\n"
    b"\r\nFirst line\r\nSecond line\r\n"
)


class ManualClock:
    """Time stands still until `advance` is called (in the loop's thread)."""

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.time_ms = now_ms
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        return self.time_ms

    def monotonic_ms(self) -> int:
        return self.time_ms

    async def sleep_ms(self, duration_ms: int) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.time_ms + duration_ms, future))
        await future

    async def advance(self, duration_ms: int) -> None:
        """Move on, and let those who wake do what they do."""
        self.time_ms += duration_ms
        for due_ms, future in list(self._sleepers):
            if due_ms <= self.time_ms and not future.done():
                future.set_result(None)
        self._sleepers = [pair for pair in self._sleepers if not pair[1].done()]
        for _ in range(20):
            await asyncio.sleep(0)


class DemoHost:
    """A running provider; `call` and `wait` act in its thread."""

    def __init__(self, count: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.clock = ManualClock()
        self._count = count
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._running: list[concurrent.futures.Future[Any]] = []
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> DemoHost:
        self._thread.start()
        self.provider = self.wait(self._make())
        return self

    def __exit__(self, *_: object) -> None:
        for future in self._running:
            future.cancel()
        self.wait(self.provider.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _make(self) -> DemoProvider:
        provider = DemoProvider(
            self.clock,
            message_count=self._count,
            tokens=frozenset({TOKEN}),
            tls=self._tls,
        )
        await provider.start()
        return provider

    @property
    def faults(self) -> Faults:
        return self.provider.faults

    def wait(self, coroutine: Coroutine[Any, Any, Result], seconds: float = 20) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(seconds)

    def call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        async def run() -> Result:
            return function(*arguments)

        return self.wait(run())

    def run(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Let a loop of the provider run until the end of the test."""
        self._running.append(asyncio.run_coroutine_threadsafe(coroutine, self._loop))
        self.call(lambda: None)

    def advance(self, duration_ms: int) -> None:
        self.wait(self.clock.advance(duration_ms))


class RawImap:
    """An IMAP client that shows every line."""

    def __init__(self, host: DemoHost, *, login: bool = True) -> None:
        self.socket = socket.create_connection(("127.0.0.1", host.provider.imap_port), 10)
        self.file = self.socket.makefile("rb")
        self._count = 0
        self.greeting = self.line()
        if login:
            assert self.do("LOGIN demo@tindra.test demo")[-1].startswith("OK")

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def __enter__(self) -> RawImap:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def line(self) -> str:
        """One line with the literals in it; empty at the end of the connection."""
        octets = self.file.readline()
        while octets.endswith(b"}\r\n"):
            size = int(octets[octets.rindex(b"{") + 1 : -3].rstrip(b"+"))
            octets += self.file.read(size) + self.file.readline()
        return octets.decode("latin-1").removesuffix("\r\n")

    def send(self, text: str) -> str:
        """Send one command and give its tag."""
        self._count += 1
        tag = f"r{self._count}"
        self.socket.sendall(f"{tag} {text}\r\n".encode())
        return tag

    def do(self, text: str) -> list[str]:
        """All lines of the answer; of the tagged one what stands behind the tag."""
        return self.finish(self.send(text))

    def finish(self, tag: str) -> list[str]:
        lines = []
        while True:
            line = self.line()
            assert line, f"hung up after {lines[-2:]}"
            if line.startswith(tag + " "):
                return [*lines, line[len(tag) + 1 :]]
            lines.append(line)
