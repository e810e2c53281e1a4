"""Disposition notifications, written and read. Source: RFC 8098"""

from __future__ import annotations

import itertools
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tindra.wire.mime.build import HeaderValue, TextValue, build_message
from tindra.wire.mime.notification import (
    ACTION_MODES,
    NOTIFICATION_BYTES_MAX,
    SENDING_MODES,
    TYPES,
    Disposition,
    Notification,
    build_notification,
    encode_recipient,
    parse_notification,
)

SAID = Disposition("manual-action", "mdn-sent-manually", "displayed")
WORDS = st.lists(
    st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=40), min_size=1
).map(" ".join)


def write(notification: Notification, text: str = "Hi", original: bytes | None = None) -> bytes:
    numbers = itertools.count()
    root = build_notification(notification, text, original)
    headers: list[tuple[str, HeaderValue]] = [("Subject", TextValue("Read"))]
    return build_message(headers, root, boundary=lambda: f"=_x{next(numbers)}")


@given(
    action=st.sampled_from(ACTION_MODES),
    sending=st.sampled_from(SENDING_MODES),
    kind=st.sampled_from(TYPES),
    agent=WORDS,
    errors=st.lists(WORDS, max_size=3),
    extension=WORDS,
)
def test_what_is_written_is_read_back(
    action: str, sending: str, kind: str, agent: str, errors: list[str], extension: str
) -> None:
    given = Notification(
        disposition=Disposition(action, sending, kind),
        final_recipient="rfc822; ann@example.org",
        original_message_id="<" + "x" * 120 + "@example.org>",
        reporting_ua=_normal(agent),
        errors=[_normal(one) for one in errors],
        extensions={"X-Extension": _normal(extension)},
    )
    raw = write(given, "Grüße\nan alle\n", b"Subject: y\r\n\r\nText\r\n")
    found = parse_notification(raw)
    assert found is not None
    assert found.notification == given
    assert (found.subject, found.text, found.has_original) == ("Read", "Grüße\nan alle\n", True)
    part = raw.split(b"message/disposition-notification")[1].split(b"--=_x")[0]
    assert part.isascii()
    assert b"base64" not in part


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def test_an_address_is_ascii_whatever_it_is() -> None:
    assert encode_recipient("ann@example.org") == "rfc822; ann@example.org"
    assert encode_recipient("größe+x@ü.test") == "utf-8; gr\\x{F6}\\x{DF}e\\x{2B}x@\\x{FC}.test"


@pytest.mark.parametrize("value", ["a\r\nb", "a\0b", "a\nDisposition: x"])
def test_no_value_adds_a_line(value: str) -> None:
    with pytest.raises(ValueError, match="Reporting-UA"):
        write(Notification(disposition=SAID, reporting_ua=value))
    with pytest.raises(ValueError, match="Final-Recipient"):
        write(Notification(disposition=SAID, final_recipient=value))


@given(st.binary(max_size=2000), st.binary(max_size=500))
def test_any_octets_are_a_notification_or_none(noise: bytes, fields: bytes) -> None:
    parse_notification(noise)
    head = b'Content-Type: multipart/report; boundary="b"\r\n\r\n--b\r\n\r\n'
    inner = b"--b\r\nContent-Type: message/disposition-notification\r\n\r\n"
    parse_notification(head + noise + b"\r\n" + inner + fields + b"\r\n--b--\r\n")


def test_a_giant_is_read_in_linear_time() -> None:
    field = b"Disposition: " + b"(" * (NOTIFICATION_BYTES_MAX - 100)
    raw = (
        b'Content-Type: multipart/report; boundary="b"\r\n\r\n--b\r\n\r\nx\r\n'
        b"--b\r\nContent-Type: message/disposition-notification\r\n\r\n" + field + b"\r\n"
        b"--b\r\nContent-Type: message/rfc822\r\n\r\n" + b"y" * 20_000_000 + b"\r\n--b--\r\n"
    )
    started = time.perf_counter()
    assert parse_notification(raw) is None
    assert time.perf_counter() - started < 5
