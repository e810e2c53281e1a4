"""PushSubscription/get and /set, rule by rule (RFC 8620 s7.2)."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.conftest import ROOT
from tests.jmap.json_strategies import ODD_VALUES, list_places
from tests.jmap.templates import SET_ERRORS
from tests.world import World
from tindra.base import limits
from tindra.base.ids import ModSeq
from tindra.core.access import load_caller
from tindra.features.push_subscription import (
    PROGRESS,
    TIMER,
    TYPE,
    PushProgress,
    destroy_subscription,
    is_credential_held,
    load_subscriptions,
    make_credential,
    make_vapid_feature,
    save_progress,
)
from tindra.model.account import ALL_RIGHTS, Account, Grant, Token
from tindra.wire.jmap.date import encode_utc_date

URL = "https://push.example.com/?device=X8980fc&client=12c6d086"
KEYS = {
    "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkN"
    "toIAiw4",
    "auth": "BTBZMqHH6r4Tts7J_aSIgg",
}
DAY_MS = 24 * 3600 * 1000
WRONG_CODE = "da1f097b11ca17f06424e30bf02bfa67"


async def open_home(world: World) -> None:
    """The home account of the user, as `user add` makes it."""
    user = world.caller.user
    home = Account(user.home_account_id, user.login, user.id, 99)
    await world.services.directory.put_account(home)
    await world.services.directory.put_grant(Grant(user.id, home.id, ALL_RIGHTS))
    await sign_in(world)


async def sign_in(world: World, token: str = "", expires_ms: int | None = None) -> None:
    """Go on as a device with a token; with none, by password."""
    hash = hashlib.sha256(token.encode()).digest() if token else b""
    user = world.caller.user
    if token:
        row = Token(hash, user.id, "a phone", "device", 0, expires_ms)
        await world.services.directory.put_token(row)
    now_ms = world.clock.now_ms()
    world.caller = await load_caller(world.services.directory, user, now_ms, hash)


async def call(world: World, name: str, **arguments: Any) -> dict[str, Any]:
    answer = await world.raw_request([[f"PushSubscription/{name}", arguments, "0"]])
    [[answered, result, _]] = answer["methodResponses"]
    return {"answered": answered, **result}


async def create(world: World, **properties: Any) -> dict[str, Any]:
    obj = {"deviceClientId": "a889-ffea-910", "url": URL} | properties
    answer = await call(world, "set", create={"k": obj})
    assert answer["created"], answer
    return dict(answer["created"]["k"])


async def refuse(world: World, **properties: Any) -> dict[str, Any]:
    obj = {"deviceClientId": "a889-ffea-910", "url": URL} | properties
    answer = await call(world, "set", create={"k": obj})
    assert answer["created"] is None, answer
    return dict(answer["notCreated"]["k"])


async def get_all(world: World) -> list[dict[str, Any]]:
    return list((await call(world, "get", ids=None))["list"])


async def load_code(world: World, id: str) -> str:
    """What the device is sent by its push service."""
    home = world.caller.user.home_account_id
    return next(s.code for s in await load_subscriptions(world.services, home) if s.id == id)


async def run_timers(world: World) -> None:
    """What the loop does for timers that are due."""
    home = world.caller.user.home_account_id
    now_ms = world.clock.now_ms()
    for row in await world.services.store.read(home, lambda r: r.list_timers(now_ms, 100)):
        payload = msgspec.json.decode(row.payload)
        await world.registry.timers[row.kind](world.services, home, row.key, payload)


async def test_one_is_made_and_told_what_the_server_decided(world: World):
    await open_home(world)
    answer = await call(world, "set", create={"4f29": {"deviceClientId": "d", "url": URL}})
    assert answer.pop("answered") == "PushSubscription/set"
    made = answer["created"]["4f29"]
    assert answer == {
        "created": {"4f29": made}, "updated": None, "destroyed": None,
        "notCreated": None, "notUpdated": None, "notDestroyed": None,
    }  # fmt: skip
    assert made == {
        "id": made["id"],
        "keys": None,
        "types": None,
        "verificationCode": None,
        "expires": encode_utc_date(world.clock.now_ms() + limits.PUSH_SUBSCRIPTION_MS_MAX),
    }


async def test_get_tells_neither_url_nor_keys_nor_a_state(world: World):
    await open_home(world)
    made = await create(world, keys=KEYS, types=["Email"])
    answer = await call(world, "get", ids=None)
    assert answer == {
        "answered": "PushSubscription/get",
        "list": [
            {
                "id": made["id"],
                "deviceClientId": "a889-ffea-910",
                "expires": made["expires"],
                "types": ["Email"],
                "verificationCode": None,
            }
        ],
        "notFound": [],
    }
    for name in ("url", "keys"):
        assert (await call(world, "get", ids=[], properties=["id", name]))["type"] == "forbidden"
    for name in ("code", "credential", "since", "nonsense"):
        answer = await call(world, "get", ids=None, properties=[name])
        assert answer["type"] == "invalidArguments"
    answer = await call(world, "get", ids=[made["id"], "p0"], properties=["types"])
    assert answer["list"] == [{"id": made["id"], "types": ["Email"]}]
    assert answer["notFound"] == ["p0"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("get", {"accountId": "a0-alex"}),
        ("get", {"sinceState": "0"}),
        ("set", {"accountId": "a0-alex"}),
        ("set", {"ifInState": "0"}),
    ],
)
async def test_there_is_no_account_and_no_state(world: World, name: str, arguments: dict):
    await open_home(world)
    assert (await call(world, name, **arguments))["type"] == "invalidArguments"
    assert (await call(world, "changes", sinceState="0"))["type"] == "unknownMethod"


@pytest.mark.parametrize(
    "url",
    [
        "http://push.example.com/", "HTTPS://push.example.com/", "push.example.com", "", 7, None,
        "https://user:pw@push.example.com/", "https://push.example.com/#x", "https://",
        "https://push.example.com/\r\nX: y", "https://2130706433/", f"https://a/{'x' * 3000}",
    ],
)  # fmt: skip
async def test_a_url_is_https_and_absolute(world: World, url: Any):
    await open_home(world)
    error = await refuse(world, url=url)
    assert (error["type"], error["properties"]) == ("invalidProperties", ["url"])
    assert await get_all(world) == []


@pytest.mark.parametrize(
    "keys",
    [
        {}, {"p256dh": KEYS["p256dh"]}, {"auth": KEYS["auth"]}, KEYS | {"more": "x"}, "x", [],
        KEYS | {"p256dh": KEYS["p256dh"][:-2]}, KEYS | {"auth": "AAAA"}, KEYS | {"auth": None},
        KEYS | {"p256dh": "B" + "A" * 86}, KEYS | {"auth": "!" * 22},
    ],
)  # fmt: skip
async def test_keys_are_both_there_and_right(world: World, keys: Any):
    await open_home(world)
    error = await refuse(world, keys=keys)
    assert (error["type"], error["properties"]) == ("invalidProperties", ["keys"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("verificationCode", WRONG_CODE), ("verificationCode", ""), ("deviceClientId", ""),
        ("deviceClientId", "x" * 256), ("deviceClientId", None), ("types", "Email"),
        ("types", [1]), ("types", ["x"] * 101), ("types", ["x" * 101]), ("expires", "tomorrow"),
        ("expires", "2020-01-01T00:00:00Z"), ("expires", 5), ("id", "p1"), ("code", "x"),
        ("credential", "x"), ("since", {}), ("nonsense", 1),
    ],
)  # fmt: skip
async def test_a_wrong_property_is_named(world: World, name: str, value: Any):
    await open_home(world)
    error = await refuse(world, **{name: value})
    assert (error["type"], error["properties"]) == ("invalidProperties", [name])


async def test_what_must_be_given_is_named(world: World):
    await open_home(world)
    answer = await call(world, "set", create={"a": {}})
    assert answer["notCreated"]["a"]["properties"] == ["deviceClientId", "url"]


async def test_only_the_code_that_was_sent_confirms_the_address(world: World):
    await open_home(world)
    id = (await create(world))["id"]
    code = await load_code(world, id)
    assert len(code) == 32  # 128 bits
    for wrong in (WRONG_CODE, "", code[:-1], code.upper() + "x", "ü"):
        answer = await call(world, "set", update={id: {"verificationCode": wrong}})
        error = answer["notUpdated"][id]
        assert (error["type"], error["properties"]) == ("invalidProperties", ["verificationCode"])
    assert (await get_all(world))[0]["verificationCode"] is None
    answer = await call(world, "set", update={id: {"verificationCode": code}})
    assert answer["updated"] == {id: None}
    assert (await get_all(world))[0]["verificationCode"] == code
    again = await call(world, "set", update={id: {"verificationCode": code}})
    assert again["updated"] == {id: None}
    for undone in (None, WRONG_CODE):
        answer = await call(world, "set", update={id: {"verificationCode": undone}})
        assert answer["notUpdated"][id]["type"] == "invalidProperties"


async def test_each_has_a_code_of_its_own(world: World):
    await open_home(world)
    ids = [(await create(world))["id"] for _ in range(5)]
    assert len({await load_code(world, id) for id in ids}) == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("url", "https://other.example/"), ("url", None), ("keys", None), ("keys/auth", "x"),
        ("deviceClientId", "other"), ("code", "x"), ("credential", "x"), ("since", {}),
        ("since/a0-alex", 99), ("id", "p1"),
    ],
)  # fmt: skip
async def test_what_is_fixed_stays(world: World, name: str, value: Any):
    await open_home(world)
    id = (await create(world, keys=KEYS))["id"]
    answer = await call(world, "set", update={id: {name: value}})
    assert answer["notUpdated"][id]["type"] == "invalidProperties", answer


async def test_types_may_change(world: World):
    await open_home(world)
    id = (await create(world, types=["Email"]))["id"]
    for types in (["Mailbox", "EmailDelivery"], [], None):
        answer = await call(world, "set", update={id: {"types": types}})
        assert answer["updated"] == {id: None}
        assert (await get_all(world))[0]["types"] == types
    answer = await call(world, "set", update={id: {"types": "Email"}})
    assert answer["notUpdated"][id]["properties"] == ["types"]


async def test_an_end_too_far_ahead_is_brought_near(world: World):
    await open_home(world)
    now_ms = world.clock.now_ms()
    latest = encode_utc_date(now_ms + limits.PUSH_SUBSCRIPTION_MS_MAX)
    assert limits.PUSH_SUBSCRIPTION_MS_MAX >= 7 * DAY_MS
    near = encode_utc_date(now_ms + DAY_MS)
    id = (await create(world, expires="2099-01-01T00:00:00Z"))["id"]
    assert (await get_all(world))[0]["expires"] == latest
    assert (await create(world, expires=near)).get("expires", near) == near
    answer = await call(world, "set", update={id: {"expires": near}})
    assert answer["updated"] == {id: None}
    answer = await call(world, "set", update={id: {"expires": "2099-01-01T00:00:00Z"}})
    assert answer["updated"] == {id: {"expires": latest}}
    answer = await call(world, "set", update={id: {"expires": None}})
    assert answer["updated"] == {id: {"expires": latest}}
    for wrong in ("2020-01-01T00:00:00Z", "x"):
        answer = await call(world, "set", update={id: {"expires": wrong}})
        assert answer["notUpdated"][id]["properties"] == ["expires"]


async def test_the_end_comes_by_itself_unless_it_is_renewed(world: World):
    await open_home(world)
    ids = []
    for day in (1, 1, 3):
        expires = encode_utc_date(world.clock.now_ms() + day * DAY_MS)
        ids.append((await create(world, expires=expires))["id"])
    later = encode_utc_date(world.clock.now_ms() + 5 * DAY_MS)
    await call(world, "set", update={ids[1]: {"expires": later}})
    await run_timers(world)
    assert len(await get_all(world)) == 3
    world.clock.advance(DAY_MS)
    await run_timers(world)
    assert {obj["id"] for obj in await get_all(world)} == {ids[1], ids[2]}
    world.clock.advance(2 * DAY_MS)
    await run_timers(world)
    assert [obj["id"] for obj in await get_all(world)] == [ids[1]]
    world.clock.advance(2 * DAY_MS)
    await run_timers(world)
    assert await get_all(world) == []


async def test_a_credential_that_ends_by_itself_is_the_only_limit(world: World):
    await open_home(world)
    now_ms = world.clock.now_ms()
    await sign_in(world, "for-a-day", expires_ms=now_ms + DAY_MS)
    assert (await create(world))["expires"] is None
    far = "2099-01-01T00:00:00Z"
    id = (await create(world, expires=far))["id"]
    obj = next(obj for obj in await get_all(world) if obj["id"] == id)
    assert obj["expires"] == far
    services, credential = world.services, make_credential(world.caller)
    for held, at_ms in ((True, now_ms), (False, now_ms + DAY_MS)):
        user = world.caller.user
        assert await is_credential_held(services.directory, user, credential, at_ms) is held


async def test_each_credential_has_its_own(world: World):
    await open_home(world)
    by_password = (await create(world))["id"]
    await sign_in(world, "phone")
    by_phone = (await create(world))["id"]
    await sign_in(world, "tablet")
    assert await get_all(world) == []
    answer = await call(world, "get", ids=[by_phone, by_password, "p0"])
    assert answer["notFound"] == [by_phone, by_password, "p0"]
    code = await load_code(world, by_phone)
    answer = await call(
        world, "set", update={by_phone: {"verificationCode": code}}, destroy=[by_password]
    )
    # As for an id that never was.
    assert answer["notUpdated"][by_phone]["type"] == "notFound"
    assert answer["notDestroyed"][by_password]["type"] == "notFound"
    await sign_in(world, "phone")
    assert [obj["id"] for obj in await get_all(world)] == [by_phone]
    await sign_in(world)
    assert [obj["id"] for obj in await get_all(world)] == [by_password]


async def test_a_credential_is_gone_when_it_was_taken_back(world: World):
    await open_home(world)
    directory, now_ms = world.services.directory, world.clock.now_ms()
    by_password = make_credential(world.caller)
    await sign_in(world, "phone")
    by_phone = make_credential(world.caller)
    user = world.caller.user
    assert by_password != by_phone
    assert "phone" not in by_phone
    assert await is_credential_held(directory, user, by_phone, now_ms)
    await directory.delete_token(world.caller.token_hash)
    assert not await is_credential_held(directory, user, by_phone, now_ms)
    assert await is_credential_held(directory, user, by_password, now_ms)
    changed = msgspec.structs.replace(user, password_hash="scrypt$new")
    assert not await is_credential_held(directory, changed, by_password, now_ms)
    foreign = Token(b"x" * 32, changed.id, "", "device", 0)
    await directory.put_token(msgspec.structs.replace(foreign, user_id="u-eve"))
    assert not await is_credential_held(directory, user, f"token:{(b'x' * 32).hex()}", now_ms)


async def test_a_user_has_so_many_and_makes_so_many_an_hour(world: World):
    await open_home(world)
    ids = [(await create(world))["id"] for _ in range(limits.PUSH_SUBSCRIPTIONS_PER_USER_MAX)]
    await sign_in(world, "phone")  # another credential is the same user
    assert (await refuse(world))["type"] == "overQuota"
    await sign_in(world)
    await call(world, "set", destroy=ids)
    left = limits.PUSH_SUBSCRIPTIONS_NEW_MAX - len(ids)
    for _ in range(left):
        id = (await create(world))["id"]
        await call(world, "set", destroy=[id])
    assert (await refuse(world))["type"] == "rateLimit"
    world.clock.advance(limits.PUSH_SUBSCRIPTIONS_NEW_MS)
    await create(world)


async def test_many_in_one_call_are_counted_one_by_one(world: World):
    await open_home(world)
    obj = {"deviceClientId": "d", "url": URL}
    answer = await call(world, "set", create={f"k{n}": obj for n in range(30)})
    assert len(answer["created"]) == limits.PUSH_SUBSCRIPTIONS_PER_USER_MAX
    assert {e["type"] for e in answer["notCreated"].values()} == {"overQuota"}


async def test_creation_ids_and_all_three_in_one_call(world: World):
    await open_home(world)
    obj = {"deviceClientId": "d", "url": URL}
    answer = await call(
        world,
        "set",
        create={"a": obj, "b": obj},
        update={"#a": {"types": ["Email"]}},
        destroy=["#b", "p0"],
    )
    made = {key: answer["created"][key]["id"] for key in "ab"}
    assert answer["updated"] == {made["a"]: None}
    assert answer["destroyed"] == [made["b"]]
    assert answer["notDestroyed"] == {"p0": answer["notDestroyed"]["p0"]}
    assert [obj["id"] for obj in await get_all(world)] == [made["a"]]


async def test_nothing_is_left_of_one_that_was_destroyed(world: World):
    await open_home(world)
    home, services = world.caller.user.home_account_id, world.services
    for way in ("device", "sender"):
        id = (await create(world, keys=KEYS))["id"]
        await save_progress(services, home, id, PushProgress(tries=3))
        [subscription] = await load_subscriptions(services, home)
        assert subscription.progress.tries == 3
        if way == "device":
            await call(world, "set", destroy=[id])
        else:
            await destroy_subscription(services, home, id)
        await destroy_subscription(services, home, id)
        await save_progress(services, home, id, PushProgress())

        async def read(reader: Any) -> list[Any]:
            timers = [t for t in await reader.list_timers(2**60, 100) if t.kind == TIMER]
            kept = [await reader.load_objects(name, None) for name in (TYPE, PROGRESS)]
            return [*timers, *kept[0], *kept[1]]

        assert await services.store.read(home, read) == []


async def test_progress_is_kept_beside_and_moves_no_subscription(world: World):
    await open_home(world)
    home = world.caller.user.home_account_id
    id = (await create(world))["id"]
    progress = PushProgress(
        pushed={world.account_id: ModSeq(7)}, application_server_key="B", is_verification_sent=True,
        tries=2, refusals=1, pace_ms=5, rest_until_ms=9,
    )  # fmt: skip
    world.commits.clear()
    await save_progress(world.services, home, id, progress)
    await save_progress(world.services, home, id, progress)
    [subscription] = await load_subscriptions(world.services, home)
    assert subscription.progress == progress
    assert [set(info.states) for info in world.commits] == [{PROGRESS}]


async def test_what_a_device_knows_when_it_subscribes_is_noted(world: World):
    await open_home(world)
    await world.add_mailbox("Work")
    home = world.caller.user.home_account_id
    newest = {}
    for account_id in (world.account_id, home):
        states = await world.services.store.read(account_id, lambda r: r.load_states())
        newest[account_id] = max(states.values(), default=0)
    id = (await create(world))["id"]
    found = await load_subscriptions(world.services, home)
    [since] = [s.since for s in found if s.id == id]
    assert since == newest
    assert since[world.account_id] > 0


async def test_a_user_without_a_home_gets_an_error_and_no_crash(world: World):
    assert (await call(world, "get", ids=None))["type"] == "accountNotFound"
    assert (await call(world, "set", create={}))["type"] == "accountNotFound"


def test_the_session_tells_the_key_that_signs():
    """RFC 9749 s3"""
    [capability] = make_vapid_feature("BA1Hxz").capabilities
    assert capability.uri == "urn:ietf:params:jmap:webpush-vapid"
    assert capability.session == {"applicationServerKey": "BA1Hxz"}


def spoil(template: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A call with each value at each place, however deep, replaced by one of each kind."""
    for number in range(len(list(list_places(template)))):
        for odd in ODD_VALUES:
            spoiled = copy.deepcopy(template)
            holder, key = list(list_places(spoiled))[number]
            holder[key] = odd
            yield spoiled


