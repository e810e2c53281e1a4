"""Mail between people: conversations with quoting and references, single notes, drafts, answers.

Turns blocks of the story into messages; machines and meetings are elsewhere.
Invariants: every reply names its ancestors (RFC 5322 s3.6.4); no message is later than now.
"""

from __future__ import annotations

import email
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.message import Message
from email.utils import parseaddr
from typing import Final

import msgspec

from tindra.app.demo.mail.letterpress import (
    Part,
    encode_text_header,
    file_part,
    flow_lines,
    multipart,
    text_part,
)
from tindra.app.demo.mail.pages import render_letter
from tindra.app.demo.mail.paper import MEDIA_TYPES, make_document
from tindra.app.demo.mail.posting import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    DemoMessage,
    Desk,
    Head,
    settle_clock,
    trace_headers,
    write_address,
    write_message,
)
from tindra.app.demo.mail.story import (
    OWNER_ADDRESS,
    OWNER_KEY,
    Attachment,
    Block,
    Person,
    SlotFiller,
)

QUOTED_MESSAGES_MAX: Final = 3
"""How deep a reply quotes; people cut the rest."""
FILED_AFTER_DAYS: Final = 6
"""A conversation that has been quiet for so long is often filed already."""
REFERENCES_MAX: Final = 20
"""A program keeps the first and the newest. Source: RFC 5322 s3.6.4"""
_ATTRIBUTIONS: Final = {
    "katharina": "Am {date} schrieb {name}:",
    "birgitta": "Den {date} skrev {name}:",
    "linnea": "Den {date} skrev {name}:",
    "camille": "Le {date}, {name} a écrit :",
    "lucia": "El {date}, {name} escribió:",
    "kenji": "{date} {name}:",
}
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_GAPS_MS: Final = (
    (4 * MINUTE_MS, 40 * MINUTE_MS),
    (HOUR_MS, 4 * HOUR_MS),
    (3 * HOUR_MS, 9 * HOUR_MS),
    (14 * HOUR_MS, 26 * HOUR_MS),
)


class _Sheet(msgspec.Struct):
    """A message of a conversation while the conversation is being written."""

    writer: Person
    text: str
    attachments: tuple[Attachment, ...]
    time_ms: int
    message_id: str
    references: list[str]
    parent: int | None


class _Conversation:
    """One block of the story being turned into mail."""

    def __init__(self, desk: Desk, block: Block, last_ms: int) -> None:
        self.desk = desk
        self.block = block
        self.filler = SlotFiller(desk.story, desk.dice)
        self.subject = self.filler.fill(block.title)
        people = desk.story.people
        named = [key.strip() for key in block.get("with").split(",") if key.strip()]
        keys = dict.fromkeys([entry.heading for entry in block.entries] + named + [OWNER_KEY])
        self.members = [people[key] for key in keys]
        self.sheets: list[_Sheet] = []
        times = _spread_times(desk, len(block.entries), last_ms)
        for entry, time_ms in zip(block.entries, times, strict=True):
            self._add_sheet(people[entry.heading], entry.text, entry.attachments, time_ms)
        self.folder = self._choose_folder()

    def _add_sheet(
        self, writer: Person, text: str, attachments: tuple[Attachment, ...], time_ms: int
    ) -> None:
        parent = len(self.sheets) - 1 if self.sheets else None
        if parent and len(self.sheets) > 5 and self.desk.dice.random() < 0.15:
            parent -= 1  # somebody answers the mail before the last
        references: list[str] = []
        if parent is not None:
            answered = self.sheets[parent]
            references = _cut_references([*answered.references, answered.message_id])
        self.sheets.append(
            _Sheet(
                writer=writer,
                text=self.filler.fill(text),
                attachments=attachments,
                time_ms=time_ms,
                message_id=self.desk.new_message_id(writer.domain),
                references=references,
                parent=parent,
            )
        )

    def write_all(self) -> list[DemoMessage]:
        return [self._write(index) for index in range(len(self.sheets))]

    def _write(self, index: int) -> DemoMessage:
        sheet = self.sheets[index]
        is_own = sheet.writer.key == OWNER_KEY
        others = [person for person in self.members if person is not sheet.writer]
        first = self.desk.story.owner
        if sheet.parent is not None and self.sheets[sheet.parent].writer in others:
            first = self.sheets[sheet.parent].writer
        elif is_own:
            first = others[0]
        copies = [person for person in others if person is not first]
        subject = self.subject if sheet.parent is None else f"Re: {self.subject}"
        head = Head(
            sender=write_address(sheet.writer),
            recipients=[write_address(first)],
            copies=[write_address(person) for person in copies],
            subject=encode_text_header("Subject", subject, sheet.writer.charset),
            time_ms=sheet.time_ms,
            message_id=sheet.message_id,
            zone_minutes=sheet.writer.zone_minutes,
            references=sheet.references,
        )
        part = letter_part(self.desk, sheet.writer, sheet.text, self._quotes(sheet))
        part = attach_documents(self.desk, part, sheet.attachments, sheet.text, sheet.writer)
        trace = [] if is_own else trace_headers(self.desk, sheet.writer.domain, sheet.time_ms)
        raw = write_message(head, part, (("User-Agent", sheet.writer.client),), trace)
        return DemoMessage(self._folder(is_own), raw, self._flags(index), sheet.time_ms + 2_000)

    def _quotes(self, sheet: _Sheet) -> list[tuple[str, str]]:
        quotes: list[tuple[str, str]] = []
        reader, parent = sheet.writer, sheet.parent
        while parent is not None and len(quotes) < QUOTED_MESSAGES_MAX:
            answered = self.sheets[parent]
            line = attribution_line(reader, answered.writer, answered.time_ms)
            quotes.append((line, answered.text))
            reader, parent = answered.writer, answered.parent
        return quotes

    def _folder(self, is_own: bool) -> str:
        if is_own:
            return "Sent"
        return self.folder

    def _choose_folder(self) -> str:
        last_ms = self.sheets[-1].time_ms
        filed = self.block.get("folder", "Archive")
        if not self.desk.is_recent(last_ms):
            return filed
        is_quiet = self.desk.now_ms - last_ms > FILED_AFTER_DAYS * DAY_MS
        return filed if is_quiet and self.desk.dice.random() < 0.6 else "INBOX"

    def _flags(self, index: int) -> tuple[str, ...]:
        sheet = self.sheets[index]
        if sheet.writer.key == OWNER_KEY:
            return ("\\Seen",)
        later = self.sheets[index + 1 :]
        flags: list[str] = []
        if any(other.writer.key == OWNER_KEY for other in later):
            flags.append("\\Seen")
        else:
            flags += self.desk.reading_flags(sheet.time_ms, 0.4)
        if any(o.writer.key == OWNER_KEY and o.parent == index for o in later):
            flags.append("\\Answered")
        if self.block.get("flags") == "flagged" and not later:
            flags.append("\\Flagged")
        elif self.desk.dice.random() < 0.03:
            flags.append(self.desk.dice.choice(["\\Flagged", "$Forwarded"]))
        return tuple(flags)


