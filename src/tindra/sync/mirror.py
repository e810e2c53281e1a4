"""What sync asks of the store beyond core's port: the rows of the mirror, which nothing else reads.

Pure: protocols only. A RemoteRow is the *base* of the sync plan: a message at the provider as both
sides last agreed on it. Its key is (mailbox_id, uid); one Email may have many. Mirror rows are in
no change log (devices never see them), but they change in the same transaction as what they mirror.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from tindra.base.ids import AccountId
from tindra.core.ports import Store, StoreReader, StoreTx
from tindra.model.mail import RemoteRow
from tindra.model.stored import CommitInfo

T = TypeVar("T")


class MirrorReader(StoreReader, Protocol):
    """A consistent view of one account with its mirror."""

    async def load_remote(self, mailbox_id: str, uids: Sequence[int] | None) -> list[RemoteRow]:
        """Mirror rows of one Mailbox by uid (unknown ones are left out), all for None; in uid
        order."""
        ...

    async def list_remote_uids(self, mailbox_id: str) -> list[tuple[int, tuple[str, ...]]]:
        """(uid, agreed keywords) of a whole Mailbox, in uid order. Cost: O(messages)."""
        ...

    async def find_remote_by_emails(self, doc_ids: Sequence[int]) -> list[RemoteRow]:
        """Every place at the provider where these Emails are, in no promised order."""
        ...


class MirrorTx(MirrorReader, StoreTx, Protocol):
    """A write transaction that can also write the mirror."""

    async def put_remote(self, rows: Sequence[RemoteRow]) -> None:
        """Create or replace mirror rows."""
        ...

    async def delete_remote(self, mailbox_id: str, uids: Sequence[int]) -> None:
        """Forget messages that left the provider's mailbox; unknown uids are ignored."""
        ...

    async def delete_remote_mailbox(self, mailbox_id: str) -> None:
        """Forget a whole mailbox of the provider (gone, or with a new uidValidity)."""
        ...


class MirrorStore(Store, Protocol):
    """A store whose transactions can also reach the mirror."""

    async def read(
        self,
        account_id: AccountId,
        fn: Callable[[MirrorReader], Awaitable[T]],
        *,
        is_long: bool = False,
    ) -> T: ...

    async def write(
        self, account_id: AccountId, name: str, fn: Callable[[MirrorTx], Awaitable[T]]
    ) -> tuple[T, CommitInfo]: ...
