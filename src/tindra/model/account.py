"""Users, accounts, grants, credentials: the directory nouns (RFC 8620 s1.6.2).

A user signs in; an account is the unit of data, of sharing and of sharding.
"""

from __future__ import annotations

import msgspec

from tindra.base.ids import AccountId, UserId


class User(msgspec.Struct, frozen=True):
    """Someone who signs in. Directory row."""

    id: UserId
    login: str
    """Lower case, as typed at sign-in; unique."""
    password_hash: str
    """scrypt with its parameters and salt; empty when only tokens may sign in."""
    home_account_id: AccountId
    created_ms: int
    name: str = ""
    """What others read of them, set by themselves, as the two below. Source: RFC 9670 s2"""
    description: str = ""
    time_zone: str = ""
    """A name of the IANA Time Zone Database; empty for not told."""


class Account(msgspec.Struct, frozen=True):
    """A JMAP account: one connected mailbox, one shared inbox, or one person's own things."""

    id: AccountId
    name: str
    """What a person reads: an address, usually."""
    owner_id: UserId
    """Whose personal marks ($seen ...) are those on the rows themselves."""
    created_ms: int


class Grant(msgspec.Struct, frozen=True):
    """What a user may do in an account, and when. Directory row, keyed by user."""

    user_id: UserId
    account_id: AccountId
    rights: frozenset[str]
    """Of read, triage, send, admin."""
    from_ms: int = 0
    until_ms: int | None = None
    """Exclusive; None for no end."""

    def may_read_at(self, now_ms: int) -> bool:
        """Whether the account is there at all for the user at this moment."""
        is_in_time = self.from_ms <= now_ms and (self.until_ms is None or now_ms < self.until_ms)
        return is_in_time and "read" in self.rights


class Token(msgspec.Struct, frozen=True):
    """A device sign-in or an app password; only its hash is kept."""

    hash: bytes
    """SHA-256 of the token text, which has at least 128 random bits."""
    user_id: UserId
    name: str
    """The device, as its owner will read it in a list."""
    kind: str
    """"device" (Bearer) or "app" (password for Basic)."""
    created_ms: int
    expires_ms: int | None = None


ALL_RIGHTS = frozenset({"read", "triage", "send", "admin"})
