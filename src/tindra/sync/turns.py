"""The work of one session with a provider, cut into small turns.

The order of a turn: what devices did; what is known to have changed; the round of questions to all
mailboxes; a piece of backfill; what vanished long enough ago. So a device's act reaches the
provider within a turn even while years of mail are still coming in. A mailbox that the provider
refuses is left out, and said so; it does not stop the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId
from tindra.core.ports import StoreReader
from tindra.core.services import Services
from tindra.core.tx import Tx, transact
from tindra.model.mail import RemoteRow
from tindra.model.stored import OutboxRow
from tindra.sync.apply import apply_ghosts, apply_revert, list_ghosts, read_mirror
from tindra.sync.cursor import RemoteCursor, count_progress
from tindra.sync.filing import FilingPace
from tindra.sync.intake import Intake, Report
from tindra.sync.intents import EMAIL_TOPIC, MAILBOX_TOPIC, NEVER_MS
from tindra.sync.mirror import MirrorReader
from tindra.sync.patience import Patience
from tindra.sync.plan import decide_vanished
from tindra.sync.ports import MailSession, Rejected, RemoteStatus, Transient
from tindra.sync.pull import Outdated, Puller
from tindra.sync.push import Pusher
from tindra.sync.quota import QuotaWatch
from tindra.sync.tree import Tree

PUSH_GROUP_MAX: Final = limits.SYNC_BATCH_MESSAGES_MAX
GHOSTS_PER_COMMIT_MAX: Final = 200
TREE_LOOKS_MAX: Final = 10
"""How often in a round a refusal makes us ask whether mailboxes have other names now."""
GIVEN_UP_SHOWN_MS: Final = 3_600_000
"""How long people can read why an act of theirs was taken back."""
_PUSH = ("", "push")
_GIVEN_UP = ("", "given up")
_BRAKE = ("", "brake")
_TREE = ("", "tree")
_HERE = ("", "here")
_ORDER = ("inbox", "drafts", "sent", "archive", "all")


class Pace(msgspec.Struct, frozen=True):
    """How patient a mirror is; other values are for tests."""

    poll_ms: int = 60_000
    """How often all mailboxes are asked whether anything changed."""
    idle_ms: int = 24 * 60_000
    """Servers may hang up after 30 minutes of silence (RFC 2177 s3)."""
    ghost_ms: int = 15_000
    """How long mail that vanished may take to turn up elsewhere before it is destroyed."""
    brake_ms: int = 24 * 3600 * 1000
    """The same where most mail of the account vanished: a person must be able to see and cure it,
    and an empty or lying provider takes nothing away (decide_vanished)."""
    tell_ms: int = 500
    """Progress is written at most this often: each writing wakes every device."""
    proven_ms: int = 300_000
    """A session that lived this long was healthy: failures are counted anew."""
    filing: FilingPace = FilingPace()
    """How long to wait for copies of sent mail that the provider files itself."""
    quota_ms: int = 15 * 60_000
    """How often the provider is asked what room is left: a mailbox is full for days, and every
    new answer wakes every device."""
    rest_ms_max: int | None = None
    """No pause after a failure is longer; None: as the retry policy says."""


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
        pace: Pace,
        report: Report,
    ) -> None:
        self.wake = asyncio.Event()
        """Set by whoever knows of work."""
        self._services = services
        self._account_id = account_id
        self._session = session
        self._tell = tell
        self._pace = pace
        self._cursors: dict[str, RemoteCursor] = {}
        self._dirty: dict[str, None] = {}
        self._unasked: list[str] = []
        self._begun: set[str] = set()
        self._held: dict[str, int] = {}
        self._totals: dict[str, int] = {}
        self._problems: dict[tuple[str, str], str] = {}
        """(Mailbox id, what we were doing) -> what the provider said."""
        self._has_new_ghosts = True
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
        self._pusher = Pusher(
            services, account_id, session, self._puller, self._look_at_tree, pace.filing
        )
        self._tree = Tree(services, account_id, session, self._cursors, self._puller)
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

    async def run(self, patience: Patience) -> None:
        """Turns while there is work, then sleep until someone calls."""
        while True:
            self.wake.clear()
            if patience.is_parked_due(self._services.clock.monotonic_ms()):
                self._retry_parked()
            if await self._turn(patience):
                continue
            self._problems.pop(_HERE, None)
            await self._tell_progress(is_final=True)
            try:
                async with asyncio.timeout(self._find_pause_ms(patience) / 1000):
                    await self.wake.wait()
            except TimeoutError:
                pass

    def _find_pause_ms(self, patience: Patience) -> int:
        now_ms = self._services.clock.monotonic_ms()
        due = [self._next_round_ms or 0]
        due += [ms for ms in (self._ghosts_due_ms, patience.find_next_ms(self._looked_ms)) if ms]
        return max(10, min(due) - now_ms)

    async def _turn(self, patience: Patience) -> bool:
        """One small piece of work; False when there is none."""
        if await self._push(patience):
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
        return await self._settle_ghosts(now_ms, patience.vanished)

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
        if cursor is None:
            return
        try:
            await work(id)
        except Rejected as error:
            self._problems[id, doing] = f"{cursor.name}: {error}"
            self._puller.forget_selected()
            self._tree.selectable.discard(id)  # until the next round
            await self._tell_progress()
        else:
            self._problems.pop((id, doing), None)

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
        self._unasked = known
        self._has_new_ghosts = True
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
        ):
            self._dirty[id] = None

    async def _look(self, id: str) -> None:
        was_live = self._cursors[id].phase == "live"
        await self._puller.look(id)
        self._has_new_ghosts = True
        held_back = self._puller.count_held_back(id)
        if held_back:
            raise Rejected(
                f"{held_back} messages are not listed any more; they are kept until that is"
                " said twice"
            )
        if was_live and self._cursors[id].phase != "live":
            self._held[id] = await self._count_held(id)

    def _retry_parked(self) -> None:
        """Messages that broke something may find a better program now."""
        for id, cursor in self._cursors.items():
            if cursor.parked:
                self._puller.intake.try_again(id)
                self._dirty[id] = None

    # -- to the provider -------------------------------------------------------------------------
    async def _push(self, patience: Patience) -> bool:
        now_ms = self._looked_ms = self._services.clock.monotonic_ms()
        limit = PUSH_GROUP_MAX + patience.count

        async def read(reader: StoreReader) -> tuple[list[OutboxRow], list[OutboxRow]]:
            mailboxes = await reader.list_outbox(MAILBOX_TOPIC, NEVER_MS, limit)
            return mailboxes, await reader.list_outbox(EMAIL_TOPIC, NEVER_MS, limit)

        mailboxes, emails = await self._services.store.read(self._account_id, read)
        if not mailboxes and not emails:
            return False
        ready = patience.find_ready(mailboxes, now_ms)
        if ready:
            await self._tree.reload()
            ready = await self._tree.sort_intents(ready)
        # New Mailboxes first, so that mail can go there; emptied ones last.
        ready = [row for row in ready if not emails or not self._tree.is_going(row)]
        for row in ready:
            await self._try([row], patience, self._push_mailbox)
        emails = patience.find_ready(emails, now_ms)[:PUSH_GROUP_MAX]
        if emails:
            await self._push_emails(emails, patience)
        self._has_new_ghosts |= bool(emails)
        return bool(ready or emails)

    async def _push_emails(self, rows: list[OutboxRow], patience: Patience) -> None:
        """All together; one by one if one of them is refused or broke a session before."""
        alone = [row for row in rows if patience.has_broken(row)]
        together = [row for row in rows if not patience.has_broken(row)]
        if together:
            try:
                await self._try(together, patience, self._pusher.push_emails, is_group=True)
            except Rejected:
                alone += together
        for row in alone:
            await self._try([row], patience, self._pusher.push_emails)

    async def _push_mailbox(self, rows: Sequence[OutboxRow]) -> dict[str, int]:
        await self._tree.push(rows[0])
        return {}

    async def _try(
        self,
        rows: list[OutboxRow],
        patience: Patience,
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
            await self._put_off(rows[0], patience, error)
        except Transient:
            patience.note_break(rows, now_ms)
            raise
        else:
            patience.forget(rows)
            if not patience.count:
                self._problems.pop(_PUSH, None)
            for row in rows:
                if row.key in held:
                    patience.note_held(row, now_ms + held[row.key])

    async def _put_off(self, row: OutboxRow, patience: Patience, error: Rejected) -> None:
        """Refused: try again later, at last give up; the words of the provider are shown."""
        now_ms = self._services.clock.monotonic_ms()
        if row.tries + 1 >= limits.OUTBOX_TRIES_MAX:
            await self._give_up(row)
            patience.forget([row])
            self._problems[_GIVEN_UP] = f"Taken back: {error}"
            self._given_up_ms = now_ms
        else:
            patience.note_refusal(row, now_ms)
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
            if cursor.phase == "backfilling" and id in self._tree.selectable
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
        waiting = self._list_backfilling()
        if not waiting:
            return False
        id = min(waiting, key=lambda id: (id in self._begun, self._rank(id)))
        self._begun.add(id)
        await self._visit(id, "backfill", self._backfill_one)
        await self._tell_progress()
        return True

    async def _backfill_one(self, id: str) -> None:
        if not await self._puller.backfill(id):
            self._dirty[id] = None  # what happened since the snapshot

    def _rank(self, id: str) -> tuple[int, str]:
        role = self._tree.roles.get(id)
        place = _ORDER.index(role) if role in _ORDER else len(_ORDER)
        return place, self._cursors[id].name

    # -- what vanished ---------------------------------------------------------------------------
    async def _settle_ghosts(self, now_ms: int, seen: dict[tuple[str, int], int]) -> bool:
        """Destroy what vanished long enough ago and was found nowhere; True: there is work.

        Only reached when every mailbox is complete and has been asked. Before the end, all are
        asked once more: mail may leave one mailbox before it comes to another.

        Args:
            seen: when each was first seen; kept up to date.
        """
        self._ghosts_due_ms = None
        ghosts = await self._load_ghosts(now_ms, seen)
        if not ghosts:
            self._problems.pop(_BRAKE, None)
            return False
        firsts: dict[str, int] = {}
        for ghost in ghosts:
            first_ms = seen[ghost.mailbox_id, ghost.uid]
            firsts[ghost.email_id] = max(firsts.get(ghost.email_id, 0), first_ms)
        if self._round_ms < max(firsts.values()):
            await self._start_round()
            return True
        grace_ms = await self._decide_grace_ms(len(firsts))
        due = {id for id, first_ms in firsts.items() if now_ms - first_ms >= grace_ms}
        if not due:
            self._ghosts_due_ms = min(firsts.values()) + grace_ms
            return False
        if self._round_ms < max(firsts[id] for id in due) + grace_ms:
            await self._start_round()
            return True
        chosen = set(sorted(due)[:GHOSTS_PER_COMMIT_MAX])
        rows = [ghost for ghost in ghosts if ghost.email_id in chosen]

        async def write(tx: Tx) -> None:
            await apply_ghosts(tx, rows, self._cursors.keys())

        await transact(self._services, self._account_id, "mirror-ghosts", write, "provider")
        self._has_new_ghosts = True
        return True

    async def _decide_grace_ms(self, vanished: int) -> int:
        """How long so many vanished Emails are kept; says so where it is long."""

        async def read(reader: MirrorReader) -> int:
            return sum(row.total_emails for row in await reader.load_mailboxes())

        known = await read_mirror(self._services, self._account_id, read)
        if decide_vanished(known, vanished, is_confirmed=False) == "apply":
            self._problems.pop(_BRAKE, None)
            return self._pace.ghost_ms
        self._problems[_BRAKE] = (
            f"{vanished} messages vanished at the provider at once; they are kept here for a day"
        )
        return self._pace.brake_ms

    async def _load_ghosts(self, now_ms: int, seen: dict[tuple[str, int], int]) -> list[RemoteRow]:
        """Ghosts, but for those of mailboxes that cannot be looked at now."""
        if not self._has_new_ghosts and not seen:
            return []
        ids = [
            id
            for id, cursor in self._cursors.items()
            if not self._is_refused(id)
            and (cursor.phase == "live" or id not in self._tree.selectable)
        ]

        async def read(reader: MirrorReader) -> list[RemoteRow]:
            return await list_ghosts(reader, ids)

        ghosts = await read_mirror(self._services, self._account_id, read)
        keys = {(str(ghost.mailbox_id), ghost.uid) for ghost in ghosts}
        held_off = self._cursors.keys() - ids
        for key in [key for key in seen if key[0] not in held_off and key not in keys]:
            del seen[key]
        for key in keys:
            seen.setdefault(key, now_ms)
        self._has_new_ghosts = False
        return ghosts

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
        cursors = {id: c for id, c in self._cursors.items() if id in self._tree.selectable}
        is_live = all(cursor.phase == "live" for cursor in cursors.values())
        await self._tell(
            phase="live" if is_live else "backfilling",
            lastError=next(iter(self._problems.values()), None),
            nextTryAt=None,
            **count_progress(cursors, self._held, self._totals),
        )


def _stamp(known: RemoteCursor | RemoteStatus) -> tuple[int | None, ...]:
    return known.uid_validity, known.uid_next, known.highest_modseq, known.exists
