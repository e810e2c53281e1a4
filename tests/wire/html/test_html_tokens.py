"""Cutting HTML into tags, and telling what a tree of it would cost."""

from __future__ import annotations

import time
from collections.abc import Callable

import nh3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from tindra.wire.html.sanitise import sanitise_html
from tindra.wire.html.text import html_to_text
from tindra.wire.html.tokens import is_affordable, iter_tags, strip_tags


def names(html: str) -> list[str]:
    return [(match[1] or "") + (match[2] or match[0][:2]) for _, match in iter_tags(html)]


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<p>a</p>", ["p", "/p"]),
        ("<p a='>' b=\">\" c=>>", ["p"]),
        ("<p a=b'>'>", ["p"]),
        ('<p "><b>', ["p", "b"]),
        ("a < b <3 <b", ["b"]),
        ("<!-- <p> --><b>", ["<!", "b"]),
        ("<!--><b>--><i>", ["<!", "b", "i"]),
        ("<!---><b>", ["<!", "b"]),
        ("<!-- x --!><b>", ["<!", "b"]),
        ("<!-- open <b>", ["<!"]),
        ("<![if mso]><b><![endif]>", ["<!", "b", "<!"]),
        ("<?xml a='>'?><b>", ["<?", "b"]),
        ("</ x><b>", ["</", "b"]),
        ('<style><b a="</style><i>', ["style", "/style", "i"]),
        ("<STYLE></styles><b></Style ><i>", ["STYLE", "/Style", "i"]),
        ("<script>'</scr' + '<b>'</script><i>", ["script", "/script", "i"]),
        ("<title><b></title><i>", ["title", "/title", "i"]),
        ("<plaintext><b>", []),
        ("<br/><p/a/b>", ["br", "p"]),
    ],
)
def test_tags_are_cut_as_a_browser_cuts_them(html: str, expected: list[str]) -> None:
    assert names(html) == expected


def test_text_without_a_tree() -> None:
    html = "<style>x</style><p>a &amp; b</p><div>c<b>d</b></div><script>e</script>"
    assert strip_tags(html) == "a & b\n\ncd"
    assert strip_tags("<p>abc</p>" * 100, 10) == "abc\n\nabc\n\n"[:10]


NEWSLETTER = (
    "<html><head><style>td{color:red}</style></head><body><table>"
    + "<tr><td><p>text<br><a href='x'><b>y</b></a> <font size=1>z</font></p></td></tr>" * 4000
    + "</table></body></html>"
)


@pytest.mark.parametrize(
    "html",
    [
        NEWSLETTER,
        "<div><p>x</p></div>" * 20_000,
        "<p>never closed" * 20_000,
        "<li>never closed" * 20_000,
        "<a name=x>never closed " * 5_000,
        "<tr><td>a<td>b" * 2_000,
        "<div>" * 500 + "deep quotes <p>x</p>" * 3_000,
        "<img src='data:image/png;base64," + "A" * 500_000 + "'>" + "<br>" * 2_000,
        "plain text " * 100_000,
    ],
)
def test_real_mail_is_affordable(html: str) -> None:
    assert is_affordable(html)


HOSTILE: dict[str, Callable[[int], str]] = {
    "nested": lambda n: "<div>" * n,
    "formatting": lambda n: "".join(f"<b a={i}>" for i in range(n)) + "<div>x</div>" * n,
    "reopened": lambda n: "<p>" + "".join(f"<i a={i}>" for i in range(n)) + "</p>" + "<p>x" * n,
    "attributes": lambda n: "<div " + " ".join(f"a{i}" for i in range(n)) + ">",
    "quoted attributes": lambda n: "<div " + "".join(f"a{i}='<'" for i in range(n)) + ">",
    "end tags in attributes": lambda n: '<div a="</div>">' * n,
    "end tags out of scope": lambda n: "<div><table><td></div></td></table>" * n,
    "end tags in style": lambda n: "<div><style></div></style>" * n,
    "end tags in comments": lambda n: "<div><!-- </div> -->" * n,
    "start tags behind an open quote": lambda n: "<svg><style><b a='</style>" + "<b>" * n,
    "cdata": lambda n: "<svg><![CDATA[</svg>" + "<b>]]><b>" * n,
    "misnested": lambda n: "".join(f"<b a={i}><div></b>" for i in range(n)),
    "noscript": lambda n: "<noscript><b>" * n,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_documents_are_not_affordable(name: str) -> None:
    assert not is_affordable(HOSTILE[name](30_000))


CHEAP: dict[str, Callable[[int], str]] = HOSTILE | {
    "open brackets": lambda n: "<" * n,
    "open tags": lambda n: "<a " * n,
    "open quotes": lambda n: "<a b='" * n,
    "open comments": lambda n: "<!--" * n,
    "open titles": lambda n: "<title>" * n,
    "entities": lambda n: "&" * n,
    "blank lines": lambda n: "\n " * n,
    "lists": lambda n: "<ul><li>" * n,
    "quotes": lambda n: "<blockquote>x" * n,
    "styles": lambda n: "<p style='" + "url(" * n + "'>",
    "style comments": lambda n: "<p style='" + "/*" * n + "'>",
    "many styles": lambda n: "".join(f"<p style='color:red;a{i}:url(\"x'>" for i in range(n)),
    "hidden": lambda n: "<p hidden style='display:none'>x</p>" * n,
    "adoption": lambda n: "<a>" + "<div>" * 8 + "</a><b>" * n,
    "foster parents": lambda n: "<table>" + "<b>x<tr>" * n,
}


@pytest.mark.parametrize("name", CHEAP)
@pytest.mark.parametrize(
    "work",
    [
        is_affordable,
        strip_tags,
        html_to_text,
        lambda html: html_to_text(html, 256),
        lambda html: sanitise_html(html, cid_url=lambda _: None),
    ],
)
def test_time_is_linear_on_hostile_documents(work: Callable[[str], object], name: str) -> None:
    def spent_s(count: int) -> float:
        html = CHEAP[name](count)
        best = float("inf")
        for _ in range(2):
            start = time.process_time()
            work(html)
            best = min(best, time.process_time() - start)
        return best

    once, twice = spent_s(6_000), spent_s(12_000)
    # A document may just pass the limit of what a tree may cost, hence the absolute part.
    assert twice <= 4 * once + 0.6


TAG_PIECES = (
    "<div> </div> <p> <b> </b> <table> <td> </table> <style> </style> <li> x > <!-- -->"
    " <a_b=' '> <i_c=\" \">"
).split()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(TAG_PIECES), max_size=60).map("".join))
def test_no_element_of_the_tree_goes_unseen(html: str) -> None:
    # Copies and implied elements aside, a tree has no element whose start tag was not cut out.
    html = html.replace("_", " ")
    seen = {name.lower() for name in names(html) if not name.startswith(("/", "<"))}
    tree = LexborHTMLParser(html).root
    assert tree is not None
    implied = {"html", "head", "body", "tbody", "tr", "p", "-comment", None}
    assert {node.tag for node in tree.traverse()} - implied <= seen
    assert nh3.clean(html) is not None
