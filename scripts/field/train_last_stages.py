"""Fine-tune the last stages of the networks for the field further, on a CPU, with a pool of photos that are altered once.

    python scripts/field/train_last_stages.py draw --packed packed --state state --weights weights
    python scripts/field/train_last_stages.py left-out --packed packed --state state --weights weights --output results
    python scripts/field/train_last_stages.py final --packed packed --state state --weights weights --output results

`weights` holds `shipped`, from which the trainings for the field began, and `small` and `large`, which `choose_field_model.py`
made of them. `left-out` trains on all families but one, and begins from `shipped`, which has seen no field photo; `final`
begins from `small`, with all three as teachers. Each shard and each training is written when it is done, and a run that is
started again leaves out what is there. Two processes of one thread each are faster than one of two: `--part 0/2`, `--part 1/2`.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import field_networks
import numpy as np
import torch
import torch.nn.functional as F
from field_jobs import CLASSES, FAMILIES, SLICE, Floats, Ints, Job, Table, draw_weights
from field_networks import FieldNetwork, load_weights, save_network
from field_pool import (
    ALTERED,
    FROZEN,
    GENTLY,
    GROUND_FAMILY,
    OTHER_GROUND,
    Pool,
    Watchers,
    draw_shard,
    drawers,
)
from field_training import (
    Material,
    Trained,
    collect_results,
    decode_all,
    fit,
    keep_result,
    loss_weights,
    measure,
    named_file,
    smoothed_targets,
    weights_file,
)
from tqdm import tqdm

KEPT = ("shipped", "small")


@dataclass(frozen=True)
class Course:
    """One training of the last stages.

    Attributes:
        start: `shipped` or `small`, whose weights it begins from.
        altered, gentle: draws of a batch of the altered photos of all sources, and of TrashNet's nearly as they are.
        teacher_share: weight of the teachers' probabilities in the targets; the label has the rest.
    """

    name: str
    start: str
    leave_out: str
    seed: int = 0
    steps: int = 140
    altered: int = 89
    gentle: int = 24
    teacher_share: float = 0.0

    def job(self) -> Job:
        """The same in the terms of `field_jobs`."""
        batch = self.altered + self.gentle + ALTERED.outlier_count
        return Job(self.name, replace(ALTERED, batch=batch), self.leave_out, self.seed)


LEFT_OUT = [Course(f"last/{family}", "shipped", family) for family in FAMILIES]
"""Trainings that show what this brings on sources that they did not learn from."""
FINAL = [
    Course("last-0", "small", SLICE, 20, 320, teacher_share=0.6),
    Course("last-1", "small", SLICE, 21, 280, altered=41, gentle=72, teacher_share=0.3),
]


class Draws:
    """Batches out of the pool for one course: each draw as likely as the course's own weights would have it."""

    def __init__(self, course: Course, table: Table, pool: Pool) -> None:
        self._course, self._pool = course, pool
        self._label = torch.from_numpy(table.label)
        self._in_trashnet = table.split == "train"
        share = self._shares(course, table)
        known = (pool.rows >= 0) & (share[pool.rows] > 0)
        gently = pool.kinds == GENTLY
        altered = pool.kinds == OTHER_GROUND if course.leave_out == GROUND_FAMILY else ~gently
        waste = [np.flatnonzero(known & chosen) for chosen in (altered, gently)]
        outliers = np.flatnonzero((pool.rows < 0) & altered)
        weights = [*(share[pool.rows[draws]] for draws in waste), np.ones(len(outliers))]
        self._sets = [(draws, w / w.sum()) for draws, w in zip([*waste, outliers], weights, strict=True)]
        self._rng = np.random.default_rng(course.seed)

    @staticmethod
    def _shares(course: Course, table: Table) -> Floats:
        """How often each row should be drawn, as a multiple of how often the pool was drawn from it, (N,)."""
        drawn, wanted = np.zeros(len(table.label)), np.zeros(len(table.label))
        for shares, job in ((drawn, Job("", ALTERED)), (wanted, course.job())):
            rows = table.training(job)
            shares[rows] = draw_weights(table, rows, job.recipe)
        return np.divide(wanted, drawn, out=np.zeros_like(wanted), where=drawn > 0)

    def loss(self, network: FieldNetwork) -> torch.Tensor:
        """Draw a batch and compute the loss on it."""
        counts = self._course.altered, self._course.gentle, ALTERED.outlier_count
        chosen = np.concatenate(
            [self._rng.choice(draws, n, p=p) for (draws, p), n in zip(self._sets, counts, strict=True)]
        )
        scores = network.head(network.tail(self._pool.activations(self._course.start, chosen)))
        weights = loss_weights(len(chosen), ALTERED.outlier_count)
        return (F.cross_entropy(scores, self._targets(chosen), reduction="none") * weights).mean()

    def _targets(self, chosen: Ints) -> torch.Tensor:
        """Smoothed labels, mixed with the teachers' probabilities where there is waste."""
        rows = self._pool.rows[chosen]
        targets = smoothed_targets(self._label, torch.from_numpy(rows), ALTERED.smoothing)
        if not self._course.teacher_share:
            return targets
        shipped, small, large = (
            torch.softmax(torch.from_numpy(self._pool.scores[name][chosen]), 1)
            for name in ("shipped", "small", "large")
        )
        in_trashnet = torch.from_numpy(self._in_trashnet[rows])[:, None]
        distilled = torch.where(in_trashnet, (shipped + small + large) / 3, (small + large) / 2)
        share = self._course.teacher_share * torch.from_numpy(rows >= 0).float()[:, None]
        return torch.lerp(targets, distilled, share)


