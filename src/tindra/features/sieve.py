"""SieveScript (RFC 9661): rules for new mail, as scripts in the Sieve language.

Capability `urn:ietf:params:jmap:sieve` (docs/protocol/sieve.md). At most one script of an account
is active; it runs here, when new mail is seen (`sync/arrival`). A provider's own scripts are not
managed. The content of a script is a blob; what is stored was checked, so that it can be run.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

from tindra.base.ids import AccountId
from tindra.core.access import check_read
from tindra.core.arguments import check_names, take_bool
from tindra.core.blob_parts import load_blob
from tindra.core.datatype import (
    CallContext,
    Capability,
    Datatype,
    Feature,
    Method,
    PropertyExtension,
    SetContext,
    SetRequest,
)
from tindra.core.errors import MethodError, SetError
from tindra.core.ports import StoreReader
from tindra.core.services import Services
from tindra.core.tx import Tx
from tindra.features.objects import ObjectType, Property, internal, server_set
from tindra.wire.jmap.filter import Condition, is_bool, is_text
from tindra.wire.sieve.errors import SieveError
from tindra.wire.sieve.evaluate import REDIRECTS_MAX
from tindra.wire.sieve.grammar import EXTENSIONS, Script, check_script
from tindra.wire.sieve.lexer import SCRIPT_BYTES_MAX

SIEVE: Final = "urn:ietf:params:jmap:sieve"
OWN: Final = "urn:tindra:params:jmap:sieve"
NAME_BYTES_MAX: Final = 512
"""maxSizeScriptName, as small as RFC 9661 s1.2.1 allows."""
SCRIPTS_MAX: Final = 50
"""maxNumberScripts: one of them is active, the others are for later."""
ERROR_CHARS_MAX: Final = 300
"""Of a stored lastError."""
_NOT_IN_NAMES = frozenset({"Cc", "Zl", "Zp", "Cs"})
"""Controls and separators of lines. Source: RFC 9661 s2, RFC 5804 s1.6"""
_SCRIPTS_CACHED = 64

read_script = lru_cache(maxsize=_SCRIPTS_CACHED)(check_script)
"""`check_script`, which an account's mail asks for again and again. Raises: SieveError."""


def _is_name(name: object) -> bool:
    return (
        isinstance(name, str)
        and 0 < len(name.encode("utf-8", "replace")) <= NAME_BYTES_MAX
        and not any(unicodedata.category(c) in _NOT_IN_NAMES for c in name)
    )


