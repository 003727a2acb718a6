"""The pixel contract: the only place where a photo becomes pixels.

Training, evaluation, every exported format and every server decode photos with `read_photo`, so they get the
same numbers: EXIF orientation applied, alpha composited over white, 16 bits scaled to 8, CMYK and palettes converted
to RGB, one resize filter. Everything after that (scaling, normalisation, temperature, softmax) lives in the model graph.

    pixels = read_photo("photo.jpg", size=(224, 288))    # uint8 (224, 288, 3)
"""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image
from PIL import __version__ as pillow_version

from image_classification_trash.errors import PhotoError, PhotoTooLargeError, first_line
from image_classification_trash.files import as_text
from image_classification_trash.inference.photo_cost import (
    DEFAULT_BUDGET,
    SHRINK_HINT,
    Budget,
    Cost,
    check_budget,
    photo_cost,
    photo_header,
)
from image_classification_trash.inference.photo_headers.header import Header

Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]
"""Height and width in pixels."""
ResizeMode = Literal["stretch", "crop", "pad"]
"""How a frame of another shape is brought to the size: `stretch` both sides, `crop` the centre, `pad` with white."""
EncodedPhoto = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]
"""A photo's file: its path, its content, or the open file."""
PhotoSource = EncodedPhoto | Image.Image | Pixels
"""A photo's file, an open PIL image, or pixels, uint8 (H, W, 3)."""

