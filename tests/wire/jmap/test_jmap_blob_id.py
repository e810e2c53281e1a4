"""Ids of body parts: a range of a message and its encoding. Source: RFC 8621 s4.1.4"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tindra.base.ids import is_id
from tindra.wire.jmap.blob_id import PART_ENCODINGS, encode_part_blob_id, parse_part_blob_id


@given(
    st.text("abc019_-", min_size=1, max_size=40),
    st.integers(0, 2**40 - 1),
    st.integers(0, 2**40 - 1),
    st.sampled_from(sorted(PART_ENCODINGS)),
)
def test_what_is_written_is_read_back(blob_id: str, one: int, two: int, encoding: str) -> None:
    start, end = sorted((one, two))
    id = encode_part_blob_id(blob_id, start, end, encoding)
    assert is_id(id)
    assert parse_part_blob_id(id) == (blob_id, start, end, encoding)


def test_an_encoding_that_nobody_can_undo_is_taken_as_none_at_all() -> None:
    assert encode_part_blob_id("b", 0, 16, "x-secret") == "b_0_10_binary"


@pytest.mark.parametrize(
    "text",
    [
        "", "b", "b_0_10", "b_0_10_", "b_0_10_gzip", "_0_10_base64", "b_10_0_base64",
        "b_00_10_7bit", "b_0_0x10_7bit", "b_0_-1_7bit", "b_0_G_7bit", "b_0_A_7bit", "b__1_7bit",
        "b_0_١_7bit", "b_0_10_BASE64", "b 0_10_7bit_0_1_7bit", "b_0_12345678901_7bit", "é_0_1_7bit",
    ],
)  # fmt: skip
def test_what_was_never_ours_is_no_part(text: str) -> None:
    assert parse_part_blob_id(text) is None


@given(st.text(max_size=40))
def test_any_text_gives_a_part_or_none_and_one_part_has_one_id(text: str) -> None:
    found = parse_part_blob_id(text)
    if found is not None:
        assert encode_part_blob_id(*found) == text
