"""Adapt a model to an owner's photos: what is written, what is refused, and that every file left out is named."""

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import command
from helpers.photos import encoded
from PIL import Image

from image_classification_trash import TrashClassifier, adapt_model
from image_classification_trash.errors import BundleError, DatasetError, ExportError, SettingsError
from image_classification_trash.features.class_means import FILE as CLASS_MEANS
from image_classification_trash.features.class_means import ClassMeans, measure_class_means, read_class_means
from image_classification_trash.inference.bundle import (
    CARD,
    NOTICE,
    WEIGHTS,
    Bundle,
    BundleConfig,
    read_bundle,
    write_bundle,
)
from image_classification_trash.inference.shipped import shipped_model
from image_classification_trash.models import adapt_model as module
from image_classification_trash.models.promote_model import better_than_guessing
from image_classification_trash.networks.network import TrashNetwork, load_network, network_bytes

COLOURS = {"glass": (150, 60, 60), "metal": (60, 150, 60)}
CONFIG = BundleConfig(
    name="tiny", architecture="sequential_cnn", labels=("glass", "metal", "paper", "not waste"), input_height=32,
    input_width=32, resize_mode="stretch", temperature=0.8, threshold=0.4, git_commit="abc", versions={}, created="then",
    data={"name": "mine", "fingerprint": "f" * 64, "split": {"method": "random"}, "counts": {"train": {"glass": 3}}},
    training={"settings": {"seed": 0}, "seconds": 1.0, "machine": "no accelerator", "validation": {"accuracy": 0.9}},
    negative_label="not waste", conformal_threshold=0.9,
)  # fmt: skip
BLOCKED = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "scipy", "sklearn", "safetensors", "tensorflow", "onnx", "timm"}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Missing())
from image_classification_trash.cli import run
sys.exit(run(sys.argv[1:]))
"""


def coloured(colour: tuple[int, int, int], seed: int) -> bytes:
    noise = np.random.default_rng(seed).normal(0, 30, (48, 64, 3))
    return encoded(Image.fromarray(np.clip(noise + colour, 0, 255).astype(np.uint8)))


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six photos each of two colours, called glass and metal, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for label, colour in COLOURS.items():
        (tmp_path / "own" / label).mkdir(parents=True)
        for number in range(6):
            seed = number + 100 * (label == "metal")
            (tmp_path / "own" / label / f"{number}.jpg").write_bytes(coloured(colour, seed))
    return tmp_path / "own"


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Bundle]:
    """Writes a bundle of a small untrained network, with or without class means or a rejection tail."""

    def write(means: ClassMeans | None = None, tail: bool = False) -> Bundle:
        torch.manual_seed(0)
        network = TrashNetwork("sequential_cnn", 3, detects_waste=True)
        network.rejection_head.bias.data.fill_(5.0)  # type: ignore[union-attr]  # nothing is rejected
        network.temperature.fill_(CONFIG.temperature)
        network.rejection_tail = network.copy_tail(4) if tail else None
        files = {WEIGHTS: network_bytes(network), NOTICE: b"photos by someone\n"}
        if means is not None and (content := means.to_bytes()):
            files[CLASS_MEANS] = content
        return write_bundle(tmp_path / "models/tiny", CONFIG, files)

    return write


def test_a_tflite_file_is_adapted_and_the_given_one_stays(own: Path) -> None:
    given = shipped_model().read_bytes()
    adapted = adapt_model("shipped", own, "my-place")
    assert adapted.path == Path("models/my-place.tflite") and shipped_model().read_bytes() == given
    record = adapted.record
    assert record.photos["glass"] == record.photos["metal"] == 6 and record.n == record.fits == 12
    assert record.right_after >= 11 > record.right_before
    classifier, before = TrashClassifier.load(adapted.path), TrashClassifier.load()
    new = [Image.open(path).copy() for path in sorted(own.rglob("*.jpg"))]
    assert [answer.label for answer in classifier.predict(new)] == ["glass"] * 6 + ["metal"] * 6
    was, now = (np.array([p.waste_score for p in c.predict(new)]) for c in (before, classifier))
    assert now == pytest.approx(was, abs=1e-5)  # what is rejected does not change
    config = classifier.config
    assert config.name == "my-place" and config.temperature == adapted.temperature
    assert config.conformal_threshold is None and "validation" not in config.training
    assert config.training["adaptation"] == dataclasses.asdict(record)
    assert record.origin_sha256 == before.digest
    notice = Path("models/my-place.NOTICE.txt")
    assert notice.read_bytes() == (shipped_model().parent / NOTICE).read_bytes()


def test_the_same_photos_give_the_same_file_but_for_its_date(own: Path) -> None:
    first, second = (adapt_model("shipped", own, name) for name in ("one", "two"))
    assert first.record == second.record and first.temperature == second.temperature
    photo = own / "glass/0.jpg"
    answers = [TrashClassifier.load(adapted.path)(photo).probabilities for adapted in (first, second)]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("tail", [False, True])
def test_a_bundle_is_adapted_into_a_bundle(own: Path, tiny: Callable[..., Bundle], tail: bool) -> None:
    bundle = tiny(tail=tail)
    before = {path.name: path.read_bytes() for path in bundle.path.iterdir()}
    adapted = adapt_model("tiny", own, "my-place")
    assert {path.name: path.read_bytes() for path in bundle.path.iterdir()} == before
    written = read_bundle(adapted.path)
    old, new = load_network(bundle).state_dict(), load_network(written).state_dict()
    assert {name for name in old if not torch.equal(old[name], new[name])} == {"head.1.weight", "temperature"}
    assert written.config.training["adaptation"]["origin"] == "tiny"
    gate = better_than_guessing(written.config)
    assert not gate.passed and "adapted" in gate.found
    assert (written.path / NOTICE).is_file() and written.metrics() == {}
    card = (written.path / CARD).read_text(encoding="utf-8")
    assert (
        "**Adapted** from tiny" in card
        and "no longer hold" in card
        and "6 of glass, 6 of metal, 0 of paper" in card
    )
    assert f"{adapted.record.right_after} of them are right" in card
    answers = TrashClassifier.load(written, runtime="torch").predict([own / "metal"])
    assert [answer.label for answer in answers] == ["metal"] * 6


def test_class_means_stand_for_classes_without_photos(own: Path, tiny: Callable[..., Bundle]) -> None:
    width = TrashNetwork("sequential_cnn", 3).width
    bundle = tiny(ClassMeans(CONFIG.classes, np.eye(3, width, dtype=np.float32), np.array([3, 3, 3])))
    adapted = adapt_model(bundle, own, "my-place")
    assert adapted.record.class_means
    assert (adapted.path / CLASS_MEANS).read_bytes() == (bundle.path / CLASS_MEANS).read_bytes()
    assert any("means of its training photos" in str(line) for line in adapted.for_people())


def test_unlabelled_photos_shift_the_answers_to_their_shares(own: Path, tiny: Callable[..., Bundle]) -> None:
    many = own.parent / "many"
    many.mkdir()
    for number in range(110):
        (many / f"{number}.jpg").write_bytes(coloured(COLOURS["glass" if number % 10 else "metal"], number))
    bundle = tiny()
    adapted = adapt_model(bundle, own, "both", unlabelled=many)
    shares = adapted.record.shares
    assert shares is not None and sum(shares.values()) == pytest.approx(1)
    assert shares["glass"] > 0.5 > shares["metal"] and adapted.record.unlabelled == 110
    alone = adapt_model(bundle, None, "alone", unlabelled=many)
    assert alone.record.n == 0 and alone.temperature == CONFIG.temperature
    old, new = (load_network(b).state_dict() for b in (bundle, read_bundle(alone.path)))
    assert {name for name in old if not torch.equal(old[name], new[name])} == {"head.1.bias"}
    shift = (new["head.1.bias"] - old["head.1.bias"]).numpy() / CONFIG.temperature
    assumed = np.array([0.6, 0.2, 0.2])  # of the training photos
    assert alone.record.shares is not None
    assert shift == pytest.approx(np.log(np.array([*alone.record.shares.values()]) / assumed), abs=1e-4)
    card = (alone.path / CARD).read_text(encoding="utf-8")
    assert "shares in 110 unlabelled photos" in card and "labelled photos of its owner" not in card
    shown = [str(line) for line in alone.for_people()]
    assert any("Shares in 110 unlabelled photos, estimated" in line for line in shown)
    assert not any("Accuracy" in line for line in shown)


def test_too_few_unlabelled_photos_are_refused(own: Path, tiny: Callable[..., Bundle]) -> None:
    with pytest.raises(DatasetError, match=r"12 photos that can be read.*100 or more"):
        adapt_model(tiny(), None, "mine", unlabelled=own)
    with pytest.raises(DatasetError, match="There is no folder"):
        adapt_model(tiny(), None, "mine", unlabelled=own / "nowhere")


@pytest.mark.parametrize(
    ("content", "labels", "width"),
    [(b"no", "ab", 5), (None, "ac", 5), (None, "abc", 5), (None, "ab", 6)],
    ids=["damaged", "others", "more", "wider"],
)
def test_class_means_of_another_model_are_refused(content: bytes | None, labels: str, width: int) -> None:
    means = ClassMeans(("a", "b"), np.ones((2, 5), np.float32), np.array([1, 1]))
    stored = means.to_bytes()
    assert stored is not None and read_class_means(stored, "ab", 5, "file").means.shape == (2, 5)
    with pytest.raises(BundleError, match="file"):
        read_class_means(content or stored, labels, width, "file")


def test_class_means_are_averages_and_at_most_a_megabyte() -> None:
    embedded = np.random.default_rng(0).integers(0, 256, (150, 2)).astype(np.float32)
    y_true = np.arange(150) % 3
    means = measure_class_means(embedded, y_true, ["a", "b", "c", "none"])
    assert means.counts.tolist() == [50, 50, 50, 0]
    assert means.to_bytes() is None  # of one class nothing is known
    assert means.means[1] == pytest.approx(embedded[y_true == 1].mean(0))
    many = ClassMeans(
        tuple(map(str, range(1000))), np.ones((1000, 1280), np.float32), np.ones(1000, np.int64)
    )
    assert many.to_bytes() is None


def test_what_is_left_out_is_listed(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own / "glass" / "broken.jpg").write_bytes(b"no photo")
    (own / "glass" / "notes.txt").write_text("taken on Monday")
    (own / "_unsorted").mkdir()
    shutil.copy(own / "metal/0.jpg", own / "metal/again.jpg")
    (own / "paper").mkdir()
    done = command(own.parent, "adapt", "shipped", "--photos", "own", "--output", "mine", status=3)
    for name in (
        "broken.jpg",
        "glass/notes.txt is no photo",
        "_unsorted is no class",
        "again.jpg is a copy of 0.jpg",
    ):
        assert name in done.stderr
    assert "No photos of cardboard, paper, plastic, trash: their scores stay." in done.stdout
    assert "Optimistic if" in done.stdout and "left out one at a time" in done.stdout


def test_programs_get_json(own: Path) -> None:
    done = command(own.parent, "adapt", "shipped", "--photos", "own", "--output", "mine", "--json")
    answer = json.loads(done.stdout)
    assert answer["model"] == "models/mine.tflite" and answer["photos"]["glass"] == 6
    assert answer["per_class"]["metal"]["right_after"] <= 6 and answer["unreadable_photos"] == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda own: (own / "bottles").mkdir(), r"does not know: bottles.*It knows: cardboard, glass"),
        (lambda own: [p.write_bytes(b"no") for p in (own / "glass").iterdir()], "1 classes can be read: .*picture"),
        (lambda own: shutil.copy(own / "glass/0.jpg", own / "metal/x.jpg"), r"same photo as .*another class"),
    ],
)  # fmt: skip
def test_photos_that_cannot_be_learned_from_are_refused(
    own: Path, change: Callable[[Path], object], text: str
) -> None:
    change(own)
    with pytest.raises(DatasetError, match=text):
        adapt_model("shipped", own, "mine")
    assert not Path("models").exists()


def test_a_name_in_use_a_wrong_format_and_missing_settings_are_refused(own: Path) -> None:
    for taken in ("models/mine", "models/other.tflite"):
        Path(taken).mkdir(parents=True)
        with pytest.raises(BundleError, match="exists already"):
            adapt_model("shipped", own, Path(taken).stem)
    Path("model.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match=r"ONNX.*\.tflite"):
        adapt_model("model.onnx", own, "new")
    Path("some.tflite").write_bytes(b"damaged")
    with pytest.raises(BundleError):
        adapt_model("some.tflite", own, "new")
    with pytest.raises(SettingsError, match="output"):
        adapt_model("shipped", own, "../new")
    assert "name the folder" in command(own.parent, "adapt", "shipped", status=2).stderr


def test_a_model_that_answers_otherwise_than_fitted_is_deleted(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="deleted"):
        adapt_model("shipped", own, "mine")
    assert not list(Path("models").glob("mine*"))  # its notice neither


def test_neither_torch_nor_the_other_extras_are_needed(own: Path) -> None:
    line = [
        sys.executable,
        "-c",
        BLOCKED,
        "adapt",
        "shipped",
        "--photos",
        "own",
        "--output",
        "mine",
        "--json",
    ]
    done = subprocess.run(line, cwd=own.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "models/mine.tflite"


def test_a_bundle_without_exported_files_says_what_is_missing_where_torch_is(
    own: Path, tiny: Callable[..., Bundle]
) -> None:
    tiny()
    line = [sys.executable, "-c", BLOCKED, "adapt", "models/tiny", "--photos", "own", "--output", "mine"]
    done = subprocess.run(line, cwd=own.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "has no export/model.tflite" in done.stderr
