"""Recipes and jobs for `scripts/field/train_field.py`: what is trained, on which photos, and what is learned from which teacher.

It needs NumPy alone.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

CLASSES = ("cardboard", "glass", "metal", "paper", "plastic", "trash")
FAMILIES = ("taco", "trashnetpp", "drinkwaste", "bhaktapur", "retail_table", "personal", "one_class")
CHOSEN_BY = ("taco", "trashnetpp", "drinkwaste", "retail_table", "personal")
"""Families that ingredients are chosen by; the other two are seen by the final recipe alone."""
SLICE = "slice"
"""Left out by final models: a tenth of the groups of field photos, for choosing among epochs and averages."""
GROUND_SOURCES = ("taco_rf", "beach_ground", "tidybot")
BLENDS = (0.0, 0.5, 0.7, 0.85, 1.0)
"""Shares of the fine-tuned weights that every training is measured at; 0 is the linear head on frozen features."""
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Strings = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Recipe:
    """How one network is trained; the defaults continue `configs/field.yaml`.

    Attributes:
        start: `shipped`, the model that is shipped, or `imagenet`.
        epochs: photos drawn, as a multiple of those there are.
        field_share: of the photos drawn, from the field instead of TrashNet.
        class_power: a class of n field photos is drawn in proportion to n to this power.
        paste: share of the photos whose object is put on another background.
        outliers: backgrounds without waste added to a batch, as a share of it (outlier exposure).
        keep: weight of staying linearly predictive of the embeddings before fine-tuning.
        without: sources that are not trained on.
        natural: whether photos of bare ground serve as backgrounds beside drawn ones.
        paste_field: whether objects of field photos are pasted, beside TrashNet's.
        blend: share of the fine-tuned weights in what is saved (WiSE-FT, Wortsman et al., 2022).
    """

    architecture: str = "efficientnet_lite0"
    start: str = "shipped"
    height: int = 224
    width: int = 288
    batch: int = 96
    epochs: float = 5.0
    learning_rate: float = 1e-3
    backbone_rate: float = 0.5
    weight_decay: float = 0.05
    warmup: float = 0.1
    frozen: int = 5
    dropout: float = 0.2
    smoothing: float = 0.1
    ema: float = 0.995
    field_share: float = 0.5
    class_power: float = 0.25
    paste: float = 0.35
    corruption: float = 0.4
    outliers: float = 0.08
    mixup: float = 0.0
    keep: float = 0.0
    min_scale: float = 0.6
    rotation: float = 180.0
    brightness: float = 0.5
    contrast: float = 0.4
    saturation: float = 0.3
    hue: float = 0.02
    erasing: float = 0.25
    without: tuple[str, ...] = ()
    natural: bool = True
    paste_field: bool = True
    blend: float = 1.0
    teacher_share: float = 0.5

    @property
    def outlier_count(self) -> int:
        """Backgrounds without waste in a batch."""
        return round(self.batch * self.outliers / (1 + self.outliers))


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        leave_out: a family, `SLICE`, or "" for nothing.
        teachers: names of jobs whose networks are learned from.
        saves: whether its weights are kept, for teaching or shipping.
        embeds: whether embeddings of the photos left out are kept.
        until: share of the stage's time by which it has to end.
    """

    name: str
    recipe: Recipe
    leave_out: str = ""
    seed: int = 0
    teachers: tuple[str, ...] = ()
    saves: bool = False
    embeds: bool = False
    until: float = 1.0


@dataclass(frozen=True)
class Table:
    """What is known of the packed photos, row by row; `label` is -1 for not-waste photos."""

    name: Strings
    source: Strings
    family: Strings
    group: Strings
    split: Strings
    label: Ints

    @classmethod
    def read(cls, packed: Path) -> "Table":
        """Read the columns of `photos.npz`."""
        with np.load(packed / "photos.npz") as stored:
            return cls(*(stored[name] for name in ("name", "source", "family", "group", "split", "label")))

    def in_slice(self) -> npt.NDArray[np.bool_]:
        """Mark a tenth of the groups of field photos, by a hash of their names, (N,)."""
        tenth = [int(hashlib.sha256(group.encode()).hexdigest(), 16) % 10 == 0 for group in self.group]
        return np.array(tenth) & (self.split == "field")

    def left_out(self, job: Job) -> Ints:
        """Rows of field waste that the job is measured on."""
        if job.leave_out == SLICE:
            return np.flatnonzero(self.in_slice())
        return np.flatnonzero((self.split == "field") & (self.family == job.leave_out))

    def training(self, job: Job) -> Ints:
        """Rows that the job learns from: TrashNet's train split and the field waste that is not left out."""
        field = (self.split == "field") & ~np.isin(self.source, job.recipe.without)
        field[self.left_out(job)] = False
        return np.flatnonzero(
            (self.split == "train") | (field if job.recipe.field_share else np.zeros_like(field))
        )

    def validation(self) -> Ints:
        """Rows of TrashNet's validation split."""
        return np.flatnonzero(self.split == "val")

    def grounds(self, job: Job) -> Ints:
        """Rows of bare ground that may serve as backgrounds: none of the family that is left out."""
        ground = (self.split == "notwaste") & np.isin(self.source, GROUND_SOURCES)
        return np.flatnonzero(ground & (self.family != job.leave_out))


