"""Upload and download: limits, ranges, names, types, parts of messages, and who may see what."""

from __future__ import annotations

import asyncio
import base64
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.server.asgi import Answer, Line, ask, make_scope
from tests.server.world import BASIC, BOBS, MAIL, SHARED, World
from tindra.base import limits
from tindra.base.ids import BlobId
from tindra.core.blob_parts import load_blob
from tindra.server.http import gate as gate_module
from tindra.server.http.byte_range import ByteRange, Unsatisfiable, parse_range
from tindra.server.http.exchange import PIECE_BYTES
from tindra.server.http.media import (
    OCTETS,
    clean_file_name,
    encode_disposition,
    parse_media_type,
    parse_upload_type,
)
from tindra.wire.jmap.blob_id import (
    PART_ENCODINGS,
    PartBlobId,
    encode_part_blob_id,
    parse_part_blob_id,
)

TEXT = bytes(range(256)) * 5


def go(world: World, method: str, url: str, body: bytes = b"", **headers: Any) -> Answer:
    headers.setdefault("auth", BASIC)
    return asyncio.run(ask(world.app, method, url, body, **headers))


def get(world: World, blob: str, name: str = "x.txt", query: str = "", **headers: Any) -> Answer:
    return go(
        world, "GET", f"/jmap/download/{MAIL}/{blob}/{quote(name, safe='')}{query}", **headers
    )


# -- upload ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", [f"/jmap/upload/{MAIL}", f"/jmap/upload/{MAIL}/"])
def test_an_upload_is_answered_with_its_blob(path: str) -> None:
    world = World()
    answer = go(world, "POST", path, TEXT, content_type="Image/PNG; name=x")
    assert answer.status == 201
    blob = answer.json
    assert (blob["accountId"], blob["type"], blob["size"]) == (MAIL, "image/png", len(TEXT))
    assert world.load_blob(MAIL, blob["blobId"]) == TEXT
    assert get(world, blob["blobId"]).body == TEXT


def test_an_empty_upload_is_a_blob_too() -> None:
    assert go(World(), "POST", f"/jmap/upload/{MAIL}").json["size"] == 0


@pytest.mark.parametrize(
    ("account", "status"),
    [(BOBS, 404), ("unknown", 404), ("", 404), (f"{MAIL}/more", 404), (SHARED, 403)],
)
def test_an_upload_goes_only_where_the_caller_may_write(account: str, status: int) -> None:
    world = World()
    assert go(world, "POST", f"/jmap/upload/{account}", b"x").status == status
    assert not any(state.blobs for state in world.store.accounts.values())


def test_a_foreign_and_an_unknown_account_get_the_same_answer() -> None:
    world = World()
    foreign = go(world, "POST", f"/jmap/upload/{BOBS}", b"x")
    assert foreign.body == go(world, "POST", "/jmap/upload/unknown", b"x").body


def test_an_upload_with_a_content_coding_is_refused() -> None:
    world = World()
    answer = go(world, "POST", f"/jmap/upload/{MAIL}", b"x", content_encoding="gzip")
    assert answer.status == 415
    plain = go(world, "POST", f"/jmap/upload/{MAIL}", b"x", content_encoding="identity")
    assert plain.status == 201


def test_a_too_large_upload_is_a_413_that_names_the_limit() -> None:
    answer = go(
        World(), "POST", f"/jmap/upload/{MAIL}", b"x",
        content_length=str(limits.UPLOAD_BYTES_MAX + 1),
    )  # fmt: skip
    assert answer.status == 413
    assert answer.json["limit"] == "maxSizeUpload"


def test_a_too_large_upload_without_a_length_is_refused_too() -> None:
    piece = b"x" * (20 * 1024 * 1024)
    answer = asyncio.run(
        ask(World().app, "POST", f"/jmap/upload/{MAIL}", [piece, piece, piece, b""], auth=BASIC)
    )
    assert answer.status == 413


def test_too_many_uploads_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "WAIT_S", 0.02)

    async def run() -> None:
        world = World()
        headers = {"host": "h", "authorization": BASIC}
        scope = make_scope("POST", f"/jmap/upload/{MAIL}", headers)
        lines = [Line(scope) for _ in range(limits.UPLOADS_CONCURRENT_MAX)]
        async with asyncio.TaskGroup() as group:
            for line in lines:
                group.create_task(world.app(line.scope, line.receive, line.send))
            await asyncio.sleep(0.02)
            refused = await ask(world.app, "POST", f"/jmap/upload/{MAIL}", b"x", auth=BASIC)
            assert refused.status == 429
            assert refused.json["limit"] == "maxConcurrentUpload"
            for line in lines:
                line.feed(b"y")
        assert all([(await line.next())["status"] == 201 for line in lines])

    asyncio.run(run())


