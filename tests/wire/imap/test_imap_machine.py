"""The client machine against transcripts: who may say what, when, and what it means afterwards.

A transcript is a list of steps: `b"S: ..."` is a line of the server, `b"C: ..."` is what the
machine must have written by then, a `Command` is sent.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.imap.test_imap_lexer import HOSTILE
from tindra.wire.imap import verbs
from tindra.wire.imap.collect import SearchAnswer, SelectAnswer
from tindra.wire.imap.command import AString, Command, Mailbox
from tindra.wire.imap.errors import LocalProtocolError, RemoteProtocolError
from tindra.wire.imap.machine import (
    IN_FLIGHT_MAX,
    ClientMachine,
    Done,
    Event,
    Greeting,
    IdleStarted,
    State,
)
from tindra.wire.imap.response import Exists, Other, Status, Vanished

INBOX = Mailbox("INBOX")
LOGIN = verbs.login("joe", "pw")


def play(machine: ClientMachine, *steps: bytes | Command) -> list[Event]:
    """Run a transcript; all events in order. What was written must match exactly at each C step."""
    events: list[Event] = []
    for step in steps:
        if isinstance(step, Command):
            machine.send(step)
        elif step.startswith(b"C: "):
            assert b"".join(machine.data_to_send()) == step[3:]
        else:
            machine.receive_data(step[3:] + b"\r\n")
            while (event := machine.next_event()) is not None:
                events.append(event)
    return events


def greeted(capabilities: bytes = b"IMAP4rev1 LITERAL+") -> ClientMachine:
    machine = ClientMachine()
    play(machine, b"S: * OK [CAPABILITY " + capabilities + b"] hi")
    return machine


def logged_in(capabilities: bytes = b"IMAP4rev1 LITERAL+") -> ClientMachine:
    machine = greeted(capabilities)
    play(machine, LOGIN, b"C: t1 LOGIN joe pw\r\n", b"S: t1 OK in")
    return machine


def selected(capabilities: bytes = b"IMAP4rev1 LITERAL+") -> ClientMachine:
    machine = logged_in(capabilities)
    play(machine, verbs.select(INBOX), b"C: t2 SELECT INBOX\r\n", b"S: t2 OK [READ-WRITE] go")
    return machine


@pytest.mark.parametrize(
    ("line", "state"),
    [
        (b"* OK hi", State.NOT_AUTHENTICATED),
        (b"* PREAUTH hi", State.AUTHENTICATED),
        (b"* BYE full", State.LOGOUT),
    ],
)
def test_the_greeting_sets_the_state(line: bytes, state: State) -> None:
    machine = ClientMachine()
    [event] = play(machine, b"S: " + line)
    assert isinstance(event, Greeting)
    assert machine.state is state


@pytest.mark.parametrize(
    "line", [b"* NO hi", b"t1 OK hi", b"* CAPABILITY X", b"+ hi", b"HTTP/1.1 400"]
)
def test_what_is_no_greeting_ends_it(line: bytes) -> None:
    machine = ClientMachine()
    with pytest.raises(RemoteProtocolError):
        play(machine, b"S: " + line)
    assert machine.state is State.CLOSED
    assert machine.next_event() is None


def test_the_states_follow_login_select_unselect_logout() -> None:
    machine = greeted()
    play(machine, LOGIN, b"C: t1 LOGIN joe pw\r\n", b"S: t1 NO wrong")
    assert machine.state is State.NOT_AUTHENTICATED
    play(machine, LOGIN, b"C: t2 LOGIN joe pw\r\n", b"S: t2 OK in")
    assert machine.state is State.AUTHENTICATED
    play(machine, verbs.select(INBOX), b"S: t3 OK [READ-WRITE] go")
    assert machine.state is State.SELECTED
    play(machine, verbs.select(Mailbox("x")), b"S: t4 NO gone")
    assert machine.state is State.AUTHENTICATED
    play(machine, verbs.select(INBOX), b"S: t5 OK", verbs.UNSELECT, b"S: t6 OK")
    assert machine.state is State.AUTHENTICATED
    play(machine, verbs.LOGOUT, b"S: * BYE bye", b"S: t7 OK")
    assert machine.state is State.LOGOUT
    with pytest.raises(LocalProtocolError):
        machine.send(verbs.NOOP)


@pytest.mark.parametrize(
    ("machine", "command"),
    [
        (ClientMachine(), verbs.NOOP),
        (greeted(), verbs.select(INBOX)),
        (greeted(), verbs.IDLE),
        (logged_in(), LOGIN),
        (logged_in(), verbs.STARTTLS),
        (logged_in(), verbs.uid_search()),
        (selected(), verbs.enable("QRESYNC")),
        (selected(), Command(name="XYZZY")),
    ],
)
def test_what_a_state_does_not_allow_is_not_sent(machine: ClientMachine, command: Command) -> None:
    machine.data_to_send()
    with pytest.raises(LocalProtocolError):
        machine.send(command)
    assert machine.data_to_send() == []
    assert machine.in_flight == 0


def test_capabilities_are_forgotten_by_login_unless_told_again() -> None:
    machine = greeted()
    assert machine.is_capability_known
    play(machine, LOGIN, b"S: t1 OK in")
    assert not machine.is_capability_known
    machine = greeted()
    play(machine, LOGIN, b"S: t1 OK [CAPABILITY IMAP4rev1 MOVE] in")
    assert machine.is_capability_known
    assert "MOVE" in machine.capabilities
    machine = greeted()
    play(machine, LOGIN, b"S: * CAPABILITY IMAP4rev1 IDLE", b"S: t1 OK in")
    assert machine.is_capability_known
    assert machine.capabilities == {"IMAP4REV1", "IDLE"}


def test_enabled_extensions_are_remembered() -> None:
    machine = logged_in()
    play(machine, verbs.enable("QRESYNC"), b"S: * ENABLED QRESYNC CONDSTORE", b"S: t2 OK")
    assert machine.enabled == {"QRESYNC", "CONDSTORE"}


# --- literals and pipelining ----------------------------------------------------------------------


def test_a_literal_waits_for_the_go_ahead_and_holds_back_what_follows() -> None:
    machine = logged_in(b"IMAP4rev1")
    events = play(
        machine,
        verbs.append(INBOX, b"one", [], None),
        verbs.create(Mailbox("Entwürfe 1")),
        b"C: t2 APPEND INBOX {3}\r\n",
        b"S: + go",
        b'C: one\r\nt3 CREATE "Entw&APw-rfe 1"\r\n',
        b"S: t2 OK [APPENDUID 1 2] done",
        b"S: t3 OK",
    )
    assert [event.tag for event in events if isinstance(event, Done)] == ["t2", "t3"]


def test_two_literals_in_one_command_wait_twice() -> None:
    machine = greeted(b"IMAP4rev1")
    play(
        machine,
        Command(name="LOGIN", arguments=(AString(b"j\r\n"), AString(b"p\r\n"))),
        b"C: t1 LOGIN {3}\r\n",
        b"S: + a",
        b"C: j\r\n {3}\r\n",
        b"S: + b",
        b"C: p\r\n\r\n",
        b"S: t1 OK",
    )
    assert machine.state is State.AUTHENTICATED


def test_a_refusal_in_place_of_the_go_ahead_drops_the_rest_of_the_command() -> None:
    machine = logged_in(b"IMAP4rev1")
    events = play(
        machine,
        verbs.append(Mailbox("x"), b"secret", [], None),
        verbs.NOOP,
        b"C: t2 APPEND x {6}\r\n",
        b"S: t2 NO [TRYCREATE] no such box",
        b"C: t3 NOOP\r\n",
        b"S: t3 OK",
    )
    assert isinstance(events[0], Done)
    assert events[0].status.kind == "NO"
    assert machine.in_flight == 0


def test_an_ok_before_the_command_was_complete_is_an_error() -> None:
    machine = logged_in(b"IMAP4rev1")
    with pytest.raises(RemoteProtocolError):
        play(machine, verbs.append(INBOX, b"x", [], None), b"S: t2 OK")


def test_with_literal_plus_nothing_waits() -> None:
    machine = logged_in()
    play(machine, verbs.append(INBOX, b"one", [], None), b"C: t2 APPEND INBOX {3+}\r\none\r\n")


def test_a_large_message_is_not_copied() -> None:
    machine = logged_in()
    raw = b"x" * 100_000
    machine.send(verbs.append(INBOX, raw, [], None))
    assert any(buffer is raw for buffer in machine.data_to_send())


def test_answers_may_come_in_any_order_and_unknown_tags_end_it() -> None:
    machine = selected()
    events = play(
        machine, verbs.NOOP, verbs.uid_search(), b"S: t4 OK", b"S: * 3 EXISTS", b"S: t3 OK"
    )
    assert [type(event) for event in events] == [Done, Exists, Done]
    with pytest.raises(RemoteProtocolError):
        play(machine, b"S: t99 OK")


@pytest.mark.parametrize("alone", [verbs.select(INBOX), verbs.UNSELECT, verbs.IDLE])
def test_what_changes_the_meaning_of_answers_travels_alone(alone: Command) -> None:
    machine = selected()
    machine.send(verbs.NOOP)
    with pytest.raises(LocalProtocolError):
        machine.send(alone)
    machine = selected()
    machine.send(alone)
    with pytest.raises(LocalProtocolError):
        machine.send(verbs.NOOP)


def test_the_number_of_commands_in_flight_is_bounded() -> None:
    machine = selected()
    for _ in range(IN_FLIGHT_MAX):
        machine.send(verbs.NOOP)
    with pytest.raises(LocalProtocolError):
        machine.send(verbs.NOOP)


def test_a_go_ahead_that_nobody_waits_for_does_no_harm() -> None:
    assert play(selected(), b"S: + hello?") == [Other("+")]


# --- AUTHENTICATE ---------------------------------------------------------------------------------


def test_plain_rides_on_the_command_or_waits() -> None:
    secret = base64.b64encode(b"\0joe\0pw")
    first = greeted(b"IMAP4rev1 SASL-IR")
    play(
        first,
        verbs.authenticate_plain("joe", "pw", is_initial=True),
        b"C: t1 AUTHENTICATE PLAIN " + secret + b"\r\n",
        b"S: t1 OK",
    )
    assert first.state is State.AUTHENTICATED
    second = greeted()
    play(
        second,
        verbs.authenticate_plain("joe", "pw", is_initial=False),
        b"C: t1 AUTHENTICATE PLAIN\r\n",
        b"S: +",
        b"C: " + secret + b"\r\n",
        b"S: t1 OK",
    )
    assert second.state is State.AUTHENTICATED


def test_the_error_challenge_of_xoauth2_is_answered_and_kept() -> None:
    machine = greeted()
    told = base64.b64encode(b'{"status":"400"}')
    play(
        machine,
        verbs.authenticate_xoauth2("joe@x", "token", is_initial=True),
        b"C: t1 AUTHENTICATE XOAUTH2 "
        + base64.b64encode(b"user=joe@x\x01auth=Bearer token\x01\x01")
        + b"\r\n",
        b"S: + " + told,
        b"C: \r\n",
        b"S: t1 NO [AUTHENTICATIONFAILED] no",
    )
    assert machine.sasl_challenge == b'{"status":"400"}'
    assert machine.state is State.NOT_AUTHENTICATED


def test_a_server_that_never_stops_asking_is_cancelled_then_dropped() -> None:
    machine = greeted()
    play(machine, verbs.authenticate_plain("joe", "pw", is_initial=True))
    machine.data_to_send()
    play(machine, b"S: + more", b"C: *\r\n")
    with pytest.raises(RemoteProtocolError):
        play(machine, b"S: + more")


def test_no_control_character_gets_into_a_credential() -> None:
    with pytest.raises(LocalProtocolError):
        verbs.authenticate_plain("joe\0root", "pw", is_initial=True)
    with pytest.raises(LocalProtocolError):
        verbs.authenticate_xoauth2("joe\x01auth=Bearer x", "token", is_initial=True)


# --- STARTTLS -------------------------------------------------------------------------------------


def test_starttls_forgets_what_was_said_in_the_clear() -> None:
    machine = greeted(b"IMAP4rev1 STARTTLS LITERAL+")
    play(machine, verbs.STARTTLS, b"C: t1 STARTTLS\r\n", b"S: t1 OK begin")
    assert machine.state is State.SECURING
    with pytest.raises(LocalProtocolError):
        machine.send(verbs.NOOP)
    machine.tls_started()
    assert machine.state is State.NOT_AUTHENTICATED
    assert machine.capabilities == frozenset()
    assert not machine.is_capability_known
    play(machine, Command(name="LOGIN", arguments=(AString(b"\n"), AString(b"x"))))
    assert machine.data_to_send() == [b"t2 LOGIN {1}\r\n"], "LITERAL+ was said in the clear"


def test_octets_planted_behind_the_ok_of_starttls_are_an_error() -> None:
    together = greeted(b"STARTTLS")
    together.send(verbs.STARTTLS)
    together.receive_data(b"t1 OK begin\r\n* CAPABILITY IMAP4rev1 AUTH=EVIL\r\n")
    with pytest.raises(RemoteProtocolError):
        together.next_event()
    assert together.state is State.CLOSED
    later = greeted(b"STARTTLS")
    play(later, verbs.STARTTLS, b"S: t1 OK begin")
    with pytest.raises(RemoteProtocolError):
        later.receive_data(b"t2 OK")


def test_tls_may_not_start_unasked() -> None:
    with pytest.raises(LocalProtocolError):
        greeted().tls_started()


# --- IDLE -----------------------------------------------------------------------------------------


def test_idle_tells_news_until_done() -> None:
    machine = selected()
    events = play(
        machine,
        verbs.IDLE,
        b"C: t3 IDLE\r\n",
        b"S: + idling",
        b"S: * 4 EXISTS",
        b"S: * VANISHED 7",
    )
    assert events == [IdleStarted(), Exists(4), Vanished([(7, 7)], is_earlier=False)]
    assert machine.state is State.IDLING
    with pytest.raises(LocalProtocolError):
        machine.send(verbs.NOOP)
    machine.done()
    machine.done()
    play(machine, b"C: DONE\r\n", b"S: t3 OK", verbs.NOOP, b"C: t4 NOOP\r\n")
    assert machine.state is State.SELECTED


def test_done_before_the_go_ahead_waits_for_it() -> None:
    machine = selected()
    play(machine, verbs.IDLE, b"C: t3 IDLE\r\n")
    machine.done()
    assert machine.data_to_send() == []
    play(machine, b"S: + idling", b"C: DONE\r\n", b"S: + again?", b"C: ", b"S: t3 OK")
    assert machine.state is State.SELECTED
    assert machine.in_flight == 0


def test_an_idle_that_is_refused_or_ended_by_the_server_leaves_no_trace() -> None:
    machine = selected()
    play(machine, verbs.IDLE, b"S: t3 BAD unknown")
    assert machine.state is State.SELECTED
    play(machine, verbs.IDLE, b"S: + idling", b"S: t4 OK enough")
    assert machine.state is State.SELECTED
    with pytest.raises(LocalProtocolError):
        machine.done()


def test_bye_and_eof_end_every_state() -> None:
    machine = selected()
    [event] = play(machine, b"S: * BYE [UNAVAILABLE] going down")
    assert isinstance(event, Status)
    assert machine.state is State.LOGOUT
    machine.receive_eof()
    assert machine.state is State.CLOSED
    with pytest.raises(LocalProtocolError):
        machine.send(verbs.NOOP)


@given(HOSTILE, st.integers(0, 2))
def test_any_bytes_at_any_time_give_events_or_a_named_error(data: bytes, stage: int) -> None:
    makers: list[Callable[[], ClientMachine]] = [ClientMachine, greeted, selected]
    machine = makers[stage]()
    if stage == 2:
        machine.send(verbs.append(INBOX, b"x", [], None))
    try:
        machine.receive_data(data + b"\r\n")
        while machine.next_event() is not None:
            pass
    except RemoteProtocolError:
        assert machine.state is State.CLOSED


# --- answers gathered from many lines -------------------------------------------------------------

_SELECT_LINES = (
    b"S: * 3 EXISTS",
    b"S: * 1 RECENT",
    b"S: * FLAGS (\\Seen $Work)",
    b"S: * OK [PERMANENTFLAGS (\\Seen \\*)] ok",
    b"S: * OK [UIDVALIDITY 67890007] ok",
    b"S: * OK [UIDNEXT 600] ok",
    b"S: * OK [HIGHESTMODSEQ 90060115205545359] ok",
)


def select_answer(*lines: bytes) -> SelectAnswer:
    machine = logged_in()
    answer = SelectAnswer()
    done = None
    for event in play(machine, verbs.select(INBOX, known=(67890007, 5, [])), *lines):
        if isinstance(event, Done):
            done = event.status
        else:
            answer.take(event)
    assert done is not None
    answer.finish(done)
    return answer


def test_a_qresync_select_tells_everything_that_happened() -> None:
    answer = select_answer(
        *_SELECT_LINES,
        b"S: * VANISHED (EARLIER) 41,43:116",
        b"S: * VANISHED (EARLIER) 42",
        b"S: * 49 FETCH (UID 117 FLAGS (\\Seen) MODSEQ (90060115194045001))",
        b"S: t2 OK [READ-ONLY] selected",
    )
    assert answer.exists == 3
    assert answer.uid_next == 600
    assert answer.permanent_flags == {"\\Seen", "\\*"}
    assert answer.read_only
    assert answer.vanished == [(41, 116)]
    assert [fetch.uid for fetch in answer.changed] == [117]
    assert answer.is_resynced(67890007, 90060115194045000)


@pytest.mark.parametrize(
    ("validity", "modseq", "line"),
    [
        (1, 5, b"* 3 EXISTS"),  # the numbering changed
        (67890007, 2**62, b"* 3 EXISTS"),  # the server went back in time
        (67890007, 5, b"* OK [NOMODSEQ] none here"),
        (67890007, 5, b"* VANISHED (EARLIER) 1:"),
        (67890007, 5, b"* 2 FETCH (FLAGS ())"),
        (67890007, 5, b"* 2 FETCH (UID x)"),
        (67890007, 5, b"* OK [HIGHESTMODSEQ 0]"),
    ],
)
def test_a_resync_with_a_doubt_is_none(validity: int, modseq: int, line: bytes) -> None:
    answer = select_answer(*_SELECT_LINES, b"S: " + line, b"S: t2 OK")
    assert not answer.is_resynced(validity, modseq)


def search_answer(*lines: bytes) -> list[int] | None:
    answer = SearchAnswer()
    for event in play(selected(), verbs.uid_search(), *lines):
        if not isinstance(event, Done):
            answer.take(event)
    return answer.uids()


@pytest.mark.parametrize(
    ("lines", "uids"),
    [
        ((b"S: * SEARCH 3 1", b"S: * SEARCH 2 1"), [1, 2, 3]),
        ((b"S: * SEARCH",), []),
        ((b'S: * ESEARCH (TAG "t3") UID ALL 1:3 COUNT 3',), [1, 2, 3]),
        ((b'S: * ESEARCH (TAG "t3") UID COUNT 0',), []),
        ((b'S: * ESEARCH (TAG "t3") UID ALL 1:9 COUNT 3',), None),  # a range with holes
        ((b'S: * ESEARCH (TAG "t3") UID COUNT 3',), None),
        ((b"S: * SEARCH 1 x",), None),
        ((), None),
    ],
)
def test_a_search_is_complete_or_no_answer(
    lines: tuple[bytes, ...], uids: list[int] | None
) -> None:
    assert search_answer(*lines, b"S: t3 OK") == uids
