"""`MessageSender` over SMTP submission: one message, one session (RFC 6409, RFC 5321).

What matters is to know when nothing was sent. The line of no return is the final dot: until it
has been handed to the network, a lost connection is only `Transient`; from then on, without an
answer, the outcome is `Uncertain`.
Sources: RFC 5321 s4.5.3.2, RFC 4954 s4, RFC 3207 s4, RFC 8314 s3.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, cast

import aiosmtplib
from aiosmtplib.protocol import SMTPProtocol

from tindra.outside.imap.verdicts import judge_network, judge_tls
from tindra.outside.smtp.commands import (
    encode_data,
    encode_mail_parameters,
    encode_path,
    encode_rcpt_parameters,
    make_reply,
    needs_utf8,
)
from tindra.sync.ports import (
    AuthRevoked,
    ProviderError,
    Rejected,
    ServerSettings,
    Throttled,
    Transient,
)
from tindra.sync.submission import Envelope, Recipient, RecipientReply, Uncertain

CONNECT_MS_MAX: Final = 30_000
"""Name look-up, TCP, TLS and greeting: tarpits take some 20 s for the last."""
COMMAND_MS_MAX: Final = 300_000
"""RFC 5321 s4.5.3.2: MAIL and RCPT may take five minutes."""
ENVELOPE_MS_MAX: Final = 900_000
"""MAIL and all RCPT together, so that a server cannot hold us for hours, one reply at a time."""
DATA_MS_MAX: Final = 1_200_000
"""The message and the answer to its end: ten minutes are the server's right, large ones take
longer to send. Giving up earlier makes uncertain what was merely slow."""
QUIT_MS_MAX: Final = 3_000
"""Politeness; the outcome is known by then and must not wait."""
_FLUSH_MS: Final = 20
"""How often to look whether the network has taken the message."""
_AUTH_ORDER: Final = ("plain", "login", "cram-md5")


class SmtpSender:
    """See `tindra.sync.submission.MessageSender`. One object serves all accounts.

    Args:
        ehlo_name: what EHLO says; must not tell more about the machine than its owner wants.
        tls: the context of verified connections; None: the system's authorities.
        is_address_allowed: whether an IP address may be connected to; None: all.
    """

    def __init__(
        self,
        ehlo_name: str = "localhost",
        *,
        tls: ssl.SSLContext | None = None,
        is_address_allowed: Callable[[str], bool] | None = None,
    ) -> None:
        self._ehlo_name = ehlo_name
        self._verified = tls
        self._unverified: ssl.SSLContext | None = None
        self._is_address_allowed = is_address_allowed

    async def submit(
        self,
        settings: ServerSettings,
        password: str,
        envelope: Envelope,
        raw: bytes,
        before_data: Callable[[], Awaitable[None]],
    ) -> list[RecipientReply]:
        """Send one message. Raises: as the port, and what `before_data` raises."""
        async with self._signed_in(settings, password) as client:
            replies = await _Transaction(client, envelope, encode_data(raw), before_data).run()
            await _quit(client)
        return replies

    async def check(self, settings: ServerSettings, password: str) -> None:
        """Sign in and leave. Raises: Transient, Throttled, AuthRevoked, Rejected."""
        async with self._signed_in(settings, password) as client:
            await _quit(client)

    # --- network ------------------------------------------------------------------------------

    @asynccontextmanager
    async def _signed_in(
        self, settings: ServerSettings, password: str
    ) -> AsyncIterator[aiosmtplib.SMTP]:
        """A session; what goes wrong in it is told as ProviderError."""
        client = await self._connect(settings)
        try:
            await _log_in(client, settings, password)
            yield client
        except aiosmtplib.SMTPTimeoutError as error:
            raise Transient("The mail server stopped answering", code="SILENT") from error
        except aiosmtplib.SMTPServerDisconnected as error:
            raise Transient("The mail server closed the connection", code="CLOSED") from error
        except aiosmtplib.SMTPResponseException as error:
            raise judge_reply(error.code, error.message, "go on") from error
        except ValueError as error:
            # Nothing that was checked on its way in looks like this.
            raise Rejected(f"The envelope cannot be sent: {error}", code="LOCAL") from error
        finally:
            client.close()

    async def _connect(self, settings: ServerSettings) -> aiosmtplib.SMTP:
        try:
            async with asyncio.timeout(CONNECT_MS_MAX / 1000):
                open_socket = await self._open_socket(settings)
                return await self._greet(settings, open_socket)
        except ssl.SSLError as error:
            raise judge_tls(error, settings.host, settings.port) from error
        except aiosmtplib.SMTPException as error:
            raise _judge_greeting(error, settings) from error
        except OSError as error:  # TimeoutError is one
            raise judge_network(error, settings.host, settings.port) from error

    async def _open_socket(self, settings: ServerSettings) -> socket.socket:
        """Connected to the first address that answers. Raises: OSError, ProviderError."""
        loop = asyncio.get_running_loop()
        host = settings.host.strip().rstrip(".")
        if not host or not 0 < settings.port < 65536:
            raise Rejected("The settings name no mail server", code="LOCAL")
        try:
            found = await loop.getaddrinfo(host, settings.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise Transient(f"No mail server named {host} is known", code="UNREACHABLE") from error
        problem: OSError | None = None
        for family, kind, proto, _, address in found:
            if self._is_address_allowed is not None and not self._is_address_allowed(
                str(address[0])
            ):
                continue
            one = socket.socket(family, kind, proto)
            one.setblocking(False)
            try:
                await loop.sock_connect(one, address)
            except OSError as error:
                one.close()
                problem = error
            except BaseException:  # cancelled: nobody else could close the socket
                one.close()
                raise
            else:
                return one
        if problem is None:
            raise Rejected(f"{host} is not a place that may be connected to", code="LOCAL")
        raise problem

    async def _greet(self, settings: ServerSettings, open_socket: socket.socket) -> aiosmtplib.SMTP:
        context = None
        if settings.tls != "none":
            context = await asyncio.to_thread(self._get_context, settings.verify_tls)
        client = aiosmtplib.SMTP(
            hostname=settings.host.strip().rstrip("."),
            sock=open_socket,
            use_tls=settings.tls == "implicit",
            start_tls=settings.tls == "starttls",
            tls_context=context,
            local_hostname=self._ehlo_name,
            timeout=COMMAND_MS_MAX / 1000,
        )
        try:
            await client.connect(timeout=CONNECT_MS_MAX / 1000)
            await client.ehlo()
        except BaseException:
            # Whatever went wrong, on the way up nobody else knows this socket.
            client.close()
            open_socket.close()
            raise
        return client

    def _get_context(self, verify: bool) -> ssl.SSLContext:
        """Loading the authorities takes some 20 ms, so each context is made once, in a thread."""
        if verify:
            if self._verified is None:
                self._verified = ssl.create_default_context()
            return self._verified
        if self._unverified is None:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self._unverified = context
        return self._unverified


def judge_reply(code: int, message: str, doing: str) -> ProviderError:
    """The error for a reply that was not the one hoped for. Source: RFC 5321 s4.2.1, RFC 3463 s3"""
    words = make_reply(code, message)
    if code in (530, 534, 535) or message.startswith("5.7.8"):
        return AuthRevoked("The mail server wants us to sign in anew", server_words=words)
    if code == 421 or message.startswith(("4.7.", "4.3.2", "4.4.5")):
        return Throttled("The mail server asks us to slow down", server_words=words)
    if 400 <= code < 500:
        return Transient(f"The mail server would not {doing} now", server_words=words)
    if 500 <= code < 600:
        return Rejected(f"The mail server refused to {doing}", server_words=words)
    return Transient(
        "The mail server said what makes no sense", server_words=words, code="PROTOCOL"
    )


def _judge_greeting(error: aiosmtplib.SMTPException, settings: ServerSettings) -> ProviderError:
    """The error for a session that did not come up."""
    cause = error.__cause__
    if isinstance(cause, ssl.SSLError):
        return judge_tls(cause, settings.host, settings.port)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return judge_reply(error.code, error.message, "serve us")
    if isinstance(error, TimeoutError):
        return judge_network(error, settings.host, settings.port)
    if isinstance(error, OSError):
        text = f"{settings.host} closed the connection on port {settings.port} at once"
        return Transient(text, code="UNREACHABLE")
    return Rejected(f"{settings.host} offers no STARTTLS on port {settings.port}", code="TLS_MODE")


async def _log_in(client: aiosmtplib.SMTP, settings: ServerSettings, password: str) -> None:
    """Sign in once: a second method with the same password would only count as a second failure.

    Raises: AuthRevoked, Rejected, and what the connection raises. Source: RFC 4954 s4
    """
    if not settings.username:
        return
    offered = client.server_auth_methods
    try:
        if settings.auth == "xoauth2":
            await client.auth_xoauth2(settings.username, password)
        elif (method := next((m for m in _AUTH_ORDER if m in offered), None)) is None:
            raise Rejected("The mail server offers no way to sign in that we know", code="LOGIN")
        elif method == "plain":
            await client.auth_plain(settings.username, password)
        elif method == "login":
            await client.auth_login(settings.username, password)
        else:
            await client.auth_crammd5(settings.username, password)
    except aiosmtplib.SMTPAuthenticationError as error:
        words = make_reply(error.code, error.message)
        if 400 <= error.code < 500:
            raise judge_reply(error.code, error.message, "let us sign in") from error
        raise AuthRevoked(
            "The mail server did not accept the user name or password",
            server_words=words,
            code="LOGIN",
        ) from error


async def _quit(client: aiosmtplib.SMTP) -> None:
    try:
        await client.quit(timeout=QUIT_MS_MAX / 1000)
    except (aiosmtplib.SMTPException, OSError):
        pass  # it was only politeness


class _Transaction:
    """MAIL, RCPT and DATA of one message in one session."""

    def __init__(
        self,
        client: aiosmtplib.SMTP,
        envelope: Envelope,
        data: bytes,
        before_data: Callable[[], Awaitable[None]],
    ) -> None:
        self._client = client
        self._envelope = envelope
        self._data = data
        self._before_data = before_data
        self._extensions = client.esmtp_extensions
        has_wide = needs_utf8(envelope, data)
        self._has_utf8 = has_wide and client.supports_extension("smtputf8")

    async def run(self) -> list[RecipientReply]:
        """One reply for each recipient, in order."""
        self._check_size()
        try:
            async with asyncio.timeout(ENVELOPE_MS_MAX / 1000):
                await self._mail()
                replies = [await self._rcpt(one) for one in self._envelope.recipients]
        except TimeoutError as error:
            raise Transient("The mail server takes too long", code="SILENT") from error
        if not any(reply.code < 300 for reply in replies):
            return replies
        await self._before_data()
        answer = await self._send_data()
        if answer.code < 300:
            return replies
        text = make_reply(answer.code, answer.message)
        return [RecipientReply(r.email, answer.code, text) if r.code < 300 else r for r in replies]

    def _check_size(self) -> None:
        """Raises: Rejected for a message the server said it would not take. RFC 1870 s6.1"""
        limit = self._extensions.get("size", "").strip()
        if limit.isascii() and limit.isdigit() and 0 < int(limit[:18]) < len(self._data):
            raise Rejected(
                f"The mail server takes no message above {int(limit[:18])} octets",
                server_words="552 5.3.4 Message too big for system",
                code="TOOBIG",
            )

    async def _mail(self) -> None:
        path = encode_path(self._envelope.mail_from, self._has_utf8)
        if path is None:
            raise Rejected(
                "The mail server cannot send from an address with such letters",
                server_words="553 5.6.7 Non-ASCII sender address",
            )
        options = encode_mail_parameters(
            self._envelope, self._data, self._extensions, self._has_utf8
        )
        reply = await self._client.execute_command(b"MAIL", b"FROM:" + path, *options)
        if reply.code >= 300:
            raise judge_reply(reply.code, reply.message, "send from this address")

    async def _rcpt(self, recipient: Recipient) -> RecipientReply:
        path = encode_path(recipient.email, self._has_utf8)
        if path is None:
            return RecipientReply(recipient.email, 553, "553 5.6.7 Non-ASCII recipient address")
        options = encode_rcpt_parameters(recipient, self._extensions)
        reply = await self._client.execute_command(b"RCPT", b"TO:" + path, *options)
        if reply.code == 421 or not 200 <= reply.code < 600 or 300 <= reply.code < 400:
            raise judge_reply(reply.code, reply.message, "take a recipient")
        return RecipientReply(recipient.email, reply.code, make_reply(reply.code, reply.message))

    async def _send_data(self) -> aiosmtplib.SMTPResponse:
        """The server's last word. Raises: Transient: surely not taken; Uncertain."""
        started = await self._client.execute_command(b"DATA")
        if started.code != 354:
            if started.code < 400:
                raise judge_reply(started.code, started.message, "take the message")
            return started
        protocol = self._client.protocol
        if protocol is None or not protocol.is_connected:
            raise Transient("The mail server closed the connection", code="CLOSED")
        is_ended, answer = await self._transmit(protocol)
        if isinstance(answer, aiosmtplib.SMTPException):
            if is_ended:
                raise Uncertain(
                    "The connection was lost before the mail server answered", code="CLOSED"
                ) from answer
            raise answer
        if not 200 <= answer.code < 600 or 300 <= answer.code < 400:
            raise Uncertain(
                "The mail server said what makes no sense",
                server_words=make_reply(answer.code, answer.message),
                code="PROTOCOL",
            )
        if not is_ended and answer.code < 400:
            raise Transient("The mail server answered before the message ended", code="PROTOCOL")
        return answer

    async def _transmit(
        self, protocol: SMTPProtocol
    ) -> tuple[bool, aiosmtplib.SMTPResponse | aiosmtplib.SMTPException]:
        """Whether the final dot went out, and what came back.

        Reading begins first: a server may refuse in the middle of a message.
        """

        async def read() -> aiosmtplib.SMTPResponse | aiosmtplib.SMTPException:
            try:
                return await protocol.read_response(timeout=DATA_MS_MAX / 1000)
            except aiosmtplib.SMTPException as error:
                return error

        is_ended = False
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(read())
            await asyncio.sleep(0)  # so that it listens before anything is said
            try:
                protocol.write(self._data)
                while not reading.done() and _has_unsent(protocol):
                    await asyncio.wait([reading], timeout=_FLUSH_MS / 1000)
                if not reading.done():
                    protocol.write(b".\r\n")
                    is_ended = True
            except aiosmtplib.SMTPServerDisconnected:
                pass  # the reader is told too
        return is_ended, reading.result()


def _has_unsent(protocol: SMTPProtocol) -> bool:
    """Whether octets wait here, not in the network."""
    transport = cast("asyncio.WriteTransport | None", protocol.transport)
    return transport is not None and transport.get_write_buffer_size() > 0
