"""The octets of a script to tokens with their lines. Linear. Source: RFC 5228 s2, s8.1"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from tindra.wire.sieve.errors import SieveError

SCRIPT_BYTES_MAX: Final = 64 * 1024
"""maxSizeScript: a thousand rules; managers of scripts write some kilobytes."""
NUMBER_MAX: Final = (1 << 53) - 1
"""At least 2**31-1 is asked for; this is what JSON can carry. Source: RFC 5228 s2.4.1"""
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_TOKEN = re.compile(
    r"(?P<space>[ \t\r\n]++|#[^\n]*+)"
    r"|(?P<comment>/\*)"
    r"|(?P<text>[tT][eE][xX][tT]:[ \t]*+(?:\#[^\n]*+)?(?:(?<=\r)|\r?)\n)"
    r"|(?P<tag>:[A-Za-z_][A-Za-z0-9_]*+)"
    r"|(?P<number>[0-9]++[KMGkmg]?)(?![A-Za-z0-9_])"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*+)"
    r'|"(?P<quoted>(?:[^"\\]|\\.)*+)"'
    r"|(?P<mark>[\[\]{}(),;])",
    re.DOTALL,
)
_TEXT_END = re.compile(r"(?m)^\.\r?$")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)

Kind = Literal["tag", "number", "name", "string", "mark", "end"]


class Token(NamedTuple):
    """One token."""

    kind: Kind
    text: str
    """Of a tag and a name: lower case, without the colon. Of a string: its value."""
    line: int
    number: int = 0


def decode_script(raw: bytes) -> str:
    """The text of a script. Raises: SieveError: too large, or no UTF-8."""
    if len(raw) > SCRIPT_BYTES_MAX:
        raise SieveError(1, f"a script may have {SCRIPT_BYTES_MAX} octets")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SieveError(raw.count(b"\n", 0, error.start) + 1, "this is not UTF-8") from None
    if "\0" in text:
        raise SieveError(text.count("\n", 0, text.index("\0")) + 1, "a NUL may not stand here")
    return text.removeprefix("\ufeff")


def list_tokens(text: str) -> Iterator[Token]:
    """The tokens, with one of kind "end" behind them. Raises: SieveError."""
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise SieveError(line, f"{text[at : at + 20]!r} does not begin anything known")
        end = match.end()
        kind = match.lastgroup
        if kind == "comment":
            end = text.find("*/", end) + 2
            if end < 2:
                raise SieveError(line, "the comment that begins here never ends")
        elif kind == "text":
            stop = _TEXT_END.search(text, end)
            if stop is None:
                raise SieveError(line, "the text that begins here has no line with a dot alone")
            yield Token("string", _unstuff(text[end : stop.start()]), line)
            end = stop.end()
        elif kind != "space":
            yield _make_token(match, line)
        line += text.count("\n", at, end)
        at = end
    yield Token("end", "", line)


def _make_token(match: re.Match[str], line: int) -> Token:
    kind, text = match.lastgroup, match[match.lastgroup or 0]
    if kind == "quoted":
        return Token("string", _ESCAPE.sub(r"\1", text), line)
    if kind == "number":
        unit = _UNITS.get(text[-1].upper(), 1)
        digits = text[:-1] if unit > 1 else text
        number = int(digits) * unit if len(digits) <= 16 else NUMBER_MAX + 1
        if number > NUMBER_MAX:
            raise SieveError(line, f"a number may be {NUMBER_MAX} at most")
        return Token("number", text, line, number)
    if kind == "tag":
        return Token("tag", text[1:].lower(), line)
    if kind == "name":
        return Token("name", text.lower(), line)
    return Token("mark", text, line)


def _unstuff(text: str) -> str:
    """Lines that begin with two dots begin with one. Source: RFC 5228 s2.4.2"""
    lines = text.split("\n")
    return "\n".join(line[1:] if line.startswith("..") else line for line in lines)
