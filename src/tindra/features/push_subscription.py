"""PushSubscription (RFC 8620 s7.2): where a device wants to be told that states moved.

A subscription belongs to a user and to the credential that made it, and to no account; it is kept
in the user's home account and has no state of its own. What is sent, and when, is for
`sync/webpush`; its notes lie beside the subscription as a PushProgress, which no device sees.

Invariants: `url` and `keys` never leave; the code that proves the address is told to that address
only; what ends a subscription (its owner, time, a credential that is no more, the push service)
removes all that is known of it in one commit.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId, ModSeq
from tindra.core.access import Caller
from tindra.core.arguments import check_names, take_names
from tindra.core.datatype import (
    CORE,
    CallContext,
    Capability,
    Datatype,
    Feature,
    GetRequest,
    GetResult,
    Method,
    SetContext,
    SetRequest,
)
from tindra.core.errors import MethodError, SetError
from tindra.core.methods.get import run_get
from tindra.core.methods.set import run_set
from tindra.core.ports import Directory, StoreReader
from tindra.core.services import Services
from tindra.core.tx import Change, Tx, transact
from tindra.features.objects import ObjectType, Property
from tindra.model.account import User
from tindra.model.sharing import PART_STATE_BASE
from tindra.wire.http.url import parse_https_url
from tindra.wire.jmap.date import encode_utc_date, parse_utc_date
from tindra.wire.webpush.encryption import parse_push_keys

VAPID: Final = "urn:ietf:params:jmap:webpush-vapid"
TYPE: Final = "PushSubscription"
PROGRESS: Final = "PushProgress"
RATE: Final = "PushRate"
TIMER: Final = "push-subscription-expires"
DEVICE_ID_CHARS_MAX: Final = 255
"""Of deviceClientId: the RFC recommends a hash."""
TYPES_MAX: Final = 100
"""Of type names in `types`: more than there are."""
TYPE_NAME_CHARS_MAX: Final = 100
"""Of one name in `types`."""
_RATE_ID: Final = "made"
_CODE_BITS: Final = 128


class _Keys(msgspec.Struct, forbid_unknown_fields=True):
    p256dh: str
    auth: str


class PushProgress(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What the sender knows of one subscription; written by it alone."""

    pushed: dict[AccountId, ModSeq] = {}
    """account -> everything up to here was sent, or was known when the subscription was made."""
    application_server_key: str = ""
    """The VAPID key it was first written to with: with another one it is of no use."""
    is_verification_sent: bool = False
    tries: int = 0
    """Failures in a row."""
    refusals: int = 0
    """Those of them that said the request is wrong."""
    pace_ms: int = limits.PUSH_INTERVAL_MS
    """Time between pushes; grows when the service says it is too much."""
    rest_until_ms: int = 0
    """Nothing is sent before; UTC."""


class Subscription(msgspec.Struct, frozen=True, rename="camel"):
    """A PushSubscription as it is stored, with its progress."""

    id: str
    url: str
    keys: _Keys | None
    types: list[str] | None
    verification_code: str | None
    expires: str | None
    code: str
    credential: str
    since: dict[AccountId, ModSeq]
    progress: PushProgress = PushProgress()

    @property
    def is_verified(self) -> bool:
        """The device proved that it reads what is sent to the URL."""
        return self.verification_code is not None

    @property
    def expires_ms(self) -> int | None:
        """None: when its credential ends."""
        return parse_utc_date(self.expires)


def make_credential(caller: Caller) -> str:
    """Names what a caller came with: a token, or the password of today.

    Source: RFC 8620 s7.2
    """
    if caller.token_hash:
        return f"token:{caller.token_hash.hex()}"
    return _name_password(caller.user)


def _name_password(user: User) -> str:
    return f"password:{hashlib.sha256(user.password_hash.encode()).hexdigest()}"


