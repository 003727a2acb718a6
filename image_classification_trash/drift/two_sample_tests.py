"""Two-sample tests: of counts (population stability index) and of embeddings (MMD).

The p-value of each comes from random permutations, which is exact at any sample size; each also states what it can detect.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist
from scipy.stats import chi2, ncx2

from image_classification_trash.arrays import Embeddings, Floats, Ints

SLIGHT, LARGE = 0.1, 0.25
"""Population stability index from which a shift counts as slight and as large, a convention of credit scoring (Siddiqi,
Credit Risk Scorecards, 2006)."""
MIN_SHARE = 0.05
"""Smallest share of the reference in an interval of a histogram; smaller intervals are merged."""
MOST_COMPARED = 2_500
"""Largest number of embeddings of each sample that are compared; time and memory grow with its square."""
_PSEUDO_COUNT = 0.5
"""Added to each cell, so that an empty cell does not make the index infinite."""


@dataclass(frozen=True)
class Comparison:
    """One statistic of two samples.

    Attributes:
        name: what was compared.
        value: value of the statistic.
        p_value: share of random permutations with a value at least as large, the sample itself included.
        limit: critical value at `level`: smaller values are consistent with chance.
        power: probability of detecting a large shift (an index of 0.25) at these sample sizes; None for MMD, which has
            no such scale.
    """

    name: str
    value: float
    p_value: float
    limit: float
    power: float | None


def compare_counts(
    name: str, reference: Ints, stream: Ints, level: float, permutations: int, seed: int
) -> Comparison:
    """Compare two histograms (B,) by the population stability index, with a permutation test.

    Under one distribution the index is about (1/m + 1/n) times a chi-squared variable with B - 1 degrees of freedom
    (Yurdakul and Naranjo, Statistical properties of the population stability index, Journal of Risk Model
    Validation, 2020), so that at small n it is large by chance alone; the noncentral version of that law gives the power.

    Args:
        name: of the comparison.
        reference: counts of m photos.
        stream: counts of n photos.
        level: significance level.
        permutations: number of random permutations.
        seed: of the permutations.
    """
    pooled, count = reference + stream, int(stream.sum())
    drawn = np.random.default_rng(seed).multivariate_hypergeometric(
        pooled, count, size=permutations, method="marginals"
    )
    by_chance = np.array([stability_index(pooled - counts, counts) for counts in drawn])
    value = stability_index(reference, stream)
    scale, freedom = 1 / reference.sum() + 1 / count, max(int((pooled > 0).sum()) - 1, 1)
    power = float(ncx2.sf(chi2.isf(level, freedom), freedom, LARGE / scale))
    return Comparison(name, value, _p_value(value, by_chance), _limit(by_chance, level), power)


def stability_index(reference: Ints, stream: Ints) -> float:
    """Return the sum over cells of (q - p) ln(q / p), where p and q are the shares of the reference and of the stream."""
    p, q = (
        (counts + _PSEUDO_COUNT) / (counts.sum() + _PSEUDO_COUNT * len(counts))
        for counts in (reference, stream)
    )
    return float(((q - p) * np.log(q / p)).sum())


def merged(reference: Ints, *histograms: Ints) -> list[Ints]:
    """Merge neighbouring intervals of all histograms (B,) until each contains `MIN_SHARE` of the reference."""
    starts, inside = [0], 0
    for i, count in enumerate(reference[:-1]):
        inside += int(count)
        if inside >= MIN_SHARE * reference.sum():
            starts.append(i + 1)
            inside = 0
    if len(starts) > 1 and reference[starts[-1] :].sum() < MIN_SHARE * reference.sum():
        starts.pop()
    return [np.add.reduceat(counts, starts) for counts in (reference, *histograms)]


def compare_embeddings(
    name: str, reference: Embeddings, stream: Embeddings, level: float, permutations: int, seed: int
) -> Comparison:
    """Compare embeddings (M, D) and (N, D) by the squared maximum mean discrepancy (MMD), with a permutation test.

    Unbiased estimate with a Gaussian kernel of median bandwidth; of a sample larger than `MOST_COMPARED`, that many are
    drawn at random.

    Gretton et al.: A Kernel Two-Sample Test, Journal of Machine Learning Research 13 (2012). Applied to
    embeddings and to a classifier's outputs, as here, by Rabanser, Günnemann, Lipton: Failing Loudly, NeurIPS 2019.
    """
    generator = np.random.default_rng(seed)
    reference, stream = (
        sample if len(sample) <= MOST_COMPARED else generator.choice(sample, MOST_COMPARED, replace=False)
        for sample in (reference, stream)
    )
    pooled = np.vstack([reference, stream]).astype(np.float64)
    distances = cdist(pooled, pooled, "sqeuclidean")
    bandwidth = float(np.median(distances[np.triu_indices(len(pooled), 1)]))
    kernel = np.exp(-distances / (bandwidth or 1.0)).astype(np.float32)
    membership = np.zeros((permutations + 1, len(pooled)), np.float32)
    membership[0, : len(reference)] = 1
    for row in membership[1:]:
        row[generator.permutation(len(pooled))[: len(reference)]] = 1
    values = _discrepancies(kernel, membership)
    return Comparison(
        name, float(values[0]), _p_value(values[0], values[1:]), _limit(values[1:], level), None
    )


def _discrepancies(kernel: npt.NDArray[np.float32], membership: npt.NDArray[np.float32]) -> Floats:
    """Return the unbiased squared MMD (P,) for each row of `membership` (P, M + N), which is 1 for reference photos."""
    m = float(membership[0].sum())
    n = len(kernel) - m
    within = ((membership @ kernel) * membership).sum(1, dtype=np.float64)
    rows = (membership @ kernel.sum(1)).astype(np.float64)
    across = rows - within
    outside = float(kernel.sum(dtype=np.float64)) - within - 2 * across
    values = (within - m) / (m * (m - 1)) + (outside - n) / (n * (n - 1)) - 2 * across / (m * n)
    return np.asarray(values, dtype=np.float64)


def _p_value(value: float, by_chance: Floats) -> float:
    """Return the p-value, with the sample itself among the permutations, so that it is never 0 and the level holds."""
    return float((1 + (by_chance >= value - 1e-12).sum()) / (1 + len(by_chance)))


def _limit(by_chance: Floats, level: float) -> float:
    return float(np.quantile(by_chance, 1 - level))
