"""AV1: the picture size in the sequence header, and the number of pictures.

The container states a size too, but decoders use the sequence header, and they decode hidden pictures as well.
"""

from dataclasses import dataclass

from image_classification_trash.inference.photo_headers.bits import Bits

_SEQUENCE = 1
_PICTURES = (3, 6)  # a frame header, alone or with its tiles


@dataclass(frozen=True)
class Stream:
    """Coded pictures.

    Attributes:
        pixels: of the largest picture.
        plane_bytes: bytes per pixel of its planes, before any conversion.
        pictures: number of pictures that are decoded.
        parts: number of units visited.
    """

    pixels: int = 0
    plane_bytes: float = 1.5
    pictures: int = 0
    parts: int = 0


def inspect_av1(data: bytes | memoryview, max_parts: int) -> Stream:
    """Walk over the open bitstream units (OBUs) of `data`, at most `max_parts` of them."""
    position, end, parts, pictures, pixels, plane_bytes = 0, len(data), 0, 0, 0, 1.0
    while position < end and parts <= max_parts:
        head = data[position]
        parts += 1
        position += 2 if head & 4 else 1
        length, position = _leb128(data, position) if head & 2 else (end - position, position)
        kind = head >> 3 & 15
        if kind == _SEQUENCE:
            size, width = sequence_size(bytes(data[position : position + min(length, 512)]))
            pixels, plane_bytes = max(pixels, size), max(plane_bytes, width)
        pictures += kind in _PICTURES
        position += length
    return Stream(pixels, plane_bytes, pictures, parts)


def _leb128(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """Return the LEB128 number (groups of seven bits) at `position`, and where it ends."""
    value = 0
    for turn in range(8):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 127) << 7 * turn
        if byte < 128:
            break
    return value, position


def sequence_size(body: bytes) -> tuple[int, float]:
    """Return the pixels of the largest picture that a sequence header allows, and the bytes per pixel of its planes."""
    bits = Bits(body)
    profile, _, reduced = bits.read(3), bits.read(1), bits.read(1)
    if reduced:
        bits.skip(5)
    else:
        _skip_timing(bits)
    across, down = bits.read(4) + 1, bits.read(4) + 1
    pixels = (bits.read(across) + 1) * (bits.read(down) + 1)
    return pixels, _plane_bytes(bits, profile, reduced)


def _skip_timing(bits: Bits) -> None:
    """Skip timing information and operating points."""
    delay_bits = 0
    has_model = 0
    if bits.read(1):
        bits.skip(64)
        if bits.read(1):
            bits.read_golomb()
        has_model = bits.read(1)
        if has_model:
            delay_bits = bits.read(5) + 1
            bits.skip(42)
    has_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.skip(12)
        if bits.read(5) > 7:
            bits.skip(1)
        if has_model and bits.read(1):
            bits.skip(2 * delay_bits + 1)
        if has_delay and bits.read(1):
            bits.skip(4)


def _plane_bytes(bits: Bits, profile: int, reduced: int) -> float:
    """Return the bytes per pixel of all planes, from the colour flags behind those of the coding tools."""
    if not reduced and bits.read(1):
        bits.skip(7)
    bits.skip(3)
    if not reduced:
        bits.skip(4)
        ordered = bits.read(1)
        bits.skip(2 * ordered)
        screen = 2 if bits.read(1) else bits.read(1)
        if screen and not bits.read(1):
            bits.skip(1)
        bits.skip(3 * ordered)
    bits.skip(3)
    deep = bits.read(1)
    sample = 2 if deep else 1
    if deep and profile == 2:
        bits.skip(1)
    if profile != 1 and bits.read(1):
        return sample
    return sample * (1.5 if profile == 0 else 3)
