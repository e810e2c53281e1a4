"""The IMAP server of the demo provider: listens, reads commands, sends answers.

In memory, on loopback, for one account; honest by default and wrong on demand (`faults`). Lines and
tokens come from `wire.imap.lexer`. Source: RFC 9051 s2.2, s7.1.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final, NoReturn

from tindra.app.demo import imap_fetch, imap_folders, imap_login, imap_messages, imap_search
from tindra.app.demo.faults import Faults
from tindra.app.demo.imap_session import (
    Arguments,
    CommandMalformed,
    CommandRefused,
    ConnectionCut,
    Handler,
    Registry,
    Session,
    State,
)
from tindra.app.demo.imap_store import MailStore
from tindra.app.demo.starttls import start_tls
from tindra.base.clock import Clock
from tindra.wire.imap.errors import RemoteProtocolError
from tindra.wire.imap.lexer import Limits, Line, LineReader, parse_tokens, read_atom

STOP_S_MAX: Final = 1.0
"""How long a conversation may take to end by itself; a TLS handshake would wait for a minute."""
READ_BYTES: Final = 64 * 1024
"""Asked of the socket at once."""
LITERAL_BYTES_MAX: Final = 64 * 1024 * 1024
"""The largest message that APPEND takes."""
LINE_BYTES_MAX: Final = 1024 * 1024
"""A command line; long UID sets included."""
_LIMITS: Final = Limits(line_bytes=LINE_BYTES_MAX, literal_bytes=LITERAL_BYTES_MAX)
_COMMANDS: Final[Registry] = {
    **imap_login.COMMANDS,
    **imap_folders.COMMANDS,
    **imap_fetch.COMMANDS,
    **imap_search.COMMANDS,
    **imap_messages.COMMANDS,
}
_NUMBERED: Final = frozenset({"FETCH", "STORE", "SEARCH"})
"""While these run, no EXPUNGE may be told. Source: RFC 9051 s7.5.1"""


class ImapServer:
    """Serves one `MailStore` to any number of clients.

    Args:
        tokens: bearer tokens that XOAUTH2 accepts.
        tls: offers STARTTLS when given.
    """

    def __init__(
        self,
        store: MailStore,
        clock: Clock,
        faults: Faults,
        logins: dict[str, str],
        tokens: frozenset[str] = frozenset(),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.store = store
        self.clock = clock
        self.faults = faults
        self.logins = logins
        self.tokens = tokens
        self.tls = tls
        self.connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """Where it listens. Raises: RuntimeError: it does not."""
        if self._server is None:
            raise RuntimeError("the IMAP server has not been started")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=READ_BYTES * 4)

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        if self._server is not None:
            self._server.close()
            for connection in tuple(self.connections):
                connection.close()
            if self._tasks:
                _, late = await asyncio.wait(self._tasks, timeout=STOP_S_MAX)
                for task in late:
                    task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
            await self._server.wait_closed()
            self._server = None

    def capabilities(self, *, is_secure: bool) -> list[str]:
        """What is offered at the moment."""
        faults = self.faults
        offers = {
            "IMAP4rev1": True,
            "LITERAL+": not faults.no_literal_plus,
            "SASL-IR": not faults.no_auth,
            "AUTH=PLAIN": not faults.no_auth,
            "AUTH=XOAUTH2": not faults.no_auth and bool(self.tokens),
            "STARTTLS": self.tls is not None and not is_secure,
            "ID": True,
            "ENABLE": not faults.no_enable,
            "IDLE": not faults.no_idle,
            "NAMESPACE": True,
            "CHILDREN": True,
            "UNSELECT": True,
            "UIDPLUS": not faults.no_uidplus,
            "MOVE": not faults.no_move,
            "CONDSTORE": not faults.no_condstore,
            "QRESYNC": not (faults.no_qresync or faults.no_condstore or faults.no_enable),
            "ESEARCH": not faults.no_esearch,
            "LIST-EXTENDED": True,
            "LIST-STATUS": not faults.no_list_status,
            "SPECIAL-USE": not faults.no_special_use,
            "QUOTA": not faults.no_quota,
        }
        return [name for name, is_offered in offers.items() if is_offered]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None or not self._server.is_serving():
            writer.close()  # accepted in the moment of stopping
            return
        connection = Connection(self, reader, writer)
        self.connections.add(connection)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await connection.run()
        except (ConnectionError, ssl.SSLError, ConnectionCut):
            pass  # clients and faults hang up; nobody is left to be told
        finally:
            connection.session.leave()
            connection.close()
            self.connections.discard(connection)


class Connection:
    """The socket of one client and the loop that reads it."""

    def __init__(
        self, server: ImapServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self.is_secure = False
        self.can_start_tls = server.tls is not None
        self.session = Session(server, self)
        self._reader = reader
        self._writer = writer
        self._lines = LineReader("server", _LIMITS)

    def write(self, octets: bytes) -> None:
        """Give octets to the socket without waiting."""
        if not self._writer.is_closing():
            self._writer.write(octets)

    async def drain(self) -> None:
        """Wait while the client is slow to read."""
        await self._writer.drain()

    def close(self) -> None:
        """Close after what was written."""
        self._writer.close()

    def abort(self) -> NoReturn:
        """Cut, as a dying server or a pulled cable does. Raises: ConnectionCut: always."""
        self._writer.transport.abort()
        raise ConnectionCut

    def close_abruptly(self) -> NoReturn:
        """Close after what was written, in the middle of it. Raises: ConnectionCut: always."""
        self._writer.close()
        raise ConnectionCut

    async def start_tls(self) -> None:
        """Go on encrypted. Raises: CommandMalformed: the client has already sent more."""
        assert self.server.tls is not None
        if self._lines.buffered_bytes:
            raise CommandMalformed("nothing may follow STARTTLS before the handshake")
        self.session.send(f"{self.session.tag} OK Begin TLS")
        self.session.push()
        await start_tls(self._writer, self.server.tls)
        self.is_secure = True
        self.can_start_tls = False

    async def read_text(self) -> str:
        """One line that is no command: DONE, or an answer to a challenge."""
        return (await self._read_line()).text

    async def wait_for_end(self) -> None:
        """Read and forget until the client gives up."""
        while await self._reader.read(READ_BYTES):
            pass
        raise ConnectionCut

    async def run(self) -> None:
        """Greet, then do one command after the other until somebody leaves."""
        session = self.session
        if not self._greet():
            return
        while not session.is_leaving:
            session.push()
            await self.drain()
            try:
                line = await self._read_line()
                arguments = parse_tokens(line)
            except RemoteProtocolError as error:
                session.send(f"* BAD {error}")
                session.send("* BYE That was too much")
                break
            limit = self.server.faults.command_chars_max
            if limit is not None and len(line.text) > limit:
                self.abort()
            await self._do(arguments)
        session.push()
        await self.drain()

    def _greet(self) -> bool:
        faults = self.server.faults
        full = faults.connections_max is not None and (
            len(self.server.connections) > faults.connections_max
        )
        if faults.bye_at_once or full:
            self.session.send("* BYE [UNAVAILABLE] Too many simultaneous connections")
            self.session.push()
            return False
        offered = " ".join(self.server.capabilities(is_secure=False))
        self.session.send(f"* OK [CAPABILITY {offered}] Tindra demo post office at your service")
        return True

    async def _read_line(self) -> Line:
        while True:
            line = self._lines.next_line()
            if line is not None:
                return line
            pending = self._lines.literal_pending
            if pending is not None and pending.is_sync:
                self.write(b"+ Go ahead\r\n")
                self._lines.accept_literal()
                continue
            octets = await self._reader.read(READ_BYTES)
            if not octets:
                raise ConnectionCut
            self._lines.feed(octets)

    async def _do(self, arguments: Arguments) -> None:
        session = self.session
        if not arguments:
            session.send("* BAD An empty line")
            return
        session.tag = "*"
        name = "?"
        try:
            session.tag = _read_tag(arguments)
            name, rest = _read_name(arguments)
            state, handler = self._find(name)
            await self._misbehave_before(name)
            if state != "any" and not session.is_user:
                raise CommandMalformed("please log in first")
            if state == "folder" and session.folder is None:
                raise CommandMalformed("no mailbox is selected")
            answer = await handler(session, rest)
        except CommandRefused as refusal:
            answer = f"NO {refusal}"
        except (CommandMalformed, RemoteProtocolError) as error:
            answer = f"BAD {error}"
        except (IndexError, ValueError):  # too few arguments, or no number where one must be
            answer = "BAD Arguments are missing or of the wrong kind"
        if name in self.server.faults.drop_after and self.server.faults.take_drop():
            self.abort()
        session.tell_changes(may_expunge=name not in _NUMBERED)
        if answer:
            session.send(f"{session.tag} {answer}")

    def _find(self, name: str) -> tuple[State, Handler]:
        found = _COMMANDS.get(name)
        if found is None or name in self._switched_off():
            raise CommandMalformed(f"unknown command {name[:40]}")
        return found

    def _switched_off(self) -> set[str]:
        faults = self.server.faults
        off: set[str] = set()
        for is_off, names in (
            (faults.no_idle, ("IDLE",)),
            (faults.no_move, ("MOVE", "UID MOVE")),
            (faults.no_uidplus, ("UID EXPUNGE",)),
            (faults.no_enable, ("ENABLE",)),
            (faults.no_quota, ("GETQUOTAROOT", "GETQUOTA")),
            (faults.no_auth, ("AUTHENTICATE",)),
        ):
            if is_off:
                off.update(names)
        return off

    async def _misbehave_before(self, name: str) -> None:
        faults = self.server.faults
        if name in faults.drop_before and faults.take_drop():
            self.abort()
        if name in faults.stall_on:
            await self.wait_for_end()
        if name in faults.refuse:
            raise CommandRefused("Not now")


def _read_tag(arguments: Arguments) -> str:
    tag = arguments[0]
    if not isinstance(tag, str) or tag in ("*", "+"):
        raise CommandMalformed("a command begins with a tag")
    return tag


def _read_name(arguments: Arguments) -> tuple[str, Arguments]:
    name = read_atom(arguments[1]).upper()
    if name == "UID":
        return f"UID {read_atom(arguments[2]).upper()}", arguments[3:]
    return name, arguments[2:]
