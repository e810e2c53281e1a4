"""Every file of the corpus of real and nasty mail through import, get and download."""

from __future__ import annotations

from pathlib import Path

from tests.world import World

USING_ALL = ["bodyStructure", "bodyValues", "textBody", "htmlBody", "attachments", "headers"]


def list_messages(corpus: Path) -> list[Path]:
    """All files that hold a message, in a fixed order."""
    skipped = {".json", ".md", ".py"}
    files = (corpus / "mail").rglob("*")
    return sorted(
        path
        for path in files
        if path.is_file() and path.suffix not in skipped and "LICENSE" not in str(path).upper()
    )


async def test_every_message_is_imported_shown_and_downloaded_unchanged(
    world: World, corpus: Path
) -> None:
    inbox = await world.add_mailbox("Post", role="inbox")
    files = list_messages(corpus)
    assert len(files) > 200
    world.devices = world.devices[1:]  # the eager device would make this quadratic
    imported = 0
    for path in files:
        raw = path.read_bytes()
        blob = await world.services.blobs.put(world.account_id, raw)
        email = {"blobId": blob.id, "mailboxIds": {inbox: True}}
        made = await world.call("Email/import", emails={"e": email})
        refused = (made["notCreated"] or {}).get("e")
        if refused is not None:
            # A copy of another file, or no message at all: said by name, never an accident.
            assert refused["type"] in ("alreadyExists", "invalidEmail"), (path, refused)
            continue
        imported += 1
        id = made["created"]["e"]["id"]
        properties = ["subject", "from", "preview", "sentAt", *USING_ALL, "safeHtml"]
        got = await world.call(
            "Email/get", ids=[id], properties=properties, fetchAllBodyValues=True
        )
        [shown] = got["list"]
        assert shown["bodyStructure"]["type"], path
        assert await world.services.blobs.get(world.account_id, blob.id) == raw, path
    assert imported > 200