RESIZE_MODES: tuple[ResizeMode, ...] = get_args(ResizeMode)
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
DECODERS = {
    "JPEG": "Jpeg",
    "PNG": "Png",
    "WEBP": "WebP",
    "AVIF": "Avif",
    "GIF": "Gif",
    "BMP": "Bmp",
}
"""Pillow's modules, of which only those that are needed are imported: all 44 take longer than a photo."""
PHOTO_SUFFIXES = frozenset(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
NAMED_AS = f"Photos are named *{', *'.join(sorted(PHOTO_SUFFIXES))}."
"""What to tell where a folder holds none."""

MAX_BYTES = 256 * 2**20
PIPES = {Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd")}
"""Where a shell puts the pipes that it makes for a command: `/dev/stdin`, and those of `<(...)`."""
MIN_SIDE = 8
PILLOW = int(pillow_version.partition(".")[0])
RESIZE_FILTER = Image.Resampling.BILINEAR
DRAFT_MARGIN = 2  # JPEGs are decoded to at least this many times the size wanted, then resized
STRIP_PIXELS = 2**18  # of a strip; larger frames than 4 strips are rotated, converted and resized in strips
STRIP_BYTES = 24  # per pixel of a strip, in all its forms

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_THEIR_SIDE = frozenset({5, 6, 7, 8})
_EITHER_BRANDS = (b"mif1", b"msf1")
_MIRRORED_ACROSS = frozenset({2, 3, 7, 8})
_MIRRORED_DOWN = frozenset({3, 4, 6, 7})
_SOURCE_TYPES = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)
_USE_ANOTHER = "Save it again as JPEG, PNG or WebP, or leave it out."


def read_photo(
    source: PhotoSource,
    size: Size | None = None,
    resize_mode: ResizeMode = "stretch",
    budget: Budget = DEFAULT_BUDGET,
    name: str | None = None,
) -> Pixels:
    """Decode one photo to RGB.

    Args:
        source: a path, encoded bytes, an open binary file, a PIL image, or RGB pixels, uint8 (H, W, 3). The budget does
            not apply to PIL images and pixels.
        size: height and width of the result; None keeps the photo's own.
        resize_mode: how a frame of another shape is brought to `size`.
        budget: what decoding may ask for; the pixels do not depend on it.
        name: of the photo in errors; None: its path, or `photo`.

    Returns:
        uint8 (H, W, 3), RGB, 0 to 255.

    Raises:
        PhotoError: missing, empty, truncated, too small, not a picture, or an array of another dtype or shape; says which.
        PhotoTooLargeError: above `budget`; raised from the header, before any pixel is decoded.
    """
    check_source(source)
    name = name or _name_of(source)
    if isinstance(source, np.ndarray):
        source = Image.fromarray(np.ascontiguousarray(source))
    image = source if isinstance(source, Image.Image) else open_photo(photo_bytes(source), name, budget, size)
    try:
        return _decoded(image, size, resize_mode)
    except PhotoError:
        raise
    except Exception as error:  # hostile bytes make decoders raise almost anything
        raise PhotoError(
            f"{name} cannot be decoded: {first_line(error).rstrip('.')}.", _USE_ANOTHER
        ) from error


def check_source(source: object) -> None:
    """Refuse what cannot be a photo, whatever it holds: another type, or an array of another dtype or shape.

    Raises:
        PhotoError: says what was given, and what is accepted.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or 0 in source.shape:
            found = f"A photo in an array is uint8 (H, W, 3), RGB, not {source.dtype} {source.shape}."
            hint = "Scale values to 0 to 255 and convert them with .astype(numpy.uint8), or give a PIL image."
            raise PhotoError(found, hint)
    elif not (isinstance(source, _SOURCE_TYPES) or hasattr(source, "read")):
        found = f"A photo cannot be read from an object of type {type(source).__name__}."
        hint = "Give a path, bytes, an open binary file, a PIL image, or a uint8 array (H, W, 3)."
        raise PhotoError(found, hint)


def photo_bytes(source: EncodedPhoto) -> bytes:
    """Return the encoded bytes of a photo, read from disk where a path is given.

    An open file is read from its start, or from its current position if it cannot seek.

    Raises:
        PhotoError: the file is missing, unreadable, in text mode, empty or above `MAX_BYTES`; or the path is that of a
            device, or of a pipe other than a shell's.
    """
    name = _name_of(source)
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
    elif isinstance(source, str | os.PathLike):
        data = _read_file(Path(source), name)
    else:
        data = _read_open_file(source, name)
    if not data:
        raise PhotoError(f"{name} is empty (0 bytes).", "Copy the photo again, or leave it out.")
    return data


def open_photo(
    data: bytes, name: str = "photo", budget: Budget = DEFAULT_BUDGET, size: Size | None = None
) -> Image.Image:
    """Open encoded bytes as a PIL image, header only, if decoding them to `size` stays within `budget`.

    Raises:
        PhotoError: not a picture in an accepted format, or too small to show anything.
        PhotoTooLargeError: above `budget`.
    """
    header = photo_header(data, budget.max_parts)
    if header is None:
        raise _not_a_photo(name)
    formats = _formats(data, header.kind, name)
    check_budget(header, decoding_cost(header, len(data), size), budget, name)
    image = _open(data, formats, name)
    if image.width * image.height > header.pixels:  # the decoder reads the header differently, and decides
        header = replace(header, width=image.width, height=image.height)
        check_budget(header, decoding_cost(header, len(data), size), budget, name)
    if min(image.size) < MIN_SIDE:
        found = f"{name} has {image.width} x {image.height} pixels; at least {MIN_SIDE} a side are needed."
        raise PhotoError(found, "Use the photo's full-size original.")
    return image


def decoding_cost(header: Header, file_bytes: int, size: Size | None) -> Cost:
    """Return what `read_photo` at `size` asks for: the frame, a strip of it, and the frame resized in one direction."""
    scale = 1
    if header.scalable and size is not None:  # the JPEG library divides the sides as `Image.draft` chooses
        fits = min(header.width, header.height) // (DRAFT_MARGIN * max(size))
        scale = next((scale for scale in (8, 4, 2) if fits >= scale), 1)
    half = max(size) * max(header.width, header.height) // scale * 4 if size else 0
    strip = STRIP_BYTES * min(STRIP_PIXELS, header.pixels)
    return photo_cost(header, file_bytes, scale, strip + half)


def fit_photo(image: Image.Image, size: Size | None, resize_mode: ResizeMode) -> Image.Image:
    """Bring an RGB image to `size` (height, width) as `resize_mode` says."""
    if size is None:
        return image
    (width, height), box = _target(image.size, size, resize_mode)
    return _on_canvas(image.resize((width, height), RESIZE_FILTER, box), size)


def _target(
    frame: tuple[int, int], size: Size, resize_mode: ResizeMode
) -> tuple[tuple[int, int], tuple[float, float, float, float]]:
    """Return the width and height to resize a frame (width, height) to, and the box of it that is used."""
    height, width = size
    whole = (0.0, 0.0, float(frame[0]), float(frame[1]))
    if resize_mode == "stretch":
        return (width, height), whole
    if resize_mode == "crop":
        scale = min(frame[0] / width, frame[1] / height)
        box_width, box_height = width * scale, height * scale
        # One of the sides is the frame's own, up to rounding; Pillow rejects a box that is larger by the last digit.
        left, top = max(0.0, (frame[0] - box_width) / 2), max(0.0, (frame[1] - box_height) / 2)
        box = (left, top, min(frame[0], left + box_width), min(frame[1], top + box_height))
        return (width, height), box
    scale = min(width / frame[0], height / frame[1])
    return (max(1, round(frame[0] * scale)), max(1, round(frame[1] * scale))), whole


def _on_canvas(image: Image.Image, size: Size) -> Image.Image:
    """Centre the image on a white one of `size`; return it unchanged if it has that size."""
    height, width = size
    if image.size == (width, height):
        return image
    canvas = Image.new("RGB", (width, height), "white")
    canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return canvas


def _decoded(image: Image.Image, size: Size | None, resize_mode: ResizeMode) -> Pixels:
    if size is not None and image.format in ("JPEG", "MPO"):
        # The JPEG library can halve while decoding: far cheaper for phone photos, never below the size wanted.
        side = DRAFT_MARGIN * max(size)
        image.draft(None, (side, side))
    image.load()
    orientation: object = image.getexif().get(ExifTags.Base.Orientation)
    plain = image.mode == "RGB" and not image.has_transparency_data and orientation not in _TURNS
    if image.width * image.height <= 4 * STRIP_PIXELS or (plain and size is not None):
        return np.asarray(fit_photo(_upright_rgb(image, orientation), size, resize_mode))
    return _decoded_in_strips(image, orientation, size, resize_mode)


def _decoded_in_strips(
    image: Image.Image, orientation: object, size: Size | None, resize_mode: ResizeMode
) -> Pixels:
    """Return the same pixels as the whole frame gives, without a copy of the frame.

    Pillow resizes in one direction and then in the other, and rounds to bytes after each. So strips are resized in the
    first direction one by one, and the image that they add up to, which is small, in the second direction.
    """
    width, height = image.size[::-1] if orientation in _ON_THEIR_SIDE else image.size
    if size is None:
        pixels = np.empty((height, width, 3), np.uint8)
        for box, strip in _upright_strips(image, orientation, in_columns=False):
            pixels[box[1] : box[3]] = np.asarray(strip)
        pixels.flags.writeable = False  # like an array made from an image
        return pixels
    inner, (left, top, right, bottom) = _target((width, height), size, resize_mode)
    # From version 13 on, Pillow resizes vertically first where the height shrinks far more than the width.
    down_first = PILLOW >= 13 and height > inner[1] and height - inner[1] > 2 * (width - inner[0])
    half = Image.new("RGB", (width, inner[1]) if down_first else (inner[0], height))
    for box, strip in _upright_strips(image, orientation, in_columns=down_first):
        if down_first:
            part = strip.resize((strip.width, inner[1]), RESIZE_FILTER, (0, top, strip.width, bottom))
        else:
            part = strip.resize((inner[0], strip.height), RESIZE_FILTER, (left, 0, right, strip.height))
        half.paste(part, box[:2])
    rest = (left, 0, right, inner[1]) if down_first else (0, top, inner[0], bottom)
    return np.asarray(_on_canvas(half.resize(inner, RESIZE_FILTER, rest), size))


def _upright_strips(
    image: Image.Image, orientation: object, in_columns: bool
) -> Iterator[tuple[tuple[int, int, int, int], Image.Image]]:
    """Yield boxes of the upright frame, rows or columns of about `STRIP_PIXELS`, and their pixels in RGB."""
    width, height = image.size[::-1] if orientation in _ON_THEIR_SIDE else image.size
    length, breadth = (width, height) if in_columns else (height, width)
    step = max(1, STRIP_PIXELS // breadth)
    for start in range(0, length, step):
        stop = min(length, start + step)
        box = (start, 0, stop, height) if in_columns else (0, start, width, stop)
        yield box, _upright_rgb(image.crop(_stored_box(box, orientation, image.size)), orientation)


def _stored_box(
    box: tuple[int, int, int, int], orientation: object, stored: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return where a box of the upright frame is in the stored frame."""
    left, top, right, bottom = box
    if orientation in _ON_THEIR_SIDE:
        left, top, right, bottom = top, left, bottom, right
    if orientation in _MIRRORED_ACROSS:
        left, right = stored[0] - right, stored[0] - left
    if orientation in _MIRRORED_DOWN:
        top, bottom = stored[1] - bottom, stored[1] - top
    return left, top, right, bottom


def _upright_rgb(image: Image.Image, orientation: object) -> Image.Image:
    if isinstance(orientation, int) and orientation in _TURNS:
        image = image.transpose(_TURNS[orientation])
    if image.mode.startswith("I"):
        values = np.asarray(image, dtype=np.float32)  # 16 bits to 8, rounded
        return Image.fromarray(np.clip(values / 257.0 + 0.5, 0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _formats(data: bytes, kind: str, name: str) -> tuple[str, ...]:
    """Return the Pillow decoders to try for a photo of this kind.

    Raises:
        PhotoError: it is a HEIC photo, and pillow-heif is not installed.
    """
    if kind != "HEIF":
        return (kind,)
    try:
        import pillow_heif  # noqa: PLC0415  optional, and slow to import
    except ImportError as error:
        hint = "Install it with: pip install pillow-heif, or save the photo as JPEG."
        raise PhotoError(f"{name} is a HEIC photo, which needs the library pillow-heif.", hint) from error
    pillow_heif.register_heif_opener()
    return ("AVIF", "HEIF") if data[8:12] in _EITHER_BRANDS else ("HEIF",)


def _open(data: bytes, formats: tuple[str, ...], name: str) -> Image.Image:
    """Open an image as `Image.open` does, without its limit on pixels, which a budget may exceed."""
    for kind in formats:
        if kind not in Image.OPEN:
            with suppress(ImportError):  # a Pillow that was built without it
                import_module(f"PIL.{DECODERS.get(kind, kind)}ImagePlugin")
        if kind not in Image.OPEN:
            continue
        opener, accepts = Image.OPEN[kind]
        if accepts is None or accepts(data[:16]) is True:
            with suppress(Exception):  # hostile headers make decoders raise almost anything
                return opener(io.BytesIO(data), "")
    raise _not_a_photo(name)


def _not_a_photo(name: str) -> PhotoError:
    known = "JPEG, PNG, WebP, AVIF, HEIC, GIF or BMP"
    return PhotoError(f"{name} is not a picture that can be read ({known}).", _USE_ANOTHER)


def _read_file(path: Path, name: str) -> bytes:
    try:
        state = path.stat()
        if stat.S_ISFIFO(state.st_mode) and path.parent in PIPES:
            with path.open("rb") as pipe:
                return _read_open_file(pipe, name)
        if not (stat.S_ISREG(state.st_mode) or stat.S_ISDIR(state.st_mode)):
            found = f"{name} is a pipe or a device, which may never end."
            raise PhotoError(found, "Give a file, or leave it out.")
        if state.st_size > MAX_BYTES:
            found = f"{name} has {state.st_size / 2**20:.0f} MiB; the limit is {MAX_BYTES // 2**20} MiB."
            raise PhotoTooLargeError(found, SHRINK_HINT)
        return path.read_bytes() if state.st_size else b""  # /proc has files of no size that never end
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        reason = getattr(error, "strerror", None) or first_line(error).rstrip(".")
        raise PhotoError(
            f"{name} cannot be read: {as_text(reason)}.", "Check the path and its permissions."
        ) from error


def _read_open_file(file: IO[bytes], name: str) -> bytes:
    hint = "Open it with mode 'rb', and close it only after the prediction."
    try:
        if file.seekable():
            file.seek(0)
        data: object = file.read(MAX_BYTES + 1)
    except (AttributeError, OSError, TypeError, ValueError) as error:
        raise PhotoError(f"{name} cannot be read: {as_text(first_line(error)).rstrip('.')}.", hint) from error
    if not isinstance(data, bytes):
        raise PhotoError(f"{name} cannot be read: it gives {type(data).__name__}, not bytes.", hint)
    if len(data) > MAX_BYTES:
        raise PhotoTooLargeError(f"{name} has more than {MAX_BYTES // 2**20} MiB.", SHRINK_HINT)
    return data


def _name_of(source: Any) -> str:
    """Name a photo in messages: its path as printable text, or `photo`."""
    name = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
    return as_text(os.fsdecode(name)) if isinstance(name, str | os.PathLike) else "photo"
