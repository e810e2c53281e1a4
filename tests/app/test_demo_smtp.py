"""The demo's SMTP server as mail programs see it, and what the provider does with what it takes."""

from __future__ import annotations

import email
import smtplib
import socket
import ssl
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import default as modern
from pathlib import Path

import pytest

from tests.app.demo_host import NOW_MS, TOKEN, DemoHost, RawImap
from tests.app.test_demo_imap import make_tls
from tindra.app.demo.smtp_server import BAD_COMMANDS_MAX, RECIPIENTS_MAX

ME = "demo@tindra.test"
MIRA = "mira.okafor@fjordlight.test"


@pytest.fixture
def host() -> Iterator[DemoHost]:
    with DemoHost() as running:
        yield running


@pytest.fixture
def client(host: DemoHost) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP("127.0.0.1", host.provider.smtp_port, timeout=10) as connection:
        connection.login(ME, "demo")
        yield connection


@pytest.fixture
def wire(host: DemoHost) -> Iterator[Wire]:
    connection = Wire(host)
    yield connection
    connection.close()


class Wire:
    """SMTP line by line."""

    def __init__(self, host: DemoHost) -> None:
        self.socket = socket.create_connection(("127.0.0.1", host.provider.smtp_port), 10)
        self.file = self.socket.makefile("rb")
        self.greeting = self.reply()

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def reply(self) -> str:
        while (line := self.file.readline().decode())[3:4] == "-":
            pass
        return line.strip()

    def do(self, *lines: str) -> str:
        self.socket.sendall("".join(line + "\r\n" for line in lines).encode())
        return [self.reply() for _ in lines][-1]

    def ready(self) -> Wire:
        self.do("EHLO me")
        assert self.do("AUTH PLAIN AGRlbW9AdGluZHJhLnRlc3QAZGVtbw==").startswith("235")
        return self


def letter(to: str, text: str = "Shall we meet?\n.\n..dots\n") -> EmailMessage:
    message = EmailMessage()
    message["From"] = ME
    message["To"] = to
    message["Subject"] = "A question"
    message["Message-ID"] = "<q1@tindra.test>"
    message.set_content(text)
    return message


def test_a_sent_message_lands_in_the_outbox_byte_by_byte(
    host: DemoHost, client: smtplib.SMTP
) -> None:
    assert client.send_message(letter(MIRA)) == {}
    (sent,) = host.provider.outbox
    assert (sent.sender, sent.recipients, sent.login) == (ME, (MIRA,), ME)
    assert sent.time_ms == NOW_MS
    assert sent.raw.endswith(b"\r\n\r\nShall we meet?\r\n.\r\n..dots\r\n")


def test_it_says_what_it_can(client: smtplib.SMTP) -> None:
    client.ehlo()
    assert {"size", "8bitmime", "smtputf8", "pipelining", "auth"} <= set(client.esmtp_features)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_logins_by_each_mechanism(host: DemoHost, mechanism: str) -> None:
    with smtplib.SMTP("127.0.0.1", host.provider.smtp_port, timeout=10) as client:
        client.ehlo()
        client.user, client.password = ME, "demo"
        method = client.auth_plain if mechanism == "PLAIN" else client.auth_login
        assert client.auth(mechanism, method)[0] == 235


def test_xoauth2_takes_the_token_only(host: DemoHost) -> None:
    with smtplib.SMTP("127.0.0.1", host.provider.smtp_port, timeout=10) as client:
        client.ehlo()

        def answer(challenge: bytes | None = None) -> str:
            return "" if challenge else f"user={ME}\x01auth=Bearer {token}\x01\x01"

        token = "stale"
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.auth("XOAUTH2", answer)
        token = TOKEN
        assert client.auth("XOAUTH2", answer)[0] == 235


def test_nothing_is_taken_without_login(host: DemoHost, wire: Wire) -> None:
    wire.do("EHLO me")
    assert wire.do(f"MAIL FROM:<{ME}>").startswith("530")
    with (
        smtplib.SMTP("127.0.0.1", host.provider.smtp_port, timeout=10) as client,
        pytest.raises(smtplib.SMTPAuthenticationError),
    ):
        client.login(ME, "wrong")


def test_commands_out_of_order_are_refused(wire: Wire) -> None:
    assert wire.do(f"MAIL FROM:<{ME}>").startswith("503")
    wire.ready()
    assert wire.do("RCPT TO:<a@b.test>").startswith("503")
    assert wire.do("DATA").startswith("503")
    assert wire.do(f"MAIL FROM:<{ME}>").startswith("250")
    assert wire.do(f"MAIL FROM:<{ME}>").startswith("503")
    assert wire.do("DATA").startswith("503")
    assert wire.do("RSET").startswith("250")
    assert wire.do("RCPT TO:<a@b.test>").startswith("503")
    assert wire.do("AUTH PLAIN AAAA").startswith("503")
    assert wire.do("NOOP").startswith("250")
    assert wire.do("VRFY a").startswith("252")
    assert wire.do("QUIT").startswith("221")
    assert wire.reply() == ""


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("MAIL FROM:demo@tindra.test", "501"),
        ("MAIL TO:<a@b.test>", "501"),
        ("MAIL FROM:<a@b.test> SIZE=x", "501"),
        ("MAIL FROM:<a@b.test> SIZE=99999999999", "552"),
        ("MAIL FROM:<a@b.test> BODY=9BIT", "501"),
        ("MAIL FROM:<a@b.test> WHAT=1", "555"),
        ("MAIL FROM:<ä@b.test>", "553"),
        ("MAIL FROM:<ä@b.test> SMTPUTF8", "250"),
        ("MAIL FROM:<> BODY=8BITMIME SIZE=10", "250"),
        ("BOGUS", "500"),
        ("", "500"),
    ],
)
def test_mail_parameters_are_checked(wire: Wire, command: str, code: str) -> None:
    assert wire.ready().do(command).startswith(code)


