"""Open event streams: which commit goes to whom, merged while a client is slow (RFC 8620 s7).

Nothing here sends or knows HTTP. Invariants: a stream holds at most one state for each account
and type, however slow its client is; a state goes only to streams whose caller may read the
account; what many streams get is encoded once. Hints may come late, twice or never: a state that
a client already had costs it a comparison.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import msgspec

from tindra.base import limits
from tindra.base.clock import Clock
from tindra.base.ids import AccountId, ModSeq, UserId, is_id
from tindra.core.ports import Bus, CommitInfo, Cursor
from tindra.core.state import encode_state
from tindra.server.sign_in import CALLER_FRESH_MS, SignIn

STREAMS_MAX = 20_000
"""Of one process: about 400 MB. More belong into a process of their own."""
TICK_S = 0.5
"""How exactly pings are kept."""
KEEPALIVE_MS = 120_000
"""A comment goes down a stream that asked for no pings, so that a dead line is noticed."""
EVENT_ID_ACCOUNTS_MAX = 50
"""Accounts named in an event id: a client sends it back in a header. One that is left out costs a
state that the client already had."""

Changed = Mapping[AccountId, Mapping[str, ModSeq]]


class Commit:
    """What one commit changed, as streams show it; encoded once for each choice of types."""

    __slots__ = ("_encoded", "account_id", "states")

    def __init__(self, account_id: AccountId, states: Mapping[str, ModSeq]) -> None:
        self.account_id = account_id
        self.states = states
        self._encoded: dict[frozenset[str] | None, tuple[bytes, ModSeq]] = {}

    def encode(self, types: frozenset[str] | None) -> tuple[bytes, ModSeq]:
        """The event without its id, and the newest state in it; `types` must name one of ours."""
        found = self._encoded.get(types)
        if found is None:
            chosen = {t: m for t, m in self.states.items() if types is None or t in types}
            found = (encode_state_event({self.account_id: chosen}), max(chosen.values()))
            self._encoded[types] = found
        return found


def encode_state_event(changed: Changed) -> bytes:
    """The lines of a state event, all but its id and its end. Source: RFC 8620 s7.1"""
    states = {
        account_id: {name: encode_state(Cursor(modseq)) for name, modseq in types.items()}
        for account_id, types in changed.items()
    }
    data = msgspec.json.encode({"@type": "StateChange", "changed": states})
    return b"event: state\ndata: " + data + b"\n"


def encode_event_id(known: Mapping[AccountId, ModSeq]) -> str:
    """What a client will say it knows when it comes back. Source: RFC 8620 s7.3"""
    newest = list(known.items())[-EVENT_ID_ACCOUNTS_MAX:]
    return ",".join(f"{account_id}:{modseq}" for account_id, modseq in newest)


def parse_event_id(text: str) -> dict[AccountId, ModSeq]:
    """What a returning client knows; fields that are not ours are left out, which only costs it
    states that it has."""
    known: dict[AccountId, ModSeq] = {}
    for field in text.split(",")[: 2 * EVENT_ID_ACCOUNTS_MAX]:
        account_id, _, number = field.strip().partition(":")
        if is_id(account_id) and number.isascii() and number.isdigit() and len(number) <= 15:
            known[AccountId(account_id)] = ModSeq(int(number))
    return known


class EventStream:
    """One client that listens."""

    __slots__ = (
        "_beat_ms", "_is_woken", "_merged", "_single", "_waiter", "accounts", "beat_due_ms",
        "is_ending", "known", "ping_ms", "recheck_ms", "sign_in", "types",
    )  # fmt: skip

    def __init__(
        self, sign_in: SignIn, types: frozenset[str] | None, ping_ms: int, now_ms: int
    ) -> None:
        """
        Args:
            types: wanted types, None for all.
            ping_ms: time between pings, 0 for none.
            now_ms: monotonic.
        """
        self.sign_in = sign_in
        self.types = types
        self.ping_ms = ping_ms
        self.known: dict[AccountId, ModSeq] = {}
        """account -> newest state that the client was told; in the order of telling."""
        self.accounts: frozenset[AccountId] = frozenset()
        """Where the hub has this stream."""
        self.is_ending = False
        self.recheck_ms = now_ms + CALLER_FRESH_MS
        self._beat_ms = ping_ms or KEEPALIVE_MS
        self.beat_due_ms = now_ms + self._beat_ms
        self._single: Commit | None = None
        self._merged: dict[AccountId, dict[str, ModSeq]] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_woken = False

    # -- filled by the hub -----------------------------------------------------------------------
    def offer(self, commit: Commit) -> None:
        """Something was committed; kept until the client takes it, merged with what waits."""
        if self.types is not None and self.types.isdisjoint(commit.states):
            return
        if self._single is None and self._merged is None:
            self._single = commit
        else:
            if self._single is not None:
                self._merge(self._single.account_id, self._single.states)
                self._single = None
            self._merge(commit.account_id, commit.states)
        self.wake()

    def offer_states(self, account_id: AccountId, states: Mapping[str, ModSeq]) -> None:
        """States that a returning client may have missed."""
        if states:
            self.offer(Commit(account_id, states))

    def _merge(self, account_id: AccountId, states: Mapping[str, ModSeq]) -> None:
        if self._merged is None:
            self._merged = {}
        mine = self._merged.setdefault(account_id, {})
        for name, modseq in states.items():
            if (self.types is None or name in self.types) and modseq > mine.get(name, -1):
                mine[name] = modseq

    def forget(self, accounts: frozenset[AccountId]) -> None:
        """The caller may no longer read these: nothing that waits may speak of them."""
        if self._single is not None and self._single.account_id in accounts:
            self._single = None
        if self._merged is not None:
            kept = {id: states for id, states in self._merged.items() if id not in accounts}
            self._merged = kept or None

    def wake(self) -> None:
        """Let the sender look again."""
        self._is_woken = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def end(self) -> None:
        """The stream is to be closed."""
        self.is_ending = True
        self.wake()

    # -- emptied by the sender -------------------------------------------------------------------
    def take_event(self, now_ms: int) -> bytes:
        """The state event to send now, b"" for none."""
        if self._single is not None:
            body, newest = self._single.encode(self.types)
            told = {self._single.account_id: newest}
        elif self._merged is not None:
            body = encode_state_event(self._merged)
            told = {id: max(states.values()) for id, states in self._merged.items()}
        else:
            return b""
        self._single = self._merged = None
        for account_id, modseq in told.items():
            before = self.known.pop(account_id, modseq)
            self.known[account_id] = max(before, modseq)
        self.beat_due_ms = now_ms + self._beat_ms
        return body + b"id: " + encode_event_id(self.known).encode() + b"\n\n"

    def take_beat(self, now_ms: int) -> bytes:
        """The ping (or, for who asked for none, the comment) to send now, b"" for none.

        Source: RFC 8620 s7.3
        """
        if now_ms < self.beat_due_ms:
            return b""
        self.beat_due_ms = now_ms + self._beat_ms
        if not self.ping_ms:
            return b":\n\n"
        return b'event: ping\ndata: {"interval":%d}\n\n' % (self.ping_ms // 1000)

    async def wait(self) -> None:
        """Until there may be something to do."""
        if not self._is_woken:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._is_woken = False


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
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
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
            commit = Commit(info.account_id, states)
            for stream in streams:
                stream.offer(commit)

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
