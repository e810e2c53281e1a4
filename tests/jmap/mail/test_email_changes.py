"""Email/changes: after each of many actions, what is told from every earlier state.

Source: RFC 8620 s5.2, RFC 8621 s4.3
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.jmap.mail_fixture import make_raw
from tests.world import World, open_world

Actions = list[tuple[str, ...]]
"""("add", name), ("mark", name ...), ("move", name), ("destroy", name ...), ("nothing",),
("replace", old, new): destroyed and made in one request, ("both", name): made, then marked."""


class History:
    """Emails by name, and the state after each action."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ids: dict[str, str] = {}
        self.states: list[str] = []
        self.boxes: list[str] = []
        self.count = 0

    async def begin(self) -> None:
        """Two Mailboxes, and the state before everything."""
        self.boxes = [await self.world.add_mailbox(name) for name in "AB"]
        await self.note()

    async def note(self) -> None:
        """Remember the state as it is now."""
        self.states.append((await self.world.call("Email/get", ids=[]))["state"])

    async def act(self, action: tuple[str, ...]) -> None:
        """One action, which is at most one transaction of Emails for each name in it."""
        verb, *names = action
        ids = [self.ids[name] for name in names if name in self.ids]
        self.count += 1
        match verb:
            case "add":
                for name in names:
                    raw = make_raw(name, f"{name}@x")
                    self.ids[name] = await self.world.add_email(self.boxes[0], raw)
            case "mark":
                patch: dict[str, Any] = {f"keywords/k{self.count}": True}
                await self.world.call("Email/set", update=dict.fromkeys(ids, patch))
            case "move":
                box = self.boxes[self.count % 2]
                patch = {"mailboxIds": {box: True}, "keywords/moved": self.count % 2 == 0 or None}
                await self.world.call("Email/set", update=dict.fromkeys(ids, patch))
            case "destroy":
                await self.world.call("Email/set", destroy=ids)
            case "same":
                [email] = (await self.world.call("Email/get", ids=ids))["list"]
                patch = {name: email[name] for name in ("mailboxIds", "keywords", "subject")}
                await self.world.call("Email/set", update={ids[0]: patch})
        await self.note()

    async def changes(self, since: int, limit: int | None = None) -> dict[str, set[str]]:
        """What is told since the state after action number `since`, by name; in pages."""
        names = {id: name for name, id in self.ids.items()}
        found: dict[str, set[str]] = {"created": set(), "updated": set(), "destroyed": set()}
        state = self.states[since]
        while True:
            page = await self.world.call("Email/changes", sinceState=state, maxChanges=limit)
            assert page["oldState"] == state
            told = [id for kind in found for id in page[kind]]
            assert len(set(told)) == len(told), "one id in two lists"
            assert limit is None or len(told) <= limit
            for kind in found:
                found[kind] |= {names[id] for id in page[kind]}
            state = page["newState"]
            if not page["hasMoreChanges"]:
                assert state == (await self.world.call("Email/get", ids=[]))["state"]
                return found


def _write(found: dict[str, set[str]]) -> str:
    """As the table has it: +created ~updated -destroyed."""
    signs = {"created": "+", "updated": "~", "destroyed": "-"}
    return " ".join(signs[kind] + name for kind, names in found.items() for name in sorted(names))


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        # actions; then what is told since the start, after the first action, after the second ...
        ([], [""]),
        ([("add", "a")], ["+a", ""]),
        ([("add", "a", "b")], ["+a +b", ""]),
        ([("add", "a"), ("add", "b")], ["+a +b", "+b", ""]),
        ([("add", "a"), ("mark", "a")], ["+a", "~a", ""]),
        ([("add", "a"), ("move", "a")], ["+a", "~a", ""]),
        ([("add", "a"), ("same", "a")], ["+a", "", ""]),
        ([("add", "a"), ("nothing",)], ["+a", "", ""]),
        ([("add", "a"), ("destroy", "a")], ["", "-a", ""]),
        ([("add", "a"), ("mark", "a"), ("destroy", "a")], ["", "-a", "-a", ""]),
        ([("add", "a"), ("mark", "a"), ("mark", "a")], ["+a", "~a", "~a", ""]),
        ([("add", "a"), ("destroy", "a"), ("add", "a")], ["+a", "+a -a", "+a", ""]),
        (
            [("add", "a", "b", "c"), ("mark", "a"), ("destroy", "b"), ("move", "c")],
            ["+a +c", "~a ~c -b", "~c -b", "~c", ""],
        ),
        (
            [("add", "a"), ("mark", "a"), ("add", "b"), ("mark", "b", "a"), ("destroy", "b")],
            ["+a", "~a", "~a", "~a -b", "-b", ""],
        ),
    ],
)
async def test_what_is_told_from_each_earlier_state(
    world: World, actions: Actions, expected: list[str]
) -> None:
    history = History(world)
    await history.begin()
    before: dict[str, str] = {}
    for action in actions:
        before |= {id: name for name, id in history.ids.items()}
        await history.act(action)
    names = before | {id: name for name, id in history.ids.items()}
    for since, wanted in enumerate(expected):
        page = await world.call("Email/changes", sinceState=history.states[since])
        told = {
            kind: {names[id] for id in page[kind]} for kind in ("created", "updated", "destroyed")
        }
        assert _write(told) == wanted, f"since state {since}"
        assert page["newState"] == history.states[-1]


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
async def test_in_pages_the_same_is_told_from_each_earlier_state(world: World, limit: int) -> None:
    """What was made and changed may be told of twice in pages; else they add up to the whole."""
    history = History(world)
    await history.begin()
    for action in (
        ("add", "a", "b", "c", "d"),
        ("mark", "a", "b", "c"),
        ("add", "e", "f"),
        ("move", "a", "e"),
        ("mark", "b", "c", "d", "e", "f"),
    ):
        await history.act(action)
    for since in range(len(history.states)):
        paged = await history.changes(since, limit)
        paged["updated"] -= paged["created"]
        assert paged == await history.changes(since)


