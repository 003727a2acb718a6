"""WebP: chunks, the canvas, and the first frame on it.

Pillow uses libwebp's animation decoder for all files. It keeps two canvases; Pillow copies one to bytes and makes a
frame of those.
"""

from image_classification_trash.inference.photo_headers.header import (
    EXIF_MEMORY,
    EXIF_STEPS,
    Header,
)

CANVAS_BYTES = 12  # per pixel: two canvases and the bytes
PIXEL_STEPS = 30  # per pixel
CHUNK_STEPS = 500
CHUNK_BYTES = 200
FILE_COPIES = 2  # besides the file itself


def inspect_webp(data: bytes, max_parts: int) -> Header:
    """Walk over the chunks of a WebP file, its first frame's included; return what they ask for."""
    position, end, parts = 12, len(data), 0
    width = height = coded = memory = work = 0
    while position + 8 <= end and parts <= max_parts:
        name, length = (
            data[position : position + 4],
            int.from_bytes(data[position + 4 : position + 8], "little"),
        )
        body = position + 8
        parts += 1
        if name == b"VP8X":
            width = max(width, int.from_bytes(data[body + 4 : body + 7], "little") + 1)
            height = max(height, int.from_bytes(data[body + 7 : body + 10], "little") + 1)
        elif name == b"ANMF":  # a header of 16 bytes, followed by chunks like these
            across, down = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (body + 6, body + 9))
            coded = max(coded, across * down)
            position += 24
            continue
        elif name in (b"VP8 ", b"VP8L"):
            across, down = _frame_size(data, body, name)
            coded = max(coded, across * down)
            if not width:
                width, height = across, down
        elif name == b"EXIF":
            memory += length * EXIF_MEMORY
            work += length * EXIF_STEPS
        position = body + length + length % 2
    return Header(
        "WEBP",
        width,
        height,
        parts,
        pixel_bytes=4,
        pixel_steps=5,
        memory=memory + width * height * CANVAS_BYTES + parts * CHUNK_BYTES + end * FILE_COPIES,
        work=work + coded * PIXEL_STEPS + parts * CHUNK_STEPS,
    )


def _frame_size(data: bytes, body: int, name: bytes) -> tuple[int, int]:
    """Return the width and height of a lossless (`VP8L`) or lossy (`VP8 `) frame."""
    if name == b"VP8L":
        bits = int.from_bytes(data[body + 1 : body + 5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    across, down = (int.from_bytes(data[at : at + 2], "little") for at in (body + 6, body + 8))
    return across & 0x3FFF, down & 0x3FFF
