"""What the mirror engine asks of a mail provider: plain values, protocols and errors; no behaviour.

`outside/imap` implements it; the engine and its tests know nothing else of a provider. One
`MailSession` is one authenticated connection with at most one mailbox selected. Its methods are
called one after the other; cancelling one leaves the session usable (the next call first waits for
what is still on the wire) or closed, never confused.

Everything told here is what the *server said*; nothing is made up to fill a gap: None means that
the server was silent. Whatever a server tells unasked is kept: `idle` then returns at once. An
answer that contradicts itself (messages exist but none is listed) is an error, never empty.

UIDs are 1 to 2**32-1. Sets are lists of (first, last), both inclusive, ascending and disjoint; a
last of 2**32-1 means "and everything above". Times are UTC milliseconds, sizes are octets. Kinds
of errors are named for what the caller must do about them, so their names carry no suffix.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Literal, Protocol

import msgspec


class ProviderError(Exception):
    """Root of what a provider can do to us. Raised as one of its kinds.

    Args:
        message: one sentence in plain words that can be shown to the owner of the mailbox.
        server_words: what the server itself said, bounded and cleaned; None if it said nothing.
        code: a short stable name of the cause: an IMAP response code such as TRYCREATE, or one of
            UNREACHABLE, TLS_MODE, CERTIFICATE, LOGIN, PROTOCOL, SILENT, CLOSED, LOCAL.
    """

    def __init__(
        self, message: str, *, server_words: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.server_words = server_words
        self.code = code

    def __str__(self) -> str:
        return f"{self.message} ({self.server_words})" if self.server_words else self.message


class Transient(ProviderError):
    """It may work later without anyone doing something: network, overload, a dropped connection.

    Args:
        retry_after_ms: what the server asked for; None: the retry policy decides.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after_ms: int | None = None,
        server_words: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, server_words=server_words, code=code)
        self.retry_after_ms = retry_after_ms


class Throttled(Transient):
    """We ask too much of this provider: fewer connections, longer pauses."""


class AuthRevoked(ProviderError):
    """The credentials are refused; only their owner can cure it."""


class Rejected(ProviderError):
    """The server understood and said no; the same request will fail again."""


class RemoteMailbox(msgspec.Struct, frozen=True):
    """A mailbox as the provider lists it."""

    name: str
    """Full path in Unicode, never re-cased; the key for every other call."""
    delimiter: str | None
    """Splits the path into levels; None: the name space is flat."""
    role: str | None
    """JMAP role (`inbox`, `sent`, ...), at most one mailbox each."""
    selectable: bool
    """False: only a node of the tree, it can hold no messages."""


class RemoteStatus(msgspec.Struct, frozen=True):
    """The counters of a mailbox."""

    uid_validity: int
    """Never 0: a server that tells no usable value gives an error instead."""
    uid_next: int | None
    exists: int
    highest_modseq: int | None
    """None: no CONDSTORE in this mailbox."""


class RemoteQuota(msgspec.Struct, frozen=True):
    """How much of one resource of one quota root is used. Source: RFC 9208 s4.2"""

    root: str
    """Its name; may be empty."""
    resource: str
    """Upper case: STORAGE counts 1,024 octets, MESSAGE messages; there are others."""
    used: int
    limit: int


class RemoteMessage(msgspec.Struct, frozen=True):
    """What the server told of one message."""

    uid: int
    flags: frozenset[str]
    """Without `\\Recent`; empty also when the server was silent on flags (see `has_flags`)."""
    internal_date_ms: int | None
    size: int | None
    modseq: int | None
    raw: bytes | None
    """The message; None: not asked, or larger than `fetch_messages` carries."""
    has_flags: bool = True
    """False: the answer had no FLAGS item, so `flags` says nothing."""


class Known(msgspec.Struct, frozen=True):
    """What the caller remembers of a mailbox from its last visit."""

    uid_validity: int
    highest_modseq: int


class Selected(msgspec.Struct, frozen=True):
    """The answer to `select`."""

    status: RemoteStatus
    changed: list[RemoteMessage]
    """Flags changed or message new since `Known`; meaningful only if `is_resynced`."""
    vanished: list[tuple[int, int]]
    """UIDs gone since `Known`; may name UIDs the caller never knew."""
    is_resynced: bool
    """True: `changed` and `vanished` together are everything that happened since `Known`."""
    permanent_flags: frozenset[str]
    r"""Flags that can be kept; `\*` in it: any new keyword too."""
    read_only: bool


