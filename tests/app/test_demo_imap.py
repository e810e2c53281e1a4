"""The demo's IMAP server as mail clients see it: imaplib, imapclient, and raw lines."""

from __future__ import annotations

import base64
import datetime
import email
import imaplib
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import imapclient
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from imapclient.exceptions import LoginError

from tests.app.demo_host import PLAIN_MESSAGE, TOKEN, DemoHost, RawImap
from tindra.app.demo.imap_structure import parse_entity, render_structure, select_fields
from tindra.app.demo.mail.mailmaker import FOLDERS
from tindra.wire.imap.lexer import LineReader, parse_tokens


@pytest.fixture
def host() -> Iterator[DemoHost]:
    with DemoHost() as running:
        yield running


@pytest.fixture(scope="module")
def full_host() -> Iterator[DemoHost]:
    """A filled mailbox; tests that use it only read."""
    with DemoHost(count=200) as running:
        yield running


@pytest.fixture
def raw(host: DemoHost) -> Iterator[RawImap]:
    with RawImap(host) as client:
        yield client


def deliver(host: DemoHost, count: int, folder: str = "INBOX") -> list[int]:
    return [host.call(host.provider.deliver, PLAIN_MESSAGE, folder) for _ in range(count)]


def connect(host: DemoHost) -> imapclient.IMAPClient:
    client = imapclient.IMAPClient("127.0.0.1", host.provider.imap_port, ssl=False, timeout=10)
    client.login("demo@tindra.test", "demo")
    return client


def selected(client: RawImap, host: DemoHost, count: int = 3) -> RawImap:
    deliver(host, count)
    assert client.do("SELECT INBOX")[-1].startswith("OK [READ-WRITE]")
    return client


# --- who are you ----------------------------------------------------------------------------------
def test_imaplib_reads_the_whole_mailbox(full_host: DemoHost) -> None:
    with imaplib.IMAP4("127.0.0.1", full_host.provider.imap_port, timeout=10) as client:
        client.login("demo@tindra.test", "demo")
        status, listed = client.list()
        assert status == "OK"
        assert len(listed) == len(FOLDERS)
        _, counts = client.select("INBOX")
        assert int(counts[0] or b"0") > 20
        _, found = client.search(None, "UNSEEN")
        numbers = found[0].split()
        assert numbers
        _, data = client.fetch(numbers[0], "(BODY.PEEK[] FLAGS)")
        assert isinstance(data[0], tuple)
        assert email.message_from_bytes(data[0][1])["Message-ID"]


def test_login_with_a_wrong_password_is_refused_by_name(host: DemoHost) -> None:
    with RawImap(host, login=False) as client:
        assert client.do("LOGIN demo@tindra.test nope") == [
            "NO [AUTHENTICATIONFAILED] Invalid credentials"
        ]
        assert client.do("SELECT INBOX")[-1].startswith("BAD")
        assert client.do('LOGIN "DEMO@tindra.test" "demo"')[-1].startswith("OK [CAPABILITY")


@pytest.mark.parametrize("is_initial", [True, False])
def test_authenticate_plain_with_and_without_initial_response(
    host: DemoHost, is_initial: bool
) -> None:
    secret = base64.b64encode(b"\0demo@tindra.test\0demo").decode()
    with RawImap(host, login=False) as client:
        if is_initial:
            assert client.do(f"AUTHENTICATE PLAIN {secret}")[-1].startswith("OK")
            return
        tag = client.send("AUTHENTICATE PLAIN")
        assert client.line() == "+ "
        client.socket.sendall(secret.encode() + b"\r\n")
        assert client.finish(tag)[-1].startswith("OK")


def test_xoauth2_takes_the_token_and_explains_a_wrong_one(host: DemoHost) -> None:
    with imapclient.IMAPClient("127.0.0.1", host.provider.imap_port, ssl=False) as client:
        with pytest.raises(LoginError):
            client.oauth2_login("demo@tindra.test", "stale")
        client.oauth2_login("demo@tindra.test", TOKEN)


