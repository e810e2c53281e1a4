"""Bounds that only the stores know, with their unit and reason; the others are in base/limits."""

from __future__ import annotations

from typing import Final

DEDUP_KEPT_MS: Final = 7 * 24 * 3600 * 1000
"""A request is repeated within seconds of a lost answer, or when a device is next online."""
LONG_READERS: Final = 2
"""Threads for long reads: as many as there are cores on a small machine; more only queue there."""
ERASE_ROWS_MAX: Final = 1_000
"""Rows of an erased account deleted in one transaction, so that other accounts can go on."""