def test_recipients_are_checked_and_limited(wire: Wire) -> None:
    wire.ready().do(f"MAIL FROM:<{ME}>")
    assert wire.do("RCPT TO:<nobody>").startswith("501")
    assert wire.do("RCPT TO:<å@b.test>").startswith("553")
    replies = [wire.do(f"RCPT TO:<a{i}@b.test>")[:3] for i in range(RECIPIENTS_MAX + 1)]
    assert replies == ["250"] * RECIPIENTS_MAX + ["452"]


def test_pipelined_commands_and_only_the_true_end_ends_the_data(host: DemoHost, wire: Wire) -> None:
    wire.ready()
    body = "one\n.\nMAIL FROM:<evil@x.test>\n\n.\r\rtwo"
    text = f"MAIL FROM:<{ME}>\r\nRCPT TO:<{MIRA}>\r\nDATA\r\n{body}\r\n.\r\nNOOP\r\n"
    wire.socket.sendall(text.encode())
    assert [wire.reply()[:3] for _ in range(5)] == ["250", "250", "354", "250", "250"]
    assert [sent.raw for sent in host.provider.outbox] == [body.encode() + b"\r\n"]


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5])
def test_the_end_of_data_is_found_however_it_is_cut(host: DemoHost, wire: Wire, cut: int) -> None:
    wire.ready().do(f"MAIL FROM:<{ME}>")
    wire.do(f"RCPT TO:<{MIRA}>")
    wire.do("DATA")
    octets = b"..a\r\n.\r\n"
    wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wire.socket.sendall(octets[:-cut])
    host.call(len, host.provider.outbox)  # the server has had its turn in between
    wire.socket.sendall(octets[-cut:])
    assert wire.reply().startswith("250")
    assert host.provider.outbox[0].raw == b".a\r\n"


def test_an_empty_message_is_a_message(host: DemoHost, wire: Wire) -> None:
    wire.ready().do(f"MAIL FROM:<{ME}>")
    wire.do(f"RCPT TO:<{MIRA}>")
    wire.do("DATA")
    assert wire.do(".").startswith("250")
    assert host.provider.outbox[0].raw == b""


