"""The request for a WebSocket, and the WebSocket it becomes, over ASGI.

A handshake is an Exchange: it is routed, signed in and refused like any request. Frames are not
seen here (server/socket_connection.py), and no meaning of messages lives here.
Source: RFC 6455 s4.2, s7.4
"""

from __future__ import annotations

from typing import Final

from tindra.server.http.exchange import Exchange, Message, Receive, Send

CLOSE_DONE: Final = 1000
CLOSE_GOING_AWAY: Final = 1001
"""The server stops: come again."""
CLOSE_NOT_TEXT: Final = 1003
CLOSE_REFUSED: Final = 1008
"""The sign-in has ended: come again with another one."""
CLOSE_UNEXPECTED: Final = 1011
SWITCHING_PROTOCOLS: Final = 101
"""The status of a handshake that was accepted."""


class Handshake(Exchange):
    """A request that asks for a WebSocket."""

    __slots__ = ("subprotocols",)
    _prefix = "websocket.http."

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        super().__init__({**scope, "method": "GET"}, receive, send)
        self.subprotocols: list[str] = list(scope["subprotocols"])

    async def accept(self, subprotocol: str) -> Socket:
        """Let there be a WebSocket. Raises: OSError if the client has gone."""
        self.status = SWITCHING_PROTOCOLS
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})
        return Socket(self._receive, self._send)


class Socket:
    """An open WebSocket."""

    __slots__ = ("_receive", "_send", "is_gone")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.is_gone = False
        """The client closed it, or its line broke."""

    async def receive(self) -> str | bytes | None:
        """The next whole message, text or binary; None when there will be no more."""
        message = await self._receive()
        if message["type"] != "websocket.receive":
            self.is_gone = True
            return None
        text: str | None = message.get("text")
        octets: bytes = message.get("bytes") or b""
        return octets if text is None else text

    async def send(self, text: bytes) -> None:
        """Send a text message; waits while the client is slow to read, and once it has gone does
        nothing."""
        await self._try({"type": "websocket.send", "text": text.decode()})

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye, unless the client already did. Source: RFC 6455 s7.4"""
        await self._try({"type": "websocket.close", "code": code, "reason": reason})

    async def _try(self, message: Message) -> None:
        if self.is_gone:
            return
        try:
            await self._send(message)
        except OSError:
            # So an ASGI server says that the client has gone.
            self.is_gone = True
