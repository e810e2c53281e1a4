"""What to do so that remote, base and local agree: pure functions from three views to operations.

*Remote* is the provider as last seen, *base* what both sides last agreed on, *local* what devices
see. Nothing here reads or writes; a crash is cured by planning again from the three views.
Base has a row for each message at the provider; the last place of an Email that vanished leaves a
*ghost* there, which remembers for a while what had been agreed: the mail may be on its way.
Invariants: planning twice plans nothing new; a local act that base does not know is never lost; an
empty or lying answer never destroys mail (BRAKE_*).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Generic, Literal, NamedTuple, TypeVar

import msgspec

from tindra.base.ids import MailboxId
from tindra.model.mail import EmailRow, MailboxRow, RemoteRow, parse_email_id
from tindra.sync.ports import RemoteMailbox

K = TypeVar("K")
BRAKE_MESSAGES_MIN: Final = 20
"""Fewer messages may always go at once."""
BRAKE_SHARE: Final = 0.5
"""More than this share of a mailbox gone in one look must be seen twice before it is believed."""
BRAKE_MAILBOXES_MIN: Final = 3
"""Fewer mailboxes may always go at once, if they hold next to nothing."""
BRAKE_HANDFUL: Final = 5
"""Mailboxes that hold more messages than this together must be missed twice."""
GHOST_MARK: Final = "~"
"""A ghost is kept under this and the id of the Mailbox it was in, with the Email's number as uid:
so ghosts are found without reading the Mailbox, and there is one an Email and Mailbox."""
GHOST_LOST: Final = 0
"""Kind of a ghost whose message is known to have left."""
GHOST_UNSEEN: Final = 1
"""Kind of a ghost whose message may still be there: the uids of the Mailbox started anew."""

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
SYSTEM_KEYWORDS: Final = frozenset(_KEYWORD_TO_FLAG)
"""Every provider keeps these."""


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


def make_ghost(row: RemoteRow, kind: int) -> RemoteRow:
    """What stays of the base row of a message that is no more where it was."""
    return RemoteRow(
        MailboxId(GHOST_MARK + row.mailbox_id),
        parse_email_id(row.email_id) or 0,
        row.email_id,
        row.keywords,
        kind,
    )


def get_kind(ghost: RemoteRow) -> int:
    """GHOST_LOST or GHOST_UNSEEN: the last bit of its modseq."""
    return ghost.modseq & 1


def get_stamp(ghost: RemoteRow) -> int:
    """When it was first held back, by the brake's clock: the rest of its modseq; 0: never."""
    return ghost.modseq >> 1


def stamp_ghost(ghost: RemoteRow, clock_ms: int) -> RemoteRow:
    """The same ghost, held back since then."""
    return msgspec.structs.replace(ghost, modseq=clock_ms << 1 | get_kind(ghost))


def is_ghost(row: RemoteRow) -> bool:
    """Whether a base row is a ghost."""
    return row.mailbox_id.startswith(GHOST_MARK)


def find_home(ghost: RemoteRow) -> MailboxId:
    """The Mailbox that a ghost was in."""
    return MailboxId(ghost.mailbox_id.removeprefix(GHOST_MARK))


