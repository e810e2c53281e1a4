"""Blobs inside of API requests: made, read, looked up and copied without leaving JMAP.

Capability `urn:ietf:params:jmap:blob` (docs/protocol/blob.md); Blob/copy belongs to the core. A
blob id of a body part works wherever one of a whole blob does, and who may download may read here:
a foreign id answers like an unknown one.
Invariants: no call reads or makes more than CALL_BYTES_MAX octets, and that is known from sizes
before the first octet is read; one entry is in memory at a time; what is told as created is
durable.
Source: RFC 9404, RFC 8620 s6.3
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, NamedTuple

from tindra.base import limits
from tindra.base.ids import AccountId, is_id
from tindra.core.access import Access, check_read, check_write
from tindra.core.arguments import check_names, take_ids, take_names, take_unsigned
from tindra.core.blob_parts import BlobPlace, find_blob, load_place
from tindra.core.datatype import CORE, CallContext, Capability, Feature, Method
from tindra.core.errors import MethodError, SetError
from tindra.core.ports import StoreReader
from tindra.core.services import Services
from tindra.core.tx import Tx, transact
from tindra.model.stored import BlobRow
from tindra.wire.jmap.blob_id import parse_part_blob_id

BLOB: Final = "urn:ietf:params:jmap:blob"
DATA_SOURCES_MAX: Final = 64
"""maxDataSources of one entry: the least the standard allows; each may be a blob to read."""
CALL_BYTES_MAX: Final = 2 * limits.UPLOAD_BYTES_MAX
"""Octets one call may read from blobs, or make: two of the largest blobs. Without it a small
request could have the server copy terabytes."""
GET_DATA_BYTES_MAX: Final = 8 * limits.MIB
"""Octets of data in one Blob/get answer, which is whole in memory as JSON; downloads are not."""
LOOKUP_PAIRS_MAX: Final = 10_000
"""Ids in one Blob/lookup answer: an Email may be in a hundred Mailboxes."""
PIECE_BYTES: Final = limits.MIB
"""How much of a blob is hashed at a time."""
TYPES: Final = ("Mailbox", "Thread", "Email")
"""What Blob/lookup knows of. Source: RFC 9404 s3.1 (supportedTypeNames)"""
_DIGESTS: Final = {"sha": "sha1", "sha-256": "sha256", "sha-512": "sha512"}
"""Name in the registry of HTTP digest algorithms, lower case -> name in hashlib."""
_SOURCE = frozenset({"data:asText", "data:asBase64", "blobId", "offset", "length"})


# -- Blob/upload -----------------------------------------------------------------------------------
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
        """The entries, each after those it is made of; what goes in a circle is refused."""
        waiting = {
            key: {
                source.blob_id[1:]
                for source in entry.sources
                if isinstance(source, _Range) and self._is_reference(source.blob_id)
            }
            for key, entry in self._entries.items()
        }
        order: list[str] = []
        while waiting:
            ready = [key for key, needs in waiting.items() if needs.isdisjoint(waiting)]
            if not ready:
                text = "it is made of itself"
                self._refused |= {key: _wrong("data", text) for key in waiting}
                break
            for key in ready:
                del waiting[key]
            order += ready
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
        pieces = [
            source if isinstance(source, bytes) else await self._read(source)
            for source in self._entries[key].sources
        ]
        blobs, octets = self._services.blobs, b"".join(pieces)
        if self._is_partial:
            row = await blobs.put(self._account_id, octets)
        else:
            row = self._pending[key] = await blobs.stage(self._account_id, octets)
        media_type = self._entries[key].media_type
        self._created[key] = {"id": row.id, "type": media_type, "size": row.size}

    async def _read(self, source: _Range) -> bytes:
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
        if place.is_plain:
            wanted = _cut(range(place.start, place.end), source)
            octets = await self._services.blobs.get(
                self._account_id, place.blob_id, wanted.start, wanted.stop
            )
        else:
            decoded = await load_place(self._services, self._account_id, place)
            wanted = _cut(range(len(decoded or b"")), source)
            octets = None if decoded is None else decoded[wanted.start : wanted.stop]
        if octets is None:
            raise _not_found(source.blob_id)
        return octets

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
        return base64.b64decode(given["data:asBase64"].encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise _wrong("data", "these characters stand for no octets") from None


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


# -- Blob/get --------------------------------------------------------------------------------------
class _Wanted(NamedTuple):
    """What a Blob/get asks of each blob."""

    has_size: bool
    has_text: bool
    has_base64: bool
    has_data: bool
    """Text where it is text, else base64."""
    digests: tuple[str, ...]
    offset: int
    length: int | None

    @property
    def is_shown(self) -> bool:
        """Whether octets go into the answer."""
        return self.has_text or self.has_base64 or self.has_data


async def run_get(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    """Blob/get. Cost: linear in the octets selected, for an encoded body part in all of its own.

    Raises: MethodError accountNotFound, invalidArguments, requestTooLarge.
    Source: RFC 9404 s4.2
    """
    account_id = check_read(context.caller, arguments.get("accountId")).account.id
    check_names(arguments, {"accountId", "ids", "properties", "offset", "length"})
    ids = list(dict.fromkeys(map(context.resolve, _take_ids(arguments, "ids"))))
    wanted = _take_wanted(arguments)
    places: dict[str, BlobPlace] = {}
    missing: list[str] = []
    read, shown = 0, 0
    for id in ids:
        place = await find_blob(context.services, account_id, id) if is_id(id) else None
        if place is None:
            missing.append(id)
            continue
        places[id] = place
        size = place.end - place.start
        selected = len(_select(size, wanted))
        read += selected if place.is_plain else size
        shown += selected if wanted.is_shown else 0
    is_reading = wanted.is_shown or bool(wanted.digests)
    if (is_reading and read > CALL_BYTES_MAX) or shown > GET_DATA_BYTES_MAX:
        raise MethodError("requestTooLarge", "so much data is got in ranges, or downloaded")
    found: list[dict[str, Any]] = []
    for id, place in places.items():
        obj = await _render(context.services, account_id, place, wanted)
        if obj is None:
            missing.append(id)
        else:
            found.append({"id": id} | obj)
    return {"accountId": account_id, "list": found, "notFound": missing}


def _take_ids(arguments: dict[str, Any], name: str) -> list[str]:
    """Raises: MethodError invalidArguments, requestTooLarge."""
    ids = take_ids(arguments, name, is_reference=True)
    if ids is None:
        raise MethodError("invalidArguments", f"{name!r} must be given")
    if len(ids) > limits.OBJECTS_IN_GET_MAX:
        raise MethodError("requestTooLarge", f"over {limits.OBJECTS_IN_GET_MAX} blobs")
    return ids


def _take_wanted(arguments: dict[str, Any]) -> _Wanted:
    """Raises: MethodError invalidArguments."""
    names = take_names(arguments, "properties")
    names = ["data", "size"] if names is None else names
    digests = tuple(name[7:] for name in names if name.startswith("digest:"))
    known = {"id", "size", "data", "data:asText", "data:asBase64"}
    for name in names:
        if name not in known and name[7:] not in _DIGESTS:
            raise MethodError("invalidArguments", f"a blob has no property {name[:60]!r}")
    return _Wanted(
        has_size="size" in names,
        has_text="data:asText" in names,
        has_base64="data:asBase64" in names,
        has_data="data" in names,
        digests=digests,
        offset=take_unsigned(arguments, "offset", 0) or 0,
        length=take_unsigned(arguments, "length"),
    )


def _select(size: int, wanted: _Wanted) -> range:
    """The octets asked for, as far as the blob has them."""
    whole = range(size)
    if wanted.length is None:
        return whole[wanted.offset :]
    return whole[wanted.offset : wanted.offset + wanted.length]


async def _render(
    services: Services, account_id: AccountId, place: BlobPlace, wanted: _Wanted
) -> dict[str, Any] | None:
    """The properties asked for; None if the blob went away meanwhile."""
    size = place.end - place.start
    octets: bytes | None = None
    if not place.is_plain:
        octets = await load_place(services, account_id, place)
        if octets is None:
            return None
        size = len(octets)
    selected = _select(size, wanted)
    obj: dict[str, Any] = {"size": size} if wanted.has_size else {}
    if octets is not None:
        octets = octets[selected.start : selected.stop]
    elif wanted.is_shown:
        start, end = place.start + selected.start, place.start + selected.stop
        octets = await services.blobs.get(account_id, place.blob_id, start, end)
        if octets is None:
            return None
    if wanted.is_shown and octets is not None:
        obj |= _render_data(octets, wanted)
    if wanted.digests:
        hashes = [hashlib.new(_DIGESTS[name], usedforsecurity=False) for name in wanted.digests]
        async for piece in _read_pieces(services, account_id, place, selected, octets):
            if piece is None:
                return None
            for one in hashes:
                await services.offload.run(one.update, piece)
        for name, one in zip(wanted.digests, hashes, strict=True):
            obj[f"digest:{name}"] = base64.b64encode(one.digest()).decode()
    asked = wanted.offset + (wanted.length or 0)
    # Without octets nothing was cut short.
    if (wanted.is_shown or wanted.digests) and asked > size:
        obj["isTruncated"] = True
    return obj


async def _read_pieces(
    services: Services,
    account_id: AccountId,
    place: BlobPlace,
    selected: range,
    octets: bytes | None,
) -> AsyncIterator[bytes | None]:
    """The selected octets one after the other; None if they went away."""
    if octets is not None:
        yield octets
        return
    for start in range(selected.start, selected.stop, PIECE_BYTES):
        end = min(start + PIECE_BYTES, selected.stop)
        yield await services.blobs.get(
            account_id, place.blob_id, place.start + start, place.start + end
        )


def _render_data(octets: bytes, wanted: _Wanted) -> dict[str, Any]:
    """Source: RFC 9404 s4.2"""
    obj: dict[str, Any] = {}
    text: str | None = None
    if wanted.has_text or wanted.has_data:
        try:
            text = octets.decode("utf-8")
        except UnicodeDecodeError:
            obj["isEncodingProblem"] = True
        if wanted.has_text or text is not None:
            obj["data:asText"] = text
    if wanted.has_base64 or (wanted.has_data and text is None):
        obj["data:asBase64"] = base64.b64encode(octets).decode()
    return obj


# -- Blob/lookup -----------------------------------------------------------------------------------
async def run_lookup(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    """Blob/lookup: which Emails, and which Threads and Mailboxes through them, hold a blob.

    A body part is held where its message is. An unknown or foreign blob is held nowhere, like one
    that is only uploaded. Cost: two reads.
    Raises: MethodError accountNotFound, invalidArguments, requestTooLarge, unknownDataType.
    Source: RFC 9404 s4.3
    """
    account_id = check_read(context.caller, arguments.get("accountId")).account.id
    check_names(arguments, {"accountId", "typeNames", "ids"})
    names = take_names(arguments, "typeNames")
    if names is None:
        raise MethodError("invalidArguments", "'typeNames' must be given")
    for name in names:
        datatype = context.registry.datatypes.get(name) if name in TYPES else None
        if datatype is None or datatype.capability not in context.using:
            text = f"{name[:60]!r} is not looked up, or its capability is not in 'using'"
            raise MethodError("unknownDataType", text)
    ids = list(dict.fromkeys(map(context.resolve, _take_ids(arguments, "ids"))))
    messages = {id: part.blob_id if (part := parse_part_blob_id(id)) else id for id in ids}

    async def read(reader: StoreReader) -> dict[str, dict[str, list[str]]]:
        docs = await reader.find_emails_by_blob(list(dict.fromkeys(messages.values())))
        rows = {row.doc_id: row for row in await reader.load_emails(list(docs.values()))}
        return {
            blob_id: {
                "Mailbox": sorted(map(str, rows[doc].mailbox_ids)),
                "Thread": [str(rows[doc].thread_id)],
                "Email": [str(rows[doc].id)],
            }
            for blob_id, doc in docs.items()
            if doc in rows
        }

    held = await context.services.store.read(account_id, read)
    found = []
    count = 0
    for id in ids:
        is_there = messages[id] == id or await find_blob(context.services, account_id, id)
        places = held.get(messages[id], {}) if is_there else {}
        matched = {name: places.get(name, []) for name in names}
        count += sum(map(len, matched.values()))
        if count > LOOKUP_PAIRS_MAX:
            raise MethodError("requestTooLarge", f"over {LOOKUP_PAIRS_MAX} ids to tell")
        found.append({"id": id, "matchedIds": matched})
    return {"accountId": account_id, "list": found, "notFound": []}


# -- Blob/copy -------------------------------------------------------------------------------------
async def run_copy(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    """Blob/copy. Cost: linear in the octets, one after the other; one commit in all.

    Raises: MethodError accountNotFound, accountReadOnly, forbidden, fromAccountNotFound,
        invalidArguments, requestTooLarge.
    Source: RFC 8620 s6.3
    """
    access = check_write(context.caller, arguments.get("accountId"), "triage")
    given_from = arguments.get("fromAccountId")
    if isinstance(given_from, str) and not context.caller.may_read(AccountId(given_from)):
        raise MethodError("fromAccountNotFound", "there is no such account for this user")
    account_id, from_id = access.account.id, check_read(context.caller, given_from).account.id
    check_names(arguments, {"accountId", "fromAccountId", "blobIds"})
    services = context.services
    store = services.blobs.put if access.is_partial else services.blobs.stage
    places: dict[str, BlobPlace | None] = {}
    for given in _take_ids(arguments, "blobIds"):
        blob_id = context.resolve(given)
        places[given] = await find_blob(services, from_id, blob_id) if is_id(blob_id) else None
    total = sum(place.end - place.start for place in places.values() if place is not None)
    if total > CALL_BYTES_MAX:
        raise MethodError("requestTooLarge", f"{total} octets: over {CALL_BYTES_MAX}")
    rows: dict[str, BlobRow] = {}
    refused: dict[str, SetError] = {}
    for given, place in places.items():
        octets = None if place is None else await load_place(services, from_id, place)
        if octets is None:
            refused[given] = SetError("notFound", "there is no such blob")
        else:
            rows[given] = await store(account_id, octets)

    async def write(tx: Tx) -> None:
        for row in rows.values():
            await tx.put_blob(row)

    if rows and not access.is_partial:
        await transact(services, account_id, "Blob/copy", write)
    return {
        "fromAccountId": from_id,
        "accountId": account_id,
        "copied": {given: row.id for given, row in rows.items()} or None,
        "notCopied": {given: error.to_object() for given, error in refused.items()} or None,
    }


BLOB_FEATURE = Feature(
    name="blob",
    capabilities=(
        Capability(
            BLOB,
            supports_parts=True,
            account={
                "maxSizeBlobSet": limits.UPLOAD_BYTES_MAX,
                "maxDataSources": DATA_SOURCES_MAX,
                "supportedTypeNames": TYPES,
                "supportedDigestAlgorithms": tuple(_DIGESTS),
            },
        ),
    ),
    methods=(
        Method("Blob/upload", BLOB, run_upload, supports_parts=True),
        Method("Blob/get", BLOB, run_get, supports_parts=True),
        Method("Blob/lookup", BLOB, run_lookup, supports_parts=True),
        Method("Blob/copy", CORE, run_copy, supports_parts=True),
    ),
)
