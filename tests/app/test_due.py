"""Whose turn it is, of the accounts that have something to send or to decide."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tindra.app import loops
from tindra.app.config import Settings
from tindra.app.people import add_user
from tindra.app.wiring import open_installation
from tindra.base.ids import AccountId
from tindra.core.services import Services
from tindra.core.tx import Tx, transact
from tindra.features.mail.submission import TOPIC as SUBMISSION
from tindra.sync.arrival.runner import TOPIC as ARRIVAL

PLACES = 2
PEOPLE = ("ada", "bea", "cleo", "dora")


async def put_intent(services: Services, account_id: AccountId, topic: str) -> None:
    async def write(tx: Tx) -> None:
        await tx.put_outbox(topic, "k")

    await transact(services, account_id, "test", write, "system")


class Tarpit:
    """Takes an intent and does not come to its end."""

    def __init__(self) -> None:
        self.seen: list[AccountId] = []
        self.is_over = asyncio.Event()

    async def run_turn(self, account_id: AccountId) -> int:
        self.seen.append(account_id)
        await self.is_over.wait()
        return 0


@pytest.mark.parametrize("topic", [SUBMISSION, ARRIVAL])
async def test_servers_that_never_answer_do_not_hold_up_other_accounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    monkeypatch.setattr(loops, "DUE_ACCOUNTS_MAX", PLACES)
    async with open_installation(Settings(data=str(tmp_path / "data"))) as installation:
        people = [await add_user(installation, name, "correct horse") for name in PEOPLE]
        for person in people:
            await put_intent(installation.services, person.home_account_id, topic)
        running = loops.Loops(installation)
        tarpit = Tarpit()
        monkeypatch.setattr(running, "_submission", tarpit)
        monkeypatch.setattr(running, "_arrival", tarpit)
        async with asyncio.TaskGroup() as group:
            for _ in range(len(PEOPLE) // PLACES):
                await running._do_due(group)
                await asyncio.sleep(0)
            seen = sorted(tarpit.seen)
            tarpit.is_over.set()
    assert seen == sorted(person.home_account_id for person in people)