class ServerSettings(msgspec.Struct, frozen=True):
    """Where and how to connect."""

    host: str
    port: int
    tls: Literal["implicit", "starttls", "none"]
    username: str
    verify_tls: bool = True
    """False only on the owner's explicit wish: accepts any certificate."""
    auth: Literal["password", "xoauth2"] = "password"
    """What the `password` of `connect` is: a password or an OAuth access token."""


class MailSession(Protocol):
    """One authenticated connection. Every method may raise a `ProviderError` kind.

    After `Transient` with code CLOSED, SILENT or PROTOCOL the session is dead: connect anew.
    """

    @property
    def capabilities(self) -> frozenset[str]:
        """What the server can do, upper case, after login and less the known lies of this host."""
        ...

    async def list_mailboxes(self) -> list[RemoteMailbox]:
        """All mailboxes. Raises: Transient: the server listed none at all."""
        ...

    async def status(self, name: str) -> RemoteStatus:
        """The counters of a mailbox, without selecting it."""
        ...

    async def load_quotas(self) -> list[RemoteQuota]:
        """The quotas that hold for the inbox; none where the server counts nothing."""
        ...

    async def select(self, name: str, known: Known | None = None) -> Selected:
        """Make `name` the mailbox that the following calls work on.

        Args:
            known: asks for all changes since then (QRESYNC) where the server can.
        """
        ...

    async def list_uids(self) -> list[int]:
        """All UIDs of the selected mailbox, ascending."""
        ...

    async def fetch_flags(
        self, uids: list[tuple[int, int]], changed_since: int | None = None
    ) -> list[RemoteMessage]:
        """Flags (and mod-sequences) of those of `uids` that exist, ascending by uid.

        Args:
            changed_since: only what has a higher mod-sequence; needs CONDSTORE.
        """
        ...

    def fetch_messages(self, uids: Sequence[int], bytes_max: int) -> AsyncIterator[RemoteMessage]:
        """Whole messages as they arrive, in the server's order within each batch; batches keep the
        order of `uids`, so the caller's priority (newest first) holds. Nothing is marked as read.

        Who asks for the next message, or closes the stream, has let go of a large one before it
        (limits.LARGE_MESSAGE_BYTES_MIN): others may wait for its room.

        UIDs that no longer exist are silently missing. A message above the adapter's own bound
        comes with `raw` None and its size.

        Args:
            bytes_max: octets held in memory at most while the consumer is busy (plus one message).
        """
        ...

    async def store_flags(
        self, uids: Sequence[int], add: Sequence[str], remove: Sequence[str]
    ) -> None:
        """Add and remove flags; UIDs that no longer exist are ignored."""
        ...

    async def move(self, uids: Sequence[int], target: str) -> dict[int, int]:
        """Move to another mailbox; {old uid: new uid} as far as the server told.

        Raises: Rejected: code TRYCREATE: no such mailbox.
        """
        ...

    async def copy(self, uids: Sequence[int], target: str) -> dict[int, int]:
        """Copy to another mailbox; result and errors as `move`."""
        ...

    async def expunge(self, uids: Sequence[int]) -> None:
        """Delete these messages for good, and no others.

        Raises: Rejected: code NOUIDPLUS: the server could only delete others with them; they
            stay, marked as deleted.
        """
        ...

    async def append(
        self, name: str, raw: bytes, flags: Sequence[str], internal_date_ms: int | None
    ) -> tuple[int, int] | None:
        """Store a message; (uid_validity, uid) if told. Raises: Rejected: TRYCREATE, TOOBIG."""
        ...

    async def create_mailbox(self, name: str) -> None:
        """Create (and subscribe to) a mailbox. Raises: Rejected: code ALREADYEXISTS, ..."""
        ...

    async def rename_mailbox(self, name: str, new_name: str) -> None:
        """Rename; inner mailboxes follow."""
        ...

    async def delete_mailbox(self, name: str) -> None:
        """Delete a mailbox and everything in it."""
        ...

    async def idle(self, timeout_ms: int) -> bool:
        """Wait for news of the selected mailbox.

        True as soon as something changed or had changed unnoticed since the last call; False at
        the timeout. Servers without IDLE are asked again and again at a slow pace.
        """
        ...

    async def noop(self) -> None:
        """A sign of life in both directions."""
        ...

    async def close(self) -> None:
        """Say good-bye and disconnect; never raises, may be repeated."""
        ...


class MailProvider(Protocol):
    """Opens sessions."""

    async def connect(self, settings: ServerSettings, password: str) -> MailSession:
        """Resolve, connect, secure, log in.

        Raises: Transient: UNREACHABLE and whatever else time may cure; AuthRevoked: LOGIN;
            Rejected: CERTIFICATE, TLS_MODE, LOCAL; Throttled.
        """
        ...
