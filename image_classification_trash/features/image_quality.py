"""Find photos of poor quality: blurred, dark, washed out, almost empty, or with an odd aspect ratio.

Scores and thresholds are CleanVision's (https://github.com/cleanlab/cleanvision): blurry combines the variance of an edge
filter with the standard deviation of grey values, dark uses the 99th percentile of brightness, light the 5th, and low
information the entropy.
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
"""Longest side in pixels to which photos are scaled down first: scores hardly change, and large photos stay fast."""


@dataclass(frozen=True, slots=True)
class QualityIssue:
    """A photo whose score, 0 (worst) to 1, is below the threshold of a kind of issue."""

    index: int
    kind: str
    score: float


class _Photos(Dataset):
    """Photos decoded by the pixel contract, so that rotated and HEIC photos are read as everywhere else."""

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
    """Find the quality issues of photos; return them by kind, worst first.

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
