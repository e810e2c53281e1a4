"""textBody, htmlBody and attachments (the algorithm and example of RFC 8621 s4.1.4)."""

from __future__ import annotations

import pytest

from tindra.wire.mime.parse import Part
from tindra.wire.mime.structure import split_bodies


def leaf(label: str, media_type: str, disposition: str | None = None, **extra: str) -> Part:
    part = Part(0, 0, 0, 0, media_type, disposition=disposition, part_id=label)
    for name, value in extra.items():
        setattr(part, name, value)
    return part


def multi(kind: str, *children: Part) -> Part:
    return Part(0, 0, 0, 0, f"multipart/{kind}", children=list(children))


def labels(root: Part) -> tuple[str, str, str]:
    bodies = split_bodies(root)
    text, html, attachments = (
        "".join(part.part_id or "?" for part in parts)
        for parts in (bodies.text_body, bodies.html_body, bodies.attachments)
    )
    return text, html, attachments


A = leaf("A", "text/plain", "inline")
E = leaf("E", "text/html")


def test_the_example_of_the_rfc() -> None:
    root = multi(
        "mixed",
        leaf("A", "text/plain", "inline"),
        multi(
            "mixed",
            multi(
                "alternative",
                multi(
                    "mixed",
                    leaf("B", "text/plain", "inline"),
                    leaf("C", "image/jpeg", "inline"),
                    leaf("D", "text/plain", "inline"),
                ),
                multi("related", leaf("E", "text/html"), leaf("F", "image/jpeg")),
            ),
            leaf("G", "image/jpeg", "attachment"),
            leaf("H", "application/x-excel"),
            leaf("J", "message/rfc822"),
        ),
        leaf("K", "text/plain", "inline"),
    )
    assert labels(root) == ("ABCDK", "AEK", "CFGHJ")


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        (A, ("A", "A", "")),
        (E, ("E", "E", "")),
        (leaf("P", "application/pdf"), ("", "", "P")),
        (leaf("I", "image/png"), ("I", "I", "")),
        (leaf("T", "text/plain", "attachment"), ("", "", "T")),
        (multi("alternative", A, E), ("A", "E", "")),
        (multi("alternative", E), ("E", "E", "")),
        (multi("alternative", A), ("A", "A", "")),
        (multi("alternative", A, E, leaf("C", "text/calendar")), ("A", "E", "C")),
        (multi("alternative", A, leaf("I", "image/png")), ("A", "A", "I")),
        (multi("mixed", A, leaf("N", "text/plain", name="n.txt")), ("A", "A", "N")),
        (multi("mixed", leaf("N", "text/plain", name="n.txt"), A), ("NA", "NA", "")),
        (multi("mixed", A, leaf("I", "image/png", name="i.png")), ("AI", "AI", "")),
        (multi("related", E, leaf("I", "image/png")), ("E", "E", "I")),
        (multi("related", multi("alternative", A, E), leaf("I", "image/png")), ("A", "E", "I")),
        (multi("mixed", leaf("X", "text/x-patch"), A), ("A", "A", "X")),
    ],
)
def test_bodies(root: Part, expected: tuple[str, str, str]) -> None:
    assert labels(root) == expected


@pytest.mark.parametrize(
    ("part", "has_attachment"),
    [
        (leaf("P", "application/pdf"), True),
        (leaf("P", "application/pdf", "inline"), False),
        (leaf("S", "application/pgp-signature"), False),
        (leaf("I", "image/png", "attachment", cid="x"), True),
        (leaf("M", "message/rfc822"), True),
    ],
)
def test_has_attachment(part: Part, has_attachment: bool) -> None:
    assert split_bodies(multi("mixed", A, part)).has_attachment == has_attachment


def test_an_image_that_only_the_html_refers_to_is_no_attachment_to_offer() -> None:
    root = multi("related", E, leaf("I", "image/png", cid="x"))
    assert labels(root)[2] == "I"
    assert not split_bodies(root).has_attachment
    assert split_bodies(multi("related", E, leaf("I", "image/png"))).has_attachment
