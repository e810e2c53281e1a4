"""Pages anywhere in a list; /queryChanges reads it from its top down to what changed, no further.

Source: RFC 8620 s5.5, s5.6
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.jmap.mail_fixture import make_raw
from tests.world import World
from tindra.core.methods import query as core_query
from tindra.features.mail import email_query
from tindra.model.mail import EmailQuery
from tindra.store.memory.reader import MemoryReader
from tindra.store.sqlite.reader import SqliteReader

NEWEST_FIRST = [{"property": "receivedAt", "isAscending": False}]
OLDEST_FIRST = [{"property": "receivedAt"}]


async def fill(world: World, count: int) -> tuple[str, list[str]]:
    """A Mailbox with Emails, newest first; every third is a reply to the one before."""
    world.devices = []
    inbox = await world.add_mailbox("Inbox")
    ids = []
    for number in range(count):
        reply = {"In_Reply_To": f"<{number - 1}@x>"} if number % 3 == 2 else {}
        raw = make_raw("Hello", f"{number}@x", f"{number}", **reply)
        at = f"2026-02-03T04:{number // 60:02}:{number % 60:02}Z"
        ids.append(await world.add_email(inbox, raw, receivedAt=at))
    return inbox, ids[::-1]


def watch(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """How far down each later read of a list went; None for all of it."""
    stops: list[int | None] = []
    for reader in (MemoryReader, SqliteReader):
        plain: Any = reader.query_emails

        async def watched(
            self: Any, query: EmailQuery, stop: int | None, has_total: bool, plain: Any = plain
        ) -> Any:
            if "doc_ids=frozenset" not in repr(query):  # the changed ones alone
                stops.append(stop)
            return await plain(self, query, stop, has_total)

        monkeypatch.setattr(reader, "query_emails", watched)
    return stops


@pytest.mark.parametrize("sort", [NEWEST_FIRST, OLDEST_FIRST])
@pytest.mark.parametrize("is_collapsed", [False, True])
async def test_an_anchor_gives_what_its_index_gives(
    world: World, monkeypatch: pytest.MonkeyPatch, sort: Any, is_collapsed: bool
) -> None:
    inbox, _ = await fill(world, 13)
    monkeypatch.setattr(email_query, "QUICK_IDS_MAX", 4)  # some on the loop, some beside it
    shared = {"filter": {"inMailbox": inbox}, "sort": sort, "collapseThreads": is_collapsed}
    whole = (await world.call("Email/query", **shared))["ids"]
    for index, anchor in enumerate(whole):
        for offset in (-20, -3, 0, 2):
            for limit in (0, 1, 4, 100):
                got = await world.call(
                    "Email/query", **shared, anchor=anchor, anchorOffset=offset, limit=limit
                )
                start = max(0, index + offset)
                assert (got["position"], got["ids"]) == (start, whole[start : start + limit])
    for position in (-20, -9, -1, 0, 3, 12, 20):
        got = await world.call("Email/query", **shared, position=position, limit=4)
        start = max(0, len(whole) + position) if position < 0 else position
        assert (got["position"], got["ids"]) == (start, whole[start : start + 4])
    other = await world.add_email(await world.add_mailbox("Other"), make_raw("Else", "else@x"))
    for anchor in ("nobody", "e" + "0" * 11, other):
        error = await world.fail("Email/query", **shared, anchor=anchor)
        assert error["type"] == "anchorNotFound"


async def test_a_change_near_the_top_reads_only_the_top(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox, ids = await fill(world, 12)
    monkeypatch.setattr(email_query, "_STEPS", (4, 8))
    query = {"filter": {"inMailbox": inbox}, "sort": NEWEST_FIRST}
    state = (await world.call("Email/query", **query))["queryState"]
    stops = watch(monkeypatch)
    await world.call("Email/set", update={ids[1]: {"keywords/$seen": True}})
    got = await world.call("Email/queryChanges", **query, sinceQueryState=state)
    assert (got["added"], stops) == ([{"id": ids[1], "index": 1}], [4])
    stops.clear()
    await world.call("Email/set", destroy=[ids[1]])
    state = got["newQueryState"]
    got = await world.call("Email/queryChanges", **query, sinceQueryState=state)
    assert (got["removed"], got["added"], stops) == ([ids[1]], [], [])


async def test_what_changed_too_far_down_is_to_be_asked_for_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox, ids = await fill(world, 9)
    monkeypatch.setattr(core_query, "QUERY_REACH_IDS_MAX", 4)
    query = {"filter": {"inMailbox": inbox}, "sort": NEWEST_FIRST}
    state = (await world.call("Email/query", **query))["queryState"]
    await world.call("Email/set", update={ids[3]: {"keywords/$seen": True}})
    got = await world.call("Email/queryChanges", **query, sinceQueryState=state)
    assert got["added"] == [{"id": ids[3], "index": 3}]
    await world.call("Email/set", update={ids[4]: {"keywords/$seen": True}})
    error = await world.fail("Email/queryChanges", **query, sinceQueryState=state)
    assert error["type"] == "cannotCalculateChanges"
    other = {"filter": {"inMailbox": inbox}, "sort": [{"property": "subject"}]}
    got = await world.call("Email/queryChanges", **other, sinceQueryState=state)
    assert {item["id"] for item in got["added"]} == {ids[3], ids[4]}, "read as a whole anyway"


async def test_a_list_kept_by_changes_equals_a_new_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox, ids = await fill(world, 12)
    other = await world.add_mailbox("Other")
    monkeypatch.setattr(email_query, "_STEPS", (2, 5))
    shapes = [
        {"filter": {"inMailbox": inbox}, "sort": sort, "collapseThreads": is_collapsed}
        for sort in (NEWEST_FIRST, OLDEST_FIRST)
        for is_collapsed in (False, True)
    ]
    shapes.append({"sort": NEWEST_FIRST})
    known = [await world.call("Email/query", **shape) for shape in shapes]
    steps = st.lists(
        st.tuples(st.integers(0, 11), st.sampled_from(["flag", "move", "back"])), max_size=4
    )

    async def run(todo: list[tuple[int, str]]) -> None:
        for index, what in todo:
            patch: dict[str, Any] = {"keywords/$flagged": True}
            if what != "flag":
                patch = {"mailboxIds": {(other if what == "move" else inbox): True}}
            await world.call("Email/set", update={ids[index]: patch})
        for place, shape in enumerate(shapes):
            before, state = known[place]["ids"], known[place]["queryState"]
            delta = await world.call("Email/queryChanges", **shape, sinceQueryState=state)
            kept = [id for id in before if id not in set(delta["removed"])]
            for item in delta["added"]:
                kept.insert(item["index"], item["id"])
            known[place] = await world.call("Email/query", **shape)
            assert kept == known[place]["ids"], (shape, todo)

    examples: list[list[tuple[int, str]]] = []

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(steps)
    def collect(todo: list[tuple[int, str]]) -> None:
        examples.append(todo)

    collect()
    for todo in examples:
        await run(todo)
