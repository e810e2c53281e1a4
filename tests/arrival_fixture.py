"""New mail on its way through an account: told by the provider, decided on, answered and sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.jmap.mail.test_submission import SETTINGS, Outbox
from tests.jmap.mail_fixture import OWN, make_raw
from tests.world import World
from tindra.base.ids import AccountId, MailboxId
from tindra.core.ports import StoreReader
from tindra.core.tx import Tx, transact
from tindra.features.mail.identity import apply_default_identity
from tindra.features.mail.ingest import NewEmail, apply_arrivals, parse_arrival
from tindra.model.blob import make_blob_id
from tindra.model.stored import BlobRow, OutboxRow
from tindra.sync.arrival.away import VacationStep
from tindra.sync.arrival.runner import TOPIC, ArrivalRunner, Step
from tindra.sync.submission import Route, SubmissionRunner

DAY_MS = 24 * 3600 * 1000


class Post:
    """An account with an inbox, to which mail comes, and a server that takes what leaves."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.account_id = AccountId(world.account_id)
        self.mailboxes: dict[str, str] = {}
        self.outbox = Outbox()
        self.reports: list[BaseException] = []
        self.steps: Sequence[Step] = [VacationStep(world.services)]
        self.restart()

    def restart(self) -> None:
        """What a fresh process would have."""

        async def load_route(_: AccountId) -> Route | None:
            return Route(SETTINGS, "secret")

        self.runner = ArrivalRunner(self.world.services, self.steps, self._report)
        self.sender = SubmissionRunner(self.world.services, self.outbox, load_route)

    def _report(self, where: str, error: BaseException) -> str:
        self.reports.append(error)
        return where

    async def open(self) -> Post:
        """Make the mailboxes and the Identity of the account's own address."""
        for role in ("inbox", "junk", "trash", "archive"):
            self.mailboxes[role] = await self.world.add_mailbox(role.title(), role=role)

        async def write(tx: Tx) -> None:
            await apply_default_identity(tx, OWN, "Alex")

        await transact(self.world.services, self.account_id, "test", write, "system")
        return self

    async def arrive(
        self,
        raw: bytes | None = None,
        mailbox: str = "inbox",
        ago_ms: int = 0,
        origin: Any = "provider",
    ) -> str:
        """The mirror stores a message; gives the Email's id."""
        data = make_raw() if raw is None else raw
        now_ms = self.world.clock.now_ms()
        blob = BlobRow(make_blob_id(data), len(data), data, now_ms)
        arrival = parse_arrival(data, blob.id)

        async def write(tx: Tx) -> str:
            await tx.put_blob(blob)
            place = (MailboxId(self.mailboxes[mailbox]),)
            return (await apply_arrivals(tx, [NewEmail(arrival, place, (), now_ms - ago_ms)]))[0].id

        id, _ = await transact(self.world.services, self.account_id, "test", write, origin)
        return id

    async def list_intents(self) -> list[OutboxRow]:
        """What waits to be decided on, now or later."""

        async def read(reader: StoreReader) -> list[OutboxRow]:
            return await reader.list_outbox(TOPIC, 1 << 52, 100)

        return await self.world.services.store.read(self.account_id, read)

    async def turn(self, later_ms: int = 0) -> list[tuple[Any, bytes]]:
        """What the loops do after so long; gives (envelope, message) that left in it."""
        self.world.clock.advance(later_ms)
        before = len(self.outbox.taken)
        await self.runner.run_turn(self.account_id)
        await self.sender.run_turn(self.account_id)
        return self.outbox.taken[before:]

    async def receive(self, raw: bytes | None = None, **more: Any) -> list[tuple[Any, bytes]]:
        """One message comes, and all that follows from it at once."""
        await self.arrive(raw, **more)
        return await self.turn()

    async def set_vacation(self, **patch: Any) -> None:
        """VacationResponse/set that must succeed."""
        made = await self.world.call("VacationResponse/set", update={"singleton": patch})
        assert made["updated"] == {"singleton": None}, made
