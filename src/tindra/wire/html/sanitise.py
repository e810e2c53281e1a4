"""Makes the HTML of a message safe to show: allow-lists of elements, attributes, styles and URLs.

The result is a fixed point: cleaning it again changes nothing, so a browser that parses it sees
what was checked here. A document that never settles, or whose tree would cost too much, is shown
as text. Nothing may rewrite the result afterwards. Invariants: no script, form, frame, foreign
content (SVG, MathML), event handler, id or style sheet; no address is loaded that the caller did
not allow.
Source: RFC 8621 s9.2
"""

from __future__ import annotations

import html as entities
import re
from collections.abc import Callable, Iterator
from urllib.parse import unquote

import msgspec
import nh3

from tindra.wire.html.style import PROPERTIES, escape_css_url, filter_style
from tindra.wire.html.tokens import (
    has_endless_text,
    is_affordable,
    iter_tags,
    strip_tags,
    without_surrogates,
)

_ROUNDS_MAX = 4
"""Cleanings until the result must have settled; real mail settles at once."""
_TEXT_CHARS_MAX = 1024 * 1024
"""Text shown of a document that cannot be shown as HTML."""
_HEAD_TAGS_MAX = 200
"""Tags before <body>: metadata and conditional comments."""

_TAG_NAMES = (
    "a abbr acronym address article aside b bdi bdo big blockquote br caption center cite code col"
    " colgroup dd del details dfn dir div dl dt em figcaption figure font footer h1 h2 h3 h4 h5 h6"
    " header hr i img ins kbd li main mark menu nav nobr ol p pre q rp rt ruby s samp section small"
    " span strike strong sub summary sup table tbody td tfoot th thead time tr tt u ul var wbr"
)
_TAGS = set(_TAG_NAMES.split())
_DROPPED_NAMES = (
    "script style title head noscript template iframe frame frameset noframes noembed object embed"
    " applet svg math textarea select option button datalist audio video canvas xmp plaintext"
)
_DROPPED = set(_DROPPED_NAMES.split())
_CELL = set("align valign bgcolor background width height colspan rowspan nowrap".split())
_ATTRIBUTES: dict[str, set[str]] = {
    "*": {"style", "title", "dir", "lang", "align"},
    "a": {"href"},
    "img": {"src", "srcset", "alt", "width", "height", "border", "hspace", "vspace"},
    "table": _CELL | {"border", "cellpadding", "cellspacing"},
    "tr": _CELL,
    "td": _CELL,
    "th": _CELL | {"scope"},
    "tbody": _CELL,
    "thead": _CELL,
    "tfoot": _CELL,
    "col": {"width", "span"},
    "colgroup": {"width", "span"},
    "font": {"color", "face", "size"},
    "ol": {"start", "type", "reversed"},
    "ul": {"type"},
    "li": {"value", "type"},
    "hr": {"size", "width", "color", "noshade"},
    "br": {"clear"},
    "details": {"open"},
    "time": {"datetime"},
}
_QUOTE_CLASSES = {"gmail_quote", "gmail_attr", "gmail_signature", "moz-cite-prefix", "yahoo_quoted"}
_CLASSES = {"div": _QUOTE_CLASSES, "blockquote": _QUOTE_CLASSES}
"""Marks of mail programs by which a client folds quotes; all others could meet its own styles."""
_SCHEMES = {"http", "https", "mailto", "tel", "cid", "data"}
"""A first sieve; which of them may stand where is decided below."""

_BLANKS = dict.fromkeys([*range(0x20), 0x7F])
_LINK = re.compile(r"(?:https?://[^\s/]|mailto:.|tel:.)", re.IGNORECASE)
_REMOTE = re.compile(r"(?:https?:)?[/\\]{2}", re.IGNORECASE)
_IMAGE_DATA = re.compile(
    r"data:image/(?:png|jpe?g|gif|webp|bmp|avif);base64,[A-Za-z0-9+/=%]*+", re.I
)
_BODY_ATTRIBUTE = re.compile(
    r"(?<![^\s/\"'])(style|bgcolor|text|background)\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)'|([^\s\"'>]++))",
    re.IGNORECASE,
)
_HEAD_NAMES = frozenset(["html", "head", "meta", "title", "style", "link", "base", "script"])


class SafeHtml(msgspec.Struct, frozen=True):
    """HTML that may be shown."""

    html: str
    blocked_remote: int = 0
    """Remote addresses left out that allow_remote would have kept."""
    is_text: bool = False
    """Whether the document could not be kept and this is its text."""


