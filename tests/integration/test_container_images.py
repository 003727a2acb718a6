"""The images, built by podman on stand-ins for their bases, run without rights, and asked for a prediction.

Needs root on Debian or Ubuntu and their packages; `make test-slow` runs it.
"""

import base64
import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from helpers import patient
from helpers.patient import PATIENCE

from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.inference.images import read_photo
from image_classification_trash.inference.shipped import shipped_model

ROOT = Path(__file__).parents[2]
PHOTOS = sorted((ROOT / "data/sample/test").glob("*/*.jpg"))[:3]
HARDENED = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
COMPOSE = Path(f"{sys.prefix}-deploy/bin/podman-compose")
"""Where `make tools` puts it, beside this environment."""
BUILT = 3600
NO_TOOLS = 77
"""What the script exits with where Debian's packages cannot be had."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="podman and debootstrap need root"),
    pytest.mark.skipif(shutil.which("apt-get") is None, reason="podman is installed from Debian's packages"),
]


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which podman works in a folder of its own, with the base images in it."""
    folder = tmp_path_factory.mktemp("podman")
    script = ROOT / "scripts/make_base_images.sh"
    try:
        made = subprocess.run([script, folder], check=False, timeout=BUILT)
        if made.returncode == NO_TOOLS:
            pytest.skip("podman and what it needs cannot be installed from Debian's packages here")
        assert made.returncode == 0
        lines = (folder / "environment").read_text().split()
        yield os.environ | dict(line.split("=", 1) for line in lines if "=" in line)
    finally:
        subprocess.run([script, "--remove", folder], check=False, timeout=PATIENCE)


@pytest.fixture(scope="module")
def bundle(exported: Path) -> Path:
    return exported / "models/sample"


def build(podman: dict[str, str], dockerfile: str, tag: str, *arguments: str, context: Path = ROOT) -> None:
    """Build an image with this machine's settings of pip, handed over for the build alone."""
    said = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    local = {
        word.strip("'").removeprefix("file://") for word in said.replace("=", " ").split() if "/" in word
    }
    folders = {Path(place).parent if place.endswith("/simple") else Path(place) for place in local}
    mounts = [
        f"--volume={place}:{place}:ro" for place in sorted(folders) if place.is_absolute() and place.exists()
    ]
    options = dict(line.split("=", 1) for line in said.splitlines() if line.startswith("global."))
    settings = "".join(f"{name[7:]} = {value.strip(chr(39))}\n" for name, value in options.items())
    config = Path(podman["CONTAINERS_CONF"]).with_name("pip.conf")
    config.write_text(f"[global]\n{settings}")
    mounts.append(f"--volume={config}:/etc/pip.conf:ro")
    line = ["podman", "build", "--quiet", "--format", "docker", "--network", "host", *mounts]
    by_tag = config.with_name("dockerfile")  # the stand-ins have the tags of the real ones, not their digests
    by_tag.write_text(re.sub("@sha256:[0-9a-f]{64}", "", (ROOT / dockerfile).read_text()))
    subprocess.run(
        [*line, "--file", str(by_tag), "--tag", tag, *arguments, str(context)],
        env=podman, check=True, timeout=BUILT,
    )  # fmt: skip


@contextlib.contextmanager
def running(podman: dict[str, str], image: str, *options: str) -> Iterator[tuple[str, str]]:
    """A container without rights: its address and its name."""
    line = ["podman", "run", "--detach", *HARDENED, "--publish", "127.0.0.1::8080", *options, image]
    name = subprocess.run(
        line, env=podman, check=True, capture_output=True, text=True, timeout=PATIENCE
    ).stdout.strip()
    try:
        port = ["podman", "port", name, "8080"]
        address = subprocess.run(port, env=podman, check=True, capture_output=True, text=True).stdout.strip()
        yield f"http://{address}", name
    finally:
        subprocess.run(
            ["podman", "logs", name], env=podman, check=False
        )  # pytest shows it if the test failed
        subprocess.run(["podman", "rm", "--force", name], env=podman, check=False, capture_output=True)


def wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(httpx.TransportError):
            if patient.get(f"{url}/readyz").status_code == 200:
                return
        assert time.monotonic() < deadline
        time.sleep(0.2)


def expected(model: Path) -> list[dict[str, float]]:
    """The probabilities of the photos in this process."""
    classifier = TrashClassifier.load(model)
    config = classifier.config
    pixels = np.stack([read_photo(path, config.input_size, config.resize_mode) for path in PHOTOS])
    rows = classifier.probabilities(pixels)
    return [dict(zip(config.labels, row.tolist(), strict=True)) for row in rows]


