"""Messages of JMAP's WebSocket subprotocol: text to values.

Invariant: any octets give a message or a MessageError, in time linear in their number.
Source: RFC 8887 s4.3
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tindra.wire.jmap.request import Request, RequestSyntaxError, convert_request, parse_json

SUBPROTOCOL = "jmap"
"""The name to agree on in the handshake. Source: RFC 8887 s4.2"""
TYPES_MAX = 100
"""Type names in one WebSocketPushEnable: more than there are types."""


class MessageError(Exception):
    """A message that is none of ours.

    Source: RFC 8887 s4.3.4
    """

    def __init__(self, error: RequestSyntaxError, request_id: str | None) -> None:
        super().__init__(error.detail)
        self.error = error
        self.request_id = request_id
        """What the client called the request; None where that cannot be told."""


class RequestMessage(NamedTuple):
    """An API request. Source: RFC 8887 s4.3.2"""

    request: Request
    id: str | None
    """To be said again with its answer, which may come out of order."""


class PushEnable(NamedTuple):
    """From now on, tell of changes. Source: RFC 8887 s4.3.5.2"""

    types: frozenset[str] | None
    """None for all."""
    push_state: str | None
    """The last one that the client was told: tell at once what it missed since."""


class PushDisable(NamedTuple):
    """Tell no more of changes. Source: RFC 8887 s4.3.5.3"""


def parse_message(body: bytes) -> RequestMessage | PushEnable | PushDisable:
    """The message in `body`. Raises: MessageError."""
    id = None
    try:
        value = parse_json(body)
        if not isinstance(value, dict):
            raise RequestSyntaxError("notRequest", "a message must be an object")
        id = value.get("id")
        if id is not None and not isinstance(id, str):
            id = None
            raise RequestSyntaxError("notRequest", "id must be a string")
        return _convert(value, id)
    except RequestSyntaxError as error:
        raise MessageError(error, id) from None


def _convert(value: dict[str, Any], id: str | None) -> RequestMessage | PushEnable | PushDisable:
    match value.get("@type"):
        case "Request":
            return RequestMessage(convert_request(value), id)
        case "WebSocketPushEnable":
            return _convert_push_enable(value)
        case "WebSocketPushDisable":
            return PushDisable()
    detail = "@type must be Request, WebSocketPushEnable or WebSocketPushDisable"
    raise RequestSyntaxError("notRequest", detail)


def _convert_push_enable(value: dict[str, Any]) -> PushEnable:
    names, push_state = value.get("dataTypes"), value.get("pushState")
    if names is not None:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise RequestSyntaxError("notRequest", "dataTypes must be null or a list of strings")
        if len(names) > TYPES_MAX:
            raise RequestSyntaxError("notRequest", f"over {TYPES_MAX} dataTypes")
    if push_state is not None and not isinstance(push_state, str):
        raise RequestSyntaxError("notRequest", "pushState must be null or a string")
    return PushEnable(None if names is None else frozenset(names), push_state)
