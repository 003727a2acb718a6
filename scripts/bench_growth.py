"""Measure how `data`, `audit`, `explore`, `features` and `monitor` grow with the number of photos: computing and memory.

    python scripts/bench_growth.py dataset-resized.zip --times 1 4 16 --folder /tmp/growth
    python scripts/bench_growth.py --frames 20000 --folder /tmp/growth          # one scene, all photos differ a little
    python scripts/bench_growth.py --placeholders 20000 --folder /tmp/growth    # one file, many times

Photos are scaled to 128 pixels; each copy is cropped, mirrored and brightened at random, so that no two files are equal. The
pretrained network takes the same time for each photo and would cover what the commands do beside it: in `data`, `audit` and
`explore` random features of the pixels stand in for it, in `features` and `monitor` it is the smallest architecture. Each command
is a process of its own. Computing is its user and system time, with that of its children; memory is the most that all its
processes hold at a time, pages that they share counted once, first all of it and then without the pages of mapped files,
which the system takes back where memory is short.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance
from watched_gateway import family

from image_classification_trash.show import Table

SIDE = 128
SMALL = (
    "--architecture",
    "sequential_cnn",
    "--no-pretrained",
    "--input-height",
    "96",
    "--input-width",
    "128",
)
Frame = tuple[str, Image.Image]


@dataclass(frozen=True)
class Taken:
    """What a command took: seconds of computing, MiB in all and without mapped files."""

    seconds: float
    memory: float
    anonymous: float


def decoded(archive: Path) -> Iterator[Frame]:
    """Yield the label of each photo in an archive of class folders, and the photo at `SIDE` pixels."""
    with zipfile.ZipFile(archive) as opened:
        for name in sorted(opened.namelist()):
            if name.lower().endswith((".jpg", ".jpeg")) and not name.startswith("__MACOSX"):
                with opened.open(name) as file:
                    image = Image.open(file).convert("RGB")
                image.thumbnail((SIDE, SIDE))
                yield Path(name).parent.name, image


def varied(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Crop, mirror and brighten a photo at random."""
    width, height = image.size
    share = generator.uniform(0.7, 0.95)
    left, top = (generator.uniform(0, (1 - share) * side) for side in (width, height))
    box = (int(left), int(top), int(left + share * width), int(top + share * height))
    image = image.resize((width, height), Image.Resampling.BICUBIC, box)
    if generator.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return ImageEnhance.Brightness(image).enhance(generator.uniform(0.7, 1.3))


def write_photos(folder: Path, photos: Sequence[Frame], times: int) -> None:
    """Write each photo as it is, and `times` - 1 varied copies of it."""
    generator = np.random.default_rng(0)
    for number, (label, image) in enumerate(photos):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for copy in range(times):
            changed = varied(image, generator) if copy else image
            changed.save(folder / label / f"{number:05d}-{copy:02d}.jpg", quality=90)


def write_frames(folder: Path, count: int, differ: bool) -> None:
    """Write `count` photos of one scene in two classes, with noise of their own or all of them equal."""
    generator = np.random.default_rng(0)
    scene = generator.integers(40, 200, (12, 16, 3)).repeat(8, 0).repeat(8, 1)
    for number in range(count):
        label = folder / ("glass" if number % 2 and differ else "metal")
        label.mkdir(parents=True, exist_ok=True)
        noise = generator.integers(-6, 7, scene.shape) if differ else 0
        Image.fromarray((scene + noise).astype(np.uint8)).save(label / f"{number:05d}.jpg", quality=90)


class RandomFeatures:
    """Random Fourier features of a photo's coarse pixels: what looks alike lies close, everything else does not.

    Rahimi, Recht: Random Features for Large-Scale Kernel Machines, NeurIPS 2007.
    """

    key = "random-features"

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self._weights = generator.normal(0, 1 / 3.5, (7 * 9 * 3, 1280)).astype(np.float32)
        self._phases = generator.uniform(0, 2 * np.pi, 1280).astype(np.float32)

    def embed(self, photos: np.ndarray) -> np.ndarray:
        """Embed uint8 (B, 224, 288, 3) as float32 (B, 1280)."""
        coarse = photos.reshape(len(photos), 7, 32, 9, 32, 3).mean((2, 4)).reshape(len(photos), -1)
        coarse = (coarse - coarse.mean(1, keepdims=True)) / (coarse.std(1, keepdims=True) + 1)
        return np.asarray(np.cos(coarse @ self._weights + self._phases), np.float32)


