"""The SecretStore port: sealed per account, opened by the master key only."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.contract.stores import ACCOUNT, OTHER, Stores
from tindra.base.ids import AccountId
from tindra.core.errors import StoreError
from tindra.store.key_file import KeyMissing
from tindra.store.vault import Vault


async def test_a_secret_opens_where_it_was_put_and_nowhere_else(stores: Stores) -> None:
    await stores.secrets.put_secret(ACCOUNT, "imap", "pässwörd")
    await stores.secrets.put_secret(ACCOUNT, "smtp", "")
    assert await stores.secrets.open_secret(ACCOUNT, "imap") == "pässwörd"
    assert await stores.secrets.open_secret(ACCOUNT, "smtp") == ""
    assert await stores.secrets.open_secret(ACCOUNT, "other") is None
    assert await stores.secrets.open_secret(OTHER, "imap") is None


async def test_a_secret_can_be_replaced(stores: Stores) -> None:
    for secret in ("one", "two"):
        await stores.secrets.put_secret(ACCOUNT, "imap", secret)
    assert await stores.secrets.open_secret(ACCOUNT, "imap") == "two"


async def test_an_unknown_account_keeps_no_secrets(stores: Stores) -> None:
    with pytest.raises(StoreError):
        await stores.secrets.put_secret(AccountId("a99"), "imap", "x")


async def test_the_database_holds_no_clear_text_and_no_value_twice(stores: Stores) -> None:
    rows = stores.store.secret_rows
    sealed = []
    for _ in range(2):
        await stores.secrets.put_secret(ACCOUNT, "imap", "correct horse")
        sealed.append(await rows.load_sealed(ACCOUNT, "imap"))
    assert sealed[0] != sealed[1]
    assert all(value and b"horse" not in value for value in sealed)


async def test_a_sealed_value_does_not_open_in_another_place(stores: Stores) -> None:
    rows = stores.store.secret_rows
    await stores.secrets.put_secret(ACCOUNT, "imap", "x")
    await stores.secrets.put_secret(OTHER, "imap", "y")
    sealed = await rows.load_sealed(ACCOUNT, "imap")
    assert sealed is not None
    for account_id, name in ((ACCOUNT, "smtp"), (OTHER, "imap")):
        await rows.put_sealed(account_id, name, sealed)
        with pytest.raises(KeyMissing):
            await stores.secrets.open_secret(account_id, name)
    await rows.put_sealed(ACCOUNT, "imap", sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with pytest.raises(KeyMissing):
        await stores.secrets.open_secret(ACCOUNT, "imap")
    await rows.put_sealed(ACCOUNT, "imap", b"\x09" + sealed[1:])
    with pytest.raises(StoreError, match="format"):
        await stores.secrets.open_secret(ACCOUNT, "imap")


async def test_the_master_key_is_made_once_for_its_owner_only(
    stores: Stores, tmp_path: Path
) -> None:
    path = tmp_path / "fresh.key"
    await Vault(stores.store, path).start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = path.read_bytes()
    assert len(key) == 32
    await Vault(stores.store, path).start()
    assert path.read_bytes() == key


async def test_another_start_opens_what_the_last_one_sealed(stores: Stores) -> None:
    await stores.secrets.put_secret(ACCOUNT, "imap", "x")
    again = Vault(stores.store, stores.folder / "master.key")
    await again.start()
    assert await again.open_secret(ACCOUNT, "imap") == "x"


async def test_sealed_secrets_without_their_key_refuse_the_start(
    stores: Stores, tmp_path: Path
) -> None:
    await stores.secrets.put_secret(ACCOUNT, "imap", "x")
    missing = tmp_path / "missing.key"
    with pytest.raises(KeyMissing, match=r"master key file .* is missing"):
        await Vault(stores.store, missing).start()
    assert not missing.exists(), "a new key would only hide the loss"
    short = tmp_path / "short.key"
    short.write_bytes(b"too short")
    with pytest.raises(KeyMissing, match="32 octets"):
        await Vault(stores.store, short).start()
    wrong = tmp_path / "wrong.key"
    wrong.write_bytes(b"w" * 32)
    with pytest.raises(KeyMissing, match="not the one"):
        await Vault(stores.store, wrong).open_secret(ACCOUNT, "imap")


async def test_erasing_the_account_erases_its_data_key(stores: Stores) -> None:
    await stores.secrets.put_secret(ACCOUNT, "imap", "x")
    await stores.directory.delete_account(ACCOUNT)
    assert await stores.store.secret_rows.load_data_key(ACCOUNT) is None
    assert await stores.secrets.open_secret(ACCOUNT, "imap") is None
