"""The generator of the demo mailbox: the same every time, well formed, and varied."""

from __future__ import annotations

import email
import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import default as modern

import pytest

from tindra.app.demo.mail.dice import seeded_dice
from tindra.app.demo.mail.letterpress import (
    encode_message,
    encode_parameter,
    encode_text_header,
    flow_lines,
    text_part,
)
from tindra.app.demo.mail.mailmaker import (
    FOLDERS,
    MAILBOX_DAYS,
    make_auto_reply,
    make_mailbox,
    next_arrival,
)
from tindra.app.demo.mail.posting import DAY_MS, DemoMessage
from tindra.app.demo.mail.story import SlotFiller, load_story

NOW_MS = 1_795_000_000_000


@pytest.fixture(scope="module")
def mailbox() -> list[DemoMessage]:
    return make_mailbox(1, 600, NOW_MS)


@pytest.fixture(scope="module")
def parsed(mailbox: list[DemoMessage]) -> list[EmailMessage]:
    return [read(message) for message in mailbox]


def read(message: DemoMessage) -> EmailMessage:
    parsed = email.message_from_bytes(message.raw, policy=modern)
    assert isinstance(parsed, EmailMessage)
    return parsed


def walk(part: EmailMessage) -> Iterator[EmailMessage]:
    yield part
    if part.is_multipart():
        for inner in part.get_payload():
            assert isinstance(inner, EmailMessage)
            yield from walk(inner)


def check_flawless(message: DemoMessage) -> None:
    for line in message.raw.split(b"\r\n"):
        assert b"\n" not in line
        assert b"\r" not in line
        assert len(line) <= 998
    head = message.raw.partition(b"\r\n\r\n")[0]
    assert head.isascii()
    assert all(len(line) <= 998 for line in head.split(b"\r\n"))
    for part in walk(read(message)):
        assert not part.defects
        for name, value in part.items():
            assert not getattr(value, "defects", ()), (name, str(value))
        if part.get_content_maintype() == "text":
            assert isinstance(part.get_content(), str)


def test_the_same_seed_and_moment_give_the_same_bytes(mailbox: list[DemoMessage]) -> None:
    assert make_mailbox(1, 600, NOW_MS) == mailbox
    assert make_mailbox(2, 600, NOW_MS) != mailbox


@pytest.mark.parametrize("count", [0, 1, 7, 50, 1500])
def test_the_number_of_messages_is_the_one_asked_for(count: int) -> None:
    assert len(make_mailbox(3, count, NOW_MS)) == count


def test_every_message_parses_without_a_defect(mailbox: list[DemoMessage]) -> None:
    for message in mailbox:
        check_flawless(message)


def test_every_text_decodes_in_its_own_charset(parsed: list[EmailMessage]) -> None:
    for message in parsed:
        for part in walk(message):
            if part.get_content_maintype() == "text":
                assert "\N{REPLACEMENT CHARACTER}" not in part.get_content()


def test_other_seeds_and_moments_are_flawless_too() -> None:
    for seed, now_ms in ((9, NOW_MS), (10, NOW_MS + 8 * 3_600_000), (11, 1_718_000_000_123)):
        for message in make_mailbox(seed, 120, now_ms):
            check_flawless(message)
            assert message.internal_date_ms <= now_ms + 3_000


def test_dates_reach_back_two_years_and_never_ahead(mailbox: list[DemoMessage]) -> None:
    dates = [message.internal_date_ms for message in mailbox]
    assert dates == sorted(dates)
    assert dates[-1] <= NOW_MS + 3_000
    assert dates[0] < NOW_MS - 500 * DAY_MS
    assert dates[0] > NOW_MS - (MAILBOX_DAYS + 30) * DAY_MS
    inbox = [m.internal_date_ms for m in mailbox if m.folder == "INBOX"]
    assert sum(date > NOW_MS - 31 * DAY_MS for date in inbox) > 0.8 * len(inbox)


def test_date_header_and_internal_date_agree(
    mailbox: list[DemoMessage], parsed: list[EmailMessage]
) -> None:
    for message, headers in zip(mailbox, parsed, strict=True):
        written_ms = headers["Date"].datetime.timestamp() * 1000
        assert abs(written_ms - message.internal_date_ms) < 5_000


def test_every_folder_is_used_and_known(mailbox: list[DemoMessage]) -> None:
    used = Counter(message.folder for message in mailbox)
    assert set(used) <= set(FOLDERS)
    assert set(FOLDERS) - set(used) <= {"Projects"}
    assert 0.25 < used["INBOX"] / len(mailbox) < 0.6
    assert used["Sent"] > 40


