"""Email/query and /queryChanges: every filter and sort against a plain model of what they mean.

The model knows only what Email/get and Thread/get say. Source: RFC 8621 s4.4, s4.5
"""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.jmap.mail_fixture import make_raw
from tests.world import World
from tindra.base import limits
from tindra.core.ports import Page, StoreReader
from tindra.features.mail import email_query
from tindra.features.mail.threading import make_base_subject
from tindra.model.mail import EmailQuery
from tindra.wire.jmap.date import parse_utc_date

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
WORDS = ("apple", "berry", "cedar", "delta", "élan")
KEYWORDS = ("$seen", "$flagged", "work", "$draft")
COLORS = ("red", "green", None)
_FIELDS = ("from", "to", "cc", "bcc")


def _plain(text: str) -> str:
    """Without case and the one accent that our words have."""
    return text.lower().replace("é", "e")


class Shelf:
    """Emails that differ in everything a filter can look at, and the model of a query."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.boxes: list[str] = []
        self.colors: dict[str, str | None] = {}
        self.emails: dict[str, dict[str, Any]] = {}
        self.threads: dict[str, list[str]] = {}
        self.count = 0

    async def ask(self, name: str, **arguments: Any) -> dict[str, Any]:
        """One method call that must succeed and wakes no device."""
        given = {"accountId": self.world.account_id} | arguments
        [[answered, result, _]] = (await self.world.raw_request([[name, given, "0"]]))[
            "methodResponses"
        ]
        assert answered == name, result
        return dict(result)

    async def fill(self, count: int) -> None:
        """Three Mailboxes and `count` Emails."""
        for name, role in (("Inbox", "inbox"), ("Trash", "trash"), ("Archive", "archive")):
            self.boxes.append(await self.world.add_mailbox(name, role=role))
        for number in range(count):
            await self.add(number)
        await self.learn()

    async def add(self, seed: int) -> str:
        """One more Email; the same seed gives nearly the same one."""
        n = self.count = self.count + 1
        word, other = WORDS[seed % 5], WORDS[seed * 3 % 5]
        color = COLORS[seed % 3]
        fields = {
            "From": f"{word} Person <{other}@x.test>" if seed % 4 else f"{word}@x.test",
            "To": f"{other} <to{seed % 2}@x.test>, {word}@x.test" if seed % 5 else "",
            "Cc": f"{word} Copy <cc@x.test>" if seed % 3 == 0 else "",
            "Bcc": f"{other} Blind <bcc@x.test>" if seed % 4 == 1 else "",
            "Date": f"Wed, {18 - seed % 7} Nov 2026 10:00:00 +0100" if seed % 6 else "",
            "X-Color": f"very {color} thing" if color else "",
            "In-Reply-To": f"<m{n - 2}@x>" if seed % 3 == 1 else "",
        }
        if seed % 4 == 2:
            fields |= {"Content-Type": "application/pdf", "Content-Disposition": "attachment"}
        subject = f"{'Re: ' if seed % 3 == 1 else ''}{other} talk"
        raw = make_raw(subject, f"m{n}@x", f"{word} body {'x' * (seed * 7 % 50)}\r\n", **fields)
        email_id = await self.world.add_email(
            self.boxes[seed % 3],
            raw,
            tuple(keyword for bit, keyword in enumerate(KEYWORDS) if seed >> bit & 1),
            receivedAt=f"2026-03-{1 + seed % 5:02}T10:00:0{seed % 2}Z",
            mailboxIds={self.boxes[seed % 3]: True, self.boxes[seed * 2 % 3]: True},
        )
        self.colors[email_id] = f"very {color} thing" if color else None
        return email_id

    async def learn(self) -> None:
        """What Email/get and Thread/get say now."""
        names = [
            "threadId", "mailboxIds", "keywords", "size", "receivedAt", "from", "to", "cc", "bcc",
            "subject", "sentAt", "hasAttachment", "bodyValues", "header:X-Color:asText",
        ]  # fmt: skip
        got = await self.ask("Email/get", ids=None, properties=names, fetchTextBodyValues=True)
        self.emails = {email["id"]: email for email in got["list"]}
        got = await self.ask("Thread/get", ids=None)
        self.threads = {thread["id"]: thread["emailIds"] for thread in got["list"]}

    # -- the model -----------------------------------------------------------------------------
    def matches(self, filter: Any, email: dict[str, Any]) -> bool:
        """Whether an Email matches. Source: RFC 8620 s5.5"""
        if filter is None:
            return True
        if "operator" in filter:
            found = [self.matches(item, email) for item in filter["conditions"]]
            if filter["operator"] == "AND":
                return all(found)
            return any(found) if filter["operator"] == "OR" else not any(found)
        return all(self._holds(name, value, email) for name, value in filter.items())

    def _holds(self, name: str, value: Any, email: dict[str, Any]) -> bool:
        """One condition. Source: RFC 8621 s4.4.1"""
        received = parse_utc_date(email["receivedAt"]) or 0
        thread = [self.emails[id]["keywords"] for id in self.threads[email["threadId"]]]
        match name:
            case "inMailbox":
                return value in email["mailboxIds"]
            case "inMailboxOtherThan":
                return any(id not in value for id in email["mailboxIds"])
            case "before":
                return received < (parse_utc_date(value) or 0)
            case "after":
                return received >= (parse_utc_date(value) or 0)
            case "minSize":
                return bool(email["size"] >= value)
            case "maxSize":
                return bool(email["size"] < value)
            case "hasKeyword":
                return value.lower() in email["keywords"]
            case "notKeyword":
                return value.lower() not in email["keywords"]
            case "allInThreadHaveKeyword":
                return all(value.lower() in keywords for keywords in thread)
            case "someInThreadHaveKeyword":
                return any(value.lower() in keywords for keywords in thread)
            case "noneInThreadHaveKeyword":
                return not any(value.lower() in keywords for keywords in thread)
            case "hasAttachment":
                return bool(email["hasAttachment"] is value)
            case "header":
                found = email["header:X-Color:asText"]
                is_there = value[0].lower() == "x-color" and found is not None
                return is_there and (len(value) == 1 or value[1].lower() in found)
        columns = self._texts(email)
        texts = columns.values() if name == "text" else [columns[name]]
        return all(
            any(word in _plain(text).split() for text in texts) for word in _plain(value).split()
        )

    def _texts(self, email: dict[str, Any]) -> dict[str, str]:
        """Column -> its words, as far as our words go."""
        found = {
            name: " ".join(
                f"{a['name'] or ''} {a['email'].replace('@', ' ')}" for a in email[name] or ()
            )
            for name in _FIELDS
        }
        body = " ".join(value["value"] for value in email["bodyValues"].values())
        return found | {"subject": email["subject"], "body": body}

    def key(self, comparator: dict[str, Any], email: dict[str, Any]) -> Any:
        """What a comparator compares. Source: RFC 8621 s4.4.2"""
        name, keyword = comparator["property"], comparator.get("keyword", "").lower()
        thread = [self.emails[id]["keywords"] for id in self.threads[email["threadId"]]]
        match name:
            case "receivedAt" | "size":
                return email[name]
            case "sentAt":
                # Without a Date field it is ordered by its arrival.
                text = email["sentAt"]
                moment = email["receivedAt"] if text is None else text.replace("+01:00", "Z")
                shift = 0 if text is None else 3_600_000
                return (parse_utc_date(moment) or 0) - shift
            case "from" | "to":
                first = (email[name] or [None])[0]
                return (first["name"] or first["email"]).casefold() if first else ""
            case "subject":
                return make_base_subject(email["subject"])[0].casefold()
            case "hasKeyword":
                return keyword in email["keywords"]
            case "allInThreadHaveKeyword":
                return all(keyword in keywords for keywords in thread)
        return any(keyword in keywords for keywords in thread)

    def check_result(self, ids: list[str], filter: Any, sort: list[dict[str, Any]]) -> None:
        """Whether `ids` is what an uncollapsed query may give."""
        expected = {id for id, email in self.emails.items() if self.matches(filter, email)}
        assert set(ids) == expected
        assert len(ids) == len(expected)
        keys = [[self.key(c, self.emails[id]) for c in sort] for id in ids]
        for first, second in pairwise(keys):
            for one, two, comparator in zip(first, second, sort, strict=True):
                if one != two:
                    assert (one < two) == comparator.get("isAscending", True), (comparator, keys)
                    break


def conditions(shelf: Shelf, *, with_text: bool = True) -> st.SearchStrategy[dict[str, Any]]:
    """FilterConditions with any of the properties of the RFC."""
    boxes = st.sampled_from([*shelf.boxes, "m0nothing"])
    dates = st.sampled_from([f"2026-03-0{day}T10:00:0{s}Z" for day in range(1, 7) for s in (0, 1)])
    sizes = st.integers(150, 420)
    keywords = st.sampled_from([*KEYWORDS, "$SEEN", "Work", "other"])
    texts = st.sampled_from([*WORDS, "elan", "APPLE", "berry talk", "talk", "person", "nothing"])
    headers = st.sampled_from(
        [["X-Color"], ["x-color", "RED"], ["X-COLOR", "very"], ["X-Color", "n thi"], ["X-None"]]
    )
    known: dict[str, st.SearchStrategy[Any]] = {
        "inMailbox": boxes,
        "inMailboxOtherThan": st.lists(boxes, max_size=3),
        "before": dates,
        "after": dates,
        "minSize": sizes,
        "maxSize": sizes,
        "hasAttachment": st.booleans(),
        "header": headers,
    }
    known |= dict.fromkeys(
        ["hasKeyword", "notKeyword", "allInThreadHaveKeyword", "someInThreadHaveKeyword",
         "noneInThreadHaveKeyword"],
        keywords,
    )  # fmt: skip
    if with_text:
        known |= dict.fromkeys([*_FIELDS, "subject", "body", "text"], texts)
    one = st.sampled_from(sorted(known)).flatmap(
        lambda name: known[name].map(lambda value: {name: value})
    )
    return st.lists(one, max_size=3).map(lambda found: {k: v for c in found for k, v in c.items()})


def filters(shelf: Shelf, *, with_text: bool = True) -> st.SearchStrategy[Any]:
    """Filters of any shape."""
    leaves = conditions(shelf, with_text=with_text)
    trees = st.recursive(
        leaves,
        lambda inner: st.builds(
            lambda operator, parts: {"operator": operator, "conditions": parts},
            st.sampled_from(["AND", "OR", "NOT"]),
            st.lists(inner, max_size=3),
        ),
        max_leaves=6,
    )
    return st.none() | leaves | trees


def sorts() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Up to three comparators."""
    plain = st.sampled_from(["receivedAt", "size", "from", "to", "subject", "sentAt"])
    by_keyword = st.sampled_from(
        ["hasKeyword", "allInThreadHaveKeyword", "someInThreadHaveKeyword"]
    )
    up = st.fixed_dictionaries({}, optional={"isAscending": st.booleans()})
    one = st.builds(lambda name, more: {"property": name} | more, plain, up)
    two = st.builds(
        lambda name, keyword, more: {"property": name, "keyword": keyword} | more,
        by_keyword,
        st.sampled_from(KEYWORDS),
        up,
    )
    return st.lists(one | two, max_size=3)


