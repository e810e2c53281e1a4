"""Requests and messages made to cost much: what they may cost is counted, not timed.

Work is the number of function calls that a request causes, the same on every machine; a deadline
far above what is needed catches what works inside of a single call. The store in memory is enough:
what is bounded here is bounded before a store is asked.
"""

from __future__ import annotations

import cProfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import pytest

from tests.jmap.mail_fixture import upload
from tests.jmap.templates import METHOD_ERRORS, SET_ERRORS, Things
from tests.world import CORE, open_world, raise_report
from tindra.base import limits
from tindra.core.dispatch import encode_response, run_request
from tindra.core.errors import RequestError
from tindra.wire.jmap.request import RequestSyntaxError, parse_request

WORK_MAX: Final = 8_000_000
"""Function calls of one request: about a second of one core."""
SECONDS_MAX: Final = 20.0
"""Far above what any of these takes on a loaded machine."""
ANSWER_BYTES_MAX: Final = 24 * limits.MIB
"""Of the answer to a request that is as large as may be: what it echoes, and what it refers to."""
MANY: Final = 1000


class Cost(NamedTuple):
    """What a request took."""

    work: int
    seconds: float
    responses: list[tuple[str, dict[str, Any]]]
    """Empty: the request was refused as a whole."""
    refusal: str = ""

    def check(self) -> None:
        """It was bounded, and answered by what the RFCs name."""
        assert self.work <= WORK_MAX
        assert self.seconds <= SECONDS_MAX
        for name, result in self.responses:
            if name == "error":
                assert result["type"] in METHOD_ERRORS, result
            for refused in ("notCreated", "notUpdated", "notDestroyed", "notSent"):
                for error in (result.get(refused) or {}).values():
                    assert error["type"] in SET_ERRORS, error


@asynccontextmanager
async def open_things(folder: Path) -> AsyncIterator[Things]:
    async with open_world("memory", folder) as world:
        world.devices.clear()  # one that is new at the end is enough
        things = Things(world)
        await things.make()
        yield things


async def send(things: Things, body: bytes) -> Cost:
    """Answer a request, from bytes to bytes, and count."""
    world, profile = things.world, cProfile.Profile()
    encoded, refusal = b'{"methodResponses":[]}', ""
    began_s = time.process_time()
    profile.enable()
    try:
        request = parse_request(body)
        answer = await run_request(
            world.registry, world.services, world.caller, request, raise_report
        )
        encoded = encode_response(answer, "s")
    except RequestError as error:
        refusal = error.kind
    except RequestSyntaxError as error:
        refusal = error.kind
    finally:
        profile.disable()
    seconds = time.process_time() - began_s
    assert len(encoded) <= ANSWER_BYTES_MAX
    work = sum(entry.callcount for entry in profile.getstats())
    responses = [(n, r) for n, r, _ in msgspec.json.decode(encoded)["methodResponses"]]
    return Cost(work, seconds, responses, refusal)


async def call(things: Things, calls: list[Any], **envelope: Any) -> Cost:
    """As send, for calls of which each is (method, arguments)."""
    using = list(things.world.registry.capabilities)
    numbered = [[name, arguments, str(number)] for number, (name, arguments) in enumerate(calls)]
    body = msgspec.json.encode({"using": using, "methodCalls": numbered} | envelope)
    assert len(body) <= limits.REQUEST_BYTES_MAX
    return await send(things, body)


