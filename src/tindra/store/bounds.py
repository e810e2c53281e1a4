"""Bounds that only the stores know, with their unit and reason; the others are in base/limits."""

from __future__ import annotations

from typing import Final

LONG_READERS: Final = 2
"""Threads for long reads: as many as there are cores on a small machine; more only queue there."""
ERASE_ROWS_MAX: Final = 1_000
"""Rows of an erased account deleted in one transaction, so that other accounts can go on."""
REFERENCE_THREADS_MAX: Final = 20
"""Newest Threads that hold a message with one reference (core/ports.py)."""
