"""Time one photo in LiteRT by several .tflite files, in turns in one process, so that other load meets all of them alike.

    python scripts/field/time_field_files.py --output timing_files.json \\
        shipped=image_classification_trash/shipped/model.tflite shipped-large=image_classification_trash/shipped_large/model.tflite

Processor time on one thread, from pixels to probabilities; medians with their middle half, and the ratio to the first file.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from image_classification_trash.inference.runtimes import FileRuntime, open_file

ROUNDS = 60
WARM = 5


def timed(run: FileRuntime, photo: np.ndarray) -> float:
    """Milliseconds of processor time for a photo (1, H, W, 3)."""
    began = time.process_time()
    run(photo)
    return 1000 * (time.process_time() - began)


def measure(files: dict[str, Path], rounds: int) -> dict[str, dict[str, float]]:
    """Times of each file."""
    opened = {name: open_file(path, threads=1) for name, path in files.items()}
    rng = np.random.default_rng(0)
    photos = {
        name: rng.integers(0, 256, (1, *config.input_size, 3), dtype=np.uint8)
        for name, (config, _) in opened.items()
    }
    found: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(rounds + WARM):
        for name, (_, run) in opened.items():
            found[name].append(timed(run, photos[name]))
    kept = {name: np.array(values[WARM:]) for name, values in found.items()}
    first = next(iter(kept.values()))
    return {
        name: {
            **dict(zip(("q25", "ms", "q75"), map(float, np.quantile(one, [0.25, 0.5, 0.75])), strict=True)),
            "ratio": float(np.median(one / first)),
            "bytes": files[name].stat().st_size,
        }
        for name, one in kept.items()
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="+", help="NAME=FILE, the one to compare with first")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    named = (one.partition("=") for one in options.files)
    found = measure({name: Path(file) for name, _, file in named}, options.rounds)
    print(json.dumps(found, indent=1))
    options.output.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
