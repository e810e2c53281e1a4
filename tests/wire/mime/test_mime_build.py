"""Building messages: what goes in comes out of parsing, and nothing else can be put in."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tindra.wire.mime.build import (
    Address,
    AddressesValue,
    BodyPart,
    DateValue,
    Group,
    GroupsValue,
    HeaderValue,
    MessageIdsValue,
    RawValue,
    TextValue,
    UrlsValue,
    build_message,
)
from tindra.wire.mime.decode import decode_body, decode_text
from tindra.wire.mime.header import (
    as_addresses,
    as_date,
    as_grouped_addresses,
    as_message_ids,
    as_raw,
    as_text,
    as_urls,
)
from tindra.wire.mime.parse import Message, Part, list_headers, parse_message

TEXT = BodyPart(content=b"hello")
PRINTABLE = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff")
"""No byte order mark: at the start of a text it is none of its characters."""


def counter() -> Callable[[], str]:
    numbers = itertools.count()
    return lambda: f"=_b{next(numbers)}"


def build(headers: list[tuple[str, HeaderValue]], root: BodyPart = TEXT) -> bytes:
    raw = build_message(headers, root, boundary=counter())
    for line in raw.split(b"\r\n"):
        assert len(line) <= 998
        assert b"\n" not in line
        assert b"\r" not in line
    return raw


def field(raw: bytes, name: str) -> bytes:
    (value,) = (v for n, v in list_headers(raw, parse_message(raw).root) if n == name)
    return value


def round_trip(root: BodyPart) -> tuple[bytes, Message]:
    raw = build([], root)
    return raw, parse_message(raw)


def test_a_message_in_full() -> None:
    raw = build(
        [
            ("From", AddressesValue([Address("Jörg Müller", "joerg@example.com")])),
            ("Subject", TextValue("Grüße")),
            ("Date", DateValue("2014-10-30T14:12:00+08:00")),
            ("Message-ID", MessageIdsValue(["a@b"])),
        ],
        BodyPart(content=b"one\ntwo"),
    )
    assert raw.decode() == (
        "From: =?utf-8?Q?J=C3=B6rg_M=C3=BCller?= <joerg@example.com>\r\n"
        "Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n"
        "Date: Thu, 30 Oct 2014 14:12:00 +0800\r\n"
        "Message-ID: <a@b>\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "\r\n"
        "one\r\ntwo"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "two  spaces   here",
        "  leading and trailing  ",
        "Re: =?utf-8?Q?not_encoded?= but looks so",
        "日本語のとても長い件名" * 20,
        "a" * 5000,
        "word " * 400 + "end",
        "prefix  Grüße  suffix",
        "emoji 👩‍👩‍👧‍👦 family",
        "?=",
        "=?",
        "a =?b?= c",
        "\u2028 separators \u00a0",
    ],
)
def test_text_comes_back(text: str) -> None:
    raw = build([("Subject", TextValue(text))])
    assert as_text(field(raw, "Subject")) == text
    assert raw.isascii()


@settings(max_examples=300, deadline=None)
@given(st.text(PRINTABLE, max_size=300))
def test_any_text_comes_back_in_form_c(text: str) -> None:
    raw = build([("Subject", TextValue(text)), ("X-Next", TextValue("here"))])
    assert as_text(field(raw, "Subject")) == unicodedata.normalize("NFC", text)
    assert as_text(field(raw, "X-Next")) == "here"
    assert all(len(line) <= 76 or b" " not in line[1:] for line in raw.split(b"\r\n"))


def test_a_tab_is_written_as_a_space() -> None:
    raw = build([("Subject", TextValue("a\tü\tb"))])
    assert as_text(field(raw, "Subject")) == "a ü b"


NAMES = st.text(PRINTABLE, max_size=60)


@settings(max_examples=300, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=6))
def test_any_display_names_come_back_with_their_addresses(names: list[str]) -> None:
    addresses = [Address(name or None, f"user{i}@example.com") for i, name in enumerate(names)]
    raw = build([("To", AddressesValue(addresses))])
    expected = [
        Address(unicodedata.normalize("NFC", (a.name or "").strip()) or None, a.email)
        for a in addresses
    ]
    assert as_addresses(field(raw, "To")) == expected


@pytest.mark.parametrize(
    "address",
    [
        Address(None, "a@b"),
        Address(None, '"john \\"x\\" doe"@example.com'),
        Address("X", "user@[192.0.2.1]"),
        Address('Quote "d" back\\slash, (comma); <angle>', "a@b"),
        Address("日本", "a@例え.jp"),
        Address(None, "half"),
        Address(None, "half an address"),
        Address(None, "undisclosed, recipients;"),
        Address("Name", ""),
        Address("Name", "half"),
        Address(None, "größe"),
        Address("x" * 2000, "a@b"),
    ],
)
def test_addresses_come_back(address: Address) -> None:
    both = [address, Address("Next", "next@example.com")]
    assert as_addresses(field(build([("To", AddressesValue(both))]), "To")) == both


def test_groups_come_back() -> None:
    groups = [
        Group(None, [Address("A", "a@b"), Address(None, "c@d")]),
        Group("Freunde: und Größen", [Address("E", "e@f")]),
        Group("undisclosed-recipients", []),
        Group(None, [Address(None, "z@z")]),
    ]
    assert as_grouped_addresses(field(build([("To", GroupsValue(groups))]), "To")) == groups


def test_ids_urls_dates_and_raw_values_come_back() -> None:
    ids = [f"{n}.{'x' * 60}@example.com" for n in range(40)]
    raw = build(
        [
            ("References", MessageIdsValue(ids)),
            ("List-Unsubscribe", UrlsValue(["https://x/?a,b", "mailto:a@b?subject=ü"])),
            ("Date", DateValue("2014-10-30T14:12:00.5-03:30")),
            ("X-Raw", RawValue(" as it is\r\n\tfolded ")),
            ("X-Long", RawValue(" word" * 400)),
        ]
    )
    assert as_message_ids(field(raw, "References")) == ids
    assert as_urls(field(raw, "List-Unsubscribe")) == [
        "https://x/?a,b",
        "mailto:a@b?subject=%C3%BC",
    ]
    assert as_date(field(raw, "Date")) == "2014-10-30T14:12:00-03:30"
    assert as_raw(field(raw, "X-Raw")) == " as it is\r\n\tfolded "
    assert as_text(field(raw, "X-Long")) == ("word " * 400).strip()


EVIL = ["a\r\nBcc: x@y", "a\nb", "a\rb", "a\0b", "a\r\n\r\nbody", "\ud800", "a\x0bb", "a\x7fb"]


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize(
    "make",
    [
        TextValue,
        RawValue,
        DateValue,
        lambda text: AddressesValue([Address(text, "a@b")]),
        lambda text: AddressesValue([Address(None, text)]),
        lambda text: AddressesValue([Address("x", f"{text}@b")]),
        lambda text: AddressesValue([Address("x", f'"{text}"@b')]),
        lambda text: GroupsValue([Group(text, [])]),
        lambda text: GroupsValue([Group("g", [Address(text, "a@b")])]),
        lambda text: MessageIdsValue([text]),
        lambda text: UrlsValue([text]),
    ],
)
def test_control_characters_in_values_are_refused(
    evil: str, make: Callable[[str], HeaderValue]
) -> None:
    with pytest.raises(ValueError, match=r"^X-Field"):
        build([("X-Field", make(evil))])


@pytest.mark.parametrize("evil", EVIL)
def test_control_characters_in_body_properties_are_refused(evil: str) -> None:
    broken = [
        BodyPart(content=b"", type=f"text/{evil}"),
        BodyPart(content=b"", charset=evil),
        BodyPart(content=b"", disposition=evil),
        BodyPart(content=b"", name=evil),
        BodyPart(content=b"", name=evil, disposition="attachment"),
        BodyPart(content=b"", cid=evil),
        BodyPart(content=b"", language=[evil]),
        BodyPart(content=b"", location=evil),
        BodyPart(content=b"", headers=[("X", TextValue(evil))]),
    ]
    for part in broken:
        with pytest.raises(ValueError, match=r"^(Content-|X: )"):
            build([], part)
        with pytest.raises(ValueError, match=r"^(Content-|X: )"):
            build([], BodyPart("multipart/mixed", children=[part]))


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60), st.sampled_from([TextValue, RawValue, DateValue]))
def test_whatever_is_accepted_adds_exactly_one_field(
    text: str, make: Callable[[str], HeaderValue]
) -> None:
    try:
        raw = build([("X-A", make(text)), ("X-B", TextValue("b"))])
    except ValueError:
        return
    names = [name for name, _ in list_headers(raw, parse_message(raw).root)]
    assert names == ["X-A", "X-B", "MIME-Version", "Content-Type"]
    assert decode_text(raw, parse_message(raw).root).value == "hello"


@pytest.mark.parametrize("name", ["", "a b", "a:b", "ä", "a\r\nb", "x" * 200])
def test_field_names_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a header field name"):
        build([(name, TextValue("x"))])


@pytest.mark.parametrize(
    "value",
    [
        MessageIdsValue(["a b"]),
        MessageIdsValue(["a>b"]),
        MessageIdsValue([""]),
        MessageIdsValue(["x" * 1200]),
        UrlsValue(["https://x/>, <evil"]),
        DateValue("2014-02-30T00:00:00Z"),
        DateValue("Thu, 30 Oct 2014 14:12:00 +0800"),
        RawValue("ü"),
        RawValue("a\r\n"),
        RawValue("a\r\n b\r\n \r\n c"),
        RawValue("x" * 1200),
        AddressesValue([Address(None, "a b@c")]),
        AddressesValue([Address("x", "a@b>, <c@d")]),
        AddressesValue([Address("x", "a@b, c@d")]),
        AddressesValue([Address("x", "a b")]),
    ],
)
def test_values_that_would_not_read_back_are_refused(value: HeaderValue) -> None:
    with pytest.raises(ValueError, match=r"^X-Field: "):
        build([("X-Field", value)])


def test_fields_that_the_body_writes_cannot_be_given_twice() -> None:
    for name in ("content-type", "Content-Transfer-Encoding"):
        with pytest.raises(ValueError, match=r"(?i)^content-t"):
            build([(name, RawValue(" x"))])
        with pytest.raises(ValueError, match=r"(?i)^content-t"):
            build([], BodyPart(content=b"", headers=[(name, RawValue(" x"))]))
    part = BodyPart(
        content=b"", disposition="inline", headers=[("Content-Disposition", RawValue(" x"))]
    )
    with pytest.raises(ValueError, match=r"^Content-Disposition"):
        build([], part)
    raw = build([("Mime-Version", RawValue(" 1.0"))])
    assert raw.lower().count(b"mime-version") == 1


NAME_SAMPLES = [
    "plain.pdf",
    "with space.pdf",
    'quo"te\\.pdf',
    "Übersicht 2025 – Größe.pdf",
    "日本語" * 60 + ".txt",
    "a" * 300 + ".txt",
    "semi;colon=1'x'%20*.txt",
    "=?utf-8?Q?looks_encoded?=.txt",
    "../../etc/passwd",
]


@pytest.mark.parametrize("name", NAME_SAMPLES)
@pytest.mark.parametrize("disposition", ["attachment", "inline", None])
def test_file_names_come_back(name: str, disposition: str | None) -> None:
    part = BodyPart("application/pdf", b"x", name=name, disposition=disposition)
    raw, message = round_trip(BodyPart("multipart/mixed", children=[TEXT, part]))
    assert message.root.children[1].name == name
    assert message.root.children[1].disposition == disposition
    assert raw.isascii()


@settings(max_examples=200, deadline=None)
@given(st.text(PRINTABLE, min_size=1, max_size=200))
def test_any_file_name_comes_back(name: str) -> None:
    assume(name == name.strip())
    _, message = round_trip(BodyPart("image/png", b"", name=name, disposition="attachment"))
    assert message.root.name == unicodedata.normalize("NFC", name)


def test_properties_of_parts_come_back() -> None:
    part = BodyPart(
        "image/png",
        b"\x89PNG",
        disposition="inline",
        cid="logo@example.com",
        language=["de", "en"],
        location="https://example.com/logo.png",
        headers=[("X-Part", TextValue("ü"))],
    )
    raw, message = round_trip(BodyPart("multipart/related", children=[TEXT, part]))
    image = message.root.children[1]
    assert (image.cid, image.language, image.location, image.disposition) == (
        "logo@example.com",
        ["de", "en"],
        "https://example.com/logo.png",
        "inline",
    )
    assert ("X-Part", b" =?utf-8?Q?=C3=BC?=") in list_headers(raw, image)
    assert b'type="text/plain"' in raw


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("plain\ntext\n", "7bit"),
        ("", "7bit"),
        ("Grüße aus Zürich, " * 9, "quoted-printable"),
        ("日本語" * 100, "base64"),
        ("x" * 5000, "quoted-printable"),
        ("From the start\nFrom here\n.\n", "quoted-printable"),
        ("ends with blanks  \nü", "quoted-printable"),
        ("nul \0 inside", "quoted-printable"),
        ("mixed\r\nends\rof\nlines", "7bit"),
    ],
)
def test_body_text_gets_the_plainest_encoding_and_comes_back(text: str, encoding: str) -> None:
    raw, message = round_trip(BodyPart(content=text.encode()))
    assert message.root.encoding == encoding
    expected = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
    assert decode_text(raw, message.root).value == expected
    body = raw[message.root.body_start :]
    assert b"\nFrom " not in body
    assert not body.startswith(b"From ")
    if encoding != "7bit":
        assert all(len(line) <= 76 for line in body.split(b"\r\n"))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["application/pdf", "text/csv", "text/plain", "message/rfc822", "image/png"]
            ),
            st.one_of(st.binary(max_size=300), st.text("ab \r\nü", max_size=90).map(str.encode)),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_attachments_come_back_octet_by_octet(parts: list[tuple[str, bytes]]) -> None:
    children = [BodyPart(kind, data, disposition="attachment") for kind, data in parts]
    raw, message = round_trip(BodyPart("multipart/mixed", children=[TEXT, *children]))
    leaves = message.root.children[1:]
    assert [decode_body(raw, leaf) for leaf in leaves] == [data for _, data in parts]
    assert [leaf.size for leaf in leaves] == [len(data) for _, data in parts]
    assert [leaf.type for leaf in leaves] == [kind for kind, _ in parts]


def test_an_attached_message_is_never_base64_if_it_can_travel_as_it_is() -> None:
    inner = b"Subject: x\r\n\r\nbody " + b"y" * 900
    for content, encoding in ((inner, "7bit"), (inner + "ü".encode(), "8bit")):
        raw, message = round_trip(
            BodyPart("multipart/mixed", children=[BodyPart("message/rfc822", content)])
        )
        leaf = message.root.children[0]
        assert (message.root.encoding, leaf.encoding) == (encoding, encoding)
        assert decode_body(raw, leaf) == content


def test_trees_come_back() -> None:
    html = BodyPart("text/html", "<p>ü</p>".encode())
    image = BodyPart("image/png", bytes(range(256)), cid="i@x")
    root = BodyPart(
        "multipart/mixed",
        children=[
            BodyPart(
                "multipart/related",
                children=[BodyPart("multipart/alternative", children=[TEXT, html]), image],
            ),
            BodyPart("application/zip", b"PK" * 5000, disposition="attachment", name="z.zip"),
        ],
    )
    raw, message = round_trip(root)

    def shape(part: Part) -> list[object]:
        return [part.type, *(shape(child) for child in part.children)]

    assert shape(message.root) == [
        "multipart/mixed",
        [
            "multipart/related",
            ["multipart/alternative", ["text/plain"], ["text/html"]],
            ["image/png"],
        ],
        ["application/zip"],
    ]
    assert decode_body(raw, message.root.children[1]) == b"PK" * 5000


def test_a_boundary_that_occurs_in_the_content_is_not_taken() -> None:
    offered = iter(["b", "b", "c"])
    root = BodyPart("multipart/mixed", children=[BodyPart(content=b"--b\n--b--\n")])
    raw = build_message([], root, boundary=lambda: next(offered))
    assert decode_text(raw, parse_message(raw).root.children[0]).value == "--b\n--b--\n"
    with pytest.raises(ValueError, match="boundary"):
        build_message([], root, boundary=lambda: "b")
    with pytest.raises(ValueError, match="boundary"):
        build_message([], root, boundary=lambda: 'x"\r\nEvil: y')


@pytest.mark.parametrize(
    "root",
    [
        BodyPart("multipart/mixed"),
        BodyPart("multipart/mixed", children=[]),
        BodyPart("multipart/mixed", content=b"", children=[TEXT]),
        BodyPart("text/plain"),
        BodyPart("text/plain", content=b"", children=[TEXT]),
        BodyPart("textplain", content=b""),
    ],
)
def test_impossible_trees_are_refused(root: BodyPart) -> None:
    with pytest.raises(ValueError, match=r"^Content-Type"):
        build([], root)


def test_too_deep_trees_are_refused() -> None:
    root = TEXT
    for _ in range(51):
        root = BodyPart("multipart/mixed", children=[root])
    with pytest.raises(ValueError, match="inside each other"):
        build([], root)
    assert root.children is not None
    assert not parse_message(build([], root.children[0])).truncated
