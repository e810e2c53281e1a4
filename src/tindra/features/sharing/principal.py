"""Principal (RFC 9670 s2): the users of this installation, as one of them may know the others.

The truth is the directory's. Each user reads a copy of what they may know in their home account,
which is brought up to date before it is read; so states, changes, queries and push are those of any
small type, and nobody's copy tells of users that are hidden from them. The id is the user's: it
outlives login, name and address.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId, ModSeq
from tindra.core.access import Caller, check_read, check_write, list_visible_users
from tindra.core.arguments import check_names, check_set_count, take_ids, take_objects, take_text
from tindra.core.datatype import (
    CallContext,
    Datatype,
    Method,
)
from tindra.core.errors import MethodError, SetError
from tindra.core.methods.changes import run_changes
from tindra.core.methods.get import run_get
from tindra.core.methods.query import run_query, run_query_changes
from tindra.core.ports import Cursor, StoreReader
from tindra.core.state import encode_state
from tindra.core.tx import Tx, transact
from tindra.features.objects import ObjectType, server_set
from tindra.model.account import User
from tindra.wire.jmap.filter import Condition, is_ids, is_text
from tindra.wire.jmap.pointer import PatchError, apply_patch

PRINCIPALS: Final = "urn:ietf:params:jmap:principals"
OWNER: Final = "urn:ietf:params:jmap:principals:owner"
NAME_CHARS_MAX: Final = 255
"""Of a Principal's name."""
DESCRIPTION_CHARS_MAX: Final = 2000
"""Of its description."""
_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,30}(/[A-Za-z0-9_+-]{1,30}){0,2}")
"""Form of a name of the IANA Time Zone Database; which there are changes with every release."""
_OWN = ("name", "description", "timeZone")
"""What somebody may say of themselves. Source: RFC 9670 s2.3"""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def _search(*names: str) -> Condition:
    """Text that occurs in one of these properties."""
    return Condition(
        is_text,
        lambda obj, text: any(text.casefold() in (obj[name] or "").casefold() for name in names),
    )


PRINCIPAL: Final = ObjectType(
    name="Principal",
    prefix="u",
    properties={
        "type": server_set(str),
        "name": server_set(str),
        "description": server_set(str | None),
        "email": server_set(str | None),
        "timeZone": server_set(str | None),
        "capabilities": server_set(dict[str, Any]),
        "accounts": server_set(dict[str, Any] | None),
    },
    filters={
        "accountIds": Condition(
            is_ids, lambda obj, ids: not set(ids).isdisjoint(obj["accounts"] or ())
        ),
        "email": _search("email"),
        "name": _search("name"),
        "text": _search("name", "email", "description"),
        "type": Condition(is_text, lambda obj, value: obj["type"] == value),
        "timeZone": Condition(is_text, lambda obj, value: obj["timeZone"] == value),
    },
    sorts={
        "name": lambda obj: obj["name"].casefold(),
        "email": lambda obj: (obj["email"] or "").casefold(),
    },
)
"""Source: RFC 9670 s2, s2.4.1"""


# -- the copy --------------------------------------------------------------------------------------
def _make_object(context: CallContext, user: User) -> dict[str, Any]:
    """What the caller may know of a user."""
    caller = context.caller
    accounts = {
        id: _make_account(context, id)
        for id, access in caller.accounts.items()
        if access.account.owner_id == user.id
    }
    is_address = "@" in user.login
    return {
        "type": "individual",
        "name": user.name or user.login.partition("@")[0],
        "description": user.description or None,
        "email": user.login if is_address else None,
        "timeZone": user.time_zone or None,
        "capabilities": {},
        "accounts": accounts or None,
    }


def _make_account(context: CallContext, id: AccountId) -> dict[str, Any]:
    """An Account object. Source: RFC 8620 s2"""
    access = context.caller.accounts[id]
    return {
        "name": access.account.name,
        "isPersonal": access.is_personal,
        "isReadOnly": access.is_read_only,
        "accountCapabilities": context.registry.list_account_capabilities(context.caller, access),
    }