def test_flags_are_as_in_a_lived_in_mailbox(mailbox: list[DemoMessage]) -> None:
    flags = Counter(flag for message in mailbox for flag in message.flags)
    assert {"\\Seen", "\\Answered", "\\Flagged", "\\Draft", "$Forwarded", "$Junk"} <= set(flags)
    old = [m for m in mailbox if m.internal_date_ms < NOW_MS - 60 * DAY_MS]
    assert sum("\\Seen" in m.flags for m in old) > 0.9 * len(old)
    unread = [m for m in mailbox if m.folder == "INBOX" and "\\Seen" not in m.flags]
    assert 15 < len(unread) < 120


def test_message_ids_are_unique_and_references_exist(parsed: list[EmailMessage]) -> None:
    ids = [str(message["Message-ID"]) for message in parsed]
    assert len(set(ids)) == len(ids)
    known = set(ids)
    replies = [message for message in parsed if message["In-Reply-To"]]
    people = [m for m in replies if not m["Auto-Submitted"]]
    assert len(people) > 80
    for message in people:
        references = str(message["References"]).split()
        assert str(message["In-Reply-To"]) == references[-1]
        assert references[0] in known


def test_threads_are_short_and_long(parsed: list[EmailMessage]) -> None:
    sizes = Counter(
        (str(m["References"]).split() or [str(m["Message-ID"])])[0] if m["References"]
        else str(m["Message-ID"])
        for m in parsed
    )  # fmt: skip
    assert max(sizes.values()) >= 25
    assert sum(size == 2 for size in sizes.values()) >= 5
    assert sum(3 <= size <= 6 for size in sizes.values()) >= 20


def test_kinds_of_mail_are_varied(parsed: list[EmailMessage]) -> None:
    types = Counter(part.get_content_type() for m in parsed for part in walk(m))
    for needed in ("text/html", "text/calendar", "application/pdf", "image/png", "text/csv"):
        assert types[needed] >= 2
    office = "application/vnd.openxmlformats-officedocument"
    assert types[f"{office}.wordprocessingml.document"]
    assert types[f"{office}.spreadsheetml.sheet"]
    assert types["application/vnd.oasis.opendocument.presentation"]
    lists = {str(m["List-Id"]) for m in parsed if m["List-Unsubscribe"]}
    assert len(lists) >= 10
    assert {str(m["Precedence"]) for m in parsed if m["Precedence"]} == {"bulk", "list"}
    methods = {
        part.get_param("method")
        for m in parsed
        for part in walk(m)
        if part.get_content_type() == "text/calendar"
    }
    assert methods == {"REQUEST", "CANCEL", "REPLY"}
    senders = {str(m["From"].addresses[0].addr_spec) for m in parsed}
    assert len(senders) >= 45


def test_languages_charsets_and_encodings_are_varied(parsed: list[EmailMessage]) -> None:
    charsets = {p.get_content_charset() for m in parsed for p in walk(m)}
    assert {"utf-8", "iso-8859-1", "iso-2022-jp", "koi8-r", "iso-8859-7", "gb2312"} <= charsets
    encodings = {str(p["Content-Transfer-Encoding"]) for m in parsed for p in walk(m)}
    assert {"7bit", "quoted-printable", "base64"} <= encodings
    text = " ".join(str(m["Subject"]) for m in parsed)
    for sample in ("和紙", "الخط", "Концерт", "瓷砖", "φώτα", "Devis", "Söndag", "Besprechung"):
        assert sample in text


def test_encoded_words_and_parameters_stand_in_the_raw_headers(
    mailbox: list[DemoMessage],
) -> None:
    heads = b"\n".join(message.raw.partition(b"\r\n\r\n")[0] for message in mailbox).lower()
    for word in (b"=?utf-8?", b"=?iso-2022-jp?b?", b"=?koi8-r?", b"=?iso-8859-1?q?"):
        assert word in heads
    bodies = b"\n".join(message.raw for message in mailbox)
    assert b"filename*=" in bodies or b"filename*0*=" in bodies


def test_newsletters_have_a_way_out_an_inline_mark_and_remote_pictures(
    parsed: list[EmailMessage],
) -> None:
    issues = [m for m in parsed if m["List-Unsubscribe-Post"]]
    assert len(issues) > 60
    remote = 0
    for issue in issues:
        assert str(issue["List-Unsubscribe-Post"]) == "List-Unsubscribe=One-Click"
        page = issue.get_body(("html",))
        assert page is not None
        html = page.get_content()
        shown = [f"<{name}>" for name in re.findall(r'src="cid:([^"]+)"', html)]
        assert shown == [str(p["Content-ID"]) for p in walk(issue) if p["Content-ID"]]
        # either both pictures come along, or one of them, and a counter, lie on the web
        assert len(shown) == (1 if "https://images." in html else 2)
        remote += len(shown) == 1
        assert "<script" not in html
    assert 10 < remote < len(issues) / 2
    assert len({str(m["Subject"]) for m in issues}) > 30


