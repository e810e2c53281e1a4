"""Blob/upload (RFC 9404 s4.1): blobs made of text, base64 and ranges of other blobs.

Invariants: how much a call makes is known from sizes before the first octet is read; one entry is
in memory at a time; what is told as created is durable.
"""

from __future__ import annotations

import binascii
import io
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, NamedTuple

from tindra.base import limits
from tindra.base.ids import is_id
from tindra.core.access import Access, check_write
from tindra.core.arguments import check_names, take_unsigned
from tindra.core.blob_parts import BlobPlace, find_blob, load_place
from tindra.core.datatype import CallContext
from tindra.core.errors import MethodError, SetError
from tindra.core.tx import Tx, transact
from tindra.features.blob.reading import CALL_BYTES_MAX, read_pieces
from tindra.model.stored import BlobRow

DATA_SOURCES_MAX: Final = 64
"""maxDataSources of one entry: the least the standard allows; each may be a blob to read."""
CALL_SOURCES_MAX: Final = 4096
"""Data sources in one call: looking at so many takes some 40 ms."""
_SOURCE = frozenset({"data:asText", "data:asBase64", "blobId", "offset", "length"})


class _Range(NamedTuple):
    """A source that is a blob, or a part of one."""

    blob_id: str
    """As given: may be "#" and the key of another entry."""
    offset: int
    length: int | None
    """None: to its end."""


class _Entry(NamedTuple):
    """One checked entry of Blob/upload."""

    sources: list[bytes | _Range]
    media_type: str | None


