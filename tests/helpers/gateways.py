"""What the tests of running gateways share: a model for which the mean colour of a photo decides, and the real command."""

import contextlib
import io
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from helpers import patient
from helpers.commands import CLI
from helpers.patient import PATIENCE, wait_until
from image_classification_trash.inference import bundle as bundles
from image_classification_trash.inference.bundle import BundleConfig, describe

SIZE = (64, 80)
LABELS = ("glass", "métal, fin", "紙 箱")
CONFIG = BundleConfig(
    name="tiny", architecture="mean_colour", labels=LABELS, input_height=64, input_width=80, resize_mode="stretch",
    temperature=1.0, threshold=0.5, data={"fingerprint": "abc"}, training={}, git_commit="0", versions={}, created="now",
)  # fmt: skip
COMMAND = [*CLI, "serve"]
UNHURRIED = {f"TRASH_SERVE_{name}_SECONDS": str(PATIENCE) for name in ("MODEL", "BACKEND", "FETCH")}
"""A gateway's own limits, so that a busy machine does not reach them; tests of a limit give theirs as a flag."""


def write_onnx(path: Path, config: BundleConfig) -> Path:
    """An .onnx file for which the mean colour of a photo decides."""
    size = config.input_size
    photos = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", *size, 3])
    answers = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])
    weights = numpy_helper.from_array(np.eye(3, dtype=np.float32) / 25, "weights")
    axes = numpy_helper.from_array(np.array([1, 2]), "axes")
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=-1),
    ]
    graph = helper.make_graph(nodes, "tiny", [photos], [answers], [weights, axes])
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(whole, {"bundle.json": describe(config, {}, {})})
    onnx.save(whole, path)
    return path


def write_bundle(path: Path, config: BundleConfig) -> Path:
    """A bundle without usable weights: all that a gateway before a model server needs."""
    return bundles.write_bundle(path, config, {bundles.WEIGHTS: b""}).path


@contextlib.contextmanager
def serving(
    model: Path, *arguments: str, port: int = 0, ready: bool = True, log: list[str] | None = None
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A running gateway: its address and its process; waits until it is ready, or only until it answers."""
    line = [*COMMAND, str(model), "--port", str(port), *arguments]
    said: list[str] = [] if log is None else log

    def listen(stream: Iterable[str]) -> None:
        for one in stream:
            said.append(one)

    with subprocess.Popen(line, env=os.environ | UNHURRIED, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            url = address(process.stderr)
            threading.Thread(target=listen, args=(process.stderr,), daemon=True).start()
            path = "readyz" if ready else "healthz"
            wait_until(lambda: patient.get(f"{url}/{path}").status_code == 200)
            yield url, process
        finally:
            process.kill()


def address(said: Iterable[str]) -> str:
    """The address in what a gateway says on standard error; an engine may say something first."""
    lines = []
    for line in said:
        lines.append(line)
        found = re.search(r"serving .* at (http://\S+:\d+)", line)
        if found:
            return found[1]
    raise AssertionError("".join(lines))


def free_port() -> int:
    """A port on which nothing listens now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def connected(url: str) -> socket.socket:
    """A bare connection, for requests that come in pieces."""
    return socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), timeout=PATIENCE)


def photos(count: int) -> list[bytes]:
    """Encoded photos with a few large blobs of colour, always the same."""
    rng = np.random.default_rng(5)
    encoded = []
    for _ in range(count):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)).resize((200, 150)).save(
            buffer, "JPEG"
        )
        encoded.append(buffer.getvalue())
    return encoded


def ranked(prediction: dict[str, Any]) -> dict[str, float]:
    """Probability by label of one photo's answer."""
    return {entry["label"]: entry["probability"] for entry in prediction["probabilities"]}