async def _check(
    context: SetContext, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> None:
    """Raises: SetError sieveIsActive, alreadyExists, invalidProperties, overQuota, blobNotFound,
    tooLarge, invalidSieve. Source: RFC 9661 s2.4"""
    if after is None:
        if before is not None and before["isActive"]:
            raise SetError("sieveIsActive", "deactivate it before it is destroyed")
        return
    rows = await context.tx.store.load_objects("SieveScript", None)
    others = {msgspec.json.decode(row.data)["name"]: str(row.id) for row in rows}
    if after["name"] is None:
        after["name"] = _choose_name(others)
    if not _is_name(after["name"]):
        raise SetError("invalidProperties", f"1 to {NAME_BYTES_MAX} octets", ["name"])
    is_renamed = before is None or before["name"] != after["name"]
    if is_renamed and after["name"] in others:
        raise SetError("alreadyExists", "a script has this name", existingId=others[after["name"]])
    if before is None and len(rows) >= SCRIPTS_MAX:
        raise SetError("overQuota", f"there are already {len(rows)} scripts")
    if before is None or before["blobId"] != after["blobId"]:
        after["blobId"] = context.resolve(after["blobId"])
        problem = context.prepared["contents"][after["blobId"]]
        if problem is not None:
            raise problem
        after["lastError"] = None


def _choose_name(taken: Mapping[str, str]) -> str:
    numbers = (f"Script {number}" for number in range(1, SCRIPTS_MAX + 2))
    return next(name for name in numbers if name not in taken)


class _ScriptType(ObjectType):
    """A small type, of which one object at most is active."""

    async def prepare(
        self, call: CallContext, account_id: AccountId, request: SetRequest
    ) -> dict[str, Any]:
        """Reads every script that is to be stored. Raises: MethodError invalidArguments."""
        take_bool(request.arguments, "onSuccessDeactivateScript")
        wanted = request.arguments.get("onSuccessActivateScript")
        if not isinstance(wanted, str | None):
            raise MethodError("invalidArguments", "'onSuccessActivateScript' must be an id")
        given = [obj.get("blobId") for obj in (*request.create.values(), *request.update.values())]
        ids = {call.resolve(blob_id) for blob_id in given if isinstance(blob_id, str)}
        contents = {id: await _find_problem(call.services, account_id, id) for id in sorted(ids)}
        return {"contents": contents}

    async def finish(
        self, context: SetContext, answer: dict[str, Any]
    ) -> list[tuple[str, dict[str, Any]]]:
        """Deactivate, then activate, if everything else was done. Source: RFC 9661 s2.4"""
        if answer["notCreated"] or answer["notUpdated"] or answer["notDestroyed"]:
            return []
        changed: dict[str, bool] = {}
        if context.arguments.get("onSuccessDeactivateScript") is True:
            changed |= await _set_active(context.tx, None)
        wanted = context.arguments.get("onSuccessActivateScript")
        if wanted is not None:
            changed |= await _set_active(context.tx, context.resolve(wanted))
        _tell(answer, changed)
        return []


SIEVE_TYPE = _ScriptType(
    name="SieveScript",
    prefix="f",
    properties={
        "name": Property(str | None, None),
        "blobId": Property(str),
        "isActive": server_set(bool, False),
        "activeMs": internal(int, 0),
        "lastError": internal(str | None, None),
    },
    check=_check,
    filters={
        "name": Condition(is_text, lambda obj, text: text in obj["name"]),
        "isActive": Condition(is_bool, lambda obj, value: obj["isActive"] is value),
    },
    sorts={"name": lambda obj: obj["name"], "isActive": lambda obj: obj["isActive"]},
)
"""Source: RFC 9661 s2. `activeMs`: since when it has been active; older mail is let be.
`lastError`: why its last run that went wrong was ended; None once it is changed."""


def _tell(answer: dict[str, Any], changed: Mapping[str, bool]) -> None:
    """Say in the answer which scripts became active or ceased to be."""
    made = {obj["id"]: obj for obj in (answer["created"] or {}).values()}
    for id, is_active in changed.items():
        if id in made:
            made[id]["isActive"] = is_active
            continue
        answer["updated"] = answer["updated"] or {}
        answer["updated"][id] = (answer["updated"].get(id) or {}) | {"isActive": is_active}


async def _set_active(tx: Tx, id: str | None) -> dict[str, bool]:
    """Make this the active script, or none for None; nothing happens for an unknown id.

    Gives id -> isActive of those that changed.
    """
    scripts = {
        str(row.id): msgspec.json.decode(row.data)
        for row in await tx.store.load_objects("SieveScript", None)
    }
    if id is not None and id not in scripts:
        return {}
    changed = {}
    for key, before in scripts.items():
        if before["isActive"] != (key == id):
            changed[key] = key == id
            since = {"activeMs": tx.clock.now_ms()} if key == id else {}
            await tx.update("SieveScript", key, before, before | {"isActive": key == id} | since)
    return changed


async def _find_problem(services: Services, account_id: AccountId, blob_id: str) -> SetError | None:
    """Why these octets cannot be a script; None if they can. Cost: linear in it."""
    raw = await load_blob(services, account_id, blob_id)
    if raw is None:
        return SetError("blobNotFound", "there is no such blob", notFound=[blob_id])
    if len(raw) > SCRIPT_BYTES_MAX:
        return SetError("tooLarge", "of a script", maxSize=SCRIPT_BYTES_MAX)
    try:
        read_script(raw)
    except SieveError as error:
        return SetError("invalidSieve", str(error))
    return None


async def run_validate(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    """SieveScript/validate: whether a blob is a script that can be run.

    Raises: MethodError invalidArguments, accountNotFound, blobNotFound. Source: RFC 9661 s2.6
    """
    account_id = check_read(context.caller, arguments.get("accountId")).account.id
    check_names(arguments, ("accountId", "blobId"))
    blob_id = arguments.get("blobId")
    if not isinstance(blob_id, str):
        raise MethodError("invalidArguments", "'blobId' must be given and be an id")
    problem = await _find_problem(context.services, account_id, context.resolve(blob_id))
    if problem is not None and problem.kind == "blobNotFound":
        raise MethodError("blobNotFound", problem.description)
    return {"accountId": account_id, "error": None if problem is None else problem.to_object()}


# -- for those who run it --------------------------------------------------------------------------
async def load_active(reader: StoreReader) -> tuple[str, dict[str, Any]] | None:
    """The active script of an account, with its id; None if there is none."""
    for row in await reader.load_objects("SieveScript", None):
        script = msgspec.json.decode(row.data)
        if script["isActive"]:
            return str(row.id), script
    return None


async def load_sieve_wish(reader: StoreReader) -> int | None:
    """Since when a script has wanted to see new mail, in UTC milliseconds; None: none does."""
    active = await load_active(reader)
    return None if active is None else int(active[1]["activeMs"])


async def load_script(
    services: Services, account_id: AccountId, script: Mapping[str, Any]
) -> Script | None:
    """The script ready to run; None when its octets are lost."""
    raw = await load_blob(services, account_id, script["blobId"])
    return None if raw is None else read_script(raw)


async def apply_last_error(tx: Tx, id: str, error: str) -> None:
    """Show the owner why a run was ended. The same words again write nothing."""
    before = await tx.load("SieveScript", id)
    if before is not None:
        await tx.update("SieveScript", id, before, before | {"lastError": error[:ERROR_CHARS_MAX]})


async def _load_last_errors(
    context: CallContext, account_id: AccountId, ids: list[str]
) -> dict[str, Any]:
    found, _ = await SIEVE_TYPE.load_objects(context.services, account_id, ids)
    return {obj["id"]: obj["lastError"] for obj in found}


LAST_ERROR = PropertyExtension("SieveScript", "lastError", OWN, _load_last_errors)
"""What RFC 9661 has no place for: why a script that is right went wrong with some message."""

SIEVE_FEATURE = Feature(
    name="sieve",
    capabilities=(
        Capability(
            SIEVE,
            session={"implementation": "Tindra"},
            account={
                "maxSizeScriptName": NAME_BYTES_MAX,
                "maxSizeScript": SCRIPT_BYTES_MAX,
                "maxNumberScripts": SCRIPTS_MAX,
                "maxNumberRedirects": REDIRECTS_MAX,
                "sieveExtensions": EXTENSIONS,
                "notificationMethods": None,
                "externalLists": None,
            },
            is_of_mailbox=True,
        ),
        Capability(OWN, is_of_mailbox=True),
    ),
    datatypes=(
        Datatype(
            name="SieveScript",
            capability=SIEVE,
            properties=SIEVE_TYPE.shown,
            source=SIEVE_TYPE,
            writer=SIEVE_TYPE,
            querier=SIEVE_TYPE,
            set_arguments=frozenset({"onSuccessActivateScript", "onSuccessDeactivateScript"}),
            right="admin",
        ),
    ),
    methods=(Method("SieveScript/validate", SIEVE, run_validate),),
    properties=(LAST_ERROR,),
)
"""Who may change the rules of an account decides where its mail goes, hence the right."""
