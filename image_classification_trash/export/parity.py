"""The export gate: compare an exported file with the trained model on real photos before accepting it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from image_classification_trash.arrays import Ints
from image_classification_trash.evaluation.export_report import Parity
from image_classification_trash.evaluation.metrics import macro_f1, reliability
from image_classification_trash.inference.images import Pixels
from image_classification_trash.inference.runtimes import Probabilities

Run = Callable[[Pixels], Probabilities]

FLOAT32_TOLERANCE = 1e-4
LOWEST_AGREEMENT = 0.995
LARGEST_LOSS = 0.005
LARGEST_MISS = 0.05
TIMED_RUNS = 30


@dataclass(frozen=True)
class GatePhotos:
    """The photos that exported files are compared on.

    Attributes:
        pixels: uint8 (N, H, W, 3): the validation split, then odd pictures, then drawn backgrounds without waste.
        y_true: class numbers (M,) of the validation split, M <= N.
        files: paths of the validation split's photos.
        backgrounds: number of drawn backgrounds at the end; 0 for a model without a rejection head.
    """

    pixels: Pixels
    y_true: Ints
    files: tuple[Path, ...]
    backgrounds: int = 0


def odd_pictures(size: tuple[int, int]) -> Pixels:
    """Draw pictures that no camera takes, uint8 (6, H, W, 3): they reach the ends of every range."""
    height, width = size
    rows, columns = np.mgrid[0:height, 0:width]
    black, white = np.zeros((height, width, 3), np.uint8), np.full((height, width, 3), 255, np.uint8)
    board = np.repeat((((rows + columns) % 2) * 255).astype(np.uint8)[..., None], 3, axis=2)
    ramp = np.stack([columns * 255 // width, rows * 255 // height, np.full_like(rows, 128)], axis=-1).astype(
        np.uint8
    )
    red = black.copy()
    red[..., 0] = 255
    noise = np.random.default_rng(0).integers(0, 256, black.shape, dtype=np.uint8)
    return np.stack([black, white, board, ramp, red, noise])


def run_all(run: Run, pixels: Pixels, name: str, batch_size: int = 16) -> Probabilities:
    """Return the probabilities (N, C) of photos (N, H, W, 3), computed in batches; `name` labels the progress bar."""
    starts = range(0, len(pixels), batch_size)
    bar = tqdm(starts, desc=f"verify {name}", unit="batch", leave=False)
    return np.concatenate([run(np.ascontiguousarray(pixels[i : i + batch_size])) for i in bar])


def compare(
    reference: Probabilities,
    answers: Probabilities,
    y_true: Ints,
    labels: Sequence[str],
    latency_ms: float,
    backgrounds: int = 0,
    negative_threshold: float = 0.5,
) -> Parity:
    """Compare a file's probabilities (N, C) with the trained model's (N, C).

    The first M photos have a class. The last `backgrounds` photos show no waste; a model with a rejection head has that as
    its last label and rejects photos from a probability of `negative_threshold` on.
    """
    known = len(y_true)
    largest = float(np.abs(reference - answers).max())
    ours, theirs = answers[:known].astype(np.float64), reference[:known].astype(np.float64)
    difference = np.abs(ours - theirs)
    return Parity(
        photos=len(reference),
        labelled=known,
        largest_difference=largest,
        mean_difference=float(difference.mean()),
        top1_agreement=float((ours.argmax(1) == theirs.argmax(1)).mean()),
        accuracy=float((ours.argmax(1) == y_true).mean()),
        accuracy_of_model=float((theirs.argmax(1) == y_true).mean()),
        macro_f1=macro_f1(y_true, ours.argmax(1)),
        macro_f1_of_model=macro_f1(y_true, theirs.argmax(1)),
        ece=reliability(y_true, ours).ece,
        ece_of_model=reliability(y_true, theirs).ece,
        moved_most=labels[int(difference.mean(0).argmax())],
        latency_ms=latency_ms,
        rejected=_rejected(answers, backgrounds, negative_threshold),
        rejected_of_model=_rejected(reference, backgrounds, negative_threshold),
    )


def _rejected(answers: Probabilities, backgrounds: int, threshold: float) -> float | None:
    return float((answers[-backgrounds:, -1] >= threshold).mean()) if backgrounds else None


def shortfall(parity: Parity, precision: str) -> str | None:
    """Describe the limit that a file of this precision misses; None if it is good.

    With few photos, a single one exceeds the limits, so one photo is always tolerated.
    """
    if not np.isfinite(parity.largest_difference):
        return "some probabilities are not numbers"
    if precision == "float32" and parity.largest_difference > FLOAT32_TOLERANCE:
        return f"a probability differs by {parity.largest_difference:.2g}, more than {FLOAT32_TOLERANCE:g}"
    lowest = min(LOWEST_AGREEMENT, 1 - 1 / parity.labelled)
    if precision == "fp16" and parity.top1_agreement < lowest:
        return f"the top class agrees on {parity.top1_agreement:.2%} of the photos, less than {lowest:.2%}"
    loss, largest = parity.accuracy_of_model - parity.accuracy, max(LARGEST_LOSS, 1 / parity.labelled)
    if loss > largest + 1e-9:
        return f"accuracy falls by {100 * loss:.2f} points, more than {100 * largest:.2f}"
    away, away_of_model = parity.rejected, parity.rejected_of_model
    if away is not None and away_of_model is not None and away < away_of_model - LARGEST_MISS - 1e-9:
        return (
            f"{away:.0%} of the backgrounds without waste are rejected, and {away_of_model:.0%} by the model"
        )
    return None


def latency(run: Run, photo: Pixels) -> float:
    """Return the median time of one photo (1, H, W, 3), in milliseconds."""
    times = []
    for _ in range(TIMED_RUNS + 3):
        start = time.perf_counter()
        run(photo)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times[3:]))  # the first runs warm up the caches
