"""A mirror killed between any two effects, and started again: the same end, nothing twice."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.sync.crash import CrashingProvider, CrashPlan, add_points
from tests.sync.harness import FAST, Harness, make_mail, open_harness
from tindra.app.demo.faults import Faults

PACE = msgspec.structs.replace(FAST, poll_ms=100, ghost_ms=100)
POINTS_MAX = 400
SERVERS: dict[str, dict[str, Any]] = {
    "a modern server": {},
    "a server without MOVE and UIDPLUS": {"no_move": True, "no_uidplus": True},
    "a server with nothing": {
        "no_move": True, "no_uidplus": True, "no_condstore": True, "no_enable": True,
    },
}  # fmt: skip


def count_all(h: Harness) -> Counter[tuple[str, bytes, tuple[str, ...]]]:
    """Everything at the provider, twins and all."""
    return Counter(
        (name, message.raw, tuple(sorted(message.flags)))
        for name, folder in h.demo.store.folders.items()
        for message in folder.messages.values()
    )


async def act(h: Harness) -> None:
    """Both sides do something of every kind, unseen by each other."""
    await h.update(await h.id_of(1), **{"keywords__$flagged": True})
    await h.move(await h.id_of(2), "Archive")
    await h.move(await h.id_of(3), "INBOX", "Archive")
    await h.destroy(await h.id_of(4))
    await h.import_mail(50, "Drafts", "$draft")
    await h.world.add_mailbox("Made")
    await h.move(await h.id_of(5), "Made")
    mailboxes = await h.find_mailboxes()
    await h.world.call("Mailbox/set", update={mailboxes["Old"]: {"name": "New"}})
    await h.world.call("Mailbox/set", destroy=[mailboxes["Empty"]])
    h.folder().set_flags(h.uid_of(6), frozenset({"\\Seen"}))
    h.demo.store.move(h.folder(), [h.uid_of(7)], h.folder("Archive"))
    h.folder().expunge([h.uid_of(8)])
    h.deliver(60)
    h.demo.store.create("Theirs")
    h.deliver(61, "Theirs")


async def run_story(folder: Path, faults: Faults, at: int | None) -> tuple[Counter, str | None]:
    """The story with a crash at one point; what the provider has in the end, and the point."""
    plan = CrashPlan()
    async with open_harness(
        "memory", folder, pace=PACE, faults=faults, wrap=partial(add_points, plan=plan)
    ) as h:
        h.imap = CrashingProvider(h.imap, plan)
        for number in range(10):
            h.deliver(number)
        for name in ("Old", "Empty"):
            h.demo.store.create(name)
        h.deliver(40, "Old")
        await h.connect()
        await h.settle()
        await h.stop()
        ids = await h.find_ids()
        await act(h)
        point = None
        if at is not None:
            plan.arm(at, h.kill)
            h.start()
            await h.wait_for_end(plan.has_struck)
            point = plan.last if plan.has_struck() else None
            plan.disarm()
            await h.stop()
        h.start()
        await h.settle()
        after = await h.find_ids()
        for blob in ids.keys() & after.keys():
            assert after[blob] == ids[blob], f"an id changed after a crash {point}"
        return count_all(h), point


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVERS)
async def test_a_crash_at_any_point_ends_the_same(tmp_path: Path, name: str) -> None:
    faults = Faults(**SERVERS[name])
    expected, _ = await run_story(tmp_path, faults, None)
    assert max(expected.values()) == 1
    for at in range(POINTS_MAX):
        found, point = await run_story(tmp_path, faults, at)
        assert found == expected, f"crash {point}: {found - expected} and not {expected - found}"
        if point is None:
            break
    assert at > 40


@pytest.mark.parametrize("name", SERVERS)
async def test_a_crash_at_some_points_ends_the_same(tmp_path: Path, name: str) -> None:
    faults = Faults(**SERVERS[name])
    expected, _ = await run_story(tmp_path, faults, None)
    assert max(expected.values()) == 1
    for at in range(3, 60, 8):
        found, point = await run_story(tmp_path, faults, at)
        assert found == expected, f"crash {point}: {found - expected} and not {expected - found}"


async def test_a_crash_in_the_first_sync_repeats_no_email(tmp_path: Path) -> None:
    for at in range(0, 60, 5):
        plan = CrashPlan()
        wrap = partial(add_points, plan=plan)
        async with open_harness("memory", tmp_path, pace=PACE, wrap=wrap) as h:
            h.imap = CrashingProvider(h.imap, plan)
            for number in range(120):
                h.deliver(number, "INBOX" if number % 2 else "Archive")
            plan.arm(at + 4, h.kill)  # the first four points make the Connection
            try:
                await h.connect()
                await h.wait_for_end(plan.has_struck)
            finally:
                plan.disarm()
            await h.stop()
            h.start()
            await h.settle()
            assert len(await h.find_ids()) == 120
            assert make_mail(0) in {m.raw for m in h.folder("Archive").messages.values()}
