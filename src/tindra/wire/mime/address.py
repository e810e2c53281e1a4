"""Address lists of header fields, parsed best-effort; nothing of other fields.

The list is split by its structure first and only then are names decoded, so an encoded word can
never make up an address, a comma or a group.
Invariant: linear time; at most ADDRESSES_MAX addresses.
Source: RFC 5322 s3.4 and s4.4, RFC 6532 s3.2, RFC 8621 s4.1.2.3 and s4.1.2.4
"""

from __future__ import annotations

import re

import msgspec

from tindra.wire.mime.charset import normalise_nfc
from tindra.wire.mime.words import decode_words

ADDRESSES_MAX = 10_000
"""Addresses read from one field; providers stop at 2,000 recipients."""


class Address(msgspec.Struct, frozen=True):
    """An EmailAddress. Source: RFC 8621 s4.1.2.3"""

    name: str | None
    email: str
    """The addr-spec; with broken mail any text, even empty."""


class Group(msgspec.Struct, frozen=True):
    """An EmailAddressGroup; name is None for addresses outside of any group.

    Source: RFC 8621 s4.1.2.4
    """

    name: str | None
    addresses: list[Address]


_ADDR = r"[^\s<>@\"(),;:\\\[\]]++@[^\s<>@\"(),;:\\\[\]]++"
_SIMPLE = re.compile(
    rf"\s*+(?:(?:\"([^\"\\]*+)\"|([^\"<>@,;:\\()\[\]]*+))\s*+<({_ADDR})>|({_ADDR}))\s*+(?:,|\Z)"
)
"""An address without quoted pairs, comments or groups, up to its comma: nearly all there are."""

_ATOM = r"[^\s\"<>(),;:@\\\[\]]"
_TOKEN_TEXT = (
    r"(?P<space>\s++)"
    rf"|(?P<word>=\?[^\s?]++\?[bBqQ]\?[^\s?\"<>]*+\?=|{_ATOM}++|\[[^\[\]\s\\,<>\"]*+\])"
    r"|(?P<mark>[<>(),;:@])"
)
_TOKEN = re.compile(rf"{_TOKEN_TEXT}|\"(?P<quoted>[^\"\\]*+(?:\\.[^\"\\]*+)*+)\"|.", re.DOTALL)
_TOKEN_NO_QUOTES = re.compile(rf"{_TOKEN_TEXT}|.", re.DOTALL)
_PAIR = re.compile(r"\\(.)", re.DOTALL)
_COMMENT_MARK = re.compile(r"\\.|[()]", re.DOTALL)
_CONTROLS = dict.fromkeys([*range(0x20), 0x7F])

_Word = tuple[str, str, bool]
"""A token as written, what it says in a name, and whether white space stood before it."""


def parse_addresses(text: str) -> list[Group]:
    """The groups of an unfolded address-list; addresses outside of groups are in unnamed ones."""
    addresses: list[Address] = []
    pos = 0
    while len(addresses) < ADDRESSES_MAX:
        match = _SIMPLE.match(text, pos)
        if match is None:
            return _Scanner(text, pos, addresses).run()
        quoted, plain, angle, bare = match.groups()
        name = _tidy_name(decode_words(quoted or plain, is_phrase=True)) if angle else None
        addresses.append(Address(name, angle or bare))
        pos = match.end()
        if pos == len(text):
            break
    return [Group(None, addresses)]


def _tidy_name(text: str) -> str | None:
    if not text.isprintable():
        text = text.translate(_CONTROLS)
    return normalise_nfc(text.strip()) or None


