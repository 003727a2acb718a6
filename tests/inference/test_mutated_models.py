"""Damaged model files: refused, or answered with finite numbers; `scripts/mutate_models.py --count 1000` is the long run."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter
from helpers.commands import GUARD
from helpers.gateways import CONFIG, write_onnx
from onnx import TensorProto, helper, numpy_helper

from image_classification_trash.errors import BundleError
from image_classification_trash.inference.bundle import describe
from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.inference.file_digest import sealed_onnx
from image_classification_trash.inference.shipped import shipped_model

SCRIPT = Path(__file__).parents[2] / "scripts" / "mutate_models.py"


def mutate(tmp_path: Path, *arguments: object) -> str:
    line = [
        sys.executable,
        SCRIPT,
        *arguments,
        "--results",
        tmp_path / "rows.jsonl",
        "--keep",
        tmp_path / "kept",
    ]
    done = subprocess.run([*map(str, line)], capture_output=True, text=True, check=False, timeout=GUARD)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    return done.stdout


def test_damaged_models_are_refused_or_answer(tmp_path: Path) -> None:
    whole = write_onnx(tmp_path / "model.onnx", CONFIG)
    whole.write_bytes(sealed_onnx(whole.read_bytes()))
    said = mutate(tmp_path, shipped_model(), whole, "--count", 30)
    untouched, fitting = said.split("the digest fits the damage")
    assert re.findall(r"model\.\w+: (.*)", untouched) == ["15 refused", "15 refused"]
    assert "answered" in fitting and "60 files, 0 findings" in fitting
    assert not (tmp_path / "kept").exists()
    rows = (tmp_path / "rows.jsonl").read_text()
    (tmp_path / "rows.jsonl").write_text(rows[: len(rows) // 2])
    assert mutate(tmp_path, shipped_model(), whole, "--count", 30) == said, "it goes on where it was ended"


def test_a_model_that_fails_only_when_it_runs_is_a_damaged_model(tmp_path: Path) -> None:
    """Row 10,000 of three is asked for once photos are seen."""
    size = CONFIG.input_size
    photos = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", *size, 3])
    answers = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])
    consts = {
        "rows": np.eye(3, dtype=np.float32),
        "far": np.array([10_000]),
        "start": np.array([0]),
        "end": np.array([1]),
    }
    nodes = [
        helper.make_node("Shape", ["images"], ["shape"]),
        helper.make_node("Slice", ["shape", "start", "end"], ["count"]),
        helper.make_node("Mul", ["count", "far"], ["row"]),
        helper.make_node("Gather", ["rows", "row"], ["probabilities"]),
    ]
    weights = [numpy_helper.from_array(value, name) for name, value in consts.items()]
    graph = helper.make_graph(nodes, "far", [photos], [answers], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {"bundle.json": describe(CONFIG, {}, {})})
    onnx.save(model, tmp_path / "model.onnx")
    classifier = TrashClassifier.load(tmp_path / "model.onnx")
    with pytest.raises(BundleError, match=r"model\.onnx cannot be run: .*out of data bounds"):
        classifier.probabilities(np.zeros((1, *size, 3), np.uint8))


def test_litert_too(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = TrashClassifier.load()

    def fail(_: Interpreter) -> None:
        raise RuntimeError("Input tensor 44 lacks data")

    monkeypatch.setattr(Interpreter, "invoke", fail)
    with pytest.raises(BundleError, match=r"model\.tflite cannot be run: Input tensor 44 lacks data"):
        classifier.probabilities(np.zeros((1, *classifier.config.input_size, 3), np.uint8))


def test_a_description_that_is_no_text_is_a_damaged_model(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "model.onnx", CONFIG)
    path.write_bytes(path.read_bytes().replace(b"mean_colour", b"mean\xffcolour"))
    with pytest.raises(BundleError, match=r"model\.onnx cannot be loaded"):
        TrashClassifier.load(path)
    with zipfile.ZipFile(shipped_model()) as packed:
        front = shipped_model().read_bytes()[: packed.infolist()[0].header_offset]
    (tmp_path / "model.tflite").write_bytes(front)
    with zipfile.ZipFile(tmp_path / "model.tflite", "a") as packed:
        packed.writestr("bundle.json", b'{"name": "\xff"}')
    with pytest.raises(BundleError, match=r"model\.tflite cannot be loaded"):
        TrashClassifier.load(tmp_path / "model.tflite")
