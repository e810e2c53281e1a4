"""Principal and ShareNotification (RFC 9670 s2, s3): who there is, and news of what they share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tests.jmap.mail_fixture import encode
from tests.jmap.sharing_fixture import READ, Person, add_person, run_timers, share
from tests.world import World
from tindra.base.ids import AccountId
from tindra.model.account import ALL_RIGHTS, Grant

PERSONS = ("bea@example.org", "cleo@example.org", "dora")


async def add_people(world: World) -> list[Person]:
    """Three users beside alex; their calls go to their own home accounts."""
    found = [await add_person(world, login) for login in PERSONS]
    for person in found:
        person.account_id = person.user.home_account_id
    return found


async def _list(person: Person, **arguments: Any) -> dict[str, dict[str, Any]]:
    got = await person.call("Principal/get", ids=None, **arguments)
    return {obj["id"]: obj for obj in got["list"]}


async def test_principals_are_the_users_of_the_installation(world: World) -> None:
    people = await add_people(world)
    bea = people[0]
    found = await _list(bea)
    assert set(found) == {"u-alex", "u-bea", "u-cleo", "u-dora"}
    assert found["u-cleo"] == {
        "id": "u-cleo",
        "type": "individual",
        "name": "cleo",
        "description": None,
        "email": "cleo@example.org",
        "timeZone": None,
        "capabilities": {},
        "accounts": None,
    }
    assert found["u-dora"]["email"] is None
    assert "login" not in encode(found)
    assert list(found["u-bea"]["accounts"]) == [bea.user.home_account_id]


async def test_accounts_of_a_principal_are_those_the_caller_may_use(world: World) -> None:
    people = await add_people(world)
    bea = people[0]
    team = await world.add_mailbox("Team")
    state = (await bea.call("Principal/get", ids=[]))["state"]
    await share(world, team, bea, READ)
    changes = await bea.call("Principal/changes", sinceState=state)
    # Her own, too: her home account is no longer all that she has.
    assert set(changes["updated"]) == {"u-alex", "u-bea"}
    [account] = (await _list(bea))["u-alex"]["accounts"].items()
    assert account[0] == world.account_id
    assert (account[1]["isPersonal"], account[1]["isReadOnly"]) == (False, True)
    found = await bea.call("Principal/query", filter={"accountIds": [world.account_id]})
    assert found["ids"] == ["u-alex"]


async def test_queries_of_principals(world: World) -> None:
    people = await add_people(world)
    bea, cleo = people[:2]
    told = {"description": "Second floor", "timeZone": "Europe/Oslo", "name": "Cleo Sol"}
    done = await cleo.call("Principal/set", update={"u-cleo": told})
    assert done["updated"] == {"u-cleo": None}

    async def query(**filter: Any) -> list[str]:
        sort = [{"property": "name"}]
        return list((await bea.call("Principal/query", filter=filter, sort=sort))["ids"])

    assert await query(type="individual") == ["u-alex", "u-bea", "u-cleo", "u-dora"]
    assert await query(type="individua") == []
    assert await query(name="cleo s") == ["u-cleo"]
    assert await query(email="EXAMPLE.ORG") == ["u-bea", "u-cleo"]
    assert await query(text="floor") == ["u-cleo"]
    assert await query(timeZone="Europe/Oslo") == ["u-cleo"]
    assert await query(timeZone="europe/oslo") == []
    assert await query(name="cleo", type="group") == []
    for filter in (
        {"accountIds": "a"},
        {"name": 7},
        {"operator": "AND", "conditions": [{"type": []}]},
    ):
        error = await bea.fail("Principal/query", filter=filter)
        assert error["type"] == "invalidArguments"
    assert (await bea.fail("Principal/query", filter={"shoe": "x"}))["type"] == "unsupportedFilter"


async def test_changes_and_query_changes_of_principals(world: World) -> None:
    people = await add_people(world)
    bea, cleo = people[:2]
    before = await bea.call("Principal/query", sort=[{"property": "name"}])
    state = (await bea.call("Principal/get", ids=[]))["state"]
    assert (await bea.call("Principal/get", ids=[]))["state"] == state
    await add_person(world, "eva@example.org")
    await cleo.call("Principal/set", update={"u-cleo": {"name": "Zoe"}})
    changes = await bea.call("Principal/changes", sinceState=state)
    assert (changes["created"], changes["updated"]) == (["u-eva"], ["u-cleo"])
    changed = await bea.call(
        "Principal/queryChanges",
        sinceQueryState=before["queryState"],
        sort=[{"property": "name"}],
    )
    kept = [id for id in before["ids"] if id not in changed["removed"]]
    for item in changed["added"]:
        kept.insert(item["index"], item["id"])
    assert kept == ["u-alex", "u-bea", "u-dora", "u-eva", "u-cleo"]


async def test_people_change_what_is_told_of_themselves_and_nothing_else(world: World) -> None:
    people = await add_people(world)
    bea = people[0]
    refused: dict[str, Any] = {
        "u-cleo": {"name": "x"},
        "u-nobody": {"name": "x"},
        "u-bea": {"email": "other@example.org"},
    }
    done = await bea.call(
        "Principal/set", create={"k": {"name": "x"}}, update=refused, destroy=["u-cleo", "u-bea"]
    )
    kinds = {id: error["type"] for id, error in done["notUpdated"].items()}
    assert kinds == {
        "u-cleo": "forbidden", "u-nobody": "notFound", "u-bea": "invalidProperties",
    }  # fmt: skip
    assert done["notCreated"]["k"]["type"] == "forbidden"
    assert {e["type"] for e in done["notDestroyed"].values()} == {"forbidden"}
    for patch in (
        {"timeZone": "not a zone"},
        {"timeZone": "../../etc/passwd"},
        {"name": "x" * 300},
        {"description": 7},
        {"name": "a\0b"},
    ):
        done = await bea.call("Principal/set", update={"u-bea": patch})
        assert done["notUpdated"]["u-bea"]["type"] == "invalidProperties", patch
    stale = await bea.fail("Principal/set", ifInState="0", update={"u-bea": {"name": "x"}})
    assert stale["type"] == "stateMismatch"
    await bea.call("Principal/set", update={"u-bea": {"name": "Bea"}})
    await bea.call("Principal/set", update={"u-bea": {"name": None, "timeZone": "UTC"}})
    assert (await _list(bea))["u-bea"]["name"] == "bea"


async def test_principals_are_in_the_home_account_alone(world: World) -> None:
    people = await add_people(world)
    bea = people[0]
    await share(world, await world.add_mailbox("Team"), bea, READ)
    rights = Grant(bea.user.id, people[1].user.home_account_id, ALL_RIGHTS)
    await world.services.directory.put_grant(rights)
    for name in ("Principal/get", "Principal/query", "Principal/set", "ShareNotification/get"):
        for account_id in (world.account_id, people[1].user.home_account_id):
            bea.account_id = account_id
            error = await bea.fail(name)
            assert error["type"] == "accountNotSupportedByMethod", (name, account_id)


async def test_hidden_users_are_seen_by_those_they_share_with(world: World) -> None:
    people = await add_people(world)
    bea, cleo, _ = people
    team = await world.add_mailbox("Team")
    await share(world, team, bea, READ)
    world.services = replace(world.services, are_users_visible=False)
    assert set(await _list(bea)) == {"u-alex", "u-bea"}
    assert set(await _list(cleo)) == {"u-cleo"}
    home = world.caller.user.home_account_id
    seen = await world.call("Principal/get", accountId=home, ids=None)
    assert {obj["id"] for obj in seen["list"]} == {"u-alex", "u-bea"}
    # One who is hidden and one who never was are refused alike.
    answers = []
    for id in ("u-cleo", "u-nobody"):
        done = await world.call("Mailbox/set", update={team: {f"shareWith/{id}": READ}})
        answers.append(encode(done["notUpdated"][team]).replace(id, "?"))
    assert answers[0] == answers[1]


# -- ShareNotification -----------------------------------------------------------------------------
async def _notes(world: World, person: Person) -> list[dict[str, Any]]:
    await run_timers(world)
    got = await person.call("ShareNotification/get", ids=None)
    return sorted(got["list"], key=lambda note: str(note["created"]))


async def test_rights_given_changed_and_taken_are_told(world: World) -> None:
    people = await add_people(world)
    bea = people[0]
    team = await world.add_mailbox("Team")
    for rights in (READ, READ | {"maySetSeen": True}, READ | {"maySetSeen": True}, None):
        await share(world, team, bea, rights)
        world.clock.advance(60_000)
    notes = await _notes(world, bea)
    assert len(notes) == 3, "what changes nothing is no news"
    given, changed, taken = notes
    assert given["oldRights"] is None
    assert [name for name, held in given["newRights"].items() if held] == ["mayReadItems"]
    assert changed["oldRights"] == given["newRights"]
    assert changed["newRights"]["maySetSeen"] is True
    assert (taken["oldRights"], taken["newRights"]) == (changed["newRights"], None)
    for note in notes:
        assert note["changedBy"] == {"name": "alex", "email": None, "principalId": "u-alex"}
        assert (note["objectType"], note["objectId"]) == ("Mailbox", team)
        assert (note["objectAccountId"], note["name"]) == (world.account_id, "Team")
    assert await _notes(world, people[1]) == []


async def test_notifications_are_queried_and_only_destroyed(world: World) -> None:
    people = await add_people(world)
    bea = people[0]
    state = (await bea.call("ShareNotification/get", ids=[]))["state"]
    begin = await bea.call("ShareNotification/query")
    mailboxes = [await world.add_mailbox(name) for name in ("One", "Two")]
    for id in mailboxes:
        await share(world, id, bea, READ)
        await run_timers(world)
        world.clock.advance(60_000)
    one, two = await _notes(world, bea)
    by_time = {"sort": [{"property": "created", "isAscending": False}]}
    assert (await bea.call("ShareNotification/query", **by_time))["ids"] == [two["id"], one["id"]]

    async def query(**filter: Any) -> list[str]:
        return list((await bea.call("ShareNotification/query", filter=filter))["ids"])

    assert await query(after=two["created"]) == [two["id"]]
    assert await query(before=two["created"]) == [one["id"]]
    assert set(await query(after=None, objectType="Mailbox")) == {one["id"], two["id"]}
    assert await query(objectType="Calendar") == []
    assert await query(objectAccountId="a-other") == []
    error = await bea.fail("ShareNotification/query", filter={"after": "yesterday"})
    assert error["type"] == "invalidArguments"
    changes = await bea.call("ShareNotification/changes", sinceState=state)
    assert set(changes["created"]) == {one["id"], two["id"]}
    done = await bea.call(
        "ShareNotification/set",
        create={"k": {"name": "x"}},
        update={one["id"]: {"name": "x"}},
        destroy=[two["id"], "n-other"],
    )
    assert done["notCreated"]["k"]["type"] == "forbidden"
    assert done["notUpdated"][one["id"]]["type"] == "forbidden"
    assert (done["destroyed"], list(done["notDestroyed"])) == ([two["id"]], ["n-other"])
    moved = await bea.call("ShareNotification/queryChanges", sinceQueryState=begin["queryState"])
    assert [item["id"] for item in moved["added"]] == [one["id"]]


async def test_a_notice_done_twice_makes_one_notification(world: World) -> None:
    """The process may stop between making it and forgetting its timer."""
    people = await add_people(world)
    bea = people[0]
    await share(world, await world.add_mailbox("Team"), bea, READ)
    account_id = AccountId(world.account_id)
    now_ms = world.clock.now_ms()
    [row] = await world.services.store.read(account_id, lambda r: r.list_timers(now_ms, 9))
    for _ in range(2):
        handler = world.registry.timers[row.kind]
        await handler(world.services, account_id, row.key, msgspec.json.decode(row.payload))
    assert len(await _notes(world, bea)) == 1


async def test_notifications_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    people = await add_people(world)
    monkeypatch.setattr("tindra.base.limits.SHARE_NOTIFICATIONS_MAX", 3)
    bea = people[0]
    team = await world.add_mailbox("Team")
    for number in range(5):
        await share(world, team, bea, None if number % 2 else READ)
        await run_timers(world)
        world.clock.advance(1000)
    notes = await _notes(world, bea)
    assert [note["newRights"] is None for note in notes] == [False, True, False]


async def test_a_notice_for_somebody_who_left_is_dropped(world: World) -> None:
    people = await add_people(world)
    bea = people[0]
    await share(world, await world.add_mailbox("Team"), bea, READ)
    await world.services.directory.delete_account(bea.user.home_account_id)
    await run_timers(world)
    due = await world.services.store.list_due(world.clock.now_ms(), 9)
    assert due == []


async def test_who_subscribes_has_seen_what_was_told(world: World) -> None:
    bea = (await add_people(world))[0]
    teams = [await world.add_mailbox(name) for name in ("One", "Two")]
    for team in teams:
        await share(world, team, bea, READ)
    assert len(await _notes(world, bea)) == 2
    bea.account_id = world.account_id
    for is_subscribed in (False, True):
        update = {teams[0]: {"isSubscribed": is_subscribed}}
        assert (await bea.call("Mailbox/set", update=update))["updated"]
    bea.account_id = bea.user.home_account_id
    assert [note["objectId"] for note in await _notes(world, bea)] == [teams[1]]
