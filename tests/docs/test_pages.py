"""The docs are complete and true where a machine can tell: pages, links, commands, settings."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tindra.server.metrics import METRICS
from tools.docs import list_stale_pages
from tools.docs_pages import facts
from tools.tidy_rules.tree import Tree, load_tree

ROOT = Path(__file__).resolve().parents[2]
# Constants of the limits that are units, not bounds.
UNITS = frozenset({"KIB", "MIB", "GIB"})

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


@cache
def _tree() -> Tree:
    return load_tree(ROOT)


def _pages() -> list[str]:
    return [
        source.path
        for source in _tree().sources
        if source.suffix == ".md" and not source.path.startswith(("web/", "changes/"))
    ]


def _prose() -> str:
    return "\n".join(_tree().text(path) for path in _pages())


def test_the_generated_pages_are_what_the_code_says():
    assert sorted(list_stale_pages(ROOT)) == [], "run: make docs"


@pytest.mark.parametrize("path", _pages())
def test_every_link_of_a_page_leads_somewhere(path: str):
    text = _FENCE.sub("", _tree().text(path))
    for match in _LINK.finditer(text):
        target = match[1] or match[2]
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (ROOT / path).parent / name if name else ROOT / path
        assert file.exists(), f"{path} links to {target}"
        if anchor:
            assert anchor in _anchors(file.read_text()), f"{path} links to {target}"


def _anchors(text: str) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def test_every_page_is_linked_from_another():
    linked = set()
    for path in _pages():
        for match in _LINK.finditer(_tree().text(path)):
            target = (match[1] or match[2]).partition("#")[0]
            if target and ":" not in target:
                linked.add(((ROOT / path).parent / target).resolve())
    alone = [path for path in _pages() if (ROOT / path).resolve() not in linked]
    known = {"README.md", "docs/decisions/template.md", "CHANGELOG.md"}
    folders = {path for path in alone if (ROOT / path).parent.resolve() in linked}
    assert sorted(set(alone) - known - folders) == []


def test_every_alert_is_about_a_metric_that_exists_and_says_what_to_do():
    rules = _tree().text("deploy/alerts.yml")
    alerts = re.findall(r"- alert: (\w+)\n +expr: (.+)\n", rules)
    assert len(alerts) == rules.count("alert:")
    names = {metric.name for metric in METRICS}
    for _, expression in alerts:
        assert set(re.findall(r"tindra_\w+", expression)) <= names
    page = _tree().text("docs/operate/alerts.md")
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == [name for name, _ in alerts]


def test_every_limit_says_why():
    silent = [
        fact.name
        for fact in facts.list_limits(_tree())
        if fact.path.endswith("/limits.py") and not fact.text and fact.name not in UNITS
    ]
    assert silent == []


def test_every_setting_metric_and_command_says_what_it_is_for():
    named = [*facts.list_settings(_tree()), *facts.list_metrics(_tree()), *facts.list_commands()]
    assert [fact.name for fact in named if not fact.text] == []


def test_the_search_for_facts_has_not_gone_blind():
    """Where the code has the thing at all, the generator finds some of it."""
    tree = _tree()
    assert len(facts.list_limits(tree)) >= 20
    assert len(facts.list_error_classes(tree)) >= 5
    assert len(facts.list_error_kinds(tree)) >= 10
    if tree.text(facts.CONFIG_PATH):
        assert len(facts.list_settings(tree)) >= 3
    if tree.text("src/tindra/app/cli.py"):
        assert facts.list_commands()
    if any("prometheus_client" in source.text for source in tree.python("src/")):
        assert facts.list_metrics(tree)


def test_every_own_capability_has_its_page():
    names = [fact.name for fact in facts.list_capabilities(_tree())]
    missing = [name for name in names if not _tree().text(f"docs/protocol/{name}.md")]
    assert missing == []


def test_every_make_target_that_the_docs_name_exists():
    targets = set(re.findall(r"^([a-z-]+):", _tree().text("Makefile"), re.MULTILINE))
    named = {
        word
        for line in re.findall(r"(?:^|`)make ((?:[a-z-]+ ?)+)", _prose(), re.MULTILINE)
        for word in line.split()
    }
    assert named
    assert named - targets == set()


def test_every_command_that_the_docs_name_exists():
    commands = {fact.name.split()[0] for fact in facts.list_commands()}
    if not commands:
        pytest.skip("there is no command line yet")
    named = set(re.findall(r"(?:^|`|\$ )tindra ([a-z][a-z-]+)", _prose(), re.MULTILINE))
    assert named - commands == set()


def test_every_environment_variable_that_the_docs_name_is_read_somewhere():
    code = "\n".join(
        source.text for source in _tree().sources if source.suffix in {".py", ".sh", ".ts", ""}
    )
    prefix = facts.find_environment_prefix(_tree())
    settings = {prefix + fact.name.upper() for fact in facts.list_settings(_tree())}
    named = set(re.findall(r"\bTINDRA_[A-Z_]+\b", _prose()))
    assert [name for name in sorted(named - settings) if name not in code] == []
