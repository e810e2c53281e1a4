"""Talks ASGI to an application directly, without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from tests.server.world import BASIC
from tindra.server.app import Server

Headers = dict[str, str]


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        found = [value for key, value in self.headers if key == name]
        assert len(found) <= 1, f"{name} stands twice"
        return found[0] if found else ""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


def make_scope(method: str, url: str, headers: Headers) -> dict[str, Any]:
    from urllib.parse import unquote

    path, _, query = url.partition("?")
    return {
        "type": "http",
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in headers.items()],
        "scheme": "http",
        "server": ("127.0.0.1", 8080),
        "client": ("127.0.0.1", 50000),
    }


class Line:
    """One request whose body and answer the test drives by hand."""

    def __init__(self, scope: dict[str, Any]) -> None:
        self.scope = scope
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.may_write = asyncio.Event()
        self.may_write.set()

    async def receive(self) -> dict[str, Any]:
        return await self.incoming.get()

    async def send(self, message: Any) -> None:
        await self.may_write.wait()
        self.sent.put_nowait(dict(message))

    def feed(self, body: bytes, more_body: bool = False) -> None:
        self.incoming.put_nowait({"type": "http.request", "body": body, "more_body": more_body})

    def hang_up(self) -> None:
        self.incoming.put_nowait({"type": "http.disconnect"})

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(5):
            return await self.sent.get()

    async def next_body(self) -> bytes:
        message = await self.next()
        assert message["type"] == "http.response.body"
        body: bytes = message["body"]
        return body

    def is_silent(self) -> bool:
        return self.sent.empty()


async def ask(
    app: Server,
    method: str,
    url: str,
    body: bytes | Sequence[bytes] = b"",
    change_scope: Callable[[dict[str, Any]], None] = lambda _: None,
    **headers: Any,
) -> Answer:
    """One whole request; header names are given with _ for -, and "auth" is Authorization."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if "auth" in named:
        named["authorization"] = named.pop("auth")
    named.setdefault("host", "mail.example.com")
    scope = make_scope(method, url, named)
    change_scope(scope)
    line = Line(scope)
    pieces = [body] if isinstance(body, bytes) else list(body)
    for number, piece in enumerate(pieces):
        line.feed(piece, number + 1 < len(pieces))
    async with asyncio.timeout(20):
        await app(scope, line.receive, line.send)
    start = line.sent.get_nowait()
    collected = b""
    while not line.sent.empty():
        message = line.sent.get_nowait()
        collected += message["body"]
        has_more = message["more_body"]
    assert not has_more, "the answer was not ended"
    pairs = [(k.decode(), v.decode("latin-1")) for k, v in start["headers"]]
    return Answer(start["status"], pairs, collected)


async def call_api(app: Server, body: Any, auth: str = BASIC, **headers: Any) -> Answer:
    is_ready = isinstance(body, bytes | list)
    data = body if is_ready else msgspec.json.encode(body)
    headers.setdefault("content_type", "application/json")
    return await ask(app, "POST", "/jmap/api", data, auth=auth, **headers)
