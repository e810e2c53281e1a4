"""Encrypted content for HTTP (RFC 8188, "aes128gcm") and its keys in web push (RFC 8291).

Randomness comes in from outside: a salt and a sender's private key are used for one message only.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tindra.base.ids import RandomSource

CONTENT_ENCODING: Final = "aes128gcm"
SALT_BYTES: Final = 16
POINT_BYTES: Final = 65
"""A P-256 point, uncompressed. Source: RFC 8291 s3.1"""
AUTH_BYTES: Final = 16
"""Source: RFC 8291 s3.2"""
RECORD_BYTES: Final = 4096
"""Record size of web push messages, which have one record. Source: RFC 8291 s4"""
_TAG_BYTES: Final = 16
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256: private keys lie below it."""
_MORE: Final = b"\x01"
_LAST: Final = b"\x02"
MESSAGE_BYTES_MAX: Final = RECORD_BYTES - (SALT_BYTES + 4 + 1 + POINT_BYTES) - 1 - _TAG_BYTES
"""Of the plaintext, so that the encrypted body has at most 4096 octets, which every push service
takes. Source: RFC 8291 s4, RFC 8030 s7.2"""


class PushKeys(NamedTuple):
    """What a user agent gave to be written to by. Source: RFC 8291 s2"""

    p256dh: bytes
    """Its public key: POINT_BYTES."""
    auth: bytes
    """A secret that the push service does not know: AUTH_BYTES."""


def encode_base64url(octets: bytes) -> str:
    """Without padding. Source: RFC 7515 s2"""
    return urlsafe_b64encode(octets).rstrip(b"=").decode()


def decode_base64url(text: str) -> bytes:
    """Padding may be there or not. Raises: ValueError."""
    stripped = text.rstrip("=")
    try:
        octets = urlsafe_b64decode(stripped + "=" * (-len(stripped) % 4))
    except (binascii.Error, ValueError):
        raise ValueError("this is not base64url") from None
    if encode_base64url(octets) != stripped:  # the decoder passes over what it does not know
        raise ValueError("this is not base64url")
    return octets


def parse_push_keys(p256dh: str, auth: str) -> PushKeys:
    """Keys as a client sends them. Raises: ValueError that names what is wrong.

    Source: RFC 8620 s7.2, RFC 8291 s3
    """
    public, secret = decode_base64url(p256dh), decode_base64url(auth)
    if len(public) != POINT_BYTES or public[0] != 4:
        raise ValueError(f"p256dh must be an uncompressed point of {POINT_BYTES} octets")
    if len(secret) != AUTH_BYTES:
        raise ValueError(f"auth must have {AUTH_BYTES} octets")
    _load_public(public)
    return PushKeys(public, secret)


def make_private_key(random: RandomSource) -> ec.EllipticCurvePrivateKey:
    """A P-256 key from random bits, for one message or for the life of a server."""
    return ec.derive_private_key(1 + random.bits(384) % (_ORDER - 1), ec.SECP256R1())


def encode_public(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public half as an uncompressed point."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def encrypt_message(
    content: bytes, keys: PushKeys, sender: ec.EllipticCurvePrivateKey, salt: bytes
) -> bytes:
    """The body of a web push message: one record that only the user agent can open.

    Args:
        content: at most MESSAGE_BYTES_MAX octets.
        sender: made for this message alone.
    Cost: a key pair and an agreement on the curve, 0.4 ms with the making of `sender`.
    Source: RFC 8291 s3.4
    """
    assert len(content) <= MESSAGE_BYTES_MAX, "a push message is one record"
    shared = sender.exchange(ec.ECDH(), _load_public(keys.p256dh))
    public = encode_public(sender)
    info = b"WebPush: info\0" + keys.p256dh + public
    key = _expand(_extract(keys.auth, shared), info, 32)
    return encode_aes128gcm(content, key, salt, public)


def encode_aes128gcm(
    content: bytes,
    key: bytes,
    salt: bytes,
    key_id: bytes = b"",
    record_bytes: int = RECORD_BYTES,
    padding: int = 0,
) -> bytes:
    """The "aes128gcm" content coding.

    Args:
        key: input keying material.
        record_bytes: of a record with its tag: at least 18 and what a padding takes.
        padding: octets of zero that hide a length, in the first record.
    Source: RFC 8188 s2
    """
    assert len(salt) == SALT_BYTES
    room = record_bytes - _TAG_BYTES - 1
    assert room > padding, "a record must hold something"
    extracted = _extract(salt, key)
    cipher = AESGCM(_expand(extracted, b"Content-Encoding: aes128gcm\0", 16))
    base = _expand(extracted, b"Content-Encoding: nonce\0", 12)
    out = [salt, record_bytes.to_bytes(4, "big"), bytes([len(key_id)]), key_id]
    start = number = 0
    while True:
        pad = padding if number == 0 else 0
        piece = content[start : start + room - pad]
        start += len(piece)
        is_last = start >= len(content)
        nonce = int.from_bytes(base, "big") ^ number
        record = piece + (_LAST if is_last else _MORE) + bytes(pad)
        out.append(cipher.encrypt(nonce.to_bytes(12, "big"), record, None))
        number += 1
        if is_last:
            return b"".join(out)


def _load_public(point: bytes) -> ec.EllipticCurvePublicKey:
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        raise ValueError("p256dh is not a point of the curve P-256") from None


def _extract(salt: bytes, key: bytes) -> bytes:
    """Source: RFC 5869 s2.2"""
    return hmac.digest(salt, key, hashlib.sha256)


def _expand(key: bytes, info: bytes, count: int) -> bytes:
    """At most 32 octets: one round. Source: RFC 5869 s2.3"""
    return hmac.digest(key, info + b"\x01", hashlib.sha256)[:count]
