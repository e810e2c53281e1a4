"""Mail that vanished at the provider: when it is destroyed here, and the brake.

A few messages are destroyed soon after nobody has found them anywhere else. Where most mail of the
account vanished, all of it is kept for a day that really went by, unless a person says that it was
really removed: an empty or lying provider takes nothing away. That day is counted by `BrakeClock`:
it goes on while this program runs, whatever the machine's clock says, and is kept in the
Connection (`heldBack` for people, `brake` for us); each ghost remembers the hour on it at which it
was first held back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from tindra.base.ids import AccountId
from tindra.core.services import Services
from tindra.core.tx import Tx, transact
from tindra.model.mail import RemoteRow
from tindra.sync.apply import apply_ghosts, list_ghosts, mirror_of, read_mirror
from tindra.sync.mirror import MirrorReader
from tindra.sync.patience import Patience
from tindra.sync.plan import decide_vanished, get_stamp, stamp_ghost
from tindra.wire.jmap.date import encode_utc_date

GHOSTS_PER_COMMIT_MAX: Final = 200
STAMPS_PER_COMMIT_MAX: Final = 2_000
NOTE_MS: Final = 600_000
"""How often the brake's clock is written: so much of the day a crash may repeat."""


class Settled(NamedTuple):
    """What a look at the ghosts came to."""

    is_done: bool = False
    """Some were destroyed; there may be more."""
    is_round_wanted: bool = False
    """All mailboxes are to be asked once more: mail may leave one before it comes to another."""
    due_ms: int | None = None
    """When to look again, on the monotonic clock."""


