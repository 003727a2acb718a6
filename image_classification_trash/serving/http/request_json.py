"""Reads request bodies, without any web framework: for the gateway and for the Lambda, which must start quickly."""

import base64
import binascii
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np

from image_classification_trash.files import RepeatedKeyError, without_repeats
from image_classification_trash.serving.http.api_errors import RefusalError, wrong_body
from image_classification_trash.serving.http.long_json import LongText, parse_long_json
from image_classification_trash.serving.pipeline import Limits, Photo

MAX_DEPTH = 64
"""How deeply lists and objects may be nested in a request."""
FEW_VALUES = 1024
"""Values, commas and brackets counted, that a body without pixels may hold."""
SMALL_BODY = 2**16
"""Bytes of JSON that are parsed in one go, and on the event loop, where that costs less than a thread."""
CHARSETS = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin-1", "latin1"})
"""Charsets that a request may state: its text is read as UTF-8, of which ASCII is a part."""
LONGEST_DATA_HEAD = 1024
"""Bytes before the comma of a data: URI."""
_PIECE = 2**18
_STANDARD = bytes.maketrans(b"-_", b"+/")
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'"[]{},'))


@dataclass(frozen=True)
class Link:
    """The address of a photo."""

    url: str


def media_type(header: str) -> str:
    """Take the media type out of a Content-Type header, in lower case; empty where there is none."""
    return header.partition(";")[0].strip().lower()


def check_charset(header: str) -> None:
    """Refuse a Content-Type header that states a charset in which text can say what UTF-8 cannot, such as utf-7.

    Raises:
        RefusalError: 415.
    """
    for parameter in header.split(";")[1:]:
        name, _, value = parameter.partition("=")
        charset = value.strip().strip("\"'").lower()
        if name.strip().lower() == "charset" and charset not in CHARSETS:
            raise RefusalError(
                415, "wrong_content_type", f"The charset is {charset[:40]!r}; send the text in UTF-8."
            )


def parse_json(body: bytes, max_values: int = FEW_VALUES) -> Any:
    """Parse a body as JSON in UTF-8, once it is known to be neither deep nor full.

    A body longer than `SMALL_BODY` is parsed in short steps: long lists of numbers become arrays, see `parse_long_json`.

    Raises:
        RefusalError: 422 if it is not JSON, is nested deeper than `MAX_DEPTH`, holds more than `max_values`, or an object has a
            key twice.
    """
    if len(body) > SMALL_BODY:
        return parse_long_json(body, max_values, lambda rest: _parse(rest, FEW_VALUES))
    return _parse(body, max_values)


def _parse(body: bytes, max_values: int) -> Any:
    check_json(body, max_values)
    try:
        return json.loads(body.decode("utf-8-sig"), object_pairs_hook=without_repeats)
    except RepeatedKeyError as error:
        raise wrong_body(f"The body is ambiguous: {error}.") from error
    except (ValueError, RecursionError) as error:
        raise wrong_body("The body is not JSON.") from error


def check_json(body: bytes, max_values: int) -> None:
    """Check how deep and how full a JSON body is, without parsing it, in time in proportion to its length.

    Args:
        body: JSON in UTF-8; of anything else only the part before the first mistake matters, where a parser stops.
        max_values: limit on commas and opening brackets outside strings, which no fewer than the values are but one.

    Raises:
        RefusalError: 422 beyond a limit.
    """
    depth = values = in_string = 0
    for structure in _structure(body):
        # A byte is outside a string where an even number of quotes came before it.
        quoted = (np.cumsum(structure == ord('"'), dtype=np.int64) + in_string) & 1
        in_string = int(quoted[-1])
        outside = structure[quoted == 0]
        opening = (outside == ord("[")) | (outside == ord("{"))
        closing = (outside == ord("]")) | (outside == ord("}"))
        levels = depth + np.cumsum(opening.astype(np.int8) - closing.astype(np.int8), dtype=np.int64)
        values += int(np.count_nonzero(opening)) + int(np.count_nonzero(outside == ord(",")))
        if levels.size:
            depth = int(levels[-1])
            if levels.max() > MAX_DEPTH:
                raise wrong_body(f"The body nests lists or objects deeper than {MAX_DEPTH} levels.")
        if values > max_values:
            raise wrong_body(f"The body holds more than {max_values} values.")