async def test_moving_the_last_email_away_is_no_end_of_it(world: World) -> None:
    history = History(world)
    await history.begin()
    await history.act(("add", "a"))
    await world.call("Mailbox/set", destroy=[history.boxes[1]])
    await history.note()
    assert _write(await history.changes(2)) == ""
    await world.call("Mailbox/set", destroy=[history.boxes[0]], onDestroyRemoveEmails=True)
    await history.note()
    assert _write(await history.changes(2)) == "-a"


async def test_new_mail_in_a_thread_changes_no_other_email(world: World) -> None:
    history = History(world)
    await history.begin()
    await history.act(("add", "a"))
    raw = make_raw("Re: a", "b@x", In_Reply_To="<a@x>")
    history.ids["b"] = await world.add_email(history.boxes[0], raw)
    assert _write(await history.changes(1)) == "+b"


async def test_reading_and_searching_change_nothing(world: World) -> None:
    history = History(world)
    await history.begin()
    await history.act(("add", "a"))
    await world.call("Email/query", filter={"text": "a"})
    await world.call("Email/get", ids=None, fetchAllBodyValues=True)
    await world.call("SearchSnippet/get", filter={"text": "a"}, emailIds=[history.ids["a"]])
    assert _write(await history.changes(1)) == ""
    assert (await world.call("Email/get", ids=[]))["state"] == history.states[-1]


def test_a_device_that_pages_with_any_limit_ends_with_what_there_is(
    runner: asyncio.Runner, tmp_path: Path
) -> None:
    """Random writes in between the pages, too."""
    steps = st.lists(
        st.tuples(st.sampled_from(["add", "mark", "destroy", "sync", "page"]), st.integers(0, 9)),
        max_size=25,
    )

    async def check(steps: list[tuple[str, int]], limit: int) -> None:
        async with open_world("memory", tmp_path) as world:
            await _check_device(world, steps, limit)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(steps, st.integers(1, 4))
    def run(steps: list[tuple[str, int]], limit: int) -> None:
        runner.run(check(steps, limit))

    run()


async def _check_device(world: World, steps: list[tuple[str, int]], limit: int) -> None:
    history = History(world)
    await history.begin()
    cache: dict[str, Any] = {}
    state = history.states[0]

    async def page() -> bool:
        """One page; the server may be ahead of it, so a name may be gone by the time of the get."""
        nonlocal state
        found = await world.call("Email/changes", sinceState=state, maxChanges=limit)
        for id in found["destroyed"]:
            cache.pop(id, None)
        assert not cache.keys() & set(found["created"]), "made twice"
        assert set(found["updated"]) <= cache.keys(), "changed, but never made"
        ids = [*found["created"], *found["updated"]]
        got = await world.call("Email/get", ids=ids, properties=["keywords"])
        cache.update({email["id"]: email for email in got["list"]})
        cache.update(dict.fromkeys(got["notFound"]))
        state = found["newState"]
        return bool(found["hasMoreChanges"])

    for verb, number in [*steps, ("sync", 0)]:
        if verb == "add":
            await history.act(("add", f"n{len(history.ids)}"))
        elif verb == "sync":
            while await page():
                pass
        elif verb == "page":
            await page()
        elif history.ids:
            name = sorted(history.ids)[number % len(history.ids)]
            await history.act((verb, name))
            if verb == "destroy":
                # Its name is used no more; the count of names must not fall, or one came again.
                history.ids[name] = "e00000000000"
    got = await world.call("Email/get", ids=None, properties=["keywords"])
    assert cache == {email["id"]: email for email in got["list"]}
