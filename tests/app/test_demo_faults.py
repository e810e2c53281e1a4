"""Each fault switch of the demo provider does what it says, and stops when it is switched off."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from tests.app.demo_host import PLAIN_MESSAGE, DemoHost, RawImap
from tindra.app.demo.faults import Faults, LoginRefusal
from tindra.wire.imap.lexer import LineReader
from tindra.wire.imap.response import Malformed, parse_response


@pytest.fixture
def host() -> Iterator[DemoHost]:
    with DemoHost() as running:
        for _ in range(3):
            running.call(running.provider.deliver, PLAIN_MESSAGE)
        yield running


@pytest.fixture
def raw(host: DemoHost) -> Iterator[RawImap]:
    with RawImap(host) as client:
        yield client


def is_malformed(line: str) -> bool:
    reader = LineReader("client")
    reader.feed(line.encode("latin-1") + b"\r\n")
    found = reader.next_line()
    assert found is not None
    return isinstance(parse_response(found), Malformed)


@pytest.mark.parametrize(
    ("switch", "capability", "command"),
    [
        ("no_condstore", "CONDSTORE", "SELECT INBOX (CONDSTORE)"),
        ("no_condstore", "QRESYNC", "STATUS INBOX (HIGHESTMODSEQ)"),
        ("no_qresync", "QRESYNC", None),
        ("no_move", "MOVE", "UID MOVE 1 Archive"),
        ("no_uidplus", "UIDPLUS", "UID EXPUNGE 1"),
        ("no_special_use", "SPECIAL-USE", None),
        ("no_idle", "IDLE", "IDLE"),
        ("no_esearch", "ESEARCH", "SEARCH RETURN (ALL) ALL"),
        ("no_list_status", "LIST-STATUS", None),
        ("no_literal_plus", "LITERAL+", None),
        ("no_enable", "ENABLE", "ENABLE CONDSTORE"),
        ("no_auth", "AUTH=PLAIN", "AUTHENTICATE PLAIN"),
    ],
)
def test_a_capability_can_be_taken_away(
    host: DemoHost, raw: RawImap, switch: str, capability: str, command: str | None
) -> None:
    assert capability in raw.do("CAPABILITY")[0].split()
    setattr(host.faults, switch, True)
    assert capability not in raw.do("CAPABILITY")[0].split()
    raw.do("SELECT INBOX")
    if command is not None:
        assert raw.do(command)[-1].startswith("BAD")


def test_roles_vanish_without_special_use(host: DemoHost, raw: RawImap) -> None:
    host.faults.no_special_use = True
    assert not any("\\Sent" in line for line in raw.do('LIST "" "*" RETURN (SPECIAL-USE)'))


def test_no_qresync_cannot_be_enabled(host: DemoHost, raw: RawImap) -> None:
    host.faults.no_qresync = True
    assert raw.do("ENABLE QRESYNC")[0] == "* ENABLED"


def test_copies_and_appends_hide_their_uids_without_uidplus(host: DemoHost, raw: RawImap) -> None:
    host.faults.no_uidplus = True
    raw.do("SELECT INBOX")
    assert raw.do("UID COPY 1 Archive") == ["OK Copied"]
    assert raw.do("APPEND Drafts {5+}\r\nhello")[-1] == "OK Appended"
    assert raw.do("UID MOVE 1 Archive")[0] == "* 1 EXPUNGE"


@pytest.mark.parametrize("octets", [0, 7])
def test_the_connection_is_cut_inside_of_a_literal(
    host: DemoHost, raw: RawImap, octets: int
) -> None:
    host.faults.drop_in_literal_at = octets
    host.faults.drops_left = 1
    raw.do("SELECT INBOX")
    raw.send("UID FETCH 1 (BODY.PEEK[])")
    received = raw.file.read()
    assert received.endswith(b"}\r\n" + PLAIN_MESSAGE[:octets])
    with RawImap(host) as again:  # the second try goes through
        again.do("SELECT INBOX")
        assert again.do("UID FETCH 1 (BODY.PEEK[])")[-1].startswith("OK")


def test_hanging_up_before_a_command_leaves_it_undone(host: DemoHost, raw: RawImap) -> None:
    host.faults.drop_before = frozenset({"APPEND"})
    raw.send("APPEND Drafts {5+}\r\nhello")
    assert raw.line() == ""
    assert not host.provider.folder("Drafts").messages


def test_hanging_up_after_a_command_leaves_it_done_and_unsaid(host: DemoHost, raw: RawImap) -> None:
    host.faults.drop_after = frozenset({"APPEND"})
    raw.send("APPEND Drafts {5+}\r\nhello")
    assert raw.line() == ""
    assert len(host.provider.folder("Drafts").messages) == 1


def test_a_stalled_command_is_never_answered(host: DemoHost, raw: RawImap) -> None:
    host.faults.stall_on = frozenset({"NOOP"})
    raw.send("NOOP")
    raw.socket.settimeout(0.2)
    with pytest.raises(TimeoutError):
        raw.file.readline()


def test_a_refused_command_is_answered_no(host: DemoHost, raw: RawImap) -> None:
    host.faults.refuse = frozenset({"UID STORE"})
    raw.do("SELECT INBOX")
    assert raw.do("UID STORE 1 +FLAGS (x)") == ["NO Not now"]


def test_bye_instead_of_a_greeting(host: DemoHost) -> None:
    host.faults.bye_at_once = True
    with RawImap(host, login=False) as client:
        assert client.greeting.startswith("* BYE [UNAVAILABLE]")
        assert client.line() == ""


def test_too_many_connections_are_turned_away(host: DemoHost, raw: RawImap) -> None:
    host.faults.connections_max = 1
    with RawImap(host, login=False) as client:
        assert client.greeting.startswith("* BYE")
    assert raw.do("NOOP")[-1].startswith("OK")


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        ("credentials", "[AUTHENTICATIONFAILED]"),
        ("throttled", "[UNAVAILABLE]"),
        ("disabled", "[ALERT]"),
    ],
)
def test_logins_are_refused_for_different_reasons(
    host: DemoHost, refusal: LoginRefusal, code: str
) -> None:
    host.faults.refuse_login = refusal
    with RawImap(host, login=False) as client:
        assert client.do("LOGIN demo@tindra.test demo")[-1].startswith(f"NO {code}")
        host.faults.heal()
        assert client.do("LOGIN demo@tindra.test demo")[-1].startswith("OK")


def test_long_commands_make_it_hang_up(host: DemoHost, raw: RawImap) -> None:
    host.faults.command_chars_max = 200
    raw.do("SELECT INBOX")
    assert raw.do("UID FETCH 1:3 (UID)")[-1].startswith("OK")
    raw.send(f"UID FETCH {','.join(map(str, range(1, 200)))} (UID)")
    assert raw.line() == ""


def test_folder_lists_lie(host: DemoHost, raw: RawImap) -> None:
    host.faults.hide_inbox = True
    assert not any('"INBOX"' in line for line in raw.do('LIST "" "*"'))
    host.faults.empty_list = True
    assert raw.do('LIST "" "*"') == ["OK Listed"]
    host.faults.heal()
    assert any('"INBOX"' in line for line in raw.do('LIST "" "*"'))


def test_a_phantom_is_listed_and_cannot_be_opened(host: DemoHost, raw: RawImap) -> None:
    host.faults.phantom_folders = frozenset({"Archive"})
    lines = raw.do('LIST "" "*" RETURN (STATUS (MESSAGES))')
    assert any(line.endswith('"Archive"') for line in lines)
    assert not any("STATUS" in line and "Archive" in line for line in lines)
    assert raw.do("SELECT Archive")[-1].startswith("NO")
    assert raw.do("STATUS Archive (MESSAGES)")[-1].startswith("NO")


def test_uidnext_is_forgotten(host: DemoHost, raw: RawImap) -> None:
    host.faults.forget_uidnext = True
    assert not any("UIDNEXT" in line for line in raw.do("SELECT INBOX"))
    assert raw.do("STATUS INBOX (MESSAGES UIDNEXT)")[0] == '* STATUS "INBOX" (MESSAGES 3)'


def test_uidvalidity_is_zero_or_new_each_time(host: DemoHost, raw: RawImap) -> None:
    def validity() -> str:
        return next(line for line in raw.do("SELECT INBOX") if "UIDVALIDITY" in line)

    assert validity() == validity()
    host.faults.renumber_on_select = True
    assert validity() != validity()
    assert raw.do("UID FETCH 1:* (UID)")[0] == "* 1 FETCH (UID 1)"
    host.faults.zero_uidvalidity = True
    assert "[UIDVALIDITY 0]" in validity()


def test_renumbering_sends_open_sessions_away(host: DemoHost, raw: RawImap) -> None:
    raw.do("SELECT INBOX")
    host.call(host.provider.folder().expunge, [1])
    host.call(host.provider.store.renumber, host.provider.folder())
    assert list(host.provider.folder().messages) == [1, 2]
    assert raw.line().startswith("* BYE")


def test_status_lies_and_garbles(host: DemoHost, raw: RawImap) -> None:
    host.faults.status_count_off = 5
    assert raw.do("STATUS INBOX (MESSAGES)")[0] == '* STATUS "INBOX" (MESSAGES 8)'
    host.faults.garbled_status = True
    assert is_malformed(raw.do("STATUS INBOX (MESSAGES UIDNEXT)")[0])


def test_the_highest_modseq_goes_down(host: DemoHost, raw: RawImap) -> None:
    host.faults.modseq_off = -2
    assert "* OK [HIGHESTMODSEQ 2] Highest" in raw.do("SELECT INBOX")


def test_vanished_is_garbled(host: DemoHost, raw: RawImap) -> None:
    folder = host.provider.folder()
    host.faults.malformed_vanished = True
    raw.do("ENABLE QRESYNC")
    raw.do("SELECT INBOX")
    host.call(folder.expunge, [2])
    assert is_malformed(raw.do("NOOP")[0])
    lines = raw.do(f"SELECT INBOX (QRESYNC ({folder.uidvalidity} 1))")
    assert is_malformed(next(line for line in lines if "VANISHED (EARLIER)" in line))


def test_lines_are_huge(host: DemoHost, raw: RawImap) -> None:
    host.faults.huge_line_octets = 1_500_000
    raw.do("SELECT INBOX")
    lines = raw.do("UID FETCH 1 (UID)")
    assert len(lines[0]) > 1_500_000
    assert lines[1] == "* 1 FETCH (UID 1)"


def test_fetch_answers_lack_what_was_asked(host: DemoHost, raw: RawImap) -> None:
    host.faults.fetch_without_flags = host.faults.fetch_without_date = True
    host.faults.fetch_without_modseq = True
    raw.do("SELECT INBOX (CONDSTORE)")
    lines = raw.do("UID FETCH 1 (FLAGS INTERNALDATE) (CHANGEDSINCE 1)")
    assert lines == ["* 1 FETCH (UID 1)", "OK Fetched"]


def test_days_have_one_digit(host: DemoHost, raw: RawImap) -> None:
    host.clock.time_ms = 1_793_700_000_000  # 3 November
    host.call(host.provider.deliver, PLAIN_MESSAGE)
    host.faults.one_digit_day = True
    raw.do("SELECT INBOX")
    assert 'INTERNALDATE "3-Nov-2026' in raw.do("FETCH 4 (INTERNALDATE)")[0]
    assert 'INTERNALDATE "18-Nov-2026' in raw.do("FETCH 1 (INTERNALDATE)")[0]


def test_answers_nobody_asked_for(host: DemoHost, raw: RawImap) -> None:
    host.faults.unsolicited_fetch = True
    raw.do("SELECT INBOX")
    assert raw.do("UID FETCH 1 (UID)") == [
        "* 3 FETCH (FLAGS (\\Seen))",
        "* 1 FETCH (UID 1)",
        "OK Fetched",
    ]


def test_the_newest_message_cannot_be_fetched_yet(host: DemoHost, raw: RawImap) -> None:
    host.faults.unfetchable_newest = True
    assert "* 3 EXISTS" in raw.do("SELECT INBOX")
    assert len(raw.do("UID FETCH 1:* (UID)")) - 1 == 2


def test_answers_come_in_any_order(host: DemoHost, raw: RawImap) -> None:
    for _ in range(30):
        host.call(host.provider.deliver, PLAIN_MESSAGE)
    host.faults.fetch_shuffled = True
    raw.do("SELECT INBOX")
    uids = [int(line.split("UID ")[1].rstrip(")")) for line in raw.do("UID FETCH 1:* (UID)")[:-1]]
    assert uids != sorted(uids)
    assert sorted(uids) == list(range(1, 34))


def test_parentheses_in_search_are_not_understood(host: DemoHost, raw: RawImap) -> None:
    host.faults.simple_search_only = True
    raw.do("SELECT INBOX")
    assert raw.do("SEARCH (SEEN)")[-1].startswith("BAD")
    assert raw.do("SEARCH UNSEEN")[0] == "* SEARCH 1 2 3"


def test_idle_is_deaf_or_cut(host: DemoHost, raw: RawImap) -> None:
    host.faults.deaf_idle = True
    raw.do("SELECT INBOX")
    tag = raw.send("IDLE")
    raw.line()
    host.call(host.provider.deliver, PLAIN_MESSAGE)
    raw.socket.sendall(b"DONE\r\n")
    # silent until the command ends, and told then
    assert raw.finish(tag) == ["* 4 EXISTS", "OK Idle no more"]
    host.faults.drop_idle = True
    raw.send("IDLE")
    assert raw.line() == ""


def test_every_switch_is_off_at_first_and_after_healing() -> None:
    faults = Faults()
    for name, value in msgspec.structs.asdict(faults).items():
        assert not value, name
    faults.no_move = True
    faults.refuse_recipients = frozenset({"*"})
    faults.drops_left = 3
    faults.heal()
    assert faults == Faults()


def test_drops_are_counted_down() -> None:
    faults = Faults(drops_left=2)
    assert [faults.take_drop() for _ in range(4)] == [True, True, False, False]
    assert Faults().take_drop()
