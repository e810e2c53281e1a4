"""VacationResponse, and the answers that really leave. Source: RFC 8621 s8, RFC 3834, RFC 5230"""

from __future__ import annotations

import asyncio
from email import message_from_bytes, policy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.arrival_fixture import DAY_MS, Post
from tests.jmap.mail_fixture import OWN, make_raw, only_rights
from tests.world import World
from tindra.core.ports import StoreReader
from tindra.features.mail.answering import memory
from tindra.features.mail.answering.message import AnswerText, Mark, build_answer
from tindra.features.mail.answering.rules import decide_answer, find_refusal
from tindra.features.mail.writing.message_head import read_head
from tindra.sync.ports import Transient
from tindra.sync.submission import Uncertain
from tindra.wire.jmap.date import encode_utc_date

WHOLE = {
    "id": "singleton",
    "isEnabled": False,
    "fromDate": None,
    "toDate": None,
    "subject": None,
    "textBody": None,
    "htmlBody": None,
}


@pytest.fixture
def post(world: World, runner: asyncio.Runner) -> Post:
    return runner.run(Post(world).open())


def read(raw: bytes) -> Any:
    return message_from_bytes(raw, policy=policy.default)


# -- the object ---------------------------------------------------------------------------------


async def test_there_is_one_and_it_says_no(world: World) -> None:
    got = await world.call("VacationResponse/get", ids=None)
    assert (got["list"], got["notFound"]) == ([WHOLE], [])
    got = await world.call("VacationResponse/get", ids=["singleton", "x"], properties=["isEnabled"])
    assert got["list"] == [{"id": "singleton", "isEnabled": False}]
    assert got["notFound"] == ["x"]


async def test_it_is_changed_and_its_state_with_it(world: World) -> None:
    old = (await world.call("VacationResponse/get", ids=[]))["state"]
    patch = {
        "isEnabled": True, "fromDate": "2026-01-01T00:00:00Z", "toDate": None,
        "subject": "Weg", "textBody": "Bin weg", "htmlBody": "<p>Bin weg</p>",
    }  # fmt: skip
    made = await world.call("VacationResponse/set", ifInState=old, update={"singleton": patch})
    assert made["updated"] == {"singleton": None}
    got = await world.call("VacationResponse/get", ids=["singleton"])
    assert got["list"] == [WHOLE | patch]
    assert got["state"] == made["newState"] != old
    changes = await world.call("VacationResponse/changes", sinceState=old)
    assert (changes["created"], changes["updated"]) == ([], ["singleton"]), "it was always there"
    assert (await world.fail("VacationResponse/set", ifInState=old))["type"] == "stateMismatch"


async def test_it_is_neither_made_nor_destroyed(world: World) -> None:
    made = await world.call(
        "VacationResponse/set",
        create={"k": {"isEnabled": True}},
        update={"other": {"isEnabled": True}},
        destroy=["singleton", "other"],
    )
    assert made["notCreated"]["k"]["type"] == "singleton"
    assert made["notUpdated"]["other"]["type"] == "notFound"
    assert made["notDestroyed"]["singleton"]["type"] == "singleton"
    assert made["notDestroyed"]["other"]["type"] == "notFound"


@pytest.mark.parametrize(
    ("patch", "wrong"),
    [
        ({"isEnabled": "yes"}, "isEnabled"),
        ({"isEnabled": None}, None),
        ({"fromDate": "tomorrow"}, "fromDate"),
        ({"toDate": "2026-02-30T00:00:00Z"}, "toDate"),
        ({"subject": "a\r\nBcc: x@y.test"}, "subject"),
        ({"subject": "a" * 1000}, "subject"),
        ({"textBody": "a" * 60_001}, "textBody"),
        ({"enabledMs": 1}, "enabledMs"),
        ({"id": "other"}, "id"),
    ],
)
async def test_a_value_that_cannot_be_is_named(
    world: World, patch: dict[str, Any], wrong: str | None
) -> None:
    made = await world.call("VacationResponse/set", update={"singleton": patch})
    if wrong is None:
        assert made["updated"] == {"singleton": None}  # null is the default
    else:
        assert made["notUpdated"]["singleton"]["properties"] == [wrong]
    assert (await world.call("VacationResponse/get", ids=None))["list"] == [WHOLE]


async def test_who_may_not_send_may_not_have_it_answered(world: World) -> None:
    async with only_rights(world, "read", "triage"):
        made = await world.call("VacationResponse/set", update={"singleton": {"isEnabled": True}})
        assert made["notUpdated"]["singleton"]["type"] == "forbidden"


