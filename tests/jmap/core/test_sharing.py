"""What a user sees of an account of which single Mailboxes are shared with them (RFC 9670)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.jmap.mail_fixture import encode, make_raw
from tests.jmap.sharing_fixture import (
    EVERYTHING,
    READ,
    PartDevice,
    Person,
    add_person,
    run_timers,
    share,
)
from tests.world import World


class Scene:
    """alex has three Mailboxes; "Team" is shared with bea; a Thread spans Team and Private."""

    def __init__(self, world: World, bea: Person) -> None:
        self.world = world
        self.bea = bea
        self.team = self.private = self.other = ""
        self.emails: dict[str, str] = {}


async def open_scene(world: World, rights: dict[str, bool] | None = None) -> Scene:
    scene = Scene(world, await add_person(world, "bea@example.org"))
    scene.team = await world.add_mailbox("Team")
    scene.private = await world.add_mailbox("Private")
    scene.other = await world.add_mailbox("Other")
    await share(world, scene.team, scene.bea, READ if rights is None else rights)
    for name, place, reply in (
        ("one", scene.team, ""),
        ("two", scene.private, "<one@fjord.test>"),
        ("three", scene.private, ""),
    ):
        raw = make_raw(
            subject="Re: Plan" if name != "three" else "Secret", message_id=f"{name}@fjord.test",
            References=reply, body=f"words of {name} zebra\r\n",
        )  # fmt: skip
        scene.emails[name] = await world.add_email(place, raw)
    return scene


async def test_only_the_shared_mailbox_and_its_emails_are_there(world: World) -> None:
    scene = await open_scene(world)
    bea, emails = scene.bea, scene.emails
    [mailbox] = (await bea.get("Mailbox")).values()
    assert (mailbox["id"], mailbox["totalEmails"], mailbox["parentId"]) == (scene.team, 1, None)
    assert mailbox["myRights"]["mayReadItems"] is True
    assert mailbox["myRights"]["mayAddItems"] is False
    [email] = (await bea.get("Email")).values()
    assert (email["id"], email["mailboxIds"]) == (emails["one"], {scene.team: True})
    got = await bea.call("Email/get", ids=list(emails.values()), properties=["id"])
    unknown = await bea.call("Email/get", ids=["e00000000000"], properties=["id"])
    assert got["notFound"] == [emails["two"], emails["three"]]
    assert unknown["notFound"] == ["e00000000000"]
    [thread] = (await bea.get("Thread")).values()
    assert thread["emailIds"] == [emails["one"]]
    assert len((await world.call("Thread/get", ids=[thread["id"]]))["list"][0]["emailIds"]) == 2


async def test_queries_see_no_more_than_gets(world: World) -> None:
    scene = await open_scene(world)
    bea, one = scene.bea, scene.emails["one"]

    async def query(**arguments: Any) -> list[str]:
        found = await bea.call("Email/query", calculateTotal=True, **arguments)
        assert found["total"] == len(found["ids"])
        return list(found["ids"])

    assert await query() == [one]
    assert await query(filter={"text": "zebra"}) == [one]
    assert await query(filter={"inMailbox": scene.team}) == [one]
    assert await query(filter={"inMailbox": scene.private}) == []
    assert await query(filter={"operator": "NOT", "conditions": [{"text": "nothing"}]}) == [one]
    assert await query(collapseThreads=True) == [one]
    snippets = await bea.call(
        "SearchSnippet/get", filter={"text": "zebra"}, emailIds=list(scene.emails.values())
    )
    assert [s["emailId"] for s in snippets["list"]] == [one]
    assert set(snippets["notFound"]) == {scene.emails["two"], scene.emails["three"]}
    assert (await bea.call("Mailbox/query"))["ids"] == [scene.team]
    error = await bea.fail(
        "Email/query", sort=[{"property": "someInThreadHaveKeyword", "keyword": "$seen"}]
    )
    assert error["type"] == "unsupportedSort"


async def test_no_condition_tells_of_what_is_out_of_sight(world: World) -> None:
    """An Email in a visible and an invisible Mailbox, and a Thread of which half is visible."""
    scene = await open_scene(world)
    bea, one = scene.bea, scene.emails["one"]
    moves = {f"mailboxIds/{scene.private}": True}
    marks = {"keywords/$flagged": True}
    await world.call("Email/set", update={one: moves, scene.emails["two"]: marks})

    async def query(filter: dict[str, Any]) -> list[str]:
        return list((await bea.call("Email/query", filter=filter))["ids"])

    assert (await bea.get("Email"))[one]["mailboxIds"] == {scene.team: True}
    assert await query({"inMailbox": scene.private}) == []
    assert await query({"inMailboxOtherThan": [scene.team]}) == []
    assert await query({"inMailboxOtherThan": [scene.private]}) == [one]
    assert await query({"someInThreadHaveKeyword": "$flagged"}) == []
    assert await query({"noneInThreadHaveKeyword": "$flagged"}) == [one]
    assert await query({"allInThreadHaveKeyword": "$flagged"}) == []
    await world.call("Email/set", update={one: marks})
    assert await query({"someInThreadHaveKeyword": "$flagged"}) == [one]
    assert await query({"allInThreadHaveKeyword": "$flagged"}) == [one]
    assert await query({"noneInThreadHaveKeyword": "$flagged"}) == []


async def test_unread_threads_count_what_is_in_sight(world: World) -> None:
    scene = await open_scene(world)
    one, two = scene.emails["one"], scene.emails["two"]
    await world.call("Email/set", update={one: {"keywords/$seen": True}})
    own = (await world.call("Mailbox/get", ids=[scene.team]))["list"][0]
    assert (own["unreadEmails"], own["unreadThreads"]) == (0, 1)
    seen = (await scene.bea.get("Mailbox"))[scene.team]
    assert (seen["unreadEmails"], seen["unreadThreads"]) == (0, 0)
    await share(world, scene.private, scene.bea, READ)
    seen = (await scene.bea.get("Mailbox"))[scene.team]
    assert (seen["unreadEmails"], seen["unreadThreads"]) == (0, 1)
    device = PartDevice(scene.bea)
    await device.sync()
    await world.call("Email/set", update={two: {"keywords/$seen": True}})
    await device.check()
    assert device.objects["Mailbox"][scene.team]["unreadThreads"] == 0


async def test_a_mailbox_without_the_right_to_read_shows_itself_and_nothing_in_it(
    world: World,
) -> None:
    scene = await open_scene(world, {"mayAddItems": True})
    [mailbox] = (await scene.bea.get("Mailbox")).values()
    counts = [mailbox[name] for name in ("totalEmails", "unreadEmails", "totalThreads")]
    assert (mailbox["id"], counts) == (scene.team, [0, 0, 0])
    assert await scene.bea.get("Email") == {}
    assert (await scene.bea.call("Email/query", filter={"inMailbox": scene.team}))["ids"] == []


async def test_the_whole_account_is_unknown_to_others_and_to_who_lost_all(world: World) -> None:
    scene = await open_scene(world)
    cleo = await add_person(world, "cleo@example.org")
    foreign = await cleo.fail("Mailbox/get", ids=None)
    cleo.account_id = "a-that-never-was"
    unknown = await cleo.fail("Mailbox/get", ids=None)
    assert foreign == unknown
    stale = await scene.bea.load_caller()
    await share(world, scene.team, scene.bea, None)
    assert await scene.bea.fail("Mailbox/get", ids=None) == unknown
    # Who is signed in and still believed is refused by the rights that are read with the data.
    [[name, error, _]] = await scene.bea.calls([["Email/get", {"ids": None}, "0"]], stale)
    assert (name, error) == ("error", unknown)
    update = {"update": {scene.emails["one"]: {"keywords/$seen": True}}}
    [[name, error, _]] = await scene.bea.calls([["Email/set", update, "0"]], stale)
    assert (name, error) == ("error", unknown)


async def test_methods_that_know_only_whole_accounts_are_not_for_a_part(world: World) -> None:
    scene = await open_scene(world, EVERYTHING)
    methods = world.registry.methods.items()
    not_of_accounts = ("Core/", "PushSubscription/")
    account_methods = [
        name
        for name, method in methods
        if not method.supports_parts and not name.startswith(not_of_accounts)
    ]
    assert {"Identity/get", "EmailSubmission/set", "Connection/get"} <= set(account_methods)
    for name in account_methods:
        error = await scene.bea.fail(name)
        assert error["type"] == "accountNotSupportedByMethod", name


async def test_blobs_of_visible_messages_only(world: World) -> None:
    scene = await open_scene(world)
    blobs = {
        obj["id"]: obj["blobId"]
        for obj in (await world.call("Email/get", ids=None, properties=["blobId"]))["list"]
    }
    ids = [blobs[scene.emails[name]] for name in ("one", "two")]
    parsed = await scene.bea.call("Email/parse", blobIds=ids, properties=["subject"])
    assert list(parsed["parsed"]) == [ids[0]]
    assert parsed["notFound"] == [ids[1]]


async def test_changes_tell_of_what_came_into_sight_and_went_out_of_it(world: World) -> None:
    scene = await open_scene(world)
    bea, one, three = scene.bea, scene.emails["one"], scene.emails["three"]
    state = (await bea.call("Email/get", ids=[]))["state"]
    threads = (await bea.call("Thread/get", ids=[]))["state"]
    thread_of = {
        obj["id"]: obj["threadId"]
        for obj in (await world.call("Email/get", ids=None, properties=["threadId"]))["list"]
    }
    await world.call(
        "Email/set",
        update={
            one: {"mailboxIds": {scene.private: True}},
            three: {f"mailboxIds/{scene.team}": True},
            scene.emails["two"]: {"keywords/$flagged": True},
        },
    )
    changes = await bea.call("Email/changes", sinceState=state)
    told = (changes["created"], changes["updated"], changes["destroyed"])
    assert told == ([three], [], [one])
    changes = await bea.call("Thread/changes", sinceState=threads)
    told = (changes["created"], changes["updated"], changes["destroyed"])
    assert told == ([thread_of[three]], [], [thread_of[one]])
    state = (await bea.call("Email/get", ids=[]))["state"]
    await world.call("Email/set", destroy=[three, scene.emails["two"]])
    changes = await bea.call("Email/changes", sinceState=state)
    assert (changes["created"], changes["destroyed"]) == ([], [three])


async def test_a_change_of_rights_makes_old_states_too_old(world: World) -> None:
    scene = await open_scene(world)
    states = {}
    for name in ("Email", "Thread", "Mailbox"):
        states[name] = (await scene.bea.call(f"{name}/get", ids=[]))["state"]
        await scene.bea.call(f"{name}/changes", sinceState=states[name])
    query = (await scene.bea.call("Email/query"))["queryState"]
    await share(world, scene.other, scene.bea, READ)
    for name, state in states.items():
        error = await scene.bea.fail(f"{name}/changes", sinceState=state)
        assert error["type"] == "cannotCalculateChanges", name
    error = await scene.bea.fail("Email/queryChanges", sinceQueryState=query)
    assert error["type"] == "cannotCalculateChanges"


async def test_states_of_a_part_and_of_the_whole_are_never_mistaken(world: World) -> None:
    scene = await open_scene(world)
    whole = (await world.call("Email/get", ids=[]))["state"]
    part = (await scene.bea.call("Email/get", ids=[]))["state"]
    assert (await scene.bea.fail("Email/changes", sinceState=whole))["type"] == (
        "cannotCalculateChanges"
    )
    assert (await world.fail("Email/changes", sinceState=part))["type"] == "cannotCalculateChanges"


async def test_query_changes_follow_what_is_in_sight(world: World) -> None:
    scene = await open_scene(world)
    bea = scene.bea
    for filter in (None, {"inMailbox": scene.team}):
        before = await bea.call("Email/query", filter=filter)
        await world.call(
            "Email/set",
            update={
                scene.emails["one"]: {"mailboxIds": {scene.private: True}},
                scene.emails["three"]: {"mailboxIds": {scene.team: True}},
            },
        )
        changes = await bea.call(
            "Email/queryChanges", filter=filter, sinceQueryState=before["queryState"]
        )
        kept = [id for id in before["ids"] if id not in changes["removed"]]
        for item in changes["added"]:
            kept.insert(item["index"], item["id"])
        assert kept == (await bea.call("Email/query", filter=filter))["ids"]
        await world.call(
            "Email/set",
            update={
                scene.emails["three"]: {"mailboxIds": {scene.private: True}},
                scene.emails["one"]: {"mailboxIds": {scene.team: True}},
            },
        )


async def test_a_destroyed_mailbox_ends_its_shares_and_its_viewers_are_told(world: World) -> None:
    scene = await open_scene(world)
    await share(world, scene.other, scene.bea, READ)
    device = PartDevice(scene.bea)
    await device.sync()
    await world.call("Mailbox/set", destroy=[scene.team], onDestroyRemoveEmails=True)
    await device.check()
    assert list(device.objects["Mailbox"]) == [scene.other]
    await run_timers(world)
    bea = scene.bea
    bea.account_id = bea.user.home_account_id
    notes = (await bea.call("ShareNotification/get", ids=None))["list"]
    [end] = [note for note in notes if note["newRights"] is None]
    assert (end["objectId"], end["name"]) == (scene.team, "Team")
    assert end["changedBy"]["principalId"] is None


async def test_an_owner_pays_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shared account: the same store calls for its owner as before it was shared."""
    inbox = await world.add_mailbox("Inbox", role="inbox")
    await world.add_email(inbox, make_raw())
    store = world.services.store
    counted: list[str] = []
    whole_read = store.read

    async def read(account_id: Any, fn: Any, *, is_long: bool = False) -> Any:
        async def run(reader: Any) -> Any:
            return await fn(_Counting(reader, counted))

        return await whole_read(account_id, run, is_long=is_long)

    async def open_and_follow() -> list[str]:
        counted.clear()
        answers = await world.calls(
            [
                ["Mailbox/get", {"ids": None}, "0"],
                ["Email/query", {"filter": {"inMailbox": inbox}}, "1"],
                ["Email/get", {"#ids": {"resultOf": "1", "name": "Email/query", "path": "/ids"}},
                 "2"],
            ]
        )  # fmt: skip
        state = answers[2][1]["state"]
        await world.calls([["Email/changes", {"sinceState": state}, "3"]])
        return list(counted)

    monkeypatch.setattr(store, "read", read)
    world.devices = []
    before = await open_and_follow()
    bea = await add_person(world, "bea@example.org")
    await share(world, inbox, bea, READ)
    assert await open_and_follow() == before
    assert "list_shares" not in before


