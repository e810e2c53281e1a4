"""Mailbox (RFC 8621 s2): get, changes with updatedProperties, query, set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId, MailboxId, ModSeq
from tindra.core.access import check_read
from tindra.core.arguments import check_names, take_bool
from tindra.core.datatype import (
    CallContext,
    GetRequest,
    GetResult,
    QueryAnswer,
    QueryWindow,
    SetContext,
    SetRequest,
)
from tindra.core.errors import MethodError, SetError
from tindra.core.objects import FilterRule, plan_filter
from tindra.core.ports import Cursor, StoreReader
from tindra.core.state import encode_state
from tindra.model.mail import EmailCondition, EmailQuery, MailboxRow
from tindra.wire.jmap.pointer import PatchError, apply_patch

_COUNTS = ("totalEmails", "unreadEmails", "totalThreads", "unreadThreads")
MAILBOX_PROPERTIES = frozenset(
    {"id", "name", "parentId", "role", "sortOrder", "myRights", "isSubscribed", *_COUNTS}
)
ROLES = frozenset(
    {"all", "archive", "drafts", "flagged", "important", "inbox", "junk", "sent", "subscribed"}
    | {"trash", "memos", "snoozed", "scheduled", "templates"}
)
"""The registered roles a client may give a Mailbox. Source: RFC 8621 s2"""


def make_rights(rights: frozenset[str], row: MailboxRow) -> dict[str, bool]:
    """myRights, from what the caller holds in the account. Source: RFC 8621 s2"""
    may_triage = "triage" in rights
    may_remove = may_triage and row.role != "inbox"
    return {
        "mayReadItems": "read" in rights,
        "mayAddItems": may_triage,
        "mayRemoveItems": may_triage,
        "maySetSeen": may_triage,
        "maySetKeywords": may_triage,
        "mayCreateChild": may_triage,
        "mayRename": may_remove,
        "mayDelete": may_remove,
        "maySubmit": "send" in rights,
    }


def render_mailbox(row: MailboxRow, rights: frozenset[str]) -> dict[str, Any]:
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
        "myRights": make_rights(rights, row),
        "isSubscribed": row.is_subscribed,
    }


class MailboxSource:
    """Loads Mailboxes for /get."""

    async def load(self, context: CallContext, request: GetRequest) -> GetResult:
        """Cost: one read of all Mailboxes, which are few. Source: RFC 8621 s2.1"""

        async def read(reader: StoreReader) -> tuple[list[MailboxRow], ModSeq]:
            rows = await reader.load_mailboxes() if request.ids != [] else []
            return rows, (await reader.load_states()).get("Mailbox", ModSeq(0))

        rows, state = await context.services.store.read(request.account_id, read)
        rights = check_read(context.caller, request.account_id).rights
        by_id = {str(row.id): row for row in rows}
        ids = list(by_id) if request.ids is None else request.ids
        objects = [render_mailbox(by_id[id], rights) for id in ids if id in by_id]
        if request.properties is not None:
            wanted = request.properties
            objects = [{name: obj[name] for name in wanted} for obj in objects]
        missing = [id for id in ids if id not in by_id]
        return GetResult(encode_state(Cursor(state)), objects, missing)


async def list_updated_properties(reader: StoreReader, since: ModSeq) -> list[str] | None:
    """The counters, when nothing else of any Mailbox changed. Source: RFC 8621 s2.2"""
    rows = await reader.load_mailboxes()
    return None if any(row.info_modseq > since for row in rows) else list(_COUNTS)


# -- query -------------------------------------------------------------------------------------


def _contains(obj: dict[str, Any], value: Any) -> bool:
    return isinstance(value, str) and value.casefold() in str(obj["name"]).casefold()


_FILTERS: dict[str, FilterRule] = {
    "parentId": lambda obj, value: obj["parentId"] == value,
    "name": _contains,
    "role": lambda obj, value: obj["role"] == value,
    "hasAnyRole": lambda obj, value: (obj["role"] is not None) is value,
    "isSubscribed": lambda obj, value: obj["isSubscribed"] is value,
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
        keys = []
        for comparator in sort or []:
            check_names(comparator, ("property", "isAscending", "collation"))
            name = comparator.get("property")
            if not isinstance(name, str) or name not in _SORTS:
                raise MethodError("unsupportedSort", f"not sorted by {str(name)[:60]!r}")
            keys.append((_SORTS[name], comparator.get("isAscending", True) is not False))
        return MailboxQueryPlan(
            plan_filter(filter, _FILTERS),
            keys,
            take_bool(arguments, "sortAsTree"),
            take_bool(arguments, "filterAsTree"),
        )


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
        objects = {str(row.id): render_mailbox(row, frozenset()) for row in rows}
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
    ) -> set[str] | None:
        """Every Mailbox that changed."""
        page = await reader.list_changes("Mailbox", Cursor(since), limit)
        return None if page.has_more else {*page.created, *page.updated, *page.destroyed}


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


# -- set ---------------------------------------------------------------------------------------


class MailboxWriter:
    """Mailbox/set. Source: RFC 8621 s2.5"""

    async def prepare(
        self, call: CallContext, account_id: AccountId, request: SetRequest
    ) -> dict[str, Any]:
        """Nothing from outside the transaction."""
        take_bool(request.arguments, "onDestroyRemoveEmails")
        return {}

    async def load(self, context: SetContext, ids: Sequence[str]) -> dict[str, Any]:
        """id -> MailboxRow."""
        rows = {str(row.id): row for row in await context.tx.store.load_mailboxes()}
        return {id: rows[id] for id in ids if id in rows}

    async def create(
        self, context: SetContext, creation_id: str, obj: dict[str, Any]
    ) -> dict[str, Any]:
        """Raises: SetError invalidProperties, overQuota."""
        known = {str(row.id): row for row in await context.tx.store.load_mailboxes()}
        if len(known) >= limits.MAILBOXES_PER_ACCOUNT_MAX:
            raise SetError("overQuota", f"there are already {len(known)} Mailboxes")
        settable = {"name", "parentId", "role", "sortOrder", "isSubscribed"}
        _refuse(sorted(obj.keys() - settable))
        base = MailboxRow(MailboxId(""), "", None, None, 0, True)
        row = _take_properties(context, base, obj)
        _check_place(known, row)
        row = msgspec.structs.replace(row, id=MailboxId(context.tx.new_id("m")))
        await context.tx.put_mailbox(None, row)
        made = render_mailbox(row, context.access.rights)
        return {k: v for k, v in made.items() if k not in obj}

    async def update(
        self, context: SetContext, id: str, before: MailboxRow, patch: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Raises: SetError invalidPatch, invalidProperties, forbidden."""
        # Several updates of one call may build on each other: look again.
        known = {str(row.id): row for row in await context.tx.store.load_mailboxes()}
        before = known[id]
        whole = render_mailbox(before, context.access.rights)
        try:
            wanted = apply_patch(whole, patch)
        except PatchError as error:
            raise SetError("invalidPatch", str(error)) from None
        for name in ("name", "sortOrder", "isSubscribed", "role", "parentId"):
            wanted.setdefault(name, {"sortOrder": 0, "isSubscribed": False}.get(name))
        fixed = {"id", "myRights", *_COUNTS}
        _refuse([n for n in wanted if n not in whole or (n in fixed and wanted[n] != whole[n])])
        _refuse([n for n in fixed if n not in wanted])
        after = _take_properties(context, before, wanted)
        if before.role == "inbox" and (after.role != "inbox" or after.name != before.name):
            raise SetError("forbidden", "the inbox keeps its name and role")
        _check_place({k: v for k, v in known.items() if k != id}, after)
        if after != before:
            await context.tx.put_mailbox(before, after)
        return None

    async def destroy(self, context: SetContext, id: str, before: MailboxRow) -> None:
        """Raises: SetError mailboxHasChild, mailboxHasEmail, forbidden. Source: RFC 8621 s2.5"""
        tx = context.tx
        rows = await tx.store.load_mailboxes()
        if any(row.parent_id == id for row in rows):
            raise SetError("mailboxHasChild", "it still has Mailboxes under it")
        if before.role == "inbox":
            raise SetError("forbidden", "the inbox cannot be destroyed")
        query = EmailQuery(filter=EmailCondition(in_mailbox=id))
        docs, _ = await tx.store.query_emails(query, None, False)
        if docs and not context.arguments.get("onDestroyRemoveEmails"):
            raise SetError("mailboxHasEmail", "it still holds Emails")
        await remove_from_mailbox(context, docs, MailboxId(id))
        await tx.settle()
        await tx.delete_mailbox(before)

    async def finish(
        self, context: SetContext, answer: dict[str, Any]
    ) -> list[tuple[str, dict[str, Any]]]:
        """No implicit calls."""
        return []


