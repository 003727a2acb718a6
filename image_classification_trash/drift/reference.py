"""The reference that a stream is compared with: answers and embeddings of a bundle on the validation split.

The validation split comes from the same distribution as the training split, but the network was not fitted to it. On its
training photos a network is more confident than on any new photo, so that every stream would look different.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from image_classification_trash.arrays import Embeddings, Floats, Ints
from image_classification_trash.data.manifest import Split, read_manifest
from image_classification_trash.errors import BundleError, DatasetError
from image_classification_trash.features.build_features import PixelSettings, SplitCaches
from image_classification_trash.files import only_writer
from image_classification_trash.inference.bundle import Bundle, add_to_bundle
from image_classification_trash.inference.prediction_counts import EDGES, histogram
from image_classification_trash.networks.network import (
    EmbeddingBackbone,
    TrashNetwork,
    load_network,
    weights_fingerprint,
)

REFERENCE = "monitor_reference.npz"
PART: Split = "val"
_AGAIN = "Write it again where the data set is: trash-classifier monitor --write-reference --model BUNDLE"


@dataclass(frozen=True)
class Reference:
    """Answers and embeddings of the validation split.

    Attributes:
        classes: number of photos by most probable label (C,), including `not waste` if the model has it.
        confidence: number of photos by largest probability, in the intervals of `prediction_counts.EDGES`.
        vectors: embeddings by the bundle's network, float32 (M, D).
        weights: SHA-256 of the weights that produced them.
        fingerprint: of the data set.
    """

    classes: Ints
    confidence: Ints
    vectors: Embeddings
    weights: str
    fingerprint: str


def reference_of(bundle: Bundle, processed_dir: Path, interim_dir: Path) -> Reference:
    """Read the bundle's stored reference, or make one from its data set.

    Raises:
        BundleError: the stored reference belongs to other weights.
        DatasetError: there is none, and the data set is not prepared here or differs from the one trained on.
    """
    if (bundle.path / REFERENCE).is_file():
        return read_reference(bundle)
    return make_reference(bundle, processed_dir, interim_dir)


def make_reference(bundle: Bundle, processed_dir: Path, interim_dir: Path) -> Reference:
    """Embed the validation split with the bundle's network; raises as `reference_of` does."""
    data = bundle.config.data
    try:
        manifest = read_manifest(processed_dir / data["name"])
    except DatasetError as error:
        hint = f"{error.hint} Or take the bundle from a machine where the reference was written into it (--write-reference)."
        raise DatasetError(error.found, hint) from error
    if manifest.fingerprint != data["fingerprint"]:
        found = f"{processed_dir / data['name']} is not what {bundle.path} was trained on."
        raise DatasetError(found, f"Train again: trash-classifier train {data['name']}")
    if not manifest.photos_of(PART):
        raise DatasetError(f"{data['name']} has no validation split.", "Prepare it with another --split.")
    network = load_network(bundle)
    caches = SplitCaches(
        manifest, PixelSettings(bundle.config.input_size, bundle.config.resize_mode), interim_dir
    )
    vectors = caches.embeddings(PART, EmbeddingBackbone(network))
    classes, confidence = counts(probabilities_of(network, vectors))
    return Reference(classes, confidence, vectors, weights_fingerprint(bundle), manifest.fingerprint)


def write_reference(bundle: Bundle, reference: Reference) -> Path:
    """Write the reference into the bundle, with embeddings as float16; return its path."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        classes=reference.classes,
        confidence=reference.confidence,
        vectors=reference.vectors.astype(np.float16),
        weights=np.array(reference.weights),
        fingerprint=np.array(reference.fingerprint),
        edges=np.array(EDGES),
    )
    with only_writer(bundle.path):
        add_to_bundle(bundle, {REFERENCE: buffer.getvalue()})
    return bundle.path / REFERENCE


def read_reference(bundle: Bundle) -> Reference:
    """Read the bundle's stored reference, whose checksum was verified with the bundle; never loads a pickle.

    Raises:
        BundleError: it is damaged, or was made with other weights, intervals or (by an earlier version) labels.
    """
    path = bundle.path / REFERENCE
    try:
        with np.load(path, allow_pickle=False) as stored:
            reference = Reference(
                stored["classes"].astype(np.int64),
                stored["confidence"].astype(np.int64),
                stored["vectors"].astype(np.float32),
                str(stored["weights"]),
                str(stored["fingerprint"]),
            )
            fits = tuple(stored["edges"].tolist()) == EDGES
    except Exception as error:  # numpy and zipfile raise many exceptions for damaged files
        raise BundleError(f"{path} cannot be read: {error}.", _AGAIN) from error
    if not fits or reference.weights != weights_fingerprint(bundle):
        raise BundleError(f"{path} was made with another model than the one beside it.", _AGAIN)
    labels = bundle.config.labels
    if len(reference.classes) != len(labels):
        found = f"{path} counts {len(reference.classes)} labels, but the model has {len(labels)}: {', '.join(labels)}."
        raise BundleError(found, _AGAIN)
    return reference


def probabilities_of(network: TrashNetwork, vectors: Embeddings) -> Floats:
    """Return calibrated probabilities, float64 (N, labels), of embeddings (N, D), including that of a rejection head."""
    with torch.inference_mode():
        answers = network.from_embeddings(torch.from_numpy(np.ascontiguousarray(vectors)))
        return np.asarray(answers.numpy(), dtype=np.float64)


def counts(probabilities: Floats) -> tuple[Ints, Ints]:
    """Count photos by most probable label (C,) and by largest probability, as a gateway counts its answers."""
    classes = np.bincount(probabilities.argmax(1), minlength=probabilities.shape[1]).astype(np.int64)
    return classes, histogram(probabilities.max(1))
