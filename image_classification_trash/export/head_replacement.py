"""Write a copy of a model with another head: of a bundle a bundle, of a .tflite file a .tflite file.

    origin = open_origin(Path("models/sample"))          # its head, and what embeds photos for it
    origin.write(Path("models/mine"), config, head)      # models/mine, or models/mine.tflite

Neither needs torch: tensors are exchanged in the files. The model that is given is never changed.
"""

import json
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from image_classification_trash.errors import BundleError
from image_classification_trash.evaluation.model_card import model_card
from image_classification_trash.export.tflite_head import HeadOfFile
from image_classification_trash.export.tflite_metadata import with_metadata
from image_classification_trash.features.class_means import FILE as CLASS_MEANS
from image_classification_trash.features.class_means import ClassMeans, read_class_means
from image_classification_trash.features.owner_photos import Embed
from image_classification_trash.files import sha256_of, write_bytes
from image_classification_trash.inference.bundle import (
    CARD,
    EXPORT,
    NOTICE,
    WEIGHTS,
    Bundle,
    BundleConfig,
    add_to_bundle,
    read_bundle,
    write_bundle,
)
from image_classification_trash.inference.file_digest import files_in_tflite
from image_classification_trash.inference.runtimes import DESCRIPTION, LiteRtRuntime, open_file
from image_classification_trash.networks.head_correction import Head
from image_classification_trash.networks.safetensors_file import read_tensor, with_tensor

TFLITE = "model.tflite"
WEIGHT, BIAS, TEMPERATURE = "head.1.weight", "head.1.bias", "temperature"


class Origin(Protocol):
    """A model to adapt.

    Attributes:
        path: its folder or file.
        config: its description.
        sha256: of its weights or of its file.
        head: its head, with scores at temperature 1.
        means: of its training photos; None if it does not carry them.
    """

    path: Path
    config: BundleConfig
    sha256: str
    head: Head
    means: ClassMeans | None

    @property
    def embed(self) -> Embed:
        """What maps photos, uint8 (B, H, W, 3), to what enters the head, float32 (B, D); opened on first use."""
        ...

    def write(self, place: Path, config: BundleConfig, head: Head) -> Path:
        """Write a copy with another description and head; return its path."""
        ...


def notice_of(path: Path) -> Path:
    """Return where the notice of an adapted .tflite file stands: beside it."""
    return path.with_suffix(f".{NOTICE}")


class TfliteOrigin:
    """A .tflite file to adapt; an inner tensor of its graph is read, so that files of any version will do.

    Raises:
        BundleError: it is damaged, or was not exported by this program.
        ExportError: its head is not found, or computes with integers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config, runtime = open_file(path, "litert")
        assert isinstance(runtime, LiteRtRuntime)  # of all engines, `litert` names this one
        self.content, self.sha256 = runtime.content, runtime.digest
        self._head = HeadOfFile(self.content, len(self.config.classes))
        self.head = self._head.head().divided_by(1 / self.config.temperature)
        self.files = files_in_tflite(self.content)
        stored = self.files.get(CLASS_MEANS)
        self.means = (
            None
            if stored is None
            else read_class_means(stored, self.config.classes, self.head.weight.shape[1], str(path))
        )

    @cached_property
    def embed(self) -> Embed:
        """Run the file up to its head."""
        return LiteRtRuntime(self._head.embeds(), self.path)

    def write(self, place: Path, config: BundleConfig, head: Head) -> Path:
        """Write `place`.tflite, and the notice that the given file's photos ask for."""
        path = place.with_name(f"{place.name}.tflite")
        write_bytes(path, self.adapted(config, head))
        for folder in (
            self.path.parent,
            self.path.parent.parent,
        ):  # beside a shipped file; above an exported one
            if (folder / NOTICE).is_file():
                write_bytes(notice_of(path), (folder / NOTICE).read_bytes())
                break
        return path

    def adapted(self, config: BundleConfig, head: Head) -> bytes:
        """Return the file with another description and head."""
        model = HeadOfFile(self.content, len(config.classes)).with_head(head.divided_by(config.temperature))
        described = {**json.loads(self.files[DESCRIPTION]), **asdict(config), "metrics": {}}
        text = json.dumps(described, indent=2, ensure_ascii=False) + "\n"
        return with_metadata(model, config, {**self.files, DESCRIPTION: text.encode()})


class BundleOrigin:
    """A bundle to adapt.

    Raises:
        BundleError: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.bundle = path, read_bundle(path)
        self.config = self.bundle.config
        self._weights = self.bundle.weights.read_bytes()
        self.sha256 = sha256_of(self._weights)
        weight, bias = (read_tensor(self._weights, name, str(self.bundle.weights)) for name in (WEIGHT, BIAS))
        self.head = Head(weight, bias)
        means = path / CLASS_MEANS
        self.means = (
            read_class_means(means.read_bytes(), self.config.classes, weight.shape[1], str(means))
            if means.is_file()
            else None
        )

    @cached_property
    def embed(self) -> Embed:
        """Run the weights in torch or, where that is not installed, the exported file up to its head."""
        return embed_with_torch(self.bundle) or TfliteOrigin(self.bundle.exported(TFLITE)).embed

    def write(self, place: Path, config: BundleConfig, head: Head) -> Path:
        """Write the bundle `place`, with its card, and export/model.tflite if the given one has that."""
        content, origin = self._weights, str(self.bundle.weights)
        values = {WEIGHT: head.weight, BIAS: head.bias, TEMPERATURE: np.array(config.temperature)}
        for name, value in values.items():
            content = with_tensor(content, name, value, origin)
        files = {WEIGHTS: content}
        for name in (NOTICE, CLASS_MEANS):
            if (self.path / name).is_file():
                files[name] = (self.path / name).read_bytes()
        if (self.path / EXPORT / TFLITE).is_file():
            exported = TfliteOrigin(self.bundle.exported(TFLITE))
            files[f"{EXPORT}/{TFLITE}"] = exported.adapted(config, head)
        written = write_bundle(place, config, files)
        add_to_bundle(written, {CARD: model_card(config, {}, None)})
        return written.path


def open_origin(path: Path) -> Origin:
    """Open the model to adapt.

    Raises:
        BundleError: it is neither a bundle nor a .tflite file, or damaged.
    """
    if path.suffix == ".onnx":
        hint = "Give the bundle that it was exported from, or the bundle's .tflite file."
        raise BundleError(f"{path} is an ONNX file, and adapt changes bundles and .tflite files.", hint)
    return TfliteOrigin(path) if path.is_file() else BundleOrigin(path)


def embed_with_torch(bundle: Bundle) -> Embed | None:
    """Return what embeds photos with the bundle's weights; None where torch is not installed."""
    try:
        from image_classification_trash.networks.network import (  # noqa: PLC0415  the train extra
            EmbeddingBackbone,
            load_network,
        )
    except ImportError:
        return None
    network = load_network(bundle)
    backbone = EmbeddingBackbone(network)
    return lambda photos: backbone.embed(photos)[:, : network.width]  # without those of a rejection tail
