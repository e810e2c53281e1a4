"""One TCP connection of uvicorn, with the bounds that uvicorn leaves open.

uvicorn's httptools protocol keeps request heads of any size, and waits for ever for a client that
stops in the middle of a request or of an answer. Here: a head, a trailer or a chunk extension of
more than HEAD_BYTES_MAX ends the connection, and so does a stall in any phase. One sweep every
SWEEP_S looks at all connections; none has a timer of its own.
Source: RFC 9110 s5.4, RFC 9112 s2.3
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tindra.server.slow_reader import SlowReader
from tindra.server.socket_connection import BoundedSocket

if TYPE_CHECKING:
    from uvicorn.server import ServerState

HEAD_BYTES_MAX = 32 * 1024
"""A request line and all headers; browsers and proxies stop between 8 and 64 KiB."""
HEAD_S = 20.0
"""From the connection, or the first octet of a request, to the end of its head."""
BODY_STALL_S = 30.0
"""A client that stops in the middle of a body that is waited for has gone."""
DISCARD_S = 30.0
"""How long the rest of a body is read and thrown away after its answer was sent: closing at once
would often destroy the answer on its way."""
SWEEP_S = 5.0
"""How exactly all these are kept."""


class BoundedProtocol(SlowReader, HttpToolsProtocol):
    """uvicorn's protocol, bounded."""

    _head_since: float | None = None
    """When the head now awaited began; None while there is none to await."""
    _is_in_body = False
    _body_progress_s = 0.0
    _discard_since: float | None = None
    _head_bytes = 0
    _silent_bytes = 0
    """Octets taken since the parser last made something of them."""
    _is_over_limit = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected; from now on it owes us a request."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._head_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Octets came; too many that make no request are the last."""
        self._silent_bytes += len(data)
        super().data_received(data)
        if self._silent_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self._is_over_limit = True
            self.send_400_response("")

    # -- parser callbacks ------------------------------------------------------------------------
    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._head_bytes = 0
        if self._head_since is None:
            self._head_since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        """Some of the request line; counted, since it comes in pieces."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One whole header, or a trailer, which is counted and dropped.

        A trailer must not become a header: it would replace what a proxy or the client itself said.
        Source: RFC 9110 s6.5.1
        """
        self._count_head(len(name) + len(value) + 4)
        if not self._is_in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._head_since = None
        self._is_in_body = True
        self._body_progress_s = self.loop.time()
        self._silent_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Some of the body."""
        self._silent_bytes = 0
        self._body_progress_s = self.loop.time()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._silent_bytes = 0
        self._is_in_body = False
        self._discard_since = None
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """A request for a WebSocket, which takes the connection over; not while an answer is still
        written to it, and not when there are as many connections as fit. Source: RFC 6455 s4.2.1"""
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if is_answering or self.parser.get_http_version() != "1.1":
            self.send_400_response("")
        elif len(self.connections) >= (self.limit_concurrency or 0):
            self.transport.write(
                b"HTTP/1.1 503 Service Unavailable\r\n"
                b"content-length: 0\r\nretry-after: 30\r\nconnection: close\r\n\r\n"
            )
            self.transport.close()
        else:
            super().handle_websocket_upgrade()

    # -- flow ------------------------------------------------------------------------------------
    def end_if_stalled(self, now_s: float) -> None:
        """Cut a connection that waited too long for its client."""
        if (
            (self._head_since is not None and now_s - self._head_since > HEAD_S)
            or self.is_gone(now_s)
            or (self._is_in_body and self._is_body_stalled(now_s))
        ):
            self.transport.abort()

    def _is_body_stalled(self, now_s: float) -> bool:
        if self.cycle.response_complete:
            if self._discard_since is None:
                self._discard_since = now_s
            return now_s - self._discard_since > DISCARD_S
        # While reading is paused it is us who keep the client waiting.
        return not self.flow.read_paused and now_s - self._body_progress_s > BODY_STALL_S

    # -- refusals --------------------------------------------------------------------------------
    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request; 431 if only its head is too large. Source: RFC 9110 s15.5"""
        if not self._is_over_limit:
            super().send_400_response(msg)
            return
        self.transport.write(
            b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
            b"content-length: 0\r\nconnection: close\r\n\r\n"
        )
        self.transport.close()

    def _count_head(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > HEAD_BYTES_MAX:
            self._is_over_limit = True
            raise ValueError("the head of the request is too large")


def sweep(state: ServerState, now_s: float) -> None:
    """Cut all connections that stalled, ping those that are silent. Cost: 0.3 us a connection."""
    for connection in list(state.connections):
        if isinstance(connection, BoundedProtocol | BoundedSocket):
            connection.end_if_stalled(now_s)
