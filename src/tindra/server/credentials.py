"""The Authorization header: bytes to values (RFC 7617, RFC 6750), and the challenges of a 401."""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import NamedTuple

from tindra.server.http.exchange import Exchange, Headers, HttpError

CREDENTIAL_CHARS_MAX = 4096
"""Of the whole header; our tokens have 47, passwords at most 1,024."""
REALM = "Tindra"
_BASIC = (b"www-authenticate", f'Basic realm="{REALM}", charset="UTF-8"'.encode())
_BEARER = (b"www-authenticate", f'Bearer realm="{REALM}"'.encode())
_BEARER_INVALID = (
    b"www-authenticate",
    f'Bearer realm="{REALM}", error="invalid_token"'.encode(),
)


class BasicCredential(NamedTuple):
    """A login name and a password or app password. Source: RFC 7617 s2"""

    login: str
    password: str


class BearerCredential(NamedTuple):
    """An access token. Source: RFC 6750 s2.1"""

    token: str


def parse_authorization(text: str) -> BasicCredential | BearerCredential | None:
    """What the header says; None where it says nothing we understand."""
    scheme, _, rest = text.partition(" ")
    rest = rest.strip()
    if not rest or len(text) > CREDENTIAL_CHARS_MAX:
        return None
    if scheme.lower() == "bearer":
        return BearerCredential(rest) if rest.isascii() and " " not in rest else None
    if scheme.lower() != "basic":
        return None
    try:
        pair = b64decode(rest, validate=True).decode("utf-8")
    except (ValueError, binascii.Error):
        return None
    login, colon, password = pair.partition(":")
    return BasicCredential(login, password) if colon and login and password else None


def make_refusal(exchange: Exchange, detail: str) -> HttpError:
    """The 401 for this request, with the challenges that help it. Source: RFC 9110 s11.6.1"""
    return HttpError(401, detail, headers=_challenges(exchange))


def _challenges(exchange: Exchange) -> Headers:
    text = exchange.header(b"authorization")
    bearer = _BEARER_INVALID if text[:7].lower() == "bearer " else _BEARER
    # A script's fetch says so by this header; offering it Basic makes the browser ask the user
    # for a password in a window of its own, which no web client wants.
    if exchange.header(b"sec-fetch-mode") not in ("", "navigate"):
        return [bearer]
    return [_BASIC, bearer]
