"""The encoder: whatever the arguments hold, one command goes out and is read back the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tindra.wire.imap import verbs
from tindra.wire.imap.command import (
    LITERAL_MINUS_BYTES_MAX,
    AString,
    Atom,
    Command,
    DateTime,
    Dialect,
    FetchItem,
    Flag,
    Group,
    ListPattern,
    Mailbox,
    Message,
    Number,
    String,
    choose_dialect,
    encode_command,
    encode_date_time,
)
from tindra.wire.imap.errors import LocalProtocolError
from tindra.wire.imap.lexer import LineReader, Token, parse_tokens, read_bytes
from tindra.wire.imap.response import parse_internal_date
from tindra.wire.imap.utf7 import decode_mailbox

DIALECTS = st.sampled_from(
    [
        Dialect(),
        Dialect("minus"),
        Dialect("plus"),
        Dialect("plus", True),
        Dialect("sync", True, True),
    ]
)
OCTETS = st.one_of(
    st.binary(max_size=40),
    st.text('ab \r\n"\\{}()*%0', max_size=20).map(str.encode),
    st.integers(0, 9000).map(lambda size: b"x" * size),
).filter(lambda octets: b"\0" not in octets)
NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x7f", min_codepoint=0x20),
    min_size=1,
    max_size=30,
)


def as_server(pieces: list[list[bytes]]) -> list[list[Token]]:
    """The commands a server reads, giving its go-ahead between pieces and never sooner."""
    reader = LineReader("server")
    commands = []
    for index, piece in enumerate(pieces):
        if index:
            reader.accept_literal()
        for buffer in piece:
            reader.feed(buffer)
        while (line := reader.next_line()) is not None:
            commands.append(parse_tokens(line))
    assert reader.buffered_bytes == 0
    return commands


@given(OCTETS, OCTETS, NAMES, DIALECTS)
def test_any_argument_stays_one_argument(
    first: bytes, second: bytes, name: str, dialect: Dialect
) -> None:
    command = Command(name="X", arguments=(AString(first), Mailbox(name), String(second)))
    [tokens] = as_server(encode_command("t1", command, dialect))
    assert tokens[:2] == ["t1", "X"]
    assert read_bytes(tokens[2]) == first
    raw = read_bytes(tokens[3])
    expected = "INBOX" if name.isascii() and name.upper() == "INBOX" else name
    assert (raw.decode() if dialect.is_utf8 else decode_mailbox(raw)) == (
        name if dialect.is_utf8 else expected
    )
    assert tokens[4] == second
    assert len(tokens) == 5


@given(st.binary(max_size=60), st.sampled_from(["plus", "sync"]))
def test_any_message_arrives_octet_for_octet(raw: bytes, literal: str) -> None:
    dialect = Dialect("plus" if literal == "plus" else "sync", has_binary=True)
    command = verbs.append(Mailbox("Sent"), raw, ["\\Seen", "$Work"], 0)
    [tokens] = as_server(encode_command("t1", command, dialect))
    date = b"01-Jan-1970 00:00:00 +0000"
    assert tokens == ["t1", "APPEND", "Sent", ["\\Seen", "$Work"], date, raw]


@pytest.mark.parametrize(
    ("dialect", "octets", "pieces"),
    [
        (Dialect("plus"), 9000, 1),
        (Dialect("minus"), LITERAL_MINUS_BYTES_MAX, 1),
        (Dialect("minus"), LITERAL_MINUS_BYTES_MAX + 1, 2),
        (Dialect("sync"), 1, 2),
    ],
)
def test_a_literal_waits_exactly_when_the_server_wants_it(
    dialect: Dialect, octets: int, pieces: int
) -> None:
    command = Command(name="X", arguments=(Message(b"x" * octets),))
    assert len(encode_command("t1", command, dialect)) == pieces


@pytest.mark.parametrize("evil", ["a b", "a\r\nb", "", "a(", 'a"', "a{1}", "ä", "a%", "a*", "a\\b"])
def test_no_word_of_the_grammar_can_carry_syntax(evil: str) -> None:
    for make in (Atom, Flag, FetchItem):
        with pytest.raises(LocalProtocolError):
            make(evil)
    with pytest.raises(LocalProtocolError):
        Command(name=f"NOOP {evil}")


@pytest.mark.parametrize(
    "item", ["BODY[1]\r\nx", "BODY[HEADER.FIELDS (A)(B)]", "BODY[(]", "BODY[]<0.1> UID", "BODY[ ]"]
)
def test_fetch_items_are_whole_items(item: str) -> None:
    with pytest.raises(LocalProtocolError):
        FetchItem(item)


@pytest.mark.parametrize("flag", ["\\Recent", "\\RECENT", "\\*", "\\", "\\\\Seen"])
def test_flags_that_nobody_can_set_are_refused(flag: str) -> None:
    with pytest.raises(LocalProtocolError):
        Flag(flag)


def test_nul_is_refused_where_imap_cannot_hold_it() -> None:
    for make in (AString, String, Mailbox):
        with pytest.raises(LocalProtocolError):
            make(b"a\0b")
    command = Command(name="X", arguments=(Message(b"a\0b"),))
    with pytest.raises(LocalProtocolError):
        encode_command("t1", command, Dialect("plus"))


@pytest.mark.parametrize("value", [-1, 2**63])
def test_numbers_outside_of_imap_are_refused(value: int) -> None:
    with pytest.raises(LocalProtocolError):
        Number(value)


def test_no_password_is_shown() -> None:
    for command in (
        verbs.login("joe", "hunter2"),
        verbs.authenticate_plain("joe", "hunter2", is_initial=True),
        verbs.authenticate_xoauth2("joe", "hunter2", is_initial=False),
    ):
        assert "hunter2" not in repr(command)
        assert "hunter2" not in str(command)


def test_a_mailbox_called_nil_is_no_nil() -> None:
    pieces = encode_command("t1", verbs.create(Mailbox("NIL")), Dialect())
    assert pieces == [[b't1 CREATE "NIL"\r\n']]


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_every_moment_of_the_calendar_is_read_back(at_ms: int) -> None:
    DateTime(at_ms)
    assert parse_internal_date(encode_date_time(at_ms)[1:-1]) == at_ms - at_ms % 1000


@pytest.mark.parametrize("at_ms", [-62_135_596_800_001, 253_402_300_800_000])
def test_moments_outside_of_the_calendar_are_refused(at_ms: int) -> None:
    with pytest.raises(LocalProtocolError):
        DateTime(at_ms)


@pytest.mark.parametrize(
    ("command", "wire"),
    [
        (verbs.select(Mailbox("INBOX")), b"SELECT INBOX"),
        (verbs.select(Mailbox("a b"), read_only=True), b'EXAMINE "a b"'),
        (verbs.select(Mailbox("x"), condstore=True), b"SELECT x (CONDSTORE)"),
        (verbs.select(Mailbox("x"), known=(7, 9, [])), b"SELECT x (QRESYNC (7 9))"),
        (verbs.select(Mailbox("x"), known=(7, 9, [(1, 4)])), b"SELECT x (QRESYNC (7 9 1:4))"),
        (
            verbs.uid_fetch([(1, 2), (9, 9)], ["UID", "BODY.PEEK[]<0.10>"]),
            b"UID FETCH 1:2,9 (UID BODY.PEEK[]<0.10>)",
        ),
        (
            verbs.uid_fetch([(3, 2**32 - 1)], ["UID"], changed_since=5, vanished=True),
            b"UID FETCH 3:* (UID) (CHANGEDSINCE 5 VANISHED)",
        ),
        (
            verbs.uid_store([(1, 1)], "add", ["\\Seen"], unchanged_since=4),
            b"UID STORE 1 (UNCHANGEDSINCE 4) +FLAGS.SILENT (\\Seen)",
        ),
        (verbs.uid_store([(1, 1)], "replace", []), b"UID STORE 1 FLAGS.SILENT ()"),
        (verbs.uid_move([(1, 3)], Mailbox("Müll")), b"UID MOVE 1:3 M&APw-ll"),
        (verbs.uid_copy([(1, 3)], Mailbox("x")), b"UID COPY 1:3 x"),
        (verbs.uid_expunge([(5, 5)]), b"UID EXPUNGE 5"),
        (verbs.uid_search(), b"UID SEARCH ALL"),
        (verbs.uid_search(extended=True), b"UID SEARCH RETURN (ALL COUNT) ALL"),
        (verbs.uid_search(flag="DELETED"), b"UID SEARCH DELETED"),
        (verbs.list_mailboxes(), b'LIST "" "*"'),
        (
            verbs.list_mailboxes(special_use=True, status=["MESSAGES"]),
            b'LIST "" "*" RETURN (SPECIAL-USE STATUS (MESSAGES))',
        ),
        (verbs.status(Mailbox("x"), ["UIDNEXT"]), b"STATUS x (UIDNEXT)"),
        (verbs.identify({"name": "Tindra"}), b'ID ("name" "Tindra")'),
        (verbs.identify({}), b"ID NIL"),
        (verbs.enable("QRESYNC"), b"ENABLE QRESYNC"),
        (verbs.rename(Mailbox("a"), Mailbox("b")), b"RENAME a b"),
        (verbs.delete(Mailbox("a")), b"DELETE a"),
        (verbs.subscribe(Mailbox("a")), b"SUBSCRIBE a"),
        (verbs.unsubscribe(Mailbox("a")), b"UNSUBSCRIBE a"),
        (Command(name="X", arguments=(Group([]), ListPattern("a%"))), b'X () "a%"'),
    ],
)
def test_commands_as_they_are_written(command: Command, wire: bytes) -> None:
    assert encode_command("t1", command, Dialect()) == [[b"t1 " + wire + b"\r\n"]]


def test_the_dialect_follows_what_the_server_can() -> None:
    assert choose_dialect(frozenset(), frozenset()) == Dialect("sync")
    assert choose_dialect(frozenset({"LITERAL-"}), frozenset()) == Dialect("minus")
    assert choose_dialect(frozenset({"LITERAL-", "LITERAL+"}), frozenset()) == Dialect("plus")
    told = choose_dialect(frozenset({"IMAP4REV2", "BINARY"}), frozenset({"UTF8=ACCEPT"}))
    assert told == Dialect("minus", has_binary=True, is_utf8=True)
