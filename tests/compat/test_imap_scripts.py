"""`outside/imap` against servers that lie, refuse, stall and drop: each one a few lines of script.

The script answers whole commands; the transport is a real socket on the loop's own machinery.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from tindra.outside.imap import window as window_module
from tindra.outside.imap.client import ImapConnection
from tindra.outside.imap.provider import ImapProvider
from tindra.outside.imap.quirks import DEFAULT_QUIRKS, QUIRKS, Quirks, find_quirks
from tindra.outside.imap.roles import Candidate, decide_roles
from tindra.outside.imap.session import ImapSession
from tindra.sync.ports import (
    AuthRevoked,
    Known,
    ProviderError,
    Rejected,
    RemoteMessage,
    ServerSettings,
    Throttled,
    Transient,
)
from tindra.wire.imap import verbs
from tindra.wire.imap.lexer import LineReader

CAPABILITIES = "IMAP4rev1 LITERAL+ SASL-IR AUTH=PLAIN IDLE MOVE UIDPLUS ENABLE CONDSTORE QRESYNC"
SELECTED = [
    "* 3 EXISTS",
    "* OK [UIDVALIDITY 7] ok",
    "* OK [UIDNEXT 10] ok",
    "* OK [HIGHESTMODSEQ 50] ok",
]


class Script:
    """A server of one connection after another.

    Args:
        answers: lines by command name without tag (such as `UID FETCH`); `{tag}` in a line is
            replaced, a line `CLOSE` hangs up, and without a tagged line `OK` is added.
    """

    def __init__(self, answers: dict[str, list[str]], greeting: str | None = None) -> None:
        self.answers = answers
        self.greeting = greeting or f"* OK [CAPABILITY {CAPABILITIES}] hi"
        self.heard: list[str] = []
        self.writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        if self.greeting != "SILENCE":
            writer.write(self.greeting.encode() + b"\r\n")
        lines = LineReader("server")
        idle_tag = ""
        try:
            while data := await reader.read(65536):
                lines.feed(data)
                while (line := lines.next_line()) is not None:
                    if line.text == "DONE":
                        self.say(f"{idle_tag} OK idled")
                        continue
                    tag, _, rest = line.text.partition(" ")
                    self.heard.append(rest)
                    name = " ".join(rest.split(" ")[: 2 if rest.startswith("UID ") else 1])
                    idle_tag = tag if name == "IDLE" else idle_tag
                    self.answer(tag, name)
        except ConnectionError:
            pass
        finally:
            writer.close()

    def answer(self, tag: str, name: str) -> None:
        lines = self.answers.get(name)
        if lines is None:
            lines = ["+ idling"] if name == "IDLE" else []
        for line in lines:
            if line == "CLOSE":
                assert self.writer is not None
                self.writer.close()
                return
            if line != "SILENCE":
                self.say(line.replace("{tag}", tag))
        is_answered = any(line.startswith(("{tag}", "+", "SILENCE")) for line in lines)
        if not is_answered:
            self.say(f"{tag} OK done")

    def say(self, line: str) -> None:
        assert self.writer is not None
        self.writer.write(line.encode("latin-1") + b"\r\n")


@asynccontextmanager
async def running(script: Script) -> AsyncIterator[int]:
    """The script on a free port."""
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0)


def settings(port: int, tls: str = "none", auth: str = "password") -> ServerSettings:
    return msgspec.convert(
        {"host": "127.0.0.1", "port": port, "tls": tls, "username": "joe", "auth": auth},
        ServerSettings,
    )


def run(
    script: Script,
    act: Callable[[ImapSession], Awaitable[object]],
    quirks: Quirks = DEFAULT_QUIRKS,
) -> object:
    """Connect to the script, do `act`, close."""

    async def main() -> object:
        async with running(script) as port:
            provider = ImapProvider(choose_quirks=lambda _: quirks)
            session = await provider.connect(settings(port), "pw")
            try:
                return await act(session)
            finally:
                await session.close()

    return asyncio.run(main())


def fails(script: Script, act: Callable[[ImapSession], Awaitable[object]]) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        run(script, act)
    return caught.value


def connect_error(script: Script, tls: str = "none", auth: str = "password") -> ProviderError:
    async def main() -> None:
        async with running(script) as port:
            session = await ImapProvider().connect(settings(port, tls, auth), "pw")
            await session.close()

    with pytest.raises(ProviderError) as caught:
        asyncio.run(main())
    return caught.value


# --- getting in -----------------------------------------------------------------------------------


def test_a_greeting_of_bye_is_told_in_the_servers_words() -> None:
    error = connect_error(Script({}, "* BYE Too many simultaneous connections"))
    assert isinstance(error, Throttled)
    assert error.server_words == "Too many simultaneous connections"


def test_a_wrong_password_is_the_owners_business() -> None:
    script = Script({"AUTHENTICATE": ["{tag} NO [AUTHENTICATIONFAILED] Invalid credentials"]})
    assert isinstance(connect_error(script), AuthRevoked)


def test_a_login_that_fails_for_the_servers_own_trouble_is_transient() -> None:
    script = Script({"AUTHENTICATE": ["{tag} NO [UNAVAILABLE] backend down"]})
    error = connect_error(script)
    assert isinstance(error, Transient)
    assert not isinstance(error, Throttled)


def test_the_pause_that_a_server_asks_for_is_kept() -> None:
    words = "Request is throttled. Suggested Backoff Time: 92415 milliseconds"
    error = connect_error(Script({"AUTHENTICATE": ["{tag} NO " + words]}))
    assert isinstance(error, Throttled)
    assert error.retry_after_ms == 92415


def test_a_mechanism_that_is_announced_and_not_understood_falls_back_to_login() -> None:
    script = Script({"AUTHENTICATE": ["{tag} BAD what?"]})
    run(script, lambda session: session.noop())
    assert "LOGIN joe pw" in script.heard


def test_no_password_is_sent_where_the_server_disables_login() -> None:
    script = Script({}, "* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] hi")
    error = connect_error(script)
    assert error.code == "TLS_MODE"
    assert script.heard == []


def test_an_oauth_error_is_told_in_the_servers_words() -> None:
    script = Script({"AUTHENTICATE": ["+ eyJzdGF0dXMiOiI0MDAifQ==", "{tag} NO"]})
    error = connect_error(script, auth="xoauth2")
    assert isinstance(error, AuthRevoked)
    assert error.server_words == '{"status":"400"}'


@pytest.mark.parametrize(
    ("greeting", "answers"),
    [
        ("* OK [CAPABILITY IMAP4rev1] no TLS here", {}),
        ("* OK hi", {"STARTTLS": ["{tag} BAD what?"]}),
        ("* PREAUTH [CAPABILITY IMAP4rev1 STARTTLS] come in", {}),
    ],
)
def test_without_tls_nothing_is_said_after_starttls(
    greeting: str, answers: dict[str, list[str]]
) -> None:
    script = Script(answers, greeting)
    error = connect_error(script, "starttls")
    assert isinstance(error, Rejected)
    assert error.code == "TLS_MODE"
    assert script.heard in ([], ["STARTTLS"])


def test_octets_planted_before_tls_end_the_connection() -> None:
    planted = ["{tag} OK begin\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN"]
    error = connect_error(Script({"STARTTLS": planted}, "* OK hi"), "starttls")
    assert error.code in ("PROTOCOL", "UNREACHABLE", "CLOSED")


def test_an_address_that_is_not_allowed_is_never_connected_to() -> None:
    script = Script({})

    async def main() -> None:
        async with running(script) as port:
            provider = ImapProvider(is_address_allowed=lambda address: address != "127.0.0.1")
            await provider.connect(settings(port), "pw")

    with pytest.raises(Rejected):
        asyncio.run(main())
    assert script.writer is None


def test_something_that_is_no_imap_is_said_to_be_so() -> None:
    assert connect_error(Script({}, "SSH-2.0-OpenSSH_9.2")).code == "PROTOCOL"


def test_a_silent_server_is_given_up() -> None:
    script = Script({"NOOP": ["SILENCE"]}, "* PREAUTH hi")

    async def main() -> None:
        async with running(script) as port:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(
                lambda: ImapConnection(lambda _: None, silence_ms_max=60), "127.0.0.1", port
            )
            await connection.greeting(is_secured=False)
            await connection.run(verbs.NOOP)

    with pytest.raises(Transient) as caught:
        asyncio.run(main())
    assert caught.value.code == "SILENT"


# --- mailboxes ------------------------------------------------------------------------------------


def test_an_empty_list_is_an_error_not_an_empty_account() -> None:
    assert isinstance(fails(Script({"LIST": []}), lambda s: s.list_mailboxes()), Transient)


def test_one_odd_mailbox_does_not_hide_the_others_and_goes_back_as_it_came() -> None:
    script = Script(
        {
            "LIST": [
                '* LIST () "/" INBOX',
                '* LIST () "/" "foo"bar"',
                '* LIST (\\Noselect) "/" "Entw\xfcrfe"',
                '* LIST (\\Noselect) "/" ""',
            ],
            "SELECT": SELECTED,
        }
    )

    async def act(session: ImapSession) -> None:
        found = await session.list_mailboxes()
        assert [(one.name, one.selectable) for one in found] == [
            ("INBOX", True),
            ("Entwürfe", False),
        ]
        await session.delete_mailbox("Entwürfe")

    run(script, act)
    assert script.heard[-3].startswith("DELETE ")  # then UNSUBSCRIBE and LOGOUT


@pytest.mark.parametrize("lines", [["* STATUS x (MESSAGES 3 UIDVALIDITY 0)"], ["* STATUS x"], []])
def test_a_status_without_uidvalidity_is_an_error(lines: list[str]) -> None:
    assert fails(Script({"STATUS": lines}), lambda s: s.status("x")).code == "NOSTATUS"


def test_a_mailbox_without_uidvalidity_is_an_error() -> None:
    script = Script({"SELECT": ["* 3 EXISTS", "* OK [UIDVALIDITY 0] none"]})
    assert fails(script, lambda s: s.select("x")).code == "NOSTATUS"


def test_a_name_that_cannot_be_said_is_refused_here() -> None:
    assert fails(Script({}), lambda s: s.select("a\r\nb")).code == "LOCAL"


def test_a_malformed_loss_makes_the_resync_incomplete() -> None:
    script = Script(
        {
            "ENABLE": ["* ENABLED QRESYNC"],
            "SELECT": [*SELECTED, "* VANISHED (EARLIER) 3-5"],
        }
    )

    async def act(session: ImapSession) -> None:
        found = await session.select("x", Known(7, 40))
        assert not found.is_resynced
        assert found.vanished == []

    run(script, act)
    assert "SELECT x (QRESYNC (7 40))" in script.heard


@pytest.mark.parametrize("lines", [["* SEARCH"], [], ["* SEARCH 1 2"], ["* SEARCH 1 x 3"]])
def test_a_listing_that_contradicts_the_count_is_an_error(lines: list[str]) -> None:
    script = Script({"SELECT": SELECTED, "UID SEARCH": lines})

    async def act(session: ImapSession) -> None:
        await session.select("x")
        await session.list_uids()

    assert fails(script, act).code == "EMPTY"


# --- messages -------------------------------------------------------------------------------------


def selecting(
    act: Callable[[ImapSession], Awaitable[object]],
) -> Callable[[ImapSession], Awaitable[object]]:
    async def selected(session: ImapSession) -> object:
        await session.select("x")
        return await act(session)

    return selected


def without(*names: str) -> str:
    kept = [name for name in CAPABILITIES.split() if name not in names]
    return f"* OK [CAPABILITY {' '.join(kept)}] hi"


def test_flags_come_for_what_was_asked_and_nothing_else() -> None:
    script = Script(
        {
            "SELECT": SELECTED,
            "UID FETCH": [
                "* 9 FETCH (UID 9 FLAGS (\\Seen))",
                "* 2 FETCH (UID 5 FLAGS (\\Seen \\Recent) MODSEQ (3))",
                "* 2 FETCH (MODSEQ (4))",
                "* 3 FETCH (UID 6 MODSEQ (5))",
            ],
        }
    )
    found = run(script, selecting(lambda session: session.fetch_flags([(5, 6)])))
    assert found == [
        RemoteMessage(5, frozenset({"\\Seen"}), None, None, 3, None),
        RemoteMessage(6, frozenset(), None, None, 5, None, has_flags=False),
    ]
    assert "UID FETCH 5:6 (UID FLAGS MODSEQ)" in script.heard


def test_changes_cannot_be_asked_of_a_mailbox_that_keeps_none() -> None:
    script = Script({"SELECT": [*SELECTED, "* OK [NOMODSEQ] none"]})
    error = fails(script, selecting(lambda s: s.fetch_flags([(1, 9)], changed_since=4)))
    assert error.code == "LOCAL"


def test_without_move_exactly_the_moved_are_expunged() -> None:
    script = Script(
        {"SELECT": SELECTED, "UID COPY": ["{tag} OK [COPYUID 8 3,5 21:22] ok"]},
        without("MOVE"),
    )
    assert run(script, selecting(lambda s: s.move([5, 3], "Trash"))) == {3: 21, 5: 22}
    assert script.heard[-4:-1] == [
        "UID COPY 3,5 Trash",
        "UID STORE 3,5 +FLAGS.SILENT (\\Deleted)",
        "UID EXPUNGE 3,5",
    ]


def test_without_uidplus_nobody_elses_mail_is_expunged() -> None:
    script = Script({"SELECT": SELECTED, "UID SEARCH": ["* SEARCH 3 4"]}, without("UIDPLUS"))
    assert fails(script, selecting(lambda s: s.expunge([3]))).code == "NOUIDPLUS"
    assert "EXPUNGE" not in script.heard
    script = Script({"SELECT": SELECTED, "UID SEARCH": ["* SEARCH 3"]}, without("UIDPLUS"))
    run(script, selecting(lambda s: s.expunge([3])))
    assert "EXPUNGE" in script.heard


def test_without_move_and_uidplus_a_move_is_refused_before_there_are_two_copies() -> None:
    script = Script({"SELECT": SELECTED, "UID SEARCH": ["* SEARCH 4"]}, without("MOVE", "UIDPLUS"))
    assert fails(script, selecting(lambda s: s.move([3], "Trash"))).code == "NOUIDPLUS"
    assert not any(line.startswith(("UID COPY", "UID STORE")) for line in script.heard)


def test_answers_without_end_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tindra.outside.imap.session.EVENTS_PER_CALL_MAX", 50)
    script = Script({"LIST": [f'* LIST () "/" box{n}' for n in range(100)]})
    assert fails(script, lambda s: s.list_mailboxes()).code == "PROTOCOL"


@pytest.mark.parametrize(("host", "port"), [("", 143), (" . ", 143), ("x", 0), ("x", 70000)])
def test_settings_that_name_no_server_are_refused_here(host: str, port: int) -> None:
    with pytest.raises(Rejected) as caught:
        asyncio.run(ImapProvider().connect(ServerSettings(host, port, "none", "joe"), "pw"))
    assert caught.value.code == "LOCAL"


def test_a_missing_target_is_told_by_code() -> None:
    script = Script({"SELECT": SELECTED, "UID MOVE": ["{tag} NO [TRYCREATE] no such box"]})
    error = fails(script, selecting(lambda s: s.move([3], "Nowhere")))
    assert isinstance(error, Rejected)
    assert error.code == "TRYCREATE"


def test_long_sets_go_out_in_pieces() -> None:
    script = Script({"SELECT": SELECTED})
    run(script, selecting(lambda s: s.store_flags(range(1, 501, 2), ["\\Seen"], [])))
    stores = [line for line in script.heard if line.startswith("UID STORE")]
    assert [line.count(",") + 1 for line in stores] == [100, 100, 50]


@pytest.mark.parametrize("flag", ["a b", "\\Recent", "x\r\nt9 LOGOUT"])
def test_a_flag_that_imap_cannot_hold_is_refused_here(flag: str) -> None:
    script = Script({"SELECT": SELECTED})
    assert fails(script, selecting(lambda s: s.store_flags([3], [flag], []))).code == "LOCAL"
    assert not any(line.startswith("UID STORE") for line in script.heard)


def test_a_message_above_the_servers_limit_is_not_sent() -> None:
    script = Script({}, f"* OK [CAPABILITY {CAPABILITIES} APPENDLIMIT=10] hi")
    assert fails(script, lambda s: s.append("x", b"y" * 11, [], None)).code == "TOOBIG"
    assert not any(line.startswith("APPEND") for line in script.heard)


async def fetch_all(session: ImapSession, uids: list[int]) -> list[RemoteMessage]:
    return [message async for message in session.fetch_messages(uids, 1_000_000)]


def test_messages_come_with_what_the_server_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_module, "MESSAGE_BYTES_MAX", 5)
    script = Script(
        {
            "SELECT": SELECTED,
            "UID FETCH": [
                "* 1 FETCH (UID 3 FLAGS (\\Seen))",  # unasked news, no message
                '* 1 FETCH (UID 3 BODY[]<0> "abc" RFC822.SIZE 3)',
                '* 2 FETCH (UID 4 FLAGS () BODY[]<0> "abcdef" RFC822.SIZE 9999)',
                '* 9 FETCH (UID 9 BODY[]<0> "never asked")',
            ],
        }
    )
    found = run(script, selecting(lambda s: fetch_all(s, [5, 4, 3])))
    assert found == [
        RemoteMessage(3, frozenset(), None, 3, None, b"abc", has_flags=False),
        RemoteMessage(4, frozenset(), None, 9999, None, None),
    ]
    assert "BODY.PEEK[]<0.6>" in script.heard[-2]


def test_a_connection_that_drops_in_a_fetch_is_an_error_after_what_came() -> None:
    lines = ['* 1 FETCH (UID 3 FLAGS () BODY[] "abc")', "* 2 FETCH (UID 4 BODY[] {100}", "CLOSE"]
    script = Script({"SELECT": SELECTED, "UID FETCH": lines})
    seen = set()

    async def act(session: ImapSession) -> None:
        await session.select("x")
        async for message in session.fetch_messages([3, 4, 5], 1000):
            seen.add(message.uid)

    error = fails(script, act)
    assert isinstance(error, Transient)
    assert seen == {3}


def test_a_refused_fetch_is_an_error_not_an_empty_mailbox() -> None:
    script = Script({"SELECT": SELECTED, "UID FETCH": ["{tag} NO [SERVERBUG] disk on fire"]})
    assert isinstance(fails(script, selecting(lambda s: fetch_all(s, [3]))), Transient)


def test_a_fetch_given_up_midway_leaves_the_session_usable() -> None:
    lines = [f'* {n} FETCH (UID {n} FLAGS () BODY[] "m{n}")' for n in range(1, 21)]
    script = Script({"SELECT": SELECTED, "UID FETCH": lines, "UID SEARCH": ["* SEARCH 1 2 3"]})

    async def act(session: ImapSession) -> None:
        await session.select("x")
        stream = session.fetch_messages(list(range(1, 100)), 5)
        async for message in stream:
            assert message.raw == b"m1"
            break
        assert await session.list_uids() == [1, 2, 3]
        with pytest.raises(Rejected):
            await anext(stream)
        assert not await session.idle(30)

    run(script, act)


# --- staying in touch -----------------------------------------------------------------------------


def test_news_told_in_passing_is_not_lost() -> None:
    script = Script({"SELECT": SELECTED, "NOOP": ["* 4 EXISTS"]})

    async def act(session: ImapSession) -> None:
        await session.select("x")
        await session.noop()
        assert await session.idle(10_000)
        assert "IDLE" not in script.heard
        assert not await session.idle(30)

    run(script, act)


@pytest.mark.parametrize(
    ("line", "is_news"),
    [
        ("* 3 EXISTS", False),
        ("* 4 EXISTS", True),
        ("* 1 EXPUNGE", True),
        ("* VANISHED 4", True),
        ("* 1 FETCH (FLAGS (\\Seen))", True),
        ("* VANISHED x", True),
        ("* OK still here", False),
        ("* 0 RECENT", False),
    ],
)
def test_what_counts_as_news_in_idle(line: str, is_news: bool) -> None:
    script = Script({"SELECT": SELECTED, "IDLE": ["+ idling", line]})
    assert run(script, selecting(lambda s: s.idle(150))) is is_news


def test_a_cancelled_idle_leaves_the_session_usable() -> None:
    script = Script({"SELECT": SELECTED, "UID SEARCH": ["* SEARCH 1 2 3"]})

    async def act(session: ImapSession) -> None:
        await session.select("x")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await session.idle(60_000)
        assert await session.list_uids() == [1, 2, 3]

    run(script, act)


def test_an_idle_that_is_refused_becomes_polling() -> None:
    script = Script({"SELECT": SELECTED, "IDLE": ["{tag} BAD no"], "NOOP": ["* 4 EXISTS"]})
    assert run(script, selecting(lambda s: s.idle(40))) is True
    assert script.heard.count("IDLE") == 1


def test_bye_in_idle_ends_it_in_the_servers_words() -> None:
    script = Script({"SELECT": SELECTED, "IDLE": ["+ idling", "* BYE going down", "CLOSE"]})
    error = fails(script, selecting(lambda s: s.idle(60_000)))
    assert isinstance(error, Transient)
    assert error.server_words == "going down"


# --- quirks, row by row ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "row"),
    [
        ("imap.mail.me.com", 0),
        ("p03-imap.mail.me.com", 0),
        ("imap.mail.yahoo.com.", 1),
        ("IMAP.AOL.COM", 1),
        ("imap.rambler.ru", 2),
        ("imap.163.com", 3),
        ("evil-imap.163.com", None),
        ("example.org", None),
    ],
)
def test_the_row_of_a_host(host: str, row: int | None) -> None:
    assert find_quirks(host) is (DEFAULT_QUIRKS if row is None else QUIRKS[row])


def test_quirk_icloud_never_gets_qresync() -> None:
    script = Script({"SELECT": SELECTED})

    async def act(session: ImapSession) -> None:
        await session.select("x", Known(7, 40))

    run(script, act, find_quirks("imap.mail.me.com"))
    assert "ENABLE CONDSTORE" in script.heard
    assert "SELECT x (CONDSTORE)" in script.heard


@pytest.mark.parametrize("host", ["imap.mail.yahoo.com", "imap.rambler.ru"])
def test_quirk_idle_is_renewed_in_time(host: str) -> None:
    row = find_quirks(host)
    assert row.idle_renew_ms < 5 * 60 * 1000
    script = Script({"SELECT": SELECTED})
    quick = msgspec.structs.replace(row, idle_renew_ms=20)
    assert run(script, selecting(lambda s: s.idle(70)), quick) is False
    assert script.heard.count("IDLE") >= 2


def test_quirk_163_is_asked_for_its_status() -> None:
    script = Script({"SELECT": SELECTED, "STATUS": ["* STATUS x (MESSAGES 4 UIDVALIDITY 7)"]})
    assert run(script, selecting(lambda s: s.idle(20)), find_quirks("imap.163.com")) is True
    assert "IDLE" not in script.heard


def test_quirk_an_unsound_partial_fetch_is_avoided() -> None:
    script = Script({"SELECT": SELECTED})
    row = msgspec.structs.replace(DEFAULT_QUIRKS, is_partial_sound=False)
    run(script, selecting(lambda s: fetch_all(s, [3])), row)
    assert any(line.endswith("BODY.PEEK[])") for line in script.heard)


# --- roles ----------------------------------------------------------------------------------------


def candidate(name: str, *attributes: str) -> Candidate:
    return Candidate(name, "/", frozenset(attributes), "\\noselect" not in attributes)


@pytest.mark.parametrize(
    ("candidates", "roles"),
    [
        ([candidate("INBOX")], {"INBOX": "inbox"}),
        ([candidate("Foo", "\\sent"), candidate("Sent")], {"Foo": "sent"}),
        (
            [candidate("Gesendet"), candidate("Entwürfe")],
            {"Gesendet": "sent", "Entwürfe": "drafts"},
        ),
        ([candidate("Sent"), candidate("Sent Items")], {}),
        ([candidate("INBOX/Trash")], {"INBOX/Trash": "trash"}),
        ([candidate("Work/2020/Trash")], {}),
        ([candidate("Trash", "\\noselect")], {}),
        ([candidate("A/B", "\\junk"), candidate("C", "\\junk")], {"C": "junk"}),
        ([candidate("TRASH"), candidate("x", "\\archive")], {"TRASH": "trash", "x": "archive"}),
    ],
)
def test_a_role_goes_to_the_one_mailbox_that_has_it(
    candidates: list[Candidate], roles: dict[str, str]
) -> None:
    assert decide_roles(candidates) == roles
