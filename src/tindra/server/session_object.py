"""The Session object (RFC 8620 s2): what this server can do, and for which accounts."""

from __future__ import annotations

import zlib
from typing import Any

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId
from tindra.core.access import Caller
from tindra.core.datatype import COLLATIONS, CORE, Capability, Registry

WEBSOCKET = "urn:ietf:params:jmap:websocket"

CORE_CAPABILITY = Capability(
    CORE,
    session={
        "maxSizeUpload": limits.UPLOAD_BYTES_MAX,
        "maxConcurrentUpload": limits.UPLOADS_CONCURRENT_MAX,
        "maxSizeRequest": limits.REQUEST_BYTES_MAX,
        "maxConcurrentRequests": limits.REQUESTS_CONCURRENT_MAX,
        "maxCallsInRequest": limits.CALLS_IN_REQUEST_MAX,
        "maxObjectsInGet": limits.OBJECTS_IN_GET_MAX,
        "maxObjectsInSet": limits.OBJECTS_IN_SET_MAX,
        "collationAlgorithms": COLLATIONS,
    },
)
WEBSOCKET_CAPABILITY = Capability(
    WEBSOCKET, session={"supportsPush": True}, load_account=lambda _caller, _access: None
)
"""Without its url, which goes with the base URL; of no account. Source: RFC 8887 s3"""


def make_session(registry: Registry, caller: Caller, base_url: str) -> dict[str, Any]:
    """The Session object of `caller`, with absolute URLs under `base_url` (no final slash).

    Source: RFC 8620 s2
    """
    of_session = {c.uri: c.session for c in registry.capabilities.values() if c.is_in_session}
    if WEBSOCKET in of_session:
        # "https" becomes "wss", and "http" (this machine alone, or a test) "ws".
        url = f"ws{base_url.removeprefix('http')}/jmap/ws"
        of_session[WEBSOCKET] = {"url": url, **of_session[WEBSOCKET]}
    accounts: dict[AccountId, dict[str, Any]] = {
        id: {
            "name": access.account.name,
            "isPersonal": access.is_personal,
            "isReadOnly": access.is_read_only,
            "accountCapabilities": registry.list_account_capabilities(caller, access),
        }
        for id, access in caller.accounts.items()
        if access.is_subscribed
    }
    session: dict[str, Any] = {
        "capabilities": of_session,
        "accounts": accounts,
        "primaryAccounts": {
            uri: id
            for uri in of_session
            if uri != CORE and (id := _find_primary(caller, accounts, uri)) is not None
        },
        "username": caller.user.login,
        "apiUrl": f"{base_url}/jmap/api",
        "downloadUrl": f"{base_url}/jmap/download/{{accountId}}/{{blobId}}/{{name}}?type={{type}}",
        "uploadUrl": f"{base_url}/jmap/upload/{{accountId}}",
        "eventSourceUrl": (
            f"{base_url}/jmap/eventsource?types={{types}}&closeafter={{closeafter}}&ping={{ping}}"
        ),
    }
    # The hash of all the rest: it changes exactly when something a client keeps has changed.
    session["state"] = f"{zlib.crc32(msgspec.json.encode(session)):08x}"
    return session


def _find_primary(
    caller: Caller, accounts: dict[AccountId, dict[str, Any]], uri: str
) -> AccountId | None:
    """Of those with the capability the first mailbox of their own, else the home account, which
    holds no mail; one of somebody else only where there is no other."""
    home = caller.user.home_account_id
    having = [id for id, account in accounts.items() if uri in account["accountCapabilities"]]
    having.sort(key=lambda id: (not accounts[id]["isPersonal"], id == home))
    return next(iter(having), None)
