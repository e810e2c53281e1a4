"""The mirror of one Connection: logs in, lives, and after any failure tries again when it is time.

One session works in turns (`turns`), a second one waits in the inbox for news; where a provider
allows no second one, or hangs up on it, the first one's rounds notice everything a little later.
All that must survive a crash is in the store (cursors, base, intents); what is held here is only
what can be asked for again. What is wrong, and when the next try is, is written for people to see.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from tindra.base.ids import AccountId
from tindra.base.retry import decide_wait_ms
from tindra.core.errors import StoreError
from tindra.core.services import Services
from tindra.features.connect import (
    Endpoint,
    load_connections,
    make_secret_name,
    update_status,
)
from tindra.model.stored import CommitInfo
from tindra.sync.intake import Report
from tindra.sync.intents import TOPICS
from tindra.sync.patience import BrakeClock, Patience
from tindra.sync.ports import (
    AuthRevoked,
    MailProvider,
    ProviderError,
    Rejected,
    ServerSettings,
    Throttled,
    Transient,
)
from tindra.sync.route import make_settings
from tindra.sync.turns import Life
from tindra.wire.jmap.date import encode_utc_date

REFUSED_MS_MIN: Final = 60_000
"""What time alone will not cure is tried at most once a minute."""
AUTH_MS: Final = (60_000, 15 * 60_000, 3_600_000, 4 * 3_600_000)
"""A refused password is tried once more soon, for the server may be wrong, then rarely: too many
failures lock an account. A new password is tried at once, by a new mirror."""


TELL_AGAIN_MS: Final = 5_000
"""What is wrong is written so often until it is written: a full disk takes not even that."""


class Ended(Exception):
    """The Connection is gone, stopped, or was changed: this mirror has nothing left to do."""


def check_cancelled() -> None:
    """End this task if that was asked for. Raises: asyncio.CancelledError.

    A TaskGroup that is failing already takes a cancellation that comes meanwhile for its own and
    raises the failure instead; whoever outlives failures must ask here, or cannot be stopped.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class AccountMirror:
    """Mirrors one Connection until it is cancelled, or the Connection is changed or stopped.

    Args:
        report: tells the operator of something unexpected; gives an id to quote.
        patience: how patient it is, and what waits.
    """

    def __init__(
        self,
        services: Services,
        provider: MailProvider,
        account_id: AccountId,
        connection_id: str,
        report: Report,
        patience: Patience,
    ) -> None:
        self._services = services
        self._provider = provider
        self._account_id = account_id
        self._connection_id = connection_id
        self._report = report
        self._patience = patience
        self._pace = patience.pace
        self._life: Life | None = None
        self._status: dict[str, Any] = {}
        self._revision = -1
        self._tries = 0
        self._trouble_here: str | None = None
        """What our own store could not do in the last life."""

    async def run(self) -> None:
        """Connect, mirror, and after any failure try again when it is time."""
        unsubscribe = self._services.bus.subscribe(self._on_commit)
        try:
            while True:
                await self._run_once()
        except Ended:
            return
        finally:
            unsubscribe()

    def _on_commit(self, info: CommitInfo) -> None:
        is_mine = info.account_id == self._account_id
        if is_mine and self._life is not None and not TOPICS.isdisjoint(info.topics):
            self._life.wake.set()

    async def _run_once(self) -> None:
        """One life of the sessions, and the rest after it. Raises: Ended."""
        started_ms = self._services.clock.monotonic_ms()
        try:
            await self._serve()
        except Exception as error:  # the boundary of a mirror: it must outlive any failure
            check_cancelled()
            problem = self._judge(error)
        else:
            return
        if self._services.clock.monotonic_ms() - started_ms >= self._pace.proven_ms:
            self._tries = 0
        await self._rest(problem)

    def _judge(self, error: BaseException) -> ProviderError:
        """What to tell of whatever ended a life. Raises: Ended."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, Ended):
            raise error
        if isinstance(error, ProviderError):
            return error
        self._trouble_here = None
        if isinstance(error, StoreError):
            self._trouble_here = f"The trouble is here, not at the mail server: {error}"
            return Transient(self._trouble_here)
        id = self._report("mirror", error)
        return Transient(f"Something went wrong here ({id})")

    async def _rest(self, error: ProviderError) -> None:
        """Say what is wrong and wait: longer for what time alone will not cure."""
        phase, wait_ms = self._decide_rest(error)
        next_try = encode_utc_date(self._services.clock.now_ms() + wait_ms)
        is_reported = False
        while True:
            try:
                await self._tell(phase=phase, lastError=str(error), nextTryAt=next_try)
                break
            except StoreError as problem:
                if not is_reported:
                    self._report("mirror status", problem)
                is_reported = True
            pause_ms = min(wait_ms, TELL_AGAIN_MS)
            await self._services.clock.sleep_ms(pause_ms)
            wait_ms -= pause_ms
            if wait_ms <= 0:
                return
        await self._services.clock.sleep_ms(wait_ms)

    def _decide_rest(self, error: ProviderError) -> tuple[str, int]:
        self._tries += 1
        phase = "waiting"
        if isinstance(error, AuthRevoked):
            phase = "needsAuth"
        elif isinstance(error, Rejected):
            phase = "refused"
        return phase, self._decide_wait_ms(error, self._tries)

    def _decide_wait_ms(self, error: ProviderError | None, tries: int) -> int:
        """How long to leave the provider alone after so many failures in a row."""
        wait_ms = decide_wait_ms(tries, self._services.random)
        if isinstance(error, AuthRevoked):
            wait_ms = AUTH_MS[min(tries, len(AUTH_MS)) - 1]
        elif isinstance(error, Rejected):
            wait_ms = max(wait_ms, REFUSED_MS_MIN)
        elif isinstance(error, Transient):
            least_ms = REFUSED_MS_MIN if isinstance(error, Throttled) else 0
            wait_ms = max(wait_ms, least_ms, error.retry_after_ms or 0)
        if self._pace.rest_ms_max is not None:
            wait_ms = min(wait_ms, self._pace.rest_ms_max)
        return wait_ms

    async def _tell(self, **changes: Any) -> None:
        """Write the status, if it is another one. Raises: Ended."""
        if all(self._status.get(name, self) == value for name, value in changes.items()):
            return
        is_ours = await update_status(
            self._services, self._account_id, self._connection_id, self._revision, changes
        )
        if not is_ours:
            raise Ended
        self._status |= changes

    async def _serve(self) -> None:
        """One life of the sessions. Raises: Ended; ProviderError; groups of them."""
        connections = await load_connections(self._services, self._account_id)
        connection = connections.get(self._connection_id)
        if connection is None or connection["phase"] == "stopped":
            raise Ended
        if connection["revision"] != self._revision:
            self._revision, self._status = connection["revision"], {}
            clock = self._services.clock
            self._patience.brake = BrakeClock(
                connection.get("brake"), clock.now_ms(), clock.monotonic_ms()
            )
        secret = await self._services.secrets.open_secret(
            self._account_id, make_secret_name(self._connection_id, "imap")
        )
        if secret is None:
            raise AuthRevoked("There is no password for this connection", code="LOCAL")
        settings = make_settings(msgspec.convert(connection["imap"], Endpoint))
        # Why it waits must stay to be read.
        is_quiet = self._trouble_here is not None or bool(self._patience.refusals)
        if not is_quiet and self._status.get("phase") not in ("live", "backfilling"):
            await self._tell(phase="connecting")
        session = await self._provider.connect(settings, secret)
        life = Life(
            self._services,
            self._account_id,
            session,
            self._tell,
            self._report,
            self._patience,
        )
        self._life = life
        if self._trouble_here is not None:
            life.note_trouble(self._trouble_here)
        try:
            await life.begin()
            async with asyncio.TaskGroup() as group:
                inbox = life.find_inbox()
                if inbox is not None:
                    group.create_task(self._watch(settings, secret, inbox, life))
                await life.run()
        finally:
            self._life = None
            life.end()
            await session.close()

    async def _watch(self, settings: ServerSettings, secret: str, inbox: str, life: Life) -> None:
        """A second session that waits in the inbox and calls when something happens; where it
        cannot be had, the rounds of the first one are all there is. Never returns."""
        tries = 0
        while True:
            started_ms = self._services.clock.monotonic_ms()
            problem: ProviderError | None = None
            try:
                await self._wait_for_news(settings, secret, inbox, life)
            except ProviderError as error:
                problem = error  # some hang up at random, some allow one session: no complaint
            if self._services.clock.monotonic_ms() - started_ms >= self._pace.proven_ms:
                tries = 0
            tries += 1
            # A password that was changed must not be tried until the account is locked.
            await self._services.clock.sleep_ms(self._decide_wait_ms(problem, tries))

    async def _wait_for_news(
        self, settings: ServerSettings, secret: str, inbox: str, life: Life
    ) -> None:
        session = await self._provider.connect(settings, secret)
        try:
            await session.select(inbox)
            # What came between the first look and this SELECT was announced to nobody.
            life.note_inbox()
            while True:
                if await session.idle(self._pace.idle_ms):
                    life.note_inbox()
        finally:
            await session.close()
