"""What the administration asks of the stores beyond core's ports: users and accounts as a whole."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from tindra.base.ids import AccountId, UserId
from tindra.core.ports import StoreTx
from tindra.model.account import Account, Grant, User
from tindra.model.backlog import Backlog, Tally

T = TypeVar("T")


class Registrar(Protocol):
    """Makes and erases users and accounts. Each method but `erase_rows` is one commit."""

    async def create_user(self, user: User, home: Account, grant: Grant) -> None:
        """A user with a home account. Raises: Conflict when the login is taken."""

    async def create_account(
        self,
        account: Account,
        grant: Grant,
        secrets: Mapping[str, str],
        fn: Callable[[StoreTx], Awaitable[T]],
    ) -> T:
        """An account with a grant, sealed secrets and what `fn` writes: all or nothing.

        Args:
            secrets: name -> secret in the clear.
        """

    async def delete_user(self, user_id: UserId) -> None:
        """Delete a user with tokens and grants, and mark the accounts they own as erased."""

    async def mark_erased(self, account_id: AccountId) -> None:
        """Take an account out of reach for good; what is left of it is to be erased."""

    async def renew_states(self, type_names: Sequence[str]) -> int:
        """Make every state that was ever told of these types too old; gives how many accounts.

        For data that came back from a backup: what happened after it is unknown here, so no state
        and no Email id of that time may ever mean anything else.
        """

    async def list_erasing(self) -> list[AccountId]:
        """Accounts of which something may be left. Cost: one look at a table that is empty but
        while something is being erased."""

    async def erase_rows(self, account_id: AccountId) -> None:
        """Delete all rows and search words of a marked account, in small steps; idempotent."""

    async def finish_erasing(self, account_id: AccountId) -> None:
        """Nothing is left of it: forget the mark."""


class BlobEraser(Protocol):
    """A blob store that can forget an account."""

    async def erase_account(self, account_id: AccountId) -> None:
        """Delete all objects of an account whose rows are gone; idempotent. Raises: Unavailable."""


class BacklogCounter(Protocol):
    """A store that can tell what waits in it."""

    async def load_backlog(self, now_ms: int) -> Backlog:
        """What waits in all accounts together. Cost: O(accounts). Raises: Unavailable."""

    def list_tallies(self) -> dict[str, Tally]:
        """Transactions of this process by name."""


class WriteProbe(Protocol):
    """A store that knows whether it can write."""

    async def find_trouble(self) -> str | None:
        """Why nothing can be written; None while it can. Tries it out only after a failure."""
