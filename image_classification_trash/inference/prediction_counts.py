"""Counts of a model's answers, small enough to keep for months: `serve --statistics` writes them, `monitor` reads them.

They contain no photo, name or address: a count of each label and decision, and a histogram of the top probability.
"""

import bisect
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from image_classification_trash.errors import BundleError
from image_classification_trash.files import read_json, write_text

FORMAT = "answer statistics 1"
EDGES = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)
"""Bin edges of the histogram of the top probability: finer towards 1, where most answers are."""


def now() -> str:
    """Return the time, to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass
class AnswerStatistics:
    """Running counts; memory does not grow with the answers.

    Attributes:
        model: name, creation time and data fingerprint of the model that answered.
        labels: answers by most probable label; contains all labels.
        decisions: answers by decision, including `unsure`.
        probability: answers by top probability, one count per bin of `EDGES`.
        started: when counting began, ISO 8601.
    """

    model: dict[str, str]
    labels: Counter[str]
    decisions: Counter[str] = field(default_factory=Counter)
    probability: list[int] = field(default_factory=lambda: [0] * (len(EDGES) - 1))
    started: str = field(default_factory=now)

    @classmethod
    def of_model(cls, model: Mapping[str, str], labels: Sequence[str]) -> "AnswerStatistics":
        """Return zero counts for a model."""
        return cls(dict(model), Counter(dict.fromkeys(labels, 0)))

    @property
    def photos(self) -> int:
        """Number of answers counted."""
        return sum(self.probability)

    def add(self, label: str, probability: float, decision: str) -> None:
        """Count one answer."""
        self.labels[label] += 1
        self.decisions[decision] += 1
        self.probability[bin_of(probability)] += 1

    def write(self, path: Path) -> None:
        """Write the counts as JSON, atomically."""
        write_text(path, json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n")

    def as_json(self) -> dict[str, Any]:
        """Return the counts, ready for JSON."""
        return {
            "format": FORMAT,
            "model": self.model,
            "started": self.started,
            "written": now(),
            "photos": self.photos,
            "labels": dict(self.labels),
            "decisions": dict(self.decisions),
            "probability": {"edges": list(EDGES), "counts": self.probability},
        }


def bin_of(probability: float) -> int:
    """Return the bin of `EDGES` that a probability falls into; the last bin includes 1."""
    return min(max(bisect.bisect_right(EDGES, probability) - 1, 0), len(EDGES) - 2)


def histogram(probabilities: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.int64]:
    """Count top probabilities (N,) in the bins of `EDGES`; int64 (bins,)."""
    bins = np.array([bin_of(float(p)) for p in probabilities], dtype=np.int64)
    return np.bincount(bins, minlength=len(EDGES) - 1)


def read_statistics(path: Path) -> AnswerStatistics:
    """Read a file that `AnswerStatistics.write` wrote.

    Raises:
        BundleError: not such a file, or its counts contradict one another.
    """
    hint = "Give a file that `trash-classifier serve --statistics FILE` wrote."
    try:
        values = read_json(path)
        if values["format"] != FORMAT or tuple(values["probability"]["edges"]) != EDGES:
            raise ValueError("another format or other bins")
        counts = [int(count) for count in values["probability"]["counts"]]
        labels, decisions = (
            Counter({str(k): int(v) for k, v in values[name].items()}) for name in ("labels", "decisions")
        )
        totals = {sum(counts), labels.total(), decisions.total(), int(values["photos"])}
        if len(counts) != len(EDGES) - 1 or len(totals) > 1 or min([*counts, *labels.values()]) < 0:
            raise ValueError("its counts contradict one another")
        return AnswerStatistics(dict(values["model"]), labels, decisions, counts, str(values["started"]))
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}.", hint) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{path} holds no statistics of answers: {error}.", hint) from error
