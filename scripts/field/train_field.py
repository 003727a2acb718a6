"""Train for the field on one GPU: ingredients, leave-one-family-out, and the models to ship, many networks side by side.

    python scripts/field/pack_field_photos.py --trashnet dataset-resized.zip --field fieldphotos --output packed
    python scripts/field/import_shipped.py --packed packed --state state --output packed/shipped.safetensors
    python scripts/field/train_field.py prepare --packed packed --state state --output results
    python scripts/field/train_field.py variants --packed packed --state state --output results --seconds 150
    python scripts/field/train_field.py final --packed packed --state state --output results --seconds 480 --use
    python scripts/field/train_field.py variants --packed packed --state /tmp/tiny --output /tmp/tiny-results --tiny

Photos are decoded once and lie in the accelerator's memory; they are altered there, in batches. Every training writes its
result when it ends, and a run that is started again leaves out what is done. It needs torch, timm, safetensors, Pillow,
OpenCV and NumPy, and `image_classification_trash.features.synthesis.backgrounds`, but neither pydantic nor Lightning.
"""

import argparse
import json
import os
import queue
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import field_networks
import numpy as np
import torch
import torch.multiprocessing as mp
from field_jobs import CHOSEN_BY, VARIANTS, Job, Recipe, Table, cost, final_jobs, variant_jobs
from field_networks import FieldNetwork, load_backbone
from field_training import (
    Material,
    collect_results,
    decode_all,
    embed_rows,
    named_file,
    run_job,
    time_steps,
    weights_file,
)

SHIPPED = ("final-0", "teacher-0", "teacher-1", "student-0", "student-1")
"""Networks that are copied to the output folder."""
GRACE = 8.0
"""Seconds that the last trainings have for their measurements."""
Record = dict[str, Any]


def set_up(options: argparse.Namespace) -> Material:
    """Ready this process and its device, at the precision and layout that `prepare` found fastest."""
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.benchmark_limit = 4
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    file = options.state / "speed.json"
    fastest = json.loads(file.read_text()) if file.exists() else {"half": False, "last": True}
    field_networks.LAYOUT = torch.channels_last if fastest["last"] else torch.contiguous_format
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Material.load(options.packed, options.state, device, fastest["half"], options.tiny)


def work(number: int, options: argparse.Namespace, jobs: mp.Queue, done: mp.Queue) -> None:
    """Train jobs from the queue until there is a None; a failure is reported and does not end the others."""
    material = set_up(options)
    done.put(("ready", number, None))
    while (wanted := jobs.get()) is not None:
        job, end = wanted
        try:
            record = run_job(job, material, max(2.0, end - time.monotonic()), options.state / "results")
            done.put(("done", job.name, record))
        except Exception as error:  # reported with its job, so that one bad training ends no other
            done.put(("failed", job.name, f"{type(error).__name__}: {error}"))


class Stage:
    """Runs jobs on worker processes, a student after its teachers, until the time is up."""

    def __init__(self, jobs: Sequence[Job], options: argparse.Namespace) -> None:
        self._options, self._began = options, time.monotonic()
        self._end = self._began + options.seconds
        self.records: dict[str, Record] = {}
        for job in jobs:
            stored = named_file(options.state / "results", job.name, ".json")
            if stored.exists():
                self.records[job.name] = json.loads(stored.read_text())
        self._pending = [job for job in jobs if job.name not in self.records]
        context = mp.get_context("spawn")
        self._jobs, self._done = context.Queue(), context.Queue()
        arguments = (options, self._jobs, self._done)
        self._workers = [
            context.Process(target=work, args=(i, *arguments), daemon=True) for i in range(options.workers)
        ]
        self._idle, self._images, self._kept = 0, 0.0, self._began

    def run(self) -> dict[str, Record]:
        """Run what can be run; returns records by job."""
        for worker in self._workers:
            worker.start()
        while self._pending or self._idle < len(self._workers):
            self._hand_out()
            left = self._end + GRACE - time.monotonic()
            try:
                self._take_in(*self._done.get(timeout=max(0.1, left)))
                self._keep_safe()
            except queue.Empty:
                print(f"time is up; without {[job.name for job in self._pending]}", flush=True)
                break
            if self._idle == len(self._workers) and not self._ready():
                break
        for worker in self._workers:
            worker.terminate()
        return self.records

    def _keep_safe(self) -> None:
        """Collect what there is every now and then, in case the machine is taken away."""
        if time.monotonic() - self._kept > 45:
            collect(self._options, self.records)
            self._kept = time.monotonic()

    def _ready(self) -> list[Job]:
        """Jobs whose teachers are trained, if there is time left to begin one."""
        if time.monotonic() > self._end - 12:
            return []
        return [job for job in self._pending if all(name in self.records for name in job.teachers)]

    def _hand_out(self) -> None:
        """Give every idle worker a job."""
        for job in self._ready()[: self._idle]:
            self._pending.remove(job)
            self._idle -= 1
            until = self._began + (self._end - self._began) * job.until
            self._jobs.put((job, until))

    def _take_in(self, kind: str, name: Any, content: Any) -> None:
        """Note what a worker reports."""
        self._idle += 1
        now = time.monotonic() - self._began
        if kind == "ready":
            print(f"{now:6.1f} s  worker {name} is ready", flush=True)
        elif kind == "failed":
            print(f"{now:6.1f} s  {name} FAILED: {content}", flush=True)
        else:
            self.records[name] = content
            recipe = content["job"]["recipe"]
            self._images += content["steps"] * recipe["batch"]
            left, val = content["left"]["1.0"]["macro"], content["val"]["1.0"]["accuracy"]
            print(
                f"{now:6.1f} s  {name:28s} left out {100 * left:5.1f}  val {100 * val:5.1f}  {content['steps']}/{content['planned']} steps"
                f"  {content['seconds']:.1f} s  {content['rate']:.0f}/s  all together {self._images / now:.0f}/s",
                flush=True,
            )


