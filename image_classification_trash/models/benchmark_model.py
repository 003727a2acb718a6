"""Benchmark all files and engines of a bundle side by side.

    trash-classifier benchmark models/trashnet --json > benchmark.json

Each engine runs in its own process, which isolates its load time and memory. The processes run in turn, round after round,
so that other load on the machine affects all of them alike. Figures are medians over the rounds.
"""

import importlib.util
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from tqdm import tqdm

from image_classification_trash.config.models import BenchmarkSettings
from image_classification_trash.errors import DatasetError, TrashClassifierError
from image_classification_trash.evaluation.export_report import exported_files
from image_classification_trash.inference.bundle import EXPORT, Bundle
from image_classification_trash.inference.images import PHOTO_SUFFIXES, read_photo
from image_classification_trash.inference.model_store import chosen_bundle
from image_classification_trash.inference.runtimes import FILE_RUNTIMES, Runtime, open_file, read_model
from image_classification_trash.show import Result, Shown, Table

BATCHES = (1, 32)
PLAIN = "torch + torchvision transforms"


@dataclass(frozen=True)
class Contestant:
    """An exported file, or the bundle itself, in an engine with a number of threads."""

    engine: str
    file: str
    threads: int
    path: Path


@dataclass(frozen=True)
class Timing:
    """Timings of one contestant at one batch size, in milliseconds per photo, as medians over the rounds.

    Attributes:
        decode: from the bytes of a photo to pixels.
        infer: from pixels to probabilities.
        infer_p95: 95th percentile of `infer` over the runs of all rounds.
        photos_a_second: throughput of decoding followed by inference.
        load: seconds from the start of importing the engine to a loaded model.
        memory: peak memory of the process, in MB.
        size: size of the file, in MB.
        accuracy: on the validation split, as the export measured it; None if it did not.
    """

    engine: str
    file: str
    threads: int
    batch: int
    decode: float
    infer: float
    infer_p95: float
    photos_a_second: float
    load: float
    memory: float
    size: float
    accuracy: float | None


@dataclass(frozen=True)
class Lap:
    """One contestant's pass over all photos: seconds per photo of decoding, and of each inference run."""

    decode: float
    infer: tuple[float, ...]


@dataclass(frozen=True)
class Life:
    """Load time of a contestant (from the start of the import, in seconds) and peak memory of its process (in MB)."""

    load: float
    memory: float


@dataclass(frozen=True)
class Failure:
    """An error in a contestant's process."""

    message: str


@dataclass(frozen=True)
class Benchmark(Result):
    """The timings of a bundle's files and engines."""

    bundle: Bundle
    timings: tuple[Timing, ...]

    def for_people(self) -> Iterator[Shown]:
        """Yield the model, and a table with a row per contestant and batch size."""
        yield f"model: {self.bundle.config.title}"
        times = ["decode ms", "infer ms", "p95", "photos/s"]
        header = ["engine", "file", "threads", "batch", *times, "load s", "MB", "file MB", "accuracy"]
        yield Table(header, [_row(timing) for timing in self.timings])

    def as_json(self) -> dict[str, Any]:
        """Return the timings and their conditions."""
        conditions = {
            "model": self.bundle.config.name,
            "architecture": self.bundle.config.architecture,
            "input_size": self.bundle.config.input_size,
            "cores": os.cpu_count(),
        }
        return {"conditions": conditions, "timings": [asdict(timing) for timing in self.timings]}


