"""Mail that no human wrote by hand: newsletters, notices of machines, spam, bounces.

Headers follow what such mail carries in the wild, because the product sorts by them: List-Id and
List-Unsubscribe (RFC 2369 s3, RFC 2919 s2, RFC 8058 s3.1), Precedence, Auto-Submitted
(RFC 3834 s5), verdicts of the receiving server.
"""

from __future__ import annotations

from typing import Final

from tindra.app.demo.mail.correspondence import attach_documents
from tindra.app.demo.mail.letterpress import (
    Encoding,
    Part,
    encode_address,
    encode_text_header,
    file_part,
    multipart,
    text_part,
)
from tindra.app.demo.mail.pages import NewsletterIssue, render_newsletter, render_notice
from tindra.app.demo.mail.paint import draw_landscape, draw_letterhead
from tindra.app.demo.mail.posting import (
    DAY_MS,
    DemoMessage,
    Desk,
    Head,
    trace_headers,
    write_address,
    write_message,
)
from tindra.app.demo.mail.story import OWNER_ADDRESS, Block, Entry, SlotFiller

_LINKS: Final = {
    "en": ("Read on", "Unsubscribe", "You get this letter because you once asked for it."),
    "de": ("Weiterlesen", "Abmelden", "Du bekommst diesen Brief, weil du ihn einmal wolltest."),
    "fr": ("Lire la suite", "Se désabonner", "Vous recevez cette lettre à votre demande."),
    "es": ("Seguir leyendo", "Darse de baja", "Recibes este boletín porque lo pediste."),
}
_READERS_COUNTED: Final = frozenset({"Pixel & Plaster", "Nordlys Records", "Museo Abierto"})
"""These keep their pictures on the web, one of them a single pixel, as many do."""
_LIST_ID_CATEGORIES: Final = frozenset({"ci", "social"})
VIEWS: Final = 4
"""Different lead pictures of one newsletter; drawing one takes some 10 ms."""
_ISSUE_ONE_MS: Final = 1_600_000_000_000
"""Issues are counted from a day in 2020."""
_ISSUE_EVERY_MS: Final = 7 * DAY_MS


def issue_number(block: Block, time_ms: int) -> int:
    """Which issue of a newsletter is the current one at a moment."""
    return 1 + max(0, time_ms - _ISSUE_ONE_MS) // _ISSUE_EVERY_MS + len(block.title) % 9


def make_newsletter(desk: Desk, block: Block, time_ms: int) -> DemoMessage:
    """The issue of that week: an inline mark, remote pictures, a way out."""
    number = issue_number(block, time_ms)
    issue = _lay_out_issue(desk, block, number)
    lead, *others = issue.stories
    plain = "\n\n".join(
        [
            lead[1],
            *(f"{headline}\n{text}" for headline, text in others),
            f"{issue.name}, no. {number}. {issue.tagline}.",
            f"{issue.links[1]}: {issue.unsubscribe_url}",
        ]
    )
    encoding: Encoding = "base64" if number % 3 == 0 else "quoted-printable"
    bodies = [
        text_part(plain + "\n", encoding=encoding),
        text_part(render_newsletter(issue) + "\n", subtype="html", encoding=encoding),
    ]
    related = multipart(
        "related",
        [multipart("alternative", bodies, desk.new_boundary()), *_draw_pictures(issue)],
        desk.new_boundary(),
        (("type", '"multipart/alternative"'),),
    )
    subject = lead[0] if number % 4 else f"{issue.name} {number}: {others[0][0]}"
    address = block.get("address")
    head = Head(
        sender=encode_address(issue.name, address),
        recipients=[write_address(desk.story.owner)],
        subject=encode_text_header("Subject", subject),
        time_ms=time_ms,
        message_id=desk.new_message_id(issue.site),
        zone_minutes=0,
    )
    trace = trace_headers(desk, issue.site, time_ms)
    raw = write_message(head, related, _list_headers(block, issue), trace)
    folder = _machine_folder(desk, time_ms, "Archive")
    return DemoMessage(folder, raw, desk.reading_flags(time_ms, 0.45), time_ms + 3_000)


