"""The SMTP client against the demo's post office, and against servers that misbehave by script.

Source: RFC 5321 s4, RFC 3207 s4, RFC 4954 s4, RFC 8621 s7
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.jmap.mail_fixture import OWN, TEXT, VALUES, create_email, make_raw
from tests.virtual_clock import VirtualClock
from tests.world import World
from tindra.app.demo.faults import Faults
from tindra.app.demo.smtp_server import SentMessage, SmtpServer
from tindra.base.ids import AccountId
from tindra.outside.smtp import sender as sender_module
from tindra.outside.smtp.commands import encode_data, encode_path, encode_xtext, make_reply
from tindra.outside.smtp.sender import SmtpSender
from tindra.sync.ports import (
    AuthRevoked,
    ProviderError,
    Rejected,
    ServerSettings,
    Throttled,
    Transient,
)
from tindra.sync.submission import (
    Envelope,
    Recipient,
    RecipientReply,
    Route,
    SubmissionRunner,
    Uncertain,
    Withdrawn,
)

FRIEND = "zoe@example.net"
RAW = make_raw(From=OWN)


class PostOffice:
    """The demo's submission server, and what it took."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.faults = Faults()
        self.taken: list[SentMessage] = []
        self.tls = tls
        self.server = SmtpServer(
            VirtualClock(),
            self.faults,
            {OWN: "secret"},
            self.taken.append,
            frozenset({"token"}),
            tls,
        )
        self.sender = SmtpSender()
        self.is_committed = False

    def settings(self, **changes: Any) -> ServerSettings:
        given: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": self.server.port,
            "tls": "none",
            "username": OWN,
        } | changes
        return ServerSettings(**given)

    async def before_data(self) -> None:
        """What the runner does before the message goes out."""
        assert not self.is_committed
        assert self.taken == []
        self.is_committed = True

    async def submit(
        self,
        raw: bytes = RAW,
        to: tuple[str, ...] = (FRIEND,),
        mail_from: str = OWN,
        password: str = "secret",
        **changes: Any,
    ) -> list[RecipientReply]:
        envelope = Envelope(mail_from, {}, tuple(Recipient(email) for email in to))
        return await self.sender.submit(
            self.settings(**changes), password, envelope, raw, self.before_data
        )

    async def fail(self, kind: type[ProviderError], **changes: Any) -> ProviderError:
        """A submission that must end in exactly this kind of error."""
        with pytest.raises(kind) as caught:
            await self.submit(**changes)
        assert type(caught.value) is kind
        return caught.value


@asynccontextmanager
async def open_office(tls: ssl.SSLContext | None = None) -> AsyncIterator[PostOffice]:
    office = PostOffice(tls)
    await office.server.start()
    try:
        yield office
    finally:
        await office.server.stop()


# --- what goes over the line --------------------------------------------------------------------


async def test_a_message_arrives_as_it_was() -> None:
    async with open_office() as office:
        replies = await office.submit(to=(FRIEND, "ann@example.net"))
        [sent] = office.taken
    assert sent.raw == RAW
    assert (sent.sender, sent.recipients) == (OWN, (FRIEND, "ann@example.net"))
    assert sent.login == OWN
    assert f"SIZE={len(RAW)}" in sent.options
    assert [reply.text for reply in replies] == ["250 2.1.5 Good"] * 2
    assert [reply.email for reply in replies] == [FRIEND, "ann@example.net"]
    assert office.is_committed


@pytest.mark.parametrize(
    "body",
    [
        b".\r\n",
        b"..\r\n.x\r\n",
        b"a\n.\nMAIL FROM:<x@y.test>\n",
        b"a\r\n.\nb",
        b"a\n.\r\nb",
        b"a\r.\rb",
        b"a\r\n.\rDATA\r\n",
        b"no end of line",
        b"\r\n\r\n.\r\n\r\n",
        b"a\r\r\n.\r\r\nb",
    ],
)
async def test_nothing_in_a_message_ends_it(body: bytes) -> None:
    async with open_office() as office:
        await office.submit(raw=b"Subject: x\r\n\r\n" + body)
    [sent] = office.taken
    lines = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    expected = b"\r\n".join(lines if lines[-1] else lines[:-1]) + b"\r\n"
    assert sent.raw == b"Subject: x\r\n\r\n" + expected


