"""Mailboxes, Emails, Threads and their counters through the Store port."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.stores import (
    ACCOUNT,
    ARCHIVE,
    INBOX,
    MAILBOXES,
    ON_STORES,
    OTHER,
    TRASH,
    Draft,
    Stores,
    content_of,
    deliver,
    destroy,
    make_email,
    modify,
    open_account,
    put_mailboxes,
)
from tindra.base.ids import MailboxId, ModSeq, ThreadId
from tindra.core.errors import Conflict
from tindra.core.ports import StoreTx
from tindra.model.mail import MailboxCounts, MailboxRow, ThreadRow

INBOX_ONLY = {INBOX: MailboxCounts(1, 1, 1, 1)}


async def _fill(stores: Stores, *drafts: Draft) -> list[Any]:
    async def run(tx: StoreTx) -> list[Any]:
        await put_mailboxes(tx)
        return await deliver(tx, drafts) if drafts else []

    return await stores.write(run)


# -- mailboxes ------------------------------------------------------------------------------------
async def test_mailboxes_come_in_id_order_with_their_numbers(stores: Stores) -> None:
    await _fill(stores)
    await stores.write(lambda tx: tx.add_mailbox_counts({INBOX: MailboxCounts(2, 1, 1, 1)}))
    child = MailboxRow(MailboxId("mchild"), "Größe", INBOX, None, 7, False, total_emails=99)
    await stores.write(lambda tx: tx.put_mailbox(child))
    rows = await stores.read(lambda r: r.load_mailboxes())
    assert [row.id for row in rows] == [ARCHIVE, MailboxId("mchild"), INBOX, TRASH]
    inbox = rows[2]
    assert (inbox.total_emails, inbox.unread_emails) == (2, 1)
    assert (inbox.total_threads, inbox.unread_threads) == (1, 1)
    assert (inbox.created_modseq, inbox.info_modseq, inbox.changed_modseq) == (1, 1, 2)
    assert rows[1] == msgspec.structs.replace(
        child, total_emails=0, created_modseq=3, info_modseq=3, changed_modseq=3
    ), "a put never brings counters along"


async def test_changing_a_mailbox_keeps_its_counters(stores: Stores) -> None:
    await _fill(stores)
    await stores.write(lambda tx: tx.add_mailbox_counts(INBOX_ONLY))
    await stores.write(lambda tx: tx.put_mailbox(MailboxRow(INBOX, "New", None, "inbox", 0, True)))
    inbox = (await stores.read(lambda r: r.load_mailboxes()))[1]
    assert (inbox.name, inbox.total_emails, inbox.info_modseq) == ("New", 1, 3)


async def test_a_counter_below_zero_is_a_bug(stores: Stores) -> None:
    await _fill(stores)
    with pytest.raises(AssertionError, match="negative"):
        await stores.write(lambda tx: tx.add_mailbox_counts({INBOX: MailboxCounts(0, -1, 0, 0)}))
    with pytest.raises(AssertionError, match="does not exist"):
        await stores.write(
            lambda tx: tx.add_mailbox_counts({MailboxId("m99"): MailboxCounts(1, 0, 0, 0)})
        )


async def test_counting_nothing_changes_nothing(stores: Stores) -> None:
    await _fill(stores)
    info = await stores.commit(lambda tx: tx.add_mailbox_counts({INBOX: MailboxCounts()}))
    assert info.states == {}


async def test_only_an_empty_mailbox_can_go(stores: Stores) -> None:
    await _fill(stores, Draft(1))
    with pytest.raises(AssertionError, match="still has Emails"):
        await stores.write(lambda tx: tx.delete_mailbox(INBOX))
    info = await stores.commit(lambda tx: tx.delete_mailbox(ARCHIVE))
    assert info.states == {"Mailbox": 2}
    assert len(await stores.read(lambda r: r.load_mailboxes())) == 2
    await stores.store.check_invariants(ACCOUNT)


# -- emails ---------------------------------------------------------------------------------------
async def test_emails_come_back_as_they_were_put(stores: Stores) -> None:
    more = {"has_attachment": True, "subject_key": "ünïcødé \N{PARTY POPPER}", "size": 2**40}
    emails = await _fill(
        stores, Draft(1, keywords=("$seen", "a_b"), mailbox_ids=(TRASH, INBOX), more=more), Draft(2)
    )
    ids = [email.doc_id for email in emails]
    found = await stores.read(lambda r: r.load_emails([*ids, 7]))
    stamped = [
        msgspec.structs.replace(email, created_modseq=ModSeq(1), changed_modseq=ModSeq(1))
        for email in emails
    ]
    assert sorted(found, key=lambda email: email.doc_id) == stamped
    contents = await stores.read(lambda r: r.load_contents([*ids, 7]))
    assert contents == {email.doc_id: content_of(email) for email in emails}
    assert await stores.read(lambda r: r.load_emails([])) == []
    assert await stores.read(lambda r: r.load_contents([])) == {}
    assert await stores.read(lambda r: r.load_emails(ids), OTHER) == []


async def test_emails_are_found_by_their_blob(stores: Stores) -> None:
    emails = await _fill(stores, Draft(1), Draft(2))
    wanted = ["b1", "b2", "b3", "no\0such", "\ud800"]
    found = await stores.read(lambda r: r.find_emails_by_blob(wanted))
    assert found == {"b1": emails[0].doc_id, "b2": emails[1].doc_id}
    assert await stores.read(lambda r: r.find_emails_by_blob(["b1"]), OTHER) == {}


async def test_one_content_is_one_email(stores: Stores) -> None:
    await _fill(stores, Draft(1))
    twin = make_email(Draft(2, more={"blob_id": "b1"}))
    with pytest.raises(Conflict):
        await stores.write(lambda tx: tx.insert_emails([(twin, content_of(twin))]))
    await stores.store.check_invariants(ACCOUNT)


async def test_only_what_varies_is_updated(stores: Stores) -> None:
    (before,) = await _fill(stores, Draft(1))
    await stores.write(
        lambda tx: modify(tx, before, keywords=("$flagged", "$seen"), mailbox_ids=(ARCHIVE, INBOX))
    )
    (after,) = await stores.read(lambda r: r.load_emails([before.doc_id]))
    assert after == msgspec.structs.replace(
        before,
        keywords=("$flagged", "$seen"),
        mailbox_ids=(ARCHIVE, INBOX),
        created_modseq=ModSeq(1),
        changed_modseq=ModSeq(2),
    )
    await stores.store.check_invariants(ACCOUNT)


async def test_changing_or_destroying_what_is_not_there_is_a_bug(stores: Stores) -> None:
    await _fill(stores)
    ghost = make_email(Draft(9))
    with pytest.raises(AssertionError, match="does not exist"):
        await stores.write(lambda tx: tx.update_emails([(ghost, ghost)]))
    with pytest.raises(AssertionError, match="does not exist"):
        await stores.write(lambda tx: tx.delete_emails([ghost]))


async def test_destroyed_emails_leave_nothing_but_a_tombstone(stores: Stores) -> None:
    emails = await _fill(stores, Draft(1), Draft(2))
    await stores.write(lambda tx: destroy(tx, emails[0]))
    ids = [email.doc_id for email in emails]
    assert [e.doc_id for e in await stores.read(lambda r: r.load_emails(ids))] == ids[1:]
    assert list(await stores.read(lambda r: r.load_contents(ids))) == ids[1:]
    assert await stores.read(lambda r: r.find_emails_by_blob(["b1"])) == {}
    await stores.store.check_invariants(ACCOUNT)


async def test_numbers_for_documents_are_never_given_twice(stores: Stores) -> None:
    first = await stores.write(lambda tx: tx.reserve_doc_counters(3))
    second = await stores.write(lambda tx: tx.reserve_doc_counters(1))
    third = await stores.write(lambda tx: tx.reserve_doc_counters(1))
    assert second >= first + 3
    assert third >= second + 1


# -- threads --------------------------------------------------------------------------------------
def _thread(id: str, latest_ms: int, subject_key: str = "s") -> ThreadRow:
    email = make_email(Draft(1))
    return ThreadRow(ThreadId(id), (email.id,), subject_key, ("a@x.example", "b"), latest_ms)


async def test_threads_are_found_by_id_reference_and_subject(stores: Stores) -> None:
    rows = [_thread(f"t{n:02}", latest_ms=n) for n in range(30)]

    async def run(tx: StoreTx) -> None:
        await tx.put_threads([*rows, _thread("tnone", 5, subject_key="")])
        await tx.put_thread_references(ThreadId("t02"), ["r1", "r2", "r1"])
        await tx.put_thread_references(ThreadId("t01"), ["r2"])
        await tx.put_thread_references(ThreadId("t01"), ["r2"])

    await stores.write(run)
    found = await stores.read(lambda r: r.load_threads(["t03", "t99"]))
    stamp = {"created_modseq": ModSeq(1), "changed_modseq": ModSeq(1)}
    assert found == [msgspec.structs.replace(rows[3], **stamp)]
    refs = await stores.read(lambda r: r.find_threads_by_reference(["r1", "r2", "r3"]))
    assert refs == {"r1": ["t02"], "r2": ["t01", "t02"]}
    robot = [_thread(f"u{n:02}", latest_ms=n, subject_key="") for n in range(30)]

    async def run_robot(tx: StoreTx) -> None:
        await tx.put_threads(robot)
        for row in robot:
            await tx.put_thread_references(row.id, ["same"])

    await stores.write(run_robot)
    refs = await stores.read(lambda r: r.find_threads_by_reference(["same", "r1", "same"]))
    assert refs == {"r1": ["t02"], "same": [row.id for row in robot[-20:]]}
    by_subject = await stores.read(lambda r: r.find_threads_by_subject("s", 5))
    assert [thread.latest_ms for thread in by_subject] == list(range(29, 9, -1))
    assert await stores.read(lambda r: r.find_threads_by_subject("", 0)) == []
    assert await stores.read(lambda r: r.find_threads_by_subject("other", 0)) == []


async def test_an_empty_thread_is_destroyed_with_its_references(stores: Stores) -> None:
    row = _thread("t1", 1)

    async def run(tx: StoreTx) -> None:
        await tx.put_threads([row])
        await tx.put_thread_references(row.id, ["r1"])

    await stores.write(run)
    gone = msgspec.structs.replace(row, email_ids=())
    await stores.write(lambda tx: tx.put_threads([gone]))
    assert await stores.read(lambda r: r.load_threads(["t1"])) == []
    assert await stores.read(lambda r: r.find_threads_by_reference(["r1"])) == {}
    info = await stores.commit(lambda tx: tx.put_threads([gone]))
    assert info.states == {}, "destroying it twice is nothing"


# -- everything together --------------------------------------------------------------------------
KEYWORDS = st.lists(st.sampled_from(("$seen", "$draft", "$flagged")), max_size=3)
PLACES = st.lists(st.sampled_from(MAILBOXES), min_size=1, max_size=3)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("deliver", "mark", "move", "destroy")),
        st.integers(0, 50),
        st.sampled_from(("t1", "t2", "t3")),
        PLACES,
        KEYWORDS,
    ),
    max_size=20,
)


@settings(ON_STORES, max_examples=40)
@given(steps=STEPS)
def test_invariants_hold_after_any_program(
    stores: Stores, runner: asyncio.Runner, steps: list[Any]
) -> None:
    runner.run(_check_program(stores, steps))


async def _check_program(stores: Stores, steps: list[Any]) -> None:
    account = await open_account(stores)
    await stores.write(put_mailboxes, account)
    alive: list[Any] = []
    for number, (op, pick, thread, places, keywords) in enumerate(steps):
        if op == "deliver" or not alive:
            draft = Draft(number, thread, tuple(places), tuple(keywords), received_s=pick)
            alive += await stores.write(partial(deliver, drafts=[draft]), account)
            continue
        email = alive.pop(pick % len(alive))
        if op == "destroy":
            await stores.write(partial(destroy, email=email), account)
            continue
        changes: dict[str, Any] = {
            "mark": {"keywords": tuple(sorted(set(keywords)))},
            "move": {"mailbox_ids": tuple(sorted(set(places)))},
        }[op]
        alive.append(await stores.write(partial(modify, before=email, **changes), account))
    await stores.store.check_invariants(account)


# -- the checks themselves ------------------------------------------------------------------------
async def _break_counter(tx: StoreTx) -> None:
    await tx.add_mailbox_counts({INBOX: MailboxCounts(1, 0, 0, 0)})


async def _break_thread(tx: StoreTx) -> None:
    await tx.put_threads([_thread("t7", 1)])


async def _break_blob(tx: StoreTx) -> None:
    email = make_email(Draft(5, thread="t1"))
    await tx.insert_emails([(email, content_of(email))])


async def _break_order(tx: StoreTx) -> None:
    await deliver(tx, [Draft(6, more={"received_ms": 5})])


async def _break_place(tx: StoreTx) -> None:
    await deliver(tx, [Draft(6, mailbox_ids=(INBOX,))])
    (email,) = await tx.load_emails([make_email(Draft(6)).doc_id])
    gone = msgspec.structs.replace(email, mailbox_ids=(MailboxId("m99"),))
    await tx.update_emails([(email, gone)])


@pytest.mark.parametrize(
    "damage", [_break_counter, _break_thread, _break_blob, _break_order, _break_place]
)
async def test_the_invariant_check_finds_damage(stores: Stores, damage: Any) -> None:
    await _fill(stores, Draft(1))
    await stores.store.check_invariants(ACCOUNT)
    await stores.write(damage)
    with pytest.raises(AssertionError):
        await stores.store.check_invariants(ACCOUNT)
