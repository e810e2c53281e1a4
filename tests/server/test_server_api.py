"""POST /jmap/api and the Session object: every refusal of RFC 8620 s3.6.1, and the limits."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.asgi import Line, ask, call_api, make_scope
from tests.server.world import ADA, BASIC, MAIL, SHARED, World
from tindra.base import limits
from tindra.server.http import exchange as exchange_module
from tindra.server.http import gate as gate_module
from tindra.server.sign_in import CALLER_FRESH_MS

CORE = "urn:ietf:params:jmap:core"
ERROR = "urn:ietf:params:jmap:error:"


def request(*calls: Any, **more: Any) -> dict[str, Any]:
    return {"using": [CORE], "methodCalls": list(calls)} | more


ECHO = request(["Core/echo", {"hello": [1, None]}, "c1"])


def call(world: World, body: Any, **headers: Any) -> Any:
    return asyncio.run(call_api(world.app, body, **headers))


# -- session ---------------------------------------------------------------------------------------
def test_the_session_is_served_in_place_with_absolute_urls_and_never_cached() -> None:
    answer = asyncio.run(ask(World().app, "GET", "/.well-known/jmap", auth=BASIC))
    assert answer.status == 200
    assert answer.header("cache-control") == "no-cache, no-store, must-revalidate"
    session = answer.json
    assert session["apiUrl"] == "http://mail.example.com/jmap/api"
    assert set(session["accounts"]) == {MAIL, SHARED}
    assert session["accounts"][SHARED]["isReadOnly"]
    for name, variables in {
        "downloadUrl": ["accountId", "blobId", "name", "type"],
        "uploadUrl": ["accountId"],
        "eventSourceUrl": ["types", "closeafter", "ping"],
    }.items():
        assert session[name].startswith("http://mail.example.com/")
        assert all("{" + variable + "}" in session[name] for variable in variables)


def test_head_of_the_session_has_the_length_and_no_body() -> None:
    world = World()
    whole = asyncio.run(ask(world.app, "GET", "/.well-known/jmap", auth=BASIC))
    head = asyncio.run(ask(world.app, "HEAD", "/.well-known/jmap", auth=BASIC))
    assert (head.status, head.body) == (200, b"")
    assert head.header("content-length") == str(len(whole.body))


@pytest.mark.parametrize(
    ("options", "headers", "expected"),
    [
        ({}, {"host": "a.example:8080"}, "http://a.example:8080"),
        ({}, {"host": "[2001:db8::1]:80"}, "http://[2001:db8::1]:80"),
        ({}, {"host": "a.example", "x-forwarded-host": "evil.example"}, "http://a.example"),
        (
            {"trust_proxy": True},
            {"host": "in", "x-forwarded-host": "out.example", "x-forwarded-proto": "https"},
            "https://out.example",
        ),
        ({"base_url": "https://fixed.example"}, {"host": "other"}, "https://fixed.example"),
    ],
)
def test_the_urls_name_the_server_as_the_client_reached_it(
    options: dict[str, Any], headers: dict[str, str], expected: str
) -> None:
    world = World(**options)
    named: dict[str, Any] = {name.replace("-", "_"): value for name, value in headers.items()}
    answer = asyncio.run(ask(world.app, "GET", "/.well-known/jmap", auth=BASIC, **named))
    assert answer.json["apiUrl"] == f"{expected}/jmap/api"


@pytest.mark.parametrize("host", ["a b", "a/b", "a@b", 'x"y', "[::1", "a:b", "<script>", ""])
def test_a_host_that_is_none_is_a_400_or_falls_back_to_the_socket(host: str) -> None:
    answer = asyncio.run(ask(World().app, "GET", "/.well-known/jmap", auth=BASIC, host=host))
    assert answer.status == (400 if host else 200)


def test_the_api_tells_the_state_of_the_session_and_it_changes_with_the_grants() -> None:
    world = World()
    session = asyncio.run(ask(world.app, "GET", "/.well-known/jmap", auth=BASIC)).json
    assert call(world, ECHO).json["sessionState"] == session["state"]
    world.grant(ADA, MAIL, frozenset({"read"}))
    world.clock.ms += CALLER_FRESH_MS
    changed = call(world, ECHO).json["sessionState"]
    assert changed != session["state"]
    again = asyncio.run(ask(world.app, "GET", "/.well-known/jmap", auth=BASIC)).json
    assert again["state"] == changed


# -- the api ---------------------------------------------------------------------------------------
def test_an_echo_comes_back() -> None:
    answer = call(World(), ECHO)
    assert answer.status == 200
    assert answer.header("content-type") == "application/json"
    assert answer.header("cache-control") == "no-store"
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.json["methodResponses"] == [["Core/echo", {"hello": [1, None]}, "c1"]]


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"],
)
def test_json_is_taken_with_any_charset_named(media_type: str) -> None:
    assert call(World(), ECHO, content_type=media_type).status == 200


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/jsonx", "multipart/mixed"])
def test_another_media_type_is_a_415_of_kind_not_json(media_type: str) -> None:
    answer = call(World(), ECHO, content_type=media_type)
    assert answer.status == 415
    assert answer.json["type"] == ERROR + "notJSON"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"\xff", b'{"a":1,"a":2}', b'{"using":[],"methodCalls":[],"using":[]}',
        b"[" * 100_000, b'"\\ud800"', b"NaN", b'{"a":1}x', b"\xef\xbb\xbf{}",
    ],
)  # fmt: skip
def test_what_is_not_i_json_is_refused_as_such(body: bytes) -> None:
    answer = call(World(), body)
    assert answer.status == 400
    assert answer.header("content-type") == "application/problem+json"
    assert answer.json["type"] == ERROR + "notJSON"
    assert answer.json["status"] == 400
    assert answer.json["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b"[]", b"null", b"{}", b'{"using":"x","methodCalls":[]}', b'{"using":[],"methodCalls":{}}',
        b'{"using":[],"methodCalls":[["a",{}]]}', b'{"using":[],"methodCalls":[["a",[],"c"]]}',
        b'{"using":[1],"methodCalls":[]}', b'{"using":[],"methodCalls":[],"createdIds":[]}',
    ],
)  # fmt: skip
def test_json_that_is_no_request_is_refused_as_such(body: bytes) -> None:
    answer = call(World(), body)
    assert (answer.status, answer.json["type"]) == (400, ERROR + "notRequest")


def test_an_unknown_capability_refuses_the_whole_request() -> None:
    answer = call(World(), request(using=[CORE, "urn:example:unknown"]))
    assert (answer.status, answer.json["type"]) == (400, ERROR + "unknownCapability")
    assert "urn:example:unknown" in answer.json["detail"]


def test_too_many_calls_name_the_limit() -> None:
    calls = [["Core/echo", {}, str(n)] for n in range(limits.CALLS_IN_REQUEST_MAX + 1)]
    answer = call(World(), request(*calls))
    assert (answer.status, answer.json["type"]) == (400, ERROR + "limit")
    assert answer.json["limit"] == "maxCallsInRequest"
    assert call(World(), request(*calls[1:])).status == 200


def test_a_huge_body_is_refused_by_its_length_before_it_is_read() -> None:
    async def run() -> None:
        world = World()
        headers = {
            "authorization": BASIC,
            "content-type": "application/json",
            "content-length": str(limits.REQUEST_BYTES_MAX + 1),
        }
        line = Line(make_scope("POST", "/jmap/api", {"host": "h"} | headers))
        await world.app(line.scope, line.receive, line.send)  # nothing was ever fed
        assert (await line.next())["status"] == 400
        problem = msgspec.json.decode(await line.next_body())
        assert (problem["type"], problem["limit"]) == (ERROR + "limit", "maxSizeRequest")

    asyncio.run(run())


def test_a_huge_body_without_a_length_is_refused_when_it_passes_the_limit() -> None:
    world = World()
    piece = b" " * (4 * 1024 * 1024)
    answer = call(world, [piece, piece, piece, b"{}"])
    assert (answer.status, answer.json["limit"]) == (400, "maxSizeRequest")


def test_a_length_that_is_no_number_is_refused() -> None:
    assert call(World(), ECHO, content_length="-1").status == 400


def test_a_bug_in_a_method_answers_that_call_and_is_reported() -> None:
    world = World()
    answer = call(world, request(["Thing/break", {}, "a"], ["Core/echo", {}, "b"]))
    assert answer.status == 200
    assert [r[0] for r in answer.json["methodResponses"]] == ["error", "Core/echo"]
    assert answer.json["methodResponses"][0][1]["type"] == "serverFail"
    assert world.reports[0][0] == "Thing/break"


def test_a_body_that_stops_coming_is_a_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "BODY_IDLE_S", 0.02)

    async def run() -> None:
        world = World()
        headers = {"host": "h", "authorization": BASIC, "content-type": "application/json"}
        line = Line(make_scope("POST", "/jmap/api", headers))
        line.feed(b'{"using":', more_body=True)
        await world.app(line.scope, line.receive, line.send)
        start = await line.next()
        assert start["status"] == 408
        assert (b"connection", b"close") in start["headers"]

    asyncio.run(run())


def test_a_client_that_leaves_before_its_request_is_whole_gets_no_answer_and_frees_its_place() -> (
    None
):
    async def run() -> None:
        world = World()
        headers = {"host": "h", "authorization": BASIC, "content-type": "application/json"}
        for _ in range(2 * limits.REQUESTS_CONCURRENT_MAX):
            line = Line(make_scope("POST", "/jmap/api", headers))
            line.feed(b"{", more_body=True)
            line.hang_up()
            await world.app(line.scope, line.receive, line.send)
            assert line.is_silent()
        assert (await call_api(world.app, ECHO)).status == 200

    asyncio.run(run())


def test_more_requests_at_once_than_allowed_wait_and_then_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate_module, "WAIT_S", 0.05)
    most = limits.REQUESTS_CONCURRENT_MAX

    async def run() -> None:
        world = World()
        headers = {"host": "h", "authorization": BASIC, "content-type": "application/json"}
        lines = [Line(make_scope("POST", "/jmap/api", headers)) for _ in range(most)]
        async with asyncio.TaskGroup() as group:
            for line in lines:
                group.create_task(world.app(line.scope, line.receive, line.send))
            for _ in range(50):
                await asyncio.sleep(0)
            refused = await call_api(world.app, ECHO)
            assert refused.status == 429
            assert refused.json["type"] == ERROR + "limit"
            assert refused.json["limit"] == "maxConcurrentRequests"
            assert refused.header("retry-after") == "1"
            monkeypatch.setattr(gate_module, "WAIT_S", 60)
            waiting = group.create_task(call_api(world.app, ECHO))
            for _ in range(50):
                await asyncio.sleep(0)
            for line in lines:
                line.feed(msgspec.json.encode(ECHO))
        assert waiting.result().status == 200
        assert all([(await line.next())["status"] == 200 for line in lines])

    asyncio.run(run())


def test_a_call_that_has_begun_is_finished_though_its_client_has_gone() -> None:
    async def run() -> None:
        world = World()
        ended = asyncio.Event()
        gate = asyncio.Event()

        async def run_slowly(context: Any, arguments: dict[str, Any]) -> dict[str, Any]:
            await gate.wait()
            ended.set()
            return {}

        from tindra.core.datatype import Method

        world.registry.add_method(Method("Thing/slow", CORE, run_slowly))
        headers = {"host": "h", "authorization": BASIC, "content-type": "application/json"}
        line = Line(make_scope("POST", "/jmap/api", headers))
        line.feed(msgspec.json.encode(request(["Thing/slow", {}, "a"])))
        async with asyncio.TaskGroup() as group:
            group.create_task(world.app(line.scope, line.receive, line.send))
            await asyncio.sleep(0.01)
            line.hang_up()
            await asyncio.sleep(0.01)
            gate.set()
        assert ended.is_set()

    asyncio.run(run())


def test_a_large_answer_is_written_in_pieces_that_wait_for_the_client() -> None:
    text = "x" * (3 * exchange_module.PIECE_BYTES)

    async def run() -> None:
        world = World()
        headers = {"host": "h", "authorization": BASIC, "content-type": "application/json"}
        line = Line(make_scope("POST", "/jmap/api", headers))
        line.feed(msgspec.json.encode(request(["Core/echo", {"t": text}, "a"])))
        line.may_write.clear()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(world.app(line.scope, line.receive, line.send))
            await asyncio.sleep(0.05)
            assert not task.done()
            line.may_write.set()
        bodies = [(await line.next()) for _ in range(line.sent.qsize())][1:]
        assert len(bodies) == 4
        assert max(len(b["body"]) for b in bodies) <= exchange_module.PIECE_BYTES
        answer = msgspec.json.decode(b"".join(b["body"] for b in bodies))
        assert answer["methodResponses"][0][1]["t"] == text

    asyncio.run(run())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=60)
    | JSON.map(msgspec.json.encode)
    | JSON.map(lambda v: msgspec.json.encode({"using": [CORE], "methodCalls": v}))
    | JSON.map(
        lambda v: msgspec.json.encode(
            {"using": [CORE], "methodCalls": [["Thing/get", {"a": v}, ""]]}
        )
    )
)
def test_no_body_makes_a_500(body: bytes) -> None:
    world = World()
    answer = call(world, body)
    assert answer.status in (200, 400)
    assert not world.reports


def test_a_large_request_is_parsed_off_the_loop_and_refused_as_a_small_one_is() -> None:
    world = World()
    large = {"using": [CORE], "methodCalls": [["Core/echo", {"v": "x" * 100_000}, "0"]]}
    answer = asyncio.run(call_api(world.app, large))
    assert answer.json["methodResponses"] == large["methodCalls"]
    signed_in = world.offload.count - 1
    assert asyncio.run(call_api(world.app, b"[" * 100_000)).json["type"].endswith("notJSON")
    assert world.offload.count == signed_in + 2
    asyncio.run(call_api(world.app, {"using": [CORE], "methodCalls": []}))
    assert world.offload.count == signed_in + 2, "a small one is not worth the hop"


@pytest.mark.parametrize(
    "languages", ["fr-CH, fr;q=0.9, *;q=0.5", "de", "", "*", "x-klingon;q=9", ";;,,=", "a" * 5000]
)
def test_any_accept_language_is_taken_and_nothing_is_said_of_a_language(languages: str) -> None:
    """What we answer is for developers and in English; users read the texts of their client.

    Source: RFC 8620 s3.8
    """
    answer = call(World(), ECHO, accept_language=languages)
    assert answer.status == 200
    assert not answer.header("content-language")