def _structure(body: bytes) -> Iterator["np.ndarray[Any, np.dtype[np.uint8]]"]:
    """Yield the quotes, brackets and commas of a JSON body, but for escaped quotes, a piece of the body at a time."""
    escape = b""
    for start in range(0, len(body), _PIECE):
        piece = escape + body[start : start + _PIECE]
        # An escape whose second half is in the next piece waits for it.
        escape = b"\\" if (len(piece) - len(piece.rstrip(b"\\"))) % 2 else b""
        piece = piece.removesuffix(escape).replace(b"\\\\", b"").replace(b'\\"', b"")
        structure = np.frombuffer(piece.translate(None, _NOT_STRUCTURE), np.uint8)
        if structure.size:
            yield structure


def decode_base64(text: str | LongText) -> bytes:
    """Decode a photo that was sent as base64: standard or URL-safe, padded or not, in one line or wrapped, or a data: URI.

    Raises:
        RefusalError: 422 if it is not base64.
    """
    try:
        long = (
            text
            if isinstance(text, LongText)
            else LongText(memoryview(text.encode("ascii").replace(b"\\", b"\\\\")))
        )
        head = bytes(long.raw[:LONGEST_DATA_HEAD])
        if head[:5].lower() == b"data:":
            comma = head.find(b",")
            if not head[: max(comma, 0)].lower().endswith(b";base64"):
                raise wrong_body("A data: URI does not hold base64.")
            long = LongText(long.raw[comma + 1 :])
        photo = BytesIO()  # gives what it holds away without a copy
        digits = b""
        for piece in long.pieces():
            digits += base64_digits(piece)
            whole = max(0, (len(digits) - 2) // 4 * 4)  # the last two may be padding
            photo.write(_decoded(digits[:whole]))
            digits = digits[whole:]
        digits = digits[:-2] + digits[-2:].rstrip(b"=")
        photo.write(_decoded(digits, b"=" * (-len(digits) % 4)))
        return photo.getvalue()
    except (binascii.Error, ValueError) as error:
        raise wrong_body("A photo is not valid base64.") from error


def _decoded(digits: bytes, padding: bytes = b"") -> bytes:
    if b"=" in digits:
        raise ValueError("padding within a photo")
    return base64.b64decode(digits + padding, validate=True)


def base64_digits(piece: bytes) -> bytes:
    """Write a piece of base64 with the standard's digits and without white space; JSON may escape slashes and line ends."""
    if b"\\" in piece:
        piece = piece.replace(b"\\/", b"/")
        for line_end in (b"\\r", b"\\n", b"\\t"):
            piece = piece.replace(line_end, b"")
    return piece.translate(_STANDARD, b" \t\r\n")


def inflate(body: bytes, encoding: str, limits: Limits) -> bytes:
    """Undo a body's Content-Encoding: gzip, deflate, or none.

    Args:
        body: as it was sent.
        encoding: the header; empty where there is none.
        limits: of the body, which count once it is inflated too.

    Raises:
        RefusalError: 413 if it is longer than `limits.max_bytes`, 415 another encoding, 422 damaged.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in _WINDOWS:
        message = f"The content encoding is {encoding[:40]!r}; send gzip, deflate or none."
        raise RefusalError(415, "wrong_content_type", message)
    inflater = zlib.decompressobj(_WINDOWS[encoding])
    try:
        data = inflater.decompress(body, limits.max_bytes + 1)
    except zlib.error as error:
        raise wrong_body(f"The body is not {encoding}, as the request says it is.") from error
    limits.check_length(len(data), "request")
    if not inflater.eof or inflater.unused_data:
        raise wrong_body(f"The body is not one whole stream of {encoding}.")
    return data


def asked_photo(value: Any) -> Link | Photo:
    """Read `{"url": ...}` or `{"image": base64}`.

    Raises:
        RefusalError: 422 if it is neither.
    """
    match value:
        case {"url": str(url), **others} if not others:
            return Link(url)
        case {"image": (str() | LongText()) as text, **others} if not others:
            return Photo("photo 1", decode_base64(text))
    raise wrong_body('Send {"url": "https://..."} or {"image": "base64"}.')