# -- download --------------------------------------------------------------------------------------
def test_a_download_is_named_typed_cacheable_and_harmless() -> None:
    world = World()
    blob = world.add_blob(MAIL, TEXT)
    answer = get(world, blob, "Ärger & Co.pdf", "?type=application/pdf")
    assert (answer.status, answer.body) == (200, TEXT)
    assert answer.header("content-type") == "application/pdf"
    assert answer.header("content-length") == str(len(TEXT))
    assert answer.header("content-disposition") == (
        "attachment; filename=\"_rger & Co.pdf\"; filename*=UTF-8''%C3%84rger%20&%20Co.pdf"
    )
    assert answer.header("cache-control") == "private, max-age=31536000, immutable"
    assert "Authorization" in answer.all("vary")
    assert answer.header("x-content-type-options") == "nosniff"
    assert "sandbox" in answer.header("content-security-policy")
    assert answer.header("etag") == f'"{blob}"'
    assert answer.header("accept-ranges") == "bytes"


@pytest.mark.parametrize(
    "media_type", ["text/html", "image/svg+xml", "application/xhtml+xml", "text/xml", "bad type"]
)
def test_what_could_run_is_never_shown_in_place(media_type: str) -> None:
    world = World()
    answer = get(world, world.add_blob(MAIL, b"<script>"), "x.html", f"?type={quote(media_type)}")
    assert answer.header("content-disposition").startswith("attachment;")


def test_a_plain_picture_may_be_shown_in_place() -> None:
    world = World()
    answer = get(world, world.add_blob(MAIL, b"GIF89a"), "x.gif", "?type=image/gif")
    assert answer.header("content-disposition").startswith("inline;")


@pytest.mark.parametrize(
    "query", ["?type=", "", "?type=x", "?type=a/b%0d%0aSet-Cookie:x", "?type=text/html%00", "?x=1"]
)
def test_a_type_that_is_none_becomes_octets(query: str) -> None:
    world = World()
    answer = get(world, world.add_blob(MAIL, b"x"), query=query)
    assert answer.header("content-type") == OCTETS
    assert not answer.header("set-cookie")


def test_head_of_a_download_has_the_length_and_no_body() -> None:
    world = World()
    blob = world.add_blob(MAIL, TEXT)
    answer = go(world, "HEAD", f"/jmap/download/{MAIL}/{blob}/x")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.header("content-length") == str(len(TEXT))


def test_foreign_and_unknown_blobs_get_the_same_404() -> None:
    world = World()
    bobs = world.add_blob(BOBS, b"secret of bob")
    mine = world.add_blob(MAIL, b"mine")
    answers = [
        go(world, "GET", f"/jmap/download/{path}")
        for path in [
            f"{BOBS}/{bobs}/x", f"{MAIL}/{bobs}/x", f"{SHARED}/{mine}/x", f"{MAIL}/unknown/x",
            f"unknown/{mine}/x", f"{MAIL}/{bobs}_0_5_binary/x", f"{MAIL}", f"{MAIL}/", "", "//",
            f"{MAIL}/../{BOBS}/{bobs}/x", f"{MAIL}%2f..%2f{BOBS}/{bobs}/x", f"{MAIL}/%2e%2e/x",
        ]
    ]  # fmt: skip
    assert {answer.status for answer in answers} == {404}
    assert len({answer.body for answer in answers}) == 1


def test_a_shared_account_that_may_only_be_read_may_be_downloaded_from() -> None:
    world = World()
    blob = world.add_blob(SHARED, b"shared")
    assert go(world, "GET", f"/jmap/download/{SHARED}/{blob}/x").body == b"shared"


@pytest.mark.parametrize("name", ["", "a/b/c.txt", "../../etc/passwd", "a%2Fb", "%"])
def test_any_name_in_the_address_is_taken(name: str) -> None:
    world = World()
    blob = world.add_blob(MAIL, b"x")
    answer = go(world, "GET", f"/jmap/download/{MAIL}/{blob}/{name}")
    assert answer.status == 200
    assert "/" not in answer.header("content-disposition")


def test_an_address_without_a_name_is_taken() -> None:
    world = World()
    blob = world.add_blob(MAIL, b"x")
    answer = go(world, "GET", f"/jmap/download/{MAIL}/{blob}")
    assert answer.header("content-disposition") == 'attachment; filename="download"'


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1), ("bytes=10-19", 10, 20), ("bytes=1000-", 1000, 1280),
        ("bytes=-5", 1275, 1280), ("bytes=-99999", 0, 1280), ("bytes=1279-99999", 1279, 1280),
        ("Bytes= 0-9", 0, 10),
    ],
)  # fmt: skip
def test_a_range_is_a_206(header: str, start: int, end: int) -> None:
    world = World()
    answer = get(world, world.add_blob(MAIL, TEXT), range=header)
    assert (answer.status, answer.body) == (206, TEXT[start:end])
    assert answer.header("content-range") == f"bytes {start}-{end - 1}/{len(TEXT)}"
    assert answer.header("content-length") == str(end - start)


