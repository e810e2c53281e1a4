"""How fast the first sync of a mailbox is, from Dovecot to a live account, and what it costs.

Run: `python -m bench.bench_sync [messages]`. The mailbox comes from a generator that is no part of
the repository (`TINDRA_BENCH_MAIL`, or `../shared/bench/mkmail.py`). Everything of a running server
but HTTP is at work: mirror, search index, change log, blobs, on a real folder. CPU is that of this
process; Dovecot has its own. Then the same mailbox is looked at again, with nothing to do.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.compat.dovecot import Dovecot, start_dovecot
from tindra.app.config import Settings
from tindra.app.log import set_up_log
from tindra.app.people import NewMailbox, add_mail_account, add_user
from tindra.app.serve import running_loops
from tindra.app.wiring import Installation, open_installation
from tindra.base.ids import AccountId
from tindra.features.connect import Endpoint, load_connections
from tindra.server.run import make_loop

MESSAGES = 2_000
PROMISED_PER_S = 400
USER = "bench"
ROOT = Path(__file__).parent.parent


def make_mailbox(folder: Path, count: int) -> None:
    """Generate a Maildir. Raises: SystemExit where there is no generator."""
    tool = Path(os.environ.get("TINDRA_BENCH_MAIL", ROOT.parent / "shared/bench/mkmail.py"))
    if not tool.exists():
        raise SystemExit(f"no mail generator at {tool}: set TINDRA_BENCH_MAIL")
    command = [sys.executable, str(tool), "--count", str(count), "--out", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def count_bytes(folder: Path) -> int:
    """Of all messages."""
    return sum(path.stat().st_size for path in folder.glob("Maildir/**/cur/*"))


async def wait_until_live(installation: Installation, account_id: AccountId) -> dict[str, Any]:
    """The Connection, once all is mirrored."""
    while True:
        [connection] = (await load_connections(installation.services, account_id)).values()
        if connection["phase"] == "live":
            return connection
        if connection["lastError"]:
            raise SystemExit(connection["lastError"])
        await asyncio.sleep(0.01)


async def wait_until_indexed(installation: Installation, account_id: AccountId) -> None:
    """Until the search index knows every Email."""
    search = installation.services.search
    while await search.list_unindexed(account_id, 1):  # noqa: ASYNC110 nobody tells of it
        await asyncio.sleep(0.02)


async def measure(server: Dovecot, data: Path, count: int, octets: int) -> bool:
    """Sync, and print what it took."""
    settings = Settings(data=str(data))
    async with open_installation(settings) as installation:
        user = await add_user(installation, USER, "secret")
        imap = Endpoint("127.0.0.1", server.port, "none", USER)
        mailbox = NewMailbox("bench@bench.test", "", imap, None, server.password)
        account_id = await add_mail_account(installation, user, mailbox)
        started, cpu = time.perf_counter(), time.process_time()
        async with running_loops(installation):
            found = await wait_until_live(installation, account_id)
            seconds, used = time.perf_counter() - started, time.process_time() - cpu
            assert found["messagesDone"] == count, found
            await wait_until_indexed(installation, account_id)
            indexed = time.process_time() - cpu
        rate = count / seconds
        print(f"{count} messages, {octets / count / 1024:.1f} KiB each")
        print(
            f"  until live: {seconds:6.2f} s  {rate:6.0f} messages/s  (promised {PROMISED_PER_S})"
        )
        print(
            f"              {1000 * used / count:6.2f} ms CPU a message, indexing as far as it came"
        )
        print(f"  indexed:    {1000 * indexed / count:6.2f} ms CPU a message in all")
        started, cpu = time.perf_counter(), time.process_time()
        async with running_loops(installation):
            await asyncio.sleep(2)
        print(f"  a second start: {1000 * (time.process_time() - cpu):.0f} ms CPU")
    return rate >= PROMISED_PER_S


def main() -> None:
    """Run all of it; exit status 1 if it is slower than promised."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MESSAGES
    set_up_log("text", "warning")
    with tempfile.TemporaryDirectory(prefix="bs-") as name:
        folder = Path(name)
        make_mailbox(folder / "mail", count)
        octets = count_bytes(folder / "mail")
        (folder / "d").mkdir()
        folder.chmod(0o711)  # the mail user walks through
        with start_dovecot(folder / "d") as server:
            home = server.folder / "home"
            (home / USER).mkdir()
            shutil.move(str(folder / "mail" / "Maildir"), home / USER / "mail")
            owner = home.stat()
            for path in home.rglob("*"):
                os.chown(path, owner.st_uid, owner.st_gid)
            with asyncio.Runner(loop_factory=make_loop) as runner:
                is_good = runner.run(measure(server, folder / "data", count, octets))
    raise SystemExit(0 if is_good else 1)


if __name__ == "__main__":
    main()
