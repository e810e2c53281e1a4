"""Bytes to logical IMAP lines to nested tokens, for both ends of a connection; no meaning, no I/O.

A *logical line* (RFC 9051 s2.2, RFC 9051 s4.3) is text up to CRLF, and when that text ends in
`{n}` also the next n octets (a literal) and the text after them, and so on. `LineReader` cuts
logical lines out of whatever chunks arrive; `parse_tokens` turns one into nested lists. Typed
readers sit on top.

    reader = LineReader("server")            # or "client"
    reader.feed(chunk)
    while (line := reader.next_line()) is not None:
        tokens = parse_tokens(line)          # ['a1', 'LOGIN', b'joe', b'se"cret']

Tokens:  atom -> str (each char is one octet, latin-1)      NIL -> None
         quoted string, literal, literal8 -> bytes          ( ... ) -> list
`BODY[HEADER.FIELDS (DATE FROM)]<0>` (PEEK, BINARY likewise) is one atom, inner spaces and all.
A number is an atom; `read_number` makes it an int where the grammar says that it is one.

The server end owes a go-ahead for each synchronising literal: when `next_line()` gives None, look
at `literal_pending`; if `is_sync`, send `+ ` and call `accept_literal()`, or answer NO and call
`refuse_literal()`. `{n+}` (RFC 7888) needs no go-ahead; on the client end no literal does.

Invariants: every octet is looked at a constant number of times, however it is chunked; literals
are skipped by length, never scanned; any bytes give lines or `RemoteProtocolError`; after that
error the reader stays broken. A bare LF ends a line too.

Sources: RFC 9051 s9, RFC 3501 s9, RFC 7888 s4, RFC 3516 s4.4.
"""

from __future__ import annotations

import re
from typing import Final, Literal, TypeAlias

import msgspec

from tindra.base.limits import MESSAGE_BYTES_MAX
from tindra.wire.imap.errors import LocalProtocolError, RemoteProtocolError

Token: TypeAlias = "str | bytes | list[Token] | None"
"""One parsed item: atom, string, list, NIL. See the module docstring."""

LINE_BYTES_MAX: Final = 32 * 1024 * 1024
"""Text octets of one logical line; a SEARCH answer for 2 million messages takes about 18 MB."""
LITERAL_BYTES_MAX: Final = 128 * 1024 * 1024
"""Octets of all literals of one logical line; the largest public providers stop at 50 to 150 MB."""
LITERAL_SKIPPED_BYTES_MAX: Final = 4 * 1024**3
"""Octets of one literal that are read past on the client end, because they are more than is kept:
a server that sends whole what was asked for in part must not end every session."""
LITERAL_COUNT_MAX: Final = 10_000
"""Literals in one logical line; a header-rich FETCH answer has a few dozen at most."""
NESTING_MAX: Final = 128
"""Open parentheses at once; a sane BODYSTRUCTURE stays below 20."""
TOKENS_MAX: Final = 4_000_000
"""Tokens of one logical line: bounds memory at some 300 MB on a hostile line of maximal length."""
_CHUNK_BYTES_MIN: Final = 4096
"""Smaller pieces of a literal wait in the buffer, so that dribbled octets make no long list."""

_LITERAL_TAIL: Final = re.compile(rb"~?\{([0-9]{1,20})([+-]?)\}\Z")
_LITERAL_TAIL_BYTES_MAX: Final = 25
# Human text of a server may end in "{5}" by chance; it is no literal there.
_STATUS_LINE: Final = re.compile(rb"(?:\+|[^ ]++ (?:OK|NO|BAD|BYE|PREAUTH)(?:[ \r\n]|\Z))", re.I)
_TOKEN: Final = re.compile(
    r"[()]"
    r'|"[^"\\]*+(?:\\.[^"\\]*+)*+"'
    r"|(?i:(?:BODY|BINARY)(?:\.PEEK|\.SIZE)?)\[[^\[\]]*+\][^\x00-\x20\x7f()\"]*+"
    r'|[^\x00-\x20\x7f()"]++'
    r"|[^ \t].*",  # not a token: takes the rest at once, so that a bad line costs one pass
    re.DOTALL,
)
_QUOTED: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_NOT_A_TOKEN_START: Final = frozenset(map(chr, (*range(0x20), 0x7F)))


