"""An id of somebody else is answered exactly like one that never was, wherever a call may name one.

Taken from the registry: every method has a template, and each place of it that names something of
the account is given the id of the same kind of thing in an account of somebody else on the same
server, and then one that was never given out. What the two answers say, and what they ask of the
store, must be the same. Source: RFC 8620 s8.4
"""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tests.jmap.json_strategies import list_places
from tests.jmap.mail_fixture import make_raw
from tests.jmap.templates import TYPES, Things
from tests.jmap.trial import Trial
from tests.world import World, add_user
from tindra.base.ids import AccountId
from tindra.core.access import load_caller

_HOUR_MS = 3600_000
_WORD = re.compile(r"[A-Za-z0-9_-]+")


class Neighbours:
    """Two users of one server who know nothing of each other, and have the same things."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.mine = Things(world)
        self.theirs: Things
        self.unknown: dict[str, str] = {}
        """Id of theirs -> one like it that never was."""

    async def make(self) -> None:
        world = self.world
        await self.mine.make()
        world.clock.advance(_HOUR_MS)  # so that no two Emails have the same id
        caller = await add_user(world.services, "nora")
        self.theirs = Things(World(world.services, world.registry, caller))
        await self.theirs.make()
        world.services = replace(world.services, are_users_visible=False)
        known = {*self.mine.ids, *self.theirs.ids}
        assert len(known) == len(self.mine.ids) + len(self.theirs.ids)
        self.unknown = {id: _make_unknown(id) for id in self.theirs.ids}
        assert known.isdisjoint(self.unknown.values())

    def list_swaps(self) -> dict[str, str]:
        """Id of mine -> the same thing of theirs."""
        return dict(zip(self.mine.ids, self.theirs.ids, strict=True))


def _make_unknown(id: str) -> str:
    """An id of the same form."""
    at = min(len(id) // 2, 20)
    return id[:at] + ("b" if id[at] != "b" else "c") + id[at + 1 :]


def list_swapped(template: Any, swaps: dict[str, str]) -> Iterator[tuple[str, Any, str]]:
    """(where, the same with one id swapped, the new id), for each id at each place of it."""
    for number, (holder, key) in enumerate(list_places(template)):
        texts = [holder[key]] if isinstance(holder[key], str) else []
        texts += [key] if isinstance(key, str) else []
        for text in texts:
            for word in _WORD.findall(text):
                if word not in swaps:
                    continue
                swapped = copy.deepcopy(template)
                there, _ = list(list_places(swapped))[number]
                if text is key:
                    new = {k.replace(word, swaps[word]): v for k, v in there.items()}
                    there.clear()
                    there.update(new)
                else:
                    there[key] = text.replace(word, swaps[word])
                yield f"{key}: {text}", swapped, swaps[word]


def _list_variants(template: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The call; and for each condition of its filter, one with nothing else in it."""
    yield template
    filter = template.get("filter")
    if isinstance(filter, dict) and "operator" in filter:
        for name, value in filter["conditions"][-1].items():
            yield template | {"filter": {name: value}}


@pytest.fixture
def neighbours(world: World, runner: asyncio.Runner) -> Neighbours:
    found = Neighbours(world)
    runner.run(found.make())
    return found


def _blind(answer: Any, id: str) -> Any:
    """The answer, whichever id it speaks of."""
    return msgspec.json.decode(msgspec.json.encode(answer).decode().replace(id, "<id>"))


async def _compare(
    neighbours: Neighbours, name: str, template: dict[str, Any], swaps: dict[str, str]
) -> int:
    """How many places of a call were tried, with an id of somebody else and with one of nobody."""
    trial, accounts = Trial(neighbours.world), {*map(str, neighbours.world.caller.accounts)}
    places = [p for v in _list_variants(template) for p in list_swapped(v, swaps)]
    for where, foreign, id in places:
        never = neighbours.unknown[id]
        _, unknown, _ = next(list_swapped(foreign, {id: never}))
        told, asked = await trial.run(name, foreign)
        expected, expected_asked = await trial.run(name, unknown)
        text = f"{name} with {id} at {where}"
        assert _blind(told, id) == _blind(expected, never), text
        # Who sees a part: whether a message is hidden takes one more look at its row.
        is_part = any(map(neighbours.world.caller.sees_part, neighbours.world.caller.accounts))
        assert is_part or asked == expected_asked, text
        strange = {account for _, account in asked} - accounts
        assert not strange, f"{text}: somebody else's account was read: {strange}"
    return len(places)


def test_every_method_names_something_of_an_account(neighbours: Neighbours) -> None:
    """Only these have no place for an id."""
    mine = neighbours.mine
    named = {
        name
        for name, template in mine.make_all()
        if list(list_swapped(template, neighbours.list_swaps()))
    }
    assert set(mine.world.registry.methods) - named == {"Core/echo"}


@pytest.mark.parametrize("type_name", TYPES)
async def test_an_id_of_somebody_else_is_answered_like_one_that_never_was(
    neighbours: Neighbours, type_name: str
) -> None:
    swaps = neighbours.list_swaps()
    compared = 0
    for name, template in neighbours.mine.make_templates(type_name):
        compared += await _compare(neighbours, name, template, swaps)
    assert compared


async def test_what_is_hidden_in_an_account_seen_in_part_is_like_what_never_was(
    neighbours: Neighbours,
) -> None:
    world, theirs = neighbours.world, neighbours.theirs
    rights = {"mayReadItems": True, "mayAddItems": True, "mayRemoveItems": True}
    patch = {f"shareWith/{neighbours.mine.user}": rights}
    done = await theirs.world.call("Mailbox/set", update={theirs.inbox: patch})
    assert done["notUpdated"] is None, done
    user, now_ms = world.caller.user, world.clock.now_ms()
    world.caller = await load_caller(world.services.directory, user, now_ms)
    assert world.caller.sees_part(AccountId(theirs.account))
    box = await theirs.world.add_mailbox("Hidden")
    email = await theirs.world.add_email(box, make_raw("Hidden", "hidden@x", "Hidden.\r\n"))
    got = await theirs.world.call("Email/get", ids=[email], properties=["threadId", "blobId"])
    hidden = {"Mailbox": box, "Email": email, "Thread": got["list"][0]["threadId"]}
    hidden["blob"] = got["list"][0]["blobId"]
    neighbours.unknown |= {id: _make_unknown(id) for id in hidden.values()}
    swaps = {id: hidden[kind] for kind in hidden for id in theirs.kinds[kind]}
    compared = 0
    for name, template in theirs.make_all():
        compared += await _compare(neighbours, name, template, swaps)
    assert compared > 100