def make_conversation(desk: Desk, block: Block, last_ms: int) -> list[DemoMessage]:
    """A whole conversation, oldest first; its last message is at `last_ms` or a little before."""
    return _Conversation(desk, block, last_ms).write_all()


def make_opening(desk: Desk, block: Block) -> DemoMessage:
    """Only the first message of a conversation, arriving now and unread."""
    opening = msgspec.structs.replace(block, entries=block.entries[:1])
    message = _Conversation(desk, opening, desk.now_ms).write_all()[0]
    return msgspec.structs.replace(message, flags=(), internal_date_ms=desk.now_ms)


def make_note(desk: Desk, writer: Person, subject: str, text: str, time_ms: int) -> DemoMessage:
    """A mail of one paragraph that nobody has to answer."""
    filler = SlotFiller(desk.story, desk.dice)
    body = filler.fill(text)
    head = Head(
        sender=write_address(writer),
        recipients=[write_address(desk.story.owner)],
        subject=encode_text_header("Subject", filler.fill(subject), writer.charset),
        time_ms=time_ms,
        message_id=desk.new_message_id(writer.domain),
        zone_minutes=writer.zone_minutes,
    )
    part = letter_part(desk, writer, body, [])
    trace = trace_headers(desk, writer.domain, time_ms)
    raw = write_message(head, part, (("User-Agent", writer.client),), trace)
    folder = "INBOX" if desk.is_recent(time_ms) else "Archive"
    return DemoMessage(folder, raw, desk.reading_flags(time_ms), time_ms + 2_000)


def make_draft(desk: Desk, entry: tuple[str, str, str], time_ms: int) -> DemoMessage:
    """Something the owner has begun to write."""
    to_key, subject, text = entry
    owner = desk.story.owner
    head = Head(
        sender=write_address(owner),
        recipients=[write_address(desk.story.people[to_key])] if to_key else [],
        subject=encode_text_header("Subject", subject),
        time_ms=time_ms,
        message_id=desk.new_message_id(owner.domain),
    )
    raw = write_message(head, text_part(text + "\n"), (("User-Agent", owner.client),))
    return DemoMessage("Drafts", raw, ("\\Draft", "\\Seen"), time_ms)


def make_answer(desk: Desk, writer: Person, raw: bytes, text: str) -> DemoMessage:
    """What `writer` answers to the message `raw`, now: quoted, threaded, unread, in the inbox."""
    asked = read_asked(raw)
    references = [*asked.references, asked.message_id] if asked.message_id else []
    subject = asked.subject
    if not subject.lower().startswith("re:"):
        subject = f"Re: {subject}".rstrip()
    head = Head(
        sender=write_address(writer),
        recipients=[write_address(desk.story.owner)],
        subject=encode_text_header("Subject", subject, writer.charset),
        time_ms=desk.now_ms,
        message_id=desk.new_message_id(writer.domain),
        zone_minutes=writer.zone_minutes,
        references=_cut_references(references),
    )
    author = desk.story.person_at(asked.sender) or desk.story.owner
    line = attribution_line(writer, author, desk.now_ms)
    body = SlotFiller(desk.story, desk.dice).fill(text)
    part = letter_part(desk, writer, body, [(line, asked.text)])
    trace = trace_headers(desk, writer.domain, desk.now_ms)
    answer = write_message(head, part, (("User-Agent", writer.client),), trace)
    return DemoMessage("INBOX", answer, (), desk.now_ms)


