"""Translate a trained torch network, as torch.export traces it, to TensorFlow operations in NHWC.

Batch norm is folded into the preceding convolution, explicit padding becomes SAME where the two are equal, and an unknown
operation is an error that names it. The result takes a dynamic batch size.

Four-dimensional values are stored in TensorFlow's layout, (B, H, W, C), while the torch graph uses (B, C, H, W); every step
below translates axes accordingly.

Own code, so that the SavedModel and all TFLite files come from one graph, without another converter that pins the versions of
torch and TensorFlow.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from image_classification_trash.errors import ExportError
from image_classification_trash.export.quiet_tensorflow import tf

Array = npt.NDArray[Any]
Step = Callable[..., tf.Tensor]
Node = Any
"""A torch.fx.Node, whose arguments are of too many types to annotate."""
Pads = tuple[tuple[int, int], tuple[int, int]]
"""Padding around a picture: (above, below), (left, right)."""
_aten = torch.ops.aten
_CHANNELS_LAST = {0: 0, 1: 3, 2: 1, 3: 2}
_BATCH_NORM = _aten._native_batch_norm_legit_no_training.default


class LoweredNetwork(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """The network in TensorFlow: uint8 photos (B, H, W, 3) to float32 probabilities (B, C).

    `from_pixels` omits the first cast: the converter of integer models takes float32 photos (0 to 255) and quantises its
    own input.

    Raises:
        ExportError: the network contains an operation without a translation; names it.
    """

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__(name="network")
        self.weights: list[tf.Variable] = []
        signature, state = program.graph_signature, {**program.state_dict, **program.constants}
        sources = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        self._constants = {name: state[source].detach().cpu().numpy() for name, source in sources.items()}
        self._steps: list[tuple[str, tuple[str, ...], Step]] = []
        self._folded: set[Node] = set()
        self._pads: dict[Node, tuple[Node, Pads]] = {}
        self._input = self._output = ""
        for node in program.graph.nodes:
            if node in self._folded or node.target in _UNUSED or node.name in self._constants:
                continue
            if node.op == "placeholder":
                self._input = node.name
            elif node.op == "output":
                self._output = node.args[0][0].name
            elif node.target in _LOWERINGS:
                _LOWERINGS[node.target](self, node)
            else:
                raise unknown(str(node.target))

    def __call__(self, photos: tf.Tensor) -> tf.Tensor:
        """Run uint8 photos (B, H, W, 3); returns float32 probabilities (B, C)."""
        return self.from_pixels(tf.cast(photos, tf.float32))

    def from_pixels(self, photos: tf.Tensor) -> tf.Tensor:
        """Run float32 photos (B, H, W, 3), 0 to 255; returns float32 probabilities (B, C)."""
        values = {self._input: photos}
        for name, inputs, step in self._steps:
            values[name] = step(*(values[source] for source in inputs))
        return values[self._output]

    def step(self, node: Node, inputs: Sequence[Any], step: Step) -> None:
        """Record that `node` is `step` of `inputs`."""
        self._steps.append((node.name, tuple(source.name for source in inputs), step))

    def fold(self, node: Node) -> None:
        """Skip `node`, because another step does its work."""
        self._folded.add(node)

    def fold_padding(self, node: Node, origin: Node, pads: Pads) -> None:
        """Leave the padding of `origin` to the convolution that uses it."""
        self._pads[node] = origin, pads

    def padded(self, node: Node) -> tuple[Node, Pads]:
        """Return the value under a folded padding, and its padding."""
        return self._pads.get(node, (node, ((0, 0), (0, 0))))

    def constant(self, value: Any) -> Array | None:
        """Return the value of a weight or a number; None for a value that is computed from the photos."""
        if isinstance(value, torch.fx.Node):
            return self._constants.get(value.name)
        return np.asarray(value, np.float32)

    def variable(self, value: Array) -> tf.Variable:
        """Store a weight, once for all signatures."""
        self.weights.append(tf.Variable(np.ascontiguousarray(value, np.float32), trainable=False))
        return self.weights[-1]


def unknown(what: str) -> ExportError:
    """Return the error for an operation without a translation."""
    hint = "Export it to ONNX alone with --format onnx, or train another architecture."
    return ExportError(f"The network uses {what}, which has no translation to TensorFlow here.", hint)


def _arguments(node: Node, *defaults: Any) -> list[Any]:
    """Return the node's positional arguments, with defaults for those that are missing."""
    return [*node.args, *defaults[len(node.args) :]]


