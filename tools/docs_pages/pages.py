"""The generated pages as text: what goes where, as tables a reader can search."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tools.docs_pages import facts
from tools.tidy_rules.citations import (
    INDEX_PATH,
    Citation,
    Row,
    list_citations,
    parse_index,
)
from tools.tidy_rules.tree import Tree

WRITTEN_BY = "<!-- Written by `make docs` from the code; changes made here are lost. -->\n"
EVERYWHERE = 12  # files named in one cell of the coverage page before it says how many more


def build_pages(tree: Tree) -> dict[str, str]:
    """Every generated page by path. A page whose part of the code is not there yet is left out."""
    builders: dict[str, Callable[[Tree], str]] = {
        "docs/operate/limits.md": _limits_page,
        "docs/operate/metrics.md": _metrics_page,
        "docs/operate/settings.md": _settings_page,
        "docs/operate/commands.md": _commands_page,
        "docs/protocol/errors.md": _errors_page,
        "docs/protocol/coverage.md": _coverage_page,
    }
    pages = {path: build(tree) for path, build in builders.items()}
    return {path: text for path, text in pages.items() if text}


def _page(title: str, lead: str, *parts: str) -> str:
    return (
        f"# {title}\n\n{WRITTEN_BY}\n{lead}\n\n"
        + "\n\n".join(part for part in parts if part)
        + "\n"
    )


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(heads)
    lines = [columns, ["---"] * len(columns), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _where(path: str) -> str:
    return _code(path.removeprefix("src/tindra/"))


def _limits_page(tree: Tree) -> str:
    found = facts.list_limits(tree)
    if not found:
        return ""
    parts = []
    for path in dict.fromkeys(fact.path for fact in found):
        rows = [(_code(f.name), _code(f.value), f.text) for f in found if f.path == path]
        parts.append(f"## {_where(path)}\n\n{_table(('limit', 'value', 'why'), rows)}")
    lead = "Every bound of the product. A name ends in its unit; a value is written as in the code."
    return _page("Limits", lead, *parts)


def _metrics_page(tree: Tree) -> str:
    found = facts.list_metrics(tree)
    if not found:
        return ""
    rows = [(_code(f.name), f.value, ", ".join(map(_code, f.more)), f.text) for f in found]
    lead = "What `/metrics` shows. No label carries an address or the text of a mail."
    return _page("Metrics", lead, _table(("metric", "kind", "labels", "meaning"), rows))


def _settings_page(tree: Tree) -> str:
    found = facts.list_settings(tree)
    if not found:
        return ""
    prefix = facts.find_environment_prefix(tree)
    parts = []
    for group in dict.fromkeys(fact.more[0] for fact in found):
        rows = [
            (
                _code(f.name),
                _code(prefix + f.name.upper() if prefix else ""),
                _code(f.more[1]),
                _code(f.value),
                f.text,
            )
            for f in found
            if f.more[0] == group
        ]
        heads = ("setting", "environment", "type", "default", "meaning")
        parts.append(f"## {group}\n\n{_table(heads, rows)}")
    lead = "Every setting. How they are given is told in [Install](install.md#settings)."
    return _page("Settings", lead, *parts)


def _commands_page(_tree: Tree) -> str:
    found = facts.list_commands()
    if not found:
        return ""
    rows = [
        (_code(f"tindra {f.name}"), f.text, ", ".join(_code(_option(name)) for name in f.more))
        for f in found
    ]
    lead = "Every command. `tindra COMMAND --help` tells what each option means."
    return _page("Commands", lead, _table(("command", "what it does", "options"), rows))


def _option(name: str) -> str:
    return "--" + name.strip("_").replace("_", "-")


def _errors_page(tree: Tree) -> str:
    kinds, classes = facts.list_error_kinds(tree), facts.list_error_classes(tree)
    if not kinds and not classes:
        return ""
    kind_rows = [(_code(f.name), _code(f.value), ", ".join(f.more)) for f in kinds]
    class_rows = [(_code(f.name), _code(f.value), _where(f.path), f.text) for f in classes]
    return _page(
        "Errors",
        "Who is at fault decides the class; what a client sees is the type.",
        "## Types a client can see\n\n"
        "A `RequestError` is a problem document for the whole request, a `MethodError` answers one "
        "method call, a `SetError` one object of a call; the rest of the request goes on.",
        _table(("type", "comes as", "rooms"), kind_rows),
        "## Classes in the code",
        _table(("class", "is a", "where", "meaning"), class_rows),
    )


def _coverage_page(tree: Tree) -> str:
    rows, _findings = parse_index(tree.text(INDEX_PATH))
    if not rows:
        return ""
    citations = list(list_citations(tree))
    cells = []
    for row in sorted(rows, key=lambda item: (item.number, item.line)):
        files = _files_of(row, rows, citations)
        code = [path for path in files if path.startswith("src/")]
        tests = [path for path in files if path.startswith("tests/")]
        is_alone = sum(other.number == row.number for other in rows) == 1
        if is_alone and row.status == "plan" and not files:
            continue
        sections = "" if row.sections == ("*",) else " ".join(row.sections)
        cells.append(
            (str(row.number), row.title, sections, row.status, _list(code), _list(tests), row.note)
        )
    lead = (
        "Which RFC, and which part of it, is done where: `yes` is complete, `part` is not yet, "
        "`plan` is agreed, `no` is decided against. Files are those that cite the section. RFCs "
        "that are only planned, and cited nowhere, are in `docs/rfc/index.tsv`."
    )
    heads = ("RFC", "title", "sections", "status", "code", "tests", "note")
    return _page("Coverage of the standards", lead, _table(heads, cells))


def _files_of(row: Row, rows: list[Row], citations: list[Citation]) -> list[str]:
    """The files that cite this row; a citation without a section counts where the row is alone."""
    is_alone = sum(other.number == row.number for other in rows) == 1
    return sorted(
        {
            citation.path
            for citation in citations
            if citation.number == row.number
            and (row.covers(citation.section) if citation.section else is_alone)
        }
    )


def _list(paths: list[str]) -> str:
    shown = ", ".join(_where(path.removeprefix("tests/")) for path in paths[:EVERYWHERE])
    rest = len(paths) - EVERYWHERE
    return f"{shown} and {rest} more" if rest > 0 else shown
