"""A running demo and a real browser for the tests of the web client."""

from __future__ import annotations

import json
import os
import shutil
import smtplib
import subprocess
import sys
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

LOGIN, PASSWORD = "demo@tindra.test", "demo"
ROOT = Path(__file__).parent.parent.parent
SHOTS = ROOT / ".artifacts" / "screenshots"
"""Outside git; CI keeps them."""
WAIT_MS = 20_000
_CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_USING = [
    "urn:ietf:params:jmap:core",
    "urn:ietf:params:jmap:mail",
    "urn:ietf:params:jmap:submission",
    "urn:tindra:params:jmap:connect",
]


class Demo(NamedTuple):
    """A running `tindra demo`."""

    url: str

    def call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """One method call, as another device of the same user would make it."""
        session = self._fetch("/.well-known/jmap")
        account = session["primaryAccounts"]["urn:ietf:params:jmap:mail"]
        calls = [[name, {"accountId": account} | arguments, "0"]]
        answer = self._fetch("/jmap/api", {"using": _USING, "methodCalls": calls})
        [[answered, result, _], *_] = answer["methodResponses"]
        assert answered == name, result
        return dict(result)

    def _fetch(self, path: str, body: Any = None) -> Any:
        credentials = b64encode(f"{LOGIN}:{PASSWORD}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def deliver(self, subject: str, text: str, html: str | None = None) -> None:
        """Mail from outside: it reaches the provider, and only from there the server."""
        smtp = self.call("Connection/get", {"ids": None})["list"][0]["smtp"]
        message = EmailMessage()
        message["From"] = "Nora Field <nora@field.test>"
        message["To"] = LOGIN
        message["Subject"] = subject
        message.set_content(text)
        if html is not None:
            message.add_alternative(html, subtype="html")
        with smtplib.SMTP(smtp["host"], smtp["port"], timeout=30) as session:
            session.login(LOGIN, PASSWORD)
            session.send_message(message)


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    """One demo for all tests of this folder."""
    command = [sys.executable, "-c", "from tindra.app.cli import main; main()", "demo"]
    process = subprocess.Popen(
        [*command, "--port", "0", "--messages", "200", "--quiet"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://"), "the demo did not start"
        yield Demo(url)
    finally:
        process.terminate()
        process.wait(timeout=30)
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium, without a window.

    Not longer than a module: while it is open, its own event loop counts as running, and no
    other test could run one.
    """
    path = (
        os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    )
    if path is None:
        pytest.fail("Chromium is not installed: make test installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_CHROMIUM_FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, demo: Demo) -> Iterator[Page]:
    """A fresh browser profile at the sign-in page; a script error fails the test."""
    context = browser.new_context(viewport={"width": 1360, "height": 850}, base_url=demo.url)
    context.set_default_timeout(WAIT_MS)
    expect.set_options(timeout=WAIT_MS)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto("/")
    yield page
    context.close()
    assert problems == []


def sign_in(page: Page, password: str = PASSWORD) -> None:
    """Fill in the form and send it."""
    page.get_by_label("Email address").fill(LOGIN)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in").click()


def keep_screenshot(page: Page, name: str) -> None:
    """A picture for people to judge."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png")
