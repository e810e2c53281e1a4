"""What is a script and what is none, and where it goes wrong. Source: RFC 5228 s2, s8"""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tindra.wire.sieve.actions import Surroundings
from tindra.wire.sieve.errors import SieveError
from tindra.wire.sieve.evaluate import run_script
from tindra.wire.sieve.grammar import COMMANDS, EXTENSIONS, TESTS, Script, check_script
from tindra.wire.sieve.letter import Letter
from tindra.wire.sieve.lexer import SCRIPT_BYTES_MAX, list_tokens
from tindra.wire.sieve.parser import NESTING_MAX

RFC_EXAMPLE = b"""#
# Example Sieve Filter
# Declare any optional features or extension used by the script
#
require ["fileinto"];

#
# Handle messages from known mailing lists
# Move messages from IETF filter discussion list to filter mailbox
#
if header :is "Sender" "owner-ietf-mta-filters@imc.org"
        {
        fileinto "filter";  # move to "filter" mailbox
        }
#
# Keep all messages to or from people in my company
#
elsif address :DOMAIN :is ["From", "To"] "example.com"
        {
        keep;               # keep in "In" mailbox
        }
#
# Try and catch unsolicited email.  If a message is not to me,
# or it contains a subject known to be spam, file it away.
#
elsif anyof (NOT address :all :contains
               ["To", "Cc", "Bcc"] "me@example.com",
             header :matches "subject"
               ["*make*money*fast*", "*university*dipl*mas*"])
        {
        fileinto "spam";   # move to "spam" mailbox
        }
else
        {
        # Move all other (non-company) mail to "personal"
        # mailbox.
        fileinto "personal";
        }
"""
"""Source: RFC 5228 s9"""


def refuse(script: str | bytes) -> str:
    with pytest.raises(SieveError) as caught:
        check_script(script.encode() if isinstance(script, str) else script)
    return str(caught.value)


def test_the_example_of_the_rfc_is_a_script() -> None:
    script = check_script(RFC_EXAMPLE)
    assert [call.name for call in script.commands] == ["if", "elsif", "elsif", "else"]
    assert script.required == {"fileinto"}
    assert check_script(RFC_EXAMPLE.replace(b"\n", b"\r\n")).required == {"fileinto"}


def test_nothing_is_a_script() -> None:
    assert check_script(b"") == Script((), frozenset())
    assert check_script(b"\xef\xbb\xbf# only words \xe2\x82\xac\n/* a\nb */") == check_script(b"")


