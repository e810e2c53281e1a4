"""Email/get safeHtml and safeHtmlRemote: what a client may put into a page as it is.

Source: RFC 8621 s9.2, docs/protocol/view.md
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.jmap.mail_fixture import get_email, make_raw
from tests.world import MAIL, World
from tindra.features.mail import safe_html
from tindra.features.mail.safe_html import HTML_PARTS_MAX

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 100
NAMES = ("safeHtml", "safeHtmlRemote")
_LOADING = frozenset(["src", "srcset", "background", "poster", "data", "action", "formaction"])
_FORBIDDEN = frozenset(
    "script style iframe frame object embed form input button svg math link meta base".split()
)


class _Looker(HTMLParser):
    """Collects what is dangerous in a piece of HTML, with a parser that is not the cleaner's."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.remote: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _FORBIDDEN:
            self.found.append(tag)
        for name, value in attrs:
            text = re.sub(r"[\0-\x20]", "", value or "").lower()
            if name.startswith("on") or text.startswith(("javascript:", "vbscript:")):
                self.found.append(f"{tag} {name}={text[:40]}")
            is_remote = re.match(r"(?:https?:)?//", text) is not None
            if (name in _LOADING and is_remote) or (name == "style" and "url(" in text):
                self.remote.append(f"{tag} {name}={text[:60]}")


def look(html: str) -> _Looker:
    """What is in the HTML that a browser should not meet."""
    looker = _Looker()
    looker.feed(html)
    looker.close()
    return looker


def make_related(body: str, images: Sequence[tuple[str, bytes, str]] = ()) -> bytes:
    """An HTML message with images (Content-ID, octets, type) that it may show."""
    parts = [f"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{body}\r\n".encode()]
    for cid, data, kind in images:
        text = base64.encodebytes(data).replace(b"\n", b"\r\n")
        fields = f"--b\r\nContent-Type: {kind}\r\nContent-ID: <{cid}>\r\n"
        parts.append(fields.encode() + b"Content-Transfer-Encoding: base64\r\n\r\n" + text)
    head = b"Subject: x\r\nContent-Type: multipart/related; boundary=b\r\n\r\n"
    return head + b"".join(parts) + b"--b--\r\n"


async def show(world: World, raw: bytes) -> tuple[Any, Any]:
    """(safeHtml, safeHtmlRemote) of a message."""
    boxes = (await world.call("Mailbox/query"))["ids"]
    id = await world.add_email(boxes[0] if boxes else await world.add_mailbox("Box"), raw)
    email = await get_email(world, id, *NAMES)
    assert set(email) == {"id", *NAMES}
    return email["safeHtml"], email["safeHtmlRemote"]


def test_the_looker_sees_what_must_not_be_there() -> None:
    seen = look("<script>x</script><p onclick=x><a href='java\tscript:x'><img src=//evil.test>")
    assert seen.found == ["script", "p onclick=x", "a href=javascript:x"]
    assert seen.remote == ["img src=//evil.test"]


async def test_images_of_the_message_are_shown_and_remote_ones_are_counted(world: World) -> None:
    body = (
        '<p>Hello</p><img src="cid:logo@x" alt="logo"><img src="cid:none@x">'
        '<img src="https://tracker.test/1.gif"><img src="//tracker.test/2.gif">'
        '<a href="https://fjord.test/">link</a>'
    )
    safe, remote = await show(world, make_related(body, [("logo@x", PNG, "image/png")]))
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    for view in (safe, remote):
        assert url in view["html"]
        assert "cid:" not in view["html"]
        assert 'href="https://fjord.test/"' in view["html"], "links are not loaded by themselves"
    assert "tracker.test" not in safe["html"]
    assert safe["blockedRemote"] == 2
    assert "https://tracker.test/1.gif" in remote["html"]
    assert remote["blockedRemote"] == 0


async def test_an_svg_is_no_image_that_is_shown(world: World) -> None:
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    raw = make_related('<p>x</p><img src="cid:s@x">', [("s@x", svg, "image/svg+xml")])
    safe, _ = await show(world, raw)
    assert "svg" not in safe["html"]


async def test_a_message_without_html_has_none_and_unknown_ones_are_not_found(
    world: World,
) -> None:
    assert await show(world, make_raw("Plain")) == (None, None)
    got = await world.call("Email/get", ids=["e-none"], properties=[*NAMES])
    assert (got["list"], got["notFound"]) == ([], ["e-none"])


async def test_without_the_capability_there_is_no_such_property(world: World) -> None:
    call = ["Email/get", {"accountId": world.account_id, "ids": [], "properties": [*NAMES]}, "0"]
    answer = await world.request([call], using=[MAIL])
    [[name, error, _]] = answer["methodResponses"]
    assert (name, error["type"]) == ("error", "invalidArguments")


