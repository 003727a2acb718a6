"""Decode photos inside a TensorFlow graph, in the same steps as `inference/images.py` does with Pillow.

A model server that receives the bytes of a photo has no Pillow. JPEGs (by far the most common) are decoded with the same
library at the same reduced size, rotated by their EXIF orientation, and resized with the same filter in the same two
passes; pixels differ from Pillow's by at most 1. PNGs are blended over white. WebP, BMP and GIF are decoded without
transparency, and EXIF orientation is read from JPEGs only.
"""

import functools
from collections.abc import Sequence

from image_classification_trash.export.quiet_tensorflow import tf
from image_classification_trash.inference.images import DRAFT_MARGIN, ResizeMode, Size

_EXIF_WINDOW = 65536  # cameras write EXIF first, in one segment, whose largest size this is
_MOST_TAGS = 64
_ORIENTATION = 0x0112


def decode_photos(data: tf.Tensor, size: Size, resize_mode: ResizeMode) -> tf.Tensor:
    """Decode photos, string (B,), to uint8 (B, H, W, 3)."""
    shape = tf.TensorSpec((*size, 3), tf.uint8)
    return tf.map_fn(
        lambda photo: fit_photo(decode_photo(photo, size), size, resize_mode), data, fn_output_signature=shape
    )


def decode_photo(data: tf.Tensor, size: Size) -> tf.Tensor:
    """Decode one photo to upright float32 (h, w, 3), 0 to 255; not below `size` unless the photo is smaller."""
    png = tf.equal(tf.strings.substr(data, 0, 4), b"\x89PNG")
    pixels = tf.case(
        [(tf.io.is_jpeg(data), lambda: _decode_jpeg(data, size)), (png, lambda: _decode_png(data))],
        lambda: tf.io.decode_image(data, channels=3, expand_animations=False),
    )
    return tf.cast(tf.ensure_shape(pixels, (None, None, 3)), tf.float32)


def fit_photo(pixels: tf.Tensor, size: Size, resize_mode: ResizeMode) -> tf.Tensor:
    """Resize float (h, w, 3) to uint8 (H, W, 3) by the bundle's `resize_mode`."""
    height, width = size
    given = tf.cast(tf.shape(pixels)[:2], tf.float32)
    wanted = tf.constant([height, width], tf.float32)
    if resize_mode == "stretch":
        return _whole(_resize(pixels, size, tf.zeros(2), given), size)
    if resize_mode == "crop":
        box = wanted * tf.reduce_min(given / wanted)
        return _whole(_resize(pixels, size, (given - box) / 2, box), size)
    inner = tf.maximum(tf.cast(tf.round(given * tf.reduce_min(wanted / given)), tf.int32), 1)
    before = (tf.constant([height, width]) - inner) // 2
    after = tf.constant([height, width]) - inner - before
    small = _resize(pixels, tf.unstack(inner), tf.zeros(2), given)
    pads = tf.stack([tf.stack([before[0], after[0]]), tf.stack([before[1], after[1]]), tf.constant([0, 0])])
    return _whole(tf.pad(small, pads, constant_values=255.0), size)


def _whole(pixels: tf.Tensor, size: Size) -> tf.Tensor:
    return tf.ensure_shape(tf.cast(pixels, tf.uint8), (*size, 3))


