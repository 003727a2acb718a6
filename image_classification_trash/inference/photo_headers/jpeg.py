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

BLOCK = 64  # pixels
COEFFICIENT_BYTES = 2
SEGMENT_COPIES = 3  # Pillow keeps a segment in a list, under its name and, some, in its info
FILL_STEPS = 300  # a byte of filling or junk before the first scan, which Pillow reads one by one
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
_LENGTHLESS = frozenset({0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})
_TABLES = frozenset({*_FRAMES, 0xDB, 0xED})
_FILL = re.compile(rb"\xff+")
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_NEAR = 256  # bytes in which a pattern finds the next marker sooner than numpy, which is faster from there on
_WINDOWS = (2**14, 2**17, 2**20)  # bytes, one after the other


@dataclass
class _Walk:
    marker: int = 0
    width: int = 0
    height: int = 0
    components: dict[int, tuple[int, int]] = field(default_factory=dict)
    parts: int = 0
    work: int = 0
    kept: int = 0
    exif: list[int] = field(default_factory=list)
    scans: list[tuple[tuple[int, ...], int, bool]] = field(default_factory=list)

    def blocks(self, component: int) -> int:
        """Blocks of a component; of all together if it is not one of the frame's."""
        across = max((h for h, _ in self.components.values()), default=1)
        down = max((v for _, v in self.components.values()), default=1)
        h, v = self.components.get(component, (across, down))
        return -(-self.width * h // (8 * across)) * -(-self.height * v // (8 * down))

    @property
    def in_one_pass(self) -> bool:
        return self.marker not in _PROGRESSIVE and len(self.scans[0][0]) >= len(self.components)


def inspect_jpeg(data: bytes, max_parts: int) -> Header:
    """Walk over a JPEG's segments, and over its scans where they are decoded one by one."""
    walk = _Walk()
    position = _walk_segments(data, walk, max_parts)
    if walk.scans and not walk.in_one_pass:
        _walk_scans(data, position, walk, max_parts)
    exif = sum(walk.exif)
    joining = exif * len(walk.exif) // 10
    one_pass = not walk.scans or walk.in_one_pass
    blocks = sum(walk.blocks(component) for component in walk.components)
    coefficients = 0 if one_pass else blocks * BLOCK * COEFFICIENT_BYTES
    after = 0 if one_pass else blocks * SMOOTHING_STEPS
    return Header(
        "JPEG",
        walk.width,
        walk.height,
        walk.parts,
        pixel_bytes=1 if len(walk.components) == 1 else 4,
        pixel_steps=5,
        memory=coefficients + walk.kept * SEGMENT_COPIES + exif * EXIF_MEMORY,
        work=walk.work
        + walk.parts * PART_STEPS
        + exif * EXIF_STEPS
        + joining
        + _scan_steps(walk)
        + after
        + len(data) * CODED_STEPS,
        scalable=walk.marker not in _LOSSLESS,
    )


def _walk_segments(data: bytes, walk: _Walk, max_parts: int) -> int:
    """Read what stands before the first scan, as Pillow does; returns where that scan's data begin."""
    position, end = 2, len(data)
    while position < end and walk.parts <= max_parts:
        fill = _FILL.match(data, position)
        if fill is None:
            found = data.find(b"\xff", position)
            found = end if found < 0 else found
            walk.work += (found - position) * FILL_STEPS
            position = found
            continue
        walk.work += (fill.end() - position - 1) * FILL_STEPS
        position = fill.end()
        if position >= end:
            break
        marker = data[position]
        position += 1
        walk.parts += 1
        if marker == 0 or marker in _LENGTHLESS:
            continue
        if marker < 0xC0:
            break
        position = _read_segment(data, position, marker, walk)
        if marker == 0xDA:
            break
    return position


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
        at = np.flatnonzero(window[:-1] == 0xFF)
        follows = window[at + 1]
        real = at[(follows != 0) & (follows != 0xFF) & ((follows & 0xF8) != 0xD0)]
        if real.size:
            return position + int(real[0]) + 2
        position += window.size - 1
        turn += 1
    return end


def _read_segment(data: bytes, position: int, marker: int, walk: _Walk, opened: bool = False) -> int:
    length = max(2, int.from_bytes(data[position : position + 2]))
    body = position + 2
    if marker in _FRAMES and not opened:
        _read_frame(data[body : position + min(length, 18)], marker, walk)
    elif marker == 0xDA:
        walk.scans.append(_read_scan(data[body : position + min(length, 14)]))
    if not opened:
        if marker >= 0xE0:
            walk.kept += length
        if marker == 0xE1 and data.startswith(b"Exif\0\0", body):
            walk.exif.append(length)
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
    rows = [body[at : at + 3] for at in range(6, min(len(body), 6 + 3 * body[5]), 3)]
    walk.components = {row[0]: (max(1, row[1] >> 4), max(1, row[1] & 15)) for row in rows if len(row) == 3}


def _read_scan(body: bytes) -> tuple[tuple[int, ...], int, bool]:
    """Components of a scan, coefficients that it covers, and whether it refines them."""
    count = body[0] if body else 0
    components = tuple(body[1 : 1 + 2 * count : 2])
    first, last, bits = (*body[1 + 2 * count : 4 + 2 * count], 0, 63, 0)[:3]
    return components, max(1, min(63, last) - first + 1), bits >> 4 > 0


def _scan_steps(walk: _Walk) -> int:
    """Steps of all scans, however little their data: each goes over the blocks of its components."""
    scans = walk.scans[:1] if walk.scans and walk.in_one_pass else walk.scans
    arithmetic = walk.marker >= 0xC9
    steps = 0
    for components, coefficients, refines in scans:
        block = BLOCK_STEPS + (REFINING_STEPS * coefficients if refines else 0)
        if arithmetic:
            block += ARITHMETIC_STEPS * coefficients
        if walk.marker in _LOSSLESS:
            block += LOSSLESS_STEPS * BLOCK
        steps += block * sum(walk.blocks(component) for component in components)
    return steps
