"""A mailbox comes in for the first time, with progress that can be watched."""

from __future__ import annotations

import msgspec

from tests.sync.conftest import Open
from tests.sync.harness import FAST, make_mail
from tindra.model.blob import make_blob_id


async def test_everything_comes_in_with_its_flags_and_folders(harness: Open) -> None:
    async with harness(count=300) as h:
        await h.connect()
        await h.settle()
        status = await h.wait_for_status(phase="live")
        total = sum(len(folder.messages) for folder in h.demo.store.folders.values())
        assert status["messagesDone"] == status["messagesTotal"] == total
        assert status["progress"] == 100
        assert status["lastError"] is None
        assert status["nextTryAt"] is None


async def test_the_newest_mail_of_the_inbox_comes_first_and_progress_is_seen(harness: Open) -> None:
    async with harness() as h:
        for number in range(300):
            h.deliver(number)
            h.deliver(1000 + number, "Archive")
        await h.connect()
        await h.settle()
        known = [s for s in h.statuses if s["messagesTotal"] is not None]
        told = [s["progress"] for s in known if s["phase"] == "backfilling"]
        assert told == sorted(told)
        assert len(set(told)) >= 3
        rows = await _order_of_arrival(h)
        newest = [make_blob_id(make_mail(number)) for number in range(299, 259, -1)]
        assert set(rows[:40]) == set(newest)


async def _order_of_arrival(h) -> list[str]:
    call = ["Email/changes", {"accountId": h.world.account_id, "sinceState": "0"}, "0"]
    answer = await h.world.raw_request([call])
    ids = answer["methodResponses"][0][1]["created"]
    get = {"accountId": h.world.account_id, "ids": ids, "properties": ["blobId"]}
    answer = await h.world.raw_request([["Email/get", get, "0"]])
    blobs = {obj["id"]: obj["blobId"] for obj in answer["methodResponses"][0][1]["list"]}
    return [blobs[id] for id in ids]


async def test_a_second_start_has_nothing_to_do(harness: Open) -> None:
    async with harness(count=120) as h:
        await h.connect()
        await h.settle()
        await h.wait_for_status(phase="live", progress=100)
        await h.stop()
        before = await h.world.load_all()
        modseqs = {name: f.highestmodseq for name, f in h.demo.store.folders.items()}
        await h.start_and_look()
        await h.wait_for_status(phase="live", progress=100)
        assert await h.world.load_all() == before
        assert {n: f.highestmodseq for n, f in h.demo.store.folders.items()} == modseqs


async def test_mail_that_comes_during_the_first_sync_is_not_forgotten(harness: Open) -> None:
    async with harness() as h:
        for number in range(400):
            h.deliver(number)
        await h.connect()

        async def has_begun() -> bool:
            return bool((await h.hold_local()).get("INBOX"))

        await h.wait_until(has_begun, lambda: "nothing came")
        h.deliver(9000)
        h.folder().expunge([1, 2])
        h.folder().set_flags(h.uid_of(390), frozenset({"\\Flagged"}))
        await h.settle()


async def test_what_a_device_does_during_the_first_sync_reaches_the_provider(harness: Open) -> None:
    async with harness() as h:
        for number in range(600):
            h.deliver(number)
        await h.connect()

        async def has_begun() -> bool:
            return bool((await h.hold_local()).get("INBOX"))

        await h.wait_until(has_begun, lambda: "nothing came")
        id = await h.id_of(599)
        await h.update(id, keywords__xflagged=True, **{"keywords__$flagged": True})
        await h.move(id, "Archive")
        await h.settle()
        assert make_mail(599) in {m.raw for m in h.folder("Archive").messages.values()}


async def test_a_provider_that_is_slower_than_the_rounds_starves_nothing(harness: Open) -> None:
    """Asking all mailboxes takes longer than the pause between two rounds: what comes after the
    questions gets its turn all the same."""
    pace = msgspec.structs.replace(FAST, poll_ms=1)
    async with harness(pace=pace) as h:
        for number in range(20):
            h.deliver(number, "INBOX" if number % 2 else "Archive")
        await h.connect()
        await h.settle()
        h.folder().expunge([h.uid_of(1)])
        h.demo.store.renumber(h.folder("Archive"))
        await h.settle()
        assert len(await h.find_ids()) == 19
