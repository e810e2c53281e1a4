"""The Session object as the whole server makes it. Source: RFC 8620 s2, RFC 6570 s2

What HTTP has to do with it (addresses, caching, sign-in) is in tests/server/test_server_api.py.
"""

from __future__ import annotations

import re
from typing import Any

from msgspec.structs import replace

from tests.jmap.mail_fixture import add_account, only_rights
from tests.jmap.sharing_fixture import add_home
from tests.world import CORE, MAIL, World
from tindra.base import limits
from tindra.core.access import Access, load_caller
from tindra.server.session_object import make_session

URL = "https://mail.example.com"
MEMBERS = {
    "capabilities", "accounts", "primaryAccounts", "username", "apiUrl", "downloadUrl", "uploadUrl",
    "eventSourceUrl", "state",
}  # fmt: skip


def _load(world: World) -> dict[str, Any]:
    return make_session(world.registry, world.caller, URL)


async def _reload(world: World) -> None:
    user, now_ms = world.caller.user, world.clock.now_ms()
    world.caller = await load_caller(world.services.directory, user, now_ms)


async def test_the_session_has_every_member_and_no_other(world: World) -> None:
    session = _load(world)
    assert set(session) == MEMBERS
    assert session["username"] == "alex"
    account = session["accounts"][world.account_id]
    assert set(account) == {"name", "isPersonal", "isReadOnly", "accountCapabilities"}
    assert (account["isPersonal"], account["isReadOnly"]) == (True, False)


async def test_the_core_capability_tells_every_limit_as_it_is_kept(world: World) -> None:
    core = dict(_load(world)["capabilities"][CORE])
    assert {"i;ascii-casemap", "i;unicode-casemap"} == set(core.pop("collationAlgorithms"))
    assert core == {
        "maxSizeUpload": limits.UPLOAD_BYTES_MAX,
        "maxConcurrentUpload": limits.UPLOADS_CONCURRENT_MAX,
        "maxSizeRequest": limits.REQUEST_BYTES_MAX,
        "maxConcurrentRequests": limits.REQUESTS_CONCURRENT_MAX,
        "maxCallsInRequest": limits.CALLS_IN_REQUEST_MAX,
        "maxObjectsInGet": limits.OBJECTS_IN_GET_MAX,
        "maxObjectsInSet": limits.OBJECTS_IN_SET_MAX,
    }
    # What the RFC suggests as the least of each.
    least = (50_000_000, 4, 10_000_000, 4, 16, 500, 500)
    assert all(have >= suggested for have, suggested in zip(core.values(), least, strict=True))


async def test_the_urls_are_templates_of_level_one_with_the_variables_of_the_rfc(
    world: World,
) -> None:
    session = _load(world)
    for name, variables in {
        "apiUrl": set(),
        "uploadUrl": {"accountId"},
        "downloadUrl": {"accountId", "blobId", "type", "name"},
        "eventSourceUrl": {"types", "closeafter", "ping"},
    }.items():
        assert set(re.findall(r"\{(\w+)\}", session[name])) == variables, name
        bare = re.sub(r"\{\w+\}", "", session[name])
        assert bare.startswith(URL)
        assert not {"{", "}", " "} & set(bare), name


async def test_every_capability_is_an_object_and_can_be_used(world: World) -> None:
    session = _load(world)
    told = {*session["capabilities"]}
    for account in session["accounts"].values():
        told |= {*account["accountCapabilities"]}
    for uri in told:
        value = session["capabilities"].get(uri, {})
        assert hasattr(value, "keys"), uri
        echo = [["Core/echo", {"uri": uri}, "0"]]
        answer = await world.request(echo, using=[CORE, uri])
        assert answer["methodResponses"] == [["Core/echo", {"uri": uri}, "0"]]


async def test_primary_accounts_are_accounts_with_the_capability_and_core_has_none(
    world: World,
) -> None:
    await add_home(world, world.caller.user)
    await add_account(world, "team", "read")
    session = _load(world)
    primary = session["primaryAccounts"]
    assert CORE not in primary
    assert primary[MAIL] == world.account_id
    for uri, id in primary.items():
        assert uri in session["capabilities"]
        assert uri in session["accounts"][id]["accountCapabilities"]


async def test_the_state_moves_with_whatever_a_client_keeps_and_with_nothing_else(
    world: World,
) -> None:
    states = [_load(world)["state"]]
    await world.add_mailbox("A")
    await _reload(world)
    assert _load(world)["state"] == states[0], "data of an account is not the Session's"
    team = await add_account(world, "team", "read")
    states.append(_load(world)["state"])
    async with only_rights(world, "read"):
        assert _load(world)["accounts"][world.account_id]["isReadOnly"] is True
        states.append(_load(world)["state"])
    await _reload(world)
    assert _load(world)["state"] == states[1]
    access = world.caller.accounts[next(id for id in world.caller.accounts if id == team)]
    renamed = replace(access, account=replace(access.account, name="Another name"))
    accounts: dict[Any, Access] = {**world.caller.accounts, access.account.id: renamed}
    world.caller = replace(world.caller, accounts=accounts)
    states.append(_load(world)["state"])
    assert len(set(states)) == len(states)
