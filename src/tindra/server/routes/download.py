"""GET /jmap/download/{accountId}/{blobId}/{name}: blobs, body parts, and ranges of them.

A foreign account or blob and an unknown one get the same 404. What is sent is never run by a
browser in our name: always nosniff and a sandbox policy, and a download to disk unless it is a
plain picture or plain text.
Source: RFC 8620 s6.2
"""

from __future__ import annotations

from urllib.parse import unquote

from tindra.base.ids import AccountId, is_id
from tindra.core.blob_parts import BlobPlace, find_blob, load_place
from tindra.core.part import Narrow, narrow_services
from tindra.core.services import Services
from tindra.server.http.byte_range import ByteRange, Unsatisfiable, parse_range
from tindra.server.http.exchange import PIECE_BYTES, Exchange, Headers, HttpError, Response
from tindra.server.http.gate import Gate
from tindra.server.http.media import encode_disposition, parse_media_type

PREFIX = "/jmap/download/"
DOWNLOADS_CONCURRENT_MAX = 16
"""Per user: a screen of pictures at once; a decoded body part is in memory while it is sent."""
_CACHING: Headers = [
    # A blob id names its octets for ever. Another user of the same browser has another header.
    (b"cache-control", b"private, max-age=31536000, immutable"),
    (b"vary", b"Authorization"),
]
_SAFE: Headers = [
    (b"content-security-policy", b"sandbox; default-src 'none'; style-src 'unsafe-inline'"),
    (b"referrer-policy", b"no-referrer"),
    (b"accept-ranges", b"bytes"),
]


class DownloadRoute:
    """Sends blobs down."""

    def __init__(self, services: Services, narrow: Narrow | None) -> None:
        """
        Args:
            narrow: what who sees a part of an account reads of it.
        """
        self._services = services
        self._narrow = narrow
        self._gate = Gate(DOWNLOADS_CONCURRENT_MAX, "maxConcurrentDownload")

    async def get(self, exchange: Exchange) -> Response | None:
        """A whole or part blob, or a range of it. Source: RFC 8620 s6.2

        Raises: HttpError 404, 412, 416, 429; StoreError.
        Cost: two reads; memory for one piece, or for all of a body part that must be decoded.
        """
        account_id, blob_id, name = _split_path(exchange)
        caller = exchange.signed_in.caller
        if not caller.may_read(account_id):
            raise _not_found()
        services = narrow_services(self._services, caller, self._narrow)
        place = await find_blob(services, account_id, blob_id)
        if place is None:
            raise _not_found()
        etag = f'"{blob_id}"'
        caching = [(b"etag", etag.encode()), *_CACHING]
        if _is_unmatched(exchange.header(b"if-match"), etag):
            raise HttpError(412, "If-Match names another blob", headers=caching[:1])
        if _names_etag(exchange.header(b"if-none-match"), etag):
            return Response(304, caching)
        media_type = parse_media_type(exchange.parse_query().get("type", ""))
        headers = [
            (b"content-type", media_type.encode()),
            (b"content-disposition", encode_disposition(name, media_type)),
            *caching,
            *_SAFE,
        ]
        user_id = exchange.signed_in.caller.user.id
        await self._gate.take(user_id)
        try:
            content = await _open(services, account_id, place)
            wanted = _parse_wanted(exchange, content.size, etag)
            await _send(exchange, content, headers, wanted)
        finally:
            self._gate.free(user_id)
        return None


class _Content:
    """The content of a blob; one that needs no decoding is never whole in memory."""

    def __init__(
        self, services: Services, account_id: AccountId, place: BlobPlace, decoded: bytes | None
    ) -> None:
        self._services = services
        self._account_id = account_id
        self._place = place
        self._decoded = decoded
        self.size = place.end - place.start if decoded is None else len(decoded)

    async def read(self, start: int, end: int) -> bytes:
        """Octets [start, end). Raises: HttpError 404 if the blob went away."""
        if self._decoded is not None:
            return self._decoded[start:end]
        if start == end:
            return b""
        place = self._place
        octets = await self._services.blobs.get(
            self._account_id, place.blob_id, place.start + start, place.start + end
        )
        if octets is None or len(octets) != end - start:
            raise _not_found()
        return octets


async def _open(services: Services, account_id: AccountId, place: BlobPlace) -> _Content:
    if place.is_plain:
        return _Content(services, account_id, place, None)
    decoded = await load_place(services, account_id, place)
    if decoded is None:
        raise _not_found()
    return _Content(services, account_id, place, decoded)


async def _send(
    exchange: Exchange, content: _Content, headers: Headers, wanted: ByteRange | None
) -> None:
    """The content, or the wanted range of it, piece by piece as the client reads."""
    start, end = wanted or (0, content.size)
    headers = [*headers, (b"content-length", b"%d" % (end - start))]
    if wanted is not None:
        headers.append((b"content-range", b"bytes %d-%d/%d" % (start, end - 1, content.size)))
    status = 200 if wanted is None else 206
    if exchange.method == "HEAD":
        await exchange.start(status, headers)
        await exchange.finish()
        return
    # Read before the headers go out: what fails here is still a 404 and no answer cut short.
    piece = await content.read(start, min(end, start + PIECE_BYTES))
    await exchange.start(status, headers)
    start += len(piece)
    while start < end:
        await exchange.write(piece)
        piece = await content.read(start, min(end, start + PIECE_BYTES))
        start += len(piece)
    await exchange.finish(piece)


def _split_path(exchange: Exchange) -> tuple[AccountId, str, str]:
    """accountId, blobId and name; a name may hold anything, "/" too."""
    raw = exchange.scope.get("raw_path")
    path = raw.decode("latin-1") if raw else exchange.path
    fields = [*path.removeprefix(PREFIX).split("/", 2), "", ""]
    account_id, blob_id = unquote(fields[0]), unquote(fields[1])
    if not is_id(account_id) or not is_id(blob_id):
        raise _not_found()
    return AccountId(account_id), blob_id, unquote(fields[2])


def _parse_wanted(exchange: Exchange, size: int, etag: str) -> ByteRange | None:
    """The range to send; None for all. Raises: HttpError 416. Source: RFC 9110 s14.2"""
    text = exchange.header(b"range")
    if not text or exchange.method != "GET" or exchange.header(b"if-range") not in ("", etag):
        return None
    try:
        return parse_range(text, size)
    except Unsatisfiable:
        headers = [(b"content-range", b"bytes */%d" % size)]
        raise HttpError(416, f"the content has {size} octets", headers=headers) from None


def _names_etag(condition: str, etag: str) -> bool:
    """Whether If-None-Match names this entity. Source: RFC 9110 s13.1.2"""
    tags = {tag.strip().removeprefix("W/") for tag in condition.split(",")}
    return "*" in tags or etag in tags


def _is_unmatched(condition: str, etag: str) -> bool:
    """Whether If-Match is given and names other entities only. Source: RFC 9110 s13.1.1"""
    tags = {tag.strip() for tag in condition.split(",")}
    return bool(condition.strip()) and tags.isdisjoint({"*", etag})


def _not_found() -> HttpError:
    return HttpError(404, "there is no such account or blob for this user")
