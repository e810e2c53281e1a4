"""Thread: get and changes. Source: RFC 8621 s3"""

from __future__ import annotations

from tests.jmap.mail_fixture import make_raw
from tests.world import World


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
