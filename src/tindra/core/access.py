"""The only place that answers "may this user do this in that account" (RFC 9670).

A foreign account and an unknown one get the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId
from tindra.core.errors import MethodError
from tindra.core.ports import Directory
from tindra.core.services import Services
from tindra.model.account import Account, User
from tindra.model.sharing import SharedAccount

PART_RIGHTS = frozenset({"read", "triage"})
"""Who sees a part may call what reads and writes; each object asks for rights of its Mailboxes."""


class Access(msgspec.Struct, frozen=True):
    """One account as one user sees it."""

    account: Account
    rights: frozenset[str]
    is_personal: bool
    """The user owns it; a shared one is not personal (RFC 8620 s2)."""
    part_rights: frozenset[str] = frozenset()
    """Not empty: only some Mailboxes of it are shared with the user, with these rights summed up.
    What may be done in which is read with the data (core/part.py), which asks for each object."""
    is_subscribed: bool = True
    """The user wants to hear of it. Source: RFC 9670 s1.4"""

    @property
    def is_partial(self) -> bool:
        """The user sees only some Mailboxes of it."""
        return bool(self.part_rights)

    @property
    def is_read_only(self) -> bool:
        """Nothing in it may be changed, but what is the user's own (isSubscribed)."""
        if self.is_partial:
            return self.part_rights == {"mayReadItems"}
        return "triage" not in self.rights


class Caller(msgspec.Struct, frozen=True):
    """Who is asking, and all that they may ask about. Made once per sign-in, then cached."""

    user: User
    accounts: Mapping[AccountId, Access]
    token_hash: bytes = b""
    """Of the token that the caller came with; empty for a password."""

    def may_read(self, account_id: AccountId) -> bool:
        """Whether the account exists for this user at all."""
        return account_id in self.accounts

    def sees_part(self, account_id: AccountId) -> bool:
        """Whether only some Mailboxes of the account are there for this user."""
        access = self.accounts.get(account_id)
        return access is not None and access.is_partial

    def is_bare_home(self, account_id: AccountId) -> bool:
        """Whether this is the home account of a user who has others: it holds no mail."""
        return account_id == self.user.home_account_id and len(self.accounts) > 1


async def load_caller(
    directory: Directory, user: User, now_ms: int, token_hash: bytes = b""
) -> Caller:
    """Read the grants of `user` that hold at `now_ms`, and what is shared with them.

    Cost: three directory reads.
    """
    grants = {
        grant.account_id: grant.rights
        for grant in await directory.list_grants(user.id)
        if grant.may_read_at(now_ms)
    }
    parts = {
        part.account_id: part
        for part in (await directory.list_shared_accounts(user.id))[: limits.SHARED_ACCOUNTS_MAX]
        if part.account_id not in grants
    }
    accounts = await directory.load_accounts([*grants, *parts]) if grants or parts else []
    found = {
        account.id: Access(account, grants[account.id], account.owner_id == user.id)
        if account.id in grants
        else _sum_up(account, parts[account.id])
        for account in sorted(accounts, key=lambda account: (account.created_ms, account.id))
    }
    return Caller(
        user=user,
        accounts=found,
        token_hash=token_hash,
    )


async def list_visible_users(services: Services, caller: Caller) -> list[User]:
    """The users whom `caller` may know of, themselves among them, in login order.

    Cost: one directory read; where users are hidden from one another, two more for each account
    that is the caller's.
    """
    users = await services.directory.list_users()
    if services.are_users_visible:
        return users
    known = {caller.user.id}
    for id, access in caller.accounts.items():
        known.add(access.account.owner_id)
        if access.is_personal:
            known.update(g.user_id for g in await services.directory.list_grantees(id))
            shares = await services.store.read(id, lambda reader: reader.list_shares())
            known.update(share.user_id for share in shares if share.rights)
    return [user for user in users if user.id in known]


def _sum_up(account: Account, part: SharedAccount) -> Access:
    return Access(account, PART_RIGHTS, False, part.rights, part.is_subscribed)


def check_supports(
    caller: Caller, is_of_mailbox: bool, supports_parts: bool, arguments: Mapping[str, Any]
) -> None:
    """A method of mail is not called on an account without, nor one that knows nothing of parts of
    accounts on a part; the Session object says so of both.

    Raises: MethodError accountNotSupportedByMethod, fromAccountNotSupportedByMethod.
    Source: RFC 8620 s3.6.2, s5.4
    """

    def tell(id: object) -> str | None:
        if not isinstance(id, str):
            return None
        if is_of_mailbox and caller.is_bare_home(AccountId(id)):
            return "there is no mail in this account"
        is_out = not supports_parts and caller.sees_part(AccountId(id))
        return "only some Mailboxes of this account are shared with you" if is_out else None

    if text := tell(arguments.get("accountId")):
        raise MethodError("accountNotSupportedByMethod", text)
    if text := tell(arguments.get("fromAccountId")):
        raise MethodError("fromAccountNotSupportedByMethod", text)


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
    if access.is_read_only and not access.is_partial:
        raise MethodError("accountReadOnly", "this account may only be read")
    if right not in access.rights:
        raise MethodError("forbidden", f"this needs the right to {right} in the account")
    return access
