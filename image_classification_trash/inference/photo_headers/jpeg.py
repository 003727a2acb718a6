"""JPEG: segments, the frame they describe, and its scans.

Pillow reads the segments before the first scan in Python, and libjpeg reads them again. A progressive photo, or one
whose components are in separate scans, is held as coefficients, and each scan visits the blocks of its components: such
photos are walked to their end, marker by marker. All others are decoded in one pass, whatever follows the first scan.
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

SHORT = 2**14  # bytes; whatever a header of this length holds costs little
BLOCK = 64  # pixels
COEFFICIENT_BYTES = 2
SEGMENT_COPIES = 3  # Pillow keeps a segment in a list, by its name and sometimes in `info`
FILL_STEPS = 450  # per byte of padding or junk before the first scan, which Pillow reads one by one
TABLE_STEPS = 150  # per byte of a segment that Pillow parses: quantisation tables, Photoshop resources
CODED_STEPS = 12  # per byte of the file, for Huffman decoding
BLOCK_STEPS = 30  # per block and scan, even if the scan is empty
REFINING_STEPS = 2  # per coefficient of a block that a scan refines, even if the scan is empty
ARITHMETIC_STEPS = 10  # per coefficient of a block: arithmetic coding spends far less than a bit on one
LOSSLESS_STEPS = 15  # per sample
SMOOTHING_STEPS = 400  # per block of a progressive photo, because libjpeg estimates missing coefficients

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xDE}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)
_LENGTHLESS = frozenset({0, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})
_TABLES = frozenset({*_FRAMES, 0xDB, 0xED})
_ORDINARY = frozenset({0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE})
_FILL = re.compile(rb"\xff+")
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_NEAR = 256  # bytes; up to here a regular expression finds the next marker sooner than numpy
_WINDOWS = (2**14, 2**16, 2**17)  # bytes, in this order; larger ones do not fit the cache


@dataclass(frozen=True)
class _Scan:
    """The components of a scan, how many coefficients of a block it covers, and whether it refines earlier ones."""

    components: tuple[int, ...]
    coefficients: int
    refines: bool


@dataclass
class _Walk:
    """What the segments so far say.

    Attributes:
        marker: of the frame.
        width: of the frame in pixels.
        height: likewise.
        blocks: blocks of 8 x 8 samples of each component.
        parts: segments.
        work: steps.
        kept: bytes of segments that Pillow keeps.
        exif: length of each EXIF segment.
        scans: in order.
    """

    marker: int = 0
    width: int = 0
    height: int = 0
    blocks: dict[int, int] = field(default_factory=dict)
    parts: int = 0
    work: int = 0
    kept: int = 0
    exif: list[int] = field(default_factory=list)
    scans: list[_Scan] = field(default_factory=list)

    @property
    def in_one_pass(self) -> bool:
        """Whether the first scan holds everything, so that no other is decoded."""
        if not self.scans:
            return True
        return self.marker not in _PROGRESSIVE and len(self.scans[0].components) >= len(self.blocks)

    @property
    def scan_steps(self) -> int:
        """Steps of all scans: each visits every block of its components, however little data it has."""
        every = BLOCK_STEPS + (LOSSLESS_STEPS * BLOCK if self.marker in _LOSSLESS else 0)
        arithmetic = ARITHMETIC_STEPS if self.marker >= 0xC9 else 0
        most = max(self.blocks.values(), default=0)
        steps = 0
        for scan in self.scans[:1] if self.in_one_pass else self.scans:
            block = every + scan.coefficients * (arithmetic + (REFINING_STEPS if scan.refines else 0))
            steps += block * sum([self.blocks.get(component, most) for component in scan.components])
        return steps

    def read_frame(self, body: bytes, marker: int) -> None:
        """Take over the sides and the sampling of a frame header's body."""
        if len(body) < 6:
            return
        height, width = int.from_bytes(body[1:3]), int.from_bytes(body[3:5])
        if width * height >= self.width * self.height:
            self.width, self.height = width, height
        self.marker = marker
        rows = [
            (body[at], max(1, body[at + 1] >> 4), max(1, body[at + 1] & 15))
            for at in range(6, min(len(body) - 2, 6 + 3 * body[5]), 3)
        ]
        across, down = max((row[1] for row in rows), default=1), max((row[2] for row in rows), default=1)
        self.blocks = {
            name: -(-self.width * h // (8 * across)) * -(-self.height * v // (8 * down))
            for name, h, v in rows
        }


def inspect_jpeg(data: bytes, max_parts: int) -> Header:
    """Walk over the segments of a JPEG file, and over its scans where they are decoded one by one."""
    ordinary = _inspect_ordinary(data, max_parts)
    if ordinary is not None:
        return ordinary
    walk = _Walk()
    position = _walk_segments(data, walk, max_parts)
    coefficients = smoothing = 0
    if not walk.in_one_pass:
        while walk.parts <= max_parts and (position := _next_marker(data, position)) < len(data):
            marker = data[position - 1]
            walk.parts += 1
            if marker == 0xD9:
                break
            if marker not in _LENGTHLESS:
                position = _read_segment(data, position, marker, walk, opened=True)
        blocks = sum(walk.blocks.values())
        coefficients, smoothing = blocks * BLOCK * COEFFICIENT_BYTES, blocks * SMOOTHING_STEPS
    exif = sum(walk.exif)
    joining = exif * len(walk.exif) // 10  # Pillow appends the segments to one another, one by one
    return Header(
        "JPEG",
        walk.width,
        walk.height,
        walk.parts,
        pixel_bytes=1 if len(walk.blocks) == 1 else 4,
        memory=coefficients + walk.kept * SEGMENT_COPIES + exif * EXIF_MEMORY,
        work=walk.work
        + walk.parts * PART_STEPS
        + exif * EXIF_STEPS
        + joining
        + walk.scan_steps
        + smoothing
        + len(data) * CODED_STEPS,
        scalable=walk.marker not in _LOSSLESS,
    )


def _inspect_ordinary(data: bytes, max_parts: int) -> Header | None:
    """Do the work of `inspect_jpeg` in a fraction of the time for a photo of one scan behind a short header.

    The estimate is an upper bound. Returns None for any other photo.
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


def _walk_segments(data: bytes, walk: _Walk, max_parts: int) -> int:
    """Read the segments before the first scan, as Pillow does; return where that scan's data begin."""
    position, end = 2, len(data) - 1
    while position < end and walk.parts <= max_parts:
        marker = data[position + 1]
        if data[position] != 0xFF or marker == 0xFF:
            start = position
            if data[position] == 0xFF:  # padding: go to the last 0xFF in a row
                fill = _FILL.match(data, position)
                position = fill.end() - 1 if fill else position + 1
            else:
                found = data.find(b"\xff", position)
                position = len(data) if found < 0 else found
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


def _next_marker(data: bytes, position: int) -> int:
    """Return the position after the next marker: 0xFF and a byte that is neither padding nor a restart marker."""
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
    """Read the segment whose length is at `position`; once a scan is `opened`, only scans. Return its end."""
    length = max(2, int.from_bytes(data[position : position + 2]))
    body = position + 2
    if marker == 0xDA:
        scan = data[body : body + min(length, 12)]
        count = scan[0] if scan else 0
        first, last, bits = (*scan[1 + 2 * count : 4 + 2 * count], 0, 63, 0)[:3]
        covered = max(1, min(63, last) - first + 1)
        walk.scans.append(_Scan(tuple(scan[1 : 1 + 2 * count : 2]), covered, bits >> 4 > 0))
    elif opened:
        return position + length
    elif marker >= 0xE0:
        walk.kept += length
        if marker == 0xE1 and data.startswith(b"Exif\0\0", body):
            walk.exif.append(length)
    elif marker in _FRAMES:
        walk.read_frame(data[body : body + min(length, 16)], marker)
    if marker in _TABLES:
        walk.work += length * TABLE_STEPS
    return position + length
