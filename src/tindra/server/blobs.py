"""Upload and download of blobs (RFC 8620 s6).

A foreign account or blob and an unknown one get the same 404. What is sent down is never run by a
browser in our name: always nosniff, a sandbox policy, and a download unless it is a plain picture
or plain text.
"""

from __future__ import annotations

from urllib.parse import unquote

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId, is_id
from tindra.core.access import Access, check_write
from tindra.core.blob_parts import BlobPlace, find_blob, load_place
from tindra.core.errors import MethodError
from tindra.core.services import Services
from tindra.server.byte_range import ByteRange, Unsatisfiable, parse_range
from tindra.server.exchange import (
    JSON,
    NO_STORE,
    PIECE_BYTES,
    Exchange,
    Headers,
    HttpError,
    Response,
)
from tindra.server.gate import LIMIT, Gate
from tindra.server.media import encode_disposition, parse_media_type, parse_upload_type
from tindra.server.metrics import Metrics

UPLOAD_PREFIX = "/jmap/upload/"
DOWNLOAD_PREFIX = "/jmap/download/"
DOWNLOADS_CONCURRENT_MAX = 16
"""Per user: a screen of pictures at once; a decoded attachment is held in memory while it is sent."""
_CACHE = (b"cache-control", b"private, max-age=31536000, immutable")
_SAFE: Headers = [
    (b"content-security-policy", b"sandbox; default-src 'none'; style-src 'unsafe-inline'"),
    (b"vary", b"Authorization"),
    (b"accept-ranges", b"bytes"),
]


class UploadRoute:
    """Takes uploads in."""

    def __init__(self, services: Services, metrics: Metrics) -> None:
        self._services = services
        self._metrics = metrics
        self._gate = Gate(limits.UPLOADS_CONCURRENT_MAX, "maxConcurrentUpload")

    async def post(self, exchange: Exchange) -> Response:
        """Store the body as a blob. Source: RFC 8620 s6.1

        Raises: HttpError 403, 404, 413, 429; Unavailable.
        """
        caller = exchange.signed_in.caller
        account_id = exchange.path.removeprefix(UPLOAD_PREFIX).rstrip("/")
        account = _check_may_upload(exchange, account_id).account
        await self._gate.take(caller.user.id)
        try:
            body = await exchange.read_body(limits.UPLOAD_BYTES_MAX, _too_large())
            row = await self._services.blobs.put(account.id, body)
        finally:
            self._gate.free(caller.user.id)
        self._metrics.upload_bytes.inc(row.size)
        answer = {
            "accountId": account.id,
            "blobId": row.id,
            "type": parse_upload_type(exchange.header(b"content-type")),
            "size": row.size,
        }
        return Response(201, [JSON, NO_STORE], msgspec.json.encode(answer))


