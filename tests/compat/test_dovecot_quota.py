"""The quotas of a real Dovecot with its quota plugin. Source: RFC 9208"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.dovecot import Dovecot, is_installed, start_dovecot
from tests.compat.mirrored_dovecot import open_mirrored
from tests.sync.harness import make_mail
from tindra.outside.imap.provider import ImapProvider
from tindra.sync.ports import RemoteQuota, ServerSettings

pytestmark = pytest.mark.skipif(not is_installed(), reason="Dovecot is not installed")

_QUOTA = """
mail_plugins = quota
protocol imap {
  mail_plugins = quota imap_quota
}
plugin {
  quota = count:User quota
  quota_vsizes = yes
  quota_rule = *:storage=2M
  quota_rule2 = *:messages=50
}
"""


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    with (
        tempfile.TemporaryDirectory(prefix="dq") as folder,
        start_dovecot(Path(folder), _QUOTA) as server,
    ):
        yield server


async def test_the_session_tells_what_dovecot_counts(dovecot: Dovecot) -> None:
    settings = ServerSettings(dovecot.host, dovecot.port, "none", "teller")
    session = await ImapProvider(tls=dovecot.client_context()).connect(settings, dovecot.password)
    try:
        await session.append("INBOX", b"Subject: x\r\n\r\n" + b"x" * 300_000, [], None)
        told = {quota.resource: quota for quota in await session.load_quotas()}
    finally:
        await session.close()
    assert told["MESSAGE"] == RemoteQuota("User quota", "MESSAGE", 1, 50)
    assert told["STORAGE"].limit == 2048
    assert 292 <= told["STORAGE"].used <= 295


async def test_the_quotas_of_dovecot_become_those_of_the_account(
    dovecot: Dovecot, tmp_path: Path
) -> None:
    async with open_mirrored(dovecot, "mirrored", tmp_path) as m:
        await asyncio.to_thread(m.other.append, [make_mail(n) for n in range(10)])
        await m.connect()
        await m.settle()
        call = ["Quota/get", {"accountId": m.world.account_id, "ids": None}, "0"]

        async def is_told() -> bool:
            [[_, got, _]] = (await m.world.raw_request([call]))["methodResponses"]
            found = {q["resourceType"]: (q["name"], q["used"], q["hardLimit"]) for q in got["list"]}
            if not found:
                return False
            assert found["count"] == ("User quota", 10, 50)
            assert found["octets"][2] == 2 << 20
            return bool(0 < found["octets"][1] < 10_000)

        await m.wait_until(is_told, lambda: "no quota was told")
