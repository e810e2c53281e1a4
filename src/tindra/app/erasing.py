"""Finishes the erasing of accounts: rows and search words, then large blobs, then the mark.

The mark is durable and comes first (Registrar.mark_erased); whoever holds the lock of the data
folder does the rest, again from the start after a crash. Every step may be done twice.
"""

from __future__ import annotations

from tindra.app.wiring import Installation
from tindra.base.ids import AccountId


async def run_erasing(installation: Installation, account_id: AccountId) -> None:
    """Delete what is left of a marked account. Nothing may be working on it any more.

    Raises: StoreError; it is to be tried again then.
    """
    await installation.registrar.erase_rows(account_id)
    await installation.blob_eraser.erase_account(account_id)
    await installation.registrar.finish_erasing(account_id)


async def run_erasings(installation: Installation) -> None:
    """All that were begun, for a process that holds the lock and runs no loops."""
    for account_id in await installation.registrar.list_erasing():
        await run_erasing(installation, account_id)
