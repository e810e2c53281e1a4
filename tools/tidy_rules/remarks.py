"""Remarks that switch a check off or put work off: each needs a reason, and none may be added."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator

from tools.tidy_rules.ratchet import Excess
from tools.tidy_rules.tree import Finding, Source, Tree, dotted

SCOPES = ("src", "tools", "bench", "tests")
BROAD = frozenset({"Exception", "BaseException"})

_TYPE_IGNORE = re.compile(r"#\s*type:\s*ignore(?P<code>\[[\w, -]+\])?(?P<rest>.*)")
_NOQA = re.compile(r"#\s*noqa(?P<code>:\s*[A-Z]+[0-9]+(?:[, ]+[A-Z]+[0-9]+)*)?(?P<rest>.*)")
_TODO = re.compile(r"\b(TODO|FIXME|XXX)\b(?P<issue>\s*\(?#[0-9]+)?")


def check_remarks(tree: Tree) -> Iterator[Finding]:
    """Remarks without the code or the reason they owe."""
    for source in tree.python("src/", "tools/", "bench/"):
        for line, text in source.comments:
            yield from _check_comment(source, line, text)
        for node in _broad_excepts(source):
            if not _has_reason(source, node):
                what = "broad except without a reason"
                yield Finding(
                    source.path,
                    node.lineno,
                    what,
                    "catch what can happen, or say why in a comment here",
                )


def list_remark_excesses(tree: Tree) -> Iterator[Excess]:
    """How many remarks of each kind each part of the tree has; the ratchet says how many may be."""
    counts: Counter[str] = Counter()
    first: dict[str, tuple[str, int]] = {}
    for source in tree.python(*(f"{scope}/" for scope in SCOPES)):
        for kind, line in _remarks(source):
            place = f"{kind} in {source.path.partition('/')[0]}"
            counts[place] += 1
            first.setdefault(place, (source.path, line))
    for place, count in sorted(counts.items()):
        path, line = first[place]
        finding = Finding(
            path, line, f"{count} times {place}", "mend the cause; this number may only fall"
        )
        yield Excess("remarks", place, count, finding)


def _remarks(source: Source) -> Iterator[tuple[str, int]]:
    for line, text in source.comments:
        for kind, pattern in (("type-ignore", _TYPE_IGNORE), ("noqa", _NOQA), ("todo", _TODO)):
            if pattern.search(text):
                yield kind, line
    for node in _broad_excepts(source):
        yield "broad-except", node.lineno


def _check_comment(source: Source, line: int, text: str) -> Iterator[Finding]:
    for name, pattern in (("type: ignore", _TYPE_IGNORE), ("noqa", _NOQA)):
        if (match := pattern.search(text)) is None:
            continue
        if not match["code"]:
            yield Finding(
                source.path, line, f"{name} without a code", "name the one rule that is wrong here"
            )
        elif len(match["rest"].strip(" #:-")) < 3:
            yield Finding(
                source.path,
                line,
                f"{name} without a reason",
                "say after it why the rule is wrong here",
            )
    if (todo := _TODO.search(text)) and not todo["issue"]:
        yield Finding(
            source.path, line, f"{todo[1]} without an issue", "do it now, or write TODO(#number)"
        )


def _broad_excepts(source: Source) -> Iterator[ast.ExceptHandler]:
    for node in source.nodes:
        if isinstance(node, ast.ExceptHandler) and (node.type is None or _is_broad(node.type)):
            yield node


def _is_broad(node: ast.expr) -> bool:
    if isinstance(node, ast.Tuple):
        return any(_is_broad(item) for item in node.elts)
    return dotted(node).rpartition(".")[2] in BROAD


def _has_reason(source: Source, node: ast.ExceptHandler) -> bool:
    """A comment on the line above, on the line itself, or before or on the first statement."""
    last = node.body[0].lineno
    near = source.lines[max(0, node.lineno - 2) : last]
    return any(
        "#" in line and not re.fullmatch(r".*#\s*noqa[^ ]*( [A-Z0-9, ]+)?", line) for line in near
    )
