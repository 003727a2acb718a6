"""Choose defaults by the number of photos, check that a training can be finished, and build its network and teachers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from image_classification_trash.config.training import TrainSettings
from image_classification_trash.data.manifest import Manifest
from image_classification_trash.errors import TrainingError
from image_classification_trash.inference.bundle import NEGATIVE_LABEL, Bundle, read_bundle
from image_classification_trash.networks.backbones import has_pretrained_weights
from image_classification_trash.networks.device import checked_device
from image_classification_trash.networks.network import (
    TrashNetwork,
    build_network,
    first_piece,
    load_network,
)
from image_classification_trash.show import say
from image_classification_trash.training.record import Ancestors
from image_classification_trash.training.weight_averaging import init_from_average

FEW_PHOTOS = 200
"""Number of training photos below which `FEW_PHOTOS_DEFAULTS` apply; measured with 126 (references/small_data.md)."""
FEW_PHOTOS_DEFAULTS = {"freeze_stages": 11}
"""All stages of EfficientNet-Lite: batch normalisation keeps the statistics that the head was fitted on."""
SettingsT = TypeVar("SettingsT", bound=TrainSettings)


@dataclass(frozen=True)
class Start:
    """The starting point of a training.

    Attributes:
        network: network to train.
        device: device to train and embed on.
        teachers: networks whose probabilities are distilled.
        ancestors: trainings that produced the initial weights and the teachers.
        fits_head: whether a head is fitted on embeddings first.
        answers: what the initial weights are if they classify, so that fine-tuning has to improve on them: "fitted
            head" or "initial model"; None for an untrained head.
    """

    network: TrashNetwork
    device: torch.device
    teachers: tuple[TrashNetwork, ...]
    ancestors: Ancestors
    fits_head: bool
    answers: str | None
    tail: nn.ModuleDict | None


def with_defaults_for(settings: SettingsT, manifest: Manifest) -> SettingsT:
    """Return the settings with the defaults that suit few training photos, where none were given; say which.

    They apply to fine-tuning EfficientNet-Lite from a fitted head, for which they were measured.
    """
    photos = sum(manifest.counts()["train"].values())
    measured = settings.architecture.startswith("efficientnet_lite") and fits_head(settings)
    if photos >= FEW_PHOTOS or not measured or not settings.epochs:
        return settings
    chosen = {
        name: value
        for name, value in FEW_PHOTOS_DEFAULTS.items()
        if name not in settings.model_fields_set and value != getattr(settings, name)
    }
    if chosen:
        said = ", ".join(
            f"{name} {value} instead of {getattr(settings, name)}" for name, value in chosen.items()
        )
        say(
            f"{photos} training photos, fewer than {FEW_PHOTOS}: {said}, which loses least against the fitted head"
        )
    return settings.model_copy(update=chosen)


def begin(settings: TrainSettings, manifest: Manifest) -> Start:
    """Build the network, seeded, with the initial weights of the settings, and load the teachers.

    Raises:
        TrainingError: an unavailable device, an unknown architecture, a training that cannot be finished
            (`check_plan`), or weights or bundles that do not fit.
        BundleError: a bundle is missing or damaged.
    """
    labels = manifest.labels
    head = fits_head(settings)
    device = checked_device(settings.accelerator, settings.devices)
    check_plan(settings, manifest, head)
    torch.manual_seed(settings.seed)
    network = build_network(
        settings.architecture, len(labels), settings.pretrained, settings.weights, settings.dropout
    )
    earlier = {path: read_bundle(path) for path in (*settings.init_from, *settings.teacher)}
    if settings.init_from:
        init_from_average(network, [earlier[path] for path in settings.init_from], labels)
    teachers = tuple(as_teacher(earlier[path], labels) for path in settings.teacher)
    answers = "fitted head" if head else "initial model" if settings.init_from else None
    tail = rejection_tail(network, [earlier[path] for path in settings.init_from], settings, manifest)
    return Start(network, device, teachers, Ancestors.of(list(earlier.values())), head, answers, tail)


def rejection_tail(
    network: TrashNetwork, bundles: Sequence[Bundle], settings: TrainSettings, manifest: Manifest
) -> nn.ModuleDict | None:
    """Return the last stages before fine-tuning, for a rejection head that learns from photos without waste.

    A model that training begins from hands on its own, so that they are those before any fine-tuning. None without a rejection
    head, without such photos in the train split, if nothing is fine-tuned, or if the stages before them learn too: nothing
    would be shared.

    Args:
        network: with the initial weights.
        bundles: models that these are the average of.
        settings: of the training.
        manifest: of its data.
    """
    has_not_waste = any(photo.split == "train" for photo in manifest.not_waste)
    if not settings.rejection_head or not has_not_waste or not (settings.epochs or bundles):
        return None
    own = network.copy_tail(settings.freeze_stages)
    handed_on = load_network(bundles[0]).rejection_tail if bundles else None
    if own is None or handed_on is None or first_piece(handed_on) > first_piece(own):
        return own
    return handed_on


def as_teacher(bundle: Bundle, labels: Sequence[str]) -> TrashNetwork:
    """Load the network of a bundle as a teacher, of any architecture.

    Raises:
        TrainingError: it has other classes.
    """
    if bundle.config.classes != tuple(labels):
        found = f"{bundle.path} is a model for {', '.join(bundle.config.classes)}."
        raise TrainingError(found, f"Give teachers for {', '.join(labels)}, or leave out --teacher.")
    return load_network(bundle)


def check_plan(settings: TrainSettings, manifest: Manifest, head: bool) -> None:
    """Refuse a training that cannot be finished.

    Raises:
        TrainingError: a class without a training photo, no validation photo, a class named as the rejection head's
            label, or nothing to train: no epochs, and no `head` to fit.
    """
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
        raise TrainingError(found, "Leave out --rejection-head, or rename the class.")
    if not settings.epochs and not settings.init_from and not head:
        hint = "Give --epochs 1 or more, or start from pretrained weights with a head."
        raise TrainingError("There is nothing to train: no epochs, and no head on pretrained weights.", hint)


def fits_head(settings: TrainSettings) -> bool:
    """Return whether a head is fitted on embeddings first: if the backbone is pretrained and there is no head yet."""
    begins_trained = settings.weights is not None or (
        settings.pretrained and has_pretrained_weights(settings.architecture)
    )
    # A resumed run fits it too, as its epochs have to improve on it; its embeddings are in the cache.
    return not settings.init_from and settings.head and begins_trained