def _lay_out_issue(desk: Desk, block: Block, number: int) -> NewsletterIssue:
    filler = SlotFiller(desk.story, desk.dice)
    count = len(block.entries)
    chosen = [block.entries[(number + step) % count] for step in range(min(3, count))]
    site = block.get("address").partition("@")[2]
    return NewsletterIssue(
        name=block.title,
        tagline=block.get("tagline"),
        accent=block.get("accent"),
        number=number,
        stories=[(filler.fill(entry.heading), filler.fill(entry.text)) for entry in chosen],
        site=site,
        logo_id=f"mark.{number}@{site}",
        links=_LINKS[block.get("language", "en")],
        unsubscribe_url=f"https://{site}/leave?reader={desk.dice.getrandbits(32):08x}",
        picture_id=None if block.title in _READERS_COUNTED else f"lead.{number}@{site}",
    )


def _draw_pictures(issue: NewsletterIssue) -> list[Part]:
    mark = draw_letterhead(issue.name, issue.accent)
    pictures = [file_part("mark.png", "image/png", mark, issue.logo_id)]
    if issue.picture_id is not None:
        view = draw_landscape(f"{issue.name} {issue.number % VIEWS}", 536, 220)
        pictures.append(file_part("lead.png", "image/png", view, issue.picture_id))
    return pictures


def _list_headers(block: Block, issue: NewsletterIssue) -> list[tuple[str, str]]:
    leave = f"<{issue.unsubscribe_url}>,\r\n <mailto:leave@{issue.site}?subject=leave>"
    headers = [
        ("List-Id", encode_address(issue.name, block.get("list"))),
        ("List-Unsubscribe", leave),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
        ("Precedence", block.get("precedence", "bulk")),
    ]
    if issue.number % 2:
        headers.append(("Feedback-ID", f"issue{issue.number}:{issue.site}:letters"))
    return headers


def make_notice(desk: Desk, block: Block, entry: Entry, time_ms: int) -> DemoMessage:
    """A service has something to report."""
    filler = SlotFiller(desk.story, desk.dice)
    subject, text = filler.fill(entry.heading), filler.fill(entry.text)
    rows = [(filler.fill(label), filler.fill(value)) for label, value in entry.rows]
    category, address = block.get("category"), block.get("address")
    domain = address.partition("@")[2]
    charset = "iso-8859-1" if block.get("language") == "sv" else "utf-8"
    table = "\n".join(f"{label}: {value}" for label, value in rows)
    page = render_notice(block.title, block.get("accent"), subject, text, rows)
    part: Part = multipart(
        "alternative",
        [text_part(f"{text}\n\n{table}\n", charset), text_part(page + "\n", charset, "html")],
        desk.new_boundary(),
    )
    owner = desk.story.owner
    part = attach_documents(desk, part, entry.attachments, f"{text}\n{table}", owner)
    replied = _issue_root(domain, filler) if subject.startswith("Re: ") else None
    head = Head(
        sender=encode_address(block.title, address, charset),
        recipients=[OWNER_ADDRESS],
        subject=encode_text_header("Subject", subject, charset),
        time_ms=time_ms,
        message_id=desk.new_message_id(domain),
        zone_minutes=0,
        references=[replied] if replied else (),
    )
    extra = [("Auto-Submitted", "auto-generated")]
    if category in _LIST_ID_CATEGORIES:
        extra += [
            ("List-Id", f"{category} <{category}.{domain}>"),
            ("List-Unsubscribe", f"<https://{domain}/settings/mail>"),
        ]
    raw = write_message(head, part, extra, trace_headers(desk, domain, time_ms))
    folder = _machine_folder(desk, time_ms, block.get("folder", "Archive"))
    return DemoMessage(folder, raw, desk.reading_flags(time_ms, 0.35), time_ms + 1_000)


