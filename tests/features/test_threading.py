"""Which Thread an Email belongs to: references, subject and people, caps. Source: RFC 8621 s3"""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.jmap.mail_fixture import make_raw
from tests.world import World
from tindra.base import limits
from tindra.features.mail import threading
from tindra.features.mail.threading import (
    CANDIDATES_MAX,
    OWN_IDS_MAX,
    SUBJECT_WINDOW_MS,
    make_base_subject,
    make_reference_key,
    pick_references,
)

DAY_MS = 24 * 3600 * 1000


# -- subjects ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mark",
    [
        "Re:", "RE:", "re:", "Re :", "Re: Re:", "Re:Re:re:", "Re[2]:", "RE [12]:", "Re(3):",
        "Fwd:", "FW:", "Fw: Re:", "AW:", "WG:", "Antwort:", "SV:", "VS:", "VL:", "Antw:", "TR:",
        "Réf:", "RIF:", "R:", "I:", "RES:", "ENC:", "RV:", "Odp:", "PD:", "YNT:", "İLT:", "VB:",
        "Doorst:", "VÁ:", "Továbbítás:", "ATB:", "Отв:", "На:", "ΑΠ:", "ΠΡΘ:", "ΣΧΕΤ:", "תגובה:",
        "הועבר:", "回复:", "回复：", "答复:", "转发:", "回覆:", "轉寄:", "返信:", "転送:",
        "회신:", "전달:",
    ],
)  # fmt: skip
def test_the_marks_of_many_languages_are_taken_off(mark: str) -> None:
    assert make_base_subject(f"{mark} Dinner on Friday") == ("Dinner on Friday", True)
    assert make_base_subject(f"  {mark}Dinner on Friday ") == ("Dinner on Friday", True)


@pytest.mark.parametrize(
    ("subject", "base"),
    [
        ("Dinner", "Dinner"),
        ("  Dinner \t on\r\n Friday ", "Dinner on Friday"),
        ("[list] Dinner", "Dinner"),
        ("[list] [other] Dinner", "Dinner"),
        ("[only]", "[only]"),
        ("Dinner (fwd)", "Dinner"),
        ("Dinner (FWD) (fwd)", "Dinner"),
        ("Reminder: pay", "Reminder: pay"),
        ("Ref: 12", "Ref: 12"),
        ("Resume: mine", "Resume: mine"),
        ("R&D: budget", "R&D: budget"),
        ("re dinner", "re dinner"),
        ("Ha: funny", "Ha: funny"),
        ("", ""),
        ("   ", ""),
    ],
)
def test_what_is_no_mark_of_a_reply_stays(subject: str, base: str) -> None:
    assert make_base_subject(subject) == (base, False)


@pytest.mark.parametrize(
    ("subject", "base"),
    [
        ("Re: [list] Re: Dinner", "Dinner"),
        ("[list] Re: [list] Dinner", "Dinner"),
        ("Fwd: Re: AW: Dinner (fwd)", "Dinner"),
        ("Re:", ""),
        ("Re: Re[4]: Fw:", ""),
    ],
)
def test_marks_and_tags_are_taken_off_in_any_order(subject: str, base: str) -> None:
    assert make_base_subject(subject) == (base, True)


@given(st.text(st.sampled_from("Re:[] ()fwd2aA\t"), max_size=80) | st.text(max_size=80))
def test_any_subject_has_a_base_which_is_its_own_base_or_nearly(subject: str) -> None:
    base, _ = make_base_subject(subject)
    assert base == base.strip()
    assert len(base) <= len(subject)


@pytest.mark.parametrize(
    "piece",
    ["re:", "re", "re [", "[", "]", "[a]", "[a] re:", " ", "(fwd)", "(fwd) ", "re[1", "re [1] ",
     "\t", "re : ", "[" * 61, "回复", "ſ", "İ"],
)  # fmt: skip
def test_a_hostile_subject_costs_no_more_than_a_short_one(piece: str) -> None:
    start = time.perf_counter()
    for count in (10, 1_000, 1_000_000):
        make_base_subject(piece * count)
    assert time.perf_counter() - start < 2


