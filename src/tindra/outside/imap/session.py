"""`MailSession` over one IMAP connection: the port's verbs in terms of commands and events.

Which command serves a verb is decided by capability here (MOVE or COPY + UID EXPUNGE, ESEARCH or
SEARCH, IDLE or polling); deadlines live in `client`, quirks of hosts in `quirks`, words for errors
in `verdicts`, fetching of whole messages in `window`.

Invariants: what the server tells unasked raises a latch that the next `idle` returns; every call
first waits for what a cancelled one left on the wire; sets go out in pieces of at most 100 ranges;
an answer that is missing or contradicts itself is an error, never an empty result.

Sources: RFC 9051 s6, RFC 7162 s3, RFC 6851 s3, RFC 4315 s2, RFC 2177 s3, RFC 7889 s3.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from tindra.base.limits import MAILBOXES_PER_ACCOUNT_MAX
from tindra.outside.imap.client import ImapConnection
from tindra.outside.imap.quirks import POLL_MS, Quirks
from tindra.outside.imap.quota import QuotaAnswer, has_quota
from tindra.outside.imap.roles import Candidate, decide_roles
from tindra.outside.imap.verdicts import judge_status
from tindra.outside.imap.window import (
    UNSETTABLE,
    FetchWindow,
    gather_messages,
    keep_latest,
    to_message,
)
from tindra.sync.ports import (
    Known,
    Rejected,
    RemoteMailbox,
    RemoteMessage,
    RemoteQuota,
    RemoteStatus,
    Selected,
    Transient,
)
from tindra.wire.imap import verbs
from tindra.wire.imap.collect import SearchAnswer, SelectAnswer
from tindra.wire.imap.command import Command, Mailbox
from tindra.wire.imap.errors import LocalProtocolError, RemoteProtocolError
from tindra.wire.imap.machine import Event
from tindra.wire.imap.response import (
    Exists,
    Expunge,
    Fetch,
    ListItem,
    MailboxStatus,
    Malformed,
    Status,
    Vanished,
    read_append_uid,
    read_copy_uid,
)
from tindra.wire.imap.seqset import (
    UidRange,
    compact_uids,
    count_uids,
    has_uid,
    merge_ranges,
    split_ranges,
)
from tindra.wire.imap.utf7 import decode_mailbox, is_faithful

EVENTS_PER_CALL_MAX: Final = 8_000_000
"""Untagged answers to one call: twice the flags of the largest mailbox that we can list."""


_ALL_FLAGS: Final = frozenset({"\\Answered", "\\Deleted", "\\Draft", "\\Flagged", "\\Seen", "\\*"})
"""What may be kept where the server does not say. Source: RFC 9051 s7.1 (PERMANENTFLAGS)"""


class ImapSession:
    """One authenticated connection; see `tindra.sync.ports.MailSession` for the contract."""

    __slots__ = (
        "_capabilities",
        "_connection",
        "_exists",
        "_expected",
        "_has_modseq",
        "_heard",
        "_is_idle_refused",
        "_is_news",
        "_listener",
        "_lock",
        "_news",
        "_quirks",
        "_raw_names",
        "_selected",
        "_status_seen",
        "_turn_number",
    )

    def __init__(self, connection: ImapConnection, quirks: Quirks) -> None:
        self._connection = connection
        self._quirks = quirks
        told = connection.machine.capabilities
        self._capabilities = told - quirks.lies if quirks.lies else told  # the same set is shared
        self._lock = asyncio.Lock()
        self._turn_number = 0
        self._heard = 0
        self._raw_names: dict[str, bytes] = {}  # only names that do not survive the round trip
        self._selected: str | None = None
        self._exists = 0
        self._has_modseq = False
        self._is_news = False
        self._news: asyncio.Future[None] | None = None
        self._listener: Callable[[Event], None] | None = None
        self._expected: Sequence[UidRange] = ()  # changes of these UIDs are our own doing
        self._is_idle_refused = False
        self._status_seen: tuple[int, int | None] | None = None
        connection.sink = self._take

    @property
    def capabilities(self) -> frozenset[str]:
        """What the server can do, upper case, less the known lies of this host."""
        return self._capabilities

    @property
    def is_qresync_on(self) -> bool:
        """Whether the server agreed to QRESYNC on this connection."""
        return "QRESYNC" in self._connection.machine.enabled

    # --- mailboxes ----------------------------------------------------------------------------

    async def list_mailboxes(self) -> list[RemoteMailbox]:
        """All mailboxes with roles.

        Raises: Transient: none was listed; Rejected: more than an account may have.
        """
        caps = self._capabilities
        is_extended = "SPECIAL-USE" in caps and ("LIST-EXTENDED" in caps or "IMAP4REV2" in caps)
        items: dict[str, ListItem] = {}

        def listen(event: Event) -> None:
            if len(items) > MAILBOXES_PER_ACCOUNT_MAX:
                return
            if isinstance(event, ListItem) and event.raw_name:
                items.setdefault(decode_mailbox(event.raw_name), event)

        async with self._turn(listen):
            command = verbs.list_mailboxes(special_use=is_extended)
            await self._run(command, "list the mailboxes")
        if not items:
            raise Transient("The mail server listed no mailbox at all", code="EMPTY")
        if len(items) > MAILBOXES_PER_ACCOUNT_MAX:
            raise Rejected(
                f"The account has more than {MAILBOXES_PER_ACCOUNT_MAX} mailboxes", code="LIMIT"
            )
        self._raw_names = {
            name: item.raw_name for name, item in items.items() if not is_faithful(item.raw_name)
        }
        candidates = [
            Candidate(name, item.delimiter, item.attributes, _is_selectable(item))
            for name, item in items.items()
        ]
        roles = decide_roles(candidates)
        return [
            RemoteMailbox(one.name, one.delimiter, roles.get(one.name), one.is_selectable)
            for one in candidates
        ]

    async def status(self, name: str) -> RemoteStatus:
        """The counters of a mailbox. Raises: Rejected: the answer has no usable UIDVALIDITY."""
        async with self._turn():
            return await self._status(name)

    async def _status(self, name: str) -> RemoteStatus:
        items = ["MESSAGES", "UIDNEXT", "UIDVALIDITY"]
        if self._can_modseq():
            items.append("HIGHESTMODSEQ")
        told: dict[str, int] = {}

        def listen(event: Event) -> None:
            if isinstance(event, MailboxStatus):
                told.update(event.items)

        self._listener = listen
        await self._run(verbs.status(self._mailbox(name), items), f"tell the status of {name}")
        if not told.get("UIDVALIDITY") or "MESSAGES" not in told:
            raise Rejected(f"The mail server told no usable status of {name}", code="NOSTATUS")
        return RemoteStatus(
            uid_validity=told["UIDVALIDITY"],
            uid_next=told.get("UIDNEXT") or None,
            exists=told["MESSAGES"],
            highest_modseq=told.get("HIGHESTMODSEQ") or None,
        )

    async def load_quotas(self) -> list[RemoteQuota]:
        """The quotas that hold for the inbox."""
        answer = QuotaAnswer()
        if has_quota(self._capabilities):
            async with self._turn(answer.take):
                await self._run(verbs.get_quota_root(Mailbox("INBOX")), "tell the quotas")
        return answer.list_quotas()

    async def select(self, name: str, known: Known | None = None) -> Selected:
        """Select `name`, with QRESYNC when `known` is given and the server can."""
        facts: tuple[int, int, list[UidRange]] | None = None
        if known is not None and self.is_qresync_on and known.highest_modseq > 0:
            facts = (known.uid_validity, known.highest_modseq, [])
        answer = SelectAnswer()
        async with self._turn(answer.take):
            command = verbs.select(self._mailbox(name), condstore=self._can_modseq(), known=facts)
            self._selected = None
            answer.finish(await self._run(command, f"open {name}"))
            self._selected = name
            self._exists = answer.exists or 0
            self._has_modseq = answer.highest_modseq is not None and not answer.is_modseq_denied
            self._is_news = False
            self._status_seen = None
        if (fault := answer.find_fault()) is not None:
            raise Rejected(f"The mail server told {fault} of {name}", code="NOSTATUS")
        assert answer.uid_validity is not None
        is_resynced = facts is not None and answer.is_resynced(facts[0], facts[1])
        permanent = answer.permanent_flags
        return Selected(
            status=RemoteStatus(
                uid_validity=answer.uid_validity,
                uid_next=answer.uid_next,
                exists=self._exists,
                highest_modseq=answer.highest_modseq if self._has_modseq else None,
            ),
            changed=gather_messages(answer.changed) if is_resynced else [],
            vanished=answer.vanished if is_resynced else [],
            is_resynced=is_resynced,
            permanent_flags=_ALL_FLAGS if permanent is None else permanent,
            read_only=answer.read_only,
        )

    async def create_mailbox(self, name: str) -> None:
        """CREATE, and SUBSCRIBE so that other clients show it."""
        async with self._turn():
            await self._run(verbs.create(self._mailbox(name)), f"create {name}")
            await self._connection.run(verbs.subscribe(self._mailbox(name)))

    async def rename_mailbox(self, name: str, new_name: str) -> None:
        """RENAME; the subscription goes along where it does not by itself."""
        async with self._turn():
            await self._leave(name)
            old, new = self._mailbox(name), self._mailbox(new_name)
            await self._run(verbs.rename(old, new), f"rename {name}")
            await self._connection.run(verbs.unsubscribe(old))
            await self._connection.run(verbs.subscribe(new))

    async def delete_mailbox(self, name: str) -> None:
        """DELETE."""
        async with self._turn():
            await self._leave(name)
            await self._run(verbs.delete(self._mailbox(name)), f"delete {name}")
            await self._connection.run(verbs.unsubscribe(self._mailbox(name)))

    # --- messages -----------------------------------------------------------------------------

    async def list_uids(self) -> list[int]:
        """All UIDs, ascending. Raises: Rejected: the answer contradicts itself or EXISTS."""
        async with self._turn():
            self._check_selected()
            uids: list[int] | None = None
            if "ESEARCH" in self._capabilities or "IMAP4REV2" in self._capabilities:
                uids = await self._search(verbs.uid_search(extended=True))
            if uids is None:
                uids = await self._search(verbs.uid_search())
            if uids is not None and len(uids) < self._exists:
                await self._run(verbs.NOOP, "stay in touch")  # it now owes us all expunges
                uids = await self._search(verbs.uid_search())
            if uids is None or len(uids) < self._exists:
                listed = 0 if uids is None else len(uids)
                raise Rejected(
                    f"The mail server listed {listed} of {self._exists} messages", code="EMPTY"
                )
            return uids

    async def _search(self, command: Command) -> list[int] | None:
        answer = SearchAnswer()
        self._listener = answer.take
        await self._run(command, "list the messages")
        try:
            return answer.uids()
        except RemoteProtocolError:
            return None

    async def fetch_flags(
        self, uids: list[tuple[int, int]], changed_since: int | None = None
    ) -> list[RemoteMessage]:
        """Flags of `uids`, ascending. Raises: Rejected (LOCAL): changed_since without CONDSTORE."""
        wanted = merge_ranges(uids)
        latest: dict[int, Fetch] = {}

        def listen(event: Event) -> None:
            if isinstance(event, Fetch) and event.uid is not None and has_uid(wanted, event.uid):
                keep_latest(latest, event)

        async with self._turn(listen):
            self._check_selected()
            if changed_since is not None and not self._has_modseq:
                raise Rejected("This mailbox keeps no record of changes", code="LOCAL")
            self._expected = wanted
            for piece in split_ranges(wanted):
                command = verbs.uid_fetch(piece, self._flag_items(), changed_since=changed_since)
                await self._run(command, "tell flags")
        return [to_message(latest[uid]) for uid in sorted(latest)]

    async def fetch_messages(
        self, uids: Sequence[int], bytes_max: int
    ) -> AsyncIterator[RemoteMessage]:
        """Whole messages; see the port and `window`."""
        window = FetchWindow(self._connection, uids, bytes_max)
        window.is_partial = self._quirks.is_partial_sound
        window.items = (*self._flag_items(), "INTERNALDATE", "RFC822.SIZE")
        async with self._turn():
            self._check_selected()
            turn = self._turn_number
        self._listener = window.take
        try:
            while True:
                async with self._lock:
                    if turn != self._turn_number:
                        raise Rejected("Another call ended this fetch", code="LOCAL")
                    message = await window.next_message()
                if message is None:
                    return
                yield message
                del message  # who calls again has let go of it
        finally:
            if turn == self._turn_number:
                self._listener = None
            window.close()

    async def store_flags(
        self, uids: Sequence[int], add: Sequence[str], remove: Sequence[str]
    ) -> None:
        """UID STORE, silent."""
        async with self._turn():
            await self._store(compact_uids(uids), add, remove)

    async def _store(
        self, ranges: Sequence[UidRange], add: Sequence[str], remove: Sequence[str]
    ) -> None:
        self._check_selected()
        self._expected = ranges
        for piece in split_ranges(ranges):
            if add:
                await self._run(verbs.uid_store(piece, "add", add), "change flags")
            if remove:
                await self._run(verbs.uid_store(piece, "remove", remove), "change flags")

    async def move(self, uids: Sequence[int], target: str) -> dict[int, int]:
        """UID MOVE, or copy and expunge exactly these."""
        if "MOVE" in self._capabilities or "IMAP4REV2" in self._capabilities:
            return await self._transfer(verbs.uid_move, uids, target, "move messages")
        async with self._turn():
            self._check_selected()
            if not self._can_uidplus():
                await self._check_marked(compact_uids(uids))  # before there are two copies
        moved = await self.copy(uids, target)
        await self.expunge(uids)
        return moved

    async def copy(self, uids: Sequence[int], target: str) -> dict[int, int]:
        """UID COPY."""
        return await self._transfer(verbs.uid_copy, uids, target, "copy messages")

    async def _transfer(
        self,
        verb: Callable[[Sequence[UidRange], Mailbox], Command],
        uids: Sequence[int],
        target: str,
        doing: str,
    ) -> dict[int, int]:
        told: dict[int, int] = {}

        def listen(event: Event) -> None:
            if isinstance(event, Status):
                told.update(read_copy_uid(event.code))

        async with self._turn(listen):
            self._check_selected()
            self._expected = compact_uids(uids)
            for piece in split_ranges(self._expected):
                status = await self._run(verb(piece, self._mailbox(target)), doing)
                told.update(read_copy_uid(status.code))
        return told

    async def expunge(self, uids: Sequence[int]) -> None:
        r"""Mark \Deleted and expunge exactly these. Raises: Rejected: NOUIDPLUS."""
        ranges = compact_uids(uids)
        async with self._turn():
            await self._store(ranges, ["\\Deleted"], [])
            if self._can_uidplus():
                for piece in split_ranges(ranges):
                    await self._run(verbs.uid_expunge(piece), "delete messages")
                return
            await self._check_marked(ranges)
            await self._run(verbs.EXPUNGE, "delete messages")

    async def _check_marked(self, ranges: Sequence[UidRange]) -> None:
        """That a plain EXPUNGE would delete none but these. Raises: Rejected: NOUIDPLUS."""
        marked = await self._search(verbs.uid_search(flag="DELETED"))
        if marked is None or not all(has_uid(ranges, uid) for uid in marked):
            raise Rejected(
                "The mail server cannot delete single messages, and others are marked too",
                code="NOUIDPLUS",
            )

    async def append(
        self, name: str, raw: bytes, flags: Sequence[str], internal_date_ms: int | None
    ) -> tuple[int, int] | None:
        """APPEND. Raises: Rejected: TRYCREATE, TOOBIG (before sending, if the server told)."""
        limit = self._append_bytes_max()
        if limit is not None and len(raw) > limit:
            raise Rejected(f"The mail server takes no message above {limit} bytes", code="TOOBIG")
        settable = [flag for flag in flags if flag not in UNSETTABLE]
        async with self._turn():
            command = verbs.append(self._mailbox(name), raw, settable, internal_date_ms)
            status = await self._run(command, f"store a message in {name}")
        return read_append_uid(status.code)

    # --- staying in touch ---------------------------------------------------------------------

    async def idle(self, timeout_ms: int) -> bool:
        """True as soon as the selected mailbox has news; False at the timeout."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_ms / 1000
        async with self._turn():
            self._check_selected()
            while not self._is_news and (left_s := until - loop.time()) > 0:
                if "IDLE" in self._capabilities and not self._is_idle_refused:
                    await self._idle_once(min(left_s, self._quirks.idle_renew_ms / 1000))
                else:
                    await self._poll_once(min(left_s, POLL_MS / 1000))
            was_news, self._is_news = self._is_news, False
            return was_news

    async def _idle_once(self, wait_s: float) -> None:
        loop = asyncio.get_running_loop()
        news: asyncio.Future[None] = loop.create_future()
        self._news = news
        answer = self._connection.start(verbs.IDLE)
        answer.add_done_callback(lambda _: self._wake())
        timer = loop.call_later(wait_s, self._wake)
        try:
            await news
        finally:  # also when cancelled: DONE goes out, the next call waits for the answer
            timer.cancel()
            self._news = None
            self._connection.leave_idle()
        status = await answer
        if status.kind != "OK":
            self._is_idle_refused = True

    async def _poll_once(self, wait_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._news = loop.create_future()
        timer = loop.call_later(wait_s, self._wake)
        try:
            await self._news
        finally:
            timer.cancel()
            self._news = None
        await self._run(verbs.NOOP, "stay in touch")
        if self._quirks.is_polled_by_status and self._selected is not None:
            status = await self._status(self._selected)
            seen = (status.exists, status.uid_next)
            if self._status_seen not in (None, seen) or status.exists != self._exists:
                self._is_news = True
            self._status_seen = seen

    async def noop(self) -> None:
        """NOOP."""
        async with self._turn():
            await self._run(verbs.NOOP, "stay in touch")

    async def close(self) -> None:
        """LOGOUT and disconnect; never raises."""
        await self._connection.close(verbs.LOGOUT)

    # --- inside -------------------------------------------------------------------------------

    @asynccontextmanager
    async def _turn(self, listener: Callable[[Event], None] | None = None) -> AsyncIterator[None]:
        """One verb at a time, on a quiet line, with `listener` hearing what the server tells."""
        async with self._lock:
            self._turn_number += 1
            self._heard = 0
            self._listener = None  # of a fetch that was given up: it would pause the reader again
            await self._connection.settle()
            self._listener = listener
            try:
                yield
            except LocalProtocolError as error:
                raise Rejected(
                    f"This cannot be said to the mail server: {error}", code="LOCAL"
                ) from error
            finally:
                self._listener = None
                self._expected = ()

    async def _run(self, command: Command, doing: str) -> Status:
        status = await self._connection.run(command)
        if status.kind != "OK":
            raise judge_status(status, doing)
        return status

    def _take(self, event: Event) -> None:
        """Every untagged event: to the listener, and into what we know of the mailbox.

        Raises: RemoteProtocolError: more than one call can mean; ends the connection.
        """
        self._heard += 1
        if self._heard > EVENTS_PER_CALL_MAX:
            raise RemoteProtocolError("untagged answers without end")
        if self._listener is not None:
            self._listener(event)
        if isinstance(event, Exists):
            if event.count != self._exists:
                self._exists = event.count
                self._tell_news()
        elif isinstance(event, Expunge):
            self._exists = max(0, self._exists - 1)
            if not self._expected:
                self._tell_news()
        elif isinstance(event, Vanished):
            self._take_vanished(event)
        elif isinstance(event, Fetch):
            # a body is never told unasked: it is late mail of a fetch that was given up
            if event.body is None and not has_uid(self._expected, event.uid or 0):
                self._tell_news()
        elif isinstance(event, Malformed):
            self._tell_news()

    def _take_vanished(self, event: Vanished) -> None:
        if not event.is_earlier:
            self._exists = max(0, self._exists - count_uids(event.ranges))
        ends = [uid for pair in event.ranges for uid in pair]
        if not all(has_uid(self._expected, uid) for uid in ends):
            self._tell_news()

    def _tell_news(self) -> None:
        self._is_news = True
        self._wake()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _mailbox(self, name: str) -> Mailbox:
        return Mailbox(self._raw_names.get(name, name))

    def _check_selected(self) -> None:
        if self._selected is None:
            raise Rejected("No mailbox is open on this connection", code="LOCAL")

    def _can_uidplus(self) -> bool:
        return "UIDPLUS" in self._capabilities or "IMAP4REV2" in self._capabilities

    def _can_modseq(self) -> bool:
        return "CONDSTORE" in self._capabilities or "QRESYNC" in self._capabilities

    def _flag_items(self) -> tuple[str, ...]:
        return ("UID", "FLAGS", "MODSEQ") if self._has_modseq else ("UID", "FLAGS")

    def _append_bytes_max(self) -> int | None:
        for name in self._capabilities:
            label, _, number = name.partition("=")
            if label == "APPENDLIMIT" and number.isascii() and number.isdigit():
                return int(number[:18])
        return None

    async def _leave(self, name: str) -> None:
        """Let go of a mailbox that is about to be renamed or deleted."""
        if self._selected != name:
            return
        self._selected = None
        if "UNSELECT" in self._capabilities or "IMAP4REV2" in self._capabilities:
            await self._run(verbs.UNSELECT, f"close {name}")


def _is_selectable(item: ListItem) -> bool:
    return not item.attributes & {"\\noselect", "\\nonexistent"}
