"""Password hashes, tokens and the throttle as plain functions."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.server.world import CHEAP, TestClock
from tindra.base import limits
from tindra.server.password import (
    PASSWORD_COST,
    hash_token,
    make_dummy_hash,
    make_password_hash,
    make_token,
    verify_password,
)
from tindra.server.throttle import SignInThrottle


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=50), st.text(max_size=50))
@example("pässwörd", "pa\u0308sswo\u0308rd")
def test_a_hash_fits_its_own_password_only(password: str, other: str) -> None:
    stored = make_password_hash(password, CHEAP)
    assert verify_password(password, stored)
    assert verify_password(other, stored) == (password == other)


def test_two_hashes_of_one_password_differ_and_neither_holds_it() -> None:
    first, second = (make_password_hash("secret", CHEAP) for _ in range(2))
    assert first != second
    assert "secret" not in first


def test_the_default_cost_is_what_is_written_and_is_checked_as_such() -> None:
    stored = make_password_hash("x")
    assert stored.startswith("scrypt$15$8$3$")
    assert verify_password("x", stored)
    assert PASSWORD_COST == (15, 8, 3)


def test_a_dummy_looks_like_any_hash_and_fits_nothing() -> None:
    dummy = make_dummy_hash(CHEAP)
    real = make_password_hash("x", CHEAP)
    assert len(dummy) == len(real)
    assert not verify_password("", dummy)


@pytest.mark.parametrize(
    "stored",
    [
        "", "x", "scrypt$15$8$1$a", "scrypt$99$8$1$AAAA$AAAA", "scrypt$4$0$1$AAAA$AAAA",
        "scrypt$4$1$1$!!$AAAA", "scrypt$-1$1$1$AAAA$AAAA", "scrypt$4$1$1000$AAAA$AAAA",
        "bcrypt$4$1$1$AAAA$AAAA", "scrypt$4$1$1$AAAA$", "scrypt$x$1$1$AAAA$AAAA",
    ],
)  # fmt: skip
def test_a_text_that_is_no_hash_fits_no_password(stored: str) -> None:
    assert not verify_password("", stored)
    assert not verify_password("x", stored)


def test_a_password_of_a_megabyte_is_not_hashed() -> None:
    assert not verify_password("x" * 2_000_000, make_password_hash("x", CHEAP))


def test_tokens_are_long_random_and_stored_as_a_hash() -> None:
    tokens = {make_token()[0] for _ in range(50)}
    assert len(tokens) == 50
    text, stored = make_token()
    assert len(text) >= 47
    assert stored == hash_token(text)
    assert len(stored) == 32


def test_failures_are_counted_in_a_window_from_the_first_one() -> None:
    clock = TestClock()
    throttle = SignInThrottle(clock)
    for _ in range(limits.SIGN_IN_FAILURES_MAX):
        assert throttle.wait_ms("ada", "192.0.2.1") == 0
        throttle.count_failure("ada", "192.0.2.1")
        clock.ms += 10
    assert 0 < throttle.wait_ms("ada", "192.0.2.1") <= limits.SIGN_IN_WINDOW_MS
    assert throttle.wait_ms("ada", "192.0.2.2") == 0
    throttle.forget("ada", "192.0.2.1")
    assert throttle.wait_ms("ada", "192.0.2.1") == 0


def test_one_login_tried_from_everywhere_is_held_up_in_the_end() -> None:
    throttle = SignInThrottle(TestClock())
    for number in range(10 * limits.SIGN_IN_FAILURES_MAX):
        throttle.count_failure("ada", f"192.0.2.{number}")
    assert throttle.wait_ms("ada", "198.51.100.1") > 0
    assert throttle.wait_ms("bob", "198.51.100.1") == 0


def test_the_counters_stay_few_however_many_try() -> None:
    throttle = SignInThrottle(TestClock())
    for number in range(30_000):
        throttle.count_failure(f"user{number}", f"10.0.{number // 250}.{number % 250}")
    assert len(throttle._failures) <= 20_000
