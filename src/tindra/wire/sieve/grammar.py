"""Which commands and tests there are, what they take, and what must be required for them.

A table, so that a script that passes `check_script` cannot surprise the evaluator.
Source: RFC 5228 s3 to s5, and the extensions named at each line
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from tindra.wire.sieve.errors import SieveError
from tindra.wire.sieve.match import COMPARATORS, RELATIONS
from tindra.wire.sieve.parser import Argument, Node, parse_script

EXTENSIONS: Final = (
    "body", "comparator-i;ascii-casemap", "comparator-i;ascii-numeric", "comparator-i;octet",
    "copy", "date", "duplicate", "encoded-character", "envelope", "fileinto", "imap4flags",
    "mailbox", "relational", "special-use", "subaddress", "vacation", "variables",
)  # fmt: skip
"""What a script may require. Not `reject`: the message is in the mailbox when we see it, and a
refusal then would go to whoever is named as its sender. Not `editheader`: no message changes."""
COMMANDS_MAX: Final = 2_000
"""Commands and tests of a script together."""
_HEADER_NAME = re.compile(r"[!-9;-~]{1,200}")
_VARIABLE = re.compile(r"[a-z_][a-z0-9_]*", re.IGNORECASE | re.ASCII)
_ZONE = re.compile(r"[+-][0-9]{4}")
_CODES = re.compile(r"\$\{(hex|unicode):([ \t\r\n0-9a-fA-F]*+)\}", re.IGNORECASE)


class _Tag(NamedTuple):
    """What follows a tag, and who brings it."""

    takes: str = ""
    """"s" string, "l" strings, "n" number, "" nothing."""
    group: str = ""
    """Of the tags of one group one may stand."""
    requires: str | None = None


class _Call(NamedTuple):
    """What a command or a test takes."""

    takes: str = ""
    """One letter for each argument, as in _Tag; "?" before one that may be missing."""
    tags: Mapping[str, _Tag] = MappingProxyType({})
    requires: str | None = None
    tests: str = ""
    """"" none, "1" one, "*" a list."""
    has_block: bool = False


def _number(name: str, requires: str | None) -> dict[str, _Tag]:
    return {name: _Tag("n", name, requires)}


_MATCH = {
    "comparator": _Tag("s", "comparator"),
    "is": _Tag("", "match"),
    "contains": _Tag("", "match"),
    "matches": _Tag("", "match"),
    "count": _Tag("s", "match", "relational"),
    "value": _Tag("s", "match", "relational"),
}
_PART = {
    "all": _Tag("", "part"),
    "localpart": _Tag("", "part"),
    "domain": _Tag("", "part"),
    "user": _Tag("", "part", "subaddress"),
    "detail": _Tag("", "part", "subaddress"),
}
_FLAGS = {"flags": _Tag("l", "flags", "imap4flags")}
_COPY = {"copy": _Tag("", "copy", "copy")}
_ZONES = {"zone": _Tag("s", "zone"), "originalzone": _Tag("", "zone")}
_CASES = {
    "lower": _Tag("", "40"), "upper": _Tag("", "40"),
    "lowerfirst": _Tag("", "30"), "upperfirst": _Tag("", "30"),
    "quotewildcard": _Tag("", "20"), "length": _Tag("", "10"),
}  # fmt: skip
COMMANDS: Final[dict[str, _Call]] = {
    "require": _Call("l"),
    "if": _Call(tests="1", has_block=True),
    "elsif": _Call(tests="1", has_block=True),
    "else": _Call(has_block=True),
    "stop": _Call(),
    "keep": _Call(tags=_FLAGS),
    "discard": _Call(),
    "redirect": _Call("s", _COPY),
    "fileinto": _Call(
        "s",
        _COPY
        | _FLAGS
        | {
            "create": _Tag("", "create", "mailbox"),
            "specialuse": _Tag("s", "specialuse", "special-use"),
        },
        "fileinto",
    ),
    "set": _Call("ss", _CASES, "variables"),
    "setflag": _Call("?sl", requires="imap4flags"),
    "addflag": _Call("?sl", requires="imap4flags"),
    "removeflag": _Call("?sl", requires="imap4flags"),
    "vacation": _Call(
        "s",
        {
            "days": _Tag("n", "days"), "subject": _Tag("s", "subject"), "from": _Tag("s", "from"),
            "addresses": _Tag("l", "addresses"), "mime": _Tag("", "mime"),
            "handle": _Tag("s", "handle"),
        },
        "vacation",
    ),
}  # fmt: skip
"""Source: RFC 5228 s3, s4, RFC 3894, RFC 5229, RFC 5230, RFC 5232, RFC 5490, RFC 8579"""
TESTS: Final[dict[str, _Call]] = {
    "address": _Call("ll", _MATCH | _PART),
    "allof": _Call(tests="*"),
    "anyof": _Call(tests="*"),
    "body": _Call(
        "l",
        _MATCH
        | {
            "raw": _Tag("", "transform"), "content": _Tag("l", "transform"),
            "text": _Tag("", "transform"),
        },
        "body",
    ),
    "currentdate": _Call("sl", _MATCH | {"zone": _Tag("s", "zone")}, "date"),
    "date": _Call("ssl", _MATCH | _ZONES, "date"),
    "duplicate": _Call(
        "",
        {
            "handle": _Tag("s", "handle"), "header": _Tag("s", "id"), "uniqueid": _Tag("s", "id"),
            "seconds": _Tag("n", "seconds"), "last": _Tag("", "last"),
        },
        "duplicate",
    ),
    "envelope": _Call("ll", _MATCH | _PART, "envelope"),
    "exists": _Call("l"),
    "false": _Call(),
    "hasflag": _Call("?ll", _MATCH, "imap4flags"),
    "header": _Call("ll", _MATCH),
    "mailboxexists": _Call("l", requires="mailbox"),
    "not": _Call(tests="1"),
    "size": _Call("n", {"over": _Tag("", "size"), "under": _Tag("", "size")}),
    "specialuse_exists": _Call("?sl", requires="special-use"),
    "string": _Call("ll", _MATCH, "variables"),
    "true": _Call(),
}  # fmt: skip
"""Source: RFC 5228 s5, RFC 5173, RFC 5229, RFC 5231, RFC 5232, RFC 5233, RFC 5260, RFC 5490,
RFC 7352, RFC 8579"""


class Call(msgspec.Struct, frozen=True):
    """A checked command or test."""

    name: str
    line: int
    tags: dict[str, str | int | tuple[str, ...] | None]
    """Tag -> what follows it."""
    strings: tuple[tuple[str, ...] | None, ...]
    """The positional arguments; None for one that is missing."""
    number: int
    """Of `size`."""
    tests: tuple[Call, ...]
    block: tuple[Call, ...]


class Script(msgspec.Struct, frozen=True):
    """A script that can be run."""

    commands: tuple[Call, ...]
    required: frozenset[str]


def check_script(raw: bytes) -> Script:
    """The script in these octets, ready to run. Cost: linear. Raises: SieveError."""
    nodes = parse_script(raw)
    checker = _Checker()
    at = 0
    while at < len(nodes) and nodes[at].name == "require":
        checker.add_required(nodes[at])
        at += 1
    commands = checker.check_block(nodes[at:])
    return Script(commands, frozenset(checker.required))


class _Checker:
    def __init__(self) -> None:
        self.required: set[str] = set()
        self._count = 0

    def add_required(self, node: Node) -> None:
        """Raises: SieveError: an extension that is not known here."""
        call = self._check_call(node, COMMANDS["require"])
        for name in call.strings[0] or ():
            if name not in EXTENSIONS:
                raise SieveError(node.line, f"the extension {name[:60]!r} is not known here")
            self.required.add(name)

    def check_block(self, nodes: list[Node]) -> tuple[Call, ...]:
        """Commands in a row. Raises: SieveError."""
        found: list[Call] = []
        for node in nodes:
            rules = COMMANDS.get(node.name)
            if rules is None:
                raise SieveError(node.line, f"there is no command {node.name[:60]!r}")
            if node.name == "require":
                raise SieveError(node.line, "'require' stands before all other commands")
            if node.name in ("elsif", "else") and (
                not found or found[-1].name not in ("if", "elsif")
            ):
                raise SieveError(node.line, f"{node.name!r} without an 'if' before it")
            found.append(self._check_call(node, rules))
        return tuple(found)

    def _check_call(self, node: Node, rules: _Call) -> Call:
        self._count += 1
        if self._count > COMMANDS_MAX:
            raise SieveError(node.line, f"a script may have {COMMANDS_MAX} commands and tests")
        self._need(node.name, rules.requires, node.line)
        tags, rest = self._read_tags(node, rules)
        strings, number = self._read_rest(node, rules, rest)
        call = Call(
            node.name, node.line, tags, strings, number,
            self._check_tests(node, rules), self._check_inner(node, rules),
        )  # fmt: skip
        self._check_values(call)
        return call

    def _need(self, name: str, extension: str | None, line: int) -> None:
        if extension is not None and extension not in self.required:
            raise SieveError(line, f"{name!r} needs: require {extension!r}")

    def _read_tags(
        self, node: Node, rules: _Call
    ) -> tuple[dict[str, str | int | tuple[str, ...] | None], list[Argument]]:
        tags: dict[str, str | int | tuple[str, ...] | None] = {}
        groups: dict[str, str] = {}
        rest: list[Argument] = []
        waiting = iter(node.arguments)
        for argument in waiting:
            if argument.tag is None:
                rest.append(argument)
                continue
            if rest:
                raise SieveError(argument.line, f":{argument.tag} stands before other arguments")
            rule = rules.tags.get(argument.tag)
            if rule is None:
                raise SieveError(argument.line, f"{node.name!r} knows no :{argument.tag[:60]}")
            self._need(f":{argument.tag}", rule.requires, argument.line)
            if rule.group in groups:
                text = f":{argument.tag} and :{groups[rule.group]} cannot stand together"
                raise SieveError(argument.line, text)
            groups[rule.group] = argument.tag
            value = next(waiting, None) if rule.takes else None
            tags[argument.tag] = _take(value, rule.takes, f":{argument.tag}", argument.line)
        return tags, rest

    def _read_rest(
        self, node: Node, rules: _Call, rest: list[Argument]
    ) -> tuple[tuple[tuple[str, ...] | None, ...], int]:
        takes = rules.takes
        strings: list[tuple[str, ...] | None] = []
        number = 0
        if takes.startswith("?"):
            takes = takes[1:]
            if len(rest) < len(takes):
                strings.append(None)
                takes = takes[1:]
            else:
                self._need_for_optional(node)
        if len(rest) != len(takes):
            text = f"{node.name!r} takes {len(takes)} arguments, not {len(rest)}"
            raise SieveError(node.line, text)
        for argument, letter in zip(rest, takes, strict=True):
            value = _take(argument, letter, node.name, node.line)
            if isinstance(value, int):
                number = value
            elif value is not None:
                strings.append((value,) if isinstance(value, str) else value)
        return tuple(strings), number

    def _need_for_optional(self, node: Node) -> None:
        if node.name != "specialuse_exists":
            self._need(f"a variable in {node.name}", "variables", node.line)

    def _check_tests(self, node: Node, rules: _Call) -> tuple[Call, ...]:
        is_right = {
            "": not node.tests,
            "1": len(node.tests) == 1 and not node.has_test_list,
            "*": node.has_test_list,
        }
        if not is_right[rules.tests]:
            wanted = {"": "no test", "1": "one test", "*": "tests in parentheses"}[rules.tests]
            raise SieveError(node.line, f"{node.name!r} takes {wanted}")
        found = []
        for test in node.tests:
            inner = TESTS.get(test.name)
            if inner is None:
                raise SieveError(test.line, f"there is no test {test.name[:60]!r}")
            found.append(self._check_call(test, inner))
        return tuple(found)

    def _check_inner(self, node: Node, rules: _Call) -> tuple[Call, ...]:
        if (node.block is not None) != rules.has_block:
            text = "takes a block" if rules.has_block else "ends with ';' and takes no block"
            raise SieveError(node.line, f"{node.name!r} {text}")
        return self.check_block(node.block or [])

    # -- values ----------------------------------------------------------------------------------
    def _check_values(self, call: Call) -> None:
        comparator = call.tags.get("comparator")
        if comparator is not None and comparator not in COMPARATORS:
            raise SieveError(call.line, f"the comparator {comparator!r} is not known here")
        if comparator == "i;ascii-numeric":
            self._need(comparator, "comparator-i;ascii-numeric", call.line)
            if "contains" in call.tags or "matches" in call.tags:
                raise SieveError(call.line, "numbers can neither contain nor match")
        for name in ("count", "value"):
            if name in call.tags and str(call.tags[name]).lower() not in RELATIONS:
                raise SieveError(call.line, f":{name} takes gt, ge, lt, le, eq or ne")
        check = _CHECKS.get(call.name)
        if check is not None:
            check(call)


def _take(
    argument: Argument | None, letter: str, name: str, line: int
) -> str | int | tuple[str, ...] | None:
    if not letter:
        return None
    wanted = {"s": "a string", "l": "strings", "n": "a number"}[letter]
    value: str | int | tuple[str, ...] | None = None
    if argument is not None and letter == "n":
        value = argument.number
    elif argument is not None and argument.strings is not None:
        if letter == "l":
            value = argument.strings
        elif not argument.is_list:
            value = argument.strings[0]
    if value is None:
        raise SieveError(line, f"{name} takes {wanted}")
    return value


def _check_headers(call: Call) -> None:
    for name in call.strings[0] or ():
        if "${" not in name and not _HEADER_NAME.fullmatch(name):
            raise SieveError(call.line, f"{name[:60]!r} is not the name of a header field")


def _check_size(call: Call) -> None:
    if not call.tags:
        raise SieveError(call.line, "'size' takes :over or :under")


def _check_set(call: Call) -> None:
    for name in call.strings[0] or ():
        if not _VARIABLE.fullmatch(name):
            raise SieveError(call.line, f"{name[:60]!r} is not the name of a variable")


def _check_zone(call: Call) -> None:
    zone = call.tags.get("zone")
    if zone is not None and not _ZONE.fullmatch(str(zone)):
        raise SieveError(call.line, ":zone takes an offset such as +0100")
    if call.name == "date":
        _check_headers(call)


_CHECKS: dict[str, Callable[[Call], None]] = {
    "address": _check_headers,
    "exists": _check_headers,
    "header": _check_headers,
    "size": _check_size,
    "set": _check_set,
    "date": _check_zone,
    "currentdate": _check_zone,
}


def decode_codes(text: str) -> str:
    """`${hex: 24 24}` and `${unicode: 40}` as what they stand for. Source: RFC 5228 s2.4.2.4"""

    def decode(match: re.Match[str]) -> str:
        words = match[2].split()
        try:
            if match[1].lower() == "hex" and all(len(word) <= 2 for word in words):
                return bytes(int(word, 16) for word in words).decode("utf-8", "replace") or match[0]
            codes = [int(word, 16) for word in words if len(word) <= 8]
            if any(0xD800 <= code <= 0xDFFF for code in codes) or match[1].lower() == "hex":
                return match[0]
            return "".join(map(chr, codes)) or match[0]
        except (ValueError, OverflowError):
            return match[0]

    return _CODES.sub(decode, text)
