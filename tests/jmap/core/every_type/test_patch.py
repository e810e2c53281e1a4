"""PatchObjects, for every type of the registry that can be set. Source: RFC 8620 s5.3

The pure rules are in tests/wire/jmap/test_jmap_pointer.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.jmap.templates import Things
from tests.world import World

UNCHANGEABLE = {"ShareNotification": "forbidden"}
"""Types of which no property is ever set by a device -> what each update gets."""

BODIES = frozenset({"bodyValues", "textBody", "htmlBody", "attachments"})


async def _load(world: World) -> dict[str, tuple[str, dict[str, Any]]]:
    """Type that can be set -> (account, one whole object of it)."""
    await Things(world).make()
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, account_id in world.list_places().items():
        if f"{name}/set" in world.registry.methods:
            got = await world.call(f"{name}/get", accountId=account_id, ids=None)
            own = [obj for obj in got["list"] if obj["id"] == world.caller.user.id]
            found[name] = (account_id, (own or got["list"])[0])
    return found


async def _patch(world: World, name: str, account_id: str, id: str, patch: Any) -> dict[str, Any]:
    """The SetError, or an object without a type."""
    answer = await world.call(f"{name}/set", accountId=account_id, update={id: patch})
    if answer["updated"] is not None:
        assert list(answer["updated"]) == [id]
        return {"updated": answer["updated"][id]}
    assert list(answer["notUpdated"]) == [id]
    return dict(answer["notUpdated"][id])


async def test_every_type_that_can_be_set_is_here(world: World) -> None:
    loaded = await _load(world)
    sets = {name for name in world.registry.methods if name.endswith("/set")}
    assert {f"{name}/set" for name in loaded} | {"PushSubscription/set"} == sets


async def test_a_whole_object_sent_back_changes_nothing(world: World) -> None:
    for name, (account_id, whole) in (await _load(world)).items():
        before = await world.call(f"{name}/get", accountId=account_id, ids=[whole["id"]])
        # The bodies of an Email are told with what was asked for, and never given back.
        patch = {k: v for k, v in whole.items() if name != "Email" or k not in BODIES}
        answer = await _patch(world, name, account_id, whole["id"], patch)
        if name in UNCHANGEABLE:
            assert answer["type"] == UNCHANGEABLE[name]
        else:
            assert answer == {"updated": None}, name
        assert before == await world.call(f"{name}/get", accountId=account_id, ids=[whole["id"]])


async def test_an_id_is_never_changed(world: World) -> None:
    for name, (account_id, whole) in (await _load(world)).items():
        for id in ("another", None, 5):
            answer = await _patch(world, name, account_id, whole["id"], {"id": id})
            assert answer["type"] == UNCHANGEABLE.get(name, "invalidProperties"), name
            assert name in UNCHANGEABLE or answer["properties"] == ["id"], name


async def test_a_property_that_does_not_exist_is_named(world: World) -> None:
    for name, (account_id, whole) in (await _load(world)).items():
        for wrong in ("nothing", "", "Id"):
            answer = await _patch(world, name, account_id, whole["id"], {wrong: 1})
            assert answer["type"] == UNCHANGEABLE.get(name, "invalidProperties"), name
            assert name in UNCHANGEABLE or answer["properties"] == [wrong], name


@pytest.mark.parametrize(
    "patch",
    [
        {"nothing/x": 1},
        {"nothing/x": None},
        {"id/x": 1},
        {"/id": "x"},
        {"a~2": 1},
        {"~": 1},
        {"a/b": 1, "a": {}},
    ],
)
async def test_a_pointer_that_leads_nowhere_is_an_invalid_patch(
    world: World, patch: dict[str, Any]
) -> None:
    for name, (account_id, whole) in (await _load(world)).items():
        answer = await _patch(world, name, account_id, whole["id"], patch)
        assert answer["type"] == UNCHANGEABLE.get(name, "invalidPatch"), (name, patch)


async def test_what_is_inside_an_array_is_only_replaced_with_the_array(world: World) -> None:
    count = 0
    for name, (account_id, whole) in (await _load(world)).items():
        for member, value in whole.items():
            if isinstance(value, list):
                for path in (f"{member}/0", f"{member}/-", f"{member}/0/name"):
                    answer = await _patch(world, name, account_id, whole["id"], {path: None})
                    assert answer["type"] == UNCHANGEABLE.get(name, "invalidPatch"), (name, path)
                    count += 1
    assert count