class Limits(msgspec.Struct, frozen=True):
    """Bounds on one logical line; a server may want far smaller ones before login."""

    line_bytes: int = LINE_BYTES_MAX
    literal_bytes: int = LITERAL_BYTES_MAX
    literal_kept_bytes: int = MESSAGE_BYTES_MAX
    """Of one literal, on the client end: a larger one becomes a `SkippedLiteral`."""
    literal_count: int = LITERAL_COUNT_MAX
    nesting: int = NESTING_MAX
    tokens: int = TOKENS_MAX


DEFAULT_LIMITS: Final = Limits()


class SkippedLiteral(bytes):
    """Stands, empty, for a literal that was too large to be kept."""


class Line(msgspec.Struct):
    """One line: text (str, a char an octet, no CRLF, no `{n}`) and literal (bytes) in turn."""

    parts: list[str | bytes]

    @property
    def text(self) -> str:
        """The text before the first literal: all of it, when there is no literal."""
        first = self.parts[0]
        assert isinstance(first, str)
        return first


class PendingLiteral(msgspec.Struct, frozen=True):
    """A literal that was announced and has not come completely."""

    octets: int
    is_sync: bool
    """The peer waits for our go-ahead (server end only)."""


class LineReader:
    """Cuts logical lines out of a byte stream.

    Args:
        end: "server" waits for `accept_literal()` on each synchronising literal; "client" never
            does, and takes `{n}` at the end of a status line for human text.
    """

    __slots__ = (
        "_broken",
        "_buffer",
        "_chunks",
        "_end",
        "_is_skipping",
        "_limits",
        "_literal_bytes",
        "_missing",
        "_parts",
        "_pending",
        "_scanned",
        "_start",
        "_text_bytes",
    )

    def __init__(self, end: Literal["client", "server"], limits: Limits = DEFAULT_LIMITS) -> None:
        self._end = end
        self._limits = limits
        self._buffer = bytearray()
        self._start = 0  # first octet of the buffer not yet given away
        self._scanned = 0  # no LF before this index
        self._parts: list[str | bytes] = []
        self._text_bytes = 0
        self._literal_bytes = 0
        self._pending: PendingLiteral | None = None
        self._chunks: list[bytes] = []  # of the pending literal, when it does not fit one read
        self._missing = 0
        self._is_skipping = False  # the pending literal is not kept
        self._broken: str | None = None

    @property
    def literal_pending(self) -> PendingLiteral | None:
        """The literal that `next_line()` waits for, if that is why it gave None."""
        return self._pending

    @property
    def kept_literal(self) -> PendingLiteral | None:
        """The literal that `next_line()` waits for, unless it is read past."""
        return None if self._is_skipping else self._pending

    @property
    def partial(self) -> Line | None:
        """The present line so far while a literal is pending: enough to see tag and command."""
        return Line(list(self._parts)) if self._parts else None

    @property
    def buffered_bytes(self) -> int:
        """Octets received and not yet given away as lines. STARTTLS demands 0."""
        held = sum(len(part) for part in self._parts) + sum(len(chunk) for chunk in self._chunks)
        return held + len(self._buffer) - self._start

    def feed(self, data: bytes) -> None:
        """Take the next chunk, of any size, cut anywhere. Cost: linear in `data`."""
        # a large piece of a literal goes past the buffer: one copy less
        is_direct = self._missing and len(self._buffer) == self._start and not self._is_waiting()
        if is_direct and len(data) >= _CHUNK_BYTES_MIN:
            taken = data[: self._missing]
            if not self._is_skipping:
                self._chunks.append(taken)
            self._missing -= len(taken)
            data = data[len(taken) :]
        if data:
            self._buffer += data

    def next_line(self) -> Line | None:
        """The next complete logical line, or None until more is fed.

        Raises: RemoteProtocolError: a limit was passed; the reader stays broken.
        """
        if self._broken is not None:
            raise RemoteProtocolError(self._broken)
        while True:
            if self._pending is not None and not self._take_literal():
                return None
            found = self._buffer.find(b"\n", self._scanned)
            if found < 0:
                self._compact()
                self._scanned = len(self._buffer)
                self._check_text(len(self._buffer))
                return None
            end = found - 1 if found > self._start and self._buffer[found - 1] == 13 else found
            self._check_text(end - self._start)
            raw = bytes(memoryview(self._buffer)[self._start : end])
            self._start = self._scanned = found + 1
            if not (raw.endswith(b"}") and self._open_literal(raw)):
                self._parts.append(raw.decode("latin-1"))
                line = Line(self._parts)
                self._parts = []
                self._text_bytes = self._literal_bytes = 0
                return line

    def accept_literal(self) -> None:
        """The go-ahead has been sent. Raises: LocalProtocolError: nobody waits for one."""
        if not self._is_waiting():
            raise LocalProtocolError("no synchronising literal is waiting for a go-ahead")
        assert self._pending is not None
        self._pending = PendingLiteral(self._pending.octets, is_sync=False)

    def refuse_literal(self) -> None:
        """A NO or BAD was sent instead: forget the line. Raises: LocalProtocolError as above."""
        if not self._is_waiting():
            raise LocalProtocolError("no synchronising literal is waiting for a go-ahead")
        self._pending = None
        self._missing = 0
        self._parts = []
        self._text_bytes = self._literal_bytes = 0

    def _is_waiting(self) -> bool:
        return self._pending is not None and self._pending.is_sync

    def _open_literal(self, raw: bytes) -> bool:
        """Whether `raw` announces a literal; if so it becomes the pending one."""
        tail = _LITERAL_TAIL.search(raw, max(0, len(raw) - _LITERAL_TAIL_BYTES_MAX))
        if tail is None:
            return False
        if self._end == "client" and not self._parts and _STATUS_LINE.match(raw):
            return False
        octets = int(tail[1])
        self._is_skipping = self._end == "client" and octets > self._limits.literal_kept_bytes
        if not self._is_skipping:
            self._literal_bytes += octets
        elif octets > LITERAL_SKIPPED_BYTES_MAX:
            self._break(f"a literal of {octets} octets passes the limit")
        if self._literal_bytes > self._limits.literal_bytes:
            self._break(f"literals of {self._literal_bytes} octets pass the limit")
        if len(self._parts) >= 2 * self._limits.literal_count:
            self._break("too many literals in one line")
        self._parts.append(raw[: tail.start()].decode("latin-1"))
        self._text_bytes += len(raw)
        self._pending = PendingLiteral(octets, is_sync=self._end == "server" and not tail[2])
        self._missing = octets
        return True

    def _take_literal(self) -> bool:
        """Move the pending literal to the parts; False while octets or the go-ahead are missing."""
        if self._is_waiting():
            return False
        stop = min(self._start + self._missing, len(self._buffer))
        if stop - self._start < min(self._missing, _CHUNK_BYTES_MIN):
            self._compact()
            return False
        piece = bytes(memoryview(self._buffer)[self._start : stop])
        self._missing -= len(piece)
        self._start = self._scanned = stop
        if self._missing:
            if not self._is_skipping:
                self._chunks.append(piece)
            self._compact()
            return False
        if self._is_skipping:
            piece = SkippedLiteral()
        elif self._chunks:
            self._chunks.append(piece)
            piece = b"".join(self._chunks)
            self._chunks = []
        self._parts.append(piece)
        self._pending = None
        return True

    def _compact(self) -> None:
        """Drop what was given away; called only when the buffer ran dry, so the tail is short."""
        if self._start:
            del self._buffer[: self._start]
            self._start = self._scanned = 0

    def _check_text(self, octets: int) -> None:
        if self._text_bytes + octets > self._limits.line_bytes:
            self._break(f"a line passes the limit of {self._limits.line_bytes} octets")

    def _break(self, why: str) -> None:
        self._broken = why
        raise RemoteProtocolError(why)


