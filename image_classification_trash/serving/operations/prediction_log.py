"""Counts the gateway's answers for `serve --statistics FILE`, and writes the counts periodically and when it stops.

Each worker that a supervisor starts writes its own file, named FILE with the process id before its suffix; `monitor` adds them up.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import numpy.typing as npt

from image_classification_trash.config.serving import ServeSettings
from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.inference.prediction_counts import AnswerStatistics

logger = logging.getLogger(__name__)


class StatisticsFile:
    """The counts of one worker and the file they are written to; does nothing where no file is set."""

    def __init__(self, settings: ServeSettings, classifier: TrashClassifier) -> None:
        self._path, self._seconds = settings.statistics, settings.statistics_seconds
        if self._path is not None and settings.is_supervised:
            self._path = self._path.with_name(f"{self._path.stem}-{os.getpid()}{self._path.suffix}")
        self.restart(classifier)

    def restart(self, classifier: TrashClassifier) -> None:
        """Count from nothing, for a model that takes the place of another."""
        self._classifier = classifier
        config = classifier.config
        model = {
            "name": config.name,
            "created": config.created,
            "fingerprint": str(config.data.get("fingerprint", "")),
        }
        self._counts = AnswerStatistics.of_model(model, config.labels)

    def add(self, rows: npt.NDArray[np.float32]) -> None:
        """Count answers: probabilities, float32 (N, C). Only the event loop calls this, so no lock is needed."""
        if self._path is None or rows.shape[1] != len(self._classifier.config.labels):
            return  # the second: an answer of the model before a reload
        for row in rows:
            answer = self._classifier.prediction("", row, 1)
            label = self._classifier.config.labels[int(row.argmax())]
            self._counts.add(label, float(row.max()), str(answer.decision))

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Write the counts at the start, at regular intervals, and at the end."""
        if self._path is None:
            yield
            return

        async def keep_writing() -> None:
            while True:
                self._write()
                await asyncio.sleep(self._seconds)

        writing = asyncio.create_task(keep_writing())
        try:
            yield
        finally:
            writing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writing
            self._write()

    def _write(self) -> None:
        """Write a kilobyte in the event loop, so that no count changes meanwhile. A full disk must not stop the gateway."""
        assert self._path is not None
        try:
            self._counts.write(self._path)
        except OSError as error:
            logger.warning("the statistics cannot be written to %s: %s", self._path, error)
