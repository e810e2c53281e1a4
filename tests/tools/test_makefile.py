"""The Makefile stays short enough to be learnt by looking at it once."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGETS_MAX = 14


def _targets() -> dict[str, str]:
    text = (ROOT / "Makefile").read_text()
    return dict(re.findall(r"^([a-z-]+):.*?(?:## (.*))?$", text, re.MULTILINE))


def test_there_are_few_targets_and_each_says_what_it_does():
    targets = _targets()
    assert 8 <= len(targets) <= TARGETS_MAX
    assert [name for name, text in targets.items() if not text] == []


def test_plain_make_prints_every_target_and_runs_nothing():
    make = shutil.which("make")
    assert make
    # A make that runs the tests would pass its own options on.
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run([make], cwd=ROOT, env=alone, capture_output=True, text=True, check=True)
    for name, text in _targets().items():
        assert re.search(rf"make {name}\s+{re.escape(text)}", done.stdout)
    assert len(done.stdout.splitlines()) == len(_targets())


def test_the_ci_calls_the_same_targets_as_people_do():
    calls = re.findall(r"^make .*", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    words = {word for call in calls for word in call.split()[1:] if not word.startswith("-")}
    assert words == {"check", "test"}
    assert words <= _targets().keys()
