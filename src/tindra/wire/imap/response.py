"""Typed readers: one logical line of a server becomes one `Response`; no state, no connection.

Readers are tolerant where servers are known to be odd and strict where a guess could destroy data.
An untagged line whose *meaning* cannot be read becomes `Malformed`, with its keyword, so that one
odd line does not stop an account, and yet nobody takes it for "nothing happened"; keywords we do
not use become `Other`. Missing or unasked FETCH items are normal. Only a line that is neither
tagged, untagged nor a go-ahead raises.

Invariants: any `Line` gives a `Response` or `RemoteProtocolError`; cost linear; sets stay ranges.

Sources: RFC 9051 s7, RFC 7162 s3, RFC 4731 s3, RFC 4315 s3, RFC 2971 s3.2, RFC 9208 s4.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Final, Literal, TypeAlias

import msgspec

from tindra.wire.imap.errors import RemoteProtocolError
from tindra.wire.imap.lexer import (
    Line,
    Token,
    parse_text_tokens,
    parse_tokens,
    read_atom,
    read_bytes,
    read_list,
    read_number,
)
from tindra.wire.imap.seqset import UidRange, expand_uids, parse_uid_list, parse_uid_set

StatusKind = Literal["OK", "NO", "BAD", "BYE", "PREAUTH"]

HUMAN_TEXT_CHARS_MAX: Final = 500
"""What is kept of a server's human text: enough for every known error, no flood for a log."""

_KINDS: Final[dict[str, StatusKind]] = {
    "OK": "OK",
    "NO": "NO",
    "BAD": "BAD",
    "BYE": "BYE",
    "PREAUTH": "PREAUTH",
}
_STATUS: Final = re.compile(r"([^ ]++) (OK|NO|BAD|BYE|PREAUTH)(?: (.*))?", re.I | re.S)
_CODE: Final = re.compile(
    r'\s*\[([A-Za-z0-9._/\-]+)(?: ((?:[^\]"]|"(?:[^"\\]|\\.)*+")*+))?\]\s*', re.S
)
_NUMBERED: Final = re.compile(r"\* ([0-9]{1,10}) ([A-Za-z]+)\s*")
_NAMED: Final = re.compile(r"\* ([A-Za-z0-9._\-]+)\s*(.*)", re.S)
_SEARCH: Final = re.compile(
    r"((?: *[0-9]{1,10}(?![0-9]))*+) *(?:\(MODSEQ ([0-9]{1,19})\))? *", re.I
)
_VANISHED: Final = re.compile(r"(\(EARLIER\) )? *([0-9:,]+) *", re.I)
_INTERNAL_DATE: Final = re.compile(
    rb" *([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4}) +([0-9]{1,2}):([0-9]{2}):([0-9]{2})"
    rb"(?: +([+-])([0-9]{2})([0-9]{2}))?"
)
_MONTHS: Final = {
    name: number
    for number, name in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)
}
_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
_SYSTEM_FLAGS: Final = {
    name.lower(): name
    for name in ("\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft", "\\Recent")
}
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]+")


class Code(msgspec.Struct, frozen=True):
    """A response code: `[UIDVALIDITY 3857529045]` is name UIDVALIDITY, arguments ['3857529045']."""

    name: str
    """Upper case."""
    arguments: list[Token] = []

    @property
    def number(self) -> int | None:
        """The first argument when it is a number."""
        try:
            return read_number(self.arguments[0]) if self.arguments else None
        except RemoteProtocolError:
            return None


class Status(msgspec.Struct, frozen=True):
    """OK, NO, BAD, BYE or PREAUTH; `tag` None when untagged. `text` is for people."""

    tag: str | None
    kind: StatusKind
    code: Code | None
    text: str


class GoAhead(msgspec.Struct, frozen=True):
    """A continuation request (`+ ...`); `text` is base64 during AUTHENTICATE."""

    text: str


class Capability(msgspec.Struct, frozen=True):
    """What the server can do, upper case."""

    names: frozenset[str]


class Enabled(msgspec.Struct, frozen=True):
    """What ENABLE turned on, upper case."""

    names: frozenset[str]


class ListItem(msgspec.Struct, frozen=True):
    r"""One mailbox of LIST. Attributes in lower case with their backslash (`\noselect`)."""

    attributes: frozenset[str]
    delimiter: str | None
    raw_name: bytes


class MailboxStatus(msgspec.Struct, frozen=True):
    """The answer to STATUS: the numbers that could be read, by upper-case item."""

    raw_name: bytes
    items: dict[str, int]


class QuotaRoots(msgspec.Struct, frozen=True):
    """The names of the quota roots of a mailbox; one may be empty. Source: RFC 9208 s4.2.2"""

    raw_name: bytes
    roots: list[bytes]


