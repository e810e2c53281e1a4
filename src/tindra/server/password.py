"""Password hashes and secret tokens: made, and checked in constant time.

A hash is a text with its own parameters, so that they can be raised without touching old rows:
`scrypt$<log2 n>$<r>$<p>$<salt>$<key>`, the last two in base64. Checking is slow on purpose; callers
run it off the loop.
Source: RFC 7914 s2
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from typing import NamedTuple

PASSWORD_BYTES_MAX = 1024
"""In UTF-8; more than any person types, little enough to hash at once."""
_SALT_BYTES = 16
_KEY_BYTES = 32
_LOG_N_MAX = 20
_R_MAX = 32
_P_MAX = 16
"""Bounds of stored parameters: a damaged row may not cost gigabytes."""
TOKEN_PREFIX = "tdr_"
"""By which scanners for leaked secrets may know ours."""
_TOKEN_BYTES = 32


class PasswordCost(NamedTuple):
    """Parameters of scrypt: memory is 128 * r * 2**log_n octets, time grows with p too."""

    log_n: int
    r: int
    p: int


PASSWORD_COST = PasswordCost(log_n=15, r=8, p=3)
"""32 MiB and a third of a second here; what OWASP's cheat sheet (2025) asks for at least."""


def make_password_hash(password: str, cost: PasswordCost = PASSWORD_COST) -> str:
    """The text to store for `password`. Cost: as slow as checking it."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return _encode(cost, salt, _derive(password, salt, cost))


def make_dummy_hash(cost: PasswordCost = PASSWORD_COST) -> str:
    """A hash that no password fits, at no cost: for unknown users, who must not be told apart."""
    return _encode(cost, secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_KEY_BYTES))


def verify_password(password: str, stored: str) -> bool:
    """Whether `stored` was made from `password`; False for a text that is no such hash."""
    fields = stored.split("$")
    if len(fields) != 6 or fields[0] != "scrypt":
        return False
    try:
        cost = PasswordCost(int(fields[1]), int(fields[2]), int(fields[3]))
        salt, key = b64decode(fields[4], validate=True), b64decode(fields[5], validate=True)
    except (ValueError, binascii.Error):
        return False
    if not (1 <= cost.log_n <= _LOG_N_MAX and 1 <= cost.r <= _R_MAX and 1 <= cost.p <= _P_MAX):
        return False
    if len(password.encode("utf-8", "surrogatepass")) > PASSWORD_BYTES_MAX:
        return False
    return hmac.compare_digest(_derive(password, salt, cost), key)


def make_token() -> tuple[str, bytes]:
    """A new secret token with 256 random bits: its text for the device, its hash for the store."""
    text = TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
    return text, hash_token(text)


def hash_token(text: str) -> bytes:
    """What is stored of a token. It has too many random bits to need a slow hash."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _derive(password: str, salt: bytes, cost: PasswordCost) -> bytes:
    octets = password.encode("utf-8", "surrogatepass")
    memory = 128 * cost.r * (2**cost.log_n + cost.p + 2)
    return hashlib.scrypt(
        octets, salt=salt, n=2**cost.log_n, r=cost.r, p=cost.p, maxmem=2 * memory, dklen=_KEY_BYTES
    )


def _encode(cost: PasswordCost, salt: bytes, key: bytes) -> str:
    parts = [str(number) for number in cost] + [b64encode(salt).decode(), b64encode(key).decode()]
    return "$".join(["scrypt", *parts])
