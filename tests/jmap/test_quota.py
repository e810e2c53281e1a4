"""Quota/get, /changes, /query, /queryChanges. Source: RFC 9425"""

from __future__ import annotations

from typing import Any

import pytest

from tests.jmap.mail_fixture import add_foreign_account
from tests.world import World
from tindra.core.tx import Tx, transact
from tindra.features.quota import QUOTA, QUOTAS_MAX, ToldQuota, apply_quotas
from tindra.sync.ports import RemoteQuota
from tindra.sync.quota import OCTETS_MAX, make_quotas

STORAGE = ToldQuota("User quota", "octets", 4096, 1_000_000)
COUNT = ToldQuota("User quota", "count", 7, 100)
PUBLIC = ToldQuota("", "octets", 9, 10)


async def tell(world: World, *told: ToldQuota) -> bool:
    """The provider says so; whether devices are told."""
    before = len(world.commits)

    async def write(tx: Tx) -> None:
        await apply_quotas(tx, told)

    await transact(world.services, world.account_id, "mirror-quota", write, "provider")
    return any("Quota" in info.states for info in world.commits[before:])


async def get(world: World) -> dict[tuple[str, str], dict[str, Any]]:
    """(name, resourceType) -> Quota, of all."""
    found = (await world.call("Quota/get", ids=None))["list"]
    return {(quota["name"], quota["resourceType"]): quota for quota in found}


async def test_without_quotas_at_the_provider_the_list_is_empty(world: World) -> None:
    answer = await world.call("Quota/get", ids=None)
    assert answer["list"] == []
    assert world.registry.capabilities[QUOTA].session == {}
    assert world.registry.capabilities[QUOTA].account == {}


async def test_a_quota_has_all_the_properties_of_the_standard(world: World) -> None:
    assert await tell(world, STORAGE, PUBLIC)
    found = await get(world)
    storage = found["User quota", "octets"]
    assert storage | {"id": ""} == {
        "id": "",
        "resourceType": "octets",
        "used": 4096,
        "hardLimit": 1_000_000,
        "scope": "account",
        "name": "User quota",
        "types": ["Email"],
        "warnLimit": None,
        "softLimit": None,
        "description": None,
    }
    assert found["Mailbox", "octets"]["used"] == 9
    some = await world.call("Quota/get", ids=[storage["id"], "none"], properties=["used"])
    assert some["list"] == [{"id": storage["id"], "used": 4096}]
    assert some["notFound"] == ["none"]


async def test_ids_stay_and_what_the_provider_tells_no_more_goes(world: World) -> None:
    await tell(world, STORAGE, COUNT)
    before = await get(world)
    assert await tell(world, COUNT, STORAGE) is False
    await tell(world, ToldQuota("User quota", "octets", 5000, 2_000_000))
    after = await get(world)
    assert after.keys() == {("User quota", "octets")}
    key = ("User quota", "octets")
    assert after[key] == before[key] | {"used": 5000, "hardLimit": 2_000_000}


async def test_the_same_root_twice_is_one_quota_and_there_are_not_endless_ones(
    world: World,
) -> None:
    await tell(world, STORAGE, STORAGE)
    assert len(await get(world)) == 1
    await tell(world, *[ToldQuota(f"root {n}", "count", 1, 2) for n in range(500)])
    assert len(await get(world)) == QUOTAS_MAX


async def test_changes_say_when_only_what_is_used_changed(world: World) -> None:
    await tell(world, STORAGE)
    first = (await world.call("Quota/get", ids=None))["state"]
    nothing = await world.call("Quota/changes", sinceState=first)
    assert nothing["updatedProperties"] is None
    await tell(world, ToldQuota("User quota", "octets", 5000, 1_000_000))
    changes = await world.call("Quota/changes", sinceState=first)
    assert changes["updatedProperties"] == ["used"]
    await tell(world, ToldQuota("User quota", "octets", 5000, 2_000_000))
    second = (await world.call("Quota/get", ids=None))["state"]
    assert (await world.call("Quota/changes", sinceState=first))["updatedProperties"] is None
    await tell(world, ToldQuota("User quota", "octets", 6000, 2_000_000), COUNT)
    changes = await world.call("Quota/changes", sinceState=second)
    assert (len(changes["created"]), len(changes["updated"])) == (1, 1)
    assert changes["updatedProperties"] == ["used"]


