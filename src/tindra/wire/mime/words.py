"""Encoded words of header fields: `=?charset?B|Q?text?=` both ways; nothing else of headers.

Decoding leaves alone what is not an encoded word or names an unknown charset. Words that follow
each other are joined as octets before their charset is decoded, since many senders cut inside a
character.
Source: RFC 2047, RFC 2231 s5 (language suffix)
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterator

from tindra.wire.mime.charset import decode_charset, find_codec

ENCODED_WORDS_MAX = 2_000
"""Words decoded in one text, 90 KB of it; the rest of a longer text is left encoded."""

ENCODED_WORD_CHARS_MAX = 75
"""Source: RFC 2047 s2"""
_WORD_CHARS_MIN = 32
"""Room for the frame of a word and one character of four octets."""

_WORD = re.compile(r"=\?([^\s?*]++)(?:\*[^\s?]*+)?\?([bBqQ])\?([^?\r\n]*+)\?=")
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])
_SPACE = frozenset(" \t\r\n")
_Q_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
_Q_OCTETS = [chr(i) if i in _Q_SAFE else "_" if i == 0x20 else f"={i:02X}" for i in range(256)]

_Run = list[tuple[str, bytes]]
"""Neighbouring encoded words, as (charset, octets)."""


def decode_words(text: str, is_phrase: bool = False) -> str:
    """`text` with its encoded words replaced; text between two encoded words that is only white
    space vanishes.

    Args:
        is_phrase: the text is one structural unit already (a display name, a file name), so an
            encoded word counts wherever it stands. Otherwise it must be set off by white space,
            the ends of the text or another encoded word.
    Cost: linear.
    Source: RFC 2047 s6.2, RFC 8621 s4.1.2.2
    """
    if "=?" not in text:
        return text
    out: list[str] = []
    run: _Run = []
    end = 0
    for match in _iter_words(text, is_phrase):
        codec = find_codec(match[1])
        octets = _decode_octets(match[2], match[3], codec) if codec else None
        if octets is None:
            continue
        gap = text[end : match.start()]
        if not run or not _SPACE.issuperset(gap):
            out.append(_join(run))
            out.append(gap)
            run = []
        run.append((match[1].lower(), octets))
        end = match.end()
    out.append(_join(run))
    out.append(text[end:])
    return "".join(out)


def encode_words(text: str, first_chars: int = ENCODED_WORD_CHARS_MAX) -> list[str]:
    """Encoded words (UTF-8, base64 or Q by size, at most 75 characters) that decode to `text`.

    They hold only characters that a phrase may hold, and never cut a character.

    Args:
        first_chars: longest first word, for a line on which the field name stands already; it may
            be passed if not even one character fits.
    Source: RFC 2047 s5 (3)
    """
    first = max(first_chars, _WORD_CHARS_MIN) - len("=?utf-8?Q??=")
    rest = ENCODED_WORD_CHARS_MAX - len("=?utf-8?Q??=")
    octets = text.encode("utf-8")
    q_chars = sum(len(_Q_OCTETS[octet]) for octet in octets)
    if q_chars > len(octets) * 4 // 3 + 8:
        return [
            f"=?utf-8?B?{binascii.b2a_base64(piece.encode(), newline=False).decode()}?="
            for piece in _split(text, first // 4 * 3, rest // 4 * 3, lambda c: len(c.encode()))
        ]
    return [
        f"=?utf-8?Q?{''.join(_Q_OCTETS[octet] for octet in piece.encode())}?="
        for piece in _split(text, first, rest, lambda c: sum(len(_Q_OCTETS[o]) for o in c.encode()))
    ]


def _iter_words(text: str, is_phrase: bool) -> Iterator[re.Match[str]]:
    previous_end = 0
    for count, match in enumerate(_WORD.finditer(text)):
        if count >= ENCODED_WORDS_MAX:
            return
        start, end = match.span()
        if is_phrase or (
            " " not in match[3]
            and (start in (0, previous_end) or text[start - 1] in _SPACE)
            and (end == len(text) or text[end] in _SPACE or text.startswith("=?", end))
        ):
            previous_end = end
            yield match


def _decode_octets(encoding: str, text: str, codec: str) -> bytes | None:
    """The octets of one encoded word; None when they cannot be told."""
    # Broken senders leave 8-bit text inside: in the word's own charset it comes out as it went in.
    octets = text.encode("ascii" if text.isascii() else codec, "replace")
    if encoding in "qQ":
        return binascii.a2b_qp(octets, header=True)
    try:
        return binascii.a2b_base64(octets + b"==")
    except binascii.Error:
        return None


def _join(run: _Run) -> str:
    """The text of neighbouring words: octets of one charset are joined, then decoded."""
    if not run:
        return ""
    parts: list[str] = []
    charset, pieces = run[0][0], [run[0][1]]
    for next_charset, octets in run[1:]:
        if next_charset != charset:
            parts.append(_decode_pieces(pieces, charset))
            charset, pieces = next_charset, []
        pieces.append(octets)
    parts.append(_decode_pieces(pieces, charset))
    text = "".join(parts)
    return text if text.isprintable() else text.translate(_CONTROLS)


def _decode_pieces(pieces: list[bytes], charset: str) -> str:
    octets = b"".join(pieces)
    if b"\0" in octets and "16" not in charset and "32" not in charset:
        octets = octets.replace(b"\0", b"")
    return decode_charset(octets, charset)[0]


def _split(text: str, width: int, rest: int, measure: Callable[[str], int]) -> Iterator[str]:
    """Pieces of `text` of which the first fills at most `width`, others `rest`; at least one."""
    start = used = 0
    for at, char in enumerate(text):
        size = measure(char)
        if used + size > width:
            yield text[start:at]
            start, used, width = at, 0, rest
        used += size
    yield text[start:]