def letter_part(desk: Desk, writer: Person, text: str, quotes: Sequence[tuple[str, str]]) -> Part:
    """The body as the writer's program makes it: plain and flowed, or plain beside HTML."""
    signature = writer.signature
    lines = [text, "", "-- ", *signature, *([""] if quotes else [])]
    plain = flow_lines("\n".join(lines))
    for depth, (line, quoted) in enumerate(quotes):
        plain += "\n" + flow_lines(line, depth) + "\n" + flow_lines(quoted, depth + 1)
        plain += "\n" + ">" * (depth + 1) if depth + 1 < len(quotes) else ""
    flowed = text_part(plain + "\n", writer.charset, parameters=(("format", "flowed"),))
    if not writer.has_html:
        return flowed
    page = text_part(render_letter(text, signature, quotes) + "\n", writer.charset, "html")
    return multipart("alternative", [flowed, page], desk.new_boundary())


def attach_documents(
    desk: Desk, part: Part, attachments: Sequence[Attachment], text: str, writer: Person
) -> Part:
    """`part` with the documents behind it; without any, `part` itself."""
    if not attachments:
        return part
    lines = text.split("\n")
    files = [
        file_part(
            item.filename,
            MEDIA_TYPES[item.kind],
            make_document(item.kind, item.filename, lines),
            charset=writer.charset,
        )
        for item in attachments
    ]
    return multipart("mixed", [part, *files], desk.new_boundary())


def attribution_line(reader: Person, author: Person, time_ms: int) -> str:
    """The line above a quotation, in the language of the reader's program."""
    local = datetime.fromtimestamp(time_ms // 1000 + reader.zone_minutes * 60, tz=UTC)
    pattern = _ATTRIBUTIONS.get(reader.key)
    if pattern is None:
        day = f"{local:%a}, {local.day} {local:%b} {local:%Y}"
        return f"On {day} at {local:%H:%M}, {author.name} wrote:"
    return pattern.format(date=f"{local:%Y-%m-%d %H:%M}", name=author.name)


class Asked(msgspec.Struct, frozen=True):
    """What an answer needs to know of the message that it answers."""

    sender: str
    subject: str
    message_id: str
    references: list[str]
    text: str


def read_asked(raw: bytes) -> Asked:
    """Read any message, however odd: what cannot be read is empty."""
    message = email.message_from_bytes(raw)
    return Asked(
        sender=parseaddr(str(message.get("From", "")))[1].lower(),
        subject=_read_subject(str(message.get("Subject", ""))),
        message_id=_one_line(message.get("Message-ID", "")),
        references=[_one_line(word) for word in str(message.get("References", "")).split()],
        text=_read_text(message),
    )


def _one_line(value: object) -> str:
    """Ids come from outside and go into our headers: only plain visible ASCII may pass."""
    word = "".join(str(value).split())
    return word if word.isascii() and word.isprintable() and len(word) < 250 else ""


def _read_subject(value: str) -> str:
    try:
        text = str(make_header(decode_header(value)))
    except (ValueError, LookupError):  # a charset or an encoded word that nobody knows
        text = value
    return " ".join(text.encode("utf-8", "replace").decode().split())[:200]


def _read_text(message: Message) -> str:
    for part in message.walk():
        if part.get_content_type() != "text/plain" or part.is_multipart():
            continue
        octets = part.get_payload(decode=True)
        if not isinstance(octets, bytes):
            continue
        try:
            text = octets.decode(part.get_content_charset("utf-8"), "replace")
        except LookupError:
            text = octets.decode("utf-8", "replace")
        own = _CONTROLS.sub("", text).partition("\n-- \n")[0]
        kept = [line.rstrip() for line in own.split("\n") if not line.startswith(">")]
        return "\n".join(kept).strip()[:2_000]
    return ""


def _cut_references(references: Sequence[str]) -> list[str]:
    known = [reference for reference in references if reference]
    if len(known) > REFERENCES_MAX:
        return [known[0], *known[1 - REFERENCES_MAX :]]
    return known


def _spread_times(desk: Desk, count: int, last_ms: int) -> list[int]:
    """Moments for `count` messages, ascending, the last at `last_ms` or some hours before."""
    gaps = _GAPS_MS if count < 12 else _GAPS_MS[:2]
    times = [settle_clock(desk, last_ms)]
    while len(times) < count:
        low, high = desk.dice.choice(gaps)
        earlier = settle_clock(desk, times[-1] - desk.dice.randrange(low, high))
        times.append(min(earlier, times[-1] - MINUTE_MS))
    return times[::-1]


def is_person_address(desk: Desk, address: str) -> bool:
    """Whether a human of the story, not the owner, reads `address`."""
    person = desk.story.person_at(address)
    return person is not None and person.address != OWNER_ADDRESS
