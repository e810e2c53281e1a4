"""GET /jmap/ws: API requests, their answers and pushed changes on one WebSocket.

A socket is one more way in: requests run as those of POST /jmap/api do, within the same limits and
with the same errors, and changes are told as those of an event stream are. Requests of one socket
run beside each other and are answered as they end. A client that goes away does not stop a request
that has begun: what it wrote is written whole.
Source: RFC 8887
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec

from tindra.base.clock import Clock
from tindra.core.dispatch import encode_response
from tindra.core.errors import StoreError
from tindra.server.auth import Authenticator
from tindra.server.http.cors import Cors
from tindra.server.http.exchange import Exchange, HttpError, Response
from tindra.server.http.handshake import (
    CLOSE_DONE,
    CLOSE_GOING_AWAY,
    CLOSE_NOT_TEXT,
    CLOSE_REFUSED,
    CLOSE_UNEXPECTED,
    Handshake,
    Socket,
)
from tindra.server.http.origin import derive_base_url
from tindra.server.http.refusal import refuse_store
from tindra.server.hub import StreamHub
from tindra.server.metrics import Metrics
from tindra.server.options import ServerOptions
from tindra.server.routes.api import ApiRoute, refuse_syntax
from tindra.server.routes.eventsource import open_stream
from tindra.server.streams import SOCKET_FRAMING, EventStream
from tindra.wire.jmap.request import Request
from tindra.wire.jmap.websocket import (
    SUBPROTOCOL,
    MessageError,
    PushDisable,
    PushEnable,
    RequestMessage,
    parse_message,
)

SOCKET_REQUESTS_MAX = 4
"""Requests of one socket that run at once; the next one is read when one has ended. A quarter of
what its user has in all, so that one busy device leaves room for the others."""
SOCKET_IDLE_MS = 1_800_000
"""A socket without push and without requests is closed after this time; opening one costs a
handshake."""


class _Farewell(NamedTuple):
    code: int
    reason: str


class WebSocketRoute:
    """Serves JMAP over WebSocket."""

    def __init__(
        self,
        options: ServerOptions,
        cors: Cors,
        api: ApiRoute,
        hub: StreamHub,
        authenticator: Authenticator,
        metrics: Metrics,
    ) -> None:
        self._options = options
        self._cors = cors
        self.api = api
        self.hub = hub
        self.authenticator = authenticator
        self.metrics = metrics

    async def get(self, exchange: Exchange) -> Response:
        """Refuse a plain request. Raises: HttpError 426. Source: RFC 9110 s15.5.22"""
        headers = [(b"upgrade", b"websocket"), (b"connection", b"upgrade")]
        raise HttpError(426, "this address speaks WebSocket only", headers=headers)

    async def serve(self, exchange: Handshake) -> None:
        """Talk until one of both has enough. Source: RFC 8887 s4

        Raises: HttpError 400, 403, 429, 503 before there is a socket.
        """
        self._check_may_open(exchange)
        now = self.hub.clock.monotonic_ms()
        nothing: frozenset[str] = frozenset()
        stream = EventStream(exchange.signed_in, nothing, SOCKET_IDLE_MS, now, SOCKET_FRAMING)
        open_stream(self.hub, stream)
        self.metrics.sockets.inc()
        try:
            socket = await exchange.accept(SUBPROTOCOL)
            await _Conversation(self, exchange, socket, stream).run()
        finally:
            self.hub.close_stream(stream)
            self.metrics.sockets.dec()

    def _check_may_open(self, exchange: Handshake) -> None:
        base_url = derive_base_url(exchange, self._options)
        own_origin = "/".join(base_url.split("/")[:3]).lower()
        if not self._cors.may_open_socket(exchange, own_origin):
            raise HttpError(403, "pages of this origin may not open a WebSocket here")
        if SUBPROTOCOL not in exchange.subprotocols:
            raise HttpError(400, f"Sec-WebSocket-Protocol must offer {SUBPROTOCOL!r}")


class _Conversation:
    """One open socket: a task that reads, one that tells of changes, and requests that run."""

    __slots__ = (
        "_clock", "_exchange", "_farewell", "_places", "_route", "_running", "_socket", "_stream",
    )  # fmt: skip

    def __init__(
        self, route: WebSocketRoute, exchange: Handshake, socket: Socket, stream: EventStream
    ) -> None:
        self._route = route
        self._clock: Clock = route.hub.clock
        self._exchange = exchange
        self._socket = socket
        self._stream = stream
        self._places = asyncio.Semaphore(SOCKET_REQUESTS_MAX)
        self._running = 0
        self._farewell: _Farewell | None = None

    async def run(self) -> None:
        farewell = _Farewell(CLOSE_UNEXPECTED, "")
        try:
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(group))
                farewell = await self._feed()
                # Requests that run are still answered.
                reader.cancel()
        finally:
            await self._socket.close(*farewell)

    # -- changes ---------------------------------------------------------------------------------
    async def _feed(self) -> _Farewell:
        """Tell of changes; gives why it ended."""
        route, stream = self._route, self._stream
        while not stream.is_ending and await route.hub.is_allowed(stream):
            now = self._clock.monotonic_ms()
            event = stream.take_event(now)
            if event:
                await self._socket.send(event)
                route.metrics.state_events.inc()
            elif stream.take_beat(now) and not self._running and stream.types == frozenset():
                return _Farewell(CLOSE_DONE, "nothing was asked for a long time")
            else:
                await stream.wait()
        if self._farewell is not None:
            return self._farewell
        if route.hub.is_closing:
            return _Farewell(CLOSE_GOING_AWAY, "the server stops")
        return _Farewell(CLOSE_REFUSED, "the sign-in has ended")

    # -- messages --------------------------------------------------------------------------------
    async def _read(self, group: asyncio.TaskGroup) -> None:
        while (message := await self._socket.receive()) is not None:
            if isinstance(message, bytes):
                self._farewell = _Farewell(CLOSE_NOT_TEXT, "messages must be text")
                break
            self._stream.put_off_beat(self._clock.monotonic_ms())
            await self._take(message.encode(), group)
            # Messages that came together would otherwise all be taken before anyone else's.
            await asyncio.sleep(0)
        self._stream.end()

    async def _take(self, octets: bytes, group: asyncio.TaskGroup) -> None:
        try:
            message = await self._route.api.parse(parse_message, octets)
        except MessageError as error:
            await self._refuse(refuse_syntax(error.error), error.request_id)
            return
        match message:
            case RequestMessage(request, id):
                await self._places.acquire()
                self._running += 1
                group.create_task(self._answer(request, id))
            case PushEnable(types, push_state):
                self._stream.choose(types)
                if push_state is not None:
                    await self._tell_missed(push_state)
            case PushDisable():
                self._stream.choose(frozenset())

    async def _tell_missed(self, push_state: str) -> None:
        try:
            await self._route.hub.offer_missed(self._stream, push_state)
        except StoreError as error:
            await self._refuse(refuse_store(error), None)
        self._stream.wake()

    async def _answer(self, request: Request, id: str | None) -> None:
        sign_in, api = self._exchange.signed_in, self._route.api
        try:
            if not await self._route.authenticator.refresh(sign_in):
                self._stream.end()
                return
            async with api.take_place(sign_in):
                answer, state = await api.run(self._exchange, request)
                answer["@type"] = "Response"
                if id is not None:
                    answer["requestId"] = id
                # Answered within the gate: answers that nobody reads are bounded as requests are.
                await self._socket.send(encode_response(answer, state))
        except HttpError as error:
            await self._refuse(error, id)
        except StoreError as error:
            await self._refuse(refuse_store(error), id)
        finally:
            self._running -= 1
            self._places.release()

    async def _refuse(self, error: HttpError, id: str | None) -> None:
        """Send a request-level error. Source: RFC 8887 s4.3.4"""
        problem = {"@type": "RequestError"} | error.to_problem()
        if id is not None:
            problem["requestId"] = id
        await self._socket.send(msgspec.json.encode(problem))