@pytest.mark.parametrize("header", ["bytes=1280-", "bytes=-0", "bytes=5000-6000"])
def test_a_range_outside_is_a_416_that_tells_the_size(header: str) -> None:
    world = World()
    answer = get(world, world.add_blob(MAIL, TEXT), range=header)
    assert answer.status == 416
    assert answer.header("content-range") == f"bytes */{len(TEXT)}"


@pytest.mark.parametrize(
    "header",
    ["bytes=0-1,5-6", "items=0-1", "bytes=5-1", "bytes=-", "bytes=a-b", "bytes=" + "9" * 99],
)
def test_any_other_range_gets_the_whole(header: str) -> None:
    world = World()
    answer = get(world, world.add_blob(MAIL, TEXT), range=header)
    assert (answer.status, answer.body) == (200, TEXT)


def test_a_range_on_a_condition_that_does_not_hold_gets_the_whole() -> None:
    world = World()
    blob = world.add_blob(MAIL, TEXT)
    assert get(world, blob, range="bytes=0-1", if_range=f'"{blob}"').status == 206
    assert get(world, blob, range="bytes=0-1", if_range='"other"').status == 200


@pytest.mark.parametrize("form", ['"{}"', 'W/"{}"', '"a", "{}"', "*"])
def test_a_blob_the_client_has_is_a_304(form: str) -> None:
    world = World()
    blob = world.add_blob(MAIL, TEXT)
    answer = get(world, blob, if_none_match=form.format(blob))
    assert (answer.status, answer.body) == (304, b"")
    assert answer.header("etag") == f'"{blob}"'
    assert get(world, blob, if_none_match='"other"').status == 200


@pytest.mark.parametrize(
    ("form", "status"),
    [('"{}"', 200), ('"a", "{}"', 200), ("*", 200), ('"a"', 412), ('W/"{}"', 412), ("", 200)],
)
def test_a_download_of_another_blob_than_was_meant_fails(form: str, status: int) -> None:
    world = World()
    blob = world.add_blob(MAIL, TEXT)
    answer = get(world, blob, if_match=form.format(blob))
    assert answer.status == status
    is_kept = "immutable" in answer.header("cache-control")
    assert is_kept is (status == 200), "a refusal must not be cached"


def test_a_large_blob_comes_whole_in_pieces() -> None:
    world = World()
    data = TEXT * 3000
    blob = world.add_blob(MAIL, data)

    async def run() -> None:
        headers = {"host": "h", "authorization": BASIC, "range": "bytes=7-"}
        line = Line(make_scope("GET", f"/jmap/download/{MAIL}/{blob}/x", headers))
        await world.app(line.scope, line.receive, line.send)
        sent = [line.sent.get_nowait() for _ in range(line.sent.qsize())]
        pieces = [message["body"] for message in sent[1:]]
        assert b"".join(pieces) == data[7:]
        assert max(map(len, pieces)) <= PIECE_BYTES

    asyncio.run(run())


def test_a_blob_that_vanishes_in_the_middle_breaks_the_answer_off() -> None:
    world = World()
    blob = world.add_blob(MAIL, b"x" * (3 * PIECE_BYTES))

    async def run() -> None:
        headers = {"host": "h", "authorization": BASIC}
        line = Line(make_scope("GET", f"/jmap/download/{MAIL}/{blob}/x", headers))
        sent_before = line.send

        async def send(message: object) -> None:
            await sent_before(message)
            if line.sent.qsize() == 2:
                world.blobs.is_gone = True

        await world.app(line.scope, line.receive, send)
        sent = [line.sent.get_nowait() for _ in range(line.sent.qsize())]
        assert sent[0]["status"] == 200
        assert sent[-1]["more_body"], "never ended, so that nobody takes it for whole"

    asyncio.run(run())