@pytest.mark.parametrize("answer", ["*", "not base64!", "AAAA", ""])
def test_broken_authentication_is_refused_and_the_connection_lives(
    host: DemoHost, answer: str
) -> None:
    with RawImap(host, login=False) as client:
        tag = client.send("AUTHENTICATE PLAIN")
        client.line()
        client.socket.sendall(answer.encode() + b"\r\n")
        assert client.finish(tag)[-1].split()[0] in ("NO", "BAD")
        assert client.do("NOOP")[-1].startswith("OK")


def test_literals_with_and_without_go_ahead(host: DemoHost) -> None:
    with RawImap(host, login=False) as client:
        client.socket.sendall(b"a1 LOGIN {16}\r\n")
        assert client.line().startswith("+")
        client.socket.sendall(b"demo@tindra.test {4+}\r\ndemo\r\n")
        assert client.finish("a1")[-1].startswith("OK")


def test_starttls_encrypts_and_is_then_no_more_offered(tmp_path: Path) -> None:
    with DemoHost(tls=make_tls(tmp_path)) as host:
        client = imaplib.IMAP4("127.0.0.1", host.provider.imap_port, timeout=10)
        assert "STARTTLS" in client.capabilities
        context = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        context.check_hostname = False
        client.starttls(context)
        assert "STARTTLS" not in client.capabilities
        client.login("demo@tindra.test", "demo")
        big = b"Subject: big\r\n\r\n" + b"x" * 300_000
        assert client.append("INBOX", "", "", big)[0] == "OK"
        client.select("INBOX")
        _, data = client.fetch("1", "(BODY.PEEK[])")
        assert isinstance(data[0], tuple)
        assert len(data[0][1]) == len(big)
        client.logout()


def test_commands_smuggled_in_before_the_handshake_are_refused(tmp_path: Path) -> None:
    with DemoHost(tls=make_tls(tmp_path)) as host, RawImap(host, login=False) as client:
        client.socket.sendall(b"a STARTTLS\r\nb NOOP\r\n")
        assert client.line().startswith("a BAD")


