"""ShareNotification (RFC 9670 s3): somebody is told that their rights in a Mailbox changed.

The change leaves a timer in its own commit, in the account of the Mailbox; when it is due the
notification is made in the home account of who is told. A crash between the two repeats the second,
which knows its own work by the id. Devices can only destroy them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId, UserId
from tindra.core.datatype import (
    CallContext,
    Datatype,
    GetRequest,
    GetResult,
    QueryPlan,
    SetContext,
    Writer,
)
from tindra.core.errors import MethodError, SetError
from tindra.core.services import Services
from tindra.core.tx import Tx, transact
from tindra.features.objects import ObjectType, Property
from tindra.features.sharing.principal import PRINCIPALS, check_home
from tindra.model.sharing import SHARE_RIGHTS, ShareNotice, ShareSeen
from tindra.wire.jmap.date import encode_utc_date, parse_utc_date

TYPE: Final = "ShareNotification"
_DATES = frozenset({"after", "before"})


def _set(type: Any) -> Property:
    return Property(type, None, is_server_set=True)


def _made_ms(obj: Mapping[str, Any]) -> int:
    return parse_utc_date(obj["created"]) or 0


def _moment_ms(text: Any) -> int:
    moment = parse_utc_date(text)
    assert moment is not None, "the querier checks the values of conditions"
    return moment


_NOTIFICATION: Final = ObjectType(
    name=TYPE,
    prefix="n",
    properties={
        "created": _set(str),
        "changedBy": _set(dict[str, Any]),
        "objectType": _set(str),
        "objectAccountId": _set(str),
        "objectId": _set(str),
        "oldRights": _set(dict[str, bool] | None),
        "newRights": _set(dict[str, bool] | None),
        "name": _set(str),
    },
    filters={
        "after": lambda obj, date: date is None or _made_ms(obj) >= _moment_ms(date),
        "before": lambda obj, date: date is None or _made_ms(obj) < _moment_ms(date),
        "objectType": lambda obj, value: obj["objectType"] == value,
        "objectAccountId": lambda obj, value: obj["objectAccountId"] == value,
    },
    sorts={"created": _made_ms},
)
"""Source: RFC 9670 s3.2, s3.6.1"""


class _Source:
    async def load_for_get(self, context: CallContext, request: GetRequest) -> GetResult:
        """Source: RFC 9670 s3.3"""
        check_home(context.caller, request.account_id)
        return await _NOTIFICATION.load_for_get(context, request)


class _Writer(Writer):
    """Destroys. Source: RFC 9670 s3.5"""

    async def load(self, context: SetContext, ids: Sequence[str]) -> dict[str, Any]:
        """id -> stored object."""
        return await _NOTIFICATION.load(context, ids)

    async def create(
        self, context: SetContext, creation_id: str, obj: dict[str, Any]
    ) -> dict[str, Any]:
        """Raises: SetError forbidden."""
        raise SetError("forbidden", "only the server makes ShareNotifications")

    async def update(
        self, context: SetContext, id: str, before: Any, patch: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Raises: SetError forbidden."""
        raise SetError("forbidden", "a ShareNotification never changes")

    async def destroy(self, context: SetContext, id: str, before: Any) -> None:
        """It was read, or is not wanted."""
        await context.tx.destroy(TYPE, id, before)


class _Querier:
    def plan_query(
        self, filter: Any, sort: list[dict[str, Any]] | None, arguments: dict[str, Any]
    ) -> QueryPlan:
        """Raises: MethodError invalidArguments, unsupportedFilter, unsupportedSort."""
        pending = [filter]
        while pending:
            item = pending.pop()
            if isinstance(item, dict) and "operator" in item:
                conditions = item.get("conditions")
                pending.extend(conditions if isinstance(conditions, list) else [])
            elif isinstance(item, dict):
                _check_condition(item)
        return _NOTIFICATION.plan_query(filter, sort, arguments)


def _check_condition(condition: Mapping[str, Any]) -> None:
    for name, value in condition.items():
        is_date = value is None or parse_utc_date(value) is not None
        if not (is_date if name in _DATES else isinstance(value, str)):
            raise MethodError("invalidArguments", f"filter {name[:60]!r} not of this value")


NOTIFICATION_TYPE: Final = Datatype(
    name=TYPE,
    capability=PRINCIPALS,
    properties=frozenset({"id", *_NOTIFICATION.properties}),
    source=_Source(),
    writer=_Writer(),
    querier=_Querier(),
)


def _encode_rights(rights: Sequence[str]) -> dict[str, bool] | None:
    """As myRights; None for somebody who does not see the object."""
    return dict.fromkeys(SHARE_RIGHTS, False) | dict.fromkeys(rights, True) if rights else None


async def _find_home(services: Services, user_id: UserId) -> AccountId | None:
    """The home account of a user who is still here."""
    user = await services.directory.load_user(user_id)
    if user is None or not await services.directory.load_accounts([user.home_account_id]):
        return None
    return user.home_account_id


async def run_seen(services: Services, account_id: AccountId, _: str, payload: Any) -> None:
    """Somebody subscribed to a Mailbox of `account_id`: what was told of it has done its work.

    Source: RFC 9670 s3.1
    """
    seen = msgspec.convert(payload, ShareSeen)
    home = await _find_home(services, seen.user_id)

    async def write(tx: Tx) -> None:
        for row in await tx.store.load_objects(TYPE, None):
            obj = msgspec.json.decode(row.data)
            if (obj["objectAccountId"], obj["objectId"]) == (account_id, seen.mailbox_id):
                await tx.destroy(TYPE, row.id, obj)

    if home is not None:
        await transact(services, home, "share-seen", write, origin="system")


async def run_notice(services: Services, account_id: AccountId, key: str, payload: Any) -> None:
    """Tell somebody that their rights in a Mailbox of `account_id` changed. Idempotent.

    Source: RFC 9670 s3
    """
    notice = msgspec.convert(payload, ShareNotice)
    directory = services.directory
    home = await _find_home(services, notice.user_id)
    if home is None:
        return
    sharer = None if notice.changed_by is None else await directory.load_user(notice.changed_by)
    person: dict[str, Any] = {"name": "", "email": None, "principalId": None}
    if sharer is not None:
        email = sharer.login if "@" in sharer.login else None
        person = {
            "name": sharer.name or sharer.login,
            "email": email,
            "principalId": sharer.id,
        }
    # Made from its cause, so that who does it again finds it done.
    digest = hashlib.blake2b(f"{account_id} {key}".encode(), digest_size=12).hexdigest()

    async def write(tx: Tx) -> None:
        if await tx.load(TYPE, f"n{digest}") is not None:
            return
        rows = await tx.store.load_objects(TYPE, None)
        surplus = len(rows) + 1 - limits.SHARE_NOTIFICATIONS_MAX
        for row in sorted(rows, key=lambda row: row.created_modseq)[: max(0, surplus)]:
            await tx.destroy(TYPE, row.id, msgspec.json.decode(row.data))
        obj = {
            "created": encode_utc_date(notice.changed_ms),
            "changedBy": person,
            "objectType": "Mailbox",
            "objectAccountId": account_id,
            "objectId": notice.mailbox_id,
            "oldRights": _encode_rights(notice.old_rights),
            "newRights": _encode_rights(notice.new_rights),
            "name": notice.name,
        }
        await tx.create(TYPE, obj, id=f"n{digest}")

    await transact(services, home, "share-notification", write, origin="system")
