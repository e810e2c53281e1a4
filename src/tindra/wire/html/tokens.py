"""Cuts HTML into tags and text in linear time, and tells whether a tree of it can be afforded.

The tree algorithm of HTML takes quadratic time and space on hostile input (deep nesting, formatting
elements that are opened again in every block, thousands of attributes), so nothing here may hand
text to a tree parser before `is_affordable` agreed. Tags are cut by the grammar of the HTML
tokenizer itself, so a tag cannot hide in what only looks like a quote, a comment or a style sheet.
Invariants: linear time; the estimate is never below what the tree parsers do.
"""

from __future__ import annotations

import html as entities
import re
from collections.abc import Iterator

HTML_CHARS_MAX = 8 * 1024 * 1024
"""Longer documents are shown as text; newsletters stay below 0.2 MB, long threads below 2."""
_SMALL_CHARS = 32 * 1024
_SMALL_TAGS = 1_400
"""So small a document cannot pass the limits below, whatever it holds."""
_STEPS_MAX = 20_000_000
"""Sum over all tags of the elements open around them, at some 5 ns each: 0.1 s."""
_COPIES_MAX = 500_000
"""Sum over all tags of the formatting elements that may be opened again: nodes in memory."""
_ATTRIBUTES_MAX = 1_000
"""Attributes of one tag; each is compared with all before it."""
_REFERENCES_MAX = 5_000
"""Character references in one run of text, and characters that become such: the writer takes
quadratic time in them, half a second for 100,000."""
_SEARCHED_OPEN = 8
"""How far up an end tag looks for its element; what it does not find counts as still open."""