async def refresh(context: CallContext) -> None:
    """Bring the caller's copy up to date; a copy that is right is not written.

    Cost: one directory read and one of the copy, O(users); one commit if anything changed.
    """
    home = context.caller.user.home_account_id
    users = await list_visible_users(context.services, context.caller)
    own = context.caller.user.id
    shown = sorted(users, key=lambda user: (user.id != own, user.login))[: limits.PRINCIPALS_MAX]
    made = {str(user.id): _make_object(context, user) for user in shown}
    wanted: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(made))  # as it is stored

    async def read(reader: StoreReader) -> dict[str, Any]:
        rows = await reader.load_objects("Principal", None)
        return {row.id: msgspec.json.decode(row.data) for row in rows}

    async def write(tx: Tx) -> None:
        held = await read(tx.store)
        for id, before in held.items():
            if id not in wanted:
                await tx.destroy("Principal", id, before)
        for id, after in wanted.items():
            if id in held:
                await tx.update("Principal", id, held[id], after)
            else:
                await tx.create("Principal", after, id=id)

    if await context.services.store.read(home, read) != wanted:
        await transact(context.services, home, "principals", write, origin="system")


def check_home(caller: Caller, account_id: object) -> None:
    """Principals and ShareNotifications are in one's own home account.

    Raises: MethodError accountNotFound, accountNotSupportedByMethod.
    """
    access = check_read(caller, account_id)
    if access.account.id != caller.user.home_account_id:
        text = "Principals are in the account that the Session object names for them"
        raise MethodError("accountNotSupportedByMethod", text)


# -- methods ---------------------------------------------------------------------------------------
PRINCIPAL_TYPE: Final = Datatype(
    name="Principal",
    capability=PRINCIPALS,
    properties=PRINCIPAL.shown,
    source=PRINCIPAL,
    querier=PRINCIPAL,
)


_CALL = frozenset({"accountId"})
_GET = _CALL | {"ids", "properties"}
_CHANGES = _CALL | {"sinceState", "maxChanges"}
_SET = _CALL | {"ifInState", "create", "update", "destroy"}
_QUERY_CHANGES = _CALL | {
    "filter", "sort", "calculateTotal", "sinceQueryState", "maxChanges", "upToId",
}  # fmt: skip
_QUERY = _CALL | {
    "filter", "sort", "calculateTotal", "position", "anchor", "anchorOffset", "limit",
}  # fmt: skip