def make_junk(desk: Desk, block: Block, time_ms: int) -> DemoMessage:
    """Spam that the provider has recognised."""
    name, address = (part.strip() for part in block.title.split("|"))
    domain = address.partition("@")[2]
    text = SlotFiller(desk.story, desk.dice).fill(block.entries[0].text)
    subject = block.get("subject")
    if desk.dice.random() < 0.5:
        page = f"<html><body><font size=4 color=red><b>{text}</b></font></body></html>\n"
        part = text_part(page, "windows-1252", "html", "base64")
    else:
        part = text_part(text + "\n", "us-ascii")
    head = Head(
        sender=encode_address(name, address),
        recipients=["undisclosed-recipients:;"],
        subject=encode_text_header("Subject", subject),
        time_ms=time_ms,
        message_id=desk.new_message_id(domain),
        zone_minutes=-480,
    )
    extra = [("X-Spam-Flag", "YES"), ("X-Spam-Score", f"{desk.dice.uniform(7, 22):.1f}")]
    trace = trace_headers(desk, domain, time_ms, is_genuine=False)
    flags = ("\\Seen", "$Junk") if desk.dice.random() < 0.3 else ("$Junk",)
    return DemoMessage("Junk", write_message(head, part, extra, trace), flags, time_ms + 1_000)


def make_bounce(desk: Desk, recipient: str, raw: bytes) -> DemoMessage:
    """Mail to a stranger comes back: nothing leaves the demo. Source: RFC 3464 s2"""
    shown = recipient.encode("ascii", "backslashreplace").decode()
    text = (
        f"Your message to {shown} has not left the house.\n\n"
        "This is the post office of the demo. It knows the people in this mailbox and nobody else,"
        " so that no mail goes out by accident. Write to one of them and they will answer.\n"
    )
    status = (
        "Reporting-MTA: dns; mx.tindra.test\r\n\r\n"
        f"Final-Recipient: rfc822; {shown}\r\nAction: failed\r\nStatus: 5.1.2\r\n"
        "Diagnostic-Code: smtp; 550 5.1.2 the demo delivers inside of the house only\r\n"
    )
    headers = raw.partition(b"\r\n\r\n")[0][:8_000] + b"\r\n"
    is_ascii = headers.isascii()
    returned = Part(
        (
            ("Content-Type", "text/rfc822-headers" + ("" if is_ascii else "; charset=utf-8")),
            ("Content-Transfer-Encoding", "7bit" if is_ascii else "8bit"),
        ),
        headers,
    )
    report = multipart(
        "report",
        [
            text_part(text),
            Part((("Content-Type", "message/delivery-status"),), status.encode()),
            returned,
        ],
        desk.new_boundary(),
        (("report-type", "delivery-status"),),
    )
    head = Head(
        sender="Post office of the demo <mailer-daemon@tindra.test>",
        recipients=[OWNER_ADDRESS],
        subject="Returned: your mail stays in the house",
        time_ms=desk.now_ms,
        message_id=desk.new_message_id("tindra.test"),
    )
    bounce = write_message(head, report, (("Auto-Submitted", "auto-replied"),))
    return DemoMessage("INBOX", bounce, (), desk.now_ms)


def _issue_root(domain: str, filler: SlotFiller) -> str:
    """All mail about one issue answers an id made of its number."""
    return f"<issue-{filler.fill('{build}')}@{domain}>"


def _machine_folder(desk: Desk, time_ms: int, later: str) -> str:
    """Recent mail is in the inbox; some of the rest was forgotten there, some thrown away."""
    if desk.is_recent(time_ms):
        return "INBOX"
    lot = desk.dice.random()
    return "INBOX" if lot < 0.12 else "Trash" if lot < 0.22 else later
