"""Draw plots: each function turns plain values into a matplotlib figure. Nothing here touches global state or a display.

Class and file names are arbitrary text: a figure becomes a file through `to_png` alone, which draws them literally. The size
of a figure is bounded, whatever the number of classes.
"""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import PercentFormatter

from image_classification_trash.evaluation.result import ClassScores, Interval, Reliability
from image_classification_trash.files import as_text
from image_classification_trash.inference.images import Pixels

MOST_CLASSES = 40
"""Largest number of classes that a plot names; above it, a plot shows a selection of classes, or no names."""
_MOST_NUMBERS, _LARGEST_SIDE = 400, 16.0
"""Largest number of cells of a confusion matrix that show their number, and its largest side in inches."""
MOST_LETTERS = 110
"""Largest number of letters in a line of text in a plot."""
# Palette of Okabe and Ito, which colour-blind readers can distinguish.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#000000")
_ACCENT, _SOFT, _GREY = "#0072B2", "#56B4E9", "#888888"


def to_png(figure: Figure, dpi: int = 110) -> bytes:
    """Return a figure as the bytes of a PNG file, with every text drawn literally: `$` and `^` in names are no formulas."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text("\n".join(shortened(line, MOST_LETTERS) for line in text.get_text().split("\n")))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def shortened(name: str, letters: int = 36) -> str:
    """Return a name on one line, without its middle if it is longer, and with marks for what no font has."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in as_text(name))
    return line if len(line) <= letters else f"{line[: letters // 2]}…{line[-letters // 2 :]}"


def class_colours(labels: Sequence[str]) -> dict[str, Any]:
    """Return one colour per class, the same in every plot."""
    if len(labels) <= len(_COLOURS):
        return dict(zip(labels, _COLOURS, strict=False))
    shades = mpl.colormaps["turbo"](np.linspace(0.05, 0.95, len(labels)))
    return dict(zip(labels, shades, strict=True))


def speed_and_accuracy(points: Sequence[tuple[str, float, float | None]], conditions: str) -> Figure:
    """Draw photos per second of named engines, with their accuracy where it is known.

    Args:
        points: name, photos per second, and accuracy (0 to 1) of each engine.
        conditions: of the measurement, for the title.
    """
    points = sorted(points, key=lambda point: point[1])
    figure = _figure(8, 0.42 * len(points) + 1.3)
    axes = figure.subplots()
    places = np.arange(len(points))
    bars = axes.barh(places, [speed for _, speed, _ in points], color=_ACCENT)
    words = [f"{speed:.0f}/s" + ("" if a is None else f", {a:.1%}") for _, speed, a in points]
    axes.bar_label(bars, labels=words, padding=4, fontsize=9)
    axes.set_yticks(places, [shortened(name) for name, _, _ in points])
    axes.set_xlim(0, 1.25 * max(speed for _, speed, _ in points))
    axes.set_xlabel("photos per second, including decoding")
    known = " and validation accuracy" if any(accuracy is not None for *_, accuracy in points) else ""
    figure.suptitle(f"Speed{known}\n{conditions}", fontsize=10)
    return figure


