"""The real commands, as processes, on the sample photos that ship with the repository."""

import csv
import functools
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from helpers.commands import CLI, GUARD, command, process
from helpers.namespaces import two_machines
from safetensors.torch import load_file

from image_classification_trash.export import parity

ROOT = Path(__file__).parents[2]
FIELDWASTE = ROOT.parent / "shared" / "fieldwaste"
SMALL = ["--input-height", "64", "--input-width", "96"]
PLAIN = ["--architecture", "sequential_cnn", "--no-head", "--freeze-stages", "0", *SMALL]
PHOTO = "data/sample/test/glass"


@pytest.fixture(scope="module")
def workspace(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sample prepared and a quickly trained bundle."""
    folder = tmp_path_factory.mktemp("workspace")
    shutil.copytree(prepared, folder, symlinks=True, dirs_exist_ok=True)
    command(folder, "train", "sample", "--epochs", "1", *SMALL)
    return folder


def test_data_is_prepared_once_and_the_same_again(workspace: Path) -> None:
    manifest = workspace / "data/processed/sample/manifest.csv"
    before = manifest.read_bytes()
    command(workspace, "data", "sample")  # the photos were copied, so they lie elsewhere than recorded
    assert manifest.read_bytes() == before
    assert "already prepared" in command(workspace, "data", "sample").stdout
    command(workspace, "data", "sample", "--force")
    assert manifest.read_bytes() == before
    assert len(before.splitlines()) == 301


def test_a_full_disk_is_said_and_leaves_nothing_behind(workspace: Path, tmp_path: Path) -> None:
    disk = tmp_path / "data" / "processed"
    disk.mkdir(parents=True)
    (tmp_path / "data" / "interim").symlink_to(workspace / "data" / "interim")
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a file system can be mounted by root alone")
    try:
        done = command(workspace, "data", "sample", "--data-dir", str(disk.parent), status=1)
        assert "No space left" in done.stderr and "No half-written output" in done.stderr
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_explore_writes_a_report(workspace: Path) -> None:
    report = Path(command(workspace, "explore", "sample").stdout.strip())
    page = (workspace / report).read_text(encoding="utf-8")
    assert page.count("data:image/png") >= 9 and "http://" not in page
    assert (workspace / "reports/figures/explore-sample/class_balance.png").stat().st_size > 1000


def test_features_are_cached(workspace: Path) -> None:
    first = command(workspace, "features", "sample", *SMALL)
    again = command(workspace, "features", "sample", *SMALL)
    assert "(210, 64, 96, 3)" in first.stdout and first.stdout == again.stdout
    assert "embed photos" not in again.stderr and "decode photos" not in again.stderr


def test_a_corrupt_cache_is_named(workspace: Path) -> None:
    command(workspace, "features", "sample", "--input-height", "32", "--input-width", "32")
    cache = next((workspace / "data/interim/pixels").glob("test-v1-32x32-*.npy"))
    cache.write_bytes(cache.read_bytes()[:-1] + b"?")
    done = command(workspace, "features", "sample", "--input-height", "32", "--input-width", "32", status=1)
    assert cache.name in done.stderr and "Delete it" in done.stderr


def test_training_writes_a_whole_bundle_and_its_logs(workspace: Path) -> None:
    bundle = workspace / "models/sample"
    names = {path.name for path in bundle.iterdir()}
    assert {"config.json", "labels.txt", "model.safetensors", "history.csv", "SHA256SUMS"} <= names
    config = json.loads((bundle / "config.json").read_text())
    assert config["labels"] == ["cardboard", "glass", "metal", "paper", "plastic", "trash"]
    logs = workspace / "reports/training/sample"
    assert (logs / "config.yaml").exists() and (logs / "conditions.json").exists()
    assert list((logs / "tensorboard").glob("events*"))


def test_trained_stages_gather_batch_statistics_and_frozen_ones_do_not(workspace: Path) -> None:
    last = torch.load(workspace / "reports/training/sample/checkpoints/last.ckpt", weights_only=True)
    assert last["state_dict"]["network.backbone.bn2.num_batches_tracked"] > 0
    assert last["state_dict"]["network.backbone.bn1.num_batches_tracked"] == 0


def test_evaluation_fills_metrics_card_and_report(workspace: Path) -> None:
    done = command(workspace, "evaluate", "models/sample", "--resamples", "200", "--json")
    metrics = json.loads(done.stdout)
    assert metrics["n"] == 48 and metrics["accuracy"]["low"] <= metrics["accuracy"]["value"]
    assert "Measured" in (workspace / "models/sample/README.md").read_text()
    names = {path.stem for path in (workspace / "reports/figures/sample").glob("*.png")}
    assert {"confusion_matrix", "reliability", "risk_coverage", "training_curves", "per_class"} <= names
    with (workspace / "models/sample/predictions/test.csv").open(newline="") as file:
        answers = list(csv.DictReader(file))
    assert (
        len(answers) == 48 and answers[0]["path"] == "test/cardboard/cardboard18.jpg"
    )  # no folder of this machine
    right = sum(answer["y_true"] == answer["y_pred"] for answer in answers)
    assert right == round(48 * metrics["accuracy"]["value"]) and answers[0]["group"] != answers[1]["group"]
    shown = command(
        workspace, "evaluate", "models/sample", "--resamples", "200"
    ).stdout  # the bundle is still whole
    assert "wrong answers: reports/sample-errors.html\nVerdict: " in shown
    assert (workspace / "reports/sample-errors.html").read_text().count("<li ") == 48 - right
    compared = command(workspace, "models", "compare", "sample", "models/sample").stdout
    assert f"are right on the same {right} of 48 photos" in compared
    assert (workspace / "reports/compare-sample-models-sample.html").read_text().count(
        "data:image/jpeg"
    ) == 48 - right


def test_evaluation_on_another_folder(workspace: Path, tmp_path: Path) -> None:
    folder = FIELDWASTE if FIELDWASTE.is_dir() else ROOT / "data/sample/val"
    done = command(workspace, "evaluate", "models/sample", "--data", str(folder), "--resamples", "200")
    assert "balanced accuracy" in done.stdout
    (tmp_path / "banana").mkdir()
    shutil.copy(next((ROOT / PHOTO).iterdir()), tmp_path / "banana")
    done = command(workspace, "evaluate", "models/sample", "--data", str(tmp_path), status=1)
    assert "banana" in done.stderr and "It knows" in done.stderr


def probabilities(answer: dict[str, Any]) -> dict[str, float]:
    """Label to probability, of one answer in JSON."""
    return {item["label"]: item["probability"] for item in answer["probabilities"]}


def test_predict_table_json_csv_and_stdin(workspace: Path, tmp_path: Path) -> None:
    photos = sorted(str(path) for path in (ROOT / PHOTO).iterdir())[:3]
    table = command(workspace, "predict", *photos).stdout
    assert all(photo in table for photo in photos)
    document = json.loads(command(workspace, "predict", *photos, "--json").stdout)
    assert [row["photo"] for row in document["predictions"]] == photos
    row = document["predictions"][0]
    assert sum(probabilities(row).values()) == pytest.approx(1)
    assert probabilities(row).keys() == {"cardboard", "glass", "metal", "paper", "plastic", "trash"}
    assert document["model"]["name"] == "sample" and table.startswith("model: sample, ")
    target = tmp_path / "out.csv"
    process(workspace, "predict", "-", "--csv", str(target), stdin="\n".join(photos))
    rows = list(csv.DictReader(target.open()))
    assert list(rows[0])[:7] == [
        "path", "label", "probability", "decision", "waste_score", "prediction_set", "error"
    ]  # fmt: skip
    assert [r["label"] for r in rows] == [r["label"] for r in document["predictions"]]


def test_predict_says_which_photos_are_bad_and_goes_on(workspace: Path, tmp_path: Path) -> None:
    shutil.copy(next((ROOT / PHOTO).iterdir()), tmp_path / "good.jpg")
    (tmp_path / "bad.jpg").write_text("no picture")
    done = command(workspace, "predict", str(tmp_path), str(tmp_path / "none.jpg"), "--json", status=3)
    rows = {Path(row["photo"]).name: row for row in json.loads(done.stdout)["predictions"]}
    assert rows["good.jpg"]["label"] and rows["good.jpg"]["error"] is None
    errors = {name: row["error"] for name, row in rows.items()}
    assert "not a picture" in errors["bad.jpg"]["message"] and errors["bad.jpg"]["code"] == "not_a_photo"
    assert "No such file" in errors["none.jpg"]["message"]


def test_predict_a_glob_and_an_empty_folder(workspace: Path, tmp_path: Path) -> None:
    done = command(workspace, "predict", f"{ROOT / PHOTO}/*.jpg", "--json")
    assert len(json.loads(done.stdout)["predictions"]) == 8
    assert "holds no photos" in command(workspace, "predict", str(tmp_path), status=2).stderr


@pytest.fixture
def site() -> Iterator[str]:
    """A web server with the sample photos, on a port the system gives."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(ROOT / PHOTO))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_predict_a_url(workspace: Path, site: str) -> None:
    name = next((ROOT / PHOTO).iterdir()).name
    done = command(workspace, "predict", f"{site}/{name}", f"{site}/none.jpg", "--json", status=3)
    good, bad = json.loads(done.stdout)["predictions"]
    assert good["photo"] == f"{site}/{name}" and good["label"]
    assert "404" in bad["error"]["message"] and bad["error"]["code"] == "url_failed"


@pytest.mark.slow
def test_a_killed_prediction_goes_on_where_it_stopped(workspace: Path, tmp_path: Path) -> None:
    names = [str(path) for path in sorted((ROOT / "data/sample").rglob("*.jpg"))] * 3
    (tmp_path / "list").write_text("\n".join(names))
    line = [*CLI, "predict", "-", "--jsonl", str(tmp_path / "out")]
    partial = tmp_path / "out.partial"
    with (tmp_path / "list").open() as listing:
        running = subprocess.Popen(line, cwd=workspace, stdin=listing, stderr=subprocess.DEVNULL)
        while not partial.exists() or partial.read_bytes().count(b"\n") < 40:
            assert running.poll() is None
            time.sleep(0.02)
        running.kill()
        running.wait()
    before = partial.read_bytes().count(b"\n") - 1
    assert not (tmp_path / "out").exists()
    resumed = ["predict", "-", "--jsonl", str(tmp_path / "out"), "--resume"]
    other = process(workspace, *resumed, stdin="\n".join(reversed(names)), status=2)
    assert "predictions for other photos" in other.stderr
    done = process(workspace, *resumed, stdin="\n".join(names))
    assert f"{len(names)} photos" in done.stderr and f"{before}/{len(names)}" in done.stderr
    rows = [json.loads(row) for row in (tmp_path / "out").read_text().splitlines()]
    assert [row["path"] for row in rows] == names
    assert not partial.exists()
    whole = json.loads(command(workspace, "predict", *names[:300:50], "--json").stdout)["predictions"]
    labels = {row["path"]: row["label"] for row in rows}
    assert [row["label"] for row in whole] == [labels[row["photo"]] for row in whole]


@pytest.fixture(scope="module")
def exports(workspace: Path) -> Path:
    """The sample's bundle with its exported files."""
    shutil.copytree(workspace / "models/sample", workspace / "models/exported")
    done = command(workspace, "export", "models/exported", "--quantize", "fp16", "int8", "--json")
    records = json.loads(done.stdout)
    assert len(records) == 6 and all(record["problem"] is None for record in records.values())
    return workspace / "models/exported"


def test_export_writes_every_file_and_the_gates_report(workspace: Path, exports: Path) -> None:
    names = {path.name for path in (exports / "export").iterdir()}
    models = {f"model{p}{s}" for p in ("", "_int8") for s in (".onnx", ".tflite")}
    assert names == models | {"model_fp16.tflite", "saved_model", "report.json"}
    served = exports / "export/saved_model/1"
    assert (served / "assets/labels.txt").read_text() == (exports / "labels.txt").read_text()
    assert (served / "assets.extra/tf_serving_warmup_requests").stat().st_size > 64 * 96 * 3
    parity = json.loads((exports / "export/report.json").read_text())["files"]["model.tflite"]["parity"][
        "file"
    ]
    assert parity["photos"] == 48 and parity["largest_difference"] < 1e-4
    assert "model_int8.tflite" in (exports / "README.md").read_text()
    sums = subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=exports, check=False)
    assert sums.returncode == 0
    command(workspace, "export", "models/exported", "--format", "onnx")  # again: what is there stays
    assert {path.name for path in (exports / "export").iterdir()} == names


