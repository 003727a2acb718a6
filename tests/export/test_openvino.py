"""OpenVINO's files answer as the network does, describe themselves, and are an extra's."""

import re
import sys
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
import torch

from image_classification_trash.config.models import ExportSettings
from image_classification_trash.errors import ExportError, MissingExtraError
from image_classification_trash.export.parity import FLOAT32_TOLERANCE, odd_pictures
from image_classification_trash.export.to_onnx import to_onnx
from image_classification_trash.export.to_openvino import OpenVinoRuntime, write_openvino
from image_classification_trash.models.export_model import export
from image_classification_trash.networks.network import TrashNetwork, to_planes

ROOT = Path(__file__).parents[2]
SIZE = (64, 80)
TEXTS = {"labels.txt": "glass\nmétal, fin\n紙 箱\n", "bundle.json": '{"name": "tiny", "note": "<&>"}'}


@pytest.mark.parametrize("architecture", ["sequential_cnn", "efficientnet_lite0"])
def test_it_says_what_torch_says(architecture: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = TrashNetwork(architecture, 3).eval()
    pixels = odd_pictures(SIZE)
    with torch.inference_mode():  # random weights hardly tell photos apart
        scores = network.logits(to_planes(torch.from_numpy(pixels)))
        network.head[-1].bias -= scores.mean(0)
        network.temperature.fill_(scores.std(0).mean())
        expected = network(torch.from_numpy(pixels)).numpy()
    assert expected.std(0).max() > 0.01, "the answers must differ, or equality means nothing"
    write_openvino(to_onnx(network, SIZE), tmp_path, TEXTS)
    run = OpenVinoRuntime(tmp_path)
    for count in (1, len(pixels)):
        answers = run(pixels[:count])
        assert answers.dtype == np.float32
        assert np.abs(answers - expected[:count]).max() < FLOAT32_TOLERANCE
    assert {path.name for path in tmp_path.iterdir()} == {"model.xml", "model.bin"}


def test_the_program_of_the_document_reads_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    write_openvino(to_onnx(TrashNetwork("sequential_cnn", 3).eval(), SIZE), tmp_path, TEXTS)
    document = (ROOT / "docs/reference/export.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
    (program,) = (block for block in blocks if "openvino" in block)
    names = {"photos": odd_pictures(SIZE)}
    exec(program.replace("models/sample/export/openvino", str(tmp_path)), names)
    assert names["labels"] == ["glass", "métal, fin", "紙 箱"]
    assert np.asarray(names["probabilities"]).sum(1) == pytest.approx(np.ones(6), abs=1e-5)
    model = openvino.Core().read_model(tmp_path / "model.xml")
    assert model.get_rt_info(["trash_classifier", "bundle.json"]).astype(str) == TEXTS["bundle.json"]


def test_an_operation_that_it_does_not_know_is_an_error(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Nothing", ["images"], ["probabilities"], domain="org.example")
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3])
        for name in ("images", "probabilities")
    ]
    graph = onnx.helper.make_graph([node], "odd", values[:1], values[1:])
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("org.example", 1)]
    with pytest.raises(ExportError, match="OpenVINO cannot translate the network"):
        write_openvino(onnx.helper.make_model(graph, opset_imports=opsets), tmp_path, {})
    assert not [*tmp_path.iterdir()]


def test_without_the_extra_it_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"Exporting needs openvino, .*\[train,export,openvino\]"):
        export(ExportSettings(format=["openvino"]))
