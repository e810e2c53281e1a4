"""Blobs as JMAP names them: whole ones, and body parts that are ranges of a message.

The only place that turns a part's blob id into octets; the server and the features ask here.
Source: RFC 8620 s6, RFC 8621 s4.1.4
"""

from __future__ import annotations

from typing import NamedTuple

from tindra.base.ids import AccountId, BlobId
from tindra.core.services import Services
from tindra.wire.jmap.blob_id import IDENTITY_ENCODINGS, parse_part_blob_id
from tindra.wire.mime.transfer import decode_range

_INLINE_DECODE_BYTES_MAX = 64 * 1024
"""Decoding more than this leaves the loop: it takes about 0.1 ms, what a hop costs."""


class BlobPlace(NamedTuple):
    """Where the octets of a blob id are."""

    blob_id: BlobId
    """A whole blob that the account holds."""
    start: int
    end: int
    """[start, end) of it."""
    encoding: str
    """What must be undone to get the content; "binary" when nothing."""

    @property
    def is_plain(self) -> bool:
        """The content is exactly these octets."""
        return self.encoding in IDENTITY_ENCODINGS


async def find_blob(services: Services, account_id: AccountId, blob_id: str) -> BlobPlace | None:
    """Where the octets of `blob_id` are; None for unknown and foreign ids. Cost: one read."""
    part = parse_part_blob_id(blob_id)
    whole = blob_id if part is None else part.blob_id
    size = await services.blobs.load_size(account_id, whole)
    if size is None or (part is not None and part.end > size):
        return None
    return BlobPlace(BlobId(blob_id), 0, size, "binary") if part is None else BlobPlace(*part)


async def load_place(services: Services, account_id: AccountId, place: BlobPlace) -> bytes | None:
    """The content at `place`; None if the blob went away meanwhile."""
    octets = await services.blobs.get(account_id, place.blob_id, place.start, place.end)
    if octets is None or place.is_plain:
        return octets
    if len(octets) <= _INLINE_DECODE_BYTES_MAX:
        return decode_range(octets, place.encoding)
    return await services.offload.run(decode_range, octets, place.encoding)


async def load_blob(services: Services, account_id: AccountId, blob_id: str) -> bytes | None:
    """The content of a whole or part blob; None for unknown and foreign ids.

    Cost: two reads, and memory for the content.
    Source: RFC 8620 s6.2
    """
    place = await find_blob(services, account_id, blob_id)
    return None if place is None else await load_place(services, account_id, place)