def parse_tokens(line: Line, limits: Limits = DEFAULT_LIMITS) -> list[Token]:
    """All tokens of a logical line, parentheses as nested lists.

    Not for the human text of status responses, which obeys no grammar.
    Raises: RemoteProtocolError: unbalanced parentheses, an unclosed string, a control octet, or a
    limit. Cost: linear; no recursion.
    """
    current: list[Token] = []
    stack: list[list[Token]] = []
    count = 0
    for part in line.parts:
        if isinstance(part, bytes):
            current.append(part)
            continue
        words = _TOKEN.findall(part)
        # only the last word can be an open string: it took everything up to the end
        if words and words[-1][0] == '"' and not _QUOTED.fullmatch(words[-1]):
            raise RemoteProtocolError("a quoted string was left open")
        count += len(words)
        if count > limits.tokens:
            raise RemoteProtocolError(f"a line of more than {limits.tokens} tokens")
        for word in words:
            first = word[0]
            if first == "(":
                if len(stack) >= limits.nesting:
                    raise RemoteProtocolError(f"lists nested deeper than {limits.nesting}")
                stack.append(current)
                current = []
            elif first == ")":
                if not stack:
                    raise RemoteProtocolError("a closing parenthesis without an opening one")
                inner, current = current, stack.pop()
                current.append(inner)
            elif first == '"':
                current.append(_read_quoted(word))
            elif first in _NOT_A_TOKEN_START:
                raise RemoteProtocolError(f"octet {ord(first)} outside of a string")
            else:
                current.append(None if len(word) == 3 and word.upper() == "NIL" else word)
    if stack:
        raise RemoteProtocolError(f"{len(stack)} parentheses left open")
    return current


