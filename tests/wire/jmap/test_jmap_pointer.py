"""JSON pointers with `*`, and PatchObjects. Source: RFC 6901 s4, RFC 8620 s3.7, s5.3"""

from __future__ import annotations

import copy
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tindra.wire.jmap.pointer import (
    PatchError,
    PointerError,
    apply_patch,
    parse_pointer,
    resolve_pointer,
)

RFC_6901 = {
    "foo": ["bar", "baz"],
    "": 0,
    "a/b": 1,
    "c%d": 2,
    "e^f": 3,
    "g|h": 4,
    "i\\j": 5,
    'k"l': 6,
    " ": 7,
    "m~n": 8,
}


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", RFC_6901),
        ("/foo", ["bar", "baz"]),
        ("/foo/0", "bar"),
        ("/", 0),
        ("/a~1b", 1),
        ("/c%d", 2),
        ("/e^f", 3),
        ("/g|h", 4),
        ("/i\\j", 5),
        ('/k"l', 6),
        ("/ ", 7),
        ("/m~0n", 8),
    ],
)
def test_the_examples_of_rfc_6901(pointer: str, value: Any) -> None:
    assert resolve_pointer(RFC_6901, pointer) == value


TREE = {
    "list": [
        {"id": "a", "ids": ["1", "2"], "n": None},
        {"id": "b", "ids": ["3"], "n": 0},
        {"id": "c", "ids": [], "n": False},
    ],
    "nested": [[[1], [2]], [[3]]],
    "empty": [],
    "*": "star",
    "text": "plain",
}


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/list/*/id", ["a", "b", "c"]),
        ("/list/*/ids", ["1", "2", "3"]),
        ("/list/*/ids/*", ["1", "2", "3"]),
        ("/list/*/n", [None, 0, False]),
        ("/nested/*", [[1], [2], [3]]),
        ("/nested/*/*", [1, 2, 3]),
        ("/nested/*/*/*", [1, 2, 3]),
        ("/nested/*/0", [1, 3]),
        ("/empty/*", []),
        ("/empty/*/what/ever", []),
        ("/*", "star"),
    ],
)
def test_a_star_maps_and_flattens_one_level(pointer: str, value: Any) -> None:
    assert resolve_pointer(TREE, pointer) == value


@pytest.mark.parametrize(
    "pointer",
    [
        "list", "x", "#/list", "/~", "/~2", "/a~", "/list~1", "/nothing", "/list/3", "/list/-1",
        "/list/-", "/list/01", "/list/00", "/list/+1", "/list/1.0", "/list/ 1", "/list/", "/list/a",
        "/list/٣", "/list/²", "/list/99999999999999999999", "/list/**", "/list/*/nothing",
        "/list/*/ids/0", "/list/0/id/*", "/text/*", "/text/0", "/text/", "/list/0/n/x",
        "/nested/*/1", "/**", "/list/*/",
    ],
)  # fmt: skip
def test_a_pointer_that_is_malformed_or_leads_nowhere_is_refused(pointer: str) -> None:
    with pytest.raises(PointerError):
        resolve_pointer(TREE, pointer)


def test_stored_json_is_read_on_the_way() -> None:
    raws = [msgspec.Raw(b'{"id":"a","x":[1,2]}'), msgspec.Raw(b'{"id":"b","x":[3]}')]
    assert resolve_pointer({"list": raws}, "/list/*/id") == ["a", "b"]
    assert resolve_pointer({"list": raws}, "/list/*/x") == [1, 2, 3]
    assert resolve_pointer({"list": raws}, "/list/1") == {"id": "b", "x": [3]}


def test_errors_stay_short_whatever_the_pointer_is() -> None:
    for pointer in ("x" * 10**6, "/" + "x" * 10**6, "/list/" + "9" * 10**6, "/~" + "x" * 10**6):
        with pytest.raises(PointerError) as caught:
            resolve_pointer(TREE, pointer)
        assert len(str(caught.value)) < 400


def test_a_long_pointer_over_many_lists_costs_no_product_of_the_two() -> None:
    document = {"a": [[] for _ in range(20_000)]}
    start = time.perf_counter()
    assert resolve_pointer(document, "/a/*/*" + "/x" * 20_000) == []
    assert time.perf_counter() - start < 2


