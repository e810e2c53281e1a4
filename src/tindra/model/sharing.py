"""Grants narrower than an account: what a user may do in one Mailbox (RFC 8621 s2, RFC 9670 s4).

A Share lies in the account of the Mailbox, written in the transaction that changes it, so what a
caller may see and what is seen are read from one snapshot. A Move remembers that an Email came into
or left a shared Mailbox: the change log of those who see only such Mailboxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from tindra.base.ids import AccountId, MailboxId, ModSeq, ThreadId, UserId

SHARE_RIGHTS: Final = (
    "mayReadItems",
    "mayAddItems",
    "mayRemoveItems",
    "maySetSeen",
    "maySetKeywords",
    "mayCreateChild",
    "mayRename",
    "mayDelete",
    "maySubmit",
    "mayShare",
)
"""The rights of a Mailbox, in the order of RFC 8621 s2, and the one to share it further."""
SHARED_TYPES: Final = ("Email", "Mailbox", "Thread")
"""What who sees only some Mailboxes of an account is told of it. A change of rights changes them
all, so that every device reads anew."""
SHARE_NOTICE: Final = "share-notice"
"""Timer kind: somebody's rights changed, and they are to be told. Payload: a ShareNotice."""
SHARE_SEEN: Final = "share-seen"
"""Timer kind: somebody subscribed to a shared Mailbox, so notifications of it have done their work.
Payload: a ShareSeen."""
PART_STATE_BASE: Final = 100_000_000_000_000
"""Added to every state of who sees a part of an account: the state of a part is never taken for
one of the whole, nor the other way round, when a grant changes. Below 2^53, for JavaScript."""


class Share(msgspec.Struct, frozen=True):
    """What one user may do in one Mailbox of an account of somebody else."""

    mailbox_id: MailboxId
    user_id: UserId
    rights: frozenset[str]
    """Of SHARE_RIGHTS. Empty: taken back, and kept to remember when."""
    is_subscribed: bool = True
    """The user wants to see it (isSubscribed is each viewer's own). Source: RFC 8621 s2"""
    changed_modseq: ModSeq = ModSeq(0)
    """Last change of the rights; set by the store."""


class SharedAccount(msgspec.Struct, frozen=True):
    """An account of which a user sees some Mailboxes: all shares there, summed up."""

    account_id: AccountId
    rights: frozenset[str]
    """Every right held in at least one Mailbox; never empty."""
    is_subscribed: bool
    """To at least one of them."""


def sum_shares(
    account_id: AccountId, shares: Sequence[tuple[frozenset[str], bool]]
) -> SharedAccount:
    """(rights, isSubscribed) of the Mailboxes of one account, put together."""
    rights = frozenset[str]().union(*(held for held, _ in shares))
    return SharedAccount(account_id, rights, any(is_subscribed for _, is_subscribed in shares))


class Move(msgspec.Struct, frozen=True):
    """An Email came into (or left) a Mailbox that was shared at that time."""

    modseq: ModSeq
    """Set by the store."""
    doc_id: int
    mailbox_id: MailboxId
    thread_id: ThreadId
    is_in: bool


class ShareSeen(msgspec.Struct, frozen=True):
    """Who subscribed to what."""

    user_id: UserId
    mailbox_id: MailboxId


class ShareNotice(msgspec.Struct, frozen=True):
    """What a ShareNotification is made from, on its way to the account of who is told."""

    user_id: UserId
    """Who is told."""
    changed_by: UserId | None
    mailbox_id: MailboxId
    name: str
    """Of the Mailbox at that time."""
    changed_ms: int
    old_rights: tuple[str, ...]
    new_rights: tuple[str, ...]
