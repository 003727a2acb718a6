"""What each ingredient of training for the field brings, and which score tells waste from no waste: tables of docs/explanation/robustness.md.

python scripts/study_field.py models/trashnet-field models/field --data-dir data

Heads are fitted on frozen ImageNet embeddings with one ingredient after another, with several seeds; then the bundles are
measured. Everything is made from TrashNet's training and validation splits; test and field photos are not read, their
figures come from the bundles' metrics.
"""

import argparse
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from image_classification_trash.arrays import Floats, Ints
from image_classification_trash.config.training import TrainSettings
from image_classification_trash.data.manifest import Manifest, read_manifest
from image_classification_trash.evaluation.formatting import with_interval
from image_classification_trash.evaluation.result import read_metrics
from image_classification_trash.features.synthesis.backgrounds import TRAINING, draw_backgrounds
from image_classification_trash.features.synthesis.compositing import CopyPaste
from image_classification_trash.features.synthesis.corruptions import FIXED, corrupt
from image_classification_trash.features.synthesis.shifted_photos import (
    ShiftedPhotos,
    accuracy_under_shift,
    not_waste,
)
from image_classification_trash.inference.bundle import Bundle, read_bundle
from image_classification_trash.inference.images import Pixels
from image_classification_trash.networks.network import (
    EmbeddingBackbone,
    TrashNetwork,
    build_network,
    load_network,
)
from image_classification_trash.training.data import BACKGROUNDS, TrainingData
from image_classification_trash.training.linear_head import fit_head
from image_classification_trash.training.rejection_head import fit_to_embeddings
from image_classification_trash.training.robustness import LOST

PAGE = Path("docs/explanation/robustness.md")
Embed = Callable[[Pixels], Floats]


