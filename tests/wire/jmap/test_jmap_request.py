"""Bytes to a Request: any octets give one, or a RequestSyntaxError. Source: RFC 8620 s3.3"""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tindra.base import limits
from tindra.wire.jmap.request import Request, RequestSyntaxError, parse_json, parse_request

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=30,
)


def _body(**members: Any) -> bytes:
    return msgspec.json.encode({"using": [], "methodCalls": []} | members)


def _refuse(body: bytes) -> RequestSyntaxError:
    with pytest.raises(RequestSyntaxError) as caught:
        parse_request(body)
    return caught.value


def _try(body: bytes) -> Request | str:
    """The request, or the kind of the error."""
    try:
        return parse_request(body)
    except RequestSyntaxError as error:
        return error.kind


def test_a_request_is_capabilities_and_calls_in_order() -> None:
    body = _body(using=["a", "b"], methodCalls=[["Foo/get", {"x": 1}, "0"], ["Bar/set", {}, "1"]])
    found = parse_request(body)
    assert found.using == ["a", "b"]
    assert [tuple(call) for call in found.calls] == [
        ("Foo/get", {"x": 1}, "0"),
        ("Bar/set", {}, "1"),
    ]
    assert found.created_ids is None


def test_created_ids_come_along_also_when_there_are_none() -> None:
    assert parse_request(_body(createdIds={"k": "e1"})).created_ids == {"k": "e1"}
    assert parse_request(_body(createdIds={})).created_ids == {}
    assert parse_request(_body(createdIds=None)).created_ids is None


def test_members_that_nobody_knows_are_ignored() -> None:
    assert parse_request(_body(future={"x": [1]})) == Request([], [], None)


@pytest.mark.parametrize(
    "value",
    [
        [],
        1,
        None,
        "text",
        {},
        {"using": []},
        {"methodCalls": []},
        {"using": "core", "methodCalls": []},
        {"using": [1], "methodCalls": []},
        {"using": [], "methodCalls": {}},
        {"using": [], "methodCalls": [[]]},
        {"using": [], "methodCalls": [["Foo/get", {}]]},
        {"using": [], "methodCalls": [["Foo/get", {}, "0", "more"]]},
        {"using": [], "methodCalls": [["Foo/get", [], "0"]]},
        {"using": [], "methodCalls": [["Foo/get", None, "0"]]},
        {"using": [], "methodCalls": [["Foo/get", {}, 0]]},
        {"using": [], "methodCalls": [[None, {}, "0"]]},
        {"using": [], "methodCalls": [{"name": "Foo/get"}]},
        {"using": [], "methodCalls": [], "createdIds": []},
        {"using": [], "methodCalls": [], "createdIds": {"k": 1}},
        {"using": [], "methodCalls": [], "createdIds": {"k": "not an id"}},
        {"using": [], "methodCalls": [], "createdIds": {"": "e1"}},
        {"using": [], "methodCalls": [], "createdIds": {"k": "e\x00"}},
        {"using": [], "methodCalls": [], "createdIds": {"k": "e１"}},
    ],
)
def test_what_is_no_request_is_not_request(value: Any) -> None:
    assert _refuse(msgspec.json.encode(value)).kind == "notRequest"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"[1,]",
        b"{'a':1}",
        b"nul",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"[1e999]",
        b"01",
        b"1 2",
        b"\xef\xbb\xbf{}",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\xc0\x80"',
        b'"\x00"',
        b'"tab\there"',
        b'{"a":1',
        b'"\\x41"',
        b'"\\ud800"',
        b'"\\udc00 x"',
        b'"\\ud800\\u0041 and more"',
        b'{"\\udfff":1}',
        b"9" * 10_000,
        b"// comment\n{}",
    ],
)
def test_what_is_not_i_json_is_not_json(body: bytes) -> None:
    assert _refuse(body).kind == "notJSON"


def test_a_pair_of_surrogates_is_a_character() -> None:
    assert parse_json(b'"\\ud83d\\ude00"') == "\U0001f600"


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"b":2,"a":null}',
        b'[{"x":{"a":1,"a":2}}]',
        b'{"a":1,"\\u0061":2}',
        b'{"a:b":1,"a:b":2}',
        b'{"\\"":1,"\\"":2}',
        b'{"":1,"":2}',
        b'{"a" :1, "a"\n:2}',
    ],
)
def test_a_name_that_stands_twice_in_one_object_is_refused(body: bytes) -> None:
    assert _refuse(body).kind == "notJSON"


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":"x:y","b":"{\\"a\\":1}"}',
        b'{"a:a":1,"a":{"a":":"}}',
        b'[{"a":1},{"a":1}]',
        b'{"\\\\":"\\\\","b":":"}',
    ],
)
def test_colons_and_quotes_inside_texts_are_no_names(body: bytes) -> None:
    assert parse_json(body) == json.loads(body)


def test_nesting_has_an_end() -> None:
    most = limits.JSON_DEPTH_MAX
    assert parse_json(b"[" * most + b"]" * most)
    assert _refuse(b"[" * (most + 1) + b"]" * (most + 1)).kind == "notJSON"
    assert _refuse(b'{"a":' * (most + 1) + b"1" + b"}" * (most + 1)).kind == "notJSON"
    assert _refuse(b"[" * 1_000_000).kind == "notJSON"
    assert _refuse(b"[" * 5_000 + b"]" * 5_000).kind == "notJSON"


def test_depth_is_not_the_number_of_brackets() -> None:
    assert len(parse_json(b"[" + b",".join([b"[{}]"] * 5_000) + b"]")) == 5_000
    assert parse_json(b'["' + b"[" * 10_000 + b'"]') == ["[" * 10_000]


