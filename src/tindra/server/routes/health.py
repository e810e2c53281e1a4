"""/healthz, /readyz and /metrics: for those who watch the server, not for clients."""

from __future__ import annotations

import asyncio
import hmac

from tindra.core.errors import StoreError
from tindra.core.services import Services
from tindra.server.http.exchange import NO_STORE, Exchange, HttpError, Response
from tindra.server.http.origin import is_local_client
from tindra.server.http.refusal import retry_after
from tindra.server.metrics import Metrics, Reading
from tindra.server.options import ServerOptions

READY_S = 5.0
"""A store that answers slower than this is of no use to a client either."""
_UP = "tindra_store_up"
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_EXPOSITION = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


class HealthRoute:
    """Answers probes."""

    def __init__(self, services: Services, metrics: Metrics, options: ServerOptions) -> None:
        self._services = services
        self._metrics = metrics
        self._options = options

    async def get_alive(self, exchange: Exchange) -> Response:
        """The process answers. Restart it when this fails."""
        return Response(200, [_TEXT, NO_STORE], b"ok\n")

    async def get_ready(self, exchange: Exchange) -> Response:
        """The store answers and takes what is written. Send no requests here while this fails; it
        recovers by itself. Raises: HttpError 503, which says what is wrong."""
        trouble = None
        try:
            async with asyncio.timeout(READY_S):
                await self._services.store.list_due(0, 1)
                await self._services.directory.find_user("")
                if self._options.find_trouble is not None:
                    trouble = await self._options.find_trouble()
        except (StoreError, TimeoutError, OSError):
            trouble = "the store does not answer"
        if trouble is not None:
            raise HttpError(503, trouble, headers=[retry_after(5)])
        return Response(200, [_TEXT, NO_STORE], b"ready\n")

    async def get_metrics(self, exchange: Exchange) -> Response:
        """The counters, for this machine or for the bearer of the token. Raises: HttpError 403."""
        if not self._may_see_metrics(exchange):
            raise HttpError(403, "metrics are for this machine, or for their token")
        text = await asyncio.to_thread(self._metrics.render, await self._load_readings())
        return Response(200, [_EXPOSITION, NO_STORE], text)

    async def _load_readings(self) -> list[Reading]:
        if self._options.load_readings is None:
            return []
        try:
            async with asyncio.timeout(READY_S):
                return [Reading(_UP, (), 1), *await self._options.load_readings()]
        except (StoreError, TimeoutError):
            return [Reading(_UP, (), 0)]

    def _may_see_metrics(self, exchange: Exchange) -> bool:
        token = self._options.metrics_token
        if token is None:
            return is_local_client(exchange)
        given = exchange.header(b"authorization").encode()
        return hmac.compare_digest(given, f"Bearer {token}".encode())
