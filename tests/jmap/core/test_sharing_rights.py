"""Each right of a Mailbox: what it allows, and that nothing else allows it (RFC 8621 s2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.jmap.mail_fixture import encode, make_raw
from tests.jmap.sharing_fixture import (
    EVERYTHING,
    READ,
    Person,
    add_person,
    run_timers,
    share,
)
from tests.world import World
from tindra.base.ids import AccountId
from tindra.model.account import ALL_RIGHTS, Account, Grant

TEAM, SECOND, HIDDEN, CHILD = "Team", "Second", "Hidden", "Child"


class Scene:
    """bea sees Team (with the rights of the test), Second (with all) and Child under Team (the
    same as Team); Hidden is the owner's alone."""

    def __init__(self, world: World, bea: Person) -> None:
        self.world = world
        self.bea = bea
        self.places: dict[str, str] = {}
        self.email = self.elsewhere = self.both = ""

    async def set(self, name: str, **arguments: Any) -> str:
        """The outcome of a /set of one object: "done", or the type of its SetError."""
        [[answered, result, _], *_] = await self.bea.calls([[name, arguments, "0"]])
        if answered == "error":
            return str(result["type"])
        for part in ("notCreated", "notUpdated", "notDestroyed"):
            for error in (result.get(part) or {}).values():
                return str(error["type"])
        return "done"

    async def upload(self, raw: bytes) -> str:
        """As an upload of hers leaves it."""
        home = AccountId(self.bea.user.home_account_id)
        return str((await self.world.services.blobs.put(home, raw)).id)


async def open_scene(world: World, rights: dict[str, bool]) -> Scene:
    scene = Scene(world, await add_person(world, "bea@example.org"))
    for name in (TEAM, SECOND, HIDDEN):
        scene.places[name] = await world.add_mailbox(name)
    scene.places[CHILD] = await world.add_mailbox(CHILD, parentId=scene.places[TEAM])
    for name, given in ((TEAM, rights), (CHILD, rights), (SECOND, EVERYTHING)):
        await share(world, scene.places[name], scene.bea, given)
    team, second = scene.places[TEAM], scene.places[SECOND]
    scene.email = await world.add_email(team, make_raw(message_id="a@fjord.test"))
    scene.elsewhere = await world.add_email(second, make_raw(message_id="b@fjord.test"))
    scene.both = await world.add_email(
        team,
        make_raw(message_id="c@fjord.test"),
        mailboxIds={team: True, scene.places[HIDDEN]: True},
    )
    return scene


Deed = Callable[[Scene], Awaitable[str]]


async def add_by_create(scene: Scene) -> str:
    draft = {"mailboxIds": {scene.places[TEAM]: True}, "subject": "new"}
    return await scene.set("Email/set", create={"k": draft})


async def add_by_import(scene: Scene) -> str:
    blob = await scene.upload(make_raw(message_id="new@fjord.test"))
    place = {"blobId": blob, "mailboxIds": {scene.places[TEAM]: True}}
    return await scene.set("Email/import", emails={"k": place})


async def add_by_move(scene: Scene) -> str:
    patch = {f"mailboxIds/{scene.places[TEAM]}": True}
    return await scene.set("Email/set", update={scene.elsewhere: patch})


async def add_by_copy(scene: Scene) -> str:
    """From an account that is her own."""
    world, directory = scene.world, scene.world.services.directory
    own = await add_person(world, "own@example.org")
    account_id = AccountId(own.user.home_account_id)
    await directory.put_grant(Grant(scene.bea.user.id, account_id, frozenset({"read", "triage"})))
    bea = scene.bea
    shared_id, bea.account_id = bea.account_id, account_id
    made = await bea.call("Mailbox/set", create={"m": {"name": "Mine"}})
    mine = made["created"]["m"]["id"]
    blob = (await world.services.blobs.put(account_id, make_raw(message_id="m@fjord.test"))).id
    place = {"blobId": blob, "mailboxIds": {mine: True}}
    made = await bea.call("Email/import", emails={"k": place})
    bea.account_id = shared_id
    copy = {"id": made["created"]["k"]["id"], "mailboxIds": {scene.places[TEAM]: True}}
    return await scene.set("Email/copy", fromAccountId=account_id, create={"k": copy})