def class_balance(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """Draw photos per class and split, from split -> class -> number.

    Above `MOST_CLASSES` classes, the classes with the fewest and with the most photos are drawn.
    """
    labels, note = list(next(iter(counts.values()))), ""
    photos = sum(sum(by_class.values()) for by_class in counts.values())
    if len(labels) > MOST_CLASSES:
        by_size = sorted(labels, key=lambda label: -sum(by_class[label] for by_class in counts.values()))
        note = f"; the {MOST_CLASSES // 2} largest and smallest of {len(labels)} classes"
        labels = [*by_size[: MOST_CLASSES // 2], *by_size[-MOST_CLASSES // 2 :]]
    figure = _figure(8, 0.55 * len(labels) + 1.2)
    axes = figure.subplots()
    left = np.zeros(len(labels))
    for colour, (split, by_class) in zip((_ACCENT, "#E69F00", "#009E73"), counts.items(), strict=False):
        values = np.array([by_class[label] for label in labels])
        bars = axes.barh(
            range(len(labels)), values, left=left, color=colour, label=f"{split} ({sum(by_class.values())})"
        )
        axes.bar_label(
            bars, labels=[str(v) if v else "" for v in values], label_type="center", color="white", fontsize=9
        )
        left += values
    axes.set_yticks(range(len(labels)), [*map(shortened, labels)])
    axes.invert_yaxis()
    axes.set_title(f"Photos per class (n = {photos}{note})", loc="left")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=3, frameon=False)
    return _plain(figure)


def contact_sheet(photos: Sequence[Pixels], captions: Sequence[str], title: str, columns: int = 8) -> Figure:
    """Draw photos in rows, each with its caption; without photos, only the title."""
    rows = max(1, math.ceil(len(photos) / columns))
    figure = _figure(1.6 * columns, 1.45 * rows + 0.5)
    figure.suptitle(title, x=0.01, ha="left")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, photo, caption in zip(grid.flat, photos, captions, strict=False):
        axes.imshow(photo)
        axes.set_title(caption, fontsize=7, pad=2)
    return figure


def embedding_map(points: npt.NDArray[np.floating[Any]], labels: Sequence[str]) -> Figure:
    """Draw photos as points (N, 2), coloured by class; a legend names up to `MOST_CLASSES` classes."""
    figure = _figure(7.5, 6)
    axes = figure.subplots()
    names, sizes = np.unique(np.array(labels, dtype=object), return_counts=True)
    colours = class_colours(list(names))
    axes.scatter(
        points[:, 0], points[:, 1], s=9, c=[colours[label] for label in labels], alpha=0.75, linewidths=0
    )
    axes.set_title(f"Embeddings, t-SNE (n = {len(labels)})", loc="left")
    axes.set(xticks=[], yticks=[])
    if len(names) <= MOST_CLASSES:
        dots = [
            Line2D([], [], ls="", marker="o", ms=6, alpha=0.75, mew=0, color=colour)
            for colour in colours.values()
        ]
        # Written into a finished legend: matplotlib drops entries that begin with an underscore.
        legend = axes.legend(
            dots, ["."] * len(dots), frameon=False, loc="center left", bbox_to_anchor=(1, 0.5)
        )
        for text, name, size in zip(legend.get_texts(), names, sizes, strict=True):
            text.set_text(f"{shortened(name)} ({size})")
    return _plain(figure)


def training_curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """Draw losses and validation scores by epoch, and mark the best epoch."""
    epochs = [row["epoch"] for row in history]
    best = max(history, key=lambda row: row["val_macro_f1"])
    figure = _figure(10, 3.8)
    losses, scores = figure.subplots(1, 2)
    for axes, keys in ((losses, ("train_loss", "val_loss")), (scores, ("val_accuracy", "val_macro_f1"))):
        for key, colour in zip(keys, (_ACCENT, "#E69F00"), strict=True):
            axes.plot(
                epochs, [row.get(key, math.nan) for row in history], marker="o", ms=3, color=colour, label=key
            )
        axes.axvline(best["epoch"], color=_GREY, ls=":", label=f"best epoch ({int(best['epoch'])})")
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
    losses.set_title("Loss (training: with augmentation and label smoothing)", loc="left", fontsize=10)
    scores.set_title("Validation", loc="left", fontsize=10)
    return _plain(figure)


def confusion_matrix(matrix: npt.NDArray[np.int64], labels: Sequence[str]) -> Figure:
    """Draw counts (C, C), above their percentages of each true class (rows), which are the shade of the cells.

    Of large matrices, only the largest counts are written as numbers. Above `MOST_CLASSES` classes, one image of the
    percentages without numbers and names: metrics.json holds the counts.
    """
    if len(labels) > MOST_CLASSES:
        return _confusion_image(matrix)
    side, size = min(max(4.2, 0.68 * len(labels) + 1.6), _LARGEST_SIDE), 9 if len(labels) <= 20 else 6
    largest = np.sort(np.argsort(-matrix, axis=None, kind="stable")[:_MOST_NUMBERS])
    figure = _figure(side, side)
    axes = figure.subplots()
    shares, names = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1), [*map(shortened, labels)]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for row, column in zip(*np.unravel_index(largest, matrix.shape), strict=True):
        count, share = matrix[row, column], shares[row, column]
        text, colour = f"{count}\n{share:.0f}%" if count else "0", "white" if share > 55 else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)
    axes.set_xticks(range(len(labels)), names, rotation=40, ha="right")
    axes.set_yticks(range(len(labels)), names)
    axes.set(xlabel="predicted", ylabel="true")
    title = f"Confusion: photos, and % of the true class (n = {matrix.sum()})"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


