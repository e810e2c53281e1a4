"""Makes the standard methods of every registered Datatype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tindra.core.datatype import CORE, CallContext, Datatype, Handler, Method, Registry
from tindra.core.methods.changes import run_changes
from tindra.core.methods.copy import Copier, run_copy
from tindra.core.methods.get import run_get
from tindra.core.methods.query import run_query, run_query_changes
from tindra.core.methods.set import run_set


async def run_echo(_: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    """Core/echo. Source: RFC 8620 s4"""
    return arguments


def _bind(run: Callable[..., Any], datatype: Datatype) -> Handler:
    def handler(context: CallContext, arguments: dict[str, Any]) -> Any:
        return run(context, datatype, arguments)

    return handler


def add_standard_methods(registry: Registry) -> None:
    """Register Core/echo and the get, changes, set, copy, query and queryChanges of each type."""
    registry.add_method(Method("Core/echo", CORE, run_echo, supports_parts=True))
    for datatype in registry.datatypes.values():
        runs: dict[str, Callable[..., Any]] = {"get": run_get, "changes": run_changes}
        if datatype.writer is not None:
            runs["set"] = run_set
        if isinstance(datatype.writer, Copier):
            runs["copy"] = run_copy
        if datatype.querier is not None:
            runs["query"] = run_query
            runs["queryChanges"] = run_query_changes
        for verb, run in runs.items():
            name = f"{datatype.name}/{verb}"
            if name not in registry.methods:
                handler = _bind(run, datatype)
                parts = datatype.supports_parts
                registry.add_method(Method(name, datatype.capability, handler, parts))
