"""The one encoder of IMAP command arguments; which commands there are lives in `verbs`.

A `Command` is a name and typed arguments. Every argument type checks itself when it is made, and
only `encode_command` makes octets, so a text cannot turn into syntax: injection is not expressible.
There is no "raw text" argument.

Strings go out as atom, quoted string or literal, whichever is the first that can hold them;
literals are counted in octets. A literal is synchronising unless the server has LITERAL+, or
LITERAL- and it is at most 4096 octets; each synchronising literal ends one piece of the encoded
command, and the next piece may go out only after the server's go-ahead.

Invariants: pieces joined are exactly one logical line; CR and LF occur only in literals and at the
end of a text piece; `repr` of a command shows no argument (passwords).

Sources: RFC 9051 s9, RFC 7888 s4, RFC 3516 s4.4, RFC 4466 s2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeAlias

import msgspec

from tindra.wire.imap.errors import LocalProtocolError
from tindra.wire.imap.seqset import UidRange, encode_uid_set
from tindra.wire.imap.utf7 import encode_mailbox

QUOTED_BYTES_MAX: Final = 512
"""Octets of a quoted string; longer ones go out as literals, which no server truncates."""
LITERAL_MINUS_BYTES_MAX: Final = 4096
"""The largest non-synchronising literal under LITERAL-. Source: RFC 7888 s5"""
NUMBER_MAX: Final = 2**63 - 1
"""The largest mod-sequence. Source: RFC 7162 s7"""

_NAME: Final = re.compile(r"[A-Z]+(?: [A-Z]+)?")
_ATOM: Final = re.compile(r"[A-Za-z0-9!#$&'+,\-./:;<=>?@\[^_`|}~]+")
_ASTRING: Final = re.compile(rb"[A-Za-z0-9!#$&'+,\-./:;<=>?@\[\]^_`|}~]+")
_FLAG: Final = re.compile(r"\\?[A-Za-z0-9!#$&'+,\-./:;<=>?@\[\]^_`|}~]+")
_FETCH_ITEM: Final = re.compile(
    r"[A-Z][A-Z0-9.\-]*"
    r"(?:\[[A-Z0-9.]*(?:HEADER\.FIELDS(?:\.NOT)? \([A-Za-z0-9\-]+(?: [A-Za-z0-9\-]+)*\))?\]"
    r"(?:<[0-9]{1,10}\.[0-9]{1,10}>)?)?"
)
_MONTHS: Final = "JanFebMarAprMayJunJulAugSepOctNovDec"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_MS_MIN: Final = -62_135_596_800_000  # 0001-01-01, the first day of datetime
_YEAR_MS_MAX: Final = 253_402_300_799_999  # 9999-12-31, the last day with a year of four digits


class Atom(msgspec.Struct, frozen=True):
    """A word of the grammar: never quoted, so only atom characters."""

    text: str

    def __post_init__(self) -> None:
        if not _ATOM.fullmatch(self.text):
            raise LocalProtocolError(f"not an atom: {self.text[:40]!r}")


class FetchItem(msgspec.Struct, frozen=True):
    """A FETCH data item such as `UID` or `BODY.PEEK[HEADER.FIELDS (DATE FROM)]<0.1000>`."""

    text: str

    def __post_init__(self) -> None:
        if not _FETCH_ITEM.fullmatch(self.text):
            raise LocalProtocolError(f"not a FETCH item: {self.text[:40]!r}")


class Flag(msgspec.Struct, frozen=True):
    r"""A system flag (`\Seen`) or a keyword. `\Recent` and `\*` cannot be set by a client."""

    text: str

    def __post_init__(self) -> None:
        if not _FLAG.fullmatch(self.text) or self.text.lower() == "\\recent":
            raise LocalProtocolError(f"not a flag that can be set: {self.text[:40]!r}")


class Number(msgspec.Struct, frozen=True):
    """A number or mod-sequence."""

    value: int

    def __post_init__(self) -> None:
        if not 0 <= self.value <= NUMBER_MAX:
            raise LocalProtocolError(f"not an IMAP number: {self.value}")


class UidSet(msgspec.Struct, frozen=True):
    """A non-empty set of UIDs, as ranges."""

    ranges: Sequence[UidRange]


class AString(msgspec.Struct, frozen=True):
    """Any octets except NUL, as atom, quoted string or literal."""

    octets: bytes

    def __post_init__(self) -> None:
        if b"\0" in self.octets:
            raise LocalProtocolError("an IMAP string cannot hold a NUL octet")


class String(msgspec.Struct, frozen=True):
    """As `AString`, where the grammar wants quotes even around a plain word (ID)."""

    octets: bytes

    def __post_init__(self) -> None:
        if b"\0" in self.octets:
            raise LocalProtocolError("an IMAP string cannot hold a NUL octet")


class ListPattern(msgspec.Struct, frozen=True):
    """A LIST pattern: `*` and `%` are wildcards, so it is always quoted."""

    text: str

    def __post_init__(self) -> None:
        if self.text:
            encode_mailbox(self.text)


class Mailbox(msgspec.Struct, frozen=True):
    """A mailbox: its name, or the octets the server itself used when they are no faithful name."""

    name: str | bytes

    def __post_init__(self) -> None:
        if isinstance(self.name, str):
            encode_mailbox(self.name)
        elif b"\0" in self.name or not self.name:
            raise LocalProtocolError("not a mailbox name")


class DateTime(msgspec.Struct, frozen=True):
    """A moment, UTC milliseconds since 1970; IMAP keeps whole seconds."""

    at_ms: int

    def __post_init__(self) -> None:
        if not _YEAR_MS_MIN <= self.at_ms <= _YEAR_MS_MAX:
            raise LocalProtocolError(f"outside of the IMAP calendar: {self.at_ms}")


class Message(msgspec.Struct, frozen=True):
    """The octets of a whole message, always a literal (literal8 when it holds NUL)."""

    octets: bytes


class Nil(msgspec.Struct, frozen=True):
    """The word NIL."""


class Group(msgspec.Struct, frozen=True):
    """A parenthesised list of arguments."""

    members: Sequence[Argument]


Argument: TypeAlias = (
    Atom
    | FetchItem
    | Flag
    | Number
    | UidSet
    | AString
    | String
    | ListPattern
    | Mailbox
    | DateTime
    | Message
    | Nil
    | Group
)


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One command without its tag.

    Args:
        sasl: AUTHENTICATE only: what to answer to each go-ahead, before base64.
        is_sasl_initial: AUTHENTICATE only: the first of `sasl` rides on the command (SASL-IR).
    """

    name: str
    arguments: tuple[Argument, ...] = ()
    sasl: tuple[bytes, ...] = ()
    is_sasl_initial: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise LocalProtocolError(f"not a command: {self.name[:40]!r}")

    def __repr__(self) -> str:
        return f"<Command {self.name}>"


