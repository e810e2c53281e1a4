"""The HTML of the demo mail: letters of people, issues of newsletters, notices of machines.

Text goes in, markup in the restrained style of real mail comes out: tables, inline styles, no
script. Every value is escaped here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

import msgspec

_FONT: Final = "font-family:Georgia,'Times New Roman',serif"
_SANS: Final = "font-family:Helvetica,Arial,sans-serif"
_QUOTE: Final = "margin:0 0 0 8px;padding-left:12px;border-left:2px solid #c9c4bb;color:#5c5850"


class NewsletterIssue(msgspec.Struct, frozen=True):
    """What one issue shows."""

    name: str
    tagline: str
    accent: str
    number: int
    stories: Sequence[tuple[str, str]]
    """Headline and paragraph, the lead story first."""
    site: str
    """Host of its web pages and pictures."""
    logo_id: str
    """Content-ID of the inline mark."""
    links: tuple[str, str, str]
    """Words for: read on, unsubscribe, why you get this."""
    unsubscribe_url: str
    picture_id: str | None
    """Content-ID of the lead picture; None: it lies on the web, and so does a picture of one pixel
    that tells the sender who opened the mail."""


def render_letter(text: str, signature: Sequence[str], quotes: Sequence[tuple[str, str]]) -> str:
    """A person's mail.

    Args:
        quotes: attribution line and text of what is answered, newest first; each nests in the last.
    """
    body = _paragraphs(text)
    if signature:
        lines = "<br>".join(map(escape, signature))
        body += f'<p style="color:#7a756c">--<br>{lines}</p>'
    return f'<html><body style="{_SANS};font-size:14px">{body}{_nest(quotes)}</body></html>'


def render_newsletter(issue: NewsletterIssue) -> str:
    """One issue: mark and name, lead story with a picture, shorter stories, foot."""
    lead, *others = issue.stories
    base = f"https://{issue.site}/issues/{issue.number}"
    images = f"https://images.{issue.site}/{issue.number}"
    picture = f"cid:{issue.picture_id}" if issue.picture_id else f"{images}/lead.jpg"
    read_on, leave, why = map(escape, issue.links)
    rows = [
        _row(
            f'<img src="cid:{issue.logo_id}" width="44" height="44" alt="" style="float:left;'
            f'margin-right:14px"><span style="font-size:24px;color:#{issue.accent}">'
            f'<b>{escape(issue.name)}</b></span><br><i style="color:#8a857b">'
            f"{escape(issue.tagline)} · No. {issue.number}</i>"
        ),
        _row(
            f'<img src="{picture}" width="536" alt="{escape(lead[0])}" border="0">'
            f'<h1 style="font-size:26px;line-height:1.25;margin:18px 0 8px">{escape(lead[0])}</h1>'
            f'{_paragraphs(lead[1])}<a href="{base}/1" style="color:#{issue.accent}">{read_on}</a>'
        ),
    ]
    for place, (headline, text) in enumerate(others, 2):
        rows.append(
            _row(
                f'<h2 style="font-size:18px;margin:0 0 6px">{escape(headline)}</h2>'
                f'{_paragraphs(text)}<a href="{base}/{place}" style="color:#{issue.accent}">'
                f"{read_on}</a>"
            )
        )
    rows.append(
        _row(
            f'<span style="font-size:12px;color:#8a857b">{why}<br>'
            f'<a href="{escape(issue.unsubscribe_url)}" style="color:#8a857b">{leave}</a></span>'
        )
    )
    if issue.picture_id is None:
        rows.append(f'<img src="{images}/open.gif?r=1" width="1" height="1" alt="">')
    preheader = f'<div style="display:none;max-height:0">{escape(lead[1][:110])}</div>'
    return _sheet("#f4f1ea", _FONT, issue.accent, preheader, "".join(rows))


def render_notice(
    service: str, accent: str, subject: str, text: str, rows: Sequence[tuple[str, str]]
) -> str:
    """What a machine has to say: a sentence and a small table."""
    cells = "".join(
        f'<tr><td style="padding:4px 18px 4px 0;color:#777">{escape(label)}</td>'
        f'<td style="padding:4px 0"><b>{escape(value)}</b></td></tr>'
        for label, value in rows
    )
    table = f'<table cellpadding="0" cellspacing="0">{cells}</table>' if cells else ""
    body = _row(
        f'<span style="color:#{accent};font-weight:bold">{escape(service)}</span>'
        f'<h1 style="font-size:20px;margin:16px 0 12px">{escape(subject)}</h1>'
        f"{_paragraphs(text)}{table}"
    )
    return _sheet("#eef0f2", _SANS, accent, "", body)


def _sheet(ground: str, font: str, accent: str, before: str, rows: str) -> str:
    return (
        '<!DOCTYPE html>\n<html><head><meta charset="utf-8"></head>\n'
        f'<body style="margin:0;background:{ground};{font}">{before}\n'
        '<table width="100%" cellpadding="0" cellspacing="0"><tr><td align="center">\n'
        '<table width="600" cellpadding="0" cellspacing="0" style="background:#ffffff;'
        f'border-top:4px solid #{accent}">\n{rows}</table>\n</td></tr></table></body></html>'
    )


def _row(inner: str) -> str:
    return (
        '<tr><td style="padding:18px 32px;font-size:15px;line-height:1.55;color:#2f2c28">'
        f"{inner}</td></tr>\n"
    )


def _paragraphs(text: str) -> str:
    parts = (escape(part).replace("\n", "<br>\n") for part in text.split("\n\n"))
    return "".join(f'<p style="margin:0 0 12px">{part}</p>\n' for part in parts)


def _nest(quotes: Sequence[tuple[str, str]]) -> str:
    nested = ""
    for attribution, text in reversed(quotes):
        nested = (
            f"<p>{escape(attribution)}</p>\n"
            f'<blockquote type="cite" style="{_QUOTE}">{_paragraphs(text)}{nested}</blockquote>\n'
        )
    return nested
