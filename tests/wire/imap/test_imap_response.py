"""Typed readers: what each line of a server means, odd ones included."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.imap.test_imap_lexer import HOSTILE, read_all
from tindra.wire.imap.errors import RemoteProtocolError
from tindra.wire.imap.lexer import Line
from tindra.wire.imap.response import (
    HUMAN_TEXT_CHARS_MAX,
    Capability,
    Code,
    Enabled,
    ESearch,
    Exists,
    Expunge,
    Fetch,
    Flags,
    GoAhead,
    ListItem,
    MailboxStatus,
    Malformed,
    Other,
    Quota,
    QuotaRoots,
    Response,
    Search,
    ServerId,
    Status,
    Vanished,
    parse_internal_date,
    parse_response,
    read_append_uid,
    read_copy_uid,
)

JAN = 1_704_103_445_000  # 2024-01-01 10:04:05 UTC


def parse(wire: bytes) -> Response:
    """The one response in `wire`."""
    lines, error = read_all(wire + b"\r\n")
    assert error is None
    [line] = lines
    return parse_response(line)


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (b"* OK hello", Status(None, "OK", None, "hello")),
        (b"* ok", Status(None, "OK", None, "")),
        (b"t1 NO [ALERT] too much", Status("t1", "NO", Code("ALERT"), "too much")),
        (b"* OK [UIDVALIDITY 38] x", Status(None, "OK", Code("UIDVALIDITY", ["38"]), "x")),
        (b'* QUOTAROOT INBOX "" "User quota"', QuotaRoots(b"INBOX", [b"", b"User quota"])),
        (b"* QUOTAROOT {5}\r\nINBOX", QuotaRoots(b"INBOX", [])),
        (b'* QUOTA "" (STORAGE 10 512)', Quota(b"", {"STORAGE": (10, 512)})),
        (
            b'* QUOTA "User quota" (STORAGE 1 2 message 3 4)',
            Quota(b"User quota", {"STORAGE": (1, 2), "MESSAGE": (3, 4)}),
        ),
        (b"* QUOTA r ()", Quota(b"r", {})),
        (b"* QUOTA r (STORAGE 7 -1 MESSAGE 1 2)", Quota(b"r", {"MESSAGE": (1, 2)})),
        (b"* QUOTA r (STORAGE 7", Malformed("QUOTA", "1 parentheses left open")),
        (b"* OK [UIDNEXT 7]", Status(None, "OK", Code("UIDNEXT", ["7"]), "")),
        (
            b"* OK [PERMANENTFLAGS (\\Seen \\*)] x",
            Status(None, "OK", Code("PERMANENTFLAGS", [["\\Seen", "\\*"]]), "x"),
        ),
        (b'* NO [X "a]b"] y', Status(None, "NO", Code("X", [b"a]b"]), "y")),
        (b"* OK [unclosed x", Status(None, "OK", None, "[unclosed x")),
        (b"* OK [FOO (] x", Status(None, "OK", Code("FOO"), "x")),
        (b"* BYE [UNAVAILABLE] gr\xc3\xbc\xc3\x9fe", None),
        (b"+ ready", GoAhead("ready")),
        (b"+", GoAhead("")),
        (b"* CAPABILITY IMAP4rev1 idle", Capability(frozenset({"IMAP4REV1", "IDLE"}))),
        (b"* ENABLED", Enabled(frozenset())),
        (b"* ENABLED QRESYNC", Enabled(frozenset({"QRESYNC"}))),
        (
            b'* LIST (\\HasNoChildren \\Sent) "/" "Sent Items"',
            ListItem(frozenset({"\\hasnochildren", "\\sent"}), "/", b"Sent Items"),
        ),
        (b"* LIST () NIL NIL", ListItem(frozenset(), None, b"NIL")),
        (b'* LIST () "." {3}\r\na"b', ListItem(frozenset(), ".", b'a"b')),
        (b'* LIST () "\\\\" [Gmail]/All', ListItem(frozenset(), "\\", b"[Gmail]/All")),
        (
            b'* LIST () "/" x ("OLDNAME" ("y"))',
            ListItem(frozenset(), "/", b"x"),
        ),
        (
            b"* STATUS x (MESSAGES 3 UIDNEXT 9 HIGHESTMODSEQ 99999999999 MAILBOXID (f1))",
            MailboxStatus(b"x", {"MESSAGES": 3, "UIDNEXT": 9, "HIGHESTMODSEQ": 99999999999}),
        ),
        (b"* FLAGS (\\SEEN $Work)", Flags(frozenset({"\\Seen", "$Work"}))),
        (b"* 3 EXISTS", Exists(3)),
        (b"* 3 EXPUNGE", Expunge(3)),
        (b"* 3 RECENT", Other("RECENT")),
        (b"* VANISHED (EARLIER) 1:3,9", Vanished([(1, 3), (9, 9)], is_earlier=True)),
        (b"* vanished 4", Vanished([(4, 4)], is_earlier=False)),
        (b"* SEARCH", Search([], None)),
        (b"* SEARCH 3 1 2", Search([3, 1, 2], None)),
        (b"* SEARCH 3 (MODSEQ 917162500)", Search([3], 917162500)),
        (
            b'* ESEARCH (TAG "t3") UID ALL 1:2,5 COUNT 3',
            ESearch("t3", True, [(1, 2), (5, 5)], 3, None),
        ),
        (b'* ESEARCH (TAG "t3") UID COUNT 0', ESearch("t3", True, None, 0, None)),
        (b"* ESEARCH", ESearch(None, False, None, None, None)),
        (b'* ID ("Name" "Dovecot" "x" NIL)', ServerId({"name": "Dovecot"})),
        (b"* ID NIL", ServerId({})),
        (b"* XYZZY plugh", Other("XYZZY")),
    ],
)
def test_what_a_line_says(wire: bytes, expected: Response | None) -> None:
    if expected is None:
        expected = Status(None, "BYE", Code("UNAVAILABLE"), "grüße")
    assert parse(wire) == expected


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (b"UID 5 FLAGS (\\seen $x)", Fetch(1, uid=5, flags=frozenset({"\\Seen", "$x"}))),
        (b"FLAGS () UID 5", Fetch(1, uid=5, flags=frozenset())),
        (b"UID 5 MODSEQ (77)", Fetch(1, uid=5, modseq=77)),
        (b"UID 5 MODSEQ 77", Fetch(1, uid=5, modseq=77)),
        (b"UID 5 RFC822.SIZE 12", Fetch(1, uid=5, size=12)),
        (
            b'UID 5 INTERNALDATE " 1-Jan-2024 11:04:05 +0100"',
            Fetch(1, uid=5, internal_date_ms=JAN),
        ),
        (b'UID 5 INTERNALDATE "yesterday"', Fetch(1, uid=5)),
        (b"UID 5 INTERNALDATE NIL", Fetch(1, uid=5)),
        (b"UID 5 BODY[] {3}\r\na)b", Fetch(1, uid=5, body=b"a)b")),
        (b"UID 5 BODY[]<0> ~{2}\r\n\x00b", Fetch(1, uid=5, body=b"\0b")),
        (b"UID 5 BODY[] NIL", Fetch(1, uid=5, body=b"")),
        (b'UID 5 BODY[] ""', Fetch(1, uid=5, body=b"")),
        (b"UID 5 BODY[HEADER] {1}\r\nx", Fetch(1, uid=5, sections={"HEADER": b"x"})),
        (b"UID 5 EMAILID (M6d99) X-GM-MSGID 1278455", Fetch(1, uid=5)),
        (b'UID 5 ENVELOPE ("x" (("a" NIL "b" "c")) NIL)', Fetch(1, uid=5)),
        (b"UID 5 FLAGS (1 (x) \\Seen)", Fetch(1, uid=5, flags=frozenset({"1", "\\Seen"}))),
        (b"UID 5 FLAGS", Fetch(1, uid=5)),
        (b"", Fetch(1)),
    ],
)
def test_fetch_takes_what_comes(items: bytes, expected: Fetch) -> None:
    assert parse(b"* 1 FETCH (" + items + b")") == expected


@pytest.mark.parametrize(
    ("wire", "keyword"),
    [
        (b"* VANISHED", "VANISHED"),
        (b"* VANISHED (EARLIER)", "VANISHED"),
        (b"* VANISHED (EARLIER) 1:x", "VANISHED"),
        (b"* VANISHED 0", "VANISHED"),
        (b"* 1 FETCH (UID x)", "FETCH"),
        (b"* 1 FETCH (UID 5", "FETCH"),
        (b'* LIST () "/" "foo"bar"', "LIST"),
        (b"* LIST ()", "LIST"),
        (b"* STATUS x", "STATUS"),
        (b"* SEARCH 1 x", "SEARCH"),
        (b"* SEARCH 12345678901", "SEARCH"),
        (b"* ESEARCH UID ALL x", "ESEARCH"),
    ],
)
def test_what_cannot_be_read_is_said_to_be_so(wire: bytes, keyword: str) -> None:
    found = parse(wire)
    assert isinstance(found, Malformed)
    assert found.keyword == keyword


@pytest.mark.parametrize("wire", [b"", b"hello", b"t1 MAYBE x", b"*", b"* ", b"* \xff"])
def test_what_is_no_response_is_an_error(wire: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse(wire)


@given(
    st.sampled_from([b"* ", b"* 1 FETCH (", b"* LIST ", b"t1 OK [", b"* ESEARCH ", b""]), HOSTILE
)
def test_any_line_is_a_response_or_an_error(start: bytes, rest: bytes) -> None:
    lines, _ = read_all(start + rest + b"\r\n")
    for line in lines:
        try:
            parse_response(line)
        except RemoteProtocolError:
            continue


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"01-Jan-2024 10:04:05 +0000", JAN),
        (b"1-Jan-2024 10:04:05 +0000", JAN),
        (b"01-JAN-2024 05:04:05 -0500", JAN),
        (b"01-Jan-2024 10:04:05", JAN),
        (b"32-Jan-2024 10:04:05 +0000", None),
        (b"01-Foo-2024 10:04:05 +0000", None),
        (b"01-Jan-0000 10:04:05 +0000", None),
        (b"01-Jan-2024 25:04:05 +0000", None),
        (b"", None),
    ],
)
def test_dates_as_servers_write_them(text: bytes, expected: int | None) -> None:
    assert parse_internal_date(text) == expected


def test_copyuid_pairs_by_position() -> None:
    code = Code("COPYUID", ["38505", "304,319:320", "3956:3958"])
    assert read_copy_uid(code) == {304: 3956, 319: 3957, 320: 3958}
    assert read_copy_uid(Code("COPYUID", ["1", "3,1", "8:9"])) == {3: 8, 1: 9}


@pytest.mark.parametrize(
    "code",
    [
        None,
        Code("COPYUID"),
        Code("COPYUID", ["1", "1:2", "3"]),
        Code("COPYUID", ["1", "x", "3"]),
        Code("COPYUID", ["1", "1:4294967295", "1:4294967295"]),
        Code("APPENDUID", ["1", "2"]),
    ],
)
def test_a_copyuid_that_does_not_pair_up_tells_nothing(code: Code | None) -> None:
    assert read_copy_uid(code) == {}


def test_appenduid_is_one_uid() -> None:
    assert read_append_uid(Code("APPENDUID", ["38505", "3955"])) == (38505, 3955)
    assert read_append_uid(Code("APPENDUID", ["38505", "3955:3956"])) is None
    assert read_append_uid(Code("APPENDUID", ["x", "1"])) is None
    assert read_append_uid(None) is None


def test_human_text_is_bounded_and_of_one_line() -> None:
    found = parse_response(Line(["* NO " + "x\x07" * 10_000]))
    assert isinstance(found, Status)
    assert len(found.text) <= HUMAN_TEXT_CHARS_MAX
    assert found.text.isprintable()


def test_a_search_answer_for_a_giant_mailbox_is_read() -> None:
    found = parse(b"* SEARCH " + b" ".join(b"%d" % n for n in range(1, 400_001)))
    assert isinstance(found, Search)
    assert found.found[-1] == 400_000
