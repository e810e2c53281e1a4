"""The BlobStore port: small blobs in the database, large ones in an object store (obstore).

A blob id is the hash of the content; a link row (account, blob) is access, so a foreign id and an
unknown id look the same (docs/data.md, Keys). The object store is injected: a folder, S3, GCS
or Azure by configuration.

Invariant: when a link row is committed its octets are already durable. obstore's LocalStore does
not fsync, so a folder is written by `store.blobs.folder`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import obstore
from obstore import Bytes
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore

from tindra.base.byte_cache import ByteCache
from tindra.base.clock import Clock
from tindra.base.ids import AccountId
from tindra.base.limits import BLOB_INLINE_BYTES_MAX, MIB
from tindra.core.errors import DiskFull, Unavailable
from tindra.core.ports import Store, StoreReader, StoreTx
from tindra.model.blob import make_blob_id
from tindra.model.stored import BlobRow
from tindra.store.blobs.folder import Folder

_PREFIX_CHARS: Final = 3
"""Letters of the hash that name the folder: 1,024 folders an account keep each one small."""
FRESH_BYTES_MAX: Final = 16 * MIB
"""Octets kept of what was put lately: who uploads a message imports or sends it next."""
_FRESH_BLOB_BYTES_MAX: Final = MIB
"""A larger blob is not kept: one would drive out hundreds of messages."""
_LARGE_READ_BYTES: Final = 4 * MIB
_LARGE_READS_MAX: Final = 2
"""Reads of more octets than that at once: each holds them twice for a moment, and the requests of
one user alone could otherwise have sixteen of the largest messages under way."""


class Blobs:
    """Octets by content, per account."""

    def __init__(self, store: Store, object_store: ObjectStore, clock: Clock) -> None:
        self._store = store
        self._objects = object_store
        prefix = object_store.prefix if isinstance(object_store, LocalStore) else None
        self._folder = None if prefix is None else Folder(Path(prefix))
        self._clock = clock
        self._large_reads = asyncio.Semaphore(_LARGE_READS_MAX)
        self._fresh = ByteCache(FRESH_BYTES_MAX)
        """Linked blobs by (account, blob): content never changes, and no link is ever cut but by
        erasing the account."""

    async def put(self, account_id: AccountId, data: bytes) -> BlobRow:
        """Store and link; durable on return. The row that comes back has no data."""
        row = await self.stage(account_id, data)

        async def link(tx: StoreTx) -> None:
            await tx.put_blob(row)

        await self._store.write(account_id, "blob.put", link)
        if row.size <= _FRESH_BLOB_BYTES_MAX:
            self._fresh.put((account_id, row.id), data)
        return row._replace(data=None)

    async def stage(self, account_id: AccountId, data: bytes) -> BlobRow:
        """Make octets ready to be linked by `StoreTx.put_blob(row)` in a transaction of the caller.

        Large ones are durable on return; small ones travel inside the row. For writers of many
        messages, which so need no commit for each blob.
        """
        if len(data) <= BLOB_INLINE_BYTES_MAX:
            return BlobRow(make_blob_id(data), len(data), data, self._clock.now_ms())
        # The hash of the largest blob takes some 60 ms, which nobody else shall wait for.
        blob_id = await asyncio.to_thread(make_blob_id, data)
        row = BlobRow(blob_id, len(data), None, self._clock.now_ms())
        if await self._load_row(account_id, blob_id) is None:
            await self._put_object(_path(account_id, blob_id), data)
        return row

    async def get(
        self, account_id: AccountId, blob_id: str, start: int = 0, end: int | None = None
    ) -> bytes | None:
        """Octets [start, end) of a blob that this account holds; None for any other id.

        The range is cut to the blob's length. Raises: Unavailable when the object store fails.
        """
        fresh = self._fresh.get((account_id, blob_id))
        if fresh is not None:
            return fresh[max(start, 0) : len(fresh) if end is None else max(end, 0)]
        row = await self._load_row(account_id, blob_id)
        if row is None:
            return None
        start = max(start, 0)
        end = row.size if end is None else min(end, row.size)
        if start >= end:
            return b""
        if row.data is not None:
            return row.data[start:end]
        if end - start <= _LARGE_READ_BYTES:
            return bytes(await self._read(account_id, blob_id, start, end))
        async with self._large_reads:
            # The copy takes some 20 ms, which nobody else shall wait for.
            return await asyncio.to_thread(bytes, await self._read(account_id, blob_id, start, end))

    async def _read(self, account_id: AccountId, blob_id: str, start: int, end: int) -> Bytes:
        """Octets of an object. Raises: Unavailable."""
        path = _path(account_id, blob_id)
        try:
            return await obstore.get_range_async(self._objects, path, start=start, end=end)
        except (BaseError, OSError) as error:
            raise Unavailable(f"blob {blob_id} cannot be read: {type(error).__name__}") from error

    async def load_size(self, account_id: AccountId, blob_id: str) -> int | None:
        """Its length in octets; None for an unknown or foreign id."""
        fresh = self._fresh.get((account_id, blob_id))
        if fresh is not None:
            return len(fresh)
        row = await self._load_row(account_id, blob_id)
        return None if row is None else row.size

    async def erase_account(self, account_id: AccountId) -> None:
        """Delete all objects of an account whose rows are gone. Cost: O(objects)."""
        self._fresh = ByteCache(FRESH_BYTES_MAX)
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
            if self._folder is not None:
                await asyncio.to_thread(self._folder.write, path, data)
                return
            try:
                await obstore.put_async(self._objects, path, data, mode="create")
            except AlreadyExistsError:
                # No link row, so it is what a crash left, perhaps cut short: write it again.
                await obstore.put_async(self._objects, path, data, mode="overwrite")
        except (BaseError, OSError) as error:
            if "No space left" in str(error):  # obstore keeps the number to itself
                raise DiskFull("the disk is full") from error
            raise Unavailable(f"a blob cannot be stored: {type(error).__name__}") from error


def _path(account_id: AccountId, blob_id: str) -> str:
    digest = blob_id[1:]
    return f"{account_id}/{digest[:_PREFIX_CHARS]}/{digest}"