@pytest.fixture
def shelf(runner: asyncio.Runner, world: World) -> Shelf:
    """Eighteen Emails."""
    made = Shelf(world)
    runner.run(made.fill(18))
    return made


def test_any_filter_and_sort_give_what_the_properties_say(
    runner: asyncio.Runner, shelf: Shelf
) -> None:
    async def check(filter: Any, sort: list[dict[str, Any]], position: int, limit: int) -> None:
        query = {"filter": filter, "sort": sort, "calculateTotal": True}
        whole = await shelf.ask("Email/query", **query)
        shelf.check_result(whole["ids"], filter, sort)
        assert whole["total"] == len(whole["ids"])
        part = await shelf.ask("Email/query", **query, position=position, limit=limit)
        start = max(0, len(whole["ids"]) + position) if position < 0 else position
        assert part["ids"] == whole["ids"][start : start + limit]
        assert (part["position"], part["total"]) == (start, whole["total"])
        await check_collapsed(whole["ids"], query, position, limit)

    async def check_collapsed(
        ids: list[str], query: dict[str, Any], position: int, limit: int
    ) -> None:
        query = query | {"collapseThreads": True}
        whole = await shelf.ask("Email/query", **query)
        first = {shelf.emails[id]["threadId"]: id for id in reversed(ids)}
        assert whole["ids"] == [id for id in ids if id in first.values()]
        assert whole["total"] == len(whole["ids"])
        if ids:
            anchor = whole["ids"][position % len(whole["ids"])]
            part = await shelf.ask(
                "Email/query", **query, anchor=anchor, anchorOffset=-2, limit=limit
            )
            start = max(0, whole["ids"].index(anchor) - 2)
            assert part["ids"] == whole["ids"][start : start + limit]

    @FUZZ
    @given(filters(shelf), sorts(), st.integers(-20, 20), st.integers(0, 20))
    def run(filter: Any, sort: list[dict[str, Any]], position: int, limit: int) -> None:
        runner.run(check(filter, sort, position, limit))

    run()


