"""Brings one mailbox up to date with the provider: new messages, flags, losses.

Two ways in: `backfill`, a bounded piece of a mailbox that was never read to its end, newest first;
and `look`, everything that happened since the last look. Both store in batches with their cursor,
so that a crash repeats at most one batch, and repeating it changes nothing. The cursor is the
snapshot taken before the fetch, and moves on only when everything it told of was taken over.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Final

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId, MailboxId
from tindra.core.services import Services
from tindra.core.tx import Tx, transact
from tindra.model.mail import RemoteRow
from tindra.sync.apply import apply_flags, apply_reset, apply_vanished, read_mirror
from tindra.sync.cursor import RemoteCursor
from tindra.sync.intake import Intake
from tindra.sync.mirror import MirrorReader
from tindra.sync.plan import BRAKE_MESSAGES_MIN, HeldBack, decide_vanished, hold_back
from tindra.sync.poison import PoisonWatch
from tindra.sync.ports import (
    Known,
    MailSession,
    ProviderError,
    Rejected,
    RemoteMessage,
    Selected,
    Throttled,
)

ALL_UIDS: Final = [(1, 2**32 - 1)]
FIRST_BATCH_MESSAGES: Final = 40
"""The first commit of a mailbox is small: its newest mail shows at once."""
WINDOW_BYTES: Final = 4 * limits.MIB
"""Octets asked for ahead: what is wasted when a device's act comes in between."""
TURN_MESSAGES_MAX: Final = 1_000
"""Of one mailbox before another gets its turn; more news than this is backfilled, too."""
ROWS_PER_COMMIT_MAX: Final = 500
"""Flags or losses in one transaction."""
RESET_ROWS_MAX: Final = 5_000
"""Rows that become ghosts in one transaction when uids start anew."""
RESETS_MAX: Final = 5
"""A server that numbers a mailbox anew each time is not followed for ever, only once it says the
same twice."""
VANISHED_EXPANDED_MAX: Final = 5_000
"""A larger VANISHED answer is taken as "look at everything": it may name all uids there are."""
HOLD_MS: Final = 60_000
"""The second look that confirms a great loss comes at least so much later."""
OURS: Final = frozenset({"LOCAL", "BUSY"})
"""Codes of failures that no message of the provider's can be blamed for."""
MISSES_MAX: Final = 5
"""A message that cannot be had at so many looks is left out."""
FLAG_WINDOW_MESSAGES: Final = 200
"""Without CONDSTORE only the flags of the newest are asked for at every look."""
DEEP_MS: Final = 24 * 3_600_000
"""All uids and flags are compared once a day, whatever the server told meanwhile."""
DEEP_WITHOUT_MODSEQ_MS: Final = 3_600_000
"""Where nothing tells of changed flags: once an hour."""


class Outdated(Exception):
    """What was planned is void: uids started anew, or mailboxes are not what they were."""


