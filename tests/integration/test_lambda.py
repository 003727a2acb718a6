"""The Lambda's package, built as its image builds it, in AWS's own Runtime Interface Emulator and runtime client."""

import base64
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import patient
from helpers.patient import PATIENCE
from PIL import Image

from image_classification_trash.inference.bundle import BundleConfig, describe

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.prefix).with_name(Path(sys.prefix).name + "-deploy")
EMULATOR = next(TOOLS.glob("lib/python*/site-packages/samcli/local/rapid/aws-lambda-rie-x86_64"), None)
HANDLER = "image_classification_trash.serving.lambda_function.handler"
SIZE = (64, 80)
CONFIG = BundleConfig(
    name="tiny", architecture="mean_colour", labels=("glass", "metal", "paper"), input_height=64, input_width=80,
    resize_mode="stretch", temperature=1.0, threshold=0.5, data={}, training={}, git_commit="0", versions={}, created="now",
)  # fmt: skip
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(EMULATOR is None, reason=f"no emulator in {TOOLS.name}; install it with: make tools"),
]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package that the image holds, for this Python."""
    folder = tmp_path_factory.mktemp("lambda") / "package"
    line = ["sh", "deploy/make_lambda_package.sh", str(folder), sys.executable]
    subprocess.run(line, cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .tflite file for which the mean colour of a photo decides."""
    tf = pytest.importorskip("tensorflow")

    class MeanColour(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, *SIZE, 3], tf.uint8)])
        def __call__(self, photos: Any) -> Any:
            return tf.nn.softmax(tf.reduce_mean(tf.cast(photos, tf.float32), [1, 2]) / 25)

    whole = MeanColour()
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [whole.__call__.get_concrete_function()], whole
    )
    path = tmp_path_factory.mktemp("model") / "model.tflite"
    path.write_bytes(converter.convert())
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr("bundle.json", describe(CONFIG, {}, {}))
    return path


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def emulated(
    path: list[Path], model: Path, log: Path, handler: str = HANDLER, seconds: int = 600
) -> Iterator[str]:
    """The emulator on loopback alone: the address that invokes the function."""
    assert EMULATOR is not None
    EMULATOR.chmod(0o755)
    address, runtime = (f"127.0.0.1:{free_port()}" for _ in range(2))
    line = [str(EMULATOR), "--runtime-interface-emulator-address", address, "--runtime-api-address", runtime]
    line += [str(TOOLS / "bin" / "python"), "-m", "awslambdaric", handler]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": ":".join(map(str, path)),
        "TRASH_LAMBDA_MODEL": str(model),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(seconds),
    }
    with (
        log.open("wb") as written,
        subprocess.Popen(
            line,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
            start_new_session=True,
        ) as process,
    ):
        try:
            wait_for(address)
            yield f"http://{address}/2015-03-31/functions/function/invocations"
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def wait_for(address: str) -> None:
    host, _, port = address.partition(":")
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError("the emulator does not listen")


def invoke(url: str, event: Any) -> tuple[int, str]:
    response = patient.post(url, json=event, trust_env=False)
    return response.status_code, response.text


def photo() -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.full((*SIZE, 3), (10, 200, 10), np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the image's Python has a later, smaller numpy")
def test_the_package_is_small(package: Path) -> None:
    assert sum(file.stat().st_size for file in package.rglob("*") if file.is_file()) <= 76_000_000


def test_plain_invocations(package: Path, model: Path, tmp_path: Path) -> None:
    with emulated([package], model, tmp_path / "log") as url:
        status, text = invoke(url, {"image": photo()})
        assert status == 200
        assert json.loads(text)["predictions"][0]["decision"] == "metal"
        expected = {
            "not_a_photo": {"image": "bm8gcGhvdG8="},
            "url_failed": {"url": "http://nothing.invalid/a.jpg"},
            "url_refused": {"url": "http://169.254.169.254/latest/meta-data"},
            "wrong_body": {"photo": 1},
        }
        for code, event in expected.items():
            status, text = invoke(url, event)
            assert (status, json.loads(text)["error"]["code"]) == (200, code)


def test_the_script_that_tries_out_a_deployed_function(package: Path, model: Path, tmp_path: Path) -> None:
    with emulated([package], model, tmp_path / "log") as url:
        line = [sys.executable, str(ROOT / "deploy" / "test_serverless.py"), url]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") == len(done.stdout.splitlines())


def test_a_body_above_lambdas_6_megabytes(package: Path, model: Path, tmp_path: Path) -> None:
    with emulated([package], model, tmp_path / "log") as url:
        status, text = invoke(url, {"image": "A" * 6_400_000})
        # Lambda itself refuses such a body; its emulator cuts it short.
        assert (status, json.loads(text)["errorType"]) == (200, "Runtime.UnmarshalError")
        assert json.loads(invoke(url, {"image": photo()})[1])["predictions"][0]["label"] == "metal"


def test_time_out_and_exception(package: Path, model: Path, tmp_path: Path) -> None:
    """A handler that hangs is stopped; an exception becomes JSON, and its cause is in the log."""
    (tmp_path / "broken.py").write_text(
        textwrap.dedent("""
            import time
            from image_classification_trash.serving import lambda_function as real

            def fail(pixels):
                raise RuntimeError("the cause")

            def handler(event, context):
                if event.get("hang"):
                    time.sleep(600)
                real.classifier()._runtime = fail
                return real.handler(event, context)
        """)
    )
    log = tmp_path / "log"
    with emulated([package, tmp_path], model, log, "broken.handler", seconds=10) as url:
        status, text = invoke(url, {"image": photo()})
        assert (status, json.loads(text)["error"]["code"]) == (200, "fault")
        status, text = invoke(url, {"hang": True})
        assert "timed out after 10" in text, (status, text)
    assert "the cause" in log.read_text()


def test_a_model_that_is_missing_is_named_when_the_function_starts(package: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with emulated([package], tmp_path / "missing.tflite", log) as url:
        _, text = invoke(url, {"image": photo()})
        assert "predictions" not in text
    assert "missing.tflite is not a trained model" in log.read_text()
