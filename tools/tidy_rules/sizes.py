"""Size budgets: functions, modules, parameters, nesting, the core, folders."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

from tools.tidy_rules.ratchet import Excess
from tools.tidy_rules.tree import Finding, Source, Tree

FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 600
TEST_MODULE_LINES_MAX = 1_000  # a table of cases is long and still easy to read
PARAMETERS_MAX = 6
NESTING_MAX = 4
CORE_LINES_MAX = 2_500
FOLDER_FILES_MAX = 20

CODE = ("src/tindra/", "tools/", "bench/", "tests/")
WEB_CODE = ("web/src/",)
WEB_SUFFIXES = frozenset({".ts", ".svelte", ".css"})
CORE = "src/tindra/core/"

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)


def list_size_excesses(tree: Tree) -> Iterator[Excess]:
    """Everything above its budget."""
    for source in tree.python(*CODE):
        yield from _module_excess(source)
        yield from _function_excesses(source)
    for source in tree.under(*WEB_CODE):
        if source.suffix in WEB_SUFFIXES:
            yield from _module_excess(source)
    yield from _core_excess(tree)
    yield from _folder_excesses(tree)


def _module_excess(source: Source) -> Iterator[Excess]:
    limit = TEST_MODULE_LINES_MAX if source.path.startswith("tests/") else MODULE_LINES_MAX
    count = len(source.lines)
    if count > limit:
        finding = Finding(
            source.path, limit, f"module of {count} lines, at most {limit}", "split it by subject"
        )
        yield Excess("module_lines", source.path, count, finding)


def _function_excesses(source: Source) -> Iterator[Excess]:
    if source.tree is None:
        return
    for name, function in _functions(source.tree, ""):
        place = f"{source.path}::{name}"
        for measure, figure, limit, noun, instead in (
            (
                "function_lines",
                _lines(function),
                FUNCTION_LINES_MAX,
                "lines",
                "split it into named steps",
            ),
            (
                "parameters",
                _parameters(function),
                PARAMETERS_MAX,
                "parameters",
                "pass one value that holds them",
            ),
            (
                "nesting",
                _nesting(function.body),
                NESTING_MAX,
                "levels of nesting",
                "return early or split it",
            ),
        ):
            if figure > limit:
                what = f"{name} has {figure} {noun}, at most {limit}"
                yield Excess(
                    measure, place, figure, Finding(source.path, function.lineno, what, instead)
                )


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, _Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Function):
            yield prefix + child.name, child
            yield from _functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        else:
            yield from _functions(child, prefix)


def _lines(function: _Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _parameters(function: _Function) -> int:
    arguments = function.args
    named = [arg.arg for arg in arguments.posonlyargs + arguments.args + arguments.kwonlyargs]
    return len([name for name in named if name not in {"self", "cls"}])


def _nesting(body: list[ast.stmt]) -> int:
    return max((_depth(statement) for statement in body), default=0)


def _depth(statement: ast.stmt) -> int:
    """Blocks in blocks; an `elif` is no deeper than its `if`, a nested function starts again."""
    if not isinstance(statement, _BLOCKS):
        return 0
    inner: list[ast.stmt] = []
    beside = 0
    for name in ("body", "finalbody"):
        inner += getattr(statement, name, [])
    for handler in getattr(statement, "handlers", []):
        inner += handler.body
    for case in getattr(statement, "cases", []):
        inner += case.body
    otherwise: list[ast.stmt] = getattr(statement, "orelse", [])
    if isinstance(statement, ast.If) and len(otherwise) == 1 and isinstance(otherwise[0], ast.If):
        beside = _depth(otherwise[0])
    else:
        inner += otherwise
    return max(1 + _nesting(inner), beside)


def _core_excess(tree: Tree) -> Iterator[Excess]:
    count = sum(len(source.lines) for source in tree.python(CORE))
    if count > CORE_LINES_MAX:
        what = f"the core has {count} lines, at most {CORE_LINES_MAX}"
        finding = Finding(CORE, 1, what, "move what not every type needs into features/")
        yield Excess("core_lines", CORE, count, finding)


def _folder_excesses(tree: Tree) -> Iterator[Excess]:
    counts = Counter(
        source.folder
        for source in tree.under("src/", "tools/", "tests/", "bench/")
        if source.name != "__init__.py"
    )
    for folder, count in sorted(counts.items()):
        if count > FOLDER_FILES_MAX:
            what = f"folder of {count} files, at most {FOLDER_FILES_MAX}"
            yield Excess(
                "folder_files",
                folder,
                count,
                Finding(folder, 1, what, "group them in folders by subject"),
            )
