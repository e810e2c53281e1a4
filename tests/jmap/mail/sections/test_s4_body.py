"""Body parts: any tree of parts against the algorithm of RFC 8621 s4.1.4, as it is written there.

The model knows only the bodyStructure that Email/get gives.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.jmap.mail_fixture import get_email, upload
from tests.world import World
from tindra.core.blob_parts import load_blob

FUZZ = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
_MEDIA = ("image/", "audio/", "video/")
PART = ["partId", "blobId", "size", "type", "disposition", "name", "subParts", "cid", "charset"]

Parts = list[dict[str, Any]]


class Model:
    """The recursion of the RFC, statement by statement."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.text: Parts = []
        self.html: Parts = []
        self.attachments: Parts = []
        self._walk([root], "mixed", False, self.html, self.text)

    def _walk(
        self, parts: Parts, kind: str, in_alternative: bool, html: Parts | None, text: Parts | None
    ) -> None:
        text_length = -1 if text is None else len(text)
        html_length = -1 if html is None else len(html)
        for index, part in enumerate(parts):
            type = part["type"]
            is_media = type.startswith(_MEDIA)
            is_inline = (
                part["disposition"] != "attachment"
                and (type in ("text/plain", "text/html") or is_media)
                and (index == 0 or (kind != "related" and (is_media or not part["name"])))
            )
            if type.startswith("multipart/"):
                inner = type.partition("/")[2]
                is_inside = in_alternative or inner == "alternative"
                self._walk(part["subParts"], inner, is_inside, html, text)
            elif not is_inline:
                self.attachments.append(part)
            elif kind == "alternative":
                body = {"text/plain": text, "text/html": html}.get(type, self.attachments)
                if body is not None:
                    body.append(part)
            else:
                if in_alternative and type == "text/plain":
                    html = None
                if in_alternative and type == "text/html":
                    text = None
                for body in (text, html):
                    if body is not None:
                        body.append(part)
                if (text is None or html is None) and is_media:
                    self.attachments.append(part)
        if kind == "alternative" and text is not None and html is not None:
            if text_length == len(text) and html_length != len(html):
                text.extend(html[html_length:])
            elif html_length == len(html) and text_length != len(text):
                html.extend(text[text_length:])


def leaves() -> st.SearchStrategy[list[str]]:
    """A part without parts: its header fields and content."""
    types = st.sampled_from(
        ["text/plain", "text/html", "text/plain", "text/html", "image/png", "audio/ogg",
         "video/mp4", "application/pdf", "text/calendar", "message/rfc822", "application/x"]
    )  # fmt: skip
    more = st.sampled_from(
        ["", "", "Content-Disposition: attachment", "Content-Disposition: inline",
         'Content-Disposition: inline; filename="a.txt"', "Content-ID: <c@x>",
         'Content-Disposition: ATTACHMENT; filename="a.txt"', "Content-Transfer-Encoding: base64"]
    )  # fmt: skip
    return st.builds(
        lambda type, field: [f"Content-Type: {type}", *([field] if field else []), "", "aGVqIQ=="],
        types,
        more,
    )


def _join(kind: str, children: list[list[str]], counter: list[int]) -> list[str]:
    counter[0] += 1
    mark = f"mark{counter[0]}x"
    lines = [f"Content-Type: multipart/{kind}; boundary={mark}", ""]
    for child in children:
        lines += [f"--{mark}", *child]
    return [*lines, f"--{mark}--"]


def trees() -> st.SearchStrategy[list[str]]:
    """Lines of a part with all below it."""
    counter = [0]
    kinds = st.sampled_from(["mixed", "alternative", "related", "alternative", "signed"])
    return st.recursive(
        leaves(),
        lambda inner: st.builds(
            lambda kind, parts: _join(kind, parts, counter),
            kinds,
            st.lists(inner, min_size=1, max_size=4),
        ),
        max_leaves=9,
    )


def _list_leaves(part: dict[str, Any]) -> Parts:
    if part["subParts"] is None:
        return [part]
    return [leaf for child in part["subParts"] for leaf in _list_leaves(child)]


