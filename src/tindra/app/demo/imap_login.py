"""IMAP commands that need no open folder and touch no mail: who are you, what can you do, goodbye.

Sources: RFC 9051 s6.1, s6.2, s6.3.1; RFC 2971 s3; RFC 2342 s5; RFC 4616 s2; RFC 4959 s3.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Final

from tindra.app.demo.imap_session import (
    Arguments,
    CommandMalformed,
    CommandRefused,
    Registry,
    Session,
)
from tindra.wire.imap.lexer import read_atom, read_bytes

_REFUSALS: Final = {
    "credentials": "[AUTHENTICATIONFAILED] Invalid credentials",
    "throttled": "[UNAVAILABLE] Too many logins, please try again later",
    "disabled": "[ALERT] Please enable IMAP access in the settings of your account",
}
_XOAUTH2_CHALLENGE: Final = b'{"status":"400","schemes":"bearer","scope":"mail"}'


async def do_capability(session: Session, _: Arguments) -> str:
    """CAPABILITY."""
    session.send(f"* CAPABILITY {_offer(session)}")
    return "OK That is all"


async def do_noop(_session: Session, _: Arguments) -> str:
    """NOOP: what others did is told on the way out."""
    return "OK Nothing done"


async def do_logout(session: Session, _: Arguments) -> str:
    """LOGOUT."""
    session.is_leaving = True
    session.leave()
    session.send("* BYE Until next time")
    return "OK Goodbye"


async def do_id(session: Session, _: Arguments) -> str:
    """ID."""
    session.send('* ID ("name" "Tindra demo" "vendor" "Tindra")')
    return "OK Pleased to meet you"


async def do_starttls(session: Session, _: Arguments) -> str:
    """STARTTLS."""
    connection = session.connection
    if not connection.can_start_tls or session.is_user:
        raise CommandMalformed("STARTTLS is not possible now")
    await connection.start_tls()
    return ""


async def do_login(session: Session, arguments: Arguments) -> str:
    """LOGIN."""
    user, password = map(read_bytes, arguments[:2])
    return _admit(session, user.decode("utf-8", "replace"), password.decode("utf-8", "replace"))


async def do_authenticate(session: Session, arguments: Arguments) -> str:
    """AUTHENTICATE PLAIN or XOAUTH2, with or without an initial response."""
    mechanism = read_atom(arguments[0]).upper()
    if mechanism not in ("PLAIN", "XOAUTH2"):
        raise CommandRefused("Unknown mechanism")
    if len(arguments) > 1:
        encoded = read_atom(arguments[1])
    else:
        session.send("+ ")
        session.push()
        encoded = await session.connection.read_text()
    if encoded == "*":
        raise CommandMalformed("cancelled")
    try:
        answer = base64.b64decode("" if encoded == "=" else encoded, validate=True)
    except (binascii.Error, ValueError):
        raise CommandMalformed("that was no base64") from None
    if mechanism == "PLAIN":
        pieces = answer.split(b"\0")
        if len(pieces) != 3:
            raise CommandMalformed("PLAIN takes three parts")
        return _admit(session, *(piece.decode("utf-8", "replace") for piece in pieces[1:]))
    return await _admit_bearer(session, answer)


async def do_enable(session: Session, arguments: Arguments) -> str:
    """ENABLE CONDSTORE, QRESYNC."""
    offered = session.server.capabilities(is_secure=session.connection.is_secure)
    wanted = [read_atom(argument).upper() for argument in arguments]
    enabled = [name for name in wanted if name in ("CONDSTORE", "QRESYNC") and name in offered]
    session.knows_qresync |= "QRESYNC" in enabled
    session.knows_condstore |= bool(enabled)
    session.send(f"* ENABLED {' '.join(enabled)}".rstrip())
    return "OK Enabled"


async def do_namespace(session: Session, _: Arguments) -> str:
    """NAMESPACE: one personal one without a prefix."""
    session.send('* NAMESPACE (("" "/")) NIL NIL')
    return "OK One namespace"


def _offer(session: Session) -> str:
    return " ".join(session.server.capabilities(is_secure=session.connection.is_secure))


def _check_mood(session: Session) -> None:
    refusal = session.faults.refuse_login
    if refusal:
        raise CommandRefused(_REFUSALS[refusal])


def _admit(session: Session, user: str, password: str) -> str:
    _check_mood(session)
    known = session.server.logins.get(user.lower())
    if known is None or not hmac.compare_digest(known.encode(), password.encode()):
        raise CommandRefused(_REFUSALS["credentials"])
    session.is_user = True
    return f"OK [CAPABILITY {_offer(session)}] Welcome"


async def _admit_bearer(session: Session, answer: bytes) -> str:
    fields = dict(
        field.partition("=")[::2] for field in answer.decode("utf-8", "replace").split("\x01")
    )
    token = fields.get("auth", "").removeprefix("Bearer ")
    is_known = token in session.server.tokens and fields.get("user", "") in session.server.logins
    if not is_known:
        session.send(b"+ " + base64.b64encode(_XOAUTH2_CHALLENGE))
        session.push()
        await session.connection.read_text()
        raise CommandRefused(_REFUSALS["credentials"])
    _check_mood(session)
    session.is_user = True
    return f"OK [CAPABILITY {_offer(session)}] Welcome"


COMMANDS: Final[Registry] = {
    "CAPABILITY": ("any", do_capability),
    "NOOP": ("any", do_noop),
    "CHECK": ("folder", do_noop),
    "LOGOUT": ("any", do_logout),
    "ID": ("any", do_id),
    "STARTTLS": ("any", do_starttls),
    "LOGIN": ("any", do_login),
    "AUTHENTICATE": ("any", do_authenticate),
    "ENABLE": ("user", do_enable),
    "NAMESPACE": ("user", do_namespace),
}
