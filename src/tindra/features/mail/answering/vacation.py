"""VacationResponse (RFC 8621 s8): one object in each account, which says what to answer and when.

It always exists; before it is first changed it says no. What is answered is decided by `rules`,
when mail arrives (`sync/arrival`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tindra.base.ids import ModSeq
from tindra.core.datatype import (
    CallContext,
    Capability,
    Datatype,
    GetRequest,
    GetResult,
    Method,
    SetContext,
)
from tindra.core.errors import SetError
from tindra.core.methods.changes import run_changes
from tindra.core.ports import Cursor, StoreReader
from tindra.core.state import encode_state
from tindra.features.mail.answering.message import SUBJECT_CHARS_MAX, AnswerText
from tindra.features.mail.answering.sending import cancel_leaving
from tindra.features.objects import ObjectType, Property, internal
from tindra.wire.jmap.date import parse_utc_date

VACATION: Final = "urn:ietf:params:jmap:vacationresponse"
SINGLETON: Final = "singleton"
ANSWER_AGAIN_MS: Final = 7 * 24 * 3600 * 1000
"""One sender gets one answer in so long. Source: RFC 3834 s2, RFC 5230 s4.1"""
BODY_CHARS_MAX: Final = 60_000
"""Of textBody and of htmlBody: both, as JSON, must find room in one small object."""
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


async def _check(
    context: SetContext, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> None:
    """Raises: SetError invalidProperties. Source: RFC 8621 s8"""
    assert before is not None, "it is never made"
    assert after is not None, "it is never destroyed"
    dates = [name for name in ("fromDate", "toDate") if after[name] is not None]
    wrong = [name for name in dates if parse_utc_date(after[name]) is None]
    subject = after["subject"] or ""
    if len(subject) > SUBJECT_CHARS_MAX or _CONTROLS.search(subject):
        wrong.append("subject")
    wrong += [n for n in ("textBody", "htmlBody") if len(after[n] or "") > BODY_CHARS_MAX]
    if wrong:
        raise SetError("invalidProperties", "no date, too long, or control characters", wrong)
    if after["isEnabled"] and not before["isEnabled"]:
        after["enabledMs"] = context.tx.clock.now_ms()
    if before["isEnabled"] and not after["isEnabled"]:
        await cancel_leaving(context.tx, "vacation")


class _VacationType(ObjectType):
    """A small type of one object, stored or not."""

    async def load_for_get(self, context: CallContext, request: GetRequest) -> GetResult:
        """Source: RFC 8621 s8.1"""

        async def read(reader: StoreReader) -> tuple[dict[str, Any], ModSeq]:
            states = await reader.load_states()
            return await load_vacation(reader), states.get("VacationResponse", ModSeq(0))

        vacation, state = await context.services.store.read(request.account_id, read)
        wanted = request.properties or self.shown
        obj = {k: v for k, v in ({"id": SINGLETON} | vacation).items() if k in wanted}
        asked = [SINGLETON] if request.ids is None else request.ids
        missing = [id for id in asked if id != SINGLETON]
        return GetResult(encode_state(Cursor(state)), [obj] if SINGLETON in asked else [], missing)

    async def load(self, context: SetContext, ids: Sequence[str]) -> dict[str, Any]:
        """The object, if it was asked for."""
        return {SINGLETON: await load_vacation(context.tx.store)} if SINGLETON in ids else {}

    async def create(
        self, context: SetContext, creation_id: str, obj: dict[str, Any]
    ) -> dict[str, Any]:
        """Raises: SetError singleton. Source: RFC 8621 s8.2"""
        raise SetError("singleton", "there is one of these, and only one")

    async def update(
        self, context: SetContext, id: str, before: dict[str, Any], patch: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Raises: SetError forbidden, invalidProperties, invalidPatch, tooLarge."""
        if "send" not in context.access.rights:
            raise SetError("forbidden", "this needs the right to send in the account")
        return await super().update(context, id, before, patch)

    async def destroy(self, context: SetContext, id: str, before: dict[str, Any]) -> None:
        """Raises: SetError singleton. Source: RFC 8621 s8.2"""
        raise SetError("singleton", "it cannot be destroyed, only disabled")


VACATION_TYPE = _VacationType(
    name="VacationResponse",
    prefix="v",
    properties={
        "isEnabled": Property(bool, False),
        "fromDate": Property(str | None, None),
        "toDate": Property(str | None, None),
        "subject": Property(str | None, None),
        "textBody": Property(str | None, None),
        "htmlBody": Property(str | None, None),
        "enabledMs": internal(int, 0),
    },
    check=_check,
)
"""Source: RFC 8621 s8. `enabledMs`, which devices do not see: mail from before is not answered."""


async def load_vacation(reader: StoreReader) -> dict[str, Any]:
    """The VacationResponse of an account as it is now, without id."""
    rows = await reader.load_objects("VacationResponse", [SINGLETON])
    if rows:
        return {k: v for k, v in VACATION_TYPE.decode(rows[0]).items() if k != "id"}
    return {name: prop.default for name, prop in VACATION_TYPE.properties.items()}


def is_away(vacation: Mapping[str, Any], arrived_ms: int) -> bool:
    """Whether mail that arrived then is to be answered: from fromDate, up to before toDate.

    Source: RFC 8621 s8
    """
    start, end = (parse_utc_date(vacation[name]) for name in ("fromDate", "toDate"))
    return (
        bool(vacation["isEnabled"])
        and (start is None or arrived_ms >= start)
        and (end is None or arrived_ms < end)
    )


def make_answer_text(vacation: Mapping[str, Any]) -> AnswerText:
    """What is to be said."""
    return AnswerText(vacation["subject"], vacation["textBody"], vacation["htmlBody"])


VACATION_CAPABILITY = Capability(VACATION, is_of_mailbox=True)
"""Source: RFC 8621 s1.3.3"""

VACATION_RESPONSE = Datatype(
    name="VacationResponse",
    capability=VACATION,
    properties=VACATION_TYPE.shown,
    source=VACATION_TYPE,
    writer=VACATION_TYPE,
)


async def _run_changes(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    """VacationResponse/changes: the one object is always there, so it was never created, also
    where it was stored for the first time. Source: RFC 8620 s5.2"""
    answer = await run_changes(context, VACATION_RESPONSE, arguments)
    return answer | {"created": [], "updated": [*answer["created"], *answer["updated"]]}


VACATION_CHANGES = Method("VacationResponse/changes", VACATION, _run_changes)