def _list_all(part: dict[str, Any]) -> Parts:
    return [part, *(one for child in part["subParts"] or () for one in _list_all(child))]


def test_any_tree_is_split_as_the_rfc_says(runner: asyncio.Runner, world: World) -> None:
    async def check(lines: list[str]) -> None:
        raw = "\r\n".join(["From: a@x.test", "MIME-Version: 1.0", *lines, ""]).encode()
        blob_id = await upload(world, raw)
        arguments = {
            "accountId": world.account_id,
            "blobIds": [blob_id],
            "properties": [
                "bodyStructure", "textBody", "htmlBody", "attachments", "hasAttachment",
                "bodyValues",
            ],
            "bodyProperties": PART,
            "fetchAllBodyValues": True,
        }  # fmt: skip
        answer = await world.raw_request([["Email/parse", arguments, "0"]])
        email = answer["methodResponses"][0][1]["parsed"][blob_id]
        root = email["bodyStructure"]
        model = Model(root)
        lists = (email["textBody"], email["htmlBody"], email["attachments"])
        for found, expected in zip(lists, (model.text, model.html, model.attachments), strict=True):
            assert [part["partId"] for part in found] == [part["partId"] for part in expected]
        if not email["attachments"]:
            assert email["hasAttachment"] is False
        if any(part["disposition"] == "attachment" for part in email["attachments"]):
            assert email["hasAttachment"] is True
        await _check_parts(root)
        texts = {p["partId"] for p in _list_leaves(root) if p["type"].startswith("text/")}
        assert email["bodyValues"].keys() == texts

    async def _check_parts(root: dict[str, Any]) -> None:
        """Source: RFC 8621 s4.1.4 (partId, blobId, size)"""
        for part in _list_all(root):
            is_multipart = part["type"].startswith("multipart/")
            assert (part["partId"] is None) is is_multipart
            assert (part["blobId"] is None) is is_multipart
            assert (part["subParts"] is None) is not is_multipart
        ids = [part["partId"] for part in _list_leaves(root)]
        assert len(ids) == len(set(ids))
        for part in _list_leaves(root)[:3]:
            content = await load_blob(world.services, world.account_id, part["blobId"])
            assert content is not None
            assert part["size"] == len(content)

    @FUZZ
    @given(trees())
    def run(lines: list[str]) -> None:
        runner.run(check(lines))

    run()


async def test_a_part_without_a_content_type_is_plain_text_in_us_ascii(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    id = await world.add_email(inbox, b"From: a@x.test\r\n\r\nHi\r\n")
    part = (await get_email(world, id, "bodyStructure"))["bodyStructure"]
    assert (part["type"], part["charset"], part["disposition"]) == ("text/plain", "us-ascii", None)


async def test_in_a_digest_a_part_without_a_type_is_a_message(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    raw = b"From: a@x\r\nContent-Type: multipart/digest; boundary=b\r\n\r\n"
    raw += b"--b\r\n\r\nFrom: b@x\r\n\r\nHi\r\n--b--\r\n"
    id = await world.add_email(inbox, raw)
    part = (await get_email(world, id, "bodyStructure"))["bodyStructure"]
    assert [child["type"] for child in part["subParts"]] == ["message/rfc822"]


async def test_a_preview_is_one_line_of_at_most_256_characters(world: World) -> None:
    inbox = await world.add_mailbox("Inbox")
    bodies = ("word " * 200, "ø" * 900, "a\r\nb\r\n\r\nc", "", "👩‍💻" * 300, "<b>x</b>")
    for number, body in enumerate(bodies):
        raw = f"From: a@x\r\nMessage-ID: <{number}@x>\r\nContent-Type: text/plain; charset=utf-8"
        id = await world.add_email(inbox, f"{raw}\r\n\r\n{body}\r\n".encode())
        preview = (await get_email(world, id, "preview"))["preview"]
        assert isinstance(preview, str)
        assert len(preview) <= 256
        assert "\n" not in preview
        assert bool(preview) is bool(body)
