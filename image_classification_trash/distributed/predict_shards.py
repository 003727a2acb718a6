"""Answer shards of photos: on this machine or on Ray, resumed where an earlier run stopped.

trash-classifier predict --shards shards --parquet answers
trash-classifier predict --shards s3://bucket/shards --parquet s3://bucket/answers --engine ray --actors 64
JOB_COMPLETIONS=8 JOB_COMPLETION_INDEX=0 trash-classifier predict --shards shards --parquet answers --engine indexed
"""

import io
import json
import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from image_classification_trash.config.models import PredictSettings
from image_classification_trash.continuation import Difference, differences, listed
from image_classification_trash.distributed.shard_process import answer_embedded
from image_classification_trash.distributed.shard_work import Outcome, ShardJob, absolute_model
from image_classification_trash.distributed.shards import Shard, ShardIndex, is_shard_name, read_index
from image_classification_trash.distributed.stores import (
    UNFINISHED,
    File,
    Store,
    absolute,
    is_bucket,
    store_at,
)
from image_classification_trash.errors import SettingsError, ShardError
from image_classification_trash.files import only_writer
from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.inference.model_store import chosen_model
from image_classification_trash.inference.prediction_table import arrow_and_parquet
from image_classification_trash.models.predict_model import answers_depend_on
from image_classification_trash.show import GOOD, SOME_UNREADABLE, Note, Result, Shown

FAILED_IN_A_ROW = 10
"""Number of shards that fail one after the other, after which the others are not tried."""
_TAIL, _READERS = 2**16, 16


@dataclass(frozen=True)
class JobPart:
    """The shards that one of several processes answers, which know nothing of each other: every `completions`-th one.

    Attributes:
        index: number of the process, and of its first shard.
        completions: number of the processes.
    """

    index: int = 0
    completions: int = 1

    def has(self, number: int) -> bool:
        """Return whether a shard, by its number, is in the part."""
        return number % self.completions == self.index


@dataclass(frozen=True)
class ShardsAnswered(Result):
    """Answers of the run's shards: where they are, how many shards and photos this and earlier runs answered."""

    answers: str
    shards: int
    photos: int
    unreadable: int
    answered_before: int
    lost_processes: int

    def for_people(self) -> Iterator[Shown]:
        """Yield the place and the counts, for standard error."""
        before = f", {self.answered_before:,} of them before" if self.answered_before else ""
        yield Note(
            f"{self.answers}: {self.shards:,} shards{before}; {self.photos:,} photos, {self.unreadable:,} of them unreadable"
        )

    def as_json(self) -> dict[str, Any]:
        """Return the place and the counts."""
        return asdict(self)

    @property
    def exit_status(self) -> int:
        """Return `SOME_UNREADABLE` if any photo could not be read, else `GOOD`."""
        return SOME_UNREADABLE if self.unreadable else GOOD


def predict_shards(settings: PredictSettings) -> ShardsAnswered:
    """Answer all shards that have no answer yet.

    Raises:
        SettingsError: there are no shards, or the answers that exist are to other shards or by another model.
        ShardError: shards failed; all others are answered.
        BusyError: another run on this machine writes the same answers.
    """
    assert settings.shards is not None and settings.parquet is not None
    arrow_and_parquet()
    part = part_of_job(os.environ) if settings.engine == "indexed" else JobPart()
    index, job = read_index(settings.shards), job_of(settings)
    asked = [number for number in range(len(index.digests)) if part.has(number)]
    photos = sum(map(index.photos_in, asked))
    with ExitStack() as end:
        if not is_bucket(job.answers):
            answers = Path(job.answers)
            end.enter_context(only_writer(answers if part == JobPart() else answers / f"part-{part.index}"))
            answers.mkdir(exist_ok=True)
        before = answered_shards(store_at(job.answers), index, job.made_with, part)
        todo = (shard for shard in index.shards() if part.has(shard.number) and shard.number not in before)
        unreadable = lost = 0
        if len(before) < len(asked):
            done = sum(map(index.photos_in, before))
            unreadable, lost = followed(engine_of(settings, job, todo), len(asked), photos, done)
        if part == JobPart():  # the other processes of a job still write there
            with suppress(OSError):  # there is none in a bucket
                (Path(job.answers) / UNFINISHED).rmdir()
    unreadable += sum(before.values())
    return ShardsAnswered(settings.parquet, len(asked), photos, unreadable, len(before), lost)


