"""Parses long JSON in short steps, so that no thread holds Python's global lock for long while it does.

    value = parse_long_json(body, max_values=5_000_000)

`json.loads` takes more than a second for 16 photos as nested lists of pixels, in one call during which the event loop
stands still. Here long lists of numbers become uint8 arrays and long strings stay as they came, both a piece at a time;
`json.loads` gets the short rest. Nothing long is copied in one go either: a copy of 30 MB holds the lock for tens of milliseconds.
"""

import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from image_classification_trash.inference.images import Pixels
from image_classification_trash.serving.http.api_errors import RefusalError, wrong_body

LONG = 4096
"""Bytes from which a string, or a text of lists and numbers, is taken out of the JSON."""
MAX_STRINGS = 4096
MAX_AXES = 8
PIECE = 2**18
_MARK = secrets.token_hex(8)
"""Begins the strings that stand for what was taken out; nobody outside knows it."""
_SPACE = b" \t\r\n"
_DIGITS = b"0123456789"
_OTHER = re.compile(rb"[^\[\]0-9+\-.eE, \t\r\n]")
_SPLIT_NUMBER = re.compile(rb"[0-9][ \t\r\n]+[0-9]")
_AS_NINE = bytes.maketrans(b"12345678", b"9" * 8)
_AS_ZERO = bytes.maketrans(b"123456789", b"0" * 9)
_FORBIDDEN = (b"[]", b"[,", b"][", b",,", b",]", b"]0", b"]9", b"0[", b"9[", b",00", b",09", b"[00", b"[09")
"""What no JSON of whole numbers holds, once its digits are 0 and 9 and its white space is gone."""


@dataclass(frozen=True)
class LongText:
    """A string as it stands in the JSON, without its quotes, a view of the body; escapes are not resolved."""

    raw: memoryview

    def pieces(self) -> Iterator[bytes]:
        """Yield it a piece at a time; no escape is cut in two."""
        start = 0
        while start < len(self.raw):
            piece = _whole_escapes(self.raw, start)
            yield piece
            start += len(piece)


def parse_long_json(body: bytes, max_values: int, parse: Callable[[bytes], Any]) -> Any:
    """Parse a long body.

    Args:
        body: JSON in UTF-8.
        max_values: limit on commas and opening brackets in long lists of numbers.
        parse: checks and parses what is left once long lists and strings were taken out.

    Returns:
        As `json.loads`, but a long list of numbers is a list of one array, uint8, of the lists' shape; a long string is
        a `LongText`.

    Raises:
        RefusalError: 422 if it is not JSON, holds more than a limit, or a long list is ragged or holds anything but whole
            numbers from 0 to 255.
    """
    outline = _Outline(body.removeprefix(b"\xef\xbb\xbf"), max_values)
    return _put_back(parse(outline.write()), outline.taken)


@dataclass
class _Outline:
    """A body without its long strings and lists, which `taken` holds."""

    body: bytes
    max_values: int
    taken: list[LongText | Pixels] = field(default_factory=list)
    _out: bytearray = field(default_factory=bytearray)
    _values: int = 0

    def write(self) -> bytes:
        """Return the JSON that is left."""
        start, strings = 0, 0
        while (quote := self.body.find(b'"', start)) >= 0:
            self._add_outside(start, quote)
            start = string_end(self.body, quote + 1)
            if start - quote < LONG:
                self._out += self.body[quote:start]
            else:
                self._take(LongText(memoryview(self.body)[quote + 1 : start - 1]), '"%s:%d"')
            strings += 1
            if strings > MAX_STRINGS:
                raise wrong_body(f"The body holds more than {MAX_STRINGS} strings.")
        self._add_outside(start, len(self.body))
        return bytes(self._out)

    def _add_outside(self, start: int, stop: int) -> None:
        """Add what lies between two strings."""
        if stop - start < LONG:
            self._out += self.body[start:stop]
            return
        others = 0
        while start < stop:
            end = end_of_numbers(self.body, start, stop)
            self.add_run(start, end)
            self._out += self.body[end : min(end + 1, stop)]
            start, others = end + 1, others + 1
            if others > LONG:
                raise _not_json()

    def add_run(self, start: int, stop: int) -> None:
        """Add a text of lists and numbers; a long one must be one list of numbers, with a comma behind it or none."""
        if stop - start < LONG:
            self._out += self.body[start:stop]
            return
        start, stop = self._without_space(start, stop)
        comma = start < stop and self.body[stop - 1 : stop] == b","
        start, stop = self._without_space(start, stop - comma)
        if start == stop and not comma:
            return
        if self.body[start : start + 1] != b"[" or self.body[stop - 1 : stop] != b"]":
            raise _not_json()
        for begin in range(start, stop, PIECE):
            end = min(begin + PIECE, stop)
            self._values += self.body.count(b",", begin, end) + self.body.count(b"[", begin, end)
            if self._values > self.max_values:
                raise wrong_body(f"The body holds more than {self.max_values} values.")
        self._take(parse_numbers(self.body, start, stop), '["%s:%d"]')
        self._out += b"," * comma

    def _without_space(self, start: int, stop: int) -> tuple[int, int]:
        """Move the ends of a stretch of the body inwards, past white space, a piece at a time."""
        while start < stop and not (piece := self.body[start : min(start + PIECE, stop)].lstrip(_SPACE)):
            start += PIECE
        start = min(start + PIECE, stop) - len(piece) if start < stop else stop
        while start < stop and not (piece := self.body[max(start, stop - PIECE) : stop].rstrip(_SPACE)):
            stop -= PIECE
        return start, max(start, stop - PIECE) + len(piece) if start < stop else start

    def _take(self, taken: LongText | Pixels, form: str) -> None:
        self._out += (form % (_MARK, len(self.taken))).encode()
        self.taken.append(taken)