class Puller:
    """Reads mailboxes over one session.

    Args:
        cursors: Mailbox id -> cursor; kept up to date here and shared with the engine.
        is_called: whether something more urgent waits than the end of a backfill.
    """

    def __init__(
        self,
        services: Services,
        account_id: AccountId,
        session: MailSession,
        cursors: dict[str, RemoteCursor],
        intake: Intake,
        is_called: Callable[[], bool],
    ) -> None:
        self.intake = intake
        self.hold_ms = HOLD_MS
        self.poison = PoisonWatch(0)
        self._services = services
        self._account_id = account_id
        self._session = session
        self._cursors = cursors
        self._is_called = is_called
        self._selected: tuple[str, frozenset[str]] | None = None
        self._missing: dict[str, list[int]] = {}
        self._held_back: dict[str, HeldBack[int]] = {}
        self._misses: dict[tuple[str, int], int] = {}
        self._stamps: dict[str, int] = {}

    # -- selecting -------------------------------------------------------------------------------
    async def select(self, mailbox_id: str) -> frozenset[str]:
        """Make a mailbox the selected one, unless it is; gives the flags it keeps.

        Raises: Outdated.
        """
        if self._selected is None or self._selected[0] != mailbox_id:
            cursor = self._cursors[mailbox_id]
            await self._select(mailbox_id, None)
            if self._cursors[mailbox_id] is not cursor:
                raise Outdated  # numbered anew
        assert self._selected is not None
        return self._selected[1]

    def forget_selected(self) -> None:
        """The tree changed: what was selected may be so no more."""
        self._selected = None

    async def _select(self, mailbox_id: str, known: Known | None) -> Selected:
        """SELECT; a changed uidValidity starts the mailbox anew before anything else is said.

        Raises: Rejected: the next uid is below one that was given out already: uids may mean other
            messages now. Once the provider takes that back, all are looked at anew.
        """
        self._selected = None
        cursor = self._cursors[mailbox_id]
        selected = await self._session.select(cursor.name, known)
        if _is_behind(cursor, selected):
            selected = await self._session.select(cursor.name, known)
        if _is_behind(cursor, selected):
            await self.intake.keep(mailbox_id, msgspec.structs.replace(cursor, is_doubted=True))
            raise Rejected(
                f"The mail server says that the next message gets number {selected.status.uid_next}"
                f" there; before, it said {cursor.uid_next}",
                code="UIDS",
            )
        kept = frozenset[str]() if selected.read_only else selected.permanent_flags
        self._selected = (mailbox_id, kept)
        if cursor.uid_validity != selected.status.uid_validity or cursor.is_doubted:
            await self._start_anew(mailbox_id, selected)
        return selected

    async def _start_anew(self, mailbox_id: str, selected: Selected) -> None:
        cursor, status = self._cursors[mailbox_id], selected.status
        seen, self._stamps[mailbox_id] = self._stamps.get(mailbox_id), status.uid_validity
        if cursor.resets >= RESETS_MAX and seen != status.uid_validity:
            raise Rejected("The mail server numbers it anew at every look", code="UIDS")
        fresh = RemoteCursor(
            cursor.name,
            cursor.delimiter,
            uid_validity=status.uid_validity,
            uid_next=status.uid_next,
            highest_modseq=status.highest_modseq,
            exists=status.exists,
            resets=cursor.resets + 1 if cursor.uid_validity else 0,
        )
        self._missing.pop(mailbox_id, None)
        uids = [uid for uid, _ in await self._list_base(mailbox_id)]
        for start in range(0, len(uids), RESET_ROWS_MAX):
            await self._reset(mailbox_id, uids[start : start + RESET_ROWS_MAX])
        await self.intake.keep(mailbox_id, fresh)

    async def _reset(self, mailbox_id: str, uids: Sequence[int]) -> None:
        async def write(tx: Tx) -> None:
            await apply_reset(tx, MailboxId(mailbox_id), uids)

        await transact(self._services, self._account_id, "mirror-reset", write, "provider")

    # -- backfill --------------------------------------------------------------------------------
    async def backfill(self, mailbox_id: str) -> bool:
        """Store a piece, newest first; False once the mailbox is complete and live."""
        if mailbox_id not in self._missing:
            await self._select(mailbox_id, None)
            self._missing[mailbox_id] = await self._list_missing(mailbox_id)
        elif self._selected is None or self._selected[0] != mailbox_id:
            await self._select(mailbox_id, None)
        missing = self._missing.get(mailbox_id)
        if missing is None:
            return True  # numbered anew just now
        if missing:
            asked = missing[:TURN_MESSAGES_MAX]
            left = await self._fetch(mailbox_id, asked, self._is_called)
            self._missing[mailbox_id] = [*left, *missing[len(asked) :]]
        if self._missing[mailbox_id]:
            return True
        del self._missing[mailbox_id]
        cursor = self._cursors[mailbox_id]
        # With mod-sequences the next look learns of all that changed since the snapshot.
        compared_ms = self._services.clock.now_ms() if cursor.highest_modseq else 0
        await self.intake.keep(
            mailbox_id,
            msgspec.structs.replace(cursor, phase="live", compared_ms=compared_ms),
        )
        return False

    async def _list_missing(self, mailbox_id: str) -> list[int]:
        base = {uid for uid, _ in await self._list_base(mailbox_id)}
        base.update(self.intake.list_left_out(mailbox_id))
        return [uid for uid in reversed(await self._session.list_uids()) if uid not in base]

    async def _list_base(self, mailbox_id: str) -> list[tuple[int, tuple[str, ...]]]:
        async def read(reader: MirrorReader) -> list[tuple[int, tuple[str, ...]]]:
            return await reader.list_remote_uids(mailbox_id)

        return await read_mirror(self._services, self._account_id, read, is_long=True)

    # -- looking ---------------------------------------------------------------------------------
    async def look_for_new(self, mailbox_id: str) -> None:
        """See what came last into a mailbox, complete or not."""
        if self._cursors[mailbox_id].phase == "live":
            await self.look(mailbox_id)
        else:
            self._missing.pop(mailbox_id, None)
            await self.backfill(mailbox_id)

    async def look(self, mailbox_id: str) -> None:
        """Take over everything that happened in a mailbox since the last look.

        Of one that is not complete yet: what came meanwhile is fetched next.
        """
        cursor = self._cursors[mailbox_id]
        if cursor.phase != "live":
            self._missing.pop(mailbox_id, None)
            return
        is_deep = self.is_deep_due(cursor)
        known = None
        if cursor.highest_modseq and not is_deep:
            known = Known(cursor.uid_validity, cursor.highest_modseq)
        selected = await self._select(mailbox_id, known)
        if self._cursors[mailbox_id].phase != "live":
            return  # numbered anew: the backfill takes over
        gone_count = sum(last - first + 1 for first, last in selected.vanished)
        if selected.is_resynced and gone_count <= VANISHED_EXPANDED_MAX:
            is_done = await self._take_news(mailbox_id, selected)
        else:
            is_done = await self._compare(mailbox_id, selected, is_deep)
        if is_done:
            await self._move_on(mailbox_id, selected, is_deep)

    def is_deep_due(self, cursor: RemoteCursor) -> bool:
        """Whether it is time to compare everything."""
        pause_ms = DEEP_MS if cursor.highest_modseq else DEEP_WITHOUT_MODSEQ_MS
        return self._services.clock.now_ms() - cursor.compared_ms >= pause_ms

    async def _move_on(self, mailbox_id: str, selected: Selected, was_deep: bool) -> None:
        cursor, status = self._cursors[mailbox_id], selected.status
        now_ms = self._services.clock.now_ms()
        await self.intake.keep(
            mailbox_id,
            msgspec.structs.replace(
                cursor,
                uid_next=status.uid_next,
                highest_modseq=status.highest_modseq,
                exists=status.exists,
                compared_ms=now_ms if was_deep else cursor.compared_ms,
                resets=0,
            ),
        )

    async def _take_news(self, mailbox_id: str, selected: Selected) -> bool:
        """QRESYNC told it all. Cost: what changed."""
        cursor = self._cursors[mailbox_id]
        changed = [m.uid for m in selected.changed]
        gone = [uid for first, last in selected.vanished for uid in range(first, last + 1)]

        async def read(reader: MirrorReader) -> set[int]:
            rows: list[RemoteRow] = await reader.load_remote(mailbox_id, [*changed, *gone])
            return {row.uid for row in rows}

        base = await read_mirror(self._services, self._account_id, read)
        await self.intake.forget_left_out(mailbox_id, set(gone))
        asked = {*changed, *cursor.missed, *self.intake.list_again(mailbox_id)}
        left_out = self.intake.list_left_out(mailbox_id)
        await self._fetch_news(mailbox_id, asked - base - left_out - set(gone))
        await self._take_flags(mailbox_id, [m for m in selected.changed if m.uid in base])
        lost = [uid for uid in gone if uid in base]
        if len(lost) > BRAKE_MESSAGES_MIN:
            # Two answers must agree before so much is believed.
            told = set(await self._session.list_uids())
            lost = [uid for uid in lost if uid not in told]
        await self._take_losses(mailbox_id, lost)
        return True

    async def _compare(self, mailbox_id: str, selected: Selected, is_deep: bool) -> bool:
        """All uids are listed and compared. Cost: O(messages), numbers only.

        Returns: False when the losses are too many to be believed at once.
        """
        cursor = self._cursors[mailbox_id]
        base = dict(await self._list_base(mailbox_id))
        uids = await self._session.list_uids()
        told = set(uids)
        # New ones first: a draft's new version is there before the old one is taken away.
        await self.intake.forget_left_out(mailbox_id, {*cursor.parked, *cursor.too_large} - told)
        left_out = self.intake.list_left_out(mailbox_id)
        await self._fetch_news(mailbox_id, told - base.keys() - left_out)
        asked, since = _choose_flags(cursor, selected.status.highest_modseq, uids, is_deep)
        if base and asked:
            flags = await self._session.fetch_flags(asked, changed_since=since)
            await self._take_flags(mailbox_id, [m for m in flags if m.uid in base])
        lost = [uid for uid in base if uid not in told]
        if self._is_too_much(mailbox_id, len(base), frozenset(lost)):
            return False
        await self._take_losses(mailbox_id, lost)
        return True

    def _is_too_much(self, mailbox_id: str, known: int, lost: frozenset[int]) -> bool:
        """The brake: a list that lacks most of a mailbox is believed at a second, later look."""
        now_ms = self._services.clock.monotonic_ms()
        held = hold_back(self._held_back.pop(mailbox_id, None), lost, now_ms)
        is_confirmed = now_ms - held.since_ms >= self.hold_ms
        if decide_vanished(known, len(lost), is_confirmed) == "apply":
            return False
        self._held_back[mailbox_id] = held
        return True

    def count_held_back(self, mailbox_id: str) -> int:
        """How many messages are said to be gone and not believed to be."""
        held = self._held_back.get(mailbox_id)
        return 0 if held is None else len(held.lost)

    # -- taking over -----------------------------------------------------------------------------
    async def _fetch_news(self, mailbox_id: str, uids: set[int]) -> None:
        """Fetch messages of a live mailbox; what cannot be had is asked for again at each look."""
        cursor = self._cursors[mailbox_id]
        if len(uids) > TURN_MESSAGES_MAX:
            await self.intake.keep(mailbox_id, msgspec.structs.replace(cursor, phase="backfilling"))
            return
        if uids:
            await self._fetch(mailbox_id, sorted(uids, reverse=True))
        cursor = self._cursors[mailbox_id]
        missed = tuple(uid for uid in cursor.missed if uid in uids)
        await self.intake.keep(mailbox_id, msgspec.structs.replace(cursor, missed=missed))

    async def _fetch(
        self, mailbox_id: str, uids: Sequence[int], is_called: Callable[[], bool] | None = None
    ) -> list[int]:
        """Fetch and store messages in the order given; gives those that were not even asked for,
        because something else called."""
        got: set[int] = set()
        broken = self._cursors[mailbox_id].broken
        for group in self.poison.plan_groups(mailbox_id, uids, broken):
            try:
                is_done = await self._fetch_group(mailbox_id, group, got, is_called)
            except ProviderError as error:
                self._missing.pop(mailbox_id, None)  # some came, and some may be left out by now
                await self._note_break(mailbox_id, group, got, error)
                raise
            if not is_done:
                return [uid for uid in uids if uid not in got]
            self.poison.forget(mailbox_id, group)
        if returned := got.intersection(broken):
            self.poison.note_return(mailbox_id, returned)
        await self._note_misses(mailbox_id, uids, got)
        return []

    async def _fetch_group(
        self,
        mailbox_id: str,
        uids: Sequence[int],
        got: set[int],
        is_called: Callable[[], bool] | None,
    ) -> bool:
        """Whether it came to its end. What has come is in `got`, also where it ends in an error."""
        stream = self._session.fetch_messages(uids, WINDOW_BYTES)
        try:
            async with aclosing(_gather_batches(stream)) as batches:
                async for batch in batches:
                    came = [m.uid for m in batch]
                    got.update(came)
                    self.poison.note_got(came)
                    self.poison.forget(mailbox_id, came)
                    await self.intake.store(mailbox_id, batch)
                    del batch  # a large message is let go before the next one is waited for
                    if is_called is not None and is_called():
                        return False
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()
            # What has come is kept, whatever ended the stream.
            await self.intake.flush()
        return True

    async def _note_break(
        self, mailbox_id: str, group: Sequence[int], got: set[int], error: ProviderError
    ) -> None:
        """One message may be what ends every session; in the end it is left out."""
        if isinstance(error, Throttled) or error.code in OURS:
            return
        uid: int | None = group[0]
        if uid not in self._cursors[mailbox_id].broken:
            now_ms = self._services.clock.monotonic_ms()
            uid = self.poison.note_break(mailbox_id, group, got, now_ms)
        if uid is not None:
            self.poison.forget(mailbox_id, [uid])
            await self.intake.leave_broken(mailbox_id, uid)

    async def _note_misses(self, mailbox_id: str, asked: Sequence[int], got: set[int]) -> None:
        """A message may be announced before it can be had; or it is gone again already."""
        again = self.intake.list_again(mailbox_id)
        missed: list[int] = []
        given_up: list[int] = []
        for uid in asked:
            if uid in got:
                self._misses.pop((mailbox_id, uid), None)
                continue
            tries = self._misses[mailbox_id, uid] = self._misses.get((mailbox_id, uid), 0) + 1
            (given_up if tries >= MISSES_MAX or uid in again else missed).append(uid)
        if given_up:
            await self.intake.park(mailbox_id, given_up)
        cursor = self._cursors[mailbox_id]
        kept = sorted({*cursor.missed, *missed}.difference(got, given_up))
        await self.intake.keep(mailbox_id, msgspec.structs.replace(cursor, missed=tuple(kept)))

    async def ask_again(self, mailbox_id: str, uids: Sequence[int]) -> None:
        """Have the next look fetch messages that base does not know any more."""
        cursor = self._cursors[mailbox_id]
        missed = tuple(sorted({*cursor.missed, *uids}))
        await self.intake.keep(mailbox_id, msgspec.structs.replace(cursor, missed=missed))

    async def _take_flags(self, mailbox_id: str, messages: Sequence[RemoteMessage]) -> None:
        for start in range(0, len(messages), ROWS_PER_COMMIT_MAX):
            part = messages[start : start + ROWS_PER_COMMIT_MAX]

            async def write(tx: Tx, part: Sequence[RemoteMessage] = part) -> None:
                await apply_flags(tx, MailboxId(mailbox_id), part, self._cursors.keys())

            await transact(self._services, self._account_id, "mirror-flags", write, "provider")

    async def _take_losses(self, mailbox_id: str, gone: Sequence[int]) -> None:
        for start in range(0, len(gone), ROWS_PER_COMMIT_MAX):
            part = gone[start : start + ROWS_PER_COMMIT_MAX]

            async def write(tx: Tx, part: Sequence[int] = part) -> None:
                await apply_vanished(tx, MailboxId(mailbox_id), part)

            await transact(self._services, self._account_id, "mirror-gone", write, "provider")


