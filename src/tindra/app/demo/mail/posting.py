"""The envelope side of the demo mail: ids, trace headers, and the finished `DemoMessage`.

Shared by all the makers of mail (`correspondence`, `machines`, `meetings`); holds no text of the
story. Sources: RFC 5322 s3.6, RFC 8601 s2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from tindra.app.demo.mail.dice import Dice
from tindra.app.demo.mail.letterpress import (
    Part,
    encode_address,
    encode_message,
    format_date,
    join_addresses,
    join_ids,
)
from tindra.app.demo.mail.story import OWNER_ADDRESS, Person, Story

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
HOME_ZONE_MINUTES: Final = 60
"""Where the owner lives; the story keeps no summer time."""
INBOX_DAYS: Final = 28
"""The owner tidies up about once a month."""


class DemoMessage(msgspec.Struct, frozen=True):
    """One message of the mailbox, ready to be stored."""

    folder: str
    raw: bytes
    flags: tuple[str, ...]
    internal_date_ms: int


class Desk(msgspec.Struct, frozen=True):
    """What every maker of mail needs at hand."""

    story: Story
    dice: Dice
    now_ms: int

    def is_recent(self, time_ms: int) -> bool:
        """Whether mail of that moment is still in the inbox."""
        return self.now_ms - time_ms < INBOX_DAYS * DAY_MS

    def new_message_id(self, domain: str) -> str:
        """Globally unique, and the same for the same seed."""
        return f"<{self.dice.getrandbits(72):018x}@{domain}>"

    def new_boundary(self) -> str:
        """Contains `=_`, which no quoted-printable or base64 body can. Source: RFC 2045 s6.7"""
        return f"=_{self.dice.getrandbits(64):016x}"

    def reading_flags(self, time_ms: int, unread_share: float = 0.4) -> tuple[str, ...]:
        """Old mail has mostly been seen, new mail often not."""
        age_days = (self.now_ms - time_ms) / DAY_MS
        unread = unread_share if age_days < 3 else unread_share / 4 if age_days < 14 else 0.02
        return () if self.dice.random() < unread else ("\\Seen",)


class Head(msgspec.Struct, frozen=True):
    """The headers that all mail has; addresses and subject are encoded already."""

    sender: str
    recipients: Sequence[str]
    subject: str
    time_ms: int
    message_id: str
    copies: Sequence[str] = ()
    zone_minutes: int = HOME_ZONE_MINUTES
    references: Sequence[str] = ()
    """Ids of the conversation so far; the last is the one that is answered."""


def write_message(
    head: Head,
    part: Part,
    extra: Sequence[tuple[str, str]] = (),
    trace: Sequence[tuple[str, str]] = (),
) -> bytes:
    """The bytes of a message: trace, common headers, `extra`, body."""
    lines = [
        *trace,
        ("Date", format_date(head.time_ms, head.zone_minutes)),
        ("From", head.sender),
    ]
    if head.recipients:
        lines.append(("To", join_addresses(head.recipients)))
    if head.copies:
        lines.append(("Cc", join_addresses(head.copies)))
    lines += [("Subject", head.subject), ("Message-ID", head.message_id)]
    if head.references:
        lines.append(("In-Reply-To", head.references[-1]))
        lines.append(("References", join_ids(head.references)))
    return encode_message((*lines, *extra), part)


def trace_headers(
    desk: Desk, domain: str, time_ms: int, *, is_genuine: bool = True
) -> list[tuple[str, str]]:
    """What the servers on the way wrote on top. Source: RFC 5321 s4.4, RFC 8601 s2.2"""
    verdict = "pass" if is_genuine else "fail"
    stamp = format_date(time_ms + desk.dice.randrange(800, 9_000))
    queue_id = f"{desk.dice.getrandbits(40):010X}"
    host = f"mail.{domain}"
    return [
        ("Return-Path", f"<bounce@{domain}>"),
        ("Delivered-To", OWNER_ADDRESS),
        (
            "Received",
            f"from {host} ({host} [192.0.2.{desk.dice.randrange(2, 250)}])\r\n"
            f" by mx.tindra.test with ESMTPS id {queue_id}\r\n for <{OWNER_ADDRESS}>; {stamp}",
        ),
        (
            "Authentication-Results",
            f"mx.tindra.test;\r\n dkim={verdict} header.d={domain};\r\n"
            f" spf={verdict} smtp.mailfrom=bounce@{domain};\r\n"
            f" dmarc={verdict} header.from={domain}",
        ),
    ]


def write_address(person: Person) -> str:
    """A person as they stand in From, To or Cc, in their own charset."""
    return encode_address(person.name, person.address, person.charset)


def settle_clock(desk: Desk, time_ms: int) -> int:
    """Move a moment out of the night, never past now: people sleep between 23 and 7."""
    hour = (time_ms + HOME_ZONE_MINUTES * MINUTE_MS) // HOUR_MS % 24
    if 7 <= hour < 23:
        return min(time_ms, desk.now_ms)
    back_hours = (hour - 23) % 24 + 1 + desk.dice.randrange(0, 10)
    return min(time_ms, desk.now_ms) - back_hours * HOUR_MS
