"""GIF: the blocks before the first picture, the only one that is decoded."""

from image_classification_trash.inference.photo_headers.header import PART_STEPS, Header

CODE_STEPS = 10  # per byte of the file
PIXEL_STEPS = 8  # per pixel


def inspect_gif(data: bytes, max_parts: int) -> Header:
    """Walk over the extensions of a GIF file to its first picture; the frame covers both it and the screen."""
    width, height = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    flags = data[10] if len(data) > 10 else 0
    position = 13 + ((6 << (flags & 7)) if flags & 128 else 0)
    parts, end, kept = 0, len(data), 0
    while position < end and parts <= max_parts:
        block = data[position]
        parts += 1
        position += 1
        if block == 0x2C:
            left, top, across, down = (
                int.from_bytes(data[at : at + 2], "little") for at in range(position, position + 8, 2)
            )
            width, height = max(width, left + across), max(height, top + down)
            break
        if block == 0x3B:
            break
        if block == 0x21:
            position += 1
            start = position
            while position < end and data[position] and parts <= max_parts:
                position += data[position] + 1
                parts += 1
            position += 1
            kept += position - start
    return Header(
        "GIF",
        width,
        height,
        parts,
        pixel_bytes=1,
        pixel_steps=PIXEL_STEPS,
        memory=kept * 3,
        work=parts * PART_STEPS + end * CODE_STEPS,
    )
