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
    SetContext,
    Writer,
)
from tindra.core.errors import SetError
from tindra.core.services import Services
from tindra.core.tx import Tx, transact
from tindra.features.objects import ObjectType, server_set
from tindra.features.sharing.principal import PRINCIPALS, check_home
from tindra.model.sharing import SHARE_RIGHTS, ShareNotice, ShareSeen
from tindra.wire.jmap.date import encode_utc_date, parse_utc_date
from tindra.wire.jmap.filter import Condition, is_date_or_null, is_text

TYPE: Final = "ShareNotification"


def _made_ms(obj: Mapping[str, Any]) -> int:
    return parse_utc_date(obj["created"]) or 0


def _is_since(obj: Mapping[str, Any], date: str) -> bool:
    return _made_ms(obj) >= (parse_utc_date(date) or 0)


_NOTIFICATION: Final = ObjectType(
    name=TYPE,
    prefix="n",
    properties={
        "created": server_set(str),
        "changedBy": server_set(dict[str, Any]),
        "objectType": server_set(str),
        "objectAccountId": server_set(str),
        "objectId": server_set(str),
        "oldRights": server_set(dict[str, bool] | None),
        "newRights": server_set(dict[str, bool] | None),
        "name": server_set(str),
    },
    filters={
        "after": Condition(is_date_or_null, lambda obj, date: not date or _is_since(obj, date)),
        "before": Condition(
            is_date_or_null, lambda obj, date: not date or not _is_since(obj, date)
        ),
        "objectType": Condition(is_text, lambda obj, value: obj["objectType"] == value),
        "objectAccountId": Condition(is_text, lambda obj, id: obj["objectAccountId"] == id),
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


NOTIFICATION_TYPE: Final = Datatype(
    name=TYPE,
    capability=PRINCIPALS,
    properties=_NOTIFICATION.shown,
    source=_Source(),
    writer=_Writer(),
    querier=_NOTIFICATION,
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
