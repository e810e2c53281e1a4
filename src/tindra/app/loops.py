"""The loops of a running installation: mirrors, submission, timers, index, news from elsewhere.

Each loop is woken by the bus and looks again by itself after a while: a lost hint costs latency,
never work. Each turn has its own error boundary; one account's trouble is not another's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec

from tindra.app.erasing import run_erasing
from tindra.app.log import log, report
from tindra.app.mirrors import Mirrors
from tindra.app.wiring import Installation
from tindra.base.ids import AccountId
from tindra.core.ports import StoreReader
from tindra.core.tx import Tx, transact
from tindra.features.mail.indexing import run_index_step
from tindra.features.mail.submission import TOPIC as SUBMISSION_TOPIC
from tindra.model.stored import CommitInfo, TimerRow
from tindra.server.app import EMAIL_DELIVERY
from tindra.server.sign_in import CALLER_FRESH_MS
from tindra.sync.arrival.rules import make_steps
from tindra.sync.arrival.runner import TOPIC as ARRIVAL_TOPIC
from tindra.sync.arrival.runner import ArrivalRunner
from tindra.sync.route import make_route_loader
from tindra.sync.submission import SubmissionRunner
from tindra.sync.webpush.runner import PushRunner

DUE_POLL_S = 1.0
"""How often due timers and intents are looked for without a hint."""
NEWS_POLL_S = 0.5
"""How often commits of other processes (the command line) are looked for."""
DUE_ACCOUNTS_MAX = 100
TIMER_RETRY_MS = 3_600_000
"""A timer whose work failed is due again after so long, and lets others go first."""
ERASING_POLL_S = 1.0
"""How often it is looked whether somebody removed an account."""
ERASING_REST_S = CALLER_FRESH_MS / 1000 + 1
"""An account was taken out of reach so long ago that no request still writes blobs for it."""
INDEX_PAUSE_S = 0.6
"""The index follows so far behind: one commit then holds many Emails, and their words have been
handed over by whoever stored them. A text query does not wait for it."""

_DUE_TOPICS = frozenset({SUBMISSION_TOPIC, ARRIVAL_TOPIC})
"""Of the intents that are taken up when they are due."""


class Loops:
    """All loops of one process."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._services = installation.services
        self._fresh: dict[AccountId, None] = {}
        self._is_fresh = asyncio.Event()
        self._is_due = asyncio.Event()
        self._changed: dict[AccountId, None] = {}
        self._is_changed = asyncio.Event()
        self._submitting: set[AccountId] = set()
        self._arriving: set[AccountId] = set()
        self._submission = SubmissionRunner(
            self._services, installation.smtp, make_route_loader(self._services)
        )
        self._arrival = ArrivalRunner(self._services, make_steps(self._services), report)

        datatypes = installation.registry.datatypes.values()
        self._push = PushRunner(
            self._services,
            installation.push,
            {EMAIL_DELIVERY, *(datatype.name for datatype in datatypes if datatype.is_pushed)},
            self._guard,
        )

    async def run(self) -> None:
        """Run everything until cancelled."""
        unsubscribe = self._services.bus.subscribe(self._on_commit)
        try:
            for account in await self._services.directory.load_accounts(None):
                self._fresh[account.id] = None
                self._changed[account.id] = None
            self._is_fresh.set()
            self._is_changed.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._run_index())
                group.create_task(self._run_due(group))
                group.create_task(self._run_news())
                mirrors = Mirrors(self._services, self._installation.imap, group, report)
                group.create_task(self._run_mirrors(mirrors))
                group.create_task(self._run_erasing(mirrors))
                group.create_task(self._push.run())
        finally:
            unsubscribe()

    def _on_commit(self, info: CommitInfo) -> None:
        if "Email" in info.states:
            self._fresh[info.account_id] = None
            self._is_fresh.set()
        if "Connection" in info.states:
            self._changed[info.account_id] = None
            self._is_changed.set()
        if info.has_timers or not _DUE_TOPICS.isdisjoint(info.topics):
            self._is_due.set()

    async def _guard(self, where: str, turn: Callable[[], Awaitable[object]]) -> bool:
        """One turn of a loop; what goes wrong in it is reported, False comes back after a pause,
        and the loop goes on."""
        try:
            await turn()
        except Exception as error:  # the boundary of a loop turn: others must not suffer
            report(where, error)
            await asyncio.sleep(DUE_POLL_S)
            return False
        return True

    # -- search index ----------------------------------------------------------------------------
    async def _run_index(self) -> None:
        while True:
            await self._is_fresh.wait()
            await asyncio.sleep(INDEX_PAUSE_S)
            self._is_fresh.clear()
            while self._fresh:
                account_id = next(iter(self._fresh))
                del self._fresh[account_id]
                if not await self._guard("index", partial(self._index, account_id)):
                    self._fresh[account_id] = None

    async def _index(self, account_id: AccountId) -> None:
        if await run_index_step(self._services, account_id):
            self._fresh[account_id] = None
            # Requests of devices go first.
            await asyncio.sleep(0)

    # -- timers and submission -------------------------------------------------------------------
    async def _run_due(self, group: asyncio.TaskGroup) -> None:
        while True:
            self._is_due.clear()
            await self._guard("due", lambda: self._do_due(group))
            try:
                async with asyncio.timeout(DUE_POLL_S):
                    await self._is_due.wait()
            except TimeoutError:
                continue

    async def _do_due(self, group: asyncio.TaskGroup) -> None:
        now_ms = self._services.clock.now_ms()
        # Not for what mirrors have to do: one that is stopped would stand first in line for ever.
        # What is being done is due still: however slow it is, it takes no place of others.
        limit = DUE_ACCOUNTS_MAX + len(self._submitting)
        due = await self._services.store.list_due(now_ms, limit, SUBMISSION_TOPIC)
        for account_id in due:
            await self._guard("timers", partial(self._run_timers, account_id, now_ms))
            if account_id not in self._submitting:
                # A slow server of one account must not hold up the others.
                self._submitting.add(account_id)
                group.create_task(self._submit(account_id))
        limit = DUE_ACCOUNTS_MAX + len(self._arriving)
        for account_id in await self._services.store.list_due(now_ms, limit, ARRIVAL_TOPIC):
            if account_id not in self._arriving:
                self._arriving.add(account_id)
                group.create_task(self._arrive(account_id))

    async def _arrive(self, account_id: AccountId) -> None:
        try:
            await self._guard("arrival", partial(self._arrival.run_turn, account_id))
        finally:
            self._arriving.discard(account_id)

    async def _submit(self, account_id: AccountId) -> None:
        async def turn() -> None:
            await self._submission.run_turn(account_id)

        try:
            await self._guard("submission", turn)
        finally:
            self._submitting.discard(account_id)

    async def _run_timers(self, account_id: AccountId, now_ms: int) -> None:
        async def read(reader: StoreReader) -> list[TimerRow]:
            return await reader.list_timers(now_ms, DUE_ACCOUNTS_MAX)

        for row in await self._services.store.read(account_id, read):
            if await self._guard(f"timer {row.kind}", partial(self._run_timer, account_id, row)):
                await self._drop_timer(account_id, row)
            else:
                await self._postpone_timer(account_id, row, now_ms + TIMER_RETRY_MS)

    async def _run_timer(self, account_id: AccountId, row: TimerRow) -> None:
        # A kind that is not known may be that of a newer version: it is kept.
        handler = self._installation.registry.timers[row.kind]
        await handler(self._services, account_id, row.key, msgspec.json.decode(row.payload))

    async def _postpone_timer(self, account_id: AccountId, row: TimerRow, due_ms: int) -> None:
        async def write(tx: Tx) -> None:
            if await _is_as_it_was(tx, row):
                await tx.put_timer(row.kind, row.key, due_ms, msgspec.json.decode(row.payload))

        await transact(self._services, account_id, "timer-postponed", write, origin="system")

    async def _drop_timer(self, account_id: AccountId, row: TimerRow) -> None:
        async def write(tx: Tx) -> None:
            if await _is_as_it_was(tx, row):
                await tx.delete_timer(row.kind, row.key)

        await transact(self._services, account_id, "timer-done", write, origin="system")

    # -- other processes -------------------------------------------------------------------------
    async def _run_news(self) -> None:
        while True:
            await self._guard("news", self._take_news)
            await asyncio.sleep(NEWS_POLL_S)

    async def _take_news(self) -> None:
        for info in await self._services.store.poll_changes():
            self._services.bus.publish(info)

    # -- mirrors ---------------------------------------------------------------------------------
    async def _run_mirrors(self, mirrors: Mirrors) -> None:
        while True:
            await self._is_changed.wait()
            self._is_changed.clear()
            while self._changed:
                account_id = next(iter(self._changed))
                del self._changed[account_id]
                if not await self._guard("mirrors", partial(mirrors.match, account_id)):
                    self._changed[account_id] = None

    # -- removed accounts ------------------------------------------------------------------------
    async def _run_erasing(self, mirrors: Mirrors) -> None:
        while True:
            await self._guard("erasing", partial(self._erase_marked, mirrors))
            await asyncio.sleep(ERASING_POLL_S)

    async def _erase_marked(self, mirrors: Mirrors) -> None:
        marked = await self._installation.registrar.list_erasing()
        for account_id in marked:
            await mirrors.end(account_id)
        if marked:
            await asyncio.sleep(ERASING_REST_S)
        for account_id in marked:
            # The next turn finds it again.
            if account_id in self._submitting or account_id in self._arriving:
                continue
            turn = partial(run_erasing, self._installation, account_id)
            if await self._guard("erasing", turn):
                log("account erased", account=account_id)


async def _is_as_it_was(tx: Tx, row: TimerRow) -> bool:
    """Whether nobody, its handler above all, set the timer anew or took it away meanwhile."""
    return row in await tx.store.list_timers(row.due_ms, DUE_ACCOUNTS_MAX)
