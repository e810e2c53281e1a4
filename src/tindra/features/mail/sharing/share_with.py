"""Mailbox.shareWith: who else may do what in a Mailbox (RFC 9670 s4).

The name, the capability and mayShare are those of draft-ietf-jmap-mail-sharing. Invariants: a
change of shareWith, what it lets see and the notice of it are one commit; nobody gives a right that
they do not hold; the owner of the account is never among those it is shared with. The right to send
is one of the account and is not shared with a Mailbox.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId, MailboxId, UserId, is_id
from tindra.core.access import check_read, list_visible_users
from tindra.core.datatype import CallContext, PropertyExtension, SetContext, SetRequest
from tindra.core.errors import SetError
from tindra.core.ports import StoreReader
from tindra.core.tx import Tx
from tindra.features.mail.sharing.part import PartReader
from tindra.features.mail.sharing.rights import check_right, encode_rights
from tindra.model.mail import MailboxRow
from tindra.model.sharing import SHARE_NOTICE, SHARE_RIGHTS, Share, ShareNotice
from tindra.wire.jmap.pointer import PatchError, apply_patch

SHARE: Final = "urn:ietf:params:jmap:mail:share"
_NAME: Final = "shareWith"


async def _load(context: CallContext, account_id: AccountId, ids: list[str]) -> dict[str, Any]:
    """Mailbox id -> shareWith, for who may change it. Cost: one range read."""
    may_share = "admin" in check_read(context.caller, account_id).rights

    async def read(reader: StoreReader) -> list[Share]:
        # Who sees a part is given only those they may share further.
        is_part = isinstance(reader, PartReader)
        return await reader.list_shares() if is_part or may_share else []

    found: dict[str, dict[str, Any]] = {}
    for share in await context.services.store.read(account_id, read):
        if share.rights:
            found.setdefault(share.mailbox_id, {})[share.user_id] = encode_rights(share.rights)
    return {id: found.get(id) for id in ids}


SHARE_WITH = PropertyExtension("Mailbox", _NAME, SHARE, _load)


class SharePlan(NamedTuple):
    """A checked change of shareWith."""

    sharer: UserId
    changed: list[tuple[Share | None, Share]]
    """(before, after) of each user whose rights change; no rights: taken back."""


def split_share_with(
    call: CallContext, obj: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """An object or a PatchObject without shareWith; and what it says of that."""
    if SHARE not in call.using:
        return dict(obj), {}
    asked = {path: value for path, value in obj.items() if path.partition("/")[0] == _NAME}
    return {path: value for path, value in obj.items() if path not in asked}, asked


async def load_sharees(call: CallContext, request: SetRequest) -> frozenset[str]:
    """Those of the named Principals that the caller may know. Cost: one directory read, if any."""
    objects = [*request.create.values(), *request.update.values()]
    named: set[str] = set()
    for obj in objects:
        for path, value in split_share_with(call, obj)[1].items():
            rest = path.partition("/")[2]
            ids = value if isinstance(value, dict) else ()
            named.update([rest.partition("/")[0]] if rest else ids)
    if not named:
        return frozenset()
    users = await list_visible_users(call.services, call.caller)
    return frozenset(user.id for user in users if user.id in named)


async def plan_shares(
    context: SetContext, mailbox_id: str | None, asked: dict[str, Any], known: frozenset[str]
) -> SharePlan:
    """Check what a device asks of shareWith.

    Args:
        mailbox_id: None for a Mailbox that is being made.
        known: Principals that the caller may know.
    Raises: SetError forbidden, invalidProperties, invalidPatch, overQuota.
    """
    tx = context.tx
    sharer = context.call.caller.user.id
    if not asked or (mailbox_id is None and asked.get(_NAME, 0) is None):
        return SharePlan(sharer, [])
    if tx.seen is tx.store and "admin" not in context.access.rights:
        raise SetError("forbidden", "this needs the right to administer the account")
    if mailbox_id is not None:
        check_right(tx.seen, "mayShare", [mailbox_id])
    elif tx.seen is not tx.store:
        raise SetError("forbidden", "what is made under a shared Mailbox is shared as that is")
    rows = await _load_shares(context)
    here = {row.user_id: row for row in rows.values() if row.mailbox_id == mailbox_id}
    before = {id: encode_rights(row.rights) for id, row in here.items() if row.rights}
    try:
        wanted = apply_patch({_NAME: before}, asked).get(_NAME)
    except PatchError as error:
        raise SetError("invalidPatch", str(error)) from None
    rights = _check_rights(wanted, {*known, *before} - {context.access.account.owner_id})
    changed = []
    for id in sorted({*before, *rights}):
        old = here.get(UserId(id))
        after = rights.get(id, frozenset())
        if after != (old.rights if old is not None else frozenset()):
            is_new = old is None or not old.rights
            is_subscribed = old is None or is_new or old.is_subscribed
            share = Share(MailboxId(mailbox_id or ""), UserId(id), after, is_subscribed)
            changed.append((old, share))
    _check_not_above(tx.seen, mailbox_id, changed)
    _check_room(rows.values(), len(rights), [after for _, after in changed])
    return SharePlan(sharer, changed)


async def plan_inherited(context: SetContext, row: MailboxRow) -> list[tuple[Share | None, Share]]:
    """What somebody who sees a part makes under a shared Mailbox is shared as that is: else they
    would not see it themselves. Raises: SetError overQuota."""
    if context.tx.seen is context.tx.store:
        return []
    rows = (await _load_shares(context)).values()
    above = [share for share in rows if share.mailbox_id == row.parent_id and share.rights]
    made = [
        msgspec.structs.replace(share, mailbox_id=row.id, is_subscribed=True) for share in above
    ]
    _check_room(rows, len(made), made)
    return [(None, share) for share in made]


async def _load_shares(context: SetContext) -> dict[tuple[str, str], Share]:
    """All shares of the account by (Mailbox, user), read once in a call and kept up by it."""
    tx, found = context.prepared.get("shares", (None, {}))
    if tx is not context.tx:  # a store may try a transaction again
        rows = await context.tx.store.list_shares()
        found = {(row.mailbox_id, row.user_id): row for row in rows}
        context.prepared["shares"] = (context.tx, found)
    shares: dict[tuple[str, str], Share] = found
    return shares


def _check_rights(wanted: Any, known: set[str]) -> dict[str, frozenset[str]]:
    """Principal id -> rights. Raises: SetError invalidProperties."""
    wanted = {} if wanted is None else wanted
    if not isinstance(wanted, dict):
        raise SetError("invalidProperties", "shareWith maps Principals to rights", [_NAME])
    found = {}
    for id, value in wanted.items():
        if not is_id(id) or id not in known:
            raise SetError("invalidProperties", f"no Principal to share with {id[:60]!r}", [_NAME])
        if not isinstance(value, dict) or not all(isinstance(v, bool) for v in value.values()):
            raise SetError("invalidProperties", "rights are true or false", [_NAME])
        held = {name for name, is_held in value.items() if is_held}
        if not set(SHARE_RIGHTS).issuperset(value):
            raise SetError("invalidProperties", "there is no such right", [_NAME])
        if "maySubmit" in held:
            text = "maySubmit is not shared with a Mailbox: sending is a right of the account"
            raise SetError("invalidProperties", text, [_NAME])
        found[id] = frozenset(held)
    return found


def _check_not_above(
    seen: StoreReader, mailbox_id: str | None, changed: list[tuple[Share | None, Share]]
) -> None:
    """Who shares further gives no right that they do not hold. Raises: SetError forbidden."""
    if isinstance(seen, PartReader) and mailbox_id is not None:
        own = seen.shares[mailbox_id].rights
        for _, after in changed:
            if not after.rights <= own:
                raise SetError("forbidden", "these are more rights than you hold here")


def _check_room(rows: Iterable[Share], count: int, changed: Sequence[Share]) -> None:
    """
    Args:
        count: of those the Mailbox will be shared with.
    Raises: SetError overQuota.
    """
    if not any(share.rights for share in changed):
        return
    if count > limits.SHARES_PER_MAILBOX_MAX:
        text = f"a Mailbox is shared with {limits.SHARES_PER_MAILBOX_MAX} others at most"
        raise SetError("overQuota", text)
    held: dict[str, set[str]] = {}
    for row in rows:
        if row.rights:
            held.setdefault(row.user_id, set()).add(row.mailbox_id)
    if sum(map(len, held.values())) + len(changed) > limits.SHARES_PER_ACCOUNT_MAX:
        raise SetError("overQuota", "too much of this account is shared: share the account")
    for share in changed:
        places = held.get(share.user_id, set()) | {share.mailbox_id}
        if share.rights and len(places) > limits.SHARED_MAILBOXES_PER_USER_MAX:
            raise SetError("overQuota", "they see too many of these Mailboxes: share the account")


async def apply_shares(context: SetContext, row: MailboxRow, plan: SharePlan) -> None:
    """Write what was planned for the Mailbox, and leave the notices of it."""
    seen = context.tx.seen
    for before, after in plan.changed:
        share = msgspec.structs.replace(after, mailbox_id=row.id)
        await put_share(context.tx, row, before, share, plan.sharer)
        (await _load_shares(context))[share.mailbox_id, share.user_id] = share
        if isinstance(seen, PartReader) and share.user_id == plan.sharer:
            seen.shares[row.id] = share


async def put_share(
    tx: Tx, row: MailboxRow, before: Share | None, after: Share, changed_by: UserId | None
) -> None:
    """Change what one user may do, and leave the notice of it in the same commit.

    Args:
        changed_by: None: nobody did, it came about. Who did it themselves is not told.
    """
    await tx.put_share(after)
    old = () if before is None else tuple(sorted(before.rights))
    new = tuple(sorted(after.rights))
    if old != new and changed_by != after.user_id:
        now_ms = tx.clock.now_ms()
        notice = ShareNotice(after.user_id, changed_by, row.id, row.name, now_ms, old, new)
        key = f"{row.id}:{after.user_id}:{tx.store.modseq}"
        await tx.put_timer(SHARE_NOTICE, key, now_ms, notice)
