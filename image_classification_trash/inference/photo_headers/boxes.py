"""The container of HEIC and AVIF (ISO base media): boxes in boxes, tables of items, and a track's samples."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

_ROOT = frozenset({b"meta", b"moov"})
_NESTED = frozenset({b"trak", b"mdia", b"minf", b"stbl", b"iprp", b"ipco"})
_DEEPEST = 8


@dataclass
class Track:
    """A sequence's pictures: how many, their width and height, and where the first one lies."""

    samples: int = 0
    width: int = 0
    height: int = 0
    start: int = 0
    length: int = 0


@dataclass
class Container:
    """What the tables of a file say.

    Attributes:
        data: the whole file.
        parts: boxes and rows of tables that were walked over; the walk stops one above `max_parts`.
        kinds: item to its four letters.
        properties: all of them in order, each its four letters and its body.
        associated: item to the numbers of its properties, from 1.
        references: item and kind of reference to the items that it names, repeated where they are.
        extents: item to (construction, start, length) of its pieces.
        inner: body of `idat`, which extents of construction 1 count from.
        tracks: of a sequence.
    """

    data: bytes
    max_parts: int
    parts: int = 0
    primary: int = 0
    kinds: dict[int, bytes] = field(default_factory=dict)
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    associated: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    references: dict[tuple[int, bytes], list[int]] = field(default_factory=lambda: defaultdict(list))
    extents: dict[int, list[tuple[int, int, int]]] = field(default_factory=lambda: defaultdict(list))
    inner: int = 0
    tracks: list[Track] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether more parts came than may be walked over."""
        return self.parts > self.max_parts

    def number(self, position: int, size: int) -> int:
        """A number of `size` bytes; 0 behind the end."""
        return int.from_bytes(self.data[position : position + size])

    def body(self, item: int) -> memoryview:
        """An item's bytes, its pieces one after the other."""
        pieces = [self._piece(*extent) for extent in self.extents.get(item, ())]
        return pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))

    def body_length(self, item: int) -> int:
        """Bytes of `body`, without making them."""
        return sum(len(self._piece(*extent)) for extent in self.extents.get(item, ()))

    def property_of(self, item: int, kind: bytes) -> bytes | None:
        """The body of an item's property of this kind."""
        for index in self.associated.get(item, ()):
            if 0 < index <= len(self.properties) and self.properties[index - 1][0] == kind:
                return self.properties[index - 1][1]
        return None

    def _piece(self, construction: int, start: int, length: int) -> memoryview:
        view = memoryview(self.data)
        start += self.inner if construction == 1 else 0
        return view[start : start + length] if length else view[start:]


def read_container(data: bytes, max_parts: int) -> Container:
    """Walk over a file's boxes; nothing but their tables is read."""
    container = Container(data, max_parts)
    for kind, start, end in _boxes(container, 0, len(data)):
        if kind in _ROOT:
            _walk(container, kind, start, end, 0)
    return container


def _boxes(container: Container, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, and where the body starts and ends."""
    while start + 8 <= end and not container.is_over:
        container.parts += 1
        size, head = container.number(start, 4), 8
        if size == 1:
            size, head = container.number(start + 8, 8), 16
        stop = end if size == 0 else min(end, start + max(size, head))
        yield container.data[start + 4 : start + 8], start + head, stop
        start = stop


def _walk(container: Container, kind: bytes, start: int, end: int, depth: int) -> None:
    if kind == b"meta":
        start += 4
    for name, first, last in _boxes(container, start, end):
        if kind == b"ipco":
            container.properties.append((name, container.data[first : min(last, first + 4096)]))
        elif name in _NESTED and depth < _DEEPEST:
            if name == b"trak":
                container.tracks.append(Track())
            _walk(container, name, first, last, depth + 1)
        elif name in _READERS:
            _READERS[name](container, first, last)


def _read_primary(container: Container, start: int, end: int) -> None:
    del end
    container.primary = container.number(start + 4, 4 if container.data[start : start + 1] != b"\0" else 2)


def _read_items(container: Container, start: int, end: int) -> None:
    count = 2 if container.data[start : start + 1] == b"\0" else 4
    for name, first, _ in _boxes(container, start + 4 + count, end):
        if name == b"infe":
            wide = 4 if container.data[first : first + 1] == b"\3" else 2
            kind = container.data[first + 6 + wide : first + 10 + wide]
            container.kinds[container.number(first + 4, wide)] = kind


def _read_references(container: Container, start: int, end: int) -> None:
    wide = 4 if container.data[start : start + 1] == b"\1" else 2
    for kind, first, last in _boxes(container, start + 4, end):
        origin, count = container.number(first, wide), container.number(first + wide, 2)
        named = container.references[origin, kind]
        for position in range(first + wide + 2, min(last, first + wide + 2 + count * wide), wide):
            container.parts += 1
            named.append(container.number(position, wide))


def _read_associations(container: Container, start: int, end: int) -> None:
    wide = 4 if container.data[start : start + 1] > b"\0" else 2
    size = 2 if container.number(start + 3, 1) & 1 else 1
    position = start + 8
    for _ in range(container.number(start + 4, 4)):
        if position >= end or container.is_over:
            break
        item, count = container.number(position, wide), container.number(position + wide, 1)
        position += wide + 1
        container.parts += 1 + count
        mask = 0x7FFF if size == 2 else 0x7F
        container.associated[item] += [
            container.number(position + n * size, size) & mask for n in range(count)
        ]
        position += count * size


def _read_locations(container: Container, start: int, end: int) -> None:
    version = container.number(start, 1)
    sizes = container.number(start + 4, 2)
    offset, length, base, index = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15, sizes & 15
    index = index if version else 0
    wide = 4 if version == 2 else 2
    position = start + 6 + wide
    for _ in range(container.number(start + 6, wide)):
        if position >= end or container.is_over:
            break
        item = container.number(position, wide)
        position += wide
        construction = container.number(position, 2) & 15 if version else 0
        position += (2 if version else 0) + 2
        origin, count = container.number(position, base), container.number(position + base, 2)
        position += base + 2
        container.parts += 1
        for _ in range(count):
            if position >= end or container.is_over:
                break
            container.parts += 1
            at = origin + container.number(position + index, offset)
            extent = (construction, at, container.number(position + index + offset, length))
            container.extents[item].append(extent)
            position += index + offset + length


def _read_inner(container: Container, start: int, end: int) -> None:
    del end
    container.inner = start


def _read_sample_sizes(container: Container, start: int, end: int) -> None:
    del end
    size = container.number(start + 4, 4)
    for track in container.tracks[-1:]:
        track.samples = container.number(start + 8, 4)
        track.length = size or container.number(start + 12, 4)


def _read_chunk_offsets(container: Container, start: int, end: int) -> None:
    del end
    wide = 8 if container.data[start - 4 : start] == b"co64" else 4
    for track in container.tracks[-1:]:
        track.start = container.number(start + 8, wide)


def _read_track_header(container: Container, start: int, end: int) -> None:
    del start
    for track in container.tracks[-1:]:
        track.width, track.height = container.number(end - 8, 2), container.number(end - 4, 2)


_READERS = {
    b"pitm": _read_primary,
    b"iinf": _read_items,
    b"iref": _read_references,
    b"ipma": _read_associations,
    b"iloc": _read_locations,
    b"idat": _read_inner,
    b"stsz": _read_sample_sizes,
    b"stco": _read_chunk_offsets,
    b"co64": _read_chunk_offsets,
    b"tkhd": _read_track_header,
}
