"""The Directory port over dicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tindra.base.ids import AccountId, UserId
from tindra.core.errors import Conflict
from tindra.model.account import Account, Grant, Token, User
from tindra.model.sharing import SharedAccount, sum_shares
from tindra.store.memory.rows import AccountState


class MemoryDirectory:
    """Users, credentials, grants, and the list of accounts of a MemoryStore."""

    def __init__(self, states: dict[AccountId, AccountState]) -> None:
        self._states = states
        self._users: dict[UserId, User] = {}
        self._accounts: dict[AccountId, Account] = {}
        self._grants: dict[tuple[UserId, AccountId], Grant] = {}
        self._tokens: dict[bytes, Token] = {}
        self.on_delete: tuple[Callable[[AccountId], None], ...] = ()
        """What else forgets an erased account."""

    async def put_user(self, user: User) -> None:
        """Create or change a user. Raises: Conflict when another user has this login."""
        other = await self.find_user(user.login)
        if other is not None and other.id != user.id:
            raise Conflict(f"the login {user.login!r} is taken")
        self._users[user.id] = user

    async def find_user(self, login: str) -> User | None:
        """The user who signs in by this name."""
        return next((user for user in self._users.values() if user.login == login), None)

    async def load_user(self, user_id: UserId) -> User | None:
        """A user by id."""
        return self._users.get(user_id)

    async def list_users(self) -> list[User]:
        """All users, in login order."""
        return sorted(self._users.values(), key=lambda user: user.login)

    async def put_account(self, account: Account) -> None:
        """Create or rename an account."""
        self._accounts[account.id] = account
        self._states.setdefault(account.id, AccountState())

    async def load_accounts(self, ids: Sequence[AccountId] | None) -> list[Account]:
        """Accounts by id, or all of them, in id order."""
        wanted = self._accounts.keys() if ids is None else set(ids)
        return [account for id, account in sorted(self._accounts.items()) if id in wanted]

    async def delete_account(self, account_id: AccountId) -> None:
        """Erase an account: all its rows, its grants, its search index and its data key."""
        self._accounts.pop(account_id, None)
        self._states.pop(account_id, None)
        self._grants = {key: grant for key, grant in self._grants.items() if key[1] != account_id}
        for forget in self.on_delete:
            forget(account_id)

    async def put_grant(self, grant: Grant) -> None:
        """Give or change rights."""
        self._grants[grant.user_id, grant.account_id] = grant

    async def delete_grant(self, user_id: UserId, account_id: AccountId) -> None:
        """Take all rights of a user in an account."""
        self._grants.pop((user_id, account_id), None)

    async def list_grants(self, user_id: UserId) -> list[Grant]:
        """What a user may do, in account id order."""
        return [grant for key, grant in sorted(self._grants.items()) if key[0] == user_id]

    async def list_grantees(self, account_id: AccountId) -> list[Grant]:
        """Who may do what in an account, in user id order."""
        return [grant for key, grant in sorted(self._grants.items()) if key[1] == account_id]

    async def list_shared_accounts(self, user_id: UserId) -> list[SharedAccount]:
        """Accounts of which a user sees some Mailboxes, in account id order."""
        found = []
        for account_id, state in sorted(self._states.items()):
            shares = [
                (share.rights, share.is_subscribed)
                for share in state.shares.values()
                if share.user_id == user_id and share.rights
            ]
            if shares:
                found.append(sum_shares(account_id, shares))
        return found

    async def put_token(self, token: Token) -> None:
        """Keep a device sign-in or an app password."""
        self._tokens[token.hash] = token

    async def find_token(self, token_hash: bytes) -> Token | None:
        """The token with this hash."""
        return self._tokens.get(token_hash)

    async def list_tokens(self, user_id: UserId) -> list[Token]:
        """The tokens of a user, oldest first."""
        found = [token for token in self._tokens.values() if token.user_id == user_id]
        return sorted(found, key=lambda token: (token.created_ms, token.hash))

    async def delete_token(self, token_hash: bytes) -> None:
        """Sign one device out."""
        self._tokens.pop(token_hash, None)
