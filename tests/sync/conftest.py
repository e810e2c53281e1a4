"""The Harness on both stores."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.sync.harness import Harness, open_harness

Open = Callable[..., AbstractAsyncContextManager[Harness]]


@pytest.fixture(params=["memory", "sqlite"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens a Harness on each store: `async with harness(count=20) as h`."""

    def open_one(**options: Any) -> AbstractAsyncContextManager[Harness]:
        return open_harness(request.param, tmp_path, **options)

    return open_one


@pytest.hookimpl
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A mirror killed at every point takes minutes: that runs with `make test-all`, like the long
    row of random programs."""
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path.stem in _SLOW:
            item.add_marker(pytest.mark.slow)


_SLOW = {"test_crash_sync"}
