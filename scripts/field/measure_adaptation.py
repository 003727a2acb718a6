"""Measure `trash-classifier adapt` on photos of the field that the shipped model never learned from.

    python scripts/field/measure_adaptation.py --photos ../shared/fieldphotos --cache embeddings.npz --output adaptation.json

Each family of sources stands for an owner's place: a few photos a class are drawn from it, whole groups at a time, the shipped
model is adapted to them, and all its other groups are answered before and after. The strength of the ridge is a constant of
`networks/head_correction.py`; what the families say about it is measured along. `--trashnet` gives TrashNet's photos, for what is
forgotten and for what the means of the training photos, which the shipped file does not carry, would add.
"""

import argparse
import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from compare_field_adaptation import COUNTS, owner_photos
from pack_field_photos import FAMILY
from tqdm import tqdm

from image_classification_trash.arrays import Embeddings, Floats, Ints
from image_classification_trash.drift.prior_shift import MIN_PHOTOS, assumed_shares, estimate_shares
from image_classification_trash.export.tflite_head import HeadOfFile
from image_classification_trash.files import sha256_of_file
from image_classification_trash.inference.images import read_photo
from image_classification_trash.inference.runtimes import LiteRtRuntime, open_file
from image_classification_trash.inference.shipped import shipped_model
from image_classification_trash.networks import head_correction
from image_classification_trash.networks.head_correction import (
    Examples,
    Head,
    adapt_head,
    held_out_scores,
    refit_temperature,
    softmax,
)

RIDGES = (0.0003, 0.001, 0.003, 0.01)
FAMILIES = ("taco", "trashnetpp", "drinkwaste", "retail_table", "personal", "one_class")
"""Without bhaktapur, which has one class."""
DRAWS = 20
CHOSEN = head_correction.RIDGE
"""The strength that `adapt` has; the other figures of each draw are measured with it alone."""


class Model:
    """The shipped model up to its head."""

    def __init__(self) -> None:
        self.path = shipped_model()
        self.config, _ = open_file(self.path)
        of_file = HeadOfFile(self.path.read_bytes(), len(self.config.classes))
        self.head = of_file.head().divided_by(1 / self.config.temperature)
        self._run = LiteRtRuntime(of_file.embeds(), self.path)

    def embed(self, paths: list[Path]) -> Embeddings:
        """Embed photos one by one, float32 (N, D)."""
        size, mode = self.config.input_size, self.config.resize_mode
        return np.concatenate(
            [self._run(read_photo(path, size, mode)[None]) for path in tqdm(paths, unit="photo")]
        )


def trashnet_photos(folder: Path, split: str, classes: tuple[str, ...]) -> tuple[list[Path], Ints]:
    """List the photos of an official split below an unpacked TrashNet, with their class numbers."""
    lines = (folder / f"one-indexed-files-notrash_{split}.txt").read_text(encoding="utf-8").splitlines()
    names = [line.split()[0] for line in lines if line.strip()]
    labels = [re.split(r"\d", name)[0] for name in names]  # such as glass12.jpg
    paths = [folder / "dataset-resized" / label / name for label, name in zip(labels, names, strict=True)]
    return paths, np.array([classes.index(label) for label in labels])


