"""Takes a message to a push service: encrypted for the device, signed by us, over https.

Source: RFC 8030 s5, RFC 8291 s4, RFC 8292 s3
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from tindra.base.clock import Clock
from tindra.base.ids import RandomSource
from tindra.outside.connector import Connector
from tindra.outside.https import Answer, Unanswered, Unreached, post
from tindra.sync.webpush.plan import OUTCOMES, PushMessage, PushResult
from tindra.wire.http.retry_after import parse_retry_after
from tindra.wire.http.url import parse_https_url
from tindra.wire.webpush.encryption import (
    CONTENT_ENCODING,
    SALT_BYTES,
    encrypt_message,
    make_private_key,
    parse_push_keys,
)
from tindra.wire.webpush.vapid import (
    TOKEN_S,
    encode_application_server_key,
    make_authorization,
    make_vapid_token,
)

TOKENS_MAX: Final = 1000
"""Tokens kept, one a push service: a signature less for each push."""
_TOKEN_LEFT_S: Final = 3600
"""A token that ends sooner is made anew: clocks differ, and messages may wait at the service."""


class WebPushSender:
    """The PushSender port of `sync/webpush`.

    Args:
        key: what push services know this server by.
        contact: a mailto: or https: URI of the operator; "" for none.
    """

    def __init__(
        self,
        connector: Connector,
        clock: Clock,
        random: RandomSource,
        key: ec.EllipticCurvePrivateKey,
        contact: str,
    ) -> None:
        self._connector = connector
        self._clock = clock
        self._random = random
        self._key = key
        self._contact = contact
        self._tokens: OrderedDict[str, tuple[str, int]] = OrderedDict()
        self.application_server_key = encode_application_server_key(key)
        self.results: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
        """How many messages ended how."""

    async def send(self, message: PushMessage) -> PushResult:
        """Source: sync.webpush.runner.PushSender, RFC 8620 s7.2"""
        result = await self._send(message)
        self.results[result.outcome] += 1
        return result

    async def _send(self, message: PushMessage) -> PushResult:
        subscription = message.subscription
        url = parse_https_url(subscription.url)
        token = self._load_token(url.origin)
        fields = [
            ("Content-Type", "application/json"),
            ("TTL", str(message.ttl_s)),
            ("Urgency", message.urgency),
            ("Authorization", make_authorization(token, self.application_server_key)),
        ]
        if message.topic:
            fields.append(("Topic", message.topic))
        body = message.content
        if subscription.keys is not None:
            keys = parse_push_keys(subscription.keys.p256dh, subscription.keys.auth)
            salt = self._random.bits(8 * SALT_BYTES).to_bytes(SALT_BYTES, "big")
            body = encrypt_message(body, keys, make_private_key(self._random), salt)
            fields.append(("Content-Encoding", CONTENT_ENCODING))
        try:
            answer = await post(self._connector, url, fields, body)
        except Unreached:
            return PushResult("unreached")
        except Unanswered:
            return PushResult("unanswered")
        return decide_result(answer, self._clock.now_ms())

    def _load_token(self, origin: str) -> str:
        """A token for one push service, made anew well before it ends. Source: RFC 8292 s2"""
        now_s = self._clock.now_ms() // 1000
        token, expires_s = self._tokens.pop(origin, ("", 0))
        if expires_s < now_s + _TOKEN_LEFT_S:
            expires_s = now_s + TOKEN_S
            token = make_vapid_token(self._key, origin, self._contact, expires_s)
        self._tokens[origin] = token, expires_s
        if len(self._tokens) > TOKENS_MAX:
            self._tokens.popitem(last=False)
        return token


def decide_result(answer: Answer, now_ms: int) -> PushResult:
    """What a push service said. Source: RFC 8030 s5, s7.3, s8.4"""
    status = answer.status
    retry_after_ms = parse_retry_after(answer.fields.get("retry-after", ""), now_ms)
    if status < 300:
        return PushResult("sent")
    if status in (404, 410):
        return PushResult("gone")
    if status == 413:
        return PushResult("too_large", retry_after_ms)
    if status in (429, 503):
        return PushResult("throttled", retry_after_ms)
    if status >= 500 or status in (408, 425):
        return PushResult("unanswered", retry_after_ms)
    # A redirect is one of these: it is not followed, for it may lead anywhere.
    return PushResult("refused", retry_after_ms)
