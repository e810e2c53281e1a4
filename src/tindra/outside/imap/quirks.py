"""What known hosts do differently, as data: one row a host pattern; no behaviour lives here.

A row only switches off or slows down; everything else adapts to what a server says of itself. The
first row whose pattern fits the host name counts.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Final

import msgspec

IDLE_RENEW_MS: Final = 10 * 60 * 1000
"""IDLE is renewed this often: RFC 2177 allows 29 minutes, home routers forget sooner."""
POLL_MS: Final = 60 * 1000
"""Between two questions to a server that cannot IDLE."""


class Quirks(msgspec.Struct, frozen=True, kw_only=True):
    """How to treat a host."""

    patterns: tuple[str, ...]
    """Host names in lower case, `*` matches anything."""
    why: str
    lies: frozenset[str] = frozenset()
    """Capabilities that are announced and not sound."""
    idle_renew_ms: int = IDLE_RENEW_MS
    is_polled_by_status: bool = False
    """NOOP tells nothing there: ask STATUS too."""
    is_partial_sound: bool = True
    """False: a partial fetch of a whole message cannot be trusted."""


DEFAULT_QUIRKS: Final = Quirks(patterns=("*",), why="nothing is known of this host")
QUIRKS: Final = (
    Quirks(
        patterns=("imap.mail.me.com", "*.mail.me.com", "*.icloud.com"),
        why="VANISHED comes malformed: losses would go unseen for ever",
        lies=frozenset({"QRESYNC"}),
    ),
    Quirks(
        patterns=("*.mail.yahoo.com", "*.yahoo.co.jp", "imap.aol.com"),
        why="IDLE goes deaf after some minutes",
        idle_renew_ms=3 * 60 * 1000,
    ),
    Quirks(
        patterns=("imap.rambler.ru",),
        why="silent connections are dropped after a minute",
        idle_renew_ms=55 * 1000,
    ),
    Quirks(
        patterns=("imap.163.com", "imap.126.com", "imap.yeah.net", "imap.188.com"),
        why="neither IDLE nor NOOP tells of new mail",
        lies=frozenset({"IDLE"}),
        is_polled_by_status=True,
    ),
)


def find_quirks(host: str) -> Quirks:
    """The row for a host name; `DEFAULT_QUIRKS` when none fits."""
    name = host.lower().rstrip(".")
    for row in QUIRKS:
        if any(fnmatchcase(name, pattern) for pattern in row.patterns):
            return row
    return DEFAULT_QUIRKS
