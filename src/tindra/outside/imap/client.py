"""One IMAP connection on the running loop: octets in and out of the state machine, with deadlines.

`ImapConnection` knows commands and events, not mailboxes or messages (`session` does). It owns no
task: everything happens in the loop's callbacks or in the caller's coroutine, so that ten thousand
idle connections cost their sockets and little else.

Deadlines: the greeting, and *silence* while a command is in flight: a long answer may take its time
as long as octets keep coming. Idling and a paused reader are allowed to be silent.

A flood of answers is worked off in steps, between which everybody else has a turn of the loop; no
more is read meanwhile.

Invariants: after the first error every call raises it, all waiting callers get it, and the socket
is gone; an event reaches the sink before the answer of the command that it belongs to; reading
pauses as soon as the sink's owner says so, so the receive buffer is bounded by one read plus one
line; a large literal is read only while it is counted in the budget of all connections, and whoever
claims the room of its event gives it back.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, cast

from tindra.base.limits import LARGE_MESSAGE_BYTES_MIN
from tindra.outside.imap.budget import OctetBudget
from tindra.outside.imap.verdicts import judge_closed
from tindra.sync.ports import ProviderError, Rejected, Transient
from tindra.wire.imap.command import Command
from tindra.wire.imap.errors import LocalProtocolError, RemoteProtocolError
from tindra.wire.imap.lexer import DEFAULT_LIMITS, Limits, PendingLiteral
from tindra.wire.imap.machine import ClientMachine, Done, Event, Greeting, IdleStarted, State
from tindra.wire.imap.response import Status

SILENCE_MS_MAX: Final = 120_000
"""No octet for this long while a command waits: the server or the way to it is dead. A server that
searches a huge mailbox may be quiet for a minute."""
GREETING_MS_MAX: Final = 20_000
"""From the connection to the first line; loaded servers look up our name first."""
HANDSHAKE_MS_MAX: Final = 20_000
"""One TLS handshake."""
GOODBYE_MS_MAX: Final = 2_000
"""How long LOGOUT may take before the socket is closed anyway."""

PROGRESS_MS: Final = 30_000
"""How often it is looked whether a large literal goes on coming in."""
PROGRESS_BYTES_MIN: Final = 64 * 1024
"""In that time at least: 2 KiB a second. What is dribbled would keep its room for ever."""
PROGRESS_WANTED_BYTES_MIN: Final = 4 * 1024 * 1024
"""In that time at least while others wait for room: 140 KiB a second."""

EVENTS_PER_STEP: Final = 200
"""Answers worked off before the loop goes round: some 10 ms."""

Sink = Callable[[Event], None]


class ImapConnection(asyncio.Protocol):
    """The client end of one connection.

    Args:
        sink: gets every untagged event, in order, in the loop's callback; may raise only
            RemoteProtocolError, which ends the connection.
    """

    __slots__ = (
        "_budget",
        "_bye",
        "_drained",
        "_error",
        "_greeting",
        "_heard_at",
        "_is_behind",
        "_is_closing",
        "_is_held",
        "_is_paused",
        "_is_starved",
        "_line_octets",
        "_literal",
        "_loop",
        "_machine",
        "_progress",
        "_progress_s",
        "_received",
        "_silence_s",
        "_transport",
        "_waiting",
        "_watch",
        "sink",
    )

    def __init__(
        self,
        sink: Sink,
        *,
        limits: Limits = DEFAULT_LIMITS,
        silence_ms_max: int = SILENCE_MS_MAX,
        budget: OctetBudget | None = None,
    ) -> None:
        self.sink = sink
        self._loop = asyncio.get_running_loop()
        self._machine = ClientMachine(limits)
        self._transport: asyncio.Transport | None = None
        self._waiting: dict[str, asyncio.Future[Status]] = {}
        self._greeting: asyncio.Future[Status] | None = self._loop.create_future()
        self._drained: asyncio.Future[None] | None = None
        self._error: ProviderError | None = None
        self._bye: Status | None = None
        self._silence_s = silence_ms_max / 1000
        self._heard_at = self._loop.time()
        self._watch: asyncio.TimerHandle | None = None
        self._is_paused = False
        self._is_behind = False
        self._is_held = False
        self._is_closing = False
        self._budget = budget or OctetBudget()
        self._literal: PendingLiteral | None = None  # the large one that has its room, or waits
        self._line_octets = 0  # room that the present line has
        self._is_starved = False
        self._received = 0  # since the last look at the progress
        self._progress: asyncio.TimerHandle | None = None
        self._progress_s = PROGRESS_MS / 1000

    @property
    def machine(self) -> ClientMachine:
        """State and capabilities, to read only."""
        return self._machine

    @property
    def sasl_challenge(self) -> bytes:
        """What the server last asked in AUTHENTICATE."""
        return self._machine.sasl_challenge

    # --- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket (and TLS, when implicit) is ready."""
        # uvloop's transports have the methods of asyncio.Transport, not its class
        self._transport = cast("asyncio.Transport", transport)
        self._heard_at = self._loop.time()

    def data_received(self, data: bytes) -> None:
        """Octets came."""
        self._heard_at = self._loop.time()
        self._received += len(data)
        try:
            self._machine.receive_data(data)
        except RemoteProtocolError as error:
            self._fail_protocol(error)
            return
        if not self._is_behind:
            self._work()

    def _work(self) -> None:
        """Take one step with what has come, and see to the next."""
        self._is_behind = False
        if self._error is not None:
            return
        try:
            for _ in range(EVENTS_PER_STEP):
                event = self._machine.next_event()
                if event is None:
                    break
                self._dispatch(event)
                self.give_back(self.claim_room())  # unless the sink's owner took it over
            else:
                self._is_behind = True
                self._loop.call_soon(self._work)
        except RemoteProtocolError as error:
            self._fail_protocol(error)
            return
        self._find_room()
        self._hold_or_read()
        self._flush()

    def eof_received(self) -> bool:
        """The server will send no more; nor shall we."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._machine.receive_eof()
        if self._error is None:
            error = judge_closed(self._bye)
            if self._is_starved:
                error = Transient("The mail server did not wait for room here", code="BUSY")
            if exc is not None and error.server_words is None:
                error.server_words = str(exc)[:200] or None
            self.fail(error)

    # --- for the session ----------------------------------------------------------------------

    async def greeting(self, *, is_secured: bool) -> Status:
        """The server's first line. Raises: Transient: none came in time."""
        assert self._greeting is not None
        try:
            async with asyncio.timeout(GREETING_MS_MAX / 1000):
                status = await self._greeting
        except TimeoutError:
            hint = "" if is_secured else "; the port may want TLS from the first byte on"
            raise Transient(
                f"The mail server did not greet within {GREETING_MS_MAX // 1000} seconds{hint}",
                code="SILENT" if is_secured else "TLS_MODE",
            ) from None
        self._greeting = None
        return status

    def start(self, command: Command) -> asyncio.Future[Status]:
        """Send a command; its future answer.

        Raises: ProviderError: the connection is dead; Rejected (LOCAL): it cannot be said here.
        """
        if self._error is not None:
            raise self._error
        try:
            tag = self._machine.send(command)
        except LocalProtocolError as error:
            if self._machine.state is State.LOGOUT:
                raise judge_closed(self._bye) from error
            raise Rejected(
                f"This cannot be said to the mail server: {error}", code="LOCAL"
            ) from error
        future: asyncio.Future[Status] = self._loop.create_future()
        self._waiting[tag] = future
        self._heard_at = self._loop.time()
        self._flush()
        self._arm()
        return future

    async def run(self, command: Command) -> Status:
        """Send a command and wait for its answer, whatever it is. Raises: as `start`."""
        return await self.start(command)

    def leave_idle(self) -> None:
        """Send DONE if IDLE is in flight; the future of IDLE tells when the server took it."""
        if self._error is None and self._machine.is_idle_in_flight:
            self._machine.done()
            self._heard_at = self._loop.time()
            self._flush()
            self._arm()

    async def settle(self) -> None:
        """Wait until nothing is in flight, so that a cancelled call leaves no answers behind.

        Raises: ProviderError: the connection is dead.
        """
        if self._error is not None:
            raise self._error
        self.leave_idle()
        self.resume()
        while self._machine.in_flight:
            self._drained = self._loop.create_future()
            await self._drained

    def pause(self) -> None:
        """Read no more until `resume`: the network holds the server back."""
        self._is_paused = True
        self._hold_or_read()

    def resume(self) -> None:
        """Read on."""
        self._is_paused = False
        self._hold_or_read()

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """After the OK of STARTTLS. Raises: ssl.SSLError, OSError, ProviderError."""
        assert self._transport is not None
        transport = await self._loop.start_tls(
            self._transport,
            self,
            context,
            server_hostname=host,
            ssl_handshake_timeout=HANDSHAKE_MS_MAX / 1000,
        )
        if self._error is not None:
            raise self._error
        if transport is None:
            raise judge_closed(None)
        self._transport = transport
        self._machine.tls_started()

    async def close(self, goodbye: Command) -> None:
        """Say `goodbye`, then drop the socket; never raises, may be repeated."""
        if self._error is None and not self._is_closing:
            self._is_closing = True
            try:
                async with asyncio.timeout(GOODBYE_MS_MAX / 1000):
                    await self.settle()
                    await self.run(goodbye)
            except (ProviderError, TimeoutError):
                pass  # the good-bye is a courtesy
        self.fail(Transient("The connection was closed on our side", code="CLOSED"))

    def fail(self, error: ProviderError) -> None:
        """Drop the socket and give `error` to everyone who waits or comes later."""
        if self._error is not None:
            return
        self._error = error
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._progress is not None:
            self._progress.cancel()
            self._progress = None
        self._budget.forget(self)
        self.give_back(self.claim_room())
        if self._transport is not None:
            self._transport.abort()
        waiting: list[asyncio.Future[Status] | asyncio.Future[None] | None]
        waiting = [*self._waiting.values(), self._greeting, self._drained]
        self._waiting.clear()
        for future in waiting:
            if future is not None and not future.done():
                future.set_exception(error)
                future.exception()  # whoever does not wait any more need not be told

    # --- large literals -----------------------------------------------------------------------

    def claim_room(self) -> int:
        """Octets of the budget that the event at hand has; who calls must give them back."""
        octets, self._line_octets = self._line_octets, 0
        return octets

    def give_back(self, octets: int) -> None:
        """What was claimed is held no more."""
        if octets:
            self._budget.give_back(octets)

    def _find_room(self) -> None:
        """Before a large literal is read on, it must have its room."""
        literal = self._machine.kept_literal
        if literal is self._literal or self._error is not None:
            return
        if self._progress is not None:
            self._progress.cancel()
            self._progress = None
        self._literal = literal
        if literal is None or literal.octets < LARGE_MESSAGE_BYTES_MIN:
            return
        self._is_starved = True
        if self._budget.try_hold(self, literal.octets, self._take_room):
            self._take_room()

    def _take_room(self) -> None:
        assert self._literal is not None
        self._line_octets += self._literal.octets
        self._is_starved = False
        self._received = 0
        self._progress = self._loop.call_later(self._progress_s, self._check_progress)
        self._hold_or_read()

    def _check_progress(self) -> None:
        """Room is for those who use it."""
        received, self._received = self._received, 0
        least = PROGRESS_WANTED_BYTES_MIN if self._budget.is_wanted else PROGRESS_BYTES_MIN
        if received < least and not self._is_held:
            code = "BUSY" if received >= PROGRESS_BYTES_MIN else "SLOW"
            self.fail(Transient("The mail server sent a large message too slowly", code=code))
            return
        self._progress = self._loop.call_later(self._progress_s, self._check_progress)

    # --- inside -------------------------------------------------------------------------------

    def _hold_or_read(self) -> None:
        """The socket is read unless the session paused it or there is work left over."""
        is_held = self._is_paused or self._is_behind or self._is_starved
        if is_held == self._is_held or self._transport is None or self._error is not None:
            return
        self._is_held = is_held
        if is_held:
            self._transport.pause_reading()
        else:
            self._heard_at = self._loop.time()
            self._received = PROGRESS_WANTED_BYTES_MIN  # it was not the server that paused
            self._transport.resume_reading()

    def _fail_protocol(self, error: RemoteProtocolError) -> None:
        self.fail(
            Transient(
                "The mail server sent something that is no IMAP",
                server_words=str(error),
                code="PROTOCOL",
            )
        )

    def _dispatch(self, event: Event) -> None:
        if isinstance(event, Done):
            self._answer(event)
        elif isinstance(event, Greeting):
            if self._greeting is not None and not self._greeting.done():
                self._greeting.set_result(event.status)
        elif isinstance(event, IdleStarted):
            pass
        else:
            if isinstance(event, Status) and event.kind == "BYE":
                self._bye = event
            self.sink(event)

    def _answer(self, done: Done) -> None:
        future = self._waiting.pop(done.tag, None)
        if future is not None and not future.done():
            future.set_result(done.status)
        if self._machine.in_flight == 0:
            if self._watch is not None:
                self._watch.cancel()
                self._watch = None
            if self._drained is not None and not self._drained.done():
                self._drained.set_result(None)

    def _flush(self) -> None:
        out = self._machine.data_to_send()
        if not out or self._transport is None:
            return
        if len(out) == 1:
            self._transport.write(out[0])
        else:
            self._transport.writelines(out)

    def _arm(self) -> None:
        if self._watch is None and self._machine.in_flight:
            self._watch = self._loop.call_later(self._silence_s, self._check_silence)

    def _check_silence(self) -> None:
        self._watch = None
        if self._machine.state is State.IDLING:
            return  # leave_idle() arms again
        now = self._loop.time()
        if self._is_held:
            self._heard_at = now
        left = self._heard_at + self._silence_s - now
        if left > 0:
            self._watch = self._loop.call_later(left, self._check_silence)
            return
        seconds = round(self._silence_s)
        self.fail(Transient(f"The mail server was silent for {seconds} seconds", code="SILENT"))