def draw_weights(table: Table, rows: Ints, recipe: Recipe) -> Floats:
    """How often each of the training `rows` is drawn, (n,), summing to 1.

    TrashNet: the square root of class frequencies. Field: classes by `class_power`; within a class, sources by the square
    root of their number of groups, and within a source, groups by the square root of their size.
    """
    weights = np.zeros(len(rows))
    field = table.split[rows] == "field"
    label = table.label[rows]
    source, group = (
        np.unique(column[rows], return_inverse=True)[1] for column in (table.source, table.group)
    )
    counts = np.bincount(label[~field], minlength=len(CLASSES))
    weights[~field] = counts[label[~field]] ** -0.5
    weights[~field] *= (1 - recipe.field_share if field.any() else 1.0) / weights[~field].sum()
    if field.any():
        inner = np.array([_field_weight(label, source, group, field, i) for i in np.flatnonzero(field)])
        for number in range(len(CLASSES)):
            chosen = label[field] == number
            if chosen.any():
                inner[chosen] *= chosen.sum() ** recipe.class_power / inner[chosen].sum()
        weights[field] = inner * recipe.field_share / inner.sum()
    return weights


def _field_weight(label: Ints, source: Ints, group: Ints, field: npt.NDArray[np.bool_], i: int) -> float:
    """The weight of field photo `i` among those of its class."""
    mates = field & (label == label[i]) & (source == source[i])
    sizes = np.unique(group[mates], return_counts=True)[1]
    own = (mates & (group == group[i])).sum()
    return float(np.sqrt(len(sizes)) / np.sqrt(sizes).sum() * own**-0.5)


def class_shares(table: Table, rows: Ints, weights: Floats) -> Floats:
    """How often each class is drawn, (C,)."""
    return np.bincount(table.label[rows], weights, len(CLASSES))


VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "no paste": {"paste": 0.0},
    "field 0.7": {"field_share": 0.7},
    "field 0.3": {"field_share": 0.3},
    "without taco_trashe": {"without": ("taco_trashe",)},
    "all stages": {"frozen": 0},
    "7 stages frozen": {"frozen": 7},
    "slow backbone": {"backbone_rate": 0.2},
    "fast backbone": {"backbone_rate": 1.0},
    "keep": {"keep": 1.0},
    "larger input": {"height": 256, "width": 320},
    "mixup": {"mixup": 0.2},
    "smaller crops": {"min_scale": 0.3},
    "classes alike": {"class_power": 0.0},
    "paste 0.7": {"paste": 0.7},
    "drawn backgrounds alone": {"natural": False},
    "TrashNet's objects alone": {"paste_field": False},
    "more colour": {"saturation": 0.6, "hue": 0.06},
    "TrashNet alone": {"field_share": 0.0},
    "from ImageNet": {"start": "imagenet"},
    "lite2": {"architecture": "efficientnet_lite2", "start": "imagenet"},
}
"""Ingredients that are tried, one change to the base each, the most wanted first."""


def variant_jobs(names: Sequence[str], epochs: float) -> list[Job]:
    """Every variant on every family it may be chosen by."""
    return [
        Job(f"{name}/{family}", replace(Recipe(epochs=epochs), **VARIANTS[name]), family)
        for name in names
        for family in CHOSEN_BY
    ]


def final_jobs(recipe: Recipe, scale: float) -> list[Job]:
    """The final recipe: models for shipping, each family left out, and students of both.

    Args:
        recipe: what was chosen.
        scale: multiplies all epochs, so that they fit into the time there is.

    What is to be shipped comes first: of the jobs whose teachers are ready, the first is begun.
    """
    small = replace(recipe, epochs=12 * scale)
    large = replace(
        recipe,
        architecture="efficientnet_lite2",
        start="imagenet",
        backbone_rate=1.0,
        blend=1.0,
        epochs=22 * scale,
    )
    student = replace(recipe, epochs=14 * scale, teacher_share=0.6)
    jobs = [Job("final-0", small, SLICE, 0, saves=True, until=0.35)]
    jobs += [Job(f"teacher-{i}", large, SLICE, i, ("final-0",), saves=True, until=0.75) for i in (0, 1)]
    of_students = ("teacher-0", "teacher-1", "final-0")
    jobs += [
        Job(f"student-{i}", replace(student, teacher_share=share), SLICE, 10 + i, of_students, saves=True)
        for i, share in enumerate((0.6, 0.9))
    ]
    for f in FAMILIES:
        jobs.append(Job(f"lofo-lite0/{f}", replace(small, epochs=8 * scale), f, saves=True, until=0.5))
    for f in FAMILIES:
        shorter = replace(large, epochs=10 * scale)
        jobs.append(Job(f"lofo-lite2/{f}", shorter, f, 0, (f"lofo-lite0/{f}",), saves=True, until=0.85))
    for f in FAMILIES:
        shorter, teachers = replace(student, epochs=8 * scale), (f"lofo-lite2/{f}", f"lofo-lite0/{f}")
        jobs.append(Job(f"lofo-student/{f}", shorter, f, 2, teachers, embeds=True))
    return jobs


def cost(job: Job, photos: int) -> float:
    """Work of a job in photos that an EfficientNet-Lite0 with five frozen stages could learn from instead."""
    unit = 2.2 if job.recipe.architecture.endswith("lite2") else 1.0
    unit *= 1 + 0.3 * bool(job.recipe.keep)
    large = sum("lite2" in name or "teacher" in name for name in job.teachers)
    unit += (1.1 + 0.7 * (large - 1) if large else 0.0) + 0.3 * (len(job.teachers) - large)
    return unit * job.recipe.epochs * photos * job.recipe.height * job.recipe.width / (256 * 320)
