"""The Mailboxes of an account as one Mailbox/set changes them, and what must hold of their tree.

Pure: rows in, answers out; nothing is read or stored here. Source: RFC 8621 s2
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tindra.base import limits
from tindra.core.errors import SetError
from tindra.model.mail import MailboxRow
from tindra.wire.mime.charset import normalise_nfc

_Place = tuple[str | None, str]
"""Parent and name, in form C: names that look the same are the same (RFC 5198 s3)."""


def _place_of(row: MailboxRow) -> _Place:
    return row.parent_id, normalise_nfc(row.name)


class MailboxTree:
    """Mailboxes by id, with an index of what must be unique."""

    def __init__(self, rows: Iterable[MailboxRow]) -> None:
        self.rows: dict[str, MailboxRow] = {}
        self._places: dict[_Place, set[str]] = {}
        self._roles: dict[str, set[str]] = {}
        self._children: dict[str | None, set[str]] = {}
        for row in rows:
            self.put(row)

    def put(self, row: MailboxRow) -> None:
        """Add a Mailbox, or replace it; nothing is checked."""
        self.drop(row.id)
        self.rows[row.id] = row
        self._places.setdefault(_place_of(row), set()).add(row.id)
        self._children.setdefault(row.parent_id, set()).add(row.id)
        if row.role is not None:
            self._roles.setdefault(row.role, set()).add(row.id)

    def drop(self, id: str) -> None:
        """Remove a Mailbox, if it is there; its children stay, without a parent."""
        row = self.rows.pop(id, None)
        if row is not None:
            self._places[_place_of(row)].discard(id)
            self._children[row.parent_id].discard(id)
            if row.role is not None:
                self._roles[row.role].discard(id)

    def has_children(self, id: str) -> bool:
        """Whether Mailboxes lie under this one."""
        return bool(self._children.get(id))

    def count_depth(self, id: str) -> int:
        """How many Mailboxes lie above this one; stops above MAILBOX_DEPTH_MAX."""
        return sum(1 for _ in self._list_above(self.rows[id]))

    def check_place(self, row: MailboxRow) -> None:
        """Whether `row` may be put among all the others as they are now.

        Raises: SetError invalidProperties, naming name, role or parentId.
        Cost: O(Mailboxes under it). Source: RFC 8621 s2
        """
        if self._places.get(_place_of(row), set()) - {row.id}:
            raise SetError("invalidProperties", "a sibling has this name", ["name"])
        is_inbox_name = row.parent_id is None and row.name.casefold() == "inbox"
        if is_inbox_name and self._roles.get("inbox", set()) - {row.id}:
            # Providers know the inbox by its name alone, however it is written (RFC 9051 s5.1).
            raise SetError("invalidProperties", "only the inbox is called so", ["name"])
        if row.role is not None and self._roles.get(row.role, set()) - {row.id}:
            raise SetError("invalidProperties", "another Mailbox has this role", ["role"])
        above = list(self._list_above(row))
        top = above[-1] if above else row
        if any(one.id == row.id for one in above) or top.parent_id is not None:
            raise SetError("invalidProperties", "no such parent, or under itself", ["parentId"])
        if len(above) + self._measure_height(row.id) > limits.MAILBOX_DEPTH_MAX:
            raise SetError("invalidProperties", "too deep", ["parentId"])

    def is_sound(self, changed: Iterable[str], destroyed: Iterable[str]) -> bool:
        """Whether all is as it must be after these were changed or made, and those destroyed."""
        try:
            for id in changed:
                self.check_place(self.rows[id])
        except SetError:
            return False
        has_orphans = any(map(self.has_children, destroyed))
        return not has_orphans and len(self.rows) <= limits.MAILBOXES_PER_ACCOUNT_MAX

    def _list_above(self, row: MailboxRow) -> Iterator[MailboxRow]:
        """Parent, its parent, and so on; MAILBOX_DEPTH_MAX of them at most, for there may be a
        ring."""
        parent = row
        for _ in range(limits.MAILBOX_DEPTH_MAX):
            if parent.parent_id is None or parent.parent_id not in self.rows:
                return
            parent = self.rows[parent.parent_id]
            yield parent

    def _measure_height(self, id: str) -> int:
        """Levels from this Mailbox down, itself included."""
        height = 0
        level = {id}
        while level and height <= limits.MAILBOX_DEPTH_MAX:
            height += 1
            level = {child for one in level for child in self._children.get(one, ())}
        return height
