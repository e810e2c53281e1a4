"""IMAP commands about folders: list, look, open, close, make, rename, remove.

Sources: RFC 9051 s6.3, s6.4.1, s6.4.2; RFC 5258 s3; RFC 5819 s2; RFC 6154 s2; RFC 7162 s3.1.8,
s3.2.5; RFC 3691 s2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from tindra.app.demo.imap_session import (
    Arguments,
    CommandMalformed,
    CommandRefused,
    Registry,
    Session,
)
from tindra.app.demo.imap_store import DELIMITER, Folder
from tindra.wire.imap.lexer import Token, read_atom, read_bytes, read_list, read_number
from tindra.wire.imap.seqset import UID_MAX, compact_uids, encode_uid_set, has_uid, parse_uid_set
from tindra.wire.imap.utf7 import decode_mailbox, encode_mailbox

SYSTEM_FLAGS: Final = "\\Answered \\Flagged \\Deleted \\Seen \\Draft"
_QUOTED: Final = re.compile(r'["\\]')


def quote_text(text: str) -> str:
    """A quoted string. Source: RFC 9051 s9 (quoted)"""
    return '"' + _QUOTED.sub(r"\\\g<0>", text) + '"'


def encode_name(name: str) -> str:
    """A folder name for the wire, quoted."""
    return quote_text(encode_mailbox(name).decode("ascii"))


def read_name(token: Token) -> str:
    """A folder name from the wire; `NIL` is an ordinary name here."""
    return decode_mailbox(b"NIL" if token is None else read_bytes(token)).rstrip(DELIMITER)


def find_folder(session: Session, token: Token, *, code: str = "[NONEXISTENT] ") -> Folder:
    """The folder of that name. Raises: CommandRefused: none, or a phantom."""
    name = read_name(token)
    folder = session.server.store.find(name)
    if folder is None or name in session.faults.phantom_folders:
        raise CommandRefused(f"{code}No mailbox of that name")
    return folder


async def do_list(session: Session, arguments: Arguments) -> str:
    """LIST, basic and extended."""
    options: set[str] = set()
    if isinstance(arguments[0], list):
        options = {read_atom(token).upper() for token in read_list(arguments[0])}
        arguments = arguments[1:]
    reference, mask = arguments[0], arguments[1]
    masks = mask if isinstance(mask, list) else [mask]
    if masks == [b""]:
        session.send('* LIST (\\Noselect) "/" ""')
        return "OK The delimiter"
    returned = _read_returned(arguments[2:])
    if not session.faults.empty_list:
        prefix = decode_mailbox(read_bytes(reference))
        pattern = _compile_masks(prefix, masks)
        for folder in _matching(session, pattern):
            _list_folder(session, folder, options, returned)
    return "OK Listed"


async def do_lsub(session: Session, arguments: Arguments) -> str:
    """LSUB."""
    pattern = _compile_masks("", [arguments[1]])
    for folder in _matching(session, pattern):
        if folder.is_subscribed:
            session.send(f'* LSUB () "/" {encode_name(folder.name)}')
    return "OK Listed"


async def do_status(session: Session, arguments: Arguments) -> str:
    """STATUS."""
    folder = find_folder(session, arguments[0])
    items = [read_atom(token).upper() for token in read_list(arguments[1])]
    _send_status(session, folder, items)
    return "OK Counted"


async def do_get_quota_root(session: Session, arguments: Arguments) -> str:
    """GETQUOTAROOT: one root without a name for all folders. Source: RFC 9208 s4.1.2"""
    folder = find_folder(session, arguments[0])
    session.send(f'* QUOTAROOT {encode_name(folder.name)} ""')
    return await do_get_quota(session, [b""])


async def do_get_quota(session: Session, arguments: Arguments) -> str:
    """GETQUOTA. Source: RFC 9208 s4.1.1"""
    if read_bytes(arguments[0]):
        raise CommandRefused("No quota root of that name")
    store = session.server.store
    used = (store.count_octets() + 1023) // 1024
    session.send(f'* QUOTA "" (STORAGE {used} {store.storage_kib_max})')
    return "OK Counted"


async def do_select(session: Session, arguments: Arguments) -> str:
    """SELECT."""
    return _open(session, arguments, read_only=False)


async def do_examine(session: Session, arguments: Arguments) -> str:
    """EXAMINE."""
    return _open(session, arguments, read_only=True)


async def do_close(session: Session, _: Arguments) -> str:
    """CLOSE: removes what is marked, without a word."""
    folder = session.open_folder
    if not session.is_read_only:
        marked = [m.uid for m in folder.messages.values() if "\\Deleted" in m.flags]
        session.leave()
        folder.expunge(marked)
    session.leave()
    return "OK Closed"


async def do_unselect(session: Session, _: Arguments) -> str:
    """UNSELECT: closes and removes nothing."""
    session.leave()
    return "OK Closed"


async def do_create(session: Session, arguments: Arguments) -> str:
    """CREATE."""
    name = read_name(arguments[0])
    if not name:
        raise CommandRefused("[CANNOT] A mailbox needs a name")
    if session.server.store.find(name) is not None:
        raise CommandRefused("[ALREADYEXISTS] There is a mailbox of that name")
    session.server.store.create(name)
    return "OK Created"


async def do_delete(session: Session, arguments: Arguments) -> str:
    """DELETE."""
    folder = find_folder(session, arguments[0])
    if folder.name == "INBOX":
        raise CommandRefused("[CANNOT] INBOX stays")
    if session.folder is folder:
        session.leave()
    session.server.store.delete(folder)
    return "OK Deleted"


async def do_rename(session: Session, arguments: Arguments) -> str:
    """RENAME."""
    folder = find_folder(session, arguments[0])
    name = read_name(arguments[1])
    if not name or name.startswith(folder.name + DELIMITER):
        raise CommandRefused("[CANNOT] A mailbox cannot move into itself")
    if session.server.store.find(name) is not None:
        raise CommandRefused("[ALREADYEXISTS] There is a mailbox of that name")
    session.server.store.rename(folder, name)
    return "OK Renamed"


async def do_subscribe(session: Session, arguments: Arguments) -> str:
    """SUBSCRIBE."""
    find_folder(session, arguments[0]).is_subscribed = True
    return "OK Subscribed"


async def do_unsubscribe(session: Session, arguments: Arguments) -> str:
    """UNSUBSCRIBE."""
    find_folder(session, arguments[0]).is_subscribed = False
    return "OK Unsubscribed"


# --- LIST and STATUS ------------------------------------------------------------------------------
def _read_returned(rest: Arguments) -> dict[str, list[str]]:
    """`RETURN (SPECIAL-USE STATUS (MESSAGES))` as option -> its own list."""
    if not rest:
        return {}
    if read_atom(rest[0]).upper() != "RETURN":
        raise CommandMalformed("RETURN was expected")
    returned: dict[str, list[str]] = {}
    last = ""
    for token in read_list(rest[1]):
        if isinstance(token, list):
            returned[last] = [read_atom(item).upper() for item in token]
        else:
            last = read_atom(token).upper()
            returned[last] = []
    return returned


def _compile_masks(prefix: str, masks: Iterable[Token]) -> re.Pattern[str]:
    """`*` is anything, `%` anything within one level. Source: RFC 9051 s6.3.9"""
    alternatives = []
    for mask in masks:
        name = prefix + decode_mailbox(read_bytes(mask))
        pieces = (re.escape(piece) for piece in re.split(r"([*%]+)", name))
        text = "".join(pieces).replace(r"\*", "*")
        # runs of wildcards collapse, so that a hostile mask cannot make the match slow
        text = re.sub(r"[*%]*\*[*%]*", "\0", text)
        text = re.sub(r"%+", f"[^{DELIMITER}]*", text).replace("\0", ".*")
        alternatives.append(text)
    return re.compile("(?:" + "|".join(alternatives) + r")\Z", re.DOTALL)


def _matching(session: Session, pattern: re.Pattern[str]) -> list[Folder]:
    folders = session.server.store.folders.values()
    is_hidden = session.faults.hide_inbox
    found = [
        folder
        for folder in folders
        if pattern.match(folder.name) and not (is_hidden and folder.name == "INBOX")
    ]
    return sorted(found, key=lambda folder: (folder.name != "INBOX", folder.name))


def _list_folder(
    session: Session, folder: Folder, options: set[str], returned: dict[str, list[str]]
) -> None:
    has_role = bool(folder.special_use) and not session.faults.no_special_use
    if "SUBSCRIBED" in options and not folder.is_subscribed:
        return
    if "SPECIAL-USE" in options and not has_role:
        return
    start = folder.name + DELIMITER
    has_inner = any(name.startswith(start) for name in session.server.store.folders)
    attributes = ["\\HasChildren" if has_inner else "\\HasNoChildren"]
    if has_role:
        attributes.append(folder.special_use)
    if folder.is_subscribed and ("SUBSCRIBED" in options or "SUBSCRIBED" in returned):
        attributes.append("\\Subscribed")
    session.send(f'* LIST ({" ".join(attributes)}) "/" {encode_name(folder.name)}')
    if returned.get("STATUS") and folder.name not in session.faults.phantom_folders:
        _send_status(session, folder, returned["STATUS"])


def _send_status(session: Session, folder: Folder, items: Iterable[str]) -> None:
    faults = session.faults
    values: list[str] = []
    for item in items:
        if item == "UIDNEXT" and faults.forget_uidnext:
            continue
        if item == "HIGHESTMODSEQ":
            if faults.no_condstore:
                raise CommandMalformed("unknown STATUS item")
            session.knows_condstore = True
        values.append(f"{item} {_count(session, folder, item)}")
    if faults.garbled_status:
        session.send(f"* STATUS {encode_name(folder.name)} (MESSAGES")
        return
    session.send(f"* STATUS {encode_name(folder.name)} ({' '.join(values)})")


def _count(session: Session, folder: Folder, item: str) -> int:
    faults = session.faults
    if item == "MESSAGES":
        return max(0, len(folder.messages) + faults.status_count_off)
    if item == "UIDNEXT":
        return folder.uidnext
    if item == "UIDVALIDITY":
        return 0 if faults.zero_uidvalidity else folder.uidvalidity
    if item == "UNSEEN":
        return folder.count_unseen()
    if item == "RECENT":
        return 0
    if item == "HIGHESTMODSEQ":
        return max(1, folder.highestmodseq + faults.modseq_off)
    raise CommandMalformed(f"unknown STATUS item {item[:30]}")


# --- SELECT ---------------------------------------------------------------------------------------
def _open(session: Session, arguments: Arguments, *, read_only: bool) -> str:
    faults, had_one = session.faults, session.folder is not None
    session.leave()
    folder = find_folder(session, arguments[0])
    resync = _read_select_options(session, arguments[1:])
    if faults.renumber_on_select:
        session.server.store.renumber(folder)
    if had_one and session.knows_qresync:
        session.send("* OK [CLOSED] The former mailbox is closed")
    session.enter(folder, read_only=read_only)
    session.send(f"* FLAGS ({SYSTEM_FLAGS} $Forwarded $Junk)")
    kept = "" if read_only else f"{SYSTEM_FLAGS} $Forwarded $Junk \\*"
    session.send(f"* OK [PERMANENTFLAGS ({kept})] Flags that are kept")
    session.send(f"* {faults.exists_text or len(session.uids)} EXISTS")
    session.send("* 0 RECENT")
    session.send(f"* OK [UIDVALIDITY {_count(session, folder, 'UIDVALIDITY')}] Valid")
    if not faults.forget_uidnext:
        session.send(f"* OK [UIDNEXT {max(1, folder.uidnext + faults.uidnext_off)}] The next one")
    if not faults.no_condstore:
        session.send(f"* OK [HIGHESTMODSEQ {_count(session, folder, 'HIGHESTMODSEQ')}] Highest")
    if resync is not None:
        _resync(session, resync)
    return "OK [READ-ONLY] Opened" if read_only else "OK [READ-WRITE] Opened"


def _read_select_options(session: Session, rest: Arguments) -> list[Token] | None:
    """Take `(CONDSTORE)` or `(QRESYNC (...))`; the parameters of the latter."""
    if not rest:
        return None
    options = read_list(rest[0])
    names = [token.upper() for token in options if isinstance(token, str)]
    if session.faults.no_condstore and names:
        raise CommandMalformed("unknown SELECT option")
    session.knows_condstore |= "CONDSTORE" in names
    if "QRESYNC" not in names:
        return None
    if not session.knows_qresync:
        raise CommandMalformed("QRESYNC has not been enabled")
    return read_list(options[names.index("QRESYNC") + 1])


def _resync(session: Session, parameters: list[Token]) -> None:
    """Tell what happened since. Source: RFC 7162 s3.2.5"""
    folder = session.open_folder
    uidvalidity, modseq = read_number(parameters[0]), read_number(parameters[1])
    if uidvalidity != folder.uidvalidity or session.faults.zero_uidvalidity:
        return
    known = [(1, UID_MAX)]
    if len(parameters) > 2 and not isinstance(parameters[2], list):
        known = parse_uid_set(read_atom(parameters[2]), UID_MAX)
    send_vanished(session, [uid for uid in folder.list_expunged(modseq) if has_uid(known, uid)])
    for message in folder.messages.values():
        if message.modseq > modseq and has_uid(known, message.uid):
            session.send(session.flags_line(message))


def send_vanished(session: Session, uids: list[int]) -> None:
    """VANISHED (EARLIER), if there is anything to say."""
    if uids:
        text = "1:" if session.faults.malformed_vanished else encode_uid_set(compact_uids(uids))
        session.send(f"* VANISHED (EARLIER) {text}")


COMMANDS: Final[Registry] = {
    "LIST": ("user", do_list),
    "LSUB": ("user", do_lsub),
    "STATUS": ("user", do_status),
    "SELECT": ("user", do_select),
    "EXAMINE": ("user", do_examine),
    "CLOSE": ("folder", do_close),
    "UNSELECT": ("folder", do_unselect),
    "GETQUOTAROOT": ("user", do_get_quota_root),
    "GETQUOTA": ("user", do_get_quota),
    "CREATE": ("user", do_create),
    "DELETE": ("user", do_delete),
    "RENAME": ("user", do_rename),
    "SUBSCRIBE": ("user", do_subscribe),
    "UNSUBSCRIBE": ("user", do_unsubscribe),
}