def ranked(prediction: dict[str, Any]) -> dict[str, float]:
    return {entry["label"]: entry["probability"] for entry in prediction["probabilities"]}


def test_the_gateways_image_answers_without_rights(podman: dict[str, str], bundle: Path) -> None:
    build(podman, "deploy/image-gateway.dockerfile", "trash-gateway", "--target", "gateway")
    with running(podman, "trash-gateway", f"--volume={bundle}:/model:ro") as (url, name):
        wait_until_ready(url)
        files = [("photos", (path.name, path.read_bytes())) for path in PHOTOS]
        predictions = patient.post(f"{url}/predict", files=files).json()["predictions"]
        for prediction, wanted in zip(predictions, expected(bundle), strict=True):
            assert ranked(prediction) == pytest.approx(wanted, abs=1e-4)
        healthy = subprocess.run(["podman", "healthcheck", "run", name], env=podman, check=False)
        assert healthy.returncode == 0
        inside = [
            "podman",
            "exec",
            name,
            "sh",
            "-c",
            "id -u; grep CapBnd /proc/self/status; touch /x || echo kept",
        ]
        said = subprocess.run(inside, env=podman, check=True, capture_output=True, text=True).stdout.split()
        assert said == ["10001", "CapBnd:", "0000000000000000", "kept"]
    smoke = [sys.executable, ROOT / "deploy/smoke_image.py", "localhost/trash-gateway"]
    subprocess.run(smoke, env=podman | {"DOCKER": "podman"}, check=True, timeout=PATIENCE)
    with running(podman, "trash-gateway") as (url, _):  # nothing mounted: the model of the package
        wait_until_ready(url)
        (prediction,) = patient.post(f"{url}/predict", files=files[:1]).json()["predictions"]
        assert ranked(prediction) == pytest.approx(expected(shipped_model())[0], abs=1e-4)


@pytest.mark.skipif(not COMPOSE.exists(), reason=f"{COMPOSE} is not there: make tools")
def test_compose_starts_the_gateway_before_the_stand_in(podman: dict[str, str], bundle: Path) -> None:
    build(podman, "deploy/image-gateway.dockerfile", "trash-gateway", "--target", "gateway")
    build(podman, "deploy/image-stand-in.dockerfile", "trash-stand-in")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    environment = podman | {"MODEL": os.path.relpath(bundle, ROOT), "PORT": str(port)}
    files = ["-f", "deploy/docker-compose.yaml", "-f", "deploy/docker-compose.stand-in.yaml"]
    compose = [str(COMPOSE), *files]
    try:
        subprocess.run([*compose, "up", "--detach", "--no-build"], cwd=ROOT, env=environment, check=True, timeout=PATIENCE)  # fmt: skip
        wait_until_ready(f"http://127.0.0.1:{port}")
        files_sent = [("photos", (path.name, path.read_bytes())) for path in PHOTOS]
        answer = patient.post(f"http://127.0.0.1:{port}/predict", files=files_sent).json()
        for prediction, wanted in zip(answer["predictions"], expected(bundle), strict=True):
            assert ranked(prediction) == pytest.approx(wanted, abs=1e-4)
    finally:
        subprocess.run([*compose, "down"], cwd=ROOT, env=environment, check=False, timeout=PATIENCE)


def test_the_lambdas_image_answers_without_rights(
    podman: dict[str, str], bundle: Path, tmp_path: Path
) -> None:
    """In AWS's emulator, on a stand-in for AWS's base image."""
    for part in ("deploy", "image_classification_trash"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(bundle / "export/model.tflite", tmp_path / "model.tflite")
    argument = "--build-arg=MODEL=model.tflite"
    build(podman, "deploy/serverless-trash.dockerfile", "trash-lambda", argument, context=tmp_path)
    with running(podman, "trash-lambda") as (url, _):
        event = {"image": base64.b64encode(PHOTOS[0].read_bytes()).decode()}
        transport = httpx.HTTPTransport(retries=5)
        with httpx.Client(transport=transport, timeout=PATIENCE) as client:
            answer = client.post(f"{url}/2015-03-31/functions/function/invocations", json=event).json()
        (prediction,) = answer["predictions"]
        assert ranked(prediction) == pytest.approx(expected(bundle)[0], abs=1e-4)
