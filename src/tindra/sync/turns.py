"""The work of one session with a provider, cut into small turns.

The order of a turn: what devices did; what is known to have changed; the round of questions to all
mailboxes; a piece of backfill; what vanished long enough ago. So a device's act reaches the
provider within a turn even while years of mail are still coming in. A mailbox that the provider
refuses is left out, and said so; it does not stop the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from tindra.base import limits
from tindra.base.ids import AccountId
from tindra.core.ports import StoreReader
from tindra.core.services import Services
from tindra.core.tx import Tx, transact
from tindra.model.stored import OutboxRow
from tindra.sync.apply import apply_revert, read_mirror
from tindra.sync.cursor import RemoteCursor, count_progress
from tindra.sync.intake import Intake, Report
from tindra.sync.intents import EMAIL_TOPIC, MAILBOX_TOPIC, NEVER_MS
from tindra.sync.mirror import MirrorReader
from tindra.sync.patience import Patience
from tindra.sync.ports import MailSession, Rejected, RemoteStatus, Transient
from tindra.sync.pull import Outdated, Puller
from tindra.sync.push import Pusher
from tindra.sync.quota import QuotaWatch
from tindra.sync.tree import Tree
from tindra.sync.vanish import Vanish
from tindra.wire.jmap.date import encode_utc_date

PUSH_GROUP_MAX: Final = limits.SYNC_BATCH_MESSAGES_MAX
TREE_LOOKS_MAX: Final = 10
"""How often in a round a refusal makes us ask whether mailboxes have other names now."""
REFUSED_MAILBOX_MS_MAX: Final = 1_800_000
"""A mailbox that the provider refuses is asked for again at least so often."""
LYING_CODES: Final = frozenset({"NOSTATUS", "UIDS", "EMPTY"})
"""The provider answered, and the answer cannot be true."""
GIVEN_UP_SHOWN_MS: Final = 3_600_000
"""How long people can read why an act of theirs was taken back."""
_PUSH = ("", "push")
_GIVEN_UP = ("", "given up")
_BRAKE = ("", "brake")
_TREE = ("", "tree")
_HERE = ("", "here")
_ORDER = ("inbox", "drafts", "sent", "archive", "all")


class Tell(Protocol):
    """Writes the status that people see."""

    async def __call__(self, **changes: Any) -> None: ...


class Life:
    """One session, from login to its end."""

    def __init__(
        self,
        services: Services,
        account_id: AccountId,
        session: MailSession,
        tell: Tell,
        report: Report,
        patience: Patience,
    ) -> None:
        self.wake = asyncio.Event()
        """Set by whoever knows of work."""
        self._services = services
        self._account_id = account_id
        self._session = session
        self._tell = tell
        pace = self._pace = patience.pace
        self._cursors: dict[str, RemoteCursor] = {}
        self._dirty: dict[str, None] = {}
        self._unasked: list[str] = []
        self._begun: set[str] = set()
        self._refusals = patience.refusals
        self._left_alone: set[str] = set()
        self._held: dict[str, int] = {}
        self._totals: dict[str, int] = {}
        self._problems = patience.problems
        self._ghosts_due_ms: int | None = None
        self._looked_ms = 0
        self._round_ms = 0
        self._next_round_ms: int | None = 0
        """None: the round is going on."""
        self._told_ms = 0
        self._given_up_ms = 0
        self._tree_looks = 0
        intake = Intake(services, account_id, self._cursors, self._on_stored, report)
        self._puller = Puller(services, account_id, session, self._cursors, intake, self._is_called)
        self._puller.hold_ms = pace.poll_ms
        self._puller.poison = patience.poison
        self._pusher = Pusher(
            services, account_id, session, self._puller, self._look_at_tree, pace.filing
        )
        self._tree = Tree(services, account_id, session, self._cursors, self._puller)
        self._patience = patience
        self._vanish = Vanish(services, account_id, patience, pace.ghost_ms, pace.brake_ms)
        self._quota = QuotaWatch(services, account_id, session, pace.quota_ms)

    # -- calls from outside ----------------------------------------------------------------------
    def find_inbox(self) -> str | None:
        """The remote name of the inbox."""
        for id, cursor in self._cursors.items():
            if self._tree.roles.get(id) == "inbox":
                return cursor.name
        return None

    def note_inbox(self) -> None:
        """Something happened in the inbox."""
        for id in self._cursors:
            if self._tree.roles.get(id) == "inbox":
                self._dirty[id] = None
        self.wake.set()

    def note_trouble(self, text: str) -> None:
        """The last life ended because nothing could be stored here: that is shown until all that
        waited is stored."""
        self._problems[_HERE] = text

    def _is_called(self) -> bool:
        return self.wake.is_set()

    # -- turns -----------------------------------------------------------------------------------
    async def begin(self) -> None:
        """Take over the tree; the first round of questions starts."""
        await self._start_round()
        for id, cursor in self._cursors.items():
            if cursor.phase != "live":
                self._held[id] = await self._count_held(id)
        await self._tell_progress()

    async def run(self) -> None:
        """Turns while there is work, then sleep until someone calls."""
        while True:
            self.wake.clear()
            if self._patience.is_parked_due(self._services.clock.monotonic_ms()):
                self._retry_parked()
            if await self._turn():
                continue
            self._retry_broken(self._services.clock.monotonic_ms())
            if self._dirty:
                continue
            self._problems.pop(_HERE, None)
            await self._tell_progress(is_final=True)
            try:
                async with asyncio.timeout(self._find_pause_ms() / 1000):
                    await self.wake.wait()
            except TimeoutError:
                pass

    def _find_pause_ms(self) -> int:
        now_ms = self._services.clock.monotonic_ms()
        due = [self._next_round_ms or 0]
        due += [
            ms for ms in (self._ghosts_due_ms, self._patience.find_next_ms(self._looked_ms)) if ms
        ]
        return max(10, min(due) - now_ms)

    async def _turn(self) -> bool:
        """One small piece of work; False when there is none."""
        if await self._push():
            return True
        if self._dirty:
            id = next(iter(self._dirty))
            del self._dirty[id]
            await self._visit(id, "look", self._look)
            return True
        if self._unasked and not self._is_inbox_bare():
            await self._visit(self._unasked.pop(), "ask", self._ask)
            return True
        now_ms = self._services.clock.monotonic_ms()
        if not self._unasked and now_ms >= self._find_next_round_ms(now_ms):
            await self._start_round()
            return True
        await self._quota.look()
        if await self._backfill():
            return True
        # Where others backfill first, mail may be found in what was not read yet.
        return not self._list_backfilling() and await self._settle_ghosts()

    def _find_next_round_ms(self, now_ms: int) -> int:
        """When to ask all mailboxes again, all having been asked. Where that takes long, at most
        half of the time is spent on it, so that the rest of a turn gets there at all."""
        if self._next_round_ms is None:
            took_ms = now_ms - self._round_ms
            self._next_round_ms = max(self._round_ms + self._pace.poll_ms, now_ms + took_ms)
        return self._next_round_ms

    async def _visit(self, id: str, doing: str, work: Callable[[str], Awaitable[None]]) -> None:
        """Do something in one mailbox; if the provider refuses, that is said and the next one
        gets its turn."""
        cursor = self._cursors.get(id)
        is_refused = doing != "look" or (id, "look") in self._problems
        if cursor is None or (id in self._left_alone and is_refused):
            return
        try:
            await work(id)
        except Rejected as error:
            safe = "; nothing was deleted here" if error.code in LYING_CODES else ""
            self._problems[id, doing] = f"{cursor.name}: {error}{safe}"
            self._puller.forget_selected()
            self._leave_alone(id)
            await self._tell_progress()
        else:
            self._problems.pop((id, doing), None)
            if not self._is_refused(id):
                self._refusals.pop(id, None)

    def _leave_alone(self, id: str) -> None:
        """Not before the next round, and longer each time: some answers are wrong for years."""
        count, _ = self._refusals.get(id, (0, 0))
        wait_ms = min(self._pace.poll_ms << min(count, 20), REFUSED_MAILBOX_MS_MAX)
        if self._pace.rest_ms_max is not None:
            wait_ms = min(wait_ms, self._pace.rest_ms_max)
        now_ms = self._services.clock.monotonic_ms()
        # A little less than whole rounds, so that a round is not missed by a moment.
        self._refusals[id] = count + 1, now_ms + wait_ms - wait_ms // 8
        self._left_alone.add(id)

    def _is_refused(self, id: str) -> bool:
        return any((id, doing) in self._problems for doing in ("look", "ask", "backfill"))

    # -- the round -------------------------------------------------------------------------------
    async def _start_round(self) -> None:
        """Look at the tree, then ask one mailbox after the other."""
        self._round_ms = self._services.clock.monotonic_ms()
        self._next_round_ms = None
        self._tree_looks = 0
        await self._tree.pull()
        self._note_held_back()
        known = sorted(self._tree.selectable, key=self._rank, reverse=True)
        self._left_alone = {id for id, (_, ms) in self._refusals.items() if ms > self._round_ms}
        self._unasked = [id for id in known if id not in self._left_alone]
        self._vanish.has_new = True
        if self._round_ms - self._given_up_ms >= GIVEN_UP_SHOWN_MS:
            self._problems.pop(_GIVEN_UP, None)
        # What is not listed any more is not asked again, so that nothing else would forget it.
        for key in [key for key in self._problems if key[0] and key[0] not in known]:
            del self._problems[key]

    def _note_held_back(self) -> None:
        self._problems.pop(_TREE, None)
        if self._tree.held_back is not None:
            names = sorted(self._cursors[id].name for id in self._tree.held_back.lost)
            others = f" and {len(names) - 1} others" if len(names) > 1 else ""
            self._problems[_TREE] = (
                f"{names[0]}{others} are not listed any more; what they hold is kept until that"
                " is said twice"
            )

    async def _look_at_tree(self) -> bool:
        """Whether the mailboxes at the provider are not those we knew: another program renamed or
        deleted some since the last round, so that what was planned with them is void."""
        if self._tree_looks >= TREE_LOOKS_MAX:
            return False
        self._tree_looks += 1
        before = {id: cursor.name for id, cursor in self._cursors.items()}
        await self._tree.pull()
        return before != {id: cursor.name for id, cursor in self._cursors.items()}

    async def _ask(self, id: str) -> None:
        """Whether anything changed in a mailbox. Words that make no sense count as yes."""
        cursor = self._cursors[id]
        try:
            status = await self._session.status(cursor.name)
        except Rejected as error:
            if error.code != "NOSTATUS":
                raise
            self._dirty[id] = None
            return
        self._totals[id] = status.exists
        if cursor.phase != "live":
            await self._tell_progress()
            return
        # It may have been completed on the way to something else.
        self._problems.pop((id, "backfill"), None)
        if (
            _stamp(cursor) != _stamp(status)
            or status.highest_modseq is None
            or cursor.missed
            or self._puller.is_deep_due(cursor)
            or (id, "look") in self._problems
            or (id, "held") in self._problems
        ):
            self._dirty[id] = None

    async def _look(self, id: str) -> None:
        was_live = self._cursors[id].phase == "live"
        await self._puller.look(id)
        self._vanish.has_new = True
        self._problems.pop((id, "held"), None)
        if held_back := self._puller.count_held_back(id):
            self._problems[id, "held"] = (
                f"{self._cursors[id].name}: {held_back} messages are not listed any more; they are"
                " kept until that is said twice"
            )
        if was_live and self._cursors[id].phase != "live":
            self._held[id] = await self._count_held(id)

    def _retry_parked(self) -> None:
        """Messages that broke something may find a better program now."""
        for id, cursor in self._cursors.items():
            if cursor.parked:
                self._puller.intake.try_again(id, cursor.parked)
                self._dirty[id] = None

    def _retry_broken(self, now_ms: int) -> None:
        """One of those that broke sessions, once everything else is done."""
        broken = [(id, uid) for id, cursor in self._cursors.items() for uid in cursor.broken]
        found = self._patience.poison.find_retry(broken, now_ms)
        if found is not None:
            self._puller.intake.try_again(found[0], [found[1]])
            self._dirty[found[0]] = None

    # -- to the provider -------------------------------------------------------------------------
    async def _push(self) -> bool:
        now_ms = self._looked_ms = self._services.clock.monotonic_ms()
        limit = PUSH_GROUP_MAX + self._patience.count

        async def read(reader: StoreReader) -> tuple[list[OutboxRow], list[OutboxRow]]:
            mailboxes = await reader.list_outbox(MAILBOX_TOPIC, NEVER_MS, limit)
            return mailboxes, await reader.list_outbox(EMAIL_TOPIC, NEVER_MS, limit)

        mailboxes, emails = await self._services.store.read(self._account_id, read)
        if not mailboxes and not emails:
            return False
        ready = self._patience.find_ready(mailboxes, now_ms)
        if ready:
            await self._tree.reload()
            ready = await self._tree.sort_intents(ready)
        # New Mailboxes first, so that mail can go there; emptied ones last.
        ready = [row for row in ready if not emails or not self._tree.is_going(row)]
        for row in ready:
            await self._try([row], self._push_mailbox)
        emails = self._patience.find_ready(emails, now_ms)[:PUSH_GROUP_MAX]
        if emails:
            await self._push_emails(emails)
        self._vanish.has_new |= bool(emails)
        return bool(ready or emails)

    async def _push_emails(self, rows: list[OutboxRow]) -> None:
        """All together; one by one if one of them is refused or broke a session before."""
        alone = [row for row in rows if self._patience.has_broken(row)]
        together = [row for row in rows if not self._patience.has_broken(row)]
        if together:
            try:
                await self._try(together, self._pusher.push_emails, is_group=True)
            except Rejected:
                alone += together
        for row in alone:
            await self._try([row], self._pusher.push_emails)

    async def _push_mailbox(self, rows: Sequence[OutboxRow]) -> dict[str, int]:
        await self._tree.push(rows[0])
        return {}

    async def _try(
        self,
        rows: list[OutboxRow],
        push: Callable[[Sequence[OutboxRow]], Awaitable[dict[str, int]]],
        is_group: bool = False,
    ) -> None:
        """Raises: Rejected, for a group; Transient: the session is over."""
        now_ms = self._services.clock.monotonic_ms()
        try:
            held = await push(rows)
        except Outdated:
            return  # planned with uids or names of old: plan again in the next turn
        except Rejected as error:
            self._puller.forget_selected()
            if await self._look_at_tree():
                return
            if is_group:
                raise
            await self._put_off(rows[0], error)
        except Transient:
            self._patience.note_break(rows, now_ms)
            raise
        else:
            self._patience.forget(rows)
            if not self._patience.count:
                self._problems.pop(_PUSH, None)
            for row in rows:
                if row.key in held:
                    self._patience.note_held(row, now_ms + held[row.key])

    async def _put_off(self, row: OutboxRow, error: Rejected) -> None:
        """Refused: try again later, at last give up; the words of the provider are shown."""
        now_ms = self._services.clock.monotonic_ms()
        if row.tries + 1 >= limits.OUTBOX_TRIES_MAX:
            await self._give_up(row)
            self._patience.forget([row])
            self._problems[_GIVEN_UP] = f"Taken back: {error}"
            self._given_up_ms = now_ms
        else:
            self._patience.note_refusal(row, now_ms)
            self._problems[_PUSH] = str(error)

            async def write(tx: Tx) -> None:
                await tx.store.retry_outbox(row, NEVER_MS, str(error))

            await transact(self._services, self._account_id, "mirror-refused", write, "provider")
        await self._tell_progress()

    async def _give_up(self, row: OutboxRow) -> None:
        """What the provider will not have is taken back here, so that both agree again."""
        if row.topic == MAILBOX_TOPIC:
            await self._tree.revert(row)
            self._next_round_ms = 0  # the tree may have to be read again
            return

        async def write(tx: Tx) -> dict[str, list[int]]:
            if not await tx.store.finish_outbox(row):
                return {}  # a device had another idea meanwhile
            return await apply_revert(tx, [row.key])

        back, _ = await transact(
            self._services, self._account_id, "mirror-revert", write, "provider"
        )
        for id, uids in back.items():
            if id in self._cursors:
                await self._puller.ask_again(id, uids)
                self._dirty[id] = None

    # -- backfill --------------------------------------------------------------------------------
    def _list_backfilling(self) -> list[str]:
        return [
            id
            for id, cursor in self._cursors.items()
            if cursor.phase == "backfilling"
            and id in self._tree.selectable
            and id not in self._left_alone
        ]

    def _is_inbox_bare(self) -> bool:
        """Whether nobody has seen the inbox yet: then it comes before everything else."""
        waiting = self._list_backfilling()
        return any(
            self._tree.roles.get(id) == "inbox" and id not in self._begun and not self._held.get(id)
            for id in waiting
        )

    async def _backfill(self) -> bool:
        """A piece of the mailbox that matters most: each shows its newest mail first."""
        waiting, gate = self._list_backfilling(), self._patience.gate
        if not waiting:
            gate.forget(self)
            return False
        if not gate.try_enter(self, self.wake.set):
            return False
        try:
            id = min(waiting, key=lambda id: (id in self._begun, self._rank(id)))
            self._begun.add(id)
            await self._visit(id, "backfill", self._backfill_one)
        finally:
            gate.leave()
        await self._tell_progress()
        return True

    def end(self) -> None:
        """The session is over."""
        self._patience.gate.forget(self)

    async def _backfill_one(self, id: str) -> None:
        if not await self._puller.backfill(id):
            self._dirty[id] = None  # what happened since the snapshot

    def _rank(self, id: str) -> tuple[int, str]:
        role = self._tree.roles.get(id)
        place = _ORDER.index(role) if role in _ORDER else len(_ORDER)
        return place, self._cursors[id].name

    # -- what vanished ---------------------------------------------------------------------------
    async def _settle_ghosts(self) -> bool:
        """Destroy what vanished long enough ago; True: there is work.

        Only reached when every mailbox is complete and has been asked.
        """
        looked_at = [
            id
            for id, cursor in self._cursors.items()
            if not self._is_refused(id)
            and (id, "held") not in self._problems
            and (cursor.phase == "live" or id not in self._tree.selectable)
        ]
        settled = await self._vanish.settle(looked_at, self._cursors.keys(), self._round_ms)
        self._ghosts_due_ms = settled.due_ms
        self._problems.pop(_BRAKE, None)
        held = self._vanish.status.get("heldBack")
        if held is not None:
            self._problems[_BRAKE] = (
                f"{held['messages']} messages vanished at the provider at once; they are kept here"
                " for a day, unless somebody confirms that they were removed"
            )
        if settled.is_round_wanted:
            await self._start_round()
        return settled.is_done or settled.is_round_wanted

    # -- telling ---------------------------------------------------------------------------------
    async def _on_stored(self, mailbox_id: str, count: int) -> None:
        self._held[mailbox_id] = self._held.get(mailbox_id, 0) + count
        await self._tell_progress()

    async def _count_held(self, mailbox_id: str) -> int:
        async def read(reader: MirrorReader) -> int:
            return len(await reader.list_remote_uids(mailbox_id))

        return await read_mirror(self._services, self._account_id, read, is_long=True)

    async def _tell_progress(self, is_final: bool = False) -> None:
        now_ms = self._services.clock.monotonic_ms()
        if not is_final and now_ms - self._told_ms < self._pace.tell_ms:
            return
        self._told_ms = now_ms
        listed = {id: c for id, c in self._cursors.items() if id in self._tree.selectable}
        cursors = {id: c for id, c in listed.items() if not self._is_refused(id)}
        is_stuck = any(self._tree.roles.get(id) == "inbox" for id in listed.keys() - cursors.keys())
        is_stuck |= bool(listed) and not cursors
        phase = "backfilling"
        if is_stuck:
            phase = "waiting"
        elif all(cursor.phase == "live" for cursor in cursors.values()):
            phase = "live"
        await self._tell(
            phase=phase,
            lastError=next(iter(self._problems.values()), None) or _describe_broken(cursors),
            nextTryAt=self._find_next_try() if is_stuck else None,
            **self._vanish.status,
            **count_progress(cursors, self._held, self._totals, is_all=not is_stuck),
        )

    def _find_next_try(self) -> str:
        """When the first of the mailboxes that were refused is asked again, to the minute."""
        now_ms = self._services.clock.monotonic_ms()
        until_ms = min((ms for _, ms in self._refusals.values()), default=now_ms)
        moment_ms = self._services.clock.now_ms() + max(until_ms - now_ms, 0)
        return encode_utc_date((moment_ms // 60_000 + 1) * 60_000)


def _stamp(known: RemoteCursor | RemoteStatus) -> tuple[int | None, ...]:
    return known.uid_validity, known.uid_next, known.highest_modseq, known.exists


def _describe_broken(cursors: Mapping[str, RemoteCursor]) -> str | None:
    """Of messages that are left out because they cannot be fetched."""
    broken = [(cursor.name, uid) for cursor in cursors.values() for uid in cursor.broken]
    if not broken:
        return None
    name, uid = broken[0]
    others = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
    return (
        f"{name}: the message with UID {uid}{others} cannot be fetched, whatever is tried; it is"
        " left out and tried again once a day"
    )
