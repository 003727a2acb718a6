"""Export the trained network to a TensorFlow SavedModel, and from that SavedModel to TFLite.

The SavedModel is meant for TensorFlow Serving: `serving_default` takes uint8 photos; `serving_bytes` takes encoded photos
and decodes them in the graph as `inference/images.py` does. TensorFlow's own converter writes the TFLite files.
"""

import contextlib
import csv
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from image_classification_trash.export.quiet_tensorflow import modify_model_io_type, tf
from image_classification_trash.export.tensorflow_decoding import decode_photos
from image_classification_trash.export.torch_to_tensorflow import LoweredNetwork
from image_classification_trash.files import write_bytes
from image_classification_trash.inference.bundle import BundleConfig
from image_classification_trash.inference.images import Pixels
from image_classification_trash.inference.runtimes import Probabilities

INPUT, BYTES_INPUT, OUTPUT = "images", "image_bytes", "probabilities"
DEFAULT, BYTES = "serving_default", "serving_bytes"
WARMUP = "tf_serving_warmup_requests"
_LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_POOLS = ("MEAN", "AVERAGE_POOL_2D")
_EMBEDS = ("CONV_2D", "DEPTHWISE_CONV_2D", *_POOLS)
"""The last of these operations ends the backbone; the rest is the head."""


class Servable(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """The network with its signatures, as a model server loads it."""

    def __init__(self, network: LoweredNetwork, config: BundleConfig) -> None:
        super().__init__()
        self.network = network
        size = config.input_size
        photos = tf.TensorSpec((None, *size, 3), tf.uint8, name=INPUT)
        encoded = tf.TensorSpec((None,), tf.string, name=BYTES_INPUT)
        pixels = tf.TensorSpec((None, *size, 3), tf.float32, name=INPUT)

        def run(images: tf.Tensor) -> dict[str, tf.Tensor]:
            return {OUTPUT: network(images)}

        def run_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            return run(decode_photos(image_bytes, size, config.resize_mode))

        def run_pixels(images: tf.Tensor) -> dict[str, tf.Tensor]:
            return {OUTPUT: network.from_pixels(images)}

        self.run = tf.function(run, input_signature=[photos])
        self.run_bytes = tf.function(run_bytes, input_signature=[encoded])
        self.run_pixels = tf.function(run_pixels, input_signature=[pixels])


class SavedModelRuntime:
    """A SavedModel that runs in TensorFlow, as in a model server."""

    def __init__(self, folder: Path) -> None:
        self._loaded = tf.saved_model.load(str(folder))

    def __call__(self, photos: Pixels) -> Probabilities:
        """Run uint8 photos (B, H, W, 3) through `serving_default`; returns float32 probabilities (B, C)."""
        return np.asarray(self._loaded.signatures[DEFAULT](**{INPUT: tf.constant(photos)})[OUTPUT])

    def run_bytes(self, photos: Sequence[bytes]) -> Probabilities:
        """Run encoded photos through `serving_bytes`; returns float32 probabilities (B, C)."""
        return np.asarray(self._loaded.signatures[BYTES](**{BYTES_INPUT: tf.constant(list(photos))})[OUTPUT])


def write_saved_model(
    network: LoweredNetwork, config: BundleConfig, folder: Path, assets: Mapping[str, str], sample: Pixels
) -> None:
    """Write `folder` as one version of a servable model.

    Args:
        network: the lowered network.
        config: of the bundle; gives the input size and the resize mode.
        folder: a new folder, such as saved_model/1.
        assets: texts to include, by file name.
        sample: one uint8 photo (H, W, 3) for the warm-up request.
    """
    servable = Servable(network, config)
    with tempfile.TemporaryDirectory() as temporary:
        for name, text in assets.items():
            (Path(temporary) / name).write_text(text, encoding="utf-8", newline="")
        servable.assets = [tf.saved_model.Asset(str(Path(temporary) / name)) for name in assets]
        signatures = {DEFAULT: servable.run, BYTES: servable.run_bytes}
        tf.saved_model.save(servable, str(folder), signatures=signatures)
    write_bytes(folder / "assets.extra" / WARMUP, warmup_record(config.name, sample))


def convert_to_tflite(network: LoweredNetwork, config: BundleConfig, precision: str) -> bytes:
    """Convert the network to TFLite with TensorFlow's converter.

    Args:
        network: the lowered network.
        config: of the bundle.
        precision: float32, fp16 (weights) or dynamic (int8 weights).
    """
    servable = Servable(network, config)
    with _converters(servable, servable.run) as new_converter:
        converter = new_converter()
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "fp16":
            converter.target_spec.supported_types = [tf.float16]
        return bytes(converter.convert())


def int8_tflites(
    network: LoweredNetwork, config: BundleConfig, calibration: Pixels, kept: Sequence[int]
) -> Iterator[tuple[bytes, list[str]]]:
    """Convert to int8 TFLite (weights and activations), keeping more of the first layers in float32 with each variant.

    A rejection head always stays in float32, which costs next to nothing: all its weights would share one scale, and one
    large weight would leave no bits to the others.

    Args:
        network: the lowered network.
        config: of the bundle.
        calibration: uint8 training photos (N, H, W, 3), from which the range of every activation is measured.
        kept: number of layers that stay in float32 in each variant; the first is 0.

    Yields:
        The model, and the names of the layers in float32.
    """
    servable = Servable(network, config)
    with _converters(servable, servable.run_pixels) as new_converter:

        def calibrated() -> Any:
            converter = new_converter()
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: (
                {INPUT: photo} for photo in _representatives(calibration)
            )
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.uint8
            return converter

        rejects = config.negative_label is not None
        if not rejects:
            yield bytes(calibrated().convert()), []
            kept = kept[1:]
        layers, head = _nodes(calibrated(), calibration)
        for count in kept:
            chosen = layers[:count] + (head if rejects else [])
            options = tf.lite.experimental.QuantizationDebugOptions(denylisted_nodes=chosen)
            debugger = _debugger(calibrated(), calibration, options)
            model = debugger.get_nondebug_quantized_model()  # takes float32 photos
            yield bytes(modify_model_io_type(model, tf.uint8, tf.float32)), chosen


def _nodes(converter: Any, calibration: Pixels) -> tuple[list[str], list[str]]:
    """Return the converter's names of the layers, from input to output, and of all operations of the head."""
    debugger = _debugger(converter, calibration, None)
    debugger.run()
    table = io.StringIO()
    debugger.layer_statistics_dump(table)
    table.seek(0)
    rows = [(row["op_name"], row["tensor_name"]) for row in csv.DictReader(table)]
    embedded = max(place for place, (operation, _) in enumerate(rows) if operation in _EMBEDS)
    layers = [name for operation, name in rows if operation in _LAYERS]
    # The converter may put the head of the classes before a rejection tail: between a pooling and the next convolution.
    head, pooled = [], False
    for place, (operation, name) in enumerate(rows):
        pooled = operation in _POOLS or (pooled and operation not in _EMBEDS)
        if place > embedded or (pooled and operation not in _POOLS):
            head.append(name)
    return layers, head


def _debugger(converter: Any, calibration: Pixels, options: Any) -> Any:
    return tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=lambda: ([photo] for photo in _representatives(calibration[:1])),
        debug_options=options,
    )