class Material:
    """The validation split and what is made from it, and training photos with each ingredient."""

    def __init__(self, manifest: Manifest, settings: TrainSettings) -> None:
        data = TrainingData(manifest, settings)
        logging.info("decoding")
        self.train, self.y_true = np.array(data.train_pixels), data.y_train
        logging.info("cutting out")
        self.masks = data.train_masks
        logging.info("shifting")
        self.shifted: ShiftedPhotos = data.shifted
        self.val, self.y_val = self.shifted.clean, data.y_val

    def copy_pasted(self, seed: int) -> Pixels:
        logging.info("copy-pasting, seed %d", seed)
        backgrounds = draw_backgrounds(TRAINING, BACKGROUNDS // 2, self.train.shape[1:3], seed)
        copy_paste = CopyPaste(self.masks, backgrounds, 1.0, self.train)
        return copy_paste(self.train, np.arange(len(self.train)), np.random.default_rng([seed, 7]))

    def corrupted(self, seed: int) -> Pixels:
        return corrupt(self.train, 1.0, np.random.default_rng([seed, 8]))

    def without_waste(self, seed: int) -> Pixels:
        return not_waste(TRAINING, self.train, self.masks, seed, BACKGROUNDS, 200)


def heads(material: Material, network: TrashNetwork, seeds: range) -> Iterator[str]:
    """A row for each set of ingredients: mean and range over the seeds."""
    embed = EmbeddingBackbone(network).embed
    clean, val = embed(material.train), embed(material.val)
    extra = {
        seed: {
            "copy-pasted": embed(material.copy_pasted(seed)),
            "corruptions": embed(material.corrupted(seed)),
        }
        for seed in seeds
    }
    measured = shifted_embeddings(material, embed)
    for ingredients in ((), ("corruptions",), ("copy-pasted",), ("copy-pasted", "corruptions")):
        rows = []
        logging.info("head on %s", ingredients)
        for seed in seeds if ingredients else seeds[:1]:
            x = np.concatenate([clean, *(extra[seed][name] for name in ingredients)])
            y = np.tile(material.y_true, 1 + len(ingredients))
            head = fit_head(x, y, val, material.y_val, 6, 1.0)
            rows.append([float((head.logits(e).argmax(1) == t).mean()) for e, t in measured])
        name = " + ".join(["photos as they are", *ingredients])
        yield f"| frozen, head on {name} | {cells(np.array(rows))} | |"


def shifted_embeddings(material: Material, embed: Embed) -> list[tuple[Floats, Ints]]:
    y_copy_pasted = material.shifted.y_true[len(material.val) :]
    sets = [(material.val, material.y_val), (material.shifted.copy_pasted, y_copy_pasted)]
    sets += [
        (np.stack([corruption(photo) for photo in material.val]), material.y_val)
        for corruption in FIXED.values()
    ]
    return [(embed(photos), y_true) for photos, y_true in sets]


def cells(rows: Floats) -> str:
    """Clean, copy-pasted, mean of the corruptions, and the corruptions; the range over seeds in brackets."""
    columns = np.column_stack([rows[:, :2], rows[:, 2:].mean(1), rows[:, 2:]])
    if len(rows) == 1:
        return " | ".join(f"{100 * value:.1f}" for value in columns[0])
    low, mean, high = columns.min(0), columns.mean(0), columns.max(0)
    return " | ".join(
        f"{100 * m:.1f} ({100 * a:.1f} to {100 * b:.1f})" for a, m, b in zip(low, mean, high, strict=True)
    )


def bundle_row(bundle: Bundle, material: Material) -> str:
    logging.info("bundle %s", bundle.config.name)
    network = load_network(bundle)
    backbone = EmbeddingBackbone(network)

    def scores(photos: Pixels) -> Floats:
        with torch.inference_mode():
            return network.head(torch.from_numpy(backbone.embed(photos))).numpy().astype(np.float64)

    right = accuracy_under_shift(scores, material.shifted)
    field = read_metrics(bundle).get("fieldwaste")
    seen = with_interval(field.accuracy) if field else ""
    return f"| fine-tuned, {bundle.path.name} | {cells(np.array([list(right.values())]))} | {seen} |"


def scores_rows(name: str, network: TrashNetwork, material: Material) -> Iterator[str]:
    """A row a score: AUROC and false alarms of validation photos (as they are, and copy-pasted) against made-up negatives."""
    embed = EmbeddingBackbone(network).embed
    train, other = (
        embed(np.concatenate([material.train, material.copy_pasted(9)])),
        embed(material.without_waste(9)),
    )
    waste = embed(material.shifted.clean_and_copy_pasted)
    negative = embed(material.shifted.not_waste)
    rejection_head = fit_to_embeddings(train, other, waste, negative, LOST)
    for score, function in score_functions(network, train, np.tile(material.y_true, 2)).items():
        yield score_row(name, score, function(waste), function(negative))
    yield score_row(
        name, "linear rejection head", rejection_head.logits(waste), rejection_head.logits(negative)
    )


def score_functions(
    network: TrashNetwork, train: Floats, y_true: Ints
) -> dict[str, Callable[[Floats], Floats]]:
    def logits(embedded: Floats) -> Floats:
        with torch.inference_mode():
            return network.head(torch.from_numpy(embedded)).numpy().astype(np.float64)

    def largest_probability(embedded: Floats) -> Floats:
        shifted = logits(embedded) - logits(embedded).max(1, keepdims=True)
        return 1 / np.exp(shifted).sum(1)

    unit = train / np.linalg.norm(train, axis=1, keepdims=True)
    means = np.stack([train[y_true == c].mean(0) for c in range(6)])
    spread = np.cov((train - means[y_true]).T) + 1e-3 * np.eye(train.shape[1]) * train.var()
    inverse = np.linalg.inv(spread)

    def neighbour(embedded: Floats) -> Floats:
        similar = embedded / np.linalg.norm(embedded, axis=1, keepdims=True) @ unit.T
        return np.sort(similar, axis=1)[:, -10]

    def mahalanobis(embedded: Floats) -> Floats:
        away = embedded[:, None] - means[None]
        return -np.einsum("ncd,de,nce->nc", away, inverse, away, optimize=True).min(1)

    def energy(embedded: Floats) -> Floats:
        return np.asarray(np.logaddexp.reduce(logits(embedded), axis=1))

    ceiling = np.quantile(train, 0.9)
    return {
        "largest probability": largest_probability,
        "largest logit": lambda embedded: logits(embedded).max(1),
        "energy": energy,
        "energy of clipped embeddings (ReAct)": lambda embedded: energy(np.minimum(embedded, ceiling)),
        "energy less what lies off the main directions (ViM)": virtual_logit(network, train, logits, energy),
        "10th nearest neighbour": neighbour,
        "Mahalanobis distance": mahalanobis,
    }


def virtual_logit(
    network: TrashNetwork,
    train: Floats,
    logits: Callable[[Floats], Floats],
    energy: Callable[[Floats], Floats],
) -> Callable[[Floats], Floats]:
    """Energy less the scaled length of the embedding outside the training data's first 512 directions (ViM, Wang et al., 2022)."""
    linear = network.head[-1]
    weight, bias = (tensor.detach().double().numpy() for tensor in (linear.weight, linear.bias))
    origin = -np.linalg.pinv(weight) @ bias
    shifted = train - origin
    _, directions = np.linalg.eigh(shifted.T @ shifted)  # ascending; around the origin, not the mean
    minor = directions[:, : max(1, train.shape[1] - 512)]

    def away(embedded: Floats) -> Floats:
        return np.linalg.norm((embedded - origin) @ minor, axis=1)

    scale = logits(train).max(1).mean() / away(train).mean()
    return lambda embedded: energy(embedded) - scale * away(embedded)


def score_row(name: str, score: str, waste: Floats, negative: Floats) -> str:
    y_true = np.r_[np.ones(len(waste)), np.zeros(len(negative))]
    auroc = roc_auc_score(y_true, np.r_[waste, negative])
    alarms = (negative >= np.quantile(waste, 0.05)).mean()
    return f"| {name} | {score} | {auroc:.3f} | {100 * alarms:.1f}% |"


def put(name: str, lines: list[str]) -> None:
    """Write a table between its markers in the page."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    after = rest.partition(end)[2]
    PAGE.write_text(f"{before}{begin}\n" + "\n".join(lines) + f"\n{end}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    bundles = [read_bundle(path) for path in arguments.bundles]
    config = bundles[0].config
    settings = TrainSettings(
        name=config.data["name"], input_height=config.input_height, input_width=config.input_width,
        resize_mode=config.resize_mode, data_dir=arguments.data_dir,
    )  # fmt: skip
    material = Material(read_manifest(settings.processed_dir / config.data["name"]), settings)
    frozen = build_network(config.architecture, len(config.classes))
    corruptions = " | ".join(FIXED)
    table = [
        f"| trained | clean | copy-pasted | corruptions, mean | {corruptions} | fieldwaste |",
        "|---" * (len(FIXED) + 5) + "|",
    ]
    table += [
        *heads(material, frozen, range(arguments.seeds)),
        *(bundle_row(bundle, material) for bundle in bundles),
    ]
    n = f"n = {len(material.val)} clean, {len(material.shifted.copy_pasted)} copy-pasted, {len(material.val)} for each corruption"
    put(
        "ingredients",
        [
            *table,
            "",
            f"Accuracy in percent on validation photos, {n}; {arguments.seeds} seed(s), mean and range where there are several.",
        ],
    )
    table = ["| embeddings of | score | AUROC | false alarms at 95% kept |", "|---|---|---|---|"]
    table += [
        row
        for bundle in bundles[:1]
        for row in scores_rows(bundle.config.name, load_network(bundle), material)
    ]
    n = f"{len(material.val) + len(material.shifted.copy_pasted)} validation photos, {len(material.shifted.not_waste)} made-up photos without waste"
    put("scores", [*table, "", f"{n}."])


if __name__ == "__main__":
    main()
