"""Settings of `predict PHOTO ...`, where photos are all that is given and nothing has to be validated.

Without pydantic, whose import and models are a third of the time to a first answer. The defaults are those of
`PredictSettings`, as a test compares.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PhotosAlone:
    """What `predict` reads of its settings, with the defaults of `PredictSettings`."""

    photos: Sequence[str]
    model: Path | None = None
    models_dir: Path = Path("models")
    batch_size: int = 8
    max_pixels: int | None = None
    runtime: str = "auto"
    threads: int | None = None


def photos_alone(arguments: Sequence[str]) -> PhotosAlone | None:
    """Return the settings of `predict`, given its arguments; None if there are flags, variables or no photos."""
    flags = any(word.startswith("-") and word != "-" for word in arguments)
    variables = any(name.upper().startswith("TRASH_PREDICT_") for name in os.environ)
    return None if flags or variables or not arguments else PhotosAlone(arguments)