def parse_text_tokens(text: str, limits: Limits = DEFAULT_LIMITS) -> list[Token]:
    """`parse_tokens` for a piece of text without literals, such as a response code."""
    return parse_tokens(Line([text]), limits)


def _read_quoted(word: str) -> bytes:
    inner = word[1:-1]
    if "\\" in inner:
        inner = _ESCAPE.sub(r"\1", inner)
    return inner.encode("latin-1")


def read_number(token: Token) -> int:
    """An unsigned number of at most 63 bits. Raises: RemoteProtocolError: it is none."""
    # str.isdigit takes superscripts of latin-1 too, so ASCII is asked first
    if isinstance(token, str) and token.isascii() and token.isdigit() and len(token) <= 19:
        return int(token)
    if isinstance(token, bytes) and token.isdigit() and len(token) <= 19:
        return int(token)
    raise RemoteProtocolError(f"a number was expected, not {describe(token)}")


def read_bytes(token: Token) -> bytes:
    """The octets of an astring: atom, quoted, literal. Raises: RemoteProtocolError: list or NIL."""
    if isinstance(token, bytes):
        return token
    if isinstance(token, str):
        return token.encode("latin-1")
    raise RemoteProtocolError(f"a string was expected, not {describe(token)}")


def read_atom(token: Token) -> str:
    """The text of an atom or an atom-like string (latin-1). Raises: RemoteProtocolError."""
    if isinstance(token, str):
        return token
    if isinstance(token, bytes):
        return token.decode("latin-1")
    raise RemoteProtocolError(f"an atom was expected, not {describe(token)}")


def read_list(token: Token) -> list[Token]:
    """The members of a parenthesised list; NIL is the empty one. Raises: RemoteProtocolError."""
    if isinstance(token, list):
        return token
    if token is None:
        return []
    raise RemoteProtocolError(f"a list was expected, not {describe(token)}")


def describe(token: Token) -> str:
    """A short picture of a token for an error text; never the whole of a large one."""
    if isinstance(token, list):
        return f"a list of {len(token)}"
    return repr(token if token is None else token[:40])
