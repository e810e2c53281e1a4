"""SEARCH: the criteria as a tree of tests, and both forms of the answer.

Text is searched in the raw message and in its decoded text, without regard to letter case; linear,
no index. Sources: RFC 9051 s6.4.4, RFC 4731 s3, RFC 7162 s3.1.5.
"""

from __future__ import annotations

import email
import email.utils
from collections.abc import Callable
from datetime import UTC, datetime
from email.header import decode_header, make_header
from typing import Final, TypeAlias

import msgspec

from tindra.app.demo.imap_session import (
    Arguments,
    CommandMalformed,
    Registry,
    Session,
)
from tindra.app.demo.imap_store import StoredMessage
from tindra.app.demo.imap_structure import find_body, read_fields
from tindra.wire.imap.lexer import Token, read_atom, read_bytes, read_list, read_number
from tindra.wire.imap.response import parse_internal_date
from tindra.wire.imap.seqset import compact_uids, encode_uid_set

Test: TypeAlias = Callable[[StoredMessage], bool]

KEYS_MAX: Final = 200
"""Criteria of one command."""
_DAY_MS: Final = 24 * 3600 * 1000
_FLAG_KEYS: Final = {
    "ANSWERED": "\\Answered",
    "DELETED": "\\Deleted",
    "DRAFT": "\\Draft",
    "FLAGGED": "\\Flagged",
    "SEEN": "\\Seen",
}
_HEADER_KEYS: Final = frozenset({"FROM", "TO", "CC", "BCC", "SUBJECT"})
_SYNTAX: Final = frozenset("0123456789*")


class _Result(msgspec.Struct):
    uids: list[int]
    modseq: int | None


async def do_search(session: Session, arguments: Arguments) -> str:
    """SEARCH."""
    return _search(session, arguments, by_uid=False)


async def do_uid_search(session: Session, arguments: Arguments) -> str:
    """UID SEARCH."""
    return _search(session, arguments, by_uid=True)


def _search(session: Session, arguments: Arguments, *, by_uid: bool) -> str:
    rest = list(arguments)
    returned: list[str] | None = None
    if rest and _word(rest[0]) == "RETURN":
        if session.faults.no_esearch:
            raise CommandMalformed("unknown SEARCH key RETURN")
        returned = [read_atom(token).upper() for token in read_list(rest[1])] or ["ALL"]
        rest = rest[2:]
    if rest and _word(rest[0]) == "CHARSET":
        if _word(rest[1]) not in ("UTF-8", "US-ASCII"):
            return "NO [BADCHARSET (UTF-8 US-ASCII)] Unknown charset"
        rest = rest[2:]
    if session.faults.simple_search_only and any(isinstance(token, list) for token in rest):
        raise CommandMalformed("parentheses are not understood here")
    reader = _CriteriaReader(session, rest)
    test = reader.read_all()
    folder = session.open_folder
    found = []
    for uid in session.uids:
        message = folder.messages.get(uid)
        if message is not None and test(message):
            found.append(message)
    highest = max((message.modseq for message in found), default=0)
    result = _Result([message.uid for message in found], highest if reader.has_modseq else None)
    _answer(session, result, returned, by_uid=by_uid)
    return "OK Searched"


def _answer(session: Session, result: _Result, returned: list[str] | None, *, by_uid: bool) -> None:
    uids, modseq = result.uids, result.modseq
    numbers = uids if by_uid else [session.position(uid) for uid in uids]
    if returned is None:
        tail = f" (MODSEQ {modseq})" if modseq and numbers else ""
        session.send(f"* SEARCH {' '.join(map(str, numbers))}".rstrip() + tail)
        return
    items = [f'* ESEARCH (TAG "{session.tag}")' + (" UID" if by_uid else "")]
    if numbers and "MIN" in returned:
        items.append(f"MIN {numbers[0]}")
    if numbers and "MAX" in returned:
        items.append(f"MAX {numbers[-1]}")
    if numbers and "ALL" in returned:
        items.append(f"ALL {encode_uid_set(compact_uids(numbers))}")
    if "COUNT" in returned:
        items.append(f"COUNT {len(numbers)}")
    if modseq and numbers:
        items.append(f"MODSEQ {modseq}")
    session.send(" ".join(items))


