"""POST /jmap/api: bytes to a Request, through core, to bytes (RFC 8620 s3).

A client that goes away does not stop a call that has begun: what it wrote is written whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from tindra.base import limits
from tindra.core.datatype import Registry
from tindra.core.dispatch import encode_response, run_request
from tindra.core.errors import RequestError
from tindra.core.services import Services
from tindra.server.http.exchange import JSON, NO_STORE, Exchange, HttpError, Response
from tindra.server.http.gate import LIMIT, Gate
from tindra.server.metrics import Metrics
from tindra.server.options import Report
from tindra.server.routes.session import SessionRoute
from tindra.server.sign_in import SignIn
from tindra.wire.jmap.request import Request, RequestSyntaxError, parse_request

PROBLEM_PREFIX = "urn:ietf:params:jmap:error:"
_HEADERS = [JSON, NO_STORE]
_T = TypeVar("_T")
_INLINE_BYTES_MAX = 64 * limits.KIB
"""A larger request is parsed away from the loop: made of empty objects, so much takes 10 ms, and a
whole one of REQUEST_BYTES_MAX 300 ms, for which nobody else would be answered."""


class ApiRoute:
    """Runs API requests."""

    def __init__(
        self,
        registry: Registry,
        services: Services,
        session: SessionRoute,
        metrics: Metrics,
        report: Report,
    ) -> None:
        self._registry = registry
        self._services = services
        self._session = session
        self._metrics = metrics
        self._report = report
        self._gate = Gate(limits.REQUESTS_CONCURRENT_MAX, "maxConcurrentRequests")

    async def post(self, exchange: Exchange) -> None:
        """Run one API request. Source: RFC 8620 s3.1

        Raises: HttpError with the problem types of RFC 8620 s3.6.1; StoreError.
        """
        check_is_json(exchange)
        async with self.take_place(exchange.signed_in):
            body = await exchange.read_body(limits.REQUEST_BYTES_MAX, _too_large())
            try:
                request = await self.parse(parse_request, body)
            except RequestSyntaxError as error:
                raise refuse_syntax(error) from None
            answer, state = await self.run(exchange, request)
            # Answered within the gate: answers that nobody reads are bounded as requests are.
            octets = encode_response(answer, state)
            await exchange.respond(Response(200, list(_HEADERS), octets))

    async def parse(self, parse: Callable[[bytes], _T], body: bytes) -> _T:
        """What `parse` makes of octets of a client. Raises: what `parse` raises."""
        if len(body) <= _INLINE_BYTES_MAX:
            return parse(body)
        return await self._services.offload.run(parse, body)

    @asynccontextmanager
    async def take_place(self, sign_in: SignIn) -> AsyncIterator[None]:
        """One of the places that the requests of a user share, however they come.

        Raises: HttpError 429.
        """
        user_id = sign_in.caller.user.id
        await self._gate.take(user_id)
        try:
            yield
        finally:
            self._gate.free(user_id)

    async def run(self, exchange: Exchange, request: Request) -> tuple[dict[str, Any], str]:
        """The Response object to a request, and the sessionState it is to carry.

        Raises: HttpError with the problem types of RFC 8620 s3.6.1; StoreError.
        """
        state = self._session.load_state(exchange)
        for call in request.calls[: limits.CALLS_IN_REQUEST_MAX]:
            self._metrics.count_call(call.name)
        caller = exchange.signed_in.caller
        try:
            answer = await run_request(
                self._registry, self._services, caller, request, self._report
            )
        except RequestError as error:
            kind = PROBLEM_PREFIX + error.kind
            raise HttpError(error.status, error.detail, kind, limit=error.limit) from None
        return answer, state


def refuse_syntax(error: RequestSyntaxError) -> HttpError:
    """The refusal of what is no request."""
    return HttpError(400, error.detail, PROBLEM_PREFIX + error.kind)


def check_is_json(exchange: Exchange) -> None:
    """Raises HttpError 415 (of JMAP's kind notJSON) unless the body says it is JSON; its charset,
    which JSON does not have, is ignored. Source: RFC 8620 s3.6.1"""
    media_type = exchange.header(b"content-type").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HttpError(415, "the body must be application/json", PROBLEM_PREFIX + "notJSON")


def _too_large() -> HttpError:
    # 400 as RFC 8620 s3.6.1 shows it for this very refusal; uploads, which it leaves open, say 413.
    detail = f"the request has over {limits.REQUEST_BYTES_MAX} octets"
    return HttpError(400, detail, LIMIT, limit="maxSizeRequest")
