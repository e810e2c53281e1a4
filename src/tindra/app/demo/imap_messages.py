"""IMAP commands that change messages (STORE, COPY, MOVE, EXPUNGE, APPEND), and IDLE.

Sources: RFC 9051 s6.3.12, s6.3.13, s6.4.3, s6.4.6 to s6.4.9; RFC 7162 s3.1.3; RFC 6851 s3;
RFC 4315 s2, s3.
"""

from __future__ import annotations

from typing import Final

from tindra.app.demo.imap_folders import find_folder
from tindra.app.demo.imap_session import (
    Arguments,
    CommandMalformed,
    CommandRefused,
    Registry,
    Session,
)
from tindra.app.demo.imap_store import Folder
from tindra.wire.imap.lexer import Token, read_atom, read_bytes, read_list, read_number
from tindra.wire.imap.response import parse_internal_date
from tindra.wire.imap.seqset import compact_uids, encode_uid_set

KEYWORDS_MAX: Final = 64
"""Flags of one message; more is refused."""
_SYSTEM_FLAGS: Final = {
    flag.lower(): flag for flag in ("\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft")
}


def read_flags(tokens: list[Token]) -> frozenset[str]:
    """Flags as stored: system flags in their usual spelling. Raises: CommandMalformed."""
    flags = set()
    for token in tokens:
        text = read_atom(token)
        if text.startswith("\\"):
            known = _SYSTEM_FLAGS.get(text.lower())
            if known is None:
                raise CommandMalformed(f"{text[:30]} cannot be set")
            text = known
        flags.add(text)
    if len(flags) > KEYWORDS_MAX:
        raise CommandRefused("[LIMIT] Too many flags")
    return frozenset(flags)


async def do_store(session: Session, arguments: Arguments) -> str:
    """STORE."""
    return _store(session, arguments, by_uid=False)


async def do_uid_store(session: Session, arguments: Arguments) -> str:
    """UID STORE."""
    return _store(session, arguments, by_uid=True)


async def do_copy(session: Session, arguments: Arguments) -> str:
    """COPY."""
    return _copy(session, arguments, by_uid=False)


async def do_uid_copy(session: Session, arguments: Arguments) -> str:
    """UID COPY."""
    return _copy(session, arguments, by_uid=True)


async def do_move(session: Session, arguments: Arguments) -> str:
    """MOVE."""
    return _move(session, arguments, by_uid=False)


async def do_uid_move(session: Session, arguments: Arguments) -> str:
    """UID MOVE."""
    return _move(session, arguments, by_uid=True)


async def do_expunge(session: Session, _: Arguments) -> str:
    """EXPUNGE: everything that is marked, by whomever."""
    return _expunge(session, set(session.open_folder.messages))


async def do_uid_expunge(session: Session, arguments: Arguments) -> str:
    """UID EXPUNGE: what is marked among these."""
    return _expunge(session, set(session.pick(arguments[0], by_uid=True)))


async def do_append(session: Session, arguments: Arguments) -> str:
    """APPEND."""
    folder = find_folder(session, arguments[0], code="[TRYCREATE] ")
    flags: frozenset[str] = frozenset()
    date_ms = session.server.clock.now_ms()
    for token in arguments[1:-1]:
        if isinstance(token, list):
            flags = read_flags(token)
        else:
            parsed = parse_internal_date(read_bytes(token))
            if parsed is None:
                raise CommandMalformed("no date")
            date_ms = parsed
    raw = arguments[-1]
    if not isinstance(raw, bytes) or len(arguments) < 2:
        raise CommandMalformed("APPEND needs a literal")
    uid = folder.add(raw, flags, date_ms)
    if session.faults.no_uidplus:
        return "OK Appended"
    return f"OK [APPENDUID {folder.uidvalidity} {uid}] Appended"


async def do_idle(session: Session, _: Arguments) -> str:
    """IDLE: from here on `Session` tells every change at once."""
    if session.faults.drop_idle and session.faults.take_drop():
        session.connection.abort()
    session.tell_changes(may_expunge=True)
    session.send("+ Idling")
    session.push()
    session.is_idle = True
    try:
        text = await session.connection.read_text()
    finally:
        session.is_idle = False
    if text.strip().upper() != "DONE":
        raise CommandMalformed("DONE was expected")
    return "OK Idle no more"


