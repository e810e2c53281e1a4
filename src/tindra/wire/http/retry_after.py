"""The Retry-After header: seconds or a date (RFC 9110 s10.2.3)."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

_DIGITS_MAX = 9


def parse_retry_after(text: str, now_ms: int) -> int | None:
    """How long to wait in milliseconds, 0 for a moment that has passed; None if it says nothing."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return int(text[:_DIGITS_MAX]) * 1000
    try:
        moment = parsedate_to_datetime(text)
        at_s = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    return max(0, int(at_s * 1000) - now_ms)
