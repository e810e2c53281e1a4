"""Transfer encodings and charsets (RFC 2045 s6, RFC 8621 s4.1.4)."""

from __future__ import annotations

import base64
import binascii
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tindra.wire.mime.charset import decode_charset, find_codec, normalise_nfc
from tindra.wire.mime.decode import TextValue, decode_body, decode_range, decode_text
from tindra.wire.mime.parse import parse_message
from tindra.wire.mime.transfer import measure_range

ENCODINGS = ["base64", "quoted-printable", "x-uuencode", "7bit", "8bit", "binary", "x-unknown", ""]


@pytest.mark.parametrize(
    ("data", "decoded"),
    [
        (b"QUJD", b"ABC"),
        (b"QU\r\n JD\r\n", b"ABC"),
        (b"QUI", b"AB"),
        (b"QUI=", b"AB"),
        (b"QUJDQ", b"ABC"),
        (b"QUI=\r\nQ0Q=\r\n", b"ABCD"),
        (b"QUI=\r\n-- \r\nfooter of a list", b"AB"),
        (b"Q*U#J!D", b"ABC"),
        (b"====", b""),
        (b"", b""),
        (b"=QUJD", b"ABC"),
    ],
)
def test_base64_is_read_tolerantly(data: bytes, decoded: bytes) -> None:
    assert decode_range(data, "base64") == decoded


@pytest.mark.parametrize(
    ("data", "decoded"),
    [
        (b"caf=C3=A9", "café".encode()),
        (b"caf=c3=a9", "café".encode()),
        (b"soft=\r\nbreak=\nhere", b"softbreakhere"),
        (b"padded= \t\r\nbreak", b"paddedbreak"),
        (b"ends with=", b"ends with"),
        (b"bad =ZZ escape", b"bad =ZZ escape"),
        (b"a_b", b"a_b"),
        (b"line\r\nline", b"line\r\nline"),
    ],
)
def test_quoted_printable_is_read_tolerantly(data: bytes, decoded: bytes) -> None:
    assert decode_range(data, "quoted-printable") == decoded


def test_uuencode_is_read() -> None:
    data = bytes(range(256))
    lines = b"".join(binascii.b2a_uu(data[at : at + 45]) for at in range(0, 256, 45))
    encoded = b"preface\nbegin 644 x.bin\n" + lines + b"`\nend\n"
    assert decode_range(encoded, "x-uuencode") == data
    assert decode_range(encoded.replace(b"\n", b"\r\n"), "uuencode") == data
    assert decode_range(b"no begin line", "x-uuencode") == b"no begin line"


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=120),
        st.lists(
            st.sampled_from([b"QUJD", b"=", b"\n", b"\r\n", b" ", b"A", b"-", b"=41", b"=\n"])
        ).map(b"".join),
    ),
    st.sampled_from(ENCODINGS),
)
def test_what_is_measured_is_what_is_decoded(data: bytes, encoding: str) -> None:
    assert measure_range(data, encoding) == len(decode_range(data, encoding))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=500))
def test_encoded_octets_come_back(data: bytes) -> None:
    assert decode_range(base64.encodebytes(data).replace(b"\n", b"\r\n"), "base64") == data
    assert decode_range(binascii.b2a_qp(data, istext=False), "quoted-printable") == data


def text_of(content_type: str, body: bytes, bytes_max: int = 0) -> TextValue:
    raw = f"Content-Type: {content_type}\r\nContent-Transfer-Encoding: 8bit\r\n\r\n".encode() + body
    part = parse_message(raw).root
    assert decode_body(raw, part) == body
    return decode_text(raw, part, bytes_max)