def test_openvino_passes_the_same_gate(workspace: Path, exports: Path) -> None:
    shutil.copytree(exports, workspace / "models/also-openvino")
    done = command(workspace, "export", "models/also-openvino", "--format", "openvino", "--json")
    (record,) = json.loads(done.stdout).values()
    assert record["problem"] is None and record["parity"]["file"]["largest_difference"] < 1e-4
    folder = workspace / "models/also-openvino/export"
    assert record["bytes"] == sum(file.stat().st_size for file in (folder / "openvino").iterdir())
    report = json.loads((folder / "report.json").read_text())
    assert "model.tflite" in report["files"] and "openvino" in report["conditions"]["versions"]
    sums = subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=folder.parent, check=False)
    assert sums.returncode == 0 and "openvino" in (folder.parent / "README.md").read_text()


def test_all_files_and_engines_answer_alike(workspace: Path, exports: Path) -> None:
    photos = sorted(str(path) for path in (ROOT / PHOTO).iterdir())

    def answers(*flags: str) -> list[dict[str, float]]:
        document = json.loads(command(workspace, "predict", *photos, "--json", *flags).stdout)
        return [
            {label: probabilities(row)[label] for label in ("glass", "paper", "trash")}
            for row in document["predictions"]
        ]

    expected = answers("--model", "models/exported", "--runtime", "torch")
    for flags in (
        ["--model", "models/exported"],
        ["--model", "models/exported", "--runtime", "onnxruntime", "--threads", "2"],
        ["--model", "models/exported/export/model.tflite", "--batch-size", "1"],
        ["--model", "models/exported/export/model.onnx"],
    ):
        for row, other in zip(expected, answers(*flags), strict=True):
            assert row == pytest.approx(other, abs=1e-4)