# -- references --------------------------------------------------------------------------------


def test_a_reference_is_the_same_with_and_without_its_brackets() -> None:
    assert make_reference_key("<a@x>") == make_reference_key("a@x") != make_reference_key("b@x")
    assert len(make_reference_key("a" * 10_000)) == 20


def test_the_own_id_comes_first_then_the_nearest_relatives() -> None:
    keys = pick_references(["own"], ["parent"], ["root", "grandparent", "parent"])
    assert keys == tuple(map(make_reference_key, ["own", "parent", "grandparent", "root"]))


@pytest.mark.parametrize("place", ["in_reply_to", "references", "message_id"])
def test_of_many_references_the_first_and_the_last_are_kept(place: str) -> None:
    many = [f"{n}@x" for n in range(500)]
    given: dict[str, list[str]] = {"message_id": [], "in_reply_to": [], "references": []}
    keys = pick_references(**(given | {place: many}))
    assert len(keys) <= limits.REFERENCES_PER_EMAIL_MAX + OWN_IDS_MAX
    assert make_reference_key("0@x") in keys
    if place != "message_id":
        assert make_reference_key("499@x") in keys


@given(*[st.lists(st.text(max_size=5), max_size=120)] * 3)
def test_any_lists_of_references_give_few_keys(
    own: list[str], parents: list[str], references: list[str]
) -> None:
    keys = pick_references(own, parents, references)
    assert len(keys) <= limits.REFERENCES_PER_EMAIL_MAX + OWN_IDS_MAX
    assert len(set(keys)) == len(keys)


# -- threads -----------------------------------------------------------------------------------


class Talk:
    """Adds messages to one Mailbox and asks which belong together."""

    def __init__(self, world: World, mailbox_id: str) -> None:
        self._world = world
        self._mailbox_id = mailbox_id

    async def add(self, subject: str, id: str, day: int = 0, **fields: Any) -> str:
        """A message; gives its threadId."""
        moment = f"2026-{1 + day // 28:02}-{1 + day % 28:02}T00:00:00Z"
        raw = make_raw(subject, id, **fields)
        self._world.clock.advance(1000)
        email = await self._world.add_email(self._mailbox_id, raw, receivedAt=moment)
        got = await self._world.call("Email/get", ids=[email], properties=["threadId"])
        return str(got["list"][0]["threadId"])


async def make_talk(world: World) -> Talk:
    return Talk(world, await world.add_mailbox("Inbox", role="inbox"))


async def test_a_reply_joins_what_it_refers_to_by_either_field(world: World) -> None:
    talk = await make_talk(world)
    first = await talk.add("Dinner", "a@x")
    assert await talk.add("Re: Dinner", "b@x", In_Reply_To="<a@x>") == first
    assert await talk.add("AW: Dinner", "c@x", References="<zz@x> <a@x>") == first
    assert await talk.add("dinner", "d@x", References="<b@x>\r\n <c@x>") == first
    assert await talk.add("Re: Dinner", "e@x", In_Reply_To="<nobody@x>") != first


async def test_a_message_that_comes_before_what_it_answers_is_found_by_it(world: World) -> None:
    talk = await make_talk(world)
    reply = await talk.add("Re: Dinner", "b@x", References="<root@x> <a@x>")
    assert await talk.add("Dinner", "a@x") == reply
    assert await talk.add("Re: Dinner", "c@x", In_Reply_To="<root@x>") == reply


async def test_a_reply_under_a_new_subject_begins_a_new_conversation(world: World) -> None:
    talk = await make_talk(world)
    first = await talk.add("Dinner", "a@x")
    other = await talk.add("Lunch (was: Dinner)", "b@x", In_Reply_To="<a@x>")
    assert other != first
    assert await talk.add("Re: Lunch (was: Dinner)", "c@x", References="<a@x> <b@x>") == other
    assert await talk.add("Re: Dinner", "d@x", References="<a@x> <b@x>") == first


