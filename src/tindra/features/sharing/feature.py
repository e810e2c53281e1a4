"""The feature of JMAP Sharing (RFC 9670): who there is, and news of what they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tindra.core.access import Access, Caller
from tindra.core.datatype import Capability, Feature
from tindra.features.sharing.notification import NOTIFICATION_TYPE, run_notice, run_seen
from tindra.features.sharing.principal import OWNER, PRINCIPAL_TYPE, PRINCIPALS, list_methods
from tindra.model.sharing import SHARE_NOTICE, SHARE_SEEN


def _load_current(caller: Caller, access: Access) -> Mapping[str, Any] | None:
    """Principals are in the home account alone. Source: RFC 9670 s1.5.1"""
    is_home = access.account.id == caller.user.home_account_id
    return {"currentUserPrincipalId": caller.user.id} if is_home else None


def _load_owner(caller: Caller, access: Access) -> Mapping[str, Any]:
    """Whose account it is; the Principal is to be found in the caller's home account.

    Source: RFC 9670 s1.5.2
    """
    home = caller.user.home_account_id
    return {"accountIdForPrincipal": home, "principalId": access.account.owner_id}


SHARING_FEATURE = Feature(
    name="sharing",
    capabilities=(
        Capability(PRINCIPALS, load_account=_load_current),
        Capability(OWNER, load_account=_load_owner, is_in_session=False, supports_parts=True),
    ),
    datatypes=(PRINCIPAL_TYPE, NOTIFICATION_TYPE),
    methods=tuple(list_methods()),
    timers={SHARE_NOTICE: run_notice, SHARE_SEEN: run_seen},
)
