"""The mirror against a real Dovecot: the whole story, every nasty mail, a large mailbox."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.dovecot import Dovecot, fill_maildir, is_installed, start_dovecot
from tests.compat.mirrored_dovecot import MirroredDovecot, Tls, open_mirrored
from tests.sync.harness import make_mail
from tindra.model.blob import make_blob_id

pytestmark = pytest.mark.skipif(not is_installed(), reason="Dovecot is not installed")
_users = (f"sync{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    # not pytest's own folder: that one is closed to the mail user, again and again
    with tempfile.TemporaryDirectory(prefix="ds") as folder, start_dovecot(Path(folder)) as server:
        yield server


async def check_second_sync(m: MirroredDovecot) -> None:
    """A new start changes nothing, here or there."""
    await m.wait_for_status(phase="live", lastError=None)
    await m.stop()
    before = await m.world.load_all()
    there = await asyncio.to_thread(m.other.count_changes)
    m.start()
    await m.wait_for_status(phase="live")
    await m.settle()
    after = await m.world.load_all()
    assert after["Email"] == before["Email"]
    assert after["Mailbox"] == before["Mailbox"]
    assert await asyncio.to_thread(m.other.count_changes) == there


@pytest.mark.parametrize("tls", ["none", "implicit", "starttls"])
async def test_the_whole_story(dovecot: Dovecot, tmp_path: Path, tls: Tls) -> None:
    async with open_mirrored(dovecot, next(_users), tmp_path, tls=tls) as m:
        other = m.other
        other.append((make_mail(n) for n in range(40)), "INBOX", "\\Seen")
        other.manage(("create", "Work/Größe & Co"), ("create", "Archive"))
        other.append([make_mail(100)], "Work/Größe & Co", "\\Flagged $Label1")
        await m.connect()
        await m.settle()
        moved, elsewhere = await m.id_of(3), await m.id_of(4)
        # devices
        await m.update(await m.id_of(1), **{"keywords__$seen": None, "keywords__$flagged": True})
        await m.move(await m.id_of(2), "Archive")
        await m.move(await m.id_of(5), "INBOX", "Archive")
        await m.destroy(await m.id_of(6))
        await m.import_mail(200, "Drafts", "$draft", "mine")
        mailboxes = await m.find_mailboxes()
        await m.world.add_mailbox("Neu", parentId=mailboxes["Work"])
        await m.world.call("Mailbox/set", update={mailboxes["Archive"]: {"name": "Ablage"}})
        await m.move(await m.id_of(8), "Work")  # until now only a node of the tree
        # others
        other.append([make_mail(300)])
        other.do("INBOX", ("MOVE", other.find_uid(make_mail(3)), '"Trash"'))
        other.do("INBOX", ("STORE", other.find_uid(make_mail(4)), "+FLAGS", "(\\Answered $todo)"))
        uid = other.find_uid(make_mail(7))
        other.do("INBOX", ("STORE", uid, "+FLAGS", "(\\Deleted)"), ("EXPUNGE", uid))
        await m.settle()
        assert await m.id_of(3) == moved
        assert await m.id_of(4) == elsewhere
        held = {name: len(messages) for name, messages in other.hold().items()}
        assert held == {
            "INBOX": 40 - 5 + 1, "Ablage": 2, "Trash": 1, "Drafts": 1, "Sent": 0,
            "Work": 1, "Work/Größe & Co": 1, "Work/Neu": 0,
        }  # fmt: skip
        await check_second_sync(m)


async def test_a_folder_renamed_or_removed_by_another_client(
    dovecot: Dovecot, tmp_path: Path
) -> None:
    async with open_mirrored(dovecot, next(_users), tmp_path) as m:
        m.other.manage(("create", "Old/Inner"), ("create", "Gone"))
        m.other.append((make_mail(n) for n in range(25)), "Old/Inner")
        m.other.append([make_mail(90)], "Gone")
        await m.connect()
        await m.settle()
        before, mailboxes = await m.find_ids(), await m.find_mailboxes()
        m.other.manage(("rename", "Old", "New"), ("delete", "Gone"))
        await m.settle()
        after = await m.find_mailboxes()
        assert after["New/Inner"] == mailboxes["Old/Inner"]
        assert len(await m.find_ids()) == 25
        assert (await m.find_ids()).items() <= before.items()


async def test_uids_that_start_anew_change_no_id(dovecot: Dovecot, tmp_path: Path) -> None:
    user = next(_users)
    async with open_mirrored(dovecot, user, tmp_path) as m:
        m.other.append(make_mail(n) for n in range(30))
        await m.connect()
        await m.settle()
        await m.update(await m.id_of(4), keywords__mine=True)
        await m.settle()
        before = await m.find_ids()
        await m.stop()
        for name in (
            "dovecot-uidlist",
            "dovecot.index.log",
            "dovecot.index",
            "dovecot.index.cache",
        ):
            (dovecot.folder / "home" / user / "mail" / name).unlink(missing_ok=True)
        m.start()
        await m.settle()
        assert await m.find_ids() == before


async def test_line_ends_that_dovecot_changes_make_no_second_email(
    dovecot: Dovecot, tmp_path: Path
) -> None:
    async with open_mirrored(dovecot, next(_users), tmp_path) as m:
        await m.connect()
        await m.settle()
        raw = make_mail(1).replace(b"\r\n", b"\n")
        id = await m.world.add_email((await m.find_mailboxes())["Drafts"], raw, ("$draft",))

        async def is_there() -> bool:
            return len(m.other.hold()["Drafts"]) == 1

        await m.wait_until(is_there, lambda: "never appended")
        await m.stop()
        m.start()
        await m.wait_for_status(phase="live")
        m.other.append([make_mail(2)])

        async def has_come() -> bool:
            return make_blob_id(make_mail(2)) in await m.find_ids()

        await m.wait_until(has_come, lambda: "new mail never came")
        assert sorted((await m.find_ids()).values()).count(id) == 1
        assert len(await m.find_ids()) == 2


async def test_a_large_mailbox_comes_in_whole(dovecot: Dovecot, tmp_path: Path) -> None:
    user = next(_users)
    fill_maildir(dovecot, user, (make_mail(n, "Body\r\n" * 50) for n in range(1000)))
    async with open_mirrored(dovecot, user, tmp_path) as m:
        await m.connect()
        await m.wait_for_status(phase="live", messagesDone=1000, messagesTotal=1000)
        await m.settle()
        assert all(
            one["progress"] <= two["progress"]
            for one, two in itertools.pairwise(s for s in m.statuses if s["progress"] is not None)
        )


async def test_every_nasty_mail_comes_back_octet_by_octet(
    dovecot: Dovecot, tmp_path: Path, corpus: Path
) -> None:
    files = sorted(path for path in (corpus / "mail").rglob("*") if path.is_file())
    messages = [path.read_bytes() for path in files]
    async with open_mirrored(dovecot, next(_users), tmp_path) as m:
        refused: list[str] = []
        for flags in ("", "\\Seen $nasty"):
            chosen = [n for n in range(len(files)) if bool(n % 2) == bool(flags)]
            bad = m.other.append((messages[n] for n in chosen), "INBOX", flags)
            refused += [files[chosen[n]].name for n in bad]
        # Dovecot takes neither nothing nor NUL.
        assert all(
            not (corpus_file := next(f for f in files if f.name == name)).stat().st_size
            or b"\0" in corpus_file.read_bytes()
            for name in refused
        ), refused
        await m.connect()
        await m.wait_for_status(phase="live")
        await m.settle()
        there = {make_blob_id(raw): raw for _, _, raw in m.other.hold()["INBOX"]}
        assert len(there) > 300
        assert set(await m.find_ids()) == set(there)
        for blob_id, raw in there.items():
            assert await m.services.blobs.get(m.world.account_id, blob_id) == raw
        assert (await m.status())["messagesSkipped"] == 0
        await check_second_sync(m)