def _pass_on(network: LoweredNetwork, node: Node) -> None:
    network.step(node, node.args[:1], lambda x: x)


def _elementwise(function: Callable[..., tf.Tensor]) -> "Lowering":
    def lower(network: LoweredNetwork, node: Node) -> None:
        constants = [network.constant(value) for value in node.args[:2]]
        fixed = [
            None
            if value is None
            else tf.constant(value.transpose(0, 2, 3, 1) if value.ndim == 4 else value)  # NCHW to NHWC
            for value in constants
        ]
        computed = [value for value, constant in zip(node.args, fixed, strict=False) if constant is None]

        def step(*inputs: tf.Tensor) -> tf.Tensor:
            rest = iter(inputs)
            return function(*(next(rest) if constant is None else constant for constant in fixed))

        network.step(node, computed, step)

    return lower


def _unary(function: Callable[[tf.Tensor], tf.Tensor]) -> "Lowering":
    return lambda network, node: network.step(node, node.args[:1], function)


def _clamp(network: LoweredNetwork, node: Node) -> None:
    _, low, high = _arguments(node, None, -1.0, 1.0)
    if (low, high) == (0, 6):
        network.step(node, node.args[:1], tf.nn.relu6)
    else:
        network.step(node, node.args[:1], lambda x: tf.clip_by_value(x, low, high))


def _convolution(network: LoweredNetwork, node: Node) -> None:
    source, _, _, stride, padding, dilation, groups = _arguments(
        node, None, None, None, [1, 1], [0, 0], [1, 1], 1
    )
    result, weight, bias = _filters(network, node)
    origin, folded = network.padded(source)
    pads = tuple((before + p, after + p) for (before, after), p in zip(folded, padding, strict=True))
    depthwise = groups > 1
    channels = int(source.meta["val"].shape[1])
    if depthwise and (groups != channels or len(weight) != channels):
        raise unknown(f"a convolution of {channels} channels in {groups} groups")
    kernel = network.variable(weight.transpose(2, 3, 0, 1) if depthwise else weight.transpose(2, 3, 1, 0))
    shift = network.variable(bias)
    convolve = tf.nn.depthwise_conv2d if depthwise else tf.nn.conv2d
    same = _is_same(origin.meta["val"].shape[2:], weight.shape[2:], stride, dilation, pads)

    def step(x: tf.Tensor) -> tf.Tensor:
        x = x if same else _padded(x, pads, 0.0)
        x = convolve(x, kernel, [1, *stride, 1], "SAME" if same else "VALID", dilations=list(dilation))
        return tf.nn.bias_add(x, shift)

    network.step(result, [origin], step)


def _filters(network: LoweredNetwork, node: Node) -> tuple[Node, Array, Array]:
    """Return the result node, weight and bias of a convolution; a batch norm that alone uses it is folded in."""
    weight = network.constant(node.args[1])
    assert weight is not None
    bias = network.constant(node.args[2]) if len(node.args) > 2 and node.args[2] is not None else None
    bias = np.zeros(len(weight), np.float32) if bias is None else bias
    users = list(node.users)
    if len(users) != 1 or users[0].target is not _BATCH_NORM:
        return node, weight, bias
    scale, shift = _batch_norm_line(network, users[0])
    (result,) = users[0].users
    network.fold(users[0])
    network.fold(result)
    return result, weight * scale[:, None, None, None], bias * scale + shift


