"""One training for the field on one device: photos, batches, teachers, the loop, and what it is measured by.

Used by `scripts/field/train_field.py`. It needs torch, timm, safetensors, Pillow and NumPy, and to draw backgrounds OpenCV and
`image_classification_trash.features.synthesis.backgrounds`.
"""

import io
import itertools
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import field_networks
import numpy as np
import torch
import torch.nn.functional as F
from field_augmentation import Objects, Strength, augment, corrupt, mask_boxes, paste
from field_jobs import (
    BLENDS,
    CLASSES,
    Ints,
    Job,
    Recipe,
    Table,
    class_shares,
    draw_weights,
)
from field_networks import (
    FieldNetwork,
    fold_stages,
    load_backbone,
    load_weights,
    read_network,
    save_network,
)
from PIL import Image
from torch import nn

BACKGROUNDS = 400
PIECE = 96
"""Photos run at once where nothing is learned: as many as a training batch has, so that a GPU knows the size already."""


# Photos.


def decode_all(packed: Path, state: Path, limit: int | None) -> None:
    """Decode the packed photos into `state`/pixels.npy, uint8 (N, 3, H, W), and draw backgrounds, with all cores."""
    if (state / "backgrounds.npy").exists():
        return
    with np.load(packed / "photos.npz") as stored:
        data, offsets = stored["data"].tobytes(), stored["offsets"]
    pieces = [data[start:end] for start, end in itertools.pairwise(offsets)]
    with ProcessPoolExecutor() as pool:
        pixels = np.stack(list(pool.map(_decode, pieces, chunksize=64)))
        count = BACKGROUNDS if limit is None else 20
        drawn = np.stack(list(pool.map(_draw, range(count), chunksize=4)))
    np.save(state / "pixels.npy", pixels)
    np.save(state / "backgrounds.npy", drawn)


def _decode(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1)


def _draw(number: int) -> np.ndarray:
    from image_classification_trash.features.synthesis.backgrounds import TRAINING, draw_background  # noqa: PLC0415  (only here)

    return draw_background(TRAINING, number, (256, 320), 0).transpose(2, 0, 1)


