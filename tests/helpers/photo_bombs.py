"""Photos that ask for far more than their bytes promise: memory, passes, or parts by the million.

Each is made when it is asked for, from a few numbers; most are a few KB, those with a million parts a few MB.

    for name, make in BOMBS.items():
        data = make()
"""

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import pillow_heif
from PIL import Image

from image_classification_trash.inference.photo_headers.boxes import Container, read_container

SIDE = 8944  # squared, just below 80 million pixels
MANY = 1_000_000


# JPEG


def jpeg_segment(marker: int, body: bytes = b"") -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg_frame(marker: int, side: int, sampling: Sequence[int]) -> bytes:
    rows = b"".join(bytes((n + 1, hv, 0)) for n, hv in enumerate(sampling))
    return jpeg_segment(marker, struct.pack(">BHHB", 8, side, side, len(sampling)) + rows)


def jpeg_scan(components: int, first: int, last: int, bits: int, data: bytes, one: int = 1) -> bytes:
    rows = b"".join(bytes((n + one, 0)) for n in range(components))
    return jpeg_segment(0xDA, bytes((components,)) + rows + bytes((first, last, bits))) + data


def huffman_table(kind: int, symbol: int) -> bytes:
    """One symbol, whose code is a 0."""
    return jpeg_segment(0xC4, bytes((kind, 1, *[0] * 15, symbol)))


