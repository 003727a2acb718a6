"""Measure how PyTorch's threads should wait for each other: embedding photos on an idle machine and beside busy processes.

    python scripts/bench_waiting.py --rounds 3 --busy 8

GNU's OpenMP, which PyTorch's builds for Linux carry, spins before it sleeps. Beside other work a spinning thread burns the
time that the thread it waits for would need. Each round runs every setting in a process of its own, first on the machine as
it is, then beside busy loops; the table gives medians per photo.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict

import numpy as np

SETTINGS: dict[str, dict[str, str]] = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    **{f"spin {count}": {"GOMP_SPINCOUNT": str(count)} for count in (1000, 5000, 10000)},
}
CHOSEN_BY_COMMAND = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def embed(count: int) -> tuple[float, float]:
    """Embed random photos with EfficientNet-Lite0; return milliseconds by the clock and of computing per photo."""
    from image_classification_trash.networks.network import EmbeddingBackbone, build_network  # noqa: PLC0415

    backbone = EmbeddingBackbone(build_network("efficientnet_lite0", 2))
    photos = np.random.default_rng(0).integers(0, 255, (count, 224, 288, 3), dtype=np.uint8)
    backbone.embed(photos[:32])
    clock, computing = time.perf_counter(), time.process_time()
    backbone.embed(photos)
    return 1000 * (time.perf_counter() - clock) / count, 1000 * (time.process_time() - computing) / count


def measured(setting: dict[str, str], count: int) -> tuple[float, float]:
    """Run `embed` in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name not in CHOSEN_BY_COMMAND}
    command = [sys.executable, __file__, "--embed", str(count)]
    done = subprocess.run(command, env={**environment, **setting}, check=True, capture_output=True, text=True)
    clock, computing = done.stdout.split()
    return float(clock), float(computing)


def main() -> None:
    """Measure all settings and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, default=8, help="busy processes beside the second half")
    parser.add_argument("--photos", type=int, default=256)
    parser.add_argument("--embed", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.embed:
        print(*embed(arguments.embed))
        return
    figures = defaultdict(list)
    for busy in (0, arguments.busy):
        loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            for _ in range(arguments.rounds):
                for name, setting in SETTINGS.items():
                    figures[busy, name].append(measured(setting, arguments.photos // (4 if busy else 1)))
        finally:
            for loop in loops:
                loop.kill()
    print(f"{'busy':>4} {'setting':<12} {'clock ms':>9} {'CPU ms':>9}  a photo")
    for (busy, name), rows in figures.items():
        clock, computing = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{busy:>4} {name:<12} {clock:>9.1f} {computing:>9.1f}")


if __name__ == "__main__":
    main()
