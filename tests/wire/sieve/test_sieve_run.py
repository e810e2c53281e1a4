"""What scripts decide. Source: RFC 5228 and its extensions, whose examples these mostly are."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tindra.wire.sieve.actions import FileInto, Note, Outcome, Surroundings
from tindra.wire.sieve.evaluate import STEPS_MAX, run_script
from tindra.wire.sieve.grammar import EXTENSIONS, check_script
from tindra.wire.sieve.letter import Letter
from tindra.wire.sieve.match import match_wildcards

NOW_MS = 1_790_000_000_000  # 2026-09-21T13:33:20Z, a Monday
ALL = "require [" + ", ".join(f'"{name}"' for name in EXTENSIONS) + "];\n"
RAW = """\
Return-Path: <mira+ietf@fjord.test>
Received: from a by b; Mon, 21 Sep 2026 23:30:00 +0900
From: Mira =?utf-8?q?=C3=84?= <mira+ietf@fjord.test>
To: alex@example.org, "B" <b@Example.COM>
Cc: c@example.org
Subject: [acme-users] [fwd] version 1.0 is out
Date: Sun, 20 Sep 2026 22:15:00 -0300
X-Priority: 3
X-Empty:
Message-ID: <one@fjord.test>
Content-Type: multipart/mixed; boundary="x"

--x
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: base64

R8O8w59lIHVuZCBnZWhlaW0=
--x
Content-Type: text/html

