"""Parts of a date as text. Source: RFC 5260 s4.2"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tindra.wire.jmap.date import encode_utc_date
from tindra.wire.mime.date import Moment, parse_rfc3339

_JULIAN_OF_1970: Final = 40_587
"""1970-01-01 as a Modified Julian Day."""
_PARTS: dict[str, Callable[[Moment], str]] = {
    "year": lambda m: f"{m.year:04}",
    "month": lambda m: f"{m.month:02}",
    "day": lambda m: f"{m.day:02}",
    "date": lambda m: f"{m.year:04}-{m.month:02}-{m.day:02}",
    "julian": lambda m: str(m.days + _JULIAN_OF_1970),
    "hour": lambda m: f"{m.hour:02}",
    "minute": lambda m: f"{m.minute:02}",
    "second": lambda m: f"{m.second:02}",
    "time": lambda m: f"{m.hour:02}:{m.minute:02}:{m.second:02}",
    "iso8601": lambda m: m.rfc3339(),
    "std11": lambda m: m.rfc5322(),
    "zone": lambda m: _zone(m.offset_minutes),
    "weekday": lambda m: str((m.days + 4) % 7),
}


def find_part(moment: Moment, part: str) -> str | None:
    """A part of a date; None for a part that there is not."""
    make = _PARTS.get(part.lower())
    return None if make is None else make(moment)


def shift(moment_ms: int, zone: str) -> Moment:
    """A point in time as a clock in that zone shows it.

    Args:
        zone: "+hhmm" or "-hhmm".
    """
    minutes = int(zone[1:3]) * 60 + int(zone[3:5])
    minutes = max(-1439, min(1439, minutes if zone[0] == "+" else -minutes))
    local = parse_rfc3339(encode_utc_date(moment_ms + minutes * 60_000))
    assert local is not None, "every point in time is a date"
    return Moment(
        local.year, local.month, local.day, local.hour, local.minute, local.second, minutes
    )


def _zone(offset_minutes: int) -> str:
    sign = "-" if offset_minutes < 0 else "+"
    return f"{sign}{abs(offset_minutes) // 60:02}{abs(offset_minutes) % 60:02}"
