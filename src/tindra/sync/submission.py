"""Takes the intents of the outbox topic "submission" to a server: at most once, whatever breaks.

Intent row -> effect -> done row, with the state kept on the EmailSubmission. Just before the
message itself goes over the line the object becomes "sending", durably; what is found in that
state by anyone but the sender itself may have been sent, so it becomes "uncertain" and is never
sent again by us; the provider's own copy may still tell that it was sent. Before, it can be
canceled, and any failure leads to another try.
Sockets live in `outside/smtp`. Source: RFC 8621 s7, RFC 5321 s4
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId
from tindra.core.ports import StoreReader
from tindra.core.services import Services
from tindra.core.tx import Tx, transact
from tindra.features.mail.submission import TOPIC, make_status
from tindra.model.stored import OutboxRow
from tindra.sync.intents import note_sent
from tindra.sync.ports import ProviderError, Rejected, ServerSettings, Throttled, Transient
from tindra.sync.sent import is_filed

ROWS_PER_TURN_MAX = 50
"""Intents taken in one turn; what is left is due at once in the next."""
FINISH_MS_MAX = 15_000
"""How long a message that is on the line when we are told to stop may take to its end: cut off, it
would be uncertain for ever."""
SENT_LOOK_MS = 60_000
"""How often the sent mail of the provider is searched for a message in doubt."""
SENT_LOOKS_MAX = 15
"""Then it stays uncertain."""
_RETRY_FIRST_MS = 30_000
_RETRY_LAST_MS = 3_600_000
"""12 tries between these take some 6 hours: long enough for an outage of a provider."""


class Recipient(msgspec.Struct, frozen=True):
    """One RCPT TO."""

    email: str
    parameters: dict[str, str | None] = {}
    """Decoded, as the device gave them."""


class Envelope(msgspec.Struct, frozen=True):
    """What MAIL FROM and RCPT TO say; checked by `features/mail/envelope`."""

    mail_from: str
    """Empty for a null return path."""
    parameters: dict[str, str | None]
    recipients: tuple[Recipient, ...]
    """At least one."""


class RecipientReply(msgspec.Struct, frozen=True):
    """The last word of the server on one recipient."""

    email: str
    code: int
    """SMTP reply code: 2xx taken over, 4xx try again, 5xx refused."""
    text: str
    """The reply in one line with its code. Source: RFC 8621 s7 (smtpReply)"""


class Uncertain(ProviderError):
    """The message went out, and the connection was lost before the server answered."""


class Withdrawn(Exception):
    """Raised by `before_data`: it was canceled at the last moment; nothing may be sent."""


class MessageSender(Protocol):
    """Hands one message to a submission server."""

    async def submit(
        self,
        settings: ServerSettings,
        password: str,
        envelope: Envelope,
        raw: bytes,
        before_data: Callable[[], Awaitable[None]],
    ) -> list[RecipientReply]:
        """Send `raw`; one reply for each recipient, in order.

        Args:
            before_data: awaited once, when the server has taken at least one recipient and
                before the first octet of the message is sent. What it raises stops the sending
                and is raised here.
        Raises: Transient, Throttled, AuthRevoked, Rejected: nothing was sent. Uncertain.
        """
        ...


class Route(NamedTuple):
    """The way out of an account."""

    settings: ServerSettings
    password: str


LoadRoute = Callable[[AccountId], Awaitable[Route | None]]
"""None: no outgoing server is connected (yet)."""

Step = Literal["drop", "wait", "doubt", "look", "send"]
_Decision = Callable[[dict[str, Any]], dict[str, Any]]
"""The EmailSubmission as it is -> as it becomes."""


def decide_step(obj: dict[str, Any] | None, due_ms: int, now_ms: int) -> Step:
    """What to do about an intent, given its EmailSubmission as stored."""
    if obj is None or obj["sendState"] in ("final", "canceled"):
        return "drop"
    if obj["sendState"] == "uncertain":
        return "wait" if due_ms > now_ms else "look"
    if obj["sendState"] == "sending":
        return "doubt"
    return "wait" if due_ms > now_ms else "send"


def decide_retry_ms(tries: int, error: ProviderError | None = None) -> int:
    """How long to wait before the next try, after `tries` failed ones."""
    wait_ms = min(_RETRY_FIRST_MS << min(tries, 20), _RETRY_LAST_MS)
    asked = error.retry_after_ms if isinstance(error, Transient) else None
    if isinstance(error, Throttled):
        wait_ms = max(wait_ms, 10 * _RETRY_FIRST_MS)
    return max(wait_ms, asked or 0)


def make_envelope(id: str, obj: dict[str, Any]) -> Envelope:
    """What is left to be sent: recipients that no server has taken or refused yet.

    Reports on it will name its ENVID, which is the id unless the device gave one.
    """
    status = obj["deliveryStatus"]
    mail_from = obj["envelope"]["mailFrom"]
    given = mail_from["parameters"] or {}
    own = {} if any(name.upper() == "ENVID" for name in given) else {"ENVID": id}
    return Envelope(
        mail_from["email"],
        given | own,
        tuple(
            Recipient(item["email"], item["parameters"] or {})
            for item in obj["envelope"]["rcptTo"]
            if status[item["email"]]["delivered"] == "queued"
        ),
    )


def strip_bcc(raw: bytes) -> bytes:
    """The message without Bcc and Resent-Bcc fields. Cost: linear in the header block.

    Source: RFC 8621 s7.5 (the server must remove Bcc)
    """
    kept: list[bytes] = []
    at = 0
    is_dropping = False
    while at < len(raw):
        end = raw.find(b"\n", at) + 1 or len(raw)
        line = raw[at:end]
        if not line.strip(b"\r\n"):
            break
        if line[:1] not in b" \t":
            name = line.partition(b":")[0].rstrip(b" \t").lower()
            is_dropping = name in (b"bcc", b"resent-bcc")
        if not is_dropping:
            kept.append(line)
        at = end
    return b"".join(kept) + raw[at:]


def decide_outcome(
    obj: dict[str, Any], replies: Sequence[RecipientReply], is_last: bool
) -> dict[str, Any]:
    """The object after the server has answered for each recipient.

    Args:
        is_last: no more tries: what is only put off counts as refused.
    """
    status = dict(obj["deliveryStatus"])
    for reply in replies:
        if 200 <= reply.code < 300:
            delivered = "unknown"
        elif 400 <= reply.code < 500 and not is_last:
            delivered = "queued"
        else:
            delivered = "no"
        status[reply.email] = make_status(reply.text, delivered)
    told = [item["delivered"] for item in status.values()]
    has_left = "unknown" in told or "yes" in told
    is_open = "queued" in told
    return obj | {
        "deliveryStatus": status,
        "sendState": "pending" if is_open else "final",
        "undoStatus": "final" if has_left or not is_open else "pending",
    }


def decide_failure(obj: dict[str, Any], error: ProviderError, is_final: bool) -> dict[str, Any]:
    """The object after a try in which nothing was sent."""
    code = "554 5.0.0" if is_final else "451 4.0.0"
    text = error.server_words or f"{code} {error.message}"
    replies = [
        RecipientReply(email, 554 if is_final else 451, text)
        for email, status in obj["deliveryStatus"].items()
        if status["delivered"] == "queued"
    ]
    return decide_outcome(obj, replies, is_final)


def decide_uncertain(obj: dict[str, Any]) -> dict[str, Any]:
    """The object when the message may or may not have been sent: it will not be sent again."""
    text = "451 4.4.2 The connection was lost before the server answered; it may have been sent"
    status = {
        email: make_status(text, "unknown") if item["delivered"] == "queued" else item
        for email, item in obj["deliveryStatus"].items()
    }
    return obj | {"deliveryStatus": status, "sendState": "uncertain", "undoStatus": "final"}


def decide_found(obj: dict[str, Any]) -> dict[str, Any]:
    """The object when the provider turned out to have sent a message that was in doubt."""
    text = "250 2.0.0 It was sent: it is in the sent mail of the provider"
    status = {
        email: make_status(text, "unknown") if item["smtpReply"].startswith("451 4.4.2") else item
        for email, item in obj["deliveryStatus"].items()
    }
    return obj | {"deliveryStatus": status, "sendState": "final", "undoStatus": "final"}


def _keep(obj: dict[str, Any]) -> dict[str, Any]:
    return obj


class SubmissionRunner:
    """The consumer of the topic; one for all accounts of a process."""

    def __init__(self, services: Services, sender: MessageSender, load_route: LoadRoute) -> None:
        self._services = services
        self._sender = sender
        self._load_route = load_route
        self._in_flight: set[tuple[AccountId, str]] = set()
        self._on_line: set[tuple[AccountId, str]] = set()

    async def run_turn(self, account_id: AccountId) -> int:
        """Take care of every intent of one account that is due; how many there were.

        One after the other; a second turn of the same account may run beside it and leaves alone
        what the first one holds. Cost: two or three transactions and one session an intent.
        Raises: StoreError; whatever the sender raises that is no ProviderError (its intent is
            then left as it is: "sending" becomes "uncertain" in the next turn).
        """
        now_ms = self._services.clock.now_ms()

        async def read(reader: StoreReader) -> list[OutboxRow]:
            return await reader.list_outbox(TOPIC, now_ms, ROWS_PER_TURN_MAX)

        rows = await self._services.store.read(account_id, read)
        for row in rows:
            key = (account_id, row.key)
            if key in self._in_flight:
                continue
            self._in_flight.add(key)
            try:
                await self._run_to_end(account_id, row)
            finally:
                self._in_flight.discard(key)
        return len(rows)

    async def _run_to_end(self, account_id: AccountId, row: OutboxRow) -> None:
        """One intent; when cancelled, what is on the line gets a while to come to its end."""
        # A TaskGroup would cancel it at once, and may swallow the cancellation when it fails.
        task = asyncio.gather(self._run_one(account_id, row))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if (account_id, row.key) in self._on_line:
                await asyncio.wait([task], timeout=FINISH_MS_MAX / 1000)
            task.cancel()
            await asyncio.wait([task])
            raise
        finally:
            self._on_line.discard((account_id, row.key))

    async def _run_one(self, account_id: AccountId, row: OutboxRow) -> None:
        """One intent, from wherever an earlier turn left it."""
        obj = await self._load(account_id, row.key)
        step = decide_step(obj, row.due_ms, self._services.clock.now_ms())
        if step == "doubt":
            await self._settle(account_id, row, decide_uncertain)
        elif step == "look":
            assert obj is not None
            await self._look(account_id, row, obj)
        elif step == "drop":
            await self._settle(account_id, row, _keep)
        elif step == "send":
            assert obj is not None
            await self._send(account_id, row, obj)

    async def _look(self, account_id: AccountId, row: OutboxRow, obj: dict[str, Any]) -> None:
        """Search the sent mail for a message in doubt; at last give up."""
        if await is_filed(self._services, account_id, obj):
            await self._settle(account_id, row, decide_found)
            return
        due_ms = self._services.clock.now_ms() + SENT_LOOK_MS

        async def write(tx: Tx) -> None:
            if row.tries + 1 >= SENT_LOOKS_MAX:
                await tx.store.finish_outbox(row)
            else:
                await tx.store.retry_outbox(row, due_ms, "it is not in the sent mail")

        await transact(self._services, account_id, "submission/look", write, "system")

    async def _load(self, account_id: AccountId, id: str) -> dict[str, Any] | None:
        async def read(reader: StoreReader) -> dict[str, Any] | None:
            rows = await reader.load_objects("EmailSubmission", [id])
            return msgspec.json.decode(rows[0].data) if rows else None

        return await self._services.store.read(account_id, read)

    async def _send(self, account_id: AccountId, row: OutboxRow, obj: dict[str, Any]) -> None:
        is_last = row.tries + 1 >= limits.OUTBOX_TRIES_MAX
        failure: ProviderError | None = None
        decide: _Decision
        try:
            replies = await self._submit(account_id, row, obj)
            decide = partial(decide_outcome, replies=replies, is_last=is_last)
        except Withdrawn:
            decide = _keep
        except Uncertain:
            decide = decide_uncertain
        except ProviderError as error:
            failure = error
            is_final = is_last or isinstance(error, Rejected)
            decide = partial(decide_failure, error=error, is_final=is_final)
        await self._settle(account_id, row, decide, failure)

    async def _submit(
        self, account_id: AccountId, row: OutboxRow, obj: dict[str, Any]
    ) -> list[RecipientReply]:
        route = await self._load_route(account_id)
        if route is None:
            raise Transient("No outgoing server is connected to this account", code="NO_ROUTE")
        raw = await self._services.blobs.get(account_id, obj["blobId"])
        if raw is None:
            raise Rejected("The message to be sent is lost", code="LOCAL")

        async def before_data() -> None:
            await self._mark_sending(account_id, row)

        return await self._sender.submit(
            route.settings, route.password, make_envelope(row.key, obj), strip_bcc(raw), before_data
        )

    async def _mark_sending(self, account_id: AccountId, row: OutboxRow) -> None:
        """The point of no return, durable before the first octet. Raises: Withdrawn."""
        self._on_line.add((account_id, row.key))

        async def write(tx: Tx) -> bool:
            obj = await tx.load("EmailSubmission", row.key)
            if obj is None or obj["sendState"] != "pending":
                return False
            await tx.update("EmailSubmission", row.key, obj, obj | {"sendState": "sending"})
            return True

        was_pending, _ = await transact(
            self._services, account_id, "submission/sending", write, "system"
        )
        if not was_pending:
            raise Withdrawn

    async def _settle(
        self,
        account_id: AccountId,
        row: OutboxRow,
        decide: _Decision,
        failure: ProviderError | None = None,
    ) -> None:
        """Write the outcome, and in the same transaction take the intent away, or put it off if
        somebody is still waiting for the message."""
        now_ms = self._services.clock.now_ms()
        due_ms = now_ms + decide_retry_ms(row.tries, failure)
        look_ms = now_ms + SENT_LOOK_MS

        async def write(tx: Tx) -> None:
            obj = await tx.load("EmailSubmission", row.key)
            after = obj
            if obj is not None and obj["sendState"] != "canceled":
                after = decide(obj)
                if after["sendState"] not in ("pending", obj["sendState"]):
                    after = after | {"endedMs": now_ms}
                await tx.update("EmailSubmission", row.key, obj, after)
            if after is not None and after["sendState"] != "pending":
                # Now it may be told to the provider where the Email belongs (sync/filing).
                await note_sent(tx, after["emailId"])
            if after is not None and after["sendState"] == "uncertain":
                await tx.put_outbox(TOPIC, row.key, None, look_ms)
            elif after is None or after["sendState"] != "pending":
                # An intent written again meanwhile stays; the next turn looks at it anew.
                await tx.store.finish_outbox(row)
            elif obj is not None and obj["sendState"] == "uncertain":
                # Somebody else gave up on us too early, and took the intent away.
                await tx.put_outbox(TOPIC, row.key, None, due_ms)
            else:
                text = "some recipients were put off" if failure is None else str(failure)
                await tx.store.retry_outbox(row, due_ms, text)

        await transact(self._services, account_id, "submission/settle", write, "system")
