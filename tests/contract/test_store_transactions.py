"""The Store port: what a transaction is, and what it leaves behind when it fails."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from tests.contract.stores import ACCOUNT, OTHER, Stores
from tindra.base.ids import AccountId
from tindra.core.errors import Conflict, StoreError, Unavailable
from tindra.core.ports import StoreReader, StoreTx
from tindra.model.stored import CommitInfo


async def _put(tx: StoreTx, id: str, data: bytes = b"{}") -> None:
    await tx.put_object("Thing", id, data)


async def _ids(reader: StoreReader) -> list[str]:
    return [row.id for row in await reader.load_objects("Thing", None)]


async def test_a_transaction_reads_its_own_writes_and_returns_its_result(stores: Stores) -> None:
    async def run(tx: StoreTx) -> list[str]:
        await _put(tx, "o1")
        return await _ids(tx)

    assert await stores.write(run) == ["o1"]
    assert await stores.read(_ids) == ["o1"]


async def test_numbers_are_gap_free_and_stamp_what_was_written(stores: Stores) -> None:
    infos = [await stores.commit(partial(_put, id=f"o{n}")) for n in range(3)]
    assert [info.modseq for info in infos] == [1, 2, 3]
    assert infos[2].states == {"Thing": 3}
    rows = await stores.read(lambda r: r.load_objects("Thing", None))
    assert [(row.created_modseq, row.changed_modseq) for row in rows] == [(1, 1), (2, 2), (3, 3)]
    assert await stores.read(lambda r: r.load_states()) == {"Thing": 3}


async def test_a_failure_rolls_back_everything_and_is_raised(stores: Stores) -> None:
    await stores.write(lambda tx: _put(tx, "o1"))

    async def fail(tx: StoreTx) -> None:
        await _put(tx, "o2")
        await tx.delete_object("Thing", "o1")
        raise ZeroDivisionError("on purpose")

    with pytest.raises(ZeroDivisionError, match="on purpose"):
        await stores.write(fail)
    assert await stores.read(_ids) == ["o1"]
    info = await stores.commit(lambda tx: _put(tx, "o3"))
    assert info.modseq == 2, "a failed transaction takes no number"


async def test_a_transaction_that_writes_nothing_changes_no_state(stores: Stores) -> None:
    await stores.write(lambda tx: _put(tx, "o1"))
    info = await stores.commit(_ids)
    assert info == CommitInfo(ACCOUNT, info.modseq, {})
    assert (await stores.commit(lambda tx: _put(tx, "o2"))).modseq == 2


async def test_awaiting_anything_but_the_store_is_refused_by_name(stores: Stores) -> None:
    async def sleep(tx: StoreTx) -> None:
        await _put(tx, "o1")
        await asyncio.sleep(0)

    with pytest.raises(AssertionError, match="'snooze' awaited something outside the store"):
        await stores.store.write(ACCOUNT, "snooze", sleep)
    assert await stores.read(_ids) == []

    async def wait(reader: StoreReader) -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(AssertionError, match="outside the store"):
        await stores.read(wait)


async def test_transactions_at_once_fail_alone(stores: Stores) -> None:
    async def run(tx: StoreTx, number: int) -> int:
        await _put(tx, f"o{number:02}")
        if number % 3 == 0:
            raise KeyError(number)
        return tx.modseq

    answers = await asyncio.gather(
        *(stores.write(partial(run, number=n)) for n in range(30)), return_exceptions=True
    )
    assert [n for n, answer in enumerate(answers) if isinstance(answer, KeyError)] == list(
        range(0, 30, 3)
    )
    numbers = [answer for answer in answers if isinstance(answer, int)]
    assert sorted(numbers) == list(range(1, 21)), "every commit has a number of its own, no gaps"
    assert await stores.read(_ids) == [f"o{n:02}" for n in range(30) if n % 3]


async def test_read_modify_write_at_once_loses_nothing(stores: Stores) -> None:
    async def add_one(tx: StoreTx) -> None:
        rows = await tx.load_objects("Thing", ["counter"])
        count = int(rows[0].data) if rows else 0
        await _put(tx, "counter", b"%d" % (count + 1))

    await asyncio.gather(*(stores.write(add_one) for _ in range(100)))
    rows = await stores.read(lambda r: r.load_objects("Thing", ["counter"]))
    assert rows[0].data == b"100"


async def test_a_read_sees_one_state_however_long_it_is(stores: Stores) -> None:
    await stores.write(lambda tx: _put(tx, "o1"))
    seen = await asyncio.gather(
        stores.store.read(ACCOUNT, _ids, is_long=True),
        stores.write(lambda tx: _put(tx, "o2")),
        stores.store.read(ACCOUNT, _ids, is_long=True),
    )
    assert seen[0] in (["o1"], ["o1", "o2"])
    assert await stores.store.read(ACCOUNT, _ids, is_long=True) == ["o1", "o2"]


async def test_accounts_do_not_see_each_other(stores: Stores) -> None:
    await stores.write(lambda tx: _put(tx, "o1"))
    assert await stores.read(_ids, OTHER) == []
    assert (await stores.commit(lambda tx: _put(tx, "o2"), OTHER)).modseq == 1
    assert await stores.read(_ids) == ["o1"]


async def test_an_unknown_account_reads_as_empty_and_refuses_writes(stores: Stores) -> None:
    unknown = AccountId("a99")
    assert await stores.read(_ids, unknown) == []
    assert await stores.read(lambda r: r.load_states(), unknown) == {}
    with pytest.raises(StoreError, match="no account 'a99'"):
        await stores.write(lambda tx: _put(tx, "o1"), unknown)


async def test_a_stale_worker_is_fenced_out(stores: Stores) -> None:
    await stores.fenced_write(2, lambda tx: _put(tx, "o1"))
    with pytest.raises(Conflict):
        await stores.fenced_write(1, lambda tx: _put(tx, "o2"))
    await stores.fenced_write(2, lambda tx: _put(tx, "o3"))
    assert await stores.read(_ids) == ["o1", "o3"]


async def test_a_cancelled_caller_leaves_its_transaction_to_finish(stores: Stores) -> None:
    heard: list[CommitInfo] = []
    stores.store.on_commit = heard.append
    task = asyncio.ensure_future(stores.write(lambda tx: _put(tx, "o1")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await stores.write(lambda tx: _put(tx, "o2"))
    assert await stores.read(_ids) == ["o1", "o2"]
    assert [info.modseq for info in heard] == [1, 2], "devices hear of it all the same"


async def test_a_closed_store_is_unavailable(stores: Stores) -> None:
    await stores.store.close()
    with pytest.raises(Unavailable):
        await stores.read(_ids)
    with pytest.raises(Unavailable):
        await stores.write(lambda tx: _put(tx, "o1"))


async def test_closing_finishes_what_is_queued(stores: Stores) -> None:
    writes = [asyncio.ensure_future(stores.write(partial(_put, id=f"o{n}"))) for n in range(20)]
    await asyncio.sleep(0)
    await stores.store.close()
    await asyncio.gather(*writes)
