"""Damages exported models and predicts with each: no crash, no answer that is not finite, no error but ours.

    python scripts/mutate_models.py models/trashnet/export/model.tflite models/trashnet/export/model.onnx --count 1000

Each file is damaged COUNT times: bits flipped, cut short, blocks swapped, zeroed, doubled or made NaN, numbers of its
structure changed. Every second one gets a digest that fits the damage, as from someone who means harm; the others keep
the digest inside, which has to refuse them. A child process loads the file and predicts, so that a crash in an engine's
C++ code is seen. Outcomes are appended to --results, and an interrupted run continues from there; a finding is
reproduced with its number: --only 17.
"""

import argparse
import io
import json
import math
import random
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm
from watched_child import Limits, WatchedChild

from image_classification_trash.errors import TrashClassifierError
from image_classification_trash.inference import file_digest
from image_classification_trash.inference.classifier import TrashClassifier

PHOTO = next((Path(__file__).parents[1] / "data/sample/test/glass").glob("*.jpg"))
LIMITS = Limits(seconds=60, memory=6 * 2**30)
NAN = {".tflite": (b"\x00\x7e", b"\x00\x00\xc0\x7f"), ".onnx": (b"\x00\x00\xc0\x7f",)}
"""Not a number, as float16 and float32."""
ODD = [0, 1, 2, 127, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1]
GOOD = ("answered", "refused", "not finite, refused")


@dataclass(frozen=True)
class Outcome:
    """What became of a damaged file.

    Attributes:
        model: name of the file that was damaged.
        number: of the damage; with the seed it gives the same bytes again.
        kind: of the damage.
        sealed: whether the digest inside fits the damage.
        outcome: `answered`, `refused`, `not finite, refused`, or a finding.
    """

    model: str
    number: int
    kind: str
    sealed: bool
    outcome: str


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+", help=".tflite and .onnx files with a digest inside")
    parser.add_argument("--count", type=int, default=1000, help="of damages for each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this damage alone; the file is kept")
    parser.add_argument("--results", type=Path, default=Path("reports/mutated_models.jsonl"))
    parser.add_argument("--keep", type=Path, default=Path("reports/mutated"), help="where failing files go")
    options = parser.parse_args()
    options.results.parent.mkdir(parents=True, exist_ok=True)
    done = [] if options.only is not None else read(options.results)
    known = {(row.model, row.number) for row in done}
    child = WatchedChild(load_and_predict, LIMITS)
    with (
        options.results.open("a", encoding="utf-8") as file,
        tqdm(total=len(options.models) * options.count) as bar,
    ):
        for model in options.models:
            numbers = range(options.count) if options.only is None else [options.only]
            for row in tried(model, [n for n in numbers if (model.name, n) not in known], options, child):
                file.write(json.dumps(asdict(row)) + "\n")
                file.flush()
                done.append(row)
                bar.update(len(done) - bar.n)
    child.close()
    return report(done)


def read(path: Path) -> list[Outcome]:
    """Read the outcomes of a run that was ended; a last line that was cut short is left out."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [Outcome(**json.loads(line)) for line in lines if line.endswith("}")]


def tried(
    model: Path, numbers: list[int], options: argparse.Namespace, child: WatchedChild
) -> Iterator[Outcome]:
    """Damage a file and predict with it, once for each number."""
    original = model.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{model.suffix}"
        for number in numbers:
            choose = random.Random(f"{options.seed} {model.suffix} {number}")
            sealed = number % 2 == 1
            kind, data = damaged(
                choose, unsealed(original, model.suffix) if sealed else original, model.suffix
            )
            path.write_bytes(seal(data, model.suffix) if sealed else data)
            outcome = child.run(path)
            if outcome not in GOOD or options.only is not None:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{model.stem}_{number}{model.suffix}").write_bytes(path.read_bytes())
            yield Outcome(model.name, number, kind, sealed, outcome)


def load_and_predict(path: Path) -> str:
    """The child's work: the way that `predict --model FILE` takes."""
    try:
        prediction = TrashClassifier.load(path).predict(PHOTO)
    except TrashClassifierError as error:
        if not (error.found and error.hint):
            return f"silent: {error!r}"
        return "not finite, refused" if "not finite" in error.found else "refused"
    values = list((prediction.probabilities or {}).values())
    if prediction.error is not None or not values:
        return f"no answer: {prediction.error}"
    if not all(math.isfinite(value) and 0 <= value <= 1 for value in [*values, prediction.probability]):
        return f"wrong answer: {values}"
    return "answered" if abs(sum(values) - 1) < 1e-2 else f"wrong answer: its sum is {sum(values)}"


