"""The head of a .tflite file is found whatever its precision and its other tails, read, and replaced."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from image_classification_trash.errors import ExportError
from image_classification_trash.export.tflite_head import HeadOfFile
from image_classification_trash.export.to_tensorflow import convert_to_tflite, int8_tflites
from image_classification_trash.export.torch_to_tensorflow import LoweredNetwork
from image_classification_trash.inference.bundle import BundleConfig
from image_classification_trash.inference.images import Pixels
from image_classification_trash.inference.runtimes import LiteRtRuntime
from image_classification_trash.inference.shipped import shipped_model
from image_classification_trash.models.export_model import trace
from image_classification_trash.networks.head_correction import Head, softmax
from image_classification_trash.networks.network import TrashNetwork

SIZE, CLASSES = (32, 48), 3
PHOTOS = np.random.default_rng(0).integers(0, 256, (6, *SIZE, 3), dtype=np.uint8)
CONFIG = BundleConfig(
    name="tiny", architecture="sequential_cnn", labels=("a", "b", "c"), input_height=32, input_width=48, resize_mode="stretch",
    temperature=1.7, threshold=0.5, data={}, training={}, git_commit="0", versions={}, created="now",
)  # fmt: skip


class TwoTails(TrashNetwork):
    """A network whose rejection comes from embeddings of its own, as wide as the classes' scores are many."""

    def __init__(self) -> None:
        super().__init__("sequential_cnn", CLASSES)
        self.other = nn.Conv2d(3, CLASSES, 5)

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        planes = photos.permute(0, 3, 1, 2).float()
        waste = torch.sigmoid(self.other(planes / 255).mean(dim=[2, 3]).mean(dim=1, keepdim=True))
        classes = self.class_probabilities(self.head(self.embed(planes)))
        return torch.cat([classes * waste, 1 - waste], dim=1)


def lowered(network: TrashNetwork) -> LoweredNetwork:
    network.temperature.fill_(CONFIG.temperature)
    return LoweredNetwork(trace(network.eval(), SIZE))


@pytest.fixture(scope="module")
def networks() -> dict[str, LoweredNetwork]:
    torch.manual_seed(0)
    return {"plain": lowered(TrashNetwork("sequential_cnn", CLASSES)), "two tails": lowered(TwoTails())}


def classes_of(content: bytes, photos: Pixels, classes: int) -> np.ndarray:
    """Probabilities of the classes, given that a photo shows waste."""
    rows = LiteRtRuntime(content, Path("a.tflite"))(photos)[:, :classes].astype(np.float64)
    return np.asarray(rows / rows.sum(1, keepdims=True))


@pytest.mark.parametrize(
    ("tails", "precision"), [("plain", "fp16"), ("two tails", "float32"), ("two tails", "dynamic")]
)
def test_the_head_is_found_read_and_replaced(
    networks: dict[str, LoweredNetwork], tails: str, precision: str
) -> None:
    content = convert_to_tflite(networks[tails], CONFIG, precision)
    found = HeadOfFile(content, CLASSES)
    head, embed = found.head(), LiteRtRuntime(found.embeds(), Path("a.tflite"))
    embedded = embed(PHOTOS)
    assert softmax(head(embedded)) == pytest.approx(classes_of(content, PHOTOS, CLASSES), abs=5e-3)
    other = Head(head.weight[[1, 2, 0]] * 2, head.bias + np.array([0.1, -0.2, 0.0]))
    changed = HeadOfFile(content, CLASSES).with_head(other)
    assert softmax(other(embedded)) == pytest.approx(classes_of(changed, PHOTOS, CLASSES), abs=1e-5)
    again = HeadOfFile(changed, CLASSES).head()
    assert again.weight == pytest.approx(other.weight, rel=1e-6)
    if tails == "two tails":
        whole = [LiteRtRuntime(file, Path("a.tflite"))(PHOTOS)[:, -1] for file in (content, changed)]
        assert whole[0] == pytest.approx(whole[1])


def test_a_head_of_integers_is_refused(networks: dict[str, LoweredNetwork]) -> None:
    content, _ = next(int8_tflites(networks["plain"], CONFIG, PHOTOS, [0]))
    with pytest.raises(ExportError, match=r"integers.*fp16"):
        HeadOfFile(content, CLASSES)


def test_a_file_without_such_a_head_is_refused() -> None:
    with pytest.raises(ExportError, match="0 layers"):
        HeadOfFile(shipped_model().read_bytes(), 5)


def test_the_shipped_file_ends_at_its_embeddings_and_answers_as_before() -> None:
    content = shipped_model().read_bytes()
    found = HeadOfFile(content, 6)
    embed = LiteRtRuntime(found.embeds(), shipped_model())
    photos = np.random.default_rng(0).integers(0, 256, (2, *embed.input_size, 3), dtype=np.uint8)
    assert softmax(found.head()(embed(photos))) == pytest.approx(classes_of(content, photos, 6), abs=1e-5)
    same = HeadOfFile(content, 6).with_head(HeadOfFile(content, 6).head())
    assert np.array_equal(classes_of(same, photos, 6), classes_of(content, photos, 6))
