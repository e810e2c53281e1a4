"""Snooze: Emails sleep, and wake when they should. Source: draft-ietf-extra-email-snooze"""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from tests.jmap.mail_fixture import create, get_email, make_raw, refuse, upload
from tests.world import MAIL, World
from tindra.base import limits
from tindra.base.ids import AccountId
from tindra.core.ports import StoreReader
from tindra.core.tx import Tx, transact
from tindra.features import snooze as feature
from tindra.features.snooze import SNOOZE, TIMER, wake
from tindra.model.mail import parse_email_id
from tindra.model.stored import TimerRow
from tindra.wire.jmap.date import encode_utc_date

HOUR_MS = 3_600_000
NEVER_MS = 1 << 52


def later(world: World, ms: int = HOUR_MS) -> str:
    return encode_utc_date(world.clock.now_ms() + ms)


def whole(until: str, **others: Any) -> dict[str, Any]:
    return {"until": until, "setKeywords": None, "moveToMailboxId": None} | others


async def begin(world: World, *keywords: str) -> tuple[str, str]:
    """An inbox and an Email in it."""
    inbox = await world.add_mailbox("Inbox", role="inbox")
    return inbox, await world.add_email(inbox, make_raw(), keywords)


async def update(world: World, id: str, **patch: Any) -> dict[str, Any] | None:
    """Paths are written with __ for /; what the server told of the update."""
    wanted = {path.replace("__", "/"): value for path, value in patch.items()}
    answer = await world.call("Email/set", update={id: wanted})
    assert answer["updated"], answer
    told = answer["updated"][id]
    return None if told is None else dict(told)


async def refuse_update(world: World, id: str, **patch: Any) -> dict[str, Any]:
    wanted = {path.replace("__", "/"): value for path, value in patch.items()}
    answer = await world.call("Email/set", update={id: wanted})
    assert answer["updated"] is None, answer
    return dict(answer["notUpdated"][id])


async def find_bed(world: World) -> dict[str, Any] | None:
    got = await world.call("Mailbox/get", ids=None)
    return next((box for box in got["list"] if box["role"] == "snoozed"), None)


async def bed_id(world: World) -> str:
    bed = await find_bed(world)
    assert bed is not None
    return str(bed["id"])


async def list_timers(world: World, until_ms: int = NEVER_MS) -> list[TimerRow]:
    async def read(reader: StoreReader) -> list[TimerRow]:
        return [row for row in await reader.list_timers(until_ms, 100) if row.kind == TIMER]

    return await world.services.store.read(AccountId(world.account_id), read)


async def run_timers(world: World, ms: int = 0) -> int:
    """Let time pass, and do what is due, as the loop of the application does."""
    world.clock.advance(ms)
    due = await list_timers(world, world.clock.now_ms())
    for row in due:
        await wake(world.services, AccountId(world.account_id), row.key, None)
    for device in world.devices:
        await device.sync()
    return len(due)


async def places(world: World, id: str) -> set[str]:
    return set((await get_email(world, id, "mailboxIds"))["mailboxIds"])


async def snoozed(world: World, id: str) -> Any:
    return (await get_email(world, id, "snoozed"))["snoozed"]


async def test_an_email_sleeps_and_wakes_in_the_inbox(world: World) -> None:
    inbox, id = await begin(world)
    bed = await world.add_mailbox("Later", role="snoozed")
    until = later(world)
    assert await snoozed(world, id) is None
    told = await update(world, id, mailboxIds={bed: True}, snoozed={"until": until})
    assert told == {"snoozed": whole(until)}
    assert await snoozed(world, id) == whole(until)
    assert await run_timers(world, HOUR_MS - 2000) == 0
    assert await places(world, id) == {bed}
    state = (await world.call("Email/get", ids=[]))["state"]
    assert await run_timers(world, 2000) == 1
    assert await places(world, id) == {inbox}
    assert await snoozed(world, id) is None
    assert (await world.call("Email/changes", sinceState=state))["updated"] == [id]
    assert await list_timers(world) == []


