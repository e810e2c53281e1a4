"""What is to be sent to one push subscription, and what an answer means (RFC 8620 s7.2).

Values to values; when and by whom is for `runner`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId, ModSeq
from tindra.core.access import Access
from tindra.core.part import narrow_states
from tindra.core.ports import Cursor
from tindra.core.state import encode_state
from tindra.features.push_subscription import PushProgress, Subscription
from tindra.model.account import User
from tindra.model.sharing import SHARED_TYPES
from tindra.wire.http.url import parse_https_url
from tindra.wire.webpush.encryption import MESSAGE_BYTES_MAX, encode_base64url

STATE_TTL_S: Final = 3 * 24 * 3600
"""How long a push service keeps a StateChange for a device that is off; newer ones of the same
topic take its place."""
VERIFICATION_TTL_S: Final = 24 * 3600
"""How long it keeps a PushVerification."""
RETRY_FIRST_MS: Final = 30_000
RETRY_LAST_MS: Final = 6 * 3_600_000
"""Failures in a row make the wait grow from one to the other."""
RETRY_ASKED_MS_MAX: Final = 24 * 3_600_000
"""A push service may not ask to be left alone for longer."""
PACE_MS_MAX: Final = 3_600_000
"""How slow a service that says "too many" can make us."""
_TOPIC_CHARS: Final = 32
"""Source: RFC 8030 s5.4"""
DELIVERY: Final = "EmailDelivery"
"""New mail came: worth waking a device for. Source: RFC 8621 s1.5"""

Outcome = Literal["sent", "gone", "refused", "too_large", "throttled", "unanswered", "unreached"]
OUTCOMES: Final[tuple[Outcome, ...]] = (
    "sent", "gone", "refused", "too_large", "throttled", "unanswered", "unreached",
)  # fmt: skip
States = Mapping[str, ModSeq]


class PushMessage(NamedTuple):
    """One message to one subscription."""

    subscription: Subscription
    content: bytes
    """JSON in the clear, at most MESSAGE_BYTES_MAX octets."""
    ttl_s: int
    urgency: Literal["normal", "high"]
    topic: str
    """"" for none."""


class PushResult(NamedTuple):
    """What became of a message.

    sent: the push service has it; gone: there is no such subscription any more; refused: it will
    never take this; too_large; throttled: not now (429, 503); unanswered: a server error, or no
    answer at all; unreached: not one octet was sent.
    """

    outcome: Outcome
    retry_after_ms: int | None = None


class Place(NamedTuple):
    """Where a subscription is kept."""

    home: AccountId
    user: User


class Delivery:
    """One subscription, with what waits for it."""

    def __init__(self, place: Place, subscription: Subscription) -> None:
        self.place = place
        self.subscription = subscription
        self.progress = subscription.progress
        self.floor = dict(subscription.progress.pushed or subscription.since)
        """account -> what was told before this process took over."""
        self.told: dict[AccountId, dict[str, ModSeq]] = {}
        self.waiting: dict[AccountId, dict[str, ModSeq]] = {}
        self.parts: frozenset[AccountId] = frozenset()
        """Accounts of which the user sees some Mailboxes only."""
        self.next_ms = 0
        """Monotonic; nothing is sent before."""
        self.interval_ms = 0
        """From the last push to the next; 0 before the first."""
        self.bytes_max = MESSAGE_BYTES_MAX
        self.task: asyncio.Task[None] | None = None
        """Sends, or rests until it may."""
        self.is_over = False
        self.service = parse_https_url(subscription.url).authority

    @property
    def has_work(self) -> bool:
        """Something is to be sent."""
        if self.is_over:
            return False
        if self.subscription.is_verified:
            return bool(self.waiting)
        return not self.progress.is_verification_sent

    def renew(self, place: Place, subscription: Subscription) -> None:
        """It was read again. What waits is to be offered again, too: its types may be others, of
        which the device is told from now on."""
        if subscription.types != self.subscription.types:
            self.floor, self.told = self.list_pushed(), {}
        self.place, self.subscription = place, subscription
        self.is_over = False
        self.waiting = {}

    def end(self) -> None:
        """There is no such subscription any more; a rest may be hours long."""
        self.is_over = True
        if self.task is not None:
            self.task.cancel()

    def offer(self, account_id: AccountId, states: States) -> None:
        """Let states wait that the device does not know, and wants to."""
        types = self.subscription.types
        floor = self.floor.get(account_id, 0)
        told = self.told.get(account_id, {})
        for name, modseq in states.items():
            if (types is None or name in types) and modseq > max(floor, told.get(name, 0)):
                mine = self.waiting.setdefault(account_id, {})
                mine[name] = max(modseq, mine.get(name, modseq))

    def narrow(self, accounts: Mapping[AccountId, Access]) -> None:
        """Keep of what waits what the user may hear of now."""
        self.parts = frozenset(id for id, access in accounts.items() if access.is_partial)
        for account_id in list(self.waiting):
            states = self.waiting.pop(account_id)
            if account_id in self.parts:
                states = {name: m for name, m in states.items() if name in SHARED_TYPES}
            access = accounts.get(account_id)
            if access is not None and access.is_subscribed and states:
                self.waiting[account_id] = states

    def take(self) -> dict[AccountId, dict[str, ModSeq]]:
        """As many accounts as fit a message; they are not waiting any more."""
        taken: dict[AccountId, dict[str, ModSeq]] = {}
        for account_id in list(self.waiting):
            more = taken | {account_id: self.waiting[account_id]}
            if taken and len(encode_state_change(more, self.parts)) > self.bytes_max:
                break
            taken = more
        for account_id in taken:
            del self.waiting[account_id]
        return taken

    def schedule(self, now_ms: int) -> None:
        """A push was made at this (monotonic) moment: when the next may be. While each is made as
        soon as it may, there is ever more time between them."""
        is_busy = now_ms - self.next_ms < self.interval_ms
        wanted_ms = min(2 * self.interval_ms, limits.PUSH_INTERVAL_BUSY_MS) if is_busy else 0
        self.interval_ms = max(self.progress.pace_ms, wanted_ms)
        self.next_ms = now_ms + self.interval_ms

    def note_told(self, taken: Mapping[AccountId, States]) -> None:
        """A push went out."""
        for account_id, states in taken.items():
            self.told.setdefault(account_id, {}).update(states)

    def list_pushed(self) -> dict[AccountId, ModSeq]:
        """account -> how far the device was told."""
        newest = {id: max(states.values()) for id, states in self.told.items()}
        return self.floor | {id: max(m, self.floor.get(id, m)) for id, m in newest.items()}


def encode_state_change(
    changed: Mapping[AccountId, States], parts: frozenset[AccountId] = frozenset()
) -> bytes:
    """A StateChange object.

    Args:
        parts: accounts whose states are told as who sees a part of them has them.
    Source: RFC 8620 s7.1
    """
    told = {id: narrow_states(types) if id in parts else types for id, types in changed.items()}
    states = {
        account_id: {name: encode_state(Cursor(modseq)) for name, modseq in types.items()}
        for account_id, types in told.items()
    }
    return msgspec.json.encode({"@type": "StateChange", "changed": states})


def encode_verification(subscription: Subscription) -> bytes:
    """A PushVerification object. Source: RFC 8620 s7.2.2"""
    return msgspec.json.encode(
        {
            "@type": "PushVerification",
            "pushSubscriptionId": subscription.id,
            "verificationCode": subscription.code,
        }
    )


def make_topic(subscription_id: str, changed: Mapping[AccountId, States]) -> str:
    """What may take the place of what: a message that speaks of the same types of the same
    accounts, and so says all that the older one said. Source: RFC 8030 s5.4"""
    names = sorted((account_id, name) for account_id in changed for name in changed[account_id])
    text = msgspec.json.encode([subscription_id, names])
    return encode_base64url(hashlib.sha256(text).digest())[:_TOPIC_CHARS]


def plan_progress(progress: PushProgress, result: PushResult, now_ms: int) -> PushProgress:
    """What an answer means for the pushes to come. Source: RFC 8620 s7.2, RFC 8030 s8.4"""
    if result.outcome == "sent":
        pace_ms = max(limits.PUSH_INTERVAL_MS, progress.pace_ms // 2)
        return msgspec.structs.replace(
            progress, tries=0, refusals=0, pace_ms=pace_ms, rest_until_ms=0
        )
    wait_ms = min(RETRY_FIRST_MS << min(progress.tries, 20), RETRY_LAST_MS)
    if result.retry_after_ms is not None:
        wait_ms = max(RETRY_FIRST_MS, min(result.retry_after_ms, RETRY_ASKED_MS_MAX))
    is_slower = result.outcome == "throttled"
    return msgspec.structs.replace(
        progress,
        tries=progress.tries + 1,
        refusals=progress.refusals + (result.outcome in ("refused", "too_large")),
        pace_ms=min(progress.pace_ms * 2, PACE_MS_MAX) if is_slower else progress.pace_ms,
        rest_until_ms=now_ms + wait_ms,
    )
