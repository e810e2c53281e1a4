"""The demo's own mail provider: one mailbox behind an IMAP and an SMTP server, and life in it.

    provider = DemoProvider(clock, seed=1, message_count=600)
    await provider.start()
    ... connect to 127.0.0.1, provider.imap_port and provider.smtp_port ...
    await provider.run()          # new mail and answers, until cancelled
    await provider.stop()

Nothing is sent anywhere: what the owner sends lands in `outbox`, known people answer, strangers'
mail bounces. Everything is in memory. Faults may be switched while it runs.
Invariant: UIDVALIDITY comes from the time of construction, so that a second run is never taken for
the first.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from itertools import islice
from typing import Final

import msgspec

from tindra.app.demo.faults import Faults
from tindra.app.demo.imap_server import ImapServer
from tindra.app.demo.imap_store import Folder, MailStore
from tindra.app.demo.mail.dice import seeded_dice
from tindra.app.demo.mail.mailmaker import (
    FOLDERS,
    MAILBOX_MESSAGES_DEFAULT,
    SPECIAL_USE,
    make_auto_reply,
    make_mailbox,
    next_arrival,
)
from tindra.app.demo.mail.posting import DemoMessage
from tindra.app.demo.mail.story import OWNER_ADDRESS
from tindra.app.demo.smtp_server import SentMessage, SmtpServer
from tindra.base.clock import Clock

USERNAME: Final = OWNER_ADDRESS
PASSWORD: Final = "demo"
ARRIVAL_MS_MIN: Final = 20_000
ARRIVAL_MS_MAX: Final = 60_000
"""Between two mails that arrive by themselves, when no interval is given."""
REPLY_MS_MIN: Final = 3_000
REPLY_MS_MAX: Final = 8_000
"""People of the story answer quickly; a person watching will not wait for longer."""
RECENT_MESSAGES_MAX: Final = 40
"""Of the inbox, shown to the maker of new mail."""
WAITING_REPLIES_MAX: Final = 200
"""A client that sends thousands of mails gets only so many answers."""


class _Waiting(msgspec.Struct, frozen=True):
    """An answer that somebody is still typing."""

    due_ms: int
    recipient: str
    raw: bytes


class DemoProvider:
    """A mailbox, two servers, and the people who write to it.

    Args:
        seed: which mailbox; the same seed at the same moment is the same mailbox.
        message_count: 0 gives the folders without mail.
        tokens: bearer tokens that XOAUTH2 accepts on both servers.
        tls: offers STARTTLS on both servers when given.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        seed: int = 1,
        message_count: int = MAILBOX_MESSAGES_DEFAULT,
        faults: Faults | None = None,
        tokens: frozenset[str] = frozenset(),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        now_ms = clock.now_ms()
        self.clock = clock
        self.faults = Faults() if faults is None else faults
        self.outbox: list[SentMessage] = []
        self.store = MailStore(uidvalidity_first=max(1, now_ms // 1000))
        for name in FOLDERS:
            self.store.create(name, SPECIAL_USE.get(name, ""))
        for message in make_mailbox(seed, message_count, now_ms):
            self._store(message)
        # what arrives later differs from run to run: ids must not come back with other content
        self._life_seed = seed * 1_000_003 + now_ms
        self._dice = seeded_dice(self._life_seed, "life")
        self._arrivals = 0
        self._answers = 0
        self._filing: list[asyncio.TimerHandle] = []
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()
        logins = {USERNAME: PASSWORD}
        self.imap = ImapServer(self.store, clock, self.faults, logins, tokens, tls)
        self.smtp = SmtpServer(clock, self.faults, logins, self._take_sent, tokens, tls)

    @property
    def username(self) -> str:
        """For both servers."""
        return USERNAME

    @property
    def password(self) -> str:
        """For both servers."""
        return PASSWORD

    @property
    def imap_port(self) -> int:
        """Where the IMAP server listens. Raises: RuntimeError: not started."""
        return self.imap.port

    @property
    def smtp_port(self) -> int:
        """Where the SMTP server listens. Raises: RuntimeError: not started."""
        return self.smtp.port

    async def start(self, imap_port: int = 0, smtp_port: int = 0, host: str = "127.0.0.1") -> None:
        """Listen; port 0 takes a free one. Raises: OSError: a port is taken; nothing listens."""
        await self.imap.start(host, imap_port)
        try:
            await self.smtp.start(host, smtp_port)
        except OSError:
            await self.imap.stop()
            raise

    async def stop(self) -> None:
        """Close both servers and all connections; the mailbox stays."""
        for timer in self._filing:
            timer.cancel()
        await self.imap.stop()
        await self.smtp.stop()

    def deliver(self, raw: bytes, folder: str = "INBOX", flags: Iterable[str] = ()) -> int:
        """Put a message into a folder (made if missing) and give its UID; watchers hear at once."""
        target = self.store.create(folder)
        return target.add(raw, flags, self.clock.now_ms())

    def folder(self, name: str = "INBOX") -> Folder:
        """A folder by name. Raises: KeyError: there is none."""
        found = self.store.find(name)
        if found is None:
            raise KeyError(name)
        return found

    def arrive(self) -> DemoMessage:
        """Let the next mail arrive now."""
        inbox = self.folder()
        newest = [*islice(reversed(inbox.messages.values()), RECENT_MESSAGES_MAX)][::-1]
        recent = [DemoMessage("INBOX", m.raw, tuple(m.flags), m.date_ms) for m in newest]
        self._arrivals += 1
        now_ms = self.clock.now_ms()
        message = next_arrival(self._life_seed, self._arrivals, now_ms, recent)
        self._store(message)
        return message

    async def run(self, interval_ms: int | None = None) -> None:
        """New mail and answers, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.run_arrivals(interval_ms))
            group.create_task(self.run_replies())

    async def run_arrivals(self, interval_ms: int | None = None) -> None:
        """Let mail arrive by itself, until cancelled.

        Args:
            interval_ms: between two mails; None: a different 20 to 60 seconds each time.
        """
        while True:
            pause_ms = self._dice.randrange(ARRIVAL_MS_MIN, ARRIVAL_MS_MAX)
            await self.clock.sleep_ms(pause_ms if interval_ms is None else interval_ms)
            self.arrive()

    async def run_replies(self) -> None:
        """Let people answer what the owner sends, a few seconds later, until cancelled."""
        while True:
            waiting = await self._waiting.get()
            pause_ms = waiting.due_ms - self.clock.now_ms()
            if pause_ms > 0:
                # the wall clock may have been set meanwhile: nobody types for a minute
                await self.clock.sleep_ms(min(pause_ms, REPLY_MS_MAX))
            self._answers += 1
            reply = make_auto_reply(
                self._life_seed,
                self._answers,
                self.clock.now_ms(),
                waiting.recipient,
                waiting.raw,
            )
            if reply is not None:
                self._store(reply)

    def _take_sent(self, sent: SentMessage) -> None:
        """The SMTP server has taken a message."""
        self.outbox.append(sent)
        if self.faults.files_sent_copy:
            self._file_later(sent, self.faults.files_sent_after_ms / 1000)
        for recipient in sent.recipients:
            address = recipient.lower()
            if address == OWNER_ADDRESS:
                self.deliver(sent.raw)
            if self._waiting.qsize() < WAITING_REPLIES_MAX:
                delay_ms = self._dice.randrange(REPLY_MS_MIN, REPLY_MS_MAX)
                self._waiting.put_nowait(_Waiting(sent.time_ms + delay_ms, address, sent.raw))

    def _file_later(self, sent: SentMessage, wait_s: float) -> None:
        if wait_s <= 0:
            self._file(sent)
            return
        loop = asyncio.get_running_loop()
        self._filing = [timer for timer in self._filing if timer.when() > loop.time()]
        self._filing.append(loop.call_later(wait_s, self._file, sent))

    def _file(self, sent: SentMessage) -> None:
        trace = f"Received: from {USERNAME} by mx.tindra.test; {sent.time_ms}\r\n".encode()
        self.deliver(trace + sent.raw, "Sent", ("\\Seen",))

    def _store(self, message: DemoMessage) -> None:
        folder = self.store.create(message.folder)
        folder.add(message.raw, message.flags, message.internal_date_ms)
