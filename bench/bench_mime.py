"""Compares the MIME parser with the standard library's on five synthetic shapes of mail.

Run: python bench/bench_mime.py [rounds]. Figures are process CPU time, median of the rounds taken
in turn; only the ratios of one run say anything about another machine.
"""

from __future__ import annotations

import email
import email.policy
import random
import statistics
import sys
import time
from base64 import encodebytes
from collections.abc import Callable
from email.message import EmailMessage
from quopri import encodestring

from tindra.wire.mime.decode import decode_text
from tindra.wire.mime.header import as_addresses, as_date, as_message_ids, as_text
from tindra.wire.mime.parse import Part, list_headers, parse_message
from tindra.wire.mime.structure import split_bodies

_WORDS = (
    "project budget invoice contract meeting agenda release design review draft proposal schedule"
    " customer quarter budget roadmap training invoice Grüße Zürich"
).split()
_CHARSETS = [
    "iso-8859-1",
    "iso-8859-2",
    "iso-8859-15",
    "windows-1252",
    "koi8-r",
    "iso-2022-jp",
    "shift_jis",
    "gb2312",
    "big5",
    "utf-7",
    "x-unknown",
]


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def make_text(rng: random.Random, lines: int) -> str:
    return "".join(" ".join(rng.choices(_WORDS, k=10)) + "\n" for _ in range(lines))


def make_header(rng: random.Random, content: str) -> bytes:
    received = "".join(
        f"Received: from mx{i}.example.net (mx{i}.example.net [192.0.2.{i}])\n"
        f"\tby mail{i}.example.org (Postfix) with ESMTPS id 4Xy{i}ABC\n"
        f"\tfor <user@example.org>; Thu, 30 Oct 2025 14:1{i}:00 +0000 (UTC)\n"
        for i in range(5)
    )
    signature = "".join(f"\t {rng.getrandbits(256):064x}\n" for _ in range(5))
    return crlf(
        f"Return-Path: <sender@example.com>\n{received}"
        f"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.com; s=key;\n"
        f"\th=from:to:subject:content-type; bh=x;\n\tb=\n{signature}"
        f"ARC-Seal: i=1; a=rsa-sha256; t=1; cv=none;\n{signature}"
        f"ARC-Message-Signature: i=1; a=rsa-sha256;\n{signature}"
        f"ARC-Authentication-Results: i=1; mx.example.org; dkim=pass\n"
        "Authentication-Results: mx.example.org; spf=pass; dkim=pass; dmarc=pass\n"
        "From: =?UTF-8?Q?J=C3=B6rg_M=C3=BCller?= <joerg@example.com>\n"
        'To: "Example, User" <user@example.org>, other@example.org\n'
        "Cc: Team: a@example.org, b@example.org;\n"
        "Reply-To: <joerg@example.com>\n"
        "Subject: =?UTF-8?B?R3LDvMOfZSBhdXMgWsO8cmljaA==?= and the plan for the week\n"
        "Date: Thu, 30 Oct 2025 14:12:00 +0800\n"
        "Message-ID: <abc.123@example.com>\n"
        "In-Reply-To: <abc.122@example.com>\n"
        "References: <abc.120@example.com> <abc.121@example.com>\n <abc.122@example.com>\n"
        "List-Id: <list.example.com>\nList-Unsubscribe: <https://example.com/u?x=1>\n"
        f"MIME-Version: 1.0\nX-Mailer: bench\n{content}\n"
    )


def make_plain(rng: random.Random) -> bytes:
    head = make_header(rng, "Content-Type: text/plain; charset=utf-8\n")
    return head + crlf(make_text(rng, 22))


def make_newsletter(rng: random.Random) -> bytes:
    row = '<tr><td style="padding:0 10px;color:#333"><a href="https://example.com/%d">%s</a></td></tr>\n'
    rows = "".join(row % (i, make_text(rng, 1).strip()) for i in range(380))
    html = encodestring(f"<html><body><table>{rows}</table></body></html>".encode())
    text = encodestring(make_text(rng, 60).encode())
    return (
        make_header(rng, 'Content-Type: multipart/alternative; boundary="=_news"\n')
        + b"--=_news\r\nContent-Type: text/plain; charset=utf-8\r\n"
        + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
        + text.replace(b"\n", b"\r\n")
        + b"\r\n--=_news\r\nContent-Type: text/html; charset=utf-8\r\n"
        + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
        + html.replace(b"\n", b"\r\n")
        + b"\r\n--=_news--\r\n"
    )