def _confusion_image(matrix: npt.NDArray[np.int64]) -> Figure:
    figure = _figure(9, 8)
    axes = figure.subplots()
    shares = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(drawn, label="% of the true class")
    axes.set(xlabel="predicted class, by number", ylabel="true class, by number")
    axes.set_title(f"Confusion of {len(matrix)} classes (n = {matrix.sum()})", loc="left", fontsize=10)
    return figure


def reliability_diagram(before: Reliability, after: Reliability) -> Figure:
    """Draw accuracy against confidence, before and after temperature scaling, above the number of photos in each bin."""
    figure = _figure(10, 4.8)
    grid = figure.subplots(2, 2, sharex=True, height_ratios=(3, 1))
    for column, name, bins in ((0, "before", before), (1, "after", after)):
        top, bottom = grid[0, column], grid[1, column]
        width = 1 / len(bins.count)
        centres = (np.arange(len(bins.count)) + 0.5) * width
        filled = np.flatnonzero(bins.count)
        accuracy = [value for value in bins.accuracy if value is not None]
        confidence = [value for value in bins.confidence if value is not None]
        top.plot([0, 1], [0, 1], color=_GREY, ls="--", lw=1)
        top.bar(centres[filled], accuracy, width * 0.92, color=_SOFT, label="accuracy")
        top.plot(confidence, accuracy, "o", ms=4, color="#D55E00", label="mean confidence of the bin")
        top.set_title(f"Reliability {name} temperature scaling: ECE {bins.ece:.3f}", loc="left", fontsize=10)
        top.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
        bottom.bar(centres, bins.count, width * 0.92, color=_GREY)
        bottom.set(xlabel="top probability", ylabel="photos")
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, frameon=False, loc="outside lower center", ncols=2)  # bars fill the axes
    return _plain(figure)


def risk_coverage(
    coverage: Sequence[float], risk: Sequence[float], chosen: tuple[float, float] | None
) -> Figure:
    """Draw the error rate of accepted photos against coverage, and mark the chosen operating point.

    Args:
        coverage: shares of accepted photos, 0 to 1, most confident first.
        risk: error rate of the accepted photos at each coverage.
        chosen: coverage and risk at the model's threshold, if it accepts any photo.
    """
    figure = _figure(5.6, 5.2)
    axes = figure.subplots()
    axes.plot(coverage, risk, color=_ACCENT)
    if chosen is not None:
        axes.plot(*chosen, "o", color="#D55E00")
        axes.annotate(  # in the upper left, which a curve that rises leaves free
            f"threshold: {chosen[0]:.0%} accepted,\n{chosen[1]:.1%} of them wrong",
            chosen,
            (0.04, 0.96),
            textcoords="axes fraction",
            va="top",
            fontsize=9,
            arrowprops={"arrowstyle": "-", "color": _GREY},
        )
    axes.set(
        xlabel="coverage: share of photos accepted, most confident first",
        ylabel="error rate of the accepted photos",
        xlim=(0, 1.01),
    )
    axes.set_ylim(0, max(*risk, 0.02) * 1.3)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=None))
    axes.set_title(f"Risk and coverage (n = {len(risk)})", loc="left", fontsize=10)
    return _plain(figure)