# -- the request ---------------------------------------------------------------------------------
ECHO: Final = b'["Core/echo",{},"0"]'
_HEAD: Final = b'{"using":["' + CORE.encode() + b'"],"methodCalls":'
BODIES: Final = {
    "ten thousand calls": (_HEAD + b"[" + b",".join([ECHO] * 10_000) + b"]}", "limit"),
    "the same capability": (
        b'{"using":["' + b'","'.join([CORE.encode()] * 10_000) + b'"],"methodCalls":[]}',
        "",
    ),
    "ten thousand capabilities": (
        b'{"using":["'
        + b'","'.join(b"urn:%d" % n for n in range(10_000))
        + b'"],"methodCalls":[]}',
        "unknownCapability",
    ),
    "deep arrays": (_HEAD + b"[" * 1_000_000, "notJSON"),
    "deep objects": (_HEAD + b'{"a":' * 1_000_000, "notJSON"),
    "deep and closed": (_HEAD + b"[" * 500_000 + b"]" * 500_000 + b"}", "notJSON"),
    "one long text": (_HEAD + b'["' + b"x" * 9_000_000 + b'"]}', "notRequest"),
    "one long number": (_HEAD + b"[" + b"9" * 9_000_000 + b"]}", "notJSON"),
    "one long created id": (
        _HEAD + b'[],"createdIds":{"' + b"k" * 1_000_000 + b'":"x"}}',
        "notRequest",
    ),
    "names that stand twice": (
        _HEAD + b"[],".replace(b"[]", b"{" + b'"a":1,' * 400_000),
        "notJSON",
    ),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_request_that_is_too_much_is_refused_as_a_whole(name: str, tmp_path: Path) -> None:
    body, refusal = BODIES[name]
    async with open_things(tmp_path) as things:
        cost = await send(things, body)
    cost.check()
    assert cost.refusal == refusal


async def test_a_megabyte_of_created_ids_is_understood(tmp_path: Path) -> None:
    created = {f"k{n}": "x" * 100 for n in range(9_000)}
    async with open_things(tmp_path) as things:
        box = {"name": "N", "parentId": "#k5"}
        arguments = {"accountId": things.account, "create": {"m": box}}
        cost = await call(things, [("Mailbox/set", arguments)] * 60, createdIds=created)
    cost.check()
    assert cost.responses[0][1]["notCreated"]["m"]["type"] == "invalidProperties"


# -- result references ---------------------------------------------------------------------------
def _refer(number: int, path: str) -> dict[str, str]:
    return {"resultOf": str(number), "name": "Core/echo", "path": path}


def _double(first: dict[str, Any]) -> list[Any]:
    """Each call holds the one before it twice."""
    chain = [("Core/echo", {f"#{n}": _refer(k, "") for n in "ab"}) for k in range(60)]
    return [("Core/echo", first), *chain]


_WIDE: Final = {"v": [{"b": [1] * 90}] * 4_000}
REFERENCES: Final[dict[str, list[Any]]] = {
    "doubling numbers": _double({"v": [1, 2]}),
    "doubling long texts": _double({"v": ["x" * 1000] * 1000}),
    "through a star": [
        ("Core/echo", _WIDE),
        ("Core/echo", {f"#x{n}": _refer(0, "/v/*/b") for n in range(MANY)}),
    ],
    "many stars": [("Core/echo", _WIDE), ("Core/echo", {"#x": _refer(0, "/v" + "/*" * 10_000)})],
    "a long path": [("Core/echo", _WIDE), ("Core/echo", {"#x": _refer(0, "/v" * 1_000_000)})],
    "an empty star": [
        ("Core/echo", {"v": [[]] * 100_000}),
        ("Core/echo", {f"#x{n}": _refer(0, "/v/*/*/*") for n in range(MANY)}),
    ],
}


@pytest.mark.parametrize("name", REFERENCES)
async def test_result_references_cost_what_they_stand_for(name: str, tmp_path: Path) -> None:
    async with open_things(tmp_path) as things:
        cost = await call(things, REFERENCES[name])
    cost.check()
    assert cost.responses[-1][1]["type"] == "invalidResultReference"


# -- the arguments -------------------------------------------------------------------------------
def _nest(condition: dict[str, Any], levels: int, count: int) -> dict[str, Any]:
    found: dict[str, Any] = {"operator": "OR", "conditions": [condition] * count}
    for _ in range(levels):
        found = {"operator": "AND", "conditions": [found]}
    return found


async def test_every_query_bounds_its_filter_its_sort_and_its_states(tmp_path: Path) -> None:
    long = "9" * 1_000_000
    async with open_things(tmp_path) as things:
        queries = [t for t in things.make_all() if t[0].endswith(("/query", "/queryChanges"))]
        whole = [t for t in queries if t[1]["filter"] is not None]
        assert len(whole) == len({name for name, _ in queries})
        for name, template in whole:
            leaf = template["filter"]["conditions"][-1]
            wide = template | {"filter": _nest(leaf, 20, MANY)}
            most = template | {"filter": _nest(leaf, 3, limits.FILTER_CONDITIONS_MAX - 10)}
            sorted_by = template | {"sort": template["sort"][:1] * MANY, "filter": None}
            far = [
                template | {key: long}
                for key in ("upToId", "anchor", "sinceQueryState")
                if key in template
            ]
            cost = await call(things, [(name, wide)])
            cost.check()
            assert [result["type"] for _, result in cost.responses] == ["unsupportedFilter"]
            cost = await call(things, [(name, given) for given in (*[most] * 10, sorted_by, *far)])
            cost.check()
            assert len(cost.responses) == 11 + len(far)


async def test_lists_of_ids_are_bounded_for_every_method(tmp_path: Path) -> None:
    """At the limit of a /get or /set, above it, and far above it."""
    async with open_things(tmp_path) as things:
        for name, template in things.make_all():
            lists = [
                k for k, v in template.items() if isinstance(v, list) and k[-3:].lower() == "ids"
            ]
            for key in lists:
                ids = [f"x{n}" for n in range(limits.OBJECTS_IN_GET_MAX)]
                (await call(things, [(name, template | {key: ids})] * 3)).check()
                far = [f"x{n}" for n in range(20_000)]
                cost = await call(things, [(name, template | {key: [*ids, "y"]}),
                                           (name, template | {key: far})])  # fmt: skip
                cost.check()
                assert [r["type"] for _, r in cost.responses] == ["requestTooLarge"] * 2, name


def _list_writes(things: Things) -> dict[str, tuple[str, dict[str, Any]]]:
    """Objects with very much in them."""
    many, inbox = range(30_000), {things.inbox: True}
    reads, email = {"mayReadItems": True}, things.emails[0]
    chain = {f"k{n}": {"name": f"n{n}", "parentId": f"#k{n + 1}"} for n in range(999)}
    circle = chain | {"k998": {"name": "n", "parentId": "#k0"}}
    blobs = {f"k{n}": {"data": [{"blobId": f"#k{n + 1}"}] * 4} for n in range(999)}
    blobs |= {"k999": {"data": [{"data:asText": "x" * 1000}]}}
    patch = {f"keywords/k{n}": True for n in many}
    snoozed = {"until": "2030-01-01T00:00:00Z", "setKeywords": {f"k{n}": True for n in many}}
    draft: dict[str, Any] = {"mailboxIds": inbox}
    files = [{"blobId": things.text_blob, "type": "x/y"}] * 20_000
    people = [{"email": f"a{n}@x.example"} for n in range(20_000)]
    envelope = {"mailFrom": {"email": "alex@example.org"}, "rcptTo": people}
    signed = {"email": "alex@example.org", "htmlSignature": "&<b" * 80_000}
    leaving = {"identityId": things.identity, "emailId": email, "envelope": envelope}
    shares = {f"shareWith/{n}": reads for n in many}
    fields = {"header:X-A:asText:all": ["é"] * 4_000}
    away = {"htmlBody": "<p>" * 3_000_000}
    url = "https://push.example.com/" + "a" * 9_000_000
    return {
        "chain": ("Mailbox/set", {"create": chain}),
        "circle": ("Mailbox/set", {"create": circle}),
        "shares": ("Mailbox/set", {"update": {things.inbox: shares}}),
        "keywords": ("Email/set", {"update": {email: patch}}),
        "snoozed": ("Email/set", {"update": {email: {"snoozed": snoozed}}}),
        "people": ("Email/set", {"create": {"k": draft | {"to": people}}}),
        "subject": ("Email/set", {"create": {"k": draft | {"subject": "é" * 100_000}}}),
        "fields": ("Email/set", {"create": {"k": draft | fields}}),
        "files": ("Email/set", {"create": {"k": draft | {"attachments": files}}}),
        "recipients": ("EmailSubmission/set", {"create": {"k": leaving}}),
        "signatures": ("Identity/set", {"create": {f"k{n}": signed for n in range(9)}}),
        "away": ("VacationResponse/set", {"update": {"singleton": away}}),
        "blobs": ("Blob/upload", {"create": blobs}),
        "device": ("PushSubscription/set", {"create": {"k": {"deviceClientId": "d", "url": url}}}),
        "name": ("Principal/set", {"update": {things.user: {"name": "n" * 9_000_000}}}),
    }  # fmt: skip


async def test_an_object_with_very_much_in_it_costs_no_more_than_it_weighs(tmp_path: Path) -> None:
    async with open_things(tmp_path) as things:
        for name, (method, given) in _list_writes(things).items():
            account = things.home if method == "Principal/set" else things.account
            place = {} if method == "PushSubscription/set" else {"accountId": account}
            cost = await call(things, [(method, place | given)])
            cost.check()
            assert cost.responses[0][0] == method, (name, cost.responses)


# -- messages ------------------------------------------------------------------------------------
def _list(unit: Callable[[int], str], count: int, separator: str = "") -> str:
    return separator.join(unit(number) for number in range(count))


_MIXED: Final = "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
_NESTED: Final = "Content-Type: multipart/mixed; boundary=b{0}\r\n\r\n--b{0}\r\n"
MESSAGES: Final[dict[str, Callable[[int], str]]] = {
    "nested multiparts": lambda n: _list(_NESTED.format, 2 * n // 10) + "\r\nHi\r\n",
    "messages in messages": lambda n: "Content-Type: message/rfc822\r\n\r\n" * (n // 5) + "\r\nHi",
    "parts": lambda n: (
        _MIXED + "--b\r\nContent-Type: image/png\r\n\r\nx\r\n" * (2 * n) + "--b--\r\n"
    ),
    "empty parts": lambda n: _MIXED + "--b\r\n" * (5 * n),
    "addresses": lambda n: "To: " + _list("N{0} <a{0}@x.example>".format, n, ", ") + "\r\n\r\nHi",
    "encoded words": lambda n: "Subject: " + "=?utf-8?q?a=C3=A9?= " * (3 * n // 2) + "\r\n\r\nHi",
    "references": lambda n: "References: " + _list("<{0}@x>".format, 5 * n, " ") + "\r\n\r\nHi",
    "fields": lambda n: _list("X-{0}: y\r\n".format, 5 * n) + "\r\nHi",
    "folded": lambda n: "Subject: " + "a\r\n " * (10 * n) + "\r\n\r\nHi",
    "comments": lambda n: "To: " + "(" * (10 * n) + "\r\n\r\nHi",
    "quotes": lambda n: "To: " + '"\\' * (5 * n) + "\r\n\r\nHi",
    "parameters": lambda n: (
        "Content-Type: text/plain; " + _list("a*{0}*=utf-8''%41".format, n, "; ") + "\r\n\r\nHi"
    ),
    "elements": lambda n: "Content-Type: text/html\r\n\r\n" + "<div>" * (5 * n),
    "styles": lambda n: "Content-Type: text/html\r\n\r\n<p style='" + "c:d;" * (10 * n) + "'>x",
}
"""Name -> what follows the first fields, of a size that grows with a number."""
_BODIES: Final = {
    "properties": [
        "subject", "from", "to", "references", "messageId", "bodyStructure", "textBody",
        "htmlBody", "attachments", "bodyValues", "preview", "headers", "header:To:asAddresses:all",
        "header:Subject:asText:all", "header:References:asMessageIds",
    ],
    "fetchAllBodyValues": True,
}  # fmt: skip


async def _read_through(things: Things, raw: bytes) -> int:
    """Work of Email/parse, MDN/parse, Email/import and Email/get of one message."""
    account = {"accountId": things.account}
    blob = await upload(things.world, raw)
    email = {"blobId": blob, "mailboxIds": {things.inbox: True}}
    calls: list[Any] = [
        ("Email/parse", account | _BODIES | {"blobIds": [blob]}),
        ("MDN/parse", account | {"blobIds": [blob]}),
        ("Email/import", account | {"emails": {"e": email}}),
    ]
    cost = await call(things, calls)
    cost.check()
    (_, parsed), (_, _), (_, imported) = cost.responses
    assert parsed.get("type") == "requestTooLarge" or list(parsed["parsed"]) == [blob]
    got = await call(
        things,
        [("Email/get", account | _BODIES | {"ids": [imported["created"]["e"]["id"]]})],
    )
    got.check()
    return cost.work + got.work


@pytest.mark.parametrize("name", MESSAGES)
async def test_a_message_made_to_be_hard_to_read_costs_what_its_size_costs(
    name: str, tmp_path: Path
) -> None:
    """Twice the size is about twice the work; ten thousand parts are no exception."""
    async with open_things(tmp_path) as things:
        work = []
        for count in (5_000, 10_000):
            head = f"Message-ID: <{name.replace(' ', '-')}.{count}@b>\r\nMIME-Version: 1.0\r\n"
            work.append(await _read_through(things, (head + MESSAGES[name](count)).encode()))
    assert work[1] <= 2.3 * work[0] + 20_000, work
