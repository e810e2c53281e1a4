"""The preview line of a message, made from its plain text; nothing is decoded or looked up here.

Source: RFC 8621 s4.1.4
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_SCAN_CHARS_MAX = 16_384
"""How far into the text a first own word is looked for; quotes above it are seldom longer."""
_LINES_MAX = 400
"""Lines looked at, with the same reason."""
_LINE_CHARS_MAX = 1_024
"""Longer lines are text, never an attribution, so patterns need not look at them."""
_ATTRIBUTION_LINES_MAX = 3
"""Lines over which mail programs wrap "On ... wrote:"."""

_ATTRIBUTION = re.compile(
    r"(?:wrote|writes|schrieb|skrev|schreef|escribió|escreveu|ha scritto|a écrit|napisał\(a\)|пишет"
    r"|写道|kirjoitti|yazdı)[^:：]{0,80}[:：]$",
    re.IGNORECASE,
)
_FORWARD = re.compile(r"^-{2,} ?(?:original|forwarded|weitergeleitete|message|ursprüngliche)", re.I)
_HAS_DIGIT = re.compile(r"\d")
"""Every attribution names a date; its wrapped tail often does not."""
_NOISE = re.compile(r"^[\W_]*$|^\[(?:image|cid|bild|logo)[^\]]*\]$", re.IGNORECASE)
_INLINE_NOISE = re.compile(r"\[(?:image|cid):[^\]\n]{0,200}\]|<https?://[^\s<>]{1,2000}>")
_INVISIBLE = dict.fromkeys(
    map(ord, "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u2060\ufeff")
)


def make_preview(text: str, chars_max: int = 256) -> str:
    """The first own words of `text` in one line; quoted ones only if there is nothing else.

    Args:
        text: plain text of the message, LF line ends.
        chars_max: longest preview in characters; a cut falls between words where one is near.
    Cost: bounded; only the head of the text is read.
    Source: RFC 8621 s4.1.4
    """
    lines = text[:_SCAN_CHARS_MAX].split("\n", _LINES_MAX)[:_LINES_MAX]
    own = _collapse(_own_lines(lines), chars_max)
    return own or _collapse((line.lstrip("> ") for line in lines), chars_max)


def _own_lines(lines: list[str]) -> Iterator[str]:
    """Lines that are neither quoted, nor an attribution of a quote, nor a signature."""
    pending: list[str] = []
    for line in map(str.strip, lines):
        is_short = len(line) <= _LINE_CHARS_MAX
        if line == "--" or (is_short and _FORWARD.match(line)):
            break
        if line.startswith(">"):
            # What stands right above a quote and ends in a colon names its author.
            if pending and pending[-1].endswith((":", "：")):
                _drop_attribution(pending)
            yield from pending
            pending = []
        elif not line:
            if not (pending and pending[-1].endswith((":", "："))):
                yield from pending
                pending = []
        elif not (is_short and _NOISE.match(line)):
            pending.append(line)
            # The last character first: the pattern is dear, and hardly any line ends so.
            if is_short and line[-1] in ":：" and _ATTRIBUTION.search(line):
                _drop_attribution(pending)
    yield from pending


def _drop_attribution(lines: list[str]) -> None:
    """Remove the last line, and the lines before it that are the head of the same sentence."""
    is_head = _HAS_DIGIT.search(lines.pop())
    for _ in range(_ATTRIBUTION_LINES_MAX - 1):
        if is_head or not lines or not _HAS_DIGIT.search(lines[-1][:_LINE_CHARS_MAX]):
            return
        is_head = _HAS_DIGIT.search(lines.pop())


def _collapse(lines: Iterator[str], chars_max: int) -> str:
    """One line of at most `chars_max` characters; stops reading as soon as it is full."""
    out: list[str] = []
    used = 0
    for line in lines:
        # What is looked for first is cheaper than what it spares.
        seen = _INLINE_NOISE.sub(" ", line) if "[" in line or "<" in line else line
        words = " ".join((seen if seen.isascii() else seen.translate(_INVISIBLE)).split())
        if words:
            out.append(words)
            used += len(words) + 1
        if used > chars_max:
            break
    return _cut(" ".join(out), chars_max)


def _cut(text: str, chars_max: int) -> str:
    if len(text) <= chars_max:
        return text
    cut = text[:chars_max]
    if text[chars_max] == " ":
        return cut
    space = cut.rfind(" ")
    # A script without spaces has no word to spare.
    return cut[:space] if space > chars_max * 3 // 4 else cut
