"""The audit: planted faults come out, nothing is changed, and what is suggested is applied only once accepted."""

import importlib.metadata
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from PIL import Image

from image_classification_trash.cli import run
from image_classification_trash.config.data import AuditSettings, DataSettings
from image_classification_trash.data.make_dataset import make_dataset
from image_classification_trash.data.manifest import Photo
from image_classification_trash.features.image_quality import find_quality_issues
from image_classification_trash.models import audit_data as module
from image_classification_trash.training.label_errors import (
    classes_in_too_few_folds,
    find_label_issues,
    out_of_fold,
)
from image_classification_trash.visualization.audit_page import AuditReport, write_audit_page


def colour_embedder(_: Path):
    """Embeddings of 4 numbers: the mean colour, which in these tests is the class, and its brightness."""

    def embed(photos, root):
        means = [np.asarray(Image.open(root / p.path).convert("RGB")).mean((0, 1)) / 255 for p in photos]
        return np.array([[*m, m.mean()] for m in means], dtype=np.float32)

    return embed


def coloured_tree(root: Path, per_class: int = 20) -> Path:
    """Red is glass, green is metal; glass/odd.jpg is green; one file stands under both; one photo is blurred."""
    rng = np.random.default_rng(0)
    for k, label in enumerate(("glass", "metal")):
        (root / label).mkdir(parents=True)
        for n in range(per_class):
            save(root / label / f"{n}.png", noise(rng, k))
    save(root / "glass" / "odd.png", noise(rng, 1))
    save(root / "glass" / "torn.png", noise(rng, 1))
    (root / "metal" / "torn.png").write_bytes((root / "glass" / "torn.png").read_bytes())
    return root


def noise(rng: np.random.Generator, channel: int) -> Image.Image:
    pixels = rng.integers(0, 90, (48, 64, 3), dtype=np.uint8)
    pixels[..., channel] += 150
    return Image.fromarray(pixels)


def soft_hill() -> Image.Image:
    """All grey values and no edge: black at the border, white in the middle."""
    rows, columns = (np.sin(np.pi * np.linspace(0, 1, n)) for n in (384, 512))
    grey = (255 * rows[:, None] * columns[None]).astype(np.uint8)
    return Image.fromarray(np.stack([grey] * 3, axis=2))


def save(path: Path, image: Image.Image) -> None:
    image.save(path)


@pytest.fixture
def audited(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "near_duplicate_embedder", colour_embedder)
    root, data = coloured_tree(tmp_path / "photos"), tmp_path / "data"
    make_dataset(DataSettings(name="mine", source=root, embeddings=False, data_dir=data))
    settings = AuditSettings(name="mine", data_dir=data, reports_dir=tmp_path / "reports")
    return settings, module.audit_data(settings)


def test_planted_faults_come_out(audited) -> None:
    _, audit = audited
    by_kind = {(issue.kind, issue.path): issue for issue in audit.issues}
    assert by_kind["label_issue", "glass/odd.png"].suggested_label == "metal"
    assert by_kind["two_labels", "glass/torn.png"].suggested_label == "metal"
    assert by_kind["two_labels", "metal/torn.png"].suggested_label == ""
    assert [f.path for f in audit.issues if f.kind == "label_issue"] == ["glass/odd.png"]
    assert audit.counts["two_labels"] == 2 and audit.out_of_fold_accuracy == pytest.approx(40 / 41, abs=1e-3)


def test_suggestions_change_nothing_until_accepted(audited, tmp_path) -> None:
    settings, audit = audited
    again = DataSettings(
        name="mine", source=tmp_path / "photos", corrections=audit.corrections, embeddings=False,
        data_dir=settings.data_dir,
    )  # fmt: skip
    assert make_dataset(again).manifest.fingerprint == audit.manifest.fingerprint
    text = audit.corrections.read_text(encoding="utf-8")
    audit.corrections.write_text(text.replace("suggested", "accepted"), encoding="utf-8")
    labels = {photo.path: photo.label for photo in make_dataset(again).manifest.photos}
    assert labels["glass/odd.png"] == "metal" and labels["glass/torn.png"] == "metal"


def test_page_shows_everything_and_needs_nothing_else(audited) -> None:
    settings, audit = audited
    page = write_audit_page(audit, settings).read_text(encoding="utf-8")
    assert "glass/odd.png" in page and "metal?" in page and "data:image/jpeg;base64," in page
    assert "http://" not in page and "https://" not in page and "<script" not in page


def test_names_are_escaped_on_the_page(audited) -> None:
    settings, audit = audited
    hostile = replace(audit.issues[0], path="<b onload=x>.jpg", label="<i>")
    page = write_audit_page(replace(audit, issues=(hostile,)), settings).read_text(encoding="utf-8")
    assert "<b onload" not in page and "&lt;b onload" in page


