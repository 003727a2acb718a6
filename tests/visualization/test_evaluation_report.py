"""A report opens with its conclusion, every wrong answer can be browsed, and pages stay bounded and need nothing else."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.evaluated import Page, evaluation
from helpers.page_model import CHROMIUM, chromium
from helpers.photos import encoded, picture
from PIL import Image

from image_classification_trash.arrays import Floats, Ints
from image_classification_trash.evaluation.result import Evaluation
from image_classification_trash.visualization import wrong_answers
from image_classification_trash.visualization.evaluation_report import EvaluationReport, report_evaluation
from image_classification_trash.visualization.report import MOST_CARDS, Section

LABELS = ["glass", "metal", "paper"]
Report = tuple[Evaluation, EvaluationReport]


def answered(y_true: Ints, classes: int, right: float) -> Floats:
    """Probabilities (N, C): so large a share of the answers is right."""
    rng = np.random.default_rng(0)
    y_pred = np.where(rng.random(len(y_true)) < right, y_true, (y_true + 1) % classes)
    sure = rng.uniform(0.4, 0.99, len(y_true))
    shares = np.repeat((1 - sure)[:, None] / (classes - 1), classes, axis=1)
    shares[np.arange(len(y_true)), y_pred] = sure
    return shares


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("report")
    files = [folder / f"{i}.jpg" for i in range(30)]
    for i, file in enumerate(files):
        file.write_bytes(encoded(picture(i)))
    y_true = np.arange(30) % 3
    done = evaluation(folder, files, y_true, answered(y_true, 3, 0.6), LABELS)
    return done, report_evaluation(done, folder / "reports")


def test_the_conclusion_and_three_pictures_come_before_any_table(report: Report) -> None:
    done, written = report
    page = Page(written.page)
    tags = [tag for tag, *_ in page.elements]
    opening = next(" ".join(text) for tag, attrs, text in page.elements if attrs.get("class") == "opening")
    assert "Verdict:" in opening and "Next:" in opening and "of 30 test photos right" in opening
    before = tags[: tags.index("table")]
    assert before.count("img") == 3 and before.index("img") > before.index("h1")
    captions = page.texts("figcaption")
    pairs = [(n, a, b) for a, row in enumerate(done.metrics.confusion) for b, n in enumerate(row) if a != b]
    pair = max(pairs, key=lambda pair: pair[0])
    assert f"{LABELS[pair[1]]} taken for {LABELS[pair[2]]}, {pair[0]} of 10 photos" in captions[0]
    assert "At its threshold the model accepts 100.0% of the photos" in captions[1]
    assert "wrong answers" in captions[2]


def test_every_picture_says_what_it_shows_and_nothing_comes_from_elsewhere(report: Report) -> None:
    for file in (report[1].page, report[1].errors):
        assert file is not None
        page = Page(file)
        images = [attrs for tag, attrs, _ in page.elements if tag == "img"]
        assert images and all(attrs["alt"] and attrs["src"].startswith("data:image/") for attrs in images)
        assert not page.attributes("script", "src") and not page.attributes("link", "href")
        assert "http" not in file.read_text(encoding="utf-8")


def test_figures_are_aligned_at_the_right_and_words_at_the_left() -> None:
    table = [
        ("class", "n", "F1", "why"),
        ("7up", "12", "94.7% (92.3 to 96.7)", "12 are dark"),
        ("glass", "3", "–", "few"),
    ]
    assert Section("t", table=table).figures == [False, True, True, False]
    signed = [("a", "b"), ("+1.2 points (-0.3 to +2.8)", "-0.045 (-0.178 to +0.047)")]
    assert Section("t", table=signed).figures == [True, True]


def test_every_wrong_answer_has_a_card_the_most_confident_first(report: Report) -> None:
    done, written = report
    assert written.errors is not None
    page = Page(written.errors)
    wrong = [answer for answer in done.answers if not answer.is_right]
    cards = page.texts("li")
    assert len(cards) == len(wrong) > 8
    ordered = sorted(wrong, key=lambda answer: -answer.confidence)
    for card, answer in zip(cards, ordered, strict=True):
        assert f"{answer.y_true} taken for {answer.y_pred}" in card and answer.path in card
        assert f"{answer.probability:.1%}, {'accepted' if answer.is_accepted else 'unsure'}" in card
    images = [attrs["alt"] or "" for tag, attrs, _ in page.elements if tag == "img"]
    assert len(images) == 2 * len(wrong)  # each photo beside its Grad-CAM
    assert images[1] == f"The regions that speak for {ordered[0].y_pred}"
    text = " ".join(page.texts("p"))
    assert f"{len(wrong)} of 30 answers are wrong, all shown" in text and "predictions/test.csv" in text


def test_errors_can_be_filtered_by_what_they_are(report: Report) -> None:
    done, written = report
    assert written.errors is not None
    page = Page(written.errors)
    assert page.attributes("select", "name") == ["true class", "predicted class", "decision"]
    values = [dict(json.loads(value)) for value in page.attributes("li", "data-values")]
    wrong = [answer for answer in done.answers if not answer.is_right]
    assert sorted(v["true class"] for v in values) == sorted(answer.y_true for answer in wrong)
    of_glass = sum(answer.y_true == "glass" for answer in wrong)
    assert f"glass ({of_glass})" in page.texts("option") and f"all ({len(wrong)})" in page.texts("option")


def test_confused_pairs_lead_to_their_photos(report: Report) -> None:
    page = Page(report[1].page)
    links = page.attributes("a", "href")
    assert "mine-errors.html#true+class=glass&predicted+class=metal" in links
    assert "mine-errors.html" in links and report[1].errors is not None
    assert "mine.html" in Page(report[1].errors).attributes("a", "href")


def test_without_errors_there_is_no_page_of_them(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(picture(0)))
    y_true = np.arange(6) % 3
    reports = tmp_path / "reports"
    reports.mkdir()
    (reports / "mine-errors.html").write_text("of an earlier evaluation")
    done = evaluation(tmp_path, [tmp_path / "photo.jpg"] * 6, y_true, answered(y_true, 3, 1.0), LABELS)
    written = report_evaluation(done, reports)
    assert written.errors is None and not (reports / "mine-errors.html").exists()
    page = Page(written.page)
    assert page.attributes("img", "alt") and "No two classes were confused" in page.texts("figcaption")[0]
    assert "temperature scaling" in page.texts("figcaption")[2]  # in the place of the wrong answers


def test_a_network_without_feature_maps_is_shown_without_grad_cam(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrong_answers, "grad_cam", lambda *_: None)
    (tmp_path / "photo.jpg").write_bytes(encoded(picture(0)))
    y_true = np.arange(6) % 3
    done = evaluation(tmp_path, [tmp_path / "photo.jpg"] * 6, y_true, answered(y_true, 3, 0.0), LABELS)
    written = report_evaluation(done, tmp_path / "reports")
    assert written.errors is not None
    page = Page(written.errors)
    assert len(page.attributes("img", "src")) == 6 and "Grad-CAM needs feature maps" in " ".join(
        page.texts("p")
    )


def test_pages_stay_bounded_with_many_classes_and_photos(tmp_path: Path) -> None:
    """100,000 photos of 1,000 classes, half of them wrong, and photos of noise, which compress worst."""
    noise = np.random.default_rng(0).integers(0, 256, (180, 240, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    labels = [f"class <b>{i}</b> {'long ' * 20}" for i in range(1000)]
    y_true = np.arange(100_000) % 1000
    shares = answered(y_true, 1000, 0.5)
    done = evaluation(tmp_path, [tmp_path / "noise.png"] * 100_000, y_true, shares, labels, size=(180, 240))
    written = report_evaluation(done, tmp_path / "reports")
    assert written.errors is not None
    page = Page(written.errors)
    wrong = sum(not answer.is_right for answer in done.answers)
    assert len(page.texts("li")) == MOST_CARDS == 200
    assert f"the 200 most confident are shown, {wrong - 200} are left out" in " ".join(page.texts("p"))
    assert 5e6 < written.errors.stat().st_size <= 20e6
    assert written.page.stat().st_size <= 8e6
    assert "The first 500 of 1000 classes" in " ".join(Page(written.page).texts("p"))
    assert "<b>0</b>" not in written.errors.read_text() + written.page.read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    pytest.importorskip("playwright", reason="the Python package playwright is not installed")
    with chromium() as opened:
        yield opened


in_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"
)


@pytest.mark.slow
@in_browser
def test_the_page_works_from_disk_by_keyboard(report: Report, browser: Any) -> None:
    done, written = report
    assert written.errors is not None
    wrong = [answer for answer in done.answers if not answer.is_right]
    page = browser.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(written.errors.resolve().as_uri())
    shown: Callable[[], int] = page.locator(".cards li:visible").count
    assert shown() == len(wrong)
    while page.evaluate("document.activeElement.name") != "true class":
        page.keyboard.press("Tab")
    page.keyboard.press("m")  # metal
    metal = sum(answer.y_true == "metal" for answer in wrong)
    assert shown() == metal < len(wrong)
    assert page.get_by_role("status").inner_text() == f"{metal} of {len(wrong)} shown"
    page.reload()  # the address keeps the choice
    assert shown() == metal
    while page.evaluate("document.activeElement.type") != "reset":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('.cards li[hidden]') === null")
    assert shown() == len(wrong) and complaints == []


@pytest.mark.slow
@in_browser
def test_a_pair_in_the_report_opens_its_photos(report: Report, browser: Any) -> None:
    done, written = report
    page = browser.new_page()
    page.goto(written.page.resolve().as_uri())
    page.get_by_role("link", name="glass taken for metal").click()
    page.wait_for_load_state()
    of_pair = sum((a.y_true, a.y_pred) == ("glass", "metal") for a in done.answers)
    assert page.locator(".cards li:visible").count() == of_pair
    assert page.get_by_label("true class").input_value() == "glass"


@pytest.mark.slow
@in_browser
@pytest.mark.parametrize("width", [420, 1200])
def test_pages_fit_their_window(report: Report, browser: Any, width: int) -> None:
    for file in (report[1].page, report[1].errors):
        assert file is not None
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto(file.resolve().as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