@pytest.mark.parametrize("with_tree", [False, True])
def test_each_condition_alone_and_under_not_gives_both_halves(
    runner: asyncio.Runner, shelf: Shelf, with_tree: bool
) -> None:
    everything = set(shelf.emails)

    async def ask(filter: Any) -> list[str]:
        return list((await shelf.ask("Email/query", filter=filter))["ids"])

    @FUZZ
    @given(filters(shelf) if with_tree else conditions(shelf))
    def run(filter: Any) -> None:
        filter = {} if filter is None else filter
        yes = runner.run(ask(filter))
        no = runner.run(ask({"operator": "NOT", "conditions": [filter]}))
        assert set(yes) | set(no) == everything
        assert not set(yes) & set(no)

    run()


def test_query_changes_spliced_in_are_a_fresh_query(runner: asyncio.Runner, shelf: Shelf) -> None:
    """Whatever was written in between, to whatever Email."""
    actions = st.lists(
        st.tuples(st.sampled_from(["mark", "mark", "move", "add", "destroy"]), st.integers(0, 99)),
        min_size=1,
        max_size=4,
    )

    @settings(FUZZ, max_examples=60)
    @given(filters(shelf, with_text=False), sorts(), st.booleans(), actions)
    def run(filter: Any, sort: Any, collapse: bool, steps: list[tuple[str, int]]) -> None:
        query = {"filter": filter, "sort": sort, "collapseThreads": collapse}
        runner.run(_check_changes(shelf, query, steps))

    run()


