"""UTCDate and Date texts (RFC 8620 s1.4) to UTC milliseconds and back."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_UTC_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.(?=\d*[1-9])\d+)?Z", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_utc_date(text: object) -> int | None:
    """UTC milliseconds of a UTCDate; None if it is not one (fractions are cut to milliseconds).

    Source: RFC 8620 s1.4
    """
    match = _UTC_DATE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
    try:
        # A leap second is a legal RFC 3339 text; it counts as the second before.
        moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        return None
    if second > 60:
        return None
    fraction = int((match[7] or ".0")[1:4].ljust(3, "0"))
    return (moment - _EPOCH) // timedelta(milliseconds=1) + fraction


def encode_utc_date(moment_ms: int) -> str:
    """The UTCDate of UTC milliseconds, to the second. Source: RFC 8620 s1.4"""
    moment = _EPOCH + timedelta(seconds=moment_ms // 1000)
    # isoformat fills years up to four digits, which strftime leaves to the platform.
    return moment.replace(tzinfo=None).isoformat() + "Z"
