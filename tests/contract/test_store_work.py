"""Outbox, timers and the mirror through the Store port."""

from __future__ import annotations

from functools import partial

from tests.contract.stores import (
    ACCOUNT,
    ARCHIVE,
    INBOX,
    NOW_MS,
    OTHER,
    Draft,
    Stores,
    make_email,
)
from tindra.base.ids import MailboxId, ModSeq
from tindra.core.ports import StoreReader, StoreTx
from tindra.model.mail import RemoteRow
from tindra.model.stored import OutboxRow, TimerRow


async def _list_mirror(reader: StoreReader) -> list[OutboxRow]:
    return await reader.list_outbox("mirror", NOW_MS, 10)


async def _put_mirror(tx: StoreTx, key: str, due_ms: int) -> None:
    await tx.put_outbox("mirror", key, b"{}", due_ms)


async def _put_timer(tx: StoreTx, key: str, due_ms: int) -> None:
    await tx.put_timer(TimerRow("snooze", key, due_ms, b"{}"))


# -- outbox ---------------------------------------------------------------------------------------
async def test_intents_come_oldest_first_and_only_when_due(stores: Stores) -> None:
    for key, due_ms in (("e2", NOW_MS), ("e1", NOW_MS), ("e3", NOW_MS + 1)):
        await stores.write(partial(_put_mirror, key=key, due_ms=due_ms))
    info = await stores.commit(lambda tx: tx.put_outbox("submission", "s1", b"{}", NOW_MS))
    assert info.topics == {"submission"}
    rows = await stores.read(_list_mirror)
    assert rows == [
        OutboxRow("mirror", "e2", b"{}", ModSeq(1), 0, NOW_MS, ""),
        OutboxRow("mirror", "e1", b"{}", ModSeq(2), 0, NOW_MS, ""),
    ]
    assert len(await stores.read(lambda r: r.list_outbox("mirror", NOW_MS + 1, 2))) == 2
    assert await stores.read(_list_mirror, OTHER) == []


async def test_intents_for_one_thing_coalesce(stores: Stores) -> None:
    await stores.write(lambda tx: tx.put_outbox("mirror", "e1", b"old", NOW_MS))
    (old,) = await stores.read(_list_mirror)
    await stores.write(lambda tx: tx.retry_outbox(old, NOW_MS, "refused"))
    await stores.write(lambda tx: tx.put_outbox("mirror", "e1", b"new", NOW_MS))
    (new,) = await stores.read(_list_mirror)
    assert (new.payload, new.tries, new.last_error) == (b"new", 0, "")


async def test_an_intent_written_again_meanwhile_is_not_finished(stores: Stores) -> None:
    await stores.write(lambda tx: tx.put_outbox("mirror", "e1", b"old", NOW_MS))
    (old,) = await stores.read(_list_mirror)
    await stores.write(lambda tx: tx.put_outbox("mirror", "e1", b"new", NOW_MS))
    assert await stores.write(lambda tx: tx.finish_outbox(old)) is False
    await stores.write(lambda tx: tx.retry_outbox(old, NOW_MS + 99, "late"))
    (new,) = await stores.read(_list_mirror)
    assert (new.payload, new.tries) == (b"new", 0), "a retry of the old one does not touch it"
    assert await stores.write(lambda tx: tx.finish_outbox(new)) is True
    assert await stores.write(lambda tx: tx.finish_outbox(new)) is False
    assert await stores.read(_list_mirror) == []


async def test_a_retry_counts_and_waits_but_stays_the_same_intent(stores: Stores) -> None:
    await stores.write(lambda tx: tx.put_outbox("mirror", "e1", b"{}", NOW_MS))
    (row,) = await stores.read(_list_mirror)
    await stores.write(lambda tx: tx.retry_outbox(row, NOW_MS + 5, "refused"))
    assert await stores.read(_list_mirror) == []
    (later,) = await stores.read(lambda r: r.list_outbox("mirror", NOW_MS + 5, 10))
    assert later == row._replace(tries=1, due_ms=NOW_MS + 5, last_error="refused")
    assert await stores.write(lambda tx: tx.finish_outbox(row)) is True


