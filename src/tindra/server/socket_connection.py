"""One WebSocket of uvicorn, with the bounds that uvicorn leaves open.

uvicorn's wsproto protocol answers pings of a client that reads nothing until memory ends, queues
all small messages of a read at once, says nothing to a client whose frames are broken, and keeps
timers of its own for each socket. Here: one sweep (server/connection.py) pings, and cuts what is
silent or stalled; no compression, which would cost memory for each socket.
Source: RFC 6455 s5.5, s7.4, RFC 8887 s4.3
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from wsproto import events
from wsproto.connection import ConnectionState
from wsproto.frame_protocol import CloseReason

from tindra.server.slow_reader import SlowReader

if TYPE_CHECKING:
    from uvicorn._types import WebSocketEvent

PING_AFTER_S = 45.0
"""A client that was silent for so long is asked whether it is there; proxies cut a silent line
after a minute."""
SILENT_S_MAX = 100.0
"""A client that sends nothing for so long, not even an answer to a ping, has gone."""
FAREWELL_S = 5.0
"""How long a client may take to answer a close. Meanwhile what it sends is thrown away: closing
the line at once would often destroy our close frame on its way."""
DEAF_S = 1.0
"""The same where its frames are broken, so that its answer cannot be understood either."""
QUEUED_MESSAGES_MAX = 16
"""Whole messages that wait for their turn; more stay octets, a fiftieth of the memory."""


class BoundedSocket(SlowReader, WSProtocol):
    """uvicorn's WebSocket protocol, bounded."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.close_timeout = FAREWELL_S
        self._heard_s = self.loop.time()
        self._is_pinged = False
        self._is_deaf = False

    # -- from the client -------------------------------------------------------------------------
    def data_received(self, data: bytes) -> None:
        """Octets came."""
        self._heard_s = self.loop.time()
        self._is_pinged = False
        if not self._is_deaf:
            super().data_received(data)

    def handle_events(self) -> None:
        """Take messages out of the octets, as long as there is room for them."""
        for event in self.conn.events():
            if self._is_deaf:
                return
            if isinstance(event, events.Request):
                self.handle_connect(event)
            elif isinstance(event, events.CloseConnection):
                self.handle_close(event)
            elif self.close_sent:
                continue
            elif isinstance(event, events.TextMessage | events.BytesMessage):
                self.handle_message(event)
                if self.queue.qsize() >= QUEUED_MESSAGES_MAX:
                    return
            elif isinstance(event, events.Ping):
                self.handle_ping(event)

    async def receive(self) -> WebSocketEvent:
        """The next ASGI message; reading goes on once all that came was taken."""
        message = await self.queue.get()
        if self.queue.empty() and self.read_paused and not self.disconnected:
            self.handle_events()
            if self.queue.empty() and self.read_paused:
                self.read_paused = False
                self._heard_s = self.loop.time()
                self.transport.resume_reading()
        return message

    def handle_message(self, event: events.TextMessage | events.BytesMessage) -> None:
        """Some of a message; one that is too large is the last."""
        count = len(event.data.encode() if isinstance(event, events.TextMessage) else event.data)
        if self.buffer.length + count > self.config.ws_max_size:
            self.buffer.clear()
            reason = f"a message has at most {self.config.ws_max_size} octets"
            self._fail(CloseReason.MESSAGE_TOO_BIG, reason, FAREWELL_S)
            return
        super().handle_message(event)

    def handle_ping(self, event: events.Ping) -> None:
        """Answer, unless the client does not read what it has been sent."""
        if self._stalled_since is None:
            super().handle_ping(event)

    def handle_close(self, event: events.CloseConnection) -> None:
        """The client closes, or its frames are broken, which wsproto tells in the same way."""
        if self.conn.state is ConnectionState.OPEN:
            self._is_deaf = True
            self._fail(event.code, event.reason or "", DEAF_S)
            return
        self._is_deaf = True  # nothing that follows a close is of interest
        super().handle_close(event)

    # -- to the client ---------------------------------------------------------------------------
    def end_if_stalled(self, now_s: float) -> None:
        """Cut a socket that waited too long for its client, and ask one that is silent."""
        if self._stalled_since is not None:
            if self.is_gone(now_s):
                self.transport.abort()
            return
        # While reading is paused it is us who keep the client waiting.
        is_ending = self.conn.state is not ConnectionState.OPEN
        if not self.handshake_complete or (self.read_paused and not is_ending):
            return
        silent_s = now_s - self._heard_s
        if silent_s > SILENT_S_MAX:
            self.transport.abort()
        elif silent_s > PING_AFTER_S and not self._is_pinged and not is_ending:
            self._is_pinged = True
            self.transport.write(self.conn.send(events.Ping()))

    def shutdown(self) -> None:
        """The server stops. The application was told first (server/run.py), and says goodbye once
        the requests that run are answered."""
        if self.close_sent or not self.handshake_complete:
            super().shutdown()

    def _fail(self, code: int, reason: str, seconds: float) -> None:
        """Close because of what the client sent; the line goes when it answered, or after
        `seconds`."""
        message = {"type": "websocket.disconnect", "code": code, "reason": reason}
        self.queue.put_nowait(cast("WebSocketEvent", message))
        self.close_sent = True
        if self.transport.is_closing():
            return
        self.transport.write(self.conn.send(events.CloseConnection(code, reason)))
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(seconds, self.transport.close)
