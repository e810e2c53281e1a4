"""Compares our IMAP client with IMAPClient on one Dovecot: fetching a mailbox, and idling.

Run: python -m bench.bench_imap [messages] [rounds] [connections]. Both clients fetch the same UIDs,
flags, dates, sizes and bodies, in turn; CPU is that of the client only, median of the rounds. Idle
connections are measured in a fresh process. Only the ratios of one run say anything about another
machine.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import imapclient
import uvloop

from tests.compat.dovecot import Dovecot, fill_maildir, start_dovecot
from tindra.outside.imap.provider import ImapProvider
from tindra.outside.imap.session import ImapSession
from tindra.sync.ports import ServerSettings

BATCH_UIDS = 500
BODY_BYTES = 5_000
WINDOW_BYTES = 16 * 1024 * 1024


def make_messages(count: int) -> list[bytes]:
    """Mails of about 5 KB with a realistic number of header lines."""
    rng = random.Random(7)
    header = "".join(f"X-Header-{n}: some value of this line {n}\r\n" for n in range(15))
    line = "the quick brown fox jumps over the lazy dog and back again\r\n"
    mails = []
    for number in range(count):
        body = line * rng.randrange(1, 2 * BODY_BYTES // len(line))
        mails.append(f"Subject: mail {number}\r\n{header}\r\n{body}".encode())
    return mails


async def connect(server: Dovecot, user: str, provider: ImapProvider | None = None) -> ImapSession:
    """Over TLS with a provider, in the clear without."""
    if provider is None:
        there = ServerSettings(server.host, server.port, "none", user)
        return await PLAIN.connect(there, server.password)
    there = ServerSettings(server.host, server.tls_port, "implicit", user)
    return await provider.connect(there, server.password)


PLAIN = ImapProvider()


def fetch_ours(server: Dovecot, user: str) -> int:
    async def main() -> int:
        session = await connect(server, user)
        await session.select("INBOX")
        uids = await session.list_uids()
        count = 0
        async for message in session.fetch_messages(uids, WINDOW_BYTES):
            assert message.raw is not None
            count += 1
        await session.close()
        return count

    return uvloop.run(main())


def fetch_flags_ours(server: Dovecot, user: str) -> int:
    async def main() -> int:
        session = await connect(server, user)
        await session.select("INBOX")
        found = await session.fetch_flags([(1, 2**32 - 1)])
        await session.close()
        return len(found)

    return uvloop.run(main())


def fetch_imapclient(server: Dovecot, user: str) -> int:
    with imapclient.IMAPClient(server.host, server.port, ssl=False) as client:
        client.login(user, server.password)
        client.select_folder("INBOX")
        uids = client.search()
        count = 0
        for start in range(0, len(uids), BATCH_UIDS):
            items = ["FLAGS", "INTERNALDATE", "RFC822.SIZE", "MODSEQ", "BODY.PEEK[]"]
            count += len(client.fetch(uids[start : start + BATCH_UIDS], items))
    return count


def fetch_flags_imapclient(server: Dovecot, user: str) -> int:
    with imapclient.IMAPClient(server.host, server.port, ssl=False) as client:
        client.login(user, server.password)
        client.select_folder("INBOX")
        return len(client.fetch(client.search(), ["FLAGS", "MODSEQ"]))


def compare(server: Dovecot, user: str, count: int, rounds: int) -> None:
    contests = {
        "whole messages": (fetch_ours, fetch_imapclient),
        "flags": (fetch_flags_ours, fetch_flags_imapclient),
    }
    for what, runners in contests.items():
        cpu: dict[str, list[float]] = {}
        wall: dict[str, list[float]] = {}
        for run in runners * rounds:
            gc.collect()
            cpu_before, wall_before = time.process_time(), time.perf_counter()
            assert run(server, user) == count
            cpu.setdefault(run.__name__, []).append(time.process_time() - cpu_before)
            wall.setdefault(run.__name__, []).append(time.perf_counter() - wall_before)
        ours, theirs = (statistics.median(cpu[run.__name__]) for run in runners)
        for run in runners:
            per_message = statistics.median(cpu[run.__name__]) / count * 1e6
            rate = count / statistics.median(wall[run.__name__])
            spread = f"{min(cpu[run.__name__]) / count * 1e6:.0f}"
            spread += f"-{max(cpu[run.__name__]) / count * 1e6:.0f}"
            print(f"{what}: {run.__name__:24} {per_message:7.0f} us CPU ({spread}), {rate:7.0f}/s")
        print(f"{what}: IMAPClient uses {theirs / ours:.1f} times the CPU")


def private_bytes() -> int:
    """Memory that only this process has."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def measure_idle(server: Dovecot, connections: int, tls: bool) -> None:
    """Memory of connections that sit in IDLE, and the CPU to get them there."""

    async def main() -> None:
        provider = ImapProvider(tls=server.client_context()) if tls else None
        warm = [await connect(server, f"idle{n}", provider) for n in range(10)]
        for session in warm:
            await session.select("INBOX")
        gc.collect()
        before, cpu_before = private_bytes(), time.process_time()
        sessions = []
        for number in range(connections):
            session = await connect(server, f"idle{number % 50}", provider)
            await session.select("INBOX")
            sessions.append(session)
        async with asyncio.TaskGroup() as group:
            for session in sessions:
                group.create_task(session.idle(1_000))
            await asyncio.sleep(0.5)
            gc.collect()
            used = (private_bytes() - before) / connections / 1024
            cpu = (time.process_time() - cpu_before) / connections * 1e6
        name = "TLS" if tls else "plain"
        print(f"idle, {name}: {used:.1f} KiB a connection, {cpu:.0f} us CPU to connect and idle")
        for session in (*warm, *sessions):
            await session.close()

    uvloop.run(main())


def main() -> None:
    numbers = [int(word) for word in sys.argv[1:]]
    count, rounds, connections = (*numbers, *(5000, 3, 200)[len(numbers) :])
    with tempfile.TemporaryDirectory(prefix="dc") as folder, start_dovecot(Path(folder)) as server:
        fill_maildir(server, "bench", make_messages(count))
        fetch_imapclient(server, "bench")  # Dovecot writes its caches
        compare(server, "bench", count, rounds)
        for tls in (False, True):
            context = multiprocessing.get_context("spawn")
            process = context.Process(target=measure_idle, args=(server, connections, tls))
            process.start()
            process.join()


if __name__ == "__main__":
    main()
