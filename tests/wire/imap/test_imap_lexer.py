"""Logical lines and tokens: any chunking, any bytes, every limit, linear time."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tindra.wire.imap.errors import LocalProtocolError, RemoteProtocolError
from tindra.wire.imap.lexer import (
    Limits,
    Line,
    LineReader,
    SkippedLiteral,
    Token,
    parse_text_tokens,
    parse_tokens,
    read_number,
)

# Bytes that are likely to mean something.
_SPICE = st.sampled_from(
    [
        *(b"{3}\r\n", b"{2+}\r\n", b"~{1}\r\n", b"{99}\r\n", b"{", b"}", b"\r\n", b"\n"),
        *(b'"', b"\\", b"(", b")", b"[", b"]", b" ", b"BODY[", b"NIL", b"* OK ", b"a1 ", b"\xff"),
    ]
)
HOSTILE = st.lists(st.one_of(_SPICE, st.binary(max_size=6)), max_size=30).map(b"".join)
ATOM_TEXT = st.text("abcXYZ0123456789$\\*.-:,", min_size=1, max_size=12).filter(
    lambda text: text.upper() != "NIL"
)


def read_all(data: bytes, cuts: list[int] | None = None) -> tuple[list[Line], str | None]:
    """Every line of `data` fed in pieces, and the error if there was one."""
    reader = LineReader("client")
    lines: list[Line] = []
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts or [])})
    try:
        for start, stop in itertools.pairwise(edges):
            reader.feed(data[start:stop])
            while (line := reader.next_line()) is not None:
                lines.append(line)
    except RemoteProtocolError as error:
        return lines, str(error)
    return lines, None


@given(HOSTILE, st.lists(st.integers(0, 500)))
def test_chunking_changes_nothing(data: bytes, cuts: list[int]) -> None:
    assert read_all(data, cuts) == read_all(data)


@given(HOSTILE)
def test_any_bytes_give_tokens_or_a_named_error(data: bytes) -> None:
    lines, _ = read_all(data + b"\r\n")
    for line in lines:
        try:
            tokens = parse_tokens(line)
        except RemoteProtocolError:
            continue
        assert isinstance(tokens, list)


def _write(token: Token, style: int) -> bytes:
    """A token in one of the spellings that IMAP has for it."""
    if token is None:
        return b"nil" if style % 2 else b"NIL"
    if isinstance(token, str):
        return token.encode("ascii")
    if isinstance(token, list):
        return b"(" + b" ".join(_write(member, style + i) for i, member in enumerate(token)) + b")"
    if style % 3 == 0 and b"\r" not in token and b"\n" not in token:
        return b'"' + token.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    mark = b"~" if style % 3 == 1 else b""
    return mark + b"{%d}\r\n" % len(token) + token


TOKENS: st.SearchStrategy[Token] = st.recursive(
    st.one_of(st.none(), ATOM_TEXT, st.binary(max_size=20)),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(TOKENS, min_size=1, max_size=6), st.integers(0, 5), st.lists(st.integers(0, 300)))
def test_what_is_written_in_any_spelling_is_read_back(
    tokens: list[Token], style: int, cuts: list[int]
) -> None:
    wire = b" ".join(_write(token, style + i) for i, token in enumerate(tokens)) + b"\r\n"
    lines, error = read_all(wire, cuts)
    assert error is None
    assert [parse_tokens(line) for line in lines] == [tokens]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ('* 1 FETCH (UID 5 BODY[] "x")', ["*", "1", "FETCH", ["UID", "5", "BODY[]", b"x"]]),
        (
            "BODY.PEEK[HEADER.FIELDS (DATE FROM)]<0.5> x",
            ["BODY.PEEK[HEADER.FIELDS (DATE FROM)]<0.5>", "x"],
        ),
        ("(a)(b)", [["a"], ["b"]]),
        ('"a\\"b\\\\" "" NIL "NIL"', [b'a"b\\', b"", None, b"NIL"]),
        ("\\Seen $x [Gmail]/All", ["\\Seen", "$x", "[Gmail]/All"]),
        ("", []),
    ],
)
def test_spellings_of_the_grammar(text: str, tokens: list[Token]) -> None:
    assert parse_text_tokens(text) == tokens


@pytest.mark.parametrize("text", ["(", ")", '"', '"a\\"', "a (b", "\x01", '("a) b'])
def test_broken_syntax_is_a_named_error(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_text_tokens(text)


def test_a_line_over_a_megabyte_and_a_large_literal_come_whole() -> None:
    numbers = " ".join(str(n) for n in range(300_000))
    body = bytes(range(256)) * 40_000
    wire = f"* SEARCH {numbers}\r\n* 1 FETCH (BODY[] {{{len(body)}}}\r\n".encode() + body + b")\r\n"
    reader = LineReader("client")
    lines = []
    for start in range(0, len(wire), 65536):
        reader.feed(wire[start : start + 65536])
        while (line := reader.next_line()) is not None:
            lines.append(line)
    assert len(parse_tokens(lines[0])) == 300_002
    assert parse_tokens(lines[1])[3] == ["BODY[]", body]
    assert reader.buffered_bytes == 0


@pytest.mark.parametrize("line", ["* OK see {5}", "a1 NO no such box {10}", "* BYE {1}", "+ {3}"])
def test_human_text_of_a_server_is_no_literal(line: str) -> None:
    lines, _ = read_all(f"{line}\r\nnext\r\n".encode())
    assert [one.text for one in lines] == [line, "next"]


def test_the_server_end_waits_for_its_own_go_ahead() -> None:
    reader = LineReader("server")
    reader.feed(b"a LOGIN {3}\r\nx")
    assert reader.next_line() is None
    assert reader.literal_pending is not None
    assert (reader.literal_pending.octets, reader.literal_pending.is_sync) == (3, True)
    assert reader.partial == Line(["a LOGIN "])
    reader.accept_literal()
    reader.feed(b"yz {2+}\r\nab\r\n")
    line = reader.next_line()
    assert line is not None
    assert parse_tokens(line) == ["a", "LOGIN", b"xyz", b"ab"]
    with pytest.raises(LocalProtocolError):
        reader.accept_literal()


def test_a_refused_literal_takes_its_command_along() -> None:
    reader = LineReader("server")
    reader.feed(b"a APPEND x {99999}\r\n")
    assert reader.next_line() is None
    reader.refuse_literal()
    reader.feed(b"b NOOP\r\n")
    assert reader.next_line() == Line(["b NOOP"])


@pytest.mark.parametrize(
    ("limits", "data"),
    [
        (Limits(line_bytes=10), b"x" * 11),
        (Limits(line_bytes=10), b"abcdef {1}\r\nxabcdef"),
        (Limits(literal_bytes=10), b"{11}\r\n"),
        (Limits(literal_bytes=10), b"{6}\r\n123456 {6}\r\n"),
        (Limits(literal_count=2), b"{0}\r\n{0}\r\n{0}\r\n"),
        (Limits(), b"{99999999999999999999}\r\n"),
    ],
)
def test_each_limit_of_the_reader_is_an_error_that_stays(limits: Limits, data: bytes) -> None:
    reader = LineReader("client", limits)
    reader.feed(data)
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            reader.next_line()


@pytest.mark.parametrize(
    ("limits", "text"),
    [(Limits(nesting=3), "((((a))))"), (Limits(tokens=3), "a b c d")],
)
def test_each_limit_of_the_tokenizer(limits: Limits, text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_text_tokens(text, limits)


@pytest.mark.parametrize(
    "seed", ["[", "]", '"', "BODY[", "BODY[a", "(", ")", "\\", '\\"', '"a\\"', "{", "NIL ", "a["]
)
def test_hostile_repetition_costs_one_pass(seed: str) -> None:
    text = seed * (2_000_000 // len(seed))
    before = time.perf_counter()
    try:
        parse_text_tokens(text)
    except RemoteProtocolError:
        pass
    assert time.perf_counter() - before < 10, "quadratic work on two million octets takes hours"


def test_octets_that_drip_in_are_not_scanned_again() -> None:
    before = time.perf_counter()
    reader = LineReader("client")
    for _ in range(200_000):
        reader.feed(b"a")
        assert reader.next_line() is None
    reader = LineReader("client")
    reader.feed(b"{200000}\r\n")
    for _ in range(200_000):
        reader.feed(b"b")
        assert reader.next_line() is None
    assert time.perf_counter() - before < 20, "rescanning would take minutes"


@pytest.mark.parametrize("token", ["", "-1", "1x", "²", "9" * 20, None, ["1"], b"x"])
def test_what_is_no_number_is_an_error(token: Token) -> None:
    with pytest.raises(RemoteProtocolError):
        read_number(token)


@pytest.mark.parametrize("chunk", [1, 7, 5000, 100_000])
def test_a_literal_above_what_is_kept_is_read_past(chunk: int) -> None:
    reader = LineReader("client", Limits(literal_kept_bytes=10))
    wire = b"* 1 FETCH (UID 7 BODY[] {50000}\r\n" + b"x" * 50_000 + b" FLAGS ())\r\n* 2 EXISTS\r\n"
    held = 0
    lines = []
    for at in range(0, len(wire), chunk):
        reader.feed(wire[at : at + chunk])
        while (line := reader.next_line()) is not None:
            lines.append(line)
        held = max(held, reader.buffered_bytes)
    assert held < 10_000
    assert [line.text for line in lines] == ["* 1 FETCH (UID 7 BODY[] ", "* 2 EXISTS"]
    assert isinstance(lines[0].parts[1], SkippedLiteral)
    assert lines[0].parts[2] == " FLAGS ())"


def test_a_literal_without_end_is_not_read_past() -> None:
    reader = LineReader("client")
    reader.feed(b"* 1 FETCH (BODY[] {99999999999999999999}\r\n")
    with pytest.raises(RemoteProtocolError):
        reader.next_line()
