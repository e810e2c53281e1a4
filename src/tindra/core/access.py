"""The only place that answers "may this user do this in that account" (RFC 9670, data.md rule 11).

A foreign account and an unknown one get the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tindra.base.ids import AccountId
from tindra.core.errors import MethodError
from tindra.core.ports import Directory
from tindra.model.account import Account, User


class Access(msgspec.Struct, frozen=True):
    """One account as one user sees it."""

    account: Account
    rights: frozenset[str]
    is_personal: bool
    """The user owns it; a shared one is not personal (RFC 8620 s2)."""

    @property
    def is_read_only(self) -> bool:
        """Nothing in it may be changed."""
        return "triage" not in self.rights


class Caller(msgspec.Struct, frozen=True):
    """Who is asking, and all that they may ask about. Made once per sign-in, then cached."""

    user: User
    accounts: Mapping[AccountId, Access]

    def may_read(self, account_id: AccountId) -> bool:
        """Whether the account exists for this user at all."""
        return account_id in self.accounts


async def load_caller(directory: Directory, user: User, now_ms: int) -> Caller:
    """Read the grants of `user` that hold at `now_ms`. Cost: two directory reads."""
    grants = {
        grant.account_id: grant.rights
        for grant in await directory.list_grants(user.id)
        if grant.from_ms <= now_ms and (grant.until_ms is None or now_ms < grant.until_ms)
        if "read" in grant.rights
    }
    accounts = await directory.load_accounts(list(grants)) if grants else []
    return Caller(
        user=user,
        accounts={
            account.id: Access(account, grants[account.id], account.owner_id == user.id)
            for account in sorted(accounts, key=lambda account: (account.created_ms, account.id))
        },
    )


def check_read(caller: Caller, account_id: object) -> Access:
    """The caller's access to an account.

    Raises: MethodError invalidArguments, accountNotFound (also for accounts of others).
    """
    if not isinstance(account_id, str):
        raise MethodError("invalidArguments", "accountId must be given and be a string")
    access = caller.accounts.get(AccountId(account_id))
    if access is None:
        raise MethodError("accountNotFound", "there is no such account for this user")
    return access


def check_write(caller: Caller, account_id: object, right: str) -> Access:
    """As check_read, and the caller holds `right` there.

    Raises: MethodError accountReadOnly, forbidden.
    """
    access = check_read(caller, account_id)
    if access.is_read_only:
        raise MethodError("accountReadOnly", "this account may only be read")
    if right not in access.rights:
        raise MethodError("forbidden", f"this needs the right to {right} in the account")
    return access
