"""HEIC and AVIF: the coded pictures that make up the main one, and what decoding them asks for."""

from dataclasses import dataclass, field, replace

from image_classification_trash.inference.photo_headers.av1 import Stream, inspect_av1
from image_classification_trash.inference.photo_headers.boxes import Container, read_container
from image_classification_trash.inference.photo_headers.header import EXIF_MEMORY, EXIF_STEPS, Header
from image_classification_trash.inference.photo_headers.hevc import (
    inspect_configuration,
    inspect_hevc,
    larger,
)

AV1_PLANES = 1.7  # how often planes are held during conversion to RGB, with the decoder's own data
HEVC_PLANES = (
    (1.5, 0.55),
    (3.0, 0.85),
    (float("inf"), 1.45),
)  # (bytes per pixel up to which it holds, how often planes are held)
PICTURE_STEPS = {"AVIF": 25, "HEIF": 30}  # per pixel
CODED_STEPS = 90  # per byte of the file
ITEM_STEPS = {"AVIF": 2_000, "HEIF": 50_000}
PAIR_STEPS = 10  # per pair of items: libavif searches all of them for each one
OTHER_PLANE_BYTES = 16  # per pixel of a picture in another codec
LONGEST_CANVAS = 65_536  # bytes of a description of a grid or an overlay
DEEPEST = 8  # levels of pictures made of pictures
SAMPLE_STEPS = 300
SAMPLE_BYTES = 150

_CANVASES = frozenset({b"grid", b"iovl", b"iden"})
_METADATA = frozenset({b"Exif", b"mime"})


@dataclass(frozen=True)
class Decoding:
    """What decoding an item asks for, with all items that it is made of.

    Attributes:
        decoded: number of pixels decoded.
        held: bytes of its planes during conversion to RGB.
        copied: bytes of items stored in pieces, which are joined.
    """

    decoded: int = 0
    held: int = 0
    copied: int = 0

    def __add__(self, other: "Decoding") -> "Decoding":
        return Decoding(self.decoded + other.decoded, self.held + other.held, self.copied + other.copied)


@dataclass
class _Pictures:
    """Sums over the coded pictures that an item is made of; each is visited once."""

    container: Container
    known: dict[int, Decoding] = field(default_factory=dict)

    def decoding(self, item: int, depth: int = 0) -> Decoding:
        if depth > DEEPEST:
            self.container.parts = self.container.max_parts + 1
        if item not in self.known and not self.container.is_over:
            self.known[item] = Decoding()  # an item that contains itself adds nothing
            parts = self.container.references.get((item, b"dimg"), ())
            inner = sum((self.decoding(part, depth + 1) for part in parts), Decoding())
            self.known[item] = self._with(item, inner)
        return self.known.get(item, Decoding())

    def _with(self, item: int, inner: Decoding) -> Decoding:
        """Add an item's own pixels to those of its parts; a canvas is filled with its parts, not held besides them."""
        container = self.container
        width, height = frame_size(container, item)
        if container.kinds.get(item) in _CANVASES:
            return replace(inner, held=max(inner.held, width * height))
        stream = self._stream(item)
        pixels = max(stream.pixels, width * height)
        in_pieces = len(container.extents.get(item, ())) > 1
        times = AV1_PLANES
        if container.kinds.get(item) == b"hvc1":
            times = next(times for most, times in HEVC_PLANES if stream.plane_bytes <= most)
        return inner + Decoding(
            pixels * max(1, stream.pictures),
            int(pixels * stream.plane_bytes * times),
            container.body_length(item) if in_pieces else 0,
        )

    def _stream(self, item: int) -> Stream:
        container = self.container
        if container.body_length(item) > len(container.data):  # pieces that overlap
            container.parts = container.max_parts + 1
        if container.is_over:
            return Stream()
        left = container.max_parts - container.parts
        if container.kinds.get(item) == b"av01":
            stream = inspect_av1(container.body(item), left)
        elif container.kinds.get(item) != b"hvc1":
            return Stream(plane_bytes=OTHER_PLANE_BYTES)
        else:
            configuration = container.property_of(item, b"hvcC") or b""
            size = (configuration[21] & 3) + 1 if len(configuration) > 21 else 4
            stream = larger(
                inspect_configuration(configuration, left), inspect_hevc(container.body(item), size, left)
            )
        container.parts += stream.parts
        return stream


def inspect_heif(data: bytes, max_parts: int) -> Header:
    """Walk over the tables of a HEIC file and the units of its main picture."""
    return _inspect(data, max_parts, "HEIF")


def inspect_avif(data: bytes, max_parts: int) -> Header:
    """Walk over the tables of an AVIF file and the units of its main picture, or of the first one of its track."""
    return _inspect(data, max_parts, "AVIF")


def frame_size(container: Container, item: int) -> tuple[int, int]:
    """Return the width and height of an item: its `ispe`, or those of its grid or overlay if that is larger."""
    stated = container.property_of(item, b"ispe") or b""
    sizes = [(int.from_bytes(stated[4:8]), int.from_bytes(stated[8:12]))]
    if container.kinds.get(item) in _CANVASES and 0 < container.body_length(item) <= LONGEST_CANVAS:
        body = bytes(container.body(item)[:32])
        wide = 4 if len(body) > 1 and body[1] & 1 else 2
        at = 4 if container.kinds[item] == b"grid" else 10
        sizes.append((int.from_bytes(body[at : at + wide]), int.from_bytes(body[at + wide : at + 2 * wide])))
    return max(sizes, key=lambda size: size[0] * size[1])


def _inspect(data: bytes, max_parts: int, kind: str) -> Header:
    container = read_container(data, max_parts)
    main, pictures = container.primary, _Pictures(container)
    masks = [item for (item, name), of in container.references.items() if name == b"auxl" and main in of]
    asked = sum((pictures.decoding(mask) for mask in masks), pictures.decoding(main))
    if kind == "AVIF":
        asked += _tracks(container)
    frames = [frame_size(container, main), *((track.width, track.height) for track in container.tracks)]
    width, height = max(frames, key=lambda frame: frame[0] * frame[1])
    samples = sum(track.samples for track in container.tracks)
    exif = sum(container.body_length(item) for item, name in container.kinds.items() if name in _METADATA)
    items = len(container.kinds)
    return Header(
        kind,
        width,
        height,
        container.parts,
        memory=asked.held
        + width * height * (4 if masks or len(container.tracks) > 1 else 3)
        + asked.copied
        + (len(data) if kind == "HEIF" else 0)
        + exif * EXIF_MEMORY
        + samples * SAMPLE_BYTES,
        work=asked.decoded * PICTURE_STEPS[kind]
        + len(data) * CODED_STEPS
        + exif * EXIF_STEPS
        + items * ITEM_STEPS[kind]
        + items * items * PAIR_STEPS
        + samples * SAMPLE_STEPS,
    )


def _tracks(container: Container) -> Decoding:
    """Return what decoding the first picture of each track asks for."""
    asked = Decoding()
    for track in container.tracks:
        if container.is_over:
            break
        body = memoryview(container.data)[track.start : track.start + track.length]
        stream = inspect_av1(body, container.max_parts - container.parts)
        container.parts += stream.parts
        pixels = max(stream.pixels, track.width * track.height)
        asked += Decoding(pixels * max(1, stream.pictures), int(pixels * stream.plane_bytes * AV1_PLANES))
    return asked
