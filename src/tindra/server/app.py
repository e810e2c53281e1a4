"""The ASGI application: a request to its route, through the rules of that route, to one answer.

Here is the one error boundary of HTTP: whatever goes wrong below becomes an answer that says who
is at fault, and only what nobody foresaw becomes a 500, reported with an id. Generic: no feature
is known here by name.
"""

from __future__ import annotations

import asyncio
import errno
from typing import Any

from tindra.core.datatype import Registry
from tindra.core.errors import DiskFull, StoreError
from tindra.core.services import Services
from tindra.model.stored import CommitInfo
from tindra.server.auth import Authenticator
from tindra.server.http.cors import Cors
from tindra.server.http.exchange import (
    ClientGone,
    Exchange,
    Headers,
    HttpError,
    Message,
    Receive,
    Response,
    Send,
)
from tindra.server.http.handshake import Handshake
from tindra.server.http.refusal import refuse_store, retry_after
from tindra.server.hub import StreamHub
from tindra.server.metrics import Metrics
from tindra.server.options import ServerOptions
from tindra.server.router import Route, Router
from tindra.server.routes.api import ApiRoute
from tindra.server.routes.download import DownloadRoute
from tindra.server.routes.eventsource import EventSourceRoute
from tindra.server.routes.health import HealthRoute
from tindra.server.routes.session import SessionRoute
from tindra.server.routes.static_files import StaticRoute
from tindra.server.routes.token import TokenRoute
from tindra.server.routes.upload import UploadRoute
from tindra.server.routes.websocket import WebSocketRoute

EMAIL_DELIVERY = "EmailDelivery"
"""A pushed name that is no type: its state changes when mail comes in. Source: RFC 8621 s1.5"""
_COMMON: Headers = [(b"x-content-type-options", b"nosniff")]
_CLIENT_GONE_STATUS = 499
"""Never sent; what the metrics say of a client that left before its answer began."""


