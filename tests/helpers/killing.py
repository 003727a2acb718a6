"""Ends a process at one of its steps on disk: each rename, exchange of folders and fsync counts as one."""

import os
import signal
from collections.abc import Callable
from typing import Any

from image_classification_trash import files


class Killer:
    """Counts the steps of this process and kills it before or after one of them.

    Attributes:
        left: steps until the one that kills; 0 or less: none.
        before: whether that step is left undone.
    """

    def __init__(self) -> None:
        self.left, self.before = 0, True
        for name in ("replace", "rename", "fsync"):
            setattr(os, name, self._counting(getattr(os, name)))
        files._exchange = self._counting(files._exchange)

    def _counting(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0 and self.before:
                os.kill(os.getpid(), signal.SIGKILL)
            done = step(*arguments, **options)
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return run