_TREES = st.recursive(
    st.none() | st.integers(0, 3) | st.text("ab", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab/~*0", max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(_TREES, st.text("ab/~*01", max_size=8))
def test_any_pointer_gives_a_value_or_a_pointer_error(document: Any, text: str) -> None:
    try:
        resolve_pointer({"d": document}, text)
    except PointerError:
        pass


@given(_TREES)
def test_every_place_of_a_document_has_its_pointer(document: Any) -> None:
    def walk(value: Any, pointer: str) -> None:
        assert resolve_pointer(document, pointer) == value
        if isinstance(value, dict):
            for name, inner in value.items():
                walk(inner, pointer + "/" + name.replace("~", "~0").replace("/", "~1"))
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                walk(inner, f"{pointer}/{index}")

    walk(document, "")


@given(st.text(max_size=20))
def test_any_text_gives_tokens_or_a_pointer_error(text: str) -> None:
    try:
        tokens = parse_pointer(text)
    except PointerError:
        assert not text.startswith("/") or "~" in text
    else:
        escaped = [token.replace("~", "~0").replace("/", "~1") for token in tokens]
        assert "".join("/" + token for token in escaped) == text


# -- patches -----------------------------------------------------------------------------------

BASE = {"a": 1, "keywords": {"x": True, "y": True}, "deep": {"one": {"two": {"three": 3}}}}


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ({}, BASE),
        ({"a": 2}, BASE | {"a": 2}),
        ({"new": [1]}, BASE | {"new": [1]}),
        ({"a": None}, {k: v for k, v in BASE.items() if k != "a"}),
        ({"nothing": None}, BASE),
        ({"keywords/z": True}, BASE | {"keywords": {"x": True, "y": True, "z": True}}),
        ({"keywords/x": None, "keywords/y": None}, BASE | {"keywords": {}}),
        ({"keywords/nothing": None}, BASE),
        (
            {"deep/one/two/three": 4, "a": 0},
            BASE | {"a": 0, "deep": {"one": {"two": {"three": 4}}}},
        ),
        ({"keywords/a~1b": True}, BASE | {"keywords": {"x": True, "y": True, "a/b": True}}),
        ({"keywords/a~0b": True}, BASE | {"keywords": {"x": True, "y": True, "a~b": True}}),
        ({"keywords": {}}, BASE | {"keywords": {}}),
        ({"a": 2, "ab": 3}, BASE | {"a": 2, "ab": 3}),
    ],
)
def test_a_patch_sets_and_removes(patch: dict[str, Any], expected: dict[str, Any]) -> None:
    before = copy.deepcopy(BASE)
    assert apply_patch(before, patch) == expected
    assert before == BASE, "the document given was changed"


@pytest.mark.parametrize(
    "patch",
    [
        {"nothing/x": 1},
        {"a/x": 1},
        {"keywords/x/y": 1},
        {"list/0": 1},
        {"list/-": 1},
        {"list/0/x": 1},
        {"keywords": {}, "keywords/x": True},
        {"deep/one": {}, "deep/one/two/three": 1},
        {"deep/one/two": 1, "keywords/x": None, "deep/one": None},
        {"": 1, "/x": 2},
        {"keywords/~": True},
        {"~2": True},
        {"none/x": 1},
    ],
)
def test_a_patch_that_breaks_a_rule_is_refused_as_a_whole(patch: dict[str, Any]) -> None:
    document = BASE | {"list": [1, {"x": 1}], "none": None}
    before = copy.deepcopy(document)
    with pytest.raises(PatchError):
        apply_patch(document, patch)
    assert document == before


@given(_TREES, st.dictionaries(st.text("ab/~0", max_size=5), _TREES, max_size=4))
def test_any_patch_gives_a_value_or_a_patch_error_and_changes_nothing_in_place(
    document: Any, patch: dict[str, Any]
) -> None:
    whole = {"a": document, "b": {"a": document}}
    before = copy.deepcopy((whole, patch))
    try:
        after = apply_patch(whole, patch)
    except PatchError:
        after = None
    assert (whole, patch) == before
    if after is not None:
        for key, value in patch.items():
            if value is not None:
                assert resolve_pointer(after, "/" + key) == value
            else:
                with pytest.raises(PointerError):
                    resolve_pointer(after, "/" + key)


@given(st.dictionaries(st.text("ab", min_size=1, max_size=3), st.integers(), min_size=1))
def test_a_whole_object_is_a_patch_of_itself(document: dict[str, Any]) -> None:
    assert apply_patch(document, document) == document


def test_many_paths_into_one_object_cost_one_copy_of_it() -> None:
    document = {"keywords": {f"k{n}": True for n in range(20_000)}}
    patch: dict[str, Any] = {f"keywords/n{n}": True for n in range(20_000)}
    start = time.perf_counter()
    assert len(apply_patch(document, patch)["keywords"]) == 40_000
    assert time.perf_counter() - start < 2
    assert len(document["keywords"]) == 20_000
