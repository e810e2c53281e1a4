"""The bus of one process. What it says is a hint only: every receiver reads again."""

from __future__ import annotations

from collections.abc import Callable

from tindra.model.stored import CommitInfo


class LocalBus:
    """Calls its listeners at once, on the loop. A listener must be quick and must not raise."""

    def __init__(self) -> None:
        self._listeners: dict[int, Callable[[CommitInfo], None]] = {}
        self._next = 0

    def publish(self, info: CommitInfo) -> None:
        """Tell everyone of a commit that changed something."""
        if info.states or info.topics or info.has_timers:
            for listener in list(self._listeners.values()):
                listener(info)

    def subscribe(self, listener: Callable[[CommitInfo], None]) -> Callable[[], None]:
        """The result unsubscribes; calling it twice is harmless."""
        key = self._next
        self._next += 1
        self._listeners[key] = listener
        return lambda: self._listeners.pop(key, None) and None
