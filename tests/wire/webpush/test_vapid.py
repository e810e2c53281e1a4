"""VAPID tokens, checked as a push service checks them."""

from __future__ import annotations

import pytest

from tests.push_service import check_vapid
from tests.virtual_clock import SeededRandom
from tindra.wire.webpush.encryption import make_private_key
from tindra.wire.webpush.vapid import (
    encode_application_server_key,
    encode_private_key,
    make_authorization,
    make_vapid_token,
    parse_private_key,
)

KEY = make_private_key(SeededRandom(3))
PUBLIC = encode_application_server_key(KEY)
ORIGIN = "https://push.example.net"


def sign(contact: str = "mailto:ops@example.org") -> str:
    return make_authorization(make_vapid_token(KEY, ORIGIN, contact, 1_790_000_000), PUBLIC)


def test_a_push_service_finds_the_signature_right_and_knows_who_signed():
    """RFC 8292 s2, RFC 8292 s3"""
    claims = check_vapid(sign(), PUBLIC)
    assert claims == {"aud": ORIGIN, "exp": 1_790_000_000, "sub": "mailto:ops@example.org"}


def test_who_gives_no_contact_claims_none():
    assert "sub" not in check_vapid(sign(""), PUBLIC)


def test_a_changed_token_and_a_strange_key_are_found_out():
    other = encode_application_server_key(make_private_key(SeededRandom(4)))
    with pytest.raises(AssertionError):
        check_vapid(sign(), other)
    head, claims, signature = sign().split(".", 2)
    with pytest.raises(AssertionError):
        check_vapid(f"{head}.{claims[:-2]}AA.{signature}", PUBLIC)


def test_the_same_claims_give_the_same_token_since_nothing_is_random_here():
    assert sign() == sign()


def test_a_key_survives_its_file():
    octets = encode_private_key(KEY)
    assert len(octets) == 32
    assert encode_application_server_key(parse_private_key(octets)) == PUBLIC
    for wrong in (bytes(32), b"\xff" * 32):
        with pytest.raises(ValueError):
            parse_private_key(wrong)


def test_the_public_key_is_as_browsers_take_it():
    """RFC 9749 s3: uncompressed, base64url, no padding."""
    assert len(PUBLIC) == 87
    assert PUBLIC[0] == "B"
