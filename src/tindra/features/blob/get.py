"""Blob/get (RFC 9404 s4.2): size, data and digests of blobs, or of a range of them."""

from __future__ import annotations

import base64
import hashlib
import io
from typing import Any, Final, NamedTuple

from tindra.base import limits
from tindra.base.ids import AccountId, is_id
from tindra.core.access import check_read
from tindra.core.arguments import check_names, take_names, take_unsigned
from tindra.core.blob_parts import BlobPlace, find_blob, load_place
from tindra.core.datatype import CallContext
from tindra.core.errors import MethodError
from tindra.core.services import Services
from tindra.features.blob.reading import CALL_BYTES_MAX, read_pieces, take_blob_ids

GET_DATA_BYTES_MAX: Final = 4 * limits.MIB
"""Octets of data in one answer, which is whole in memory as JSON, six times as large if it is all
control characters; downloads are not."""
DIGESTS: Final = {"sha": "sha1", "sha-256": "sha256", "sha-512": "sha512"}
"""Name in the registry of HTTP digest algorithms, lower case -> name in hashlib."""


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

    @property
    def is_read(self) -> bool:
        """Whether octets are looked at."""
        return self.is_shown or bool(self.digests)


async def run_get(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    """Blob/get. Cost: linear in the octets selected, for an encoded body part in all of its own.

    Raises: MethodError accountNotFound, invalidArguments, requestTooLarge.
    Source: RFC 9404 s4.2
    """
    account_id = check_read(context.caller, arguments.get("accountId")).account.id
    check_names(arguments, {"accountId", "ids", "properties", "offset", "length"})
    ids = list(dict.fromkeys(map(context.resolve, take_blob_ids(arguments, "ids"))))
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
        selected = len(_select(size, wanted)) if wanted.is_read else 0
        # What is encoded must be decoded to know even its size.
        read += selected if place.is_plain else size
        shown += selected if wanted.is_shown else 0
    if read > CALL_BYTES_MAX or shown > GET_DATA_BYTES_MAX:
        raise MethodError("requestTooLarge", "so much data is got in ranges, or downloaded")
    found: list[dict[str, Any]] = []
    for id, place in places.items():
        obj = await _render(context.services, account_id, place, wanted)
        if obj is None:
            missing.append(id)
        else:
            found.append({"id": id} | obj)
    return {"accountId": account_id, "list": found, "notFound": missing}


def _take_wanted(arguments: dict[str, Any]) -> _Wanted:
    """Raises: MethodError invalidArguments."""
    names = take_names(arguments, "properties")
    names = ["data", "size"] if names is None else names
    digests = tuple(name[7:] for name in names if name.startswith("digest:"))
    known = {"id", "size", "data", "data:asText", "data:asBase64"}
    for name in names:
        if name not in known and name[7:] not in DIGESTS:
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
    size, decoded = place.end - place.start, None
    if not place.is_plain:
        decoded = await load_place(services, account_id, place)
        if decoded is None:
            return None
        size = len(decoded)
    obj: dict[str, Any] = {"size": size} if wanted.has_size else {}
    if not wanted.is_read:
        return obj
    selected = _select(size, wanted)
    shown = io.BytesIO()
    hashes = [hashlib.new(DIGESTS[name], usedforsecurity=False) for name in wanted.digests]
    async for piece in read_pieces(services, account_id, place, selected, decoded):
        if piece is None:
            return None
        for one in hashes:
            await services.offload.run(one.update, piece)
        if wanted.is_shown:
            shown.write(piece)
    if wanted.is_shown:
        obj |= _render_data(shown.getvalue(), wanted)
    for name, one in zip(wanted.digests, hashes, strict=True):
        obj[f"digest:{name}"] = base64.b64encode(one.digest()).decode()
    if wanted.offset + (wanted.length or 0) > size:
        obj["isTruncated"] = True
    return obj


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