class _Counting:
    """A reader that notes which of its methods are called."""

    def __init__(self, reader: Any, counted: list[str]) -> None:
        self._reader = reader
        self._counted = counted

    def __getattr__(self, name: str) -> Any:
        if name != "account_id":
            self._counted.append(name)
        return getattr(self._reader, name)


async def test_nothing_of_the_rest_of_the_account_stands_in_any_answer(world: World) -> None:
    scene = await open_scene(world, EVERYTHING)
    hidden = [scene.private, scene.other, scene.emails["two"], scene.emails["three"], "Secret"]
    state = (await scene.bea.call("Email/get", ids=[]))["state"]
    await world.call("Email/set", update={scene.emails["two"]: {"keywords/$flagged": True}})
    answers = await scene.bea.calls(
        [
            ["Mailbox/get", {"ids": None, "properties": ["id", "name", "shareWith"]}, "0"],
            ["Mailbox/get", {"ids": None}, "1"],
            ["Email/get", {"ids": None}, "2"],
            ["Thread/get", {"ids": None}, "3"],
            ["Email/query", {}, "4"],
            ["Email/changes", {"sinceState": state}, "5"],
            ["Mailbox/changes", {"sinceState": state}, "6"],
        ]
    )
    text = encode(answers)
    for secret in hidden:
        assert secret not in text


async def test_conditions_that_would_cost_too_much_are_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = await open_scene(world)
    part_filter = "tindra.features.mail.sharing.part_filter"
    monkeypatch.setattr(f"{part_filter}.PLACES_MAX", 2)
    monkeypatch.setattr(f"{part_filter}.THREAD_EMAILS_MAX", 2)
    for name, value in (
        ("inMailboxOtherThan", [scene.private]),
        ("allInThreadHaveKeyword", "$flagged"),
    ):
        for count, is_fine in ((2, True), (3, False)):
            filter = {"operator": "OR", "conditions": [{name: value}] * count}
            [[answered, result, _]] = await scene.bea.calls(
                [["Email/query", {"filter": filter}, "0"]]
            )
            assert (answered == "Email/query") is is_fine, (name, count)
            assert is_fine or result["type"] == "unsupportedFilter"
