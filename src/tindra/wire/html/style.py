"""Filters the declarations of one style attribute; element rules and tags are not known here.

Only listed properties pass, with values made of plain words, numbers, colours and listed
functions. What needs a CSS parser to be understood (escapes, at-rules, unknown functions) is
dropped, so no two parsers can read the result differently. Invariant: linear time.
Source: RFC 8621 s9.2
"""

from __future__ import annotations

import re
from collections.abc import Callable

STYLE_CHARS_MAX = 16 * 1024
"""A longer style attribute is dropped; those of newsletters stay below 1 KiB."""

_NAMES = """
background background-color background-image background-position background-repeat background-size
border border-bottom border-bottom-color border-bottom-left-radius border-bottom-right-radius
border-bottom-style border-bottom-width border-collapse border-color border-left border-left-color
border-left-style border-left-width border-radius border-right border-right-color border-right-style
border-right-width border-spacing border-style border-top border-top-color border-top-left-radius
border-top-right-radius border-top-style border-top-width border-width box-sizing caption-side clear
color direction display empty-cells float font font-family font-size font-style font-variant
font-weight height letter-spacing line-height list-style list-style-position list-style-type
margin margin-bottom margin-left margin-right margin-top max-height max-width min-height min-width
opacity overflow overflow-wrap overflow-x overflow-y padding padding-bottom padding-left
padding-right padding-top table-layout text-align text-decoration text-decoration-color
text-decoration-line text-decoration-style text-indent text-overflow text-transform vertical-align
visibility white-space width word-break word-spacing word-wrap
"""
PROPERTIES = frozenset(_NAMES.split())
"""No position, z-index, transform, animation, content, cursor, filter: nothing leaves its box."""

_FUNCTIONS = frozenset(
    ["rgb", "rgba", "hsl", "hsla", "calc", "min", "max", "linear-gradient", "radial-gradient"]
)
_WITH_IMAGE = frozenset(["background", "background-image", "list-style"])
_TOKEN = re.compile(
    r"(?P<string>\"[^\"]*+\"|'[^']*+')"
    r"|(?P<comment>/\*.*?(?:\*/|\Z))"
    r"|(?P<url>(?i:url)\(\s*+(?:\"([^\"]*+)\"|'([^']*+)'|([^()\"'\s]*+))\s*+\))"
    r"|(?P<end>;)"
    r"|[^;\"'/uU]++|.",
    re.DOTALL,
)
_VALUE = re.compile(r"(?:\"[^\"\\<>\n]*+\"|'[^'\\<>\n]*+'|[\w#%.,+\-*/!() \t\r\n]++)++")
_FUNCTION = re.compile(r"([\w-]*+)\(")
_NEGATIVE = re.compile(r"(?:^|\s)-")
_URL_MARK = "\0"
"""Stands for an image while the value around it is checked; HTML has no NUL to confuse it with."""
_URL_PLACE = "none"
_UNSAFE_IN_URL = {ord(char): f"%{ord(char):02X}" for char in "\"'\\()<> \t\r\n"}


def filter_style(style: str, rewrite_url: Callable[[str], str | None]) -> str:
    """The declarations of `style` that are allowed; empty if there are none.

    Args:
        rewrite_url: the URL to use for an image, through escape_css_url, None to leave it out.
    """
    if len(style) > STYLE_CHARS_MAX:
        return ""
    kept: list[str] = []
    pieces: list[str] = []
    urls: list[str] = []
    for match in _TOKEN.finditer(style + ";"):
        kind = match.lastgroup
        if kind == "end":
            declaration = _check_declaration("".join(pieces), urls, rewrite_url)
            if declaration:
                kept.append(declaration)
            pieces, urls = [], []
        elif match["url"] is not None:
            urls.append(match[4] or match[5] or match[6] or "")
            pieces.append(_URL_MARK)
        elif kind == "comment":
            pieces.append(" ")
        else:
            pieces.append(match[0])
    return ";".join(kept)


def escape_css_url(url: str) -> str:
    """`url` as it can stand in quotes in a style: what could end it is percent-encoded."""
    return url.translate(_UNSAFE_IN_URL)


def _check_declaration(
    declaration: str, urls: list[str], rewrite_url: Callable[[str], str | None]
) -> str | None:
    name, _, value = declaration.partition(":")
    name, value = name.strip().lower(), value.strip()
    if name not in PROPERTIES or value.count(_URL_MARK) != len(urls):
        return None
    if urls and name not in _WITH_IMAGE:
        return None
    if not _VALUE.fullmatch(value.replace(_URL_MARK, _URL_PLACE)):
        return None
    if not all(word.lower() in _FUNCTIONS or not word for word in _FUNCTION.findall(value)):
        return None
    if name.startswith("margin") and _NEGATIVE.search(value):
        # A negative margin leaves the box of the message.
        return None
    for url in urls:
        target = rewrite_url(url)
        quoted = _URL_PLACE if target is None else f"url('{target}')"
        value = value.replace(_URL_MARK, quoted, 1)
    return f"{name}:{value}"
