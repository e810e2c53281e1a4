"""The SecretStore port: passwords and refresh tokens, sealed per account (docs/data.md, Secrets).

Each account has a data key; secrets are sealed with it, and it is sealed with a master key that
lives in a file outside the database. So a copy of the database opens nothing, and erasing an
account's data key erases its secrets wherever backups of the rows may be. AES-256-GCM throughout;
account and field name are associated data, so a sealed value cannot be moved to another place.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tindra.base.ids import AccountId
from tindra.core.errors import StoreError
from tindra.store.key_file import KEY_BYTES, KeyMissing, create_key_file, read_key_file

_NONCE_BYTES: Final = 12
"""Random per sealing; one key an account stays far below the 2**32 sealings of GCM."""
_DATA_KEY: Final = "\0data key"
"""Its place as associated data; no secret is named like this."""
_FORMAT: Final = b"\x01"
"""First octet of every sealed value, so that another cipher can follow one day."""


class SecretRows(Protocol):
    """Where sealed octets are kept; implemented by the stores."""

    async def find_data_key(self) -> tuple[AccountId, bytes] | None: ...

    async def load_data_key(self, account_id: AccountId) -> bytes | None: ...

    async def put_data_key(self, account_id: AccountId, sealed: bytes) -> bytes: ...

    async def load_sealed(self, account_id: AccountId, name: str) -> bytes | None: ...

    async def put_sealed(self, account_id: AccountId, name: str, sealed: bytes) -> None: ...


class SealedSecrets(NamedTuple):
    """The first rows of an account's secrets."""

    data_key: bytes
    secrets: Mapping[str, bytes]


class SecretRowsOwner(Protocol):
    """A store, as the vault sees it."""

    @property
    def secret_rows(self) -> SecretRows: ...


class Vault:
    """Seals and opens the secrets of all accounts. Call `start` before the first connection."""

    def __init__(self, store: SecretRowsOwner, key_path: Path | str) -> None:
        self._rows = store.secret_rows
        self._key_path = Path(key_path)
        self._master: AESGCM | None = None

    async def start(self) -> None:
        """Read the master key now; at the very first start make it.

        Raises: KeyMissing when the database has sealed secrets and the file is not there, or is
            not the one that sealed them.
        """
        master = await self._load_master()
        found = await self._rows.find_data_key()
        if found is not None:
            account_id, sealed = found
            _open(master, sealed, _place(account_id, _DATA_KEY))

    async def put_secret(self, account_id: AccountId, name: str, secret: str) -> None:
        """Seal and keep a secret. Raises: KeyMissing; StoreError for an unknown account."""
        key = await self._load_key(account_id)
        if key is None:
            key = await self._make_key(account_id)
        sealed = _seal(key, secret.encode(), _place(account_id, name))
        await self._rows.put_sealed(account_id, name, sealed)

    async def seal_first(self, account_id: AccountId, secrets: Mapping[str, str]) -> SealedSecrets:
        """The secrets of an account that is yet to be made, for the commit that makes it.

        Raises: KeyMissing.
        """
        data_key = os.urandom(KEY_BYTES)
        sealed_key = _seal(await self._load_master(), data_key, _place(account_id, _DATA_KEY))
        key = AESGCM(data_key)
        sealed = {
            name: _seal(key, secret.encode(), _place(account_id, name))
            for name, secret in secrets.items()
        }
        return SealedSecrets(sealed_key, sealed)

    async def open_secret(self, account_id: AccountId, name: str) -> str | None:
        """A secret in the clear; None if there is none. Raises: KeyMissing."""
        sealed = await self._rows.load_sealed(account_id, name)
        key = await self._load_key(account_id)
        if sealed is None or key is None:
            return None
        return _open(key, sealed, _place(account_id, name)).decode()

    async def _load_key(self, account_id: AccountId) -> AESGCM | None:
        sealed = await self._rows.load_data_key(account_id)
        if sealed is None:
            return None
        return AESGCM(_open(await self._load_master(), sealed, _place(account_id, _DATA_KEY)))

    async def _make_key(self, account_id: AccountId) -> AESGCM:
        place = _place(account_id, _DATA_KEY)
        master = await self._load_master()
        sealed = _seal(master, os.urandom(KEY_BYTES), place)
        return AESGCM(_open(master, await self._rows.put_data_key(account_id, sealed), place))

    async def _load_master(self) -> AESGCM:
        if self._master is None:
            key = read_key_file(self._key_path, "master key")
            if key is None:
                if await self._rows.find_data_key() is not None:
                    raise KeyMissing(
                        f"the database has sealed secrets, but the master key file"
                        f" {self._key_path} is missing: restore it from its backup"
                    )
                key = create_key_file(self._key_path, "master key", os.urandom(KEY_BYTES))
            self._master = AESGCM(key)
        return self._master


def _place(account_id: AccountId, name: str) -> bytes:
    return f"{account_id}\0{name}".encode()


def _seal(key: AESGCM, value: bytes, place: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return _FORMAT + nonce + key.encrypt(nonce, value, place)


def _open(key: AESGCM, sealed: bytes, place: bytes) -> bytes:
    body = sealed.removeprefix(_FORMAT)
    if len(body) == len(sealed):
        raise StoreError("a sealed value has a format that this version does not know")
    try:
        return key.decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], place)
    except InvalidTag as error:
        raise KeyMissing(
            "a sealed value does not open: the master key file is not the one that sealed it,"
            " or the database was altered"
        ) from error
