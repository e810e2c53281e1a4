"""Thread: get and changes. Source: RFC 8621 s3"""

from __future__ import annotations

from typing import Any

from tests.jmap.mail_fixture import get_email, make_raw
from tests.world import World


async def show(world: World, *thread_ids: str) -> list[list[str]]:
    """The Emails of Threads."""
    got = await world.call("Thread/get", ids=list(thread_ids))
    return [thread["emailIds"] for thread in got["list"]]


async def test_emails_of_one_date_stand_always_in_the_same_order(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    moment = "2026-03-01T00:00:00Z"
    ids = [await world.add_email(inbox, make_raw("T", "a@x"), receivedAt=moment)]
    for n in range(5):
        raw = make_raw("Re: T", f"b{n}@x", In_Reply_To="<a@x>")
        ids.append(await world.add_email(inbox, raw, receivedAt=moment))
    thread = (await get_email(world, ids[0], "threadId"))["threadId"]
    [first] = await show(world, thread)
    assert sorted(first) == sorted(ids)
    await world.call("Email/set", update={id: {"keywords/$seen": True} for id in reversed(ids)})
    assert await show(world, thread) == [first]


async def test_any_moment_that_can_be_said_has_its_place(world: World) -> None:
    """Long ago and far ahead too: order and filters go by receivedAt. Source: RFC 8621 s3, s4.4"""
    inbox = await world.add_mailbox("Inbox")
    years = ("2107", "1601", "1970", "1969", "2026", "9999", "2106", "0001")
    ids: dict[str, str] = {}
    refused: list[str] = []
    for n, year in enumerate(years):
        raw = make_raw("Re: T" if n else "T", f"{n}@x", In_Reply_To="<0@x>" if n else "")
        blob = await world.services.blobs.put(world.account_id, raw)
        wanted = {
            "blobId": blob.id,
            "mailboxIds": {inbox: True},
            "receivedAt": f"{year}-01-02T03:04:05Z",
        }
        made: dict[str, Any] = await world.call("Email/import", emails={"e": wanted})
        if made["created"]:
            ids[year] = made["created"]["e"]["id"]
        else:
            assert made["notCreated"]["e"]["properties"] == ["receivedAt"]
            refused.append(year)
    expected = [ids[year] for year in sorted(ids)]
    [found] = [t["emailIds"] for t in (await world.call("Thread/get", ids=None))["list"]]
    assert found == expected
    found = (await world.call("Email/query", sort=[{"property": "receivedAt"}]))["ids"]
    assert found == expected
    for year, id in ids.items():
        assert (await get_email(world, id, "receivedAt"))["receivedAt"][:4] == year
        filter = {"before": f"{year}-01-02T03:04:05Z"}
        earlier = (await world.call("Email/query", filter=filter))["ids"]
        assert sorted(earlier) == sorted(ids[one] for one in ids if one < year)
    assert not {"1970", "2026", "2106"}.intersection(refused)


async def test_who_changes_one_thread_changes_no_other(world: World) -> None:
    """Source: RFC 8621 s3.2"""
    inbox = await world.add_mailbox("Inbox")
    one = await world.add_email(inbox, make_raw("One", "one@x"))
    other = await world.add_email(inbox, make_raw("Other", "other@x"))
    threads = [(await get_email(world, id, "threadId"))["threadId"] for id in (one, other)]
    assert len(set(threads)) == 2
    state = (await world.call("Thread/get", ids=[]))["state"]
    late = make_raw("Re: One", "late@x", References="<other@x> <one@x>")
    joined = (await get_email(world, await world.add_email(inbox, late), "threadId"))["threadId"]
    # It names both, and what it is called decides; a threadId never changes, so nothing merges.
    assert joined == threads[0]
    changes = await world.call("Thread/changes", sinceState=state)
    assert (changes["created"], changes["updated"]) == ([], [threads[0]])
    assert [len(ids) for ids in await show(world, *threads)] == [2, 1]


async def test_unknown_threads_are_not_found_and_properties_are_checked(world: World) -> None:
    """Source: RFC 8621 s3.1"""
    got = await world.call("Thread/get", ids=["t0", "nothing"])
    assert (got["list"], got["notFound"]) == ([], ["t0", "nothing"])
    assert (await world.fail("Thread/get", ids=[], properties=["subject"]))["type"] == (
        "invalidArguments"
    )


async def _thread_of(world: World, email_id: str) -> str:
    got = await world.call("Email/get", ids=[email_id], properties=["threadId"])
    return str(got["list"][0]["threadId"])


async def _emails(world: World, thread_id: str) -> list[str]:
    got = await world.call("Thread/get", ids=[thread_id])
    return list(got["list"][0]["emailIds"])


async def test_a_thread_lists_its_emails_oldest_received_first(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    days = ("05", "01", "09", "03")
    ids = {}
    for day in days:
        raw = make_raw("Talk", f"{day}@x", In_Reply_To="" if day == "05" else "<05@x>")
        ids[day] = await world.add_email(inbox, raw, receivedAt=f"2026-03-{day}T00:00:00Z")
    thread = await _thread_of(world, ids["05"])
    assert await _emails(world, thread) == [ids[day] for day in sorted(days)]
    got = await world.call("Thread/get", ids=[thread], properties=["id"])
    assert got["list"] == [{"id": thread}]
    got = await world.call("Thread/get", ids=None)
    assert got["list"] == [{"id": thread, "emailIds": [ids[day] for day in sorted(days)]}]


async def test_every_email_is_in_one_thread(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    ids = [await world.add_email(inbox, make_raw(f"S{n}", f"{n}@x")) for n in range(4)]
    got = await world.call("Thread/get", ids=None)
    assert sorted(id for thread in got["list"] for id in thread["emailIds"]) == sorted(ids)
    assert len(got["list"]) == 4


async def test_a_thread_changes_with_its_emails_and_goes_with_the_last(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    first = await world.add_email(inbox, make_raw("Talk", "a@x"))
    thread = await _thread_of(world, first)
    state = (await world.call("Thread/get", ids=[]))["state"]
    second = await world.add_email(inbox, make_raw("Re: Talk", "b@x", In_Reply_To="<a@x>"))
    found = await world.call("Thread/changes", sinceState=state)
    assert (found["created"], found["updated"], found["destroyed"]) == ([], [thread], [])
    await world.call("Email/set", destroy=[first])
    assert await _emails(world, thread) == [second]
    middle = (await world.call("Thread/get", ids=[]))["state"]
    await world.call("Email/set", update={second: {"keywords/$seen": True}})
    assert (await world.call("Thread/get", ids=[]))["state"] == middle, "marks are not its business"
    await world.call("Email/set", destroy=[second])
    assert (await world.call("Thread/get", ids=[thread]))["notFound"] == [thread]
    found = await world.call("Thread/changes", sinceState=middle)
    assert (found["created"], found["updated"], found["destroyed"]) == ([], [], [thread])
    found = await world.call("Thread/changes", sinceState="0")
    assert (found["created"], found["updated"], found["destroyed"]) == ([], [], [])


async def test_threads_cannot_be_written_or_queried(world: World) -> None:
    for name in ("Thread/set", "Thread/query", "Thread/queryChanges", "Thread/copy"):
        assert (await world.fail(name))["type"] == "unknownMethod"
