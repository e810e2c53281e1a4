"""The submission server of the demo provider: takes mail from the owner and hands it to a callback.

In memory, on loopback; honest by default and wrong on demand (`faults`). It relays nothing.
Invariants: only CRLF "." CRLF ends a message (no smuggling by bare LF); nothing is taken before
login; after the callback has run the mail counts as taken, even if the answer is lost on purpose.
Sources: RFC 5321 s3, s4; RFC 1870 s6; RFC 2920 s3; RFC 3207 s4; RFC 4954 s4; RFC 6531 s3.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import re
import ssl
from collections.abc import Callable
from typing import Final, NoReturn

import msgspec

from tindra.app.demo.faults import Faults
from tindra.app.demo.starttls import start_tls
from tindra.base.clock import Clock

STOP_S_MAX: Final = 1.0
"""How long a conversation may take to end by itself; a TLS handshake would wait for a minute."""
READ_BYTES: Final = 64 * 1024
"""Asked of the socket at once."""
COMMAND_BYTES_MAX: Final = 12_288
"""A command line; long AUTH tokens included. Source: RFC 4954 s4"""
MESSAGE_BYTES_MAX: Final = 50 * 1024 * 1024
"""SIZE as announced when no fault changes it."""
RECIPIENTS_MAX: Final = 100
"""Of one message. Source: RFC 5321 s4.5.3.1.8"""
BAD_COMMANDS_MAX: Final = 20
"""Then the client is sent away."""
_PATH: Final = re.compile(r"(?:FROM|TO):\s*<([^<>\s]*)>(.*)", re.IGNORECASE)
_END: Final = b"\r\n.\r\n"


class SentMessage(msgspec.Struct, frozen=True):
    """A message that the server has taken."""

    sender: str
    recipients: tuple[str, ...]
    raw: bytes
    login: str
    time_ms: int
    options: tuple[str, ...] = ()
    """Parameters of MAIL, in capitals: `SIZE=120`, `SMTPUTF8`."""


class _Hangup(Exception):
    """The connection ends here: the client left, or a fault wants it so."""


class SmtpServer:
    """Listens and takes mail.

    Args:
        logins: user name (small letters) to password.
        on_message: called once for each message, before the client is told.
        tokens: bearer tokens that XOAUTH2 accepts.
        tls: offers STARTTLS when given.
    """

    def __init__(
        self,
        clock: Clock,
        faults: Faults,
        logins: dict[str, str],
        on_message: Callable[[SentMessage], None],
        tokens: frozenset[str] = frozenset(),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.clock = clock
        self.faults = faults
        self.logins = logins
        self.on_message = on_message
        self.tokens = tokens
        self.tls = tls
        self._conversations: set[_Conversation] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """Where it listens. Raises: RuntimeError: it does not."""
        if self._server is None:
            raise RuntimeError("the SMTP server has not been started")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one."""
        self._server = await asyncio.start_server(self._serve, host, port)

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        if self._server is not None:
            self._server.close()
            for conversation in tuple(self._conversations):
                conversation.close()
            if self._tasks:
                _, late = await asyncio.wait(self._tasks, timeout=STOP_S_MAX)
                for task in late:
                    task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
            await self._server.wait_closed()
            self._server = None

    def size_limit(self) -> int:
        """The largest message taken at the moment."""
        limit = self.faults.message_bytes_max
        return MESSAGE_BYTES_MAX if limit is None else limit

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None or not self._server.is_serving():
            writer.close()  # accepted in the moment of stopping
            return
        conversation = _Conversation(self, reader, writer)
        self._conversations.add(conversation)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await conversation.run()
        except (ConnectionError, ssl.SSLError, _Hangup):
            pass  # clients and faults hang up; nobody is left to be told
        finally:
            conversation.close()
            self._conversations.discard(conversation)