async def test_the_capability_is_told(world: World) -> None:
    uri = "urn:ietf:params:jmap:vacationresponse"
    assert world.registry.capabilities[uri].session == {}
    answer = await world.raw_request(
        [["VacationResponse/get", {"accountId": world.account_id}, "0"]], using=[]
    )
    assert answer["methodResponses"][0][1]["type"] == "unknownMethod"


# -- answers ------------------------------------------------------------------------------------


async def test_mail_is_answered_as_the_rfc_has_it(post: Post) -> None:
    await post.set_vacation(isEnabled=True, textBody="Bin weg.\nAlex", htmlBody="<p>Bin weg</p>")
    raw = make_raw("Frage äöü", References="<root@fjord.test>", Return_Path="<mira@fjord.test>")
    [(envelope, sent)] = await post.receive(raw)
    assert (envelope.mail_from, [r.email for r in envelope.recipients]) == ("", ["mira@fjord.test"])
    message = read(sent)
    assert message["From"] == f"Alex <{OWN}>"
    assert message["To"] == "mira@fjord.test"
    assert message["Subject"] == "Auto: Frage äöü"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["In-Reply-To"] == "<one@fjord.test>"
    assert message["References"] == "<root@fjord.test> <one@fjord.test>"
    assert message["Message-ID"].endswith("@example.org>")
    assert message.get_body(("plain",)).get_content().split() == ["Bin", "weg.", "Alex"]
    assert message.get_body(("html",)).get_content().strip() == "<p>Bin weg</p>"
    assert find_refusal(read_head(sent)) == "automatic"


async def test_nothing_is_filed_and_the_submission_is_seen(post: Post) -> None:
    await post.set_vacation(isEnabled=True, subject="Weg")
    [(_, sent)] = await post.receive()
    assert read(sent)["Subject"] == "Weg"
    assert "away" in read(sent).get_content()
    assert len((await post.world.call("Email/query"))["ids"]) == 1
    [found] = (await post.world.call("EmailSubmission/get", ids=None))["list"]
    assert found["undoStatus"] == "final"
    assert found["envelope"]["mailFrom"] == {"email": "", "parameters": None}
    got = await post.world.call("Email/get", ids=[found["emailId"]])
    assert got["notFound"] == [found["emailId"]]


async def test_one_sender_gets_one_answer_in_a_week(post: Post) -> None:
    await post.set_vacation(isEnabled=True)
    assert len(await post.receive()) == 1
    assert await post.receive(make_raw(message_id="2@fjord.test")) == []
    post.restart()
    post.world.clock.advance(6 * DAY_MS)
    shouting = make_raw(message_id="3@fjord.test", From="MIRA@fjord.test")
    assert await post.receive(shouting) == []
    assert len(await post.receive(make_raw(From="olaf@fjord.test", message_id="4@f.test"))) == 1
    post.world.clock.advance(DAY_MS)
    assert len(await post.receive(make_raw(message_id="5@fjord.test"))) == 1


async def test_who_was_answered_is_forgotten_in_time(post: Post) -> None:
    await post.set_vacation(isEnabled=True)
    await post.receive()

    async def count(reader: StoreReader) -> int:
        return len(await reader.load_objects("VacationMemory", None))

    store = post.world.services.store
    assert await store.read(post.account_id, count) == 1
    await memory.run_forgetting(post.world.services, post.account_id, "VacationMemory", None)
    assert await store.read(post.account_id, count) == 1
    post.world.clock.advance(7 * DAY_MS)
    await memory.run_forgetting(post.world.services, post.account_id, "VacationMemory", None)
    assert await store.read(post.account_id, count) == 0


async def test_a_full_memory_means_no_more_answers(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "REMEMBERED_MAX", 2)
    await post.set_vacation(isEnabled=True)
    people = [make_raw(From=f"p{n}@fjord.test", message_id=f"{n}@fjord.test") for n in range(4)]
    assert [len(await post.receive(raw)) for raw in people] == [1, 1, 0, 0]