def test_too_large_messages_are_refused_and_the_connection_lives(
    host: DemoHost, client: smtplib.SMTP
) -> None:
    host.faults.message_bytes_max = 1_000
    with pytest.raises(smtplib.SMTPSenderRefused):  # by the announced SIZE
        client.sendmail(ME, [MIRA], b"x" * 2_000)
    for size in (2_000, 500_000):
        client.mail(ME)
        client.rcpt(MIRA)
        assert client.data(b"line\r\n" * (size // 6))[0] == 552
    assert host.provider.outbox == []
    client.sendmail(ME, [MIRA], b"short")
    assert len(host.provider.outbox) == 1


def test_endless_lines_and_endless_nonsense_end_the_conversation(host: DemoHost) -> None:
    first = Wire(host)
    first.socket.sendall(b"x" * 20_000)
    assert first.reply().startswith("500")
    assert first.file.readline() == b""
    first.close()
    second = Wire(host)
    for _ in range(BAD_COMMANDS_MAX):
        assert second.do("WHAT").startswith("500")
    assert second.file.readline() == b""
    second.close()


def test_starttls_encrypts_and_forgets_what_came_before(tmp_path: Path) -> None:
    with DemoHost(tls=make_tls(tmp_path)) as host:
        context = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        context.check_hostname = False
        with smtplib.SMTP("127.0.0.1", host.provider.smtp_port, timeout=10) as client:
            client.starttls(context=context)
            client.login(ME, "demo")
            client.send_message(letter(MIRA))
            assert not client.has_extn("starttls")
        assert len(host.provider.outbox) == 1
        smuggler = Wire(host)
        smuggler.socket.sendall(b"STARTTLS\r\nNOOP\r\n")
        assert smuggler.reply().startswith("503")
        smuggler.close()


# --- faults ---------------------------------------------------------------------------------------
def test_refused_recipients(host: DemoHost, client: smtplib.SMTP) -> None:
    host.faults.refuse_recipients = frozenset({"gone@x.test"})
    refused = client.send_message(letter(f"{MIRA}, Gone@x.test"))
    assert refused["Gone@x.test"][0] == 550
    assert host.provider.outbox[0].recipients == (MIRA,)
    host.faults.refuse_recipients = frozenset({"*"})
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        client.send_message(letter(MIRA))


def test_greylisting_goes_away_by_itself(host: DemoHost, client: smtplib.SMTP) -> None:
    host.faults.greylist_recipients = 1
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refusal:
        client.send_message(letter(MIRA))
    assert refusal.value.recipients[MIRA][0] == 451
    assert client.send_message(letter(MIRA)) == {}


def test_a_lost_answer_means_sent(host: DemoHost, client: smtplib.SMTP) -> None:
    host.faults.lose_final_250 = True
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
        client.send_message(letter(MIRA))
    assert len(host.provider.outbox) == 1


def test_a_cut_in_data_means_not_sent(host: DemoHost, client: smtplib.SMTP) -> None:
    host.faults.drop_in_data_at = 50
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
        client.send_message(letter(MIRA))
    assert host.provider.outbox == []


def test_busy_and_refused_logins(host: DemoHost) -> None:
    host.faults.smtp_refuse_login = True
    with (
        smtplib.SMTP("127.0.0.1", host.provider.smtp_port, timeout=10) as client,
        pytest.raises(smtplib.SMTPAuthenticationError),
    ):
        client.login(ME, "demo")
    host.faults.smtp_busy = True
    with pytest.raises(smtplib.SMTPConnectError):
        smtplib.SMTP("127.0.0.1", host.provider.smtp_port, timeout=10)


# --- what the provider does with it ---------------------------------------------------------------
def test_a_provider_may_file_the_sent_copy_itself(host: DemoHost, client: smtplib.SMTP) -> None:
    client.send_message(letter(MIRA))
    assert not host.provider.folder("Sent").messages
    host.faults.files_sent_copy = True
    client.send_message(letter(MIRA))
    (copy,) = host.provider.folder("Sent").messages.values()
    assert copy.flags == {"\\Seen"}


def test_known_people_answer_after_some_seconds_and_idle_hears_it(
    host: DemoHost, client: smtplib.SMTP
) -> None:
    host.run(host.provider.run_replies())
    with RawImap(host) as reader:
        reader.do("SELECT INBOX")
        tag = reader.send("IDLE")
        reader.line()
        client.send_message(letter(MIRA))
        host.advance(1_000)
        assert not host.provider.folder().messages
        host.advance(10_000)
        assert reader.line() == "* 1 EXISTS"
        reader.socket.sendall(b"DONE\r\n")
        reader.finish(tag)
    (answer,) = host.provider.folder().messages.values()
    parsed = email.message_from_bytes(answer.raw, policy=modern)
    assert str(parsed["Subject"]) == "Re: A question"
    assert str(parsed["In-Reply-To"]) == "<q1@tindra.test>"
    assert answer.flags == frozenset()


def test_mail_to_oneself_arrives_and_strangers_bounce(host: DemoHost, client: smtplib.SMTP) -> None:
    host.run(host.provider.run_replies())
    client.send_message(letter(f"{ME}, bob@example.com"))
    host.call(lambda: None)
    inbox = host.provider.folder().messages
    assert [m.raw for m in inbox.values()] == [host.provider.outbox[0].raw]
    host.advance(10_000)
    host.advance(10_000)
    senders = [
        email.message_from_bytes(m.raw, policy=modern)["From"].addresses[0].addr_spec
        for m in inbox.values()
    ]
    assert sorted(senders) == [ME, "mailer-daemon@tindra.test", "pip@tindra.test"]


def test_new_mail_arrives_by_itself_at_the_interval(host: DemoHost) -> None:
    host.run(host.provider.run(interval_ms=30_000))
    host.advance(29_000)
    assert not host.provider.folder().messages
    for _ in range(5):
        host.advance(30_000)
    messages = list(host.provider.folder().messages.values())
    assert len(messages) == 5
    assert len({message.raw for message in messages}) == 5
    assert messages[-1].date_ms == host.clock.now_ms()


def test_by_default_the_pauses_are_twenty_to_sixty_seconds(host: DemoHost) -> None:
    host.run(host.provider.run_arrivals())
    host.advance(20_000 - 1)
    assert not host.provider.folder().messages
    host.advance(40_001)
    assert len(host.provider.folder().messages) == 1


def test_two_runs_never_share_uidvalidity_or_new_ids(host: DemoHost) -> None:
    with DemoHost() as other:
        other.clock.time_ms += 5_000
        later = other.wait(other._make())
        try:
            first, second = host.call(host.provider.arrive), later.arrive()
            assert first.raw != second.raw
            assert later.folder().uidvalidity != host.provider.folder().uidvalidity
        finally:
            other.wait(later.stop())


def test_a_taken_port_is_an_error_and_leaves_nothing_open(host: DemoHost) -> None:
    with DemoHost() as other:
        other.wait(other.provider.stop())
        with pytest.raises(OSError):
            other.wait(other.provider.start(smtp_port=host.provider.smtp_port))
        with pytest.raises(RuntimeError):
            _ = other.provider.imap_port
        other.wait(other.provider.start())