@pytest.mark.parametrize(
    "body",
    [
        "<script>alert(1)</script><p>x</p>",
        "<img src=x onerror=alert(1)><p onclick=alert(1)>x</p>",
        '<a href="jav&#x09;ascript:alert(1)">x</a><a href="data:text/html,<script>">y</a>',
        "<svg><style><img src=x onerror=alert(1)></style></svg>",
        "<math><mtext><table><mglyph><style><!--</style><i title='--&gt;&lt;img src=1 onerror=1'>",
        "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
        "<form action=https://evil.test><input name=password></form>",
        "<base href=https://evil.test><link rel=stylesheet href=//evil.test><meta charset=x>",
        "<div style='background:url(https://evil.test/x)'>x</div><body background=//evil.test/y>",
        "<iframe srcdoc='<script>alert(1)</script>'></iframe><object data=//evil.test></object>",
        "<p>" + "<b>" * 5_000 + "deep",
        "<!--" * 5_000,
        "<" * 50_000,
        '<a href="' + "x" * 100_000,
        "&" * 50_000,
        "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16") + "\0\ufffe<p>",
    ],
)
async def test_hostile_html_is_harmless_and_quick(world: World, body: str) -> None:
    world.devices = []
    start = time.process_time()
    safe, remote = await show(world, make_related(body))
    assert time.process_time() - start < 2
    for view in (safe, remote):
        assert look(view["html"]).found == []
    assert look(safe["html"]).remote == []
    assert "evil.test" not in safe["html"]


async def test_a_huge_document_is_cut_and_still_sound(world: World) -> None:
    world.devices = []
    body = "<table>" + "<tr><td><b>cell</b></td></tr>\r\n" * 100_000
    safe, _ = await show(world, make_related(body))
    assert 0 < len(safe["html"]) < 8 * 1024 * 1024
    assert look(safe["html"]).found == []
    assert "cell" in safe["html"]


async def test_images_share_a_budget_however_often_they_are_shown(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safe_html, "INLINE_IMAGE_BYTES_MAX", len(PNG))
    monkeypatch.setattr(safe_html, "INLINE_IMAGES_BYTES_MAX", 3 * len(PNG))
    images = [("small@x", PNG, "image/png"), ("large@x", PNG + b"1", "image/png")]
    body = '<img src="cid:large@x">' + '<img src="cid:small@x">' * 9
    safe, _ = await show(world, make_related(body, images))
    assert safe["html"].count("data:image/png") <= 3
    assert safe["html"].count("data:image/png") >= 1


async def test_an_answer_that_no_memory_should_hold_is_too_large(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = await world.add_mailbox("Inbox")
    ids = [await world.add_email(inbox, make_related(f"<p>{n}</p>" + "x" * 1000)) for n in range(5)]
    monkeypatch.setattr(safe_html, "ANSWER_BYTES_MAX", 3500)
    error = await world.fail("Email/get", ids=ids, properties=["safeHtml"])
    assert error["type"] == "requestTooLarge"
    got = await world.call("Email/get", ids=ids[:3], properties=["safeHtml"])
    assert len(got["list"]) == 3


async def test_thousands_of_documents_in_one_message_are_quick_and_all_shown(
    world: World,
) -> None:
    world.devices = []
    count = 3_000
    parts = b"".join(
        b"--b\r\nContent-Type: text/html\r\n\r\n<p onclick=x>part %d &lt;i&gt;\r\n" % n
        for n in range(count)
    )
    raw = b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + parts + b"--b--\r\n"
    start = time.process_time()
    safe, _ = await show(world, raw)
    assert time.process_time() - start < 2
    assert look(safe["html"]).found == []
    assert all(f"part {n} &lt;i&gt;" in safe["html"] for n in (0, HTML_PARTS_MAX, count - 1))


async def test_the_html_of_the_corpus_is_harmless(world: World, corpus: Path) -> None:
    world.devices = []
    inbox = await world.add_mailbox("Inbox")
    files = [path for path in sorted((corpus / "mail").rglob("*")) if path.is_file()]
    raws = {
        raw: path for path in files if b"<" in (raw := path.read_bytes()) and len(raw) < 300_000
    }
    chosen = [raw for raw in raws if b"text/html" in raw.lower()][:150]
    assert chosen
    shown = 0
    for raw in chosen:
        blob = await world.services.blobs.put(world.account_id, raw)
        made = await world.call(
            "Email/import", emails={"e": {"blobId": blob.id, "mailboxIds": {inbox: True}}}
        )
        if not made["created"]:
            continue
        email = await get_email(world, made["created"]["e"]["id"], *NAMES)
        for name in NAMES:
            if email[name] is not None:
                shown += 1
                assert look(email[name]["html"]).found == [], raws[raw]
        if email["safeHtml"] is not None:
            assert look(email["safeHtml"]["html"]).remote == [], raws[raw]
    assert shown
