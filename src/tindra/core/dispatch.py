"""From a parsed request to its answer: calls in order, result references, one error boundary.

Source: RFC 8620 s3.3 to s3.7
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from tindra.base import limits
from tindra.core.access import Caller, check_supports
from tindra.core.datatype import CallContext, Registry
from tindra.core.errors import MethodError, RequestError, SetError, Unavailable
from tindra.core.part import narrow_services
from tindra.core.services import Services
from tindra.wire.jmap.filter import FilterError
from tindra.wire.jmap.pointer import PointerError, measure_json, resolve_pointer
from tindra.wire.jmap.request import Call, Request

Report = Callable[[str, BaseException], str]
"""Tell the operator of an unexpected error in a method; gives an id that the client may quote."""
_Responses = list[tuple[str, dict[str, Any], str]]


async def run_request(
    registry: Registry, services: Services, caller: Caller, request: Request, report: Report
) -> dict[str, Any]:
    """The Response object, without sessionState. Source: RFC 8620 s3.4

    Raises: RequestError unknownCapability, limit.
    """
    for uri in request.using:
        if uri not in registry.capabilities:
            raise RequestError("unknownCapability", f"this server has no {uri[:200]!r}")
    if len(request.calls) > limits.CALLS_IN_REQUEST_MAX:
        text = f"over {limits.CALLS_IN_REQUEST_MAX} method calls"
        raise RequestError("limit", text, limit="maxCallsInRequest")
    created = dict(request.created_ids or {})
    seen = narrow_services(services, caller, registry.narrow)
    using = frozenset(request.using)
    context = CallContext(seen, registry, caller, using, created, whole_services=services)
    responses: _Responses = []
    for call in request.calls:
        found = await _run_call(context, call, responses, report)
        responses.extend((name, result, call.id) for name, result in found)
    answer: dict[str, Any] = {"methodResponses": responses}
    if request.created_ids is not None:
        answer["createdIds"] = context.created_ids
    return answer


async def _run_call(
    context: CallContext, call: Call, responses: _Responses, report: Report, is_own: bool = True
) -> list[tuple[str, dict[str, Any]]]:
    """The responses of one call; whatever goes wrong in it, the next call still runs. One that the
    client did not make itself (is_own) needs nothing in 'using'. Source: RFC 8621 s7.5"""
    try:
        method = context.registry.methods.get(call.name)
        if method is None or (is_own and method.capability not in context.using):
            text = f"{call.name[:60]!r} is not here, or its capability is not in 'using'"
            raise MethodError("unknownMethod", text)
        arguments = _resolve_references(context, call.arguments, responses)
        is_of_mailbox = context.registry.capabilities[method.capability].is_of_mailbox
        check_supports(context.caller, is_of_mailbox, method.supports_parts, arguments)
        result = await method.handler(context, arguments)
        if isinstance(result, dict):
            return [(call.name, result)]
        found = result[:1]
        for name, implicit in result[1:]:
            implied = Call(name, implicit, call.id)
            found.extend(await _run_call(context, implied, responses, report, False))
    except (MethodError, SetError) as error:
        return [("error", error.to_object())]
    except FilterError as error:
        return [("error", {"type": error.kind, "description": str(error)})]
    except Unavailable as error:
        return [("error", {"type": "serverUnavailable", "description": str(error)})]
    except Exception as error:  # the one boundary of a method call: the next call still runs
        text = f"unexpected error, reported as {report(call.name, error)}"
        return [("error", {"type": "serverFail", "description": text})]
    return found


def _resolve_references(
    context: CallContext, arguments: dict[str, Any], responses: _Responses
) -> dict[str, Any]:
    """Arguments with each "#name" replaced by what it refers to. Source: RFC 8620 s3.7"""
    resolved: dict[str, Any] = {}
    for name, value in arguments.items():
        if name[:1] != "#":
            resolved[name] = value
            continue
        if name[1:] in arguments:
            raise MethodError("invalidArguments", f"both {name[1:60]!r} and {name[:60]!r} given")
        found = resolved[name[1:]] = _resolve_reference(context, name, value, responses)
        context.spend_reference(measure_json(found, context.reference_bytes_left))
    return resolved


def _resolve_reference(context: CallContext, name: str, value: Any, responses: _Responses) -> Any:
    if not isinstance(value, dict) or value.keys() != {"resultOf", "name", "path"}:
        raise MethodError("invalidArguments", f"{name[:60]!r} must be a ResultReference")
    if not all(isinstance(item, str) for item in value.values()):
        raise MethodError("invalidArguments", f"{name[:60]!r} must hold three strings")
    result = next((found for found in responses if found[2] == value["resultOf"]), None)
    if result is not None and result[0] == value["name"]:
        try:
            return resolve_pointer(result[1], value["path"], context.spend_reference)
        except PointerError as error:
            raise MethodError("invalidResultReference", str(error)) from None
    text = f"no response {value['name'][:60]!r} of {value['resultOf'][:60]!r}"
    raise MethodError("invalidResultReference", text)


def encode_response(answer: dict[str, Any], session_state: str) -> bytes:
    """The bytes of a Response; `msgspec.Raw` parts are spliced in as they are."""
    answer["sessionState"] = session_state
    return msgspec.json.encode(answer)
