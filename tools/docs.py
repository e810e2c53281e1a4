"""Writes the generated pages of docs/ from the code; `--check` only names the stale ones."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tools.docs_pages.pages import build_pages
from tools.tidy_rules.tree import load_tree

ROOT = Path(__file__).resolve().parents[1]


def list_stale_pages(root: Path = ROOT) -> dict[str, str]:
    """The pages whose file is not what the code says now, with the text they should have."""
    tree = load_tree(root)
    return {path: text for path, text in build_pages(tree).items() if tree.text(path) != text}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write what is stale, or with --check only name it; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="docs", description="Writes the generated pages of docs/."
    )
    parser.add_argument("--check", action="store_true")
    chosen = parser.parse_args(arguments)
    stale = list_stale_pages()
    for path, text in stale.items():
        print(f"{path}: {'stale; run make docs' if chosen.check else 'written'}")
        if not chosen.check:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(text)
    return 1 if stale and chosen.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
