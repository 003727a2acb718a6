"""The pixel contract: the only place where a photo becomes pixels.

Training, evaluation, every exported format and every server decode photos with `read_photo`, so they see the
same numbers: EXIF orientation applied, alpha laid over white, 16-bit scaled to 8, CMYK and palettes turned into
RGB, one resize filter. Everything after that (scaling, normalisation, temperature, softmax) lives in the model graph.

    pixels = read_photo("photo.jpg", size=(224, 288))    # uint8 (224, 288, 3)
"""

import io
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

from image_classification_trash.errors import PhotoError, PhotoTooLargeError, first_line

Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]
"""Height and width in pixels."""
Fit = Literal["stretch", "crop", "pad"]
"""How a frame of another shape meets the size: `stretch` both sides, `crop` the centre, `pad` with white."""
PhotoSource = bytes | str | Path | Image.Image

FITS: tuple[Fit, ...] = get_args(Fit)
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP")
HEIF_FORMATS = ("HEIF",)
SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "AVIF": (".avif", ".avifs"),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "HEIF": (".heic", ".heif", ".hif"),
}
PHOTO_SUFFIXES = frozenset(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)

MAX_BYTES = 256 * 2**20
MAX_PIXELS = 80_000_000  # above today's 50-megapixel phones, below Pillow's own alarm
MIN_SIDE = 8
RESIZE_FILTER = Image.Resampling.BILINEAR
DRAFT_MARGIN = 2  # JPEGs are decoded to no less than this many times the size wanted, then resized

_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
_USE_ANOTHER = "Save it again as JPEG, PNG or WebP, or leave it out."


def read_photo(source: PhotoSource, size: Size | None = None, fit: Fit = "stretch") -> Pixels:
    """Decode one photo to RGB.

    Args:
        source: encoded bytes, a path, or an open PIL image.
        size: height and width wanted; None keeps the photo's own.
        fit: how a frame of another shape meets `size`.

    Returns:
        uint8 (H, W, 3), RGB, 0 to 255.

    Raises:
        PhotoError: missing, empty, truncated, too small, or not a picture; says which.
        PhotoTooLargeError: more than `MAX_PIXELS`; raised from the header, before any pixel is decoded.
    """
    name = _name_of(source)
    image = source if isinstance(source, Image.Image) else open_photo(photo_bytes(source), name)
    try:
        return np.asarray(fit_photo(_to_rgb(image, size), size, fit))
    except PhotoError:
        raise
    except Exception as error:  # hostile bytes make decoders raise almost anything
        raise PhotoError(
            f"{name} cannot be decoded: {first_line(error).rstrip('.')}.", _USE_ANOTHER
        ) from error


def photo_bytes(source: bytes | str | Path) -> bytes:
    """The encoded bytes of a photo, read from disk where a path is given.

    Raises:
        PhotoError: the file is missing, unreadable, empty or above `MAX_BYTES`.
    """
    name = _name_of(source)
    data = source if isinstance(source, bytes) else _read_file(Path(source))
    if not data:
        raise PhotoError(f"{name} is empty (0 bytes).", "Copy the photo again, or leave it out.")
    return data


def open_photo(data: bytes, name: str = "photo") -> Image.Image:
    """Open encoded bytes as a PIL image, header only, within the limits of this module.

    Raises:
        PhotoError: not a picture in an accepted format, or too small to show anything.
        PhotoTooLargeError: more than `MAX_PIXELS`.
    """
    formats = FORMATS + (HEIF_FORMATS if _is_heif(data) and _register_heif(name) else ())
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except Image.DecompressionBombError as error:
        found = f"{name} would decode to far more than {MAX_PIXELS // 10**6} million pixels."
        raise PhotoTooLargeError(found, _shrink_hint()) from error
    except Exception as error:  # hostile headers make decoders raise almost anything
        known = "JPEG, PNG, WebP, AVIF, HEIC, GIF or BMP"
        raise PhotoError(f"{name} is not a picture that can be read ({known}).", _USE_ANOTHER) from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        found = f"{name} would decode to {width} x {height} pixels, more than {MAX_PIXELS // 10**6} million."
        raise PhotoTooLargeError(found, _shrink_hint())
    if min(width, height) < MIN_SIDE:
        found = (
            f"{name} has {width} x {height} pixels; at least {MIN_SIDE} a side are needed to show anything."
        )
        raise PhotoError(found, "Use the photo's full-size original.")
    return image


def fit_photo(image: Image.Image, size: Size | None, fit: Fit) -> Image.Image:
    """Bring an RGB image to `size` (height, width) as `fit` says."""
    if size is None:
        return image
    height, width = size
    if fit == "stretch":
        return image.resize((width, height), RESIZE_FILTER)
    if fit == "crop":
        return image.resize((width, height), RESIZE_FILTER, box=_centre_box(image, size))
    scale = min(width / image.width, height / image.height)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    canvas = Image.new("RGB", (width, height), "white")
    canvas.paste(image.resize(inner, RESIZE_FILTER), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return canvas


def _centre_box(image: Image.Image, size: Size) -> tuple[float, float, float, float]:
    height, width = size
    scale = min(image.width / width, image.height / height)
    box_width, box_height = width * scale, height * scale
    left, top = (image.width - box_width) / 2, (image.height - box_height) / 2
    return (left, top, left + box_width, top + box_height)


def _to_rgb(image: Image.Image, size: Size | None) -> Image.Image:
    if size is not None and image.format in ("JPEG", "MPO"):
        # The JPEG library halves while decoding: far cheaper for phone photos, never below the size wanted.
        side = DRAFT_MARGIN * max(size)
        image.draft(None, (side, side))
    image.load()
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # exif_transpose copies even what is upright
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if image.has_transparency_data:
        return _over_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image, dtype=np.float32)
    return Image.fromarray(np.clip(values / 257.0 + 0.5, 0, 255).astype(np.uint8)).convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")


def _is_heif(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS


def _register_heif(name: str) -> bool:
    try:
        import pillow_heif  # noqa: PLC0415  optional, and slow to import where no HEIC comes along
    except ImportError as error:
        hint = "Install it with: pip install pillow-heif, or save the photo as JPEG."
        raise PhotoError(f"{name} is a HEIC photo, which needs the library pillow-heif.", hint) from error
    pillow_heif.register_heif_opener()
    return True


def _read_file(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            found = f"{path} has {size / 2**20:.0f} MiB; the limit is {MAX_BYTES // 2**20} MiB."
            raise PhotoTooLargeError(found, _shrink_hint())
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or first_line(error).rstrip(".")
        raise PhotoError(
            f"{path} cannot be read: {reason}.", "Check the path and its permissions."
        ) from error


def _name_of(source: PhotoSource) -> str:
    return str(source) if isinstance(source, str | Path) else "photo"


def _shrink_hint() -> str:
    return "Scale the photo down; a few hundred pixels a side are enough."