def embedded(options: argparse.Namespace, model: Model) -> dict[str, npt.NDArray[np.generic]]:
    """Return embeddings, class numbers, groups and families of the field's photos, and TrashNet's; made once."""
    if options.cache.is_file():
        return dict(np.load(options.cache))
    classes = model.config.classes
    with (options.photos / "sources.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["mapped_class"] in classes]
    found: dict[str, npt.NDArray[np.generic]] = {
        "x": model.embed([options.photos / row["file"] for row in rows]),
        "y": np.array([classes.index(row["mapped_class"]) for row in rows]),
        "group": np.array([row["group"] for row in rows]),
        "family": np.array([FAMILY[row["file"].split("/")[0]] for row in rows]),
    }
    for split in ("train", "val") if options.trashnet else ():
        paths, found[f"{split}_y"] = trashnet_photos(options.trashnet, split, classes)
        found[f"{split}_x"] = model.embed(paths)
    np.savez(options.cache, **found)
    return found


def accuracy(scores: Floats, y_true: Ints) -> float:
    """Return the share that is right, in percent."""
    return 100 * float((scores.argmax(1) == y_true).mean())


def macro(scores: Floats, y_true: Ints) -> float:
    """Return the mean over classes of the share that is right, in percent."""
    right = scores.argmax(1) == y_true
    return 100 * float(np.mean([right[y_true == number].mean() for number in np.unique(y_true)]))


def log_loss(scores: Floats, y_true: Ints) -> float:
    """Return the mean log loss of scores (N, C)."""
    return float(-np.log(np.maximum(softmax(scores)[np.arange(len(y_true)), y_true], 1e-12)).mean())


def draws(
    own: dict[str, npt.NDArray[np.generic]],
    count: int,
    head: Head,
    temperature: float,
    means: Embeddings | None,
    val: Examples | None,
) -> Iterator[dict[str, float]]:
    """Yield the figures of each draw of an owner's photos from one family."""
    x, y, group = own["x"], own["y"], own["group"]
    for seed in range(DRAWS):
        chosen = owner_photos(y, group, count, np.random.default_rng(seed))
        rest = ~np.isin(group, group[chosen])
        if len(np.unique(y[chosen])) < 2 or not rest.any():
            continue
        examples = Examples(x[chosen], y[chosen], means)
        adapted = adapt_head(head, examples)
        before, after = head(x[rest]), adapted(x[rest])
        figures = {
            "photos": int(chosen.sum()), "before": macro(before, y[rest]), "after": macro(after, y[rest]),
        }  # fmt: skip
        if val is not None:
            figures["trashnet_val"] = macro(adapted(val.embedded), val.y_true)
        if head_correction.RIDGE == CHOSEN:
            held_out = held_out_scores(head, examples)
            new = refit_temperature(temperature, held_out, examples.y_true)
            figures["left_one_out"] = macro(held_out, examples.y_true)
            figures["log_loss_before"] = log_loss(before / temperature, y[rest])
            figures["log_loss_after"] = log_loss(after / temperature, y[rest])
            figures["log_loss_after_refit"] = log_loss(after / new, y[rest])
        yield figures


def from_unlabelled(data: Mapping[str, Any], model: Model) -> dict[str, dict[str, float]]:
    """Return the figures of the shift to shares that are estimated from all photos of a family, without their labels."""
    found, assumed = {}, assumed_shares(model.config)
    for family in ("bhaktapur", *FAMILIES):
        own = data["family"] == family
        if own.sum() < MIN_PHOTOS:
            continue
        y, scores = data["y"][own], model.head(data["x"][own]) / model.config.temperature
        shifted = scores + np.log(estimate_shares(softmax(scores), assumed) / assumed)
        found[family] = {
            "photos": int(own.sum()),
            **{
                f"{name}_{when}": round(figure(some, y), 2)
                for when, some in (("before", scores), ("after", shifted))
                for name, figure in (("accuracy", accuracy), ("macro", macro), ("log_loss", log_loss))
            },
        }
    return found


def main() -> None:
    """Measure all families, numbers of photos and strengths, without and with class means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument(
        "--trashnet", type=Path, help="folder with dataset-resized/ and the lists of the splits"
    )
    parser.add_argument(
        "--cache", type=Path, required=True, help="file of embeddings, made if it is not there"
    )
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    model = Model()
    data, head, temperature = embedded(options, model), model.head, model.config.temperature
    known: dict[str, Embeddings | None] = {"without class means": None}
    val = None
    if "train_x" in data:
        sums = np.zeros((len(model.config.classes), data["train_x"].shape[1]))
        np.add.at(sums, data["train_y"], data["train_x"])
        known["with class means"] = (sums / np.bincount(data["train_y"])[:, None]).astype(np.float32)
        val = Examples(data["val_x"], data["val_y"])
    found: dict[str, object] = {
        "model": sha256_of_file(model.path),
        "draws": DRAWS,
        "ridge": head_correction.RIDGE,
    }
    found["unlabelled"] = from_unlabelled(data, model)
    print(found["unlabelled"], flush=True)
    if val is not None:
        found["trashnet_val_before"] = round(macro(head(val.embedded), val.y_true), 1)
    for ridge in RIDGES:
        head_correction.RIDGE = ridge
        for name, means in known.items():
            for count in COUNTS:
                rows = {}
                for family in FAMILIES:
                    own = {key: data[key][data["family"] == family] for key in ("x", "y", "group")}
                    runs = list(draws(own, count, head, temperature, means, val))
                    rows[family] = {
                        key: round(float(np.mean([run[key] for run in runs])), 2) for key in runs[0]
                    }
                    rows[family]["draws"] = len(runs)
                keys = next(iter(rows.values()))
                rows["mean"] = {
                    key: round(float(np.mean([row[key] for row in rows.values()])), 2) for key in keys
                }
                found[f"{name}, ridge {ridge}, {count} photos a class"] = rows
                print(ridge, name, count, rows["mean"], flush=True)
    options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