async def run_upload(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    """Blob/upload. Cost: a read a source; one commit, and one more for each time an entry needs
    another of the same call.

    Raises: MethodError accountNotFound, accountReadOnly, forbidden, invalidArguments,
        requestTooLarge.
    Source: RFC 9404 s4.1
    """
    access = check_write(context.caller, arguments.get("accountId"), "triage")
    check_names(arguments, {"accountId", "create"})
    create = arguments.get("create")
    if not isinstance(create, dict) or not all(map(is_id, create)):
        raise MethodError("invalidArguments", "'create' must map creation ids to objects")
    if len(create) > limits.OBJECTS_IN_SET_MAX:
        raise MethodError("requestTooLarge", f"over {limits.OBJECTS_IN_SET_MAX} blobs")
    lists = [obj["data"] for obj in create.values() if isinstance(obj, dict) and "data" in obj]
    if sum(len(data) for data in lists if isinstance(data, list)) > CALL_SOURCES_MAX:
        raise MethodError("requestTooLarge", f"over {CALL_SOURCES_MAX} data sources")
    created, refused = await _Uploader(context, access).run(create)
    return {
        "accountId": access.account.id,
        "created": created or None,
        "notCreated": {key: error.to_object() for key, error in refused.items()} or None,
    }


class _Uploader:
    """One Blob/upload call."""

    def __init__(self, context: CallContext, access: Access) -> None:
        self._context = context
        self._services = context.services
        self._account_id = access.account.id
        self._is_partial = access.is_partial
        self._entries: dict[str, _Entry] = {}
        self._refused: dict[str, SetError] = {}
        self._sizes: dict[str, int] = {}
        """Of entries of this call."""
        self._places: dict[str, BlobPlace | None] = {}
        self._created: dict[str, dict[str, Any]] = {}
        self._pending: dict[str, BlobRow] = {}
        """Entries whose octets are staged, but not yet linked to the account."""

    async def run(
        self, create: Mapping[str, Any]
    ) -> tuple[dict[str, dict[str, Any]], dict[str, SetError]]:
        """(created, refused). Raises: MethodError requestTooLarge."""
        for key, obj in create.items():
            try:
                self._entries[key] = _check_entry(obj)
            except SetError as error:
                self._refused[key] = error
        order = self._put_in_order()
        total = 0
        for key in order:
            try:
                total += await self._measure(key)
            except SetError as error:
                self._refused[key] = error
        if total > CALL_BYTES_MAX:
            raise MethodError("requestTooLarge", f"{total} octets: over {CALL_BYTES_MAX}")
        for key in order:
            if key in self._refused:
                continue
            try:
                await self._make(key)
            except SetError as error:
                self._refused[key] = error
        await self._link()
        self._context.created_ids.update({key: obj["id"] for key, obj in self._created.items()})
        return self._created, self._refused

    def _put_in_order(self) -> list[str]:
        """The entries, each after those it is made of; what goes in a circle is refused.

        Cost: linear in the sources.
        """
        needs: dict[str, set[str]] = {}
        users: dict[str, list[str]] = {}
        for key, entry in self._entries.items():
            ranges = [source for source in entry.sources if isinstance(source, _Range)]
            needs[key] = {r.blob_id[1:] for r in ranges if self._is_reference(r.blob_id)}
            for needed in needs[key]:
                users.setdefault(needed, []).append(key)
        order = [key for key, needed in needs.items() if not needed]
        for key in order:  # grows on the way
            for user in users.get(key, ()):
                needs[user].discard(key)
                if not needs[user]:
                    order.append(user)
        for key in needs.keys() - set(order):
            self._refused[key] = _wrong("data", "it is made of itself")
        return order

    def _is_reference(self, blob_id: str) -> bool:
        return blob_id[:1] == "#" and blob_id[1:] in self._entries

    async def _measure(self, key: str) -> int:
        """Octets to be read and made for an entry, at most. Raises: SetError invalidProperties,
        blobNotFound, tooLarge.

        How many an encoded body part has is only known when all of it is decoded; they are never
        more than its code.
        """
        made = read = 0
        for source in self._entries[key].sources:
            if isinstance(source, bytes):
                made += len(source)
                continue
            size, is_exact = await self._measure_whole(source)
            if is_exact:
                made += len(_cut(range(size), source))
            else:
                rest = max(0, size - source.offset)
                made += rest if source.length is None else min(rest, source.length)
                read += size
        if made > limits.UPLOAD_BYTES_MAX:
            size = limits.UPLOAD_BYTES_MAX
            raise SetError("tooLarge", f"over {size} octets", maxSize=size)
        self._sizes[key] = made
        return made + read

    async def _measure_whole(self, source: _Range) -> tuple[int, bool]:
        """Octets of the blob that a source takes a part of, and whether that is exact."""
        if not self._is_reference(source.blob_id):
            place = await self._find(source.blob_id)
            return place.end - place.start, place.is_plain
        key = source.blob_id[1:]
        if key in self._refused:
            raise _wrong("data", f"{source.blob_id!r} was not created")
        return self._sizes[key], False

    async def _find(self, given: str) -> BlobPlace:
        blob_id = self._context.resolve(given)
        if blob_id not in self._places:
            found = await find_blob(self._services, self._account_id, blob_id)
            self._places[blob_id] = found if is_id(blob_id) else None
        place = self._places[blob_id]
        if place is None:
            raise _not_found(given)
        return place

    async def _make(self, key: str) -> None:
        """Put one entry together and make it ready to be linked."""
        made = io.BytesIO()
        for source in self._entries[key].sources:
            if isinstance(source, bytes):
                made.write(source)
                continue
            async for piece in self._read(source):
                made.write(piece)
        blobs, octets = self._services.blobs, made.getvalue()
        if self._is_partial:
            row = await blobs.put(self._account_id, octets)
        else:
            row = self._pending[key] = await blobs.stage(self._account_id, octets)
        media_type = self._entries[key].media_type
        self._created[key] = {"id": row.id, "type": media_type, "size": row.size}

    async def _read(self, source: _Range) -> AsyncIterator[bytes]:
        """Raises: SetError invalidProperties, blobNotFound."""
        if self._is_reference(source.blob_id):
            key = source.blob_id[1:]
            if key in self._refused:
                raise _wrong("data", f"{source.blob_id!r} was not created")
            if key in self._pending:
                await self._link()
            made = self._created[key]
            place = BlobPlace(made["id"], 0, made["size"], "binary")
        else:
            place = await self._find(source.blob_id)
        size, decoded = place.end - place.start, None
        if not place.is_plain:
            decoded = await load_place(self._services, self._account_id, place)
            if decoded is None:
                raise _not_found(source.blob_id)
            size = len(decoded)
        wanted = _cut(range(size), source)
        async for piece in read_pieces(self._services, self._account_id, place, wanted, decoded):
            if piece is None:
                raise _not_found(source.blob_id)
            yield piece

    async def _link(self) -> None:
        """Give the account all that is ready, in one transaction."""
        rows = list(self._pending.values())
        if not rows:
            return

        async def write(tx: Tx) -> None:
            for row in rows:
                await tx.put_blob(row)

        await transact(self._services, self._account_id, "Blob/upload", write)
        self._pending.clear()


def _check_entry(obj: Any) -> _Entry:
    """Raises: SetError invalidProperties, tooLarge. Source: RFC 9404 s4.1 (UploadObject)"""
    if not isinstance(obj, dict):
        raise SetError("invalidProperties", "an entry must be an UploadObject")
    unknown = sorted(obj.keys() - {"data", "type"})
    if unknown:
        raise SetError("invalidProperties", "an UploadObject has no such properties", unknown)
    media_type, data = obj.get("type"), obj.get("data")
    if not isinstance(media_type, str | None):
        raise _wrong("type", "must be a string or null")
    if not isinstance(data, list):
        raise _wrong("data", "must be a list of DataSourceObjects")
    if len(data) > DATA_SOURCES_MAX:
        raise SetError("tooLarge", f"over {DATA_SOURCES_MAX} data sources", ["data"])
    return _Entry([_check_source(item) for item in data], media_type)


def _check_source(item: Any) -> bytes | _Range:
    """Source: RFC 9404 s4.1 (DataSourceObject)"""
    if not isinstance(item, dict) or not item.keys() <= _SOURCE:
        raise _wrong("data", "a source has data:asText, data:asBase64, or a blobId with a range")
    given = {name: value for name, value in item.items() if value is not None}
    kinds = given.keys() & {"data:asText", "data:asBase64", "blobId"}
    if len(kinds) != 1 or not isinstance(given[next(iter(kinds))], str):
        raise _wrong("data", "a source needs one of data:asText, data:asBase64 and blobId")
    if "blobId" in kinds:
        try:
            offset = take_unsigned(given, "offset", 0) or 0
            return _Range(given["blobId"], offset, take_unsigned(given, "length"))
        except MethodError as error:
            raise _wrong("data", error.description) from None
    if given.keys() != kinds:
        raise _wrong("data", "only a blobId takes a range")
    try:
        if "data:asText" in kinds:
            return bytes(given["data:asText"], "utf-8")
        return _decode_base64(given["data:asBase64"].encode("ascii"))
    except (UnicodeEncodeError, binascii.Error):
        raise _wrong("data", "these characters stand for no octets") from None


def _decode_base64(code: bytes) -> bytes:
    """Raises: binascii.Error for anything but base64 with its padding. Source: RFC 4648 s4"""
    octets = binascii.a2b_base64(code)
    if binascii.b2a_base64(octets, newline=False) == code:
        return octets
    # The strict decoder takes five times as long as both of these.
    return binascii.a2b_base64(code, strict_mode=True)


def _cut(whole: range, source: _Range) -> range:
    """The part of `whole` that a source names. Raises: SetError invalidProperties."""
    length = len(whole) - source.offset if source.length is None else source.length
    if length < 0 or source.offset + length > len(whole):
        raise _wrong("data", f"the range ends outside of {source.blob_id[:60]!r}")
    return whole[source.offset : source.offset + length]


def _wrong(name: str, why: str) -> SetError:
    return SetError("invalidProperties", f"{name}: {why}", [name])


def _not_found(blob_id: str) -> SetError:
    return SetError("blobNotFound", "there is no such blob", ["data"], notFound=[blob_id])
