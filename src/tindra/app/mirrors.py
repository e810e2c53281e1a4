"""One task for each Connection that is to be mirrored; started, ended and renewed as they change.

A mirror whose Connection was changed ends by itself or is cancelled, and a new one starts when the
old one has let go: never do two work on one mailbox.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final, NamedTuple

from tindra.app.log import log
from tindra.base.ids import AccountId
from tindra.core.services import Services
from tindra.features.connect import load_connections
from tindra.sync.engine import AccountMirror, check_cancelled
from tindra.sync.intake import Report
from tindra.sync.patience import BackfillGate, Pace, Patience
from tindra.sync.ports import MailProvider, MailSession, ServerSettings

CONNECTING_MAX: Final = 32
"""Logins at a time: thousands of TLS handshakes at a start would stop everything else."""

BACKFILLING_MAX: Final = 8
"""Accounts that read old mail at a time: each holds some forty megabytes of messages meanwhile, and
more where messages are large. New mail and what devices do never wait for it."""

REVIVAL_MS: Final = 60_000
"""A mirror that died of a bug of ours gets another life."""


class PacedProvider:
    """A provider that does not log in everywhere at once."""

    def __init__(self, provider: MailProvider) -> None:
        self._provider = provider
        self._gate = asyncio.Semaphore(CONNECTING_MAX)

    async def connect(self, settings: ServerSettings, password: str) -> MailSession:
        """Source: sync.ports.MailProvider"""
        async with self._gate:
            return await self._provider.connect(settings, password)


class _Running(NamedTuple):
    revision: int
    task: asyncio.Task[None]


class Mirrors:
    """The mirrors of one process.

    Args:
        group: holds their tasks.
    """

    def __init__(
        self,
        services: Services,
        provider: MailProvider,
        group: asyncio.TaskGroup,
        report: Report,
        pace: Pace | None = None,
    ) -> None:
        self._services = services
        self._provider = PacedProvider(provider)
        self._group = group
        self._report = report
        self._pace = pace
        self._gate = BackfillGate(BACKFILLING_MAX)
        self._running: dict[tuple[AccountId, str], _Running] = {}

    async def match(self, account_id: AccountId) -> None:
        """Start a mirror for each Connection that has none, end those that are not wanted.

        Raises: StoreError.
        """
        # Of one that is being erased there may still be a Connection, but no account.
        is_there = await self._services.directory.load_accounts([account_id])
        found = await load_connections(self._services, account_id) if is_there else {}
        wanted = {id: c["revision"] for id, c in found.items() if c["phase"] != "stopped"}
        for key in [key for key in self._running if key[0] == account_id]:
            if wanted.get(key[1]) != self._running[key].revision:
                self._running[key].task.cancel()
                if key[1] not in wanted:
                    log("mirror stopped", connection=key[1])
        for id, revision in wanted.items():
            before = self._running.get((account_id, id))
            if before is None or before.revision != revision or before.task.done():
                task = self._group.create_task(
                    self._run(account_id, id, None if before is None else before.task)
                )
                self._running[account_id, id] = _Running(revision, task)
                task.add_done_callback(partial(self._forget, (account_id, id)))
                log("mirror started", connection=id)

    async def end(self, account_id: AccountId) -> None:
        """End the mirrors of an account; they have let go when this returns."""
        tasks = [running.task for key, running in self._running.items() if key[0] == account_id]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
            log("mirrors ended", account=account_id)

    def _forget(self, key: tuple[AccountId, str], task: asyncio.Task[None]) -> None:
        if key in self._running and self._running[key].task is task:
            del self._running[key]

    async def _run(self, account_id: AccountId, id: str, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        while True:
            patience = Patience(self._services.random, self._pace, self._gate)
            mirror = AccountMirror(
                self._services, self._provider, account_id, id, self._report, patience
            )
            try:
                await mirror.run()
                return
            except Exception as error:  # the boundary of a task: one account is not another's
                check_cancelled()
                self._report("mirror ended", error)
            await self._services.clock.sleep_ms(REVIVAL_MS)
