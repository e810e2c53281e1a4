"""Foo/get (RFC 8620 s5.1)."""

from __future__ import annotations

from typing import Any

import msgspec

from tindra.base import limits
from tindra.core.access import check_read
from tindra.core.arguments import check_names, take_ids, take_names
from tindra.core.datatype import CallContext, Datatype, GetRequest, PropertyExtension
from tindra.core.errors import MethodError

_ARGUMENTS = frozenset({"accountId", "ids", "properties"})


def _take_properties(
    context: CallContext, datatype: Datatype, arguments: dict[str, Any]
) -> tuple[list[str] | None, list[PropertyExtension]]:
    names = take_names(arguments, "properties")
    if names is None:
        return None, []
    own: list[str] = []
    extended: list[PropertyExtension] = []
    extensions = context.registry.extensions.get(datatype.name, {})
    for name in names:
        extension = extensions.get(name)
        if extension is not None and extension.capability in context.using:
            extended.append(extension)
        elif name in datatype.properties or (datatype.is_property and datatype.is_property(name)):
            own.append(name)
        else:
            raise MethodError("invalidArguments", f"{datatype.name} has no property {name[:60]!r}")
    if "id" not in own:
        own.append("id")
    return own, extended


async def run_get(
    context: CallContext, datatype: Datatype, arguments: dict[str, Any]
) -> dict[str, Any]:
    """Foo/get. Source: RFC 8620 s5.1

    Raises: MethodError accountNotFound, invalidArguments, requestTooLarge.
    """
    account_id = check_read(context.caller, arguments.get("accountId")).account.id
    check_names(arguments, _ARGUMENTS | datatype.get_arguments)
    ids = take_ids(arguments, "ids", is_reference=True)
    if ids is not None:
        if len(ids) > limits.OBJECTS_IN_GET_MAX:
            raise MethodError("requestTooLarge", f"over {limits.OBJECTS_IN_GET_MAX} ids")
        if context.created_ids:
            ids = list(dict.fromkeys(map(context.resolve, ids)))
    properties, extended = _take_properties(context, datatype, arguments)
    request = GetRequest(account_id, ids, properties, arguments)
    result = await datatype.source.load_for_get(context, request)
    objects = result.objects
    if extended:
        objects = await _extend(context, request, objects, extended)
    return {
        "accountId": account_id,
        "state": result.state,
        "list": objects,
        "notFound": result.not_found,
    }


async def _extend(
    context: CallContext,
    request: GetRequest,
    objects: list[Any],
    extended: list[PropertyExtension],
) -> list[dict[str, Any]]:
    """Add the properties of other features to objects that were loaded."""
    plain: list[dict[str, Any]] = [
        msgspec.json.decode(o, type=dict[str, msgspec.Raw]) if isinstance(o, msgspec.Raw) else o
        for o in objects
    ]
    ids = [
        msgspec.json.decode(o["id"]) if isinstance(o["id"], msgspec.Raw) else o["id"] for o in plain
    ]
    for extension in extended:
        values = await extension.load(context, request.account_id, ids)
        for id, obj in zip(ids, plain, strict=True):
            obj[extension.name] = values.get(id)
    return plain