# -- parts -----------------------------------------------------------------------------------------
def test_a_part_is_a_decoded_range_of_the_message() -> None:
    world = World()
    inner = base64.encodebytes(TEXT)
    raw = b"head\r\n\r\n" + inner + b"tail"
    message = world.add_blob(MAIL, raw)
    part = encode_part_blob_id(message, 8, 8 + len(inner), "base64")
    answer = get(world, part, "x.bin")
    assert (answer.status, answer.body) == (200, TEXT)
    assert answer.header("content-length") == str(len(TEXT))
    ranged = get(world, part, range="bytes=100-199")
    assert (ranged.status, ranged.body) == (206, TEXT[100:200])
    plain = encode_part_blob_id(message, 0, 4, "7bit")
    assert get(world, plain).body == b"head"
    assert asyncio.run(load_blob(world.services, MAIL, part)) == TEXT
    assert asyncio.run(load_blob(world.services, MAIL, message)) == raw
    assert asyncio.run(load_blob(world.services, BOBS, part)) is None
    assert asyncio.run(load_blob(world.services, MAIL, "nothing")) is None


def test_a_large_part_is_decoded_off_the_loop() -> None:
    world = World()
    raw = base64.encodebytes(b"x" * 200_000)
    part = encode_part_blob_id(world.add_blob(MAIL, raw), 0, len(raw), "base64")
    go(world, "GET", "/.well-known/jmap")
    before = world.offload.count
    assert len(get(world, part).body) == 200_000
    assert world.offload.count == before + 1


def test_a_part_beyond_the_end_of_its_message_does_not_exist() -> None:
    world = World()
    message = world.add_blob(MAIL, b"short")
    assert get(world, encode_part_blob_id(message, 0, 6, "binary")).status == 404
    assert get(world, encode_part_blob_id(message, 5, 5, "binary")).status == 200


@given(
    st.text(st.sampled_from("abcXYZ019_-"), min_size=1, max_size=60).map(BlobId),
    st.integers(0, 2**39),
    st.integers(0, 2**39),
    st.sampled_from(sorted(PART_ENCODINGS)),
)
def test_part_ids_come_back_as_they_were_made(blob: BlobId, a: int, b: int, encoding: str) -> None:
    start, end = min(a, b), max(a, b)
    made = encode_part_blob_id(blob, start, end, encoding)
    assert parse_part_blob_id(made) == PartBlobId(blob, start, end, encoding)


@given(st.text(max_size=40) | st.text(st.sampled_from("ab01_-fx"), max_size=30))
@example("x_5_3_binary")
@example("x_05_6_binary")
@example("_0_1_binary")
@example("x_0_1_rot13")
@example("x_0_11111111111_binary")
def test_any_other_text_is_no_part_id_or_has_only_one_spelling(text: str) -> None:
    part = parse_part_blob_id(text)
    assert part is None or encode_part_blob_id(*part) == text


def test_an_encoding_nobody_knows_is_kept_as_it_is() -> None:
    assert encode_part_blob_id("b", 0, 1, "x-rot13") == "b_0_1_binary"


# -- headers ---------------------------------------------------------------------------------------
@given(st.text(max_size=300))
@example("a" * 300 + ".pdf")
@example("annexe\u202efdp.exe")
@example("..")
@example('a"b\\c\r\nd.txt')
@example("\U0001f600" * 200 + ".jpeg")
def test_any_file_name_makes_a_safe_header(name: str) -> None:
    value = encode_disposition(name, "application/pdf").decode("ascii")
    assert "\r" not in value
    assert "\n" not in value
    assert value.count('"') == 2
    clean = clean_file_name(name)
    assert 0 < len(clean) <= 200
    assert len(clean.encode("utf-8", "surrogatepass")) <= 240
    assert not set(clean) & set('/\\"\r\n\x00\u202e')
    assert clean not in (".", "..")
    assert clean_file_name(clean) == clean


def test_a_long_name_keeps_its_ending() -> None:
    assert clean_file_name("x" * 500 + ".pdf").endswith("x.pdf")


@given(st.text(max_size=60))
@example("text/plain; charset=utf-8")
def test_any_type_makes_a_safe_header(text: str) -> None:
    made = parse_media_type(text)
    assert made.isascii()
    assert made.isprintable()
    assert parse_media_type(made) == made
    assert ";" not in parse_upload_type(text)


def test_a_charset_stays_with_its_type() -> None:
    assert parse_media_type('Text/Plain;charset="ISO-8859-1"') == "text/plain; charset=ISO-8859-1"


@given(st.text(st.sampled_from("bytes=0123456789-, "), max_size=20), st.integers(0, 200))
def test_any_range_lies_within_the_content(text: str, size: int) -> None:
    try:
        found = parse_range(text, size)
    except Unsatisfiable:
        return
    assert found is None or 0 <= found.start < found.end <= size


def test_a_range_of_nothing_cannot_be_had() -> None:
    for text in ("bytes=0-", "bytes=-1"):
        with pytest.raises(Unsatisfiable):
            parse_range(text, 0)
    assert parse_range("bytes=0-", 1) == ByteRange(0, 1)
