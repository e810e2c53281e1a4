"""The client's half of an IMAP conversation as a state machine; no socket, no clock, no waiting.

    machine = ClientMachine()
    machine.receive_data(chunk)                        # from the network
    while (event := machine.next_event()) is not None: ...
    tag = machine.send(verbs.select(Mailbox("INBOX")))
    transport.writelines(machine.data_to_send())       # after every call above

Theory. Two things are tracked: the *state* of the connection, and the *commands in flight*. A
command may be sent if its row allows the present state, and if nothing in flight conflicts. The
state moves at these moments and no others:

    moment                               from                 to
    greeting OK                          GREETING             NOT_AUTHENTICATED
    greeting PREAUTH                     GREETING             AUTHENTICATED
    tagged OK of STARTTLS                NOT_AUTHENTICATED    SECURING
      ... and tls_started()              SECURING             NOT_AUTHENTICATED, all forgotten
    tagged OK of LOGIN, AUTHENTICATE     NOT_AUTHENTICATED    AUTHENTICATED
    tagged OK of SELECT, EXAMINE         AUTH. or SELECTED    SELECTED
      ... NO, BAD of them                AUTH. or SELECTED    AUTHENTICATED
    tagged OK of UNSELECT                SELECTED             AUTHENTICATED
    go-ahead of IDLE                     AUTH. or SELECTED    IDLING
    done() while idling                  IDLING               back
    untagged BYE                         any                  LOGOUT
    receive_eof(), RemoteProtocolError   any                  CLOSED

Pipelining. Commands whose answers could be mistaken for one another's, or that change the meaning
of what follows (STARTTLS, LOGIN, AUTHENTICATE, ENABLE, SELECT, EXAMINE, UNSELECT, IDLE), travel
alone; all others may be in flight together, at most `IN_FLIGHT_MAX`. A command with a synchronising
literal holds back everything behind it until the server's go-ahead; a NO in its place drops the
rest of that command. A go-ahead that nobody waits for is shown as `Other("+")` and does no harm.

STARTTLS. Octets that came before the TLS handshake could have been planted by someone in between,
so any octet after the tagged OK, in the same read or a later one, is an error, and what the server
said in the clear about itself is forgotten.

Untagged data is never matched to a command: each piece is an event of its own, true at that moment,
to be taken in idempotently.

Sources: RFC 9051 s3, RFC 9051 s5.5, RFC 9051 s6.2.1, RFC 2177 s3, RFC 4959 s3, RFC 7888 s3.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from enum import Enum
from functools import lru_cache
from typing import Final, TypeAlias

import msgspec

from tindra.wire.imap.command import Atom, Command, choose_dialect, encode_command
from tindra.wire.imap.errors import LocalProtocolError, RemoteProtocolError
from tindra.wire.imap.lexer import DEFAULT_LIMITS, Limits, LineReader, PendingLiteral
from tindra.wire.imap.response import (
    Capability,
    Enabled,
    GoAhead,
    Other,
    Response,
    Status,
    Untagged,
    parse_response,
    read_code_names,
)

IN_FLIGHT_MAX: Final = 16
"""Commands in flight at once: fills any line, and no server is known to mind."""


class State(Enum):
    """Where the connection stands; see the table in the module docstring."""

    GREETING = "greeting"
    NOT_AUTHENTICATED = "not authenticated"
    SECURING = "securing"
    AUTHENTICATED = "authenticated"
    SELECTED = "selected"
    IDLING = "idling"
    LOGOUT = "logout"
    CLOSED = "closed"


class Greeting(msgspec.Struct, frozen=True):
    """The first line of the server."""

    status: Status


class Done(msgspec.Struct, frozen=True):
    """A command was answered, well or not."""

    tag: str
    command: Command
    status: Status


class IdleStarted(msgspec.Struct, frozen=True):
    """The server took IDLE: news will come by itself until `done()`."""


Event: TypeAlias = Untagged | Status | Greeting | Done | IdleStarted

_BOTH: Final = frozenset({State.AUTHENTICATED, State.SELECTED})
_ANY: Final = _BOTH | {State.NOT_AUTHENTICATED}
_ALLOWED: Final[dict[str, frozenset[State]]] = {
    **dict.fromkeys(("CAPABILITY", "NOOP", "LOGOUT", "ID"), _ANY),
    **dict.fromkeys(("STARTTLS", "AUTHENTICATE", "LOGIN"), frozenset({State.NOT_AUTHENTICATED})),
    "ENABLE": frozenset({State.AUTHENTICATED}),
    **dict.fromkeys(("LIST", "STATUS", "SELECT", "EXAMINE", "APPEND", "IDLE"), _BOTH),
    **dict.fromkeys(
        ("CREATE", "RENAME", "DELETE", "SUBSCRIBE", "UNSUBSCRIBE", "GETQUOTAROOT"), _BOTH
    ),
    **dict.fromkeys(
        ("UID FETCH", "UID STORE", "UID COPY", "UID MOVE", "UID EXPUNGE", "UID SEARCH"),
        frozenset({State.SELECTED}),
    ),
    **dict.fromkeys(("EXPUNGE", "UNSELECT"), frozenset({State.SELECTED})),
}
_ALONE: Final = frozenset(
    {"STARTTLS", "LOGIN", "AUTHENTICATE", "ENABLE", "SELECT", "EXAMINE", "UNSELECT", "IDLE"}
)
_AFTER_OK: Final = {
    "STARTTLS": State.SECURING,
    "LOGIN": State.AUTHENTICATED,
    "AUTHENTICATE": State.AUTHENTICATED,
    "SELECT": State.SELECTED,
    "EXAMINE": State.SELECTED,
    "UNSELECT": State.AUTHENTICATED,
}
_AFTER_FAILURE: Final = {"SELECT": State.AUTHENTICATED, "EXAMINE": State.AUTHENTICATED}
_GREETED: Final = {
    "OK": State.NOT_AUTHENTICATED,
    "PREAUTH": State.AUTHENTICATED,
    "BYE": State.LOGOUT,
}


@lru_cache(maxsize=256)
def _share(names: frozenset[str]) -> frozenset[str]:
    """One copy for all connections to like servers: a set of names takes 7 KiB."""
    return names


class _Idle(Enum):
    NO = "no IDLE in flight"
    ASKED = "waiting for the go-ahead"
    LEAVING = "waiting for the go-ahead, only to send DONE"
    ON = "idling"
    LEFT = "DONE is out"


class _Held(msgspec.Struct):
    """A piece of a command that is not yet on the wire."""

    tag: str
    buffers: list[bytes]
    needs_go_ahead: bool


class ClientMachine:
    """One connection, seen from the client. See the module docstring."""

    __slots__ = (
        "_before_idle",
        "_capabilities",
        "_dialect",
        "_enabled",
        "_held",
        "_idle",
        "_in_flight",
        "_is_capability_known",
        "_out",
        "_reader",
        "_sasl",
        "_sasl_challenge",
        "_state",
        "_tags",
    )

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._reader = LineReader("client", limits)
        self._state = State.GREETING
        self._before_idle = State.AUTHENTICATED
        self._capabilities: frozenset[str] = frozenset()
        self._is_capability_known = False
        self._enabled: frozenset[str] = frozenset()
        self._dialect = choose_dialect(frozenset(), frozenset())
        self._in_flight: dict[str, Command] = {}
        self._tags = 0
        self._out: list[bytes] = []
        self._held: deque[_Held] = deque()
        self._sasl: list[bytes] | None = None  # answers still to give; None: cancelled
        self._sasl_challenge = b""
        self._idle = _Idle.NO

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self._state

    @property
    def capabilities(self) -> frozenset[str]:
        """What the server last said it can do, upper case; trust it only if known."""
        return self._capabilities

    @property
    def is_capability_known(self) -> bool:
        """False: ask CAPABILITY (again): TLS or a login came in between, or it was never said."""
        return self._is_capability_known

    @property
    def enabled(self) -> frozenset[str]:
        """Extensions that ENABLE turned on, upper case."""
        return self._enabled

    @property
    def in_flight(self) -> int:
        """Commands without an answer."""
        return len(self._in_flight)

    @property
    def is_idle_in_flight(self) -> bool:
        """IDLE was sent and its tagged answer has not come."""
        return self._idle is not _Idle.NO

    @property
    def kept_literal(self) -> PendingLiteral | None:
        """The literal that is coming in and is kept, if any; another object for each."""
        return self._reader.kept_literal

    @property
    def sasl_challenge(self) -> bytes:
        """What the server last asked in AUTHENTICATE; the error text of XOAUTH2."""
        return self._sasl_challenge

    def data_to_send(self) -> list[bytes]:
        """Take what must be written now, in order."""
        out, self._out = self._out, []
        return out

    def send(self, command: Command) -> str:
        """Put a command on its way; its tag.

        Raises: LocalProtocolError: not allowed in this state, or together with what is in flight,
            or an argument cannot be written to this server. Nothing was sent then.
        """
        self._check_allowed(command)
        tag = f"t{self._tags + 1}"
        answers = list(command.sasl)
        written = command
        if command.is_sasl_initial and answers:
            initial = Atom(base64.b64encode(answers.pop(0)).decode("ascii"))
            written = Command(name=command.name, arguments=(*command.arguments, initial))
        pieces = encode_command(tag, written, self._dialect)
        self._tags += 1
        self._in_flight[tag] = command
        if command.name in ("LOGIN", "AUTHENTICATE"):
            self._is_capability_known = False
            self._sasl = answers
            self._sasl_challenge = b""
        elif command.name == "IDLE":
            self._idle = _Idle.ASKED
        for index, buffers in enumerate(pieces):
            self._held.append(_Held(tag, buffers, needs_go_ahead=index > 0))
        self._pump()
        return tag

    def done(self) -> None:
        """Leave IDLE: DONE goes out now, or as soon as the server has taken IDLE.

        Raises: LocalProtocolError: IDLE is not in flight.
        """
        if self._idle is _Idle.NO:
            raise LocalProtocolError("there is no IDLE to leave")
        if self._state is State.IDLING:
            self._out.append(b"DONE\r\n")
            self._state = self._before_idle
            self._idle = _Idle.LEFT
        elif self._idle is _Idle.ASKED:
            self._idle = _Idle.LEAVING

    def tls_started(self) -> None:
        """The TLS handshake succeeded: forget what was said in the clear.

        Raises: LocalProtocolError: STARTTLS was not just accepted.
        """
        if self._state is not State.SECURING:
            raise LocalProtocolError("TLS may start only after the OK of STARTTLS")
        self._state = State.NOT_AUTHENTICATED
        self._capabilities = frozenset()
        self._is_capability_known = False
        self._dialect = choose_dialect(frozenset(), frozenset())

    def receive_data(self, data: bytes) -> None:
        """Take what came from the network. Raises: RemoteProtocolError: during STARTTLS."""
        if self._state is State.SECURING:
            raise self._fail("octets in the clear after the OK of STARTTLS")
        self._reader.feed(data)

    def receive_eof(self) -> None:
        """The server closed the connection."""
        self._state = State.CLOSED

    def next_event(self) -> Event | None:
        """The next thing that happened, or None until more data comes.

        Raises: RemoteProtocolError: close the connection; the machine is CLOSED.
        """
        if self._state is State.CLOSED:
            return None
        try:
            while (line := self._reader.next_line()) is not None:
                event = self._take(parse_response(line))
                if event is not None:
                    return event
        except RemoteProtocolError:
            self._state = State.CLOSED
            raise
        return None

    def _check_allowed(self, command: Command) -> None:
        allowed = _ALLOWED.get(command.name)
        if allowed is None:
            raise LocalProtocolError(f"{command.name} is not in the table of commands")
        if self._state not in allowed:
            raise LocalProtocolError(f"{command.name} while {self._state.value}")
        if len(self._in_flight) >= IN_FLIGHT_MAX:
            raise LocalProtocolError(f"more than {IN_FLIGHT_MAX} commands in flight")
        others = self._in_flight.values()
        if others and (command.name in _ALONE or any(other.name in _ALONE for other in others)):
            raise LocalProtocolError(f"{command.name} cannot share the line with what is in flight")

    def _pump(self) -> None:
        """Release held pieces up to the next one that needs a go-ahead."""
        while self._held and not self._held[0].needs_go_ahead:
            self._out += self._held.popleft().buffers

    def _take(self, response: Response) -> Event | None:
        if self._state is State.GREETING:
            return self._take_greeting(response)
        if isinstance(response, GoAhead):
            return self._take_go_ahead(response)
        if isinstance(response, Status):
            self._learn_code(response)
            if response.tag is not None:
                return self._take_tagged(response.tag, response)
            if response.kind == "BYE":
                self._state = State.LOGOUT
        elif isinstance(response, Capability):
            self._learn_capabilities(response.names)
        elif isinstance(response, Enabled):
            self._enabled |= response.names
            self._dialect = choose_dialect(self._capabilities, self._enabled)
        return response

    def _take_greeting(self, response: Response) -> Event:
        if not isinstance(response, Status) or response.tag is not None:
            raise RemoteProtocolError("the server did not greet")
        state = _GREETED.get(response.kind)
        if state is None:
            raise RemoteProtocolError(f"a greeting of {response.kind}")
        self._state = state
        self._learn_code(response)
        return Greeting(response)

    def _take_tagged(self, tag: str, status: Status) -> Event:
        command = self._in_flight.pop(tag, None)
        if command is None:
            raise RemoteProtocolError(f"an answer to a command never sent: {tag[:20]!r}")
        was_held = any(held.tag == tag for held in self._held)
        if was_held:
            if status.kind == "OK":
                raise RemoteProtocolError(f"{command.name} was accepted before it was complete")
            self._held = deque(held for held in self._held if held.tag != tag)
            self._pump()
        if command.name == "IDLE":
            self._idle = _Idle.NO
            if self._state is State.IDLING:
                self._state = self._before_idle
        if self._state is not State.LOGOUT:
            moves = _AFTER_OK if status.kind == "OK" else _AFTER_FAILURE
            self._state = moves.get(command.name, self._state)
        if self._state is State.SECURING and self._reader.buffered_bytes:
            raise RemoteProtocolError("octets in the clear after the OK of STARTTLS")
        return Done(tag, command, status)

    def _take_go_ahead(self, go_ahead: GoAhead) -> Event | None:
        if self._idle is not _Idle.NO:
            return self._take_idle_go_ahead()
        if self._held and self._held[0].needs_go_ahead:
            self._out += self._held.popleft().buffers
            self._pump()
            return None
        if any(command.name == "AUTHENTICATE" for command in self._in_flight.values()):
            self._answer_sasl(go_ahead.text)
            return None
        return Other("+")

    def _take_idle_go_ahead(self) -> Event:
        if self._idle is _Idle.ON or self._idle is _Idle.LEFT:
            return Other("+")
        self._before_idle = self._state
        self._state = State.IDLING
        if self._idle is _Idle.LEAVING:
            self.done()
        else:
            self._idle = _Idle.ON
        return IdleStarted()

    def _answer_sasl(self, challenge: str) -> None:
        if self._sasl is None:
            raise RemoteProtocolError("AUTHENTICATE goes on after it was cancelled")
        try:
            self._sasl_challenge = base64.b64decode(challenge.encode("latin-1"))
        except binascii.Error:
            self._sasl_challenge = b""
        if self._sasl:
            self._out.append(base64.b64encode(self._sasl.pop(0)) + b"\r\n")
        else:
            self._sasl = None
            self._out.append(b"*\r\n")

    def _learn_code(self, status: Status) -> None:
        if status.code is not None and status.code.name == "CAPABILITY":
            self._learn_capabilities(read_code_names(status.code))

    def _learn_capabilities(self, names: frozenset[str]) -> None:
        self._capabilities = _share(names)
        self._is_capability_known = True
        self._dialect = choose_dialect(names, self._enabled)

    def _fail(self, why: str) -> RemoteProtocolError:
        self._state = State.CLOSED
        return RemoteProtocolError(why)