def make_tls(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def test_small_commands_answer(raw: RawImap) -> None:
    assert raw.do("CAPABILITY")[0].startswith("* CAPABILITY IMAP4rev1 LITERAL+ SASL-IR")
    assert raw.do('ID ("name" "test")')[0].startswith("* ID (")
    assert raw.do("NAMESPACE") == ['* NAMESPACE (("" "/")) NIL NIL', "OK One namespace"]
    assert raw.do("ENABLE CONDSTORE QRESYNC X-NONE")[0] == "* ENABLED CONDSTORE QRESYNC"
    assert raw.do("NOPE")[-1].startswith("BAD unknown command")
    assert raw.do("UID NOPE 1")[-1].startswith("BAD unknown command")
    assert raw.do("SELECT")[-1].startswith("BAD")
    assert raw.do("UID")[-1].startswith("BAD")
    assert raw.do("LOGOUT") == ["* BYE Until next time", "OK Goodbye"]
    assert raw.line() == ""


def test_nonsense_never_stops_the_server(host: DemoHost) -> None:
    for octets in (b"\r\n", b"a\r\n", b"\x00\xff\r\n", b"a LOGIN (\r\n", b'a LOGIN "x\r\n'):
        with socket.create_connection(("127.0.0.1", host.provider.imap_port), 10) as connection:
            connection.recv(1000)
            connection.sendall(octets + b"z NOOP\r\n")
            assert connection.recv(1000)
    with RawImap(host) as client:
        assert client.do("NOOP")[-1].startswith("OK")


# --- folders --------------------------------------------------------------------------------------
def test_list_shows_roles_children_and_modified_utf7(full_host: DemoHost) -> None:
    with connect(full_host) as client:
        folders = {name: flags for flags, _, name in client.list_folders()}
        assert set(folders) == set(FOLDERS)
        assert b"\\Sent" in folders["Sent"]
        assert b"\\HasChildren" in folders["Projects"]
        assert client.find_special_folder(b"\\Drafts") == "Drafts"
        client.select_folder("Familj & vänner")


def test_list_patterns_options_and_status_return(full_host: DemoHost) -> None:
    with RawImap(full_host) as client:
        assert len(client.do('LIST "" "%"')) - 1 == 10
        assert len(client.do('LIST "" "Projects/%"')) - 1 == 2
        assert len(client.do('LIST "Projects/" "*"')) - 1 == 2
        assert len(client.do('LIST "" ("INBOX" "Tr*")')) - 1 == 3
        assert client.do('LIST "" ""')[0] == '* LIST (\\Noselect) "/" ""'
        assert client.do('LIST "" inbox')[0].endswith('"INBOX"')
        assert len(client.do('LIST (SPECIAL-USE) "" "*"')) - 1 == 5
        lines = client.do('LIST "" "Sent" RETURN (SPECIAL-USE STATUS (MESSAGES UIDNEXT))')
        assert lines[0] == '* LIST (\\HasNoChildren \\Sent) "/" "Sent"'
        assert lines[1].startswith('* STATUS "Sent" (MESSAGES ')
        assert len(client.do('LSUB "" "*"')) - 1 == len(FOLDERS)


def test_a_hostile_list_pattern_costs_little(full_host: DemoHost) -> None:
    with RawImap(full_host) as client:
        started = time.monotonic()
        assert client.do(f'LIST "" "{"%*" * 300}x"')[-1].startswith("OK")
        assert client.do(f'LIST "" "{"%a" * 12}"')[-1].startswith("OK")
        assert time.monotonic() - started < 3


def test_folders_are_made_renamed_subscribed_and_removed(raw: RawImap, host: DemoHost) -> None:
    assert raw.do("CREATE A/B/C")[-1].startswith("OK")
    assert raw.do("CREATE A/B/C")[-1].startswith("NO [ALREADYEXISTS]")
    before = raw.do("STATUS A/B/C (UIDVALIDITY)")[0]
    assert raw.do("RENAME A Z")[-1].startswith("OK")
    after = raw.do("STATUS Z/B/C (UIDVALIDITY)")[0]
    assert before.split("(")[1] == after.split("(")[1]
    assert raw.do("RENAME Z Z/inside")[-1].startswith("NO")
    assert raw.do("RENAME Z INBOX")[-1].startswith("NO")
    assert raw.do("UNSUBSCRIBE Z")[-1].startswith("OK")
    assert not any('"Z"' in line for line in raw.do('LSUB "" "*"'))
    assert raw.do("SUBSCRIBE Z")[-1].startswith("OK")
    assert raw.do("DELETE Z/B/C")[-1].startswith("OK")
    assert raw.do("DELETE Z/B/C")[-1].startswith("NO [NONEXISTENT]")
    assert raw.do("DELETE INBOX")[-1].startswith("NO")
    assert raw.do('CREATE "&AOQ-rger"')[-1].startswith("OK")
    assert host.provider.folder("ärger").name == "ärger"
    deliver(host, 2)
    assert raw.do("RENAME INBOX Old")[-1].startswith("OK")
    assert len(host.provider.folder("Old").messages) == 2
    assert not host.provider.folder("INBOX").messages


def test_status_counts(raw: RawImap, host: DemoHost) -> None:
    deliver(host, 3)
    folder = host.provider.folder()
    host.call(folder.set_flags, 1, frozenset({"\\Seen"}))
    line = raw.do("STATUS inbox (MESSAGES UIDNEXT UIDVALIDITY UNSEEN RECENT HIGHESTMODSEQ)")[0]
    assert line == (
        f'* STATUS "INBOX" (MESSAGES 3 UIDNEXT 4 UIDVALIDITY {folder.uidvalidity}'
        f" UNSEEN 2 RECENT 0 HIGHESTMODSEQ {folder.highestmodseq})"
    )
    assert raw.do("STATUS INBOX (NONSENSE)")[-1].startswith("BAD")
    assert raw.do("STATUS nowhere (MESSAGES)")[-1].startswith("NO [NONEXISTENT]")


def test_examine_is_read_only(raw: RawImap, host: DemoHost) -> None:
    deliver(host, 1)
    assert raw.do("EXAMINE INBOX")[-1].startswith("OK [READ-ONLY]")
    assert raw.do("STORE 1 +FLAGS (\\Seen)")[-1].startswith("NO [READ-ONLY]")
    raw.do("FETCH 1 (BODY[])")
    assert not host.provider.folder().messages[1].flags
    assert raw.do("UNSELECT")[-1].startswith("OK")
    assert raw.do("FETCH 1 (UID)")[-1].startswith("BAD no mailbox")


# --- FETCH ----------------------------------------------------------------------------------------
def test_fetch_gives_what_is_asked(raw: RawImap, host: DemoHost) -> None:
    selected(raw, host, 2)
    line = raw.do("UID FETCH 2 (FLAGS INTERNALDATE RFC822.SIZE)")[0]
    assert line == (
        '* 2 FETCH (UID 2 FLAGS () INTERNALDATE "18-Nov-2026 11:06:40 +0000"'
        f" RFC822.SIZE {len(PLAIN_MESSAGE)})"
    )
    whole = raw.do("FETCH 1 (BODY.PEEK[])")[0].encode("latin-1")
    assert b"BODY[] {%d}\r\n%s)" % (len(PLAIN_MESSAGE), PLAIN_MESSAGE) in whole
    part = raw.do("FETCH 1 (BODY.PEEK[]<6.4>)")[0]
    assert part == "* 1 FETCH (BODY[]<6> {4}\r\nMira)"
    fields = raw.do("FETCH 1 (BODY.PEEK[HEADER.FIELDS (SUBJECT X-None to)])")[0]
    assert "BODY[HEADER.FIELDS (SUBJECT X-NONE TO)]" in fields
    assert fields.endswith("To: demo@tindra.test\r\nSubject: Hello\r\n\r\n)")
    others = raw.do("FETCH 1 (BODY.PEEK[HEADER.FIELDS.NOT (FROM TO DATE MESSAGE-ID)])")[0]
    assert others.endswith("\r\nSubject: Hello\r\n\r\n)")
    assert raw.do("FETCH 1 (BODY.PEEK[TEXT])")[0].endswith("First line\r\nSecond line\r\n)")
    assert raw.do("FETCH 1 (BODY.PEEK[7])")[0] == "* 1 FETCH (BODY[7] NIL)"
    assert "ENVELOPE" in raw.do("FETCH 1 ALL")[0]
    assert raw.do("FETCH 1:* (UID)")[:2] == ["* 1 FETCH (UID 1)", "* 2 FETCH (UID 2)"]
    assert raw.do("FETCH 9 (UID)")[-1].startswith("BAD")
    assert raw.do("FETCH 1 (NONSENSE)")[-1].startswith("BAD")
    assert raw.do("FETCH 1:x (UID)")[-1].startswith("BAD")
    assert raw.do("UID FETCH 77 (UID)") == ["OK Fetched"]


def test_a_uid_range_beyond_the_end_gives_the_last_message(raw: RawImap, host: DemoHost) -> None:
    selected(raw, host, 3)
    assert raw.do("UID FETCH 100:* (UID)") == ["* 3 FETCH (UID 3)", "OK Fetched"]


def test_reading_a_body_marks_it_seen_unless_peeked(raw: RawImap, host: DemoHost) -> None:
    selected(raw, host, 1)
    raw.do("FETCH 1 (BODY.PEEK[])")
    assert not host.provider.folder().messages[1].flags
    assert raw.do("FETCH 1 (RFC822)")[0].endswith("FLAGS (\\Seen))")
    assert host.provider.folder().messages[1].flags == {"\\Seen"}


def test_envelope_and_structure_of_every_message_are_readable(full_host: DemoHost) -> None:
    with connect(full_host) as client:
        for name in FOLDERS:
            client.select_folder(name, readonly=True)
            uids = client.search()
            for data in client.fetch(uids, ["ENVELOPE", "BODYSTRUCTURE", "BODY"]).values():
                assert data[b"ENVELOPE"].message_id.startswith(b"<")
                assert data[b"ENVELOPE"].from_[0].host.endswith(b".test")
                assert data[b"BODYSTRUCTURE"]
                assert data[b"BODY"]


def test_parts_by_number_are_the_parts(full_host: DemoHost) -> None:
    with connect(full_host) as client:
        client.select_folder("INBOX", readonly=True)
        checked = 0
        for uid in client.search():
            data = client.fetch([uid], ["BODY.PEEK[]"])[uid]
            message = email.message_from_bytes(data[b"BODY[]"])
            if not message.is_multipart():
                continue
            for number, part in enumerate(message.get_payload(), 1):
                assert isinstance(part, email.message.Message)
                if part.is_multipart():
                    continue
                got = client.fetch([uid], [f"BODY.PEEK[{number}]", f"BODY.PEEK[{number}.MIME]"])[
                    uid
                ]
                octets = got[f"BODY[{number}]".encode()]
                expected = part.get_payload()
                assert isinstance(expected, str)
                assert octets.decode("ascii").splitlines() == expected.splitlines()
                assert b"Content-Type" in got[f"BODY[{number}.MIME]".encode()]
                checked += 1
        assert checked > 30


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\r\n",
        b"no colon\r\n\r\nbody",
        b"Content-Type: multipart/mixed\r\n\r\nno boundary",
        b'Content-Type: multipart/mixed; boundary=""\r\n\r\n--\r\n--\r\n',
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n--b\r\n--b--",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b",
        b"Content-Type: message/rfc822\r\n\r\n" * 40,
        b'Content-Type: ;;;="\r\nFrom: <<>>,,;:"\r\nSubject: \xff"\\\r\n\r\n\xff',
        b"Content-Type: multipart/x; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 2000,
    ],
)
def test_any_bytes_have_some_structure(raw: RawImap, host: DemoHost, octets: bytes) -> None:
    entity = parse_entity(octets)
    rendered = render_structure(octets, entity, extended=True)
    reader = LineReader("client")
    reader.feed(b"* X " + rendered + b"\r\n")
    line = reader.next_line()
    assert line is not None
    assert isinstance(parse_tokens(line)[2], list)
    host.call(host.provider.deliver, octets)
    raw.do("SELECT INBOX")
    assert raw.do("FETCH 1 (ENVELOPE BODYSTRUCTURE BODY.PEEK[1.2.HEADER])")[-1].startswith("OK")


