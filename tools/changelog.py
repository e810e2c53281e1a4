"""Folds the fragments of changes/ into CHANGELOG.md: `python -m tools.changelog 0.2.0`.

A fragment is `changes/<issue>.<kind>.md` with one sentence for users; changes/README.md tells more.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADS = {
    "feature": "New",
    "fix": "Mended",
    "change": "Changed",
    "ops": "For operators",
    "doc": "Docs",
}
TITLE = "# Changelog\n"


def build_section(version: str, fragments: dict[str, str]) -> str:
    """The section of one release; fragments by file name, kinds in the order of HEADS."""
    parts = [f"## {version}\n"]
    for kind, head in HEADS.items():
        lines = [
            f"- {entry} (#{name.partition('.')[0]})"
            for name, text in sorted(
                fragments.items(), key=lambda item: int(item[0].partition(".")[0])
            )
            if name.split(".")[1] == kind
            for entry in list_entries(text)
        ]
        if lines:
            parts.append(f"### {head}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def list_entries(text: str) -> list[str]:
    """The entries of one fragment: each line is one, and goes on in the lines that are indented."""
    entries: list[str] = []
    for line in filter(str.strip, text.splitlines()):
        words = " ".join(line.removeprefix("- ").split())
        if line[0].isspace() and entries:
            entries[-1] += f" {words}"
        else:
            entries.append(words)
    return entries


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write the section above the older ones and remove its fragments; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    files = sorted(path for path in (root / "changes").glob("*.md") if path.name != "README.md")
    if len(given) != 1 or not files:
        print(
            "usage: make changelog VERSION=0.2.0" if len(given) != 1 else "no fragments in changes/"
        )
        return 1
    section = build_section(given[0], {path.name: path.read_text() for path in files})
    log = root / "CHANGELOG.md"
    older = log.read_text().removeprefix(TITLE) if log.exists() else ""
    log.write_text(f"{TITLE}\n{section}{older}")
    for path in files:
        path.unlink()
    print(f"CHANGELOG.md: {len(files)} changes in {given[0]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
