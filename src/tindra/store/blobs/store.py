"""The BlobStore port: small blobs in the database, large ones in an object store (obstore).

A blob id is the hash of the content; a link row (account, blob) is access, so a foreign id and an
unknown id look the same (data.md rules 6 and 11). The object store is injected: a folder, S3, GCS
or Azure by configuration.

Invariant: when a link row is committed its octets are already durable. obstore's LocalStore does
not fsync, so for a folder that is done here, the folders on the way included.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore

from tindra.base.clock import Clock
from tindra.base.ids import AccountId
from tindra.base.limits import BLOB_INLINE_BYTES_MAX
from tindra.core.errors import DiskFull, Unavailable
from tindra.core.ports import BlobRow, Store, StoreReader, StoreTx
from tindra.model.blob import make_blob_id

_PREFIX_CHARS: Final = 3
"""Letters of the hash that name the folder: 1,024 folders an account keep each one small."""


class Blobs:
    """Octets by content, per account."""

    def __init__(self, store: Store, object_store: ObjectStore, clock: Clock) -> None:
        self._store = store
        self._objects = object_store
        self._clock = clock

    async def put(self, account_id: AccountId, data: bytes) -> BlobRow:
        """Store and link; durable on return. The row that comes back has no data."""
        row = await self.stage(account_id, data)

        async def link(tx: StoreTx) -> None:
            await tx.put_blob(row)

        await self._store.write(account_id, "blob.put", link)
        return row._replace(data=None)

    async def stage(self, account_id: AccountId, data: bytes) -> BlobRow:
        """Make octets ready to be linked by `StoreTx.put_blob(row)` in a transaction of the caller.

        Large ones are durable on return; small ones travel inside the row. For writers of many
        messages, which so need no commit for each blob.
        """
        blob_id = make_blob_id(data)
        row = BlobRow(blob_id, len(data), data, self._clock.now_ms())
        if len(data) <= BLOB_INLINE_BYTES_MAX:
            return row
        if await self._load_row(account_id, blob_id) is None:
            await self._put_object(_path(account_id, blob_id), data)
        return row._replace(data=None)

    async def get(
        self, account_id: AccountId, blob_id: str, start: int = 0, end: int | None = None
    ) -> bytes | None:
        """Octets [start, end) of a blob that this account holds; None for any other id.

        The range is cut to the blob's length. Raises: Unavailable when the object store fails.
        """
        row = await self._load_row(account_id, blob_id)
        if row is None:
            return None
        start = max(start, 0)
        end = row.size if end is None else min(end, row.size)
        if start >= end:
            return b""
        if row.data is not None:
            return row.data[start:end]
        try:
            found = await obstore.get_range_async(
                self._objects, _path(account_id, blob_id), start=start, end=end
            )
        except (BaseError, OSError) as error:
            raise Unavailable(f"blob {blob_id} cannot be read: {type(error).__name__}") from error
        return bytes(found)

    async def load_size(self, account_id: AccountId, blob_id: str) -> int | None:
        """Its length in octets; None for an unknown or foreign id."""
        row = await self._load_row(account_id, blob_id)
        return None if row is None else row.size

    async def erase_account(self, account_id: AccountId) -> None:
        """Delete all objects of an account whose rows are gone. Cost: O(objects)."""
        try:
            async for page in obstore.list(self._objects, prefix=f"{account_id}/"):
                await obstore.delete_async(self._objects, [entry["path"] for entry in page])
        except (BaseError, OSError) as error:
            raise Unavailable(f"blobs cannot be erased: {type(error).__name__}") from error

    async def _load_row(self, account_id: AccountId, blob_id: str) -> BlobRow | None:
        async def load(reader: StoreReader) -> BlobRow | None:
            return (await reader.load_blobs([blob_id])).get(blob_id)

        return await self._store.read(account_id, load)

    async def _put_object(self, path: str, data: bytes) -> None:
        try:
            try:
                await obstore.put_async(self._objects, path, data, mode="create")
            except AlreadyExistsError:
                # No link row, so it is what a crash left, perhaps cut short: write it again.
                await obstore.put_async(self._objects, path, data, mode="overwrite")
            if isinstance(self._objects, LocalStore) and self._objects.prefix is not None:
                await asyncio.to_thread(_sync_file, Path(self._objects.prefix), path)
        except (BaseError, OSError) as error:
            if "No space left" in str(error):  # obstore keeps the number to itself
                raise DiskFull("the disk is full") from error
            raise Unavailable(f"a blob cannot be stored: {type(error).__name__}") from error


def _path(account_id: AccountId, blob_id: str) -> str:
    digest = blob_id[1:]
    return f"{account_id}/{digest[:_PREFIX_CHARS]}/{digest}"


def _sync_file(root: Path, path: str) -> None:
    """fsync a file and every folder from it up to `root`, each of which may be new."""
    place = root / path
    while True:
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if place == root:
            return
        place = place.parent
