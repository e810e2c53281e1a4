"""What waits in an installation is shown to whoever watches it."""

from __future__ import annotations

from pathlib import Path

from tests.app.test_people import MAILBOX
from tindra.app.config import Settings
from tindra.app.disk import DiskWatch
from tindra.app.people import add_mail_account, add_user
from tindra.app.readings import Readings
from tindra.app.wiring import Installation, open_installation
from tindra.base.ids import AccountId, MailboxId
from tindra.core.tx import Tx, transact
from tindra.features.mail.indexing import run_index_step
from tindra.features.mail.ingest import NewEmail, apply_arrivals, parse_arrival
from tindra.model.blob import make_blob_id
from tindra.model.mail import MailboxRow
from tindra.server.metrics import METRICS
from tindra.store.sqlite.backlog import SqliteBacklog

Shown = dict[tuple[str, ...], float]


async def look(installation: Installation) -> Shown:
    backlog = SqliteBacklog(installation.store)
    disk = DiskWatch(installation.settings, installation.store)
    readings = await Readings(backlog, disk, installation.services.clock, {"sent": 3}).load()
    labels = {metric.name: metric.labels for metric in METRICS}
    assert all(len(reading.labels) == len(labels[reading.name]) for reading in readings)
    return {(reading.name, *reading.labels): reading.value for reading in readings}


async def fill(installation: Installation, account_id: AccountId) -> None:
    services = installation.services
    raw = b"Subject: one\r\n\r\nand only\r\n"
    inbox = MailboxId("inbox")

    async def write(tx: Tx) -> None:
        await tx.put_mailbox(None, MailboxRow(inbox, "Inbox", None, "inbox", 1, True))
        arrival = parse_arrival(raw, make_blob_id(raw))
        await apply_arrivals(tx, [NewEmail(arrival, (inbox,), (), services.clock.now_ms())])
        now_ms = services.clock.now_ms()
        await tx.put_outbox("submission", "a", due_ms=now_ms - 60_000)
        await tx.put_outbox("submission", "b", due_ms=now_ms + 3_600_000)
        await tx.put_timer("nothing-knows-this", "k", now_ms - 120_000)

    await transact(services, account_id, "some-work", write, origin="provider")


async def test_what_waits_is_read_and_is_gone_when_it_is_done(tmp_path: Path) -> None:
    async with open_installation(Settings(data=str(tmp_path / "data"))) as installation:
        before = await look(installation)
        assert before["tindra_index_waiting_emails",] == 0
        assert before["tindra_pushes_total", "sent"] == 3
        assert before["tindra_timers_late_seconds",] == 0
        assert before["tindra_disk_free_bytes", "data"] > 0
        assert not [name for name, *_ in before if name.startswith("tindra_outbox")]
        user = await add_user(installation, "me@example.test", "secret")
        account_id = await add_mail_account(installation, user, MAILBOX)
        await fill(installation, account_id)
        shown = await look(installation)
        assert shown["tindra_mirrors", "connecting"] == 1
        assert shown["tindra_outbox_intents", "submission"] == 2
        assert 60 <= shown["tindra_outbox_late_seconds", "submission"] < 120
        assert 120 <= shown["tindra_timers_late_seconds",] < 240
        assert shown["tindra_index_waiting_emails",] == 1
        assert shown["tindra_transactions_total", "some-work"] == 1
        assert shown["tindra_transaction_seconds_total", "some-work"] > 0
        while await run_index_step(installation.services, account_id):
            pass
        assert (await look(installation))["tindra_index_waiting_emails",] == 0