@dataclass(frozen=True)
class Material:
    """Everything that trainings share, on the device.

    Attributes:
        pixels: uint8 (N, 3, 256, 320).
        drawn: uint8 (G, 3, 256, 320), backgrounds drawn by rule.
        backbones: folder of ImageNet weights.
        weights: folder of trained networks.
        half: whether the accelerator computes in float16 with a scaled loss instead of bfloat16.
        tiny: whether to train for a few steps only, to try the script out.
    """

    table: Table
    pixels: torch.Tensor
    drawn: torch.Tensor
    objects: Objects
    backbones: Path
    weights: Path
    device: torch.device
    half: bool
    tiny: bool

    @classmethod
    def load(cls, packed: Path, state: Path, device: torch.device, half: bool, tiny: bool) -> "Material":
        """Read what `decode_all` wrote, and masks."""
        table = Table.read(packed)
        with np.load(packed / "photos.npz") as stored:
            masks = torch.from_numpy(np.unpackbits(stored["masks"], axis=1).reshape(-1, 120, 160)).to(device)
        drawn = torch.from_numpy(np.load(state / "backgrounds.npy")).to(device)
        pixels = torch.from_numpy(np.load(state / "pixels.npy", mmap_mode="c")).to(device)
        objects = Objects(masks, *mask_boxes(masks))
        return cls(table, pixels, drawn, objects, packed, state / "weights", device, half, tiny)

    def rows(self, rows: Ints) -> torch.Tensor:
        """Row numbers on the device; a few of them where the script is only tried out."""
        rows = rows[:: max(1, len(rows) // 8)] if self.tiny else rows
        return torch.from_numpy(rows).to(self.device)

    def autocast(self) -> torch.autocast:
        """Half precision on an accelerator, nothing on a CPU."""
        dtype = torch.float16 if self.half else torch.bfloat16
        return torch.autocast(self.device.type, dtype, enabled=self.device.type == "cuda")

    def photos(self, rows: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Photos as they are, float (B, 3, H, W)."""
        x = self.pixels[rows].float()
        if x.shape[2:] == size:
            return x
        return F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)


def pieces(rows: torch.Tensor) -> Iterator[tuple[torch.Tensor, int]]:
    """Pieces of equal size, the last one filled up, and how many rows of each count: on a GPU each new size costs a search."""
    size = PIECE if rows.is_cuda else min(PIECE, len(rows))
    for part in rows.split(PIECE):
        yield torch.cat([part, part[:1].expand(size - len(part))]), len(part)


# One training.


class Teachers:
    """Networks whose mean probabilities are learned; networks with the same frozen stages share their outputs."""

    def __init__(self, job: Job, material: Material, stages: dict[str, int]) -> None:
        self._groups: dict[str, list[tuple[FieldNetwork, float]]] = {}
        self._material = material
        for name in job.teachers:
            file = weights_file(material.weights, name)
            large = "lite2" in name or "teacher" in name
            architecture = "efficientnet_lite2" if large else "efficientnet_lite0"
            network, temperature = read_network(file, architecture, len(CLASSES), stages["frozen"])
            network.to(material.device, memory_format=field_networks.LAYOUT)
            network.freeze(half=material.device.type == "cuda")
            self._groups.setdefault(architecture, []).append((network, temperature))

    def __bool__(self) -> bool:
        return bool(self._groups)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Mean calibrated probabilities (B, C) of photos (B, 3, H, W) (Beyer et al., 2022)."""
        shares = []
        with torch.no_grad(), self._material.autocast():
            for members in self._groups.values():
                stem = members[0][0].stem(x)
                shares += [torch.softmax(net.head(net.tail(stem)).float() / t, 1) for net, t in members]
        return torch.stack(shares).mean(0)


def smoothed_targets(label: torch.Tensor, rows: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Targets (B, C) of rows (B,) of the labels (N,); equal for all classes on backgrounds without waste, whose row is -1."""
    targets = F.one_hot(label[rows.clamp(min=0)], len(CLASSES)).float()
    targets = targets * (1 - smoothing) + smoothing / len(CLASSES)
    return torch.where((rows < 0)[:, None], 1 / len(CLASSES), targets)


def loss_weights(count: int, outliers: int) -> torch.Tensor:
    """Weights (B,) of the photos of a batch: half for backgrounds without waste, which are last."""
    weights = torch.ones(count)
    weights[count - outliers :] = 0.5
    return weights


class Batches:
    """Draws altered batches of a job's photos, all on the device."""

    def __init__(self, job: Job, material: Material, grounds: Ints | None = None) -> None:
        table, recipe = material.table, job.recipe
        rows = table.training(job)
        weights = draw_weights(table, rows, recipe)
        self.prior = class_shares(table, rows, weights)
        self.photos = len(rows)
        self._job, self.material = job, material
        self._rows = torch.from_numpy(rows).to(material.device)
        pasted = weights if recipe.paste_field else weights * (table.split[rows] == "train")
        self._weights, self._pasted = (
            torch.from_numpy(w).float().to(material.device) for w in (weights, pasted)
        )
        self._label = torch.from_numpy(table.label).to(material.device)
        if grounds is None:
            grounds = table.grounds(job)
        grounds = torch.from_numpy(grounds).to(material.device)
        natural = material.pixels[grounds if recipe.natural else grounds[:0]]
        self._backgrounds = torch.cat([material.drawn, natural])
        self._strength = Strength(**{field.name: getattr(recipe, field.name) for field in fields(Strength)})
        self.outliers = recipe.outlier_count

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch: photos (B, 3, H, W) and targets (B, C); backgrounds without waste, if any, are last."""
        x, rows = self.pictures()
        targets = smoothed_targets(self._label, rows, self._job.recipe.smoothing)
        return self._mixed(x, targets, len(rows) - self.outliers)

    def pictures(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Altered photos (B, 3, H, W) and the rows (B,) that they were, -1 for backgrounds without waste, which are last."""
        recipe = self._job.recipe
        count = recipe.batch - self.outliers
        cut = round(count * recipe.paste)
        rows = torch.cat([self._choose(self._pasted, cut), self._choose(self._weights, count - cut)])
        x = self.material.pixels[rows].float()
        if cut:
            x[:cut] = paste(x[:cut], self.material.objects, rows[:cut], self._backgrounds)
        if self.outliers:
            chosen = torch.randint(len(self._backgrounds), (self.outliers,), device=x.device)
            x = torch.cat([x, self._backgrounds[chosen].float()])
            rows = torch.cat([rows, torch.full_like(chosen, -1)])
        return corrupt(augment(x, self._strength), recipe.corruption), rows

    def loss_weights(self) -> torch.Tensor:
        """Of each photo of a batch, (B,)."""
        return loss_weights(self._job.recipe.batch, self.outliers).to(self.material.device)

    def clean(self) -> Iterator[tuple[torch.Tensor, int, torch.Tensor, torch.Tensor]]:
        """The job's photos as they are, in pieces: photos, how many of them count, their classes, how often each is drawn."""
        size = (self._job.recipe.height, self._job.recipe.width)
        step = max(1, len(self._rows) // 24) if self.material.tiny else 1
        weights = self._weights[::step].split(PIECE)
        for (rows, count), part in zip(pieces(self._rows[::step]), weights, strict=True):
            yield self.material.photos(rows, size), count, self._label[rows[:count]], part

    def _choose(self, weights: torch.Tensor, count: int) -> torch.Tensor:
        if not count:
            return self._rows[:0]
        return self._rows[torch.multinomial(weights, count, replacement=True)]

    def _mixed(self, x: torch.Tensor, targets: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix pairs of photos (Zhang et al., 2018), in half of the batches."""
        if not self._job.recipe.mixup or np.random.random() < 0.5:
            return x, targets
        share = np.random.beta(self._job.recipe.mixup, self._job.recipe.mixup)
        order = torch.randperm(count, device=x.device)
        share = max(share, 1 - share)
        x[:count] = torch.lerp(x[order], x[:count], share)
        targets[:count] = torch.lerp(targets[order], targets[:count], share)
        return x, targets


def fit_linear_head(network: FieldNetwork, batches: Batches, steps: int = 300) -> None:
    """Fit the head on frozen embeddings of the photos as they are (LP-FT, Kumar et al., 2022)."""
    network.eval()
    with torch.no_grad(), batches.material.autocast():
        parts = [(network(x)[:count], label, weight) for x, count, label, weight in batches.clean()]
    embedded, label, weight = (torch.cat(column) for column in zip(*parts, strict=True))
    mean, spread = embedded.mean(0), embedded.std(0) + 1e-3
    standard, weight = (embedded - mean) / spread, weight / weight.sum()
    matrix = torch.zeros(len(CLASSES), network.width, device=embedded.device, requires_grad=True)
    bias = torch.zeros(len(CLASSES), device=embedded.device, requires_grad=True)
    optimizer = torch.optim.Adam([matrix, bias], lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        scores = standard @ matrix.T + bias
        loss = (
            F.cross_entropy(scores, label, reduction="none") * weight
        ).sum() + 0.01 * matrix.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        linear = network.head[-1]
        linear.weight.copy_(matrix / spread)
        linear.bias.copy_(bias - (matrix / spread) @ mean)


class Keeper:
    """Holds the network to what its embeddings said of a photo before fine-tuning, up to a linear map."""

    def __init__(self, network: FieldNetwork) -> None:
        device = network.head[-1].weight.device
        self._tail = fold_stages_from(network, network.frozen)
        self.map = nn.Linear(network.width, network.width, device=device)
        nn.init.eye_(self.map.weight)

    def loss(self, stem: torch.Tensor, embedded: torch.Tensor) -> torch.Tensor:
        """One minus the mean cosine of mapped embeddings (B, D) and those before."""
        with torch.no_grad():
            before = self._tail(stem).float().mean((2, 3))
        return 1 - F.cosine_similarity(self.map(embedded), before).mean()


def fold_stages_from(network: FieldNetwork, first: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Copy the stages from `first` on as they are now, for inference."""
    stages = nn.ModuleList(network.stages())
    folded = fold_stages(list(stages))
    return folded[first:] if first != 1 else folded


def optimizer_of(network: FieldNetwork, extra: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.AdamW:
    """AdamW with a lower rate for the backbone; decay on matrices and filters alone."""
    groups = []
    head = [*network.head.parameters(), *extra]
    for parameters, rate in ((network.backbone.parameters(), recipe.backbone_rate), (head, 1.0)):
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        for matrices, decay in ((True, recipe.weight_decay), (False, 0.0)):
            chosen = [parameter for parameter in trained if (parameter.ndim > 1) == matrices]
            groups.append({"params": chosen, "weight_decay": decay, "share": rate, "lr": 0.0})
    fused = next(network.parameters()).device.type == "cuda"
    return torch.optim.AdamW([group for group in groups if group["params"]], fused=fused)


@dataclass
class Trained:
    """A network after training, with what it began from.

    Attributes:
        start, end: the tensors of `averaged_tensors` before training and their running average after it.
        steps: done; `planned` would have been done had the time allowed it.
        rate: photos a second.
    """

    network: FieldNetwork
    start: list[torch.Tensor]
    end: list[torch.Tensor]
    steps: int
    planned: int
    rate: float
    losses: list[float]

    def blend(self, share: float) -> FieldNetwork:
        """Put `share` of the fine-tuned weights and the rest of those before into the network."""
        with torch.no_grad():
            for own, before, after in zip(self.network.averaged_tensors(), self.start, self.end, strict=True):
                own.copy_(torch.lerp(before, after, share))
        return self.network.eval()


def new_network(job: Job, material: Material, batches: Batches) -> FieldNetwork:
    """Build a network: the one that is shipped, or ImageNet's with a head fitted on its frozen embeddings."""
    recipe = job.recipe
    network = FieldNetwork(recipe.architecture, len(CLASSES), recipe.frozen, recipe.dropout)
    if recipe.start == "shipped":
        load_weights(network, material.backbones / "shipped.safetensors")
    else:
        load_backbone(network, material.backbones / f"{recipe.architecture}.safetensors")
    network.to(material.device, memory_format=field_networks.LAYOUT)
    network.freeze(half=material.device.type == "cuda")
    if recipe.start != "shipped":
        fit_linear_head(network, batches)
    return network


def train(job: Job, material: Material, batches: Batches, limit: float) -> Trained:
    """Train one network for the planned steps, or for `limit` seconds where those run out first."""
    recipe, began = job.recipe, time.monotonic()
    network = new_network(job, material, batches)
    keeper = Keeper(network) if recipe.keep else None
    teachers = Teachers(job, material, {"frozen": recipe.frozen})
    weights = batches.loss_weights()
    planned = 2 if material.tiny else max(8, round(recipe.epochs * batches.photos / recipe.batch))
    return fit(
        network,
        recipe,
        planned,
        lambda: loss_of(network, batches, teachers, keeper, recipe, weights),
        extra=[*keeper.map.parameters()] if keeper else [],
        scaled=material.half and material.device.type == "cuda",
        time_used=lambda: (time.monotonic() - began) / limit,
    )


def fit(
    network: FieldNetwork,
    recipe: Recipe,
    planned: int,
    next_loss: Callable[[], torch.Tensor],
    extra: Sequence[nn.Parameter] = (),
    scaled: bool = False,
    time_used: Callable[[], float] = lambda: 0.0,
) -> Trained:
    """Train a network, with a running average of its weights.

    The rate follows a cosine over the planned steps, or over the time there is where that runs out first.

    Args:
        next_loss: draws a batch and computes the loss on it.
        extra: parameters that learn beside the network's.
        scaled: whether to scale the loss, for half precision.
        time_used: says which share of the time there is has passed.
    """
    own = network.averaged_tensors()  # stay where they are while the network learns
    start, average = [value.clone() for value in own], [value.clone() for value in own]
    scaler = torch.amp.GradScaler(own[0].device.type, enabled=scaled)
    optimizer = optimizer_of(network, extra, recipe)
    losses, step, first = [], 0, time.monotonic()
    network.train()
    while (progress := max(step / planned, time_used())) < 1:
        for group in optimizer.param_groups:
            rise = min(1.0, (progress + 1 / planned) / recipe.warmup)
            group["lr"] = (
                recipe.learning_rate * group["share"] * rise * 0.5 * (1 + math.cos(math.pi * progress))
            )
        loss = next_loss()
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        memory = min(recipe.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(average, own, 1 - memory)
        step += 1
        if step % 8 == 0:
            losses.append(
                float(loss.detach())
            )  # also keeps the CPU from running far ahead of the accelerator
        if step == 8:
            first = time.monotonic()  # without the search for the fastest convolutions
    rate = max(0, step - 8) * recipe.batch / (time.monotonic() - first + 1e-9)
    return Trained(network, start, average, step, planned, rate, losses[:: max(1, len(losses) // 20)])


def loss_of(
    network: FieldNetwork,
    batches: Batches,
    teachers: Teachers,
    keeper: Keeper | None,
    recipe: Recipe,
    weights: torch.Tensor,
) -> torch.Tensor:
    """Draw a batch and compute the loss on it: cross-entropy against labels, teachers, or both."""
    x, targets = batches.draw()
    if teachers:
        count = int(weights.numel())
        distilled = teachers(x)
        share = torch.full((count, 1), recipe.teacher_share, device=x.device)
        share[weights.numel() - batches.outliers :] = 0.0  # on bare ground no class is to be likely
        targets = torch.lerp(targets, distilled, share)
    with batches.material.autocast():
        stem = network.stem(x)
        embedded = network.tail(stem)
        scores = network.head(embedded).float()
        kept = keeper.loss(stem, embedded) if keeper else 0.0
    return (F.cross_entropy(scores, targets, reduction="none") * weights).mean() + recipe.keep * kept


# What a training is measured by.


@torch.no_grad()
def run_stem(
    network: FieldNetwork, material: Material, rows: torch.Tensor, recipe: Recipe
) -> Iterator[tuple[torch.Tensor, int]]:
    """What the frozen stages make of photos as they are, in pieces, and how many photos of each count."""
    for part, count in pieces(rows):
        yield network.stem(material.photos(part, (recipe.height, recipe.width))), count


@torch.no_grad()
def run_tail(
    network: FieldNetwork, material: Material, stems: Iterable[tuple[torch.Tensor, int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings (n, D) and scores (n, C) of what `run_stem` gave, on the CPU."""
    with material.autocast():
        embedded = [network.tail(stem.float())[:count] for stem, count in stems]
    if not embedded:
        return torch.zeros(0, network.width), torch.zeros(0, len(CLASSES))
    joined = torch.cat(embedded)
    return joined.cpu(), network.head(joined).float().cpu()


def run_network(
    network: FieldNetwork, material: Material, rows: torch.Tensor, recipe: Recipe
) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings (n, D) and scores (n, C) of photos as they are, on the CPU."""
    return run_tail(network, material, run_stem(network, material, rows, recipe))


def macro_accuracy(scores: torch.Tensor, label: torch.Tensor) -> float:
    """Mean over the classes that occur of the share of their photos that is right."""
    right = (scores.argmax(1) == label).float()
    return (
        float(torch.stack([right[label == c].mean() for c in label.unique()]).mean())
        if len(label)
        else math.nan
    )


def best_temperature(scores: torch.Tensor, label: torch.Tensor) -> float:
    """The temperature of the smallest log loss, on a grid."""
    tried = [0.3 + 0.05 * i for i in range(40)]
    return min(tried, key=lambda t: float(F.cross_entropy(scores / t, label)))


def measure(job: Job, material: Material, trained: Trained) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Measure at every blend: a record, and the arrays it rests on. The frozen stages, which no blend changes, run once."""
    table, label = material.table, torch.from_numpy(material.table.label)
    record: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, chosen in (("left", table.left_out(job)), ("val", table.validation())):
        rows = material.rows(chosen)
        stems = list(run_stem(trained.network, material, rows, job.recipe))
        found, by_blend = {}, []
        for share in BLENDS:
            scores = run_tail(trained.blend(share), material, stems)[1]
            right = (scores.argmax(1) == label[rows.cpu()]).float()
            accuracy = float(right.mean()) if len(rows) else math.nan
            found[str(share)] = {"macro": macro_accuracy(scores, label[rows.cpu()]), "accuracy": accuracy}
            by_blend.append(scores)
        record |= {name: found, f"n_{name}": len(rows)}
        arrays[f"{name}_scores"] = torch.stack(by_blend).half().numpy()
        arrays[f"{name}_rows"] = rows.cpu().numpy()
    return record, arrays


def named_file(folder: Path, name: str, suffix: str) -> Path:
    """Where something of a job is kept; names of jobs may have slashes."""
    return folder / f"{name.replace('/', '--')}{suffix}"


def keep_result(results: Path, name: str, record: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write a job's arrays, then its record, by which the job counts as done."""
    np.savez(named_file(results, name, ".npz"), **arrays)
    named_file(results, name, ".json").write_text(json.dumps(record))


def collect_results(results: Path, records: dict[str, dict[str, Any]], output: Path, stem: str) -> None:
    """Copy the results of jobs into the output folder: one JSON and one archive of all arrays."""
    output.mkdir(parents=True, exist_ok=True)
    (output / f"{stem}.json").write_text(json.dumps(records))
    arrays = {}
    for name in records:
        with np.load(named_file(results, name, ".npz")) as stored:
            arrays |= {f"{name}/{key}": stored[key] for key in stored.files}
    np.savez_compressed(output / f"{stem}.npz", **arrays)


def weights_file(folder: Path, name: str) -> Path:
    """Where a job's network is kept."""
    return named_file(folder, name, ".safetensors")


def run_job(job: Job, material: Material, limit: float, results: Path) -> dict[str, Any]:
    """Train, measure and write one job; returns its record."""
    began = time.monotonic()
    torch.manual_seed(1000 * job.seed + 7)
    np.random.seed(job.seed)
    batches = Batches(job, material)
    trained = train(job, material, batches, limit)
    record, arrays = measure(job, material, trained)
    arrays["prior"] = batches.prior.astype(np.float32)
    network = trained.blend(job.recipe.blend)
    val = material.rows(material.table.validation())
    label = torch.from_numpy(material.table.label)
    temperature = best_temperature(run_network(network, material, val, job.recipe)[1], label[val.cpu()])
    if job.saves:
        save_network(network, weights_file(material.weights, job.name), temperature)
    if job.embeds:
        left = material.rows(material.table.left_out(job))
        arrays["left_embeddings"] = run_network(network, material, left, job.recipe)[0].half().numpy()
        arrays["class_means"], arrays["class_counts"] = class_means(network, batches)
    record |= {
        "job": asdict(job),
        "temperature": temperature,
        "photos": batches.photos,
        "steps": trained.steps,
        "planned": trained.planned,
        "rate": trained.rate,
        "losses": trained.losses,
        "seconds": time.monotonic() - began,
    }
    keep_result(results, job.name, record, arrays)
    return record


@torch.no_grad()
def class_means(network: FieldNetwork, batches: Batches) -> tuple[np.ndarray, np.ndarray]:
    """Mean training embeddings of the classes (C, D) and how many photos they rest on (C,), for adaptation."""
    total = torch.zeros(len(CLASSES), network.width, device=network.head[-1].weight.device)
    count = torch.zeros(len(CLASSES), device=total.device)
    for x, n, label, _ in batches.clean():
        with batches.material.autocast():
            embedded = network(x)[:n]
        total.index_add_(0, label, embedded)
        count += torch.bincount(label, minlength=len(CLASSES))
    return (total / count.clamp(min=1)[:, None]).half().cpu().numpy(), count.cpu().numpy()


@torch.no_grad()
def embed_rows(
    network: FieldNetwork, material: Material, rows: Ints, recipe: Recipe
) -> dict[str, np.ndarray]:
    """Embeddings and scores of photos as they are, in half precision, and their row numbers."""
    embedded, scores = run_network(network, material, material.rows(rows), recipe)
    return {"rows": rows, "embeddings": embedded.half().numpy(), "scores": scores.half().numpy()}


def time_steps(material: Material, steps: int = 40) -> dict[str, float]:
    """Photos a second of the base recipe: drawn and altered only, and learned from."""
    job = Job("speed", Recipe(), "taco")
    batches = Batches(job, material)
    network = new_network(job, material, batches).train()
    optimizer = optimizer_of(network, [], job.recipe)
    weights, teachers = batches.loss_weights(), Teachers(job, material, {})

    def step() -> None:
        loss_of(network, batches, teachers, None, job.recipe, weights).backward()
        optimizer.step()
        optimizer.zero_grad()

    rates = {}
    for name, action in (("drawn", batches.draw), ("learned", step)):
        for _ in range(10):
            action()
        torch.cuda.synchronize()
        began = time.monotonic()
        for _ in range(steps):
            action()
        torch.cuda.synchronize()
        rates[name] = steps * job.recipe.batch / (time.monotonic() - began)
    return rates
