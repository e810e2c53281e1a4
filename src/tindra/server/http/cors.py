"""Which web pages may call the API from their own origin (the Fetch standard, section 3.3).

Any may, unless told otherwise: access goes by the Authorization header, which a foreign page does
not have, and there are no cookies, so a foreign page can do no more than any other program.
"""

from __future__ import annotations

from tindra.server.http.exchange import Exchange, Headers, Response

PREFLIGHT_S = 7200
"""How long a browser remembers; Chromium keeps no longer."""
_REQUEST_HEADERS = (
    b"Authorization, Content-Type, Accept, Cache-Control, If-None-Match, If-Range, Last-Event-ID, "
    b"Range, X-Requested-With"
)
_EXPOSED = (
    b"access-control-expose-headers",
    b"Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag, Retry-After, "
    b"WWW-Authenticate",
)
_ANY = (b"access-control-allow-origin", b"*")
_VARY = (b"vary", b"Origin")


class Cors:
    """The headers that tell a browser."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._is_open = "*" in origins
        self._origins = frozenset(origin.rstrip("/") for origin in origins)
        self._open_headers: Headers = [_ANY, _EXPOSED]

    def list_headers(self, exchange: Exchange) -> Headers:
        """What every answer of an API route carries."""
        origin = exchange.header(b"origin")
        if self._is_open:
            # A cached download must serve a page of another origin, too; the rest is not cached.
            return self._open_headers if origin or exchange.method != "POST" else []
        if origin not in self._origins:
            return [_VARY]
        allowed = (b"access-control-allow-origin", origin.encode("latin-1"))
        return [allowed, _EXPOSED, _VARY]

    def may_open_socket(self, exchange: Exchange, own_origin: str) -> bool:
        """Whether the page that asks for a WebSocket may have it; a program that is no page may.

        Nothing else keeps a page from reading a WebSocket of another origin, and its browser adds
        a password that its user once typed (Basic) by itself, but never a token. So where any
        origin may, only a token opens the door. Source: RFC 6455 s10.2
        """
        origin = exchange.header(b"origin")
        if not origin or origin == own_origin or origin in self._origins:
            return True
        return self._is_open and exchange.header(b"authorization")[:7].lower() == "bearer "

    def answer_options(self, methods_allowed: list[str], is_api: bool) -> Response:
        """The answer to a preflight, and to OPTIONS in general; needs no sign-in."""
        methods = ", ".join(methods_allowed).encode()
        headers: Headers = [(b"allow", methods)]
        if is_api:
            headers += [
                (b"access-control-allow-methods", methods),
                (b"access-control-allow-headers", _REQUEST_HEADERS),
                (b"access-control-max-age", b"%d" % PREFLIGHT_S),
            ]
        return Response(204, headers)
