"""Every contract test runs on each implementation, and may be an `async def`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.stores import KINDS, Stores, open_stores


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: Any) -> bool | None:
    """Run `async def` tests on the loop that opened their stores."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    runner = pyfuncitem.funcargs.get("runner")
    if runner is None:
        asyncio.run(pyfuncitem.obj(**arguments))
    else:
        runner.run(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """The event loop of one test."""
    with asyncio.Runner() as running:
        yield running


@pytest.fixture(params=KINDS)
def stores(
    request: pytest.FixtureRequest, runner: asyncio.Runner, tmp_path: Path
) -> Iterator[Stores]:
    """One implementation of all the ports of core, with one account in it."""
    opened = runner.run(open_stores(request.param, tmp_path))
    yield opened
    runner.run(opened.store.close())


@pytest.fixture
def sqlite(runner: asyncio.Runner, tmp_path: Path) -> Iterator[Stores]:
    """The SQLite implementation, for what only files can show."""
    opened = runner.run(open_stores("sqlite", tmp_path))
    yield opened
    runner.run(opened.store.close())
