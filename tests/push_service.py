"""A push service for tests, and the side of the device: opens what was sent, checks who sent it.

Written against the RFCs and not against the product: it shares no code with `tindra.wire.webpush`.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import hmac
import ipaddress
import json
import ssl
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509.oid import NameOID


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _hkdf(salt: bytes, key: bytes, info: bytes, count: int) -> bytes:
    extracted = hmac.new(salt, key, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()[:count]


def open_aes128gcm(body: bytes, key: bytes) -> bytes:
    """Decode the content coding. Source: RFC 8188 s2"""
    salt, record_bytes, id_bytes = body[:16], int.from_bytes(body[16:20], "big"), body[20]
    rest = body[21 + id_bytes :]
    cek = _hkdf(salt, key, b"Content-Encoding: aes128gcm\0", 16)
    base = int.from_bytes(_hkdf(salt, key, b"Content-Encoding: nonce\0", 12), "big")
    records = [rest[i : i + record_bytes] for i in range(0, len(rest), record_bytes)]
    out = b""
    for number, record in enumerate(records):
        plain = AESGCM(cek).decrypt((base ^ number).to_bytes(12, "big"), record, None)
        plain = plain.rstrip(b"\0")
        assert plain[-1:] == (b"\x02" if number == len(records) - 1 else b"\x01")
        out += plain[:-1]
    return out


def open_message(body: bytes, device: ec.EllipticCurvePrivateKey, auth: bytes) -> bytes:
    """What a user agent does with a push. Source: RFC 8291 s3"""
    assert body[20] == 65
    point = body[21:86]
    sender = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    own = device.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    secret = device.exchange(ec.ECDH(), sender)
    return open_aes128gcm(body, _hkdf(auth, secret, b"WebPush: info\0" + own + point, 32))


def check_vapid(authorization: str, application_server_key: str) -> dict[str, Any]:
    """The claims of a push whose signature is right. Source: RFC 8292 s3"""
    scheme, _, rest = authorization.partition(" ")
    assert scheme == "vapid"
    fields = dict(item.strip().split("=", 1) for item in rest.split(","))
    assert fields["k"] == application_server_key, "another server's key"
    head, claims, signature = fields["t"].split(".")
    assert json.loads(_decode(head)) == {"typ": "JWT", "alg": "ES256"}
    raw = _decode(signature)
    assert len(raw) == 64
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), _decode(fields["k"]))
    pair = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    try:
        key.verify(
            encode_dss_signature(*pair), f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256())
        )
    except InvalidSignature:
        raise AssertionError("the signature is wrong") from None
    found: dict[str, Any] = json.loads(_decode(claims))
    return found


class Certificate(NamedTuple):
    """A certificate for some names, signed by itself."""

    path: Path
    server: ssl.SSLContext
    client: ssl.SSLContext


def make_certificate(folder: Path, *names: str) -> Certificate:
    """A certificate that holds whatever the clock says."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "push service of a test")])
    alternatives: list[x509.GeneralName] = []
    for text in names:
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(text)))
        except ValueError:
            alternatives.append(x509.DNSName(text))
    ages = [datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) for year in (2020, 2120)]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ages[0])
        .not_valid_after(ages[1])
        .add_extension(x509.SubjectAlternativeName(alternatives), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path, key_path = folder / "certificate.pem", folder / "key.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path, key_path)
    return Certificate(path, server, ssl.create_default_context(cafile=path))


class Push(NamedTuple):
    """A request as the push service got it."""

    method: str
    path: str
    fields: dict[str, str]
    body: bytes


class PushService:
    """An https server on this machine that keeps what it is sent."""

    def __init__(self) -> None:
        self.pushes: asyncio.Queue[Push] = asyncio.Queue()
        self.answers: list[bytes] = []
        """What to say next; 201 when there is nothing here."""
        self.connections = 0
        self.port = 0
        self.hold: Callable[[], Awaitable[object]] | None = None
        """Awaited before each answer."""

    async def next(self) -> Push:
        async with asyncio.timeout(10):
            return await self.pushes.get()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = {}
            for line in filter(None, head[1:]):
                name, _, value = line.partition(": ")
                assert name.lower() not in fields, f"{name} stands twice"
                fields[name.lower()] = value
            method, path, _ = head[0].split(" ")
            body = await reader.readexactly(int(fields["content-length"]))
            self.pushes.put_nowait(Push(method, path, fields, body))
            if self.hold is not None:
                await self.hold()
            answer = b"HTTP/1.1 201 Created\r\nLocation: https://x/m\r\nContent-Length: 0\r\n\r\n"
            writer.write(self.answers.pop(0) if self.answers else answer)
            await writer.drain()
            await reader.read(1)
        except (OSError, asyncio.IncompleteReadError):
            pass  # who pushes closes first
        finally:
            writer.transport.abort()


@asynccontextmanager
async def running_push_service(tls: ssl.SSLContext) -> AsyncIterator[PushService]:
    """A push service at https://127.0.0.1:port/."""
    service = PushService()
    server = await asyncio.start_server(service._serve, "127.0.0.1", 0, ssl=tls)
    service.port = server.sockets[0].getsockname()[1]
    try:
        yield service
    finally:
        server.close()
