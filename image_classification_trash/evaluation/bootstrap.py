"""95% intervals of figures by one bootstrap over photos, in plain numpy.

The bootstrap draws photos with replacement and weights each by how often it was drawn, so that a figure of all
resamples is a matrix product. Intervals are percentiles (Efron and Tibshirani, 1993). scipy's `bootstrap` calls a figure
once per resample, which takes minutes for all figures of an evaluation. Where all resamples agree on a share of 0 or 1, as for
8 of 8 photos, the percentiles have no width, and Wilson's interval stands for them.
"""

from collections.abc import Sequence

import numpy as np

from image_classification_trash.arrays import Floats, Ints
from image_classification_trash.evaluation.result import Interval


def bootstrap_weights(n: int, resamples: int, generator: np.random.Generator) -> Floats:
    """Return weights (1 + resamples, N): row 0 is the sample itself, each further row the counts of one resample."""
    drawn = generator.multinomial(n, np.full(n, 1 / n), size=resamples)
    return np.vstack([np.ones((1, n)), drawn]).astype(np.float64)


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
