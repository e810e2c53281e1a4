"""FETCH: its data items, and sending them fast enough never to be the slow end of a sync.

Items are compiled once a command into functions from message to octets; bodies go out as they are
stored. Sources: RFC 9051 s6.4.5, s7.5.2; RFC 7162 s3.1.4, s3.2.6.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias

from tindra.app.demo.faults import POISON_WORDS
from tindra.app.demo.imap_folders import send_vanished
from tindra.app.demo.imap_session import (
    Arguments,
    CommandMalformed,
    CommandRefused,
    Registry,
    Session,
)
from tindra.app.demo.imap_store import StoredMessage
from tindra.app.demo.imap_structure import (
    find_body,
    find_section,
    parse_entity,
    read_fields,
    render_envelope,
    render_structure,
    select_fields,
)
from tindra.wire.imap.command import encode_date_time
from tindra.wire.imap.lexer import Token, read_atom, read_list, read_number
from tindra.wire.imap.seqset import UID_MAX, has_uid, parse_uid_set

Item: TypeAlias = Callable[[StoredMessage], bytes]
"""A data item with its name, rendered."""

_MACROS: Final = {
    "ALL": ["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"],
    "FAST": ["FLAGS", "INTERNALDATE", "RFC822.SIZE"],
    "FULL": ["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"],
}
_SECTION: Final = re.compile(
    r"BODY(?P<peek>\.PEEK)?\[(?P<path>[0-9]+(?:\.[0-9]+)*)?\.?(?P<what>[A-Z.]*)"
    r"(?: \((?P<fields>[^()]*)\))?\](?:<(?P<start>[0-9]{1,10})(?:\.(?P<size>[0-9]{1,10}))?>)?",
    re.IGNORECASE,
)
_OLD_NAMES: Final = {
    "RFC822": "BODY[]",
    "RFC822.HEADER": "BODY.PEEK[HEADER]",
    "RFC822.TEXT": "BODY[TEXT]",
}
_WHATS: Final = frozenset({"", "HEADER", "TEXT", "MIME", "HEADER.FIELDS", "HEADER.FIELDS.NOT"})


async def do_fetch(session: Session, arguments: Arguments) -> str:
    """FETCH."""
    return await _fetch(session, arguments, by_uid=False)


async def do_uid_fetch(session: Session, arguments: Arguments) -> str:
    """UID FETCH."""
    return await _fetch(session, arguments, by_uid=True)


async def _fetch(session: Session, arguments: Arguments, *, by_uid: bool) -> str:
    uids = session.pick(arguments[0], by_uid=by_uid)
    changed_since, wants_vanished = _read_modifiers(session, arguments[2:])
    names = _read_names(arguments[1])
    if by_uid and "UID" not in names:
        names.insert(0, "UID")
    is_unasked = changed_since is not None and "MODSEQ" not in names
    if is_unasked and not session.faults.fetch_without_modseq:
        names.append("MODSEQ")
    fetcher = _Fetcher(session, names)
    folder = session.open_folder
    if wants_vanished and changed_since is not None:
        asked = parse_uid_set(read_atom(arguments[0]), UID_MAX)
        gone = [uid for uid in folder.list_expunged(changed_since) if has_uid(asked, uid)]
        send_vanished(session, gone)
    if session.faults.fetch_shuffled:
        uids.sort(key=lambda uid: uid * 7919 % 10_007)
    for uid in uids:
        message = folder.messages.get(uid)
        if message is None or (changed_since is not None and message.modseq <= changed_since):
            continue
        fetcher.send(message)
        await session.push_some()
        if session.folder is not folder:
            break
    return "OK Fetched"


class _Fetcher:
    """One FETCH command at work."""

    def __init__(self, session: Session, names: list[str]) -> None:
        self._session = session
        self._marks_seen = False
        self._faults = session.faults
        self._items = [item for name in names if (item := self._compile(name)) is not None]

    def send(self, message: StoredMessage) -> None:
        session, faults = self._session, self._faults
        position = session.position(message.uid)
        if not position:
            return
        if faults.unfetchable_newest and message.uid == session.open_folder.uidnext - 1:
            return
        if faults.huge_line_octets is not None:
            session.send("* OK [NOTE " + "x" * faults.huge_line_octets + "]")
        if faults.unsolicited_fetch:
            session.send(f"* {len(session.uids)} FETCH (FLAGS (\\Seen))")
        is_news = self._marks_seen and "\\Seen" not in message.flags
        if is_news:
            session.open_folder.set_flags(message.uid, message.flags | {"\\Seen"}, session)
        values = [item(message) for item in self._items]
        if is_news:
            values.append(b"FLAGS (%s)" % " ".join(sorted(message.flags)).encode("latin-1"))
        line = b"* %d FETCH (%s)" % (position, b" ".join(values))
        if faults.poison and POISON_WORDS in message.raw and b"}\r\n" in line:
            self._poison(line)
        limit = faults.drop_in_literal_at
        if limit is not None and b"}\r\n" in line and faults.take_drop():
            session.push()
            session.connection.write(line[: line.index(b"}\r\n") + 3 + limit])
            session.connection.close_abruptly()
        session.send(line)

    def _poison(self, line: bytes) -> None:
        session, kind = self._session, self._faults.poison
        if kind == "refused":
            raise CommandRefused("This message is damaged")
        session.push()
        if kind == "garbage":
            session.connection.write(b"\x00\x01 this is no answer\r\n")
        elif kind == "endless":
            head = line[: line.index(b"}\r\n")].rpartition(b"{")[0]
            session.connection.write(head + b"{%d}\r\n" % 2**63)
        session.connection.close_abruptly()

    def _compile(self, name: str) -> Item | None:
        faults, session = self._faults, self._session
        simple = _SIMPLE.get(name)
        if name == "FLAGS" and faults.fetch_without_flags:
            return None
        if name == "INTERNALDATE":
            return None if faults.fetch_without_date else _item_date(faults.one_digit_day)
        if name == "MODSEQ":
            if faults.no_condstore:
                raise CommandMalformed("unknown FETCH item MODSEQ")
            session.knows_condstore = True
        if simple is not None:
            return simple
        match = _SECTION.fullmatch(_OLD_NAMES.get(name, name))
        if match is None or match["what"].upper() not in _WHATS:
            raise CommandMalformed(f"unknown FETCH item {name[:40]}")
        self._marks_seen |= not match["peek"] and not session.is_read_only
        label = name if name in _OLD_NAMES else _section_label(match)
        return _item_section(label.encode("latin-1"), match)


def _read_names(token: Token) -> list[str]:
    if isinstance(token, list):
        names = [read_atom(item) for item in token]
    else:
        word = read_atom(token)
        names = list(_MACROS.get(word.upper(), [word]))
    # only names of header fields may keep their letter case, and need not
    return [name.upper() for name in names]


def _read_modifiers(session: Session, rest: Arguments) -> tuple[int | None, bool]:
    """(CHANGEDSINCE, whether VANISHED is wanted)."""
    if not rest:
        return None, False
    tokens = read_list(rest[0])
    words = [token.upper() if isinstance(token, str) else "" for token in tokens]
    if session.faults.no_condstore or "CHANGEDSINCE" not in words:
        raise CommandMalformed("unknown FETCH modifier")
    session.knows_condstore = True
    changed_since = read_number(tokens[words.index("CHANGEDSINCE") + 1])
    wants_vanished = "VANISHED" in words
    if wants_vanished and not session.knows_qresync:
        raise CommandMalformed("VANISHED needs QRESYNC to be enabled")
    return changed_since, wants_vanished


def _item_uid(message: StoredMessage) -> bytes:
    return b"UID %d" % message.uid


def _item_flags(message: StoredMessage) -> bytes:
    return b"FLAGS (%s)" % " ".join(sorted(message.flags)).encode("latin-1")


def _item_size(message: StoredMessage) -> bytes:
    return b"RFC822.SIZE %d" % len(message.raw)


def _item_modseq(message: StoredMessage) -> bytes:
    return b"MODSEQ (%d)" % message.modseq


def _item_envelope(message: StoredMessage) -> bytes:
    if message.envelope is None:
        end = find_body(message.raw, 0, len(message.raw))
        message.envelope = b"ENVELOPE " + render_envelope(read_fields(message.raw[:end]))
    return message.envelope


def _item_structure(message: StoredMessage) -> bytes:
    if message.structure is None:
        entity = parse_entity(message.raw)
        message.structure = render_structure(message.raw, entity, extended=True)
    return b"BODYSTRUCTURE " + message.structure


def _item_plain_structure(message: StoredMessage) -> bytes:
    if message.plain_structure is None:
        entity = parse_entity(message.raw)
        message.plain_structure = render_structure(message.raw, entity, extended=False)
    return b"BODY " + message.plain_structure


_SIMPLE: Final[dict[str, Item]] = {
    "UID": _item_uid,
    "FLAGS": _item_flags,
    "RFC822.SIZE": _item_size,
    "MODSEQ": _item_modseq,
    "ENVELOPE": _item_envelope,
    "BODYSTRUCTURE": _item_structure,
    "BODY": _item_plain_structure,
}


def _item_date(one_digit_day: bool) -> Item:
    def render(message: StoredMessage) -> bytes:
        text = encode_date_time(message.date_ms)
        if one_digit_day and text.startswith(b'"0'):
            text = b'"' + text[2:]
        return b"INTERNALDATE " + text

    return render


def _section_label(match: re.Match[str]) -> str:
    """How the item is named in the answer: without PEEK, with the origin octet only."""
    whole = match[0].replace(match["peek"], "", 1) if match["peek"] else match[0]
    if match["start"] is not None:
        whole = whole[: whole.rindex("<")] + f"<{match['start']}>"
    return whole


def _item_section(label: bytes, match: re.Match[str]) -> Item:
    path = [int(number) for number in match["path"].split(".")] if match["path"] else []
    what = match["what"].upper()
    names = frozenset((match["fields"] or "").lower().encode("latin-1").split())
    start = int(match["start"]) if match["start"] is not None else None
    size = int(match["size"]) if match["size"] is not None else UID_MAX

    def render(message: StoredMessage) -> bytes:
        octets = _read_section(message.raw, path, what, names)
        if octets is None:
            return label + b" NIL"
        if start is not None:
            octets = octets[start : start + size]
        return b"%s {%d}\r\n%s" % (label, len(octets), octets)

    return render


def _read_section(raw: bytes, path: list[int], what: str, names: frozenset[bytes]) -> bytes | None:
    if not path and not what:
        return raw
    if what.startswith("HEADER.FIELDS"):
        head = find_section(raw, path, "HEADER") if path else raw[: find_body(raw, 0, len(raw))]
        is_not = what.endswith(".NOT")
        return None if head is None else select_fields(head, names, others=is_not)
    if not path:
        body = find_body(raw, 0, len(raw))
        return raw[body:] if what == "TEXT" else raw[:body]
    return find_section(raw, path, what)


COMMANDS: Final[Registry] = {
    "FETCH": ("folder", do_fetch),
    "UID FETCH": ("folder", do_uid_fetch),
}
