"""Web push end to end: a whole installation, and a push service that answers over https.

The push service and the device are of the test: what was pushed is decrypted with the device's
private key, and who pushed is told by the signature.
"""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.push_service import (
    Push,
    PushService,
    check_vapid,
    make_certificate,
    open_message,
    running_push_service,
)
from tests.server.asgi import ask
from tindra.app.config import Settings, SettingsError
from tindra.app.loops import Loops
from tindra.app.people import add_user
from tindra.app.wiring import Installation, make_server, open_installation
from tindra.server.app import Server

CORE = "urn:ietf:params:jmap:core"
MAIL = "urn:ietf:params:jmap:mail"
VAPID = "urn:ietf:params:jmap:webpush-vapid"
PASSWORD = "correct horse battery"
CONTACT = "mailto:ops@example.org"


class Phone:
    """A device: keys that never leave it, and a token to sign in with."""

    def __init__(self, service: PushService, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.auth = bytes(range(16))
        self.path = f"/push/{name}"
        self.url = f"https://127.0.0.1:{service.port}{self.path}"
        self.token = ""

    def list_keys(self) -> dict[str, str]:
        """What a browser's PushSubscription.toJSON gives."""
        public = self.key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        return {
            name: urlsafe_b64encode(octets).rstrip(b"=").decode()
            for name, octets in (("p256dh", public), ("auth", self.auth))
        }

    def open(self, push: Push) -> dict[str, Any]:
        assert push.fields["content-encoding"] == "aes128gcm"
        return dict(json.loads(open_message(push.body, self.key, self.auth)))


class Running(NamedTuple):
    installation: Installation
    server: Server

    async def sign_in(self) -> str:
        body = {"username": "ada", "password": PASSWORD, "deviceName": "phone"}
        answer = await ask(
            self.server, "POST", "/auth/token", msgspec.json.encode(body),
            content_type="application/json",
        )  # fmt: skip
        return f"Bearer {answer.json['accessToken']}"

    async def call(self, token: str, name: str, **arguments: Any) -> dict[str, Any]:
        body = {"using": [CORE, MAIL], "methodCalls": [[name, arguments, "0"]]}
        answer = await ask(
            self.server, "POST", "/jmap/api", msgspec.json.encode(body), auth=token,
            content_type="application/json",
        )  # fmt: skip
        [[answered, result, _]] = answer.json["methodResponses"]
        assert answered == name, result
        return dict(result)

    async def load_session(self, token: str) -> dict[str, Any]:
        return dict((await ask(self.server, "GET", "/.well-known/jmap", auth=token)).json)

    async def add_mailbox(self, token: str, name: str) -> tuple[str, str]:
        """The account's id and the new state of Mailbox."""
        account_id = (await self.load_session(token))["primaryAccounts"][MAIL]
        create = {"m": {"name": name}}
        answer = await self.call(token, "Mailbox/set", accountId=account_id, create=create)
        assert answer["created"], answer
        return account_id, answer["newState"]


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """The product, without its sockets."""
    async with open_installation(settings) as installation:
        server = make_server(installation)
        if not await installation.services.directory.list_users():
            await add_user(installation, "ada", PASSWORD)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(Loops(installation).run())
            try:
                yield Running(installation, server)
            finally:
                task.cancel()
        await server.close()


@asynccontextmanager
async def push_scene(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[PushService, Settings]]:
    certificate = make_certificate(folder, "127.0.0.1")
    # OpenSSL's own way to trust one authority more.
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    settings = Settings(
        data=str(folder / "data"), push_allowed=("127.0.0.1",), push_contact=CONTACT
    )
    async with running_push_service(certificate.server) as service:
        yield service, settings


async def eventually(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Until something comes true that nothing tells of."""
    async with asyncio.timeout(20):
        while True:
            if await is_so():
                return
            await asyncio.sleep(0)


async def has_none(run: Running, phone: Phone) -> bool:
    return not (await run.call(phone.token, "PushSubscription/get", ids=None))["list"]


async def subscribe(run: Running, service: PushService, phone: Phone, **more: Any) -> str:
    """As a device does it, up to the confirmed subscription."""
    phone.token = phone.token or await run.sign_in()
    obj = {"deviceClientId": phone.path, "url": phone.url, "keys": phone.list_keys()} | more
    answer = await run.call(phone.token, "PushSubscription/set", create={"k": obj})
    id = answer["created"]["k"]["id"]
    verification = phone.open(await service.next())
    assert verification == {
        "@type": "PushVerification",
        "pushSubscriptionId": id,
        "verificationCode": verification["verificationCode"],
    }
    code = {"verificationCode": verification["verificationCode"]}
    answer = await run.call(phone.token, "PushSubscription/set", update={id: code})
    assert answer["updated"] == {id: None}
    return str(id)


async def test_a_phone_is_told_what_moved_and_only_it_can_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with push_scene(tmp_path, monkeypatch) as (service, settings), running(settings) as run:
        phone = Phone(service, "one")
        await subscribe(run, service, phone)
        account_id, state = await run.add_mailbox(phone.token, "Work")
        push = await service.next()
        changed = {account_id: {"Mailbox": state}}
        assert phone.open(push) == {"@type": "StateChange", "changed": changed}
        assert (push.method, push.path) == ("POST", phone.path)
        assert push.fields["content-type"] == "application/json"
        assert int(push.fields["ttl"]) > 0
        assert push.fields["urgency"] == "normal"
        assert len(push.fields["topic"]) == 32
        assert b"StateChange" not in push.body
        session = await run.load_session(phone.token)
        key = session["capabilities"][VAPID]["applicationServerKey"]
        claims = check_vapid(push.fields["authorization"], key)
        assert claims["aud"] == f"https://127.0.0.1:{service.port}"
        assert claims["sub"] == CONTACT
        now_s = run.installation.services.clock.now_ms() / 1000
        assert now_s < claims["exp"] <= now_s + 24 * 3600


async def test_the_key_and_what_was_told_survive_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with push_scene(tmp_path, monkeypatch) as (service, settings):
        phone = Phone(service, "one")
        async with running(settings) as run:
            await subscribe(run, service, phone)
            await run.add_mailbox(phone.token, "One")
            await service.next()
            key = (await run.load_session(phone.token))["capabilities"][VAPID]
        # Somebody changes something while nobody pushes.
        async with open_installation(settings) as installation:
            offline = Running(installation, make_server(installation))
            account_id, state = await offline.add_mailbox(phone.token, "Two")
            await offline.server.close()
        assert service.pushes.empty()
        async with running(settings) as run:
            push = phone.open(await service.next())
            assert push["changed"] == {account_id: {"Mailbox": state}}
            assert (await run.load_session(phone.token))["capabilities"][VAPID] == key
        path = settings.vapid_path
        assert path.stat().st_mode & 0o777 == 0o600
        assert len(path.read_bytes()) == 32
        # With another key the subscription is of no use; the device sees it and subscribes anew.
        path.unlink()
        async with running(settings) as run:
            assert (await run.load_session(phone.token))["capabilities"][VAPID] != key
            await eventually(lambda: has_none(run, phone))
        assert service.pushes.empty()


async def test_signing_out_ends_the_pushes_of_that_device_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with push_scene(tmp_path, monkeypatch) as (service, settings), running(settings) as run:
        one, two = Phone(service, "one"), Phone(service, "two")
        await subscribe(run, service, one)
        await subscribe(run, service, two)
        answer = await ask(run.server, "DELETE", "/auth/token", auth=one.token)
        assert answer.status == 204
        await run.add_mailbox(two.token, "Work")
        assert (await service.next()).path == two.path
        await run.add_mailbox(two.token, "More")
        assert (await service.next()).path == two.path


async def test_gone_means_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async with push_scene(tmp_path, monkeypatch) as (service, settings), running(settings) as run:
        phone = Phone(service, "one")
        await subscribe(run, service, phone)
        service.answers = [b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"]
        await run.add_mailbox(phone.token, "Work")
        await service.next()
        await eventually(lambda: has_none(run, phone))
        answer = await ask(
            run.server, "GET", "/metrics",
            change_scope=lambda scope: scope.update(client=("127.0.0.1", 1)),
        )  # fmt: skip
        text = answer.body.decode()
        assert 'tindra_pushes_total{outcome="sent"} 1.0' in text
        assert 'tindra_pushes_total{outcome="gone"} 1.0' in text


async def test_a_device_without_keys_gets_json_in_the_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with push_scene(tmp_path, monkeypatch) as (service, settings), running(settings) as run:
        token = await run.sign_in()
        obj = {"deviceClientId": "d", "url": f"https://127.0.0.1:{service.port}/plain"}
        await run.call(token, "PushSubscription/set", create={"k": obj})
        push = await service.next()
        assert "content-encoding" not in push.fields
        assert json.loads(push.body)["@type"] == "PushVerification"
        assert check_vapid(
            push.fields["authorization"], run.installation.push.application_server_key
        )


async def test_without_leave_this_machine_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with push_scene(tmp_path, monkeypatch) as (service, settings):
        strict = msgspec.structs.replace(settings, push_allowed=())
        async with running(strict) as run:
            token = await run.sign_in()
            for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"):
                obj = {"deviceClientId": host, "url": f"https://{host}:{service.port}/"}
                await run.call(token, "PushSubscription/set", create={"k": obj})

            async def is_tried() -> bool:
                return run.installation.push.results["unreached"] == 4

            await eventually(is_tried)
            assert service.connections == 0


async def test_wrong_settings_and_a_broken_key_are_named(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"push_allowed: '10\.0\.0\.0/99'"):
        async with open_installation(Settings(data=str(tmp_path), push_allowed=("10.0.0.0/99",))):
            pass
    with pytest.raises(SettingsError, match="push_contact"):
        async with open_installation(Settings(data=str(tmp_path), push_contact="ops@a.example")):
            pass
    settings = Settings(data=str(tmp_path))
    settings.vapid_path.write_bytes(bytes(32))
    with pytest.raises(SettingsError, match=r"vapid.key holds no P-256 key"):
        async with open_installation(settings):
            pass
