"""Export the trained network to OpenVINO's own format, from the ONNX model, and run it.

`Core.read_model` translates, not `openvino.convert_model`, which reports its use to Intel.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import openvino

from image_classification_trash.errors import ExportError, first_line
from image_classification_trash.inference.images import Pixels
from image_classification_trash.inference.runtimes import Probabilities

MODEL = "model.xml"
"""The graph; the weights lie in the .bin file beside it."""
ABOUT = "trash_classifier"
"""Section of the graph's runtime information that has the texts."""


class OpenVinoRuntime:
    """An exported folder in OpenVINO on the CPU, in float32 even where the processor has bfloat16.

    Args:
        folder: of `MODEL` and its weights.
        threads: threads of one run of the model.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        self._model = openvino.compile_model(folder / MODEL, "CPU", settings)

    def __call__(self, photos: Pixels) -> Probabilities:
        """Run photos uint8 (B, H, W, 3) to probabilities float32 (B, C)."""
        return np.asarray(self._model(photos)[0], np.float32)


def write_openvino(model: onnx.ModelProto, folder: Path, texts: Mapping[str, str]) -> None:
    """Write the graph and its weights, in float32 and with a dynamic batch size.

    Args:
        model: the float32 ONNX model.
        folder: to write `MODEL` and its weights into.
        texts: what the graph is to say about itself, by file name; readable as `get_rt_info([ABOUT, name])`.

    Raises:
        ExportError: OpenVINO cannot translate the graph.
    """
    try:
        translated = openvino.Core().read_model(model.SerializeToString(deterministic=True))
    except RuntimeError as error:
        found = f"OpenVINO cannot translate the network: {first_line(error)}"
        raise ExportError(found, "Leave openvino out of --format.") from error
    for name, text in texts.items():
        translated.set_rt_info(text, [ABOUT, name])
    openvino.save_model(translated, folder / MODEL, compress_to_fp16=False)