async def test_a_flood_of_forged_senders_is_answered_only_so_fast(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(memory.NEW_IN_HOUR_MAX, "VacationMemory", 2)
    await post.set_vacation(isEnabled=True)
    people = (make_raw(From=f"p{n}@fjord.test", message_id=f"{n}@fjord.test") for n in range(9))
    assert [len(await post.receive(next(people))) for _ in range(4)] == [1, 1, 0, 0]
    post.world.clock.advance(DAY_MS // 24)
    assert [len(await post.receive(next(people))) for _ in range(3)] == [1, 1, 0]


async def test_only_what_arrives_in_the_time_is_answered(post: Post) -> None:
    now_ms = post.world.clock.now_ms()
    start, end = now_ms + DAY_MS, now_ms + 2 * DAY_MS
    dates = {"fromDate": encode_utc_date(start), "toDate": encode_utc_date(end)}
    await post.set_vacation(isEnabled=True, **dates)
    people = (make_raw(From=f"p{n}@fjord.test", message_id=f"{n}@f.test") for n in range(9))
    answers = []
    for moment in (start - 1000, start, end - 1000, end):
        post.world.clock.advance(moment - post.world.clock.now_ms())
        answers.append(len(await post.receive(next(people))))
    assert answers == [0, 1, 1, 0]


async def test_mail_that_came_in_time_and_is_seen_late_is_answered(post: Post) -> None:
    now_ms = post.world.clock.now_ms()
    await post.set_vacation(isEnabled=True, toDate=encode_utc_date(now_ms + 60_000))
    post.world.clock.advance(DAY_MS)
    assert len(await post.receive(ago_ms=DAY_MS - 1000)) == 1


async def test_mail_from_before_it_was_switched_on_is_not_answered(post: Post) -> None:
    await post.set_vacation(isEnabled=True)
    assert await post.receive(ago_ms=60_000) == []
    assert await post.list_intents() == []


async def test_switched_off_while_answers_wait(post: Post) -> None:
    await post.set_vacation(isEnabled=True)
    post.outbox.error = Transient("busy")
    await post.receive()  # in the outbox, its server is busy
    await post.arrive(make_raw(From="olaf@fjord.test", message_id="2@f.test"))  # undecided
    await post.set_vacation(isEnabled=False)
    post.outbox.error = None
    assert await post.turn(DAY_MS) == []
    [found] = (await post.world.call("EmailSubmission/get", ids=None))["list"]
    assert found["undoStatus"] == "canceled"
    await post.set_vacation(isEnabled=True)
    assert await post.turn(DAY_MS) == []


async def test_an_answer_in_doubt_is_not_repeated(post: Post) -> None:
    await post.set_vacation(isEnabled=True)
    post.outbox.late_error = Uncertain("lost")
    assert len(await post.receive()) == 1
    post.outbox.late_error = None
    for _ in range(20):
        post.restart()
        assert await post.turn(3_600_000) == []


async def test_two_accounts_that_are_away_do_not_talk_for_ever(post: Post) -> None:
    await post.set_vacation(isEnabled=True)
    [(_, sent)] = await post.receive()
    # The other one's server delivers our answer to them, and theirs to us, with a null path.
    for path in ("Return-Path: <>\r\n", ""):
        swapped = path.encode() + sent.replace(b"mira@fjord.test", b"x@y.test")
        swapped = swapped.replace(OWN.encode(), b"olaf@fjord.test").replace(
            b"x@y.test", OWN.encode()
        )
        assert await post.receive(swapped) == []


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"Auto_Submitted": "auto-replied"}, "automatic"),
        ({"Auto_Submitted": "auto-generated; type=x"}, "automatic"),
        ({"Auto_Submitted": "Something-New (comment)"}, "automatic"),
        ({"Auto_Submitted": "no"}, None),
        ({"Auto_Submitted": "No (really)"}, None),
        ({"X_Auto_Response_Suppress": "DR, OOF"}, "automatic"),
        ({"X_Auto_Response_Suppress": "DR, RN"}, None),
        ({"Content_Type": "multipart/report; report-type=delivery-status"}, "automatic"),
        ({"List_Id": "<a.b>"}, "list"),
        ({"List_Unsubscribe": "<mailto:a@b.test>"}, "list"),
        ({"Precedence": "Bulk"}, "bulk"),
        ({"Precedence": "junk"}, "bulk"),
        ({"Precedence": "list"}, "bulk"),
        ({"Precedence": "first-class"}, None),
        ({"Return_Path": "<>"}, "noSender"),
        ({"Return_Path": "< >"}, "noSender"),
        ({"From": ""}, "noSender"),
        ({"From": "a@fjord.test, b@fjord.test"}, "noSender"),
        ({"Return_Path": "<owner-list@fjord.test>"}, "machine"),
        ({"Return_Path": "<list-request@fjord.test>"}, "machine"),
        ({"Return_Path": "<bounces+alex=example.org@fjord.test>"}, "machine"),
        ({"From": "MAILER-DAEMON@fjord.test"}, "machine"),
        ({"From": "No-Reply@fjord.test"}, "machine"),
        ({"From": "shop.noreply@fjord.test"}, "machine"),
        ({"From": "donotreply@fjord.test"}, "machine"),
        ({"From": "Noreen <noreen@fjord.test>"}, None),
        ({"Sender": "listserv@fjord.test"}, "machine"),
        ({"From": OWN.upper()}, "own"),
        ({"Return_Path": f"<{OWN}>"}, "own"),
        ({"To": "somebody@else.test"}, "notForUs"),
        ({"To": "somebody@else.test", "Cc": f"Alex <{OWN}>"}, None),
        ({"To": "", "Bcc": OWN}, None),
        ({"To": "undisclosed-recipients:;"}, "notForUs"),
        ({"X_Spam_Flag": "YES"}, "junk"),
    ],
)  # fmt: skip
async def test_what_is_not_answered(post: Post, fields: dict[str, str], why: str | None) -> None:
    raw = make_raw(**fields)
    identities = {"i": {"email": OWN}}
    decided = decide_answer(read_head(raw), identities)
    assert (decided if isinstance(decided, str) else None) == why
    await post.set_vacation(isEnabled=True)
    assert len(await post.receive(raw)) == (why is None)


