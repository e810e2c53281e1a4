"""What a script decided, and what it must be told of the world. Values only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec


class FileInto(NamedTuple):
    """Put the message into a mailbox. Source: RFC 5228 s4.1"""

    mailbox: str
    flags: tuple[str, ...] | None
    """None: as they are."""
    is_created: bool = False
    """Make the mailbox if it is missing. RFC 5490 s3.2"""
    special_use: str | None = None
    """The mailbox of this use, if there is one, before that of the name. RFC 8579 s4"""


class Vacation(NamedTuple):
    """Answer by itself. Source: RFC 5230 s4"""

    reason: str
    days: int
    subject: str | None
    sender: str | None
    addresses: tuple[str, ...]
    is_entity: bool
    """The reason is a whole MIME entity."""
    handle: str
    """Answers that count together."""


class Note(NamedTuple):
    """Remember that a message with this key came by. Source: RFC 7352 s3"""

    key: str
    seconds: int
    is_last: bool
    """Counted from the last such message, and not from the first."""


class Outcome(msgspec.Struct):
    """Everything that one run of a script decided."""

    is_kept: bool = False
    """It stays in the inbox, by keep or because nothing else was said."""
    keep_flags: tuple[str, ...] | None = None
    files: list[FileInto] = []
    redirects: list[str] = []
    vacation: Vacation | None = None
    notes: list[Note] = []
    error: str | None = None
    """Why it ended early: then the message is kept, and nothing else happens."""


class Surroundings(NamedTuple):
    """What a script may ask about."""

    now_ms: int
    mailboxes: frozenset[str] = frozenset()
    """Full names, as `find_mailbox` of the caller takes them, case folded."""
    special_uses: Mapping[str, str] = {}
    r"""Use (lower case: "\junk") -> full name, case folded."""
    is_known: Callable[[str], bool] = lambda _: False
    """Whether a message with this key (Note.key) came by lately."""
    flags: tuple[str, ...] = ()
    """Of the message as it came."""
