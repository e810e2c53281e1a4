"""SearchSnippet/get: the words of a query, marked. Source: RFC 8621 s5"""

from __future__ import annotations

import html
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.jmap.mail_fixture import make_raw
from tests.world import World
from tindra.base import limits
from tindra.features.mail.snippet import mark_excerpt, mark_words, split_words


async def _snippets(world: World, filter: Any, *ids: str) -> list[dict[str, Any]]:
    got = await world.call("SearchSnippet/get", filter=filter, emailIds=list(ids))
    return list(got["list"])


async def _add(world: World, subject: str, body: str) -> str:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    raw = make_raw("S", "1@x", body, Content_Type="text/plain; charset=utf-8")
    return await world.add_email(inbox, raw.replace(b"Subject: S", f"Subject: {subject}".encode()))


@pytest.mark.parametrize(
    ("filter", "subject", "preview"),
    [
        ({"text": "foo"}, "The <mark>Foo</mark> &amp; bar", "Is &lt;<mark>foo</mark>&gt; here?"),
        ({"subject": "foo"}, "The <mark>Foo</mark> &amp; bar", None),
        ({"body": "foo"}, None, "Is &lt;<mark>foo</mark>&gt; here?"),
        ({"text": "nothing"}, None, None),
        ({"text": "fo"}, None, None),
        ({"text": "fo*"}, "The <mark>Foo</mark> &amp; bar", "Is &lt;<mark>foo</mark>&gt; here?"),
        (
            {"text": '"the foo"'},
            "<mark>The</mark> <mark>Foo</mark> &amp; bar",
            "Is &lt;<mark>foo</mark>&gt; here?",
        ),
        (
            {"text": "BAR here"},
            "The Foo &amp; <mark>bar</mark>",
            "Is &lt;foo&gt; <mark>here</mark>?",
        ),
        ({"from": "foo"}, None, None),
        ({"hasAttachment": False}, None, None),
        ({"text": "&"}, None, None),
        ({"text": ""}, None, None),
        (None, None, None),
        ({}, None, None),
        ({"operator": "NOT", "conditions": [{"text": "foo"}]}, None, None),
        (
            {"operator": "OR", "conditions": [{"subject": "bar"}, {"body": "is"}]},
            "The Foo &amp; <mark>bar</mark>",
            "<mark>Is</mark> &lt;foo&gt; here?",
        ),
    ],
)
async def test_what_matches_is_marked_where_it_was_looked_for(
    world: World, filter: Any, subject: str | None, preview: str | None
) -> None:
    id = await _add(world, "The Foo & bar", "Is <foo> here?\r\n")
    assert await _snippets(world, filter, id) == [
        {"emailId": id, "subject": subject, "preview": preview}
    ]


async def test_the_subject_comes_whole_and_the_preview_is_short(world: World) -> None:
    id = await _add(world, "word " * 100 + "foo", "word " * 500 + "foo bar" + " word" * 500)
    [snippet] = await _snippets(world, {"text": "foo"}, id)
    assert snippet["subject"] == "word " * 100 + "<mark>foo</mark>"
    assert "<mark>foo</mark> bar" in snippet["preview"]
    assert snippet["preview"].startswith("word ")
    assert len(snippet["preview"].encode()) <= 255