def part_of_job(environment: Mapping[str, str]) -> JobPart:
    """Read which part of the shards this process answers, as an Indexed Job of Kubernetes numbers its pods.

    Raises:
        SettingsError: JOB_COMPLETION_INDEX or JOB_COMPLETIONS is missing, or they do not fit together.
    """
    found = tuple(environment.get(name, "") for name in ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"))
    if all(text.isdecimal() and len(text) < 10 for text in found) and int(found[0]) < int(found[1]):
        return JobPart(int(found[0]), int(found[1]))
    raise SettingsError(
        f"--engine indexed does not know its part: JOB_COMPLETION_INDEX is {found[0]!r}, JOB_COMPLETIONS {found[1]!r}.",
        "Kubernetes sets the first in an Indexed Job, from 0; set the second to the job's number of completions.",
    )


def engine_of(settings: PredictSettings, job: ShardJob, shards: Iterable[Shard]) -> Generator[Outcome]:
    """Return the engine that the settings name, at work on the shards."""
    if settings.engine == "ray":
        from image_classification_trash.distributed.ray_engine import answer_on_ray  # noqa: PLC0415  an extra

        return answer_on_ray(job, shards, settings.address, settings.actors)
    return answer_embedded(job, shards)


def job_of(settings: PredictSettings) -> ShardJob:
    """Load the model once, here, and describe the work for other processes."""
    assert settings.shards is not None and settings.parquet is not None
    model = chosen_model(settings.model, settings.models_dir)
    classifier = TrashClassifier.load(model, settings.runtime, settings.threads)
    return ShardJob(
        absolute(settings.shards),
        absolute(settings.parquet),
        absolute_model(model),
        settings.runtime,
        settings.threads,
        settings.batch_size,
        settings.max_pixels,
        labels=tuple(classifier.config.labels),
        made_with=answers_depend_on(classifier, model, settings.max_pixels),
    )


def followed(engine: Generator[Outcome], shards: int, photos: int, done: int) -> tuple[int, int]:
    """Follow an engine with a progress bar; return the number of unreadable photos and of lost processes.

    Args:
        engine: at work on the shards that have no answer.
        shards: number of shards, with those that have one.
        photos: number of photos in all of them.
        done: number of photos that are answered already.

    Raises:
        ShardError: shards failed.
    """
    unreadable = lost = in_a_row = 0
    failures: list[Outcome] = []
    with closing(engine), tqdm(total=photos, initial=done, desc="classify", unit="photo") as bar:
        for outcome in engine:
            unreadable, lost = unreadable + outcome.unreadable, lost + outcome.lost
            bar.update(outcome.photos)
            in_a_row = 0 if outcome.failure is None else in_a_row + 1
            if outcome.failure is not None:
                failures.append(outcome)
            if in_a_row == FAILED_IN_A_ROW:
                break
    if failures:
        first = failures[0]
        found = f"{len(failures):,} of {shards:,} shards failed, first {first.shard.name}: {first.failure}"
        raise ShardError(found, "Run the command again: it answers the shards that have no answer yet.")
    return unreadable, lost


def answered_shards(
    store: Store, index: ShardIndex, made_with: Mapping[str, object], part: JobPart
) -> dict[int, int]:
    """Return the number of unreadable photos of each shard of a part that is answered, by its number, after checking them.

    Raises:
        SettingsError: an answer belongs to other shards or was made by another model, or another file lies there.
    """
    files = []
    for file in store.files():
        if is_shard_name(file.name):
            files += [file] * part.has(int(file.name.partition(".")[0]))
        elif not file.name.startswith(("_", ".")):
            found = f"{store.full(file.name)} is no answer to a shard."
            raise SettingsError(found, "Give --parquet a folder of its own.")
    shards = dict(enumerate(index.shards()))
    counts = {}
    with ThreadPoolExecutor(_READERS) as pool:
        pairs = zip(files, pool.map(lambda file: metadata_of(store, file), files), strict=True)
        for file, metadata in pairs:
            number = int(file.name.partition(".")[0])
            checked(store.full(file.name), metadata, shards.get(number), made_with)
            counts[number] = int(metadata["unreadable"])
    return counts


def metadata_of(store: Store, file: File) -> dict[str, str]:
    """Read the metadata at the end of a Parquet file; empty where it is no Parquet file."""
    arrow, parquet = arrow_and_parquet()
    tail = store.read(file.name, max(0, file.size - _TAIL), file.size)
    needed = int.from_bytes(tail[-8:-4], "little") + 12
    if len(tail) < needed <= file.size:
        tail = store.read(file.name, file.size - needed, file.size)
    try:
        found = parquet.read_metadata(io.BytesIO(b"PAR1" + tail)).metadata or {}
    except arrow.ArrowException:
        return {}
    return {key.decode(): value.decode() for key, value in found.items()}


def checked(
    name: str, metadata: Mapping[str, str], shard: Shard | None, made_with: Mapping[str, object]
) -> None:
    """Raise a SettingsError, which lists what differs, unless an answer is one to this shard by this model."""
    if "made_with" not in metadata or "unreadable" not in metadata:
        raise SettingsError(f"{name} is no answer to a shard.", "Give --parquet a folder of its own.")
    now = json.loads(json.dumps(made_with))
    changes = differences(json.loads(metadata["made_with"]), now)
    digest = "none" if shard is None else shard.digest[:12]
    if metadata["shard"][:12] != digest:
        changes.append(Difference("shard", metadata["shard"][:12], digest))
    if changes:
        hint = "Give --parquet another folder, or the same shards, model and settings as before."
        raise SettingsError(
            f"{name} answers other shards or was made with another model: {listed(changes)}.", hint
        )
