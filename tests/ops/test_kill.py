"""`tindra serve` killed with SIGKILL again and again, in the middle of its work, on a real Dovecot.

Each time it is started again it goes on; in the end both sides hold the same, and nothing twice.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compat.dovecot import Dovecot, fill_maildir, is_installed, start_dovecot
from tests.compat.mirrored_dovecot import OtherClient
from tests.sync.harness import make_mail
from tests.world import World
from tindra.app.config import Settings
from tindra.app.people import NewMailbox, add_mail_account, add_user
from tindra.app.wiring import open_installation
from tindra.core.access import load_caller
from tindra.features.connect import Endpoint, load_connections

pytestmark = [
    pytest.mark.skipif(not is_installed(), reason="Dovecot is not installed"),
    pytest.mark.slow,
]
_users = (f"kill{number}" for number in itertools.count())
SECONDS_MAX = 90
MESSAGES = 600
DRAFTS = 300


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    with tempfile.TemporaryDirectory(prefix="dk") as folder, start_dovecot(Path(folder)) as server:
        yield server


class Installed:
    """A data folder with one connected account, and the process that serves it."""

    def __init__(self, folder: Path, server: Dovecot, user: str) -> None:
        self.settings = Settings(data=str(folder / "data"))
        self.other = OtherClient(server, user)
        self._server = server
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    async def prepare(self) -> None:
        async with open_installation(self.settings) as installation:
            user = await add_user(installation, "alex", "secret")
            imap = Endpoint("127.0.0.1", self._server.port, "none", self._user)
            mailbox = NewMailbox("me@example.test", "", imap, None, self._server.password)
            await add_mail_account(installation, user, mailbox)

    async def act(self, fn: Callable[[World], Awaitable[Any]]) -> Any:
        """Do something as a device, while nobody serves."""
        assert self._process is None
        async with open_installation(self.settings) as installation:
            services = installation.services
            [user] = await services.directory.list_users()
            caller = await load_caller(services.directory, user, services.clock.now_ms())
            world = World(services, installation.registry, caller)
            accounts = await services.directory.load_accounts(None)
            world.account_id = next(a.id for a in accounts if a.name == "me@example.test")
            await services.store.check_invariants(world.account_id)
            return await fn(world)

    def serve(self) -> None:
        code = "from tindra.app.cli import main; main()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, "serve", "--data", self.settings.data, "--port", "0"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={n: v for n, v in os.environ.items() if not n.startswith("TINDRA_")},
        )  # fmt: skip
        assert self._process.stdout is not None
        assert b"serves" in self._process.stdout.readline()

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(20)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None

    def count(self) -> Counter[tuple[str, bytes, tuple[str, ...]]]:
        """Everything at the provider, twins and all."""
        return Counter(
            (name, raw, keywords)
            for name, messages in self.other.hold().items()
            for _, keywords, raw in messages
        )


def wait_for(is_there: Callable[[], bool], tell: str) -> None:
    until = time.monotonic() + SECONDS_MAX
    while not is_there():
        assert time.monotonic() < until, tell
        time.sleep(0.05)


async def count_local(world: World) -> int:
    answer = await world.call("Email/query", calculateTotal=True, limit=1)
    return int(answer["total"])


async def find_phase(world: World) -> str:
    [connection] = (await load_connections(world.services, world.account_id)).values()
    return str(connection["phase"])


async def wait_until_live(installed: Installed, count: int) -> None:
    """Look in between, with the server stopped politely."""
    until = time.monotonic() + SECONDS_MAX
    while True:
        installed.serve()
        await asyncio.sleep(1.5)
        installed.kill(signal.SIGTERM)
        phase, held = await installed.act(_look)
        if phase == "live" and held == count:
            return
        assert time.monotonic() < until, (phase, held)


async def _look(world: World) -> tuple[str, int]:
    return await find_phase(world), await count_local(world)


def test_a_first_sync_killed_ten_times_is_whole(dovecot: Dovecot, tmp_path: Path) -> None:
    user = next(_users)
    fill_maildir(dovecot, user, (make_mail(n, "Body\r\n" * 200) for n in range(3000)))
    installed = Installed(tmp_path, dovecot, user)
    asyncio.run(installed.prepare())
    dice, held = random.Random(5), [0]
    for _ in range(10):
        installed.serve()
        time.sleep(dice.uniform(0.05, 0.6))
        installed.kill()
        held.append(asyncio.run(installed.act(count_local)))
    assert held == sorted(held), "what was stored stays"
    assert held[1] < 3000, "it was killed in the middle"
    asyncio.run(wait_until_live(installed, 3000))
    assert sum(installed.count().values()) == 3000


async def _act(world: World) -> None:
    """Every kind of act, many times."""
    ids = (await world.call("Email/query", sort=[{"property": "receivedAt"}], limit=1000))["ids"]
    found = await world.call("Mailbox/get", ids=None)
    mailboxes = {row["name"]: row["id"] for row in found["list"]}
    made = await world.add_mailbox("Made")
    update: dict[str, Any] = {}
    for number, id in enumerate(ids):
        kind = number % 5
        if kind == 0:
            update[id] = {"keywords/$flagged": True}
        elif kind == 1:
            update[id] = {"mailboxIds": {mailboxes["Trash"]: True}, "keywords/$seen": True}
        elif kind == 2:
            update[id] = {"mailboxIds": {mailboxes["Inbox"]: True, made: True}}
    await world.call("Email/set", update=update, destroy=ids[4::5])
    for number in range(DRAFTS):
        await world.add_email(mailboxes["Drafts"], make_mail(5000 + number), ("$draft",))


def test_a_write_back_killed_again_and_again_is_done_once(dovecot: Dovecot, tmp_path: Path) -> None:
    user = next(_users)
    fill_maildir(dovecot, user, (make_mail(n) for n in range(MESSAGES)))
    installed = Installed(tmp_path, dovecot, user)
    asyncio.run(installed.prepare())
    asyncio.run(wait_until_live(installed, MESSAGES))
    asyncio.run(installed.act(_act))
    dice = random.Random(6)
    stages = set()
    for _ in range(12):
        installed.serve()
        time.sleep(dice.uniform(0.0, 0.15))
        installed.kill()
        stages.add(tuple(sorted(_sizes(installed).items())))
    assert len(stages) > 2, "it was killed in the middle"
    part = MESSAGES // 5
    expected = {"INBOX": 3 * part, "Trash": part, "Made": part, "Drafts": DRAFTS, "Sent": 0}
    installed.serve()
    wait_for(lambda: _sizes(installed) == expected, "not everything was done")
    installed.kill(signal.SIGTERM)
    asyncio.run(wait_until_live(installed, MESSAGES - part + DRAFTS))
    found = installed.count()
    assert max(found.values()) == 1, "something is there twice"
    assert _sizes(installed) == expected
    kinds = Counter((name, keywords) for name, _, keywords in found)
    assert kinds == {
        ("INBOX", ("$flagged",)): part, ("INBOX", ()): 2 * part, ("Trash", ("$seen",)): part,
        ("Made", ()): part, ("Drafts", ("$draft",)): DRAFTS,
    }  # fmt: skip


def _sizes(installed: Installed) -> dict[str, int]:
    return {name: len(messages) for name, messages in installed.other.hold().items()}
