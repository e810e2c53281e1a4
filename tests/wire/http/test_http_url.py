"""https URLs from outside: one strict form, and Retry-After."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tindra.wire.http.retry_after import parse_retry_after
from tindra.wire.http.url import URL_CHARS_MAX, parse_https_url

NOW_MS = 1_790_000_000_000  # Mon, 21 Sep 2026 14:13:20 GMT


@pytest.mark.parametrize(
    ("text", "host", "port", "target", "origin"),
    [
        ("https://a.example", "a.example", 443, "/", "https://a.example"),
        ("https://A.Example:443/x", "a.example", 443, "/x", "https://a.example"),
        ("https://a.example:8443?q", "a.example", 8443, "/?q", "https://a.example:8443"),
        ("https://a/b:c-d_e~f%20?x=/&y=(1)", "a", 443, "/b:c-d_e~f%20?x=/&y=(1)", "https://a"),
        ("https://192.0.2.1/", "192.0.2.1", 443, "/", "https://192.0.2.1"),
        ("https://[2001:DB8::1]:8443/", "2001:db8::1", 8443, "/", "https://[2001:db8::1]:8443"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", 443, "/", None),
        ("https://_a._b.example/", "_a._b.example", 443, "/", None),
    ],
)
def test_a_url_is_taken_apart(text, host, port, target, origin):
    url = parse_https_url(text)
    assert (url.host, url.port, url.target) == (host, port, target)
    assert url.origin == (origin or f"https://{host}")


@pytest.mark.parametrize(
    "text",
    [
        "", "http://a/", "HTTPS://a/", "//a/", "/x", "https:a", "https:///x", "https://", "https://?",
        "https://user@a/", "https://u:p@a/", "https://a/#f", "https://a#f", "https://a\\b/",
        "https://a b/", " https://a/", "https://a/ ", "https://a/\r\nHost: b", "https://a/\x00",
        "https://a/\n", "https://bücher.example/", "https://a/ü", "https://a/<>", 'https://a/"',
        "https://a%2eexample/", "https://a./", "https://.a/", "https://a..b/", "https://-a/",
        "https://a-/", f"https://{'a' * 64}/", f"https://{'a.' * 127}ab/",
        # Addresses that only some programs understand.
        "https://2130706433/", "https://127.1/", "https://0177.0.0.1/", "https://0x7f.0.0.1/",
        "https://0x7f000001/", "https://127.0.0.1./", "https://1.2.3.4.5/", "https://a.0x/",
        "https://[::1/", "https://::1/", "https://[fe80::1%25eth0]/", "https://[::g]/",
        "https://[1.2.3.4]/", "https://a:/", "https://a:0/", "https://a:65536/", "https://a:-1/",
        "https://a:443:443/", "https://a:٣/", f"https://a/{'x' * URL_CHARS_MAX}",
    ],
)  # fmt: skip
def test_what_is_no_such_url_is_refused(text):
    with pytest.raises(ValueError):
        parse_https_url(text)


@given(st.text(max_size=60).map(lambda text: f"https://{text}"))
def test_any_text_gives_a_url_or_a_value_error(text):
    try:
        url = parse_https_url(text)
    except ValueError:
        return
    assert url.target.startswith("/")
    assert text.isascii()
    assert not set(text) & set(" \r\n\\#@") - {"@"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("120", 120_000), (" 0 ", 0), ("Mon, 21 Sep 2026 14:14:20 GMT", 60_000),
        ("Mon, 21 Sep 2026 14:00:00 GMT", 0), ("Monday, 21-Sep-26 14:14:20 GMT", 60_000),
        ("", None), ("-5", None), ("soon", None), ("1.5", None), ("٣", None),
        ("9" * 400, 999_999_999_000), ("Mon, 99 Sep 2026 14:14:20 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(text, expected):
    assert parse_retry_after(text, NOW_MS) == expected


@given(st.text(max_size=60))
def test_any_retry_after_gives_a_time_or_nothing(text):
    wait = parse_retry_after(text, NOW_MS)
    assert wait is None or wait >= 0