async def is_credential_held(
    directory: Directory, user: User, credential: str, now_ms: int
) -> bool:
    """Whether a user can still sign in with it. Cost: at most one directory read."""
    kind, _, value = credential.partition(":")
    if kind != "token":
        return hmac.compare_digest(credential, _name_password(user))
    token = await directory.find_token(bytes.fromhex(value))
    if token is None or token.user_id != user.id:
        return False
    return token.expires_ms is None or now_ms < token.expires_ms


# -- the type --------------------------------------------------------------------------------------
class _PushSubscriptionType(ObjectType):
    """A small type, of which each credential sees its own."""

    async def load_for_get(self, context: CallContext, request: GetRequest) -> GetResult:
        """Those of the caller's credential, without what stays here. Source: RFC 8620 s7.2.1"""
        result = await super().load_for_get(context, request._replace(properties=None))
        credential = make_credential(context.caller)
        wanted = request.properties or sorted(_PUBLIC)
        found = [obj for obj in result.objects if obj["credential"] == credential]
        known = {obj["id"] for obj in found}
        missing = [id for id in request.ids or () if id not in known]
        return GetResult(result.state, [{k: obj[k] for k in wanted} for obj in found], missing)

    async def prepare(
        self, call: CallContext, account_id: AccountId, request: SetRequest
    ) -> dict[str, Any]:
        """What the device knows already, and whether its credential ends by itself.

        Cost: one read for each account of the caller, if something is to be made.
        """
        if not request.create and not request.update:
            return {}
        services, hash = call.services, call.caller.token_hash
        token = await services.directory.find_token(hash) if hash else None
        since = {}
        for id in call.caller.accounts if request.create else ():
            states = await services.store.read(id, lambda reader: reader.load_states())
            # As the whole account counts, also for who sees a part of it now.
            since[id] = ModSeq(max(states.values(), default=0) % PART_STATE_BASE)
        is_bounded = token is not None and token.expires_ms is not None
        return {"since": since, "is_bounded": is_bounded}

    async def load(self, context: SetContext, ids: Sequence[str]) -> dict[str, Any]:
        """Those of the caller's credential."""
        credential = make_credential(context.call.caller)
        found = await super().load(context, ids)
        return {id: obj for id, obj in found.items() if obj["credential"] == credential}

    async def create(
        self, context: SetContext, creation_id: str, obj: dict[str, Any]
    ) -> dict[str, Any]:
        """Source: RFC 8620 s7.2.2"""
        made = await super().create(context, creation_id, obj)
        return {k: v for k, v in made.items() if k in _TOLD}


