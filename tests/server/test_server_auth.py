"""Signing in: Basic, Bearer, tokens, throttling, and what a revoked credential still opens."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from tests.server.asgi import Answer, ask, call_api
from tests.server.world import ADA, BASIC, BOB_BASIC, CHEAP, MAIL, PASSWORD, World
from tindra.base import limits
from tindra.server.auth import VERIFIED_MS
from tindra.server.password import make_password_hash
from tindra.server.sign_in import CALLER_FRESH_MS

ECHO = {"using": ["urn:ietf:params:jmap:core"], "methodCalls": [["Core/echo", {"a": 1}, "0"]]}
SESSION = "/.well-known/jmap"


def basic(login: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()


def get_session(world: World, auth: str = BASIC, **headers: Any) -> Answer:
    return asyncio.run(ask(world.app, "GET", SESSION, auth=auth, **headers))


async def post_token(world: World, **fields: Any) -> Answer:
    import msgspec

    body = {"username": "ada@example.com", "password": PASSWORD, "deviceName": "Laptop"} | fields
    return await ask(
        world.app, "POST", "/auth/token", msgspec.json.encode(body), content_type="application/json"
    )


def test_a_request_without_credentials_is_told_both_ways_to_sign_in() -> None:
    answer = asyncio.run(ask(World().app, "GET", SESSION))
    assert answer.status == 401
    challenges = answer.all("www-authenticate")
    assert [c.split()[0] for c in challenges] == ["Basic", "Bearer"]
    assert 'realm="Tindra"' in challenges[0]
    assert answer.header("content-type") == "application/problem+json"


def test_a_script_in_a_browser_is_not_offered_basic_since_that_opens_a_window() -> None:
    answer = asyncio.run(ask(World().app, "GET", SESSION, sec_fetch_mode="cors"))
    assert [c.split()[0] for c in answer.all("www-authenticate")] == ["Bearer"]


@pytest.mark.parametrize(
    "header",
    [
        "Basic", "Basic !!!", "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"\xff\xfe:x").decode(), "Bearer", "Bearer a b", "Digest x=1",
        "Bearer " + "x" * 5000, "Bearer caf\xe9", "basic " + base64.b64encode(b":x").decode(),
    ],
)  # fmt: skip
def test_an_authorization_header_that_says_nothing_is_a_401(header: str) -> None:
    assert get_session(World(), header).status == 401


def test_basic_with_the_password_signs_in_whatever_the_case_of_the_login() -> None:
    assert get_session(World(), basic("ADA@Example.com", PASSWORD)).status == 200


def test_a_wrong_password_and_an_unknown_user_get_the_same_answer() -> None:
    world = World()
    wrong = get_session(world, basic("ada@example.com", "wrong"))
    unknown = get_session(world, basic("nobody@example.com", "wrong"))
    assert wrong.status == unknown.status == 401
    assert wrong.body == unknown.body
    # As much hashing for the one as for the other.
    assert world.offload.count == 2


def test_an_app_password_works_with_basic_for_its_own_user_only_and_not_as_a_token() -> None:
    world = World()
    world.add_token(ADA, "app-secret", "app")
    assert get_session(world, basic("ada@example.com", "app-secret")).status == 200
    assert get_session(world, basic("bob@example.com", "app-secret")).status == 401
    assert get_session(world, "Bearer app-secret").status == 401


def test_a_device_token_works_as_bearer_and_not_as_a_password() -> None:
    world = World()
    world.add_token(ADA, "device-secret", "device")
    assert get_session(world, "bearer device-secret").status == 200
    assert get_session(world, basic("ada@example.com", "device-secret")).status == 401


def test_an_expired_token_is_refused_and_says_that_it_is_the_token() -> None:
    world = World()
    world.add_token(ADA, "t", "device", expires_ms=world.clock.now_ms() + 1000)
    assert get_session(world, "Bearer t").status == 200
    world.clock.ms += CALLER_FRESH_MS
    answer = get_session(world, "Bearer t")
    assert answer.status == 401
    assert 'error="invalid_token"' in answer.all("www-authenticate")[1]


def test_a_remembered_sign_in_costs_no_hash_and_no_read() -> None:
    world = World()
    assert get_session(world).status == 200
    reads, hashes = world.directory.reads, world.offload.count
    assert get_session(world).status == 200
    assert (world.directory.reads, world.offload.count) == (reads, hashes)
    world.clock.ms += CALLER_FRESH_MS
    assert get_session(world).status == 200
    assert world.directory.reads > reads
    assert world.offload.count == hashes, "still no second hash"
    world.clock.ms += VERIFIED_MS
    assert get_session(world).status == 200
    assert world.offload.count == hashes + 1


def test_many_requests_with_one_new_password_hash_it_once() -> None:
    world = World()

    async def run() -> list[int]:
        answers = await asyncio.gather(
            *(ask(world.app, "GET", SESSION, auth=BASIC) for _ in range(10))
        )
        return [answer.status for answer in answers]

    assert asyncio.run(run()) == [200] * 10
    assert world.offload.count == 1


def test_the_password_is_kept_nowhere_in_memory() -> None:
    world = World()
    get_session(world)
    seen = repr(vars(world.app.authenticator)) + repr(
        [
            [getattr(s, name) for name in s.__slots__]
            for s in world.app.authenticator._sign_ins.values()
        ]
    )
    assert PASSWORD not in seen
    assert BASIC.split()[1] not in seen


def test_a_new_password_ends_the_old_one_within_the_time_grants_are_believed() -> None:
    world = World()
    assert get_session(world).status == 200
    user = world.directory.users[ADA]
    import msgspec

    world.directory.users[ADA] = msgspec.structs.replace(
        user, password_hash=make_password_hash("new", CHEAP)
    )
    world.clock.ms += CALLER_FRESH_MS
    assert get_session(world).status == 401
    assert get_session(world, basic("ada@example.com", "new")).status == 200


def test_a_user_with_tokens_only_cannot_sign_in_with_any_password() -> None:
    import msgspec

    world = World()
    world.directory.users[ADA] = msgspec.structs.replace(
        world.directory.users[ADA], password_hash=""
    )
    assert get_session(world, basic("ada@example.com", "x")).status == 401


def test_a_taken_grant_closes_the_account_within_the_time_grants_are_believed() -> None:
    world = World()
    assert MAIL in get_session(world).json["accounts"]
    del world.directory.grants[ADA, MAIL]
    world.clock.ms += CALLER_FRESH_MS
    assert MAIL not in get_session(world).json["accounts"]


def test_wrong_passwords_are_throttled_for_that_login_at_that_address_and_then_forgotten() -> None:
    world = World()
    for number in range(limits.SIGN_IN_FAILURES_MAX):
        assert get_session(world, basic("ada@example.com", f"wrong{number}")).status == 401
    answer = get_session(world)
    assert answer.status == 429
    assert 0 < int(answer.header("retry-after")) <= limits.SIGN_IN_WINDOW_MS // 1000 + 1
    assert get_session(world, BOB_BASIC).status == 200, "another login is not held up"

    def from_elsewhere(scope: dict[str, Any]) -> None:
        scope["client"] = ("198.51.100.7", 1)

    elsewhere = asyncio.run(ask(world.app, "GET", SESSION, b"", from_elsewhere, auth=BASIC))
    assert elsewhere.status == 200, "the user herself, elsewhere, is not locked out"
    world.clock.ms += limits.SIGN_IN_WINDOW_MS
    assert get_session(world).status == 200


def test_guesses_that_come_all_at_once_are_counted_like_others() -> None:
    world = World()

    async def guess(number: int) -> int:
        auth = basic("ada@example.com", f"wrong{number}")
        return (await ask(world.app, "GET", SESSION, auth=auth)).status

    async def run() -> list[int]:
        return await asyncio.gather(*map(guess, range(3 * limits.SIGN_IN_FAILURES_MAX)))

    told = asyncio.run(run())
    assert told.count(401) == limits.SIGN_IN_FAILURES_MAX
    assert told.count(429) == 2 * limits.SIGN_IN_FAILURES_MAX


def test_one_address_that_tries_many_logins_is_throttled_as_well() -> None:
    world = World()
    for number in range(10 * limits.SIGN_IN_FAILURES_MAX):
        get_session(world, basic(f"user{number}@example.com", "wrong"))
    assert get_session(world, BOB_BASIC).status == 429


def test_a_sign_in_that_is_remembered_goes_on_while_its_login_is_throttled() -> None:
    world = World()
    assert get_session(world).status == 200
    for number in range(limits.SIGN_IN_FAILURES_MAX + 1):
        get_session(world, basic("ada@example.com", f"wrong{number}"))
    world.clock.ms += CALLER_FRESH_MS
    assert get_session(world).status == 200


def test_a_password_buys_a_token_that_works_until_it_is_given_back() -> None:
    async def run() -> None:
        world = World()
        answer = await post_token(world)
        assert answer.status == 200
        assert answer.json["expiresAt"] is None
        token = answer.json["accessToken"]
        assert len(token) >= 43
        assert answer.header("cache-control") == "no-store"
        [stored] = world.directory.tokens.values()
        assert (stored.name, stored.kind) == ("Laptop", "device")
        assert token.encode() not in stored.hash
        auth = f"Bearer {token}"
        assert (await call_api(world.app, ECHO, auth)).status == 200
        assert (await ask(world.app, "DELETE", "/auth/token", auth=auth)).status == 204
        # At once, not only when the memory of the sign-in runs out.
        assert (await call_api(world.app, ECHO, auth)).status == 401
        assert (await ask(world.app, "GET", SESSION, auth=auth)).status == 401
        assert (await ask(world.app, "DELETE", "/auth/token", auth=auth)).status == 401

    asyncio.run(run())


def test_a_password_has_no_token_to_give_back() -> None:
    assert asyncio.run(ask(World().app, "DELETE", "/auth/token", auth=BASIC)).status == 400


@pytest.mark.parametrize(
    "fields",
    [{"password": "wrong"}, {"username": "nobody"}, {"password": ""}, {"username": ""}],
)
def test_a_wrong_sign_in_gets_no_token(fields: dict[str, str]) -> None:
    world = World()
    answer = asyncio.run(post_token(world, **fields))
    assert answer.status == 401
    assert not world.directory.tokens


@pytest.mark.parametrize(
    "fields", [{"password": 7}, {"username": None}, {"deviceName": {}}, {"username": ["a"]}]
)
def test_a_sign_in_of_the_wrong_shape_is_a_400_that_repeats_no_value(fields: Any) -> None:
    answer = asyncio.run(post_token(World(), **fields))
    assert answer.status == 400
    assert PASSWORD.encode() not in answer.body


def test_a_revoked_token_of_another_process_closes_within_the_time_grants_are_believed() -> None:
    world = World()
    world.add_token(ADA, "t", "device")
    assert get_session(world, "Bearer t").status == 200
    world.directory.tokens.clear()
    world.clock.ms += CALLER_FRESH_MS
    assert get_session(world, "Bearer t").status == 401


def test_the_oldest_device_makes_room_when_a_user_has_all_tokens_allowed() -> None:
    world = World()
    for number in range(limits.TOKENS_PER_USER_MAX):
        world.add_token(ADA, f"t{number}", "app" if number == 0 else "device")
        world.clock.ms += 1
    assert asyncio.run(post_token(world)).status == 200
    assert len(world.directory.tokens) == limits.TOKENS_PER_USER_MAX
    assert get_session(world, basic("ada@example.com", "t0")).status == 200, "no device, so kept"


def test_a_device_name_is_cut_and_cleaned() -> None:
    world = World()
    asyncio.run(post_token(world, deviceName="a\u202eb\x00" + "c" * 999))
    [token] = world.directory.tokens.values()
    assert token.name.startswith("abc")
    assert len(token.name) == 200


def test_a_directory_that_cannot_answer_is_a_503_and_no_401() -> None:
    world = World()
    world.directory.is_down = True
    answer = get_session(world)
    assert answer.status == 503
    assert answer.header("retry-after")


def test_a_sign_in_that_is_pushed_out_while_it_is_looked_at_again_still_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    assert get_session(world).status == 200
    world.clock.ms += CALLER_FRESH_MS
    authenticator = world.app.authenticator
    load_user = world.directory.load_user

    async def forget_all(user_id: Any) -> Any:
        authenticator._sign_ins.clear()
        return await load_user(user_id)

    monkeypatch.setattr(world.directory, "load_user", forget_all)
    assert get_session(world).status == 200
    assert not world.reports


def test_sign_ins_that_nobody_uses_are_forgotten() -> None:
    world = World()
    for number in range(50):
        world.add_token(ADA, f"t{number}", "device")
        get_session(world, f"Bearer t{number}")
        world.clock.ms += 2000
    assert len(world.app.authenticator._sign_ins) <= VERIFIED_MS // 2000 + 1
    assert not world.app.authenticator._locks