class Vanish:
    """Destroys what vanished long enough ago and was found nowhere.

    Args:
        patience: knows when each was first seen, and the brake's clock.
        ghost_ms: how long to keep a few. brake_ms: how long to keep most of the mail.
    """

    def __init__(
        self,
        services: Services,
        account_id: AccountId,
        patience: Patience,
        ghost_ms: int,
        brake_ms: int,
    ) -> None:
        self.has_new = True
        """Whether there may be ghosts that nobody has looked at."""
        self.status: dict[str, Any] = {}
        """What the Connection tells of it: `heldBack` and `brake`, both None where nothing is held
        back; empty until that is known."""
        self._services = services
        self._account_id = account_id
        self._seen = patience.vanished
        self._clock = patience.brake
        self._ghost_ms = ghost_ms
        self._brake_ms = brake_ms
        self._noted_ms = 0

    async def settle(
        self, mailbox_ids: Sequence[str], mirrored: Collection[str], round_ms: int
    ) -> Settled:
        """Look at the ghosts of these Mailboxes; the others are not known to be complete.

        Args:
            mirrored: all Mailboxes that exist at the provider. round_ms: when the last round of
                questions to all of them began, which is over.
        """
        now_ms = self._services.clock.monotonic_ms()
        ghosts = await self._load(mailbox_ids, mirrored, now_ms)
        is_all = len(mailbox_ids) == len(mirrored)
        if not ghosts:
            self._release(is_all)
            return Settled()
        firsts: dict[str, int] = defaultdict(int)
        for ghost in ghosts:
            first_ms = self._seen[ghost.mailbox_id, ghost.uid]
            firsts[ghost.email_id] = max(firsts[ghost.email_id], first_ms)
        if round_ms < max(firsts.values()):
            return Settled(is_round_wanted=True)
        if decide_vanished(await self._count_known(), len(firsts), is_confirmed=False) == "apply":
            self._release(is_all)
            ends = {id: first_ms + self._ghost_ms for id, first_ms in firsts.items()}
        else:
            ends = await self._hold(ghosts, firsts, now_ms)
        due = sorted(id for id, end_ms in ends.items() if end_ms <= now_ms)
        if not due:
            return Settled(due_ms=min(*ends.values(), now_ms + NOTE_MS))
        if round_ms < max(ends[id] for id in due):
            return Settled(is_round_wanted=True)
        chosen = set(due[:GHOSTS_PER_COMMIT_MAX])
        rows = [ghost for ghost in ghosts if ghost.email_id in chosen]

        async def write(tx: Tx) -> None:
            await apply_ghosts(tx, rows, mirrored)

        await transact(self._services, self._account_id, "mirror-ghosts", write, "provider")
        self.has_new = True
        return Settled(is_done=True)

    async def _count_known(self) -> int:
        async def read(reader: MirrorReader) -> int:
            return sum(row.total_emails for row in await reader.load_mailboxes())

        return await read_mirror(self._services, self._account_id, read)

    async def _load(
        self, mailbox_ids: Sequence[str], mirrored: Collection[str], now_ms: int
    ) -> list[RemoteRow]:
        if not self.has_new and not self._seen:
            return []

        async def read(reader: MirrorReader) -> list[RemoteRow]:
            return await list_ghosts(reader, mailbox_ids)

        ghosts = await read_mirror(self._services, self._account_id, read)
        keys = {(str(ghost.mailbox_id), ghost.uid) for ghost in ghosts}
        held_off = set(mirrored).difference(mailbox_ids)
        for key in [key for key in self._seen if key[0] not in held_off and key not in keys]:
            del self._seen[key]
        for key in keys:
            self._seen.setdefault(key, now_ms)
        self.has_new = False
        return ghosts

    # -- the brake -------------------------------------------------------------------------------
    async def _hold(
        self, ghosts: Sequence[RemoteRow], firsts: Mapping[str, int], now_ms: int
    ) -> dict[str, int]:
        """Email id -> until when it is kept, on the monotonic clock."""
        clock_ms = self._clock.read_ms(now_ms)
        # A crash may have lost the time that a stamp was made at.
        fresh = [ghost for ghost in ghosts if not 0 < get_stamp(ghost) <= clock_ms]
        ghosts = [ghost for ghost in ghosts if 0 < get_stamp(ghost) <= clock_ms]
        for start in range(0, len(fresh), STAMPS_PER_COMMIT_MAX):
            part = [stamp_ghost(g, clock_ms) for g in fresh[start : start + STAMPS_PER_COMMIT_MAX]]

            async def write(tx: Tx, part: Sequence[RemoteRow] = part) -> None:
                await mirror_of(tx).put_remote(part)

            await transact(self._services, self._account_id, "mirror-held", write, "provider")
            ghosts += part
        since: dict[str, int] = defaultdict(int)
        for ghost in ghosts:
            since[ghost.email_id] = max(since[ghost.email_id], get_stamp(ghost))
        self._note(len(since), clock_ms - min(since.values()), clock_ms, now_ms)
        start_ms = now_ms - clock_ms  # of the brake's clock, on the monotonic one
        return {
            id: firsts[id]
            if stamp_ms <= self._clock.confirmed_ms
            else start_ms + stamp_ms + self._brake_ms
            for id, stamp_ms in since.items()
        }

    def _note(self, count: int, oldest_ms: int, clock_ms: int, now_ms: int) -> None:
        """Another status when there are others, and now and then: each wakes every device."""
        before = self.status.get("heldBack")
        is_same = before is not None and before["messages"] == count
        if is_same and now_ms - self._noted_ms < NOTE_MS:
            return
        self._noted_ms = now_ms
        wall_ms = self._services.clock.now_ms()
        self.status = {
            "heldBack": {
                "messages": count,
                "since": encode_utc_date(wall_ms - oldest_ms),
                "until": encode_utc_date(wall_ms + max(0, self._brake_ms - oldest_ms)),
            },
            "brake": {
                "clockMs": clock_ms,
                "notedMs": wall_ms,
                "confirmedMs": self._clock.confirmed_ms,
            },
        }

    def _release(self, is_all: bool) -> None:
        """Nothing is held back, as far as all Mailboxes could be looked at."""
        if is_all:
            self.status = {"heldBack": None, "brake": None}
