"""The web client: cached where its name is a hash, strict where a page is, closed to traversal."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from typing import Any

import pytest

from tests.server.asgi import Answer, ask
from tests.server.world import World, write_site

HTML = "text/html,application/xhtml+xml,*/*;q=0.8"


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "secret.txt").write_text("outside")
    site = write_site(tmp_path / "site")
    (site / "link.txt").symlink_to(tmp_path / "secret.txt")
    return World(static_dir=site)


def get(world: World, path: str, **headers: Any) -> Answer:
    return asyncio.run(ask(world.app, "GET", path, **headers))


def test_the_page_is_asked_for_every_time_and_its_files_never_again(world: World) -> None:
    page = get(world, "/")
    assert page.status == 200
    assert page.header("content-type") == "text/html; charset=utf-8"
    assert page.header("cache-control") == "no-cache"
    script = get(world, "/assets/index-Ab12.js")
    assert script.header("content-type") == "text/javascript; charset=utf-8"
    assert "immutable" in script.header("cache-control")
    again = get(world, "/", if_none_match=page.header("etag"))
    assert (again.status, again.body) == (304, b"")


def test_the_page_may_run_its_own_scripts_only_and_show_mail(world: World) -> None:
    answer = get(world, "/")
    policy = dict(
        part.split(" ", 1) for part in answer.header("content-security-policy").split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "'self'" in policy["frame-src"]
    # A message shown in a srcdoc frame inherits this policy; its own meta element narrows it.
    assert {"data:", "blob:", "https:", "http:"} <= set(policy["img-src"].split())
    assert "'unsafe-inline'" in policy["style-src"]
    assert "unsafe-eval" not in answer.header("content-security-policy")
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("referrer-policy") == "no-referrer"
    assert answer.header("x-frame-options") == "DENY"


def test_the_address_of_a_page_gets_the_page_and_a_missing_file_a_404(world: World) -> None:
    assert get(world, "/inbox/t123", accept=HTML).body == get(world, "/").body
    assert get(world, "/inbox/t123", accept="*/*").status == 404
    assert get(world, "/assets/gone-1.js", accept=HTML).status == 404
    assert get(world, "/jmap/nothing").status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt", "/%2e%2e/secret.txt", "/assets/../../secret.txt", "/..%2fsecret.txt",
        "//etc/passwd", "/link.txt", "/assets", "/assets/", "/index.html/", "/.", "/index.html%00",
    ],
)  # fmt: skip
def test_no_path_leads_out(world: World, path: str) -> None:
    answer = get(world, path)
    assert answer.status == 404
    assert b"outside" not in answer.body


def test_text_is_compressed_for_who_can_read_it(world: World) -> None:
    plain = get(world, "/assets/index-Ab12.js")
    packed = get(world, "/assets/index-Ab12.js", accept_encoding="gzip, br")
    assert packed.header("content-encoding") == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert "Accept-Encoding" in packed.all("vary")
    assert not get(world, "/favicon.svg", accept_encoding="gzip").header("content-encoding")


def test_head_of_a_page_has_no_body(world: World) -> None:
    answer = asyncio.run(ask(world.app, "HEAD", "/"))
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.header("content-length")) > 2000


def test_without_a_web_client_every_page_is_a_404() -> None:
    assert get(World(), "/", accept=HTML).status == 404


def test_a_directory_that_cannot_be_a_web_client_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "huge.bin").write_bytes(b"")
    with (tmp_path / "huge.bin").open("r+b") as file:
        file.truncate(9 * 1024 * 1024)
    with pytest.raises(ValueError, match="too much"):
        World(static_dir=tmp_path)
