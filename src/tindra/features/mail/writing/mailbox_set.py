"""Mailbox/set (RFC 8621 s2.5): Mailboxes made, renamed, moved and destroyed.

What one call asks for is right if its end is right, whatever lies between: two Mailboxes may swap
their names, and a parent may go with its child. Else each object is judged in turn, by what is
there at that moment. Source: RFC 8620 s5.3
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId, MailboxId
from tindra.core.arguments import take_bool
from tindra.core.datatype import IS_BEGUN, CallContext, SetContext, SetRequest, Writer
from tindra.core.errors import SetError
from tindra.features.mail.mailbox import COUNTS, ROLES, render_mailbox
from tindra.features.mail.sharing.places import (
    check_mailbox_create,
    check_mailbox_update,
    is_visible,
    keep_subscription,
    restore_mailbox,
    show_mailbox,
)
from tindra.features.mail.sharing.rights import make_rights
from tindra.features.mail.sharing.share_with import (
    SharePlan,
    apply_shares,
    load_sharees,
    plan_inherited,
    plan_shares,
    split_share_with,
)
from tindra.features.mail.writing.mailbox_removal import (
    check_destroy,
    check_destroyable,
    empty_in_steps,
    remove_from_mailbox,
)
from tindra.features.mail.writing.mailbox_tree import MailboxTree
from tindra.model.mail import EmailCondition, EmailQuery, MailboxRow
from tindra.wire.jmap.pointer import PatchError, apply_patch
from tindra.wire.mime.charset import normalise_nfc

_SETTABLE = frozenset({"name", "parentId", "role", "sortOrder", "isSubscribed"})
_FIXED = frozenset({"id", "myRights", *COUNTS})
_NEW = MailboxRow(MailboxId(""), "", None, None, 0, True)
_SORT_ORDER_END = 1 << 31
_NOT_IN_NAMES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Controls, halves of surrogate pairs, separators of lines: not Net-Unicode. Source: RFC 5198 s2"""


class _Run:
    """One Mailbox/set on its way."""

    def __init__(self, request: SetRequest) -> None:
        self.request = request
        self.tree: MailboxTree | None = None
        self.is_whole = False
        """The end is known to be right, so that what lies between need not be."""

    async def begin(self, context: SetContext) -> MailboxTree:
        """The tree as this call has made it so far."""
        if self.tree is None:
            rows = await context.tx.store.load_mailboxes()
            request = self.request
            is_many = len(request.create) + len(request.update) + len(request.destroy) > 1
            if is_many and context.tx.seen is context.tx.store:
                self.is_whole = _ends_sound(context, request, MailboxTree(rows))
            self.tree = MailboxTree(rows)
        return self.tree

    def check_place(self, tree: MailboxTree, row: MailboxRow) -> None:
        """Raises: SetError invalidProperties."""
        if not self.is_whole:
            tree.check_place(row)