def test_header_fields_keep_their_folding() -> None:
    head = b"To: a@b,\r\n c@d\r\nX: y\r\nTO: e@f\r\n\r\n"
    assert select_fields(head, frozenset({b"to"})) == b"To: a@b,\r\n c@d\r\nTO: e@f\r\n\r\n"


# --- STORE, SEARCH, COPY, MOVE, EXPUNGE, APPEND ---------------------------------------------------
def test_store_adds_removes_and_replaces(raw: RawImap, host: DemoHost) -> None:
    selected(raw, host)
    assert raw.do("STORE 1 +FLAGS (\\seen $Label)")[0] == "* 1 FETCH (UID 1 FLAGS ($Label \\Seen))"
    assert raw.do("UID STORE 2:3 FLAGS.SILENT \\Flagged") == ["OK Stored"]
    assert raw.do("STORE 1 -FLAGS (\\Seen)")[0] == "* 1 FETCH (UID 1 FLAGS ($Label))"
    flags = [message.flags for message in host.provider.folder().messages.values()]
    assert flags == [{"$Label"}, {"\\Flagged"}, {"\\Flagged"}]
    assert raw.do("STORE 1 +FLAGS (\\Recent)")[-1].startswith("BAD")
    assert raw.do("STORE 1 FLAG (x)")[-1].startswith("BAD")


