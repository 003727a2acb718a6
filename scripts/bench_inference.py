"""Speed of answering, each figure as a ratio against a named baseline, measured in turns in one run.

    python scripts/bench_inference.py models/trashnet/export/model_int8.tflite --photos data/sample

- one photo: from a file to a label, in process, against the bare engine on ready pixels;
- a folder: `trash-classifier predict FOLDER --csv FILE`, as a process, against a bare loop in two processes that decodes
  and runs and writes nothing; and the peak memory at a tenth of the photos and at all of them;
- a cold start: the process `trash-classifier predict PHOTO`, from its start to its end, and its peak memory.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from image_classification_trash.inference.classifier import TrashClassifier
from image_classification_trash.inference.images import read_photo
from image_classification_trash.inference.runtimes import open_file


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="an exported .tflite or .onnx file")
    parser.add_argument("--photos", type=Path, default=Path("data/sample"))
    parser.add_argument(
        "--count", type=int, default=10_000, help="photos in the folder; those given are repeated"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--against", nargs="+", help="a command that classifies a folder, FOLDER in it, timed in turns"
    )
    options = parser.parse_args()
    photos = sorted(options.photos.rglob("*.jpg"))
    print(
        json.dumps(
            one_photo(options.model, photos[:: max(1, len(photos) // 64)][:64], options.rounds), indent=2
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder) / "all", photos, options.count)
        fill(Path(folder) / "tenth", photos, options.count // 10)
        print(
            json.dumps(whole_folder(options.model, Path(folder), options.against, options.rounds), indent=2)
        )
    print(json.dumps(cold_start(options.model, photos[0]), indent=2))


def one_photo(model: Path, photos: Sequence[Path], rounds: int) -> dict[str, float]:
    config, run = open_file(model)
    classifier = TrashClassifier.load(model)
    pixels = [read_photo(photo, config.input_size, config.resize_mode)[None] for photo in photos]
    whole, bare = [], []
    for _ in range(rounds):
        whole += [timed(lambda photo=photo: classifier.predict([photo])) for photo in photos]
        bare += [timed(lambda ready=ready: run(ready)) for ready in pixels]
    file, engine = 1e3 * statistics.median(whole), 1e3 * statistics.median(bare)
    return {"file to label, ms": file, "bare engine, ms": engine, "ratio": file / engine}


def whole_folder(model: Path, folder: Path, against: Sequence[str] | None, rounds: int) -> dict[str, object]:
    ours, bare, other, memory = [], [], [], {}
    rounds = min(rounds, 3)  # each takes a minute or more
    files = sorted(map(str, (folder / "all").iterdir()))
    for _ in range(rounds):
        ours.append(timed(lambda: predict(model, folder / "all", memory)))
        bare.append(timed(lambda: two_processes(model, files)))
    for _ in range(rounds if against else 0):
        line = [word.replace("FOLDER", str(folder / "all")) for word in against or ()]
        other.append(
            timed(
                lambda line=line: subprocess.run(
                    line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            )
        )
    predict(model, folder / "tenth", memory)
    count, mine, loop = len(files), statistics.median(ours), statistics.median(bare)
    result: dict[str, object] = {
        "photos": count, "predict, photos a second": count / mine, "bare loop, photos a second": count / loop,
        "ratio": loop / mine, "peak memory, MB": memory,
    }  # fmt: skip
    if other:
        result |= {
            "other, photos a second": count / statistics.median(other),
            "times the other": statistics.median(other) / mine,
        }
    return result


def predict(model: Path, folder: Path, memory: dict[str, float]) -> None:
    line = [
        str(Path(sys.executable).parent / "trash-classifier"),
        "predict",
        str(folder),
        "--model",
        str(model),
    ]
    with tempfile.TemporaryDirectory() as target:
        process = subprocess.Popen([*line, "--csv", f"{target}/out.csv"], stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0
    memory[folder.name] = round(usage.ru_maxrss / 1e3)


def two_processes(model: Path, files: Sequence[str]) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(bare_loop, [(model, files[i::2]) for i in range(2)])


def bare_loop(model: Path, files: Sequence[str]) -> None:
    config, run = open_file(model)
    for file in files:
        run(np.asarray(read_photo(file, config.input_size, config.resize_mode))[None])


def cold_start(model: Path, photo: Path) -> dict[str, float]:
    line = [
        str(Path(sys.executable).parent / "trash-classifier"),
        "predict",
        str(photo),
        "--model",
        str(model),
    ]
    seconds, memory = [], 0
    for _ in range(7):
        start = time.perf_counter()
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, _, usage = os.wait4(process.pid, 0)
        seconds.append(time.perf_counter() - start)
        memory = max(memory, usage.ru_maxrss)
    return {"start to answer, s": statistics.median(seconds), "peak memory, MB": memory / 1e3}


def fill(folder: Path, photos: Sequence[Path], count: int) -> None:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:06}.jpg").symlink_to(photos[number % len(photos)].resolve())


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
