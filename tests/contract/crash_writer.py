"""Writes mail without end and says on stdout what was acknowledged; its parent kills it.

Run: python -m tests.contract.crash_writer FOLDER
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.contract.stores import ACCOUNT, Draft, Stores, deliver, open_sqlite
from tindra.core.ports import StoreTx

WRITERS = 6


async def _write_forever(stores: Stores, writer: int) -> None:
    number = writer
    while True:

        async def run(tx: StoreTx, number: int = number) -> None:
            draft = Draft(number, thread=f"t{number % 17}", received_s=number)
            await deliver(tx, [draft])
            await tx.put_object("Thing", f"o{number}", b"%d" % number)

        info = await stores.commit(run, ACCOUNT)
        os.write(1, f"{number} {info.modseq}\n".encode())
        number += WRITERS


async def main() -> None:
    """Open what the parent made and never stop."""
    stores = await open_sqlite(Path(sys.argv[1]))
    async with asyncio.TaskGroup() as tasks:
        for writer in range(WRITERS):
            tasks.create_task(_write_forever(stores, writer))


if __name__ == "__main__":
    asyncio.run(main())
