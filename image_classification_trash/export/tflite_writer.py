"""Write .tflite files small: equal vectors once, and large matrices that stayed in float32 in half precision.

Own code on the schema's generated writer, because the converter's libraries change no file that exists.
"""

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_OP, _TYPE = schema.BuiltinOperator, schema.TensorType
_ALIGNMENT = 16
"""Bytes to which the schema aligns the data of tensors."""
_LARGE = 2**15
"""Values from which half of a matrix is worth the operation that restores it."""


class SharingBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """A builder that writes equal vectors once: each channel's zero points, one list a layer, are a twelfth of an int8 file."""

    def __init__(self, size: int = 1024) -> None:
        super().__init__(size)
        self._places: dict[tuple[str, bytes], int] = {}

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802  overrides
        """Begin a vector; bytes are aligned, as the data of tensors must be."""
        return super().StartVector(elemSize, numElems, _ALIGNMENT if elemSize == 1 else alignment)

    def CreateNumpyVector(self, x: "np.ndarray[Any, Any]") -> int:  # noqa: N802  overrides
        """Write a vector, unless an equal one was written before; return its place."""
        key = (x.dtype.str, x.tobytes())
        if key not in self._places:
            self._places[key] = super().CreateNumpyVector(x)
        return self._places[key]


def pack(model: Any) -> bytes:
    """Write a model, a `ModelT` of the schema, as the bytes of a .tflite file."""
    builder = SharingBuilder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def with_half_matrices(content: bytes) -> bytes:
    """Store large matrices of fully connected layers that are in float32 as float16, as an fp16 file stores all weights.

    In an integer file these are the prototypes of a rejection head, which computes in float32.
    """
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    matrices = {int(op.inputs[1]) for op in graph.operators if _code(model, op) == _OP.FULLY_CONNECTED}
    for place in sorted(matrices):
        tensor = graph.tensors[place]
        data = model.buffers[tensor.buffer].data
        if tensor.type != _TYPE.FLOAT32 or data is None or len(data) < 4 * _LARGE:
            continue
        half, buffer = schema.TensorT(), schema.BufferT()
        values = np.asarray(data, np.uint8).view(np.float32).astype(np.float16)
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        half.name, half.type, half.shape = tensor.name + b"/half", _TYPE.FLOAT16, tensor.shape
        half.buffer, half.hasRank = len(model.buffers), True
        model.buffers.append(buffer)
        model.buffers[tensor.buffer].data, tensor.buffer = None, 0  # the first buffer is the empty one
        restored = schema.OperatorT()
        restored.opcodeIndex = _dequantize(model)
        restored.inputs, restored.outputs = [len(graph.tensors)], [place]
        graph.tensors.append(half)
        graph.operators.insert(0, restored)
    return pack(model)


def _dequantize(model: Any) -> int:
    """Return the place of the DEQUANTIZE operation in the model's table of operations, with halves among its inputs."""
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = _OP.DEQUANTIZE
    code.version = 3  # the first that takes float16
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _code(model: Any, op: Any) -> int:
    code = model.operatorCodes[op.opcodeIndex]
    return int(
        max(code.builtinCode, code.deprecatedBuiltinCode)
    )  # old writers fill in the one, new ones both
