"""The main story against a real Dovecot: corpus in, octets unchanged, changes both ways."""

from __future__ import annotations

import imaplib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.dovecot import Dovecot, is_installed, start_dovecot
from tests.sync.harness import FAST, Held, Mirrored, make_mail, open_patient_world
from tests.world import World
from tindra.features.connect import Endpoint
from tindra.outside.imap.provider import ImapProvider

pytestmark = pytest.mark.skipif(not is_installed(), reason="Dovecot is not installed")


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    """One server for the module; each test takes a user of its own."""
    with tempfile.TemporaryDirectory(prefix="dc") as folder, start_dovecot(Path(folder)) as server:
        yield server


class DovecotMirror(Mirrored):
    """A World connected to Dovecot as one user."""

    def __init__(self, world: World, server: Dovecot, user: str) -> None:
        super().__init__(world, ImapProvider(), FAST)
        self.server = server
        self.user = user

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.server.host, self.server.port, "none", self.user)

    @property
    def password(self) -> str:
        return self.server.password

    async def load_remote(self) -> Held:
        raise NotImplementedError

    def log_in(self) -> imaplib.IMAP4:
        """Another client of the same user."""
        client = imaplib.IMAP4(self.server.host, self.server.port)
        client.login(self.user, self.server.password)
        return client


async def find(world: World, **filter: str) -> list[str]:
    """Ids of Emails."""
    return list((await world.call("Email/query", filter=filter))["ids"])


async def test_the_corpus_comes_through_unchanged_and_changes_go_both_ways(
    dovecot: Dovecot, corpus: Path, tmp_path: Path
) -> None:
    files = sorted((corpus / "mail").rglob("*.eml"))
    assert len(files) > 200
    async with open_patient_world("sqlite", tmp_path) as world:
        mirror = DovecotMirror(world, dovecot, "corpus")
        client = mirror.log_in()
        # What the server keeps is what must come through: it makes every line end CR LF.
        taken = 0
        for path in files:
            raw = path.read_bytes()
            if raw and b"\0" not in raw:
                taken += client.append("INBOX", "", "", raw)[0] == "OK"
        client.select("INBOX")
        _, parts = client.fetch("1:*", "(BODY.PEEK[])")
        kept = {bytes(part[1]) for part in parts if isinstance(part, tuple)}
        assert taken > 200
        try:
            await mirror.connect()
            await mirror.wait_for_status(phase="live")
            blobs = await world.call("Email/get", ids=None, properties=["blobId"])
            got = set()
            for email in blobs["list"]:
                data = await world.services.blobs.get(world.account_id, email["blobId"])
                assert data is not None
                got.add(data)
            assert got == kept
            # New mail is announced; a mark made here reaches the provider.
            client.append("INBOX", "", "", make_mail(7001))

            async def has_arrived() -> bool:
                return bool(await find(world, subject="7001")) or bool(
                    len((await world.call("Email/get", ids=None, properties=["id"]))["list"])
                    > len(blobs["list"])
                )

            await mirror.wait_until(has_arrived, lambda: "the new mail did not arrive")
            newest = (await world.call("Email/query", limit=1))["ids"][0]
            await world.call("Email/set", update={newest: {"keywords/$flagged": True}})

            async def is_flagged() -> bool:
                client.noop()
                return client.search(None, "FLAGGED")[1] != [b""]

            await mirror.wait_until(is_flagged, lambda: "the mark did not reach the provider")
        finally:
            await mirror.stop()
            client.logout()
        assert not mirror.unexpected