class Quota(msgspec.Struct, frozen=True):
    """What a quota root holds: upper-case resource -> (used, limit). Source: RFC 9208 s4.2.1"""

    root: bytes
    resources: dict[str, tuple[int, int]]


class Fetch(msgspec.Struct, frozen=True):
    """What one FETCH answer told of one message; None: it was silent on that."""

    seq: int
    uid: int | None = None
    flags: frozenset[str] | None = None
    internal_date_ms: int | None = None
    size: int | None = None
    modseq: int | None = None
    body: bytes | None = None
    """BODY[] or BODY[]<n>; NIL and the empty string are b""."""
    sections: dict[str, bytes] = {}
    """Other BODY[...] items by upper-case section name, such as `HEADER`."""


class Flags(msgspec.Struct, frozen=True):
    """The flags in use in the selected mailbox."""

    flags: frozenset[str]


class Exists(msgspec.Struct, frozen=True):
    """How many messages the selected mailbox has now."""

    count: int


class Expunge(msgspec.Struct, frozen=True):
    """A message number is gone, and all above it move down by one."""

    seq: int


class Vanished(msgspec.Struct, frozen=True):
    """UIDs that are gone; `is_earlier`: told of the past, not of this moment."""

    ranges: list[UidRange]
    is_earlier: bool


class Search(msgspec.Struct, frozen=True):
    """Numbers or UIDs found, in the server's order."""

    found: list[int]
    modseq: int | None


class ESearch(msgspec.Struct, frozen=True):
    """The compact answer; None: the server was silent on that."""

    tag: str | None
    is_uid: bool
    ranges: list[UidRange] | None
    count: int | None
    modseq: int | None


class ServerId(msgspec.Struct, frozen=True):
    """Who the server says it is; keys in lower case."""

    fields: dict[str, str]


class Malformed(msgspec.Struct, frozen=True):
    """A known untagged response that could not be read; act as if anything may have changed."""

    keyword: str
    why: str


class Other(msgspec.Struct, frozen=True):
    """An untagged response that we have no use for."""

    keyword: str


Untagged: TypeAlias = (
    Capability
    | Enabled
    | ListItem
    | MailboxStatus
    | QuotaRoots
    | Quota
    | Fetch
    | Flags
    | Exists
    | Expunge
    | Vanished
    | Search
    | ESearch
    | ServerId
    | Malformed
    | Other
)
Response: TypeAlias = Untagged | Status | GoAhead


def parse_response(line: Line) -> Response:
    """What a server's line says. Raises: RemoteProtocolError: it is no response at all."""
    text = line.text
    if text.startswith("+"):
        return GoAhead(text[1:].strip())
    if (numbered := _NUMBERED.match(text)) is not None:
        return _guard(numbered[2].upper(), line, int(numbered[1]))
    if (status := _STATUS.fullmatch(text)) is not None:
        return _read_status(status)
    if text.startswith("* ") and (named := _NAMED.fullmatch(text)) is not None:
        return _guard(named[1].upper(), line, 0)
    raise RemoteProtocolError(f"no IMAP response: {text[:60]!r}")


def _guard(keyword: str, line: Line, number: int) -> Untagged:
    try:
        return _read_untagged(keyword, line, number)
    except RemoteProtocolError as error:
        return Malformed(keyword, str(error))


def _read_untagged(keyword: str, line: Line, number: int) -> Untagged:
    if keyword == "FETCH":
        return _read_fetch(number, parse_tokens(line))
    if keyword == "EXISTS":
        return Exists(number)
    if keyword == "EXPUNGE":
        return Expunge(number)
    if (reader := _READERS.get(keyword)) is not None:
        return reader(line)
    return Other(keyword)


def _rest(line: Line) -> str:
    """The text of an untagged line after its keyword."""
    named = _NAMED.fullmatch(line.text)
    assert named is not None
    return named[2]


def _read_status(match: re.Match[str]) -> Status:
    tag = match[1]
    rest = match[3] or ""
    code = None
    if (found := _CODE.match(rest)) is not None:
        code = _read_code(found[1].upper(), found[2] or "")
        rest = rest[found.end() :]
    return Status(None if tag == "*" else tag, _KINDS[match[2].upper()], code, clean_text(rest))


def _read_code(name: str, arguments: str) -> Code:
    try:
        return Code(name, parse_text_tokens(arguments))
    except RemoteProtocolError:
        return Code(name)


def clean_text(text: str) -> str:
    """A server's human text (latin-1 octets) as one bounded line of Unicode."""
    octets = text[: 4 * HUMAN_TEXT_CHARS_MAX].encode("latin-1", "replace")
    decoded = _CONTROL.sub(" ", octets.decode("utf-8", "replace")).strip()
    return decoded[:HUMAN_TEXT_CHARS_MAX]


