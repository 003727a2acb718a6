"""Two models are compared photo by photo; a difference is called one only where photos show it."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.evaluated import answers_for, evaluated
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from image_classification_trash.config.models import ModelsSettings
from image_classification_trash.errors import BundleError
from image_classification_trash.evaluation.bootstrap import weights_by_group
from image_classification_trash.evaluation.comparison.answers import (
    Answer,
    answers_csv,
    predictions_file,
    read_answers,
)
from image_classification_trash.evaluation.comparison.conclusion import conclude
from image_classification_trash.evaluation.comparison.paired import compare_answers, mcnemar
from image_classification_trash.evaluation.metrics import describe, macro_f1
from image_classification_trash.evaluation.result import photos_name
from image_classification_trash.inference.bundle import Bundle
from image_classification_trash.models.compare_models import compare_models
from image_classification_trash.show import Table

PHOTOS = ["glass", "paper"] * 100
NAMES = ("old", "new")


def settings(models: Path, **more: Any) -> ModelsSettings:
    return ModelsSettings(action="compare", models=list(NAMES), models_dir=models, **more)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemars_test_is_the_exact_binomial(first: int, second: int) -> None:
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert math.isclose(mcnemar(first, second), expected, rel_tol=1e-9)


def test_many_photos_have_an_exact_p_value_too() -> None:
    assert mcnemar(30_000, 30_000) == 1.0
    assert 0 <= mcnemar(20_000, 30_000) < 1e-300


def test_figures_are_those_of_an_evaluation() -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(4), 300)
    y_true = np.where(rng.random(300) < 0.7, shares.argmax(1), rng.integers(0, 3, 300))
    names = list("abcd")
    expected = describe(y_true, shares, names, resamples=100)
    answers = [
        Answer(
            str(i),
            names[y],
            names[row.argmax()],
            float(row.max()),
            names[row.argmax()] if row.max() > 0.5 else "unsure",
        )
        for i, (y, row) in enumerate(zip(y_true, shares, strict=True))
    ]
    paired = compare_answers(answers, answers)
    found = {figure.measure: figure.first for figure in paired.figures}
    assert expected.accuracy is not None and expected.ece is not None
    assert found["accuracy"] == pytest.approx(expected.accuracy.value)
    assert found["macro_f1"] == pytest.approx(macro_f1(y_true, shares.argmax(1)))
    assert found["ece"] == pytest.approx(expected.ece.value)
    sure = shares.max(1) > 0.5
    assert found["coverage"] == pytest.approx(sure.mean())
    assert found["accepted_precision"] == pytest.approx((shares.argmax(1) == y_true)[sure].mean())


def test_a_pair_that_differs_by_chance_is_not_called_different() -> None:
    paired = compare_answers(answers_for(PHOTOS, range(12)), answers_for(PHOTOS, range(3, 18)))
    accuracy = paired.of("accuracy")
    assert (paired.both_right, paired.only_first, paired.only_second, paired.both_wrong) == (182, 6, 3, 9)
    assert accuracy is not None and accuracy.difference is not None
    assert accuracy.difference.value == pytest.approx(-0.015) and not accuracy.shows_a_difference
    text = conclude(NAMES, paired)
    assert text.startswith(
        "Conclusion: old is right on 3 more of 200 photos: it alone is right on 6, new alone on 3."
    )
    assert "includes no difference: these photos do not show which of the two is more accurate" in text


def test_a_pair_that_differs_beyond_chance_is() -> None:
    paired = compare_answers(answers_for(PHOTOS, range(60)), answers_for(PHOTOS, range(20)))
    accuracy = paired.of("accuracy")
    assert accuracy is not None and accuracy.difference is not None
    assert 0 < accuracy.difference.low < accuracy.difference.value < accuracy.difference.high
    assert paired.p_value < 1e-6
    text = conclude(NAMES, paired)
    assert "new is more accurate on photos like these" in text and "new has the higher macro F1" in text


def test_an_interval_is_narrower_for_pairs_than_for_models_apart() -> None:
    first, second = answers_for(PHOTOS, range(60)), answers_for(PHOTOS, range(62))
    accuracy = compare_answers(first, second).of("accuracy")
    assert accuracy is not None and accuracy.difference is not None
    assert accuracy.difference.high - accuracy.difference.low < 0.04  # either alone has an interval of 0.13


def test_models_that_agree_on_every_photo_are_not_proved_equal() -> None:
    answers = answers_for(PHOTOS, range(5))
    paired = compare_answers(answers, answers)
    accuracy = paired.of("accuracy")
    assert accuracy is not None and accuracy.difference is not None and paired.p_value == 1.0
    assert accuracy.difference.low < 0 < accuracy.difference.high
    text = conclude(NAMES, paired)
    assert "old and new are right on the same 195 of 200 photos." in text and "includes no difference" in text


def test_photos_of_one_object_are_drawn_together() -> None:
    alone = [answers_for(PHOTOS, wrong) for wrong in (range(0), range(20))]
    together = [
        [
            Answer(a.path, a.y_true, a.y_pred, a.probability, a.decision, group=str(i // 20))
            for i, a in enumerate(answers)
        ]
        for answers in alone
    ]
    narrow, wide = compare_answers(*alone), compare_answers(*together)
    assert (narrow.groups, wide.groups) == (200, 10)
    widths = []
    for paired in (narrow, wide):
        accuracy = paired.of("accuracy")
        assert accuracy is not None and accuracy.difference is not None
        widths.append(accuracy.difference.high - accuracy.difference.low)
    assert widths[1] > 3 * widths[0]


def test_other_figures_are_concluded_from_too() -> None:
    withheld = dict.fromkeys(range(100), "unsure")
    first = answers_for(PHOTOS, range(10), probability=0.8, decisions=withheld)
    second = answers_for(PHOTOS, range(10), probability=0.95)  # of which 95% are right
    text = conclude(NAMES, compare_answers(first, second))
    assert "new accepts more photos, by 50.0 points" in text
    assert "new is better calibrated (lower ECE), by 0.150" in text
    back = conclude(NAMES, compare_answers(second, first))
    assert "old accepts more photos, by 50.0 points" in back and "old is better calibrated" in back


def test_rejection_is_compared_where_both_were_given_the_same_photos() -> None:
    labelled = answers_for(PHOTOS, [], waste_score=0.99)

    def others(decision: str, name: str = "cat") -> list[Answer]:
        return [Answer(f"{name}{i}.jpg", "", "glass", 0.3, decision, 0.1) for i in range(40)]

    paired = compare_answers(labelled + others("glass"), labelled + others("not waste"))
    rejected = paired.of("rejected")
    assert rejected is not None and (rejected.n, rejected.first, rejected.second) == (40, 0.0, 1.0)
    assert "new rejects more of the photos without waste" in conclude(NAMES, paired)
    other = compare_answers(labelled + others("glass"), labelled + others("glass", "dog"))
    assert (
        other.of("rejected") is None
        and compare_answers(labelled, labelled + others("glass")).of("rejected") is None
    )


def test_memory_is_bounded_with_many_photos_and_classes() -> None:
    rows = sum(len(weights) for weights in weights_by_group(np.arange(100_000), 100, 0))
    assert rows == 101 and max(w.size for w in weights_by_group(np.arange(100_000), 200, 0)) <= 8_000_000


def test_a_single_photo_has_no_interval() -> None:
    paired = compare_answers(answers_for(["glass"], []), answers_for(["glass"], [0]))
    assert all(figure.difference is None for figure in paired.figures)
    assert "One photo says nothing about others." in conclude(NAMES, paired)


@pytest.mark.parametrize(
    "photos", ["test", "test (folder)", "a/b", ".hidden", "A b", "日本" * 100, "x\ny", "caf\udce9"]
)
def test_answers_are_read_as_they_were_written(tmp_path: Path, photos: str) -> None:
    answers = [
        Answer("a, \"b\"\n.jpg", "glass", "paper", 0.1 + 0.2, "unsure", 0.7, "0007"),
        Answer("=cmd.jpg", "", "glass", 1.0, "not waste", None),
    ]  # fmt: skip
    bundle = Bundle(tmp_path, None)  # type: ignore[arg-type]
    assert read_answers(bundle, photos) is None
    file = tmp_path / predictions_file(photos)
    file.parent.mkdir()
    file.write_text(answers_csv(answers), encoding="utf-8", newline="")
    assert read_answers(bundle, photos) == tuple(answers)


@pytest.mark.parametrize(
    "text", ["path\nx\n", "path,y_true,y_pred,probability,decision,waste_score,group\na,b,c,high,e,,\n"]
)
def test_a_damaged_table_of_answers_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions/test.csv").write_text(text)
    with pytest.raises(BundleError, match="is not a table of answers"):
        read_answers(Bundle(tmp_path, None), "test")  # type: ignore[arg-type]


def test_the_command_shows_differences_and_the_conclusion(tmp_path: Path) -> None:
    evaluated(tmp_path, "old", answers_for(PHOTOS, range(60)))
    evaluated(tmp_path, "new", answers_for(PHOTOS, range(20)))
    compared = compare_models(settings(tmp_path))
    shown = list(compared.for_people())
    table = next(part for part in shown if isinstance(part, Table))
    assert list(table.header) == ["measure", "old", "new", "difference (95% interval)"]
    accuracy = next(iter(table.rows))
    assert accuracy[:3] == ["accuracy", "70.0%", "90.0%"] and accuracy[3].startswith("+20.0 points (+1")
    assert any(
        isinstance(part, str) and part.startswith("Conclusion: new is right on 40 more") for part in shown
    )
    document = json.loads(json.dumps(compared.as_json()))
    on = document["compared"][0]
    assert document["models"] == ["old", "new"] and document["left_out"] == []
    assert (on["photos"], on["n"], on["only_first"], on["only_second"]) == ("test", 200, 0, 40)
    assert {figure["measure"] for figure in on["figures"]} >= {"accuracy", "macro_f1", "ece", "coverage"}
    assert "paired bootstrap over photos, 2000 resamples, seed 0" in on["interval"]


def test_models_of_other_classes_are_refused(tmp_path: Path) -> None:
    evaluated(tmp_path, "old", answers_for(PHOTOS, []))
    evaluated(tmp_path, "new", answers_for(PHOTOS, []), labels=("glass", "paper", "wood"))
    with pytest.raises(BundleError, match="old and new have other classes: only new knows wood"):
        compare_models(settings(tmp_path))


def test_models_measured_on_other_photos_are_refused(tmp_path: Path) -> None:
    evaluated(tmp_path, "old", answers_for(PHOTOS, []))
    evaluated(tmp_path, "new", answers_for(PHOTOS, []), fingerprint="e" * 64)
    with pytest.raises(BundleError, match="never evaluated on the same photos") as caught:
        compare_models(settings(tmp_path))
    assert "trash-classifier evaluate MODEL --data FOLDER" in caught.value.hint


def test_models_that_an_earlier_version_evaluated_are_refused(tmp_path: Path) -> None:
    evaluated(tmp_path, "old", None)
    evaluated(tmp_path, "new", answers_for(PHOTOS, []))
    with pytest.raises(BundleError, match="old was evaluated on test by an earlier version") as caught:
        compare_models(settings(tmp_path))
    assert caught.value.hint == "Evaluate it again: trash-classifier evaluate old"


def test_answers_for_other_photos_are_refused(tmp_path: Path) -> None:
    evaluated(tmp_path, "old", answers_for(PHOTOS, []))
    evaluated(tmp_path, "new", answers_for(PHOTOS[:-1], []))
    with pytest.raises(BundleError, match="could not read the same photos of test"):
        compare_models(settings(tmp_path))


def test_a_folder_is_chosen_by_its_name(tmp_path: Path) -> None:
    for name in NAMES:
        evaluated(tmp_path, name, answers_for(PHOTOS, []), photos="field")
    assert compare_models(settings(tmp_path, data=tmp_path / "field")).compared[0].photos == "field"
    with pytest.raises(BundleError, match="never evaluated on the same photos of"):
        compare_models(settings(tmp_path, data=tmp_path / "other"))
    assert photos_name(tmp_path / "test") == "test (folder)"
