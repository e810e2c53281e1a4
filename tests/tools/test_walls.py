"""The walls hold: a clean copy of the house passes, and each of the planted violations is seen.

The copy is a small house with the rooms of the real one, under the real contracts: a contract that
was loosened fails here, unfinished work in the real rooms does not.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {
    "app": "import tindra.server, tindra.store, tindra.outside, tindra.features",
    "server": "import tindra.core",
    "store": "import apsw\nimport tindra.core.ports",
    "outside": "import socket\nimport tindra.sync",
    "sync": "import tindra.features.mail",
    "features": "from tindra.features import mail, snooze",
    "core": "import tindra.model\nimport asyncio",
    "model": "import tindra.wire",
    "wire": "import urllib.parse\nimport tindra.base",
    "base": "import re",
}
# File to add or replace, its text, and what the report must say.
VIOLATIONS = {
    "a feature imports a database": (
        "features/snooze.py",
        "import sqlite3",
        "tindra.features is not allowed to import sqlite3",
    ),
    "a feature asks for the time": (
        "features/snooze.py",
        "from time import time",
        "tindra.features is not allowed to import time",
    ),
    "a feature imports another feature": (
        "features/snooze.py",
        "import tindra.features.mail",
        "tindra.features.snooze is not allowed to import tindra.features.mail",
    ),
    "what small types are made of knows one of them": (
        "features/objects.py",
        "import tindra.features.snooze",
        "tindra.features.objects is not allowed to import tindra.features.snooze",
    ),
    "the server names a feature": (
        "server/api.py",
        "import tindra.features.mail",
        "tindra.server is not allowed to import tindra.features",
    ),
    "the server parses IMAP": (
        "server/api.py",
        "import tindra.wire.imap",
        "tindra.server is not allowed to import tindra.wire.imap",
    ),
    "the core imports a store": (
        "core/tx.py",
        "import tindra.store.sqlite",
        "tindra.core is not allowed to import tindra.store",
    ),
    "a store imports a provider": (
        "store/sqlite/__init__.py",
        "import tindra.outside",
        "tindra.store is not allowed to import tindra.outside",
    ),
    "the sync engine imports a provider": (
        "sync/pull.py",
        "import tindra.outside",
        "tindra.sync is not allowed to import tindra.outside",
    ),
    "a protocol imports the core": (
        "wire/jmap.py",
        "import tindra.core",
        "tindra.wire is not allowed to import tindra.core",
    ),
    "the model imports the core": (
        "model/mail.py",
        "import tindra.core",
        "tindra.model is not allowed to import tindra.core",
    ),
    "a generic method names a noun": (
        "core/methods/get.py",
        "import tindra.model",
        "tindra.core.methods is not allowed to import tindra.model",
    ),
    "a pure room opens a socket through another module": (
        "base/net.py",
        "import socket",
        "tindra.base is not allowed to import socket",
    ),
    "a folder has no place in the house": (
        "extras/__init__.py",
        "",
        "tindra.extras",
    ),
    "two siblings import each other": (
        "core/ports.py",
        "import tindra.core.tx",
        "cycle",
    ),
}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    package = tmp_path / "src/tindra"
    for room, text in ROOMS.items():
        (package / room).mkdir(parents=True)
        (package / room / "__init__.py").write_text(text + "\n")
    for path, text in {
        "__init__.py": "",
        "core/methods/__init__.py": "import tindra.core.tx",
        "core/ports.py": "import tindra.model",
        "core/tx.py": "import tindra.core.ports",
        "features/mail/__init__.py": "import tindra.core.tx\nimport tindra.features.objects",
        "features/objects.py": "import tindra.core.tx",
        "features/snooze.py": "import tindra.core.tx",
        "store/sqlite/__init__.py": "",
        "wire/imap/__init__.py": "",
    }.items():
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_text(text + "\n")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def _check(house: Path) -> tuple[int, str]:
    program = (
        "import sys; sys.path.insert(0, 'src');"
        "from importlinter.cli import lint_imports;"
        "sys.exit(lint_imports(config_filename='pyproject.toml', cache_dir=None))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=house, capture_output=True, text=True, check=False
    )
    assert not done.stderr, done.stderr
    return done.returncode, " ".join(done.stdout.split())


def test_a_clean_house_passes(house: Path):
    status, report = _check(house)
    assert status == 0, report
    assert "6 kept, 0 broken" in report


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_planted_violation_is_seen(house: Path, name: str):
    path, text, message = VIOLATIONS[name]
    target = house / "src/tindra" / path
    target.parent.mkdir(exist_ok=True)
    target.write_text(text + "\n")
    status, report = _check(house)
    assert status == 1, report
    assert message in report
