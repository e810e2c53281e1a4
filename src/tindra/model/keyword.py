"""What a keyword of an Email is."""

from __future__ import annotations

from tindra.base import limits

_FORBIDDEN = frozenset('()]{%*"\\')


def is_keyword(text: str) -> bool:
    """Whether `text` may be a keyword. Source: RFC 8621 s4.1.1"""
    return (
        0 < len(text) <= limits.KEYWORD_CHARS_MAX
        and all("!" <= c <= "~" for c in text)
        and not _FORBIDDEN.intersection(text)
    )
