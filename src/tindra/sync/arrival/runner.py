"""What happens once, and only once, when new mail arrives at a connected account.

New mail is an Email that the provider told of, in the inbox, received (by the provider's clock)
after somebody asked for something to happen. So the backfill of old mail, what a device put
there, copies of what was sent, and mail seen again after its uids started anew are none: they are
older, elsewhere, of another origin, or known by their content. The intent is left in the
transaction that stores the Email, and taken away in the one that applies what follows from it: a
crash anywhere repeats the deciding, never the effect. Nothing here holds up the mirror.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, Protocol

from tindra.base.ids import AccountId
from tindra.core.datatype import Feature
from tindra.core.errors import StoreError
from tindra.core.ports import StoreReader
from tindra.core.services import Services
from tindra.core.tx import Change, Tx, transact
from tindra.features.mail.answering.vacation import load_vacation
from tindra.features.mail.writing.message_head import MessageHead, read_head
from tindra.features.sieve import load_sieve_wish
from tindra.model.mail import EmailRow, parse_email_id
from tindra.model.stored import OutboxRow

TOPIC: Final = "arrival"
"""Of the outbox rows; their key is the Email id, they carry nothing else."""
ROWS_PER_TURN_MAX: Final = 50
"""Intents taken in one turn; what is left is due at once in the next."""
RECENT_MS: Final = 3 * 24 * 3600 * 1000
"""Mail received longer ago is no news any more: an outage over a weekend is made up for."""
AHEAD_MS: Final = 24 * 3600 * 1000
"""Mail from so far in the future has a wrong time, which says nothing of when it came."""
TRIES_MAX: Final = 5
"""Then the Email stays as it came, and the operator is told."""
TRY_AGAIN_MS: Final = 30_000
"""Doubles with each try."""
MESSAGE_BYTES_MAX: Final = 50 << 20
"""A larger message is left as it came."""
Report = Callable[[str, BaseException], str]
"""Tells the operator of something unexpected; gives an id to quote."""


class GivenUp(Exception):
    """What should have happened to one Email did not, after TRIES_MAX tries."""


class Arrived(NamedTuple):
    """One Email that has just come, read outside of any transaction."""

    account_id: AccountId
    email: EmailRow
    raw: bytes
    head: MessageHead


class Happenings(NamedTuple):
    """What one step has decided; applied together with those of the other steps."""

    apply: Callable[[Tx, EmailRow], Awaitable[EmailRow]]
    """Inside the transaction: takes the Email as it is now, gives it as it shall be. May write
    anything but the Email itself."""
    is_answerable: bool = True
    """Whether later steps may answer it: not what was thrown away."""


class Step(Protocol):
    """One thing that is to happen with new mail."""

    async def decide(self, arrived: Arrived) -> Happenings | None:
        """Everything that needs no transaction. None: nothing is to happen.

        May be called many times for one Email; what it raises is tried again, TRIES_MAX times.
        """
        ...


class Wish(Protocol):
    """Since when something is to happen with new mail, in UTC milliseconds; None: not now."""

    async def __call__(self, reader: StoreReader) -> int | None: ...


async def load_vacation_wish(reader: StoreReader) -> int | None:
    """Of the VacationResponse."""
    vacation = await load_vacation(reader)
    return vacation["enabledMs"] if vacation["isEnabled"] else None


WISHES: Sequence[Wish] = (load_sieve_wish, load_vacation_wish)
"""One for each step."""


async def note_arrivals(tx: Tx, changes: list[Change]) -> None:
    """The reaction to Email changes. Cost: two small reads a batch where nobody wants anything."""
    if tx.origin != "provider":
        return
    fresh = [change.after for change in changes if change.before is None]
    since = await _load_since(tx) if fresh else None
    if since is None:
        return
    now_ms = tx.clock.now_ms()
    inbox = {row.id for row in await tx.store.load_mailboxes() if row.role == "inbox"}
    since = max(since, now_ms - RECENT_MS) // 1000 * 1000
    for email in fresh:
        is_new = since <= email.received_ms <= now_ms + AHEAD_MS
        if is_new and not inbox.isdisjoint(email.mailbox_ids) and "$draft" not in email.keywords:
            await tx.put_outbox(TOPIC, email.id)


async def _load_since(tx: Tx) -> int | None:
    found = [await wish(tx.store) for wish in WISHES]
    return min((since for since in found if since is not None), default=None)


ARRIVAL_FEATURE = Feature(name="arrival", reactions={"Email": note_arrivals})


class ArrivalRunner:
    """The consumer of the topic; one for all accounts of a process.

    Args:
        steps: in the order in which they happen.
    """

    def __init__(self, services: Services, steps: Sequence[Step], report: Report) -> None:
        self._services = services
        self._steps = tuple(steps)
        self._report = report

    async def run_turn(self, account_id: AccountId) -> int:
        """Take care of new mail of one account; how many intents there were.

        Turns of one account must not overlap. Raises: StoreError: nothing is lost.
        """
        now_ms = self._services.clock.now_ms()

        async def read(reader: StoreReader) -> list[OutboxRow]:
            return await reader.list_outbox(TOPIC, now_ms, ROWS_PER_TURN_MAX)

        rows = await self._services.store.read(account_id, read)
        for row in rows:
            # The boundary of one Email: what goes wrong with it must not stop the others.
            [failure] = await asyncio.gather(self._run_one(account_id, row), return_exceptions=True)
            if isinstance(failure, StoreError):
                raise failure
            if failure is not None:
                await self._put_off(account_id, row, failure)
        return len(rows)

    async def _run_one(self, account_id: AccountId, row: OutboxRow) -> None:
        arrived = await self._load(account_id, row.key)
        happenings: list[Happenings] = []
        if arrived is not None:
            for step in self._steps:
                found = await step.decide(arrived)
                if found is not None:
                    happenings.append(found)
                if found is not None and not found.is_answerable:
                    break
        doc_id = parse_email_id(row.key)

        async def write(tx: Tx) -> None:
            if not await tx.store.finish_outbox(row):
                return  # written again meanwhile: the next turn decides anew
            emails = await tx.store.load_emails([doc_id] if doc_id is not None else [])
            for before in emails:
                after = before
                for one in happenings:
                    after = await one.apply(tx, after)
                await tx.update_emails([(before, after)])

        await transact(self._services, account_id, "arrival", write, origin="system")

    async def _load(self, account_id: AccountId, email_id: str) -> Arrived | None:
        """The Email; None when it is gone, or turns out to be old."""
        doc_id = parse_email_id(email_id)

        async def read(reader: StoreReader) -> list[EmailRow]:
            return await reader.load_emails([doc_id] if doc_id is not None else [])

        for email in await self._services.store.read(account_id, read):
            if email.size > MESSAGE_BYTES_MAX:
                return None
            raw = await self._services.blobs.get(account_id, email.blob_id)
            if raw is None:
                return None
            head = read_head(raw)
            # Another program may have copied old mail here, which gives it a new time.
            passed_ms = head.received_ms
            is_old = passed_ms is not None and passed_ms < email.received_ms - RECENT_MS
            return None if is_old else Arrived(account_id, email, raw, head)
        return None

    async def _put_off(self, account_id: AccountId, row: OutboxRow, error: BaseException) -> None:
        """Count a failed try; after the last one tell the operator, and leave the Email alone."""
        is_last = row.tries + 1 >= TRIES_MAX
        due_ms = self._services.clock.now_ms() + (TRY_AGAIN_MS << row.tries)

        async def write(tx: Tx) -> None:
            if is_last:
                await tx.store.finish_outbox(row)
            else:
                await tx.store.retry_outbox(row, due_ms, type(error).__name__)

        await transact(self._services, account_id, "arrival-failed", write, origin="system")
        if is_last:
            self._report("arrival", GivenUp(f"{row.key}: {type(error).__name__}"))
        else:
            self._report("arrival", error)