def test_strings_are_read_as_meant() -> None:
    text = r'"a\"b\\c\d" 12K 2g :Over text: # why' "\n..dot\n.x\n\n.\nKEEP"
    found = [(t.kind, t.text, t.number, t.line) for t in list_tokens(text)]
    assert found == [
        ("string", r'a"b\cd'.replace("\\c", "\\c"), 0, 1),
        ("number", "12K", 12288, 1),
        ("number", "2g", 2 << 30, 1),
        ("tag", "over", 0, 1),
        ("string", ".dot\n.x\n\n", 0, 1),
        ("name", "keep", 0, 6),
        ("end", "", 0, 6),
    ]


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("keep", "line 1: ';' or a block was expected, not the end"),
        ("\n\nkeep keep;", "line 3: 'keep' takes no test"),
        ('keep;\nfileinto "x";', "line 2: 'fileinto' needs: require 'fileinto'"),
        ('require "reject";', "line 1: the extension 'reject' is not known here"),
        ('require "editheader";', "line 1: the extension 'editheader' is not known here"),
        ('keep;\nrequire "fileinto";', "line 2: 'require' stands before all other commands"),
        ("else { keep; }", "line 1: 'else' without an 'if' before it"),
        ("if true { } keep; elsif true { }", "line 1: 'elsif' without an 'if' before it"),
        ("if true { } else { } else { }", "line 1: 'else' without an 'if' before it"),
        ("if true;", "line 1: 'if' takes a block"),
        ("if { keep; }", "line 1: 'if' takes one test"),
        ("if (true) { keep; }", "line 1: 'if' takes one test"),
        ("if anyof true { keep; }", "line 1: 'anyof' takes tests in parentheses"),
        ("if frob { keep; }", "line 1: there is no test 'frob'"),
        ("frob;", "line 1: there is no command 'frob'"),
        ("keep { }", "line 1: 'keep' ends with ';' and takes no block"),
        ("if true {\nkeep;\n", "line 1: the block that begins here never ends"),
        ('if header :is :contains "a" "b" {}', "line 1: :contains and :is cannot stand together"),
        ('if header "a" :is "b" {}', "line 1: :is stands before other arguments"),
        ('if header :frob "a" "b" {}', "line 1: 'header' knows no :frob"),
        ('if header "a" {}', "line 1: 'header' takes 2 arguments, not 1"),
        ('if header "a" 1 {}', "line 1: header takes strings"),
        ('if header "a:" "b" {}', "line 1: 'a:' is not the name of a header field"),
        ('if header "" "b" {}', "line 1: '' is not the name of a header field"),
        ('if header ["a",] "b" {}', "line 1: a string was expected, not ']'"),
        ('if header [] "b" {}', "line 1: a string was expected, not ']'"),
        ('redirect ["a@b"];', "line 1: redirect takes a string"),
        ("if size 100 {}", "line 1: 'size' takes :over or :under"),
        ("if size :over 100 :under 5 {}", "line 1: :under stands before other arguments"),
        ('if header :comparator "i;x" "a" "b" {}', "line 1: the comparator 'i;x' is"),
        (
            'if header :comparator "i;ascii-numeric" "a" "b" {}',
            "line 1: 'i;ascii-numeric' needs: require 'comparator-i;ascii-numeric'",
        ),
        ('if header :count "gt" "a" "1" {}', "line 1: ':count' needs: require 'relational'"),
        ('require "relational"; if header :count "x" "a" "1" {}', "line 1: :count takes gt, ge"),
        ('"keep";', "line 1: a command was expected, not 'keep'"),
        ('redirect "a', "line 1: '\"a' does not begin anything known"),
        ("/* x", "line 1: the comment that begins here never ends"),
        ("redirect text:\nabc\n", "line 1: the text that begins here has no line with a dot"),
        ("if size :over 99999999999G {}", "line 1: a number may be"),
        ("if size :over 1x {}", "line 1: '1x) {}"[:9]),
        (b"keep;\n\xff", "line 2: this is not UTF-8"),
        ("keep;\n\0", "line 2: a NUL may not stand here"),
        (b"#" * (SCRIPT_BYTES_MAX + 1), "line 1: a script may have 65536 octets"),
        ("keep;" * 2001, "line 1: a script may have 2000 commands and tests"),
        ('require "variables"; set "a b" "c";', "line 1: 'a b' is not the name of a variable"),
        ('set "a" "b";', "line 1: 'set' needs: require 'variables'"),
        ('require "imap4flags"; setflag "v" "x";', "line 1: 'a variable in setflag' needs"),
        ('require "date"; if date :zone "x" "date" "year" "1" {}', "line 1: :zone takes an offset"),
        ('require "date"; if currentdate :originalzone "year" "1" {}', "knows no :originalzone"),
        ('require "fileinto"; fileinto :copy "x";', "line 1: ':copy' needs: require 'copy'"),
        ('require "fileinto"; fileinto :create "x";', "line 1: ':create' needs: require 'mailbox'"),
        ('require "vacation"; vacation :days "x" "y";', "line 1: :days takes a number"),
        ('require "vacation"; vacation :days', "line 1: ';' or a block was expected"),
        ('require "vacation"; vacation :days;', "line 1: :days takes a number"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(script: str | bytes, told: str) -> None:
    assert told in refuse(script)


def test_nesting_is_bounded() -> None:
    depth = NESTING_MAX - 1
    assert check_script(b"if true {" * depth + b"keep;" + b"}" * depth)
    for script in (
        b"if true {" * 5000,
        b"if " + b"not " * 5000,
        b"if " + b"anyof(" * 5000,
    ):
        assert f"more than {NESTING_MAX} levels" in refuse(script)
    assert "expected" in refuse(b"if header " + b"[" * 5000)


_WORDS = st.sampled_from(
    [*COMMANDS, *TESTS, *(f'"{name}"' for name in EXTENSIONS), "require", ":is", ":matches",
     ":contains", ":copy", ":flags", ":days", ":over", "1", "10K", '"*a?*"', '"${1}"', '"x@y.test"',
     "{", "}", "(", ")", "[", "]", ",", ";", "\n", "#", "/*", "*/", "text:", ".", '"', "\\", "\r\n"]
)  # fmt: skip
LETTER = Letter(b"From: Mira <mira@fjord.test>\r\nSubject: Hello\r\n\r\nHi\r\n", "mira@fjord.test")


@given(st.binary(max_size=200) | st.lists(_WORDS, max_size=60).map(lambda w: " ".join(w).encode()))
@example(RFC_EXAMPLE)
def test_any_octets_are_a_script_that_runs_or_a_named_error(raw: bytes) -> None:
    problem = None
    try:
        run_script(check_script(raw), LETTER, Surroundings(0))
    except SieveError as error:
        problem = error
    assert problem is None or 1 <= problem.line <= raw.count(b"\n") + 1


@pytest.mark.parametrize(
    "piece", [b"#", b"/*", b'"', b'"\\', b"text:\n", b"[", b"(", b"{", b"a", b":a", b"1", b"keep;",
              b" \n", b"not ", b"\r", b'"a",', b".\n", b'if header "a" "b" {}', b"allof(true),"]
)  # fmt: skip
def test_a_hostile_script_costs_no_more_than_a_long_one(piece: bytes) -> None:
    start = time.perf_counter()
    for prefix in (b"", b"if ", b'redirect "', b"redirect ["):
        raw = prefix + piece * ((SCRIPT_BYTES_MAX - 20) // len(piece))
        try:
            check_script(raw)
        except SieveError:
            pass
    assert time.perf_counter() - start < 4