async def remove_by_move(scene: Scene) -> str:
    places = {scene.places[SECOND]: True}
    return await scene.set("Email/set", update={scene.email: {"mailboxIds": places}})


async def remove_by_destroy(scene: Scene) -> str:
    return await scene.set("Email/set", destroy=[scene.email])


async def set_seen(scene: Scene) -> str:
    return await scene.set("Email/set", update={scene.email: {"keywords/$seen": True}})


async def set_keyword(scene: Scene) -> str:
    return await scene.set("Email/set", update={scene.email: {"keywords/$flagged": True}})


async def create_child(scene: Scene) -> str:
    child = {"name": "New", "parentId": scene.places[TEAM]}
    return await scene.set("Mailbox/set", create={"m": child})


async def rename(scene: Scene) -> str:
    return await scene.set("Mailbox/set", update={scene.places[TEAM]: {"name": "Else"}})


async def delete(scene: Scene) -> str:
    return await scene.set("Mailbox/set", destroy=[scene.places[CHILD]])


async def share_further(scene: Scene) -> str:
    cleo = await add_person(scene.world, "cleo@example.org")
    patch = {f"shareWith/{cleo.user.id}": READ}
    return await scene.set("Mailbox/set", update={scene.places[TEAM]: patch})


async def read(scene: Scene) -> str:
    got = await scene.bea.call("Email/get", ids=[scene.email], properties=["id"])
    return "done" if got["list"] else "notFound"


MATRIX: list[tuple[str, Deed]] = [
    ("mayReadItems", read),
    ("mayAddItems", add_by_create),
    ("mayAddItems", add_by_import),
    ("mayAddItems", add_by_move),
    ("mayAddItems", add_by_copy),
    ("mayRemoveItems", remove_by_move),
    ("mayRemoveItems", remove_by_destroy),
    ("maySetSeen", set_seen),
    ("maySetKeywords", set_keyword),
    ("mayCreateChild", create_child),
    ("mayRename", rename),
    ("mayDelete", delete),
    ("mayShare", share_further),
]
CASES = pytest.mark.parametrize(("right", "deed"), MATRIX, ids=[d.__name__ for _, d in MATRIX])


@CASES
async def test_what_a_right_allows(world: World, right: str, deed: Deed) -> None:
    """With it and the right to read alone, the deed is done."""
    scene = await open_scene(world, READ | {right: True})
    assert await deed(scene) == "done"


@CASES
async def test_nothing_but_that_right_allows_it(world: World, right: str, deed: Deed) -> None:
    """All other rights together do not."""
    scene = await open_scene(world, EVERYTHING | {right: False})
    emails = await world.call("Email/get", ids=None, properties=["id", "mailboxIds", "keywords"])
    mailboxes = await world.call("Mailbox/get", ids=None, properties=["id", "name"])
    assert await deed(scene) == ("notFound" if right == "mayReadItems" else "forbidden")
    after = await world.call("Email/get", ids=None, properties=["id", "mailboxIds", "keywords"])
    assert after["list"] == emails["list"]
    left = await world.call("Mailbox/get", ids=None, properties=["id", "name"])
    assert left["list"] == mailboxes["list"]


async def test_keywords_need_the_right_in_all_mailboxes_of_the_email(world: World) -> None:
    """Also in one that the viewer does not see. Source: RFC 8621 s2"""
    scene = await open_scene(world, EVERYTHING)
    for keyword in ("$seen", "$flagged"):
        patch = {f"keywords/{keyword}": True}
        assert await scene.set("Email/set", update={scene.both: patch}) == "forbidden"
        assert await scene.set("Email/set", update={scene.email: patch}) == "done"


