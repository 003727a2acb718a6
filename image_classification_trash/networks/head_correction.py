"""Adapt a linear head to a few labelled photos: a correction that a ridge holds near the head as it was.

    head = Head(weight, bias)
    corrected = adapt_head(head, Examples(embedded, y_true))

Only numpy is needed, so that a model can be adapted where it is used. The method is multinomial logistic regression
on frozen embeddings, with the scores of the given head as offsets and an L2 penalty on what is added to them (as in
biased regularisation, Tommasi et al., 2014). `docs/how-to/adapt.md` says what it was measured on.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from image_classification_trash.arrays import Embeddings, Floats, Ints

RIDGE = 0.001
"""Strength of the penalty, at embeddings of mean length 1; chosen on left-out families (docs/how-to/adapt.md)."""
STEPS, MOMENTUM = 150, 0.9
PRIOR_PHOTOS = 50
"""Number of photos that the given temperature counts as much as, against the one that fits the new photos."""
MOST_FITS = 100
"""Largest number of fits to measure with: photos are left out one by one, or of more photos in so many groups."""
_TEMPERATURES = np.geomspace(0.05, 20, 400)


@dataclass(frozen=True)
class Head:
    """A linear head, float64: scores are `embeddings @ weight.T + bias`, with weight (C, D) and bias (C,)."""

    weight: Floats
    bias: Floats

    def __call__(self, embedded: Embeddings) -> Floats:
        """Map embeddings (N, D) to scores (N, C)."""
        return np.asarray(embedded.astype(np.float64) @ self.weight.T + self.bias)

    def divided_by(self, temperature: float) -> "Head":
        """Return the head whose scores are divided by a temperature."""
        return Head(self.weight / temperature, self.bias / temperature)


@dataclass(frozen=True)
class Examples:
    """What a head is adapted to.

    Attributes:
        embedded: embeddings, float32 (N, D).
        y_true: class numbers (N,), of two classes or more.
        means: mean embedding of each class of the training photos, float32 (C, D); None if they are not known.
    """

    embedded: Embeddings
    y_true: Ints
    means: Embeddings | None = None

    def anchored(self) -> tuple[Embeddings, Ints]:
        """Return the embeddings (N + A, D) and class numbers of the photos, then those of the A known means."""
        if self.means is None:
            return self.embedded, self.y_true
        return np.concatenate([self.embedded, self.means]), np.r_[self.y_true, np.arange(len(self.means))]


def adapt_head(head: Head, examples: Examples) -> Head:
    """Return the head with a correction that is fitted to photos.

    Every class weighs the same, however many photos it has. The means of the training photos weigh as much as all photos
    together, so that little is forgotten. Without them, classes without photos take no part in the fit and keep their
    scores.

    Args:
        head: whose scores are at temperature 1.
        examples: photos of two classes or more.
    """
    embedded, y_true = examples.anchored()
    vectors, scale = scaled(embedded)
    dual = fit_dual(vectors @ vectors.T, head(embedded), y_true, len(examples.y_true))
    return Head(head.weight + dual.T @ vectors / scale, head.bias)


def held_out_scores(head: Head, examples: Examples) -> Floats:
    """Return scores (N, C) of the photos by heads that are adapted to the other photos; arguments as of `adapt_head`.

    Each photo is left out on its own; of more than `MOST_FITS` photos, a group at a time.
    """
    embedded, y_true = examples.anchored()
    vectors, _ = scaled(embedded)
    gram, scores, photos = vectors @ vectors.T, head(embedded), len(examples.y_true)
    adapted = scores[:photos].copy()
    for out in left_out(examples.y_true):
        rest = np.setdiff1d(np.arange(len(y_true)), out)
        dual = fit_dual(gram[np.ix_(rest, rest)], scores[rest], y_true[rest], photos - len(out))
        adapted[out] += gram[np.ix_(out, rest)] @ dual
    return adapted


def left_out(y_true: Ints) -> Iterator[Ints]:
    """Yield the photos to leave out of each fit: one, or a group that is mixed as the classes (N,) are."""
    count = min(len(y_true), MOST_FITS)
    order = np.argsort(y_true, kind="stable")
    for first in range(count):
        yield order[first::count]


def fit_dual(gram: Floats, scores: Floats, y_true: Ints, photos: int) -> Floats:
    """Return the correction as weights (N, C) of what it is fitted to; it adds `gram @ weights` to the scores.

    Args:
        gram: products of embeddings (N, N).
        scores: before the correction (N, C).
        y_true: class numbers (N,).
        photos: number of photos among the N, which come first; the rest are means of training photos.
    """
    present, places = np.unique(y_true, return_inverse=True)
    target, weight = np.eye(len(present))[places], np.zeros(len(y_true))
    for rows in (slice(None, photos), slice(photos, None)):
        own = 1 / np.maximum(np.bincount(places[rows], minlength=len(present)), 1)[places[rows]]
        weight[rows] = own / max(own.sum(), 1)  # photos weigh 1 in all, and so do means
    dual, step = np.zeros_like(target), np.zeros_like(target)
    rate = 1 / (0.5 * np.mean(np.diag(gram)) * weight.sum() + RIDGE)
    for _ in range(STEPS):
        error = softmax(scores[:, present] + gram @ dual) - target
        step = MOMENTUM * step - rate * (error * weight[:, None] + RIDGE * dual)
        dual = dual + step
    whole = np.zeros_like(scores)
    whole[:, present] = dual
    return whole


def refit_temperature(given: float, scores: Floats, y_true: Ints) -> float:
    """Return the temperature that fits scores (N, C) of held-out photos, pulled towards the given one the fewer they are."""
    rows = np.arange(len(y_true))
    losses = [-np.log(np.maximum(softmax(scores / t)[rows, y_true], 1e-12)).mean() for t in _TEMPERATURES]
    fitted = _TEMPERATURES[int(np.argmin(losses))]
    share = len(y_true) / (len(y_true) + PRIOR_PHOTOS)
    return float(np.exp(share * np.log(fitted) + (1 - share) * np.log(given)))


def softmax(scores: Floats) -> Floats:
    """Return probabilities (N, C) of scores (N, C)."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def scaled(embedded: Embeddings) -> tuple[npt.NDArray[np.float64], float]:
    """Return embeddings (N, D) divided by their mean length, and that length."""
    vectors = embedded.astype(np.float64)
    scale = max(float(np.linalg.norm(vectors, axis=1).mean()), 1e-12)
    return vectors / scale, scale