def _decode_jpeg(data: tf.Tensor, size: Size) -> tf.Tensor:
    """Decode as Pillow's draft mode does: the JPEG library halves the size, never below `DRAFT_MARGIN` times `size`."""
    side = DRAFT_MARGIN * max(size)
    ratio = tf.reduce_min(tf.io.extract_jpeg_shape(data)[:2]) // side

    def decode_by(ratio: int) -> tf.Tensor:
        pixels = tf.io.decode_jpeg(data, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")
        return _upright(pixels, orientation_of(data))

    branches = [functools.partial(decode_by, r) for r in (8, 4, 2, 1)]
    return tf.switch_case(tf.reduce_sum(tf.cast(ratio < tf.constant([8, 4, 2]), tf.int32)), branches)


def _decode_png(data: tf.Tensor) -> tf.Tensor:
    rgba = tf.cast(tf.io.decode_png(data, channels=4), tf.float32)
    alpha = rgba[..., 3:] / 255.0
    return tf.cast(tf.floor(rgba[..., :3] * alpha + 255.0 * (1.0 - alpha) + 0.5), tf.uint8)


def _upright(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Rotate and mirror by an EXIF orientation, 1 to 8."""

    def one_of(*values: int) -> tf.Tensor:
        return tf.reduce_any(orientation == tf.constant(values))

    pixels = tf.cond(one_of(5, 6, 7, 8), lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels)
    pixels = tf.cond(one_of(2, 3, 6, 7), lambda: tf.reverse(pixels, [1]), lambda: pixels)
    return tf.cond(one_of(3, 4, 7, 8), lambda: tf.reverse(pixels, [0]), lambda: pixels)


def orientation_of(data: tf.Tensor) -> tf.Tensor:
    """Read the EXIF orientation from a JPEG's bytes, 1 to 8; 1 if there is none. Source: Exif 2.32, section 4.6."""
    head = tf.cast(tf.io.decode_raw(tf.strings.substr(data, 0, _EXIF_WINDOW), tf.uint8), tf.int32)
    mark = b"Exif\0\0"
    windows = tf.maximum(tf.size(head) - len(mark), 0)
    matches = [head[i : i + windows] == byte for i, byte in enumerate(mark)]
    found = tf.reduce_all(tf.stack(matches), axis=0)
    return tf.cond(tf.reduce_any(found), lambda: _tag_value(head[tf.argmax(found) + len(mark) :]), lambda: 1)


def _tag_value(tiff: tf.Tensor) -> tf.Tensor:
    """Read the orientation from the first directory of a TIFF header; invalid bytes give 1."""
    little = tf.gather(tiff, 0) == ord("I")

    def number(at: tf.Tensor, length: int) -> tf.Tensor:
        places = tf.clip_by_value(tf.expand_dims(at, -1) + tf.range(length), 0, tf.size(tiff) - 1)
        digits = tf.gather(tiff, places)
        digits = tf.where(little, tf.reverse(digits, [-1]), digits)
        return tf.reduce_sum(digits * tf.constant([256**i for i in reversed(range(length))]), axis=-1)

    directory = number(tf.constant(4), 4)
    entries = directory + 2 + 12 * tf.range(tf.minimum(number(directory, 2), _MOST_TAGS))
    wanted = number(entries, 2) == _ORIENTATION
    values = tf.boolean_mask(number(entries + 8, 2), wanted)
    value = tf.reduce_max(tf.concat([values, [1]], 0))
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _resize(pixels: tf.Tensor, size: Sequence[int], corner: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
    """Resize the region `box` (height, width) at `corner` as Pillow's bilinear filter does: width, round, height, round."""
    scale = tf.cast(tf.stack(size), tf.float32) / box
    move = -corner * scale
    wide_size = tf.stack([tf.shape(pixels)[0], size[1]])
    wide = _resize_axis(pixels, wide_size, tf.stack([1.0, scale[1]]), tf.stack([0.0, move[1]]))
    return _resize_axis(wide, tf.stack(size), tf.stack([scale[0], 1.0]), tf.stack([move[0], 0.0]))


def _resize_axis(pixels: tf.Tensor, size: tf.Tensor, scale: tf.Tensor, move: tf.Tensor) -> tf.Tensor:
    resized = tf.raw_ops.ScaleAndTranslate(
        images=pixels[None], size=size, scale=scale, translation=move, kernel_type="triangle"
    )
    return tf.clip_by_value(tf.floor(resized[0] + 0.5), 0.0, 255.0)