async def test_the_server_takes_it_to_a_mailbox_it_makes(world: World) -> None:
    _, id = await begin(world)
    assert await find_bed(world) is None
    told = await update(world, id, snoozed=whole(later(world)))
    bed = await find_bed(world)
    assert bed is not None
    assert (bed["name"], bed["parentId"], bed["totalEmails"]) == ("Snoozed", None, 1)
    assert told == {"mailboxIds": {bed["id"]: True}}
    assert await places(world, id) == {bed["id"]}


async def test_a_mailbox_of_that_name_becomes_the_one_to_sleep_in(world: World) -> None:
    _, id = await begin(world)
    old = await world.add_mailbox("snoozed")
    await update(world, id, snoozed=whole(later(world)))
    assert await bed_id(world) == old


async def test_a_name_that_is_taken_gets_a_number(world: World) -> None:
    _, id = await begin(world)
    await world.add_mailbox("Snoozed", role="archive")
    await update(world, id, snoozed=whole(later(world)))
    bed = await find_bed(world)
    assert bed is not None
    assert bed["name"] == "Snoozed 2"


async def test_it_leaves_only_the_mailbox_it_comes_back_to(world: World) -> None:
    inbox, id = await begin(world)
    work = await world.add_mailbox("Work")
    await update(world, id, mailboxIds={inbox: True, work: True})
    await update(world, id, snoozed=whole(later(world), moveToMailboxId=work))
    assert await places(world, id) == {inbox, await bed_id(world)}
    await run_timers(world, HOUR_MS)
    assert await places(world, id) == {inbox, work}


async def test_keywords_are_set_and_removed_on_waking(world: World) -> None:
    _, id = await begin(world, "$seen", "mine")
    keywords = {"$seen": False, "Woken": True, "other": False}
    await update(world, id, snoozed=whole(later(world), setKeywords=keywords))
    assert (await snoozed(world, id))["setKeywords"] == {
        "$seen": False, "woken": True, "other": False,
    }  # fmt: skip
    assert (await get_email(world, id, "keywords"))["keywords"] == {"$seen": True, "mine": True}
    await run_timers(world, HOUR_MS)
    assert (await get_email(world, id, "keywords"))["keywords"] == {"mine": True, "woken": True}


async def test_keywords_never_become_too_many(world: World) -> None:
    full = [f"k{n}" for n in range(limits.KEYWORDS_PER_EMAIL_MAX)]
    _, id = await begin(world, *full)
    await update(world, id, snoozed=whole(later(world), setKeywords={"new": True, "k1": False}))
    await run_timers(world, HOUR_MS)
    keywords = set((await get_email(world, id, "keywords"))["keywords"])
    assert keywords == {*full, "new"} - {"k1"}


async def test_a_target_that_is_gone_means_the_inbox(world: World) -> None:
    inbox, id = await begin(world)
    work = await world.add_mailbox("Work")
    await update(world, id, snoozed=whole(later(world), moveToMailboxId=work))
    await world.call("Mailbox/set", destroy=[work], onDestroyRemoveEmails=True)
    await run_timers(world, HOUR_MS)
    assert await places(world, id) == {inbox}


async def test_without_any_inbox_it_wakes_where_it_is(world: World) -> None:
    work = await world.add_mailbox("Work")
    id = await world.add_email(work, make_raw())
    bed = await world.add_mailbox("Later", role="snoozed")
    await update(world, id, mailboxIds={bed: True}, snoozed=whole(later(world)))
    await run_timers(world, HOUR_MS)
    assert await places(world, id) == {bed}
    assert await snoozed(world, id) is None


async def test_a_moment_in_the_past_wakes_it_at_once(world: World) -> None:
    inbox, id = await begin(world)
    await update(world, id, snoozed=whole("2001-01-01T00:00:00Z"))
    assert await run_timers(world) == 1
    assert await places(world, id) == {inbox}