class Server:
    """The application; `__call__` is ASGI."""

    def __init__(self, registry: Registry, services: Services, options: ServerOptions) -> None:
        self._options = options
        self._cors = Cors(options.cors_origins)
        self._services = services
        pushed = {name for name, datatype in registry.datatypes.items() if datatype.is_pushed}
        self.metrics = Metrics(_ROUTE_NAMES, registry.methods)
        self.authenticator = Authenticator(services, options, self.metrics.count_sign_in)
        self.hub = StreamHub(services, pushed | {EMAIL_DELIVERY}, self.authenticator.refresh)
        self.authenticator.on_over = self.hub.end_sign_in
        self._router = self._make_router(registry)
        assert set(self._router.list_names()) == set(_ROUTE_NAMES)
        self._unsubscribe = services.bus.subscribe(self._count_commit)

    def _make_router(self, registry: Registry) -> Router:
        services, metrics, options = self._services, self.metrics, self._options
        upload = UploadRoute(services, registry.narrow, metrics)
        download = DownloadRoute(services, registry.narrow)
        session = SessionRoute(registry, options)
        api = ApiRoute(registry, services, session, metrics, self._report)
        source = EventSourceRoute(services.clock, self.hub, metrics)
        socket = WebSocketRoute(options, self._cors, api, self.hub, self.authenticator, metrics)
        token = TokenRoute(self.authenticator)
        health = HealthRoute(services, metrics, options)
        open_probe: dict[str, Any] = {"is_api": False, "needs_sign_in": False}
        return Router(
            {
                "/.well-known/jmap": Route("session", {"GET": session.get}),
                "/jmap/api": Route("api", {"POST": api.post}),
                "/jmap/eventsource": Route(
                    "eventsource", {"GET": source.get}, has_head=False, is_timed=False
                ),
                "/jmap/ws": Route(
                    "websocket", {"GET": socket.get}, is_timed=False, socket=socket.serve
                ),
                "/auth/token": Route(
                    "token", {"POST": token.post, "DELETE": token.delete}, needs_sign_in=False
                ),
                "/healthz": Route("health", {"GET": health.get_alive}, **open_probe),
                "/readyz": Route("health", {"GET": health.get_ready}, **open_probe),
                "/metrics": Route("metrics", {"GET": health.get_metrics}, **open_probe),
            },
            upload_route=Route("upload", {"POST": upload.post}),
            download_route=Route("download", {"GET": download.get}),
            rest=Route("static", {"GET": StaticRoute(options.static_dir).get}, **open_probe),
        )

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] == "websocket":
            await receive()  # that it wants to connect
            exchange: Exchange = Handshake(scope, receive, send)
        else:
            exchange = Exchange(scope, receive, send)
        route = self._router.find(exchange.path)
        exchange.common_headers = _COMMON
        if route.is_api:
            exchange.common_headers = _COMMON + self._cors.list_headers(exchange)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await self._answer(exchange, route)
        seconds = loop.time() - began_s if route.is_timed else None
        self.metrics.count_request(route.name, exchange.status or _CLIENT_GONE_STATUS, seconds)

    async def close(self) -> None:
        """End all streams, so that a graceful stop need not wait for them."""
        self.hub.close()
        self._unsubscribe()

    # -- inside ----------------------------------------------------------------------------------
    async def _answer(self, exchange: Exchange, route: Route) -> None:
        """Run the handler; every way it can end becomes an answer."""
        try:
            response = await self._dispatch(exchange, route)
        except HttpError as error:
            response = error.to_response()
        except ClientGone:
            return
        except StoreError as error:
            if not isinstance(error, DiskFull):
                self._report(f"{exchange.method} {route.name}", error)
            response = refuse_store(error).to_response()
        except Exception as error:  # the boundary: what nobody foresaw must not end the server
            response = self._make_response(exchange, route, error)
        if response is None or exchange.status:
            # It was sent, or an answer broke off in the middle: returning now closes the line.
            return
        try:
            await exchange.respond(response)
        except OSError:
            # Some ASGI servers say so when the client has gone.
            return

    async def _dispatch(self, exchange: Exchange, route: Route) -> Response | None:
        if isinstance(exchange, Handshake):
            if route.socket is None:
                raise HttpError(404, "there is no WebSocket at this address")
            exchange.sign_in = await self.authenticator.sign_in(exchange)
            await route.socket(exchange)
            return None
        handler = route.find_handler(exchange.method)
        if handler is None:
            if exchange.method == "OPTIONS":
                return self._cors.answer_options(route.list_methods(), route.is_api)
            allow = (b"allow", ", ".join(route.list_methods()).encode())
            raise HttpError(405, "this address has no such method", headers=[allow])
        if route.needs_sign_in or (route.name == "token" and exchange.method == "DELETE"):
            exchange.sign_in = await self.authenticator.sign_in(exchange)
        return await handler(exchange)

    def _make_response(self, exchange: Exchange, route: Route, error: Exception) -> Response | None:
        """The answer to an error nobody caught below."""
        if isinstance(error, OSError) and exchange.status:
            return None
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            detail = "the server's disk is full"
            return HttpError(507, detail, headers=[retry_after(60)]).to_response()
        id = self._report(f"{exchange.method} {route.name}", error)
        return HttpError(500, f"unexpected error, reported as {id}").to_response()

    def _report(self, where: str, error: BaseException) -> str:
        self.metrics.unexpected_errors.inc()
        return self._options.report(where, error)

    def _count_commit(self, info: CommitInfo) -> None:
        self.metrics.commits.inc()


_ROUTE_NAMES = (
    "api", "download", "eventsource", "health", "metrics", "session", "static", "token", "upload",
    "websocket",
)  # fmt: skip


def make_app(registry: Registry, services: Services, options: ServerOptions) -> Server:
    """The ASGI application over these features and ports.

    Raises: OSError, ValueError for a static_dir that cannot be served.
    """
    return Server(registry, services, options)


async def _live(receive: Receive, send: Send) -> None:
    """Answer an ASGI lifespan; ours needs nothing of it."""
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})
