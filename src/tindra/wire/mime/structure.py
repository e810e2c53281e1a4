"""Which parts of a message are shown as its body and which are attachments.

A pure function of the tree; what the parts contain is not read.
Source: RFC 8621 s4.1.4
"""

from __future__ import annotations

import msgspec

from tindra.wire.mime.parse import Part

_MEDIA = ("image/", "audio/", "video/")
_SIGNATURES = frozenset(
    ["application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"]
)
"""Parts that software checks and nobody saves."""


class Bodies(msgspec.Struct):
    """The flat views of a tree, each in display order. Source: RFC 8621 s4.1.4"""

    text_body: list[Part]
    html_body: list[Part]
    attachments: list[Part]
    has_attachment: bool


def split_bodies(root: Part) -> Bodies:
    """The textBody, htmlBody and attachments of a tree, by the algorithm of the RFC.

    has_attachment leaves out inline parts, signatures, and images that only an HTML body refers to
    (a Content-ID and no disposition). Recursion is as deep as the tree, which its parser limits.
    Source: RFC 8621 s4.1.4
    """
    text_body: list[Part] = []
    html_body: list[Part] = []
    attachments: list[Part] = []
    _Splitter(attachments).split([root], "mixed", False, html_body, text_body)
    has_attachment = any(_is_offered(part) for part in attachments)
    return Bodies(text_body, html_body, attachments, has_attachment)


def _is_offered(part: Part) -> bool:
    if part.disposition == "inline" or part.type in _SIGNATURES:
        return False
    is_embedded = part.cid is not None and part.disposition is None
    return not (is_embedded and part.type.startswith("image/"))


def _is_inline(part: Part, index: int, multipart: str) -> bool:
    """Whether a leaf belongs to the body rather than to the attachments."""
    is_media = part.type.startswith(_MEDIA)
    if part.disposition == "attachment":
        return False
    if not is_media and part.type not in ("text/plain", "text/html"):
        return False
    if index == 0:
        return True
    # Behind the first of a related multipart are its resources; a later text with a name is a file.
    return multipart != "related" and (is_media or not part.name)


class _Splitter:
    """The recursion of the RFC's algorithm; a body list that is None takes no more parts."""

    def __init__(self, attachments: list[Part]) -> None:
        self.attachments = attachments

    def split(
        self,
        parts: list[Part],
        multipart: str,
        in_alternative: bool,
        html_body: list[Part] | None,
        text_body: list[Part] | None,
    ) -> None:
        text_length = -1 if text_body is None else len(text_body)
        html_length = -1 if html_body is None else len(html_body)
        for index, part in enumerate(parts):
            if part.type.startswith("multipart/"):
                kind = part.type[len("multipart/") :]
                inner = in_alternative or kind == "alternative"
                self.split(part.children, kind, inner, html_body, text_body)
            elif not _is_inline(part, index, multipart):
                self.attachments.append(part)
            elif multipart == "alternative":
                self._add_alternative(part, html_body, text_body)
            else:
                if in_alternative and part.type == "text/plain":
                    html_body = None
                if in_alternative and part.type == "text/html":
                    text_body = None
                self._add(part, html_body, text_body)
        if multipart == "alternative" and text_body is not None and html_body is not None:
            has_text, has_html = len(text_body) != text_length, len(html_body) != html_length
            if has_html and not has_text:
                text_body.extend(html_body[html_length:])
            if has_text and not has_html:
                html_body.extend(text_body[text_length:])

    def _add_alternative(
        self, part: Part, html_body: list[Part] | None, text_body: list[Part] | None
    ) -> None:
        body = {"text/plain": text_body, "text/html": html_body}.get(part.type)
        if body is not None:
            body.append(part)
        elif part.type not in ("text/plain", "text/html"):
            self.attachments.append(part)

    def _add(self, part: Part, html_body: list[Part] | None, text_body: list[Part] | None) -> None:
        if text_body is not None:
            text_body.append(part)
        if html_body is not None:
            html_body.append(part)
        if (text_body is None or html_body is None) and part.type.startswith(_MEDIA):
            self.attachments.append(part)
