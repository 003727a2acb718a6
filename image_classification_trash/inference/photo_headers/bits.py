"""Read bit by bit, as headers of video codecs require."""


class Bits:
    """The bits of `data`, most significant first, followed by zeros."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data)
        self._left = 8 * len(data)

    def read(self, count: int) -> int:
        """Return the next `count` bits as a number."""
        self._left -= count
        if self._left < 0:
            return 0
        return self._value >> self._left & ((1 << count) - 1)

    def skip(self, count: int) -> None:
        """Skip `count` bits."""
        self._left -= count

    def read_golomb(self) -> int:
        """Return the next Exp-Golomb number, `ue(v)`; AV1 calls it `uvlc()`."""
        zeros = 0
        while zeros < 32 and self._left > 0 and not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)
