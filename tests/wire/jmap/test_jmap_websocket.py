"""Messages of the WebSocket subprotocol: any octets give a message or a named error."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.jmap.json_strategies import any_json
from tindra.wire.jmap.request import Call, Request
from tindra.wire.jmap.websocket import (
    TYPES_MAX,
    MessageError,
    PushDisable,
    PushEnable,
    RequestMessage,
    parse_message,
)

JSON = any_json(["a"])
TYPES = st.sampled_from(["Request", "WebSocketPushEnable", "WebSocketPushDisable", "Response", 1])


def encode(**members: object) -> bytes:
    found = {("@type" if name == "type" else name): value for name, value in members.items()}
    return msgspec.json.encode(found)


def test_each_message_is_what_it_says() -> None:
    calls = [["Core/echo", {"a": 1}, "c"]]
    body = encode(type="Request", id="r", using=["u"], methodCalls=calls, createdIds={"k": "v"})
    request = Request(["u"], [Call("Core/echo", {"a": 1}, "c")], {"k": "v"})
    assert parse_message(body) == RequestMessage(request, "r")
    body = encode(type="WebSocketPushEnable", dataTypes=["A", "B", "A"], pushState="s", more=1)
    assert parse_message(body) == PushEnable(frozenset("AB"), "s")
    assert parse_message(encode(type="WebSocketPushEnable")) == PushEnable(None, None)
    body = encode(type="WebSocketPushEnable", dataTypes=[])
    assert parse_message(body) == PushEnable(frozenset(), None)
    assert parse_message(encode(type="WebSocketPushDisable", id="r")) == PushDisable()


def test_as_many_types_as_fit() -> None:
    names = [str(number) for number in range(TYPES_MAX)]
    body = encode(type="WebSocketPushEnable", dataTypes=names)
    assert parse_message(body) == PushEnable(frozenset(names), None)
    with pytest.raises(MessageError) as caught:
        parse_message(encode(type="WebSocketPushEnable", dataTypes=[*names, "one more"], id="r"))
    assert (caught.value.error.kind, caught.value.request_id) == ("notRequest", "r")


@given(
    st.binary(max_size=200)
    | st.fixed_dictionaries(
        {},
        optional={
            "@type": TYPES, "id": JSON, "using": JSON, "methodCalls": JSON, "dataTypes": JSON,
            "pushState": JSON,
        },
    ).map(msgspec.json.encode)
)  # fmt: skip
def test_any_octets_are_a_message_or_a_named_error(body: bytes) -> None:
    found: object
    try:
        found = parse_message(body)
    except MessageError as error:
        found = error
    if isinstance(found, MessageError):
        assert found.error.kind in ("notJSON", "notRequest")
        assert found.error.detail
        assert found.request_id is None or isinstance(found.request_id, str)
    else:
        assert isinstance(found, RequestMessage | PushEnable | PushDisable)