async def test_what_is_destroyed_in_a_part_stays_where_else_it_is(world: World) -> None:
    scene = await open_scene(world, EVERYTHING)
    assert await scene.set("Email/set", destroy=[scene.both]) == "done"
    assert scene.both not in await scene.bea.get("Email")
    [left] = (await world.call("Email/get", ids=[scene.both], properties=["mailboxIds"]))["list"]
    assert left["mailboxIds"] == {scene.places[HIDDEN]: True}
    assert await scene.set("Email/set", destroy=[scene.email]) == "done"
    assert (await world.call("Email/get", ids=[scene.email]))["notFound"] == [scene.email]


async def test_a_move_in_a_part_leaves_the_mailboxes_out_of_sight(world: World) -> None:
    scene = await open_scene(world, EVERYTHING)
    places = {"mailboxIds": {scene.places[SECOND]: True}}
    assert await scene.set("Email/set", update={scene.both: places}) == "done"
    [moved] = (await world.call("Email/get", ids=[scene.both], properties=["mailboxIds"]))["list"]
    assert moved["mailboxIds"] == {scene.places[SECOND]: True, scene.places[HIDDEN]: True}


async def test_mailboxes_out_of_sight_are_unknown_to_every_writer(world: World) -> None:
    scene = await open_scene(world, EVERYTHING)
    hidden, unknown = scene.places[HIDDEN], "m-that-never-was"
    for id in (hidden, unknown):
        into = {f"mailboxIds/{id}": True}
        assert await scene.set("Email/set", update={scene.email: into}) == "invalidProperties"
        assert await scene.set("Mailbox/set", update={id: {"name": "x"}}) == "notFound"
        assert await scene.set("Mailbox/set", destroy=[id]) == "notFound"
        place = {scene.places[TEAM]: {"parentId": id}}
        assert await scene.set("Mailbox/set", update=place) in ("forbidden", "invalidProperties")
        patch = {"name": "New", "parentId": id}
        assert await scene.set("Mailbox/set", create={"m": patch}) == "forbidden"


async def test_role_order_and_the_top_are_the_owners(world: World) -> None:
    scene = await open_scene(world, EVERYTHING)
    for patch in ({"role": "archive"}, {"sortOrder": 7}, {"parentId": None}):
        update = {scene.places[CHILD]: patch}
        assert await scene.set("Mailbox/set", update=update) == "forbidden", patch
    assert await scene.set("Mailbox/set", create={"m": {"name": "Top"}}) == "forbidden"


async def test_a_viewer_subscribes_for_themselves(world: World) -> None:
    scene = await open_scene(world, READ)
    team = scene.places[TEAM]
    update = {team: {"isSubscribed": False}}
    state = (await scene.bea.call("Mailbox/get", ids=[]))["state"]
    assert await scene.set("Mailbox/set", update=update) == "done"
    changes = await scene.bea.call("Mailbox/changes", sinceState=state)
    assert team in changes["updated"]
    assert changes["updatedProperties"] is None
    assert (await scene.bea.get("Mailbox"))[team]["isSubscribed"] is False
    [own] = (await world.call("Mailbox/get", ids=[team]))["list"]
    assert own["isSubscribed"] is True


async def test_what_is_made_under_a_shared_mailbox_is_shared_as_that_is(world: World) -> None:
    scene = await open_scene(world, READ | {"mayCreateChild": True})
    made = await scene.bea.call(
        "Mailbox/set", create={"m": {"name": "New", "parentId": scene.places[TEAM]}}
    )
    id = made["created"]["m"]["id"]
    assert made["created"]["m"]["myRights"]["mayCreateChild"] is True
    seen = (await scene.bea.get("Mailbox"))[id]
    assert (seen["parentId"], seen["myRights"]["mayRename"]) == (scene.places[TEAM], False)
    await run_timers(world)
    told = await scene.bea.call(
        "ShareNotification/get", accountId=scene.bea.user.home_account_id, ids=None
    )
    assert id not in {note["objectId"] for note in told["list"]}, "it is her own doing"
    cleo = await add_person(world, "cleo@example.org")
    wider = {"name": "Wide", "parentId": id, "shareWith": {cleo.user.id: READ}}
    assert await scene.set("Mailbox/set", create={"m": wider}) == "forbidden"


