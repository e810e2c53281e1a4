"""One HTTP request and its answer over ASGI: headers, bounded body, response, refusals.

No route lives here. Invariants: a body is read only up to the limit its reader names, and only
as long as the client keeps sending; a large answer is written in pieces, so that a client that
does not read holds back its own answer and nothing else.
Source: RFC 9110, RFC 7807
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from tindra.server.sign_in import SignIn

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

BODY_IDLE_S = 30.0
"""A client that sends nothing for so long in the middle of a body has gone."""
BODY_TOTAL_S = 900.0
"""The largest upload over a line of half a megabit a second."""
PIECE_BYTES = 256 * 1024
"""An answer is handed to the transport in pieces of this size."""
QUERY_FIELDS_MAX = 32
"""Our templates have at most three."""

JSON = (b"content-type", b"application/json")
PROBLEM = (b"content-type", b"application/problem+json")
NO_STORE = (b"cache-control", b"no-store")
_TITLES = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 408: "Request Timeout", 413: "Content Too Large",
    415: "Unsupported Media Type", 416: "Range Not Satisfiable", 426: "Upgrade Required",
    429: "Too Many Requests",
    500: "Internal Server Error", 503: "Service Unavailable", 507: "Insufficient Storage",
}  # fmt: skip


class Response(NamedTuple):
    """A whole answer."""

    status: int
    headers: Headers
    body: bytes = b""


class HttpError(Exception):
    """The request is refused with an HTTP status and a problem document. Source: RFC 7807 s3"""

    def __init__(
        self,
        status: int,
        detail: str,
        kind: str = "about:blank",
        *,
        limit: str | None = None,
        headers: Headers | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind
        self.limit = limit
        self.headers = headers or []

    def to_problem(self) -> dict[str, Any]:
        """The problem document as an object."""
        problem: dict[str, Any] = {
            "type": self.kind,
            "title": _TITLES.get(self.status, "Refused"),
            "status": self.status,
            "detail": self.detail,
        }
        if self.limit is not None:
            problem["limit"] = self.limit
        return problem

    def to_response(self) -> Response:
        """The problem document as an answer."""
        headers = [PROBLEM, NO_STORE, *self.headers]
        return Response(self.status, headers, msgspec.json.encode(self.to_problem()))


class ClientGone(Exception):
    """The client went away before its request was whole, or stopped reading its answer."""


class Exchange:
    """One request on its way to its answer."""

    __slots__ = (
        "_fields", "_receive", "_send", "common_headers", "method", "path", "scope",
        "sign_in", "status",
    )  # fmt: skip
    _prefix = "http."
    """Of the names of messages that begin and continue an answer."""

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self._fields: dict[bytes, bytes] = dict(scope["headers"])
        self.common_headers: Headers = []
        """Added to every answer of this route."""
        self.sign_in: SignIn | None = None
        self.status = 0
        """Of the answer that was begun; 0 while there is none."""

    def header(self, name: bytes) -> str:
        """A request header by its lower-case name; "" if absent."""
        value = self._fields.get(name)
        return "" if value is None else value.decode("latin-1")

    @property
    def signed_in(self) -> SignIn:
        """Who asks; only on routes that need a sign-in."""
        assert self.sign_in is not None
        return self.sign_in

    def parse_query(self) -> dict[str, str]:
        """The fields of the query string; of repeated ones the first. Raises HttpError 400."""
        text = self.scope.get("query_string", b"").decode("latin-1")
        try:
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX)
        except ValueError:
            raise HttpError(400, f"over {QUERY_FIELDS_MAX} query fields") from None
        fields: dict[str, str] = {}
        for name, value in pairs:
            fields.setdefault(name, value)
        return fields

    # -- request body ----------------------------------------------------------------------------
    async def read_body(self, bytes_max: int, too_large: HttpError) -> bytes:
        """The whole body.

        Args:
            too_large: raised as soon as the body is known to have over `bytes_max` octets.
        Raises: HttpError 400, 408; ClientGone.
        """
        length = self._fields.get(b"content-length")
        if length is not None and (not length.isdigit() or int(length) > bytes_max):
            raise too_large
        # The first piece is nearly always all, and a timer would cost more than reading it: until
        # it comes the connection itself watches its client (server/connection.py).
        piece, has_more = await self._receive_piece()
        if len(piece) > bytes_max:
            raise too_large
        return await self._read_rest(piece, bytes_max, too_large) if has_more else piece

    async def _read_rest(self, first: bytes, bytes_max: int, too_large: HttpError) -> bytes:
        loop = asyncio.get_running_loop()
        total_until = loop.time() + BODY_TOTAL_S
        pieces, count, has_more = [first], len(first), True
        try:
            async with asyncio.timeout(BODY_IDLE_S) as deadline:
                while has_more:
                    piece, has_more = await self._receive_piece()
                    pieces.append(piece)
                    count += len(piece)
                    if count > bytes_max:
                        raise too_large
                    deadline.reschedule(min(loop.time() + BODY_IDLE_S, total_until))
        except TimeoutError:
            close: Headers = [(b"connection", b"close")]
            raise HttpError(408, "the body did not arrive in time", headers=close) from None
        return b"".join(pieces)

    async def _receive_piece(self) -> tuple[bytes, bool]:
        """Some octets of the body, and whether there are more. Raises: ClientGone."""
        message = await self._receive()
        if message["type"] != "http.request":
            raise ClientGone
        return message.get("body", b""), message.get("more_body", False)

    async def wait_disconnect(self) -> None:
        """Return when the client has gone; what it still sends is thrown away."""
        while (await self._receive())["type"] == "http.request":
            pass

    # -- response --------------------------------------------------------------------------------
    async def start(self, status: int, headers: Headers) -> None:
        """Begin an answer that is written in pieces."""
        self.status = status
        await self._send(
            {
                "type": self._prefix + "response.start",
                "status": status,
                "headers": headers + self.common_headers,
            }
        )

    async def write(self, piece: bytes) -> None:
        """One more piece of a begun answer; waits while the client is slow to read."""
        type = self._prefix + "response.body"
        await self._send({"type": type, "body": piece, "more_body": True})

    async def finish(self, piece: bytes = b"") -> None:
        """The last piece of a begun answer."""
        type = self._prefix + "response.body"
        await self._send({"type": type, "body": piece, "more_body": False})

    async def respond(self, response: Response) -> None:
        """Send a whole answer; to HEAD, all but its body. Source: RFC 9110 s9.3.2"""
        status, headers, body = response
        has_body = status not in (204, 304)
        if has_body:
            headers = [*headers, (b"content-length", b"%d" % len(body))]
        await self.start(status, headers)
        if self.method == "HEAD" or not has_body:
            body = b""
        start = 0
        while len(body) - start > PIECE_BYTES:
            await self.write(body[start : start + PIECE_BYTES])
            start += PIECE_BYTES
        await self.finish(body[start:] if start else body)
