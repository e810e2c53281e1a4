"""Real and broken mail of other projects' tests: parsed whole, and compared with their view."""

from __future__ import annotations

import email
import email.policy
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tindra.wire.mime.decode import decode_body, decode_text
from tindra.wire.mime.header import as_addresses, as_date, as_message_ids, as_text
from tindra.wire.mime.parse import Message, Part, list_headers, parse_message
from tindra.wire.mime.structure import split_bodies

ROOT = Path(__file__).resolve().parents[3]
CORPUS = Path(os.environ.get("TINDRA_CORPUS", ROOT.parent / "shared" / "corpus")) / "mail"
FILES = sorted(
    path
    for path in (CORPUS.rglob("*") if CORPUS.is_dir() else [])
    if path.is_file() and path.suffix != ".json"
)
"""Not only mail: whatever else lies there is input as well."""
MESSAGES = [path for path in FILES if path.suffix == ".eml" or path.parent.name == "cpython"]
EXPECTED = sorted(CORPUS.glob("mail-parser/*/*.json"))

pytestmark = pytest.mark.skipif(
    not CORPUS.is_dir(), reason="no mail corpus: set TINDRA_CORPUS to a folder that holds mail/"
)

BUDGET_S = 1.0
"""CPU time of one message of at most 100 KB, a thousand times what it takes."""

LAST_TYPE = "of two Content-Type fields the first counts here, the last there"
RAW_8BIT = "raw 8-bit text in a header is read as windows-1252 here, as U+FFFD there"
NO_DELIMITER = "a multipart without one delimiter is shown as text here, as empty there"
DEVIATIONS = {
    ("legacy/010", "subject"): RAW_8BIT,
    ("legacy/020", "subject"): RAW_8BIT,
    ("legacy/022", "subject"): RAW_8BIT,
    ("legacy/027", "subject"): RAW_8BIT,
    ("legacy/052", "subject"): RAW_8BIT,
    ("legacy/052", "body"): "raw 8-bit text without charset: the same in a body",
    ("malformed/002", "body"): NO_DELIMITER,
    ("malformed/004", "body"): NO_DELIMITER,
    ("malformed/006", "body"): "its inner multipart has no delimiter: " + NO_DELIMITER,
    ("malformed/007", "body"): "its inner delimiters stand in the header block: " + NO_DELIMITER,
    ("malformed/005", "body"): "the inner delimiter is the closing one of the outer boundary",
    ("malformed/020", "body"): LAST_TYPE,
    ("malformed/021", "body"): LAST_TYPE,
    ("rfc/001", "from"): "a name without address is the email here (RFC 8621 s4.1.2.3)",
    ("rfc/004", "from"): "a name without address is the email here (RFC 8621 s4.1.2.3)",
    ("thirdparty/000", "body"): "NUL is replaced by U+FFFD here",
}
"""(message, field) -> why the other parser's expectation is not met."""
MATCHING_SHARE_MIN = 0.95


def walk(part: Part) -> Iterator[Part]:
    yield part
    for child in part.children:
        yield from walk(child)


def check_nesting(part: Part, start: int, end: int) -> None:
    assert start <= part.header_start <= part.header_end <= part.body_start <= part.body_end <= end
    at = part.body_start
    for child in part.children:
        check_nesting(child, at, part.body_end)
        at = child.body_end


def last_headers(message: Message) -> dict[str, bytes]:
    return {name.lower(): value for name, value in list_headers(message.raw, message.root)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CORPUS)))
def test_every_message_parses_in_budget_with_nested_ranges_and_true_sizes(path: Path) -> None:
    raw = path.read_bytes()
    start = time.process_time()
    message = parse_message(raw)
    headers = last_headers(message)
    for name in ("from", "to", "cc", "bcc", "reply-to", "sender"):
        as_addresses(headers.get(name, b""))
    as_text(headers.get("subject", b""))
    as_date(headers.get("date", b""))
    as_message_ids(headers.get("references", b""))
    texts = [decode_text(raw, part) for part in walk(message.root)]
    split_bodies(message.root)
    assert time.process_time() - start < BUDGET_S
    assert not message.truncated
    check_nesting(message.root, 0, len(raw))
    for part, text in zip(walk(message.root), texts, strict=True):
        text.value.encode("utf-8")
        if not part.children:
            assert part.size == len(decode_body(raw, part))


