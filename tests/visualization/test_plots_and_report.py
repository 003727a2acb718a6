"""Plots show what they are given, and the report is one safe file."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy.special import softmax

from image_classification_trash.evaluation import metrics
from image_classification_trash.evaluation.result import ClassScores, Interval
from image_classification_trash.visualization import plots
from image_classification_trash.visualization.report import Picture, Section, save_figures, write_report

MANY = [f"class número {i} 日本" for i in range(12)]
PHOTO = np.zeros((24, 32, 3), np.uint8)


def texts(figure: Figure) -> str:
    return " ".join(
        text.get_text() for axes in figure.axes for text in [*axes.texts, axes.title, *axes.get_yticklabels()]
    )


def test_confusion_matrix_shows_counts_and_shares() -> None:
    figure = plots.confusion_matrix(np.array([[3, 1], [0, 4]]), ["a", "b"])
    cells = [text.get_text().split("\n") for text in figure.axes[0].texts]
    assert [cell[0] for cell in cells] == ["3", "1", "0", "4"]
    assert [cell[1:] for cell in cells] == [["75%"], ["25%"], [], ["100%"]]


def test_class_balance_counts_every_part() -> None:
    figure = plots.class_balance(
        {"train": {"a": 5, "b": 7}, "val": {"a": 0, "b": 1}, "test": {"a": 2, "b": 2}}
    )
    assert (
        len(figure.axes[0].patches) == 6
        and figure.axes[0].get_title(loc="left") == "Photos per class (n = 17)"
    )


def test_training_curves_mark_the_best_epoch() -> None:
    rows = [
        {"epoch": e, "train_loss": 1.0, "val_loss": 1.0, "val_accuracy": 0.5, "val_macro_f1": f}
        for e, f in enumerate((0.1, 0.9, 0.5))
    ]
    legend = plots.training_curves(rows).axes[0].get_legend()
    assert legend is not None and any("(1)" in text.get_text() for text in legend.get_texts())


@pytest.mark.filterwarnings("ignore:Glyph")
def test_many_classes_with_long_names_are_drawn() -> None:
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 12, 200)
    probabilities = softmax(rng.normal(size=(200, 12)), axis=1)
    found = metrics.describe(y_true, probabilities, MANY, resamples=100)
    curve = metrics.risk_coverage(y_true, probabilities)
    for figure in (
        plots.confusion_matrix(np.array(found.confusion), MANY),
        plots.per_class_scores(found.per_class),
        plots.embedding_map(rng.normal(size=(200, 2)), [MANY[i] for i in y_true]),
        plots.reliability_diagram(
            metrics.reliability(y_true, probabilities), metrics.reliability(y_true, probabilities)
        ),
        plots.risk_coverage(curve.coverage, curve.risk, chosen=(0.5, 0.5)),
    ):
        assert plots.to_png(figure, dpi=40).startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["IMG$1_^$", "$x^$ {", "\\\\frac$_$", "$"])
def test_names_are_text_and_no_formulas(name: str) -> None:
    names = [name, "other"]
    y_true = np.array([0, 1, 0, 1])
    found = metrics.describe(y_true, softmax(np.eye(2)[[0, 1, 1, 0]], axis=1), names, resamples=20)
    for figure in (
        plots.class_balance({"train": dict.fromkeys(names, 3)}),
        plots.confusion_matrix(np.array(found.confusion), names),
        plots.contact_sheet([PHOTO], [name], name),
        plots.embedding_map(np.eye(4)[:, :2], [names[i] for i in y_true]),
        plots.image_rows([[PHOTO, PHOTO]], [[name, name]], name),
        plots.per_class_scores(found.per_class),
        plots.speed_and_accuracy([(name, 1.0, None)], name),
    ):
        assert plots.to_png(figure, dpi=40).startswith(b"\x89PNG")


def test_names_of_files_that_are_not_utf8_are_drawn() -> None:
    assert plots.to_png(plots.contact_sheet([PHOTO], ["caf\udce9"], "\ud800"), dpi=40)


@pytest.mark.filterwarnings("error:.*_other.*")
@pytest.mark.parametrize("name", ["_other", "$x$", "<b>"])
def test_every_class_stands_in_legends_and_beside_axes(name: str) -> None:
    names = [name, "paper"]
    legend = plots.embedding_map(np.eye(4)[:, :2], [names[i] for i in (0, 1, 0, 0)]).axes[0].get_legend()
    assert legend is not None and {text.get_text() for text in legend.get_texts()} == {
        f"{name} (3)",
        "paper (1)",
    }
    scores = dict.fromkeys(names, ClassScores(1, None, None, Interval(0.5, 0, 1), None))
    for figure, of_axis in (
        (plots.class_balance({"train": dict.fromkeys(names, 3)}), names),
        (plots.confusion_matrix(np.eye(2, dtype=np.int64), names), names),
        (plots.per_class_scores(scores), [f"{name} (1)", "paper (1)"]),
        (plots.speed_and_accuracy([(name, 1.0, None), ("paper", 2.0, None)], ""), names),
    ):
        assert plots.to_png(figure, dpi=20).startswith(b"\x89PNG")
        assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == of_axis


@pytest.mark.filterwarnings("error")  # a layout that does not fit warns
def test_names_of_any_length_and_kind_fit_the_figure() -> None:
    names = ["long " * 50, "line\nbreak\tand \x1b[31m"]
    figure = plots.class_balance({"train": dict.fromkeys(names, 3)})
    assert plots.to_png(figure, dpi=40)
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert len(labels[0]) < 40 and "…" in labels[0] and "\n" not in labels[1] and "\x1b" not in labels[1]
    matrix = plots.confusion_matrix(np.ones((40, 40), np.int64), [f"{'long ' * 50}{i}" for i in range(40)])
    assert max(matrix.get_size_inches()) <= 32 and len(matrix.axes[0].texts) <= 400


@pytest.mark.filterwarnings("ignore:Glyph")
def test_figures_of_classes_with_any_name_get_a_file_each(tmp_path: Path) -> None:
    labels = ["a/b", "a_b", "A_b", "日本" * 100, "日本" * 99, "tab\t", "_other"]
    figures = {f"contact_sheet_{label}": (plots.contact_sheet([], [], label), label) for label in labels}
    pictures = save_figures(figures, tmp_path)
    assert [picture.caption for picture in pictures] == labels
    assert len(list(tmp_path.glob("*.png"))) == len(labels)


def test_a_speed_plot_speaks_of_accuracy_where_it_is_known() -> None:
    unknown, known = (plots.speed_and_accuracy([("onnx", 1.0, a)], "one thread") for a in (None, 0.9))
    assert unknown.get_suptitle() == "Speed\none thread"
    assert known.get_suptitle() == "Speed and validation accuracy\none thread"


@pytest.mark.parametrize("classes", [41, 1000])
def test_figures_stay_bounded_with_many_classes(classes: int) -> None:
    names = [f"class {i}" for i in range(classes)]
    y_true = np.arange(classes)
    scores = {
        name: ClassScores(1, None, None, Interval(i / classes, 0, 1), None) for i, name in enumerate(names)
    }
    balance = plots.class_balance({"train": {name: i for i, name in enumerate(names)}})
    lowest = plots.per_class_scores(scores)
    confusion = plots.confusion_matrix(np.eye(classes, dtype=np.int64), names)
    embedded = plots.embedding_map(np.zeros((classes, 2)), [names[i] for i in y_true])
    for figure in (balance, lowest, confusion, embedded):
        assert max(figure.get_size_inches()) <= 25 and len(figure.findobj(Text)) < 600
        assert plots.to_png(figure, dpi=20).startswith(b"\x89PNG")
    assert not any(axes.texts for axes in confusion.axes)
    assert f"{classes} classes (n = {classes})" in confusion.axes[0].get_title(loc="left")
    assert [text.get_text() for text in lowest.axes[0].get_yticklabels()] == [
        f"{name} (1)" for name in names[:40]
    ]
    assert f"n = {sum(range(classes))}; the 20 largest and smallest" in balance.axes[0].get_title(loc="left")


def test_single_photos_are_drawn() -> None:
    assert plots.to_png(plots.contact_sheet([PHOTO], ["one"], "title"), dpi=40)
    assert plots.to_png(plots.contact_sheet([], [], "none were found"), dpi=40)
    assert plots.to_png(plots.image_rows([[PHOTO, PHOTO]], [["a", ""]], "title"), dpi=40)
    assert plots.overlay(PHOTO, np.ones((24, 32))).max() > 100


def test_the_report_escapes_what_comes_from_outside_and_needs_nothing(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    sections = [Section(hostile, hostile, [("h",), (hostile,)], [Picture(b"\x89PNG", hostile)])]
    opening = f"Verdict: {hostile}. Next: lower --target-precision; evaluate elsewhere (--data FOLDER)."
    write_report(tmp_path / "r.html", hostile, [(hostile, hostile)], sections, opening)
    page = (tmp_path / "r.html").read_text()
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "data:image/png;base64," in page and "http" not in page
    assert (
        "<code>--target-precision</code>;" in page and "(<code>--data FOLDER</code>)." in page
    )  # not broken
