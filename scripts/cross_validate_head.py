"""Grouped k-fold accuracy of the linear head: near-duplicates never stand on both sides.

    python scripts/cross_validate_head.py trashnet

The strength is chosen on a part of each training side, never on the fold that is scored.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from image_classification_trash.data.manifest import class_numbers, read_manifest
from image_classification_trash.data.splits import grouped_folds
from image_classification_trash.features.build_features import PixelSettings, embeddings
from image_classification_trash.networks.network import EmbeddingBackbone, build_network
from image_classification_trash.training.linear_head import fit_head

FOLDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name")
    parser.add_argument("--architecture", default="efficientnet_lite0")
    parser.add_argument("--size", type=int, nargs=2, default=(224, 288), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--resize-mode", default="stretch")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    manifest = read_manifest(Path("data/processed") / options.name)
    photos = [replace(photo, split="") for photo in manifest.photos]
    backbone = EmbeddingBackbone(build_network(options.architecture, len(manifest.labels)))
    pixels = PixelSettings(tuple(options.size), options.resize_mode)
    vectors = embeddings(photos, manifest.root, backbone, pixels, Path("data/interim"))
    y_true = class_numbers(photos, manifest.labels)
    fold = np.array(grouped_folds(photos, FOLDS, options.seed))
    scores = []
    for held_out in range(FOLDS):
        test, val = fold == held_out, fold == (held_out + 1) % FOLDS
        train = ~(test | val)
        head = fit_head(vectors[train], y_true[train], vectors[val], y_true[val], len(manifest.labels), 0.5)
        scores.append(float((head.logits(vectors[test]).argmax(1) == y_true[test]).mean()))
    print(
        f"{options.architecture} {tuple(options.size)} {options.resize_mode}, seed {options.seed}, n = {len(y_true)}"
    )
    print(
        f"grouped {FOLDS}-fold accuracy {np.mean(scores):.4f}, folds {', '.join(f'{s:.4f}' for s in scores)}"
    )


if __name__ == "__main__":
    main()