async def _get(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    await _begin(context, arguments, _GET)
    return await run_get(context, PRINCIPAL_TYPE, arguments)


async def _changes(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    await _begin(context, arguments, _CHANGES)
    return await run_changes(context, PRINCIPAL_TYPE, arguments)


async def _query(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    await _begin(context, arguments, _QUERY)
    return await run_query(context, PRINCIPAL_TYPE, arguments)


async def _query_changes(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    await _begin(context, arguments, _QUERY_CHANGES)
    return await run_query_changes(context, PRINCIPAL_TYPE, arguments)


async def _begin(context: CallContext, arguments: dict[str, Any], names: frozenset[str]) -> None:
    """Raises: MethodError accountNotFound, accountNotSupportedByMethod, invalidArguments."""
    access = check_read(context.caller, arguments.get("accountId"))
    check_names(arguments, names)
    check_home(context.caller, access.account.id)
    await refresh(context)


async def _run_set(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    """Principal/set: somebody changes what others read of them; all else is the operator's.

    Raises: MethodError accountNotFound, accountNotSupportedByMethod, invalidArguments,
        requestTooLarge, stateMismatch.
    Source: RFC 9670 s2.3
    """
    await _begin(context, arguments, _SET)
    check_write(context.caller, arguments.get("accountId"), "triage")
    create = take_objects(arguments, "create", is_create=True)
    update = take_objects(arguments, "update")
    destroy = take_ids(arguments, "destroy", is_reference=True) or []
    check_set_count(len(create) + len(update) + len(destroy))
    if_in_state = take_text(arguments, "ifInState")
    old_state = await _load_state(context)
    if if_in_state not in (None, old_state):
        raise MethodError("stateMismatch", f"the state is {old_state}")
    refusal = SetError("forbidden", "users come and go by the operator").to_object()
    updated: dict[str, Any] = {}
    not_updated: dict[str, Any] = {}
    for id, patch in update.items():
        try:
            await _update(context, id, patch)
            updated[id] = None
        except SetError as error:
            not_updated[id] = error.to_object()
    await refresh(context)
    return {
        "accountId": arguments["accountId"],
        "oldState": old_state,
        "newState": await _load_state(context),
        "created": None,
        "updated": updated or None,
        "destroyed": None,
        "notCreated": dict.fromkeys(create, refusal) or None,
        "notUpdated": not_updated or None,
        "notDestroyed": dict.fromkeys(destroy, refusal) or None,
    }


async def _load_state(context: CallContext) -> str:
    home = context.caller.user.home_account_id
    states = await context.services.store.read(home, lambda reader: reader.load_states())
    return encode_state(Cursor(states.get("Principal", ModSeq(0))))


async def _update(context: CallContext, id: str, patch: dict[str, Any]) -> None:
    """Raises: SetError forbidden, invalidPatch, invalidProperties, notFound."""
    home = context.caller.user.home_account_id
    rows = await context.services.store.read(
        home, lambda reader: reader.load_objects("Principal", [id])
    )
    if not rows:
        raise SetError("notFound", "there is no such Principal")
    if id != context.caller.user.id:
        raise SetError("forbidden", "only they themselves may change what is told of them")
    before = PRINCIPAL.decode(rows[0])
    try:
        after = apply_patch(before, patch)
    except PatchError as error:
        raise SetError("invalidPatch", str(error)) from None
    fixed = [name for name in {*before, *after} if name not in _OWN]
    wrong = [name for name in fixed if after.get(name) != before.get(name)]
    if wrong:
        text = "only name, description and timeZone are one's own"
        raise SetError("invalidProperties", text, sorted(wrong))
    told = {name: after.get(name) or "" for name in _OWN}
    _check_told(told)
    directory = context.services.directory
    user = await directory.load_user(context.caller.user.id)
    if user is None:
        raise SetError("notFound", "there is no such user any more")
    if told["name"] == before["name"]:
        told["name"] = user.name  # what was made from the login is not made theirs
    await directory.put_user(
        msgspec.structs.replace(
            user,
            name=told["name"],
            description=told["description"],
            time_zone=told["timeZone"],
        )
    )


def _check_told(told: Mapping[str, Any]) -> None:
    """Raises: SetError invalidProperties."""
    wrong = [name for name, value in told.items() if not isinstance(value, str)]
    if not wrong:
        sizes = {"name": NAME_CHARS_MAX, "description": DESCRIPTION_CHARS_MAX}
        wrong += [name for name, size in sizes.items() if len(told[name]) > size]
        wrong += [name for name in sizes if _CONTROLS.search(told[name])]
        if told["timeZone"] and not _ZONE.fullmatch(told["timeZone"]):
            wrong.append("timeZone")
    if wrong:
        raise SetError("invalidProperties", "too long, or not what it must be", sorted(set(wrong)))


def list_methods() -> Sequence[Method]:
    """Principal's methods, each of which first brings the copy up to date."""
    runs = {
        "get": _get,
        "changes": _changes,
        "set": _run_set,
        "query": _query,
        "queryChanges": _query_changes,
    }
    return [Method(f"Principal/{verb}", PRINCIPALS, run) for verb, run in runs.items()]
