"""What the change log of an account is to somebody who sees a part of it (RFC 8620 s5.2).

Pure code. From a state that is whole it is exact: what came into sight is created, what went out of
sight destroyed. Inside of a paging nobody knows whether a device was told of an Email that moved
meanwhile, so what moved is told as made if it is there, and as destroyed if it is not: whoever
folds it ends right.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tindra.base.ids import MailboxId
from tindra.core.ports import ChangePage, Cursor
from tindra.model.sharing import Move


def list_before(now: Iterable[MailboxId], moves: Sequence[Move]) -> set[MailboxId]:
    """Where an Email was before its `moves`, which are in order and have led to `now`."""
    places = set(now)
    first: dict[MailboxId, bool] = {}
    for move in moves:
        first.setdefault(move.mailbox_id, move.is_in)
    for mailbox_id, came_in in first.items():
        if came_in:
            places.discard(mailbox_id)
        else:
            places.add(mailbox_id)
    return places


class Fold:
    """A page of changes in the making."""

    def __init__(self, cursor: Cursor, has_more: bool, *, is_paging: bool) -> None:
        """
        Args:
            is_paging: it begins inside of a paging, not at a whole state.
        """
        self.is_paging = is_paging
        self._page = ChangePage([], [], [], cursor, has_more)

    def make_page(self) -> ChangePage:
        """What was found."""
        return self._page

    def add_created(self, id: str) -> None:
        """It came into sight."""
        self._page.created.append(id)

    def add_updated(self, id: str) -> None:
        """It was and is in sight."""
        self._page.updated.append(id)

    def add_destroyed(self, id: str) -> None:
        """It went out of sight."""
        self._page.destroyed.append(id)


def sort_out(fold: Fold, id: str, was_there: bool, is_there: bool, *, has_moved: bool) -> None:
    """Put an object that changed where it belongs, or nowhere if it was and is out of sight."""
    if fold.is_paging and has_moved:
        if is_there:
            fold.add_created(id)
        else:
            fold.add_destroyed(id)
    elif is_there:
        if was_there:
            fold.add_updated(id)
        else:
            fold.add_created(id)
    elif was_there:
        fold.add_destroyed(id)