def test_search_by_many_criteria(raw: RawImap, host: DemoHost) -> None:
    selected(raw, host)
    other = PLAIN_MESSAGE.replace(b"Hello", b"=?utf-8?q?Gr=C3=BC=C3=9Fe?=").replace(
        b"Second", b"Unusual"
    )
    host.call(host.provider.deliver, other)
    raw.do("STORE 2 +FLAGS (\\Seen \\Flagged $Label)")

    def search(criteria: str) -> str:
        lines = raw.do(f"UID SEARCH {criteria}")
        assert lines[-1].startswith("OK"), lines
        return lines[-2].removeprefix("* SEARCH").strip()

    assert search("ALL") == "1 2 3 4"
    assert search("SEEN") == "2"
    assert search("UNSEEN") == "1 3 4"
    assert search("FLAGGED KEYWORD $Label") == "2"
    assert search("UNKEYWORD $Label") == "1 3 4"
    assert search("UID 2:3,9") == "2 3"
    assert search("2:*") == "2 3 4"
    assert search("NOT (UID 1 UNSEEN)") == "2 3 4"
    assert search("OR UID 1 SEEN") == "1 2"
    assert search('HEADER "message-id" one@') == "1 2 3 4"
    assert search('HEADER X-Missing ""') == ""
    assert search("SUBJECT hello") == "1 2 3"
    assert search("CHARSET UTF-8 SUBJECT grüße") == "4"
    assert search("BODY unusual") == "4"
    assert search("TEXT Mira") == "1 2 3 4"
    assert search("FROM fjordlight TO demo") == "1 2 3 4"
    assert search("SINCE 1-Jan-2026 BEFORE 1-Jan-2030") == "1 2 3 4"
    assert search("SENTON 18-Nov-2026") == "1 2 3 4"
    assert search("SENTBEFORE 18-Nov-2026") == ""
    assert search("LARGER 100000") == ""
    assert search("SMALLER 100000") == "1 2 3 4"
    assert search("DELETED") == ""
    assert raw.do("SEARCH CHARSET KLINGON ALL")[-1].startswith("NO [BADCHARSET")
    assert raw.do("SEARCH")[-1].startswith("BAD")
    assert raw.do("SEARCH HEADER")[-1].startswith("BAD")
    assert raw.do("SEARCH NONSENSE")[-1].startswith("BAD")
    assert raw.do("SEARCH SINCE yesterday")[-1].startswith("BAD")