class MailboxWriter(Writer):
    """Writes Mailboxes: a core.datatype.Writer."""

    async def prepare(
        self, call: CallContext, account_id: AccountId, request: SetRequest
    ) -> dict[str, Any]:
        """Who it may be shared with; and what is large is emptied before it is destroyed."""
        take_bool(request.arguments, "onDestroyRemoveEmails")
        prepared = {"run": _Run(request), "sharees": await load_sharees(call, request)}
        return prepared | {IS_BEGUN: await empty_in_steps(call, account_id, request)}

    async def load(self, context: SetContext, ids: Sequence[str]) -> dict[str, Any]:
        """id -> MailboxRow, children before their parents: so they may go in one call."""
        run: _Run = context.prepared["run"]
        tree = await run.begin(context)
        known = [id for id in ids if id in tree.rows and is_visible(context.tx.seen, id)]
        known.sort(key=tree.count_depth, reverse=True)
        return {id: tree.rows[id] for id in known}

    async def create(
        self, context: SetContext, creation_id: str, obj: dict[str, Any]
    ) -> dict[str, Any]:
        """Raises: SetError invalidProperties, overQuota. Source: RFC 8621 s2.5"""
        run: _Run = context.prepared["run"]
        tree = await run.begin(context)
        if len(tree.rows) >= limits.MAILBOXES_PER_ACCOUNT_MAX:
            raise SetError("overQuota", f"there are already {len(tree.rows)} Mailboxes")
        tx = context.tx
        obj, asked = split_share_with(context.call, obj)
        row = _make_row(_NEW, obj, context.resolve)
        check_mailbox_create(tx.seen, row)
        run.check_place(tree, row)
        plan = await plan_shares(context, None, asked, context.prepared["sharees"])
        row = msgspec.structs.replace(row, id=MailboxId(tx.new_id("m")))
        inherited = await plan_inherited(context, row)
        await tx.put_mailbox(None, row)
        await apply_shares(context, row, SharePlan(plan.sharer, inherited + plan.changed))
        tree.put(row)
        made = render_mailbox(row, make_rights(tx.seen, context.access.rights, row))
        return {k: v for k, v in made.items() if k not in obj} | _tell_name(obj, row)

    async def update(
        self, context: SetContext, id: str, before: MailboxRow, patch: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Raises: SetError invalidPatch, invalidProperties, forbidden. Source: RFC 8621 s2.5"""
        run: _Run = context.prepared["run"]
        tree = await run.begin(context)
        patch, asked = split_share_with(context.call, patch)
        after = _patch_row(before, patch, context, context.resolve)
        run.check_place(tree, after)
        plan = await plan_shares(context, id, asked, context.prepared["sharees"])
        after = await keep_subscription(context.tx, before, after)
        if after != before or plan.changed:
            await context.tx.put_mailbox(before, after)
            tree.put(after)
        await apply_shares(context, after, plan)
        return _tell_name(patch, after) or None

    async def destroy(self, context: SetContext, id: str, before: MailboxRow) -> None:
        """Raises: SetError mailboxHasChild, mailboxHasEmail, forbidden. Source: RFC 8621 s2.5"""
        run: _Run = context.prepared["run"]
        tree = await run.begin(context)
        tx = context.tx
        check_destroy(tx, tree, before, context.arguments)
        docs, _ = await tx.store.query_emails(
            EmailQuery(filter=EmailCondition(in_mailbox=id)), None, False
        )
        await remove_from_mailbox(tx, docs, MailboxId(id))
        await tx.settle()
        await tx.delete_mailbox(before)
        tree.drop(id)


def _ends_sound(context: SetContext, request: SetRequest, tree: MailboxTree) -> bool:
    """Whether the Mailboxes are as they must be once all of `request` is done in `tree`.

    What is refused for its own sake takes no part. New Mailboxes have their "#" creation id.
    """
    made = {f"#{cid}" for cid in request.create}

    def resolve(id: str) -> str:
        return id if id in made else context.resolve(id)

    changed: set[str] = set()
    doomed = {resolve(id) for id in request.destroy}
    for cid, obj in request.create.items():
        with suppress(SetError):
            row = _make_row(_NEW, obj, resolve)
            tree.put(msgspec.structs.replace(row, id=MailboxId(f"#{cid}")))
            changed.add(f"#{cid}")
    for key, patch in request.update.items():
        before = tree.rows.get(resolve(key))
        if before is not None and before.id not in doomed:
            with suppress(SetError):
                tree.put(_patch_row(before, patch, context, resolve))
                changed.add(before.id)
    destroyed = []
    for id in doomed & tree.rows.keys():
        with suppress(SetError):
            check_destroyable(tree.rows[id], request.arguments)
            destroyed.append(id)
    for id in destroyed:
        tree.drop(id)
    return tree.is_sound(changed.difference(destroyed), destroyed)


def _patch_row(
    before: MailboxRow, patch: dict[str, Any], context: SetContext, resolve: Callable[[str], str]
) -> MailboxRow:
    """Raises: SetError invalidPatch, invalidProperties, forbidden."""
    seen = context.tx.seen
    shown = show_mailbox(seen, before)
    whole = render_mailbox(shown, make_rights(seen, context.access.rights, before))
    try:
        wanted = apply_patch(whole, patch)
    except PatchError as error:
        raise SetError("invalidPatch", str(error)) from None
    # Null on a property means its default. RFC 8620 s5.3
    defaults = {"name": None, "parentId": None, "role": None, "sortOrder": 0, "isSubscribed": True}
    wanted = defaults | wanted
    wrong = [name for name in wanted if name not in whole]
    # What a part of the account counts is not known here; nobody can set it anyway.
    fixed = _FIXED if seen is context.tx.store else _FIXED.difference(COUNTS)
    wrong += [name for name in fixed if name not in wanted or wanted[name] != whole[name]]
    if wrong:
        raise SetError("invalidProperties", "unknown, or set by the server", sorted(wrong))
    after = _make_row(shown, {name: wanted[name] for name in _SETTABLE}, resolve)
    check_mailbox_update(seen, shown, after)
    after = restore_mailbox(before, shown, after)
    place = (before.name, before.role, before.parent_id)
    if before.role == "inbox" and (after.name, after.role, after.parent_id) != place:
        raise SetError("forbidden", "the inbox keeps its name, role and place")
    return after


def _make_row(base: MailboxRow, obj: dict[str, Any], resolve: Callable[[str], str]) -> MailboxRow:
    """`base` with the settable properties of `obj`, each checked by itself.

    Raises: SetError invalidProperties, naming every one that is wrong.
    """
    name = obj.get("name", base.name)
    if name != base.name and is_mailbox_name(name):
        # One that is composed may be longer, so it is looked at again below.
        name = normalise_nfc(name)
    parent = obj.get("parentId", base.parent_id)
    role = obj.get("role", base.role)
    order = obj.get("sortOrder", base.sort_order)
    is_subscribed = obj.get("isSubscribed", base.is_subscribed)
    wrong = [key for key in obj if key not in _SETTABLE]
    if not is_mailbox_name(name):
        wrong.append("name")
    if isinstance(parent, str):
        parent = MailboxId(resolve(parent))
    elif parent is not None:
        wrong.append("parentId")
    if role is not None and not (isinstance(role, str) and (role in ROLES or role == base.role)):
        wrong.append("role")
    if isinstance(order, bool) or not isinstance(order, int) or not 0 <= order < _SORT_ORDER_END:
        wrong.append("sortOrder")
    if not isinstance(is_subscribed, bool):
        wrong.append("isSubscribed")
    if wrong:
        raise SetError("invalidProperties", "wrong, unknown, or set by the server", sorted(wrong))
    return msgspec.structs.replace(
        base, name=name, parent_id=parent, role=role, sort_order=order, is_subscribed=is_subscribed
    )


def _tell_name(given: Mapping[str, Any], row: MailboxRow) -> dict[str, Any]:
    """The name, where it is not as it was given: it is stored in form C. Source: RFC 5198 s3"""
    return {"name": row.name} if given.get("name", row.name) != row.name else {}


def is_mailbox_name(name: object) -> bool:
    """Whether a Mailbox may be called so. Source: RFC 8621 s2"""
    return (
        isinstance(name, str)
        and 0 < len(name.encode()) <= limits.MAILBOX_NAME_BYTES_MAX
        and name.strip() != ""
        and not any(unicodedata.category(c) in _NOT_IN_NAMES for c in name)
    )
