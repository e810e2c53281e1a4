"""UTCDate to milliseconds and back. Source: RFC 8620 s1.4"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tindra.wire.jmap.date import encode_utc_date, parse_utc_date


@pytest.mark.parametrize(
    ("text", "moment_ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2014-10-30T06:12:00Z", 1414649520000),
        ("2014-10-30T06:12:00.5Z", 1414649520500),
        ("2014-10-30T06:12:00.000001Z", 1414649520000),
        ("2014-10-30T06:12:00.1234Z", 1414649520123),
        ("2014-10-30T06:12:00.120Z", 1414649520120),
        ("2016-12-31T23:59:60Z", 1483228799000),
        ("2024-02-29T00:00:00Z", 1709164800000),
        ("1969-12-31T23:59:59Z", -1000),
        ("0001-01-01T00:00:00Z", -62135596800000),
        ("9999-12-31T23:59:59Z", 253402300799000),
    ],
)
def test_a_utc_date_is_read(text: str, moment_ms: int) -> None:
    assert parse_utc_date(text) == moment_ms


@pytest.mark.parametrize(
    "text",
    [
        "", "2014-10-30", "2014-10-30T06:12:00", "2014-10-30T14:12:00+08:00",
        "2014-10-30t06:12:00Z", "2014-10-30T06:12:00z", "2014-10-30 06:12:00Z",
        "2014-10-30T06:12:00.Z",
        "2014-10-30T06:12:00.0Z", "2014-10-30T06:12:00.000Z", "2014-13-30T06:12:00Z",
        "2014-10-30T06:12:00." + "1" * 10**5,
        "2014-02-30T06:12:00Z", "2014-10-30T24:00:00Z", "2014-10-30T06:60:00Z",
        "2014-10-30T06:12:61Z", "0000-01-01T00:00:00Z", "12014-10-30T06:12:00Z",
        "2014-10-30T06:12:00Z\n", " 2014-10-30T06:12:00Z", "２０14-10-30T06:12:00Z",
        "2014-1-30T06:12:00Z", "-014-10-30T06:12:00Z", "x" * 10**6,
    ],
)  # fmt: skip
def test_what_is_no_utc_date_is_refused(text: str) -> None:
    assert parse_utc_date(text) is None


@pytest.mark.parametrize("value", [None, 0, 1.5, True, [], {}, b"2014-10-30T06:12:00Z"])
def test_what_is_no_text_is_refused(value: Any) -> None:
    assert parse_utc_date(value) is None


def test_years_always_have_four_digits() -> None:
    assert encode_utc_date(-62135596800000) == "0001-01-01T00:00:00Z"
    assert encode_utc_date(-30610224000000) == "1000-01-01T00:00:00Z"


@given(st.integers(-62135596800, 253402300799))
def test_what_is_written_is_read_back(second: int) -> None:
    assert parse_utc_date(encode_utc_date(second * 1000)) == second * 1000
    assert encode_utc_date(second * 1000 + 999) == encode_utc_date(second * 1000)


@given(st.text(max_size=30))
def test_any_text_gives_a_moment_or_none(text: str) -> None:
    assert isinstance(parse_utc_date(text), int | None)
