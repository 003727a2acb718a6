"""Joins backbones and data: the `features` command, and the embeddings by which near-duplicates are found."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from image_classification_trash.config import FeatureSettings
from image_classification_trash.data.make_dataset import Embed
from image_classification_trash.data.manifest import SPLITS, Photo, read_manifest
from image_classification_trash.features.build_features import (
    Embeddings,
    PixelSettings,
    embeddings,
    pixel_cache,
)
from image_classification_trash.models.architectures import EmbeddingBackbone, build_network

NEAR_DUPLICATE_PIXELS = PixelSettings((224, 288), "stretch")


def near_duplicate_embedder(interim_dir: Path) -> Embed:
    """Embeddings of the published EfficientNet-Lite0, which the similarity threshold was chosen for."""

    def embed(photos: Sequence[Photo], root: Path) -> Embeddings:
        backbone = EmbeddingBackbone(build_network("efficientnet_lite0", 2))
        return embeddings(photos, root, backbone, NEAR_DUPLICATE_PIXELS, interim_dir)

    return embed


def build_features(settings: FeatureSettings) -> Iterator[str]:
    """Fill the pixel caches and the embeddings of a data set; yields a line about each."""
    manifest = read_manifest(settings.processed_dir / settings.name)
    pixels = PixelSettings(settings.input_size, settings.fit)
    network = build_network(
        settings.architecture, len(manifest.labels), settings.pretrained, settings.weights
    )
    backbone = EmbeddingBackbone(network)
    for split in SPLITS:
        photos = manifest.part(split)
        cache = pixel_cache(photos, manifest.root, pixels, settings.interim_dir, split)
        vectors = embeddings(photos, manifest.root, backbone, pixels, settings.interim_dir)
        yield f"{split}: pixels {cache.shape}, embeddings {vectors.shape} of {settings.architecture}"