async def _check_changes(shelf: Shelf, query: dict[str, Any], steps: list[tuple[str, int]]) -> None:
    before = await shelf.ask("Email/query", **query)
    assert before["canCalculateChanges"] is True
    for step, number in steps:
        await _write(shelf, step, number)
    found = await shelf.ask(
        "Email/queryChanges",
        **query,
        sinceQueryState=before["queryState"],
        calculateTotal=True,
    )
    ids = [id for id in before["ids"] if id not in set(found["removed"])]
    indexes = [item["index"] for item in found["added"]]
    assert indexes == sorted(indexes)
    for item in found["added"]:
        ids.insert(item["index"], item["id"])
    after = await shelf.ask("Email/query", **query, calculateTotal=True)
    assert ids == after["ids"]
    assert found["total"] == after["total"]
    assert found["newQueryState"] == after["queryState"]


async def _write(shelf: Shelf, step: str, number: int) -> None:
    emails = sorted((await shelf.ask("Email/query", limit=1000))["ids"])
    id = emails[number % len(emails)]
    box = shelf.boxes[number % 3]
    if step == "add" and len(emails) < 40:
        await shelf.add(number)
    elif step == "destroy" and len(emails) > 12 and shelf.count < 60:
        shelf.count += 1
        await shelf.ask("Email/set", destroy=[id])
    elif step == "mark":
        value = True if number % 2 else None
        patch = {f"keywords/{KEYWORDS[number % 4]}": value}
        await shelf.ask("Email/set", update={id: patch})
    elif step == "move":
        await shelf.ask("Email/set", update={id: {"mailboxIds": {box: True}}})