def test_too_few_objects_are_said_not_guessed(tmp_path, monkeypatch, make_tree) -> None:
    monkeypatch.setattr(module, "near_duplicate_embedder", colour_embedder)
    data = tmp_path / "data"
    root = make_tree({"glass": 12, "metal": 3})
    root.joinpath("list.csv").write_text(
        "filepath,label,group,split\n"
        + "".join(f"glass/{n}.jpg,glass,,train\n" for n in range(12))
        + "".join(f"metal/{n}.jpg,metal,one,{s}\n" for n, s in enumerate(("train", "val", "test"))),
        encoding="utf-8",
    )
    make_dataset(DataSettings(name="few", source=root / "list.csv", embeddings=False, data_dir=data))
    audit = module.audit_data(AuditSettings(name="few", data_dir=data, reports_dir=tmp_path))
    assert (
        "metal" in audit.notes[0] and audit.out_of_fold_accuracy is None and not audit.counts["label_issue"]
    )


def test_poor_photos_are_found_by_kind(tmp_path) -> None:
    rng = np.random.default_rng(0)
    sharp = Image.fromarray(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8)).resize((512, 384), 0)
    slope = np.add.outer(
        np.linspace(0, 100, 384), np.linspace(0, 100, 512)
    )  # no edge, and all greys alike often
    pictures = {
        "sharp": sharp,
        "blurry": Image.fromarray(slope.astype(np.uint8)).convert("RGB"),
        "dark": sharp.point(lambda value: value // 8),
        "light": sharp.point(lambda value: 250 + value // 64),
        "low_information": Image.new("RGB", (512, 384), (120, 120, 120)),
        "odd_aspect_ratio": sharp.resize((512, 100)),
    }
    paths = []
    for name, picture in pictures.items():
        paths.append(tmp_path / f"{name}.png")
        picture.save(paths[-1])
    found = {
        (paths[quality_issue.index].stem, quality_issue.kind) for quality_issue in find_quality_issues(paths)
    }
    assert {(kind, kind) for kind in pictures if kind != "sharp"} <= found
    assert not any(name == "sharp" for name, _ in found)
    assert find_quality_issues([]) == []


def test_out_of_fold_never_sees_a_near_duplicate() -> None:
    """Labels are random but the same within a group: a head that saw the group's other photo would know."""
    rng = np.random.default_rng(0)
    y_true = np.repeat(rng.integers(0, 2, 60), 2)
    vectors = np.repeat(rng.normal(size=(60, 40)), 2, axis=0).astype(np.float32)
    photos = [Photo(f"{i}.jpg", str(y_true[i]), "train", f"{i // 2}", "", 1, 1) for i in range(120)]
    assert not classes_in_too_few_folds(photos, y_true, 0)
    hidden = out_of_fold(vectors, y_true, photos, 2, 0)
    seen = out_of_fold(vectors, y_true, [replace(p, group=p.path) for p in photos], 2, 0)
    assert (hidden.argmax(1) == y_true).mean() < 0.7 < (seen.argmax(1) == y_true).mean()


def test_suspects_are_ranked_by_the_probability_of_their_label() -> None:
    y_true = np.array([0] * 20 + [1] * 20)
    probabilities = np.where(y_true[:, None] == [0, 1], 0.9, 0.1)
    probabilities[3], probabilities[30] = (0.02, 0.98), (0.99, 0.01)
    assert [(s.index, s.suggested) for s in find_label_issues(y_true, probabilities)] == [(30, 0), (3, 1)]


def test_outliers_are_far_from_their_neighbours() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal((5, 0, 0), 0.3, (60, 3)).astype(np.float32)
    vectors[7] = (0, 5, 0)
    assert module.neighbour_distances(vectors).argmax() == 7


def test_memory_for_distances_does_not_grow_with_the_square_of_photos() -> None:
    """5,000 photos have 25 million distances, which would take 287 MiB with their order."""
    vectors = np.random.default_rng(0).normal(size=(5000, 8)).astype(np.float32)
    tracemalloc.start()
    distances = module.neighbour_distances(vectors)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2 * module.DISTANCES_MEBIBYTES * 2**20
    few = np.linalg.norm(vectors[:3], axis=1)[:, None] * np.linalg.norm(vectors, axis=1)
    exact = np.sort(1 - vectors[:3] @ vectors.T / few, axis=1)[:, 1 : module.NEIGHBOURS + 1].mean(1)
    assert distances[:3] == pytest.approx(exact, abs=1e-5)


def test_no_agpl_code_is_loaded() -> None:
    for name in ("cleanlab", "cleanvision"):
        about = importlib.metadata.metadata(name)
        assert "Apache" in (about.get("License-Expression") or about.get("License") or "")
    code = (
        "import sys, cleanlab.filter, image_classification_trash.features.image_quality; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cleanlab.experimental.cifar_cnn" not in done.stdout.split()  # the one file with another licence


def test_data_audit_is_audit(capsys) -> None:
    assert run(["data", "audit", "no-such-set"]) == run(["audit", "no-such-set"]) == 1
    assert capsys.readouterr().err.count("There is no prepared data set in data/processed/no-such-set") == 2


def test_the_page_and_the_table_are_named_in_a_line_each() -> None:
    audit = SimpleNamespace(
        for_people=lambda: iter(()),
        table=Path("t.csv"),
        corrections=Path("c.csv"),
        manifest=SimpleNamespace(name="x"),
    )
    lines = list(AuditReport(cast(module.DataAudit, audit), Path("p.html")).for_people())
    assert lines[:2] == ["page: p.html", "table: t.csv"] and "--corrections" in str(lines[2])
