"""Who sees a part of an account, over HTTP: Session object, streams, uploads and downloads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from tests.jmap.mail_fixture import make_raw
from tests.server import world as server_world
from tests.server.asgi import ask
from tests.server.test_server_streams import listen, settle
from tests.server.world import ADA, BASIC, BOB, BOB_BASIC, BOBS, MAIL, World
from tindra.app.wiring import make_registry
from tindra.base.ids import AccountId
from tindra.model.sharing import PART_STATE_BASE
from tindra.server.sign_in import CALLER_FRESH_MS

HOME = AccountId("a-home")
READ = {"mayReadItems": True}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """The server with all features; the account of Bob has two Mailboxes with a message each."""
    monkeypatch.setattr(server_world, "make_registry", make_registry)
    world = World()
    world.add_account(HOME, ADA)
    return world


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


async def call(world: World, auth: str, name: str, **arguments: Any) -> dict[str, Any]:
    body = msgspec.json.encode(
        {
            "using": [uri for uri, c in world.registry.capabilities.items() if c.is_in_session],
            "methodCalls": [[name, {"accountId": BOBS} | arguments, "0"]],
        }
    )
    answer = await ask(
        world.app, "POST", "/jmap/api", body, auth=auth, content_type="application/json"
    )
    assert answer.status == 200, answer.body
    [[_, result, _]] = answer.json["methodResponses"]
    return dict(result)


class Scene:
    """Two Mailboxes of Bob with a message each."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.mailboxes: dict[str, str] = {}
        self.blobs: dict[str, str] = {}

    async def fill(self) -> None:
        for name in ("Team", "Private"):
            made = await call(self.world, BOB_BASIC, "Mailbox/set", create={"m": {"name": name}})
            self.mailboxes[name] = made["created"]["m"]["id"]
            raw = make_raw(subject=name, message_id=f"{name}@fjord.test")
            self.blobs[name] = (await self.world.blobs.put(BOBS, raw)).id
            place = {"mailboxIds": {self.mailboxes[name]: True}, "blobId": self.blobs[name]}
            made = await call(self.world, BOB_BASIC, "Email/import", emails={"e": place})
            assert made["created"], made

    async def share(self, rights: dict[str, bool] | None) -> None:
        patch = {f"shareWith/{ADA}": rights}
        update = {self.mailboxes["Team"]: patch}
        done = await call(self.world, BOB_BASIC, "Mailbox/set", update=update)
        assert done["updated"], done

    async def download(self, blob_id: str, auth: str = BASIC) -> tuple[int, bytes]:
        answer = await ask(
            self.world.app, "GET", f"/jmap/download/{BOBS}/{blob_id}/x.eml", auth=auth
        )
        return answer.status, answer.body

    async def session(self) -> dict[str, Any]:
        return dict((await ask(self.world.app, "GET", "/.well-known/jmap", auth=BASIC)).json)

    def wait(self) -> None:
        """Until what was cached of sign-ins is looked at again."""
        self.world.clock.ms += CALLER_FRESH_MS + 1


def test_the_session_object_shows_what_is_shared_and_of_whom(world: World) -> None:
    async def test() -> None:
        scene = Scene(world)
        await scene.fill()
        before = await scene.session()
        assert BOBS not in before["accounts"]
        await scene.share(READ)
        scene.wait()
        after = await scene.session()
        account = after["accounts"][BOBS]
        assert (account["isPersonal"], account["isReadOnly"]) == (False, True)
        told = set(account["accountCapabilities"])
        assert told >= {
            "urn:ietf:params:jmap:mail",
            "urn:ietf:params:jmap:mail:share",
            "urn:ietf:params:jmap:principals:owner",
        }
        assert not any("submission" in uri or "connect" in uri for uri in told)
        mail = account["accountCapabilities"]["urn:ietf:params:jmap:mail"]
        assert mail["mayCreateTopLevelMailbox"] is False
        owner = account["accountCapabilities"]["urn:ietf:params:jmap:principals:owner"]
        assert owner == {"accountIdForPrincipal": HOME, "principalId": BOB}
        home = after["accounts"][HOME]["accountCapabilities"]
        principals = "urn:ietf:params:jmap:principals"
        assert home[principals] == {"currentUserPrincipalId": ADA}
        assert after["primaryAccounts"][principals] == HOME
        assert after["primaryAccounts"]["urn:ietf:params:jmap:mail"] == MAIL
        assert "urn:ietf:params:jmap:principals:owner" not in after["capabilities"]
        assert before["state"] != after["state"]
        team = scene.mailboxes["Team"]
        await call(world, BASIC, "Mailbox/set", update={team: {"isSubscribed": False}})
        scene.wait()
        # Subscriptions are the viewer's, who may only read; who wants none hears of none.
        assert BOBS not in (await scene.session())["accounts"]

    run(test)


