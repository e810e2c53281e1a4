"""What the methods of blobs share: how much one call may read, and reading it piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from tindra.base import limits
from tindra.base.ids import AccountId
from tindra.core.arguments import take_ids
from tindra.core.blob_parts import BlobPlace
from tindra.core.errors import MethodError
from tindra.core.services import Services

CALL_BYTES_MAX: Final = 2 * limits.UPLOAD_BYTES_MAX
"""Octets one call may read from blobs, or make: two of the largest blobs. Without it a small
request could have the server copy terabytes."""
PIECE_BYTES: Final = limits.MIB
"""How much of a blob is read at a time."""


def take_blob_ids(arguments: dict[str, Any], name: str) -> list[str]:
    """Raises: MethodError invalidArguments, requestTooLarge."""
    ids = take_ids(arguments, name, is_reference=True)
    if ids is None:
        raise MethodError("invalidArguments", f"{name!r} must be given")
    if len(ids) > limits.OBJECTS_IN_GET_MAX:
        raise MethodError("requestTooLarge", f"over {limits.OBJECTS_IN_GET_MAX} blobs")
    return ids


async def read_pieces(
    services: Services,
    account_id: AccountId,
    place: BlobPlace,
    selected: range,
    decoded: bytes | None,
) -> AsyncIterator[bytes | None]:
    """The selected octets one after the other; None if they went away.

    Args:
        decoded: all of the content, where it had to be decoded.
    """
    if decoded is not None:
        yield decoded[selected.start : selected.stop]
        return
    for start in range(selected.start, selected.stop, PIECE_BYTES):
        end = min(start + PIECE_BYTES, selected.stop)
        yield await services.blobs.get(
            account_id, place.blob_id, place.start + start, place.start + end
        )