class Dialect(msgspec.Struct, frozen=True):
    """What the server lets us write."""

    literal: Literal["sync", "minus", "plus"] = "sync"
    has_binary: bool = False
    is_utf8: bool = False
    """UTF8=ACCEPT was enabled: quoted strings and mailbox names may be UTF-8 (RFC 6855)."""


def choose_dialect(capabilities: frozenset[str], enabled: frozenset[str]) -> Dialect:
    """The dialect that these (upper-case) capability names allow."""
    literal: Literal["sync", "minus", "plus"] = "sync"
    if "LITERAL+" in capabilities:
        literal = "plus"
    elif "LITERAL-" in capabilities or "IMAP4REV2" in capabilities:
        literal = "minus"
    return Dialect(literal, "BINARY" in capabilities, "UTF8=ACCEPT" in enabled)


class _Writer:
    """Collects the pieces of one command."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.text = bytearray()
        self.pieces: list[list[bytes]] = [[]]

    def literal(self, octets: bytes) -> None:
        is_binary = b"\0" in octets
        if is_binary and not self.dialect.has_binary:
            raise LocalProtocolError("the message holds NUL octets, and the server takes none")
        is_sync = self.dialect.literal == "sync" or (
            self.dialect.literal == "minus" and len(octets) > LITERAL_MINUS_BYTES_MAX
        )
        mark = "" if is_sync else "+"
        self.text += f"{'~' if is_binary else ''}{{{len(octets)}{mark}}}\r\n".encode()
        self.flush()
        if is_sync:
            self.pieces.append([])
        self.pieces[-1].append(octets)

    def string(self, octets: bytes, *, as_atom: bool) -> None:
        if as_atom and _ASTRING.fullmatch(octets) and octets.upper() != b"NIL":
            self.text += octets
        elif len(octets) <= QUOTED_BYTES_MAX and self._is_quotable(octets):
            self.text += b'"' + octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
        else:
            self.literal(octets)

    def _is_quotable(self, octets: bytes) -> bool:
        if b"\r" in octets or b"\n" in octets:
            return False
        if octets.isascii():
            return True
        if not self.dialect.is_utf8:
            return False
        try:
            octets.decode("utf-8")
        except UnicodeDecodeError:
            return False
        return True

    def flush(self) -> None:
        if self.text:
            self.pieces[-1].append(bytes(self.text))
            self.text.clear()

    def mailbox(self, name: str | bytes) -> None:
        if isinstance(name, bytes):
            octets = name
        elif self.dialect.is_utf8:
            octets = name.encode("utf-8")
        else:
            octets = encode_mailbox(name)
        self.string(octets, as_atom=True)

    def argument(self, argument: Argument) -> None:
        if isinstance(argument, Atom | FetchItem | Flag):
            self.text += argument.text.encode("ascii")
        elif isinstance(argument, Number):
            self.text += b"%d" % argument.value
        elif isinstance(argument, UidSet):
            self.text += encode_uid_set(argument.ranges).encode("ascii")
        elif isinstance(argument, AString | String):
            self.string(argument.octets, as_atom=isinstance(argument, AString))
        elif isinstance(argument, ListPattern):
            self.string(encode_mailbox(argument.text) if argument.text else b"", as_atom=False)
        elif isinstance(argument, Mailbox):
            self.mailbox(argument.name)
        elif isinstance(argument, DateTime):
            self.text += encode_date_time(argument.at_ms)
        elif isinstance(argument, Message):
            self.literal(argument.octets)
        elif isinstance(argument, Nil):
            self.text += b"NIL"
        else:
            self.group(argument)

    def group(self, group: Group) -> None:
        self.text += b"("
        for index, member in enumerate(group.members):
            if index:
                self.text += b" "
            self.argument(member)
        self.text += b")"


def encode_command(tag: str, command: Command, dialect: Dialect) -> list[list[bytes]]:
    """The command as pieces: the server must give its go-ahead between one piece and the next.

    Each piece is a list of buffers to write one after the other; a large message is not copied.
    Raises: LocalProtocolError: the server's dialect cannot hold an argument.
    """
    writer = _Writer(dialect)
    writer.text += f"{Atom(tag).text} {command.name}".encode("ascii")
    for argument in command.arguments:
        writer.text += b" "
        writer.argument(argument)
    writer.text += b"\r\n"
    writer.flush()
    return writer.pieces


def encode_date_time(at_ms: int) -> bytes:
    """`"17-Jul-1996 02:44:25 +0000"`, quotes included. Source: RFC 9051 s9 (date-time)"""
    at = _EPOCH + timedelta(milliseconds=at_ms - at_ms % 1000)
    month = _MONTHS[3 * at.month - 3 : 3 * at.month]
    clock = f"{at.hour:02}:{at.minute:02}:{at.second:02}"
    return f'"{at.day:02}-{month}-{at.year:04} {clock} +0000"'.encode("ascii")
