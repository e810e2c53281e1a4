"""A server whose disk is full says so where probes look, and recovers by itself."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.app.command_line import LOGIN, Cli, wait_for
from tindra.app.config import Settings
from tindra.app.disk import FREE_BYTES_MIN, DiskWatch
from tindra.base.limits import MIB

DISK_MIB = 48


class Probe:
    """A store that can or cannot write."""

    trouble: str | None = None

    async def find_trouble(self) -> str | None:
        return self.trouble


class Usage(NamedTuple):
    free: int


async def test_a_full_disk_and_a_refused_write_are_named_with_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = {tmp_path / "data": 10 * FREE_BYTES_MIN, tmp_path / "mail": 10 * FREE_BYTES_MIN}
    for folder in free:
        folder.mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(free[path]))
    probe = Probe()
    settings = Settings(data=str(tmp_path / "data"), blobs=str(tmp_path / "mail"))
    watch = DiskWatch(settings, probe)
    assert await watch.find_trouble() is None
    free[tmp_path / "mail"] = FREE_BYTES_MIN - 1
    said = await watch.find_trouble()
    assert said is not None
    assert f"blobs folder {tmp_path / 'mail'} is full: 15 MiB free" in said
    free[tmp_path / "mail"] = FREE_BYTES_MIN
    probe.trouble = "the disk is full"
    said = await watch.find_trouble()
    assert said == f"nothing can be written in the data folder {settings.data}: the disk is full"
    probe.trouble = None
    assert await watch.find_trouble() is None


async def test_blobs_elsewhere_need_no_room_here(tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path), blobs="s3://bucket/mail")
    assert settings.blob_path is None
    assert await DiskWatch(settings, Probe()).find_trouble() is None


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def look(port: int) -> tuple[int, str]:
    """What a probe sees."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, body.decode() if answer.status == 200 else json.loads(body)["detail"]
    finally:
        connection.close()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs to mount a disk")
def test_a_running_server_on_a_full_disk_is_not_ready_until_there_is_room(cli: Cli) -> None:
    with small_disk(cli.data):
        cli.add_user()
        with cli.serving() as port:
            assert look(port) == (200, "ready\n")
            ballast = cli.data / "ballast"
            free = shutil.disk_usage(cli.data).free
            with contextlib.suppress(OSError), ballast.open("wb") as file:
                file.write(b"b" * (free + MIB))
            status, said = look(port)
            assert status == 503
            assert f"the disk of the data folder {cli.data} is full" in said
            done = cli.run("user", "add", "other", "--password-stdin", stdin=b"secret\n")
            assert done.returncode == 1
            assert "disk" in done.stderr
            assert cli.ok("user", "list").split() == [LOGIN], "reading goes on"
            done = cli.run("doctor")
            assert done.returncode == 1
            assert "Make room" in done.stdout
            ballast.unlink()
            wait_for(lambda: look(port)[0] == 200)
            cli.ok("user", "add", "other", "--password-stdin", stdin=b"secret\n")
