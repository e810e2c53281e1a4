"""What a hostile user or an unlucky administrator can do, and the clear answer that each gets.

Each of these once cost the server many seconds, or ended it in a traceback.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tindra.app.config import Settings, SettingsError
from tindra.app.wiring import open_installation
from tindra.base import limits
from tindra.base.ids import AccountId
from tindra.store.key_file import KeyMissing
from tindra.store.memory.secret_rows import MemorySecretRows
from tindra.store.vault import Vault
from tindra.wire.html.sanitise import sanitise_html
from tindra.wire.jmap.request import RequestSyntaxError, parse_json

SECONDS_MAX = 5.0
"""Far above what a loaded machine needs now, far below the minutes it was."""
MANY = limits.JSON_VALUES_MAX + 1


@pytest.mark.parametrize(
    "body",
    [b"[" + b"[]," * MANY + b"[]]", b"[" + b"{}," * MANY + b"{}]", b"[" + b'"a",' * MANY + b"1]"],
    ids=["arrays", "objects", "strings"],
)
def test_a_request_of_millions_of_tiny_values_is_refused_before_they_are_made(body: bytes) -> None:
    with pytest.raises(RequestSyntaxError, match="values") as refusal:
        parse_json(body)
    assert refusal.value.kind == "notJSON"


def test_brackets_and_quotes_inside_a_text_are_no_values() -> None:
    text = "[{" * MANY
    assert parse_json(f'["{text}"]'.encode()) == [text]
    assert parse_json(b'["' + rb"\"" * (2 * MANY) + b'"]') == ['"' * (2 * MANY)]


@pytest.mark.parametrize("unit", ["&", "<", ">", "&amp;", "&#", "<&", "\u00a0", "&<!---->"])
def test_html_made_of_nothing_but_references_is_shown_in_linear_time(unit: str) -> None:
    started_s = time.monotonic()
    safe = sanitise_html("<p>" + unit * (400_000 // len(unit)), cid_url=lambda _: None)
    assert time.monotonic() - started_s < SECONDS_MAX
    assert safe.is_text


def test_many_references_in_many_paragraphs_stay_html() -> None:
    page = "<p>Fish &amp; chips &lt; 5 &euro;</p>" * 5_000
    assert not sanitise_html(page, cid_url=lambda _: None).is_text


class Owner:
    """A store with nothing but secrets."""

    def __init__(self, account_id: AccountId) -> None:
        self.secret_rows = MemorySecretRows({account_id})


async def test_a_wrong_master_key_ends_the_start_and_not_each_mirror(tmp_path: Path) -> None:
    account_id = AccountId("a1")
    owner = Owner(account_id)
    vault = Vault(owner, tmp_path / "right.key")
    await vault.start()
    await vault.put_secret(account_id, "imap", "x")
    (tmp_path / "wrong.key").write_bytes(b"w" * 32)
    with pytest.raises(KeyMissing, match="not the one"):
        await Vault(owner, tmp_path / "wrong.key").start()
    await Vault(owner, tmp_path / "right.key").start()


async def test_a_blob_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("a file where a folder should be")
    with pytest.raises(SettingsError, match=r"the blob folder .* cannot be made"):
        async with open_installation(Settings(data=str(tmp_path))):
            pass
