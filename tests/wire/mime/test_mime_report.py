"""Reports as values. Source: RFC 6522 s3, RFC 3464 s2, RFC 8098 s3"""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from tests.jmap.submission.test_submission_reports import make_dsn, make_mdn
from tindra.wire.mime.parse import parse_message
from tindra.wire.mime.report import (
    FIELD_CHARS_MAX,
    REPORT_BYTES_MAX,
    REPORTED_RECIPIENTS_MAX,
    Report,
    ReportedRecipient,
    parse_report,
)


def parse(raw: bytes) -> Report | None:
    return parse_report(parse_message(raw))


def test_a_delivery_report_is_read_with_all_it_says() -> None:
    report = parse(make_dsn("<zoe@x.test>", envelope_id="abc", message_id="m@x.test"))
    zoe = ReportedRecipient("zoe@x.test", "", "failed", "5.1.1", "550 5.1.1 No such user")
    assert report == Report("delivery", "abc", "m@x.test", (zoe,))


def test_a_disposition_report_is_read() -> None:
    report = parse(make_mdn("zoe@x.test", "m@x.test", "displayed/error (why)"))
    zoe = ReportedRecipient("zoe@x.test", "", "displayed", "", "")
    assert report == Report("disposition", "", "m@x.test", (zoe,))


def test_a_report_in_base64_is_read_too() -> None:
    raw = make_dsn(message_id="m@x.test")
    start = raw.index(b"Reporting-MTA")
    end = raw.index(b"\r\n--b", start)
    coded = base64.encodebytes(raw[start:end])
    raw = raw[:start].replace(
        b"delivery-status\r\n\r\n", b"delivery-status\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    ) + coded + raw[end:]  # fmt: skip
    report = parse(raw)
    assert report is not None
    assert [one.final for one in report.recipients] == ["zoe@example.net"]


def test_fields_go_on_over_lines_and_the_first_of_a_name_counts() -> None:
    fields = "Status: 5.1.1\r\nStatus: 2.0.0\r\n 9\r\nDiagnostic-Code: smtp;\r\n\t550 No\r\n"
    report = parse(make_dsn(fields=fields))
    assert report is not None
    assert (report.recipients[0].status, report.recipients[0].diagnosis) == ("5.1.1", "550 No")


def test_what_is_too_much_is_left_out() -> None:
    many = "".join(f"\r\nFinal-Recipient: rfc822; u{n}@x.test\r\n" for n in range(1000))
    report = parse(make_dsn(fields="X: " + "y" * 5000 + "\r\n" + many))
    assert report is not None
    assert len(report.recipients) == REPORTED_RECIPIENTS_MAX
    long = parse(make_dsn(fields="Diagnostic-Code: smtp; " + "\r\n x" * 50_000 + "\r\n"))
    assert long is not None
    assert len(long.recipients[0].diagnosis) <= FIELD_CHARS_MAX
    huge = parse(make_dsn(fields="X: y\r\n" * REPORT_BYTES_MAX))
    assert huge == Report("delivery", "", "", ())


def test_other_mail_is_no_report() -> None:
    assert parse(b"Subject: x\r\n\r\nFinal-Recipient: rfc822; a@b.test\r\n") is None
    assert parse(b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--") is None
    assert parse(b"Content-Type: message/delivery-status\r\n\r\nAction: failed\r\n") is None


@given(st.binary(max_size=400), st.integers(0, 900), st.integers(0, 900))
def test_any_octets_give_a_report_or_none(noise: bytes, start: int, length: int) -> None:
    for raw in (make_dsn(message_id="m@x.test"), make_mdn("a@b.test", "m@x.test")):
        parse(raw[:start] + noise + raw[start + length :])
