"""The mailbox behind the demo servers: folders and messages in memory, and who watches them.

No protocol text and no socket here. UIDs ascend and are never used twice, every change raises the
folder's mod-sequence, and what was expunged is remembered (RFC 9051 s2.3.1, RFC 7162 s3.1).
Invariants: a folder's `messages` is in UID order; watchers are told after the change, in the same
turn of the event loop.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

import msgspec

DELIMITER: Final = "/"
"""Between the levels of a folder name."""


STORAGE_KIB_MAX: Final = 5 * 1024 * 1024
"""The quota of the account, 5 GiB: it is told, and not enforced."""


class StoredMessage(msgspec.Struct, eq=False):
    """A message in one folder."""

    uid: int
    raw: bytes
    flags: frozenset[str]
    date_ms: int
    modseq: int
    envelope: bytes | None = None
    """Rendered once, when first asked for; so are the next two."""
    structure: bytes | None = None
    plain_structure: bytes | None = None


class Watcher(Protocol):
    """Somebody who has a folder open."""

    def on_added(self, uid: int) -> None:
        """A message has come."""

    def on_flags(self, uid: int) -> None:
        """A message has other flags now."""

    def on_expunged(self, uids: list[int]) -> None:
        """Messages are gone."""

    def on_closed(self) -> None:
        """The folder itself is gone or renumbered: nothing known about it holds any more."""


class Folder:
    """One folder. Change it only through its methods."""

    def __init__(self, name: str, uidvalidity: int, special_use: str = "") -> None:
        self.name = name
        self.uidvalidity = uidvalidity
        self.special_use = special_use
        self.uidnext = 1
        self.highestmodseq = 1
        self.messages: dict[int, StoredMessage] = {}
        self.expunged: list[tuple[int, int]] = []
        """(modseq, uid), modseq ascending."""
        self.is_subscribed = True
        self.watchers: list[Watcher] = []

    def add(self, raw: bytes, flags: Iterable[str], date_ms: int) -> int:
        """Store a message and give its UID."""
        uid = self.uidnext
        self.uidnext += 1
        self.highestmodseq += 1
        self.messages[uid] = StoredMessage(uid, raw, frozenset(flags), date_ms, self.highestmodseq)
        for watcher in tuple(self.watchers):
            watcher.on_added(uid)
        return uid

    def set_flags(self, uid: int, flags: frozenset[str], source: Watcher | None = None) -> bool:
        """Replace the flags; False when they were so already. `source` is not told of it."""
        message = self.messages[uid]
        if message.flags == flags:
            return False
        self.highestmodseq += 1
        message.flags = flags
        message.modseq = self.highestmodseq
        for watcher in tuple(self.watchers):
            if watcher is not source:
                watcher.on_flags(uid)
        return True

    def expunge(self, uids: Iterable[int]) -> list[int]:
        """Remove messages for good; gives the UIDs that were there, ascending."""
        gone = sorted(uid for uid in set(uids) if uid in self.messages)
        if not gone:
            return gone
        self.highestmodseq += 1
        for uid in gone:
            del self.messages[uid]
            self.expunged.append((self.highestmodseq, uid))
        for watcher in tuple(self.watchers):
            watcher.on_expunged(gone)
        return gone

    def list_expunged(self, since_modseq: int) -> list[int]:
        """UIDs expunged after a mod-sequence."""
        return [uid for modseq, uid in self.expunged if modseq > since_modseq]

    def count_unseen(self) -> int:
        """Messages without `\\Seen`. Cost: linear."""
        return sum("\\Seen" not in message.flags for message in self.messages.values())

    def close_watchers(self) -> None:
        """Tell everybody that this folder is no more what they know."""
        for watcher in tuple(self.watchers):
            watcher.on_closed()


class MailStore:
    """All folders of the one account.

    Args:
        uidvalidity_first: of INBOX; each further folder counts up, as good servers do.
    """

    def __init__(self, uidvalidity_first: int = 1) -> None:
        self._uidvalidity_next = uidvalidity_first
        self.folders: dict[str, Folder] = {}
        self.storage_kib_max = STORAGE_KIB_MAX
        self.create("INBOX")

    def count_octets(self) -> int:
        """What all messages weigh together."""
        return sum(len(m.raw) for folder in self.folders.values() for m in folder.messages.values())

    def find(self, name: str) -> Folder | None:
        """A folder by name; INBOX in any letter case."""
        return self.folders.get("INBOX" if name.upper() == "INBOX" else name)

    def create(self, name: str, special_use: str = "") -> Folder:
        """A new folder; its parents are made too. The existing one, if there is one."""
        parent = name.rpartition(DELIMITER)[0]
        if parent and self.find(parent) is None:
            self.create(parent)
        existing = self.find(name)
        if existing is not None:
            return existing
        folder = Folder(name, self._new_uidvalidity(), special_use)
        self.folders[name] = folder
        return folder

    def delete(self, folder: Folder) -> None:
        """Remove a folder and its messages; inner folders stay."""
        del self.folders[folder.name]
        folder.close_watchers()

    def rename(self, folder: Folder, name: str) -> None:
        """Give a folder, and those inside of it, another name; UIDs stay as they are.

        INBOX itself stays and only hands over its messages. Source: RFC 9051 s6.3.6
        """
        if folder.name == "INBOX":
            self.move(folder, list(folder.messages), self.create(name))
            return
        parent = name.rpartition(DELIMITER)[0]
        if parent:
            self.create(parent)
        old = folder.name
        for inner in [*self.folders.values()]:
            if inner is folder or inner.name.startswith(old + DELIMITER):
                del self.folders[inner.name]
                inner.name = name + inner.name[len(old) :]
                self.folders[inner.name] = inner

    def renumber(self, folder: Folder) -> None:
        """A new UIDVALIDITY and new UIDs, same messages; open sessions lose the folder."""
        messages = list(folder.messages.values())
        folder.uidvalidity = self._new_uidvalidity()
        folder.uidnext = 1
        folder.messages = {}
        folder.expunged = []
        watchers, folder.watchers = folder.watchers, []
        for message in messages:
            folder.add(message.raw, message.flags, message.date_ms)
        folder.watchers = watchers
        folder.close_watchers()

    def copy(self, source: Folder, uids: Iterable[int], target: Folder) -> list[tuple[int, int]]:
        """Copy messages; gives (old UID, new UID) in the order of `uids`."""
        pairs = []
        for uid in uids:
            message = source.messages.get(uid)
            if message is not None:
                pairs.append((uid, target.add(message.raw, message.flags, message.date_ms)))
        return pairs

    def move(self, source: Folder, uids: Iterable[int], target: Folder) -> list[tuple[int, int]]:
        """Copy, then expunge exactly these; gives (old UID, new UID)."""
        pairs = self.copy(source, uids, target)
        source.expunge(old for old, _ in pairs)
        return pairs

    def _new_uidvalidity(self) -> int:
        self._uidvalidity_next += 1
        return self._uidvalidity_next - 1
