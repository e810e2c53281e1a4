"""GET /jmap/eventsource: states pushed down a text/event-stream as they are committed.

A stream without Last-Event-ID begins silent: its client reads what it needs and is told of what
comes after. One with it is told at once of what it missed.
Source: RFC 8620 s7.3
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from tindra.base import limits
from tindra.base.clock import Clock
from tindra.server.http.exchange import Exchange, Headers, HttpError
from tindra.server.http.gate import LIMIT
from tindra.server.http.refusal import retry_after
from tindra.server.hub import StreamHub, StreamsFull
from tindra.server.metrics import Metrics
from tindra.server.streams import KEEPALIVE_MS, EventStream

RETRY_MS = 3_000
"""When a client whose line broke should come again."""
TYPES_MAX = 100
"""More type names than there are types."""
_PING_S_DIGITS_MAX = 9
_HEADERS: Headers = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    # nginx would otherwise gather events until its buffer is full.
    (b"x-accel-buffering", b"no"),
]


class StreamRequest(NamedTuple):
    """What a client asks of its stream."""

    types: frozenset[str] | None
    """None for all."""
    is_single: bool
    """End after the first state event."""
    ping_ms: int
    """0 for no pings."""


def parse_stream_request(fields: dict[str, str]) -> StreamRequest:
    """The three variables of the eventSourceUrl template; absent ones get the quiet default.

    Raises: HttpError 400.
    Source: RFC 8620 s7.3
    """
    names = fields.get("types", "*")
    types = None if names == "*" else frozenset(filter(None, names.split(",")))
    if types is not None and not 0 < len(types) <= TYPES_MAX:
        raise HttpError(400, "types must be * or a list of type names")
    close_after = fields.get("closeafter", "no")
    if close_after not in ("no", "state"):
        raise HttpError(400, "closeafter must be no or state")
    ping = fields.get("ping", "0")
    if not (ping.isascii() and ping.isdigit()) or len(ping) > _PING_S_DIGITS_MAX:
        raise HttpError(400, "ping must be a number of seconds, 0 for none")
    wanted_ms = int(ping) * 1000
    clamped_ms = min(max(wanted_ms, limits.STREAM_PING_MS_MIN), limits.STREAM_PING_MS_MAX)
    return StreamRequest(types, close_after == "state", clamped_ms if wanted_ms else 0)


class EventSourceRoute:
    """Serves event streams."""

    def __init__(self, clock: Clock, hub: StreamHub, metrics: Metrics) -> None:
        self._clock = clock
        self._hub = hub
        self._metrics = metrics

    async def get(self, exchange: Exchange) -> None:
        """Stream events until one of both has enough. Source: RFC 8620 s7.3

        Raises: HttpError 400, 429, 503; StoreError.
        """
        request = parse_stream_request(exchange.parse_query())
        now = self._clock.monotonic_ms()
        beat_ms = request.ping_ms or KEEPALIVE_MS
        stream = EventStream(exchange.signed_in, request.types, beat_ms, now)
        open_stream(self._hub, stream)
        self._metrics.streams.inc()
        try:
            last_id = exchange.header(b"last-event-id")
            if last_id:
                await self._hub.offer_missed(stream, last_id)
            await exchange.start(200, list(_HEADERS))
            await self._run(exchange, stream, request)
        finally:
            self._hub.close_stream(stream)
            self._metrics.streams.dec()

    async def _run(self, exchange: Exchange, stream: EventStream, request: StreamRequest) -> None:
        """Feed the client, and notice when it goes."""
        try:
            async with asyncio.TaskGroup() as group:
                watcher = group.create_task(_watch(exchange, stream))
                await self._feed(exchange, stream, request)
                watcher.cancel()
            await exchange.finish()
        except* OSError:
            # Some ASGI servers say so when the client has gone; others stay silent.
            stream.end()

    async def _feed(self, exchange: Exchange, stream: EventStream, request: StreamRequest) -> None:
        await exchange.write(b"retry: %d\n\n" % RETRY_MS)
        while not stream.is_ending and await self._hub.is_allowed(stream):
            now = self._clock.monotonic_ms()
            event = stream.take_event(now)
            if event:
                await exchange.write(event)
                self._metrics.state_events.inc()
                if request.is_single:
                    return
            elif stream.take_beat(now):
                await exchange.write(_encode_beat(request.ping_ms))
            else:
                await stream.wait()


def open_stream(hub: StreamHub, stream: EventStream) -> None:
    """Let commits reach a new stream. Raises: HttpError 429, 503 when there are too many."""
    try:
        hub.open(stream)
    except StreamsFull as error:
        status = 429 if error.is_user else 503
        retry = [retry_after(30)]
        raise HttpError(status, str(error), LIMIT, limit="streams", headers=retry) from None


def _encode_beat(ping_ms: int) -> bytes:
    """The ping, or the comment for who asked for none. Source: RFC 8620 s7.3"""
    if not ping_ms:
        return b":\n\n"
    return b'event: ping\ndata: {"interval":%d}\n\n' % (ping_ms // 1000)


async def _watch(exchange: Exchange, stream: EventStream) -> None:
    await exchange.wait_disconnect()
    stream.end()
