"""The rules of the house that no other tool holds: `python -m tools.tidy` prints what breaks them.

    python -m tools.tidy            check; exit status 1 where something is wrong
    python -m tools.tidy --shrink   write down every excess that has become smaller
    python -m tools.tidy --start    begin the ratchet anew from the tree as it is (once)
    python -m tools.tidy --counts   print the ratcheted counts

The rules are in tools/tidy_rules, one module a subject; their reasons are in docs/style.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tools.tidy_rules.calls import check_calls
from tools.tidy_rules.citations import check_citations
from tools.tidy_rules.files import check_files
from tools.tidy_rules.names import check_names
from tools.tidy_rules.ratchet import (
    RATCHET_PATH,
    Excess,
    check_ratchet,
    encode_ratchet,
    figures_of,
    parse_ratchet,
    shrink,
)
from tools.tidy_rules.remarks import check_remarks, list_remark_excesses
from tools.tidy_rules.sizes import list_size_excesses
from tools.tidy_rules.sql import check_sql
from tools.tidy_rules.tree import Finding, Tree, load_tree

RULES = (check_names, check_calls, check_remarks, check_sql, check_citations, check_files)
ROOT = Path(__file__).resolve().parents[1]


def check_tree(tree: Tree) -> list[Finding]:
    """Everything that breaks a rule, in path order."""
    return _check(tree, list_excesses(tree))


def _check(tree: Tree, excesses: list[Excess]) -> list[Finding]:
    findings = [finding for rule in RULES for finding in rule(tree)]
    findings += check_ratchet(parse_ratchet(tree.text(RATCHET_PATH)), excesses)
    return sorted(set(findings))


def list_excesses(tree: Tree) -> list[Excess]:
    """Everything that only a ratchet may allow."""
    return [*list_size_excesses(tree), *list_remark_excesses(tree)]


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Run one of the commands above; returns the exit status."""
    parser = argparse.ArgumentParser(prog="tidy", description="Checks the rules of the house.")
    for name in ("shrink", "start", "counts"):
        parser.add_argument(f"--{name}", action="store_true")
    chosen = parser.parse_args(arguments)
    tree = load_tree(root)
    excesses = list_excesses(tree)
    now = figures_of(excesses)
    if chosen.counts:
        print(encode_ratchet(now), end="")
        return 0
    if chosen.start or chosen.shrink:
        figures = now if chosen.start else shrink(parse_ratchet(tree.text(RATCHET_PATH)), now)
        (root / RATCHET_PATH).write_text(encode_ratchet(figures))
        return 0
    findings = _check(tree, excesses)
    for finding in findings:
        print(finding)
    print(f"tidy: {len(findings)} to mend in {len(tree.sources)} files")
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
