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
    """The programs against a running provider take minutes: they run with `make test-all`.

    The plan and the first sync stay in every run.
    """
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path.stem not in _QUICK:
            item.add_marker(pytest.mark.slow)


_QUICK = {"test_plan", "test_first_sync"}
