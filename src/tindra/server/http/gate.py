"""How much one user may have under way at once: the next ones wait a little, then are refused.

Source: RFC 8620 s2 (maxConcurrentRequests, maxConcurrentUpload), s3.6.1
"""

from __future__ import annotations

import asyncio
from collections import deque

from tindra.base.ids import UserId
from tindra.server.http.exchange import HttpError
from tindra.server.http.refusal import retry_after

WAIT_S = 10.0
"""Longer than any ordinary request; who waits longer is told to come again."""
LIMIT = "urn:ietf:params:jmap:error:limit"


class Gate:
    """So many places for each user, and as many more that wait for one."""

    def __init__(self, places: int, limit: str) -> None:
        """
        Args:
            limit: name of the limit in the Session object.
        """
        self._places = places
        self._limit = limit
        self._taken: dict[UserId, int] = {}
        self._waiting: dict[UserId, deque[asyncio.Future[None]]] = {}

    async def take(self, user_id: UserId) -> None:
        """Take a place; `free` must follow. Raises: HttpError 429."""
        taken = self._taken.get(user_id, 0)
        if taken < self._places:
            self._taken[user_id] = taken + 1
            return
        queue = self._waiting.setdefault(user_id, deque())
        if len(queue) >= self._places:
            raise self._refusal()
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(place)
        try:
            async with asyncio.timeout(WAIT_S):
                await place
        except TimeoutError:
            self._give_up(user_id, place)
            raise self._refusal() from None
        except asyncio.CancelledError:
            self._give_up(user_id, place)
            raise

    def free(self, user_id: UserId) -> None:
        """Give a place back, to who waits longest."""
        queue = self._waiting.get(user_id)
        while queue:
            place = queue.popleft()
            if not queue:
                del self._waiting[user_id]
            if not place.done():
                place.set_result(None)
                return
        self._taken[user_id] -= 1
        if not self._taken[user_id]:
            del self._taken[user_id]

    def _give_up(self, user_id: UserId, place: asyncio.Future[None]) -> None:
        """A waiter leaves; a place that was handed to it at the last moment goes on."""
        if place.done() and not place.cancelled():
            self.free(user_id)
            return
        queue = self._waiting.get(user_id)
        if queue is not None and place in queue:
            queue.remove(place)
            if not queue:
                del self._waiting[user_id]

    def _refusal(self) -> HttpError:
        detail = f"over {self._places} at once for one user"
        return HttpError(429, detail, LIMIT, limit=self._limit, headers=[retry_after(1)])
