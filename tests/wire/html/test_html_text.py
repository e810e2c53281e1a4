"""The visible text of HTML."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tindra.wire.html.text import html_to_text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("", ""),
        ("plain", "plain"),
        ("a &amp; b &eacute; &nbsp; c", "a & b é c"),
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("<div>one</div><div>two</div>", "one\ntwo"),
        ("one<br>two<br><br>three<br><br><br><br>four", "one\ntwo\n\nthree\n\nfour"),
        ("<b>bo</b>ld <i> it</i>alic", "bold italic"),
        ("  white \n\n space  ", "white space"),
        ("<ul><li>a<li>b<ol><li>x<li>y</ol><li>c</ul>", "- a\n- b\n1. x\n2. y\n- c"),
        ("<table><tr><td>1<td>2<tr><td>3</table>", "1 2\n3"),
        ("<pre>  a\n   b</pre>", "  a\n   b"),
        (
            "hi<blockquote>q<blockquote>r</blockquote></blockquote>bye",
            "hi\n>\n> q\n> >\n> > r\n\nbye",
        ),
        ("<h1>Title</h1>text", "Title\n\ntext"),
        ("<a href='https://x'>link</a>", "link"),
        ("<img alt='logo' src=x>text", "text"),
        ("<head><title>t</title><style>s{}</style></head>b<script>s()</script>", "b"),
        ("a<!-- comment -->b", "ab"),
        ("a<div hidden>x</div>b", "ab"),
        ("a<span style='DISPLAY : none'>x</span>b", "ab"),
        ("a<span style='color:red;visibility:hidden'>x</span>b", "ab"),
        ("a<span style='mso-hide:all'>x</span>b", "ab"),
        ("a<span style='text-decoration:none'>x</span>b", "axb"),
        ("<p style='display:none'>x<p>y", "y"),
        ("<textarea>x</textarea><select><option>y</select>z", "z"),
        ("<svg><text>x</text></svg><template>y</template>z", "z"),
        ("<frameset><frame></frameset>", ""),
        ("a\ud800b<br>ü", "a?b\nü"),
    ],
)
def test_text(html: str, text: str) -> None:
    assert html_to_text(html).strip("\n") == text


def test_a_limit_stops_early_and_gives_a_prefix() -> None:
    html = "<style>" + "x{}" * 50_000 + "</style>" + "<p>word word</p>" * 20_000
    full = html_to_text(html)
    assert html_to_text(html, 100) == full[:100]
    assert html_to_text("<p>short</p>", 100) == "short"
    late = "<div></div>" * 20_000 + "the end"
    assert html_to_text(late, 100) == "the end"


def test_a_document_that_costs_too_much_still_gives_its_text() -> None:
    html = "<div>" * 100_000 + "deep"
    assert html_to_text(html) == "deep"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=8),
            st.sampled_from(
                ["<p>", "</p>", "<ul>", "<ol>", "<li>", "</ul>", "<blockquote>", "<pre>"]
            ),
            st.sampled_from(
                ["</blockquote>", "</pre>", "<br>", "<td>", "<table>", "<script>", "<!--"]
            ),
        ),
        max_size=40,
    ).map("".join),
    st.integers(0, 30),
)
def test_any_text_gives_clean_text_within_the_limit(html: str, chars_max: int) -> None:
    text = html_to_text(html, chars_max)
    text.encode("utf-8")
    assert "\r" not in text
    if chars_max:
        assert len(text) <= chars_max
        assert html_to_text(html).startswith(text.rstrip())
