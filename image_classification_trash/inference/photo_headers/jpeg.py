"""JPEG: segments, the frame they describe, and the scans that it comes in.

Pillow reads the segments before the first scan in Python, and libjpeg reads them again. A progressive photo, or one
whose components come apart, is kept as coefficients, and each scan goes over the blocks of its components: such photos
are walked to their end, by their markers. All others are decoded in one pass, whatever follows the first scan.
"""

import re
from dataclasses import dataclass, field

import numpy as np

from image_classification_trash.inference.photo_headers.header import (
    EXIF_MEMORY,
    EXIF_STEPS,
    PART_STEPS,
    Header,
)

SHORT = 2**14  # bytes of a header in which whatever may be there costs little
BLOCK = 64  # pixels
COEFFICIENT_BYTES = 2
SEGMENT_COPIES = 3  # Pillow keeps a segment in a list, under its name and, some, in its info
FILL_STEPS = 450  # a byte of filling or junk before the first scan, which Pillow reads one by one
TABLE_STEPS = 150  # a byte of a segment that Pillow takes apart: quantisation tables, Photoshop's resources
CODED_STEPS = 12  # a byte of the file, through Huffman's tables
BLOCK_STEPS = 30  # of each scan, even if it holds nothing
REFINING_STEPS = 2  # a coefficient of a block that a scan refines, even if it holds nothing
ARITHMETIC_STEPS = 10  # a coefficient of a block: arithmetic coding needs far less than a bit for it
LOSSLESS_STEPS = 15  # a sample
SMOOTHING_STEPS = 400  # a block of a progressive photo, for libjpeg guesses what is missing in it

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xDE}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)
_LENGTHLESS = frozenset({0, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})
_TABLES = frozenset({*_FRAMES, 0xDB, 0xED})
_ORDINARY = frozenset({0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE})
_FILL = re.compile(rb"\xff+")
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_NEAR = 256  # bytes in which a pattern finds the next marker sooner than numpy, which is faster from there on
_WINDOWS = (2**14, 2**16, 2**17)  # bytes, one after the other; larger ones leave the cache


@dataclass
class _Walk:
    marker: int = 0
    width: int = 0
    height: int = 0
    blocks: dict[int, int] = field(default_factory=dict)  # of each component
    parts: int = 0
    work: int = 0
    kept: int = 0
    exif: list[int] = field(default_factory=list)
    scans: list[tuple[tuple[int, ...], int, bool]] = field(default_factory=list)

    @property
    def in_one_pass(self) -> bool:
        """Whether a first scan holds all, so that no other is decoded."""
        if not self.scans:
            return True
        return self.marker not in _PROGRESSIVE and len(self.scans[0][0]) >= len(self.blocks)


def inspect_jpeg(data: bytes, max_parts: int) -> Header:
    """Walk over a JPEG's segments, and over its scans where they are decoded one by one."""
    return _inspect_ordinary(data, max_parts) or _inspect_any(data, max_parts)


def _inspect_ordinary(data: bytes, max_parts: int) -> Header | None:
    """The same, in a fraction of the time, of a photo in one scan behind a short header, of which most is overrated.

    None of any other.
    """
    position, frame, parts, end = 2, 0, 0, min(len(data) - 20, SHORT)
    while True:
        parts += 1
        if position > end or data[position] != 0xFF or parts > max_parts:
            return None
        marker = data[position + 1]
        if marker == 0xDA:
            break
        if marker == 0xC0 and not frame:
            frame = position
        elif marker not in _ORDINARY:
            return None
        position += 2 + max(2, data[position + 2] << 8 | data[position + 3])
    components = data[frame + 9]
    if not frame or data[position + 4] != components:
        return None
    height, width = data[frame + 5] << 8 | data[frame + 6], data[frame + 7] << 8 | data[frame + 8]
    return Header(
        "JPEG",
        width,
        height,
        parts,
        pixel_bytes=1 if components == 1 else 4,
        memory=position * EXIF_MEMORY,
        work=position * (EXIF_STEPS + TABLE_STEPS)
        + parts * PART_STEPS
        + width * height * components * BLOCK_STEPS // BLOCK
        + len(data) * CODED_STEPS,
        scalable=True,
    )


def _inspect_any(data: bytes, max_parts: int) -> Header:
    walk = _Walk()
    position = _walk_segments(data, walk, max_parts)
    coefficients = smoothing = 0
    if not walk.in_one_pass:
        _walk_scans(data, position, walk, max_parts)
        blocks = sum(walk.blocks.values())
        coefficients, smoothing = blocks * BLOCK * COEFFICIENT_BYTES, blocks * SMOOTHING_STEPS
    exif = sum(walk.exif)
    metadata = (
        exif * EXIF_STEPS + exif * len(walk.exif) // 10
    )  # Pillow joins the segments one after the other
    return Header(
        "JPEG",
        walk.width,
        walk.height,
        walk.parts,
        pixel_bytes=1 if len(walk.blocks) == 1 else 4,
        memory=coefficients + walk.kept * SEGMENT_COPIES + exif * EXIF_MEMORY,
        work=walk.work
        + walk.parts * PART_STEPS
        + metadata
        + _scan_steps(walk)
        + smoothing
        + len(data) * CODED_STEPS,
        scalable=walk.marker not in _LOSSLESS,
    )


