"""Clients of others against a running server, over plain HTTP and over TLS.

The server is the demo: a mailbox that is mirrored, and a way out for what is sent. The clients are
in tests/compat/clients, installed by `make test`; what each needs of us is written down in
docs/protocol/clients.md.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.compat.test_smtp import make_certificate
from tindra.server.session_object import WEBSOCKET

ROOT = Path(__file__).parent.parent.parent
CLIENTS = Path(__file__).parent / "clients"
_TSC = CLIENTS / "node_modules" / "typescript" / "bin" / "tsc"
LOGIN, PASSWORD = "demo@tindra.test", "demo"
USING = [
    "urn:ietf:params:jmap:core",
    "urn:ietf:params:jmap:mail",
    "urn:ietf:params:jmap:submission",
]
_SERVE = """
import asyncio, sys
from tindra.app.config import Settings
from tindra.app.demo.command import run_demo
from tindra.app.log import set_up_log
set_up_log("text", "warning")
cert, key = sys.argv[1:] or ("", "")
settings = Settings(host="127.0.0.1", port=0, tls_cert=cert, tls_key=key)
asyncio.run(run_demo(settings, None, 30, lambda port: print(port, flush=True)))
"""


class Host(NamedTuple):
    """A running server, and what trusts it."""

    url: str
    certificate: Path | None
    token: str

    def ask(self, path: str, body: Any = None) -> Any:
        """One request with JSON both ways."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        if not self.token:
            del headers["Authorization"]
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        with urllib.request.urlopen(request, timeout=30, context=self.trust()) as response:
            return json.load(response)

    def trust(self) -> ssl.SSLContext | None:
        """What a client of this server trusts; None for plain HTTP."""
        if self.certificate is None:
            return None
        return ssl.create_default_context(cafile=str(self.certificate))

    def call(self, name: str, **arguments: Any) -> Any:
        """One method call on the account of the mailbox."""
        account = self.ask("/.well-known/jmap")["primaryAccounts"][USING[1]]
        calls = [[name, {"accountId": account} | arguments, "0"]]
        answer = self.ask("/jmap/api", {"using": USING, "methodCalls": calls})
        [[answered, result, _]] = answer["methodResponses"]
        assert answered == name, result
        return result


@contextmanager
def _serving(certificate: Path | None, key: Path | None) -> Iterator[Host]:
    files = [] if certificate is None else [str(certificate), str(key)]
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, *files],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        port = process.stdout.readline().strip()
        assert port, "the server did not start"
        scheme = "http" if certificate is None else "https"
        stranger = Host(f"{scheme}://127.0.0.1:{port}", certificate, "")
        given = stranger.ask("/auth/token", {"username": LOGIN, "password": PASSWORD})
        yield stranger._replace(token=given["accessToken"])
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()


@pytest.fixture(scope="module", params=["plain", "tls"])
def host(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Host]:
    certificate = key = None
    if request.param == "tls":
        _, certificate = make_certificate(tmp_path_factory.mktemp("tls"))
        key = certificate.with_suffix(".key")
    with _serving(certificate, key) as host:
        yield host


def _find_node() -> str:
    own = ROOT / ".venv" / "node" / "node"
    found = str(own) if own.exists() else shutil.which("node")
    if found is None or not (CLIENTS / "node_modules").exists():
        pytest.fail("the clients are not installed: make test installs them")
    return found