# -- single rules ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "condition",
    [
        {"inMailbox": 5}, {"inMailbox": None}, {"inMailbox": []}, {"inMailbox": ""},
        {"inMailbox": "a b"}, {"inMailboxOtherThan": "m1"}, {"inMailboxOtherThan": [5]},
        {"inMailboxOtherThan": None}, {"inMailboxOtherThan": [""]}, {"before": "2026-01-01"},
        {"before": 5}, {"after": None}, {"after": "2026-01-01T00:00:00+01:00"}, {"minSize": -1},
        {"minSize": 1.5}, {"minSize": "1"}, {"maxSize": True}, {"maxSize": 2**53},
        {"maxSize": None}, {"hasKeyword": ""}, {"hasKeyword": "a b"}, {"hasKeyword": 5},
        {"notKeyword": "é"}, {"notKeyword": ["$seen"]}, {"allInThreadHaveKeyword": "x" * 256},
        {"someInThreadHaveKeyword": None}, {"noneInThreadHaveKeyword": "("},
        {"hasAttachment": 1}, {"hasAttachment": "true"}, {"hasAttachment": None}, {"text": 5},
        {"text": None}, {"text": ["a"]}, {"from": {}}, {"to": True}, {"cc": []}, {"bcc": 1},
        {"subject": None}, {"body": 0}, {"header": "X"}, {"header": []},
        {"header": ["a", "b", "c"]}, {"header": [5]}, {"header": ["a", None]}, {"header": {}},
    ],
)  # fmt: skip
async def test_a_condition_of_the_wrong_kind_is_refused_however_deep(
    world: World, condition: dict[str, Any]
) -> None:
    deep = {"operator": "NOT", "conditions": [{"operator": "OR", "conditions": [condition]}]}
    for filter in (condition, deep):
        error = await world.fail("Email/query", filter=filter)
        assert error["type"] == "invalidArguments", filter


@pytest.mark.parametrize(
    "comparator",
    [
        {"property": "hasKeyword"},
        {"property": "hasKeyword", "keyword": ""},
        {"property": "hasKeyword", "keyword": 5},
        {"property": "someInThreadHaveKeyword", "keyword": None},
        {"property": "allInThreadHaveKeyword", "keyword": "a b"},
        {"property": "receivedAt", "keyword": "$seen"},
    ],
)
async def test_a_sort_by_keyword_needs_one_and_no_other_sort_takes_it(
    world: World, comparator: dict[str, Any]
) -> None:
    error = await world.fail("Email/query", sort=[comparator])
    assert error["type"] == "invalidArguments"


async def test_the_session_names_the_sorts_there_are(world: World) -> None:
    access = world.caller.accounts[world.account_id]
    told = world.registry.list_account_capabilities(world.caller, access)
    for name in told["urn:ietf:params:jmap:mail"]["emailQuerySortOptions"]:
        more = {"keyword": "x"} if "Keyword" in name else {}
        assert await world.call("Email/query", sort=[{"property": name} | more])


