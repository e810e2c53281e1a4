"""Everything the store in memory keeps of one account. Values are immutable, only the dicts change.

Invariant: a transaction works on a copy and replaces the original when it ends well, so a reader
that holds the original has a snapshot, and a failure leaves no trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass, field

from tindra.base.ids import MailboxId, ThreadId, UserId
from tindra.model.mail import EmailContent, EmailRow, MailboxRow, RemoteRow, ThreadRow
from tindra.model.sharing import Move, Share
from tindra.model.stored import BlobRow, ObjectRow, OutboxRow, TimerRow
from tindra.store.invariants import Stamp


@dataclass
class AccountState:
    """The rows of one account."""

    modseq: int = 0
    fence: int = 0
    floor: int = 0
    doc_counter: int = 0
    states: dict[str, int] = field(default_factory=dict)
    tombstones: list[Stamp] = field(default_factory=list)
    objects: dict[tuple[str, str], ObjectRow] = field(default_factory=dict)
    mailboxes: dict[MailboxId, MailboxRow] = field(default_factory=dict)
    emails: dict[int, EmailRow] = field(default_factory=dict)
    contents: dict[int, EmailContent] = field(default_factory=dict)
    threads: dict[str, ThreadRow] = field(default_factory=dict)
    references: dict[tuple[str, ThreadId], None] = field(default_factory=dict)
    blobs: dict[str, BlobRow] = field(default_factory=dict)
    outbox: dict[tuple[str, str], OutboxRow] = field(default_factory=dict)
    timers: dict[tuple[str, str], TimerRow] = field(default_factory=dict)
    remote: dict[tuple[str, int], RemoteRow] = field(default_factory=dict)
    shares: dict[tuple[MailboxId, UserId], Share] = field(default_factory=dict)
    moves: dict[tuple[int, int, MailboxId], Move] = field(default_factory=dict)

    def copy(self) -> AccountState:
        """An independent copy. Cost: O(rows), no row is copied itself."""
        twin = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, dict | list):
                setattr(twin, name, value.copy())
        return twin

    def live_stamps(self) -> list[Stamp]:
        """When everything that lives was made and last changed."""
        return [
            *_stamps("Email", self.emails.values()),
            *_stamps("Mailbox", self.mailboxes.values()),
            *_stamps("Thread", self.threads.values()),
            *(
                Stamp(type_name, row.id, row.created_modseq, row.changed_modseq)
                for (type_name, _), row in self.objects.items()
            ),
        ]


def _stamps(type_name: str, rows: Iterable[EmailRow | MailboxRow | ThreadRow]) -> Iterator[Stamp]:
    for row in rows:
        yield Stamp(type_name, row.id, row.created_modseq, row.changed_modseq)
