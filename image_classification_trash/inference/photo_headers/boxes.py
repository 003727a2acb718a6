"""The container of HEIC and AVIF (ISO base media): boxes in boxes, tables of items, and a track's samples."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

_ROOT = frozenset({b"meta", b"moov"})
_NESTED = frozenset({b"trak", b"mdia", b"minf", b"stbl", b"iprp", b"ipco"})
_DEEPEST = 8


@dataclass
class Track:
    """A track of pictures: how many, their width and height in pixels, and where in the file the first one is."""

    samples: int = 0
    width: int = 0
    height: int = 0
    start: int = 0
    length: int = 0


@dataclass
class Container:
    """The contents of a file's tables.

    Attributes:
        data: bytes of the whole file.
        parts: boxes and rows of tables that were walked over; the walk stops one above `max_parts`.
        primary: the main item.
        kinds: item to its four-letter type.
        properties: in order, each as its four-letter type and its body.
        associated: item to the numbers of its properties, from 1.
        references: item and type of reference to the items referred to, with repetitions.
        extents: item to (construction, start, length) of its pieces.
        inner: where the body of `idat` begins, the origin of extents of construction 1.
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
        """Whether the walk stopped because there are too many parts."""
        return self.parts > self.max_parts

    def number(self, position: int, size: int) -> int:
        """Return the big-endian number of `size` bytes at `position`; 0 past the end."""
        return int.from_bytes(self.data[position : position + size])

    def body(self, item: int) -> memoryview:
        """Return an item's bytes, its pieces joined."""
        pieces = [self._piece(*extent) for extent in self.extents.get(item, ())]
        return pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))

    def body_length(self, item: int) -> int:
        """Return the length of `body` in bytes, without joining pieces."""
        return sum(len(self._piece(*extent)) for extent in self.extents.get(item, ()))

    def property_of(self, item: int, kind: bytes) -> bytes | None:
        """Return the body of an item's property of this type; None if it has none."""
        for index in self.associated.get(item, ()):
            if 0 < index <= len(self.properties) and self.properties[index - 1][0] == kind:
                return self.properties[index - 1][1]
        return None

    def _piece(self, construction: int, start: int, length: int) -> memoryview:
        view = memoryview(self.data)
        start += self.inner if construction == 1 else 0
        return view[start : start + length] if length else view[start:]


def read_container(data: bytes, max_parts: int) -> Container:
    """Walk over a file's boxes and read their tables, no picture data."""
    container = Container(data, max_parts)
    for kind, start, end in _boxes(container, 0, len(data)):
        if kind in _ROOT:
            _walk(container, kind, start, end, 0)
    return container


def _boxes(container: Container, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type of each box, and where its body starts and ends."""
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
        else:
            _read_fields(container, name, first, last)


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


def _read_fields(container: Container, name: bytes, start: int, end: int) -> None:
    """Read a box of a few fields: the main item, where `idat` begins, or what the last track says."""
    track = container.tracks[-1] if container.tracks else Track()
    match name:
        case b"pitm":
            wide = 4 if container.data[start : start + 1] != b"\0" else 2
            container.primary = container.number(start + 4, wide)
        case b"idat":
            container.inner = start
        case b"stsz":
            track.samples = container.number(start + 8, 4)
            track.length = container.number(start + 4, 4) or container.number(start + 12, 4)
        case b"stco" | b"co64":
            track.start = container.number(start + 8, 8 if name == b"co64" else 4)
        case b"tkhd":
            track.width, track.height = container.number(end - 8, 2), container.number(end - 4, 2)


_READERS = {
    b"iinf": _read_items,
    b"iref": _read_references,
    b"ipma": _read_associations,
    b"iloc": _read_locations,
}
