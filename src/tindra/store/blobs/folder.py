"""Writes objects into the folder of an obstore LocalStore, durably; reading them is obstore's.

Two writers of one object write the same octets, for its name is their hash: the last one wins.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

FOLDERS_KNOWN_MAX: Final = 65_536
"""Folders remembered as durable; beyond it they are made sure of again."""


class Folder:
    """A tree of files below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._durable: set[Path] = set()
        """Folders whose own entries, up to `root`, are on disk."""

    def write(self, path: str, data: bytes) -> None:
        """Put `data` at `path`: whole and on disk on return, or not there at all.

        May run on several threads at once. Cost: a write, and two fsyncs in a folder in use.
        Raises: OSError.
        """
        place = self._root / path
        folder = place.parent
        if folder not in self._durable:
            folder.mkdir(parents=True, exist_ok=True)
        # A crash may leave it behind: erasing the account takes it along.
        part = folder / f"{place.name}.{os.getpid()}-{threading.get_ident()}.part"
        try:
            _write_file(part, data)
            part.replace(place)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        _sync(folder)
        if folder not in self._durable:
            self._make_durable(folder)

    def _make_durable(self, folder: Path) -> None:
        above = folder
        while above != self._root:
            above = above.parent
            _sync(above)
        if len(self._durable) >= FOLDERS_KNOWN_MAX:
            self._durable = set()
        self._durable.add(folder)


def _write_file(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
