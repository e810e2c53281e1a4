"""What RFC 8621 s9 asks of a server, where it is not a whole subject of its own.

Making HTML harmless is tested in test_safe_html, parts of accounts in test_sharing_rights, and who
may send as whom in test_identity and test_submission_refused.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.jmap.mail_fixture import get_email, make_raw
from tests.world import World, add_user
from tindra.core.access import Caller


@pytest.mark.parametrize(
    ("charset", "content", "value", "is_problem"),
    [
        ("us-ascii", "é".encode(), "é", True),
        ("utf-8", b"\xe9", "\ufffd", True),
        ("utf-8", "é".encode(), "é", False),
        ("x-unknown", "é".encode(), "é", True),
        ("x-unknown", b"\xe9", "é", True),
        ("iso-8859-1", b"\x80\xe9", "€é", False),
        ("utf-7", b"+ADw-script+AD4-", "<script>", False),
    ],
)
async def test_what_is_guessed_of_a_charset_is_as_the_page_says_and_told(
    world: World, charset: str, content: bytes, value: str, is_problem: bool
) -> None:
    """Where a text is not what it says, `isEncodingProblem` says so. RFC 8621 s9.1, s4.1.4"""
    inbox = await world.add_mailbox("Inbox")
    head = f"From: a@x\r\nContent-Type: text/plain; charset={charset}\r\n\r\n"
    id = await world.add_email(inbox, head.encode() + content)
    email = await get_email(world, id, "bodyValues", "textBody", fetchTextBodyValues=True)
    shown = email["bodyValues"][email["textBody"][0]["partId"]]
    assert (shown["value"], shown["isEncodingProblem"]) == (value, is_problem)
    assert email["textBody"][0]["charset"] == charset


async def test_a_type_is_what_is_said_and_never_guessed_from_content(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    raw = make_raw(body="<html><script>x</script>\r\n", Content_Type="text/plain")
    id = await world.add_email(inbox, raw)
    email = await get_email(world, id, "textBody", "htmlBody", "bodyStructure")
    assert email["bodyStructure"]["type"] == "text/plain"
    assert email["textBody"] == email["htmlBody"]


READS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("Email/get", "ids", {}),
    ("Thread/get", "ids", {}),
    ("Mailbox/get", "ids", {}),
    ("Email/parse", "blobIds", {}),
    ("SearchSnippet/get", "emailIds", {"filter": {"text": "secret"}}),
)


async def test_what_is_in_another_account_is_as_if_it_were_not(world: World) -> None:
    """Source: RFC 8621 s9.5"""
    inbox = await world.add_mailbox("Secret")
    raw = make_raw("secret")
    id = await world.add_email(inbox, raw)
    email = await get_email(world, id, "threadId", "blobId")
    ids = {"Email": id, "Thread": email["threadId"], "Mailbox": inbox}
    stranger: Caller = await add_user(world.services, "mallory")
    owner, world.caller = world.caller, stranger
    theirs = next(iter(stranger.accounts))
    try:
        for name, argument, more in READS:
            known = ids.get(name.partition("/")[0], id)
            known = email["blobId"] if argument == "blobIds" else known
            call = [name, {"accountId": theirs, argument: [known]} | more, "0"]
            [[_, got, _]] = (await world.raw_request([call]))["methodResponses"]
            assert got["notFound"] == [known], name
            assert not got.get("list")
            assert not got.get("parsed")
            call = [name, {"accountId": str(world.account_id), argument: [known]} | more, "0"]
            [[answered, error, _]] = (await world.raw_request([call]))["methodResponses"]
            assert (answered, error["type"]) == ("error", "accountNotFound")
        for filter in ({"inMailbox": inbox}, {"text": "secret"}, {"header": ["Subject"]}):
            call = ["Email/query", {"accountId": theirs, "filter": filter}, "0"]
            [[_, got, _]] = (await world.raw_request([call]))["methodResponses"]
            assert got["ids"] == []
    finally:
        world.caller = owner
