"""Export the trained network to ONNX, in float32 and in int8."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from image_classification_trash.inference.file_digest import sealed_onnx
from image_classification_trash.inference.images import Pixels, Size
from image_classification_trash.networks.network import TrashNetwork

INPUT, OUTPUT = "images", "probabilities"
OPSET = 20
_QUANTISED = (
    "Conv",
    "Gemm",
    "MatMul",
    "Add",
    "Mul",
    "Clip",
    "Relu",
    "MaxPool",
    "ReduceMean",
    "GlobalAveragePool",
)
_EMBEDS = ("Conv", "ReduceMean", "GlobalAveragePool")
"""The last of these operations ends the backbone; the rest is the head."""


def to_onnx(network: TrashNetwork, size: Size) -> onnx.ModelProto:
    """Export with a dynamic batch size, folded constants and merged batch norm, and check the result."""
    example = torch.zeros(2, *size, 3, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=4096)
    with _silence():
        program = torch.onnx.export(
            network, (example,), dynamo=True, dynamic_shapes=({0: batch},), input_names=[INPUT],
            output_names=[OUTPUT], opset_version=OPSET, verbose=False,
        )  # fmt: skip
    assert program is not None
    program.optimize()
    model = program.model_proto
    # Remove torch's notes on the origin of each node: stack traces of the machine that exported it.
    graph = model.graph
    for item in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""
    del model.functions[:]
    onnx.checker.check_model(model, full_check=True)
    return model


def quantise(model: onnx.ModelProto, calibration: Pixels, keep: Sequence[str] = ()) -> onnx.ModelProto:
    """Quantise statically to int8: QDQ, uint8 activations, int8 weights per channel, min-max calibration.

    Args:
        model: the float32 model.
        calibration: uint8 training photos (N, H, W, 3).
        keep: names of nodes that stay in float32.
    """
    with tempfile.TemporaryDirectory() as folder, _silence():
        plain, merged, small = (
            str(Path(folder) / name) for name in ("plain.onnx", "merged.onnx", "int8.onnx")
        )
        onnx.save(model, plain)
        quant_pre_process(plain, merged, skip_symbolic_shape=True)
        quantization.quantize_static(
            merged, small, _Calibration(calibration), quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTISED), per_channel=True, nodes_to_exclude=list(keep),
            activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            reduce_range=True,  # x86 without VNNI sums products in 16 bits, which 8-bit weights overflow
        )  # fmt: skip
        quantised = onnx.load(small)
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


def layers(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes with weights, from input to output."""
    return [node.name for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]


def head(model: onnx.ModelProto) -> list[str]:
    """Return the names of all nodes after the embedding."""
    nodes = model.graph.node
    embedded = max(place for place, node in enumerate(nodes) if node.op_type in _EMBEDS)
    return [node.name for node in nodes[embedded + 1 :]]


def with_metadata(model: onnx.ModelProto, texts: Mapping[str, str]) -> bytes:
    """Return the model as the bytes of a file, with texts as its metadata and a digest."""
    described = onnx.ModelProto()
    described.CopyFrom(model)
    onnx.helper.set_model_props(described, dict(texts))
    return sealed_onnx(described.SerializeToString(deterministic=True))


class _Calibration(quantization.CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, photos: Pixels) -> None:
        self._photos = iter(photos)

    def get_next(self) -> dict[str, Any] | None:
        photo = next(self._photos, None)
        return None if photo is None else {INPUT: np.asarray(photo)[None]}


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Silence exporters, which print to standard output and log; errors still arrive as exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