def test_extended_search_answers_compactly(raw: RawImap, host: DemoHost) -> None:
    selected(raw, host, 5)
    host.call(host.provider.folder().expunge, [3])
    raw.do("NOOP")
    tag = raw.send("UID SEARCH RETURN (ALL COUNT MIN MAX) ALL")
    assert raw.finish(tag)[0] == f'* ESEARCH (TAG "{tag}") UID MIN 1 MAX 5 ALL 1:2,4:5 COUNT 4'
    tag = raw.send("SEARCH RETURN () UID 4:5")
    assert raw.finish(tag)[0] == f'* ESEARCH (TAG "{tag}") ALL 3:4'
    tag = raw.send("UID SEARCH RETURN (ALL COUNT) DELETED")
    assert raw.finish(tag)[0] == f'* ESEARCH (TAG "{tag}") UID COUNT 0'


def test_copy_and_move_tell_the_new_uids(raw: RawImap, host: DemoHost) -> None:
    selected(raw, host, 4)
    deliver(host, 1, "Archive")
    validity = host.provider.folder("Archive").uidvalidity
    lines = raw.do("UID COPY 1,3 Archive")
    assert lines == [f"OK [COPYUID {validity} 1,3 2:3] Copied"]
    lines = raw.do("UID MOVE 2:3 Archive")
    assert lines[0] == f"* OK [COPYUID {validity} 2:3 4:5] Moved"
    assert lines[1:3] == ["* 3 EXPUNGE", "* 2 EXPUNGE"]
    assert list(host.provider.folder().messages) == [1, 4]
    assert raw.do("MOVE 1 Nowhere")[-1].startswith("NO [TRYCREATE]")
    assert raw.do("COPY 1 Nowhere")[-1].startswith("NO [TRYCREATE]")


def test_uid_expunge_takes_only_what_is_named(raw: RawImap, host: DemoHost) -> None:
    selected(raw, host, 4)
    raw.do("STORE 1:3 +FLAGS.SILENT (\\Deleted)")
    assert raw.do("UID EXPUNGE 2,4") == ["* 2 EXPUNGE", "OK Expunged"]
    assert raw.do("EXPUNGE")[:2] == ["* 2 EXPUNGE", "* 1 EXPUNGE"]
    raw.do("STORE 1 +FLAGS.SILENT (\\Deleted)")
    assert raw.do("CLOSE") == ["OK Closed"]
    assert not host.provider.folder().messages


