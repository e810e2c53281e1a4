"""All open event streams of the process: which commit goes to whom, and when.

Nothing here sends or knows HTTP. Invariants: a state goes only to streams whose caller may read the
account; one timer serves all streams of a kind. Hints may come late, twice or never: a state that
a client already had costs it a comparison.
Source: RFC 8620 s7
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from tindra.base import limits
from tindra.base.clock import Clock
from tindra.base.ids import AccountId, ModSeq, UserId
from tindra.core.ports import Bus
from tindra.model.stored import CommitInfo
from tindra.server.sign_in import CALLER_FRESH_MS, SignIn
from tindra.server.streams import BURST_MS, Commit, EventStream

STREAMS_MAX = 20_000
"""Of one process: about 400 MB. More belong into a process of their own."""
TICK_S = 0.5
"""How exactly pings are kept."""


class StreamsFull(Exception):
    """This user, or this process, has as many open streams as it may."""

    def __init__(self, detail: str, is_user: bool) -> None:
        super().__init__(detail)
        self.is_user = is_user


class StreamHub:
    """All open streams of this process."""

    def __init__(self, bus: Bus, clock: Clock, pushed: Iterable[str]) -> None:
        """
        Args:
            pushed: names of the types whose states devices are told.
        """
        self._clock = clock
        self._pushed = frozenset(pushed)
        self._streams: set[EventStream] = set()
        self._by_account: dict[AccountId, set[EventStream]] = {}
        self._by_user: dict[UserId, int] = {}
        self._told: dict[AccountId, dict[str, ModSeq]] = {}
        """Newest states heard of, for accounts with streams: a late or repeated hint is dropped."""
        self._opened = 0
        self._ticker: asyncio.TimerHandle | None = None
        self._resting: set[EventStream] = set()
        self._rest_timer: asyncio.TimerHandle | None = None
        self.is_closing = False
        self._unsubscribe = bus.subscribe(self._on_commit)

    def __len__(self) -> int:
        return len(self._streams)

    def open(self, stream: EventStream) -> None:
        """Let commits reach a new stream. Raises: StreamsFull."""
        user_id = stream.sign_in.caller.user.id
        held = self._by_user.get(user_id, 0)
        if held >= limits.STREAMS_PER_USER_MAX:
            raise StreamsFull(f"over {limits.STREAMS_PER_USER_MAX} open event streams", True)
        if self.is_closing or len(self._streams) >= STREAMS_MAX:
            raise StreamsFull("no more event streams are taken here now", False)
        self._by_user[user_id] = held + 1
        self._streams.add(stream)
        # Streams that came together do not look at their sign-in together.
        self._opened += 1
        stream.recheck_ms -= self._opened * 617 % (CALLER_FRESH_MS // 2)
        self.place(stream)
        if self._ticker is None:
            self._arm()

    def place(self, stream: EventStream) -> None:
        """Put a stream under the accounts that its caller may read now."""
        accounts = frozenset(stream.sign_in.caller.accounts)
        for account_id in accounts - stream.accounts:
            self._by_account.setdefault(account_id, set()).add(stream)
        gone = stream.accounts - accounts
        self._take_off(stream, gone)
        stream.forget(gone)
        stream.accounts = accounts

    def close_stream(self, stream: EventStream) -> None:
        """A stream has ended."""
        self._streams.discard(stream)
        self._resting.discard(stream)
        self._take_off(stream, stream.accounts)
        stream.accounts = frozenset()
        user_id = stream.sign_in.caller.user.id
        self._by_user[user_id] -= 1
        if not self._by_user[user_id]:
            del self._by_user[user_id]

    def end_sign_in(self, sign_in: SignIn) -> None:
        """End the streams of a sign-in that was revoked."""
        for stream in self._streams:
            if stream.sign_in is sign_in:
                stream.end()

    def close(self) -> None:
        """End all streams and listen no more."""
        self.is_closing = True
        self._unsubscribe()
        for timer in (self._ticker, self._rest_timer):
            if timer is not None:
                timer.cancel()
        self._ticker = self._rest_timer = None
        for stream in self._streams:
            stream.end()

    def wake_due(self) -> None:
        """Wake the streams that have something to do by the clock. Cost: 0.1 us a stream."""
        now = self._clock.monotonic_ms()
        for stream in self._streams:
            if stream.beat_due_ms <= now or stream.recheck_ms <= now:
                stream.wake()

    def list_pushed(self, states: Mapping[str, ModSeq]) -> dict[str, ModSeq]:
        """Those of `states` that devices are told."""
        return {name: modseq for name, modseq in states.items() if name in self._pushed}

    def _on_commit(self, info: CommitInfo) -> None:
        streams = self._by_account.get(info.account_id)
        if not streams:
            return
        told = self._told.setdefault(info.account_id, {})
        states = {
            name: modseq
            for name, modseq in info.states.items()
            if name in self._pushed and modseq > told.get(name, -1)
        }
        if states:
            told.update(states)
            self._spread(Commit(info.account_id, states), streams)

    def _spread(self, commit: Commit, streams: Iterable[EventStream]) -> None:
        now = self._clock.monotonic_ms()
        for stream in streams:
            if not stream.offer(commit):
                continue
            if now >= stream.rest_until_ms:
                stream.wake()
            else:
                self._resting.add(stream)
        if self._resting and self._rest_timer is None:
            loop = asyncio.get_running_loop()
            self._rest_timer = loop.call_later(BURST_MS / 1000, self._wake_resting)

    def _wake_resting(self) -> None:
        self._rest_timer = None
        resting, self._resting = self._resting, set()
        for stream in resting:
            stream.wake()

    def _take_off(self, stream: EventStream, accounts: Iterable[AccountId]) -> None:
        for account_id in accounts:
            streams = self._by_account[account_id]
            streams.discard(stream)
            if not streams:
                del self._by_account[account_id]
                self._told.pop(account_id, None)

    def _arm(self) -> None:
        self._ticker = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._ticker = None
        if self._streams and not self.is_closing:
            self.wake_due()
            self._arm()
