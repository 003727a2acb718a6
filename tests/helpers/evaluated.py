"""Bundles and evaluations as `evaluate` leaves them, with an answer for each photo."""

import json
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch

from image_classification_trash.arrays import Floats, Ints
from image_classification_trash.evaluation.comparison.answers import Answer, answers_csv, predictions_file
from image_classification_trash.evaluation.metrics import describe, reliability
from image_classification_trash.evaluation.result import (
    Accepted,
    ClassScores,
    Conditions,
    Evaluation,
    Interval,
    LabelledPhotos,
    Metrics,
    Scores,
)
from image_classification_trash.inference.bundle import Bundle, BundleConfig, write_bundle

CLASSES = ("glass", "paper")


def answers_for(
    y_true: Sequence[str], wrong: Sequence[int], probability: float = 0.9, **more: Any
) -> list[Answer]:
    """Answers for photos of these classes, right but at the places `wrong`; `decisions` by place, else accepted."""
    other, decided = dict(zip(CLASSES, reversed(CLASSES), strict=True)), more.pop("decisions", {})
    return [
        Answer(f"{label}/{i}.jpg", label, answer, probability, decided.get(i, answer), **more)
        for i, label in enumerate(y_true)
        for answer in [other[label] if i in wrong else label]
    ]


def described(
    name: str, labels: Sequence[str] = CLASSES, size: tuple[int, int] = (64, 64), **more: Any
) -> BundleConfig:
    """A bundle's description."""
    validation = {"accuracy": 0.9, "macro_f1": 0.9, "n": 100, "coverage": 0.8}
    return BundleConfig(
        name=name, architecture=more.pop("architecture", "sequential_cnn"), labels=tuple(labels), input_height=size[0], input_width=size[1],
        resize_mode="stretch", temperature=1.0, threshold=0.5, data={"name": "mine", "fingerprint": "d" * 64, "counts": {}},
        training={"settings": {}, "validation": validation}, git_commit="0" * 40, versions={}, created="2026-01-01T00:00:00Z", **more,
    )  # fmt: skip


def metrics_of(
    y_true: Ints, shares: Floats, labels: Sequence[str], photos: str, fingerprint: str = "f" * 64
) -> Metrics:
    """The figures of these probabilities (N, C); those of many photos without intervals, which take long."""
    bins = reliability(y_true, shares)
    scores = (
        describe(y_true, shares, labels, resamples=100)
        if len(y_true) < 1000
        else quick(y_true, shares, labels)
    )
    return Metrics(
        **vars(scores),
        conditions=Conditions("mine", photos, fingerprint, None, 0, "95%", "m"),
        reliability_before=bins,
        reliability=bins,
        risk_coverage_area=0.0,
        accepted=Accepted(0.5, len(y_true), 1.0, 0.9),
    )


def quick(y_true: Ints, shares: Floats, labels: Sequence[str]) -> Scores:
    """The confusion of many photos, with other figures that stand for themselves."""
    confusion = np.zeros((len(labels), len(labels)), int)
    np.add.at(confusion, (y_true, shares.argmax(1)), 1)
    figure = Interval(float((shares.argmax(1) == y_true).mean()), 0.0, 1.0)
    of_class = [ClassScores(int(n), figure, figure, figure, figure) for n in confusion.sum(1)]
    per_class = dict(zip(labels, of_class, strict=True))
    return Scores(len(y_true), *[figure] * 7, per_class, confusion.tolist())


def evaluated(
    models: Path,
    name: str,
    answers: Sequence[Answer] | None,
    photos: str = "test",
    fingerprint: str = "f" * 64,
    **config: Any,
) -> Bundle:
    """A bundle that was evaluated on these photos; by an earlier version, which kept no answers, if they are None.

    Its weights are never loaded.
    """
    known = answers_for(["glass", "paper"], []) if answers is None else [a for a in answers if a.y_true]
    y_true = np.array([CLASSES.index(answer.y_true) for answer in known])
    shares = np.array(
        [[a.probability if a.y_pred == c else 1 - a.probability for c in CLASSES] for a in known]
    )
    metrics = metrics_of(y_true, shares, CLASSES, photos, fingerprint)
    files = {
        "model.safetensors": name.encode(),
        "metrics.json": json.dumps({photos: metrics.as_json()}).encode(),
    }
    if answers is not None:
        files[predictions_file(photos)] = answers_csv(answers).encode()
    return write_bundle(models / name, described(name, **config), files)


def evaluation(
    models: Path, files: Sequence[Path], y_true: Ints, shares: Floats, labels: Sequence[str], **config: Any
) -> Evaluation:
    """An evaluation of an untrained network that can be loaded, with these probabilities (N, C) for N photos in `files`."""
    from image_classification_trash.networks.network import TrashNetwork

    described_as = described("mine", labels, **config)
    state = TrashNetwork(described_as.architecture, len(labels)).state_dict()
    weights = safetensors.torch.save({name: value.contiguous() for name, value in state.items()})
    bundle = write_bundle(models / "mine", described_as, {"model.safetensors": weights})
    y_pred, top = shares.argmax(1), shares.max(1)
    answers = tuple(
        Answer(file.as_posix(), labels[y], labels[p], float(sure), labels[p] if sure >= 0.5 else "unsure")
        for file, y, p, sure in zip(files, y_true, y_pred, top, strict=True)
    )
    photos = LabelledPhotos("test", tuple(files), tuple(labels[y] for y in y_true), "f" * 64)
    metrics = metrics_of(y_true, shares, labels, "test")
    return Evaluation(bundle, photos, y_true, shares, tuple(files), metrics, (), answers)


class Page(HTMLParser):
    """A page, parsed: `elements` are its tags in their order, each with its attributes and the text inside it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[int] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))
        if tag not in ("meta", "img", "link", "input", "br"):
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self.elements[self._open.pop()][0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        for place in self._open:
            self.elements[place][2].append(data)

    def texts(self, tag: str) -> list[str]:
        """The text of each element of this kind."""
        return [" ".join("".join(text).split()) for name, _, text in self.elements if name == tag]

    def attributes(self, tag: str, name: str) -> list[str]:
        """The attribute of each element of this kind that has it."""
        return [attrs[name] or "" for kind, attrs, _ in self.elements if kind == tag and name in attrs]