async def test_every_value_of_a_call_may_be_of_any_wrong_kind(world: World):
    await open_home(world)
    id = (await create(world, keys=KEYS))["id"]
    obj = {"deviceClientId": "d", "url": URL, "keys": KEYS, "types": ["Email"], "expires": None}
    update = {"types": ["Email"], "verificationCode": None, "expires": None}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("get", {"ids": [id], "properties": ["types"]}),
        ("set", {"create": {"k": obj}, "update": {id: update}, "destroy": ["p0"]}),
    ]
    for name, arguments in ((name, odd) for name, template in calls for odd in spoil(template)):
        answer = await call(world, name, **arguments)  # what is not foreseen is raised
        if answer["answered"] == "error":
            assert answer["type"] in ("invalidArguments", "requestTooLarge", "forbidden")
        refused = [answer.get(f"not{verb}") or {} for verb in ("Created", "Updated", "Destroyed")]
        assert {error["type"] for part in refused for error in part.values()} <= SET_ERRORS


async def test_the_example_of_the_page_runs_as_it_stands(world: World):
    await open_home(world)
    page = (ROOT / "docs" / "protocol" / "push.md").read_text("utf-8")
    blocks = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    id, answers = "", []
    for block in blocks:
        code = await load_code(world, id) if id else ""
        request = msgspec.json.decode(
            block.replace('"ID"', f'"{id}"').replace('"CODE"', f'"{code}"')
        )
        [[answered, result, _]] = (await world.request([request]))["methodResponses"]
        assert answered == request[0], result
        assert not any(value for name, value in result.items() if name.startswith("not"))
        if result.get("created"):
            id = result["created"]["new"]["id"]
        answers.append(result)
    assert len(answers) == 5
    assert answers[2]["updated"][id].keys() == {"expires"}
    assert answers[3]["list"][0]["types"] is None
    assert await get_all(world) == []