async def test_the_example_sort_of_the_rfc(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    ids = {}
    for name, subject, day, flagged in (
        ("a", "Beta", 1, False),
        ("b", "alpha", 2, False),
        ("c", "Re: Beta", 3, False),
        ("d", "Zeta", 1, True),
        ("e", "ALPHA", 4, False),
    ):
        ids[name] = await world.add_email(
            inbox,
            make_raw(subject, f"{name}@x"),
            ("$flagged",) if flagged else (),
            receivedAt=f"2026-03-0{day}T00:00:00Z",
        )
    sort = [
        {"property": "someInThreadHaveKeyword", "keyword": "$flagged", "isAscending": False},
        {"property": "subject", "collation": "i;ascii-casemap"},
        {"property": "receivedAt", "isAscending": False},
    ]
    found = await world.call("Email/query", sort=sort)
    assert found["ids"] == [ids[name] for name in "debca"]


async def test_words_phrases_and_prefixes(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    one = await world.add_email(inbox, make_raw("Big red apple", "1@x", "Sold in Örebro\r\n"))
    two = await world.add_email(inbox, make_raw("Red big apples", "2@x", "会議は明日です\r\n"))
    for text, expected in (
        ("red", [one, two]),
        ("RED Big", [one, two]),
        ('"big red"', [one]),
        ("'red big'", [two]),
        ("apple", [one]),
        ("apple*", [one, two]),
        ("orebro", [one]),
        ("örebro", [one]),
        ("会議", [two]),
        ("明日", [two]),
        ("red nothing", []),
        ("", []),
        ("!!!", []),
        ('"', []),
        ("AND OR NOT", []),
        ("body:red", []),
        ("red*big", [two]),
    ):
        found = await world.call("Email/query", filter={"text": text})
        assert sorted(found["ids"]) == sorted(expected), text
    assert found["canCalculateChanges"] is False
    error = await world.fail("Email/queryChanges", filter={"text": "red"}, sinceQueryState="1")
    assert error["type"] == "cannotCalculateChanges"


async def test_a_header_is_looked_for_wherever_the_condition_stands(world: World) -> None:
    inbox, other = await world.add_mailbox("Inbox", role="inbox"), await world.add_mailbox("Other")
    red = await world.add_email(inbox, make_raw("1", "1@x", X_Color="red", X_Shape="round"))
    blue = await world.add_email(inbox, make_raw("2", "2@x", X_Color="blue"))
    plain = await world.add_email(inbox, make_raw("3", "3@x", "X-Color: red\r\n"))
    away = await world.add_email(other, make_raw("4", "4@x", X_Color="=?utf-8?q?r=65d?="))
    has_color, is_red = {"header": ["x-color"]}, {"header": ["X-Color", "RED"]}
    here = {"inMailbox": inbox}
    for filter, expected in (
        (has_color, [red, blue, away]),
        (is_red, [red, away]),
        (is_red | here, [red]),
        ({"operator": "AND", "conditions": [here, is_red]}, [red]),
        ({"operator": "NOT", "conditions": [is_red]}, [blue, plain]),
        ({"operator": "NOT", "conditions": [is_red | here]}, [blue, plain, away]),
        (
            {"operator": "AND", "conditions": [here, {"operator": "NOT", "conditions": [is_red]}]},
            [blue, plain],
        ),
        (
            {"operator": "NOT", "conditions": [{"operator": "AND", "conditions": [here, is_red]}]},
            [blue, plain, away],
        ),
        (
            {"operator": "OR", "conditions": [is_red, {"header": ["X-Color", "blue"]}]},
            [red, blue, away],
        ),
        ({"operator": "AND", "conditions": [is_red, {"header": ["X-Shape"]}]}, [red]),
        ({"header": ["X-Color", ""]}, [red, blue, away]),
        ({"header": ["Subject", "3"]}, [plain]),
        ({"header": [""]}, []),
        ({"header": ["é"]}, []),
        ({"header": ["X-Color:"]}, []),
    ):  # fmt: skip
        found = await world.call("Email/query", filter=filter, calculateTotal=True)
        assert sorted(found["ids"]) == sorted(expected), filter
        assert found["total"] == len(expected)


async def test_a_header_of_a_large_message_is_found_too(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    raw = make_raw("Big", "1@x", "x" * (limits.BLOB_INLINE_BYTES_MAX * 2), X_Color="red")
    big = await world.add_email(inbox, raw)
    assert (await world.call("Email/query", filter={"header": ["X-Color", "red"]}))["ids"] == [big]


async def test_a_header_filter_that_would_read_too_many_messages_is_unsupported(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox, other = await world.add_mailbox("Inbox", role="inbox"), await world.add_mailbox("Other")
    first = await world.add_email(inbox, make_raw("0", "0@x", X_Color="red"))
    for n in range(1, 5):
        await world.add_email(other, make_raw(str(n), f"{n}@x", X_Color="red"))
    monkeypatch.setattr(email_query, "HEADER_SCAN_EMAILS_MAX", 3)
    error = await world.fail("Email/query", filter={"header": ["X-Color"]})
    assert error["type"] == "unsupportedFilter"
    narrow = {"operator": "AND", "conditions": [{"inMailbox": inbox}, {"header": ["X-Color"]}]}
    assert (await world.call("Email/query", filter=narrow))["ids"] == [first]
    # Many conditions are no way around it.
    many = [{"inMailbox": inbox, "header": ["X-Color", str(n)]} for n in range(4)]
    error = await world.fail("Email/query", filter={"operator": "OR", "conditions": many})
    assert error["type"] == "unsupportedFilter"


async def test_a_header_filter_for_a_very_long_text_is_unsupported(world: World) -> None:
    error = await world.fail("Email/query", filter={"header": ["X", "a" * 1001]})
    assert error["type"] == "unsupportedFilter"


async def test_mail_that_comes_while_headers_are_read_is_looked_at_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    first = await world.add_email(inbox, make_raw("1", "1@x", X_Color="red"))
    late: list[str] = []
    load = email_query._HeaderScan._load_heads

    async def load_and_add(scan: Any, docs: list[int]) -> Any:
        found = await load(scan, docs)
        if not late:
            late.append("")
            late[0] = await world.add_email(inbox, make_raw("2", "2@x", X_Color="red"))
        return found

    monkeypatch.setattr(email_query._HeaderScan, "_load_heads", load_and_add)
    found = await world.call("Email/query", filter={"header": ["X-Color", "red"]})
    assert sorted(found["ids"]) == sorted([first, late[0]])
    assert found["queryState"] == (await world.call("Email/get", ids=[]))["state"]


async def test_an_account_that_never_stands_still_is_told_to_come_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    await world.add_email(inbox, make_raw("0", "0@x", X_Color="red"))
    list_candidates = email_query._HeaderScan._list_candidates
    count = 0

    async def list_and_add(scan: Any, filter: Any) -> Any:
        nonlocal count
        count += 1
        await world.add_email(inbox, make_raw(f"{count}", f"m{count}@x"))
        return await list_candidates(scan, filter)

    monkeypatch.setattr(email_query._HeaderScan, "_list_candidates", list_and_add)
    error = await world.fail("Email/query", filter={"header": ["X-Color"]})
    assert error["type"] == "serverUnavailable"


async def test_while_the_index_lags_behind_no_two_answers_have_one_state(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    await world.add_email(inbox, make_raw("Hello"))
    query = {"filter": {"subject": "hello"}}
    done = await world.call("Email/query", **query)
    assert done["queryState"] == (await world.call("Email/get", ids=[]))["state"]

    async def never_done(*_: Any) -> bool:
        return False

    monkeypatch.setattr(email_query, "run_index_catch_up", never_done)
    one = await world.call("Email/query", **query)
    world.clock.advance(1)
    two = await world.call("Email/query", **query)
    assert len({done["queryState"], one["queryState"], two["queryState"]}) == 3
    for state in (one["queryState"], two["queryState"]):
        error = await world.fail("Email/queryChanges", sinceQueryState=state)
        assert error["type"] == "cannotCalculateChanges"


async def test_the_total_of_a_mailbox_is_its_counter(world: World) -> None:
    shelf = Shelf(world)
    await shelf.fill(12)
    for box in shelf.boxes:
        [counted] = (await world.call("Mailbox/get", ids=[box]))["list"]
        for collapse, name in ((False, "totalEmails"), (True, "totalThreads")):
            found = await world.call(
                "Email/query",
                filter={"inMailbox": box},
                collapseThreads=collapse,
                calculateTotal=True,
                limit=1,
            )
            assert found["total"] == counted[name]
            assert len(found["ids"]) == 1


async def test_reading_the_beginning_of_a_mailbox_never_reads_it_all(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is asked for the window, not for everything."""
    shelf = Shelf(world)
    await shelf.fill(6)
    asked: list[Page[int]] = []
    real = world.services.store.read

    async def spy(account_id: Any, fn: Any, **options: Any) -> Any:
        async def run(reader: StoreReader) -> Any:
            query_page = reader.query_page

            async def spied(query: EmailQuery, page: Page[int], has_total: bool) -> Any:
                asked.append(page)
                return await query_page(query, page, has_total)

            monkeypatch.setattr(reader, "query_page", spied)
            return await fn(reader)

        return await real(account_id, run, **options)

    monkeypatch.setattr(world.services.store, "read", spy)
    await world.call("Email/query", filter={"inMailbox": shelf.boxes[0]}, position=2, limit=3)
    assert asked == [Page(position=2, limit=3)]
    monkeypatch.undo()
