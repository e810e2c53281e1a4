"""Runs the command `tindra` in a process of its own, on a data folder of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.app.demo_host import DemoHost

LOGIN = "alex@example.test"
ADDRESS = "demo@tindra.test"


class Cli:
    """Runs commands on one data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("TINDRA_")
        } | {"COLUMNS": "200", "NO_COLOR": "1"}

    def command(self, *arguments: str) -> list[str]:
        code = "import sys; from tindra.app.cli import main; sys.argv[0] = 'tindra'; main()"
        return [sys.executable, "-c", code, *arguments]

    def run(
        self, *arguments: str | bytes, stdin: bytes = b"", has_data: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end; checks that there is no traceback."""
        more: list[str | bytes] = ["--data", str(self.data)] if has_data else []
        command = [*self.command(), *arguments, *more]
        done = subprocess.run(
            command, input=stdin, capture_output=True, env=self.environment, cwd=self.folder,
            timeout=60, check=False,
        )  # fmt: skip
        out, err = done.stdout.decode(), done.stderr.decode("utf-8", "replace")
        assert "Traceback" not in out + err, err
        # 2: the command itself was not understood
        assert done.returncode in (0, 1, 2), (done.returncode, out, err)
        return subprocess.CompletedProcess(command, done.returncode, out, err)

    def ok(self, *arguments: str, stdin: bytes = b"") -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def refuse(self, *arguments: str | bytes, stdin: bytes = b"", has_data: bool = True) -> str:
        """Must fail with one sentence."""
        done = self.run(*arguments, stdin=stdin, has_data=has_data)
        assert done.returncode == 1, done.stdout
        said = done.stderr.strip()
        assert said.startswith("tindra: "), said
        assert len(said.splitlines()) == 1, said
        return said

    def add_user(self) -> None:
        self.ok("user", "add", LOGIN, "--password-stdin", stdin=b"secret\n")

    def account_add(self, host: DemoHost, password: str = "demo") -> subprocess.CompletedProcess:
        return self.run(
            "account", "add", LOGIN, ADDRESS, "--imap-host", "127.0.0.1",
            "--imap-port", str(host.provider.imap_port), "--imap-tls", "none",
            "--password-stdin", stdin=f"{password}\n".encode(),
        )  # fmt: skip

    @contextmanager
    def serving(self, *more: str) -> Iterator[int]:
        """A running server; gives its port."""
        process = subprocess.Popen(
            self.command("serve", "--data", str(self.data), "--port", "0", *more),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment, cwd=self.folder,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline().decode()
            found = re.search(r":(\d+) from", line)
            if found is None:
                process.kill()
                raise AssertionError(line + process.communicate()[1].decode())
            yield int(found[1])
        finally:
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=20)
            assert b"Traceback" not in err, err.decode()
            assert process.returncode == 0


def wait_for(is_there: Callable[[], object], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not is_there():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.1)
