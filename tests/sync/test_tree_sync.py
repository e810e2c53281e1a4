"""The tree of mailboxes, both ways."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from tests.sync.conftest import Open
from tests.sync.harness import FAST, make_mail
from tindra.app.demo.faults import Faults
from tindra.base import limits
from tindra.base.ids import MailboxId
from tindra.core.errors import Unavailable
from tindra.core.tx import Tx
from tindra.model.blob import make_blob_id
from tindra.sync import tree
from tindra.sync.apply import apply_vanished


async def test_mailboxes_of_the_provider_appear_with_their_roles_and_places(harness: Open) -> None:
    async with harness() as h:
        h.demo.store.create("Projects/North/Inner")
        await h.begin(3)
        h.demo.store.create("Projects/South")
        h.demo.store.create("Grüße & Co")
        await h.settle()
        rows = (await h.world.call("Mailbox/get", ids=None))["list"]
        roles = {row["name"]: row["role"] for row in rows if row["role"]}
        assert roles == {
            "Inbox": "inbox", "Drafts": "drafts", "Sent": "sent", "Archive": "archive",
            "Junk": "junk", "Trash": "trash",
        }  # fmt: skip


async def test_a_mailbox_made_by_a_device_is_made_at_the_provider_with_what_is_in_it(
    harness: Open,
) -> None:
    async with harness() as h:
        await h.begin(3)
        id = await h.id_of(1)
        made = await h.world.call(
            "Mailbox/set",
            create={"z": {"name": "Inner", "parentId": "#a"}, "a": {"name": "Outer"}},
        )
        assert len(made["created"]) == 2, made
        await h.world.call(
            "Email/set",
            update={id: {"mailboxIds": {made["created"]["z"]["id"]: True}}},
        )
        await h.settle()
        assert make_blob_id(make_mail(1)) in h.hold_remote()["Outer/Inner"]


async def test_children_and_parents_made_in_any_order_all_arrive(harness: Open) -> None:
    async with harness() as h:
        await h.begin(3)
        parent, created = None, {}
        for name in "abcdefgh":
            created[name] = {"name": name, "parentId": parent}
            parent = f"#{name}"
        made = await h.world.call("Mailbox/set", create=created)
        assert made["notCreated"] is None, made
        await h.settle()
        assert "a/b/c/d/e/f/g/h" in h.hold_remote()


async def test_a_rename_by_a_device_takes_inner_mailboxes_along(harness: Open) -> None:
    async with harness() as h:
        h.demo.store.create("Old/Inner")
        h.deliver(9, "Old/Inner")
        await h.begin(3)
        mailboxes = await h.find_mailboxes()
        email = await h.id_of(9)
        await h.world.call("Mailbox/set", update={mailboxes["Old"]: {"name": "New"}})
        await h.settle()
        assert "New/Inner" in h.hold_remote()
        assert "Old" not in h.hold_remote()
        assert await h.id_of(9) == email
        await h.world.call("Mailbox/set", update={mailboxes["Old/Inner"]: {"parentId": None}})
        await h.settle()
        assert "Inner" in h.hold_remote()
        assert await h.id_of(9) == email


async def test_a_rename_at_the_provider_keeps_the_ids_of_mailboxes_and_mail(harness: Open) -> None:
    async with harness() as h:
        h.demo.store.create("Old/Inner")
        for number in range(30):
            h.deliver(100 + number, "Old/Inner")
        await h.begin(3)
        mailboxes, emails = await h.find_mailboxes(), await h.find_ids()
        h.demo.store.rename(h.folder("Old"), "Moved")
        await h.settle()
        after = await h.find_mailboxes()
        assert after["Moved"] == mailboxes["Old"]
        assert after["Moved/Inner"] == mailboxes["Old/Inner"]
        assert await h.find_ids() == emails


async def test_a_rename_on_both_sides_ends_with_that_of_the_device(harness: Open) -> None:
    async with harness() as h:
        h.demo.store.create("Old")
        h.deliver(9, "Old")
        await h.begin(3)
        mailboxes = await h.find_mailboxes()
        await h.stop()
        h.demo.store.rename(h.folder("Old"), "Theirs")
        await h.world.call("Mailbox/set", update={mailboxes["Old"]: {"name": "Ours"}})
        h.start()
        await h.settle()
        assert "Ours" in h.hold_remote()
        assert (await h.find_mailboxes())["Ours"] == mailboxes["Old"]


@pytest.mark.parametrize("is_atomic", [True, False], ids=["MOVE", "no MOVE"])
async def test_an_act_in_a_mailbox_that_was_just_renamed_there_follows_it_at_once(
    harness: Open, is_atomic: bool
) -> None:
    # Nothing but the refusal of the old name can tell of the new one before the test is over.
    pace = msgspec.structs.replace(FAST, poll_ms=600_000)
    async with harness(pace=pace, faults=Faults(no_move=not is_atomic)) as h:
        h.deliver(9, "Old")
        await h.begin(3)
        mailboxes = await h.find_mailboxes()
        h.demo.store.rename(h.folder("Old"), "New")
        await h.move(await h.id_of(1), "Old")
        await h.update(await h.id_of(9), **{"keywords__$flagged": True})
        await h.settle()
        assert "Old" not in h.hold_remote(), "the old name was made again"
        assert len(h.hold_remote()["New"]) == 2
        assert (await h.find_mailboxes())["New"] == mailboxes["Old"]
        await h.wait_for_status(lastError=None)


async def test_a_mailbox_destroyed_by_a_device_goes_with_its_mail(harness: Open) -> None:
    async with harness() as h:
        h.demo.store.create("Gone/Inner")
        h.deliver(9, "Gone")
        h.deliver(10, "Gone/Inner")
        await h.begin(3)
        mailboxes = await h.find_mailboxes()
        result = await h.world.call(
            "Mailbox/set",
            destroy=[mailboxes["Gone/Inner"], mailboxes["Gone"]],
            onDestroyRemoveEmails=True,
        )
        assert len(result["destroyed"]) == 2, result
        await h.settle()
        assert not {"Gone", "Gone/Inner"} & h.hold_remote().keys()
        assert len(await h.find_ids()) == 3


async def test_mail_that_came_into_a_destroyed_mailbox_brings_it_back(harness: Open) -> None:
    async with harness() as h:
        h.demo.store.create("Gone")
        await h.begin(3)
        mailboxes = await h.find_mailboxes()
        await h.stop()
        await h.world.call("Mailbox/set", destroy=[mailboxes["Gone"]])
        h.deliver(9, "Gone")
        h.start()
        await h.settle()
        assert make_blob_id(make_mail(9)) in (await h.hold_local())["Gone"]


async def test_a_mailbox_that_went_at_the_provider_goes_with_its_mail(harness: Open) -> None:
    async with harness() as h:
        h.demo.store.create("Gone")
        h.deliver(9, "Gone")
        await h.begin(3)
        h.demo.store.delete(h.folder("Gone"))
        await h.settle()
        assert "Gone" not in await h.find_mailboxes()
        assert len(await h.find_ids()) == 3


async def test_mail_put_into_a_mailbox_that_went_brings_it_back(harness: Open) -> None:
    async with harness() as h:
        h.demo.store.create("Gone")
        await h.begin(3)
        id = await h.id_of(1)
        await h.stop()
        await h.move(id, "Gone")
        h.demo.store.delete(h.folder("Gone"))
        h.start()
        await h.settle()
        assert await h.id_of(1) == id


async def test_a_name_that_is_made_on_both_sides_is_one_mailbox(harness: Open) -> None:
    async with harness() as h:
        await h.begin(3)
        await h.stop()
        id = await h.world.add_mailbox("Both")
        h.demo.store.create("Both")
        h.deliver(9, "Both")
        await h.world.add_email(id, make_mail(10))
        h.start()
        await h.settle()
        assert len(h.hold_remote()["Both"]) == 2


async def test_a_name_that_cannot_be_is_taken_back_in_the_end(harness: Open, monkeypatch) -> None:
    monkeypatch.setattr(limits, "OUTBOX_TRIES_MAX", 1)
    async with harness() as h:
        await h.begin(3)
        id = await h.id_of(1)
        h.faults.refuse = frozenset({"CREATE", "RENAME"})
        wrong = await h.world.add_mailbox("Wrong")
        await h.move(id, "Wrong", "INBOX")
        mailboxes = await h.find_mailboxes()
        await h.world.call("Mailbox/set", update={mailboxes["Archive"]: {"name": "Other"}})
        status = await h.wait_for_status(lastError=lambda text: text is not None)
        assert "refused to" in status["lastError"]

        async def is_taken_back() -> bool:
            return "Archive" in await h.find_mailboxes()

        await h.wait_until(is_taken_back, lambda: "the name was kept")
        assert wrong in (await h.find_mailboxes()).values(), "mail is in it: it stays, here only"
        h.faults.heal()
        await h.world.call("Mailbox/set", update={wrong: {"sortOrder": 7}})
        await h.settle()
        assert make_blob_id(make_mail(1)) in h.hold_remote()["Wrong"]


async def test_most_mailboxes_gone_at_once_is_believed_only_the_second_time(harness: Open) -> None:
    pace = msgspec.structs.replace(FAST, poll_ms=60_000)
    async with harness(pace=pace) as h:
        for name in "abcdefghij":
            h.demo.store.create(f"Many-{name}")
            h.deliver(ord(name), f"Many-{name}")
        await h.begin(3)
        before = await h.find_ids()
        for name in "abcdefghij":
            h.demo.store.delete(h.folder(f"Many-{name}"))
        await h.stop()
        h.start()
        await h.wait_for_status(phase="live")
        assert await h.find_ids() == before


async def test_mailboxes_that_stay_away_are_gone_in_the_end(harness: Open) -> None:
    async with harness() as h:
        for name in "abcdefghij":
            h.demo.store.create(f"Many-{name}")
            h.deliver(ord(name), f"Many-{name}")
        await h.begin(3)
        for name in "abcdefghij":
            h.demo.store.delete(h.folder(f"Many-{name}"))
        await h.settle()
        assert len(await h.find_ids()) == 3


async def test_a_mailbox_that_was_refused_before_it_went_goes_all_the_same(harness: Open) -> None:
    async with harness() as h:
        h.deliver(9, "Gone")
        await h.begin(3)
        h.faults.phantom_folders = frozenset({"Gone"})
        await h.wait_for_status(lastError=lambda text: text is not None and "Gone" in text)
        h.demo.store.delete(h.folder("Gone"))
        h.faults.heal()
        await h.settle()
        assert "Gone" not in await h.find_mailboxes()
        await h.wait_for_status(lastError=None)


async def test_one_full_mailbox_that_is_missing_once_loses_nothing(harness: Open) -> None:
    # Only a start looks at the tree: there is no second look before it is there again.
    pace = msgspec.structs.replace(FAST, poll_ms=600_000)
    async with harness(pace=pace) as h:
        for number in range(10):
            h.deliver(100 + number, "Full")
        await h.begin(3)
        before, mailboxes = await h.find_ids(), await h.find_mailboxes()
        await h.stop()
        kept = h.demo.store.folders.pop("Full")
        h.start()
        status = await h.wait_for_status(lastError=lambda text: text is not None)
        assert status["lastError"].startswith("Full are not listed any more"), status
        assert (await h.hold_local())["Full"]
        await h.stop()
        h.demo.store.folders["Full"] = kept
        h.start()
        await h.wait_for_status(lastError=None, phase="live")
        await h.settle()
        assert await h.find_ids() == before
        assert await h.find_mailboxes() == mailboxes


async def test_one_full_mailbox_that_stays_away_is_gone_in_the_end(harness: Open) -> None:
    async with harness() as h:
        for number in range(10):
            h.deliver(100 + number, "Full")
        await h.begin(3)
        h.demo.store.delete(h.folder("Full"))
        await h.settle()
        assert "Full" not in await h.find_mailboxes()
        assert len(await h.find_ids()) == 3
        await h.wait_for_status(lastError=None)


async def test_a_mailbox_that_is_gone_is_emptied_in_steps(
    harness: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "ROWS_PER_COMMIT_MAX", 3)
    parts: list[int] = []

    async def watched(tx: Tx, mailbox_id: MailboxId, uids: Sequence[int]) -> None:
        parts.append(len(uids))
        if len(parts) == 3:
            raise Unavailable("the machine stops here")
        await apply_vanished(tx, mailbox_id, uids)

    monkeypatch.setattr(tree, "apply_vanished", watched)
    async with harness() as h:
        for number in range(8):
            h.deliver(100 + number, "Full")
        await h.begin(3)
        h.demo.store.delete(h.folder("Full"))
        await h.settle()
        assert "Full" not in await h.find_mailboxes()
        assert len(await h.find_ids()) == 3
    assert parts == [3, 3, 2, 2], "what was cut short goes on where it stopped"
