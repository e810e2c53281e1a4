"""A stream of whole messages with bounded memory: batches in flight, a queue, and a pause.

Two batches are on the wire at a time, so the line never waits for us; the batch size follows the
size of the messages seen. Messages wait in a queue; when its octets pass the bound, reading pauses
until the consumer has taken half, and TCP holds the server back. Each message is asked for with a
partial fetch that ends one octet above the largest that we carry; a giant, which a server may send
whole all the same, is read past (`SkippedLiteral`) and comes as a stub (`raw` None), with no
question for sizes beforehand.

Sources: RFC 9051 s6.4.5 (BODY.PEEK and partial).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from tindra.base.limits import MESSAGE_BYTES_MAX
from tindra.outside.imap.client import ImapConnection
from tindra.outside.imap.verdicts import judge_status
from tindra.sync.ports import RemoteMessage
from tindra.wire.imap import verbs
from tindra.wire.imap.lexer import SkippedLiteral
from tindra.wire.imap.machine import Event
from tindra.wire.imap.response import Fetch, Status
from tindra.wire.imap.seqset import RANGES_PER_COMMAND_MAX, UidRange, compact_uids

BATCHES_IN_FLIGHT_MAX: Final = 2
"""One being received, one to follow without a pause."""
BATCH_UIDS_FIRST: Final = 20
"""The first batch is small: the newest messages show soon, and sizes become known."""
BATCH_UIDS_MAX: Final = 500
"""Bounds what a dropped connection repeats."""
BATCH_BYTES_MIN: Final = 256 * 1024
"""A batch aims at half of the caller's bound, but at no less than this."""
UNSETTABLE: Final = frozenset({"\\Recent"})
"""Flags that only the server sets, and that mean nothing to anyone else."""


class FetchWindow:
    """The state of one `fetch_messages` call.

    Args:
        bytes_max: octets that may wait in the queue, plus one read of the network.
    """

    def __init__(self, connection: ImapConnection, uids: Sequence[int], bytes_max: int) -> None:
        self.items: tuple[str, ...] = ("UID", "FLAGS")
        self.is_partial = True
        self._connection = connection
        self._uids = uids
        self._next = 0  # index of the first UID not yet asked for
        self._wanted: set[int] = set()  # asked for and not yet come
        self._bytes_max = max(1, bytes_max)
        self._batch_uids = BATCH_UIDS_FIRST
        self._answers: deque[asyncio.Future[Status]] = deque()
        self._queue: deque[tuple[RemoteMessage, int]] = deque()  # with the room that it has
        self._room = 0  # of the message that was handed out last
        self._queued_bytes = 0
        self._seen_count = 0
        self._seen_bytes = 0
        self._arrived: asyncio.Future[None] | None = None

    def take(self, event: Event) -> None:
        """Feed every untagged event."""
        if not isinstance(event, Fetch) or event.body is None or event.uid not in self._wanted:
            return
        self._wanted.discard(event.uid)
        octets = len(event.body)
        is_giant = octets > MESSAGE_BYTES_MAX or isinstance(event.body, SkippedLiteral)
        message = to_message(event, None if is_giant else event.body)
        self._queue.append((message, self._connection.claim_room()))
        self._seen_count += 1
        self._seen_bytes += octets
        if not is_giant:
            self._queued_bytes += octets
        if self._queued_bytes > self._bytes_max:
            self._connection.pause()
        self._wake()

    async def next_message(self) -> RemoteMessage | None:
        """The next message, or None when all batches are answered. Raises: ProviderError.

        A large one that was handed out before is held no more by whoever calls again.
        """
        self._give_back()
        while not self._queue:
            self._connection.resume()
            self._ask()
            if not self._answers:
                return None
            if self._answers[0].done():
                status = self._answers.popleft().result()
                if status.kind != "OK":
                    raise judge_status(status, "hand out messages")
                continue
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        message, self._room = self._queue.popleft()
        if message.raw is not None:
            self._queued_bytes -= len(message.raw)
        if 2 * self._queued_bytes <= self._bytes_max:
            self._connection.resume()
            self._ask()
        return message

    def close(self) -> None:
        """Nothing that came is held any more."""
        self._give_back()
        while self._queue:
            self._connection.give_back(self._queue.popleft()[1])

    def _give_back(self) -> None:
        room, self._room = self._room, 0
        self._connection.give_back(room)

    def _ask(self) -> None:
        """Keep the line busy."""
        while len(self._answers) < BATCHES_IN_FLIGHT_MAX and self._next < len(self._uids):
            self._adapt()
            ranges = self._take_batch()
            answer = self._connection.start(verbs.uid_fetch(ranges, (*self.items, self._body())))
            answer.add_done_callback(lambda _: self._wake())
            self._answers.append(answer)

    def _body(self) -> str:
        return f"BODY.PEEK[]<0.{MESSAGE_BYTES_MAX + 1}>" if self.is_partial else "BODY.PEEK[]"

    def _take_batch(self) -> list[UidRange]:
        size = self._batch_uids
        while True:
            batch = self._uids[self._next : self._next + size]
            ranges = compact_uids(batch)
            if len(ranges) <= RANGES_PER_COMMAND_MAX:
                break
            size = max(RANGES_PER_COMMAND_MAX, size // 2)
        self._next += len(batch)
        self._wanted.update(batch)
        return ranges

    def _adapt(self) -> None:
        """Choose the size of the next batch by the mean size so far."""
        if self._seen_count:
            mean = max(1, self._seen_bytes // self._seen_count)
            target = max(BATCH_BYTES_MIN, self._bytes_max // 2)
            self._batch_uids = min(BATCH_UIDS_MAX, max(1, target // mean))

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)


def to_message(fetch: Fetch, raw: bytes | None = None) -> RemoteMessage:
    """What a FETCH with a UID told, as the port's value."""
    assert fetch.uid is not None
    return RemoteMessage(
        uid=fetch.uid,
        flags=(fetch.flags or frozenset()) - UNSETTABLE,
        internal_date_ms=fetch.internal_date_ms,
        size=fetch.size,
        modseq=fetch.modseq,
        raw=raw,
        has_flags=fetch.flags is not None,
    )


def gather_messages(fetches: list[Fetch]) -> list[RemoteMessage]:
    """One message a UID, ascending."""
    latest: dict[int, Fetch] = {}
    for fetch in fetches:
        keep_latest(latest, fetch)
    return [to_message(latest[uid]) for uid in sorted(latest)]


def keep_latest(latest: dict[int, Fetch], fetch: Fetch) -> None:
    """Of several answers about one message the last that told flags counts."""
    assert fetch.uid is not None
    if fetch.flags is not None or fetch.uid not in latest:
        latest[fetch.uid] = fetch
