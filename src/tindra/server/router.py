"""Which path leads to which handler, under which rules.

Fixed paths by one dictionary look-up, then two prefixes, then the web client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from tindra.server.http.exchange import Exchange, Response
from tindra.server.http.handshake import Handshake
from tindra.server.routes import download, upload

Handler = Callable[[Exchange], Awaitable[Response | None]]
"""Gives its answer, or None if it has sent it itself."""


class Route(NamedTuple):
    """One kind of address."""

    name: str
    """Label of its metrics."""
    handlers: Mapping[str, Handler]
    """HTTP method -> handler; a handler of GET serves HEAD too unless `has_head` says no."""
    is_api: bool = True
    """Scripts from other origins may call it."""
    needs_sign_in: bool = True
    has_head: bool = True
    is_timed: bool = True
    """Its duration says something."""
    socket: Callable[[Handshake], Awaitable[None]] | None = None
    """Who serves a WebSocket at this address."""

    def find_handler(self, method: str) -> Handler | None:
        """Who answers `method`; None for a 405."""
        handler = self.handlers.get(method)
        if handler is None and method == "HEAD" and self.has_head:
            return self.handlers.get("GET")
        return handler

    def list_methods(self) -> list[str]:
        """For Allow. Source: RFC 9110 s10.2.1"""
        methods = list(self.handlers)
        if "GET" in self.handlers and self.has_head:
            methods.append("HEAD")
        return sorted([*methods, "OPTIONS"])


class Router:
    """Finds the route of a path."""

    def __init__(
        self, fixed: Mapping[str, Route], upload_route: Route, download_route: Route, rest: Route
    ) -> None:
        self._fixed = fixed
        self._upload = upload_route
        self._download = download_route
        self._rest = rest

    def find(self, path: str) -> Route:
        """The route of `path`; there always is one."""
        route = self._fixed.get(path)
        if route is not None:
            return route
        if path.startswith(upload.PREFIX):
            return self._upload
        if path.startswith(download.PREFIX):
            return self._download
        return self._rest

    def list_names(self) -> list[str]:
        """All route names, for the metrics."""
        routes = [*self._fixed.values(), self._upload, self._download, self._rest]
        return sorted({route.name for route in routes})