async def test_nobody_gives_what_they_do_not_hold(world: World) -> None:
    scene = await open_scene(world, READ | {"mayShare": True})
    cleo = await add_person(world, "cleo@example.org")
    team = scene.places[TEAM]
    more = {f"shareWith/{cleo.user.id}": READ | {"mayAddItems": True}}
    assert await scene.set("Mailbox/set", update={team: more}) == "forbidden"
    own = {f"shareWith/{scene.bea.user.id}/mayAddItems": True}
    assert await scene.set("Mailbox/set", update={team: own}) == "forbidden"
    same = {f"shareWith/{cleo.user.id}": READ}
    assert await scene.set("Mailbox/set", update={team: same}) == "done"
    [shown] = (await scene.bea.call("Mailbox/get", ids=[team], properties=["shareWith"]))["list"]
    assert set(shown["shareWith"]) == {cleo.user.id, scene.bea.user.id}


async def test_a_message_that_is_out_of_sight_already_is_not_put_beside(world: World) -> None:
    scene = await open_scene(world, EVERYTHING)
    raw = make_raw(message_id="hidden@fjord.test")
    await world.add_email(scene.places[HIDDEN], raw)
    place = {"blobId": await scene.upload(raw), "mailboxIds": {scene.places[TEAM]: True}}
    assert await scene.set("Email/import", emails={"k": place}) == "forbidden"
    blob = await scene.upload(make_raw(message_id="a@fjord.test"))
    twin = {"blobId": blob, "mailboxIds": {scene.places[TEAM]: True}}
    assert await scene.set("Email/import", emails={"k": twin}) == "alreadyExists"


# -- shareWith -------------------------------------------------------------------------------------
async def test_share_with_is_read_and_written_whole_and_in_part(world: World) -> None:
    scene = await open_scene(world, READ)
    bea, cleo = scene.bea.user.id, (await add_person(world, "cleo@example.org")).user.id
    team = scene.places[TEAM]

    async def load() -> Any:
        got = await world.call("Mailbox/get", ids=[team], properties=["shareWith"])
        return got["list"][0]["shareWith"]

    nothing = dict.fromkeys(await _all_rights(world, team), False)
    assert await load() == {bea: nothing | READ}
    both = {bea: READ | {"maySetSeen": True}, cleo: READ}
    state = (await world.call("Mailbox/get", ids=[]))["state"]
    await world.call("Mailbox/set", update={team: {"shareWith": both}})
    assert await load() == {bea: nothing | both[bea], cleo: nothing | READ}
    assert team in (await world.call("Mailbox/changes", sinceState=state))["updated"]
    await world.call("Mailbox/set", update={team: {f"shareWith/{cleo}/mayReadItems": False}})
    assert await load() == {bea: nothing | both[bea]}
    await world.call("Mailbox/set", update={team: {"shareWith": None}})
    assert await load() is None
    made = await world.call("Mailbox/set", create={"m": {"name": "Born", "shareWith": both}})
    team = made["created"]["m"]["id"]
    assert set(await load()) == {bea, cleo}


async def _all_rights(world: World, id: str) -> list[str]:
    [row] = (await world.call("Mailbox/get", ids=[id], properties=["myRights"]))["list"]
    assert all(row["myRights"].values())
    return list(row["myRights"])


@pytest.mark.parametrize(
    "value",
    [
        7,
        [],
        {"u-nobody": READ},
        {"u-alex": READ},
        {"u-bea": None},
        {"u-bea": {"mayFly": True}},
        {"u-bea": {"mayReadItems": 1}},
        {"u-bea": {"maySubmit": True}},
        {"not an id": READ},
    ],
    ids=str,
)
async def test_a_wrong_share_with_is_refused_by_name(world: World, value: Any) -> None:
    scene = await open_scene(world, READ)
    team = scene.places[TEAM]
    before = encode(await world.call("Mailbox/get", ids=[team], properties=["shareWith"]))
    done = await world.call("Mailbox/set", update={team: {"shareWith": value}})
    error = done["notUpdated"][team]
    assert (error["type"], error["properties"]) == ("invalidProperties", ["shareWith"])
    after = encode(await world.call("Mailbox/get", ids=[team], properties=["shareWith"]))
    assert before == after


