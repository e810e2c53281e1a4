"""Where the vault keeps what it sealed, in memory."""

from __future__ import annotations

from collections.abc import Collection

from tindra.base.ids import AccountId
from tindra.core.errors import StoreError


class MemorySecretRows:
    """The SecretRows port of `store.vault`."""

    def __init__(self, accounts: Collection[AccountId]) -> None:
        self._accounts = accounts
        self._keys: dict[AccountId, bytes] = {}
        self._sealed: dict[tuple[AccountId, str], bytes] = {}

    async def find_data_key(self) -> tuple[AccountId, bytes] | None:
        """The sealed data key of some account; None while nothing was sealed."""
        return next(iter(self._keys.items()), None)

    async def load_data_key(self, account_id: AccountId) -> bytes | None:
        """The account's sealed data key."""
        return self._keys.get(account_id)

    async def put_data_key(self, account_id: AccountId, sealed: bytes) -> bytes:
        """Keep a sealed data key unless there is one already; the one that stands now."""
        if account_id not in self._accounts:
            raise StoreError(f"no account {account_id!r}")
        return self._keys.setdefault(account_id, sealed)

    async def load_sealed(self, account_id: AccountId, name: str) -> bytes | None:
        """One sealed secret."""
        return self._sealed.get((account_id, name))

    async def put_sealed(self, account_id: AccountId, name: str, sealed: bytes) -> None:
        """Create or replace one sealed secret."""
        self._sealed[account_id, name] = sealed

    def erase_account(self, account_id: AccountId) -> None:
        """Forget everything of an account."""
        self._keys.pop(account_id, None)
        for key in [key for key in self._sealed if key[0] == account_id]:
            del self._sealed[key]
