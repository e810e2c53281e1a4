"""Foo/set (RFC 8620 s5.3): one transaction, in which each object succeeds or fails alone."""

from __future__ import annotations

from typing import Any

from tindra.core.access import check_write
from tindra.core.arguments import (
    check_names,
    check_set_count,
    take_ids,
    take_objects,
    take_text,
)
from tindra.core.datatype import (
    IS_BEGUN,
    CallContext,
    Datatype,
    SetContext,
    SetRequest,
    Writer,
)
from tindra.core.errors import SetError
from tindra.core.tx import Tx, transact_in_state
from tindra.wire.jmap.pointer import find_references

_ARGUMENTS = frozenset({"accountId", "ifInState", "create", "update", "destroy"})


def _take_request(datatype: Datatype, arguments: dict[str, Any]) -> SetRequest:
    """The generic arguments, checked. Raises: MethodError invalidArguments, requestTooLarge."""
    check_names(arguments, _ARGUMENTS | datatype.set_arguments)
    request = SetRequest(
        take_objects(arguments, "create", is_create=True),
        take_objects(arguments, "update"),
        take_ids(arguments, "destroy", is_reference=True) or [],
        arguments,
    )
    check_set_count(len(request.create) + len(request.update) + len(request.destroy))
    return request


async def run_set(
    context: CallContext, datatype: Datatype, arguments: dict[str, Any]
) -> list[tuple[str, dict[str, Any]]]:
    """Foo/set, with the implicit calls it causes after it. Source: RFC 8620 s5.3

    Raises: MethodError accountNotFound, accountReadOnly, forbidden, invalidArguments,
        requestTooLarge, stateMismatch.
    """
    access = check_write(context.caller, arguments.get("accountId"), datatype.right)
    account_id = access.account.id
    request = _take_request(datatype, arguments)
    if_in_state = take_text(arguments, "ifInState")
    writer = datatype.writer
    assert writer is not None
    prepared = await writer.prepare(context, account_id, request)
    if prepared.get(IS_BEGUN):
        if_in_state = None
    known = dict(context.created_ids)

    async def write(tx: Tx) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
        run = _SetRun(SetContext(tx, context, access, arguments, prepared), writer, request)
        answer = await run.run()
        return answer, await writer.finish(run.context, answer)

    name = f"{datatype.name}/set"
    done = None
    try:
        done, states = await transact_in_state(
            context.services, account_id, name, if_in_state, write
        )
    finally:
        if done is None:
            context.created_ids = known  # nothing was made after all
    answer, implicit = done
    return [(name, states | answer), *implicit]


class _SetRun:
    """The objects of one /set, in the order create, update, destroy."""

    def __init__(self, context: SetContext, writer: Writer, request: SetRequest) -> None:
        self.context = context
        self._writer = writer
        self._request = request
        self._created: dict[str, Any] = {}
        self._updated: dict[str, Any] = {}
        self._destroyed: list[str] = []
        self._not: dict[str, dict[str, Any]] = {"Created": {}, "Updated": {}, "Destroyed": {}}

    async def run(self) -> dict[str, Any]:
        """The three parts of the answer; null where there is nothing, as the RFC has it."""
        await self._create()
        await self._update()
        await self._destroy()
        return {
            "created": self._created or None,
            "updated": self._updated or None,
            "destroyed": self._destroyed or None,
            "notCreated": self._not["Created"] or None,
            "notUpdated": self._not["Updated"] or None,
            "notDestroyed": self._not["Destroyed"] or None,
        }

    async def _create(self) -> None:
        # Objects may name others of the same call by creation id, in any order: make first
        # what others wait for.
        waiting = dict(self._request.create)
        needs = {cid: find_references(obj) - {cid} for cid, obj in waiting.items()}
        while waiting:
            ready = [cid for cid in waiting if not needs[cid] & waiting.keys()]
            for cid in ready or list(waiting):
                obj = waiting.pop(cid)
                try:
                    made = await self._writer.create(self.context, cid, obj)
                except SetError as error:
                    self._not["Created"][cid] = error.to_object()
                else:
                    self._created[cid] = made
                    self.context.call.created_ids[cid] = made["id"]

    async def _update(self) -> None:
        if not self._request.update:
            return
        resolve = self.context.resolve
        wanted = {key: resolve(key) for key in self._request.update}
        doomed = {resolve(id) for id in self._request.destroy}
        before = await self._writer.load(self.context, list(dict.fromkeys(wanted.values())))
        for key, patch in self._request.update.items():
            id = wanted[key]
            try:
                if id not in before:
                    raise SetError("notFound", "there is no such object")
                if id in doomed:
                    raise SetError("willDestroy", "the same call destroys it")
                if id in self._updated:  # named twice: once by its creation id
                    before |= await self._writer.load(self.context, [id])
                self._updated[id] = await self._writer.update(self.context, id, before[id], patch)
            except SetError as error:
                self._not["Updated"][key] = error.to_object()

    async def _destroy(self) -> None:
        if not self._request.destroy:
            return
        keys: dict[str, list[str]] = {}
        for key in self._request.destroy:
            keys.setdefault(self.context.resolve(key), []).append(key)
        before = await self._writer.load(self.context, list(keys))
        for id in dict.fromkeys((*before, *keys)):
            try:
                if id not in before:
                    raise SetError("notFound", "there is no such object")
                await self._writer.destroy(self.context, id, before[id])
                self._destroyed.append(id)
            except SetError as error:
                self._not["Destroyed"] |= dict.fromkeys(keys[id], error.to_object())