async def remove_from_mailbox(
    context: SetContext, docs: Sequence[int], mailbox_id: MailboxId
) -> None:
    """Take Emails out of a Mailbox; those that are in no other are destroyed."""
    updated, destroyed = [], []
    for row in await context.tx.store.load_emails(docs) if docs else []:
        kept = tuple(id for id in row.mailbox_ids if id != mailbox_id)
        if kept:
            updated.append((row, msgspec.structs.replace(row, mailbox_ids=kept)))
        else:
            destroyed.append(row)
    await context.tx.update_emails(updated)
    if destroyed:
        await context.tx.delete_emails(destroyed)


def _refuse(names: Sequence[str]) -> None:
    if names:
        raise SetError("invalidProperties", "unknown, or set by the server", list(names))


def _take_properties(context: SetContext, base: MailboxRow, obj: dict[str, Any]) -> MailboxRow:
    """A row with the settable properties of `obj`, each checked by itself."""
    name = obj.get("name", base.name)
    parent = obj.get("parentId", base.parent_id)
    role = obj.get("role", base.role)
    order = obj.get("sortOrder", base.sort_order)
    is_subscribed = obj.get("isSubscribed", base.is_subscribed)
    wrong = []
    if not _is_name(name):
        wrong.append("name")
    if isinstance(parent, str):
        parent = MailboxId(context.resolve(parent))
    elif parent is not None:
        wrong.append("parentId")
    if role is not None and role not in ROLES and role != base.role:
        wrong.append("role")
    if isinstance(order, bool) or not isinstance(order, int) or not 0 <= order < 1 << 31:
        wrong.append("sortOrder")
    if not isinstance(is_subscribed, bool):
        wrong.append("isSubscribed")
    if wrong:
        raise SetError("invalidProperties", "not what these may be", wrong)
    return msgspec.structs.replace(
        base, name=name, parent_id=parent, role=role, sort_order=order, is_subscribed=is_subscribed
    )


def _is_name(name: object) -> bool:
    return (
        isinstance(name, str)
        and 0 < len(name.encode()) <= limits.MAILBOX_NAME_BYTES_MAX
        and name.strip() != ""
        and all(c >= " " and c != "\x7f" for c in name)
    )


def _check_place(others: dict[str, MailboxRow], row: MailboxRow) -> None:
    """Raises: SetError invalidProperties for a name, role or parent that cannot be."""
    for other in others.values():
        if other.parent_id == row.parent_id and other.name == row.name:
            raise SetError("invalidProperties", "a sibling has this name", ["name"])
        if row.role is not None and other.role == row.role:
            raise SetError("invalidProperties", "another Mailbox has this role", ["role"])
    depth, parent = 1, row.parent_id
    while parent is not None:
        if parent not in others or depth >= limits.MAILBOX_DEPTH_MAX:
            raise SetError("invalidProperties", "no such parent, or too deep", ["parentId"])
        parent = others[parent].parent_id
        depth += 1
