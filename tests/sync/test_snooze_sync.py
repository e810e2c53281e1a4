"""Snoozed mail at the provider: an ordinary mailbox, a move there, and a move back."""

from __future__ import annotations

from tests.sync.conftest import Open
from tests.sync.harness import Harness, make_mail
from tindra.features.snooze import wake
from tindra.model.blob import make_blob_id

SOON = "2001-01-01T00:00:00Z"
MAIL = make_blob_id(make_mail(1))


async def snooze(h: Harness, id: str, until: str = SOON) -> None:
    answer = await h.world.call("Email/set", update={id: {"snoozed": {"until": until}}})
    assert answer["updated"], answer


async def get_snoozed(h: Harness, id: str) -> object:
    got = await h.world.call("Email/get", ids=[id], properties=["snoozed"])
    return got["list"][0]["snoozed"]


async def test_an_email_sleeps_in_a_mailbox_of_the_provider_and_comes_back(harness: Open) -> None:
    async with harness() as h:
        await h.begin(3)
        id = await h.id_of(1)
        await snooze(h, id)
        await h.settle()
        assert MAIL in h.hold_remote()["Snoozed"]
        assert MAIL not in h.hold_remote()["INBOX"]
        assert await get_snoozed(h, id) is not None
        await wake(h.services, h.world.account_id, id, None)
        await h.settle()
        assert MAIL in h.hold_remote()["INBOX"]
        assert h.hold_remote()["Snoozed"] == {}
        boxes = (await h.world.call("Mailbox/get", ids=None))["list"]
        assert [box["name"] for box in boxes if box["role"] == "snoozed"] == ["Snoozed"]


async def test_another_program_that_moves_it_has_woken_it(harness: Open) -> None:
    async with harness() as h:
        await h.begin(3)
        id = await h.id_of(1)
        await snooze(h, id, "2099-01-01T00:00:00Z")
        await h.settle()
        h.demo.deliver(make_mail(1), "INBOX")
        h.folder("Snoozed").expunge([h.uid_of(1, "Snoozed")])
        await h.settle()
        assert await get_snoozed(h, id) is None
        assert MAIL in (await h.hold_local())["INBOX"]


async def test_what_the_provider_has_never_heard_of_wakes_all_the_same(harness: Open) -> None:
    async with harness() as h:
        await h.begin(3)
        id = await h.id_of(1)
        await h.stop()
        await snooze(h, id)
        await wake(h.services, h.world.account_id, id, None)
        assert MAIL in (await h.hold_local())["INBOX"]
        h.start()
        await h.settle()
        assert MAIL in h.hold_remote()["INBOX"]
