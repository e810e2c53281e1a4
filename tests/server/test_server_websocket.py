"""JMAP over WebSocket: every message and every refusal, with a clock that moves when told.

Frames and lines are in test_server_websocket_frames.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from tests.server.asgi import Line, ask, make_scope
from tests.server.world import ADA, BASIC, BOB_BASIC, BOBS, MAIL, SHARED, World
from tindra.base import limits
from tindra.core.datatype import CORE, CallContext, Method
from tindra.server.http.gate import LIMIT
from tindra.server.routes.websocket import SOCKET_IDLE_MS, SOCKET_REQUESTS_MAX
from tindra.server.session_object import WEBSOCKET
from tindra.server.sign_in import CALLER_FRESH_MS

ERROR = "urn:ietf:params:jmap:error:"
TOKEN = "a-token-of-ada"


def echo(id: str | None = None, **arguments: Any) -> dict[str, Any]:
    message = {
        "@type": "Request",
        "using": [CORE],
        "methodCalls": [["Core/echo", arguments, "0"]],
    }
    return message if id is None else message | {"id": id}


def enable(types: Any = None, **more: Any) -> dict[str, Any]:
    return {"@type": "WebSocketPushEnable", "dataTypes": types} | more


class Talk(Line):
    """A WebSocket that the test drives by hand."""

    task: asyncio.Task[None]

    def say(self, message: Any) -> None:
        text = message if isinstance(message, str) else msgspec.json.encode(message).decode()
        self.incoming.put_nowait({"type": "websocket.receive", "text": text})

    def hang_up(self) -> None:
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": 1005})

    async def next_message(self) -> dict[str, Any]:
        message = await self.next()
        assert message["type"] == "websocket.send", message
        found: dict[str, Any] = msgspec.json.decode(message["text"])
        return found

    async def next_close(self) -> int:
        message = await self.next()
        assert message["type"] == "websocket.close", message
        code: int = message["code"]
        return code


def make_socket_scope(url: str = "/jmap/ws", **headers: str) -> dict[str, Any]:
    named = {"host": "h", "authorization": BASIC} | headers
    scope = make_scope("GET", url, {k: v for k, v in named.items() if v})
    return scope | {"type": "websocket", "scheme": "ws", "subprotocols": ["jmap"]}


@asynccontextmanager
async def talk(world: World, **headers: str) -> AsyncIterator[Talk]:
    scope = make_socket_scope(**headers)
    line = Talk(scope)
    line.incoming.put_nowait({"type": "websocket.connect"})
    async with asyncio.TaskGroup() as group:
        line.task = group.create_task(world.app(scope, line.receive, line.send))
        accepted = await line.next()
        assert (accepted["type"], accepted["subprotocol"]) == ("websocket.accept", "jmap")
        yield line
        line.hang_up()


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


async def refuse(world: World, change: dict[str, Any], **headers: str) -> tuple[int, Any]:
    """A handshake that is refused: its status, and its problem."""
    scope = make_socket_scope(**headers) | change
    line = Talk(scope)
    line.incoming.put_nowait({"type": "websocket.connect"})
    await world.app(scope, line.receive, line.send)
    start = await line.next()
    assert start["type"] == "websocket.http.response.start", start
    body = await line.next()
    assert body["type"] == "websocket.http.response.body"
    assert not body["more_body"]
    assert len(world.app.hub) == 0
    return start["status"], msgspec.json.decode(body["body"])


def test_the_session_names_the_socket_and_no_account_does() -> None:
    async def test() -> None:
        world = World()
        answer = await ask(world.app, "GET", "/.well-known/jmap", auth=BASIC)
        url = {"url": "ws://mail.example.com/jmap/ws", "supportsPush": True}
        assert answer.json["capabilities"][WEBSOCKET] == url
        for account in answer.json["accounts"].values():
            assert WEBSOCKET not in account["accountCapabilities"]
        assert WEBSOCKET not in answer.json["primaryAccounts"]
        safe = World(base_url="https://mail.example.com/sub")
        answer = await ask(safe.app, "GET", "/.well-known/jmap", auth=BASIC)
        assert answer.json["capabilities"][WEBSOCKET]["url"] == "wss://mail.example.com/sub/jmap/ws"

    run(test)


def test_a_request_is_answered_with_its_id_or_without_one() -> None:
    async def test() -> None:
        world = World()
        session = (await ask(world.app, "GET", "/.well-known/jmap", auth=BASIC, host="h")).json
        async with talk(world) as line:
            line.say(echo("r1", a=1) | {"createdIds": {"k": "v"}})
            assert await line.next_message() == {
                "@type": "Response",
                "requestId": "r1",
                "methodResponses": [["Core/echo", {"a": 1}, "0"]],
                "createdIds": {"k": "v"},
                "sessionState": session["state"],
            }
            line.say(echo() | {"using": [CORE, WEBSOCKET]})
            assert "requestId" not in await line.next_message()

    run(test)


@pytest.mark.parametrize(
    ("message", "kind", "id"),
    [
        ("{", "notJSON", None),
        ("", "notJSON", None),
        ('{"@type":"Request","@type":"Request"}', "notJSON", None),
        ("[" * 70 + "]" * 70, "notJSON", None),
        ("[]", "notRequest", None),
        ("1", "notRequest", None),
        ({"id": "r1"}, "notRequest", "r1"),
        ({"@type": "Response", "id": "r1"}, "notRequest", "r1"),
        ({"@type": ["Request"], "id": "r1"}, "notRequest", "r1"),
        ({"@type": "Request", "id": "r1"}, "notRequest", "r1"),
        (echo("r1") | {"methodCalls": {}}, "notRequest", "r1"),
        (echo() | {"id": 7}, "notRequest", None),
        (echo("r1") | {"using": ["urn:nothing"]}, "unknownCapability", "r1"),
        (enable(["A"] * 101), "notRequest", None),
        (enable([1]), "notRequest", None),
        (enable("Email"), "notRequest", None),
        (enable(pushState=1), "notRequest", None),
    ],
)  # fmt: skip
def test_what_is_no_request_is_a_request_error_and_the_socket_lives(
    message: Any, kind: str, id: str | None
) -> None:
    async def test() -> None:
        world = World()
        async with talk(world) as line:
            line.say(message)
            problem = await line.next_message()
            assert problem.pop("detail")
            assert problem.pop("requestId", None) == id
            assert problem == {
                "@type": "RequestError", "type": ERROR + kind, "status": 400,
                "title": "Bad Request",
            }  # fmt: skip
            line.say(echo("next"))
            assert (await line.next_message())["requestId"] == "next"
        assert not world.reports

    run(test)


def test_a_limit_is_named() -> None:
    async def test() -> None:
        async with talk(World()) as line:
            calls = [["Core/echo", {}, "0"]] * (limits.CALLS_IN_REQUEST_MAX + 1)
            line.say(echo("r1") | {"methodCalls": calls})
            problem = await line.next_message()
            assert (problem["type"], problem["limit"]) == (LIMIT, "maxCallsInRequest")

    run(test)


def test_changes_are_told_from_enable_to_disable_of_the_chosen_types() -> None:
    async def test() -> None:
        world = World()
        async with talk(world) as line:
            world.commit(MAIL, 1, "Thing")
            await settle()
            assert line.is_silent(), "nobody asked for push yet"
            line.say(enable())
            await settle()
            assert line.is_silent(), "what was is not told without a pushState"
            world.commit(MAIL, 7, "Thing", "EmailDelivery")
            await settle()
            assert await line.next_message() == {
                "@type": "StateChange",
                "changed": {MAIL: {"Thing": "7", "EmailDelivery": "7"}},
                "pushState": f"{MAIL}:7",
            }
            world.commit(BOBS, 8, "Thing")
            world.commit(MAIL, 8, "Secret")
            await settle()
            world.clock.advance(1000)
            line.say(enable(["EmailDelivery", "Unheard"]))
            await settle()
            world.commit(MAIL, 9, "Thing")
            await settle()
            assert line.is_silent(), "an account of another, a type not pushed, one not chosen"
            world.commit(SHARED, 10, "EmailDelivery")
            await settle()
            told = await line.next_message()
            assert told["changed"] == {SHARED: {"EmailDelivery": "10"}}
            assert told["pushState"] == f"{MAIL}:7,{SHARED}:10"
            world.clock.advance(1000)
            line.say({"@type": "WebSocketPushDisable"})
            await settle()
            world.commit(MAIL, 11, "EmailDelivery")
            await settle()
            assert line.is_silent()

    run(test)


def test_a_push_state_brings_what_was_missed_at_once() -> None:
    async def test() -> None:
        world = World()
        world.commit(MAIL, 5, "Thing")
        world.commit(SHARED, 3, "Thing")
        async with talk(world) as line:
            line.say(enable(pushState=f"{MAIL}:4,{SHARED}:3"))
            told = await line.next_message()
            assert told["changed"] == {MAIL: {"Thing": "5"}}
            line.say(enable(pushState=told["pushState"]))
            await settle()
            assert line.is_silent(), "nothing was missed"
            world.clock.advance(1000)
            line.say(enable(["EmailDelivery"], pushState=""))
            await settle()
            assert line.is_silent(), "nothing of these types was missed"
            line.say(enable(pushState="what another server said"))
            changed = (await line.next_message())["changed"]
            assert changed == {MAIL: {"Thing": "5"}, SHARED: {"Thing": "3"}}

    run(test)


def test_choosing_types_anew_loses_nothing_that_waited() -> None:
    async def test() -> None:
        world = World()
        async with talk(world) as line:
            line.say(enable(["Thing"]))
            await settle()
            world.commit(MAIL, 1, "Thing")
            await line.next_message()
            world.commit(MAIL, 2, "Thing")  # waits: a stream rests after each event
            world.commit(SHARED, 3, "Thing")
            line.say(enable(["Thing", "EmailDelivery"]))
            await settle()
            world.clock.advance(1000)
            told = (await line.next_message())["changed"]
            assert told == {MAIL: {"Thing": "2"}, SHARED: {"Thing": "3"}}

    run(test)


def test_a_slow_client_is_told_the_newest_states_once() -> None:
    async def test() -> None:
        world = World()
        async with talk(world) as line:
            line.say(enable())
            await settle()
            line.may_write.clear()
            for modseq in range(1, 500):
                world.commit(MAIL, modseq, "Thing")
                world.clock.advance(100)
                await settle()
            line.may_write.set()
            await settle()
            first, second = await line.next_message(), await line.next_message()
            assert first["changed"] == {MAIL: {"Thing": "1"}}
            assert second["changed"] == {MAIL: {"Thing": "499"}}
            assert line.is_silent()

    run(test)


def test_a_grant_taken_away_silences_the_account_within_seconds() -> None:
    async def test() -> None:
        world = World()
        async with talk(world) as line:
            line.say(enable())
            await settle()
            del world.directory.grants[ADA, SHARED]
            world.clock.advance(CALLER_FRESH_MS)
            world.app.hub.wake_due()
            await settle()
            world.commit(SHARED, 9, "Thing")
            world.commit(MAIL, 9, "Thing")
            assert (await line.next_message())["changed"] == {MAIL: {"Thing": "9"}}

    run(test)


def test_a_revoked_token_closes_its_sockets_at_once() -> None:
    async def test() -> None:
        world = World()
        world.add_token(ADA, TOKEN, "device")
        bearer = f"Bearer {TOKEN}"
        async with talk(world, authorization=bearer) as line, talk(world) as other:
            answer = await ask(world.app, "DELETE", "/auth/token", auth=bearer)
            assert answer.status == 204
            assert await line.next_close() == 1008
            other.say(echo("still here"))
            assert (await other.next_message())["requestId"] == "still here"

    run(test)


def test_a_token_revoked_elsewhere_closes_its_sockets_within_seconds_and_runs_no_request() -> None:
    async def test() -> None:
        world = World()
        world.add_token(ADA, TOKEN, "device")
        for _ in range(2):
            world.add_token(ADA, TOKEN, "device")
            async with talk(world, authorization=f"Bearer {TOKEN}") as line:
                world.directory.tokens.clear()
                world.clock.advance(CALLER_FRESH_MS)
                if _:
                    world.app.hub.wake_due()
                else:
                    line.say(echo("too late"))
                assert await line.next_close() == 1008

    run(test)


def test_a_directory_that_is_down_refuses_requests_and_keeps_the_socket() -> None:
    async def test() -> None:
        world = World()
        async with talk(world) as line:
            world.directory.is_down = True
            world.clock.advance(CALLER_FRESH_MS)
            line.say(echo("r1"))
            problem = await line.next_message()
            assert (problem["@type"], problem["status"]) == ("RequestError", 503)
            assert problem["requestId"] == "r1"
            world.directory.is_down = False
            line.say(echo("r2"))
            assert (await line.next_message())["requestId"] == "r2"
            world.store.is_down = True
            line.say(enable(pushState=""))
            assert (await line.next_message())["status"] == 503

    run(test)


def test_binary_messages_close_the_socket() -> None:
    async def test() -> None:
        async with talk(World()) as line:
            line.incoming.put_nowait({"type": "websocket.receive", "bytes": b"{}"})
            assert await line.next_close() == 1003

    run(test)


def test_an_idle_socket_is_closed_and_one_that_listens_is_not() -> None:
    async def test() -> None:
        world = World()
        async with talk(world) as idle, talk(world) as listening, talk(world) as busy:
            listening.say(enable(["Thing"]))
            world.clock.advance(SOCKET_IDLE_MS - 1)
            busy.say(echo("r"))
            await busy.next_message()
            await settle()
            assert idle.is_silent()
            world.clock.advance(1)
            world.app.hub.wake_due()
            assert await idle.next_close() == 1000
            await settle()
            assert listening.is_silent()
            assert busy.is_silent()
            world.commit(MAIL, 1, "Thing")
            assert (await listening.next_message())["@type"] == "StateChange"

    run(test)


def test_a_stop_answers_what_runs_and_says_goodbye() -> None:
    async def test() -> None:
        world, gate = World(), asyncio.Event()

        async def wait(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
            await gate.wait()
            return {}

        world.registry.add_method(Method("Thing/wait", CORE, wait))
        async with talk(world) as line:
            line.say(echo("r1") | {"methodCalls": [["Thing/wait", {}, "0"]]})
            await settle()
            world.app.hub.close()
            await settle()
            assert line.is_silent()
            gate.set()
            assert (await line.next_message())["requestId"] == "r1"
            assert await line.next_close() == 1001

    run(test)


def test_requests_of_a_socket_run_beside_each_other_but_not_all() -> None:
    async def test() -> None:
        world, gate, running = World(), asyncio.Event(), [0]

        async def wait(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
            running[0] += 1
            await gate.wait()
            return {}

        world.registry.add_method(Method("Thing/wait", CORE, wait))
        async with talk(world) as line:
            for number in range(3 * SOCKET_REQUESTS_MAX):
                line.say(echo(f"r{number}") | {"methodCalls": [["Thing/wait", {}, "0"]]})
            await settle()
            assert running[0] == SOCKET_REQUESTS_MAX
            gate.set()
            ids = {(await line.next_message())["requestId"] for _ in range(3 * SOCKET_REQUESTS_MAX)}
            assert len(ids) == 3 * SOCKET_REQUESTS_MAX

    run(test)


def test_a_user_has_one_number_of_requests_over_http_and_sockets() -> None:
    async def test() -> None:
        world, gate = World(), asyncio.Event()
        running: list[str] = []

        async def wait(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
            running.append(context.caller.user.id)
            await gate.wait()
            return {}

        world.registry.add_method(Method("Thing/wait", CORE, wait))
        call = {"using": [CORE], "methodCalls": [["Thing/wait", {}, "0"]]}
        body = msgspec.json.encode(call)
        async with talk(world) as line, talk(world, authorization=BOB_BASIC) as bob:
            async with asyncio.TaskGroup() as group:
                posts = [
                    group.create_task(
                        ask(
                            world.app, "POST", "/jmap/api", body, auth=BASIC,
                            content_type="application/json",
                        )
                    )
                    for _ in range(2 * limits.REQUESTS_CONCURRENT_MAX)
                ]  # fmt: skip
                await settle()
                assert len(running) == limits.REQUESTS_CONCURRENT_MAX
                line.say(echo("one more"))
                problem = await line.next_message()
                assert (problem["status"], problem["requestId"]) == (429, "one more")
                assert (problem["type"], problem["limit"]) == (LIMIT, "maxConcurrentRequests")
                bob.say(echo("another user"))
                assert (await bob.next_message())["requestId"] == "another user"
                gate.set()
            assert {(await post).status for post in posts} == {200}

    run(test)


def test_a_client_that_leaves_does_not_stop_its_request() -> None:
    async def test() -> None:
        world, gate, done = World(), asyncio.Event(), []

        async def wait(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
            await gate.wait()
            done.append(True)
            return {}

        world.registry.add_method(Method("Thing/wait", CORE, wait))
        async with talk(world) as line:
            line.say(echo() | {"methodCalls": [["Thing/wait", {}, "0"]] * 2})
            await settle()
            line.hang_up()
            await settle()
            assert not line.task.done()
            gate.set()
            await line.task
            assert len(done) == 2
            assert len(world.app.hub) == 0
            assert line.is_silent(), "nobody is there to be answered"

    run(test)


def test_an_error_nobody_foresaw_is_reported_and_closes_the_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        world = World()
        async with talk(world) as line:
            monkeypatch.setattr(world.app.hub, "is_allowed", None)
            line.say(enable())
            await settle()
            world.commit(MAIL, 1, "Thing")
            assert await line.next_close() == 1011
            await line.task
        assert len(world.reports) == 1

    run(test)


def test_handshakes_are_refused_as_requests_are() -> None:
    async def test() -> None:
        world = World()
        assert (await refuse(world, {}, authorization=""))[0] == 401
        assert (await refuse(world, {}, authorization="Bearer nothing"))[0] == 401
        assert (await refuse(world, {"subprotocols": []}))[0] == 400
        status, problem = await refuse(world, {"subprotocols": ["chat", "JMAP"]})
        assert status == 400
        assert "jmap" in problem["detail"]
        assert (await refuse(world, {"path": "/jmap/api"}))[0] == 404
        assert (await refuse(world, {"path": "/"}))[0] == 404
        assert (await refuse(world, {}, host="evil/"))[0] == 400
        world.directory.is_down = True
        assert (await refuse(world, {}, authorization=BOB_BASIC))[0] == 503
        answer = await ask(world.app, "GET", "/jmap/ws")
        assert answer.status == 401

    run(test)


def test_a_plain_request_is_told_to_upgrade() -> None:
    async def test() -> None:
        answer = await ask(World().app, "GET", "/jmap/ws", auth=BASIC)
        assert (answer.status, answer.header("upgrade")) == (426, "websocket")
        assert (await ask(World().app, "POST", "/jmap/ws", auth=BASIC)).status == 405

    run(test)


BEARER = f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    ("origins", "origin", "auth", "status"),
    [
        (("*",), "", BASIC, 101),
        (("*",), "http://h", BASIC, 101),
        (("*",), "http://elsewhere.example", BEARER, 101),
        # A browser adds the password that its user once typed by itself.
        (("*",), "http://elsewhere.example", BASIC, 403),
        (("*",), "null", BASIC, 403),
        (("https://app.example",), "https://app.example", BASIC, 101),
        (("https://app.example",), "https://app.example.evil", BEARER, 403),
        (("https://app.example",), "http://h", BEARER, 101),
        ((), "http://elsewhere.example", BEARER, 403),
        ((), "", BEARER, 101),
    ],
)  # fmt: skip
def test_pages_of_other_origins_open_sockets_only_where_that_is_safe(
    origins: tuple[str, ...], origin: str, auth: str, status: int
) -> None:
    async def test() -> None:
        world = World(cors_origins=origins)
        world.add_token(ADA, TOKEN, "device")
        if status == 403:
            assert (await refuse(world, {}, origin=origin, authorization=auth))[0] == 403
            return
        async with talk(world, origin=origin, authorization=auth):
            pass

    run(test)


def test_sockets_and_event_streams_of_a_user_share_one_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "STREAMS_PER_USER_MAX", 2)

    async def test() -> None:
        world = World()
        async with talk(world), talk(world):
            scope = make_socket_scope()
            line = Talk(scope)
            line.incoming.put_nowait({"type": "websocket.connect"})
            await world.app(scope, line.receive, line.send)
            assert (await line.next())["status"] == 429
            assert (await ask(world.app, "GET", "/jmap/eventsource", auth=BASIC)).status == 429
            async with talk(world, authorization=BOB_BASIC) as bob:
                bob.hang_up()
                await bob.task
                metrics = await ask(world.app, "GET", "/metrics")
                assert b"tindra_websockets_open 2.0" in metrics.body
        assert len(world.app.hub) == 0

    run(test)
