"""Where the vault keeps what it sealed: octets only, this module can open none of them."""

from __future__ import annotations

from tindra.base.ids import AccountId
from tindra.core.errors import StoreError
from tindra.store.sqlite.access import StoreAccess
from tindra.store.sqlite.connection import StoreConnection


class SqliteSecretRows:
    """The SecretRows port of `store.vault`."""

    def __init__(self, store: StoreAccess) -> None:
        self._store = store

    async def find_data_key(self) -> tuple[AccountId, bytes] | None:
        """The sealed data key of some account; None while nothing was sealed."""

        def run(conn: StoreConnection) -> tuple[AccountId, bytes] | None:
            row: tuple[AccountId, bytes] | None = conn.execute(
                "-- every account: is a master key needed, and is it this one\n"
                "SELECT account_id, data_key FROM account WHERE data_key IS NOT NULL LIMIT 1"
            ).fetchone()
            return row

        return await self._store.run_read(run)

    async def load_data_key(self, account_id: AccountId) -> bytes | None:
        """The account's sealed data key."""

        def run(conn: StoreConnection) -> bytes | None:
            key = conn.execute(
                "SELECT data_key FROM account WHERE account_id = ?", (account_id,)
            ).get
            return key if isinstance(key, bytes) else None

        return await self._store.run_read(run)

    async def put_data_key(self, account_id: AccountId, sealed: bytes) -> bytes:
        """Keep a sealed data key unless there is one already; the one that stands now.

        Raises: StoreError for an unknown account.
        """

        def run(conn: StoreConnection) -> bytes:
            key = conn.execute(
                "UPDATE account SET data_key = coalesce(data_key, ?) WHERE account_id = ?"
                " RETURNING data_key",
                (sealed, account_id),
            ).get
            if not isinstance(key, bytes):
                raise StoreError(f"no account {account_id!r}")
            return key

        return await self._store.run_write(run)

    async def load_sealed(self, account_id: AccountId, name: str) -> bytes | None:
        """One sealed secret."""

        def run(conn: StoreConnection) -> bytes | None:
            sealed = conn.execute(
                "SELECT sealed FROM secret WHERE account_id = ? AND name = ?", (account_id, name)
            ).get
            return sealed if isinstance(sealed, bytes) else None

        return await self._store.run_read(run)

    async def put_sealed(self, account_id: AccountId, name: str, sealed: bytes) -> None:
        """Create or replace one sealed secret."""

        def run(conn: StoreConnection) -> None:
            conn.execute(
                "INSERT OR REPLACE INTO secret (account_id, name, sealed) VALUES (?, ?, ?)",
                (account_id, name, sealed),
            )

        await self._store.run_write(run)
