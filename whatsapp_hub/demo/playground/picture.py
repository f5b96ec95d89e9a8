"""The picture that customers of the playground send: drawn, so that it is nobody's."""

from __future__ import annotations

import functools
import struct
import zlib


@functools.cache
def draw_sunset(width: int = 240, height: int = 150) -> bytes:
    """Draw a sunset as a PNG."""
    rows = bytearray()
    for y in range(height):
        rows.append(0)  # no filter
        for x in range(width):
            near = ((x - width * 0.62) ** 2 + (y - height * 0.62) ** 2) ** 0.5
            rows += bytes(_color(y / height, near / height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(rows), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def _color(down: float, near: float) -> tuple[int, int, int]:
    """Return the colour of a point: so far down, so near to the sun."""
    if down > 0.74:
        shade = 1 - (down - 0.74) * 2
        return int(38 * shade), int(60 * shade), int(92 * shade)
    if near < 0.16:
        return 255, 236, 190
    glow = max(0.0, 1 - near)
    return int(88 + 160 * glow), int(96 + 66 * glow), int(150 - 40 * glow * down)