def per_class_scores(per_class: Mapping[str, ClassScores]) -> Figure:
    """Draw precision, recall and F1 of each class with 95% intervals; of many classes, those with the lowest F1."""
    labels = list(per_class)
    if len(labels) > MOST_CLASSES:
        measured = {label: score.f1.value for label, score in per_class.items() if score.f1 is not None}
        labels = sorted(measured, key=lambda label: measured[label])[:MOST_CLASSES]
    figure = _figure(10, 0.45 * len(labels) + 1.4)
    for axes, key in zip(figure.subplots(1, 3, sharey=True), ("precision", "recall", "f1"), strict=True):
        for row, label in enumerate(labels):
            score: Interval | None = getattr(per_class[label], key)
            if score is not None:
                axes.plot([score.low, score.high], [row, row], color=_SOFT, lw=3, solid_capstyle="round")
                axes.plot(score.value, row, "o", color=_ACCENT)
        axes.set_yticks(
            range(len(labels)), [f"{shortened(label)} ({per_class[label].n})" for label in labels]
        )
        axes.set(xlim=(0, 1.02), ylim=(len(labels) - 0.5, -0.5), title=key)
        axes.grid(axis="x", alpha=0.3)
    if len(labels) < len(per_class):
        figure.suptitle(f"The {len(labels)} of {len(per_class)} classes with the lowest F1", fontsize=10)
    return _plain(figure)


def paired_differences(rows: Sequence[tuple[str, str, Interval]], names: Sequence[str]) -> Figure:
    """Draw the difference of two models in each measure with its interval; grey where the interval includes 0.

    Args:
        rows: measure, the difference as text, and the difference, 0 to 1.
        names: of the two models; differences are the second's figure minus the first's.
    """
    figure = _figure(9, 0.5 * len(rows) + 1.3)
    axes = figure.subplots()
    for place, (_, text, difference) in enumerate(rows):
        low, value, high = (100 * bound for bound in (difference.low, difference.value, difference.high))
        colour = _GREY if low <= 0 <= high else _ACCENT
        axes.plot([low, high], [place, place], color=colour, lw=3, alpha=0.5, solid_capstyle="round")
        axes.plot(value, place, "o", color=colour)
        axes.annotate(
            text, (value, place), (0, 8), textcoords="offset points", ha="center", fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    axes.axvline(0, color=_GREY, ls="--", lw=1)
    axes.set_yticks(range(len(rows)), [measure for measure, *_ in rows])
    axes.set(ylim=(len(rows) - 0.5, -0.7), xlabel="difference in points (ECE: in hundredths)")
    first, second = map(shortened, names)
    axes.set_title(f"{second} minus {first}", loc="left", fontsize=10)
    return _plain(figure)


def image_rows(
    rows: Sequence[Sequence[Pixels]], captions: Sequence[Sequence[str]], title: str, columns: int = 4
) -> Figure:
    """Draw rows of `columns` pictures; the captions of a row are spread evenly above its pictures."""
    figure = _figure(2.3 * columns, 1.95 * len(rows) + 0.5)
    figure.suptitle(title, x=0.01, ha="left")
    for line, pictures, caption in zip(
        figure.subplots(len(rows), columns, squeeze=False), rows, captions, strict=True
    ):
        for axes in line:
            axes.axis("off")
        for axes, picture in zip(line, pictures, strict=False):
            axes.imshow(picture)
        for axes, text in zip(line[:: columns // len(caption)], caption, strict=False):
            axes.set_title(text, fontsize=8, loc="left", pad=3)
    return figure


def two_per_row(cells: Sequence[Sequence[Pixels]], captions: Sequence[str], title: str) -> Figure:
    """Draw cells, each of one or two pictures with a caption, two cells per row."""
    starts = range(0, len(cells), 2)
    rows = [[picture for cell in cells[i : i + 2] for picture in cell] for i in starts]
    return image_rows(rows, [[*captions[i : i + 2], ""][:2] for i in starts], title)


def overlay(photo: Pixels, heat: npt.NDArray[np.floating[Any]]) -> Pixels:
    """Blend a photo, uint8 (H, W, 3), with a heat map (H, W), 0 to 1; returns uint8 (H, W, 3)."""
    colours = mpl.colormaps["inferno"](heat)[..., :3] * 255
    return np.asarray(photo * 0.5 + colours * 0.5, dtype=np.uint8)


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _plain(figure: Figure) -> Figure:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    return figure
