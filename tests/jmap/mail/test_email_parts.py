"""Email/get of messages with thousands of parts, and the names of parts as they are shown.

Source: RFC 8621 s4.1.4, s4.2; RFC 2183 s2.3
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.jmap.mail_fixture import get_email
from tests.world import World
from tindra.features.mail import email_get

PARTS = 9_990
"""Just below what the parser takes apart."""
CPU_S_MAX = 0.3


def make_flat(count: int) -> bytes:
    """Texts side by side."""
    part = b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nhello\r\n"
    head = b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    return head + part * count + b"--b--\r\n"


def make_nested(count: int) -> bytes:
    """A third of the parts are multiparts."""
    head = b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    parts = (
        b"--b\r\nContent-Type: multipart/alternative; boundary=c%d\r\n\r\n"
        b"--c%d\r\nContent-Type: text/plain\r\n\r\nhi\r\n"
        b"--c%d\r\nContent-Type: text/html\r\n\r\n<p>hi\r\n--c%d--\r\n" % (i, i, i, i)
        for i in range(count // 3)
    )
    return b"".join([head, *parts, b"--b--\r\n"])


async def add(world: World, raw: bytes) -> str:
    """A message in a new Mailbox, with no device that looks at it meanwhile."""
    world.devices = []
    boxes = (await world.call("Mailbox/query"))["ids"]
    return await world.add_email(boxes[0] if boxes else await world.add_mailbox("Box"), raw)


async def measure(world: World, **arguments: Any) -> float:
    """CPU seconds of one Email/get: the least of three."""
    took = []
    for _ in range(3):
        start = time.process_time()
        await world.raw_request([["Email/get", {"accountId": world.account_id} | arguments, "0"]])
        took.append(time.process_time() - start)
    return min(took)


@pytest.mark.parametrize("make", [make_flat, make_nested])
async def test_ten_thousand_parts_are_read_quickly(world: World, make: Any) -> None:
    id = await add(world, make(PARTS))
    views = (
        {},
        {"properties": ["bodyStructure"]},
        {"properties": ["textBody", "htmlBody", "attachments"]},
        {"properties": ["bodyStructure"], "bodyProperties": ["partId", "headers"]},
        {"properties": ["bodyValues"], "fetchAllBodyValues": True},
    )
    for view in views:
        took_s = await measure(world, ids=[id], **view)
        assert took_s < CPU_S_MAX, f"{view}: {took_s:.3f} s"


async def test_cost_grows_no_faster_than_the_parts(world: World) -> None:
    small, large = [await add(world, make_nested(count)) for count in (PARTS // 8, PARTS)]
    names = {"properties": ["bodyStructure", "textBody", "bodyValues"], "fetchAllBodyValues": True}
    few_s = await measure(world, ids=[small], **names)
    many_s = await measure(world, ids=[large], **names)
    assert many_s < 24 * few_s + 0.05


async def test_every_view_shows_a_part_the_same(world: World) -> None:
    id = await add(world, make_nested(9))
    asked = ["subParts", "partId", "type", "blobId", "header:Content-Type"]
    email = await get_email(
        world, id, "bodyStructure", "textBody", "htmlBody", bodyProperties=asked
    )
    root = email["bodyStructure"]
    assert root["partId"] is None
    assert len(root["subParts"]) == 3
    leaves = [leaf for part in root["subParts"] for leaf in part["subParts"]]
    assert [leaf["partId"] for leaf in leaves] == ["1.1", "1.2", "2.1", "2.2", "3.1", "3.2"]
    assert all(leaf["subParts"] is None and set(leaf) == set(asked) for leaf in leaves)
    assert email["textBody"] == leaves[::2]
    assert email["htmlBody"] == leaves[1::2]


async def test_a_tree_without_properties_is_still_a_tree(world: World) -> None:
    id = await add(world, make_nested(3))
    email = await get_email(world, id, "bodyStructure", "textBody", bodyProperties=[])
    assert email["bodyStructure"] == {"subParts": [{"subParts": [{}, {}]}]}
    assert email["textBody"] == [{}]


async def test_more_properties_of_parts_than_an_answer_holds_are_refused_early(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await add(world, make_flat(PARTS))
    monkeypatch.setattr(email_get, "ANSWER_BYTES_MAX", 100_000)
    wanted = [f"header:X-{n}" for n in range(500)]
    start = time.process_time()
    for name in ("bodyStructure", "textBody"):
        error = await world.fail("Email/get", ids=[id], properties=[name], bodyProperties=wanted)
        assert error["type"] == "requestTooLarge"
    assert time.process_time() - start < 1.0


# -- names -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("filename*=utf-8''annexe%E2%80%AEfdp.exe", "annexefdp.exe"),
        ("filename*=utf-8''a%E2%81%A6b%E2%80%8F.pdf", "ab.pdf"),
        ("filename*=utf-8''a%C2%85%E2%80%A8b.pdf", "ab.pdf"),
        ("filename*=utf-8''%E2%80%AE", None),
        ("filename*=utf-8''a%07%1Bb%7F.txt", "ab.txt"),
        ("filename*=utf-8''%D9%86%D8%A7%D9%85%E2%80%8C%D9%87.pdf", "نام\u200cه.pdf"),
        ('filename="plain.pdf"', "plain.pdf"),
    ],
)
async def test_a_name_reads_as_what_it_is(world: World, written: str, shown: str | None) -> None:
    raw = (
        f"Subject: x\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; {written}"
    )
    id = await add(world, raw.encode() + b"\r\n\r\nx")
    email = await get_email(world, id, "attachments", bodyProperties=["name"])
    assert email["attachments"] == [{"name": shown}]


async def test_parameters_of_the_content_type_are_there_as_a_header_field(world: World) -> None:
    """EmailBodyPart has no property for them (RFC 8621 s4.1.4 takes charset out, and no other)."""
    raw = b"Subject: x\r\nContent-Type: text/plain; format=flowed; delsp=yes\r\n\r\nx"
    email = await get_email(
        world, await add(world, raw), "textBody", bodyProperties=["type", "header:Content-Type"]
    )
    assert email["textBody"] == [
        {"type": "text/plain", "header:Content-Type": " text/plain; format=flowed; delsp=yes"}
    ]
