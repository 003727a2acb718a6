"""Every command that the README and the documents tell people to type is run, on small stand-ins for what they name.

TrashNet is the sample under its name, `~` is a folder made for this, trainings take no epochs at a small input: the
environment says so, which goes before recipes. Each document's commands run in their order, in a copy of one prepared
folder; a line that stands in several documents is run once. Gateways get a free port. What cannot be run here is in
`ELSEWHERE`, with who runs it or what is missing.
"""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers import patient
from helpers.commands import GUARD, command
from helpers.patient import PATIENCE, wait_until
from helpers.photos import MakeOnce

from image_classification_trash.inference.prediction_counts import read_statistics

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    *(p.relative_to(ROOT).as_posix() for p in sorted((ROOT / "docs").rglob("*.md"), key=lambda p: p.name)),
]
ELSEWHERE = {
    "make quickstart": ".ci/run",
    "make test": ".ci/run",
    "make docs": ".ci/run",
    "make install": ".ci/run",
    "make lint": ".ci/run",
    "make tools": ".ci/run",
    "make deploy-lint": ".ci/run",
    "make test-slow": ".ci/run",
    "make notebooks": "tests/test_notebooks.py runs the notebooks; this would write into the checkout",
    "python scripts/make_sample.py": "writes into the checkout; tests/data/test_sample.py",
    "make release-model": "hours; its steps are commands of docs/how-to/train-for-the-field.md, and scripts/ship_model.py",
    "python scripts/bench_inference.py": "minutes, and it needs an idle machine",
    "make page": "fetches npm's packages; tests/integration/test_page.py tests what it made",
    "source .venv/bin/activate": "the environment is this test's own",
    "python3 -m venv": "make install",
    ".venv/bin/pip install": "make install",
    "pip install": "tests/integration/test_installed_package.py, and make install",
    "docker": "tests/integration/test_container_images.py builds and starts the images, with podman",
    "kubectl": "make deploy-lint checks the file; there is no cluster here",
    "sam": "make deploy-lint checks the template; there is no AWS account here",
    "aws": "tests/integration/test_lambda.py; there is no AWS account here",
    "python -m image_classification_trash.": "tests/integration/test_commands.py: they are the commands above them",
    "python deploy/test_serverless.py": "tests/integration/test_lambda.py",
    "curl -H \"Content-Type: image/jpeg\" --data-binary @photo.jpg https://ID": "tests/integration/test_lambda.py",
    "wandb sweep": "tests/test_sweep.py; needs a key",
    "tensorboard": "another program, and it does not end",
    "trash-classifier data trashnet": "needs the hub; tests/data/test_trashnet.py fetches from a server of its own",
    "trash-classifier data field": "needs photos beside the repository; tests/data/combining/test_combine.py",
    "trash-classifier train field": "as above; tests/training/test_combined.py",
    "trash-classifier evaluate models/field-": "as above; tests/training/test_combined.py",
    "trash-classifier train trashnet --config resnet18": "needs its weights; tests/networks/test_network.py",
    "trash-classifier train trashnet --devices 2": "needs two GPUs; two processes: tests/integration/test_commands.py",
    "trash-classifier shards s3://": "tests/distributed/test_buckets.py has a small S3",
    "trash-classifier predict --shards s3://": "tests/distributed/test_buckets.py has a small S3",
    "trash-classifier data mine --source /shared": "tests/distributed/test_ray_cluster.py has a cluster",
    "trash-classifier features mine --data-dir /shared": "tests/distributed/test_ray_cluster.py has a cluster",
    "python scripts/bench_event_loop.py": "a minute, and it needs an idle machine",
    "python scripts/bench_isolation.py": "minutes, and it needs an idle machine",
    "torchrun": "tests/integration/test_commands.py starts two machines' processes; the document's wait for a second one",
    "trash-classifier tune trashnet --trials 60 --storage": "tests/models/test_tune_model.py; needs a database",
    "trash-classifier serve models/trashnet --runtime tf-serving": "tests/integration/test_tf_serving_backend.py",
    "curl --json @body.json": "tests/integration/test_tf_serving_backend.py",
    "curl --json '{\"url\": \"https://example.org": "tests/integration/test_gateway.py; needs the internet",
    "python scripts/soak_gateway.py": "half an hour; tests/integration/test_long_runs.py",
    "python scripts/fuzz_requests.py": "twenty minutes; tests/integration/test_long_runs.py",
    "python scripts/fuzz_photos.py": "twenty minutes; tests/inference/test_fuzz_photos.py",
    "python scripts/pin_images.py": "needs registries; tests/test_supply_chain.py has one of its own",
    "python scripts/write_results.py": "writes into the checkout",
    "python scripts/bench_gateway.py": "minutes, and it needs an idle machine",
    "python scripts/bench_lambda.py": "minutes, and it needs an idle machine",
    "python scripts/bench_tracking.py": "minutes, and it needs an idle machine",
    "python scripts/send_urls.py": "tests/integration/test_send_urls.py",
}  # fmt: skip
"""Beginnings of lines; `trash-classifier data trashnet` and `make ...` stand for themselves alone."""
WHOLE = {"trash-classifier data trashnet", *(line for line in ELSEWHERE if line.startswith("make "))}
IN_THIS_PROCESS = re.compile(r"trash-classifier (?!.*--tracker)([^|&;<>$`*\"]|\"[^$`\"]*\")*")
QUICK = {
    "TRASH_DATA_EMBEDDINGS": "false", "TRASH_FEATURES_INPUT_HEIGHT": "96", "TRASH_FEATURES_INPUT_WIDTH": "128",
    "TRASH_TRAIN_EPOCHS": "0", "TRASH_TRAIN_INPUT_HEIGHT": "96", "TRASH_TRAIN_INPUT_WIDTH": "128", "TRASH_TRAIN_HEAD": "true",
    "TRASH_TRAIN_ARCHITECTURE": "efficientnet_lite0", "TRASH_EVALUATE_RESAMPLES": "100", "TRASH_TUNE_TRIALS": "1",
    "TRASH_TUNE_EPOCHS": "1", "TRASH_TUNE_INPUT_HEIGHT": "32", "TRASH_TUNE_INPUT_WIDTH": "32", "TRASH_BENCHMARK_COUNT": "4",
    "TRASH_BENCHMARK_ROUNDS": "1", "TRASH_MODELS_MIN_ACCEPTED": "0", "TRASH_EXPORT_FORMAT": '["tflite"]', "WANDB_MODE": "offline",
}  # fmt: skip
LESS = {
    "--split object-clusters": "--split object-clusters --embeddings",
    "--trials 30": "--trials 1", "--actors 8": "--actors 2", "--rounds 9": "--rounds 1", "--epochs 12": "--epochs 1", "--epochs 5": "--epochs 0",
    "--epochs 63 --warmup-epochs 1": "--epochs 1", "--epochs 10 --warmup-epochs 1": "--epochs 1",
    "TRASH_TRAIN_EPOCHS=3": "TRASH_TRAIN_EPOCHS=0", "--freeze-stages 0": "--freeze-stages 0 --epochs 1",
    "efficientnet_lite0 --resume": "efficientnet_lite0 --resume --epochs 1",
    "--input-height 256 --input-width 320": "--input-height 96 --input-width 128",
}  # fmt: skip
"""Words that cost too much time here, and what stands for them."""
STATUS = {"--write-reference": 0, "https://example.org/bottle.jpg": 3, "monitor": 4}
"""Words of commands that end otherwise than with 0: an address that cannot be reached, photos unlike the training data."""
BEFORE = {
    "trash-classifier models compare trashnet production": (
        "trash-classifier train trashnet --seed 1 --output earlier",
        "trash-classifier evaluate models/earlier",
        "trash-classifier export models/earlier --format tflite",
        "trash-classifier models promote earlier",
    ),
    "trash-classifier models rollback": ("trash-classifier models promote trashnet",),
    "trash-classifier train trashnet --config field --init-from models/field": (
        "trash-classifier train trashnet --config field --output field",
    ),
    "trash-classifier train kinds --config efficientnet_lite0 --epochs 0 --output": (
        "trash-classifier data kinds --source dataset-resized.zip --split object-clusters --embeddings",
    ),
    "trash-classifier train trashnet --config efficientnet_lite0 --resume": (
        "trash-classifier train trashnet --config efficientnet_lite0 --epochs 1",
    ),
    "trash-classifier predict ~/photos/can": ("cp -r photos/metal photos/can",),
}
"""What the reader of a line has by then; some of it stands in an earlier document."""