async def test_the_answer_goes_to_the_return_path(post: Post) -> None:
    await post.set_vacation(isEnabled=True)
    raw = make_raw(Return_Path="<bob@fjord.test>", Reply_To="carol@fjord.test")
    [(envelope, _)] = await post.receive(raw)
    assert [r.email for r in envelope.recipients] == ["bob@fjord.test"]


async def test_who_was_written_to_answers(post: Post) -> None:
    made = await post.world.call(
        "Identity/set", create={"k": {"name": "Sales", "email": "*@shop.test"}}
    )
    assert made["created"], made
    await post.set_vacation(isEnabled=True)
    [(_, sent)] = await post.receive(make_raw(To="orders@shop.test"))
    assert read(sent)["From"] == "Sales <orders@shop.test>"


@pytest.mark.parametrize(
    "fields",
    [
        {"subject": "=?utf-8?B?AAECDQo=?= \x01 x"},
        {"subject": "a" * 5000},
        {"message_id": "a b\x07c"},
        {"message_id": "x" * 900},
        {"References": " ".join(f"<{n}@x.test>" for n in range(2000))},
        {"In_Reply_To": "<\u00e4@x.test> <" + "y" * 990 + ">"},
        {"From": "=?utf-8?q?=00=0d=0aBcc=3A?= <mira@fjord.test>"},
    ],
)
async def test_a_hostile_header_gives_a_sound_answer(post: Post, fields: dict[str, Any]) -> None:
    await post.set_vacation(isEnabled=True)
    [(_, sent)] = await post.receive(make_raw(**fields))
    head = sent.partition(b"\r\n\r\n")[0]
    assert max(len(line) for line in head.split(b"\r\n")) <= 998
    assert read(sent)["Bcc"] is None
    assert read(sent)["To"] == "mira@fjord.test"
    assert post.reports == []


_FIELDS = st.sampled_from(
    ["From", "To", "Return-Path", "Message-ID", "References", "In-Reply-To", "Subject", "Sender",
     "Auto-Submitted", "Precedence", "Content-Type", "X-Auto-Response-Suppress"]
)  # fmt: skip
_VALUES = st.binary(max_size=60) | st.text(
    st.sampled_from('aä@.<>,:;"\\()[]=?_ \r\n\t\0\u2028'), max_size=40
).map(lambda text: text.encode())


@given(st.lists(st.tuples(_FIELDS, _VALUES), max_size=8))
def test_any_header_is_refused_or_gives_a_sound_answer(fields: list[tuple[str, bytes]]) -> None:
    own = b"To: alex@example.org\r\nFrom: mira@fjord.test\r\n"
    raw = b"".join(b"%s: %s\r\n" % (name.encode(), value) for name, value in fields) + own
    head = read_head(raw + b"\r\n")
    found = decide_answer(head, {"i": {"email": OWN}})
    if isinstance(found, str):
        return
    author = {"name": "Alex", "email": OWN}
    try:
        said = AnswerText(None, "Away", None)
        sent = build_answer(head, author, found.recipient, said, Mark(0, "token"))
    except ValueError:
        return
    names = [name.lower() for name in read_head(sent).fields]
    known = {
        "from", "to", "subject", "date", "message-id", "in-reply-to", "references",
        "auto-submitted", "x-auto-response-suppress", "mime-version", "content-type",
        "content-transfer-encoding",
    }  # fmt: skip
    assert set(names) <= known
    assert find_refusal(read_head(sent)) == "automatic"
    assert [a.email for a in read_head(sent).list_addresses("to")] == [found.recipient]
