"""The visible text of HTML, as plain text with lines: for previews, search and text alternatives.

What a reader would not see (scripts, style sheets, head, hidden elements) is left out, so hidden
text cannot speak to whatever reads the result. Links lose their targets; quotes get "> ".
Invariants: linear time; never raises.
"""

from __future__ import annotations

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

from tindra.wire.html.tokens import is_affordable, strip_tags, without_surrogates

_HEAD_CHARS = 24 * 1024
_HEAD_CHARS_PER_CHAR = 16
"""When a few characters are wanted, so much HTML is tried first: newsletters begin with styles."""
_QUOTE_DEPTH_MAX = 8
"""Marks before a line of nested quotes; without a limit they grow by depth times lines."""
_BREAKS_MAX = 2
"""Line ends in a row: one empty line at most."""

_DROPPED_NAMES = (
    "script style head title template svg math iframe object embed textarea select datalist audio"
    " video canvas -comment -doctype"
)
_DROPPED = frozenset(_DROPPED_NAMES.split())
_BREAKS = {
    **dict.fromkeys(["p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "dl", "table"], 2),
    **dict.fromkeys(["blockquote", "pre", "figure", "hr"], 2),
    **dict.fromkeys(["div", "li", "tr", "dt", "dd", "section", "article", "header", "footer"], 1),
    **dict.fromkeys(["nav", "main", "aside", "address", "center", "fieldset", "form"], 1),
    **dict.fromkeys(["caption", "figcaption", "details", "summary", "body"], 1),
}
_LAID_OUT = frozenset(_BREAKS) | {"br", "td", "th"}
_HIDDEN_CANDIDATES = "[hidden],[style*=none i],[style*=hidden i],[style*=mso-hide i]"
_HIDDEN_STYLE = re.compile(
    r"(?:^|[;\s])(?:display\s*:\s*none|visibility\s*:\s*hidden|mso-hide\s*:\s*all)", re.IGNORECASE
)


def html_to_text(html: str, chars_max: int = 0) -> str:
    """The visible text of a document or fragment, LF line ends.

    Args:
        chars_max: stop at about that many characters (a cut at that place); 0 means all.
    Cost: linear; with `chars_max`, in most cases only the head of the document is parsed.
    """
    html = without_surrogates(html)
    if chars_max:
        head = _HEAD_CHARS + chars_max * _HEAD_CHARS_PER_CHAR
        if len(html) > 2 * head:
            text = _convert(html[:head], chars_max)
            if len(text) >= chars_max:
                return text
    return _convert(html, chars_max)


def _convert(html: str, chars_max: int) -> str:
    if not is_affordable(html):
        return strip_tags(html, chars_max)
    root = LexborHTMLParser(html).body
    if root is None:
        return strip_tags(html, chars_max)
    writer = _Writer(chars_max)
    low = html.lower()
    may_hide = "none" in low or "hidden" in low or "mso-hide" in low
    _walk(root, writer, _find_hidden(root) if may_hide else frozenset())
    text = "".join(writer.out)
    return text[:chars_max] if chars_max else text


def _walk(root: LexborNode, writer: _Writer, hidden: frozenset[int]) -> None:
    """Depth first, with a stack of our own: depth is the sender's choice."""
    open_nodes: list[tuple[LexborNode, str]] = []
    node: LexborNode | None = root
    while node is not None and not writer.is_full:
        tag = node.tag or ""
        if tag == "-text":
            writer.add_text(node.text_content or "")
        elif tag not in _DROPPED and not (hidden and node.mem_id in hidden):
            if tag in _LAID_OUT:
                writer.open(tag)
            child = node.first_child
            if child is not None:
                open_nodes.append((node, tag))
                node = child
                continue
            if tag in _BREAKS:
                writer.close(tag)
        following = node.next if open_nodes else None
        while following is None and open_nodes:
            node, tag = open_nodes.pop()
            if tag in _BREAKS:
                writer.close(tag)
            following = node.next if open_nodes else None
        node = following


def _find_hidden(root: LexborNode) -> frozenset[int]:
    """The identities of the elements that are not shown."""
    hidden: list[int] = []
    for node in root.css(_HIDDEN_CANDIDATES):
        attributes = node.attributes
        if "hidden" in attributes or _HIDDEN_STYLE.search(attributes.get("style") or ""):
            hidden.append(node.mem_id)
    return frozenset(hidden)


class _Writer:
    """Collects text as a browser would lay it out in lines, roughly."""

    def __init__(self, chars_max: int) -> None:
        self.out: list[str] = []
        self.chars_left = chars_max or -1
        self.is_full = False
        self.breaks = 0
        self.has_space = False
        self.quotes = 0
        self.preformatted = 0
        self.lists: list[int | None] = []
        self.marker = ""

    def open(self, tag: str) -> None:
        if tag == "br":
            self.breaks = min(self.breaks + 1, _BREAKS_MAX)
            return
        if tag in ("td", "th"):
            self.has_space = True
            return
        self.breaks = max(self.breaks, _BREAKS[tag])
        if tag == "blockquote":
            self.quotes += 1
        elif tag == "pre":
            self.preformatted += 1
        elif tag in ("ul", "ol"):
            # A list inside a list begins no new paragraph.
            if self.lists:
                self.breaks = min(self.breaks, 1)
            self.lists.append(0 if tag == "ol" else None)
        elif tag == "li":
            self._start_item()

    def close(self, tag: str) -> None:
        breaks = _BREAKS[tag]
        if tag == "blockquote":
            self.quotes -= 1
        elif tag == "pre":
            self.preformatted -= 1
        elif tag in ("ul", "ol"):
            self.lists.pop()
            breaks = 1 if self.lists else breaks
        elif tag == "li":
            self.marker = ""
        self.breaks = max(self.breaks, breaks)

    def add_text(self, text: str) -> None:
        if self.preformatted:
            for number, line in enumerate(text.split("\n")):
                if number:
                    self.breaks = min(self.breaks + 1, _BREAKS_MAX)
                if line.strip():
                    self._put(line.rstrip())
            return
        words = text.split()
        if not words:
            self.has_space = self.has_space or bool(text)
            return
        if text[0].isspace():
            self.has_space = True
        self._put(" ".join(words))
        self.has_space = text[-1].isspace()

    def _start_item(self) -> None:
        number = self.lists[-1] if self.lists else None
        if number is None:
            self.marker = "- "
        else:
            self.lists[-1] = number + 1
            self.marker = f"{number + 1}. "

    def _put(self, text: str) -> None:
        mark = "> " * min(self.quotes, _QUOTE_DEPTH_MAX)
        if not self.out:
            text = mark + self.marker + text
        elif self.breaks:
            text = ("\n" + mark.rstrip()) * (self.breaks - 1) + "\n" + mark + self.marker + text
        elif self.has_space:
            text = " " + text
        self.breaks, self.has_space, self.marker = 0, False, ""
        self.out.append(text)
        if self.chars_left >= 0:
            self.chars_left -= len(text)
            self.is_full = self.chars_left <= 0
