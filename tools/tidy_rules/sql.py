"""SQL lives in `store/` only, and every statement stays inside one account.

A table is an account table unless its CREATE TABLE carries `-- directory: <why>`. A statement that
names an account table must name account_id, or say `-- every account: <why>`; the primary key of an
account table starts with account_id.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tools.tidy_rules.tree import Finding, Source, Tree

STORE = "src/tindra/store/"
SEARCH = "src/tindra/store/search/"
# The database's own, and functions that read like tables.
OTHER_TABLES = frozenset(
    {
        "sqlite_master",
        "sqlite_schema",
        "pragma_table_info",
        "json_each",
        "json_tree",
        "own_search_table",
        "SET",
    }
)

_NAME = r"(?:[\w]+\.|\{\}\.)?([\w]+|\{\}[\w]*)"
_IS_SQL = re.compile(
    r"\bSELECT\b.+\bFROM\b|\bINSERT\s+(?:OR\s+\w+\s+)?INTO\b|\bREPLACE\s+INTO\b|\bUPDATE\s+[\w.{}]+\s+SET\b"
    r"|\bDELETE\s+FROM\b|\b(?:CREATE|DROP|ALTER)\s+(?:\w+\s+){0,2}(?:TABLE|INDEX)\b|\bWITH\s+\w+.*\bAS\s*\(",
    re.DOTALL,
)
_TABLE = re.compile(rf"\b(?:FROM|JOIN|INTO|UPDATE|TABLE(?:\s+IF\s+(?:NOT\s+)?EXISTS)?)\s+{_NAME}")
_INDEX_TABLE = re.compile(rf"\bINDEX\b[^;]*?\bON\s+{_NAME}")
_CTE = re.compile(
    r"(?:\bWITH\s+(?:RECURSIVE\s+)?|,\s*)(\w+)\s*(?:\([^()]*\))?\s+AS\s*\(", re.IGNORECASE
)
_CREATE_TABLE = re.compile(rf"\bCREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?{_NAME}", re.IGNORECASE)
_PRIMARY_KEY = re.compile(r"\bPRIMARY\s+KEY\s*\(\s*(\w+)", re.IGNORECASE)
_DIRECTORY = re.compile(r"--\s*directory\b", re.IGNORECASE)
_EVERY_ACCOUNT = re.compile(r"--\s*every account:\s*\S")


@dataclass(frozen=True)
class Statement:
    """One SQL statement, where it starts, and the comments that belong to it."""

    path: str
    line: int
    text: str

    @property
    def tables(self) -> set[str]:
        bare = re.sub(r"--[^\n]*", "", self.text)
        # Each account has a search table of its own: docs/decisions/0004-search-file.md.
        bare = re.sub(r"\b(?:search\.)?fts_\{\}|\bsearch\.\{\}", "own_search_table", bare)
        if self.path.startswith(SEARCH):
            bare = re.sub(r"(?<!\w)\{\}(?!\w)", "own_search_table", bare)
        named = set(_TABLE.findall(bare)) | set(_INDEX_TABLE.findall(bare))
        return named - set(_CTE.findall(bare)) - OTHER_TABLES


def check_sql(tree: Tree) -> Iterator[Finding]:
    """SQL in the wrong room, and statements that could reach past their account."""
    for source in tree.python("src/tindra/"):
        if not source.path.startswith(STORE):
            for line, _text in _sql_strings(source):
                yield Finding(
                    source.path,
                    line,
                    "SQL outside store/",
                    "add a method to the port and its adapters",
                )
    statements = [statement for source in tree.under(STORE) for statement in _statements(source)]
    directory = {
        name for name, statement in _created(statements) if _DIRECTORY.search(statement.text)
    }
    for statement in statements:
        yield from _check_statement(statement, directory)


def _check_statement(statement: Statement, directory: set[str]) -> Iterator[Finding]:
    if _EVERY_ACCOUNT.search(statement.text) or _DIRECTORY.search(statement.text):
        return
    tables = statement.tables - directory
    if tables and "account_id" not in statement.text:
        what = f"the statement names {', '.join(sorted(tables))} but not account_id"
        yield Finding(
            statement.path,
            statement.line,
            what,
            "add it, or say `-- every account: why` in the statement",
        )
    for name, _created_by in _created([statement]):
        key = _PRIMARY_KEY.search(statement.text)
        if key and key[1] != "account_id" and name not in directory:
            what = f"the primary key of {name} starts with {key[1]}"
            yield Finding(
                statement.path, statement.line, what, "start it with account_id, the shard key"
            )


def _created(statements: list[Statement]) -> Iterator[tuple[str, Statement]]:
    for statement in statements:
        if match := _CREATE_TABLE.search(statement.text):
            yield match[1], statement


def _statements(source: Source) -> Iterator[Statement]:
    texts = [(1, source.text)] if source.suffix == ".sql" else list(_sql_strings(source))
    for start, text in texts:
        line = start
        for part in _split(text):
            if _IS_SQL.search(part):
                lead = len(part) - len(part.lstrip())
                yield Statement(source.path, line + part[:lead].count("\n"), part)
            line += part.count("\n")


def _split(text: str) -> list[str]:
    """Statements of a script; a comment beside a semicolon stays with the statement it ends."""
    return re.findall(r"(?:--[^\n]*|[^;])+(?:;(?:[ \t]*--[^\n]*)?)?", text)


def _sql_strings(source: Source) -> Iterator[tuple[int, str]]:
    """Line and text of each string that is SQL; what is interpolated reads as {}."""
    if source.tree is None:
        return
    inner: set[int] = set()
    for node in source.nodes:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            inner.add(id(node.value))  # a docstring
        text = _text_of(node) if isinstance(node, ast.expr) and id(node) not in inner else None
        if text is None:
            continue
        inner.update(id(child) for child in ast.walk(node))
        if _IS_SQL.search(text):
            yield getattr(node, "lineno", 1), text


def _text_of(node: ast.AST) -> str | None:
    """The text of a literal, an f-string or a sum of them; None for anything else."""
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_text_of(value) or "{}" for value in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            first, second = _text_of(left), _text_of(right)
            return None if first is None and second is None else (first or "{}") + (second or "{}")
        case _:
            return None