def _batch_norm(network: LoweredNetwork, node: Node) -> None:
    scale, shift = (network.variable(value) for value in _batch_norm_line(network, node))
    (result,) = node.users
    network.fold(result)
    network.step(result, node.args[:1], lambda x: x * scale + shift)


def _batch_norm_line(network: LoweredNetwork, node: Node) -> tuple[Array, Array]:
    """Return batch norm at inference as `x * scale + shift`, both (C,)."""
    gamma, beta, mean, variance = (network.constant(value) for value in node.args[1:5])
    assert gamma is not None and beta is not None and mean is not None and variance is not None
    scale = gamma / np.sqrt(variance.astype(np.float64) + node.args[6])
    return scale, beta - mean * scale


def _pad(network: LoweredNetwork, node: Node) -> None:
    origin, amounts, mode, value = _arguments(node, None, None, "constant", 0.0)
    if mode != "constant" or len(amounts) != 4:
        raise unknown(f"padding of mode {mode!r} over {len(amounts) // 2} axes")
    left, right, above, below = (int(amount) for amount in amounts)
    pads = ((above, below), (left, right))
    if value in (0, None) and all(user.target is _aten.conv2d.default for user in node.users):
        network.fold_padding(node, origin, pads)
    else:
        network.step(node, [origin], lambda x: _padded(x, pads, value or 0.0))


def _max_pool(network: LoweredNetwork, node: Node) -> None:
    source, kernel, stride, padding, dilation, ceil = _arguments(node, None, None, [], [0, 0], 1, False)
    if dilation not in (1, [1, 1]) or ceil:
        raise unknown("max pooling with dilation or rounding up")
    # After a ReLU, zeros pad as well as the smallest float, which no integer model can represent.
    floor = 0.0 if source.target in _NEVER_NEGATIVE else float(np.finfo(np.float32).min)
    pads = tuple((p, p) for p in padding)
    same = _is_same(source.meta["val"].shape[2:], kernel, stride or kernel, [1, 1], pads)

    def step(x: tf.Tensor) -> tf.Tensor:
        x = x if same else _padded(x, pads, floor)
        return tf.nn.max_pool2d(x, kernel, stride or kernel, "SAME" if same else "VALID")

    network.step(node, [source], step)


def _average_pool_to_one(network: LoweredNetwork, node: Node) -> None:
    if list(node.args[1]) != [1, 1]:
        raise unknown(f"average pooling to {node.args[1]}")
    network.step(node, node.args[:1], lambda x: tf.reduce_mean(x, [1, 2], keepdims=True))


def _mean(network: LoweredNetwork, node: Node) -> None:
    source, axes, keep = _arguments(node, None, [], False)
    axes = [_CHANNELS_LAST[axis % 4] for axis in axes] if source.meta["val"].ndim == 4 else list(axes)
    if source.meta["val"].ndim == 4 and not keep and sorted(axes) != [1, 2]:
        raise unknown(f"a mean over the axes {axes} of a picture")
    network.step(node, [source], lambda x: tf.reduce_mean(x, axes, keepdims=keep))


def _over_rows(function: Callable[..., tf.Tensor]) -> "Lowering":
    """Lower a sum or maximum over the columns of rows, (B, C) to (B, 1) or (B,)."""

    def lower(network: LoweredNetwork, node: Node) -> None:
        source, axes, keep = _arguments(node, None, [], False)
        if source.meta["val"].ndim != 2 or list(axes) not in ([1], [-1]):
            raise unknown(f"{node.target} over the axes {list(axes)} of {source.meta['val'].ndim}")
        network.step(node, [source], lambda x: function(x, axis=1, keepdims=keep))

    return lower


def _flatten(network: LoweredNetwork, node: Node) -> None:
    """Lower (B, C, 1, 1) to (B, C), the only reshape that a head after global pooling needs."""
    source, shape = node.args[0], node.meta["val"].shape
    given = source.meta["val"].shape
    if not (len(given) == 4 and len(shape) == 2 and given[2] == given[3] == 1):
        raise unknown(f"a reshape from {list(given)} to {list(shape)}")
    network.step(node, [source], lambda x: tf.squeeze(x, [1, 2]))


