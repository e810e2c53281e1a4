"""The quotas of the provider reach the account, and follow it."""

from __future__ import annotations

import msgspec

from tests.sync.conftest import Open
from tests.sync.harness import FAST, Harness


async def load_told(h: Harness) -> dict[str, tuple[int, int]]:
    """Name -> (used, hardLimit) of the account's Quotas."""
    call = ["Quota/get", {"accountId": h.world.account_id, "ids": None}, "0"]
    [[_, got, _]] = (await h.world.raw_request([call]))["methodResponses"]
    return {quota["name"]: (quota["used"], quota["hardLimit"]) for quota in got["list"]}


async def wait_for_told(h: Harness, expected: dict[str, tuple[int, int]]) -> None:
    async def is_told() -> bool:
        return await load_told(h) == expected

    await h.wait_until(is_told, lambda: f"the quotas never became {expected}")


def count_used(h: Harness) -> int:
    """What the provider counts, in whole KiB."""
    return (h.demo.store.count_octets() + 1023) // 1024 * 1024


async def test_what_the_provider_counts_is_told_and_kept_up(harness: Open) -> None:
    async with harness(count=5) as h:
        h.pace = msgspec.structs.replace(FAST, quota_ms=20)
        await h.connect()
        await wait_for_told(h, {"Mailbox": (count_used(h), 5 << 30)})
        before = count_used(h)
        for number in range(100, 120):
            h.deliver(number)
        h.demo.store.storage_kib_max = 4096
        await wait_for_told(h, {"Mailbox": (count_used(h), 4096 << 10)})
        assert count_used(h) > before
        await h.settle()


async def test_a_provider_that_counts_no_more_leaves_none_and_a_refusal_changes_nothing(
    harness: Open,
) -> None:
    async with harness(count=3) as h:
        h.pace = msgspec.structs.replace(FAST, quota_ms=20)
        await h.connect()
        told = {"Mailbox": (count_used(h), 5 << 30)}
        await wait_for_told(h, told)
        h.demo.faults.refuse = frozenset({"GETQUOTAROOT"})
        h.deliver(100)
        await h.settle()
        assert await load_told(h) == told
        await h.stop()
        h.demo.faults.refuse = frozenset()
        h.demo.faults.no_quota = True
        h.start()
        await wait_for_told(h, {})


async def test_devices_are_not_woken_by_asking_alone(harness: Open) -> None:
    async with harness(count=3) as h:
        h.pace = msgspec.structs.replace(FAST, quota_ms=1)
        await h.connect()
        await h.settle()
        await wait_for_told(h, {"Mailbox": (count_used(h), 5 << 30)})
        writes = sum("Quota" in info.states for info in h.world.commits)
        for _ in range(3):
            await h.stop()
            await h.start_and_look()
        assert sum("Quota" in info.states for info in h.world.commits) == writes
