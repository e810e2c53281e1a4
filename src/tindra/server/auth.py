"""Who is asking: credentials checked once, then remembered for a while under a keyed hash.

Invariants: neither a password nor a token text is kept in memory beyond its request; what an
authenticated request costs is one keyed hash and one look-up; whatever the directory says (a
revoked token, a new password, a changed grant, in any process) holds within CALLER_FRESH_MS; a
wrong password costs the same time for a known and an unknown user.
Source: RFC 8620 s1.7, s8.2
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tindra.base import limits
from tindra.core.access import load_caller
from tindra.core.services import Services
from tindra.model.account import Token, User
from tindra.server.credentials import (
    BasicCredential,
    BearerCredential,
    make_refusal,
    parse_authorization,
)
from tindra.server.http.exchange import Exchange, HttpError
from tindra.server.http.origin import find_client_address
from tindra.server.http.refusal import retry_after
from tindra.server.options import ServerOptions
from tindra.server.password import hash_token, make_dummy_hash, make_token, verify_password
from tindra.server.sign_in import CALLER_FRESH_MS, SignIn
from tindra.server.throttle import SignInThrottle

VERIFIED_MS = 60_000
"""How long a sign-in that is not used is remembered."""
SIGN_INS_MAX = 10_000
"""Sign-ins remembered; the longest unused go first. About 20 MB."""
HASHES_RUNNING_MAX = 2
"""Password checks at once: each takes 32 MiB and a core."""
HASHES_WAITING_MAX = 32
"""Password checks in the queue: more would answer too late to be of use."""
_KEY_BYTES = 32


class Authenticator:
    """Knows who is asking."""

    def __init__(
        self, services: Services, options: ServerOptions, count: Callable[[str], None]
    ) -> None:
        """
        Args:
            count: told the outcome of every sign-in by password: "ok", "wrong" or "throttled".
        """
        self._services = services
        self._options = options
        self._count = count
        self._key = secrets.token_bytes(_KEY_BYTES)
        self._dummy_hash = make_dummy_hash(options.password_cost)
        self._throttle = SignInThrottle(services.clock)
        self._sign_ins: OrderedDict[bytes, SignIn] = OrderedDict()
        self._locks: dict[bytes, tuple[asyncio.Lock, list[None]]] = {}
        self._hashing = asyncio.Semaphore(HASHES_RUNNING_MAX)
        self._hashing_count = 0
        self.on_over: Callable[[SignIn], None] = lambda _: None
        """Told of a sign-in that ended, so that its event streams end too."""

    # -- every request ---------------------------------------------------------------------------
    async def sign_in(self, exchange: Exchange) -> SignIn:
        """Who asks. Raises: HttpError 401, 429, 503; StoreError.

        Cost: a microsecond or two for a credential that was used lately.
        """
        text = exchange.header(b"authorization")
        if not text:
            raise make_refusal(exchange, "this needs a sign-in")
        key = hashlib.blake2b(text.encode("latin-1"), key=self._key, digest_size=16).digest()
        now = self._services.clock.monotonic_ms()
        found = self._sign_ins.get(key)
        if found is not None and now < found.fresh_until_ms:
            found.used_ms = now
            return found
        async with self._one_at_a_time(key):
            found = self._sign_ins.get(key)
            if found is not None and now - found.used_ms >= VERIFIED_MS:
                found = None
            if found is None or not await self.refresh(found):
                found = await self._check(exchange, key, parse_authorization(text))
        if found.is_over:  # revoked while we looked
            raise make_refusal(exchange, "this sign-in has ended")
        self._remember(found)
        return found

    async def refresh(self, sign_in: SignIn) -> bool:
        """Look again whether a sign-in still holds, and for what; False if it does not.

        Cost: three or four directory reads, at most once in CALLER_FRESH_MS.
        """
        now = self._services.clock.monotonic_ms()
        if sign_in.is_over:
            return False
        if now < sign_in.fresh_until_ms:
            return True
        user = await self._reload_user(sign_in)
        if user is None:
            self._end(sign_in)
            return False
        caller = await load_caller(
            self._services.directory, user, self._services.clock.now_ms(), sign_in.token_hash
        )
        if caller != sign_in.caller:
            sign_in.caller = caller
            sign_in.documents = {}
        sign_in.fresh_until_ms = now + CALLER_FRESH_MS
        return not sign_in.is_over

    # -- tokens ----------------------------------------------------------------------------------
    async def issue_token(self, exchange: Exchange, login: str, password: str, name: str) -> str:
        """Exchange a password for a new device token; the device that signed in first makes room.

        Raises: HttpError 401, 429, 503; StoreError.
        """
        user = await self._check_password(exchange, BasicCredential(login, password))
        directory = self._services.directory
        held = await directory.list_tokens(user.id)
        devices = sorted((t for t in held if t.kind == "device"), key=lambda t: t.created_ms)
        for old in devices[: max(0, len(held) - limits.TOKENS_PER_USER_MAX + 1)]:
            await self.revoke(old.hash)
        text, token_hash = make_token()
        now_ms = self._services.clock.now_ms()
        await directory.put_token(Token(token_hash, user.id, name, "device", now_ms))
        return text

    async def revoke(self, token_hash: bytes) -> None:
        """Delete a token; its requests are refused and its streams end at once."""
        await self._services.directory.delete_token(token_hash)
        for sign_in in list(self._sign_ins.values()):
            if sign_in.token_hash == token_hash:
                self._end(sign_in)

    # -- inside ----------------------------------------------------------------------------------
    async def _check(
        self,
        exchange: Exchange,
        key: bytes,
        credential: BasicCredential | BearerCredential | None,
    ) -> SignIn:
        """A sign-in for a credential that is not remembered."""
        password_hash, token_hash = "", b""
        match credential:
            case BearerCredential(text):
                token_hash = hash_token(text)
                user = await self._find_token_user(token_hash, "device")
                if user is None:
                    raise make_refusal(exchange, "this token is not known here (any more)")
            case BasicCredential(login, password):
                app_hash = hash_token(password)
                app_user = await self._find_token_user(app_hash, "app")
                if app_user is not None and app_user.login == login.lower():
                    user, token_hash = app_user, app_hash
                else:
                    user = await self._check_password(exchange, credential)
                    password_hash = user.password_hash
            case None:
                raise make_refusal(exchange, "the Authorization header is neither Basic nor Bearer")
        clock = self._services.clock
        caller = await load_caller(self._services.directory, user, clock.now_ms(), token_hash)
        found = SignIn(key, caller, password_hash, token_hash)
        found.fresh_until_ms = clock.monotonic_ms() + CALLER_FRESH_MS
        return found

    async def _check_password(self, exchange: Exchange, credential: BasicCredential) -> User:
        """The user whose password this is, in the same time whether or not there is one."""
        login = credential.login.lower()
        address = find_client_address(exchange, self._options)
        # One after the other, or many guesses at once would all be let in before the first counts.
        async with self._one_at_a_time(f"{address} {login}".encode()):
            user = await self._check_in_turn(login, address, credential.password)
        if user is None:
            raise make_refusal(exchange, "this name and password do not match")
        return user

    async def _check_in_turn(self, login: str, address: str, password: str) -> User | None:
        wait_ms = self._throttle.wait_ms(login, address)
        if wait_ms:
            self._count("throttled")
            retry = retry_after(wait_ms // 1000 + 1)
            detail = "too many wrong passwords; wait a little"
            raise HttpError(429, detail, headers=[retry])
        user = await self._services.directory.find_user(login)
        stored = user.password_hash if user is not None else ""
        is_right = await self._verify(password, stored or self._dummy_hash)
        if user is None or not is_right:
            self._throttle.count_failure(login, address)
            self._count("wrong")
            return None
        self._throttle.forget(login, address)
        self._count("ok")
        return user

    async def _verify(self, password: str, stored: str) -> bool:
        if self._hashing_count >= HASHES_RUNNING_MAX + HASHES_WAITING_MAX:
            raise HttpError(503, "too many sign-ins at once", headers=[retry_after(2)])
        self._hashing_count += 1
        try:
            async with self._hashing:
                return await self._services.offload.run(verify_password, password, stored)
        finally:
            self._hashing_count -= 1

    async def _find_token_user(self, token_hash: bytes, kind: str) -> User | None:
        token = await self._services.directory.find_token(token_hash)
        if token is None or token.kind != kind:
            return None
        if token.expires_ms is not None and token.expires_ms <= self._services.clock.now_ms():
            return None
        return await self._services.directory.load_user(token.user_id)

    async def _reload_user(self, sign_in: SignIn) -> User | None:
        """The user of a remembered sign-in, if it would still be right today."""
        if sign_in.token_hash:
            token = await self._services.directory.find_token(sign_in.token_hash)
            if token is None:
                return None
            return await self._find_token_user(sign_in.token_hash, token.kind)
        user = await self._services.directory.load_user(sign_in.caller.user.id)
        if user is None or user.password_hash != sign_in.password_hash:
            return None
        return user

    def _remember(self, sign_in: SignIn) -> None:
        """Note that it was used now, and forget those that were not for long."""
        now = self._services.clock.monotonic_ms()
        sign_in.used_ms = now
        self._sign_ins[sign_in.key] = sign_in
        self._sign_ins.move_to_end(sign_in.key)
        while self._sign_ins:
            oldest = next(iter(self._sign_ins.values()))
            if len(self._sign_ins) <= SIGN_INS_MAX and now - oldest.used_ms < VERIFIED_MS:
                break
            self._sign_ins.popitem(last=False)

    def _end(self, sign_in: SignIn) -> None:
        sign_in.is_over = True
        sign_in.fresh_until_ms = 0
        if self._sign_ins.get(sign_in.key) is sign_in:
            del self._sign_ins[sign_in.key]
        self.on_over(sign_in)

    @asynccontextmanager
    async def _one_at_a_time(self, key: bytes) -> AsyncIterator[None]:
        """Several requests with one new credential check it once: the others wait for the first."""
        lock, users = self._locks.setdefault(key, (asyncio.Lock(), []))
        users.append(None)
        try:
            async with lock:
                yield
        finally:
            users.pop()
            if not users:
                self._locks.pop(key, None)