# -- timers ---------------------------------------------------------------------------------------
async def test_timers_come_earliest_first_and_move_when_set_again(stores: Stores) -> None:
    for key, due_ms in (("e1", 30), ("e2", 10), ("e1", 20)):
        info = await stores.commit(partial(_put_timer, key=key, due_ms=due_ms))
        assert info.has_timers
    rows = await stores.read(lambda r: r.list_timers(20, 10))
    assert [(row.key, row.due_ms) for row in rows] == [("e2", 10), ("e1", 20)]
    assert await stores.read(lambda r: r.list_timers(9, 10)) == []
    assert len(await stores.read(lambda r: r.list_timers(99, 1))) == 1
    await stores.write(lambda tx: tx.delete_timer("snooze", "e2"))
    await stores.write(lambda tx: tx.delete_timer("snooze", "e2"))
    assert [row.key for row in await stores.read(lambda r: r.list_timers(99, 10))] == ["e1"]


async def test_accounts_with_work_are_found(stores: Stores) -> None:
    assert await stores.store.list_due(NOW_MS, 10) == []
    await stores.write(lambda tx: tx.put_timer(TimerRow("snooze", "e1", 10, b"")))
    await stores.write(lambda tx: tx.put_timer(TimerRow("snooze", "e2", 10, b"")))
    await stores.write(lambda tx: tx.put_outbox("mirror", "e1", b"", 20), OTHER)
    assert await stores.store.list_due(9, 10) == []
    assert await stores.store.list_due(10, 10) == [ACCOUNT]
    assert await stores.store.list_due(20, 10) == [ACCOUNT, OTHER]
    assert len(await stores.store.list_due(20, 1)) == 1


async def test_the_longest_due_come_first_and_one_topic_can_be_asked_for(stores: Stores) -> None:
    await stores.write(lambda tx: tx.put_outbox("mirror", "e1", b"", 5))
    await stores.write(lambda tx: tx.put_timer(TimerRow("snooze", "e2", 30, b"")))
    await stores.write(lambda tx: tx.put_outbox("submission", "e1", b"", 10), OTHER)
    assert await stores.store.list_due(30, 10) == [ACCOUNT, OTHER]
    assert await stores.store.list_due(30, 1, "submission") == [OTHER]
    assert await stores.store.list_due(30, 10, "submission") == [OTHER, ACCOUNT]
    assert await stores.store.list_due(20, 10, "submission") == [OTHER]
    assert await stores.store.list_due(30, 10, "other") == [ACCOUNT]


# -- the mirror -----------------------------------------------------------------------------------
EMAILS = [make_email(Draft(n)) for n in range(1, 4)]


def _remote(mailbox_id: MailboxId, uid: int, at: int, *keywords: str) -> RemoteRow:
    return RemoteRow(mailbox_id, uid, EMAILS[at].id, keywords, modseq=uid * 10)


async def test_mirror_rows_are_kept_per_mailbox_and_uid(stores: Stores) -> None:
    rows = [
        _remote(INBOX, 7, 0, "$seen"),
        _remote(INBOX, 3, 1),
        _remote(ARCHIVE, 3, 0),
        _remote(ARCHIVE, 2**32 - 1, 2),
    ]
    info = await stores.commit(lambda tx: tx.put_remote(rows))
    assert info.states == {}, "devices never see the mirror"
    assert await stores.read(lambda r: r.load_remote(INBOX, None)) == [rows[1], rows[0]]
    assert await stores.read(lambda r: r.load_remote(INBOX, [7, 99])) == [rows[0]]
    assert await stores.read(lambda r: r.load_remote(INBOX, [])) == []
    assert await stores.read(lambda r: r.list_remote_uids(INBOX)) == [(3, ()), (7, ("$seen",))]
    found = await stores.read(lambda r: r.find_remote_by_emails([EMAILS[0].doc_id]))
    assert sorted(found, key=lambda row: row.uid) == [rows[2], rows[0]]
    assert await stores.read(lambda r: r.load_remote(INBOX, None), OTHER) == []


async def test_mirror_rows_are_replaced_and_forgotten(stores: Stores) -> None:
    await stores.write(lambda tx: tx.put_remote([_remote(INBOX, n, 0) for n in (1, 2, 3)]))
    moved = _remote(INBOX, 2, 1, "$flagged")
    await stores.write(lambda tx: tx.put_remote([moved]))
    await stores.write(lambda tx: tx.delete_remote(INBOX, [1, 99]))
    assert await stores.read(lambda r: r.load_remote(INBOX, None)) == [moved, _remote(INBOX, 3, 0)]
    await stores.write(lambda tx: tx.put_remote([_remote(ARCHIVE, 1, 0)]))
    await stores.write(lambda tx: tx.delete_remote_mailbox(INBOX))
    assert await stores.read(lambda r: r.load_remote(INBOX, None)) == []
    assert len(await stores.read(lambda r: r.load_remote(ARCHIVE, None))) == 1