async def test_the_answer_of_changes_can_be_used_in_the_same_request(world: World) -> None:
    await tell(world, STORAGE)
    state = (await world.call("Quota/get", ids=None))["state"]
    await tell(world, ToldQuota("User quota", "octets", 5000, 1_000_000))

    def refer(path: str) -> dict[str, str]:
        return {"resultOf": "0", "name": "Quota/changes", "path": path}

    calls = [
        ["Quota/changes", {"sinceState": state}, "0"],
        ["Quota/get", {"#ids": refer("/updated"), "#properties": refer("/updatedProperties")}, "1"],
    ]
    [_, [_, got, _]] = await world.calls(calls)
    assert [sorted(quota) for quota in got["list"]] == [["id", "used"]]


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        (None, 3),
        ({}, 3),
        ({"name": "USER"}, 2),
        ({"scope": "account"}, 3),
        ({"scope": "Account"}, 0),
        ({"resourceType": "count"}, 1),
        ({"type": "Email"}, 3),
        ({"type": "Calendar"}, 0),
        ({"name": "user", "resourceType": "octets"}, 1),
        ({"operator": "NOT", "conditions": [{"resourceType": "count"}]}, 2),
    ],
)
async def test_filters(world: World, filter: Any, expected: int) -> None:
    await tell(world, STORAGE, COUNT, PUBLIC)
    answer = await world.call("Quota/query", filter=filter, calculateTotal=True)
    assert answer["total"] == len(answer["ids"]) == expected


async def test_sorting_and_query_changes(world: World) -> None:
    await tell(world, STORAGE, COUNT, PUBLIC)
    by_used = [{"property": "used", "isAscending": False}]
    before = await world.call("Quota/query", sort=by_used)
    ids = {key: quota["id"] for key, quota in (await get(world)).items()}
    storage, count = ids["User quota", "octets"], ids["User quota", "count"]
    assert before["ids"] == [storage, ids["Mailbox", "octets"], count]
    by_name = await world.call("Quota/query", sort=[{"property": "name"}])
    assert by_name["ids"][0] == ids["Mailbox", "octets"]
    await tell(world, STORAGE, ToldQuota("User quota", "count", 50, 100), PUBLIC)
    moved = await world.call(
        "Quota/queryChanges", sinceQueryState=before["queryState"], sort=by_used
    )
    assert moved["removed"] == [count]
    assert moved["added"] == [{"id": count, "index": 1}]


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"filter": {"used": 1}}, "unsupportedFilter"),
        ({"filter": {"name": 1}}, "invalidArguments"),
        ({"filter": {"operator": "OR", "conditions": [{"type": None}]}}, "invalidArguments"),
        ({"sort": [{"property": "hardLimit"}]}, "unsupportedSort"),
    ],
)
async def test_wrong_queries(world: World, arguments: dict[str, Any], kind: str) -> None:
    assert (await world.fail("Quota/query", **arguments))["type"] == kind


async def test_nobody_sets_a_quota_and_foreign_accounts_are_unknown(world: World) -> None:
    assert (await world.fail("Quota/set", update={}))["type"] == "unknownMethod"
    foreign = await add_foreign_account(world, "other")
    assert (await world.fail("Quota/get", accountId=foreign))["type"] == "accountNotFound"


def test_only_what_jmap_can_say_is_taken_over() -> None:
    remote = [
        RemoteQuota("r", "STORAGE", 10, 512),
        RemoteQuota("r", "STORAGE", 11, 513),
        RemoteQuota("r", "MESSAGE", 3, 4),
        RemoteQuota("r", "MAILBOX", 1, 2),
        RemoteQuota("none", "STORAGE", 10, 0),
        RemoteQuota("giant", "STORAGE", 1, 2**62),
        RemoteQuota("edge", "MESSAGE", 0, OCTETS_MAX),
    ]
    assert make_quotas(remote) == [
        ToldQuota("r", "octets", 10 * 1024, 512 * 1024),
        ToldQuota("r", "count", 3, 4),
        ToldQuota("edge", "count", 0, OCTETS_MAX),
    ]