def test_append_stores_flags_and_date_and_tells_the_uid(host: DemoHost) -> None:
    with connect(host) as client:
        when = datetime.datetime(2025, 5, 4, 12, 0, tzinfo=datetime.UTC)
        answer = client.append("Drafts", PLAIN_MESSAGE, ["\\Draft", "$Label"], when)
        folder = host.provider.folder("Drafts")
        assert f"[APPENDUID {folder.uidvalidity} 1]".encode() in answer
        stored = folder.messages[1]
        assert stored.raw == PLAIN_MESSAGE
        assert stored.flags == {"\\Draft", "$Label"}
        assert stored.date_ms == when.timestamp() * 1000
        with pytest.raises(imapclient.exceptions.IMAPClientError, match="TRYCREATE"):
            client.append("Nowhere", PLAIN_MESSAGE)
        client.append("Drafts", PLAIN_MESSAGE)
        assert folder.messages[2].date_ms == host.clock.now_ms()


# --- changes by others, IDLE ----------------------------------------------------------------------
def test_others_changes_are_told_but_expunges_wait_for_the_right_moment(
    raw: RawImap, host: DemoHost
) -> None:
    selected(raw, host, 3)
    folder = host.provider.folder()
    host.call(folder.expunge, [2])
    host.call(folder.set_flags, 3, frozenset({"\\Flagged"}))
    deliver(host, 1)
    lines = raw.do("FETCH 1:3 (UID)")
    assert lines == [
        "* 1 FETCH (UID 1)",
        "* 3 FETCH (UID 3)",
        "* 4 EXISTS",
        "* 3 FETCH (UID 3 FLAGS (\\Flagged))",
        "OK Fetched",
    ]
    assert raw.do("NOOP") == ["* 2 EXPUNGE", "OK Nothing done"]
    assert raw.do("FETCH 1:* (UID)")[:-1] == [
        "* 1 FETCH (UID 1)",
        "* 2 FETCH (UID 3)",
        "* 3 FETCH (UID 4)",
    ]


def test_a_message_that_came_and_went_is_never_mentioned(raw: RawImap, host: DemoHost) -> None:
    selected(raw, host, 1)
    deliver(host, 1)
    host.call(host.provider.folder().expunge, [2])
    assert "EXPUNGE" not in " ".join(raw.do("NOOP"))
    assert raw.do("FETCH 1:* (UID)") == ["* 1 FETCH (UID 1)", "OK Fetched"]


def test_idle_hears_everything_at_once_on_every_connection(host: DemoHost) -> None:
    deliver(host, 2)
    with RawImap(host) as one, RawImap(host) as two, RawImap(host) as writer:
        tags = []
        for client in (one, two):
            client.do("SELECT INBOX")
            tags.append(client.send("IDLE"))
            assert client.line() == "+ Idling"
        writer.do("SELECT INBOX")
        deliver(host, 1)
        writer.do("NOOP")
        writer.do("STORE 1 +FLAGS (\\Seen)")
        writer.do("STORE 2 +FLAGS.SILENT (\\Deleted)")
        writer.do("EXPUNGE")
        for client, tag in zip((one, two), tags, strict=True):
            heard = [client.line() for _ in range(4)]
            assert heard == [
                "* 3 EXISTS",
                "* 1 FETCH (UID 1 FLAGS (\\Seen))",
                "* 2 FETCH (UID 2 FLAGS (\\Deleted))",
                "* 2 EXPUNGE",
            ]
            client.socket.sendall(b"DONE\r\n")
            assert client.finish(tag)[-1].startswith("OK")


def test_imapclient_idles_and_hears_of_new_mail(host: DemoHost) -> None:
    with connect(host) as client:
        client.select_folder("INBOX")
        client.idle()
        deliver(host, 1)
        assert client.idle_check(timeout=5) == [(1, b"EXISTS")]
        client.idle_done()


def test_deleting_an_open_folder_says_goodbye(raw: RawImap, host: DemoHost) -> None:
    raw.do("CREATE Gone")
    with RawImap(host) as other:
        other.do("SELECT Gone")
        raw.do("DELETE Gone")
        assert other.line().startswith("* BYE")