async def test_html_is_read_as_text(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    page = "<style>foo</style><p title=foo>One <b>foo</b> &lt;two&gt;</p><script>foo</script>"
    id = await world.add_email(inbox, make_raw("S", "1@x", page, Content_Type="text/html"))
    [snippet] = await _snippets(world, {"text": "foo two"}, id)
    assert snippet["preview"] == "One <mark>foo</mark> &lt;<mark>two</mark>&gt;"


async def test_ids_that_name_nothing_are_told_and_the_rest_comes_in_order(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    ids = [await world.add_email(inbox, make_raw(str(n), f"{n}@x")) for n in range(3)]
    asked = [ids[2], "nothing", ids[0], "e00000000001", inbox, ids[2]]
    got = await world.call("SearchSnippet/get", filter={"text": "hi"}, emailIds=asked)
    assert [snippet["emailId"] for snippet in got["list"]] == [ids[2], ids[0]]
    assert got["notFound"] == ["nothing", "e00000000001", inbox]
    assert got["accountId"] == world.account_id
    got = await world.call("SearchSnippet/get", filter=None, emailIds=ids)
    assert got["notFound"] is None
    await world.call("Email/set", destroy=[ids[0]])
    got = await world.call("SearchSnippet/get", filter=None, emailIds=ids)
    assert got["notFound"] == [ids[0]]


async def test_an_email_of_the_same_request_can_be_named(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    blob = await world.services.blobs.put(world.account_id, make_raw("Hello"))
    emails = {"k": {"blobId": blob.id, "mailboxIds": {inbox: True}}}
    calls = [
        ["Email/import", {"emails": emails}, "0"],
        ["SearchSnippet/get", {"filter": {"text": "hello"}, "emailIds": ["#k", "#none"]}, "1"],
    ]
    [_, [_, got, _]] = await world.calls(calls)
    assert got["list"][0]["subject"] == "<mark>Hello</mark>"
    assert got["notFound"] == ["#none"]


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({}, "invalidArguments"),
        ({"emailIds": None}, "invalidArguments"),
        ({"emailIds": "e1"}, "invalidArguments"),
        ({"emailIds": [5]}, "invalidArguments"),
        ({"emailIds": ["a b"]}, "invalidArguments"),
        ({"emailIds": [], "filter": "foo"}, "invalidArguments"),
        ({"emailIds": [], "filter": []}, "invalidArguments"),
        ({"emailIds": [], "filter": {"text": 5}}, "invalidArguments"),
        ({"emailIds": [], "filter": {"operator": "AND"}}, "invalidArguments"),
        ({"emailIds": [], "filter": {"nothing": 5}}, "unsupportedFilter"),
        ({"emailIds": [], "surprise": 1}, "invalidArguments"),
        ({"emailIds": [f"e{n}" for n in range(1001)]}, "requestTooLarge"),
    ],
)
async def test_wrong_arguments_are_refused(
    world: World, arguments: dict[str, Any], kind: str
) -> None:
    assert (await world.fail("SearchSnippet/get", **arguments))["type"] == kind


# -- marking -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "query", "marked"),
    [
        ("Café au lait", "cafe", "<mark>Café</mark> au lait"),
        ("Cafe\u0301 au lait", "café", "<mark>Cafe\u0301</mark> au lait"),
        ("STRASSE und Straße", "straße", "<mark>STRASSE</mark> und <mark>Straße</mark>"),
        ("本日会議です", "会議", "本日<mark>会</mark><mark>議</mark>です"),
        ("foo_bar foo-bar", "bar", "foo_<mark>bar</mark> foo-<mark>bar</mark>"),
        ("a1 1a", "1a", "a1 <mark>1a</mark>"),
        ("worldwide world", "world*", "<mark>worldwide</mark> <mark>world</mark>"),
        ("<mark>x</mark>", "x", "&lt;mark&gt;<mark>x</mark>&lt;/mark&gt;"),
        ("mark", "mark", "<mark>mark</mark>"),
        ("amp & lt", "amp lt", "<mark>amp</mark> &amp; <mark>lt</mark>"),
        ("two  spaces\tkept", "kept", "two  spaces\t<mark>kept</mark>"),
        ("Привет мир", "ПРИВЕТ", "<mark>Привет</mark> мир"),
    ],
)
def test_words_are_found_as_the_search_finds_them(text: str, query: str, marked: str) -> None:
    assert mark_words(text, split_words(query)) == marked


def test_a_preview_holds_its_word_whatever_stands_around_it() -> None:
    for around in ("&" * 500, "👩" * 500, "x" * 500, "<" * 500 + " ", " " * 500, "é " * 300):
        marked = mark_excerpt(f"{around} foo {around}", ["foo"])
        assert marked is not None
        assert "<mark>foo</mark>" in marked
        assert len(marked.encode()) <= limits.SNIPPET_CHARS_MAX
    long = mark_excerpt("foo" * 500, ["foo*"])
    assert long is not None
    assert long.startswith("<mark>foofoo")
    assert len(long) <= limits.SNIPPET_CHARS_MAX


_TEXTS = st.text(st.sampled_from("abé日 &<>\"'_-*\u0301\n\0") | st.characters(), max_size=300)


@given(_TEXTS, st.text(st.sampled_from("abé日 *_\u0301\"'"), max_size=8))
def test_any_text_is_marked_without_being_changed(text: str, query: str) -> None:
    words = split_words(query)
    whole, excerpt = mark_words(text, words), mark_excerpt(text, words)
    assert (whole is None) == (excerpt is None)
    if whole is not None and excerpt is not None:
        assert _unmark(whole) == text
        assert "<mark>" in excerpt
        assert len(excerpt.encode("utf-8", "surrogatepass")) <= limits.SNIPPET_CHARS_MAX
        plain = " ".join(text.split())
        if max(map(len, plain.split()), default=0) < 50:
            assert _unmark(excerpt) in plain
        assert not re.search(r"[<>]", re.sub(r"</?mark>", "", excerpt))


def _unmark(text: str) -> str:
    return html.unescape(re.sub(r"</?mark>", "", text))


def test_marking_is_linear_in_the_text() -> None:
    for piece in ("a ", "é", "日", "<", "&", "\u0301", "a\u0301"):
        start = time.perf_counter()
        mark_excerpt(piece * 100_000, ["zz", "b*"])
        mark_words(piece * 100_000, ["a", "b*"])
        assert time.perf_counter() - start < 3, piece


def test_a_query_has_only_so_many_words() -> None:
    assert len(split_words("word " * 10_000)) == 64
    assert split_words("* ** \u0301 _ -") == []
    assert split_words('"Big red*" Apple* ') == ["big", "red", "apple*"]
