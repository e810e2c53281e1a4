"""Routing and its refusals: 404, 405, CORS, faults of the store and the disk, health, metrics."""

from __future__ import annotations

import asyncio
import errno
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.asgi import Answer, Line, ask, call_api, make_scope
from tests.server.world import BASIC, MAIL, World
from tindra.core.errors import Unavailable
from tindra.server.http.exchange import Exchange
from tindra.server.http.origin import find_client_address
from tindra.server.metrics import METRICS, Reading
from tindra.server.options import ServerOptions

API_PATHS = [
    "/.well-known/jmap", "/jmap/api", f"/jmap/upload/{MAIL}", f"/jmap/download/{MAIL}/b/n",
    "/jmap/eventsource", "/auth/token",
]  # fmt: skip


def go(world: World, method: str, url: str, body: bytes = b"", **headers: Any) -> Answer:
    return asyncio.run(ask(world.app, method, url, body, **headers))


def test_an_unknown_address_is_a_404_problem() -> None:
    answer = go(World(), "GET", "/nothing")
    assert answer.status == 404
    assert answer.json["status"] == 404


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/jmap/api", "OPTIONS, POST"),
        ("PUT", "/jmap/api", "OPTIONS, POST"),
        ("POST", "/.well-known/jmap", "GET, HEAD, OPTIONS"),
        ("GET", f"/jmap/upload/{MAIL}", "OPTIONS, POST"),
        ("HEAD", "/jmap/eventsource", "GET, OPTIONS"),
        ("GET", "/auth/token", "DELETE, OPTIONS, POST"),
        ("POST", "/", "GET, HEAD, OPTIONS"),
        ("TRACE", "/healthz", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_wrong_method_is_a_405_that_names_the_right_ones(
    method: str, path: str, allow: str
) -> None:
    answer = go(World(), method, path, auth=BASIC)
    assert answer.status == 405
    assert answer.header("allow") == allow


@pytest.mark.parametrize("path", API_PATHS)
def test_a_preflight_of_any_api_route_is_allowed_without_a_sign_in(path: str) -> None:
    answer = go(
        World(), "OPTIONS", path, origin="https://app.example",
        access_control_request_method="POST",
        access_control_request_headers="authorization,content-type",
    )  # fmt: skip
    assert answer.status == 204
    assert answer.header("access-control-allow-origin") == "*"
    assert "Authorization" in answer.header("access-control-allow-headers")
    assert "Last-Event-ID" in answer.header("access-control-allow-headers")
    assert answer.header("access-control-allow-methods") == answer.header("allow")
    assert int(answer.header("access-control-max-age")) > 0


@pytest.mark.parametrize("path", API_PATHS[:-1])
def test_refusals_carry_the_cors_headers_too_so_that_a_web_client_can_read_them(path: str) -> None:
    answer = go(World(), "GET", path, origin="https://app.example")
    assert answer.status in (401, 405)
    assert answer.header("access-control-allow-origin") == "*"
    assert "WWW-Authenticate" in answer.header("access-control-expose-headers")


def test_only_the_origins_that_were_named_may_call_when_some_were() -> None:
    world = World(cors_origins=("https://app.example",))
    friend = go(world, "GET", "/.well-known/jmap", auth=BASIC, origin="https://app.example")
    assert friend.header("access-control-allow-origin") == "https://app.example"
    assert "Origin" in friend.all("vary")
    stranger = go(world, "GET", "/.well-known/jmap", auth=BASIC, origin="https://evil.example")
    assert not stranger.header("access-control-allow-origin")
    assert "Origin" in stranger.all("vary")


def test_pages_and_probes_are_not_for_other_origins() -> None:
    for path in ("/healthz", "/"):
        assert not go(World(), "GET", path, origin="https://x").header(
            "access-control-allow-origin"
        )


def test_a_store_that_cannot_answer_is_a_503_with_a_time_to_come_again() -> None:
    world = World()
    world.blobs.failure = Unavailable("queue full")
    answer = go(world, "POST", f"/jmap/upload/{MAIL}", b"x", auth=BASIC)
    assert answer.status == 503
    assert int(answer.header("retry-after")) > 0
    assert "queue" not in answer.body.decode(), "the inside stays inside"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_507(number: int) -> None:
    world = World()
    world.blobs.failure = OSError(number, "No space left on device: /secret/path")
    answer = go(world, "POST", f"/jmap/upload/{MAIL}", b"x", auth=BASIC)
    assert answer.status == 507
    assert b"/secret" not in answer.body


def test_what_nobody_foresaw_is_reported_with_the_id_the_client_is_told() -> None:
    world = World()
    world.blobs.failure = RuntimeError("secret detail")
    answer = go(world, "POST", f"/jmap/upload/{MAIL}", b"x", auth=BASIC)
    assert answer.status == 500
    assert "e-1" in answer.json["detail"]
    assert b"secret" not in answer.body
    assert world.reports[0][0] == "POST upload"
    assert isinstance(world.reports[0][1], RuntimeError)


def test_health_says_that_the_process_lives_and_readiness_that_the_store_answers() -> None:
    world = World()
    assert go(world, "GET", "/healthz").status == 200
    assert go(world, "HEAD", "/readyz").status == 200
    world.store.is_down = True
    assert go(world, "GET", "/healthz").status == 200
    assert go(world, "GET", "/readyz").status == 503


def test_a_server_that_can_take_nothing_new_is_not_ready_and_says_why_until_it_can() -> None:
    troubles: list[str | None] = [None, "the disk of the data folder is full", None]

    async def find_trouble() -> str | None:
        return troubles.pop(0)

    world = World(find_trouble=find_trouble)
    assert go(world, "GET", "/readyz").status == 200
    answer = go(world, "GET", "/readyz")
    assert answer.status == 503
    assert answer.json["detail"] == "the disk of the data folder is full"
    assert answer.header("retry-after")
    assert go(world, "GET", "/healthz").status == 200, "a restart would not help"
    assert go(world, "GET", "/readyz").status == 200


def test_metrics_count_requests_and_calls_and_show_only_declared_names() -> None:
    behind = ("mirrors", "outbox", "timers", "index", "disk", "transaction", "pushes")
    read = [metric for metric in METRICS if metric.name.split("_")[1].startswith(behind)]

    async def load_readings() -> list[Reading]:
        return [Reading(metric.name, ("some",) * len(metric.labels), 7) for metric in read]

    world = World(load_readings=load_readings)

    async def run() -> Answer:
        body = {"using": [], "methodCalls": [["Core/echo", {}, ""], ["No/such", {}, ""]]}
        await call_api(world.app, body)
        await ask(world.app, "GET", "/nothing")
        world.commit(MAIL, 1, "Thing")
        return await ask(world.app, "GET", "/metrics")

    answer = asyncio.run(run())
    assert answer.status == 200
    text = answer.body.decode()
    for line in [
        'tindra_http_requests_total{route="api",status="200"} 1.0',
        'tindra_http_requests_total{route="static",status="404"} 1.0',
        'tindra_jmap_calls_total{method="Core/echo"} 1.0',
        'tindra_jmap_calls_total{method="other"} 1.0',
        "tindra_commits_total 1.0",
        'tindra_sign_ins_total{result="ok"} 1.0',
        "tindra_store_up 1.0",
        'tindra_mirrors{phase="some"} 7.0',
        'tindra_transactions_total{name="some"} 7.0',
        "tindra_index_waiting_emails 7.0",
    ]:
        assert line + "\n" in text
    shown = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    declared = {metric.name: metric.type for metric in METRICS}
    assert shown.items() <= declared.items()
    assert {name for name in declared if name.startswith("tindra_")} <= shown.keys()


def test_metrics_are_shown_while_the_store_does_not_answer() -> None:
    async def load_readings() -> list[Reading]:
        raise Unavailable("the disk is gone")

    answer = go(World(load_readings=load_readings), "GET", "/metrics")
    assert answer.status == 200
    text = answer.body.decode()
    assert "tindra_store_up 0.0\n" in text
    assert "tindra_mirrors" not in text
    assert "tindra_commits_total" in text


def test_metrics_are_for_this_machine_or_for_the_bearer_of_their_token() -> None:
    def from_afar(scope: dict[str, Any]) -> None:
        scope["client"] = ("203.0.113.5", 1)

    def see(world: World, **headers: Any) -> int:
        return asyncio.run(ask(world.app, "GET", "/metrics", b"", from_afar, **headers)).status

    assert see(World()) == 403
    assert go(World(), "GET", "/metrics", x_forwarded_for="203.0.113.5").status == 403
    world = World(metrics_token="let me see")
    assert see(world, auth="Bearer let me see") == 200
    assert see(world, auth="Bearer caf\xe9") == 403
    assert go(world, "GET", "/metrics").status == 403


def test_a_proxy_is_believed_only_where_one_is_said_to_be() -> None:
    world = World(trust_proxy=True)
    import base64

    wrong = "Basic " + base64.b64encode(b"ada@example.com:wrong").decode()
    for _ in range(10):
        go(world, "GET", "/.well-known/jmap", auth=wrong, x_forwarded_for="9.9.9.9, 192.0.2.1")
    held = go(world, "GET", "/.well-known/jmap", auth=wrong, x_forwarded_for="8.8.8.8, 192.0.2.1")
    assert held.status == 429, "the address that our own proxy saw is the last one"
    other = go(world, "GET", "/.well-known/jmap", auth=wrong, x_forwarded_for="192.0.2.9")
    assert other.status == 401


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"), ("192.0.2.1:4711", "192.0.2.1"), ("x, 192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("[2001:db8::9]:1", "2001:db8::/64"),
        ("[2001:db8::9]", "2001:db8::/64"), ("::ffff:192.0.2.1", "192.0.2.1"), ("junk", "junk"),
    ],
)  # fmt: skip
def test_an_address_is_counted_as_one_whatever_the_proxy_adds(text: str, expected: str) -> None:
    scope = make_scope("GET", "/", {"x-forwarded-for": text})
    line = Line(scope)
    exchange = Exchange(scope, line.receive, line.send)
    assert find_client_address(exchange, ServerOptions(trust_proxy=True)) == expected
    assert find_client_address(exchange, ServerOptions()) == "127.0.0.1"


