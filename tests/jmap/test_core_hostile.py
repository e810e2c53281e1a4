"""A hostile client: any JSON as arguments of any method is answered by an error the RFC names.

An unexpected error in a method fails the test at once (tests/world.py, raise_report).
Source: RFC 8620 s3.6.2
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.jmap.json_strategies import NAMES, any_json
from tests.jmap.mail_fixture import make_raw
from tests.world import World

_FUZZ = settings(
    max_examples=120,
    # Far above what any call takes: it catches what hangs.
    deadline=timedelta(seconds=15),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
_ARGUMENTS = (
    "ids properties sinceState maxChanges create update destroy ifInState filter sort position"
    " anchor anchorOffset limit calculateTotal collapseThreads sinceQueryState upToId"
    " bodyProperties fetchTextBodyValues fetchHTMLBodyValues fetchAllBodyValues maxBodyValueBytes"
    " onDestroyRemoveEmails sortAsTree filterAsTree emails blobIds emailIds fromAccountId"
    " ifFromInState onSuccessDestroyOriginal destroyFromIfInState onSuccessUpdateEmail"
    " onSuccessDestroyEmail unknown #ids"
).split()
_BY_METHOD = {
    "get": "ids properties bodyProperties fetchAllBodyValues maxBodyValueBytes emailIds filter",
    "changes": "sinceState maxChanges",
    "set": "create update destroy ifInState onDestroyRemoveEmails onSuccessUpdateEmail",
    "query": "filter sort position anchor anchorOffset limit calculateTotal collapseThreads",
    "queryChanges": "filter sort sinceQueryState maxChanges upToId calculateTotal",
    "copy": "fromAccountId create onSuccessDestroyOriginal",
    "import": "emails",
    "parse": "blobIds properties",
}
METHOD_ERRORS = frozenset(
    "invalidArguments requestTooLarge accountNotFound cannotCalculateChanges stateMismatch"
    " unsupportedFilter unsupportedSort anchorNotFound invalidResultReference fromAccountNotFound"
    " forbidden tooManyChanges".split()
)
SET_ERRORS = frozenset(
    "invalidProperties invalidPatch notFound willDestroy forbidden overQuota tooLarge singleton"
    " alreadyExists mailboxHasChild mailboxHasEmail blobNotFound tooManyKeywords tooManyMailboxes"
    " invalidEmail forbiddenFrom forbiddenMailFrom forbiddenToSend noRecipients invalidRecipients"
    " tooManyRecipients cannotUnsend rateLimit".split()
)


def _shape(
    name: str, type_name: str, json: st.SearchStrategy[Any], ids: list[str]
) -> st.SearchStrategy[Any]:
    """Values of the right outer type, which get further into a method; else any JSON."""
    names = st.sampled_from(NAMES[type_name].split())
    known = st.sampled_from([*ids, "#k", "nothing"])
    objects = st.dictionaries(
        st.sampled_from(["k", "l", *ids]),
        st.dictionaries(names, json, max_size=4),
        max_size=3,
    )
    sorts = st.sampled_from("name size receivedAt hasKeyword sentAt emailId".split())
    odd = st.sampled_from(["isAscending", "keyword", "collation"])
    shapes: dict[str, st.SearchStrategy[Any]] = {
        "ids": st.lists(known, max_size=5) | st.none(),
        "emailIds": st.lists(known, max_size=5),
        "blobIds": st.lists(known, max_size=5),
        "destroy": st.lists(known, max_size=3),
        "properties": st.lists(names, max_size=6),
        "create": objects,
        "update": objects,
        "emails": objects,
        "sinceState": st.sampled_from(["0", "1", "3", f"3.{ids[0]}", f"4.{ids[4]}", "999"]),
        "sinceQueryState": st.sampled_from(["0", "1", "3", "4"]),
        "filter": st.dictionaries(names, json, max_size=3),
        "sort": st.lists(
            st.builds(lambda a, b: {"property": a} | b, sorts, st.dictionaries(odd, json)),
            max_size=3,
        ),
    }
    return shapes[name] | json if name in shapes else json


@st.composite
def _calls(draw: st.DrawFn, methods: list[str], ids: list[str], account_id: str) -> list[Any]:
    name = draw(st.sampled_from(methods))
    type_name, _, verb = name.partition("/")
    json = any_json(ids)
    usual = st.sampled_from(_BY_METHOD[verb].split())
    chosen = draw(st.lists(usual, max_size=3)) + draw(
        st.lists(st.sampled_from(_ARGUMENTS), max_size=1)
    )
    arguments = {given: draw(_shape(given, type_name, json, ids)) for given in chosen}
    is_odd = draw(st.integers(0, 19)) == 0
    arguments["accountId"] = draw(json) if is_odd else account_id
    return [name, arguments, "0"]


async def _set_up(world: World) -> list[str]:
    """Some of everything; gives all ids there are."""
    inbox = await world.add_mailbox("Inbox", role="inbox")
    trash = await world.add_mailbox("Trash", role="trash")
    child = await world.add_mailbox("Child", parentId=trash)
    emails = [await world.add_email(inbox, make_raw(f"Subject {n}", f"m{n}@x")) for n in range(3)]
    reply = make_raw("Re: Subject 0", "reply@x", In_Reply_To="<m0@x>")
    emails.append(await world.add_email(child, reply, ("$seen",)))
    got = await world.call("Email/get", ids=emails, properties=["threadId", "blobId"])
    made = await world.call("Identity/set", create={"i": {"email": "alex@example.org"}})
    found = [inbox, trash, child, *emails, made["created"]["i"]["id"]]
    for email in got["list"]:
        found += [email["threadId"], email["blobId"]]
    return found


@pytest.mark.parametrize("type_name", sorted(NAMES))
def test_any_json_as_arguments_is_answered_and_harms_nothing(
    runner: asyncio.Runner, world: World, type_name: str
) -> None:
    ids = runner.run(_set_up(world))
    methods = [name for name in sorted(world.registry.methods) if name.startswith(type_name + "/")]

    @_FUZZ
    @given(_calls(methods, ids, world.account_id))
    def run(call: list[Any]) -> None:
        answer = runner.run(world.raw_request([call]))
        for name, result, call_id in answer["methodResponses"]:
            assert call_id == "0"
            if name == "error":
                assert result["type"] in METHOD_ERRORS, result
            for refused in ("notCreated", "notUpdated", "notDestroyed"):
                for error in (result.get(refused) or {}).values():
                    assert error["type"] in SET_ERRORS, error
        runner.run(world.services.store.check_invariants(world.account_id))

    run()


def test_any_json_as_several_calls_with_references_is_answered(
    runner: asyncio.Runner, world: World
) -> None:
    runner.run(_set_up(world))
    methods = sorted(world.registry.methods)
    names = st.sampled_from([*_ARGUMENTS, "accountId"])
    paths = st.lists(
        st.sampled_from(["list", "*", "ids", "0", "id", "created", "notFound", "k", "", "~1", "~"]),
        max_size=5,
    ).map(lambda tokens: "".join("/" + token for token in tokens))

    @st.composite
    def calls(draw: st.DrawFn) -> list[Any]:
        found = []
        for number in range(draw(st.integers(1, 5))):
            arguments: dict[str, Any] = {"accountId": world.account_id}
            for name in draw(st.lists(names, max_size=2)):
                arguments["#" + name] = {
                    "resultOf": str(draw(st.integers(0, number))),
                    "name": draw(st.sampled_from(methods)),
                    "path": draw(paths),
                }
            found.append([draw(st.sampled_from(methods)), arguments, str(number)])
        return found

    @_FUZZ
    @given(calls())
    def run(calls: list[Any]) -> None:
        answer = runner.run(world.raw_request(calls))
        assert {id for _, _, id in answer["methodResponses"]} == {id for _, _, id in calls}
        for name, result, _ in answer["methodResponses"]:
            assert name != "error" or result["type"] in METHOD_ERRORS, result
        runner.run(world.services.store.check_invariants(world.account_id))

    run()
