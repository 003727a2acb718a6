"""What a walk over a photo's headers finds.

Work is counted in steps. A step is about a nanosecond of one core of a server of 2024; the constants of this package
were measured with Pillow 13 and rounded up, so that a budget in steps holds on other machines in proportion.
"""

from dataclasses import dataclass

EXIF_STEPS = 500
"""Of each byte of EXIF: Pillow makes an object of every number it is asked for, and a rational takes 4 µs."""
EXIF_MEMORY = 120
"""Bytes held for each byte of EXIF, for the same reason."""
PART_STEPS = 3_000
"""Of each segment, chunk or block that Pillow reads in Python."""


@dataclass(frozen=True)
class Header:
    """What decoding a photo asks for, as its headers say.

    Attributes:
        kind: JPEG, PNG, WEBP, AVIF, HEIF, GIF or BMP.
        width: of the frame as it is stored, in pixels; 0 where no header says.
        height: likewise.
        parts: segments, chunks, blocks, boxes or table rows that were walked over; the walk stops one above its maximum.
        pixel_bytes: bytes a pixel of the frame that the decoder hands over.
        pixel_steps: steps a pixel of that frame.
        memory: bytes that decoding holds beside the file and the frame: coefficients, canvases, planes, texts.
        work: steps beside those of the frame's pixels.
        scalable: whether the decoder can hand over a smaller frame, as JPEG's can.
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
        """Pixels of the frame as it is stored."""
        return self.width * self.height
