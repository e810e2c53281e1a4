"""Fixtures for every room: the World on both stores, coroutines as tests, the corpus."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.world import World, open_world

TEST_S_MAX = 300
"""No test takes longer, however busy the machine."""
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of real and nasty mail; skips where it is not beside the repository."""
    place = Path(os.environ.get("TINDRA_CORPUS", ROOT.parent / "shared" / "corpus"))
    if not place.is_dir():
        pytest.skip(f"no corpus at {place}: set TINDRA_CORPUS")
    return place


@pytest.fixture(params=["memory", "sqlite"])
def make_world(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Callable[[], AbstractAsyncContextManager[World]]:
    """Opens a World on each store; for tests that want to open it themselves."""
    return lambda: open_world(request.param, tmp_path)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """One event loop for a test and its fixtures."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def world(
    runner: asyncio.Runner, make_world: Callable[[], AbstractAsyncContextManager[World]]
) -> Iterator[World]:
    """A World that is checked when the test ends."""
    context = make_world()
    world = runner.run(_enter(context))
    yield world
    runner.run(_leave(context))


async def _enter(context: AbstractAsyncContextManager[World]) -> World:
    return await context.__aenter__()


async def _leave(context: AbstractAsyncContextManager[World]) -> None:
    await context.__aexit__(None, None, None)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run `async def` tests on the loop of the `runner` fixture, or on one of their own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments: dict[str, Any] = {name: pyfuncitem.funcargs[name] for name in names}
    runner = pyfuncitem.funcargs.get("runner")
    if isinstance(runner, asyncio.Runner):
        runner.run(_within(pyfuncitem.obj(**arguments)))
    else:
        asyncio.run(_within(pyfuncitem.obj(**arguments)))
    return True


async def _within(test: Coroutine[Any, Any, None]) -> None:
    """A test that hangs fails instead."""
    async with asyncio.timeout(TEST_S_MAX):
        await test
