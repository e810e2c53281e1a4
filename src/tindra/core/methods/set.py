"""Foo/set (RFC 8620 s5.3): one transaction, in which each object succeeds or fails alone."""

from __future__ import annotations

from typing import Any

from tindra.base import limits
from tindra.base.ids import ModSeq, is_id
from tindra.core.access import check_write
from tindra.core.arguments import check_names, take_ids
from tindra.core.datatype import CallContext, Datatype, SetContext, SetRequest, Writer
from tindra.core.errors import MethodError, SetError
from tindra.core.ports import Cursor
from tindra.core.state import encode_state
from tindra.core.tx import Tx, transact

_ARGUMENTS = frozenset({"accountId", "ifInState", "create", "update", "destroy"})


def _take_objects(arguments: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    value = arguments.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MethodError("invalidArguments", f"{name!r} must be an object or null")
    for key, obj in value.items():
        if not isinstance(obj, dict):
            raise MethodError("invalidArguments", f"{name}/{key[:60]} must be an object")
        if name == "create" and not is_id(key):
            raise MethodError("invalidArguments", f"{key[:60]!r} is not a creation id")
    return value


def take_set_request(datatype: Datatype, arguments: dict[str, Any]) -> SetRequest:
    """The generic arguments, checked. Raises: MethodError invalidArguments, requestTooLarge."""
    check_names(arguments, _ARGUMENTS | datatype.set_arguments)
    request = SetRequest(
        _take_objects(arguments, "create"),
        _take_objects(arguments, "update"),
        take_ids(arguments, "destroy", is_reference=True) or [],
        arguments,
    )
    count = len(request.create) + len(request.update) + len(request.destroy)
    if count > limits.OBJECTS_IN_SET_MAX:
        raise MethodError("requestTooLarge", f"over {limits.OBJECTS_IN_SET_MAX} objects")
    state = arguments.get("ifInState")
    if state is not None and not isinstance(state, str):
        raise MethodError("invalidArguments", "'ifInState' must be a string or null")
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
    request = take_set_request(datatype, arguments)
    writer = datatype.writer
    assert writer is not None
    prepared = await writer.prepare(context, account_id, request)

    async def write(tx: Tx) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
        old = (await tx.store.load_states()).get(datatype.name, ModSeq(0))
        old_state = encode_state(Cursor(old))
        if arguments.get("ifInState") not in (None, old_state):
            raise MethodError("stateMismatch", f"the state is {old_state}")
        run = _SetRun(SetContext(tx, context, access, arguments, prepared), writer, request)
        answer = {"accountId": account_id, "oldState": old_state} | await run.run()
        return answer, await writer.finish(run.context, answer)

    name = f"{datatype.name}/set"
    (answer, implicit), info = await transact(context.services, account_id, name, write)
    state = info.states.get(datatype.name)
    answer["newState"] = answer["oldState"] if state is None else encode_state(Cursor(state))
    answer = {k: v for k, v in answer.items() if not k.startswith("_")}
    return [(name, answer), *implicit]


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
        needs = {cid: _find_mentioned(obj, waiting) - {cid} for cid, obj in waiting.items()}
        while waiting:
            ready = [cid for cid in waiting if needs[cid].isdisjoint(waiting)]
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


def _find_mentioned(value: Any, waiting: dict[str, Any]) -> set[str]:
    """The creation ids among `waiting` that a value names as "#cid"."""
    found: set[str] = set()
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            if item[:1] == "#" and item[1:] in waiting:
                found.add(item[1:])
        elif isinstance(item, dict):
            pending.extend(item.keys())
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return found
