import errno
import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from image_classification_trash.errors import BundleError, OutputError
from image_classification_trash.inference.bundle import (
    TRASHNET_LABELS,
    TRASHNET_LICENSE,
    UNSTATED,
    Bundle,
    BundleConfig,
    add_files,
    add_to_bundle,
    read_bundle,
    write_bundle,
    write_checksums,
)

CONFIG = BundleConfig(
    name="tiny",
    architecture="sequential_cnn",
    labels=("glass", "métal, fin", "紙 箱"),
    input_height=64,
    input_width=80,
    resize_mode="stretch",
    temperature=1.5,
    threshold=0.6,
    data={"fingerprint": "abc"},
    training={"epochs": 1},
    git_commit="0" * 40,
    versions={"torch": "2.7"},
    created="2025-01-01T00:00:00Z",
)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(
        tmp_path / "tiny", CONFIG, {"model.safetensors": b"weights", "export/model.onnx": b"o"}
    )


def edit_config(folder: Path, **changes: Any) -> None:
    """Change config.json as its author would: checksums are made anew."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    write_checksums(folder)


def test_a_bundle_is_read_as_it_was_written(bundle: Bundle) -> None:
    again = read_bundle(str(bundle.path))
    assert again.config == CONFIG
    assert again.config.input_size == (64, 80)
    assert again.weights.read_bytes() == b"weights"
    assert again.metrics() == {}
    assert (bundle.path / "labels.txt").read_text(encoding="utf-8").splitlines() == list(CONFIG.labels)


def test_trashnet_s_licence_is_not_that_of_own_photos(bundle: Bundle) -> None:
    assert "owner" in read_bundle(bundle.path).config.license
    edit_config(bundle.path, license=TRASHNET_LICENSE)  # as earlier versions wrote it into every bundle
    assert read_bundle(bundle.path).config.license == UNSTATED
    edit_config(bundle.path, license="CC-BY-4.0")
    assert read_bundle(bundle.path).config.license == "CC-BY-4.0"
    edit_config(
        bundle.path, license=TRASHNET_LICENSE, data={"name": "trashnet"}, labels=list(TRASHNET_LABELS)
    )
    (bundle.path / "labels.txt").write_text("".join(f"{label}\n" for label in TRASHNET_LABELS))
    write_checksums(bundle.path)
    assert read_bundle(bundle.path).config.license == TRASHNET_LICENSE


def test_metrics_are_added_and_covered_by_the_checksums(bundle: Bundle) -> None:
    add_to_bundle(bundle, {"metrics.json": '{"accuracy": 0.5}', "README.md": "# tiny\n"})
    assert read_bundle(bundle.path).metrics() == {"accuracy": 0.5}
    (bundle.path / "README.md").write_text("# better\n")
    with pytest.raises(BundleError, match=r"README\.md does not match its checksum"):
        read_bundle(bundle.path)


@pytest.mark.parametrize("name", ["config.json", "labels.txt", "model.safetensors"])
def test_a_missing_or_changed_file_is_named(bundle: Bundle, name: str) -> None:
    file = bundle.path / name
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(BundleError, match=f"{name} does not match its checksum") as caught:
        read_bundle(bundle.path)
    assert "Copy the whole folder again" in caught.value.hint
    file.unlink()
    with pytest.raises(BundleError, match=f"{name}|no {name}") as caught:
        read_bundle(bundle.path)
    assert caught.value.hint


def test_an_exported_file_is_checked_when_it_is_opened(bundle: Bundle) -> None:
    file = bundle.path / "export" / "model.onnx"
    assert bundle.exported("model.onnx") == file
    with pytest.raises(BundleError, match=r"has no export/model\.tflite") as caught:
        bundle.exported("model.tflite")
    assert "trash-classifier export" in caught.value.hint
    file.write_bytes(b"other")
    with pytest.raises(BundleError, match=r"model\.onnx does not match its checksum"):
        read_bundle(bundle.path).exported("model.onnx")
    (bundle.path / "export" / "model.tflite").write_bytes(b"foreign")
    with pytest.raises(BundleError, match=r"model\.tflite is not in the bundle's SHA256SUMS"):
        bundle.exported("model.tflite")


def test_a_folder_of_several_files_is_checked_whole(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "made" / "saved_model" / "1"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    add_files(bundle, {"export": tmp_path / "made"}, {"README.md": "# tiny\n"})
    assert (bundle.path / "export" / "model.onnx").read_bytes() == b"o"
    assert bundle.exported("saved_model/1").is_dir()
    (bundle.path / "export" / "saved_model" / "1" / "saved_model.pb").unlink()
    with pytest.raises(BundleError, match=r"saved_model\.pb is missing"):
        bundle.exported("saved_model/1")


@pytest.mark.parametrize("kind", ["missing", "empty", "file"])
def test_what_is_no_bundle_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "empty":
        path.mkdir()
    elif kind == "file":
        path.touch()
    with pytest.raises(BundleError, match="is not a trained model") as caught:
        read_bundle(path)
    assert "trash-classifier train" in caught.value.hint


def test_a_folder_that_is_no_bundle_is_not_replaced(bundle: Bundle, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "letters.txt").touch()
    with pytest.raises(OutputError, match=r"theirs holds other files, such as letters\.txt"):
        write_bundle(theirs, bundle.config, {})
    write_bundle(bundle.path, bundle.config, {"model.safetensors": b"new"})
    assert bundle.weights.read_bytes() == b"new"


def test_a_bundle_without_checksums_is_refused(bundle: Bundle) -> None:
    (bundle.path / "SHA256SUMS").unlink()
    with pytest.raises(BundleError, match="has no SHA256SUMS"):
        read_bundle(bundle.path)


def test_checksums_must_cover_the_weights(bundle: Bundle) -> None:
    sums = bundle.path / "SHA256SUMS"
    kept = [line for line in sums.read_text().splitlines() if "safetensors" not in line]
    sums.write_text("\n".join(kept) + "\n")
    with pytest.raises(BundleError, match=r"model\.safetensors is not in the bundle's SHA256SUMS"):
        read_bundle(bundle.path)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"format_version": 99}, "bundle format 99; this version of the program reads 1"),
        ({"temperature": 0}, "impossible temperature"),
        ({"temperature": float("inf")}, "impossible temperature"),
        ({"temperature": float("nan")}, "impossible temperature"),
        ({"threshold": float("nan")}, "impossible threshold"),
        ({"threshold": 1.5}, "impossible threshold"),
        ({"resize_mode": "squeeze"}, "impossible resize mode"),
        ({"input_height": 0}, "impossible input size"),
        ({"labels": ["glass"]}, "impossible labels"),
        ({"labels": ["glass", "glass", "glass"]}, "impossible labels"),
        ({"labels": ["glass", "紙 箱", "métal, fin"]}, "name different labels"),
        ({"labels": 5}, "impossible labels"),
        ({"labels": []}, "impossible labels"),
        ({"labels": [1, 2, 3]}, "impossible labels"),
        ({"temperature": "warm"}, "impossible temperature"),
        ({"temperature": True}, "impossible temperature"),
        ({"name": 7, "data": [], "versions": None}, "impossible name, data, versions"),
        ({"input_height": 32.5, "conformal_threshold": "x"}, "impossible input_height, conformal_threshold"),
        ({"data": {"name": 7}, "training": {"settings": []}}, r"impossible data\.name, training\.settings"),
    ],
)
def test_contradictions_are_refused(bundle: Bundle, changes: dict[str, Any], found: str) -> None:
    edit_config(bundle.path, **changes)
    with pytest.raises(BundleError, match=found) as caught:
        read_bundle(bundle.path)
    assert str(bundle.path) in caught.value.found
    assert caught.value.hint


def test_what_a_description_lacks_is_an_error_of_the_model(bundle: Bundle) -> None:
    edit_config(bundle.path, data={"name": "mine", "counts": {"train": {}}})
    config = read_bundle(bundle.path).config
    for asked, name in ((config.data, "fingerprint"), (config.data["counts"], "val")):
        with pytest.raises(BundleError, match=rf"config\.json has no '{name}'"):
            asked[name]
    assert config.data.get("fingerprint") is None and config.data["name"] == "mine"
    assert asdict(config)["data"] == {"name": "mine", "counts": {"train": {}}}


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\udcff"])
def test_a_config_that_is_no_description_is_refused(bundle: Bundle, text: str) -> None:
    (bundle.path / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    write_checksums(bundle.path)
    with pytest.raises(BundleError, match="is not a bundle's description"):
        read_bundle(bundle.path)


def test_binary_checksums_and_labels_are_refused(bundle: Bundle) -> None:
    (bundle.path / "labels.txt").write_bytes(b"\xff\xfe")
    write_checksums(bundle.path)
    with pytest.raises(BundleError, match=r"labels\.txt"):
        read_bundle(bundle.path)
    (bundle.path / "SHA256SUMS").write_bytes(b"\xff\xfe")
    with pytest.raises(BundleError, match="SHA256SUMS"):
        read_bundle(bundle.path)


def test_a_full_disk_leaves_the_old_bundle(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_bundle(bundle.path, replace(CONFIG, name="new"), {"model.safetensors": b"new"})
    assert read_bundle(bundle.path).config.name == "tiny"
    assert [entry.name for entry in bundle.path.parent.iterdir()] == ["tiny"]
