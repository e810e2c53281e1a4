"""RFC citations: one form, `RFC 8621 s4.6`, and each must be a row of docs/rfc/index.tsv.

A row is `number, title, sections, status, note`, tab separated; a number may have many rows.
Sections are words apart by spaces: `*` any, `4.1` exactly that, `4.*` that and all below, `1..9`
those and all below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tools.tidy_rules.tree import Finding, Tree

INDEX_PATH = "docs/rfc/index.tsv"
COLUMNS = ("number", "title", "sections", "status", "note")
STATUSES = frozenset({"yes", "part", "plan", "no"})
CITING = ("src/tindra/", "tests/")
NOT_CITING = ("tests/tools/",)  # planted faults live there

_CITATION = re.compile(
    r"\bRFC (\d{3,5})\b(?: s([0-9A-Z]+(?:\.[0-9]+)*)"
    r"((?:(?:, | and |, and )s[0-9A-Z]+(?:\.[0-9]+)*)*))?"
)
_MORE = re.compile(r"s([0-9A-Z]+(?:\.[0-9]+)*)")
_WRONG_FORM = re.compile(
    r"\bRFC(?:-|\s?#)?(?!822\b)\d{3,5}\b"  # RFC822 is a FETCH item
    r"|\bRFC \d{3,5},?\s*(?:§|(?:[Ss]ec(?:tion|\.)?|[Aa]ppendix)\s*)[0-9A-Z.]+"
    r"|\brfc ?\d{3,5},? (?:§|section)"
)
_NOTED_FILE = re.compile(r"^[a-z][\w/]*(?:\.py|/)$")


@dataclass(frozen=True)
class Row:
    """One row of the index."""

    line: int
    number: int
    title: str
    sections: tuple[str, ...]
    status: str
    note: str

    def covers(self, section: str) -> bool:
        """Whether the row speaks of `section`."""
        return any(_covers(pattern, section) for pattern in self.sections)


@dataclass(frozen=True, order=True)
class Citation:
    """One place that names an RFC; `section` is empty where none is named."""

    number: int
    section: str
    path: str
    line: int


def _covers(pattern: str, section: str) -> bool:
    if pattern in {"*", section}:
        return True
    first, dots, last = pattern.partition("..")
    top = section.partition(".")[0]
    if dots:
        return _is_between(first, top, last)
    return pattern.endswith(".*") and f"{section}.".startswith(pattern[:-1])


def _is_between(first: str, top: str, last: str) -> bool:
    if first.isdigit() and top.isdigit() and last.isdigit():
        return int(first) <= int(top) <= int(last)
    return first.isalpha() and top.isalpha() and first <= top <= last


def parse_index(text: str) -> tuple[list[Row], list[Finding]]:
    """The rows of the index, and what is wrong with those that are not rows."""
    rows: list[Row] = []
    findings: list[Finding] = []
    for line, raw in enumerate(text.splitlines(), 1):
        if not raw.strip() or raw.startswith("#"):
            continue
        cells = raw.split("\t")
        if cells == list(COLUMNS):
            continue
        if (
            len(cells) != len(COLUMNS)
            or not cells[0].isdigit()
            or cells[3] not in STATUSES
            or not cells[2]
        ):
            statuses = ", ".join(sorted(STATUSES))
            instead = f"write {', '.join(COLUMNS)} with tabs; status is one of {statuses}"
            findings.append(Finding(INDEX_PATH, line, "not a row of the index", instead))
            continue
        rows.append(Row(line, int(cells[0]), cells[1], tuple(cells[2].split()), cells[3], cells[4]))
    return rows, findings


def list_citations(tree: Tree) -> Iterator[Citation]:
    """Every citation of the code and the tests, in path order."""
    for source in tree.under(*CITING):
        if (
            source.path.startswith(NOT_CITING)
            or source.suffix not in {".py", ".sql"}
            or "RFC" not in source.text
        ):
            continue
        for line, text in enumerate(source.lines, 1):
            for match in _CITATION.finditer(text):
                number = int(match[1])
                yield Citation(number, match[2] or "", source.path, line)
                for section in _MORE.findall(match[3] or ""):
                    yield Citation(number, section, source.path, line)


def check_citations(tree: Tree) -> Iterator[Finding]:
    """Citations in another form, of RFCs or sections the index does not have, and stale rows."""
    rows, findings = parse_index(tree.text(INDEX_PATH))
    yield from findings
    by_number: dict[int, list[Row]] = {}
    for row in rows:
        by_number.setdefault(row.number, []).append(row)
        yield from _check_note(tree, row)
    yield from _check_form(tree)
    for citation in list_citations(tree):
        known = by_number.get(citation.number)
        if known is None:
            what = f"RFC {citation.number} is not in {INDEX_PATH}"
            yield Finding(citation.path, citation.line, what, "check the number, or add a row")
        elif citation.section and not any(row.covers(citation.section) for row in known):
            what = f"RFC {citation.number} has no section {citation.section} in {INDEX_PATH}"
            yield Finding(
                citation.path, citation.line, what, "check the section, or add it to the row"
            )


def _check_form(tree: Tree) -> Iterator[Finding]:
    for source in tree.under(*CITING):
        if source.path.startswith(NOT_CITING) or source.suffix not in {".py", ".sql"}:
            continue
        for line, text in enumerate(source.lines, 1):
            if match := _WRONG_FORM.search(text):
                what = f"citation in the form '{match[0]}'"
                yield Finding(
                    source.path, line, what, "write it as RFC 8621 s4.6, so that it can be checked"
                )


def _check_note(tree: Tree, row: Row) -> Iterator[Finding]:
    """A row that says yes or part must name files that are there."""
    if row.status not in {"yes", "part"}:
        return
    for word in row.note.replace(",", " ").replace(";", " ").split():
        path = f"src/tindra/{word}"
        if _NOTED_FILE.match(word) and not any(True for _ in tree.under(path)):
            what = f"RFC {row.number} {' '.join(row.sections)} names {word}, which is not there"
            yield Finding(INDEX_PATH, row.line, what, "name the file that does it now")
