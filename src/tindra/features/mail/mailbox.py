"""Mailbox (RFC 8621 s2): get, changes with updatedProperties, query; `writing/` has its set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tindra.base.ids import AccountId, ModSeq
from tindra.core.access import check_read
from tindra.core.arguments import check_names, take_bool
from tindra.core.datatype import (
    Affected,
    CallContext,
    GetRequest,
    GetResult,
    QueryAnswer,
    QueryWindow,
)
from tindra.core.errors import MethodError
from tindra.core.ports import Cursor, StoreReader
from tindra.core.state import encode_state
from tindra.features.mail.sharing.rights import make_rights
from tindra.model.mail import MailboxRow
from tindra.wire.jmap.filter import Condition, is_bool, is_text, is_text_or_null, plan_filter
from tindra.wire.mime.charset import normalise_nfc

COUNTS = ("totalEmails", "unreadEmails", "totalThreads", "unreadThreads")
MAILBOX_PROPERTIES = frozenset(
    {"id", "name", "parentId", "role", "sortOrder", "myRights", "isSubscribed", *COUNTS}
)
ROLES = frozenset(
    {"all", "archive", "drafts", "flagged", "important", "inbox", "junk", "sent", "subscribed"}
    | {"trash", "memos", "snoozed", "scheduled", "templates"}
)
"""The registered roles a client may give a Mailbox. Source: RFC 8621 s2"""


def render_mailbox(row: MailboxRow, rights: dict[str, bool]) -> dict[str, Any]:
    """The whole Mailbox object."""
    return {
        "id": row.id,
        "name": row.name,
        "parentId": row.parent_id,
        "role": row.role,
        "sortOrder": row.sort_order,
        "totalEmails": row.total_emails,
        "unreadEmails": row.unread_emails,
        "totalThreads": row.total_threads,
        "unreadThreads": row.unread_threads,
        "myRights": rights,
        "isSubscribed": row.is_subscribed,
    }


class MailboxSource:
    """Loads Mailboxes for /get."""

    async def load_for_get(self, context: CallContext, request: GetRequest) -> GetResult:
        """Cost: one read of all Mailboxes, which are few. Source: RFC 8621 s2.1"""

        rights = check_read(context.caller, request.account_id).rights

        async def read(reader: StoreReader) -> tuple[list[dict[str, Any]], ModSeq]:
            rows = await reader.load_mailboxes() if request.ids != [] else []
            shown = [render_mailbox(row, make_rights(reader, rights, row)) for row in rows]
            return shown, (await reader.load_states()).get("Mailbox", ModSeq(0))

        rows, state = await context.services.store.read(request.account_id, read)
        by_id = {obj["id"]: obj for obj in rows}
        ids = list(by_id) if request.ids is None else request.ids
        objects = [by_id[id] for id in ids if id in by_id]
        if request.properties is not None:
            wanted = request.properties
            objects = [{name: obj[name] for name in wanted} for obj in objects]
        missing = [id for id in ids if id not in by_id]
        return GetResult(encode_state(Cursor(state)), objects, missing)


async def list_updated_properties(reader: StoreReader, since: ModSeq) -> list[str] | None:
    """The counters, when nothing else of any Mailbox changed. Source: RFC 8621 s2.2"""
    rows = await reader.load_mailboxes()
    return None if any(row.info_modseq > since for row in rows) else list(COUNTS)


# -- query -------------------------------------------------------------------------------------


def _contains(obj: dict[str, Any], text: str) -> bool:
    return normalise_nfc(text).casefold() in normalise_nfc(obj["name"]).casefold()


_FILTERS = {
    "parentId": Condition(is_text_or_null, lambda obj, id: obj["parentId"] == id),
    "name": Condition(is_text, _contains),
    "role": Condition(is_text_or_null, lambda obj, role: obj["role"] == role),
    "hasAnyRole": Condition(is_bool, lambda obj, value: (obj["role"] is not None) is value),
    "isSubscribed": Condition(is_bool, lambda obj, value: obj["isSubscribed"] is value),
}
_SORTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "sortOrder": lambda obj: obj["sortOrder"],
    "name": lambda obj: obj["name"].casefold(),
}


class MailboxQuerier:
    """Mailbox/query. Source: RFC 8621 s2.3"""

    def plan_query(
        self, filter: Any, sort: list[dict[str, Any]] | None, arguments: dict[str, Any]
    ) -> MailboxQueryPlan:
        """Raises: MethodError invalidArguments, unsupportedFilter, unsupportedSort."""
        match = plan_filter(filter, _FILTERS)
        keys = []
        for comparator in sort or []:
            check_names(comparator, ("property", "isAscending", "collation"))
            name = comparator["property"]
            if name not in _SORTS:
                raise MethodError("unsupportedSort", f"not sorted by {name[:60]!r}")
            keys.append((_SORTS[name], comparator.get("isAscending", True)))
        is_sorted = take_bool(arguments, "sortAsTree")
        return MailboxQueryPlan(match, keys, is_sorted, take_bool(arguments, "filterAsTree"))


class MailboxQueryPlan:
    """Looks at all Mailboxes, which are few."""

    def __init__(
        self,
        match: Callable[[dict[str, Any]], bool],
        keys: list[tuple[Callable[[dict[str, Any]], Any], bool]],
        is_sorted_as_tree: bool,
        is_filtered_as_tree: bool,
    ) -> None:
        self._match = match
        self._keys = keys
        self._is_sorted_as_tree = is_sorted_as_tree
        self._is_filtered_as_tree = is_filtered_as_tree
        # As a tree, one Mailbox moves the place of others that did not change themselves.
        self.can_calculate_changes = not (is_sorted_as_tree or is_filtered_as_tree)

    async def list_ids(
        self, context: CallContext, account_id: AccountId, window: QueryWindow
    ) -> QueryAnswer:
        """Source: RFC 8621 s2.3"""

        async def read(reader: StoreReader) -> tuple[list[MailboxRow], ModSeq]:
            return await reader.load_mailboxes(), (await reader.load_states()).get(
                "Mailbox", ModSeq(0)
            )

        rows, state = await context.services.store.read(account_id, read)
        objects = {str(row.id): render_mailbox(row, {}) for row in rows}
        matching = {id for id, obj in objects.items() if self._match(obj)}
        if self._is_filtered_as_tree:
            matching = {id for id in matching if _ancestors(objects, id) <= matching}
        ids = self._sort(objects, sorted(objects))
        if self._is_sorted_as_tree:
            ids = _as_tree(objects, ids)
        ids = [id for id in ids if id in matching]
        return QueryAnswer(ids[: window.stop], len(ids) if window.has_total else None, state)

    def _sort(self, objects: dict[str, dict[str, Any]], ids: list[str]) -> list[str]:
        for key, is_ascending in reversed(self._keys):
            ids = sorted(ids, key=lambda id: key(objects[id]), reverse=not is_ascending)
        return ids

    async def list_affected(
        self, reader: StoreReader, since: ModSeq, limit: int
    ) -> Affected | None:
        """Every Mailbox that changed."""
        page = await reader.list_changes("Mailbox", Cursor(since), limit)
        ids = {*page.created, *page.updated, *page.destroyed}
        return None if page.has_more else Affected(ids)


def _ancestors(objects: dict[str, dict[str, Any]], id: str) -> set[str]:
    found: set[str] = set()
    parent = objects[id]["parentId"]
    while parent in objects and parent not in found:
        found.add(parent)
        parent = objects[parent]["parentId"]
    return found


def _as_tree(objects: dict[str, dict[str, Any]], ids: list[str]) -> list[str]:
    """Parents before their children, siblings in the order of `ids`."""
    children: dict[str | None, list[str]] = {}
    for id in ids:
        parent = objects[id]["parentId"]
        children.setdefault(parent if parent in objects else None, []).append(id)
    ordered: list[str] = []
    pending = list(reversed(children.get(None, [])))
    while pending:
        id = pending.pop()
        ordered.append(id)
        pending.extend(reversed(children.get(id, [])))
    return ordered
