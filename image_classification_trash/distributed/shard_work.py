"""The unit of work that every engine runs: answer one shard, as a whole or not at all.

    work = ShardWork(job)           # once in a process: loads the model
    answered = work(shard)          # writes DIR/000000.parquet

Every photo becomes one row, in order. A photo that is bad, missing or forbidden is a row with its error; what a store
fails at is raised. A photo that ends its process is found by `answer_carefully`, one photo at a time in a child process.
"""

import io
import json
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from image_classification_trash.continuation import differences, listed
from image_classification_trash.distributed.shards import Shard, read_shard
from image_classification_trash.distributed.stores import (
    ATTEMPTS,
    Bucket,
    is_bucket,
    is_of_the_disk,
    object_at,
    store_at,
)
from image_classification_trash.errors import (
    PhotoError,
    PhotoTooLargeError,
    ShardError,
    StoreError,
    TrashClassifierError,
)
from image_classification_trash.files import sha256_of_file
from image_classification_trash.inference.bundle import WEIGHTS
from image_classification_trash.inference.classifier import Prediction, TrashClassifier
from image_classification_trash.inference.images import MAX_BYTES, photo_bytes
from image_classification_trash.inference.prediction_table import Row, rounded, row_of, write_parquet
from image_classification_trash.inference.shipped import FOLDERS, shipped_model, shipped_name
from image_classification_trash.inference.web_photos import is_url
from image_classification_trash.models.predict_model import answers_depend_on, budget_of

AHEAD = 16
"""Objects that are fetched from a bucket before they are classified."""


@dataclass(frozen=True)
class ShardJob:
    """What every process needs to answer shards; plain data, for JSON and pickle.

    Attributes:
        shards, answers: absolute paths or addresses.
        model: absolute path of a bundle or exported file, or the name of a shipped one, which lies elsewhere on other machines.
        runtime, threads, batch_size, max_pixels: as the settings of `predict`.
        workers: batches at a time in one process; None: one on each core.
        labels: of the model.
        made_with: what the answers depend on, which each process checks of the model that it loads.
    """

    shards: str
    answers: str
    model: str
    runtime: str = "auto"
    threads: int | None = None
    batch_size: int = 8
    max_pixels: int | None = None
    workers: int | None = None
    labels: Sequence[str] = ()
    made_with: dict[str, Any] = field(default_factory=dict)

    @property
    def model_path(self) -> Path:
        """Where the model lies in this process; raises a BundleError if a shipped one is missing."""
        return shipped_model(self.model) if self.model in FOLDERS else Path(self.model)


@dataclass(frozen=True)
class Outcome:
    """What became of a shard: its photos and those among them with an error, or why it has no answer."""

    shard: Shard
    photos: int = 0
    unreadable: int = 0
    failure: str | None = None
    lost: int = 0
    """Number of processes that its photos ended."""


class ShardWork:
    """Answers shards in this process.

    Raises:
        BundleError: the model is missing or damaged.
        ShardError: it is not the model that the job was begun with.
    """

    def __init__(self, job: ShardJob) -> None:
        self.job = job
        path = job.model_path
        self.classifier = TrashClassifier.load(path, job.runtime, job.threads, workers=job.workers)
        now = json.loads(json.dumps(answers_depend_on(self.classifier, path, job.max_pixels)))
        if changes := differences(job.made_with, now):
            found = f"The model {path} is another one here than where the run was started: {listed(changes)}."
            raise ShardError(found, "Install the same version and copy the same model to all machines.")

    def __call__(self, shard: Shard) -> Outcome:
        """Answer a shard and write its answers; a failure is part of the outcome."""
        try:
            names = read_shard(store_at(self.job.shards), shard)
            return write_answers(self.job, shard, list(self.rows(names)))
        except (TrashClassifierError, OSError) as error:
            return Outcome(shard, failure=str(error))

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        """Yield a row for each photo, in order.

        Raises:
            StoreError: a store fails, after repeated attempts.
        """
        budget = budget_of(self.job.max_pixels)
        photos: Any = fetched_ahead(names)
        for prediction in self.classifier.stream(photos, self.job.batch_size, budget=budget):
            answer = prediction
            if answer.error and not is_bucket(answer.path) and not is_url(answer.path):
                wait_for_disk(answer.path)
                answer = self.classifier.predict(answer.path, budget=budget)
            yield row_of(answer, self.classifier.config.labels)


