"""The MIME tree: ranges, ids, defaults and tolerance (RFC 2045, RFC 2046, RFC 8621 s4.1.4)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tindra.wire.mime.decode import decode_body, decode_text
from tindra.wire.mime.header import as_text
from tindra.wire.mime.parse import MimeLimits, Part, list_headers, parse_message
from tindra.wire.mime.structure import split_bodies


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def walk(part: Part) -> Iterator[Part]:
    yield part
    for child in part.children:
        yield from walk(child)


def outline(part: Part) -> object:
    """The tree as nested (type, part id)."""
    if part.children:
        return (part.type, [outline(child) for child in part.children])
    return (part.type, part.part_id)


def body_of(raw: bytes, part: Part) -> bytes:
    return raw[part.body_start : part.body_end]


def check_ranges(part: Part, start: int, end: int) -> None:
    assert start <= part.header_start <= part.header_end <= part.body_start <= part.body_end <= end
    at = part.body_start
    for child in part.children:
        assert child.header_start >= at
        check_ranges(child, at, part.body_end)
        at = child.body_end


def check_message(raw: bytes) -> None:
    message = parse_message(raw)
    check_ranges(message.root, 0, len(raw))
    ids = [part.part_id for part in walk(message.root)]
    assert len({*ids} - {None}) == len(ids) - ids.count(None)
    for part in walk(message.root):
        is_multipart = part.type.startswith("multipart/")
        assert (part.part_id is None) == is_multipart
        assert bool(part.children) == is_multipart
        assert part.type == part.type.lower()
        if not is_multipart:
            assert part.size == len(decode_body(raw, part))
        decode_text(raw, part).value.encode("utf-8")
        list_headers(raw, part)
    split_bodies(message.root)


NESTED = crlf(
    """\
Subject: nested
Content-Type: multipart/mixed; boundary="a"

preamble
--a
Content-Type: text/plain

one
--a
Content-Type: multipart/alternative; boundary=b

--b

two
--b
Content-Type: text/html; charset=UTF-8
Content-Transfer-Encoding: Quoted-Printable

<p>caf=C3=A9</p>
--b--
between
--a
Content-Type: image/png; name="x.png"
Content-Disposition: inline
Content-ID: <logo@x>
Content-Language: de, en (or so)
Content-Location: http://x/
 y.png
Content-Transfer-Encoding: base64