def _read_fetch(seq: int, tokens: list[Token]) -> Fetch:
    items = read_list(tokens[3]) if len(tokens) > 3 else []
    uid = size = modseq = internal_date_ms = None
    flags: frozenset[str] | None = None
    body: bytes | None = None
    sections: dict[str, bytes] = {}
    for index in range(0, len(items) - 1, 2):
        key, value = read_atom(items[index]).upper(), items[index + 1]
        if key == "UID":
            uid = read_number(value)
        elif key == "FLAGS":
            flags = read_flags(value)
        elif key == "MODSEQ":
            modseq = read_number(value[0] if isinstance(value, list) and value else value)
        elif key == "RFC822.SIZE":
            size = read_number(value)
        elif key == "INTERNALDATE":
            internal_date_ms = parse_internal_date(value) if isinstance(value, bytes) else None
        elif key in ("BODY[]", "RFC822") or key.startswith("BODY[]<"):
            body = b"" if value is None else read_bytes(value)
        elif key.startswith("BODY["):
            sections[key[5:].rpartition("]")[0]] = b"" if value is None else read_bytes(value)
    return Fetch(
        seq=seq,
        uid=uid,
        flags=flags,
        internal_date_ms=internal_date_ms,
        size=size,
        modseq=modseq,
        body=body,
        sections=sections,
    )


def read_flags(token: Token) -> frozenset[str]:
    r"""A flag list; system flags in their usual case (`\Seen`), keywords as the server writes them.

    Members that are no flag are left out. Raises: RemoteProtocolError: not a list.
    """
    members = (member for member in read_list(token) if isinstance(member, str))
    return frozenset(_SYSTEM_FLAGS.get(flag.lower(), flag) for flag in members)


def parse_internal_date(octets: bytes) -> int | None:
    """UTC milliseconds of an INTERNALDATE, or None when it is no date.

    A day of one digit and a missing zone (taken as UTC) are accepted.
    Source: RFC 9051 s9 (date-time)
    """
    match = _INTERNAL_DATE.fullmatch(octets)
    month = _MONTHS.get(match[2].lower()) if match is not None else None
    if match is None or month is None:
        return None
    try:
        days = date(int(match[3]), month, int(match[1])).toordinal() - _EPOCH_ORDINAL
    except ValueError:
        return None
    hour, minute, second = int(match[4]), int(match[5]), int(match[6])
    if hour > 23 or minute > 59 or second > 60:
        return None
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second
    if match[7]:
        offset = int(match[8]) * 3600 + int(match[9]) * 60
        seconds += offset if match[7] == b"-" else -offset
    return seconds * 1000


def _read_capability(line: Line) -> Capability:
    return Capability(read_names(_rest(line).split()))


def read_names(words: list[str]) -> frozenset[str]:
    """Capability names, upper case."""
    return frozenset(word.upper() for word in words)


def read_code_names(code: Code) -> frozenset[str]:
    """The words of a code such as `[CAPABILITY IMAP4rev1 IDLE]`, upper case."""
    return read_names([word for word in code.arguments if isinstance(word, str)])


def read_code_flags(code: Code) -> frozenset[str]:
    """The flags of `[PERMANENTFLAGS (...)]`; empty when there is no list."""
    found = next((word for word in code.arguments if isinstance(word, list)), None)
    return read_flags(found)


def _read_enabled(line: Line) -> Enabled:
    return Enabled(read_names(_rest(line).split()))


def _read_list_item(line: Line) -> ListItem:
    tokens = parse_tokens(line)
    if len(tokens) < 5:
        raise RemoteProtocolError("a LIST answer without a name")
    attributes = frozenset(
        member.lower() for member in read_list(tokens[2]) if isinstance(member, str)
    )
    delimiter = None if tokens[3] is None else read_bytes(tokens[3]).decode("utf-8", "replace")
    if delimiter is not None and len(delimiter) != 1:
        delimiter = None
    raw_name = b"NIL" if tokens[4] is None else read_bytes(tokens[4])
    return ListItem(attributes, delimiter, raw_name)


def _read_mailbox_status(line: Line) -> MailboxStatus:
    tokens = parse_tokens(line)
    if len(tokens) < 4:
        raise RemoteProtocolError("a STATUS answer without its list")
    pairs = read_list(tokens[3])
    items: dict[str, int] = {}
    for index in range(0, len(pairs) - 1, 2):
        key, value = pairs[index], pairs[index + 1]
        if isinstance(key, str) and isinstance(value, str):
            items[key.upper()] = read_number(value)
    raw_name = b"NIL" if tokens[2] is None else read_bytes(tokens[2])
    return MailboxStatus(raw_name, items)