def typed(document: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def is_elsewhere(line: str) -> bool:
    return any(line == it or (it not in WHOLE and line.startswith(it)) or (
        it.startswith("make ") and line.startswith(f"{it} ")) for it in ELSEWHERE)  # fmt: skip


def first_occurrences() -> dict[str, list[str]]:
    """The lines to run, by document; each once."""
    seen: set[str] = set()
    lines: dict[str, list[str]] = {}
    for document in DOCUMENTS:
        lines[document] = [line for line in dict.fromkeys(typed(document)) if line not in seen]
        seen |= set(lines[document])
    return {document: [line for line in some if not is_elsewhere(line)] for document, some in lines.items()}


LINES = first_occurrences()


@pytest.fixture(scope="module")
def documented(make_once: MakeOnce) -> Path:
    """A folder with what the documents name: photos, data sets, models `sample` and `trashnet`, the last one measured and exported."""
    return make_once("documents", fill)


def fill(folder: Path) -> None:
    shutil.copytree(ROOT / "data/sample", folder / "data/sample")
    for name in ("configs", "scripts", "references"):
        (folder / name).symlink_to(ROOT / name)
    photos = sorted((ROOT / "data/sample/val").glob("*/*.jpg"))
    for name in ("photo.jpg", "a.jpg", "b.jpg", "c.jpg", "b.heic"):  # Pillow goes by what is inside
        shutil.copy(photos[0], folder / name)
    for name in ("photos", "photos-of-today", "photos-from-elsewhere", "kitchen", "street", "my-photos"):
        make_class_folders(folder / name)
    shutil.copytree(ROOT / "data/sample/train", folder / "many-photos")
    for name in ("Pictures", "Pictures/2026", "holiday"):
        (folder / name).mkdir()
        shutil.copy(photos[1], folder / name / "a.jpg")
        shutil.copy(photos[2], folder / name / "b.heic")
    shutil.copy(photos[3], folder / "holiday/c.png")
    listed = sorted((folder / "photos").glob("*/*.jpg"))
    rows = [f"{photo.relative_to(folder / 'photos')},{photo.parent.name}\n" for photo in listed]
    (folder / "photos/list.csv").write_text("filepath,label\n" + "".join(rows), encoding="utf-8")
    shutil.make_archive(str(folder / "dataset-resized"), "zip", ROOT / "data/sample")
    write_program(folder / "bin")
    for line in (
        "trash-classifier data sample",
        "trash-classifier data trashnet --source dataset-resized.zip",
        "trash-classifier data mine --source ~/photos",
        "trash-classifier train sample",
        "trash-classifier train trashnet",
        "trash-classifier evaluate models/trashnet",
        "trash-classifier export models/trashnet --format tflite",
        "cp models/trashnet/export/*.tflite .",
    ):
        run(folder, line)
    write_answers(folder)


def write_answers(folder: Path) -> None:
    """What a gateway with --statistics leaves behind."""
    line = "trash-classifier serve models/trashnet --statistics answers.json --statistics-seconds 1"
    with gateway(folder, line) as port:
        photos = sorted((folder / "photos").glob("*/*.jpg"))
        for photo in photos:
            answer = patient.post(f"http://127.0.0.1:{port}/predict", files={"photos": photo.read_bytes()})
            answer.raise_for_status()
        written = folder / "answers.json"
        wait_until(lambda: written.exists() and read_statistics(written).photos == len(photos))


@pytest.fixture
def home(documented: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy for one document; gone afterwards: it is large."""
    shutil.copytree(documented, tmp_path, symlinks=True, dirs_exist_ok=True)
    yield tmp_path
    shutil.rmtree(tmp_path)


def make_class_folders(folder: Path) -> None:
    for label in ("glass", "metal", "paper"):
        (folder / label).mkdir(parents=True)
        for number, photo in enumerate(sorted((ROOT / "data/sample/train" / label).glob("*.jpg"))[:14]):
            shutil.copy(photo, folder / label / f"{number}.jpg")


def write_program(folder: Path) -> None:
    folder.mkdir()
    for name, what in (
        ("trash-classifier", f"{sys.executable} -m image_classification_trash"),
        ("python", sys.executable),
    ):
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec {what} "$@"\n')
        program.chmod(0o755)


def surroundings(folder: Path) -> dict[str, str]:
    path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    return {**os.environ, **QUICK, "HOME": str(folder), "PATH": path, "PYTHONPATH": str(ROOT)}


def run(folder: Path, line: str, status: int = 0) -> None:
    """Run a line: in this process if it is `trash-classifier` and nothing that a shell must do, which saves most of the time."""
    if IN_THIS_PROCESS.fullmatch(line):
        words = [
            str(folder / word[2:]) if word.startswith("~/") else word
            for word in shlex.split(line, comments=True)
        ]
        command(folder, *words[1:], status=status, environment={**QUICK, "HOME": str(folder)})
        return
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"], cwd=folder, env=surroundings(folder), capture_output=True, text=True,
        check=False, timeout=GUARD,
    )  # fmt: skip
    assert done.returncode == status, f"{line}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"


@contextmanager
def gateway(folder: Path, line: str) -> Iterator[int]:
    """The gateway that a line starts, on a free port; it must be ready soon, and stop well when asked."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        ["bash", "-c", f"{line} --port {port}"], cwd=folder, env=surroundings(folder), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_until(lambda: is_ready(port, process))
        yield port
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=PATIENCE) in (0, 130)
    finally:
        process.kill()
        process.communicate()


def is_ready(port: int, process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None, process.communicate()[1][-2000:]
    return patient.get(f"http://127.0.0.1:{port}/readyz").status_code == 200


def smaller(line: str) -> str:
    for words, fewer in LESS.items():
        line = line.replace(words, fewer)
    # The user says what the source is once; here it must be said again.
    is_trashnet = line.startswith("trash-classifier data trashnet") and "--source" not in line
    return f"{line} --source dataset-resized.zip" if is_trashnet else line


def documents() -> list[Any]:
    """The README and the tutorial are run with the slow tests; the others, which take long, with `make test-documents`."""
    first = ("README.md", "docs/tutorials/own-photos.md")
    marks = {document: () if document in first else (pytest.mark.documents,) for document in LINES}
    return [pytest.param(document, marks=marks[document]) for document, lines in LINES.items() if lines]


@pytest.mark.parametrize("document", documents())
def test_its_commands(document: str, home: Path) -> None:
    lines = LINES[document]
    questions = [line for line in lines if line.startswith("curl")]
    for line in lines:
        for beginning, earlier in BEFORE.items():
            for needed in earlier if line.startswith(beginning) else ():
                run(home, needed)
        if is_server(line):
            with gateway(home, line.removesuffix(" --port 9000")) as port:
                for question in questions:
                    run(home, question.replace("curl", "curl --fail -sS").replace(":8080", f":{port}"))
        elif line not in questions:
            status = next((code for word, code in STATUS.items() if word in shlex.split(line)), 0)
            run(home, smaller(line), status)
    assert not questions or any(map(is_server, lines)), "nobody answers the questions"


def is_server(line: str) -> bool:
    return "trash-classifier serve" in line and "--help" not in line


def test_nothing_is_excused_that_is_not_typed() -> None:
    lines = {line for document in DOCUMENTS for line in typed(document)}
    idle = [it for it in ELSEWHERE if not any(line == it or line.startswith(it) for line in lines)]
    assert idle == []