async def test_the_nearest_relative_decides_between_two_threads_of_one_subject(
    world: World,
) -> None:
    talk = await make_talk(world)
    one = await talk.add("Dinner", "a@x")
    two = await talk.add("Dinner", "b@x")
    assert one != two
    assert await talk.add("Re: Dinner", "c@x", References="<a@x> <b@x>") == two
    assert await talk.add("Re: Dinner", "d@x", References="<b@x> <a@x>") == one
    assert await talk.add("Re: Dinner", "e@x", In_Reply_To="<a@x>", References="<b@x>") == one


async def test_a_reply_without_references_joins_by_subject_and_people(world: World) -> None:
    talk = await make_talk(world)
    people: dict[str, Any] = {"From": "mira@x.test", "To": "alex@x.test"}
    back = {"From": "alex@x.test", "To": "mira@x.test"}
    first = await talk.add("Dinner", "a@x", **people)
    assert await talk.add("Re: Dinner", "b@x", day=1, **back) == first
    assert await talk.add("Dinner", "c@x", day=1, **back) != first, "no reply"
    strangers = {"From": "zoe@x.test", "To": "alex@x.test"}
    assert await talk.add("Re: Dinner", "d@x", day=1, **strangers) != first
    related = {"In_Reply_To": "<unknown@x>"}
    assert await talk.add("Re: Dinner", "e@x", day=1, **back, **related) != first


async def test_by_subject_a_thread_is_joined_only_for_two_months(world: World) -> None:
    talk = await make_talk(world)
    first = await talk.add("Dinner", "a@x")
    days = SUBJECT_WINDOW_MS // DAY_MS
    late = await talk.add("Re: Dinner", "z@x", day=days + 5)
    assert late != first
    assert await talk.add("Re: Dinner", "b@x", day=2) == first, "too long before the other"
    assert await talk.add("Re: Dinner", "c@x", day=days + 9) == late, "too long after the other"


async def test_messages_without_subject_are_not_thrown_together(world: World) -> None:
    talk = await make_talk(world)
    found = {await talk.add("Re:", f"{n}@x", day=n) for n in range(3)}
    found |= {await talk.add("", f"n{n}@x", day=n) for n in range(3)}
    assert len(found) == 6
    first = await talk.add("", "p@x")
    assert await talk.add("Re:", "q@x", In_Reply_To="<p@x>") == first


async def test_a_full_thread_is_continued_in_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "EMAILS_PER_THREAD_MAX", 3)
    talk = await make_talk(world)
    found = [await talk.add("Dinner", "r@x")]
    found += [await talk.add("Re: Dinner", f"{n}@x", In_Reply_To="<r@x>") for n in range(6)]
    sizes = [found.count(thread) for thread in dict.fromkeys(found)]
    assert sizes == [3, 3, 1]


async def test_robots_that_use_one_reference_for_everything_stay_affordable(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the newest Threads with a reference are looked at."""
    monkeypatch.setattr(threading, "CANDIDATES_MAX", 3)
    assert CANDIDATES_MAX >= 3
    talk = await make_talk(world)
    robot: dict[str, Any] = {"References": "<same@robot.test>"}
    found = [await talk.add(f"Build {n}", f"{n}@x", **robot) for n in range(6)]
    assert len(set(found)) == 6
    assert await talk.add("Re: Build 5", "x@x", **robot) == found[5]
    assert await talk.add("Re: Build 0", "y@x", **robot) not in found


async def test_a_message_with_hundreds_of_references_comes_in(world: World) -> None:
    talk = await make_talk(world)
    many = "\r\n ".join(f"<{n}@x>" for n in range(300))
    first = await talk.add("Dinner", "a@x", In_Reply_To=many)
    assert await talk.add("Re: Dinner", "299@x") == first
    assert await talk.add("Dinner", "b@x", References=many) == first