def prepare(options: argparse.Namespace) -> None:
    """Find the fastest precision and layout, and embed all photos by both networks as ImageNet left them."""
    material = set_up(options)
    found = []
    for half, last in ((False, True), (True, True), (False, False)) if material.device.type == "cuda" else ():
        field_networks.LAYOUT = torch.channels_last if last else torch.contiguous_format
        rates = time_steps(replace(material, half=half))
        found.append({"half": half, "last": last, **rates})
        print(found[-1], flush=True)
    if found:
        fastest = max(found, key=lambda one: one["learned"] * (0.9 if one["half"] else 1.0))
        (options.state / "speed.json").write_text(json.dumps(fastest))
        field_networks.LAYOUT = torch.channels_last if fastest["last"] else torch.contiguous_format
    for name in ("efficientnet_lite0", "efficientnet_lite2")[: 1 if options.tiny else 2]:
        recipe = Recipe(architecture=name)
        network = FieldNetwork(name, 6, recipe.frozen, 0.0).eval()
        load_backbone(network, options.packed / f"{name}.safetensors")
        network.to(material.device, memory_format=field_networks.LAYOUT)
        network.freeze(half=material.device.type == "cuda")
        rows = np.arange(len(material.table.label))
        save_arrays(options, f"frozen-{name}", embed_rows(network, material, rows, recipe))


def save_arrays(options: argparse.Namespace, name: str, arrays: dict[str, np.ndarray]) -> None:
    """Write an archive into the output folder."""
    options.output.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(options.output / f"{name}.npz", **arrays)


def variant_table(records: dict[str, Record]) -> dict[str, dict[str, float]]:
    """For each variant and blend the mean over families, TrashNet's validation accuracy, and the mean of both."""
    table = {}
    for name in VARIANTS:
        own = [records.get(f"{name}/{family}") for family in CHOSEN_BY]
        if None in own:
            continue
        for share in own[0]["left"]:
            left = np.mean([record["left"][share]["macro"] for record in own])
            val = np.mean([record["val"][share]["accuracy"] for record in own])
            table[f"{name} @{share}"] = {
                "left": 100 * left,
                "val": 100 * val,
                "both": 50 * (left + val),
                **{family: 100 * r["left"][share]["macro"] for family, r in zip(CHOSEN_BY, own, strict=True)},
            }
    return table


def suggest(table: dict[str, dict[str, float]], least: float) -> list[str]:
    """Variants that beat the base by `least` points in the mean of field and TrashNet, fully fine-tuned."""
    base = table.get("base @1.0")
    if base is None:
        return []
    gains = {
        name: table[f"{name} @1.0"]["both"] - base["both"] for name in VARIANTS if f"{name} @1.0" in table
    }
    excluded = ("base", "lite2", "TrashNet alone")
    return [name for name, gain in gains.items() if gain >= least and name not in excluded]