class _Conversation:
    """One connection."""

    def __init__(
        self, server: SmtpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()
        self._is_secure = False
        self._is_greeted = False
        self._is_leaving = False
        self._bad_commands = 0
        self._login: str | None = None
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._options: tuple[str, ...] = ()
        self._commands = {
            "EHLO": self._do_ehlo,
            "HELO": self._do_helo,
            "STARTTLS": self._do_starttls,
            "AUTH": self._do_auth,
            "MAIL": self._do_mail,
            "RCPT": self._do_rcpt,
            "DATA": self._do_data,
            "RSET": self._do_rset,
            "NOOP": self._do_noop,
            "VRFY": self._do_vrfy,
            "QUIT": self._do_quit,
        }

    def close(self) -> None:
        """Close after what was written."""
        self._writer.close()

    async def run(self) -> None:
        """Greet, then one command after the other."""
        if self._server.faults.smtp_busy:
            await self._say("421 4.3.2 The post office is very busy, please come back later")
            return
        await self._say("220 mx.tindra.test Tindra demo post office")
        while not self._is_leaving and self._bad_commands < BAD_COMMANDS_MAX:
            line = await self._read_line()
            verb, _, rest = line.partition(" ")
            command = self._commands.get(verb.upper())
            if command is None:
                await self._complain("500 5.5.2 That is no command I know")
            else:
                await command(rest.strip())

    # --- input and output -----------------------------------------------------------------------
    async def _say(self, *lines: str) -> None:
        """A reply; several lines are several lines of one reply."""
        *first, last = lines
        text = "".join(f"{line[:3]}-{line[4:]}\r\n" for line in first) + last + "\r\n"
        self._writer.write(text.encode())
        await self._writer.drain()

    async def _complain(self, line: str) -> None:
        self._bad_commands += 1
        await self._say(line)

    async def _fill(self) -> None:
        octets = await self._reader.read(READ_BYTES)
        if not octets:
            raise _Hangup
        self._buffer += octets

    async def _read_line(self) -> str:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > COMMAND_BYTES_MAX:
                await self._say("500 5.5.6 That line is too long")
                raise _Hangup
            await self._fill()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.decode("utf-8", "replace").rstrip("\r")

    async def _read_data(self) -> bytes | None:
        """What comes up to the final dot, unstuffed; None: it was too large and is forgotten."""
        limit, drop_at = self._server.size_limit(), self._server.faults.drop_in_data_at
        collected = bytearray(b"\r\n")  # so that a dot in the first line is found as well
        is_too_large = False
        seen = 0
        while True:
            collected += self._buffer
            self._buffer.clear()
            is_over = drop_at is not None and len(collected) - 2 >= drop_at
            if is_over and self._server.faults.take_drop():
                self._abort()
            end = collected.find(_END, seen)
            if end >= 0:
                self._buffer += collected[end + len(_END) :]
                break
            if is_too_large or len(collected) > limit + READ_BYTES:
                is_too_large = True
                del collected[: -len(_END)]  # keep what may be the beginning of the end
            seen = max(0, len(collected) - len(_END))
            await self._fill()
        message = bytes(collected[2 : end + 2]).replace(b"\r\n.", b"\r\n")
        if message.startswith(b"."):
            message = message[1:]
        return None if is_too_large or len(message) > limit else message

    def _abort(self) -> NoReturn:
        self._writer.transport.abort()
        raise _Hangup

    # --- commands -------------------------------------------------------------------------------
    async def _do_ehlo(self, _: str) -> None:
        self._is_greeted = True
        self._reset()
        offers = ["250 mx.tindra.test", "250 PIPELINING", f"250 SIZE {self._server.size_limit()}"]
        offers += ["250 8BITMIME", "250 SMTPUTF8", "250 ENHANCEDSTATUSCODES"]
        if self._server.tls is not None and not self._is_secure:
            offers.append("250 STARTTLS")
        bearer = " XOAUTH2" if self._server.tokens else ""
        await self._say(*offers, f"250 AUTH PLAIN LOGIN{bearer}")

    async def _do_helo(self, _: str) -> None:
        self._is_greeted = True
        self._reset()
        await self._say("250 mx.tindra.test")

    async def _do_noop(self, _: str) -> None:
        await self._say("250 2.0.0 Nothing done")

    async def _do_vrfy(self, _: str) -> None:
        await self._say("252 2.1.5 Try and see")

    async def _do_rset(self, _: str) -> None:
        self._reset()
        await self._say("250 2.0.0 Forgotten")

    async def _do_quit(self, _: str) -> None:
        self._is_leaving = True
        await self._say("221 2.0.0 Until next time")

    async def _do_starttls(self, _: str) -> None:
        if self._server.tls is None or self._is_secure:
            await self._complain("503 5.5.1 STARTTLS is not possible now")
            return
        if self._buffer:  # commands smuggled in before the handshake
            await self._say("503 5.5.1 Nothing may follow STARTTLS")
            raise _Hangup
        await self._say("220 2.0.0 Begin TLS")
        await start_tls(self._writer, self._server.tls)
        self._is_secure, self._is_greeted, self._login = True, False, None
        self._reset()

    async def _do_auth(self, rest: str) -> None:
        mechanism, _, initial = rest.partition(" ")
        if self._login is not None:
            await self._complain("503 5.5.1 You are logged in already")
            return
        try:
            login = await self._authenticate(mechanism.upper(), initial.strip())
        except (binascii.Error, ValueError):
            await self._complain("501 5.5.2 That was no base64")
            return
        if login is None:
            await self._complain("504 5.5.4 Unknown mechanism")
        elif self._server.faults.smtp_refuse_login or not login:
            await self._complain("535 5.7.8 Invalid credentials")
        else:
            self._login = login
            await self._say("235 2.7.0 Welcome")

    async def _authenticate(self, mechanism: str, initial: str) -> str | None:
        """The user's name; empty: refused; None: unknown mechanism."""
        if mechanism == "PLAIN":
            pieces = (await self._answer_to("", initial)).split("\0")
            return self._check_password(*pieces[1:]) if len(pieces) == 3 else ""
        if mechanism == "LOGIN":
            user = await self._answer_to("Username:", initial)
            return self._check_password(user, await self._answer_to("Password:", ""))
        if mechanism == "XOAUTH2" and self._server.tokens:
            answer = await self._answer_to("", initial)
            fields = dict(field.partition("=")[::2] for field in answer.split("\x01"))
            is_known = fields.get("auth", "").removeprefix("Bearer ") in self._server.tokens
            if is_known and fields.get("user", "").lower() in self._server.logins:
                return fields["user"]
            await self._answer_to('{"status":"400","schemes":"bearer"}', "")
            return ""
        return None

    async def _answer_to(self, challenge: str, initial: str) -> str:
        if not initial:
            await self._say("334 " + base64.b64encode(challenge.encode()).decode())
            initial = await self._read_line()
        encoded = "" if initial == "=" else initial
        return base64.b64decode(encoded, validate=True).decode("utf-8", "replace")

    def _check_password(self, user: str, password: str) -> str:
        known = self._server.logins.get(user.lower())
        is_right = known is not None and hmac.compare_digest(known.encode(), password.encode())
        return user if is_right else ""

    async def _do_mail(self, rest: str) -> None:
        match = _PATH.fullmatch(rest)
        if not self._is_greeted or self._sender is not None:
            await self._complain("503 5.5.1 Not now")
        elif self._login is None:
            await self._complain("530 5.7.0 Please log in first")
        elif match is None or not rest.upper().startswith("FROM:"):
            await self._complain("501 5.5.4 MAIL FROM:<address> was expected")
        else:
            options = tuple(match[2].upper().split())
            refusal = self._refuse_options(match[1], options)
            if refusal:
                await self._say(refusal)
                return
            self._sender, self._options = match[1], options
            await self._say("250 2.1.0 Good")

    def _refuse_options(self, address: str, options: tuple[str, ...]) -> str:
        for option in options:
            name, _, value = option.partition("=")
            if name not in ("SIZE", "BODY", "SMTPUTF8", "AUTH"):
                return "555 5.5.4 Unknown parameter"
            if name == "SIZE" and (not value.isascii() or not value.isdigit() or len(value) > 20):
                return "501 5.5.4 SIZE takes a number"
            if name == "SIZE" and int(value) > self._server.size_limit():
                return "552 5.3.4 Too large"
            if name == "BODY" and value not in ("7BIT", "8BITMIME"):
                return "501 5.5.4 Unknown BODY"
        if not address.isascii() and "SMTPUTF8" not in options:
            return "553 5.6.7 Such an address needs SMTPUTF8"
        return ""

    async def _do_rcpt(self, rest: str) -> None:
        faults, match = self._server.faults, _PATH.fullmatch(rest)
        if self._sender is None:
            await self._complain("503 5.5.1 MAIL comes first")
        elif match is None or not rest.upper().startswith("TO:") or "@" not in match[1]:
            await self._complain("501 5.1.3 RCPT TO:<address> was expected")
        elif not match[1].isascii() and "SMTPUTF8" not in self._options:
            await self._say("553 5.6.7 Such an address needs SMTPUTF8")
        elif len(self._recipients) >= RECIPIENTS_MAX:
            await self._say("452 4.5.3 Too many recipients")
        elif faults.refuse_recipients & {match[1].lower(), "*"}:
            await self._say("550 5.1.1 Nobody of that name lives here")
        elif faults.greylist_recipients > 0:
            faults.greylist_recipients -= 1
            await self._say("451 4.7.1 Please try again in a little while")
        else:
            self._recipients.append(match[1])
            await self._say("250 2.1.5 Good")

    async def _do_data(self, _: str) -> None:
        if self._sender is None or not self._recipients or self._login is None:
            await self._complain("503 5.5.1 RCPT comes first")
            return
        await self._say("354 End with a dot on a line of its own")
        raw = await self._read_data()
        if raw is None:
            self._reset()
            await self._say("552 5.3.4 Too large")
            return
        sent = SentMessage(
            sender=self._sender,
            recipients=tuple(self._recipients),
            raw=raw,
            login=self._login,
            time_ms=self._server.clock.now_ms(),
            options=self._options,
        )
        self._reset()
        self._server.on_message(sent)
        if self._server.faults.lose_final_250 and self._server.faults.take_drop():
            self._abort()
        await self._say("250 2.0.0 Taken")

    def _reset(self) -> None:
        self._sender = None
        self._recipients = []
        self._options = ()
