"""Parsed forms of header fields (RFC 8621 s4.1.2)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tindra.wire.mime.header import (
    ALL_FORMS,
    ALLOWED_FORMS,
    Address,
    Group,
    allowed_forms,
    as_addresses,
    as_date,
    as_grouped_addresses,
    as_message_ids,
    as_raw,
    as_text,
    as_urls,
    date_ms,
)
from tindra.wire.mime.words import ENCODED_WORDS_MAX, decode_words, encode_words

PRINTABLE = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff")
"""No byte order mark: at the start of a text it is none of its characters."""


def test_raw_keeps_folding_and_drops_nul() -> None:
    assert as_raw(b" a\r\n\tb\0c ") == " a\r\n\tbc "
    assert as_raw("é".encode()) == "é"
    assert as_raw(b"\xe9 \xc3\xa9\xff") == "\ufffd é\ufffd"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"  folded\r\n  text ", "folded  text "),
        (b" =?utf-8?q?a?= =?utf-8?q?b?= c", "ab c"),
        (b" =?utf-8?q?a?=\r\n =?utf-8?q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a_b=E9?=", "a bé"),
        (b"=?utf-8*de?B?w6k=?=", "é"),
        (b"=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本"),
        (b"=?UTF-8?B?5pel?= =?UTF-8?B?5pys6A==?= =?UTF-8?B?qp4=?=", "日本語"),
        (b"=?utf-8?b?w6k?=", "é"),
        (b"=?iso-8859-1?Q?Fr\xf6sche?=", "Frösche"),
        ("=?utf-8?Q?Frösche?=".encode(), "Frösche"),
        ("rfc 6532: Grüße".encode(), "rfc 6532: Grüße"),
        (b"e\xcc\x81", "é"),
        # Not encoded words: placement, white space, unknown charset, bad base64.
        (b"x=?utf-8?q?a?=", "x=?utf-8?q?a?="),
        (b"=?utf-8?q?a?=x", "=?utf-8?q?a?=x"),
        (b"=?utf-8?q?a b?=", "=?utf-8?q?a b?="),
        (b"=?x-none?q?a?=", "=?x-none?q?a?="),
        (b"=?utf-8?b?w?=", "=?utf-8?b?w?="),
        (b"=?utf-8?x?a?=", "=?utf-8?x?a?="),
        # Touching words break the rule, but only one reading makes sense.
        (b"=?utf-8?q?a?==?utf-8?q?b?=", "ab"),
        # NUL and control characters of encoded words are dropped.
        (b"=?utf-8?q?a=00b=0Ac=07d?=", "abcd"),
        (b"=?utf-8?q?=ff?=", "\ufffd"),
        (b"=?utf-16be?B?AGEAYg==?=", "ab"),
        (b"", ""),
    ],
)
def test_text_form(value: bytes, text: str) -> None:
    assert as_text(value) == text


def test_encoded_words_beyond_the_limit_stay_encoded() -> None:
    text = as_text(b"=?utf-8?q?a?= " * (ENCODED_WORDS_MAX + 5))
    assert text.startswith("a" * ENCODED_WORDS_MAX)
    assert text.count("=?utf-8?q?a?=") == 5


EXAMPLE = (
    b' "  James Smythe" <james@example.com>, Friends: jane@example.com,'
    b" =?UTF-8?Q?John_Sm=C3=AEth?= <john@example.com>;"
)


def test_addresses_form_of_the_rfc_example() -> None:
    assert as_addresses(EXAMPLE) == [
        Address("James Smythe", "james@example.com"),
        Address(None, "jane@example.com"),
        Address("John Smîth", "john@example.com"),
    ]


def test_grouped_addresses_form_of_the_rfc_example() -> None:
    assert as_grouped_addresses(EXAMPLE) == [
        Group(None, [Address("James Smythe", "james@example.com")]),
        Group(
            "Friends",
            [Address(None, "jane@example.com"), Address("John Smîth", "john@example.com")],
        ),
    ]


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        (b"", []),
        (b" , ,", []),
        (b"undisclosed-recipients:;", []),
        (b"a@b.c", [(None, "a@b.c")]),
        (b"<a@b.c>", [(None, "a@b.c")]),
        (b'A <a@b>, c@d, "E, F" <e@f>', [("A", "a@b"), (None, "c@d"), ("E, F", "e@f")]),
        (b'"Joe \\"Q\\" P" <j@x>', [('Joe "Q" P', "j@x")]),
        (b'"A" "B" <x@y>', [("A B", "x@y")]),
        (b'"john doe"@x', [(None, '"john doe"@x')]),
        (b"jdoe@x (John Doe)", [(None, "jdoe@x")]),
        (
            b"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>",
            [("Pete", "pete@silly.test")],
        ),
        (b" john . doe @ example . com", [(None, "john.doe@example.com")]),
        (b"<@a,@b:user@c>", [(None, "user@c")]),
        (b"user@[IPv6:2001:db8::1]", [(None, "user@[IPv6:2001:db8::1]")]),
        (b'"=?utf-8?B?w6k=?=" <a@b>', [("é", "a@b")]),
        (b"=?utf-8?Q?Smith,_J?= <a@b>, c@d", [("Smith, J", "a@b"), (None, "c@d")]),
        ("日本 <a@例え.jp>".encode(), [("日本", "a@例え.jp")]),
        (b"J\xf6rg <j@x>", [("Jörg", "j@x")]),
        (b"A <a@b> B <c@d>", [("A", "a@b"), ("B", "c@d")]),
        (b"a@b; c@d", [(None, "a@b"), (None, "c@d")]),
        (b"<a@b", [(None, "a@b")]),
        (b"<a@b, c@d", [(None, "a@b"), (None, "c@d")]),
        (b"<<a@b>>", [(None, "a@b")]),
        (b"<mailto:a@b>", [(None, "a@b")]),
        (b'x "unclosed <a@b>, c@d', [('x "unclosed', "a@b"), (None, "c@d")]),
        (b"(unclosed a@b", []),
        (b"John Smith", [(None, "John Smith")]),
        (b"John Smith j@x", [("John Smith", "j@x")]),
        (b"Dr. No no@x", [("Dr. No", "no@x")]),
        (b"Name <>", [("Name", "")]),
        (
            b"A group (people)\r\n :C <c@(host.)x.y>,\r\n j@x; (end)",
            [("C", "c@x.y"), (None, "j@x")],
        ),
    ],
)
def test_addresses_form(value: bytes, addresses: list[tuple[str | None, str]]) -> None:
    assert [(a.name, a.email) for a in as_addresses(value)] == addresses


@pytest.mark.parametrize(
    "value",
    [
        b'"good@x.example" <evil@y.example>',
        b"good@x.example <evil@y.example>",
        b"=?utf-8?q?good=40x.example=3E=2C_=3Cgood=40x.example?= <evil@y.example>",
        b'"good@x.example, " <evil@y.example>',
        b"(good@x.example) <evil@y.example>",
        b"=?utf-8?q?=22?= <evil@y.example>",
    ],
)
def test_a_name_never_becomes_an_address(value: bytes) -> None:
    assert [a.email for a in as_addresses(value)] == ["evil@y.example"]


def test_addresses_stop_at_the_limit() -> None:
    assert len(as_addresses(b"a@b," * 12_000)) == 10_000
    assert len(as_addresses(b'"\\a" <a@b>,' * 12_000)) == 10_000


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        (b" <a@b>", ["a@b"]),
        (b"<a@b>\r\n <c@d>", ["a@b", "c@d"]),
        (b"<a@\r\n b>", ["a@b"]),
        (b"(c <x@y>) <a@b> (d)", ["a@b"]),
        (b"Your message of Friday <a@b>", ["a@b"]),
        (b"a@b", ["a@b"]),
        (b"a@b, c@d", ["a@b", "c@d"]),
        (b"<no-at-sign>", ["no-at-sign"]),
        (b"nonsense", None),
        (b"<>", None),
        (b"", None),
    ],
)
def test_message_ids_form(value: bytes, ids: list[str] | None) -> None:
    assert as_message_ids(value) == ids


@pytest.mark.parametrize(
    ("value", "date"),
    [
        (b" Thu, 30 Oct 2014 14:12:00 +0800", "2014-10-30T14:12:00+08:00"),
        (b"30 Oct 2014 14:12 +0000", "2014-10-30T14:12:00Z"),
        (b"30 Oct 14 14:12:00 EST", "2014-10-30T14:12:00-05:00"),
        (b"30 Oct 114 14:12:00 GMT", "2014-10-30T14:12:00Z"),
        (b"Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", "1997-11-21T09:55:06-06:00"),
        (b"Thu,\r\n 13\r\n Feb\r\n 1969 23:32 -0330 (Newfoundland)", "1969-02-13T23:32:00-03:30"),
        (b"Thu, 30 Oct 2014 14:12:60 -0000", "2014-10-30T14:12:59Z"),
        (b"Thu Oct 30 14:12:00 2014", "2014-10-30T14:12:00Z"),
        (b"Thu, 30 October 2014 14.12.00 +08:00", "2014-10-30T14:12:00+08:00"),
        (b"2014-10-30T14:12:00+08:00", "2014-10-30T14:12:00+08:00"),
        (b"Sat, 29 Feb 2020 00:00:00 +9999", "2020-02-29T00:00:00Z"),
        (b"29 Feb 2019 00:00:00 +0000", None),
        (b"31 Apr 2019 00:00:00 +0000", None),
        (b"30 Foo 2014 14:12:00 +0800", None),
        (b"30 Oct 2014 24:12:00 +0800", None),
        (b"yesterday", None),
        (b"", None),
    ],
)
def test_date_form(value: bytes, date: str | None) -> None:
    assert as_date(value) == date
    assert (date_ms(value) is None) == (date is None)


def test_date_in_milliseconds() -> None:
    assert date_ms(b"Thu, 30 Oct 2014 14:12:00 +0800") == 1_414_649_520_000
    assert date_ms(b"1 Jan 1970 00:00:00 +0000") == 0
    assert date_ms(b"31 Dec 1969 23:59:59 +0000") == -1000
    assert date_ms(b"1 Mar 2000 00:00:00 +0000") == 951_868_800_000


@pytest.mark.parametrize(
    ("value", "urls"),
    [
        (
            b"<mailto:l@host.com?subject=help> (List\r\n Instructions), <ftp://host.com/l.txt>",
            ["mailto:l@host.com?subject=help", "ftp://host.com/l.txt"],
        ),
        (b"<https://x/\r\n  y>", ["https://x/y"]),
        (b"NO (posting not allowed)", None),
        (b"", None),
    ],
)
def test_urls_form(value: bytes, urls: list[str] | None) -> None:
    assert as_urls(value) == urls


def test_forms_are_limited_for_the_fields_of_rfc_5322_and_rfc_2369() -> None:
    assert allowed_forms("Subject") == {"Raw", "Text"}
    assert allowed_forms("RESENT-TO") == {"Raw", "Addresses", "GroupedAddresses"}
    assert allowed_forms("Message-ID") == {"Raw", "MessageIds"}
    assert allowed_forms("Date") == {"Raw", "Date"}
    assert allowed_forms("List-Post") == {"Raw", "URLs"}
    assert allowed_forms("Received") == {"Raw"}
    assert allowed_forms("List-Id") == allowed_forms("X-Mine") == ALL_FORMS
    assert all(name == name.lower() for name in ALLOWED_FORMS)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(
            st.sampled_from(
                [
                    *(bytes([octet]) for octet in b'"\\()<>,:;@[]. '),
                    b"=?utf-8?q?",
                    b"=?utf-7?b?",
                    b"?=",
                    b"a",
                    b"\r\n ",
                    b"\xff",
                    b"12",
                    b"Oct",
                    b"2014",
                ]
            ),
            max_size=40,
        ).map(b"".join),
    )
)
def test_no_value_makes_a_form_fail_and_results_are_clean(value: bytes) -> None:
    as_raw(value).encode()
    as_text(value).encode()
    for group in as_grouped_addresses(value):
        for address in group.addresses:
            (address.email + (address.name or "")).encode()
            assert "\n" not in address.email
            assert "\r" not in (address.name or "")
    as_message_ids(value)
    as_urls(value)
    assert (as_date(value) is None) == (date_ms(value) is None)


@settings(max_examples=300, deadline=None)
@given(st.text(PRINTABLE, max_size=200), st.integers(10, 75))
def test_encoded_words_decode_to_what_was_encoded(text: str, first: int) -> None:
    words = encode_words(text, first)
    assert all(len(word) <= 75 and word.isascii() for word in words)
    assert len(words[0]) <= max(first, 32)
    assert decode_words("\r\n ".join(words)) == text
    assert decode_words(" ".join(words), is_phrase=True) == text
