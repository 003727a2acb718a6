"""The mean embedding and the number of training photos of each class, which travel with a model.

`adapt` holds on to them where new photos would make a model forget what it was trained on. Numpy alone reads them.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from image_classification_trash.arrays import Embeddings, Ints
from image_classification_trash.errors import BundleError

FILE = "class_means.npz"
"""Name inside a bundle, and inside an exported .tflite file."""
MAX_BYTES = 10**6


@dataclass(frozen=True)
class ClassMeans:
    """Means and numbers of training photos.

    Attributes:
        labels: names of C classes.
        means: mean embedding of each, float32 (C, D).
        counts: number of photos of each (C,); a class without photos has a mean of zeros.
    """

    labels: tuple[str, ...]
    means: Embeddings
    counts: Ints

    def to_bytes(self) -> bytes | None:
        """Return the content of the file, means in float16; None if it exceeds `MAX_BYTES` or a class has no photos."""
        if not self.counts.all():
            return None
        buffer = io.BytesIO()
        means = self.means.astype(np.float16)
        np.savez(buffer, labels=np.array(self.labels), means=means, counts=self.counts)
        return buffer.getvalue() if buffer.tell() <= MAX_BYTES else None


def measure_class_means(embedded: Embeddings, y_true: Ints, labels: Sequence[str]) -> ClassMeans:
    """Average the embeddings (N, D) of training photos by their class numbers (N,)."""
    sums = np.zeros((len(labels), embedded.shape[1]))
    np.add.at(sums, y_true, embedded)
    counts = np.bincount(y_true, minlength=len(labels)).astype(np.int64)
    means = sums / np.maximum(counts, 1)[:, None]
    return ClassMeans(tuple(labels), means.astype(np.float32), counts)


def read_class_means(content: bytes, labels: Sequence[str], width: int, origin: str) -> ClassMeans:
    """Read what `ClassMeans.to_bytes` returned; never loads a pickle.

    Raises:
        BundleError: it is damaged, or of other classes than `labels`, or of embeddings that are not of that width; names
            `origin`.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            names, means, counts = stored["labels"].tolist(), stored["means"], stored["counts"]
        found = ClassMeans(tuple(names), means.astype(np.float32), counts.astype(np.int64))
    except Exception as error:  # numpy and zipfile raise many exceptions for damaged files
        raise BundleError(f"{origin} cannot be read: {error}.", "Copy the model again.") from error
    good = found.labels == tuple(labels) and found.means.shape == (len(labels), width)
    if not good or not np.isfinite(found.means).all():
        raise BundleError(f"{origin} does not belong to this model.", "Copy the model again.")
    return found