def _is_behind(cursor: RemoteCursor, selected: Selected) -> bool:
    told, known = selected.status.uid_next, cursor.uid_next
    is_same = selected.status.uid_validity == cursor.uid_validity
    return is_same and told is not None and known is not None and told < known


async def _gather_batches(
    stream: AsyncIterator[RemoteMessage],
) -> AsyncGenerator[list[RemoteMessage], None]:
    """Messages in batches for one commit each; also what came before the stream broke."""
    batch: list[RemoteMessage] = []
    size, limit = 0, FIRST_BATCH_MESSAGES
    try:
        async for message in stream:
            batch.append(message)
            size += len(message.raw or b"")
            is_large = len(message.raw or b"") >= limits.LARGE_MESSAGE_BYTES_MIN
            if len(batch) >= limit or size >= limits.SYNC_BATCH_BYTES_MAX or is_large:
                del message
                yield batch
                batch, size, limit = [], 0, limits.SYNC_BATCH_MESSAGES_MAX
    except ProviderError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _choose_flags(
    cursor: RemoteCursor, modseq: int | None, uids: Sequence[int], is_deep: bool
) -> tuple[list[tuple[int, int]], int | None]:
    """Which flags to ask for: (uids, changed since)."""
    before = cursor.highest_modseq
    if is_deep or (modseq is not None and (before is None or modseq < before)):
        return ALL_UIDS, None  # never compared, or the server went back in time
    if modseq is None:
        window = uids[-FLAG_WINDOW_MESSAGES:]
        return ([(window[0], window[-1])] if window else []), None
    return ([] if modseq == before else ALL_UIDS), before
