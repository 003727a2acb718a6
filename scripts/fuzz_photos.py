"""Throws damaged photos at the decoder: each must give pixels or a PhotoError, and nothing may crash, hang or bloat.

    python scripts/fuzz_photos.py --seconds 600

A child process decodes, so that a crash in a decoder's C code is seen; the file that it was given is kept. Photos of
every accepted format and kind, and sample photos, are cut, spliced, flipped bit by bit and given odd numbers in their
headers; bombs come in between, some of them damaged. The time of computing and the memory of each are limited.
"""

import argparse
import functools
import io
import random
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image
from tqdm import tqdm
from watched_child import Limits, WatchedChild

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers.photo_bombs import BOMBS  # the bombs of the tests

from image_classification_trash.errors import PhotoError
from image_classification_trash.inference.images import RESIZE_MODES, read_photo
from image_classification_trash.inference.photo_cost import DEFAULT_BUDGET, SERVING

ROOT = Path(__file__).parents[1]
SIZE = (64, 80)
LIMITS = Limits(seconds=120, memory=4 * 2**30)
CPU_SECONDS, MEBIBYTES = 5, 400
"""What one photo may take beside the bytes of its file."""
BUDGETS = {"own": DEFAULT_BUDGET, "stranger's": SERVING}
ODD = [0, 1, 7, 8, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bombs", type=float, default=0.01, help="share of bombs, which take longer")
    parser.add_argument("--keep", type=Path, default=Path("reports/fuzz"), help="where failing files go")
    options = parser.parse_args()
    choose, seeds = random.Random(options.seed), seed_photos()
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    until = time.monotonic() + options.seconds
    decoder = WatchedChild(decode, LIMITS)
    with tqdm(
        total=round(options.seconds), unit="s", desc="fuzz", bar_format="{l_bar}{bar}| {elapsed}"
    ) as bar:
        while time.monotonic() < until:
            data = bomb(choose) if choose.random() < options.bombs else damaged(choose, seeds)
            outcome = decoder.run(data, choose.choice(RESIZE_MODES), choose.choice([*BUDGETS]))
            outcomes[outcome.partition(":")[0]] += 1
            if not outcome.startswith(("pixels", "refused")):
                failures.append(keep(options.keep, data, outcome))
            bar.n = round(options.seconds - max(0, until - time.monotonic()))
            bar.refresh() if sum(outcomes.values()) % 200 == 0 else None
    decoder.close()
    counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    print(f"seed {options.seed}, {sum(outcomes.values())} files: {counts}; {len(failures)} failures")
    print("\n".join(failures[:20]), end="\n" if failures else "")
    return 1 if failures else 0


def decode(data: bytes, resize_mode: str, budget: str) -> str:
    """The child's work: what became of a photo and what it took."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the most memory so far
    before, start = peak_mebibytes(), time.process_time()
    try:
        pixels = read_photo(data, SIZE, resize_mode, budget=BUDGETS[budget])
        outcome = (
            "pixels" if pixels.dtype == np.uint8 and pixels.shape == (*SIZE, 3) else f"wrong: {pixels.shape}"
        )
    except PhotoError as error:
        outcome = "refused" if error.found and error.hint else f"silent: {error!r}"
    seconds, mebibytes = time.process_time() - start, peak_mebibytes() - before
    if seconds > CPU_SECONDS or mebibytes > MEBIBYTES:
        return f"costly: {outcome} after {seconds:.1f} s of computing and with {mebibytes:.0f} MiB"
    return outcome


def peak_mebibytes() -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def seed_photos() -> list[bytes]:
    """Good photos of every accepted format and of every kind of pixel."""
    pillow_heif.register_heif_opener()
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((96, 72))
    wide = Image.fromarray(rng.integers(0, 65536, (40, 40), dtype=np.uint16))
    exif = Image.Exif()
    exif[274] = 6
    saved = [
        *((rgb, "JPEG", options) for options in ({}, {"progressive": True}, {"exif": exif}, {"subsampling": 0})),
        *((rgb.convert(mode), "JPEG", {}) for mode in ("L", "CMYK")),
        *((rgb.convert(mode), "PNG", {}) for mode in ("RGB", "RGBA", "L", "LA", "P", "1")),
        (wide, "PNG", {}), (rgb.convert("P"), "PNG", {"transparency": 3}),
        (rgb, "WEBP", {}), (rgb.convert("RGBA"), "WEBP", {"lossless": True}), (rgb, "BMP", {}),
        (rgb, "GIF", {}), (rgb, "GIF", {"save_all": True, "append_images": [rgb.rotate(90)]}), (rgb, "AVIF", {}),
        (rgb, "HEIF", {}),
    ]  # fmt: skip
    made = [encoded(image, kind, options) for image, kind, options in saved]
    real = [path.read_bytes() for path in sorted((ROOT / "data/sample").rglob("*.jpg"))[::100]]
    return made + real


def bomb(choose: random.Random) -> bytes:
    """A bomb as it is, or with a damage."""
    data = bytearray(made_bomb(choose.choice([*BOMBS])))
    if choose.random() < 0.5:
        damage(choose, data, [bytes(data)])
    return bytes(data)


@functools.lru_cache(maxsize=16)
def made_bomb(name: str) -> bytes:
    return BOMBS[name]()


def encoded(image: Image.Image, kind: str, options: dict[str, object]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def damaged(choose: random.Random, seeds: list[bytes]) -> bytes:
    """A photo with one to eight damages."""
    data = bytearray(choose.choice(seeds))
    for _ in range(choose.choice((1, 1, 1, 2, 4, 8))):
        damage(choose, data, seeds)
    return bytes(data)


def damage(choose: random.Random, data: bytearray, seeds: list[bytes]) -> None:
    """Change a photo's bytes in place; headers, at the front, are hit as often as all the rest."""
    at = choose.randrange(min(len(data), choose.choice((64, 10**9)))) if data else 0
    match choose.randrange(6):
        case 0 if data:
            data[at] ^= 1 << choose.randrange(8)
        case 1:
            width = choose.choice((1, 2, 4))
            number = choose.choice(ODD) % 256**width
            data[at : at + width] = number.to_bytes(width, choose.choice(("big", "little")))
        case 2:
            del data[at : at + choose.choice((1, 1, 4, 4, 100, 10**9))]
        case 3:
            data[at:at] = choose.randbytes(choose.choice((1, 4, 100)))
        case 4:
            other = choose.choice(seeds)
            start = choose.randrange(len(other))
            data[at : at + 50] = other[start : start + 50]
        case _:
            data[at:at] = data[at : at + choose.choice((2, 20, 200))]


def keep(folder: Path, data: bytes, outcome: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{len(list(folder.iterdir())):04}.bin"
    path.write_bytes(data)
    return f"{path}: {outcome}"


if __name__ == "__main__":
    sys.exit(main())
