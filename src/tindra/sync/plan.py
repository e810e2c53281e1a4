"""What to do so that remote, base and local agree: pure functions from three views to operations.

*Remote* is the provider as last seen, *base* what both sides last agreed on, *local* what devices
see. Nothing here reads or writes; a crash is cured by planning again from the three views.
Invariants: planning twice plans nothing new; a local act that base does not know is never lost; an
empty or lying answer never destroys mail (BRAKE_*).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from tindra.model.mail import EmailRow, MailboxRow, RemoteRow
from tindra.sync.ports import RemoteMailbox

BRAKE_MESSAGES_MIN: Final = 20
"""Fewer messages may always go at once."""
BRAKE_SHARE: Final = 0.5
"""More than this share of a mailbox gone in one look must be seen twice before it is believed."""

_FLAG_TO_KEYWORD = {
    "\\seen": "$seen",
    "\\answered": "$answered",
    "\\flagged": "$flagged",
    "\\draft": "$draft",
}
_KEYWORD_TO_FLAG = {
    "$seen": "\\Seen",
    "$answered": "\\Answered",
    "$flagged": "\\Flagged",
    "$draft": "\\Draft",
}


def make_keywords(flags: Iterable[str]) -> tuple[str, ...]:
    """Keywords of IMAP flags: system flags by RFC 8621 s4.1.1, others as they are, but for
    those that mean nothing to a device (\\Deleted, \\Recent)."""
    found = set()
    for flag in flags:
        lower = flag.lower()
        if not lower.startswith("\\"):
            found.add(lower)
        elif lower in _FLAG_TO_KEYWORD:
            found.add(_FLAG_TO_KEYWORD[lower])
    return tuple(sorted(found))


def make_flag(keyword: str) -> str:
    """The IMAP flag of a keyword."""
    return _KEYWORD_TO_FLAG.get(keyword, keyword)


def merge_sets(remote: Iterable[str], base: Iterable[str], local: Iterable[str]) -> tuple[str, ...]:
    """Three ways, member by member: local with what the provider added and removed since base.

    Sorted. With remote == base it is local; with local == base it is remote.
    """
    was, now = set(base), set(remote)
    return tuple(sorted((set(local) | (now - was)) - (was - now)))


class KeywordPush(NamedTuple):
    """Change flags of one remote message so that they say what local says."""

    row: RemoteRow
    add: tuple[str, ...]
    remove: tuple[str, ...]


class PlacePush(NamedTuple):
    """Change where the provider keeps one Email."""

    kind: Literal["move", "copy", "expunge", "append"]
    row: RemoteRow | None
    """The message to move, copy or expunge; None for append."""
    mailbox_id: str | None
    """The target of move, copy and append."""


class PushPlan(NamedTuple):
    """Everything the provider must be told about one Email, in this order."""

    places: tuple[PlacePush, ...]
    keywords: tuple[KeywordPush, ...]

    @property
    def is_empty(self) -> bool:
        """Both sides already agree."""
        return not self.places and not self.keywords


def plan_push(
    local: EmailRow | None, base: Sequence[RemoteRow], mirrored: frozenset[str]
) -> PushPlan:
    """Local to remote for one Email.

    Args:
        local: None when the Email was destroyed here.
        base: every place of it at the provider; negative uids (gone there) are passed over.
        mirrored: Mailboxes that exist at the provider.
    """
    here = sorted((row for row in base if row.uid > 0), key=lambda r: (r.mailbox_id, r.uid))
    if local is None:
        return PushPlan(tuple(PlacePush("expunge", row, None) for row in here), ())
    wanted = [id for id in local.mailbox_ids if id in mirrored]
    held = {row.mailbox_id for row in here}
    missing = [id for id in wanted if id not in held]
    # With no wanted place left that the provider knows, nothing is taken away: better twice than
    # never.
    surplus = [row for row in here if row.mailbox_id not in wanted] if wanted else []
    moves = [PlacePush("move", row, id) for row, id in zip(surplus, missing, strict=False)]
    source = here[0] if here else None
    kind: Literal["copy", "append"] = "append" if source is None else "copy"
    # Copies come first: what is copied from must still be there.
    places = [
        *(PlacePush(kind, source, id) for id in missing[len(moves) :]),
        *moves,
        *(PlacePush("expunge", row, None) for row in surplus[len(moves) :]),
    ]
    gone = {(p.row.mailbox_id, p.row.uid) for p in places if p.kind == "expunge" and p.row}
    keywords = [
        push
        for row in here
        if (row.mailbox_id, row.uid) not in gone
        if (push := _plan_keywords(row, local.keywords)) is not None
    ]
    return PushPlan(tuple(places), tuple(keywords))


def _plan_keywords(row: RemoteRow, local: Sequence[str]) -> KeywordPush | None:
    add = tuple(sorted(set(local) - set(row.keywords)))
    remove = tuple(sorted(set(row.keywords) - set(local)))
    return KeywordPush(row, add, remove) if add or remove else None


def decide_vanished(known: int, gone: int, is_confirmed: bool) -> Literal["apply", "hold"]:
    """Whether to believe that messages left a mailbox.

    Args:
        known: how many messages base has there. gone: how many of them are told of no more.
        is_confirmed: the same was seen before, at another look.
    """
    if gone <= BRAKE_MESSAGES_MIN or is_confirmed or gone <= BRAKE_SHARE * known:
        return "apply"
    return "hold"


class MailboxPlan(NamedTuple):
    """What the list of remote mailboxes asks for locally. Parents come before their children."""

    create: tuple[RemoteMailbox, ...]
    rename: tuple[tuple[str, RemoteMailbox], ...]
    """(mailbox id, what it is now): role changes only; a renamed path is a new mailbox."""
    forget: tuple[str, ...]
    """Mailbox ids whose remote is gone."""


def plan_mailboxes(
    listed: Sequence[RemoteMailbox],
    known: Mapping[str, str],
    local: Mapping[str, MailboxRow],
) -> MailboxPlan:
    """Remote to local for the tree of mailboxes.

    Args:
        listed: what the provider lists now; an empty list plans nothing at all.
        known: remote name -> mailbox id, as base has it.
        local: mailbox id -> row.
    """
    if not listed:
        return MailboxPlan((), (), ())
    names = {item.name for item in listed}
    create = sorted((m for m in listed if m.name not in known), key=_depth)
    taken = {row.role for row in local.values() if row.role}
    rename = [
        (known[m.name], m)
        for m in listed
        if m.name in known
        and m.role is not None
        and m.role not in taken
        and known[m.name] in local
        and local[known[m.name]].role is None
    ]
    forget = [id for name, id in known.items() if name not in names]
    return MailboxPlan(tuple(create), tuple(rename), tuple(sorted(forget)))


def _depth(mailbox: RemoteMailbox) -> int:
    return mailbox.name.count(mailbox.delimiter) if mailbox.delimiter else 0


def split_name(mailbox: RemoteMailbox) -> tuple[str | None, str]:
    """(name of the parent or None, own last part) of a remote path."""
    if mailbox.delimiter is None or mailbox.delimiter not in mailbox.name:
        return None, mailbox.name
    parent, _, leaf = mailbox.name.rpartition(mailbox.delimiter)
    return (parent or None), (leaf or mailbox.name)
