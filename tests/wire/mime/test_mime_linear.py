"""Hostile input costs time in proportion to its length: twice the input, about twice the time."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tindra.wire.mime.decode import decode_text
from tindra.wire.mime.header import as_addresses, as_date, as_message_ids, as_text, as_urls
from tindra.wire.mime.parse import list_headers, parse_message
from tindra.wire.mime.preview import make_preview
from tindra.wire.mime.structure import split_bodies

RATIO_MAX = 4.0
"""Linear gives 2, quadratic gives 4 and more; the slack is for small inputs and busy machines."""
SLACK_S = 0.05


def spent_s(work: Callable[[bytes], object], data: bytes) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        work(data)
        best = min(best, time.process_time() - start)
    return best


def check_linear(work: Callable[[bytes], object], make: Callable[[int], bytes], count: int) -> None:
    once, twice = spent_s(work, make(count)), spent_s(work, make(2 * count))
    assert twice <= RATIO_MAX * once + SLACK_S, (once, twice)


def ingest(raw: bytes) -> None:
    message = parse_message(raw)
    stack = [message.root]
    while stack:
        part = stack.pop()
        stack.extend(part.children)
        list_headers(raw, part)
        if not part.children:
            decode_text(raw, part)
    split_bodies(message.root)


MULTIPART = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"


@pytest.mark.parametrize(
    "make",
    [
        lambda n: b"X: y\r\n" * n + b"\r\n",
        lambda n: b"Content-\n" * n + b":\n\n",
        lambda n: b"Content-Type: x\r\n" + b" " * n + b"\r\n\r\n",
        lambda n: b"X:" + b"\r\n " * n + b"\r\n\r\n",
        lambda n: b"junk line\n" * n,
        lambda n: b"X: y\n" + b"junk line\n" * n,
        lambda n: MULTIPART + b"--b\r\n\r\n" * n,
        lambda n: MULTIPART + b"--bx\r\n" * n,
        lambda n: MULTIPART + b"--b" * n,
        lambda n: MULTIPART + b"-" * n,
        lambda n: b"".join(
            b"Content-Type: multipart/x; boundary=%d\n\n--%d\n" % (i, i) for i in range(n)
        ),
        lambda n: (MULTIPART + b"--b\r\n") * n,
        lambda n: b"Content-Type: text/plain;" + b' a="\\"' * n + b"\n\n",
        lambda n: b"Content-Type: text/plain;" + b"(\\" * n + b"\n\n",
        lambda n: b"Content-Disposition: x; " + b"filename*0=a;" * n + b"\n\n",
        lambda n: b"Content-Disposition: x; filename=" + b"=?a?q?" * n + b"\n\n",
        lambda n: b"Content-Transfer-Encoding: base64\n\n" + b"QQ==\n" * n,
        lambda n: b"Content-Transfer-Encoding: base64\n\n" + b"=" * n,
        lambda n: b"Content-Transfer-Encoding: quoted-printable\n\n" + b"= " * n,
        lambda n: b"Content-Transfer-Encoding: quoted-printable\n\n=" + b" " * n,
        lambda n: b"Content-Transfer-Encoding: x-uue\n\n" + b"begin 644 a" * n,
        lambda n: b"Content-Transfer-Encoding: x-uue\n\nbegin 644 a\n" + b"Mxx\n" * n,
        lambda n: b"Content-Type: text/plain; charset=utf-7\n\n" + b"+" * n,
        lambda n: b"Content-Type: text/plain; charset=iso-2022-kr\n\n" + b"\x1b$)C\x0e" * n,
    ],
)
def test_messages(make: Callable[[int], bytes]) -> None:
    check_linear(ingest, make, 8_000)


PIECES = (
    rb'" "\ ( (\ < <"\ [ =?a =?a?q? =?utf-7?b?K a@b, "a"_ :; @a, <@ _ a_ <a a. 1_ =?utf-8?q?b?=_'
).split()
"""Repeated as they stand, with a space for each underscore."""


@pytest.mark.parametrize("piece", [*PIECES, b"\xcc\x81"])
@pytest.mark.parametrize("form", [as_addresses, as_text, as_message_ids, as_date, as_urls])
def test_header_values(form: Callable[[bytes], object], piece: bytes) -> None:
    check_linear(form, lambda n: piece.replace(b"_", b" ") * n, 6_000)


@pytest.mark.parametrize("head", [b"a ", b"a <", b"a: ", b'a "', b"( "])
@pytest.mark.parametrize("tail", [b":", b"<", b"@", b";", b" :b"])
def test_addresses_of_two_kinds(head: bytes, tail: bytes) -> None:
    check_linear(as_addresses, lambda n: head * n + b"@ " + tail * n, 3_000)


@pytest.mark.parametrize(
    "piece", ["> x\n", "On x\n", "a:\n", "[image:", "<http://", "-", "\n", "x"]
)
def test_previews(piece: str) -> None:
    check_linear(lambda data: make_preview(data.decode()), lambda n: piece.encode() * n, 20_000)