def string_end(body: bytes, start: int) -> int:
    """Find where a string ends that begins at `start`, behind its opening quote; returns the place behind the closing one.

    Raises:
        RefusalError: 422, it does not end.
    """
    size = 256  # most strings are short
    while start < len(body):
        piece = _whole_escapes(body, start, size)
        end = piece.replace(b"\\\\", b"xx").replace(b'\\"', b"xx").find(b'"')
        if end >= 0:
            return start + end + 1
        start, size = start + len(piece), PIECE
    raise _not_json()


def end_of_numbers(body: bytes, start: int, stop: int) -> int:
    """Find the first byte between `start` and `stop` that belongs neither to a number nor to a list; `stop` if there is none."""
    for begin in range(start, stop, PIECE):
        if found := _OTHER.search(body, begin, min(begin + PIECE, stop)):
            return found.start()
    return stop


def parse_numbers(body: bytes, first: int, last: int) -> Pixels:
    """Parse nested lists of whole numbers from 0 to 255, between two places, to an array uint8 of the lists' shape.

    Raises:
        RefusalError: 422 if they are not JSON, ragged, deeper than `MAX_AXES`, or hold other numbers.
    """
    structure, values, start = bytearray(), [], first
    while start < last:
        comma = body.find(b",", start + PIECE, last)
        stop = last if comma < 0 else comma + 1
        if stop - start > PIECE + 2**16:  # one number, or one heap of brackets
            raise _not_pixels()
        begin = max(first, start - 1)  # a piece begins with the comma that ends the one before
        dense = dense_numbers(body[begin:stop])
        structure += dense.translate(None, _DIGITS)[start - begin :]
        values.append(small_numbers(dense.translate(None, b"[]").strip(b",")))
        start = stop
    return np.concatenate(values).reshape(shape_of(bytes(structure)))


def dense_numbers(piece: bytes) -> bytes:
    """Take white space out of a piece of lists and numbers, which must hold nothing that breaks JSON's grammar."""
    dense = piece.translate(None, _SPACE)
    if dense.translate(None, b"[]," + _DIGITS) or b"0000" in dense.translate(_AS_ZERO):
        raise _not_pixels()
    if len(dense) < len(piece) and _SPLIT_NUMBER.search(piece):
        raise _not_json()
    form = dense.translate(_AS_NINE)
    if any(pair in form for pair in _FORBIDDEN):
        raise _not_json()
    return dense


def small_numbers(text: bytes) -> Pixels:
    """Turn whole numbers of at most three digits, with commas between, into uint8."""
    digits = np.frombuffer(b"00" + text + b",", np.uint8)
    ends = np.flatnonzero(digits == ord(","))
    lengths = np.diff(ends, prepend=1) - 1
    values = digits[ends - 1].astype(np.uint16) - ord("0")
    for place, worth in ((2, 10), (3, 100)):
        values += (
            np.where(lengths >= place, digits[ends - place] - np.uint16(ord("0")), 0).astype(np.uint16)
            * worth
        )
    if values.max() > 255:
        raise _not_pixels()
    return values.astype(np.uint8)


def shape_of(structure: bytes) -> tuple[int, ...]:
    """Read the shape of nested lists off their brackets and commas, which must be those of equally long lists."""
    axes = len(structure[: MAX_AXES + 1]) - len(structure[: MAX_AXES + 1].lstrip(b"["))
    if axes > MAX_AXES:
        raise wrong_body(f"The body nests lists deeper than {MAX_AXES} levels.")
    unit, shape = b"", []
    for axis in range(axes):  # from the innermost: how many units are in the first list of this level?
        length = structure.find(b"]" * (axis + 1)) + 2 * axis + 2 - axes
        count, rest = divmod(length - 1, len(unit) + 1)
        if count < 1 or rest:
            raise _ragged()
        unit = b"[" + (unit + b",") * (count - 1) + unit + b"]"
        shape.append(count)
    if unit != structure:
        raise _ragged()
    return tuple(reversed(shape))


def _put_back(value: Any, taken: list[LongText | Pixels]) -> Any:
    if isinstance(value, str) and value.startswith(_MARK):
        return taken[int(value.partition(":")[2])]
    if isinstance(value, list):
        return [_put_back(item, taken) for item in value]
    if not isinstance(value, dict):
        return value
    if any(key.startswith(_MARK) for key in value):
        raise wrong_body(f"A member's name is longer than {LONG} bytes.")
    return {key: _put_back(item, taken) for key, item in value.items()}


def _whole_escapes(text: bytes | memoryview, start: int, size: int = PIECE) -> bytes:
    """A piece of a string that does not end within an escape."""
    piece = bytes(text[start : start + size])
    halved = (len(piece) - len(piece.rstrip(b"\\"))) % 2
    return piece + bytes(text[start + size : start + size + 1]) if halved else piece


def _not_json() -> RefusalError:
    return wrong_body("The body is not JSON.")


def _not_pixels() -> RefusalError:
    return wrong_body("Pixels are whole numbers from 0 to 255.")


def _ragged() -> RefusalError:
    return wrong_body("The lists differ in length.")
