"""The page of two models: its conclusion first, then the photos on which they differ."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.evaluated import Page, answers_for, described, evaluated
from helpers.photos import encoded, picture

from image_classification_trash.cli import run
from image_classification_trash.config.models import ModelsSettings
from image_classification_trash.inference.bundle import Bundle
from image_classification_trash.models.evaluate_model import labelled_folder
from image_classification_trash.visualization.comparison_page import ComparisonReport, compare_with_page
from image_classification_trash.visualization.report import MOST_CARDS

PHOTOS = [*["glass"] * 20, *["paper"] * 20]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Labelled photos on which two models, `old` and `new`, were evaluated."""
    photos = tmp_path / "field"
    for i, label in enumerate(PHOTOS):
        (photos / label).mkdir(parents=True, exist_ok=True)
        (photos / label / f"{i}.jpg").write_bytes(encoded(picture(i)))
    known = labelled_folder(photos, tmp_path, Bundle(tmp_path, described("any")))
    for name, wrong, more in (("old", range(8), {}), ("new", range(6, 10), {"decisions": {30: "unsure"}})):
        answers = answers_for(PHOTOS, wrong, **more)
        evaluated(tmp_path / "models", name, answers, "field", known.fingerprint)
    return photos


def compared(folder: Path, **more: Any) -> ComparisonReport:
    tmp = folder.parent
    return compare_with_page(
        ModelsSettings(
            action="compare", models=["old", "new"], models_dir=tmp / "models", reports_dir=tmp / "reports", data_dir=tmp / "data", **more
        )
    )  # fmt: skip


def test_the_conclusion_opens_the_page_and_photos_that_differ_come_first(folder: Path) -> None:
    report = compared(folder, data=folder)
    assert report.page == folder.parent / "reports/compare-old-new.html"
    page = Page(report.page)
    tags = [tag for tag, *_ in page.elements]
    opening = next(" ".join(text) for tag, attrs, text in page.elements if attrs.get("class") == "opening")
    assert "Conclusion: new is right on 4 more of 40 photos" in " ".join(opening.split())
    assert tags.index("img") < tags.index("table") < tags.index("li")
    kinds = [dict(json.loads(value))["who is right"] for value in page.attributes("li", "data-values")]
    assert kinds[:8].count("only new is right") == 6 and kinds[:8].count("only old is right") == 2
    assert kinds[8:] == ["one accepted", *["both wrong, the same answer"] * 2]
    cards = page.texts("li")
    assert "old: paper, 90.0%, accepted" in cards[0] + cards[7] and "new: paper, 90.0%, unsure" in cards[8]
    images = [attrs for tag, attrs, _ in page.elements if tag == "img"]
    assert len(images) == 1 + len(cards) and all(attrs["alt"] for attrs in images)
    assert (
        "The two differ on 9 of 40 photos of field, which come first, and are wrong in the same way on 2."
        in " ".join(page.texts("p"))
    )
    assert "http" not in report.page.read_text(encoding="utf-8")


def test_photos_that_are_not_here_are_said(folder: Path) -> None:
    def said(report: ComparisonReport) -> str:
        assert report.page is not None
        page = Page(report.page)
        assert len(page.attributes("img", "src")) == 1 and len(page.texts("li")) == 11
        return " ".join(page.texts("p"))

    assert "Name their folder to see the photos too: --data FOLDER." in said(compared(folder))
    (folder / "glass/0.jpg").rename(folder / "glass/zero.jpg")
    assert "holds other photos than were evaluated" in said(compared(folder, data=folder))


def test_the_photos_of_a_test_split_are_those_of_its_data_set(folder: Path) -> None:
    for name in ("old", "new"):
        evaluated(folder.parent / "models", name, answers_for(PHOTOS, range(3)))
    page = compared(folder).page
    assert page is not None
    assert "The photos are not shown: There is no prepared data set in" in " ".join(Page(page).texts("p"))


def test_a_page_of_many_photos_is_bounded_and_escaped(folder: Path) -> None:
    many = ["glass"] * 3000
    for name, wrong in (("old", range(3000)), ("new", range(0))):
        hostile = [
            answer.__class__(f"<script>{i}</script>.jpg", *(getattr(answer, f) for f in ("y_true", "y_pred", "probability", "decision")))
            for i, answer in enumerate(answers_for(many, wrong))
        ]  # fmt: skip
        evaluated(folder.parent / "models", name, hostile)
    page = compared(folder).page
    assert page is not None and len(Page(page).texts("li")) == MOST_CARDS
    assert f"The first 200 are shown, {3000 - MOST_CARDS} are left out." in " ".join(Page(page).texts("p"))
    assert page.read_text(encoding="utf-8").count("<script") == 1


def test_the_command_prints_one_document(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder.parent)
    assert run(["models", "compare", "old", "new", "--data", "field", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["models"] == ["old", "new"] and document["page"] == "reports/compare-old-new.html"
    assert document["compared"][0]["conclusion"].startswith("Conclusion: ")
    assert run(["models", "compare", "old", "new"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("Conclusion: ") and lines[-1] == "page: reports/compare-old-new.html"
    assert run(["models", "compare", "old", "older"]) == 1


def test_a_light_install_compares_without_a_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jinja2" else real(name))
    report = compared(folder)
    assert (
        report.page is None
        and list(report.for_people())[-1] == "no page: jinja2 or matplotlib is not installed"
    )
    code = "import sys, image_classification_trash.visualization.comparison_page; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "sklearn", "scipy", "matplotlib", "jinja2"}