def _run_node(*arguments: str | Path, certificate: Path | None = None) -> str:
    """Standard output of a program that must succeed."""
    environment = dict(os.environ)
    if certificate is not None:
        environment["NODE_EXTRA_CA_CERTS"] = str(certificate)
    done = subprocess.run(
        [_find_node(), *map(str, arguments)],
        check=False, capture_output=True, text=True, timeout=60, env=environment, cwd=CLIENTS,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of tests/compat/clients as JavaScript; that they compile is a test of types."""
    folder = tmp_path_factory.mktemp("clients")
    (folder / "node_modules").symlink_to(CLIENTS / "node_modules")
    (folder / "package.json").write_text('{"type": "module"}')
    _run_node(_TSC, "-p", CLIENTS, "--outDir", folder)
    return folder


def test_jmap_jam_reads_sends_and_hears(host: Host, built: Path) -> None:
    text = _run_node(
        built / "jam.js", f"{host.url}/.well-known/jmap", host.token, certificate=host.certificate
    )
    seen = json.loads(text)
    assert seen["session"]["apiUrl"] == f"{host.url}/jmap/api"
    assert seen["paths"]["Inbox"] == "inbox"
    assert "Projects/Harbour" in seen["paths"]
    assert len(seen["subjects"]) == len(seen["threads"]) == 5
    assert seen["total"] >= 5
    assert all(seen["threads"])
    assert seen["blob"]["size"] == len("Žluťoučký kůň: an attachment\n".encode())
    assert seen["submission"]["undoStatus"] == "pending"
    assert {"Email", "EmailSubmission"} <= set(seen["changed"])
    # The implicit Email/set ran, though this client names only the capability of submissions.
    assert seen["sent"]["mailboxIds"] == {seen["sentId"]: True}
    assert seen["sent"]["keywords"] == {}
    assert seen["sent"]["attachments"][0]["name"] == "note.txt"
    assert seen["refused"] == "unsupportedFilter"


def test_jmapc_reads_sends_and_hears(host: Host) -> None:
    """Its own environment, for its licence is not ours."""
    python = ROOT / ".artifacts" / "jmapc" / "bin" / "python"
    if not python.exists():
        pytest.fail("jmapc is not installed: make test installs it")
    address = host.url.partition("://")[2]
    environment = dict(os.environ)
    more = ["plain"]
    if host.certificate is not None:
        environment["REQUESTS_CA_BUNDLE"] = str(host.certificate)
        more = []
    done = subprocess.run(
        [str(python), str(CLIENTS / "jmapc_session.py"), address, LOGIN, PASSWORD, *more],
        check=False, capture_output=True, text=True, timeout=60, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout)
    assert seen["username"] == LOGIN
    assert seen["roles"]["Inbox"] == "inbox"
    assert len(seen["subjects"]) == len(seen["threads"]) == 5
    assert seen["values"] >= 1
    assert seen["snippets"] == 1
    assert seen["size"] == len("an attachment")
    assert seen["submission"] == "pending"
    assert seen["is_sent"]
    assert "Email" in seen["changed"]


def _drop_nulls(value: Any) -> Any:
    """The types say that a property is absent where RFC 8621 says null (s4.1, s6, s7)."""
    if isinstance(value, list):
        return [_drop_nulls(item) for item in value]
    if isinstance(value, dict):
        return {name: _drop_nulls(item) for name, item in value.items() if item is not None}
    return value


@pytest.mark.parametrize("host", ["plain"], indirect=True)
def test_what_we_answer_has_the_types_of_the_standard(host: Host, tmp_path: Path) -> None:
    """jmap-rfc-types is the RFCs as types; tsc says whether our JSON has them."""
    emails = host.call(
        "Email/get",
        ids=host.call("Email/query", limit=30)["ids"],
        properties=_EMAIL_PROPERTIES,
        fetchAllBodyValues=True,
    )
    assert emails["list"]
    mailboxes = host.call("Mailbox/get", ids=None)["list"]
    for mailbox in mailboxes:
        mailbox["myRights"].pop("mayShare", None)  # a right that RFC 8621 does not know
    answers = {
        "Session": host.ask("/.well-known/jmap"),
        "Mailbox[]": mailboxes,
        "Thread[]": host.call("Thread/get", ids=[e["threadId"] for e in emails["list"]])["list"],
        "Identity[]": _drop_nulls(host.call("Identity/get", ids=None)["list"]),
        "Submission[]": _drop_nulls(host.call("EmailSubmission/get", ids=None)["list"]),
        # Of its properties those that we asked for; the type knows a hundred headers besides.
        f"Pick<Email, {' | '.join(map(repr, _EMAIL_PROPERTIES))}>[]": _drop_nulls(emails["list"]),
        "QueryResponse": host.call("Email/query", calculateTotal=True),
    }
    names = "Email, EmailSubmission, Identity, Mailbox, QueryResponse, Session, Thread, UndoStatus"
    # Of an enum no JSON is; its values are.
    submission = "Omit<EmailSubmission, 'undoStatus'> & { undoStatus: `${UndoStatus}` }"
    lines = [
        f"import type {{ {names} }} from 'jmap-rfc-types';",
        f"type Submission = {submission};",
    ]
    for number, (type, value) in enumerate(answers.items()):
        lines.append(f"export const value{number}: {type} = {json.dumps(value)};")
    (tmp_path / "node_modules").symlink_to(CLIENTS / "node_modules")
    (tmp_path / "answers.ts").write_text("\n".join(lines))
    (tmp_path / "package.json").write_text('{"type": "module"}')
    config = json.loads((CLIENTS / "tsconfig.json").read_text())
    config["files"] = ["answers.ts"]
    (tmp_path / "tsconfig.json").write_text(json.dumps(config))
    _run_node(_TSC, "-p", tmp_path, "--noEmit")
    # The check would see a fault.
    wrong = lines[0] + "\nexport const wrong: Mailbox[] = [{ id: 1 }];"
    (tmp_path / "answers.ts").write_text(wrong)
    with pytest.raises(AssertionError, match="number"):
        _run_node(_TSC, "-p", tmp_path, "--noEmit")


def test_a_websocket_client_asks_and_hears(host: Host) -> None:
    """The `websockets` library, on the address that the Session names."""
    session = host.ask("/.well-known/jmap")
    capability = session["capabilities"][WEBSOCKET]
    assert capability["supportsPush"] is True
    assert capability["url"] == host.url.replace("http", "ws", 1) + "/jmap/ws"
    account = session["primaryAccounts"][USING[1]]
    headers = {"Authorization": f"Bearer {host.token}"}
    with connect(
        capability["url"], subprotocols=[Subprotocol("jmap")], additional_headers=headers,
        ssl=host.trust(), proxy=None,
    ) as socket:  # fmt: skip
        socket.send('{"@type":"WebSocketPushEnable","dataTypes":["Mailbox"]}')
        create = {"k": {"name": f"by websocket {host.token[:8]}"}}
        request = {
            "@type": "Request", "id": "r1", "using": USING,
            "methodCalls": [["Mailbox/set", {"accountId": account, "create": create}, "0"]],
        }  # fmt: skip
        socket.send(msgspec.json.encode(request).decode())
        seen = {}
        while len(seen) < 2:
            message = json.loads(socket.recv(timeout=10))
            seen[message["@type"]] = message
        created = seen["Response"]["methodResponses"][0][1]
        assert created["created"]["k"]["id"]
        assert seen["Response"]["requestId"] == "r1"
        assert "Mailbox" in seen["StateChange"]["changed"][account]
        assert seen["StateChange"]["pushState"]


_EMAIL_PROPERTIES = """
    id blobId threadId mailboxIds keywords size receivedAt messageId inReplyTo references sender
    from to cc bcc replyTo subject sentAt headers bodyStructure bodyValues textBody htmlBody
    attachments hasAttachment preview
""".split()
