"""GET /.well-known/jmap: the Session object, with absolute URLs (RFC 8620 s2, s2.2).

It is served right here rather than by a redirect: one round trip less, and nothing that can lose
the Authorization header on the way.
"""

from __future__ import annotations

import msgspec

from tindra.core.datatype import Registry
from tindra.server.http.exchange import JSON, Exchange, Response
from tindra.server.http.origin import derive_base_url
from tindra.server.options import ServerOptions
from tindra.server.session_object import make_session
from tindra.server.sign_in import SignIn

BASE_URLS_MAX = 4
"""Names under which one sign-in reaches us; made-up Host headers cost no memory."""
_HEADERS = [JSON, (b"cache-control", b"no-cache, no-store, must-revalidate")]


class SessionRoute:
    """Makes Session objects, and remembers them with their sign-in."""

    def __init__(self, registry: Registry, options: ServerOptions) -> None:
        self._registry = registry
        self._options = options

    async def get(self, exchange: Exchange) -> Response:
        """The Session object of the caller. Source: RFC 8620 s2"""
        base_url = derive_base_url(exchange, self._options)
        return Response(200, list(_HEADERS), self._load(exchange.signed_in, base_url)[0])

    def load_state(self, exchange: Exchange) -> str:
        """The state of the Session object the caller would get now. Source: RFC 8620 s3.4"""
        base_url = derive_base_url(exchange, self._options)
        return self._load(exchange.signed_in, base_url)[1]

    def _load(self, sign_in: SignIn, base_url: str) -> tuple[bytes, str]:
        found = sign_in.documents.get(base_url)
        if found is None:
            session = make_session(self._registry, sign_in.caller, base_url)
            found = (msgspec.json.encode(session), session["state"])
            if len(sign_in.documents) >= BASE_URLS_MAX:
                sign_in.documents.clear()
            sign_in.documents[base_url] = found
        return found
