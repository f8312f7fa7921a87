"""PNG files of screenshots: read, written small, and measured."""

from __future__ import annotations

import struct
import zlib
from collections import Counter

SIGNATURE = b"\x89PNG\r\n\x1a\n"
Rows = list[bytes]
"""Lines of pixels, three octets (red, green, blue) each."""


def encode_png(width: int, rows: Rows) -> bytes:
    """Return a PNG with a palette of the 256 colours that most pixels have, or the nearest."""
    counts = Counter(row[at : at + 3] for row in rows for at in range(0, 3 * width, 3))
    palette = [colour for colour, _ in counts.most_common(256)]
    index = {colour: number for number, colour in enumerate(palette)}
    for colour in counts:
        if colour not in index:
            index[colour] = min(
                range(len(palette)),
                key=lambda number: sum(
                    (one - other) ** 2 for one, other in zip(palette[number], colour, strict=True)
                ),
            )
    lines = [
        b"\0" + bytes(index[row[at : at + 3]] for at in range(0, 3 * width, 3)) for row in rows
    ]
    header = struct.pack(">IIBBBBB", width, len(rows), 8, 3, 0, 0, 0)
    chunks = [
        (b"IHDR", header),
        (b"PLTE", b"".join(palette)),
        (b"IDAT", zlib.compress(b"".join(lines), 9)),
        (b"IEND", b""),
    ]
    return SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def decode_png(content: bytes) -> tuple[int, Rows]:
    """Return the width and the rows of a PNG of 8 bits: RGB, RGBA or with a palette."""
    assert content.startswith(SIGNATURE)
    chunks: dict[bytes, bytes] = {}
    at = len(SIGNATURE)
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        kind = content[at + 4 : at + 8]
        chunks[kind] = chunks.get(kind, b"") + content[at + 8 : at + 8 + length]
        at += length + 12
    width, _, bits, colour_type, *_, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (bits, interlaced) == (8, 0)
    size = {2: 3, 3: 1, 6: 4}[colour_type]
    lines = _unfilter(zlib.decompress(chunks[b"IDAT"]), size * width, size)
    if colour_type == 3:
        palette = chunks[b"PLTE"]
        colours = [palette[start : start + 3] for start in range(0, len(palette), 3)]
        return width, [b"".join(colours[number] for number in line) for line in lines]
    return width, [
        b"".join(line[start : start + 3] for start in range(0, len(line), size)) for line in lines
    ]


def _unfilter(data: bytes, length: int, size: int) -> list[bytes]:
    """Return the lines without their filters (PNG specification, section 9)."""
    lines: list[bytes] = []
    before = bytes(length)
    for start in range(0, len(data), length + 1):
        filter_type, line = data[start], bytearray(data[start + 1 : start + 1 + length])
        if filter_type == 1:
            for at in range(size, length):
                line[at] = (line[at] + line[at - size]) & 255
        elif filter_type == 2:
            line = bytearray((one + up) & 255 for one, up in zip(line, before, strict=True))
        elif filter_type == 3:
            for at in range(length):
                left = line[at - size] if at >= size else 0
                line[at] = (line[at] + (left + before[at]) // 2) & 255
        elif filter_type == 4:
            for at in range(length):
                left, corner = (line[at - size], before[at - size]) if at >= size else (0, 0)
                line[at] = (line[at] + _paeth(left, before[at], corner)) & 255
        before = bytes(line)
        lines.append(before)
    return lines


def _paeth(left: int, up: int, corner: int) -> int:
    estimate = left + up - corner
    return min((left, up, corner), key=lambda value: abs(estimate - value))


def brightness(rows: Rows, first: int, last: int) -> float:
    """Return the mean of all octets of some columns, from 0 to 255."""
    parts = [row[3 * first : 3 * last] for row in rows]
    return sum(map(sum, parts)) / sum(map(len, parts))