async def _check(
    context: SetContext, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> None:
    """Raises: SetError invalidProperties, overQuota, rateLimit. Source: RFC 8620 s7.2.2"""
    if after is None:
        return
    if after["types"] is not None and (
        len(after["types"]) > TYPES_MAX
        or any(len(name) > TYPE_NAME_CHARS_MAX for name in after["types"])
    ):
        raise SetError("invalidProperties", f"at most {TYPES_MAX} names of types", ["types"])
    if before is None:
        await _check_new(context, after)
    else:
        _check_code(before, after)
    if before is None or before["expires"] != after["expires"]:
        is_bounded = context.prepared["is_bounded"]
        after["expires"] = _limit_expires(after["expires"], context.tx.clock.now_ms(), is_bounded)


async def _check_new(context: SetContext, after: dict[str, Any]) -> None:
    if after["verificationCode"] is not None:
        text = "the code comes by the push service"
        raise SetError("invalidProperties", text, ["verificationCode"])
    if not 0 < len(after["deviceClientId"]) <= DEVICE_ID_CHARS_MAX:
        text = f"between 1 and {DEVICE_ID_CHARS_MAX} characters"
        raise SetError("invalidProperties", text, ["deviceClientId"])
    for name, parse in (("url", parse_https_url), ("keys", _parse_keys)):
        try:
            parse(after[name])
        except ValueError as error:
            raise SetError("invalidProperties", str(error), [name]) from None
    await _count(context.tx)
    after["code"] = f"{context.call.services.random.bits(_CODE_BITS):032x}"
    after["credential"] = make_credential(context.call.caller)
    after["since"] = context.prepared["since"]


def _parse_keys(keys: dict[str, str] | None) -> None:
    if keys is not None:
        parse_push_keys(keys["p256dh"], keys["auth"])


def _check_code(before: dict[str, Any], after: dict[str, Any]) -> None:
    code = after["verificationCode"]
    if code == before["verificationCode"]:
        return
    if code is None or not hmac.compare_digest(code.encode(), before["code"].encode()):
        raise SetError("invalidProperties", "this is not the code", ["verificationCode"])


def _limit_expires(asked: str | None, now_ms: int, is_bounded: bool) -> str | None:
    """Args:
    is_bounded: the credential ends by itself, which ends the subscription too; a limit of ours
        would only be in the way.
    Source: RFC 8620 s7.2
    """
    if asked is None and is_bounded:
        return None
    latest_ms = now_ms + limits.PUSH_SUBSCRIPTION_MS_MAX
    asked_ms = latest_ms if asked is None else parse_utc_date(asked)
    if asked_ms is None or asked_ms <= now_ms:
        raise SetError("invalidProperties", "a UTCDate that is still to come", ["expires"])
    return encode_utc_date(asked_ms if is_bounded else min(asked_ms, latest_ms))


async def _count(tx: Tx) -> None:
    """Raises: SetError overQuota, rateLimit. Source: RFC 8620 s8.6"""
    if len(await tx.store.load_objects(TYPE, None)) >= limits.PUSH_SUBSCRIPTIONS_PER_USER_MAX:
        text = f"a user has at most {limits.PUSH_SUBSCRIPTIONS_PER_USER_MAX}; destroy old ones"
        raise SetError("overQuota", text)
    now_ms = tx.clock.now_ms()
    before = await tx.load(RATE, _RATE_ID)
    made = [] if before is None else before["madeMs"]
    recent = [at_ms for at_ms in made if at_ms > now_ms - limits.PUSH_SUBSCRIPTIONS_NEW_MS]
    if len(recent) >= limits.PUSH_SUBSCRIPTIONS_NEW_MAX:
        raise SetError("rateLimit", f"over {limits.PUSH_SUBSCRIPTIONS_NEW_MAX} in an hour")
    after = {"madeMs": [*recent, now_ms]}
    if before is None:
        await tx.create(RATE, after, id=_RATE_ID)
    else:
        await tx.update(RATE, _RATE_ID, before, after)


_TYPE = _PushSubscriptionType(
    name=TYPE,
    prefix="p",
    properties={
        "deviceClientId": Property(str, is_immutable=True),
        "url": Property(str, is_immutable=True),
        "keys": Property(_Keys | None, None, is_immutable=True),
        "verificationCode": Property(str | None, None),
        "expires": Property(str | None, None),
        "types": Property(list[str] | None, None),
        "code": Property(str, "", is_server_set=True),
        "credential": Property(str, "", is_server_set=True),
        "since": Property(dict[str, int], {}, is_server_set=True),
    },
    check=_check,
)
_PUBLIC = frozenset({"id", "deviceClientId", "verificationCode", "expires", "types"})
_PRIVATE = frozenset({"url", "keys"})
_TOLD = _PUBLIC | _PRIVATE
_DATATYPE = Datatype(
    name=TYPE, capability=CORE, properties=_PUBLIC, source=_TYPE, writer=_TYPE, is_pushed=False
)


# -- methods ---------------------------------------------------------------------------------------
async def _get(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    """PushSubscription/get. Raises: MethodError forbidden for url and keys.

    Source: RFC 8620 s7.2.1
    """
    check_names(arguments, ("ids", "properties"))
    if not _PRIVATE.isdisjoint(take_names(arguments, "properties") or ()):
        raise MethodError("forbidden", "url and keys are not told to anybody")
    home = {"accountId": context.caller.user.home_account_id}
    answer = await run_get(context, _DATATYPE, arguments | home)
    return {name: answer[name] for name in ("list", "notFound")}


async def _set(context: CallContext, arguments: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """PushSubscription/set. Source: RFC 8620 s7.2.2"""
    check_names(arguments, ("create", "update", "destroy"))
    home = {"accountId": context.caller.user.home_account_id}
    [(name, answer), *implicit] = await run_set(context, _DATATYPE, arguments | home)
    for unknown in ("accountId", "oldState", "newState"):
        del answer[unknown]
    return [(name, answer), *implicit]


# -- its end ---------------------------------------------------------------------------------------
async def _follow(tx: Tx, changes: list[Change]) -> None:
    """Keep the timer of each subscription, and forget its progress with it."""
    for change in changes:
        due_ms = None if change.after is None else parse_utc_date(change.after["expires"])
        if due_ms is None:
            await tx.delete_timer(TIMER, change.id)
        else:
            await tx.put_timer(TIMER, change.id, due_ms)
        if change.after is None:
            progress = await tx.load(PROGRESS, change.id)
            if progress is not None:
                await tx.destroy(PROGRESS, change.id, progress)


async def _expire(services: Services, account_id: AccountId, id: str, _: Any) -> None:
    """The timer of a subscription; idempotent."""

    async def write(tx: Tx) -> None:
        before = await tx.load(TYPE, id)
        expires_ms = None if before is None else parse_utc_date(before["expires"])
        if before is not None and expires_ms is not None and expires_ms <= tx.clock.now_ms():
            await tx.destroy(TYPE, id, before)

    await transact(services, account_id, "push-subscription-expired", write, origin="system")


async def destroy_subscription(services: Services, account_id: AccountId, id: str) -> None:
    """End a subscription whose push service, or whose credential, is no more."""

    async def write(tx: Tx) -> None:
        before = await tx.load(TYPE, id)
        if before is not None:
            await tx.destroy(TYPE, id, before)

    await transact(services, account_id, "push-subscription-ended", write, origin="system")


# -- for the sender --------------------------------------------------------------------------------
async def load_subscriptions(services: Services, account_id: AccountId) -> list[Subscription]:
    """All subscriptions of a home account. Cost: one read."""

    async def read(reader: StoreReader) -> list[Subscription]:
        notes = {row.id: row.data for row in await reader.load_objects(PROGRESS, None)}
        return [
            msgspec.structs.replace(
                msgspec.convert(_TYPE.decode(row), Subscription),
                progress=msgspec.json.decode(notes.get(row.id, b"{}"), type=PushProgress),
            )
            for row in await reader.load_objects(TYPE, None)
        ]

    return await services.store.read(account_id, read)


async def save_progress(
    services: Services, account_id: AccountId, id: str, progress: PushProgress
) -> None:
    """Keep what the sender knows of a subscription, if that is still there."""

    async def write(tx: Tx) -> None:
        before = await tx.load(PROGRESS, id)
        after = msgspec.to_builtins(progress)
        if await tx.load(TYPE, id) is None:
            return
        if before is None:
            await tx.create(PROGRESS, after, id=id)
        else:
            await tx.update(PROGRESS, id, before, after)

    await transact(services, account_id, "push-progress", write, origin="system")


PUSH_SUBSCRIPTION_FEATURE = Feature(
    name="push_subscription",
    methods=(Method(f"{TYPE}/get", CORE, _get), Method(f"{TYPE}/set", CORE, _set)),
    reactions={TYPE: _follow},
    timers={TIMER: _expire},
)


def make_vapid_feature(application_server_key: str) -> Feature:
    """Tells clients the key that every push of this server is signed with.

    Source: RFC 9749 s3
    """
    session = {"applicationServerKey": application_server_key}
    return Feature(name="webpush_vapid", capabilities=(Capability(VAPID, session=session),))
