"""Makes and erases users and accounts as a whole, each in one commit (port: app/ports.py)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from tindra.base.ids import AccountId, UserId
from tindra.core.ports import StoreTx
from tindra.model.account import Account, Grant, User
from tindra.model.mail import DOC_COUNTER_BITS, encode_email_id
from tindra.store.sqlite.connection import StoreConnection
from tindra.store.sqlite.directory import put_account, put_grant, put_user
from tindra.store.sqlite.erase import erase_rows, finish_erasing, list_erasing, mark_erased
from tindra.store.sqlite.store import SqliteStore
from tindra.store.vault import Vault

T = TypeVar("T")
_RESTORED_MODSEQS: Final = 1 << 32
"""More transactions than an account sees between two backups."""
_RESTORED_DOCS: Final = 1 << (DOC_COUNTER_BITS - 1)
"""Half of the ring of document numbers: as far from those given since the backup as can be."""
_NOBODY: Final = encode_email_id(0)
"""An id that nothing ever had."""


class SqliteRegistrar:
    """The Registrar of an SqliteStore."""

    def __init__(self, store: SqliteStore, vault: Vault) -> None:
        self._store = store
        self._vault = vault

    async def create_user(self, user: User, home: Account, grant: Grant) -> None:
        """A user with a home account. Raises: Conflict when the login is taken."""

        def run(conn: StoreConnection) -> None:
            put_account(conn, home)
            put_grant(conn, grant)
            put_user(conn, user)

        await self._store.run_write(run)

    async def create_account(
        self,
        account: Account,
        grant: Grant,
        secrets: Mapping[str, str],
        fn: Callable[[StoreTx], Awaitable[T]],
    ) -> T:
        """An account with a grant, sealed secrets and what `fn` writes: all or nothing."""
        sealed = await self._vault.seal_first(account.id, secrets)

        def first(conn: StoreConnection) -> None:
            put_account(conn, account)
            put_grant(conn, grant)
            conn.execute(
                "UPDATE account SET data_key = ? WHERE account_id = ?",
                (sealed.data_key, account.id),
            )
            conn.executemany(
                "INSERT INTO secret (account_id, name, sealed) VALUES (?, ?, ?)",
                [(account.id, name, value) for name, value in sealed.secrets.items()],
            )

        result, _ = await self._store.write(account.id, "account-create", fn, first=first)
        return result

    async def delete_user(self, user_id: UserId) -> None:
        """Delete a user with tokens and grants, and mark the accounts they own as erased."""

        def run(conn: StoreConnection) -> None:
            conn.execute("-- directory: users\nDELETE FROM user WHERE user_id = ?", (user_id,))
            conn.execute("-- directory: tokens\nDELETE FROM token WHERE user_id = ?", (user_id,))
            conn.execute(
                "-- directory: grants\nDELETE FROM grant_row WHERE user_id = ?", (user_id,)
            )
            conn.execute(
                "-- directory: shares\nDELETE FROM mailbox_share WHERE user_id = ?", (user_id,)
            )
            owned: Any = conn.execute(
                "-- directory: accounts\nSELECT account_id FROM account WHERE owner_id = ?",
                (user_id,),
            ).fetchall()
            for (account_id,) in owned:
                mark_erased(conn, account_id)

        await self._store.run_write(run)

    async def mark_erased(self, account_id: AccountId) -> None:
        """Take an account out of reach for good; what is left of it is to be erased."""
        await self._store.run_write(lambda conn: mark_erased(conn, account_id))

    async def renew_states(self, type_names: Sequence[str]) -> int:
        """Make every state that was ever told of these types too old; gives how many accounts."""

        def run(conn: StoreConnection) -> int:
            conn.execute(
                "-- every account: a restored backup\n"
                "UPDATE account SET modseq = modseq + ?1, floor_modseq = modseq + ?1,"
                " doc_counter = doc_counter + ?2",
                (_RESTORED_MODSEQS, _RESTORED_DOCS),
            )
            count = conn.changes()
            conn.executemany(
                "-- every account: a restored backup\n"
                "INSERT OR REPLACE INTO type_state (account_id, type_name, modseq)"
                " SELECT account_id, ?, modseq FROM account",
                [(name,) for name in type_names],
            )
            # A state is too old where something was destroyed after it and is forgotten.
            conn.executemany(
                "-- every account: a restored backup\n"
                "INSERT INTO tombstone (account_id, type_name, modseq, id, created_modseq)"
                " SELECT account_id, ?, modseq, ?, modseq FROM account",
                [(name, _NOBODY) for name in type_names],
            )
            return count

        return await self._store.run_write(run)

    async def list_erasing(self) -> list[AccountId]:
        """Accounts of which something may be left."""
        return await list_erasing(self._store)

    async def erase_rows(self, account_id: AccountId) -> None:
        """Delete all rows and search words of a marked account, in small steps; idempotent."""
        await erase_rows(self._store, account_id)

    async def finish_erasing(self, account_id: AccountId) -> None:
        """Nothing is left of it: forget the mark."""
        await finish_erasing(self._store, account_id)
