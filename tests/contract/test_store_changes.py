"""list_changes: whoever folds its pages onto an old view ends up with the present one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.stores import (
    ACCOUNT,
    INBOX,
    ON_STORES,
    Draft,
    Stores,
    deliver,
    destroy,
    modify,
    open_account,
    put_mailboxes,
)
from tindra.base.ids import AccountId, MailboxId, ModSeq
from tindra.core.errors import StateTooOld
from tindra.core.ports import Cursor, StoreReader, StoreTx
from tindra.model.mail import MailboxRow

IDS = ("o1", "o2", "o3", "o4", "o5")
OPS = st.tuples(st.sampled_from(("put", "put", "delete")), st.sampled_from(IDS))
PROGRAM = st.lists(st.lists(OPS, min_size=1, max_size=4), min_size=1, max_size=10)


async def _apply(tx: StoreTx, type_name: str, op: str, id: str, version: int) -> None:
    if type_name == "Mailbox" and op == "put":
        await tx.put_mailbox(MailboxRow(MailboxId(id), f"{version}", None, None, 0, True))
    elif type_name == "Mailbox":
        await tx.delete_mailbox(MailboxId(id))
    elif op == "put":
        await tx.put_object(type_name, id, b"%d" % version)
    else:
        await tx.delete_object(type_name, id)


class Device:
    """Knows only what /changes told it, and what it then read."""

    def __init__(self, known: dict[str, int], cursor: Cursor) -> None:
        self.known = dict(known)
        self.cursor = cursor
        self.reported: set[str] = set()

    async def step(
        self, reader: StoreReader, type_name: str, limit: int, now: dict[str, int]
    ) -> bool:
        """Take one page; whether there are more. What is read is the present, as with /get."""
        page = await reader.list_changes(type_name, self.cursor, limit)
        created, updated, destroyed = page.created, page.updated, page.destroyed
        ids = [*created, *updated, *destroyed]
        assert len(ids) == len(set(ids)) <= limit, "an id is in one list, and no page is too long"
        assert not self.known.keys() & set(created), f"{created} was known before"
        assert self.known.keys() >= set(updated), f"{updated} was never heard of"
        assert page.cursor != self.cursor or not ids, "a page gets further"
        for id in (*created, *updated):
            self.known[id] = now[id]
        for id in destroyed:
            self.known.pop(id, None)
        self.reported.update(ids)
        self.cursor = page.cursor
        return page.has_more


@dataclass
class Case:
    """A program, and how devices page through it."""

    program: list[list[tuple[str, str]]]
    type_name: str
    limit: int
    late: int
    """Transactions that are written while the devices are paging."""


CASES = st.builds(
    Case,
    program=PROGRAM,
    type_name=st.sampled_from(("Thing", "Mailbox")),
    limit=st.integers(1, 4),
    late=st.integers(0, 4),
)


class Story:
    """Runs a case: the true present beside what the devices believe."""

    def __init__(self, stores: Stores, case: Case, account_id: AccountId) -> None:
        self._stores = stores
        self._case = case
        self._account_id = account_id
        self._version = 0
        self.now: dict[str, int] = {}
        self.devices = [Device({}, Cursor(ModSeq(0)))]

    async def write(self, ops: list[tuple[str, str]]) -> None:
        """One transaction; a device that knows all of it joins."""
        first, type_name = self._version, self._case.type_name

        async def run(tx: StoreTx) -> None:
            for at, (op, id) in enumerate(ops):
                await _apply(tx, type_name, op, id, first + at)

        await self._stores.commit(run, self._account_id)
        for at, (op, id) in enumerate(ops):
            if op == "put":
                self.now[id] = first + at
            else:
                self.now.pop(id, None)
        self._version += len(ops)
        states = await self._stores.read(lambda r: r.load_states(), self._account_id)
        self.devices.append(Device(self.now, Cursor(states.get(type_name, ModSeq(0)))))

    async def step(self, device: Device) -> bool:
        """One page for one device."""
        return await self._stores.read(
            lambda r: device.step(r, self._case.type_name, self._case.limit, self.now),
            self._account_id,
        )


@settings(ON_STORES, max_examples=60)
@given(case=CASES)
def test_pages_from_any_state_fold_to_the_present(
    stores: Stores, runner: asyncio.Runner, case: Case
) -> None:
    runner.run(_check_folding(stores, case))


async def _check_folding(stores: Stores, case: Case) -> None:
    story = Story(stores, case, await open_account(stores))
    for ops in case.program[case.late :]:
        await story.write(ops)
    devices = list(story.devices)
    snapshots = [dict(device.known) for device in devices]
    for ops in case.program[: case.late]:
        for device in devices:
            await story.step(device)
        await story.write(ops)
    for device in story.devices:
        while await story.step(device):
            pass
        assert device.known == story.now
    for device, snapshot in zip(devices, snapshots, strict=True):
        changed = {id for id in IDS if snapshot.get(id) != story.now.get(id)}
        assert device.reported >= changed


async def test_made_and_destroyed_since_is_left_out(stores: Stores) -> None:
    await stores.write(lambda tx: tx.put_object("Thing", "o1", b"{}"))
    await stores.write(lambda tx: tx.delete_object("Thing", "o1"))
    page = await stores.read(lambda r: r.list_changes("Thing", Cursor(ModSeq(0)), 10))
    assert page == ([], [], [], Cursor(ModSeq(2)), False)
    page = await stores.read(lambda r: r.list_changes("Thing", Cursor(ModSeq(1)), 10))
    assert page.destroyed == ["o1"]


async def test_entries_come_in_the_order_of_their_last_change(stores: Stores) -> None:
    for id in ("o3", "o1", "o2", "o3"):
        await stores.write(partial(_apply, type_name="Thing", op="put", id=id, version=0))
    page = await stores.read(lambda r: r.list_changes("Thing", Cursor(ModSeq(0)), 10))
    assert page.created == ["o1", "o2", "o3"]


async def test_a_page_can_end_inside_a_transaction(stores: Stores) -> None:
    async def put_five(tx: StoreTx) -> None:
        for id in reversed(IDS):
            await tx.put_object("Thing", id, b"{}")

    await stores.write(put_five)
    first = await stores.read(lambda r: r.list_changes("Thing", Cursor(ModSeq(0)), 2))
    assert first.created == ["o1", "o2"]
    assert (first.cursor, first.has_more) == (Cursor(ModSeq(1), "o2"), True)
    second = await stores.read(lambda r: r.list_changes("Thing", first.cursor, 10))
    assert second == (["o3", "o4", "o5"], [], [], Cursor(ModSeq(1)), False)


async def test_states_that_were_never_or_are_no_more_are_too_old(stores: Stores) -> None:
    await stores.write(lambda tx: tx.put_object("Thing", "o1", b"{}"))
    await stores.write(lambda tx: tx.delete_object("Thing", "o1"))
    with pytest.raises(StateTooOld):
        await stores.read(lambda r: r.list_changes("Thing", Cursor(ModSeq(3)), 10))
    await stores.store.trim_changes(ACCOUNT, ModSeq(1))
    page = await stores.read(lambda r: r.list_changes("Thing", Cursor(ModSeq(1)), 10))
    assert page.destroyed == ["o1"], "what is above the floor is still told"
    await stores.store.trim_changes(ACCOUNT, ModSeq(99))
    with pytest.raises(StateTooOld):
        await stores.read(lambda r: r.list_changes("Thing", Cursor(ModSeq(1)), 10))
    page = await stores.read(lambda r: r.list_changes("Thing", Cursor(ModSeq(2)), 10))
    assert page.cursor == Cursor(ModSeq(2)), "the floor is never above the present"
    await stores.store.check_invariants(ACCOUNT)


async def test_what_is_forgotten_of_one_type_makes_no_state_of_another_too_old(
    stores: Stores,
) -> None:
    await stores.write(lambda tx: tx.put_object("Quiet", "q1", b"{}"))
    for id in IDS:
        await stores.write(partial(_apply, type_name="Thing", op="put", id=id, version=0))
        await stores.write(partial(_apply, type_name="Thing", op="delete", id=id, version=0))
    await stores.store.trim_changes(ACCOUNT, ModSeq(99))
    await stores.write(lambda tx: tx.delete_object("Quiet", "q1"))
    await stores.write(lambda tx: tx.put_object("Thing", "o1", b"{}"))
    page = await stores.read(lambda r: r.list_changes("Quiet", Cursor(ModSeq(1)), 10))
    assert page.destroyed == ["q1"], "a device that was in step stays in step"
    last = ModSeq(1 + 2 * len(IDS))
    page = await stores.read(lambda r: r.list_changes("Thing", Cursor(last), 10))
    assert page.created == ["o1"]
    with pytest.raises(StateTooOld):
        await stores.read(lambda r: r.list_changes("Thing", Cursor(ModSeq(last - 1)), 10))
    await stores.store.trim_changes(ACCOUNT, ModSeq(99))
    page = await stores.read(lambda r: r.list_changes("Thing", Cursor(last), 10))
    assert page.created == ["o1"], "trimming again forgets nothing that a state needs"


async def test_emails_and_threads_have_their_own_log(stores: Stores) -> None:
    async def fill(tx: StoreTx) -> Any:
        await put_mailboxes(tx)
        return await deliver(tx, [Draft(n, thread=f"t{n}") for n in range(1, 5)])

    emails = await stores.write(fill)
    start = Cursor(ModSeq(1))
    await stores.write(lambda tx: modify(tx, emails[1], keywords=("$seen",)))
    await stores.write(lambda tx: destroy(tx, emails[0]))
    page = await stores.read(lambda r: r.list_changes("Email", start, 10))
    assert page == ([], [emails[1].id], [emails[0].id], Cursor(ModSeq(3)), False)
    page = await stores.read(lambda r: r.list_changes("Thread", start, 10))
    assert page.destroyed == ["t1"]
    page = await stores.read(lambda r: r.list_changes("Mailbox", start, 10))
    assert page.updated == [INBOX]
    first = await stores.read(lambda r: r.list_changes("Email", Cursor(ModSeq(0)), 2))
    inside = Cursor(ModSeq(1), emails[2].id)
    assert first == ([emails[1].id, emails[2].id], [], [], inside, True)
    second = await stores.read(lambda r: r.list_changes("Email", inside, 2))
    assert (second.created, second.updated) == ([emails[3].id], [emails[1].id])
    with pytest.raises(StateTooOld):
        await stores.read(lambda r: r.list_changes("Email", Cursor(ModSeq(1), "nonsense"), 2))


async def test_delivery_has_a_state_of_its_own(stores: Stores) -> None:
    async def fill(tx: StoreTx) -> Any:
        await put_mailboxes(tx)
        return await deliver(tx, [Draft(1)])

    (email,) = await stores.write(fill)
    info = await stores.commit(lambda tx: modify(tx, email, keywords=("$seen",)))
    assert "EmailDelivery" not in info.states
    states = await stores.read(lambda r: r.load_states())
    assert (states["EmailDelivery"], states["Email"]) == (1, 2)
