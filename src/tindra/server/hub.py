"""All open streams of the process: which commit goes to whom, and when.

A stream is an event stream or a WebSocket; one that wants no push is here too, since its sign-in
may end. Nothing here sends or knows HTTP. Invariants: a state goes only to streams whose caller
may read the account; one timer serves all streams of a kind. Hints may come late, twice or never:
a state that a client already had costs it a comparison.
Source: RFC 8620 s7, RFC 8887 s4.3.5
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from tindra.base import limits
from tindra.base.ids import AccountId, ModSeq, UserId
from tindra.core.errors import StoreError
from tindra.core.part import narrow_states
from tindra.core.services import Services
from tindra.model.sharing import PART_STATE_BASE
from tindra.model.stored import CommitInfo
from tindra.server.sign_in import CALLER_FRESH_MS, SignIn
from tindra.server.streams import BURST_MS, Commit, EventStream, parse_event_id

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

    def __init__(
        self,
        services: Services,
        pushed: Iterable[str],
        refresh: Callable[[SignIn], Awaitable[bool]],
    ) -> None:
        """
        Args:
            pushed: names of the types whose states devices are told.
            refresh: looks again whether a sign-in still holds.
        """
        self.clock = services.clock
        self._store = services.store
        self._refresh = refresh
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
        self._unsubscribe = services.bus.subscribe(self._on_commit)

    def __len__(self) -> int:
        return len(self._streams)

    def open(self, stream: EventStream) -> None:
        """Let commits reach a new stream. Raises: StreamsFull."""
        user_id = stream.sign_in.caller.user.id
        held = self._by_user.get(user_id, 0)
        if held >= limits.STREAMS_PER_USER_MAX:
            raise StreamsFull(f"over {limits.STREAMS_PER_USER_MAX} open streams", True)
        if self.is_closing or len(self._streams) >= STREAMS_MAX:
            raise StreamsFull("no more streams are taken here now", False)
        self._by_user[user_id] = held + 1
        self._streams.add(stream)
        # Streams that came together do not look at their sign-in together.
        self._opened += 1
        stream.recheck_ms -= self._opened * 617 % (CALLER_FRESH_MS // 2)
        self.place(stream)
        if self._ticker is None:
            self._arm()

    def place(self, stream: EventStream) -> None:
        """Put a stream under the accounts that its caller may read now, and wants to hear of."""
        held = stream.sign_in.caller.accounts
        accounts = frozenset(id for id, access in held.items() if access.is_subscribed)
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
        now = self.clock.monotonic_ms()
        for stream in self._streams:
            if stream.beat_due_ms <= now or stream.recheck_ms <= now:
                stream.wake()

    async def offer_missed(self, stream: EventStream, known: str) -> None:
        """States newer than what the client says it knows. Cost: one read an account.

        Args:
            known: an event id, or a pushState, of a stream before this one.
        Raises: StoreError.
        """
        stream.known = parse_event_id(known)
        await self._offer_newer(stream, stream.accounts)

    async def _offer_newer(self, stream: EventStream, accounts: Iterable[AccountId]) -> None:
        """States of these accounts, as far as the client does not know them. Raises: StoreError."""
        for account_id in accounts:
            states = await self._store.read(account_id, lambda r: r.load_states())
            is_part = stream.sign_in.caller.sees_part(account_id)
            told = stream.known.get(account_id, 0)
            if is_part:
                states = narrow_states(states)
            elif told >= PART_STATE_BASE:
                told = 0  # of a part, when it was one
            newer = {n: m for n, m in states.items() if n in self._pushed and m > told}
            if newer and account_id in stream.accounts:
                stream.offer(Commit(account_id, newer))

    async def is_allowed(self, stream: EventStream) -> bool:
        """Whether its sign-in still holds; looks again, also for which accounts, when it is time.

        Cost: a comparison; a few directory reads once in CALLER_FRESH_MS.
        """
        now = self.clock.monotonic_ms()
        if now < stream.recheck_ms:
            return True
        stream.recheck_ms = now + CALLER_FRESH_MS
        try:
            if not await self._refresh(stream.sign_in):
                return False
            before = stream.accounts
            self.place(stream)
            # A client that hears of an account it does not know fetches its Session object anew.
            await self._offer_newer(stream, stream.accounts - before)
        except StoreError:
            # The directory cannot answer now; the next look will tell.
            return True
        return True

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
        now = self.clock.monotonic_ms()
        for stream in streams:
            is_part = stream.sign_in.caller.sees_part(commit.account_id)
            if not stream.offer(commit.narrow() if is_part else commit):
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
