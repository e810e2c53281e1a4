"""Invitations, their updates and cancellations, and the answers of guests, as iMIP mail.

Sources: RFC 5545 s3.6.1 (VEVENT), RFC 5546 s3.2 (methods), RFC 6047 s2 (how they travel).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from tindra.app.demo.mail.letterpress import (
    Part,
    encode_base64_lines,
    encode_text_header,
    multipart,
    text_part,
)
from tindra.app.demo.mail.posting import (
    DAY_MS,
    HOME_ZONE_MINUTES,
    HOUR_MS,
    MINUTE_MS,
    DemoMessage,
    Desk,
    Head,
    trace_headers,
    write_address,
    write_message,
)
from tindra.app.demo.mail.story import OWNER_KEY, Block, Person

Method = Literal["REQUEST", "CANCEL", "REPLY"]
_LINE_OCTETS: Final = 74
_HOURS: Final = (9, 10, 11, 13, 14, 15, 16)
_ANSWERS: Final = (
    ("ACCEPTED", "Accepted", "I will be there, and on the right day this time."),
    ("ACCEPTED", "Accepted", "Gladly. I bring the plans and something for the teeth."),
    ("TENTATIVE", "Tentative", "Most likely yes. It depends on a boiler."),
    ("DECLINED", "Declined", "I am sorry, I am on a train at that hour. Please send me the notes."),
)


class Meeting(msgspec.Struct, frozen=True):
    """One event, as its organizer knows it."""

    uid: str
    title: str
    place: str
    text: str
    organizer: Person
    guests: tuple[Person, ...]
    start_ms: int
    minutes: int
    sequence: int = 0
    is_cancelled: bool = False


class _Mail(msgspec.Struct, frozen=True):
    sender: Person
    recipient: Person
    method: Method
    label: str
    body: str
    calendar: str
    time_ms: int


def make_meeting(desk: Desk, block: Block, time_ms: int) -> list[DemoMessage]:
    """An invitation and what became of it, oldest first, none later than now."""
    people, dice = desk.story.people, desk.dice
    owner, host = desk.story.owner, people[block.get("organizer")]
    day_ms = (time_ms // DAY_MS + dice.randrange(3, 12)) * DAY_MS
    start_ms = day_ms + dice.choice(_HOURS) * HOUR_MS - HOME_ZONE_MINUTES * MINUTE_MS
    is_own = dice.random() < 0.2
    meeting = Meeting(
        uid=f"{dice.getrandbits(64):016x}@{(owner if is_own else host).domain}",
        title=block.title,
        place=block.get("place"),
        text=block.get("text"),
        organizer=owner if is_own else host,
        guests=(host,) if is_own else (owner, people["mira"]),
        start_ms=start_ms,
        minutes=int(block.get("minutes")),
    )
    if is_own:
        return _invite_and_hear(desk, meeting, time_ms)
    mails = [_write(desk, _request(meeting, owner, "Invitation", time_ms))]
    change_ms = time_ms + dice.randrange(5, 40) * HOUR_MS
    fate = block.get("fate", "request")
    if fate == "update":
        later = msgspec.structs.replace(meeting, start_ms=start_ms + 30 * MINUTE_MS, sequence=1)
        mails.append(_write(desk, _request(later, owner, "Updated invitation", change_ms)))
    elif fate == "cancel":
        gone = msgspec.structs.replace(meeting, sequence=1, is_cancelled=True)
        mails.append(_write(desk, _request(gone, owner, "Cancelled", change_ms)))
    return [mail for mail in mails if mail.internal_date_ms <= desk.now_ms]


def encode_calendar(meeting: Meeting, method: Method, stamp_ms: int, answer: str = "") -> str:
    """The iCalendar object, lines parted by LF and folded.

    Args:
        answer: PARTSTAT of the only guest, for REPLY; empty: guests have not answered.
    """
    host = meeting.organizer
    lines = [
        "BEGIN:VCALENDAR",
        "PRODID:-//Tindra//Demo//EN",
        "VERSION:2.0",
        "CALSCALE:GREGORIAN",
        f"METHOD:{method}",
        "BEGIN:VEVENT",
        f"UID:{meeting.uid}",
        f"SEQUENCE:{meeting.sequence}",
        f"DTSTAMP:{_utc(stamp_ms)}",
        f"DTSTART:{_utc(meeting.start_ms)}",
        f"DTEND:{_utc(meeting.start_ms + meeting.minutes * MINUTE_MS)}",
        f"SUMMARY:{_escape(meeting.title)}",
        f"LOCATION:{_escape(meeting.place)}",
        f"ORGANIZER;CN={_quote(host.name)}:mailto:{host.address}",
    ]
    status = answer or "NEEDS-ACTION"
    ask = "" if answer else ";RSVP=TRUE"
    for guest in meeting.guests:
        who = f"ATTENDEE;CN={_quote(guest.name)};PARTSTAT={status}{ask}"
        lines.append(f"{who}:mailto:{guest.address}")
    if method != "REPLY":
        lines.append(f"DESCRIPTION:{_escape(meeting.text)}")
        lines.append("STATUS:CANCELLED" if meeting.is_cancelled else "STATUS:CONFIRMED")
    lines += ["END:VEVENT", "END:VCALENDAR"]
    return "".join(_fold(line) + "\n" for line in lines)


def _invite_and_hear(desk: Desk, meeting: Meeting, time_ms: int) -> list[DemoMessage]:
    """The owner invites one guest, who answers."""
    guest = meeting.guests[0]
    partstat, label, text = desk.dice.choice(_ANSWERS)
    answer_ms = time_ms + desk.dice.randrange(20, 900) * MINUTE_MS
    reply = _Mail(
        sender=guest,
        recipient=meeting.organizer,
        method="REPLY",
        label=f"{label}: {meeting.title}",
        body=text,
        calendar=encode_calendar(meeting, "REPLY", answer_ms, partstat),
        time_ms=answer_ms,
    )
    mails = [_write(desk, _request(meeting, guest, "Invitation", time_ms)), _write(desk, reply)]
    return [mail for mail in mails if mail.internal_date_ms <= desk.now_ms]


def _request(meeting: Meeting, guest: Person, label: str, time_ms: int) -> _Mail:
    method: Method = "CANCEL" if meeting.is_cancelled else "REQUEST"
    local = datetime.fromtimestamp(meeting.start_ms / 1000 + HOME_ZONE_MINUTES * 60, tz=UTC)
    when = f"{local:%A} {local.day} {local:%B}, {local:%H:%M}"
    return _Mail(
        sender=meeting.organizer,
        recipient=guest,
        method=method,
        label=f"{label}: {meeting.title}, {local.day} {local:%b} {local:%H:%M}",
        body=f"{meeting.text}\n\nWhen: {when} ({meeting.minutes} min)\nWhere: {meeting.place}",
        calendar=encode_calendar(meeting, method, time_ms),
        time_ms=time_ms,
    )


def _write(desk: Desk, mail: _Mail) -> DemoMessage:
    is_own = mail.sender.key == OWNER_KEY
    method = (("method", mail.method),)
    bodies = [
        text_part(mail.body + "\n", mail.sender.charset),
        text_part(mail.calendar, subtype="calendar", parameters=method),
    ]
    part = multipart("alternative", bodies, desk.new_boundary())
    if mail.method != "REPLY":
        octets = mail.calendar.replace("\n", "\r\n").encode()
        attached = Part(
            (
                ("Content-Type", "application/ics; name=invite.ics"),
                ("Content-Transfer-Encoding", "base64"),
                ("Content-Disposition", "attachment; filename=invite.ics"),
            ),
            encode_base64_lines(octets),
        )
        part = multipart("mixed", [part, attached], desk.new_boundary())
    head = Head(
        sender=write_address(mail.sender),
        recipients=[write_address(mail.recipient)],
        subject=encode_text_header("Subject", mail.label, mail.sender.charset),
        time_ms=mail.time_ms,
        message_id=desk.new_message_id(mail.sender.domain),
        zone_minutes=mail.sender.zone_minutes,
    )
    trace = [] if is_own else trace_headers(desk, mail.sender.domain, mail.time_ms)
    raw = write_message(head, part, (("User-Agent", mail.sender.client),), trace)
    if is_own:
        return DemoMessage("Sent", raw, ("\\Seen",), mail.time_ms)
    folder = "INBOX" if desk.is_recent(mail.time_ms) else "Archive"
    return DemoMessage(folder, raw, desk.reading_flags(mail.time_ms), mail.time_ms + 1_000)


def _utc(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms // 1000, tz=UTC):%Y%m%dT%H%M%SZ}"


def _escape(text: str) -> str:
    """Source: RFC 5545 s3.3.11"""
    for char in "\\;,":
        text = text.replace(char, "\\" + char)
    return text.replace("\n", "\\n")


def _quote(name: str) -> str:
    return '"' + name.replace('"', "'") + '"'


def _fold(line: str) -> str:
    """Cut at 75 octets, never inside of a character. Source: RFC 5545 s3.1"""
    pieces, used = [""], 0
    for char in line:
        size = len(char.encode())
        if used + size > _LINE_OCTETS:
            pieces.append("")
            used = 1
        pieces[-1] += char
        used += size
    return "\n ".join(pieces)
