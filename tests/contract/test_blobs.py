"""The BlobStore port: octets by content, access by link row."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from pathlib import Path
from typing import Any

import obstore
import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore import Bytes
from obstore.store import LocalStore

from tests.contract.stores import ACCOUNT, OTHER, FixedClock, Stores
from tindra.base.ids import is_id
from tindra.base.limits import BLOB_INLINE_BYTES_MAX
from tindra.core.errors import DiskFull, Unavailable
from tindra.core.ports import StoreTx
from tindra.model.blob import make_blob_id
from tindra.model.stored import BlobRow
from tindra.store.blobs.store import Blobs

SMALL = b"From: a@x.example\r\n\r\nhello\r\n"
LARGE = bytes(range(256)) * (BLOB_INLINE_BYTES_MAX // 256) + b"end"


@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "inline", "external"])
async def test_octets_come_back_whole_and_by_range(stores: Stores, data: bytes) -> None:
    row = await stores.blobs.put(ACCOUNT, data)
    assert (row.size, row.data) == (len(data), None)
    assert is_id(row.id)
    get = stores.blobs.get
    assert await get(ACCOUNT, row.id) == data
    assert await get(ACCOUNT, row.id, 3, 9) == data[3:9]
    assert await get(ACCOUNT, row.id, 5) == data[5:]
    assert await get(ACCOUNT, row.id, 2, 10**9) == data[2:], "the range is cut to the blob"
    assert await get(ACCOUNT, row.id, 10**9, 10**9 + 1) == b""
    assert await get(ACCOUNT, row.id, 5, 5) == b""
    assert await stores.blobs.load_size(ACCOUNT, row.id) == len(data)


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["inline", "external"])
async def test_a_foreign_blob_is_like_an_unknown_one(stores: Stores, data: bytes) -> None:
    row = await stores.blobs.put(ACCOUNT, data)
    for account_id, blob_id in ((OTHER, row.id), (ACCOUNT, "bnone"), (ACCOUNT, "../../x")):
        assert await stores.blobs.get(account_id, blob_id) is None
        assert await stores.blobs.load_size(account_id, blob_id) is None


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["inline", "external"])
async def test_equal_octets_are_one_blob_in_each_account(stores: Stores, data: bytes) -> None:
    first = await stores.blobs.put(ACCOUNT, data)
    assert await stores.blobs.put(ACCOUNT, data) == first
    elsewhere = await stores.blobs.put(OTHER, data)
    assert elsewhere.id == first.id
    assert await stores.blobs.get(OTHER, first.id) == data


async def test_the_largest_blobs_are_read_a_few_at_a_time(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = LARGE * 80
    row = await stores.blobs.put(ACCOUNT, data)
    read = obstore.get_range_async
    reading: list[int] = []
    most = 0

    async def count(*args: Any, **range: Any) -> Bytes:
        nonlocal most
        reading.append(1)
        most = max(most, len(reading))
        try:
            return await read(*args, **range)
        finally:
            reading.pop()

    monkeypatch.setattr(obstore, "get_range_async", count)
    found = await asyncio.gather(*(stores.blobs.get(ACCOUNT, row.id) for _ in range(16)))
    assert all(octets == data for octets in found)
    assert 0 < most <= 2


async def test_staged_octets_become_visible_with_their_transaction(stores: Stores) -> None:
    assert isinstance(stores.blobs, Blobs)
    rows = [await stores.blobs.stage(ACCOUNT, data) for data in (SMALL, LARGE)]
    assert await stores.blobs.get(ACCOUNT, rows[0].id) is None
    assert await stores.blobs.get(ACCOUNT, rows[1].id) is None

    async def link(tx: StoreTx) -> None:
        for row in rows:
            await tx.put_blob(row)

    await stores.write(link)
    assert await stores.blobs.get(ACCOUNT, rows[0].id) == SMALL
    assert await stores.blobs.get(ACCOUNT, rows[1].id) == LARGE


async def test_the_port_lists_blobs_of_the_account_only(stores: Stores) -> None:
    row = await stores.blobs.put(ACCOUNT, SMALL)
    found = await stores.read(lambda r: r.load_blobs([row.id, "bnone"]))
    assert found == {row.id: BlobRow(row.id, len(SMALL), SMALL, FixedClock().now_ms())}
    assert await stores.read(lambda r: r.load_blobs([row.id]), OTHER) == {}


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_an_id_is_a_name_for_the_content(one: bytes, other: bytes) -> None:
    assert (make_blob_id(one) == make_blob_id(other)) == (one == other)


def _files(stores: Stores) -> list[Path]:
    return [path for path in (stores.folder / "blobs").rglob("*") if path.is_file()]


def _restart(stores: Stores) -> Blobs:
    """The blobs as a new process finds them."""
    return Blobs(stores.store, LocalStore(stores.folder / "blobs"), FixedClock())


async def test_what_a_crash_cut_short_is_written_again(sqlite: Stores) -> None:
    assert isinstance(sqlite.blobs, Blobs)
    row = await sqlite.blobs.stage(ACCOUNT, LARGE)  # and then no link: the process died
    (path,) = _files(sqlite)
    path.write_bytes(LARGE[:10])
    await sqlite.blobs.put(ACCOUNT, LARGE)
    assert path.read_bytes() == LARGE
    assert await sqlite.blobs.get(ACCOUNT, row.id) == LARGE


async def test_a_lost_object_is_unavailable_and_not_a_crash(sqlite: Stores) -> None:
    row = await sqlite.blobs.put(ACCOUNT, LARGE)
    _files(sqlite)[0].unlink()
    with pytest.raises(Unavailable):
        await _restart(sqlite).get(ACCOUNT, row.id)


async def test_what_was_put_is_there_after_a_restart(sqlite: Stores) -> None:
    for data in (SMALL, LARGE):
        row = await sqlite.blobs.put(ACCOUNT, data)
        again = _restart(sqlite)
        assert await again.get(ACCOUNT, row.id) == data
        assert await again.load_size(ACCOUNT, row.id) == len(data)


async def test_a_blob_just_put_needs_no_reading(sqlite: Stores) -> None:
    row = await sqlite.blobs.put(ACCOUNT, LARGE)
    _files(sqlite)[0].unlink()
    assert await sqlite.blobs.get(ACCOUNT, row.id, 5, 9) == LARGE[5:9]
    assert await sqlite.blobs.get(OTHER, row.id) is None


async def test_a_write_that_fails_leaves_nothing_behind(
    sqlite: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DiskFull):
        await sqlite.blobs.put(ACCOUNT, LARGE)
    monkeypatch.undo()
    assert _files(sqlite) == []
    assert await sqlite.blobs.get(ACCOUNT, make_blob_id(LARGE)) is None


async def test_octets_are_on_disk_before_they_have_their_name(
    sqlite: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def note_replace(path: Path, target: Path) -> Path:
        steps.append("name")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    await sqlite.blobs.stage(ACCOUNT, LARGE)
    assert steps[:2] == ["file", "name"]
    assert steps[2:] == ["folder"] * 3, "its folder, and each above it up to the root"


async def test_erasing_an_account_deletes_its_objects_only(stores: Stores) -> None:
    assert isinstance(stores.blobs, Blobs)
    for account_id in (ACCOUNT, OTHER):
        await stores.blobs.put(account_id, LARGE)
    await stores.directory.delete_account(ACCOUNT)
    await stores.blobs.erase_account(ACCOUNT)
    row = await stores.blobs.put(OTHER, SMALL)
    assert await stores.blobs.get(ACCOUNT, row.id) is None
    assert await stores.blobs.get(OTHER, make_blob_id(LARGE)) == LARGE
    if stores.kind != "memory":
        assert len(_files(stores)) == 1
