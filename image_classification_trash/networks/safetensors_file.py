"""Read and replace single tensors in the bytes of a .safetensors file; all other bytes stay as they are.

Own code of a page, because the library that writes such files comes with the train extra, and a model can be adapted without.
Source: https://github.com/huggingface/safetensors, Format.
"""

import json
import struct
from typing import Any

import numpy as np

from image_classification_trash.arrays import Floats
from image_classification_trash.errors import BundleError

_LENGTH = struct.Struct("<Q")


def read_tensor(content: bytes, name: str, origin: str) -> Floats:
    """Return a float32 tensor, of any shape, in float64.

    Raises:
        BundleError: the file is damaged or has no such tensor; names `origin`.
    """
    begin, end, shape = _place(content, name, origin)
    return np.frombuffer(content[begin:end], "<f4").reshape(shape).astype(np.float64)


def with_tensor(content: bytes, name: str, value: Floats, origin: str) -> bytes:
    """Return the file with other values, of the same shape, in a float32 tensor; raises as `read_tensor` does."""
    begin, end, shape = _place(content, name, origin)
    data = value.reshape(shape).astype("<f4").tobytes()
    return content[:begin] + data + content[end:]


def _place(content: bytes, name: str, origin: str) -> tuple[int, int, tuple[int, ...]]:
    try:
        (length,) = _LENGTH.unpack_from(content)
        start = _LENGTH.size + length
        entry: dict[str, Any] = json.loads(content[_LENGTH.size : start])[name]
        shape = tuple(map(int, entry["shape"]))
        begin, end = (start + int(offset) for offset in entry["data_offsets"])
        good = entry["dtype"] == "F32" and end - begin == 4 * int(np.prod(shape)) and end <= len(content)
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"{origin} has no weights {name!r}: {error!r}.", "Copy the bundle again."
        ) from error
    if not good:
        raise BundleError(f"{origin} has other weights {name!r} than it says.", "Copy the bundle again.")
    return begin, end, shape
