"""POST and DELETE /auth/token: a device signs in with a password once, and out again."""

from __future__ import annotations

import msgspec

from tindra.server.auth import Authenticator
from tindra.server.http.exchange import JSON, NO_STORE, Exchange, HttpError, Response
from tindra.server.routes.api import check_is_json
from tindra.wire.jmap.request import RequestSyntaxError, parse_json

BODY_BYTES_MAX = 16 * 1024
"""A name, a password and the name of a device."""
DEVICE_NAME_CHARS_MAX = 200
"""What fits one line of a list."""


class _TokenRequest(msgspec.Struct, rename="camel"):
    username: str
    password: str
    device_name: str = ""


class TokenRoute:
    """Issues and revokes access tokens."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def post(self, exchange: Exchange) -> Response:
        """Exchange a password for an access token. Raises: HttpError 400, 401, 413, 415, 429."""
        check_is_json(exchange)
        too_large = HttpError(413, f"over {BODY_BYTES_MAX} octets")
        body = await exchange.read_body(BODY_BYTES_MAX, too_large)
        try:
            request = msgspec.convert(parse_json(body), _TokenRequest)
        except RequestSyntaxError as error:
            raise HttpError(400, error.detail) from None
        except msgspec.ValidationError:
            # The error of msgspec names the path of the bad value, never the value itself.
            detail = "the body must hold username, password and deviceName, all strings"
            raise HttpError(400, detail) from None
        name = "".join(c for c in request.device_name if c.isprintable())[:DEVICE_NAME_CHARS_MAX]
        token = await self._authenticator.issue_token(
            exchange, request.username, request.password, name.strip() or "a device"
        )
        answer = {"accessToken": token, "expiresAt": None}
        return Response(200, [JSON, NO_STORE], msgspec.json.encode(answer))

    async def delete(self, exchange: Exchange) -> Response:
        """Revoke the token this very request came with. Raises: HttpError 400."""
        sign_in = exchange.signed_in
        if not exchange.header(b"authorization").lower().startswith("bearer "):
            raise HttpError(400, "this ends the Bearer token of the request; a password has none")
        await self._authenticator.revoke(sign_in.token_hash)
        return Response(204, [NO_STORE])
