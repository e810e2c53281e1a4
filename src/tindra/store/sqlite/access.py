"""What parts of the SQLite adapter ask of the store object: plain statements in their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import apsw

from tindra.store.sqlite.connection import StoreConnection

T = TypeVar("T")


class StoreAccess(Protocol):
    """The store as its own parts see it (see SqliteStore)."""

    async def run_read(self, fn: Callable[[StoreConnection], T], *, is_long: bool = False) -> T: ...

    async def run_write(self, fn: Callable[[StoreConnection], T]) -> T: ...

    async def run_search(self, fn: Callable[[apsw.Connection], T]) -> T: ...
