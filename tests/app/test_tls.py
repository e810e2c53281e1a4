"""`tindra serve --tls`: https without a proxy, and a renewed certificate without a restart."""

from __future__ import annotations

import base64
import datetime
import http.client
import json
import os
import socket
import ssl
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.app.command_line import LOGIN, Cli, wait_for
from tindra.app.system import SystemClock


def write_certificate(folder: Path, password: bytes | None = None) -> tuple[str, str]:
    """A certificate for this machine that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.fromtimestamp(SystemClock().now_ms() / 1000, datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    locked: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        locked = serialization.BestAvailableEncryption(password)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked
    )
    for file, octets in (
        ("cert.pem", certificate.public_bytes(serialization.Encoding.PEM)),
        ("key.pem", private),
    ):
        # As those who renew certificates do it: never half a file in its place.
        (folder / f"{file}.new").write_bytes(octets)
        os.replace(folder / f"{file}.new", folder / file)
    return str(folder / "cert.pem"), str(folder / "key.pem")


def load_session(port: int, certificate: str) -> dict:
    context = ssl.create_default_context(cafile=certificate)
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
    credentials = base64.b64encode(f"{LOGIN}:secret".encode()).decode()
    connection.request(
        "GET", "/.well-known/jmap", headers={"Authorization": f"Basic {credentials}"}
    )
    answer = connection.getresponse()
    assert answer.status == 200
    found: dict = json.loads(answer.read())
    connection.close()
    return found


def load_served(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port))


def test_https_is_served_and_a_renewed_certificate_is_taken_up(cli: Cli) -> None:
    certificate, key = write_certificate(cli.folder)
    cli.add_user()
    with cli.serving("--tls", certificate, key) as port:
        session = load_session(port, certificate)
        assert session["apiUrl"].startswith(f"https://127.0.0.1:{port}/")
        with socket.create_connection(("127.0.0.1", port), 20) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200" not in plain.recv(100), "no plain http on the same port"
        before = load_served(port)
        (cli.folder / "key.pem").write_text("half a renewal")
        write_certificate(cli.folder)
        wait_for(lambda: load_served(port) != before, 30)
        assert load_session(port, certificate)


def test_certificates_that_cannot_be_used_are_named(cli: Cli) -> None:
    certificate, key = write_certificate(cli.folder)
    serve = ("serve", "--port", "0")
    assert "none.pem" in cli.refuse(*serve, "--tls", "none.pem", key)
    assert "cannot be used" in cli.refuse(*serve, "--tls", certificate, certificate)
    (cli.folder / "empty.pem").write_bytes(b"")
    cli.refuse(*serve, "--tls", "empty.pem", key)
    write_certificate(cli.folder, password=b"locked")
    assert "encrypted" in cli.refuse(*serve, "--tls", certificate, key)
    cli.environment["TINDRA_TLS_CERT"] = certificate
    assert "both, or neither" in cli.refuse(*serve)


@pytest.mark.parametrize("more", [["--tls"], ["--tls", "cert.pem"]])
def test_a_certificate_without_a_key_is_explained(cli: Cli, more: list[str]) -> None:
    done = cli.run("serve", *more, has_data=False)
    assert done.returncode != 0
    assert "--tls" in done.stdout + done.stderr