def _store(session: Session, arguments: Arguments, *, by_uid: bool) -> str:
    _check_writable(session)
    folder = session.open_folder
    uids = session.pick(arguments[0], by_uid=by_uid)
    rest = arguments[1:]
    unchanged_since: int | None = None
    if isinstance(rest[0], list):
        if session.faults.no_condstore or read_atom(rest[0][0]).upper() != "UNCHANGEDSINCE":
            raise CommandMalformed("unknown STORE modifier")
        unchanged_since = read_number(rest[0][1])
        session.knows_condstore = True
        rest = rest[1:]
    mode, _, suffix = read_atom(rest[0]).upper().partition(".")
    flags = read_flags(read_list(rest[1]) if isinstance(rest[1], list) else rest[1:])
    if mode not in ("FLAGS", "+FLAGS", "-FLAGS") or suffix not in ("", "SILENT"):
        raise CommandMalformed("unknown STORE item")
    modified: list[int] = []
    for uid in uids:
        message = folder.messages.get(uid)
        if message is None:
            continue
        if unchanged_since is not None and message.modseq > unchanged_since:
            modified.append(uid)
            continue
        old = message.flags
        new = old | flags if mode[0] == "+" else old - flags if mode[0] == "-" else flags
        folder.set_flags(uid, new, source=session)
        if not suffix:
            session.send(session.flags_line(message))
        elif session.knows_condstore:
            session.send(session.flags_line(message, with_flags=False))
    if modified:
        numbers = modified if by_uid else [session.position(uid) for uid in modified]
        return f"OK [MODIFIED {encode_uid_set(compact_uids(numbers))}] Some had changed"
    return "OK Stored"


def _copy(session: Session, arguments: Arguments, *, by_uid: bool) -> str:
    target = find_folder(session, arguments[1], code="[TRYCREATE] ")
    uids = session.pick(arguments[0], by_uid=by_uid)
    pairs = session.server.store.copy(session.open_folder, uids, target)
    return f"OK {_copyuid(session, target, pairs)}Copied"


def _move(session: Session, arguments: Arguments, *, by_uid: bool) -> str:
    _check_writable(session)
    target = find_folder(session, arguments[1], code="[TRYCREATE] ")
    uids = session.pick(arguments[0], by_uid=by_uid)
    pairs = session.server.store.copy(session.open_folder, uids, target)
    code = _copyuid(session, target, pairs)
    if code:
        session.send(f"* OK {code}Moved")
    session.open_folder.expunge(old for old, _ in pairs)
    session.tell_changes(may_expunge=True)
    return "OK Moved"


def _copyuid(session: Session, target: Folder, pairs: list[tuple[int, int]]) -> str:
    if not pairs or session.faults.no_uidplus:
        return ""
    old = encode_uid_set(compact_uids(old for old, _ in pairs))
    new = encode_uid_set(compact_uids(new for _, new in pairs))
    return f"[COPYUID {target.uidvalidity} {old} {new}] "


def _expunge(session: Session, uids: set[int]) -> str:
    _check_writable(session)
    folder = session.open_folder
    marked = [m.uid for m in folder.messages.values() if "\\Deleted" in m.flags and m.uid in uids]
    gone = folder.expunge(marked)
    session.tell_changes(may_expunge=True)
    if gone and session.knows_condstore and not session.faults.no_condstore:
        return f"OK [HIGHESTMODSEQ {folder.highestmodseq}] Expunged"
    return "OK Expunged"


def _check_writable(session: Session) -> None:
    if session.is_read_only:
        raise CommandRefused("[READ-ONLY] The mailbox was opened for reading")


COMMANDS: Final[Registry] = {
    "STORE": ("folder", do_store),
    "UID STORE": ("folder", do_uid_store),
    "COPY": ("folder", do_copy),
    "UID COPY": ("folder", do_uid_copy),
    "MOVE": ("folder", do_move),
    "UID MOVE": ("folder", do_uid_move),
    "EXPUNGE": ("folder", do_expunge),
    "UID EXPUNGE": ("folder", do_uid_expunge),
    "APPEND": ("user", do_append),
    "IDLE": ("user", do_idle),
}