def _walk_segments(data: bytes, walk: _Walk, max_parts: int) -> int:
    """Read what stands before the first scan, as Pillow does; returns where that scan's data begin."""
    position, end = 2, len(data) - 1
    while position < end and walk.parts <= max_parts:
        marker = data[position + 1]
        if data[position] != 0xFF or marker == 0xFF:
            start = position
            position = _behind_fill(data, position)
            walk.work += (position - start) * FILL_STEPS
            continue
        position += 2
        walk.parts += 1
        if marker in _LENGTHLESS:
            continue
        if marker < 0xC0:
            break
        position = _read_segment(data, position, marker, walk)
        if marker == 0xDA:
            break
    return position


def _behind_fill(data: bytes, position: int) -> int:
    """Where the next 0xFF is, or the last one of a row of them."""
    if data[position] != 0xFF:
        found = data.find(b"\xff", position)
        return len(data) if found < 0 else found
    fill = _FILL.match(data, position)
    return fill.end() - 1 if fill else position + 1


def _walk_scans(data: bytes, position: int, walk: _Walk, max_parts: int) -> None:
    while walk.parts <= max_parts and (position := _next_marker(data, position)) < len(data):
        marker = data[position - 1]
        walk.parts += 1
        if marker == 0xD9:
            break
        if marker not in _LENGTHLESS:
            position = _read_segment(data, position, marker, walk, opened=True)


def _next_marker(data: bytes, position: int) -> int:
    """Where the next segment's length stands: behind 0xFF and a byte that is neither filling nor a restart."""
    near = _MARKER.search(data, position, position + _NEAR)
    if near is not None:
        return near.end()
    end, turn = len(data), 0
    position += _NEAR - 1
    while position < end - 1:
        size = _WINDOWS[min(turn, len(_WINDOWS) - 1)]
        window = np.frombuffer(data, np.uint8, min(size, end - position), position)
        at = np.flatnonzero((window[:-1] == 0xFF) & (window[1:] != 0))
        follows = window[at + 1]
        real = at[(follows != 0xFF) & ((follows & 0xF8) != 0xD0)]
        if real.size:
            return position + int(real[0]) + 2
        position += window.size - 1
        turn += 1
    return end


def _read_segment(data: bytes, position: int, marker: int, walk: _Walk, opened: bool = False) -> int:
    length = max(2, int.from_bytes(data[position : position + 2]))
    body = position + 2
    if marker == 0xDA:
        walk.scans.append(_read_scan(data[body : body + min(length, 12)]))
    elif opened:
        return position + length
    elif marker >= 0xE0:
        walk.kept += length
        if marker == 0xE1 and data.startswith(b"Exif\0\0", body):
            walk.exif.append(length)
    elif marker in _FRAMES:
        _read_frame(data[body : body + min(length, 16)], marker, walk)
    if marker in _TABLES:
        walk.work += length * TABLE_STEPS
    return position + length


def _read_frame(body: bytes, marker: int, walk: _Walk) -> None:
    if len(body) < 6:
        return
    height, width = int.from_bytes(body[1:3]), int.from_bytes(body[3:5])
    if width * height >= walk.width * walk.height:
        walk.width, walk.height = width, height
    walk.marker = marker
    rows = [
        (body[at], max(1, body[at + 1] >> 4), max(1, body[at + 1] & 15))
        for at in range(6, min(len(body) - 2, 6 + 3 * body[5]), 3)
    ]
    across, down = max((row[1] for row in rows), default=1), max((row[2] for row in rows), default=1)
    walk.blocks = {
        name: -(-walk.width * h // (8 * across)) * -(-walk.height * v // (8 * down)) for name, h, v in rows
    }


def _read_scan(body: bytes) -> tuple[tuple[int, ...], int, bool]:
    """Components of a scan, coefficients that it covers, and whether it refines them."""
    count = body[0] if body else 0
    first, last, bits = (*body[1 + 2 * count : 4 + 2 * count], 0, 63, 0)[:3]
    return tuple(body[1 : 1 + 2 * count : 2]), max(1, min(63, last) - first + 1), bits >> 4 > 0


def _scan_steps(walk: _Walk) -> int:
    """Steps of all scans, however little their data: each goes over the blocks of its components."""
    scans = walk.scans[:1] if walk.in_one_pass else walk.scans
    every = BLOCK_STEPS + (LOSSLESS_STEPS * BLOCK if walk.marker in _LOSSLESS else 0)
    arithmetic = ARITHMETIC_STEPS if walk.marker >= 0xC9 else 0
    most = max(walk.blocks.values(), default=0)
    steps = 0
    for components, coefficients, refines in scans:
        block = every + coefficients * (arithmetic + (REFINING_STEPS if refines else 0))
        steps += block * sum([walk.blocks.get(component, most) for component in components])
    return steps
