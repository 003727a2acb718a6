"""HEVC: the picture size in the parameter sets, and the number of pictures."""

from image_classification_trash.inference.photo_headers.av1 import Stream
from image_classification_trash.inference.photo_headers.bits import Bits

_PARAMETERS = 33
_FIRST_SLICES = 32  # unit types below this one are slices of pictures


def inspect_configuration(body: bytes, max_parts: int) -> Stream:
    """Walk over the parameter sets in the body of an item's `hvcC`."""
    parts, position, end = 0, 23, len(body)
    best = Stream()
    for _ in range(body[22] if end > 22 else 0):
        count = int.from_bytes(body[position + 1 : position + 3])
        kind = body[position] & 63 if position < end else 0
        position += 3
        for _ in range(count):
            parts += 1
            if parts > max_parts or position >= end:
                break
            length = int.from_bytes(body[position : position + 2])
            if kind == _PARAMETERS:
                best = larger(best, parameters_size(body[position + 2 : position + 2 + min(length, 256)]))
            position += 2 + length
    return Stream(best.pixels, best.plane_bytes, 0, parts)


def inspect_hevc(data: bytes | memoryview, length_bytes: int, max_parts: int) -> Stream:
    """Walk over units, each preceded by its length in `length_bytes` bytes."""
    position, end, parts, pictures, best = 0, len(data), 0, 0, Stream()
    while position + length_bytes < end and parts <= max_parts:
        length = int.from_bytes(data[position : position + length_bytes])
        position += length_bytes
        parts += 1
        kind = data[position] >> 1 & 63
        if kind < _FIRST_SLICES and data[min(position + 2, end - 1)] & 0x80:
            pictures += 1
        elif kind == _PARAMETERS:
            best = larger(best, parameters_size(bytes(data[position : position + min(length, 256)])))
        position += length
    return Stream(best.pixels, best.plane_bytes, pictures, parts)


def larger(one: Stream, other: Stream) -> Stream:
    """Return the larger picture and deeper planes of two streams, and the sums of their counts."""
    return Stream(
        max(one.pixels, other.pixels),
        max(one.plane_bytes, other.plane_bytes),
        one.pictures + other.pictures,
        one.parts + other.parts,
    )


def parameters_size(unit: bytes) -> Stream:
    """Return the picture that a sequence parameter set describes."""
    bits = Bits(unit.replace(b"\0\0\3", b"\0\0"))
    bits.skip(16 + 4)
    layers = bits.read(3)
    bits.skip(1 + 96)
    present = [(bits.read(1), bits.read(1)) for _ in range(layers)]
    if layers:
        bits.skip(2 * (8 - layers))
    for profile, level in present:
        bits.skip(88 * profile + 8 * level)
    bits.read_golomb()
    chroma = bits.read_golomb()
    if chroma == 3:
        bits.skip(1)
    pixels = bits.read_golomb() * bits.read_golomb()
    if bits.read(1):
        for _ in range(4):
            bits.read_golomb()
    sample = 2 if bits.read_golomb() else 1
    return Stream(pixels, sample * {0: 1.0, 1: 1.5, 2: 2.0}.get(chroma, 3.0))