class DownloadRoute:
    """Sends blobs down."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._gate = Gate(DOWNLOADS_CONCURRENT_MAX, "maxConcurrentDownload")

    async def get(self, exchange: Exchange) -> Response | None:
        """A whole or part blob, or a range of it. Source: RFC 8620 s6.2

        Raises: HttpError 404, 416, 429; Unavailable.
        """
        account_id, blob_id, name = _split_path(exchange)
        if not exchange.signed_in.caller.may_read(account_id):
            raise _not_found()
        place = await find_blob(self._services, account_id, blob_id)
        if place is None:
            raise _not_found()
        media_type = parse_media_type(exchange.parse_query().get("type", ""))
        headers = [
            (b"content-type", media_type.encode()),
            (b"content-disposition", encode_disposition(name, media_type)),
            (b"etag", _etag(blob_id)),
            _CACHE,
            *_SAFE,
        ]
        if _matches(exchange.header(b"if-none-match"), blob_id):
            return Response(304, headers[2:])
        user_id = exchange.signed_in.caller.user.id
        await self._gate.take(user_id)
        try:
            await self._send(exchange, account_id, place, headers)
        finally:
            self._gate.free(user_id)
        return None

    async def _send(
        self, exchange: Exchange, account_id: AccountId, place: BlobPlace, headers: Headers
    ) -> None:
        content = None
        if not place.is_plain:
            content = await load_place(self._services, account_id, place)
            if content is None:
                raise _not_found()
        size = place.end - place.start if content is None else len(content)
        wanted = _parse_wanted(exchange, place, size)
        whole = ByteRange(0, size)
        status = 200 if wanted is None else 206
        if wanted is not None:
            text = f"bytes {wanted.start}-{wanted.end - 1}/{size}"
            headers = [*headers, (b"content-range", text.encode())]
        else:
            wanted = whole
        headers = [*headers, (b"content-length", b"%d" % (wanted.end - wanted.start))]
        if exchange.method == "HEAD":
            await exchange.start(status, headers)
            await exchange.finish()
        elif content is not None:
            await self._send_octets(exchange, status, headers, content[wanted.start : wanted.end])
        else:
            from_start = ByteRange(place.start + wanted.start, place.start + wanted.end)
            reader = _Reader(self._services, account_id, place.blob_id, from_start)
            await self._send_pieces(exchange, status, headers, reader)

    async def _send_octets(
        self, exchange: Exchange, status: int, headers: Headers, content: bytes
    ) -> None:
        await exchange.start(status, headers)
        for start in range(0, len(content) - PIECE_BYTES, PIECE_BYTES):
            await exchange.write(content[start : start + PIECE_BYTES])
        rest = (len(content) - 1) // PIECE_BYTES * PIECE_BYTES if content else 0
        await exchange.finish(content[rest:])

    async def _send_pieces(
        self, exchange: Exchange, status: int, headers: Headers, reader: _Reader
    ) -> None:
        piece = await reader.read()
        await exchange.start(status, headers)
        while not reader.is_done:
            await exchange.write(piece)
            piece = await reader.read()
        await exchange.finish(piece)


class _Reader:
    """A range of a blob, piece by piece, never whole in memory."""

    def __init__(
        self, services: Services, account_id: AccountId, blob_id: str, octets: ByteRange
    ) -> None:
        self._services = services
        self._account_id = account_id
        self._blob_id = blob_id
        self._next, self._end = octets

    @property
    def is_done(self) -> bool:
        return self._next >= self._end

    async def read(self) -> bytes:
        """The next piece. Raises: HttpError 404 if the blob went away."""
        if self.is_done:
            return b""
        end = min(self._end, self._next + PIECE_BYTES)
        piece = await self._services.blobs.get(self._account_id, self._blob_id, self._next, end)
        if piece is None or len(piece) != end - self._next:
            raise _not_found()
        self._next = end
        return piece


def _check_may_upload(exchange: Exchange, account_id: str) -> Access:
    try:
        return check_write(exchange.signed_in.caller, account_id, "triage")
    except MethodError as error:
        if error.kind == "accountNotFound":
            raise _not_found() from None
        raise HttpError(403, error.description) from None


def _split_path(exchange: Exchange) -> tuple[AccountId, str, str]:
    """accountId, blobId and name of a download; a name may hold anything, "/" too."""
    raw = exchange.scope.get("raw_path")
    path = raw.decode("latin-1") if raw else exchange.path
    fields = path.removeprefix(DOWNLOAD_PREFIX).split("/", 2)
    if len(fields) < 2:
        raise _not_found()
    account_id, blob_id = unquote(fields[0]), unquote(fields[1])
    if not is_id(account_id) or not is_id(blob_id):
        raise _not_found()
    return AccountId(account_id), blob_id, unquote(fields[2]) if len(fields) > 2 else ""


def _parse_wanted(exchange: Exchange, place: BlobPlace, size: int) -> ByteRange | None:
    """The range to send; None for all. Source: RFC 9110 s14.2"""
    text = exchange.header(b"range")
    condition = exchange.header(b"if-range")
    if not text or exchange.method != "GET":
        return None
    if condition and condition != exchange_etag(exchange):
        return None
    try:
        return parse_range(text, size)
    except Unsatisfiable:
        headers = [(b"content-range", f"bytes */{size}".encode())]
        raise HttpError(416, f"the content has {size} octets", headers=headers) from None


def _etag(blob_id: str) -> bytes:
    return f'"{blob_id}"'.encode()


def _matches(condition: str, blob_id: str) -> bool:
    """Whether If-None-Match names this blob. Source: RFC 9110 s13.1.2"""
    if not condition:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in condition.split(",")}
    return "*" in tags or f'"{blob_id}"' in tags


def _not_found() -> HttpError:
    return HttpError(404, "there is no such account or blob for this user")


def _too_large() -> HttpError:
    detail = f"over {limits.UPLOAD_BYTES_MAX} octets"
    return HttpError(413, detail, LIMIT, limit="maxSizeUpload")
