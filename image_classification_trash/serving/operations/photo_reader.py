"""Decodes strangers' photos by what their headers ask for: refuses, admits, isolates.

reader = PhotoReader(Decoders(cpu_seconds=5), memory=2**28)
pixels = reader.read(turn, data, (224, 288), "stretch")
"""

from image_classification_trash.inference.images import (
    Pixels,
    ResizeMode,
    Size,
    decoding_cost,
    read_photo,
)
from image_classification_trash.inference.photo_cost import (
    MEBIBYTE,
    SERVING,
    STEPS_A_SECOND,
    Cost,
    check_budget,
    photo_header,
)
from image_classification_trash.serving.operations.isolation import Decoders
from image_classification_trash.serving.operations.worker_pool import (
    HeavyPhotoError,
    MemoryBudget,
    Turn,
    cores,
)

ORDINARY = Cost(memory=48 * MEBIBYTE, work=STEPS_A_SECOND // 2)
"""What an ordinary photo takes at most, such as a JPEG of 12 megapixels; one that takes more is heavy."""
MARGIN = 64 * MEBIBYTE
"""Memory that a decoder may take above what the header asks for: stacks of its threads, and what it holds already."""


class PhotoReader:
    """Decodes photos within the budget for strangers; may be used from several threads.

    Args:
        decoders: processes that decode; None decodes in the calling thread, where nothing can be ended.
        memory: bytes that heavy photos may take together; others wait. Ordinary ones have their own, for one a core.
    """

    def __init__(self, decoders: Decoders | None, memory: int) -> None:
        self._decoders = decoders
        self._ordinary, self._heavy = MemoryBudget(cores() * ORDINARY.memory), MemoryBudget(memory)

    def read(self, turn: Turn, data: bytes, size: Size, resize_mode: ResizeMode) -> Pixels:
        """Decode a photo to uint8 (H, W, 3), the same as `read_photo` does.

        Raises:
            PhotoError: it cannot be decoded.
            PhotoTooLargeError: it asks for more than `SERVING` allows, or takes more than it asked for.
            HeavyPhotoError: it must be decoded in a turn for heavy photos.
            TimeoutError: the turn's deadline has passed.
            RefusalError: 503, its decoder was lost.
        """
        header = photo_header(data, SERVING.max_parts)
        if header is None:  # refused by its first bytes
            return read_photo(data, size, resize_mode, SERVING)
        cost = decoding_cost(header, len(data), size)
        check_budget(header, cost, SERVING)
        is_heavy = cost.memory > ORDINARY.memory or cost.work > ORDINARY.work
        if is_heavy and not turn.is_heavy:
            raise HeavyPhotoError
        with (self._heavy if is_heavy else self._ordinary).lent(cost.memory, turn.deadline):
            if self._decoders is None:
                return read_photo(data, size, resize_mode, SERVING)
            memory = max(cost.memory, ORDINARY.memory) + MARGIN
            return self._decoders.decode(data, size, resize_mode, memory, turn.deadline, keep=not is_heavy)

    def warm_up(self) -> None:
        """Wait until photos can be decoded.

        Raises:
            RefusalError: no process can be started.
        """
        if self._decoders is not None:
            self._decoders.warm_up()

    def close(self) -> None:
        """End all decoders, whatever they do."""
        if self._decoders is not None:
            self._decoders.close()
