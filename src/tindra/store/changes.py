"""Folds the events of one type's change log into a page of /changes (RFC 8620 s5.2).

Pure code, shared by the stores that run in this process. Three kinds of events come in, in the
order of (modseq, id): the making of an object that lives, its last change, and a tombstone.

The invariant that makes intermediate states safe: a live object is reported at the place where it
was *made* and again at the place of its last change. Were it listed only by its last change, a
client that stops between the two would later be told of an update of something it never heard of.
For the same reason an id that was destroyed and made again is never folded to an update: the page
ends between the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from tindra.base.ids import ModSeq
from tindra.core.errors import StateTooOld
from tindra.core.ports import ChangePage, Cursor
from tindra.model.mail import parse_email_id

DESTROYED: Final = 0
CREATED: Final = 1
CHANGED: Final = 2
"""Kinds of events, in the order in which one transaction can do them to one id."""

EVENTS_PER_ID_MAX: Final = 16
"""Events read for each id of a page before it is cut short (objects made and destroyed unseen
count for no id)."""


class Event(NamedTuple):
    """One place in the change log; sorts by (modseq, id, kind)."""

    modseq: int
    id: str
    kind: int
    created_modseq: int


def fold_changes(events: Iterable[Event], since: Cursor, limit: int, whole: ModSeq) -> ChangePage:
    """One page of changes.

    Args:
        events: all after `since`, in order; read lazily.
        limit: ids in all three lists together, at least 1.
        whole: the state of the type, which the cursor becomes when nothing is left.
    """
    assert limit >= 1, "a page of changes has room for at least one id"
    existed: dict[str, bool] = {}
    is_alive: dict[str, bool] = {}
    events_left = EVENTS_PER_ID_MAX * limit
    reported = 0
    done = place = (int(since.modseq), since.id)
    for modseq, id, kind, created_modseq in events:
        if (modseq, id) != place:
            done, place = place, (modseq, id)
            if events_left < 0:
                return _page(existed, is_alive, Cursor(ModSeq(done[0]), done[1]), has_more=True)
        events_left -= 1
        was_there = existed.get(id, False) or is_alive.get(id, False)
        known = existed.get(id)
        if known is None:
            known = kind == CHANGED or (kind == DESTROYED and _is_known(created_modseq, id, since))
        reported += (known or kind != DESTROYED) - was_there
        is_made_again = kind == CREATED and known
        if reported > limit or is_made_again:
            return _page(existed, is_alive, Cursor(ModSeq(done[0]), done[1]), has_more=True)
        existed[id] = known
        is_alive.pop(id, None)
        is_alive[id] = kind != DESTROYED
    return _page(existed, is_alive, Cursor(max(whole, since.modseq)), has_more=False)


def find_move_place(since: Cursor) -> tuple[int, int]:
    """(modseq, doc_id): moves above it come after `since`. Raises: StateTooOld for no Email id."""
    if since.id is None:
        return since.modseq, 1 << 53
    doc_id = parse_email_id(since.id)
    if doc_id is None:
        raise StateTooOld(f"no state stands at {since.id!r}")
    return since.modseq, doc_id


def _is_known(created_modseq: int, id: str, since: Cursor) -> bool:
    """Whether an object made at this place is part of the state `since`."""
    if created_modseq != since.modseq:
        return created_modseq < since.modseq
    return since.id is None or id <= since.id


def _page(
    existed: dict[str, bool], is_alive: dict[str, bool], cursor: Cursor, *, has_more: bool
) -> ChangePage:
    page = ChangePage([], [], [], cursor, has_more)
    for id, alive in is_alive.items():
        if existed[id]:
            (page.updated if alive else page.destroyed).append(id)
        elif alive:
            page.created.append(id)
    return page
