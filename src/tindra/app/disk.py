"""Whether there is room to write: for the readiness probe and the doctor."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from tindra.app.config import Settings
from tindra.app.ports import WriteProbe
from tindra.base.limits import MIB

FREE_BYTES_MIN = 16 * MIB
"""With less free space no mail is taken on: a large message and its journal may not fit."""


def find_free_bytes(folder: Path) -> int:
    """Free space where `folder` is or will be. Raises: OSError."""
    path = folder.absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


class DiskWatch:
    """Knows the folders of an installation that must take what is written."""

    def __init__(self, settings: Settings, store: WriteProbe) -> None:
        self._folders = {"data": settings.data_path}
        if settings.blob_path is not None:
            self._folders["blobs"] = settings.blob_path
        self._store = store

    def load_free_bytes(self) -> dict[str, int]:
        """Free space of each folder, by its name; one that cannot be looked at is left out."""
        found = {}
        for name, folder in self._folders.items():
            with suppress(OSError):
                found[name] = find_free_bytes(folder)
        return found

    async def find_trouble(self) -> str | None:
        """Why this server cannot take anything new now, for the one who runs it; None if it can."""
        for name, folder in self._folders.items():
            try:
                free = find_free_bytes(folder)
            except OSError as error:
                return f"the {name} folder {folder} cannot be looked at: {error.strerror}"
            if free < FREE_BYTES_MIN:
                return f"the disk of the {name} folder {folder} is full: {free // MIB} MiB free"
        trouble = await self._store.find_trouble()
        if trouble is None:
            return None
        return f"nothing can be written in the data folder {self._folders['data']}: {trouble}"