async def test_a_large_message_arrives_whole() -> None:
    raw = RAW + b"".join(b"line %d of many\r\n" % number for number in range(300_000))
    async with open_office() as office:
        await office.submit(raw=raw)
    assert office.taken[0].raw == raw


async def test_eight_bit_and_wide_addresses_are_announced() -> None:
    async with open_office() as office:
        await office.submit(raw=RAW + "Blåbär\r\n".encode(), to=("zoë@exämple.test",))
    [sent] = office.taken
    assert sent.recipients == ("zoë@exämple.test",)
    assert {"BODY=8BITMIME", "SMTPUTF8"} <= set(sent.options)


async def test_only_a_wide_domain_is_written_in_ascii() -> None:
    async with open_office() as office:
        await office.submit(to=("zoe@exämple.test",))
    assert office.taken[0].recipients == ("zoe@xn--exmple-cua.test",)


async def test_a_token_signs_in_too() -> None:
    async with open_office() as office:
        await office.submit(auth="xoauth2", password="token")
        assert office.taken
        await office.fail(AuthRevoked, auth="xoauth2", password="stale")


# --- refusals -----------------------------------------------------------------------------------


async def test_a_wrong_password_is_for_its_owner_to_cure() -> None:
    async with open_office() as office:
        error = await office.fail(AuthRevoked, password="wrong")
        assert error.code == "LOGIN"
        office.faults.smtp_refuse_login = True
        await office.fail(AuthRevoked)
    assert not office.is_committed


async def test_a_server_that_wants_a_login_and_gets_none_says_so() -> None:
    async with open_office() as office:
        await office.fail(AuthRevoked, username="")


async def test_refused_recipients_do_not_keep_the_others_from_theirs() -> None:
    async with open_office() as office:
        office.faults.refuse_recipients = frozenset({FRIEND})
        replies = await office.submit(to=(FRIEND, "ann@example.net"))
    assert [reply.code for reply in replies] == [550, 250]
    assert replies[0].text.startswith("550 5.1.1 ")
    assert office.taken[0].recipients == ("ann@example.net",)


async def test_a_recipient_put_off_is_told_apart() -> None:
    async with open_office() as office:
        office.faults.greylist_recipients = 1
        replies = await office.submit(to=(FRIEND, "ann@example.net"))
    assert [reply.code for reply in replies] == [451, 250]


async def test_nothing_is_sent_when_nobody_may_have_it() -> None:
    async with open_office() as office:
        office.faults.refuse_recipients = frozenset({"*"})
        assert [reply.code for reply in await office.submit()] == [550]
    assert not office.is_committed
    assert office.taken == []


async def test_a_message_above_the_announced_size_is_not_begun() -> None:
    async with open_office() as office:
        office.faults.message_bytes_max = 100
        error = await office.fail(Rejected)
    assert (error.code, error.server_words) == ("TOOBIG", "552 5.3.4 Message too big for system")


async def test_a_busy_server_is_left_alone_for_longer() -> None:
    async with open_office() as office:
        office.faults.smtp_busy = True
        await office.fail(Throttled)


# --- lost connections ---------------------------------------------------------------------------


async def test_a_lost_answer_is_uncertain() -> None:
    async with open_office() as office:
        office.faults.lose_final_250 = True
        error = await office.fail(Uncertain)
    assert error.code == "CLOSED"
    assert len(office.taken) == 1


