"""Draws the pictures of the demo mailbox: landscapes and letterheads as small PNG files.

Pure arithmetic on a palette, no image library. Source: PNG specification, second edition, sections
5 (file structure) and 11 (chunks).
"""

from __future__ import annotations

import math
import struct
import zlib
from functools import lru_cache
from typing import Final, TypeAlias

from tindra.app.demo.mail.dice import Dice, seeded_dice

Colour: TypeAlias = tuple[int, int, int]

_SKY_STEPS: Final = 24
_SKY: Final = 0
_SUN: Final = _SKY_STEPS
_HILLS: Final = _SKY_STEPS + 1
_HILL_COUNT: Final = 3
_MOODS: Final[tuple[tuple[Colour, Colour, Colour, Colour], ...]] = (
    # top of the sky, horizon, sun, nearest hill
    ((94, 129, 161), (240, 214, 178), (255, 240, 205), (38, 58, 64)),
    ((44, 62, 99), (233, 150, 122), (255, 214, 170), (34, 34, 54)),
    ((160, 193, 209), (236, 238, 226), (255, 252, 232), (62, 92, 78)),
    ((92, 84, 120), (232, 190, 196), (250, 228, 214), (52, 46, 74)),
    ((122, 150, 130), (228, 226, 190), (250, 246, 214), (48, 66, 44)),
)


def encode_png(width: int, height: int, palette: list[Colour], rows: bytes) -> bytes:
    """A PNG with one palette index an octet.

    Args:
        rows: `height` rows of `width` octets, top first.
    """
    lines = b"".join(b"\0" + rows[y * width : (y + 1) * width] for y in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    colours = b"".join(bytes(colour) for colour in palette)
    chunks = ((b"IHDR", head), (b"PLTE", colours), (b"IDAT", zlib.compress(lines, 6)))
    body = b"".join(_chunk(kind, data) for kind, data in (*chunks, (b"IEND", b"")))
    return b"\x89PNG\r\n\x1a\n" + body


@lru_cache(maxsize=256)
def draw_landscape(subject: str, width: int = 480, height: int = 300) -> bytes:
    """Sky, sun and three rows of hills; the same `subject` is always the same view."""
    dice = seeded_dice(0, "landscape", subject)
    top, horizon, sun, near = dice.choice(_MOODS)
    palette = [_mix(top, horizon, step / (_SKY_STEPS - 1)) for step in range(_SKY_STEPS)]
    palette.append(sun)
    palette += [_mix(horizon, near, (hill + 1) / _HILL_COUNT) for hill in range(_HILL_COUNT)]
    sky = bytes(_SKY + y * _SKY_STEPS // height for y in range(height))
    sun_x = dice.randrange(width // 5, width * 4 // 5)
    sun_y = dice.randrange(height // 5, height // 2)
    radius = height // dice.randrange(9, 15)
    waves = [[_draw_wave(dice) for _ in range(3)] for _ in range(_HILL_COUNT)]
    columns = []
    for x in range(width):
        column = bytearray(sky)
        reach = radius * radius - (x - sun_x) ** 2
        if reach > 0:
            half = math.isqrt(reach)
            column[sun_y - half : sun_y + half] = bytes([_SUN]) * (2 * half)
        for hill, wave in enumerate(waves):
            lift = sum(size * math.sin(rate * x / width * math.tau + at) for rate, at, size in wave)
            start = int(height * (0.52 + 0.14 * hill + lift))
            column[start:] = bytes([_HILLS + hill]) * (height - start)
        columns.append(column)
    return encode_png(width, height, palette, b"".join(map(bytes, zip(*columns, strict=True))))


@lru_cache(maxsize=64)
def draw_letterhead(name: str, accent: str, size: int = 56) -> bytes:
    """A round mark in the colour `accent` (six hex digits), for the head of a newsletter."""
    red, green, blue = (int(accent[i : i + 2], 16) for i in (0, 2, 4))
    ink = (red, green, blue)
    palette = [(255, 255, 255), ink, _mix(ink, (255, 255, 255), 0.45)]
    turn = seeded_dice(0, "letterhead", name).uniform(0, math.tau)
    middle = (size - 1) / 2
    rows = bytearray()
    for y in range(size):
        for x in range(size):
            dx, dy = x - middle, y - middle
            is_inside = dx * dx + dy * dy <= middle * middle
            is_light = dx * math.cos(turn) + dy * math.sin(turn) > 6 * math.sin(x / 6)
            rows.append((2 if is_light else 1) if is_inside else 0)
    return encode_png(size, size, palette, bytes(rows))


def _draw_wave(dice: Dice) -> tuple[float, float, float]:
    """How often it swings over the width, where it begins, how high it goes."""
    return dice.uniform(0.5, 2.5), dice.uniform(0, math.tau), dice.uniform(0.02, 0.07)


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    """`share` 0 is the first colour, 1 the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return (red, green, blue)
