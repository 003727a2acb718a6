"""What a walk over a photo's headers returns.

Work is counted in steps. A step is about a nanosecond of one core of a server of 2024; the constants of this package
were measured with Pillow 13 and rounded up; on other machines, times change in proportion.
"""

from dataclasses import dataclass

EXIF_STEPS = 500
"""Per byte of EXIF: Pillow makes an object of every number, and a rational takes 4 µs."""
EXIF_MEMORY = 120
"""Bytes held per byte of EXIF, for the same reason."""
PART_STEPS = 3_000
"""Per segment, chunk or block that Pillow reads in Python."""


@dataclass(frozen=True)
class Header:
    """What decoding a photo asks for, as its headers say.

    Attributes:
        kind: JPEG, PNG, WEBP, AVIF, HEIF, GIF or BMP.
        width: of the stored frame in pixels; 0 if no header states it.
        height: likewise.
        parts: segments, chunks, blocks, boxes or table rows visited; the walk stops one above its maximum.
        pixel_bytes: bytes per pixel of the frame that the decoder returns.
        pixel_steps: steps per pixel of that frame.
        memory: bytes that decoding holds besides the file and the frame: coefficients, canvases, planes, texts.
        work: steps besides those of the frame's pixels.
        scalable: whether the decoder can return a smaller frame, as that of JPEG can.
    """

    kind: str
    width: int = 0
    height: int = 0
    parts: int = 0
    pixel_bytes: int = 4
    pixel_steps: int = 5
    memory: int = 0
    work: int = 0
    scalable: bool = False

    @property
    def pixels(self) -> int:
        """Pixels of the stored frame."""
        return self.width * self.height
