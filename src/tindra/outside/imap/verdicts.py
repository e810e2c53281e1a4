"""Turns what a server or the network did into a `ProviderError` in plain words; pure, no I/O.

Which kind is decided by response code first, then by words that large providers are known to use,
then by what we were doing. A refused login is `AuthRevoked` unless the server says that the trouble
is its own: telling an owner that a good password is wrong costs trust, asking again is cheap.

Sources: RFC 5530 s3, RFC 9051 s7.1.
"""

from __future__ import annotations

import re
import ssl
from typing import Final

from tindra.sync.ports import AuthRevoked, ProviderError, Rejected, Throttled, Transient
from tindra.wire.imap.response import Status

BACKOFF_MS_MAX: Final = 24 * 3600 * 1000
"""The longest pause that a server may ask for; a larger number is a mistake or malice."""

_TRANSIENT_CODES: Final = frozenset({"UNAVAILABLE", "INUSE", "SERVERBUG", "EXPUNGEISSUED"})
_AUTH_CODES: Final = frozenset(
    {"AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED", "WEBALERT", "PRIVACYREQUIRED"}
)
_THROTTLE_WORDS: Final = re.compile(
    r"throttl|rate.?limit|bandwidth limit|suggested backoff|authenticated but not connected"
    r"|too many (?:\w+ ){0,2}(?:connections?|logins?|sessions?|requests?|commands?|attempts?)"
    r"|connection limit|maximum number of connections|slow down",
    re.I,
)
_TRANSIENT_WORDS: Final = re.compile(
    r"temporar|try again|try later|internal error|server busy|service unavailable|timed? ?out",
    re.I,
)
_BACKOFF: Final = re.compile(r"backoff time:? *([0-9]{1,9})", re.I)

_NOT_FOR_HOST: Final = frozenset({62, 64})  # a name, an IP address
_EXPIRED: Final = 10
_NOT_YET_VALID: Final = 9
_SELF_SIGNED: Final = frozenset({18, 19})


def judge_status(status: Status, doing: str, *, is_login: bool = False) -> ProviderError:
    """The error for a NO, BAD or BYE.

    Args:
        doing: what we asked for, to follow "The mail server refused to", such as "list mailboxes".
    """
    words = status.text or None
    code = status.code.name if status.code is not None else None
    full = f"{code or ''} {status.text}"
    if code == "THROTTLED" or _THROTTLE_WORDS.search(full):
        return Throttled(
            "The mail server asks us to slow down",
            retry_after_ms=_read_backoff(status.text),
            server_words=words,
            code=code,
        )
    if is_login and code in _AUTH_CODES:
        return AuthRevoked(_REFUSED_LOGIN, server_words=words, code="LOGIN")
    if status.kind == "BYE":
        return Transient("The mail server ended the connection", server_words=words, code="CLOSED")
    if code in _TRANSIENT_CODES or (code is None and _TRANSIENT_WORDS.search(full)):
        return Transient(
            f"The mail server could not {doing} at the moment", server_words=words, code=code
        )
    if is_login and status.kind == "NO":
        return AuthRevoked(_REFUSED_LOGIN, server_words=words, code="LOGIN")
    return Rejected(f"The mail server refused to {doing}", server_words=words, code=code)


_REFUSED_LOGIN: Final = "The mail server did not accept the user name or password"


def _read_backoff(text: str) -> int | None:
    match = _BACKOFF.search(text)
    return min(int(match[1]), BACKOFF_MS_MAX) if match is not None else None


def judge_closed(bye: Status | None) -> ProviderError:
    """The error for a connection that ended by itself, after its BYE if there was one."""
    if bye is not None:
        return judge_status(bye, "go on")
    return Transient("The mail server closed the connection", code="CLOSED")


def judge_tls(error: ssl.SSLError, host: str, port: int) -> ProviderError:
    """The error for a failed TLS handshake."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return Rejected(
            f"{host} does not speak TLS on port {port} from the first byte on; "
            "STARTTLS or another port may be right",
            server_words=error.reason,
            code="TLS_MODE",
        )
    number = error.verify_code
    if number in _NOT_FOR_HOST:
        why = f"is made out to another name than {host}"
    elif number == _EXPIRED:
        why = "has expired"
    elif number == _NOT_YET_VALID:
        why = "is not valid yet"
    elif number in _SELF_SIGNED:
        why = "is signed by itself, not by an authority that is trusted here"
    else:
        why = "is not trusted here"
    return Rejected(
        f"The certificate of {host} {why}", server_words=error.verify_message, code="CERTIFICATE"
    )


def judge_network(error: OSError, host: str, port: int) -> ProviderError:
    """The error for a connection that could not be opened."""
    if isinstance(error, TimeoutError):
        why = f"{host} does not answer on port {port}"
    elif isinstance(error, ConnectionRefusedError):
        why = f"{host} accepts no connections on port {port}"
    elif isinstance(error, ConnectionResetError):
        why = f"{host} dropped the connection on port {port}"
    else:
        why = f"{host} cannot be reached on port {port}"
    return Transient(why, server_words=error.strerror, code="UNREACHABLE")
