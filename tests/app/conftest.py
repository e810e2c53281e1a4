"""A command line, and a provider for it to connect to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.command_line import Cli
from tests.app.demo_host import PLAIN_MESSAGE, DemoHost


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


@pytest.fixture
def host() -> Iterator[DemoHost]:
    with DemoHost() as running:
        for number in range(12):
            running.call(running.provider.deliver, PLAIN_MESSAGE + b"%d\r\n" % number)
        yield running
