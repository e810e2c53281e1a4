"""Answers by themselves: the VacationResponse, and what a script says by `vacation`.

An answer is one EmailSubmission, made in the transaction that takes the arrival's intent away and
remembers whom it went to: so there is one, and not two, whatever crashes. It leaves with a null
return path, and nothing is filed. Source: RFC 8621 s8, RFC 3834, RFC 5230
"""

from __future__ import annotations

from typing import NamedTuple

from tindra.base.ids import encode_base32
from tindra.core.services import Services
from tindra.core.tx import Tx
from tindra.features.mail.answering.memory import make_memory_id, remember
from tindra.features.mail.answering.message import AnswerText, Mark, build_answer
from tindra.features.mail.answering.rules import Answerable, decide_answer
from tindra.features.mail.answering.sending import Leaving, apply_leaving
from tindra.features.mail.answering.vacation import (
    ANSWER_AGAIN_MS,
    is_away,
    load_vacation,
    make_answer_text,
)
from tindra.features.mail.identity import load_identities
from tindra.features.mail.writing.addresses import fold_address
from tindra.model.mail import EmailRow
from tindra.model.stored import BlobRow
from tindra.sync.arrival.runner import Arrived, Happenings


class Away(NamedTuple):
    """What is to be said, and how often."""

    said: AnswerText
    handle: str = ""
    """Answers of one handle count together: one person gets one of them in `again_ms`."""
    again_ms: int = ANSWER_AGAIN_MS
    addresses: tuple[str, ...] = ()
    """More addresses that are the user's."""
    sender: str | None = None
    """Who answers, if that is one of the Identities; None: who was written to."""


class Answer(NamedTuple):
    """An answer that is ready to go."""

    blob: BlobRow
    to: Answerable
    memory_id: str
    again_ms: int


async def make_answer(services: Services, arrived: Arrived, away: Away) -> Answer | None:
    """The answer to one message, built and stored; None if it must not be answered.

    Raises: ValueError: what is to be said cannot be written as a message.
    """
    identities = await services.store.read(arrived.account_id, load_identities)
    to = decide_answer(arrived.head, identities, away.addresses)
    if isinstance(to, str):
        return None
    for id, identity in identities.items():
        if away.sender and fold_address(identity["email"]) == fold_address(away.sender):
            to = to._replace(identity_id=id, author=identity["email"])
    author = {"name": identities[to.identity_id]["name"], "email": to.author}
    mark = Mark(services.clock.now_ms(), encode_base32(services.random.bits(120), 24))
    raw = build_answer(arrived.head, author, to.recipient, away.said, mark)
    blob = await services.blobs.stage(arrived.account_id, raw)
    memory_id = make_memory_id(away.handle, fold_address(to.recipient))
    return Answer(blob, to, memory_id, away.again_ms)


async def apply_answer(tx: Tx, email: EmailRow, answer: Answer) -> bool:
    """Send it once this is durable; False if this person had an answer lately."""
    until_ms = tx.clock.now_ms() + answer.again_ms
    if not await remember(tx, "VacationMemory", answer.memory_id, until_ms):
        return False
    leaving = Leaving(
        "vacation", answer.blob, answer.to.identity_id, email.thread_id, "", answer.to.recipient
    )
    await apply_leaving(tx, leaving)
    return True


class VacationStep:
    """Answers new mail while the VacationResponse says so."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def decide(self, arrived: Arrived) -> Happenings | None:
        """Source: RFC 8621 s8"""
        vacation = await self._services.store.read(arrived.account_id, load_vacation)
        received_ms = arrived.email.received_ms
        if not is_away(vacation, received_ms) or received_ms < vacation["enabledMs"] // 1000 * 1000:
            return None
        away = Away(make_answer_text(vacation))
        try:
            answer = await make_answer(self._services, arrived, away)
        except ValueError:  # an address that can be read, but in no way be written
            return None
        if answer is None:
            return None

        async def apply(tx: Tx, email: EmailRow) -> EmailRow:
            # It may have been disabled since; and what a script put away is not answered.
            is_put_away = await _is_put_away(tx, email)
            if not is_put_away and is_away(await load_vacation(tx.store), received_ms):
                await apply_answer(tx, email, answer)
            return email

        return Happenings(apply)


async def _is_put_away(tx: Tx, email: EmailRow) -> bool:
    """Whether it is nowhere but in the junk and the trash."""
    roles = {row.id: row.role for row in await tx.store.load_mailboxes()}
    return all(roles.get(id) in ("junk", "trash") for id in email.mailbox_ids)
