"""The one write path: a transaction that notes what it changed, lets features react, and tells.

What a transaction does, in this order: the caller's function writes through `Tx`; reactions of
the features see the changes of each type in one batch, and may change more; everything commits
at once; only then ids and states go out over the bus. No network inside. Nothing else in the
product may hold a StoreTx.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from tindra.base import limits
from tindra.base.clock import Clock
from tindra.base.ids import AccountId, MailboxId, ModSeq, ThreadId, new_id
from tindra.core.errors import MethodError, SetError
from tindra.core.part import PartTx
from tindra.core.ports import Cursor, StoreReader, StoreTx
from tindra.core.services import Services
from tindra.core.state import encode_state
from tindra.model.mail import EmailContent, EmailRow, MailboxCounts, MailboxRow, ThreadRow
from tindra.model.sharing import Move, Share
from tindra.model.stored import BlobRow, CommitInfo, TimerRow

T = TypeVar("T")
Origin = Literal["device", "provider", "system"]
REACTION_ROUNDS_MAX = 8
"""Reactions to reactions: a ring of features that never settles is a bug, not a wait."""


class Change(NamedTuple):
    """One object that this transaction touched; `before` or `after` is None at its ends."""

    type_name: str
    id: str
    before: Any
    after: Any


class Tx:
    """A running write transaction, as features see it."""

    def __init__(self, store: StoreTx, services: Services, origin: Origin) -> None:
        self.store = store
        self.seen: StoreReader = store.seen if isinstance(store, PartTx) else store
        """What the caller may see of the account; `store` is all of it."""
        self.origin = origin
        self.account_id: AccountId = store.account_id
        self.clock: Clock = services.clock
        self._services = services
        self._changes: list[Change] = []
        self._counts: dict[str, int] = {}
        """Small objects of a type, counted once; what is destroyed here does not count back."""
        self.batch: dict[str, list[Change]] = {}
        """What the reactions that run now react to, of all types."""
        self.after_commit: list[Callable[[], None]] = []
        """Called on the loop once all of this is durable; never when it is not."""

    # -- small objects ---------------------------------------------------------------------------
    async def create(
        self, type_name: str, obj: dict[str, Any], prefix: str = "o", id: str | None = None
    ) -> str:
        """Add a small object; gives its id, which is a new one unless the caller made it.

        Raises: SetError tooLarge, overQuota.
        """
        data = _encode_object(obj)
        if (count := await self.count(type_name)) >= limits.OBJECTS_PER_TYPE_MAX:
            raise SetError("overQuota", f"there are already {count} of these")
        self._counts[type_name] += 1
        id = id or self.new_id(prefix)
        await self.store.put_object(type_name, id, data)
        self._changes.append(Change(type_name, id, None, obj))
        return id

    async def count(self, type_name: str) -> int:
        """Small objects of a type; those destroyed in this transaction may count still."""
        if type_name not in self._counts:
            self._counts[type_name] = len(await self.store.load_objects(type_name, None))
        return self._counts[type_name]

    async def load(self, type_name: str, id: str) -> dict[str, Any] | None:
        """A small object as it is now, or None."""
        rows = await self.store.load_objects(type_name, [id])
        return msgspec.json.decode(rows[0].data) if rows else None

    async def update(
        self, type_name: str, id: str, before: dict[str, Any], after: dict[str, Any]
    ) -> None:
        """Replace a small object; equal values write nothing."""
        if before != after:
            await self.store.put_object(type_name, id, _encode_object(after))
            self._changes.append(Change(type_name, id, before, after))

    async def destroy(self, type_name: str, id: str, before: dict[str, Any]) -> None:
        """Remove a small object."""
        await self.store.delete_object(type_name, id)
        self._changes.append(Change(type_name, id, before, None))

    # -- mail ------------------------------------------------------------------------------------
    async def put_mailbox(self, before: MailboxRow | None, after: MailboxRow) -> None:
        """Create or change a Mailbox (not its counters)."""
        await self.store.put_mailbox(after)
        self._changes.append(Change("Mailbox", after.id, before, after))

    async def delete_mailbox(self, row: MailboxRow) -> None:
        """Destroy a Mailbox that holds no Email any more."""
        await self.store.delete_mailbox(row.id)
        self._changes.append(Change("Mailbox", row.id, row, None))

    async def add_mailbox_counts(self, deltas: Mapping[MailboxId, MailboxCounts]) -> None:
        """Move counters; only the counting reaction of `features/mail` calls this."""
        await self.store.add_mailbox_counts(deltas)

    async def insert_emails(self, rows: Sequence[tuple[EmailRow, EmailContent]]) -> None:
        """Add Emails with their immutable JSON."""
        await self.store.insert_emails(rows)
        self._changes.extend(Change("Email", row.id, None, row) for row, _ in rows)

    async def update_emails(
        self, rows: Sequence[tuple[EmailRow, EmailRow]], touched: Collection[str] = ()
    ) -> None:
        """Change mailbox_ids and keywords of Emails; equal rows write nothing.

        Args:
            touched: ids of Emails that changed in what is kept elsewhere: devices are told.
        """
        changed = [(b, a) for b, a in rows if b != a or a.id in touched]
        if changed:
            await self.store.update_emails(changed)
            self._changes.extend(Change("Email", a.id, b, a) for b, a in changed)

    async def delete_emails(self, rows: Sequence[EmailRow]) -> None:
        """Destroy Emails."""
        await self.store.delete_emails(rows)
        self._changes.extend(Change("Email", row.id, row, None) for row in rows)

    async def put_threads(self, rows: Sequence[ThreadRow]) -> None:
        """Create, change or (with no Emails) destroy Threads."""
        await self.store.put_threads(rows)
        self._changes.extend(Change("Thread", row.id, None, row) for row in rows)

    async def put_thread_references(self, thread_id: ThreadId, refs: Sequence[str]) -> None:
        """Let later mail find a Thread."""
        await self.store.put_thread_references(thread_id, refs)

    # -- the rest --------------------------------------------------------------------------------
    async def put_blob(self, row: BlobRow) -> None:
        """Give this account access to a blob whose octets are already stored."""
        await self.store.put_blob(row)

    async def put_share(self, share: Share) -> None:
        """Give, change or take back what a user may do in one Mailbox."""
        await self.store.put_share(share)

    async def put_moves(self, moves: Sequence[Move]) -> None:
        """Remember Emails that came into or left shared Mailboxes."""
        await self.store.put_moves(moves)

    async def put_outbox(
        self, topic: str, key: str, payload: Any = None, due_ms: int | None = None
    ) -> None:
        """Leave an intent for the world outside, due now unless told otherwise."""
        due = self.clock.now_ms() if due_ms is None else due_ms
        await self.store.put_outbox(topic, key, msgspec.json.encode(payload), due)

    async def put_timer(self, kind: str, key: str, due_ms: int, payload: Any = None) -> None:
        """Set or move a durable timer."""
        await self.store.put_timer(TimerRow(kind, key, due_ms, msgspec.json.encode(payload)))

    async def delete_timer(self, kind: str, key: str) -> None:
        """Forget a timer."""
        await self.store.delete_timer(kind, key)

    def new_id(self, prefix: str) -> str:
        """A fresh id that names its type to a human reader by its first letter."""
        return new_id(prefix, self.clock.now_ms(), self._services.random)

    async def settle(self) -> None:
        """Run the reactions until nothing changes any more."""
        for _ in range(REACTION_ROUNDS_MAX):
            if not self._changes:
                return
            batch, self._changes, self.batch = self._changes, [], {}
            for change in batch:
                self.batch.setdefault(change.type_name, []).append(change)
            for type_name, changes in self.batch.items():
                for reaction in self._services.reactions.get(type_name, ()):
                    await reaction(self, changes)
        assert not self._changes, f"reactions to {self._changes[0].type_name} never settle"


def _encode_object(obj: dict[str, Any]) -> bytes:
    data = msgspec.json.encode(obj)
    if len(data) > limits.OBJECT_BYTES_MAX:
        raise SetError("tooLarge", f"over {limits.OBJECT_BYTES_MAX} octets as JSON")
    return data


Reaction = Callable[[Tx, list[Change]], Awaitable[None]]


async def transact(
    services: Services,
    account_id: AccountId,
    name: str,
    fn: Callable[[Tx], Awaitable[T]],
    origin: Origin = "device",
) -> tuple[T, CommitInfo]:
    """Run `fn` in one transaction of `account_id`, durable on return. The store tells the bus.

    Args:
        name: of the transaction: metric label and log field.
        origin: who caused it; what came from the provider is not sent back to it.
    Raises: what `fn` raises (nothing is written then); StoreError.
    """
    after: list[Callable[[], None]] = []

    async def run(tx: Tx) -> T:
        after.clear()  # a store may try again
        tx.after_commit = after
        return await fn(tx)

    done = await services.store.write(account_id, name, bind(services, run, origin))
    for call in after:
        call()
    return done


async def transact_in_state(
    services: Services,
    account_id: AccountId,
    method: str,
    if_in_state: str | None,
    fn: Callable[[Tx], Awaitable[T]],
) -> tuple[T, dict[str, Any]]:
    """What `fn` gave, and the accountId, oldState and newState of the answer.

    Args:
        method: as it was called, "Foo/set": its type is the one whose states these are.
        if_in_state: of the type, before anything is written; None: any.
    Raises: MethodError stateMismatch; what transact raises.
    Source: RFC 8620 s5.3
    """
    type_name = method.partition("/")[0]

    async def run(tx: Tx) -> tuple[T, str]:
        old = (await tx.store.load_states()).get(type_name, ModSeq(0))
        old_state = encode_state(Cursor(old))
        if if_in_state not in (None, old_state):
            raise MethodError("stateMismatch", f"the state is {old_state}")
        return await fn(tx), old_state

    (result, old_state), info = await transact(services, account_id, method, run)
    new = info.states.get(type_name)
    new_state = old_state if new is None else encode_state(Cursor(new))
    return result, {"accountId": account_id, "oldState": old_state, "newState": new_state}


def bind(
    services: Services, fn: Callable[[Tx], Awaitable[T]], origin: Origin
) -> Callable[[StoreTx], Awaitable[T]]:
    """`fn` as a store runs it: with a Tx, and with the reactions after it."""

    async def run(store_tx: StoreTx) -> T:
        tx = Tx(store_tx, services, origin)
        result = await fn(tx)
        await tx.settle()
        return result

    return run