@pytest.mark.parametrize(
    ("charset", "body", "text", "is_problem"),
    [
        ("utf-8", "Grüße".encode(), "Grüße", False),
        ("UTF8", "Grüße".encode(), "Grüße", False),
        ("utf-8", b"\xef\xbb\xbfx", "x", False),
        ("utf-8", b"a\xffb", "a\ufffdb", True),
        ("iso-8859-1", "é".encode("latin-1"), "é", False),
        ("iso-8859-1", b"\x93quoted\x94", "“quoted”", False),
        ("iso-8859-15", b"\xa4", "€", False),
        ("windows-1251", "Привет".encode("cp1251"), "Привет", False),
        ("koi8-r", "Привет".encode("koi8-r"), "Привет", False),
        ("iso-2022-jp", "日本".encode("iso2022_jp"), "日本", False),
        ("shift_jis", "日本①".encode("cp932"), "日本①", False),
        ("gb2312", "中文镕".encode("gb18030"), "中文镕", False),
        ("big5", "中文".encode("big5"), "中文", False),
        ("euc-kr", "한국똠".encode("cp949"), "한국똠", False),
        ("hz-gb-2312", b"~{VPND~}", "中文", False),
        ("utf-7", b"+AOk-", "é", False),
        ("utf-7", b"+2AA-", "\ufffd", True),
        ("macintosh", "é".encode("mac-roman"), "é", False),
        ("utf-16", "hé".encode("utf-16"), "hé", False),
        ("utf-16", "hé".encode("utf-16-be"), "hé", False),
        ("utf-16", "hé".encode("utf-16-le"), "hé", False),
        ("utf-16le", b"\x00\xd8a\x00", "\ufffda", True),
        ("us-ascii", b"plain", "plain", False),
        ("us-ascii", "é".encode(), "é", True),
        ("us-ascii", b"\xe9", "é", True),
        ("x-unknown", "é".encode(), "é", True),
        ("x-unknown", b"\xe9", "é", True),
        ("x-unknown", b"plain", "plain", True),
        ("utf-8", b"a\0b", "a\ufffdb", True),
    ],
)
def test_charsets(charset: str, body: bytes, text: str, is_problem: bool) -> None:
    value = text_of(f"text/plain; charset={charset}", body)
    assert (value.value, value.is_encoding_problem) == (text, is_problem)


def test_without_charset_text_is_ascii_then_utf_8_then_windows_1252() -> None:
    assert text_of("text/plain", b"abc") == TextValue("abc")
    assert text_of("text/plain", "é".encode()) == TextValue("é", is_encoding_problem=True)
    assert text_of("text/plain", b"\xe9") == TextValue("é", is_encoding_problem=True)


@pytest.mark.parametrize(
    "label", ["idna", "punycode", "unicode_escape", "rot13", "base64", "zlib", "hex", "x" * 999, ""]
)
def test_codecs_that_are_no_charsets_cannot_be_picked(label: str) -> None:
    assert find_codec(label) is None


@settings(max_examples=400, deadline=None)
@given(
    st.binary(max_size=80),
    st.sampled_from(
        (
            "utf-8 utf-7 utf-16 utf-16le utf-32 iso-2022-jp iso-2022-kr gb18030 big5 hz-gb-2312"
            " euc-jp shift_jis johab koi8-u windows-1255 nonsense"
        ).split()
    ),
)
def test_no_surrogate_and_no_nul_comes_out(data: bytes, charset: str) -> None:
    text, _ = decode_charset(data, charset)
    text.encode("utf-8")
    assert "\0" not in text


def test_line_ends_become_line_feeds() -> None:
    assert text_of("text/plain", b"a\r\nb\nc\rd\r\n").value == "a\nb\nc\nd\n"
    assert text_of("text/plain", b"\r\n\r\na").value == "\n\na"
    body = "a\r\nb".encode("utf-16-le")
    assert text_of("text/plain; charset=utf-16le", body).value == "a\nb"


@pytest.mark.parametrize(
    ("bytes_max", "expected"),
    [
        (0, "aé€𝄞"),
        (100, "aé€𝄞"),
        (10, "aé€𝄞"),
        (9, "aé€"),
        (6, "aé€"),
        (5, "aé"),
        (2, "a"),
        (1, "a"),
    ],
)
def test_truncation_is_in_octets_and_never_inside_a_character(
    bytes_max: int, expected: str
) -> None:
    value = text_of("text/plain; charset=utf-8", "aé€𝄞".encode(), bytes_max)
    assert value.value == expected
    assert value.is_truncated == (expected != "aé€𝄞")


def test_html_is_not_cut_inside_a_tag() -> None:
    body = b'text <a href="https://example.com">link</a>'
    assert text_of("text/html", body, 20).value == "text "
    assert text_of("text/plain", body, 20).value == 'text <a href="https:'
    assert text_of("text/html", body, 37).value == 'text <a href="https://example.com">li'


def test_form_c_is_exact_on_long_texts_and_leaves_monsters_alone() -> None:
    text = "e\u0301 a\u0308 " * 2000
    assert normalise_nfc(text) == "é ä " * 2000
    monster = "a" + "\u0301\u0316" * 5000
    assert normalise_nfc(monster) == monster


def test_a_random_name_is_no_codec() -> None:
    assert find_codec(uuid.uuid4().hex) is None