async def test_snoozed_anew_it_sleeps_on(world: World) -> None:
    inbox, id = await begin(world)
    await update(world, id, snoozed=whole(later(world)))
    state = (await world.call("Email/get", ids=[]))["state"]
    until = later(world, 3 * HOUR_MS)
    assert await update(world, id, snoozed__until=until) == {"snoozed": whole(until)}
    # Nothing but the property changed, and devices hear of it.
    assert (await world.call("Email/changes", sinceState=state))["updated"] == [id]
    assert await run_timers(world, 2 * HOUR_MS) == 0
    # A timer that was read before the change finds that it is too early.
    await wake(world.services, AccountId(world.account_id), id, None)
    assert await places(world, id) == {await bed_id(world)}
    assert await run_timers(world, HOUR_MS) == 1
    assert await places(world, id) == {inbox}


async def test_a_role_that_moves_leaves_the_sleepers_where_they_are(world: World) -> None:
    inbox, id = await begin(world)
    await update(world, id, snoozed=whole(later(world)))
    old = await bed_id(world)
    await world.call("Mailbox/set", update={old: {"role": None}})
    new = await world.add_mailbox("Other bed", role="snoozed")
    await update(world, id, snoozed__until=later(world, 2 * HOUR_MS))
    assert await places(world, id) == {old}
    other = await world.add_email(inbox, make_raw(message_id="other@x"))
    await update(world, other, snoozed=whole(later(world)))
    assert await places(world, other) == {new}
    await run_timers(world, 2 * HOUR_MS)
    assert await places(world, id) == await places(world, other) == {inbox}


async def test_null_wakes_it_now_without_its_keywords(world: World) -> None:
    inbox, id = await begin(world)
    await update(world, id, snoozed=whole(later(world), setKeywords={"woken": True}))
    assert await update(world, id, snoozed=None) == {"mailboxIds": {inbox: True}}
    assert await places(world, id) == {inbox}
    assert (await get_email(world, id, "keywords"))["keywords"] == {}
    assert await list_timers(world) == []


async def test_null_with_a_place_of_its_own_goes_there(world: World) -> None:
    _, id = await begin(world)
    work = await world.add_mailbox("Work")
    await update(world, id, snoozed=whole(later(world)))
    assert await update(world, id, snoozed=None, mailboxIds={work: True}) is None
    assert await places(world, id) == {work}
    assert await snoozed(world, id) is None


async def test_null_where_nothing_was_snoozed_is_nothing(world: World) -> None:
    inbox, id = await begin(world)
    assert await update(world, id, snoozed=None) is None
    assert await places(world, id) == {inbox}


@pytest.mark.parametrize("origin", ["device", "provider"])
async def test_who_takes_it_out_of_its_bed_has_woken_it(world: World, origin: Any) -> None:
    _, id = await begin(world)
    work = await world.add_mailbox("Work")
    await update(world, id, snoozed=whole(later(world)))

    async def write(tx: Tx) -> None:
        doc_id = parse_email_id(id)
        assert doc_id is not None
        [row] = await tx.store.load_emails([doc_id])
        await tx.update_emails([(row, type(row)(**(_fields(row) | {"mailbox_ids": (work,)})))])

    await transact(world.services, world.account_id, "test", write, origin)
    assert await snoozed(world, id) is None
    assert await list_timers(world) == []
    assert await run_timers(world, HOUR_MS) == 0
    assert await places(world, id) == {work}


def _fields(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__}


async def test_marks_and_other_mailboxes_do_not_wake_it(world: World) -> None:
    _, id = await begin(world)
    work = await world.add_mailbox("Work")
    await update(world, id, snoozed=whole(later(world)))
    await update(world, id, **{"keywords__$seen": True, f"mailboxIds__{work}": True})
    await update(world, id, **{f"mailboxIds__{work}": None})
    assert await snoozed(world, id) is not None
    assert await run_timers(world, HOUR_MS) == 1


