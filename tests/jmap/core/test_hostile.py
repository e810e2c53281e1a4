"""A hostile client: any JSON at any place of any call is answered by an error the RFC names.

Each call begins as one that would be fine. An unexpected error in a method fails the test at once
(tests/world.py, raise_report). Source: RFC 8620 s3.6.2
"""

from __future__ import annotations

import asyncio
import copy
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.jmap.json_strategies import ODD_VALUES, any_json, list_places, spoilt
from tests.jmap.mail_fixture import add_account, make_raw
from tests.world import World

_FUZZ = settings(
    max_examples=60,
    # Far above what any call takes: it catches what hangs.
    deadline=timedelta(seconds=15),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TYPES = (
    "Mailbox", "Thread", "Email", "SearchSnippet", "Identity", "EmailSubmission", "Connection",
    "Quota", "Blob", "MDN",
)  # fmt: skip
METHOD_ERRORS = frozenset(
    "invalidArguments requestTooLarge accountNotFound cannotCalculateChanges stateMismatch"
    " unsupportedFilter unsupportedSort anchorNotFound invalidResultReference fromAccountNotFound"
    " forbidden tooManyChanges unknownDataType".split()
)
SET_ERRORS = frozenset(
    "invalidProperties invalidPatch notFound willDestroy forbidden overQuota tooLarge singleton"
    " alreadyExists mailboxHasChild mailboxHasEmail blobNotFound tooManyKeywords tooManyMailboxes"
    " invalidEmail forbiddenFrom forbiddenMailFrom forbiddenToSend noRecipients invalidRecipients"
    " tooManyRecipients cannotUnsend rateLimit mdnAlreadySent".split()
)


class Things:
    """What a World holds before the fuzz begins."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.inbox = self.trash = self.child = self.identity = self.other = ""
        self.emails: list[str] = []
        self.threads: list[str] = []
        self.blobs: list[str] = []

    async def make(self) -> None:
        """Some of everything, in an account and beside it."""
        world = self.world
        self.other = await add_account(world, "team", "read", "triage")
        self.inbox = await world.add_mailbox("Inbox", role="inbox")
        self.trash = await world.add_mailbox("Trash", role="trash")
        self.child = await world.add_mailbox("Child", parentId=self.trash)
        for number in range(3):
            raw = make_raw(f"Subject {number}", f"m{number}@x")
            self.emails.append(await world.add_email(self.inbox, raw))
        reply = make_raw("Re: Subject 0", "reply@x", In_Reply_To="<m0@x>")
        self.emails.append(await world.add_email(self.child, reply, ("$seen",)))
        got = await world.call("Email/get", ids=self.emails, properties=["threadId", "blobId"])
        self.threads = [email["threadId"] for email in got["list"]]
        self.blobs = [email["blobId"] for email in got["list"]]
        made = await world.call("Identity/set", create={"i": {"email": "alex@example.org"}})
        self.identity = made["created"]["i"]["id"]

    @property
    def ids(self) -> list[str]:
        """All of them."""
        return [
            self.inbox, self.trash, self.child, *self.emails, *self.threads, *self.blobs,
            self.identity, self.other,
        ]  # fmt: skip

    def make_templates(self, type_name: str) -> dict[str, dict[str, Any]]:
        """Method -> arguments that would be fine, with everything that may be given."""
        known = _OBJECTS[type_name](self) if type_name in _OBJECTS else {}
        some = {"Email": self.emails, "Thread": self.threads, "Mailbox": [self.inbox, self.trash]}
        ids = some.get(type_name, [self.identity])
        shared = {
            "filter": {
                "operator": "AND",
                "conditions": [
                    {"operator": "NOT", "conditions": [known.get("filter", {})]},
                    known.get("filter", {}),
                ],
            },
            "sort": known.get("sort", []),
            "calculateTotal": True,
            **known.get("query", {}),
        }
        templates: dict[str, dict[str, Any]] = {
            "get": {"ids": ids, "properties": ["id"], **known.get("get", {})},
            "changes": {"sinceState": "1", "maxChanges": 5},
            "set": {"ifInState": None, "destroy": ["nothing"], **known.get("set", {})},
            "query": shared | {"position": 0, "limit": 5, "anchor": None, "anchorOffset": 1},
            "queryChanges": shared | {"sinceQueryState": "1", "maxChanges": 50, "upToId": ids[0]},
            **known.get("more", {}),
        }
        return {f"{type_name}/{verb}": arguments for verb, arguments in templates.items()}


def _mailbox(things: Things) -> dict[str, Any]:
    box = {"name": "A", "parentId": things.trash, "role": "archive", "sortOrder": 5}
    return {
        "filter": {"name": "a", "role": None, "hasAnyRole": False, "isSubscribed": True},
        "sort": [{"property": "name", "isAscending": False, "collation": "i;ascii-casemap"}],
        "query": {"sortAsTree": True, "filterAsTree": False},
        "get": {"properties": ["name", "myRights"]},
        "set": {
            "create": {"k": box | {"isSubscribed": True}, "l": {"name": "B", "parentId": "#k"}},
            "update": {things.child: {"name": "C", "sortOrder": 1, "parentId": None}},
            "destroy": [things.child],
            "onDestroyRemoveEmails": False,
        },
    }


def _email(things: Things) -> dict[str, Any]:
    place: dict[str, Any] = {"mailboxIds": {things.inbox: True}, "keywords": {"$draft": True}}
    body = ["fetchTextBodyValues", "fetchHTMLBodyValues", "fetchAllBodyValues"]
    values: dict[str, Any] = {"bodyProperties": ["partId", "header:X-A:asText"]}
    values |= {"maxBodyValueBytes": 9} | dict.fromkeys(body, True)
    parts = {
        "bodyValues": {"t": {"value": "Hi"}},
        "textBody": [{"partId": "t", "type": "text/plain"}],
        "attachments": [{"blobId": things.blobs[0], "type": "message/rfc822", "name": "a.eml"}],
        "from": [{"name": "Alex", "email": "alex@example.org"}],
        "subject": "S",
        "header:X-A:asDate:all": ["2026-01-01T00:00:00Z"],
        "receivedAt": "2026-01-01T00:00:00Z",
        "sentAt": "2026-01-01T00:00:00+01:00",
    }
    tree = {"type": "multipart/mixed", "subParts": [{"partId": "t", "type": "text/html"}]}
    return {
        "filter": {
            "inMailbox": things.inbox, "inMailboxOtherThan": [things.trash], "minSize": 1,
            "before": "2030-01-01T00:00:00Z", "after": "2001-01-01T00:00:00Z", "maxSize": 10**6,
            "allInThreadHaveKeyword": "a", "someInThreadHaveKeyword": "b", "hasKeyword": "$seen",
            "noneInThreadHaveKeyword": "c", "notKeyword": "d", "hasAttachment": False, "text": "x",
            "from": "mira", "to": "alex", "cc": "x", "bcc": "x", "subject": "x", "body": "x",
            "header": ["X-A", "b"],
        },
        "sort": [{"property": "hasKeyword", "keyword": "$seen"}, {"property": "receivedAt"}],
        "query": {"collapseThreads": True},
        "get": {"properties": ["header:From:asAddresses", "bodyValues", "textBody"]} | values,
        "set": {
            "create": {
                "k": place | parts,
                "l": place | {"bodyStructure": tree, "bodyValues": {"t": {"value": "<p>"}}},
            },
            "update": {
                things.emails[0]: {"keywords/$seen": True, f"mailboxIds/{things.child}": None},
                things.emails[1]: place | {"id": things.emails[1]},
            },
        },
        "more": {
            "import": {
                "ifInState": None,
                "emails": {"k": place | {"blobId": things.blobs[0], "receivedAt": None}},
            },
            "parse": {"blobIds": things.blobs[:2], "properties": ["subject"]} | values,
            "copy": {
                "fromAccountId": things.other,
                "create": {"k": place | {"id": things.emails[0]}},
                "onSuccessDestroyOriginal": True,
                "ifFromInState": None,
                "destroyFromIfInState": None,
            },
        },
    }  # fmt: skip


def _identity(things: Things) -> dict[str, Any]:
    address = [{"name": None, "email": "a@b.example"}]
    obj = {"name": "N", "replyTo": address, "bcc": address, "textSignature": "t"}
    return {
        "get": {"properties": ["name", "replyTo"]},
        "set": {
            "create": {"k": obj | {"email": "alex@example.org", "htmlSignature": "<p>"}},
            "update": {things.identity: {"name": "X", "bcc": None, "textSignature": "s"}},
        },
    }


def _submission(things: Things) -> dict[str, Any]:
    address = {"email": "alex@example.org", "parameters": {"HOLDFOR": "60"}}
    made = {"identityId": things.identity, "emailId": things.emails[0]}
    return {
        "filter": {
            "identityIds": [things.identity], "emailIds": things.emails[:1], "undoStatus": "final",
            "threadIds": things.threads[:1], "before": "2030-01-01T00:00:00Z",
            "after": "2001-01-01T00:00:00Z",
        },
        "sort": [{"property": "emailId"}, {"property": "sentAt", "isAscending": False}],
        "get": {"properties": ["envelope", "deliveryStatus"]},
        "set": {
            "create": {"k": made | {"envelope": {"mailFrom": address, "rcptTo": [address]}}},
            "update": {"#k": {"undoStatus": "canceled"}},
            "onSuccessUpdateEmail": {"#k": {"keywords/$seen": True}},
            "onSuccessDestroyEmail": ["#k"],
        },
    }  # fmt: skip


def _snippet(things: Things) -> dict[str, Any]:
    return {"more": {"get": {"filter": {"text": "subject hi*"}, "emailIds": things.emails}}}


def _quota(things: Things) -> dict[str, Any]:
    return {
        "get": {"ids": None, "properties": ["used", "types"]},
        "filter": {"name": "a", "scope": "account", "resourceType": "octets", "type": "Email"},
        "sort": [{"property": "name"}, {"property": "used", "isAscending": False}],
    }


def _blob(things: Things) -> dict[str, Any]:
    part = f"{things.blobs[0]}_0_5_base64"
    source = {"blobId": things.blobs[0], "offset": 1, "length": 5}
    made = {"data": [{"data:asText": "a"}, {"data:asBase64": "YQ=="}, source], "type": "text/plain"}
    return {
        "more": {
            "upload": {"create": {"k": made, "l": {"data": [{"blobId": "#k"}]}}},
            "get": {
                "ids": [things.blobs[0], part], "properties": ["data", "size", "digest:sha"],
                "offset": 1, "length": 9,
            },
            "lookup": {"typeNames": ["Email", "Mailbox"], "ids": [things.blobs[0], part]},
            "copy": {"fromAccountId": things.other, "blobIds": things.blobs},
        },
    }  # fmt: skip


def _mdn(things: Things) -> dict[str, Any]:
    said = {"actionMode": "manual-action", "sendingMode": "mdn-sent-manually", "type": "displayed"}
    mdn = {
        "forEmailId": things.emails[0], "disposition": said, "subject": "S", "textBody": "T",
        "includeOriginalMessage": True, "reportingUA": "x; y", "extensionFields": {"X-A": "b"},
        "finalRecipient": "rfc822; alex@example.org",
    }  # fmt: skip
    return {
        "more": {
            "send": {
                "identityId": things.identity,
                "send": {"k": mdn},
                "onSuccessUpdateEmail": {"#k": {"keywords/$mdnsent": True}},
            },
            "parse": {"blobIds": things.blobs},
        },
    }


_OBJECTS = {
    "Blob": _blob,
    "MDN": _mdn,
    "Quota": _quota,
    "Mailbox": _mailbox,
    "Email": _email,
    "Identity": _identity,
    "EmailSubmission": _submission,
    "SearchSnippet": _snippet,
}


async def _check_answer(world: World, calls: list[Any]) -> None:
    answer = await world.raw_request(calls)
    assert [id for _, _, id in calls] == list(
        dict.fromkeys(id for _, _, id in answer["methodResponses"])
    )
    for name, result, _ in answer["methodResponses"]:
        if name == "error":
            assert result["type"] in METHOD_ERRORS, result
            assert len(result.get("description", "")) < 1000
        for refused in ("notCreated", "notUpdated", "notDestroyed", "notSent", "notCopied"):
            for error in (result.get(refused) or {}).values():
                assert error["type"] in SET_ERRORS, error
    for account_id in world.caller.accounts:
        await world.services.store.check_invariants(account_id)


def test_the_calls_that_are_spoilt_cover_every_method_and_are_fine_before(
    runner: asyncio.Runner, world: World
) -> None:
    things = Things(world)
    runner.run(things.make())
    found: set[str] = set()
    for type_name in TYPES:
        for name, arguments in things.make_templates(type_name).items():
            if name in world.registry.methods:
                [[answered, result, _], *_] = runner.run(world.calls([[name, arguments, "0"]]))
                # The filter has words and the sort is a tree, whose changes nobody follows.
                assert answered == name or result["type"] == "cannotCalculateChanges", result
                found.add(name)
    assert found == set(world.registry.methods) - {"Core/echo"}


@pytest.mark.parametrize("type_name", TYPES)
async def test_every_value_of_a_call_may_be_of_any_wrong_kind(world: World, type_name: str) -> None:
    """Each value at each place, however deep, replaced by one of each kind in turn."""
    things = Things(world)
    await things.make()
    for name, arguments in things.make_templates(type_name).items():
        if name in world.registry.methods:
            template = {"accountId": world.account_id} | arguments
            for number in range(len(list(list_places(template)))):
                calls = []
                for odd in ODD_VALUES:
                    spoiled = copy.deepcopy(template)
                    holder, key = list(list_places(spoiled))[number]
                    holder[key] = odd
                    calls.append([name, spoiled, str(len(calls))])
                await _check_answer(world, calls)


@pytest.mark.parametrize("type_name", TYPES)
def test_any_json_at_any_place_of_a_call_is_answered_and_harms_nothing(
    runner: asyncio.Runner, world: World, type_name: str
) -> None:
    things = Things(world)
    runner.run(things.make())
    templates = things.make_templates(type_name)
    methods = sorted(templates.keys() & world.registry.methods.keys())

    @_FUZZ
    @given(st.data())
    def run(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(methods))
        template = {"accountId": world.account_id} | templates[name]
        arguments = data.draw(spoilt(template, things.ids), label=name)
        runner.run(_check_answer(world, [[name, arguments, "0"]]))

    run()


def test_any_json_as_arguments_of_any_method_is_answered(
    runner: asyncio.Runner, world: World
) -> None:
    things = Things(world)
    runner.run(things.make())
    methods = sorted(set(world.registry.methods) - {"Core/echo"})
    names = sorted({name for t in TYPES for a in things.make_templates(t).values() for name in a})
    json = any_json(things.ids)

    @_FUZZ
    @given(st.sampled_from(methods), st.dictionaries(st.sampled_from(names), json, max_size=4))
    def run(name: str, arguments: dict[str, Any]) -> None:
        given = {"accountId": world.account_id} | arguments
        runner.run(_check_answer(world, [[name, given, "0"]]))

    run()


def test_any_references_between_any_calls_are_answered(
    runner: asyncio.Runner, world: World
) -> None:
    things = Things(world)
    runner.run(things.make())
    templates = {n: a for t in TYPES for n, a in things.make_templates(t).items()}
    methods = sorted(templates.keys() & world.registry.methods.keys())
    names = sorted({name for arguments in templates.values() for name in arguments})
    tokens = st.sampled_from(["list", "*", "ids", "0", "id", "created", "notFound", "k", "", "~1"])
    paths = st.lists(tokens, max_size=5).map(lambda found: "".join("/" + t for t in found))

    @st.composite
    def calls(draw: st.DrawFn) -> list[Any]:
        found: list[Any] = []
        for number in range(draw(st.integers(1, 5))):
            name = draw(st.sampled_from(methods))
            arguments = {"accountId": world.account_id} | templates[name]
            for argument in draw(st.lists(st.sampled_from(names), max_size=2)):
                arguments.pop(argument, None)
                arguments["#" + argument] = {
                    "resultOf": str(draw(st.integers(0, number))),
                    "name": found[-1][0] if found else "Core/echo",
                    "path": draw(paths),
                }
            found.append([name, arguments, str(number)])
        return found

    @_FUZZ
    @given(calls())
    def run(calls: list[Any]) -> None:
        runner.run(_check_answer(world, calls))

    run()
