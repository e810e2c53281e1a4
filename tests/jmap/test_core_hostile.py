"""A hostile client: any JSON as arguments of any method is answered by an error the RFC names.

Source: RFC 8620 s3.6.2
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.jmap.json_strategies import any_json
from tests.jmap.mail_fixture import add_account, make_raw
from tests.world import World

_FUZZ = settings(
    max_examples=150,
    deadline=timedelta(seconds=10),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
_ARGUMENTS = (
    "ids", "properties", "sinceState", "maxChanges", "create", "update", "destroy", "ifInState",
    "filter", "sort", "position", "anchor", "anchorOffset", "limit", "calculateTotal",
    "collapseThreads", "sinceQueryState", "upToId", "bodyProperties", "fetchTextBodyValues",
    "fetchHTMLBodyValues", "fetchAllBodyValues", "maxBodyValueBytes", "onDestroyRemoveEmails",
    "sortAsTree", "filterAsTree", "emails", "blobIds", "emailIds", "fromAccountId",
    "ifFromInState", "onSuccessDestroyOriginal", "destroyFromIfInState", "onSuccessUpdateEmail",
    "onSuccessDestroyEmail", "unknown", "#ids",
)  # fmt: skip
_BY_METHOD = {
    "get": ("ids", "properties", "bodyProperties", "fetchAllBodyValues", "maxBodyValueBytes"),
    "changes": ("sinceState", "maxChanges"),
    "set": ("create", "update", "destroy", "ifInState", "onDestroyRemoveEmails"),
    "query": ("filter", "sort", "position", "anchor", "anchorOffset", "limit", "calculateTotal"),
    "queryChanges": ("filter", "sort", "sinceQueryState", "maxChanges", "upToId"),
    "copy": ("fromAccountId", "create", "onSuccessDestroyOriginal"),
    "import": ("emails",),
    "parse": ("blobIds", "properties"),
}
METHOD_ERRORS = frozenset(
    {
        "invalidArguments", "requestTooLarge", "accountNotFound", "cannotCalculateChanges",
        "stateMismatch", "unsupportedFilter", "unsupportedSort", "anchorNotFound",
        "invalidResultReference", "fromAccountNotFound", "forbidden", "tooManyChanges",
    }
)  # fmt: skip


def _shapes(json: st.SearchStrategy[Any], ids: list[str]) -> dict[str, st.SearchStrategy[Any]]:
    """For some arguments, values of the right outer type: they get further into a method."""
    keys = st.sampled_from(["k", "l", *ids])
    objects = st.dictionaries(keys, st.dictionaries(st.text(max_size=3) | json_names(), json))
    return {
        "ids": st.lists(st.sampled_from([*ids, "#k", "nothing"]), max_size=5) | st.none(),
        "destroy": st.lists(st.sampled_from([*ids, "#k", "nothing"]), max_size=5),
        "create": objects,
        "update": objects,
        "emails": objects,
        "sinceState": st.sampled_from(["0", "1", "3", f"3.{ids[0]}", "999"]),
        "sinceQueryState": st.sampled_from(["0", "1", "3", "4"]),
        "filter": st.dictionaries(json_names(), json, max_size=3),
        "sort": st.lists(
            st.fixed_dictionaries(
                {"property": st.sampled_from(["name", "size", "receivedAt", "hasKeyword", "sentAt"])},
                optional={"isAscending": json, "keyword": json, "collation": json},
            ),
            max_size=3,
        ),
    }


def json_names() -> st.SearchStrategy[str]:
    """Names that mean something to one type or another."""
    return st.sampled_from(
        "name role parentId sortOrder isSubscribed inMailbox inMailboxOtherThan before after minSize"
        " maxSize hasKeyword notKeyword someInThreadHaveKeyword text subject body from header"
        " hasAttachment hasAnyRole mailboxIds keywords receivedAt blobId bodyValues textBody to"
        " bodyStructure emailId identityId envelope email replyTo textSignature undoStatus emailIds"
        " identityIds threadIds operator conditions id keywords/$seen header:X-A".split()
    )


@st.composite
def _calls(draw: st.DrawFn, methods: list[str], ids: list[str], account: str) -> list[Any]:
    name = draw(st.sampled_from(methods))
    json = any_json(ids)
    shapes = _shapes(json, ids)
    usual = _BY_METHOD.get(name.partition("/")[2], ())
    pool = st.sampled_from(_ARGUMENTS)
    chosen = draw(st.lists(st.sampled_from(usual) | pool if usual else pool, max_size=4))
    arguments = {n: draw(shapes[n] | json if n in shapes else json) for n in chosen}
    is_odd = draw(st.integers(0, 9)) == 0
    arguments["accountId"] = draw(json) if is_odd else account
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


def test_any_json_as_arguments_is_answered_and_harms_nothing(
    runner: asyncio.Runner, world: World
) -> None:
    ids = runner.run(_set_up(world))
    methods = sorted(set(world.registry.methods) - {"Core/echo"})

    @_FUZZ
    @given(_calls(methods, ids, world.account_id))
    def run(call: list[Any]) -> None:
        answer = runner.run(world.raw_request([call]))
        [[name, result, call_id], *_] = answer["methodResponses"]
        assert call_id == "0"
        if name == "error":
            assert result["type"] in METHOD_ERRORS, result
        else:
            assert name == call[0]
        runner.run(world.services.store.check_invariants(world.caller.accounts[call_account(world)].account.id))

    run()


def call_account(world: World) -> Any:
    return world.account_id
