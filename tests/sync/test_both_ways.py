"""What either side does to mail reaches the other: flags, moves, losses, new messages, twins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from tests.sync.conftest import Open
from tests.sync.harness import FAST, Harness, make_mail
from tindra.model.blob import make_blob_id
from tindra.outside.imap.session import ImapSession
from tindra.sync import pull

SLOW_ROUNDS = msgspec.structs.replace(FAST, poll_ms=60_000)
"""Only IDLE can be quick enough."""


async def test_new_mail_is_seen_at_once_by_waiting_in_the_inbox(harness: Open) -> None:
    async with harness(pace=SLOW_ROUNDS) as h:
        await h.begin(5)
        await wait_for_watcher(h)
        h.deliver(77)
        await h.settle()


async def wait_for_watcher(h: Harness) -> None:
    """Two sessions have the inbox open or are about to: one of them waits there."""

    async def is_watching() -> bool:
        return any(c.session.is_idle for c in h.demo.imap.connections)

    await h.wait_until(is_watching, lambda: "nobody waits in the inbox")


async def test_keywords_travel_both_ways_and_merge(harness: Open) -> None:
    async with harness() as h:
        await h.begin(5)
        id = await h.id_of(1)
        await h.stop()
        await h.update(id, **{"keywords__$seen": True}, keywords__mine=True)
        h.folder().set_flags(h.uid_of(1), frozenset({"\\Flagged", "theirs"}))
        h.start()
        await h.settle()
        local = await h.hold_local()
        merged = ("$flagged", "$seen", "mine", "theirs")
        assert local["INBOX"][make_blob_id(make_mail(1))] == merged
        await h.update(id, keywords={})
        await h.settle()
        assert h.hold_remote()["INBOX"][make_blob_id(make_mail(1))] == ()


async def test_a_device_that_takes_back_what_it_did_is_obeyed(harness: Open) -> None:
    async with harness() as h:
        await h.begin(5)
        id = await h.id_of(1)
        for is_seen in (True, None, True, None, True):
            await h.update(id, **{"keywords__$seen": is_seen})
        await h.settle()
        assert h.hold_remote()["INBOX"][make_blob_id(make_mail(1))] == ("$seen",)


async def test_a_move_by_another_client_keeps_the_id_and_its_keywords(harness: Open) -> None:
    async with harness() as h:
        await h.begin(5)
        id = await h.id_of(2)
        h.folder().set_flags(h.uid_of(2), frozenset({"\\Seen", "Kept"}))
        await h.settle()
        h.demo.store.move(h.folder(), [h.uid_of(2)], h.folder("Archive"))
        await h.settle()
        assert await h.id_of(2) == id
        assert make_blob_id(make_mail(2)) in (await h.hold_local())["Archive"]


async def test_mail_that_leaves_before_it_arrives_elsewhere_keeps_its_id(harness: Open) -> None:
    pace = msgspec.structs.replace(FAST, ghost_ms=1500)
    async with harness(pace=pace) as h:
        await h.begin(5)
        id = await h.id_of(2)
        h.folder().expunge([h.uid_of(2)])
        await h.wait_until(lambda: has_ghost(h), lambda: "no ghost")
        await h.update(id, **{"keywords__$flagged": True})
        h.demo.deliver(make_mail(2), "Archive")
        await h.settle()
        assert await h.id_of(2) == id
        assert h.hold_remote()["Archive"][make_blob_id(make_mail(2))] == ("$flagged",)
        assert not h.hold_remote()["INBOX"].get(make_blob_id(make_mail(2)))


async def has_ghost(h: Harness) -> bool:
    return any(text.startswith("ghost") for text in await h.list_open())


async def test_a_move_by_a_device_keeps_the_id_and_makes_no_copy(harness: Open) -> None:
    async with harness() as h:
        await h.begin(5)
        id = await h.id_of(3)
        await h.move(id, "Archive")
        await h.settle()
        assert await h.id_of(3) == id
        assert len(h.folder("Archive").messages) == 1
        assert len(h.folder().messages) == 4


async def test_mail_in_two_mailboxes_is_one_email(harness: Open) -> None:
    async with harness() as h:
        await h.begin(5)
        id = await h.id_of(3)
        await h.move(id, "INBOX", "Archive")
        await h.settle()
        assert len(h.folder("Archive").messages) == 1
        await h.move(id, "Archive", "Junk")
        await h.settle()
        assert [len(h.folder(name).messages) for name in ("INBOX", "Archive", "Junk")] == [4, 1, 1]
        assert await h.id_of(3) == id


async def test_deletes_travel_both_ways(harness: Open) -> None:
    async with harness() as h:
        await h.begin(5)
        await h.destroy(await h.id_of(0))
        h.folder().expunge([h.uid_of(1)])
        await h.settle()
        assert len(await h.find_ids()) == 3
        assert len(h.folder().messages) == 3


async def test_an_imported_message_is_appended_once(harness: Open) -> None:
    async with harness() as h:
        await h.begin(5)
        id = await h.import_mail(50, "Drafts", "$draft", "$seen")
        await h.settle()
        assert await h.id_of(50) == id
        [message] = h.folder("Drafts").messages.values()
        assert message.raw == make_mail(50)
        assert message.flags == {"\\Draft", "\\Seen"}


async def test_a_new_version_of_a_draft_is_there_before_the_old_one_goes(harness: Open) -> None:
    async with harness() as h:
        await h.begin(5)
        old = await h.import_mail(50, "Drafts", "$draft")
        await h.settle()
        seen: list[int] = []

        class Watch:
            def on_added(self, uid: int) -> None:
                seen.append(len(h.folder("Drafts").messages))

            def on_flags(self, uid: int) -> None: ...

            def on_closed(self) -> None: ...

            def on_expunged(self, uids: list[int]) -> None:
                seen.append(len(h.folder("Drafts").messages))

        h.folder("Drafts").watchers.append(Watch())
        blob = await h.services.blobs.put(h.world.account_id, make_mail(51))
        drafts = (await h.find_mailboxes())["Drafts"]
        await h.world.calls(
            [
                [
                    "Email/import",
                    {"emails": {"n": {"blobId": blob.id, "mailboxIds": {drafts: True}}}},
                    "0",
                ],
                ["Email/set", {"destroy": [old]}, "1"],
            ]
        )
        await h.settle()
        assert seen == [2, 1]


async def test_twins_at_the_provider_are_one_email_and_get_the_same_flags(harness: Open) -> None:
    async with harness() as h:
        h.deliver(1)
        h.deliver(1, flags=["\\Seen"])
        h.deliver(1, "Archive", flags=["\\Flagged"])
        await h.connect()
        await h.settle()
        assert len(await h.find_ids()) == 1
        assert len(h.folder().messages) == 2, "nothing is removed without being asked for"
        h.folder().expunge([1])
        await h.settle()
        assert set(await h.hold_local()) >= {"INBOX", "Archive"}
        await h.destroy(await h.id_of(1))
        await h.settle()
        assert not h.folder().messages
        assert not h.folder("Archive").messages


async def test_uids_that_start_anew_change_no_id(harness: Open) -> None:
    async with harness() as h:
        await h.begin(60)
        before = await h.find_ids()
        kept = await h.id_of(7)
        await h.update(kept, keywords__mine=True)
        await h.settle()
        folder = h.folder()
        folder.expunge([h.uid_of(0), h.uid_of(1)])
        h.demo.store.renumber(folder)
        await h.settle()
        after = await h.find_ids()
        assert len(after) == 58
        assert after.items() <= before.items()
        assert h.hold_remote()["INBOX"][make_blob_id(make_mail(7))] == ("mine",)


async def test_a_move_by_a_device_survives_uids_that_start_anew(harness: Open) -> None:
    async with harness() as h:
        await h.begin(10)
        id = await h.id_of(4)
        await h.stop()
        await h.move(id, "Archive")
        await h.update(await h.id_of(5), **{"keywords__$flagged": True})
        h.demo.store.renumber(h.folder())
        h.start()
        await h.settle()
        assert await h.id_of(4) == id
        assert make_blob_id(make_mail(4)) not in h.hold_remote()["INBOX"]
        assert h.hold_remote()["INBOX"][make_blob_id(make_mail(5))] == ("$flagged",)


async def test_line_ends_that_the_provider_changes_make_no_second_email(harness: Open) -> None:
    async with harness() as h:
        await h.begin(5)
        add = h.folder("Archive").add
        h.folder("Archive").add = lambda raw, flags, date_ms: add(
            raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), flags, date_ms
        )
        h.faults.no_uidplus = True
        raw = make_mail(60).replace(b"\r\n", b"\n")
        mailboxes = await h.find_mailboxes()
        id = await h.world.add_email(mailboxes["Archive"], raw)

        await h.wait_until(lambda: has_no_intent(h), lambda: "never appended")
        ids = await h.find_ids()
        assert list(ids.values()).count(id) == 1
        assert len(ids) == 6
        assert len(h.folder("Archive").messages) == 1


async def test_many_marks_are_few_commands(harness: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    store_flags = ImapSession.store_flags

    async def count(
        session: ImapSession, uids: Sequence[int], add: Sequence[str], remove: Sequence[str]
    ) -> None:
        calls.append(len(uids))
        await store_flags(session, uids, add, remove)

    monkeypatch.setattr(ImapSession, "store_flags", count)
    async with harness() as h:
        await h.begin(500)
        ids = list((await h.find_ids()).values())
        patch = {"keywords/$seen": True}
        await h.world.call("Email/set", update=dict.fromkeys(ids, patch))
        await h.settle()
    assert sum(calls) == 500
    assert len(calls) <= 5, calls


async def test_many_new_messages_at_once_are_taken_in_pieces(
    harness: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "TURN_MESSAGES_MAX", 50)
    async with harness() as h:
        await h.begin(5)
        await h.stop()
        for number in range(300):
            h.deliver(5000 + number)
        h.folder().expunge([1])
        h.start()
        await h.settle()


async def test_a_refusal_is_told_and_a_new_act_is_tried_at_once(harness: Open) -> None:
    async with harness() as h:
        await h.begin(5)
        id = await h.id_of(1)
        h.faults.refuse = frozenset({"UID STORE"})
        await h.update(id, **{"keywords__$seen": True})
        status = await h.wait_for_status(lastError=lambda text: text is not None)
        assert "refused to change flags" in status["lastError"]
        h.faults.heal()
        await h.update(id, **{"keywords__$flagged": True})
        await h.settle()
        await h.wait_for_status(lastError=None)


async def test_keywords_that_the_provider_does_not_keep_live_here_only(
    harness: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tindra.sync.push._is_kept", lambda word, kept: word != "mine")
    async with harness() as h:
        await h.begin(5)
        id = await h.id_of(1)
        await h.update(id, keywords__mine=True, keywords__yours=True)
        made = await h.import_mail(50, "Drafts", "mine")
        await h.wait_until(lambda: has_no_intent(h), lambda: "still trying")
        h.folder().set_flags(h.uid_of(1), frozenset({"yours", "\\Seen"}))
        h.folder("Drafts").set_flags(h.uid_of(50, "Drafts"), frozenset({"\\Seen"}))

        async def is_merged() -> bool:
            local = await h.hold_local()
            here = local["INBOX"][make_blob_id(make_mail(1))]
            there = local["Drafts"][make_blob_id(make_mail(50))]
            return here == ("$seen", "mine", "yours") and there == ("$seen", "mine")

        await h.wait_until(is_merged, lambda: "the keyword was lost")
        assert await h.id_of(50) == made


async def test_a_folder_emptied_elsewhere_is_little_in_a_large_account(harness: Open) -> None:
    async with harness() as h:
        h.demo.store.create("Bin")
        for number in range(100, 130):
            h.deliver(number, "Bin")
        await h.begin(60)
        await h.stop()  # a new session knows nothing of what the former one counted
        h.start()
        await h.wait_for_status(phase="live")
        h.folder("Bin").expunge(list(h.folder("Bin").messages))
        await h.settle()
        assert len(await h.find_ids()) == 60


async def test_mail_that_nearly_all_vanished_is_kept_for_a_day_over_all_sessions(
    harness: Open,
) -> None:
    async with harness() as h:
        await h.begin(60)
        h.folder().expunge(list(h.folder().messages)[:50])

        def is_said(text: str | None) -> bool:
            return text is not None and "50 messages vanished" in text

        await h.wait_for_status(lastError=is_said)
        await h.stop()
        h.start()
        await h.wait_for_status(lastError=is_said)
        assert len(await h.find_ids()) == 60


async def test_a_mailbox_that_may_only_be_read_keeps_no_marks_of_ours(
    harness: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark stays here, and nothing is said to the provider that it would refuse."""
    select = ImapSession.select

    async def select_read_only(*arguments: Any, **options: Any) -> Any:
        found = await select(*arguments, **options)
        return msgspec.structs.replace(found, read_only=True)

    async def refuse(*_: Any) -> None:
        raise AssertionError("it was told")

    monkeypatch.setattr(ImapSession, "select", select_read_only)
    monkeypatch.setattr(ImapSession, "store_flags", refuse)
    async with harness() as h:
        await h.begin(5)
        id = await h.id_of(1)
        await h.update(id, **{"keywords__$flagged": True})
        await h.wait_until(lambda: has_no_intent(h), lambda: "still trying")
        local = await h.hold_local()
        assert "$flagged" in local["INBOX"][make_blob_id(make_mail(1))]
        assert (await h.status())["lastError"] is None


async def has_no_intent(h: Harness) -> bool:
    return not any("intent" in text for text in await h.list_open())
