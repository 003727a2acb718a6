"""A .tflite file that was written again is smaller and answers the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema

from image_classification_trash.export import tflite_writer
from image_classification_trash.export.to_tensorflow import convert_to_tflite
from image_classification_trash.export.torch_to_tensorflow import LoweredNetwork
from image_classification_trash.inference.bundle import BundleConfig
from image_classification_trash.inference.runtimes import LiteRtRuntime
from image_classification_trash.inference.shipped import shipped_model
from image_classification_trash.models.export_model import trace
from image_classification_trash.networks.network import TrashNetwork
from image_classification_trash.networks.rejection import PrototypeHead

SIZE = (32, 48)
PHOTOS = np.random.default_rng(0).integers(0, 256, (4, *SIZE, 3), dtype=np.uint8)
CONFIG = BundleConfig(
    name="tiny", architecture="sequential_cnn", labels=("a", "b", "c"), input_height=32, input_width=48, resize_mode="stretch",
    temperature=1.0, threshold=0.5, data={}, training={}, git_commit="0", versions={}, created="now",
)  # fmt: skip


def test_equal_vectors_are_written_once_and_bytes_are_aligned() -> None:
    model = schema.ModelT()
    model.buffers = []
    zeros, ones = np.zeros(1000, np.uint8), np.ones(500, np.uint8)
    for data in (zeros, ones, zeros.copy(), ones[:499]):
        buffer = schema.BufferT()
        buffer.data = data
        model.buffers.append(buffer)
    content = tflite_writer.pack(model)
    assert 1999 < len(content) < 2400
    found = schema.Model.GetRootAs(content, 0)
    for place, data in enumerate((zeros, ones, zeros, ones[:499])):
        assert np.array_equal(found.Buffers(place).DataAsNumpy(), data)
        assert found.Buffers(place)._tab.Vector(found.Buffers(place)._tab.Offset(4)) % 16 == 0


def test_the_shipped_model_written_again_answers_the_same() -> None:
    content = shipped_model().read_bytes()
    again = tflite_writer.pack(schema.ModelT.InitFromPackedBuf(content, 0))
    photos = np.random.default_rng(0).integers(0, 256, (2, 224, 288, 3), dtype=np.uint8)
    rows = [LiteRtRuntime(file, Path("a.tflite"))(photos) for file in (content, again)]
    assert np.array_equal(*rows)


@pytest.mark.parametrize("least", [2**15, 2**10])
def test_large_matrices_are_stored_in_half_precision(monkeypatch: pytest.MonkeyPatch, least: int) -> None:
    torch.manual_seed(0)
    network = TrashNetwork("sequential_cnn", 3)
    network.rejection_head = PrototypeHead(network.width, 200)
    with torch.no_grad():
        network.rejection_head.prototypes.normal_()
    content = convert_to_tflite(LoweredNetwork(trace(network.eval(), SIZE)), CONFIG, "float32")
    monkeypatch.setattr(tflite_writer, "_LARGE", least)
    halved = tflite_writer.with_half_matrices(content)
    size = 200 * network.width
    assert len(content) - len(halved) == pytest.approx(2 * size if size >= least else 0, abs=600)
    rows = [LiteRtRuntime(file, Path("a.tflite"))(PHOTOS) for file in (content, halved)]
    assert rows[0] == pytest.approx(rows[1], abs=1e-3)
    assert not np.array_equal(*rows) or size < least
