"""A hostile client on real sockets: any octets as method, address, header or body get an answer of
HTTP, or a problem document; nothing is ever a 500, and nobody else notices.

Source: RFC 8620 s3.6.1, RFC 9110 s15
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.asgi import ask
from tests.server.test_server_sockets import ECHO, get, post
from tests.server.test_server_streams import listen
from tests.server.world import BASIC, BOB_BASIC, BOBS, MAIL, SHARED, World
from tindra.server.run import make_loop, serve

_FUZZ = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PATIENCE_S = 10.0
"""What takes longer than this hangs."""
PATHS = (
    "/.well-known/jmap", "/jmap/api", "/jmap/ws", "/auth/token", "/healthz", "/readyz", "/metrics",
    "/", "/index.html", f"/jmap/upload/{MAIL}", f"/jmap/upload/{SHARED}", f"/jmap/upload/{BOBS}",
    f"/jmap/download/{MAIL}/b/n", "/jmap/eventsource?types=*&closeafter=state&ping=0",
    "/jmap/eventsource?types=*&closeafter=no&ping=x", "*", "//", "/jmap/../etc/passwd",
)  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
BODIES = (
    b"", ECHO, b"{}", b"[]", b"null", b"\xff", b'{"using":[],"methodCalls":[[1]]}', b"{" * 100,
    b'{"username":"ada@example.com","password":7}', ECHO[:-2], b"\x00" * 3000,
)  # fmt: skip
HEADERS = (
    "accept", "accept-encoding", "authorization", "content-type", "content-encoding", "cookie",
    "host", "if-match", "if-none-match", "if-range", "last-event-id", "origin", "range", "upgrade",
    "sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol", "x-forwarded-for",
    "x-forwarded-host", "x-forwarded-proto", "access-control-request-method", "te", "via",
)  # fmt: skip
_TOKEN = st.text("ABCZabcz!#$%&'*+-.^_`|~09", min_size=1, max_size=12).map(str.encode)
_VALUE = st.one_of(
    st.sampled_from([b"", b"*", b"bytes=0-", b"websocket", b"jmap", b"13", b"Basic", b"Bearer x"]),
    st.sampled_from([BASIC.encode(), b"application/json", b"text/plain; charset=\xff", b"gzip"]),
    st.binary(max_size=30).map(lambda raw: bytes(c for c in raw if c > 31 and c != 127)),
)


class Reply(NamedTuple):
    """What the server sent before it closed, or a stream began."""

    status: int
    fields: dict[str, str]
    body: bytes


class Served:
    """A server on a thread and a loop of its own."""

    def __init__(self) -> None:
        self.world = World()
        self.port = 0

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)

    def ask(self, data: bytes, *, is_whole: bool = True) -> Reply | None:
        """The answer to these octets; None if the server closed without one.

        Args:
            is_whole: the request needs no more; otherwise the client says that nothing follows.
        """
        with contextlib.closing(self.connect()) as line:
            with contextlib.suppress(ConnectionError):
                line.sendall(data)
                if not is_whole:
                    line.shutdown(socket.SHUT_WR)
            found = b""
            while True:
                try:
                    piece = line.recv(65536)
                except ConnectionError:
                    break
                found += piece
                if not piece or b"text/event-stream" in found or b" 101 " in found[:13]:
                    break
        return _parse_reply(found) if found else None


def _parse_reply(data: bytes) -> Reply:
    head, separator, body = data.partition(b"\r\n\r\n")
    assert separator, data[:200]
    first, *lines = head.decode("latin-1").split("\r\n")
    version, status = first.split(" ")[:2]
    assert version == "HTTP/1.1", first
    return Reply(int(status), dict(line.lower().split(": ", 1) for line in lines), body)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    found = Served()
    is_up, loop = threading.Event(), make_loop()
    stop = asyncio.Event()

    def on_bound(port: int) -> None:
        found.port = port
        is_up.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(
            serve(found.world.app, "127.0.0.1", 0, on_bound=on_bound, stop=stop)
        )
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert is_up.wait(PATIENCE_S)
    yield found
    loop.call_soon_threadsafe(stop.set)
    thread.join(2 * PATIENCE_S)
    assert not thread.is_alive()
    assert not found.world.reports


def _check(reply: Reply) -> None:
    """An answer of HTTP; what is refused says why, in a problem document."""
    assert 101 <= reply.status < 500 or reply.status == 501, reply
    kind = reply.fields.get("content-type", "")
    if reply.status >= 400 and kind == "application/problem+json" and reply.body:
        problem = msgspec.json.decode(reply.body)
        assert problem["status"] == reply.status
        assert problem["type"]
        assert len(problem["detail"]) < 1000
    elif reply.status >= 400 and reply.body:
        # The octets made no request: there is no address yet that could answer.
        assert reply.status in (400, 431), reply
        assert kind.startswith("text/plain"), reply


@_FUZZ
@given(
    st.one_of(st.sampled_from(METHODS).map(str.encode), _TOKEN),
    st.one_of(
        st.sampled_from(PATHS).map(str.encode),
        st.binary(max_size=30).map(
            lambda raw: b"/jmap/" + bytes(c for c in raw if c > 32 and c != 127)
        ),
    ),
    st.lists(st.tuples(st.sampled_from(HEADERS).map(str.encode), _VALUE), max_size=5),
    st.one_of(st.sampled_from(BODIES), st.binary(max_size=200)),
    st.booleans(),
)
def test_any_request_is_answered_and_a_refusal_is_a_problem(
    served: Served,
    method: bytes,
    path: bytes,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
    is_signed_in: bool,
) -> None:
    fields = [*headers, (b"connection", b"close"), (b"content-length", b"%d" % len(body))]
    if is_signed_in:
        fields.append((b"authorization", BASIC.encode()))
    head = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
    reply = served.ask(method + b" " + path + b" HTTP/1.1\r\n" + head + b"\r\n" + body)
    assert reply is not None
    _check(reply)


@_FUZZ
@given(
    st.sampled_from([post(ECHO), get("/healthz"), post(b"x" * 300, f"/jmap/upload/{MAIL}")]),
    st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6), st.integers(0, 40)), max_size=3),
)
def test_a_spoilt_request_whose_client_says_no_more_harms_nobody(
    served: Served, request_bytes: bytes, cuts: list[tuple[float, bytes, int]]
) -> None:
    """Octets put in and taken out anywhere, then half of the connection is closed."""
    data = request_bytes
    for place, added, removed in cuts:
        at = int(place * len(data))
        data = data[:at] + added + data[at + removed :]
    reply = served.ask(data, is_whole=False)
    if reply is not None:
        _check(reply)
    alive = served.ask(get("/healthz", "Connection: close\r\n"))
    assert alive is not None
    assert alive.status == 200


@_FUZZ
@given(st.binary(max_size=300))
def test_any_octets_at_all_end_in_a_4xx_or_in_silence(served: Served, data: bytes) -> None:
    reply = served.ask(data, is_whole=False)
    assert reply is None or 400 <= reply.status < 500


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 100\r\n", "Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n",
        "Content-Length: 99999999999999999999\r\n", "Content-Length: -1\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n", "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity\r\n", "Expect: 100-continue\r\nContent-Length: 20\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Content-Length: +5\r\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/jmap/api", f"/jmap/upload/{MAIL}", "/auth/token", "/healthz"])
def test_a_body_that_is_not_as_it_was_announced_leaves_nothing_behind(
    served: Served, path: str, framing: str
) -> None:
    before = len(served.world.store.accounts[MAIL].blobs)
    data = f"POST {path} HTTP/1.1\r\nHost: h\r\nAuthorization: {BASIC}\r\n{framing}\r\n".encode()
    reply = served.ask(data + b"zz", is_whole=False)
    if reply is not None and "Content-Length: 0" not in framing:
        assert reply.status == 100 or 400 <= reply.status < 500 or reply.status == 501, reply
    is_whole = "Content-Length: 0" in framing and "upload" in path
    assert len(served.world.store.accounts[MAIL].blobs) <= before + is_whole


def test_hundreds_who_say_nothing_or_half_hold_up_nobody(served: Served) -> None:
    upload = post(ECHO, f"/jmap/upload/{BOBS}")
    starts = (b"", b"GET /hea", post(ECHO)[:-5], upload[:-5], get("/healthz")[:-1])
    starts = tuple(start.replace(BASIC.encode(), BOB_BASIC.encode()) for start in starts)
    with contextlib.ExitStack() as stack:
        for number in range(400):
            line = stack.enter_context(contextlib.closing(served.connect()))
            line.sendall(starts[number % len(starts)])
        for _ in range(20):
            reply = served.ask(get("/readyz", "Connection: close\r\n"))
            assert reply is not None
            assert reply.status == 200
            reply = served.ask(post(ECHO, more="Connection: close\r\n"))
            assert reply is not None
            assert reply.status == 200


def test_no_address_tells_an_account_of_somebody_else_from_one_that_never_was() -> None:
    async def answers(account: str) -> list[object]:
        world = World()
        bobs = world.add_blob(BOBS, b"secret of bob")
        found: list[object] = []
        for method, url in (
            ("POST", f"/jmap/upload/{account}"),
            ("GET", f"/jmap/download/{account}/{bobs}/x"),
            ("HEAD", f"/jmap/download/{account}/{bobs}/x"),
            ("GET", f"/jmap/download/{account}/{bobs}_0_5_base64/x?accept=text/plain"),
        ):
            answer = await ask(world.app, method, url, b"x", auth=BASIC, range="bytes=0-1")
            found.append((answer.status, answer.headers, answer.body))
        world.commit(BOBS, 7, "Thing")
        world.commit(MAIL, 3, "Thing")
        async with listen(world, last_event_id=f"{account}:1") as line:
            event = await line.next_event()
            found.append(event | {"id": event["id"].replace(account, "<id>")})
        found.append(world.directory.reads)
        return found

    async def run() -> None:
        assert await answers(BOBS) == await answers("a-nobody")

    asyncio.run(run())
