"""Gathers the untagged data of one command into its answer; pure, fed with events one by one.

The machine never ties untagged data to a command; these collectors do, for the two commands whose
answer is spread over many kinds of lines: SELECT/EXAMINE and UID SEARCH.

Invariants: a collector never forgets a loss: a `Malformed` VANISHED or FETCH makes a resync
incomplete, and a search whose own count disagrees with its set is no answer.

Sources: RFC 9051 s6.3.2, RFC 7162 s3.1.2, RFC 7162 s3.2.5, RFC 4731 s3.1.
"""

from __future__ import annotations

import msgspec

from tindra.wire.imap.machine import Event
from tindra.wire.imap.response import (
    ESearch,
    Exists,
    Fetch,
    Flags,
    Malformed,
    Search,
    Status,
    Vanished,
    read_code_flags,
)
from tindra.wire.imap.seqset import UID_MAX, UidRange, count_uids, expand_uids, merge_ranges


class SelectAnswer(msgspec.Struct):
    """What SELECT or EXAMINE told; None: the server was silent on that."""

    exists: int | None = None
    uid_validity: int | None = None
    uid_next: int | None = None
    highest_modseq: int | None = None
    is_modseq_denied: bool = False
    """NOMODSEQ was said: this mailbox keeps no mod-sequences."""
    flags: frozenset[str] = frozenset()
    permanent_flags: frozenset[str] | None = None
    read_only: bool = False
    changed: list[Fetch] = []
    vanished: list[UidRange] = []
    is_damaged: bool = False
    """A line that could have told a change could not be read."""
    is_validity_odd: bool = False
    """A UIDVALIDITY was told that is no positive number."""

    def find_fault(self) -> str | None:
        """What makes the answer useless, in words; None: it has what it must have."""
        if self.uid_validity is None:
            odd = "a UIDVALIDITY that is no positive number"
            return odd if self.is_validity_odd else "no UIDVALIDITY"
        return "no usable number of messages" if self.exists is None else None

    def take(self, event: Event) -> None:
        """Feed one event between sending the command and its tagged answer."""
        if isinstance(event, Exists):
            self.exists = event.count
        elif isinstance(event, Flags):
            self.flags = event.flags
        elif isinstance(event, Status):
            self._take_code(event)
        elif isinstance(event, Fetch):
            if event.uid is None:
                self.is_damaged = True
            else:
                self.changed.append(event)
        elif isinstance(event, Vanished):
            self.vanished += event.ranges
        elif isinstance(event, Malformed) and event.keyword in ("VANISHED", "FETCH"):
            self.is_damaged = True

    def finish(self, status: Status) -> None:
        """Feed the tagged OK."""
        self._take_code(status)
        self.read_only = status.code is not None and status.code.name == "READ-ONLY"
        self.vanished = merge_ranges(self.vanished)

    def _take_code(self, status: Status) -> None:
        code = status.code
        if code is None:
            return
        if code.name == "UIDVALIDITY":
            self.uid_validity = code.number or None
            self.is_validity_odd = not code.number
        elif code.name == "UIDNEXT":
            self.uid_next = code.number or None
        elif code.name == "HIGHESTMODSEQ":
            self.highest_modseq = code.number or None
        elif code.name == "NOMODSEQ":
            self.is_modseq_denied = True
        elif code.name == "PERMANENTFLAGS":
            self.permanent_flags = read_code_flags(code)

    def is_resynced(self, uid_validity: int, highest_modseq: int) -> bool:
        """Whether `changed` and `vanished` are all that happened since these values.

        False when the numbering changed, when the server keeps no mod-sequences or went back in
        them, or when a line was lost.
        """
        return (
            self.uid_validity == uid_validity
            and self.highest_modseq is not None
            and self.highest_modseq >= highest_modseq
            and not self.is_modseq_denied
            and not self.is_damaged
        )


class SearchAnswer(msgspec.Struct):
    """What UID SEARCH told."""

    found: set[int] = set()
    ranges: list[UidRange] = []
    count: int | None = None
    was_told: bool = False
    is_damaged: bool = False

    def take(self, event: Event) -> None:
        """Feed one event between sending the command and its tagged answer."""
        if isinstance(event, Search):
            self.was_told = True
            self.found.update(event.found)
        elif isinstance(event, ESearch):
            self.was_told = True
            self.ranges += event.ranges or []
            self.count = event.count if event.count is not None else self.count
        elif isinstance(event, Malformed) and event.keyword in ("SEARCH", "ESEARCH"):
            self.is_damaged = True

    def uids(self) -> list[int] | None:
        """All UIDs, ascending; None when the answer is missing, damaged or contradicts itself.

        Raises: RemoteProtocolError: a set too large to be true.
        """
        if not self.was_told or self.is_damaged:
            return None
        ranges = merge_ranges(self.ranges)
        if self.count is not None and ranges and count_uids(ranges) != self.count:
            return None
        found = self.found.union(expand_uids(ranges)) if ranges else self.found
        if self.count is not None and len(found) != self.count:
            return None
        return sorted(uid for uid in found if 0 < uid <= UID_MAX)