def write_answers(job: ShardJob, shard: Shard, rows: Sequence[Row], lost: int = 0) -> Outcome:
    """Write the rows of a shard as Parquet, with the digests of the model and the shard in the metadata."""
    path = job.model_path
    unreadable = sum(row["error"] is not None for row in rows)
    metadata = {
        "model": sha256_of_file(path if path.is_file() else path / WEIGHTS),
        "shard": shard.digest,
        "made_with": json.dumps(job.made_with),
        "photos": str(len(rows)),
        "unreadable": str(unreadable),
    }
    sink = io.BytesIO()
    write_parquet(sink, map(rounded, rows), job.labels, metadata)
    store_at(job.answers).write(shard.name, sink.getvalue())
    return Outcome(shard, len(rows), unreadable, lost=lost)


class FetchedPhoto(io.BytesIO):
    """An object of a bucket as an open file: its bytes, or the error that says why there are none."""

    def __init__(self, name: str, content: bytes | PhotoError) -> None:
        self.error = content if isinstance(content, PhotoError) else None
        super().__init__(b"" if isinstance(content, PhotoError) else content)
        self.name = name

    def read(self, most: int | None = -1) -> bytes:
        """Return the bytes; raise the PhotoError if there are none."""
        if self.error is not None:
            raise self.error
        return super().read(most)


def fetched_ahead(names: Sequence[str]) -> Iterator[str | FetchedPhoto]:
    """Yield paths and URLs as they are, and the objects of buckets fetched, `AHEAD` of them at a time, in order."""
    if not any(map(is_bucket, names)):
        yield from names
        return
    coming: deque[Future[str | FetchedPhoto]] = deque()
    with ThreadPoolExecutor(AHEAD) as pool:
        try:
            for name in names:
                coming.append(pool.submit(fetched, name))
                if len(coming) == AHEAD:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def fetched(name: str) -> str | FetchedPhoto:
    """Fetch a bucket's object; return any other name as it is.

    Raises:
        StoreError: the store fails, after repeated attempts.
    """
    if not is_bucket(name):
        return name
    store, key = object_at(name)
    assert isinstance(store, Bucket)
    try:
        content = store.read_up_to(key, MAX_BYTES)
        if isinstance(content, int):
            found = f"{name} has {content / 2**20:.0f} MiB; the limit is {MAX_BYTES // 2**20} MiB."
            return FetchedPhoto(name, PhotoTooLargeError(found))
        return FetchedPhoto(name, content)
    except OSError as error:
        return FetchedPhoto(name, PhotoError(f"{name} cannot be read: {error.strerror}."))


def wait_for_disk(path: str) -> None:
    """Read a photo's file, again where the disk or the network file system fails.

    Raises:
        StoreError: it fails after `ATTEMPTS` times.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            photo_bytes(path)
            return
        except PhotoError as error:
            if not is_of_the_disk(error.__cause__):
                return
            if attempt == ATTEMPTS:
                raise StoreError(
                    f"{path} fails, after {ATTEMPTS} attempts.", "Check the disk or network."
                ) from error
        time.sleep(attempt)


def error_row(name: str, error: str, labels: Sequence[str]) -> Row:
    """Return the row of a photo without an answer."""
    return row_of(Prediction(name, error=error), labels)


def absolute_model(model: Path) -> str:
    """Return a model as other processes find it: the name of a shipped one, or its path from the root."""
    return shipped_name(model) or os.fspath(model.absolute())
