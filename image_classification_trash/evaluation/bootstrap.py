"""95% intervals of figures by one bootstrap over photos, in plain numpy.

The bootstrap draws photos with replacement and weights each by how often it was drawn, so that a figure of all
resamples is a matrix product. Intervals are percentiles (Efron and Tibshirani, 1993). scipy's `bootstrap` calls a figure
once per resample, which takes minutes for all figures of an evaluation. Where all resamples agree on a share of 0 or 1, as for
8 of 8 photos, the percentiles have no width, and Wilson's interval stands for them.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from image_classification_trash.arrays import Floats, Ints
from image_classification_trash.evaluation.result import Interval

BINS = 15
"""Number of equal-width bins of the top probability, over which calibration is measured."""
_TINY = 1e-12
_CELLS = 8_000_000
"""Largest number of weights in memory at once: a resample of 100,000 photos has as many."""


def bootstrap_weights(n: int, resamples: int, generator: np.random.Generator) -> Floats:
    """Return weights (1 + resamples, N): row 0 is the sample itself, each further row the counts of one resample."""
    drawn = generator.multinomial(n, np.full(n, 1 / n), size=resamples)
    return np.vstack([np.ones((1, n)), drawn]).astype(np.float64)


def weights_by_group(groups: Ints, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield the weights of photos, (r, N) at a time, where whole groups are drawn with replacement.

    Photos of one group, such as takes of one object, are drawn together, since they are right and wrong together.

    Args:
        groups: group number of each photo, (N,), from 0; all different to draw photos.
        resamples: number of resamples in all; the first row of the first piece is the sample itself.
        seed: of the bootstrap.
    """
    n, generator = int(groups.max()) + 1, np.random.default_rng(seed)
    at_once = max(1, _CELLS // len(groups))
    yield np.ones((1, len(groups)))
    for start in range(0, resamples, at_once):
        drawn = bootstrap_weights(n, min(at_once, resamples - start), generator)[1:]  # (r, G)
        yield drawn[:, groups]


def interval(values: Floats, n: float | None = None) -> Interval | None:
    """Return the interval of a figure.

    Args:
        values: the sample's figure, then those of the resamples, (1 + R,); NaN where it is undefined.
        n: number of photos that a share rests on; None for a figure that is no share.

    Returns:
        None if the figure is undefined for the sample, or for all resamples, so that it has no interval.
    """
    value, drawn = float(values[0]), values[1:][~np.isnan(values[1:])]
    if np.isnan(value) or not len(drawn):
        return None
    low, high = np.percentile(drawn, [2.5, 97.5])
    if low == high and n is not None and value in (0.0, 1.0):
        return Interval.of_share(value, n)
    return Interval(value, float(low), float(high))


def mean_n(sizes: Sequence[int] | Ints) -> float:
    """Return the number of photos at which a share is as certain as the mean of shares of `sizes` photos each."""
    return len(sizes) ** 2 / float(np.sum(1 / np.asarray(sizes, float)))


def ratio(part: Floats, whole: Floats) -> Floats:
    """Return part / whole, NaN where the whole is 0."""
    return np.asarray(np.where(whole > 0, part / np.maximum(whole, _TINY), np.nan))


def mean_of_classes(values: Floats) -> Floats:
    """Return the mean (R,) over the classes for which a resample has a figure, of (R, C); NaN where none has one."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0).sum(1), known.sum(1))


def calibration_error(
    confidence: Floats, right: npt.NDArray[np.bool_], weights: Floats, bins: int = BINS
) -> Floats:
    """Return the expected calibration error of each resample, (R,), over equal-width bins (Guo et al., 2017).

    Args:
        confidence: top probability of each photo, (N,).
        right: whether its class is the right one, (N,).
        weights: of the photos in R resamples, (R, N).
        bins: number of bins.
    """
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = np.stack([weights @ ((place == b) * (right - confidence)) for b in range(bins)])
    return np.asarray(np.abs(gap).sum(0) / weights.sum(1))
