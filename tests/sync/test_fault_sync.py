"""A provider that lies, drops, stalls and refuses: nothing is lost, and people are told why."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec
import pytest

from tests.connection_fixture import add_connection
from tests.sync.conftest import Open
from tests.sync.harness import FAST, STOP_S_MAX, Harness, make_mail
from tindra.app.demo.faults import Faults
from tindra.base import limits
from tindra.core.errors import Conflict
from tindra.features.connect import (
    load_connections,
    start_connection,
    stop_connection,
    update_endpoints,
    update_password,
)
from tindra.features.mail.ingest import parse_arrival
from tindra.model.blob import make_blob_id
from tindra.outside.imap.session import ImapSession
from tindra.sync.cursor import load_cursors
from tindra.sync.ports import MailProvider, MailSession, ServerSettings

HARMLESS: dict[str, dict[str, Any]] = {
    "no CONDSTORE": {"no_condstore": True},
    "no QRESYNC": {"no_qresync": True},
    "no MOVE": {"no_move": True},
    "no UIDPLUS": {"no_uidplus": True},
    "neither MOVE nor UIDPLUS": {"no_move": True, "no_uidplus": True},
    "no SPECIAL-USE": {"no_special_use": True},
    "no IDLE": {"no_idle": True},
    "no ESEARCH": {"no_esearch": True},
    "no LIST-STATUS": {"no_list_status": True},
    "no LITERAL+": {"no_literal_plus": True},
    "no ENABLE": {"no_enable": True},
    "nothing at all": {
        "no_condstore": True, "no_move": True, "no_uidplus": True, "no_special_use": True,
        "no_idle": True, "no_esearch": True, "no_list_status": True, "no_literal_plus": True,
        "no_enable": True, "no_auth": True,
    },
    "one connection only": {"connections_max": 1},
    "dropped IDLE": {"drop_idle": True},
    "deaf IDLE": {"deaf_idle": True},
    "short lines only": {"command_chars_max": 400},
    "INBOX not listed": {"hide_inbox": True},
    "no UIDNEXT": {"forget_uidnext": True},
    "STATUS counts wrongly": {"status_count_off": 3},
    "garbled STATUS": {"garbled_status": True},
    "garbled VANISHED": {"malformed_vanished": True},
    "huge lines": {"huge_line_octets": 200_000},
    "FETCH without MODSEQ": {"fetch_without_modseq": True},
    "FETCH without date": {"fetch_without_date": True},
    "one-digit day": {"one_digit_day": True},
    "FETCH unasked": {"unsolicited_fetch": True},
    "FETCH shuffled": {"fetch_shuffled": True},
    "simple SEARCH only": {"simple_search_only": True},
    "cut in the middle of mail": {"drop_in_literal_at": 100, "drops_left": 3},
    "hung up on FETCH": {"drop_before": frozenset({"UID FETCH"}), "drops_left": 3},
    "hung up after STORE": {"drop_after": frozenset({"UID STORE"}), "drops_left": 2},
    "hung up after MOVE": {"drop_after": frozenset({"UID MOVE"}), "drops_left": 2},
    "hung up after COPY": {
        "drop_after": frozenset({"UID COPY"}), "drops_left": 2, "no_move": True,
        "no_uidplus": True,
    },
    "hung up after APPEND": {"drop_after": frozenset({"APPEND"}), "drops_left": 2},
    "hung up after EXPUNGE": {"drop_after": frozenset({"UID EXPUNGE"}), "drops_left": 2},
    "hung up after CREATE": {"drop_after": frozenset({"CREATE"}), "drops_left": 2},
    "hung up after RENAME": {"drop_after": frozenset({"RENAME"}), "drops_left": 2},
    "hung up after DELETE": {"drop_after": frozenset({"DELETE"}), "drops_left": 2},
    "hung up after LOGIN": {"drop_after": frozenset({"AUTHENTICATE"}), "drops_left": 2},
}  # fmt: skip


async def _tell_story(h: Harness) -> None:
    """A bit of everything, on both sides; ends in agreement with nothing twice."""
    for number in range(30):
        h.deliver(number, "INBOX" if number % 3 else "Archive", ["\\Seen"] if number % 2 else [])
    h.demo.store.create("Later/Inner")
    await h.connect()
    await h.settle()
    await h.update(await h.id_of(1), **{"keywords__$flagged": True})
    await h.move(await h.id_of(2), "Archive")
    await h.move(await h.id_of(4), "INBOX", "Archive")
    await h.destroy(await h.id_of(5))
    await h.import_mail(70, "Drafts", "$draft")
    mailboxes = await h.find_mailboxes()
    await h.world.add_mailbox("Made", parentId=mailboxes["Later"])
    await h.world.call("Mailbox/set", update={mailboxes["Later/Inner"]: {"name": "Renamed"}})
    await h.settle()
    h.deliver(80)
    h.deliver(81, "Archive")
    h.folder().set_flags(h.uid_of(7), frozenset({"\\Answered", "\\Seen"}))
    h.folder().expunge([h.uid_of(8)])
    h.demo.store.move(h.folder(), [h.uid_of(10)], h.folder("Trash"))
    mailboxes = await h.find_mailboxes()
    await h.world.call("Mailbox/set", destroy=[mailboxes["Later/Renamed"]])
    await h.settle()


@pytest.mark.parametrize("name", HARMLESS)
async def test_the_whole_story_comes_out_right_with(harness: Open, name: str) -> None:
    async with harness(faults=Faults(**HARMLESS[name])) as h:
        await _tell_story(h)
        counts = {name: len(f.messages) for name, f in h.demo.store.folders.items()}
        expected = {"INBOX": 30 - 10 - 1 - 1 - 1 - 1 + 1, "Archive": 10 + 1 + 1 + 1, "Trash": 1}
        assert {key: counts[key] for key in expected} == expected
        assert counts["Drafts"] == 1


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "wrong password": ({"refuse_login": "credentials"}, "needsAuth", "did not accept"),
    "overloaded login": ({"refuse_login": "throttled"}, "waiting", ""),
    "too many connections": ({"bye_at_once": True}, "waiting", "slow down"),
    "no mailboxes": ({"empty_list": True}, "waiting", "listed no mailbox at all"),
    "LIST refused": ({"refuse": frozenset({"LIST"})}, "refused", "refused to list"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_provider_that_will_not_serve_is_named_and_loses_nothing(
    harness: Open, name: str
) -> None:
    switches, phase, words = REFUSED[name]
    async with harness() as h:
        await h.begin(30)
        before = await h.world.load_all()
        await h.stop()
        for switch, value in switches.items():
            setattr(h.faults, switch, value)
        h.start()
        status = await h.wait_for_status(phase=phase, nextTryAt=lambda text: text is not None)
        assert words in status["lastError"]
        assert "Traceback" not in status["lastError"]
        after = await h.world.load_all()
        assert after["Email"] == before["Email"]
        assert after["Mailbox"] == before["Mailbox"]
        h.faults.heal()
        await h.wait_for_status(phase="live", lastError=None, nextTryAt=None)


IN_ONE: dict[str, tuple[dict[str, Any], str]] = {
    "phantom folder": ({"phantom_folders": frozenset({"Archive"})}, "Archive: "),
    "UIDVALIDITY 0": ({"zero_uidvalidity": True}, "UIDVALIDITY"),
    "SELECT refused": ({"refuse": frozenset({"SELECT"})}, "refused to open"),
    "STATUS refused": ({"refuse": frozenset({"STATUS"})}, "refused to tell the status"),
    "SEARCH refused": ({"refuse": frozenset({"UID SEARCH"})}, "refused to list the messages"),
    "FETCH refused": ({"refuse": frozenset({"UID FETCH"})}, "refused to"),
    "numbered anew each time": ({"renumber_on_select": True}, "anew at every look"),
    "EXISTS below zero": ({"exists_text": "-5"}, "no usable number of messages of"),
    "EXISTS in words": ({"exists_text": "many"}, "no usable number of messages of"),
    "UIDNEXT of old": ({"uidnext_off": -20}, "the next message gets number 1"),
}


@pytest.mark.parametrize("name", IN_ONE)
async def test_a_mailbox_that_cannot_be_had_is_named_and_loses_nothing(
    harness: Open, name: str
) -> None:
    switches, words = IN_ONE[name]
    # With QRESYNC a look needs no SEARCH.
    async with harness(faults=Faults(no_qresync="SEARCH" in name)) as h:
        for number in range(30):
            h.deliver(number)
            h.deliver(100 + number, "Archive")
        await h.connect()
        await h.settle()
        before = await h.find_ids()
        for switch, value in switches.items():
            setattr(h.faults, switch, value)
        h.deliver(500)
        h.deliver(501, "Archive")
        status = await h.wait_for_status(lastError=lambda text: text is not None)
        await h.wait_for_status(lastError=lambda text: text is not None and words in text)
        assert status["phase"] in ("live", "backfilling", "waiting")
        for _ in range(3):
            await asyncio.sleep(0.2)  # time for wrong ideas
            assert (await h.find_ids()).items() >= before.items()
        h.faults.heal()
        await h.settle()
        assert (await h.find_ids()).items() >= before.items()
        await h.wait_for_status(phase="live", lastError=None)


LIES: dict[str, dict[str, Any]] = {
    "UIDVALIDITY 0": {"zero_uidvalidity": True},
    "numbered anew each time": {"renumber_on_select": True},
    "EXISTS below zero": {"exists_text": "-5"},
    "EXISTS in words": {"exists_text": "many"},
}


@pytest.mark.parametrize("name", LIES)
@pytest.mark.parametrize("is_first", [True, False])
async def test_a_lying_inbox_is_told_and_left_alone_and_comes_back(
    harness: Open, monkeypatch: pytest.MonkeyPatch, name: str, is_first: bool
) -> None:
    selects: list[str] = []
    select = ImapSession.select

    async def count(self: ImapSession, mailbox: str, *more: Any) -> Any:
        selects.append(mailbox)
        return await select(self, mailbox, *more)

    monkeypatch.setattr(ImapSession, "select", count)
    pace = msgspec.structs.replace(FAST, rest_ms_max=None)
    async with harness(pace=pace) as h:
        if not is_first:
            await h.begin(10)
        before = await h.find_ids()
        for switch, value in LIES[name].items():
            setattr(h.faults, switch, value)
        h.deliver(50)
        if is_first:
            await h.connect()

        def is_said(text: str | None) -> bool:
            return text is not None and "INBOX" in text and "nothing was deleted here" in text

        # Where each SELECT throws out the others, sessions end before they can say what is wrong.
        is_thrown_out = "renumber_on_select" in LIES[name]
        if is_thrown_out:
            await h.wait_for_status(lastError=lambda text: text)
        else:
            await h.wait_for_status(phase="waiting", lastError=is_said, nextTryAt=lambda t: t)
            assert (await h.status())["messagesTotal"] is None
        await asyncio.sleep(2)  # a first sync makes some tries in each mailbox
        selects.clear()
        h.statuses.clear()
        await asyncio.sleep(2)
        # Rounds come every 150 ms here; a mailbox that is refused is asked more and more rarely.
        assert len(selects) < 60, selects
        if not is_thrown_out:
            assert {status["phase"] for status in h.statuses} <= {"waiting"}
            assert all(status["lastError"] for status in h.statuses)
        assert (await h.find_ids()).items() >= before.items()
        h.faults.heal()
        await h.settle()
        await h.wait_for_status(phase="live", lastError=None, nextTryAt=None)
        assert (await h.find_ids()).items() >= before.items()


async def test_flags_that_are_not_told_are_not_taken_for_none(harness: Open) -> None:
    async with harness() as h:
        for number in range(5):
            h.deliver(number, flags=["\\Seen"])
        await h.connect()
        await h.settle()
        h.faults.fetch_without_flags = True
        h.demo.store.renumber(h.folder())
        h.demo.store.move(h.folder(), [h.uid_of(1)], h.folder("Archive"))

        async def is_seen_again() -> bool:
            local = await h.hold_local()
            return (
                len(local["INBOX"]) == 4 and len(local["Archive"]) == 1 and not await h.list_open()
            )

        await h.wait_until(is_seen_again, lambda: "not found again")
        h.faults.heal()
        await h.settle()


async def test_a_message_that_cannot_be_had_yet_comes_later(harness: Open) -> None:
    async with harness() as h:
        await h.begin(5)
        h.faults.unfetchable_newest = True
        h.deliver(50)

        async def is_missed() -> bool:
            cursors = await h.services.store.read(h.world.account_id, load_cursors)
            return any(cursor.missed for cursor in cursors.values())

        await h.wait_until(is_missed, lambda: "it was never asked for")
        h.faults.heal()
        await h.settle()
        assert (await h.status())["messagesSkipped"] == 0


async def test_a_message_that_can_never_be_had_is_counted_and_left_out(harness: Open) -> None:
    async with harness() as h:
        h.faults.unfetchable_newest = True
        for number in range(5):
            h.deliver(number)
        await h.connect()
        await h.wait_for_status(messagesSkipped=1, phase="live")
        assert len((await h.hold_local())["INBOX"]) == 4


async def test_mod_sequences_that_go_back_hide_no_change(harness: Open) -> None:
    async with harness() as h:
        await h.begin(5)
        h.faults.modseq_off = -3
        h.folder().set_flags(h.uid_of(1), frozenset({"\\Flagged"}))
        await h.settle()


async def test_most_mail_gone_at_once_is_not_believed_at_the_first_look(harness: Open) -> None:
    # The look that would confirm it comes long after the test.
    pace = msgspec.structs.replace(FAST, poll_ms=600_000)
    async with harness(pace=pace, faults=Faults(no_qresync=True)) as h:
        await h.begin(60)
        before = await h.find_ids()
        h.folder().expunge(list(h.folder().messages)[:50])
        status = await h.wait_for_status(lastError=lambda text: text is not None)
        assert "50 messages are not listed any more" in status["lastError"]
        for number in range(500, 503):
            h.deliver(number)  # each brings another look
            await h.wait_until(_has_come(h, number), lambda: "new mail is held up")
        assert (await h.find_ids()).items() >= before.items()


async def test_most_mail_that_stays_away_is_gone_in_the_end(harness: Open) -> None:
    pace = msgspec.structs.replace(FAST, brake_ms=1500)
    async with harness(pace=pace, faults=Faults(no_qresync=True)) as h:
        await h.begin(60)
        h.folder().expunge(list(h.folder().messages)[:50])
        await h.wait_for_status(lastError=lambda text: text is not None and "vanished" in text)
        assert len(await h.find_ids()) == 60
        await h.settle()
        await h.wait_for_status(lastError=None)
        assert len(await h.find_ids()) == 10


def _has_come(h: Harness, number: int) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return make_blob_id(make_mail(number)) in (await h.hold_local())["INBOX"]

    return look


async def test_an_empty_answer_that_is_taken_back_destroys_nothing(harness: Open) -> None:
    pace = msgspec.structs.replace(FAST, poll_ms=600_000)
    async with harness(pace=pace, faults=Faults(no_qresync=True)) as h:
        await h.begin(60)
        before = await h.find_ids()
        folder = h.folder()
        kept, folder.messages = folder.messages, {}
        h.deliver(500)
        await h.wait_for_status(lastError=lambda text: text is not None and "kept" in text)
        folder.messages = kept | folder.messages
        h.deliver(501)
        await h.settle()
        await h.wait_for_status(lastError=None)
        assert (await h.find_ids()).items() >= before.items()


# -- credentials and endpoints ---------------------------------------------------------------------
async def test_a_new_password_is_tried_at_once(harness: Open) -> None:
    pace = msgspec.structs.replace(FAST, rest_ms_max=None)
    async with harness(pace=pace) as h:
        h.deliver(1)
        await h.connect("wrong")
        status = await h.wait_for_status(phase="needsAuth")
        assert status["nextTryAt"] is not None
        await update_password(h.services, h.world.account_id, h.connection_id, h.demo.password)
        await h.settle()
        await h.wait_for_status(phase="live", lastError=None, nextTryAt=None)


async def test_another_server_is_tried_at_once(harness: Open) -> None:
    pace = msgspec.structs.replace(FAST, rest_ms_max=None)
    async with harness(pace=pace) as h:
        h.deliver(1)
        await h.connect()
        await h.settle()
        dead = msgspec.structs.replace(h.endpoint, port=1)
        await update_endpoints(h.services, h.world.account_id, h.connection_id, dead, None)
        status = await h.wait_for_status(phase="waiting")
        assert "accepts no connections on port 1" in status["lastError"]
        await update_endpoints(h.services, h.world.account_id, h.connection_id, h.endpoint, None)
        h.deliver(2)
        await h.settle()
        await h.wait_for_status(phase="live", lastError=None)


async def test_a_stopped_connection_hangs_up_and_comes_back(harness: Open) -> None:
    async with harness() as h:
        h.deliver(1)
        await h.connect()
        await h.settle()
        await stop_connection(h.services, h.world.account_id, h.connection_id)
        await h.wait_until(lambda: _is_alone(h), lambda: "still connected")
        id = await h.id_of(1)
        await h.update(id, **{"keywords__$seen": True})
        assert (await h.status())["phase"] == "stopped"
        await start_connection(h.services, h.world.account_id, h.connection_id)
        await h.settle()


async def test_a_second_connection_of_an_account_is_refused(harness: Open) -> None:
    async with harness() as h:
        h.deliver(1)
        await h.connect()
        await h.settle()
        with pytest.raises(Conflict, match="mirrors a mailbox already"):
            await add_connection(
                h.services, h.world.account_id, "b@example.test", (h.endpoint, "x"), None
            )
        assert list(await load_connections(h.services, h.world.account_id)) == [h.connection_id]


async def _is_alone(h: Harness) -> bool:
    return not h.demo.imap.connections


class _SlowGoodbye:
    """Lets a test know when a session is being closed, and takes its time over it."""

    def __init__(self, session: MailSession, is_closing: asyncio.Event) -> None:
        self._session = session
        self._is_closing = is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    async def close(self) -> None:
        self._is_closing.set()
        for _ in range(50):
            await asyncio.sleep(0)
        await self._session.close()


class _SlowProvider:
    def __init__(self, provider: MailProvider) -> None:
        self._provider = provider
        self.is_closing = asyncio.Event()

    async def connect(self, settings: ServerSettings, password: str) -> MailSession:
        session = await self._provider.connect(settings, password)
        return cast(MailSession, _SlowGoodbye(session, self.is_closing))


async def test_stopping_in_the_moment_of_a_failure_ends_the_mirror(harness: Open) -> None:
    async with harness() as h:
        provider = h.imap = _SlowProvider(h.imap)
        await h.connect()
        await h.settle()
        provider.is_closing.clear()
        h.faults.drops_left = 1
        h.faults.drop_before = frozenset({"STATUS"})
        async with asyncio.timeout(STOP_S_MAX):
            await provider.is_closing.wait()
        await h.stop()


async def test_stopping_while_it_rests_ends_the_mirror(harness: Open) -> None:
    pace = msgspec.structs.replace(FAST, rest_ms_max=None)
    async with harness(pace=pace) as h:
        await h.connect("wrong")
        await h.wait_for_status(phase="needsAuth")
        await stop_connection(h.services, h.world.account_id, h.connection_id)
        await h.wait_for_status(phase="stopped", lastError=None)
        await asyncio.sleep(0.1)
        assert not h.unexpected
        assert (await h.status())["phase"] == "stopped"


# -- refusals --------------------------------------------------------------------------------------
async def test_what_is_refused_for_good_is_taken_back(
    harness: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "OUTBOX_TRIES_MAX", 1)
    async with harness() as h:
        for number in range(6):
            h.deliver(number, flags=["\\Seen"])
        await h.connect()
        await h.settle()
        h.faults.refuse = frozenset({"UID STORE", "UID MOVE", "UID COPY", "UID EXPUNGE"})
        await h.update(await h.id_of(0), **{"keywords__$seen": None, "keywords__$flagged": True})
        await h.move(await h.id_of(1), "Archive")
        await h.move(await h.id_of(2), "INBOX", "Archive")
        await h.destroy(await h.id_of(3))
        await h.settle()
        status = await h.wait_for_status(lastError=lambda text: text is not None)
        assert status["lastError"].startswith("Taken back: The mail server refused to")
        local = await h.hold_local()
        assert local["INBOX"][make_blob_id(make_mail(0))] == ("$seen",)
        assert len(local["INBOX"]) == 6
        assert not local["Archive"]


async def test_a_message_that_is_refused_stays_here(
    harness: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "OUTBOX_TRIES_MAX", 1)
    async with harness() as h:
        await h.connect()
        await h.settle()
        h.faults.refuse = frozenset({"APPEND"})
        id = await h.import_mail(60, "Drafts")
        status = await h.wait_for_status(lastError=lambda text: text is not None)
        assert "store a message" in status["lastError"]
        assert await h.id_of(60) == id


async def test_one_refusal_holds_up_nobody_else(harness: Open) -> None:
    async with harness() as h:
        await h.begin(4)
        h.faults.refuse = frozenset({"UID MOVE"})
        await h.move(await h.id_of(0), "Archive")
        await h.wait_for_status(lastError=lambda text: text is not None)
        await h.update(await h.id_of(1), **{"keywords__$flagged": True})
        await h.import_mail(60, "Drafts")

        async def have_others_arrived() -> bool:
            remote = h.hold_remote()
            flags = remote["INBOX"][make_blob_id(make_mail(1))]
            return flags == ("$flagged",) and len(remote["Drafts"]) == 1

        await h.wait_until(have_others_arrived, lambda: "held up")


async def test_an_act_that_breaks_every_session_does_not_stop_new_mail(harness: Open) -> None:
    async with harness() as h:
        h.deliver(1)
        await h.connect()
        await h.settle()
        h.faults.drop_before = frozenset({"APPEND"})
        await h.import_mail(60, "Drafts")

        async def has_broken() -> bool:
            return any(status["phase"] == "waiting" for status in h.statuses)

        await h.wait_until(has_broken, lambda: "it broke no session")
        h.deliver(2)

        async def has_come() -> bool:
            return len((await h.hold_local())["INBOX"]) == 2

        await h.wait_until(has_come, lambda: "new mail is held up")
        h.faults.heal()
        await h.settle()


async def test_one_message_that_breaks_something_is_left_out_alone(
    harness: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = make_mail(13)
    parse = parse_arrival

    def parse_or_break(raw: bytes, blob_id: str) -> Any:
        if raw == poison:
            raise RuntimeError("a bug of ours")
        return parse(raw, blob_id)

    monkeypatch.setattr("tindra.sync.intake.parse_arrival", parse_or_break)
    async with harness() as h:
        h.is_error_expected = True
        for number in range(30):
            h.deliver(number)
        await h.connect()
        await h.wait_for_status(phase="live", messagesSkipped=1)
        assert len((await h.hold_local())["INBOX"]) == 29
        assert [str(error) for error in h.unexpected] == ["a bug of ours"]
        h.unexpected.clear()


def _break_parser(monkeypatch: pytest.MonkeyPatch, poison: set[bytes]) -> None:
    parse = parse_arrival

    def parse_or_break(raw: bytes, blob_id: str) -> Any:
        if raw in poison:
            raise RuntimeError("a bug of ours")
        return parse(raw, blob_id)

    monkeypatch.setattr("tindra.sync.intake.parse_arrival", parse_or_break)


async def _end_broken(h: Harness) -> None:
    await h.stop()
    assert {str(error) for error in h.unexpected} <= {"a bug of ours"}
    h.unexpected.clear()


async def test_a_message_that_was_left_out_is_tried_again_after_a_restart(
    harness: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = {make_mail(13), make_mail(14), make_mail(15)}
    _break_parser(monkeypatch, poison)
    async with harness() as h:
        h.is_error_expected = True
        for number in range(20):
            h.deliver(number)
        await h.connect()
        await h.wait_for_status(phase="live", messagesSkipped=3)
        await _end_broken(h)
        h.folder().expunge([h.uid_of(15)])
        poison.remove(make_mail(13))
        h.start()
        await h.wait_for_status(messagesSkipped=1, phase="live")
        assert len((await h.hold_local())["INBOX"]) == 18
        await _end_broken(h)
        poison.clear()
        h.start()
        await h.wait_for_status(messagesSkipped=0)
        await h.settle()


async def test_too_many_messages_that_break_something_stop_their_mailbox_and_no_other(
    harness: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tindra.sync.intake.PARKED_MAX", 3)
    poison = {make_mail(number) for number in range(8)}
    _break_parser(monkeypatch, poison)
    async with harness() as h:
        h.is_error_expected = True
        for number in range(20):
            h.deliver(number, "Archive")
        h.deliver(50)
        await h.connect()
        status = await h.wait_for_status(lastError=lambda text: text is not None)
        assert status["lastError"] == "Archive: More than 3 messages cannot be taken over"
        assert status["messagesSkipped"] <= 3
        h.deliver(51)

        async def has_come() -> bool:
            return len((await h.hold_local())["INBOX"]) == 2

        await h.wait_until(has_come, lambda: "the inbox stopped too")
        await _end_broken(h)
        poison.clear()
        h.start()
        await h.settle()
        await h.wait_for_status(messagesSkipped=0, lastError=None)