async def test_who_triages_an_account_does_not_share_it(world: World) -> None:
    scene = await open_scene(world, READ)
    dora = await add_person(world, "dora@example.org")
    rights = frozenset({"read", "triage"})
    await world.services.directory.put_grant(
        Grant(dora.user.id, AccountId(world.account_id), rights)
    )
    team = scene.places[TEAM]
    [seen] = (await dora.call("Mailbox/get", ids=[team], properties=["shareWith", "myRights"]))[
        "list"
    ]
    assert (seen["shareWith"], seen["myRights"]["mayShare"]) == (None, False)
    patch = {"shareWith": None}
    done = await dora.call("Mailbox/set", update={team: patch})
    assert done["notUpdated"][team]["type"] == "forbidden"


async def test_shares_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await open_scene(world, READ)
    cleo = (await add_person(world, "cleo@example.org")).user.id
    team, hidden = scene.places[TEAM], scene.places[HIDDEN]
    monkeypatch.setattr("tindra.base.limits.SHARES_PER_MAILBOX_MAX", 1)
    done = await world.call("Mailbox/set", update={team: {f"shareWith/{cleo}": READ}})
    assert done["notUpdated"][team]["type"] == "overQuota"
    monkeypatch.setattr("tindra.base.limits.SHARES_PER_ACCOUNT_MAX", 3)
    done = await world.call("Mailbox/set", update={hidden: {f"shareWith/{cleo}": READ}})
    assert done["notUpdated"][hidden]["type"] == "overQuota"
    monkeypatch.setattr("tindra.base.limits.SHARES_PER_ACCOUNT_MAX", 9)
    monkeypatch.setattr("tindra.base.limits.SHARED_MAILBOXES_PER_USER_MAX", 3)
    patch = {f"shareWith/{scene.bea.user.id}": READ}
    done = await world.call("Mailbox/set", update={hidden: patch})
    assert done["notUpdated"][hidden]["type"] == "overQuota"


# -- between accounts, and what is named by blobs --------------------------------------------------
async def test_copies_out_of_a_part_take_only_what_is_in_sight(world: World) -> None:
    scene = await open_scene(world, READ)
    bea, directory = scene.bea, world.services.directory
    own = AccountId("a-bea")
    await directory.put_account(Account(own, "bea@example.org", bea.user.id, 1))
    await directory.put_grant(Grant(bea.user.id, own, ALL_RIGHTS))
    made = await bea.call("Mailbox/set", accountId=own, create={"m": {"name": "Mine"}})
    mine = {made["created"]["m"]["id"]: True}
    hidden = await world.add_email(scene.places[HIDDEN], make_raw(message_id="h@fjord.test"))
    create = {
        "seen": {"id": scene.email, "mailboxIds": mine},
        "hidden": {"id": hidden, "mailboxIds": mine},
        "unknown": {"id": "e00000000000", "mailboxIds": mine},
    }
    copy = {"fromAccountId": world.account_id, "accountId": own, "create": create}
    answers = await bea.calls([["Email/copy", copy | {"onSuccessDestroyOriginal": True}, "0"]])
    [_, copied, _], [_, destroyed, _] = answers
    assert list(copied["created"]) == ["seen"]
    assert copied["notCreated"]["hidden"] == copied["notCreated"]["unknown"]
    assert destroyed["notDestroyed"][scene.email]["type"] == "forbidden"


async def test_a_draft_attaches_only_what_is_in_sight(world: World) -> None:
    scene = await open_scene(world, EVERYTHING)
    hidden = await world.add_email(scene.places[HIDDEN], make_raw(message_id="h@fjord.test"))
    got = await world.call("Email/get", ids=[scene.email, hidden], properties=["blobId"])
    blobs = {obj["id"]: obj["blobId"] for obj in got["list"]}
    for id, outcome in ((scene.email, "done"), (hidden, "blobNotFound")):
        draft = {
            "mailboxIds": {scene.places[TEAM]: True},
            "subject": id,
            "attachments": [{"blobId": blobs[id], "type": "message/rfc822"}],
        }
        assert await scene.set("Email/set", create={"k": draft}) == outcome
