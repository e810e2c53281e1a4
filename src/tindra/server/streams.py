"""One stream of state changes: what waits for its client, merged while the client is slow.

Event streams (RFC 8620 s7) and WebSockets (RFC 8887) differ in how a change is framed, and in
nothing else. Nothing here sends or knows HTTP. Invariants: a stream holds at most one state for
each account and type, however slow its client is; what many streams get is encoded once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from tindra.base.ids import AccountId, ModSeq, is_id
from tindra.core.part import narrow_states
from tindra.core.ports import Cursor
from tindra.core.state import encode_state
from tindra.server.sign_in import CALLER_FRESH_MS, SignIn

BURST_MS = 50
"""After an event a stream rests so long and gathers what comes: at most 20 events a second, and
still well within 100 ms of each commit. One timer wakes all streams that rest."""
KEEPALIVE_MS = 120_000
"""Something goes down a stream that asked for no pings, so that a dead line is noticed."""
EVENT_ID_ACCOUNTS_MAX = 50
"""Accounts named in an event id: a client sends it back in a header. One that is left out costs a
state that the client already had."""

Changed = Mapping[AccountId, Mapping[str, ModSeq]]


class Framing(NamedTuple):
    """What stands around a StateChange object, which comes without its closing brace, and around
    the id of what its client then knows."""

    head: bytes
    before_id: bytes
    after_id: bytes


EVENT_FRAMING = Framing(b"event: state\ndata: ", b"}\nid: ", b"\n\n")
"""An event of a text/event-stream. Source: RFC 8620 s7.3"""
SOCKET_FRAMING = Framing(b"", b',"pushState":"', b'"}')
"""A message of a WebSocket. Source: RFC 8887 s4.3.5"""


class EncodedCommit(NamedTuple):
    """A commit as an event."""

    newest: ModSeq
    begin: bytes
    """The event up to its id."""
    whole: bytes
    """The event, with the id of a client that knows nothing of other accounts."""


class Commit:
    """What one commit changed, as streams show it; encoded once for each framing and choice of
    types."""

    __slots__ = ("_encoded", "_narrowed", "account_id", "states")

    def __init__(self, account_id: AccountId, states: Mapping[str, ModSeq]) -> None:
        self.account_id = account_id
        self.states = states
        self._encoded: dict[tuple[Framing, frozenset[str] | None], EncodedCommit] = {}
        self._narrowed: Commit | None = None

    def narrow(self) -> Commit:
        """What those are told of it who see a part of the account; maybe nothing."""
        if self._narrowed is None:
            self._narrowed = Commit(self.account_id, narrow_states(self.states))
        return self._narrowed

    def encode(self, framing: Framing, types: frozenset[str] | None) -> EncodedCommit:
        """The event for a choice of types, one of which must be ours."""
        found = self._encoded.get((framing, types))
        if found is None:
            chosen = {t: m for t, m in self.states.items() if types is None or t in types}
            newest = max(chosen.values())
            begin = _encode_begin(framing, {self.account_id: chosen})
            whole = begin + _encode_end(framing, {self.account_id: newest})
            found = self._encoded[framing, types] = EncodedCommit(newest, begin, whole)
        return found


def _encode_begin(framing: Framing, changed: Changed) -> bytes:
    """An event up to its id. Source: RFC 8620 s7.1"""
    states = {
        account_id: {name: encode_state(Cursor(modseq)) for name, modseq in types.items()}
        for account_id, types in changed.items()
    }
    data = msgspec.json.encode({"@type": "StateChange", "changed": states})
    return framing.head + data[:-1] + framing.before_id


def encode_event_id(known: Mapping[AccountId, ModSeq]) -> str:
    """What a client will say it knows when it comes back; needs no escaping in JSON.

    Source: RFC 8620 s7.3, RFC 8887 s4.3.5
    """
    newest = list(known.items())[-EVENT_ID_ACCOUNTS_MAX:]
    return ",".join(f"{account_id}:{modseq}" for account_id, modseq in newest)


def _encode_end(framing: Framing, known: Mapping[AccountId, ModSeq]) -> bytes:
    return encode_event_id(known).encode() + framing.after_id


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
        "_beat_ms", "_framing", "_is_woken", "_merged", "_single", "_waiter", "accounts",
        "beat_due_ms", "is_ending", "known", "recheck_ms", "rest_until_ms", "sign_in", "types",
    )  # fmt: skip

    def __init__(
        self,
        sign_in: SignIn,
        types: frozenset[str] | None,
        beat_ms: int,
        now_ms: int,
        framing: Framing = EVENT_FRAMING,
    ) -> None:
        """
        Args:
            types: wanted types, None for all.
            beat_ms: how long the stream may be silent before `take_beat` says so.
            now_ms: monotonic.
        """
        self.sign_in = sign_in
        self.types = types
        self._framing = framing
        self.known: dict[AccountId, ModSeq] = {}
        """account -> newest state that the client was told; in the order of telling."""
        self.accounts: frozenset[AccountId] = frozenset()
        """Where the hub has this stream."""
        self.is_ending = False
        self.rest_until_ms = now_ms
        """Until when it gathers before it sends again."""
        self.recheck_ms = now_ms + CALLER_FRESH_MS
        self._beat_ms = beat_ms
        self.beat_due_ms = now_ms + self._beat_ms
        self._single: Commit | None = None
        self._merged: dict[AccountId, dict[str, ModSeq]] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_woken = False

    # -- filled by the hub -----------------------------------------------------------------------
    def offer(self, commit: Commit) -> bool:
        """Keep what was committed until the client takes it, merged with what waits; False if it
        is of no interest here."""
        if not commit.states or (self.types is not None and self.types.isdisjoint(commit.states)):
            return False
        if self._single is None and self._merged is None:
            self._single = commit
        else:
            if self._single is not None:
                self._merge(self._single.account_id, self._single.states)
                self._single = None
            self._merge(commit.account_id, commit.states)
        return True

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

    def choose(self, types: frozenset[str] | None) -> None:
        """The client wants other types from now on; what waits of those is still told."""
        self.types = types
        waiting: Changed = self._merged or {}
        if self._single is not None:
            waiting = {self._single.account_id: self._single.states}
        self._single = self._merged = None
        for account_id, states in waiting.items():
            if types is None or not types.isdisjoint(states):
                self._merge(account_id, states)

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
        single, merged = self._single, self._merged
        if single is None and merged is None:
            return b""
        self._single = self._merged = None
        self.rest_until_ms = now_ms + BURST_MS
        self.put_off_beat(now_ms)
        if single is not None:
            event = single.encode(self._framing, self.types)
            self._note_told(single.account_id, event.newest)
            if len(self.known) == 1 and self.known[single.account_id] == event.newest:
                return event.whole
            return event.begin + _encode_end(self._framing, self.known)
        assert merged is not None
        for account_id, states in merged.items():
            self._note_told(account_id, max(states.values()))
        begin = _encode_begin(self._framing, merged)
        return begin + _encode_end(self._framing, self.known)

    def _note_told(self, account_id: AccountId, newest: ModSeq) -> None:
        before = self.known.pop(account_id, newest)
        self.known[account_id] = max(before, newest)

    def put_off_beat(self, now_ms: int) -> None:
        """Something else showed that the line is alive."""
        self.beat_due_ms = now_ms + self._beat_ms

    def take_beat(self, now_ms: int) -> bool:
        """Whether it was silent for so long that a sign of life is due now."""
        if now_ms < self.beat_due_ms:
            return False
        self.put_off_beat(now_ms)
        return True

    async def wait(self) -> None:
        """Until there may be something to do."""
        if not self._is_woken:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._is_woken = False
