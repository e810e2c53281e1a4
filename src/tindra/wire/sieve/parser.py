"""Tokens to a tree of commands; says where something is wrong. Source: RFC 5228 s8.2"""

from __future__ import annotations

from typing import Final

import msgspec

from tindra.wire.sieve.errors import SieveError
from tindra.wire.sieve.lexer import Token, decode_script, list_tokens

NESTING_MAX: Final = 32
"""Blocks in each other, and tests in each other: above any script of a person (the RFC asks for
15), far below the stack. Source: RFC 5228 s2.10.5"""


class Argument(msgspec.Struct, frozen=True):
    """One argument: a tag, a number, or strings."""

    line: int
    tag: str | None = None
    number: int | None = None
    strings: tuple[str, ...] | None = None
    is_list: bool = False
    """Whether brackets stood around the strings."""


class Node(msgspec.Struct):
    """A command or a test, as written."""

    name: str
    line: int
    arguments: list[Argument]
    tests: list[Node]
    has_test_list: bool = False
    block: list[Node] | None = None


def parse_script(raw: bytes) -> list[Node]:
    """The commands of a script. Cost: linear. Raises: SieveError."""
    parser = _Parser(list(list_tokens(decode_script(raw))))
    return parser.parse_commands(0)


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._next
        self._at += 1
        return token

    def _is_mark(self, mark: str) -> bool:
        return self._next.kind == "mark" and self._next.text == mark

    def _fail(self, wanted: str) -> SieveError:
        found = repr(self._next.text[:40]) if self._next.kind != "end" else "the end"
        return SieveError(self._next.line, f"{wanted} was expected, not {found}")

    def parse_commands(self, depth: int) -> list[Node]:
        """Commands up to the end of the script, or of the block."""
        found = []
        while self._next.kind != "end" and not (depth and self._is_mark("}")):
            found.append(self._parse_command(depth))
        return found

    def _parse_command(self, depth: int) -> Node:
        node = self._parse_call(depth)
        if self._is_mark(";"):
            self._take()
        elif self._is_mark("{"):
            opened = self._take()
            node.block = self.parse_commands(depth + 1)
            if not self._is_mark("}"):
                raise SieveError(opened.line, "the block that begins here never ends")
            self._take()
        else:
            raise self._fail("';' or a block")
        return node

    def _parse_call(self, depth: int) -> Node:
        """A name with its arguments and tests."""
        if depth > NESTING_MAX:
            raise SieveError(self._next.line, f"more than {NESTING_MAX} levels in each other")
        if self._next.kind != "name":
            raise self._fail("a command" if not depth else "a command or test")
        token = self._take()
        node = Node(token.text, token.line, self._parse_arguments(), [])
        if self._next.kind == "name":
            node.tests = [self._parse_call(depth + 1)]
        elif self._is_mark("("):
            node.has_test_list = True
            self._take()
            node.tests = [self._parse_call(depth + 1)]
            while self._is_mark(","):
                self._take()
                node.tests.append(self._parse_call(depth + 1))
            if not self._is_mark(")"):
                raise self._fail("',' or ')'")
            self._take()
        return node

    def _parse_arguments(self) -> list[Argument]:
        found = []
        while True:
            token = self._next
            if token.kind == "tag":
                found.append(Argument(token.line, tag=token.text))
            elif token.kind == "number":
                found.append(Argument(token.line, number=token.number))
            elif token.kind == "string":
                found.append(Argument(token.line, strings=(token.text,)))
            elif self._is_mark("["):
                found.append(self._parse_strings())
                continue
            else:
                return found
            self._take()

    def _parse_strings(self) -> Argument:
        opened = self._take()
        strings: list[str] = []
        while True:
            if self._next.kind != "string":
                raise self._fail("a string")
            strings.append(self._take().text)
            if self._is_mark("]"):
                self._take()
                return Argument(opened.line, strings=tuple(strings), is_list=True)
            if not self._is_mark(","):
                raise self._fail("',' or ']'")
            self._take()