@pytest.mark.parametrize(
    "make",
    [
        lambda n: b'"' + b'\\"' * n,
        lambda n: b'"' + b"\\" * n,
        lambda n: b'"' * n,
        lambda n: b'{"a":' * n,
        lambda n: b'{"' + b"a" * n + b'":1,"b":2}',
        lambda n: b'["' + b'\\"' * n + b'"]',
        lambda n: b"[" + b'"a",' * n + b"1]",
        lambda n: b":" * n,
        lambda n: b'"\\u0041' * n,
    ],
)
def test_hostile_bytes_cost_no_more_than_their_number(make: Any) -> None:
    """Sixteen times the octets may take at most some fifty times as long (2.5 for noise)."""
    small, large = make(20_000), make(320_000)
    assert _time(large) < 40 * max(_time(small), 0.0005)


def _time(body: bytes) -> float:
    best = 1e9
    for _ in range(3):
        start = time.perf_counter()
        try:
            parse_json(body)
        except RequestSyntaxError:
            pass
        best = min(best, time.perf_counter() - start)
    return best


@given(st.binary(max_size=300))
def test_any_bytes_give_a_request_or_a_named_error(body: bytes) -> None:
    found = _try(body)
    assert isinstance(found, Request) or found in ("notJSON", "notRequest")


@given(st.text(st.sampled_from('{}[]",:\\ua1e.-0 \n'), max_size=60))
def test_any_mix_of_json_pieces_gives_what_json_says_or_an_error(text: str) -> None:
    try:
        found = parse_json(text.encode())
    except RequestSyntaxError:
        return
    assert found == json.loads(text)


@given(_JSON)
def test_every_json_value_comes_through_as_it_is(value: Any) -> None:
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(msgspec.json.encode(value)) == value


@given(_JSON, _JSON, _JSON, _JSON)
def test_any_json_in_the_envelope_gives_a_request_or_not_request(
    using: Any, calls: Any, created: Any, more: Any
) -> None:
    found = _try(_body(using=using, methodCalls=calls, createdIds=created, more=more))
    if isinstance(found, Request):
        assert all(isinstance(uri, str) for uri in found.using)
        assert all(isinstance(call.arguments, dict) for call in found.calls)
    else:
        assert found == "notRequest"


@given(st.dictionaries(st.text("abc", max_size=2), st.integers(), max_size=4), st.data())
def test_a_doubled_member_is_found_wherever_it_stands(
    members: dict[str, int], data: st.DataObject
) -> None:
    pairs = list(members.items())
    if pairs:
        pairs.insert(data.draw(st.integers(0, len(pairs))), data.draw(st.sampled_from(pairs)))
        text = ",".join(f"{json.dumps(name)}:{value}" for name, value in pairs)
        with pytest.raises(RequestSyntaxError, match="twice"):
            parse_json(f"[{{}},{{{text}}}]".encode())


# -- a request that something happened to ----------------------------------------------------------
_WHOLE = (
    b'{"using":["urn:ietf:params:jmap:core"],"methodCalls":[["Email/set",{"accountId":"a",'
    b'"create":{"k":{"subject":"caf\xc3\xa9 \\ud83d\\ude00","size":-1.5e3,"to":[{},null,true]}}},'
    b'"0"],["Core/echo",{},"1"]],"createdIds":{"k":"e1"}}'
)
_PLACES = [place for place, octet in enumerate(_WHOLE) if octet in b",[{:"]
"""Behind these a value or a member may begin."""


@given(st.integers(0, len(_WHOLE)), st.integers(0, 12), st.binary(max_size=8))
def test_a_damaged_request_is_one_still_or_a_named_error(
    place: int, removed: int, put: bytes
) -> None:
    body = _WHOLE[:place] + put + _WHOLE[place + removed :]
    try:
        request = parse_request(body)
    except RequestSyntaxError as error:
        kind = error.kind
    else:
        kind = "fine" if all(type(call.arguments) is dict for call in request.calls) else "wrong"
    assert kind in ("fine", "notJSON", "notRequest")


@pytest.mark.parametrize(
    "odd",
    [
        b"NaN", b"Infinity", b"-Infinity", b"1e999999", b"01", b"+1", b".5", b"1.", b"0x10",
        b"'a'", b'"\\ud800"', b'"\\udc00"', b'"\\udc00\\ud800"', b'"\\ud800x"', b'"\xed\xa0\x80"',
        b'"\xff"', b'"\xc0\xaf"', b'"\xf5\x80\x80\x80"', b'"\n"', b'"\\x41"', b'"\\u12"', b"[1,]",
        b'{"a":1,}', b'{"a":1,"a":2}', b'{"a":1,"\\u0061":2}', b"/**/1", b"undefined", b"tru",
        b"[" * 65 + b"]" * 65, b'{"a":' * 65 + b"1" + b"}" * 65,
    ],
)  # fmt: skip
def test_what_i_json_forbids_is_found_at_every_place(odd: bytes) -> None:
    good = b'{"using":[],"methodCalls":[["Core/echo",{"a":[%b,{"b":%b}],"c":%b},"0"]]}'
    parse_request(good % (b"1", b"1", b"1"))
    for place in range(3):
        values = [b"1", b"1", b"1"]
        values[place] = odd
        with pytest.raises(RequestSyntaxError) as caught:
            parse_request(good % tuple(values))
        assert caught.value.kind == "notJSON"


@given(st.sampled_from(_PLACES), st.integers(1, 200_000))
def test_brackets_without_end_are_refused_wherever_they_stand(place: int, count: int) -> None:
    for piece in (b"[", b'{"a":', b'"'):
        with pytest.raises(RequestSyntaxError) as caught:
            parse_request(_WHOLE[: place + 1] + piece * count)
        assert caught.value.kind == "notJSON"