def test_a_lifespan_is_answered() -> None:
    async def run() -> None:
        world = World()
        life = Line({"type": "lifespan"})
        life.incoming.put_nowait({"type": "lifespan.startup"})
        life.incoming.put_nowait({"type": "lifespan.shutdown"})
        await world.app(life.scope, life.receive, life.send)
        assert [(await life.next())["type"] for _ in range(2)] == [
            "lifespan.startup.complete",
            "lifespan.shutdown.complete",
        ]

    asyncio.run(run())


def test_a_server_that_says_when_the_client_has_gone_breaks_nothing() -> None:
    async def run() -> None:
        world = World()
        line = Line(make_scope("GET", "/healthz", {"host": "h"}))

        async def send(message: Any) -> None:
            raise ConnectionResetError

        await world.app(line.scope, line.receive, send)
        assert not world.reports

    asyncio.run(run())


PATHS = st.text(
    st.sampled_from(list("/.%2e0aF\\?=&*~;:@\u00e9\x00jmapuploaddownloadhc")), max_size=40
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "QUERY"]),
    st.sampled_from(
        ["/", "/jmap/", "/jmap/upload/", "/jmap/download/", f"/jmap/download/{MAIL}/", "/auth/"]
    ),
    PATHS,
    st.dictionaries(
        st.sampled_from(["range", "if_none_match", "if_range", "content_type", "accept", "host"]),
        st.text(st.characters(max_codepoint=255), max_size=20),
    ),
)
def test_no_address_and_no_header_makes_a_500(
    method: str, prefix: str, rest: str, headers: dict[str, Any]
) -> None:
    world = World()
    url = prefix + rest.encode("utf-8").decode("latin-1")
    answer = go(world, method, url.encode("ascii", "replace").decode(), auth=BASIC, **headers)
    assert answer.status < 500
    assert not world.reports