def benchmark(settings: BenchmarkSettings) -> Benchmark:
    """Time every file of a bundle in its engine, and the bundle in torch if it is installed; or one exported file.

    Raises:
        BundleError: there is no model, or it is damaged.
        DatasetError: there are no photos to time with.
    """
    bundle = read_model(chosen_bundle(settings.bundle, settings.models_dir))
    photos = some_photos(settings.photos, settings.count)
    entrants = contestants(bundle)
    with Arena(bundle, entrants, photos) as arena:
        rounds = [
            [arena.lap(number, batch) for number in range(len(entrants)) for batch in BATCHES]
            for _ in tqdm(range(settings.rounds), desc="benchmark", unit="round")
        ]
        lives = [arena.life(number) for number in range(len(entrants))]
    accuracies: dict[str, float] = {}
    for name, record in exported_files(bundle).items():
        if parity := record.parity.get("file"):
            accuracies |= {name: parity.accuracy, "bundle": parity.accuracy_of_model}
    timings = []
    for place, measured in enumerate(zip(*rounds, strict=True)):
        entrant, life = entrants[place // len(BATCHES)], lives[place // len(BATCHES)]
        timings.append(
            _timing(entrant, BATCHES[place % len(BATCHES)], measured, life, accuracies.get(entrant.file))
        )
    return Benchmark(bundle, tuple(timings))


def contestants(bundle: Bundle) -> list[Contestant]:
    """List what can run here: every exported file whose engine is installed, and torch."""
    cores = os.cpu_count() or 1
    found = []
    files = [bundle.path] if bundle.is_file else sorted((bundle.path / EXPORT).glob("*"))
    for engine, (suffix, _) in FILE_RUNTIMES.items():
        for path in (file for file in files if file.suffix == suffix):
            with suppress(TrashClassifierError):  # the engine is not installed, or cannot open the file
                open_file(path)
                found.append(Contestant(engine, path.name, 1, path))
    if importlib.util.find_spec("torch") is not None and not bundle.is_file:
        found += [Contestant(engine, "bundle", 1, bundle.path) for engine in ("torch", PLAIN)]
    return found + [replace(entrant, threads=cores) for entrant in found if cores > 1]


def some_photos(folder: Path, count: int) -> list[bytes]:
    """Read the bytes of up to `count` photos below a folder, evenly spaced by name.

    Raises:
        DatasetError: there are none.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
    if not paths:
        raise DatasetError(f"{folder} holds no photos to time with.", "Give a folder with --photos.")
    step = max(1, len(paths) // count)
    return [path.read_bytes() for path in paths[::step][:count]]


class Arena:
    """The processes of the contestants."""

    def __init__(self, bundle: Bundle, entrants: Sequence[Contestant], photos: Sequence[bytes]) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would bring this process's memory along
        self._lines: list[Connection] = []
        self._processes = []
        for entrant in entrants:
            line, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, bundle, entrant, photos), daemon=True)
            process.start()
            self._lines.append(line)
            self._processes.append(process)
            self._receive(line)  # loaded; one after the other, so that load times are not of a crowd

    def __enter__(self) -> "Arena":
        return self

    def __exit__(self, *_: object) -> None:
        for line, process in zip(self._lines, self._processes, strict=True):
            line.close()
            process.join(10)

    def lap(self, number: int, batch: int) -> Lap:
        """Have one contestant run all photos in batches of a given size."""
        self._lines[number].send(batch)
        lap: Lap = self._receive(self._lines[number])
        return lap

    def life(self, number: int) -> Life:
        """Ask one contestant for its load time and memory, which batch size 0 stands for."""
        self._lines[number].send(0)
        life: Life = self._receive(self._lines[number])
        return life

    def _receive(self, line: Connection) -> Any:
        answer = line.recv()
        if isinstance(answer, Failure):
            raise TrashClassifierError(answer.message)
        return answer


def _serve(line: Connection, bundle: Bundle, entrant: Contestant, photos: Sequence[bytes]) -> None:
    """Run a contestant's process: load the model, then carry out requests until the pipe is closed."""
    start = time.perf_counter()
    try:
        decode, run = _load(bundle, entrant)
        load = time.perf_counter() - start
        line.send(None)  # loaded
        while True:
            batch = line.recv()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
                1e6 if sys.platform == "darwin" else 1e3
            )
            line.send(_time(photos, batch, decode, run) if batch else Life(load, peak))
    except EOFError:
        return
    except Exception as error:
        line.send(Failure(f"{entrant.engine} with {entrant.file}: {error}"))