AAECAw==
--a--
epilogue
"""
)


def test_parts_have_stable_ids_and_multiparts_have_none() -> None:
    root = parse_message(NESTED).root
    assert outline(root) == (
        "multipart/mixed",
        [
            ("text/plain", "1"),
            ("multipart/alternative", [("text/plain", "2.1"), ("text/html", "2.2")]),
            ("image/png", "3"),
        ],
    )


def test_bodies_end_before_the_line_end_of_the_delimiter() -> None:
    root = parse_message(NESTED).root
    assert body_of(NESTED, root.children[0]) == b"one"
    assert body_of(NESTED, root.children[1].children[0]) == b"two"
    assert body_of(NESTED, root.children[2]) == b"AAECAw=="


def test_content_fields_are_read() -> None:
    image = parse_message(NESTED).root.children[2]
    assert (image.name, image.disposition, image.cid) == ("x.png", "inline", "logo@x")
    assert (image.language, image.location) == (["de", "en"], "http://x/y.png")
    assert (image.encoding, image.size) == ("base64", 4)
    html = parse_message(NESTED).root.children[1].children[1]
    assert (html.charset, html.encoding, html.size) == ("utf-8", "quoted-printable", 12)
    assert decode_text(NESTED, html).value == "<p>café</p>"


def test_a_single_part_message_is_part_one_with_the_defaults_of_rfc_2045() -> None:
    raw = crlf("Subject: x\n\nhello\n")
    root = parse_message(raw).root
    assert (root.part_id, root.type, root.encoding, root.charset) == (
        "1",
        "text/plain",
        "7bit",
        None,
    )
    assert body_of(raw, root) == b"hello\r\n"
    assert (root.header_start, root.header_end, root.body_start) == (0, 12, 14)


def test_parts_of_a_digest_default_to_messages_and_are_not_entered() -> None:
    raw = crlf(
        "Content-Type: multipart/digest; boundary=d\n\n--d\n\n"
        "Content-Type: multipart/mixed; boundary=e\n\n--e\n\nx\n--e--\n"
        "--d\nContent-Type: text/plain\n\ny\n--d--\n"
    )
    root = parse_message(raw).root
    assert [child.type for child in root.children] == ["message/rfc822", "text/plain"]
    assert root.children[0].children == []
    assert body_of(raw, root.children[0]).startswith(b"Content-Type: multipart/mixed")


def test_headers_come_in_order_with_their_folding_and_spelling() -> None:
    raw = b"X-A:one\r\nSUBJECT:  two\r\n\tfolded\r\nnot a field\r\nX-Empty:\r\nX-B : spaced\r\n\r\n"
    assert list_headers(raw, parse_message(raw).root) == [
        ("X-A", b"one"),
        ("SUBJECT", b"  two\r\n\tfolded"),
        ("X-Empty", b""),
        ("X-B", b" spaced"),
    ]


def test_a_boundary_that_is_the_prefix_of_another_does_not_end_it() -> None:
    raw = crlf(
        "Content-Type: multipart/mixed; boundary=ab\n\n--ab\n"
        "Content-Type: multipart/mixed; boundary=abc\n\n--abc\n\nin\n--abc--\n--ab\n\nout\n--ab--\n"
    )
    root = parse_message(raw).root
    assert outline(root) == (
        "multipart/mixed",
        [("multipart/mixed", [("text/plain", "1.1")]), ("text/plain", "2")],
    )
    assert body_of(raw, root.children[0].children[0]) == b"in"


def test_delimiters_may_be_padded_and_the_closing_one_may_be_missing() -> None:
    raw = crlf("Content-Type: multipart/mixed; boundary=ab\n\n--ab \t\n\none\n--ab\n\ntwo")
    root = parse_message(raw).root
    assert [body_of(raw, child) for child in root.children] == [b"one", b"two"]


def test_an_outer_delimiter_ends_an_inner_multipart_that_is_not_closed() -> None:
    raw = crlf(
        "Content-Type: multipart/mixed; boundary=o\n\n--o\n"
        "Content-Type: multipart/mixed; boundary=i\n\n--i\n\none\n--o\n\ntwo\n--o--\n"
    )
    root = parse_message(raw).root
    assert body_of(raw, root.children[0].children[0]) == b"one"
    assert body_of(raw, root.children[1]) == b"two"


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/mixed",
        'multipart/mixed; boundary=""',
        "multipart/mixed; boundary=nowhere",
        "multipart/mixed; boundary=" + "x" * 1200,
    ],
)
def test_a_multipart_without_usable_boundary_is_shown_as_text(content_type: str) -> None:
    raw = crlf(f"Content-Type: {content_type}\n\nvisible\n")
    root = parse_message(raw).root
    assert outline(root) == ("text/plain", "1")
    assert body_of(raw, root) == b"visible\r\n"


def test_line_feeds_alone_and_carriage_returns_alone_end_lines_too() -> None:
    for end in ("\n", "\r"):
        raw = NESTED.replace(b"\r\n", end.encode())
        root = parse_message(raw).root
        assert [child.type for child in root.children] == [
            "text/plain",
            "multipart/alternative",
            "image/png",
        ]
        assert body_of(raw, root.children[0]) == b"one"
        assert list_headers(raw, root)[0] == ("Subject", b" nested")
        assert root.children[2].cid == "logo@x"


def test_a_bare_carriage_return_in_a_crlf_message_makes_no_field() -> None:
    raw = b"Subject: a\rBcc: x@y\r\n\r\nbody"
    assert [name for name, _ in list_headers(raw, parse_message(raw).root)] == ["Subject"]


def test_an_mbox_line_and_a_byte_order_mark_are_skipped() -> None:
    raw = b"From someone Thu Oct 30 14:12:00 2014\nSubject: x\n\nbody"
    message = parse_message(raw)
    assert list_headers(raw, message.root) == [("Subject", b" x")]
    raw = b"\xef\xbb\xbfSubject: x\r\n\r\nbody"
    assert list_headers(raw, parse_message(raw).root) == [("Subject", b" x")]


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"", b""),
        (b"\r\n", b""),
        (b"\r\nbody", b"body"),
        (b"no header block\n\nat all", b"no header block\n\nat all"),
        (b"Subject: only a header", b""),
        (b"Subject: only a header\r\n", b""),
        (b"Subject: x\n\r\nbody", b"body"),
        (b"Subject: x\r\n\nbody", b"body"),
    ],
)
def test_bodies_of_messages_without_proper_header_block(raw: bytes, body: bytes) -> None:
    root = parse_message(raw).root
    assert body_of(raw, root) == body
    check_message(raw)


def test_of_repeated_content_fields_the_first_counts_as_in_most_readers() -> None:
    raw = b"Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\n"
    assert parse_message(raw).root.type == "text/plain"


def test_a_boundary_may_be_written_in_the_extended_form() -> None:
    raw = crlf("Content-Type: multipart/mixed; boundary*=us-ascii''a%20b\n\n--a b\n\nx\n--a b--\n")
    assert outline(parse_message(raw).root) == ("multipart/mixed", [("text/plain", "1")])


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (b"Content-Disposition: attachment; filename=plain.txt", "plain.txt"),
        (b'Content-Disposition: attachment; filename="a \\"b\\".txt"', 'a "b".txt'),
        (b"Content-Disposition: attachment; filename*=UTF-8''%e2%82%ac%20rates", "€ rates"),
        (
            b"Content-Disposition: attachment; filename*0*=us-ascii'en'This%20is%20;"
            b'\r\n filename*1*=%2A%2A%2Afun%2A%2A%2A%20; filename*2="isn\'t it!"',
            "This is ***fun*** isn't it!",
        ),
        (b"Content-Disposition: attachment; filename*1=b.txt; filename*0=a", "ab.txt"),
        (b'Content-Disposition: attachment; filename="=?utf-8?B?w6k=?=.pdf"', "é.pdf"),
        (b"Content-Type: image/png; name==?iso-8859-1?Q?=E9?=", "é"),
        (b"Content-Type: image/png; name*=iso-8859-1''%E9.png", "é.png"),
        (b'Content-Disposition: ;\r\n\tfilename="image001.png"', "image001.png"),
        (b"Content-Disposition: inline; filename=image(1).png", "image(1).png"),
        (b'Content-Disposition: attachment; filename="C:\\temp\\x.txt"', "C:\\temp\\x.txt"),
        (b'Content-Disposition: attachment; filename="never closed.txt', "never closed.txt"),
        ('Content-Disposition: attachment; filename="日本.txt"'.encode(), "日本.txt"),
        (b'Content-Disposition: attachment; filename="a\x00\x07b.txt"', "ab.txt"),
        (b'Content-Disposition: attachment; filename="  "', None),
    ],
)
def test_file_names_in_all_spellings(field: bytes, name: str | None) -> None:
    assert parse_message(field + b"\r\n\r\nx").root.name == name


@pytest.mark.parametrize(
    ("value", "media_type", "charset"),
    [
        ("text/plain; charset=us-ascii (Plain text)", "text/plain", "us-ascii"),
        ('TEXT/HTML; CharSet="ISO-8859-1"', "text/html", "iso-8859-1"),
        ("text", "text/plain", None),
        ("text/plain; charset=utf-8 format=flowed", "text/plain", "utf-8"),
        ('multipart/mixed\r\n\tboundary="x"; charset=a', "text/plain", "a"),
        ("(hello) application/pdf (there)", "application/pdf", None),
        ("; charset=utf-8", "text/plain", "utf-8"),
        ("text/plain; charset", "text/plain", None),
    ],
)
def test_content_types_however_broken(value: str, media_type: str, charset: str | None) -> None:
    root = parse_message(f"Content-Type: {value}\r\n\r\nx".encode()).root
    assert (root.type, root.charset) == (media_type, charset)


def test_what_is_beyond_a_limit_is_one_opaque_part_and_is_reported() -> None:
    limits = MimeLimits(parts_max=3)
    raw = crlf("Content-Type: multipart/mixed; boundary=b\n\n" + "--b\n\nx\n" * 9 + "--b--\n")
    message = parse_message(raw, limits)
    assert message.truncated
    assert len(list(walk(message.root))) == 3
    assert body_of(raw, message.root.children[1]).count(b"--b") == 8

    deep = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i) for i in range(200)
    )
    message = parse_message(deep)
    assert message.truncated
    assert [part.type for part in walk(message.root)][-1] == "application/octet-stream"
    assert len(list(walk(message.root))) == 51

    message = parse_message(b"Subject: x\r\n" + b"X: y\r\n" * 60_000 + b"\r\nbody")
    assert message.truncated
    assert message.root.header_end <= 256 * 1024


def test_many_false_delimiters_are_given_up_on() -> None:
    raw = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\n" + b"--bx\n" * 200 + b"--b\n\ny"
    message = parse_message(raw, MimeLimits(false_delimiters_max=100))
    assert message.truncated
    assert len(message.root.children) == 1


PIECES = st.sampled_from(
    [
        b"Content-Type: multipart/mixed; boundary=a",
        b'Content-Type: multipart/digest; boundary="a b"',
        b"Content-Type: text/html; charset=utf-7",
        b"Content-Transfer-Encoding: base64",
        b"Content-Transfer-Encoding: quoted-printable",
        b"Content-Transfer-Encoding: x-uuencode",
        b"begin 644 x\n#0V%T\n`\nend",
        b"Content-Disposition: attachment; filename*0*=utf-8''%e4; filename*1=",
        b"Content-ID: <a",
        b"Content-Language: ,,",
        b"--a",
        b"--a--",
        b"--a b",
        b"QUJD=\n=QUI",
        b"=41=\n=zz= \n",
        b"\r\n",
        b"\n",
        b"\r",
        b"\n\n",
        b"\0\xff\xc3(",
        b" ",
        b"(",
        b'"',
        b"From ",
        b"X: y",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(PIECES, st.binary(max_size=6)), max_size=24).map(b"".join))
@example(b"Content-Type: multipart/mixed; boundary=a\n--a\n--a\n--a--")
def test_any_bytes_give_an_ordered_tree_whose_sizes_are_true(raw: bytes) -> None:
    check_message(raw)


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=40).map(b"\r\n".join))
def test_any_lines_give_an_ordered_tree_whose_sizes_are_true(raw: bytes) -> None:
    check_message(raw)


def test_subjects_are_found_through_list_headers() -> None:
    raw = crlf("subject: a\nSubject: =?utf-8?q?b?=\n\n")
    values = [as_text(v) for n, v in list_headers(raw, parse_message(raw).root)]
    assert values == ["a", "b"]