def merge_places(
    found: Iterable[str], base: Sequence[RemoteRow], local: Sequence[MailboxId]
) -> tuple[MailboxId, ...]:
    """Where an Email is, after the provider told of a change.

    Args:
        found: the Mailboxes in which the provider has it now.
        base: all its rows from before, ghosts too. A ghost whose message may still be where it was
            says nothing yet.
    """
    now = set(found)
    unseen = {find_home(row) for row in base if is_ghost(row) and get_kind(row) == GHOST_UNSEEN}
    was = {find_home(row) for row in base}
    merged = merge_sets(now | unseen, was, local)
    return tuple(MailboxId(id) for id in merged or sorted(now))


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
        base: every place of it at the provider, and its ghosts: nothing is put where one is.
        mirrored: Mailboxes that exist at the provider.
    """
    here = sorted((r for r in base if not is_ghost(r)), key=lambda r: (r.mailbox_id, r.uid))
    if local is None:
        return PushPlan(tuple(PlacePush("expunge", row, None) for row in here), ())
    wanted = [id for id in local.mailbox_ids if id in mirrored]
    held = {find_home(row) for row in base}
    missing = [id for id in wanted if id not in held]
    # With no wanted place that the provider has or will get for sure, nothing is taken away: better
    # twice than never.
    is_safe = bool(missing) or any(row.mailbox_id in wanted for row in here)
    surplus = [row for row in here if row.mailbox_id not in wanted] if is_safe else []
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


class HeldBack(NamedTuple, Generic[K]):
    """Losses (uids, or mailboxes) that are not believed yet."""

    lost: frozenset[K]
    since_ms: int
    """The first of the looks that agree in them."""


def hold_back(before: HeldBack[K] | None, lost: frozenset[K], now_ms: int) -> HeldBack[K]:
    """What another look makes of losses: they are as old as before if it still lacks them all."""
    is_same = before is not None and before.lost <= lost
    return HeldBack(lost, before.since_ms if before is not None and is_same else now_ms)


def decide_mailboxes_gone(
    known: int, gone: int, messages: int, is_confirmed: bool
) -> Literal["apply", "hold"]:
    """The same for mailboxes that are not listed any more.

    Args:
        known: how many mailboxes base has. gone: how many of them are missing.
        messages: how many messages the missing ones held together.
    """
    is_small = gone < BRAKE_MAILBOXES_MIN or gone <= BRAKE_SHARE * known
    return "apply" if is_confirmed or (is_small and messages <= BRAKE_HANDFUL) else "hold"


class Place(NamedTuple):
    """A mailbox in the tree, as its remote name tells."""

    parent_id: str | None
    name: str


class MailboxPlan(NamedTuple):
    """What the list of remote mailboxes asks for locally. Parents come before their children."""

    create: tuple[RemoteMailbox, ...]
    rename: tuple[tuple[str, RemoteMailbox], ...]
    """(mailbox id, what it is called now)."""
    roles: tuple[tuple[str, str], ...]
    """(mailbox id, role that it got)."""
    forget: tuple[str, ...]
    """Mailbox ids whose remote is gone."""


def match_renames(gone: Mapping[str, int], new: Mapping[str, int]) -> dict[str, str]:
    """Which mailboxes only changed their name: old -> new, for those that leave no doubt.

    Args:
        gone: name -> uidValidity of mailboxes that are listed no more; 0: not known.
        new: the same of those that were never listed before.
    """
    by_stamp: dict[int, list[str]] = {}
    for name, stamp in new.items():
        by_stamp.setdefault(stamp, []).append(name)
    stamps = list(gone.values())
    return {
        name: by_stamp[stamp][0]
        for name, stamp in gone.items()
        if stamp and stamps.count(stamp) == 1 and len(by_stamp.get(stamp, ())) == 1
    }


def plan_mailboxes(
    listed: Sequence[RemoteMailbox],
    known: Mapping[str, str],
    local: Mapping[str, MailboxRow],
    renamed: Mapping[str, str],
) -> MailboxPlan:
    """Remote to local for the tree of mailboxes.

    Args:
        listed: what the provider lists now; an empty list plans nothing at all.
        known: remote name -> mailbox id, as base has it.
        local: mailbox id -> row.
        renamed: old remote name -> new one (match_renames).
    """
    if not listed:
        return MailboxPlan((), (), (), ())
    by_name = {item.name: item for item in listed}
    kept = {renamed.get(name, name): id for name, id in known.items()}
    create = sorted((m for m in listed if m.name not in kept), key=_depth)
    moves = [(known[old], by_name[new]) for old, new in renamed.items()]
    taken = {row.role for row in local.values() if row.role}
    roles = [
        (kept[m.name], m.role)
        for m in listed
        if m.role is not None
        and m.role not in taken
        and (row := local.get(kept.get(m.name, ""))) is not None
        and row.role is None
    ]
    forget = [id for name, id in kept.items() if name not in by_name]
    return MailboxPlan(
        tuple(create),
        tuple(sorted(moves, key=lambda move: _depth(move[1]))),
        tuple(roles),
        tuple(sorted(forget)),
    )


def find_place(mailbox: RemoteMailbox, known: Mapping[str, str]) -> Place:
    """Where a remote mailbox stands in the local tree.

    Args:
        known: remote name -> mailbox id. Under a parent that is not known the whole path is the
            name.
    """
    if mailbox.name.upper() == "INBOX":
        return Place(None, "Inbox")
    parent, leaf = split_name(mailbox)
    if parent is None or parent not in known:
        return Place(None, mailbox.name)
    return Place(known[parent], leaf)


def _depth(mailbox: RemoteMailbox) -> int:
    return mailbox.name.count(mailbox.delimiter) if mailbox.delimiter else 0


def split_name(mailbox: RemoteMailbox) -> tuple[str | None, str]:
    """(name of the parent or None, own last part) of a remote path."""
    if mailbox.delimiter is None or mailbox.delimiter not in mailbox.name:
        return None, mailbox.name
    parent, _, leaf = mailbox.name.rpartition(mailbox.delimiter)
    return (parent or None), (leaf or mailbox.name)