_WS = r"\t\n\f\r "
_TAG = re.compile(
    rf"<(?:(/?)([a-zA-Z][^{_WS}/>]*+)"
    rf"((?:[{_WS}/]*+[^{_WS}/>][^{_WS}/>=]*+"
    rf"(?:[{_WS}]*+=[{_WS}]*+(?:\"[^\"]*+\"|'[^']*+'|(?![\"'>])[^{_WS}>]*+)?+)?+)*+)"
    rf"[{_WS}/]*+>?"
    r"|!--(?s:>|->|.*?(?:--!?>|\Z))|[!?/][^>]*+>?)"
)
_SEPARATOR = re.compile(rf"[{_WS}/\"'=]")
_RAW_END = {
    name: re.compile(rf"</{name}(?=[{_WS}/>])", re.IGNORECASE)
    for name in ("script", "style", "title", "textarea", "xmp", "iframe", "noembed", "noframes")
}
_RAW_START = frozenset([*_RAW_END, "plaintext"])
_OTHER_RULES = frozenset(["svg", "math", "select", "frameset"])
"""Inside these a style or title is no raw text, so where its end tag is depends on the tree."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_VOID = _names(
    "area base basefont bgsound br col embed frame hr img input link meta param source track wbr"
    " html head body"
)
_NEVER_OPEN = _VOID | frozenset(_RAW_END)
_SPECIAL = _OTHER_RULES | frozenset(_RAW_END) | {"noscript", "plaintext"}
_FORMATTING = _names("a b big code em font i nobr s small strike strong tt u")
_CLOSES_ITSELF = _names("a nobr")
_SAME_CLOSES = _names("p li td th tr dt dd option")
_MARKER = _names("td th caption applet object marquee template")
_TABLE_END = _names("table tbody thead tfoot tr td th caption")
_BLOCK = _names(
    "address article aside blockquote br caption center dd div dl dt fieldset figure footer form h1"
    " h2 h3 h4 h5 h6 header hr li main nav ol p pre section table td th tr ul"
)
_BLANKS = re.compile(r"[^\S\n]+")
_BLANK_LINES = re.compile(r"\n\s*\n")


def is_affordable(html: str) -> bool:
    """Whether building the tree of `html` takes time and memory in proportion to its length.

    Cost: linear, about 0.5 us a tag; nothing for small documents.
    """
    if len(html) <= _SMALL_CHARS and html.count("<") <= _SMALL_TAGS:
        return True
    if len(html) > HTML_CHARS_MAX:
        return False
    return _Estimate().fits(html)


def has_endless_text(html: str) -> bool:
    """Whether some text between two tags has too many character references to be written anew.

    Cost: linear, about 0.5 us a tag; next to nothing for documents with few references.
    """
    if _count_references(html) <= _REFERENCES_MAX:
        return False
    return any(_count_references(text) > _REFERENCES_MAX for text, _ in _iter_text(html))


def _count_references(text: str) -> int:
    return sum(map(text.count, "&<>\u00a0"))


def strip_tags(html: str, chars_max: int = 0) -> str:
    """The text of `html` without building a tree: for documents that are too costly for one.

    Args:
        chars_max: stop when that many characters are found; 0 means never.
    Cost: linear.
    """
    out: list[str] = []
    used = 0
    for text, name in _iter_text(html):
        if text:
            out.append(entities.unescape(text))
            used += len(out[-1])
        if name in _BLOCK:
            out.append("\n")
        if chars_max and used > chars_max * 2:
            break
    text = _BLANK_LINES.sub("\n\n", _BLANKS.sub(" ", "".join(out))).strip()
    return text[:chars_max] if chars_max else text


def iter_tags(html: str) -> Iterator[tuple[int, re.Match[str]]]:
    """Each tag or comment with the place where the text behind it begins.

    The content of raw text elements is skipped with their start tag, up to their end tag.
    """
    search = _TAG.search
    match = search(html, 0)
    while match is not None:
        pos = match.end()
        is_end, name = match.group(1, 2)
        if name is not None and not is_end and (low := name.lower()) in _RAW_START:
            if low == "plaintext":
                return
            end = _RAW_END[low].search(html, pos)
            pos = end.start() if end else len(html)
        yield pos, match
        match = search(html, pos)


def _iter_text(html: str) -> Iterator[tuple[str, str]]:
    """Pieces of text, each with the name of the tag behind it."""
    start = 0
    for end, match in iter_tags(html):
        yield html[start : match.start()], (match[2] or "").lower()
        start = end
    yield html[start:], ""


class _Estimate:
    """What building the tree would cost, from above: an element closes only if it surely does."""

    def __init__(self) -> None:
        self.open: list[str] = []
        self.formatting = 0

    def fits(self, html: str) -> bool:
        has_other_rules = False
        steps = copies = 0
        for _, match in iter_tags(html):
            is_end, name, attributes = match.groups()
            if name is None:
                if has_other_rules and match[0].startswith("<![CDATA["):
                    return False
                continue
            name = name.lower()
            if is_end:
                self._close(name)
                continue
            if name in _SPECIAL:
                if name == "noscript" or (has_other_rules and name not in _OTHER_RULES):
                    # Parsers differ on the first; for the others the tree decides.
                    return False
                has_other_rules = has_other_rules or name in _OTHER_RULES
            steps += len(self.open) + 1
            copies += self.formatting
            if steps > _STEPS_MAX or copies > _COPIES_MAX:
                return False
            if len(attributes) > 2 * _ATTRIBUTES_MAX and _has_many_attributes(attributes):
                return False
            if name not in _NEVER_OPEN:
                self._open(name)
        return True

    def _open(self, name: str) -> None:
        if name in _SAME_CLOSES and self.open and self.open[-1] == name:
            return
        if name in _FORMATTING:
            if name in _CLOSES_ITSELF:
                self._close(name)
            self.formatting += 1
        self.open.append(name)

    def _close(self, name: str) -> None:
        stack = self.open
        if stack and stack[-1] == name:
            stack.pop()
            if name in _FORMATTING:
                self.formatting -= 1
            return
        stop = len(stack)
        for at in range(stop - 1, max(stop - 1 - _SEARCHED_OPEN, -1), -1):
            found = stack[at]
            if found == name:
                # A table part takes all inside it along; other ends remove one element for sure.
                removed = stack[at:] if name in _TABLE_END else [name]
                del stack[at : at + len(removed)]
                self.formatting -= sum(other in _FORMATTING for other in removed)
                return
            if found == "table" or (found in _MARKER and name not in _TABLE_END):
                return


def without_surrogates(text: str) -> str:
    """`text` with lone surrogates, which no tree parser takes, replaced."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _has_many_attributes(attributes: str) -> bool:
    return sum(1 for _ in _SEPARATOR.finditer(attributes)) > _ATTRIBUTES_MAX
