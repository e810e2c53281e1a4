"""The one place where the demo draws random numbers: seeded streams that never share state.

The same names always give the same stream, so one more message changes no other message. Nothing
here is fit for secrets.
"""

from __future__ import annotations

import random
from typing import TypeAlias

Dice: TypeAlias = random.Random


def seeded_dice(seed: int, *names: str | int) -> Dice:
    """A stream of its own for `names` (what is being made, and its number) under `seed`."""
    return random.Random(f"{seed}/" + "/".join(map(str, names)))  # noqa: S311 - a story, no secret
