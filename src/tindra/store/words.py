"""How search text becomes words, the same for indexing, for SQL and for the store in memory.

Pure code, no database. Source: RFC 8621 s4.4.1 leaves matching to the server and asks for words and
quoted phrases; ours are: every word or phrase must occur, case and Latin accents do not matter, a
`*` at the end of a word stands for any ending, punctuation separates words. Writing systems
without spaces are split into single characters on both sides, so any part of a run can be found.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final, NamedTuple

QUERY_WORDS_MAX: Final = 64
"""Words and phrases of one search text that are looked up; the rest is ignored."""
QUERY_TEXT_CHARS_MAX: Final = 4_096
"""Characters of one search text that are read."""

COLUMNS: Final = ("from_", "to", "cc", "bcc", "subject", "body")
"""Columns of the index, in order; the same names as in SearchDocument."""

_PIECE: Final = re.compile(
    r'"((?:[^"\\]|\\.)*)"(?=\s|\Z)' r"|'((?:[^'\\]|\\.)*)'(?=\s|\Z)" r"|(\S+)", re.DOTALL
)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_UNSPACED: Final = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff])"
)
"""Thai, Lao, Burmese, Khmer, kana, Han, Hangul: no spaces between words, or none before endings."""


class Phrase(NamedTuple):
    """Words that must stand next to each other."""

    text: str
    is_prefix: bool
    """The last word may go on."""


def split_script(text: str) -> str:
    """`text` with each character of an unspaced writing system set apart. Cost: O(n)"""
    if text.isascii():
        return text
    return _UNSPACED.sub(r" \1 ", text)


def parse_phrases(text: str) -> list[Phrase]:
    """The words and quoted phrases of a search text that have any letter or digit.

    Source: RFC 8621 s4.4.1
    """
    found: list[Phrase] = []
    for match in _PIECE.finditer(text[:QUERY_TEXT_CHARS_MAX]):
        double, single, word = match.groups()
        if word is not None:
            phrase = Phrase(word, word.endswith("*"))
        else:
            phrase = Phrase(_ESCAPE.sub(r"\1", double if double is not None else single), False)
        if any(character.isalnum() for character in phrase.text):
            found.append(phrase)
            if len(found) == QUERY_WORDS_MAX:
                break
    return found


def build_match(conditions: Iterable[tuple[str, str]]) -> str | None:
    """An FTS5 expression for (column or "text", search text) conditions that must all hold.

    None when one of them has no word at all, which matches nothing. All user text is quoted, so
    none of it is read as FTS5 syntax.
    """
    parts: list[str] = []
    for column, text in conditions:
        phrases = parse_phrases(text)
        if not phrases:
            return None
        words = " AND ".join(_quote(phrase) for phrase in phrases)
        parts.append(f"({words})" if column == "text" else f"{{{column}}} : ({words})")
    return " AND ".join(parts) if parts else None


def _quote(phrase: Phrase) -> str:
    plain = clean(split_script(phrase.text)).replace('"', '""')
    return f'"{plain}"*' if phrase.is_prefix else f'"{plain}"'


def clean(text: str) -> str:
    """`text` without what SQLite cannot hold: NUL, and halves of surrogate pairs."""
    text = text.replace("\0", " ")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def tokenize(text: str) -> list[str]:
    """The words of `text` as the index sees them (FTS5 unicode61, remove_diacritics 2).

    For the store in memory; exact for Latin, Cyrillic and unspaced scripts.
    """
    words: list[str] = []
    word: list[str] = []
    for character in split_script(text):
        folded = _fold(character)
        if folded is not None:
            word.append(folded)
        elif word:
            words.append("".join(word))
            word = []
    if word:
        words.append("".join(word))
    return [found for found in words if found]


def _fold(character: str) -> str | None:
    """One character without case and Latin accent; None if it separates words."""
    if "\u0300" <= character <= "\u0331":
        return ""
    if not character.isalnum():
        return None
    base = unicodedata.normalize("NFD", character)[0]
    return (base if base.isascii() else character).lower()
