"""POST /jmap/upload/{accountId}: octets in, a blob id out (RFC 8620 s6.1)."""

from __future__ import annotations

import msgspec

from tindra.base import limits
from tindra.core.access import Access, check_write
from tindra.core.errors import MethodError
from tindra.core.part import Narrow, narrow_services
from tindra.core.services import Services
from tindra.server.http.exchange import JSON, NO_STORE, Exchange, HttpError, Response
from tindra.server.http.gate import LIMIT, Gate
from tindra.server.http.media import parse_upload_type
from tindra.server.metrics import Metrics

PREFIX = "/jmap/upload/"


class UploadRoute:
    """Takes uploads in."""

    def __init__(self, services: Services, narrow: Narrow | None, metrics: Metrics) -> None:
        """
        Args:
            narrow: what who sees a part of an account reads of it.
        """
        self._services = services
        self._narrow = narrow
        self._metrics = metrics
        self._gate = Gate(limits.UPLOADS_CONCURRENT_MAX, "maxConcurrentUpload")

    async def post(self, exchange: Exchange) -> Response:
        """Store the body as a blob. Source: RFC 8620 s6.1

        Raises: HttpError 403, 404, 413, 415, 429; StoreError.
        """
        access = _check_may_upload(exchange)
        if exchange.header(b"content-encoding").strip().lower() not in ("", "identity"):
            # Stored as it is, it would come down again as something else than was meant.
            raise HttpError(415, "an upload may have no content coding: send the octets themselves")
        caller = exchange.signed_in.caller
        user_id = caller.user.id
        await self._gate.take(user_id)
        try:
            body = await exchange.read_body(limits.UPLOAD_BYTES_MAX, _too_large())
            blobs = narrow_services(self._services, caller, self._narrow).blobs
            row = await blobs.put(access.account.id, body)
        finally:
            self._gate.free(user_id)
        self._metrics.upload_bytes.inc(row.size)
        answer = {
            "accountId": access.account.id,
            "blobId": row.id,
            "type": parse_upload_type(exchange.header(b"content-type")),
            "size": row.size,
        }
        return Response(201, [JSON, NO_STORE], msgspec.json.encode(answer))


def _check_may_upload(exchange: Exchange) -> Access:
    account_id = exchange.path.removeprefix(PREFIX).removesuffix("/")
    try:
        return check_write(exchange.signed_in.caller, account_id, "triage")
    except MethodError as error:
        status = 404 if error.kind == "accountNotFound" else 403
        raise HttpError(status, error.description) from None


def _too_large() -> HttpError:
    detail = f"over {limits.UPLOAD_BYTES_MAX} octets"
    return HttpError(413, detail, LIMIT, limit="maxSizeUpload")