def stand_in(arguments: Sequence[str]) -> int:
    """Run a command in this process, with random features instead of the pretrained network of `data`, `audit` and `explore`."""
    from image_classification_trash.__main__ import main as command  # noqa: PLC0415  only the child needs it

    if arguments[0] in ("data", "audit", "explore"):
        from image_classification_trash.features import build_features  # noqa: PLC0415

        build_features.build_network = lambda *_: None  # type: ignore[assignment, return-value]
        build_features.EmbeddingBackbone = lambda _: RandomFeatures()  # type: ignore[assignment, misc]
    sys.argv[1:] = arguments
    return command()


def taken_by(folder: Path, arguments: Sequence[str]) -> Taken:
    """Run a command in `folder` and measure it."""
    line = [sys.executable, __file__, "--run", *arguments]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(line, cwd=folder, stdout=log, stderr=log)
        most = anonymous = 0
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            sizes = [held(pid) for pid in family(process.pid)]
            most, anonymous = max(most, sum(s[0] for s in sizes)), max(anonymous, sum(s[1] for s in sizes))
            time.sleep(0.25)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 4):  # 4: the stream has drifted
        raise SystemExit(f"{' '.join(arguments)} failed: {(folder / 'log').read_text()[-2000:]}")
    return Taken(usage.ru_utime + usage.ru_stime, most / 1024, anonymous / 1024)


def held(pid: int) -> tuple[int, int]:
    """Return a process's share of memory in KiB, in all and without mapped files; zeros where it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0, 0
    pss = {name: int(size) for name, size in re.findall(r"^(Pss\w*):\s+(\d+) kB", text, re.MULTILINE)}
    return pss.get("Pss", 0), pss.get("Pss_Anon", 0) + pss.get("Pss_Shmem", 0)


def measured(folder: Path, photos: Path, model: Path | None) -> dict[str, Taken]:
    """Run all commands on a folder of class folders; `model` is one of the same classes, None trains one."""
    train = ("train", "it", *SMALL, "--no-head", "--epochs", "1" if model is None else "0")
    start = () if model is None else ("--init-from", str(model))
    lines = {
        "data": ("data", "it", "--source", str(photos)),
        "audit": ("audit", "it"),
        "explore": ("explore", "it"),
        "features": ("features", "it", *SMALL),
        "train": (*train, *start),
        "monitor": ("monitor", str(photos), "--model", "models/it"),
    }
    found = {}
    for name, line in lines.items():
        found[name] = taken_by(folder, line)
        print(f"{folder.name} {name}: {found[name]}", file=sys.stderr, flush=True)
    return found


def files_of(folder: Path) -> float:
    """Return the MB of all files that the commands wrote, but the caches of pixels and embeddings."""
    kept = (folder / "data/processed", folder / "reports")
    return sum(f.lstat().st_size for root in kept for f in root.rglob("*") if f.is_file()) / 1e6


def grown(folder: Path, archive: Path, sizes: Sequence[int], model: Path | None) -> None:
    """Measure all commands at several sizes and print a table; `model` as in `measured`."""
    photos, rows = list(decoded(archive)), []
    for times in sizes:
        here = folder / f"times-{times}"
        write_photos(here / "photos", photos, times)
        found = measured(here, here / "photos", model)
        model = model or here / "models/it"
        for name, took in found.items():
            each = 1000 * took.seconds / (times * len(photos))
            rows.append([name, f"{times * len(photos):,}", f"{took.seconds:.1f}", f"{each:.2f}", f"{took.memory:,.0f}", f"{took.anonymous:,.0f}"])  # fmt: skip
    print(
        *Table(
            ["command", "photos", "CPU s", "CPU ms a photo", "MiB", "without files"], sorted(rows)
        ).lines(),
        sep="\n",
    )


def main() -> None:
    """Make photos, measure, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=Path, nargs="?", help="zip of class folders, such as TrashNet's")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--model", type=Path, help="model of an earlier run, which saves training one")
    parser.add_argument("--frames", type=int, help="photos of one scene instead, with a little noise")
    parser.add_argument("--placeholders", type=int, help="equal files instead")
    parser.add_argument(
        "--folder", type=Path, required=True, help="for photos and results; must not exist; it is deleted"
    )
    given = parser.parse_args()
    given.folder.mkdir(parents=True)
    try:
        if given.archive:
            grown(given.folder.resolve(), given.archive, given.times, given.model)
            return
        photos = given.folder.resolve() / "photos"
        write_frames(photos, given.frames or given.placeholders, differ=bool(given.frames))
        if given.placeholders:  # beside photos that can be used
            write_frames(photos.parent / "others", 100, differ=True)
            shutil.copytree(photos.parent / "others", photos, dirs_exist_ok=True)
        for name in ("data", "audit", "explore"):
            source = ("--source", str(photos)) if name == "data" else ()
            print(name, taken_by(given.folder, (name, "it", *source)))
        print(f"files: {files_of(given.folder):.1f} MB")
    finally:
        shutil.rmtree(given.folder)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        sys.exit(stand_in(sys.argv[2:]))
    main()
