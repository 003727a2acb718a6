"""Plot the speed and accuracy of a benchmark. Needs only matplotlib, so it works without torch."""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from image_classification_trash.config.models import BenchmarkSettings
from image_classification_trash.files import write_bytes
from image_classification_trash.inference.bundle import Bundle
from image_classification_trash.models.benchmark_model import Benchmark, Timing, benchmark
from image_classification_trash.show import Result, Shown


@dataclass(frozen=True)
class BenchmarkReport(Result):
    """A benchmark and the path of its plot; None if matplotlib is not installed."""

    ascii_json = True
    measured: Benchmark
    plot: Path | None

    def for_people(self) -> Iterator[Shown]:
        """Yield the table and the path of the plot."""
        yield from self.measured.for_people()
        yield f"plot: {self.plot}" if self.plot else "no plot: matplotlib is not installed"

    def as_json(self) -> dict[str, Any]:
        """Return the timings and their conditions."""
        return self.measured.as_json()


def benchmark_with_plot(settings: BenchmarkSettings) -> BenchmarkReport:
    """Time a bundle and plot the timings; raises as `benchmark` does."""
    measured = benchmark(settings)
    return BenchmarkReport(measured, plot_benchmark(measured.bundle, measured.timings, settings.reports_dir))


def plot_benchmark(bundle: Bundle, timings: Sequence[Timing], reports_dir: Path) -> Path | None:
    """Plot photos per second at batch size 1 on one thread; returns the file, or None if matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return None
    from image_classification_trash.visualization.plots import speed_and_accuracy, to_png  # noqa: PLC0415

    single = [t for t in timings if t.threads == 1 and t.batch == 1]
    points = [
        (t.engine if t.file == "bundle" else f"{t.engine}, {t.file}", t.photos_a_second, t.accuracy)
        for t in single
    ]
    height, width = bundle.config.input_size
    figure = speed_and_accuracy(
        points, f"{bundle.config.architecture}, {height} x {width}, one thread, one photo at a time"
    )
    path = reports_dir / "figures" / f"benchmark-{bundle.config.name}.png"
    write_bytes(path, to_png(figure))
    return path
