"""What a client's canonical requests cost a running server, and whether mailbox size matters.

Starts `tindra serve` on a generated mailbox of each size and sends the requests over loopback, one
at a time. CPU is that of the server process (kernel ticks of 10 ms, so each figure is over many
requests). Run: python -m bench.bench_jmap [--sizes 10000,50000] [--n 300]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tindra.app.config import Settings
from tindra.app.demo.mail.mailmaker import make_mailbox
from tindra.app.people import add_user
from tindra.app.wiring import Installation, open_installation
from tindra.base.ids import AccountId, MailboxId
from tindra.core.tx import Tx, transact
from tindra.features.mail.indexing import run_index_step
from tindra.features.mail.ingest import NewEmail, apply_arrivals, parse_arrival
from tindra.model.blob import make_blob_id
from tindra.model.mail import MailboxRow

LOGIN, PASSWORD = "bench@tindra.test", "bench"
USING = ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"]
LIST = (
    "id blobId threadId mailboxIds keywords hasAttachment from to subject receivedAt size preview"
)
OPEN = f"{LIST} cc bcc replyTo messageId inReplyTo references bodyStructure bodyValues textBody"
NOW_MS = 1_790_000_000_000
STEP = 500


async def fill(data: Path, count: int) -> None:
    """A data folder with one user whose inbox and archive hold `count` messages."""
    async with open_installation(Settings(data=str(data))) as installation:
        services = installation.services
        user = await add_user(installation, LOGIN, PASSWORD)
        account = user.home_account_id
        inbox, archive = MailboxId("inbox"), MailboxId("archive")

        async def make_mailboxes(tx: Tx) -> None:
            for order, id in enumerate((inbox, archive), 1):
                await tx.put_mailbox(None, MailboxRow(id, id.title(), None, id, order, True))

        await transact(services, account, "bench", make_mailboxes)
        seen: set[str] = set()
        batch: list[NewEmail] = []
        for number, mail in enumerate(make_mailbox(7, count, NOW_MS)):
            raw = mail.raw + b"\r\nbenchcommon %d\r\n" % number
            if number == count // 2:
                raw += b"benchrare\r\n"
            blob = await services.blobs.put(account, raw)
            if blob.id in seen:
                continue
            seen.add(blob.id)
            place = inbox if number % 2 else archive
            keywords = ("$seen",) if "\\Seen" in mail.flags else ()
            arrival = parse_arrival(raw, make_blob_id(raw))
            batch.append(NewEmail(arrival, (place,), keywords, mail.internal_date_ms))
            if len(batch) == STEP:
                await store(installation, account, batch)
                batch = []
        await store(installation, account, batch)
        while await run_index_step(services, account):
            pass


async def store(installation: Installation, account: AccountId, batch: list[NewEmail]) -> None:
    """One transaction of new Emails."""

    async def write(tx: Tx) -> None:
        await apply_arrivals(tx, batch)

    if batch:
        await transact(installation.services, account, "bench", write)


class Client:
    """One kept-alive connection."""

    def __init__(self, port: int) -> None:
        self._http = HTTPConnection("127.0.0.1", port)
        credentials = b64encode(f"{LOGIN}:{PASSWORD}".encode()).decode()
        self._headers = {
            "Authorization": f"Basic {credentials}",
            "Content-Type": "application/json",
        }
        self._http.request("GET", "/.well-known/jmap", headers=self._headers)
        session = json.load(self._http.getresponse())
        self.account = session["primaryAccounts"][USING[1]]

    def call(self, calls: list[Any]) -> list[Any]:
        """One request; every call of it must succeed."""
        filled = [[name, {"accountId": self.account} | a, id] for name, a, id in calls]
        body = json.dumps({"using": USING, "methodCalls": filled})
        self._http.request("POST", "/jmap/api", body, self._headers)
        responses: list[Any] = json.load(self._http.getresponse())["methodResponses"]
        assert all(name != "error" for name, _, _ in responses), responses
        return responses


def refer(call: str, name: str, path: str) -> dict[str, str]:
    """A ResultReference."""
    return {"resultOf": call, "name": name, "path": path}


def make_scenarios(client: Client) -> dict[str, Callable[[int], list[Any]]]:
    """name -> the calls of the i-th request."""
    mailboxes, query = client.call(
        [
            ["Mailbox/get", {"ids": None}, "0"],
            ["Email/query", {"filter": {"inMailbox": "inbox"}, "limit": 500}, "1"],
        ]
    )
    ids = query[1]["ids"]
    states = {"Mailbox": mailboxes[1]["state"], "Email": query[1]["queryState"]}
    listed = {"properties": LIST.split()}
    newest = {"filter": {"inMailbox": "inbox"}, "collapseThreads": True, "limit": 50}
    first_open = [
        ["Mailbox/get", {"ids": None}, "0"],
        ["Email/query", newest, "1"],
        ["Email/get", {"#ids": refer("1", "Email/query", "/ids"), "properties": ["threadId"]}, "2"],
        ["Thread/get", {"#ids": refer("2", "Email/get", "/list/*/threadId")}, "3"],
        ["Email/get", {"#ids": refer("3", "Thread/get", "/list/*/emailIds")} | listed, "4"],
    ]
    delta = [
        ["Mailbox/changes", {"sinceState": states["Mailbox"]}, "0"],
        ["Email/changes", {"sinceState": states["Email"]}, "1"],
        ["Mailbox/get", {"#ids": refer("0", "Mailbox/changes", "/updated")}, "2"],
        ["Email/get", {"#ids": refer("1", "Email/changes", "/created")} | listed, "3"],
    ]
    opened = {"properties": OPEN.split(), "fetchAllBodyValues": True}

    def mark(i: int, count: int) -> list[Any]:
        chosen = [ids[(i * count + k) % 400] for k in range(count)]
        value = True if (i * count // 400) % 2 else None
        return [["Email/set", {"update": {id: {"keywords/$flagged": value} for id in chosen}}, "0"]]

    def search(text: str) -> list[Any]:
        return [["Email/query", {"filter": {"text": text}, "limit": 50}, "0"]]

    return {
        "echo": lambda _: [["Core/echo", {}, "0"]],
        "first open": lambda _: first_open,
        "idle delta": lambda _: delta,
        "open a message": lambda i: [["Email/get", {"ids": [ids[i % 400]]} | opened, "0"]],
        "search rare": lambda _: search("benchrare"),
        "search common": lambda _: search("benchcommon"),
        "mark 1": lambda i: mark(i, 1),
        "mark 50": lambda i: mark(i, 50),
    }


def read_cpu_s(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(data: Path, n: int) -> dict[str, float]:
    """Scenario -> server CPU in ms a request."""
    command = [sys.executable, "-c", "from tindra.app.cli import main; main()", "serve"]
    server = subprocess.Popen(
        [*command, "--port", "0", "--data", str(data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    try:
        line = server.stdout.readline()
        client = Client(int(line.partition("127.0.0.1:")[2].split()[0]))
        found = {}
        for name, make in make_scenarios(client).items():
            for i in range(5):
                client.call(make(-1 - i))
            began_s = read_cpu_s(server.pid)
            for i in range(n):
                client.call(make(i))
            found[name] = (read_cpu_s(server.pid) - began_s) / n * 1000
        return found
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    """Print a row a scenario: CPU at each size, and the ratio of the last to the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="2000,10000")
    parser.add_argument("--n", type=int, default=300)
    arguments = parser.parse_args()
    results = []
    for size in (int(text) for text in arguments.sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            began_s = time.perf_counter()
            asyncio.run(fill(Path(folder) / "data", size))
            print(f"{size} messages filled in {time.perf_counter() - began_s:.0f} s")
            results.append(measure(Path(folder) / "data", arguments.n))
    for name, first in results[0].items():
        cells = "  ".join(f"{result[name]:7.2f}" for result in results)
        ratio = results[-1][name] / first if first else float("nan")
        print(f"{name:16}{cells}  ms CPU   last/first {ratio:.2f}")


if __name__ == "__main__":
    main()
