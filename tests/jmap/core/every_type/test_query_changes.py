"""Every type that can be queried: an old result with /queryChanges spliced in is a fresh query,
whatever was written in between; and so is every page. Source: RFC 8620 s5.5, s5.6

A type of the registry that is not written here fails the first test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.jmap.mail_fixture import make_raw, upload
from tests.jmap.sharing_fixture import add_person
from tests.world import World
from tindra.base.ids import AccountId, MailboxId, UserId
from tindra.core.tx import Tx, transact
from tindra.features.quota import ToldQuota, apply_quotas
from tindra.features.sharing.notification import run_notice
from tindra.model.sharing import ShareNotice

Step = tuple[int, int]
"""(what is done, to whom)"""
NAMES = ("a", "B", "ä", "b", "zz")
COUNT_MAX = 12
"""Objects of one type: enough that places move, few enough to be fast."""


@dataclass
class Scene:
    """A world, and the ids that what is written needs."""

    world: World
    inbox: str = ""
    identity: str = ""
    count: int = 0
    places: dict[str, AccountId] = field(default_factory=dict)

    async def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """One call on the account that has the type; must succeed."""
        account_id = self.places[name.partition("/")[0]]
        return await self.world.call(name, accountId=account_id, **arguments)

    async def set(self, type_name: str, **arguments: Any) -> None:
        """What is refused (a name that is taken) changes nothing, which is fine."""
        await self.call(f"{type_name}/set", **arguments)


async def _open(world: World) -> Scene:
    await add_person(world, "friend")
    scene = Scene(world, await world.add_mailbox("Inbox", role="inbox"))
    made = await world.call("Identity/set", create={"i": {"email": "alex@example.org"}})
    scene.identity = made["created"]["i"]["id"]
    scene.places = world.list_places()
    return scene


async def _write_mailbox(scene: Scene, what: int, id: str | None, name: str) -> None:
    if what == 0 or id is None:
        await scene.set("Mailbox", create={"m": {"name": name, "sortOrder": len(name)}})
    elif what == 1:
        await scene.set("Mailbox", destroy=[id])
    else:
        await scene.set("Mailbox", update={id: {"name": name + "x", "isSubscribed": what == 2}})


async def _write_email(scene: Scene, what: int, id: str | None, name: str) -> None:
    if what == 0 or id is None:
        scene.count += 1
        raw = make_raw(name, f"m{scene.count}@x", From=f"{name}@x.test")
        await scene.world.add_email(scene.inbox, raw)
    elif what == 1:
        await scene.set("Email", destroy=[id])
    else:
        await scene.set("Email", update={id: {"keywords/$seen": True if what == 2 else None}})


async def _write_submission(scene: Scene, what: int, id: str | None, name: str) -> None:
    if what == 0 or id is None:
        scene.count += 1
        email = await scene.world.add_email(scene.inbox, make_raw(name, f"s{scene.count}@x"))
        obj = {"identityId": scene.identity, "emailId": email}
        await scene.set("EmailSubmission", create={"s": obj})
    elif what == 1:
        await scene.set("EmailSubmission", destroy=[id])
    else:
        await scene.set("EmailSubmission", update={id: {"undoStatus": "canceled"}})


async def _write_script(scene: Scene, what: int, id: str | None, name: str) -> None:
    if what == 0 or id is None:
        blob = await upload(scene.world, f"keep; # {name}".encode())
        await scene.set("SieveScript", create={"s": {"blobId": blob, "name": name}})
    elif what == 1:
        await scene.set("SieveScript", destroy=[id])
    elif what == 2:
        await scene.set("SieveScript", onSuccessActivateScript=id)
    else:
        await scene.set("SieveScript", update={id: {"name": name + "x"}})


async def _write_quota(scene: Scene, what: int, _: str | None, name: str) -> None:
    told = [ToldQuota(name, "octets", what, 9), ToldQuota("", "count", 4 - what, 9)][what % 3 :]

    async def write(tx: Tx) -> None:
        await apply_quotas(tx, told)

    await transact(scene.world.services, scene.places["Quota"], "quotas", write, "provider")


async def _write_principal(scene: Scene, what: int, id: str | None, name: str) -> None:
    if what == 0 or id is None:
        scene.count += 1
        await add_person(scene.world, f"p{'zab'[scene.count % 3]}{scene.count}@x.test")
    else:
        own = scene.world.caller.user.id
        await scene.set("Principal", update={own: {"name": name if what == 1 else None}})


async def _write_notification(scene: Scene, what: int, id: str | None, name: str) -> None:
    if what == 1 and id is not None:
        await scene.set("ShareNotification", destroy=[id])
        return
    scene.count += 1
    scene.world.clock.advance(1000 * what)
    me, friend = scene.world.caller.user.id, UserId("u-friend")
    notice = ShareNotice(me, friend, MailboxId(scene.inbox), name, 5, (), ("mayReadItems",))
    account_id = AccountId(str(scene.world.account_id))
    payload = msgspec.to_builtins(notice)
    await run_notice(scene.world.services, account_id, f"n{scene.count}", payload)


Write = Callable[[Scene, int, "str | None", str], Awaitable[None]]
WRITES: dict[str, Write] = {
    "Mailbox": _write_mailbox,
    "Email": _write_email,
    "EmailSubmission": _write_submission,
    "SieveScript": _write_script,
    "Quota": _write_quota,
    "Principal": _write_principal,
    "ShareNotification": _write_notification,
}
FILTERS: dict[str, list[dict[str, Any]]] = {
    "Mailbox": [{"name": "b"}, {"isSubscribed": True}, {"hasAnyRole": False}],
    "Email": [{"hasKeyword": "$seen"}, {"notKeyword": "$seen"}],
    "EmailSubmission": [{"undoStatus": "final"}],
    "SieveScript": [{"isActive": True}, {"name": "x"}],
    "Quota": [{"name": "a"}, {"resourceType": "octets"}],
    "Principal": [{"name": "a"}, {"type": "individual"}],
    "ShareNotification": [{"after": "2026-01-01T00:00:00Z"}],
}
SORTS: dict[str, tuple[str, ...]] = {
    "Mailbox": ("name", "sortOrder"),
    "Email": ("receivedAt", "subject"),
    "EmailSubmission": ("emailId", "sentAt"),
    "SieveScript": ("name", "isActive"),
    "Quota": ("name", "used"),
    "Principal": ("name", "email"),
    "ShareNotification": ("created",),
}


def test_every_type_that_can_be_queried_is_written_here(world: World) -> None:
    queried = {name for name, found in world.registry.datatypes.items() if found.querier}
    assert queried == set(WRITES) == set(FILTERS) == set(SORTS)


@st.composite
def _queries(draw: st.DrawFn, name: str) -> dict[str, Any]:
    one = st.sampled_from(FILTERS[name])
    operators = st.sampled_from(["AND", "OR", "NOT"])
    nested = st.builds(
        lambda operator, conditions: {"operator": operator, "conditions": conditions},
        operators,
        st.lists(one, max_size=2),
    )
    comparator = st.builds(
        lambda name, is_ascending: {"property": name, "isAscending": is_ascending},
        st.sampled_from(SORTS[name]),
        st.booleans(),
    )
    sort = st.none() | st.lists(comparator, max_size=2)
    return {"filter": draw(st.none() | one | nested), "sort": draw(sort)}


_STEPS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 99)), min_size=1, max_size=4)


@pytest.mark.parametrize("name", sorted(WRITES))
def test_changes_spliced_in_are_a_fresh_query(
    runner: asyncio.Runner, world: World, name: str
) -> None:
    scene = runner.run(_open(world))

    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    @given(_queries(name), _STEPS, st.integers(1, 5), st.integers(-15, 15))
    def run(query: dict[str, Any], steps: list[Step], limit: int, offset: int) -> None:
        runner.run(_check(scene, name, query, steps))
        runner.run(_check_pages(scene, name, query, limit, offset))

    run()


async def _check(scene: Scene, name: str, query: dict[str, Any], steps: list[Step]) -> None:
    before = await scene.call(f"{name}/query", **query)
    assert before["canCalculateChanges"] is True
    for what, number in steps:
        ids = (await scene.call(f"{name}/query"))["ids"]
        id = ids[number % len(ids)] if ids else None
        is_full = what == 0 and len(ids) >= COUNT_MAX
        await WRITES[name](scene, 1 if is_full else what, id, NAMES[number % len(NAMES)])
    since = {"sinceQueryState": before["queryState"]}
    found = await scene.call(f"{name}/queryChanges", **query, **since, calculateTotal=True)
    after = await scene.call(f"{name}/query", **query, calculateTotal=True)
    gone = set(found["removed"])
    ids = [id for id in before["ids"] if id not in gone]
    indexes = [item["index"] for item in found["added"]]
    assert indexes == sorted(indexes)
    for item in found["added"]:
        ids.insert(item["index"], item["id"])
    assert ids == after["ids"]
    assert found["total"] == after["total"] == len(ids)
    assert found["oldQueryState"] == before["queryState"]
    assert found["newQueryState"] == after["queryState"]
    count = len(found["removed"]) + len(found["added"])
    shared = query | since
    fits = await scene.call(f"{name}/queryChanges", **shared, maxChanges=count)
    assert fits["removed"] == found["removed"]
    if count:
        arguments = {"accountId": scene.places[name], "maxChanges": count - 1} | shared
        error = await scene.world.fail(f"{name}/queryChanges", **arguments)
        assert error["type"] == "tooManyChanges"


async def _check_pages(
    scene: Scene, name: str, query: dict[str, Any], limit: int, offset: int
) -> None:
    """What a window shows is that part of the whole, by position and by anchor."""
    whole = (await scene.call(f"{name}/query", **query))["ids"]
    place = max(0, len(whole) + offset) if offset < 0 else offset
    page = await scene.call(f"{name}/query", **query, position=offset, limit=limit)
    assert (page["position"], page["ids"]) == (place, whole[place : place + limit])
    for index in (0, len(whole) // 2, len(whole) - 1) if whole else ():
        anchor = {"anchor": whole[index], "anchorOffset": offset, "position": 3}
        page = await scene.call(f"{name}/query", **query, **anchor, limit=limit)
        place = max(0, index + offset)
        assert (page["position"], page["ids"]) == (place, whole[place : place + limit])


@pytest.mark.parametrize("name", sorted(WRITES))
async def test_what_is_wrong_with_a_query_is_named_for_every_type(world: World, name: str) -> None:
    scene = await _open(world)
    place = {"accountId": scene.places[name]}
    for arguments, kind in (
        ({"limit": -1}, "invalidArguments"),
        ({"anchor": "nothing"}, "anchorNotFound"),
        ({"sort": [{"property": "nothing"}]}, "unsupportedSort"),
        ({"sort": [{"property": SORTS[name][0], "collation": "i;nothing"}]}, "unsupportedSort"),
        ({"filter": {"nothing": 1}}, "unsupportedFilter"),
        ({"filter": {"operator": "XOR", "conditions": []}}, "invalidArguments"),
        ({"filter": {"operator": "AND"}}, "invalidArguments"),
    ):
        error = await world.fail(f"{name}/query", **place, **arguments)
        assert error["type"] == kind, (name, arguments)
    for state in ("x", "999999", "1.5"):
        error = await world.fail(f"{name}/queryChanges", **place, sinceQueryState=state)
        assert error["type"] == "cannotCalculateChanges", (name, state)
    clamped = await scene.call(f"{name}/query", limit=2**53 - 1)
    assert clamped["limit"] == 1000
    assert "limit" not in await scene.call(f"{name}/query", limit=1000)