def test_attachments_are_what_they_say(parsed: list[EmailMessage]) -> None:
    seen = set()
    for message in parsed:
        for part in message.iter_attachments():
            octets = part.get_payload(decode=True)
            assert isinstance(octets, bytes)
            kind = part.get_content_type()
            seen.add(kind)
            if kind == "application/pdf":
                check_pdf(octets)
            elif kind == "image/png":
                assert octets.startswith(b"\x89PNG\r\n\x1a\n")
                assert octets.endswith(b"IEND\xaeB`\x82")
            elif "document" in kind:
                archive = zipfile.ZipFile(io.BytesIO(octets))
                assert archive.testzip() is None
                assert len(archive.namelist()) >= 3
    assert len(seen) >= 6


def check_pdf(octets: bytes) -> None:
    assert octets.startswith(b"%PDF-1.4")
    start = int(octets[octets.rindex(b"startxref") :].split()[1])
    assert octets[start : start + 4] == b"xref"
    for number, entry in enumerate(re.findall(rb"(\d{10}) 00000 n", octets), 1):
        assert octets[int(entry) :].startswith(b"%d 0 obj" % number)


def test_calendar_objects_are_folded_and_complete(parsed: list[EmailMessage]) -> None:
    for message in parsed:
        for part in walk(message):
            if part.get_content_type() != "text/calendar":
                continue
            octets = part.get_payload(decode=True)
            lines = octets.split(b"\r\n")
            assert lines[0] == b"BEGIN:VCALENDAR"
            assert lines[-2] == b"END:VCALENDAR"
            assert all(len(line) <= 75 for line in lines)
            assert any(line.startswith(b"UID:") for line in lines)


def test_replies_quote_what_they_answer(parsed: list[EmailMessage]) -> None:
    replies = [m for m in parsed if m["In-Reply-To"] and not m["Auto-Submitted"]]
    quoting = 0
    for message in replies:
        body = message.get_body(("plain",))
        assert body is not None
        quoting += "\n> " in body.get_content().replace("\r\n", "\n")
    assert quoting == len(replies)


def test_previews_of_the_inbox_are_not_all_alike(
    mailbox: list[DemoMessage], parsed: list[EmailMessage]
) -> None:
    previews = set()
    newest = [p for m, p in zip(mailbox, parsed, strict=True) if m.folder == "INBOX"][-60:]
    for message in newest:
        body = message.get_body(("plain",))
        assert body is not None
        previews.add(body.get_content()[:60])
    assert len(previews) > 50


def test_no_slot_is_left_unfilled(parsed: list[EmailMessage]) -> None:
    for message in parsed:
        assert not re.search(r"\{[a-z]+\d?\}", str(message["Subject"]))
        body = message.get_body(("plain", "html"))
        assert body is None or not re.search(r"\{[a-z]+\d?\}", body.get_content())


def test_every_slot_and_every_writer_of_the_story_exists() -> None:
    story = load_story()
    filler = SlotFiller(story, seeded_dice(1, "test"))
    for block in (*story.threads, *story.letters, *story.newsletters, *story.notices):
        filler.fill(block.title)
        for entry in block.entries:
            filler.fill(entry.heading)
            filler.fill(entry.text)
    for block in (*story.threads, *story.letters):
        assert all(entry.heading in story.people for entry in block.entries), block.title
    for lines in story.replies.values():
        for line in lines:
            filler.fill(line)
    assert len(story.people) >= 25
    assert set(story.replies) - {"any", "more"} <= set(story.people)


def test_all_addresses_are_reserved_for_tests(mailbox: list[DemoMessage]) -> None:
    hosts = set()
    for message in mailbox:
        hosts.update(re.findall(rb"[\w.-]+@([\w.-]+\w)", message.raw.partition(b"\r\n\r\n")[0]))
    assert all(host.endswith((b".test", b".example")) for host in hosts)


def test_arrivals_are_fresh_unread_and_partly_answers(mailbox: list[DemoMessage]) -> None:
    inbox = [message for message in mailbox if message.folder == "INBOX"]
    known = {str(read(message)["Message-ID"]) for message in mailbox}
    answers = 0
    for step in range(40):
        now_ms = NOW_MS + step * 40_000
        message = next_arrival(1, step, now_ms, inbox)
        assert next_arrival(1, step, now_ms, inbox) == message
        check_flawless(message)
        assert (message.folder, message.flags) == ("INBOX", ())
        assert message.internal_date_ms == now_ms
        headers = read(message)
        assert str(headers["Message-ID"]) not in known
        assert abs(headers["Date"].datetime.timestamp() * 1000 - now_ms) < 24 * 3_600_000
        if not headers["Auto-Submitted"] and str(headers["In-Reply-To"]) in known:
            answers += 1
        inbox.append(message)
    assert answers >= 5


