"""`outside/imap` against a real Dovecot: everything the sync engine relies on, on the real wire."""

from __future__ import annotations

import asyncio
import imaplib
import itertools
import re
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec
import pytest
import uvloop

from tests.compat.dovecot import Dovecot, fill_maildir, is_installed, start_dovecot
from tindra.outside.imap.provider import ImapProvider
from tindra.outside.imap.quirks import DEFAULT_QUIRKS, Quirks
from tindra.outside.imap.session import ImapSession
from tindra.outside.imap.window import FetchWindow
from tindra.sync.ports import AuthRevoked, Known, ProviderError, Rejected, ServerSettings, Transient
from tindra.wire.imap.command import Dialect
from tindra.wire.imap.machine import Event
from tindra.wire.imap.seqset import UID_MAX

pytestmark = pytest.mark.skipif(not is_installed(), reason="Dovecot is not installed")

Act = Callable[[ImapSession], Awaitable[object]]
Tls = Literal["implicit", "starttls", "none"]

_users = (f"user{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    # not pytest's own folder: that one is closed to the mail user, again and again
    with tempfile.TemporaryDirectory(prefix="dc") as folder, start_dovecot(Path(folder)) as server:
        yield server


def settings(server: Dovecot, user: str, tls: Tls = "none") -> ServerSettings:
    port = server.tls_port if tls == "implicit" else server.port
    return ServerSettings(server.host, port, tls, user)


async def connect(
    server: Dovecot, user: str, tls: Tls = "none", quirks: Quirks = DEFAULT_QUIRKS
) -> ImapSession:
    provider = ImapProvider(tls=server.client_context(), choose_quirks=lambda _: quirks)
    return await provider.connect(settings(server, user, tls), server.password)


def with_session(server: Dovecot, act: Act, quirks: Quirks = DEFAULT_QUIRKS) -> None:
    """One session of a fresh user with INBOX selected."""

    async def main() -> None:
        session = await connect(server, next(_users), quirks=quirks)
        try:
            await session.select("INBOX")
            await act(session)
        finally:
            await session.close()

    uvloop.run(main())


def with_two(server: Dovecot, act: Callable[[ImapSession, ImapSession], Awaitable[object]]) -> None:
    """Two sessions of one fresh user with INBOX selected: ours and another client's."""

    async def main() -> None:
        user = next(_users)
        ours, other = await connect(server, user), await connect(server, user)
        try:
            await ours.select("INBOX")
            await other.select("INBOX")
            await act(ours, other)
        finally:
            await ours.close()
            await other.close()

    uvloop.run(main())


def without(*names: str) -> Quirks:
    return msgspec.structs.replace(DEFAULT_QUIRKS, lies=frozenset(names))


async def fill(session: ImapSession, count: int) -> list[int]:
    """`count` small messages in INBOX; their UIDs."""
    for number in range(count):
        await session.append("INBOX", b"Subject: %d\r\n\r\nhi\r\n" % number, [], None)
    return await session.list_uids()


# --- getting in -----------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
def test_the_right_password_opens_a_session_in_every_tls_mode(
    dovecot: Dovecot, tls: Tls, run: Callable[..., None]
) -> None:
    async def main() -> None:
        session = await connect(dovecot, next(_users), tls)
        assert {"QRESYNC", "MOVE", "UIDPLUS", "IDLE"} <= session.capabilities
        assert session.is_qresync_on
        await session.noop()
        await session.close()
        await session.close()
        with pytest.raises(Transient):
            await session.noop()

    run(main())


def connect_error(
    settings_: ServerSettings, password: str, provider: ImapProvider
) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        uvloop.run(provider.connect(settings_, password))
    return caught.value


@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
def test_a_wrong_password_is_told_as_such(dovecot: Dovecot, tls: Tls) -> None:
    provider = ImapProvider(tls=dovecot.client_context())
    error = connect_error(settings(dovecot, "joe", tls), "wrong", provider)
    assert isinstance(error, AuthRevoked)
    assert error.server_words
    assert "password" in error.message


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_a_certificate_of_an_unknown_authority_is_refused(dovecot: Dovecot, tls: Tls) -> None:
    error = connect_error(settings(dovecot, "joe", tls), dovecot.password, ImapProvider())
    assert isinstance(error, Rejected)
    assert error.code == "CERTIFICATE"


def test_a_certificate_for_another_name_is_refused(dovecot: Dovecot) -> None:
    there = msgspec.structs.replace(settings(dovecot, "joe", "implicit"), host="127.0.0.1")
    error = connect_error(there, dovecot.password, ImapProvider(tls=dovecot.client_context()))
    assert error.code == "CERTIFICATE"
    assert "another name" in error.message


def test_an_owner_may_accept_any_certificate(dovecot: Dovecot) -> None:
    there = msgspec.structs.replace(settings(dovecot, "joe", "implicit"), verify_tls=False)

    async def main() -> None:
        session = await ImapProvider().connect(there, dovecot.password)
        await session.close()

    uvloop.run(main())


def test_tls_from_the_first_byte_on_a_plain_port_is_told_as_such(dovecot: Dovecot) -> None:
    there = ServerSettings(dovecot.host, dovecot.port, "implicit", "joe")
    error = connect_error(there, "x", ImapProvider(tls=dovecot.client_context()))
    assert error.code == "TLS_MODE"


def test_plain_on_a_tls_port_is_told_as_such(
    dovecot: Dovecot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tindra.outside.imap.client.GREETING_MS_MAX", 300)
    there = ServerSettings(dovecot.host, dovecot.tls_port, "none", "joe")
    assert connect_error(there, "x", ImapProvider()).code == "TLS_MODE"


@pytest.mark.parametrize(("host", "port"), [("localhost", 1), ("no-such-host.invalid", 143)])
def test_a_host_that_is_not_there_is_told_as_such(host: str, port: int) -> None:
    error = connect_error(ServerSettings(host, port, "none", "joe"), "x", ImapProvider())
    assert isinstance(error, Transient)
    assert error.code == "UNREACHABLE"
    assert host in error.message


# --- mailboxes ------------------------------------------------------------------------------------


def test_mailboxes_are_listed_with_roles_made_renamed_and_deleted(dovecot: Dovecot) -> None:
    async def act(session: ImapSession) -> None:
        roles = {one.name: one.role for one in await session.list_mailboxes()}
        assert roles == {"INBOX": "inbox", "Drafts": "drafts", "Sent": "sent", "Trash": "trash"}
        for name in ('Büro/日本 & "mehr"', "\\back*slash%", "NIL", "{5}"):
            await session.create_mailbox(name)
            assert name in {one.name for one in await session.list_mailboxes()}
            status = await session.status(name)
            assert (status.exists, status.uid_next) == (0, 1)
            await session.rename_mailbox(name, "neu")
            assert (await session.status("neu")).uid_validity == status.uid_validity
            await session.select("neu")
            await session.delete_mailbox("neu")
        assert "neu" not in {one.name for one in await session.list_mailboxes()}
        await session.create_mailbox("twice")
        with pytest.raises(Rejected) as caught:
            await session.create_mailbox("twice")
        assert caught.value.code == "ALREADYEXISTS"
        with pytest.raises(Rejected):
            await session.select("nowhere")

    with_session(dovecot, act)


# --- messages -------------------------------------------------------------------------------------

_NASTY = [
    b"\r\n",
    b"no header end",
    b"Subject: x\r\n\r\n) t1 OK FETCH {5}\r\n",
    b"Subject: =?utf-8?q?=C3=A4?=\r\n\r\n"
    + bytes(range(1, 256)).replace(b"\n", b"").replace(b"\r", b""),
    b"Subject: long\r\n\r\n" + b"y" * 200_000 + b"\r\n",
]


@pytest.mark.parametrize("literal", ["plus", "sync"])
def test_messages_come_back_octet_for_octet(dovecot: Dovecot, literal: str) -> None:
    async def act(session: ImapSession) -> None:
        if literal == "sync":
            session._connection.machine._dialect = Dialect("sync")
        at_ms = 1_000_000_000_000
        told = [await session.append("INBOX", raw, ["\\Seen", "$Label1"], at_ms) for raw in _NASTY]
        found = {m.uid: m async for m in session.fetch_messages([1, 2, 3, 4, 5], 1_000_000)}
        for (_, uid), raw in zip(filter(None, told), _NASTY, strict=True):
            message = found[uid]
            assert message.raw == raw
            assert message.size == len(raw)
            assert message.flags == {"\\Seen", "$Label1"}
            assert message.internal_date_ms == at_ms
            assert message.modseq

    with_session(dovecot, act)


def test_append_to_nowhere_and_of_nul_octets(dovecot: Dovecot) -> None:
    async def act(session: ImapSession) -> None:
        with pytest.raises(Rejected) as caught:
            await session.append("nowhere", b"Subject: x\r\n\r\n", [], None)
        assert caught.value.code == "TRYCREATE"
        assert await session.append("INBOX", b"Subject: x\r\n\r\na\0b\r\n", [], None)

    with_session(dovecot, act)


def test_flag_changes_are_seen_by_mod_sequence(dovecot: Dovecot) -> None:
    async def act(ours: ImapSession, other: ImapSession) -> None:
        uids = await fill(ours, 5)
        before = (await ours.select("INBOX")).status.highest_modseq
        assert before is not None
        await other.noop()
        await other.store_flags(uids[1:3], ["\\Seen", "$Work"], [])
        await other.store_flags(uids[2:3], [], ["\\Seen"])
        changed = await ours.fetch_flags([(1, UID_MAX)], changed_since=before)
        assert {one.uid: one.flags for one in changed} == {
            uids[1]: {"\\Seen", "$Work"},
            uids[2]: {"$Work"},
        }
        assert all(one.modseq is not None and one.modseq > before for one in changed)
        everything = await ours.fetch_flags([(1, UID_MAX)])
        assert [one.uid for one in everything] == uids
        above = await ours.fetch_flags([(uids[-1] + 1, UID_MAX)])
        assert above == [], "n:* gives the last message even below n"

    with_two(dovecot, act)


def test_qresync_tells_all_that_happened_while_away(dovecot: Dovecot) -> None:
    async def act(ours: ImapSession, other: ImapSession) -> None:
        uids = await fill(ours, 10)
        seen = (await ours.select("INBOX")).status
        assert seen.highest_modseq is not None
        await other.noop()
        await other.expunge(uids[2:5])
        await other.store_flags([uids[7]], ["\\Flagged"], [])
        for _ in range(2):
            await other.append("INBOX", b"Subject: new\r\n\r\n", [], None)
        known = Known(seen.uid_validity, seen.highest_modseq)
        found = await ours.select("INBOX", known)
        assert found.is_resynced
        assert found.vanished == [(uids[2], uids[4])]
        assert [one.uid for one in found.changed] == [uids[7], uids[-1] + 1, uids[-1] + 2]
        assert found.changed[0].flags == {"\\Flagged"}
        assert found.status.exists == 9
        other_validity = Known(seen.uid_validity + 1, seen.highest_modseq)
        assert not (await ours.select("INBOX", other_validity)).is_resynced
        assert not (await ours.select("INBOX", Known(seen.uid_validity, 2**60))).is_resynced

    with_two(dovecot, act)


@pytest.mark.parametrize("lies", [(), ("MOVE", "ESEARCH")])
def test_moves_and_copies_tell_the_new_uids(dovecot: Dovecot, lies: tuple[str, ...]) -> None:
    async def act(session: ImapSession) -> None:
        uids = await fill(session, 6)
        copied = await session.copy(uids[:2], "Sent")
        assert list(copied) == uids[:2]
        moved = await session.move([uids[5], uids[1]], "Trash")
        assert set(moved) == {uids[1], uids[5]}
        assert await session.list_uids() == [uids[0], *uids[2:5]]
        await session.select("Trash")
        assert await session.list_uids() == sorted(moved.values())
        with pytest.raises(Rejected) as caught:
            await session.move(await session.list_uids(), "nowhere")
        assert caught.value.code == "TRYCREATE"
        assert await session.move([999], "Sent") == {}

    with_session(dovecot, act, without(*lies))


@pytest.mark.parametrize("lies", [(), ("UIDPLUS",)])
def test_expunge_spares_what_others_marked(dovecot: Dovecot, lies: tuple[str, ...]) -> None:
    async def act(session: ImapSession) -> None:
        uids = await fill(session, 4)
        await session.store_flags(uids[:1], ["\\Deleted"], [])
        if lies:
            with pytest.raises(Rejected) as caught:
                await session.expunge(uids[2:])
            assert caught.value.code == "NOUIDPLUS"
            assert await session.list_uids() == uids
            await session.store_flags(uids[:1], [], ["\\Deleted"])
        await session.expunge(uids[2:])
        assert await session.list_uids() == uids[:2]

    with_session(dovecot, act, without(*lies))


def test_our_own_changes_are_no_news_and_others_are(dovecot: Dovecot) -> None:
    async def act(ours: ImapSession, other: ImapSession) -> None:
        uids = await fill(ours, 6)
        await ours.select("INBOX")
        await ours.store_flags(uids[:2], ["\\Seen"], [])
        await ours.expunge(uids[:1])
        await ours.move(uids[1:2], "Trash")
        assert not await ours.idle(50)
        await other.noop()
        await other.store_flags(uids[3:4], ["\\Seen"], [])
        await ours.noop()
        assert await ours.idle(60_000)

    with_two(dovecot, act)


@pytest.mark.parametrize("kind", ["append", "flag", "expunge"])
def test_idle_wakes_soon_after_another_clients_change(dovecot: Dovecot, kind: str) -> None:
    async def act(ours: ImapSession, other: ImapSession) -> None:
        uids = await fill(other, 3)
        await ours.select("INBOX")
        assert not await ours.idle(30)
        async with asyncio.TaskGroup() as group:
            idling = group.create_task(ours.idle(30_000))
            await asyncio.sleep(0.05)
            if kind == "append":
                await other.append("INBOX", b"Subject: x\r\n\r\n", [], None)
            elif kind == "flag":
                await other.store_flags(uids[:1], ["\\Seen"], [])
            else:
                await other.expunge(uids[:1])
            changed_at = time.monotonic()
            assert await idling
            assert time.monotonic() - changed_at < 10
        assert await ours.list_uids()

    with_two(dovecot, act)


def test_a_large_mailbox_comes_in_order_within_bounded_memory(
    dovecot: Dovecot, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, bytes_max = 5000, 200_000
    user = next(_users)
    body = b"x" * 70 + b"\r\n"
    fill_maildir(
        dovecot, user, (b"Subject: %d\r\n\r\n" % n + body * (n % 60) for n in range(count))
    )
    peaks: list[int] = []
    take = FetchWindow.take

    def watched(self: FetchWindow, event: Event) -> None:
        take(self, event)
        peaks.append(self._queued_bytes)

    monkeypatch.setattr(FetchWindow, "take", watched)

    async def main() -> None:
        session = await connect(dovecot, user)
        try:
            status = (await session.select("INBOX")).status
            assert status.exists == count
            uids = await session.list_uids()
            assert len(uids) == count
            newest_first = uids[::-1]
            got: list[int] = []
            async for message in session.fetch_messages(newest_first, bytes_max):
                assert message.raw is not None
                assert len(message.raw) == message.size
                got.append(message.uid)
                if len(got) == 100:
                    await asyncio.sleep(0.2)  # a slow consumer: the server must be held back
            assert sorted(got) == uids
            assert min(got[:20]) > uids[-21], "the newest come first"
            assert max(peaks) <= bytes_max + 300_000, "one read of the network above the bound"
        finally:
            await session.close()

    uvloop.run(main())


def test_another_client_library_sees_the_same_mailbox(dovecot: Dovecot) -> None:
    """The standard library as the oracle for what we read and wrote."""

    async def ours(user: str) -> dict[int, tuple[frozenset[str], int | None, bytes | None]]:
        session = await connect(dovecot, user)
        try:
            await session.select("INBOX")
            for number, raw in enumerate(_NASTY):
                await session.append("INBOX", raw, [f"$k{number}", "\\Draft"], number * 10**9)
            uids = await session.list_uids()
            await session.store_flags(uids[::2], ["\\Answered"], ["\\Draft"])
            return {
                m.uid: (m.flags, m.size, m.raw) async for m in session.fetch_messages(uids, 10**6)
            }
        finally:
            await session.close()

    user = next(_users)
    found = uvloop.run(ours(user))
    with imaplib.IMAP4("localhost", dovecot.port) as oracle:
        oracle.login(user, dovecot.password)
        oracle.select("INBOX", readonly=True)
        _, answer = oracle.uid("FETCH", "1:*", "(FLAGS RFC822.SIZE BODY.PEEK[])")
    expected = {}
    for item in answer:
        if isinstance(item, tuple):
            told = re.search(rb"UID (\d+) FLAGS \((.*)\) RFC822.SIZE (\d+)", item[0])
            assert told is not None
            flags = frozenset(told[2].decode().split()) - {"\\Recent"}
            expected[int(told[1])] = (flags, int(told[3]), item[1])
    assert found == expected
    assert len(found) == len(_NASTY)