def train(course: Course, draws: Draws, weights: Path) -> Trained:
    """Train the last stages and the head of one network."""
    recipe = course.job().recipe
    network = FieldNetwork("efficientnet_lite0", len(CLASSES), FROZEN, recipe.dropout)
    load_weights(network, weights / f"{course.start}.safetensors")
    network.to(memory_format=torch.channels_last)
    network.freeze(half=False)
    with tqdm(total=course.steps, desc=course.name, unit="step") as bar:

        def next_loss() -> torch.Tensor:
            bar.update()
            return draws.loss(network)

        return fit(network, recipe, course.steps, next_loss)


def run(course: Course, material: Material, pool: Pool, options: argparse.Namespace) -> None:
    """Train, measure and write one course, unless it is there."""
    results = options.state / "results"
    if named_file(results, course.name, ".json").exists():
        return
    torch.manual_seed(course.seed)
    began = time.monotonic()
    trained = train(course, Draws(course, material.table, pool), options.weights)
    seconds = time.monotonic() - began
    record, arrays = measure(course.job(), material, trained)
    save_network(trained.blend(1.0), weights_file(options.weights, course.name), 1.0)
    record |= {"course": asdict(course), "rate": trained.rate, "losses": trained.losses, "seconds": seconds}
    keep_result(results, course.name, record, arrays)
    figures = {blend: round(100 * found["macro"], 1) for blend, found in record["left"].items()}
    print(f"{course.name}: macro accuracy on what is left out, by blend: {figures}", flush=True)


def collect(courses: Sequence[Course], options: argparse.Namespace) -> None:
    """Copy the results of the courses that are done into the output folder."""
    results = options.state / "results"
    files = {course.name: named_file(results, course.name, ".json") for course in courses}
    records = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    collect_results(results, records, options.output, f"last-{options.step}")


def draw(material: Material, options: argparse.Namespace, numbers: list[int]) -> None:
    """Draw the shards that are not there yet."""
    folder = options.state / "pool"
    folder.mkdir(exist_ok=True)
    kept = {name: options.weights / f"{name}.safetensors" for name in KEPT}
    sources, watch = drawers(material), Watchers(kept, {"large": options.weights / "large.safetensors"})
    missing = [number for number in numbers if not (folder / f"{number:03d}.npz").exists()]
    for number in tqdm(missing, desc="draw", unit="shard"):
        draw_shard(folder, number, sources, watch)


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("step", choices=["draw", "left-out", "final"])
    parser.add_argument("--packed", type=Path, required=True, help="what pack_field_photos.py wrote")
    parser.add_argument(
        "--state", type=Path, required=True, help="folder of decoded photos, the pool and results"
    )
    parser.add_argument("--weights", type=Path, required=True, help="folder of networks")
    parser.add_argument("--output", type=Path, required=True, help="folder to collect results in")
    parser.add_argument(
        "--shards", type=int, default=40, help="of 1,200 draws each, which the pool is to have"
    )
    parser.add_argument("--part", default="0/1", help="which share of the work, as 0/2 for the first half")
    return parser.parse_args()


def main() -> None:
    """Run this process's share of one step."""
    options = read_options()
    part, parts = map(int, options.part.split("/"))
    torch.set_num_threads(1 if parts > 1 else 2)
    field_networks.LAYOUT = torch.channels_last
    (options.state / "results").mkdir(parents=True, exist_ok=True)
    decode_all(options.packed, options.state, None)
    material = Material.load(options.packed, options.state, torch.device("cpu"), False, False)
    if options.step == "draw":
        draw(material, options, list(range(options.shards))[part::parts])
        return
    pool = Pool.read(options.state / "pool")
    courses = LEFT_OUT if options.step == "left-out" else FINAL
    for course in courses[part::parts]:
        run(course, material, pool, options)
    collect(courses, options)


if __name__ == "__main__":
    main()
