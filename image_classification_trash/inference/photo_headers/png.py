"""PNG: chunks, the frame that IHDR describes, and text chunks, which are decompressed while they are read."""

import struct

from image_classification_trash.inference.photo_headers.header import (
    EXIF_MEMORY,
    EXIF_STEPS,
    PART_STEPS,
    Header,
)

UNPACKED = 2**20  # bytes; Pillow decompresses no more of a text or profile
EXPANSION = 1032  # largest ratio of deflate
TEXT_COPIES = 6  # a text is held as bytes and as a string, of up to four bytes a character
UNPACK_STEPS = 5  # per decompressed byte
ROW_STEPS = 5  # per byte of the raw picture: decompression and filter
CODED_STEPS = 5  # per byte of the file
INTERLACED_STEPS = 12  # per pixel, in seven passes

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PACKED = (b"zTXt", b"iTXt", b"iCCP")
_HEAD = struct.Struct(">I4s")


def inspect_png(data: bytes, max_parts: int) -> Header:
    """Walk over the chunks of a PNG file; return what they ask for."""
    position, end, parts = 8, len(data), 0
    width = height = bits = kind = interlaced = memory = work = 0
    reading, head = True, _HEAD.unpack_from
    while position + 8 <= end and parts <= max_parts:
        length, name = head(data, position)
        parts += 1
        if name == b"IDAT":
            reading = False
        elif name == b"IHDR" and reading and min(length, end - position - 8) >= 13:
            width, height, bits, kind, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, position + 8)
        elif name == b"IEND":
            break
        else:
            more_memory, more_work = _chunk_cost(data, position + 8, min(length, end - position - 8), name)
            memory += more_memory
            work += more_work
        position += length + 12
    channels = _CHANNELS.get(kind, 4)
    row = -(-width * channels * bits // 8)
    return Header(
        "PNG",
        width,
        height,
        parts,
        pixel_bytes=4 if channels > 1 else 2 if bits == 16 else 1,  # as Pillow stores it
        pixel_steps=3 + (INTERLACED_STEPS if interlaced else 0),
        memory=memory + 2 * row,
        work=work + parts * PART_STEPS + row * height * ROW_STEPS + end * CODED_STEPS,
    )


def _chunk_cost(data: bytes, start: int, length: int, name: bytes) -> tuple[int, int]:
    """Return the bytes of memory and the steps of work that a chunk other than image data asks for."""
    memory, work = length, 0
    if name in _PACKED:
        unpacked = min(UNPACKED, length * EXPANSION)
        memory += unpacked * TEXT_COPIES
        work += unpacked * UNPACK_STEPS
    elif name == b"tEXt":
        memory += length * TEXT_COPIES
    key = data[start : start + 22].lower()
    if name == b"eXIf" or (
        name[1:] in (b"EXt", b"TXt") and key.startswith((b"exif", b"raw profile type exif"))
    ):
        exif = min(UNPACKED, length * EXPANSION) if name in _PACKED else length
        memory += exif * EXIF_MEMORY
        work += exif * EXIF_STEPS
    return memory, work
