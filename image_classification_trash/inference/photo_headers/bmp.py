"""BMP: one header describes the frame; Pillow decodes run lengths in Python."""

from image_classification_trash.inference.photo_headers.header import Header

RUN_STEPS = 1_000  # per pair of bytes
RUN_PIXEL_STEPS = 120  # per pixel
RUN_BYTES = 4  # per pixel: the decoded runs, a copy, and the frame


def inspect_bmp(data: bytes, max_parts: int) -> Header:
    """Read the header of a BMP file, which has no parts to walk over."""
    del max_parts
    size = int.from_bytes(data[14:18], "little")
    if size == 12:  # OS/2 1.x
        width, height = int.from_bytes(data[18:20], "little"), int.from_bytes(data[20:22], "little")
        bits, compression = int.from_bytes(data[24:26], "little"), 0
    else:
        width, height = int.from_bytes(data[18:22], "little"), int.from_bytes(data[22:26], "little")
        height = 2**32 - height if height >= 2**31 else height
        bits, compression = int.from_bytes(data[28:30], "little"), int.from_bytes(data[30:34], "little")
    if compression in (1, 2):
        work = len(data) // 2 * RUN_STEPS
        return Header("BMP", width, height, 1, RUN_BYTES, RUN_PIXEL_STEPS, work=work)
    return Header("BMP", width, height, 1, pixel_bytes=1 if bits <= 8 else 4, pixel_steps=4)
