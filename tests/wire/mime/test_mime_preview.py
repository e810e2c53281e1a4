"""The preview line (RFC 8621 s4.1.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tindra.wire.mime.preview import make_preview


@pytest.mark.parametrize(
    ("text", "preview"),
    [
        ("", ""),
        ("Hi Bob,\n\n  thanks \t for\u00a0this. \n", "Hi Bob, thanks for this."),
        ("Answer\n\nOn Mon, 3 Nov 2025 at 10:00, Al <al@x.org>\nwrote:\n> old\n> text\n", "Answer"),
        ("Am 3.11.2025 schrieb Al:\n> alt\n\nNeu", "Neu"),
        ("Le 3 nov. 2025, Al a écrit :\n\n> vieux\n\nRéponse", "Réponse"),
        ("2025/11/3 Al <al@x>:\n> old\nmine", "mine"),
        ("Thanks!\nOn Mon 3 Nov, Al wrote:\n\n> q", "Thanks!"),
        ("> only quoted\n>> deeper\n", "only quoted deeper"),
        ("My list:\n\n- one\n- two", "My list: - one - two"),
        ("Text\n-- \nSignature", "Text"),
        ("-- \nOnly a signature", "-- Only a signature"),
        ("Look:\n-----Original Message-----\nFrom: x\nSent: y", "Look:"),
        ("=====\n[image: Logo]\nHello <https://example.com/very/long> there", "Hello there"),
        ("\u200b\u200c\ufeffvisible\u00ad", "visible"),
    ],
)
def test_previews(text: str, preview: str) -> None:
    assert make_preview(text) == preview


def test_a_preview_is_cut_between_words_where_there_are_any() -> None:
    assert make_preview("word " * 100, 22) == "word word word word"
    assert make_preview("x" * 1000) == "x" * 256
    assert make_preview("ab cd", 2) == "ab"


@given(st.text(max_size=400), st.integers(1, 40))
def test_a_preview_is_one_short_line(text: str, chars_max: int) -> None:
    preview = make_preview(text, chars_max)
    assert len(preview) <= chars_max
    assert "\n" not in preview
    assert "  " not in preview
