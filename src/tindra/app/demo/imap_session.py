"""One IMAP connection of the demo provider: its state, its output, its view of the open folder.

Reads nothing and knows no command; `imap_server` feeds it, the `imap_*` command modules act on it.
The view is what the client has been told: sequence numbers count in it, and changes of others wait
in `_gone`, `_added`, `_changed` until the protocol allows them to be said (RFC 9051 s5.5, s7.5.1).
Invariant: `uids` ascends and equals what the client believes to be in the folder.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Literal, NoReturn, Protocol, TypeAlias

from tindra.app.demo.faults import Faults
from tindra.app.demo.imap_store import Folder, MailStore, StoredMessage
from tindra.base.clock import Clock
from tindra.wire.imap.errors import RemoteProtocolError
from tindra.wire.imap.lexer import Token, read_atom
from tindra.wire.imap.seqset import UidRange, compact_uids, encode_uid_set, parse_uid_set

OUTPUT_CHUNK_BYTES: Final = 256 * 1024
"""Output is handed to the socket in pieces of about this size: fewer system calls."""

Arguments: TypeAlias = list[Token]
State = Literal["any", "user", "folder"]
"""Needed by a command: nothing, a login, an open folder."""
Handler: TypeAlias = "Callable[[Session, Arguments], Awaitable[str]]"
"""Does a command; gives the tagged answer without its tag."""
Registry: TypeAlias = dict[str, tuple[State, Handler]]


class CommandRefused(Exception):
    """Ends a command with NO; the text may begin with a response code."""


class CommandMalformed(Exception):
    """Ends a command with BAD."""


class ConnectionCut(Exception):
    """A fault wants the connection dropped here and now."""


class Host(Protocol):
    """What a session asks of the server it belongs to."""

    store: MailStore
    clock: Clock
    faults: Faults
    logins: dict[str, str]
    tokens: frozenset[str]

    def capabilities(self, *, is_secure: bool) -> list[str]:
        """What is offered at the moment."""
        ...


class Channel(Protocol):
    """What a session asks of its socket."""

    is_secure: bool
    can_start_tls: bool

    def write(self, octets: bytes) -> None:
        """Give octets to the socket without waiting."""

    async def drain(self) -> None:
        """Wait while the client is slow to read."""

    def close(self) -> None:
        """Close after what was written."""

    def abort(self) -> NoReturn:
        """Cut at once. Raises: ConnectionCut."""
        ...

    def close_abruptly(self) -> NoReturn:
        """Close after what was written. Raises: ConnectionCut."""
        ...

    async def start_tls(self) -> None:
        """Go on encrypted."""

    async def read_text(self) -> str:
        """One line that is no command."""
        ...


class Session:
    """State of one client; a `Watcher` of the folder it has open."""

    def __init__(self, server: Host, connection: Channel) -> None:
        self.server = server
        self.connection = connection
        self.tag = "*"
        self.is_user = False
        self.is_leaving = False
        self.is_idle = False
        self.knows_condstore = False
        self.knows_qresync = False
        self.folder: Folder | None = None
        self.is_read_only = False
        self.uids: list[int] = []
        self._gone: set[int] = set()
        self._added: list[int] = []
        self._changed: dict[int, None] = {}
        self._output: list[bytes] = []
        self._output_bytes = 0

    @property
    def faults(self) -> Faults:
        """What the provider does wrong at the moment."""
        return self.server.faults

    @property
    def open_folder(self) -> Folder:
        """The selected folder; only called where a command needs one."""
        assert self.folder is not None
        return self.folder

    # --- output ---------------------------------------------------------------------------------
    def send(self, line: str | bytes) -> None:
        """Queue one line, CRLF comes here; Latin-1 characters are octets."""
        octets = line if isinstance(line, bytes) else line.encode("latin-1")
        self._output += (octets, b"\r\n")
        self._output_bytes += len(octets) + 2

    def push(self) -> None:
        """Hand all queued output to the socket."""
        if self._output:
            self.connection.write(b"".join(self._output))
            self._output = []
            self._output_bytes = 0

    async def push_some(self) -> None:
        """Hand output over when there is much of it, and wait while the client is slow."""
        if self._output_bytes >= OUTPUT_CHUNK_BYTES:
            self.push()
            await self.connection.drain()

    # --- the view of the open folder ------------------------------------------------------------
    def enter(self, folder: Folder, *, read_only: bool) -> None:
        """Open a folder: the view begins with all that is in it."""
        self.leave()
        self.folder = folder
        self.is_read_only = read_only
        self.uids = list(folder.messages)
        folder.watchers.append(self)

    def leave(self) -> None:
        """Close the folder, if one is open."""
        if self.folder is not None and self in self.folder.watchers:
            self.folder.watchers.remove(self)
        self.folder = None
        self.uids = []
        self._gone.clear()
        self._added.clear()
        self._changed.clear()

    def on_added(self, uid: int) -> None:
        """Watcher: new mail."""
        self._added.append(uid)
        self._tell_if_idle()

    def on_flags(self, uid: int) -> None:
        """Watcher: other flags."""
        self._changed[uid] = None
        self._tell_if_idle()

    def on_expunged(self, uids: list[int]) -> None:
        """Watcher: messages are gone."""
        self._gone.update(uids)
        self._tell_if_idle()

    def on_closed(self) -> None:
        """Watcher: the folder is not the one that was opened."""
        self.leave()
        self.send("* BYE The mailbox is gone or has new numbers")
        self.push()
        self.connection.close()

    def _tell_if_idle(self) -> None:
        if self.is_idle and not self.faults.deaf_idle:
            self.tell_changes(may_expunge=True)
            self.push()

    def tell_changes(self, *, may_expunge: bool) -> None:
        """Queue what others did to the folder.

        Args:
            may_expunge: False during FETCH, STORE and SEARCH by sequence number.
        """
        if self.folder is None:
            return
        if may_expunge and self._gone:
            self._tell_expunged()
        if self._added:
            self.uids += [uid for uid in self._added if uid in self.folder.messages]
            self._added.clear()
            self.send(f"* {len(self.uids)} EXISTS")
        for uid in self._changed:
            message = self.folder.messages.get(uid)
            if message is not None and self.position(uid):
                self.send(self.flags_line(message))
        self._changed.clear()

    def _tell_expunged(self) -> None:
        told = [uid for uid in self.uids if uid in self._gone]
        if self.knows_qresync and told:
            known = encode_uid_set(compact_uids(told))
            self.send(f"* VANISHED {'1:' if self.faults.malformed_vanished else known}")
        elif not self.knows_qresync:
            for uid in reversed(told):  # from the end, so that earlier numbers stay right
                self.send(f"* {self.position(uid)} EXPUNGE")
        self._added = [uid for uid in self._added if uid not in self._gone]
        self.uids = [uid for uid in self.uids if uid not in self._gone]
        self._gone.clear()

    def flags_line(self, message: StoredMessage, *, with_flags: bool = True) -> str:
        """An untagged FETCH that tells the flags, and the mod-sequence to those who know it."""
        items = [f"UID {message.uid}"]
        if with_flags:
            items.append(f"FLAGS ({' '.join(sorted(message.flags))})")
        if self.knows_condstore and not self.faults.fetch_without_modseq:
            items.append(f"MODSEQ ({message.modseq})")
        return f"* {self.position(message.uid)} FETCH ({' '.join(items)})"

    def position(self, uid: int) -> int:
        """The sequence number of a UID in the view; 0: the client does not know it."""
        index = bisect_left(self.uids, uid)
        return index + 1 if index < len(self.uids) and self.uids[index] == uid else 0

    def pick(self, token: Token, *, by_uid: bool) -> list[int]:
        """The UIDs in the view that a sequence set or UID set names, ascending.

        Raises: CommandMalformed: no set, or a sequence number beyond the end.
        """
        text = read_atom(token)
        star = self.uids[-1] if by_uid and self.uids else len(self.uids)
        try:
            ranges = parse_uid_set(text, star or 1)
        except RemoteProtocolError as error:
            raise CommandMalformed(str(error)) from None
        if by_uid:
            return [uid for pair in ranges for uid in self._pick_range(pair)]
        if ranges[-1][1] > max(len(self.uids), 1 if "*" in text else 0):
            raise CommandMalformed("there is no message with that number")
        return [uid for first, last in ranges for uid in self.uids[first - 1 : last]]

    def _pick_range(self, pair: UidRange) -> Iterable[int]:
        return self.uids[bisect_left(self.uids, pair[0]) : bisect_right(self.uids, pair[1])]
