"""The Store port over dicts: for tests, and the oracle of the SQL stores. Nothing is durable.

Transactions run one after the other on the event loop, each on a copy of the account that replaces
the original when it ends well. The rest of the ports in memory hang on it: `directory`, `search`,
`secret_rows`, `make_blobs`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import obstore.store

from tindra.base.clock import Clock
from tindra.base.ids import AccountId, ModSeq
from tindra.core.errors import Unavailable
from tindra.model.stored import CommitInfo
from tindra.store.blobs.store import Blobs
from tindra.store.drive import drive
from tindra.store.invariants import AccountRows, check_rows
from tindra.store.memory.directory import MemoryDirectory
from tindra.store.memory.reader import LoadIndex, MemoryReader
from tindra.store.memory.rows import AccountState
from tindra.store.memory.search import MemorySearch
from tindra.store.memory.secret_rows import MemorySecretRows
from tindra.store.memory.tx import MemoryTx, need_state

T = TypeVar("T")


class MemoryStore:
    """All accounts in dicts."""

    def __init__(self) -> None:
        self.accounts: dict[AccountId, AccountState] = {}
        self.directory = MemoryDirectory(self.accounts)
        self.search = MemorySearch(self.accounts)
        self.secret_rows = MemorySecretRows(self.accounts)
        self.directory.on_delete = (self.search.erase_account, self.secret_rows.erase_account)
        self.on_commit: Callable[[CommitInfo], None] | None = None
        """Called for every commit, even one whose caller was cancelled."""
        self._is_closed = False

    def make_blobs(self, clock: Clock) -> Blobs:
        """A blob store with its objects in memory, too."""
        return Blobs(self, obstore.store.MemoryStore(), clock)

    async def read(
        self,
        account_id: AccountId,
        fn: Callable[[MemoryReader], Awaitable[T]],
        *,
        is_long: bool = False,
    ) -> T:
        """Run `fn` on a consistent view. Raises: Unavailable; whatever `fn` raises."""
        self._check_open()
        state = self.accounts.get(account_id) or AccountState()
        if is_long:
            await asyncio.sleep(0)  # a long read lets others run before it, as on a thread
        return drive(fn(MemoryReader(account_id, state, self._index_of(account_id))), "read")

    async def write(
        self,
        account_id: AccountId,
        name: str,
        fn: Callable[[MemoryTx], Awaitable[T]],
        *,
        epoch: int = 0,
    ) -> tuple[T, CommitInfo]:
        """Run `fn` in a write transaction.

        Raises: Conflict; StoreError for an unknown account; Unavailable; whatever `fn` raises.
        """
        self._check_open()
        before = need_state(self.accounts.get(account_id), account_id)
        tx = MemoryTx(account_id, before, self._index_of(account_id), epoch)
        result = drive(fn(tx), name)
        finished = tx.finish()
        if finished is None:
            info = CommitInfo(account_id, ModSeq(before.modseq), {})
        else:
            self.accounts[account_id], info = finished
            if self.on_commit is not None:
                self.on_commit(info)
        await asyncio.sleep(0)  # others run before the caller goes on, as with a real disk
        return result, info

    def _index_of(self, account_id: AccountId) -> LoadIndex:
        return lambda: self.search.load_index(account_id)

    async def list_due(self, now_ms: int, limit: int, topic: str | None = None) -> list[AccountId]:
        """Accounts with a timer or an outbox row due at or before `now_ms`, longest due first."""
        found = []
        for account_id, state in self.accounts.items():
            dues = [row.due_ms for row in state.timers.values()]
            dues += [row.due_ms for row in state.outbox.values() if topic in (None, row.topic)]
            if dues and min(dues) <= now_ms:
                found.append((min(dues), account_id))
        return [account_id for _, account_id in sorted(found)[:limit]]

    async def check_invariants(self, account_id: AccountId) -> None:
        """Counters equal recounts, no orphan rows, modseqs ordered. Raises: AssertionError."""
        state = self.accounts.get(account_id) or AccountState()
        check_rows(
            AccountRows(
                modseq=state.modseq,
                floor=state.floor,
                states=state.states,
                stamps=[*state.live_stamps(), *state.tombstones],
                mailboxes=state.mailboxes.values(),
                emails=state.emails.values(),
                threads=state.threads.values(),
                content_ids=state.contents,
                blob_ids=state.blobs,
            )
        )
        for ref, thread_id in state.references:
            assert thread_id in state.threads, f"reference {ref} of a Thread that is gone"

    async def poll_changes(self) -> list[CommitInfo]:
        """Nothing: no other process shares this memory."""
        return []

    async def trim_changes(self, account_id: AccountId, upto: ModSeq) -> None:
        """Forget tombstones at or below `upto`, but for the last of each type."""
        state = need_state(self.accounts.get(account_id), account_id).copy()
        state.floor = max(state.floor, min(upto, state.modseq))
        last: dict[str, int] = {}
        for stamp in state.tombstones:
            if stamp.changed_modseq <= state.floor:
                last[stamp.type_name] = max(last.get(stamp.type_name, 0), stamp.changed_modseq)
        state.tombstones = [
            s for s in state.tombstones if s.changed_modseq >= last.get(s.type_name, 0)
        ]
        state.moves = {key: move for key, move in state.moves.items() if key[0] > state.floor}
        state.shares = {
            key: share
            for key, share in state.shares.items()
            if share.rights or share.changed_modseq > state.floor
        }
        self.accounts[account_id] = state

    async def close(self) -> None:
        """Refuse what comes after."""
        self._is_closed = True

    def _check_open(self) -> None:
        if self._is_closed:
            raise Unavailable("the store is closed")
