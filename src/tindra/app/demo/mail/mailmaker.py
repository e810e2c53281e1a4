"""Makes the demo mailbox: which mail there is, how old it is, and what arrives by itself.

The same seed, count and moment give the same bytes. The moment comes from the caller; nothing here
reads a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from tindra.app.demo.mail.correspondence import (
    is_person_address,
    make_answer,
    make_conversation,
    make_draft,
    make_note,
    make_opening,
    read_asked,
)
from tindra.app.demo.mail.dice import seeded_dice
from tindra.app.demo.mail.machines import (
    issue_number,
    make_bounce,
    make_junk,
    make_newsletter,
    make_notice,
)
from tindra.app.demo.mail.meetings import make_meeting
from tindra.app.demo.mail.posting import DAY_MS, DemoMessage, Desk, settle_clock
from tindra.app.demo.mail.story import OWNER_ADDRESS, POST_OFFICE_KEY, Block, Person, load_story

MAILBOX_MESSAGES_DEFAULT: Final = 600
MAILBOX_DAYS: Final = 730
"""How far back the mailbox reaches."""
REPEAT_DAYS_MIN: Final = 10
"""A text that is used again is at least so old."""
FOLDERS: Final = (
    "INBOX",
    "Archive",
    "Drafts",
    "Familj & vänner",
    "Junk",
    "Projects",
    "Projects/Atlas",
    "Projects/Harbour",
    "Receipts",
    "Sent",
    "Trash",
    "Travel",
)
SPECIAL_USE: Final = {
    "Archive": "\\Archive",
    "Drafts": "\\Drafts",
    "Junk": "\\Junk",
    "Sent": "\\Sent",
    "Trash": "\\Trash",
}
"""Source: RFC 6154 s2"""
_SHARES: Final = {
    "thread": 0.33,
    "notice": 0.20,
    "newsletter": 0.17,
    "letter": 0.08,
    "note": 0.10,
    "meeting": 0.05,
    "junk": 0.05,
    "draft": 0.01,
}
"""Of all messages; the kind that is furthest behind is made next."""
_ARRIVALS: Final = ("answer",) * 3 + ("note", "notice", "notice", "newsletter", "opening")
"""Drawn evenly: what arrives next."""
_ANSWERABLE_MESSAGES: Final = 40
"""Only this many of the newest are looked at for something to answer."""


def make_mailbox(seed: int, count: int, now_ms: int) -> list[DemoMessage]:
    """`count` messages over the last two years, oldest first.

    Args:
        now_ms: UTC; no message is younger.
    Cost: about 1 ms a message.
    """
    maker = _Maker(seed, now_ms)
    made: list[DemoMessage] = []
    while len(made) < count:
        made += maker.make_next()
    # a conversation loses its end, not its beginning, when the number is reached in the middle
    return sorted(made[:count], key=lambda message: message.internal_date_ms)


def next_arrival(seed: int, step: int, now_ms: int, recent: Sequence[DemoMessage]) -> DemoMessage:
    """The mail that arrives by itself as number `step`: dated now, unread, in the inbox.

    Args:
        recent: messages of the inbox, oldest first; some arrivals answer one of the newest.
    """
    desk = _desk(seed, now_ms, "arrival", step)
    story, dice = desk.story, desk.dice
    kind = dice.choice(_ARRIVALS)
    if kind == "answer" and (message := _answer_something(desk, step, recent)) is not None:
        return message
    if kind == "newsletter":
        message = make_newsletter(desk, story.newsletters[step % len(story.newsletters)], now_ms)
    elif kind == "notice":
        block = dice.choice(story.notices)
        message = make_notice(desk, block, dice.choice(block.entries), now_ms)
    elif kind == "opening":
        incoming = [b for b in (*story.threads, *story.letters) if b.entries[0].heading != "alex"]
        message = make_opening(desk, dice.choice(incoming))
    else:
        subject, text = story.notes[step % len(story.notes)]
        message = make_note(desk, dice.choice(_english_writers(desk)), subject, text, now_ms)
    return msgspec.structs.replace(message, flags=(), folder="INBOX", internal_date_ms=now_ms)


def make_auto_reply(
    seed: int, step: int, now_ms: int, recipient: str, raw: bytes
) -> DemoMessage | None:
    """What comes back when the owner has sent `raw` to `recipient`.

    A known person answers in character, the post office answers mail to oneself, and mail to a
    stranger is returned. None: `raw` itself is automatic and must not be answered (RFC 3834 s2).
    """
    head = raw.partition(b"\r\n\r\n")[0].lower()
    if b"\nauto-submitted: auto" in head or b"\nprecedence: bulk" in head:
        return None
    desk = _desk(seed, now_ms, "reply", step)
    story = desk.story
    person = story.person_at(recipient)
    if person is None:
        return make_bounce(desk, recipient, raw)
    if person.address == OWNER_ADDRESS:
        person = story.people[POST_OFFICE_KEY]
    own = story.replies.get(person.key, ())
    pool = (*own, *own, *story.replies["any"]) if person.key != POST_OFFICE_KEY else own
    return make_answer(desk, person, raw, desk.dice.choice(pool))


class _Maker:
    """Makes one unit of mail after the other: a conversation, a newsletter, a notice ..."""

    def __init__(self, seed: int, now_ms: int) -> None:
        self._seed = seed
        self._now_ms = now_ms
        self._units = dict.fromkeys(_SHARES, 0)
        self._messages = dict.fromkeys(_SHARES, 0)
        self._issues: set[tuple[str, int]] = set()
        self._makers: dict[str, Callable[[Desk, int], list[DemoMessage]]] = {
            "thread": lambda desk, unit: self._make_thread(desk, desk.story.threads, unit),
            "letter": lambda desk, unit: self._make_thread(desk, desk.story.letters, unit),
            "notice": self._make_notice,
            "newsletter": self._make_newsletter,
            "note": self._make_note,
            "meeting": self._make_meeting,
            "junk": self._make_junk,
            "draft": self._make_draft,
        }

    def make_next(self) -> list[DemoMessage]:
        kind = min(_SHARES, key=lambda name: self._messages[name] / _SHARES[name])
        unit = self._units[kind]
        messages = self._makers[kind](_desk(self._seed, self._now_ms, kind, unit), unit)
        self._units[kind] += 1
        # a unit may come to nothing, and must still move its kind on
        self._messages[kind] += max(1, len(messages))
        return messages

    def _make_thread(self, desk: Desk, blocks: Sequence[Block], unit: int) -> list[DemoMessage]:
        turn, place = divmod(unit, len(blocks))
        block = blocks[place]
        low, high = map(int, block.get("age", "10-90").split("-"))
        if turn:  # the story is told again, as another year
            low, high = 30 * turn % 500 + 20, MAILBOX_DAYS - 40
        age_ms = int(desk.dice.uniform(low, high) * DAY_MS)
        return make_conversation(desk, block, self._now_ms - age_ms)

    def _make_notice(self, desk: Desk, unit: int) -> list[DemoMessage]:
        blocks = desk.story.notices
        block = blocks[unit % len(blocks)]
        entry = block.entries[unit // len(blocks) % len(block.entries)]
        is_repeat = unit >= len(blocks) * len(block.entries)
        return [make_notice(desk, block, entry, self._any_moment(desk, is_repeat=is_repeat))]

    def _make_newsletter(self, desk: Desk, unit: int) -> list[DemoMessage]:
        block = desk.story.newsletters[unit % len(desk.story.newsletters)]
        time_ms = self._any_moment(desk)
        for _ in range(8):  # nobody gets the same issue twice, unless the mailbox is huge
            issue = (block.title, issue_number(block, time_ms))
            if issue not in self._issues:
                break
            time_ms = self._any_moment(desk)
        self._issues.add(issue)
        return [make_newsletter(desk, block, time_ms)]

    def _make_note(self, desk: Desk, unit: int) -> list[DemoMessage]:
        subject, text = desk.story.notes[unit % len(desk.story.notes)]
        writers = _english_writers(desk)
        writer = writers[(unit * 7 + unit // len(desk.story.notes)) % len(writers)]
        time_ms = self._any_moment(desk, is_repeat=unit >= len(desk.story.notes))
        return [make_note(desk, writer, subject, text, time_ms)]

    def _make_meeting(self, desk: Desk, unit: int) -> list[DemoMessage]:
        block = desk.story.meetings[unit % len(desk.story.meetings)]
        return make_meeting(desk, block, self._any_moment(desk))

    def _make_junk(self, desk: Desk, unit: int) -> list[DemoMessage]:
        age_ms = int(desk.dice.uniform(0, 30) * DAY_MS)  # providers throw it away after a month
        block = desk.story.junk[unit % len(desk.story.junk)]
        return [make_junk(desk, block, self._now_ms - age_ms)]

    def _make_draft(self, desk: Desk, unit: int) -> list[DemoMessage]:
        if unit >= len(desk.story.drafts):
            return []
        time_ms = self._now_ms - int(desk.dice.uniform(0.1, 12) * DAY_MS)
        return [make_draft(desk, desk.story.drafts[unit], time_ms)]

    def _any_moment(self, desk: Desk, *, is_repeat: bool = False) -> int:
        """Half of a mailbox is from the last weeks, the rest thins out towards the past.

        Args:
            is_repeat: much the same text has been used: this one is older, and out of sight.
        """
        lot = desk.dice.random()
        reach = 14 if lot < 0.4 else 90 if lot < 0.65 else MAILBOX_DAYS - 1
        days = desk.dice.uniform(REPEAT_DAYS_MIN, MAILBOX_DAYS - 1)
        if not is_repeat:
            days = desk.dice.uniform(0, reach)
        return settle_clock(desk, self._now_ms - int(days * DAY_MS))


def _desk(seed: int, now_ms: int, kind: str, number: int) -> Desk:
    return Desk(load_story(), seeded_dice(seed, kind, number), now_ms)


def _english_writers(desk: Desk) -> list[Person]:
    """Those whose short mails are in English."""
    return [p for p in desk.story.correspondents() if p.charset in ("utf-8", "us-ascii")]


def _answer_something(desk: Desk, step: int, recent: Sequence[DemoMessage]) -> DemoMessage | None:
    """A second thought of somebody, in a conversation that is in English as the thoughts are."""
    thoughts = desk.story.replies["more"]
    newest = list(recent[-_ANSWERABLE_MESSAGES:])
    desk.dice.shuffle(newest)
    for message in newest:
        asked = read_asked(message.raw)
        writer = desk.story.person_at(asked.sender)
        is_open = bool(asked.message_id) and asked.text.isascii()
        if writer is not None and is_person_address(desk, writer.address) and is_open:
            return make_answer(desk, writer, message.raw, thoughts[step % len(thoughts)])
    return None
