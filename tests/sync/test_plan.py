"""The pure heart of the mirror: three views in, operations out."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tests.virtual_clock import SeededRandom
from tindra.base.ids import BlobId, EmailId, MailboxId, ThreadId
from tindra.model.mail import EmailRow, MailboxRow, RemoteRow, encode_email_id
from tindra.sync.patience import PARKED_MS, BackfillGate, Patience
from tindra.sync.plan import (
    BRAKE_HANDFUL,
    BRAKE_MESSAGES_MIN,
    GHOST_LOST,
    GHOST_UNSEEN,
    PushPlan,
    decide_mailboxes_gone,
    decide_vanished,
    find_home,
    find_place,
    is_ghost,
    make_flag,
    make_ghost,
    make_keywords,
    match_renames,
    merge_places,
    merge_sets,
    plan_mailboxes,
    plan_push,
)
from tindra.sync.ports import RemoteMailbox

MAILBOXES = tuple(MailboxId(f"m{n}") for n in range(5))
MIRRORED = frozenset(MAILBOXES[:4])
DOC = 77 << 20
EMAIL_ID = encode_email_id(DOC)
words = st.sets(st.sampled_from(["$seen", "$flagged", "a", "b"]))
places = st.sets(st.sampled_from(MAILBOXES))


def make_email(mailbox_ids: set[MailboxId], keywords: set[str]) -> EmailRow:
    return EmailRow(
        DOC, BlobId("b"), ThreadId("t"), tuple(sorted(mailbox_ids)), tuple(sorted(keywords)),
        0, 1, 0, "", "", "", False,
    )  # fmt: skip


@st.composite
def base_rows(draw: st.DrawFn) -> list[RemoteRow]:
    """Rows of one Email: several places, twins, ghosts."""
    rows = [
        RemoteRow(mailbox_id, uid, EmailId(EMAIL_ID), tuple(sorted(draw(words))))
        for uid, mailbox_id in enumerate(draw(st.lists(st.sampled_from(sorted(MIRRORED)))), 1)
    ]
    ghosts = draw(st.sets(st.sampled_from(sorted(MIRRORED))))
    return rows + [
        make_ghost(RemoteRow(id, 1, EmailId(EMAIL_ID), ()), draw(st.sampled_from([0, 1])))
        for id in ghosts
    ]


locals_ = st.builds(make_email, st.sets(st.sampled_from(MAILBOXES), min_size=1), words)


def carry_out(plan: PushPlan, base: list[RemoteRow], local: EmailRow | None) -> list[RemoteRow]:
    """What base is after a provider did as planned, in the order of the plan."""
    rows = {(r.mailbox_id, r.uid): r for r in base}
    next_uid = 1000
    for push in plan.keywords:
        key = (push.row.mailbox_id, push.row.uid)
        keywords = (set(rows[key].keywords) | set(push.add)) - set(push.remove)
        rows[key] = msgspec.structs.replace(rows[key], keywords=tuple(sorted(keywords)))
    for place in plan.places:
        source = None if place.row is None else (place.row.mailbox_id, place.row.uid)
        if source is not None:
            assert source in rows, "what is taken from is still there"
        moved = rows[source] if source is not None else None
        if place.kind in ("move", "expunge"):
            assert source is not None
            del rows[source]
        if place.mailbox_id is not None:
            next_uid += 1
            own = local.keywords if local is not None else ()
            kept = moved.keywords if moved is not None else own
            id = MailboxId(place.mailbox_id)
            rows[id, next_uid] = RemoteRow(id, next_uid, EmailId(EMAIL_ID), kept)
    return list(rows.values())


# -- push ------------------------------------------------------------------------------------------
@given(locals_ | st.none(), base_rows())
def test_a_plan_that_was_carried_out_leaves_nothing_to_do(
    local: EmailRow | None, base: list[RemoteRow]
) -> None:
    after = carry_out(plan_push(local, base, MIRRORED), base, local)
    assert plan_push(local, after, MIRRORED).is_empty


@given(locals_, base_rows())
def test_a_plan_never_takes_away_the_last_copy(local: EmailRow, base: list[RemoteRow]) -> None:
    had = [row for row in base if not is_ghost(row)]
    left = carry_out(plan_push(local, base, MIRRORED), base, local)
    has = [row for row in left if not is_ghost(row)]
    assert has or not had


@given(locals_, base_rows())
def test_the_provider_ends_with_what_the_device_has(local: EmailRow, base: list[RemoteRow]) -> None:
    wanted = set(local.mailbox_ids) & MIRRORED
    after = [r for r in carry_out(plan_push(local, base, MIRRORED), base, local) if not is_ghost(r)]
    ghosts = {find_home(row) for row in base if is_ghost(row)}
    if wanted - ghosts:
        assert wanted - ghosts <= {row.mailbox_id for row in after} <= wanted
    for row in after:
        assert row.keywords == local.keywords


def test_copies_are_made_before_the_source_moves_on() -> None:
    base = [RemoteRow(MAILBOXES[0], 1, EmailId(EMAIL_ID), ())]
    plan = plan_push(make_email({MAILBOXES[1], MAILBOXES[2]}, set()), base, MIRRORED)
    assert [place.kind for place in plan.places] == ["copy", "move"]


def test_nothing_is_put_where_a_message_just_vanished() -> None:
    ghost = make_ghost(RemoteRow(MAILBOXES[0], 1, EmailId(EMAIL_ID), ()), GHOST_LOST)
    assert plan_push(make_email({MAILBOXES[0]}, {"a"}), [ghost], MIRRORED).is_empty


# -- merging ---------------------------------------------------------------------------------------
@given(words, words, words)
def test_a_merge_loses_no_act_of_either_side(
    remote: set[str], base: set[str], local: set[str]
) -> None:
    merged = set(merge_sets(remote, base, local))
    assert local - base <= merged, "what a device added"
    assert not (base - local) & merged - (remote - base), "what a device took away"
    assert remote - base <= merged, "what another client added"
    assert not (base - remote) & merged, "what another client took away"


@given(words, words)
def test_a_merge_with_an_idle_side_is_the_other_side(one: set[str], base: set[str]) -> None:
    assert set(merge_sets(one, base, base)) == one
    assert set(merge_sets(base, base, one)) == one


@given(words, words, words)
def test_merging_again_changes_nothing(remote: set[str], base: set[str], local: set[str]) -> None:
    once = merge_sets(remote, base, local)
    assert merge_sets(remote, remote, once) == once


@given(
    st.sampled_from(sorted(MIRRORED)), base_rows(), st.sets(st.sampled_from(MAILBOXES), min_size=1)
)
def test_an_email_that_turns_up_is_somewhere_and_what_a_device_added_stays(
    found: MailboxId, base: list[RemoteRow], local: set[MailboxId]
) -> None:
    now = {row.mailbox_id for row in base if not is_ghost(row)} | {found}
    merged = set(merge_places(now, base, tuple(sorted(local))))
    was = {find_home(row) for row in base}
    assert merged
    assert local - was <= merged
    unseen = {find_home(r) for r in base if is_ghost(r) and r.modseq == GHOST_UNSEEN}
    lost = was - now - unseen
    assert not lost & merged or merged == now


@given(
    st.sets(st.sampled_from(["\\Seen", "\\FLAGGED", "\\Deleted", "\\Recent", "Work", "$MDNSent"]))
)
def test_flags_become_keywords_and_back(flags: set[str]) -> None:
    keywords = make_keywords(flags)
    assert keywords == make_keywords(make_flag(keyword) for keyword in keywords)
    assert all(keyword == keyword.lower() for keyword in keywords)
    assert not any("\\" in keyword for keyword in keywords)


# -- the brake -------------------------------------------------------------------------------------
@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_the_brake_holds_what_is_much_and_new(known: int, gone: int) -> None:
    gone = min(known, gone)
    decision = decide_vanished(known, gone, is_confirmed=False)
    assert decision == ("hold" if gone > BRAKE_MESSAGES_MIN and 2 * gone > known else "apply")
    assert decide_vanished(known, gone, is_confirmed=True) == "apply"


def test_a_few_mailboxes_may_go_at_once_and_most_may_not() -> None:
    assert decide_mailboxes_gone(2, 2, 0, False) == "apply"
    assert decide_mailboxes_gone(20, 10, BRAKE_HANDFUL, False) == "apply"
    assert decide_mailboxes_gone(20, 11, 0, False) == "hold"
    assert decide_mailboxes_gone(20, 11, 0, True) == "apply"


def test_a_single_mailbox_may_go_at_once_only_if_it_holds_next_to_nothing() -> None:
    assert decide_mailboxes_gone(20, 1, BRAKE_HANDFUL, False) == "apply"
    assert decide_mailboxes_gone(20, 1, BRAKE_HANDFUL + 1, False) == "hold"
    assert decide_mailboxes_gone(20, 1, 100_000, True) == "apply"


# -- the tree --------------------------------------------------------------------------------------
def listed(name: str, role: str | None = None) -> RemoteMailbox:
    return RemoteMailbox(name, "/", role, True)


names = st.sampled_from(["A", "A/B", "A/B/C", "D", "E", "INBOX"])


@given(st.dictionaries(names, st.sampled_from(MAILBOXES)))
def test_an_empty_list_plans_nothing(known: dict[str, str]) -> None:
    plan = plan_mailboxes([], known, {}, {})
    assert plan == ((), (), (), ())


@given(st.sets(names, min_size=1), st.sets(names))
def test_parents_come_before_their_children_and_nothing_is_made_twice(
    now: set[str], before: set[str]
) -> None:
    known = {name: f"m-{name}" for name in before}
    plan = plan_mailboxes([listed(name) for name in sorted(now, reverse=True)], known, {}, {})
    created = [item.name for item in plan.create]
    assert set(created) == now - before
    assert [name.count("/") for name in created] == sorted(name.count("/") for name in created)
    assert set(plan.forget) == {f"m-{name}" for name in before - now}


def test_a_rename_is_neither_a_loss_nor_a_new_mailbox() -> None:
    known = {"A": "m1", "A/B": "m2", "D": "m3"}
    renamed = match_renames({"A": 5, "A/B": 6}, {"N": 5, "N/B": 6, "X": 7})
    assert renamed == {"A": "N", "A/B": "N/B"}
    now = [listed(name) for name in ("N/B", "N", "X", "D")]
    plan = plan_mailboxes(now, known, {}, renamed)
    assert [(id, item.name) for id, item in plan.rename] == [("m1", "N"), ("m2", "N/B")]
    assert [item.name for item in plan.create] == ["X"]
    assert plan.forget == ()


def test_a_rename_that_leaves_doubt_is_none() -> None:
    assert match_renames({"A": 5, "B": 5}, {"N": 5}) == {}
    assert match_renames({"A": 5}, {"N": 5, "M": 5}) == {}
    assert match_renames({"A": 0}, {"N": 0}) == {}


def test_a_role_goes_only_where_none_is() -> None:
    rows = {
        "m1": MailboxRow(MailboxId("m1"), "Sent", None, None, 0, True),
        "m2": MailboxRow(MailboxId("m2"), "Trash", None, "trash", 0, True),
    }
    now = [listed("Sent", "sent"), listed("Trash", "archive")]
    plan = plan_mailboxes(now, {"Sent": "m1", "Trash": "m2"}, rows, {})
    assert plan.roles == (("m1", "sent"),)


def test_places_in_the_tree_follow_the_delimiter() -> None:
    assert find_place(listed("inbox"), {}) == (None, "Inbox")
    assert find_place(listed("A/B"), {"A": "m1"}) == ("m1", "B")
    assert find_place(listed("A/B"), {}) == (None, "A/B")
    assert find_place(RemoteMailbox("A/B", None, None, True), {"A": "m1"}) == (None, "A/B")


def test_what_was_left_out_is_tried_first_of_all_and_then_once_a_day() -> None:
    patience = Patience(SeededRandom())
    due = list(range(0, 3 * PARKED_MS, PARKED_MS // 4))
    assert [ms for ms in due if patience.is_parked_due(ms)] == [0, PARKED_MS, 2 * PARKED_MS]


def test_so_many_backfill_at_a_time_and_in_their_order() -> None:
    gate = BackfillGate(2)
    called: list[str] = []

    def ask(name: str) -> bool:
        return gate.try_enter(name, lambda: called.append(name))

    assert [ask("a"), ask("b"), ask("c"), ask("d")] == [True, True, False, False]
    gate.leave()
    assert called == ["c"]
    assert not ask("a"), "whoever left would be in again before those who waited"
    assert ask("c")
    gate.forget("d")
    gate.leave()
    assert called == ["c", "a"]
    assert ask("a")
    gate.leave()
    gate.leave()
    assert ask("e")
