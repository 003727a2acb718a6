"""Bounds what strangers can make a server write to its log."""

import logging
import time

LINES_A_SECOND = 1.0
LINES_AT_ONCE = 60.0
_LINES_OF_TRACEBACK = 20


class QuietLog(logging.Filter):
    """Lets a burst of lines through, then one a second; the next line that passes tells how many were left out."""

    def __init__(self) -> None:
        super().__init__()
        self._room, self._last, self._left_out = LINES_AT_ONCE, time.monotonic(), 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is written."""
        now = time.monotonic()
        self._room = min(LINES_AT_ONCE, self._room + LINES_A_SECOND * (now - self._last))
        self._last = now
        price = _LINES_OF_TRACEBACK if record.exc_info else 1
        if self._room < price:
            self._left_out += 1
            return False
        self._room -= price
        if self._left_out:
            record.msg = f"{record.getMessage()} ({self._left_out} messages before this one were left out)"
            record.args, self._left_out = (), 0
        return True