def _read_quota_roots(line: Line) -> QuotaRoots:
    names = [b"NIL" if token is None else read_bytes(token) for token in parse_tokens(line)[2:]]
    if not names:
        raise RemoteProtocolError("a QUOTAROOT answer without a mailbox")
    return QuotaRoots(names[0], names[1:])


def _read_quota(line: Line) -> Quota:
    tokens = parse_tokens(line)
    if len(tokens) < 4:
        raise RemoteProtocolError("a QUOTA answer without its list")
    triples = read_list(tokens[3])
    resources: dict[str, tuple[int, int]] = {}
    for index in range(0, len(triples) - 2, 3):
        name, used, limit = triples[index : index + 3]
        # Some servers write -1 for "no limit": then there is none to tell of.
        if isinstance(name, str) and "-1" not in (used, limit):
            resources[name.upper()] = (read_number(used), read_number(limit))
    return Quota(b"NIL" if tokens[2] is None else read_bytes(tokens[2]), resources)


def _read_flags_line(line: Line) -> Flags:
    tokens = parse_tokens(line)
    return Flags(read_flags(tokens[2] if len(tokens) > 2 else None))


def _read_vanished(line: Line) -> Vanished:
    match = _VANISHED.fullmatch(_rest(line))
    if match is None:
        raise RemoteProtocolError("VANISHED without a set of UIDs")
    return Vanished(parse_uid_set(match[2]), is_earlier=match[1] is not None)


def _read_search(line: Line) -> Search:
    match = _SEARCH.fullmatch(_rest(line))
    if match is None:
        raise RemoteProtocolError("SEARCH with something that is no number")
    return Search(list(map(int, match[1].split())), int(match[2]) if match[2] else None)


def _read_esearch(line: Line) -> ESearch:
    tokens = parse_tokens(line)[2:]
    tag: str | None = None
    if tokens and isinstance(tokens[0], list):
        correlator = tokens.pop(0)
        if isinstance(correlator, list) and len(correlator) == 2:
            tag = read_atom(correlator[1])
    is_uid = bool(tokens) and isinstance(tokens[0], str) and tokens[0].upper() == "UID"
    pairs = tokens[1:] if is_uid else tokens
    values: dict[str, Token] = {}
    for index in range(0, len(pairs) - 1, 2):
        values[read_atom(pairs[index]).upper()] = pairs[index + 1]
    return ESearch(
        tag=tag,
        is_uid=is_uid,
        ranges=parse_uid_set(read_atom(values["ALL"])) if "ALL" in values else None,
        count=read_number(values["COUNT"]) if "COUNT" in values else None,
        modseq=read_number(values["MODSEQ"]) if "MODSEQ" in values else None,
    )


def _read_server_id(line: Line) -> ServerId:
    tokens = parse_tokens(line)
    pairs = read_list(tokens[2]) if len(tokens) > 2 else []
    fields: dict[str, str] = {}
    for index in range(0, len(pairs) - 1, 2):
        key, value = pairs[index], pairs[index + 1]
        if isinstance(key, bytes) and isinstance(value, bytes):
            fields[clean_text(key.decode("latin-1")).lower()] = clean_text(value.decode("latin-1"))
    return ServerId(fields)


_READERS: Final[dict[str, Callable[[Line], Untagged]]] = {
    "CAPABILITY": _read_capability,
    "ENABLED": _read_enabled,
    "LIST": _read_list_item,
    "XLIST": _read_list_item,
    "STATUS": _read_mailbox_status,
    "QUOTAROOT": _read_quota_roots,
    "QUOTA": _read_quota,
    "FLAGS": _read_flags_line,
    "VANISHED": _read_vanished,
    "SEARCH": _read_search,
    "ESEARCH": _read_esearch,
    "ID": _read_server_id,
}


def read_append_uid(code: Code | None) -> tuple[int, int] | None:
    """(uidvalidity, uid) of APPENDUID, or None. Source: RFC 4315 s3"""
    if code is None or code.name != "APPENDUID" or len(code.arguments) != 2:
        return None
    try:
        uids = parse_uid_list(read_atom(code.arguments[1]))
        uid_validity = read_number(code.arguments[0])
    except RemoteProtocolError:
        return None
    return (uid_validity, uids[0][0]) if len(uids) == 1 and uids[0][0] == uids[0][1] else None


def read_copy_uid(code: Code | None) -> dict[int, int]:
    """Old UID to new UID of COPYUID; empty when absent, unreadable or the sets do not pair up.

    Source: RFC 4315 s3
    """
    if code is None or code.name != "COPYUID" or len(code.arguments) != 3:
        return {}
    try:
        old = expand_uids(parse_uid_list(read_atom(code.arguments[1])))
        new = expand_uids(parse_uid_list(read_atom(code.arguments[2])))
    except RemoteProtocolError:
        return {}
    return dict(zip(old, new, strict=True)) if len(old) == len(new) else {}