def test_a_tampered_export_is_refused(workspace: Path, exports: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(exports, copy)
    file = copy / "export/model.tflite"
    file.write_bytes(file.read_bytes()[:-9])
    photo = str(next((ROOT / PHOTO).iterdir()))
    done = command(workspace, "predict", photo, "--model", str(copy), status=1)
    assert "does not match its checksum" in done.stderr


@pytest.mark.slow
def test_an_export_that_drifts_leaves_nothing_behind(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "LARGEST_LOSS", -1.0)
    monkeypatch.setattr(parity, "FLOAT32_TOLERANCE", 1e-12)
    before = sorted(path.name for path in (workspace / "models/sample").iterdir())
    done = command(workspace, "export", "models/sample", "--format", "onnx", status=1)
    assert "too far from the trained model" in done.stderr
    assert sorted(path.name for path in (workspace / "models/sample").iterdir()) == before
    shutil.copytree(workspace / "models/sample", workspace / "models/drifted")
    done = command(workspace, "export", "models/drifted", "--format", "onnx", "--allow-drift")
    assert "kept despite" in done.stdout


def test_export_needs_the_data_it_learned_from(workspace: Path) -> None:
    done = command(workspace, "export", "models/sample", "--data-dir", "elsewhere", status=1)
    assert "trash-classifier data sample" in done.stderr


def test_an_adapted_bundle_answers_alike_in_its_engines(workspace: Path, exports: Path) -> None:
    given = {path: path.read_bytes() for path in exports.iterdir() if path.is_file()}
    shutil.copytree(
        ROOT / PHOTO, workspace / "own/paper"
    )  # photos of another class, so that the answers move
    shutil.copytree(ROOT / "data/sample/val/metal", workspace / "own/metal")
    done = command(workspace, "adapt", "models/exported", "--photos", "own", "--output", "place", "--json")
    record = json.loads(done.stdout)
    assert record["class_means"] and record["right_after"] > record["right_before"]
    assert given == {path: path.read_bytes() for path in exports.iterdir() if path.is_file()}
    assert not (workspace / "models/place/export/report.json").exists()
    command(
        workspace, "adapt", "models/exported/export/model_fp16.tflite", "--photos", "own", "--output", "file"
    )
    photos = sorted(str(path) for path in (ROOT / PHOTO).iterdir())
    rows = [
        [probabilities(row) for row in json.loads(done.stdout)["predictions"]]
        for flags in (
            ["models/place", "--runtime", "torch"], ["models/place", "--runtime", "litert"], ["models/file.tflite"],
        )
        for done in [command(workspace, "predict", *photos, "--json", "--model", *flags)]
    ]  # fmt: skip
    for other in rows[1:]:
        for row, answer in zip(rows[0], other, strict=True):
            assert row == pytest.approx(answer, abs=0.02)
    evaluated = command(workspace, "evaluate", "models/place", "--resamples", "100")
    assert "Verdict:" in evaluated.stdout
    assert "no longer hold" in (workspace / "models/place/README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_benchmark_times_what_is_there(exported: Path) -> None:
    done = command(exported, "benchmark", "--count", "4", "--rounds", "1", "--json")
    timings = json.loads(done.stdout)["timings"]
    files = {(t["engine"], t["file"]) for t in timings}
    assert {("litert", "model_int8.tflite"), ("onnxruntime", "model.onnx"), ("torch", "bundle")} <= files
    assert all(t["infer"] > 0 and t["memory"] > 10 and 0 <= t["accuracy"] <= 1 for t in timings)
    assert (exported / "reports/figures/benchmark-sample.png").exists()
    assert "no photos" in command(exported, "benchmark", "--photos", "models", status=1).stderr


def test_a_bundle_is_promoted_and_answers_by_its_alias(
    workspace: Path, exports: Path, tmp_path: Path
) -> None:
    shutil.copytree(exports, tmp_path / "models/sample")
    data = ["--data-dir", str(workspace / "data")]
    command(tmp_path, "evaluate", "sample", *data, "--resamples", "100")
    # The test's network is too small to be sure: it answers most photos with `unsure`.
    assert "accepted photos: " in command(tmp_path, "models", "promote", "sample", status=1).stderr
    done = command(tmp_path, "models", "promote", "sample", "--min-accepted", "0", "--json")
    assert json.loads(done.stdout)["version"] == "sample@1"
    shutil.rmtree(tmp_path / "models/sample")
    photo = str(ROOT / PHOTO)
    by_alias = json.loads(command(tmp_path, "predict", photo, "--model", "production", "--json").stdout)
    assert json.loads(command(tmp_path, "predict", photo, "--json").stdout) == by_alias
    assert by_alias["model"]["name"] == "sample"
    listed = command(tmp_path, "models").stdout
    assert "sample@1" in listed and "latest, production" in listed
    assert "sample@1" in command(tmp_path, "models", "show", "sample@production").stdout
    assert "accuracy" in command(tmp_path, "models", "compare", "sample@1", "production").stdout
    assert "pointed at before" in command(tmp_path, "models", "rollback", status=1).stderr


def test_errors_say_what_next(tmp_path: Path) -> None:
    assert "trash-classifier train sample" in command(tmp_path, "evaluate", status=1).stderr
    assert "trash-classifier data mine" in command(tmp_path, "train", "mine", status=1).stderr
    assert "--source" in command(tmp_path, "data", "mine", status=1).stderr
    assert "'--epochs'" in command(tmp_path, "train", "--epoch", "1", status=2).stderr
    assert "There is no command 'dance'" in command(tmp_path, "dance", status=2).stderr
    assert "a.jpg cannot be read" in command(tmp_path, "predict", "a.jpg", status=3).stdout


@pytest.mark.slow
def test_scripts_of_the_layout_are_the_commands(workspace: Path) -> None:
    for module, verb in (
        ("data.make_dataset", "data"),
        ("features.build_features", "features"),
        ("models.train_model", "train"),
        ("models.predict_model", "predict"),
        ("visualization.visualize", "explore"),
    ):
        line = [sys.executable, "-m", f"image_classification_trash.{module}", "--help"]
        done = subprocess.run(line, cwd=workspace, capture_output=True, text=True, check=True)
        assert f"trash-classifier {verb}" in done.stdout


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_bits(workspace: Path) -> None:
    plan = ["train", "sample", *PLAIN, "--epochs", "9", "--patience", "9", "--batch-size", "8"]
    process(workspace, *plan, "--output", "whole")
    line = [*CLI, *plan, "--output", "killed"]
    logs = workspace / "reports/training/killed"
    running = subprocess.Popen(line, cwd=workspace, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (logs / "checkpoints/last.ckpt").exists() and running.poll() is None:
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert not (workspace / "models/killed").exists(), "the training ended before it could be killed"
    process(workspace, *plan, "--output", "killed", "--resume")
    for name in ("model.safetensors", "history.csv"):
        whole, resumed = (workspace / "models" / run / name for run in ("whole", "killed"))
        assert whole.read_bytes() == resumed.read_bytes(), name


@pytest.mark.slow
def test_a_checkpoint_of_another_network_is_refused(workspace: Path) -> None:
    command(workspace, "train", "sample", *PLAIN, "--epochs", "1", "--output", "other")
    resume = ["train", "sample", *SMALL, "--epochs", "2", "--output", "other", "--resume"]
    done = command(workspace, *resume, status=1)
    assert "sequential_cnn" in done.stderr and "--architecture" in done.stderr
    done = command(workspace, "train", "sample", *PLAIN, "--output", "fresh", "--resume", status=1)
    assert "nothing to resume" in done.stderr


@pytest.mark.slow
def test_resnet18_from_a_local_weights_file(workspace: Path, tmp_path: Path) -> None:
    weights = tmp_path / "resnet18.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), weights)
    plan = ["train", "sample", "--architecture", "resnet18", "--input-height", "64", "--input-width", "64"]
    command(workspace, *plan, "--weights", str(weights), "--epochs", "1", "--output", "resnet")
    config = json.loads((workspace / "models/resnet/config.json").read_text())
    assert config["architecture"] == "resnet18" and "head" in config["training"]
    done = command(workspace, "train", "sample", *SMALL, "--weights", str(weights), status=1)
    assert "does not fit efficientnet_lite0" in done.stderr


def test_two_processes_train_together(workspace: Path) -> None:
    plan = [*PLAIN, "--epochs", "2", "--devices", "2", "--accelerator", "cpu", "--output", "ddp"]
    process(workspace, "train", "sample", *plan)
    config = json.loads((workspace / "models/ddp/config.json").read_text())
    assert config["training"]["epochs_run"] == 2


TOGETHER = ["train", "sample", *PLAIN, "--epochs", "2", "--accelerator", "cpu"]


@pytest.fixture(scope="module")
def two_devices(workspace: Path) -> Path:
    """The epochs of a training on two devices of this machine."""
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # sums depend on how many threads share them
    process(workspace, *TOGETHER, "--devices", "2", "--output", "one-machine", environment=alone)
    return workspace / "models/one-machine/history.csv"


def train_together(
    workspace: Path, output: str, starts: Sequence[Sequence[str]], address: str, port: int, flags: bool
) -> None:
    """Train with `torchrun` as two machines do; each begins its command with one of `starts`.

    `torchrun` learns its place from flags, as in a shell and on Slurm, or from variables, as on Kubernetes.
    """
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    place = {"nnodes": "2", "nproc-per-node": "1", "master-addr": address, "master-port": str(port)}
    nodes = []
    for rank, start in enumerate(starts):
        here = {**place, "node-rank": str(rank)}
        given = [f"--{name}={value}" for name, value in here.items()] if flags else []
        variables = {} if flags else {f"PET_{k.replace('-', '_').upper()}": v for k, v in here.items()}
        line = [*start, *torchrun, *given, "-m", "image_classification_trash", *TOGETHER, "--output", output]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
        nodes.append(subprocess.Popen(line, cwd=workspace, env=environment))
    assert [node.wait(GUARD) for node in nodes] == [0, 0]


def check_same_epochs(table: Path, other: Path) -> None:
    one, two = ([row.split(",") for row in file.read_text().splitlines()[1:]] for file in (table, other))
    for before, after in zip(one, two, strict=True):
        assert list(map(float, before)) == pytest.approx(list(map(float, after)), rel=1e-4, abs=1e-4)


@pytest.mark.slow
def test_two_machines_train_as_two_devices_do(workspace: Path, two_devices: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    train_together(workspace, "two-machines", [[], []], "127.0.0.1", port, flags=False)
    check_same_epochs(two_devices, workspace / "models/two-machines/history.csv")


@pytest.mark.slow
def test_two_network_namespaces_train_as_two_devices_do(workspace: Path, two_devices: Path) -> None:
    """The network between them carries all that the machines share, beside the disk."""
    with two_machines() as machines:
        starts = [[*each.enter, "env", f"GLOO_SOCKET_IFNAME={each.card}"] for each in machines]
        train_together(workspace, "two-namespaces", starts, machines[0].address, 29500, flags=True)
    assert [path.name for path in (workspace / "models").glob("two-namespaces*")] == ["two-namespaces"]
    check_same_epochs(two_devices, workspace / "models/two-namespaces/history.csv")


def test_photos_and_classes_of_ones_own(workspace: Path, tmp_path: Path) -> None:
    for label, source in (("Büchse & Dose", "metal"), ("old paper", "paper")):
        shutil.copytree(ROOT / "data/sample/train" / source, tmp_path / label)
    done = command(workspace, "data", "mine", "--source", str(tmp_path))
    assert "split grouped" in done.stdout
    command(workspace, "train", "mine", "--epochs", "0", *SMALL)
    done = command(workspace, "evaluate", "models/mine", "--resamples", "200")
    assert "accuracy" in done.stdout
    labels = (workspace / "models/mine/labels.txt").read_text(encoding="utf-8").splitlines()
    assert labels == ["Büchse & Dose", "old paper"]


@pytest.fixture(scope="module")
def field(workspace: Path) -> Path:
    """A bundle trained for the field, with a detector of waste."""
    robust = ["--copy-paste", "0.5", "--corruption", "0.5", "--outliers", "0.2", "--rejection-head"]
    command(workspace, "train", "sample", *PLAIN, *robust, "--epochs", "1", "--output", "field")
    return workspace / "models/field"


@pytest.mark.slow
def test_training_for_the_field_measures_itself_under_shift(field: Path) -> None:
    config = json.loads((field / "config.json").read_text())
    assert config["labels"][-1] == config["negative_label"] == "not waste" and len(config["labels"]) == 7
    shift = config["training"]["validation_under_shift"]
    assert {"clean", "copy_pasted", "blur, radius 2", "turned by 90°"} <= shift.keys()
    assert 0.5 < config["training"]["rejection_head"]["auroc"] <= 1
    assert config["training"]["rejection_head"]["kept"] == pytest.approx(0.99, abs=0.01)


@pytest.mark.slow
def test_photos_without_waste_are_measured(workspace: Path, field: Path, tmp_path: Path) -> None:
    for number in range(6):
        noise = torch.randint(0, 256, (3, 60, 80), dtype=torch.uint8)
        torchvision.io.write_png(noise, str(tmp_path / f"{number}.png"))
    done = command(
        workspace, "evaluate", "models/field", "--not-waste", str(tmp_path), "--json", "--resamples", "100"
    )
    measured = json.loads(done.stdout)
    assert measured["not_waste"]["n"] == 6 and measured["not_waste"]["score"] == "waste score"
    assert all(
        measured["not_waste"][name]["low"] <= measured["not_waste"][name]["high"]
        for name in ("auroc", "fpr_at_95", "rejected", "accepted_above_0.9")
    )
    assert measured["accuracy_at_coverage"]["n"] == round(0.8 * measured["n"])
    assert len(measured["confusion"]) == 6
    card = (field / "README.md").read_text()
    assert "photos without waste" in card and "Per class, test" in card
    done = command(workspace, "evaluate", "models/field", "--not-waste", str(tmp_path / "none"), status=1)
    assert "There is no folder" in done.stderr


@pytest.mark.slow
def test_an_answer_carries_the_waste_score(workspace: Path, field: Path) -> None:
    done = command(workspace, "predict", PHOTO, "--model", "models/field", "--json")
    rows = json.loads(done.stdout)["predictions"]
    assert all(row["label"] != "not waste" for row in rows)
    assert all(
        row["waste_score"] == pytest.approx(1 - probabilities(row)["not waste"], abs=1e-5) for row in rows
    )
    assert all(sum(probabilities(row).values()) == pytest.approx(1, abs=1e-4) for row in rows)


@pytest.fixture(scope="module")
def plain(workspace: Path) -> Path:
    """A quickly trained bundle of a small network."""
    command(workspace, "train", "sample", *PLAIN, "--epochs", "1", "--output", "plain")
    return workspace / "models/plain"


@pytest.mark.parametrize("start", ["plain", pytest.param("field", marks=pytest.mark.slow)])
def test_training_goes_on_from_a_bundle(workspace: Path, start: str, request: pytest.FixtureRequest) -> None:
    first: Path = request.getfixturevalue(start)
    begin, further = ["--init-from", f"models/{start}"], f"{start}-further"
    still = ["--epochs", "1", "--learning-rate", "1e-9", "--ema-decay", "0"]
    command(workspace, "train", "sample", *PLAIN, *still, *begin, "--output", further)
    before, after = (
        load_file(path / "model.safetensors") for path in (first, workspace / "models" / further)
    )
    assert torch.allclose(before["head.1.weight"], after["head.1.weight"], atol=1e-5)
    both = [*begin, "--init-from", f"models/{further}", "--epochs", "0", "--output", f"{start}-average"]
    command(workspace, "train", "sample", *PLAIN, *both)
    middle = load_file(workspace / f"models/{start}-average/model.safetensors")
    assert all(
        torch.allclose(middle[name], (before[name] + after[name]) / 2, atol=1e-6)
        for name in middle
        if name.startswith(("backbone", "head")) and middle[name].is_floating_point()
    )
    other = ["train", "sample", "--epochs", "1", *SMALL, *begin, "--output", "x"]
    done = command(workspace, *other, status=1)
    assert "sequential_cnn" in done.stderr and "efficientnet_lite0" in done.stderr