def unsealed(model: bytes, suffix: str) -> bytes:
    """A model without its digest."""
    if suffix == ".onnx":
        return model[: -len(file_digest.sealed_onnx(b""))]
    with zipfile.ZipFile(io.BytesIO(model)) as packed:
        members = [info for info in packed.infolist() if info.filename != file_digest.MEMBER]
        out = io.BytesIO(model[: min(info.header_offset for info in members)])
        out.seek(0, io.SEEK_END)
        with zipfile.ZipFile(out, "a") as copied:
            for info in members:
                copied.writestr(info, packed.read(info))
    return out.getvalue()


def seal(model: bytes, suffix: str) -> bytes:
    """A damaged model with a digest that fits it."""
    try:
        return file_digest.sealed_onnx(model) if suffix == ".onnx" else file_digest.sealed_tflite(model)
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return model  # no digest can be appended to such a zip


def damaged(choose: random.Random, model: bytes, suffix: str) -> tuple[str, bytes]:
    """A kind of damage, and the model with it."""
    data = bytearray(model)
    while data == model:  # zeros may meet zeros
        kind = choose.choice([*DAMAGES])
        DAMAGES[kind](choose, data, suffix)
    return kind, bytes(data)


def flip_bits(choose: random.Random, data: bytearray, _: str) -> None:
    for _ in range(choose.choice((1, 1, 8, 100, 10_000))):
        data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)


def flip_bits_of_structure(choose: random.Random, data: bytearray, _: str) -> None:
    for _ in range(choose.choice((1, 1, 4, 16))):
        data[structure(choose, len(data))] ^= 1 << choose.randrange(8)


def change_numbers(choose: random.Random, data: bytearray, _: str) -> None:
    """Offsets, lengths, shapes and types: a flatbuffer's are aligned, a protocol buffer's are not."""
    for _ in range(choose.choice((1, 1, 2, 8))):
        at, width = structure(choose, len(data)), choose.choice((1, 2, 4, 4, 4))
        at -= at % width if choose.random() < 0.5 else 0
        data[at : at + width] = (choose.choice(ODD) % 256**width).to_bytes(width, "little")


def cut_short(choose: random.Random, data: bytearray, _: str) -> None:
    del data[
        choose.choice(
            (choose.randrange(1000), choose.randrange(len(data)), len(data) - choose.randrange(1, 1000))
        ) :
    ]


def cut_out(choose: random.Random, data: bytearray, _: str) -> None:
    at = structure(choose, len(data))
    del data[at : at + choose.choice((1, 4, 64, 4096))]


def swap_blocks(choose: random.Random, data: bytearray, _: str) -> None:
    size = choose.choice((4, 64, 4096, 2**17))
    one, other = (choose.randrange(max(1, len(data) - size)) for _ in range(2))
    if abs(one - other) >= size:
        data[one : one + size], data[other : other + size] = (
            data[other : other + size],
            data[one : one + size],
        )


def double_block(choose: random.Random, data: bytearray, _: str) -> None:
    at = structure(choose, len(data))
    data[at:at] = data[at : at + choose.choice((4, 64, 4096))]


def zero_block(choose: random.Random, data: bytearray, _: str) -> None:
    fill(choose, data, b"\0")


def nan_block(choose: random.Random, data: bytearray, suffix: str) -> None:
    fill(choose, data, choose.choice(NAN[suffix]))


def fill(choose: random.Random, data: bytearray, pattern: bytes) -> None:
    size = choose.choice((4, 256, 2**16, 2**20)) & ~3
    at = choose.randrange(max(4, len(data) - size)) & ~3
    size = min(size, len(data) - at)
    data[at : at + size] = (pattern * (size // len(pattern) + 1))[:size]


def structure(choose: random.Random, size: int) -> int:
    """A place at which tables lie rather than weights: the first or the last of a file's bytes."""
    front, back = choose.randrange(min(size, 2**14)), size - 1 - choose.randrange(min(size, 2**17))
    return choose.choice((min(front, 63), front, back, back, choose.randrange(size)))


DAMAGES = {
    "bits": flip_bits,
    "bits of the structure": flip_bits_of_structure,
    "numbers": change_numbers,
    "cut short": cut_short,
    "cut out": cut_out,
    "swapped": swap_blocks,
    "doubled": double_block,
    "zeroed": zero_block,
    "NaN": nan_block,
}


def report(rows: list[Outcome]) -> int:
    """Print counts and findings; 1 if there are findings."""
    for sealed in (False, True):
        print("the digest fits the damage" if sealed else "the digest is that of the good file")
        for model in sorted({row.model for row in rows}):
            counts = Counter(
                row.outcome.partition(":")[0] for row in rows if row.model == model and row.sealed == sealed
            )
            print(f"  {model}: {', '.join(f'{count} {name}' for name, count in counts.most_common())}")
    findings = [row for row in rows if row.outcome not in GOOD]
    print(f"{len(rows)} files, {len(findings)} findings")
    for row in findings[:20]:
        print(f"  {row.model} {row.number} ({row.kind}): {row.outcome[:200]}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
