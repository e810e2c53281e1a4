"""Whatever owner and viewers do: a device of who sees a part ends equal to all there is of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.jmap.mail_fixture import make_raw
from tests.jmap.sharing_fixture import EVERYTHING, READ, PartDevice, add_person, share
from tests.world import Backend, World, open_world

PLACES = 4
ADD_ONLY = {"mayAddItems": True}
_place = st.integers(0, PLACES - 1)
_email = st.integers(0, 11)
_step = st.one_of(
    st.tuples(st.just("mail"), _place, st.integers(0, 2)),
    st.tuples(st.just("move"), _email, st.sets(_place, min_size=1)),
    st.tuples(st.just("mark"), _email, st.sampled_from(["$seen", "$flagged"])),
    st.tuples(st.just("swap"), _email, _email),
    st.tuples(st.just("destroy"), _email, st.none()),
    st.tuples(st.just("share"), _place, st.sampled_from([READ, EVERYTHING, ADD_ONLY, None])),
    st.tuples(st.just("viewer moves"), _email, st.sets(_place, min_size=1)),
    st.tuples(st.just("viewer destroys"), _email, st.none()),
    st.tuples(st.just("sync"), st.sampled_from(["often", "rarely", "paging"]), st.none()),
    st.tuples(st.just("page"), st.none(), st.none()),
    st.tuples(st.just("drop mailbox"), _place, st.none()),
)


class Play:
    """One run of steps."""

    def __init__(self, world: World, places: list[str], bea: Any) -> None:
        self.world = world
        self.places = places
        self.bea = bea
        self.emails: list[str] = []
        self.devices = {"often": PartDevice(bea), "rarely": PartDevice(bea)}
        self.devices["paging"] = PartDevice(bea, page=2)

    async def step(self, kind: str, one: Any, two: Any) -> None:
        world = self.world
        match kind:
            case "mail":
                number = len(self.emails)
                reply = f"<{two}@fjord.test>" if number > two else ""
                raw = make_raw(message_id=f"{number}@fjord.test", References=reply)
                self.emails.append(await world.add_email(self.places[one], raw))
            case "share":
                await share(world, self.places[one], self.bea, two)
            case "sync":
                await self.devices[one].sync()
            case "page":
                await self.devices["paging"]._sync_page("Email")
                await self.devices["paging"]._sync_page("Thread")
            case "drop mailbox":
                old = self.places[one]
                await world.call("Mailbox/set", destroy=[old], onDestroyRemoveEmails=True)
                self.places[one] = await world.add_mailbox(f"Again {len(world.commits)}")
            case _ if self.emails:
                await self._touch(kind, self.emails[one % len(self.emails)], two)

    async def _touch(self, kind: str, id: str, two: Any) -> None:
        world = self.world
        if kind in ("move", "viewer moves"):
            places = {self.places[place]: True for place in two}
            moved = {"update": {id: {"mailboxIds": places}}}
        if kind == "move":
            await world.call("Email/set", **moved)
        elif kind == "mark":
            await world.call("Email/set", update={id: {f"keywords/{two}": True}})
        elif kind == "swap":  # counters stay as they are, and what they count does not
            other = self.emails[two % len(self.emails)]
            update = {other: {"keywords/$seen": True}, id: {"keywords/$seen": None}}
            await world.call("Email/set", update=update)
        elif kind == "destroy":
            await world.call("Email/set", destroy=[id])
        elif kind == "viewer moves":
            await self.bea.calls([["Email/set", moved, "0"]])
        else:
            await self.bea.calls([["Email/set", {"destroy": [id]}, "0"]])


async def _play(backend: Backend, steps: list[Any]) -> None:
    with TemporaryDirectory() as folder:
        async with open_world(backend, Path(folder)) as world:
            bea = await add_person(world, "bea@example.org")
            places = [await world.add_mailbox(f"Place {n}") for n in range(PLACES)]
            await world.call("Mailbox/set", update={places[3]: {"role": "trash"}})
            play = Play(world, places, bea)
            for step in steps:
                await play.step(*step)
            for device in play.devices.values():
                await device.check()


_steps = st.lists(_step, min_size=3, max_size=30)


@settings(deadline=None, max_examples=60)
@given(steps=_steps)
def test_devices_of_a_part_converge(steps: list[Any]) -> None:
    asyncio.run(_play("memory", steps))


@settings(deadline=None, max_examples=15)
@given(steps=_steps)
def test_devices_of_a_part_converge_with_sqlite_too(steps: list[Any]) -> None:
    asyncio.run(_play("sqlite", steps))


async def test_a_device_follows_without_reading_anew(world: World) -> None:
    """Moves are told by /changes; only a change of rights makes a device read everything."""
    bea = await add_person(world, "bea@example.org")
    team, private = await world.add_mailbox("Team"), await world.add_mailbox("Private")
    await share(world, team, bea, READ)
    ids = [
        await world.add_email(team if n % 2 else private, make_raw(message_id=f"{n}@f.test"))
        for n in range(30)
    ]
    for page in (50, 3):
        device = PartDevice(bea, page)
        await device.sync()
        reads = device.reads_anew
        for place in (private, team):
            await world.call(
                "Email/set", update={id: {"mailboxIds": {place: True}} for id in ids[:20]}
            )
        await world.call("Email/set", update={ids[3]: {"mailboxIds": {private: True}}})
        await world.call("Email/set", destroy=ids[20:24])
        ids[20:24] = [
            await world.add_email(team, make_raw(message_id=f"{page}{n}@f.test")) for n in range(4)
        ]
        await device.check()
        assert device.reads_anew == reads


async def test_a_page_that_was_read_before_a_move_is_set_right_after_it(world: World) -> None:
    """In sight when the first page is read, out of sight at the second; and the other way."""
    bea = await add_person(world, "bea@example.org")
    team, private = await world.add_mailbox("Team"), await world.add_mailbox("Private")
    await share(world, team, bea, READ)
    device = PartDevice(bea, page=2)
    await device.sync()
    ids = [await world.add_email(team, make_raw(message_id=f"{n}@fjord.test")) for n in range(8)]
    for place in (private, team, private):
        assert await device._sync_page("Email")
        assert await device._sync_page("Thread")
        await world.call("Email/set", update={id: {"mailboxIds": {place: True}} for id in ids[:2]})
    await device.check()
