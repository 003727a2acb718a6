"""A lossless WebP whose header asks for little, while its Huffman tables take a hundred MiB: no header tells."""

from helpers.photo_bombs import riff, webp_chunk

_LENGTHS_ORDER = (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
_ZEROS = 18  # a run of 11 to 138 lengths that are zero


class Bits:
    """Numbers of a few bits each, the lowest first, as in a lossless WebP."""

    def __init__(self) -> None:
        self._value, self._count, self.data = 0, 0, bytearray()

    def put(self, value: int, count: int) -> None:
        self._value |= value << self._count
        self._count += count
        while self._count >= 8:
            self.data.append(self._value & 255)
            self._value, self._count = self._value >> 8, self._count - 8

    def put_code(self, code: int, count: int) -> None:
        """A Huffman code, whose highest bit comes first."""
        self.put(int(f"{code:0{count}b}"[::-1], 2), count)


def webp_of_many_tables(groups: int = 12_000, side: int = 2048) -> bytes:
    """Each block of 8 x 8 pixels names a group of tables of its own, with codes of up to 15 bits."""
    bits = Bits()
    bits.put(0x2F, 8)
    for value, count in ((side - 1, 14), (side - 1, 14), (0, 4)):
        bits.put(value, count)
    for value, count in (
        (0, 1),
        (0, 1),
        (1, 1),
        (1, 3),
        (0, 1),
    ):  # several groups, one a block; the image of them
        bits.put(value, count)
    table_of_bytes(bits, 280)
    table_of_bytes(bits, 256)
    for _ in range(3):
        table_of_zero(bits)
    for block in range((side // 8) ** 2):
        group = min(block, groups - 1)
        bits.put_code(group & 255, 8)
        bits.put_code(group >> 8, 8)
    for _ in range(groups):
        for alphabet in (280, 256, 256, 256):
            table_of_long_codes(bits, alphabet)
        table_of_zero(bits)
    return riff(webp_chunk(b"VP8L", bytes(bits.data) + bytes(1000)))


def table_of_zero(bits: Bits) -> None:
    """A table with one symbol, 0."""
    for value, count in ((1, 1), (0, 1), (1, 1), (0, 8)):
        bits.put(value, count)


def table_of_bytes(bits: Bits, alphabet: int) -> None:
    """256 codes of 8 bits."""
    start_of_table(bits, {8: 1, _ZEROS: 1})
    bits.put(0, 256)
    if alphabet > 256:
        bits.put(1, 1)
        bits.put(alphabet - 256 - 11, 7)


def table_of_long_codes(bits: Bits, alphabet: int) -> None:
    """16 codes of 1, 2, ... 15 and 15 bits, which need a second level."""
    start_of_table(bits, dict.fromkeys((*range(1, 16), _ZEROS), 4))
    for length in (*range(1, 16), 15):
        bits.put_code(length - 1, 4)
    first = 138
    for run in (first, alphabet - 16 - first):
        bits.put_code(15, 4)
        bits.put(run - 11, 7)


def start_of_table(bits: Bits, lengths: dict[int, int]) -> None:
    """Begin a table whose codes' lengths are coded, by codes of these lengths."""
    bits.put(0, 1)
    bits.put(len(_LENGTHS_ORDER) - 4, 4)
    for symbol in _LENGTHS_ORDER:
        bits.put(lengths.get(symbol, 0), 3)
    bits.put(0, 1)
