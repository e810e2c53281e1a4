"""The commands we speak, as functions from plain values to `Command`; encoding lives in `command`.

One function a command, named after it. Nothing here knows the connection's state (`machine` does)
or which server can do what (the caller does). Sets of UIDs go out as they are given:
`split_ranges` cuts them before.

Sources: RFC 9051 s6, RFC 7162 s3, RFC 6851 s3, RFC 4315 s2, RFC 5161 s3, RFC 2971 s3, RFC 5258 s3,
RFC 5819 s2, RFC 6154 s2, RFC 4959 s3, RFC 4731 s3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from tindra.wire.imap.command import (
    Argument,
    AString,
    Atom,
    Command,
    DateTime,
    FetchItem,
    Flag,
    Group,
    ListPattern,
    Mailbox,
    Message,
    Nil,
    Number,
    String,
    UidSet,
)
from tindra.wire.imap.errors import LocalProtocolError
from tindra.wire.imap.seqset import UidRange

CAPABILITY: Final = Command(name="CAPABILITY")
NOOP: Final = Command(name="NOOP")
LOGOUT: Final = Command(name="LOGOUT")
STARTTLS: Final = Command(name="STARTTLS")
IDLE: Final = Command(name="IDLE")
EXPUNGE: Final = Command(name="EXPUNGE")
UNSELECT: Final = Command(name="UNSELECT")

StoreMode = Literal["add", "remove", "replace"]
_STORE_ITEM: Final[dict[StoreMode, str]] = {
    "add": "+FLAGS.SILENT",
    "remove": "-FLAGS.SILENT",
    "replace": "FLAGS.SILENT",
}


def login(user: str, password: str) -> Command:
    """LOGIN; only where the server has no SASL PLAIN. Source: RFC 9051 s6.2.3"""
    return Command(
        name="LOGIN",
        arguments=(AString(user.encode("utf-8")), AString(password.encode("utf-8"))),
    )


def authenticate_plain(user: str, password: str, *, is_initial: bool) -> Command:
    """AUTHENTICATE PLAIN. Raises: LocalProtocolError: NUL in user or password.

    Source: RFC 4616 s2, RFC 4959 s3
    """
    if "\0" in user + password:
        raise LocalProtocolError("a user name or password cannot hold a NUL character")
    secret = f"\0{user}\0{password}".encode()
    return _authenticate("PLAIN", secret, is_initial=is_initial)


def authenticate_xoauth2(user: str, token: str, *, is_initial: bool) -> Command:
    """AUTHENTICATE XOAUTH2 with a bearer token; an error challenge is answered by an empty line.

    Raises: LocalProtocolError: a control character in user or token.
    """
    if any(char < " " for char in user + token):
        raise LocalProtocolError("a user name or token cannot hold a control character")
    secret = f"user={user}\x01auth=Bearer {token}\x01\x01".encode()
    return _authenticate("XOAUTH2", secret, b"", is_initial=is_initial)


def _authenticate(mechanism: str, *answers: bytes, is_initial: bool) -> Command:
    return Command(
        name="AUTHENTICATE",
        arguments=(Atom(mechanism),),
        sasl=answers,
        is_sasl_initial=is_initial,
    )


def identify(fields: dict[str, str]) -> Command:
    """ID: who we are; some servers serve nobody who does not say. Source: RFC 2971 s3.1"""
    members: list[Argument] = []
    for key, value in fields.items():
        members += [String(key.encode("utf-8")), String(value.encode("utf-8"))]
    return Command(name="ID", arguments=(Group(members) if members else Nil(),))


def enable(*extensions: str) -> Command:
    """ENABLE. Source: RFC 5161 s3.1"""
    return Command(name="ENABLE", arguments=tuple(map(Atom, extensions)))


def list_mailboxes(*, special_use: bool = False, status: Sequence[str] = ()) -> Command:
    """LIST of everything, with `RETURN (SPECIAL-USE STATUS (...))` as asked.

    Source: RFC 9051 s6.3.9, RFC 6154 s2, RFC 5819 s2
    """
    arguments: list[Argument] = [ListPattern(""), ListPattern("*")]
    returned: list[Argument] = [Atom("SPECIAL-USE")] if special_use else []
    if status:
        returned += [Atom("STATUS"), Group(list(map(Atom, status)))]
    if returned:
        arguments += [Atom("RETURN"), Group(returned)]
    return Command(name="LIST", arguments=tuple(arguments))


def status(mailbox: Mailbox, items: Iterable[str]) -> Command:
    """STATUS of a mailbox that is not selected. Source: RFC 9051 s6.3.11"""
    return Command(name="STATUS", arguments=(mailbox, Group(list(map(Atom, items)))))


def get_quota_root(mailbox: Mailbox) -> Command:
    """GETQUOTAROOT: the quota roots of a mailbox, and what they hold. Source: RFC 9208 s4.1.2"""
    return Command(name="GETQUOTAROOT", arguments=(mailbox,))


def select(
    mailbox: Mailbox,
    *,
    read_only: bool = False,
    condstore: bool = False,
    known: tuple[int, int, Sequence[UidRange]] | None = None,
) -> Command:
    """SELECT or EXAMINE, plain, with (CONDSTORE), or with (QRESYNC (...)).

    Args:
        known: (uidvalidity, modseq, known UIDs or empty) of the last visit: asks for QRESYNC, which
            must have been enabled.
    Source: RFC 7162 s3.1.8, RFC 7162 s3.2.5
    """
    arguments: list[Argument] = [mailbox]
    if known is not None:
        uid_validity, modseq, uids = known
        facts: list[Argument] = [Number(uid_validity), Number(modseq)]
        if uids:
            facts.append(UidSet(uids))
        arguments.append(Group([Atom("QRESYNC"), Group(facts)]))
    elif condstore:
        arguments.append(Group([Atom("CONDSTORE")]))
    return Command(name="EXAMINE" if read_only else "SELECT", arguments=tuple(arguments))


def uid_fetch(
    uids: Sequence[UidRange],
    items: Iterable[str],
    *,
    changed_since: int | None = None,
    vanished: bool = False,
) -> Command:
    """UID FETCH.

    Args:
        changed_since: only what has a higher mod-sequence.
        vanished: also ask for the expunged among `uids` (QRESYNC enabled, needs `changed_since`).
    Source: RFC 9051 s6.4.9, RFC 7162 s3.1.4.1, RFC 7162 s3.2.6
    """
    arguments: list[Argument] = [UidSet(uids), Group(list(map(FetchItem, items)))]
    if changed_since is not None:
        modifier: list[Argument] = [Atom("CHANGEDSINCE"), Number(changed_since)]
        if vanished:
            modifier.append(Atom("VANISHED"))
        arguments.append(Group(modifier))
    return Command(name="UID FETCH", arguments=tuple(arguments))


def uid_store(
    uids: Sequence[UidRange],
    mode: StoreMode,
    flags: Iterable[str],
    *,
    unchanged_since: int | None = None,
) -> Command:
    """UID STORE ... .SILENT. Source: RFC 9051 s6.4.6, RFC 7162 s3.1.3"""
    arguments: list[Argument] = [UidSet(uids)]
    if unchanged_since is not None:
        arguments.append(Group([Atom("UNCHANGEDSINCE"), Number(unchanged_since)]))
    arguments += [Atom(_STORE_ITEM[mode]), Group(list(map(Flag, flags)))]
    return Command(name="UID STORE", arguments=tuple(arguments))


def uid_copy(uids: Sequence[UidRange], target: Mailbox) -> Command:
    """UID COPY. Source: RFC 9051 s6.4.7"""
    return Command(name="UID COPY", arguments=(UidSet(uids), target))


def uid_move(uids: Sequence[UidRange], target: Mailbox) -> Command:
    """UID MOVE. Source: RFC 6851 s3.2"""
    return Command(name="UID MOVE", arguments=(UidSet(uids), target))


def uid_expunge(uids: Sequence[UidRange]) -> Command:
    """UID EXPUNGE: only these, whatever else is marked. Source: RFC 4315 s2.1"""
    return Command(name="UID EXPUNGE", arguments=(UidSet(uids),))


def uid_search(*, extended: bool = False, flag: Literal["ALL", "DELETED"] = "ALL") -> Command:
    """UID SEARCH ALL or DELETED; extended asks for ALL as ranges and the COUNT to check them by.

    Source: RFC 9051 s6.4.4, RFC 4731 s3.1
    """
    returned: tuple[Argument, ...] = ()
    if extended:
        returned = (Atom("RETURN"), Group([Atom("ALL"), Atom("COUNT")]))
    return Command(name="UID SEARCH", arguments=(*returned, Atom(flag)))


def append(mailbox: Mailbox, raw: bytes, flags: Iterable[str], at_ms: int | None) -> Command:
    """APPEND one message. Source: RFC 9051 s6.3.12"""
    arguments: list[Argument] = [mailbox]
    if members := list(map(Flag, flags)):
        arguments.append(Group(members))
    if at_ms is not None:
        arguments.append(DateTime(at_ms))
    arguments.append(Message(raw))
    return Command(name="APPEND", arguments=tuple(arguments))


def create(mailbox: Mailbox) -> Command:
    """CREATE. Source: RFC 9051 s6.3.4"""
    return Command(name="CREATE", arguments=(mailbox,))


def rename(mailbox: Mailbox, target: Mailbox) -> Command:
    """RENAME; inner mailboxes follow. Source: RFC 9051 s6.3.6"""
    return Command(name="RENAME", arguments=(mailbox, target))


def delete(mailbox: Mailbox) -> Command:
    """DELETE a mailbox and all in it. Source: RFC 9051 s6.3.5"""
    return Command(name="DELETE", arguments=(mailbox,))


def subscribe(mailbox: Mailbox) -> Command:
    """SUBSCRIBE, so that other clients show it. Source: RFC 9051 s6.3.7"""
    return Command(name="SUBSCRIBE", arguments=(mailbox,))


def unsubscribe(mailbox: Mailbox) -> Command:
    """UNSUBSCRIBE. Source: RFC 9051 s6.3.8"""
    return Command(name="UNSUBSCRIBE", arguments=(mailbox,))
