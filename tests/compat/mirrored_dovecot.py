"""An account that mirrors a real Dovecot, and a second client (imaplib) that looks on."""

from __future__ import annotations

import asyncio
import imaplib
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from tests.compat.dovecot import Dovecot
from tests.sync.harness import FAST, Held, Mirrored, open_patient_world
from tests.world import Backend, World
from tindra.features.connect import Endpoint
from tindra.model.blob import make_blob_id
from tindra.outside.imap.provider import ImapProvider
from tindra.sync.patience import Pace
from tindra.sync.plan import make_keywords
from tindra.wire.imap.utf7 import decode_mailbox, encode_mailbox

Tls = Literal["implicit", "starttls", "none"]
vars(imaplib)["_MAXLINE"] = 10_000_000  # its own bound is for small answers


class OtherClient:
    """Somebody else at the same mailbox; every call is one connection of its own."""

    def __init__(self, server: Dovecot, user: str) -> None:
        self._server = server
        self._user = user

    def _connect(self) -> imaplib.IMAP4:
        client = imaplib.IMAP4("127.0.0.1", self._server.port, timeout=30)
        client.login(self._user, self._server.password)
        return client

    def do(self, folder: str, *commands: tuple[str, ...]) -> None:
        """Commands in a selected folder; each must succeed."""
        with self._connect() as client:
            client.select(quote(folder))
            for name, *arguments in commands:
                status, answer = client.uid(name, *arguments)
                assert status == "OK", (name, answer)

    def manage(self, *commands: tuple[str, ...]) -> None:
        """CREATE, RENAME, DELETE."""
        with self._connect() as client:
            for name, *arguments in commands:
                status, answer = getattr(client, name)(*map(quote, arguments))
                assert status == "OK", (name, answer)

    def append(
        self, messages: Iterable[bytes], folder: str = "INBOX", flags: str = ""
    ) -> list[int]:
        """Store messages as they are; gives the indexes of those that the server refused."""
        refused = []
        with self._connect() as client:
            for number, raw in enumerate(messages):
                try:
                    status, _ = _append_exactly(client, quote(folder), f"({flags})", raw)
                except (imaplib.IMAP4.error, OSError):
                    status = "BAD"
                if status != "OK":
                    refused.append(number)
        return refused

    def hold(self) -> dict[str, list[tuple[int, tuple[str, ...], bytes]]]:
        """Everything: path -> (uid, keywords, octets)."""
        while True:
            try:
                return self._hold()
            except imaplib.IMAP4.abort as error:  # a folder went while it was read: look again
                if "deleted under us" not in str(error):
                    raise

    def _hold(self) -> dict[str, list[tuple[int, tuple[str, ...], bytes]]]:
        found = {}
        with self._connect() as client:
            _, listed = client.list()
            for line in listed:
                assert isinstance(line, bytes)
                match = re.search(rb'"/" "?(.+?)"?$', line)
                assert match is not None, line
                name = decode_mailbox(match[1])
                is_node = b"\\Noselect" in line
                found[name] = [] if is_node else _fetch_all(client, name)
        return found

    def find_uid(self, raw: bytes, folder: str = "INBOX") -> str:
        """Of the message with these octets."""
        return next(str(uid) for uid, _, held in self.hold()[folder] if held == raw)

    def count_changes(self) -> dict[str, Any]:
        """HIGHESTMODSEQ of each folder."""
        with self._connect() as client:
            return {
                name: client.status(quote(name), "(HIGHESTMODSEQ UIDNEXT)")[1][0]
                for name, messages in self.hold().items()
                if messages
            }


def _append_exactly(client: imaplib.IMAP4, folder: str, flags: str, raw: bytes) -> tuple[str, Any]:
    # IMAP4.append would mend the line ends
    client.literal = raw
    answer: tuple[str, Any] = client._simple_command("APPEND", folder, flags)
    return answer


def quote(name: str) -> str:
    return '"' + encode_mailbox(name).decode("ascii") + '"'


def _fetch_all(client: imaplib.IMAP4, name: str) -> list[tuple[int, tuple[str, ...], bytes]]:
    if client.select(quote(name), readonly=True)[0] != "OK":
        return []  # it was renamed since it was listed
    _, answer = client.uid("FETCH", "1:*", "(UID FLAGS BODY.PEEK[])")
    found = []
    for item in answer:
        if isinstance(item, tuple):
            head = item[0]
            uid = re.search(rb"UID (\d+)", head)
            flags = re.search(rb"FLAGS \(([^)]*)\)", head)
            assert uid is not None, head
            assert flags is not None, head
            found.append((int(uid[1]), make_keywords(flags[1].decode().split()), item[1]))
    return found


class MirroredDovecot(Mirrored):
    """A World connected to a Dovecot user."""

    def __init__(self, world: World, server: Dovecot, user: str, tls: Tls, pace: Pace) -> None:
        super().__init__(world, ImapProvider(tls=server.client_context()), pace)
        self.other = OtherClient(server, user)
        self._server = server
        self._user = user
        self._tls = tls

    @property
    def endpoint(self) -> Endpoint:
        port = self._server.tls_port if self._tls == "implicit" else self._server.port
        return Endpoint(self._server.host, port, self._tls, self._user)

    @property
    def password(self) -> str:
        return self._server.password

    async def load_remote(self) -> Held:
        held = await asyncio.to_thread(self.other.hold)
        result: Held = {}
        for name, messages in held.items():
            content: dict[str, tuple[str, ...]] = {}
            for _, keywords, raw in messages:
                key = str(make_blob_id(raw))
                if content.setdefault(key, keywords) != keywords:
                    content[key] = ("twins differ",)
            result[name] = content
        return result


@asynccontextmanager
async def open_mirrored(
    server: Dovecot, user: str, folder: Path, *, tls: Tls = "none", backend: Backend = "sqlite"
) -> AsyncIterator[MirroredDovecot]:
    """Not connected yet; its World is checked on leaving."""
    async with open_patient_world(backend, folder) as world:
        mirrored = MirroredDovecot(world, server, user, tls, FAST)
        try:
            yield mirrored
        finally:
            await mirrored.stop()
        assert not mirrored.unexpected, mirrored.unexpected
