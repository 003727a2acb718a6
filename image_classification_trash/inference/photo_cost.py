"""A budget for every photo, decided from its header.

A few dozen bytes can ask for gigabytes of memory, and a small file for hours of work. So before a pixel is decoded,
`photo_header` walks over the photo's segments, chunks or boxes, up to a stated number and without a decoder, and
`check_budget` compares what they ask for with a `Budget`:

    header = photo_header(data)                            # kind, width, height, parts, ...
    cost = decoding_cost(header, len(data), (224, 288))    # of `images`: bytes held at once, steps of work
    check_budget(header, cost, SERVING, "photo.jpg")       # PhotoTooLargeError, or nothing
"""

from collections.abc import Callable
from dataclasses import dataclass

from image_classification_trash.errors import PhotoTooLargeError
from image_classification_trash.inference.photo_headers.bmp import inspect_bmp
from image_classification_trash.inference.photo_headers.gif import inspect_gif
from image_classification_trash.inference.photo_headers.header import Header
from image_classification_trash.inference.photo_headers.jpeg import inspect_jpeg
from image_classification_trash.inference.photo_headers.png import inspect_png
from image_classification_trash.inference.photo_headers.webp import inspect_webp

SHRINK_HINT = "Scale the photo down and save it as a plain JPEG; a few hundred pixels a side are enough."
MEBIBYTE = 2**20
STEPS_A_SECOND = 10**9  # approximately; see photo_headers.header


@dataclass(frozen=True)
class Budget:
    """What decoding one photo may ask for.

    Attributes:
        max_pixels: width times height of the stored frame.
        max_memory: bytes held at once for one photo: the file, the decoder's data, and the frame, but not the array
            returned.
        max_work: steps; one is about a nanosecond of one core.
        max_parts: segments, chunks, blocks, boxes and table rows that are visited.
    """

    max_pixels: int = 80_000_000  # above today's 50-megapixel phones, below Pillow's own limit
    max_memory: int = 384 * MEBIBYTE
    max_work: int = 3 * STEPS_A_SECOND
    max_parts: int = 65_536

    def with_max_pixels(self, max_pixels: int) -> "Budget":
        """Return a budget for photos of `max_pixels`; where that exceeds this budget's, the other limits grow in proportion.

        Raises:
            ValueError: `max_pixels` is not positive.
        """
        if max_pixels < 1:
            raise ValueError(f"max_pixels must be at least 1, not {max_pixels}")
        growth = max(1.0, max_pixels / self.max_pixels)
        return Budget(
            max_pixels,
            int(self.max_memory * growth),
            int(self.max_work * growth),
            int(self.max_parts * growth),
        )


DEFAULT_BUDGET = Budget()
"""For photos of the program's own user: 400 MiB and a few seconds for the worst photo."""
SERVING = Budget(50_500_000, 224 * MEBIBYTE, 3 * STEPS_A_SECOND // 2, 16_384)
"""For photos from strangers."""


@dataclass(frozen=True)
class Cost:
    """What decoding a photo asks for.

    Attributes:
        memory: bytes held at once: the file, the decoder's data, and the frame.
        work: steps; one is about a nanosecond of one core.
    """

    memory: int
    work: int


_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
)
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})


def inspect_avif(data: bytes, max_parts: int) -> Header:
    """Inspect an AVIF photo; the parser of its boxes is larger than all others together, and few photos need it."""
    from image_classification_trash.inference.photo_headers import heif  # noqa: PLC0415

    return heif.inspect_avif(data, max_parts)


def inspect_heif(data: bytes, max_parts: int) -> Header:
    """Inspect a HEIC photo, which has the same boxes."""
    from image_classification_trash.inference.photo_headers import heif  # noqa: PLC0415

    return heif.inspect_heif(data, max_parts)


_INSPECTORS: dict[str, Callable[[bytes, int], Header]] = {
    "JPEG": inspect_jpeg,
    "PNG": inspect_png,
    "WEBP": inspect_webp,
    "AVIF": inspect_avif,
    "HEIF": inspect_heif,
    "GIF": inspect_gif,
    "BMP": inspect_bmp,
}


def photo_kind(data: bytes) -> str | None:
    """Return the format that a photo's first bytes announce; None if it is not supported."""
    if data[4:8] == b"ftyp":
        return "AVIF" if data[8:12] in _AVIF_BRANDS else "HEIF" if data[8:12] in _HEIF_BRANDS else None
    if data[:4] == b"RIFF":
        return "WEBP" if data[8:12] == b"WEBP" else None
    return next((kind for magic, kind in _MAGIC if data.startswith(magic)), None)


def photo_header(data: bytes, max_parts: int = DEFAULT_BUDGET.max_parts) -> Header | None:
    """Return what a photo's headers ask for; None if its format is not supported.

    Does not look for damage: headers that make no sense are skipped, and the decoder reports them.
    """
    kind = photo_kind(data)
    return _INSPECTORS[kind](data, max_parts) if kind else None


def photo_cost(header: Header, file_bytes: int, scale: int = 1, beside: int = 0) -> Cost:
    """Return what decoding asks for.

    Args:
        header: of the photo.
        file_bytes: length of the file.
        scale: divisor of the frame's sides, applied if its decoder can scale.
        beside: bytes held besides the frame to make pixels of it.
    """
    pixels = header.pixels // (scale * scale if header.scalable else 1)
    memory = file_bytes + header.memory + pixels * header.pixel_bytes + beside
    return Cost(memory, header.work + pixels * header.pixel_steps)


def check_budget(header: Header, cost: Cost, budget: Budget, name: str = "photo") -> None:
    """Refuse a photo that asks for more than its budget.

    Raises:
        PhotoTooLargeError: too many pixels, parts, bytes at once or steps; says which, and how many.
    """
    if header.pixels > budget.max_pixels:
        found = f"would decode to {header.width} x {header.height} pixels, more than {budget.max_pixels / 10**6:g} million pixels"
    elif header.parts > budget.max_parts:
        found = f"has more than {budget.max_parts} segments, chunks or table rows"
    elif cost.memory > budget.max_memory:
        found = (
            f"({header.width} x {header.height} {header.kind}) would take {cost.memory / MEBIBYTE:.0f} MiB to decode, "
            f"more than {budget.max_memory / MEBIBYTE:.0f}"
        )
    elif cost.work > budget.max_work:
        found = (
            f"({header.width} x {header.height} {header.kind}) would take about {cost.work / STEPS_A_SECOND:.1f} s to "
            f"decode, more than {budget.max_work / STEPS_A_SECOND:.1f}"
        )
    else:
        return
    raise PhotoTooLargeError(f"{name} {found}.", SHRINK_HINT)
