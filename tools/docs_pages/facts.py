"""What the code has that a reader of the docs must find: read from the syntax tree, nothing is run.

Only `list_commands` imports the product, because the command line is built at run time.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tools.tidy_rules.tree import Source, Tree, dotted, imported_names

PRODUCT = "src/tindra/"
DEMO = "src/tindra/app/demo/"
"""A mail provider to try things with: no operator runs into its bounds."""
CONFIG_PATH = "src/tindra/app/config.py"
CLI_MODULE = "tindra.app.cli"
METRIC_KINDS = frozenset({"Counter", "Gauge", "Histogram", "Summary", "Info", "Enum"})
ERROR_CALLS = frozenset({"RequestError", "MethodError", "SetError"})

_CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*")
_SIGNS: dict[str | None, str] = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
_BOUND = re.compile(r"_?[A-Z0-9_]+_(?:MAX|MIN)")
_KIND = re.compile(r"[a-z][A-Za-z]+|urn:[\w:-]+")


@dataclass(frozen=True)
class Fact:
    """One named thing, where it is, and what the code says about it."""

    name: str
    path: str
    text: str = ""
    value: str = ""
    more: tuple[str, ...] = field(default=())


def list_limits(tree: Tree) -> list[Fact]:
    """Every constant of a `limits` module, and every other bound named ..._MAX or ..._MIN, but for
    those of the demo."""
    return [
        fact
        for source in tree.python(PRODUCT)
        if not source.path.startswith(DEMO)
        for fact in _constants(source)
        if source.name == "limits.py" or _BOUND.fullmatch(fact.name)
    ]


def list_metrics(tree: Tree) -> list[Fact]:
    """Every metric made by a literal name: value is its kind, more are its labels.

    It may be a call of the metrics library, or a row `Metric(name, kind, help, labels)` of a table
    from which the metrics are made.
    """
    found = []
    for source in tree.python(PRODUCT):
        for node in source.nodes:
            if isinstance(node, ast.Call) and node.args and (name := _literal(node.args[0])):
                called = dotted(node.func).rpartition(".")[2]
                if called in METRIC_KINDS:
                    text = _literal_at(node, 1) or _keyword(node, "documentation")
                    found.append(Fact(name, source.path, text, called.lower(), _names_of(node, 2)))
                elif called == "Metric":
                    kind, text = _literal_at(node, 1), _literal_at(node, 2)
                    found.append(Fact(name, source.path, text, kind, _names_of(node, 3)))
    return sorted(found, key=lambda fact: fact.name)


def list_settings(tree: Tree) -> list[Fact]:
    """Every field of the classes in app/config: value is its default, more are class and type."""
    source = tree.by_path.get(CONFIG_PATH)
    if source is None or source.tree is None:
        return []
    return [
        fact
        for node in source.tree.body
        if isinstance(node, ast.ClassDef) and _is_record(node)
        for fact in _fields(source, node)
    ]


def find_environment_prefix(tree: Tree) -> str:
    """What the name of a setting follows in the environment; empty where that is not offered."""
    source = tree.by_path.get(CONFIG_PATH)
    constants = _constants(source) if source else ()
    return next((f.value.strip("'\"") for f in constants if f.name == "ENVIRONMENT_PREFIX"), "")


def list_error_classes(tree: Tree) -> list[Fact]:
    """Every exception class of the product with the first sentence of its docstring."""
    classes = {
        node.name: (source, node)
        for source in tree.python(PRODUCT)
        for node in source.nodes
        if isinstance(node, ast.ClassDef)
    }
    return [
        Fact(name, source.path, _sentence(ast.get_docstring(node) or ""), _base(node))
        for name, (source, node) in sorted(classes.items())
        if _is_exception(name, classes, 0)
    ]


def list_error_kinds(tree: Tree) -> list[Fact]:
    """Every error type a client can see, with the class it comes in; more are the rooms."""
    found: dict[tuple[str, str], set[str]] = {}
    for source in tree.python(PRODUCT):
        names = imported_names(source.nodes)
        for node in source.nodes:
            if isinstance(node, ast.Call) and node.args:
                called = dotted(node.func)
                error = names.get(called, called).rpartition(".")[2]
                kind = _literal(node.args[0])
                if error in ERROR_CALLS and _KIND.fullmatch(kind):
                    room = source.path.removeprefix(PRODUCT).partition("/")[0]
                    found.setdefault((kind, error), set()).add(room)
    return [
        Fact(kind, PRODUCT, value=error, more=tuple(sorted(rooms)))
        for (kind, error), rooms in sorted(found.items())
    ]


def list_capabilities(tree: Tree) -> list[Fact]:
    """Every capability of our own that the code names."""
    found: dict[str, str] = {}
    for source in tree.python(PRODUCT):
        for name in re.findall(r"urn:tindra:params:jmap:([a-z]+)", source.text):
            found.setdefault(name, source.path)
    return [Fact(name, path) for name, path in sorted(found.items())]


def list_commands() -> list[Fact]:
    """Every command of `tindra` with its help; more are its options."""
    try:
        module = importlib.import_module(CLI_MODULE)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("tindra"):
            return []
        raise
    cyclopts = importlib.import_module("cyclopts")
    for value in vars(module).values():
        if isinstance(value, cyclopts.App):
            return sorted(_walk_commands(value, ""), key=lambda fact: fact.name)
    return []


def _walk_commands(app: Any, prefix: str) -> Iterator[Fact]:
    """The commands of a cyclopts.App, which is a mapping of names to apps, and of those in turn."""
    for name in app:
        if name.startswith("-"):
            continue
        command = app[name]
        function = command.default_command
        text = inspect.getdoc(function) if function else str(command.help)
        options = tuple(inspect.signature(function).parameters) if function else ()
        yield Fact(f"{prefix}{name}", CLI_MODULE, _sentence(text or ""), more=options)
        yield from _walk_commands(command, f"{prefix}{name} ")


def _constants(source: Source) -> Iterator[Fact]:
    """Module-level constants, with the docstring below or the comment beside each."""
    if source.tree is None:
        return
    body = source.tree.body
    for statement, following in pairwise([*body, None]):
        if statement is None:
            break
        name, value = _assigned(statement)
        if name and value is not None and _CONSTANT.fullmatch(name):
            text = _docstring(following) or _comment(source, statement)
            yield Fact(name, source.path, text, ast.unparse(value))


def _fields(source: Source, node: ast.ClassDef) -> Iterator[Fact]:
    for statement, following in pairwise([*node.body, None]):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        kind, described = _annotated(statement.annotation)
        if kind.startswith("ClassVar"):
            continue
        default = ast.unparse(statement.value) if statement.value else "(must be given)"
        below = _docstring(following) or _comment(source, statement)
        text = f"{described}. {below}" if described and below else described or below
        yield Fact(statement.target.id, source.path, text, default, (node.name, kind))


def _annotated(annotation: ast.expr) -> tuple[str, str]:
    """The type in `Annotated[type, Meta(ge=..., description=...)]`, its bounds, and the text."""
    match annotation:
        case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[kind, *rest])):
            calls = [item for item in rest if isinstance(item, ast.Call)]
            bounds = [
                f"{_SIGNS[item.arg]} {ast.unparse(item.value)}"
                for call in calls
                for item in call.keywords
                if item.arg in _SIGNS
            ]
            texts = [_keyword(call, "description") for call in calls]
            return " ".join([ast.unparse(kind), *bounds]), " ".join(texts)
        case _:
            return ast.unparse(annotation), ""


def _assigned(statement: ast.stmt) -> tuple[str, ast.expr | None]:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=value):
            return name, value
        case _:
            return "", None


def _docstring(statement: ast.stmt | None) -> str:
    match statement:
        case ast.Expr(value=ast.Constant(value=str() as text)):
            return " ".join(text.split())
        case _:
            return ""


def _comment(source: Source, statement: ast.stmt) -> str:
    """The comment at the end of the statement, or the block of comments right above it."""
    beside = source.lines[(statement.end_lineno or statement.lineno) - 1].partition("  # ")[2]
    if beside:
        return beside.strip()
    block: list[str] = []
    for line in reversed(source.lines[: statement.lineno - 1]):
        if not line.strip().startswith("# ") or "---" in line:
            break
        block.insert(0, line.strip().removeprefix("# "))
    return " ".join(block)


def _is_record(node: ast.ClassDef) -> bool:
    names = [dotted(base) for base in node.bases]
    names += [
        dotted(item.func if isinstance(item, ast.Call) else item) for item in node.decorator_list
    ]
    return any(name.rpartition(".")[2] in {"Struct", "dataclass"} for name in names)


def _is_exception(name: str, classes: dict[str, tuple[Source, ast.ClassDef]], depth: int) -> bool:
    if name not in classes or depth > 10:
        return name in {"Exception", "ValueError", "RuntimeError", "OSError", "LookupError"}
    bases = [dotted(base).rpartition(".")[2] for base in classes[name][1].bases]
    return any(_is_exception(base, classes, depth + 1) for base in bases if base != name)


def _base(node: ast.ClassDef) -> str:
    return ", ".join(dotted(base).rpartition(".")[2] for base in node.bases)


def _literal(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _keyword(call: ast.Call, name: str) -> str:
    return next((_literal(item.value) for item in call.keywords if item.arg == name), "")


def _literal_at(call: ast.Call, place: int) -> str:
    return _literal(call.args[place]) if place < len(call.args) else ""


def _names_of(call: ast.Call, place: int) -> tuple[str, ...]:
    """The label names, given at `place` or by name."""
    lists = [
        *call.args[place : place + 1],
        *(item.value for item in call.keywords if item.arg in {"labels", "labelnames"}),
    ]
    return tuple(
        _literal(element)
        for item in lists
        if isinstance(item, ast.List | ast.Tuple)
        for element in item.elts
    )


def _sentence(text: str) -> str:
    """The first paragraph on one line."""
    return " ".join(text.strip().partition("\n\n")[0].split())
