"""Write .tflite files small: equal vectors once, and large matrices that stayed in float32 in half precision.

Own code on the schema's generated writer, because the converter's libraries change no file that exists.
"""

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_OP, _TYPE = schema.BuiltinOperator, schema.TensorType
FLOATS = {_TYPE.FLOAT32: np.float32, _TYPE.FLOAT16: np.float16}
"""NumPy's types by those of tensors."""
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
    matrices = {int(op.inputs[1]) for op in graph.operators if code_of(model, op) == _OP.FULLY_CONNECTED}
    for place in sorted(matrices):
        tensor = graph.tensors[place]
        data = model.buffers[tensor.buffer].data
        if tensor.type != _TYPE.FLOAT32 or data is None or len(data) < 4 * _LARGE:
            continue
        values = np.asarray(data, np.uint8).view(np.float32).reshape(tensor.shape)
        model.buffers[tensor.buffer].data, tensor.buffer = None, 0  # the first buffer is the empty one
        restored = schema.OperatorT()
        restored.opcodeIndex = _dequantize(model)
        restored.inputs = [add_constant(model, f"{tensor.name.decode()}/half", values.astype(np.float16))]
        restored.outputs = [place]
        graph.operators.insert(0, restored)
    return pack(model)


def _dequantize(model: Any) -> int:
    """Return the place of the DEQUANTIZE operation in the model's table of operations, with halves among its inputs."""
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = _OP.DEQUANTIZE
    code.version = 3  # the first that takes float16
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def add_constant(model: Any, name: str, values: "np.ndarray[Any, Any]") -> int:
    """Add a constant, float32 or float16, to a model; return its place among the tensors."""
    tensor, buffer = schema.TensorT(), schema.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    tensor.name, tensor.shape = name, np.array(values.shape, np.int32)
    tensor.type = next(kind for kind, dtype in FLOATS.items() if values.dtype == dtype)
    tensor.buffer, tensor.hasRank = len(model.buffers), True
    model.buffers.append(buffer)
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1


def code_of(model: Any, op: Any) -> int:
    """Return what an operation of a model does, a number of `BuiltinOperator`."""
    code = model.operatorCodes[op.opcodeIndex]
    # Old writers fill in the one, new ones both.
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))
