"""The files of the project as the rules see them, and what a rule says.

Only this module reads the disk. Paths inside are text relative to the root, with forward slashes.
"""

from __future__ import annotations

import ast
import io
import subprocess
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

SKIPPED_FOLDERS = frozenset({
    ".git", ".venv", "node_modules", "__pycache__", "dist", "build", ".artifacts", ".data",
    ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".import_linter_cache",
})  # fmt: skip
TEXT_SUFFIXES = frozenset({
    "", ".py", ".md", ".toml", ".txt", ".tsv", ".json", ".yml", ".yaml", ".sh", ".sql", ".cfg",
    ".ts", ".js", ".svelte", ".css", ".html", ".svg", ".ini", ".conf", ".service", ".npmrc",
})  # fmt: skip


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is wrong, where, and what to do instead."""

    path: str
    line: int
    what: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}; {self.instead}"


@dataclass(frozen=True)
class Source:
    """One file. `tree` is None for what is not Python, or not yet parseable."""

    path: str
    data: bytes

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def suffix(self) -> str:
        return "." + self.name.rpartition(".")[2] if "." in self.name else ""

    @property
    def is_python(self) -> bool:
        return self.suffix == ".py"

    @cached_property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def tree(self) -> ast.Module | None:
        if not self.is_python:
            return None
        try:
            return ast.parse(self.text)
        except (SyntaxError, ValueError):
            return None

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of the module; none where it is not Python."""
        return list(ast.walk(self.tree)) if self.tree else []

    @cached_property
    def comments(self) -> list[tuple[int, str]]:
        """Line and text of each comment of a Python file."""
        if self.tree is None:
            return []
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return [
            (token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT
        ]


class Tree:
    """All files of the project, by path."""

    def __init__(self, sources: list[Source]) -> None:
        self.sources = sorted(sources, key=lambda source: source.path)
        self.by_path = {source.path: source for source in self.sources}

    def under(self, *prefixes: str) -> Iterator[Source]:
        """The files below the given folders, in path order."""
        return (source for source in self.sources if source.path.startswith(prefixes))

    def python(self, *prefixes: str) -> Iterator[Source]:
        """The Python files below the given folders, in path order."""
        return (source for source in self.under(*prefixes) if source.is_python)

    def text(self, path: str) -> str:
        """The text of one file, empty where there is none."""
        source = self.by_path.get(path)
        return source.text if source else ""


def load_tree(root: Path) -> Tree:
    """The files that git knows or would add, or every file where there is no git."""
    return Tree(
        [
            Source(path, (root / path).read_bytes())
            for path in _list_paths(root)
            if (root / path).is_file() and not (root / path).is_symlink()
        ]
    )


def _list_paths(root: Path) -> list[str]:
    command = [
        "git",
        "-C",
        str(root),
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    if (root / ".git").exists():
        done = subprocess.run(command, capture_output=True, check=True)
        return sorted({name for name in done.stdout.decode().split("\0") if name})
    return sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if not SKIPPED_FOLDERS.intersection(path.relative_to(root).parts)
    )


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a chain of attributes, empty where the chain starts with something else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([node.id, *reversed(parts)])


def imported_names(nodes: Iterable[ast.AST]) -> dict[str, str]:
    """What each imported name of a module stands for: `{"dt": "datetime.datetime"}`."""
    names: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.partition(".")[0]
                names[alias.asname or root] = alias.name if alias.asname else root
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names
