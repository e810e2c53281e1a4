"""Words that may not be names: empty ones anywhere, and IMAP's words where JMAP's belong."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tools.tidy_rules.tree import Finding, Source, Tree

EMPTY_WORDS = frozenset({"utils", "util", "helpers", "helper", "common", "manager", "misc"})
FOREIGN_WORDS = {
    "flag": "keyword", "flags": "keywords",
    "folder": "mailbox", "folders": "mailboxes",
    "label": "mailbox or keyword", "labels": "mailboxes or keywords",
}  # fmt: skip
# Where the provider's own words are the right ones; `labels` is also what a metric has.
FOREIGN_WORDS_ALLOWED = (
    "src/tindra/wire/imap",
    "src/tindra/wire/sieve",
    "src/tindra/wire/mime/charset",  # "charset label" is the term of the encoding standard
    "src/tindra/outside/imap",
    "src/tindra/outside/gmail",
    "src/tindra/sync",
    "src/tindra/app/demo",
    "src/tindra/app/metrics",
    "src/tindra/base/metrics",
    "src/tindra/server/metrics",
)
# A folder of the file system is a folder, and what follows a command is a flag.
ROOM_WORDS = {
    "src/tindra/store/": frozenset({"folder", "folders"}),
    "src/tindra/app/": frozenset({"folder", "folders", "flag", "flags"}),
}

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")


def words_of(identifier: str) -> list[str]:
    """The lower-case words of a snake_case or CamelCase name."""
    return [word.lower() for word in _WORD.findall(identifier)]


def check_names(tree: Tree) -> Iterator[Finding]:
    """Names that say nothing, or say it in another protocol's words."""
    for source in tree.python("src/", "tools/", "tests/", "bench/"):
        yield from _check_module_name(source)
        yield from _check_empty_words(source)
    for source in tree.python("src/tindra/"):
        if not source.path.startswith(FOREIGN_WORDS_ALLOWED):
            yield from _check_foreign_words(source)


def _check_module_name(source: Source) -> Iterator[Finding]:
    for part in source.path.removesuffix(".py").split("/"):
        for word in EMPTY_WORDS.intersection(words_of(part)):
            yield Finding(source.path, 1, f"'{word}' in a module name", "name what it holds")


def _check_empty_words(source: Source) -> Iterator[Finding]:
    for node in source.nodes:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for word in sorted(EMPTY_WORDS.intersection(words_of(node.name))):
                what = f"'{word}' in the name {node.name}"
                yield Finding(source.path, node.lineno, what, "name what it is or does")


def _check_foreign_words(source: Source) -> Iterator[Finding]:
    seen: set[tuple[int, str]] = set()
    fine = {
        word for room, words in ROOM_WORDS.items() if source.path.startswith(room) for word in words
    }
    for line, name in _defined_names(source):
        for word in words_of(name):
            # A constant in capitals is a piece of a grammar, whose words are its own standard's.
            is_grammar = name.isupper()
            if word in FOREIGN_WORDS and not (is_grammar or word in fine or (line, name) in seen):
                seen.add((line, name))
                what = f"the identifier {name} uses the word '{word}'"
                yield Finding(source.path, line, what, f"say {FOREIGN_WORDS[word]}, JMAP's word")


def _defined_names(source: Source) -> Iterator[tuple[int, str]]:
    """Every name the module makes: definitions, parameters, targets, fields."""
    for node in source.nodes:
        match node:
            case (
                ast.ClassDef(name=name)
                | ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
            ):
                yield node.lineno, name
            case ast.arg(arg=name):
                yield node.lineno, name
            case ast.Name(id=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case _:
                pass
