"""Mailbox names and UID sets: round trips, odd spellings, hostile sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tindra.wire.imap.errors import LocalProtocolError, RemoteProtocolError
from tindra.wire.imap.seqset import (
    UID_MAX,
    UidRange,
    compact_uids,
    count_uids,
    encode_uid_set,
    expand_uids,
    has_uid,
    merge_ranges,
    parse_uid_list,
    parse_uid_set,
    split_ranges,
)
from tindra.wire.imap.utf7 import decode_mailbox, encode_mailbox, is_faithful

NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x7f", min_codepoint=0x20),
    min_size=1,
    max_size=40,
)
UIDS = st.one_of(st.integers(1, 60), st.integers(1, UID_MAX))
RANGES = st.lists(st.tuples(UIDS, UIDS), min_size=1, max_size=20)


@given(NAMES)
def test_every_name_survives_the_wire(name: str) -> None:
    raw = encode_mailbox(name)
    assert raw.isascii()
    expected = "INBOX" if name.upper() == "INBOX" and name.isascii() else name
    assert decode_mailbox(raw) == expected


@given(st.binary(max_size=40))
def test_any_octets_have_a_name(raw: bytes) -> None:
    name = decode_mailbox(raw)
    if is_faithful(raw):
        assert encode_mailbox(name) == raw


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"),
        (b"Entw&APw-rfe", "Entwürfe"),
        (b"A&-B", "A&B"),
        (b"&2D3eAA-", "😀"),
        (b"inbox", "INBOX"),
        (b"Inbox/x", "Inbox/x"),
        ("Entwürfe".encode(), "Entwürfe"),
        (b"caf\xe9", "café"),
        (b"broken & shift", "broken & shift"),
        (b"&!!!-", "&!!!-"),
    ],
)
def test_names_as_servers_write_them(raw: bytes, name: str) -> None:
    assert decode_mailbox(raw) == name


@pytest.mark.parametrize("raw", [b"Entw\xc3\xbcrfe", b"broken & shift", b"&AGE-", b"inbox"])
def test_odd_spellings_are_known_as_such(raw: bytes) -> None:
    assert not is_faithful(raw)


@pytest.mark.parametrize("name", ["", "a\r\nb", "a\x00", "\ud800", "x" * 5000])
def test_names_that_no_server_can_have_are_refused(name: str) -> None:
    with pytest.raises(LocalProtocolError):
        encode_mailbox(name)


@given(RANGES)
def test_sets_survive_the_wire(ranges: list[UidRange]) -> None:
    merged = merge_ranges(ranges)
    assert parse_uid_set(encode_uid_set(merged), star=UID_MAX) == merged
    assert parse_uid_set(encode_uid_set(merge_ranges(reversed(ranges))), star=UID_MAX) == merged


@given(st.lists(st.integers(1, 80), min_size=1))
def test_a_set_holds_exactly_its_members(uids: list[int]) -> None:
    ranges = compact_uids(uids)
    assert expand_uids(ranges) == sorted(set(uids))
    assert count_uids(ranges) == len(set(uids))
    assert ranges == merge_ranges((uid, uid) for uid in uids)
    assert [uid for uid in range(82) if has_uid(ranges, uid)] == sorted(set(uids))


@given(RANGES, st.one_of(st.none(), st.integers(1, 2**32)), st.integers(1, 5))
def test_pieces_join_to_the_whole_and_keep_the_bounds(
    ranges: list[UidRange], uids_max: int | None, ranges_max: int
) -> None:
    merged = merge_ranges(ranges)
    if uids_max is not None and count_uids(merged) // uids_max > 1000:
        uids_max = None
    pieces = list(split_ranges(merged, uids_max, ranges_max))
    assert merge_ranges(pair for piece in pieces for pair in piece) == merged
    assert all(len(piece) <= ranges_max for piece in pieces)
    if uids_max is not None:
        assert all(count_uids(piece) <= uids_max for piece in pieces)


def test_order_is_kept_where_sets_pair_up() -> None:
    assert parse_uid_list("304,319:320,7:5") == [(304, 304), (319, 320), (5, 7)]


@pytest.mark.parametrize("text", ["", ",", "0", "1:", ":1", "*", "1:*", "a", "1,,2", "4294967296"])
def test_what_is_no_set_is_an_error(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_uid_set(text)


@given(st.text("0123456789:,*", max_size=30))
def test_any_text_is_a_set_or_an_error(text: str) -> None:
    try:
        ranges = parse_uid_set(text, star=10)
    except RemoteProtocolError:
        return
    assert ranges == merge_ranges(ranges)


def test_a_giant_set_costs_nothing_until_it_is_expanded() -> None:
    ranges = parse_uid_set("1:4294967295")
    assert ranges == [(1, UID_MAX)]
    with pytest.raises(RemoteProtocolError):
        expand_uids(ranges)


@pytest.mark.parametrize("ranges", [[], [(0, 1)], [(2, 1)], [(1, UID_MAX + 1)]])
def test_sets_that_cannot_be_written_are_refused(ranges: list[UidRange]) -> None:
    with pytest.raises(LocalProtocolError):
        encode_uid_set(ranges)