def sanitise_html(
    html: str, *, cid_url: Callable[[str], str | None], allow_remote: bool = False
) -> SafeHtml:
    """A fragment that shows the document and does nothing else.

    Args:
        cid_url: the address of the part with this Content-ID (a data: or download URL, trusted as
            it is), None if there is none. It must not raise.
        allow_remote: keep images that the reader's browser fetches from the sender's servers.
    Cost: linear; two parses, about 0.1 ms per KiB.
    Source: RFC 8621 s9.2
    """
    html = without_surrogates(html)
    if not is_affordable(html) or has_endless_text(html):
        return _as_text(html)
    rules = _Rules(cid_url, allow_remote)
    cleaner = nh3.Cleaner(
        tags=_TAGS,
        clean_content_tags=_DROPPED,
        attributes=_ATTRIBUTES,
        attribute_filter=rules.filter_attribute,
        allowed_classes=_CLASSES,
        url_schemes=_SCHEMES,
        filter_style_properties=set(PROPERTIES),
        set_tag_attribute_values={"a": {"target": "_blank"}},
        link_rel="noopener noreferrer",
    )
    clean = cleaner.clean(_body_as_div(html))
    blocked = rules.blocked
    for _ in range(_ROUNDS_MAX):
        if has_endless_text(clean):  # what stood between pieces of text may be gone
            break
        again = cleaner.clean(clean)
        if again == clean:
            return SafeHtml(clean, blocked)
        clean = again
    return _as_text(html)


def _as_text(html: str) -> SafeHtml:
    text = entities.escape(strip_tags(html, _TEXT_CHARS_MAX))
    return SafeHtml(f'<div style="white-space:pre-wrap">{text}</div>', is_text=True)


def _body_as_div(html: str) -> str:
    """`html` with its body element as a div, since cleaning a fragment would lose its colours."""
    for count, (_, match) in enumerate(iter_tags(html)):
        name = (match[2] or "").lower()
        if name == "body" and not match[1]:
            style = ";".join(_body_styles(match[3]))
            div = f'<div style="{entities.escape(style)}">' if style else ""
            return html[: match.start()] + div + html[match.end() :]
        if count >= _HEAD_TAGS_MAX or (name and name not in _HEAD_NAMES):
            break
    return html


def _body_styles(attributes: str) -> Iterator[str]:
    properties = {"bgcolor": "background-color:", "text": "color:", "style": ""}
    for name, *values in _BODY_ATTRIBUTE.findall(attributes):
        value = entities.unescape("".join(values))
        if name.lower() == "background":
            yield f"background-image:url('{value}')"
        else:
            yield properties[name.lower()] + value


class _Rules:
    """What happens to the attributes of one document."""

    def __init__(self, cid_url: Callable[[str], str | None], allow_remote: bool) -> None:
        self.cid_url = cid_url
        self.allow_remote = allow_remote
        self.blocked = 0
        self.issued: set[str] = set()
        self.styles: dict[str, str] = {}

    def filter_attribute(self, tag: str, attribute: str, value: str) -> str | None:
        """The value an attribute gets, None to remove it."""
        if attribute == "style":
            return self._filter_style(value) or None
        if attribute == "href":
            link = value.translate(_BLANKS).strip()
            return link if tag == "a" and _LINK.match(link) else None
        if attribute in ("src", "background"):
            return self.rewrite_url(value)
        if attribute == "srcset":
            return self._rewrite_srcset(value)
        return value

    def rewrite_url(self, value: str) -> str | None:
        """The address from which an image may be loaded, None for none."""
        url = value.translate(_BLANKS).strip()
        if url in self.issued:
            return url
        if url[:4].lower() == "cid:":
            target = self.cid_url(unquote(url[4:]).strip("<> "))
            if target is not None:
                self.issued.add(target)
            return target
        if _REMOTE.match(url):
            if not self.allow_remote:
                self.blocked += 1
                return None
            return "https:" + url if url.startswith("//") else url if ":" in url[:6] else None
        return url if _IMAGE_DATA.fullmatch(url) else None

    def _filter_style(self, style: str) -> str:
        """Newsletters repeat a few styles hundreds of times."""
        known = self.styles.get(style)
        if known is not None:
            return known
        count = self.blocked, len(self.issued)
        result = filter_style(style, self._rewrite_css_url)
        if (self.blocked, len(self.issued)) == count:
            self.styles[style] = result
        return result

    def _rewrite_css_url(self, value: str) -> str | None:
        url = self.rewrite_url(value)
        if url is None:
            return None
        escaped = escape_css_url(url)
        if url in self.issued:
            self.issued.add(escaped)
        return escaped

    def _rewrite_srcset(self, value: str) -> str | None:
        candidates = [candidate.split() for candidate in value.split(",")]
        urls = [words[0] for words in candidates if words]
        if not self.allow_remote:
            self.blocked += sum(_REMOTE.match(url) is not None for url in urls)
            return None
        is_plain = all(url.lower().startswith(("https://", "http://")) for url in urls)
        return ", ".join(map(" ".join, candidates)) if urls and is_plain else None