<p>MAKE <b>MONEY</b> fast</p>
--x--
""".replace("\n", "\r\n").encode()


def run(body: str, raw: bytes = RAW, prelude: str = ALL, **around: Any) -> Outcome:
    letter = Letter(raw, "mira+ietf@fjord.test", ("alex@example.org",))
    return run_script(
        check_script((prelude + body).encode()), letter, Surroundings(NOW_MS, **around)
    )


def is_true(test: str, raw: bytes = RAW, **around: Any) -> bool:
    outcome = run(f"if {test} {{ discard; }}", raw, **around)
    assert outcome.error is None, outcome.error
    return not outcome.is_kept


def capture(script: str) -> str:
    """What a script puts into a mailbox name."""
    [action] = run(f'{script} fileinto "${{out}}";').files
    return action.mailbox


# -- actions --------------------------------------------------------------------------------------


def test_a_message_is_kept_unless_something_else_is_said() -> None:
    assert run("") == Outcome(is_kept=True)
    assert run("keep;") == Outcome(is_kept=True)
    assert not run("discard;").is_kept
    assert run("discard; keep;").is_kept
    assert not run('fileinto "a";').is_kept
    assert run('fileinto :copy "a";').is_kept
    assert not run('redirect "x@y.test";').is_kept
    assert run('redirect :copy "x@y.test";').is_kept
    assert run('fileinto "a"; keep;').is_kept
    assert run('vacation "away";').is_kept


def test_a_message_goes_into_several_mailboxes_each_once() -> None:
    outcome = run('fileinto "a"; fileinto "b"; fileinto "a"; redirect "x@y.test";')
    assert [f.mailbox for f in outcome.files] == ["a", "b"]
    assert outcome.redirects == ["x@y.test"]
    outcome = run('fileinto :create :specialuse "\\\\Junk" :flags ["\\\\Seen", "a b"] "Spam";')
    assert outcome.files == [FileInto("Spam", ("\\Seen", "a", "b"), True, "\\Junk")]


def test_stop_ends_it_with_the_implicit_keep() -> None:
    assert run('if true { stop; } fileinto "a";') == Outcome(is_kept=True)
    assert run('fileinto "a"; stop; fileinto "b";').files == [FileInto("a", None)]


@pytest.mark.parametrize(
    ("conditions", "taken"),
    [
        (("true", "true"), "if"),
        (("false", "true"), "elsif"),
        (("false", "false"), "else"),
        (("not false", "false"), "if"),
    ],
)
def test_one_branch_is_taken(conditions: tuple[str, str], taken: str) -> None:
    body = 'if {} {{ fileinto "if"; }} elsif {} {{ fileinto "elsif"; }}'.format(*conditions)
    outcome = run(body + ' else { fileinto "else"; }')
    assert [f.mailbox for f in outcome.files] == [taken]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('redirect "nobody";', "line 2: 'nobody' is not an address"),
        ('redirect "a@b\r\nX: y";', "is not an address"),
        ("".join(f'redirect "{n}@y.test";' for n in range(5)), "a message is redirected 4 times"),
        ("".join(f'fileinto "{n}";' for n in range(33)), "a message goes into 32 mailboxes"),
        ("".join(f'set "v{n}" "";' for n in range(129)), "a script has 128 variables"),
        ('vacation "a"; vacation "b";', "a message is answered once"),
        ("".join(f'if duplicate :handle "{n}" {{}}' for n in range(33)), "is looked for 32 times"),
    ],
)
def test_a_run_that_goes_wrong_keeps_the_message_and_does_nothing_else(
    body: str, told: str
) -> None:
    outcome = run('fileinto "first"; redirect "first@y.test";' + body)
    assert told in (outcome.error or "")
    assert (outcome.is_kept, outcome.files, outcome.redirects) == (True, [], [])
    assert (outcome.vacation, outcome.notes) == (None, [])


def test_a_vacation_says_all_it_was_given() -> None:
    vacation = run(
        'vacation :days 23 :addresses ["tjs@example.edu", "ts4z@landru.example.edu"] '
        ':subject "Away" :from "b@example.com" :handle "h" "I\'m away until October 19.";'
    ).vacation
    assert vacation is not None
    assert (vacation.days, vacation.subject, vacation.sender) == (23, "Away", "b@example.com")
    assert vacation.addresses == ("tjs@example.edu", "ts4z@landru.example.edu")
    assert (vacation.handle, vacation.is_entity) == ("handle:h", False)


def test_vacations_that_say_the_same_count_together() -> None:
    one, same, other, entity = (
        run(f"vacation {text};").vacation
        for text in ('"a"', ':days 3 "a"', ':subject "x" "a"', ':mime "a"')
    )
    assert one
    assert same
    assert other
    assert entity
    assert one.handle == same.handle
    assert len({one.handle, other.handle, entity.handle}) == 3


@pytest.mark.parametrize(("asked", "days"), [(0, 1), (1, 1), (30, 30), (9999, 30)])
def test_an_answer_is_repeated_at_most_daily_and_at_least_monthly(asked: int, days: int) -> None:
    vacation = run(f'vacation :days {asked} "a";').vacation
    assert vacation is not None
    assert vacation.days == days


# -- tests ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("true", True),
        ("false", False),
        ("allof (true, false)", False),
        ("anyof (false, true)", True),
        ('exists ["From", "Date"]', True),
        ('exists ["From", "X-Missing"]', False),
        ('header :is "x-priority" "3"', True),
        ('header "X-Empty" ""', True),
        ('header :contains "X-Empty" ""', True),
        ('header :contains "X-Missing" ""', False),
        ('header :is ["subject", "x-priority"] ["4", "3"]', True),
        ('header :contains "from" "Ä"', True),
        ('header :is :comparator "i;octet" "x-priority" "3"', True),
        ('header :contains :comparator "i;octet" "subject" "VERSION"', False),
        ('header :contains "subject" "VERSION"', True),
        ('header :matches "subject" "*version ?.? *"', True),
        ('header :matches "subject" "*version ?? *"', False),
        ('address "from" "mira+ietf@fjord.test"', True),
        ('address :localpart "from" "MIRA+ietf"', True),
        ('address :domain :is "to" "example.com"', True),
        ('address :all :is ["To", "Cc"] "c@example.org"', True),
        ('address :user "from" "mira"', True),
        ('address :detail "from" "ietf"', True),
        ('address :detail :contains "to" ""', False),
        ('envelope "from" "mira+ietf@fjord.test"', True),
        ('envelope :domain "to" "example.org"', True),
        ('envelope :all :is "from" ""', False),
        ("size :over 100", True),
        ("size :under 1K", True),
        ("size :over 1M", False),
        ('body :contains "geheim"', True),
        ('body :contains "make money fast"', True),
        ('body :raw :contains "R8O8w59l"', True),
        ('body :raw :contains "geheim"', False),
        ('body :content "text/html" :contains "<b>"', True),
        ('body :content "text/plain" :contains "<b>"', False),
        ('body :content "text" :contains ["<b>"]', True),
        ('header :count "ge" ["to", "cc"] "2"', True),
        ('address :count "gt" "to" "1"', True),
        ('address :count "eq" ["to", "cc"] "3"', True),
        ('header :count "eq" "x-missing" "0"', True),
        ('header :value "lt" :comparator "i;ascii-numeric" "x-priority" "10"', True),
        ('header :value "lt" "x-priority" "10"', False),
        ('header :value "ge" :comparator "i;ascii-numeric" "x-priority" "03"', True),
        ('header :is :comparator "i;ascii-numeric" "x-priority" "003"', True),
        ('header :value "gt" :comparator "i;ascii-numeric" "subject" "99999999999999999999"', True),
        ('date "date" "date" "2026-09-21"', True),
        ('date :originalzone "date" "hour" "22"', True),
        ('date :zone "+0200" "date" "iso8601" "2026-09-21T03:15:00+02:00"', True),
        ('date "received" "hour" "14"', True),
        ('date "date" "weekday" "1"', True),
        ('date :value "ge" "date" "julian" "61000"', True),
        ('date "x-priority" "year" "2026"', False),
        ('date "date" "nonsense" "2026"', False),
        ('date :count "eq" "x-missing" "year" "0"', True),
        ('currentdate "date" "2026-09-21"', True),
        ('currentdate :zone "-1400" "hour" "00"', True),
        ('currentdate :value "ge" "hour" "14"', True),
        ('currentdate :matches "std11" "Mon, 21 Sep 2026 *"', True),
        ('string "a" ["b", "A"]', True),
        ('header :contains "subject" "${hex: 76 65}${unicode:72}sion"', True),
    ],
)
def test_a_test_says_what_the_rfc_says(test: str, expected: bool) -> None:
    assert is_true(test) is expected


def test_mailboxes_and_uses_are_looked_up() -> None:
    around: dict[str, Any] = {
        "mailboxes": frozenset({"inbox", "spam"}),
        "special_uses": {"\\junk": "spam"},
    }
    assert is_true('mailboxexists ["INBOX", "Spam"]', **around)
    assert not is_true('mailboxexists ["INBOX", "Other"]', **around)
    assert is_true('specialuse_exists "\\\\Junk"', **around)
    assert is_true('specialuse_exists "Spam" "\\\\junk"', **around)
    assert not is_true('specialuse_exists "INBOX" "\\\\Junk"', **around)
    assert not is_true('specialuse_exists ["\\\\Junk", "\\\\Trash"]', **around)


def test_duplicates_are_told_from_news() -> None:
    new = run("if duplicate { discard; }")
    assert new.is_kept
    assert new.notes == [Note("\0<one@fjord.test>", 7 * 86_400, False)]
    keys = {"\0<one@fjord.test>"}
    assert run("if duplicate { discard; }", is_known=keys.__contains__).is_kept is False
    assert run("if duplicate { discard; }", is_known=keys.__contains__).notes == []
    last = run('if duplicate :last :seconds 60 :uniqueid "u" :handle "h" {}')
    assert last.notes == [Note("h\0u", 60, True)]
    assert run('if duplicate :header "X-Missing" {}').notes == []


# -- variables and flags --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ('set "Out" "x"; set "out" "${OUT}y";', "xy"),
        ('set "out" "&%${}!";', "&%${}!"),
        ('set "company" "ACME"; set "out" "&%${company}!";', "&%ACME!"),
        ('set "company" "ACME"; set "out" "${Company}, ${nope}!";', "ACME, !"),
        ('set "out" "${BAD${Company}";', "${BAD"),
        ('set "a" "juMBlEd lETteRS"; set :length "out" "${a}";', "15"),
        ('set :lower "out" "juMBlEd lETteRS";', "jumbled letters"),
        ('set :upperfirst :lower "out" "juMBlEd lETteRS";', "Jumbled letters"),
        ('set :quotewildcard "out" "Rock*?\\\\";', "Rock\\*\\?\\\\"),
        ('if header :matches "subject" "[*] *" { set "out" "${1}"; }', "acme-users"),
        ('if header :matches "subject" "[*] *" { set "out" "${2}"; }', "[fwd] version 1.0 is out"),
        ('if header :matches "x-priority" "?" { set "out" "${0}${1}${2}"; }', "33"),
        (
            'if header :matches "x-priority" "*" { } if header :matches "subject" "zz*" { }'
            ' set "out" "${1}";',
            "3",
        ),
        ('if string :matches "a-b-c" "*-*" { set "out" "${1}/${2}"; }', "a/b-c"),
        ('set "out" "${1}x";', "x"),
    ],
)
def test_variables_hold_what_they_were_given(script: str, expected: str) -> None:
    assert capture(script) == expected


def test_without_the_extension_a_reference_is_text() -> None:
    outcome = run('fileinto "${a}";', prelude='require "fileinto";')
    assert outcome.files[0].mailbox == "${a}"


def test_a_variable_cannot_grow_without_end() -> None:
    doubling = 'set "a" "${a}${a}${a}${a}${a}x";' * 1500
    outcome = run(doubling)
    assert outcome.error is None


def test_flags_are_added_and_removed() -> None:
    body = 'setflag "\\\\Deleted"; addflag ["\\\\Flagged", "work"]; removeflag "\\\\deleted"; keep;'
    assert run(body).keep_flags == ("\\Flagged", "work")
    assert run('addflag "a b"; addflag "A c"; fileinto "x";').files[0].flags == ("a", "b", "c")
    assert run('setflag "v" "a"; addflag "v" "b"; keep :flags "${v}";').keep_flags == ("a", "b")
    assert run('addflag "x";').keep_flags == ("x",)
    assert run("keep;").keep_flags is None
    assert run('addflag "x"; keep :flags "y";').keep_flags == ("y",)
    assert run('if hasflag "\\\\seen" { addflag "x"; }', flags=("\\Seen",)).keep_flags == (
        "\\Seen",
        "x",
    )


def test_flags_are_tested() -> None:
    flags = 'setflag "v" "A B"; '
    for test, expected in (
        ('hasflag "v" "b"', True),
        ('hasflag :contains "v" "c"', False),
        ('hasflag :count "ge" "v" "2"', True),
        ('hasflag :matches ["w", "v"] "?"', True),
        ('hasflag "b"', False),
    ):
        assert run(f"{flags} if {test} {{ discard; }}").is_kept is not expected, test


# -- wildcards ------------------------------------------------------------------------------------


def translate(pattern: str) -> str:
    """A pattern as a regular expression, slow but plainly right."""
    pieces = re.findall(r"\\.|.|\\$", pattern, re.DOTALL)
    known = {"*": "(.*?)", "?": "(.)"}
    return "".join(known.get(p) or re.escape(p[1:] if len(p) > 1 else p) for p in pieces)


@given(st.text("ab*?\\", max_size=12), st.text("aAb*", max_size=12))
def test_wildcards_match_as_a_regular_expression_does(pattern: str, text: str) -> None:
    if pattern.replace("\\\\", "").endswith("\\"):
        return  # an escape of nothing
    expected = re.fullmatch(translate(pattern), text, re.DOTALL)
    found = match_wildcards(text, pattern, "i;octet")
    assert (found is None) == (expected is None)
    if found is not None and expected is not None and "?" not in pattern:
        assert found == [text, *expected.groups()]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("*a" * 50 + "*b", "a" * 16_000),
        ("*?a" * 50 + "*b", "a" * 16_000),
        ("*" * 1000 + "b", "a" * 16_000),
        ("?" * 8_000 + "b", "a" * 16_000),
        ("*" + "?" * 8_000 + "b*", "a" * 16_000),
        ("*" + "a" * 8_000 + "b*", "a" * 16_000),
        ("*" + ("a?" * 4_000) + "b*", "a" * 16_000),
    ],
)
def test_no_pattern_costs_more_than_its_length(pattern: str, text: str) -> None:
    start = time.perf_counter()
    match_wildcards(text, pattern, "i;ascii-casemap")
    assert time.perf_counter() - start < 1


def test_a_script_that_asks_too_much_is_ended() -> None:
    keys = ", ".join(f'"*a?*{n}*"' for n in range(1000))
    body = f"if body :raw :matches [{keys}] {{ discard; }}\n" * 4
    raw = b"Subject: x\r\n\r\n" + b"a" * 600_000
    start = time.perf_counter()
    outcome = run(body, raw)
    assert "too long" in (outcome.error or "")
    assert outcome.is_kept
    assert time.perf_counter() - start < 20
    assert STEPS_MAX < 1_000_000


@given(st.binary(max_size=300))
def test_any_message_can_be_looked_at(raw: bytes) -> None:
    run(
        'if anyof (header :matches "subject" "*", address "from" "a", body :contains "x", '
        'date "date" "year" "1", date "received" "std11" "1", exists "to") { addflag "x"; }',
        raw,
    )


@pytest.mark.parametrize("year", ["0000", "0001", "9999"])
def test_a_date_at_the_end_of_time_is_looked_at(year: str) -> None:
    raw = f"Date: Mon, 1 Jan {year} 00:00:00 +1459\r\n\r\n".encode()
    assert not is_true('date :zone "-1400" "date" "year" "2026"', raw)
