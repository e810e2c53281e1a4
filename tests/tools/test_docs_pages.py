"""The generator of the docs finds what the code has, with what the code says about it."""

from __future__ import annotations

import sys
from types import ModuleType

import cyclopts
import pytest

from tools.docs_pages.facts import (
    CLI_MODULE,
    list_commands,
    list_error_classes,
    list_error_kinds,
    list_limits,
    list_metrics,
    list_settings,
)
from tools.docs_pages.pages import build_pages
from tools.tidy_rules.tree import Source, Tree

LIMITS = '''
KIB: Final = 1024
BODY_BYTES_MAX: Final = 2 * KIB
"""One body;
fits a screen."""
NAME_CHARS_MAX = 10  # what a line holds
# Two at once
# are enough.
TASKS = 2
lower = 3
'''
CONFIG = '''
class Config(msgspec.Struct, kw_only=True):
    port: int = 8080
    """Where it listens."""
    data: Path  # where the mail lives
    KIND: ClassVar[str] = "x"

@dataclass(frozen=True)
class Mail:
    host: str | None = None
    size: Annotated[int, Meta(ge=0, le=9, description="How large")] = 1
    """In metres."""

class Loader:
    path: str = ""
'''
METRICS = """
from prometheus_client import Counter
SENT = Counter("tindra_sent_total", "Mails sent.", ["outcome", "kind"])
OPEN = prometheus_client.Gauge("tindra_open", documentation="Open streams.", labelnames=("role",))
TABLE = (Metric("tindra_calls_total", "counter", "Calls.", ("method",)),)
"""
ERRORS = '''
class Broken(Exception):
    """It is broken.

    Much more text.
    """

class Late(Broken): ...
class Plain: ...
class ParseError(ValueError): ...

raise MethodError("notFound", "x")
raise errors.SetError("overQuota")
raise MethodError(kind)
raise RequestError("urn:ietf:params:jmap:error:notJSON", "x")
'''


def _tree(path: str, text: str) -> Tree:
    return Tree([Source(path, text.encode())])


def test_limits_are_read_with_their_value_and_reason():
    found = list_limits(_tree("src/tindra/base/limits.py", LIMITS))
    assert [(fact.name, fact.value, fact.text) for fact in found] == [
        ("KIB", "1024", ""),
        ("BODY_BYTES_MAX", "2 * KIB", "One body; fits a screen."),
        ("NAME_CHARS_MAX", "10", "what a line holds"),
        ("TASKS", "2", "Two at once are enough."),
    ]


def test_bounds_outside_the_limits_are_found_by_their_name():
    found = list_limits(_tree("src/tindra/wire/x.py", LIMITS))
    assert [fact.name for fact in found] == ["BODY_BYTES_MAX", "NAME_CHARS_MAX"]


def test_settings_are_the_fields_of_the_records():
    found = list_settings(_tree("src/tindra/app/config.py", CONFIG))
    assert [(fact.name, fact.value, fact.more, fact.text) for fact in found] == [
        ("port", "8080", ("Config", "int"), "Where it listens."),
        ("data", "(must be given)", ("Config", "Path"), "where the mail lives"),
        ("host", "None", ("Mail", "str | None"), ""),
        ("size", "1", ("Mail", "int >= 0 <= 9"), "How large. In metres."),
    ]


def test_metrics_are_found_with_kind_labels_and_meaning():
    found = list_metrics(_tree("src/tindra/server/metrics.py", METRICS))
    assert [(fact.name, fact.value, fact.more, fact.text) for fact in found] == [
        ("tindra_calls_total", "counter", ("method",), "Calls."),
        ("tindra_open", "gauge", ("role",), "Open streams."),
        ("tindra_sent_total", "counter", ("outcome", "kind"), "Mails sent."),
    ]


def test_commands_are_found_with_their_help_options_and_children(monkeypatch: pytest.MonkeyPatch):
    app, user = cyclopts.App(name="tindra"), cyclopts.App(name="user", help="Who may sign in.")

    @app.command
    def demo(port: int = 8080, *, data_folder: str = "") -> None:
        """Start the demo.

        Much more text.
        """

    @user.command
    def add(login: str) -> None:
        """Add one."""

    app.command(user)
    module = ModuleType(CLI_MODULE)
    module.__dict__["app"] = app
    monkeypatch.setitem(sys.modules, CLI_MODULE, module)
    assert [(fact.name, fact.text, fact.more) for fact in list_commands()] == [
        ("demo", "Start the demo.", ("port", "data_folder")),
        ("user", "Who may sign in.", ()),
        ("user add", "Add one.", ("login",)),
    ]


def test_error_classes_and_types_are_found():
    tree = _tree("src/tindra/core/x.py", ERRORS)
    assert [(fact.name, fact.value, fact.text) for fact in list_error_classes(tree)] == [
        ("Broken", "Exception", "It is broken."),
        ("Late", "Broken", ""),
        ("ParseError", "ValueError", ""),
    ]
    assert [(fact.name, fact.value, fact.more) for fact in list_error_kinds(tree)] == [
        ("notFound", "MethodError", ("core",)),
        ("overQuota", "SetError", ("core",)),
        ("urn:ietf:params:jmap:error:notJSON", "RequestError", ("core",)),
    ]


def test_a_page_is_a_table_whose_cells_cannot_break_it():
    pages = build_pages(_tree("src/tindra/app/config.py", CONFIG))
    assert "| `host` |  | `str \\| None` | `None` |  |" in pages["docs/operate/settings.md"]
    assert "docs/operate/limits.md" not in pages


def test_the_coverage_page_names_the_code_and_the_tests_of_each_row():
    tree = Tree(
        [
            Source(
                "docs/rfc/index.tsv",
                b"8621\tEmail/set\t4.6\tpart\t\n8621\tMailbox\t2.*\tplan\t\n9999\tLater\t*\tplan\t\n",
            ),
            Source("src/tindra/features/mail/email.py", b'"""RFC 8621 s4.6"""'),
            Source("tests/jmap/test_email.py", b'"""RFC 8621 s4.6 and s2.5"""'),
        ]
    )
    page = build_pages(tree)["docs/protocol/coverage.md"]
    assert (
        "| 8621 | Email/set | 4.6 | part | `features/mail/email.py` | `jmap/test_email.py` |  |"
        in page
    )
    assert "| 8621 | Mailbox | 2.* | plan |  | `jmap/test_email.py` |  |" in page
    assert "9999" not in page
