"""The people, conversations, newsletters and machines of the demo mailbox, read from `texts/`.

Only content and its tiny file format live here; how it becomes mail is in `mailmaker` and below.

Format, shared by all block files: `=== title` opens a block, `::: name value` is a property of it,
`>>> heading` opens an entry whose text follows (blank lines part paragraphs), `* label | value` is
a row and `+++ kind filename` an attachment of that entry, `#` at a line's start is a comment.
Invariant: what is returned is immutable and made once; every slot named in a text exists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources
from typing import Final

import msgspec

from tindra.app.demo.mail.dice import Dice

OWNER_KEY: Final = "alex"
"""Whose mailbox it is."""
OWNER_ADDRESS: Final = "demo@tindra.test"
POST_OFFICE_KEY: Final = "pip"
"""Who answers when the owner writes to themself."""
_SLOT: Final = re.compile(r"\{([a-z]+)(\d?)\}")


class Person(msgspec.Struct, frozen=True):
    """Somebody who writes, with the habits of their mail program."""

    key: str
    name: str
    address: str
    charset: str
    has_html: bool
    client: str
    zone_minutes: int
    about: str
    signature: tuple[str, ...]

    @property
    def domain(self) -> str:
        """The part of the address behind the at sign."""
        return self.address.partition("@")[2]


class Attachment(msgspec.Struct, frozen=True):
    """A file that is made on demand."""

    kind: str
    """pdf, png, csv, docx, xlsx or odp."""
    filename: str


class Entry(msgspec.Struct, frozen=True):
    """One message of a conversation, one story of a newsletter, one notice of a machine."""

    heading: str
    text: str
    rows: tuple[tuple[str, str], ...]
    attachments: tuple[Attachment, ...]


class Block(msgspec.Struct, frozen=True):
    """A conversation, a newsletter, a machine, a meeting: a title, properties and entries."""

    title: str
    properties: dict[str, str]
    entries: tuple[Entry, ...]

    def get(self, name: str, default: str = "") -> str:
        """One property."""
        return self.properties.get(name, default)


class Story(msgspec.Struct, frozen=True):
    """Everything there is to tell."""

    people: dict[str, Person]
    threads: tuple[Block, ...]
    letters: tuple[Block, ...]
    newsletters: tuple[Block, ...]
    notices: tuple[Block, ...]
    junk: tuple[Block, ...]
    meetings: tuple[Block, ...]
    notes: tuple[tuple[str, str], ...]
    """Subject and text."""
    drafts: tuple[tuple[str, str, str], ...]
    """Key of the recipient (or empty), subject, text."""
    replies: dict[str, tuple[str, ...]]
    slots: dict[str, tuple[str, ...]]

    @property
    def owner(self) -> Person:
        """The person whose mailbox it is."""
        return self.people[OWNER_KEY]

    def correspondents(self) -> list[Person]:
        """Everybody but the owner and the post office, in the order of the file."""
        return [p for p in self.people.values() if p.key not in (OWNER_KEY, POST_OFFICE_KEY)]

    def person_at(self, address: str) -> Person | None:
        """Who answers at `address`, letter case ignored."""
        wanted = address.lower()
        return next((p for p in self.people.values() if p.address == wanted), None)


class SlotFiller:
    """Fills `{slots}`: the same slot has one value through one conversation."""

    def __init__(self, story: Story, dice: Dice) -> None:
        self._pools = story.slots
        self._dice = dice
        self._chosen: dict[str, str] = {}

    def fill(self, text: str) -> str:
        """`text` with every slot replaced; a sentence that opens with one opens with a capital."""
        filled = _SLOT.sub(self._value, text)
        return filled[:1].upper() + filled[1:] if text.startswith("{") else filled

    def _value(self, match: re.Match[str]) -> str:
        if match[0] not in self._chosen:
            pool = self._pools[match[1]]
            taken = set(self._chosen.values())
            free = [value for value in pool if value not in taken] or list(pool)
            self._chosen[match[0]] = self._dice.choice(free)
        return self._chosen[match[0]]


@lru_cache(maxsize=1)
def load_story() -> Story:
    """The whole story. Cost: parses about 80 KB of text once a process."""
    return Story(
        people={person.key: person for person in map(_parse_person, _lines("people"))},
        threads=tuple(_parse_blocks("threads")),
        letters=tuple(_parse_blocks("letters")),
        newsletters=tuple(_parse_blocks("newsletters")),
        notices=tuple(_parse_blocks("notices")),
        junk=tuple(_parse_blocks("junk")),
        meetings=tuple(_parse_blocks("invitations")),
        notes=tuple((first, second) for first, second in map(_columns, _lines("notes"))),
        drafts=tuple((a, b, c) for a, b, c in map(_columns, _lines("drafts"))),
        replies=_parse_replies(),
        slots={
            name: tuple(_columns(values))
            for name, _, values in (line.partition(":") for line in _lines("slots"))
        },
    )


def _lines(name: str, *, keep_blank: bool = False) -> Iterator[str]:
    source = resources.files("tindra.app.demo.mail").joinpath("texts", f"{name}.txt")
    for line in source.read_text("utf-8").splitlines():
        if not line.startswith("#") and (keep_blank or line.strip()):
            yield line.rstrip()


def _columns(line: str) -> list[str]:
    return [column.strip() for column in line.split("|")]


def _parse_person(line: str) -> Person:
    key, name, address, charset, html, client, zone, about, signature = _columns(line)
    return Person(
        key=key,
        name=name,
        address=address,
        charset=charset,
        has_html=html == "yes",
        client=client,
        zone_minutes=int(zone),
        about=about,
        signature=tuple(signature.split("/")),
    )


def _parse_replies() -> dict[str, tuple[str, ...]]:
    replies: dict[str, tuple[str, ...]] = {}
    for line in _lines("replies"):
        key, _, text = line.partition(": ")
        replies[key] = (*replies.get(key, ()), text)
    return replies


class _OpenEntry:
    """An entry while its lines are still coming."""

    def __init__(self, heading: str) -> None:
        self.heading = heading
        self.text: list[str] = []
        self.rows: list[tuple[str, str]] = []
        self.attachments: list[Attachment] = []

    def close(self) -> Entry:
        return Entry(
            self.heading,
            "\n".join(self.text).strip("\n"),
            tuple(self.rows),
            tuple(self.attachments),
        )


class _OpenBlock:
    """A block while its lines are still coming."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.properties: dict[str, str] = {}
        self.entries: list[_OpenEntry] = []

    def take(self, line: str) -> None:
        mark, _, rest = line.partition(" ")
        if mark == ":::":
            name, _, value = rest.partition(" ")
            self.properties[name] = value
        elif mark == ">>>":
            self.entries.append(_OpenEntry(rest))
        elif not self.entries:
            return
        elif mark == "+++":
            self.entries[-1].attachments.append(Attachment(*rest.split(" ", 1)))
        elif mark == "*":
            label, value = _columns(rest)
            self.entries[-1].rows.append((label, value))
        else:
            self.entries[-1].text.append(line)

    def close(self) -> Block:
        return Block(self.title, self.properties, tuple(entry.close() for entry in self.entries))


def _parse_blocks(name: str) -> Iterator[Block]:
    block: _OpenBlock | None = None
    for line in _lines(name, keep_blank=True):
        if line.startswith("=== "):
            if block is not None:
                yield block.close()
            block = _OpenBlock(line[4:])
        elif block is not None:
            block.take(line)
    if block is not None:
        yield block.close()