# --- CONDSTORE and QRESYNC ------------------------------------------------------------------------
def test_modseq_is_told_once_a_client_knows_it(raw: RawImap, host: DemoHost) -> None:
    deliver(host, 2)
    lines = raw.do("SELECT INBOX (CONDSTORE)")
    assert "* OK [HIGHESTMODSEQ 3] Highest" in lines
    assert raw.do("UID FETCH 1:* (FLAGS) (CHANGEDSINCE 2)") == [
        "* 2 FETCH (UID 2 FLAGS () MODSEQ (3))",
        "OK Fetched",
    ]
    assert raw.do("UID STORE 1 +FLAGS.SILENT (\\Seen)")[0] == "* 1 FETCH (UID 1 MODSEQ (4))"
    # nothing changes, so the mod-sequence stays
    assert raw.do("UID STORE 1 +FLAGS (\\Seen)")[0].endswith("MODSEQ (4))")
    assert raw.do("UID SEARCH MODSEQ 4")[0] == "* SEARCH 1 (MODSEQ 4)"
    assert raw.do("FETCH 2 (MODSEQ)")[0] == "* 2 FETCH (MODSEQ (3))"


def test_unchangedsince_refuses_what_has_changed(raw: RawImap, host: DemoHost) -> None:
    selected(raw, host, 2)
    host.call(host.provider.folder().set_flags, 1, frozenset({"\\Flagged"}))
    lines = raw.do("UID STORE 1:2 (UNCHANGEDSINCE 3) +FLAGS (\\Seen)")
    assert lines[-1].startswith("OK [MODIFIED 1]")
    assert any("UID 2 FLAGS (\\Seen) MODSEQ (5)" in line for line in lines)
    assert host.provider.folder().messages[1].flags == {"\\Flagged"}


def test_qresync_tells_what_happened_since(raw: RawImap, host: DemoHost) -> None:
    uids = deliver(host, 6)
    folder = host.provider.folder()
    modseq = folder.highestmodseq
    host.call(folder.expunge, [2, 3, 5])
    host.call(folder.set_flags, uids[0], frozenset({"\\Seen"}))
    assert raw.do(f"SELECT INBOX (QRESYNC ({folder.uidvalidity} {modseq}))")[-1].startswith("BAD")
    raw.do("ENABLE QRESYNC")
    lines = raw.do(f"SELECT INBOX (QRESYNC ({folder.uidvalidity} {modseq}))")
    assert "* VANISHED (EARLIER) 2:3,5" in lines
    assert "* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (9))" in lines
    lines = raw.do(f"SELECT INBOX (QRESYNC ({folder.uidvalidity} {modseq} 1:3))")
    assert lines[0].startswith("* OK [CLOSED]")
    assert "* VANISHED (EARLIER) 2:3" in lines
    stale = raw.do(f"SELECT INBOX (QRESYNC ({folder.uidvalidity + 1} {modseq}))")
    assert not any("VANISHED" in line for line in stale)
    lines = raw.do(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq} VANISHED)")
    assert lines[0] == "* VANISHED (EARLIER) 2:3,5"


def test_with_qresync_an_expunge_is_a_vanished(raw: RawImap, host: DemoHost) -> None:
    raw.do("ENABLE QRESYNC")
    selected(raw, host, 5)
    host.call(host.provider.folder().expunge, [1, 2, 4])
    assert raw.do("NOOP")[0] == "* VANISHED 1:2,4"
    raw.do("UID STORE 3 +FLAGS.SILENT (\\Deleted)")
    lines = raw.do("EXPUNGE")
    assert lines[0] == "* VANISHED 3"
    assert lines[-1] == f"OK [HIGHESTMODSEQ {host.provider.folder().highestmodseq}] Expunged"


def test_ten_thousand_messages_are_served_faster_than_any_sync_reads(host: DemoHost) -> None:
    octets = PLAIN_MESSAGE + b"x" * 4_000 + b"\r\n"

    def fill() -> None:
        for _ in range(10_000):
            host.provider.deliver(octets)

    host.call(fill)
    with RawImap(host) as client:
        client.do("SELECT INBOX")
        started = time.monotonic()
        tag = client.send("UID FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])")
        received = 0
        ending = b""
        while not ending.endswith(b"OK Fetched\r\n"):
            chunk = client.socket.recv(1 << 20)
            assert chunk
            received += len(chunk)
            ending = (ending + chunk)[-40:]
        seconds = time.monotonic() - started
        assert tag.encode() in ending
        assert received > 40_000_000
        # 1,000 a second are wanted of the whole sync; a slow shared machine still passes this
        assert 10_000 / seconds > 3_000