def _load(bundle: Bundle, entrant: Contestant) -> tuple[Callable[[bytes], Any], Callable[[Any], Any]]:
    config = bundle.config
    if entrant.engine == PLAIN:
        return plain_torch(bundle, entrant.threads)
    run: Runtime
    if entrant.engine == "torch":
        from image_classification_trash.networks.runtime import TorchRuntime  # noqa: PLC0415  not every install has it

        run = TorchRuntime(bundle, entrant.threads)
    else:
        _, run = open_file(entrant.path, threads=entrant.threads)
    return lambda data: read_photo(data, config.input_size, config.resize_mode), lambda pixels: run(
        np.stack(pixels)
    )


def plain_torch(bundle: Bundle, threads: int) -> tuple[Callable[[bytes], Any], Callable[[Any], Any]]:
    """Return the baseline, the same network with torchvision's transforms and eager torch: decode and run."""
    import io  # noqa: PLC0415

    import torch  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415
    from torchvision import transforms  # noqa: PLC0415

    from image_classification_trash.networks.network import load_network  # noqa: PLC0415

    torch.set_num_threads(threads)
    network = load_network(bundle).to(memory_format=torch.contiguous_format)
    mean, std = (buffer.flatten().tolist() for buffer in (network.mean / 255, network.std / 255))
    network.mean.zero_()
    network.std.fill_(1)  # the transforms normalise
    steps = [
        transforms.Resize(bundle.config.input_size),
        transforms.ToTensor(),
        transforms.Normalize(mean, std),
    ]
    prepare = transforms.Compose(steps)

    def decode(data: bytes) -> torch.Tensor:
        tensor: torch.Tensor = prepare(Image.open(io.BytesIO(data)).convert("RGB"))
        return tensor

    def run(tensors: list[torch.Tensor]) -> Any:
        with torch.no_grad():
            return network.from_embeddings(network.embed_all(torch.stack(tensors))).numpy()

    return decode, run


def _time(
    photos: Sequence[bytes], batch: int, decode: Callable[[bytes], Any], run: Callable[[Any], Any]
) -> Lap:
    decoding, running = 0.0, []
    wanted = (
        photos
        if batch == 1
        else (list(photos) * (1 + batch // len(photos)))[: max(batch, len(photos) // batch * batch)]
    )
    for i in range(0, len(wanted), batch):
        start = time.perf_counter()
        pixels = [decode(data) for data in wanted[i : i + batch]]
        middle = time.perf_counter()
        run(pixels)
        running.append((time.perf_counter() - middle) / batch)
        decoding += middle - start
    return Lap(decoding / len(wanted), tuple(running))


def _timing(
    entrant: Contestant,
    batch: int,
    rounds: Sequence[Lap],
    life: Life,
    accuracy: float | None,
) -> Timing:
    decode = median(lap.decode for lap in rounds)
    infer = median(median(lap.infer) for lap in rounds)
    p95 = float(np.percentile([t for lap in rounds for t in lap.infer], 95))
    files = (
        [f for f in entrant.path.rglob("*") if f.suffix == ".safetensors"]
        if entrant.path.is_dir()
        else [entrant.path]
    )
    return Timing(
        entrant.engine, entrant.file, entrant.threads, batch, 1e3 * decode, 1e3 * infer, 1e3 * p95, 1 / (decode + infer),
        life.load, life.memory, sum(f.stat().st_size for f in files) / 1e6, accuracy,
    )  # fmt: skip


def _row(t: Timing) -> list[str]:
    return [
        t.engine,
        t.file,
        str(t.threads),
        str(t.batch),
        f"{t.decode:.1f}",
        f"{t.infer:.1f}",
        f"{t.infer_p95:.1f}",
        f"{t.photos_a_second:.0f}",
        f"{t.load:.2f}",
        f"{t.memory:.0f}",
        f"{t.size:.1f}",
        "–" if t.accuracy is None else f"{t.accuracy:.1%}",
    ]
