"""The changelog keeps every fragment once, grouped by kind, newest release first."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.changelog import build_section, main


def test_fragments_are_grouped_by_kind_and_ordered_by_issue():
    section = build_section(
        "0.2.0",
        {
            "10.feature.md": "Ten.\n",
            "9.feature.md": "Nine\n  lines.\n\n- Another.\nA third.\n",
            "3.fix.md": "Three.",
        },
    )
    assert section == (
        "## 0.2.0\n\n### New\n\n"
        "- Nine lines. (#9)\n- Another. (#9)\n- A third. (#9)\n- Ten. (#10)\n"
        "\n### Mended\n\n- Three. (#3)\n"
    )


def test_a_release_goes_above_the_older_ones_and_its_fragments_are_removed(tmp_path: Path):
    changes = tmp_path / "changes"
    changes.mkdir()
    (changes / "README.md").write_text("how")
    for version, text in (("0.1.0", "First."), ("0.2.0", "Second.")):
        (changes / "1.feature.md").write_text(text)
        assert main([version], tmp_path) == 0
    log = (tmp_path / "CHANGELOG.md").read_text()
    assert log.count("# Changelog") == 1
    assert log.index("Second.") < log.index("## 0.1.0") < log.index("First.")
    assert [path.name for path in changes.iterdir()] == ["README.md"]


@pytest.mark.parametrize("arguments", [[], ["0.1.0", "0.2.0"], ["0.1.0"]])
def test_without_a_version_or_without_fragments_nothing_is_written(
    tmp_path: Path, arguments: list[str]
):
    (tmp_path / "changes").mkdir()
    assert main(arguments, tmp_path) == 1
    assert not (tmp_path / "CHANGELOG.md").exists()
