"""Tells push services what moved, so that devices which are asleep come and look (RFC 8620 s7.2).

A commit is merged into what waits for each subscription whose user may read the account; each
subscription is written to at its own pace, by a task that lives while something waits. What is
kept durably is how far each was told, late and in one piece: a crash costs a push that says
nothing new, never one that is missing.

Invariants: to an address that was not confirmed goes one PushVerification and nothing else; before
each push it is looked again whether the credential holds and which accounts may be read; a push
service that is slow or down holds up its own subscriptions only.
Sockets and keys live in `outside/push`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, Protocol

import msgspec

from tindra.base.ids import AccountId, ModSeq, UserId
from tindra.core.access import Access, load_caller
from tindra.core.services import Services
from tindra.features.push_subscription import (
    TYPE,
    Subscription,
    destroy_subscription,
    is_credential_held,
    load_subscriptions,
    save_progress,
)
from tindra.model.account import User
from tindra.model.stored import CommitInfo
from tindra.sync.webpush.plan import (
    DELIVERY,
    RETRY_FIRST_MS,
    STATE_TTL_S,
    VERIFICATION_TTL_S,
    Delivery,
    Place,
    PushMessage,
    PushResult,
    States,
    encode_state_change,
    encode_verification,
    make_topic,
    plan_progress,
)

GATHER_MS: Final = 50
"""Commits of one action are gathered so long before anybody is asked who may see them."""
SENDING_MAX: Final = 64
"""Pushes on their way at once."""
SENDING_PER_SERVICE_MAX: Final = 16
"""Of those, to one push service: a slow one takes a quarter of the places at most."""
SAVE_MS: Final = 30_000
"""How far the note of what was pushed may lag: what a crash makes us say again."""
SWEEP_MS: Final = 60_000
"""How often credentials and states are looked at without a hint."""
VERIFICATION_TRIES_MAX: Final = 5
"""Connections that may fail before a PushVerification is given up; an answer is the last word."""
REFUSALS_MAX: Final = 6
"""Answers in a row that say the request is wrong, within half an hour; then it is over."""


class PushSender(Protocol):
    """Takes a message to a push service."""

    application_server_key: str
    """What the service knows us by."""

    async def send(self, message: PushMessage) -> PushResult:
        """Encrypt, sign and post one message. Never raises for what the other side does."""


Guard = Callable[[str, Callable[[], Awaitable[object]]], Awaitable[bool]]
"""Runs one turn of a loop; reports what goes wrong in it."""


class PushRunner:
    """The pushes of one process.

    Args:
        pushed: names of the types whose states devices are told.
        guard: the boundary of one turn.
    """

    def __init__(
        self, services: Services, sender: PushSender, pushed: Iterable[str], guard: Guard
    ) -> None:
        self._services = services
        self._sender = sender
        self._pushed = frozenset(pushed)
        self._guard = guard
        self._homes: dict[AccountId, dict[str, Delivery]] = {}
        self._home_of: dict[UserId, AccountId] = {}
        self._stale: dict[AccountId, None] = {}
        self._moved: dict[AccountId, dict[str, ModSeq]] = {}
        self._unsaved: set[Delivery] = set()
        self._is_stale = asyncio.Event()
        self._is_moved = asyncio.Event()
        self._places = asyncio.Semaphore(SENDING_MAX)
        self._by_service: dict[str, tuple[asyncio.Semaphore, list[None]]] = {}

    async def run(self) -> None:
        """Push until cancelled; then note what was pushed."""
        unsubscribe = self._services.bus.subscribe(self._on_commit)
        try:
            for user in await self._services.directory.list_users():
                self._stale[user.home_account_id] = None
            self._is_stale.set()
            async with asyncio.TaskGroup() as group:
                # Apart: looking at all subscriptions may take long, news may not wait for it.
                group.create_task(self._run_loads(group))
                group.create_task(self._run_spreads(group))
                group.create_task(self._run_sweeps())
                group.create_task(self._run_saves())
        finally:
            unsubscribe()
            await self._guard("push save", self._save)

    def _on_commit(self, info: CommitInfo) -> None:
        if TYPE in info.states:
            self._stale[info.account_id] = None
            self._is_stale.set()
        states = {name: m for name, m in info.states.items() if name in self._pushed}
        # Who is not known yet compares all states when it is loaded.
        if states and self._homes:
            moved = self._moved.setdefault(info.account_id, {})
            moved.update({name: max(m, moved.get(name, m)) for name, m in states.items()})
            self._is_moved.set()

    async def _run_loads(self, group: asyncio.TaskGroup) -> None:
        while True:
            await self._is_stale.wait()
            self._is_stale.clear()
            stale, self._stale = self._stale, {}
            for home in stale:
                if not await self._guard("push load", partial(self._load, group, home)):
                    self._stale[home] = None
                    self._is_stale.set()

    async def _run_spreads(self, group: asyncio.TaskGroup) -> None:
        while True:
            await self._is_moved.wait()
            await self._services.clock.sleep_ms(GATHER_MS)
            self._is_moved.clear()
            moved, self._moved = self._moved, {}
            for account_id, states in moved.items():
                # What is lost here is found by the next sweep.
                await self._guard("push spread", partial(self._spread, group, account_id, states))

    async def _run_sweeps(self) -> None:
        while True:
            await self._services.clock.sleep_ms(SWEEP_MS)
            self._stale |= dict.fromkeys(self._homes)
            self._is_stale.set()

    async def _run_saves(self) -> None:
        while True:
            await self._services.clock.sleep_ms(SAVE_MS)
            await self._guard("push save", self._save)

    # -- who is to be told -----------------------------------------------------------------------
    async def _load(self, group: asyncio.TaskGroup, home: AccountId) -> None:
        """Match what is known of a home account with what is stored, and catch up."""
        user = await self._find_user(home)
        found = [] if user is None else await load_subscriptions(self._services, home)
        known = self._homes.get(home, {})
        kept: dict[str, Delivery] = {}
        for subscription in found:
            assert user is not None, "no user, no subscriptions"
            place = Place(home, user)
            if not await self._may_live(place, subscription):
                await destroy_subscription(self._services, home, subscription.id)
                continue
            delivery = known.get(subscription.id) or Delivery(place, subscription)
            delivery.renew(place, subscription)
            kept[subscription.id] = delivery
        for id in known.keys() - kept.keys():
            known[id].end()
        self._homes.pop(home, None)
        if kept and user is not None:
            self._homes[home] = kept
            self._home_of[user.id] = home
            await self._catch_up(kept.values())
            for delivery in kept.values():
                self._start(group, delivery)

    async def _find_user(self, home: AccountId) -> User | None:
        accounts = await self._services.directory.load_accounts([home])
        if not accounts:
            return None
        user = await self._services.directory.load_user(accounts[0].owner_id)
        return user if user is not None and user.home_account_id == home else None

    async def _may_live(self, place: Place, subscription: Subscription) -> bool:
        """Source: RFC 8620 s7.2, RFC 9749 s5"""
        key = subscription.progress.application_server_key
        now_ms = self._services.clock.now_ms()
        return key in ("", self._sender.application_server_key) and await is_credential_held(
            self._services.directory, place.user, subscription.credential, now_ms
        )

    async def _catch_up(self, deliveries: Iterable[Delivery]) -> None:
        """Offer the states of now. Cost: one read for each account the user may read."""
        listening = [d for d in deliveries if d.subscription.is_verified]
        if not listening:
            return
        for account_id in await self._load_accounts(listening[0].place.user):
            states = await self._services.store.read(account_id, lambda r: r.load_states())
            for delivery in listening:
                delivery.offer(account_id, {n: m for n, m in states.items() if n in self._pushed})

    async def _load_accounts(self, user: User) -> Mapping[AccountId, Access]:
        now_ms = self._services.clock.now_ms()
        return (await load_caller(self._services.directory, user, now_ms)).accounts

    async def _spread(
        self, group: asyncio.TaskGroup, account_id: AccountId, states: States
    ) -> None:
        """Offer what was committed to all who may read of it. Cost: two reads."""
        now_ms = self._services.clock.now_ms()
        grants = await self._services.directory.list_grantees(account_id)
        shares = await self._services.store.read(account_id, lambda r: r.list_shares())
        readers = {grant.user_id for grant in grants if grant.may_read_at(now_ms)}
        readers |= {share.user_id for share in shares}
        for home in {self._home_of[id] for id in readers & self._home_of.keys()}:
            for delivery in self._homes.get(home, {}).values():
                if delivery.subscription.is_verified:
                    delivery.offer(account_id, states)
                    self._start(group, delivery)

    # -- sending ---------------------------------------------------------------------------------
    def _start(self, group: asyncio.TaskGroup, delivery: Delivery) -> None:
        if delivery.has_work and delivery.task is None:
            delivery.task = group.create_task(self._deliver(delivery))

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            while delivery.has_work:
                if await self._rest(delivery):
                    continue
                if not await self._guard("push", partial(self._send_next, delivery)):
                    delivery.next_ms = self._services.clock.monotonic_ms() + RETRY_FIRST_MS
        finally:
            delivery.task = None

    async def _rest(self, delivery: Delivery) -> bool:
        """Wait until the next push is due; whether there was a wait."""
        clock = self._services.clock
        wait_ms = max(
            delivery.next_ms - clock.monotonic_ms(),
            delivery.progress.rest_until_ms - clock.now_ms(),
        )
        if wait_ms > 0:
            await clock.sleep_ms(wait_ms)
        return wait_ms > 0

    @asynccontextmanager
    async def _hold_place(self, service: str) -> AsyncIterator[None]:
        """One of the places of a push service, then one of all."""
        places, holders = self._by_service.setdefault(
            service, (asyncio.Semaphore(SENDING_PER_SERVICE_MAX), [])
        )
        holders.append(None)
        try:
            async with places, self._places:
                yield
        finally:
            holders.pop()
            if not holders:
                del self._by_service[service]

    async def _send_next(self, delivery: Delivery) -> None:
        """One push: a PushVerification, or what waits. Source: RFC 8620 s7.2.2"""
        async with self._hold_place(delivery.service):
            if not await self._check(delivery):
                return
            if delivery.subscription.is_verified:
                await self._send_states(delivery)
            else:
                await self._send_verification(delivery)

    async def _check(self, delivery: Delivery) -> bool:
        """Whether a push may be made at this very moment."""
        subscription, place = delivery.subscription, delivery.place
        user = await self._find_user(place.home)
        if user is None:
            delivery.is_over = True
            return False
        expires_ms = subscription.expires_ms
        if expires_ms is not None and expires_ms <= self._services.clock.now_ms():
            delivery.is_over = True  # its timer destroys it
            return False
        if not await self._may_live(Place(place.home, user), subscription):
            await self._end(delivery)
            return False
        delivery.narrow(await self._load_accounts(user))
        return delivery.has_work

    async def _send_verification(self, delivery: Delivery) -> None:
        content = encode_verification(delivery.subscription)
        message = PushMessage(delivery.subscription, content, VERIFICATION_TTL_S, "high", "")
        result = await self._send(delivery, message)
        if result.outcome in ("gone", "refused", "too_large"):
            await self._end(delivery)
            return
        # An answer, whatever it says, is the last that is asked of an address nobody confirmed.
        is_done = result.outcome != "unreached"
        is_done = is_done or delivery.progress.tries >= VERIFICATION_TRIES_MAX
        delivery.progress = msgspec.structs.replace(
            delivery.progress,
            is_verification_sent=is_done,
            application_server_key=self._sender.application_server_key,
        )
        await self._save_one(delivery)

    async def _send_states(self, delivery: Delivery) -> None:
        taken = delivery.take()
        content = encode_state_change(taken, delivery.parts)
        is_new_mail = any(DELIVERY in states for states in taken.values())
        message = PushMessage(
            delivery.subscription,
            content,
            STATE_TTL_S,
            "high" if is_new_mail else "normal",
            make_topic(delivery.subscription.id, taken),
        )
        try:
            result = await self._send(delivery, message)
            if result.outcome == "sent":
                delivery.note_told(taken)
        finally:
            for account_id, states in taken.items():
                delivery.offer(account_id, states)  # nothing, if they were sent
        if result.outcome == "sent":
            self._unsaved.add(delivery)
        elif result.outcome == "gone" or delivery.progress.refusals >= REFUSALS_MAX:
            await self._end(delivery)
        else:
            if result.outcome == "too_large":
                delivery.bytes_max = len(content) // 2
            await self._save_one(delivery)

    async def _send(self, delivery: Delivery, message: PushMessage) -> PushResult:
        result = await self._sender.send(message)
        clock = self._services.clock
        delivery.progress = plan_progress(delivery.progress, result, clock.now_ms())
        delivery.schedule(clock.monotonic_ms())
        return result

    # -- what is kept ----------------------------------------------------------------------------
    async def _end(self, delivery: Delivery) -> None:
        delivery.is_over = True
        self._unsaved.discard(delivery)
        await destroy_subscription(self._services, delivery.place.home, delivery.subscription.id)

    async def _save(self) -> None:
        while self._unsaved:
            await self._save_one(next(iter(self._unsaved)))

    async def _save_one(self, delivery: Delivery) -> None:
        self._unsaved.discard(delivery)
        pushed = delivery.list_pushed()
        delivery.progress = msgspec.structs.replace(delivery.progress, pushed=pushed)
        await save_progress(
            self._services, delivery.place.home, delivery.subscription.id, delivery.progress
        )
