"""A connection that knows since when its client takes nothing: what HTTP and WebSocket share."""

from __future__ import annotations

import asyncio

WRITE_STALL_S = 120.0
"""A client that takes nothing of what it is sent for so long has gone."""


class SlowReader(asyncio.BaseProtocol):
    """Stands before a protocol of uvicorn, which has the loop."""

    loop: asyncio.AbstractEventLoop
    _stalled_since: float | None = None

    def pause_writing(self) -> None:
        """The client is slow to read."""
        self._stalled_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """It has read."""
        self._stalled_since = None
        super().resume_writing()

    def is_gone(self, now_s: float) -> bool:
        """Whether it has taken nothing for too long."""
        return self._stalled_since is not None and now_s - self._stalled_since > WRITE_STALL_S