def _linear(network: LoweredNetwork, node: Node) -> None:
    weight = network.constant(node.args[1])
    bias = network.constant(node.args[2]) if len(node.args) > 2 else None
    assert weight is not None
    kernel = network.variable(weight.T)
    shift = network.variable(np.zeros(len(weight)) if bias is None else bias)

    network.step(node, node.args[:1], lambda x: tf.nn.bias_add(tf.matmul(x, kernel), shift))


def _concatenate(network: LoweredNetwork, node: Node) -> None:
    """Lower the concatenation of rows, (B, C) and (B, D) to (B, C + D)."""
    parts, axis = _arguments(node, None, 0)
    if any(part.meta["val"].ndim != 2 for part in parts) or axis not in (1, -1):
        raise unknown(f"a concatenation along axis {axis}")
    network.step(node, parts, lambda *rows: tf.concat(rows, axis=1))


def _is_same(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], pads: Any
) -> bool:
    """Return whether explicit pads equal those of TensorFlow's SAME, which puts an odd total's extra zero after."""
    totals = [
        max((-(-int(n) // s) - 1) * s + d * (int(k) - 1) + 1 - int(n), 0)
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True)
    ]
    return all(
        tuple(pair) == (total // 2, total - total // 2) for total, pair in zip(totals, pads, strict=True)
    )


def _padded(x: tf.Tensor, pads: Any, value: float) -> tf.Tensor:
    if not any(any(pair) for pair in pads):
        return x
    return tf.pad(x, [[0, 0], *map(list, pads), [0, 0]], constant_values=value)


Lowering = Callable[[LoweredNetwork, Node], None]
_NEVER_NEGATIVE = (_aten.relu.default, _aten.hardtanh.default)
_UNUSED = (_aten.sym_size.int, _aten._assert_tensor_metadata.default)
_LOWERINGS: dict[Any, Lowering] = {
    _aten.permute.default: _pass_on,  # photos arrive as (B, H, W, 3), the layout used here
    _aten._to_copy.default: _pass_on,
    _aten.clone.default: _pass_on,
    _aten.dropout.default: _pass_on,
    _aten.add.Tensor: _elementwise(tf.add),
    _aten.sub.Tensor: _elementwise(tf.subtract),
    _aten.mul.Tensor: _elementwise(tf.multiply),
    _aten.div.Tensor: _elementwise(tf.divide),
    _aten.rsub.Scalar: _elementwise(lambda x, whole: whole - x),
    _aten.relu.default: _unary(tf.nn.relu),
    _aten.sigmoid.default: _unary(tf.sigmoid),
    _aten.silu.default: _unary(lambda x: x * tf.sigmoid(x)),
    _aten.hardswish.default: _unary(lambda x: x * tf.nn.relu6(x + 3.0) * (1 / 6)),
    _aten.hardsigmoid.default: _unary(lambda x: tf.nn.relu6(x + 3.0) * (1 / 6)),
    _aten.hardtanh.default: _clamp,
    _aten.conv2d.default: _convolution,
    _BATCH_NORM: _batch_norm,
    _aten.pad.default: _pad,
    _aten.max_pool2d.default: _max_pool,
    _aten.adaptive_avg_pool2d.default: _average_pool_to_one,
    _aten.mean.dim: _mean,
    _aten.sum.dim_IntList: _over_rows(tf.reduce_sum),
    _aten.amax.default: _over_rows(tf.reduce_max),
    _aten.sqrt.default: _unary(tf.sqrt),
    _aten.view.default: _flatten,
    _aten.linear.default: _linear,
    _aten.softmax.int: _unary(lambda x: tf.nn.softmax(x, axis=-1)),
    _aten.cat.default: _concatenate,
}