async def test_destroyed_it_is_forgotten(world: World) -> None:
    _, id = await begin(world)
    await update(world, id, snoozed=whole(later(world)))
    assert (await world.call("Email/set", destroy=[id]))["destroyed"] == [id]
    assert await list_timers(world) == []
    await wake(world.services, AccountId(world.account_id), id, None)


async def test_the_bed_destroyed_with_what_is_in_it(world: World) -> None:
    _, id = await begin(world)
    work = await world.add_mailbox("Work")
    await update(world, id, snoozed=whole(later(world)), **{f"mailboxIds__{work}": None})
    bed = await bed_id(world)
    await update(world, id, mailboxIds={bed: True, work: True})
    await world.call("Mailbox/set", destroy=[bed], onDestroyRemoveEmails=True)
    assert await places(world, id) == {work}
    assert await snoozed(world, id) is None
    assert await list_timers(world) == []


async def test_an_email_can_be_made_and_imported_asleep(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    bed = await world.add_mailbox("Later", role="snoozed")
    until = later(world)
    made = await create(world, bed, subject="Hi", snoozed={"until": until})
    assert made["created"]["k"]["snoozed"] == whole(until)
    blob_id = await upload(world, make_raw())
    email = {"blobId": blob_id, "mailboxIds": {bed: True}, "snoozed": whole(until)}
    answer = await world.call("Email/import", emails={"e": email})
    ids = [made["created"]["k"]["id"], answer["created"]["e"]["id"]]
    for id in ids:
        assert await snoozed(world, id) == whole(until)
    assert await run_timers(world, HOUR_MS) == 2
    for id in ids:
        assert await places(world, id) == {inbox}


async def test_what_is_made_asleep_must_lie_in_bed(world: World) -> None:
    inbox, id = await begin(world)
    error = await refuse(world, inbox, snoozed=whole(later(world)))
    assert error["properties"] == ["mailboxIds", "snoozed"]
    work = await world.add_mailbox("Work")
    error = await refuse_update(world, id, mailboxIds={work: True}, snoozed=whole(later(world)))
    assert error["properties"] == ["mailboxIds", "snoozed"]
    email = {
        "blobId": await upload(world, make_raw(message_id="x@y")),
        "mailboxIds": {inbox: True},
        "snoozed": whole(later(world)),
    }
    answer = await world.call("Email/import", emails={"e": email})
    assert answer["notCreated"]["e"]["properties"] == ["mailboxIds", "snoozed"]
    assert await find_bed(world) is None


@pytest.mark.parametrize(
    "wrong",
    [
        "tomorrow", 5, [], {}, {"until": None}, {"until": "2027-01-01"},
        {"until": "2027-01-01T00:00:00+01:00"}, whole("2027-01-01T00:00:00Z", more=1),
        whole("2027-01-01T00:00:00Z", setKeywords=[]),
        whole("2027-01-01T00:00:00Z", setKeywords={"a b": True}),
        whole("2027-01-01T00:00:00Z", setKeywords={"a": None}),
        whole("2027-01-01T00:00:00Z", setKeywords={f"k{n}": True for n in range(1000)}),
        whole("2027-01-01T00:00:00Z", moveToMailboxId="unknown"),
        whole("2027-01-01T00:00:00Z", moveToMailboxId=5),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_named(world: World, wrong: Any) -> None:
    inbox, id = await begin(world)
    error = await refuse_update(world, id, snoozed=wrong)
    assert (error["type"], error["properties"]) == ("invalidProperties", ["snoozed"])
    assert await find_bed(world) is None
    assert await places(world, id) == {inbox}


async def test_it_cannot_wake_in_its_bed(world: World) -> None:
    _, id = await begin(world)
    bed = await world.add_mailbox("Later", role="snoozed")
    error = await refuse_update(world, id, snoozed=whole(later(world), moveToMailboxId=bed))
    assert error["properties"] == ["snoozed"]


async def test_a_patch_that_leads_nowhere_is_refused(world: World) -> None:
    _, id = await begin(world)
    error = await refuse_update(world, id, snoozed__until=later(world))
    assert error["type"] == "invalidPatch"


async def test_too_many_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox, id = await begin(world)
    monkeypatch.setattr(feature, "SNOOZED_MAX", 1)
    await update(world, id, snoozed=whole(later(world)))
    other = await world.add_email(inbox, make_raw(message_id="other@x"))
    assert (await refuse_update(world, other, snoozed=whole(later(world))))["type"] == "overQuota"
    # What sleeps already may be put off.
    await update(world, id, snoozed=whole(later(world, 2 * HOUR_MS)))


async def test_without_the_capability_there_is_no_such_property(world: World) -> None:
    _, id = await begin(world)
    arguments = {"accountId": world.account_id, "update": {id: {"snoozed": None}}}
    answer = await world.request([["Email/set", arguments, "0"]], using=[MAIL])
    [[_, result, _]] = answer["methodResponses"]
    assert result["notUpdated"][id]["type"] == "invalidProperties"
    got = {"accountId": world.account_id, "ids": [id], "properties": ["snoozed"]}
    answer = await world.request([["Email/get", got, "0"]], using=[MAIL])
    assert answer["methodResponses"][0][1]["type"] == "invalidArguments"
    answer = await world.request([["Email/get", got, "0"]], using=[MAIL, SNOOZE])
    assert answer["methodResponses"][0][1]["list"] == [{"id": id, "snoozed": None}]


async def check_sleepers(world: World) -> None:
    """Everything stored is in its bed and has its timer; no other timer is set."""

    async def read(reader: StoreReader) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
        stored = {
            str(row.id): msgspec.json.decode(row.data)["sleepsIn"]
            for row in await reader.load_objects("SnoozedEmail", None)
        }
        docs = [doc for doc in map(parse_email_id, stored) if doc is not None]
        return stored, {row.id: row.mailbox_ids for row in await reader.load_emails(docs)}

    stored, held = await world.services.store.read(AccountId(world.account_id), read)
    assert all(bed in held[id] for id, bed in stored.items())
    assert {row.key for row in await list_timers(world)} == set(stored)


async def test_whatever_is_done_what_sleeps_is_in_bed_and_has_a_timer(world: World) -> None:
    rng = random.Random(7)
    inbox = await world.add_mailbox("Inbox", role="inbox")
    boxes = [inbox, await world.add_mailbox("Work")]
    ids = [await world.add_email(inbox, make_raw(message_id=f"{n}@x")) for n in range(6)]
    acts = 0
    for _ in range(150):
        bed = await find_bed(world)
        known = boxes + ([bed["id"]] if bed else [])
        id = rng.choice(ids)
        patch: dict[str, Any] = {}
        if rng.random() < 0.5:
            wanted = rng.sample(known, rng.randint(1, len(known)))
            patch["mailboxIds"] = dict.fromkeys(wanted, True)
        if rng.random() < 0.5:
            moment = later(world, rng.randint(-1, 5) * HOUR_MS)
            target = rng.choice([None, *boxes])
            patch["snoozed"] = rng.choice([None, whole(moment, moveToMailboxId=target)])
        answer = await world.call("Email/set", update={id: patch})
        acts += answer["updated"] is not None
        if rng.random() < 0.2:
            await run_timers(world, HOUR_MS)
        if bed and rng.random() < 0.05:
            role = {bed["id"]: {"role": None}}
            if rng.random() < 0.5:
                await world.call("Mailbox/set", update=role)
            else:
                await world.call("Mailbox/set", destroy=[bed["id"]], onDestroyRemoveEmails=True)
                there = await world.call("Email/get", ids=ids, properties=["id"])
                ids = [one["id"] for one in there["list"]]
                while len(ids) < 6:
                    raw = make_raw(message_id=f"{rng.random()}@x")
                    ids.append(await world.add_email(inbox, raw))
        await check_sleepers(world)
    assert acts > 60