async def test_a_connection_lost_within_a_large_message_sent_nothing() -> None:
    async with open_office() as office:
        office.faults.drop_in_data_at = 1000
        await office.fail(Transient, raw=RAW + b"x" * 70 + b"\r\n" * 4_000_000)
    assert office.is_committed
    assert office.taken == []


async def test_nobody_listening_is_no_reason_to_give_up() -> None:
    async with open_office() as office:
        settings = office.settings()
    with pytest.raises(Transient) as caught:
        await SmtpSender().submit(settings, "x", Envelope(OWN, {}, ()), RAW, office.before_data)
    assert caught.value.code == "UNREACHABLE"


async def test_places_that_are_not_allowed_are_not_connected_to() -> None:
    async with open_office() as office:
        office.sender = SmtpSender(is_address_allowed=lambda address: address != "127.0.0.1")
        assert (await office.fail(Rejected)).code == "LOCAL"


# --- TLS ----------------------------------------------------------------------------------------


def make_certificate(folder: Path, name: str = "127.0.0.1") -> tuple[ssl.SSLContext, Path]:
    """A server context, and the certificate that a client must trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    public, private = folder / f"{name}.pem", folder / f"{name}.key"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context, public


async def test_starttls_is_verified_and_used(tmp_path: Path) -> None:
    server, public = make_certificate(tmp_path)
    async with open_office(server) as office:
        office.sender = SmtpSender(tls=ssl.create_default_context(cafile=str(public)))
        await office.submit(tls="starttls")
    assert office.taken[0].raw == RAW


async def test_a_certificate_nobody_vouches_for_is_refused_unless_the_owner_insists(
    tmp_path: Path,
) -> None:
    server, _ = make_certificate(tmp_path)
    async with open_office(server) as office:
        assert (await office.fail(Rejected, tls="starttls")).code == "CERTIFICATE"
        assert office.taken == []
        await office.submit(tls="starttls", verify_tls=False)
    assert office.taken


async def test_a_server_without_starttls_is_not_trusted_in_the_clear() -> None:
    async with open_office() as office:
        assert (await office.fail(Rejected, tls="starttls")).code == "TLS_MODE"
    assert office.taken == []


async def test_a_server_in_the_clear_is_not_taken_for_one_with_tls() -> None:
    async with open_office() as office:
        assert (await office.fail(Rejected, tls="implicit")).code == "TLS_MODE"


# --- servers by script --------------------------------------------------------------------------


class Script:
    """A server that answers each command by the first rule that fits, and keeps what it heard."""

    def __init__(self, **answers: str) -> None:
        self.answers = {
            "GREET": "220 hello",
            "EHLO": "250 me",
            "MAIL": "250 ok",
            "RCPT": "250 2.1.5 ok",
            "DATA": "354 go on",
            "END": "250 2.0.0 taken",
            "QUIT": "221 bye",
        } | answers
        """CLOSE hangs up, SILENT says nothing; lines are separated by |."""
        self.heard: list[str] = []
        self.data = b""
        self.port = 0

    @asynccontextmanager
    async def open(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Script]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._talk(reader, writer)
        except ConnectionError:
            pass  # the client had enough
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._say(writer, "GREET"):
            return
        while line := await reader.readline():
            text = line.decode("utf-8").rstrip("\r\n")
            self.heard.append(text)
            verb = text[:4].upper()
            if not self._say(writer, verb):
                return
            if verb == "DATA" and self.answers["DATA"].startswith("354"):
                if "EARLY" in self.answers:
                    await reader.readexactly(1000)
                    self._say(writer, "EARLY")
                    await writer.drain()
                    return
                self.data = await reader.readuntil(b"\r\n.\r\n")
                if not self._say(writer, "END"):
                    return

    def _say(self, writer: asyncio.StreamWriter, step: str) -> bool:
        answer = self.answers.get(step, "502 no")
        if answer == "CLOSE":
            return False
        if answer == "SILENT":
            return True
        writer.write(answer.replace("|", "\r\n").encode() + b"\r\n")
        return True

    async def submit(
        self,
        envelope: Envelope | None = None,
        raw: bytes = RAW,
        before_data: Callable[[], Awaitable[None]] | None = None,
        sender: SmtpSender | None = None,
        **changes: Any,
    ) -> list[RecipientReply]:
        async def nothing() -> None: ...

        settings: dict[str, Any] = {"host": "127.0.0.1", "port": self.port, "tls": "none"}
        return await (sender or SmtpSender("client.test")).submit(
            ServerSettings(**(settings | {"username": ""} | changes)),
            "",
            envelope or Envelope(OWN, {}, (Recipient(FRIEND),)),
            raw,
            before_data or nothing,
        )


async def test_tls_from_the_first_byte_is_verified_and_used(tmp_path: Path) -> None:
    server, public = make_certificate(tmp_path)
    async with Script().open(server) as script:
        trusting = SmtpSender(tls=ssl.create_default_context(cafile=str(public)))
        assert (await script.submit(sender=trusting, tls="implicit"))[0].code == 250
        with pytest.raises(Rejected) as caught:
            await script.submit(tls="implicit")
    assert caught.value.code == "CERTIFICATE"
    assert script.data.startswith(b"From: ")


async def test_a_certificate_of_another_name_is_refused(tmp_path: Path) -> None:
    server, public = make_certificate(tmp_path, "192.0.2.1")
    async with Script().open(server) as script:
        trusting = SmtpSender(tls=ssl.create_default_context(cafile=str(public)))
        with pytest.raises(Rejected) as caught:
            await script.submit(sender=trusting, tls="implicit")
    assert caught.value.code == "CERTIFICATE"
    assert script.heard == []


async def test_we_say_no_more_of_ourselves_than_we_were_told() -> None:
    async with Script().open() as script:
        await script.submit()
    assert script.heard[:3] == ["EHLO client.test", f"MAIL FROM:<{OWN}>", f"RCPT TO:<{FRIEND}>"]
    assert script.heard[-1] == "QUIT"


async def test_wishes_for_notifications_reach_a_server_that_knows_them() -> None:
    envelope = Envelope(
        OWN,
        {"envid": "a+b c", "RET": "hdrs", "HOLDFOR": "5"},
        (
            Recipient("a@x.test", {"NOTIFY": "failure,delay", "ORCPT": "rfc822;b=c@x.test"}),
            Recipient("b@x.test", {"orcpt": "utf-8;zoë@x.test"}),
        ),
    )
    async with Script(EHLO="250-me|250-DSN|250 SIZE 0").open() as script:
        await script.submit(envelope)
    assert script.heard[1:4] == [
        f"MAIL FROM:<{OWN}> SIZE={len(RAW)} RET=HDRS ENVID=a+2Bb+20c",
        "RCPT TO:<a@x.test> NOTIFY=FAILURE,DELAY ORCPT=rfc822;b+3Dc@x.test",
        "RCPT TO:<b@x.test> ORCPT=utf-8;zo\\x{EB}@x.test",
    ]
    async with Script().open() as script:
        await script.submit(envelope)
    assert script.heard[1:3] == [f"MAIL FROM:<{OWN}>", "RCPT TO:<a@x.test>"]


async def test_a_wide_address_without_smtputf8_is_refused_for_itself_alone() -> None:
    envelope = Envelope(OWN, {}, (Recipient("zoë@x.test"), Recipient("a@x.test")))
    async with Script().open() as script:
        replies = await script.submit(envelope)
        with pytest.raises(Rejected):
            await script.submit(Envelope("zoë@x.test", {}, (Recipient("a@x.test"),)))
    assert [reply.code for reply in replies] == [553, 250]


async def test_an_empty_return_path_is_sent_as_such() -> None:
    async with Script().open() as script:
        await script.submit(Envelope("", {}, (Recipient(FRIEND),)))
    assert script.heard[1] == "MAIL FROM:<>"


async def test_the_answer_to_the_whole_message_is_that_of_every_recipient() -> None:
    async with Script(END="554-5.7.1 Our system says|554 5.7.1 this is spam.").open() as script:
        [reply] = await script.submit()
    assert (reply.code, reply.text) == (554, "554 5.7.1 Our system says this is spam.")


async def test_a_message_put_off_as_a_whole_may_be_tried_again() -> None:
    async with Script(DATA="451 4.3.0 Disk full").open() as script:
        [reply] = await script.submit()
    assert (reply.code, script.data) == (451, b"")


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ({"GREET": "CLOSE"}, Transient),
        ({"GREET": "554 go away"}, Rejected),
        ({"GREET": "what?"}, Transient),
        ({"EHLO": "CLOSE"}, Transient),
        ({"EHLO": "550 no"}, Rejected),
        ({"MAIL": "CLOSE"}, Transient),
        ({"MAIL": "451 4.3.0 later"}, Transient),
        ({"MAIL": "450 4.7.1 too fast"}, Throttled),
        ({"MAIL": "550 5.7.1 not you"}, Rejected),
        ({"MAIL": "530 5.7.0 sign in"}, AuthRevoked),
        ({"MAIL": "999 what"}, Transient),
        ({"RCPT": "CLOSE"}, Transient),
        ({"RCPT": "421 4.3.2 closing"}, Throttled),
        ({"RCPT": "three words here"}, Transient),
        ({"DATA": "CLOSE"}, Transient),
        ({"DATA": "250 done already"}, Transient),
        ({"END": "CLOSE"}, Uncertain),
        ({"END": "hm?"}, Uncertain),
        ({"END": "354 go on"}, Uncertain),
    ],
)
async def test_it_is_known_when_nothing_was_sent(
    answers: dict[str, str], kind: type[ProviderError]
) -> None:
    async with Script(**answers).open() as script:
        with pytest.raises(ProviderError) as caught:
            await script.submit()
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("step", "deadline", "kind"),
    [
        ("MAIL", "ENVELOPE_MS_MAX", Transient),
        ("RCPT", "ENVELOPE_MS_MAX", Transient),
        ("EHLO", "COMMAND_MS_MAX", Transient),
        ("GREET", "CONNECT_MS_MAX", Transient),
        ("DATA", "COMMAND_MS_MAX", Transient),
        ("END", "DATA_MS_MAX", Uncertain),
    ],
)
async def test_a_server_that_stops_answering_is_given_up(
    step: str, deadline: str, kind: type[ProviderError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, deadline, 100)
    async with Script(**{step: "SILENT"}).open() as script:
        with pytest.raises(ProviderError) as caught:
            await script.submit()
    assert type(caught.value) is kind


async def test_a_refusal_in_the_middle_of_a_message_is_the_answer() -> None:
    async with Script(EARLY="552 5.3.4 Too much").open() as script:
        [reply] = await script.submit(raw=RAW + b"x\r\n" * 3_000_000)
    assert reply.text == "552 5.3.4 Too much"


async def test_quitting_badly_changes_nothing() -> None:
    async with Script(QUIT="CLOSE").open() as script:
        assert (await script.submit())[0].code == 250


async def test_who_withdraws_at_the_last_moment_sends_nothing() -> None:
    async def withdraw() -> None:
        raise Withdrawn

    async with Script().open() as script:
        with pytest.raises(Withdrawn):
            await script.submit(before_data=withdraw)
    assert "DATA" not in script.heard


@pytest.mark.parametrize(
    "envelope",
    [
        Envelope("a@x.test>\r\nRCPT TO:<b@x.test", {}, (Recipient(FRIEND),)),
        Envelope(OWN, {}, (Recipient("a@x.test\r\nDATA"),)),
        Envelope(OWN, {}, (Recipient("a\0@x.test"),)),
    ],
)
async def test_an_envelope_cannot_say_a_second_command(envelope: Envelope) -> None:
    async with Script().open() as script:
        with pytest.raises(Rejected) as caught:
            await script.submit(envelope)
    assert caught.value.code == "LOCAL"
    assert not any("DATA" in line or "b@x.test" in line for line in script.heard)


async def test_a_server_without_a_way_to_sign_in_is_refused() -> None:
    async with Script(EHLO="250-me|250 AUTH GSSAPI").open() as script:
        with pytest.raises(Rejected) as caught:
            await script.submit(username=OWN)
    assert caught.value.code == "LOGIN"


async def test_a_password_is_tried_once() -> None:
    script = Script(EHLO="250-me|250 AUTH LOGIN PLAIN CRAM-MD5", AUTH="535 5.7.8 no")
    async with script.open():
        with pytest.raises(AuthRevoked):
            await script.submit(username=OWN)
    assert len([line for line in script.heard if line.startswith("AUTH")]) == 1


# --- all of it ----------------------------------------------------------------------------------


async def test_from_a_device_to_the_post_office(world: World) -> None:
    drafts = await world.add_mailbox("Drafts")
    made = await world.call("Identity/set", create={"i": {"email": OWN}})
    identity_id = made["created"]["i"]["id"]
    email_id = await create_email(
        world,
        drafts,
        **{"from": [{"email": OWN}], "to": [{"email": FRIEND}], "bcc": [{"email": "b@x.test"}]},
        subject="Grüße",
        textBody=[TEXT],
        bodyValues=VALUES,
    )
    obj = {"identityId": identity_id, "emailId": email_id}
    made = await world.call("EmailSubmission/set", create={"s": obj})
    async with open_office() as office:

        async def load_route(_: AccountId) -> Route:
            return Route(office.settings(), "secret")

        runner = SubmissionRunner(world.services, office.sender, load_route)
        assert await runner.run_turn(AccountId(world.account_id)) == 1
        assert await runner.run_turn(AccountId(world.account_id)) == 0
    [sent] = office.taken
    assert sent.recipients == (FRIEND, "b@x.test")
    assert b"b@x.test" not in sent.raw
    got = await world.call("EmailSubmission/get", ids=[made["created"]["s"]["id"]])
    assert got["list"][0]["undoStatus"] == "final"
    assert got["list"][0]["deliveryStatus"][FRIEND]["smtpReply"] == "250 2.1.5 Good"


# --- pure parts ---------------------------------------------------------------------------------


def test_ordinary_messages_are_not_rewritten() -> None:
    assert encode_data(b"a\r\nb\r\n") == b"a\r\nb\r\n"
    assert encode_data(b"") == b"\r\n"
    assert encode_data(b".\r\n..\r\n") == b"..\r\n...\r\n"


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (250, "2.1.5 Ok", "250 2.1.5 Ok"),
        (550, "5.7.1 Our system\n5.7.1 is full.", "550 5.7.1 Our system is full."),
        (550, "one\ntwo", "550 one two"),
        (550, "5.7.1 a\n5.7.10 b", "550 5.7.1 a 5.7.10 b"),
        (250, "", "250"),
        (250, "a\x00b\x1b[0m\r", "250 a b [0m"),
        (250, "\udcff", "250 ?"),
        (-1, "Response too long", "451 Response too long"),
    ],
)
def test_a_reply_of_many_lines_becomes_one(code: int, message: str, expected: str) -> None:
    assert make_reply(code, message) == expected


def test_text_is_encoded_so_that_it_cannot_leave_its_parameter() -> None:
    assert encode_xtext("a=b+c d\r\n") == b"a+3Db+2Bc+20d+0D+0A"
    assert encode_path("zoë@x.test", has_utf8=False) is None
    assert encode_path("zoë@x.test", has_utf8=True) == "<zoë@x.test>".encode()
    assert encode_path("a@" + "ö" * 80 + ".test", has_utf8=False) is None
