"""The aes128gcm content coding and web push encryption, by the examples of their RFCs."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from tests.push_service import open_aes128gcm, open_message
from tests.virtual_clock import SeededRandom
from tindra.wire.webpush.encryption import (
    MESSAGE_BYTES_MAX,
    RECORD_BYTES,
    PushKeys,
    decode_base64url,
    encode_aes128gcm,
    encode_base64url,
    encode_public,
    encrypt_message,
    make_private_key,
    parse_push_keys,
)

P256DH = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
AUTH = "BTBZMqHH6r4Tts7J_aSIgg"
DEVICE = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"
SERVER = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
WATERMELON = b"When I grow up, I want to be a watermelon"
BODY = (
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27ml"
    "mlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT"
    "pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)


def load_key(text: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(decode_base64url(text), "big"), ec.SECP256R1())


def test_one_record_is_as_the_rfc_shows_it():
    """RFC 8188 s3.1"""
    salt = decode_base64url("I1BsxtFttlv3u_Oo94xnmw")
    body = encode_aes128gcm(b"I am the walrus", decode_base64url("yqdlZ-tYemfogSmv7Ws5PQ"), salt)
    assert encode_base64url(body) == (
        "I1BsxtFttlv3u_Oo94xnmwAAEAAA-NAVub2qFgBEuQKRapoZu-IxkIva3MEB1PD-ly8Thjg"
    )


def test_several_records_with_padding_are_as_the_rfc_shows_them():
    """RFC 8188 s3.2"""
    key, salt = (
        decode_base64url("BO3ZVPxUlnLORbVGMpbT1Q"),
        decode_base64url("uNCkWiNYzKTnBN9ji3-qWA"),
    )
    body = encode_aes128gcm(b"I am the walrus", key, salt, b"a1", record_bytes=25, padding=1)
    assert encode_base64url(body) == (
        "uNCkWiNYzKTnBN9ji3-qWAAAABkCYTHOG8chz_gnvgOqdGYovxyjuqRyJFjEDyoF"
        "1Fvkj6hQPdPHI51OEUKEpgz3SsLWIqS_uA"
    )


def test_a_push_message_is_as_the_rfc_shows_it():
    """RFC 8291 s5, with the values of RFC 8291 sA"""
    salt = decode_base64url("DGv6ra1nlYgDCS1FRnbzlw")
    body = encrypt_message(WATERMELON, parse_push_keys(P256DH, AUTH), load_key(SERVER), salt)
    assert encode_base64url(body) == BODY


def test_the_reader_of_these_tests_reads_the_examples_of_the_rfcs():
    """What every other test of push believes must itself be right."""
    opened = open_message(decode_base64url(BODY), load_key(DEVICE), decode_base64url(AUTH))
    assert opened == WATERMELON
    walrus = decode_base64url(
        "uNCkWiNYzKTnBN9ji3-qWAAAABkCYTHOG8chz_gnvgOqdGYovxyjuqRyJFjEDyoF"
        "1Fvkj6hQPdPHI51OEUKEpgz3SsLWIqS_uA"
    )
    assert open_aes128gcm(walrus, decode_base64url("BO3ZVPxUlnLORbVGMpbT1Q")) == b"I am the walrus"


@given(
    content=st.binary(max_size=300),
    record_bytes=st.integers(24, 80),
    padding=st.integers(0, 6),
    seed=st.integers(0, 1000),
)
def test_any_content_in_any_records_comes_out_again(content, record_bytes, padding, seed):
    random = SeededRandom(seed)
    key, salt = random.bits(128).to_bytes(16, "big"), random.bits(128).to_bytes(16, "big")
    body = encode_aes128gcm(content, key, salt, b"", record_bytes, padding)
    assert open_aes128gcm(body, key) == content
    assert body[16:20] == record_bytes.to_bytes(4, "big")


def test_the_longest_message_fills_what_every_push_service_takes():
    device, random = make_private_key(SeededRandom(5)), SeededRandom(6)
    keys, content = PushKeys(encode_public(device), b"a" * 16), b"x" * MESSAGE_BYTES_MAX
    body = encrypt_message(content, keys, make_private_key(random), b"s" * 16)
    assert len(body) == RECORD_BYTES
    assert open_message(body, device, b"a" * 16) == content
    with pytest.raises(InvalidTag):
        open_message(body, device, b"b" * 16)
    with pytest.raises(AssertionError):
        encrypt_message(content + b"x", keys, make_private_key(random), b"s" * 16)


@pytest.mark.parametrize(
    ("p256dh", "auth", "text"),
    [
        (P256DH[:-4], AUTH, "65 octets"),
        (P256DH, AUTH[:-2], "16 octets"),
        (P256DH, AUTH + "AAAA", "16 octets"),
        (P256DH.replace("BCVx", "BCVy"), AUTH, "not a point"),
        ("A" + P256DH[1:], AUTH, "uncompressed"),
        (P256DH.replace("_", "!"), AUTH, "base64url"),
        (P256DH.replace("-", "+").replace("_", "/"), AUTH, "base64url"),
        (P256DH, "BTBZMqHH6r4Tts7J_aSIg\n", "base64url"),
        ("", AUTH, "65 octets"),
        (encode_base64url(b"\x04" + bytes(64)), AUTH, "not a point"),
    ],
)
def test_keys_that_are_none_are_refused_by_name(p256dh, auth, text):
    with pytest.raises(ValueError, match=text):
        parse_push_keys(p256dh, auth)


def test_padded_base64_is_taken_as_browsers_may_send_it():
    assert parse_push_keys(P256DH + "=", AUTH + "==") == parse_push_keys(P256DH, AUTH)


@given(st.text(max_size=120), st.text(max_size=40))
def test_any_text_gives_keys_or_a_value_error(p256dh, auth):
    try:
        keys = parse_push_keys(p256dh, auth)
    except ValueError:
        return
    assert len(keys.p256dh) == 65


def test_keys_made_from_random_bits_differ_and_work():
    random = SeededRandom(1)
    made = {encode_public(make_private_key(random)) for _ in range(20)}
    assert len(made) == 20
