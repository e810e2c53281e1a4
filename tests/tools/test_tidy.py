"""Each rule of tidy sees its fault, names the line and the way out, and leaves good code alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools.tidy import ROOT, check_tree, main
from tools.tidy_rules.calls import check_calls
from tools.tidy_rules.citations import check_citations, parse_index
from tools.tidy_rules.files import check_files
from tools.tidy_rules.names import check_names, words_of
from tools.tidy_rules.ratchet import (
    Excess,
    check_ratchet,
    encode_ratchet,
    figures_of,
    parse_ratchet,
    shrink,
)
from tools.tidy_rules.remarks import check_remarks, list_remark_excesses
from tools.tidy_rules.sizes import list_size_excesses
from tools.tidy_rules.sql import check_sql
from tools.tidy_rules.tree import Finding, Source, Tree, load_tree

INDEX = (
    "# a comment\nnumber\ttitle\tsections\tstatus\tnote\n"
    "8621\tJMAP Mail: Email/set\t4.6\tpart\tcore/tx.py\n"
    "8621\tJMAP Mail: Mailbox\t2.*\tplan\t\n"
    "5322\tInternet Message Format\t1..7 A..B\tplan\t\n"
    "2047\tEncoded words\t*\tplan\t\n"
)


def _tree(files: dict[str, str]) -> Tree:
    return Tree([Source(path, text.encode()) for path, text in files.items()])


def _source(path: str, text: str) -> Tree:
    return Tree([Source(path, text.encode())])


def _whats(rule: Callable[[Tree], Iterator[Finding]], path: str, text: str) -> list[str]:
    return [f"{finding.line}: {finding.what}" for finding in rule(_source(path, text))]


def _measures(path: str, text: str) -> dict[str, int]:
    return {excess.measure: excess.figure for excess in list_size_excesses(_source(path, text))}


# --- sizes ----------------------------------------------------------------------------------------


def _function(lines: int) -> str:
    return "def f():\n" + "    pass\n" * (lines - 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (_function(70), {}),
        (_function(71), {"function_lines": 71}),
        ("x = 1\n" * 600, {}),
        ("x = 1\n" * 601, {"module_lines": 601}),
        ("def f(self, a, b, c, d, e, *, g): ...", {}),
        ("def f(a, b, c, d, e, *, g, h): ...", {"parameters": 7}),
        ("def f(a, b, /, c, d, e, g, *more, **rest): ...", {}),
    ],
)
def test_sizes_are_measured_at_their_bounds(text: str, expected: dict[str, int]):
    assert _measures("src/tindra/core/x.py", text) == expected


def _nested(levels: int) -> str:
    return (
        "def f():\n"
        + "".join(f"{'    ' * n}if x:\n" for n in range(1, levels + 1))
        + "    " * (levels + 1)
        + "pass\n"
    )


def test_the_fifth_level_of_nesting_is_too_deep():
    assert _measures("src/tindra/core/x.py", _nested(4)) == {}
    assert _measures("src/tindra/core/x.py", _nested(5)) == {"nesting": 5}


def test_an_elif_is_no_deeper_than_its_if_and_a_nested_function_starts_again():
    chain = "def f():\n    if a:\n        pass\n" + "    elif b:\n        pass\n" * 9
    inner = (
        _nested(4).replace("pass", "def g():\n") + "    " * 6 + "if y:\n" + "    " * 7 + "pass\n"
    )
    assert _measures("src/tindra/core/x.py", chain) == {}
    assert _measures("src/tindra/core/x.py", inner) == {}


@pytest.mark.parametrize(
    "block",
    [
        "try:\n    {}\nfinally:\n    pass",
        "try:\n    pass\nexcept E:\n    {}",
        "with a:\n    {}",
        "async for a in b:\n    {}",
        "match a:\n    case 1:\n        {}",
    ],
)
def test_every_kind_of_block_nests(block: str):
    start, _, end = block.partition("{}")
    indent = " " * (len(start) - len(start.rstrip(" ")))
    text = "pass"
    for _ in range(5):
        text = start + text.replace("\n", "\n" + indent) + end
    body = "    " + text.replace("\n", "\n    ")
    assert _measures("src/tindra/core/x.py", f"async def f():\n{body}\n") == {"nesting": 5}


def test_the_core_and_every_folder_have_a_budget():
    many = {f"src/tindra/wire/m{n}.py": "" for n in range(21)}
    core = {f"src/tindra/core/m{n}.py": "x = 1\n" * 501 for n in range(5)}
    tree = Tree([Source(path, text.encode()) for path, text in (many | core).items()])
    found = {excess.place: excess.figure for excess in list_size_excesses(tree)}
    assert found == {"src/tindra/wire": 21, "src/tindra/core/": 2505}


# --- ratchet --------------------------------------------------------------------------------------


def _excess(figure: int, place: str = "a.py::f") -> Excess:
    return Excess(
        "function_lines", place, figure, Finding("a.py", 3, f"{figure} lines", "split it")
    )


@pytest.mark.parametrize(
    ("allowed", "figure", "words"),
    [
        ({}, 80, ["80 lines"]),
        ({"a.py::f": 80}, 80, []),
        ({"a.py::f": 79}, 80, ["was 79"]),
        ({"a.py::f": 81}, 80, ["--shrink"]),
        ({"a.py::f": 80, "b.py::g": 90}, 80, ["--shrink"]),
    ],
)
def test_an_excess_may_stay_but_not_grow_come_or_fall_unnoticed(
    allowed: dict[str, int], figure: int, words: list[str]
):
    found = [
        str(finding) for finding in check_ratchet({"function_lines": allowed}, [_excess(figure)])
    ]
    assert len(found) == len(words)
    assert all(word in text for word, text in zip(words, found, strict=True))


def test_shrinking_never_raises_a_figure_and_drops_what_is_in_order():
    allowed = {"function_lines": {"a.py::f": 75, "b.py::g": 90, "gone": 99}}
    now = figures_of([_excess(80), _excess(85, "b.py::g"), _excess(100, "new.py::h")])
    assert shrink(allowed, now) == {"function_lines": {"a.py::f": 75, "b.py::g": 85}}


def test_the_ratchet_file_reads_back_what_was_written():
    figures = {"remarks": {"noqa in src": 3}, "nesting": {}}
    assert parse_ratchet(encode_ratchet(figures)) == {"remarks": {"noqa in src": 3}}
    assert parse_ratchet("") == {}


# --- names ----------------------------------------------------------------------------------------


def test_a_name_is_taken_apart_into_words():
    assert words_of("parse_JMAPRequest2") == ["parse", "jmap", "request", "2"]
    assert words_of("FlagSet") == ["flag", "set"]


@pytest.mark.parametrize(
    "path", ["src/tindra/core/utils.py", "tests/helpers/x.py", "tools/misc.py"]
)
def test_empty_words_in_module_names_are_refused(path: str):
    assert len(_whats(check_names, path, "")) == 1


@pytest.mark.parametrize(
    "text", ["class StoreManager: ...", "def load_helper(): ...", "async def common(): ..."]
)
def test_empty_words_in_definitions_are_refused(text: str):
    assert len(_whats(check_names, "src/tindra/core/x.py", text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "flags = 1",
        "def f(folder): ...",
        "class LabelSet: ...",
        "self.flag = 1",
        "for label in x: ...",
    ],
)
def test_imap_words_are_refused_outside_imap(text: str):
    assert len(_whats(check_names, "src/tindra/features/mail/x.py", text)) == 1
    assert _whats(check_names, "src/tindra/wire/imap/x.py", text) == []


def test_a_folder_of_the_file_system_is_a_folder():
    assert _whats(check_names, "src/tindra/store/vault.py", "folder = 1") == []
    assert len(_whats(check_names, "src/tindra/store/vault.py", "flag = 1")) == 1


def test_words_that_only_contain_a_banned_word_or_are_read_are_fine():
    text = "flagship = 1\n_LABEL = 2\nuncommon = re.compile('', re.M)\nx = counter.labels('a')\n"
    assert _whats(check_names, "src/tindra/features/x.py", text) == []


# --- calls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "import datetime\ndatetime.datetime.now()",
        "from datetime import datetime\ndatetime.now()",
        "import datetime as dt\ndt.datetime.utcnow()",
        "import time\ntime.time()",
        "from time import time as now\nnow()",
        "import asyncio\nasyncio.create_task(f())",
        "from asyncio import create_task\ncreate_task(f())",
        "\nprint('x')",
        "\neval('x')",
        "\nexec('x')",
    ],
)
def test_a_banned_call_is_seen_however_it_is_imported(text: str):
    found = list(check_calls(_source("src/tindra/store/x.py", text)))
    assert [finding.line for finding in found] == [2]
    assert found[0].instead


@pytest.mark.parametrize("text", ["import pickle", "from pickle import loads", "import marshal"])
def test_unsafe_modules_are_refused_everywhere(text: str):
    assert len(_whats(check_calls, "src/tindra/store/x.py", text)) == 1


@pytest.mark.parametrize("text", ["import urllib.request", "from urllib import request"])
def test_the_network_module_of_urllib_is_refused_in_pure_rooms(text: str):
    assert len(_whats(check_calls, "src/tindra/wire/x.py", text)) == 1
    assert _whats(check_calls, "src/tindra/outside/x.py", text) == []


def test_methods_with_a_banned_name_are_fine():
    text = (
        "import asyncio\nimport urllib.parse\nself.print()\ngroup.create_task(f())\nclock.time()\n"
    )
    assert _whats(check_calls, "src/tindra/core/x.py", text) == []


# --- remarks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("x = 1  # type: ignore", "type: ignore without a code"),
        ("x = 1  # type: ignore[arg-type]", "type: ignore without a reason"),
        ("x = 1  # noqa", "noqa without a code"),
        ("x = 1  # noqa: E501", "noqa without a reason"),
        ("x = 1  # TODO later", "TODO without an issue"),
        ("try:\n    f()\nexcept Exception:\n    pass", "broad except without a reason"),
        ("try:\n    f()\nexcept:\n    pass", "broad except without a reason"),
        (
            "try:\n    f()\nexcept (ValueError, BaseException):\n    pass",
            "broad except without a reason",
        ),
    ],
)
def test_a_remark_without_its_reason_is_refused(text: str, what: str):
    found = [finding.what for finding in check_remarks(_source("src/tindra/core/x.py", text))]
    assert found == [what]


@pytest.mark.parametrize(
    "text",
    [
        "x = 1  # type: ignore[arg-type]  # the stub is wrong",
        "x = 1  # noqa: S324  # not for security",
        "x = 1  # TODO(#12) later",
        "try:\n    f()\nexcept Exception:  # one boundary per call\n    pass",
        "try:\n    f()\nexcept Exception:\n    # one boundary per call\n    pass",
        "text = '# noqa in a string, and TODO'",
        "try:\n    f()\nexcept ValueError:\n    pass",
    ],
)
def test_a_remark_with_its_reason_is_fine(text: str):
    assert list(check_remarks(_source("src/tindra/core/x.py", text))) == []


def test_remarks_are_counted_by_kind_and_part_of_the_tree():
    tree = _tree(
        {
            "src/tindra/a.py": "x = 1  # noqa: E501  # why\ny = 1  # noqa: E501  # why\n",
            "tests/b.py": "try:\n    f()\nexcept Exception:\n    pass\n",
        }
    )
    found = {excess.place: excess.figure for excess in list_remark_excesses(tree)}
    assert found == {"noqa in src": 2, "broad-except in tests": 1}


# --- SQL ------------------------------------------------------------------------------------------

SCHEMA = """
CREATE TABLE user ( -- directory: who may sign in
  user_id TEXT PRIMARY KEY
);
CREATE TABLE email (account_id TEXT, email_id TEXT, PRIMARY KEY (account_id, email_id));
"""


def _sql(text: str, path: str = "src/tindra/store/sqlite/x.py") -> list[Finding]:
    tree = Tree(
        [
            Source("src/tindra/store/sqlite/schema.py", f'SCHEMA = """{SCHEMA}"""'.encode()),
            Source(path, text.encode()),
        ]
    )
    return list(check_sql(tree))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT data FROM email WHERE email_id = ?",
        "UPDATE email SET data = ?",
        "DELETE FROM email",
        "INSERT OR REPLACE INTO email (email_id) VALUES (?)",
        "SELECT 1 FROM user JOIN email USING (email_id)",
        "WITH x AS (SELECT * FROM email) SELECT * FROM x",
        "CREATE INDEX by_date ON email (received_ms)",
    ],
)
def test_a_statement_that_could_reach_past_its_account_is_seen(statement: str):
    assert [finding.line for finding in _sql(f"\nQUERY = '{statement}'\n")] == [2]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT data FROM email WHERE account_id = ?",
        "SELECT name FROM user WHERE user_id = ?",
        "SELECT count(*) FROM email -- every account: a figure for the operator",
        "SELECT name FROM sqlite_master",
        "SELECT 1",
        "SELECT value FROM json_each(?)",
        "PRAGMA journal_mode = WAL",
        "a UID FETCH 1:* (FLAGS)",
    ],
)
def test_a_statement_that_stays_inside_is_fine(statement: str):
    assert _sql(f'QUERY = "{statement}"') == []


def test_the_parts_of_a_statement_are_read_together():
    assert _sql('Q = "SELECT data FROM email " "WHERE account_id = ?"') == []
    assert _sql('Q = f"SELECT {columns} FROM email WHERE account_id = ?"') == []
    assert _sql('Q = "SELECT a FROM email" + " WHERE account_id = ?"') == []
    assert _sql('Q = f"SELECT rowid FROM search.{table} WHERE {table} MATCH ?"') == []
    assert _sql('Q = f"DROP TABLE fts_{int(number)}"') == []
    assert _sql('Q = f"DELETE FROM {table}"', "src/tindra/store/search/index.py") == []
    assert len(_sql('Q = f"SELECT {columns} FROM {table}"')) == 1
    assert len(_sql('Q = f"SELECT {columns} FROM email"')) == 1
    assert len(_sql('Q = "SELECT a FROM email WHERE account_id = ?; DELETE FROM email"')) == 1


def test_sql_outside_the_store_is_refused_but_prose_and_docstrings_are_not():
    path = "src/tindra/core/x.py"
    assert [f.what for f in _sql("Q = 'DELETE FROM email'", path)] == ["SQL outside store/"]
    assert (
        _sql('"""A store may SELECT rows FROM email."""\nX = "Select one from the list"', path)
        == []
    )


def test_an_account_table_whose_key_starts_elsewhere_is_refused():
    table = (
        "CREATE TABLE thread (thread_id TEXT, account_id TEXT, PRIMARY KEY (thread_id, account_id))"
    )
    assert [f.what for f in _sql(f'Q = "{table}"')] == [
        "the primary key of thread starts with thread_id"
    ]
    assert (
        _sql(f'Q = "{table.replace("(thread_id, account_id))", "(account_id, thread_id))")}"') == []
    )


def test_sql_files_are_read_too():
    text = "-- first\nCREATE TABLE a (account_id TEXT);\n\nDELETE FROM a;\n"
    assert [finding.line for finding in _sql(text, "src/tindra/store/postgres/1.sql")] == [4]


# --- citations ------------------------------------------------------------------------------------


def _cite(text: str) -> list[str]:
    tree = Tree(
        [
            Source("docs/rfc/index.tsv", INDEX.encode()),
            Source("src/tindra/core/tx.py", f'"""{text}"""'.encode()),
        ]
    )
    return [finding.what for finding in check_citations(tree)]


@pytest.mark.parametrize(
    "text",
    ["RFC 8621 s4.6", "RFC 8621 s2.5, s2.1 and s4.6", "RFC 5322 sA.1.2", "RFC 2047", "RFC822.SIZE"],
)
def test_a_citation_that_the_index_knows_is_fine(text: str):
    assert _cite(text) == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("RFC 8621 s4.7", "RFC 8621 has no section 4.7 in docs/rfc/index.tsv"),
        ("RFC 8621 s2.5, s9", "RFC 8621 has no section 9 in docs/rfc/index.tsv"),
        ("RFC 5322 s8", "RFC 5322 has no section 8 in docs/rfc/index.tsv"),
        ("RFC 5322 sC", "RFC 5322 has no section C in docs/rfc/index.tsv"),
        ("RFC 9999", "RFC 9999 is not in docs/rfc/index.tsv"),
        ("RFC 8621 section 4.6", "citation in the form 'RFC 8621 section 4.6'"),
        ("RFC 8621, §4.6", "citation in the form 'RFC 8621, §4.6'"),
        ("RFC8621", "citation in the form 'RFC8621'"),
    ],
)
def test_a_citation_that_is_wrong_or_in_another_form_is_seen(text: str, what: str):
    assert _cite(text) == [what]


def test_a_row_that_claims_a_file_must_name_one_that_is_there():
    tree = Tree([Source("docs/rfc/index.tsv", INDEX.encode())])
    assert [finding.what for finding in check_citations(tree)] == [
        "RFC 8621 4.6 names core/tx.py, which is not there"
    ]


@pytest.mark.parametrize("row", ["x\ty\t*\tyes\t", "1\ty\t*\tsoon\t", "1\ty\t\tyes\t", "1 y * yes"])
def test_a_line_of_the_index_that_is_no_row_is_seen(row: str):
    rows, findings = parse_index(row)
    assert rows == []
    assert [finding.what for finding in findings] == ["not a row of the index"]


# --- files ----------------------------------------------------------------------------------------


def test_large_files_and_places_of_one_machine_are_refused():
    assert _whats(check_files, "web/a.bin", "x" * 500_001) == ["1: file of 500 KB, at most 500"]
    host = "pypi" + ".org"
    for text in ("see /work" + "/main", "cd /root" + "/.venv", f"index = https://{host}/simple"):
        assert len(_whats(check_files, "docs/a.md", f"\n{text}\n")) == 1
    for text in ("network/work/x", "TYPE=home/work/x", "https://example.org/work/a", "/tmp"):
        assert _whats(check_files, "docs/a.md", text) == []


@pytest.mark.parametrize("path", ["changes/2.feature.md", "changes/README.md"])
def test_change_fragments_have_an_issue_and_a_kind(path: str):
    assert _whats(check_files, path, "x") == []


@pytest.mark.parametrize(
    "path", ["changes/feature.md", "changes/2.news.md", "changes/2.feature.txt"]
)
def test_other_names_in_changes_are_refused(path: str):
    assert _whats(check_files, path, "x") == ["1: not the name of a change fragment"]


@pytest.mark.parametrize(
    "listing",
    [
        "from tindra.features import mail, snooze\nALL = (mail.FEATURE, snooze.FEATURE)",
        "from tindra.features.mail.email import EMAIL as E\nfrom tindra.features.snooze import S\n"
        "ALL: tuple[object, ...] = (*E, S)",
        "",
    ],
)
def test_a_feature_that_is_listed_is_fine(listing: str):
    tree = _tree(
        {
            "src/tindra/features/__init__.py": listing,
            "src/tindra/features/mail/email.py": "",
            "src/tindra/features/snooze.py": "",
        }
    )
    assert list(check_files(tree)) == []


def test_a_feature_that_is_not_listed_is_seen():
    tree = _tree(
        {
            "src/tindra/features/__init__.py": "from tindra.features import mail\nALL = (mail.F,)",
            "src/tindra/features/mail.py": "",
            "src/tindra/features/snooze.py": "",
            "src/tindra/features/objects.py": "",
        }
    )
    assert [finding.path for finding in check_files(tree)] == ["src/tindra/features/snooze.py"]


PROJECT = (
    '[project]\ndependencies = ["msgspec>=0.20"]\n[dependency-groups]\ndev = ["httpx>=0.28"]\n'
)


def test_an_undeclared_import_is_seen_and_the_product_may_not_use_the_tools_of_developers():
    text = "import msgspec, json\nfrom tindra.core import tx\nimport httpx\nimport numpy.linalg\n"
    for path, modules in (("src/tindra/a.py", ["httpx", "numpy"]), ("tests/a.py", ["numpy"])):
        tree = Tree([Source("pyproject.toml", PROJECT.encode()), Source(path, text.encode())])
        found = [finding.what for finding in check_files(tree)]
        assert found == [f"import of {module}, which is not declared" for module in modules]


def test_a_file_that_does_not_parse_is_seen():
    assert _whats(check_files, "src/tindra/a.py", "def f(:") == ["1: not Python"]


# --- the whole ------------------------------------------------------------------------------------


def test_a_message_says_where_what_and_what_instead():
    finding = Finding("a.py", 3, "call of print", "log it")
    assert str(finding) == "a.py:3: call of print; log it"


def test_the_command_fails_on_a_fault_and_passes_when_it_is_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    module = tmp_path / "src/tindra/core/x.py"
    module.parent.mkdir(parents=True)
    module.write_text("print('x')\n")
    assert main([], tmp_path) == 1
    assert "src/tindra/core/x.py:1: call of print; " in capsys.readouterr().out
    module.write_text("x = 1\n")
    assert main([], tmp_path) == 0


def test_the_ratchet_is_started_and_then_only_shrinks(tmp_path: Path):
    module = tmp_path / "src/tindra/core/x.py"
    module.parent.mkdir(parents=True)
    (tmp_path / "tools").mkdir()
    for lines, command, status in ((90, "--start", 0), (91, "--shrink", 1), (80, "--shrink", 0)):
        module.write_text(_function(lines))
        assert main([command], tmp_path) == 0
        assert main([], tmp_path) == status
    module.write_text(_function(81))
    assert main([], tmp_path) == 1


def test_the_tree_holds_what_git_would_keep_and_every_python_file_of_it_is_read():
    tree = load_tree(ROOT)
    assert "tools/tidy.py" in tree.by_path
    assert not any(path.startswith((".venv/", "web/node_modules/")) for path in tree.by_path)
    assert isinstance(check_tree(tree), list)
