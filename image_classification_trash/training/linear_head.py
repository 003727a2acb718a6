"""The first stage of training: fit a linear head on cached embeddings, in seconds on a CPU."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from image_classification_trash.arrays import Embeddings, Floats, Ints
from image_classification_trash.networks.network import EmbeddingBackbone, TrashNetwork
from image_classification_trash.training.data import TrainingData

INVERSE_REGULARISATIONS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Values of C to try; the one with the smallest validation log loss is kept."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LinearHead:
    """A fitted head: scores are `embeddings @ weight.T + bias`, with weight (C, D) and bias (C,)."""

    weight: Embeddings
    bias: Embeddings
    inverse_regularisation: float
    val_accuracy: float
    val_log_loss: float

    def logits(self, embeddings: Embeddings) -> npt.NDArray[np.float64]:
        """Return the scores (N, C) of embeddings (N, D)."""
        return np.asarray(embeddings @ self.weight.T + self.bias, dtype=np.float64)


def class_weights(
    y_true: Ints, classes: int, weighting: float, photo_weights: Floats | None = None
) -> npt.NDArray[np.float64]:
    """Return class weights (C,), with mean 1 over the photos; `weighting` 0 weights all photos equally, 1 all classes.

    `photo_weights` (N,), of mean 1, count photos as more or less than one.
    """
    counts = np.maximum(np.bincount(y_true, photo_weights, minlength=classes), 1)
    weights = counts ** -float(weighting)
    return np.asarray(weights * len(y_true) / (weights * counts).sum())


def fit_linear_head(network: TrashNetwork, data: TrainingData) -> LinearHead:
    """Fit a head on embeddings of the train split, choose C on the val split, and set the network's head to it."""
    train, val = data.embeddings(EmbeddingBackbone(network))
    head = fit_head(
        train,
        data.y_train,
        val,
        data.y_val,
        len(data.labels),
        data.class_weighting,
        photo_weights=data.photo_weights,
    )
    network.set_linear_head(head.weight, head.bias)
    return head


def fit_head(
    train: Embeddings,
    y_train: Ints,
    val: Embeddings,
    y_val: Ints,
    classes: int,
    weighting: float,
    inverse_regularisations: Sequence[float] = INVERSE_REGULARISATIONS,
    photo_weights: Floats | None = None,
) -> LinearHead:
    """Fit multinomial logistic regression on standardised embeddings, and choose C on validation.

    Args:
        train: embeddings (N, D).
        y_train: class numbers (N,).
        val: embeddings (M, D).
        y_val: class numbers (M,).
        classes: number of classes C.
        weighting: as in `class_weights`.
        inverse_regularisations: values of C to choose from.
        photo_weights: weights (N,) of the training photos, of mean 1; None if all are equal.

    Raises:
        ValueError: a class has no photo in the train split.
    """
    mean, spread = train.mean(0), train.std(0) + 1e-6
    sample_weight = class_weights(y_train, classes, weighting, photo_weights)[y_train]
    sample_weight = sample_weight if photo_weights is None else sample_weight * photo_weights
    standardised = train - mean
    standardised /= spread  # in place: of many photos, each copy takes hundreds of MB
    best: LinearHead | None = None
    for inverse_regularisation in tqdm(inverse_regularisations, desc="fit head", unit="fit"):
        weight, bias = _fit(standardised, y_train, sample_weight, classes, inverse_regularisation)
        head = _score(weight / spread, bias - (weight / spread) @ mean, inverse_regularisation, val, y_val)
        if best is None or head.val_log_loss < best.val_log_loss:
            best = head
    assert best is not None
    logger.info("head: C=%g, validation accuracy %.4f", best.inverse_regularisation, best.val_accuracy)
    return best


def _fit(
    x: Embeddings,
    y_true: Ints,
    sample_weight: npt.NDArray[np.float64],
    classes: int,
    inverse_regularisation: float,
) -> tuple[Embeddings, Embeddings]:
    with warnings.catch_warnings():
        # A head that has not fully converged is good enough; validation chooses among them.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = LogisticRegression(C=inverse_regularisation, max_iter=300).fit(x, y_true, sample_weight)
    if len(fitted.classes_) != classes:
        missing = sorted(set(range(classes)) - set(fitted.classes_.tolist()))
        raise ValueError(f"classes {missing} have no photo in train")
    if classes == 2:  # scikit-learn has one row for two classes; split it into two
        weight, bias = (
            np.vstack([-fitted.coef_, fitted.coef_]) / 2,
            np.append(-fitted.intercept_, fitted.intercept_) / 2,
        )
    else:
        weight, bias = fitted.coef_, fitted.intercept_
    return weight.astype(np.float32), bias.astype(np.float32)


def _score(
    weight: Embeddings, bias: Embeddings, inverse_regularisation: float, val: Embeddings, y_true: Ints
) -> LinearHead:
    logits = (val @ weight.T + bias).astype(np.float64)
    log_probability = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    loss = float(-log_probability[np.arange(len(y_true)), y_true].mean()) if len(y_true) else 0.0
    accuracy = float((logits.argmax(1) == y_true).mean()) if len(y_true) else 0.0
    return LinearHead(
        weight.astype(np.float32), bias.astype(np.float32), inverse_regularisation, accuracy, loss
    )