def make_attachment(rng: random.Random) -> bytes:
    data = encodebytes(rng.randbytes(1_540_000)).replace(b"\n", b"\r\n")
    image = encodebytes(rng.randbytes(5_000)).replace(b"\n", b"\r\n")
    return (
        make_header(rng, 'Content-Type: multipart/mixed; boundary="mix"\n')
        + b'--mix\r\nContent-Type: multipart/related; boundary="rel"\r\n\r\n'
        + b'--rel\r\nContent-Type: multipart/alternative; boundary="alt"\r\n\r\n'
        + b"--alt\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
        + crlf(make_text(rng, 10))
        + b"\r\n--alt\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>Hello</p>"
        + b"\r\n--alt--\r\n\r\n--rel\r\nContent-Type: image/png\r\nContent-ID: <logo@x>\r\n"
        + b"Content-Transfer-Encoding: base64\r\n\r\n"
        + image
        + b"\r\n--rel--\r\n\r\n--mix\r\nContent-Type: application/pdf\r\n"
        + b"Content-Disposition: attachment;\r\n filename*0*=utf-8''%C3%9Cbersicht%20;\r\n"
        + b" filename*1*=2025.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + data
        + b"\r\n--mix--\r\n"
    )


def make_nested(rng: random.Random) -> bytes:
    inner = make_newsletter(rng)
    digest = (
        b'Content-Type: multipart/digest; boundary="dig"\r\nSubject: digest\r\n\r\n--dig\r\n\r\n'
        + inner
        + b"\r\n--dig\r\n\r\n"
        + make_plain(rng)
        + b"\r\n--dig--\r\n"
    )
    return (
        make_header(rng, 'Content-Type: multipart/mixed; boundary="fwd"\n')
        + b"--fwd\r\nContent-Type: text/plain\r\n\r\nsee below\r\n"
        + b"--fwd\r\nContent-Type: message/rfc822\r\n\r\n"
        + digest
        + b"\r\n--fwd--\r\n"
    )


def make_charsets(rng: random.Random) -> bytes:
    parts = [
        f"--cs\r\nContent-Type: text/plain; charset={charset}\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n\r\nhello =41=42 world\r\n"
        for charset in _CHARSETS
    ]
    head = make_header(rng, 'Content-Type: multipart/mixed; boundary="cs"\n')
    return head + "".join(parts).encode() + b"--cs--\r\n"


def run_structure(raw: bytes) -> int:
    message = parse_message(raw)
    return len(list_headers(raw, message.root))


def run_ingest(raw: bytes) -> int:
    message = parse_message(raw)
    values = {name.lower(): value for name, value in list_headers(raw, message.root)}
    for name in ("from", "to", "cc", "reply-to"):
        as_addresses(values.get(name, b""))
    as_text(values.get("subject", b""))
    as_date(values.get("date", b""))
    for name in ("message-id", "in-reply-to", "references"):
        as_message_ids(values.get(name, b""))
    bodies = split_bodies(message.root)
    texts: dict[str | None, Part] = {
        part.part_id: part
        for part in (*bodies.text_body, *bodies.html_body)
        if part.type.startswith("text/")
    }
    return sum(
        len(decode_text(raw, part, content=message.contents.get(part_id or "")).value)
        for part_id, part in texts.items()
    )


def run_stdlib(raw: bytes) -> int:
    message = email.message_from_bytes(raw, policy=email.policy.default)
    for name in ("from", "to", "cc", "reply-to"):
        if message[name] is not None:
            _ = message[name].addresses
    _ = message["subject"], message["date"].datetime, message["message-id"], message["references"]
    size = 0
    for part in message.walk():
        assert isinstance(part, EmailMessage)
        if part.get_content_maintype() == "text" and part.get_filename() is None:
            try:
                size += len(part.get_content())
            except LookupError:
                size += len(part.get_payload(decode=True))
        elif not part.is_multipart():
            size += len(part.get_payload(decode=True))
    return size


def measure(work: Callable[[bytes], int], raw: bytes) -> float:
    """CPU microseconds of one call, over as many calls as fill some 20 ms."""
    calls, spent = 1, 0
    while True:
        start = time.process_time_ns()
        for _ in range(calls):
            work(raw)
        spent = time.process_time_ns() - start
        if spent > 20_000_000:
            return spent / calls / 1000
        calls *= 3


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    shapes: dict[str, Callable[[random.Random], bytes]] = {
        "plain": make_plain,
        "newsletter": make_newsletter,
        "2 MB attachment": make_attachment,
        "nested forward": make_nested,
        "odd charsets": make_charsets,
    }
    works = [("structure", run_structure), ("ingest", run_ingest), ("stdlib", run_stdlib)]
    print(
        f"{'shape':16} {'KiB':>7} {'structure us':>13} {'ingest us':>10} {'stdlib us':>10}  ratio"
    )
    for name, make in shapes.items():
        raw = make(random.Random(7))
        figures: dict[str, list[float]] = {label: [] for label, _ in works}
        for _ in range(rounds):
            for label, work in works:
                figures[label].append(measure(work, raw))
        structure, ingest, stdlib = (statistics.median(figures[label]) for label, _ in works)
        print(
            f"{name:16} {len(raw) / 1024:7.1f} {structure:13.0f} {ingest:10.0f} {stdlib:10.0f}"
            f"  x{stdlib / ingest:.0f}"
        )


if __name__ == "__main__":
    main()