def print_variants(table: dict[str, dict[str, float]]) -> None:
    """Print the table, all blends of the base and full fine-tuning of the rest."""
    for name, row in table.items():
        if name.startswith("base ") or name.endswith("@1.0"):
            families = " ".join(f"{row[family]:5.1f}" for family in CHOSEN_BY)
            print(
                f"{name:32s} left {row['left']:5.1f}  val {row['val']:5.1f}  both {row['both']:5.2f}  | {families}"
            )


def chosen_recipe(options: argparse.Namespace) -> Recipe:
    """The base with the ingredients named by --use, or with those that the variants suggest."""
    names = options.use
    if names is None:
        file = options.state / "suggested.json"
        names = json.loads(file.read_text()) if file.exists() else []
    recipe = Recipe()
    for name in names:
        recipe = replace(recipe, **VARIANTS[name])
    print(f"recipe: base with {names or 'nothing else'}; blend {options.blend}", flush=True)
    return replace(recipe, blend=options.blend)


def planned_jobs(options: argparse.Namespace) -> list[Job]:
    """The jobs of a stage, the final ones as long as the time allows at the measured rate."""
    if options.stage == "variants":
        return variant_jobs(options.variants or list(VARIANTS), options.epochs)
    recipe = chosen_recipe(options)
    table = Table.read(options.packed)
    skipped = tuple(options.skip)
    at_one = [job for job in final_jobs(recipe, 1.0) if not job.name.startswith(skipped)]
    work_at_one = sum(cost(job, len(table.training(job))) for job in at_one)
    scale = float(np.clip(options.seconds * 0.85 * options.rate / work_at_one, 0.3, 1.5))
    print(f"{work_at_one:.3g} photos at scale 1, rate {options.rate:.0f}/s: scale {scale:.2f}", flush=True)
    return [job for job in final_jobs(recipe, options.scale or scale) if not job.name.startswith(skipped)]


def collect(options: argparse.Namespace, records: dict[str, Record]) -> None:
    """Copy results into the output folder: one JSON, one archive of all arrays, and the networks to ship."""
    collect_results(options.state / "results", records, options.output, options.stage)
    for name in SHIPPED:
        file = weights_file(options.state / "weights", name)
        if name in records and file.exists():
            shutil.copy(file, options.output / file.name)


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("stage", choices=["prepare", "variants", "final"])
    parser.add_argument("--packed", type=Path, required=True, help="what pack_field_photos.py wrote")
    parser.add_argument("--state", type=Path, required=True, help="folder of decoded photos and results")
    parser.add_argument("--output", type=Path, required=True, help="folder to collect results in")
    parser.add_argument("--seconds", type=float, default=150, help="for the trainings of this stage")
    parser.add_argument("--workers", type=int, default=6, help="networks trained side by side")
    parser.add_argument("--epochs", type=float, default=5, help="of a variant")
    parser.add_argument("--variants", nargs="*", choices=list(VARIANTS), help="which; default: all")
    parser.add_argument("--use", nargs="*", choices=list(VARIANTS), help="ingredients of the final recipe")
    parser.add_argument("--blend", type=float, default=1.0, help="share of fine-tuned weights that is saved")
    parser.add_argument("--rate", type=float, default=8000, help="photos a second, all together")
    parser.add_argument("--skip", nargs="*", default=[], help="final jobs whose names begin so")
    parser.add_argument("--scale", type=float, help="of the final epochs, instead of by --rate")
    parser.add_argument("--least-gain", type=float, default=0.7, help="points for a variant to be suggested")
    parser.add_argument("--tiny", action="store_true", help="two steps a training, to try the script")
    return parser.parse_args()


def main() -> None:
    """Decode, train, collect."""
    options = read_options()
    os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")
    for folder in ("results", "weights"):
        (options.state / folder).mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    decode_all(options.packed, options.state, 20 if options.tiny else None)
    print(f"{time.monotonic() - began:.1f} s to decode", flush=True)
    if options.stage == "prepare":
        prepare(options)
        return
    jobs = planned_jobs(options)
    if options.tiny:
        jobs = [replace(job, recipe=replace(job.recipe, height=64, width=96, batch=16)) for job in jobs]
    records = Stage(jobs, options).run()
    if options.stage == "variants":
        table = variant_table(records)
        print_variants(table)
        suggested = suggest(table, options.least_gain)
        (options.state / "suggested.json").write_text(json.dumps(suggested))
        print(f"suggested: {suggested}", flush=True)
    collect(options, records)


if __name__ == "__main__":
    main()
