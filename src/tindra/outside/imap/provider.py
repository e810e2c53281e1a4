"""`MailProvider` over IMAP: from host name and password to an authenticated `ImapSession`.

Steps, each with a deadline and its own words for failure: resolve, connect, TLS, greeting, log in,
CAPABILITY, ID, ENABLE. TLS is verified unless the owner of the mailbox asked otherwise, and is at
least 1.2; with STARTTLS nothing is sent in the clear but STARTTLS itself, and a server that has
none is refused instead of trusted.

Sources: RFC 8314 s3, RFC 9051 s11, RFC 5161 s3.1, RFC 2971 s3.1.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final

import msgspec

from tindra.outside.imap.budget import OctetBudget
from tindra.outside.imap.client import HANDSHAKE_MS_MAX, ImapConnection
from tindra.outside.imap.quirks import Quirks, find_quirks
from tindra.outside.imap.session import ImapSession
from tindra.outside.imap.verdicts import judge_network, judge_status, judge_tls
from tindra.sync.ports import ProviderError, Rejected, ServerSettings, Transient
from tindra.wire.imap import verbs
from tindra.wire.imap.command import Command
from tindra.wire.imap.errors import LocalProtocolError
from tindra.wire.imap.machine import State

CONNECT_MS_MAX: Final = 15_000
"""One address: three SYNs are lost by then."""
LOGIN_MS_MAX: Final = 90_000
"""From the greeting to the last ENABLE; servers delay wrong passwords on purpose."""
ADDRESSES_MAX: Final = 4
"""Addresses of one name that are tried."""


class ImapProvider:
    """Opens sessions; see `tindra.sync.ports.MailProvider`. One object serves all accounts.

    Args:
        identity: what ID tells of us, such as {"name": ..., "version": ...}.
        tls: the context of verified connections; None: the system's authorities.
        choose_quirks: what is known of a host.
        is_address_allowed: whether an IP address may be connected to, so that a shared
            installation can keep its users off its own network; None: all.
        budget: what all its sessions may hold of large messages.
    """

    def __init__(
        self,
        identity: dict[str, str] | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        choose_quirks: Callable[[str], Quirks] = find_quirks,
        is_address_allowed: Callable[[str], bool] | None = None,
        budget: OctetBudget | None = None,
    ) -> None:
        self._identity = identity or {"name": "Tindra"}
        self._verified = tls
        self._unverified: ssl.SSLContext | None = None
        self._choose_quirks = choose_quirks
        self._is_address_allowed = is_address_allowed
        self._budget = budget or OctetBudget()

    async def connect(self, settings: ServerSettings, password: str) -> ImapSession:
        """Resolve, connect, secure, log in. Raises: as the port."""
        host = settings.host.strip().rstrip(".")
        if not host or not 0 < settings.port < 65536:
            raise Rejected("The settings name no mail server", code="LOCAL")
        settings = msgspec.structs.replace(settings, host=host)
        connection = await self._open(settings)
        try:
            async with asyncio.timeout(LOGIN_MS_MAX / 1000):
                return await self._log_in(connection, settings, password)
        except TimeoutError:
            connection.fail(Transient("The login took too long", code="SILENT"))
            raise Transient(f"{settings.host} did not finish the login", code="SILENT") from None
        except LocalProtocolError as error:
            connection.fail(Transient("The login was given up", code="CLOSED"))
            raise Rejected(f"The login cannot be sent: {error}", code="LOCAL") from error
        except BaseException:  # cancelled too: nobody else could close the socket
            connection.fail(Transient("The login was given up", code="CLOSED"))
            raise

    async def check(self, settings: ServerSettings, password: str) -> None:
        """Log in and leave. Raises: as `connect`."""
        session = await self.connect(settings, password)
        await session.close()

    async def probe(self, settings: ServerSettings) -> None:
        """Only see whether a server answers, without logging in. Raises: as `connect`."""
        host = settings.host.strip().rstrip(".")
        if not host or not 0 < settings.port < 65536:
            raise Rejected("The settings name no mail server", code="LOCAL")
        settings = msgspec.structs.replace(settings, host=host)
        connection = await self._open(settings)
        connection.fail(Transient("It was only a probe", code="CLOSED"))

    # --- network ------------------------------------------------------------------------------

    async def _open(self, settings: ServerSettings) -> ImapConnection:
        problem: ProviderError | None = None
        for address in await self._resolve(settings):
            try:
                async with asyncio.timeout((CONNECT_MS_MAX + HANDSHAKE_MS_MAX) / 1000):
                    return await self._open_address(settings, address)
            except ssl.SSLError as error:
                raise judge_tls(error, settings.host, settings.port) from error
            except OSError as error:  # TimeoutError is one
                problem = judge_network(error, settings.host, settings.port)
        assert problem is not None
        raise problem

    async def _resolve(self, settings: ServerSettings) -> list[str]:
        loop = asyncio.get_running_loop()
        host = settings.host
        try:
            async with asyncio.timeout(CONNECT_MS_MAX / 1000):
                found = await loop.getaddrinfo(host, settings.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise Transient(f"No mail server named {host} is known", code="UNREACHABLE") from error
        except TimeoutError:
            raise Transient(
                f"The name {host} could not be looked up in time", code="UNREACHABLE"
            ) from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if self._is_address_allowed is not None:
            addresses = [one for one in addresses if self._is_address_allowed(one)]
        if not addresses:
            raise Rejected(f"{host} is not a place that may be connected to", code="LOCAL")
        return addresses[:ADDRESSES_MAX]

    async def _open_address(self, settings: ServerSettings, address: str) -> ImapConnection:
        loop = asyncio.get_running_loop()
        if settings.tls == "implicit":
            _, connection = await loop.create_connection(
                self._new_connection,
                address,
                settings.port,
                ssl=self._context(settings),
                server_hostname=settings.host,
                ssl_handshake_timeout=HANDSHAKE_MS_MAX / 1000,
            )
        else:
            _, connection = await loop.create_connection(
                self._new_connection, address, settings.port
            )
        return connection

    def _new_connection(self) -> ImapConnection:
        return ImapConnection(lambda _: None, budget=self._budget)

    def _context(self, settings: ServerSettings) -> ssl.SSLContext:
        """Shared by all connections: a context holds a megabyte of authorities."""
        if settings.verify_tls:
            if self._verified is None:
                self._verified = ssl.create_default_context()
                self._verified.minimum_version = ssl.TLSVersion.TLSv1_2
            return self._verified
        if self._unverified is None:
            self._unverified = ssl.create_default_context()
            self._unverified.minimum_version = ssl.TLSVersion.TLSv1_2
            self._unverified.check_hostname = False
            self._unverified.verify_mode = ssl.CERT_NONE
        return self._unverified

    # --- conversation -------------------------------------------------------------------------

    async def _log_in(
        self, connection: ImapConnection, settings: ServerSettings, password: str
    ) -> ImapSession:
        greeting = await connection.greeting(is_secured=settings.tls == "implicit")
        if greeting.kind == "BYE":
            raise judge_status(greeting, "talk to us")
        if settings.tls == "starttls":
            await self._start_tls(connection, settings)
        if connection.machine.state is State.NOT_AUTHENTICATED:
            await self._authenticate(connection, settings, password)
        await _refresh_capabilities(connection)
        quirks = self._choose_quirks(settings.host)
        if "ID" in connection.machine.capabilities:
            await connection.run(verbs.identify(self._identity))
        await _enable(connection, quirks)
        return ImapSession(connection, quirks)

    async def _start_tls(self, connection: ImapConnection, settings: ServerSettings) -> None:
        machine = connection.machine
        if machine.state is not State.NOT_AUTHENTICATED:
            raise Rejected(
                f"{settings.host} starts a session before TLS can begin", code="TLS_MODE"
            )
        offered = not machine.is_capability_known or "STARTTLS" in machine.capabilities
        status = await connection.run(verbs.STARTTLS) if offered else None
        if status is None or status.kind != "OK":
            raise Rejected(
                f"{settings.host} has no STARTTLS on port {settings.port}; "
                "implicit TLS on another port may be right",
                server_words=status.text if status is not None else None,
                code="TLS_MODE",
            )
        try:
            await connection.start_tls(self._context(settings), settings.host)
        except ssl.SSLError as error:
            raise judge_tls(error, settings.host, settings.port) from error
        except OSError as error:
            raise judge_network(error, settings.host, settings.port) from error

    async def _authenticate(
        self, connection: ImapConnection, settings: ServerSettings, password: str
    ) -> None:
        await _refresh_capabilities(connection)
        capabilities = connection.machine.capabilities
        command = _choose_login(settings, password, capabilities)
        status = await connection.run(command)
        is_plain = command.name == "AUTHENTICATE" and settings.auth == "password"
        if is_plain and status.kind == "BAD" and "LOGINDISABLED" not in capabilities:
            # announced and not understood: the oldest way is left
            status = await connection.run(verbs.login(settings.username, password))
        if status.kind != "OK":
            error = judge_status(status, "log in", is_login=True)
            if connection.sasl_challenge and not error.server_words:
                error.server_words = connection.sasl_challenge[:500].decode("utf-8", "replace")
            raise error


def _choose_login(settings: ServerSettings, password: str, capabilities: frozenset[str]) -> Command:
    is_initial = "SASL-IR" in capabilities
    if settings.auth == "xoauth2":
        return verbs.authenticate_xoauth2(settings.username, password, is_initial=is_initial)
    if "AUTH=PLAIN" in capabilities:
        return verbs.authenticate_plain(settings.username, password, is_initial=is_initial)
    if "LOGINDISABLED" in capabilities:
        raise Rejected(
            f"{settings.host} accepts no password here; it may want TLS, or another way to sign in",
            code="TLS_MODE" if settings.tls == "none" else "LOGIN",
        )
    return verbs.login(settings.username, password)


async def _refresh_capabilities(connection: ImapConnection) -> None:
    if not connection.machine.is_capability_known:
        status = await connection.run(verbs.CAPABILITY)
        if status.kind != "OK":
            raise judge_status(status, "tell what it can do")


async def _enable(connection: ImapConnection, quirks: Quirks) -> None:
    """Turn on QRESYNC (which brings CONDSTORE); a refusal only means that it stays off."""
    capabilities = connection.machine.capabilities - quirks.lies
    if "ENABLE" not in capabilities and "IMAP4REV2" not in capabilities:
        return
    if "QRESYNC" in capabilities:
        await connection.run(verbs.enable("QRESYNC"))
    elif "CONDSTORE" in capabilities:
        await connection.run(verbs.enable("CONDSTORE"))
