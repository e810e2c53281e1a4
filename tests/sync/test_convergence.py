"""Random programs of acts on both sides end in agreement, and a second look finds nothing to do."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.sync.conftest import Open
from tests.sync.harness import Harness
from tindra.app.demo.faults import Faults

STEPS = 30
FOLDERS = ("INBOX", "Archive", "Drafts", "Junk", "Trash", "Own", "Own/Inner")
FLAGS = ("\\Seen", "\\Flagged", "\\Answered", "work")
KEYWORDS = ("$seen", "$flagged", "$answered", "work")
QUICK = (0, 1, 2, 3, 1006, 1026, 1058, 1079, 1082, 1085, 1088, 1101)
"""Those of the thousand waited for something that did not come, or for long, at one time."""
SERVERS: list[dict[str, Any]] = [
    {}, {"no_qresync": True}, {"no_condstore": True}, {"no_move": True, "no_uidplus": True},
]  # fmt: skip


class Program:
    """Acts at random, from one seed."""

    def __init__(self, h: Harness, seed: int) -> None:
        self.h = h
        self.dice = random.Random(seed)
        self.number = 100
        self.done: list[str] = []
        self.acts: list[Callable[[], Awaitable[None]]] = [
            self.arrive, self.arrive, self.mark_there, self.mark_there, self.move_there,
            self.copy_there, self.expunge_there, self.renumber, self.mark_here, self.mark_here,
            self.move_here, self.move_here, self.destroy_here, self.import_here, self.make_mailbox,
            self.rename_here, self.rename_there, self.pause, self.restart,
        ]  # fmt: skip

    async def run(self) -> None:
        for _ in range(STEPS):
            act = self.dice.choice(self.acts)
            self.done.append(act.__name__)
            await act()

    def pick_folder(self) -> str:
        return self.dice.choice(sorted(self.h.demo.store.folders))

    def pick_there(self) -> tuple[str, int] | None:
        all = [
            (name, uid)
            for name, folder in sorted(self.h.demo.store.folders.items())
            for uid in folder.messages
        ]
        return self.dice.choice(all) if all else None

    async def pick_here(self) -> str | None:
        ids = sorted((await self.h.find_ids()).values())
        return self.dice.choice(ids) if ids else None

    # -- there
    async def arrive(self) -> None:
        self.number += 1
        flags = self.dice.sample(FLAGS, self.dice.randrange(3))
        self.h.deliver(self.number, self.pick_folder(), flags)

    async def mark_there(self) -> None:
        if picked := self.pick_there():
            flags = frozenset(self.dice.sample(FLAGS, self.dice.randrange(4)))
            self.h.folder(picked[0]).set_flags(picked[1], flags)

    async def move_there(self) -> None:
        if picked := self.pick_there():
            source, target = self.h.folder(picked[0]), self.h.folder(self.pick_folder())
            self.h.demo.store.move(source, [picked[1]], target)

    async def copy_there(self) -> None:
        if picked := self.pick_there():
            source, target = self.h.folder(picked[0]), self.h.folder(self.pick_folder())
            self.h.demo.store.copy(source, [picked[1]], target)

    async def expunge_there(self) -> None:
        if picked := self.pick_there():
            self.h.folder(picked[0]).expunge([picked[1]])

    async def renumber(self) -> None:
        self.h.demo.store.renumber(self.h.folder(self.pick_folder()))

    async def rename_there(self) -> None:
        name = self.dice.choice(["There", "Own/There"])
        own = [n for n in sorted(self.h.demo.store.folders) if n.startswith("Own/")]
        if own and name not in self.h.demo.store.folders and "Own" in self.h.demo.store.folders:
            self.h.demo.store.rename(self.h.folder(self.dice.choice(own)), name)

    # -- here
    async def mark_here(self) -> None:
        if id := await self.pick_here():
            words = self.dice.sample(KEYWORDS, self.dice.randrange(4))
            await self.h.world.call(
                "Email/set", update={id: {"keywords": dict.fromkeys(words, True)}}
            )

    async def move_here(self) -> None:
        mailboxes = sorted((await self.h.find_mailboxes()).values())
        if mailboxes and (id := await self.pick_here()):
            count = self.dice.choice([1, 1, 1, 2])
            wanted = dict.fromkeys(self.dice.sample(mailboxes, min(count, len(mailboxes))), True)
            await self.h.world.call("Email/set", update={id: {"mailboxIds": wanted}})

    async def destroy_here(self) -> None:
        if id := await self.pick_here():
            await self.h.world.call("Email/set", destroy=[id])

    async def import_here(self) -> None:
        self.number += 1
        paths = sorted(await self.h.find_mailboxes())
        if paths:
            await self.h.import_mail(self.number, self.dice.choice(paths), "$seen")

    async def make_mailbox(self) -> None:
        name = f"New{self.dice.randrange(4)}"
        await self.h.world.call("Mailbox/set", create={"m": {"name": name}})

    async def rename_here(self) -> None:
        mailboxes = await self.h.find_mailboxes()
        made = sorted(path for path in mailboxes if path.startswith("New"))
        if made:
            name = f"Again{self.dice.randrange(4)}"
            id = mailboxes[self.dice.choice(made)]
            await self.h.world.call("Mailbox/set", update={id: {"name": name}})

    # -- time
    async def pause(self) -> None:
        await self.h.settle()

    async def restart(self) -> None:
        await self.h.stop()
        self.h.start()


async def load_mail(h: Harness) -> dict[str, Any]:
    """Everything but the status of the mirror itself, and what it is told now and then."""
    told = ("Connection", "Quota")
    return {name: of for name, of in (await h.world.load_all()).items() if name not in told}


async def _converge(harness: Open, seed: int) -> None:
    async with harness(faults=Faults(**SERVERS[seed % len(SERVERS)])) as h:
        for name in FOLDERS:
            h.demo.store.create(name)
        for number in range(12):
            h.deliver(number, FOLDERS[number % len(FOLDERS)])
        await h.connect()
        program = Program(h, seed)
        try:
            await program.run()
            await h.settle()
        except AssertionError as error:
            raise AssertionError(f"{error}, after {program.done}") from error
        await h.stop()
        before = await load_mail(h)
        modseqs = {name: f.highestmodseq for name, f in h.demo.store.folders.items()}
        await h.start_and_look()
        assert await load_mail(h) == before
        assert {n: f.highestmodseq for n, f in h.demo.store.folders.items()} == modseqs


@pytest.mark.parametrize("seed", QUICK)
async def test_any_program_ends_in_agreement(harness: Open, seed: int) -> None:
    await _converge(harness, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1200))
async def test_many_programs_end_in_agreement(harness: Open, seed: int) -> None:
    await _converge(harness, seed)
