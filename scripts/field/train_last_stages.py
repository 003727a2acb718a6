"""Go on training the last stages of networks for the field on a CPU, from a pool of photos that are drawn and altered once.

    python scripts/field/train_last_stages.py draw --packed packed --state state --weights weights
    python scripts/field/train_last_stages.py left-out --packed packed --state state --weights weights --output results
    python scripts/field/train_last_stages.py final --packed packed --state state --weights weights --output results

`weights` holds `shipped`, `small` and `large`: the network that the trainings for the field began from, and those that were chosen
of them (`choose_field_model.py`). `left-out` trains on all families but one, beginning from `shipped`, which has seen no field photo;
`final` begins from `small` and learns from all three as well. Every shard, and every training, is written when it ends;
what is there is not made again. Two processes of one thread each are faster than one of two: `--part 0/2`, `--part 1/2`.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import field_networks
import numpy as np
import torch
import torch.nn.functional as F
from field_jobs import BLENDS, CLASSES, FAMILIES, SLICE, Floats, Ints, Job, Table, draw_weights
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
from field_training import Material, Trained, decode_all, macro_accuracy, optimizer_of, weights_file

KEPT = ("shipped", "small")
PIECE = 96
OUTLIERS = 7
"""Backgrounds without waste in a batch."""


@dataclass(frozen=True)
class Course:
    """One training of the last stages.

    Attributes:
        start: `shipped` or `small`, whose weights it begins from.
        altered, gentle: draws of a batch of the altered photos of all sources, and of TrashNet's nearly as they are.
        teacher_share: of the targets, what the teachers say instead of the label.
    """

    name: str
    start: str
    leave_out: str
    seed: int = 0
    steps: int = 140
    altered: int = 89
    gentle: int = 24
    learning_rate: float = 1e-3
    backbone_rate: float = 0.5
    teacher_share: float = 0.0
    field_share: float = 0.5

    def job(self) -> Job:
        """The same in the terms of `field_jobs`."""
        rates = {"learning_rate": self.learning_rate, "backbone_rate": self.backbone_rate}
        return Job(
            self.name, replace(ALTERED, field_share=self.field_share, **rates), self.leave_out, self.seed
        )


LEFT_OUT = [Course(f"last/{family}", "shipped", family) for family in FAMILIES]
"""Trainings that say what this brings on sources that were not seen."""
FINAL = [
    Course("last-0", "small", SLICE, 20, 320, teacher_share=0.6),
    Course("last-1", "small", SLICE, 21, 280, altered=41, gentle=72, teacher_share=0.3),
]


class Draws:
    """Batches out of the pool for one course: each draw as likely as the course's own weights would have it."""

    def __init__(self, course: Course, table: Table, pool: Pool) -> None:
        self._course, self._pool = course, pool
        self._label = table.label
        share = self._shares(course, table)
        known = np.flatnonzero((pool.rows >= 0) & (share[pool.rows] > 0))
        gently = pool.kinds == GENTLY
        grounds = pool.kinds == OTHER_GROUND if course.leave_out == GROUND_FAMILY else ~gently
        altered = np.zeros(len(gently), bool)
        altered[known] = grounds[known]
        self.sets = [self._weighted(np.flatnonzero(chosen), share) for chosen in (altered, gently)]
        outliers = np.flatnonzero((pool.rows < 0) & grounds)
        self.sets.append((outliers, np.full(len(outliers), 1 / len(outliers))))
        self.photos = len(np.unique(pool.rows[known]))
        self._specialist = table.split == "train"

    @staticmethod
    def _shares(course: Course, table: Table) -> Floats:
        """How often each row should be drawn, as a multiple of how often the pool was drawn from it, (N,)."""
        drawn, wanted = np.zeros(len(table.label)), np.zeros(len(table.label))
        for shares, job in ((drawn, Job("", ALTERED)), (wanted, course.job())):
            rows = table.training(job)
            shares[rows] = draw_weights(table, rows, job.recipe)
        return np.divide(wanted, drawn, out=np.zeros_like(wanted), where=drawn > 0)

    def _weighted(self, draws: Ints, share: Floats) -> tuple[Ints, Floats]:
        weight = share[self._pool.rows[draws]]
        return draws, weight / weight.sum()

    def batch(self, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Activations (B, C, h, w), targets (B, classes) and loss weights (B,)."""
        counts = self._course.altered, self._course.gentle, OUTLIERS
        parts = [rng.choice(draws, count, p=p) for (draws, p), count in zip(self.sets, counts, strict=True)]
        chosen = np.concatenate(parts)
        weights = torch.ones(len(chosen))
        weights[-OUTLIERS:] = 0.5
        return self._pool.activations(self._course.start, chosen), self._targets(chosen), weights

    def _targets(self, chosen: Ints) -> torch.Tensor:
        """Smoothed labels, mixed with what the teachers say; on a background without waste all classes are alike."""
        rows, smoothing = self._pool.rows[chosen], ALTERED.smoothing
        targets = np.eye(len(CLASSES))[self._label[rows]] * (1 - smoothing) + smoothing / len(CLASSES)
        if self._course.teacher_share:
            said = {name: _softmax(scores[chosen]) for name, scores in self._pool.taught.items()}
            of_field = (said["small"] + said["large"]) / 2
            of_trashnet = (of_field * 2 + said["shipped"]) / 3
            taught = np.where(self._specialist[rows][:, None], of_trashnet, of_field)
            targets += self._course.teacher_share * (taught - targets)
        targets[rows < 0] = 1 / len(CLASSES)
        return torch.from_numpy(targets).float()


def _softmax(scores: np.ndarray) -> np.ndarray:
    return torch.softmax(torch.from_numpy(scores), 1).numpy()


def last_stages(network: FieldNetwork, x: torch.Tensor) -> torch.Tensor:
    """Activations (B, C, h, w) to embeddings (B, D)."""
    for stage in network.stages()[FROZEN:]:
        x = stage(x)
    return x.mean((2, 3))


def train(course: Course, draws: Draws, weights: Path) -> Trained:
    """Train the last stages and the head of one network, with a running average of its weights."""
    recipe = course.job().recipe
    network = FieldNetwork("efficientnet_lite0", len(CLASSES), FROZEN, recipe.dropout)
    load_weights(network, weights / f"{course.start}.safetensors")
    network.to(memory_format=torch.channels_last)
    network.freeze(half=False)
    own = network.averaged_tensors()
    start, average = [value.clone() for value in own], [value.clone() for value in own]
    optimizer, rng = optimizer_of(network, [], recipe), np.random.default_rng(course.seed)
    losses: list[float] = []
    began = time.monotonic()
    network.train()
    for step in range(course.steps):
        progress = step / course.steps
        for group in optimizer.param_groups:
            rise = min(1.0, (progress + 1 / course.steps) / recipe.warmup)
            group["lr"] = (
                recipe.learning_rate * group["share"] * rise * 0.5 * (1 + math.cos(math.pi * progress))
            )
        x, targets, weight = draws.batch(rng)
        scores = network.head(last_stages(network, x))
        loss = (F.cross_entropy(scores, targets, reduction="none") * weight).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, own, 1 - min(recipe.ema, (1 + step) / (10 + step)))
        losses.append(float(loss.detach()))
        if step % 20 == 19:
            left = (time.monotonic() - began) / (step + 1) * (course.steps - step - 1)
            print(
                f"{course.name} {step + 1}/{course.steps} loss {np.mean(losses[-20:]):.3f}, {left:.0f} s left",
                flush=True,
            )
    rate = course.steps * len(weight) / (time.monotonic() - began)
    return Trained(
        network, start, average, course.steps, course.steps, rate, losses[:: max(1, len(losses) // 20)]
    )


@torch.inference_mode()
def plain_activations(material: Material, state: Path, weights: Path) -> dict[str, np.ndarray]:
    """What the frozen stages make of all photos of waste as they are, (N, h, w, C), by network; written once."""
    kept = {}
    for name in KEPT:
        file = state / f"plain-{name}.npy"
        if not file.exists():
            network = FieldNetwork("efficientnet_lite0", len(CLASSES), FROZEN, 0.0)
            load_weights(network, weights / f"{name}.safetensors")
            network.eval()
            network.freeze(half=False)
            every = torch.arange(len(material.table.label))
            size = (ALTERED.height, ALTERED.width)
            parts = [
                network.stem(material.photos(rows, size)).permute(0, 2, 3, 1).half()
                for rows in every.split(32)
            ]
            np.save(file.with_suffix(".partial.npy"), torch.cat(parts).contiguous().numpy())
            file.with_suffix(".partial.npy").rename(file)
        kept[name] = np.load(file, mmap_mode="r")
    return kept


@torch.inference_mode()
def scores_of(network: FieldNetwork, activations: np.ndarray, rows: Ints) -> torch.Tensor:
    """Scores (n, classes) of photos as they are, before temperature."""
    parts = []
    for part in np.array_split(rows, max(1, math.ceil(len(rows) / PIECE))):
        x = torch.from_numpy(activations[part]).float().permute(0, 3, 1, 2)
        parts.append(network.head(last_stages(network, x)))
    return torch.cat(parts)


def measure(
    course: Course, trained: Trained, table: Table, activations: np.ndarray
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Measure at every blend: a record, and the scores it rests on."""
    label = torch.from_numpy(table.label)
    record: dict[str, Any] = {"left": {}, "val": {}}
    arrays: dict[str, list[np.ndarray]] = {"left_scores": [], "val_scores": []}
    places = {"left": table.left_out(course.job()), "val": table.validation()}
    for share in BLENDS:
        network = trained.blend(share)
        for name, rows in places.items():
            scores = scores_of(network, activations, rows)
            right = (scores.argmax(1) == label[rows]).float()
            arrays[f"{name}_scores"].append(scores.half().numpy())
            record[name][str(share)] = {
                "macro": macro_accuracy(scores, label[rows]),
                "accuracy": float(right.mean()),
            }
    stacked = {name: np.stack(scores) for name, scores in arrays.items()}
    return record, stacked | {f"{name}_rows": rows for name, rows in places.items()}


def run(course: Course, material: Material, pool: Pool, options: argparse.Namespace) -> None:
    """Train, measure and write one course, unless it is there."""
    results = options.state / "results" / f"{course.name.replace('/', '--')}.json"
    if results.exists():
        return
    torch.manual_seed(course.seed)
    plain = plain_activations(material, options.state, options.weights)
    began = time.monotonic()
    trained = train(course, Draws(course, material.table, pool), options.weights)
    seconds = time.monotonic() - began
    record, arrays = measure(course, trained, material.table, plain[course.start])
    save_network(trained.blend(1.0), weights_file(options.weights, course.name), 1.0)
    np.savez(results.with_suffix(".npz"), **arrays)
    record |= {"course": asdict(course), "rate": trained.rate, "losses": trained.losses, "seconds": seconds}
    print(
        course.name,
        {
            b: [round(100 * record[k][b]["macro" if k == "left" else "accuracy"], 1) for k in ("left", "val")]
            for b in record["left"]
        },
        flush=True,
    )
    results.write_text(json.dumps(record))


def collect(courses: Sequence[Course], options: argparse.Namespace) -> None:
    """Copy the results of courses that are done into the output folder: one JSON and one archive of all arrays."""
    records, arrays = {}, {}
    for course in courses:
        file = options.state / "results" / f"{course.name.replace('/', '--')}.json"
        if file.exists():
            records[course.name] = json.loads(file.read_text())
            with np.load(file.with_suffix(".npz")) as stored:
                arrays |= {f"{course.name}/{key}": stored[key] for key in stored.files}
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / f"last-{options.step}.json").write_text(json.dumps(records))
    np.savez_compressed(options.output / f"last-{options.step}.npz", **arrays)


def draw(material: Material, options: argparse.Namespace, numbers: list[int]) -> None:
    """Draw the shards that are not there yet."""
    folder = options.state / "pool"
    folder.mkdir(exist_ok=True)
    kept = {name: options.weights / f"{name}.safetensors" for name in KEPT}
    sources, watch = drawers(material), Watchers(kept, {"large": options.weights / "large.safetensors"})
    began, missing = time.monotonic(), [n for n in numbers if not (folder / f"{n:03d}.npz").exists()]
    for done, number in enumerate(missing, 1):
        draw_shard(folder, number, sources, watch)
        left = (time.monotonic() - began) / done * (len(missing) - done)
        print(f"shard {number}, {done} of {len(missing)}, {left:.0f} s left", flush=True)


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
