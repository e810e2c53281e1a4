"""Ratchets: an excess that is there may stay or shrink, never grow, and no new one may come.

`tools/ratchet.json` holds, per measure, the figure each place has now. A place that is not named
may not exceed the budget at all; one that is named must have exactly its figure, so that every gain
is written down (`python -m tools.tidy --shrink`) and cannot be lost again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from tools.tidy_rules.tree import Finding

RATCHET_PATH = "tools/ratchet.json"

Figures = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Excess:
    """A measured figure above its budget, or a count whose budget is zero."""

    measure: str
    place: str
    figure: int
    finding: Finding


def parse_ratchet(text: str) -> Figures:
    """The figures in the checked-in file; an empty text has none."""
    figures: Figures = json.loads(text) if text.strip() else {}
    return figures


def encode_ratchet(figures: Figures) -> str:
    """The file's text: sorted, so that a change is a small diff."""
    kept = {measure: places for measure, places in figures.items() if places}
    return json.dumps(kept, indent=2, sort_keys=True) + "\n"


def figures_of(excesses: Iterable[Excess]) -> Figures:
    """What the tree has now, in the form of the file."""
    figures: Figures = {}
    for excess in excesses:
        figures.setdefault(excess.measure, {})[excess.place] = excess.figure
    return figures


def shrink(allowed: Figures, now: Figures) -> Figures:
    """The file with every figure that fell lowered, and every place that is in order left out."""
    return {
        measure: {
            place: min(figure, now[measure][place])
            for place, figure in places.items()
            if place in now.get(measure, {})
        }
        for measure, places in allowed.items()
    }


def check_ratchet(allowed: Figures, excesses: list[Excess]) -> list[Finding]:
    """What grew, what is new, and what fell without being written down."""
    findings = []
    for excess in excesses:
        limit = allowed.get(excess.measure, {}).get(excess.place)
        if limit is None:
            findings.append(excess.finding)
        elif excess.figure > limit:
            what = f"{excess.finding.what} (was {limit}, and may only shrink)"
            findings.append(
                Finding(excess.finding.path, excess.finding.line, what, excess.finding.instead)
            )
    now = figures_of(excesses)
    if shrink(allowed, now) != allowed:
        what = "an excess named here has shrunk or is gone"
        findings.append(
            Finding(RATCHET_PATH, 1, what, "write it down: python -m tools.tidy --shrink")
        )
    return findings
