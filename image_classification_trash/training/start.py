"""What a training begins with, once it is plain that it can be finished: a network and the teachers it learns from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from image_classification_trash.config.training import TrainSettings
from image_classification_trash.data.manifest import Manifest
from image_classification_trash.errors import TrainingError
from image_classification_trash.inference.bundle import NEGATIVE_LABEL, Bundle, read_bundle
from image_classification_trash.networks.backbones import has_pretrained_weights
from image_classification_trash.networks.device import check_devices
from image_classification_trash.networks.network import TrashNetwork, build_network, load_network
from image_classification_trash.training.record import Ancestors
from image_classification_trash.training.weight_averaging import init_from_average


@dataclass(frozen=True)
class Start:
    """What a training begins with.

    Attributes:
        network: to be trained.
        teachers: networks whose probabilities are learned beside the labels.
        ancestors: the trainings that either comes from.
        fits_head: whether a head is to be fitted on embeddings first.
    """

    network: TrashNetwork
    teachers: tuple[TrashNetwork, ...]
    ancestors: Ancestors
    fits_head: bool


def begin(settings: TrainSettings, manifest: Manifest) -> Start:
    """Build the network, seeded, with the weights that the settings name, and load the teachers.

    Raises:
        TrainingError: the training could not be finished (`check_plan`), foreign weights, or bundles for other classes.
        BundleError: a bundle is missing or damaged.
    """
    labels = manifest.labels
    check_plan(settings, manifest)
    torch.manual_seed(settings.seed)
    network = build_network(
        settings.architecture, len(labels), settings.pretrained, settings.weights, settings.dropout
    )
    earlier = {path: read_bundle(path) for path in (*settings.init_from, *settings.teacher)}
    if settings.init_from:
        init_from_average(network, [earlier[path] for path in settings.init_from], labels)
    teachers = tuple(as_teacher(earlier[path], labels) for path in settings.teacher)
    return Start(network, teachers, Ancestors.of(list(earlier.values())), fits_head(settings))


def as_teacher(bundle: Bundle, labels: Sequence[str]) -> TrashNetwork:
    """The network of a bundle to learn from, of any architecture.

    Raises:
        TrainingError: it tells other classes apart.
    """
    if bundle.config.classes != tuple(labels):
        found = f"{bundle.path} tells {', '.join(bundle.config.classes)} apart."
        raise TrainingError(found, f"Learn from bundles for {', '.join(labels)}, or without --teacher.")
    return load_network(bundle)


def check_plan(settings: TrainSettings, manifest: Manifest) -> None:
    """Refuse a training that could not be finished.

    Raises:
        TrainingError: a device that is not there, a class without a training photo, no validation photo, a class named
            as the rejection head's label, nothing to train, or an unknown architecture.
    """
    check_devices(settings.accelerator, settings.devices)
    counts = manifest.counts()
    missing = [label for label, count in counts["train"].items() if not count]
    if missing:
        found = f"No training photo of: {', '.join(missing)}."
        raise TrainingError(found, "Prepare the data with another --split, or add photos.")
    if not any(counts["val"].values()):
        raise TrainingError(
            "The validation split is empty.", "Prepare the data with a larger --val-fraction."
        )
    if settings.rejection_head and NEGATIVE_LABEL in manifest.labels:
        found = f"The data set has a class {NEGATIVE_LABEL!r} of its own."
        raise TrainingError(found, "Train without the detector, or rename the class.")
    if not settings.epochs and not settings.init_from and not fits_head(settings):
        hint = "Give --epochs 1 or more, or begin from pretrained weights with a head."
        raise TrainingError("There is nothing to train: no epochs, and no head on pretrained weights.", hint)


def fits_head(settings: TrainSettings) -> bool:
    """Whether a head is fitted on embeddings first: where the backbone begins trained and no other head is there."""
    begins_trained = settings.weights is not None or (
        settings.pretrained and has_pretrained_weights(settings.architecture)
    )
    # A resumed run has its head from the checkpoint, unless its weights are to be blended with those of the start.
    return (
        not settings.init_from
        and settings.head
        and begins_trained
        and (not settings.resume or settings.wise_ft < 1)
    )