class _Scanner:
    """One run over one field; every token is looked at once."""

    def __init__(self, text: str, pos: int, addresses: list[Address]) -> None:
        """Begins at `pos`, behind the `addresses` that are read already."""
        self.text = text
        self.pos = pos
        self.token = _TOKEN
        self.left = ADDRESSES_MAX - len(addresses)
        self.groups: list[Group] = []
        self.group_name: str | None = None
        self.is_in_group = False
        self.bucket = addresses
        self.name_words: list[_Word] = []
        self.words: list[_Word] = []
        self.has_at = False  # in `words`; to look through them again and again would be quadratic
        self.angle: str | None = None
        self.is_spaced = False

    def run(self) -> list[Group]:
        while self.pos < len(self.text) and self.left > 0:
            kind, token = self._next()
            if kind == "space":
                self.is_spaced = True
            elif kind == "mark":
                self._take_mark(token)
            else:
                self._take_word(kind, token)
        self._end_address()
        self._end_group()
        return self.groups

    def _next(self) -> tuple[str, str]:
        match = self.token.match(self.text, self.pos)
        assert match is not None  # the last alternative takes any character
        self.pos = match.end()
        piece = match[0]
        if piece == '"':
            # No quote closes from here on, and looking again for one would cost quadratic time.
            self.token = _TOKEN_NO_QUOTES
        return match.lastgroup or "word", piece

    def _take_word(self, kind: str, token: str) -> None:
        said = _PAIR.sub(r"\1", token[1:-1]) if kind == "quoted" else token
        self.words.append((token, said, self.is_spaced))
        self.has_at = self.has_at or token == "@"
        self.is_spaced = False

    def _take_mark(self, mark: str) -> None:
        if mark == "(":
            self._skip_comment()
            self.is_spaced = True
        elif mark == ",":
            self._end_address()
        elif mark == ";":
            self._end_address()
            if self.is_in_group:
                self._end_group()
        elif mark == "<":
            names, self.words, self.has_at = self.words, [], False
            if self.angle is not None:
                self._end_address()  # a comma is missing
            self.name_words = names
            self.angle = self._take_angle()
        elif mark == ":" and self._is_group_start():
            self._end_group()
            self.group_name, self.is_in_group = _phrase(self.words), True
            self.words = []
        elif mark != ">":
            self._take_word("mark", mark)

    def _is_group_start(self) -> bool:
        is_outside = not self.is_in_group and self.angle is None
        return is_outside and bool(self.words) and not self.has_at

    def _take_angle(self) -> str:
        """The address up to ">"; without one it ends before the next separator."""
        pieces: list[str] = []
        self.is_spaced = False
        while self.pos < len(self.text):
            start = self.pos
            kind, piece = self._next()
            is_route = pieces[:1] == ["@"]
            if piece == ">":
                break
            if piece in (",", ";") and not (is_route and piece == ","):
                self.pos = start
                break
            if piece == "(":
                self._skip_comment()
            elif piece == "<" or (piece == ":" and (is_route or pieces == ["mailto"])):
                pieces.clear()
            elif kind != "space":
                if self.is_spaced and pieces and not _is_glue(pieces[-1], piece):
                    pieces.append(" ")
                pieces.append(piece)
            self.is_spaced = kind == "space"
        self.is_spaced = False
        return "".join(pieces)

    def _skip_comment(self) -> None:
        depth = 1
        for match in _COMMENT_MARK.finditer(self.text, self.pos):
            depth += {"(": 1, ")": -1}.get(match[0], 0)
            if depth == 0:
                self.pos = match.end()
                return
        self.pos = len(self.text)

    def _end_address(self) -> None:
        if self.angle is not None:
            name = _phrase(self.name_words) or _phrase(self.words)
            self.bucket.append(Address(name, self.angle))
            self.left -= 1
        elif self.words:
            self.bucket.append(_bare_address(self.words))
            self.left -= 1
        self.name_words, self.words, self.angle = [], [], None
        self.has_at = False
        self.is_spaced = False

    def _end_group(self) -> None:
        if self.is_in_group or self.bucket:
            self.groups.append(Group(self.group_name, self.bucket))
        self.bucket, self.group_name, self.is_in_group = [], None, False


def _is_glue(left: str, right: str) -> bool:
    """Whether white space between two tokens of an addr-spec means nothing."""
    return left in (".", "@") or right in (".", "@")


def _phrase(words: list[_Word]) -> str | None:
    """The display name that the words spell."""
    text = "".join(f" {said}" if is_spaced else said for _, said, is_spaced in words)
    return _tidy_name(decode_words(text, is_phrase=True))


def _bare_address(words: list[_Word]) -> Address:
    """An address without angle brackets: the last run of words with an "@", or all the text."""
    start = len(words)
    stop = len(words)
    for at in range(len(words) - 1, -1, -1):
        if words[at][0] == "@":
            start, stop = _grow(words, at)
            break
    if start == stop:
        return Address(None, _phrase(words) or "")
    email = "".join(raw for raw, _, _ in words[start:stop])
    return Address(_phrase(words[:start]), email)


def _grow(words: list[_Word], at: int) -> tuple[int, int]:
    """The range of words around the "@" at `at` that belong to one addr-spec."""
    start, stop = at, at + 1
    while start > 0 and (not words[start][2] or _is_glue(words[start - 1][0], words[start][0])):
        start -= 1
    while stop < len(words) and (
        not words[stop][2] or _is_glue(words[stop - 1][0], words[stop][0])
    ):
        stop += 1
    return start, stop