class _CriteriaReader:
    """Reads search keys from tokens."""

    def __init__(self, session: Session, tokens: Arguments) -> None:
        self._session = session
        self._tokens = tokens
        self._place = 0
        self._keys = 0
        self.has_modseq = False

    def read_all(self) -> Test:
        """All keys that are left must hold."""
        tests = []
        while self._place < len(self._tokens):
            tests.append(self._read_key())
        if not tests:
            raise CommandMalformed("SEARCH needs a criterion")
        return _all_of(tests)

    def _take(self) -> Token:
        if self._place >= len(self._tokens):
            raise CommandMalformed("a search key lacks its argument")
        self._place += 1
        return self._tokens[self._place - 1]

    def _take_text(self) -> str:
        return read_bytes(self._take()).decode("utf-8", "replace").casefold()

    def _read_key(self) -> Test:
        self._keys += 1
        if self._keys > KEYS_MAX:
            raise CommandMalformed("too many search keys")
        token = self._take()
        if isinstance(token, list):
            inner = _CriteriaReader(self._session, token)
            inner._keys = self._keys
            test = inner.read_all()
            self._keys = inner._keys
            self.has_modseq |= inner.has_modseq
            return test
        key = read_atom(token).upper()
        if key[:1] in _SYNTAX:
            return _one_of(self._session.pick(token, by_uid=False))
        return self._read_flag_key(key) or self._read_date_key(key) or self._read_other_key(key)

    def _read_flag_key(self, key: str) -> Test | None:
        if key in _FLAG_KEYS:
            return _has_flag(_FLAG_KEYS[key])
        if key.startswith("UN") and key[2:] in _FLAG_KEYS:
            return _negate(_has_flag(_FLAG_KEYS[key[2:]]))
        if key in ("KEYWORD", "UNKEYWORD"):
            test = _has_flag(read_atom(self._take()))
            return test if key == "KEYWORD" else _negate(test)
        if key in ("ALL", "OLD"):
            return lambda _: True
        if key in ("NEW", "RECENT"):
            return lambda _: False
        return None

    def _read_date_key(self, key: str) -> Test | None:
        kind = key.removeprefix("SENT")
        if kind not in ("SINCE", "BEFORE", "ON"):
            return None
        day = _read_day(self._take())
        moment = _sent_day if key.startswith("SENT") else _stored_day
        if kind == "SINCE":
            return lambda message: moment(message) >= day
        if kind == "BEFORE":
            return lambda message: moment(message) < day
        return lambda message: moment(message) == day

    def _read_other_key(self, key: str) -> Test:
        if key == "NOT":
            return _negate(self._read_key())
        if key == "OR":
            first, second = self._read_key(), self._read_key()
            return lambda message: first(message) or second(message)
        if key == "UID":
            return _one_of(self._session.pick(self._take(), by_uid=True))
        if key in _HEADER_KEYS:
            return _header_has(key.lower().encode(), self._take_text())
        if key == "HEADER":
            return _header_has(read_bytes(self._take()).lower(), self._take_text())
        if key in ("BODY", "TEXT"):
            return _text_has(self._take_text(), with_header=key == "TEXT")
        if key in ("LARGER", "SMALLER"):
            size = read_number(self._take())
            if key == "LARGER":
                return lambda message: len(message.raw) > size
            return lambda message: len(message.raw) < size
        if key == "MODSEQ" and not self._session.faults.no_condstore:
            value = self._take()
            if isinstance(value, bytes):  # an entry name and its type stand in front
                self._take()
                value = self._take()
            least = read_number(value)
            self.has_modseq = self._session.knows_condstore = True
            return lambda message: message.modseq >= least
        raise CommandMalformed(f"unknown SEARCH key {key[:30]}")


def _word(token: Token) -> str:
    return token.upper() if isinstance(token, str) else ""


def _all_of(tests: list[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]
    return lambda message: all(test(message) for test in tests)


def _negate(test: Test) -> Test:
    return lambda message: not test(message)


def _one_of(uids: list[int]) -> Test:
    chosen = set(uids)
    return lambda message: message.uid in chosen


def _has_flag(flag: str) -> Test:
    return lambda message: flag in message.flags


def _header_has(name: bytes, wanted: str) -> Test:
    def test(message: StoredMessage) -> bool:
        fields = read_fields(message.raw[: find_body(message.raw, 0, len(message.raw))])
        value = fields.get(name)
        return value is not None and wanted in _decode_header(value).casefold()

    return test


def _text_has(wanted: str, *, with_header: bool) -> Test:
    def test(message: StoredMessage) -> bool:
        raw = message.raw
        body = find_body(raw, 0, len(raw))
        if with_header:
            head = raw[:body].decode("utf-8", "replace")
            values = read_fields(raw[:body]).values()
            if wanted in head.casefold() or any(
                wanted in _decode_header(value).casefold() for value in values
            ):
                return True
        return wanted in _decode_body(raw).casefold()

    return test


def _decode_header(value: bytes) -> str:
    text = value.decode("utf-8", "replace")
    try:
        return str(make_header(decode_header(text)))
    except (ValueError, LookupError):  # unknown charset, broken encoded word
        return text


def _decode_body(raw: bytes) -> str:
    texts = []
    for part in email.message_from_bytes(raw).walk():
        octets = part.get_payload(decode=True)
        if part.get_content_maintype() != "text" or not isinstance(octets, bytes):
            continue
        try:
            texts.append(octets.decode(part.get_content_charset("utf-8"), "replace"))
        except LookupError:
            texts.append(octets.decode("utf-8", "replace"))
    return "\n".join(texts)


def _read_day(token: Token) -> int:
    """A date as days since 1970."""
    moment = parse_internal_date(read_bytes(token).strip() + b" 00:00:00 +0000")
    if moment is None:
        raise CommandMalformed("no date")
    return moment // _DAY_MS


def _stored_day(message: StoredMessage) -> int:
    return message.date_ms // _DAY_MS


def _sent_day(message: StoredMessage) -> int:
    fields = read_fields(message.raw[: find_body(message.raw, 0, len(message.raw))])
    try:
        sent = email.utils.parsedate_to_datetime(fields.get(b"date", b"").decode("latin-1"))
    except (ValueError, TypeError):
        return _stored_day(message)
    # the date as written, zone disregarded. Source: RFC 9051 s6.4.4
    written = datetime(sent.year, sent.month, sent.day, tzinfo=UTC)
    return int(written.timestamp() * 1000) // _DAY_MS


COMMANDS: Final[Registry] = {
    "SEARCH": ("folder", do_search),
    "UID SEARCH": ("folder", do_uid_search),
}
