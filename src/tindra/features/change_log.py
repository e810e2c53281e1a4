"""Keeps the change log short: tombstones are forgotten when no device can be so far behind.

Rows of the log carry no time. So the first thing destroyed in a day sets a timer that knows how
far the log went on that day, and the rest of the day moves it on. When it is due, all up to there
is old enough. A device with an older state gets cannotCalculateChanges and reads anew.
Source: RFC 8620 s5.2
"""

from __future__ import annotations

from typing import Any, Final

from tindra.base.ids import AccountId, ModSeq
from tindra.base.limits import CHANGE_LOG_KEPT_MS
from tindra.core.datatype import Feature
from tindra.core.services import Services
from tindra.core.tx import Change, Tx

TIMER: Final = "trim-changes"
DAY_MS: Final = 24 * 3600 * 1000
_TYPES = (
    "Email", "Mailbox", "Thread", "Identity", "EmailSubmission", "Connection", "PushSubscription",
    "PushProgress", "SnoozedEmail", "Principal", "ShareNotification",
)  # fmt: skip


async def note_destroyed(tx: Tx, changes: list[Change]) -> None:
    """Remember how far the log of today goes. Cost: one row a transaction that destroys."""
    if any(change.after is None for change in changes):
        day = tx.clock.now_ms() // DAY_MS
        due_ms = (day + 1) * DAY_MS + CHANGE_LOG_KEPT_MS
        await tx.put_timer(TIMER, str(day), due_ms, tx.store.modseq)


async def trim(services: Services, account_id: AccountId, _: str, payload: Any) -> None:
    """Forget what was destroyed up to the day of the timer; idempotent."""
    await services.store.trim_changes(account_id, ModSeq(payload))


CHANGE_LOG_FEATURE = Feature(
    name="change_log",
    reactions=dict.fromkeys(_TYPES, note_destroyed),
    timers={TIMER: trim},
)
