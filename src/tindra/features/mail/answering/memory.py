"""What was done once and must not be done again for a while: durable, bounded, forgotten in time.

A thing remembered is a small object of a type of its own that no device sees; its id is a hash of
what it stands for, so no address of anybody is kept. When the memory of a kind is full nothing new
can be remembered, and what depends on it is not done: too few answers rather than too many.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from tindra.base.ids import AccountId
from tindra.core.services import Services
from tindra.core.tx import Tx, transact

KINDS: Final = ("VacationMemory", "RedirectMemory", "DuplicateMemory")
REMEMBERED_MAX: Final = 5_000
"""Of one kind and account: so many different people in a week are not written to by one person."""
NEW_IN_HOUR_MAX: Final = {"VacationMemory": 100, "RedirectMemory": 500}
"""Of these kinds. Whoever sends thousands of mails, each with another forged sender, must not make
us write to thousands of strangers at once: it would cost the account its good name at its provider,
and what its owner sends would have to wait behind."""
SWEEP_MS: Final = 24 * 3600 * 1000
"""How often what has run out is cleared away."""
TIMER: Final = "forget"
_HOUR_MS: Final = 3600 * 1000


class _Remembered(msgspec.Struct, rename="camel"):
    until_ms: int
    since_ms: int = 0


def make_memory_id(*words: str) -> str:
    """The id under which something is remembered."""
    text = "\0".join(words).encode("utf-8", "replace")
    return "m" + hashlib.sha256(text).hexdigest()[:40]


async def is_remembered(tx: Tx, kind: str, id: str) -> bool:
    """Whether this was done and its time has not run out."""
    found = await tx.load(kind, id)
    return found is not None and int(found["untilMs"]) > tx.clock.now_ms()


async def remember(tx: Tx, kind: str, id: str, until_ms: int) -> bool:
    """Take note of something; False if it is remembered already, or there is no more room, be it
    in the memory or in this hour.

    Cost: one read of all that is remembered of the kind.
    """
    rows = {str(row.id): row.data for row in await tx.store.load_objects(kind, None)}
    before = msgspec.json.decode(rows[id]) if id in rows else None
    now_ms = tx.clock.now_ms()
    if before is not None and before["untilMs"] > now_ms:
        return False
    if kind in NEW_IN_HOUR_MAX:
        notes = (msgspec.json.decode(data, type=_Remembered) for data in rows.values())
        if sum(note.since_ms > now_ms - _HOUR_MS for note in notes) >= NEW_IN_HOUR_MAX[kind]:
            return False
    after = {"untilMs": until_ms, "sinceMs": now_ms}
    if before is not None:
        await tx.update(kind, id, before, after)
        return True
    if len(rows) >= REMEMBERED_MAX:
        return False
    await tx.create(kind, after, id=id)
    if not rows:
        await tx.put_timer(TIMER, kind, now_ms + SWEEP_MS)
    return True


async def run_forgetting(services: Services, account_id: AccountId, kind: str, _: Any) -> None:
    """The timer: clear away what has run out; comes again while anything is left."""

    async def write(tx: Tx) -> None:
        now_ms = tx.clock.now_ms()
        rows = await tx.store.load_objects(kind, None)
        kept = 0
        for row in rows:
            obj = msgspec.json.decode(row.data)
            if obj["untilMs"] <= now_ms:
                await tx.destroy(kind, row.id, obj)
            else:
                kept += 1
        if kept:
            await tx.put_timer(TIMER, kind, now_ms + SWEEP_MS)

    await transact(services, account_id, "forget", write, origin="system")
