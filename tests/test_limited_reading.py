"""What is read has a limit: endless, deep and huge files are refused in a sentence, with little memory."""

import contextlib
import io
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.gateways import CONFIG, write_bundle

from image_classification_trash.config.loader import load_settings, read_recipe
from image_classification_trash.config.training import TrainSettings
from image_classification_trash.data.corrections import read_corrections
from image_classification_trash.data.sources import read_source
from image_classification_trash.errors import BundleError, DatasetError, SettingsError
from image_classification_trash.files import parse_json, read_limited
from image_classification_trash.inference.bundle import read_bundle, write_checksums
from image_classification_trash.inference.model_store import REGISTRY, read_registry
from image_classification_trash.inference.prediction_counts import read_statistics
from image_classification_trash.models.predict_model import listed_names

DEEP = "[" * 100_000
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[1]), resource.RLIM_INFINITY))
from image_classification_trash.cli import run
sys.exit(run(sys.argv[2:]))
"""


def test_a_device_that_never_ends_is_not_read_further() -> None:
    with pytest.raises(OSError, match="longer than 1,000 bytes"):
        read_limited(Path("/dev/zero"), 1000)


def test_deep_json_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(DEEP)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (DEEP, "nested too deeply"),
        ("train: " + "{a: " * 20_000, "nested too deeply"),
        ("x" * 2**18, "longer than 131,072 bytes"),
        ("train: {epochs: 2025-99-99}", "is not YAML"),
        ("train: {epochs: " + "9" * 5000 + "}", "is not YAML"),
        ("train: {epochs: !!bool x}", "is not YAML"),
        ("? [a, b]\n: 1", "is not YAML"),
        ("train:\n  ? " + "n" * 100_000 + "\n  : 1", "is not known"),
    ],
    ids=["flow", "maps", "long", "no date", "no number", "no switch", "list as key", "long name"],
)
def test_a_recipe_that_is_none_is_refused_in_a_sentence(tmp_path: Path, content: str, found: str) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(content)
    with pytest.raises(SettingsError, match=found) as caught:
        read_recipe(file, TrainSettings)
    assert len(str(caught.value)) < 5000


def test_aliases_that_multiply_are_shown_shortly(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    file = tmp_path / "recipe.yaml"
    file.write_text("train:\n  epochs:\n" + "".join(f"    {line}\n" for line in lines))
    with pytest.raises(SettingsError, match="epochs") as caught:
        load_settings(TrainSettings, ["mine", "--config", str(file)])
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize(
    ("line", "status", "found"),
    [
        (["train", "x", "--config", "/dev/zero"], 2, "/dev/zero cannot be read: it is longer than"),
        (["data", "x", "--source", "zero.csv"], 1, "zero.csv cannot be read: it is longer than"),
    ],
)
def test_endless_files_take_little_memory(tmp_path: Path, line: list[str], status: int, found: str) -> None:
    with (tmp_path / "zero.csv").open("wb") as file:
        file.truncate(2**40)  # a sparse file
    command = [sys.executable, "-c", LIMITED, str(2**30), *line]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr
    assert found in done.stderr


def test_json_with_a_key_twice_loses_none() -> None:
    with pytest.raises(ValueError, match="it gives 'b' twice in one object"):
        parse_json('{"a": {"b": 1, "c": 2, "b": 3}}')
    assert parse_json('{"a": {"a": 1}, "b": {"a": 2}}') == {"a": {"a": 1}, "b": {"a": 2}}


def deep_config(folder: Path) -> Any:
    bundle = write_bundle(folder / "tiny", CONFIG)
    (bundle / "config.json").write_text('{"a":' * 100_000)
    write_checksums(bundle)
    return read_bundle(bundle)


def deep_metrics(folder: Path) -> Any:
    bundle = write_bundle(folder / "tiny", CONFIG)
    (bundle / "metrics.json").write_text(DEEP)
    write_checksums(bundle)
    return read_bundle(bundle).metrics()


def deep_registry(folder: Path) -> Any:
    (folder / REGISTRY).write_text(DEEP)
    return read_registry(folder)


def deep_statistics(folder: Path) -> Any:
    (folder / "s.json").write_text(DEEP)
    return read_statistics(folder / "s.json")


def test_a_bundle_with_a_key_twice_is_not_read(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "tiny", CONFIG)
    text = (bundle / "config.json").read_text()
    (bundle / "config.json").write_text(text.replace("{", '{"temperature": 9.0,', 1))
    write_checksums(bundle)
    with pytest.raises(BundleError, match="it gives 'temperature' twice"):
        read_bundle(bundle)


@pytest.mark.parametrize("read", [deep_config, deep_metrics, deep_registry, deep_statistics])
def test_deep_json_in_any_file_is_an_error_of_ours(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    with pytest.raises(BundleError, match=r"nested too deeply|RecursionError"):
        read(tmp_path)


@pytest.mark.parametrize("depth", [200, 450, 900])
def test_a_description_nested_less_deeply_is_one_too(tmp_path: Path, depth: int) -> None:
    bundle = write_bundle(tmp_path / "tiny", CONFIG)
    config = json.loads((bundle / "config.json").read_text())
    text = json.dumps(config)[:-1] + ', "extra": ' + '{"a": ' * depth + "1" + "}" * depth + "}"
    (bundle / "config.json").write_text(text)
    write_checksums(bundle)
    with contextlib.suppress(BundleError):
        assert read_bundle(bundle).config.name == "tiny"


@pytest.mark.parametrize("read", [read_corrections, read_source, read_statistics])
def test_a_file_that_is_too_long_is_refused(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    file = tmp_path / "long.csv"
    with file.open("wb") as opened:
        opened.truncate(2**34)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((DatasetError, BundleError), match="is longer than"):
        read(file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB


def test_lists_of_names_are_read_in_pieces() -> None:
    text = "a.jpg\n b.jpg \n\nc.jpg\0d.jpg\0" + "e" * 60_000 + "\n" + "f.jpg"
    assert list(listed_names(io.StringIO(text))) == [
        "a.jpg",
        "b.jpg",
        "c.jpg",
        "d.jpg",
        "e" * 60_000,
        "f.jpg",
    ]
    many = "".join(f"photo {i}.jpg\n" for i in range(30_000))
    assert list(listed_names(io.StringIO(many))) == [f"photo {i}.jpg" for i in range(30_000)]
    assert list(listed_names(io.StringIO("\ufeffa.jpg\r\n\r\n b.jpg\r\n"))) == ["a.jpg", "b.jpg"]
    assert list(listed_names(io.StringIO(""))) == list(listed_names(io.StringIO("\ufeff"))) == []
    utf16 = "a.jpg\n".encode("utf-16").decode("utf-8", errors="surrogateescape")
    with pytest.raises(SettingsError, match="UTF-16"):
        list(listed_names(io.StringIO(utf16)))
    with pytest.raises(SettingsError, match="more than 65,536 characters"):
        list(listed_names(io.StringIO("x" * 200_000)))