@contextlib.contextmanager
def _converters(servable: Servable, signature: Any) -> Iterator[Callable[[], Any]]:
    """Yield a function that makes converters of one signature of the servable, from a temporary SavedModel."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # the converter's calibrator warns about its own deprecated interpreter
        tf.saved_model.save(servable, folder, signatures={DEFAULT: signature})
        yield lambda: tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[DEFAULT])


def _representatives(calibration: Pixels) -> Iterator[Any]:
    """Yield photos as float32 (1, H, W, 3); the first spans the range 0 to 255, so that bytes enter unscaled."""
    ends = np.zeros_like(calibration[:1], np.float32)
    ends[:, ::2] = 255.0
    yield ends
    for photo in calibration:
        yield photo[None].astype(np.float32)


def warmup_record(name: str, sample: Pixels) -> bytes:
    """Return a request that TensorFlow Serving replays before a model is ready: a TFRecord of a PredictionLog.

    The messages are those of tensorflow_serving/apis. That package depends on TensorFlow's GPU build, so their few fields
    are encoded here.
    """
    tensor = tf.make_tensor_proto(sample[None]).SerializeToString()
    model = _field(1, name.encode()) + _field(3, DEFAULT.encode())
    entry = _field(1, INPUT.encode()) + _field(2, tensor)
    request = _field(1, model) + _field(2, entry)
    log = _field(6, _field(1, request))
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / WARMUP)
        with tf.io.TFRecordWriter(path) as writer:
            writer.write(log)
        return Path(path).read_bytes()


def _field(number: int, payload: bytes) -> bytes:
    """Encode a length-delimited protobuf field."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])