def test_there_are_as_many_messages_as_the_corpus_is_known_to_hold() -> None:
    assert len(FILES) >= 276


def expected_addresses(value: Any) -> list[tuple[str, str]]:
    if not isinstance(value, dict):
        return []
    lists = value["Address"]
    groups = [lists["List"]] if "List" in lists else [g["addresses"] for g in lists["Group"]]
    return [(a["name"] or "", a["address"] or "") for group in groups for a in group]


def expected_body(parsed: dict[str, Any]) -> str:
    for index in parsed["text_body"]:
        body = parsed["parts"][index]["body"]
        for kind in ("Text", "Html"):
            if kind in body:
                return str(body[kind])
    return ""


def normal(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def compare(path: Path) -> dict[str, bool]:
    """Field -> whether it is as the other parser's authors expect."""
    parsed = json.loads(path.read_text())
    fields = parsed["parts"][0]["headers"]
    theirs = {field["name"]: field["value"] for field in fields if isinstance(field["name"], str)}
    raw = path.with_suffix(".eml").read_bytes()
    message = parse_message(raw)
    ours = last_headers(message)
    subject = theirs.get("subject")
    bodies = [p for p in split_bodies(message.root).text_body if p.type.startswith("text/")]
    text = decode_text(raw, bodies[0]).value if bodies else ""
    return {
        "subject": normal(as_text(ours.get("subject", b"")))
        == normal(subject["Text"] if isinstance(subject, dict) else ""),
        "from": [(a.name or "", a.email) for a in as_addresses(ours.get("from", b""))]
        == expected_addresses(theirs.get("from")),
        "body": normal(text) == normal(expected_body(parsed)),
    }


def test_subjects_senders_and_bodies_are_as_another_parser_expects() -> None:
    results = {
        (f"{path.parent.name}/{path.stem}", field): is_same
        for path in EXPECTED
        for field, is_same in compare(path).items()
    }
    different = {key for key, is_same in results.items() if not is_same}
    assert different == DEVIATIONS.keys()
    assert len(results) >= 300
    assert 1 - len(different) / len(results) >= MATCHING_SHARE_MIN


def count_leaves_stdlib(raw: bytes) -> int:
    stack: list[Any] = [email.message_from_bytes(raw, policy=email.policy.compat32)]
    leaves = 0
    while stack:
        part = stack.pop()
        if part.get_content_maintype() == "multipart" and part.is_multipart():
            stack.extend(part.get_payload())
        else:
            leaves += 1
    return leaves


def test_trees_have_as_many_leaves_as_the_standard_library_finds() -> None:
    same = sum(
        sum(not part.children for part in walk(parse_message(path.read_bytes()).root))
        == count_leaves_stdlib(path.read_bytes())
        for path in MESSAGES
    )
    assert same / len(MESSAGES) >= 0.95


def count_leaves_other(tree: Any) -> int:
    stack, leaves = [tree], 0
    while stack:
        part = stack.pop()
        if part.children and not part.is_message:
            stack.extend(part.children)
        else:
            leaves += 1
    return leaves


def test_trees_have_as_many_leaves_as_a_third_parser_finds() -> None:
    other = pytest.importorskip("fast_mail_parser", reason="a second opinion, not a dependency")
    counts: list[bool] = []
    for path in MESSAGES:
        raw = path.read_bytes()
        try:
            theirs = count_leaves_other(other.parse_email_tree(raw, mode="metadata"))
        except other.ParseError:
            continue
        counts.append(sum(not part.children for part in walk(parse_message(raw).root)) == theirs)
    assert sum(counts) / len(counts) >= 0.9
