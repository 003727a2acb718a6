"""Photos that are hard to see anything on: blurred, dark, washed out, almost empty, or of an odd shape.

Scores and limits are CleanVision's (https://github.com/cleanlab/cleanvision): blur is the spread of an edge filter
with the spread of grey values, dark the 99th percentile of brightness, light the 5th, low information the entropy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cleanvision.dataset.base_dataset import Dataset
from cleanvision.issue_managers.image_property_issue_manager import ImagePropertyIssueManager
from PIL import Image

from image_classification_trash.inference.images import read_photo

KINDS = {
    "blurry": "blurred",
    "dark": "dark: its brightest parts are not bright",
    "light": "washed out: its darkest parts are bright",
    "low_information": "almost empty: its grey values hardly differ",
    "odd_aspect_ratio": "much longer than wide, or wider than long",
}
_SIDE = 256
"""Larger photos are scaled down to this first: the scores hardly change, and a big photo takes no second."""


@dataclass(frozen=True, slots=True)
class QualityIssue:
    """A photo's score fell below the limit of a kind; scores are 0 (worst) to 1."""

    index: int
    kind: str
    score: float


class _Photos(Dataset):
    """Photos through the pixel contract, so that rotated and HEIC photos are seen as everywhere else."""

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__()
        self._paths = paths
        self.index = list(range(len(paths)))

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, item: int | str) -> Image.Image:
        image = Image.fromarray(read_photo(self._paths[int(item)]))
        image.thumbnail((_SIDE, _SIDE))
        return image


def find_quality_issues(paths: Sequence[Path]) -> list[QualityIssue]:
    """Flaws of photos, worst first within each kind.

    Raises:
        PhotoError: a photo cannot be read.
    """
    if not paths:
        return []
    manager = ImagePropertyIssueManager()
    parameters: dict[str, Any] = {kind: {} for kind in KINDS}
    manager.find_issues(
        params=parameters, dataset=_Photos(paths), imagelab_info={"statistics": {}}, n_jobs=1, verbose=False
    )
    table = manager.issues
    quality_issues = [
        QualityIssue(int(i), kind, round(float(table[f"{kind}_score"][i]), 4))
        for kind in KINDS
        for i in table.index[table[f"is_{kind}_issue"]]
    ]
    return sorted(
        quality_issues,
        key=lambda quality_issue: (quality_issue.kind, quality_issue.score, quality_issue.index),
    )
