"""What tracking costs: the quickstart's training with and without an offline W&B run, in turns: bench_tracking.py --rounds 5

Prints the medians of whole processes (start of Python included) and their ratio, with the range of the rounds' own ratios.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
KINDS = {"none": [], "wandb": ["--tracker", "wandb"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").mkdir()
        (Path(folder) / "data" / "sample").symlink_to(ROOT / "data" / "sample")
        seconds(folder, ["data", "sample"])
        seconds(folder, train([]))  # fills the caches
        rounds = []
        for number in range(arguments.rounds):
            order = list(KINDS) if number % 2 == 0 else list(reversed(KINDS))
            rounds.append({kind: seconds(folder, train(KINDS[kind])) for kind in order})
            print(", ".join(f"{kind} {rounds[-1][kind]:.1f} s" for kind in KINDS), file=sys.stderr)
    medians = {kind: statistics.median(one[kind] for one in rounds) for kind in KINDS}
    ratios = sorted(one["wandb"] / one["none"] for one in rounds)
    print(
        f"training of the quickstart, medians of {len(rounds)} rounds in turns: not tracked {medians['none']:.1f} s, "
        f"offline W&B {medians['wandb']:.1f} s, ratio {medians['wandb'] / medians['none']:.3f} "
        f"(rounds {ratios[0]:.3f} to {ratios[-1]:.3f})"
    )


def train(flags: list[str]) -> list[str]:
    return ["train", "sample", "--config", str(ROOT / "configs/quickstart.yaml"), *flags]


def seconds(folder: str, arguments: list[str]) -> float:
    begun = time.perf_counter()
    line = [sys.executable, "-m", "image_classification_trash", *arguments]
    environment = {**os.environ, "WANDB_MODE": "offline"}
    subprocess.run(line, cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
