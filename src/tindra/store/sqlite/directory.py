"""The Directory port over SQLite: users, credentials, grants, and the list of accounts.

These tables are not keyed by account (docs/data.md rule 1); each statement says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

import apsw
import msgspec

from tindra.base.ids import AccountId, UserId
from tindra.base.limits import SHARES_PER_USER_MAX
from tindra.core.errors import Conflict
from tindra.model.account import Account, Grant, Token, User
from tindra.model.sharing import SharedAccount, sum_shares
from tindra.store.sqlite.access import StoreAccess
from tindra.store.sqlite.connection import StoreConnection
from tindra.store.sqlite.erase import erase_account
from tindra.store.sqlite.rows import decode_list, encode_list

T = TypeVar("T")

_USER: Final = (
    "-- directory: users\n"
    "SELECT user_id, login, password_hash, home_account_id, created_ms, name, description,"
    " time_zone FROM user"
)
_GRANT: Final = (
    "-- directory: grants\nSELECT user_id, account_id, rights, from_ms, until_ms FROM grant_row"
)
_SHARE: Final = (
    "-- directory: shares of a user, read at sign-in\n"
    "SELECT account_id, rights, is_subscribed FROM mailbox_share"
    " WHERE user_id = ? AND rights <> '[]' ORDER BY account_id LIMIT ?"
)
_DEVICE: Final = (
    "-- directory: tokens\nSELECT hash, user_id, name, kind, created_ms, expires_ms FROM token"
)
_ACCOUNT: Final = (
    "-- directory: accounts\nSELECT account_id, name, owner_id, created_ms FROM account"
)


class SqliteDirectory:
    """Users, credentials, grants and shares of an SqliteStore."""

    def __init__(self, store: StoreAccess) -> None:
        self._store = store

    async def _list(self, sql: str, *params: Any) -> list[Any]:
        def run(conn: StoreConnection) -> list[Any]:
            return conn.execute(sql, params).fetchall()

        return await self._store.run_read(run)

    async def _write(self, sql: str, *params: Any) -> None:
        def run(conn: StoreConnection) -> None:
            conn.execute(sql, params)

        await self._store.run_write(run)

    # -- users ------------------------------------------------------------------------------------
    async def put_user(self, user: User) -> None:
        """Create or change a user. Raises: Conflict when another user has this login."""
        await self._store.run_write(lambda conn: put_user(conn, user))

    async def find_user(self, login: str) -> User | None:
        """The user who signs in by this name."""
        return _first(_make_users(await self._list(_USER + " WHERE login = ?", login)))

    async def load_user(self, user_id: UserId) -> User | None:
        """A user by id."""
        return _first(_make_users(await self._list(_USER + " WHERE user_id = ?", user_id)))

    async def list_users(self) -> list[User]:
        """All users, in login order."""
        return _make_users(await self._list(_USER + " ORDER BY login"))

    # -- accounts ---------------------------------------------------------------------------------
    async def put_account(self, account: Account) -> None:
        """Create or rename an account."""
        await self._store.run_write(lambda conn: put_account(conn, account))

    async def load_accounts(self, ids: Sequence[AccountId] | None) -> list[Account]:
        """Accounts by id, or all of them, in id order."""
        if ids is None:
            rows = await self._list(_ACCOUNT + " ORDER BY account_id")
        else:
            rows = await self._list(
                _ACCOUNT + " WHERE account_id IN (SELECT value FROM json_each(?))"
                " ORDER BY account_id",
                encode_list(ids),
            )
        return [Account(*row) for row in rows]

    async def delete_account(self, account_id: AccountId) -> None:
        """Erase an account: all its rows, its grants, its search index and its data key."""
        await erase_account(self._store, account_id)

    # -- grants -----------------------------------------------------------------------------------
    async def put_grant(self, grant: Grant) -> None:
        """Give or change rights."""
        await self._store.run_write(lambda conn: put_grant(conn, grant))

    async def delete_grant(self, user_id: UserId, account_id: AccountId) -> None:
        """Take all rights of a user in an account."""
        await self._write(
            "-- directory: grants\nDELETE FROM grant_row WHERE user_id = ? AND account_id = ?",
            user_id,
            account_id,
        )

    async def list_grants(self, user_id: UserId) -> list[Grant]:
        """What a user may do, in account id order."""
        sql = _GRANT + " WHERE user_id = ? ORDER BY account_id"
        return _make_grants(await self._list(sql, user_id))

    async def list_grantees(self, account_id: AccountId) -> list[Grant]:
        """Who may do what in an account, in user id order."""
        sql = _GRANT + " WHERE account_id = ? ORDER BY user_id"
        return _make_grants(await self._list(sql, account_id))

    async def list_shared_accounts(self, user_id: UserId) -> list[SharedAccount]:
        """Accounts of which a user sees some Mailboxes, in account id order."""
        found: dict[AccountId, list[tuple[frozenset[str], bool]]] = {}
        for account_id, rights, is_subscribed in await self._list(
            _SHARE, user_id, SHARES_PER_USER_MAX
        ):
            share = (frozenset(decode_list(rights)), bool(is_subscribed))
            found.setdefault(account_id, []).append(share)
        return [sum_shares(account_id, shares) for account_id, shares in found.items()]

    # -- tokens -----------------------------------------------------------------------------------
    async def put_token(self, token: Token) -> None:
        """Keep a device sign-in or an app password."""
        await self._write(
            "-- directory: tokens\n"
            "INSERT OR REPLACE INTO token (hash, user_id, name, kind, created_ms, expires_ms)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            *msgspec.structs.astuple(token),
        )

    async def find_token(self, token_hash: bytes) -> Token | None:
        """The token with this hash."""
        return _first(_make_tokens(await self._list(_DEVICE + " WHERE hash = ?", token_hash)))

    async def list_tokens(self, user_id: UserId) -> list[Token]:
        """The tokens of a user, oldest first."""
        sql = _DEVICE + " WHERE user_id = ? ORDER BY created_ms, hash"
        return _make_tokens(await self._list(sql, user_id))

    async def delete_token(self, token_hash: bytes) -> None:
        """Sign one device out."""
        await self._write("-- directory: tokens\nDELETE FROM token WHERE hash = ?", token_hash)


def _first(rows: Sequence[T]) -> T | None:
    return rows[0] if rows else None


def _make_users(rows: Iterable[Any]) -> list[User]:
    return [User(*row) for row in rows]


def _make_grants(rows: Iterable[Any]) -> list[Grant]:
    return [
        Grant(user_id, account_id, frozenset(decode_list(rights)), from_ms, until_ms)
        for user_id, account_id, rights, from_ms, until_ms in rows
    ]


def _make_tokens(rows: Iterable[Any]) -> list[Token]:
    return [Token(*row) for row in rows]


# -- rows, for transactions of others too ----------------------------------------------------------
def put_user(conn: StoreConnection, user: User) -> None:
    """Create or change a user. Raises: Conflict when another user has this login."""
    try:
        conn.execute(
            "-- directory: users\n"
            "INSERT INTO user (user_id, login, password_hash, home_account_id, created_ms, name,"
            " description, time_zone) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
            " ON CONFLICT (user_id) DO UPDATE SET login = ?2, password_hash = ?3,"
            " home_account_id = ?4, created_ms = ?5, name = ?6, description = ?7, time_zone = ?8",
            msgspec.structs.astuple(user),
        )
    except apsw.ConstraintError as error:
        raise Conflict(f"the login {user.login!r} is taken") from error


def put_account(conn: StoreConnection, account: Account) -> None:
    """Create or rename an account."""
    conn.execute(
        "-- directory: accounts\n"
        "INSERT INTO account (account_id, name, owner_id, created_ms) VALUES (?1, ?2, ?3, ?4)"
        " ON CONFLICT (account_id) DO UPDATE SET name = ?2, owner_id = ?3, created_ms = ?4",
        msgspec.structs.astuple(account),
    )


def put_grant(conn: StoreConnection, grant: Grant) -> None:
    """Give or change rights."""
    conn.execute(
        "-- directory: grants\n"
        "INSERT OR REPLACE INTO grant_row (user_id, account_id, rights, from_ms, until_ms)"
        " VALUES (?, ?, ?, ?, ?)",
        (
            grant.user_id,
            grant.account_id,
            encode_list(sorted(grant.rights)),
            grant.from_ms,
            grant.until_ms,
        ),
    )
