"""A private Dovecot for tests and benchmarks: own folder, free ports, any user name, one password.

`start_dovecot(folder)` writes a configuration, starts the server in the foreground and waits until
it greets; leaving the context stops it. It offers plain IMAP with STARTTLS on one port and implicit
TLS on another, with a certificate for `localhost` that it signs itself. Every user name is an empty
account of its own, so each test takes a fresh one. Works as root and as an ordinary user.
"""

from __future__ import annotations

import getpass
import grp
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PASSWORD = "correct-horse"
START_S_MAX = 20
_PROGRAM = shutil.which("dovecot") or shutil.which("dovecot", path="/usr/sbin:/usr/local/sbin")
_MAIL_USER = "nobody"

_CONFIG = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
instance_name = tindra-{port}
protocols = imap
listen = 127.0.0.1
ssl = yes
ssl_cert = <{folder}/cert.pem
ssl_key = <{folder}/key.pem
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
default_internal_user = {internal_user}
default_login_user = {login_user}
default_internal_group = {internal_group}
first_valid_uid = 1
mail_uid = {mail_user}
mail_gid = {mail_group}
mail_home = {folder}/home/%u
mail_location = maildir:~/mail
mail_max_userip_connections = 500
mail_fsync = never
mailbox_idle_check_interval = 1s
service imap-login {{
  chroot =
  service_count = 0
  client_limit = 1000
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
  # wrong passwords are tried on purpose: no penalty for our address
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service imap {{
  process_limit = 300
}}
service stats {{
  chroot =
}}
namespace inbox {{
  inbox = yes
  separator = /
  mailbox Drafts {{
    auto = create
    special_use = \\Drafts
  }}
  mailbox Sent {{
    auto = create
    special_use = \\Sent
  }}
  mailbox Trash {{
    auto = create
    special_use = \\Trash
  }}
}}
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={mail_user} gid={mail_group}
}}
"""


@dataclass(frozen=True)
class Dovecot:
    """Where the running server is."""

    port: int
    tls_port: int
    cert: Path
    folder: Path
    pid: int
    host: str = "localhost"
    password: str = PASSWORD

    def client_context(self) -> ssl.SSLContext:
        """A context that trusts this server and nobody else."""
        context = ssl.create_default_context(cafile=str(self.cert))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


def is_installed() -> bool:
    """Whether there is a Dovecot on this machine."""
    return _PROGRAM is not None


@contextmanager
def start_dovecot(folder: Path, more: str = "") -> Iterator[Dovecot]:
    """Run a server on `folder` until the context ends; `more` is put at the end of its settings.

    The path must be short, for it holds sockets, and its parents open to other users.
    """
    assert _PROGRAM is not None
    port, tls_port = _free_ports()
    cert = _write_certificate(folder)
    (folder / "home").mkdir()
    (folder / "dovecot.conf").write_text(_config(folder, port, tls_port) + more)
    if os.getuid() == 0:
        account = pwd.getpwnam(_MAIL_USER)
        os.chown(folder / "home", account.pw_uid, account.pw_gid)
        folder.chmod(0o711)  # the mail user must walk through to its home
    process = subprocess.Popen(
        [_PROGRAM, "-F", "-c", str(folder / "dovecot.conf")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        _wait_for_greeting(process, port, folder / "log")
        yield Dovecot(port, tls_port, cert, folder, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stderr is not None
        process.stderr.close()


def _config(folder: Path, port: int, tls_port: int) -> str:
    if os.getuid() == 0:
        internal_user, login_user, mail_user = "dovecot", "dovenull", _MAIL_USER
    else:
        internal_user = login_user = mail_user = getpass.getuser()
    group = grp.getgrgid(pwd.getpwnam(mail_user).pw_gid).gr_name
    return _CONFIG.format(
        folder=folder,
        port=port,
        tls_port=tls_port,
        internal_user=internal_user,
        internal_group=internal_user if os.getuid() == 0 else group,
        login_user=login_user,
        mail_user=mail_user,
        mail_group=group,
        password=PASSWORD,
    )


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def _write_certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_file = folder / "key.pem"
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    key_file.chmod(0o600)
    cert_file = folder / "cert.pem"
    cert_file.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    return cert_file


def _wait_for_greeting(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + START_S_MAX
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2) as probe:
                if probe.recv(5) == b"* OK ":
                    return
        except OSError:
            time.sleep(0.05)
    said = log.read_text() if log.exists() else ""
    if process.poll() is not None and process.stderr is not None:
        said += process.stderr.read().decode("utf-8", "replace")
    raise RuntimeError(f"Dovecot did not start: {said[-2000:]}")


def fill_maildir(server: Dovecot, user: str, messages: Iterable[bytes]) -> int:
    """Put messages into the INBOX of a fresh user by way of the file system; how many."""
    mail = server.folder / "home" / user / "mail"
    for name in ("cur", "new", "tmp"):
        (mail / name).mkdir(parents=True)
    count = 0
    for raw in messages:
        count += 1
        (mail / "cur" / f"{1_700_000_000 + count}.M{count}P1.seed:2,").write_bytes(raw)
    if os.getuid() == 0:
        account = pwd.getpwnam(_MAIL_USER)
        for path in (mail.parent, mail, *mail.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid)
    return count
