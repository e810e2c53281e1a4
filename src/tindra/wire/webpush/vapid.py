"""A server tells a push service who it is: a signed token (RFC 8292, VAPID)."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tindra.wire.webpush.encryption import encode_base64url, encode_public

TOKEN_S: Final = 12 * 3600
"""How long a token holds; a push service refuses more than a day. Source: RFC 8292 s2"""
_HEADER: Final = encode_base64url(b'{"typ":"JWT","alg":"ES256"}')


def parse_private_key(octets: bytes) -> ec.EllipticCurvePrivateKey:
    """A key as it is kept in a file. Raises: ValueError."""
    return ec.derive_private_key(int.from_bytes(octets, "big"), ec.SECP256R1())


def encode_private_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """32 octets, for a file."""
    return key.private_numbers().private_value.to_bytes(32, "big")


def encode_application_server_key(key: ec.EllipticCurvePrivateKey) -> str:
    """The public key as browsers and push services take it. Source: RFC 8292 s3.2, RFC 9749 s3"""
    return encode_base64url(encode_public(key))


def make_vapid_token(
    key: ec.EllipticCurvePrivateKey, origin: str, contact: str, expires_s: int
) -> str:
    """A signed token for one push service.

    Args:
        origin: scheme, host and (unless it is the default) port of the push service.
        contact: a mailto: or https: URI that reaches the operator; "" for none.
        expires_s: seconds since 1970.
    Cost: one signature, about 0.1 ms; a token may serve many messages.
    Source: RFC 8292 s2
    """
    claims: dict[str, Any] = {"aud": origin, "exp": expires_s}
    if contact:
        claims["sub"] = contact
    signed = f"{_HEADER}.{encode_base64url(msgspec.json.encode(claims))}"
    # Deterministic, since nothing here may ask for randomness of its own.
    algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    r, s = decode_dss_signature(key.sign(signed.encode(), algorithm))
    return f"{signed}.{encode_base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def make_authorization(token: str, application_server_key: str) -> str:
    """The value of the Authorization header. Source: RFC 8292 s3"""
    return f"vapid t={token}, k={application_server_key}"