def test_arrivals_need_no_former_mail() -> None:
    for step in range(10):
        check_flawless(next_arrival(5, step, NOW_MS, []))


def outgoing(to: str, body: str = "Shall we meet?") -> bytes:
    headers = [
        ("From", "Alex Lindqvist <demo@tindra.test>"),
        ("To", to),
        ("Subject", encode_text_header("Subject", "Grüße und eine Frage")),
        ("Message-ID", "<out-1@tindra.test>"),
    ]
    return encode_message(headers, text_part(body))


@pytest.mark.parametrize("key", ["mira", "kenji", "ksenia", "youssef", "pip"])
def test_people_answer_in_character_and_in_thread(key: str) -> None:
    person = load_story().people[key]
    reply = make_auto_reply(1, 1, NOW_MS, person.address, outgoing(person.address))
    assert reply is not None
    check_flawless(reply)
    headers = read(reply)
    assert headers["From"].addresses[0].addr_spec == person.address
    assert str(headers["Subject"]) == "Re: Grüße und eine Frage"
    assert str(headers["In-Reply-To"]) == "<out-1@tindra.test>"
    body = headers.get_body(("plain",))
    assert body is not None
    assert "> Shall we meet?" in body.get_content()


def test_mail_to_oneself_is_answered_by_the_post_office() -> None:
    reply = make_auto_reply(1, 1, NOW_MS, "demo@tindra.test", outgoing("demo@tindra.test"))
    assert reply is not None
    assert read(reply)["From"].addresses[0].addr_spec == "pip@tindra.test"


def test_mail_to_a_stranger_is_returned_as_a_report() -> None:
    reply = make_auto_reply(1, 1, NOW_MS, "bob@example.com", outgoing("bob@example.com"))
    assert reply is not None
    check_flawless(reply)
    report = read(reply)
    assert report.get_content_type() == "multipart/report"
    types = [part.get_content_type() for part in report.iter_parts()]
    assert types == ["text/plain", "message/delivery-status", "text/rfc822-headers"]


def test_automatic_mail_is_not_answered() -> None:
    raw = b"Auto-Submitted: auto-replied\r\n" + outgoing("mira@x.test")
    # the marker counts wherever it stands in the header
    for octets in (b"Subject: x\r\n" + raw, b"Precedence: bulk\r\n".join([b"A: b\r\n", raw])):
        assert make_auto_reply(1, 1, NOW_MS, "mira.okafor@fjordlight.test", octets) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r\n\r\n",
        b"no header at all",
        b"Subject: =?klingon?q?qapla?=\r\nMessage-ID: <a\xff@b>\r\n\r\n\xff\xfe",
        b"Subject: =?utf-8?b?!!!!?=\r\nReferences: " + b"<x@y> " * 500 + b"\r\n\r\nhi",
        b"Content-Type: text/plain; charset=nonsense\r\nSubject: a\r\n b\r\n\r\nhi\r\n",
        b"Content-Type: multipart/mixed\r\n\r\n--x\r\n",
        b"Subject: a\r\n\r\nline\rwith\0controls\x1b\r\n",
        b"Message-ID: <evil\r\n\tBcc: a@b>\r\n\r\n",
    ],
)
def test_the_oddest_mail_can_be_answered(raw: bytes) -> None:
    for recipient in ("mira.okafor@fjordlight.test", "stranger@example.com"):
        reply = make_auto_reply(1, 1, NOW_MS, recipient, raw)
        assert reply is not None
        head = reply.raw.partition(b"\r\n\r\n")[0]
        assert b"\nbcc:" not in head.lower()
        if recipient.startswith("mira"):
            check_flawless(reply)


def test_flowed_text_can_be_unflowed() -> None:
    text = "A long paragraph " * 12 + "end\n\nFrom here on.\n-- \nName"
    lines = flow_lines(text).split("\n")
    assert all(len(line) <= 80 for line in lines)
    joined = ""
    for line in (stuffed.removeprefix(" ") for stuffed in lines):
        joined += line if line.endswith(" ") and line != "-- " else line + "\n"
    assert joined.rstrip("\n") == text


def test_long_foreign_file_names_are_cut_into_sections() -> None:
    name = "Übersicht über alle Räume und ihre Türen im Erdgeschoß und darüber.pdf"
    parameter = encode_parameter("filename", name)
    assert "filename*0*=utf-8''" in parameter
    assert "filename*1*=" in parameter
    message = email.message_from_string(f"Content-Disposition: attachment{parameter}\n\n")
    assert message.get_filename() == name
