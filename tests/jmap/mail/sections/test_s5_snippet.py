"""SearchSnippet against what RFC 8621 s5 says of it, where the other tests of it do not look."""

from __future__ import annotations

import html
import re
from typing import Any

from tests.jmap.mail_fixture import make_raw
from tests.world import World


async def snip(world: World, filter: Any, *ids: str) -> list[dict[str, Any]]:
    """Snippets of Emails."""
    got = await world.call("SearchSnippet/get", filter=filter, emailIds=list(ids))
    return list(got["list"])


async def test_the_example_of_the_rfc(world: World) -> None:
    """Query and snippets in one request, as s5.2 has it."""
    inbox = await world.add_mailbox("Inbox", role="inbox")
    ids = [
        await world.add_email(inbox, make_raw("The Foo sees the bar", "1@x", "Nothing\r\n")),
        await world.add_email(inbox, make_raw("Other", "2@x", "Is <foo> here & there?\r\n")),
    ]
    await world.add_email(inbox, make_raw("None", "3@x", "Nothing\r\n"))
    filter = {"text": "foo"}
    refer = {"resultOf": "0", "name": "Email/query", "path": "/ids"}
    [[_, query, _], [_, got, _]] = await world.calls(
        [
            ["Email/query", {"filter": filter}, "0"],
            ["SearchSnippet/get", {"filter": filter, "#emailIds": refer}, "1"],
        ]
    )
    assert sorted(query["ids"]) == sorted(ids)
    assert [snippet["emailId"] for snippet in got["list"]] == query["ids"]
    by_id = {snippet["emailId"]: snippet for snippet in got["list"]}
    assert by_id[ids[0]] == {
        "emailId": ids[0], "subject": "The <mark>Foo</mark> sees the bar", "preview": None,
    }  # fmt: skip
    assert by_id[ids[1]] == {
        "emailId": ids[1], "subject": None,
        "preview": "Is &lt;<mark>foo</mark>&gt; here &amp; there?",
    }  # fmt: skip
    assert got.keys() == {"accountId", "list", "notFound"}


async def test_nothing_of_the_text_becomes_markup(world: World) -> None:
    """Only <mark> and </mark> may stand in a snippet; the rest is text."""
    inbox = await world.add_mailbox("Inbox")
    nasty = "<mark>a</mark> </mark><script>foo</script> \"foo\" 'foo' &lt;foo&gt; &amp; <foo"
    id = await world.add_email(inbox, make_raw(nasty, "1@x", nasty + "\r\n"))
    [snippet] = await snip(world, {"text": "foo"}, id)
    for text in (snippet["subject"], snippet["preview"]):
        rest = re.sub(r"<mark>(foo)</mark>", r"\1", text)
        assert not set("<>") & set(rest)
        assert html.unescape(rest) == nasty
        assert text.count("<mark>foo</mark>") == 5


async def test_without_a_text_to_look_for_both_are_null(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await world.add_email(inbox, make_raw("foo", "1@x", "foo\r\n"))
    nothing = {"emailId": id, "subject": None, "preview": None}
    for filter in (
        None, {}, {"inMailbox": inbox}, {"from": "foo"}, {"hasAttachment": False},
        {"operator": "NOT", "conditions": [{"text": "foo"}]}, {"text": "bar"}, {"text": ""},
    ):  # fmt: skip
        assert await snip(world, filter, id) == [nothing]
    [snippet] = await snip(world, {"subject": "foo"}, id)
    assert snippet == {"emailId": id, "subject": "<mark>foo</mark>", "preview": None}
    [snippet] = await snip(world, {"body": "foo"}, id)
    assert snippet == {"emailId": id, "subject": None, "preview": "<mark>foo</mark>"}


async def test_every_word_of_a_phrase_is_marked(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await world.add_email(inbox, make_raw("S", "1@x", "the quick brown fox\r\n"))
    for text in ('"quick brown"', "quick brown", "QUICK bro*"):
        found = await world.call("Email/query", filter={"body": text})
        assert found["ids"] == [id]
        [snippet] = await snip(world, {"body": text}, id)
        assert snippet["preview"] == "the <mark>quick</mark> <mark>brown</mark> fox"


async def test_a_preview_is_of_255_octets_at_most_and_cuts_no_mark(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    for number, piece in enumerate(("foo ", "<foo> & ", "øøø foo ", "👩‍💻foo ", '"foo" ')):
        raw = make_raw(
            "S", f"{number}@x", piece * 300 + "\r\n", Content_Type="text/plain; charset=utf-8"
        )
        id = await world.add_email(inbox, raw)
        [snippet] = await snip(world, {"text": "foo"}, id)
        preview = snippet["preview"]
        assert len(preview.encode()) <= 255
        assert preview.count("<mark>") == preview.count("</mark>") > 0
        assert re.fullmatch(r"(?:[^<>&]|<mark>foo</mark>|&(?:lt|gt|amp|quot|#x27);)*", preview)
