"""The date-time of header fields to and from RFC 3339 and UTC milliseconds; no clock is read.

Source: RFC 5322 s3.3 and s4.3, RFC 3339 s5.6, RFC 8621 s4.1.2.6
"""

from __future__ import annotations

import re

import msgspec

from tindra.wire.mime.params import strip_comments

_VALUE_CHARS_MAX = 256
"""A date-time has 31 characters; some comments and blanks are welcome, a novel is not."""

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_MONTH_NUMBERS = {name: number for number, name in enumerate(_MONTHS, 1)}
_DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
_COLON = r"\s*[:.]\s*"
_TIME = (
    rf"(?P<hour>\d{{1,2}}){_COLON}(?P<minute>\d{{2}})(?:{_COLON}(?P<second>\d{{2}})(?:[.,]\d+)?)?"
)
_ZONE = r"(?:\s*(?P<zone>[+-]\d{2}:?\d{2}|[A-Za-z]+))?"
_USUAL = re.compile(
    r"\s*+(?:[A-Za-z]{3}, )?(\d{1,2}) ([A-Za-z]{3}) (\d{4}) (\d\d):(\d\d):(\d\d) ([+-]\d{4})",
    re.ASCII,
)
"""As RFC 5322 has it, and as nearly all mail has it; the forms below say the same, at a price."""
_FORMS = [
    re.compile(pattern, re.ASCII)
    for pattern in (
        # Thu, 30 Oct 2014 14:12:00 +0800
        rf"\D*?(?P<day>\d{{1,2}})[\s-]+(?P<month>[A-Za-z]{{3}})[a-z]*\.?[\s-]+(?P<year>\d{{2,4}})"
        rf"[\s,]+{_TIME}{_ZONE}",
        # Thu Oct 30 14:12:00 +0800 2014, as C libraries print it
        rf"(?:[A-Za-z]{{3}},?\s+)?(?P<month>[A-Za-z]{{3}})\s+(?P<day>\d{{1,2}})\s+{_TIME}{_ZONE}"
        r"\s+(?P<year>\d{4})",
        # 2014-10-30T14:12:00+08:00
        rf"\s*(?P<year>\d{{4}})-(?P<month>\d{{2}})-(?P<day>\d{{2}})[T\s]+{_TIME}{_ZONE}",
    )
]
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_ZONE_HOURS = {"est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8} | {
    "pdt": -7
}
"""Source: RFC 5322 s4.3; every other name says nothing reliable and counts as UTC."""


class Moment(msgspec.Struct, frozen=True):
    """A wall-clock reading and its distance from UTC in minutes; always a date that exists."""

    year: int
    month: int
    day: int
    hour: int
    minute: int
    second: int
    offset_minutes: int

    @property
    def days(self) -> int:
        """Days of the local date since 1970-01-01, in the Gregorian calendar."""
        year = self.year - (self.month <= 2)
        day_of_year = (153 * ((self.month + 9) % 12) + 2) // 5 + self.day - 1
        return 365 * year + year // 4 - year // 100 + year // 400 + day_of_year - 719_468

    @property
    def unix_ms(self) -> int:
        """UTC milliseconds."""
        minutes = (self.days * 24 + self.hour) * 60 + self.minute - self.offset_minutes
        return (minutes * 60 + self.second) * 1000

    def rfc3339(self) -> str:
        """As a JMAP Date. Source: RFC 8620 s1.4"""
        sign, (hours, minutes) = _split_offset(self.offset_minutes)
        zone = f"{sign}{hours:02}:{minutes:02}" if self.offset_minutes else "Z"
        return (
            f"{self.year:04}-{self.month:02}-{self.day:02}"
            f"T{self.hour:02}:{self.minute:02}:{self.second:02}{zone}"
        )

    def rfc5322(self) -> str:
        """As the value of a Date field. Source: RFC 5322 s3.3"""
        sign, (hours, minutes) = _split_offset(self.offset_minutes)
        return (
            f"{_DAYS[(self.days + 3) % 7]}, {self.day} {_MONTHS[self.month - 1].title()}"
            f" {self.year:04} {self.hour:02}:{self.minute:02}:{self.second:02}"
            f" {sign}{hours:02}{minutes:02}"
        )


def parse_date(value: str) -> Moment | None:
    """A date-time as written in mail, obsolete forms included; None if it is none.

    A zone that is missing or unknown counts as UTC, a leap second as the second before.
    """
    if len(value) > _VALUE_CHARS_MAX:
        return None
    usual = _USUAL.match(value)
    if usual is not None:
        day, month, year, hour, minute, second, zone = usual.groups()
        clock = (int(hour), int(minute), int(second))
        number = _MONTH_NUMBERS.get(month.lower(), 0)
        return _moment(int(year), number, int(day), clock, _zone_minutes(zone))
    text = strip_comments(value)
    for form in _FORMS:
        match = form.match(text)
        if match is not None:
            return _check_moment(match.groupdict())
    return None


def parse_rfc3339(text: str) -> Moment | None:
    """A date-time of RFC 3339; None if it is none. Fractions of a second are dropped."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    sign, hours, minutes = match[7], int(match[8] or 0), int(match[9] or 0)
    if hours > 23 or minutes > 59:
        return None
    offset = (hours * 60 + minutes) * (-1 if sign == "-" else 1)
    year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
    return _moment(year, month, day, (hour, minute, second), offset)


def _check_moment(found: dict[str, str | None]) -> Moment | None:
    month_name = (found["month"] or "").lower()
    if month_name.isdigit():
        month = int(month_name)
    elif month_name in _MONTH_NUMBERS:
        month = _MONTH_NUMBERS[month_name]
    else:
        return None
    digits = found["year"] or ""
    year = int(digits)
    if len(digits) == 2:
        year += 2000 if year < 50 else 1900
    elif len(digits) == 3:
        year += 1900
    clock = (int(found["hour"] or 0), int(found["minute"] or 0), int(found["second"] or 0))
    return _moment(year, month, int(found["day"] or 0), clock, _zone_minutes(found["zone"] or ""))


def _moment(
    year: int, month: int, day: int, clock: tuple[int, int, int], offset_minutes: int
) -> Moment | None:
    hour, minute, second = clock
    if not (year >= 1 and 1 <= month <= 12 and 1 <= day <= _month_days(year, month)):
        return None
    if hour > 23 or minute > 59 or second > 60:
        return None
    return Moment(year, month, day, hour, minute, min(second, 59), offset_minutes)


def _month_days(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _zone_minutes(zone: str) -> int:
    if zone[:1] not in ("+", "-"):
        return _ZONE_HOURS.get(zone.lower(), 0) * 60
    hours, minutes = int(zone[1:3]), int(zone[-2:])
    if hours > 23 or minutes > 59:
        return 0
    return (hours * 60 + minutes) * (-1 if zone[0] == "-" else 1)


def _split_offset(offset_minutes: int) -> tuple[str, tuple[int, int]]:
    return "-" if offset_minutes < 0 else "+", divmod(abs(offset_minutes), 60)
