"""95% intervals of figures by one bootstrap over photos, in plain numpy.

The bootstrap draws photos with replacement and weights each by how often it was drawn, so that a figure of all
resamples is a matrix product. Intervals are percentiles (Efron and Tibshirani, 1993). scipy's `bootstrap` calls a figure
once per resample, which takes minutes for all figures of an evaluation.
"""

import numpy as np

from image_classification_trash.arrays import Floats
from image_classification_trash.evaluation.result import Interval


def bootstrap_weights(n: int, resamples: int, generator: np.random.Generator) -> Floats:
    """Return weights (1 + resamples, N): row 0 is the sample itself, each further row the counts of one resample."""
    drawn = generator.multinomial(n, np.full(n, 1 / n), size=resamples)
    return np.vstack([np.ones((1, n)), drawn]).astype(np.float64)


def interval(values: Floats) -> Interval | None:
    """Return the interval of a figure, given its values (1 + R,): the sample's, then those of the resamples.

    None if the figure is undefined for the sample (NaN); resamples for which it is undefined are left out.
    """
    if np.isnan(values[0]):
        return None
    low, high = np.nanpercentile(values[1:], [2.5, 97.5])
    return Interval(float(values[0]), float(low), float(high))