def empty_blocks(side: int) -> bytes:
    """A scan's data that say, in a run of 32,767 at a time, that all blocks of a component are as they were."""
    bits = "011111111111111" * ((side // 8 + 1) ** 2 // 32767 + 1)
    coded = int(bits.ljust(-len(bits) % 8 + len(bits), "1"), 2).to_bytes(-(-len(bits) // 8))
    return coded.replace(b"\xff", b"\xff\0")


QUANTISATION = jpeg_segment(0xDB, bytes((0, *[1] * 64)))
TABLES = QUANTISATION + huffman_table(0x00, 0) + huffman_table(0x10, 0xE0)
ARITHMETIC = jpeg_segment(0xCC, bytes((0x00, 0x10, 0x10, 0x05)))


def progressive_scans(count: int, side: int = SIDE, bits: int = 0x10, marker: int = 0xC2) -> bytes:
    """A grey progressive JPEG whose scans refine nothing, again and again."""
    scans = jpeg_scan(1, 1, 63, bits, empty_blocks(side)) * count
    start = jpeg_scan(1, 0, 0, 0, b"\0" * 64)
    return b"\xff\xd8" + TABLES + jpeg_frame(marker, side, (0x11,)) + start + scans + b"\xff\xd9"


def jpeg_of(segments: bytes, side: int = 64) -> bytes:
    """A good small JPEG with segments before its own."""
    plain = io.BytesIO()
    Image.new("RGB", (side, side), (90, 120, 40)).save(plain, "JPEG")
    return b"\xff\xd8" + segments + plain.getvalue()[2:]


def exif_of(tag: int, kind: int, count: int, width: int) -> bytes:
    """A TIFF directory with one tag of `count` numbers behind it."""
    head = b"MM\0\x2a\0\0\0\x08" + struct.pack(">HHHLLL", 1, tag, kind, count, 26, 0)
    return head + b"\0\1" * (count * width // 2)


def exif_in_segments(data: bytes) -> bytes:
    pieces = [data[at : at + 65_000] for at in range(0, len(data), 65_000)]
    return b"".join(jpeg_segment(0xE1, b"Exif\0\0" + piece) for piece in pieces)


def photoshop(count: int) -> bytes:
    body = b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0" * 5000
    return jpeg_segment(0xED, body) * count


def multi_picture() -> bytes:
    """A JPEG whose index of pictures promises 4 thousand million of them."""
    table = struct.pack(">HLL", 0xB001, 0, 0)[:0] + struct.pack(">HHLL", 0xB001, 4, 1, 2**32 - 1)
    entries = struct.pack(">HHLL", 0xB002, 7, 60_000, 38)
    index = b"MM\0\x2a\0\0\0\x08" + struct.pack(">H", 2) + table + entries + b"\0\0\0\0" + bytes(60_000)
    return jpeg_of(jpeg_segment(0xE2, b"MPF\0" + index))


# PNG


def png_chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed_zeros(count: int) -> bytes:
    """So many zeros as zlib packs them, made of one packed mebibyte again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = packer.compress(bytes(count % 2**20)) + packer.flush()
    return b"\x78\x01" + block * (count // 2**20) + rest + struct.pack(">HH", count % 65521, 1)


def png(
    side: int, bits: int, kind: int, before: bytes = b"", after: bytes = b"", interlaced: int = 0
) -> bytes:
    """A black PNG."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    raw = side * (1 + -(-side * channels * bits // 8))
    pixels = png_chunk(b"IDAT", packed_zeros(raw))
    return png_start(side, bits, kind, interlaced) + before + pixels + after + png_chunk(b"IEND")


def png_start(side: int, bits: int, kind: int, interlaced: int = 0) -> bytes:
    head = struct.pack(">IIBBBBB", side, side, bits, kind, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head)


def png_in_pieces(size: int) -> bytes:
    """A PNG of noise whose picture comes in a million chunks of `size` bytes, of which 0 leave no picture at all."""
    start = png_start(512, 8, 2) + png_chunk(b"IDAT", b"x\x01")
    return start + png_chunk(b"IDAT", b"\0" * size) * MANY + png_chunk(b"IEND")


PALETTE = png_chunk(b"PLTE", bytes(range(256)) * 3)
HALF_TRANSPARENT = png_chunk(b"tRNS", bytes(range(256)))
PACKED = packed_zeros(2**20 - 64)


# WebP


def riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def lossless_frame(width: int, height: int) -> bytes:
    """A picture of one colour in five bytes behind its size."""
    bits = 0x2F | (width - 1) << 8 | (height - 1) << 22
    return webp_chunk(b"VP8L", struct.pack("<Q", bits)[:5] + b"\x88\x88\x08\0\0\0\0\0")


def canvas(width: int, height: int, flags: int = 0) -> bytes:
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return webp_chunk(b"VP8X", bytes((flags, 0, 0, 0)) + sides)


def animation_frame(side: int) -> bytes:
    sides = struct.pack("<I", side - 1)[:3]
    return webp_chunk(b"ANMF", bytes(6) + sides + sides + bytes(4) + lossless_frame(side, side))


ANIMATION = webp_chunk(b"ANIM", bytes(6))


# GIF and BMP


def gif(side: int, before: bytes = b"", frame: int = 8) -> bytes:
    """A GIF whose screen is larger than its one picture."""
    plain = io.BytesIO()
    Image.new("P", (frame, frame), 1).save(plain, "GIF")
    data = plain.getvalue()
    table = 13 + (6 << (data[10] & 7))
    return data[:6] + struct.pack("<HH", side, side) + data[10:table] + before + data[table:]


def large_gif() -> bytes:
    """A picture of one colour, 8,944 pixels a side, with a transparent one behind it."""
    plain = io.BytesIO()
    Image.new("P", (SIDE, SIDE), 1).save(plain, "GIF", transparency=1)
    return plain.getvalue()


def bmp(width: int, height: int, bits: int, compression: int, data: bytes, colours: int = 256) -> bytes:
    palette = b"\1\2\3\0" * colours if bits <= 8 else b""
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 0, 0, colours, 0)
    start = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + head + palette + data


# AVIF and HEIC


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", len(body) + 8) + kind + body


def full_box(kind: bytes, version: int, *parts: bytes) -> bytes:
    return box(kind, bytes((version, 0, 0, 0)), *parts)


@dataclass
class Item:
    """An item of a container: its kind, its pieces (start in the payload, length), and its properties' numbers."""

    kind: bytes
    pieces: Sequence[tuple[int, int]]
    properties: Sequence[int] = ()
    made_of: Sequence[int] = field(default=())
    """Items that a grid is made of."""


def container(
    brand: bytes, payload: bytes, properties: Sequence[bytes], items: Sequence[Item], *more: bytes
) -> bytes:
    """A file whose main item is the first; items are numbered from 1, properties too."""
    start = box(b"ftyp", brand, bytes(4), brand, b"mif1", b"miaf")
    head = _meta(properties, items, 0)
    return (
        start + _meta(properties, items, len(start) + len(head) + 8) + box(b"mdat", payload) + b"".join(more)
    )


def _meta(properties: Sequence[bytes], items: Sequence[Item], origin: int) -> bytes:
    numbered = list(enumerate(items, 1))
    infos = [full_box(b"infe", 3, struct.pack(">IH", n, 0), item.kind, b"\0") for n, item in numbered]
    places = [
        struct.pack(">IHHH", n, 0, 0, len(item.pieces))
        + b"".join(struct.pack(">II", origin + start, length) for start, length in item.pieces)
        for n, item in numbered
    ]
    links = [
        struct.pack(">IB", n, len(item.properties)) + bytes(0x80 | index for index in item.properties)
        for n, item in numbered
    ]
    made = [
        box(b"dimg", struct.pack(f">IH{len(item.made_of)}I", n, len(item.made_of), *item.made_of))
        for n, item in numbered
        if item.made_of
    ]
    return full_box(
        b"meta", 0,
        full_box(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
        full_box(b"pitm", 1, struct.pack(">I", 1)),
        full_box(b"iloc", 2, b"\x44\0", struct.pack(">I", len(items)), *places),
        full_box(b"iinf", 1, struct.pack(">I", len(items)), *infos),
        full_box(b"iref", 1, *made),
        box(b"iprp", box(b"ipco", *properties), full_box(b"ipma", 1, struct.pack(">I", len(items)), *links)),
    )  # fmt: skip


def extent(side: int) -> bytes:
    return full_box(b"ispe", 0, struct.pack(">II", side, side))


@dataclass(frozen=True)
class Tile:
    """A coded picture: its bytes, the properties that decoders need, and its side."""

    data: bytes
    properties: tuple[bytes, ...]
    side: int


@cache
def tile(kind: str, side: int = 512) -> Tile:
    """A picture of one colour as the library codes it."""
    pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    options = {"speed": 10} if kind == "AVIF" else {"quality": 30}
    Image.new("RGB", (side, side), (90, 120, 40)).save(buffer, kind, **options)
    read: Container = read_container(buffer.getvalue(), 65_536)
    kept = [box(name, body) for name, body in read.properties if name in (b"av1C", b"hvcC", b"pixi", b"colr")]
    return Tile(bytes(read.body(read.primary)), tuple(kept), side)


BRANDS = {"AVIF": b"avif", "HEIF": b"heic"}
CODED = {"AVIF": b"av01", "HEIF": b"hvc1"}


def grid(
    kind: str, rows: int, stated: int | None = None, items: int | None = None, repeats: int = 1
) -> bytes:
    """A picture of `rows` x `rows` tiles, which are all the same bytes.

    Args:
        kind: AVIF or HEIF.
        rows: of tiles.
        stated: side that the grid's description says; what the tiles cover if None.
        items: tiles that there are; one for each place if None.
        repeats: how often the file names each tile's bytes as a piece.
    """
    one = tile(kind)
    side = stated or rows * one.side
    description = struct.pack(">BBBBII", 0, 1, rows - 1, rows - 1, side, side)
    count = rows * rows if items is None else items
    shared = range(1, len(one.properties) + 1)
    here, there = len(one.properties) + 1, len(one.properties) + 2
    main = Item(b"grid", [(0, 12)], (here,), [2 + n % count for n in range(rows * rows)])
    tiles = [Item(CODED[kind], [(12, len(one.data))] * repeats, (*shared, there))] * count
    properties = (*one.properties, extent(side), extent(one.side))
    return container(BRANDS[kind], description + one.data, properties, [main, *tiles])


def nested_grids(kind: str, depth: int) -> bytes:
    """Grids of grids: 64 times as many tiles with each."""
    one = tile(kind)
    description = struct.pack(">BBBBHH", 0, 0, 7, 7, 64, 64)
    grids = [Item(b"grid", [(0, 8)], (len(one.properties) + 1,), [n + 2] * 64) for n in range(depth)]
    last = Item(CODED[kind], [(8, len(one.data))], range(1, len(one.properties) + 2))
    return container(BRANDS[kind], description + one.data, (*one.properties, extent(64)), [*grids, last])


def lying(kind: str, side: int, said: int) -> bytes:
    """One picture, coded with one side, that the container says has another."""
    one = tile(kind, side)
    item = Item(CODED[kind], [(0, len(one.data))], range(1, len(one.properties) + 2))
    return container(BRANDS[kind], one.data, (*one.properties, extent(said)), [item])


def repeated(kind: str, times: int) -> bytes:
    """One item that holds its picture many times."""
    one = tile(kind)
    item = Item(CODED[kind], [(0, len(one.data) * times)], range(1, len(one.properties) + 2))
    return container(BRANDS[kind], one.data * times, (*one.properties, extent(one.side)), [item])


def pieces(kind: str, count: int) -> bytes:
    """One item made of pieces that are the same half megabyte again and again."""
    one = tile(kind)
    payload = one.data + bytes(2**19)
    places = [(0, len(one.data)), *[(len(one.data), 2**19)] * count]
    item = Item(CODED[kind], places, range(1, len(one.properties) + 2))
    return container(BRANDS[kind], payload, (*one.properties, extent(one.side)), [item])


def crowd(kind: str, count: int) -> bytes:
    """A good picture beside many items that are not it."""
    one = tile(kind)
    shared = range(1, len(one.properties) + 2)
    items = [Item(CODED[kind], [(0, len(one.data))], shared)] * count
    return container(BRANDS[kind], one.data, (*one.properties, extent(one.side)), items)


def heavy_exif(kind: str, count: int) -> bytes:
    """A picture turned by its container, with EXIF of many rationals that turning makes Pillow read and write."""
    one = tile(kind)
    exif = bytes(4) + exif_of(0x011A, 5, count, 8)
    picture = Item(CODED[kind], [(0, len(one.data))], range(1, len(one.properties) + 3))
    properties = (*one.properties, extent(one.side), box(b"irot", b"\1"))
    described = container(
        BRANDS[kind], one.data + exif, properties, [picture, Item(b"Exif", [(len(one.data), len(exif))])]
    )
    link = box(b"cdsc", struct.pack(">IHI", 2, 1, 1))
    return _with_reference(described, link)


def _with_reference(data: bytes, link: bytes) -> bytes:
    """The same file with a reference more; places behind it move by its length."""
    at = data.index(b"iref") - 4
    longer = data[:at] + full_box(b"iref", 1, link) + data[at + 12 :]
    meta = data.index(b"meta") - 4
    size = struct.unpack_from(">I", data, meta)[0] + len(link)
    longer = longer[:meta] + struct.pack(">I", size) + longer[meta + 4 :]
    return _moved(longer, len(link))


def _moved(data: bytes, by: int) -> bytes:
    at = data.index(b"iloc") + 4
    count = struct.unpack_from(">I", data, at + 6)[0]
    moved, position = bytearray(data), at + 10
    for _ in range(count):
        pieces_here = struct.unpack_from(">H", data, position + 8)[0]
        position += 10
        for _ in range(pieces_here):
            struct.pack_into(">I", moved, position, struct.unpack_from(">I", data, position)[0] + by)
            position += 8
    return bytes(moved)


def sequence(samples: int) -> bytes:
    """An animation in AVIF whose table promises many pictures of one size."""
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue", "green")]
    frames[0].save(buffer, "AVIF", save_all=True, append_images=frames[1:], speed=10)
    data = bytearray(buffer.getvalue() + bytes(samples))
    struct.pack_into(">II", data, data.index(b"stsz") + 8, 1, samples)
    chunks = data.index(b"stsc") + 4
    struct.pack_into(">III", data, chunks + 4, 1, 1, samples)
    return bytes(data)


Make = Callable[[], bytes]

JPEG_BOMBS: dict[str, Make] = {
    "jpeg_65500_a_side": lambda: progressive_scans(1, 65_500),
    "jpeg_500_scans": lambda: progressive_scans(500),
    "jpeg_500_scans_that_do_not_refine": lambda: progressive_scans(500, bits=0),
    "jpeg_60000_small_scans": lambda: progressive_scans(60_000, 512),
    "jpeg_million_scans": lambda: progressive_scans(200_000, 64),
    "jpeg_arithmetic_scans": lambda: b"\xff\xd8" + ARITHMETIC + QUANTISATION + jpeg_frame(0xCA, SIDE, (0x11,)) + jpeg_scan(1, 0, 0, 0, b"\0" * 8) + jpeg_scan(1, 1, 63, 0, b"\x55\xaa" * 9) * 100 + b"\xff\xd9",
    "jpeg_coefficients_of_three_components": lambda: b"\xff\xd8" + TABLES + jpeg_frame(0xC2, SIDE, (0x11, 0x11, 0x11)) + jpeg_scan(3, 0, 0, 0, b"\0" * 64) + b"\xff\xd9",
    "jpeg_components_apart": lambda: b"\xff\xd8" + TABLES + jpeg_frame(0xC0, SIDE, (0x11, 0x11, 0x11)) + jpeg_scan(1, 0, 63, 0, b"\0" * 64) * 200 + b"\xff\xd9",
    "jpeg_lossless": lambda: b"\xff\xd8" + TABLES + jpeg_frame(0xC3, SIDE, (0x11, 0x11, 0x11)) + jpeg_scan(3, 1, 0, 0, b"\0" * 64) + b"\xff\xd9",
    "jpeg_million_comments": lambda: jpeg_of(jpeg_segment(0xFE) * MANY),
    "jpeg_comments_of_60_kB": lambda: jpeg_of(jpeg_segment(0xFE, bytes(60_000)) * 1800),
    "jpeg_million_exif_segments": lambda: jpeg_of(jpeg_segment(0xE1, b"Exif\0\0MM") * MANY),
    "jpeg_exif_of_rationals": lambda: jpeg_of(exif_in_segments(exif_of(0x011A, 5, MANY, 8))),
    "jpeg_exif_orientations": lambda: jpeg_of(exif_in_segments(exif_of(0x0112, 3, 8 * MANY, 2))),
    "jpeg_filling": lambda: jpeg_of(b"\xff" * (32 * MANY)),
    "jpeg_junk": lambda: jpeg_of(b"\xff\0" + b"\1" * (32 * MANY)),
    "jpeg_quantisation_tables": lambda: jpeg_of(jpeg_segment(0xDB, bytes((0, *[1] * 64)) * 1000) * 500),
    "jpeg_photoshop_resources": lambda: jpeg_of(photoshop(500)),
    "jpeg_many_pictures": multi_picture,
    "jpeg_tables_between_scans": lambda: b"\xff\xd8" + TABLES + jpeg_frame(0xC2, 512, (0x11,)) + jpeg_scan(1, 0, 0, 0, b"\0") + huffman_table(0x10, 0xE0) * MANY + b"\xff\xd9",
}  # fmt: skip

PNG_BOMBS: dict[str, Make] = {
    "png_16_bit_grey": lambda: png(SIDE, 16, 0),
    "png_16_bit_rgba": lambda: png(SIDE, 16, 6),
    "png_rgba": lambda: png(SIDE, 8, 6),
    "png_interlaced_rgba": lambda: png(SIDE, 8, 6, interlaced=1),
    "png_palette_half_transparent": lambda: png(SIDE, 8, 3, PALETTE + HALF_TRANSPARENT),
    "png_one_bit_with_a_transparent_colour": lambda: png(SIDE, 1, 0, png_chunk(b"tRNS", b"\0\1")),
    "png_million_chunks_of_a_byte": lambda: png_in_pieces(1),
    "png_million_empty_chunks": lambda: png_in_pieces(0),
    "png_nameless_packed_texts": lambda: png(64, 8, 2, png_chunk(b"zTXt", b"\0\0" + PACKED) * 8000),
    "png_packed_texts_that_are_no_text": lambda: png(64, 8, 2, png_chunk(b"iTXt", b"k\0\1\0\xff\0\0" + PACKED) * 8000),
    "png_packed_profiles": lambda: png(64, 8, 2, png_chunk(b"iCCP", b"p\0\0" + PACKED) * 8000),
    "png_packed_texts_after_the_picture": lambda: png(64, 8, 2, after=png_chunk(b"zTXt", b"\0\0" + PACKED) * 8000),
    "png_million_texts_after_the_picture": lambda: png(64, 8, 2, after=png_chunk(b"tEXt", b"k\0v") * MANY),
    "png_million_private_chunks": lambda: png(64, 8, 2, png_chunk(b"prVt", b"x") * MANY),
    "png_exif_orientations": lambda: png(64, 8, 2, png_chunk(b"eXIf", exif_of(0x0112, 3, 8 * MANY, 2))),
    "png_exif_as_text": lambda: png(64, 8, 2, png_chunk(b"tEXt", b"Raw profile type exif\0\nexif\n9\n" + exif_of(0x0112, 3, 4 * MANY, 2).hex().encode())),
}  # fmt: skip

OTHER_BOMBS: dict[str, Make] = {
    "webp_8944_a_side": lambda: riff(lossless_frame(SIDE, SIDE)),
    "webp_16383_a_side": lambda: riff(lossless_frame(16_383, 16_383)),
    "webp_canvas_of_a_small_frame": lambda: riff(canvas(SIDE, SIDE, 2), ANIMATION, animation_frame(8)),
    "webp_million_frames": lambda: riff(canvas(16, 16, 2), ANIMATION, animation_frame(16) * MANY),
    "webp_million_chunks": lambda: riff(canvas(64, 64), lossless_frame(64, 64), webp_chunk(b"ABCD", b"") * MANY),
    "webp_exif_orientations": lambda: riff(canvas(64, 64, 8), lossless_frame(64, 64), webp_chunk(b"EXIF", exif_of(0x0112, 3, 8 * MANY, 2))),
    "gif_8944_a_side": large_gif,
    "gif_65535_a_side": lambda: gif(65_535),
    "gif_million_comments": lambda: gif(64, b"!\xfe\x01x\0" * MANY),
    "gif_comment_of_a_million_blocks": lambda: gif(64, b"!\xfe" + b"\x01x" * (4 * MANY) + b"\0"),
    "gif_million_empty_extensions": lambda: gif(64, b"!\xf9\0" * MANY),
    "bmp_ends_of_lines": lambda: bmp(SIDE, SIDE, 8, 1, b"\1\5\0\0" * SIDE),
    "bmp_runs_of_four_bits": lambda: bmp(SIDE, SIDE, 4, 2, b"\xff\x12" * 400_000, 16),
    "bmp_runs_that_stand_still": lambda: bmp(8, 64, 8, 1, b"\x08\1" + b"\x05\1" * (8 * MANY)),
    "bmp_without_pixels": lambda: bmp(SIDE, SIDE, 24, 0, b""),
}  # fmt: skip

CONTAINER_BOMBS: dict[str, Make] = {
    name: make
    for kind in ("AVIF", "HEIF")
    for name, make in {
        f"{kind}_grid_8704_a_side": lambda kind=kind: grid(kind, 17),
        f"{kind}_grid_that_says_64": lambda kind=kind: grid(kind, 17, 64),
        f"{kind}_grid_of_one_tile": lambda kind=kind: grid(kind, 17, items=1),
        f"{kind}_grids_of_grids": lambda kind=kind: nested_grids(kind, 6),
        f"{kind}_1024_a_side_that_says_64": lambda kind=kind: lying(kind, 1024, 64),
        f"{kind}_thousand_pictures_in_one": lambda kind=kind: repeated(kind, 5000),
        f"{kind}_overlapping_pieces": lambda kind=kind: pieces(kind, 10_000),
        f"{kind}_many_items": lambda kind=kind: crowd(kind, 20_000),
        f"{kind}_exif_of_rationals": lambda kind=kind: heavy_exif(kind, MANY),
    }.items()
}  # fmt: skip
CONTAINER_BOMBS["AVIF_sequence_of_millions"] = lambda: sequence(2_500_000)

BOMBS: dict[str, Make] = {**JPEG_BOMBS, **PNG_BOMBS, **OTHER_BOMBS, **CONTAINER_BOMBS}
