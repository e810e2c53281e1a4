"""Which messages end the session, or are refused, whenever they are fetched: found by asking for
less and less, then left out. Pure; outlives sessions, not the process.

What was on the wire when a session broke is under suspicion. Suspects are asked for after all
others and in ever smaller groups; the first of them, at which an orderly server broke off, alone
and last. So everything else of a mailbox comes in whatever one message does. A single message is
left out once it failed alone so often, and only if it is not the provider that fails: others came
meanwhile, or it has lasted a while. What is left out is tried again, one message at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

BREAKS_MIN: Final = 2
"""Breaks of one mailbox before anything in it is suspected: networks break, too."""
GROUP_MESSAGES: Final = (64, 16, 4, 1)
"""Suspects asked for together, after so many breaks beyond those."""
ALONE_BREAKS_MAX: Final = 3
"""Then a message that was asked for alone is left out."""
IN_FLIGHT_MESSAGES_MAX: Final = 1_000
"""Those asked for may have been on the wire up to here."""
AGAIN_MS_MIN: Final = 3_600_000
"""The first new try of what was left out; the pause doubles each time."""
AGAIN_MS_MAX: Final = 24 * 3_600_000
"""A session broken once a day harms nobody."""

_Key = tuple[str, int]
"""Mailbox id, uid."""


class PoisonWatch:
    """What is known of one account.

    Args:
        proof_ms: a message that fails while nothing else was fetched is left out after so long:
            the provider may be out of order, and not the message.
    """

    def __init__(self, proof_ms: int) -> None:
        self._proof_ms = proof_ms
        self._breaks: dict[_Key, int] = {}
        self._alone: dict[_Key, int] = {}
        self._since_ms: dict[_Key, int] = {}
        self._cleared: set[_Key] = set()
        """Others were fetched since these are asked for alone."""
        self._again_ms: int | None = None
        self._again_wait_ms = AGAIN_MS_MIN
        self._tries: dict[_Key, int] = {}

    def plan_groups(
        self, mailbox_id: str, uids: Sequence[int], left_out: Collection[int]
    ) -> list[list[int]]:
        """What to ask for together, one after the other; the order of `uids` is kept inside.

        Args:
            left_out: of those that are tried again: each goes alone, after all others.
        """
        free: list[int] = []
        suspects: dict[int, list[int]] = {}
        alone: list[int] = []
        for uid in uids:
            key = mailbox_id, uid
            level = self._breaks.get(key, 0) - BREAKS_MIN
            if key in self._alone or uid in left_out:
                alone.append(uid)
            elif level < 0:
                free.append(uid)
            else:
                suspects.setdefault(min(level, len(GROUP_MESSAGES) - 1), []).append(uid)
        alone.sort(key=lambda uid: self._alone.get((mailbox_id, uid), 0))
        groups = [free] if free else []
        for level, members in sorted(suspects.items()):
            size = GROUP_MESSAGES[level]
            groups += [members[n : n + size] for n in range(0, len(members), size)]
        return groups + [[uid] for uid in alone]

    def note_break(
        self, mailbox_id: str, group: Sequence[int], got: Collection[int], now_ms: int
    ) -> int | None:
        """Fetching `group` failed after `got`; the uid that is to be left out, if it is proven."""
        rest = [uid for uid in group if uid not in got][:IN_FLIGHT_MESSAGES_MAX]
        if not rest:
            return None
        head = mailbox_id, rest[0]
        self._since_ms.setdefault(head, now_ms)
        if len(group) == 1 and head in self._alone:
            self._alone[head] += 1
            is_proven = head in self._cleared or now_ms - self._since_ms[head] >= self._proof_ms
            return rest[0] if self._alone[head] >= ALONE_BREAKS_MAX and is_proven else None
        for uid in rest:
            self._breaks[mailbox_id, uid] = self._breaks.get((mailbox_id, uid), 0) + 1
        if self._breaks[head] >= BREAKS_MIN:
            self._alone.setdefault(head, 0)
        return None

    def note_got(self, uids: Collection[int]) -> None:
        """Messages came: the provider works."""
        if uids:
            self._cleared.update(self._alone)

    def forget(self, mailbox_id: str, uids: Collection[int]) -> None:
        """These came, or could be asked for without harm, or are left out."""
        if not (self._breaks or self._alone):
            return
        for uid in uids:
            key = mailbox_id, uid
            self._breaks.pop(key, None)
            self._alone.pop(key, None)
            self._since_ms.pop(key, None)
            self._cleared.discard(key)

    # -- what was left out -----------------------------------------------------------------------
    def find_retry(self, left_out: Sequence[_Key], now_ms: int) -> _Key | None:
        """Which of those that were left out to ask for once more, if it is time."""
        if self._again_ms is None or not left_out:
            self._again_ms = now_ms + self._again_wait_ms
        if now_ms < self._again_ms or not left_out:
            return None
        key = min(left_out, key=lambda key: self._tries.get(key, 0))
        self._tries[key] = self._tries.get(key, 0) + 1
        # Unless it is told that it came, the next one waits longer.
        self._again_ms = now_ms + self._again_wait_ms
        self._again_wait_ms = min(2 * self._again_wait_ms, AGAIN_MS_MAX)
        return key

    def note_return(self, mailbox_id: str, uids: Collection[int]) -> None:
        """What had been left out came: others may come, too."""
        for uid in uids:
            self._tries.pop((mailbox_id, uid), None)
        self._again_ms, self._again_wait_ms = 0, AGAIN_MS_MIN
