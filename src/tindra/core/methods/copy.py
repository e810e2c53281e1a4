"""Foo/copy (RFC 8620 s5.4), generic over every type whose Writer is a Copier too.

Three phases, each consistent in itself: the originals are read in the one account, the copies are
written in one transaction of the other, and the originals are destroyed by an implicit Foo/set.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

from tindra.base.ids import AccountId, ModSeq
from tindra.core.access import check_read, check_write
from tindra.core.arguments import (
    check_names,
    check_set_count,
    take_bool,
    take_objects,
    take_text,
)
from tindra.core.datatype import CallContext, Datatype, SetContext
from tindra.core.errors import MethodError, SetError
from tindra.core.ports import Cursor
from tindra.core.state import encode_state
from tindra.core.tx import Tx, transact_in_state

_STATES = ("ifFromInState", "ifInState", "destroyFromIfInState")
_ARGUMENTS = frozenset(
    {"fromAccountId", "accountId", "create", "onSuccessDestroyOriginal", *_STATES}
)


class CopyRequest(NamedTuple):
    """A /copy after its generic arguments were checked."""

    from_account_id: AccountId
    account_id: AccountId
    create: dict[str, dict[str, Any]]
    """creation id -> what the copy has other than the original, without its id."""
    originals: dict[str, str]
    """creation id -> id of the original; creation references are resolved."""


class Originals(NamedTuple):
    """What the first phase brings."""

    state: ModSeq
    """Of the type in the account copied from, at the time of reading."""
    prepared: dict[str, Any]
    """creation id -> whatever `Copier.copy` needs, or the SetError that refuses it."""


@runtime_checkable
class Copier(Protocol):
    """A Writer that can copy between accounts. Source: RFC 8620 s5.4"""

    async def load_originals(self, call: CallContext, request: CopyRequest) -> Originals:
        """Read the originals, and carry over what cannot be written in a transaction (blobs)."""

    async def copy(
        self, context: SetContext, original: Any, overrides: dict[str, Any]
    ) -> dict[str, Any]:
        """Make one copy in the transaction; gives its id and all properties the server set.

        Raises: SetError, before anything of the copy is written; alreadyExists with existingId.
        """


def _take_accounts(
    context: CallContext, datatype: Datatype, arguments: dict[str, Any]
) -> tuple[AccountId, AccountId]:
    """(from, to). Raises: MethodError fromAccountNotFound and those of check_write."""
    access = check_write(context.caller, arguments.get("accountId"), datatype.right)
    try:
        source = check_read(context.caller, arguments.get("fromAccountId"))
    except MethodError as error:
        if error.kind == "accountNotFound":
            raise MethodError("fromAccountNotFound", error.description) from None
        raise MethodError("invalidArguments", "fromAccountId must be given") from None
    if source.account.id == access.account.id:
        raise MethodError("invalidArguments", "fromAccountId and accountId must differ")
    return source.account.id, access.account.id


def _take_request(
    context: CallContext, datatype: Datatype, arguments: dict[str, Any]
) -> CopyRequest:
    source_id, target_id = _take_accounts(context, datatype, arguments)
    check_names(arguments, _ARGUMENTS)
    if not isinstance(arguments.get("create"), dict):
        raise MethodError("invalidArguments", "'create' must be an object")
    create = take_objects(arguments, "create", is_create=True)
    check_set_count(len(create))
    overrides: dict[str, dict[str, Any]] = {}
    originals: dict[str, str] = {}
    for key, obj in create.items():
        id = obj.get("id")
        if not isinstance(id, str):
            raise MethodError("invalidArguments", f"create/{key} needs the 'id' of its original")
        originals[key] = context.resolve(id)
        overrides[key] = {name: value for name, value in obj.items() if name != "id"}
    return CopyRequest(source_id, target_id, overrides, originals)


async def run_copy(
    context: CallContext, datatype: Datatype, arguments: dict[str, Any]
) -> list[tuple[str, dict[str, Any]]]:
    """Foo/copy, followed by the Foo/set that destroys the originals if that is asked for.

    Raises: MethodError accountNotFound, accountReadOnly, forbidden, fromAccountNotFound,
        invalidArguments, requestTooLarge, stateMismatch.
    Cost: one read, one transaction, and what the Copier does for each object.
    Source: RFC 8620 s5.4
    """
    request = _take_request(context, datatype, arguments)
    has_destroy = take_bool(arguments, "onSuccessDestroyOriginal")
    source_state, target_state, destroy_state = (take_text(arguments, name) for name in _STATES)
    copier = datatype.writer
    assert isinstance(copier, Copier)
    originals = await copier.load_originals(context, request)
    found_state = encode_state(Cursor(originals.state))
    if source_state not in (None, found_state):
        raise MethodError("stateMismatch", f"the state copied from is {found_state}")
    access = context.caller.accounts[request.account_id]

    async def write(tx: Tx) -> dict[str, Any]:
        run = SetContext(tx, context, access, {}, {})
        created: dict[str, Any] = {}
        refused: dict[str, Any] = {}
        for key, overrides in request.create.items():
            original = originals.prepared.get(key)
            try:
                if isinstance(original, SetError):
                    raise original
                if original is None:
                    raise SetError("notFound", "there is no such object to copy")
                created[key] = await copier.copy(run, original, overrides)
            except SetError as error:
                refused[key] = error.to_object()
        return {
            "fromAccountId": request.from_account_id,
            "created": created or None,
            "notCreated": refused or None,
        }

    name = f"{datatype.name}/copy"
    answer, states = await transact_in_state(
        context.services, request.account_id, name, target_state, write
    )
    for key, made in (answer["created"] or {}).items():
        context.created_ids[key] = made["id"]
    responses = [(f"{datatype.name}/copy", answer | states)]
    if has_destroy and answer["created"]:
        done = dict.fromkeys(request.originals[key] for key in answer["created"])
        destroy = {"accountId": request.from_account_id, "destroy": list(done)}
        responses.append((f"{datatype.name}/set", destroy | {"ifInState": destroy_state}))
    return responses