def test_blobs_of_a_part(world: World) -> None:
    async def test() -> None:
        scene = Scene(world)
        await scene.fill()
        team, private = scene.blobs["Team"], scene.blobs["Private"]
        await scene.share(READ | {"mayAddItems": True})
        unknown = await scene.download("b" + "0" * 40)
        assert unknown[0] == 404
        status, body = await scene.download(team)
        assert (status, b"Subject: Team" in body) == (200, True)
        assert await scene.download(private) == unknown
        assert (await scene.download(private, BOB_BASIC))[0] == 200
        raw = make_raw(subject="New", message_id="new@fjord.test")
        answer = await ask(world.app, "POST", f"/jmap/upload/{BOBS}", raw, auth=BASIC)
        blob = answer.json["blobId"]
        assert answer.json["accountId"] == BOBS
        assert await scene.download(blob) == (200, raw)
        # What she uploads is hers alone until it becomes an Email there.
        assert await scene.download(blob, BOB_BASIC) == unknown
        place = {"mailboxIds": {scene.mailboxes["Team"]: True}, "blobId": blob}
        made = await call(world, BASIC, "Email/import", emails={"e": place})
        assert made["created"], made
        assert await scene.download(blob, BOB_BASIC) == (200, raw)
        await scene.share(None)
        # At once, although her sign-in is still believed.
        assert await scene.download(team) == unknown

    run(test)


def test_a_stream_of_who_sees_a_part(world: World) -> None:
    async def test() -> None:
        scene = Scene(world)
        await scene.fill()
        async with listen(world) as line:
            world.commit(BOBS, 40, "Email")
            await settle()
            assert line.is_silent()
            await scene.share(READ)
            scene.wait()
            world.app.hub.wake_due()
            await settle()
            # A change of rights is news of all that is seen, and the account is new to her.
            [(account_id, states)] = (await line.next_states()).items()
            assert account_id == BOBS
            assert set(states) == {"Email", "Mailbox", "Thread"}
            assert int(states["Email"]) > PART_STATE_BASE
            got = await call(world, BASIC, "Email/get", ids=[])
            assert got["state"] == states["Email"]
            world.clock.ms += 60
            world.commit(BOBS, 50, "Identity", "EmailSubmission")
            await settle()
            assert line.is_silent(), "of a part nobody hears of what it has not"
            world.commit(BOBS, 51, "Email", "EmailDelivery")
            assert await line.next_states() == {BOBS: {"Email": str(PART_STATE_BASE + 51)}}

    run(test)


def test_a_returning_stream_is_told_what_it_missed_of_a_part(world: World) -> None:
    async def test() -> None:
        scene = Scene(world)
        await scene.fill()
        await scene.share(READ)
        world.commit(BOBS, 60, "Email")
        known = PART_STATE_BASE + 59
        async with listen(world, Last_Event_ID=f"{BOBS}:{known}") as line:
            assert await line.next_states() == {BOBS: {"Email": str(PART_STATE_BASE + 60)}}
        # Who knew states of a part and now sees the whole is told of the whole.
        world.grant(ADA, BOBS, frozenset({"read"}))
        scene.wait()
        async with listen(world, Last_Event_ID=f"{BOBS}:{known}") as line:
            states = (await line.next_states())[BOBS]
            assert (states["Email"], "Mailbox" in states) == ("60", True)

    run(test)
