"""Read and replace the classification head of a .tflite file, and run the file up to it.

The head is the fully connected layer with one output a class that leads to the softmax: no name and no signature is
needed, so that files of any version, and with a second tail for rejection, can be used.

Own code on the schema's generated reader and writer, because the converter's libraries change no file that exists.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from image_classification_trash.arrays import Floats
from image_classification_trash.errors import ExportError
from image_classification_trash.export.tflite_writer import FLOATS, add_constant, code_of, pack
from image_classification_trash.networks.head_correction import Head

OUTPUT = "embeddings"
_OP, _TYPE = schema.BuiltinOperator, schema.TensorType
_GIVE_ANOTHER = "Give the bundle, or a .tflite file that trash-classifier export made with --quantize fp16."


class HeadOfFile:
    """The head inside a .tflite file.

    Args:
        content: bytes of the file; what is appended to the model is ignored.
        classes: number of classes C, without the negative label.

    Raises:
        ExportError: no layer, or more than one, is the head of C classes, or it computes with integers.
    """

    def __init__(self, content: bytes, classes: int) -> None:
        self._model = schema.ModelT.InitFromPackedBuf(content, 0)
        self._graph = self._model.subgraphs[0]
        self._makers = {int(made): op for op in self._graph.operators for made in op.outputs}
        found = [way for op in self._graph.operators if (way := self.way_back(op, classes)) is not None]
        if len(found) != 1:
            what = f"This .tflite file has {len(found)} layers that lead to a softmax over {classes} classes, not one."
            raise ExportError(what, _GIVE_ANOTHER)
        self._layer, self._scale = found[0]
        if self._graph.tensors[self._layer.inputs[0]].type != _TYPE.FLOAT32:
            what = (
                "The head of this .tflite file computes with integers, which leave no room for a correction."
            )
            raise ExportError(what, _GIVE_ANOTHER)

    def head(self) -> Head:
        """Return the head, with everything before the softmax in it: its scores are divided by the temperature."""
        _, weight, *bias = self._layer.inputs
        values = self._constant(weight)
        shift = self._constant(bias[0]) if bias and bias[0] >= 0 else np.zeros(len(values))
        return Head(values * self._scale, shift.reshape(-1) * self._scale)

    def embeds(self) -> bytes:
        """Return a model that ends where the head begins: uint8 photos (1, H, W, 3) to embeddings, float32 (1, D)."""
        place = int(self._layer.inputs[0])
        self._graph.outputs = [place]
        for signature in self._model.signatureDefs or []:
            output = schema.TensorMapT()
            output.name, output.tensorIndex = OUTPUT, place
            signature.outputs = [output]
        self._keep_needed(self._graph.outputs)
        return pack(self._model)

    def with_head(self, head: Head) -> bytes:
        """Return the model with another head, whose scores are divided by the temperature, in float32."""
        bias = head.bias / self._scale
        self._layer.inputs = [int(self._layer.inputs[0])]
        for name, value in (("weight", head.weight / self._scale), ("bias", bias)):
            self._layer.inputs.append(add_constant(self._model, f"adapted/{name}", value.astype(np.float32)))
        self._keep_needed(self._graph.outputs)
        return pack(self._model)

    def way_back(self, op: Any, classes: int) -> tuple[Any, float] | None:
        """Follow a softmax over the classes back to the layer of its scores, and to the factor in between."""
        if (
            code_of(self._model, op) != _OP.SOFTMAX
            or int(self._graph.tensors[op.outputs[0]].shape[-1]) != classes
        ):
            return None
        scale, before = 1.0, self._makers.get(int(op.inputs[0]))
        while before is not None and code_of(self._model, before) in (_OP.MUL, _OP.DIV):
            factor = self._constant(before.inputs[1])
            if factor.size != 1:
                return None
            scale *= float(factor.item()) ** (1 if code_of(self._model, before) == _OP.MUL else -1)
            before = self._makers.get(int(before.inputs[0]))
        is_layer = before is not None and code_of(self._model, before) == _OP.FULLY_CONNECTED
        return (before, scale) if is_layer else None

    def _constant(self, place: int) -> Floats:
        """Return a constant in float64, from floats of either size or from integers with a scale; empty if it is none."""
        tensor, maker = self._graph.tensors[place], self._makers.get(int(place))
        if maker is not None and code_of(self._model, maker) == _OP.DEQUANTIZE:
            return self._constant(maker.inputs[0])
        data = self._model.buffers[tensor.buffer].data
        if maker is not None or data is None:
            return np.empty(0)
        shape = () if tensor.shape is None else tuple(tensor.shape)
        raw = np.asarray(data, np.uint8).tobytes()
        if tensor.type in FLOATS:
            return np.frombuffer(raw, FLOATS[tensor.type]).reshape(shape).astype(np.float64)
        if tensor.type != _TYPE.INT8:
            return np.empty(0)
        scale = np.asarray(tensor.quantization.scale, np.float64)
        scale = scale.reshape(-1, *([1] * (len(shape) - 1))) if scale.size > 1 else scale
        return np.asarray(np.frombuffer(raw, np.int8).reshape(shape) * scale)

    def _keep_needed(self, outputs: Iterable[int]) -> None:
        """Remove the operations that no output depends on."""
        needed, kept = set(map(int, outputs)), []
        for op in reversed(self._graph.operators):  # in the order of execution
            if needed & set(map(int, op.outputs)):
                needed |= set(map(int, op.inputs))
                kept.append(op)
        self._graph.operators = kept[::-1]
